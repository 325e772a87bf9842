//! The audit log by the real program: every act and every refusal on record, proved and exported;
//! a full audit disk stops changes and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bundle_format::timestamp::Timestamp;
use installer::ErrorKind;
use installer::audit::fault::Fault;
use installer::audit::{Audit, Outcome, Record};
use installer::paths::Paths;
use serde_json::Value;
use system_tests::site::Site;

/// The sites share the machine's network stack.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn same(text: String) -> String {
    text
}

/// A small file system in memory; gone when it is dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(path).status();
        assert!(status.unwrap().success(), "mounting needs root");
        Self { path: path.to_owned() }
    }

    /// Fills it to the last byte: the kernel's own ENOSPC from here on.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.path.join("filler")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        let error = std::fs::write(self.path.join("one more"), [0; 4096]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        drop(std::fs::remove_file(self.path.join("one more")));
    }

    fn free(&self) {
        std::fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.path).status());
    }
}

fn records(site: &Site) -> Vec<Value> {
    let said = site.installer(&["audit", "export"]).expect(0);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn trust(site: &Site, more: &[&str]) -> system_tests::site::Said {
    let fingerprint = site.fingerprint();
    site.installer(&[&["trust", "init", "root-1.json", "--fingerprint", &fingerprint], more].concat())
}

#[test]
fn every_act_and_refusal_is_on_record_and_proves() {
    let _machine = machine();
    let site = Site::new(18120);
    site.release(1, Site::GOOD, same);
    site.bundle("good.tar", &["alice", "bob"]);
    site.bundle("one-signer.tar", &["alice"]);
    site.installer(&["--yes", "install", "good.tar"]).expect(4);
    assert!(!site.path("high/state/audit").exists(), "without a trust root nothing is worth a record");
    site.installer(&["audit", "verify"]).expect(2);
    trust(&site, &[]).expect(0);
    site.installer(&["--yes", "install", "one-signer.tar"]).expect(4);
    site.installer(&["verify", "one-signer.tar"]).expect(4);
    let busy = std::net::TcpListener::bind(("127.0.0.1", site.port)).unwrap();
    site.installer(&["--yes", "install", "good.tar"]).expect(6);
    drop(busy);
    let lock = std::fs::File::options().write(true).open(site.path("high/state/lock")).unwrap();
    lock.lock().unwrap();
    site.installer(&["--yes", "install", "good.tar"]).expect(6);
    drop(lock);
    site.release(2, Site::GOOD, |text| text.replace("marking: UNCLASSIFIED", "marking: SECRET"));
    site.bundle("secret.tar", &["alice", "bob"]);
    site.installer(&["--yes", "install", "secret.tar"]).expect(5);
    site.installer(&["--yes", "install", "good.tar"]).expect(0);
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);

    let rows = records(&site);
    let told: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["act"].as_str().unwrap(), row["result"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            "audit init ok",
            "trust init begun",
            "trust init ok",
            "install refused",
            "verify refused",
            "install refused",
            "install refused",
            "install refused",
            "install begun",
            "install ok",
            "uninstall begun",
            "uninstall ok"
        ]
    );
    for (at, word) in
        [(3, "2 distinct ed25519 keys"), (5, "127.0.0.1:18120"), (6, "another installer"), (7, "accreditation")]
    {
        assert!(rows[at]["detail"].as_str().unwrap().contains(word), "{}", rows[at]);
    }
    assert_eq!((&rows[9]["closes"], &rows[11]["closes"]), (&9.into(), &11.into()));
    let manifest = rows[8]["subject"].as_str().unwrap();
    assert!(manifest.len() == 96 && rows[7]["product"] == site.name(), "a proved bundle is named: {}", rows[7]);
    assert!(rows.iter().all(|row| row["actor"].as_str().unwrap().contains("uid ") && row["host"] != ""));

    // By stock tools: each line names the SHA-384 of the line before it.
    let script = "prev=$(printf '%096d' 0); while IFS= read -r line; do [ \"$(jq -r .prev <<<\"$line\")\" = \"$prev\" ] || exit 1; \
                  prev=$(printf '%s\\n' \"$line\" | sha384sum | cut -d' ' -f1); done; echo \"$prev\"";
    std::fs::write(site.path("log.jsonl"), site.installer(&["audit", "export"]).expect(0).out).unwrap();
    let by_hand = site.tool("bash", &["-c", &format!("{{ {script}; }} < log.jsonl")]).expect(0).out;
    let status: Value = serde_json::from_str(&site.installer(&["--json", "status"]).expect(0).out).unwrap();
    assert_eq!(status["audit"]["hash"].as_str().unwrap(), by_hand.trim());
    assert_eq!(status["audit"]["records"], 12);

    // What a person kept elsewhere: the card, the signed head, the key.
    let card: Value = serde_json::from_str(&site.installer(&["--json", "audit", "card"]).expect(0).out).unwrap();
    let card = card["card"].as_str().unwrap();
    assert!(site.installer(&["audit", "card"]).expect(0).out.contains('\u{2588}'), "a QR code follows");
    std::fs::write(site.path("heads.jsonl"), site.installer(&["audit", "head"]).expect(0).out).unwrap();
    let key = status["audit"]["key"].as_str().unwrap().to_owned();
    let shown = site.installer(&["--json", "audit", "key"]).expect(0).out;
    assert_eq!(bundle_format::digest::Sha384::of(shown.as_bytes()).to_string(), key);
    site.installer(&["audit", "verify", "--anchor", card, "--anchor-file", "heads.jsonl", "--key", &key]).expect(0);
    site.installer(&["audit", "verify", "--key", &"0".repeat(96)]).expect(4);
    let digit = if card.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{digit}", &card[..card.len() - 1]);
    let said = site.installer(&["audit", "verify", "--anchor", &wrong]).expect(4);
    assert!(said.err.contains("record 12 should be"), "{}", said.err);
    site.installer(&["audit", "verify", "--anchor", "12:0123"]).expect(2);

    for (format, count) in [("rfc5424", "<1"), ("cef", "CEF:0|Lockgate|installer|")] {
        let said = site.installer(&["audit", "export", "--format", format, "--since", "9"]).expect(0);
        assert_eq!((said.out.lines().count(), said.out.matches(count).count()), (3, 3), "{}", said.out);
    }

    // Root edits the database: status and verify say so, and nothing is changed on top of it.
    let db = rusqlite::Connection::open(site.path("high/state/audit/audit.db")).unwrap();
    db.execute_batch("DROP TRIGGER records_are_kept; DELETE FROM records WHERE seq > 10").unwrap();
    drop(db);
    let said = site.installer(&["audit", "verify"]).expect(4);
    assert!(said.err.contains("the signed head is record 12"), "{}", said.err);
    let said = site.installer(&["status"]).expect(8);
    assert!(said.err.contains("the signed head is record 12"), "{}", said.err);
    site.installer(&["--yes", "install", "good.tar"]).expect(4);
    site.assert_nothing_left();
    site.installer(&["audit", "renew", "--reason", "TEST"]).expect(2);
    site.installer(&["--yes", "audit", "renew", "--reason", "TEST inquiry 7"]).expect(0);
    let rows = records(&site);
    assert!(rows.len() == 1 && rows[0]["detail"].as_str().unwrap().starts_with("TEST inquiry 7"), "{rows:?}");
    site.installer(&["audit", "verify"]).expect(0);
}

