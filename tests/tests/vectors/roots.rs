//! Defects of the chain of trust roots that a bundle carries.

use bundle_format::key::Scheme;
use bundle_format::root::{RootEnvelope, TrustedRoot};
use bundle_format::signature::{AlgorithmPolicy, Signature};
use signing_keys::Signer;
use system_tests::keys::{self, alice, bob, carol, mallory, payload, root, root_file, root_file_of, signed_root};
use system_tests::{Draft, ustar};

use crate::{Vector, breaks, under, vector};

fn dave() -> Signer {
    keys::signer("test-dave", 4)
}

/// The small bundle with these root files, signed by alice and bob.
fn chain(files: &[Vec<u8>]) -> Vec<u8> {
    let mut sealed = Draft::small().sealed().without(|name| name.starts_with("root/"));
    let at = sealed.members.iter().position(|(name, _)| name.starts_with("packs/")).unwrap();
    let named = files.iter().enumerate().map(|(i, file)| (format!("root/{:05}.json", i + 1), file.clone()));
    sealed.members.splice(at..at, named);
    sealed.archive()
}

fn file(envelope: &RootEnvelope) -> Vec<u8> {
    envelope.to_bytes().unwrap()
}

fn one() -> Vec<u8> {
    file(&keys::two_of_three())
}

/// A root of bob, carol and dave.
fn next(version: u64, threshold: usize, signers: &[&Signer]) -> RootEnvelope {
    signed_root(version, threshold, &[&bob(), &carol(), &dave()], signers)
}

fn links() -> Vec<Vector> {
    let two = |signers: &[&Signer]| file(&next(2, 2, signers));
    let good = next(2, 2, &[&bob(), &carol()]);
    let text = payload(good.claimed());
    let only = |scheme: Scheme| {
        let kept = good.signatures().iter().filter(|s| s.scheme() == scheme).cloned().collect();
        root_file_of(&text, kept)
    };
    let versions = vec![
        vector!("no root", RootVersion, "expected version 1, found 0", chain(&[])),
        vector!(
            "chain from version 2 on",
            RootVersion,
            "expected version 1, found 2",
            chain(&[two(&[&bob(), &carol()])])
        ),
        vector!("version 1 without a threshold of its own", Threshold, "found 1", {
            chain(&[file(&signed_root(1, 2, &[&alice(), &bob(), &carol()], &[&alice()]))])
        }),
        vector!("version 1 unsigned", Threshold, "found 0", {
            chain(&[file(&signed_root(1, 2, &[&alice(), &bob(), &carol()], &[]))])
        }),
        vector!("version 1 signed by a stranger too", UnknownKey, "does not list", {
            chain(&[file(&signed_root(1, 2, &[&alice(), &bob(), &carol()], &[&alice(), &bob(), &mallory()]))])
        }),
    ];
    let rotation = vec![
        vector!("version skipped", RootVersion, "expected version 2, found 3", {
            chain(&[one(), file(&next(3, 2, &[&bob(), &carol()]))])
        }),
        vector!("fast forward", RootVersion, "expected version 2, found 18446744073709551615", {
            chain(&[one(), file(&next(u64::MAX, 2, &[&bob(), &carol()]))])
        }),
        vector!("version again", RootVersion, "expected version 2, found 1", chain(&[one(), one()])),
        vector!("version falls back", RootVersion, "expected version 3, found 1", {
            chain(&[one(), two(&[&bob(), &carol()]), one()])
        }),
        vector!("link unsigned", Threshold, "version 1, found 0", chain(&[one(), two(&[])])),
        vector!("link below the old threshold", Threshold, "version 1, found 1", {
            chain(&[one(), two(&[&carol(), &dave()])])
        }),
        vector!("link below the new threshold", Threshold, "version 2, found 1", {
            chain(&[one(), two(&[&alice(), &bob()])])
        }),
        vector!("link signed by the new keys alone", Threshold, "version 1, found 0", {
            chain(&[one(), file(&signed_root(2, 1, &[&dave()], &[&dave()]))])
        }),
        vector!("link signed by the old keys alone", Threshold, "version 2, found 0", {
            chain(&[one(), file(&signed_root(2, 1, &[&dave()], &[&alice(), &bob()]))])
        }),
        vector!("link signed by a stranger too", UnknownKey, "does not list", {
            chain(&[one(), two(&[&bob(), &carol(), &mallory()])])
        }),
        vector!("link signed for the former text", BadSignature, "does not verify", {
            // By all three, so that enough keys of either version are claimed (R-ROOT-17).
            let all = [&alice(), &bob(), &carol()];
            chain(&[one(), root_file_of(&text, signed_root(1, 2, &all, &all).signatures().to_vec())])
        }),
        vector!("link without ML-DSA", Threshold, "ml-dsa-87", chain(&[one(), only(Scheme::Ed25519)])),
        vector!("link without Ed25519", Threshold, "ed25519", chain(&[one(), only(Scheme::MlDsa87)])),
        vector!("link whose threshold was lowered by one signer", Threshold, "version 1, found 1", {
            chain(&[one(), file(&signed_root(2, 1, &[&alice(), &bob(), &carol()], &[&alice()]))])
        }),
    ];
    [breaks(&["R-ROOT-6"], versions), breaks(&["R-ROOT-7", "R-ROOT-10"], rotation)].into_iter().flatten().collect()
}

