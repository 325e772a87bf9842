//! Token bytes to gzip bytes.

use super::BadTokens;
use super::bits::BitWriter;
use super::content::{Content, Listener};
use super::encode::{
    BLOCK, CUT, DYNAMIC, FINISH, FIXED, FORETOLD, GO_ON, KIND, LAST, MEMBER, STORED, TAIL, TRAILER, VERSION,
};
use super::foretell::{Histogram, Method};
use super::header::Header;
use super::huffman::fixed;
use super::segment::{Bytes, Commands, PART, Segment, SegmentReader};
use super::symbols::SymbolWriter;

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

/// Bytes from which on they are to be taken.
const MUCH: usize = 1 << 20;

/// Where gzip bytes go.
struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    take: &'a mut dyn FnMut(&mut Vec<u8>),
    taken: u64,
}

impl Out<'_> {
    fn total(&self) -> u64 {
        self.taken + self.bytes.len() as u64
    }

    fn give(&mut self) {
        if self.bytes.len() >= MUCH {
            let total = self.total();
            (self.take)(self.bytes);
            self.taken = total - self.bytes.len() as u64;
        }
    }
}

impl TokenDecoder {
    /// A decoder that gives at most `limit` gzip bytes.
    pub fn new(limit: u64) -> Self {
        Self { input: Vec::new(), limit, given: 0, begun: false, place: Place::Start, writer: Writer::new() }
    }

    /// The same, and `listener` hears what the gzip holds, of each segment when it is decoded.
    pub fn with_listener(limit: u64, listener: Listener) -> Self {
        let mut decoder = Self::new(limit);
        decoder.writer.content = Some(Content::new(listener));
        decoder
    }

    /// Takes the next token bytes; appends gzip bytes to `out` when a segment is whole: all that it gives.
    pub fn push(&mut self, tokens: &[u8], out: &mut Vec<u8>) -> Result<(), BadTokens> {
        self.push_by_parts(tokens, out, &mut |_| ())
    }

    /// The same, and `take` takes and clears `out` whenever there is about a mebibyte in it, so that it never
    /// holds much more, whatever a segment gives. The rest is left in `out`.
    pub fn push_by_parts(
        &mut self,
        tokens: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), BadTokens> {
        let out = &mut Out { bytes: out, take, taken: 0 };
        if self.input.is_empty() {
            // Whole segments are read where they lie.
            let (at, needs) = self.segments(tokens, out)?;
            let rest = tokens.get(at..).unwrap_or_default();
            // Room at once, not by doubling. A segment's size is bounded.
            self.input.reserve_exact(needs.max(rest.len()));
            self.input.extend_from_slice(rest);
            return Ok(());
        }
        // Into the buffer by parts: it never holds more than a segment and a part.
        for part in tokens.chunks(256 << 10) {
            self.input.extend_from_slice(part);
            let mut input = std::mem::take(&mut self.input);
            let (at, needs) = self.segments(&input, out)?;
            input.drain(..at);
            input.reserve_exact(needs.saturating_sub(input.len()));
            self.input = input;
        }
        Ok(())
    }

    /// Decodes whole segments; how many bytes they took, and of how many the next one is, as far as is known.
    fn segments(&mut self, input: &[u8], out: &mut Out<'_>) -> Result<(usize, usize), BadTokens> {
        let mut at = 0;
        if !self.begun && !input.is_empty() {
            if input.first() != Some(&VERSION) {
                return Err(BadTokens("an unknown version"));
            }
            self.begun = true;
            at = 1;
        }
        let needs = loop {
            match SegmentReader::open(input.get(at..).unwrap_or_default())? {
                Segment::Needs(needs) => break needs,
                Segment::Whole(..) if self.place == Place::End => break 0,
                Segment::Whole(segment, size) => {
                    self.segment(segment, out)?;
                    at += size;
                }
            }
        };
        if self.place == Place::End && input.len() > at {
            return Err(BadTokens("bytes behind the end"));
        }
        Ok((at, needs))
    }

    /// Ends the token stream.
    pub fn finish(self, _: &mut Vec<u8>) -> Result<(), BadTokens> {
        if self.place == Place::End { Ok(()) } else { Err(BadTokens("cut short")) }
    }

    fn segment(&mut self, mut segment: SegmentReader<'_>, out: &mut Out<'_>) -> Result<(), BadTokens> {
        let mut before = out.total();
        while let Some(record) = segment.control.byte() {
            self.record(record, &mut segment, out)?;
            self.given += out.total() - before;
            before = out.total();
            out.give();
            if self.given > self.limit {
                return Err(BadTokens("more bytes than were signed"));
            }
        }
        segment.close()
    }

