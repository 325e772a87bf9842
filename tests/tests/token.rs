//! Keys in a PKCS#11 token: `SoftHSM2` holds them, `pkcs11-tool` and stock minisign look on.
//! Needs `softhsm2`, `opensc` and `minisign` (tests/setup/packages.sh).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_format::envelope::UnverifiedEnvelope;
use signing_keys::PublicSigner;
use system_tests::keys::{alice, anchor};
use system_tests::site::{Said, program};
use system_tests::{Draft, prove};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "TEST-4711";
const PASSPHRASE: &str = "TEST passphrase, not a secret";

/// A folder with a token store of its own.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// One token, `TEST-card`.
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(bench.path("tokens")).unwrap();
        std::fs::create_dir(bench.path("keys")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            bench.path("tokens").display()
        );
        std::fs::write(bench.path("softhsm2.conf"), conf).unwrap();
        bench.pin(PIN);
        std::fs::write(bench.path("pass"), PASSPHRASE).unwrap();
        bench.token("TEST-card");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pin(&self, pin: &str) {
        std::fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
    }

    fn run(&self, program: &str, args: &[&str]) -> Said {
        let output = Command::new(program)
            .args(args)
            .current_dir(self.folder.path())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; run tests/setup/packages.sh"));
        Said::of(&output)
    }

    fn token(&self, label: &str) {
        self.run("softhsm2-util", &["--init-token", "--free", "--label", label, "--so-pin", "TEST-so-1", "--pin", PIN])
            .expect(0);
    }

    fn card(&self, args: &[&str]) -> Said {
        self.run(
            "pkcs11-tool",
            &[&["--module", MODULE, "--token-label", "TEST-card", "--login", "--pin", PIN], args].concat(),
        )
    }

    /// Runs `bundle-builder` with the PIN on descriptor 3 and nothing on standard input.
    fn builder(&self, args: &[&str]) -> Said {
        let builder = program("bundle-builder").display().to_string();
        let script = ["-c", "exec \"$@\" 3<pin </dev/null", "sh", builder.as_str()];
        self.run("sh", &[&script, args, &["--pin-fd", "3", "--passphrase-file", "pass"]].concat())
    }

    fn keygen(&self, name: &str, more: &[&str]) -> Said {
        let args = ["keygen", "--name", name, "--out", "keys", "--pkcs11", MODULE, "--token", "TEST-card"];
        self.builder(&[&args, more].concat())
    }

    fn public(&self, name: &str) -> PublicSigner {
        PublicSigner::parse("t", &std::fs::read(self.path(&format!("keys/{name}.signer.json"))).unwrap()).unwrap()
    }

    /// A bundle under a root of alice (files) and the token's signer, both needed; signed by alice.
    fn bundle(&self, name: &str) -> bundle_format::root::RootEnvelope {
        let holders = [alice().public().holder(), self.public(name).holder()];
        let time = |text| bundle_format::timestamp::Timestamp::parse(text).unwrap();
        let root = bundle_format::root::TrustRoot::new(
            1,
            time("2026-01-01T00:00:00Z"),
            time("2036-01-01T00:00:00Z"),
            2,
            &holders,
        )
        .unwrap();
        let mut envelope = bundle_format::root::RootEnvelope::unsigned(root);
        alice().sign_root(&mut envelope).unwrap();
        std::fs::write(self.path("root.json"), envelope.to_bytes().unwrap()).unwrap();
        self.builder(&["root", "sign", "root.json", "--key", &format!("keys/{name}")]).expect(0);
        let envelope =
            bundle_format::root::RootEnvelope::parse(&std::fs::read(self.path("root.json")).unwrap()).unwrap();
        let draft = Draft { signers: vec![alice()], roots: vec![envelope.clone()], ..Draft::small() };
        std::fs::write(self.path("b.bundle.tar"), draft.archive()).unwrap();
        envelope
    }

    fn sign(&self, name: &str) -> Said {
        self.builder(&["sign", "b.bundle.tar", "--key", &format!("keys/{name}")])
    }

    /// The folder of the one token with this label.
    fn token_folders(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.path("tokens")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Replaces a text in the file that names the key's place.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path(&format!("keys/{name}.token.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }
}

