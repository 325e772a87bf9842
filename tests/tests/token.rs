//! Keys in a PKCS#11 token: `SoftHSM2` holds them, `pkcs11-tool` and stock minisign look on.
//! Needs `softhsm2`, `opensc` and `minisign` (tests/setup/packages.sh).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use bundle_format::envelope::UnverifiedEnvelope;
use system_tests::card::{Bench, Maker, PIN, refused};
use system_tests::keys::anchor;
use system_tests::prove;
use system_tests::site::program;

fn bench() -> Bench {
    Bench::new(Maker::SoftHsm)
}

/// The folders of the tokens.
fn token_folders(bench: &Bench) -> Vec<PathBuf> {
    std::fs::read_dir(bench.path("tokens")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_key_made_in_a_token_signs_what_stock_minisign_verifies() {
    let bench = bench();
    let said = bench.keygen("test-hilde", &[]).expect(0);
    assert!(
        said.out.contains("the token says of its ed25519 key: made inside, never outside, cannot be taken out"),
        "{}",
        said.out
    );
    assert!(said.out.contains("split signer: its ML-DSA-87 key is a sealed file"), "{}", said.out);
    assert!(!bench.path("keys/test-hilde.minisign.key").exists());
    let listed = bench.card(&["-O"]).expect(0).out;
    assert!(listed.contains("test-hilde") && listed.contains("never extractable, local"), "{listed}");
    for file in std::fs::read_dir(bench.path("keys")).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!content.windows(PIN.len()).any(|part| part == PIN.as_bytes()), "the PIN is in a file");
    }
    let envelope = bench.bundle("test-hilde");
    let unsigned = prove(&bench.archive(), &anchor(&envelope)).unwrap_err();
    assert!(matches!(unsigned.kind(), bundle_format::ErrorKind::Threshold { needed: 2, found: 1, .. }), "{unsigned}");
    bench.sign("test-hilde").expect(0);
    let archive = bench.archive();
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
    let bench = bench();
    bench.keygen("test-hilde", &[]).expect(0);
    let envelope = bench.bundle("test-hilde");
    bench.sign_offline("test-hilde");
    prove(&bench.archive(), &anchor(&envelope)).unwrap();
}

#[test]
fn a_key_that_the_token_has_is_adopted() {
    let bench = bench();
    bench.card(&["--keypairgen", "--key-type", "EC:edwards25519", "--id", "42", "--label", "TEST old key"]).expect(0);
    let said = bench.keygen("test-hilde", &["--adopt", "TEST old key"]).expect(0);
    assert!(said.out.contains("object=TEST%20old%20key"), "{}", said.out);
    bench.bundle("test-hilde");
    bench.sign("test-hilde").expect(0);
    refused(
        bench.keygen("test-hugo", &["--adopt", "TEST no key"]),
        2,
        "key TEST no key: not there; expected a key of type CKK_EC_EDWARDS",
    );
    // Two of one label, then told apart by nothing.
    bench.card(&["--keypairgen", "--key-type", "EC:edwards25519", "--id", "43", "--label", "TEST old key"]).expect(0);
    refused(bench.keygen("test-hugo", &["--adopt", "TEST old key"]), 2, "key TEST old key: expected one, found 2");
    // A key that can be taken out is said to be one.
    let loose =
        ["--keypairgen", "--key-type", "EC:edwards25519", "--id", "44", "--label", "TEST loose", "--extractable"];
    bench.card(&loose).expect(0);
    let said = bench.keygen("test-hugo", &["--adopt", "TEST loose"]).expect(0);
    assert!(said.out.contains("WARNING: the token does not say that this ed25519 key never was"), "{}", said.out);
}

#[test]
fn a_key_of_another_type_is_refused() {
    let bench = bench();
    bench.card(&["--keypairgen", "--key-type", "rsa:2048", "--id", "50", "--label", "TEST rsa"]).expect(0);
    bench.card(&["--keypairgen", "--key-type", "EC:secp384r1", "--id", "51", "--label", "TEST p384"]).expect(0);
    refused(bench.keygen("test-hilde", &["--adopt", "TEST rsa"]), 2, "expected CKK_EC_EDWARDS, found CKK_RSA");
    refused(bench.keygen("test-hilde", &["--adopt", "TEST p384"]), 2, "expected CKK_EC_EDWARDS, found CKK_EC");
    assert_eq!(std::fs::read_dir(bench.path("keys")).unwrap().count(), 0, "nothing is left of a refusal");
}

#[test]
fn wrong_and_locked_pins() {
    let bench = bench();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.bundle("test-hilde");
    let before = bench.archive();
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
    let file = token_folders(&bench)[0].join("token.object");
    let mut bytes = std::fs::read(&file).unwrap();
    let flags = bytes.windows(8).position(|part| part == [0, 0, 0, 0, 0x80, 0, 0x53, 0x4b]).unwrap() + 16;
    bytes[flags + 5] |= 0x04;
    std::fs::write(&file, bytes).unwrap();
    refused(bench.sign("test-hilde"), 6, "token TEST-card: its PIN is locked");
    assert_eq!(bench.archive(), before, "a refusal changes nothing");
}

#[test]
fn a_pin_is_typed_on_a_terminal() {
    let bench = bench();
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
    let bench = bench();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.bundle("test-hilde");
    let original = token_folders(&bench)[0].clone();
    let away = bench.path("away");
    std::fs::rename(&original, &away).unwrap();
    refused(bench.sign("test-hilde"), 6, "token TEST-card: not there;");
    bench.token(Maker::SoftHsm, "TEST-other");
    refused(bench.sign("test-hilde"), 6, "shows: TEST-other (serial ");
    bench.token(Maker::SoftHsm, "TEST-card");
    refused(bench.sign("test-hilde"), 4, "token TEST-card: expected serial number ");
    // Both of one label: the serial number tells which.
    std::fs::rename(&away, &original).unwrap();
    bench.sign("test-hilde").expect(0);
    refused(bench.keygen("test-hugo", &[]), 2, "token TEST-card: expected one token of this label");
}

#[test]
fn a_key_that_is_not_the_signers() {
    let bench = bench();
    bench.keygen("test-hilde", &[]).expect(0);
    bench.keygen("test-hugo", &[]).expect(0);
    bench.bundle("test-hilde");
    let before = bench.archive();
    // Hilde's file points at Hugo's key.
    let hugo = std::fs::read_to_string(bench.path("keys/test-hugo.token.json")).unwrap();
    std::fs::write(bench.path("keys/test-hilde.token.json"), &hugo).unwrap();
    refused(bench.sign("test-hilde"), 4, "signer test-hilde: the ed25519 key expected by its public file is");
    bench.edit("test-hugo", "object=test-hugo", "object=test-nobody");
    refused(bench.sign("test-hugo"), 2, "key test-nobody: not there");
    assert_eq!(bench.archive(), before);
    // The other half from somebody else's file.
    std::fs::write(bench.path("keys/test-hugo.token.json"), hugo).unwrap();
    std::fs::copy(bench.path("keys/test-hilde.ml-dsa-87.pem"), bench.path("keys/test-hugo.ml-dsa-87.pem")).unwrap();
    refused(bench.sign("test-hugo"), 4, "signer test-hugo: the ml-dsa-87 key expected by its public file is");
}

#[test]
fn files_that_name_code_are_not_believed_blindly() {
    let bench = bench();
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
    std::fs::copy(Maker::SoftHsm.module(), &planted).unwrap();
    mode(&planted, 0o777);
    bench.edit("test-hilde", Maker::SoftHsm.module(), &planted.display().to_string());
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
    let bench = bench();
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
