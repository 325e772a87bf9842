//! What a head may cost before anything of it is proved: its bytes as a whole (R-LIM-32), and the signatures
//! that are verified for it (R-ROOT-17).

use bundle_format::archive::ArchiveWriter;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::key::{ML_DSA_87_PUBLIC, ML_DSA_87_SIGNATURE, PublicKey, Scheme};
use bundle_format::limits::{KEYS, PROLOGUE_BYTES};
use bundle_format::root::{Holder, RootEnvelope, TrustRoot, TrustedRoot};
use bundle_format::signature::{AlgorithmPolicy, Signature, Value};
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;
use system_tests::{Draft, keys};

use crate::{Vector, breaks, part, under, vector};

const BLOCK: u64 = 512;

/// Bytes of a member in an archive, with its header.
fn member(content: &[u8]) -> u64 {
    BLOCK + (content.len() as u64).next_multiple_of(BLOCK)
}

/// A root of alice and bob, who both must sign, and of so many keys of somebody who never does.
fn root(version: u64, others: usize) -> TrustRoot {
    let time = |text| Timestamp::parse(text).unwrap();
    let mut holders = keys::holders(&[&keys::alice(), &keys::bob()]);
    let other = |n: usize| PublicKey::MlDsa87(Box::new([u8::try_from(n).unwrap(); ML_DSA_87_PUBLIC]));
    holders.push(Holder { name: "test-other".into(), keys: (0..others).map(other).collect() });
    TrustRoot::new(version, time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"), 2, &holders).unwrap()
}

/// That root signed by alice and bob, alice with a comment of so many letters.
fn signed(version: u64, others: usize, comment: usize) -> RootEnvelope {
    let mut root = RootEnvelope::unsigned(root(version, others));
    for (signer, comment) in [(keys::alice(), "c".repeat(comment)), (keys::bob(), "TEST".into())] {
        let signatures = signer.sign(root.claimed().to_bytes(), &comment).unwrap();
        for signature in signatures {
            root.add(signature);
        }
    }
    root
}

/// A sound chain whose members are exactly `target` bytes, headers and padding with them.
fn chain_of(target: u64) -> Vec<RootEnvelope> {
    let bytes = |root: &RootEnvelope| member(&root.to_bytes().unwrap());
    // The largest that R-LIM-4 leaves room for.
    let large = 210;
    let (mut roots, mut left) = (Vec::new(), target);
    let size = bytes(&signed(1, large, 0));
    assert!(size > 1_000_000);
    while left > 2 * size {
        roots.push(signed(roots.len() as u64 + 1, large, 0));
        left -= bytes(roots.last().unwrap());
    }
    // Then some half as large, and one that is filled up by its comment.
    while left > size {
        roots.push(signed(roots.len() as u64 + 1, large / 2, 0));
        left -= bytes(roots.last().unwrap());
    }
    let version = roots.len() as u64 + 1;
    let [none, one] = [0, 1].map(|others| signed(version, others, 0).to_bytes().unwrap().len() as u64);
    let others = usize::try_from((left - BLOCK - none) / (one - none + 8)).unwrap().min(large);
    let plain = signed(version, others, 0).to_bytes().unwrap().len() as u64;
    let comment = usize::try_from((left - BLOCK - plain) / 4 * 3).unwrap().saturating_sub(9);
    assert!(comment < 60 << 10, "{comment}");
    roots.push(signed(version, others, comment));
    assert_eq!(bytes(roots.last().unwrap()), left, "the filled up root");
    roots
}

/// The small bundle under a chain that makes its head exactly this long, with its site's trust.
fn of_head(bytes: u64) -> (Vec<u8>, TrustedRoot) {
    let mut sealed = Draft { roots: Vec::new(), ..Draft::small() }.sealed();
    let at = sealed.members.iter().position(|(name, _)| name.starts_with("packs/")).unwrap();
    let before: u64 = sealed.members[..at].iter().map(|(_, content)| member(content)).sum();
    let roots = chain_of(bytes - before);
    let trusted = keys::anchor(&roots[0]);
    let named = roots.iter().zip(1..).map(|(root, n)| (format!("root/{n:05}.json"), root.to_bytes().unwrap()));
    sealed.members.splice(at..at, named);
    let mut archive = ArchiveWriter::new(Vec::new());
    for (name, content) in &sealed.members {
        archive.member(name, content.len() as u64, &mut &content[..]).unwrap();
    }
    (archive.finish().unwrap(), trusted)
}

/// A sound bundle with the longest head there may be.
pub(crate) fn longest() -> (Vec<u8>, TrustedRoot) {
    of_head(PROLOGUE_BYTES)
}

/// Signatures of nothing at all, by all keys of these.
fn claimed(root: &TrustRoot, holders: &[Holder]) -> RootEnvelope {
    let mut envelope = RootEnvelope::unsigned(root.clone());
    for key in holders.iter().flat_map(|holder| &holder.keys) {
        let value = match key.scheme() {
            Scheme::Ed25519 => {
                Value::Ed25519 { signature: Box::new([0; 64]), comment: "TEST".into(), global: Box::new([0; 64]) }
            }
            Scheme::MlDsa87 => Value::MlDsa87(Box::new([0; ML_DSA_87_SIGNATURE])),
        };
        envelope.add(Signature { key: key.id(), value });
    }
    envelope
}

/// The usual root, and behind it roots of somebody else whose every key is said to have signed, and that of
/// these signers of the usual root.
fn overgrown(versions: u64, too: &[&Signer]) -> Vec<u8> {
    let public = |n: u8| {
        let mut seed = [0xa7; 32];
        seed[0] = n;
        ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes()
    };
    let points = (0..u8::try_from(KEYS - 2).unwrap()).map(|n| PublicKey::Ed25519(public(n)));
    let lattice = PublicKey::MlDsa87(Box::new([7; ML_DSA_87_PUBLIC]));
    let own = Holder { name: "test-own".into(), keys: points.chain([lattice]).collect() };
    let signers: Vec<Holder> = std::iter::once(own.clone()).chain(keys::holders(too)).collect();
    let time = |text| Timestamp::parse(text).unwrap();
    let root = |version| {
        let (issued, expires) = (time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"));
        TrustRoot::new(version, issued, expires, 1, std::slice::from_ref(&own)).unwrap()
    };
    let second = claimed(&root(2), &signers);
    let later = (3..=versions).map(|version| claimed(&root(version), &signers[..1]));
    let roots = [keys::two_of_three(), second].into_iter().chain(later).collect();
    Draft { roots, signers: vec![keys::alice(), keys::bob()], ..Draft::small() }.archive()
}

pub(crate) fn vectors() -> Vec<Vector> {
    let (longer, trusted) = of_head(PROLOGUE_BYTES + BLOCK);
    let long = vec![vector!("head of 24 MiB and one block", TooLarge, "the limit is 25165824, found 25166336", longer)];
    let written = part!("head over 24 MiB, to be written", TooLarge, "the limit is 25165824, found", || {
        let large = signed(1, 216, 0);
        UnverifiedEnvelope::new(b"{}".to_vec(), Vec::new(), vec![large; 25]).members().map(drop)
    });
    let unsigned = vec![
        vector!(
            "roots of somebody else behind the real one",
            Threshold,
            "distinct ed25519 keys of trust root version 1, found 0",
            overgrown(30, &[])
        ),
        vector!(
            "roots of somebody else, one real signer claimed",
            Threshold,
            "found 1",
            overgrown(30, &[&keys::bob()])
        ),
    ];
    let forged = vec![vector!("roots of somebody else, two real signers claimed", BadSignature, "version 2", {
        overgrown(30, &[&keys::alice(), &keys::bob()])
    })];
    [
        breaks(&["R-LIM-32"], under(&trusted, AlgorithmPolicy::Hybrid, long)),
        breaks(&["R-LIM-32"], [written]),
        breaks(&["R-ROOT-17", "R-ROOT-7"], unsigned),
        breaks(&["R-ROOT-7", "R-SIG-8"], forged),
    ]
    .into_iter()
    .flatten()
    .collect()
}
