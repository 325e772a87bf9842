//! The whole way on this machine: the real programs, the real engine, real images. Each test has a
//! site of its own; they share the machine's network stack, so they run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use system_tests::site::Site;

static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn same(text: String) -> String {
    text
}

#[test]
fn installs_updates_refuses_older_and_leaves_nothing() {
    let _machine = machine();
    let site = Site::new(18101);
    site.release(1, Site::GOOD, same);
    site.bundle("one.tar", &["alice", "bob"]);
    site.release(2, Site::GOOD, same);
    site.bundle("two.tar", &["bob", "carol"]);
    site.trust();

    let plan = site.installer(&["plan", "one.tar"]).expect(0);
    assert!(plan.out.contains("from nothing to 1.0"), "{}", plan.out);
    assert_eq!(plan.err.lines().next(), Some("UNCLASSIFIED"), "the marking comes first");
    assert_eq!(plan.err.lines().last(), Some("UNCLASSIFIED"), "and last");
    site.installer(&["install", "one.tar"]).expect(2); // no terminal and no --yes: not a question, a refusal
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    assert!(site.answers(), "the port is open");
    site.podman(&["exec", &format!("{}-web", site.name()), "sh", "-c", "echo kept > /data/file"]);
    let status = site.installer(&["--json", "status"]).expect(0);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["products"][0]["healthy"], true);
    assert_eq!(status["products"][0]["sequence"], 1);
    let again = site.installer(&["--yes", "install", "one.tar"]).expect(0);
    assert!(again.out.contains("nothing was changed"), "{}", again.out);

    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    assert!(site.answers());
    let older = site.installer(&["--yes", "install", "one.tar"]).expect(5);
    assert!(older.err.contains("below the floor 2"), "{}", older.err);
    assert_eq!(older.err.lines().last(), Some("UNCLASSIFIED"), "also behind an error");
    let history = site.installer(&["history"]).expect(0).out;
    for (result, count) in [("begun", 2), ("ok", 2), ("refused", 1)] {
        assert_eq!(history.matches(&format!("install     {result}")).count(), count, "{history}");
    }

    // A stored blob that rots is noticed and mended by installing again.
    site.installer(&["--yes", "uninstall", "--product", &site.name()]).expect(0);
    assert!(!site.answers());
    assert_ne!(site.podman(&["volume", "ls", "-q"]).expect(0).out, "", "data is kept unless asked");
    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
    site.installer(&["--yes", "uninstall", "--product", &site.name()]).expect(2);
}

#[test]
fn a_platform_that_never_gets_healthy_is_taken_back() {
    let _machine = machine();
    let site = Site::new(18102);
    site.trust();
    site.release(1, Site::BAD, same);
    site.bundle("bad.tar", &["alice", "bob"]);
    let failed = site.installer(&["--yes", "install", "bad.tar", "--health-timeout", "6"]).expect(7);
    assert!(failed.err.contains("its log: ") && failed.err.contains("t18102-web"), "{}", failed.err);
    assert!(site.path("high/state/logs/t18102-web.log").exists(), "the log is kept");
    site.assert_nothing_left();

    // With a release that runs: it runs again afterwards, and its floor stands.
    site.release(2, Site::GOOD, same);
    site.bundle("good.tar", &["alice", "bob"]);
    site.installer(&["--yes", "install", "good.tar"]).expect(0);
    site.release(3, Site::BAD, same);
    site.bundle("bad.tar", &["alice", "bob"]);
    site.installer(&["--yes", "install", "bad.tar", "--health-timeout", "6"]).expect(7);
    assert!(site.answers(), "the former release runs again");
    let status: serde_json::Value = serde_json::from_str(&site.installer(&["--json", "status"]).expect(0).out).unwrap();
    assert_eq!((&status["products"][0]["sequence"], &status["products"][0]["floor"]), (&2.into(), &2.into()));
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}

