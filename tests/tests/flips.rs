//! Any flipped bit, any cut and any byte more is refused by the whole proof.
//!
//! The bundle is under a root of one signer: every byte of the format is there, with fewer
//! signatures to verify for each of some ten thousand damaged copies.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use bundle_format::root::TrustedRoot;
use bundle_format::{Class, ErrorKind};
use system_tests::{Draft, prove, ustar};

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

/// Byte and mask of every flip that is tried: one bit of every byte, all bits of headers and of the
/// packs' content.
fn flips(archive: &[u8]) -> Vec<(usize, u8)> {
    let mut whole = vec![false; archive.len()];
    for place in ustar::places(archive) {
        whole[place.header.clone()].fill(true);
        if place.name.starts_with("packs/") {
            whole[place.content].fill(true);
        }
    }
    let bits = |at: usize| if whole[at] { (0..8).map(|bit| 1 << bit).collect() } else { vec![some_bit(at)] };
    (0..archive.len()).flat_map(|at| bits(at).into_iter().map(move |mask| (at, mask))).collect()
}

/// What a flipped archive says for itself, unless it is refused as it must be.
fn flipped(archive: &[u8], trusted: &TrustedRoot, at: usize, mask: u8) -> Option<String> {
    let mut bad = archive.to_vec();
    bad[at] ^= mask;
    match prove(&bad, trusted) {
        Ok(()) => Some(format!("byte {at} mask {mask:#04x}: accepted")),
        Err(error) if matches!(error.class(), Class::Damaged | Class::Untrusted) => None,
        Err(error) => Some(format!("byte {at} mask {mask:#04x}: {:?}: {error}", error.class())),
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let draft = Draft::tiny();
    let (archive, trusted) = (draft.archive(), draft.trusted());
    prove(&archive, &trusted).unwrap();
    let flips = flips(&archive);
    judge(flips.len(), |case| flipped(&archive, &trusted, flips[case].0, flips[case].1));
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
