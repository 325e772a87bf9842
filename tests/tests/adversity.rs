//! What goes wrong around an installation, each with a named state and a named exit code: signals,
//! full and read-only disks, too little memory, a dead medium, a killed engine, a damaged record, a wrong
//! clock. And what a disk that can share blocks is spared. (Kills and failures at every durable operation:
//! `cuts.rs`. Power cuts: `vm/powercut.sh`.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use system_tests::site::{Said, Site};

static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn status(site: &Site) -> serde_json::Value {
    serde_json::from_str(&site.installer(&["--json", "status"]).out).unwrap()
}

fn end(site: &Site) {
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}

/// Release 1 installed, release 2 as a bundle whose probe is `probe`.
fn one_and_two(site: &Site, probe: &str) {
    site.release(1, Site::GOOD, |text| text);
    site.bundle("one.tar", &["alice", "bob"]);
    site.release(2, probe, |text| text);
    site.bundle("two.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
}

#[test]
fn a_signal_takes_back_what_was_made() {
    let _machine = machine();
    let site = Site::new(18131);
    one_and_two(&site, Site::BAD);
    let mut child = std::process::Command::new(system_tests::site::program("installer"))
        .args(["--state-dir", "high/state", "--yes", "install", "two.tar"])
        .current_dir(site.path(""))
        .env("CONTAINERS_STORAGE_CONF", site.path("storage.conf"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while status(&site)["unfinished"]["phase"] != "trial" {
        assert!(child.try_wait().unwrap().is_none(), "it ended before the trial");
    }
    let holder = status(&site)["at_work"].clone();
    assert_eq!((&holder["pid"], &holder["act"]), (&child.id().into(), &"install".into()), "{holder}");
    let told = format!("pid {} doing install, by {} from ", child.id(), holder["actor"].as_str().unwrap());
    let second = site.installer(&["--yes", "install", "two.tar"]).expect(6);
    for part in [&told, ", since 2"] {
        assert!(second.err.contains(part), "{part}: {}", second.err);
    }
    site.tool("kill", &["-TERM", &child.id().to_string()]).expect(0);
    let said = Said::of(&child.wait_with_output().unwrap()).expect(7);
    assert!(said.err.contains("stopped on request"), "{}", said.err);
    assert!(site.answers(), "the former release runs again");
    assert_eq!(status(&site)["products"][0]["sequence"], 1);
    assert!(status(&site)["unfinished"].is_null() && status(&site)["at_work"].is_null());
    end(&site);
}

#[test]
fn a_dead_medium_and_a_killed_engine() {
    let _machine = machine();
    let site = Site::new(18132);
    one_and_two(&site, Site::GOOD);
    // The medium stops answering in the middle: EIO from the third read of the bundle's packs on.
    let bundle = site.path("two.tar").display().to_string();
    let dead = [
        "-f",
        "-qq",
        "-b",
        "execve",
        "-o",
        "/dev/null",
        "-P",
        &bundle,
        "-e",
        "trace=read,pread64",
        "-e",
        "inject=read,pread64:error=EIO:when=5+",
    ];
    let said = site.installer_under("strace", &dead, &["--yes", "install", &bundle]).expect(6);
    assert!(said.err.contains("read or write failed"), "{}", said.err);
    assert!(status(&site)["unfinished"].is_null());
    assert!(site.answers());

    // The engine dies while it starts the new release.
    std::fs::create_dir(site.path("shim")).unwrap();
    let real = site.tool("sh", &["-c", "command -v podman"]).expect(0).out;
    let shim = format!(
        "#!/bin/sh\ncase \"$*\" in *\"kube play\"*) [ -e {flag} ] && {{ rm {flag}; kill -9 $$; }};; esac\nexec {} \"$@\"\n",
        real.trim(),
        flag = site.path("kill-once").display()
    );
    std::fs::write(site.path("shim/podman"), shim).unwrap();
    std::fs::set_permissions(site.path("shim/podman"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(site.path("kill-once"), "").unwrap();
    let path = format!("{}:{}", site.path("shim").display(), std::env::var("PATH").unwrap());
    let said = site.installer_env(&["--yes", "install", "two.tar"], &[("PATH", &path)]).expect(7);
    assert!(said.err.contains("ended with 137"), "{}", said.err);
    assert!(site.answers());
    assert_eq!(status(&site)["products"][0]["sequence"], 1);
    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    end(&site);
}

/// A control group with so little memory that the kernel kills who needs more; gone when dropped.
struct Tight(std::path::PathBuf);

impl Tight {
    /// Where the kernel counts whom it killed, in version 1 and 2.
    const EVENTS: (&str, &str) = ("memory.oom_control", "memory.events");

    fn new(name: &str, bytes: u32) -> Self {
        let root = std::path::Path::new("/sys/fs/cgroup");
        // Version 1 has a folder for each controller.
        let (root, limit) = match root.join("memory") {
            old if old.exists() => (old, "memory.limit_in_bytes"),
            _ => (root.to_owned(), "memory.max"),
        };
        let tight = Self(root.join(name));
        std::fs::create_dir(&tight.0).unwrap();
        std::fs::write(tight.0.join(limit), bytes.to_string()).unwrap();
        tight
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        // Who was killed leaves its group a moment later.
        let gone = (0..50).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            std::fs::remove_dir(&self.0).is_ok()
        });
        assert!(gone || std::thread::panicking(), "{} is still in use", self.0.display());
    }
}

#[test]
fn out_of_memory() {
    let _machine = machine();
    let site = Site::new(18135);
    one_and_two(&site, Site::GOOD);
    let tight = Tight::new(&format!("lockgate-{}", site.name()), 8 << 20);
    let enter = ["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"", &tight.0.display().to_string()];
    // The engine is the first that does not fit; the installer itself, killed anywhere: cuts.rs.
    let said = site.installer_under("sh", &enter, &["--yes", "install", "two.tar"]).expect(6);
    assert!(said.err.contains("podman"), "{}", said.err);
    let killed = std::fs::read_to_string(tight.0.join(Tight::EVENTS.0))
        .or_else(|_| std::fs::read_to_string(tight.0.join(Tight::EVENTS.1)));
    let killed = killed.unwrap();
    assert!(killed.lines().any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0"), "{killed}");
    assert!(status(&site)["unfinished"].is_null());
    assert_eq!(status(&site)["products"][0]["sequence"], 1);
    assert!(site.answers(), "the release before is not touched");
    drop(tight);
    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    assert_eq!(status(&site)["products"][0]["sequence"], 2);
    end(&site);
}

#[test]
fn a_full_a_read_only_and_an_inodeless_disk() {
    let _machine = machine();
    let site = Site::new(18133);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("one.tar", &["alice", "bob"]);
    let state = site.path("high/state");
    std::fs::create_dir_all(&state).unwrap();
    let state = state.display().to_string();
    // As many inodes as the record needs, and no more; then no more bytes; then no more writing.
    site.tool("mount", &["-t", "tmpfs", "-o", "size=64m,nr_inodes=40", "tmpfs", &state]).expect(0);
    site.trust();
    let said = site.installer(&["--yes", "install", "one.tar"]).expect(6);
    assert!(said.err.contains("inodes"), "{}", said.err);
    site.tool("mount", &["-o", "remount,size=400k,nr_inodes=100k", &state]).expect(0);
    let said = site.installer(&["--yes", "install", "one.tar"]).expect(6);
    assert!(said.err.contains("disk") || said.err.contains("no space left"), "{}", said.err);
    site.tool("mount", &["-o", "remount,ro", &state]).expect(0);
    let said = site.installer(&["--yes", "install", "one.tar"]).expect(6);
    assert!(said.err.contains("what to do: "), "{}", said.err);
    site.tool("mount", &["-o", "remount,rw,size=160m", &state]).expect(0);
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    // As the kernel does it after an error of the disk: what runs runs on, and is shown.
    site.tool("mount", &["-o", "remount,ro", &state]).expect(0);
    let said = site.installer(&["--json", "status"]).expect(8);
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let shown = (&told["products"][0]["release"], &told["products"][0]["healthy"]);
    assert_eq!(shown, (&"1.0".into(), &true.into()), "{told}");
    assert!(told["record_problem"].as_str().unwrap().contains("not written"), "{told}");
    site.installer(&["--yes", "rollback"]).expect(6);
    assert!(site.answers());
    site.tool("mount", &["-o", "remount,rw", &state]).expect(0);
    end(&site);
    site.tool("umount", &["-l", &state]).expect(0);
}

#[test]
fn a_damaged_record_and_a_wrong_clock() {
    let _machine = machine();
    let site = Site::new(18134);
    one_and_two(&site, Site::GOOD);
    // Ten years back: said, and nothing becomes valid again by it.
    let installer = system_tests::site::program("installer").display().to_string();
    let past = ["-f", "2016-01-01 00:00:00", &installer, "--state-dir", "high/state", "preflight", "two.tar"];
    let said = site.tool("faketime", &past).expect(0);
    assert!(said.out.contains("CLOCK SUSPECT"), "{}{}", said.out, said.err);
    site.release(3, Site::GOOD, |text| text.replace("title:", "expires: \"2026-01-01T00:00:00Z\"\ntitle:"));
    site.bundle("expired.tar", &["alice", "bob"]);
    let past = ["-f", "2016-01-01 00:00:00", &installer, "--state-dir", "high/state", "verify", "expired.tar"];
    let said = site.tool("faketime", &past).expect(5);
    assert!(said.err.contains("expired"), "{}", said.err);

    // A page of the record is overwritten: refused, the platform runs on, and the copy takes its place.
    let said = site.installer(&["--yes", "repair", "--record"]).expect(0);
    assert!(said.out.contains("nothing was changed"), "{}", said.out);
    let before = status(&site)["products"].clone();
    let old_copy = std::fs::read(site.path("high/state/state.db.copy")).unwrap();
    rot(&site);
    let said = site.installer(&["--yes", "install", "two.tar"]).expect(6);
    for part in ["state database: damaged", "what to do: what runs is not touched; run: installer repair --record"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(site.answers(), "what runs is not touched");
    site.installer(&["repair", "--record"]).expect(2);
    let said = site.installer(&["--yes", "repair", "--record"]).expect(0);
    assert!(said.out.contains("nothing was open"), "{}", said.out);
    assert_eq!(status(&site)["products"], before);
    site.installer(&["check"]).expect(0);
    let history = site.installer(&["history", "--limit", "3"]).expect(0).out;
    assert!(history.contains("record put back"), "{history}");

    // Cut off in an update, and rotten: the update goes on.
    let inject = "inject=symlink,symlinkat:signal=KILL:when=1";
    let args = ["-f", "-qq", "-b", "execve", "-o", "/dev/null", "-e", "trace=symlink,symlinkat", "-e", inject];
    assert_ne!(site.installer_under("strace", &args, &["--yes", "install", "two.tar"]).code, 0);
    assert_eq!(status(&site)["unfinished"]["phase"], "switching");
    rot(&site);
    let said = site.installer(&["--yes", "repair", "--record"]).expect(0);
    assert!(said.out.contains("is not over (switching); run installer resume"), "{}", said.out);
    site.installer(&["--yes", "resume"]).expect(0);
    let now = status(&site)["products"][0].clone();
    assert_eq!((&now["sequence"], &now["floor"]), (&2.into(), &2.into()));

    // The copy of before the update in its place: the floor would sink by it, so it is refused.
    let newest = std::fs::read(site.path("high/state/state.db.copy")).unwrap();
    std::fs::write(site.path("high/state/state.db.copy"), old_copy).unwrap();
    rot(&site);
    let said = site.installer(&["--yes", "repair", "--record"]).expect(8);
    assert!(said.err.contains("copy of the record: expected nothing newer than record"), "{}", said.err);
    assert!(site.answers());
    std::fs::write(site.path("high/state/state.db.copy"), newest).unwrap();
    site.installer(&["--yes", "repair", "--record"]).expect(0);
    assert_eq!(status(&site)["products"][0]["floor"], 2);
    site.installer(&["--yes", "install", "one.tar"]).expect(5);
    end(&site);
}

#[test]
fn copies_of_data_that_do_not_fit_are_not_begun() {
    let _machine = machine();
    let site = Site::new(18136);
    let name = site.name();
    let mount = |path: &str, size: &str| {
        std::fs::create_dir_all(path).unwrap();
        site.tool("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", path]).expect(0);
    };
    let resize = |path: &str, size: &str| {
        site.tool("mount", &["-o", &format!("remount,size={size}"), path]).expect(0);
    };
    let (state, graph) = (site.path("high/state").display().to_string(), site.path("graph").display().to_string());
    mount(&state, "400m");
    mount(&graph, "400m");
    one_and_two_with_copies(&site);
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    let dd = ["busybox", "dd", "if=/dev/zero", "of=/data/large", "bs=1M", "count=50"];
    site.podman(&[&["exec", &format!("{name}-web")], &dd[..]].concat()).expect(0);
    let made = site.installer(&["--json", "backup", "make"]).expect(0).out;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let backup = made["backup"].as_str().unwrap().to_owned();
    let folders = || std::fs::read_dir(site.path("high/state/backups").join(&name)).unwrap().count();
    let volumes = || site.podman(&["volume", "ls", "-q"]).expect(0).out;
    let (count, former) = (folders(), volumes());
    let same = || {
        let shown = status(&site);
        assert_eq!((&shown["products"][0]["sequence"], &shown["unfinished"]), (&2.into(), &serde_json::Value::Null));
        assert_eq!((folders(), volumes()), (count, former.clone()), "nothing was made");
        assert!(site.answers());
    };

    // Room for the archive, and none for the copy that it is packed from.
    let used = |path: &str| used(&site, path);
    resize(&state, &format!("{}m", used(&state) + 50 + 64 + 20));
    for scheduled in [&[][..], &["--scheduled"]] {
        let said = site.installer(&[&["backup", "make"], scheduled].concat()).expect(6);
        assert!(
            said.err.contains("not fit") && said.err.contains("disk-state") && said.err.contains("backups 10"),
            "{}",
            said.err
        );
        same();
    }
    let history = site.installer(&["history"]).expect(0).out;
    assert_eq!(history.matches("backup      failed").count(), 2, "{history}");
    resize(&state, &format!("{}m", used(&state) + 100 + 64 + 20));
    site.installer(&["backup", "verify", &backup]).expect(0);

    // A copy of the volumes for a new generation: the archive is small, what it unpacks to is not.
    resize(&graph, &format!("{}m", used(&graph) + 64 + 20));
    assert!(
        std::fs::metadata(std::path::Path::new(&backup).join(format!("{name}-data.tar.zst"))).unwrap().len() < 1 << 20
    );
    for act in [&["--yes", "restore", &backup][..], &["--yes", "rollback", "--keep-data"]] {
        let said = site.installer(act).expect(6);
        assert!(said.err.contains("disk-engine") && said.err.contains("data 5"), "{}", said.err);
        same();
    }
    let wrong = ["--yes", "restore", &backup, "--accept", "port=why"];
    site.installer(&wrong).expect(2);
    same();
    resize(&graph, "600m");
    site.installer(&["--yes", "restore", &backup]).expect(0);
    let restored =
        site.podman(&["exec", &format!("{name}-web"), "busybox", "stat", "-c", "%s", "/data/large"]).expect(0).out;
    assert_eq!(restored.trim(), (50 << 20).to_string());
    end(&site);
    site.tool("umount", &["-l", &state]).expect(0);
    drop(site.tool("umount", &["-l", &format!("{graph}/overlay")]));
    site.tool("umount", &["-l", &graph]).expect(0);
}

#[test]
fn a_copy_of_data_shares_its_blocks_where_the_disk_can() {
    let _machine = machine();
    let site = Site::new(18137);
    let (disk, graph) = (site.path("disk").display().to_string(), site.path("graph").display().to_string());
    std::fs::create_dir_all(&graph).unwrap();
    std::fs::File::create(&disk).unwrap().set_len(700 << 20).unwrap();
    site.tool("mkfs.xfs", &["-q", &disk]).expect(0);
    site.tool("mount", &["-o", "loop", &disk, &graph]).expect(0);
    one_and_two_with_copies(&site);
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    let dd = ["busybox", "dd", "if=/dev/urandom", "of=/data/large", "bs=1M", "count=100"];
    site.podman(&[&["exec", &format!("{}-web", site.name())], &dd[..]].concat()).expect(0);
    site.tool("sync", &["-f", &graph]).expect(0);
    let before = used(&site, &graph);

    // The new generation has the 100 MiB as its own, and they take no room.
    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    site.tool("sync", &["-f", &graph]).expect(0);
    let grown = used(&site, &graph).saturating_sub(before);
    assert!(grown < 50, "100 MiB took {grown} MiB more");
    let volumes = site.podman(&["volume", "ls", "-q"]).expect(0).out;
    let inspect = ["volume", "inspect", "--format", "{{.Mountpoint}}"];
    let copies: Vec<String> = volumes
        .lines()
        .map(|volume| format!("{}/large", site.podman(&[&inspect[..], &[volume]].concat()).expect(0).out.trim()))
        .filter(|path| std::path::Path::new(path).exists())
        .collect();
    assert_eq!(copies.len(), 2, "each generation has its own: {volumes}");
    for copy in &copies {
        assert_eq!(std::fs::metadata(copy).unwrap().len(), 100 << 20);
        let said = site.tool("filefrag", &["-v", copy]).expect(0).out;
        assert!(said.contains("shared"), "{said}");
    }
    end(&site);
    drop(site.tool("umount", &["-l", &format!("{graph}/overlay")]));
    site.tool("umount", &["-l", &graph]).expect(0);
}

/// Two releases whose volume is backed up by copying.
fn one_and_two_with_copies(site: &Site) {
    let data = format!(
        "lifecycle:\n  stable_seconds: 1\n  data:\n    - {{volume: {}-data, backup: {{method: copy}}, keep: 3}}\n",
        site.name()
    );
    for (sequence, bundle) in [(1, "one.tar"), (2, "two.tar")] {
        site.release(sequence, Site::GOOD, |text| text.replace(Site::QUICK, &data));
        site.bundle(bundle, &["alice", "bob"]);
    }
    site.trust();
}

/// MiB in use of the file system at `path`.
fn used(site: &Site, path: &str) -> u64 {
    let said = site.tool("df", &["-B1M", "--output=used", path]).expect(0).out;
    said.lines().last().unwrap().trim().parse().unwrap()
}

/// Overwrites a page of the record.
fn rot(site: &Site) {
    let database = site.path("high/state/state.db");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[4096..8192].fill(0xa5);
    std::fs::write(&database, bytes).unwrap();
    for end in ["-wal", "-shm"] {
        drop(std::fs::remove_file(site.path(&format!("high/state/state.db{end}"))));
    }
}
