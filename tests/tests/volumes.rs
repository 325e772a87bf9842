//! Volumes: real files, real images, real read errors; every pattern within the promise comes back
//! byte for byte, every one beyond it is refused with the list of what to burn again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bundle_format::volume::{Head, Shape};
use installer::error::ErrorKind;
use installer::receive::intake::{Intake, Taken};
use installer::receive::volume::Volume;
use installer::state::State;
use proptest::prelude::*;
use system_tests::bundle::Draft;
use system_tests::carry::{Carry, draft};

/// Splits into volumes of `size` with `parity`, in folder `set`.
fn split(carry: &Carry, size: &str, parity: &str) -> Vec<PathBuf> {
    carry.builder(&["split", "b.tar", "--volume-size", size, "--parity", parity, "--out", "set"]).expect(0);
    carry.files("set", ".lgv")
}

fn head(volume: &Path) -> Head {
    Head::parse(&std::fs::read(volume).unwrap()[..4096]).unwrap()
}

/// Spoils a block of a volume, counted from 1.
fn spoil(volume: &Path, shape: &Shape, block: u64) {
    let file = std::fs::File::options().write(true).open(volume).unwrap();
    file.write_all_at(&[0x5a; 100], shape.payload_at() + (block - 1) * u64::from(shape.cell) + 7).unwrap();
}

#[test]
fn a_set_comes_back_in_any_order_over_several_calls() {
    let carry = Carry::new(3_000_000);
    let volumes = split(&carry, "910KB", "2");
    assert_eq!(volumes.len(), 6);
    let before: Vec<Vec<u8>> = volumes.iter().map(|path| std::fs::read(path).unwrap()).collect();
    carry.tool("sha384sum", &["-c", "--quiet", "--strict", "set/SHA384SUMS"]).expect(1); // names are relative to the set
    carry.tool("sh", &["-c", "cd set && sha384sum -c --quiet --strict SHA384SUMS"]).expect(0);
    let arg = |at: usize| volumes[at].display().to_string();
    let first = carry.installer(&["receive", "volumes", &arg(5)]).expect(3);
    assert!(
        first.err.contains("bring 3 of the volumes 1, 2, 3, 4, 5 that were not read yet")
            || first.err.contains("bring any 3"),
        "{}",
        first.err
    );
    assert_eq!(first.err.lines().next(), Some("UNCLASSIFIED"));
    carry.installer(&["receive", "volumes", &arg(3)]).expect(3);
    let again = carry.installer(&["receive", "volumes", &arg(3)]).expect(3);
    assert!(again.out.contains("volume 4 was read before"), "{}", again.out);
    carry.installer(&["receive", "volumes", &arg(0)]).expect(3);
    assert!(carry.arrived().is_empty());
    let last = carry.installer(&["receive", "volumes", &arg(1)]).expect(0);
    assert!(last.out.contains("volume 3 of 6: restored whole from parity"), "{}", last.out);
    assert!(last.out.contains("received and verified: test-product 1.0"), "{}", last.out);
    carry.assert_arrived();
    let after: Vec<Vec<u8>> = volumes.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(before == after, "the medium is as it was");
    carry.installer(&["verify", &carry.arrived()[0].display().to_string()]).expect(0);
    let history = carry.installer(&["history"]).expect(0).out;
    assert!(history.contains("receive"), "{history}");
    // What a person carries back says that it arrived.
    let receipt = carry.installer(&["--json", "receipt"]).expect(0).out;
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    let confirmed = carry.builder(&["confirm", receipt["code"].as_str().unwrap(), "b.tar"]).expect(0).out;
    assert!(confirmed.contains("arrived"), "{confirmed}");
}

