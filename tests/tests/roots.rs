//! The chain of trust roots: rotation that is accepted, and every way in which it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::ErrorKind;
use bundle_format::envelope::{UnverifiedEnvelope, VerifiedManifest};
use bundle_format::key::{KeyId, Scheme};
use bundle_format::root::{Holder, RootEnvelope, SequenceReset, TrustRoot, TrustedRoot, apply_chain};
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;
use system_tests::keys::{
    self, alice, anchor, bob, carol, mallory, payload, root, root_file, root_file_of, signed_root,
};
use system_tests::{Draft, prove, ustar};

fn dave() -> Signer {
    keys::signer("test-dave", 4)
}

/// Version 1: alice, bob, carol. Version 2: bob, carol, dave. Version 3: carol, dave, mallory.
fn rotation() -> Vec<RootEnvelope> {
    vec![
        keys::two_of_three(),
        signed_root(2, 2, &[&bob(), &carol(), &dave()], &[&bob(), &carol()]),
        signed_root(3, 2, &[&carol(), &dave(), &mallory()], &[&carol(), &dave()]),
    ]
}

/// Which error is meant.
type IsKind = fn(&ErrorKind) -> bool;

fn trust_at(chain: &[RootEnvelope], version: usize) -> TrustedRoot {
    chain[1..version].iter().fold(anchor(&chain[0]), |trusted, next| trusted.advance(next).unwrap())
}

#[test]
fn rotation_is_followed_from_any_version() {
    let chain = rotation();
    for version in 1..=3 {
        assert_eq!(apply_chain(&trust_at(&chain, version), &chain).unwrap().root().version(), 3);
    }
    let bundle = |signers| Draft { roots: rotation(), signers, ..Draft::small() }.archive();
    let new = bundle(vec![dave(), mallory()]);
    for version in 1..=3 {
        prove(&new, &trust_at(&chain, version)).unwrap();
    }
    // The keys of version 1 went with it.
    let old = bundle(vec![alice(), bob()]);
    let error = prove(&old, &trust_at(&chain, 1)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownKey { root: 3, .. }), "{error}");
}

#[test]
fn an_older_chain_is_judged_by_the_trusted_root() {
    let chain = rotation();
    let trusted = trust_at(&chain, 2);
    let bundle = |signers| Draft { roots: rotation()[..1].to_vec(), signers, ..Draft::small() }.archive();
    prove(&bundle(vec![bob(), carol()]), &trusted).unwrap();
    let error = prove(&bundle(vec![alice(), bob()]), &trusted).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownKey { root: 2, .. }), "{error}");
}

/// Asserts how a chain from version 1 on is refused by a site that trusts version 1.
fn refused(defect: &str, chain: &[RootEnvelope], is_kind: IsKind) {
    let error = apply_chain(&anchor(&keys::two_of_three()), chain).expect_err(defect);
    assert!(is_kind(error.kind()), "{defect}: {error}");
}

