//! Defects of a bundle's signatures.

use bundle_format::envelope::trusted_comment;
use bundle_format::key::Scheme;
use bundle_format::marking::Marking;
use bundle_format::signature::{AlgorithmPolicy, Signature, Value};
use sha2::{Digest as _, Sha512};
use signing_keys::Signer;
use system_tests::{Draft, keys};

use crate::{Vector, breaks, under, vector};

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

fn who_signed() -> Vec<Vector> {
    let alone = Draft { signers: vec![keys::alice()], ..Draft::small() };
    let carol_twice = keys::signer("test-carol", 3);
    let below = vec![
        vector!("no signature", Threshold, "needs 2 distinct ed25519 keys", signed_by(Vec::new())),
        vector!("one of two", Threshold, "found 1", alone.archive()),
    ];
    let strangers = vec![
        vector!("a stranger besides", UnknownKey, "does not list", {
            signed_by(vec![keys::alice(), keys::bob(), keys::mallory()])
        }),
        vector!("a stranger for one", UnknownKey, "does not list", signed_by(vec![carol_twice, keys::mallory()])),
        vector!("only strangers", UnknownKey, "does not list", signed_by(vec![keys::mallory()])),
        vector!("one ML-DSA key under two names", BadSignature, "ml-dsa-87", under_another_name(Scheme::MlDsa87)),
        vector!("holder's name taken by other keys", UnknownKey, "does not list", {
            signed_by(vec![keys::alice(), keys::signer("test-bob", 77)])
        }),
        vector!("a stranger's ML-DSA signature alone", UnknownKey, "does not list", {
            signed(|text, signatures| {
                let [_, foreign] = keys::mallory().sign(text, "TEST").unwrap();
                signatures.push(foreign);
            })
        }),
        vector!("Ed25519 file under an ML-DSA key's name", BadValue, "4627 bytes", {
            let mut sealed = Draft::small().sealed();
            let file = sealed.find("signatures/", ".minisig").clone();
            *sealed.find("signatures/", ".ml-dsa-87") = file;
            sealed.archive()
        }),
        vector!("one key by both schemes' names", DuplicateSignature, "appears twice", {
            let mut sealed = Draft::small().sealed();
            let id = keys::key_id(&keys::alice(), Scheme::Ed25519);
            sealed.members.push((format!("signatures/{id}.ml-dsa-87"), vec![0; 4627]));
            sealed.members[1..].sort_by_key(|(name, _)| (rank(name), name.clone()));
            sealed.archive()
        }),
    ];
    let named = vec![vector!(
        "one minisign key under two names",
        BadValue,
        "by the named key",
        under_another_name(Scheme::Ed25519)
    )];
    [breaks(&["R-SIG-10", "R-PRF-3"], below), breaks(&["R-SIG-8", "R-SIG-9"], strangers), breaks(&["R-SIG-6"], named)]
        .into_iter()
        .flatten()
        .collect()
}

/// Where a member stands: manifest, signatures, roots, packs.
fn rank(name: &str) -> usize {
    ["manifest", "signatures/", "root/", "packs/"].iter().position(|part| name.starts_with(part)).unwrap()
}

fn stripped_algorithms() -> Vec<Vector> {
    let only = |scheme: Scheme| signed(|_, signatures| signatures.retain(|s| s.scheme() == scheme));
    let hybrid = vec![
        vector!("ML-DSA stripped", Threshold, "ml-dsa-87", only(Scheme::Ed25519)),
        vector!("Ed25519 stripped", Threshold, "ed25519", only(Scheme::MlDsa87)),
        vector!("one ML-DSA stripped", Threshold, "found 1", signed(|_, signatures| drop(signatures.remove(3)))),
        vector!("two of one and two of another", Threshold, "found 1", {
            // Alice with Ed25519 alone and bob with ML-DSA alone are not two signers of either.
            signed(|_, signatures| {
                drop(signatures.remove(2));
                drop(signatures.remove(1));
            })
        }),
    ];
    let trusted = Draft::small().trusted();
    let classic = vec![vector!("CNSA 2.0 site, no ML-DSA", Threshold, "ml-dsa-87", only(Scheme::Ed25519))];
    let quantum = vec![vector!("Ed25519 site, no Ed25519", Threshold, "ed25519", only(Scheme::MlDsa87))];
    let stripped =
        [hybrid, under(&trusted, AlgorithmPolicy::Cnsa2, classic), under(&trusted, AlgorithmPolicy::Ed25519, quantum)];
    breaks(&["R-SIG-10"], stripped.into_iter().flatten())
}

