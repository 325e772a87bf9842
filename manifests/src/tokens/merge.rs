//! Code lengths as programs in Go make them: of Huffman's tree, and where it is too deep by package-merge
//! (Larmore and Hirschberg, 1990). The rarest symbols get the longest codes, of two that occur equally
//! often the lesser one.
//!
//! What is no matter of course are ties. Go's `compress/flate` runs package-merge always, and takes a
//! package before a symbol of its weight. Where the bound on the lengths does not bind, Huffman's tree with
//! packages first has the same lengths, and the decoder, which makes a code for each block, is spared
//! most of the work.

use super::huffman::LITLEN;

/// Which of equal weights goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ties {
    /// Two that were joined already: Go's `compress/flate`, klauspost/compress before 1.20.
    Packages,
    /// A symbol: klauspost/compress since 1.20.
    Symbols,
}

/// Heavier than everything.
const NONE: u32 = u32::MAX;
/// Where a leaf's count begins; below is its symbol.
const COUNT: u32 = 9;
/// Bits of a code at most.
const DEEPEST: usize = 15;

/// Code lengths of at most `most` bits, at most [`DEEPEST`], for the symbols that occur; the others' stay.
/// One or two symbols get one bit. The sum of the counts is below 2^22, there are at most [`LITLEN`].
pub(super) fn merge_code(counts: &[u32], most: usize, ties: Ties, lengths: &mut [u8]) {
    let mut leaves = [NONE; LITLEN];
    let mut size = 0;
    for ((symbol, count), slot) in (0_u32..).zip(counts).filter(|(_, count)| **count > 0).zip(leaves.iter_mut()) {
        *slot = count << COUNT | symbol;
        size += 1;
    }
    let Some(leaves) = leaves.get_mut(..size) else { return };
    leaves.sort_unstable();
    let leaves = &*leaves;
    let number = match size {
        0..=2 => {
            let mut number = [0; DEEPEST + 1];
            number[1] = size;
            number
        }
        _ => by_tree(leaves, most, ties).unwrap_or_else(|| by_package_merge(leaves, most)),
    };
    let mut rarest = leaves.iter();
    for (depth, number) in number.iter().enumerate().rev() {
        for leaf in rarest.by_ref().take(*number) {
            if let Some(length) = lengths.get_mut(*leaf as usize & ((1 << COUNT) - 1)) {
                *length = depth as u8;
            }
        }
    }
}

/// How many symbols have which length by Huffman's tree; `None` if one has more than `most` bits.
fn by_tree(leaves: &[u32], most: usize, ties: Ties) -> Option<[usize; DEEPEST + 1]> {
    let size = leaves.len();
    // Packages by weight, as they are made; and of what is taken, leaf or not, the package it goes into.
    let mut packages = [NONE; LITLEN];
    let mut taken = [(false, 0_u16); 2 * LITLEN];
    let mut slots = taken.iter_mut();
    let (mut leaf, mut package) = (0, 0);
    for made in 0..size - 1 {
        let mut weight = 0;
        for slot in slots.by_ref().take(2) {
            let one = leaves.get(leaf).map_or(NONE, |leaf| *leaf >> COUNT);
            let other = packages.get(package).copied().unwrap_or(NONE);
            let is_leaf = one < other || one == other && ties == Ties::Symbols;
            *slot = (is_leaf, made as u16);
            weight += one.min(other);
            leaf += usize::from(is_leaf);
            package += usize::from(!is_leaf);
        }
        *packages.get_mut(made)? = weight;
    }
    // From the last package, the root, down: packages were taken in the order in which they were made.
    let mut depths = [0_u8; LITLEN];
    let mut number = [0; DEEPEST + 1];
    for (is_leaf, father) in taken.iter().take(2 * size - 2).rev() {
        let depth = *depths.get(usize::from(*father))? + 1;
        if *is_leaf {
            *number.get_mut(..=most)?.get_mut(usize::from(depth))? += 1;
        } else {
            package -= 1;
            *depths.get_mut(package)? = depth;
        }
    }
    Some(number)
}

