//! Token bytes that no encoder wrote: refused or decoded, never a panic, never more than their size allows.

use proptest::prelude::*;

use bundle_format::limits;
use bundle_format::tokens::TokenDecoder;

use crate::odd::member;
use crate::{content, decode, encode};

/// What the decoder may give for so many token bytes.
const fn bound(tokens: usize) -> usize {
    8 * tokens + 16
}

/// Token bytes of one segment with these streams.
fn segment(streams: [&[u8]; 7]) -> Vec<u8> {
    let mut tokens = vec![2];
    for stream in streams {
        assert!(stream.len() < 128);
        tokens.push(stream.len() as u8);
    }
    tokens.extend(streams.concat());
    tokens
}

const HEADER: &[u8] = &[1, 10, 0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];
const END: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[track_caller]
fn refused(tokens: &[u8], why: &str) {
    let found = decode(tokens, 1000, 1 << 30).expect_err(why).to_string();
    assert!(found.contains(why), "expected {why:?}, found {found:?}");
    assert_eq!(found, decode(tokens, 1, 1 << 30).unwrap_err().to_string(), "depends on how the bytes are cut");
}

/// A member with one last block of that record, and these other streams.
fn block(record: &[u8], others: [&[u8]; 6]) -> Vec<u8> {
    let control = [HEADER, record, END].concat();
    segment([&control, others[0], others[1], others[2], others[3], others[4], others[5]])
}

/// The same of literals alone, of any number.
fn long_block(record: &[u8], literals: &[u8]) -> Vec<u8> {
    let control = [HEADER, record, END].concat();
    let mut size = literals.len();
    let mut number = Vec::new();
    while size > 127 {
        number.push(size as u8 | 128);
        size >>= 7;
    }
    number.push(size as u8);
    [&[2, control.len() as u8, 0, 0][..], &number, &[0, 0, 0], &control, literals].concat()
}

#[test]
fn every_refusal() {
    let none: [&[u8]; 6] = [&[]; 6];
    assert!(decode(&block(&[0x45, 0], none), 1, 1000).is_ok());
    refused(&[1], "unknown version");
    refused(&[2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], "no number");
    refused(&[2, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0], "longer than it may be");
    refused(&[], "cut short");
    refused(&[2], "cut short");
    refused(&[block(&[0x45, 0], none), vec![0]].concat(), "behind the end");
    // Records out of place or unknown.
    refused(&segment([&[0], &[], &[], &[], &[], &[], &[]]), "out of place");
    refused(&segment([&[0x45, 0], &[], &[], &[], &[], &[], &[]]), "out of place");
    refused(&segment([&[HEADER, HEADER].concat(), &[], &[], &[], &[], &[], &[]]), "out of place");
    refused(&segment([&[HEADER, END].concat(), &[], &[], &[], &[], &[], &[]]), "out of place");
    refused(&block(&[4, 0], none), "out of place");
    refused(&block(&[0x55, 0], none), "out of place");
    refused(&block(&[0x43, 0], none), "unknown block");
    refused(&block(&[0x4F, 0], none), "foretell");
    refused(&segment([&HEADER[..5], &[], &[], &[], &[], &[], &[]]), "ends early");
    // Blocks.
    refused(&block(&[0x41, 0x80, 0x80, 4, 0], none), "over 65535");
    refused(&block(&[0x41, 0, 0x20], none), "does not fit");
    refused(&block(&[0x41, 1, 0], none), "literals end early");
    refused(&block(&[0x45, 1], none), "literals end early");
    refused(&block(&[0x45, 1], [&[], &[], b"ab", &[], &[], &[]]), "more than its blocks");
    refused(&block(&[0x45, 1], [&[0], &[], &[], &[], &[], &[]]), "distances end early");
    refused(&block(&[0x45, 1], [&[0], &[], &[], &[0], &[], &[]]), "distances end early");
    refused(&block(&[0x45, 1], [&[0], &[], &[], &[1], &[], &[]]), "distances end early");
    refused(&block(&[0x45, 1], [&[0], &[], &[], &[132], &[], &[]]), "beyond the window");
    refused(&block(&[0x45, 1], [&[0x1F], &[], &[], &[128], &[], &[]]), "long lengths end early");
    refused(&block(&[0x45, 1], [&[0x1F], &[226], &[], &[128], &[], &[]]), "beyond 258");
    refused(&block(&[0x45, 1], [&[0xE0], &[0xFF], &[], &[128], &[], &[]]), "run of literals");
    // Foretold heads: unknown methods; those of whole blocks for one too long, or cut.
    for method in 1..=6 {
        assert!(decode(&block(&[0x4D, 0, method], none), 1, 1000).is_ok(), "method {method}");
    }
    for method in [0, 7, 255] {
        refused(&block(&[0x4D, 0, method], none), "foretell");
    }
    for method in [1, 2, 6] {
        refused(&block(&[0x4D, 0x81, 0x80, 4, method], none), "foretell");
        refused(&block(&[0x4F, 0, method], none), "foretell");
    }
    for method in [3, 4, 5] {
        refused(&block(&[0x4D, 0x81, 0x80, 4, method], none), "literals end early");
        refused(&block(&[0x4F, 0, method], none), "out of place");
        // A code made from the first 65,535 literals has no word for another one behind them.
        let literals = [&vec![b'a'; 65_535][..], b"b"].concat();
        refused(&long_block(&[0x4D, 0x80, 0x80, 4, method], &literals), "code lacks");
        assert!(decode(&long_block(&[0x4D, 0x80, 0x80, 4, method], &vec![b'a'; 65_536]), 1, 1 << 20).is_ok());
    }
    refused(&block(&[0x49, 0, 0, 0, 3], none), "head is none");
    refused(&block(&[0x49, 0, 0, 0, 4, 8, 0, 0, 0], none), "head is none");
    // Two lengths: 256 zeros, the end's code of one bit, no distance; then a literal that it lacks.
    let head = [0, 0, 18, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 155, 135, 1, 0];
    refused(&block(&[&[0x49, 1][..], &head].concat(), [&[], &[], b"a", &[], &[], &[]]), "code lacks");
    // A code length code that lacks what is written.
    let head = [0, 0, 18, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 155, 135, 1, 0];
    refused(&block(&[&[0x49, 0][..], &head].concat(), none), "cannot be written");
}

