//! The chain of custody, judged by a trust root: what is proved and every way in which it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::ErrorKind;
use bundle_format::custody::{Record, Scan, ScanResult, UnverifiedCustody, VerifiedCustody};
use bundle_format::digest::Sha384;
use bundle_format::key::Scheme;
use bundle_format::marking::Marking;
use bundle_format::root::TrustedRoot;
use bundle_format::set::SetList;
use bundle_format::signature::{AlgorithmPolicy, Signature};
use bundle_format::text::{base64, unbase64};
use signing_keys::Signer;
use system_tests::custody::{ENVELOPE, chain, line, record, set};
use system_tests::keys::{self, alice, anchor, bob, mallory, theo, tina};

type IsKind = fn(&ErrorKind) -> bool;

fn list() -> SetList {
    set("SECRET", &[b"one", b"two", b"par"])
}

fn trusted() -> TrustedRoot {
    anchor(&keys::root_with_agents(2, &[&tina(), &theo(), &keys::signer("test-tess", 23)]))
}

fn prove(bytes: &[u8]) -> bundle_format::Result<VerifiedCustody> {
    UnverifiedCustody::parse(bytes)?.verify(&trusted(), AlgorithmPolicy::default())
}

#[track_caller]
fn refused(defect: &str, bytes: &[u8], is_kind: IsKind, code: u8) {
    let error = prove(bytes).expect_err(defect);
    assert!(is_kind(error.kind()), "{defect}: {error}");
    assert_eq!(error.class().exit_code(), code, "{defect}");
}

