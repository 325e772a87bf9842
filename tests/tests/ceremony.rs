//! Signing on another machine: what is exported, what comes back, and everything else that might.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_builder::ceremony::{attach_manifest, attach_root, read_document, sheet_beside, sign_bytes};
use bundle_builder::sign::OpenBundle;
use bundle_builder::{Error, ErrorKind};
use bundle_format::digest::Sha384;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::key::Scheme;
use bundle_format::root::RootEnvelope;
use bundle_format::signature::Value;
use signing_keys::file::KeyFiles;
use signing_keys::{Document, Signer};
use system_tests::keys::{self, alice, anchor, bob, carol, mallory, signed_root, signer};
use system_tests::site::{Said, program};
use system_tests::{Draft, prove};

const PASSPHRASE: &str = "TEST passphrase, not a secret";

fn builder(folder: &Path, args: &[&str]) -> Said {
    Said::of(&Command::new(program("bundle-builder")).args(args).current_dir(folder).output().unwrap())
}

/// A folder with the small bundle, unsigned.
fn unsigned() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.bundle.tar");
    std::fs::write(&path, Draft { signers: Vec::new(), ..Draft::small() }.archive()).unwrap();
    (folder, path)
}

fn document(bundle: &Path) -> Document {
    Document::of_manifest(&OpenBundle::open(bundle).unwrap().envelope).unwrap()
}

/// Detached signatures of a signer over a document, as files in a folder of their own.
fn detached(folder: &Path, signer: &Signer, document: &Document) -> Vec<PathBuf> {
    let out = folder.join(format!("from-{}", signer.name()));
    std::fs::create_dir_all(&out).unwrap();
    sign_bytes(document, signer, &out).unwrap()
}

/// How attaching files to the bundle is refused.
#[track_caller]
fn refused(bundle: &Path, files: &[PathBuf]) -> Error {
    attach_manifest(&mut OpenBundle::open(bundle).unwrap(), files).unwrap_err()
}

#[test]
fn the_round_trip_by_the_programs_equals_direct_signing() {
    let (folder, path) = unsigned();
    let direct = Draft::small();
    let before = std::fs::read(&path).unwrap();
    for (name, signer) in [("test-alice", alice()), ("test-bob", bob())] {
        let own = folder.path().join(name);
        std::fs::create_dir(&own).unwrap();
        KeyFiles::of(&own, name).write(&signer, PASSPHRASE.as_bytes()).unwrap();
    }
    std::fs::write(folder.path().join("pass"), PASSPHRASE).unwrap();
    let said = builder(folder.path(), &["sign", "b.bundle.tar", "--export", "stick.bytes"]).expect(0);
    assert_eq!(std::fs::read(&path).unwrap(), before, "exporting changes nothing");
    assert!(said.err.starts_with("UNCLASSIFIED\n") && said.err.ends_with("UNCLASSIFIED\n"), "{}", said.err);
    let bytes = std::fs::read(folder.path().join("stick.bytes")).unwrap();
    assert_eq!(bytes, direct.text().into_bytes(), "exactly the manifest");
    let sheet = std::fs::read_to_string(sheet_beside(&folder.path().join("stick.bytes"))).unwrap();
    let sha384 = Sha384::of(&bytes).to_string();
    let grouped = bundle_format::text::groups_of_four(&sha384);
    for fact in ["test-product", "1.0", "sequence  7", "TEST bundle", &grouped[..39], &grouped[80..]] {
        assert!(sheet.contains(fact), "{fact}:\n{sheet}");
    }
    assert_eq!((sheet.lines().next(), sheet.lines().last()), (Some("UNCLASSIFIED"), Some("UNCLASSIFIED")));
    let again = builder(folder.path(), &["sign", "b.bundle.tar", "--export", "stick.bytes"]).expect(2);
    assert!(again.err.contains("exists already and is never overwritten"), "{}", again.err);

    let mut attach = vec!["sign".to_owned(), "b.bundle.tar".into(), "--attach".into()];
    for name in ["test-alice", "test-bob"] {
        let (key, out) = (format!("{name}/{name}"), format!("back-{name}"));
        std::fs::create_dir(folder.path().join(&out)).unwrap();
        let args = [
            "sign-bytes",
            "stick.bytes",
            "--sha384",
            &grouped,
            "--key",
            &key,
            "--passphrase-file",
            "pass",
            "--out",
            &out,
        ];
        let said = builder(folder.path(), &args).expect(0);
        assert!(said.out.contains("TEST bundle") && said.out.contains("carry back"), "{}", said.out);
        for file in std::fs::read_dir(folder.path().join(&out)).unwrap() {
            attach.push(file.unwrap().path().display().to_string());
        }
    }
    assert_eq!(attach.len(), 3 + 4);
    let said = builder(folder.path(), &attach.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
    assert!(said.out.contains("test-alice, test-bob signed b.bundle.tar; it carries 4 signatures"), "{}", said.out);

    let signed = std::fs::read(&path).unwrap();
    prove(&signed, &direct.trusted()).unwrap();
    let head = |bytes: &[u8]| UnverifiedEnvelope::read(bytes).unwrap().0;
    let (ours, theirs) = (head(&signed), head(&direct.archive()));
    assert_eq!(ours.manifest_bytes(), theirs.manifest_bytes());
    for (a, b) in ours.signatures().iter().zip(theirs.signatures()) {
        assert_eq!((a.key, a.scheme()), (b.key, b.scheme()));
        // ML-DSA-87 is signed with fresh randomness; Ed25519 is the same to the byte.
        assert!(a.scheme() == Scheme::MlDsa87 || a == b);
    }
    assert_eq!(ours.signatures().len(), 4);
}

#[test]
fn only_the_bytes_of_the_paper_are_signed() {
    let (folder, path) = unsigned();
    let bytes = folder.path().join("bytes");
    std::fs::write(&bytes, document(&path).bytes()).unwrap();
    let right = document(&path).sha384().to_string();
    assert_eq!(read_document(&bytes, &right).unwrap().bytes(), document(&path).bytes());
    let mut changed = document(&path).bytes().to_vec();
    *changed.last_mut().unwrap() = b' ';
    std::fs::write(&bytes, changed).unwrap();
    let error = read_document(&bytes, &right).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OtherDocument { .. }), "{error}");
    assert_eq!(error.class().exit_code(), 4);
    assert!(matches!(read_document(&bytes, "00").unwrap_err().kind(), ErrorKind::Usage(_)));
    std::fs::write(&bytes, b"anything").unwrap();
    let error = read_document(&bytes, &Sha384::of(b"anything").to_string()).unwrap_err();
    let is_kind = matches!(error.kind(), ErrorKind::Signing(e) if matches!(e.kind(), signing_keys::ErrorKind::NotSignable { .. }));
    assert!(is_kind, "{error}");
}

