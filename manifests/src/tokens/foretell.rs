//! Foretells a block's head from its symbols, as a known compressor would have made it.
//!
//! A head is some eighty bytes that no other block has. In an update every block behind the first
//! change holds other symbols than before, so that its head is new although hardly any content is;
//! where the head follows from the symbols nothing is carried. A wrong guess costs nothing but
//! the guess: the encoder compares, and writes the head out if it differs.

use super::header::Header;
use super::huffman::{DIST, END, LENGTH_SYMBOL, LITLEN, ORDER, distance_symbol};
use super::merge::{Ties, merge_code};
use super::segment::Command;
use super::tree::tree_code;

/// How often each symbol occurs in a block.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    /// Literals.
    pub(super) literal: [u32; 256],
    /// By length less 3.
    pub(super) length: [u32; 257],
    /// By distance symbol.
    pub(super) distance: [u32; 32],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { literal: [0; 256], length: [0; 257], distance: [0; 32] }
    }
}

impl Histogram {
    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) {
        if let Some(count) = self.literal.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }

    /// A match of `length` and the distance `less` + 1.
    #[inline(always)]
    pub(super) fn pair(&mut self, length: u16, less: u16) {
        if let Some(count) = self.length.get_mut(usize::from(length - 3)) {
            *count += 1;
        }
        if let Some(count) = self.distance.get_mut(usize::from(distance_symbol(less) & 31)) {
            *count += 1;
        }
    }

    /// Counts what commands say.
    pub(super) fn count(&mut self, commands: &[Command], literals: &[u8]) {
        // Four tables, so that equal bytes in a row do not wait for each other.
        let mut tables = [[0_u32; 256]; 4];
        let (fours, rest) = literals.as_chunks::<4>();
        let [first, second, third, fourth] = &mut tables;
        for [one, two, three, four] in fours {
            for (table, byte) in [(&mut *first, one), (&mut *second, two), (&mut *third, three), (&mut *fourth, four)] {
                if let Some(count) = table.get_mut(usize::from(*byte)) {
                    *count += 1;
                }
            }
        }
        for table in tables {
            for (sum, count) in self.literal.iter_mut().zip(table) {
                *sum += count;
            }
        }
        for byte in rest {
            self.literal(*byte);
        }
        for command in commands.iter().filter(|command| command.length > 0) {
            self.pair(command.length, command.less);
        }
    }

    /// Counts the first symbols of what commands say, up to the one with which [`FIRST_BYTES`] are reached.
    pub(super) fn count_first(&mut self, commands: &[Command], literals: &[u8]) {
        let (mut bytes, mut run) = (0, 0);
        for (at, command) in commands.iter().enumerate() {
            bytes += command.run;
            run += command.run;
            if bytes >= FIRST_BYTES {
                let run = run - (bytes - FIRST_BYTES);
                self.count(commands.get(..at).unwrap_or_default(), literals.get(..run as usize).unwrap_or_default());
                return;
            }
            bytes += u32::from(command.length.min(258));
            if bytes >= FIRST_BYTES {
                self.count(commands.get(..=at).unwrap_or_default(), literals.get(..run as usize).unwrap_or_default());
                return;
            }
        }
        self.count(commands, literals);
    }

    /// By literal and length symbol, the end counted once; and by distance symbol.
    fn symbols(&self) -> ([u32; LITLEN], [u32; DIST]) {
        let mut litlen = [0; LITLEN];
        for (slot, count) in litlen.iter_mut().zip(self.literal) {
            *slot = count;
        }
        if let Some(slot) = litlen.get_mut(END) {
            *slot = 1;
        }
        for ((symbol, _), count) in LENGTH_SYMBOL.iter().zip(self.length) {
            if let Some(slot) = litlen.get_mut(257 + usize::from(*symbol)) {
                *slot += count;
            }
        }
        let mut dist = [0; DIST];
        for (slot, count) in dist.iter_mut().zip(self.distance) {
            *slot = count;
        }
        (litlen, dist)
    }
}

/// Of how many bytes of content a head of those methods knows that look at the first ones.
pub(super) const FIRST_BYTES: u32 = 65_535;

/// A compressor's way to make a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Method {
    /// Package-merge over the block: Go's `compress/flate`.
    Merged = 1,
    /// Huffman's trees over the block, by a heap: zlib and what was made of it.
    Tree = 2,
    /// Package-merge over the first [`FIRST_BYTES`], all lengths said: klauspost/compress, which goes on
    /// with a code as long as that pays.
    FirstWhole = 3,
    /// The same, lengths said up to the last: klauspost/compress where it found hardly any match.
    FirstCut = 4,
    /// Huffman's trees over the first [`FIRST_BYTES`], by two queues: klauspost/compress since 1.20.
    FirstQueued = 5,
    /// The same over the block: klauspost/compress at its slow levels.
    Queued = 6,
}

impl Method {
    /// In the order in which an encoder tries them.
    pub(super) const ALL: [Self; 6] =
        [Self::Merged, Self::Tree, Self::FirstWhole, Self::FirstCut, Self::FirstQueued, Self::Queued];

