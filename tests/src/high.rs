//! A high side alone: the real installer on a state folder of its own, with the simulated engine, and
//! bundles made in memory from TEST keys. For what the trust root, the clock and the policy decide.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bundle_format::root::RootEnvelope;
use serde_json::Value;

use crate::Draft;
use crate::engine::FOLDER;
use crate::site::{Said, program};

/// The folder and its programs.
pub struct High {
    folder: tempfile::TempDir,
}

/// An installer that waits for an answer on its terminal.
pub struct Asked {
    child: Child,
    out: Vec<u8>,
}

impl Asked {
    /// Types `text`, and waits for the end.
    pub fn answer(mut self, text: &str) -> Said {
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
        let mut said = Said::of(&self.child.wait_with_output().unwrap());
        said.out.insert_str(0, &String::from_utf8_lossy(&self.out));
        said
    }
}

impl Default for High {
    fn default() -> Self {
        Self::new()
    }
}

impl High {
    /// An empty machine. The calling thread is given a network of its own.
    pub fn new() -> Self {
        crate::cuts::case::seclude();
        let base = [Path::new("/dev/shm"), Path::new("/var/tmp")].into_iter().find(|path| path.is_dir()).unwrap();
        let high = Self { folder: tempfile::Builder::new().prefix("lg").tempdir_in(base).unwrap() };
        for name in ["bin", "engine", "keys"] {
            std::fs::create_dir(high.path(name)).unwrap();
        }
        std::os::unix::fs::symlink(program("lockgate-test-podman"), high.path("bin/podman")).unwrap();
        high
    }

    /// The same with `root` trusted, and `more` arguments of `trust init`.
    pub fn trusting(root: &RootEnvelope, more: &[&str]) -> Self {
        let high = Self::new();
        high.trust(root, more).expect(0);
        high
    }

    /// Takes the first anchor.
    pub fn trust(&self, root: &RootEnvelope, more: &[&str]) -> Said {
        std::fs::write(self.path("root.json"), root.to_bytes().unwrap()).unwrap();
        let fingerprint = root.claimed().fingerprint().to_string();
        self.installer(&[&["trust", "init", "root.json", "--fingerprint", &fingerprint], more].concat())
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a bundle.
    pub fn bundle(&self, name: &str, draft: &Draft) {
        self.write(name, &draft.archive());
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env(FOLDER, self.path("engine"))
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("CONTAINERS_CONF");
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        Said::of(&self.command(words).output().unwrap_or_else(|e| panic!("{}: {e}", words[0])))
    }

    /// Runs the installer.
    pub fn installer(&self, args: &[&str]) -> Said {
        self.installer_under(&[], args)
    }

    /// Runs the installer with the clock at `time`, `YYYY-MM-DD HH:MM:SS` in UTC.
    pub fn installer_at(&self, time: &str, args: &[&str]) -> Said {
        self.installer_under(&["faketime", "-f", time], args)
    }

    /// Runs the installer behind the words of another program, such as strace.
    pub fn installer_under(&self, before: &[&str], args: &[&str]) -> Said {
        let installer = program("installer").display().to_string();
        self.run(&[before, &[installer.as_str(), "--state-dir", "state"], args].concat())
    }

    /// Runs the installer on a terminal until it asks.
    pub fn asked(&self, args: &[&str]) -> Asked {
        let installer = program("installer").display().to_string();
        let words = [&[installer.as_str(), "--state-dir", "state"], args].concat();
        let mut child = self
            // A test that was started in the background has SIGINT ignored, and its children with it.
            .command(&[
                "env",
                "--default-signal=INT",
                "script",
                "--quiet",
                "--return",
                "--command",
                &words.join(" "),
                "/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut out, mut byte) = (Vec::new(), [0]);
        let said = child.stdout.as_mut().unwrap();
        while !out.ends_with(b"Type yes:") {
            let more = said.read(&mut byte).unwrap();
            assert!(more > 0, "it ended without a question: {}", String::from_utf8_lossy(&out));
            out.push(byte[0]);
        }
        Asked { child, out }
    }

    /// Puts a shell script before the engine: `cases` of the words of a call; any other goes to the engine.
    /// The installer is `$PPID` there.
    pub fn shim(&self, cases: &str) {
        let podman = program("lockgate-test-podman").display().to_string();
        let text = format!("#!/bin/sh\ncase \"$*\" in\n{cases}\nesac\nexec {podman} \"$@\"\n");
        std::fs::remove_file(self.path("bin/podman")).unwrap();
        self.write("bin/podman", text.as_bytes());
        std::fs::set_permissions(self.path("bin/podman"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the builder.
    pub fn builder(&self, args: &[&str]) -> Said {
        let builder = program("bundle-builder").display().to_string();
        self.run(&[&[builder.as_str()], args].concat())
    }

    /// `status` as data.
    pub fn status(&self) -> Value {
        parse(&self.installer(&["--json", "status"]))
    }

    /// The audit log: act, result and detail of each record.
    pub fn records(&self) -> Vec<(String, String, String)> {
        let said = self.installer(&["audit", "export"]).expect(0);
        let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        said.out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| (text(&row, "act"), text(&row, "result"), text(&row, "detail")))
            .collect()
    }
}

/// What a program said in JSON.
pub fn parse(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}
