//! The limits on publishers' signatures (spec 9, R-LIM-80 to 85): what is at each, and what is above it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;
mod sigstore;

use std::fs;
use std::path::{Path, PathBuf};

use bundle_builder::ErrorKind;
use bundle_builder::keyless::{Fault, TrustedRoot};
use bundle_builder::source::{RegistryOptions, Unread};
use bundle_format::digest::Sha384;
use bundle_format::limits;
use bundle_format::lock::Lock;
use bundle_format::release::PinnedFile;
use bundle_format::text::base64;
use fixture::openssl::{P256, keypair, sign};
use fixture::{Lies, SIMPLE_SIGNING, attach, demanding, detach, layout, payload, pin_release};
use serde_json::{Value, json};
use sigstore::site::ARTIFACT;
use sigstore::{Instance, Recipe, encoded, statement};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// An image in a layout, a release that demands a signature by `good.pub`.
struct Site {
    dir: tempfile::TempDir,
    release: PathBuf,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        layout(&dir.path().join("images"), "app", "one");
        keypair(dir.path(), "good", &P256);
        let release = demanding(dir.path(), "oci:images:app", "{cosign: {key: good.pub}}");
        Self { dir, release }
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        sign(self.dir.path(), &self.dir.path().join("good.key"), message, false)
    }

    /// A payload of this many bytes, signed.
    fn payload(&self, bytes: usize) -> (&'static str, Vec<u8>, Value) {
        let payload = padded(payload(&fixture::image(&self.images())), bytes);
        let annotations = json!({"dev.cosignproject.cosign/signature": base64(&self.sign(&payload))});
        (SIMPLE_SIGNING, payload, annotations)
    }

    /// Another's payload.
    fn foreign(&self) -> (&'static str, Vec<u8>, Value) {
        (SIMPLE_SIGNING, payload(&fixture::image(&self.images())), json!({}))
    }

    fn pin(&self) -> bundle_builder::Result<Lock> {
        pin_release(&self.release, &RegistryOptions::default())
    }

    /// What is said of the only signature.
    fn refusal(&self) -> Fault {
        let error = self.pin().unwrap_err();
        let ErrorKind::UpstreamSignature { found: 1, why, .. } = error.kind() else { panic!("{error}") };
        why.first().clone()
    }
}

/// Spaces behind a document change nothing of it.
fn padded(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    assert!(bytes.len() < length);
    bytes.resize(length, b' ');
    bytes
}

fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap()
}

#[test]
fn bytes_of_a_payload_and_of_a_key() {
    let most = size(limits::UPSTREAM_PAYLOAD_BYTES);
    let site = Site::new();
    let only = |bytes| {
        detach(&site.images());
        attach(&site.images(), &[site.payload(bytes)], Lies::UnderTag);
    };
    only(most);
    site.pin().unwrap();
    only(most + 1);
    let fault = site.refusal();
    assert!(matches!(fault, Fault::Unread(Unread::TooLarge { limit: 65_536, found: 65_537, .. })), "{fault}");
    only(most);
    let (file, key) = (site.dir.path().join("good.pub"), fs::read(site.dir.path().join("good.pub")).unwrap());
    fs::write(&file, padded(key.clone(), most)).unwrap();
    site.pin().unwrap();
    fs::write(&file, padded(key, most + 1)).unwrap();
    too_large(&site.pin().unwrap_err(), limits::UPSTREAM_PAYLOAD_BYTES);
}

fn too_large(error: &bundle_builder::Error, most: u64) {
    let ErrorKind::Format(format) = error.kind() else { panic!("{error}") };
    assert!(
        matches!(format.kind(), bundle_format::ErrorKind::TooLarge { limit, found, .. } if *limit == most && *found == most + 1),
        "{error}"
    );
    assert_eq!(error.class().exit_code(), 3);
}

