//! Token bytes to gzip bytes.

use super::BadTokens;
use super::bits::BitWriter;
use super::encode::{
    BLOCK, CUT, DYNAMIC, FINISH, FIXED, FORETOLD, GO_ON, KIND, LAST, MEMBER, MERGED, STORED, TAIL, TRAILER, VERSION,
};
use super::foretell::{Histogram, merged};
use super::header::Header;
use super::huffman::{DIST, END, LENGTH_SYMBOL, LENGTHS, codes, distance_symbol, fixed};
use super::segment::{Bytes, Command, PART, SegmentReader};

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A member first.
    Start,
    /// A block.
    Blocks,
    /// More of a cut block; is it the last?
    Inside(bool),
    /// A trailer.
    Trailer,
    /// A member, a tail or the end.
    Between,
    /// A tail or the end.
    Tail,
    /// Nothing.
    End,
}

/// Push decoder: token bytes in, cut anywhere, gzip bytes out. It holds one segment.
#[derive(Debug)]
pub struct TokenDecoder {
    input: Vec<u8>,
    limit: u64,
    given: u64,
    begun: bool,
    place: Place,
    writer: Writer,
}

impl TokenDecoder {
    /// A decoder that gives at most `limit` gzip bytes.
    pub fn new(limit: u64) -> Self {
        Self { input: Vec::new(), limit, given: 0, begun: false, place: Place::Start, writer: Writer::new() }
    }

    /// Takes the next token bytes; appends gzip bytes to `out` when a segment is whole.
    pub fn push(&mut self, tokens: &[u8], out: &mut Vec<u8>) -> Result<(), BadTokens> {
        // Into the buffer by parts: it never holds more than a segment and a part.
        for part in tokens.chunks(256 << 10) {
            self.input.extend_from_slice(part);
            let mut input = std::mem::take(&mut self.input);
            let mut at = 0;
            if !self.begun {
                if input.first() != Some(&VERSION) {
                    return Err(BadTokens("an unknown version"));
                }
                self.begun = true;
                at = 1;
            }
            while let Some((segment, size)) = SegmentReader::open(input.get(at..).unwrap_or_default())? {
                if self.place == Place::End {
                    break;
                }
                self.segment(segment, out)?;
                at += size;
            }
            if self.place == Place::End && input.len() > at {
                return Err(BadTokens("bytes behind the end"));
            }
            input.drain(..at);
            self.input = input;
        }
        Ok(())
    }

    /// Ends the token stream.
    pub fn finish(self, _: &mut Vec<u8>) -> Result<(), BadTokens> {
        if self.place == Place::End { Ok(()) } else { Err(BadTokens("cut short")) }
    }

    fn segment(&mut self, mut segment: SegmentReader<'_>, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        let mut before = out.len();
        while let Some(record) = segment.control.byte() {
            self.record(record, &mut segment, out)?;
            self.given += (out.len() - before) as u64;
            before = out.len();
            if self.given > self.limit {
                return Err(BadTokens("more bytes than were signed"));
            }
        }
        segment.close()
    }

