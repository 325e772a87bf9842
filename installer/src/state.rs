//! The installer's memory: trust roots, floors, generations, the journal of steps. What was done,
//! by whom, is in the audit log beside it ([`crate::audit`]).
//!
//! SQLite in WAL mode with `synchronous=FULL`: a step that is recorded stays recorded through a
//! power cut. Times come in as values.

mod copy;
mod floors;
mod generation;
mod look;
mod mark;
mod runs;

use std::path::Path;

use bundle_format::manifest::Manifest;
use bundle_format::timestamp::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::audit::Audit;
use crate::audit::log::Log;
use crate::audit::record::Row;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;

pub use copy::{AsOf, RecordCopy};
pub use generation::{Generation, GenerationState};
pub use runs::{NewRun, Phase, Run, RunStep, StepState};

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
", "
DROP TABLE steps;
ALTER TABLE generations ADD COLUMN kept INTEGER NOT NULL DEFAULT 0 CHECK (kept IN (0, 1));
UPDATE generations SET kept = 1 WHERE state = 'active';
ALTER TABLE floors ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0);
CREATE TABLE volumes (
    generation INTEGER NOT NULL REFERENCES generations (id), claim TEXT NOT NULL, volume TEXT NOT NULL,
    PRIMARY KEY (generation, claim)) STRICT;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, act TEXT NOT NULL, product TEXT NOT NULL,
    generation INTEGER NOT NULL REFERENCES generations (id), former INTEGER REFERENCES generations (id),
    source TEXT NOT NULL, plan_sha384 TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('staging', 'switching', 'trial', 'committed', 'undoing', 'done', 'undone')),
    boots_left INTEGER NOT NULL, reason TEXT NOT NULL, begun_at TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX one_open_run ON runs (phase IN ('done', 'undone')) WHERE phase NOT IN ('done', 'undone');
CREATE TABLE run_steps (
    run INTEGER NOT NULL REFERENCES runs (id), ordinal INTEGER NOT NULL, step TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('planned', 'doing', 'done', 'undone')), note TEXT NOT NULL, millis INTEGER,
    PRIMARY KEY (run, ordinal)) STRICT;
", "
ALTER TABLE generations ADD COLUMN created TEXT NOT NULL DEFAULT '';
ALTER TABLE generations ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1));
ALTER TABLE runs ADD COLUMN dangerous TEXT NOT NULL DEFAULT '';
"];

/// A trusted root as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRoot {
    /// Its envelope file.
    pub envelope: Vec<u8>,
    /// Its fingerprint.
    pub sha384: String,
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
    /// Why it can only be looked at, where that is so.
    unwritable: Option<String>,
}

fn sql(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::DiskFull { what: "the state database".into() }.into(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            ErrorKind::RecordDamaged { why: format!("{what}: {source}") }.into()
        }
        _ => ErrorKind::Sqlite { what, source }.into(),
    }
}

