//! SBOMs and provenance in bundles: made, carried, shown and checked on the far side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use bundle_format::attachment::{Attachment, Origin, require_provenance, require_sboms};
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::Manifest;
use bundle_format::pack::Encoding;
use bundle_format::provenance::{self, Resource, Statement};
use bundle_format::{Error, ErrorKind};
use signing_keys::Signer;
use system_tests::keys::{self, alice, bob, mallory};
use system_tests::site::Site;
use system_tests::{Draft, prove};

fn sbom(image: Sha256, format: &str, content: &[u8]) -> Attachment {
    Attachment::Sbom { image, format: format.into(), origin: Origin::Publisher, digest: Sha256::of(content) }
}

/// The small bundle with documents in a pack of their own.
fn with(attachments: Vec<Attachment>, blobs: &[&[u8]]) -> Draft {
    let mut draft = Draft::small();
    if !blobs.is_empty() {
        draft.add_pack(Encoding::Raw, blobs);
    }
    draft.manifest.attachments = attachments;
    draft
}

fn refusal(draft: &Draft) -> Error {
    prove(&draft.archive(), &draft.trusted()).unwrap_err()
}

#[test]
fn attachments_name_an_image_once_and_their_blobs() {
    let image = Draft::small().manifest.images[0].digest;
    let good = with(vec![sbom(image, "spdx-2.3", b"TEST sbom")], &[b"TEST sbom"]);
    prove(&good.archive(), &good.trusted()).unwrap();
    require_sboms(&good.manifest).unwrap();
    let inconsistent = |draft: &Draft, defect: &str| {
        let error = refusal(draft);
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{defect}: {error}");
    };
    let two: &[&[u8]] = &[b"TEST sbom", b"TEST more"];
    inconsistent(&with(vec![sbom(image, "spdx-2.3", b"TEST gone")], &[]), "a document that no pack holds");
    inconsistent(&with(vec![sbom(Sha256::of(b"x"), "spdx-2.3", b"TEST sbom")], &two[..1]), "about no image");
    inconsistent(
        &with(vec![sbom(image, "spdx-2.3", two[0]), sbom(image, "spdx-2.2", two[1])], two),
        "two for one image",
    );
    let provenance = |content| Attachment::Provenance { digest: Sha256::of(content) };
    inconsistent(&with(vec![provenance(two[0]), provenance(two[1])], two), "two statements");
    inconsistent(&with(Vec::new(), &two[..1]), "a document that nothing names");
    for format in ["../../etc/passwd", "a/b", "", ".hidden", "x\u{1b}[2J"] {
        let error = refusal(&with(vec![sbom(image, format, b"TEST sbom")], &two[..1]));
        assert!(matches!(error.kind(), ErrorKind::BadName { .. }), "{format:?}: {error}");
    }
    for (from, to) in
        [("\"origin\":\"publisher\"", "\"origin\":\"nobody\""), ("\"kind\":\"sbom\"", "\"kind\":\"other\"")]
    {
        let text = good.text().replacen(from, to, 1);
        let archive = Draft { signers: vec![alice(), bob()], ..with(Vec::new(), &[]) }.sealed_text(text.into_bytes());
        let error = prove(&archive.archive(), &good.trusted()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Json { .. }), "{to}: {error}");
    }
}

#[test]
fn a_policy_can_ask_for_both() {
    let bare = Draft::small().manifest;
    let error = require_sboms(&bare).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Requirement { requirement: "sbom", .. }), "{error}");
    assert_eq!(error.class().exit_code(), 5);
    let error = require_provenance(&bare).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Requirement { requirement: "provenance", .. }), "{error}");
    let mut manifest = bare;
    manifest.attachments.push(Attachment::Provenance { digest: Sha256::of(b"x") });
    require_provenance(&manifest).unwrap();
    manifest.images.clear();
    require_sboms(&manifest).unwrap();
}

