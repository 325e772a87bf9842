//! ML-DSA-87 keys in a PKCS#11 token: the software token kryoptic holds them (`tests/setup/kryoptic.sh`
//! builds it), `SoftHSM2` is the token that lacks them, `pkcs11-tool` looks on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;

use bundle_format::key::Scheme;
use bundle_format::signature::AlgorithmPolicy;
use system_tests::card::{Bench, Maker, PIN, refused};
use system_tests::keys::anchor;
use system_tests::site::{Said, program};
use system_tests::{prove, prove_with};

const INSIDE: &str = "made inside, never outside, cannot be taken out";

fn bench() -> Bench {
    Bench::new(Maker::Kryoptic)
}

/// A signer with both keys in `TEST-card`; no passphrase is there to be taken.
fn hilde(bench: &Bench) -> Said {
    bench.with_pin(&bench.keygen_args("test-hilde", &["--ml-dsa", "token"])).expect(0)
}

/// What stands under a key in the file that names the keys' places.
fn address(bench: &Bench, name: &str, scheme: &str) -> Option<String> {
    let file = std::fs::read(bench.path(&format!("keys/{name}.token.json"))).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(file["format"], "lockgate-token/1");
    file[scheme].as_str().map(str::to_owned)
}

/// A key that our programs would not make.
fn foreign_key(bench: &Bench, label: &str, set: &str, kept: &str) {
    let maker = program("lockgate-test-card").display().to_string();
    bench.run(&maker, &[Maker::Kryoptic.module(), "TEST-card", label, set, kept]).expect(0);
}

/// The id in the address of a key, as `pkcs11-tool` takes it.
fn id(address: &str) -> String {
    address.split("id=").nth(1).unwrap().split(';').next().unwrap().replace('%', "")
}

#[test]
fn both_keys_made_in_one_token_sign_under_every_policy() {
    let bench = bench();
    let said = hilde(&bench);
    for words in [
        format!("the token says of its ed25519 key: {INSIDE}"),
        format!("the token says of its ml-dsa-87 key: {INSIDE}"),
        "token signer: both keys are in tokens; nothing was sealed".into(),
    ] {
        assert!(said.out.contains(&words), "{}", said.out);
    }
    // Nothing sealed, and nothing else that could hold a private key or the PIN.
    assert_eq!(
        bench.key_files(),
        ["test-hilde.minisign.pub", "test-hilde.signer.json", "test-hilde.token.json"],
        "{}",
        said.out
    );
    for name in bench.key_files() {
        let path = bench.path("keys").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(PIN) && !text.contains("PRIVATE KEY"), "{text}");
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
    }
    let listed = bench.card(&["-O", "--type", "privkey"]).expect(0).out;
    assert_eq!(listed.matches("label:      test-hilde").count(), 2, "{listed}");
    assert_eq!(listed.matches("sensitive, always sensitive, never extractable, local").count(), 2, "{listed}");

    let envelope = bench.bundle("test-hilde");
    for policy in [AlgorithmPolicy::Hybrid, AlgorithmPolicy::Cnsa2] {
        let unsigned = prove_with(&bench.archive(), &anchor(&envelope), policy).unwrap_err();
        assert!(matches!(unsigned.kind(), bundle_format::ErrorKind::Threshold { needed: 2, found: 1, .. }));
    }
    bench.with_pin(&["sign", "b.bundle.tar", "--key", "keys/test-hilde"]).expect(0);
    for policy in [AlgorithmPolicy::Hybrid, AlgorithmPolicy::Cnsa2] {
        prove_with(&bench.archive(), &anchor(&envelope), policy).unwrap();
    }
    // Twice under one name: nothing is overwritten, in files or in the token.
    refused(bench.with_pin(&bench.keygen_args("test-hilde", &["--ml-dsa", "token"])), 2, "exists already");
    for name in bench.key_files() {
        std::fs::remove_file(bench.path("keys").join(name)).unwrap();
    }
    let again = bench.with_pin(&bench.keygen_args("test-hilde", &["--ml-dsa", "token"]));
    refused(again, 2, "token TEST-card: key test-hilde exists already and is never overwritten");
}

#[test]
fn the_offline_ceremony_takes_both_keys_from_a_token() {
    let bench = bench();
    hilde(&bench);
    let envelope = bench.bundle("test-hilde");
    bench.sign_offline("test-hilde");
    prove(&bench.archive(), &anchor(&envelope)).unwrap();
}

