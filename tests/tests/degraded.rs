//! `status` and the support bundle on the day on which they are needed: an engine that answers nothing, a workload
//! that is lost in both copies, a record that rotted. What can be had is told, and what cannot is named with why.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use system_tests::cuts::case::Case;
use system_tests::cuts::ground::Ground;
use system_tests::cuts::{cut_at_first_start, fresh, rot};

/// A machine on which an update to the second release was cut off.
fn cut_off(act: impl FnOnce(&Ground, &Case) + Send) {
    fresh(|ground, case| {
        let bundle = |name: &str| ground.path(name).display().to_string();
        case.installer(&["--yes", "install", &bundle("one.tar")]).expect(0);
        cut_at_first_start(ground, case, &bundle("two.tar"));
        act(ground, case);
    });
}

/// The engine still says its version, and nothing else.
fn break_engine(ground: &Ground) {
    use std::os::unix::fs::PermissionsExt as _;
    let podman = ground.path("bin/podman");
    let broken =
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo podman version 5.4.2; exit 0; }\necho TEST broken >&2\nexit 125\n";
    std::fs::remove_file(&podman).unwrap();
    std::fs::write(&podman, broken).unwrap();
    std::fs::set_permissions(&podman, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Both copies of every workload are gone.
fn lose_workloads(case: &Case) {
    let (spare, blobs) = (case.state().join("store/spare"), case.state().join("store/blobs/sha256"));
    for entry in std::fs::read_dir(&spare).unwrap().map(Result::unwrap) {
        std::fs::remove_file(blobs.join(entry.file_name())).unwrap();
        std::fs::remove_file(entry.path()).unwrap();
    }
}

/// What status says, which must end with 8 and name the change that is not over.
#[track_caller]
fn status(case: &Case, parts: &[&str]) {
    let said = case.installer(&["status"]).expect(8);
    for part in parts.iter().chain(&["UNFINISHED install of cut", "cut 1.0 (sequence 1"]) {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let json: Value = serde_json::from_str(&case.installer(&["--json", "status"]).expect(8).out).unwrap();
    assert_eq!((&json["products"][0]["healthy"], &json["unfinished"]["act"]), (&false.into(), &"install".into()));
    assert!(json["products"][0]["containers"].is_null(), "nobody counted them: {json}");
}

/// The files of a support bundle.
fn support(case: &Case) -> BTreeMap<String, String> {
    let out = case.beside("support.tar.zst");
    case.installer(&["--yes", "support-bundle", "--out", &out.display().to_string()]).expect(0);
    unpacked(&out)
}

fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let tar = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let (mut entry, mut text) = (entry.unwrap(), String::new());
        entry.read_to_string(&mut text).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), text);
    }
    files
}

#[test]
fn an_engine_that_answers_nothing() {
    cut_off(|ground, case| {
        break_engine(ground);
        status(case, &["its containers cannot be looked at: ", "TEST broken"]);
        let out = case.beside("support.tar.zst");
        let said = case.installer(&["--yes", "support-bundle", "--out", &out.display().to_string()]).expect(0);
        assert!(said.out.contains("WARNING: not searched for: secrets of the engine"), "{}", said.out);
        let files = unpacked(&out);
        for part in ["podman/containers.txt: ", "TEST broken"] {
            assert!(files["missing.txt"].contains(part), "{part}: {}", files["missing.txt"]);
        }
        assert!(files["status.json"].contains("unfinished") && files.contains_key("audit.jsonl"));
    });
}

#[test]
fn a_workload_that_is_lost_in_both_copies() {
    cut_off(|_, case| {
        lose_workloads(case);
        status(case, &["its workloads cannot be read"]);
        assert!(support(case)["status.json"].contains("its workloads cannot be read"));
    });
}

#[test]
fn a_record_that_rotted() {
    cut_off(|_, case| {
        rot(case);
        let files = support(case);
        assert!(files["missing.txt"].contains("state.json: "), "{}", files["missing.txt"]);
        assert!(files["state-copy.json"].contains("\"generations\"") && files["status.json"].contains("unfinished"));
        assert_eq!(files["MARKING"], "UNCLASSIFIED\n", "as the copy of the record has it");
        // Without the copy nobody knows what this system holds.
        std::fs::remove_file(case.beside("support.tar.zst")).unwrap();
        std::fs::remove_file(case.state().join("state.db.copy")).unwrap();
        let files = support(case);
        assert_eq!(files["MARKING"], "TOP SECRET\n");
        for part in ["state.json: ", "state-copy.json: ", "status.json: "] {
            assert!(files["missing.txt"].contains(part), "{part}: {}", files["missing.txt"]);
        }
        assert!(files.contains_key("audit.jsonl") && files.contains_key("host.json"));
        case.installer(&["status"]).expect(6);
    });
}