    fn record(&mut self, record: u8, segment: &mut SegmentReader<'_>, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        const SHORT: BadTokens = BadTokens("the control stream ends early");
        self.place = match (record, self.place) {
            (FINISH, Place::Between | Place::Tail) => Place::End,
            (MEMBER, Place::Start | Place::Between) => {
                let size = segment.control.number().ok_or(SHORT)?;
                let size = usize::try_from(size).map_err(|_| SHORT)?;
                out.extend_from_slice(segment.control.take(size).ok_or(SHORT)?);
                Place::Blocks
            }
            (TRAILER, Place::Trailer) => {
                let pad = segment.control.byte().ok_or(SHORT)?;
                if !self.writer.bits.align(pad, out) {
                    return Err(BadTokens("padding that does not fit"));
                }
                out.extend_from_slice(segment.control.take(8).ok_or(SHORT)?);
                Place::Between
            }
            (TAIL, Place::Between | Place::Tail) => {
                let size = segment.control.number().ok_or(SHORT)?;
                out.extend_from_slice(segment.stored(usize::try_from(size).map_err(|_| SHORT)?)?);
                Place::Tail
            }
            (_, Place::Inside(last)) if record & !(CUT << 2) == GO_ON => {
                let symbols = segment.control.number().ok_or(SHORT)?;
                self.writer.symbols(symbols, segment, out)?;
                self.end_block(last, record & CUT << 2 != 0, out)?
            }
            (_, Place::Blocks) if record & !(LAST | CUT | KIND) == BLOCK => {
                let last = record & LAST != 0;
                let number = segment.control.number().ok_or(SHORT)?;
                let kind = record & KIND;
                // A foretold head is that of a dynamic block.
                let bits = if kind == FORETOLD { DYNAMIC } else { kind } >> 1;
                self.writer.bits.put(u64::from(last) | u64::from(bits), 3);
                match kind {
                    STORED if record & CUT == 0 => {
                        let pad = segment.control.byte().ok_or(SHORT)?;
                        let size =
                            u16::try_from(number).map_err(|_| BadTokens("a stored block of over 65535 bytes"))?;
                        if !self.writer.bits.align(pad, out) {
                            return Err(BadTokens("padding that does not fit"));
                        }
                        out.extend_from_slice(&size.to_le_bytes());
                        out.extend_from_slice(&(!size).to_le_bytes());
                        out.extend_from_slice(segment.stored(usize::from(size))?);
                        if last { Place::Trailer } else { Place::Blocks }
                    }
                    FIXED | DYNAMIC => {
                        if kind == FIXED {
                            let (litlen, dist) = fixed();
                            self.writer.codes(&litlen, &dist)?;
                        } else {
                            let header = explicit(&mut segment.control).ok_or(BadTokens("a block's head is none"))?;
                            self.writer.header(&header)?;
                        }
                        self.writer.symbols(number, segment, out)?;
                        self.end_block(last, record & CUT != 0, out)?
                    }
                    FORETOLD if record & CUT == 0 => {
                        if segment.control.byte() != Some(MERGED) || number > PART {
                            return Err(BadTokens("an unknown way to foretell a block's head"));
                        }
                        self.writer.foretold(number, segment, out)?;
                        self.end_block(last, false, out)?
                    }
                    _ => return Err(BadTokens("an unknown block")),
                }
            }
            _ => return Err(BadTokens("an unknown record, or out of place")),
        };
        Ok(())
    }

    fn end_block(&mut self, last: bool, cut: bool, out: &mut Vec<u8>) -> Result<Place, BadTokens> {
        if cut {
            return Ok(Place::Inside(last));
        }
        self.writer.end(out)?;
        Ok(if last { Place::Trailer } else { Place::Blocks })
    }
}

/// Reads a head that is written out.
fn explicit(control: &mut Bytes<'_>) -> Option<Header> {
    let litlens = usize::from(control.byte()?) + 257;
    let dists = usize::from(control.byte()?) + 1;
    let orders = usize::from(control.byte()?);
    let order = control.take(orders)?.to_vec();
    let mut said = 0;
    let mut writes = Vec::new();
    while said < litlens + dists {
        let write = control.byte()?;
        said += match write {
            0..=15 => 1,
            16..=19 => usize::from(write) - 13,
            _ => usize::from(write) - 17,
        };
        writes.push(write);
    }
    Header::new(litlens, dists, order, writes)
}

/// Writes symbols with the codes of the block at hand.
#[derive(Debug)]
struct Writer {
    bits: BitWriter,
    /// By literal, and [`END`]: word, its length from bit 24, [`LACKS`] if it has none.
    literal: [u32; 257],
    /// By length less 3, the same; the extra bits are part of the word.
    length: [u32; 257],
    /// By distance symbol, the same without extra bits.
    distance: [u32; 32],
    commands: Vec<Command>,
}

/// Marks a symbol that the code lacks.
const LACKS: u32 = 1 << 31;
/// Where a word's length begins.
const SIZE: u32 = 24;
/// The word alone.
const WORD: u32 = (1 << SIZE) - 1;
/// Literals written before the writer looks for room again.
const RUN: usize = 1024;

fn entry(word: u32, size: u8) -> u32 {
    if size == 0 { LACKS } else { word | u32::from(size) << SIZE }
}

impl Writer {
    fn new() -> Self {
        let commands = Vec::new();
        Self { bits: BitWriter::default(), literal: [0; 257], length: [0; 257], distance: [0; 32], commands }
    }

    /// Writes a block's head and takes its codes.
    fn header(&mut self, header: &Header) -> Result<(), BadTokens> {
        header.write(&mut self.bits).ok_or(BadTokens("a block's head cannot be written"))?;
        self.codes(&header.litlen, &header.dist)
    }

