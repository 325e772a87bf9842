//! The symbols of a block as the bits of its code: the decoder's inner loop.
//!
//! Where a run of literals ends cannot be guessed, and a wrong guess costs a processor more than some
//! symbols. So each step does more than is needed and no choice: all literals of some commands become
//! words, runs of words are copied by eights, and what was copied too much is overwritten. Then words
//! are written by fours, whatever they stand for.

use super::BadTokens;
use super::bits::BitWriter;
use super::huffman::{DIST, DISTANCES, END, LENGTH_SYMBOL, LENGTHS, codes, distance_symbol};
use super::segment::Command;

/// A word of a code: its length in bits in the lowest byte, the bits above. Any two that follow each
/// other have at most 48 bits: literals 15, lengths with their extra bits 20, distances 28.
type Word = u64;
/// Where a word's bits begin.
const BITS: u32 = 8;
/// Where the length of a distance's code word begins, without its extra bits.
const SHIFT: u32 = 40;
/// The bits of that length.
const SIZE: u64 = 15 << SHIFT;
/// Marks a symbol that the code lacks.
const LACKS: Word = 1 << 63;

/// Commands that are written together.
const GROUP: usize = 128;
/// Literals of theirs at most; where there are more, they are written piece by piece.
const MOST: usize = 752;
/// Words that are copied at once.
const COPY: usize = 8;
/// Places less 1 from which on [`COPY`] words are copied: more than the words of [`MOST`] literals and
/// [`GROUP`] matches. A power of two less 1, so that a place is known to be inside.
const SOME: usize = 1023;
const _: () = assert!(MOST + 2 * GROUP + COPY <= SOME);

/// By distance symbol: which bits of a distance less 1 are its extra bits.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses what would panic")]
static EXTRA: [u16; 32] = {
    let mut masks = [0; 32];
    let mut symbol = 0;
    while symbol < DIST {
        masks[symbol] = (1 << DISTANCES[symbol].1) - 1;
        symbol += 1;
    }
    masks
};

/// Writes symbols with the codes of the block at hand.
#[derive(Debug)]
pub(super) struct SymbolWriter {
    /// By literal; and [`END`].
    literal: [Word; 257],
    /// By length less 3; the extra bits are part of the word.
    length: [Word; 257],
    /// By distance symbol, without its extra bits, which its length counts all the same; and at [`SHIFT`] the
    /// length without them.
    distance: [Word; 32],
    /// Words of literals, and of all symbols.
    literals: Box<[Word; SOME + 1 + COPY]>,
    words: Box<[Word; SOME + 1 + COPY]>,
}

impl SymbolWriter {
    pub(super) fn new() -> Self {
        Self {
            literal: [LACKS; 257],
            length: [LACKS; 257],
            distance: [LACKS; 32],
            literals: Box::new([0; SOME + 1 + COPY]),
            words: Box::new([0; SOME + 1 + COPY]),
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
        for (slot, ((word, size), (_, extra))) in self.distance.iter_mut().zip(words.iter().zip(dist).zip(&DISTANCES)) {
            *slot = entry(*word, *size, 0, *extra) | u64::from(*size) << SHIFT;
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
        const SHORT: BadTokens = BadTokens("the literals end early");
        let mut lacks = 0;
        let (mut commands, mut literals) = (commands, literals);
        while let Some(first) = commands.first() {
            let (mut many, mut fit) = (0, 0);
            for command in commands.iter().take(GROUP) {
                let more = many + command.run as usize;
                if more > MOST {
                    break;
                }
                (many, fit) = (more, fit + 1);
            }
            // One command with more literals than that is written piece by piece.
            let long = fit == 0;
            (many, fit) = if long { (first.run as usize, 1) } else { (many, fit) };
            let (here, later) = literals.split_at_checked(many).ok_or(SHORT)?;
            let (group, behind) = commands.split_at_checked(fit).ok_or(SHORT)?;
            (commands, literals) = (behind, later);
            if long {
                for piece in here.chunks(MOST) {
                    lacks |= self.group(&[Command { run: piece.len() as u32, length: 0, less: 0 }], piece, bits, out);
                }
                lacks |= self.group(&[Command { run: 0, ..*first }], &[], bits, out);
            } else {
                lacks |= self.group(group, here, bits, out);
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
            // At least eight, of which the next ones overwrite what was too much.
            let mut run = command.run as usize;
            loop {
                let source = singles.get(from & SOME..).and_then(|rest| rest.first_chunk::<COPY>());
                let place = words.get_mut(to & SOME..).and_then(|rest| rest.first_chunk_mut::<COPY>());
                if let (Some(source), Some(place)) = (source, place) {
                    *place = *source;
                }
                if run <= COPY {
                    break;
                }
                (run, from, to) = (run - COPY, from + COPY, to + COPY);
            }
            (from, to) = (from + run, to + run);
            if command.length == 0 {
                continue;
            }
            let one = length.get(usize::from(command.length - 3)).copied().unwrap_or(LACKS);
            let symbol = usize::from(distance_symbol(command.less)) & 31;
            let code = distance.get(symbol).copied().unwrap_or(LACKS);
            let extra = EXTRA.get(symbol).copied().unwrap_or(0);
            let more = u64::from(command.less & extra);
            let two = (code & !SIZE) + (more << BITS << (code >> SHIFT & 15));
            if let Some(place) = words.get_mut(to & SOME..).and_then(|rest| rest.first_chunk_mut::<2>()) {
                *place = [one, two];
            }
            to += 2;
        }
        if let Some(place) = words.get_mut(to & SOME..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *place = [0; 4];
        }
        let words = words.get(..to.next_multiple_of(4)).unwrap_or_default();
        bits.writing(out, |bits| {
            let mut lacks = 0;
            for [one, two, three, four] in words.as_chunks::<4>().0 {
                lacks |= one | two | three | four;
                let (first, second) = (pair(*one, *two), pair(*three, *four));
                if first.1 + second.1 <= 56 {
                    bits.put(first.0 | second.0 << first.1, first.1 + second.1);
                } else {
                    bits.put(first.0, first.1);
                    bits.put(second.0, second.1);
                }
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

/// The bits of two words, and how many.
#[inline(always)]
const fn pair(one: Word, two: Word) -> (u64, u32) {
    let size = (one & 31) as u32;
    (one >> BITS | (two >> BITS) << size, size + (two & 31) as u32)
}

/// A code word with extra bits behind it.
fn entry(word: u16, size: u8, value: u8, extra: u8) -> Word {
    match size {
        0 => LACKS,
        _ => (u64::from(word) | u64::from(value) << size) << BITS | u64::from(size + extra),
    }
}
