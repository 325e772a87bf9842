//! rpm's database in the form of rpm 4.16 and later: an SQLite file whose table `Packages` holds one
//! header for each package (format: rpm.org, "RPM V4 Package format", header structure). The older
//! forms, Berkeley DB and ndb, are not read and are named as such.
//!
//! SQLite parses the database as a file of somebody else: a copy, its schema not trusted, only a plain
//! table asked, of columns that are stored and not computed (`zeroblob` is a function that SQLite calls
//! harmless). Values of some size that the schema gives once for every row, or pages that several rows
//! share, would still be more than the file: one header at a time is looked at, its length and the sum of
//! all are bounded.

use bundle_format::limits;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
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
            let (mut packages, mut strange) = (Vec::new(), None);
            let read = headers(bytes, tree.files.get(&format!("{path}-wal")), &mut |header| match package(header) {
                Some(package) if package.name == PUBKEY => {}
                Some(package) => packages.push(package),
                None => strange = Some(format!("/{path}: a header that is not rpm's")),
            });
            match read {
                Ok(()) => found.packages.extend(packages),
                Err(why) => found.unread.push(format!("/{path}: {why}")),
            }
            found.unread.extend(strange);
        } else if path.ends_with("/Packages") || path.ends_with("/Packages.db") {
            found.unread.push(format!("/{path}: an rpm database in the form before rpm 4.16"));
        }
    }
}

fn said(error: &rusqlite::Error) -> String {
    format!("not readable as an rpm database: {error}")
}

/// Hands over each header of a database, with its write-ahead log where the image has one: rpm leaves
/// packages there that it installed last.
fn headers(database: &[u8], log: Option<&Vec<u8>>, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("rpmdb.sqlite");
    std::fs::write(&path, database).map_err(|e| e.to_string())?;
    if let Some(log) = log {
        std::fs::write(folder.path().join("rpmdb.sqlite-wal"), log).map_err(|e| e.to_string())?;
    }
    // A copy of our own: SQLite must be able to write beside it to read a log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(|e| said(&e))?;
    open_for_reading(&connection).map_err(|e| said(&e))?;
    if !has_plain_table(&connection).map_err(|e| said(&e))? {
        return Err("it has no plain table Packages".into());
    }
    let stored = length(database).saturating_add(log.map_or(0, |log| length(log)));
    each_header(&connection, stored, each)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn open_for_reading(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::try_from(limits::RPM_HEADER_BYTES).unwrap_or(i32::MAX))?;
    connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;")
}

/// Whether what is asked is a table, and no column of it is computed: a view, a virtual table or a
/// generated column could compute for ever, or more than there is memory.
fn has_plain_table(connection: &Connection) -> rusqlite::Result<bool> {
    let count = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let tables =
        "SELECT count(*) FROM sqlite_schema WHERE name = 'Packages' AND type = 'table' AND sql NOT LIKE '%VIRTUAL%'";
    let computed = "SELECT count(*) FROM pragma_table_xinfo('Packages') WHERE hidden <> 0";
    Ok(count(tables)? == 1 && count(computed)? == 0)
}

/// Hands over each header; all of them have at most the bytes that are stored.
fn each_header(connection: &Connection, stored: u64, each: &mut dyn FnMut(&[u8])) -> Result<(), String> {
    // Without an order: sorting would hold all.
    let mut query = connection.prepare("SELECT blob FROM Packages").map_err(|e| said(&e))?;
    let mut rows = query.query([]).map_err(|e| said(&e))?;
    let (mut count, mut sum) = (0, 0u64);
    while let Some(row) = rows.next().map_err(|e| said(&e))? {
        let ValueRef::Blob(header) = row.get_ref(0).map_err(|e| said(&e))? else {
            return Err("not readable as an rpm database: a package that is no header".into());
        };
        count += 1;
        sum = sum.saturating_add(length(header));
        if count > limits::SBOM_PACKAGES {
            return Err(format!("it holds more than {} packages", limits::SBOM_PACKAGES));
        }
        if sum > stored {
            return Err("its packages have more bytes than the database".into());
        }
        each(header);
    }
    Ok(())
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

    /// How many headers a database of these statements has.
    fn read_headers(statements: &str) -> Result<usize, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        Connection::open(&path).unwrap().execute_batch(statements).unwrap();
        let mut count = 0;
        headers(&std::fs::read(&path).unwrap(), None, &mut |_| count += 1).map(|()| count)
    }

    const TABLE: &str = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB);";

    /// Rows 1 to this with a value each.
    fn rows(count: usize, value: &str) -> String {
        format!(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {count}) INSERT INTO Packages SELECT x, {value} FROM n;"
        )
    }

    #[test]
    fn what_computes_is_not_asked() {
        let endless = "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS hnum, x AS blob FROM n";
        let column = |kind: &str| {
            format!(
                "CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, more INT, blob BLOB AS (zeroblob(3000)) {kind}); INSERT INTO Packages(hnum) VALUES (1)"
            )
        };
        let beside = "CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, blob BLOB, more BLOB AS (zeroblob(3000))); INSERT INTO Packages(hnum, blob) VALUES (1, x'00')";
        for hostile in [endless, &column(""), &column("STORED"), &column("VIRTUAL"), beside] {
            assert_eq!(read_headers(hostile).unwrap_err(), "it has no plain table Packages", "{hostile}");
        }
        let broken = headers(b"no database", None, &mut |_| panic!("a header")).unwrap_err();
        assert!(broken.contains("not readable as an rpm database"), "{broken}");
        let text = format!("{TABLE} {}", rows(1, "'text'"));
        assert!(read_headers(&text).unwrap_err().contains("a package that is no header"));
    }

    #[test]
    fn headers_have_no_more_bytes_than_the_database() {
        // A value that the schema holds once, and every row has.
        let given = |count| {
            let shared = format!("ALTER TABLE Packages ADD COLUMN blob BLOB DEFAULT x'{}'", "00".repeat(4096));
            format!("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, more INT); {}; {shared}", rows(count, "x"))
        };
        assert_eq!(read_headers(&given(2)), Ok(2));
        assert_eq!(read_headers(&given(200)).unwrap_err(), "its packages have more bytes than the database");
        let most = limits::RPM_HEADER_BYTES;
        for (size, fits) in [(most - 1000, true), (most + 1, false)] {
            let read = read_headers(&format!("{TABLE} {}", rows(1, &format!("zeroblob({size})"))));
            assert_eq!(read.is_ok(), fits, "{read:?}");
            assert!(fits || read.unwrap_err().contains("too big"));
        }
    }

    #[test]
    fn more_packages_than_the_limit() {
        let of = |count| read_headers(&format!("{TABLE} {}", rows(count, "x'00'")));
        assert_eq!(of(limits::SBOM_PACKAGES), Ok(limits::SBOM_PACKAGES));
        assert_eq!(of(limits::SBOM_PACKAGES + 1).unwrap_err(), "it holds more than 200000 packages");
    }
}
