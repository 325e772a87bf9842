//! rpm's databases: one header for each package (format: rpm.org, "RPM V4 Package format", header
//! structure), in SQLite since rpm 4.16, in Berkeley DB before. The form of SUSE, ndb, is not read and is
//! named as such.
//!
//! A database is a file of somebody else, and what it says of lengths need not be true of what it holds:
//! values may be computed, shared or refer to each other. So one header at a time is looked at, and the
//! length of each, their number and the sum of all are bounded before any of it is read ([`Headers`]).

mod berkeley;
mod sqlite;

use bundle_format::limits;

use crate::sbom::layers::Tree;
use crate::sbom::{Inventory, Kind, Package};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENCE: u32 = 1014;
const ARCH: u32 = 1022;
const INT32: u32 = 4;
const STRING: u32 = 6;
/// A public key that rpm keeps among its packages.
const PUBKEY: &str = "gpg-pubkey";

/// Reads every rpm database of the tree.
pub(super) fn read(tree: &Tree, found: &mut Inventory) {
    for (path, bytes) in &tree.files {
        let log = tree.files.get(&format!("{path}-wal"));
        let (mut packages, mut strange) = (Vec::new(), None);
        let mut each = |header: &[u8]| match package(header) {
            Some(package) if package.name == PUBKEY => {}
            Some(package) => packages.push(package),
            None => strange = Some(format!("/{path}: a header that is not rpm's")),
        };
        let stored = length(bytes).saturating_add(log.map_or(0, |log| length(log)));
        let mut headers = Headers { each: &mut each, stored, count: 0, sum: 0 };
        let read = if path.ends_with("/rpmdb.sqlite") {
            sqlite::read(bytes, log, &mut headers)
        } else if path.ends_with("/Packages") {
            berkeley::read(bytes, &mut headers)
        } else if path.ends_with("/Packages.db") {
            Err("an rpm database in the form of SUSE (ndb)".into())
        } else {
            continue;
        };
        match read {
            Ok(()) => found.packages.extend(packages),
            Err(why) => found.unread.push(format!("/{path}: {why}")),
        }
        found.unread.extend(strange);
    }
}

/// What looks at the headers of one database, and how many it may have.
struct Headers<'a> {
    each: &'a mut dyn FnMut(&[u8]),
    /// Bytes of the database and its log.
    stored: u64,
    count: usize,
    sum: u64,
}

impl Headers<'_> {
    /// Counts a header of so many bytes, before they are brought together.
    fn admit(&mut self, bytes: u64) -> Result<(), String> {
        if bytes > limits::RPM_HEADER_BYTES {
            return Err(format!("a package of it has more than {} bytes", limits::RPM_HEADER_BYTES));
        }
        self.count += 1;
        if self.count > limits::SBOM_PACKAGES {
            return Err(format!("it holds more than {} packages", limits::SBOM_PACKAGES));
        }
        self.sum = self.sum.saturating_add(bytes);
        if self.sum > self.stored {
            return Err("its packages have more bytes than the database".into());
        }
        Ok(())
    }

    /// Looks at a header that is there as it is.
    fn take(&mut self, header: &[u8]) -> Result<(), String> {
        self.admit(length(header))?;
        (self.each)(header);
        Ok(())
    }
}

fn unreadable(why: impl std::fmt::Display) -> String {
    format!("not readable as an rpm database: {why}")
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Number of index entries, bytes of data, the entries (tag, type, offset, count), the data; all
/// numbers big-endian.
fn package(header: &[u8]) -> Option<Package> {
    let word = |at: usize| header.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes);
    let entries = usize::try_from(word(0)?).ok()?;
    let data = header.get(entries.checked_mul(16)?.checked_add(8)?..)?;
    let mut text = std::collections::BTreeMap::new();
    let mut epoch = None;
    for index in 0..entries {
        let at = 8 + index * 16;
        let (tag, kind, offset) = (word(at)?, word(at + 4)?, usize::try_from(word(at + 8)?).ok()?);
        let wanted = [NAME, VERSION, RELEASE, EPOCH, LICENCE, ARCH].contains(&tag);
        if !wanted {
            continue;
        }
        let value = data.get(offset..)?;
        if kind == STRING {
            let end = value.iter().position(|byte| *byte == 0)?;
            text.insert(tag, String::from_utf8_lossy(value.get(..end)?).into_owned());
        } else if tag == EPOCH && kind == INT32 {
            epoch = Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?));
        }
    }
    let epoch = epoch.map_or_else(String::new, |epoch| format!("{epoch}:"));
    Some(Package {
        kind: Kind::Rpm,
        name: text.remove(&NAME)?,
        version: format!("{epoch}{}-{}", text.get(&VERSION)?, text.get(&RELEASE)?),
        arch: text.remove(&ARCH),
        licence: text.remove(&LICENCE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(texts: &[(u32, &str)]) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, text) in texts {
            for number in [*tag, STRING, u32::try_from(data.len()).unwrap(), 1] {
                index.extend(number.to_be_bytes());
            }
            data.extend(text.bytes().chain([0]));
        }
        let count = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        [&count(texts.len())[..], &count(data.len()), &index, &data].concat()
    }

    #[test]
    fn headers_whole_and_cut() {
        let whole =
            header(&[(NAME, "TEST-bash"), (VERSION, "5.2"), (RELEASE, "1.fc40"), (ARCH, "x86_64"), (1004, "summary")]);
        let read = package(&whole).unwrap();
        assert_eq!((read.name.as_str(), read.version.as_str()), ("TEST-bash", "5.2-1.fc40"));
        // Cut before the last text that is asked for, nothing is made of it; garbage does not panic.
        for cut in 0..whole.len() - "summary\0".len() {
            assert_eq!(package(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(package(&[0xff; 64]), None);
    }
}
