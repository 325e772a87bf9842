//! A segment: the symbols of some blocks, as streams that lie one after the other.

use super::BadTokens;
use super::huffman::ODD_258;
use crate::limits;

/// Streams of a segment.
pub(super) const STREAMS: usize = 6;
/// Literals before a match that its command says itself.
const RUN: u32 = 7;
/// Length less 3 from which the command says only "longer".
const LONG: u16 = 31;
/// Bytes that the streams' sizes take at most.
const SIZES: usize = STREAMS * 5;

/// Collects symbols and lays them out.
#[derive(Debug, Default)]
pub(super) struct SegmentWriter {
    /// Members, blocks, trailers.
    pub(super) control: Vec<u8>,
    commands: Vec<u8>,
    longer: Vec<u8>,
    literals: Vec<u8>,
    high: Vec<u8>,
    low: Vec<u8>,
    run: u32,
    matches: usize,
}

impl SegmentWriter {
    /// A literal of a compressed block.
    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) {
        self.literals.push(byte);
        self.run += 1;
    }

    /// The bytes of a stored block, or others that are content.
    pub(super) fn stored(&mut self, bytes: &[u8]) {
        self.literals.extend_from_slice(bytes);
    }

    /// A match.
    #[inline(always)]
    pub(super) fn pair(&mut self, length: u16, distance: u16) {
        let run = self.run.min(RUN);
        let long = (length - 3).min(LONG);
        self.commands.push((run << 5) as u8 | long as u8);
        if run == RUN {
            number(&mut self.longer, u64::from(self.run - RUN));
        }
        if long == LONG {
            self.longer.push((length - 3 - LONG) as u8);
        }
        self.run = 0;
        self.matches += 1;
        let less = distance.wrapping_sub(1);
        self.high.push((less >> 8) as u8);
        self.low.push(less as u8);
    }

    /// Symbols and stored bytes in it.
    pub(super) fn symbols(&self) -> usize {
        self.literals.len() + self.matches + self.control.len()
    }

    /// Appends the segment to `out` and begins a new one.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        let streams = [
            &mut self.control,
            &mut self.commands,
            &mut self.longer,
            &mut self.literals,
            &mut self.high,
            &mut self.low,
        ];
        for stream in &streams {
            number(out, stream.len() as u64);
        }
        for stream in streams {
            out.append(stream);
        }
        self.run = 0;
        self.matches = 0;
    }
}

/// The streams of a segment that has arrived.
#[derive(Debug)]
pub(super) struct SegmentReader<'a> {
    pub(super) control: Bytes<'a>,
    commands: Bytes<'a>,
    longer: Bytes<'a>,
    literals: Bytes<'a>,
    high: Bytes<'a>,
    low: Bytes<'a>,
    run: u32,
    length: Option<u16>,
}

/// A match, and the literals before it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Command {
    /// Literals.
    pub(super) run: u32,
    /// Length, or 0: no match follows.
    pub(super) length: u16,
    /// Distance less 1.
    pub(super) less: u16,
}

impl<'a> SegmentReader<'a> {
    /// The segment at the start of `bytes` and its size; `None` if more bytes are needed.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, BadTokens> {
        let mut head = Bytes(bytes);
        let mut sizes = [0; STREAMS];
        for size in &mut sizes {
            let Some(number) = head.number() else {
                return if bytes.len() > SIZES { Err(BadTokens("a stream's size is no number")) } else { Ok(None) };
            };
            *size = usize::try_from(number).unwrap_or(usize::MAX);
            if *size > limits::TOKEN_STREAM {
                return Err(BadTokens("a stream is longer than a segment may be"));
            }
        }
        if head.0.len() < sizes.iter().sum() {
            return Ok(None);
        }
        let mut next = sizes.iter().map(|size| Bytes(head.take(*size).unwrap_or_default()));
        let mut stream = || next.next().unwrap_or(Bytes(&[]));
        let (control, commands, longer) = (stream(), stream(), stream());
        let (literals, high, low) = (stream(), stream(), stream());
        let size = bytes.len() - head.0.len();
        Ok(Some((Self { control, commands, longer, literals, high, low, run: 0, length: None }, size)))
    }

    /// The commands of the next `symbols` symbols of a block, and their literals.
    pub(super) fn block(&mut self, symbols: u64, commands: &mut Vec<Command>) -> Result<&'a [u8], BadTokens> {
        commands.clear();
        let mut left = symbols;
        let mut literals = 0_u64;
        while left > 0 {
            if self.length.is_none() && self.commands.0.is_empty() {
                // Behind the last match there are only literals.
                literals += left;
                commands.push(Command { run: u32::try_from(left).unwrap_or(u32::MAX), length: 0, less: 0 });
                break;
            }
            let length = match self.length {
                Some(length) => length,
                None => self.command()?,
            };
            let run = u64::from(self.run).min(left);
            literals += run;
            left -= run;
            self.run -= run as u32;
            if left == 0 {
                self.length = Some(length);
                commands.push(Command { run: run as u32, length: 0, less: 0 });
                break;
            }
            left -= 1;
            self.length = None;
            let (Some(high), Some(low)) = (self.high.byte(), self.low.byte()) else {
                return Err(BadTokens("the distances end early"));
            };
            if high > 127 {
                return Err(BadTokens("a distance beyond the window"));
            }
            commands.push(Command { run: run as u32, length, less: u16::from(high) << 8 | u16::from(low) });
        }
        usize::try_from(literals)
            .ok()
            .and_then(|literals| self.literals.take(literals))
            .ok_or(BadTokens("the literals end early"))
    }

    /// The next command: sets the run, gives the length.
    #[inline(always)]
    fn command(&mut self) -> Result<u16, BadTokens> {
        let byte = self.commands.byte().ok_or(BadTokens("the commands end early"))?;
        self.run = u32::from(byte >> 5);
        if self.run == RUN {
            let more = self.longer.number().and_then(|more| u32::try_from(more).ok());
            let run = more.and_then(|more| more.checked_add(RUN)).filter(|run| *run as usize <= limits::TOKEN_STREAM);
            self.run = run.ok_or(BadTokens("a run of literals is no number"))?;
        }
        let mut length = u16::from(byte & 31) + 3;
        if length == LONG + 3 {
            length += u16::from(self.longer.byte().ok_or(BadTokens("the long lengths end early"))?);
            if length > ODD_258 {
                return Err(BadTokens("a length beyond 258"));
            }
        }
        Ok(length)
    }

    /// The next stored bytes.
    pub(super) fn stored(&mut self, count: usize) -> Result<&'a [u8], BadTokens> {
        self.literals.take(count).ok_or(BadTokens("the literals end early"))
    }

    /// Refuses a segment of which something is left.
    pub(super) fn close(&self) -> Result<(), BadTokens> {
        let all = [self.control, self.commands, self.longer, self.literals, self.high, self.low];
        let left = all.iter().any(|stream| !stream.0.is_empty()) || self.run > 0 || self.length.is_some();
        if left { Err(BadTokens("a segment holds more than its blocks")) } else { Ok(()) }
    }
}

/// Bytes that are taken from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    #[inline(always)]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of at most five bytes in LEB128.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for place in 0..5 {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << (7 * place);
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }
}

/// Appends a number in LEB128.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}