/// Two hand-overs, each signed by two agents.
fn sound(records: usize) -> Vec<u8> {
    let (tina, theo) = (tina(), theo());
    chain(&list(), &vec![&[&tina, &theo][..]; records]).to_bytes().unwrap()
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// A line with one text of its payload replaced; the signatures stay.
fn tampered(line: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(line).unwrap();
    let payload = text.split_once("\"payload\":\"").unwrap().1.split_once('"').unwrap().0;
    let plain = String::from_utf8(unbase64(payload).unwrap()).unwrap();
    assert!(plain.contains(from), "{from}");
    text.replace(payload, &base64(plain.replace(from, to).as_bytes())).into_bytes()
}

#[test]
fn a_chain_of_two_hand_overs_is_proved() {
    let verified = prove(&sound(2)).unwrap();
    assert_eq!(verified.records().len(), 2);
    assert_eq!(verified.signers(), [["test-theo", "test-tina"], ["test-theo", "test-tina"]]);
    verified.check_files(&list()).unwrap();
    verified.check_manifest(&Sha384::of(b"TEST manifest")).unwrap();
    let on_hand: Vec<_> = list().files.into_iter().map(|file| (file.name, file.size, file.sha384)).collect();
    assert_eq!(verified.differences(&on_hand), []);
}

#[test]
fn records_changed_removed_and_moved() {
    let bad_signature: IsKind = |k| matches!(k, ErrorKind::BadSignature { .. });
    let broken: IsKind = |k| matches!(k, ErrorKind::CustodyChain { .. });
    let good = lines(&sound(3));
    for (from, to) in
        [("TEST office", "TEST offices"), ("TEST-1", "TEST-2"), ("\"finalised\":true", "\"finalised\":false")]
    {
        let first = tampered(&good[0], from, to);
        refused(from, &[first, good[1].clone(), good[2].clone()].concat(), bad_signature, 4);
    }
    for order in [&[1, 2][..], &[0, 2], &[1, 0, 2], &[0, 2, 1], &[0, 0, 1]] {
        let moved: Vec<u8> = order.iter().flat_map(|at| good[*at].clone()).collect();
        refused(&format!("{order:?}"), &moved, broken, 4);
    }
    // What a chain alone cannot show, and the paper does: that its end was cut off.
    assert_eq!(prove(&good[..2].concat()).unwrap().records().len(), 2);
    // A former record signed anew, its successor left as it was.
    let again = lines(&sound(1));
    refused("record 1 signed again", &[again[0].clone(), good[1].clone()].concat(), broken, 4);
    let (tina, theo) = (tina(), theo());
    let other = SetList { set: "ff".repeat(16), ..list() };
    let next = record(&other, 2, Some(Sha384::of(&good[0])));
    refused("a record of another set", &[good[0].clone(), line(&next, &[&tina, &theo])].concat(), broken, 4);
    let changed = set("SECRET", &[b"one", b"TWO", b"par"]);
    let next = record(&changed, 2, Some(Sha384::of(&good[0])));
    let bytes = [good[0].clone(), line(&next, &[&tina, &theo])].concat();
    refused("a file changed between hand-overs", &bytes, |k| matches!(k, ErrorKind::FileDiffers { .. }), 3);
}

#[test]
fn too_few_and_wrong_signers() {
    let (tina, theo) = (tina(), theo());
    let one = |signers: &[&Signer]| chain(&list(), &[signers]).to_bytes().unwrap();
    let found = |wanted: usize| move |k: &ErrorKind| matches!(k, ErrorKind::Threshold { role: "transfer", needed: 2, found, .. } if *found == wanted);
    for (defect, signers, count) in [
        ("nobody", &[][..], 0),
        ("one agent", &[&tina], 1),
        ("one agent twice", &[&tina, &tina], 1),
        ("release signers", &[&alice(), &bob()], 0),
        ("an agent and a release signer", &[&tina, &alice()], 1),
    ] {
        let error = prove(&one(signers)).expect_err(defect);
        assert!(found(count)(error.kind()), "{defect}: {error}");
        assert_eq!(error.class().exit_code(), 4);
    }
    refused("a stranger", &one(&[&tina, &theo, &mallory()]), |k| matches!(k, ErrorKind::UnknownKey { .. }), 4);
    let first = record(&list(), 1, None);
    let doubled = line(&first, &[&tina, &tina]);
    refused("one signature twice in the file", &doubled, |k| matches!(k, ErrorKind::NotCanonical { .. }), 3);
    let payload = String::from_utf8(bundle_format::json::to_bytes("r", &first).unwrap()).unwrap();
    let comment = format!("lockgate custody set={} record=1 sha384={}", first.set, Sha384::of(payload.as_bytes()));
    let signatures = |comment: &str| -> Vec<Signature> {
        [&tina, &theo].iter().flat_map(|signer| signer.sign(payload.as_bytes(), comment).unwrap()).collect()
    };
    prove(&keys::envelope_file(ENVELOPE, &payload, signatures(&comment))).unwrap();
    let other = keys::envelope_file(ENVELOPE, &payload, signatures("lockgate custody of another set"));
    refused("another comment", &other, |k| matches!(k, ErrorKind::BadValue { .. }), 3);
    let stripped = signatures(&comment).into_iter().filter(|s| s.scheme() == Scheme::Ed25519).collect();
    let stripped = keys::envelope_file(ENVELOPE, &payload, stripped);
    refused(
        "ML-DSA stripped",
        &stripped,
        |k| matches!(k, ErrorKind::Threshold { scheme: "ml-dsa-87", found: 0, .. }),
        4,
    );
    for signers in [&[&tina, &theo][..], &[]] {
        let chain = UnverifiedCustody::parse(&one(signers)).unwrap();
        let error = chain.verify(&anchor(&keys::two_of_three()), AlgorithmPolicy::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RoleMissing { role: "transfer", .. }), "{error}");
    }
}

