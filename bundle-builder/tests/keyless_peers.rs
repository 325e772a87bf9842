//! Keyless signatures with material of others: time stamps by openssl, signatures by the public instance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;
mod sigstore;

use std::fs;
use std::path::Path;

use bundle_builder::keyless::{Bundle, Claim, Demand, Fault, TrustedRoot, verify};
use bundle_format::lock::TimeSource;
use bundle_format::release::Identity;
use bundle_format::text::base64;
use serde_json::{Value, json};
use sigstore::site::{ARTIFACT, Site};
use sigstore::stamper::Stamper;
use sigstore::{Instance, Recipe};

#[test]
fn time_stamps() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (instance, stamper, stranger) = (Instance::new(), Stamper::new(now - 1000), Stamper::new(now - 1000));
    let root = |raw: &Value| TrustedRoot::parse(raw.to_string().as_bytes()).unwrap();
    let raw = instance.trusted_root(&[stamper.all()]);
    let site = Site { root: root(&raw), instance };
    let recipe = Recipe { from: now - 100, at: now, ..Recipe::default() };
    let signature = site.instance.sign(&recipe, ARTIFACT);
    // The newer log gives no time: a stamp must.
    let mut bundle = signature.bundle(&site.instance.newer_entry(&signature.newer_record(ARTIFACT)), ARTIFACT);
    assert_eq!(site.judge(&bundle).unwrap_err(), Fault::TimeMissing);
    let mut with = |stamp: &[u8]| {
        let stamps = json!([{"signedTimestamp": base64(stamp)}]);
        bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] = stamps;
        bundle.clone()
    };
    let good = with(&stamper.stamp(&signature.bytes, "-sha256"));
    let verified = site.judge(&good).unwrap();
    assert_eq!((verified.time_from, verified.log_index), (TimeSource::TimestampAuthority, 2));
    assert_eq!(verified.log, site.instance.newer_id());
    assert!((now..now + 60).contains(&verified.time.to_unix()), "{}", verified.time);
    site.judge(&with(&stamper.stamp(&signature.bytes, "-sha384"))).unwrap();
    // Over something else, by a stranger, bent anywhere.
    for (stamp, word) in [
        (stamper.stamp(b"TEST other", "-sha256"), "over another signature"),
        (stranger.stamp(&signature.bytes, "-sha256"), "no authority"),
        (b"TEST".to_vec(), "no time stamp"),
    ] {
        let fault = site.judge(&with(&stamp)).unwrap_err();
        assert!(matches!(&fault, Fault::TimeStamp { why } if why.contains(word)), "{word}: {fault}");
    }
    let stamp = stamper.stamp(&signature.bytes, "-sha256");
    let last = stamp.len() - 1;
    let mut bent = stamp.clone();
    bent[last] ^= 1;
    assert!(matches!(site.judge(&with(&bent)).unwrap_err(), Fault::TimeStamp { .. }));
    // Any bit turned, cut anywhere: refused, or, outside of what is signed, the same time.
    let time = site.judge(&with(&stamp)).unwrap().time;
    let mut refused = 0;
    for at in 0..stamp.len() {
        let mut bent = stamp.clone();
        bent[at] ^= 1 << (at % 8);
        match site.judge(&with(&bent)) {
            Ok(verified) => assert_eq!(verified.time, time, "byte {at}"),
            Err(fault) => {
                assert!(matches!(fault, Fault::TimeStamp { .. }), "byte {at}: {fault}");
                refused += 1;
            }
        }
        assert!(site.judge(&with(&stamp[..at])).is_err(), "cut at {at}");
    }
    // Another second in it.
    let (mut moved, text) = (stamp.clone(), time.as_str().replace(['-', ':', 'T'], ""));
    let at = stamp.windows(text.len()).position(|part| part == text.as_bytes()).unwrap() + text.len() - 2;
    moved[at] = if moved[at] == b'0' { b'1' } else { b'0' };
    let fault = site.judge(&with(&moved)).unwrap_err();
    assert!(matches!(&fault, Fault::TimeStamp { why } if why.contains("of another stamp")), "{fault}");
    assert!(refused > 300, "{refused} of {}", stamp.len());
    // A stamp that is there must be good, also beside a promise that would do.
    let mut both = signature.bundle(&site.instance.entry(&recipe, &signature.record(ARTIFACT)), ARTIFACT);
    both["verificationMaterial"]["timestampVerificationData"] =
        good["verificationMaterial"]["timestampVerificationData"].clone();
    assert_eq!(site.judge(&both).unwrap().time_from, TimeSource::Log);
    both["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"] =
        base64(&bent).into();
    assert!(matches!(site.judge(&both).unwrap_err(), Fault::TimeStamp { .. }));
    // A certificate that had ended when it was stamped; an authority that is not for that time.
    let late = Recipe { from: now - 1000, ..recipe };
    let old = site.instance.sign(&late, ARTIFACT);
    let mut bundle = old.bundle(&site.instance.newer_entry(&old.newer_record(ARTIFACT)), ARTIFACT);
    let stamps = json!([{"signedTimestamp": base64(&stamper.stamp(&old.bytes, "-sha256"))}]);
    bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] = stamps;
    assert!(matches!(site.judge(&bundle).unwrap_err(), Fault::CertificateTime { .. }));
    let mut ended = raw.clone();
    ended["timestampAuthorities"][0]["validFor"]["end"] = "2024-01-01T00:00:00Z".into();
    let ended = Site { root: root(&ended), instance: site.instance };
    let fault = ended.judge(&good).unwrap_err();
    assert!(matches!(&fault, Fault::TimeStamp { why } if why.contains("not for that time")), "{fault}");
    // An authority whose certificate is for something else.
    let mut other = raw;
    other["timestampAuthorities"][0]["certChain"]["certificates"][2] =
        json!({"rawBytes": base64(stranger.authority.chain[1].der())});
    let other = Site { root: root(&other), ..ended };
    assert!(matches!(other.judge(&good).unwrap_err(), Fault::TimeStamp { .. }));
}

