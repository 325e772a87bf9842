//! Sigstore bundles that name a key, as cosign 3 writes them with `--key`, through `pin` and `build`'s look at the lock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;
mod sigstore;

use std::fs;
use std::path::PathBuf;

use bundle_builder::ErrorKind;
use bundle_builder::keyless::Fault;
use bundle_builder::source::RegistryOptions;
use bundle_format::digest::Sha256;
use bundle_format::lock::{Lock, LockedSignature};
use bundle_format::provenance::pae_of;
use bundle_format::text::{base64, unbase64};
use fixture::openssl::{ED25519, P256, keypair, sign};
use fixture::{Lies, SIMPLE_SIGNING, attach, demanding, detach, layout, payload, pin_release};
use serde_json::{Value, json};
use sigstore::{Instance, Recipe, STATEMENT, encoded, statement};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const COSIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// An image in a layout, and a release that demands a signature by `good.pub`.
struct Site {
    dir: tempfile::TempDir,
    release: PathBuf,
    ed25519: bool,
}

impl Site {
    fn new(ed25519: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        layout(&dir.path().join("images"), "app", "one");
        for name in ["good", "other"] {
            keypair(dir.path(), name, if ed25519 { &ED25519[..] } else { &P256[..] });
        }
        let release = demanding(dir.path(), "oci:images:app", "{cosign: {key: good.pub}}");
        Self { dir, release, ed25519 }
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn image(&self) -> Sha256 {
        fixture::image(&self.images())
    }

    /// The image's manifest.
    fn document(&self) -> Vec<u8> {
        fs::read(self.images().join("blobs/sha256").join(self.image().hex())).unwrap()
    }

    fn sign(&self, name: &str, message: &[u8]) -> Vec<u8> {
        sign(self.dir.path(), &self.dir.path().join(format!("{name}.key")), message, self.ed25519)
    }

    /// A bundle over a statement of this type about the image.
    fn bundle(&self, name: &str, kind: &str) -> Value {
        let payload = statement(&self.document(), kind);
        bundle(&payload, STATEMENT, &self.sign(name, &encoded(&payload)))
    }

    /// The only things beside the image: these bundles.
    fn only(&self, bundles: &[Value]) {
        let layers: Vec<_> = bundles.iter().map(|bundle| layer(bundle)).collect();
        detach(&self.images());
        attach(&self.images(), &layers, Lies::AsReferrer);
    }

    fn pin(&self) -> bundle_builder::Result<Lock> {
        pin_release(&self.release, &RegistryOptions::default())
    }

    fn refusal(&self, bundle: Value) -> Fault {
        self.only(&[bundle]);
        let error = self.pin().unwrap_err();
        assert_eq!(error.class().exit_code(), 4, "{error}");
        match error.kind() {
            ErrorKind::UpstreamSignature { digest, found: 1, why, .. } if *digest == self.image() => {
                assert_eq!(why.all().count(), 1, "{why}");
                why.first().clone()
            }
            _ => panic!("{error}"),
        }
    }
}

/// A bundle that names a key.
fn bundle(payload: &[u8], kind: &str, signature: &[u8]) -> Value {
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "TEST"}, "tlogEntries": []},
        "dsseEnvelope": {"payload": base64(payload), "payloadType": kind,
            "signatures": [{"sig": base64(signature), "keyid": ""}]},
    })
}

fn layer(bundle: &Value) -> (&'static str, Vec<u8>, Value) {
    (BUNDLE, bundle.to_string().into_bytes(), json!({}))
}

