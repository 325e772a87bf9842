//! A segment: the symbols of some blocks, as streams that lie one after the other.

use std::hint::select_unpredictable;

use super::BadTokens;
use super::huffman::ODD_258;
use crate::limits;

/// Streams of a segment.
pub(super) const STREAMS: usize = 7;
/// Literals before a match that its command says itself.
const RUN: u32 = 7;
/// Length less 3 from which the command says only "longer".
const LONG: u16 = 31;
/// Least high byte that names a recent distance.
const RECENT: u8 = 128;
/// The recent distances less 1 at the start of a segment.
const FIRST: [u16; 4] = [0, 1, 2, 3];
/// Symbols that [`SegmentReader::part`] takes at once at most: of so many a head can be foretold.
pub(super) const PART: u64 = 65_536;
/// Bits of one of the recent distances, which lie in a word, the latest lowest.
const LANE: u32 = 16;
/// Bytes of a number at most.
const NUMBER: usize = 5;
const EARLY: BadTokens = BadTokens("the distances end early");

/// Collects symbols and lays them out.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    /// Members, blocks, trailers.
    pub(super) control: Vec<u8>,
    commands: Vec<u8>,
    longer: Vec<u8>,
    literals: Vec<u8>,
    high: Vec<u8>,
    near: Vec<u8>,
    far: Vec<u8>,
    run: u32,
    recent: [u16; 4],
}

impl Default for SegmentWriter {
    fn default() -> Self {
        let empty = Vec::new;
        Self {
            control: empty(),
            commands: empty(),
            longer: empty(),
            literals: empty(),
            high: empty(),
            near: empty(),
            far: empty(),
            run: 0,
            recent: FIRST,
        }
    }
}

impl SegmentWriter {
    /// Counts literals of a compressed block before the next match. Their bytes come with [`Self::literals`].
    #[inline(always)]
    pub(super) const fn run(&mut self, literals: u32) {
        self.run += literals;
    }

    /// The bytes of literals that [`Self::run`] has counted.
    pub(super) fn literals(&mut self, bytes: &[u8]) {
        self.literals.extend_from_slice(bytes);
    }

    /// The bytes of a stored block, or others that are content.
    pub(super) fn stored(&mut self, bytes: &[u8]) {
        self.literals.extend_from_slice(bytes);
    }

    /// A match of `length` and the distance `less` + 1.
    #[inline(always)]
    pub(super) fn pair(&mut self, length: u16, less: u16) {
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
        let [first, second, third, fourth] = self.recent;
        let place = if less == first {
            self.high.push(RECENT);
            return;
        } else if less == second {
            self.recent = [less, first, third, fourth];
            1
        } else if less == third {
            self.recent = [less, first, second, fourth];
            2
        } else {
            self.recent = [less, first, second, third];
            3
        };
        if place < 3 || less == fourth {
            self.high.push(RECENT + place);
        } else {
            self.high.push((less >> 8) as u8);
            if less < 256 { self.near.push(less as u8) } else { self.far.push(less as u8) }
        }
    }

    /// Bytes in it.
    pub(super) fn size(&self) -> usize {
        // Near and far distances are fewer than commands; counting those twice spares two looks.
        self.control.len() + 3 * self.commands.len() + self.longer.len() + self.literals.len()
    }

    /// Appends the segment to `out` and begins a new one.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        let streams = self.streams();
        for stream in &streams {
            number(out, stream.len() as u64);
        }
        for stream in streams {
            out.append(stream);
        }
        self.run = 0;
        self.recent = FIRST;
    }

    /// Forgets the segment.
    pub(super) fn clear(&mut self) {
        self.streams().into_iter().for_each(Vec::clear);
        self.run = 0;
        self.recent = FIRST;
    }

    const fn streams(&mut self) -> [&mut Vec<u8>; STREAMS] {
        [
            &mut self.control,
            &mut self.commands,
            &mut self.longer,
            &mut self.literals,
            &mut self.high,
            &mut self.near,
            &mut self.far,
        ]
    }
}

/// The streams of a segment that has arrived.
#[derive(Debug, Clone)]
pub(super) struct SegmentReader<'a> {
    pub(super) control: Bytes<'a>,
    commands: Bytes<'a>,
    longer: Bytes<'a>,
    literals: Bytes<'a>,
    high: Bytes<'a>,
    near: Bytes<'a>,
    far: Bytes<'a>,
    run: u32,
    /// Length of the match behind the run; 0: the next command says.
    length: u16,
    recent: u64,
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

