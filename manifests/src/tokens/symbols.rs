//! The symbols of a block as the bits of its code: the decoder's inner loop.
//!
//! Where a run of literals ends cannot be guessed, and a wrong guess costs a processor more than some
//! symbols. So each step does more than is needed and no choice: all literals of some commands become
//! words, runs of words are copied by eights, and what was copied too much is overwritten. Then words
//! are written by twos, whatever they stand for.

use super::BadTokens;
use super::bits::BitWriter;
use super::huffman::{DIST, END, LENGTH_SYMBOL, LENGTHS, codes, distance_symbol};
use super::segment::Command;

/// A word of a code: its length in bits in the lowest byte, the bits above. Any two that follow each
/// other have at most 48 bits: literals 15, lengths with their extra bits 20, distances 28.
type Word = u64;
/// Where a word's bits begin.
const BITS: u32 = 8;
/// Marks a symbol that the code lacks.
const LACKS: Word = 1 << 63;

/// Commands that are written together.
const GROUP: usize = 128;
/// Literals of theirs at most; where there are more, they are written piece by piece.
const MOST: usize = 2048;
/// Words that are copied at once.
const COPY: usize = 8;
const LITERALS: usize = MOST + COPY;
/// Two words for each match, one more to have a number of twos.
const WORDS: usize = MOST + 2 * GROUP + COPY + 1;

/// Writes symbols with the codes of the block at hand.
#[derive(Debug)]
pub(super) struct SymbolWriter {
    /// By literal; and [`END`].
    literal: [Word; 257],
    /// By length less 3; the extra bits are part of the word.
    length: [Word; 257],
    /// By distance symbol, without extra bits.
    distance: [Word; 32],
    /// Words of literals, and of all symbols.
    literals: Box<[Word]>,
    words: Box<[Word]>,
}

impl SymbolWriter {
    pub(super) fn new() -> Self {
        Self {
            literal: [LACKS; 257],
            length: [LACKS; 257],
            distance: [LACKS; 32],
            literals: vec![0; LITERALS].into_boxed_slice(),
            words: vec![0; WORDS].into_boxed_slice(),
        }
    }

    /// Takes the codes of a block.
    pub(super) fn codes(&mut self, litlen: &[u8; 288], dist: &[u8; DIST]) -> Result<(), BadTokens> {
        const NONE: BadTokens = BadTokens("code lengths that are no code");
        let mut words = [0; 288];
        codes(litlen, &mut words).ok_or(NONE)?;
        for (slot, (word, size)) in self.literal.iter_mut().zip(words.iter().zip(litlen)) {
            *slot = entry(*word, *size, 0, 0);
        }
        for (slot, (symbol, value)) in self.length.iter_mut().zip(LENGTH_SYMBOL.iter()) {
            let at = 257 + usize::from(*symbol);
            let (word, size) = (words.get(at).copied().unwrap_or(0), litlen.get(at).copied().unwrap_or(0));
            let extra = LENGTHS.get(usize::from(*symbol)).map_or(0, |(_, extra)| *extra);
            *slot = entry(word, size, *value, extra);
        }
        let mut words = [0; DIST];
        codes(dist, &mut words).ok_or(NONE)?;
        self.distance = [LACKS; 32];
        for (slot, (word, size)) in self.distance.iter_mut().zip(words.iter().zip(dist)) {
            *slot = entry(*word, *size, 0, 0);
        }
        Ok(())
    }

    /// Writes commands and their literals.
    pub(super) fn write(
        &mut self,
        commands: &[Command],
        literals: &[u8],
        bits: &mut BitWriter,
        out: &mut Vec<u8>,
    ) -> Result<(), BadTokens> {
        let mut lacks = 0;
        let mut rest = literals;
        for group in commands.chunks(GROUP) {
            let many: usize = group.iter().map(|command| command.run as usize).sum();
            let Some((here, behind)) = rest.split_at_checked(many) else { break };
            rest = behind;
            if many <= MOST {
                lacks |= self.group(group, here, bits, out);
                continue;
            }
            let mut here = here;
            for command in group {
                let (run, behind) = here.split_at_checked(command.run as usize).unwrap_or_default();
                here = behind;
                for piece in run.chunks(MOST) {
                    lacks |= self.group(&[Command { run: piece.len() as u32, length: 0, less: 0 }], piece, bits, out);
                }
                lacks |= self.group(&[Command { run: 0, ..*command }], &[], bits, out);
            }
        }
        if lacks & LACKS != 0 { Err(BadTokens("a symbol that the block's code lacks")) } else { Ok(()) }
    }

    /// At most [`GROUP`] commands of at most [`MOST`] literals; gives what [`LACKS`].
    fn group(&mut self, commands: &[Command], literals: &[u8], bits: &mut BitWriter, out: &mut Vec<u8>) -> Word {
        let Self { literal, length, distance, literals: singles, words } = self;
        for (slot, byte) in singles.iter_mut().zip(literals) {
            *slot = literal.get(usize::from(*byte)).copied().unwrap_or(LACKS);
        }
        let (mut from, mut to) = (0, 0);
        for command in commands {
            let run = command.run as usize;
            let source = singles.get(from..).and_then(|rest| rest.first_chunk::<COPY>());
            let place = words.get_mut(to..).and_then(|rest| rest.first_chunk_mut::<COPY>());
            if let (Some(source), Some(place)) = (source, place) {
                *place = *source;
            }
            if run > COPY
                && let (Some(source), Some(place)) = (singles.get(from..from + run), words.get_mut(to..to + run))
            {
                place.copy_from_slice(source);
            }
            (from, to) = (from + run, to + run);
            if command.length == 0 {
                continue;
            }
            let one = length.get(usize::from(command.length - 3)).copied().unwrap_or(LACKS);
            let symbol = distance_symbol(command.less);
            let code = distance.get(symbol as usize & 31).copied().unwrap_or(LACKS);
            // What is below the symbol's base are the extra bits.
            let extra = (symbol >> 1).saturating_sub(1);
            let more = u64::from(command.less) & ((1 << extra) - 1);
            let two = (code | more << BITS << (code & 15)) + u64::from(extra);
            if let Some(place) = words.get_mut(to..).and_then(|rest| rest.first_chunk_mut::<2>()) {
                *place = [one, two];
            }
            to += 2;
        }
        if let Some(place) = words.get_mut(to) {
            *place = 0;
        }
        let words = words.get(..to.next_multiple_of(2)).unwrap_or_default();
        bits.writing(out, |bits| {
            let mut lacks = 0;
            for [one, two] in words.as_chunks::<2>().0 {
                lacks |= one | two;
                bits.put(one >> BITS | (two >> BITS) << (one & 31), ((one & 31) + (two & 31)) as u32);
            }
            lacks
        })
    }

    /// Ends a block.
    pub(super) fn end(&mut self, bits: &mut BitWriter, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        let end = self.literal.get(END).copied().unwrap_or(LACKS);
        if end & LACKS != 0 {
            return Err(BadTokens("a block whose code lacks an end"));
        }
        bits.put(end >> BITS, (end & 31) as u32);
        bits.drain(out);
        Ok(())
    }
}

/// A code word with extra bits behind it.
fn entry(word: u16, size: u8, value: u8, extra: u8) -> Word {
    match size {
        0 => LACKS,
        _ => (u64::from(word) | u64::from(value) << size) << BITS | u64::from(size + extra),
    }
}