#[test]
fn duties_are_on_record_whether_they_end_well_or_not() {
    let _machine = machine();
    let site = Site::new(18122);
    let data = format!("  data:\n    - {{volume: {}-data, backup: {{method: copy}}, keep: 2}}\n", site.name());
    site.release(1, Site::GOOD, |text| text.replace(Site::QUICK, &format!("lifecycle:\n  stable_seconds: 1\n{data}")));
    site.bundle("good.tar", &["alice", "bob"]);
    trust(&site, &[]).expect(0);
    site.installer(&["--yes", "install", "good.tar"]).expect(0);
    let before = records(&site).len();

    // A file where the backups' folder would be made.
    std::fs::write(site.path("high/state/backups"), "").unwrap();
    site.installer(&["backup", "make", "--scheduled"]).expect(6);
    std::fs::remove_file(site.path("high/state/backups")).unwrap();
    let made: Value = serde_json::from_str(&site.installer(&["--json", "backup", "make"]).expect(0).out).unwrap();
    let folder = made["backup"].as_str().unwrap().to_owned();
    site.installer(&["backup", "verify", &folder]).expect(0);
    std::fs::write(Path::new(&folder).join(format!("{}-data.tar.zst", site.name())), "rot").unwrap();
    site.installer(&["backup", "verify", &folder]).expect(3);
    site.installer(&["backup", "verify", "nowhere"]).expect(3);
    site.installer(&["import", "good.tar", "--store", "imported"]).expect(0);
    site.installer(&["import", "good.tar", "--store", "good.tar/below"]).expect(6);
    site.installer(&["check"]).expect(0);
    assert!(site.installer(&["status"]).expect(0).out.contains(": everything is as signed"));
    site.podman(&["stop", "-t", "1", &format!("{}-web", site.name())]).expect(0);
    site.installer(&["check"]).expect(8);
    let said = site.installer(&["status"]).expect(8);
    assert!(said.out.contains("NOT AS SIGNED: 1 differ: "), "{}", said.out);
    site.installer(&["--yes", "repair"]).expect(0);
    assert!(site.installer(&["status"]).expect(0).out.contains("; repaired since, at "));
    // What only shows, or was never a command, is not.
    site.installer(&["backup", "list"]).expect(0);
    site.installer(&["backup", "make", "--product", "other"]).expect(2);

    let rows = records(&site).split_off(before);
    let manifest = rows[1]["subject"].clone();
    let told: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row["act"], row["result"]).replace('"', "")).collect();
    let expected = [
        "backup failed",
        "backup ok",
        "backup verify ok",
        "backup verify failed",
        "backup verify failed",
        "import ok",
        "import failed",
        "check ok",
        "check failed",
        "repair begun",
        "repair ok",
    ];
    assert_eq!(told, expected);
    assert!(manifest.as_str().unwrap().len() == 96 && [0, 2, 3, 5].iter().all(|at| rows[*at]["subject"] == manifest));
    for (at, part) in [
        (0, "backups"),
        (1, folder.as_str()),
        (2, folder.as_str()),
        (3, "expected"),
        (4, "nowhere"),
        (5, "imported"),
        (6, "good.tar"),
        (8, "it does not run"),
        (9, "plan SHA-384 "),
    ] {
        assert!(rows[at]["detail"].as_str().unwrap().contains(part), "{part}: {}", rows[at]);
    }
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}

