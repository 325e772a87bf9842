//! The points at which a run can be cut: each system call of the installer's own process that
//! changes what outlives it, in the order of a run that is let through, and the options that make
//! strace cut there.
//!
//! strace kills on the entry of a call, before it is done (seen with 6.1: the folder of a killed
//! `mkdir` is not there). So the cut at a point is also the cut right behind the point before it:
//! killing at every point meets every state on the disk that the installer can leave.
//!
//! So the system calls are the seam of storage, and the engine that stands in for podman is the seam of
//! commands. What systemd is told is no point here: its units are hidden, and power cuts in a real machine
//! (`tests/vm/powercut.sh`) meet them.

use std::collections::BTreeMap;
use std::path::Path;

use super::case::Case;

/// System calls that change files. Calls on anything outside the case's folder are no points.
const FILES: [&str; 34] = [
    "fsync",
    "fdatasync",
    "sync_file_range",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "symlink",
    "symlinkat",
    "truncate",
    "ftruncate",
    "fallocate",
    "pwrite64",
    "pwritev",
    "write",
    "writev",
    "copy_file_range",
    "openat",
    "chmod",
    "fchmod",
    "fchmodat",
    "lchown",
    "fchown",
    "fchownat",
    "utimensat",
    "setxattr",
    "mknodat",
];
/// A disk that is full stays full: calls that need room.
const ROOM: [&str; 11] = [
    "pwrite64",
    "pwritev",
    "fallocate",
    "copy_file_range",
    "mkdir",
    "mkdirat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "truncate",
];
/// A file system that the kernel has made read-only stays so: calls that it then refuses.
const CHANGES: [&str; 23] = [
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "symlink",
    "symlinkat",
    "truncate",
    "ftruncate",
    "fallocate",
    "pwrite64",
    "pwritev",
    "copy_file_range",
    "chmod",
    "fchmod",
    "lchown",
    "fchownat",
    "utimensat",
];

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The installer is killed.
    Kill,
    /// This one call fails with an I/O error.
    Eio,
    /// The disk is full from this call on.
    Enospc,
    /// The file system is read-only from this call on.
    Erofs,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Eio, Self::Enospc, Self::Erofs];

    /// Its word in reports and choices.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Eio => "eio",
            Self::Enospc => "enospc",
            Self::Erofs => "erofs",
        }
    }
}

/// A point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The system call.
    pub call: String,
    /// Which one of its name, from 1, in the main thread.
    pub nth: usize,
    /// What it is about: a path below the case's folder, or the program that is started.
    pub about: String,
    /// How often the main thread had made each call before.
    before: BTreeMap<String, usize>,
}

/// What became of a cut that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The run was cut at the point.
    Yes,
    /// It was cut, at another place: runs differ a little.
    Elsewhere,
    /// It ended before.
    No,
}

/// Options to count with: children are followed until they become another program, which names them.
fn counting(log: &Path) -> Vec<String> {
    let mut calls = FILES.join(",");
    calls.push_str(",connect,clone,clone3,vfork,execve");
    let mut words = options(log, &calls);
    words.extend(["-f", "-b", "execve"].map(str::to_owned));
    words
}

/// The main thread alone, since strace counts calls by thread: it makes every change but one. Where several
/// stopped workloads are taken away, all but the first are by threads of their own; the cuts of the first
/// meet them at any of their moments. Other threads feed pipes and serve the registry.
fn options(log: &Path, calls: &str) -> Vec<String> {
    let log = log.display().to_string();
    let trace = format!("trace={calls}");
    let words = ["strace", "-q", "-y", "-s", "80", "-o", &log, "-e", &trace];
    words.iter().map(ToString::to_string).collect()
}

/// Runs a command whole and gives its points with what it said.
pub fn count(case: &Case, args: &[&str]) -> (crate::site::Said, Vec<Point>) {
    let log = case.beside("trace");
    let said = case.installer_under(&counting(&log), args);
    (said, points(&std::fs::read_to_string(&log).unwrap(), &case.folder.display().to_string()))
}

/// What a point can be, by what it does to what outlives the process.
pub const CLASSES: [&str; 7] = ["fsync", "rename", "write", "unlink", "connect", "process start", "other"];

