//! Foretells a block's head from its symbols, as a known compressor would have made it.
//!
//! A head is some eighty bytes that no other block has. In an update every block behind the first
//! change holds other symbols than before, so that its head is new although hardly any content is;
//! where the head follows from the symbols nothing is carried. A wrong guess costs nothing but
//! the guess: the encoder compares, and writes the head out if it differs.

use super::header::Header;
use super::huffman::{DIST, END, LENGTH_SYMBOL, LITLEN, ORDER, distance_symbol};
use super::segment::Command;

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
        if let Some(count) = self.distance.get_mut(distance_symbol(less) as usize & 31) {
            *count += 1;
        }
    }

    /// Counts what a block's commands say.
    pub(super) fn count(&mut self, commands: &[Command], literals: &[u8]) {
        for byte in literals {
            self.literal(*byte);
        }
        for command in commands.iter().filter(|command| command.length > 0) {
            self.pair(command.length, command.less);
        }
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

/// The head that Go's `compress/flate` writes for these symbols (and most other programs in Go).
pub(super) fn merged(histogram: &Histogram) -> Option<Header> {
    let (litlen, mut dist) = histogram.symbols();
    if dist.iter().all(|count| *count == 0) {
        dist[0] = 1;
    }
    let litlens = last(&litlen) + 1;
    let dists = last(&dist) + 1;
    let mut lengths = [0; LITLEN + DIST];
    package_merge(&litlen, 15, lengths.get_mut(..litlens)?);
    package_merge(&dist, 15, lengths.get_mut(litlens..litlens + dists)?);
    let writes = runs(lengths.get(..litlens + dists)?);
    let mut counts = [0_u32; 19];
    for write in &writes {
        let symbol = match write {
            0..=15 => *write,
            16..=19 => 16,
            20..=27 => 17,
            _ => 18,
        };
        *counts.get_mut(usize::from(symbol))? += 1;
    }
    let mut code = [0; 19];
    package_merge(&counts, 7, &mut code);
    let mut order: Vec<u8> = ORDER.iter().filter_map(|symbol| code.get(usize::from(*symbol)).copied()).collect();
    while order.len() > 4 && order.last() == Some(&0) {
        order.pop();
    }
    Header::new(litlens, dists, order, writes)
}

/// The last symbol that occurs.
fn last(counts: &[u32]) -> usize {
    counts.iter().rposition(|count| *count > 0).unwrap_or(0)
}

/// Code lengths of at most `most` bits by package-merge (Larmore and Hirschberg, 1990), ties as Go's
/// `compress/flate` breaks them: of two symbols that occur equally often the greater one gets the
/// shorter code, and a package goes before a symbol of its weight. One or two symbols get one bit.
fn package_merge(counts: &[u32], most: usize, lengths: &mut [u8]) {
    let mut leaves: Vec<(u32, usize)> =
        counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(symbol, count)| (*count, symbol)).collect();
    if leaves.len() <= 2 {
        for (_, symbol) in leaves {
            if let Some(length) = lengths.get_mut(symbol) {
                *length = 1;
            }
        }
        return;
    }
    leaves.sort_unstable();
    let most = most.min(leaves.len() - 1);
    // For each level, of the list of what can be packed there: which items are leaves.
    let mut levels: Vec<Vec<bool>> = Vec::with_capacity(most);
    let mut packages: Vec<u64> = Vec::new();
    for _ in 0..most {
        let mut weights = Vec::with_capacity(2 * leaves.len());
        let mut leaf = Vec::with_capacity(2 * leaves.len());
        let mut packed = packages.iter().copied().peekable();
        let mut single = leaves.iter().map(|(count, _)| u64::from(*count)).peekable();
        loop {
            let next = match (single.peek(), packed.peek()) {
                (Some(one), Some(package)) => one < package,
                (one, package) if one.is_some() || package.is_some() => one.is_some(),
                _ => break,
            };
            weights.extend(if next { single.next() } else { packed.next() });
            leaf.push(next);
        }
        packages = weights.chunks_exact(2).map(|pair| pair.iter().sum()).collect();
        levels.push(leaf);
    }
    // The cheapest 2n - 2 items of the last level are the code; each package opens two of the level below.
    let mut items = 2 * leaves.len() - 2;
    for leaf in levels.iter().rev() {
        let single = leaf.iter().take(items).filter(|leaf| **leaf).count();
        for (_, symbol) in leaves.iter().take(single) {
            if let Some(length) = lengths.get_mut(*symbol) {
                *length += 1;
            }
        }
        items = (items.min(leaf.len()) - single) * 2;
    }
}

/// Lengths as runs, in the way of Go's `compress/flate`: a length, then repeats by six; zeros by 138.
fn runs(lengths: &[u8]) -> Vec<u8> {
    let mut writes = Vec::with_capacity(lengths.len());
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
    writes
}
