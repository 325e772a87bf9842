//! What an intruder may do to the log, and what is found of it.

use bundle_format::digest::Sha384;
use bundle_format::timestamp::Timestamp;
use rusqlite::Connection;

use super::anchor::{Anchor, card};
use super::fault::Fault;
use super::head::Head;
use super::key::ApplianceKey;
use super::log::{Log, Stored};
use super::record::{Outcome, Record, Row};
use super::standing::Standing;
use super::verify::{Expected, Report, verify};
use super::{Audit, log};
use crate::ErrorKind;
use crate::error::Error;
use crate::paths::Paths;

struct Bench {
    folder: tempfile::TempDir,
    paths: Paths,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix(1_800_000_000 + seconds)
}

fn install(outcome: Outcome, seconds: u64) -> Record {
    Record::new(&at(seconds), "install", outcome).of("p", "1.0").subject(&Sha384::of(b"manifest"))
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("state"));
        Self { folder, paths }
    }

    /// A log of seven records: its beginning, and three installs.
    fn filled() -> Self {
        let bench = Self::new();
        let mut audit = Audit::open(&bench.paths).unwrap();
        for second in 0..3 {
            audit.begin(&install(Outcome::Begun, second)).unwrap();
            audit.append(&install(Outcome::Ok, second).detail(&format!("run {second}"))).unwrap();
        }
        bench
    }

    fn rows(&self) -> Vec<Stored> {
        Log::look(&self.paths.audit()).unwrap().unwrap().newest(1000).unwrap()
    }

    fn key(&self) -> ApplianceKey {
        ApplianceKey::read(&self.paths.appliance_key()).unwrap().unwrap()
    }

    fn verify(&self, anchors: &[Anchor]) -> Result<Report, Error> {
        let log = Log::look(&self.paths.audit())?.unwrap();
        verify(&log, &self.key().public(), &Expected { anchors: anchors.to_vec(), key: None })
    }

    fn fault(&self, anchors: &[Anchor]) -> Fault {
        match self.verify(anchors).unwrap_err().into_kind() {
            ErrorKind::Audit(fault) => fault,
            other => panic!("{other}"),
        }
    }

    /// The database as root has it: the triggers are no obstacle.
    fn root(&self) -> Connection {
        let db = Connection::open(Log::file(&self.paths.audit())).unwrap();
        db.execute_batch(
            "DROP TRIGGER IF EXISTS records_stay; DROP TRIGGER IF EXISTS records_are_kept; DROP TRIGGER IF EXISTS records_follow;",
        )
        .unwrap();
        db
    }

    fn sql(&self, text: &str) {
        self.root().execute_batch(text).unwrap();
    }

    /// Writes these rows in place of what is there, hashed and linked anew.
    fn rewrite(&self, rows: &[Row]) {
        let db = self.root();
        db.execute_batch("DELETE FROM records").unwrap();
        let mut prev = super::record::zero();
        for (row, seq) in rows.iter().zip(1..) {
            let row = Row { seq, prev, ..row.clone() };
            prev = row.hash().unwrap();
            log::insert(&db, &row, &prev).unwrap();
        }
    }

    /// The anchor of the newest record, as a card has it.
    fn anchor(&self) -> Anchor {
        let log = Log::look(&self.paths.audit()).unwrap().unwrap();
        Anchor::parse(&card(&log.head(&self.key().public()).unwrap())).unwrap()
    }
}

#[test]
fn a_sound_log_proves_with_and_without_anchors() {
    let bench = Bench::filled();
    let report = bench.verify(&[]).unwrap();
    assert_eq!((report.head.seq, report.anchors.len(), report.unended.len()), (7, 0, 0));
    assert!(report.lines().iter().any(|line| line.contains("without an anchor")), "{:?}", report.lines());
    let early = format!("3:{}", bench.rows()[2].hash);
    let report = bench.verify(&[Anchor::parse(&early).unwrap(), bench.anchor()]).unwrap();
    assert_eq!(report.anchors, [3, 7]);
    assert!(!report.lines().iter().any(|line| line.contains("without an anchor")));
    assert_eq!(report.to_json()["records"], 7);
}