impl Point {
    /// Which of [`CLASSES`] it is.
    pub fn class(&self) -> &'static str {
        match self.call.as_str() {
            "fsync" | "fdatasync" | "syncfs" | "sync_file_range" => "fsync",
            "rename" | "renameat" | "renameat2" => "rename",
            "write" | "writev" | "pwrite64" | "pwritev" | "copy_file_range" => "write",
            "unlink" | "unlinkat" | "rmdir" => "unlink",
            "connect" => "connect",
            "clone" | "clone3" | "vfork" => "process start",
            _ => "other",
        }
    }

    /// What goes before the installer to have `fault` happen here.
    pub fn cut(&self, case: &Case, fault: Fault) -> Vec<String> {
        let mut faults: Vec<String> = Vec::new();
        let (error, lasting) = match fault {
            Fault::Kill => ("signal=KILL", &[][..]),
            Fault::Eio => ("error=EIO", &[][..]),
            Fault::Enospc => ("error=ENOSPC", &ROOM[..]),
            Fault::Erofs => ("error=EROFS", &CHANGES[..]),
        };
        if !lasting.contains(&self.call.as_str()) {
            faults.push(format!("inject={}:{error}:when={}", self.call, self.nth));
        }
        for call in lasting {
            let made = self.before.get(*call).copied().unwrap_or(0);
            faults.push(format!("inject={call}:{error}:when={}+", made + 1));
        }
        let calls = std::iter::once(self.call.as_str()).chain(lasting.iter().copied()).collect::<Vec<_>>().join(",");
        let mut words = options(&case.beside("trace"), &calls);
        words.extend(faults.into_iter().flat_map(|fault| ["-e".to_owned(), fault]));
        words
    }

    /// Whether the cut that was asked for came about, by the trace.
    pub fn reached(&self, case: &Case, fault: Fault) -> Reached {
        let log = std::fs::read_to_string(case.beside("trace")).unwrap_or_default();
        let hit = if fault == Fault::Kill {
            let killed = log.contains("+++ killed by SIGKILL +++");
            log.lines().rfind(|line| !line.contains("+++")).filter(|_| killed)
        } else {
            log.lines().find(|line| line.contains("(INJECTED)"))
        };
        let Some(line) = hit else { return Reached::No };
        let folder = case.folder.display().to_string();
        let Some(line) = Line::parse(line) else { return Reached::No };
        let inside = is_start(&line) || line.call == "connect" || line.path().starts_with(&folder);
        match line.call == self.call && (is_start(&line) || line.about(&folder) == self.about) {
            true => Reached::Yes,
            false if inside => Reached::Elsewhere,
            // A message to a person that could not be written, for instance: no cut of what is kept.
            false => Reached::No,
        }
    }
}

/// One line of a trace.
struct Line<'a> {
    pid: &'a str,
    call: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // Where one thread alone is traced, nothing says which.
        let (pid, rest) = line.split_once(' ').filter(|(pid, _)| pid.parse::<u32>().is_ok()).unwrap_or(("", line));
        let (call, rest) = rest.trim_start().split_once('(')?;
        call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then_some(Self { pid, call, rest })
    }

    /// The last path of the call.
    fn path(&self) -> String {
        let arguments = self.rest.rsplit_once(") = ").map_or(self.rest, |(arguments, _)| arguments);
        let quoted = arguments.rsplit_once('"').and_then(|(head, _)| head.rsplit_once('"')).map(|(_, path)| path);
        let opened = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path);
        match (quoted, opened) {
            // What is written is no path.
            _ if matches!(self.call, "write" | "writev" | "pwrite64" | "pwritev") => {
                opened.unwrap_or_default().to_owned()
            }
            (Some(quoted), _) if quoted.starts_with('/') => quoted.to_owned(),
            (Some(quoted), Some(opened)) => format!("{opened}/{quoted}"),
            (quoted, opened) => quoted.or(opened).unwrap_or_default().to_owned(),
        }
    }

    /// That path, seen from `folder`, with what is random in it made plain.
    fn about(&self, folder: &str) -> String {
        let path = self.path();
        let inside = path.strip_prefix(folder).unwrap_or(&path).trim_start_matches('/');
        let plain = |name: &str| match name {
            _ if name.starts_with(".tmp") => ".tmp*".to_owned(),
            _ if name.starts_with("socket:") => "socket".to_owned(),
            // A backup is named by its time.
            _ if name.trim_start_matches('.').starts_with("20") && name.contains("Z-g") => "TIME".to_owned(),
            _ => name.to_owned(),
        };
        inside.split('/').map(plain).collect::<Vec<_>>().join("/")
    }
}

