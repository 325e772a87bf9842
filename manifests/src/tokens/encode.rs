//! Gzip bytes to token bytes.

use super::NotCodable;
use super::foretell::{FIRST_BYTES, Histogram, Method};
use super::header::Header;
use super::huffman::fixed;
use super::inflate::{LITERALS, Reader, SPARE, Symbol, Tables};
use super::segment::{PART, SegmentWriter, number};
use crate::limits;

/// First byte of a token stream: the layout's version.
pub(super) const VERSION: u8 = 2;

// Records of the control stream; see docs/spec/tokens.md.
pub(super) const FINISH: u8 = 0;
pub(super) const MEMBER: u8 = 1;
pub(super) const TRAILER: u8 = 2;
pub(super) const TAIL: u8 = 3;
pub(super) const GO_ON: u8 = 4;
pub(super) const BLOCK: u8 = 0x40;
pub(super) const LAST: u8 = 0x01;
pub(super) const CUT: u8 = 0x02;
pub(super) const KIND: u8 = 0x0C;
pub(super) const STORED: u8 = 0x00;
pub(super) const FIXED: u8 = 0x04;
pub(super) const DYNAMIC: u8 = 0x08;
pub(super) const FORETOLD: u8 = 0x0C;

/// Bytes that a block's head or a symbol takes at most, and a word beyond.
const ATOM: usize = 640;
/// Bytes of a gzip header at most.
const GZIP_HEADER: usize = 72 << 10;
/// Symbols of a block between two looks at the segment's size. A symbol takes at most six bytes, so
/// that a segment cannot grow from its soft limit past its hard one; and the looks depend on the block
/// alone, so that the token bytes do not depend on how the input was cut.
const STEP: u64 = 1 << 18;
const _: () = assert!(limits::TOKEN_SEGMENT + 6 * STEP as usize + (256 << 10) < limits::TOKEN_SEGMENT_MOST);
/// Bytes of one tail record at most.
pub(super) const TAIL_BYTES: usize = 32 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a member, or at the end. `false`: no member yet.
    Between(bool),
    /// Before a block.
    Block,
    /// In the symbols of a compressed block.
    Symbols,
    /// In a stored block of which so many bytes are to come.
    Stored(usize),
    /// Before a trailer.
    Trailer,
    /// In what follows the last member.
    Tail,
}

/// What has been read of the block at hand.
#[derive(Debug, Default)]
struct Block {
    symbols: u64,
    /// Those since the last look at the segment's size.
    step: u64,
    last: bool,
    header: Option<Header>,
    histogram: Histogram,
    /// Bytes of content that they give.
    bytes: u64,
    /// The histogram when [`FIRST_BYTES`] were reached.
    first: Option<Box<Histogram>>,
    /// Some of its symbols are in an earlier segment.
    goes_on: bool,
}

impl Block {
    /// The first method that gives its head.
    fn foretold(&self, cut: u8) -> Option<Method> {
        let header = self.header.as_ref()?;
        let whole = cut == 0 && self.symbols <= PART;
        let few = self.first.is_none();
        Method::ALL.into_iter().filter(|method| !few || !method.repeats_for_few_bytes()).find(|method| {
            let histogram = match &self.first {
                Some(first) if method.looks_at_the_first_bytes() => first,
                _ => &self.histogram,
            };
            (whole || method.looks_at_the_first_bytes()) && method.head(histogram).as_ref() == Some(header)
        })
    }
}

/// Push encoder: gzip bytes in, token bytes out, with bounded memory.
#[derive(Debug)]
pub struct TokenEncoder {
    input: Vec<u8>,
    /// Bit of `input` up to which all is done.
    at: usize,
    state: State,
    tables: Tables,
    block: Block,
    segment: SegmentWriter,
    begun: bool,
}

/// Whether there is more to do with the bytes that are there.
#[derive(PartialEq, Eq)]
enum Step {
    Done,
    Starved,
}

impl Default for TokenEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenEncoder {
    /// An encoder for one blob.
    pub fn new() -> Self {
        Self {
            input: Vec::new(),
            at: 0,
            state: State::Between(false),
            tables: Tables::default(),
            block: Block::default(),
            segment: SegmentWriter::default(),
            begun: false,
        }
    }