#[test]
fn what_is_not_trusted_or_damaged_changes_nothing() {
    let _machine = machine();
    let site = Site::new(18103);
    site.release(1, Site::GOOD, same);
    site.bundle("good.tar", &["alice", "carol"]);
    site.bundle("one-signer.tar", &["alice"]);
    site.bundle("unsigned.tar", &[]);
    let refused = site.installer(&["--yes", "install", "good.tar"]).expect(4);
    assert!(refused.err.contains("no trust root"), "{}", refused.err);
    site.installer(&["trust", "init", "root-1.json", "--fingerprint", &"a".repeat(96)]).expect(4);
    site.trust();
    site.installer(&["trust", "init", "root-1.json", "--fingerprint", &site.fingerprint()]).expect(4);
    for (bundle, act) in [("one-signer.tar", "verify"), ("unsigned.tar", "verify"), ("one-signer.tar", "preflight")] {
        let said = site.installer(&[act, bundle]).expect(4);
        assert!(said.err.contains("needs 2 distinct ed25519 keys"), "{}", said.err);
    }
    site.installer(&["--yes", "install", "one-signer.tar"]).expect(4);

    let other = Site::new(18104);
    other.release(1, Site::GOOD, same);
    other.bundle("other.tar", &["alice", "bob"]);
    std::fs::copy(other.path("other.tar"), site.path("other.tar")).unwrap();
    let stranger = site.installer(&["--yes", "install", "other.tar"]).expect(4);
    assert!(stranger.err.contains("root version 1: expected SHA-384"), "{}", stranger.err);

    // A flipped bit in the last frame: found while it streams into the store, and taken back.
    let good = std::fs::read(site.path("good.tar")).unwrap();
    let mut flipped = good.clone();
    let at = flipped.len() - 5000;
    flipped[at] ^= 4;
    std::fs::write(site.path("flipped.tar"), &flipped).unwrap();
    std::fs::write(site.path("cut.tar"), &good[..good.len() / 2]).unwrap();
    for (bundle, word) in [("flipped.tar", "digest differs"), ("cut.tar", "the input ends early")] {
        site.installer(&["verify", bundle]).expect(3);
        let said = site.installer(&["--yes", "install", bundle]).expect(3);
        assert!(said.err.contains(word), "{bundle}: {}", said.err);
    }
    site.tool("mkfifo", &["fifo.tar"]).expect(0);
    for args in [&["verify", "fifo.tar"][..], &["--yes", "install", "fifo.tar"]] {
        let said = site.installer_under("timeout", &["60"], args).expect(2);
        assert!(said.err.contains("fifo.tar: expected a regular file, found a FIFO"), "{}", said.err);
    }
    site.assert_nothing_left();
    site.installer(&["verify", "good.tar"]).expect(0);
    let history = site.installer(&["history"]).expect(0).out;
    assert!(!history.contains("install     ok"), "{history}");
}

#[test]
fn policy_refuses_marking_platform_and_age() {
    let _machine = machine();
    let site = Site::new(18105);
    site.trust();
    for (bundle, from, to, word) in [
        ("secret.tar", "marking: UNCLASSIFIED", "marking: SECRET//NOFORN", "above the site's accreditation"),
        ("arm.tar", "platform: linux/amd64", "platform: linux/arm64", ""),
        ("old.tar", "title:", "expires: \"2020-01-01T00:00:00Z\"\ntitle:", "expired at 2020"),
    ] {
        site.release(1, Site::GOOD, |text| text.replace(from, to));
        if word.is_empty() {
            // The image is for another platform: the low side says so already.
            site.builder(&["pin", "release/r.yaml"]).expect(5);
            continue;
        }
        site.bundle(bundle, &["alice", "bob"]);
        for act in [&["verify", bundle][..], &["--yes", "install", bundle]] {
            let said = site.installer(act).expect(5);
            assert!(said.err.contains(word), "{}", said.err);
        }
    }
    site.assert_nothing_left();
}