fn what_was_signed() -> Vec<Vector> {
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
    let of_another_bundle = {
        let mut other = Draft::small();
        other.manifest.title = "TEST other bundle".into();
        let text = other.text().into_bytes();
        let mut sealed = Draft::small().sealed();
        for signature in other.signatures(&text) {
            let name = format!("signatures/{}.{}", signature.key, signature.scheme().extension());
            *sealed.find(&name, "") = signature.to_file();
        }
        sealed.archive()
    };
    let of_a_root = signed(|_, signatures| {
        let root = keys::two_of_three();
        *signatures = root.signatures().to_vec();
    });
    let same_comment_other_text = signed(|text, signatures| {
        let comment = trusted_comment(&Draft::small().manifest, text);
        let [first, _] = keys::alice().sign(b"another text", &comment).unwrap();
        signatures[0] = first;
    });
    let comments = [
        ("no sequence in the comment", "lockgate manifest product=test-product release=1.0 marking=UNCLASSIFIED"),
        ("empty comment", ""),
        ("comment of a root", "lockgate root version=1"),
    ];
    let comments = comments.map(|(defect, comment)| {
        vector!(defect, BadValue, "the trusted comment by key", {
            signed(|text, signatures| {
                let again = keys::alice().sign(text, comment).unwrap();
                signatures.splice(..2, again);
            })
        })
    });
    let mut said = vec![
        vector!("signed comment about something else", BadValue, "the trusted comment by key", foreign_comment),
        vector!("comment of a lower sequence", BadValue, "the trusted comment by key", {
            signed(|text, signatures| {
                let comment = trusted_comment(&Draft::small().manifest, text).replace("sequence=7", "sequence=6");
                let again = keys::bob().sign(text, &comment).unwrap();
                signatures.splice(2.., again);
            })
        }),
        vector!("comment of a lower marking", BadValue, "the trusted comment by key", {
            let mut draft = Draft::small();
            draft.manifest.marking = Marking::parse("SECRET//REL TO USA, GBR").unwrap();
            let text = draft.text().into_bytes();
            let comment = trusted_comment(&draft.manifest, &text).replace("SECRET", "CUI");
            let signatures = draft.signers.iter().flat_map(|s| s.sign(&text, &comment).unwrap()).collect();
            draft.sealed_with(text, signatures).archive()
        }),
    ];
    said.extend(comments);
    let bytes = vec![
        vector!("Ed25519 over another manifest", BadSignature, "ed25519", other(Scheme::Ed25519)),
        vector!("ML-DSA over another manifest", BadSignature, "ml-dsa-87", other(Scheme::MlDsa87)),
        vector!("manifest changed after signing", BadSignature, "does not verify", old),
        vector!("signatures of another bundle", BadSignature, "does not verify", of_another_bundle),
        vector!("signatures of the trust root", BadSignature, "does not verify", of_a_root),
        vector!("right comment over another text", BadSignature, "ed25519", same_comment_other_text),
        vector!("newline taken off the signed text", BadSignature, "does not verify", {
            let draft = Draft::small();
            let text = draft.text();
            let signatures = draft.signatures(text.as_bytes());
            draft.sealed_with(text.trim_end().as_bytes().to_vec(), signatures).archive()
        }),
    ];
    [breaks(&["R-SIG-8", "R-PRF-3"], bytes), breaks(&["R-SIG-7", "R-PRF-4"], said)].into_iter().flatten().collect()
}

