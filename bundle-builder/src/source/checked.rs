//! The reader that every byte of a bundle passes on the low side.

use std::io::{self, Read};

use bundle_format::digest::{Sha256, Sha256Hasher};

use crate::{Error, ErrorKind};

/// Hashes what it passes on and ends in an error on a wrong size or digest. The last byte is not
/// given out before size and digest are proved, so a consumer that reads exactly the size is safe.
#[derive(Debug)]
pub struct Checked<R> {
    inner: R,
    what: String,
    content: Content,
    digest: Sha256,
    size: u64,
    read: u64,
    hasher: Sha256Hasher,
    state: State,
}

/// What the bytes are: says which error a difference is.
#[derive(Debug, Clone, Copy)]
enum Content {
    Image,
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Proved,
    Failed,
}

impl<R: Read> Checked<R> {
    /// For a blob of an image: differences are [`ErrorKind::SourceDigest`] or [`ErrorKind::SourceSize`].
    pub fn image(inner: R, what: String, digest: Sha256, size: u64) -> Self {
        Self::new(inner, what, Content::Image, digest, size)
    }

    /// For a file: differences are [`ErrorKind::SourceChanged`].
    pub fn file(inner: R, what: String, digest: Sha256, size: u64) -> Self {
        Self::new(inner, what, Content::File, digest, size)
    }

    fn new(inner: R, what: String, content: Content, digest: Sha256, size: u64) -> Self {
        let hasher = Sha256Hasher::default();
        Self { inner, what, content, digest, size, read: 0, hasher, state: State::Reading }
    }

    fn wrong_size(&self, found: u64) -> Error {
        let what = self.what.clone();
        match self.content {
            Content::Image => ErrorKind::SourceSize { what, digest: self.digest, expected: self.size, found },
            Content::File => ErrorKind::SourceChanged {
                what,
                expected: format!("{} bytes", self.size),
                found: if found > self.size { "more".into() } else { format!("{found} bytes") },
            },
        }
        .into()
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.read).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        let window = buffer.get_mut(..room).unwrap_or_default();
        let count = if room == 0 { 0 } else { self.inner.read(window)? };
        if count == 0 && left > 0 {
            return Err(self.wrong_size(self.read).into());
        }
        self.hasher.update(window.get(..count).unwrap_or_default());
        self.read = self.read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.read == self.size {
            self.prove()?;
        }
        Ok(count)
    }

    fn prove(&mut self) -> io::Result<()> {
        let found = std::mem::take(&mut self.hasher).finish();
        // The probe also makes a file reader look whether its file changed.
        if io::copy(&mut (&mut self.inner).take(1), &mut io::sink())? > 0 {
            return Err(self.wrong_size(self.size.saturating_add(1)).into());
        }
        if found != self.digest {
            let (what, expected) = (self.what.clone(), self.digest);
            return Err(Error::from(match self.content {
                Content::Image => ErrorKind::SourceDigest { what, expected, found },
                Content::File => {
                    ErrorKind::SourceChanged { what, expected: expected.to_string(), found: found.to_string() }
                }
            })
            .into());
        }
        self.state = State::Proved;
        Ok(())
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.state {
            State::Proved => Ok(0),
            State::Failed => Err(io::Error::other("read on after a failed proof")),
            State::Reading if buffer.is_empty() => Ok(0),
            State::Reading => self.next(buffer).inspect_err(|error| {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.state = State::Failed;
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8], size: u64) -> Error {
        let mut out = vec![0; 3];
        let mut reader = Checked::image(bytes, "x".into(), Sha256::of(b"abc"), size);
        Error::io("x", reader.read_exact(&mut out).unwrap_err())
    }

    #[test]
    fn good() {
        let mut out = String::new();
        let mut reader = Checked::file(&b"abc"[..], "x".into(), Sha256::of(b"abc"), 3);
        reader.read_to_string(&mut out).unwrap();
        assert_eq!(out, "abc");
        let mut empty = Checked::file(&b""[..], "x".into(), Sha256::of(b""), 0);
        assert_eq!(empty.read(&mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn the_last_byte_comes_only_with_the_proof() {
        assert!(matches!(kind(b"abd", 3).kind(), ErrorKind::SourceDigest { .. }));
        assert!(matches!(kind(b"abcd", 3).kind(), ErrorKind::SourceSize { found: 4, .. }));
        assert!(matches!(kind(b"ab", 3).kind(), ErrorKind::SourceSize { found: 2, .. }));
        assert!(matches!(kind(b"abc", 2).kind(), ErrorKind::SourceSize { .. }));
        let mut changed = Checked::file(&b"abd"[..], "x".into(), Sha256::of(b"abc"), 3);
        let error = Error::io("x", changed.read_to_end(&mut Vec::new()).unwrap_err());
        assert!(matches!(error.kind(), ErrorKind::SourceChanged { .. }));
        assert!(changed.read(&mut [0; 1]).is_err());
        let mut empty = Checked::image(&b"x"[..], "x".into(), Sha256::of(b""), 0);
        assert!(empty.read(&mut [0; 4]).is_err());
    }
}
