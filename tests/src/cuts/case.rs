//! One folder with an installer's state and a simulated engine, and the programs run on it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::engine::FOLDER;
use crate::site::Said;

/// No call takes this long, also on a machine that many share: one that does hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Exit code in reports of a call that hung.
pub const HUNG: i32 = 255;

/// A folder to work in.
#[derive(Debug, Clone)]
pub struct Case {
    /// Folder of the programs: the installer, and the simulated engine as `podman`.
    pub bin: PathBuf,
    /// The folder.
    pub folder: PathBuf,
}

impl Case {
    /// The installer's state.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The engine's state.
    pub fn engine(&self) -> PathBuf {
        self.folder.join("engine")
    }

    /// A file about the case that is no part of it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.with_extension(name)
    }

    /// Makes this folder anew as a copy.
    pub fn copy_of(&self, other: &Self) {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).unwrap();
        }
        fs::create_dir_all(self.folder.parent().unwrap()).unwrap();
        let status = Command::new("cp").arg("-a").args([&other.folder, &self.folder]).status().unwrap();
        assert!(status.success(), "cp -a {}", other.folder.display());
    }

    /// Runs the installer.
    pub fn installer(&self, args: &[&str]) -> Said {
        self.installer_under(&[], args)
    }

    /// Runs the installer under another program; the exit code of what a signal ended is -1.
    pub fn installer_under(&self, before: &[String], args: &[&str]) -> Said {
        let (installer, state) = (self.bin.join("installer").display().to_string(), self.state().display().to_string());
        let mut words = before.to_vec();
        words.extend([installer, "--state-dir".into(), state]);
        words.extend(args.iter().map(ToString::to_string));
        self.run(&words)
    }

    /// Asks the engine.
    pub fn podman(&self, args: &[&str]) -> Said {
        self.tool(&self.bin.join("podman").display().to_string(), args)
    }

    /// Runs another program where the installer would find it.
    pub fn tool(&self, program: &str, args: &[&str]) -> Said {
        let mut words = vec![program.to_owned()];
        words.extend(args.iter().map(ToString::to_string));
        self.run(&words)
    }

    /// Runs a program and waits until it and everything that it started has ended: a killed
    /// installer's last call of the engine goes on without it.
    fn run(&self, words: &[String]) -> Said {
        let file = |name: &str| File::create(self.beside(name)).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        // The descriptor with the lock is inherited by all of them.
        let alive = self.beside("alive");
        let mut child = Command::new("flock")
            .arg("--no-fork")
            .arg(&alive)
            .args(words)
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env(FOLDER, self.engine())
            .env_remove("CONTAINERS_CONF")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .process_group(0)
            .spawn()
            .unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > PATIENCE {
                // The tracer first: what it traces would go on without it.
                let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
                child.wait().unwrap();
                break ExitStatus::from_raw(HUNG << 8);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        File::open(&alive).unwrap().lock().unwrap();
        let text = |name: &str| String::from_utf8_lossy(&fs::read(self.beside(name)).unwrap()).into_owned();
        Said { code: status.code().unwrap_or(-1), out: text("out"), err: text("err") }
    }
}

/// Port of the web page that a release's check asks for ([`seclude`]).
pub const PAGE: u16 = 18081;

/// Gives the calling thread, and what it starts, a network of its own with nothing but loopback, and
/// hides systemd: the installer under test must neither reach out nor place units on this machine. The
/// one thing there is a page on [`PAGE`], as a workload would have it, for as long as the test runs.
pub fn seclude() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root, as for every system test");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    if Path::new("/run/systemd").is_dir() {
        mount(Some("none"), "/run/systemd", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(status.success(), "ip link set lo up");
    let page = TcpListener::bind(("127.0.0.1", PAGE)).unwrap();
    std::thread::spawn(move || {
        for mut asked in page.incoming().flatten() {
            // Who asked may have been killed meanwhile.
            let (mut head, answer) = ([0; 1024], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = asked.read(&mut head).and_then(|_| asked.write_all(answer));
        }
    });
}