#[track_caller]
fn refused(said: Said, code: i32, words: &str) {
    let said = said.expect(code);
    assert!(said.err.contains(words), "expected {words:?} in:\n{}", said.err);
    assert!(said.err.contains("what to do: "), "{}", said.err);
}

#[test]
fn a_key_made_in_a_token_signs_what_stock_minisign_verifies() {
    let bench = Bench::new();
    let said = bench.keygen("test-hilde", &[]).expect(0);
    assert!(said.out.contains("made inside, never outside, cannot be taken out"), "{}", said.out);
    assert!(said.out.contains("split signer: its ML-DSA-87 key is a sealed file"), "{}", said.out);
    assert!(!bench.path("keys/test-hilde.minisign.key").exists());
    let listed = bench.card(&["-O"]).expect(0).out;
    assert!(listed.contains("test-hilde") && listed.contains("never extractable, local"), "{listed}");
    for file in std::fs::read_dir(bench.path("keys")).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!content.windows(PIN.len()).any(|part| part == PIN.as_bytes()), "the PIN is in a file");
    }
    let envelope = bench.bundle("test-hilde");
    let unsigned = prove(&std::fs::read(bench.path("b.bundle.tar")).unwrap(), &anchor(&envelope)).unwrap_err();
    assert!(matches!(unsigned.kind(), bundle_format::ErrorKind::Threshold { needed: 2, found: 1, .. }), "{unsigned}");
    bench.sign("test-hilde").expect(0);
    let archive = std::fs::read(bench.path("b.bundle.tar")).unwrap();
    prove(&archive, &anchor(&envelope)).unwrap();

    let head = UnverifiedEnvelope::read(&archive[..]).unwrap().0;
    let id = bench.public("test-hilde").key(bundle_format::key::Scheme::Ed25519).unwrap().id();
    let signature = head.signatures().iter().find(|signature| signature.key == id).unwrap();
    std::fs::write(bench.path("manifest.json"), head.manifest_bytes()).unwrap();
    std::fs::write(bench.path("manifest.json.minisig"), signature.to_file()).unwrap();
    let args = ["-V", "-H", "-p", "keys/test-hilde.minisign.pub", "-m", "manifest.json"];
    let said = bench.run("minisign", &args).expect(0);
    assert!(said.out.contains("sequence=7"), "{}", said.out);

    // Twice under one name: neither the files nor the token's key are overwritten.
    refused(bench.keygen("test-hilde", &[]), 2, "exists already and is never overwritten");
    for entry in std::fs::read_dir(bench.path("keys")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    refused(bench.keygen("test-hilde", &[]), 2, "key test-hilde exists already and is never overwritten");
}

#[test]
fn the_offline_ceremony_takes_a_token() {
    let bench = Bench::new();
    bench.keygen("test-hilde", &[]).expect(0);
    let envelope = bench.bundle("test-hilde");
    bench
        .run(&program("bundle-builder").display().to_string(), &["sign", "b.bundle.tar", "--export", "bytes"])
        .expect(0);
    let sha384 = bundle_format::digest::Sha384::of(&std::fs::read(bench.path("bytes")).unwrap()).to_string();
    bench.builder(&["sign-bytes", "bytes", "--sha384", &sha384, "--key", "keys/test-hilde"]).expect(0);
    let mut attach = vec!["sign".to_owned(), "b.bundle.tar".into(), "--attach".into()];
    for key in bench.public("test-hilde").holder().keys {
        attach.push(format!("{}.{}", key.id(), key.scheme().extension()));
    }
    let attach: Vec<&str> = attach.iter().map(String::as_str).collect();
    bench.run(&program("bundle-builder").display().to_string(), &attach).expect(0);
    prove(&std::fs::read(bench.path("b.bundle.tar")).unwrap(), &anchor(&envelope)).unwrap();
}