#[test]
fn bytes_of_a_bundle() {
    let (site, most) = (Site::new(), size(limits::SIGSTORE_BUNDLE_BYTES));
    let image = fixture::image(&site.images());
    let document = fs::read(site.images().join("blobs/sha256").join(image.hex())).unwrap();
    let payload = statement(&document, "https://sigstore.dev/cosign/sign/v1");
    let bundle = json!({
        "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}},
        "dsseEnvelope": {"payload": base64(&payload), "payloadType": sigstore::STATEMENT,
            "signatures": [{"sig": base64(&site.sign(&encoded(&payload)))}]},
    });
    let only = |bytes| {
        detach(&site.images());
        let bundle = padded(bundle.to_string().into_bytes(), bytes);
        attach(&site.images(), &[(BUNDLE, bundle, json!({}))], Lies::AsReferrer);
    };
    only(most);
    site.pin().unwrap();
    only(most + 1);
    let fault = site.refusal();
    assert!(matches!(fault, Fault::Unread(Unread::TooLarge { limit: 4_194_304, found: 4_194_305, .. })), "{fault}");
}

#[test]
fn bytes_of_a_trusted_root() {
    let (dir, most) = (tempfile::tempdir().unwrap(), size(limits::TRUSTED_ROOT_BYTES));
    let root = Instance::new().trusted_root(&[]).to_string().into_bytes();
    let read = |bytes| {
        let root = padded(root.clone(), bytes);
        fs::write(dir.path().join("root.json"), &root).unwrap();
        let pinned = PinnedFile { file: Path::new("root.json").to_owned(), sha384: Sha384::of(&root) };
        TrustedRoot::read(dir.path(), &pinned)
    };
    read(most).unwrap();
    too_large(&read(most + 1).unwrap_err(), limits::TRUSTED_ROOT_BYTES);
}

#[test]
fn bytes_of_a_log_entry() {
    let (site, most) = (sigstore::site::Site::new(), size(limits::LOG_ENTRY_BYTES));
    let judge = |bytes: usize| {
        let signature = site.instance.sign(&Recipe::default(), ARTIFACT);
        let mut body = signature.record(ARTIFACT);
        body["TEST"] = "".into();
        body["TEST"] = "x".repeat(bytes - body.to_string().len()).into();
        assert_eq!(body.to_string().len(), bytes);
        site.judge(&signature.bundle(&site.instance.entry(&Recipe::default(), &body), ARTIFACT))
    };
    judge(most).unwrap();
    let fault = judge(most + 1).unwrap_err();
    let Fault::Malformed { what: "log entry", why } = &fault else { panic!("{fault}") };
    assert!(why.contains("1048576") && why.contains("1048577"), "{why}");
}

#[test]
fn artifacts_about_an_image() {
    let site = Site::new();
    for number in 1..limits::REFERRERS {
        let (media_type, mut bytes, annotations) = site.foreign();
        bytes.resize(bytes.len() + number, b' ');
        attach(&site.images(), &[(media_type, bytes, annotations)], Lies::AsReferrer);
    }
    attach(&site.images(), &[site.payload(1000)], Lies::AsReferrer);
    site.pin().unwrap();
    // One more in front of it.
    let mut index = fixture::index(&site.images());
    attach(&site.images(), &[site.foreign()], Lies::AsReferrer);
    let more = fixture::index(&site.images())["manifests"].as_array().unwrap().last().unwrap().clone();
    index["manifests"].as_array_mut().unwrap().insert(1, more);
    fs::write(site.images().join("index.json"), index.to_string()).unwrap();
    let error = site.pin().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UpstreamSignature { found: 100, .. }), "{error}");
}

#[test]
fn signatures_of_an_image() {
    let site = Site::new();
    let mut layers = vec![site.foreign(); limits::UPSTREAM_SIGNATURES - 1];
    layers.push(site.payload(1000));
    attach(&site.images(), &layers, Lies::UnderTag);
    site.pin().unwrap();
    layers.insert(0, site.foreign());
    detach(&site.images());
    attach(&site.images(), &layers, Lies::UnderTag);
    let error = site.pin().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UpstreamSignature { found: 200, .. }), "{error}");
}