#[test]
fn ends_close_what_they_end() {
    let bench = Bench::filled();
    let rows = bench.rows();
    let closes: Vec<u64> = rows.iter().map(|stored| stored.row.closes).collect();
    assert_eq!(closes, [0, 0, 2, 0, 4, 0, 6]);
    assert_eq!(rows[0].row.act, "audit init");
    assert_eq!(rows[0].row.subject, bench.key().public().fingerprint().unwrap().to_string());
    let mut audit = Audit::open(&bench.paths).unwrap();
    let other = Record::new(&at(9), "install", Outcome::Ok).of("other", "1");
    assert_eq!(audit.append(&other).unwrap().closes, 0, "another product's act ends nothing of ours");
}

#[test]
fn the_database_itself_refuses_slips() {
    let bench = Bench::filled();
    let db = Connection::open(Log::file(&bench.paths.audit())).unwrap();
    for (text, word) in [
        ("UPDATE records SET actor = 'x' WHERE seq = 3", "not changed"),
        ("DELETE FROM records WHERE seq = 7", "not removed"),
        (
            "INSERT INTO records SELECT 9, at, actor, origin, host, act, product, release, subject, result, closes, detail, prev, hash FROM records WHERE seq = 7",
            "follow",
        ),
        (
            "INSERT OR REPLACE INTO records SELECT 3, at, 'x', origin, host, act, product, release, subject, result, closes, detail, prev, hash FROM records WHERE seq = 3",
            "follow",
        ),
    ] {
        let error = db.execute_batch(text).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    bench.verify(&[]).unwrap();
}

#[test]
fn an_edited_record_is_found() {
    for column in [
        "at = '2020-01-01T00:00:00Z'",
        "actor = 'nobody'",
        "origin = 'x'",
        "host = 'x'",
        "act = 'x'",
        "product = 'x'",
        "release = 'x'",
        "subject = ''",
        "result = 'failed'",
        "closes = 0",
        "detail = 'x'",
    ] {
        let bench = Bench::filled();
        bench.sql(&format!("UPDATE records SET {column} WHERE seq = 3"));
        assert!(matches!(bench.fault(&[]), Fault::Edited { seq: 3, .. }), "{column}");
    }
    // With its hash made to fit, the next one does not follow; for the last one the head does not.
    for (edited, next) in [(3, Some(4)), (7, None)] {
        let bench = Bench::filled();
        let mut row = bench.rows()[edited - 1].row.clone();
        row.actor = "nobody".into();
        let hash = row.hash().unwrap();
        bench.sql(&format!("UPDATE records SET actor = 'nobody', hash = '{hash}' WHERE seq = {edited}"));
        match (bench.fault(&[]), next) {
            (Fault::Broken { seq, .. }, Some(next)) => assert_eq!(seq, next),
            (Fault::Head { .. }, None) => {}
            (other, _) => panic!("{other}"),
        }
    }
}

#[test]
fn a_deleted_record_is_found() {
    let bench = Bench::filled();
    bench.sql("DELETE FROM records WHERE seq = 4");
    assert!(matches!(bench.fault(&[]), Fault::Gap { expected: 4, found: 5 }));
    // Closed up by renumbering.
    bench.sql("UPDATE records SET seq = seq - 1 WHERE seq > 4");
    assert!(matches!(bench.fault(&[]), Fault::Edited { seq: 4, .. }));
    // Closed up with every later hash made anew: only the signature is left to tell.
    let bench = Bench::filled();
    let rows: Vec<Row> = bench.rows().into_iter().map(|stored| stored.row).filter(|row| row.seq != 4).collect();
    bench.rewrite(&rows);
    assert!(matches!(bench.fault(&[]), Fault::Head { .. }));
    // A row with a number that no record can have.
    let bench = Bench::filled();
    bench.sql("UPDATE records SET seq = -4 WHERE seq = 4");
    assert!(matches!(bench.fault(&[]), Fault::Gap { expected: 1, .. }));
}

#[test]
fn an_inserted_record_is_found() {
    let copy = "INSERT INTO records SELECT 4, at, actor, origin, host, act, product, release, subject, result, closes, detail, prev, hash FROM records WHERE seq = 3";
    let bench = Bench::filled();
    bench.sql(&format!(
        "UPDATE records SET seq = -seq - 1 WHERE seq >= 4; UPDATE records SET seq = -seq WHERE seq < 0; {copy}"
    ));
    assert!(matches!(bench.fault(&[]), Fault::Edited { seq: 4, .. }));
    let bench = Bench::filled();
    let mut rows: Vec<Row> = bench.rows().into_iter().map(|stored| stored.row).collect();
    rows.insert(3, rows[2].clone());
    bench.rewrite(&rows);
    assert!(matches!(bench.fault(&[]), Fault::Head { .. }));
    // Behind the signed end, where no other record has to be made to fit.
    let bench = Bench::filled();
    let last = bench.rows().pop().unwrap();
    let row = Row { seq: 8, prev: last.hash, actor: "nobody".into(), ..last.row };
    log::insert(&bench.root(), &row, &row.hash().unwrap()).unwrap();
    assert!(matches!(bench.fault(&[]), Fault::Head { .. }));
    let error = Audit::open(&bench.paths).unwrap().append(&install(Outcome::Ok, 9)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Audit(Fault::Head { .. })),
        "what was slipped in is never signed: {error}"
    );
}

