//! The record on a disk that takes nothing any more.

use std::path::Path;

use super::{MIGRATIONS, State, check_sound, sql};
use crate::error::{ErrorKind, Result};
use crate::paths::Paths;
use crate::settled;

impl State {
    /// The database to look at only: also where there is no room for SQLite's own files beside it, or no writing,
    /// as long as nothing waits to be written into it.
    pub fn look(path: &Path) -> Result<Self> {
        let error = match Self::open(path) {
            Err(error) if settled::is(path) => error,
            other => return other,
        };
        if !matches!(error.kind(), ErrorKind::Sqlite { .. } | ErrorKind::DiskFull { .. }) {
            return Err(error);
        }
        let Ok(db) = settled::open(path) else { return Err(error) };
        check_sound(&db)?;
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql("schema"))?;
        let expected = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        if found != expected {
            return Err(ErrorKind::StateVersion { expected, found }.into());
        }
        Ok(Self { db, home: Paths::new(crate::atomic::parent(path)), unwritable: Some(error.to_string()) })
    }

    /// Why nothing can be written to it, where [`State::look`] found that.
    pub fn unwritable(&self) -> Option<&str> {
        self.unwritable.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(state: &State, pragma: &str) -> String {
        state
            .db
            .pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0))
            .map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
    }

    #[test]
    fn what_is_committed_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        // R-RUN-1: a write-ahead log that is flushed at each commit (`synchronous` 2 is FULL).
        assert_eq!(asked(&state, "journal_mode"), "Text(\"wal\")");
        assert_eq!(asked(&state, "synchronous"), "Integer(2)");
    }

    #[test]
    fn a_sound_record_is_opened_as_ever_and_a_broken_one_is_not_looked_past() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        assert_eq!(State::look(&path).unwrap().unwritable(), None);
        std::fs::write(&path, vec![0xa5; 8192]).unwrap();
        assert!(matches!(State::look(&path).unwrap_err().kind(), ErrorKind::RecordDamaged { .. }));
    }
}