#[test]
fn broken_chains() {
    let one = keys::two_of_three;
    let holders = || [bob(), carol(), dave()];
    let two = |version: u64, signers: &[Signer]| {
        let holders = holders();
        signed_root(version, 2, &holders.iter().collect::<Vec<_>>(), &signers.iter().collect::<Vec<_>>())
    };
    let good = two(2, &[bob(), carol()]);
    refused("no chain", &[], |k| matches!(k, ErrorKind::RootVersion { expected: 1, found: 0 }));
    refused("starts at 2", std::slice::from_ref(&good), |k| {
        matches!(k, ErrorKind::RootVersion { expected: 1, found: 2 })
    });
    refused("gap", &[one(), two(3, &[bob(), carol()])], |k| {
        matches!(k, ErrorKind::RootVersion { expected: 2, found: 3 })
    });
    refused("same version again", &[one(), one()], |k| matches!(k, ErrorKind::RootVersion { expected: 2, found: 1 }));
    refused("falls back", &[one(), good.clone(), one()], |k| {
        matches!(k, ErrorKind::RootVersion { expected: 3, found: 1 })
    });
    refused("unsigned", &[one(), two(2, &[])], |k| matches!(k, ErrorKind::Threshold { root: 1, found: 0, .. }));
    refused("below the old threshold", &[one(), two(2, &[carol(), dave()])], |k| {
        matches!(k, ErrorKind::Threshold { root: 1, needed: 2, found: 1, .. })
    });
    refused("below the new threshold", &[one(), two(2, &[alice(), bob()])], |k| {
        matches!(k, ErrorKind::Threshold { root: 2, needed: 2, found: 1, .. })
    });
    refused("signed by the new keys alone", &[one(), signed_root(2, 1, &[&dave()], &[&dave()])], |k| {
        matches!(k, ErrorKind::Threshold { root: 1, found: 0, .. })
    });
    refused("a stranger besides", &[one(), two(2, &[bob(), carol(), mallory()])], |k| {
        matches!(k, ErrorKind::UnknownKey { root: 2, .. })
    });
    let other = signed_root(1, 1, &[&alice(), &bob(), &carol()], &[&alice()]);
    refused("other bytes for the trusted version", &[other], |k| {
        matches!(k, ErrorKind::UnknownRoot { version: 1, .. })
    });
    refused("another office's root", &[signed_root(1, 1, &[&mallory()], &[&mallory()])], |k| {
        matches!(k, ErrorKind::UnknownRoot { version: 1, .. })
    });
    refused(
        "version 1 below its own threshold",
        &[signed_root(1, 2, &[&alice(), &bob(), &carol()], &[&alice()])],
        |k| matches!(k, ErrorKind::Threshold { root: 1, needed: 2, found: 1, .. }),
    );
    let text = payload(good.claimed());
    // Enough of both versions' keys are said to have signed (R-ROOT-17), but it was version 1 that they signed.
    let all = [&alice(), &bob(), &carol()];
    let borrowed = root_file_of(&text, signed_root(1, 2, &all, &all).signatures().to_vec());
    refused("signatures of the former root", &[one(), RootEnvelope::parse(&borrowed).unwrap()], |k| {
        matches!(k, ErrorKind::BadSignature { .. })
    });
    let only = |scheme: Scheme| {
        let kept = good.signatures().iter().filter(|s| s.scheme() == scheme).cloned().collect();
        RootEnvelope::parse(&root_file_of(&text, kept)).unwrap()
    };
    refused("ML-DSA stripped", &[one(), only(Scheme::Ed25519)], |k| {
        matches!(k, ErrorKind::Threshold { scheme: "ml-dsa-87", found: 0, .. })
    });
    refused("Ed25519 stripped", &[one(), only(Scheme::MlDsa87)], |k| {
        matches!(k, ErrorKind::Threshold { scheme: "ed25519", found: 0, .. })
    });
}

#[test]
fn a_fork_behind_the_trusted_version_is_refused() {
    let chain = rotation();
    let fork = vec![
        keys::two_of_three(),
        signed_root(2, 2, &[&alice(), &bob(), &mallory()], &[&alice(), &bob()]),
        signed_root(3, 2, &[&alice(), &mallory()], &[&alice(), &mallory()]),
    ];
    let error = apply_chain(&trust_at(&chain, 2), &fork).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownRoot { version: 2, .. }), "{error}");
}

#[test]
fn an_anchor_needs_its_fingerprint_and_its_signatures() {
    let (good, other) = (keys::two_of_three(), root(2, 2, &[&alice(), &bob()]).fingerprint());
    assert!(matches!(TrustedRoot::anchor(&good, &other).unwrap_err().kind(), ErrorKind::UnknownRoot { .. }));
    let unsigned = RootEnvelope::unsigned(good.claimed().clone());
    let fingerprint = unsigned.claimed().fingerprint();
    assert!(matches!(TrustedRoot::anchor(&unsigned, &fingerprint).unwrap_err().kind(), ErrorKind::Threshold { .. }));
}

#[test]
fn an_anchor_may_have_signatures_of_the_version_before_and_no_others() {
    let (alice, bob, carol, mallory) = (alice(), bob(), carol(), mallory());
    // Alice left with version 2 and signed it for those who come from version 1.
    let second = signed_root(2, 2, &[&bob, &carol, &dave()], &[&alice, &bob, &carol]);
    assert_eq!(anchor(&second).root(), second.claimed());
    // Nothing comes before version 1.
    let first = signed_root(1, 2, &[&alice, &bob, &carol], &[&alice, &bob, &mallory]);
    let error = TrustedRoot::anchor(&first, &first.claimed().fingerprint()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownKey { root: 1, .. }), "{error}");
}