#[test]
fn a_key_that_the_token_has_is_adopted() {
    let bench = Bench::new();
    bench.card(&["--keypairgen", "--key-type", "EC:edwards25519", "--id", "42", "--label", "TEST old key"]).expect(0);
    let said = bench.keygen("test-hilde", &["--adopt", "TEST old key"]).expect(0);
    assert!(said.out.contains("object=TEST%20old%20key"), "{}", said.out);
    bench.bundle("test-hilde");
    bench.sign("test-hilde").expect(0);
    refused(bench.keygen("test-hugo", &["--adopt", "TEST no key"]), 2, "key TEST no key: not there");
    // Two of one label, then told apart by nothing.
    bench.card(&["--keypairgen", "--key-type", "EC:edwards25519", "--id", "43", "--label", "TEST old key"]).expect(0);
    refused(bench.keygen("test-hugo", &["--adopt", "TEST old key"]), 2, "key TEST old key: expected one, found 2");
    // A key that can be taken out is said to be one.
    let loose =
        ["--keypairgen", "--key-type", "EC:edwards25519", "--id", "44", "--label", "TEST loose", "--extractable"];
    bench.card(&loose).expect(0);
    let said = bench.keygen("test-hugo", &["--adopt", "TEST loose"]).expect(0);
    assert!(said.out.contains("WARNING: the token does not say"), "{}", said.out);
}

#[test]
fn a_key_of_another_type_is_refused() {
    let bench = Bench::new();
    bench.card(&["--keypairgen", "--key-type", "rsa:2048", "--id", "50", "--label", "TEST rsa"]).expect(0);
    bench.card(&["--keypairgen", "--key-type", "EC:secp384r1", "--id", "51", "--label", "TEST p384"]).expect(0);
    refused(bench.keygen("test-hilde", &["--adopt", "TEST rsa"]), 2, "expected CKK_EC_EDWARDS, found CKK_RSA");
    refused(bench.keygen("test-hilde", &["--adopt", "TEST p384"]), 2, "expected CKK_EC_EDWARDS, found CKK_EC");
    assert_eq!(std::fs::read_dir(bench.path("keys")).unwrap().count(), 0, "nothing is left of a refusal");
}

#[test]
fn wrong_and_locked_pins() {
    let bench = Bench::new();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.bundle("test-hilde");
    let before = std::fs::read(bench.path("b.bundle.tar")).unwrap();
    bench.pin("TEST-4712");
    // The software token says that attempts run low, as a card does; it never locks by itself.
    refused(
        bench.sign("test-hilde"),
        2,
        "token TEST-card: the PIN is wrong; the token warns that attempts are running low",
    );
    bench.pin("");
    refused(bench.sign("test-hilde"), 2, "token TEST-card: the PIN is wrong");
    // No descriptor, no terminal: nothing is asked and nothing is tried.
    let builder = program("bundle-builder").display().to_string();
    let args = ["sign", "b.bundle.tar", "--key", "keys/test-hilde", "--passphrase-file", "pass"];
    let said = bench.run("setsid", &[&[builder.as_str()], &args[..]].concat());
    refused(said, 2, "no terminal to ask on; give --pin-fd");
    // The flag of a locked card, set in the token's own file (CKF_USER_PIN_LOCKED, 0x40000).
    bench.pin(PIN);
    let file = bench.token_folders()[0].join("token.object");
    let mut bytes = std::fs::read(&file).unwrap();
    let flags = bytes.windows(8).position(|part| part == [0, 0, 0, 0, 0x80, 0, 0x53, 0x4b]).unwrap() + 16;
    bytes[flags + 5] |= 0x04;
    std::fs::write(&file, bytes).unwrap();
    refused(bench.sign("test-hilde"), 6, "token TEST-card: its PIN is locked");
    assert_eq!(std::fs::read(bench.path("b.bundle.tar")).unwrap(), before, "a refusal changes nothing");
}

#[test]
fn a_pin_is_typed_on_a_terminal() {
    let bench = Bench::new();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.bundle("test-hilde");
    let command = format!(
        "{} sign b.bundle.tar --key keys/test-hilde --passphrase-file pass",
        program("bundle-builder").display()
    );
    let typed = format!("printf '{PIN}\\n' | script -qec '{command}' /dev/null");
    let said = bench.run("sh", &["-c", &typed]).expect(0);
    assert!(said.out.contains("PIN of token TEST-card"), "{}", said.out);
    assert!(said.out.contains("test-hilde signed b.bundle.tar"), "{}", said.out);
}