#[test]
fn an_unfit_machine_is_left_alone() {
    let _machine = machine();
    let site = Site::new(18106);
    site.release(1, Site::GOOD, same);
    site.bundle("b.tar", &["alice", "bob"]);
    site.trust();

    // A busy port.
    let busy = std::net::TcpListener::bind(("127.0.0.1", site.port)).unwrap();
    let said = site.installer(&["--yes", "install", "b.tar"]).expect(6);
    assert!(said.err.contains("port:127.0.0.1:18106: found Address already in use"), "{}", said.err);
    // Past it by its name and a reason alone, which go on record; not past another one by the way.
    site.installer(&["preflight", "b.tar", "--accept", "port=why"]).expect(2);
    site.installer(&["preflight", "b.tar", "--accept", "port:127.0.0.1:18106="]).expect(2);
    let accept = ["--accept", "port:127.0.0.1:18106=stops at 02:00 | agreed"];
    let said = site.installer(&[&["preflight", "b.tar"], &accept[..]].concat()).expect(0);
    assert!(
        said.out.contains("PAST port:127.0.0.1:18106") && said.out.contains("accepted: stops at 02:00"),
        "{}",
        said.out
    );
    let said = site.installer(&["history"]).expect(0);
    assert!(
        said.out.contains("preflight accept") && said.out.contains("reason: stops at 02:00 | agreed"),
        "{}",
        said.out
    );
    drop(busy);
    // Names that somebody else holds.
    for (kind, args) in [("volume", ["volume", "create", "t18106-data"]), ("network", ["network", "create", "t18106"])]
    {
        site.podman(&args).expect(0);
        let said = site.installer(&["--yes", "install", "b.tar"]).expect(6);
        assert!(said.err.contains(&format!("name:{kind}:{}", args[2])), "{}", said.err);
        site.podman(&[kind, "rm", args[2]]).expect(0);
    }
    // No engine on the machine and none in the bundle.
    std::fs::create_dir(site.path("empty")).unwrap();
    let empty = site.path("empty").display().to_string();
    let said = site.installer_env(&["--yes", "install", "b.tar"], &[("PATH", &empty)]).expect(6);
    assert!(said.err.contains("carries none for"), "{}", said.err);
    let anyway = ["--yes", "install", "b.tar", "--accept", "engine=I know better"];
    let said = site.installer_env(&anyway, &[("PATH", &empty)]).expect(5);
    assert!(said.err.contains("engine cannot be accepted"), "{}", said.err);
    // More memory than there is.
    site.release(1, Site::GOOD, |text| text.replace("memory_mib: 16", "memory_mib: 99999999"));
    site.bundle("large.tar", &["alice", "bob"]);
    let said = site.installer(&["--json", "preflight", "large.tar"]).expect(6);
    let findings: serde_json::Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    let memory = findings["findings"].as_array().unwrap().iter().find(|f| f["id"] == "memory").unwrap();
    assert_eq!(memory["severity"], "fail");
    // The disk fills in the middle: the second reservation of space fails as the kernel would.
    let full = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC:when=2+"];
    let said = site.installer_under("strace", &full, &["--yes", "install", "b.tar"]).expect(6);
    assert!(said.err.contains("no space left"), "{}", said.err);
    site.assert_nothing_left();
    // Another installer at work.
    let lock =
        std::fs::File::options().create(true).truncate(false).write(true).open(site.path("high/state/lock")).unwrap();
    lock.lock().unwrap();
    let said = site.installer(&["--yes", "install", "b.tar"]).expect(6);
    assert!(said.err.contains("another installer holds the lock"), "{}", said.err);
    drop(lock);
    site.assert_nothing_left();
    // And after all of that the same machine takes the bundle.
    site.installer(&["--yes", "install", "b.tar"]).expect(0);
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}

