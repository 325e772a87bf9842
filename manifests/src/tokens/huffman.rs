//! Canonical Huffman codes and the symbols of RFC 1951 (3.2.2, 3.2.5, 3.2.7).

use std::hint::select_unpredictable;
use std::sync::LazyLock;

/// Literal and length symbols.
pub(super) const LITLEN: usize = 286;
/// Distance symbols.
pub(super) const DIST: usize = 30;
/// The symbol that ends a block.
pub(super) const END: usize = 256;
/// Order of the code length code's lengths (3.2.7).
pub(super) const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The pseudo length that says: 258, but written as symbol 284 with its extra bits all set.
pub(super) const ODD_258: u16 = 259;

/// Base and extra bits of the length symbols from 257.
pub(super) const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// Base and extra bits of the distance symbols.
pub(super) const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// For a length less 3 (0 to 256): symbol less 257, and the value of its extra bits.
pub(super) static LENGTH_SYMBOL: LazyLock<[(u8, u8); 257]> = LazyLock::new(|| {
    let mut table = [(0, 0); 257];
    for (length, slot) in (3_u16..).zip(table.iter_mut()) {
        let symbol =
            if length == ODD_258 { 27 } else { LENGTHS.iter().rposition(|(base, _)| *base <= length).unwrap_or(0) };
        let base = LENGTHS.get(symbol).map_or(0, |(base, _)| *base);
        let value = if length == ODD_258 { 31 } else { length - base };
        *slot = (symbol as u8, value as u8);
    }
    table
});

/// Distance symbols: of distances less 1 below 256, then of each 128 from 0 on.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses what would panic")]
static DISTANCE_SYMBOL: [u8; 512] = {
    let mut table = [0; 512];
    let mut symbol = 0;
    while symbol < DIST {
        let (base, extra) = DISTANCES[symbol];
        let mut less = base as usize - 1;
        while less < base as usize - 1 + (1 << extra) {
            if less < 256 {
                table[less] = symbol as u8;
            }
            if less.is_multiple_of(128) {
                table[256 + less / 128] = symbol as u8;
            }
            less += 1;
        }
        symbol += 1;
    }
    table
};

/// Distance symbol of a distance less 1, from 0 to 32767.
#[inline(always)]
pub(super) fn distance_symbol(less: u16) -> u8 {
    let at = select_unpredictable(less < 256, less, 256 + (less >> 7));
    DISTANCE_SYMBOL.get(usize::from(at & 511)).copied().unwrap_or(0)
}

/// Code words, bits reversed as the stream wants them, by symbol. `None` if there are more codes than
/// their lengths leave room for. Lengths are at most 15.
pub(super) fn codes(lengths: &[u8], words: &mut [u16]) -> Option<()> {
    let mut count = [0_u32; 16];
    for length in lengths {
        *count.get_mut(usize::from(*length))? += 1;
    }
    count[0] = 0;
    let mut next = [0_u32; 16];
    let mut code = 0;
    for (length, (slot, before)) in next.iter_mut().skip(1).zip(count).enumerate() {
        code = (code + before) << 1;
        *slot = code;
        if code + count.get(length + 1)? > 1 << (length + 1) {
            return None;
        }
    }
    for (length, word) in lengths.iter().zip(words.iter_mut()) {
        *word = 0;
        if *length > 0 {
            let slot = next.get_mut(usize::from(*length))?;
            *word = (*slot as u16).reverse_bits() >> (16 - u32::from(*length));
            *slot += 1;
        }
    }
    Some(())
}

/// Code lengths of the fixed code (3.2.6): 288 symbols, of which the last two never occur, and 30 distances.
pub(super) fn fixed() -> ([u8; 288], [u8; DIST]) {
    let mut lengths = [8; 288];
    for length in lengths.iter_mut().take(256).skip(144) {
        *length = 9;
    }
    for length in lengths.iter_mut().take(280).skip(256) {
        *length = 7;
    }
    (lengths, [5; DIST])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_has_the_symbol_whose_base_is_the_last_below_it() {
        for less in 0..32_768_u16 {
            let symbol = DISTANCES.iter().rposition(|(base, _)| *base <= less + 1);
            assert_eq!(Some(usize::from(distance_symbol(less))), symbol, "{less}");
        }
    }
}
