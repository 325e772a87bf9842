//! Updates that are cut off, taken back, backed up, restored, checked: the real programs on the real
//! engine. Each test has a site of its own; they share the machine's network stack. Long, because a test
//! tells a site's life from its beginning.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use system_tests::site::Site;

static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces the release's lifecycle.
fn lifecycle(text: &str) -> impl FnOnce(String) -> String {
    let text = format!("lifecycle:\n  stable_seconds: 1\n{text}");
    move |release| release.replace(Site::QUICK, &text)
}

fn status(site: &Site) -> serde_json::Value {
    serde_json::from_str(&site.installer(&["--json", "status"]).out).unwrap()
}

/// What the running release sees as its data.
fn data(site: &Site) -> String {
    site.podman(&["exec", &format!("{}-web", site.name()), "cat", "/data/file"]).expect(0).out
}

fn write(site: &Site, line: &str) {
    let command = format!("echo {line} >> /data/file");
    site.podman(&["exec", &format!("{}-web", site.name()), "sh", "-c", &command]).expect(0);
}

fn end(site: &Site) {
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}

/// Version 1, and version 2 with a migration and a check, both signed.
fn two_releases(site: &Site) {
    let container = format!("{}-web", site.name());
    site.release(1, Site::GOOD, lifecycle("  security_epoch: 0\n"));
    site.bundle("one.tar", &["alice", "bob"]);
    let two = format!(
        "  migrations:\n    - {{name: add-line, since: 2, container: {container}, up: [sh, -c, \"grep -q migrated /data/file || echo migrated >> /data/file\"]}}\n  \
         checks:\n    - {{name: data, kind: exec, container: {container}, command: [cat, /data/file], expect: migrated}}\n    \
         - {{name: page, kind: http, port: {port}, path: /, status: 200}}\n",
        port = site.port
    );
    site.release(2, Site::GOOD, lifecycle(&two));
    site.bundle("two.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    write(site, "first");
}

#[test]
fn going_back_brings_the_data_of_the_switch_and_forward_again_the_newer() {
    let _machine = machine();
    let site = Site::new(18121);
    two_releases(&site);
    let plan = site.installer(&["plan", "two.tar"]).expect(0).out;
    for part in ["migration add-line is run", "stop the running release", "downtime", "if it fails: undone"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    assert_eq!(data(&site), "first\nmigrated\n");
    write(&site, "second");
    let generations = status(&site)["products"][0]["generations"].clone();
    assert_eq!(generations.as_array().unwrap().len(), 2, "{generations}");

    let refused = site.installer(&["--yes", "rollback", "--keep-data"]).expect(5);
    assert!(refused.err.contains("migration add-line has no way back"), "{}", refused.err);
    site.installer(&["--yes", "rollback", "--to", "99"]).expect(2);
    site.installer(&["--yes", "rollback"]).expect(0);
    assert_eq!(data(&site), "first\n", "the data of the time of the switch");
    assert_eq!(status(&site)["products"][0]["sequence"], 1);
    assert_eq!(status(&site)["products"][0]["floor"], 2, "the floor stays");
    site.installer(&["--yes", "install", "one.tar"]).expect(5);

    site.installer(&["--yes", "rollback", "--to", "2"]).expect(0);
    assert_eq!(data(&site), "first\nmigrated\nsecond\n", "and forward again, with what was written there");
    end(&site);
}

#[test]
fn an_update_that_fails_leaves_release_and_data_as_they_were() {
    let _machine = machine();
    let site = Site::new(18122);
    two_releases(&site);
    let container = format!("{}-web", site.name());
    // Its migration changes the data; then a check fails.
    let bad = format!(
        "  deadline_seconds: 15\n  migrations:\n    - {{name: spoil, since: 2, container: {container}, up: [sh, -c, \"echo spoilt > /data/file\"]}}\n  \
         checks:\n    - {{name: never, kind: exec, container: {container}, command: [cat, /data/file], expect: fine}}\n"
    );
    site.release(2, Site::GOOD, lifecycle(&bad));
    site.bundle("bad.tar", &["alice", "bob"]);
    let failed = site.installer(&["--yes", "install", "bad.tar"]).expect(7);
    assert!(failed.err.contains("check never: expected \"fine\""), "{}", failed.err);
    assert_eq!(data(&site), "first\n");
    assert_eq!(status(&site)["products"][0]["sequence"], 1);
    assert!(status(&site)["unfinished"].is_null());

    // A release that is not for what runs, and one that a higher epoch forbids to return to.
    site.release(9, Site::GOOD, lifecycle("  from: {min: 5, max: 8}\n"));
    site.bundle("nine.tar", &["alice", "bob"]);
    let refused = site.installer(&["--yes", "install", "nine.tar"]).expect(5);
    assert!(refused.err.contains("applied over sequences 5 to 8; sequence 1 runs"), "{}", refused.err);
    site.release(3, Site::GOOD, lifecycle("  security_epoch: 4\n"));
    site.bundle("three.tar", &["alice", "bob"]);
    site.installer(&["--yes", "install", "three.tar"]).expect(0);
    let refused = site.installer(&["--yes", "rollback"]).expect(5);
    assert!(refused.err.contains("has security epoch 0, this machine's floor is 4"), "{}", refused.err);
    end(&site);
}

#[test]
fn a_cut_update_is_resumed_or_taken_back() {
    let _machine = machine();
    let site = Site::new(18123);
    two_releases(&site);
    // Killed as it switches, as it writes a workload, as it records the commit.
    let kill = |what: &str| {
        let inject = format!("inject={what}:signal=KILL:when=1");
        let trace = format!("trace={}", what.split(':').next().unwrap());
        let args = ["-f", "-qq", "-b", "execve", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let said = site.installer_under("strace", &args, &["--yes", "install", "two.tar"]);
        assert_ne!(said.code, 0, "{}", said.err);
    };
    kill("symlink,symlinkat");
    let open = status(&site)["unfinished"].clone();
    assert_eq!((&open["act"], &open["phase"]), (&"install".into(), &"switching".into()), "{open}");
    site.installer(&["--yes", "backup", "make"]).expect(8);
    site.installer(&["--yes", "rollback"]).expect(0);
    assert_eq!(data(&site), "first\n");
    assert!(status(&site)["unfinished"].is_null());

    kill("symlink,symlinkat");
    site.installer(&["--yes", "resume"]).expect(0);
    assert_eq!(data(&site), "first\nmigrated\n");
    assert_eq!(status(&site)["products"][0]["sequence"], 2);
    assert_eq!(site.installer(&["--yes", "resume"]).expect(0).out.trim(), "nothing was left to do");

    // The machine restarts twice inside a trial: the guard counts, then decides for the former release.
    site.release(3, Site::GOOD, lifecycle("  security_epoch: 0\n"));
    site.bundle("three.tar", &["alice", "bob"]);
    let link = site.path(&format!("high/state/generations/{}/current", site.name()));
    let before = std::fs::read_link(&link).unwrap();
    let mut child = std::process::Command::new(system_tests::site::program("installer"))
        .args(["--state-dir", "high/state", "--yes", "install", "three.tar"])
        .current_dir(site.path(""))
        .env("CONTAINERS_STORAGE_CONF", site.path("storage.conf"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while std::fs::read_link(&link).unwrap() == before || status(&site)["unfinished"]["phase"] != "trial" {
        assert!(child.try_wait().unwrap().is_none(), "it ended before the trial");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    site.installer(&["--yes", "resume", "--guard"]).expect(0);
    assert_ne!(std::fs::read_link(&link).unwrap(), before, "the first start goes on with the new release");
    site.installer(&["--yes", "resume", "--guard"]).expect(0);
    assert_eq!(std::fs::read_link(&link).unwrap(), before, "the second goes back");
    site.installer(&["--yes", "resume", "--boot"]).expect(0);
    assert_eq!(status(&site)["products"][0]["sequence"], 2);
    assert_eq!(data(&site), "first\nmigrated\n");
    end(&site);
}

#[test]
fn a_backup_is_read_back_and_restored() {
    let _machine = machine();
    let site = Site::new(18124);
    let data_line = format!("  data:\n    - {{volume: {}-data, backup: {{method: copy}}, keep: 2}}\n", site.name());
    site.release(1, Site::GOOD, lifecycle(&data_line));
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    write(&site, "kept");
    let made = site.installer(&["--json", "backup", "make"]).expect(0).out;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let folder = made["backup"].as_str().unwrap().to_owned();
    assert!(site.answers(), "the pods go on");
    site.installer(&["backup", "verify", &folder]).expect(0);
    write(&site, "later");
    site.installer(&["--yes", "restore", &folder]).expect(0);
    assert_eq!(data(&site), "kept\n");
    // What was there before the restore is a generation to go back to.
    site.installer(&["--yes", "rollback"]).expect(0);
    assert_eq!(data(&site), "kept\nlater\n");

    let archive = std::path::Path::new(&folder).join(format!("{}-data.tar.zst", site.name()));
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    site.installer(&["backup", "verify", &folder]).expect(3);
    site.installer(&["--yes", "restore", &folder]).expect(3);
    assert_eq!(data(&site), "kept\nlater\n");

    // Onto a machine that lost everything: install, then restore.
    for _ in 0..3 {
        site.installer(&["backup", "make"]).expect(0);
    }
    let listed = site.installer(&["--json", "backup", "list"]).expect(0).out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let backups = listed["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 2, "as many as the release keeps");
    let newest = backups.last().unwrap()["path"].as_str().unwrap();
    site.tool("cp", &["-a", newest, "carried"]).expect(0);
    end(&site);
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    site.installer(&["--yes", "restore", "carried"]).expect(0);
    assert_eq!(data(&site), "kept\nlater\n");
    end(&site);
}

fn rot(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn drift_is_named_and_repaired() {
    let _machine = machine();
    let site = Site::new(18125);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    write(&site, "kept");
    site.installer(&["check"]).expect(0);
    let workload = site.path(&format!("high/state/generations/{}/1/web.yaml", site.name()));
    let text = std::fs::read_to_string(&workload).unwrap();
    std::fs::write(&workload, text.replace("Always", "Never")).unwrap();
    site.podman(&["stop", "-t", "1", &format!("{}-web", site.name())]).expect(0);
    let found = site.installer(&["check"]).expect(8);
    for part in ["web.yaml is not as signed", "it does not run"] {
        assert!(found.err.contains(part), "{part}: {}", found.err);
    }
    site.installer(&["--yes", "repair"]).expect(0);
    site.installer(&["check"]).expect(0);
    assert_eq!(data(&site), "kept\n");
    // A workload that rots in the store comes back from its second copy.
    let spares = site.path("high/state/store/spare");
    let spare = std::fs::read_dir(&spares).unwrap().next().unwrap().unwrap();
    let blobs = site.path("high/state/store/blobs/sha256");
    let workload = blobs.join(spare.file_name());
    rot(&workload);
    let found = site.installer(&["check"]).expect(8);
    assert!(found.err.contains("its bytes hash to"), "{}", found.err);
    site.installer(&["--yes", "repair"]).expect(0);
    site.installer(&["check"]).expect(0);
    // The release can be taken off all the same when a workload rots again.
    rot(&workload);
    end(&site);
}

/// The two releases of [`two_releases`], where the first declares its data.
fn two_with_data(site: &Site) {
    let data_line = format!("  data:\n    - {{volume: {}-data, backup: {{method: copy}}, keep: 9}}\n", site.name());
    for (sequence, bundle) in [(1, "one.tar"), (2, "two.tar")] {
        site.release(sequence, Site::GOOD, lifecycle(&data_line));
        site.bundle(bundle, &["alice", "bob"]);
    }
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    write(site, "first");
}

/// Products of the backups that are there, one for each.
fn backups(site: &Site) -> Vec<String> {
    let listed = site.installer(&["--json", "backup", "list"]).expect(0).out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let backups = listed["backups"].as_array().unwrap().iter();
    backups.map(|backup| backup["product"].as_str().unwrap().to_owned()).collect()
}

/// A podman before the real one, with more shell.
fn shim(site: &Site, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(site.path("shim")).unwrap();
    let real = site.tool("sh", &["-c", "command -v podman"]).expect(0).out;
    std::fs::write(site.path("shim/podman"), format!("#!/bin/sh\n{script}\nexec {} \"$@\"\n", real.trim())).unwrap();
    std::fs::set_permissions(site.path("shim/podman"), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", site.path("shim").display(), std::env::var("PATH").unwrap())
}

#[test]
fn an_installer_that_is_killed_is_finished_by_the_machine() {
    let _machine = machine();
    let site = Site::new(18126);
    two_with_data(&site);
    let quiet = |site: &Site| {
        let said = site.installer(&["--yes", "resume", "--boot"]).expect(0);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""), "not a word where there is nothing to do");
    };
    let phase = || status(&site)["unfinished"]["phase"].clone();
    quiet(&site);

    // Killed while it stages: for a person to decide. The data of what runs is backed up all the same.
    let path = shim(&site, "case \"$*\" in *\"volume create\"*) kill -9 $PPID; exit 1;; esac");
    assert_eq!(site.installer_env(&["--yes", "install", "two.tar"], &[("PATH", &path)]).code, -1, "killed");
    assert_eq!(phase(), "staging");
    quiet(&site);
    assert_eq!(phase(), "staging");
    let before = backups(&site).len();
    site.installer(&["backup", "make", "--scheduled"]).expect(0);
    assert_eq!(backups(&site).len(), before + 1);
    site.installer(&["backup", "make"]).expect(8);

    // Killed as it switches. Nothing is done, or said, while another installer is at work.
    let kill = ["-f", "-qq", "-b", "execve", "-o", "/dev/null", "-e", "trace=symlink,symlinkat"];
    let kill = [&kill[..], &["-e", "inject=symlink,symlinkat:signal=KILL:when=1"]].concat();
    assert_ne!(site.installer_under("strace", &kill, &["--yes", "install", "two.tar"]).code, 0);
    assert_eq!(phase(), "switching");
    let lock = std::fs::File::options().write(true).open(site.path("high/state/lock")).unwrap();
    lock.lock().unwrap();
    quiet(&site);
    site.installer(&["--yes", "resume"]).expect(6);
    assert_eq!(phase(), "switching");
    drop(lock);
    let count = backups(&site).len();
    site.installer(&["backup", "make", "--scheduled"]).expect(0);
    assert_eq!(backups(&site).len(), count, "what runs is not what it was: no backup now");
    let said = site.installer(&["--yes", "resume", "--boot"]).expect(0);
    assert!(said.out.contains("taken back"), "{}", said.out);
    assert!(status(&site)["unfinished"].is_null());
    assert_eq!((status(&site)["products"][0]["sequence"].clone(), data(&site)), (1.into(), "first\n".into()));
    quiet(&site);

    // What cannot be undone is tried five times, then it is for a person.
    assert_ne!(site.installer_under("strace", &kill, &["--yes", "install", "two.tar"]).code, 0);
    let path = shim(&site, "case \"$*\" in *\"volume rm\"*) exit 9;; esac");
    let resume = || site.installer_env(&["--yes", "resume", "--boot"], &[("PATH", &path)]).expect(8);
    for _ in 0..5 {
        assert!(resume().err.contains("volume rm"), "tried");
    }
    let said = resume();
    assert!(said.err.contains("is not over: it is undoing") && !said.err.contains("volume rm"), "{}", said.err);
    site.installer(&["--yes", "resume"]).expect(0);
    assert!(status(&site)["unfinished"].is_null());
    end(&site);
}

#[test]
fn scheduled_backups_are_of_every_product_and_failures_on_record() {
    let _machine = machine();
    let site = Site::new(18127);
    two_with_data(&site);
    // Another product on the same machine.
    let other = |text: String| text.replace(&site.name(), "other").replace("18127", "18147");
    let data_line = format!("  data:\n    - {{volume: {}-data, backup: {{method: copy}}, keep: 9}}\n", site.name());
    site.release(1, Site::GOOD, |text| other(lifecycle(&data_line)(text)));
    let workload = site.path("release/web.yaml");
    std::fs::write(&workload, other(std::fs::read_to_string(&workload).unwrap())).unwrap();
    site.bundle("other.tar", &["alice", "bob"]);
    site.installer(&["--yes", "install", "other.tar"]).expect(0);

    let said = site.installer(&["backup", "make"]).expect(2);
    assert!(said.err.contains("give --product"), "{}", said.err);
    site.installer(&["backup", "make", "--scheduled"]).expect(0);
    assert_eq!(backups(&site), ["other".to_owned(), site.name()]);

    // One that fails keeps the other from nothing, and is on record by its name.
    let folder = site.path("high/state/backups").join("other");
    std::fs::rename(&folder, site.path("aside")).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let failed = site.installer(&["backup", "make", "--scheduled"]).expect(6);
    assert!(failed.err.contains("backups/other"), "{}", failed.err);
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(site.path("aside"), &folder).unwrap();
    assert_eq!(backups(&site), ["other".to_owned(), site.name(), site.name()]);
    let history = site.installer(&["--json", "history"]).expect(0).out;
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let rows = history.as_array().unwrap().iter().filter(|row| row["act"] == "backup");
    let rows: Vec<(&str, &str)> =
        rows.map(|row| (row["product"].as_str().unwrap(), row["result"].as_str().unwrap())).collect();
    assert_eq!(rows.iter().filter(|row| **row == ("other", "failed")).count(), 1, "{rows:?}");
    assert_eq!(rows.iter().filter(|row| **row == (site.name().as_str(), "ok")).count(), 2, "{rows:?}");
    assert!(!rows.iter().any(|row| row.1 == "refused"), "{rows:?}");
    site.installer(&["--yes", "uninstall", "--product", "other", "--with-data"]).expect(0);
    end(&site);
}

fn json(said: &system_tests::site::Said) -> serde_json::Value {
    serde_json::from_str(said.out.lines().next().unwrap()).unwrap()
}

/// The plan for a bundle. Its disk is what preflight asks for, part by part, and the sum of its steps.
fn planned(site: &Site, bundle: &str) -> serde_json::Value {
    let plan = json(&site.installer(&["--json", "plan", bundle]).expect(0));
    let findings = json(&site.installer(&["--json", "preflight", bundle]).expect(0));
    let disks = findings["findings"].as_array().unwrap().iter();
    let disks = disks.filter(|finding| finding["id"].as_str().unwrap().starts_with("disk-"));
    let needed: Vec<&str> = disks.map(|finding| finding["needed"].as_str().unwrap()).collect();
    let disk = |part: &str| plan["disk"][part].as_u64().unwrap();
    let data = disk("data") + disk("platform");
    for (part, bytes) in [
        ("store", disk("store")),
        ("backups", disk("backups")),
        ("images", disk("images")),
        ("copies", disk("copies")),
        ("data", data),
    ] {
        let part = format!("{part} {}", bytes.div_ceil(1 << 20));
        assert!(needed.iter().any(|text| text.contains(&part)), "{part}: {needed:?}");
    }
    let of_steps: u64 = plan["steps"].as_array().unwrap().iter().map(|s| s["disk_bytes"].as_u64().unwrap()).sum();
    assert_eq!(of_steps + disk("platform"), disk("total"));
    plan
}

fn says(plan: &serde_json::Value, list: &str, texts: &[&str]) {
    let list = plan[list].as_array().unwrap();
    for text in texts {
        assert!(list.iter().any(|line| line.as_str().unwrap().contains(text)), "{text}: {list:#?}");
    }
}

#[test]
fn the_plan_of_an_installation() {
    let _machine = machine();
    let site = Site::new(18129);
    site.release(1, Site::GOOD, lifecycle("  security_epoch: 0\n"));
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    let plan = planned(&site, "one.tar");
    assert_eq!((&plan["from"], &plan["to"]), (&serde_json::Value::Null, &"1.0 (sequence 1)".into()));
    let disk = &plan["disk"];
    assert_eq!((&disk["held"], &disk["backups"], &disk["data"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!((&disk["store"], &disk["platform"]), (&plan["content_bytes"], &(16 << 20).into()));
    assert!(disk["images"].as_u64() > disk["store"].as_u64(), "unpacked images are counted: {disk}");
    let copies = disk["copies"].as_u64().unwrap();
    assert!(copies > 0 && 3 * copies == disk["images"].as_u64().unwrap(), "one image, as it is carried: {disk}");
    says(&plan, "changes", &["image registry.example/test/minimal is new", "setting network is new: t18129", "size "]);
    let within = "platform linux/amd64, marking UNCLASSIFIED within UNCLASSIFIED";
    says(&plan, "needs", &[within, "not below the floor 0", "16 MiB of memory"]);
    let steps = plan["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["measured"] == false));
    let clear = steps.last().unwrap()["way_back"].as_str().unwrap();
    assert!(clear.contains("there is no former release"), "{clear}");
    site.assert_nothing_left();
}

#[test]
fn the_plan_of_an_update() {
    let _machine = machine();
    let site = Site::new(18128);
    let name = site.name();
    let data_line = format!("  data:\n    - {{volume: {name}-data, backup: {{method: copy}}, keep: 2}}\n");
    site.release(1, Site::GOOD, lifecycle(&data_line));
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    let dd = ["busybox", "dd", "if=/dev/zero", "of=/data/file", "bs=1M", "count=3"];
    site.podman(&[&["exec", &format!("{name}-web")], &dd[..]].concat()).expect(0);

    // An update that changes everything that can change; it is only planned.
    let new = format!(
        "  deadline_seconds: 77\n  security_epoch: 3\n  from: {{min: 1, max: 5}}\n  data:\n    - {{volume: {name}-data, backup: {{method: copy}}, keep: 5}}\n  \
         checks:\n    - {{name: page, kind: http, port: {port}, path: /, status: 200}}\n  \
         migrations:\n    - {{name: add, since: 2, container: {name}-web, up: [cat, /data/file]}}\n",
        port = site.port
    );
    std::fs::write(site.path("release/note.txt"), "a note").unwrap();
    site.release(2, Site::GOOD, |text| {
        lifecycle(&new)(text)
            .replace("internal: true", "internal: false")
            .replace("memory_mib: 16", "memory_mib: 17")
            .replace("disk_mib: 16", "disk_mib: 20")
            .replace("kind: password}]", "kind: password}, {name: more, kind: password}]")
            .replace("files: []", "files: [{path: note.txt, source: \"file:note.txt\"}]")
    });
    site.bundle("two.tar", &["alice", "bob"]);
    let plan = planned(&site, "two.tar");
    let disk = &plan["disk"];
    let bytes = |part: &str| disk[part].as_u64().unwrap();
    assert!(bytes("data") >= 3 << 20 && bytes("backups") == 2 * bytes("data"), "the copy and its archive: {disk}");
    assert!(bytes("images") == 0 && bytes("held") > bytes("store") && bytes("platform") == 20 << 20, "{disk}");
    let changes = [
        "workload web: sha256:",
        "setting reach of the network: this machine alone to beyond this machine",
        "setting deadline for health: 900 s to 77 s",
        "setting security epoch: 0 to 3",
        "setting sequences that it may follow: any to 1 to 5",
        "setting memory: 16 MiB to 17 MiB",
        "setting disk of its own: 16 MiB to 20 MiB",
        "secret more is new",
        "data t18128-data: {",
        "check page is new",
        "file note.txt is new: sha256:",
        "migration add is run",
        "more than what runs",
    ];
    says(&plan, "changes", &changes);
    let epoch = "security epoch 3; after the commit, what is below 3 cannot be returned to";
    says(&plan, "needs", &["sequence 2, not below the floor 1", "sequence 1 to 5 installed", epoch]);
    let steps = plan["steps"].as_array().unwrap();
    let step = |title: &str| steps.iter().find(|step| step["title"].as_str().unwrap().starts_with(title)).unwrap();
    for (title, phase, disk, way_back) in [
        ("prove every byte", "staging", "store", "running release is not touched"),
        ("back up the running", "staging", "backups", "running release is not touched"),
        ("make volumes", "staging", "data", "running release is not touched"),
        ("start web", "trial", "", "the former release starts again on its own data"),
        ("clear", "committed", "", "rollback is refused: the former release has security epoch 0, the floor is 3 then"),
    ] {
        let step = step(title);
        assert_eq!(
            (&step["phase"], step["disk_bytes"].as_u64().unwrap()),
            (&phase.into(), plan["disk"][disk].as_u64().unwrap_or(0))
        );
        assert!(step["way_back"].as_str().unwrap().contains(way_back), "{step}");
    }
    assert_eq!(
        (&step("start web")["measured"], &step("back up the running")["measured"]),
        (&true.into(), &false.into())
    );
    let millis = |step: &serde_json::Value| step["millis"].as_u64().unwrap();
    assert_eq!(plan["millis"].as_u64().unwrap(), steps.iter().map(millis).sum::<u64>());
    let down = ["stop the running", "copy what changed", "switch", "start web", "migrate: add", "wait for health"]
        .map(|title| millis(step(title)));
    assert_eq!(plan["downtime_millis"].as_u64().unwrap(), down.iter().sum::<u64>());
    end(&site);
}

#[test]
fn what_the_store_lost_comes_back_from_the_bundle_without_downtime() {
    let _machine = machine();
    let site = Site::new(18148);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    let before = site.acts(0).len();
    let blobs = site.path("high/state/store/blobs/sha256");
    let mut files: Vec<_> = std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let spares = site.path("high/state/store/spare");
    let gone = files.iter().skip(1).find(|path| !spares.join(name(path)).exists()).unwrap();
    let rotten = [name(&files[0]), name(gone)];
    rot(&files[0]);
    std::fs::remove_file(gone).unwrap();
    // Other faults that have nothing to do with it: a workload file, the rule that keeps the network inside, the
    // copy of the record.
    let copy = site.path("high/state/state.db.copy");
    let sound = std::fs::read(&copy).unwrap();
    std::fs::write(&copy, &sound[..4096]).unwrap();
    let workload = site.path(&format!("high/state/generations/{}/1/web.yaml", site.name()));
    let signed = std::fs::read(&workload).unwrap();
    std::fs::write(&workload, "apiVersion: v2\n").unwrap();
    let table = format!("lockgate_{}", site.name());
    site.tool("nft", &["delete", "table", "inet", &table]).expect(0);

    let found = site.installer(&["check"]).expect(8);
    for part in [&rotten[0], &rotten[1], "web.yaml is not as signed", "is not in force", "state.db.copy: "] {
        assert!(found.err.contains(part), "{part}: {}", found.err);
    }
    let last = status(&site)["last_check"].clone();
    assert!(last["as_signed"] == false && last["found"].as_str().unwrap().starts_with("5 differ: "), "{last}");
    let said = site.installer(&["--yes", "repair"]).expect(8);
    for part in [&rotten[0], &rotten[1], "install the bundle again"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    for part in ["mended: workload file", "is not in force", "mended: copy of the record", "started web anew"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert_eq!(std::fs::read(&workload).unwrap(), signed);
    site.tool("nft", &["list", "table", "inet", &table]).expect(0);
    let found = site.installer(&["check"]).expect(8);
    assert!(found.err.contains(&rotten[0]) && !found.err.contains("web.yaml"), "{}", found.err);

    let running = || {
        let format = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
        site.podman(&["inspect", "--format", format, &format!("{}-web", site.name())]).expect(0).out
    };
    let incarnation = running();
    let said = site.installer(&["--yes", "install", "one.tar"]).expect(0);
    assert!(said.out.contains("2 blobs that the store had lost came back"), "{}", said.out);
    site.installer(&["check"]).expect(0);
    let said = site.installer(&["--yes", "install", "one.tar"]).expect(0);
    assert!(said.out.contains("nothing was changed"), "{}", said.out);
    assert_eq!(running(), incarnation, "nothing was started anew");

    let acts = site.acts(before);
    let told: Vec<String> = acts.iter().map(|(act, result, _)| format!("{act} {result}")).collect();
    let expected = ["check failed", "repair begun", "repair failed", "check failed", "install begun", "install ok"];
    assert_eq!(told, [&expected[..], &["check ok"]].concat());
    for (at, part) in [
        (0, rotten[0].as_str()),
        (1, "plan SHA-384 "),
        (2, "NOT REPAIRED: "),
        (2, "mended: workload file"),
        (4, "plan SHA-384 "),
        (5, "2 blobs came back"),
    ] {
        assert!(acts[at].2.contains(part), "{part}: {}", acts[at].2);
    }
    end(&site);
}

/// podman, but for what `case` (a pattern of sh) names, which fails as long as the file `stuck` is there.
/// Gives the PATH.
fn failing(site: &Site, case: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(site.path("shim")).unwrap();
    let real = site.tool("sh", &["-c", "command -v podman"]).expect(0).out;
    let shim = format!(
        "#!/bin/sh\ncase \"$*\" in {case}) [ -e {stuck} ] && {{ echo TEST stuck >&2; exit 125; }};; esac\nexec {real} \"$@\"\n",
        stuck = site.path("stuck").display(),
        real = real.trim()
    );
    std::fs::write(site.path("shim/podman"), shim).unwrap();
    std::fs::set_permissions(site.path("shim/podman"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(site.path("stuck"), "").unwrap();
    format!("{}:{}", site.path("shim").display(), std::env::var("PATH").unwrap())
}

#[test]
fn an_undoing_that_fails_stays_open_until_it_succeeds() {
    let _machine = machine();
    let site = Site::new(18149);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("one.tar", &["alice", "bob"]);
    site.release(2, Site::BAD, |text| text);
    site.bundle("bad.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    write(&site, "first");
    // The new release never gets healthy, and its volume cannot be taken off.
    let path = failing(&site, "*\"volume rm\"*");
    let stuck = [("PATH", path.as_str())];
    let failed = site.installer_env(&["--yes", "install", "bad.tar", "--health-timeout", "6"], &stuck).expect(8);
    assert!(
        failed.err.contains("not everything could be taken back") && failed.err.contains("TEST stuck"),
        "{failed:?}"
    );
    let open = |site: &Site| {
        let open = status(site)["unfinished"].clone();
        assert_eq!((&open["act"], &open["phase"]), (&"install".into(), &"undoing".into()), "{open}");
    };
    open(&site);
    assert!(site.installer(&["status"]).out.contains(": undoing; run installer resume"));
    // As long as it fails, it stays open; nothing else is begun before.
    site.installer_env(&["--yes", "resume"], &stuck).expect(8);
    open(&site);
    let refused = site.installer_env(&["--yes", "install", "one.tar"], &stuck).expect(8);
    assert!(refused.err.contains("an earlier install was cut off; that is settled first"), "{}", refused.err);
    assert!(refused.err.contains("TEST stuck"), "{}", refused.err);
    open(&site);
    std::fs::remove_file(site.path("stuck")).unwrap();
    site.installer_env(&["--yes", "resume"], &stuck).expect(0);
    assert!(status(&site)["unfinished"].is_null());
    assert_eq!(status(&site)["products"][0]["sequence"], 1);
    assert_eq!(data(&site), "first\n");
    let volumes = site.podman(&["volume", "ls", "-q"]).expect(0).out;
    assert_eq!(volumes.lines().count(), 1, "what the failed release made is gone: {volumes}");
    site.installer(&["check"]).expect(0);
    end(&site);
}

/// What a site keeps: numbers of generations, count of volumes, whether each bundle's own workload is in
/// the store.
fn kept(site: &Site, bundles: &[&str]) -> (Vec<i64>, usize, Vec<bool>) {
    let folder = site.path(&format!("high/state/generations/{}", site.name()));
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut generations: Vec<i64> = entries.filter_map(|name| name.to_string_lossy().parse().ok()).collect();
    generations.sort_unstable();
    let volumes = site.podman(&["volume", "ls", "-q"]).expect(0).out.lines().count();
    let in_store = |bundle: &&str| {
        let said = site.builder(&["--json", "inspect", bundle]).expect(0).out;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let digest = said["claimed_manifest"]["workloads"][0]["digest"].as_str().unwrap().to_owned();
        site.path("high/state/store/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap()).exists()
    };
    (generations, volumes, bundles.iter().map(in_store).collect())
}

#[test]
fn as_many_generations_are_kept_as_the_site_says() {
    let _machine = machine();
    let site = Site::new(18150);
    let bundles = ["1.tar", "2.tar", "3.tar", "4.tar", "5.tar", "6.tar"];
    for (bundle, sequence) in bundles.into_iter().zip(1..) {
        // The first release alone carries a second image.
        let extra = "\n  - {name: \"registry.example/test/extra:1\", source: \"oci:images:registry\"}\nnetwork:";
        site.release(
            sequence,
            Site::GOOD,
            |text| {
                if sequence == 1 { text.replacen("\nnetwork:", extra, 1) } else { text }
            },
        );
        site.bundle(bundle, &["alice", "bob"]);
    }
    let has_extra = || !site.podman(&["images", "-q", "registry.example/test/extra"]).expect(0).out.is_empty();
    site.trust();
    for bundle in &bundles[..2] {
        site.installer(&["--yes", "install", bundle]).expect(0);
    }
    assert!(has_extra(), "of the generation before");
    for bundle in &bundles[2..4] {
        site.installer(&["--yes", "install", bundle]).expect(0);
    }
    // Three updates, one former generation: the setting's default.
    assert_eq!(kept(&site, &bundles), (vec![3, 4], 2, vec![false, false, true, true, false, false]));
    assert!(!has_extra(), "an image that no kept generation has");
    site.installer(&["--yes", "rollback", "--to", "2"]).expect(2);
    site.installer(&["settings", "keep-generations", "2"]).expect(0);
    for bundle in &bundles[4..] {
        site.installer(&["--yes", "install", bundle]).expect(0);
    }
    assert_eq!(kept(&site, &bundles), (vec![4, 5, 6], 3, vec![false, false, false, true, true, true]));
    site.installer(&["--yes", "rollback", "--to", "4"]).expect(0);
    assert_eq!(status(&site)["products"][0]["sequence"], 4);
    end(&site);
}

/// Whether any file below a folder, unpacked where it is an archive, holds these bytes.
fn holds(folder: &std::path::Path, needle: &[u8]) -> bool {
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.any(|file| {
        let raw = std::fs::read(&file).unwrap();
        let plain = zstd::decode_all(&raw[..]).unwrap_or_default();
        [raw, plain].iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    })
}

#[test]
fn a_backup_holds_no_secret_and_a_restore_changes_none() {
    let _machine = machine();
    let site = Site::new(18151);
    let data_line = format!("  data:\n    - {{volume: {}-data, backup: {{method: copy}}, keep: 2}}\n", site.name());
    site.release(1, Site::GOOD, lifecycle(&data_line));
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    let password = || {
        let said = site.podman(&["exec", &format!("{}-web", site.name()), "sh", "-c", "printf %s \"$PASSWORD\""]);
        let password = said.expect(0).out;
        assert!(password.len() >= 16, "a password that can be looked for");
        password
    };
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    write(&site, "kept");
    let first = password();
    let made = site.installer(&["--json", "backup", "make"]).expect(0).out;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let folder = std::path::PathBuf::from(made["backup"].as_str().unwrap());
    assert!(holds(&folder, b"kept\n"), "the search finds what is there");
    assert!(!holds(&folder, first.as_bytes()));
    assert!(!holds(&folder, bundle_format::text::base64(first.as_bytes()).as_bytes()), "nor as Kubernetes writes it");
    write(&site, "later");
    site.installer(&["--yes", "restore", &folder.display().to_string()]).expect(0);
    assert_eq!((data(&site), password()), ("kept\n".into(), first.clone()));

    // Onto a machine that lost everything: its own new password stays.
    site.tool("cp", &["-a", &folder.display().to_string(), "carried"]).expect(0);
    end(&site);
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    let second = password();
    assert_ne!(first, second);
    site.installer(&["--yes", "restore", "carried"]).expect(0);
    assert_eq!((data(&site), password()), ("kept\n".into(), second));
    end(&site);
}
