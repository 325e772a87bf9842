//! Any flipped bit, any cut and any byte more is refused, with the class that the specification says.
//!
//! Every bit of headers, manifest, signatures and root chain is flipped, and thousands in the
//! payload. The bundle is under a root of one signer: every byte of the format is there, with fewer
//! signatures to verify for each of some two hundred thousand damaged copies.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
#![allow(clippy::print_stdout, reason = "the counts are part of the test's report")]

use std::sync::atomic::{AtomicUsize, Ordering};

use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::key::Scheme;
use bundle_format::manifest::Frame;
use bundle_format::pack::{Encoding, Held, NoSink, unpack};
use bundle_format::root::{Role, RootEnvelope, TrustedRoot, apply_chain};
use bundle_format::signature::{AlgorithmPolicy, Signature, verify_threshold};
use bundle_format::text::base64;
use bundle_format::{Class, ErrorKind, Result};
use system_tests::{Draft, keys, prove, ustar};

/// Judges every case on as many threads as there are processors; the first verdicts that are not
/// empty are the test's failure.
fn judge(cases: usize, verdict: impl Fn(usize) -> Option<String> + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let bad: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|case| *case < cases);
            std::iter::from_fn(mine).filter_map(&verdict).take(10).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(bad.is_empty(), "{cases} cases, among them: {bad:#?}");
}

/// A bit for a byte: fixed, spread over all eight.
const fn some_bit(at: usize) -> u8 {
    let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    1 << (mixed >> 61)
}

/// What a flipped archive says for itself, unless it is refused as it must be.
fn flipped(archive: &[u8], trusted: &TrustedRoot, at: usize, mask: u8) -> Option<String> {
    let mut bad = archive.to_vec();
    bad[at] ^= mask;
    match prove(&bad, trusted) {
        Ok(()) => Some(format!("byte {at} mask {mask:#04x}: accepted")),
        Err(error) if specified(error.kind()) == Some(error.class()) => None,
        Err(error) => Some(format!("byte {at} mask {mask:#04x}: {:?}: {error}", error.class())),
    }
}

/// The class that section 12 of the specification gives a kind that a flipped bit can cause.
const fn specified(kind: &ErrorKind) -> Option<Class> {
    match kind {
        ErrorKind::Json { .. }
        | ErrorKind::NotCanonical { .. }
        | ErrorKind::UnknownFormat { .. }
        | ErrorKind::BadValue { .. }
        | ErrorKind::BadName { .. }
        | ErrorKind::Inconsistent { .. }
        | ErrorKind::Truncated { .. }
        | ErrorKind::TooLarge { .. }
        | ErrorKind::NotCanonicalArchive { .. }
        | ErrorKind::UnexpectedMember { .. }
        | ErrorKind::TrailingBytes { .. }
        | ErrorKind::FrameDigest { .. } => Some(Class::Damaged),
        ErrorKind::BadSignature { .. }
        | ErrorKind::UnknownKey { .. }
        | ErrorKind::UnknownRoot { .. }
        | ErrorKind::RootVersion { .. } => Some(Class::Untrusted),
        _ => None,
    }
}

/// Flips every bit of `bytes`, one at a time, and asks `judge`; `wanted` says which kinds are right.
fn every_bit(what: &str, bytes: &[u8], wanted: fn(&ErrorKind) -> bool, judge_one: impl Fn(&[u8]) -> Result<()> + Sync) {
    judge_one(bytes).unwrap();
    judge(bytes.len() * 8, |case| {
        let mut bad = bytes.to_vec();
        bad[case / 8] ^= 1 << (case % 8);
        match judge_one(&bad) {
            Err(error) if wanted(error.kind()) && specified(error.kind()) == Some(error.class()) => None,
            other => Some(format!("{what}: bit {} of byte {}: {other:?}", case % 8, case / 8)),
        }
    });
    println!("{what}: {} flipped bits, every one refused as specified", bytes.len() * 8);
}

/// The parts of a head, each to be flipped bit by bit while the others stay proved: nothing is
/// verified again that the flip cannot touch.
struct Head {
    manifest: Vec<u8>,
    signatures: Vec<Signature>,
    root: Vec<u8>,
    trusted: TrustedRoot,
}

fn head() -> Head {
    let draft = Draft::tiny();
    let archive = draft.archive();
    let (head, _) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    Head {
        manifest: head.manifest_bytes().to_vec(),
        signatures: head.signatures().to_vec(),
        root: head.roots()[0].to_bytes().unwrap(),
        trusted: draft.trusted(),
    }
}

