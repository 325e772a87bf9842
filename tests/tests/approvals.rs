//! Two persons' approvals of a plan: every way in which they are not two persons, or not of this plan.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::approval::{Approval, PlanDocument, UnverifiedApproval, verify};
use bundle_format::digest::Sha384;
use bundle_format::key::Scheme;
use bundle_format::root::TrustedRoot;
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::timestamp::Timestamp;
use bundle_format::{ErrorKind, Result};
use signing_keys::Signer;
use system_tests::keys::{self, ada, amos, anchor, envelope_file};

const NOW: &str = "2026-11-25T12:00:00Z";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn plan() -> Sha384 {
    Sha384::of(b"TEST plan")
}

fn trusted() -> TrustedRoot {
    anchor(&keys::root_with_approvers())
}

/// `signers`' signatures under `holder`'s name.
fn approval(holder: &str, signers: &[&Signer], plan: Sha384, time: &str) -> UnverifiedApproval {
    let mut made = UnverifiedApproval::new(Approval::new(plan, holder, "TEST reason", at(time)).unwrap()).unwrap();
    for signer in signers {
        signer.sign_approval(&mut made).unwrap();
    }
    made
}

fn own(signer: &Signer) -> UnverifiedApproval {
    approval(signer.name(), &[signer], plan(), NOW)
}

/// With the signature of one scheme alone.
fn half(signer: &Signer, scheme: Scheme) -> UnverifiedApproval {
    let mut made = approval(signer.name(), &[], plan(), NOW);
    let both = signer.sign(made.document(), &made.comment()).unwrap();
    made.add(both.into_iter().find(|signature| signature.scheme() == scheme).unwrap());
    made
}

fn judge(approvals: &[UnverifiedApproval]) -> Result<()> {
    verify(approvals, &plan(), &trusted(), AlgorithmPolicy::Hybrid, &at(NOW)).map(drop)
}

type IsKind = fn(&ErrorKind) -> bool;

#[track_caller]
fn refused(defect: &str, approvals: &[UnverifiedApproval], is_kind: IsKind) {
    let error = judge(approvals).expect_err(defect);
    assert!(is_kind(error.kind()), "{defect}: {error}");
}

#[test]
fn two_persons() {
    let proved = verify(&[own(&ada()), own(&amos())], &plan(), &trusted(), AlgorithmPolicy::Hybrid, &at(NOW)).unwrap();
    let told: Vec<_> = proved.approvals().iter().map(|a| (a.holder(), a.reason(), a.at().as_str())).collect();
    assert_eq!(told, [("test-ada", "TEST reason", NOW), ("test-amos", "TEST reason", NOW)]);
    for (policy, scheme) in [(AlgorithmPolicy::Cnsa2, Scheme::MlDsa87), (AlgorithmPolicy::Ed25519, Scheme::Ed25519)] {
        let halves = [half(&ada(), scheme), half(&amos(), scheme)];
        verify(&halves, &plan(), &trusted(), policy, &at(NOW)).unwrap();
        refused("one algorithm", &halves, |k| matches!(k, ErrorKind::Threshold { role: "approve", .. }));
    }
    let file = own(&ada()).to_bytes().unwrap();
    assert_eq!(UnverifiedApproval::parse(&file).unwrap().to_bytes().unwrap(), file);
}