#[test]
fn what_is_attached_is_verified() {
    let (folder, path) = unsigned();
    let (at, document) = (folder.path(), document(&path));
    let mut other = Draft { signers: Vec::new(), ..Draft::small() };
    other.manifest.sequence = 8;
    let other_path = at.join("other.bundle.tar");
    std::fs::write(&other_path, other.archive()).unwrap();

    let theirs = Document::of_manifest(&OpenBundle::open(&other_path).unwrap().envelope).unwrap();
    let over_other = detached(&at.join("other"), &alice(), &theirs);
    let error = refused(&path, &over_other);
    assert!(matches!(error.kind(), ErrorKind::SignedOther { found, .. } if found.contains("sequence=8")), "{error}");

    // The right comment over other bytes, and the other algorithm, which has no comment.
    let forged = alice().sign(theirs.bytes(), document.comment()).unwrap();
    for signature in forged {
        let file = at.join(format!("{}.{}", signature.key, signature.scheme().extension()));
        std::fs::write(&file, signature.to_file()).unwrap();
        let error = refused(&path, &[file]);
        let is_kind = matches!(error.kind(), ErrorKind::Format(e) if matches!(e.kind(), bundle_format::ErrorKind::BadSignature { .. }));
        assert!(is_kind, "{error}");
    }

    let error = refused(&path, &detached(at, &mallory(), &document));
    assert!(matches!(error.kind(), ErrorKind::UnknownSigner { root: 1, .. }), "{error}");

    let alices = detached(at, &alice(), &document);
    let doubled = [&alices[..], &alices[..1]].concat();
    let error = refused(&path, &doubled);
    assert!(matches!(error.kind(), ErrorKind::AlreadySigned { holder, .. } if holder == "test-alice"), "{error}");
    for (half, missing) in [(&alices[..1], "ml-dsa-87"), (&alices[1..], "ed25519")] {
        let error = refused(&path, half);
        assert!(matches!(error.kind(), ErrorKind::HalfSigned { missing: m, .. } if *m == missing), "{error}");
    }
    let renamed = at.join("alice.minisig");
    std::fs::copy(&alices[0], &renamed).unwrap();
    assert!(matches!(refused(&path, &[renamed]).kind(), ErrorKind::Usage(_)));
    let as_bob = at.join(format!("{}.minisig", keys::key_id(&bob(), Scheme::Ed25519)));
    std::fs::copy(&alices[0], &as_bob).unwrap();
    let error = refused(&path, &[as_bob]);
    let is_kind =
        matches!(error.kind(), ErrorKind::Format(e) if matches!(e.kind(), bundle_format::ErrorKind::BadValue { .. }));
    assert!(is_kind, "{error}");

    let mut bundle = OpenBundle::open(&path).unwrap();
    assert_eq!(attach_manifest(&mut bundle, &alices).unwrap(), ["test-alice"]);
    bundle.write(&mut |_| {}).unwrap();
    let error = refused(&path, &alices);
    assert!(matches!(error.kind(), ErrorKind::AlreadySigned { .. }), "{error}");
    // A refusal leaves the file as it was.
    let before = std::fs::read(&path).unwrap();
    let file = alices[0].display().to_string();
    builder(at, &["sign", "b.bundle.tar", "--attach", &file]).expect(2);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_listed_key_without_the_role_is_refused() {
    let (tina, theo) = (keys::tina(), keys::theo());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.bundle.tar");
    let roots = vec![keys::root_with_agents(2, &[&tina, &theo])];
    std::fs::write(&path, Draft { signers: Vec::new(), roots, ..Draft::small() }.archive()).unwrap();
    let error = refused(&path, &detached(folder.path(), &tina, &document(&path)));
    assert!(matches!(error.kind(), ErrorKind::NotASigner { signer, .. } if signer == "test-tina"), "{error}");
}

#[test]
fn a_root_is_signed_away_from_the_office_and_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let dave = signer("test-dave", 4);
    let one = signed_root(1, 2, &[&alice(), &bob(), &carol()], &[]);
    let mut first = one.clone();
    let document = Document::of_root(&first).unwrap();
    let files = [detached(folder.path(), &alice(), &document), detached(folder.path(), &carol(), &document)].concat();
    attach_root(&mut first, None, &files).unwrap();
    let trusted = anchor(&first);

    // Version 2 without alice, signed by her all the same: the former root lists her.
    let mut second = signed_root(2, 2, &[&bob(), &carol(), &dave], &[]);
    let document = Document::of_root(&second).unwrap();
    let next = folder.path().join("two");
    let files: Vec<PathBuf> =
        [alice(), bob(), dave].iter().flat_map(|signer| detached(&next, signer, &document)).collect();
    let error = attach_root(&mut second.clone(), None, &files).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownSigner { root: 2, .. }), "{error}");
    assert_eq!(attach_root(&mut second, Some(&first), &files).unwrap(), ["test-alice", "test-bob", "test-dave"]);
    assert_eq!(trusted.advance(&second).unwrap().root().version(), 2);

    let strangers = detached(&next, &mallory(), &document);
    let error = attach_root(&mut second, Some(&first), &strangers).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownSigner { .. }), "{error}");
    // The comment of a root is its version: signatures over version 1 are told apart.
    let over_first = detached(&folder.path().join("one"), &bob(), &Document::of_root(&one).unwrap());
    let unsigned = signed_root(2, 2, &[&bob(), &carol(), &signer("test-dave", 4)], &[]);
    let error = attach_root(&mut unsigned.clone(), Some(&first), &over_first).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SignedOther { .. }), "{error}");
}

