//! What lies at a path that a person names, or on a medium: regular files are read, by way of symbolic
//! links too; a FIFO, a device or a folder is refused, at once and as what it is. And what becomes of a
//! bundle that is another one, or changes, while it is read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_format::digest::Sha256;
use bundle_format::manifest::Blob;
use bundle_format::pack::{BlobSink, Encoding, NoSink, Want};
use installer::error::ErrorKind;
use installer::proof::{Base, ProvedBundle, Site};
use installer::receive::volume::Volume;
use installer::state::State;
use installer::store::Store;
use system_tests::Draft;
use system_tests::high::High;
use system_tests::keys::{self, alice, bob};
use system_tests::site::Said;

/// Seconds after which a command hangs; `timeout` then gives the code 124.
const PATIENCE: &str = "30";

/// What is no regular file, and what it is called.
const STRANGE: [(&str, &str); 4] =
    [("fifo", "a FIFO"), ("to-fifo", "a FIFO"), ("folder", "a folder"), ("/dev/zero", "a device")];

struct Ground {
    high: High,
    fingerprint: String,
}

/// A machine that trusts, a bundle that it takes, and what lies beside it.
fn ground() -> Ground {
    let root = keys::two_of_three();
    let high = High::trusting(&root, &[]);
    let fingerprint = root.claimed().fingerprint().to_string();
    let mut draft = Draft { roots: vec![root], signers: vec![alice(), bob()], ..Draft::empty() };
    draft.add_files(Encoding::Raw, &[b"TEST"]);
    high.bundle("good", &draft);
    std::fs::create_dir(high.path("folder")).unwrap();
    nix::unistd::mkfifo(&high.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (link, to) in [("to-good", "good"), ("to-fifo", "fifo")] {
        std::os::unix::fs::symlink(to, high.path(link)).unwrap();
    }
    Ground { high, fingerprint }
}

impl Ground {
    fn at(&self, name: &str) -> PathBuf {
        self.high.path(name)
    }

    fn installer(&self, args: &[&str]) -> Said {
        self.high.installer_under(&["timeout", PATIENCE], args)
    }

    fn builder(&self, args: &[&str]) -> Said {
        let builder = system_tests::site::program("bundle-builder");
        let mut command = Command::new("timeout");
        command.arg(PATIENCE).arg(builder).args(args).current_dir(self.at("."));
        Said::of(&command.output().unwrap())
    }
}

#[test]
fn no_command_of_the_installer_waits_for_what_is_no_file() {
    let ground = ground();
    for (path, found) in STRANGE {
        let [root, fingerprint] = [path, &ground.fingerprint];
        for args in [
            &["verify", path][..],
            &["inspect", "provenance", path],
            &["preflight", path],
            &["plan", path],
            &["--yes", "install", path],
            &["--state-dir", "other", "trust", "init", root, "--fingerprint", fingerprint],
            &["policy", "set", path],
            &["audit", "verify", "--anchor-file", path],
        ] {
            // A later `--state-dir` than the usual one: a machine that trusts nobody yet.
            let said = match args {
                ["--state-dir", _, rest @ ..] => {
                    let installer = system_tests::site::program("installer");
                    let mut command = Command::new("timeout");
                    command.arg(PATIENCE).arg(installer).args(["--state-dir", "other"]).args(rest);
                    Said::of(&command.current_dir(ground.at(".")).output().unwrap())
                }
                _ => ground.installer(args),
            };
            let said = said.expect(2);
            assert!(
                said.err.contains(&format!("{path}: expected a regular file, found {found}")),
                "{args:?}: {said:?}"
            );
            assert!(said.err.contains("what to do: copy it into a file first"), "{args:?}: {said:?}");
        }
    }
}

#[test]
fn one_volume_that_is_no_file_is_named_and_the_others_are_read() {
    let ground = ground();
    ground.builder(&["split", "good", "--volume-size", "200KB", "--parity", "1", "--out", "set"]).expect(0);
    let volumes: Vec<PathBuf> = std::fs::read_dir(ground.at("set"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "lgv"))
        .collect();
    for (path, found) in STRANGE.into_iter().filter(|(path, _)| *path != "folder") {
        let said = ground.installer(&["receive", "volumes", path]).expect(3);
        let says = format!("not a usable volume: expected a regular file, found {found}");
        assert!(said.err.contains(&says), "{path}: {said:?}");
    }
    // Among a folder's volumes.
    nix::unistd::mkfifo(&ground.at("set/a.lgv"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = ground.installer(&["receive", "volumes", "set"]).expect(0);
    assert!(said.out.contains("not a usable volume: expected a regular file, found a FIFO"), "{said:?}");
    assert!(said.out.contains("received and verified: test-product"), "{said:?}");
    // A volume by way of a link.
    std::os::unix::fs::symlink(&volumes[0], ground.at("link.lgv")).unwrap();
    assert_eq!(Volume::open(&ground.at("link.lgv")).unwrap().set, Volume::open(&volumes[0]).unwrap().set);
}

#[test]
fn no_command_of_the_builder_waits_for_what_is_no_file() {
    let ground = ground();
    for (path, found) in STRANGE {
        for args in [
            &["inspect", path][..],
            &["size-report", path],
            &["sign-bytes", path, "--sha384", &"a".repeat(96), "--key", "none"],
            &["root", "show", path],
            &["split", path, "--volume-size", "64KB", "--parity", "1", "--out", "no-set"],
        ] {
            let said = ground.builder(args).expect(2);
            assert!(
                said.err.contains(&format!("{path}: expected a regular file, found {found}")),
                "{args:?}: {said:?}"
            );
        }
    }
}

#[test]
fn links_to_files_are_followed() {
    let ground = ground();
    assert!(ground.installer(&["verify", "to-good"]).expect(0).out.contains("verified: test-product"));
    ground.builder(&["inspect", "to-good"]).expect(0);
    std::os::unix::fs::symlink("root.json", ground.at("to-root")).unwrap();
    ground.builder(&["root", "show", "to-root"]).expect(0);
}

#[test]
fn the_kind_is_its_own() {
    let ground = ground();
    let state = State::open(&ground.at("state/state.db")).unwrap();
    let site = Site::read(&state).unwrap();
    let not = |found: &str, error: installer::error::Error| matches!(error.kind(), ErrorKind::NotRegular { found: is, .. } if *is == found);
    for (name, found) in STRANGE {
        let path = ground.at(name);
        let path: &Path = &path;
        assert!(not(found, ProvedBundle::open_at(path, &site).unwrap_err()), "{name}");
        assert!(not(found, installer::trust::read_envelope(path).unwrap_err()), "{name}");
        assert!(not(found, installer::policy::read(path).unwrap_err()), "{name}");
        let error = Volume::open(path).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BadVolume { why, .. } if why.ends_with(found)), "{name}: {error}");
        let error = bundle_builder::sign::OpenBundle::open(path).unwrap_err();
        let of_builder =
            matches!(error.kind(), bundle_builder::ErrorKind::NotRegular { found: is, .. } if *is == found);
        assert!(of_builder, "{name}: {error}");
    }
}

/// Two bundles of one office that differ in their one file, of many frames.
struct Twins {
    ground: Ground,
    site: Site,
    base: Base,
}

const SIZE: usize = 24 << 20;

fn twins() -> Twins {
    let ground = ground();
    for (name, byte) in [("one", 1), ("two", 2)] {
        let mut draft = Draft { roots: vec![keys::two_of_three()], signers: vec![alice(), bob()], ..Draft::empty() };
        draft.add_files(Encoding::Raw, &[&vec![byte; SIZE]]);
        assert!(draft.manifest.packs[0].frames.len() > 4);
        ground.high.bundle(name, &draft);
    }
    let site = Site::read(&State::open(&ground.at("state/state.db")).unwrap()).unwrap();
    let base = Base::none(&Store::peek(&ground.at("state/store")));
    Twins { ground, site, base }
}

fn format_kind(error: &installer::error::Error) -> &bundle_format::ErrorKind {
    match error.kind() {
        ErrorKind::Format(inner) => inner.kind(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_bundle_swapped_after_its_proof_is_refused_or_never_seen() {
    let twins = twins();
    let (one, two) = (twins.ground.at("one"), twins.ground.at("two"));
    let wanted = || BTreeMap::from([(Sha256::of(&vec![1; SIZE]), SIZE as u64)]);
    std::fs::copy(&one, twins.ground.at("b")).unwrap();
    let path = twins.ground.at("b");
    let proved = ProvedBundle::open_at(&path, &twins.site).unwrap();
    assert_eq!(proved.peek(&twins.base, wanted()).unwrap().len(), 1);
    // By another name: the file is opened again, and held to the manifest that was proved.
    std::fs::copy(&two, twins.ground.at("next")).unwrap();
    std::fs::rename(twins.ground.at("next"), &path).unwrap();
    let error = proved.peek(&twins.base, wanted()).unwrap_err();
    assert!(matches!(format_kind(&error), bundle_format::ErrorKind::FrameDigest { .. }), "{error}");
    // A FIFO in its place is not waited for.
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = proved.peek(&twins.base, wanted()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotRegular { found: "a FIFO", .. }), "{error}");
    // What is unpacked is the file that was opened for the proof.
    let manifest = proved.unpack(&twins.base, &mut NoSink, &mut |_| ()).unwrap();
    assert_eq!(manifest.manifest().packs[0].blobs[0].digest, Sha256::of(&vec![1; SIZE]));
}

/// Overwrites the last bytes of a bundle's payload in the moment in which its first blob begins.
struct Spoiler {
    file: std::fs::File,
    at: u64,
    taken: Vec<Sha256>,
    current: Option<Sha256>,
}

impl BlobSink for Spoiler {
    fn begin(&mut self, blob: &Blob) -> bundle_format::Result<Want> {
        self.file.write_all_at(&[2; 64], self.at).unwrap();
        self.current = Some(blob.digest);
        Ok(Want::Keep)
    }

    fn write(&mut self, _: &[u8]) -> bundle_format::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> bundle_format::Result<()> {
        self.taken.extend(self.current.take());
        Ok(())
    }
}

#[test]
fn a_bundle_overwritten_while_it_is_unpacked_is_refused() {
    let twins = twins();
    let path = twins.ground.at("one");
    let proved = ProvedBundle::open_at(&path, &twins.site).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // Before the end mark: the last frame's bytes, which are not read yet.
    let at = file.metadata().unwrap().len() - 1024 - 512;
    let mut sink = Spoiler { file, at, taken: Vec::new(), current: None };
    let error = proved.unpack(&twins.base, &mut sink, &mut |_| ()).unwrap_err();
    assert!(matches!(format_kind(&error), bundle_format::ErrorKind::FrameDigest { .. }), "{error}");
    assert_eq!(sink.taken, Vec::new(), "no blob of it has an end");
}