/// Commands, in room that is used again without being cleared.
#[derive(Debug, Default)]
pub(super) struct Commands {
    room: Vec<Command>,
    size: usize,
}

impl Commands {
    pub(super) fn all(&self) -> &[Command] {
        self.room.get(..self.size).unwrap_or_default()
    }

    fn push(&mut self, command: Command) {
        if let Some(slot) = self.room(1).first_mut() {
            *slot = command;
        }
        self.size += 1;
    }

    /// Places behind the last command, as many as that or more.
    fn room(&mut self, many: usize) -> &mut [Command] {
        if self.room.len() < self.size + many {
            self.room.resize(self.size + many, Command::default());
        }
        self.room.get_mut(self.size..).unwrap_or_default()
    }
}

/// What there is of a segment.
#[derive(Debug)]
pub(super) enum Segment<'a> {
    /// All of it, and how many bytes it takes.
    Whole(SegmentReader<'a>, usize),
    /// So many bytes are needed, as far as is known.
    Needs(usize),
}

impl<'a> SegmentReader<'a> {
    /// The segment at the start of `bytes`.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Segment<'a>, BadTokens> {
        let mut head = Bytes(bytes);
        let mut sizes = [0; STREAMS];
        for size in &mut sizes {
            let whole = head.0.len() >= NUMBER;
            let Some(number) = head.number() else {
                let more = Segment::Needs(bytes.len() + 1);
                return if whole { Err(BadTokens("a stream's size is no number")) } else { Ok(more) };
            };
            *size = usize::try_from(number).unwrap_or(usize::MAX);
        }
        let total = sizes.iter().fold(0_usize, |sum, size| sum.saturating_add(*size));
        if total > limits::TOKEN_SEGMENT_MOST {
            return Err(BadTokens("a segment is longer than it may be"));
        }
        if head.0.len() < total {
            return Ok(Segment::Needs(bytes.len() - head.0.len() + total));
        }
        let mut next = sizes.iter().map(|size| Bytes(head.take(*size).unwrap_or_default()));
        let mut stream = || next.next().unwrap_or(Bytes(&[]));
        let (control, commands, longer) = (stream(), stream(), stream());
        let (literals, high, near, far) = (stream(), stream(), stream(), stream());
        let size = bytes.len() - head.0.len();
        let recent = FIRST.iter().rev().fold(0, |word, less| word << LANE | u64::from(*less));
        let (run, length) = (0, 0);
        let reader = Self { control, commands, longer, literals, high, near, far, run, length, recent };
        Ok(Segment::Whole(reader, size))
    }

    /// The commands of the next `symbols` symbols, at most [`PART`], and their literals.
    pub(super) fn part(&mut self, symbols: u64, commands: &mut Commands) -> Result<&'a [u8], BadTokens> {
        commands.size = 0;
        let mut left = symbols.min(PART) as u32;
        let mut literals = 0;
        while left > 0 {
            if self.length == 0 {
                literals += self.whole(&mut left, commands)?;
                if left == 0 {
                    break;
                }
                if self.commands.0.is_empty() {
                    // Behind the last match there are only literals.
                    literals += left;
                    commands.push(Command { run: left, length: 0, less: 0 });
                    break;
                }
                let byte = self.commands.byte().unwrap_or_default();
                (self.run, self.length) = command(byte, &mut self.longer)?;
            }
            let run = self.run.min(left);
            literals += run;
            left -= run;
            self.run -= run;
            if left == 0 {
                commands.push(Command { run, length: 0, less: 0 });
                break;
            }
            left -= 1;
            let high = self.high.byte().ok_or(EARLY)?;
            let mut distances = self.distances();
            let less = distances.next(high);
            let state = distances.state();
            self.take_distances(high, state)?;
            commands.push(Command { run, length: self.length, less });
            self.length = 0;
        }
        self.literals.take(literals as usize).ok_or(BadTokens("the literals end early"))
    }

    /// The next commands that are no more than the `left` symbols with their literals; counts these.
    fn whole(&mut self, left: &mut u32, commands: &mut Commands) -> Result<u32, BadTokens> {
        let mut longer = self.longer;
        let (mut room, mut literals, mut taken) = (*left, 0, 0);
        let slots = commands.room(self.commands.0.len().min(room as usize));
        for (slot, byte) in slots.iter_mut().zip(self.commands.0) {
            let (mut run, mut length) = (u32::from(byte >> 5), u16::from(byte & 31) + 3);
            let mut behind = longer;
            if run == RUN || length == LONG + 3 {
                (run, length) = command(*byte, &mut behind)?;
            }
            if run >= room {
                break;
            }
            longer = behind;
            room -= run + 1;
            literals += run;
            taken += 1;
            *slot = Command { run, length, less: 0 };
        }
        self.longer = longer;
        self.commands.take(taken);
        let highs = self.high.take(taken).ok_or(EARLY)?;
        let mut distances = self.distances();
        for (slot, high) in slots.iter_mut().zip(highs) {
            slot.less = distances.next(*high);
        }
        let state = distances.state();
        commands.size += taken;
        *left = room;
        self.take_distances(highs.iter().copied().max().unwrap_or(0), state)?;
        Ok(literals)
    }

    const fn distances(&self) -> Distances<'a> {
        Distances { near: self.near.0, far: self.far.0, nears: 0, fars: 0, recent: self.recent }
    }

    /// Takes the bytes that distances were made of, and refuses what was none; `greatest` of their high bytes.
    fn take_distances(&mut self, greatest: u8, (nears, fars, recent): (usize, usize, u64)) -> Result<(), BadTokens> {
        if greatest > RECENT + 3 {
            return Err(BadTokens("a distance beyond the window"));
        }
        self.recent = recent;
        self.near.take(nears).and(self.far.take(fars)).map(|_| ()).ok_or(EARLY)
    }

    /// The next stored bytes.
    pub(super) fn stored(&mut self, count: usize) -> Result<&'a [u8], BadTokens> {
        self.literals.take(count).ok_or(BadTokens("the literals end early"))
    }

    /// Refuses a segment of which something is left.
    pub(super) fn close(&self) -> Result<(), BadTokens> {
        let all = [self.control, self.commands, self.longer, self.literals, self.high, self.near, self.far];
        let left = all.iter().any(|stream| !stream.0.is_empty()) || self.run > 0 || self.length > 0;
        if left { Err(BadTokens("a segment holds more than its blocks")) } else { Ok(()) }
    }
}

