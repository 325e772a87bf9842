//! `exec`: the few commands that a container of the simulated engine knows. `pg_dump` and
//! `pg_restore` stand for a database's tools: they carry the volume as a tar, as dump and restore do.

use std::path::Path;

use super::held::Held;
use super::{Answer, Refusal, fail, play};

pub(super) fn exec(held: &Held, words: &[&str], input: impl FnOnce() -> Vec<u8>) -> Answer<Vec<u8>> {
    let words = match words {
        ["-i" | "--interactive", rest @ ..] => rest,
        other => other,
    };
    let [container, command, args @ ..] = words else { return fail("exec: no command") };
    let Some(pod) = held.pod_of(container) else {
        return fail(format!("no container with name or ID \"{container}\" found: no such container"));
    };
    let running = pod.containers.iter().any(|own| own.name == *container && own.running);
    if !running || pod.paused {
        return fail(format!("can only create exec sessions on running containers: {container}"));
    }
    let volume = || match pod.claims.first() {
        Some(claim) => Ok(claim.as_str()),
        None => Err(Refusal::new(1, format!("{container} has no volume"))),
    };
    match (*command, args) {
        ("true", []) => Ok(Vec::new()),
        ("false", []) => Err(Refusal::new(1, "")),
        ("lockgate-test-write", [text]) => {
            play::append(held, volume()?, text);
            Ok(Vec::new())
        }
        ("lockgate-test-journal", []) => Ok(std::fs::read(held.volume(volume()?).join("journal")).unwrap_or_default()),
        ("lockgate-test-dump", []) | ("pg_dump", [..]) => {
            let (mut bytes, mut knobs) = (dump(&held.volume(volume()?)), held.knobs());
            if knobs.lossy_dumps > 0 {
                bytes.truncate(bytes.len() - 700);
                knobs.lossy_dumps -= 1;
                knobs.set(held.folder());
            }
            Ok(bytes)
        }
        ("pg_restore", ["--file", "/dev/null"]) => names(&input()).map(|_| Vec::new()),
        ("lockgate-test-restore", []) | ("pg_restore", [..]) => {
            let bytes = input();
            names(&bytes)?;
            restore(&held.volume(volume()?), &bytes);
            Ok(Vec::new())
        }
        _ => Err(Refusal::new(127, format!("executable file `{command}` not found in $PATH"))),
    }
}

fn dump(folder: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", folder).unwrap();
    tar.into_inner().unwrap()
}

/// Entries of a dump; what is no whole dump is refused before anything is replaced.
fn names(bytes: &[u8]) -> Answer<usize> {
    let refuse = |why: String| Refusal::new(1, format!("pg_restore: error: {why}"));
    if !bytes.ends_with(&crate::ustar::END) {
        return Err(refuse("unexpected end of file".into()));
    }
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().map_err(|e| refuse(e.to_string()))?;
    entries.map(|entry| entry.map_err(|e| refuse(e.to_string()))).try_fold(0, |count, entry| entry.map(|_| count + 1))
}

/// In one transaction, as far as anybody can see.
fn restore(folder: &Path, bytes: &[u8]) {
    let next = folder.with_file_name("next");
    std::fs::create_dir(&next).unwrap();
    tar::Archive::new(bytes).unpack(&next).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::rename(&next, folder).unwrap();
}