#[test]
fn not_two_persons() {
    let threshold: IsKind = |k| matches!(k, ErrorKind::Threshold { role: "approve", needed: 2, .. });
    let doubled: IsKind = |k| matches!(k, ErrorKind::DuplicateSignature { .. });
    let other_reason = {
        let text = Approval::new(plan(), "test-ada", "another TEST reason", at(NOW)).unwrap();
        let mut made = UnverifiedApproval::new(text).unwrap();
        ada().sign_approval(&mut made).unwrap();
        made
    };
    refused("nobody", &[], threshold);
    refused("one of two", &[own(&ada())], threshold);
    refused("the same file twice", &[own(&ada()), own(&ada())], doubled);
    refused("the same key over two texts", &[own(&ada()), other_reason], doubled);
    refused(
        "one person, one algorithm each",
        &[half(&ada(), Scheme::Ed25519), half(&ada(), Scheme::MlDsa87)],
        threshold,
    );
    refused(
        "one person as two beside another",
        &[half(&ada(), Scheme::Ed25519), half(&ada(), Scheme::MlDsa87), own(&amos())],
        |k| matches!(k, ErrorKind::ApprovalSamePerson { holder } if holder == "test-ada"),
    );
    refused("another's name", &[own(&ada()), approval("test-ada", &[&amos()], plan(), NOW)], |k| {
        matches!(k, ErrorKind::ApprovalHolder { .. })
    });
    refused("two on one text", &[approval("test-ada", &[&ada(), &amos()], plan(), NOW)], |k| {
        matches!(k, ErrorKind::ApprovalHolder { .. })
    });
    refused("a release signer", &[own(&ada()), own(&keys::alice())], threshold);
    refused("a stranger", &[own(&ada()), own(&keys::mallory())], |k| matches!(k, ErrorKind::UnknownKey { .. }));
    refused("a stranger besides", &[own(&ada()), own(&amos()), own(&keys::mallory())], |k| {
        matches!(k, ErrorKind::UnknownKey { .. })
    });

    // Amos was taken out since.
    let (abe, root) = (keys::signer("test-abe", 43), keys::root(1, 2, &[&keys::alice(), &keys::bob()]));
    let without = keys::signed_by_two(root.with_approve(2, &keys::holders(&[&ada(), &abe])).unwrap());
    let both = [own(&ada()), own(&amos())];
    let error = verify(&both, &plan(), &anchor(&without), AlgorithmPolicy::Hybrid, &at(NOW)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownKey { .. }), "{error}");
    let plain = anchor(&keys::two_of_three());
    let error = verify(&[], &plan(), &plain, AlgorithmPolicy::Hybrid, &at(NOW)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RoleMissing { role: "approve", .. }), "{error}");
}

#[test]
fn another_plan_another_day() {
    let other = Sha384::of(b"another TEST plan");
    let first = own(&ada());
    refused(
        "the plan changed after the first",
        &[first.clone(), approval("test-amos", &[&amos()], other, NOW)],
        |k| matches!(k, ErrorKind::ApprovalPlan { holder, .. } if holder == "test-amos"),
    );
    for (time, good) in [
        ("2026-11-24T12:00:00Z", true),
        ("2026-11-24T11:59:59Z", false),
        ("2026-11-26T12:00:00Z", true),
        ("2026-11-26T12:00:01Z", false),
    ] {
        let judged = judge(&[first.clone(), approval("test-amos", &[&amos()], plan(), time)]);
        match judged {
            Ok(()) => assert!(good, "{time}"),
            Err(error) => {
                assert!(!good && matches!(error.kind(), ErrorKind::ApprovalStale { hours: 24, .. }), "{error}");
            }
        }
    }
    let mut moved = own(&amos());
    moved.add(amos().sign(moved.document(), "lockgate approval plan=other").unwrap()[0].clone());
    refused("signed comment about something else", &[first, moved], |k| matches!(k, ErrorKind::BadValue { .. }));
}

#[test]
fn files_that_are_no_approvals() {
    let text = |from: &str, to: &str| {
        let document = String::from_utf8(own(&ada()).document().to_vec()).unwrap();
        assert!(document.contains(from), "{document}");
        let document = document.replace(from, to);
        let signatures = ada().sign(document.as_bytes(), "TEST").unwrap().to_vec();
        UnverifiedApproval::parse(&envelope_file("lockgate-approval-envelope/1", &document, signatures))
    };
    let is = |result: Result<UnverifiedApproval>, is_kind: IsKind, defect: &str| {
        let error = result.expect_err(defect);
        assert!(is_kind(error.kind()), "{defect}: {error}");
    };
    is(text("approval/1", "approval/2"), |k| matches!(k, ErrorKind::UnknownFormat { .. }), "format");
    is(text("test-ada", "Test Ada"), |k| matches!(k, ErrorKind::BadName { .. }), "holder");
    is(text("TEST reason", " "), |k| matches!(k, ErrorKind::BadValue { .. }), "no reason");
    is(text("TEST reason", "a\\nb"), |k| matches!(k, ErrorKind::BadValue { .. }), "two lines");
    is(text("\"reason\"", "\"x\":1,\"reason\""), |k| matches!(k, ErrorKind::Json { .. }), "unknown field");
    is(text(":\"TEST", ": \"TEST"), |k| matches!(k, ErrorKind::NotCanonical { .. }), "space");
    is(text("T12:00:00Z", "T12:00:00+00:00"), |k| matches!(k, ErrorKind::Json { .. }), "time");
    let large = vec![b' '; 70_000];
    is(UnverifiedApproval::parse(&large), |k| matches!(k, ErrorKind::TooLarge { .. }), "large");
    let error = PlanDocument::parse(&large).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
}