#[test]
fn reordered_records_are_found() {
    let bench = Bench::filled();
    bench.sql("UPDATE records SET seq = 99 WHERE seq = 3; UPDATE records SET seq = 3 WHERE seq = 4; UPDATE records SET seq = 4 WHERE seq = 99");
    assert!(matches!(bench.fault(&[]), Fault::Edited { seq: 3, .. }));
    // Each with a hash that fits its new number.
    let bench = Bench::filled();
    let rows = bench.rows();
    for (seq, other) in [(3u64, 3usize), (4, 2)] {
        let row = Row { seq, ..rows[other].row.clone() };
        let (hash, prev) = (row.hash().unwrap(), row.prev);
        bench.sql(&format!(
            "UPDATE records SET at = '{}', result = '{}', closes = {}, detail = '{}', prev = '{prev}', hash = '{hash}' WHERE seq = {seq}",
            row.at, row.result, row.closes, row.detail
        ));
    }
    assert!(matches!(bench.fault(&[]), Fault::Broken { seq: 3, .. }));
}

#[test]
fn a_cut_tail_is_found_by_the_head_or_else_by_an_anchor() {
    let bench = Bench::filled();
    let anchor = bench.anchor();
    bench.sql("DELETE FROM records WHERE seq > 5");
    assert!(matches!(bench.fault(&[]), Fault::Head { .. }));

    // Root kept the signed head of record 5 and puts it back: the log proves, and only who wrote a
    // later head down sees that something is gone.
    let bench = Bench::new();
    let mut audit = Audit::open(&bench.paths).unwrap();
    for second in 0..4 {
        audit.append(&install(Outcome::Ok, second)).unwrap();
    }
    let older = audit.log().envelope().unwrap().unwrap();
    let kept = bench.anchor();
    audit.append(&install(Outcome::Ok, 5)).unwrap();
    drop(audit);
    let newest = bench.anchor();
    bench.sql("DELETE FROM records WHERE seq > 5");
    log::set_head(&bench.root(), &older).unwrap();
    assert_eq!(bench.verify(&[kept]).unwrap().head.seq, 5);
    assert!(matches!(bench.fault(&[newest]), Fault::Anchor { seq: 6, .. }));
    assert!(matches!(bench.fault(&[anchor]), Fault::Anchor { seq: 7, .. }));
}

