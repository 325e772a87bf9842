//! The second copy of the record, for the day on which a page of it has rotted
//! (`docs/spec/lifecycle.md`, 10).
//!
//! What may hurt it: the same disk; a power cut while it is written; an older copy in its place, by which
//! floors would sink. Who defends: it is read whole, as SQLite reads it, before it gets its name; it is
//! replaced in one step; it names the last record of the audit log at its time, so that its age shows.

use std::path::Path;

use bundle_format::digest::Sha384;
use rusqlite::{Connection, MAIN_DB, OptionalExtension as _};

use super::{State, check_sound, sql};
use crate::atomic::{self, Access};
use crate::audit::log::Log;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;
use crate::progress::warn;

/// The setting in a copy that holds number and hash of the last record of the audit log.
const AS_OF: &str = "copy-as-of";

/// Where the audit log stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// Number of its last record; 0 for none.
    pub seq: u64,
    /// That record's hash.
    pub hash: Option<Sha384>,
}

impl AsOf {
    const NONE: Self = Self { seq: 0, hash: None };

    fn text(self) -> String {
        self.hash.map_or_else(|| "0".into(), |hash| format!("{}:{hash}", self.seq))
    }
}

/// A copy that reads whole.
#[derive(Debug)]
pub struct RecordCopy {
    bytes: Vec<u8>,
    db: Connection,
    as_of: AsOf,
}

impl State {
    /// Replaces the copy of the record by what is on record now. A record that does not read whole is an
    /// error, and the copy before stays.
    pub fn keep_copy(&mut self) -> Result<()> {
        let what = sql("copy the record");
        let bytes = self.db.serialize(MAIN_DB).map_err(&what)?.to_vec();
        let mut copy = in_memory(bytes)?;
        let as_of = self.as_of()?.text();
        let upsert = "INSERT INTO settings VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        copy.execute(upsert, [AS_OF, &as_of]).map_err(&what)?;
        let bytes = copy.serialize(MAIN_DB).map_err(&what)?.to_vec();
        atomic::write(&self.home.database_copy(), &bytes, Access::Private)
    }

    /// Where the audit log stands. While it is not there, because its own file system is not mounted yet, the
    /// answer is that of the copy before: an older one only refuses more.
    fn as_of(&self) -> Result<AsOf> {
        let Some(log) = Log::look(&self.home.audit())? else {
            let before = RecordCopy::read(&self.home.database_copy()).map(|copy| copy.as_of);
            return Ok(before.unwrap_or(AsOf::NONE));
        };
        let last = log.newest(1)?.pop();
        Ok(last.map_or(AsOf::NONE, |last| AsOf { seq: last.row.seq, hash: Some(last.hash) }))
    }

    /// The same where a failure must not end what is done: the copy before is then behind the audit log,
    /// which shows when it is to be used.
    pub fn keep_copy_or_warn(&mut self) {
        if let Err(error) = self.keep_copy() {
            warn(&format!("the copy of the record could not be renewed: {error}"));
        }
    }

    /// The same where a copy from before must not be used any more: without a new one there is none.
    pub fn keep_copy_or_none(&mut self) {
        if let Err(error) = self.keep_copy() {
            let removed = atomic::remove_file(&self.home.database_copy());
            let left = removed
                .err()
                .map_or_else(|| "it is removed".into(), |error| format!("it could not be removed: {error}"));
            warn(&format!("the copy of the record could not be renewed: {error}; {left}"));
        }
    }
}

impl RecordCopy {
    /// Reads the copy whole; an error if it is not there or not sound.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |why: String| Error::from(ErrorKind::NoRecordCopy { path: path.display().to_string(), why });
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let db = in_memory(bytes.clone()).map_err(|e| bad(e.to_string()))?;
        let query = "SELECT value FROM settings WHERE key = ?1";
        let text: Option<String> =
            db.query_row(query, [AS_OF], |row| row.get(0)).optional().map_err(|e| bad(e.to_string()))?;
        let as_of = text.as_deref().and_then(parse).ok_or_else(|| bad("it does not say of when it is".into()))?;
        Ok(Self { bytes, db, as_of })
    }

    /// What was on record when it was made, to be read only: nothing that is changed in it lasts.
    pub fn into_state(self, paths: &Paths) -> State {
        State { db: self.db, home: paths.clone(), unwritable: None }
    }

    /// The database itself.
    pub(crate) const fn database(&self) -> &Connection {
        &self.db
    }

    /// Its bytes, a database file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the audit log stood when it was made.
    pub const fn as_of(&self) -> AsOf {
        self.as_of
    }

    /// Whether it holds a trust root.
    pub fn has_root(&self) -> Result<bool> {
        let query = "SELECT EXISTS (SELECT 1 FROM trust_roots)";
        self.db.query_row(query, [], |row| row.get(0)).map_err(sql("read the copy of the record"))
    }

    /// Whether it knows a generation of a product.
    pub fn knows(&self, product: &str, generation: i64) -> Result<bool> {
        let query = "SELECT EXISTS (SELECT 1 FROM generations WHERE product = ?1 AND id = ?2)";
        let values = rusqlite::params![product, generation];
        self.db.query_row(query, values, |row| row.get(0)).map_err(sql("read the copy of the record"))
    }
}