fn statement(manifest: &Manifest) -> Statement {
    Statement {
        kind: provenance::STATEMENT.into(),
        subject: provenance::subjects(manifest),
        predicate_type: provenance::PREDICATE.into(),
        predicate: provenance::Predicate {
            build_definition: provenance::BuildDefinition {
                build_type: provenance::BUILD_TYPE.into(),
                external_parameters: provenance::Parameters {
                    product: manifest.product.clone(),
                    release: manifest.release.clone(),
                    sequence: manifest.sequence,
                    release_manifest_sha384: Sha384::of(b"release"),
                    lock_sha384: Sha384::of(b"lock"),
                },
                resolved_dependencies: vec![Resource::sha256("TEST", &Sha256::of(b"dependency"))],
            },
            run_details: provenance::RunDetails {
                builder: provenance::Builder { id: "urn:test:builder".into(), version: BTreeMap::new() },
            },
        },
    }
}

/// The envelope of a statement, signed by `signers`.
fn envelope(statement: &Statement, signers: &[&Signer]) -> Vec<u8> {
    let payload = provenance::to_payload(statement).unwrap();
    let signatures: Vec<_> =
        signers.iter().flat_map(|signer| signer.sign_raw(&provenance::pae(&payload)).unwrap()).collect();
    provenance::seal(&payload, &signatures).unwrap()
}

/// A damage to a statement.
type Edit = fn(&mut Statement);

#[test]
fn a_statement_must_be_about_the_release_that_carries_it() {
    let manifest = Draft::small().manifest;
    let root = keys::two_of_three().claimed().clone();
    let good = statement(&manifest);
    let unsigned = provenance::check(&envelope(&good, &[]), &manifest, &root).unwrap();
    assert_eq!((unsigned.statement(), unsigned.signers().len()), (&good, 0));
    let signed = provenance::check(&envelope(&good, &[&alice()]), &manifest, &root).unwrap();
    assert_eq!(signed.signers().len(), 2);
    // The form that other tools read (in-toto Statement v1, DSSE).
    let outer: serde_json::Value = serde_json::from_slice(&envelope(&good, &[&alice()])).unwrap();
    assert_eq!(outer["payloadType"], "application/vnd.in-toto+json");
    let payload = bundle_format::text::unbase64(outer["payload"].as_str().unwrap()).unwrap();
    let inner: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(inner["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(inner["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(inner["subject"][0]["digest"]["sha256"].as_str().unwrap().len(), 64);
    assert!(provenance::pae(b"{}").starts_with(b"DSSEv1 28 application/vnd.in-toto+json 2 {}"));

    let inconsistent = |edit: &dyn Fn(&mut Statement), defect: &str| {
        let mut bad = good.clone();
        edit(&mut bad);
        let error = provenance::check(&envelope(&bad, &[&alice()]), &manifest, &root).expect_err(defect);
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{defect}: {error}");
    };
    inconsistent(&|s| drop(s.subject.remove(0)), "an image left out");
    inconsistent(&|s| s.subject.push(Resource::sha256("z", &Sha256::of(b"z"))), "a subject too many");
    inconsistent(&|s| s.subject.push(s.subject[0].clone()), "a subject twice");
    inconsistent(
        &|s| s.subject[0] = Resource::sha256(s.subject[0].name.clone().unwrap(), &Sha256::of(b"z")),
        "other bytes",
    );
    inconsistent(&|s| s.predicate.build_definition.external_parameters.sequence += 1, "another sequence");
    inconsistent(&|s| s.predicate.build_definition.external_parameters.product = "other".into(), "another product");
    let format: [(&str, Edit); 3] = [
        ("statement type", |s| s.kind = "https://in-toto.io/Statement/v0.1".into()),
        ("predicate type", |s| s.predicate_type = "https://slsa.dev/provenance/v0.2".into()),
        ("build type", |s| s.predicate.build_definition.build_type = "urn:other".into()),
    ];
    for (defect, edit) in format {
        let mut bad = good.clone();
        edit(&mut bad);
        let error = provenance::check(&envelope(&bad, &[]), &manifest, &root).expect_err(defect);
        assert!(matches!(error.kind(), ErrorKind::UnknownFormat { .. }), "{defect}: {error}");
    }
}

#[test]
fn build_signatures_must_verify_and_come_from_listed_keys() {
    let manifest = Draft::small().manifest;
    let root = keys::two_of_three().claimed().clone();
    let good = statement(&manifest);
    let check = |bytes: &[u8]| provenance::check(bytes, &manifest, &root).unwrap_err();
    let error = check(&envelope(&good, &[&mallory()]));
    assert!(matches!(error.kind(), ErrorKind::UnknownKey { .. }), "{error}");
    let error = check(&envelope(&good, &[&alice(), &alice()]));
    assert!(matches!(error.kind(), ErrorKind::DuplicateSignature { .. }), "{error}");
    // Signed over other bytes, each algorithm by itself, and without the pre-authentication encoding.
    let payload = provenance::to_payload(&good).unwrap();
    for signatures in [alice().sign_raw(&provenance::pae(b"other")).unwrap(), alice().sign_raw(&payload).unwrap()] {
        for signature in signatures {
            let error = check(&provenance::seal(&payload, &[signature]).unwrap());
            assert!(matches!(error.kind(), ErrorKind::BadSignature { .. }), "{error}");
        }
    }
    for (key, mut signature) in alice().sign_raw(&provenance::pae(&payload)).unwrap() {
        signature.pop();
        let error = check(&provenance::seal(&payload, &[(key, signature)]).unwrap());
        assert!(matches!(error.kind(), ErrorKind::BadSignature { .. }), "cut: {error}");
    }
    let text = String::from_utf8(envelope(&good, &[])).unwrap();
    let error = check(text.replace("vnd.in-toto", "vnd.other").as_bytes());
    assert!(matches!(error.kind(), ErrorKind::UnknownFormat { .. }), "{error}");
    let error = check(text.replacen(":\"", ":\"*", 2).as_bytes());
    assert!(matches!(error.kind(), ErrorKind::UnknownFormat { .. } | ErrorKind::Json { .. }), "{error}");
    let error = check(&vec![b' '; (16 << 20) + 1]);
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 16_777_216, .. }), "{error}");
    let error = check(text.replace("\"signatures\":[]", "\"signatures\":[],\"x\":1").as_bytes());
    assert!(matches!(error.kind(), ErrorKind::Json { .. }), "{error}");
}

