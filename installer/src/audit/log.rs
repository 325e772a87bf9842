//! The log's database: rows that are only ever added, and the signed head of the last one.
//!
//! What may hurt it: a full or missing file system, a power cut, and whoever holds root. Who
//! defends: `synchronous=FULL` and one transaction for a record and its head, so that neither is
//! ever there without the other; triggers against slips; hashes and signatures against intent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle_format::digest::Sha384;
use bundle_format::timestamp::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row as SqlRow, Transaction, params};

use super::fault::Fault;
use super::head::Head;
use super::key::AppliancePublic;
use super::record::{FORMAT, Outcome, Row, zero};
use crate::error::{Error, Result};
use crate::settled;

/// Version of the schema, kept in `user_version`.
const VERSION: i64 = 1;
const SCHEMA: &str = "
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, origin TEXT NOT NULL, host TEXT NOT NULL,
    act TEXT NOT NULL, product TEXT NOT NULL, release TEXT NOT NULL, subject TEXT NOT NULL,
    result TEXT NOT NULL CHECK (result IN ('begun', 'ok', 'failed', 'refused')), closes INTEGER NOT NULL,
    detail TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
CREATE INDEX records_by_act ON records (act, result, seq);
CREATE INDEX records_closing ON records (closes) WHERE closes > 0;
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), envelope BLOB NOT NULL) STRICT;
CREATE TRIGGER records_stay BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'records are not changed'); END;
CREATE TRIGGER records_are_kept BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'records are not removed'); END;
CREATE TRIGGER records_follow BEFORE INSERT ON records
    WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM records)
    BEGIN SELECT RAISE(ABORT, 'records follow each other'); END;
";
const COLUMNS: &str =
    "seq, at, actor, origin, host, act, product, release, subject, result, closes, detail, prev, hash";

/// A row as stored, with the hash beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The row.
    pub row: Row,
    /// The hash that was stored with it.
    pub hash: Sha384,
}

/// The open database.
#[derive(Debug)]
pub struct Log {
    pub(super) db: Connection,
}

/// A failure while writing: the act must not begin.
pub(super) fn unwritable(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => damaged(error),
        _ => Fault::Unwritable { why: error.to_string() }.into(),
    }
}

/// A failure while reading.
fn damaged(error: &rusqlite::Error) -> Error {
    Fault::Damaged { why: error.to_string() }.into()
}

impl Log {
    /// The database file in the log's folder.
    pub fn file(folder: &Path) -> PathBuf {
        folder.join("audit.db")
    }

    /// Makes the database, empty. `fill` adds the first records; without its success nothing is left.
    pub(super) fn create(folder: &Path, fill: impl FnOnce(&Transaction<'_>) -> Result<()>) -> Result<Self> {
        crate::atomic::make_folder(folder).map_err(|e| Fault::Unwritable { why: e.to_string() })?;
        let mut log = Self::connect(&Self::file(folder), OpenFlags::default()).map_err(|e| unwritable(&e))?;
        let transaction = log.db.transaction().map_err(|e| unwritable(&e))?;
        transaction.execute_batch(SCHEMA).map_err(|e| unwritable(&e))?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(|e| unwritable(&e))?;
        fill(&transaction)?;
        transaction.commit().map_err(|e| unwritable(&e))?;
        crate::atomic::sync_folder(folder)?;
        Ok(log)
    }

    /// Opens the database to write; `None` if there is none.
    pub(super) fn open(folder: &Path) -> Result<Option<Self>> {
        let file = Self::file(folder);
        if !file.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE;
        let log = Self::connect(&file, flags).map_err(|e| unwritable(&e))?;
        Ok(log.begun()?.then_some(log))
    }

    /// Opens the database to read; `None` if there is none. It can be read on a full disk too.
    pub fn look(folder: &Path) -> Result<Option<Self>> {
        let file = Self::file(folder);
        if !file.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE;
        let log = match Self::connect(&file, flags) {
            Ok(log) => log,
            // Without room for SQLite's own files beside it, a log that nothing is pending for is read as it lies.
            Err(error) if settled::is(&file) => Self { db: settled::open(&file).map_err(|_| damaged(&error))? },
            Err(error) => return Err(damaged(&error)),
        };
        Ok(log.begun()?.then_some(log))
    }

    /// While it lives, the log is read as it was when it was taken.
    pub(super) fn snapshot(&self) -> Result<Transaction<'_>> {
        self.db.unchecked_transaction().map_err(|e| damaged(&e))
    }