fn minisign_files() -> Vec<Vector> {
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
    let mut vectors = vec![
        vector!(
            "untrusted comment altered",
            BadValue,
            "a minisign signature",
            minisig(|t| t.replace("see docs", "SEE docs"))
        ),
        vector!("legacy algorithm Ed", BadValue, "algorithm ED", legacy_named),
        vector!("unknown algorithm", BadValue, "algorithm ED", minisig(|t| relabel(&t, *b"EX"))),
        vector!("carriage returns", NotCanonical, "canonical", minisig(|t| t.replace('\n', "\r\n"))),
        vector!("fifth line", NotCanonical, "canonical", minisig(|t| format!("{t}more\n"))),
        vector!("no last newline", NotCanonical, "canonical", minisig(|t| t.trim_end().to_owned())),
        vector!("no global signature", BadValue, "a minisign signature", {
            minisig(|t| t.split_inclusive('\n').take(3).collect())
        }),
        vector!("base64 without padding", BadValue, "a minisign signature", minisig(|t| t.replace("==\n", "\n"))),
        vector!("empty minisign file", BadValue, "a minisign signature", member(".minisig", Vec::clear)),
        vector!("lines in another order", BadValue, "a minisign signature", {
            minisig(|t| {
                let lines: Vec<&str> = t.split_inclusive('\n').collect();
                [lines[0], lines[2], lines[1], lines[3]].concat()
            })
        }),
        vector!("untrusted comment with an escape sequence", BadValue, "a minisign signature", {
            minisig(|t| t.replace("Lockgate signature", "\u{1b}[2J signature"))
        }),
        vector!("signature one byte short", BadValue, "a minisign signature", {
            minisig(|t| resized(&t, 1, |bytes| bytes.truncate(73)))
        }),
        vector!("signature one byte long", BadValue, "a minisign signature", {
            minisig(|t| resized(&t, 1, |bytes| bytes.push(0)))
        }),
        vector!("global signature one byte short", BadValue, "a minisign signature", {
            minisig(|t| resized(&t, 3, |bytes| bytes.truncate(63)))
        }),
        vector!("unused bits of base64", BadValue, "a minisign signature", {
            // 64 bytes end in two letters of base64 of which the second has four unused bits.
            minisig(|t| {
                let mut lines: Vec<String> = t.lines().map(str::to_owned).collect();
                let last = lines[3].as_bytes()[85];
                lines[3].replace_range(85..86, &char::from(if last == b'A' { b'B' } else { last + 1 }).to_string());
                lines.join("\n") + "\n"
            })
        }),
        vector!("space behind the base64", BadValue, "a minisign signature", minisig(|t| t.replace("==\n", "== \n"))),
        vector!("URL-safe base64", BadValue, "a minisign signature", {
            // One of the two letters that differ is in each of these 88 with certainty enough.
            minisig(|t| resized_text(&t, 3, |line| line.replacen(|c: char| c.is_ascii_lowercase(), "_", 1)))
        }),
        vector!(
            "minisign file with a byte order mark",
            BadValue,
            "a minisign signature",
            minisig(|t| format!("\u{feff}{t}"))
        ),
        vector!(
            "minisign file that is not UTF-8",
            BadValue,
            "a minisign signature",
            member(".minisig", |bytes| bytes[100] = 0xff)
        ),
    ];
    vectors = breaks(&["R-SIG-4"], vectors);
    vectors.extend(breaks(
        &["R-SIG-8"],
        [
            vector!(
                "trusted comment altered",
                BadSignature,
                "ed25519",
                minisig(|t| t.replace("sequence=7", "sequence=8"))
            ),
            vector!("legacy signature", BadSignature, "ed25519", legacy),
            vector!("global signature of another kind", BadSignature, "ed25519", {
                let global = line(3, std::str::from_utf8(&Draft::small().signatures(b"other")[0].to_file()).unwrap());
                minisig(move |t| t.replace(&line(3, &t), &global))
            }),
        ],
    ));
    vectors
}

/// One line of a file in base64 with its bytes changed.
fn resized(text: &str, line: usize, change: fn(&mut Vec<u8>)) -> String {
    resized_text(text, line, |old| {
        let mut bytes = bundle_format::text::unbase64(old).unwrap();
        change(&mut bytes);
        bundle_format::text::base64(&bytes)
    })
}

/// One line of a text changed.
fn resized_text(text: &str, line: usize, change: impl Fn(&str) -> String) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[line] = change(&lines[line]);
    lines.join("\n") + "\n"
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