#[test]
fn bundles_of_both_algorithms() {
    for ed25519 in [false, true] {
        let site = Site::new(ed25519);
        site.only(&[site.bundle("other", COSIGN), site.bundle("good", COSIGN)]);
        let lock = site.pin().unwrap();
        let LockedSignature::Cosign(locked) = lock.images[0].verified.clone().unwrap() else { panic!("{lock:?}") };
        let pem = fs::read_to_string(site.dir.path().join("good.pub")).unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        assert_eq!((locked.signed, locked.key), (site.image(), Sha256::of(&unbase64(&der).unwrap())));
        fixture::collect_release(&site.release, &RegistryOptions::default()).unwrap();
        // What was there when it was pinned is gone when it is built.
        site.only(&[site.bundle("other", COSIGN)]);
        let error = fixture::collect_release(&site.release, &RegistryOptions::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UpstreamSignature { found: 1, .. }), "{error}");
        // Under cosign 2's tag, and beside a payload of cosign 2 by another key.
        let theirs =
            json!({"dev.cosignproject.cosign/signature": base64(&site.sign("other", &payload(&site.image())))});
        detach(&site.images());
        let older = (SIMPLE_SIGNING, payload(&site.image()), theirs);
        attach(&site.images(), &[older, layer(&site.bundle("good", COSIGN))], Lies::UnderTag);
        site.pin().unwrap();
    }
}