#[test]
fn what_is_wrong_with_a_volume_is_said() {
    let carry = Carry::new(3_000_000);
    let volumes = split(&carry, "910KB", "2");
    let shape = head(&volumes[0]).shape;
    // Different blocks of every volume, a damaged front, a cut file, a wrong name, one twice.
    for (at, volume) in volumes.iter().enumerate() {
        spoil(volume, &shape, at as u64 % shape.cells + 1);
    }
    let file = std::fs::File::options().write(true).open(&volumes[1]).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    let length = shape.payload_at() + 5 * u64::from(shape.cell);
    std::fs::File::options().write(true).open(&volumes[4]).unwrap().set_len(length).unwrap();
    let renamed = volumes[0].with_file_name("wrong-v0004of0006.lgv");
    std::fs::rename(&volumes[0], &renamed).unwrap();
    std::fs::copy(&volumes[2], carry.path("set/copy.lgv")).unwrap();
    let said = carry.installer(&["receive", "volumes", "set"]).expect(0);
    for expected in [
        "named volume 4, but what it holds is volume 1: wrong label",
        "volume 3 is here twice",
        "the front of it is damaged",
        "volume 5 of 6: blocks 6-",
        "missing, the file is cut short",
        "volume 1 of 6: blocks 1 damaged",
        "volume 1 of 6: blocks 1 restored from parity",
    ] {
        assert!(said.out.contains(expected), "{expected}\n{}", said.out);
    }
    carry.assert_arrived();
}

#[test]
fn beyond_the_promise_it_names_what_to_burn_again() {
    let carry = Carry::new(3_000_000);
    let volumes = split(&carry, "910KB", "2");
    let shape = head(&volumes[0]).shape;
    for at in [0, 2, 5] {
        spoil(&volumes[at], &shape, 3);
    }
    let said = carry.installer(&["receive", "volumes", "set"]).expect(3);
    assert!(said.err.contains("blocks 3: re-burn any 1 of the volumes 1, 3, 6"), "{}", said.err);
    assert!(said.err.contains("what to do: "), "{}", said.err);
    assert!(carry.arrived().is_empty());
    // One of them burnt again is enough, and nothing else has to be read again.
    let good = carry.path("good");
    carry.builder(&["split", "b.tar", "--volume-size", "910KB", "--parity", "2", "--out", "good"]).expect(0);
    let fresh = good.join(volumes[2].file_name().unwrap()).display().to_string();
    carry.installer(&["receive", "volumes", &fresh]).expect(0);
    carry.assert_arrived();
}

#[test]
fn bad_blocks_of_an_earlier_call_are_still_advised_about() {
    let carry = Carry::new(3_000_000);
    let volumes = split(&carry, "910KB", "1");
    let shape = head(&volumes[0]).shape;
    spoil(&volumes[0], &shape, 3);
    let (first, rest) = (volumes[0].display().to_string(), &volumes[1..volumes.len() - 2]);
    carry.installer(&["receive", "volumes", &first]).expect(3);
    let rest: Vec<String> = rest.iter().map(|path| path.display().to_string()).collect();
    let call: Vec<&str> = ["receive", "volumes"].into_iter().chain(rest.iter().map(String::as_str)).collect();
    let said = carry.installer(&call).expect(3);
    assert!(
        said.err.contains(
            "blocks 3: bring 2 of the volumes 4, 5 that were not read yet, or re-burn volumes that were read: 1"
        ),
        "{}",
        said.err
    );
}

#[test]
fn strangers_are_told_apart() {
    let carry = Carry::new(1_000_000);
    let volumes = split(&carry, "400KB", "1");
    let other = Carry::of(&draft(2, 1_000_000));
    let others = split(&other, "400KB", "1");
    // Of another set: named, not taken.
    let (mine, theirs) = (volumes[0].display().to_string(), others[1].display().to_string());
    let said = carry.installer(&["receive", "volumes", &mine, &theirs]).expect(3);
    assert!(said.out.contains("volume 2 of another set"), "{}", said.out);
    // Signed by nobody we trust: refused before it costs disk.
    let mut stranger = draft(3, 200_000);
    stranger.signers = vec![system_tests::keys::mallory()];
    std::fs::write(carry.path("evil.tar"), stranger.archive()).unwrap();
    carry.builder(&["split", "evil.tar", "--volume-size", "400KB", "--parity", "0", "--out", "evil"]).expect(0);
    let said = carry.installer(&["receive", "volumes", "evil"]).expect(4);
    assert!(said.err.contains("what to do: "), "{}", said.err);
    let sessions = std::fs::read_dir(carry.path("high/inbox")).unwrap().count();
    assert_eq!(sessions, 2, "the lock and the one session of the trusted set");
    // No volume at all, an empty folder, nothing there.
    std::fs::write(carry.path("text.lgv"), "hello").unwrap();
    let said = carry.installer(&["receive", "volumes", "text.lgv"]).expect(3);
    assert!(said.err.contains("not a usable volume"), "{}", said.err);
    std::fs::create_dir(carry.path("empty")).unwrap();
    carry.installer(&["receive", "volumes", "empty"]).expect(2);
    carry.installer(&["receive", "volumes", "nowhere"]).expect(6);
    // A bundle that rotted on the low side does not leave it.
    let mut rotten = carry.archive.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    std::fs::write(carry.path("rotten.tar"), &rotten).unwrap();
    let said = carry.builder(&["split", "rotten.tar", "--volume-size", "400KB", "--out", "rotten"]).expect(3);
    assert!(said.err.contains("digest differs"), "{}", said.err);
    assert!(carry.files("rotten", "").is_empty());
    std::fs::write(carry.path("short.tar"), &carry.archive[..middle]).unwrap();
    carry.builder(&["split", "short.tar", "--volume-size", "400KB", "--out", "short"]).expect(3);
    carry.builder(&["split", "b.tar", "--volume-size", "400KB", "--out", "set"]).expect(2);
    carry.builder(&["split", "b.tar", "--volume-size", "5000", "--out", "tiny"]).expect(2);
    // Alone, a volume of another trusted set begins a set of its own, and that does not go unseen.
    let alone = carry.installer(&["receive", "volumes", &theirs]).expect(3);
    assert!(alone.out.contains("is on its way in this inbox too"), "{}{}", alone.out, alone.err);
}

