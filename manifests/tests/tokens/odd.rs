//! Gzip that is allowed and that no compressor writes; and what is refused.

use proptest::prelude::*;

use crate::deflate::{Deflate, Style, Symbol};
use crate::{content, decode, encode, looked_into, round_trip};

fn literals(bytes: &[u8]) -> Vec<Symbol> {
    bytes.iter().map(|byte| Symbol::Literal(*byte)).collect()
}

#[test]
fn every_length_and_distance() {
    let mut symbols = Vec::new();
    for length in 3..=258 {
        symbols.push(Symbol::Match(length, length * 100));
        symbols.push(Symbol::Literal(length as u8));
    }
    for distance in 1..=32_768 {
        symbols.push(Symbol::Match(3 + distance % 256, distance));
    }
    symbols.extend([Symbol::Odd258(32_768), Symbol::Match(258, 32_768), Symbol::Odd258(1), Symbol::Match(258, 1)]);
    let mut stream = Deflate::default();
    stream.fixed(false, &symbols);
    stream.dynamic(true, &symbols, Style::default());
    round_trip(&stream.member(0), "every length and distance");
}

/// What symbols stand for.
fn meant(symbols: &[Symbol]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for symbol in symbols {
        let (length, distance) = match symbol {
            Symbol::Literal(byte) => {
                bytes.push(*byte);
                continue;
            }
            Symbol::Match(length, distance) => (*length, *distance),
            Symbol::Odd258(distance) => (258, *distance),
        };
        for _ in 0..length {
            bytes.push(bytes[bytes.len() - usize::from(distance)]);
        }
    }
    bytes
}

