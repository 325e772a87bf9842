//! rpm's database in the form of rpm 4.16 and later: an SQLite file whose table `Packages` holds one
//! header for each package (format: rpm.org, "RPM V4 Package format", header structure). The older
//! forms, Berkeley DB and ndb, are not read and are named as such.
//!
//! SQLite parses the database as a file of somebody else: a copy, its schema not trusted, only a
//! plain table asked.

use bundle_format::limits;
use rusqlite::{Connection, OpenFlags};

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
        if path.ends_with("/rpmdb.sqlite") {
            match headers(bytes, tree.files.get(&format!("{path}-wal"))) {
                Ok(headers) => {
                    for header in headers {
                        match package(&header) {
                            Some(package) if package.name == PUBKEY => {}
                            Some(package) => found.packages.push(package),
                            None => found.unread.push(format!("/{path}: a header that is not rpm's")),
                        }
                    }
                }
                Err(why) => found.unread.push(format!("/{path}: {why}")),
            }
        } else if path.ends_with("/Packages") || path.ends_with("/Packages.db") {
            found.unread.push(format!("/{path}: an rpm database in the form before rpm 4.16"));
        }
    }
}

/// The headers of a database, with its write-ahead log where the image has one: rpm leaves packages
/// there that it installed last.
fn headers(database: &[u8], log: Option<&Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    let said = |e: rusqlite::Error| format!("not readable as an rpm database: {e}");
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("rpmdb.sqlite");
    std::fs::write(&path, database).map_err(|e| e.to_string())?;
    if let Some(log) = log {
        std::fs::write(folder.path().join("rpmdb.sqlite-wal"), log).map_err(|e| e.to_string())?;
    }
    // A copy of our own: SQLite must be able to write beside it to read a log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(&path, flags).map_err(said)?;
    database.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;").map_err(said)?;
    // A view or a virtual table of this name could compute for ever.
    let kind =
        "SELECT count(*) FROM sqlite_schema WHERE name = 'Packages' AND type = 'table' AND sql NOT LIKE '%VIRTUAL%'";
    if database.query_row(kind, [], |row| row.get::<_, i64>(0)).map_err(said)? != 1 {
        return Err("it has no plain table Packages".into());
    }
    let mut query = database.prepare("SELECT blob FROM Packages ORDER BY hnum LIMIT ?1").map_err(said)?;
    let most = limits::SBOM_PACKAGES;
    let rows =
        query.query_map([i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1)], |row| row.get::<_, Vec<u8>>(0));
    let headers: Vec<Vec<u8>> = rows.map_err(said)?.collect::<Result<_, _>>().map_err(said)?;
    if headers.len() > most {
        return Err(format!("it holds more than {most} packages"));
    }
    Ok(headers)
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

    #[test]
    fn a_view_under_the_tables_name_is_not_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let endless = "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS hnum, x AS blob FROM n";
        Connection::open(&path).unwrap().execute_batch(endless).unwrap();
        assert_eq!(headers(&std::fs::read(&path).unwrap(), None).unwrap_err(), "it has no plain table Packages");
        assert!(headers(b"no database", None).unwrap_err().contains("not readable as an rpm database"));
    }
    #[test]
    fn more_packages_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let database = Connection::open(&path).unwrap();
        let fill = format!(
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB); WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {}) INSERT INTO Packages SELECT x, x'00' FROM n",
            limits::SBOM_PACKAGES
        );
        database.execute_batch(&fill).unwrap();
        let read = || headers(&std::fs::read(&path).unwrap(), None);
        assert_eq!(read().unwrap().len(), limits::SBOM_PACKAGES);
        database.execute_batch("INSERT INTO Packages VALUES (0, x'00')").unwrap();
        assert_eq!(read().unwrap_err(), "it holds more than 200000 packages");
    }
}