#[test]
fn verifying_and_installing_connect_to_nothing_but_this_machine() {
    let _machine = machine();
    let site = Site::new(18107);
    site.release(1, Site::GOOD, same);
    site.bundle("b.tar", &["alice", "bob"]);
    site.trust();
    // Children are let go when they become another program: containers outlive the installer, and the
    // tracer would wait for them.
    let trace = ["-f", "-qq", "-b", "execve", "-o", "trace", "-e", "trace=connect,sendto"];
    site.installer_under("strace", &trace, &["verify", "b.tar"]).expect(0);
    assert!(
        !std::fs::read_to_string(site.path("trace")).unwrap().contains("AF_INET"),
        "verify opens no connection at all"
    );
    site.installer_under("strace", &trace, &["--yes", "install", "b.tar"]).expect(0);
    let lines = std::fs::read_to_string(site.path("trace")).unwrap();
    let elsewhere: Vec<&str> = lines
        .lines()
        .filter(|line| {
            line.contains("AF_INET") && !line.contains("inet_addr(\"127.0.0.1\")") && !line.contains("\"::1\"")
        })
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    assert!(
        lines.contains("AF_INET"),
        "the installer wakes its own registry over loopback, so the filter sees something"
    );
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
}

#[test]
fn a_receipt_names_the_installed_release_and_its_health() {
    let _machine = machine();
    let site = Site::new(18110);
    site.release(3, Site::GOOD, same);
    site.bundle("three.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "three.tar"]).expect(0);
    let code = || {
        let said = site.installer(&["--json", "receipt"]).expect(0);
        let parsed: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(parsed["sequence"], 3);
        parsed["code"].as_str().unwrap().to_owned()
    };
    let said = site.builder(&["confirm", &code(), "three.tar"]).expect(0);
    let installed = format!("installed  {} 3.0 (sequence 3), three.tar, healthy", site.name());
    assert!(said.out.contains(&installed), "{}", said.out);
    assert!(said.out.contains("arrived    nothing was received yet"), "{}", said.out);
    site.podman(&["stop", "-t", "1", &format!("{}-web", site.name())]).expect(0);
    let said = site.builder(&["--json", "confirm", &code(), "three.tar"]).expect(0);
    let parsed: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(parsed["installed"]["healthy"], false);
    assert!(site.installer(&["history"]).expect(0).out.contains(&code()), "what left is on record");
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
}

#[test]
fn a_cut_tail_shows_by_the_heads_that_reports_hold() {
    let _machine = machine();
    let site = Site::new(18111);
    site.release(1, Site::GOOD, same);
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    let anchor_of = |out: &str, before: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix(before));
        line.unwrap_or_else(|| panic!("no {before:?} in {out}")).trim().to_owned()
    };
    let installed = site.installer(&["--yes", "install", "one.tar"]).expect(0).out;
    let installed = anchor_of(&installed, "audit log ends at ");
    let log = site.path("high/state/audit/audit.db");
    assert!(!site.path("high/state/audit/audit.db-wal").exists(), "closed cleanly, it is one file");
    let older = std::fs::read(&log).unwrap();
    let receipt = anchor_of(&site.installer(&["receipt", "--no-qr"]).expect(0).out, "audit log  ");
    site.installer(&["inventory", "--out", "site.json"]).expect(0);
    let by_pen = anchor_of(&site.installer(&["inventory", "--text"]).expect(0).out, "audit log ends at ");

    let verify = |args: &[&str]| site.installer(&[&["audit", "verify"], args].concat());
    for anchor in [&installed, &receipt, &by_pen] {
        verify(&["--anchor", anchor]).expect(0);
    }
    verify(&["--anchor-file", "site.json"]).expect(0);
    // The machine's root puts the log of before back, with the head that was signed then.
    let newer = std::fs::read(&log).unwrap();
    std::fs::write(&log, older).unwrap();
    let said = verify(&[]).expect(0);
    assert!(said.out.contains("without an anchor nobody can see"), "{}", said.out);
    verify(&["--anchor", &installed]).expect(0);
    for args in [["--anchor", &receipt], ["--anchor", &by_pen], ["--anchor-file", "site.json"]] {
        let said = verify(&args).expect(4);
        assert!(said.err.contains("nothing: the log ends with record"), "{args:?}: {}", said.err);
    }
    std::fs::write(&log, newer).unwrap();
    verify(&["--anchor", &receipt, "--anchor-file", "site.json"]).expect(0);
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
}

