//! Code lengths as zlib makes them: Huffman's tree by a heap whose ties are broken in its own way.
//!
//! Of optimal codes there are many; to meet zlib's to the bit, the heap must hold and exchange its
//! nodes as zlib's does (`trees.c`: `build_tree`, `gen_bitlen`). Gzip's own and Java's are the same.
//! One case is not met: where symbol 1 alone occurs zlib takes in symbol 2, this code (and R-TOK-23)
//! symbol 0; such a head is written out.

use super::huffman::LITLEN;

/// Nodes of a tree of [`LITLEN`] leaves, and one place that is not used.
const NODES: usize = 2 * LITLEN;
/// Where a node's key begins in a heap entry; below is the node's number.
const KEY: u32 = 16;
/// Where the count begins in a key; below is the height of the tree under the node.
const COUNT: u32 = 8;

/// Greater than every entry of a heap.
const NOTHING: u64 = u64::MAX;
/// Entries from place 1 on, and [`NOTHING`] behind them.
type Heap = [u64; LITLEN + 2];

/// Code lengths of at most `most` bits for the symbols that occur. Where fewer than two do, the first
/// ones that do not get a count of one. Gives the number of the last symbol with a length, plus one;
/// `None` for more than [`LITLEN`] symbols.
pub(super) fn tree_code(counts: &mut [u32], most: usize, lengths: &mut [u8]) -> Option<usize> {
    let mut heap: Heap = [NOTHING; LITLEN + 2];
    let mut size = 0;
    let mut used = 0;
    for (symbol, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        size += 1;
        *heap.get_mut(size)? = entry(u64::from(*count), 0, symbol);
        used = symbol + 1;
    }
    while size < 2 {
        // Symbols 0 and 1 are taken in, or 0 beside a greater one.
        let symbol = if used < 2 { used } else { 0 };
        used = used.max(symbol + 1);
        *counts.get_mut(symbol)? = 1;
        size += 1;
        *heap.get_mut(size)? = entry(1, 0, symbol);
    }
    for from in (1..=size / 2).rev() {
        sink(&mut heap, from, size)?;
    }
    // Nodes by rising count, as they leave the heap, each with its father.
    let mut order = [(0_u16, 0_u16); NODES];
    let mut ordered = 0;
    let mut node = counts.len();
    while size > 1 {
        let least = *heap.get(1)?;
        *heap.get_mut(1)? = *heap.get(size)?;
        *heap.get_mut(size)? = NOTHING;
        size -= 1;
        sink(&mut heap, 1, size)?;
        let next = *heap.get(1)?;
        *order.get_mut(ordered)? = (least as u16, node as u16);
        *order.get_mut(ordered + 1)? = (next as u16, node as u16);
        ordered += 2;
        let height = (least >> KEY & 0xFF).max(next >> KEY & 0xFF) + 1;
        *heap.get_mut(1)? = entry((least >> (KEY + COUNT)) + (next >> (KEY + COUNT)), height & 0xFF, node);
        node += 1;
        sink(&mut heap, 1, size)?;
    }
    let order = order.get(..ordered)?;
    depths(order, counts.len(), most, lengths)?;
    Some(used)
}

/// Lengths from the tree, cut at `most` as zlib cuts them.
fn depths(order: &[(u16, u16)], leaves: usize, most: usize, lengths: &mut [u8]) -> Option<()> {
    let mut depth = [0_u8; NODES + 1];
    let mut number = [0_usize; 16];
    let mut over = 0_i32;
    for (node, father) in order.iter().rev() {
        let mut length = usize::from(*depth.get(usize::from(*father))?) + 1;
        if length > most {
            length = most;
            over += 1;
        }
        *depth.get_mut(usize::from(*node))? = length as u8;
        if usize::from(*node) < leaves {
            *number.get_mut(length)? += 1;
            *lengths.get_mut(usize::from(*node))? = length as u8;
        }
    }
    if over == 0 {
        return Some(());
    }
    while over > 0 {
        // The deepest leaf above the bottom goes down by one, and takes one from the bottom beside it.
        let length = number.get(..most)?.iter().rposition(|number| *number > 0)?;
        *number.get_mut(length)? -= 1;
        *number.get_mut(length + 1)? += 2;
        let bottom = number.get_mut(most)?;
        *bottom = bottom.checked_sub(1)?;
        over -= 2;
    }
    // Given out again, the longest to the rarest.
    let mut rarest = order.iter().map(|(node, _)| usize::from(*node)).filter(|node| *node < leaves);
    for (length, number) in number.iter().enumerate().rev() {
        for leaf in rarest.by_ref().take(*number) {
            *lengths.get_mut(leaf)? = length as u8;
        }
    }
    Some(())
}

const fn entry(count: u64, height: u64, node: usize) -> u64 {
    (count << COUNT | height) << KEY | node as u64
}

/// Moves the entry at `from` down until none below it is smaller: of `size` entries from place 1 on. What
/// lies behind them is [`NOTHING`].
fn sink(heap: &mut Heap, mut from: usize, size: usize) -> Option<()> {
    let moved = *heap.get(from)?;
    let mut below = 2 * from;
    while below <= size {
        // Which of the two cannot be guessed: no branch.
        let [left, right] = *heap.get(below..)?.first_chunk::<2>()?;
        let goes_right = right >> KEY <= left >> KEY;
        let least = if goes_right { right } else { left };
        if moved >> KEY <= least >> KEY {
            break;
        }
        *heap.get_mut(from)? = least;
        from = below + usize::from(goes_right);
        below = 2 * from;
    }
    *heap.get_mut(from)? = moved;
    Some(())
}
