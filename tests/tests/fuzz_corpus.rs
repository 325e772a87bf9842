//! The corpora of the fuzzer, replayed: no input that was ever worth keeping makes a target panic. The
//! seeds among them are made here, from the real writers; a format that changes makes them stale.
//!
//! `LOCKGATE_FUZZ_SEEDS=write cargo test -p system-tests --test fuzz_corpus` writes them anew; the targets
//! hold the anchor, so what was compiled before does not know it yet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;
use system_tests::seeds::{self, Seeds};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// The files of a folder by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let read = |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
    paths.map(read).collect()
}

#[test]
fn every_committed_input_passes() {
    let mut total = 0;
    for (target, run) in TARGETS {
        let inputs = files(&corpus().join(target));
        assert!(inputs.len() > 1, "{target} has no corpus");
        for (name, bytes) in inputs {
            total += bytes.len();
            if let Err(panic) = std::panic::catch_unwind(|| run(&bytes)) {
                let why = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
                panic!("tests/fuzz/corpus/{target}/{name}: {why}");
            }
        }
    }
    assert!(total < 1 << 20, "{total} bytes of corpora: keep them small");
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/tests/vectors-gzip");
    let gzip: Vec<Vec<u8>> = files(&vectors)
        .into_iter()
        .filter(|(name, bytes)| Path::new(name).extension().is_some_and(|end| end == "gz") && bytes.len() < 64 << 10)
        .map(|(_, bytes)| bytes)
        .collect();
    assert!(gzip.len() > 40);
    for bytes in &gzip {
        fuzz_targets::tokens_round(bytes);
    }
}

#[test]
fn the_policy_of_a_site_is_read_like_the_other_yaml() {
    for bytes in files(&corpus().join("yaml")).into_values() {
        if let Ok(text) = std::str::from_utf8(&bytes) {
            drop(installer::policy::Policy::parse("fuzz", text));
        }
    }
}

#[test]
fn the_seeds_are_what_our_readers_take() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz-targets");
    if std::env::var_os("LOCKGATE_FUZZ_SEEDS").is_some_and(|word| word == "write") {
        let Seeds { inputs, anchor, signed } = seeds::all();
        std::fs::write(targets.join("anchor.json"), anchor).unwrap();
        std::fs::write(targets.join("signed.txt"), signed).unwrap();
        for (target, name, bytes) in inputs {
            let folder = corpus().join(target);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("seed-{name}")), bytes).unwrap();
        }
        return;
    }
    assert!(seeds::is_current(fuzz_targets::ANCHOR, fuzz_targets::SIGNED), "see the head of this file");
    let mut committed = Vec::new();
    for (target, _) in TARGETS {
        for (file, bytes) in files(&corpus().join(target)) {
            let Some(name) = file.strip_prefix("seed-") else { continue };
            assert!(seeds::is_taken(target, name, &bytes), "{target}/{file} is stale: see the head of this file");
            committed.push((target, name.to_owned()));
        }
    }
    let mut made: Vec<_> = seeds::all().inputs.into_iter().map(|(target, name, _)| (target, name)).collect();
    made.sort();
    committed.sort();
    assert_eq!(committed, made);
}
