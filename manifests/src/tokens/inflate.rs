//! Reads deflate symbols (RFC 1951) without making content of them.

use super::bits::load;
use super::huffman::{DIST, DISTANCES, LENGTHS, LITLEN, ODD_258, codes};

/// A place in bytes, to the bit. Behind the end it reads zeros; who calls looks at [`Reader::at`].
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At bit `at`.
    pub(super) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The bit's number.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// At least 57 bits from here.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        load(self.bytes, self.at >> 3) >> (self.at & 7)
    }

    /// Goes on by `count` bits.
    #[inline(always)]
    pub(super) const fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// The next `count` bits, at most 32.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let bits = self.peek() & ((1 << count) - 1);
        self.skip(count);
        bits as u32
    }
}

/// Bits that a first look at a literal or length code sees.
const LITLEN_BITS: u32 = 11;
/// The same for a distance code.
const DIST_BITS: u32 = 9;

// A table entry, from the lowest bit: code length in this table (0: no such code), 8 bits; extra
// bits, 4; kind, 4; value, 16.
const LENGTH: u32 = 1 << 12;
const STOP: u32 = 2 << 12;
const DEEPER: u32 = 3 << 12;
const LITERAL: u32 = 4 << 12;

/// The two codes of a block, as tables for decoding.
#[derive(Debug, Default)]
pub(super) struct Tables {
    litlen: Vec<u32>,
    dist: Vec<u32>,
}

/// What the first look at a symbol's bits found. A word of 57 bits has room for [`LITERALS`] literals, and
/// behind all but one of them still for the first look at the next symbol.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry(u32);

/// See [`Entry`]; a code takes 15 bits at most.
pub(super) const LITERALS: u64 = 3;
/// Bits of a symbol at most: two codes, 5 and 13 extra bits.
const SYMBOL_BITS: usize = 48;
/// Bits that may have been used of a word in which a whole symbol is still to be read.
pub(super) const SPARE: usize = 57 - SYMBOL_BITS;

impl Entry {
    /// The byte and how many bits its code takes, of a literal.
    #[inline(always)]
    pub(super) const fn literal(self) -> Option<(u8, u32)> {
        if self.0 & 0xF000 == LITERAL { Some(((self.0 >> 16) as u8, self.0 & 255)) } else { None }
    }
}

/// A symbol that is no literal, with its extra bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    /// Length (3 to 258, or [`ODD_258`]) and distance less 1.
    Match(u16, u16),
    /// The block's end.
    End,
    /// Bits that are no code.
    None,
}

impl Tables {
    /// Tables of the codes with these lengths; `None` if they are no codes.
    pub(super) fn set(&mut self, litlen: &[u8], dist: &[u8]) -> Option<()> {
        fill(&mut self.litlen, litlen, LITLEN_BITS, |symbol| match symbol {
            0..=255 => Some(LITERAL | (symbol as u32) << 16),
            256 => Some(STOP),
            _ if symbol < LITLEN => {
                let (base, extra) = LENGTHS.get(symbol - 257).copied().unwrap_or_default();
                Some(LENGTH | u32::from(base) << 16 | u32::from(extra) << 8)
            }
            _ => None,
        })?;
        fill(&mut self.dist, dist, DIST_BITS, |symbol| {
            let (base, extra) = DISTANCES.get(symbol).copied().unwrap_or_default();
            (symbol < DIST).then_some(LENGTH | u32::from(base.wrapping_sub(1)) << 16 | u32::from(extra) << 8)
        })
    }

    /// The first look at the symbol at the lowest of `bits`.
    #[inline(always)]
    pub(super) fn first(&self, bits: u64) -> Entry {
        Entry(look(&self.litlen, LITLEN_BITS, bits))
    }

    /// Reads on in [`SYMBOL_BITS`] bits, whose first look was `entry`: no literal.
    #[inline(always)]
    pub(super) fn rest(&self, Entry(entry): Entry, mut bits: u64, reader: &mut Reader<'_>) -> Symbol {
        let length = entry & 255;
        if length == 0 {
            return Symbol::None;
        }
        if entry & 0xF000 != LENGTH {
            reader.skip(length);
            return Symbol::End;
        }
        let value = (entry >> 16) as u16;
        bits >>= length;
        let extra = entry >> 8 & 15;
        let more = (bits & ((1 << extra) - 1)) as u16;
        let value = if value == 227 && more == 31 { ODD_258 } else { value + more };
        bits >>= extra;
        let second = look(&self.dist, DIST_BITS, bits);
        let deep = second & 255;
        if deep == 0 {
            return Symbol::None;
        }
        let wide = second >> 8 & 15;
        let less = (second >> 16) as u16 + (bits >> deep & ((1 << wide) - 1)) as u16;
        reader.skip(length + extra + deep + wide);
        Symbol::Match(value, less)
    }
}

/// The entry for `bits`; its length counts from the code's first bit.
#[inline(always)]
fn look(table: &[u32], first: u32, bits: u64) -> u32 {
    let entry = table.get(bits as usize & ((1 << first) - 1)).copied().unwrap_or(0);
    if entry & 0xF000 == DEEPER {
        let wide = entry >> 8 & 15;
        let at = (entry >> 16) as usize + (bits >> first & ((1 << wide) - 1)) as usize;
        return table.get(at).copied().unwrap_or(0);
    }
    entry
}

/// Fills a table of two levels. `meaning` gives a symbol's entry without its length, `None` for one that
/// must not occur.
fn fill(table: &mut Vec<u32>, lengths: &[u8], first: u32, meaning: impl Fn(usize) -> Option<u32>) -> Option<()> {
    let mut words = [0; 288];
    codes(lengths, &mut words)?;
    table.clear();
    table.resize(1 << first, 0);
    let low = (1 << first) - 1;
    // How many bits each second table needs.
    let mut wide = vec![0_u32; 1 << first];
    for (length, word) in lengths.iter().map(|length| u32::from(*length)).zip(words) {
        if length > first {
            let slot = wide.get_mut(usize::from(word) & low)?;
            *slot = (*slot).max(length - first);
        }
    }
    for (place, bits) in wide.iter().enumerate() {
        if *bits > 0 {
            let start = table.len();
            table.resize(start + (1 << bits), 0);
            *table.get_mut(place)? = DEEPER | bits << 8 | (start as u32) << 16 | 1;
        }
    }
    for (symbol, (length, word)) in lengths.iter().map(|length| u32::from(*length)).zip(words).enumerate() {
        if length == 0 {
            continue;
        }
        let entry = meaning(symbol).map_or(0, |entry| entry | length);
        let word = usize::from(word);
        if length <= first {
            for slot in table.get_mut(word..1 << first)?.iter_mut().step_by(1 << length) {
                *slot = entry;
            }
        } else {
            let up = *table.get(word & low)?;
            let (start, size) = ((up >> 16) as usize, 1 << (up >> 8 & 15));
            let within = table.get_mut(start..start + size)?;
            for slot in within.get_mut(word >> first..)?.iter_mut().step_by(1 << (length - first)) {
                *slot = entry;
            }
        }
    }
    Some(())
}
