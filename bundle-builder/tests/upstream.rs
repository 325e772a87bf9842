//! Publishers' signatures in cosign's format, made by openssl, in a layout and in a real registry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use bundle_builder::ErrorKind;
use bundle_builder::keyless::Fault;
use bundle_builder::source::{PlainHttp, RegistryOptions};
use bundle_format::digest::Sha256;
use bundle_format::lock::LockedSignature;
use bundle_format::text::base64;
use fixture::openssl::{ED25519, P256, keypair, sign};
use fixture::registry::Registry;
use fixture::{Lies, SIMPLE_SIGNING, collect_release, demanding, layout, payload, pin_release, release};

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        layout(&site.images(), "app", "one");
        site
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn index(&self) -> serde_json::Value {
        fixture::index(&self.images())
    }

    fn image(&self) -> Sha256 {
        fixture::image(&self.images())
    }

    /// Writes the artifact that holds signatures: payload and signature of each.
    fn attach(&self, signatures: &[(Vec<u8>, Vec<u8>)], lies: Lies) {
        let layers: Vec<_> = signatures
            .iter()
            .map(|(payload, signature)| {
                let annotations = serde_json::json!({"dev.cosignproject.cosign/signature": base64(signature)});
                (SIMPLE_SIGNING, payload.clone(), annotations)
            })
            .collect();
        fixture::detach(&self.images());
        fixture::attach(&self.images(), &layers, lies);
    }

    /// A release that demands a signature by `key`.
    fn release(&self, source: &str, key: &str) -> PathBuf {
        demanding(self.path(), source, &format!("{{cosign: {{key: {key}}}}}"))
    }
}

#[test]
fn signatures_of_both_algorithms_in_a_layout() {
    for (kind, ed25519) in [(&P256[..], false), (&ED25519[..], true)] {
        let site = Site::new();
        let key = keypair(site.path(), "good", kind);
        let other = keypair(site.path(), "other", kind);
        let payload = payload(&site.image());
        let good = sign(site.path(), &key, &payload, ed25519);
        let theirs = sign(site.path(), &other, &payload, ed25519);
        let path = site.release("oci:images:app", "good.pub");
        for lies in [Lies::UnderTag, Lies::AsReferrer] {
            site.attach(&[(payload.clone(), theirs.clone()), (payload.clone(), good.clone())], lies);
            let lock = pin_release(&path, &RegistryOptions::default()).unwrap();
            let verified = lock.images[0].verified.clone().unwrap();
            assert!(matches!(verified, LockedSignature::Cosign(_)), "{verified:?}");
            assert_eq!(verified.signed(), site.image());
            collect_release(&path, &RegistryOptions::default()).unwrap();
        }
        // What was there when it was pinned is gone when it is built.
        site.attach(&[(payload.clone(), theirs)], Lies::UnderTag);
        let error = collect_release(&path, &RegistryOptions::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UpstreamSignature { found: 1, .. }), "{error}");
    }
}

#[test]
fn refusals() {
    let site = Site::new();
    let key = keypair(site.path(), "good", &P256);
    let other = keypair(site.path(), "other", &P256);
    let path = site.release("oci:images:app", "good.pub");
    let pin = || pin_release(&path, &RegistryOptions::default()).unwrap_err();
    let error = pin();
    assert!(matches!(error.kind(), ErrorKind::UpstreamUnsigned { digest, .. } if *digest == site.image()), "{error}");
    assert_eq!(error.class().exit_code(), 4);

    let right = payload(&site.image());
    site.attach(&[(right.clone(), sign(site.path(), &other, &right, false))], Lies::UnderTag);
    let error = pin();
    assert!(matches!(error.kind(), ErrorKind::UpstreamSignature { found: 1, .. }), "wrong key: {error}");

    let mut bad = sign(site.path(), &key, &right, false);
    *bad.last_mut().unwrap() ^= 1;
    site.attach(&[(right.clone(), bad)], Lies::UnderTag);
    let error = pin();
    assert!(matches!(error.kind(), ErrorKind::UpstreamSignature { .. }), "bad signature: {error}");

    let elsewhere = payload(&Sha256::of(b"another image"));
    site.attach(&[(elsewhere.clone(), sign(site.path(), &key, &elsewhere, false))], Lies::UnderTag);
    let error = pin();
    assert!(matches!(error.kind(), ErrorKind::UpstreamPayload { .. }), "{error}");
    let of_other_type = String::from_utf8(right.clone()).unwrap().replace("cosign container", "atomic container");
    let signature = sign(site.path(), &key, of_other_type.as_bytes(), false);
    site.attach(&[(of_other_type.into_bytes(), signature)], Lies::UnderTag);
    let error = pin();
    assert!(matches!(error.kind(), ErrorKind::UpstreamPayload { .. }), "{error}");
    // One that is no payload at all, in the key's own hand.
    let none = (b"{}".to_vec(), sign(site.path(), &key, b"{}", false));
    site.attach(std::slice::from_ref(&none), Lies::UnderTag);
    let error = pin();
    let ErrorKind::UpstreamSignature { found: 1, why, .. } = error.kind() else { panic!("{error}") };
    assert!(matches!(why.first(), Fault::Malformed { what: "payload", .. }), "{why}");
    // The fault of one says nothing of the next.
    let good = (right.clone(), sign(site.path(), &key, &right, false));
    let other_image = (elsewhere.clone(), sign(site.path(), &key, &elsewhere, false));
    site.attach(&[other_image.clone(), none.clone(), good], Lies::UnderTag);
    pin_release(&path, &RegistryOptions::default()).unwrap();
    // Of several the one that the key did make over something else tells most.
    site.attach(&[(right.clone(), b"TEST".to_vec()), none, other_image], Lies::UnderTag);
    let error = pin();
    let other = Sha256::of(b"another image").to_string();
    assert!(matches!(error.kind(), ErrorKind::UpstreamPayload { found, .. } if found.contains(&other)), "{error}");
    // An artifact about another image does not count as a referrer of this one.
    site.attach(&[(right.clone(), sign(site.path(), &key, &right, false))], Lies::AsReferrer);
    pin_release(&path, &RegistryOptions::default()).unwrap();

    keypair(site.path(), "rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    keypair(site.path(), "p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    fs::write(site.path().join("text.pub"), "no key").unwrap();
    for name in ["rsa.pub", "p384.pub", "text.pub", "good.key"] {
        let path = site.release("oci:images:app", name);
        let error = pin_release(&path, &RegistryOptions::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UpstreamKey { .. }), "{name}: {error}");
    }
}