    fn connect(file: &Path, flags: OpenFlags) -> rusqlite::Result<Self> {
        let db = Connection::open_with_flags(file, flags)?;
        db.busy_timeout(Duration::from_secs(10))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        // The first read makes the files that SQLite keeps beside the database.
        db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        Ok(Self { db })
    }

    /// Whether it has its schema. A file without one is what a cut-off `create` leaves: no log yet.
    fn begun(&self) -> Result<bool> {
        let read = |row: &SqlRow<'_>| row.get::<_, i64>(0);
        let found = self.db.pragma_query_value(None, "user_version", read).map_err(|e| damaged(&e))?;
        if found > VERSION {
            return Err(crate::ErrorKind::StateVersion { expected: VERSION, found }.into());
        }
        Ok(found > 0)
    }

    /// The rows behind number `after`, oldest first, handed to `take` one by one. From 0 on that is
    /// every row there is, also one with a number that no record can have.
    pub fn each(&self, after: u64, take: &mut dyn FnMut(Stored) -> Result<()>) -> Result<()> {
        let query = format!("SELECT {COLUMNS} FROM records WHERE seq > ?1 ORDER BY seq");
        let mut statement = self.db.prepare(&query).map_err(|e| damaged(&e))?;
        let after = if after == 0 { i64::MIN } else { signed(after) };
        let mut rows = statement.query([after]).map_err(|e| damaged(&e))?;
        while let Some(row) = rows.next().map_err(|e| damaged(&e))? {
            take(stored(row)?)?;
        }
        Ok(())
    }

    /// The newest rows, oldest first.
    pub fn newest(&self, limit: u32) -> Result<Vec<Stored>> {
        let query = format!("SELECT {COLUMNS} FROM records ORDER BY seq DESC LIMIT ?1");
        let mut statement = self.db.prepare(&query).map_err(|e| damaged(&e))?;
        let mut rows = statement.query([limit]).map_err(|e| damaged(&e))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(|e| damaged(&e))? {
            found.push(stored(row)?);
        }
        found.reverse();
        Ok(found)
    }

    /// Detail of the newest record of an act that ended well.
    pub fn newest_ok(&self, act: &str, product: Option<&str>) -> Result<Option<String>> {
        let query = "SELECT detail FROM records WHERE act = ?1 AND result = 'ok' AND (?2 IS NULL OR product = ?2)
                     ORDER BY seq DESC LIMIT 1";
        let found = self.db.query_row(query, params![act, product], |row| row.get(0));
        found.optional().map_err(|e| damaged(&e))
    }

    /// The newest end of an act, well or not.
    pub fn newest_end(&self, act: &str) -> Result<Option<Row>> {
        let query = format!(
            "SELECT {COLUMNS} FROM records WHERE act = ?1 AND result IN ('ok', 'failed') ORDER BY seq DESC LIMIT 1"
        );
        let mut statement = self.db.prepare(&query).map_err(|e| damaged(&e))?;
        let mut rows = statement.query([act]).map_err(|e| damaged(&e))?;
        rows.next().map_err(|e| damaged(&e))?.map(|row| stored(row).map(|stored| stored.row)).transpose()
    }

    /// The newest time on record.
    pub fn newest_time(&self) -> Result<Option<Timestamp>> {
        let text: Option<String> =
            self.db.query_row("SELECT max(at) FROM records", [], |row| row.get(0)).map_err(|e| damaged(&e))?;
        Ok(text.map(|text| Timestamp::parse(&text)).transpose()?)
    }

    /// Numbers of the records whose act began and has no end on record.
    pub fn unended(&self) -> Result<Vec<u64>> {
        let query = "SELECT seq FROM records b WHERE result = 'begun'
                     AND NOT EXISTS (SELECT 1 FROM records e WHERE e.closes = b.seq) ORDER BY seq";
        let mut statement = self.db.prepare(query).map_err(|e| damaged(&e))?;
        let rows = statement.query_map([], |row| row.get::<_, i64>(0)).map_err(|e| damaged(&e))?;
        let found: Vec<i64> = rows.collect::<rusqlite::Result<_>>().map_err(|e| damaged(&e))?;
        Ok(found.into_iter().map(i64::unsigned_abs).collect())
    }