#[test]
fn one_pin_is_asked_for_and_no_passphrase() {
    let bench = bench();
    hilde(&bench);
    bench.bundle("test-hilde");
    let command = format!("{} sign b.bundle.tar --key keys/test-hilde", program("bundle-builder").display());
    let typed = format!("printf '{PIN}\\n' | script -qec '{command}' /dev/null");
    let said = bench.run("sh", &["-c", &typed]).expect(0);
    assert_eq!(said.out.matches("PIN of token TEST-card").count(), 1, "{}", said.out);
    assert!(!said.out.contains("assphrase") && said.out.contains("test-hilde signed b.bundle.tar"), "{}", said.out);
}

#[test]
fn wrong_pins_until_the_token_locks() {
    let bench = bench();
    hilde(&bench);
    bench.bundle("test-hilde");
    bench.pin("TEST-4712");
    let mut told = Vec::new();
    while told.len() < 20 {
        let said = bench.sign("test-hilde");
        if said.code == 6 {
            break;
        }
        let said = said.expect(2);
        told.push(said.err.split("the PIN is wrong; ").nth(1).unwrap().lines().next().unwrap().to_owned());
    }
    told.dedup();
    let expected = [
        "the token does not say how many attempts are left",
        "the token warns that attempts are running low",
        "ONE attempt is left before the token locks",
    ];
    assert_eq!(told, expected);
    bench.pin(PIN);
    refused(bench.sign("test-hilde"), 6, "token TEST-card: its PIN is locked after wrong attempts");
}

#[test]
fn where_the_token_has_ml_dsa_a_person_chooses() {
    let bench = bench();
    let words = "token TEST-card has ML-DSA: say --ml-dsa token or --ml-dsa file";
    refused(bench.keygen("test-hilde", &[]), 2, words);
    assert_eq!(bench.card(&["-O", "--type", "privkey"]).expect(0).out, "", "nothing is made");
    let said = bench.keygen("test-hilde", &["--ml-dsa", "file"]).expect(0);
    assert!(said.out.contains("split signer: its ML-DSA-87 key is a sealed file, not in hardware"), "{}", said.out);
    assert_eq!(address(&bench, "test-hilde", "ml-dsa-87"), None, "the file of a split signer is as it was");
    let envelope = bench.bundle("test-hilde");
    bench.sign("test-hilde").expect(0);
    prove(&bench.archive(), &anchor(&envelope)).unwrap();
    let nowhere = bench.keygen("test-hugo", &["--ml-dsa", "pkcs11:token=TEST-card"]).expect(2);
    assert!(nowhere.err.contains("its address names no module-path"), "{}", nowhere.err);
    let nowhere = bench.keygen("test-hugo", &["--ml-dsa", "hardware"]).expect(2);
    assert!(nowhere.err.contains("expected file, token or a pkcs11: address"), "{}", nowhere.err);
}

#[test]
fn a_token_without_the_mechanism() {
    let softhsm = Bench::new(Maker::SoftHsm);
    let words = "token TEST-card: expected the mechanism CKM_ML_DSA, which it does not have";
    refused(softhsm.with_pin(&softhsm.keygen_args("test-hilde", &["--ml-dsa", "token"])), 6, words);
    assert_eq!(softhsm.card(&["-O", "--type", "privkey"]).expect(0).out, "", "no Ed25519 key is left behind");
    assert_eq!(softhsm.key_files(), Vec::<String>::new());

    let bench = bench();
    bench.deny(&["CKM_ML_DSA_KEY_PAIR_GEN"]);
    let said = bench.with_pin(&bench.keygen_args("test-hilde", &["--ml-dsa", "token"]));
    refused(said, 6, "token TEST-card: expected the mechanism CKM_ML_DSA_KEY_PAIR_GEN, which it does not have");
    assert_eq!(bench.card(&["-O", "--type", "privkey"]).expect(0).out, "");
    bench.deny(&[]);
    hilde(&bench);
    bench.bundle("test-hilde");
    let before = bench.archive();
    bench.deny(&["CKM_ML_DSA"]);
    refused(bench.sign("test-hilde"), 6, words);
    assert_eq!(bench.archive(), before, "a refusal changes nothing");
}