#[test]
fn a_log_of_somebody_elses_making_is_found() {
    let bench = Bench::filled();
    let (anchor, key) = (bench.anchor(), bench.key().public().fingerprint().unwrap());
    // A consistent log by another key, put in this one's place.
    let forger = Bench::filled();
    forger.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    bench.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::copy(Log::file(&forger.paths.audit()), Log::file(&bench.paths.audit())).unwrap();
    assert!(matches!(bench.fault(&[]), Fault::Forged { .. }));
    let error = Audit::open(&bench.paths).unwrap().append(&install(Outcome::Ok, 9)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Audit(Fault::Forged { .. })), "{error}");
    assert!(Standing::read(&bench.paths).problem().unwrap().contains("not signed by this machine's key"));
    // With the key in place of this machine's too, the log proves by itself: root can do that.
    std::fs::copy(forger.paths.appliance_key(), bench.paths.appliance_key()).unwrap();
    bench.verify(&[]).unwrap();
    assert!(matches!(bench.fault(&[anchor]), Fault::Anchor { seq: 7, .. }));
    let log = Log::look(&bench.paths.audit()).unwrap().unwrap();
    let expected = Expected { anchors: Vec::new(), key: Some(key) };
    let error = verify(&log, &bench.key().public(), &expected).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Audit(Fault::OtherKey { .. })), "{error}");
    // A head that the former key signed names that key.
    let head = Head::new(key, 7, Sha384::of(b"x"), &at(0)).sign(&ApplianceKey::from_seeds(&[1; 32], &[2; 32])).unwrap();
    let file = bench.folder.path().join("heads.jsonl");
    std::fs::write(&file, head).unwrap();
    assert!(matches!(bench.fault(&Anchor::parse_file(&file).unwrap()), Fault::OtherKey { .. }));
}

#[test]
fn what_is_gone_or_broken_is_never_begun_anew_silently() {
    let bench = Bench::filled();
    std::fs::remove_file(Log::file(&bench.paths.audit())).unwrap();
    let gone = |error: &Error| matches!(error.kind(), ErrorKind::Audit(Fault::Missing { .. }));
    assert!(gone(&Audit::open(&bench.paths).unwrap_err()));
    assert!(Standing::read(&bench.paths).problem().unwrap().contains("is gone"));

    let bench = Bench::filled();
    let fingerprint = bench.key().public().fingerprint().unwrap().to_string();
    std::fs::remove_file(bench.paths.appliance_key()).unwrap();
    let error = Audit::open(&bench.paths).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Audit(Fault::KeyMissing { key }) if *key == fingerprint), "{error}");

    let bench = Bench::filled();
    bench.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::write(Log::file(&bench.paths.audit()), [7; 8192]).unwrap();
    let error = Audit::open(&bench.paths).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Audit(Fault::Damaged { .. })), "{error}");
    // The ISSO lets another one begin; the old file stays, the new log says why.
    let (audit, aside) = Audit::renew(&bench.paths, "TEST: damaged disk", &at(50)).unwrap();
    assert!(aside.join("audit.db").exists());
    let first = audit.log().newest(1).unwrap().pop().unwrap().row;
    assert!(first.act == "audit renew" && first.detail.starts_with("TEST: damaged disk; head of the former log: "));
    drop(audit);
    bench.verify(&[]).unwrap();

    let bench = Bench::filled();
    let former = bench.rows().pop().unwrap();
    let (audit, _) = Audit::renew(&bench.paths, "TEST", &at(50)).unwrap();
    let detail = audit.log().newest(1).unwrap().pop().unwrap().row.detail;
    assert!(detail.ends_with(&format!("7:{}", former.hash)), "{detail}");
}

