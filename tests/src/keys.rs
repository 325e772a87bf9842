//! TEST signers from fixed seeds, and trust roots made of them.

use std::sync::LazyLock;

use bundle_format::key::{KeyId, Scheme};
use bundle_format::root::{Holder, RootEnvelope, TrustRoot, TrustedRoot};
use bundle_format::signature::Signature;
use bundle_format::text::base64;
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;

/// Seeds of a TEST signer: Ed25519, ML-DSA-87.
pub const fn seeds(number: u8) -> ([u8; 32], [u8; 32]) {
    ([number; 32], [number | 0x80; 32])
}

/// A TEST signer; the same number gives the same keys.
pub fn signer(name: &str, number: u8) -> Signer {
    let (ed25519, ml_dsa) = seeds(number);
    Signer::from_seeds(name, &ed25519, &ml_dsa).unwrap()
}

/// The first signer of every TEST root.
pub fn alice() -> Signer {
    signer("test-alice", 1)
}

/// The second.
pub fn bob() -> Signer {
    signer("test-bob", 2)
}

/// The third.
pub fn carol() -> Signer {
    signer("test-carol", 3)
}

/// A signer that no TEST root lists.
pub fn mallory() -> Signer {
    signer("test-mallory", 66)
}

/// Id of a signer's key.
pub fn key_id(signer: &Signer, scheme: Scheme) -> KeyId {
    signer.public().holder().keys.iter().find(|key| key.scheme() == scheme).unwrap().id()
}

/// An unsigned root in which `holders` have both roles.
pub fn root(version: u64, threshold: usize, holders: &[&Signer]) -> TrustRoot {
    let holders: Vec<Holder> = holders.iter().map(|signer| signer.public().holder()).collect();
    let time = |text| Timestamp::parse(text).unwrap();
    TrustRoot::new(version, time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"), threshold, &holders).unwrap()
}

/// A root signed by `signers`.
pub fn signed_root(version: u64, threshold: usize, holders: &[&Signer], signers: &[&Signer]) -> RootEnvelope {
    let mut envelope = RootEnvelope::unsigned(root(version, threshold, holders));
    for signer in signers {
        signer.sign_root(&mut envelope).unwrap();
    }
    envelope
}

/// The first TEST transfer agent.
pub fn tina() -> Signer {
    signer("test-tina", 21)
}

/// The second.
pub fn theo() -> Signer {
    signer("test-theo", 22)
}

/// The first TEST builder.
pub fn bella() -> Signer {
    signer("test-bella", 31)
}

/// The second.
pub fn boris() -> Signer {
    signer("test-boris", 32)
}

/// The first TEST approver.
pub fn ada() -> Signer {
    signer("test-ada", 41)
}

/// The second.
pub fn amos() -> Signer {
    signer("test-amos", 42)
}

/// Holders of signers.
pub fn holders(signers: &[&Signer]) -> Vec<Holder> {
    signers.iter().map(|signer| signer.public().holder()).collect()
}

/// A root signed by alice and bob.
pub fn signed_by_two(root: TrustRoot) -> RootEnvelope {
    let mut envelope = RootEnvelope::unsigned(root);
    for signer in [alice(), bob()] {
        signer.sign_root(&mut envelope).unwrap();
    }
    envelope
}

/// The usual root with the transfer agents `agents`, of whom `threshold` must sign.
pub fn root_with_agents(threshold: usize, agents: &[&Signer]) -> RootEnvelope {
    signed_by_two(root(1, 2, &[&alice(), &bob(), &carol()]).with_transfer(threshold, &holders(agents)).unwrap())
}

/// The usual root with builders, of whom `threshold` must sign.
pub fn root_with_builders(threshold: usize, builders: &[&Signer]) -> RootEnvelope {
    signed_by_two(root(1, 2, &[&alice(), &bob(), &carol()]).with_builder(threshold, &holders(builders)).unwrap())
}

/// The usual root with two approvers.
pub fn root_with_approvers() -> RootEnvelope {
    signed_by_two(root(1, 2, &[&alice(), &bob(), &carol()]).with_approve(2, &holders(&[&ada(), &amos()])).unwrap())
}

/// The usual root: version 1, two of three. Signed once for each program: nearly every test starts
/// with it.
pub fn two_of_three() -> RootEnvelope {
    static USUAL: LazyLock<RootEnvelope> =
        LazyLock::new(|| signed_root(1, 2, &[&alice(), &bob(), &carol()], &[&alice(), &bob()]));
    USUAL.clone()
}

/// Trusts a root as a person does who compared its fingerprint.
pub fn anchor(envelope: &RootEnvelope) -> TrustedRoot {
    TrustedRoot::anchor(envelope, &envelope.claimed().fingerprint()).unwrap()
}

/// The payload text of a root, to be damaged.
pub fn payload(root: &TrustRoot) -> String {
    String::from_utf8(root.to_bytes().to_vec()).unwrap()
}

/// A root file around any payload text, signed by `signers`.
pub fn root_file(payload: &str, signers: &[&Signer]) -> Vec<u8> {
    let signatures: Vec<Signature> =
        signers.iter().flat_map(|signer| signer.sign(payload.as_bytes(), "TEST root").unwrap()).collect();
    root_file_of(payload, signatures)
}

/// A root file around any payload text and signatures.
pub fn root_file_of(payload: &str, signatures: Vec<Signature>) -> Vec<u8> {
    envelope_file("lockgate-root-envelope/1", payload, signatures)
}

/// The file form of any payload text with any signatures.
pub fn envelope_file(format: &str, payload: &str, mut signatures: Vec<Signature>) -> Vec<u8> {
    signatures.sort_by_key(|signature| signature.key);
    let entries: Vec<String> = signatures
        .iter()
        .map(|s| format!(r#"{{"key":"{}","scheme":"{}","file":"{}"}}"#, s.key, s.scheme(), base64(&s.to_file())))
        .collect();
    format!(
        "{{\"format\":\"{format}\",\"payload\":\"{}\",\"signatures\":[{}]}}\n",
        base64(payload.as_bytes()),
        entries.join(",")
    )
    .into_bytes()
}
