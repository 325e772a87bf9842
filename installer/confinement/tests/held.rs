//! What a confined process can still do and what it cannot, tried by one: this very test program is
//! started once more for each act.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use confinement::confine;

const ACT: &str = "CONFINEMENT_TEST_ACT";
const FOLDER: &str = "CONFINEMENT_TEST_FOLDER";
const PORT: &str = "CONFINEMENT_TEST_PORT";

/// How an act ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    /// Refused with this error number.
    Errno(i32),
    /// Killed by this signal.
    Signal(i32),
}

const EPERM: End = End::Errno(1);
const EACCES: End = End::Errno(13);
const KILLED: End = End::Signal(31);

/// The confined side: only where it is asked to act.
#[test]
fn acts() {
    let Ok(act) = std::env::var(ACT) else { return };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let port: u16 = std::env::var(PORT).unwrap().parse().unwrap();
    let mut open_before = File::options().append(true).open(folder.join("given/file")).unwrap();
    let confined = confine(&[&folder.join("given"), Path::new("/no/such/path")]);
    let done = perform(&act, &folder, port, &mut open_before);
    let code = done.err().map_or(0, |error| error.raw_os_error().unwrap_or(255));
    writeln!(std::io::stderr(), "LINE {}", confined.line()).unwrap();
    std::process::exit(code);
}

fn perform(act: &str, folder: &Path, port: u16, open_before: &mut File) -> std::io::Result<()> {
    let (given, other) = (folder.join("given"), folder.join("other"));
    match act {
        "read" => fs::read(given.join("file")).map(drop),
        "list" => fs::read_dir(&given)?.try_for_each(|entry| entry.map(drop)),
        "read other" => fs::read(other.join("file")).map(drop),
        "read other in a thread" => std::thread::spawn(move || fs::read(other.join("file"))).join().unwrap().map(drop),
        "list other" => fs::read_dir(&other)?.try_for_each(|entry| entry.map(drop)),
        "write" => File::options().write(true).open(given.join("file")).map(drop),
        "truncate" => File::options().write(true).truncate(true).open(given.join("file")).map(drop),
        "create" => File::create(given.join("new")).map(drop),
        "create elsewhere" => File::create(other.join("new")).map(drop),
        "write to what is open" => open_before.write_all(b"x"),
        "remove" => fs::remove_file(given.join("file")),
        "rename" => fs::rename(given.join("file"), given.join("new")),
        "make a folder" => fs::create_dir(given.join("new")),
        "link" => std::os::unix::fs::symlink("x", given.join("new")),
        "change mode" => fs::set_permissions(given.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o777)),
        "connect" => TcpStream::connect(("127.0.0.1", port)).map(drop),
        "unix socket" => std::os::unix::net::UnixStream::connect(given.join("socket")).map(drop),
        "start a program" => Command::new("/bin/true").spawn().map(drop),
        "become a program" => nix::unistd::execv(c"/bin/true", &[c"true"]).map(drop).map_err(Into::into),
        "change root" => nix::unistd::chroot(&given).map_err(Into::into),
        "read what is another's" => fs::read(given.join("foreign")).map(drop),
        "write to what is another's" => File::options().append(true).open(given.join("foreign")).map(drop),
        "give a file away" => nix::unistd::chown(&given.join("file"), Some(1.into()), None).map_err(Into::into),
        "raise a limit" => {
            use nix::sys::resource::{Resource, setrlimit};
            setrlimit(Resource::RLIMIT_NOFILE, 1024, 1024).map_err(Into::into)
        }
        "take memory" => {
            let mut much: Vec<u8> = Vec::new();
            let size = usize::try_from(confinement::DATA_BYTES).unwrap();
            much.try_reserve_exact(size).map_err(|_| std::io::Error::from_raw_os_error(12))
        }
        "print" => std::io::stdout().write_all(b"x"),
        "random" => {
            std::collections::HashMap::<u8, u8>::new().is_empty().then_some(()).ok_or(std::io::ErrorKind::Other.into())
        }
        "many threads" => {
            let threads: Vec<_> = (0..8u8).map(|n| std::thread::spawn(move || n * 2)).collect();
            let doubled: u8 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(doubled, 56);
            Ok(())
        }
        other => panic!("{other}"),
    }
}

/// A folder to act in, and a listener to reach.
struct Ground {
    folder: tempfile::TempDir,
    listener: TcpListener,
    _socket: std::os::unix::net::UnixListener,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["given", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("file"), b"TEST").unwrap();
        }
        // Somebody else's, that nobody but root may read or write.
        let foreign = folder.path().join("given/foreign");
        fs::write(&foreign, b"TEST").unwrap();
        fs::set_permissions(&foreign, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        if nix::unistd::geteuid().is_root() {
            nix::unistd::chown(&foreign, Some(1.into()), None).unwrap();
        }
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("given/socket")).unwrap();
        Self { folder, listener: TcpListener::bind("127.0.0.1:0").unwrap(), _socket: socket }
    }

    /// Has `act` tried, behind the words of another program; how it ended, and the line of the report.
    fn act(&self, before: &[&str], act: &str) -> (End, String) {
        let own = std::env::current_exe().unwrap().display().to_string();
        let words = [before, &[own.as_str(), "--exact", "acts", "--nocapture", "--test-threads=1"]].concat();
        let output = Command::new(words[0])
            .args(&words[1..])
            .env(ACT, act)
            .env(FOLDER, self.folder.path())
            .env(PORT, self.listener.local_addr().unwrap().port().to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find_map(|line| line.strip_prefix("LINE ")).unwrap_or_default().to_owned();
        let end = match (output.status.code(), output.status.signal()) {
            (Some(0), _) => End::Done,
            (Some(code), _) => End::Errno(code),
            (None, signal) => End::Signal(signal.unwrap()),
        };
        (end, line)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Whatever was tried: what lies there is as it was.
        for name in ["given", "other"] {
            assert_eq!(fs::read(self.folder.path().join(name).join("file")).unwrap(), b"TEST");
            assert!(!self.folder.path().join(name).join("new").exists());
        }
    }
}