#[test]
fn read_errors_are_missing_blocks() {
    let carry = Carry::new(30_000_000);
    let volumes = split(&carry, "9MB", "2");
    let volume = volumes[1].display().to_string();
    // The kernel answers EIO to every thread's reads of this one file, from its fourth read on: the
    // main thread's first three are head, table and prologue.
    let before = [
        "-f",
        "-qq",
        "-o",
        "trace",
        "-P",
        volume.as_str(),
        "-e",
        "trace=pread64",
        "-e",
        "inject=pread64:error=EIO:when=4+",
    ];
    let said = carry.installer_under("strace", &before, &["receive", "volumes", "set"]).expect(0);
    assert!(said.out.contains("volume 2 of 6: blocks ") && said.out.contains(" unreadable"), "{}", said.out);
    assert!(said.out.contains("volume 2 of 6: ") && said.out.contains("restored"), "{}", said.out);
    carry.assert_arrived();
}

#[test]
fn disc_images_hold_what_their_readme_says() {
    let carry = Carry::new(3_000_000);
    carry.builder(&["split", "b.tar", "--volume-size", "910KB", "--parity", "2", "--out", "set", "--iso"]).expect(0);
    let images = carry.files("set", ".iso");
    assert_eq!(images.len(), 6);
    let plan = carry.builder(&["burn-plan", "set"]).expect(0).out;
    for image in &images {
        let sum = carry.tool("sha384sum", &[&image.display().to_string()]).expect(0).out;
        let sum = sum.split(' ').next().unwrap();
        assert!(plan.contains(sum) && plan.contains(&*image.file_name().unwrap().to_string_lossy()), "{plan}");
    }
    // The same set, the same images.
    carry.builder(&["split", "b.tar", "--volume-size", "910KB", "--parity", "2", "--out", "again", "--iso"]).expect(0);
    for (one, two) in images.iter().zip(carry.files("again", ".iso")) {
        assert!(std::fs::read(one).unwrap() == std::fs::read(two).unwrap(), "{}", one.display());
    }
    // Read by a stock reader; discs 2 and 5 are lost.
    for (at, image) in images.iter().enumerate().filter(|(at, _)| *at != 1 && *at != 4) {
        let (image, to) = (image.display().to_string(), format!("discs/{at}"));
        carry.tool("xorriso", &["-osirrox", "on", "-indev", &image, "-extract", "/", &to]).expect(0);
    }
    let readme = std::fs::read_to_string(carry.path("discs/0/README.txt")).unwrap();
    assert!(readme.starts_with("UNCLASSIFIED\n") && readme.contains("6 volumes, one on each disc"), "{readme}");
    assert!(carry.path("discs/0/installer").exists() && !carry.path("discs/2/installer").exists());
    let discs: Vec<String> = [0, 2, 3, 5].iter().map(|at| format!("discs/{at}")).collect();
    let mut args = vec!["receive", "volumes"];
    args.extend(discs.iter().map(String::as_str));
    carry.installer(&args).expect(0);
    carry.assert_arrived();
}