#[test]
fn no_more_than_was_signed() {
    let tokens = block(&[0x45, 3], [&[], &[], b"abc", &[], &[], &[]]);
    let size = decode(&tokens, 9, 1 << 20).unwrap().len() as u64;
    assert!(decode(&tokens, 9, size).is_ok());
    assert!(decode(&tokens, 9, size - 1).unwrap_err().to_string().contains("more bytes than"));
}

#[test]
fn a_segment_too_long_is_refused_before_it_arrives() {
    let mut tokens = vec![2];
    let mut size = limits::TOKEN_SEGMENT_MOST + 1;
    while size > 127 {
        tokens.push(size as u8 | 128);
        size >>= 7;
    }
    tokens.push(size as u8);
    tokens.extend([0; 6]);
    refused(&tokens, "longer than it may be");
}

#[test]
fn cut_and_flipped_tokens() {
    let gzip = include_bytes!("../vectors-gzip/zlib-flush-sync-small.gz");
    let tokens = encode(gzip, 1000).unwrap();
    for size in 0..tokens.len() {
        assert!(decode(&tokens[..size], 4096, gzip.len() as u64).is_err(), "cut after {size}");
    }
    let mut flipped = tokens.clone();
    for at in 0..tokens.len() {
        flipped[at] ^= 1 << (at % 8);
        let mut out = Vec::new();
        let mut decoder = TokenDecoder::new(gzip.len() as u64 * 2);
        let result = decoder.push(&flipped, &mut out).and_then(|()| decoder.finish(&mut out));
        assert!(result.is_err() || out != gzip, "a flipped bit of byte {at} changes nothing");
        assert!(out.len() <= bound(tokens.len()), "byte {at}: {} bytes", out.len());
        flipped[at] = tokens[at];
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_behind_a_sound_start(mut streams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 7)) {
        streams[0].splice(0..0, HEADER.iter().copied());
        let streams: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
        let tokens = segment(streams.try_into().unwrap());
        let mut out = Vec::new();
        let _ = TokenDecoder::new(1 << 20).push(&tokens, &mut out);
        prop_assert!(out.len() <= bound(tokens.len()));
    }

    #[test]
    fn random_bytes(tokens in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Vec::new();
        let _ = TokenDecoder::new(1 << 20).push(&[&[2][..], &tokens].concat(), &mut out);
        prop_assert!(out.len() <= bound(tokens.len()));
    }

    #[test]
    fn tokens_with_some_bytes_changed(gzip in member(), changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut tokens = encode(&gzip, 100).unwrap();
        for (at, byte) in changes {
            let at = usize::from(at) % tokens.len();
            tokens[at] = byte;
        }
        let mut out = Vec::new();
        let mut decoder = TokenDecoder::new(1 << 20);
        let _ = decoder.push(&tokens, &mut out).and_then(|()| decoder.finish(&mut out));
        prop_assert!(out.len() <= bound(tokens.len()));
    }

    #[test]
    fn gzip_with_some_bytes_changed(gzip in member(), changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut gzip = gzip;
        for (at, byte) in changes {
            let at = usize::from(at) % gzip.len();
            gzip[at] = byte;
        }
        // Either it is not codable, or it comes back.
        if let Ok(tokens) = encode(&gzip, 100) {
            prop_assert_eq!(decode(&tokens, 100, gzip.len() as u64).unwrap(), gzip);
        }
    }
}

#[test]
fn gzip_of_random_bytes_never_panics() {
    let noise = content(100_000, 11);
    for start in 0..200 {
        let gzip = [&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0][..], &noise[start * 400..]].concat();
        if let Ok(tokens) = encode(&gzip, 5000) {
            assert!(decode(&tokens, 5000, gzip.len() as u64).unwrap() == gzip);
        }
    }
}
