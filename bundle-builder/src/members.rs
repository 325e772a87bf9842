//! The members of a tar, one after the other.
//!
//! What may hurt it: a member's name, its extended header and its list of sparse pieces are read into
//! memory whole, as long as the archive says they are, before the member itself is given out; zeros cost
//! nothing to whoever wrote it. Who defends: whatever stands between the data of two members is read
//! through a gate that shuts at a limit (R-LIM-77).

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use bundle_format::limits;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of the headers themselves and what fills their blocks: of a long name, a long link, an extended
/// header and the member, and behind the data of the member before.
const HEADERS: u64 = 10 * 512;

/// How far may be read.
#[derive(Debug, Default)]
struct Gate {
    read: Cell<u64>,
    until: Cell<u64>,
}

impl Gate {
    /// Opens it for so many bytes of data and what describes the member behind them.
    fn open_for(&self, data: u64) {
        let more = data.saturating_add(limits::TAR_HEAD_BYTES + HEADERS);
        self.until.set(self.read.get().saturating_add(more));
    }

    fn is_shut(&self) -> bool {
        self.read.get() >= self.until.get()
    }
}

/// Reads as far as its gate lets it.
pub(crate) struct Gated<R> {
    inner: R,
    gate: Rc<Gate>,
}

impl<R: Read> Read for Gated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.gate.is_shut() && !buffer.is_empty() {
            return Err(io::Error::other("a member is described by more than the limit"));
        }
        let room = usize::try_from(self.gate.until.get() - self.gate.read.get()).unwrap_or(usize::MAX);
        let most = room.min(buffer.len());
        let count = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.gate.read.set(self.gate.read.get().saturating_add(u64::try_from(count).unwrap_or(u64::MAX)));
        Ok(count)
    }
}

/// Hands over each member of `tar`, of which there are at most `most`.
pub(crate) fn each_member<R: Read>(
    what: &str,
    tar: R,
    most: u64,
    each: &mut dyn FnMut(&mut tar::Entry<'_, Gated<R>>) -> Result<()>,
) -> Result<()> {
    let io = |error| Error::io(what, error);
    let gate = Rc::new(Gate::default());
    let mut archive = tar::Archive::new(Gated { inner: tar, gate: Rc::clone(&gate) });
    gate.open_for(0);
    let mut members = 0u64;
    for entry in archive.entries().map_err(io)? {
        let mut entry = match entry {
            Err(_) if gate.is_shut() => {
                let limit = limits::TAR_HEAD_BYTES;
                return Err(too_large(format!("{what}: what describes one entry"), limit, limit.saturating_add(1)));
            }
            entry => entry.map_err(io)?,
        };
        members += 1;
        if members > most {
            return Err(too_large(format!("{what}: entries"), most, members));
        }
        // Of a sparse member the size is that of the file, not of what is stored.
        let sparse = entry.header().entry_type().is_gnu_sparse();
        gate.open_for(if sparse { entry.header().entry_size().map_err(io)? } else { entry.size() });
        each(&mut entry)?;
    }
    Ok(())
}

pub(crate) fn too_large(what: String, limit: u64, found: u64) -> Error {
    ErrorKind::Format(bundle_format::ErrorKind::TooLarge { what, limit, found }.into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member with extended headers of so many bytes, and one behind it.
    fn described(kinds: &[(tar::EntryType, u64)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |kind: tar::EntryType, name: &str, size: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_path(name).unwrap();
            header.set_size(size);
            header.set_cksum();
            tar.append(&header, io::repeat(b'a').take(size)).unwrap();
        };
        for (kind, size) in kinds {
            add(*kind, "described", *size);
        }
        add(tar::EntryType::Regular, "data", 3 << 20);
        add(tar::EntryType::Regular, "last", 5);
        tar.into_inner().unwrap()
    }

    fn sizes(tar: &[u8], most: u64) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        each_member("TEST tar", tar, most, &mut |entry| {
            found.push(entry.size());
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn what_describes_a_member_is_bounded() {
        use tar::EntryType::{GNULongLink, GNULongName, XHeader};
        let limit = limits::TAR_HEAD_BYTES;
        let third = limit / 3;
        let refused = |result: Result<Vec<u64>>| {
            let error = result.unwrap_err();
            let ErrorKind::Format(inner) = error.kind() else { panic!("{error}") };
            assert!(matches!(inner.kind(), bundle_format::ErrorKind::TooLarge { .. }), "{error}");
        };
        for kind in [GNULongName, GNULongLink, XHeader] {
            assert_eq!(sizes(&described(&[(kind, limit)]), 9).unwrap(), [3 << 20, 5]);
            refused(sizes(&described(&[(kind, limit + HEADERS)]), 9));
        }
        let all = [(GNULongName, third), (GNULongLink, third), (XHeader, third)];
        assert_eq!(sizes(&described(&all), 9).unwrap(), [3 << 20, 5]);
        refused(sizes(&described(&all.map(|(kind, size)| (kind, size * 2))), 9));
        assert_eq!(sizes(&described(&[]), 2).unwrap().len(), 2);
        refused(sizes(&described(&[]), 1));
        // What is cut is no archive, however little it is.
        for cut in [100, 512 + 1000, 600_000] {
            let error = sizes(&described(&[(XHeader, third)])[..cut], 9).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{cut}: {error}");
        }
    }
}