/// Release 1 runs; release 2 is tried and must be taken back for `why`.
fn taken_back(site: &Site, env: &[(&str, &str)], why: &str) -> String {
    let failed = site.installer_env(&["--yes", "install", "two.tar"], env).expect(7);
    assert!(failed.err.contains(why), "{why}: {}", failed.err);
    assert!(site.answers(), "the former release runs again");
    let status: serde_json::Value = serde_json::from_str(&site.installer(&["--json", "status"]).expect(0).out).unwrap();
    let product = &status["products"][0];
    assert_eq!((&product["sequence"], &product["healthy"]), (&1.into(), &true.into()));
    assert!(status["unfinished"].is_null());
    let history = site.installer(&["history"]).expect(0).out;
    assert!(history.lines().any(|line| line.contains("install     failed") && line.contains(why)), "{why}: {history}");
    assert!(site.path(&format!("high/state/logs/{}-web.log", site.name())).exists(), "the log is kept");
    failed.err
}

#[test]
fn a_container_that_restarts_in_the_quiet_window_is_taken_back() {
    let _machine = machine();
    let site = Site::new(18112);
    site.trust();
    site.release(1, Site::GOOD, same);
    site.bundle("one.tar", &["alice", "bob"]);
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    // Healthy well before the deadline, and gone for a moment behind it, while the window lasts.
    site.release(2, Site::GOOD, |text| {
        text.replace(Site::QUICK, "lifecycle: {deadline_seconds: 40, stable_seconds: 300}\n")
    });
    let workload = site.path("release/web.yaml");
    let pod = std::fs::read_to_string(&workload).unwrap();
    let short = "      command: [sh, -c, \"httpd -p 8080 -h /www; sleep 60; exit 1\"]\n      imagePullPolicy";
    std::fs::write(&workload, pod.replace("      imagePullPolicy", short)).unwrap();
    site.bundle("two.tar", &["alice", "bob"]);
    let told = taken_back(&site, &[], "container t18112-web: not stable for 300 s: ");
    assert!(told.contains("it was started anew") || told.contains("it stopped"), "{told}");
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}

