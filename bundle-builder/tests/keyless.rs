//! Keyless signatures: sound ones of every form, the public instance's, and each refusal by its kind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;
mod sigstore;

use std::collections::BTreeMap;

use bundle_builder::keyless::{Bundle, Claim, Demand, Fault, TrustedRoot, Verified, verify};
use bundle_format::digest::Sha256;
use bundle_format::lock::TimeSource;
use bundle_format::release::Identity;
use bundle_format::text::{base64, unbase64};
use bundle_format::timestamp::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use serde_json::{Value, json};
use sigstore::site::{ARTIFACT, Site};
use sigstore::{Authority, ISSUER, Instance, NOW, Names, PERSON, Recipe, Seen, WORKFLOW, encoded, id, statement};

const KIND: &str = "https://slsa.dev/provenance/v1";

fn annotations(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The place of a bundle's log entry.
fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

#[test]
fn a_sound_signature_and_what_is_recorded_of_it() {
    let site = Site::new();
    let bundle = site.bundle(&Recipe::default());
    let verified = site.judge(&bundle).unwrap();
    let certificate = bundle["verificationMaterial"]["certificate"]["rawBytes"].as_str().unwrap();
    let expected = Verified {
        claim: Claim::Bytes,
        log: id(&site.instance.log),
        log_index: 1234,
        time: Timestamp::from_unix(NOW),
        time_from: TimeSource::Log,
        certificate: Sha256::of(&unbase64(certificate).unwrap()),
    };
    assert_eq!(verified, expected);
}

#[test]
fn sound_signatures_of_every_form() {
    let site = Site::new();
    let (instance, recipe) = (&site.instance, Recipe::default());
    let good = site.bundle(&recipe);
    // Version 0.1: a chain, and a promise is enough. Version 0.2: a proof, with or without a promise.
    let mut older = good.clone();
    older["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1".into();
    let material = older["verificationMaterial"].as_object_mut().unwrap();
    let certificate = material.remove("certificate").unwrap();
    material.insert("x509CertificateChain".into(), json!({"certificates": [certificate]}));
    entry(&mut older).as_object_mut().unwrap().remove("inclusionProof").unwrap();
    site.judge(&older).unwrap();
    let mut second = good.clone();
    second["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
    site.judge(&second).unwrap();
    // A statement, in both kinds of entries that the log has for it.
    let payload = statement(ARTIFACT, KIND);
    let signature = instance.sign(&recipe, &encoded(&payload));
    for body in [signature.dsse(&payload), signature.intoto(&payload)] {
        let bundle = signature.attestation(&instance.entry(&recipe, &body), &payload);
        assert_eq!(site.judge(&bundle).unwrap().claim, Claim::Statement(KIND.into()));
    }
    // cosign 2.
    let signature = instance.sign(&recipe, ARTIFACT);
    let kept = signature.annotations(&instance.entry(&recipe, &signature.record(ARTIFACT)));
    let bundle = Bundle::from_annotations(signature.bytes.clone(), &annotations(&kept)).unwrap();
    let identity = Identity::Uri(WORKFLOW.into());
    let verified = verify(&bundle, ARTIFACT, Demand { root: &site.root, identity: &identity, issuer: ISSUER }).unwrap();
    assert_eq!((verified.log_index, verified.time), (1234, Timestamp::from_unix(NOW)));
    // The issuer in the older extension, the newer, and both; a person.
    for issuer_in in [Names::Older, Names::Newer, Names::Both] {
        site.judge(&site.bundle(&Recipe { issuer_in, ..recipe.clone() })).unwrap();
    }
    let names = vec![SanType::Rfc822Name(PERSON.try_into().unwrap())];
    let bundle = site.bundle(&Recipe { names, ..recipe.clone() });
    site.judge_by(&bundle, &Identity::Email(PERSON.into())).unwrap();
    // The first and the last second of the certificate.
    for from in [NOW, NOW - 600] {
        site.judge(&site.bundle(&Recipe { from, ..recipe.clone() })).unwrap();
    }
}

/// Whether a fault is of the kind that is expected.
type Kind = fn(&Fault) -> bool;

#[test]
fn a_certificate_that_is_not_the_demanded_one() {
    let site = Site::new();
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let email = || SanType::Rfc822Name(PERSON.try_into().unwrap());
    let recipe = Recipe::default;
    let identity: Kind = |fault| matches!(fault, Fault::Identity { .. });
    let cases: Vec<(&str, Recipe, Kind)> = vec![
        ("another workflow", Recipe { names: vec![uri(&format!("{WORKFLOW}x"))], ..recipe() }, identity),
        ("a person", Recipe { names: vec![email()], ..recipe() }, identity),
        ("two names", Recipe { names: vec![uri(WORKFLOW), email()], ..recipe() }, identity),
        ("no name", Recipe { names: vec![], ..recipe() }, identity),
        (
            "another issuer",
            Recipe { issuer: "https://id.example/other", ..recipe() },
            |f| matches!(f, Fault::Issuer { expected, found } if expected == ISSUER && found == "https://id.example/other"),
        ),
        ("an issuer twice", Recipe { issuer_in: Names::Twice, ..recipe() }, |f| matches!(f, Fault::Malformed { .. })),
        ("no longer valid", Recipe { from: NOW - 601, ..recipe() }, |f| {
            matches!(f, Fault::CertificateTime { time, not_after, .. }
                if *time == Timestamp::from_unix(NOW) && *not_after == Timestamp::from_unix(NOW - 1))
        }),
        ("not yet valid", Recipe { from: NOW + 1, ..recipe() }, |f| matches!(f, Fault::CertificateTime { .. })),
        ("for servers", Recipe { usage: ExtendedKeyUsagePurpose::ServerAuth, ..recipe() }, |f| {
            matches!(f, Fault::Chain { .. })
        }),
        ("an authority's own", Recipe { is_ca: true, ..recipe() }, |f| matches!(f, Fault::Chain { .. })),
        ("no log saw it", Recipe { seen: Seen::ByNobody, ..recipe() }, |f| *f == Fault::SctMissing),
        ("a stranger saw it", Recipe { seen: Seen::ByAStranger, ..recipe() }, |f| {
            *f == Fault::SctUnknownLog { found: 1 }
        }),
        ("the log saw another", Recipe { seen: Seen::AsAnother, ..recipe() }, |f| matches!(f, Fault::Sct { .. })),
        ("before the root's time", Recipe { from: 1_600_000_000, at: 1_600_000_001, ..recipe() }, |f| {
            matches!(f, Fault::UnknownLog { .. })
        }),
    ];
    for (what, recipe, kind) in cases {
        let fault = site.judge(&site.bundle(&recipe)).unwrap_err();
        assert!(kind(&fault), "{what}: {fault}");
    }
    // A name of the right text and the wrong kind.
    let bundle = site.bundle(&Recipe { names: vec![email()], ..recipe() });
    let fault = site.judge_by(&bundle, &Identity::Uri(PERSON.into())).unwrap_err();
    assert!(matches!(&fault, Fault::Identity { found, .. } if *found == format!("email:{PERSON}")), "{fault}");
}

#[test]
fn an_authority_that_the_root_does_not_have() {
    // Another authority whose logs are the pinned ones.
    let site = Site::new();
    let mixed = Instance {
        authority: Authority::new(&ExtendedKeyUsagePurpose::CodeSigning),
        certificate_log: copy(&site.instance.certificate_log),
        log: copy(&site.instance.log),
        newer_log: copy(&site.instance.newer_log),
    };
    let signature = mixed.sign(&Recipe::default(), ARTIFACT);
    let bundle = signature.bundle(&mixed.entry(&Recipe::default(), &signature.record(ARTIFACT)), ARTIFACT);
    let fault = site.judge(&bundle).unwrap_err();
    assert!(matches!(fault, Fault::Chain { .. }), "{fault}");
    // The root of that authority comes along; it is no anchor for that.
    let mut bundle = bundle;
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1".into();
    let material = bundle["verificationMaterial"].as_object_mut().unwrap();
    let leaf = material.remove("certificate").unwrap();
    let chain = mixed.authority.chain.iter().map(|c| json!({"rawBytes": base64(c.der())}));
    let certificates: Vec<_> = [leaf].into_iter().chain(chain).collect();
    material.insert("x509CertificateChain".into(), json!({"certificates": certificates}));
    let fault = site.judge(&bundle).unwrap_err();
    assert!(matches!(fault, Fault::Chain { .. }), "{fault}");
    // With only the root's end pinned, the chain that comes along makes the path.
    let mut raw = mixed.trusted_root(&[]);
    let certificates = raw["certificateAuthorities"][0]["certChain"]["certificates"].as_array_mut().unwrap();
    certificates.remove(0);
    let top = Site { instance: site.instance, root: TrustedRoot::parse(raw.to_string().as_bytes()).unwrap() };
    top.judge(&bundle).unwrap();
    // An authority that is no longer used.
    raw["certificateAuthorities"][0]["validFor"]["end"] = "2023-06-01T00:00:00Z".into();
    let ended = Site { root: TrustedRoot::parse(raw.to_string().as_bytes()).unwrap(), ..top };
    assert_eq!(ended.judge(&bundle).unwrap_err(), Fault::NoAuthority { time: Timestamp::from_unix(NOW) });
}

fn copy(key: &KeyPair) -> KeyPair {
    KeyPair::try_from(key.serialize_der()).unwrap()
}

#[test]
fn a_log_entry_that_proves_nothing() {
    let site = Site::new();
    let good = site.bundle(&Recipe::default());
    let unsigned = |edit: &dyn Fn(&mut Value)| {
        let mut bundle = good.clone();
        edit(&mut bundle);
        assert_ne!(bundle, good);
        site.judge(&bundle).unwrap_err()
    };
    let of_entry = |field: &str, value: Value| unsigned(&|bundle| entry(bundle)[field] = value.clone());
    let log = id(&site.instance.log);
    // Missing.
    assert_eq!(unsigned(&|b| b["verificationMaterial"]["tlogEntries"] = json!([])), Fault::EntryMissing);
    assert!(matches!(of_entry("inclusionProof", Value::Null), Fault::ProofMissing { .. }));
    assert_eq!(of_entry("inclusionPromise", Value::Null), Fault::TimeMissing);
    let doubled = unsigned(&|b| {
        let one = entry(b).clone();
        b["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(one);
    });
    assert!(matches!(doubled, Fault::Unsupported { .. }), "{doubled}");
    // The promise: of another log, another time, another number, another body; bent.
    let stranger = json!({"keyId": base64(&[7; 32])});
    assert_eq!(of_entry("logId", stranger), Fault::UnknownLog { log: Sha256::from_bytes([7; 32]) });
    assert_eq!(of_entry("integratedTime", (NOW + 1).to_string().into()), Fault::Promise { log });
    assert_eq!(of_entry("logIndex", "1235".into()), Fault::Promise { log });
    assert_eq!(of_entry("canonicalizedBody", base64(b"{}").into()), Fault::Promise { log });
    let other = Instance::new().promise(
        NOW,
        1234,
        &unbase64(good["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"].as_str().unwrap()).unwrap(),
    );
    assert_eq!(of_entry("inclusionPromise", json!({"signedEntryTimestamp": base64(&other)})), Fault::Promise { log });
    // The proof: another place, another step, another head, another log's head.
    let of_proof =
        |field: &str, value: Value| unsigned(&|bundle| entry(bundle)["inclusionProof"][field] = value.clone());
    assert_eq!(of_proof("logIndex", "3".into()), Fault::Inclusion { index: 3, size: 5 });
    assert_eq!(of_proof("logIndex", "5".into()), Fault::Inclusion { index: 5, size: 5 });
    assert_eq!(of_proof("hashes", json!([])), Fault::Inclusion { index: 2, size: 5 });
    assert!(matches!(of_proof("checkpoint", Value::Null), Fault::ProofMissing { .. }));
    assert!(matches!(of_proof("checkpoint", json!({"envelope": "none"})), Fault::Malformed { .. }));
    let head =
        good["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"]["envelope"].as_str().unwrap();
    assert_eq!(of_proof("checkpoint", json!({"envelope": head.replace("\n5\n", "\n6\n")})), Fault::Checkpoint { log });
    let stranger = Site::new().bundle(&Recipe::default());
    let theirs = &stranger["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"];
    assert_eq!(of_proof("checkpoint", theirs.clone()), Fault::Checkpoint { log });
}

#[test]
fn a_sound_entry_of_another_signature() {
    let site = Site::new();
    let (instance, recipe) = (&site.instance, Recipe::default());
    let signature = instance.sign(&recipe, ARTIFACT);
    let other = instance.sign(&recipe, ARTIFACT);
    let with = |body: Value| site.judge(&signature.bundle(&instance.entry(&recipe, &body), ARTIFACT)).unwrap_err();
    let mut certificate = signature.record(ARTIFACT);
    certificate["spec"]["signature"]["publicKey"] = other.record(ARTIFACT)["spec"]["signature"]["publicKey"].clone();
    let mut algorithm = signature.record(ARTIFACT);
    algorithm["spec"]["data"]["hash"]["algorithm"] = "sha1".into();
    for (body, what) in [
        (signature.record(b"TEST other artifact"), "artifact"),
        (other.record(ARTIFACT), "signature"),
        (certificate, "certificate"),
    ] {
        assert_eq!(with(body), Fault::EntryMismatch { what });
    }
    assert!(matches!(with(algorithm), Fault::Unsupported { .. }));
    let mut kind = signature.record(ARTIFACT);
    kind["kind"] = "rekord".into();
    assert!(matches!(with(kind), Fault::Unsupported { .. }));
    // A statement's.
    let payload = statement(ARTIFACT, KIND);
    let signature = instance.sign(&recipe, &encoded(&payload));
    let other = instance.sign(&recipe, &encoded(&payload));
    for body in [signature.dsse(b"{}"), signature.intoto(b"{}"), other.dsse(&payload), other.intoto(&payload)] {
        let bundle = signature.attestation(&instance.entry(&recipe, &body), &payload);
        let fault = site.judge(&bundle).unwrap_err();
        assert!(matches!(fault, Fault::EntryMismatch { .. }), "{fault}");
    }
}

#[test]
fn a_signature_over_something_else() {
    let site = Site::new();
    let (instance, recipe) = (&site.instance, Recipe::default());
    // Of other bytes: the bundle says so, or, where it says nothing, the signature does not verify.
    let signature = instance.sign(&recipe, b"TEST other");
    let mut bundle = signature.bundle(&instance.entry(&recipe, &signature.record(b"TEST other")), b"TEST other");
    let other = Sha256::of(b"TEST other").hex();
    assert_eq!(site.judge(&bundle).unwrap_err(), Fault::Artifact { expected: Sha256::of(ARTIFACT), found: other });
    bundle["messageSignature"].as_object_mut().unwrap().remove("messageDigest");
    assert_eq!(site.judge(&bundle).unwrap_err(), Fault::Signature);
    // A signature that was changed.
    let signature = instance.sign(&recipe, ARTIFACT);
    let mut bundle = signature.bundle(&instance.entry(&recipe, &signature.record(ARTIFACT)), ARTIFACT);
    let mut bent = signature.bytes.clone();
    *bent.last_mut().unwrap() ^= 1;
    bundle["messageSignature"]["signature"] = base64(&bent).into();
    assert_eq!(site.judge(&bundle).unwrap_err(), Fault::Signature);
    // A statement about another artifact, or about nothing; one of another type; two signatures.
    let make = |payload: &[u8]| {
        let signature = instance.sign(&recipe, &encoded(payload));
        signature.attestation(&instance.entry(&recipe, &signature.dsse(payload)), payload)
    };
    let fault = site.judge(&make(&statement(b"TEST other", KIND))).unwrap_err();
    assert!(matches!(fault, Fault::Artifact { .. }), "{fault}");
    let fault = site.judge(&make(br#"{"predicateType":"x","subject":[]}"#)).unwrap_err();
    assert!(matches!(&fault, Fault::Artifact { found, .. } if found == "no digest"), "{fault}");
    let mut bundle = make(&statement(ARTIFACT, KIND));
    bundle["dsseEnvelope"]["payloadType"] = "text/plain".into();
    assert_eq!(site.judge(&bundle).unwrap_err(), Fault::Signature);
    let twice = json!([{"sig": "AAAA"}, {"sig": "AAAA"}]);
    bundle["dsseEnvelope"]["signatures"] = twice;
    assert!(matches!(site.judge(&bundle).unwrap_err(), Fault::Unsupported { .. }));
}

/// Every byte of everything in base64 and every hash of the proof, one bit turned: none of it is verified for nothing.
#[test]
fn every_byte_counts() {
    let site = Site::new();
    let good = site.bundle(&Recipe::default());
    site.judge(&good).unwrap();
    let mut turned = 0;
    for place in [
        "/verificationMaterial/certificate/rawBytes",
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
        "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
        "/verificationMaterial/tlogEntries/0/logId/keyId",
        "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/0",
        "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/2",
        "/messageSignature/signature",
        "/messageSignature/messageDigest/digest",
    ] {
        let bytes = unbase64(good.pointer(place).unwrap().as_str().unwrap()).unwrap();
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1 << (at % 8);
            let mut bundle = good.clone();
            *bundle.pointer_mut(place).unwrap() = base64(&bent).into();
            assert!(site.judge(&bundle).is_err(), "byte {at} of {place}");
            turned += 1;
        }
    }
    assert!(turned > 1500, "{turned}");
}

#[test]
fn bundles_that_are_none() {
    let site = Site::new();
    let good = site.bundle(&Recipe::default());
    for (place, value, kind) in [
        ("/mediaType", json!("application/vnd.dev.sigstore.bundle.v0.9+json"), "Unsupported"),
        ("/verificationMaterial/certificate", json!({"rawBytes": base64(b"none")}), "Malformed"),
        ("/verificationMaterial/certificate", json!({"rawBytes": "?"}), "Malformed"),
        ("/verificationMaterial/tlogEntries/0/logId", json!({"keyId": "AAAA"}), "Malformed"),
        ("/verificationMaterial/tlogEntries/0/logIndex", json!("-1"), "Malformed"),
        ("/messageSignature", Value::Null, "Malformed"),
    ] {
        let mut bundle = good.clone();
        *bundle.pointer_mut(place).unwrap() = value;
        let fault = site.judge(&bundle).unwrap_err();
        assert!(format!("{fault:?}").starts_with(kind), "{place}: {fault:?}");
    }
    let mut key = good.clone();
    key["verificationMaterial"].as_object_mut().unwrap().remove("certificate");
    key["verificationMaterial"]["publicKey"] = json!({"hint": "TEST"});
    assert_eq!(site.judge(&key).unwrap_err(), Fault::NoCertificate);
    key["verificationMaterial"].as_object_mut().unwrap().remove("publicKey");
    assert!(matches!(site.judge(&key).unwrap_err(), Fault::Malformed { .. }));
    // Annotations.
    let signature = site.instance.sign(&Recipe::default(), ARTIFACT);
    let kept = signature.annotations(&site.instance.entry(&Recipe::default(), &signature.record(ARTIFACT)));
    let of = |kept: &Value| Bundle::from_annotations(signature.bytes.clone(), &annotations(kept));
    for name in ["dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle"] {
        let mut bad = kept.clone();
        bad[name] = "TEST".into();
        assert!(matches!(of(&bad).unwrap_err(), Fault::Malformed { .. }), "{name}");
    }
    let mut without = kept;
    without.as_object_mut().unwrap().remove("dev.sigstore.cosign/bundle").unwrap();
    assert_eq!(of(&without).unwrap_err(), Fault::EntryMissing);
}