fn malleable_signatures() -> Vec<Vector> {
    let first = |change: fn(&mut [u8; 64], &mut [u8; 64])| {
        signed(|_, signatures| {
            let Value::Ed25519 { signature, global, .. } = &mut signatures[0].value else { panic!() };
            change(signature, global);
        })
    };
    let mut vectors = vec![
        // The global signature covers the first one's bytes, so it is what a lax verifier would check next.
        vector!("S not reduced", BadSignature, "ed25519", first(|signature, _| add_order(signature))),
        vector!("global S not reduced", BadSignature, "ed25519", first(|_, global| add_order(global))),
        vector!("all zero", BadSignature, "ed25519", first(|signature, _| signature.fill(0))),
        vector!("global all zero", BadSignature, "ed25519", first(|_, global| global.fill(0))),
        vector!("R of small order", BadSignature, "ed25519", {
            first(|signature, _| {
                signature[..32].fill(0);
                signature[0] = 1;
            })
        }),
        vector!("S of 2^255", BadSignature, "ed25519", first(|signature, _| signature[63] |= 0x80)),
        vector!("S zero", BadSignature, "ed25519", first(|signature, _| signature[32..].fill(0))),
        vector!("R and S swapped", BadSignature, "ed25519", first(|signature, _| signature.rotate_left(32))),
        vector!("global signature in the first one's place", BadSignature, "ed25519", first(std::mem::swap)),
    ];
    vectors = breaks(&["R-SIG-8"], vectors);
    vectors.extend(breaks(
        &["R-SIG-11"],
        [vector!("commitment of small order that fulfils the equation", ImplementationsDisagree, "ed25519", {
            signed(|text, signatures| {
                use ed25519_dalek::Signer as _;
                let Value::Ed25519 { signature, comment, global } = &mut signatures[0].value else { panic!() };
                **signature = without_commitment(&bundle_format::signature::minisign_prehash(text));
                let key = ed25519_dalek::SigningKey::from_bytes(&keys::seeds(1).0);
                **global = key.sign(&[signature.as_slice(), comment.as_bytes()].concat()).to_bytes();
            })
        })],
    ));
    vectors
}

/// Alice's signature whose commitment R is the neutral element: S = k a fulfils S B = R + k A, so a
/// verifier that does not ask for R's order takes it. Who has no key cannot make it; but two
/// verifiers that differ are told apart by it.
fn without_commitment(message: &[u8]) -> [u8; 64] {
    let seeds = keys::seeds(1);
    let key = ed25519_dalek::SigningKey::from_bytes(&seeds.0);
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut secret = <[u8; 32]>::try_from(&Sha512::digest(seeds.0)[..32]).unwrap();
    secret[0] &= 0xf8;
    secret[31] = secret[31] & 0x7f | 0x40;
    let challenge = Sha512::digest([&neutral[..], key.verifying_key().as_bytes(), message].concat());
    // Horner's rule over the bits, highest first: no product is ever larger than 2 L.
    let mut product = [0; 32];
    for bit in (0..512).rev() {
        product = add(&product, &product);
        if challenge[bit / 8] >> (bit % 8) & 1 == 1 {
            product = add(&product, &reduced(secret));
        }
    }
    [neutral, product].concat().try_into().unwrap()
}

/// Sum of two scalars below the group's order, modulo it.
fn add(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut carry = 0;
    let sum = std::array::from_fn(|i| {
        let digit = u16::from(a[i]) + u16::from(b[i]) + carry;
        carry = digit >> 8;
        digit.to_le_bytes()[0]
    });
    reduced(sum)
}

/// A number below 2^256 modulo the group's order.
fn reduced(mut number: [u8; 32]) -> [u8; 32] {
    while number.iter().rev().ge(L.iter().rev()) {
        let mut borrow = 0;
        for (byte, order) in number.iter_mut().zip(L) {
            let digit = i16::from(*byte) - i16::from(order) - borrow;
            borrow = i16::from(digit < 0);
            *byte = digit.rem_euclid(256).to_le_bytes()[0];
        }
    }
    number
}

/// Alice's ML-DSA signature over the manifest with a context string.
fn in_context(text: &[u8], context: &[u8]) -> Value {
    let key = ml_dsa::SigningKey::<ml_dsa::MlDsa87>::from_seed(&keys::seeds(1).1.into());
    let signature = key.expanded_key().sign_deterministic(text, context).unwrap().encode();
    let bytes: &[u8] = &signature;
    Value::MlDsa87(Box::new(bytes.try_into().unwrap()))
}

/// Alice's pre-hashed signature over the manifest (HashML-DSA, FIPS 204, 5.4): sound, of the same size, over
/// 0x01, an empty context, the name of the hash and the digest. CNSA 2.0 wants the pure form.
fn prehashed(text: &[u8], digest: &[u8], hash: &[u8]) -> Value {
    use fips204::traits::{KeyGen as _, Signer as _, Verifier as _};
    let (public, secret) = fips204::ml_dsa_87::KG::keygen_from_seed(&keys::seeds(1).1);
    let signature = secret.try_hash_sign_with_seed(&[0; 32], digest, b"", hash).unwrap();
    assert!(public.hash_verify(digest, &signature, b"", hash), "sound as what it is");
    assert!(!public.verify(text, &signature, b""));
    Value::MlDsa87(Box::new(signature))
}