impl Head {
    fn verify(&self, manifest: &[u8], signatures: &[Signature]) -> Result<()> {
        let policy = AlgorithmPolicy::Hybrid;
        verify_threshold("manifest", manifest, signatures, self.trusted.root(), &[Role::Release], policy).map(drop)
    }
}

/// R-SIG-8: not one bit of what was signed.
#[test]
fn every_bit_of_the_manifest() {
    let head = head();
    let wanted = |kind: &ErrorKind| matches!(kind, ErrorKind::BadSignature { .. });
    every_bit("manifest", &head.manifest, wanted, |bytes| head.verify(bytes, &head.signatures));
}

/// R-SIG-4 and 5: another form is damage; R-SIG-8: another signature is not trusted.
#[test]
fn every_bit_of_the_signatures() {
    let head = head();
    for (index, signature) in head.signatures.iter().enumerate() {
        let judge_one = |bytes: &[u8]| {
            let mut signatures = head.signatures.clone();
            signatures[index] = Signature::parse_file("signature", signature.key, signature.scheme(), bytes)?;
            head.verify(&head.manifest, &signatures)
        };
        let wanted: fn(&ErrorKind) -> bool = match signature.scheme() {
            Scheme::Ed25519 => |kind| {
                matches!(
                    kind,
                    ErrorKind::BadSignature { .. } | ErrorKind::BadValue { .. } | ErrorKind::NotCanonical { .. }
                )
            },
            Scheme::MlDsa87 => |kind| matches!(kind, ErrorKind::BadSignature { .. }),
        };
        every_bit(signature.scheme().name(), &signature.to_file(), wanted, judge_one);
    }
}

/// What a flipped bit of a root can cause.
const fn of_a_root(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Json { .. }
            | ErrorKind::NotCanonical { .. }
            | ErrorKind::UnknownFormat { .. }
            | ErrorKind::BadValue { .. }
            | ErrorKind::BadName { .. }
            | ErrorKind::Inconsistent { .. }
            | ErrorKind::BadSignature { .. }
            | ErrorKind::UnknownKey { .. }
            | ErrorKind::UnknownRoot { .. }
            | ErrorKind::RootVersion { .. }
    )
}

/// R-ROOT-1 to 4: another form is damage; R-ROOT-7, R-SIG-8: another content is not trusted.
#[test]
fn every_bit_of_the_root_chain() {
    let head = head();
    every_bit("root", &head.root, of_a_root, |bytes| {
        apply_chain(&head.trusted, &[RootEnvelope::parse(bytes)?]).map(drop)
    });
}

/// R-ROOT-6 to 10: the same of a chain of two roots, for a site that trusts the first and for one that
/// trusts the second. Every bit, but for the ML-DSA-87 signatures, each flip of which costs their whole verification: of these,
/// one bit of every fourth byte.
#[test]
fn every_bit_of_a_chain_of_two_roots() {
    let (alice, bob) = (keys::alice(), keys::bob());
    let chain =
        [keys::signed_root(1, 1, &[&alice], &[&alice]), keys::signed_root(2, 1, &[&alice, &bob], &[&alice, &bob])];
    let files: Vec<Vec<u8>> = chain.iter().map(|root| root.to_bytes().unwrap()).collect();
    let mut cases: Vec<(usize, usize, u8)> = Vec::new();
    for (link, (root, file)) in chain.iter().zip(&files).enumerate() {
        let mut sampled = vec![false; file.len()];
        for signature in root.signatures().iter().filter(|signature| signature.scheme() == Scheme::MlDsa87) {
            let text = base64(&signature.to_file());
            let at = file.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
            sampled[at..at + text.len()].fill(true);
        }
        for (at, sampled) in sampled.into_iter().enumerate() {
            let every =
                (0..8).map(|bit| 1 << bit).filter(|mask| !sampled || at.is_multiple_of(4) && *mask == some_bit(at));
            cases.extend(every.map(|mask| (link, at, mask)));
        }
    }
    for trusted in &chain {
        let version = trusted.claimed().version();
        let trusted = keys::anchor(trusted);
        assert_eq!(apply_chain(&trusted, &chain).unwrap().root().version(), 2);
        judge(cases.len(), |case| {
            let (link, at, mask) = cases[case];
            let mut bad = files[link].clone();
            bad[at] ^= mask;
            let judged = RootEnvelope::parse(&bad).and_then(|bad| {
                let mut chain = chain.clone();
                chain[link] = bad;
                apply_chain(&trusted, &chain)
            });
            match judged {
                Err(error) if of_a_root(error.kind()) && specified(error.kind()) == Some(error.class()) => None,
                other => Some(format!("trusted {version}, root {link}, byte {at}, mask {mask:#04x}: {other:?}")),
            }
        });
    }
    println!("chain of two roots: {} flipped bits for each of two sites, every one refused as specified", cases.len());
}