/// Reads distances; how many bytes it took is looked at afterwards.
struct Distances<'a> {
    near: &'a [u8],
    far: &'a [u8],
    nears: usize,
    fars: usize,
    recent: u64,
}

impl Distances<'_> {
    /// The distance less 1 that `high` begins; a byte that is missing is read as 0. No branch, because
    /// none could be guessed.
    #[inline(always)]
    fn next(&mut self, high: u8) -> u16 {
        let near = self.near.get(self.nears).copied().unwrap_or(0);
        let far = self.far.get(self.fars).copied().unwrap_or(0);
        let (is_near, is_recent) = (high == 0, high >= RECENT);
        self.nears += usize::from(is_near);
        self.fars += usize::from(high.wrapping_sub(1) < RECENT - 1);
        let place = u32::from(select_unpredictable(is_recent, high & 3, 3));
        let fresh = u16::from(high) << 8 | u16::from(select_unpredictable(is_near, near, far));
        let less = select_unpredictable(is_recent, (self.recent >> (LANE * place)) as u16, fresh);
        // From its place on nothing moves up; what is behind it stays.
        let on = u64::MAX << (LANE * place);
        self.recent = u64::from(less) | (self.recent & !on) << LANE | self.recent & (on << LANE);
        less
    }

    /// Bytes taken of near and of far, and the recent distances.
    const fn state(&self) -> (usize, usize, u64) {
        (self.nears, self.fars, self.recent)
    }
}

/// A command: literals and length.
#[inline(always)]
fn command(byte: u8, longer: &mut Bytes<'_>) -> Result<(u32, u16), BadTokens> {
    let mut run = u32::from(byte >> 5);
    if run == RUN {
        let more = longer.number().and_then(|more| u32::try_from(more).ok());
        let whole = more.and_then(|more| more.checked_add(RUN));
        let whole = whole.filter(|run| *run as usize <= limits::TOKEN_SEGMENT_MOST);
        run = whole.ok_or(BadTokens("a run of literals is no number"))?;
    }
    let mut length = u16::from(byte & 31) + 3;
    if length == LONG + 3 {
        length += u16::from(longer.byte().ok_or(BadTokens("the long lengths end early"))?);
        if length > ODD_258 {
            return Err(BadTokens("a length beyond 258"));
        }
    }
    Ok((run, length))
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

    /// A number of at most [`NUMBER`] bytes in LEB128.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for place in 0..NUMBER {
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