/// The start of a program, not of a thread.
fn is_start(line: &Line<'_>) -> bool {
    matches!(line.call, "clone" | "clone3" | "vfork") && !line.rest.contains("CLONE_THREAD")
}

/// The points of a trace: calls of the main thread on files in `folder`, connections, starts of programs.
fn points(log: &str, folder: &str) -> Vec<Point> {
    let main = log.split_whitespace().next().unwrap_or_default();
    let mut before: BTreeMap<String, usize> = BTreeMap::new();
    let mut points: Vec<Point> = Vec::new();
    for line in log.lines().filter_map(Line::parse) {
        if line.pid != main {
            // The child of the newest start says which program it becomes.
            if let (true, Some(start)) = (line.call == "execve", points.last_mut().filter(|p| p.about.is_empty())) {
                start.about = program_of(line.rest);
            }
            continue;
        }
        let creates = line.call != "openat" || line.rest.contains("O_CREAT") || line.rest.contains("O_TRUNC");
        let counts = is_start(&line)
            || line.call == "connect"
            || (FILES.contains(&line.call) && creates && line.path().starts_with(folder));
        if counts {
            let about = if is_start(&line) { String::new() } else { line.about(folder) };
            let nth = before.get(line.call).copied().unwrap_or(0) + 1;
            points.push(Point { call: line.call.to_owned(), nth, about, before: before.clone() });
        }
        *before.entry(line.call.to_owned()).or_default() += 1;
    }
    points
}

/// `podman kube play` out of the arguments of execve.
fn program_of(rest: &str) -> String {
    let words = rest.split_once('[').map_or("", |(_, words)| words);
    let words = words.split(']').next().unwrap_or_default().split(", ").map(|word| word.trim_matches('"'));
    words.take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_changes_of_the_main_thread_below_the_folder_and_starts_of_programs() {
        let log = concat!(
            "7  openat(AT_FDCWD</x>, \"/etc/passwd\", O_RDONLY) = 3</etc/passwd>\n",
            "7  openat(AT_FDCWD</x>, \"/c/state/.tmpAbC\", O_RDWR|O_CREAT, 0600) = 3</c/state/.tmpAbC>\n",
            "7  write(2<pipe:[1]>, \"/c/no path\", 5) = 5\n",
            "7  write(3</c/state/.tmpAbC>, \"a\", 1) = 1\n",
            "7  clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 8\n",
            "8  fsync(3</c/state/x>) = 0\n",
            "7  clone3({flags=CLONE_VM|CLONE_VFORK}, 88) = 9\n",
            "9  execve(\"/c/bin/podman\", [\"podman\", \"kube\", \"play\", \"x\"], 0x1) = 0\n",
            "7  <... clone3 resumed>) = 9\n",
            "7  renameat2(AT_FDCWD</x>, \"/c/state/a\", AT_FDCWD</x>, \"/c/state/b\", 0) = 0\n",
            "7  unlinkat(4</c/state/d>, \"e\", 0) = 0\n",
            "7  +++ exited with 0 +++\n",
        );
        let found: Vec<(String, usize, String)> =
            points(log, "/c").into_iter().map(|point| (point.call, point.nth, point.about)).collect();
        let expected = [
            ("openat", 2, "state/.tmp*"),
            ("write", 2, "state/.tmp*"),
            ("clone3", 2, "podman kube play"),
            ("renameat2", 1, "state/b"),
            ("unlinkat", 1, "state/d/e"),
        ];
        let expected: Vec<(String, usize, String)> =
            expected.iter().map(|(call, nth, about)| ((*call).to_owned(), *nth, (*about).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_full_disk_stays_full_and_a_kill_comes_once() {
        let log = "7 pwrite64(3</c/a>, \"x\", 1, 0) = 1\n7 pwrite64(3</c/a>, \"x\", 1, 0) = 1\n7 fsync(3</c/a>) = 0\n";
        let sync = points(log, "/c").pop().unwrap();
        let case = Case { bin: "/bin".into(), folder: "/c".into() };
        let full = sync.cut(&case, Fault::Enospc).join(" ");
        for part in
            ["inject=fsync:error=ENOSPC:when=1 ", "inject=pwrite64:error=ENOSPC:when=3+", "mkdir:error=ENOSPC:when=1+"]
        {
            assert!(full.contains(part), "{part} in {full}");
        }
        let kill = sync.cut(&case, Fault::Kill).join(" ");
        assert!(kill.ends_with("-e trace=fsync -e inject=fsync:signal=KILL:when=1"), "{kill}");
    }
}