#[test]
fn a_full_audit_disk_stops_changes_and_nothing_else() {
    let _machine = machine();
    let site = Site::new(18121);
    let disk = Disk::mount(&site.path("auditfs"), "3m");
    site.release(1, Site::GOOD, same);
    site.bundle("good.tar", &["alice", "bob"]);
    site.release(2, Site::GOOD, same);
    site.bundle("next.tar", &["alice", "bob"]);
    let folder = site.path("auditfs/log").display().to_string();
    trust(&site, &["--audit-dir", &folder]).expect(0);
    assert!(site.path("auditfs/log/audit.db").exists());
    site.installer(&["--yes", "install", "good.tar"]).expect(0);
    let before = records(&site);

    disk.fill();
    let said = site.installer(&["--yes", "install", "next.tar"]).expect(6);
    assert!(said.err.contains("audit log: cannot be written") && said.err.contains("make room"), "{}", said.err);
    let said = site.installer(&["--yes", "uninstall", "--product", &site.name()]).expect(6);
    assert!(said.err.contains("audit log: cannot be written"), "{}", said.err);
    assert!(site.answers(), "the platform runs on");
    let status = site.installer(&["--json", "status"]).expect(0);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!((&status["products"][0]["sequence"], &status["audit"]["records"]), (&1.into(), &before.len().into()));
    assert_eq!(records(&site), before, "what is on record can be read");
    site.installer(&["audit", "verify"]).expect(0);
    site.installer(&["verify", "next.tar"]).expect(0);
    // A refusal stands even if it cannot be put on record, and that is said loudly.
    site.release(3, Site::GOOD, |text| text.replace("marking: UNCLASSIFIED", "marking: SECRET"));
    site.bundle("secret.tar", &["alice", "bob"]);
    let said = site.installer(&["--yes", "install", "secret.tar"]).expect(5);
    assert!(said.err.contains("AUDIT RECORD LOST"), "{}", said.err);

    disk.free();
    site.installer(&["--yes", "install", "next.tar"]).expect(0);
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.installer(&["audit", "verify"]).expect(0);
    // Its file system not mounted: not begun anew in the empty folder below.
    drop(disk);
    assert!(!site.path("auditfs/log").exists());
    for act in [&["--yes", "install", "next.tar"][..], &["audit", "verify"]] {
        let said = site.installer(act).expect(4);
        assert!(said.err.contains("is gone: its file system is not mounted"), "{}", said.err);
    }
    site.assert_nothing_left();
}

