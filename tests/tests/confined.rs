//! The confinement of the real programs: what holds the process that reads a bundle while it reads,
//! what is said where a kernel lacks it, and what becomes of a reader that does not come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bundle_format::pack::Encoding;
use bundle_format::timestamp::Timestamp;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use system_tests::high::{High, parse};
use system_tests::keys::{self, alice, bob, mallory};
use system_tests::site::{Said, program};
use system_tests::{Draft, ustar};

const NO_LANDLOCK: [&str; 2] = ["-e", "inject=landlock_create_ruleset:error=ENOSYS"];
const NO_SECCOMP: [&str; 2] = ["-e", "inject=seccomp:error=EINVAL"];

/// strace with these words.
fn strace<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["strace", "-f", "-qq", "-o", "/dev/null"][..], words].concat()
}

/// A machine that trusts, and a bundle that it takes.
fn ground() -> High {
    let root = keys::two_of_three();
    let high = High::trusting(&root, &[]);
    let mut draft = Draft { roots: vec![root], signers: vec![alice(), bob()], ..Draft::empty() };
    draft.add_files(Encoding::Raw, &[b"TEST"]);
    high.bundle("good", &draft);
    high.bundle("strange", &Draft { signers: vec![mallory(), bob()], ..draft });
    high
}

/// The fields of `/proc/PID/status`.
fn status(pid: u32) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Some(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

fn children(parent: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| status(*pid).is_some_and(|fields| fields["PPid"] == parent.to_string())).collect()
}

/// The files that a process has open.
fn files_of(pid: u32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.is_absolute() && target != Path::new("/dev/null")).collect()
}

/// Looks until it is there.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A pipe that takes no byte more, until somebody reads.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(b".").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn the_process_that_reads_is_held_and_its_parent_reads_nothing() {
    let high = ground();
    // The first line of the output cannot be written: the reader stands still, its head proved.
    let (mut reader, writer) = full_pipe();
    let mut command = Command::new(program("installer"));
    command.args(["--state-dir", "state", "verify", "good"]).current_dir(high.path("."));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut parent = command.spawn().unwrap();
    drop(command);
    let bundle = std::fs::canonicalize(high.path("good")).unwrap();
    let child = until("a reader that is held and has the bundle open", || {
        let held = |pid: &u32| status(*pid).is_some_and(|fields| fields["Seccomp"] == "2");
        children(parent.id()).into_iter().find(|pid| held(pid) && files_of(*pid).contains(&bundle))
    });
    let held = status(child).unwrap();
    assert_eq!((held["NoNewPrivs"].as_str(), held["Seccomp_filters"].as_str()), ("1", "3"));
    let limits = std::fs::read_to_string(format!("/proc/{child}/limits")).unwrap();
    for (name, soft, hard) in [
        ("Max file size", "0", "0"),
        ("Max core file size", "0", "0"),
        ("Max data size", "1073741824", "1073741824"),
        ("Max open files", "64", "64"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{name}");
    }
    assert_eq!(files_of(child), std::slice::from_ref(&bundle), "of files, only the bundle; the database is closed");
    assert!(!files_of(parent.id()).contains(&bundle));
    assert_eq!(status(parent.id()).unwrap()["Seccomp"], "0", "the parent writes records");

    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim_start_matches('.'), "UNCLASSIFIED\nUNCLASSIFIED\n", "first line and last, by two processes");
    let mut out = String::new();
    parent.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(parent.wait().unwrap().success());
    assert!(out.contains("\n  confined: landlock ABI ") && out.contains(", seccomp\n"), "{out}");
}

#[test]
fn a_kernel_that_lacks_something_is_said_and_the_proof_goes_on() {
    let high = ground();
    let whole = &parse(&high.installer(&["--json", "verify", "good"]).expect(0))["confined"];
    assert!(whole["landlock_abi"].as_u64().unwrap() >= 1 && whole["seccomp"] == true, "{whole}");
    assert_eq!(whole["lacks"], serde_json::json!([]));
    for (inject, says, landlock, seccomp) in [
        (NO_LANDLOCK.to_vec(), "  confined: seccomp; this kernel lacks landlock (not built in)\n", false, true),
        (NO_SECCOMP.to_vec(), "; this kernel lacks seccomp (", true, false),
        (
            [NO_LANDLOCK, NO_SECCOMP].concat(),
            "  NOT CONFINED: this kernel lacks landlock (not built in), seccomp (",
            false,
            false,
        ),
    ] {
        let under = strace(&inject);
        let said = high.installer_under(&under, &["verify", "good"]).expect(0);
        assert!(said.out.contains("verified: test-product") && said.out.contains(says), "{}", said.out);
        let confined = &parse(&high.installer_under(&under, &["--json", "verify", "good"]).expect(0))["confined"];
        assert_eq!((confined["landlock_abi"].is_u64(), confined["seccomp"] == true), (landlock, seccomp), "{confined}");
        assert_eq!(confined["lacks"].as_array().unwrap().len(), 2 - usize::from(landlock) - usize::from(seccomp));
        let inspected = Command::new(under[0])
            .args(&under[1..])
            .arg(program("bundle-builder"))
            .args(["inspect", "good"])
            .current_dir(high.path("."))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&inspected.stderr);
        assert!(inspected.status.success() && err.contains("this kernel lacks "), "{err}");
    }
    let inspected = parse(&high.builder(&["--json", "inspect", "good"]).expect(0));
    assert_eq!(inspected["confined"]["seccomp"], true);
    assert!(!high.builder(&["inspect", "good"]).expect(0).err.contains("lacks"));
}

