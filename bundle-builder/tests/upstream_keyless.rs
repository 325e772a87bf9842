//! Images that a release demands a keyless signature for, through `pin`, `build`'s look at the lock, and the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;
mod sigstore;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bundle_builder::keyless::Fault;
use bundle_builder::provenance::{BUILDER, Builder};
use bundle_builder::source::RegistryOptions;
use bundle_builder::{ErrorKind, collect};
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::lock::{Lock, LockedKeyless, LockedSignature};
use bundle_format::release::Identity;
use bundle_format::text::base64;
use fixture::{Lies, SIMPLE_SIGNING, attach, demanding, detach, layout, payload, pin_release};
use serde_json::{Value, json};
use sigstore::{ISSUER, Instance, NOW, PERSON, Recipe, WORKFLOW, encoded, id, statement};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const COSIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// An image in a layout, a release that demands that the workflow signed it, and the instance that it is to be
/// signed with.
struct Site {
    dir: tempfile::TempDir,
    instance: Instance,
    release: PathBuf,
}

impl Site {
    fn new() -> Self {
        let (dir, instance) = (tempfile::tempdir().unwrap(), Instance::new());
        layout(&dir.path().join("images"), "app", "one");
        let release = demand(dir.path(), &instance, &format!("{{uri: '{WORKFLOW}'}}"));
        Self { dir, instance, release }
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn image(&self) -> Sha256 {
        fixture::image(&self.images())
    }

    /// A signature as cosign 2 keeps it, over a payload that names `digest`.
    fn cosign_2(&self, recipe: &Recipe, digest: &Sha256) -> (&'static str, Vec<u8>, Value) {
        let payload = payload(digest);
        let signature = self.instance.sign(recipe, &payload);
        let entry = self.instance.entry(recipe, &signature.record(&payload));
        (SIMPLE_SIGNING, payload, signature.annotations(&entry))
    }

    /// A signature as cosign 3 and CI systems keep it: a statement of this kind about the image.
    fn statement(&self, recipe: &Recipe, kind: &str) -> (&'static str, Vec<u8>, Value) {
        let payload = statement(&self.document(), kind);
        let signature = self.instance.sign(recipe, &encoded(&payload));
        let entry = self.instance.entry(recipe, &signature.dsse(&payload));
        (BUNDLE, signature.attestation(&entry, &payload).to_string().into_bytes(), json!({}))
    }

    /// The image's manifest.
    fn document(&self) -> Vec<u8> {
        fs::read(self.images().join("blobs/sha256").join(self.image().hex())).unwrap()
    }

    fn pin(&self) -> bundle_builder::Result<Lock> {
        pin_release(&self.release, &RegistryOptions::default())
    }

    fn collect(&self) -> bundle_builder::Result<collect::Collected> {
        fixture::collect_release(&self.release, &RegistryOptions::default())
    }

    fn fault(&self) -> (usize, Fault) {
        let error = self.pin().unwrap_err();
        assert_eq!(error.class().exit_code(), 4, "{error}");
        match error.kind() {
            ErrorKind::UpstreamKeyless { digest, found, why, .. } if *digest == self.image() => {
                (*found, why.first().clone())
            }
            _ => panic!("{error}"),
        }
    }

    fn program(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle-builder"));
        command.args(arguments).current_dir(self.dir.path()).output().unwrap()
    }
}

/// Writes trusted root and release into `dir`.
fn demand(dir: &Path, instance: &Instance, identity: &str) -> PathBuf {
    let root = instance.trusted_root(&[]).to_string();
    fs::write(dir.join("root.json"), &root).unwrap();
    let pin = Sha384::of(root.as_bytes());
    let verify = format!(
        "{{keyless: {{trusted_root: {{file: root.json, sha384: {pin}}}, identity: {identity}, issuer: '{ISSUER}'}}}}"
    );
    demanding(dir, "oci:images:app", &verify)
}

fn keyless(lock: &Lock) -> &LockedKeyless {
    match lock.images[0].verified.as_ref().unwrap() {
        LockedSignature::Keyless(locked) => locked,
        other @ LockedSignature::Cosign(_) => panic!("{other:?}"),
    }
}

#[test]
fn both_forms_are_found_and_recorded() {
    let site = Site::new();
    let recipe = Recipe::default();
    let (older, newer) = (site.cosign_2(&recipe, &site.image()), site.statement(&recipe, COSIGN));
    for (layer, lies, claim) in [
        (&older, Lies::UnderTag, "cosign container image signature"),
        (&older, Lies::AsReferrer, "cosign container image signature"),
        (&newer, Lies::AsReferrer, COSIGN),
    ] {
        detach(&site.images());
        attach(&site.images(), std::slice::from_ref(layer), lies);
        let lock = site.pin().unwrap();
        let locked = keyless(&lock);
        assert_eq!(locked.trusted_root, Sha384::of(&fs::read(site.dir.path().join("root.json")).unwrap()));
        assert_eq!((&locked.identity, locked.issuer.as_str()), (&Identity::Uri(WORKFLOW.into()), ISSUER));
        assert_eq!((locked.claim.as_str(), locked.signed), (claim, site.image()));
        assert_eq!((locked.log, locked.log_index, locked.time.to_unix()), (id(&site.instance.log), 1234, NOW));
        let collected = site.collect().unwrap();
        assert_eq!(said_of_the_image(collected), expected(&lock), "{claim}");
    }
}

/// What the provenance statement says of the image.
fn said_of_the_image(mut collected: collect::Collected) -> Value {
    collected.add_provenance(&Builder { id: BUILDER, key: None }).unwrap();
    let all = fixture::read_all(&collected).unwrap();
    let envelope: Value = serde_json::from_slice(all.last().unwrap()).unwrap();
    let payload = bundle_format::text::unbase64(envelope["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["annotations"].clone()
}

fn expected(lock: &Lock) -> Value {
    let locked = keyless(lock);
    json!({
        "verified-by": "keyless",
        "verified-digest": locked.signed.to_string(),
        "verified-identity": format!("URI:{WORKFLOW}"),
        "verified-issuer": ISSUER,
        "verified-claim": locked.claim,
        "verified-log": locked.log.hex(),
        "verified-log-index": "1234",
        "verified-time": "2023-11-14T22:13:20Z",
        "verified-time-from": "log",
        "verified-certificate-sha256": locked.certificate.hex(),
        "verified-trusted-root-sha384": locked.trusted_root.hex(),
    })
}

#[test]
fn refusals() {
    let site = Site::new();
    let recipe = Recipe::default;
    let only = |layer: (&str, Vec<u8>, Value)| {
        detach(&site.images());
        attach(&site.images(), &[layer], Lies::AsReferrer);
        site.fault()
    };
    let unsigned = site.pin().unwrap_err();
    assert!(matches!(unsigned.kind(), ErrorKind::UpstreamUnsigned { .. }), "{unsigned}");
    assert_eq!(unsigned.class().exit_code(), 4);
    // A signature by a key is no keyless one, and nothing falls back to it.
    attach(&site.images(), &[(SIMPLE_SIGNING, payload(&site.image()), json!({}))], Lies::UnderTag);
    assert!(matches!(site.pin().unwrap_err().kind(), ErrorKind::UpstreamUnsigned { .. }));

    let other = Sha256::of(b"another image");
    let (found, fault) = only(site.cosign_2(&recipe(), &other));
    assert!(matches!(fault, Fault::Artifact { expected, .. } if expected == site.image() && found == 1), "{fault}");
    let (_, fault) = only(site.cosign_2(&Recipe { from: NOW - 9000, ..recipe() }, &site.image()));
    assert!(matches!(fault, Fault::CertificateTime { .. }), "{fault}");
    let stranger = || Recipe { names: vec![rcgen::SanType::Rfc822Name(PERSON.try_into().unwrap())], ..recipe() };
    let (_, fault) = only(site.statement(&stranger(), COSIGN));
    assert!(matches!(fault, Fault::Identity { .. }), "{fault}");
    // A sound signature by a key is none either, in a bundle.
    let (payload, key) = (statement(&site.document(), COSIGN), rcgen::KeyPair::generate().unwrap());
    let by_key = json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "dsseEnvelope": {"payload": base64(&payload), "payloadType": sigstore::STATEMENT,
            "signatures": [{"sig": base64(&rcgen::SigningKey::sign(&key, &encoded(&payload)).unwrap())}]}});
    let (_, fault) = only((BUNDLE, by_key.to_string().into_bytes(), json!({})));
    assert_eq!(fault, Fault::NoCertificate);
    // A scanner's report by the same workflow is no signature.
    let (_, fault) = only(site.statement(&recipe(), "https://cosign.sigstore.dev/attestation/vuln/v1"));
    assert!(matches!(fault, Fault::Claim { .. }), "{fault}");
    let (_, fault) = only((BUNDLE, b"{}".to_vec(), json!({})));
    assert!(matches!(fault, Fault::Malformed { .. }), "{fault}");
    // Of several, the one that is the workflow's own tells most.
    attach(&site.images(), &[site.statement(&stranger(), COSIGN)], Lies::AsReferrer);
    let (found, fault) = site.fault();
    assert!(matches!(fault, Fault::Malformed { .. }) && found == 2, "{fault}");
    // A good one beside all these is enough; without it the lock is not kept.
    attach(&site.images(), &[site.statement(&recipe(), COSIGN)], Lies::AsReferrer);
    site.pin().unwrap();
    site.collect().unwrap();
    detach(&site.images());
    assert!(matches!(site.collect().unwrap_err().kind(), ErrorKind::UpstreamUnsigned { .. }));
}

#[test]
fn a_later_signature_changes_no_lock() {
    let site = Site::new();
    let at = |at: u64| Recipe { at, ..Recipe::default() };
    attach(&site.images(), &[site.statement(&at(NOW + 1), COSIGN)], Lies::AsReferrer);
    let lock = site.pin().unwrap();
    detach(&site.images());
    let later = site.cosign_2(&at(NOW + 2), &site.image());
    attach(&site.images(), &[later], Lies::UnderTag);
    assert!(matches!(site.collect().unwrap_err().kind(), ErrorKind::LockStale { .. }));
    attach(&site.images(), &[site.statement(&at(NOW), COSIGN)], Lies::AsReferrer);
    let earlier = keyless(&site.pin().unwrap()).clone();
    assert_ne!(&earlier, keyless(&lock));
    attach(&site.images(), &[site.statement(&at(NOW + 3), COSIGN)], Lies::AsReferrer);
    assert_eq!(keyless(&site.pin().unwrap()), &earlier);
    site.collect().unwrap();
}

#[test]
fn the_trusted_root_is_the_pinned_one() {
    let site = Site::new();
    attach(&site.images(), &[site.statement(&Recipe::default(), COSIGN)], Lies::AsReferrer);
    site.pin().unwrap();
    let (file, good) = (site.dir.path().join("root.json"), fs::read(site.dir.path().join("root.json")).unwrap());
    fs::write(&file, [&good[..], b"\n"].concat()).unwrap();
    for error in [site.pin().unwrap_err(), site.collect().unwrap_err()] {
        assert!(matches!(error.kind(), ErrorKind::TrustedRootPin { .. }), "{error}");
        assert_eq!(error.class().exit_code(), 4);
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(site.pin().unwrap_err().kind(), ErrorKind::Io { .. }));
    // Pinned, but none.
    fs::write(&file, "{}").unwrap();
    let text = fs::read_to_string(&site.release).unwrap();
    fs::write(&site.release, text.replace(&Sha384::of(&good).hex(), &Sha384::of(b"{}").hex())).unwrap();
    let error = site.pin().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TrustedRootFile { .. }), "{error}");
    assert_eq!(error.class().exit_code(), 2);
}

#[test]
fn the_program_says_what_is_wrong_and_what_to_do() {
    let site = Site::new();
    attach(&site.images(), &[site.cosign_2(&Recipe::default(), &site.image())], Lies::UnderTag);
    let pinned = site.program(&["pin", "RELEASE.yaml"]);
    assert!(pinned.status.success(), "{}", String::from_utf8_lossy(&pinned.stderr));
    let lock = fs::read_to_string(site.dir.path().join("RELEASE.lock.yaml")).unwrap();
    assert!(lock.contains("  verified:\n    by: keyless\n"), "{lock}");
    assert!(lock.contains(&format!("      uri: {WORKFLOW}\n")), "{lock}");

    demand(site.dir.path(), &site.instance, &format!("{{email: {PERSON}}}"));
    let refused = site.program(&["pin", "RELEASE.yaml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains(&format!("because: identity: expected email:{PERSON}, found URI:{WORKFLOW}")), "{said}");
    assert!(said.contains("what to do: do not ship this image"), "{said}");
}
