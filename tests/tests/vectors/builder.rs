//! Bundles under a root that tells builders from releasers (R-SIG-12, R-ROOT-11).

use bundle_format::key::Scheme;
use bundle_format::signature::AlgorithmPolicy;
use signing_keys::Signer;
use system_tests::{Draft, keys, prove, prove_with};

use crate::{refuse_all_with, vector};

/// The small bundle under a root of two of three releasers and one of two builders.
fn draft(signers: Vec<Signer>) -> Draft {
    let roots = vec![keys::root_with_builders(1, &[&keys::bella(), &keys::boris()])];
    Draft { roots, signers, ..Draft::small() }
}

fn without(scheme: Scheme, of: &Signer) -> Vec<u8> {
    let draft = draft(vec![keys::alice(), keys::bob(), keys::bella()]);
    let text = draft.text().into_bytes();
    let mut signatures = draft.signatures(&text);
    signatures.retain(|signature| signature.key != keys::key_id(of, scheme));
    draft.sealed_with(text, signatures).archive()
}

#[test]
fn both_hands_sign() {
    for builder in [keys::bella(), keys::boris()] {
        let draft = draft(vec![keys::alice(), keys::bob(), builder]);
        prove(&draft.archive(), &draft.trusted()).unwrap();
    }
    let draft = draft(vec![keys::alice(), keys::bob(), keys::bella()]);
    let archive = draft.archive();
    for policy in [AlgorithmPolicy::Cnsa2, AlgorithmPolicy::Ed25519] {
        prove_with(&archive, &draft.trusted(), policy).unwrap();
    }
    // Where the root does not name builders their signature is a stranger's.
    let plain = Draft { roots: vec![keys::two_of_three()], ..draft };
    refuse_all_with(
        vec![vector!("builder unknown to the root", UnknownKey, "does not list", plain.archive())],
        &plain.trusted(),
        AlgorithmPolicy::Hybrid,
    );
}

#[test]
fn one_hand_is_not_enough() {
    let (alice, bob, carol, bella, boris) = (keys::alice, keys::bob, keys::carol, keys::bella, keys::boris);
    let trusted = draft(Vec::new()).trusted();
    let vectors = vec![
        vector!("no builder", Threshold, "role builder needs 1", draft(vec![alice(), bob()]).archive()),
        vector!("all releasers, no builder", Threshold, "role builder needs 1", {
            draft(vec![alice(), bob(), carol()]).archive()
        }),
        vector!("builders alone", Threshold, "role release needs 2", draft(vec![bella(), boris()]).archive()),
        vector!("a builder in a releaser's place", Threshold, "role release needs 2", {
            draft(vec![alice(), bella(), boris()]).archive()
        }),
        vector!("builder's ML-DSA stripped", Threshold, "role builder needs 1 distinct ml-dsa-87", {
            without(Scheme::MlDsa87, &bella())
        }),
        vector!("builder's Ed25519 stripped", Threshold, "role builder needs 1 distinct ed25519", {
            without(Scheme::Ed25519, &bella())
        }),
        vector!("one releaser's ML-DSA stripped", Threshold, "role release needs 2 distinct ml-dsa-87", {
            without(Scheme::MlDsa87, &bob())
        }),
        vector!("a stranger as builder", UnknownKey, "does not list", {
            draft(vec![alice(), bob(), keys::mallory()]).archive()
        }),
    ];
    refuse_all_with(vectors, &trusted, AlgorithmPolicy::Hybrid);
    let one = |policy, scheme, says| {
        let vectors = vec![crate::Vector { says, ..vector!("stripped", Threshold, "", without(scheme, &bella())) }];
        refuse_all_with(vectors, &trusted, policy);
        let other = if scheme == Scheme::MlDsa87 { Scheme::Ed25519 } else { Scheme::MlDsa87 };
        prove_with(&without(other, &bella()), &trusted, policy).unwrap();
    };
    one(AlgorithmPolicy::Cnsa2, Scheme::MlDsa87, "role builder needs 1 distinct ml-dsa-87");
    one(AlgorithmPolicy::Ed25519, Scheme::Ed25519, "role builder needs 1 distinct ed25519");
}