/// strace that fails system calls of the test, as a kernel without them would.
fn without<'a>(calls: &[&'a str]) -> Vec<&'a str> {
    [&["strace", "-f", "-qq", "-o", "/dev/null"][..], calls].concat()
}

const NO_LANDLOCK: [&str; 2] = ["-e", "inject=landlock_create_ruleset:error=ENOSYS"];
const NO_SECCOMP: [&str; 2] = ["-e", "inject=seccomp:error=EINVAL"];

#[test]
fn what_is_left_and_what_is_not() {
    let ground = Ground::new();
    for act in ["read", "list", "print", "random", "many threads"] {
        let (end, line) = ground.act(&[], act);
        assert_eq!(end, End::Done, "{act}");
        assert!(line.starts_with("confined: landlock ABI ") && line.ends_with(", seccomp"), "{act}: {line}");
    }
    for (act, expected) in [
        ("read other", EACCES),
        ("read other in a thread", EACCES),
        ("list other", EACCES),
        ("write", EPERM),
        ("truncate", EPERM),
        ("create", EPERM),
        ("create elsewhere", EPERM),
        ("write to what is open", EPERM),
        ("remove", EPERM),
        ("rename", EPERM),
        ("make a folder", EPERM),
        ("link", EPERM),
        ("change mode", EPERM),
        ("raise a limit", EPERM),
        ("take memory", End::Errno(12)),
        ("start a program", EPERM),
        ("become a program", KILLED),
        ("connect", KILLED),
        ("unix socket", KILLED),
        ("change root", KILLED),
    ] {
        assert_eq!(ground.act(&[], act).0, expected, "{act}");
    }
}

#[test]
fn each_layer_stands_alone_and_is_named() {
    let ground = Ground::new();
    let landlock_alone = without(&NO_SECCOMP);
    for (act, expected) in [
        ("read", End::Done),
        ("read other", EACCES),
        ("write", EACCES),
        ("create", EACCES),
        ("remove", EACCES),
        ("connect", EACCES),
        ("become a program", EACCES),
    ] {
        let (end, line) = ground.act(&landlock_alone, act);
        assert_eq!(end, expected, "{act}");
        assert!(line.contains("landlock ABI ") && line.contains("; this kernel lacks seccomp ("), "{act}: {line}");
    }
    let seccomp_alone = without(&NO_LANDLOCK);
    for (act, expected) in
        [("read", End::Done), ("read other", End::Done), ("write", EPERM), ("connect", KILLED), ("remove", EPERM)]
    {
        let (end, line) = ground.act(&seccomp_alone, act);
        assert_eq!(end, expected, "{act}");
        let says = line.starts_with("confined: seccomp; this kernel lacks landlock (");
        assert!(says || end == KILLED, "{act}: {line}");
    }
    let neither = without(&[NO_LANDLOCK, NO_SECCOMP].concat());
    let (end, line) = ground.act(&neither, "read other");
    assert_eq!(end, End::Done);
    assert!(line.starts_with("NOT CONFINED: this kernel lacks landlock (") && line.contains("), seccomp ("), "{line}");
}

#[test]
fn of_roots_privileges_that_of_reading_is_left() {
    assert!(nix::unistd::geteuid().is_root(), "who is not root has no privileges to lose: run this as root");
    let ground = Ground::new();
    assert_eq!(ground.act(&[], "read what is another's").0, End::Done);
    let open = [NO_LANDLOCK, NO_SECCOMP].concat();
    let kept = [&open[..], &["-e", "inject=capset:error=EPERM"]].concat();
    for (act, expected) in [
        ("read what is another's", End::Done),
        ("write to what is another's", EACCES),
        ("give a file away", EPERM),
        ("change root", EPERM),
    ] {
        let (end, line) = ground.act(&without(&open), act);
        assert_eq!(end, expected, "{act}");
        assert!(!line.contains("capset"), "{line}");
        // It is they that make the difference.
        let (end, line) = ground.act(&without(&kept), act);
        assert_eq!(end, End::Done, "{act}");
        assert!(line.contains("this kernel lacks capset ("), "{line}");
        nix::unistd::chown(&ground.folder.path().join("given/file"), Some(0.into()), None).unwrap();
    }
}

#[test]
fn the_listener_was_there() {
    // Were it not, "connect" would have been refused for another reason.
    let ground = Ground::new();
    let mut there = TcpStream::connect(ground.listener.local_addr().unwrap()).unwrap();
    drop(ground.listener.accept().unwrap());
    assert_eq!(there.read(&mut [0]).unwrap(), 0);
}