/// Asserts how a root's payload with one part replaced is refused, signed anew.
fn bad_payload(defect: &str, from: &str, to: &str, is_kind: IsKind) {
    let text = payload(&root(1, 2, &[&alice(), &bob()]));
    assert!(text.contains(from), "{defect}: {from}");
    let file = root_file(&text.replace(from, to), &[&alice(), &bob()]);
    let error = RootEnvelope::parse(&file).expect_err(defect);
    assert!(is_kind(error.kind()), "{defect}: {error}");
}

#[test]
fn inconsistent_roots() {
    let inconsistent: IsKind = |k| matches!(k, ErrorKind::Inconsistent { .. });
    let id = |signer: &Signer| keys::key_id(signer, Scheme::Ed25519).to_string();
    let (alices, bobs) = (id(&alice()), id(&bob()));
    bad_payload("threshold 0", "\"threshold\":2", "\"threshold\":0", inconsistent);
    bad_payload("threshold over the keys", "\"threshold\":2", "\"threshold\":3", inconsistent);
    bad_payload("threshold below zero", "\"threshold\":2", "\"threshold\":-1", |k| matches!(k, ErrorKind::Json { .. }));
    bad_payload("version 0", "\"version\":1", "\"version\":0", inconsistent);
    bad_payload("key under another id", &format!("\"id\":\"{alices}\""), "\"id\":\"0011223344556677\"", inconsistent);
    bad_payload(
        "role names a key twice",
        &format!("[\"{alices}\""),
        &format!("[\"{alices}\",\"{alices}\""),
        inconsistent,
    );
    bad_payload("role names no key of the root", &format!("[\"{alices}\""), "[\"0011223344556677\"", inconsistent);
    bad_payload("two keys with one id", &format!("\"id\":\"{bobs}\""), &format!("\"id\":\"{alices}\""), inconsistent);
    bad_payload("holder with an escape sequence", "test-alice", "test\\u001b[2J", |k| {
        matches!(k, ErrorKind::BadName { .. })
    });
    bad_payload("other format", "lockgate-root/1", "lockgate-root/2", |k| matches!(k, ErrorKind::UnknownFormat { .. }));
    bad_payload("unknown field", "\"version\":1", "\"version\":1,\"x\":1", |k| matches!(k, ErrorKind::Json { .. }));
    bad_payload("doubled key", "\"version\":1", "\"version\":1,\"version\":1", |k| matches!(k, ErrorKind::Json { .. }));
    bad_payload("space", "\"version\":1", "\"version\": 1", |k| matches!(k, ErrorKind::NotCanonical { .. }));
    bad_payload("unknown scheme", "\"scheme\":\"ml-dsa-87\"", "\"scheme\":\"ml-dsa-65\"", |k| {
        matches!(k, ErrorKind::Json { .. })
    });
}

