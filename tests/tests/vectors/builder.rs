//! Bundles under a root that tells builders from releasers (R-SIG-12, R-ROOT-11).

use bundle_format::key::Scheme;
use bundle_format::signature::AlgorithmPolicy;
use signing_keys::Signer;
use system_tests::{Draft, keys, prove, prove_with};

use crate::{Vector, breaks, under, vector};

/// The small bundle under a root of two of three releasers and one of two builders.
pub(crate) fn draft(signers: Vec<Signer>) -> Draft {
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

pub(crate) fn vectors() -> Vec<Vector> {
    let (alice, bob, carol, bella, boris) = (keys::alice, keys::bob, keys::carol, keys::bella, keys::boris);
    let trusted = draft(Vec::new()).trusted();
    let of = |signers: Vec<Signer>| draft(signers).archive();
    let hybrid = vec![
        vector!("no builder", Threshold, "role builder needs 1", of(vec![alice(), bob()])),
        vector!("all releasers, no builder", Threshold, "role builder needs 1", of(vec![alice(), bob(), carol()])),
        vector!("builders alone", Threshold, "role release needs 2", of(vec![bella(), boris()])),
        vector!("a builder in a releaser's place", Threshold, "role release needs 2", {
            of(vec![alice(), bella(), boris()])
        }),
        vector!("builder's ML-DSA stripped", Threshold, "role builder needs 1 distinct ml-dsa-87", {
            without(Scheme::MlDsa87, &bella())
        }),
        vector!("builder's Ed25519 stripped", Threshold, "role builder needs 1 distinct ed25519", {
            without(Scheme::Ed25519, &bella())
        }),
        vector!("one releaser's ML-DSA stripped beside a builder", Threshold, "role release needs 2", {
            without(Scheme::MlDsa87, &bob())
        }),
    ];
    let cnsa2 = vec![vector!("CNSA 2.0 site, builder without ML-DSA", Threshold, "role builder needs 1 distinct", {
        without(Scheme::MlDsa87, &bella())
    })];
    let classic = vec![vector!("Ed25519 site, builder without Ed25519", Threshold, "role builder needs 1 distinct", {
        without(Scheme::Ed25519, &bella())
    })];
    let strangers = vec![vector!("a stranger as builder", UnknownKey, "does not list", {
        of(vec![alice(), bob(), keys::mallory()])
    })];
    // Where the root does not name builders their signature is a stranger's.
    let plain = Draft { roots: vec![keys::two_of_three()], ..draft(vec![alice(), bob(), bella()]) };
    let unnamed = vec![vector!("builder unknown to the root", UnknownKey, "does not list", plain.archive())];
    [
        breaks(&["R-SIG-12", "R-SIG-10"], under(&trusted, AlgorithmPolicy::Hybrid, hybrid)),
        breaks(&["R-SIG-12", "R-SIG-10"], under(&trusted, AlgorithmPolicy::Cnsa2, cnsa2)),
        breaks(&["R-SIG-12", "R-SIG-10"], under(&trusted, AlgorithmPolicy::Ed25519, classic)),
        breaks(&["R-SIG-8"], under(&trusted, AlgorithmPolicy::Hybrid, strangers)),
        breaks(&["R-SIG-8"], unnamed),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn both_hands_sign() {
    for builder in [keys::bella(), keys::boris()] {
        let draft = draft(vec![keys::alice(), keys::bob(), builder]);
        prove(&draft.archive(), &draft.trusted()).unwrap();
    }
    let draft = draft(vec![keys::alice(), keys::bob(), keys::bella()]);
    for policy in [AlgorithmPolicy::Cnsa2, AlgorithmPolicy::Ed25519] {
        prove_with(&draft.archive(), &draft.trusted(), policy).unwrap();
        // Half of the builder's pair is enough for a site that asks for that half.
        let needless = if policy == AlgorithmPolicy::Cnsa2 { Scheme::Ed25519 } else { Scheme::MlDsa87 };
        prove_with(&without(needless, &keys::bella()), &draft.trusted(), policy).unwrap();
    }
}
