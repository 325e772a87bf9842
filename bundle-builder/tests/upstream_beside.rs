//! Foreign and broken files beside an image: they never count, they keep no good signature from counting, and they are
//! told where nothing counts. What the network or the registry fails at is an error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;
mod sigstore;

use std::fs;
use std::path::{Path, PathBuf};

use bundle_builder::keyless::Fault;
use bundle_builder::source::{PlainHttp, RegistryOptions, Unread};
use bundle_builder::{Error, ErrorKind};
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::text::base64;
use fixture::openssl::{P256, keypair, sign};
use fixture::proxy::{Answer, Proxy};
use fixture::registry::Registry;
use fixture::{Lies, SIMPLE_SIGNING, attach, collect_release, demanding, detach, layout, payload, pin_release};
use serde_json::{Value, json};
use sigstore::{ISSUER, Instance, Recipe, WORKFLOW, encoded, statement};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const COSIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Key,
    Keyless,
}

/// Media type, content and annotations of a layer.
type Layer = (&'static str, Vec<u8>, Value);

/// An image in a layout, and a release that demands a signature in one way.
struct Site {
    dir: tempfile::TempDir,
    instance: Instance,
    release: PathBuf,
    way: Way,
}

impl Site {
    fn new(way: Way, source: &str) -> Self {
        let (dir, instance) = (tempfile::tempdir().unwrap(), Instance::new());
        layout(&dir.path().join("images"), "app", "one");
        let verify = match way {
            Way::Key => {
                keypair(dir.path(), "good", &P256);
                "{cosign: {key: good.pub}}".to_owned()
            }
            Way::Keyless => {
                let root = instance.trusted_root(&[]).to_string();
                fs::write(dir.path().join("root.json"), &root).unwrap();
                let pin = Sha384::of(root.as_bytes());
                let root = format!("{{file: root.json, sha384: {pin}}}");
                format!("{{keyless: {{trusted_root: {root}, identity: {{uri: '{WORKFLOW}'}}, issuer: '{ISSUER}'}}}}")
            }
        };
        let release = demanding(dir.path(), source, &verify);
        Self { dir, instance, release, way }
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn image(&self) -> Sha256 {
        fixture::image(&self.images())
    }

    /// A signature that counts.
    fn good(&self) -> Layer {
        let image = fs::read(blob(&self.images(), &self.image())).unwrap();
        let payload = statement(&image, COSIGN);
        let bundle = match self.way {
            Way::Key => {
                let signature = sign(self.dir.path(), &self.dir.path().join("good.key"), &encoded(&payload), false);
                json!({
                    "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}},
                    "dsseEnvelope": {"payload": base64(&payload), "payloadType": sigstore::STATEMENT,
                        "signatures": [{"sig": base64(&signature)}]},
                })
            }
            Way::Keyless => {
                let signature = self.instance.sign(&Recipe::default(), &encoded(&payload));
                let entry = self.instance.entry(&Recipe::default(), &signature.dsse(&payload));
                signature.attestation(&entry, &payload)
            }
        };
        (BUNDLE, bundle.to_string().into_bytes(), json!({}))
    }

    /// Annotations with which a payload is looked at in either way.
    fn annotations(&self) -> Value {
        self.instance
            .sign(&Recipe::default(), b"TEST")
            .annotations(&self.instance.entry(&Recipe::default(), &json!({"kind": "TEST", "apiVersion": "0"})))
    }

    /// The reasons of a refusal, and whether anything was there that may be a signature.
    fn refusal(&self, what: &str) -> (Fault, bool) {
        let error = pin_release(&self.release, &RegistryOptions::default()).unwrap_err();
        assert_eq!(error.class().exit_code(), 4, "{what}: {error}");
        match error.kind() {
            ErrorKind::UpstreamSignature { found: 1, why, .. } if self.way == Way::Key => (why.first().clone(), true),
            ErrorKind::UpstreamKeyless { found: 1, why, .. } if self.way == Way::Keyless => (why.first().clone(), true),
            ErrorKind::UpstreamUnsigned { unread: Some(why), .. } => (why.first().clone(), false),
            _ => panic!("{what}: {error}"),
        }
    }

    fn counts(&self, what: &str) {
        let options = RegistryOptions::default();
        pin_release(&self.release, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
        collect_release(&self.release, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

fn blob(images: &Path, digest: &Sha256) -> PathBuf {
    images.join("blobs/sha256").join(digest.hex())
}

/// Adds an entry to the layout's index; its file is not written.
fn entry(images: &Path, bytes: &[u8], annotations: &Value) {
    let mut index = fixture::index(images);
    index["manifests"].as_array_mut().unwrap().push(json!({
        "mediaType": MANIFEST, "digest": Sha256::of(bytes).to_string(), "size": bytes.len(), "annotations": annotations,
    }));
    fs::write(images.join("index.json"), index.to_string()).unwrap();
}

/// Whether a fault is of the kind that is expected.
type Kind = fn(&Fault) -> bool;
/// Puts something broken beside the image.
type Break = Box<dyn Fn(&Site)>;

fn missing(fault: &Fault) -> bool {
    matches!(fault, Fault::Unread(Unread::Missing { .. }))
}

fn other_bytes(fault: &Fault) -> bool {
    matches!(fault, Fault::Unread(Unread::OtherBytes { .. }))
}

/// Broken files that may be signatures.
fn signatures() -> Vec<(&'static str, Break, Kind)> {
    let layer = |bytes: &'static [u8], then: fn(&Path)| -> Break {
        Box::new(move |site| {
            attach(&site.images(), &[(BUNDLE, bytes.to_vec(), json!({}))], Lies::AsReferrer);
            then(&blob(&site.images(), &Sha256::of(bytes)));
        })
    };
    vec![
        (
            "a bundle that is too large",
            Box::new(|site| {
                let large = vec![b' '; (4 << 20) + 1];
                attach(&site.images(), &[(BUNDLE, large, json!({}))], Lies::AsReferrer);
            }),
            |fault| matches!(fault, Fault::Unread(Unread::TooLarge { limit: 4_194_304, found: 4_194_305, .. })),
        ),
        (
            "a payload that is too large",
            Box::new(|site| {
                let large = vec![b' '; (64 << 10) + 1];
                attach(&site.images(), &[(SIMPLE_SIGNING, large, site.annotations())], Lies::UnderTag);
            }),
            |fault| matches!(fault, Fault::Unread(Unread::TooLarge { limit: 65_536, found: 65_537, .. })),
        ),
        ("a bundle that is missing", layer(b"TEST gone", |file| fs::remove_file(file).unwrap()), missing),
        ("a bundle of other bytes", layer(b"TEST other", |file| fs::write(file, "TEST OTHER").unwrap()), other_bytes),
        ("a bundle that was cut", layer(b"TEST whole", |file| fs::write(file, "TEST").unwrap()), other_bytes),
        ("a bundle that is none", layer(b"TEST none", |_| ()), |fault| matches!(fault, Fault::Malformed { .. })),
        (
            "a payload without a signature",
            Box::new(|site| {
                let mut annotations = site.annotations();
                annotations["dev.cosignproject.cosign/signature"] = "?".into();
                attach(&site.images(), &[(SIMPLE_SIGNING, payload(&site.image()), annotations)], Lies::AsReferrer);
            }),
            |fault| matches!(fault, Fault::Malformed { what: "payload", .. }),
        ),
    ]
}

/// Broken artifacts, of which nobody knows what they hold.
fn artifacts() -> Vec<(&'static str, Break, Kind)> {
    let artifact = |bytes: Vec<u8>| -> Break {
        Box::new(move |site| {
            fs::write(blob(&site.images(), &Sha256::of(&bytes)), &bytes).unwrap();
            entry(&site.images(), &bytes, &json!({}));
        })
    };
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let layer = json!({"mediaType": BUNDLE, "digest": sha512, "size": 1});
    let of_sha512 = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer]}).to_string();
    let malformed: Kind = |fault| matches!(fault, Fault::Unread(Unread::Malformed { .. }));
    vec![
        ("an artifact that is missing", Box::new(|site| entry(&site.images(), b"TEST", &json!({}))), missing),
        (
            "an artifact of other bytes",
            Box::new(|site| {
                attach(&site.images(), &[site.good()], Lies::AsReferrer);
                let index = fixture::index(&site.images());
                let last =
                    index["manifests"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
                let file = blob(&site.images(), &Sha256::parse(&last).unwrap());
                fs::write(&file, [&fs::read(&file).unwrap()[..], b" "].concat()).unwrap();
            }),
            other_bytes,
        ),
        (
            "an artifact under cosign's tag that is missing",
            Box::new(|site| {
                let tag = format!("sha256-{}.sig", site.image().hex());
                entry(&site.images(), b"TEST", &json!({"org.opencontainers.image.ref.name": tag}));
            }),
            missing,
        ),
        ("an artifact that is none", artifact(b"TEST none".to_vec()), malformed),
        ("an artifact with a digest of another kind", artifact(of_sha512.into_bytes()), malformed),
        ("an artifact that is too large", artifact(vec![b' '; (4 << 20) + 1]), |fault| {
            matches!(fault, Fault::Unread(Unread::TooLarge { limit: 4_194_304, found: 4_194_305, .. }))
        }),
    ]
}

#[test]
fn a_broken_file_beside_a_good_signature() {
    for way in [Way::Key, Way::Keyless] {
        let site = Site::new(way, "oci:images:app");
        let all = || {
            signatures().into_iter().map(|case| (case, true)).chain(artifacts().into_iter().map(|case| (case, false)))
        };
        for ((what, put, kind), may_be_one) in all() {
            detach(&site.images());
            put(&site);
            let (fault, found) = site.refusal(what);
            assert!(kind(&fault), "{way:?}, {what}: {fault}");
            assert_eq!(found, may_be_one, "{way:?}, {what}");
            attach(&site.images(), &[site.good()], Lies::AsReferrer);
            site.counts(what);
        }
        // All of them at once, before the good one.
        detach(&site.images());
        for ((_, put, _), _) in all() {
            put(&site);
        }
        attach(&site.images(), &[site.good()], Lies::AsReferrer);
        site.counts("all");
    }
}

#[test]
fn nothing_there_at_all() {
    for way in [Way::Key, Way::Keyless] {
        let site = Site::new(way, "oci:images:app");
        let error = pin_release(&site.release, &RegistryOptions::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UpstreamUnsigned { unread: None, .. }), "{error}");
    }
}

/// Pushes an artifact of one layer about the image; gives the digests of artifact and layer, and its entry of a list.
fn push(registry: &Registry, site: &Site, layer: &Layer) -> (Sha256, Sha256, Value) {
    let image = fixture::index(&site.images())["manifests"][0].clone();
    let (media_type, bytes, annotations) = layer;
    let (config, content) = (registry.put_blob(site.dir.path(), b"{}"), registry.put_blob(site.dir.path(), bytes));
    let artifact = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": media_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config.to_string(), "size": 2},
        "layers": [{"mediaType": media_type, "digest": content.to_string(), "size": bytes.len(), "annotations": annotations}],
        "subject": {"mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"]},
    });
    let (digest, length) = registry.put_manifest(site.dir.path(), "", MANIFEST, &artifact);
    (digest, content, json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": length}))
}