#[test]
fn the_scheme_of_which_a_role_has_too_few_keys_is_named() {
    let time = |text| Timestamp::parse(text).unwrap();
    for scheme in Scheme::ALL {
        let mut holders = keys::holders(&[&alice(), &bob()]);
        holders[1].keys.retain(|key| key.scheme() != scheme);
        let made = TrustRoot::new(1, time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"), 2, &holders);
        let says = format!("trust root: inconsistent: role root has 1 {scheme} keys for a threshold of 2");
        assert_eq!(made.unwrap_err().to_string(), says);
    }
}

#[test]
fn a_root_lists_the_keys_of_all_holders() {
    let usual = keys::two_of_three();
    let listed: Vec<(&str, Scheme, KeyId)> =
        usual.claimed().key_list().map(|(holder, scheme, id, _)| (holder, scheme, id)).collect();
    let (signers, mut expected) = ([alice(), bob(), carol()], Vec::new());
    for signer in &signers {
        expected.extend(Scheme::ALL.map(|scheme| (signer.name(), scheme, keys::key_id(signer, scheme))));
    }
    assert_eq!(listed, expected);
}

#[test]
fn bad_keys_in_roots() {
    let public = |signer: &Signer, scheme: Scheme| {
        let holder = signer.public().holder();
        holder.keys.iter().find(|key| key.scheme() == scheme).unwrap().to_text()
    };
    let bad_value: IsKind = |k| matches!(k, ErrorKind::BadValue { .. });
    let ml_dsa = public(&alice(), Scheme::MlDsa87);
    let ml_dsa_65 = bundle_format::text::base64(&bundle_format::text::unbase64(&ml_dsa).unwrap()[..1952]);
    bad_payload("ML-DSA-65 key", &ml_dsa, &ml_dsa_65, bad_value);
    let ed25519 = public(&alice(), Scheme::Ed25519);
    // The neutral element: with it anything verifies, for a lax verifier.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let neutral = bundle_format::key::PublicKey::Ed25519(neutral).to_text();
    bad_payload("small-order key", &ed25519, &neutral, bad_value);
    bad_payload("key of the other scheme", &ed25519, &ml_dsa, bad_value);
    let good = payload(&root(1, 1, &[&alice()]));
    let entry = good.split_once("\"keys\":[").unwrap().1.split_once("},").unwrap().0.to_owned() + "},";
    let id = keys::key_id(&alice(), Scheme::Ed25519).to_string();
    for again in [entry.clone(), entry.replace(&id, "0011223344556677")] {
        let doubled = good.replacen("\"keys\":[", &format!("\"keys\":[{entry}{again}"), 1);
        let doubled = doubled.replacen(&format!("{again}{entry}"), &again, 1);
        let error = RootEnvelope::parse(&root_file(&doubled, &[&alice()])).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "one key listed twice: {error}");
    }
}

#[test]
fn envelopes_have_one_form() {
    let good = keys::two_of_three();
    let text = String::from_utf8(good.to_bytes().unwrap()).unwrap();
    assert_eq!(RootEnvelope::parse(text.as_bytes()).unwrap(), good);
    let mut doubled = good.signatures().to_vec();
    doubled.push(doubled[0].clone());
    let id = keys::key_id(&alice(), Scheme::Ed25519);
    let renamed = text.replace(&format!("\"key\":\"{id}\""), "\"key\":\"0011223344556677\"");
    let not_canonical: IsKind = |k| matches!(k, ErrorKind::NotCanonical { .. });
    let cases: [(&str, Vec<u8>, IsKind); 6] = [
        ("signature twice", root_file_of(&payload(good.claimed()), doubled), not_canonical),
        ("space", text.replacen(':', ": ", 1).into_bytes(), not_canonical),
        ("no newline", text.trim_end().as_bytes().to_vec(), not_canonical),
        ("signature by another name", renamed.into_bytes(), |k| matches!(k, ErrorKind::BadValue { .. })),
        ("payload not base64", text.replacen("\"payload\":\"", "\"payload\":\"*", 1).into_bytes(), |k| {
            matches!(k, ErrorKind::Json { .. })
        }),
        ("other format", text.replace("envelope/1", "envelope/2").into_bytes(), |k| {
            matches!(k, ErrorKind::UnknownFormat { .. })
        }),
    ];
    for (defect, file, is_kind) in cases {
        let error = RootEnvelope::parse(&file).expect_err(defect);
        assert!(is_kind(error.kind()), "{defect}: {error}");
    }
}

#[test]
fn more_roots_than_the_limit() {
    let file = signed_root(1, 1, &[&alice()], &[&alice()]).to_bytes().unwrap();
    let mut archive = ustar::plain("manifest.json", b"{}");
    for version in 1..=1025 {
        archive.extend(ustar::plain(&format!("root/{version:05}.json"), &file));
    }
    archive.extend(ustar::END);
    let error = prove(&archive, &anchor(&keys::two_of_three())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 1024, found: 1025, .. }), "{error}");
}

#[test]
fn more_keys_than_the_limit() {
    let text = payload(&root(1, 1, &[&alice()]));
    let entry = text.split_once("\"keys\":[").unwrap().1.split_once("},{").unwrap().0.to_owned() + "},";
    let many = text.replacen("\"keys\":[", &format!("\"keys\":[{}", entry.repeat(255)), 1);
    let error = TrustRoot::parse(many.as_bytes()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 256, found: 257, .. }), "{error}");
}