#[test]
fn a_token_that_is_gone_or_another_one_under_its_name() {
    let bench = Bench::new();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.bundle("test-hilde");
    let original = bench.token_folders()[0].clone();
    let away = bench.path("away");
    std::fs::rename(&original, &away).unwrap();
    refused(bench.sign("test-hilde"), 6, "token TEST-card: not there;");
    bench.token("TEST-other");
    refused(bench.sign("test-hilde"), 6, "shows: TEST-other (serial ");
    bench.token("TEST-card");
    refused(bench.sign("test-hilde"), 4, "token TEST-card: expected serial number ");
    // Both of one label: the serial number tells which.
    std::fs::rename(&away, &original).unwrap();
    bench.sign("test-hilde").expect(0);
    refused(bench.keygen("test-hugo", &[]), 2, "token TEST-card: expected one token of this label");
}

#[test]
fn a_key_that_is_not_the_signers() {
    let bench = Bench::new();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.keygen("test-hugo", &[]).expect(0);
    bench.bundle("test-hilde");
    let before = std::fs::read(bench.path("b.bundle.tar")).unwrap();
    // Hilde's file points at Hugo's key.
    let hugo = std::fs::read_to_string(bench.path("keys/test-hugo.token.json")).unwrap();
    std::fs::write(bench.path("keys/test-hilde.token.json"), &hugo).unwrap();
    refused(bench.sign("test-hilde"), 4, "signer test-hilde: the ed25519 key expected by its public file is");
    bench.edit("test-hugo", "object=test-hugo", "object=test-nobody");
    refused(bench.sign("test-hugo"), 2, "key test-nobody: not there");
    assert_eq!(std::fs::read(bench.path("b.bundle.tar")).unwrap(), before);
    // The other half from somebody else's file.
    std::fs::write(bench.path("keys/test-hugo.token.json"), hugo).unwrap();
    std::fs::copy(bench.path("keys/test-hilde.ml-dsa-87.pem"), bench.path("keys/test-hugo.ml-dsa-87.pem")).unwrap();
    refused(bench.sign("test-hugo"), 4, "signer test-hugo: the ml-dsa-87 key expected by its public file is");
}

#[test]
fn files_that_name_code_are_not_believed_blindly() {
    let bench = Bench::new();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.bundle("test-hilde");
    let path = bench.path("keys/test-hilde.token.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&path, 0o666);
    refused(bench.sign("test-hilde"), 2, "mode 0666, expected not writable by others");
    mode(&path, 0o644);
    let planted = bench.path("planted.so");
    std::fs::copy(MODULE, &planted).unwrap();
    mode(&planted, 0o777);
    bench.edit("test-hilde", MODULE, &planted.display().to_string());
    refused(bench.sign("test-hilde"), 6, "not usable: others may write it");
    std::fs::write(&planted, b"no library").unwrap();
    mode(&planted, 0o755);
    refused(bench.sign("test-hilde"), 6, "planted.so: not usable");
    std::fs::write(&path, good.replace("?module-path", "?pin-value=TEST-4711&module-path")).unwrap();
    refused(bench.sign("test-hilde"), 2, "a PIN is typed, never written");
    std::fs::write(&path, good.replace("lockgate-token/1", "lockgate-token/2")).unwrap();
    refused(bench.sign("test-hilde"), 2, "expected format lockgate-token/1");
}

#[test]
fn a_module_whose_token_cannot_sign_this_way() {
    let bench = Bench::new();
    // OpenSC's own module talks to card readers; this machine has none.
    let module = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so";
    let args = ["keygen", "--name", "test-hilde", "--out", "keys", "--pkcs11", module, "--token", "TEST-card"];
    refused(
        bench.builder(&args),
        6,
        "token TEST-card: not there; /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so shows: no token",
    );
    let args = ["keygen", "--name", "test-hilde", "--out", "keys", "--pkcs11", "relative.so", "--token", "TEST-card"];
    refused(bench.builder(&args), 6, "relative.so: not usable: its path is not absolute");
}
