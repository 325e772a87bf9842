//! Codec `deflate-tokens`: whatever wrote the gzip bytes, they come back to the bit; whatever token bytes
//! arrive, the decoder neither panics nor gives more than it should (docs/spec/tokens.md).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::needless_for_each, reason = "small numbers of the tests' own")]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod deflate;
mod hostile;
mod odd;
mod tools;

use std::io::Read as _;
use std::sync::mpsc::channel;

use bundle_format::tokens::{BadTokens, Inside, NotCodable, TokenDecoder, TokenEncoder};

/// Token bytes, the gzip bytes pushed in parts of `part`.
fn encode(gzip: &[u8], part: usize) -> Result<Vec<u8>, NotCodable> {
    let mut out = Vec::new();
    let mut encoder = TokenEncoder::new();
    for part in gzip.chunks(part) {
        encoder.push(part, &mut out)?;
    }
    encoder.finish(&mut out)?;
    Ok(out)
}

/// Gzip bytes, the token bytes pushed in parts of `part`.
fn decode(tokens: &[u8], part: usize, limit: u64) -> Result<Vec<u8>, BadTokens> {
    let mut out = Vec::new();
    let mut decoder = TokenDecoder::new(limit);
    for part in tokens.chunks(part) {
        decoder.push(part, &mut out)?;
    }
    decoder.finish(&mut out)?;
    Ok(out)
}

/// Encodes, decodes and compares; gives the token bytes.
#[track_caller]
fn round_trip(gzip: &[u8], what: &str) -> Vec<u8> {
    let tokens = encode(gzip, 1 << 20).unwrap_or_else(|why| panic!("{what}: {why}"));
    let back = decode(&tokens, 1 << 16, gzip.len() as u64).unwrap_or_else(|why| panic!("{what}: {why}"));
    assert!(back == gzip, "{what}: comes back differently");
    looked_into(&tokens, gzip, what);
    tokens
}

/// Whether all that the gzip holds is shown while it is decoded. Nothing else may be, by the word of another
/// reader; where that one refuses the gzip, this must be odd, or have another checksum.
#[track_caller]
fn looked_into(tokens: &[u8], gzip: &[u8], what: &str) -> bool {
    let (send, receive) = channel();
    let listener = move |inside: Inside<'_>| {
        let (bytes, end) = match inside {
            Inside::Bytes(bytes) => (bytes.to_vec(), None),
            Inside::End(trailer) => (Vec::new(), Some(Some(trailer))),
            Inside::Odd => (Vec::new(), Some(None)),
        };
        send.send((bytes, end)).is_ok()
    };
    let (mut out, mut decoder) = (Vec::new(), TokenDecoder::with_listener(gzip.len() as u64, Box::new(listener)));
    for part in tokens.chunks(1 << 20) {
        decoder.push(part, &mut out).unwrap();
    }
    decoder.finish(&mut out).unwrap();
    assert!(out == gzip, "{what}: comes back differently to who listens");
    let (mut seen, mut crc, mut sound, mut odd, mut ended) = (Vec::new(), flate2::Crc::new(), true, false, false);
    for (bytes, end) in receive {
        assert!(bytes.len() < 300_000, "{what}: {} bytes at once", bytes.len());
        assert!(!odd, "{what}: something behind what is odd");
        crc.update(&bytes);
        seen.extend(bytes);
        match end {
            None => ended = false,
            Some(None) => (sound, odd) = (false, true),
            Some(Some(trailer)) => {
                let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
                sound &= trailer == *expected;
                (crc, ended) = (flate2::Crc::new(), true);
            }
        }
    }
    let mut all = Vec::new();
    match flate2::bufread::MultiGzDecoder::new(gzip).read_to_end(&mut all) {
        Ok(_) if sound => assert!(ended && seen == all, "{what}: {} bytes seen of {}", seen.len(), all.len()),
        Ok(_) => assert!(all.starts_with(&seen), "{what}: other bytes seen"),
        Err(why) => assert!(!sound, "{what}: the other reader says {why}"),
    }
    sound
}

/// Lines of made-up words with some random bytes between them.
fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<Vec<u8>> =
        (0..300).map(|_| (0..2 + random() % 8).map(|_| b'a' + (random() % 26) as u8).collect()).collect();
    let mut out = Vec::with_capacity(size + 64);
    while out.len() < size {
        if random() % 50 == 0 {
            out.extend((0..random() % 60).map(|_| random() as u8));
        }
        let word = &words[(random() % 300).min(random() % 300) as usize];
        out.extend(word);
        out.push(if random() % 8 == 0 { b'\n' } else { b' ' });
    }
    out.truncate(size);
    out
}
