//! What an older installer kept as its history, for the log's first records (R-AUD-12).

use std::path::Path;

use bundle_format::timestamp::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::caller::Caller;
use super::record::{Outcome, Record};
use crate::error::{ErrorKind, Result};

/// A line of the former history.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) record: Record,
    pub(super) caller: Caller,
}

/// The lines of the state database's `history`, oldest first; none without the database.
pub(super) fn former(database: &Path) -> Result<Vec<Former>> {
    let what = |source| ErrorKind::Sqlite { what: "read the former history", source };
    if !database.exists() {
        return Ok(Vec::new());
    }
    let flags = OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE;
    let db = Connection::open_with_flags(database, flags).map_err(what)?;
    let there = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'history'";
    if db.query_row(there, [], |row| row.get::<_, i64>(0)).map_err(what)? == 0 {
        return Ok(Vec::new());
    }
    let query = "SELECT at, act, product, release, result, detail, actor FROM history ORDER BY id";
    let mut statement = db.prepare(query).map_err(what)?;
    let mut rows = statement.query([]).map_err(what)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(what)? {
        let text = |column: usize| row.get::<_, String>(column).map_err(what);
        let record = Record::new(&Timestamp::parse(&text(0)?)?, &text(1)?, Outcome::of(&text(4)?))
            .of(&text(2)?, &text(3)?)
            .detail(&text(5)?);
        let caller = Caller { actor: text(6)?, origin: "imported".into(), host: String::new() };
        found.push(Former { record, caller });
    }
    Ok(found)
}
