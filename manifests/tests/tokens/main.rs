//! Codec `deflate-tokens`: whatever wrote the gzip bytes, they come back to the bit; whatever token bytes
//! arrive, the decoder neither panics nor gives more than it should (docs/spec/tokens.md).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::needless_for_each, reason = "small numbers of the tests' own")]
#![allow(unreachable_pub, reason = "modules of one test program")]

mod deflate;
mod hostile;
mod odd;
mod tools;

use bundle_format::tokens::{BadTokens, NotCodable, TokenDecoder, TokenEncoder};

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
    tokens
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