#[test]
fn soundly_signed_and_still_refused() {
    let (tina, theo) = (tina(), theo());
    let with = |edit: &dyn Fn(&mut Record)| {
        let mut record = record(&list(), 1, None);
        edit(&mut record);
        line(&record, &[&tina, &theo])
    };
    let scan = |result| Scan {
        scanner: "clamscan".into(),
        version: "TEST".into(),
        signatures: "TEST".into(),
        at: bundle_format::timestamp::Timestamp::from_unix(0),
        result,
        report_sha384: Sha384::of(b"TEST"),
    };
    let low = with(&|r| {
        r.to.marking = Marking::UNCLASSIFIED;
        r.direction = bundle_format::custody::Direction::HighToLow;
    });
    refused("SECRET set to an UNCLASSIFIED system", &low, |k| matches!(k, ErrorKind::CustodyMarking { .. }), 5);
    for result in [ScanResult::Infected, ScanResult::Error] {
        let bytes = with(&|r| r.scans.push(scan(result)));
        refused(result.name(), &bytes, |k| matches!(k, ErrorKind::ScanNotClean { .. }), 5);
    }
    prove(&with(&|r| r.scans.push(scan(ScanResult::Clean)))).unwrap();
    let same = with(&|r| r.people.receiver.id = "1".into());
    refused("one person", &same, |k| matches!(k, ErrorKind::SamePerson { .. }), 5);
    prove(&with(&|r| r.people.giver.holder = Some("test-tina".into()))).unwrap();
    let absent = with(&|r| r.people.receiver.holder = Some("test-tess".into()));
    refused(
        "a person who did not sign",
        &absent,
        |k| matches!(k, ErrorKind::NotSignedBy { person: "receiver", .. }),
        4,
    );
    refused(
        "unknown field",
        &tampered(&with(&|_| ()), "\"number\":1", "\"number\":1,\"x\":1"),
        |k| matches!(k, ErrorKind::Json { .. }),
        3,
    );
}

#[test]
fn the_high_sides_policy() {
    use installer::ErrorKind as High;
    let folder = tempfile::tempdir().unwrap();
    let manifest = Sha384::of(b"TEST manifest");
    let without = anchor(&keys::two_of_three());
    let verify = |trusted: &TrustedRoot, manifest: &Sha384, files: &[installer::custody::OnHand]| {
        installer::custody::verify(folder.path(), trusted, manifest, files)
    };
    assert_eq!(installer::custody::unverifiable(folder.path(), &without), None);
    assert_eq!(verify(&without, &manifest, &[]).unwrap(), None);
    let error = verify(&trusted(), &manifest, &[]).unwrap_err();
    assert!(matches!(error.kind(), High::CustodyMissing { .. }), "{error}");
    assert_eq!(error.class().exit_code(), 4);

    std::fs::write(folder.path().join("custody.jsonl"), sound(2)).unwrap();
    assert_eq!(verify(&without, &manifest, &[]).unwrap(), None, "a root without agents proves no chain");
    assert_eq!(
        installer::custody::unverifiable(folder.path(), &without),
        Some("chain of custody: not verifiable: the trust root names no transfer agents")
    );
    assert_eq!(installer::custody::unverifiable(folder.path(), &trusted()), None);
    let file = |at: usize, content: &[u8]| (list().files[at].name.clone(), content.len() as u64, Sha384::of(content));
    let verified = verify(&trusted(), &manifest, &[file(0, b"one"), file(2, b"par")]).unwrap().unwrap();
    assert_eq!(verified.records().len(), 2);
    assert_eq!(installer::custody::lines(&verified).len(), 4);
    let chain_file = folder.path().join("custody.jsonl");
    assert!(installer::custody::verify(&chain_file, &trusted(), &manifest, &[]).unwrap().is_some());
    let format = |error: &installer::Error, is_kind: IsKind| matches!(error.kind(), High::Format(inner) if is_kind(inner.kind()));
    for files in [vec![file(0, b"ONE")], vec![file(0, b"one"), ("stray".into(), 1, manifest)]] {
        let error = verify(&trusted(), &manifest, &files).unwrap_err();
        assert!(format(&error, |k| matches!(k, ErrorKind::FileDiffers { .. })), "{error}");
        assert_eq!(error.class().exit_code(), 3);
    }
    let error = verify(&trusted(), &Sha384::of(b"other"), &[]).unwrap_err();
    assert!(format(&error, |k| matches!(k, ErrorKind::BadValue { .. })), "{error}");
}

#[test]
fn a_flipped_bit_or_a_cut_anywhere_is_refused() {
    let good = sound(1);
    prove(&good).unwrap();
    // Every thirty-first byte, each time another bit: all parts of the line are met within seconds.
    for at in (0..good.len()).step_by(31) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(prove(&bad).is_err(), "byte {at}");
        assert!(prove(&good[..at]).is_err(), "cut at {at}");
    }
    assert!(prove(&[&good[..], b"\n"].concat()).is_err(), "an empty line behind");
    assert!(prove(&[&good[..], b"x"].concat()).is_err(), "bytes behind");
}