#[test]
fn refusals_cross_from_the_reader_to_the_record() {
    let high = ground();
    let refused = |high: &High| {
        let (act, result, detail) = high.records().into_iter().next_back().unwrap();
        assert_eq!((act.as_str(), result.as_str()), ("verify", "refused"));
        detail
    };
    let said = high.installer(&["verify", "strange"]).expect(4);
    assert!(said.err.contains("error: ") && said.err.contains("\nwhat to do: "), "{}", said.err);
    assert_eq!(said.err.lines().filter(|line| line.starts_with("what to do")).count(), 1, "told once: {}", said.err);
    let detail = refused(&high);
    assert!(said.err.contains(&format!("error: {detail}\n")), "{detail}: {}", said.err);
    let count = high.records().len();
    let said = high.installer(&["verify", "not-there"]).expect(6);
    assert!(said.err.contains("not-there: read or write failed\n  because: No such file"), "{}", said.err);
    assert_eq!(high.records().len(), count, "that is no refusal of a bundle");

    // A reader that is ended from outside, at the call that confines it: nobody takes that for a proof.
    let under = strace(&["-e", "inject=landlock_restrict_self:signal=SIGKILL"]);
    let said = high.installer_under(&under, &["verify", "good"]).expect(70);
    assert!(said.err.contains("ended without a verdict: signal 9") && said.out.is_empty(), "{said:?}");
    assert!(refused(&high).contains("ended without a verdict: signal 9"));
    // One that asks for what no reader needs: here the kernel's answer is made up, not its question.
    let under = strace(&["-e", "inject=landlock_restrict_self:signal=SIGSYS"]);
    let said = high.installer_under(&under, &["verify", "good"]).expect(70);
    assert!(said.err.contains("a system call that no reader needs"), "{}", said.err);
    assert!(said.err.contains("what to do: use it on no machine"), "{}", said.err);
}

#[test]
fn nobody_else_can_ask_the_reader() {
    let high = ground();
    let zeros = "0".repeat(96);
    for args in [
        &["--in-reader", "verify", "strange"][..],
        &["--in-reader", "status"],
        &["--in-reader", "unpack", "--manifest", &zeros, "good"],
        &["unpack", "--manifest", &zeros, "good"],
    ] {
        let count = high.records().len();
        let said = high.installer(args).expect(2);
        assert!(said.err.contains("for this program's own use"), "{}", said.err);
        assert_eq!(high.records().len(), count);
    }
    let help = high.installer(&["verify", "--help"]).expect(0);
    assert!(!help.out.contains("in-reader"), "{}", help.out);
    assert!(!high.installer(&["--help"]).expect(0).out.contains("unpack"));
}

#[test]
fn who_writes_what_a_bundle_holds_does_not_decode_it() {
    let high = ground();
    let import = ["--yes", "import", "good", "--store", "held"];
    let held = || std::fs::read_dir(high.path("held/blobs/sha256")).map_or(0, Iterator::count);
    // Who opens the bundle, and what each gave up before.
    let under = [
        "strace",
        "-f",
        "-qq",
        "-y",
        "-o",
        "trace",
        "-e",
        "trace=openat,seccomp,landlock_restrict_self,renameat,rename,renameat2",
    ];
    high.installer_under(&under, &import).expect(0);
    assert_eq!(held(), 1);
    let trace = std::fs::read_to_string(high.path("trace")).unwrap();
    let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in trace.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        calls.entry(pid).or_default().push(call.trim());
    }
    let first = |pid: &str, what: &str| calls[pid].iter().position(|call| call.contains(what));
    let of = |what: &str| -> Vec<&str> { calls.keys().copied().filter(|pid| first(pid, what).is_some()).collect() };
    let (writers, confined) = (of("held/blobs/sha256/"), of("landlock_restrict_self("));
    assert_eq!((writers.len(), confined.len()), (1, 1), "{trace}");
    assert_ne!(writers, confined, "{trace}");
    let (bundle, landlock, seccomp) = (
        first(confined[0], "/good\", O_RDONLY|O_NOCTTY"),
        first(confined[0], "landlock_restrict_self("),
        first(confined[0], "seccomp("),
    );
    assert!(landlock < bundle && seccomp < bundle && seccomp.is_some() && bundle.is_some(), "{trace}");

    // One that does not come back, and a kernel that lacks something.
    std::fs::remove_dir_all(high.path("held")).unwrap();
    let under = strace(&["-e", "inject=landlock_restrict_self:signal=SIGKILL"]);
    let said = high.installer_under(&under, &import).expect(70);
    assert!(said.err.contains("ended without a verdict: signal 9"), "{}", said.err);
    assert_eq!(held(), 0, "nothing is kept");
    let said = high.installer_under(&strace(&NO_LANDLOCK), &import).expect(0);
    assert!(
        said.err
            .contains("WARNING: what decodes the bundle is not confined as it should be: this kernel lacks landlock"),
        "{}",
        said.err
    );
    assert_eq!(held(), 1);
}

