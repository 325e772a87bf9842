//! A high side alone: the real installer on a state folder of its own, with the simulated engine, and
//! bundles made in memory from TEST keys. For what the trust root, the clock and the policy decide.

use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_format::root::RootEnvelope;
use serde_json::Value;

use crate::Draft;
use crate::engine::FOLDER;
use crate::site::{Said, program};

/// The folder and its programs.
pub struct High {
    folder: tempfile::TempDir,
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

    fn run(&self, words: &[&str]) -> Said {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let output = Command::new(words[0])
            .args(&words[1..])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env(FOLDER, self.path("engine"))
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("CONTAINERS_CONF")
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}", words[0]));
        Said::of(&output)
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