#[test]
fn transfer_agents_sign_neither_releases_nor_roots() {
    let (tina, theo) = (keys::tina(), keys::theo());
    let with_agents = keys::root_with_agents(2, &[&tina, &theo]);
    let bundle = |signers| Draft { roots: vec![with_agents.clone()], signers, ..Draft::small() }.archive();
    let trusted = anchor(&with_agents);
    prove(&bundle(vec![alice(), bob()]), &trusted).unwrap();
    for signers in [vec![keys::tina(), keys::theo()], vec![keys::tina(), keys::theo(), alice()]] {
        let found = signers.len() - 2;
        let error = prove(&bundle(signers), &trusted).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Threshold { role: "release", needed: 2, found: f, .. } if *f == found),
            "{error}"
        );
    }
    let mut next = RootEnvelope::unsigned(root(2, 2, &[&alice(), &bob(), &carol()]));
    for signer in [&tina, &theo] {
        signer.sign_root(&mut next).unwrap();
    }
    let error = trusted.advance(&next).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Threshold { role: "root", found: 0, .. }), "{error}");
    // Signed by its agents alone it is no anchor either.
    let mut own = RootEnvelope::unsigned(with_agents.claimed().clone());
    for signer in [&tina, &theo] {
        signer.sign_root(&mut own).unwrap();
    }
    let error = TrustedRoot::anchor(&own, &own.claimed().fingerprint()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Threshold { role: "root", found: 0, .. }), "{error}");
}

#[test]
fn a_root_without_agents_keeps_its_bytes() {
    let text = payload(&root(1, 2, &[&alice(), &bob()]));
    assert!(!text.contains("transfer"));
    bad_payload("null for the role", "}}\n", ",\"transfer\":null}}\n", |k| matches!(k, ErrorKind::NotCanonical { .. }));
    let with = keys::root_with_agents(2, &[&keys::tina(), &keys::theo()]);
    let text = payload(with.claimed());
    assert_eq!(TrustRoot::parse(text.as_bytes()).unwrap(), *with.claimed());
    assert_eq!(with.claimed().holders(bundle_format::root::Role::Transfer).len(), 2);
    assert_eq!(with.claimed().holders(bundle_format::root::Role::Root).len(), 3);
}

#[test]
fn agents_are_persons_of_their_own() {
    let plain = || root(1, 2, &[&alice(), &bob(), &carol()]);
    let holder = |signer: &Signer| signer.public().holder();
    let renamed = |signer: &Signer, name: &str| {
        let mut holder = holder(signer);
        holder.name = name.into();
        holder
    };
    let (tina, theo) = (keys::tina(), keys::theo());
    for (defect, threshold, agents) in [
        ("one agent for a threshold of two", 2, vec![holder(&tina)]),
        ("threshold 0", 0, vec![holder(&tina), holder(&theo)]),
        ("a release signer", 2, vec![holder(&tina), holder(&alice())]),
        ("a signer's name for other keys", 2, vec![holder(&tina), renamed(&theo, "test-alice")]),
        ("one name for two agents", 2, vec![holder(&tina), renamed(&theo, "test-tina")]),
    ] {
        let error = plain().with_transfer(threshold, &agents).expect_err(defect);
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{defect}: {error}");
    }
    // The release key listed among the agents' by hand.
    let text = payload(keys::root_with_agents(2, &[&tina, &theo]).claimed());
    let (own, foreign) = (keys::key_id(&tina, Scheme::Ed25519), keys::key_id(&alice(), Scheme::Ed25519));
    let (head, roles) = text.split_once("\"transfer\":").unwrap();
    let forged = format!("{head}\"transfer\":{}", roles.replace(&own.to_string(), &foreign.to_string()));
    let error = RootEnvelope::parse(&root_file(&forged, &[&alice(), &bob()])).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{error}");
}