#[test]
fn an_image_that_was_exchanged_is_taken_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let _machine = machine();
    let site = Site::new(18113);
    site.trust();
    for (sequence, bundle) in [(1, "one.tar"), (2, "two.tar")] {
        site.release(sequence, Site::GOOD, same);
        site.bundle(bundle, &["alice", "bob"]);
    }
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    // Another image, as good by every probe; the engine starts it in the place of the signed one.
    site.podman(&[
        "commit",
        "--quiet",
        "--change",
        "LABEL evil=1",
        &format!("{}-web", site.name()),
        "localhost/evil:1",
    ])
    .expect(0);
    std::fs::create_dir(site.path("shim")).unwrap();
    let real = site.tool("sh", &["-c", "command -v podman"]).expect(0).out;
    let shim = format!(
        "#!/bin/sh\ncase \"$*\" in *\"kube play\"*) [ -e {flag} ] && {{ rm {flag}; for yaml; do :; done; \
         sed 's#registry.example/test/minimal@sha256:[0-9a-f]*#localhost/evil:1#' \"$yaml\" >{other}; \
         exec {real} kube play --replace --network {name} {other}; }};; esac\nexec {real} \"$@\"\n",
        real = real.trim(),
        flag = site.path("exchange").display(),
        other = site.path("other.yaml").display(),
        name = site.name()
    );
    std::fs::write(site.path("shim/podman"), shim).unwrap();
    std::fs::set_permissions(site.path("shim/podman"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(site.path("exchange"), "").unwrap();
    let path = format!("{}:{}", site.path("shim").display(), std::env::var("PATH").unwrap());
    let told = taken_back(&site, &[("PATH", &path)], "container t18113-web");
    assert!(!site.path("exchange").exists() && site.path("other.yaml").exists(), "it was exchanged");
    let (_, digests) = told.split_once("expected image sha256:").unwrap();
    let (signed, ran) = digests.split_once(", found sha256:").unwrap();
    assert!(!ran.starts_with(signed), "the signed digest, and the one that ran: {told}");
    site.installer(&["--yes", "install", "two.tar"]).expect(0);
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.podman(&["rmi", "localhost/evil:1"]).expect(0);
    site.assert_nothing_left();
}

#[test]
fn a_check_that_hangs_ends_with_the_deadline() {
    let _machine = machine();
    let site = Site::new(18114);
    site.trust();
    site.release(1, Site::GOOD, same);
    site.bundle("one.tar", &["alice", "bob"]);
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    site.release(2, Site::GOOD, |text| {
        let check = "{name: hangs, kind: exec, container: t18114-web, command: [sleep, \"300\"]}";
        text.replace(
            Site::QUICK,
            &format!("lifecycle: {{deadline_seconds: 30, stable_seconds: 1, checks: [{check}]}}\n"),
        )
    });
    site.bundle("two.tar", &["alice", "bob"]);
    let told = taken_back(&site, &[], "check hangs: sleep 300: no end after ");
    let (_, seconds) = told.split_once("no end after ").unwrap();
    let seconds: u64 = seconds.split(' ').next().unwrap().parse().unwrap();
    assert!(seconds < 30, "no longer than was left: {seconds} s");
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
}

#[test]
fn an_installation_walks_the_plan_that_was_shown_and_goes_on_with_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let _machine = machine();
    let site = Site::new(18160);
    site.release(1, Site::GOOD, same);
    site.bundle("one.tar", &["alice", "bob"]);
    site.trust();
    let plan: serde_json::Value =
        serde_json::from_str(&site.installer(&["--json", "plan", "one.tar"]).expect(0).out).unwrap();
    let titles: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|step| step["title"].as_str().unwrap()).collect();
    let (before, sha384) = (site.acts(0).len(), plan["plan_sha384"].as_str().unwrap());

    // Killed in its trial, when the platform's own pods hold its port already.
    std::fs::create_dir(site.path("shim")).unwrap();
    let real = site.tool("sh", &["-c", "command -v podman"]).expect(0).out;
    let shim = format!(
        "#!/bin/sh\ncase \"$*\" in *\"healthcheck run\"*) kill -9 $PPID; exit 1;; esac\nexec {} \"$@\"\n",
        real.trim()
    );
    std::fs::write(site.path("shim/podman"), shim).unwrap();
    std::fs::set_permissions(site.path("shim/podman"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", site.path("shim").display(), std::env::var("PATH").unwrap());
    let cut = site.installer_env(&["--yes", "install", "one.tar"], &[("PATH", &path)]);
    assert_eq!(cut.code, -1, "{}{}", cut.out, cut.err);
    let status = site.installer(&["--json", "status"]);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(
        (&status["unfinished"]["phase"], &status["unfinished"]["plan_sha384"]),
        (&"trial".into(), &sha384.into())
    );

    // The same command goes on, and is not refused for what it made itself.
    let again = site.installer(&["--yes", "install", "one.tar"]).expect(0);
    assert!(again.err.contains("it goes on") || again.out.contains("it goes on"), "{}{}", again.out, again.err);
    assert!(site.answers());
    let told = [&cut.out, &cut.err, &again.out, &again.err].map(String::as_str).join("\n");
    let mut walked: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("step: ")).collect();
    walked.dedup();
    assert_eq!(walked, titles);
    let acts = site.acts(before);
    let begun: Vec<_> = acts.iter().filter(|(act, result, _)| act == "install" && result == "begun").collect();
    assert!(begun.len() == 1 && begun[0].2.contains(&format!("plan SHA-384 {sha384}")), "{acts:?}");
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}
