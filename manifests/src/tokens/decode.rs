//! Token bytes to gzip bytes.

use super::BadTokens;
use super::bits::BitWriter;
use super::encode::{BLOCK, CUT, DYNAMIC, FINISH, FIXED, GO_ON, KIND, LAST, MEMBER, STORED, TAIL, TRAILER, VERSION};
use super::header::Header;
use super::huffman::{DIST, DISTANCES, END, LENGTH_SYMBOL, LENGTHS, codes, distance_symbol, fixed};
use super::segment::{Bytes, Command, SegmentReader};

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
                self.writer.bits.put(u64::from(last) | u64::from(kind) >> 1, 3, out);
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
                            header
                                .write(&mut self.writer.bits, out)
                                .ok_or(BadTokens("a block's head cannot be written"))?;
                            self.writer.codes(&header.litlen, &header.dist)?;
                        }
                        self.writer.symbols(number, segment, out)?;
                        self.end_block(last, record & CUT != 0, out)?
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
    /// Word and its length, by literal; the length is 0 where there is none.
    literal: [(u16, u8); 257],
    /// Bits and their count, by length less 3, extra bits included.
    length: [(u32, u8); 257],
    /// Word and its length, by distance symbol.
    distance: [(u16, u8); 32],
    commands: Vec<Command>,
}

impl Writer {
    fn new() -> Self {
        Self {
            bits: BitWriter::default(),
            literal: [(0, 0); 257],
            length: [(0, 0); 257],
            distance: [(0, 0); 32],
            commands: Vec::new(),
        }
    }

    fn codes(&mut self, litlen: &[u8; 288], dist: &[u8; DIST]) -> Result<(), BadTokens> {
        const NONE: BadTokens = BadTokens("code lengths that are no code");
        let mut words = [0; 288];
        codes(litlen, &mut words).ok_or(NONE)?;
        for (slot, pair) in self.literal.iter_mut().zip(words.iter().zip(litlen)) {
            *slot = (*pair.0, *pair.1);
        }
        for (slot, (symbol, value)) in self.length.iter_mut().zip(LENGTH_SYMBOL.iter()) {
            let at = 257 + usize::from(*symbol);
            let (word, size) = (words.get(at).copied().unwrap_or(0), litlen.get(at).copied().unwrap_or(0));
            let extra = LENGTHS.get(usize::from(*symbol)).map_or(0, |(_, extra)| *extra);
            *slot = if size == 0 { (0, 0) } else { (u32::from(word) | u32::from(*value) << size, size + extra) };
        }
        let mut words = [0; DIST];
        codes(dist, &mut words).ok_or(NONE)?;
        for (slot, pair) in self.distance.iter_mut().zip(words.iter().zip(dist)) {
            *slot = (*pair.0, *pair.1);
        }
        Ok(())
    }

    fn symbols(&mut self, count: u64, segment: &mut SegmentReader<'_>, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        const NONE: BadTokens = BadTokens("a symbol that the block's code lacks");
        let mut literals = segment.block(count, &mut self.commands)?;
        for command in &self.commands {
            let (run, rest) = literals.split_at_checked(command.run as usize).ok_or(NONE)?;
            literals = rest;
            for byte in run {
                let (word, size) = self.literal.get(usize::from(*byte)).copied().unwrap_or_default();
                if size == 0 {
                    return Err(NONE);
                }
                self.bits.put(u64::from(word), u32::from(size), out);
            }
            if command.length == 0 {
                continue;
            }
            let (word, size) = self.length.get(usize::from(command.length - 3)).copied().unwrap_or_default();
            let symbol = distance_symbol(u32::from(command.less) + 1) as usize;
            let (second, wide) = self.distance.get(symbol & 31).copied().unwrap_or_default();
            let (base, extra) = DISTANCES.get(symbol).copied().unwrap_or_default();
            if size == 0 || wide == 0 {
                return Err(NONE);
            }
            let more = u64::from(command.less + 1 - base);
            let all = u64::from(word) | (u64::from(second) | more << wide) << size;
            self.bits.put(all, u32::from(size) + u32::from(wide) + u32::from(extra), out);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BadTokens> {
        let (word, size) = self.literal.get(END).copied().unwrap_or_default();
        if size == 0 {
            return Err(BadTokens("a block whose code lacks an end"));
        }
        self.bits.put(u64::from(word), u32::from(size), out);
        Ok(())
    }
}