#[test]
fn what_a_registry_does_not_have_and_what_it_fails_at() {
    let registry = Registry::start();
    let proxy = Proxy::start(registry.port);
    let options = RegistryOptions { plain_http: PlainHttp::LoopbackOnly, ..RegistryOptions::default() };
    for way in [Way::Key, Way::Keyless] {
        let site = Site::new(way, &format!("docker://127.0.0.1:{}/team/app:1", proxy.port));
        registry.push(&site.images(), "app", "1");
        let foreign = push(&registry, &site, &(BUNDLE, format!("TEST foreign {way:?}").into_bytes(), json!({})));
        let good = push(&registry, &site, &site.good());
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign.2, good.2]});
        registry.put_manifest(site.dir.path(), &format!("sha256-{}", site.image().hex()), INDEX, &list);
        let pin = || pin_release(&site.release, &options);
        proxy.fail("/nowhere", Answer::NotFound);
        pin().unwrap();
        for path in [&foreign.0, &foreign.1] {
            proxy.fail(&path.to_string(), Answer::NotFound);
            pin().unwrap_or_else(|error| panic!("{way:?} without {path}: {error}"));
            collect_release(&site.release, &options).unwrap();
            // What was not seen is no reason to go on.
            for answer in [Answer::Unavailable, Answer::Cut, Answer::HungUp] {
                proxy.fail(&path.to_string(), answer);
                for error in [pin().unwrap_err(), collect_release(&site.release, &options).map(|_| ()).unwrap_err()] {
                    assert!(is_of_the_network(&error), "{way:?}, {answer:?} for {path}: {error}");
                    assert_eq!(error.class().exit_code(), 6, "{error}");
                }
            }
        }
        // Without the good one there is none, and both are told.
        proxy.fail(&good.1.to_string(), Answer::NotFound);
        let error = pin().unwrap_err();
        let (ErrorKind::UpstreamSignature { found: 2, why, .. } | ErrorKind::UpstreamKeyless { found: 2, why, .. }) =
            error.kind()
        else {
            panic!("{error}")
        };
        let all: Vec<_> = why.all().collect();
        let gone = Fault::Unread(Unread::Missing { what: format!("signature {}", good.1) });
        assert!(matches!(all[..], [Fault::Malformed { .. }, other] if *other == gone), "{why}");
    }
}

fn is_of_the_network(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io { .. } | ErrorKind::Registry { .. })
}
