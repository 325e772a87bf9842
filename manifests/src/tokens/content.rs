//! What gzip holds, made of its symbols while they are decoded: for who has to look inside as well.
//!
//! Whoever takes it must prove it: nothing here looks at a checksum. And it is shown only where every reader
//! of gzip would see the same; what only some would read is said to be [`Inside::Odd`].

use super::segment::Command;

/// A part of what gzip holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside<'a> {
    /// The next bytes, about 256 KiB at most.
    Bytes(&'a [u8]),
    /// A member ends; its trailer: CRC-32 and size modulo 2^32 of its bytes, both little-endian
    /// (RFC 1952, 2.3.1).
    End([u8; 8]),
    /// Readers differ from here on: a distance that leaves its member, a header with a checksum of its own,
    /// bytes behind the last member. Nothing more follows.
    Odd,
}

/// Takes it; `false` when no more is wanted.
pub type Listener = Box<dyn FnMut(Inside<'_>) -> bool + Send>;

/// Farthest distance.
const WINDOW: usize = 32 << 10;
/// Bytes that are given at once.
const GIVEN: usize = 256 << 10;
/// Longest match.
const LONGEST: usize = 258;
/// Bytes that are copied at once.
const COPY: usize = 16;
/// Room behind the last byte that is given: a match, and what is copied beyond its end.
const ROOM: usize = LONGEST + 2 * COPY;

/// Makes content of symbols.
pub(super) struct Content {
    listener: Listener,
    /// The last [`WINDOW`] bytes that were given, then new ones.
    buffer: Box<[u8]>,
    /// Where the next byte goes.
    at: usize,
    /// Where in the buffer this member began; 0 too if it began before, for the window is whole then.
    begin: usize,
    ended: bool,
}

impl Content {
    pub(super) fn new(listener: Listener) -> Self {
        let buffer = vec![0; WINDOW + GIVEN + ROOM].into_boxed_slice();
        Self { listener, buffer, at: WINDOW, begin: WINDOW, ended: false }
    }

    /// A member with this header begins.
    pub(super) fn member(&mut self, header: &[u8]) {
        let flags = header.get(3).copied().unwrap_or(0xFF);
        // FHCRC and what is reserved.
        if flags & 0xE2 != 0 {
            self.odd();
        }
        self.begin = self.at;
    }

    /// A member ends.
    pub(super) fn trailer(&mut self, bytes: &[u8]) {
        let Some(trailer) = bytes.first_chunk::<8>() else { return self.odd() };
        self.give();
        if !self.ended {
            self.ended = !(self.listener)(Inside::End(*trailer));
        }
    }

    /// Something that readers read in several ways, or not at all.
    pub(super) fn odd(&mut self) {
        if !self.ended {
            self.ended = true;
            (self.listener)(Inside::Odd);
        }
    }

    /// Gives what there is and keeps the window.
    fn give(&mut self) {
        let fresh = self.buffer.get(WINDOW..self.at).unwrap_or_default();
        if !fresh.is_empty() && !self.ended {
            self.ended = !(self.listener)(Inside::Bytes(fresh));
        }
        let old = self.at - WINDOW;
        self.buffer.copy_within(old..self.at, 0);
        self.begin = self.begin.saturating_sub(old);
        self.at = WINDOW;
    }

    /// Bytes that stand for themselves.
    pub(super) fn stored(&mut self, mut bytes: &[u8]) {
        while !self.ended && !bytes.is_empty() {
            if self.at >= WINDOW + GIVEN {
                self.give();
            }
            let (part, rest) = bytes.split_at(bytes.len().min(WINDOW + GIVEN - self.at));
            if let Some(place) = self.buffer.get_mut(self.at..self.at + part.len()) {
                place.copy_from_slice(part);
            }
            self.at += part.len();
            bytes = rest;
        }
    }

    /// Commands and their literals.
    pub(super) fn symbols(&mut self, commands: &[Command], mut literals: &[u8]) {
        for command in commands {
            if self.ended {
                return;
            }
            let run = command.run as usize;
            if self.at + COPY >= WINDOW + GIVEN {
                self.give();
            }
            let source = literals.first_chunk::<COPY>();
            let place = self.buffer.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut::<COPY>());
            match (source, place) {
                // More than is wanted is overwritten by what follows.
                (Some(source), Some(place)) if run <= COPY => {
                    *place = *source;
                    self.at += run;
                }
                _ => self.stored(literals.get(..run).unwrap_or_default()),
            }
            literals = literals.get(run..).unwrap_or_default();
            if command.length > 0 {
                self.again(usize::from(command.length).min(LONGEST), usize::from(command.less) + 1);
            }
        }
    }

    /// The bytes from `distance` ago once more.
    #[inline(always)]
    fn again(&mut self, length: usize, distance: usize) {
        if distance > self.at - self.begin {
            return self.odd();
        }
        let (mut from, mut to) = (self.at - distance, self.at);
        self.at += length;
        if distance < COPY {
            // Byte by byte, until a multiple of the distance back there is enough to copy.
            let wide = distance * COPY.div_ceil(distance);
            for step in 0..wide.min(length) {
                let byte = self.buffer.get(from + step).copied().unwrap_or(0);
                if let Some(place) = self.buffer.get_mut(to + step) {
                    *place = byte;
                }
            }
            (from, to) = (to, to + wide);
        }
        while to < self.at {
            let part = self.buffer.get(from..).and_then(|rest| rest.first_chunk::<COPY>()).copied();
            let place = self.buffer.get_mut(to..).and_then(|rest| rest.first_chunk_mut::<COPY>());
            if let (Some(part), Some(place)) = (part, place) {
                *place = part;
            }
            (from, to) = (from + COPY, to + COPY);
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("at", &self.at).field("ended", &self.ended).finish_non_exhaustive()
    }
}