/// What of a process `strace` writes down to tell whether it was held before it opened a bundle.
const OPENS: [&str; 8] =
    ["strace", "-f", "-qq", "-y", "-o", "trace", "-e", "trace=openat,seccomp,landlock_restrict_self"];

/// Every process that opened `bundle` to read it had given everything up before.
#[track_caller]
fn assert_held_before_reading(high: &High, bundle: &str) {
    let trace = std::fs::read_to_string(high.path("trace")).unwrap();
    let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (pid, call) in trace.lines().filter_map(|line| line.split_once(' ')) {
        calls.entry(pid).or_default().push(call.trim());
    }
    let opened = format!("{bundle}\", O_RDONLY|O_NOCTTY");
    let mut readers = 0;
    for calls in calls.values() {
        let first = |what: &str| calls.iter().position(|call| call.contains(what));
        let Some(opened) = first(&opened) else { continue };
        readers += 1;
        for held in ["landlock_restrict_self(", "seccomp("] {
            assert!(first(held).is_some_and(|held| held < opened), "{held}: {trace}");
        }
    }
    assert_eq!(readers, 1, "{trace}");
}

/// A bundle that is hostile in its head: the exit codes of the builder's `inspect`, which trusts nobody, and
/// of the installer's, and a part of what each says.
type Hostile = (&'static str, Vec<u8>, [i32; 2], [&'static str; 2]);

fn hostile() -> Vec<Hostile> {
    let draft = || Draft { roots: vec![keys::two_of_three()], signers: vec![alice(), bob()], ..Draft::small() };
    let good = draft().archive();
    let both = |says| [says, says];
    let huge = ustar::edit(&good, "manifest.json", |header| header.set_size((8 << 30) - 1));
    let fifo = ustar::edit(&good, "signatures/", |header| header.as_old_mut().linkflag = *b"6");
    let climbing = ustar::insert(&good, "signatures/", &ustar::plain("../../evil", b"x"));
    let deep = draft().sealed_text("[".repeat(1 << 20).into_bytes()).archive();
    let spaced = draft().sealed_text(draft().text().replacen(':', ": ", 1).into_bytes()).archive();
    let escape = draft().sealed_text(draft().text().replace("TEST bundle", "\\u001b[2JTEST").into_bytes()).archive();
    let strangers = Draft { signers: vec![mallory(), bob()], ..draft() }.archive();
    let mut expired = draft();
    expired.manifest.expires = Some(Timestamp::parse("2026-01-02T00:00:00Z").unwrap());
    vec![
        ("empty", Vec::new(), [3, 3], both("")),
        ("cut", good[..700].to_vec(), [3, 3], both("")),
        ("no-archive", b"TEST no archive\x1b[2J".repeat(100), [3, 3], both("")),
        ("huge", huge, [3, 3], both("manifest.json")),
        ("fifo", fifo, [3, 3], both("not the one of a plain member")),
        ("climbing", climbing, [3, 3], both("")),
        ("deep", deep, [3, 3], both("nest")),
        // The canonical form is the proof's to ask for.
        ("spaced", spaced, [0, 3], ["", "canonical"]),
        ("escape", escape, [3, 3], both("title")),
        ("strangers", strangers, [0, 4], ["", "key"]),
        ("expired", expired.archive(), [0, 5], ["", "expire"]),
    ]
}

#[test]
fn hostile_bundles_are_inspected_by_held_processes() {
    let high = High::trusting(&keys::two_of_three(), &[]);
    let sound = |said: &Said, name: &str| {
        let all = format!("{}{}", said.out, said.err);
        assert!(!all.contains("panicked") && !all.contains('\x1b'), "{name}: {said:?}");
        assert_held_before_reading(&high, name);
    };
    for (name, bytes, [builder, installer], says) in hostile() {
        high.write(name, &bytes);
        let inspected = Command::new(OPENS[0])
            .args(&OPENS[1..])
            .arg(program("bundle-builder"))
            .args(["inspect", name])
            .current_dir(high.path("."))
            .output()
            .unwrap();
        let said = Said::of(&inspected).expect(builder);
        sound(&said, name);
        assert!(said.err.contains(says[0]) && said.err.contains("error: ") == (builder != 0), "{name}: {said:?}");
        let said = high.installer_under(&OPENS, &["inspect", "provenance", name]).expect(installer);
        sound(&said, name);
        assert!(said.err.contains("error: ") && said.err.contains(says[1]), "{name}: {said:?}");
        assert!(said.err.contains("\nwhat to do: "), "{name}: {said:?}");
    }
}