    /// Takes the next bytes of the blob; appends token bytes to `out` from time to time.
    pub fn push(&mut self, gzip: &[u8], out: &mut Vec<u8>) -> Result<(), NotCodable> {
        for part in gzip.chunks(1 << 20) {
            self.input.extend_from_slice(part);
            self.run(false, out)?;
            self.input.drain(..self.at >> 3);
            self.at &= 7;
        }
        Ok(())
    }

    /// Ends the blob.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), NotCodable> {
        self.end(out)
    }

    /// Ends the blob as [`Self::finish`] does; behind it only [`Self::restart`] makes sense.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), NotCodable> {
        self.run(true, out)?;
        if !matches!(self.state, State::Between(true) | State::Tail) {
            return Err(NotCodable("the gzip stream is cut short"));
        }
        self.segment.control.push(FINISH);
        self.flush(out);
        Ok(())
    }

    /// Begins another blob, whatever became of the one before, in the memory that is there.
    pub fn restart(&mut self) {
        self.input.clear();
        self.segment.clear();
        (self.at, self.state, self.begun) = (0, State::Between(false), false);
        self.block = Block::default();
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.begun {
            out.push(VERSION);
            self.begun = true;
        }
        self.segment.flush(out);
    }

    fn run(&mut self, end: bool, out: &mut Vec<u8>) -> Result<(), NotCodable> {
        loop {
            let step = match self.state {
                State::Between(later) => self.member(later, end)?,
                State::Block => self.block(end)?,
                State::Symbols => self.symbols(end, out)?,
                State::Stored(left) => self.stored(left),
                State::Trailer => self.trailer(),
                State::Tail => self.tail(end),
            };
            // A segment ends between blocks where it can, so that a block's code lengths can be
            // foretold from its symbols; never between a stored block's record and its bytes.
            let between = !matches!(self.state, State::Symbols | State::Stored(_));
            if between && self.segment.size() >= limits::TOKEN_SEGMENT {
                self.flush(out);
            }
            if step == Step::Starved {
                return Ok(());
            }
        }
    }

    /// Bytes from here on; here is a whole byte.
    fn rest(&self) -> &[u8] {
        self.input.get(self.at >> 3..).unwrap_or_default()
    }

    fn member(&mut self, later: bool, end: bool) -> Result<Step, NotCodable> {
        let rest = self.rest();
        if rest.is_empty() {
            return Ok(Step::Starved);
        }
        match gzip_header(rest) {
            Gzip::Whole(size) => {
                number_record(&mut self.segment.control, MEMBER, size);
                self.segment
                    .control
                    .extend_from_slice(self.input.get(self.at >> 3..(self.at >> 3) + size).unwrap_or_default());
                self.at += size * 8;
                self.state = State::Block;
            }
            Gzip::Short if !end && rest.len() < GZIP_HEADER => return Ok(Step::Starved),
            _ if later => self.state = State::Tail,
            _ => return Err(NotCodable("no gzip header of at most 72 KiB at the start")),
        }
        Ok(Step::Done)
    }

    fn block(&mut self, end: bool) -> Result<Step, NotCodable> {
        if !end && self.input.len() < (self.at >> 3) + ATOM {
            return Ok(Step::Starved);
        }
        let mut reader = Reader::new(&self.input, self.at);
        let last = reader.take(1) == 1;
        self.block = Block { last, ..Block::default() };
        let mut record = BLOCK | (u8::from(last) * LAST);
        match reader.take(2) {
            0 => {
                let room = reader.at().wrapping_neg() as u32 & 7;
                let pad = reader.take(room);
                let size = reader.take(16);
                if reader.take(16) != size ^ 0xFFFF {
                    return Err(NotCodable("a stored block's size contradicts itself"));
                }
                record |= STORED;
                number_record(&mut self.segment.control, record, size as usize);
                self.segment.control.push(pad as u8);
                self.state = State::Stored(size as usize);
            }
            1 => {
                let (litlen, dist) = fixed();
                self.tables.set(&litlen, &dist).ok_or(NotCodable("the fixed code"))?;
                self.state = State::Symbols;
            }
            2 => {
                let header = Header::read(&mut reader).ok_or(NotCodable("a block's code lengths are no code"))?;
                self.tables
                    .set(&header.litlen, &header.dist)
                    .ok_or(NotCodable("a block's code lengths are no code"))?;
                self.block.header = Some(header);
                self.state = State::Symbols;
            }
            _ => return Err(NotCodable("a block of type 3")),
        }
        let at = reader.at();
        self.arrive(at)?;
        Ok(Step::Done)
    }

    /// Goes on to bit `at`, if the input reaches so far.
    fn arrive(&mut self, at: usize) -> Result<(), NotCodable> {
        if at > self.input.len() * 8 {
            return Err(NotCodable("the gzip stream is cut short"));
        }
        self.at = at;
        Ok(())
    }

    fn symbols(&mut self, end: bool, out: &mut Vec<u8>) -> Result<Step, NotCodable> {
        // A symbol may begin where a whole word can still be read.
        let bound = if end { self.input.len() * 8 } else { self.input.len().saturating_sub(8) * 8 };
        let mut reader = Reader::new(&self.input, self.at);
        let mut literals = Literals::default();
        let (mut symbols, mut ended) = (0, false);
        let room = STEP - self.block.step;
        let mut bytes = self.block.bytes;
        let mut mark = if self.block.first.is_none() { u64::from(FIRST_BYTES) } else { u64::MAX };
        while reader.at() < bound && symbols < room {
            let (start, mut bits) = (reader.at(), reader.peek());
            let mut entry = self.tables.first(bits);
            // Literals come in rows: several from one word, as far as nothing else has to be looked at.
            let most = LITERALS.min(room - symbols).min(mark - bytes);
            let mut row = 0;
            while let Some((byte, length)) = entry.literal() {
                literals.push(byte);
                reader.skip(length);
                row += 1;
                if row == most {
                    break;
                }
                bits >>= length;
                entry = self.tables.first(bits);
            }
            self.segment.run(row as u32);
            symbols += row;
            bytes += row;
            if row < most {
                if reader.at() - start > SPARE {
                    bits = reader.peek();
                }
                match self.tables.rest(entry, bits, &mut reader) {
                    Symbol::Match(length, less) => {
                        self.segment.pair(length, less);
                        self.block.histogram.pair(length, less);
                        bytes += u64::from(length.min(258));
                    }
                    Symbol::End => {
                        ended = true;
                        break;
                    }
                    Symbol::None => return Err(NotCodable("bits that are no code")),
                }
                symbols += 1;
            }
            let marked = bytes >= mark;
            if marked || literals.full() {
                literals.give(&mut self.segment, &mut self.block.histogram);
            }
            if marked {
                self.block.first = Some(Box::new(self.block.histogram.clone()));
                mark = u64::MAX;
            }
        }
        literals.give(&mut self.segment, &mut self.block.histogram);
        self.block.bytes = bytes;
        self.block.symbols += symbols;
        self.block.step += symbols;
        let at = reader.at();
        self.arrive(at)?;
        if ended {
            self.end_block(0);
            self.state = if self.block.last { State::Trailer } else { State::Block };
        } else if symbols == room {
            self.block.step = 0;
            if self.segment.size() >= limits::TOKEN_SEGMENT {
                self.end_block(CUT);
                self.flush(out);
                self.block.goes_on = true;
                self.block.symbols = 0;
            }
        } else {
            return Ok(Step::Starved);
        }
        Ok(Step::Done)
    }

    /// Writes the record of the block at hand.
    fn end_block(&mut self, cut: u8) {
        let control = &mut self.segment.control;
        if self.block.goes_on {
            control.push(GO_ON | cut << 2);
            number(control, self.block.symbols);
            return;
        }
        let foretold = self.block.foretold(cut);
        let kind = match self.block.header {
            _ if foretold.is_some() => FORETOLD,
            Some(_) => DYNAMIC,
            None => FIXED,
        };
        control.push(BLOCK | (u8::from(self.block.last) * LAST) | cut | kind);
        number(control, self.block.symbols);
        match (foretold, &self.block.header) {
            (Some(method), _) => control.push(method as u8),
            (None, Some(header)) => {
                control.extend([(header.litlens - 257) as u8, (header.dists - 1) as u8, header.order.len() as u8]);
                control.extend_from_slice(&header.order);
                control.extend_from_slice(&header.writes);
            }
            (None, None) => {}
        }
    }

    fn stored(&mut self, left: usize) -> Step {
        let at = self.at >> 3;
        let here = self.input.len().saturating_sub(at).min(left);
        self.segment.stored(self.input.get(at..at + here).unwrap_or_default());
        self.at += here * 8;
        self.state = match left - here {
            0 if self.block.last => State::Trailer,
            0 => State::Block,
            more => State::Stored(more),
        };
        if here == left { Step::Done } else { Step::Starved }
    }

    fn trailer(&mut self) -> Step {
        let mut reader = Reader::new(&self.input, self.at);
        let room = self.at.wrapping_neg() as u32 & 7;
        let pad = reader.take(room);
        let start = reader.at() >> 3;
        let Some(bytes) = self.input.get(start..start + 8) else { return Step::Starved };
        self.segment.control.extend([TRAILER, pad as u8]);
        self.segment.control.extend_from_slice(bytes);
        self.at = (start + 8) * 8;
        self.state = State::Between(true);
        Step::Done
    }

    fn tail(&mut self, end: bool) -> Step {
        let rest = self.input.get(self.at >> 3..).unwrap_or_default();
        // Whole records until the end, so that they do not depend on how the input was cut.
        let bytes = match rest.get(..TAIL_BYTES) {
            Some(bytes) => bytes,
            None if end && !rest.is_empty() => rest,
            None => return Step::Starved,
        };
        number_record(&mut self.segment.control, TAIL, bytes.len());
        self.segment.stored(bytes);
        self.at += bytes.len() * 8;
        Step::Done
    }
}