#[test]
fn an_end_that_finds_no_room_is_a_gap_on_record() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let disk = Disk::mount(&folder.path().join("disk"), "300k");
    let paths = Paths::new(folder.path().join("state"));
    installer::audit::place::choose(&paths, &disk.path.join("log")).unwrap();
    let record = |act: &str, outcome| Record::new(&Timestamp::from_unix(1), act, outcome).of("p", "1");
    let mut audit = Audit::open(&paths).unwrap();
    let begun = audit.begin(&record("install", Outcome::Begun)).unwrap().seq;
    disk.fill();
    // Room that SQLite had taken before may still serve; it ends soon.
    let full = (0..200).find_map(|_| audit.append(&record("filler", Outcome::Refused)).err()).unwrap();
    assert!(matches!(full.kind(), ErrorKind::Audit(Fault::Unwritable { .. })), "{full}");
    assert_eq!(full.class().exit_code(), 6);
    let lost = audit.append(&record("install", Outcome::Ok)).unwrap_err();
    assert!(matches!(lost.kind(), ErrorKind::Audit(Fault::Unwritable { .. })), "{lost}");
    drop(audit);
    let refused =
        Audit::open(&paths).and_then(|mut audit| audit.begin(&record("uninstall", Outcome::Begun))).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Audit(Fault::Unwritable { .. })), "{refused}");

    disk.free();
    let mut audit = Audit::open(&paths).unwrap();
    assert_eq!(audit.log().unended().unwrap(), [begun]);
    audit.begin(&record("uninstall", Outcome::Begun)).unwrap();
    let rows = audit.log().newest(2).unwrap();
    assert_eq!((rows[0].row.closes, rows[0].row.result, rows[0].row.act.as_str()), (begun, Outcome::Failed, "install"));
    assert_eq!(rows[1].row.act, "uninstall");
    audit.head().unwrap();
}

#[test]
fn what_was_cut_off_is_ended_on_a_full_audit_disk_by_a_wrong_clock() {
    for (act, sequence) in [("resume", 2), ("rollback", 1)] {
        system_tests::cuts::fresh(|ground, case| {
            let bundle = |name: &str| ground.path(name).display().to_string();
            case.installer(&["--yes", "install", &bundle("one.tar")]).expect(0);
            system_tests::cuts::cut_at_first_start(ground, case, &bundle("two.tar"));
            // The log on a disk of its own, with a record from the day after tomorrow, and not a byte of room.
            let folder = case.state().join("audit");
            let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            let kept: Vec<_> = files.iter().map(|path| (path, std::fs::read(path).unwrap())).collect();
            let disk = Disk::mount(&folder, "2m");
            for (path, bytes) in kept {
                std::fs::write(path, bytes).unwrap();
            }
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let late = Timestamp::from_unix(now + 2 * 24 * 3600);
            let filler = Record::new(&late, "filler", Outcome::Refused);
            let add = || Audit::open(&Paths::new(case.state())).and_then(|mut audit| audit.append(&filler));
            add().unwrap();
            // Closing it gives back the room of the write-ahead log.
            let full = (0..500).find_map(|_| {
                disk.fill();
                add().err()
            });
            assert!(full.is_some(), "room for 500 records on a full disk");

            let said = case.installer(&["--yes", act]).expect(0);
            assert!(said.err.contains("AUDIT RECORD LOST: clock suspect"), "{}", said.err);
            let status = case.installer(&["--json", "status"]);
            let status: Value = serde_json::from_str(&status.out).unwrap();
            assert_eq!((&status["products"][0]["sequence"], &status["unfinished"]), (&sequence.into(), &Value::Null));
            // What begins something is refused as ever.
            let said = case.installer(&["--yes", "rollback"]).expect(6);
            assert!(said.err.contains("audit log: cannot be written"), "{}", said.err);
        });
    }
}