#[test]
fn the_public_instance() {
    const CI: &str = "https://token.actions.githubusercontent.com";
    let file =
        |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sigstore/public").join(name)).unwrap();
    let root = TrustedRoot::parse(&file("trusted_root.json")).unwrap();
    let judge = |bundle: &[u8], artifact: &[u8], workflow: &str| {
        let identity = Identity::Uri(format!("https://github.com/{workflow}"));
        verify(&Bundle::parse(bundle).unwrap(), artifact, Demand { root: &root, identity: &identity, issuer: CI })
    };
    let (bundle, artifact) = (file("conda-attestation.sigstore.json"), file("signed-package-2.1.0-hb0f4dca_0.conda"));
    let workflow = "prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
    let verified = judge(&bundle, &artifact, workflow).unwrap();
    assert_eq!((verified.log_index, verified.time.as_str()), (456_119_071, "2025-09-01T12:13:59Z"));
    assert_eq!(verified.claim, Claim::Statement("https://schemas.conda.org/attestations-publish-1.schema.json".into()));
    let fault = judge(&bundle, &artifact, "prefix-dev/sigstore-example").unwrap_err();
    assert!(matches!(fault, Fault::Identity { .. }), "{fault}");
    assert!(matches!(judge(&bundle, ARTIFACT, workflow).unwrap_err(), Fault::Artifact { .. }));
    // Another form. The package is not kept here, so the last step, and no other, must fail.
    let bundle = file("npm-sigstore-2.0.0.sigstore.json");
    let fault =
        judge(&bundle, ARTIFACT, "sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main").unwrap_err();
    assert!(matches!(&fault, Fault::Artifact { found, .. } if found.starts_with("46d4e2f74c487731")), "{fault}");
    let fault = Site::new().judge(&serde_json::from_slice(&bundle).unwrap()).unwrap_err();
    assert!(matches!(fault, Fault::UnknownLog { .. }), "{fault}");
}
