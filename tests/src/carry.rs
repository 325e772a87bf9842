//! A signed bundle on disk and a site that trusts it, for carrying it across: no engine, no network.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bundle_format::pack::Encoding;

use crate::bundle::Draft;
use crate::site::{Said, programs};

/// A folder with `b.tar`, its root, and the installer's state.
pub struct Carry {
    folder: tempfile::TempDir,
    /// The bundle's bytes.
    pub archive: Vec<u8>,
}

/// Bytes that nothing makes smaller, the same for the same seed (`SplitMix64`).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

/// A bundle of `bytes` bytes of noise in a few files.
pub fn draft(seed: u64, bytes: usize) -> Draft {
    let mut draft = Draft::empty();
    let content = noise(seed, bytes);
    let files: Vec<&[u8]> = content.chunks(bytes.div_ceil(3).max(1)).collect();
    draft.add_files(Encoding::Raw, &files);
    draft
}

impl Carry {
    /// A bundle of `bytes` bytes of noise, signed and trusted.
    pub fn new(bytes: usize) -> Self {
        Self::of(&draft(1, bytes))
    }

    /// A given bundle, trusted.
    pub fn of(draft: &Draft) -> Self {
        let folder = tempfile::Builder::new().prefix("lgc").tempdir_in("/var/tmp").unwrap();
        let archive = draft.archive();
        let carry = Self { folder, archive };
        std::fs::write(carry.path("b.tar"), &carry.archive).unwrap();
        let root = &draft.roots[0];
        std::fs::write(carry.path("root.json"), root.to_bytes().unwrap()).unwrap();
        let fingerprint = root.claimed().fingerprint().to_string();
        carry.installer(&["trust", "init", "root.json", "--fingerprint", &fingerprint]).expect(0);
        carry
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of `program`, run in the folder.
    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path());
        command
    }

    fn run(&self, program: &Path, args: &[&str]) -> Said {
        let output = self.command(program, args).output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        Said::of(&output)
    }

    /// Runs `bundle-builder`.
    pub fn builder(&self, args: &[&str]) -> Said {
        self.run(&programs().join("bundle-builder"), args)
    }

    /// Runs `installer` on this folder's state.
    pub fn installer(&self, args: &[&str]) -> Said {
        self.run(&programs().join("installer"), &[&["--state-dir", "high"], args].concat())
    }

    /// Runs `installer` under another program, such as strace.
    pub fn installer_under(&self, program: &str, before: &[&str], args: &[&str]) -> Said {
        let installer = programs().join("installer").display().to_string();
        self.run(Path::new(program), &[before, &[installer.as_str(), "--state-dir", "high"], args].concat())
    }

    /// Starts a program under others (`ip netns exec …`) and lets it run.
    pub fn start(&self, before: &[&str], program: &str, args: &[&str]) -> Child {
        let program = programs().join(program).display().to_string();
        let all = [before, &[program.as_str()], args].concat();
        let mut command = self.command(Path::new(all[0]), &all[1..]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs any program.
    pub fn tool(&self, program: &str, args: &[&str]) -> Said {
        self.run(Path::new(program), args)
    }

    /// Files in a folder that end in `end`, sorted.
    pub fn files(&self, folder: &str, end: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.to_string_lossy().ends_with(end));
        files.sort();
        files
    }

    /// The bundles that arrived.
    pub fn arrived(&self) -> Vec<PathBuf> {
        self.files("high/inbox", ".bundle.tar")
    }

    /// Asserts that exactly this bundle arrived, byte for byte, and no session is left.
    #[track_caller]
    pub fn assert_arrived(&self) {
        let arrived = self.arrived();
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        assert!(std::fs::read(&arrived[0]).unwrap() == self.archive, "the bundle differs");
        let left: Vec<_> =
            std::fs::read_dir(self.path("high/inbox")).unwrap().map(|e| e.unwrap().file_name()).collect();
        let left: Vec<String> = left.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        assert!(!left.iter().any(|name| name.starts_with("set-") || name.starts_with("link-")), "{left:?}");
    }
}
