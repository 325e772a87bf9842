//! One side of the token codec alone, from standard input to standard output, for measuring its memory.
//!
//! `lockgate-test-tokens encode|decode`
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's own program")]

use std::io::{Read as _, Write as _};

use bundle_format::tokens::{TokenDecoder, TokenEncoder};

fn main() {
    let side = std::env::args().nth(1);
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut encoder, mut decoder) = (TokenEncoder::new(), TokenDecoder::new(u64::MAX));
    let to_tokens = match side.as_deref() {
        Some("encode") => true,
        Some("decode") => false,
        other => panic!("{other:?} is no side"),
    };
    // In parts as a pack's reader hands them over.
    let (mut part, mut out) = (vec![0; 256 << 10], Vec::new());
    loop {
        let count = input.read(&mut part).unwrap();
        if count == 0 {
            break;
        }
        if to_tokens {
            encoder.push(&part[..count], &mut out).unwrap();
        } else {
            let take = &mut |bytes: &mut Vec<u8>| {
                output.write_all(bytes).unwrap();
                bytes.clear();
            };
            decoder.push_by_parts(&part[..count], &mut out, take).unwrap();
        }
        output.write_all(&out).unwrap();
        out.clear();
    }
    if to_tokens {
        encoder.finish(&mut out).unwrap();
    } else {
        decoder.finish(&mut out).unwrap();
    }
    output.write_all(&out).unwrap();
}