#[test]
fn a_cut_at_first_use_is_taken_up() {
    // After the key was drafted; after the log was made, before the key got its name.
    let bench = Bench::new();
    ApplianceKey::generate().unwrap().write(&super::draft(&bench.paths.appliance_key())).unwrap();
    let key = ApplianceKey::read(&super::draft(&bench.paths.appliance_key())).unwrap().unwrap().public();
    assert_eq!(Audit::open(&bench.paths).unwrap().key().public(), key);
    std::fs::rename(bench.paths.appliance_key(), super::draft(&bench.paths.appliance_key())).unwrap();
    let mut audit = Audit::open(&bench.paths).unwrap();
    audit.append(&install(Outcome::Ok, 1)).unwrap();
    assert_eq!((audit.key().public(), audit.head().unwrap().seq), (key, 2));
    // After the file was made, before its schema.
    let bench = Bench::new();
    crate::atomic::make_folder(&bench.paths.audit()).unwrap();
    std::fs::write(Log::file(&bench.paths.audit()), b"").unwrap();
    assert_eq!(Standing::read(&bench.paths), Standing::NotBegun);
    assert_eq!(Audit::open(&bench.paths).unwrap().head().unwrap().seq, 1);
}

#[test]
fn an_act_without_an_end_is_recorded_by_the_next() {
    let bench = Bench::filled();
    let mut audit = Audit::open(&bench.paths).unwrap();
    audit.begin(&install(Outcome::Begun, 10)).unwrap();
    drop(audit);
    assert_eq!(bench.verify(&[]).unwrap().unended, [8]);
    let mut audit = Audit::open(&bench.paths).unwrap();
    let next = audit.begin(&Record::new(&at(20), "uninstall", Outcome::Begun).of("p", "1.0")).unwrap();
    assert_eq!(next.seq, 10);
    let gap = audit.log().row(9).unwrap().unwrap().row;
    assert_eq!((gap.act.as_str(), gap.result, gap.closes, gap.product.as_str()), ("install", Outcome::Failed, 8, "p"));
    assert!(gap.detail.contains("record 8") && gap.detail.contains("uninstall"), "{}", gap.detail);
    audit.append(&Record::new(&at(21), "uninstall", Outcome::Ok).of("p", "1.0")).unwrap();
    assert_eq!(audit.log().unended().unwrap(), Vec::<u64>::new());
}

#[test]
fn a_former_history_becomes_the_first_records() {
    let bench = Bench::new();
    crate::atomic::make_folder(bench.paths.state_dir()).unwrap();
    // As the state database of the first schema has it.
    let db = Connection::open(bench.paths.database()).unwrap();
    db.execute_batch(
        "CREATE TABLE history (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, act TEXT NOT NULL, product TEXT NOT NULL,
         release TEXT NOT NULL, result TEXT NOT NULL, detail TEXT NOT NULL, actor TEXT NOT NULL) STRICT;
         INSERT INTO history VALUES (1, '2025-01-01T00:00:00Z', 'trust init', '', '', 'ok', 'abc', 'ada (uid 7)');
         INSERT INTO history VALUES (2, '2025-01-02T00:00:00Z', 'install', 'p', '1.0', 'failed', 'why', 'uid 8');",
    )
    .unwrap();
    drop(db);
    let audit = Audit::open(&bench.paths).unwrap();
    let rows: Vec<Row> = audit.log().newest(10).unwrap().into_iter().map(|stored| stored.row).collect();
    let told: Vec<String> = rows
        .iter()
        .skip(1)
        .map(|row| {
            format!(
                "{} {} {} {} {} {} {} {}",
                row.at, row.act, row.product, row.release, row.result, row.detail, row.actor, row.origin
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "2025-01-01T00:00:00Z trust init   ok abc ada (uid 7) imported",
            "2025-01-02T00:00:00Z install p 1.0 failed why uid 8 imported"
        ]
    );
    drop(audit);
    assert_eq!(Audit::open(&bench.paths).unwrap().head().unwrap().seq, 3, "once only");
    bench.verify(&[]).unwrap();
}