/// Reads a database whole, as far as SQLite can tell what is whole.
fn check_sound(db: &Connection) -> Result<()> {
    let sound: String = db.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(sql("check"))?;
    if sound == "ok" {
        return Ok(());
    }
    Err(ErrorKind::RecordDamaged { why: bundle_format::text::escaped(&sound) }.into())
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
        check_sound(&db)?;
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
        Ok(Self { db, home: Paths::new(crate::atomic::parent(path)), unwritable: None })
    }

    /// Where the state lies.
    pub const fn home(&self) -> &Paths {
        &self.home
    }

    /// The root with the highest version.
    pub fn latest_root(&self) -> Result<Option<StoredRoot>> {
        let query = "SELECT envelope, sha384 FROM trust_roots ORDER BY version DESC LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| Ok(StoredRoot { envelope: row.get(0)?, sha384: row.get(1)? });
        self.db.query_row(query, [], read).optional().map_err(sql("read the trust root"))
    }

    /// Begins a generation.
    pub fn begin_generation(
        &mut self,
        manifest: &Manifest,
        bytes: &[u8],
        sha384: &str,
        now: &Timestamp,
    ) -> Result<i64> {
        let insert = "INSERT INTO generations (product, release, sequence, marking, manifest, manifest_sha384, state, begun_at, changed_at, created)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'staged', ?7, ?7, ?8)";
        let sequence = i64::try_from(manifest.sequence).unwrap_or(i64::MAX);
        let values = params![
            manifest.product,
            manifest.release,
            sequence,
            manifest.marking.to_string(),
            bytes,
            sha384,
            now.as_str(),
            manifest.created.as_str()
        ];
        self.db.execute(insert, values).map_err(sql("begin a generation"))?;
        Ok(self.db.last_insert_rowid())
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
        self.generations_where("state = 'active' ORDER BY product", [])
    }

    /// Whether an active release declares data to back up.
    pub fn has_data(&self) -> Result<bool> {
        for generation in self.active_generations()? {
            if !generation.parse()?.lifecycle.data.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends generations that were recorded for a run which was then never begun.
    pub fn drop_orphans(&mut self, now: &Timestamp) -> Result<()> {
        let update = "UPDATE generations SET state = 'failed', changed_at = ?1 WHERE state = 'staged'
                      AND id NOT IN (SELECT generation FROM runs WHERE phase NOT IN ('done', 'undone'))";
        self.db.execute(update, [now.as_str()]).map(drop).map_err(sql("end a generation"))
    }

    /// A generation by its number.
    pub fn generation(&self, id: i64) -> Result<Generation> {
        let missing = || ErrorKind::NoGeneration { id };
        Ok(self.generations_where("id = ?1", [id])?.pop().ok_or_else(missing)?)
    }

    /// The newest generation of a product that was taken off while its data was kept.
    pub fn removed_generation(&self, product: &str) -> Result<Option<Generation>> {
        let which =
            "product = ?1 AND state = 'removed' AND id IN (SELECT generation FROM volumes) ORDER BY id DESC LIMIT 1";
        Ok(self.generations_where(which, [product])?.pop())
    }

    /// Every generation of a product whose volumes are on record.
    pub fn generations_with_volumes(&self, product: &str) -> Result<Vec<Generation>> {
        self.generations_where("product = ?1 AND id IN (SELECT generation FROM volumes) ORDER BY id", [product])
    }

    fn generations_where(&self, which: &str, values: impl rusqlite::Params) -> Result<Vec<Generation>> {
        let what = sql("read the generations");
        let query = format!(
            "SELECT id, product, release, sequence, marking, manifest, manifest_sha384, changed_at, state
             FROM generations WHERE {which}"
        );
        let mut statement = self.db.prepare(&query).map_err(&what)?;
        let rows = statement.query_map(values, |row| {
            Ok(Generation {
                id: row.get(0)?,
                product: row.get(1)?,
                release: row.get(2)?,
                sequence: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                marking: row.get(4)?,
                manifest: row.get(5)?,
                manifest_sha384: row.get(6)?,
                changed_at: row.get(7)?,
                state: row.get(8)?,
            })
        });
        rows.map_err(&what)?.collect::<rusqlite::Result<_>>().map_err(&what)
    }

    /// Manifests of the generations whose blobs are kept: active, kept for going back, and the one
    /// that an open run brings unless it is being taken back.
    pub fn kept_manifests(&self) -> Result<Vec<Manifest>> {
        let which = "kept = 1 OR id IN (SELECT generation FROM runs WHERE phase IN ('staging', 'switching', 'trial', 'committed'))
                     ORDER BY id";
        let mut manifests: Vec<Manifest> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for generation in self.generations_where(which, [])? {
            if seen.insert(generation.manifest_sha384.clone()) {
                manifests.push(generation.parse()?);
            }
        }
        Ok(manifests)
    }

    /// The same without what only this run keeps.
    pub fn kept_manifests_but(&self, run: i64) -> Result<Vec<Manifest>> {
        let which = "kept = 1 OR id IN (SELECT generation FROM runs WHERE id <> ?1 AND phase IN ('staging', 'switching', 'trial', 'committed'))
                     ORDER BY id";
        self.generations_where(which, [run])?.iter().map(Generation::parse).collect()
    }

    /// Keeps no generation of a product any more.
    pub fn unkeep(&mut self, product: &str) -> Result<()> {
        self.db
            .execute("UPDATE generations SET kept = 0 WHERE product = ?1", [product])
            .map(drop)
            .map_err(sql("forget generations"))
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
impl State {
    /// A row that stands for a root where nobody reads the root itself.
    pub(crate) fn put_root(&self, envelope: &[u8]) {
        let insert = "INSERT INTO trust_roots VALUES (1, ?1, 'abc', '2026-01-01T00:00:00Z')";
        self.db.execute(insert, [envelope]).unwrap();
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
            "expires": null, "requires": {"memory_mib": 0, "disk_mib": 0}, "lifecycle": {}, "network": {"name": "n", "internal": true},
            "images": [], "secrets": [], "workloads": [], "files": [], "runtime": [], "attachments": [], "bases": [], "packs": [],
        });
        bundle_format::manifest::parse(json.to_string().as_bytes()).unwrap()
    }

    fn run(state: &mut State, sequence: u64, former: Option<i64>, now: &Timestamp) -> Run {
        let generation = state
            .begin_generation(
                &manifest(sequence),
                &manifest(sequence).to_bytes().unwrap(),
                &format!("x{sequence}"),
                now,
            )
            .unwrap();
        let steps = [serde_json::json!({"step": "store"}), serde_json::json!({"step": "commit"})];
        let new = NewRun {
            act: "install",
            product: "p",
            generation,
            former,
            source: "b",
            plan_sha384: "s",
            dangerous: "",
            steps: &steps,
        };
        state.begin_run(&new, now).unwrap();
        state.open_run().unwrap().unwrap()
    }

    #[test]
    fn generations_floors_and_the_journal_outlive_a_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut state = State::open(&path).unwrap();
        let now = at("2026-11-01T00:00:00Z");
        let first = run(&mut state, 5, None, &now);
        assert_eq!((first.phase, first.boots_left), (Phase::Staging, 1));
        let second = NewRun {
            act: "i",
            product: "p",
            generation: first.generation,
            former: None,
            source: "",
            plan_sha384: "",
            dangerous: "",
            steps: &[],
        };
        assert!(
            matches!(state.begin_run(&second, &now).unwrap_err().kind(), ErrorKind::Sqlite { .. }),
            "one at a time"
        );
        state.step_doing(first.id, 0, &serde_json::json!({"made": [1]})).unwrap();
        state.step_doing(first.id, 0, &serde_json::json!({"made": [2]})).unwrap();
        state.step_done(first.id, 0, std::time::Duration::from_millis(7)).unwrap();
        state.commit_run(&first, 3, &now).unwrap();
        state.set_phase(first.id, Phase::Done, None, &now).unwrap();
        let second = run(&mut state, 4, Some(first.generation), &at("2026-11-02T00:00:00Z"));
        state.commit_run(&second, 2, &at("2026-11-02T00:00:00Z")).unwrap();
        let late = at("2026-11-03T00:00:00Z");
        state.audit().unwrap().append(&Record::new(&late, "install", Outcome::Ok).of("p", "1").detail("d")).unwrap();
        drop(state);

        let mut state = State::open(&path).unwrap();
        assert_eq!(state.active_generation("p").unwrap().unwrap().id, second.generation);
        assert_eq!(state.open_run().unwrap().unwrap().phase, Phase::Committed);
        assert_eq!((state.floor("p").unwrap(), state.epoch("p").unwrap()), (5, 3), "a floor never sinks");
        assert_eq!(state.floor("q").unwrap(), 0);
        assert!(matches!(state.generation(77).unwrap_err().kind(), ErrorKind::NoGeneration { id: 77 }));
        assert!(matches!(
            state.step_done(first.id, 9, std::time::Duration::ZERO).unwrap_err().kind(),
            ErrorKind::Unexpected { .. }
        ));
        let steps = state.run_steps(first.id).unwrap();
        assert_eq!((steps[0].state, steps[1].state), (StepState::Done, StepState::Planned));
        assert_eq!(steps[0].note["made"][0], 1, "the first note stays");
        assert_eq!(state.last_millis("p", &serde_json::json!({"step": "store"})).unwrap(), Some(7));
        assert_eq!(state.kept_generations("p").unwrap().len(), 2);
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
    fn volumes_belong_to_generations_and_boots_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&folder.path().join("state.db")).unwrap();
        let now = at("2026-11-01T00:00:00Z");
        let run = run(&mut state, 1, None, &now);
        let volumes = std::collections::BTreeMap::from([("data".to_owned(), "data.g1".to_owned())]);
        state.set_volumes(run.generation, &volumes).unwrap();
        assert_eq!(state.volumes(run.generation).unwrap(), volumes);
        assert_eq!(state.count_boot(run.id).unwrap(), 0);
        assert_eq!(state.count_boot(run.id).unwrap(), -1);
        assert_eq!(state.kept_manifests().unwrap().len(), 1, "what a run brings is kept");
        state.set_phase(run.id, Phase::Undoing, Some("why"), &now).unwrap();
        assert!(state.kept_manifests().unwrap().is_empty(), "unless it is taken back");
        state.end_undone(&run, GenerationState::Failed, &now).unwrap();
        assert!(state.open_run().unwrap().is_none());
        state.forget_generation(run.generation).unwrap();
        assert!(state.all_volumes("p").unwrap().is_empty());
    }

    #[test]
    fn a_newer_or_damaged_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let state = State::open(&path).unwrap();
        state.db.pragma_update(None, "user_version", 99).unwrap();
        drop(state);
        assert!(matches!(State::open(&path).unwrap_err().kind(), ErrorKind::StateVersion { found: 99, .. }));
        drop(std::fs::remove_file(folder.path().join("state.db-wal")));
        for bytes in [&[7; 4096][..], crate::record::MEANWHILE] {
            std::fs::write(&path, bytes).unwrap();
            let error = State::open(&path).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::RecordDamaged { .. }), "{error}");
            assert!(error.advice().contains("installer repair --record"));
        }
    }
}
