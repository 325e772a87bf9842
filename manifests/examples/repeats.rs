//! How much of the coded streams of gzip layers repeats out of reach of a pack's window, so that chunks
//! cut by content and stored once would save it; see `benches/repeats.sh`: `repeats FILE…`, layers in the
//! order in which they lie in packs.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a measurement for people")]

use std::collections::HashMap;

use bundle_format::digest::Sha256;
use bundle_format::tokens::TokenEncoder;

/// A chunk ends where so many leading bits of the rolling hash of 64 bytes are zero: 8 KiB on average.
const CUT_BITS: u32 = 13;
/// Bytes of a chunk at least and at most.
const LEAST: usize = 2 << 10;
const MOST: usize = 64 << 10;
/// Effort, log2 of its window, bytes at which it closes a pack.
const EFFORTS: [(&str, u32, u64); 2] = [("default", 26, 128 << 20), ("max", 27, 1 << 30)];

/// A chunk's first place: bytes from the beginning of all, and its pack at each effort.
type Place = (u64, [usize; 2]);

fn main() {
    let mut seen: HashMap<Sha256, Place> = HashMap::new();
    let mut at = 0;
    let (mut packs, mut filled) = ([0; 2], [0; 2]);
    // At each effort: within the window, farther back in the pack, in another pack.
    let mut repeats = [[0u64; 3]; 2];
    for file in std::env::args().skip(1) {
        let stream = encode(&std::fs::read(&file).unwrap());
        let size = stream.len() as u64;
        for (effort, (_, _, target)) in EFFORTS.iter().enumerate() {
            if filled[effort] > 0 && filled[effort] + size > *target {
                packs[effort] += 1;
                filled[effort] = 0;
            }
            filled[effort] += size;
        }
        for chunk in chunks(&stream) {
            let place = seen.entry(Sha256::of(chunk)).or_insert((at, packs));
            let bytes = chunk.len() as u64;
            if place.0 < at {
                for (effort, (_, window, _)) in EFFORTS.iter().enumerate() {
                    let near = at + bytes - place.0 <= 1 << window;
                    let same = place.1[effort] == packs[effort];
                    repeats[effort][if same { usize::from(!near) } else { 2 }] += bytes;
                }
                // The nearest copy is what a window reaches.
                *place = (at, packs);
            }
            at += bytes;
        }
    }
    println!("{at} bytes of coded streams, {} different chunks", seen.len());
    for ((name, window, target), [near, far, other]) in EFFORTS.iter().zip(repeats) {
        let share = |bytes: u64| format!("{bytes} bytes = {}.{:03} %", bytes * 100 / at, bytes * 100_000 / at % 1000);
        println!(
            "effort {name} (window {} MiB, packs of {} MiB): repeated within the window {}, farther back in the pack {}, in another pack {}",
            1 << (window - 20),
            target >> 20,
            share(near),
            share(far),
            share(other)
        );
    }
}

fn encode(gzip: &[u8]) -> Vec<u8> {
    let (mut out, mut encoder) = (Vec::new(), TokenEncoder::new());
    encoder.push(gzip, &mut out).unwrap();
    encoder.finish(&mut out).unwrap();
    out
}

/// Cuts a stream by its content (gear hashing, as `bundle-builder/src/base/sketch.rs`).
fn chunks(stream: &[u8]) -> Vec<&[u8]> {
    let mut state = 0x4c6f_636b_6761_7465_u64;
    let gear: [u64; 256] = std::array::from_fn(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    let (mut chunks, mut start, mut hash) = (Vec::new(), 0, 0u64);
    for (at, byte) in stream.iter().enumerate() {
        hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
        let size = at + 1 - start;
        if size >= MOST || size >= LEAST && hash.leading_zeros() >= CUT_BITS {
            chunks.push(&stream[start..=at]);
            start = at + 1;
        }
    }
    chunks.push(&stream[start..]);
    chunks
}