/// A site that trusts the root of version `n` of a chain, step by step.
fn site(chain: &[RootEnvelope]) -> TrustedRoot {
    let (first, rest) = chain.split_first().unwrap();
    rest.iter().fold(keys::anchor(first), |trusted, next| trusted.advance(next).unwrap())
}

fn sites() -> Vec<Vector> {
    let office = signed_root(1, 1, &[&mallory()], &[&mallory()]);
    let other = signed_root(1, 1, &[&alice(), &bob(), &carol()], &[&alice()]);
    let foreign = vec![
        vector!("another office's root", UnknownRoot, "root version 1", {
            Draft { roots: vec![office], signers: vec![mallory()], ..Draft::small() }.archive()
        }),
        vector!("other bytes for the trusted version", UnknownRoot, "root version 1", chain(&[file(&other)])),
    ];
    let real = [keys::two_of_three(), next(2, 2, &[&bob(), &carol()])];
    let fork = signed_root(2, 2, &[&alice(), &bob(), &mallory()], &[&alice(), &bob()]);
    let forks = vec![vector!("fork behind version 1", UnknownRoot, "root version 2", chain(&[one(), file(&fork)]))];
    let revoked = vec![
        vector!(
            "signed by a key that the next root took out",
            UnknownKey,
            "version 2 does not list",
            chain(&[one(), file(&real[1])])
        ),
        vector!(
            "older chain, signed by a key that was taken out since",
            UnknownKey,
            "version 2 does not list",
            chain(&[one()])
        ),
    ];
    [
        breaks(&["R-ROOT-8", "R-ROOT-5", "R-PRF-2"], foreign),
        breaks(&["R-ROOT-8"], under(&site(&real), AlgorithmPolicy::Hybrid, forks)),
        breaks(&["R-ROOT-9", "R-SIG-8"], under(&site(&real), AlgorithmPolicy::Hybrid, revoked)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The small bundle whose root has one part of its text replaced, signed anew.
fn altered(from: &str, to: &str) -> Vec<u8> {
    let text = payload(&root(1, 2, &[&alice(), &bob(), &carol()]));
    assert!(text.contains(from), "{from}");
    chain(&[root_file(&text.replacen(from, to, 1), &[&alice(), &bob()])])
}

fn public(signer: &Signer, scheme: Scheme) -> String {
    let holder = signer.public().holder();
    holder.keys.iter().find(|key| key.scheme() == scheme).unwrap().to_text()
}

#[allow(clippy::too_many_lines, reason = "one table")]
fn payloads() -> Vec<Vector> {
    let id = |signer: &Signer| keys::key_id(signer, Scheme::Ed25519).to_string();
    let (alices, bobs) = (id(&alice()), id(&bob()));
    let values = vec![
        vector!(
            "root of threshold 0",
            Inconsistent,
            "has the threshold 0",
            altered("\"threshold\":2", "\"threshold\":0")
        ),
        vector!(
            "root of threshold 4 with 3 keys",
            Inconsistent,
            "threshold of 4",
            altered("\"threshold\":2", "\"threshold\":4")
        ),
        vector!("root that names a key twice", Inconsistent, "names a key twice", {
            altered(&format!("[\"{alices}\""), &format!("[\"{alices}\",\"{alices}\""))
        }),
        vector!("root that names an unlisted key", Inconsistent, "not listed", {
            altered(&format!("[\"{alices}\""), "[\"0011223344556677\"")
        }),
        vector!("release role of nobody", Inconsistent, "role release", {
            let text = payload(&root(1, 1, &[&alice()]));
            let (head, tail) = text.split_once("\"release\":").unwrap();
            let (role, _) = tail.split_once('}').unwrap();
            let keys = role.split_once('[').unwrap().1;
            chain(&[root_file(&format!("{head}\"release\":{}}}}}}}\n", role.replace(keys, "]")), &[&alice()])])
        }),
    ];
    let versions = vec![
        vector!("root of version 0", Inconsistent, "version is 0", altered("\"version\":1", "\"version\":0")),
        vector!("key listed twice", Inconsistent, "appears twice", {
            altered(
                &format!(
                    "\"id\":\"{bobs}\",\"scheme\":\"ed25519\",\"holder\":\"test-bob\",\"public\":\"{}\"",
                    public(&bob(), Scheme::Ed25519)
                ),
                &format!(
                    "\"id\":\"{alices}\",\"scheme\":\"ed25519\",\"holder\":\"test-bob\",\"public\":\"{}\"",
                    public(&alice(), Scheme::Ed25519)
                ),
            )
        }),
        vector!("root that expires when it is issued", Inconsistent, "issued", altered("2036-01-01", "2026-01-01")),
        vector!("holder with an escape sequence", BadName, "key holder", altered("test-alice", "test\\u001b[2J")),
        vector!("holder in capitals", BadName, "key holder", altered("test-alice", "Test-Alice")),
    ];
    let ids = vec![
        vector!("key under another id", Inconsistent, "has the id", {
            altered(&format!("\"id\":\"{alices}\""), "\"id\":\"0011223344556677\"")
        }),
        vector!("two keys with one id", Inconsistent, "has the id", {
            altered(&format!("\"id\":\"{bobs}\""), &format!("\"id\":\"{alices}\""))
        }),
        vector!("key id in capitals", Json, "16 lower-case", {
            altered(&format!("\"id\":\"{alices}\""), &format!("\"id\":\"{}\"", alices.to_uppercase()))
        }),
    ];
    let ed25519 = public(&alice(), Scheme::Ed25519);
    let text_of = |point: [u8; 32]| bundle_format::key::PublicKey::Ed25519(point).to_text();
    let small = |defect: &str, point: [u8; 32]| {
        vector!(defect, BadValue, "ed25519 public key", altered(&ed25519, &text_of(point)))
    };
    let hex = |text: &str| <[u8; 32]>::try_from(bundle_format::text::unhex(text).unwrap()).unwrap();
    let number = bundle_format::text::base64(
        &[&b"Ed"[..], &[0; 8], &bundle_format::text::unbase64(&ed25519).unwrap()[10..]].concat(),
    );
    let points = vec![
        small("neutral element for a key", hex("0100000000000000000000000000000000000000000000000000000000000000")),
        small("neutral element with a sign", hex("0100000000000000000000000000000000000000000000000000000000000080")),
        small("point of order 2", hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")),
        small("point of order 4", [0; 32]),
        small("point of order 8", hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        small("another point of order 8", hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
        small(
            "neutral element in a second form",
            hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ),
        small("no point of the curve", hex("0200000000000000000000000000000000000000000000000000000000000000")),
        vector!("foreign key number", BadValue, "derived from the key", altered(&ed25519, &number)),
        vector!("secret key's form for a public key", BadValue, "ed25519 public key", {
            altered(&ed25519, &bundle_format::text::base64(&[b"Ed\0\0B2", &[7; 64][..]].concat()))
        }),
        vector!(
            "key of the other scheme",
            BadValue,
            "ed25519 public key",
            altered(&ed25519, &public(&alice(), Scheme::MlDsa87))
        ),
        vector!("key that is no base64", BadValue, "base64", altered(&ed25519, "RW*")),
    ];
    let ml_dsa = public(&alice(), Scheme::MlDsa87);
    let resized = |len: usize| {
        let mut bytes = bundle_format::text::unbase64(&ml_dsa).unwrap();
        bytes.resize(len, 0);
        altered(&ml_dsa, &bundle_format::text::base64(&bytes))
    };
    let lattices = vec![
        vector!("ML-DSA-65 key", BadValue, "2592 bytes", resized(1952)),
        vector!("ML-DSA-44 key", BadValue, "2592 bytes", resized(1312)),
        vector!("ML-DSA key one byte long", BadValue, "2592 bytes", resized(2593)),
        vector!("ML-DSA key of no bytes", BadValue, "2592 bytes", altered(&ml_dsa, "")),
    ];
    let forms = vec![
        vector!("root with a space", NotCanonical, "trust root", altered("\"version\":1", "\"version\": 1")),
        vector!("root of null for the agents", NotCanonical, "trust root", altered("}}\n", ",\"transfer\":null}}\n")),
        vector!("root with a newline more", NotCanonical, "trust root", altered("}}\n", "}}\n\n")),
        vector!(
            "root whose letters are escapes",
            NotCanonical,
            "trust root",
            altered("test-alice", "\\u0074est-alice")
        ),
    ];
    let fields = vec![
        vector!("root with an unknown field", Json, "unknown field", altered("\"version\":1", "\"version\":1,\"x\":1")),
        vector!(
            "root with a doubled key",
            Json,
            "duplicate field",
            altered("\"version\":1", "\"version\":1,\"version\":1")
        ),
        vector!("root without an expiry", Json, "missing field", altered(",\"expires\":\"2036-01-01T00:00:00Z\"", "")),
        vector!(
            "root of an unknown scheme",
            Json,
            "unknown variant",
            altered("\"scheme\":\"ml-dsa-87\"", "\"scheme\":\"ml-dsa-65\"")
        ),
        vector!(
            "root of HashML-DSA",
            Json,
            "unknown variant",
            altered("\"scheme\":\"ml-dsa-87\"", "\"scheme\":\"hash-ml-dsa-87\"")
        ),
        vector!(
            "root of an unknown role",
            Json,
            "unknown field",
            altered("\"roles\":{", "\"roles\":{\"admin\":{\"threshold\":1,\"keys\":[]},")
        ),
        vector!("root without a release role", Json, "missing field", {
            let text = payload(&root(1, 1, &[&alice()]));
            let (head, _) = text.split_once(",\"release\":").unwrap();
            chain(&[root_file(&format!("{head}}}}}\n"), &[&alice()])])
        }),
    ];
    let numbers = vec![
        vector!(
            "root of a threshold below zero",
            Json,
            "invalid value",
            altered("\"threshold\":2", "\"threshold\":-1")
        ),
        vector!("root of a broken threshold", Json, "invalid type", altered("\"threshold\":2", "\"threshold\":1.5")),
    ];
    [
        breaks(&["R-ROOT-3"], values),
        breaks(&["R-ROOT-2"], versions),
        breaks(&["R-SIG-1", "R-ROOT-2"], ids),
        breaks(&["R-SIG-2"], points),
        breaks(&["R-SIG-3"], lattices),
        breaks(&["R-ROOT-1", "R-JSON-5"], forms),
        breaks(&["R-JSON-2"], fields),
        breaks(&["R-JSON-3"], numbers),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn envelopes() -> Vec<Vector> {
    let good = keys::two_of_three();
    let text = String::from_utf8(file(&good)).unwrap();
    let edited = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        chain(&[text.replacen(from, to, 1).into_bytes()])
    };
    let mut doubled: Vec<Signature> = good.signatures().to_vec();
    doubled.push(doubled[0].clone());
    let reversed = {
        let (head, list) = text.split_once("\"signatures\":[").unwrap();
        let mut entries: Vec<&str> =
            list.trim_end().trim_end_matches("]}").split("},").map(|e| e.trim_end_matches('}')).collect();
        entries.reverse();
        format!("{head}\"signatures\":[{}}}]}}\n", entries.join("},")).into_bytes()
    };
    let id = keys::key_id(&alice(), Scheme::Ed25519);
    let head = vec![
        vector!("envelope of another format", UnknownFormat, "envelope/2", edited("envelope/1", "envelope/2")),
        vector!(
            "root of another format",
            UnknownFormat,
            "lockgate-root/2",
            altered("lockgate-root/1", "lockgate-root/2")
        ),
        vector!("envelope with a space", NotCanonical, "envelope", edited(":", ": ")),
        vector!(
            "envelope without its newline",
            NotCanonical,
            "envelope",
            chain(&[text.trim_end().as_bytes().to_vec()])
        ),
        vector!("signature twice in an envelope", NotCanonical, "envelope", {
            chain(&[root_file_of(&payload(good.claimed()), doubled)])
        }),
        vector!("signatures of an envelope out of order", NotCanonical, "envelope", chain(&[reversed])),
        vector!("envelope's signature by another name", BadValue, "envelope", {
            edited(&format!("\"key\":\"{id}\""), "\"key\":\"0011223344556677\"")
        }),
        vector!("payload that is no base64", Json, "base64", edited("\"payload\":\"", "\"payload\":\"*")),
        vector!("empty envelope", Json, "EOF", chain(&[Vec::new()])),
        vector!("envelope without signatures' list", Json, "missing field", {
            let (head, _) = text.split_once(",\"signatures\"").unwrap();
            chain(&[format!("{head}}}\n").into_bytes()])
        }),
    ];
    let large = vec![vector!("signature in an envelope over 64 KiB", BadValue, "at most 64 KiB", {
        let entry = text.split_once("\"file\":\"").unwrap().1.split_once('"').unwrap().0;
        edited(entry, &bundle_format::text::base64(&vec![0; (64 << 10) + 1]))
    })];
    let many = {
        let text = payload(&root(1, 1, &[&alice()]));
        let entry = text.split_once("\"keys\":[").unwrap().1.split_once("},{").unwrap().0.to_owned() + "},";
        chain(&[root_file(&text.replacen("\"keys\":[", &format!("\"keys\":[{}", entry.repeat(255)), 1), &[&alice()])])
    };
    let roots = {
        let file = file(&signed_root(1, 1, &[&alice()], &[&alice()]));
        let mut archive = ustar::plain("manifest.json", b"{}");
        (1..=1025).for_each(|version| archive.extend(ustar::plain(&format!("root/{version:05}.json"), &file)));
        archive.extend(ustar::END);
        archive
    };
    [
        breaks(&["R-ROOT-4"], head),
        breaks(&["R-LIM-2"], large),
        breaks(&["R-LIM-6", "R-ROOT-2"], [vector!("257 keys", TooLarge, "found 257", many)]),
        breaks(&["R-LIM-5"], [vector!("1025 roots", TooLarge, "limit is 1024", roots)]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A bundle under a root whose text is changed, signed by alice and bob.
fn with_roles(root: &RootEnvelope, change: impl Fn(String) -> String) -> Vec<u8> {
    let text = payload(root.claimed());
    let bad = change(text.clone());
    assert_ne!(bad, text);
    chain(&[root_file(&bad, &[&alice(), &bob()])])
}

fn optional_roles() -> Vec<Vector> {
    let id = |signer: &Signer| keys::key_id(signer, Scheme::Ed25519).to_string();
    let built = keys::root_with_builders(1, &[&keys::bella(), &keys::boris()]);
    let approved = keys::root_with_approvers();
    // A key of the role replaced by another in the role's own list.
    let swapped = |root: &RootEnvelope, role: &str, from: &Signer, to: &Signer| {
        with_roles(root, |text| {
            let (head, tail) = text.split_once(&format!("\"{role}\":{{")).unwrap();
            format!("{head}\"{role}\":{{{}", tail.replace(&id(from), &id(to)))
        })
    };
    let renamed = |root: &RootEnvelope, from: &str, to: &str| with_roles(root, |text| text.replace(from, to));
    let (bella, ada) = (keys::bella(), keys::ada());
    let apart = vec![
        vector!("builder who releases", Inconsistent, "holds another role", swapped(&built, "builder", &bella, &bob())),
        vector!("builder with a signer's name", Inconsistent, "holds role builder and keys outside it", {
            renamed(&built, "test-bella", "test-alice")
        }),
        vector!("two builders of one name", Inconsistent, "has two", renamed(&built, "test-boris", "test-bella")),
        vector!(
            "approver who releases",
            Inconsistent,
            "holds another role",
            swapped(&approved, "approve", &ada, &bob())
        ),
        vector!("approver with a signer's name", Inconsistent, "holds role approve and keys outside it", {
            renamed(&approved, "test-ada", "test-alice")
        }),
        vector!("two approvers of one name", Inconsistent, "has two", renamed(&approved, "test-amos", "test-ada")),
    ];
    let thresholds = vec![
        vector!("builders' threshold of 0", Inconsistent, "has the threshold 0", {
            renamed(&built, "\"builder\":{\"threshold\":1", "\"builder\":{\"threshold\":0")
        }),
        vector!("builders' threshold over their number", Inconsistent, "for a threshold of 3", {
            renamed(&built, "\"builder\":{\"threshold\":1", "\"builder\":{\"threshold\":3")
        }),
    ];
    let approvers = vec![vector!("one approver alone", Inconsistent, "at least 2", {
        renamed(&approved, "\"approve\":{\"threshold\":2", "\"approve\":{\"threshold\":1")
    })];
    let order = vec![vector!("optional roles in another order", NotCanonical, "trust root", {
        let both = root(1, 2, &[&alice(), &bob(), &carol()])
            .with_builder(1, &keys::holders(&[&bella]))
            .unwrap()
            .with_approve(2, &keys::holders(&[&ada, &keys::amos()]))
            .unwrap();
        with_roles(&keys::signed_by_two(both), |text| {
            let (head, tail) = text.split_once(",\"builder\":").unwrap();
            let (builder, approve) = tail.trim_end().trim_end_matches("}}").split_once(",\"approve\":").unwrap();
            format!("{head},\"approve\":{approve},\"builder\":{builder}}}}}\n")
        })
    })];
    [
        breaks(&["R-ROOT-11"], apart),
        breaks(&["R-ROOT-3"], thresholds),
        breaks(&["R-ROOT-12"], approvers),
        breaks(&["R-ROOT-1", "R-JSON-5"], order),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn erin() -> Signer {
    keys::signer("test-erin", 5)
}

/// A chain of two whose second root, of these holders, ends in `resets`; soundly signed.
fn reset(holders: &[&Signer], resets: &str) -> Vec<u8> {
    let text = payload(&root(2, 2, holders)).replace("}}}\n", &format!("}}}},\"sequence_resets\":{resets}}}\n"));
    assert!(text.contains("sequence_resets"), "{text}");
    let (alice, bob) = (alice(), bob());
    let former = [&alice, &bob].into_iter().filter(|of| holders.iter().all(|holder| holder.name() != of.name()));
    chain(&[one(), root_file(&text, &former.chain(holders.iter().copied()).collect::<Vec<_>>())])
}

fn resets() -> Vec<Vector> {
    let entry = |product: &str, sequence: u64| format!("{{\"product\":\"{product}\",\"sequence\":{sequence}}}");
    let list = |entries: &[String]| format!("[{}]", entries.join(","));
    let apart = |resets: &str| reset(&[&carol(), &dave(), &erin()], resets);
    let of = |entries: &[String]| apart(&list(entries));
    let forms = vec![
        vector!("resets out of order", Inconsistent, "not strictly rising", of(&[entry("b", 1), entry("a", 1)])),
        vector!("reset twice", Inconsistent, "not strictly rising", of(&[entry("a", 1), entry("a", 2)])),
        vector!("reset to sequence 0", Inconsistent, "out of range", of(&[entry("a", 0)])),
        vector!("reset of a product that climbs", BadName, "sequence reset", of(&[entry("../a", 1)])),
        vector!("resets of nothing", NotCanonical, "trust root", apart("[]")),
        vector!("resets in version 1", Inconsistent, "version 1 resets", {
            let text = payload(&root(1, 2, &[&alice(), &bob(), &carol()]));
            let text = text.replace("}}}\n", &format!("}}}},\"sequence_resets\":{}}}\n", list(&[entry("a", 1)])));
            chain(&[root_file(&text, &[&alice(), &bob()])])
        }),
    ];
    let high = vec![
        vector!("reset to sequence 2^63", Inconsistent, "out of range", of(&[entry("a", 1 << 63)])),
        vector!("reset to epoch 2^63", Inconsistent, "out of range", {
            apart("[{\"product\":\"a\",\"sequence\":1,\"security_epoch\":9223372036854775808}]")
        }),
    ];
    let many = vec![vector!("101 resets", TooLarge, "sequence resets", {
        of(&(0..101).map(|number| entry(&format!("p{number:03}"), 1)).collect::<Vec<_>>())
    })];
    let kept = vec![
        vector!("reset that revokes nobody", ResetWithoutRevocation, "keeps 3", {
            reset(&[&alice(), &bob(), &carol()], &list(&[entry("a", 1)]))
        }),
        vector!("reset that leaves a threshold of signers", ResetWithoutRevocation, "keeps 2", {
            reset(&[&bob(), &carol(), &dave()], &list(&[entry("a", 1)]))
        }),
    ];
    [
        breaks(&["R-ROOT-13"], forms),
        breaks(&["R-ROOT-13", "R-LIM-51"], high),
        breaks(&["R-ROOT-13", "R-LIM-50"], many),
        breaks(&["R-ROOT-14"], kept),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A bundle under a root with agents, whose text is changed.
fn agents(change: impl Fn(String) -> String) -> Vec<u8> {
    with_roles(&keys::root_with_agents(2, &[&keys::tina(), &keys::theo()]), change)
}

fn transfer_roles() -> Vec<Vector> {
    let with_agents = keys::root_with_agents(2, &[&keys::tina(), &keys::theo()]);
    let bundle = |signers| Draft { roots: vec![with_agents.clone()], signers, ..Draft::small() }.archive();
    let id = |signer: &Signer| keys::key_id(signer, Scheme::Ed25519).to_string();
    let wrong_role = vec![
        vector!("release signed by transfer agents", Threshold, "found 0", bundle(vec![keys::tina(), keys::theo()])),
        vector!("release signed by one signer and two agents", Threshold, "found 1", {
            bundle(vec![keys::tina(), keys::theo(), alice()])
        }),
    ];
    let roles = vec![
        vector!("agent who is a signer", Inconsistent, "holds another role", {
            agents(|text| {
                let (head, tail) = text.split_once("\"transfer\":").unwrap();
                format!("{head}\"transfer\":{}", tail.replace(&id(&keys::tina()), &id(&alice())))
            })
        }),
        vector!("agent with a signer's name", Inconsistent, "holds role transfer and keys outside it", {
            agents(|text| text.replace("test-tina", "test-alice"))
        }),
        vector!(
            "two agents of one name",
            Inconsistent,
            "has two",
            agents(|text| text.replace("test-theo", "test-tina"))
        ),
    ];
    let roles = breaks(&["R-ROOT-11"], roles);
    let trusted = keys::anchor(&with_agents);
    let wrong_role =
        under(&trusted, AlgorithmPolicy::Hybrid, breaks(&["R-SIG-9", "R-SIG-10", "R-ROOT-11"], wrong_role));
    [roles, wrong_role].into_iter().flatten().collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [links(), sites(), payloads(), envelopes(), transfer_roles(), optional_roles(), resets()]
        .into_iter()
        .flatten()
        .collect()
}
