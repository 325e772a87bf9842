//! A blob as its coded stream, read forward: what a delta's prefix is a range of (spec 6.2).
//!
//! What may hurt it: a range that asks for everything at once, a base that ends before it. Who
//! defends: the manifest bounds each range and lets it only move forward, so that one buffer of a
//! range is all that is held, and the base is read once.

use std::io::Read;

use super::{PLAIN, TOKENS};
use crate::tokens::TokenEncoder;
use crate::{Error, ErrorKind, Result};

/// Gives ranges of a blob's coded stream, each beginning and ending no earlier than the one before.
pub struct CodedReader<'a> {
    what: String,
    input: Box<dyn Read + 'a>,
    tokens: Option<TokenEncoder>,
    /// Coded bytes from `start` on.
    held: Vec<u8>,
    start: u64,
    state: State,
    chunk: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
}

impl<'a> CodedReader<'a> {
    /// Reads `input`, the bytes of the blob that `what` names, as `coding`.
    pub fn new(what: &str, coding: &str, input: Box<dyn Read + 'a>) -> Result<Self> {
        let tokens = match coding {
            PLAIN => None,
            TOKENS => Some(TokenEncoder::new()),
            other => return Err(ErrorKind::UnknownCoding { blob: what.to_owned(), coding: other.into() }.into()),
        };
        let (held, chunk) = (Vec::new(), vec![0; 256 << 10]);
        Ok(Self { what: what.to_owned(), input, tokens, held, start: 0, state: State::Reading, chunk })
    }

    /// The coded bytes `from` to `from + len`; fewer where the stream ends before.
    pub fn range(&mut self, from: u64, len: u64) -> Result<&[u8]> {
        let end = from.saturating_add(len);
        loop {
            let at = self.start.saturating_add(u64::try_from(self.held.len()).unwrap_or(u64::MAX));
            // What lies before the range is let go while reading on, not only at its end.
            let gone = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.held.len());
            if gone > 0 && (gone == self.held.len() || gone >= 16 << 20 || at >= end) {
                self.held.drain(..gone);
                self.start = self.start.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
            }
            if at >= end || self.state == State::Ended {
                break;
            }
            self.read_on()?;
        }
        let first = usize::try_from(from.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.held.len());
        let last = usize::try_from(end.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.held.len());
        Ok(self.held.get(first..last).unwrap_or(&[]))
    }

    /// The next coded bytes, whatever comes, for a reader of the whole stream; none at its end. Not to
    /// be mixed with [`CodedReader::range`].
    pub fn next_part(&mut self, out: &mut Vec<u8>) -> Result<usize> {
        while self.held.is_empty() && self.state == State::Reading {
            self.read_on()?;
        }
        let count = self.held.len();
        out.append(&mut self.held);
        Ok(count)
    }

    fn read_on(&mut self) -> Result<()> {
        let count = match self.input.read(&mut self.chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(|error| Error::io(self.what.clone(), error))?,
        };
        let bytes = self.chunk.get(..count).unwrap_or(&[]);
        let not_codable = |why: crate::tokens::NotCodable| {
            let (blob, coding) = (self.what.clone(), TOKENS.into());
            Error::from(ErrorKind::Coding { blob, coding, why: why.to_string() })
        };
        match (&mut self.tokens, count) {
            (None, _) => self.held.extend_from_slice(bytes),
            (Some(_), 0) => {
                if let Some(encoder) = self.tokens.take() {
                    encoder.finish(&mut self.held).map_err(not_codable)?;
                }
            }
            (Some(encoder), _) => encoder.push(bytes, &mut self.held).map_err(not_codable)?,
        }
        if count == 0 {
            self.state = State::Ended;
        }
        Ok(())
    }
}

impl std::fmt::Debug for CodedReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodedReader").field("what", &self.what).field("start", &self.start).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_move_forward_and_end_with_the_stream() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|at| at.to_le_bytes()[usize::from(at % 3 == 1)]).collect();
        let mut reader = CodedReader::new("blob", PLAIN, Box::new(&bytes[..])).unwrap();
        for (from, len) in [(0, 10), (5, 100), (5, 2_000_000), (1_999_000, 1_001_000), (2_999_999, 1), (2_999_999, 50)]
        {
            let end = (from + len).min(bytes.len());
            assert!(reader.range(from as u64, len as u64).unwrap() == &bytes[from..end], "{from} {len}");
        }
        assert!(reader.range(3_000_000, 7).unwrap().is_empty());
        let mut whole = CodedReader::new("blob", PLAIN, Box::new(&bytes[..])).unwrap();
        let mut out = Vec::new();
        while whole.next_part(&mut out).unwrap() > 0 {}
        assert!(out == bytes);
        let error = CodedReader::new("blob", "morse", Box::new(&bytes[..])).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnknownCoding { .. }), "{error}");
    }
}