fn parse(text: &str) -> Option<AsOf> {
    if text == "0" {
        return Some(AsOf::NONE);
    }
    let (seq, hash) = text.split_once(':')?;
    Some(AsOf { seq: seq.parse().ok()?, hash: Some(Sha384::parse(hash).ok()?) })
}

/// A database file read into memory, whole and sound.
fn in_memory(mut bytes: Vec<u8>) -> Result<Connection> {
    let what = sql("read the copy of the record");
    // One in memory knows no write-ahead log (the SQLite file format, bytes 18 and 19).
    if let Some(versions) = bytes.get_mut(18..20) {
        versions.fill(1);
    }
    let mut db = Connection::open_in_memory().map_err(&what)?;
    db.deserialize_read_exact(MAIN_DB, bytes.as_slice(), bytes.len(), false).map_err(&what)?;
    check_sound(&db)?;
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Outcome, Record};
    use bundle_format::timestamp::Timestamp;

    #[test]
    fn a_copy_is_whole_and_says_of_when_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut state = State::open(&path).unwrap();
        state.set_setting("keep-generations", "3").unwrap();
        state.keep_copy().unwrap();
        let copied = folder.path().join("state.db.copy");
        let copy = RecordCopy::read(&copied).unwrap();
        assert_eq!((copy.as_of(), copy.has_root().unwrap()), (AsOf::NONE, false));
        state.put_root(b"root");
        let now = Timestamp::from_unix(1);
        let row = state.audit().unwrap().append(&Record::new(&now, "settings", Outcome::Begun)).unwrap();
        state.keep_copy().unwrap();
        let copy = RecordCopy::read(&copied).unwrap();
        assert_eq!(copy.as_of(), AsOf { seq: row.seq, hash: Some(row.hash().unwrap()) });
        assert!(copy.has_root().unwrap() && !copy.knows("p", 1).unwrap());
        assert_eq!(state.setting(AS_OF).unwrap(), None, "only the copy says so");
        // With the log's file system away, the copy is of no later record than it was.
        let (audit, away) = (folder.path().join("audit"), folder.path().join("away"));
        std::fs::rename(&audit, &away).unwrap();
        state.keep_copy().unwrap();
        assert_eq!(RecordCopy::read(&copied).unwrap().as_of().seq, row.seq);
        std::fs::rename(&away, &audit).unwrap();
        // In the record's place it is a record.
        drop(state);
        let other = folder.path().join("other/state.db");
        atomic::write(&other, copy.bytes(), Access::Private).unwrap();
        assert_eq!(State::open(&other).unwrap().setting("keep-generations").unwrap().as_deref(), Some("3"));
    }

    #[test]
    fn a_record_that_does_not_read_whole_is_not_copied_and_a_copy_that_does_not_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut state = State::open(&path).unwrap();
        state.keep_copy().unwrap();
        let copied = folder.path().join("state.db.copy");
        let sound = std::fs::read(&copied).unwrap();
        state.db.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
        let mut rotten = sound.clone();
        rotten[4096..8192].fill(0xa5);
        std::fs::write(&path, &rotten).unwrap();
        drop(state);
        let home = crate::paths::Paths::new(folder.path());
        let mut state = State { db: Connection::open(&path).unwrap(), home, unwritable: None };
        assert!(matches!(state.keep_copy().unwrap_err().kind(), ErrorKind::RecordDamaged { .. }));
        assert_eq!(std::fs::read(&copied).unwrap(), sound, "the copy before stays");
        state.keep_copy_or_warn();
        assert!(copied.exists());
        state.keep_copy_or_none();
        assert!(!copied.exists());
        for bytes in [None, Some(&b""[..]), Some(b"no database"), Some(&rotten), Some(&sound[..sound.len() / 2])] {
            if let Some(bytes) = bytes {
                std::fs::write(&copied, bytes).unwrap();
            }
            let error = RecordCopy::read(&copied).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NoRecordCopy { .. }), "{error}");
            assert_eq!(error.class().exit_code(), 8);
        }
        assert_eq!((parse("7"), parse("7:ab"), parse("x:")), (None, None, None));
    }
}