#[test]
fn holders_of_optional_roles_hold_no_other() {
    let plain = || root(1, 2, &[&alice(), &bob(), &carol()]);
    let holder = |signer: &Signer| signer.public().holder();
    let renamed = |signer: &Signer, name: &str| Holder { name: name.into(), ..holder(signer) };
    let (bella, boris, ada, amos) = (keys::bella(), keys::boris(), keys::ada(), keys::amos());
    let with_builders = || plain().with_builder(1, &[holder(&bella), holder(&boris)]).unwrap();
    let made: Vec<(&str, bundle_format::Result<TrustRoot>)> = vec![
        ("a release signer builds", plain().with_builder(1, &[holder(&alice())])),
        ("a signer's name for a builder's keys", plain().with_builder(1, &[renamed(&bella, "test-alice")])),
        ("one name for two builders", plain().with_builder(1, &[holder(&bella), renamed(&boris, "test-bella")])),
        ("too few builders", plain().with_builder(3, &[holder(&bella), holder(&boris)])),
        ("builders' threshold 0", plain().with_builder(0, &[holder(&bella)])),
        ("a builder carries", with_builders().with_transfer(1, &[holder(&bella)])),
        ("a builder approves", with_builders().with_approve(2, &[holder(&bella), holder(&ada)])),
        ("a builder's name approves", with_builders().with_approve(2, &[renamed(&ada, "test-bella"), holder(&amos)])),
        ("one approver", plain().with_approve(1, &[holder(&ada), holder(&amos)])),
        ("one approver with two keys", plain().with_approve(2, &[holder(&ada), renamed(&amos, "test-ada")])),
    ];
    for (defect, made) in made {
        let error = made.expect_err(defect);
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{defect}: {error}");
    }
    let all = with_builders()
        .with_approve(2, &[holder(&ada), holder(&amos)])
        .unwrap()
        .with_transfer(2, &[holder(&keys::tina()), holder(&keys::theo())])
        .unwrap();
    let text = payload(&all);
    let places = ["\"root\":{", "\"release\":{", "\"transfer\":{", "\"builder\":{", "\"approve\":{"]
        .map(|role| text.find(role).unwrap());
    assert!(places.is_sorted(), "the order of the fields is fixed: {places:?}");
    assert_eq!(TrustRoot::parse(text.as_bytes()).unwrap(), all);
    assert!(!payload(&plain()).contains("builder"), "a root without the role keeps its bytes");
}

fn reset(product: &str, sequence: u64) -> SequenceReset {
    SequenceReset { product: product.into(), sequence, security_epoch: None }
}

#[test]
fn sequence_resets() {
    let (dave, erin) = (keys::signer("test-dave", 4), keys::signer("test-erin", 5));
    // Version 2 with `holders`, signed by alice and bob and by two of its own.
    let two = |holders: &[&Signer], resets: &[SequenceReset]| {
        let root = root(2, 2, holders).with_resets(resets).unwrap();
        let mut envelope = RootEnvelope::unsigned(root);
        [&alice(), &bob()].into_iter().chain(holders.iter().copied()).for_each(|s| s.sign_root(&mut envelope).unwrap());
        envelope
    };
    let trusted = keys::anchor(&keys::two_of_three());
    let resets = [reset("a", 3), SequenceReset { security_epoch: Some(0), ..reset("b", 9) }];
    let good = two(&[&carol(), &dave, &erin], &resets);
    assert_eq!(trusted.advance(&good).unwrap().root().sequence_resets(), resets);
    assert_eq!(RootEnvelope::parse(&good.to_bytes().unwrap()).unwrap(), good);
    assert!(payload(good.claimed()).ends_with(
        ",\"sequence_resets\":[{\"product\":\"a\",\"sequence\":3},{\"product\":\"b\",\"sequence\":9,\"security_epoch\":0}]}\n"
    ));
    let kept = two(&[&bob(), &carol(), &dave], &resets);
    let error = trusted.advance(&kept).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ResetWithoutRevocation { version: 2, kept: 2, threshold: 2, .. }),
        "{error}"
    );
    assert!(trusted.advance(&two(&[&bob(), &carol(), &dave], &[])).is_ok(), "the rule is for resets alone");

    let base = || root(2, 2, &[&carol(), &dave, &erin]);
    for (defect, resets) in [
        ("unsorted", vec![reset("b", 1), reset("a", 1)]),
        ("doubled", vec![reset("a", 1), reset("a", 2)]),
        ("sequence 0", vec![reset("a", 0)]),
        ("sequence over the limit", vec![reset("a", 1 << 63)]),
        ("epoch over the limit", vec![SequenceReset { security_epoch: Some(1 << 63), ..reset("a", 1) }]),
    ] {
        let error = base().with_resets(&resets).expect_err(defect);
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "{defect}: {error}");
    }
    let error = root(1, 2, &[&alice(), &bob()]).with_resets(&[reset("a", 1)]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "in version 1: {error}");
    let error = base().with_resets(&[reset("A", 1)]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadName { .. }), "{error}");
    let many: Vec<_> = (0..101).map(|number| reset(&format!("p{number:03}"), 1)).collect();
    let error = base().with_resets(&many).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 100, .. }), "{error}");
    let empty = payload(&base()).replace("}}}\n", "}},\"sequence_resets\":[]}\n");
    let error = TrustRoot::parse(empty.as_bytes()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotCanonical { .. }), "an empty list is left out: {error}");
    let error = TrustRoot::parse(payload(&base()).replace("2036-01-01", "2026-01-01").as_bytes()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }), "it expires when it is issued: {error}");
}

