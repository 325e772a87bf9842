//! The head of a dynamic block: the code lengths and how they were written (RFC 1951, 3.2.7).

use super::bits::BitWriter;
use super::huffman::{DIST, END, LITLEN, ORDER, codes};
use super::inflate::Reader;

/// A dynamic block's head, to the bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Literal and length code lengths written, 257 to 286.
    pub(super) litlens: usize,
    /// Distance code lengths written, 1 to 30.
    pub(super) dists: usize,
    /// Code lengths of the code length code as written, 4 to 19, in [`ORDER`].
    pub(super) order: Vec<u8>,
    /// What was written: 0 to 15 a length, 16 to 19 repeat 3 to 6 times, 20 to 27 zero 3 to 10 times,
    /// 28 to 155 zero 11 to 138 times.
    pub(super) writes: Vec<u8>,
    /// What it says: literal and length codes, then distance codes.
    pub(super) litlen: [u8; 288],
    /// Distance codes.
    pub(super) dist: [u8; DIST],
}

impl Header {
    /// Reads a head at the reader's place. `None`: not one that any decoder would take.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let litlens = reader.take(5) as usize + 257;
        let dists = reader.take(5) as usize + 1;
        let orders = reader.take(4) as usize + 4;
        let mut order = Vec::with_capacity(orders);
        for _ in 0..orders {
            order.push(reader.take(3) as u8);
        }
        let (lengths, words) = order_code(&order)?;
        // 128 places by the next seven bits: symbol and length.
        let mut table = [(0_u8, 0_u8); 128];
        for (symbol, (length, word)) in lengths.iter().zip(words).enumerate() {
            if *length > 0 {
                for slot in table.iter_mut().skip(usize::from(word)).step_by(1 << *length) {
                    *slot = (symbol as u8, *length);
                }
            }
        }
        let mut writes = Vec::with_capacity(320);
        let mut said = 0;
        while said < litlens + dists {
            let (symbol, length) = *table.get(reader.peek() as usize & 127)?;
            if length == 0 {
                return None;
            }
            reader.skip(u32::from(length));
            let (first, extra, least) = match symbol {
                0..=15 => (symbol, 0, 1),
                16 => (16, 2, 3),
                17 => (20, 3, 3),
                _ => (28, 7, 11),
            };
            let more = reader.take(extra);
            writes.push(first + more as u8);
            said += least + more as usize;
        }
        Self::new(litlens, dists, order, writes)
    }

    /// A head from its parts; `None` if they contradict each other or RFC 1951.
    pub(super) fn new(litlens: usize, dists: usize, order: Vec<u8>, writes: Vec<u8>) -> Option<Self> {
        if !(257..=LITLEN).contains(&litlens) || !(1..=DIST).contains(&dists) || !(4..=19).contains(&order.len()) {
            return None;
        }
        let mut all = [0_u8; LITLEN + DIST];
        let mut at = 0_usize;
        for write in &writes {
            let (value, times) = match *write {
                length @ 0..=15 => (length, 1),
                again @ 16..=19 => (*all.get(at.checked_sub(1)?)?, usize::from(again) - 13),
                zeros @ 20..=155 => (0, usize::from(zeros) - 17),
                _ => return None,
            };
            all.get_mut(at..at + times)?.fill(value);
            at += times;
        }
        if at != litlens + dists {
            return None;
        }
        let mut header = Self { litlens, dists, order, writes, litlen: [0; 288], dist: [0; DIST] };
        let (litlen, dist) = all.split_at(litlens);
        header.litlen.get_mut(..litlens)?.copy_from_slice(litlen);
        header.dist.get_mut(..dists)?.copy_from_slice(dist.get(..dists)?);
        let mut words = [0; 288];
        codes(&header.litlen, &mut words)?;
        codes(&header.dist, &mut words)?;
        (*header.litlen.get(END)? > 0).then_some(header)
    }

    /// Writes it. `None`: a symbol is written for which the code has no word.
    pub(super) fn write(&self, bits: &mut BitWriter) -> Option<()> {
        bits.put(self.litlens as u64 - 257, 5);
        bits.put(self.dists as u64 - 1, 5);
        bits.put(self.order.len() as u64 - 4, 4);
        for length in &self.order {
            bits.put(u64::from(*length), 3);
        }
        let (lengths, words) = order_code(&self.order)?;
        for write in &self.writes {
            let (symbol, extra, more) = match *write {
                length @ 0..=15 => (length, 0, 0),
                again @ 16..=19 => (16, 2, again - 16),
                zeros @ 20..=27 => (17, 3, zeros - 20),
                zeros => (18, 7, zeros.checked_sub(28)?),
            };
            let length = *lengths.get(usize::from(symbol))?;
            if length == 0 {
                return None;
            }
            bits.put(u64::from(*words.get(usize::from(symbol))?), u32::from(length));
            bits.put(u64::from(more), extra);
        }
        Some(())
    }
}

/// Lengths and words of the code length code.
fn order_code(order: &[u8]) -> Option<([u8; 19], [u16; 19])> {
    let mut lengths = [0; 19];
    for (symbol, length) in ORDER.iter().zip(order) {
        if *length > 7 {
            return None;
        }
        *lengths.get_mut(usize::from(*symbol))? = *length;
    }
    let mut words = [0; 19];
    codes(&lengths, &mut words)?;
    Some((lengths, words))
}
