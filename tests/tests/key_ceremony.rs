//! `docs/isso/key-ceremony.md` says that a test runs every command of it. This is that test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::Command;

use bundle_format::root::RootEnvelope;
use system_tests::card::{Maker, PIN, make_token, settings};
use system_tests::site::{Said, program};

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/isso/key-ceremony.md"));
const MACHINES: [&str; 6] = ["low", "alice", "bob", "carol", "dave", "high"];
const RELEASE: &str = "format: lockgate-release/1\nproduct: test-ceremony\nrelease: \"1.0\"\nsequence: 1\n\
    marking: UNCLASSIFIED\nplatform: linux/amd64\ntitle: TEST release\nrequires: {memory_mib: 16, disk_mib: 16}\n\
    images: []\nnetwork: {name: test, internal: true}\nsecrets: []\nworkloads: []\n\
    files: [{path: docs/readme, source: \"file:readme\"}]\nruntime: []\n";

/// A vendor's library on the page; here that of the software token that has ML-DSA.
const VENDOR: &str = "/usr/lib/vendor/libpkcs11.so";

/// Machine and command of each line in the fenced blocks.
fn commands() -> Vec<(&'static str, &'static str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in PAGE.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            let (machine, command) = line.split_once("$ ").unwrap_or_else(|| panic!("no prompt: {line}"));
            assert!(MACHINES.contains(&machine), "no such machine: {line}");
            found.push((machine, command));
        }
    }
    assert!(!inside, "a fenced block is open");
    found
}

/// Programs that type what a person would: passphrase and PIN wherever a key is made or used.
fn shims(at: &Path) {
    let builder = format!(
        "#!/bin/bash\nmore=()\ncase \" $* \" in *\" keygen \"*|*\" --key \"*)\n  exec 3<'{0}/pin'\n  \
         more=(--passphrase-file '{0}/pass' --pin-fd 3);;\nesac\nexec '{1}' \"$@\" \"${{more[@]}}\"\n",
        at.display(),
        program("bundle-builder").display()
    );
    let installer = format!(
        "#!/bin/bash\nexec '{}' --state-dir '{}/high/state' \"$@\"\n",
        program("installer").display(),
        at.display()
    );
    std::fs::create_dir(at.join("bin")).unwrap();
    for (name, text) in [("bundle-builder", builder), ("installer", installer)] {
        let path = at.join("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
}

fn shell(at: &Path, machine: &str, command: &str) -> Said {
    let path = format!("{}:{}", at.join("bin").display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", command])
        .current_dir(at.join(machine))
        .env("PATH", path)
        .env("SOFTHSM2_CONF", at.join("softhsm2.conf"))
        .env("KRYOPTIC_CONF", at.join("kryoptic.conf"))
        .output()
        .unwrap();
    Said::of(&output)
}

/// The digits of the newest sheet: what would be on paper.
fn paper(stick: &Path) -> String {
    let mut sheets: Vec<_> = std::fs::read_dir(stick)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.display().to_string().ends_with(".sheet.txt"))
        .collect();
    assert_eq!(sheets.len(), 1, "one document at a time is on the medium");
    let text = std::fs::read_to_string(sheets.pop().unwrap()).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("  ")).map(str::trim);
    rows.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_command_of_the_page_works() {
    let folder = tempfile::tempdir().unwrap();
    let (at, stick) = (folder.path(), folder.path().join("stick"));
    for name in MACHINES.iter().chain(&["stick"]) {
        std::fs::create_dir(at.join(name)).unwrap();
    }
    shims(at);
    std::fs::write(at.join("pass"), "TEST passphrase, not a secret\n").unwrap();
    std::fs::write(at.join("pin"), PIN).unwrap();
    std::fs::write(at.join("low/release.yaml"), RELEASE).unwrap();
    std::fs::write(at.join("low/readme"), "TEST\n").unwrap();
    settings(at, &[]);
    for (machine, maker, slot, label) in
        [("carol", Maker::SoftHsm, 0, "carol-card"), ("dave", Maker::Kryoptic, 1, "dave-card")]
    {
        for command in make_token(maker, slot, label) {
            shell(at, machine, &command.join(" ")).expect(0);
        }
    }

    let commands = commands();
    let mut refused = 0;
    for (machine, line) in &commands {
        let mut command = line.replace("/media/stick", &stick.display().to_string());
        command = command.replace(VENDOR, Maker::Kryoptic.module());
        if command.contains("DIGEST FROM THE PAPER") {
            command = command.replace("DIGEST FROM THE PAPER", &paper(&stick));
        }
        if command.contains("FINGERPRINT FROM THE PAPER") {
            let envelope = RootEnvelope::parse(&std::fs::read(at.join("low/root-1.json")).unwrap()).unwrap();
            let fingerprint = envelope.claimed().fingerprint().to_string();
            command = command.replace("FINGERPRINT FROM THE PAPER", &bundle_format::text::groups_of_four(&fingerprint));
        }
        let said = shell(at, machine, &command);
        assert_eq!(said.code, 0, "{machine}$ {line}\n{}\n{}", said.out, said.err);
        if line.starts_with("! ") {
            refused += 1;
            assert!(said.err.contains("is not in trust root version 2"), "{}", said.err);
        }
        // The signing machines' documents are the office's to the byte.
        if line.contains("sign-bytes") {
            assert!(said.out.contains("carry back:"), "{}", said.out);
        }
    }
    assert_eq!(refused, 1);
    assert!(commands.len() > 60, "the page lost its commands: {}", commands.len());
    // No private half left its machine.
    for entry in std::fs::read_dir(&stick).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(![".key", ".pem", ".token.json"].iter().any(|secret| name.ends_with(secret)), "{name}");
    }
    assert!(at.join("carol/carol.token.json").exists() && !at.join("carol/carol.minisign.key").exists());
    assert!(at.join("carol/carol.ml-dsa-87.pem").exists(), "a split signer's other half");
    assert!(at.join("dave/dave.token.json").exists());
    for sealed in ["dave.minisign.key", "dave.ml-dsa-87.pem"] {
        assert!(!at.join("dave").join(sealed).exists(), "a token signer has nothing sealed");
    }
}
