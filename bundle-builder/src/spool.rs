//! Bytes on disk while a build needs them: files without a name, gone with the program.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Bytes that [`Spool::copy`] takes at once.
const COPIED: u64 = 1 << 20;

/// A file without a name that is written once and read at any place.
#[derive(Debug)]
pub struct Spool {
    file: File,
    len: u64,
}

impl Spool {
    /// A new one in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
        Ok(Self { file, len: 0 })
    }

    /// Bytes in it.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads it from its beginning, beside others that do.
    pub const fn reader(&self) -> Reader<'_> {
        Reader { spool: self, at: 0 }
    }

    /// The bytes `from` to `from + len`.
    pub fn bytes(&self, from: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, from).map_err(|e| Error::io("spooled bytes", e))?;
        Ok(bytes)
    }

    /// Copies the bytes `from` to `from + len` to the offset `to` of `file`.
    pub fn copy(&self, from: u64, len: u64, file: &File, to: u64) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(len.min(COPIED)).unwrap_or(0)];
        let mut done = 0;
        while done < len {
            let count = usize::try_from((len - done).min(COPIED)).unwrap_or(0);
            let part = buffer.get_mut(..count).unwrap_or_default();
            self.file.read_exact_at(part, from + done)?;
            file.write_all_at(part, to + done)?;
            done += u64::try_from(count).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.len = self.len.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// See [`Spool::reader`].
#[derive(Debug)]
pub struct Reader<'a> {
    spool: &'a Spool,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.spool.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}