    /// By its number in the token stream.
    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|method| *method as u8 == number)
    }

    /// Whether the first [`FIRST_BYTES`] are enough to know the head.
    pub(super) const fn looks_at_the_first_bytes(self) -> bool {
        matches!(self, Self::FirstWhole | Self::FirstCut | Self::FirstQueued)
    }

    /// Whether, for a block of no more than [`FIRST_BYTES`], it gives what a method before it gives.
    pub(super) const fn repeats_for_few_bytes(self) -> bool {
        matches!(self, Self::FirstCut | Self::Queued)
    }

    /// The head for these symbols: those of the block, or of its first bytes.
    pub(super) fn head(self, histogram: &Histogram) -> Option<Header> {
        let (mut litlen, mut dist) = histogram.symbols();
        match self {
            Self::Merged | Self::FirstWhole | Self::FirstCut => go(&litlen, &mut dist, self, Ties::Packages),
            Self::FirstQueued | Self::Queued => go(&litlen, &mut dist, self, Ties::Symbols),
            Self::Tree => tree(&mut litlen, &mut dist),
        }
    }
}

/// The head that programs in Go write for these symbols: `compress/flate` and what was made of it.
fn go(litlen: &[u32; LITLEN], dist: &mut [u32; DIST], method: Method, ties: Ties) -> Option<Header> {
    let whole = method == Method::FirstWhole;
    if !whole && dist.iter().all(|count| *count == 0) {
        dist[0] = 1;
    }
    let litlens = if whole { LITLEN } else { last(litlen) + 1 };
    let dists = if whole { DIST } else { last(dist) + 1 };
    let mut lengths = [0; LITLEN + DIST];
    merge_code(litlen, 15, ties, lengths.get_mut(..litlens)?);
    merge_code(dist, 15, ties, lengths.get_mut(litlens..litlens + dists)?);
    let mut writes = Vec::with_capacity(320);
    runs(lengths.get(..litlens + dists)?, &mut writes);
    let mut code = [0; 19];
    merge_code(&counts(&writes), 7, ties, &mut code);
    Header::new(litlens, dists, order(&code), writes)
}

/// The head that zlib writes for these symbols.
fn tree(litlen: &mut [u32; LITLEN], dist: &mut [u32; DIST]) -> Option<Header> {
    let mut lengths = [0; LITLEN + DIST];
    let litlens = tree_code(litlen, 15, lengths.get_mut(..LITLEN)?)?;
    let dists = tree_code(dist, 15, lengths.get_mut(litlens..litlens + DIST)?)?;
    let mut writes = Vec::with_capacity(320);
    tree_runs(lengths.get(..litlens)?, &mut writes);
    tree_runs(lengths.get(litlens..litlens + dists)?, &mut writes);
    let mut code = [0; 19];
    tree_code(&mut counts(&writes), 7, &mut code)?;
    Header::new(litlens, dists, order(&code), writes)
}

/// The last symbol that occurs.
fn last(counts: &[u32]) -> usize {
    counts.iter().rposition(|count| *count > 0).unwrap_or(0)
}

/// How often each symbol of the code length code occurs.
fn counts(writes: &[u8]) -> [u32; 19] {
    let mut counts = [0; 19];
    for write in writes {
        let symbol = match write {
            0..=15 => *write,
            16..=19 => 16,
            20..=27 => 17,
            _ => 18,
        };
        if let Some(count) = counts.get_mut(usize::from(symbol)) {
            *count += 1;
        }
    }
    counts
}

/// The code length code's lengths in the order in which they are written, zeros at the end left out.
fn order(code: &[u8; 19]) -> Vec<u8> {
    let mut order: Vec<u8> = ORDER.iter().filter_map(|symbol| code.get(usize::from(*symbol)).copied()).collect();
    while order.len() > 4 && order.last() == Some(&0) {
        order.pop();
    }
    order
}

/// Lengths as runs, in the way of Go's `compress/flate`: a length, then repeats by six; zeros by 138.
fn runs(lengths: &[u8], writes: &mut Vec<u8>) {
    for run in lengths.chunk_by(|one, other| one == other) {
        let (value, mut left) = (run.first().copied().unwrap_or(0), run.len());
        if value == 0 {
            while left >= 11 {
                let now = left.min(138);
                writes.push((now + 17) as u8);
                left -= now;
            }
            if left >= 3 {
                writes.push((left + 17) as u8);
                left = 0;
            }
        } else {
            writes.push(value);
            left -= 1;
            while left >= 3 {
                let now = left.min(6);
                writes.push((now + 13) as u8);
                left -= now;
            }
        }
        writes.resize(writes.len() + left, value);
    }
}

/// The same in the way of zlib (`scan_tree`): of a run, at most 138 zeros or a length and six of its
/// repeats are looked at together, later six repeats; what is fewer than three repeats is written singly.
fn tree_runs(lengths: &[u8], writes: &mut Vec<u8>) {
    for run in lengths.chunk_by(|one, other| one == other) {
        let (value, mut left) = (run.first().copied().unwrap_or(0), run.len());
        let mut first = value != 0;
        while left > 0 {
            let most = match value {
                0 => 138,
                _ => 6 + usize::from(first),
            };
            let now = left.min(most);
            let repeats = now - usize::from(first);
            if repeats < 3 {
                writes.resize(writes.len() + now, value);
            } else {
                if first {
                    writes.push(value);
                }
                writes.push(if value == 0 { repeats + 17 } else { repeats + 13 } as u8);
            }
            left -= now;
            first = false;
        }
    }
}