/// R-ARC-1 to 5: whatever is not content is damage. The walk alone is asked; what it passes, the
/// tests above flip.
#[test]
fn every_bit_of_the_archive_outside_of_content() {
    let archive = Draft::tiny().archive();
    let mut content = vec![false; archive.len()];
    for place in ustar::places(&archive) {
        content[place.content].fill(true);
    }
    let outside: Vec<usize> = (0..archive.len()).filter(|at| !content[*at]).collect();
    let draft = Draft::tiny();
    let (head, _) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    let manifest = head.verify(&draft.trusted(), AlgorithmPolicy::Hybrid).unwrap();
    let walk = |bytes: &[u8]| {
        let (_, mut packs) = UnverifiedEnvelope::read(bytes)?;
        unpack(&mut packs, &manifest, Held::Nothing, &mut NoSink, 1, &mut |_| {})
    };
    walk(&archive).unwrap();
    judge(outside.len() * 8, |case| {
        let mut bad = archive.clone();
        bad[outside[case / 8]] ^= 1 << (case % 8);
        match walk(&bad) {
            Err(error) if specified(error.kind()) == Some(Class::Damaged) && error.class() == Class::Damaged => None,
            other => Some(format!("bit {} of byte {}: {other:?}", case % 8, outside[case / 8])),
        }
    });
    println!("archive outside of content: {} flipped bits, every one refused as specified", outside.len() * 8);
}

/// Flips in the payload.
const SAMPLES: usize = 12_000;

/// R-PACK-2: one bit of a stored byte, and its frame is refused before a decoder sees it.
#[test]
fn sampled_bits_of_the_payload() {
    let mut draft = Draft::tiny();
    let noise: Vec<u8> = (0..48 << 10).map(|at: usize| some_bit(at) ^ some_bit(at / 7) ^ (at % 251) as u8).collect();
    draft.add_files(Encoding::Raw, &[&noise]);
    draft.add_files(Encoding::Zstd { level: 3 }, &[&noise[1..]]);
    // Small frames, so that a flip costs one of them.
    for (pack, stored) in draft.manifest.packs.iter_mut().zip(&draft.packs) {
        pack.frames = stored.chunks(1500).map(Frame::of).collect();
    }
    let (archive, trusted) = (draft.archive(), draft.trusted());
    let (head, _) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    let manifest = head.verify(&trusted, AlgorithmPolicy::Hybrid).unwrap();
    let payload: Vec<usize> = ustar::places(&archive)
        .into_iter()
        .filter(|place| place.name.starts_with("packs/"))
        .flat_map(|place| place.content)
        .collect();
    judge(SAMPLES, |case| {
        let mixed = (case as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = payload[usize::try_from(mixed >> 16).unwrap() % payload.len()];
        let mut bad = archive.clone();
        bad[at] ^= some_bit(case);
        let (_, mut packs) = UnverifiedEnvelope::read(&bad[..]).unwrap();
        match unpack(&mut packs, &manifest, Held::Nothing, &mut NoSink, 1, &mut |_| {}) {
            Err(error) if matches!(error.kind(), ErrorKind::FrameDigest { .. }) && error.class() == Class::Damaged => {
                None
            }
            other => Some(format!("byte {at}: {other:?}")),
        }
    });
    println!("payload: {SAMPLES} flipped bits, every one refused as specified");
}

/// No divisor of the block size, so that every kind of place is met.
const STEP: usize = 97;

#[test]
fn flipped_bits_under_a_root_of_three_are_refused() {
    let draft = Draft::small();
    let (archive, trusted) = (draft.archive(), draft.trusted());
    prove(&archive, &trusted).unwrap();
    judge(archive.len() / STEP, |case| flipped(&archive, &trusted, case * STEP, some_bit(case)));
}

#[test]
fn every_cut_is_refused_as_truncated() {
    let draft = Draft::tiny();
    let (archive, trusted) = (draft.archive(), draft.trusted());
    judge(archive.len(), |len| match prove(&archive[..len], &trusted) {
        Err(error) if matches!(error.kind(), ErrorKind::Truncated { .. }) => None,
        other => Some(format!("cut to {len} bytes: {other:?}")),
    });
}

#[test]
fn a_byte_more_is_refused() {
    let draft = Draft::tiny();
    let (archive, trusted) = (draft.archive(), draft.trusted());
    for byte in [0, 1, b'x', 0xff] {
        let error = prove(&[&archive[..], &[byte]].concat(), &trusted).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TrailingBytes { .. }), "{byte}: {error}");
    }
}