#[test]
fn nothing_but_the_key_is_looked_at() {
    let site = Site::new(false);
    let with = |name: &str, material: Value| {
        let mut bundle = site.bundle(name, COSIGN);
        bundle["verificationMaterial"] = material;
        bundle
    };
    // Of logs and times, true or not, nothing is read; nor what the bundle calls its key.
    for material in [
        json!({"publicKey": {"hint": "other.pub"}}),
        json!({"publicKey": {}}),
        json!({"publicKey": {"hint": ""}, "tlogEntries": [{"logIndex": "no number"}, 7]}),
        json!({"publicKey": {"hint": ""}, "timestampVerificationData": {"rfc3161Timestamps": "none"}}),
    ] {
        site.only(&[with("good", material.clone())]);
        site.pin().unwrap_or_else(|error| panic!("{material}: {error}"));
    }
    let pem = fs::read_to_string(site.dir.path().join("good.pub")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let hint = base64(Sha256::of(&unbase64(&der).unwrap()).as_bytes());
    assert_eq!(site.refusal(with("other", json!({"publicKey": {"hint": hint}}))), Fault::OtherKey);
    let raw = json!({"publicKey": {"hint": hint, "rawBytes": der}});
    assert_eq!(site.refusal(with("other", raw)), Fault::OtherKey);
}

/// Whether a fault is of the kind that is expected.
type Kind = fn(&Fault) -> bool;

#[test]
fn refusals() {
    for ed25519 in [false, true] {
        let site = Site::new(ed25519);
        let good = site.bundle("good", COSIGN);
        let bent = |edit: &dyn Fn(&mut Value)| {
            let mut bundle = good.clone();
            edit(&mut bundle);
            assert_ne!(bundle, good);
            bundle
        };
        let (document, other_key): (_, Kind) = (site.document(), |fault| *fault == Fault::OtherKey);
        let signed = |payload: &[u8], kind: &str| bundle(payload, kind, &site.sign("good", &pae_of(kind, payload)));
        let ours = statement(&document, COSIGN);
        let unsupported: Kind = |fault| matches!(fault, Fault::Unsupported { .. });
        let malformed: Kind = |fault| matches!(fault, Fault::Malformed { .. });
        let claim: Kind = |fault| matches!(fault, Fault::Claim { expected: "cosign's signature", .. });
        let cases: Vec<(&str, Value, Kind)> = vec![
            ("another key", site.bundle("other", COSIGN), other_key),
            (
                "bent signature",
                {
                    let mut signature = site.sign("good", &encoded(&ours));
                    *signature.last_mut().unwrap() ^= 1;
                    bundle(&ours, STATEMENT, &signature)
                },
                other_key,
            ),
            ("no signature", bundle(&ours, STATEMENT, b""), other_key),
            ("over the payload without its head", bundle(&ours, STATEMENT, &site.sign("good", &ours)), other_key),
            (
                "another statement than was signed",
                bent(&|b| {
                    b["dsseEnvelope"]["payload"] = base64(&statement(&document, PROVENANCE)).into();
                }),
                other_key,
            ),
            (
                "another type than was signed",
                bent(&|b| b["dsseEnvelope"]["payloadType"] = "text/plain".into()),
                other_key,
            ),
            ("a type that is no statement", signed(&ours, "text/plain"), unsupported),
            ("no statement", signed(b"{}", STATEMENT), malformed),
            ("a scanner's report", site.bundle("good", "https://cosign.sigstore.dev/attestation/vuln/v1"), claim),
            ("provenance", site.bundle("good", PROVENANCE), claim),
            (
                "two signatures",
                bent(&|b| {
                    let one = b["dsseEnvelope"]["signatures"][0].clone();
                    b["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(one);
                }),
                unsupported,
            ),
            ("none", bent(&|b| b["dsseEnvelope"]["signatures"] = json!([])), unsupported),
            (
                "over the file itself",
                bent(&|b| {
                    b["messageSignature"] = json!({"signature": base64(&site.sign("good", &document))});
                    b.as_object_mut().unwrap().remove("dsseEnvelope");
                }),
                unsupported,
            ),
            ("of both forms", bent(&|b| b["messageSignature"] = json!({"signature": ""})), malformed),
            (
                "a certificate as well",
                bent(&|b| {
                    b["verificationMaterial"]["certificate"] = json!({"rawBytes": ""});
                }),
                malformed,
            ),
            ("no key", bent(&|b| b["verificationMaterial"] = json!({})), malformed),
            (
                "another version",
                bent(&|b| b["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.9+json".into()),
                unsupported,
            ),
            ("no bundle", json!([]), malformed),
        ];
        for (what, bundle, kind) in cases {
            let fault = site.refusal(bundle);
            assert!(kind(&fault), "{what}: {fault}");
        }
        // By the key, about another image.
        let elsewhere = statement(b"TEST another image", COSIGN);
        site.only(&[signed(&elsewhere, STATEMENT)]);
        let error = site.pin().unwrap_err();
        let other = Sha256::of(b"TEST another image").hex();
        assert!(
            matches!(error.kind(), ErrorKind::UpstreamPayload { expected, found, .. }
                if *expected == site.image() && *found == other),
            "{error}"
        );
        // None of these keeps a good one from counting.
        site.only(&[signed(&elsewhere, STATEMENT), site.bundle("good", PROVENANCE), json!([]), good]);
        site.pin().unwrap();
    }
}

#[test]
fn key_and_keyless_are_kept_apart() {
    let site = Site::new(false);
    // A sound keyless signature is none by the key.
    let (instance, payload) = (Instance::new(), statement(&site.document(), COSIGN));
    let signature = instance.sign(&Recipe::default(), &encoded(&payload));
    let keyless = signature.attestation(&instance.entry(&Recipe::default(), &signature.dsse(&payload)), &payload);
    assert_eq!(site.refusal(keyless), Fault::NoKey);
}

#[test]
fn all_reasons_are_told() {
    let site = Site::new(false);
    let mut bent = site.bundle("good", COSIGN);
    bent["dsseEnvelope"]["signatures"][0]["sig"] = base64(b"TEST").into();
    site.only(&[site.bundle("other", COSIGN), bent, site.bundle("good", PROVENANCE), json!([])]);
    let error = site.pin().unwrap_err();
    let ErrorKind::UpstreamSignature { found: 4, why, .. } = error.kind() else { panic!("{error}") };
    let all: Vec<_> = why.all().cloned().collect();
    assert!(matches!(&all[..], [Fault::Malformed { .. }, Fault::OtherKey, Fault::Claim { .. }]), "{why}");
    assert!(why.to_string().contains("; beside it: signature: does not verify with the pinned key"), "{why}");
}
