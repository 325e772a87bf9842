//! Databases that can only be looked at: on a disk that is full, or mounted read-only after an error, SQLite
//! cannot make the files that it keeps beside one.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

/// Whether nothing waits in the write-ahead log, so that the database file alone says everything.
pub(crate) fn is(file: &Path) -> bool {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    std::fs::metadata(PathBuf::from(name)).map_or(true, |meta| meta.len() == 0)
}

/// Opens it as it lies, without a file beside it.
pub(crate) fn open(file: &Path) -> rusqlite::Result<Connection> {
    let name = file.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?;
    db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    Ok(db)
}