#[test]
fn a_key_that_is_gone_or_another_one() {
    let bench = bench();
    hilde(&bench);
    bench.with_pin(&bench.keygen_args("test-hugo", &["--ml-dsa", "token"])).expect(0);
    bench.bundle("test-hilde");
    let before = bench.archive();
    let own = address(&bench, "test-hilde", "ml-dsa-87").unwrap();
    let hugo = address(&bench, "test-hugo", "ml-dsa-87").unwrap();
    bench.edit("test-hilde", &own, &hugo);
    let key = |name: &str| bench.public(name).key(Scheme::MlDsa87).unwrap().id();
    let words = format!(
        "signer test-hilde: the ml-dsa-87 key expected by its public file is {}, found {}",
        key("test-hilde"),
        key("test-hugo")
    );
    refused(bench.sign("test-hilde"), 4, &words);
    // The Ed25519 key in the place of the other.
    let ed25519 = address(&bench, "test-hilde", "ed25519").unwrap();
    bench.edit("test-hilde", &hugo, &ed25519);
    let words = "token TEST-card: key test-hilde: expected CKK_ML_DSA, found CKK_EC_EDWARDS";
    refused(bench.sign("test-hilde"), 2, words);
    let path = bench.path("keys/test-hilde.token.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, second) = text.rsplit_once(&ed25519).unwrap();
    std::fs::write(&path, format!("{first}{own}{second}")).unwrap();
    bench.card(&["--delete-object", "--type", "privkey", "--id", &id(&own)]).expect(0);
    let words = "token TEST-card: key test-hilde: not there; expected a key of type CKK_ML_DSA";
    refused(bench.sign("test-hilde"), 2, words);
    assert_eq!(bench.archive(), before, "a refusal changes nothing");
}

#[test]
fn keys_that_the_token_has_are_adopted_if_they_are_ml_dsa_87() {
    let bench = bench();
    let ed25519 = ["--keypairgen", "--key-type", "EC:edwards25519", "--id", "42", "--label", "TEST old"];
    bench.card(&ed25519).expect(0);
    let adopt = |name: &str| bench.with_pin(&bench.keygen_args(name, &["--ml-dsa", "token", "--adopt", "TEST old"]));
    let words = "token TEST-card: key TEST old: expected CKK_ML_DSA, found CKK_EC_EDWARDS";
    refused(adopt("test-hilde"), 2, words);
    foreign_key(&bench, "TEST old", "87", "loose");
    let said = adopt("test-hilde").expect(0);
    let warning = "WARNING: the token does not say that this ml-dsa-87 key never was and never comes outside";
    assert!(said.out.contains(warning), "{}", said.out);
    let envelope = bench.bundle("test-hilde");
    bench.sign("test-hilde").expect(0);
    prove(&bench.archive(), &anchor(&envelope)).unwrap();

    foreign_key(&bench, "TEST small", "65", "kept");
    let small = format!("pkcs11:token=TEST-card;object=TEST%20small?module-path={}", Maker::Kryoptic.module());
    let said = bench.with_pin(&bench.keygen_args("test-hugo", &["--ml-dsa", &small]));
    let words = "token TEST-card: key TEST small: expected an ML-DSA-87 public key of 2592 bytes, found CKP_ML_DSA_65";
    refused(said, 2, words);
    foreign_key(&bench, "TEST old", "87", "kept");
    refused(adopt("test-hugo"), 2, "token TEST-card: key TEST old: expected one, found 2");
}

#[test]
fn the_second_key_in_a_second_token() {
    // Of another maker, and of the same, whose library is then loaded once for both.
    for (first, slot) in [(Maker::SoftHsm, 1), (Maker::Kryoptic, 2)] {
        two_tokens(&Bench::new(first), &format!("kryoptic-{slot}.sql"));
    }
}

fn two_tokens(bench: &Bench, store: &str) {
    bench.token(Maker::Kryoptic, "TEST-vault");
    let vault = format!("pkcs11:token=TEST-vault?module-path={}", Maker::Kryoptic.module());
    let keygen = bench.keygen_args("test-hilde", &["--ml-dsa", &vault]);
    // One PIN is never tried on the other token.
    refused(bench.with_pin(&keygen), 2, "no terminal to ask on; give --ml-dsa-pin-fd");
    assert_eq!(bench.card(&["-O", "--type", "privkey"]).expect(0).out, "");
    bench.second_pin("TEST-4712");
    refused(bench.with_pin(&keygen), 2, "token TEST-vault: the PIN is wrong");
    bench.second_pin(PIN);
    bench.with_pin(&keygen).expect(0);
    let (first, second) = (address(bench, "test-hilde", "ed25519"), address(bench, "test-hilde", "ml-dsa-87"));
    assert!(first.unwrap().contains("token=TEST-card;") && second.unwrap().contains("token=TEST-vault;"));
    let listed = bench.card(&["-O", "--type", "privkey"]).expect(0).out;
    assert_eq!(listed.matches("Private Key Object").count(), 1, "{listed}");
    let envelope = bench.bundle("test-hilde");
    bench.sign("test-hilde").expect(0);
    for policy in [AlgorithmPolicy::Hybrid, AlgorithmPolicy::Cnsa2] {
        prove_with(&bench.archive(), &anchor(&envelope), policy).unwrap();
    }
    // Another token under its name: the serial number tells.
    std::fs::remove_file(bench.path(store)).unwrap();
    refused(bench.sign("test-hilde"), 6, "token TEST-vault: not there;");
    bench.token(Maker::Kryoptic, "TEST-vault");
    refused(bench.sign("test-hilde"), 4, "token TEST-vault: expected serial number ");
}