#[test]
fn another_key_than_was_pinned_needs_a_new_lock() {
    let site = Site::new();
    let payload = payload(&site.image());
    let both: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| (payload.clone(), sign(site.path(), &keypair(site.path(), name, &P256), &payload, false)))
        .collect();
    site.attach(&both, Lies::UnderTag);
    let path = site.release("oci:images:app", "key.pub");
    fs::copy(site.path().join("one.pub"), site.path().join("key.pub")).unwrap();
    pin_release(&path, &RegistryOptions::default()).unwrap();
    fs::copy(site.path().join("two.pub"), site.path().join("key.pub")).unwrap();
    let error = collect_release(&path, &RegistryOptions::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LockStale { .. }), "{error}");
}

#[test]
fn a_published_sbom_in_a_registry_without_the_referrers_call() {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let registry = Registry::start();
    let site = Site::new();
    registry.push(&site.images(), "app", "1");
    let options = RegistryOptions { plain_http: PlainHttp::LoopbackOnly, ..RegistryOptions::default() };
    let path = release(site.path(), &format!("docker://127.0.0.1:{}/team/app:1", registry.port));
    assert_eq!(pin_release(&path, &options).unwrap().images[0].sbom, None);

    let sbom = b"{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"TEST published\"}";
    let (config, document) = (registry.put_blob(site.path(), b"{}"), registry.put_blob(site.path(), sbom));
    let image = site.index()["manifests"][0].clone();
    let artifact = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/spdx+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config.to_string(), "size": 2},
        "layers": [{"mediaType": "application/spdx+json", "digest": document.to_string(), "size": sbom.len()}],
        "subject": {"mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"]},
    });
    let (artifact, bytes) = registry.put_manifest(site.path(), "", MANIFEST, &artifact);
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": MANIFEST, "digest": artifact.to_string(), "size": bytes}],
    });
    let tag = format!("sha256-{}", site.image().hex());
    registry.put_manifest(site.path(), &tag, "application/vnd.oci.image.index.v1+json", &list);
    let locked = pin_release(&path, &options).unwrap().images[0].sbom.clone().unwrap();
    assert_eq!((locked.format.as_str(), locked.digest), ("spdx-2.3", document));
    let collected = collect_release(&path, &options).unwrap();
    assert!(fixture::read_all(&collected).unwrap().contains(&sbom.to_vec()));
}

#[test]
fn from_a_registry_under_the_tag_that_cosign_uses() {
    let registry = Registry::start();
    let site = Site::new();
    let key = keypair(site.path(), "good", &P256);
    keypair(site.path(), "other", &P256);
    registry.push(&site.images(), "app", "1");
    let options = RegistryOptions { plain_http: PlainHttp::LoopbackOnly, ..RegistryOptions::default() };
    let source = format!("docker://127.0.0.1:{}/team/app:1", registry.port);
    let path = site.release(&source, "good.pub");
    let error = pin_release(&path, &options).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UpstreamUnsigned { .. }), "{error}");

    let payload = payload(&site.image());
    site.attach(&[(payload.clone(), sign(site.path(), &key, &payload, false))], Lies::UnderTag);
    let tag = format!("sha256-{}.sig", site.image().hex());
    registry.push(&site.images(), &tag, &tag);
    let lock = pin_release(&path, &options).unwrap();
    assert_eq!(lock.images[0].verified.as_ref().unwrap().signed(), site.image());
    collect_release(&path, &options).unwrap();
    let path = site.release(&source, "other.pub");
    let error = pin_release(&path, &options).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UpstreamSignature { .. }), "{error}");
}