    fn codes(&mut self, litlen: &[u8; 288], dist: &[u8; DIST]) -> Result<(), BadTokens> {
        const NONE: BadTokens = BadTokens("code lengths that are no code");
        let mut words = [0; 288];
        codes(litlen, &mut words).ok_or(NONE)?;
        for (slot, (word, size)) in self.literal.iter_mut().zip(words.iter().zip(litlen)) {
            *slot = entry(u32::from(*word), *size);
        }
        for (slot, (symbol, value)) in self.length.iter_mut().zip(LENGTH_SYMBOL.iter()) {
            let at = 257 + usize::from(*symbol);
            let (word, size) = (words.get(at).copied().unwrap_or(0), litlen.get(at).copied().unwrap_or(0));
            let extra = LENGTHS.get(usize::from(*symbol)).map_or(0, |(_, extra)| *extra);
            let whole = u32::from(word) | u32::from(*value) << size;
            *slot = entry(whole, if size == 0 { 0 } else { size + extra });
        }
        let mut words = [0; DIST];
        codes(dist, &mut words).ok_or(NONE)?;
        self.distance = [LACKS; 32];
        for (slot, (word, size)) in self.distance.iter_mut().zip(words.iter().zip(dist)) {
            *slot = entry(u32::from(*word), *size);
        }
        Ok(())
    }

    /// The symbols of a block whose head follows from them, behind that head.
    fn foretold(&mut self, count: u64, segment: &mut SegmentReader<'_>, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        let literals = segment.part(count, &mut self.commands)?;
        let mut histogram = Histogram::default();
        histogram.count(&self.commands, literals);
        let header = merged(&histogram).ok_or(BadTokens("a block whose head cannot be foretold"))?;
        self.header(&header)?;
        self.part(literals, out)
    }

    fn symbols(&mut self, count: u64, segment: &mut SegmentReader<'_>, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        let mut left = count;
        while left > 0 {
            let literals = segment.part(left, &mut self.commands)?;
            self.part(literals, out)?;
            left -= left.min(PART);
        }
        Ok(())
    }

    /// Writes the commands at hand.
    fn part(&mut self, literals: &[u8], out: &mut Vec<u8>) -> Result<(), BadTokens> {
        let Self { bits, literal, length, distance, commands } = self;
        let mut lacks = 0;
        let mut rest = literals;
        let word = |byte: u8| literal.get(usize::from(byte)).copied().unwrap_or(LACKS);
        for command in commands.iter() {
            let Some((run, behind)) = rest.split_at_checked(command.run as usize) else { break };
            rest = behind;
            for part in run.chunks(RUN) {
                bits.room(RUN, out);
                let (threes, ends) = part.as_chunks::<3>();
                for [one, two, three] in threes {
                    let (one, two, three) = (word(*one), word(*two), word(*three));
                    lacks |= one | two | three;
                    let (first, second) = (one >> SIZE & 31, two >> SIZE & 31);
                    let all = u64::from(one & WORD) | u64::from(two & WORD) << first;
                    let all = all | u64::from(three & WORD) << (first + second);
                    bits.put(all, first + second + (three >> SIZE & 31));
                }
                for byte in ends {
                    let one = word(*byte);
                    lacks |= one;
                    bits.put(u64::from(one & WORD), one >> SIZE & 31);
                }
            }
            if command.length == 0 {
                continue;
            }
            bits.room(1, out);
            let one = length.get(usize::from(command.length - 3)).copied().unwrap_or(LACKS);
            let symbol = distance_symbol(command.less);
            let two = distance.get(symbol as usize & 31).copied().unwrap_or(LACKS);
            lacks |= one | two;
            let (size, wide) = (one >> SIZE & 31, two >> SIZE & 31);
            // What is below the symbol's base are the extra bits.
            let extra = (symbol >> 1).saturating_sub(1);
            let more = u64::from(command.less) & ((1 << extra) - 1);
            let all = u64::from(one & WORD) | (u64::from(two & WORD) | more << wide) << size;
            bits.put(all, size + wide + extra);
        }
        bits.drain(out);
        if lacks & LACKS != 0 { Err(BadTokens("a symbol that the block's code lacks")) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        let end = self.literal.get(END).copied().unwrap_or(LACKS);
        if end & LACKS != 0 {
            return Err(BadTokens("a block whose code lacks an end"));
        }
        self.bits.put(u64::from(end & WORD), end >> SIZE & 31);
        self.bits.drain(out);
        Ok(())
    }
}
