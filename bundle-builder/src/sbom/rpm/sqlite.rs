//! The form of rpm 4.16 and later: an SQLite file whose table `Packages` holds the headers.
//!
//! SQLite parses the database as a file of somebody else: a copy, its schema not trusted, only a plain
//! table asked, of columns that are stored and not computed (`zeroblob` is a function that SQLite calls
//! harmless). Values of some size that the schema gives once for every row, or pages that several rows
//! share, would still be more than the file: [`Headers`] counts them.

use bundle_format::limits;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{Headers, unreadable};

/// Hands over each header of a database, with its write-ahead log where the image has one: rpm leaves
/// packages there that it installed last.
pub(super) fn read(database: &[u8], log: Option<&Vec<u8>>, headers: &mut Headers<'_>) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("rpmdb.sqlite");
    std::fs::write(&path, database).map_err(|e| e.to_string())?;
    if let Some(log) = log {
        std::fs::write(folder.path().join("rpmdb.sqlite-wal"), log).map_err(|e| e.to_string())?;
    }
    // A copy of our own: SQLite must be able to write beside it to read a log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(unreadable)?;
    open_for_reading(&connection).map_err(unreadable)?;
    if !has_plain_table(&connection).map_err(unreadable)? {
        return Err("it has no plain table Packages".into());
    }
    each_header(&connection, headers)
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

fn each_header(connection: &Connection, headers: &mut Headers<'_>) -> Result<(), String> {
    // Without an order: sorting would hold all.
    let mut query = connection.prepare("SELECT blob FROM Packages").map_err(unreadable)?;
    let mut rows = query.query([]).map_err(unreadable)?;
    while let Some(row) = rows.next().map_err(unreadable)? {
        let ValueRef::Blob(header) = row.get_ref(0).map_err(unreadable)? else {
            return Err(unreadable("a package that is no header"));
        };
        headers.take(header)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_bytes(database: &[u8]) -> Result<usize, String> {
        let mut count = 0;
        let stored = u64::try_from(database.len()).unwrap();
        read(database, None, &mut Headers { each: &mut |_| count += 1, stored, count: 0, sum: 0 })?;
        Ok(count)
    }

    /// How many headers a database of these statements has.
    fn read_headers(statements: &str) -> Result<usize, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        Connection::open(&path).unwrap().execute_batch(statements).unwrap();
        read_bytes(&std::fs::read(&path).unwrap())
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
        let broken = read_bytes(b"no database").unwrap_err();
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
