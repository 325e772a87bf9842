//! The record put back from its copy, for the operator whom nobody can help (`docs/spec/lifecycle.md`, 10).
//!
//! What may hurt it: a copy that is older than what was done since, by which a floor, a trust root or a
//! change that is not over would be forgotten; a power cut in the middle; the log of a record in the way
//! of another one. Who defends: the audit log is proved, and must show nothing that the copy does not
//! know; the damaged record is kept aside; until the copy is in its place, what lies there is no
//! database, and every command says so.

use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::timestamp::Timestamp;

use crate::atomic::{self, Access};
use crate::audit::verify::{Expected, verify};
use crate::audit::{self, Audit, Outcome, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;
use crate::state::{RecordCopy, State};

/// Acts that change the record by steps, each of which renews the copy before it makes anything.
const BY_STEPS: [&str; 4] = ["install", "rollback", "restore", "uninstall"];
/// Acts that change the record at once and renew the copy afterwards.
const AT_ONCE: [&str; 3] = ["trust init", "settings", "policy"];
/// What lies in the record's place meanwhile.
pub(crate) const MEANWHILE: &[u8] = b"The record is being put back. Run: installer repair --record\n";

/// What was put back.
#[derive(Debug)]
pub struct PutBack {
    /// The record, open again.
    pub state: State,
    /// Number of the audit log's last record when the copy was made.
    pub as_of: u64,
    /// Where the damaged record is kept.
    pub aside: PathBuf,
}

/// What is wrong with the record; nothing if it is sound. A record that is gone, or was begun anew, while
/// there is a copy with a trust root, is damaged too.
pub fn damage(paths: &Paths) -> Result<Option<String>> {
    let database = paths.database();
    let has_copy = || RecordCopy::read(&paths.database_copy()).is_ok_and(|copy| copy.has_root().unwrap_or(false));
    if !database.exists() {
        return Ok(has_copy().then(|| format!("{} is gone", database.display())));
    }
    match State::open(&database) {
        Ok(state) if state.latest_root()?.is_none() && has_copy() => Ok(Some("it is empty".into())),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::RecordDamaged { .. }) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Puts the copy in the place of a record with this `damage`. The caller holds the installer's lock.
pub fn put_back(paths: &Paths, damage: &str, now: &Timestamp) -> Result<PutBack> {
    let mut audit = Audit::open(paths)?;
    let record = |result, detail: &str| Record::new(now, "repair", result).detail(detail);
    let copy = RecordCopy::read(&paths.database_copy()).and_then(|copy| {
        refuse_behind(paths, &copy, &audit)?;
        Ok(copy)
    });
    let copy = match copy {
        Ok(copy) => copy,
        Err(error) => {
            // Without a record nobody else can tell whether this is worth one: the log is there.
            audit.append(&record(Outcome::Refused, &format!("record: {damage}; {error}")))?;
            return Err(error);
        }
    };
    let as_of = copy.as_of().seq;
    let begun = record(Outcome::Begun, &format!("record: {damage}; its copy is of record {as_of} of this log"));
    audit.begin_beside(&begun.subject(&Sha384::of(copy.bytes())))?;
    let done = replace(paths, &copy, now).and_then(|aside| {
        let state = State::open(&paths.database())?;
        Ok(PutBack { state, as_of, aside })
    });
    let ended = match &done {
        Ok(done) => record(Outcome::Ok, &format!("record put back; the damaged one is in {}", done.aside.display())),
        Err(error) => record(Outcome::Failed, &error.to_string()),
    };
    audit::append_or_warn(paths, &ended);
    done
}

/// Refuses a copy that lacks what the audit log shows, or what runs. Nothing is made before the copy holds
/// it (R-RCD-1): so an act by steps that began behind the copy and has no end on record made nothing, and
/// one that has an end was begun before some newer copy than this.
fn refuse_behind(paths: &Paths, copy: &RecordCopy, audit: &Audit) -> Result<()> {
    let behind = |why: String| Error::from(ErrorKind::RecordBehind { as_of: copy.as_of().seq, why });
    let log = audit.log();
    verify(log, &audit.key().public(), &Expected::default())?;
    let as_of = copy.as_of();
    if log.row(as_of.seq)?.map(|stored| stored.hash) != as_of.hash {
        return Err(behind("it was made beside another audit log".into()));
    }
    let unended = log.unended()?;
    let mut fault = None;
    log.each(as_of.seq, &mut |stored| {
        let (row, act) = (&stored.row, stored.row.act.as_str());
        let changed = match row.result {
            Outcome::Begun => AT_ONCE.contains(&act) || (BY_STEPS.contains(&act) && !unended.contains(&row.seq)),
            _ => act == "trust root",
        };
        if changed && fault.is_none() {
            fault = Some(format!("record {} of the audit log, {act} {}, is newer", row.seq, row.product));
        }
        Ok(())
    })?;
    match fault {
        Some(why) => Err(behind(why)),
        None => in_force(paths).into_iter().try_for_each(|(product, generation)| {
            let known = copy.knows(&product, generation)?;
            let unknown = || behind(format!("generation {generation} of {product} is in force"));
            if known { Ok(()) } else { Err(unknown()) }
        }),
    }
}

/// The generation that each product's `current` names.
fn in_force(paths: &Paths) -> Vec<(String, i64)> {
    let products = std::fs::read_dir(paths.generations()).into_iter().flatten().flatten();
    let named = |entry: std::fs::DirEntry| {
        let product = entry.file_name().to_string_lossy().into_owned();
        let target = std::fs::read_link(paths.current(&product)).ok()?;
        Some((product, target.to_str()?.parse().ok()?))
    };
    products.filter_map(named).collect()
}

/// Keeps the damaged files aside, then replaces them. Cut anywhere, the record is damaged still, and the
/// same command goes on: a write-ahead log never lies beside a database that it does not belong to.
fn replace(paths: &Paths, copy: &RecordCopy, now: &Timestamp) -> Result<PathBuf> {
    let database = paths.database();
    let beside = |end: &str| {
        let mut name = database.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = new_folder(paths.state_dir(), now)?;
    for from in [database.clone(), beside("-wal"), beside("-shm")] {
        if from.exists() {
            let bytes = std::fs::read(&from).map_err(|e| Error::io(from.display().to_string(), e))?;
            atomic::write(&aside.join(from.file_name().unwrap_or_default()), &bytes, Access::Private)?;
        }
    }
    atomic::write(&database, MEANWHILE, Access::Private)?;
    for end in ["-wal", "-shm"] {
        atomic::remove_file(&beside(end))?;
    }
    atomic::sync_folder(paths.state_dir())?;
    atomic::write(&database, copy.bytes(), Access::Private)?;
    Ok(aside)
}

/// A folder that is not there yet, named by the time.
fn new_folder(home: &Path, now: &Timestamp) -> Result<PathBuf> {
    let stamp: String = now.as_str().chars().filter(char::is_ascii_alphanumeric).collect();
    let names =
        std::iter::once(format!("record-aside-{stamp}")).chain((2..).map(|n| format!("record-aside-{stamp}-{n}")));
    let mut folders = names.map(|name| home.join(name)).filter(|folder| !folder.exists());
    let folder = folders.next().unwrap_or_else(|| home.join("record-aside"));
    atomic::make_folder(&folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::log::Log;
    use rusqlite::Connection;

    fn now() -> Timestamp {
        Timestamp::from_unix(1_800_000_000)
    }

    struct Bench {
        folder: tempfile::TempDir,
        paths: Paths,
    }

    impl Bench {
        /// A record with a root and a setting, its copy, and a log that shows how it came about.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let paths = Paths::new(folder.path().join("state"));
            let bench = Self { folder, paths };
            let mut state = State::open(&bench.paths.database()).unwrap();
            bench.audit().begin(&Record::new(&now(), "trust init", Outcome::Begun)).unwrap();
            state.put_root(b"root");
            state.set_setting("keep-generations", "3").unwrap();
            state.keep_copy().unwrap();
            bench.log("trust init", Outcome::Ok);
            bench
        }

        fn audit(&self) -> Audit {
            Audit::open(&self.paths).unwrap()
        }

        fn log(&self, act: &str, result: Outcome) {
            self.audit().append(&Record::new(&now(), act, result).of("p", "1")).unwrap();
        }

        fn beside(&self, end: &str) -> PathBuf {
            self.folder.path().join("state").join(format!("state.db{end}"))
        }

        /// Two pages of the record are overwritten; what the write-ahead log held is in the file by then.
        fn rot(&self) -> Vec<u8> {
            let mut bytes = std::fs::read(self.beside("")).unwrap();
            bytes[100..8192].fill(0xa5);
            std::fs::write(self.beside(""), &bytes).unwrap();
            bytes
        }

        fn put_back(&self) -> Result<PutBack> {
            let damage = damage(&self.paths)?.expect("it is damaged");
            put_back(&self.paths, &damage, &now())
        }

        fn newest(&self, count: u32) -> Vec<crate::audit::record::Row> {
            let log = Log::look(&self.paths.audit()).unwrap().unwrap();
            log.newest(count).unwrap().into_iter().map(|stored| stored.row).collect()
        }
    }

    #[test]
    fn a_damaged_record_comes_back_as_it_was() {
        let bench = Bench::new();
        assert_eq!(damage(&bench.paths).unwrap(), None);
        let rotten = bench.rot();
        let error = State::open(&bench.paths.database()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RecordDamaged { .. }), "{error}");
        let done = bench.put_back().unwrap();
        assert_eq!(done.state.setting("keep-generations").unwrap().as_deref(), Some("3"));
        assert_eq!(std::fs::read(done.aside.join("state.db")).unwrap(), rotten);
        let copy = std::fs::read(bench.paths.database_copy()).unwrap();
        let rows = bench.newest(2);
        assert_eq!(rows[0].subject, Sha384::of(&copy).to_string());
        assert_eq!((rows[0].result, rows[1].result, rows[1].closes), (Outcome::Begun, Outcome::Ok, rows[0].seq));
        drop(done);
        assert_eq!(damage(&bench.paths).unwrap(), None);
        // Gone, and begun anew by somebody who did not know.
        std::fs::remove_file(bench.beside("")).unwrap();
        assert!(damage(&bench.paths).unwrap().unwrap().ends_with("state.db is gone"));
        drop(State::open(&bench.paths.database()).unwrap());
        assert_eq!(damage(&bench.paths).unwrap().as_deref(), Some("it is empty"));
        assert!(bench.put_back().unwrap().state.latest_root().unwrap().is_some());
        let folders = std::fs::read_dir(bench.paths.state_dir()).unwrap().flatten();
        let aside = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("record-aside-");
        assert_eq!(folders.filter(aside).count(), 2, "each in a folder of its own");
    }

    #[test]
    fn without_a_sound_copy_nothing_is_put_back() {
        let bench = Bench::new();
        let rotten = bench.rot();
        for copy in [Some(&rotten[..]), Some(b""), None] {
            match copy {
                Some(bytes) => std::fs::write(bench.paths.database_copy(), bytes).unwrap(),
                None => std::fs::remove_file(bench.paths.database_copy()).unwrap(),
            }
            let error = bench.put_back().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NoRecordCopy { .. }), "{error}");
            assert_eq!((error.class().exit_code(), std::fs::read(bench.beside("")).unwrap()), (8, rotten.clone()));
            let row = bench.newest(1).pop().unwrap();
            assert_eq!((row.act.as_str(), row.result), ("repair", Outcome::Refused));
        }
    }

    #[test]
    fn a_copy_that_would_forget_something_is_refused() {
        let (begun, ok, failed) = (Outcome::Begun, Outcome::Ok, Outcome::Failed);
        for (since, behind) in [
            (&[("check", failed), ("backup", ok), ("install", Outcome::Refused)][..], None),
            (&[("install", begun)], None),
            (&[("settings", begun)], Some("settings")),
            (&[("policy", begun), ("policy", failed)], Some("policy")),
            (&[("install", begun), ("install", ok)], Some("install p")),
            (&[("rollback", begun), ("rollback", failed)], Some("rollback p")),
            (&[("uninstall", begun), ("uninstall", ok)], Some("uninstall p")),
            (&[("install", begun), ("trust root", ok)], Some("trust root")),
        ] {
            let bench = Bench::new();
            for (act, result) in since {
                bench.log(act, *result);
            }
            let rotten = bench.rot();
            let done = bench.put_back();
            let Some(word) = behind else {
                done.unwrap();
                continue;
            };
            let error = done.unwrap_err();
            let told = matches!(error.kind(), ErrorKind::RecordBehind { as_of: 2, why } if why.contains(word));
            assert!(told && error.class().exit_code() == 8, "{since:?}: {error}");
            assert_eq!(std::fs::read(bench.beside("")).unwrap(), rotten, "nothing is touched");
        }
        // Of another machine; and one that does not know what is in force.
        let (bench, other) = (Bench::new(), Bench::new());
        bench.rot();
        let own = std::fs::read(bench.paths.database_copy()).unwrap();
        std::fs::copy(other.paths.database_copy(), bench.paths.database_copy()).unwrap();
        let error = bench.put_back().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RecordBehind { why, .. } if why.contains("another audit log")));
        std::fs::write(bench.paths.database_copy(), own).unwrap();
        atomic::symlink(&bench.paths.current("p"), Path::new("9")).unwrap();
        let error = bench.put_back().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::RecordBehind { why, .. } if why.contains("generation 9 of p")));
        // A log that does not prove says nothing of what was done since.
        atomic::remove_file(&bench.paths.current("p")).unwrap();
        let log = Connection::open(Log::file(&bench.paths.audit())).unwrap();
        log.execute_batch("DROP TRIGGER records_stay; UPDATE records SET detail = 'x' WHERE seq = 2").unwrap();
        assert!(matches!(bench.put_back().unwrap_err().kind(), ErrorKind::Audit(_)));
    }

    #[test]
    fn a_cut_while_it_is_put_back_leaves_a_record_that_says_so() {
        let bench = Bench::new();
        // A write-ahead log with a page of its own, as a killed process leaves it.
        let mut state = State::open(&bench.paths.database()).unwrap();
        state.set_setting("keep-generations", "4").unwrap();
        let wal = std::fs::read(bench.beside("-wal")).unwrap();
        assert!(!wal.is_empty());
        drop(state);
        bench.rot();
        for (database, log) in [(None, true), (Some(MEANWHILE), true), (Some(MEANWHILE), false)] {
            if let Some(bytes) = database {
                std::fs::write(bench.beside(""), bytes).unwrap();
            }
            drop(std::fs::remove_file(bench.beside("-shm")));
            if log {
                std::fs::write(bench.beside("-wal"), &wal).unwrap();
            } else {
                drop(std::fs::remove_file(bench.beside("-wal")));
            }
            assert!(damage(&bench.paths).unwrap().is_some(), "{database:?} {log}");
        }
        let done = bench.put_back().unwrap();
        assert_eq!(done.state.setting("keep-generations").unwrap().as_deref(), Some("3"), "no log of another record");
    }
}
