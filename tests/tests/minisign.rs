//! Stock minisign and our code, each on what the other made. Needs `minisign` on the PATH
//! (Debian package `minisign`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bundle_format::ErrorKind;
use bundle_format::key::Scheme;
use bundle_format::root::Role;
use bundle_format::signature::{AlgorithmPolicy, Signature, UNTRUSTED_COMMENT, verify_threshold};
use signing_keys::file::KeyFiles;
use system_tests::keys::{alice, key_id, root};

const PASSPHRASE: &str = "TEST passphrase, not a secret";
const DOCUMENT: &[u8] = b"TEST document\n";
const COMMENT: &str = "lockgate manifest product=test-product release=1.0 sequence=7";

fn minisign(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new("minisign")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test runs stock minisign; install the package `minisign`: {error}"));
    // A call that asks for no passphrase may be gone before it reads one.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// A folder with alice's key files and the document.
fn folder() -> (tempfile::TempDir, KeyFiles) {
    let folder = tempfile::tempdir().unwrap();
    let files = KeyFiles::of(folder.path(), "test-alice");
    files.write(&alice(), PASSPHRASE.as_bytes()).unwrap();
    std::fs::write(folder.path().join("document"), DOCUMENT).unwrap();
    (folder, files)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What stock minisign says of a signature file over a document.
fn stock_verify(public: &Path, document: &Path, signature: &Path) -> Output {
    minisign(&["-V", "-p", text(public), "-m", text(document), "-x", text(signature)], "")
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// What our verifier says of a minisign file over a document.
fn our_verify(document: &[u8], file: &[u8]) -> bundle_format::Result<()> {
    let signature = Signature::parse_file("minisig", key_id(&alice(), Scheme::Ed25519), Scheme::Ed25519, file)?;
    let root = root(1, 1, &[&alice()]);
    verify_threshold("document", document, &[signature], &root, &[Role::Release], AlgorithmPolicy::Ed25519).map(drop)
}

#[test]
fn stock_minisign_and_ours_agree_on_what_the_other_made() {
    let (folder, files) = folder();
    let document = folder.path().join("document");

    // Ours, proved by stock minisign with our public key file and with the key's text.
    let [ours, _] = alice().sign(DOCUMENT, COMMENT).unwrap();
    let signature = write(folder.path(), "ours.minisig", &ours.to_file());
    our_verify(DOCUMENT, &ours.to_file()).unwrap();
    let said = stock_verify(&files.minisign_public, &document, &signature);
    let shown = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{said:?}");
    assert!(shown.contains(&format!("Trusted comment: {COMMENT}")), "{shown}");
    let key = std::fs::read_to_string(&files.minisign_public).unwrap();
    let key = key.lines().nth(1).unwrap();
    assert!(minisign(&["-V", "-P", key, "-m", text(&document), "-x", text(&signature)], "").status.success());

    // Tampered with, refused by both.
    let good = String::from_utf8(ours.to_file()).unwrap();
    let global = good.lines().nth(3).unwrap();
    let first = if global.starts_with('A') { "B" } else { "A" };
    for bad in [good.replace("sequence=7", "sequence=8"), good.replace(global, &format!("{first}{}", &global[1..]))] {
        let error = our_verify(DOCUMENT, bad.as_bytes()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BadSignature { .. }), "{error}");
        let path = write(folder.path(), "bad.minisig", bad.as_bytes());
        assert!(!stock_verify(&files.minisign_public, &document, &path).status.success());
    }
    let other = write(folder.path(), "other", b"TEST document.\n");
    assert!(!stock_verify(&files.minisign_public, &other, &signature).status.success());
    let error = our_verify(b"TEST document.\n", &ours.to_file()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BadSignature { .. }), "{error}");

    // Stock minisign's, made with our sealed key, proved by both.
    let theirs = folder.path().join("theirs.minisig");
    let untrusted = UNTRUSTED_COMMENT.strip_prefix("untrusted comment: ").unwrap();
    let sign =
        ["-S", "-s", text(&files.ed25519), "-m", text(&document), "-x", text(&theirs), "-t", COMMENT, "-c", untrusted];
    let signed = minisign(&sign, &format!("{PASSPHRASE}\n"));
    assert!(signed.status.success(), "{signed:?}");
    assert!(stock_verify(&files.minisign_public, &document, &theirs).status.success());
    let theirs = std::fs::read(&theirs).unwrap();
    our_verify(DOCUMENT, &theirs).unwrap();
    // Ed25519 is deterministic: the same key, document and comment give the same file.
    assert_eq!(theirs, ours.to_file());

    // And not without the passphrase.
    let refused = minisign(&sign, "another passphrase\n");
    assert!(!refused.status.success(), "{refused:?}");
}