/// Literals on their way: counted and appended many at a time.
struct Literals {
    bytes: [u8; 4096],
    size: usize,
}

impl Default for Literals {
    fn default() -> Self {
        Self { bytes: [0; 4096], size: 0 }
    }
}

impl Literals {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.size) {
            *place = byte;
        }
        self.size += 1;
    }

    /// Whether there is no room for another row.
    const fn full(&self) -> bool {
        self.size + LITERALS as usize > self.bytes.len()
    }

    fn give(&mut self, segment: &mut SegmentWriter, histogram: &mut Histogram) {
        let bytes = self.bytes.get(..self.size).unwrap_or_default();
        segment.literals(bytes);
        histogram.count(&[], bytes);
        self.size = 0;
    }
}

fn number_record(control: &mut Vec<u8>, record: u8, value: usize) {
    control.push(record);
    number(control, value as u64);
}

enum Gzip {
    Whole(usize),
    Short,
    Other,
}

/// Looks for a gzip header (RFC 1952, 2.3) at the start of `bytes`.
fn gzip_header(bytes: &[u8]) -> Gzip {
    if !bytes.iter().zip([0x1F, 0x8B, 8]).all(|(found, wanted)| *found == wanted) {
        return Gzip::Other;
    }
    let Some(flags) = bytes.get(3) else { return Gzip::Short };
    if flags & 0xE0 != 0 {
        return Gzip::Other;
    }
    let mut size = 10;
    if flags & 4 != 0 {
        let Some([low, high]) = bytes.get(size..).and_then(|rest| rest.first_chunk::<2>()) else { return Gzip::Short };
        size += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            let end = bytes.get(size..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
            let Some(end) = end else { return Gzip::Short };
            size += end + 1;
        }
    }
    if flags & 2 != 0 {
        size += 2;
    }
    match size {
        _ if size > GZIP_HEADER => Gzip::Other,
        _ if size > bytes.len() => Gzip::Short,
        _ => Gzip::Whole(size),
    }
}
