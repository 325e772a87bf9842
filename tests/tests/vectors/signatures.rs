//! Defects of a bundle's signatures.

use bundle_format::key::Scheme;
use bundle_format::signature::{AlgorithmPolicy, Signature, Value};
use signing_keys::Signer;
use system_tests::{Draft, keys};

use crate::{refuse_all, refuse_all_with, vector};

/// The small bundle with its signatures changed.
fn signed(change: impl FnOnce(&[u8], &mut Vec<Signature>)) -> Vec<u8> {
    let draft = Draft::small();
    let text = draft.text().into_bytes();
    let mut signatures = draft.signatures(&text);
    change(&text, &mut signatures);
    draft.sealed_with(text, signatures).archive()
}

/// The small bundle signed by others.
fn signed_by(signers: Vec<Signer>) -> Vec<u8> {
    Draft { signers, ..Draft::small() }.archive()
}

/// The small bundle with the first member of a kind changed.
fn member(suffix: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut sealed = Draft::small().sealed();
    change(sealed.find("signatures/", suffix));
    sealed.archive()
}

/// The small bundle with the text of its first minisign file changed.
fn minisig(change: impl FnOnce(String) -> String) -> Vec<u8> {
    member(".minisig", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let bad = change(text.clone());
        assert_ne!(bad, text);
        *bytes = bad.into_bytes();
    })
}

/// Puts alice's signature of a scheme under bob's name in the archive.
fn under_another_name(scheme: Scheme) -> Vec<u8> {
    let mut sealed = Draft::small().sealed();
    let of = |signer: &Signer| format!("signatures/{}", keys::key_id(signer, scheme));
    let alices = sealed.find(&of(&keys::alice()), "").clone();
    *sealed.find(&of(&keys::bob()), "") = alices;
    sealed.archive()
}

#[test]
fn who_signed() {
    let alone = Draft { signers: vec![keys::alice()], ..Draft::small() };
    let carol_twice = keys::signer("test-carol", 3);
    refuse_all(vec![
        vector!("no signature", Threshold, "needs 2 distinct ed25519 keys", signed_by(Vec::new())),
        vector!("one of two", Threshold, "found 1", alone.archive()),
        vector!("a stranger besides", UnknownKey, "does not list", {
            signed_by(vec![keys::alice(), keys::bob(), keys::mallory()])
        }),
        vector!("a stranger for one", UnknownKey, "does not list", signed_by(vec![carol_twice, keys::mallory()])),
        vector!("only strangers", UnknownKey, "does not list", signed_by(vec![keys::mallory()])),
        vector!("one minisign key under two names", BadValue, "by the named key", under_another_name(Scheme::Ed25519)),
        vector!("one ML-DSA key under two names", BadSignature, "ml-dsa-87", under_another_name(Scheme::MlDsa87)),
        vector!("holder's name taken by other keys", UnknownKey, "does not list", {
            signed_by(vec![keys::alice(), keys::signer("test-bob", 77)])
        }),
    ]);
}

#[test]
fn stripped_algorithms() {
    let only = |scheme: Scheme| signed(|_, signatures| signatures.retain(|s| s.scheme() == scheme));
    refuse_all(vec![
        vector!("ML-DSA stripped", Threshold, "ml-dsa-87", only(Scheme::Ed25519)),
        vector!("Ed25519 stripped", Threshold, "ed25519", only(Scheme::MlDsa87)),
        vector!("one ML-DSA stripped", Threshold, "found 1", { signed(|_, signatures| drop(signatures.remove(3))) }),
        vector!("two of one and two of another", Threshold, "found 1", {
            // Alice with Ed25519 alone and bob with ML-DSA alone are not two signers of either.
            signed(|_, signatures| {
                drop(signatures.remove(2));
                drop(signatures.remove(1));
            })
        }),
    ]);
    let trusted = Draft::small().trusted();
    let classic = vec![vector!("CNSA 2.0 site, no ML-DSA", Threshold, "ml-dsa-87", only(Scheme::Ed25519))];
    refuse_all_with(classic, &trusted, AlgorithmPolicy::Cnsa2);
    let quantum = vec![vector!("Ed25519 site, no Ed25519", Threshold, "ed25519", only(Scheme::MlDsa87))];
    refuse_all_with(quantum, &trusted, AlgorithmPolicy::Ed25519);
}

#[test]
fn what_was_signed() {
    let other = |scheme: Scheme| {
        signed(|_, signatures| {
            let foreign = keys::alice().sign(b"another manifest\n", "TEST").unwrap();
            let place = signatures.iter_mut().find(|s| s.scheme() == scheme).unwrap();
            *place = foreign.into_iter().find(|s| s.scheme() == scheme).unwrap();
        })
    };
    let old = {
        let draft = Draft::small();
        let text = draft.text();
        let signatures = draft.signatures(text.as_bytes());
        let newer = text.replacen("\"sequence\":7", "\"sequence\":8", 1);
        draft.sealed_with(newer.into_bytes(), signatures).archive()
    };
    let foreign_comment = signed(|text, signatures| {
        let again = keys::alice().sign(text, "lockgate manifest product=other").unwrap();
        signatures.splice(..2, again);
    });
    refuse_all(vec![
        vector!("Ed25519 over another manifest", BadSignature, "ed25519", other(Scheme::Ed25519)),
        vector!("ML-DSA over another manifest", BadSignature, "ml-dsa-87", other(Scheme::MlDsa87)),
        vector!("manifest changed after signing", BadSignature, "does not verify", old),
        vector!("signed comment about something else", BadValue, "the trusted comment by key", foreign_comment),
    ]);
}