#[test]
fn the_keys_of_one_scheme_that_stay_are_enough_to_refuse_a_reset() {
    let (alice, bob) = (alice(), bob());
    // The same names, each with one key of before and one new key.
    let mixed = |name: &str, ed25519: u8, ml_dsa: u8| {
        Signer::from_seeds(name, &keys::seeds(ed25519).0, &keys::seeds(ml_dsa).1).unwrap()
    };
    for (stays, holders) in [
        ("ed25519", [mixed("test-alice", 1, 4), mixed("test-bob", 2, 5)]),
        ("ml-dsa-87", [mixed("test-alice", 4, 1), mixed("test-bob", 5, 2)]),
    ] {
        let [first, second] = &holders;
        let next = root(2, 2, &[first, second]).with_resets(&[reset("test-product", 6)]).unwrap();
        let mut next = RootEnvelope::unsigned(next);
        for signer in [&alice, &bob, first, second] {
            signer.sign_root(&mut next).unwrap();
        }
        let error = anchor(&keys::two_of_three()).advance(&next).unwrap_err();
        let ErrorKind::ResetWithoutRevocation { version, scheme, kept, threshold } = error.kind() else {
            panic!("{stays}: {error}")
        };
        assert_eq!((*version, *scheme, *kept, *threshold), (2, stays, 2, 2));
    }
}

/// Ids of the signers' keys, in order.
fn ids(signers: &[Signer]) -> Vec<KeyId> {
    let mut ids: Vec<KeyId> =
        signers.iter().flat_map(|signer| Scheme::ALL.map(|scheme| keys::key_id(signer, scheme))).collect();
    ids.sort();
    ids
}

#[test]
fn a_site_takes_resets_from_the_roots_that_are_new_to_it() {
    let (carol, dave, erin) = (carol(), dave(), keys::signer("test-erin", 5));
    let resets = [reset("other-product", 1), reset("test-product", 6)];
    let mut second = RootEnvelope::unsigned(root(2, 2, &[&carol, &dave, &erin]).with_resets(&resets).unwrap());
    for signer in [&alice(), &bob(), &carol, &dave] {
        signer.sign_root(&mut second).unwrap();
    }
    let roots = vec![keys::two_of_three(), second.clone()];
    let draft = Draft { roots, signers: vec![carol, dave], ..Draft::small() };
    let archive = draft.archive();
    let proved = |trusted: &TrustedRoot| -> VerifiedManifest {
        UnverifiedEnvelope::read(&archive[..]).unwrap().0.verify(trusted, AlgorithmPolicy::Hybrid).unwrap()
    };
    let former = draft.trusted();
    let by_former = proved(&former);
    assert_eq!(by_former.bytes(), draft.text().as_bytes());
    assert_eq!(by_former.root().root(), second.claimed());
    assert_eq!(by_former.signers(), ids(&draft.signers));
    assert_eq!(by_former.new_roots(), std::slice::from_ref(&second));
    // What lowers another product's floor does not lower this one's, and nothing raises it.
    assert_eq!((by_former.floor_after_resets(9), by_former.floor_after_resets(5)), (6, 5));

    let by_second = proved(&former.advance(&second).unwrap());
    assert!(by_second.new_roots().is_empty());
    assert_eq!(by_second.floor_after_resets(9), 9);
}