#[test]
fn undamaged_volumes_join_with_stock_tools() {
    let carry = Carry::new(3_000_000);
    split(&carry, "910KB", "1");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/isso/join-by-hand.sh");
    carry.tool(script, &["set", "joined.tar"]).expect(0);
    assert!(std::fs::read(carry.path("joined.tar")).unwrap() == carry.archive);
    let damaged = &carry.files("set", ".lgv")[1];
    spoil(damaged, &head(damaged).shape, 2);
    carry.tool(script, &["set", "other.tar"]).expect(1);
    assert!(!carry.path("other.tar").exists());
}

#[test]
fn a_full_disk_is_found_before_the_first_block() {
    let carry = Carry::new(3_000_000);
    split(&carry, "910KB", "1");
    let before = ["-f", "-qq", "-o", "trace", "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC"];
    let said = carry.installer_under("strace", &before, &["receive", "volumes", "set"]).expect(6);
    assert!(said.err.contains("no space left"), "{}", said.err);
    let left = carry.files("high/inbox", ".part");
    assert!(left.is_empty(), "{left:?}");
    carry.installer(&["receive", "volumes", "set"]).expect(0);
    carry.assert_arrived();
}

/// A set in a folder, and the site's state, for many patterns of loss.
struct Bench {
    carry: Carry,
    volumes: Vec<PathBuf>,
    shape: Shape,
}

impl Bench {
    fn new() -> Self {
        let carry = Carry::of(&Draft { ..draft(4, 1_200_000) });
        let volumes = split(&carry, "460KB", "2");
        let shape = head(&volumes[0]).shape;
        assert_eq!((shape.data, shape.parity), (4, 2), "{shape:?}");
        Self { carry, volumes, shape }
    }

    /// Receives the set with these blocks (volume, cell; from 0) spoilt.
    fn receive(&self, bad: &[(usize, u64)]) -> Result<(), ErrorKind> {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut state = State::open(&self.carry.path("high/state.db")).unwrap();
        let inbox = folder.path().join("inbox");
        installer::atomic::make_folder(&inbox).unwrap();
        let mut intake = Intake::new(&inbox, &mut state, true);
        for (at, from) in self.volumes.iter().enumerate() {
            let path = folder.path().join(from.file_name().unwrap());
            std::fs::copy(from, &path).unwrap();
            for (_, cell) in bad.iter().filter(|(volume, _)| *volume == at) {
                spoil(&path, &self.shape, cell + 1);
            }
            let taken = intake.offer(&Volume::open(&path).unwrap()).unwrap();
            assert!(matches!(taken, Taken::Yes(_)));
        }
        let received = intake.finish("test").map_err(installer::Error::into_kind)?;
        assert!(std::fs::read(&received.path).unwrap() == self.carry.archive, "a wrong byte");
        Ok(())
    }
}

#[test]
fn random_patterns_of_loss() {
    let bench = Bench::new();
    let cells = bench.shape.cells;
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let pattern = proptest::collection::btree_set((0usize..6, 0..cells), 0..12);
    proptest!(config, |(pattern in pattern)| {
        let bad: Vec<(usize, u64)> = pattern.into_iter().collect();
        // Cells behind the archive's end count as there: nobody needs them.
        let counts = |volume: usize, cell| volume >= 4 || bench.shape.place(u16::try_from(volume).unwrap(), cell).1 > 0;
        let worst = (0..cells).filter_map(|cell| {
            let lost: Vec<usize> = bad.iter().filter(|(v, c)| *c == cell && counts(*v, cell)).map(|(v, _)| *v).collect();
            // A stripe that lost only parity has all it needs.
            lost.iter().any(|volume| *volume < 4).then_some(lost.len())
        }).max().unwrap_or(0);
        match bench.receive(&bad) {
            Ok(()) => prop_assert!(worst <= 2, "restored what cannot be: {bad:?}"),
            Err(ErrorKind::Incomplete { need, .. }) => {
                prop_assert!(worst > 2, "refused what can be restored: {bad:?}: {need}");
                prop_assert!(need.contains("re-burn"), "{need}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    });
}