/// gzip with the right trailer.
fn sealed(stream: Deflate, content: &[u8]) -> Vec<u8> {
    let (mut gzip, mut crc) = (stream.member(0), flate2::Crc::new());
    crc.update(content);
    let trailer = gzip.len() - 8;
    gzip.splice(trailer.., [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat());
    gzip
}

#[test]
fn content_is_shown_of_every_length_and_distance_and_of_none_that_leaves_its_member() {
    let before = literals(&content(32_768, 12));
    let mut symbols = before.clone();
    for length in 3..=258 {
        for distance in [1, 2, 3, 4, 5, 7, 8, 9, 11, 15, 16, 17, 31, 32, 33, 255, 258, 4096, 32_767, 32_768] {
            symbols.push(Symbol::Match(length, distance));
            symbols.extend(literals(&content(usize::from(length + distance) % 40, 13)));
        }
    }
    for distance in 1..=32_768 {
        symbols.push(Symbol::Match(3 + distance % 256, distance));
    }
    symbols.extend([Symbol::Odd258(32_768), Symbol::Match(258, 32_768), Symbol::Odd258(1), Symbol::Match(258, 1)]);
    let of = |symbols: &[Symbol], stored: &[u8]| {
        let mut stream = Deflate::default();
        stream.dynamic(false, symbols, Style::default());
        stream.stored(true, 0, stored);
        sealed(stream, &[&meant(symbols), stored].concat())
    };
    let shown = |gzip: &[u8], what: &str| looked_into(&encode(gzip, 1 << 20).unwrap(), gzip, what);
    let whole = of(&symbols, &content(60_000, 14));
    assert!(shown(&whole, "all"));
    assert!(shown(&[&whole[..], &whole].concat(), "twice"));
    // The last distance that a member has, and one more; what lies before it is another member's.
    for start in [1, 300, 32_767] {
        for (distance, fits) in [(start, true), (start + 1, false)] {
            let symbols = [&before[..usize::from(start)], &[Symbol::Match(5, distance)]].concat();
            let mut stream = Deflate::default();
            stream.fixed(true, &symbols);
            let bytes = if fits { meant(&symbols) } else { Vec::new() };
            let gzip = [&whole[..], &sealed(stream, &bytes)].concat();
            assert_eq!(shown(&gzip, &format!("distance {distance} at {start}")), fits);
        }
    }
    // Of some readers' eyes only: a tail, a checksum in the header, a wrong one behind the content.
    let mut header = whole.clone();
    header.splice(3..10, [2, 0, 0, 0, 0, 0, 255, 0xAA, 0xBB]);
    let mut trailer = whole.clone();
    *trailer.last_mut().unwrap() ^= 1;
    for (gzip, what) in [([&whole[..], b"x"].concat(), "a tail"), (header, "FHCRC"), (trailer, "another size")] {
        assert!(!shown(&gzip, what), "{what}");
    }
}

#[test]
fn every_recent_distance() {
    let symbols: Vec<Symbol> =
        (0..4000_u32).map(|at| Symbol::Match(4, 1 + (at.wrapping_mul(2_654_435_761) >> 20) as u16 % 6)).collect();
    let mut stream = Deflate::default();
    stream.dynamic(true, &symbols, Style::default());
    round_trip(&stream.member(0), "recent distances");
}

#[test]
fn runs_of_literals_of_every_length() {
    let mut symbols = Vec::new();
    for run in 0..300 {
        symbols.extend(literals(&content(run, 9)));
        symbols.push(Symbol::Match(34 + run as u16 % 225, 77));
    }
    let mut stream = Deflate::default();
    stream.dynamic(true, &symbols, Style::default());
    round_trip(&stream.member(0), "runs");
}

#[test]
fn stored_blocks_empty_full_and_with_odd_padding() {
    let mut stream = Deflate::default();
    stream.stored(false, 0, b"");
    stream.stored(false, 0x1F, &content(65_535, 1));
    stream.fixed(false, &literals(b"between"));
    stream.stored(false, 1, b"x");
    stream.fixed(false, &[]);
    stream.dynamic(false, &[], Style::default());
    stream.stored(true, 3, b"last");
    round_trip(&stream.member(0), "stored");
    let mut stream = Deflate::default();
    stream.fixed(true, &literals(b"padding before the trailer"));
    round_trip(&stream.member(0x15), "padding");
}

#[test]
fn codes_of_fifteen_bits_and_one_distance_code_or_none() {
    // Lengths 1, 2, ... 14, 15, 15: the longest code there is.
    let (mut litlen, mut dist) = (vec![0; 286], vec![0; 30]);
    for symbol in 0..15 {
        litlen[100 + symbol] = symbol as u8 + 1;
        dist[symbol] = symbol as u8 + 1;
    }
    litlen[256] = 15;
    dist[29] = 15;
    let symbols = literals(&(100..115).cycle().take(5000).collect::<Vec<u8>>());
    let mut stream = Deflate::default();
    stream.coded(false, &symbols, &litlen, &dist, Style::default());
    litlen[100] = 0;
    litlen[257] = 1;
    let symbols: Vec<Symbol> = [1, 2, 3, 4, 200, 24_577, 32_768].map(|distance| Symbol::Match(3, distance)).into();
    dist[14] = 0;
    dist[15] = 15;
    stream.coded(false, &symbols, &litlen, &dist, Style { seed: 1, wide: true });
    // A single distance code of one bit, and none at all.
    let mut single = vec![0; 30];
    single[3] = 1;
    stream.coded(false, &[Symbol::Match(3, 4); 9], &litlen, &single, Style::default());
    stream.coded(true, &literals(b"eee"), &litlen, &[0; 30], Style::default());
    round_trip(&stream.member(0), "codes");
}

#[test]
fn heads_written_in_every_way() {
    let symbols: Vec<Symbol> = literals(&content(3000, 3));
    for seed in 0..200 {
        let mut stream = Deflate::default();
        stream.dynamic(true, &symbols, Style { seed, wide: seed % 3 == 0 });
        round_trip(&stream.member(0), &format!("seed {seed}"));
    }
}

#[test]
fn header_fields_members_and_what_follows() {
    let mut deflate = Deflate::default();
    deflate.fixed(true, &literals(b"abc"));
    let plain = deflate.member(0);
    let mut fields = vec![0x1F, 0x8B, 8, 0x1F, 1, 2, 3, 4, 5, 6];
    fields.extend([3, 0, b'x', 0, b'y']);
    fields.extend(b"name\0comment\0");
    fields.extend([0xAA, 0xBB]);
    fields.extend(&plain[10..]);
    round_trip(&fields, "all header fields");
    for tail in [&b"\0"[..], &vec![0; 100_000], b"other bytes", &fields[..12], &[0x1F], &[0x1F, 0x8B, 8, 0xE0, 0]] {
        let gzip = [&plain[..], &fields, &plain, tail].concat();
        let tokens = round_trip(&gzip, "members and a tail");
        for part in [1, 7, 1000, 40_000] {
            assert!(tokens == encode(&gzip, part).unwrap(), "depends on how the bytes are cut");
        }
    }
}

#[test]
fn a_block_longer_than_a_segment() {
    let mut symbols = literals(&content(9_000_000, 4));
    for (at, symbol) in symbols.iter_mut().enumerate().skip(4_000_000) {
        if at % 3 > 0 {
            *symbol = Symbol::Match(3 + at as u16 % 256, 1 + (at as u16) % 32_768);
        }
    }
    let mut stream = Deflate::default();
    stream.fixed(false, &symbols[..10]);
    stream.dynamic(false, &symbols, Style::default());
    stream.fixed(true, &symbols[..10]);
    let gzip = stream.member(0);
    let tokens = round_trip(&gzip, "a long block");
    assert!(tokens.len() > bundle_format::limits::TOKEN_SEGMENT_MOST);
    assert!(tokens == encode(&gzip, 77_777).unwrap(), "depends on how the bytes are cut");
}

#[test]
fn stored_blocks_longer_than_a_segment() {
    let bytes = content(65_535, 2);
    let mut stream = Deflate::default();
    for _ in 0..300 {
        stream.stored(false, 0, &bytes);
    }
    stream.stored(true, 0, b"");
    let gzip = stream.member(0);
    let tokens = round_trip(&gzip, "stored blocks");
    for part in [77_777, 1_000_003] {
        assert!(tokens == encode(&gzip, part).unwrap(), "depends on how the bytes are cut");
    }
}

#[test]
fn a_layer_cut_short_is_not_codable() {
    let mut stream = Deflate::default();
    stream.dynamic(false, &literals(&content(300, 1)), Style::default());
    stream.stored(true, 0, b"stored");
    let gzip = stream.member(0);
    round_trip(&gzip, "whole");
    for size in 0..gzip.len() {
        assert!(encode(&gzip[..size], 7).is_err(), "cut after {size} bytes");
    }
}

#[test]
fn what_is_no_gzip_is_not_codable() {
    let member = |bits: &[(u32, u32)]| {
        let mut stream = Deflate::default();
        bits.iter().for_each(|(value, count)| stream.bits(*value, *count));
        stream.bits(0, 32);
        stream.member(0)
    };
    let wide = [(5, 3), (31, 5), (0, 5), (0, 4)];
    let dists = [(5, 3), (0, 5), (31, 5), (0, 4)];
    let over = [(5, 3), (0, 5), (0, 5), (0, 4), (1, 3), (1, 3), (1, 3), (0, 3)];
    // A repeat first: 16 and 17 have one bit each, 16 comes first.
    let repeat = [(5, 3), (0, 5), (0, 5), (0, 4), (1, 3), (1, 3), (0, 3), (0, 3), (0, 1), (0, 2)];
    for (gzip, why) in [
        (b"tar, not gzip".to_vec(), "no gzip header"),
        (vec![0x1F, 0x8B, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0], "no gzip header"),
        (vec![0x1F, 0x8B, 8, 0x20, 0, 0, 0, 0, 0, 0, 3, 0], "no gzip header"),
        ([&[0x1F, 0x8B, 8, 8, 0, 0, 0, 0, 0, 0][..], &vec![b'n'; 80_000]].concat(), "no gzip header"),
        (member(&[(7, 3)]), "type 3"),
        (member(&[(1, 3), (0, 5), (5, 16), (5, 16)]), "contradicts"),
        (member(&wide), "no code"),
        (member(&dists), "no code"),
        (member(&over), "no code"),
        (member(&repeat), "no code"),
        // Symbol 286 of the fixed code, and distance 30: 11000110 and 11110.
        (member(&[(3, 3), (0b0110_0011, 8)]), "bits that are no code"),
        (member(&[(3, 3), (0b100_0000, 7), (0b01111, 5)]), "bits that are no code"),
    ] {
        let found = encode(&gzip, 5).expect_err(why).to_string();
        assert!(found.contains(why), "expected {why:?}, found {found:?}");
    }
}

/// The example of docs/spec/tokens.md: frozen.
#[test]
fn the_example_of_the_specification() {
    let mut stream = Deflate::default();
    let mut symbols = literals(b"abcdefgh");
    symbols.extend([Symbol::Match(8, 8), Symbol::Literal(b'!'), Symbol::Match(258, 8), Symbol::Match(40, 300)]);
    stream.fixed(true, &symbols);
    let gzip = stream.member(0);
    let tokens = encode(&gzip, 1000).unwrap();
    assert_eq!(hex(&gzip), EXAMPLE_GZIP);
    assert_eq!(hex(&tokens), EXAMPLE_TOKENS);
    assert_eq!(decode(&tokens, 1, 1000).unwrap(), gzip);
}

/// A gzip file of Go's: its blocks' heads are foretold. Frozen too.
#[test]
fn the_token_bytes_of_a_real_file_stay() {
    let gzip = include_bytes!("../vectors-gzip/go-default.gz");
    let tokens = encode(gzip, 1000).unwrap();
    let digest = bundle_format::digest::Sha384::of(&tokens).to_string();
    assert_eq!((tokens.len(), digest.as_str()), (GO_SIZE, GO_SHA384));
}

const EXAMPLE_GZIP: &str = "1f8b08000000000000ff4b4c4a4e494d4bcf80d18aa334b16105006372632e73697a65";
const EXAMPLE_TOKENS: &str = concat!(
    "02",
    "19030309030101",
    "010a1f8b08000000000000ff",
    "450c",
    "02006372632e73697a65",
    "00",
    "e53f1f",
    "01e006",
    "616263646566676821",
    "008001",
    "07",
    "2b"
);
const GO_SIZE: usize = 10331;
const GO_SHA384: &str =
    "61b0ea3c35d9e97162e8e61a1b55d9b98543458d6cacb84b70cdd99de290fd75c209a52b5ac3f09f8beb36f90ac089b4";

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn symbol() -> impl Strategy<Value = Symbol> {
    prop_oneof![
        3 => any::<u8>().prop_map(Symbol::Literal),
        3 => (0..4_u8).prop_map(Symbol::Literal),
        3 => (3..=258_u16, 1..=32_768_u16).prop_map(|(length, distance)| Symbol::Match(length, distance)),
        3 => (3..=6_u16, 1..=5_u16).prop_map(|(length, distance)| Symbol::Match(length, distance)),
        1 => (1..=32_768_u16).prop_map(Symbol::Odd258),
    ]
}

/// A member of any blocks.
pub fn member() -> impl Strategy<Value = Vec<u8>> {
    let symbols = || prop::collection::vec(symbol(), 0..200);
    let block = prop_oneof![
        (0..128_u32, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(pad, bytes)| (0, pad, Vec::new(), bytes)),
        symbols().prop_map(|symbols| (1, 0, symbols, Vec::new())),
        (any::<u32>(), symbols()).prop_map(|(seed, symbols)| (2, seed, symbols, Vec::new())),
    ];
    (prop::collection::vec(block, 1..6), 0..128_u32).prop_map(|(blocks, pad)| {
        let mut stream = Deflate::default();
        let count = blocks.len();
        for (at, (kind, number, symbols, bytes)) in blocks.into_iter().enumerate() {
            let last = at + 1 == count;
            match kind {
                0 => stream.stored(last, number, &bytes),
                1 => stream.fixed(last, &symbols),
                _ => stream.dynamic(last, &symbols, Style { seed: u64::from(number), wide: number % 2 == 0 }),
            }
        }
        stream.member(pad)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_members_come_back_however_they_are_cut(
        members in prop::collection::vec(member(), 1..4),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        (one, other) in (1..3000_usize, 1..3000_usize),
    ) {
        let gzip = [members.concat(), tail].concat();
        let tokens = encode(&gzip, one).unwrap();
        prop_assert_eq!(&tokens, &encode(&gzip, gzip.len()).unwrap());
        prop_assert_eq!(decode(&tokens, other, gzip.len() as u64).unwrap(), gzip);
    }
}
