//! A folder with tokens of its own, for the tests of keys in tokens: `SoftHSM2` has Ed25519, kryoptic
//! (`tests/setup/kryoptic.sh`) ML-DSA too. Needs `softhsm2` and `opensc` (tests/setup/packages.sh).

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use bundle_format::root::{RootEnvelope, TrustRoot};
use bundle_format::timestamp::Timestamp;
use signing_keys::PublicSigner;

use crate::Draft;
use crate::keys::alice;
use crate::site::{Said, program};

/// The PIN of every TEST token.
pub const PIN: &str = "TEST-4711";
const SO_PIN: &str = "TEST-so-1";
const PASSPHRASE: &str = "TEST passphrase, not a secret";

/// Who made the library of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Ed25519 alone.
    SoftHsm,
    /// Ed25519 and ML-DSA.
    Kryoptic,
}

impl Maker {
    /// The PKCS#11 library; kryoptic's is built where it is not in the cache.
    pub fn module(self) -> &'static str {
        static KRYOPTIC: LazyLock<String> = LazyLock::new(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup/kryoptic.sh");
            let made = Command::new(script).output().unwrap();
            assert!(made.status.success(), "tests/setup/kryoptic.sh: {}", String::from_utf8_lossy(&made.stderr));
            String::from_utf8(made.stdout).unwrap().trim().to_owned()
        });
        match self {
            Self::SoftHsm => "/usr/lib/softhsm/libsofthsm2.so",
            Self::Kryoptic => &KRYOPTIC,
        }
    }
}