fn prehashed_signatures() -> Vec<Vector> {
    use fips204::pre_hash::{SHA2_512, SHAKE_256};
    use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};
    let shake = |text: &[u8]| {
        let mut hasher = shake::Shake256::default();
        hasher.update(text);
        let mut digest = [0; 64];
        hasher.finalize_xof().read(&mut digest);
        digest
    };
    let of_sha = || signed(|text, all| all[1].value = prehashed(text, &Sha512::digest(text), &SHA2_512));
    let of_shake = || signed(|text, all| all[1].value = prehashed(text, &shake(text), &SHAKE_256));
    let trusted = Draft::small().trusted();
    let hybrid = vec![
        vector!("HashML-DSA with SHA-512", BadSignature, "ml-dsa-87", of_sha()),
        vector!("HashML-DSA with SHAKE256", BadSignature, "ml-dsa-87", of_shake()),
    ];
    let quantum = vec![
        vector!("HashML-DSA with SHA-512, CNSA 2.0 site", BadSignature, "ml-dsa-87", of_sha()),
        vector!("HashML-DSA with SHAKE256, CNSA 2.0 site", BadSignature, "ml-dsa-87", of_shake()),
    ];
    breaks(&["R-SIG-8"], hybrid.into_iter().chain(under(&trusted, AlgorithmPolicy::Cnsa2, quantum)))
}

fn ml_dsa_signatures() -> Vec<Vector> {
    let with_context =
        |context: &'static [u8]| signed(|text, signatures| signatures[1].value = in_context(text, context));
    // The empty context is ours: what refuses the others is the context alone.
    system_tests::prove(&with_context(b""), &Draft::small().trusted()).unwrap();
    let verified = vec![
        vector!("context string", BadSignature, "ml-dsa-87", with_context(b"TEST")),
        vector!("context of one zero byte", BadSignature, "ml-dsa-87", with_context(b"\0")),
        vector!("all zero ML-DSA", BadSignature, "ml-dsa-87", member(".ml-dsa-87", |bytes| bytes.fill(0))),
        vector!("hint of another order", BadSignature, "ml-dsa-87", {
            // The last 83 bytes encode the hint; rising positions are part of the one form (FIPS 204,
            // algorithm 21).
            member(".ml-dsa-87", |bytes| bytes[4627 - 83..].swap(0, 1))
        }),
        vector!("first bit flipped", BadSignature, "ml-dsa-87", member(".ml-dsa-87", |bytes| bytes[0] ^= 1)),
        vector!("signature over the digest of the text", BadSignature, "ml-dsa-87", {
            // What a pre-hash variant would sign, without its prefix.
            signed(|text, signatures| signatures[1].value = in_context(&sha2_of(text), b""))
        }),
    ];
    let sizes = vec![
        vector!("ML-DSA one byte short", BadValue, "4627 bytes", member(".ml-dsa-87", |bytes| bytes.truncate(4626))),
        vector!("ML-DSA one byte long", BadValue, "4627 bytes", member(".ml-dsa-87", |bytes| bytes.push(0))),
        vector!("signature of ML-DSA-65", BadValue, "4627 bytes", member(".ml-dsa-87", |bytes| bytes.truncate(3309))),
        vector!("minisign file for ML-DSA", BadValue, "4627 bytes", {
            let file = Draft::small().signatures(b"x")[0].to_file();
            member(".ml-dsa-87", |bytes| *bytes = file)
        }),
        vector!("ML-DSA of no bytes", BadValue, "4627 bytes", member(".ml-dsa-87", Vec::clear)),
    ];
    [breaks(&["R-SIG-8"], verified), breaks(&["R-SIG-5"], sizes)].into_iter().flatten().collect()
}

/// A digest in the message's place.
fn sha2_of(text: &[u8]) -> Vec<u8> {
    bundle_format::digest::Sha384::of(text).as_bytes().to_vec()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [
        who_signed(),
        stripped_algorithms(),
        what_was_signed(),
        minisign_files(),
        malleable_signatures(),
        ml_dsa_signatures(),
        prehashed_signatures(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
