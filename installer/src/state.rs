//! The installer's memory: trust roots, floors, generations, the journal of steps. What was done,
//! by whom, is in the audit log beside it ([`crate::audit`]).
//!
//! SQLite in WAL mode with `synchronous=FULL`: a step that is recorded stays recorded through a
//! power cut. Times come in as values.

use std::path::Path;

use bundle_format::manifest::Manifest;
use bundle_format::timestamp::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::audit::Audit;
use crate::audit::log::Log;
use crate::audit::record::Row;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;

/// Schema steps; the database's `user_version` counts those that were taken.
const MIGRATIONS: &[&str] = &["
CREATE TABLE trust_roots (
    version INTEGER PRIMARY KEY, envelope BLOB NOT NULL, sha384 TEXT NOT NULL, accepted_at TEXT NOT NULL) STRICT;
CREATE TABLE floors (product TEXT PRIMARY KEY, sequence INTEGER NOT NULL CHECK (sequence > 0), raised_at TEXT NOT NULL) STRICT;
CREATE TABLE generations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, product TEXT NOT NULL, release TEXT NOT NULL, sequence INTEGER NOT NULL,
    marking TEXT NOT NULL, manifest BLOB NOT NULL, manifest_sha384 TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('staged', 'active', 'superseded', 'failed', 'removed')),
    begun_at TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX one_active ON generations (product) WHERE state = 'active';
CREATE TABLE steps (
    generation INTEGER NOT NULL REFERENCES generations (id), ordinal INTEGER NOT NULL, name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('started', 'done')), started_at TEXT NOT NULL, ended_at TEXT,
    PRIMARY KEY (generation, ordinal)) STRICT;
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, act TEXT NOT NULL, product TEXT NOT NULL,
    release TEXT NOT NULL, result TEXT NOT NULL, detail TEXT NOT NULL, actor TEXT NOT NULL) STRICT;
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"];

/// Where a generation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationState {
    /// Being installed.
    Staged,
    /// What runs.
    Active,
    /// Was active; another followed.
    Superseded,
    /// Did not become active.
    Failed,
    /// Taken off the machine.
    Removed,
}

impl GenerationState {
    const fn text(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }
}

/// A trusted root as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRoot {
    /// Its envelope file.
    pub envelope: Vec<u8>,
    /// Its fingerprint.
    pub sha384: String,
}

/// A generation as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number on this machine.
    pub id: i64,
    /// Product.
    pub product: String,
    /// Version for people.
    pub release: String,
    /// Anti-rollback counter.
    pub sequence: u64,
    /// Marking.
    pub marking: String,
    /// The signed manifest's exact bytes.
    pub manifest: Vec<u8>,
    /// Their SHA-384.
    pub manifest_sha384: String,
    /// When it came to its state.
    pub changed_at: String,
}

impl Generation {
    /// The manifest. Its bytes were proved when they were recorded.
    pub fn parse(&self) -> Result<Manifest> {
        Ok(bundle_format::manifest::parse(&self.manifest)?)
    }
}

/// One line of the history: a record of the audit log, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When.
    pub at: String,
    /// What was done.
    pub act: String,
    /// To which product.
    pub product: String,
    /// In which release.
    pub release: String,
    /// `begun`, `ok`, `failed` or `refused`.
    pub result: String,
    /// More, for a person.
    pub detail: String,
    /// Who, as the system names them.
    pub actor: String,
}

impl From<Row> for HistoryEntry {
    fn from(row: Row) -> Self {
        Self {
            at: row.at.to_string(),
            act: row.act,
            product: row.product,
            release: row.release,
            result: row.result.to_string(),
            detail: row.detail,
            actor: row.actor,
        }
    }
}

/// The open database.
#[derive(Debug)]
pub struct State {
    db: Connection,
    /// The state folder, where the audit log is found.
    home: Paths,
}

fn sql(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::DiskFull { what: "the state database".into() }.into(),
        _ => ErrorKind::Sqlite { what, source }.into(),
    }
}