#[test]
fn the_root_commands_take_detached_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("root.json"), signed_root(1, 1, &[&alice()], &[]).to_bytes().unwrap()).unwrap();
    std::fs::write(at.join("pass"), PASSPHRASE).unwrap();
    KeyFiles::of(at, "test-alice").write(&alice(), PASSPHRASE.as_bytes()).unwrap();
    let said = builder(at, &["root", "sign", "root.json", "--export", "root.bytes"]).expect(0);
    assert!(said.out.contains("root      1 of 1: test-alice"), "{}", said.out);
    let sha384 = Sha384::of(&std::fs::read(at.join("root.bytes")).unwrap()).to_string();
    let sign = ["sign-bytes", "root.bytes", "--sha384", &sha384, "--key", "test-alice", "--passphrase-file", "pass"];
    builder(at, &sign).expect(0);
    let id = |scheme| keys::key_id(&alice(), scheme).to_string();
    let files = [format!("{}.minisig", id(Scheme::Ed25519)), format!("{}.ml-dsa-87", id(Scheme::MlDsa87))];
    builder(at, &["root", "sign", "root.json", "--attach", &files[0], &files[1]]).expect(0);
    let envelope = RootEnvelope::parse(&std::fs::read(at.join("root.json")).unwrap()).unwrap();
    anchor(&envelope);
    let comment = envelope.signatures().iter().find_map(|s| match &s.value {
        Value::Ed25519 { comment, .. } => Some(comment.clone()),
        Value::MlDsa87(_) => None,
    });
    assert_eq!(comment.as_deref(), Some("lockgate root version=1"));
    // One way at a time.
    builder(at, &["root", "sign", "root.json"]).expect(2);
    builder(at, &["root", "sign", "root.json", "--key", "test-alice", "--export", "x"]).expect(2);
}