#[test]
fn a_bundle_says_what_is_in_it_and_how_it_was_built() {
    let site = Site::new(28931);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("b.bundle.tar", &["alice", "bob"]);
    let once = std::fs::read(site.path("b.bundle.tar")).unwrap();
    let head = UnverifiedEnvelope::read(&once[..]).unwrap().0.manifest_bytes().to_vec();
    site.builder(&["build", "release/r.yaml", "--root", "root-1.json", "--out", "again.bundle.tar"]).expect(0);
    let again = std::fs::read(site.path("again.bundle.tar")).unwrap();
    assert_eq!(UnverifiedEnvelope::read(&again[..]).unwrap().0.manifest_bytes(), head, "the same bytes each time");
    let said = site.builder(&["inspect", "b.bundle.tar", "sbom"]).expect(0);
    assert!(said.out.contains("registry.example/test/minimal:1  spdx-2.3 by builder"), "{}", said.out);
    assert!(said.out.contains("provenance  sha256:"), "{}", said.out);

    site.trust();
    let said = site.installer(&["verify", "b.bundle.tar"]).expect(0);
    assert!(said.out.contains("SBOM of 1 of 1 images"), "{}", said.out);
    assert!(said.out.contains("provenance by urn:lockgate:bundle-builder from 2 things"), "{}", said.out);
    let said = site.installer(&["inspect", "sbom", "b.bundle.tar"]).expect(0);
    assert!(said.out.contains("spdx-2.3 by the builder"), "{}", said.out);
    let said = site.installer(&["inspect", "sbom", "b.bundle.tar", "registry.example/test/minimal:1"]).expect(0);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&document["spdxVersion"], &document["name"]),
        (&"SPDX-2.3".into(), &"registry.example/test/minimal:1".into())
    );
    let out = ["inspect", "sbom", "b.bundle.tar", "registry.example/test/minimal:1", "--out", "sbom.json"];
    site.installer(&out).expect(0);
    assert_eq!(std::fs::read_to_string(site.path("sbom.json")).unwrap(), said.out);
    site.installer(&out).expect(6);
    let said = site.installer(&["inspect", "sbom", "b.bundle.tar", "../../etc/passwd"]).expect(2);
    assert!(said.err.contains("this bundle has no image ../../etc/passwd"), "{}", said.err);
    let said = site.installer(&["inspect", "provenance", "b.bundle.tar"]).expect(0);
    let lock = std::fs::read(site.path("release/r.lock.yaml")).unwrap();
    assert!(said.out.contains(&format!("lock               sha384 {}", Sha384::of(&lock))), "{}", said.out);
    assert!(said.out.contains("taken from oci:images:minimal"), "{}", said.out);

    // With a build key, and with one that the root does not list.
    let build = ["build", "release/r.yaml", "--root", "root-1.json", "--out"];
    let key = ["--provenance-key", "keys/carol", "--passphrase-file", "keys/carol.pass", "--builder-id", "urn:test:ci"];
    site.builder(&[&build[..], &["signed.bundle.tar"], &key].concat()).expect(0);
    let sign = |bundle: &str, name: &str| {
        let (key, pass) = (format!("keys/{name}"), format!("keys/{name}.pass"));
        site.builder(&["sign", bundle, "--key", &key, "--passphrase-file", &pass]).expect(0);
    };
    for name in ["alice", "bob"] {
        sign("signed.bundle.tar", name);
    }
    let said = site.installer(&["--json", "verify", "signed.bundle.tar"]).expect(0);
    let said: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said["provenance"]["build_signers"].as_array().unwrap().len(), 2);
    assert_eq!(said["provenance"]["statement"]["predicate"]["runDetails"]["builder"]["id"], "urn:test:ci");
    assert_eq!(said["sboms"][0]["origin"], "builder");
    // A site that asks for the build platform's signature, not for a statement alone.
    std::fs::write(site.path("policy.yaml"), "format: lockgate-policy/1\nrequire: [signed-provenance]\n").unwrap();
    site.installer(&["policy", "set", "policy.yaml"]).expect(0);
    for command in [&["verify"][..], &["plan"], &["preflight"], &["--yes", "install"]] {
        let said = site.installer(&[command, &["b.bundle.tar"]].concat()).expect(5);
        assert!(
            said.err.contains("site policy requires signed-provenance: no ed25519 key of role release"),
            "{command:?}: {}",
            said.err
        );
    }
    site.installer(&["verify", "signed.bundle.tar"]).expect(0);
    site.installer(&["plan", "signed.bundle.tar"]).expect(0);
    std::fs::write(site.path("policy.yaml"), "format: lockgate-policy/1\n").unwrap();
    site.installer(&["policy", "set", "policy.yaml"]).expect(0);
    std::fs::write(site.path("keys/eve.pass"), "TEST passphrase of eve\n").unwrap();
    site.builder(&["keygen", "--name", "eve", "--out", "keys", "--passphrase-file", "keys/eve.pass"]).expect(0);
    let key = ["--provenance-key", "keys/eve", "--passphrase-file", "keys/eve.pass"];
    site.builder(&[&build[..], &["eve.bundle.tar"], &key].concat()).expect(0);
    for name in ["alice", "bob"] {
        sign("eve.bundle.tar", name);
    }
    for command in [&["verify"][..], &["plan"], &["preflight"], &["--yes", "install"]] {
        let said = site.installer(&[command, &["eve.bundle.tar"]].concat()).expect(4);
        assert!(said.err.contains("provenance: signed by key "), "{command:?}: {}", said.err);
    }
}

#[test]
fn an_sbom_made_to_move_the_cursor_is_shown_harmless() {
    let site = Site::bare(std::path::Path::new("/var/tmp"), 28932);
    let image = Draft::small().manifest.images[0].digest;
    let hostile = "{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"a\u{202e}b\u{7f}\u{9b}2J\"}";
    let draft = with(vec![sbom(image, "spdx-2.3", hostile.as_bytes())], &[hostile.as_bytes()]);
    std::fs::write(site.path("b.bundle.tar"), draft.archive()).unwrap();
    std::fs::write(site.path("root.json"), draft.roots[0].to_bytes().unwrap()).unwrap();
    let fingerprint = draft.roots[0].claimed().fingerprint().to_string();
    site.installer(&["trust", "init", "root.json", "--fingerprint", &fingerprint]).expect(0);
    let said = site.installer(&["inspect", "sbom", "b.bundle.tar", "registry.example/test/app:1.0"]).expect(0);
    assert!(said.out.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{:?}", said.out);
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["name"], "a\u{202e}b\u{7f}\u{9b}2J", "it says the same");
    let said = site.installer(&["verify", "b.bundle.tar"]).expect(0);
    assert!(said.out.contains("no provenance"), "{}", said.out);
}
