//! The drop folder, and the chain of custody on the way in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Child;

use bundle_format::set::SetList;
use bundle_format::volume::Head;
use system_tests::bundle::Draft;
use system_tests::carry::{Carry, draft};
use system_tests::site::Said;
use system_tests::{custody, keys};

fn watching(carry: &Carry, more: &[&str]) -> Child {
    let args = [&["--state-dir", "high", "receive", "folder", "drop", "--poll", "1"], more].concat();
    carry.start(&["env"], "installer", &args)
}

/// Waits until `path` is there, at most a minute.
fn wait_for(path: &Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !path.exists() {
        assert!(std::time::Instant::now() < deadline, "{} never came", path.display());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn files_come_in_any_order_in_parts_and_with_strangers_among_them() {
    let carry = Carry::new(2_000_000);
    std::fs::create_dir(carry.path("drop")).unwrap();
    carry
        .builder(&[
            "send",
            "folder",
            "b.tar",
            "--to",
            "out",
            "--max-size",
            "500KB",
            "--parity",
            "1",
            "--names",
            "short",
        ])
        .expect(0);
    carry.builder(&["send", "folder", "b.tar", "--to", "out", "--max-size", "500KB", "--names", "short"]).expect(2);
    let files = carry.files("out", ".LGV");
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 500_000));
    let names: Vec<String> =
        files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names[0], "LG000001.LGV");
    let put =
        |name: &str| std::fs::copy(carry.path("out").join(name), carry.path("drop").join(name)).map(drop).unwrap();
    let other = Carry::of(&draft(2, 300_000));
    other.builder(&["send", "folder", "b.tar", "--to", "out", "--max-size", "500KB"]).expect(0);

    let child = watching(&carry, &["--timeout", "60", "--settle", "3", "--remove"]);
    put(&names[names.len() - 1]);
    wait_for(&carry.path("high/inbox/lock"));
    std::fs::write(carry.path("drop/unfinished.LGV.part"), "x").unwrap();
    std::fs::write(carry.path("drop/run.exe"), "MZ not ours").unwrap();
    std::fs::copy(&other.files("out", ".lgv")[0], carry.path("drop/other.lgv")).unwrap();
    wait_for(&carry.path("high/inbox/quarantine/run.exe"));
    wait_for(&carry.path("high/inbox/quarantine/other.lgv"));
    // One is written in two halves; the watcher waits for the second.
    let whole = std::fs::read(&files[1]).unwrap();
    std::fs::write(carry.path("drop").join(&names[1]), &whole[..whole.len() / 2]).unwrap();
    put("SET.JSN");
    put("SUMS.TXT");
    for name in names.iter().skip(2).rev().skip(1) {
        put(name);
    }
    std::fs::write(carry.path("drop").join(&names[1]), &whole).unwrap();
    // The first one never comes: parity stands in.
    let said = Said::of(&child.wait_with_output().unwrap()).expect(0);
    assert!(said.out.contains("volume 1 of ") && said.out.contains("restored whole from parity"), "{}", said.out);
    assert_eq!(said.err.lines().next(), Some("UNCLASSIFIED"));
    carry.assert_arrived();
    assert!(carry.path("drop/unfinished.LGV.part").exists(), "not ours to touch");
    assert!(!carry.path("drop").join(&names[2]).exists(), "taken files are removed when that was asked for");
}

#[test]
fn a_folder_that_stays_incomplete_or_untrusted_ends_with_its_reason() {
    let carry = Carry::new(1_000_000);
    carry.builder(&["send", "folder", "b.tar", "--to", "drop", "--max-size", "400KB"]).expect(0);
    let lost = &carry.files("drop", ".lgv")[1];
    std::fs::remove_file(lost).unwrap();
    let said = Said::of(&watching(&carry, &["--timeout", "4"]).wait_with_output().unwrap()).expect(3);
    assert!(said.err.contains("volumes 2 that were not read yet"), "{}", said.err);
    let mut evil = draft(3, 100_000);
    evil.signers = vec![keys::mallory()];
    let carry = Carry::new(100_000);
    std::fs::write(carry.path("evil.tar"), evil.archive()).unwrap();
    carry.builder(&["send", "folder", "evil.tar", "--to", "drop", "--max-size", "400KB"]).expect(0);
    let said = Said::of(&watching(&carry, &["--timeout", "4"]).wait_with_output().unwrap()).expect(4);
    assert!(said.out.contains("quarantine"), "{}", said.out);
    carry.installer(&["receive", "folder", "nowhere"]).expect(2);
}

#[test]
fn where_agents_are_named_a_set_needs_their_chain() {
    let (tina, theo) = (keys::tina(), keys::theo());
    let base = draft(5, 1_000_000);
    let carry = Carry::of(&Draft { roots: vec![keys::root_with_agents(2, &[&tina, &theo])], ..base });
    carry.builder(&["split", "b.tar", "--volume-size", "740KB", "--parity", "1", "--out", "set"]).expect(0);
    let volumes = carry.files("set", ".lgv");
    assert_eq!(volumes.len(), 3);
    let said = carry.installer(&["receive", "volumes", "set"]).expect(4);
    assert!(said.err.contains("chain of custody: expected"), "{}", said.err);
    assert_eq!(std::fs::read_dir(carry.path("high/inbox")).unwrap().count(), 1, "only the lock");
    let list = SetList::parse(&std::fs::read(carry.path("set/set.json")).unwrap()).unwrap();
    let chain = |signers: &[&signing_keys::Signer]| custody::chain(&list, &[signers]).to_bytes();
    std::fs::write(carry.path("set/custody.jsonl"), chain(&[&tina]).unwrap()).unwrap();
    carry.installer(&["receive", "volumes", "set"]).expect(4);
    std::fs::write(carry.path("set/custody.jsonl"), chain(&[&tina, &theo]).unwrap()).unwrap();
    // A volume whose blocks are sound, but which is not the file that was handed over.
    let shape = Head::parse(&std::fs::read(&volumes[0]).unwrap()[..4096]).unwrap().shape;
    let changed = std::fs::File::options().write(true).read(true).open(&volumes[0]).unwrap();
    changed.write_all_at(&[1], shape.payload_at() - 1).unwrap();
    let said = carry.installer(&["receive", "volumes", "set"]).expect(3);
    assert!(said.err.contains("custody") && said.err.contains("v0001of0003"), "{}", said.err);
    changed.write_all_at(&[0], shape.payload_at() - 1).unwrap();
    // A damaged one is not compared: its good blocks are proved by the manifest in the end.
    changed.write_all_at(&[9; 64], shape.payload_at() + 5).unwrap();
    let said = carry.installer(&["receive", "volumes", "set"]).expect(0);
    assert!(said.out.contains("volume 1: not compared with its custody record"), "{}", said.out);
    assert!(said.out.contains("volume 2: as its custody record says"), "{}", said.out);
    carry.assert_arrived();
}