#[test]
fn minisign_files() {
    let legacy = signed(|text, signatures| {
        use ed25519_dalek::Signer as _;
        // What minisign before 0.8 made: the signature over the file itself, algorithm "Ed".
        let key = ed25519_dalek::SigningKey::from_bytes(&keys::seeds(1).0);
        let Value::Ed25519 { signature, comment, global } = &mut signatures[0].value else { panic!() };
        **signature = key.sign(text).to_bytes();
        **global = key.sign(&[signature.as_slice(), comment.as_bytes()].concat()).to_bytes();
    });
    let legacy_named = minisig(|text| relabel(&text, *b"Ed"));
    let line = |number: usize, text: &str| text.lines().nth(number).unwrap().to_owned();
    refuse_all(vec![
        vector!("trusted comment altered", BadSignature, "ed25519", minisig(|t| t.replace("sequence=7", "sequence=8"))),
        vector!(
            "untrusted comment altered",
            BadValue,
            "a minisign signature",
            minisig(|t| t.replace("see docs", "SEE docs"))
        ),
        vector!("legacy signature", BadSignature, "ed25519", legacy),
        vector!("legacy algorithm Ed", BadValue, "algorithm ED", legacy_named),
        vector!("unknown algorithm", BadValue, "algorithm ED", minisig(|t| relabel(&t, *b"EX"))),
        vector!("carriage returns", NotCanonical, "canonical", minisig(|t| t.replace('\n', "\r\n"))),
        vector!("fifth line", NotCanonical, "canonical", minisig(|t| format!("{t}more\n"))),
        vector!("no last newline", NotCanonical, "canonical", minisig(|t| t.trim_end().to_owned())),
        vector!("no global signature", BadValue, "a minisign signature", {
            minisig(|t| t.split_inclusive('\n').take(3).collect())
        }),
        vector!("global signature of another kind", BadSignature, "ed25519", {
            let global = line(3, std::str::from_utf8(&Draft::small().signatures(b"other")[0].to_file()).unwrap());
            minisig(move |t| t.replace(&line(3, &t), &global))
        }),
        vector!("base64 without padding", BadValue, "a minisign signature", { minisig(|t| t.replace("==\n", "\n")) }),
        vector!("empty file", BadValue, "a minisign signature", member(".minisig", Vec::clear)),
    ]);
}

/// Another algorithm's two letters in a minisign file.
fn relabel(text: &str, algorithm: [u8; 2]) -> String {
    let head = text.lines().nth(1).unwrap();
    let mut bytes = bundle_format::text::unbase64(head).unwrap();
    bytes[..2].copy_from_slice(&algorithm);
    text.replace(head, &bundle_format::text::base64(&bytes))
}

/// The order of Ed25519's group, little-endian (RFC 8032, 5.1).
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// S + L: the same scalar, which a lax verifier takes (RFC 8032, 5.1.7).
fn add_order(signature: &mut [u8; 64]) {
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

#[test]
fn malleable_signatures() {
    let first = |change: fn(&mut [u8; 64], &mut [u8; 64])| {
        signed(|_, signatures| {
            let Value::Ed25519 { signature, global, .. } = &mut signatures[0].value else { panic!() };
            change(signature, global);
        })
    };
    refuse_all(vec![
        // The global signature covers the first one's bytes, so it is what a lax verifier would check next.
        vector!("S not reduced", BadSignature, "ed25519", first(|signature, _| add_order(signature))),
        vector!("global S not reduced", BadSignature, "ed25519", first(|_, global| add_order(global))),
        vector!("all zero", BadSignature, "ed25519", first(|signature, _| signature.fill(0))),
    ]);
}

/// Alice's ML-DSA signature over the manifest with a context string.
fn in_context(text: &[u8], context: &[u8]) -> Value {
    let key = ml_dsa::SigningKey::<ml_dsa::MlDsa87>::from_seed(&keys::seeds(1).1.into());
    let signature = key.expanded_key().sign_deterministic(text, context).unwrap().encode();
    let bytes: &[u8] = &signature;
    Value::MlDsa87(Box::new(bytes.try_into().unwrap()))
}

#[test]
fn ml_dsa_signatures() {
    let with_context =
        |context: &'static [u8]| signed(|text, signatures| signatures[1].value = in_context(text, context));
    // The empty context is ours: what refuses the others is the context alone.
    system_tests::prove(&with_context(b""), &Draft::small().trusted()).unwrap();
    refuse_all(vec![
        vector!("context string", BadSignature, "ml-dsa-87", with_context(b"TEST")),
        vector!("context of one zero byte", BadSignature, "ml-dsa-87", with_context(b"\0")),
        vector!("all zero", BadSignature, "ml-dsa-87", member(".ml-dsa-87", |bytes| bytes.fill(0))),
        vector!("one byte short", BadValue, "4627 bytes", member(".ml-dsa-87", |bytes| bytes.truncate(4626))),
        vector!("one byte long", BadValue, "4627 bytes", member(".ml-dsa-87", |bytes| bytes.push(0))),
        vector!("signature of ML-DSA-65", BadValue, "4627 bytes", member(".ml-dsa-87", |bytes| bytes.truncate(3309))),
        vector!("minisign file for ML-DSA", BadValue, "4627 bytes", {
            let file = Draft::small().signatures(b"x")[0].to_file();
            member(".ml-dsa-87", |bytes| *bytes = file)
        }),
    ]);
}