    fn record(&mut self, record: u8, segment: &mut SegmentReader<'_>, out: &mut Out<'_>) -> Result<(), BadTokens> {
        const SHORT: BadTokens = BadTokens("the control stream ends early");
        self.place = match (record, self.place) {
            (FINISH, Place::Between | Place::Tail) => Place::End,
            (MEMBER, Place::Start | Place::Between) => {
                let size = segment.control.number().ok_or(SHORT)?;
                let size = usize::try_from(size).map_err(|_| SHORT)?;
                let header = segment.control.take(size).ok_or(SHORT)?;
                self.writer.content(|content| content.member(header));
                out.bytes.extend_from_slice(header);
                Place::Blocks
            }
            (TRAILER, Place::Trailer) => {
                let pad = segment.control.byte().ok_or(SHORT)?;
                if !self.writer.bits.align(pad, out.bytes) {
                    return Err(BadTokens("padding that does not fit"));
                }
                let trailer = segment.control.take(8).ok_or(SHORT)?;
                self.writer.content(|content| content.trailer(trailer));
                out.bytes.extend_from_slice(trailer);
                Place::Between
            }
            (TAIL, Place::Between | Place::Tail) => {
                let size = segment.control.number().ok_or(SHORT)?;
                self.writer.content(Content::odd);
                out.bytes.extend_from_slice(segment.stored(usize::try_from(size).map_err(|_| SHORT)?)?);
                Place::Tail
            }
            (_, Place::Inside(last)) if record & !(CUT << 2) == GO_ON => {
                let symbols = segment.control.number().ok_or(SHORT)?;
                self.writer.some(symbols, segment, out)?;
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
                        if !self.writer.bits.align(pad, out.bytes) {
                            return Err(BadTokens("padding that does not fit"));
                        }
                        out.bytes.extend_from_slice(&size.to_le_bytes());
                        out.bytes.extend_from_slice(&(!size).to_le_bytes());
                        let bytes = segment.stored(usize::from(size))?;
                        self.writer.content(|content| content.stored(bytes));
                        out.bytes.extend_from_slice(bytes);
                        if last { Place::Trailer } else { Place::Blocks }
                    }
                    FIXED | DYNAMIC => {
                        if kind == FIXED {
                            let (litlen, dist) = fixed();
                            self.writer.symbols.codes(&litlen, &dist)?;
                        } else {
                            let header = explicit(&mut segment.control).ok_or(BadTokens("a block's head is none"))?;
                            self.writer.header(&header)?;
                        }
                        self.writer.some(number, segment, out)?;
                        self.end_block(last, record & CUT != 0, out)?
                    }
                    FORETOLD => {
                        let cut = record & CUT != 0;
                        let method = segment.control.byte().and_then(Method::of);
                        let knows = |method: &Method| method.looks_at_the_first_bytes() || !cut && number <= PART;
                        let method =
                            method.filter(knows).ok_or(BadTokens("an unknown way to foretell a block's head"))?;
                        self.writer.foretold(method, number, segment, out)?;
                        self.end_block(last, cut, out)?
                    }
                    _ => return Err(BadTokens("an unknown block")),
                }
            }
            _ => return Err(BadTokens("an unknown record, or out of place")),
        };
        Ok(())
    }

    fn end_block(&mut self, last: bool, cut: bool, out: &mut Out<'_>) -> Result<Place, BadTokens> {
        if cut {
            return Ok(Place::Inside(last));
        }
        self.writer.symbols.end(&mut self.writer.bits, out.bytes)?;
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

/// Writes blocks.
#[derive(Debug)]
struct Writer {
    bits: BitWriter,
    symbols: SymbolWriter,
    commands: Commands,
    /// What is held, if somebody listens.
    content: Option<Content>,
}

/// Symbols taken at once where the head is known before them: few enough for the fastest memory.
const AT_ONCE: u64 = 2048;

impl Writer {
    fn new() -> Self {
        Self { bits: BitWriter::default(), symbols: SymbolWriter::new(), commands: Commands::default(), content: None }
    }

    fn content(&mut self, show: impl FnOnce(&mut Content)) {
        if let Some(content) = &mut self.content {
            show(content);
        }
    }

    /// Writes the commands at hand.
    fn write(&mut self, literals: &[u8], out: &mut Out<'_>) -> Result<(), BadTokens> {
        if let Some(content) = &mut self.content {
            content.symbols(self.commands.all(), literals);
        }
        self.symbols.write(self.commands.all(), literals, &mut self.bits, out.bytes)?;
        out.give();
        Ok(())
    }

    /// Writes a block's head and takes its codes.
    fn header(&mut self, header: &Header) -> Result<(), BadTokens> {
        header.write(&mut self.bits).ok_or(BadTokens("a block's head cannot be written"))?;
        self.symbols.codes(&header.litlen, &header.dist)
    }

    /// The symbols of a block whose head follows from them, behind that head.
    fn foretold(
        &mut self,
        method: Method,
        count: u64,
        segment: &mut SegmentReader<'_>,
        out: &mut Out<'_>,
    ) -> Result<(), BadTokens> {
        let literals = segment.part(count, &mut self.commands)?;
        let mut histogram = Histogram::default();
        if method.looks_at_the_first_bytes() {
            histogram.count_first(self.commands.all(), literals);
        } else {
            histogram.count(self.commands.all(), literals);
        }
        let header = method.head(&histogram).ok_or(BadTokens("a block whose head cannot be foretold"))?;
        self.header(&header)?;
        self.write(literals, out)?;
        self.some(count.saturating_sub(PART), segment, out)
    }

    /// So many symbols with the codes at hand.
    fn some(&mut self, count: u64, segment: &mut SegmentReader<'_>, out: &mut Out<'_>) -> Result<(), BadTokens> {
        let mut left = count;
        while left > 0 {
            let now = left.min(AT_ONCE);
            let literals = segment.part(now, &mut self.commands)?;
            self.write(literals, out)?;
            left -= now;
        }
        Ok(())
    }
}