/// The same by package-merge; packages go first.
fn by_package_merge(leaves: &[u32], most: usize) -> [usize; DEEPEST + 1] {
    let most = most.min(leaves.len() - 1);
    // For each level, of the list of what can be packed there: which items are leaves.
    let mut levels: Vec<Vec<bool>> = Vec::with_capacity(most);
    let mut packages: Vec<u32> = Vec::new();
    for _ in 0..most {
        let mut weights = Vec::with_capacity(2 * leaves.len());
        let mut is_leaf = Vec::with_capacity(2 * leaves.len());
        let mut packed = packages.iter().copied().peekable();
        let mut single = leaves.iter().map(|leaf| leaf >> COUNT).peekable();
        loop {
            let next = match (single.peek(), packed.peek()) {
                (Some(one), Some(package)) => one < package,
                (one, package) if one.is_some() || package.is_some() => one.is_some(),
                _ => break,
            };
            weights.extend(if next { single.next() } else { packed.next() });
            is_leaf.push(next);
        }
        packages = weights.chunks_exact(2).map(|pair| pair.iter().sum()).collect();
        levels.push(is_leaf);
    }
    // The cheapest 2n - 2 items of the last level are the code; each package opens two of the level below.
    // So many leaves as a level takes have at least a bit for it and for each level above.
    let mut items = 2 * leaves.len() - 2;
    let mut number = [0; DEEPEST + 1];
    let mut above = 0;
    for (depth, level) in levels.iter().rev().enumerate() {
        let single = level.iter().take(items).filter(|leaf| **leaf).count();
        if let Some(slot) = number.get_mut(depth).filter(|_| depth > 0) {
            *slot = above - single;
        }
        above = single;
        items = (items.min(level.len()) - single) * 2;
    }
    if let Some(slot) = number.get_mut(levels.len()) {
        *slot = above;
    }
    number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Package-merge as the specification says it (R-TOK-22), item by item.
    fn plainly(counts: &[u32], most: usize) -> Vec<u8> {
        let mut leaves: Vec<(u32, usize)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(symbol, count)| (*count, symbol))
            .collect();
        leaves.sort_unstable();
        let mut lengths = vec![0; counts.len()];
        if leaves.len() <= 2 {
            for (_, symbol) in &leaves {
                lengths[*symbol] = 1;
            }
            return lengths;
        }
        // An item: its weight, whether it is a leaf, and the leaves in it, one for each list.
        let mut list: Vec<(u32, bool, Vec<usize>)> = Vec::new();
        for _ in 0..most.min(leaves.len() - 1) {
            let packages =
                list.chunks_exact(2).map(|pair| (pair[0].0 + pair[1].0, false, [&pair[0].2[..], &pair[1].2].concat()));
            list = packages.chain(leaves.iter().map(|(count, symbol)| (*count, true, vec![*symbol]))).collect();
            list.sort_by_key(|(weight, leaf, _)| (*weight, *leaf));
        }
        for (_, _, symbols) in list.iter().take(2 * leaves.len() - 2) {
            for symbol in symbols {
                lengths[*symbol] += 1;
            }
        }
        lengths
    }

    fn counts() -> impl Strategy<Value = Vec<u32>> {
        let count = prop_oneof![
            2 => Just(0_u32),
            3 => 0..4_u32,
            2 => 0..100_u32,
            1 => (0..16_u32).prop_map(|power| 1 << power),
        ];
        prop_oneof![
            prop::collection::vec(count.clone(), 0..20),
            prop::collection::vec(count, LITLEN),
            // So skewed that the bound on the lengths binds.
            (3..40_usize).prop_map(|many| (0..many as u32).map(|at| 1 << (at / 2)).collect()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whether the tree or package-merge made them.
        #[test]
        fn lengths_are_those_of_package_merge(counts in counts(), most in prop::sample::select(vec![7, 15])) {
            let used = counts.iter().filter(|count| **count > 0).count();
            prop_assume!(used <= 1 << most);
            let mut lengths = vec![0; counts.len()];
            merge_code(&counts, most, Ties::Packages, &mut lengths);
            prop_assert_eq!(lengths, plainly(&counts, most));
        }

        #[test]
        fn ties_change_no_size(counts in counts(), most in prop::sample::select(vec![7, 15])) {
            let used = counts.iter().filter(|count| **count > 0).count();
            prop_assume!(used <= 1 << most);
            let mut lengths = vec![0; counts.len()];
            merge_code(&counts, most, Ties::Symbols, &mut lengths);
            let bits = |lengths: &[u8]| -> u64 {
                counts.iter().zip(lengths).map(|(count, length)| u64::from(*count) * u64::from(*length)).sum()
            };
            prop_assert_eq!(bits(&lengths), bits(&plainly(&counts, most)));
            prop_assert!(lengths.iter().all(|length| usize::from(*length) <= most));
        }
    }
}