    /// The signed head as stored.
    pub fn envelope(&self) -> Result<Option<Vec<u8>>> {
        let found = self.db.query_row("SELECT envelope FROM head WHERE id = 1", [], |row| row.get(0)).optional();
        found.map_err(|e| damaged(&e))
    }

    /// The head, verified with this machine's key. That it is where the records end is checked too.
    pub fn head(&self, key: &AppliancePublic) -> Result<Head> {
        let no_head = || Fault::Forged {
            key: key.fingerprint().map(|fingerprint| fingerprint.to_string()).unwrap_or_default(),
            why: "there is no signed head".into(),
        };
        let head = Head::verify(&self.envelope()?.ok_or_else(no_head)?, key)?;
        let last = last(&self.db)?;
        if (head.seq, head.hash) != last {
            let shown = |(seq, hash): (u64, Sha384)| format!("{seq} with hash {hash}");
            return Err(Fault::Head { signed: shown((head.seq, head.hash)), found: shown(last) }.into());
        }
        Ok(head)
    }

    /// The row of a number.
    pub(crate) fn row(&self, seq: u64) -> Result<Option<Stored>> {
        let query = format!("SELECT {COLUMNS} FROM records WHERE seq = ?1");
        let mut statement = self.db.prepare(&query).map_err(|e| damaged(&e))?;
        let mut rows = statement.query([signed(seq)]).map_err(|e| damaged(&e))?;
        rows.next().map_err(|e| damaged(&e))?.map(stored).transpose()
    }
}

/// Number and hash of the last record; 0 and zeros without one.
pub(super) fn last(db: &Connection) -> Result<(u64, Sha384)> {
    let read = |row: &SqlRow<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let found = db.query_row("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1", [], read).optional();
    match found.map_err(|e| damaged(&e))? {
        Some((seq, hash)) => Ok((seq.unsigned_abs(), Sha384::parse(&hash).map_err(|e| unreadable(&e))?)),
        None => Ok((0, zero())),
    }
}

/// The newest record that began this act on this product and has no end yet; 0 without one.
pub(super) fn begun(db: &Connection, act: &str, product: &str) -> Result<u64> {
    let query = "SELECT coalesce(max(seq), 0) FROM records b WHERE act = ?1 AND result = 'begun' AND product = ?2
                 AND NOT EXISTS (SELECT 1 FROM records e WHERE e.closes = b.seq)";
    let found = db.query_row(query, [act, product], |row| row.get::<_, i64>(0)).map_err(|e| damaged(&e))?;
    Ok(found.unsigned_abs())
}

/// Adds a row and the head that goes with it.
pub(super) fn insert(db: &Connection, row: &Row, hash: &Sha384) -> Result<()> {
    let insert =
        format!("INSERT INTO records ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)");
    let values = params![
        signed(row.seq),
        row.at.as_str(),
        row.actor,
        row.origin,
        row.host,
        row.act,
        row.product,
        row.release,
        row.subject,
        row.result.text(),
        signed(row.closes),
        row.detail,
        row.prev.to_string(),
        hash.to_string()
    ];
    db.execute(&insert, values).map(drop).map_err(|e| unwritable(&e))
}

/// Stores the signed head in place of the former one.
pub(super) fn set_head(db: &Connection, envelope: &[u8]) -> Result<()> {
    let upsert = "INSERT INTO head VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET envelope = excluded.envelope";
    db.execute(upsert, [envelope]).map(drop).map_err(|e| unwritable(&e))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unreadable(error: &bundle_format::Error) -> Error {
    Fault::Damaged { why: error.to_string() }.into()
}

fn stored(row: &SqlRow<'_>) -> Result<Stored> {
    let text = |column: usize| row.get::<_, String>(column).map_err(|e| damaged(&e));
    let number = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs).map_err(|e| damaged(&e));
    let digest = |column: usize| Sha384::parse(&text(column)?).map_err(|e| unreadable(&e));
    let read = Row {
        format: FORMAT.into(),
        seq: number(0)?,
        at: Timestamp::parse(&text(1)?).map_err(|e| unreadable(&e))?,
        actor: text(2)?,
        origin: text(3)?,
        host: text(4)?,
        act: text(5)?,
        product: text(6)?,
        release: text(7)?,
        subject: text(8)?,
        result: Outcome::of(&text(9)?),
        closes: number(10)?,
        detail: text(11)?,
        prev: digest(12)?,
    };
    Ok(Stored { row: read, hash: digest(13)? })
}