/// An update that finds no row would be a record of something that never was.
fn one_row(what: &str, id: i64, changed: usize) -> Result<()> {
    if changed == 1 {
        return Ok(());
    }
    let (expected, found) = ("one row".to_owned(), format!("{changed} rows"));
    Err(ErrorKind::Unexpected { what: format!("record of {what} {id}"), expected, found }.into())
}

impl State {
    /// Opens the database, making it if need be, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self> {
        crate::atomic::make_folder(crate::atomic::parent(path))?;
        let mut db = Connection::open(path).map_err(sql("open"))?;
        db.busy_timeout(std::time::Duration::from_secs(10)).map_err(sql("open"))?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(sql("open"))?;
        db.pragma_update(None, "synchronous", "FULL").map_err(sql("open"))?;
        db.pragma_update(None, "foreign_keys", true).map_err(sql("open"))?;
        let sound: String = db.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(sql("check"))?;
        if sound != "ok" {
            let what = "state database: quick_check".into();
            return Err(ErrorKind::Unexpected {
                what,
                expected: "ok".into(),
                found: bundle_format::text::escaped(&sound),
            }
            .into());
        }
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql("schema"))?;
        let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        if found > newest || found < 0 {
            return Err(ErrorKind::StateVersion { expected: newest, found }.into());
        }
        let missing = MIGRATIONS.iter().zip(1i64..).skip(usize::try_from(found).unwrap_or(0));
        for (step, version) in missing {
            let transaction = db.transaction().map_err(sql("schema"))?;
            transaction.execute_batch(step).map_err(sql("schema"))?;
            transaction.pragma_update(None, "user_version", version).map_err(sql("schema"))?;
            transaction.commit().map_err(sql("schema"))?;
        }
        Ok(Self { db, home: Paths::new(crate::atomic::parent(path)) })
    }

    /// Records a proven root; recording it again changes nothing.
    pub fn record_root(&mut self, version: u64, envelope: &[u8], sha384: &str, now: &Timestamp) -> Result<()> {
        let insert = "INSERT INTO trust_roots VALUES (?1, ?2, ?3, ?4) ON CONFLICT (version) DO NOTHING";
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        self.db
            .execute(insert, params![version, envelope, sha384, now.as_str()])
            .map_err(sql("record a trust root"))?;
        Ok(())
    }

    /// The root with the highest version.
    pub fn latest_root(&self) -> Result<Option<StoredRoot>> {
        let query = "SELECT envelope, sha384 FROM trust_roots ORDER BY version DESC LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| Ok(StoredRoot { envelope: row.get(0)?, sha384: row.get(1)? });
        self.db.query_row(query, [], read).optional().map_err(sql("read the trust root"))
    }

    /// Anti-rollback floor of a product; 0 before its first installation.
    pub fn floor(&self, product: &str) -> Result<u64> {
        let query = "SELECT sequence FROM floors WHERE product = ?1";
        let floor: Option<i64> =
            self.db.query_row(query, [product], |row| row.get(0)).optional().map_err(sql("read a floor"))?;
        let damaged = |floor: i64| ErrorKind::Unexpected {
            what: format!("floor of product {product}"),
            expected: "a positive number".into(),
            found: floor.to_string(),
        };
        Ok(floor.map_or(Ok(0), |floor| u64::try_from(floor).map_err(|_| damaged(floor)))?)
    }

    /// Begins a generation.
    pub fn begin_generation(
        &mut self,
        manifest: &Manifest,
        bytes: &[u8],
        sha384: &str,
        now: &Timestamp,
    ) -> Result<i64> {
        let insert = "INSERT INTO generations (product, release, sequence, marking, manifest, manifest_sha384, state, begun_at, changed_at)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'staged', ?7, ?7)";
        let sequence = i64::try_from(manifest.sequence).unwrap_or(i64::MAX);
        let values = params![
            manifest.product,
            manifest.release,
            sequence,
            manifest.marking.to_string(),
            bytes,
            sha384,
            now.as_str()
        ];
        self.db.execute(insert, values).map_err(sql("begin a generation"))?;
        Ok(self.db.last_insert_rowid())
    }

    /// Makes a generation the active one of its product and raises the floor, in one transaction.
    pub fn commit_generation(&mut self, id: i64, now: &Timestamp) -> Result<()> {
        let what = sql("commit a generation");
        let transaction = self.db.transaction().map_err(&what)?;
        let product = "(SELECT product FROM generations WHERE id = ?1)";
        let supersede = format!(
            "UPDATE generations SET state = 'superseded', changed_at = ?2 WHERE state = 'active' AND product = {product}"
        );
        transaction.execute(&supersede, params![id, now.as_str()]).map_err(&what)?;
        let activate = "UPDATE generations SET state = 'active', changed_at = ?2 WHERE id = ?1";
        one_row("generation", id, transaction.execute(activate, params![id, now.as_str()]).map_err(&what)?)?;
        let raise = "INSERT INTO floors SELECT product, sequence, ?2 FROM generations WHERE id = ?1
                     ON CONFLICT (product) DO UPDATE SET sequence = max(sequence, excluded.sequence), raised_at = excluded.raised_at";
        transaction.execute(raise, params![id, now.as_str()]).map_err(&what)?;
        transaction.commit().map_err(&what)
    }

    /// Sets where a generation stands.
    pub fn set_generation_state(&mut self, id: i64, state: GenerationState, now: &Timestamp) -> Result<()> {
        let update = "UPDATE generations SET state = ?2, changed_at = ?3 WHERE id = ?1";
        let changed = self.db.execute(update, params![id, state.text(), now.as_str()]);
        one_row("generation", id, changed.map_err(sql("set a generation's state"))?)
    }

    /// The active generation of a product.
    pub fn active_generation(&self, product: &str) -> Result<Option<Generation>> {
        Ok(self.active_generations()?.into_iter().find(|generation| generation.product == product))
    }

    /// The active generation of every product.
    pub fn active_generations(&self) -> Result<Vec<Generation>> {
        let what = sql("read the generations");
        let query = "SELECT id, product, release, sequence, marking, manifest, manifest_sha384, changed_at
                     FROM generations WHERE state = 'active' ORDER BY product";
        let mut statement = self.db.prepare(query).map_err(&what)?;
        let rows = statement.query_map([], |row| {
            Ok(Generation {
                id: row.get(0)?,
                product: row.get(1)?,
                release: row.get(2)?,
                sequence: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                marking: row.get(4)?,
                manifest: row.get(5)?,
                manifest_sha384: row.get(6)?,
                changed_at: row.get(7)?,
            })
        });
        rows.map_err(&what)?.collect::<rusqlite::Result<_>>().map_err(&what)
    }

    /// Manifests of the generations whose blobs are kept.
    pub fn kept_manifests(&self) -> Result<Vec<Manifest>> {
        self.active_generations()?.iter().map(Generation::parse).collect()
    }

    /// Manifests of all generations of a product, whatever became of them.
    pub fn manifests_of(&self, product: &str) -> Result<Vec<Manifest>> {
        let what = sql("read the generations");
        let mut statement =
            self.db.prepare("SELECT DISTINCT manifest FROM generations WHERE product = ?1").map_err(&what)?;
        let rows = statement.query_map([product], |row| row.get::<_, Vec<u8>>(0)).map_err(&what)?;
        let bytes: Vec<Vec<u8>> = rows.collect::<rusqlite::Result<_>>().map_err(&what)?;
        bytes.iter().map(|bytes| Ok(bundle_format::manifest::parse(bytes)?)).collect()
    }

    /// Journals that a step begins.
    pub fn step_started(&mut self, generation: i64, ordinal: i64, name: &str, now: &Timestamp) -> Result<()> {
        let insert = "INSERT INTO steps VALUES (?1, ?2, ?3, 'started', ?4, NULL)";
        self.db.execute(insert, params![generation, ordinal, name, now.as_str()]).map_err(sql("journal a step"))?;
        Ok(())
    }

    /// Journals that a step is done.
    pub fn step_done(&mut self, generation: i64, ordinal: i64, now: &Timestamp) -> Result<()> {
        let update = "UPDATE steps SET state = 'done', ended_at = ?3 WHERE generation = ?1 AND ordinal = ?2";
        let changed = self.db.execute(update, params![generation, ordinal, now.as_str()]);
        one_row("step", ordinal, changed.map_err(sql("journal a step"))?)
    }

    /// Names and states of a generation's steps, in order.
    pub fn steps(&self, generation: i64) -> Result<Vec<(String, String)>> {
        let what = sql("read the journal");
        let mut statement =
            self.db.prepare("SELECT name, state FROM steps WHERE generation = ?1 ORDER BY ordinal").map_err(&what)?;
        let rows = statement.query_map([generation], |row| Ok((row.get(0)?, row.get(1)?))).map_err(&what)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&what)
    }

    /// The audit log of this machine, to be written.
    pub fn audit(&self) -> Result<Audit> {
        Audit::open(&self.home)
    }

    /// The newest `limit` records of the audit log, oldest first; before its first record, the newest
    /// lines of what an older installer kept.
    pub fn history(&self, limit: u32) -> Result<Vec<HistoryEntry>> {
        if let Some(log) = Log::look(&self.home.audit())? {
            return Ok(log.newest(limit)?.into_iter().map(|stored| stored.row.into()).collect());
        }
        let what = sql("read the history");
        let query = "SELECT at, act, product, release, result, detail, actor FROM
                     (SELECT * FROM history ORDER BY id DESC LIMIT ?1) ORDER BY id";
        let mut statement = self.db.prepare(query).map_err(&what)?;
        let rows = statement.query_map([limit], |row| {
            Ok(HistoryEntry {
                at: row.get(0)?,
                act: row.get(1)?,
                product: row.get(2)?,
                release: row.get(3)?,
                result: row.get(4)?,
                detail: row.get(5)?,
                actor: row.get(6)?,
            })
        });
        rows.map_err(&what)?.collect::<rusqlite::Result<_>>().map_err(&what)
    }

    /// Detail of the newest record with this act and the result `ok`.
    pub fn newest_ok(&self, act: &str, product: Option<&str>) -> Result<Option<String>> {
        if let Some(log) = Log::look(&self.home.audit())? {
            return log.newest_ok(act, product);
        }
        let query = "SELECT detail FROM history WHERE act = ?1 AND result = 'ok' AND (?2 IS NULL OR product = ?2)
                     ORDER BY id DESC LIMIT 1";
        let found = self.db.query_row(query, params![act, product], |row| row.get(0));
        found.optional().map_err(sql("read the history"))
    }

    /// The newest time on record, here and in the audit log.
    pub fn time_floor(&self) -> Result<Option<Timestamp>> {
        let query =
            "SELECT max(t) FROM (SELECT max(at) t FROM history UNION ALL SELECT max(changed_at) FROM generations
                     UNION ALL SELECT max(accepted_at) FROM trust_roots)";
        let text: Option<String> =
            self.db.query_row(query, [], |row| row.get(0)).map_err(sql("read the time floor"))?;
        let here = text.map(|text| Timestamp::parse(&text)).transpose()?;
        let logged = Log::look(&self.home.audit())?.map(|log| log.newest_time()).transpose()?.flatten();
        Ok(here.max(logged))
    }

    /// A site setting.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        let query = "SELECT value FROM settings WHERE key = ?1";
        self.db.query_row(query, [key], |row| row.get(0)).optional().map_err(sql("read a setting"))
    }

    /// Sets a site setting.
    pub fn set_setting(&mut self, key: &str, value: &str) -> Result<()> {
        let upsert = "INSERT INTO settings VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.db.execute(upsert, [key, value]).map_err(sql("write a setting"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Outcome, Record};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn manifest(sequence: u64) -> Manifest {
        let json = serde_json::json!({
            "format": bundle_format::manifest::FORMAT, "product": "p", "release": "1", "sequence": sequence,
            "marking": "UNCLASSIFIED", "platform": "linux/amd64", "title": "t", "created": "2026-01-01T00:00:00Z",
            "expires": null, "requires": {"memory_mib": 0, "disk_mib": 0}, "network": {"name": "n", "internal": true},
            "images": [], "secrets": [], "workloads": [], "files": [], "runtime": [], "packs": [],
        });
        bundle_format::manifest::parse(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn generations_floors_and_the_record_outlive_a_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut state = State::open(&path).unwrap();
        let now = at("2026-11-01T00:00:00Z");
        let first = state.begin_generation(&manifest(5), b"a", "x", &now).unwrap();
        state.step_started(first, 1, "store", &now).unwrap();
        state.step_done(first, 1, &now).unwrap();
        state.commit_generation(first, &now).unwrap();
        let second = state.begin_generation(&manifest(4), b"b", "y", &at("2026-11-02T00:00:00Z")).unwrap();
        state.commit_generation(second, &at("2026-11-02T00:00:00Z")).unwrap();
        let late = at("2026-11-03T00:00:00Z");
        state.audit().unwrap().append(&Record::new(&late, "install", Outcome::Ok).of("p", "1").detail("d")).unwrap();
        drop(state);

        let state = State::open(&path).unwrap();
        assert_eq!(state.active_generation("p").unwrap().unwrap().id, second);
        assert_eq!(state.floor("p").unwrap(), 5, "a floor never sinks");
        assert_eq!(state.floor("q").unwrap(), 0);
        let mut state = state;
        assert!(matches!(state.commit_generation(77, &now).unwrap_err().kind(), ErrorKind::Unexpected { .. }));
        assert!(matches!(state.step_done(first, 9, &now).unwrap_err().kind(), ErrorKind::Unexpected { .. }));
        assert_eq!(state.active_generation("p").unwrap().unwrap().id, second, "a refused commit changes nothing");
        assert_eq!(state.steps(first).unwrap(), [("store".to_owned(), "done".to_owned())]);
        let newest = state.history(1).unwrap().pop().unwrap();
        assert_eq!((newest.act.as_str(), newest.result.as_str()), ("install", "ok"));
        assert_eq!(state.newest_ok("install", Some("p")).unwrap().as_deref(), Some("d"));
        assert!(state.time_floor().unwrap() >= Some(late), "the audit log's times count");
    }

    #[test]
    fn a_history_of_an_older_installer_counts_until_the_log_takes_it_over() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let line = "INSERT INTO history (at, act, product, release, result, detail, actor)
                    VALUES ('2025-01-01T00:00:00Z', 'receive', 'p', '1', 'ok', 'digest', 'uid 1')";
        state.db.execute(line, []).unwrap();
        let look = |state: &State| {
            (
                state.history(1).unwrap().pop().unwrap().detail,
                state.newest_ok("receive", Some("p")).unwrap(),
                state.time_floor().unwrap() >= Some(at("2025-01-01T00:00:00Z")),
            )
        };
        let before = look(&state);
        assert_eq!(before, ("digest".into(), Some("digest".into()), true));
        drop(state.audit().unwrap());
        assert_eq!(look(&state), before);
    }

    #[test]
    fn a_newer_or_damaged_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let state = State::open(&path).unwrap();
        state.db.pragma_update(None, "user_version", 99).unwrap();
        drop(state);
        assert!(matches!(State::open(&path).unwrap_err().kind(), ErrorKind::StateVersion { found: 99, .. }));
        std::fs::write(&path, [7; 4096]).unwrap();
        drop(std::fs::remove_file(folder.path().join("state.db-wal")));
        assert!(matches!(State::open(&path).unwrap_err().kind(), ErrorKind::Sqlite { .. }));
    }
}