/// Writes the settings by which both libraries find their tokens below `folder`: `SoftHSM2` those that
/// were made there, kryoptic three slots that lack the mechanisms `denied`. Gives the environment that
/// names them.
pub fn settings(folder: &Path, denied: &[&str]) -> [(&'static str, PathBuf); 2] {
    let store = folder.join("tokens");
    std::fs::create_dir_all(&store).unwrap();
    let softhsm = folder.join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", store.display());
    std::fs::write(&softhsm, text).unwrap();
    let kryoptic = folder.join("kryoptic.conf");
    let slots = (1..=3).map(|slot| {
        let place = folder.join(format!("kryoptic-{slot}.sql"));
        let list = denied.iter().fold("\"DENY\"".to_owned(), |list, name| format!("{list}, \"{name}\""));
        let mechanisms = if denied.is_empty() { String::new() } else { format!("mechanisms = [{list}]\n") };
        format!("[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n{mechanisms}", place.display())
    });
    std::fs::write(&kryoptic, slots.collect::<String>()).unwrap();
    [("SOFTHSM2_CONF", softhsm), ("KRYOPTIC_CONF", kryoptic)]
}

/// The commands that make a token: `slot` counts kryoptic's.
pub fn make_token(maker: Maker, slot: u32, label: &str) -> Vec<Vec<String>> {
    let words = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let number = slot.to_string();
    match maker {
        Maker::SoftHsm => vec![words(&[
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            SO_PIN,
            "--pin",
            PIN,
        ])],
        Maker::Kryoptic => {
            let tool = ["pkcs11-tool", "--module", maker.module(), "--slot", &number, "--so-pin", SO_PIN];
            let pin = ["--login", "--login-type", "so", "--init-pin", "--pin", PIN];
            vec![words(&[&tool[..], &["--init-token", "--label", label]].concat()), words(&[&tool[..], &pin].concat())]
        }
    }
}

/// A folder with one token, `TEST-card`, and room for more.
pub struct Bench {
    folder: tempfile::TempDir,
    maker: Maker,
    slots: Cell<u32>,
}

impl Bench {
    /// `TEST-card` of a maker.
    pub fn new(maker: Maker) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), maker, slots: Cell::new(0) };
        std::fs::create_dir(bench.path("keys")).unwrap();
        settings(bench.folder.path(), &[]);
        bench.pin(PIN);
        std::fs::write(bench.path("pass"), PASSPHRASE).unwrap();
        bench.token(maker, "TEST-card");
        bench
    }

    /// A path below the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What [`Self::builder`] gives as the PIN.
    pub fn pin(&self, pin: &str) {
        std::fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
    }

    /// What it gives for a second token.
    pub fn second_pin(&self, pin: &str) {
        std::fs::write(self.path("pin-2"), format!("{pin}\n")).unwrap();
    }

    /// Takes mechanisms from kryoptic's tokens.
    pub fn deny(&self, mechanisms: &[&str]) {
        settings(self.folder.path(), mechanisms);
    }

    /// Runs a program in the folder.
    pub fn run(&self, program: &str, args: &[&str]) -> Said {
        let output = Command::new(program)
            .args(args)
            .current_dir(self.folder.path())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .env("KRYOPTIC_CONF", self.path("kryoptic.conf"))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; run tests/setup/packages.sh"));
        Said::of(&output)
    }

    /// Makes a token.
    pub fn token(&self, maker: Maker, label: &str) {
        if maker == Maker::Kryoptic {
            self.slots.set(self.slots.get() + 1);
        }
        for command in make_token(maker, self.slots.get(), label) {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            self.run(words[0], &words[1..]).expect(0);
        }
    }

    /// `pkcs11-tool` on `TEST-card`, logged in.
    pub fn card(&self, args: &[&str]) -> Said {
        let module = self.maker.module();
        let login = ["--module", module, "--token-label", "TEST-card", "--login", "--pin", PIN];
        self.run("pkcs11-tool", &[&login, args].concat())
    }

    /// `bundle-builder` as it is.
    pub fn plain(&self, args: &[&str]) -> Said {
        self.run(&program("bundle-builder").display().to_string(), args)
    }

    /// `bundle-builder` with the PIN on descriptor 3, the passphrase in a file and nothing on standard
    /// input.
    pub fn builder(&self, args: &[&str]) -> Said {
        self.with_pin(&[args, &["--passphrase-file", "pass"]].concat())
    }

    /// The same without a passphrase.
    pub fn with_pin(&self, args: &[&str]) -> Said {
        let builder = program("bundle-builder").display().to_string();
        let (open, second) = if self.path("pin-2").exists() {
            ("exec \"$@\" 3<pin 4<pin-2 </dev/null", &["--ml-dsa-pin-fd", "4"][..])
        } else {
            ("exec \"$@\" 3<pin </dev/null", &[][..])
        };
        self.run("sh", &[&["-c", open, "sh", builder.as_str()], args, &["--pin-fd", "3"], second].concat())
    }

    /// The arguments of `keygen` in `TEST-card`.
    pub fn keygen_args<'a>(&self, name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let module = self.maker.module();
        [&["keygen", "--name", name, "--out", "keys", "--pkcs11", module, "--token", "TEST-card"], more].concat()
    }

    /// `keygen` in `TEST-card`, with a passphrase.
    pub fn keygen(&self, name: &str, more: &[&str]) -> Said {
        self.builder(&self.keygen_args(name, more))
    }

    /// The signer's public half.
    pub fn public(&self, name: &str) -> PublicSigner {
        PublicSigner::parse("t", &std::fs::read(self.path(&format!("keys/{name}.signer.json"))).unwrap()).unwrap()
    }

    /// A bundle under a root of alice (files) and the token's signer, both needed; signed by alice.
    pub fn bundle(&self, name: &str) -> RootEnvelope {
        let holders = [alice().public().holder(), self.public(name).holder()];
        let time = |text| Timestamp::parse(text).unwrap();
        let (from, to) = (time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"));
        let mut envelope = RootEnvelope::unsigned(TrustRoot::new(1, from, to, 2, &holders).unwrap());
        alice().sign_root(&mut envelope).unwrap();
        std::fs::write(self.path("root.json"), envelope.to_bytes().unwrap()).unwrap();
        self.builder(&["root", "sign", "root.json", "--key", &format!("keys/{name}")]).expect(0);
        let envelope = RootEnvelope::parse(&std::fs::read(self.path("root.json")).unwrap()).unwrap();
        let draft = Draft { signers: vec![alice()], roots: vec![envelope.clone()], ..Draft::small() };
        std::fs::write(self.path("b.bundle.tar"), draft.archive()).unwrap();
        envelope
    }

    /// The bundle as it is now.
    pub fn archive(&self) -> Vec<u8> {
        std::fs::read(self.path("b.bundle.tar")).unwrap()
    }

    /// Signs the bundle.
    pub fn sign(&self, name: &str) -> Said {
        self.builder(&["sign", "b.bundle.tar", "--key", &format!("keys/{name}")])
    }

    /// The three steps of the offline ceremony: export, signing the bytes, attaching.
    pub fn sign_offline(&self, name: &str) {
        self.plain(&["sign", "b.bundle.tar", "--export", "bytes"]).expect(0);
        let sha384 = bundle_format::digest::Sha384::of(&std::fs::read(self.path("bytes")).unwrap()).to_string();
        self.builder(&["sign-bytes", "bytes", "--sha384", &sha384, "--key", &format!("keys/{name}")]).expect(0);
        let detached = self.public(name).holder().keys.into_iter();
        let detached = detached.map(|key| format!("{}.{}", key.id(), key.scheme().extension())).collect::<Vec<_>>();
        let mut attach = vec!["sign", "b.bundle.tar", "--attach"];
        attach.extend(detached.iter().map(String::as_str));
        self.plain(&attach).expect(0);
    }

    /// Replaces a text in the file that names the keys' places.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path(&format!("keys/{name}.token.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// The names of the signers' files.
    pub fn key_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path("keys")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Asserts that a program refused with this exit code, these words and a line that says what to do.
#[track_caller]
pub fn refused(said: Said, code: i32, words: &str) {
    let said = said.expect(code);
    assert!(said.err.contains(words), "expected {words:?} in:\n{}", said.err);
    assert!(said.err.contains("what to do: "), "{}", said.err);
}
