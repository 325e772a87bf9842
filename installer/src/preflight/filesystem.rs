//! What the file systems below us can do, tried out on short-lived files, and how they are mounted.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::facts::Facts;
use super::finding::{Check, Door, Finding, Severity};
use super::space::existing;
use crate::command::Command;
use crate::error::{Error, Result};

pub(super) const OVERLAY: Check = Check {
    id: "fs-overlay",
    why: "the engine stacks image layers by overlay; it needs file types in folders and trusted attributes",
    advice: "put the engine's storage on ext4 or xfs (made with ftype=1)",
    door: Door::Named,
};
pub(super) const DIRECT: Check = Check {
    id: "fs-direct",
    why: "copies and backups are read back from the disk; a file system without O_DIRECT, such as one in memory, has none behind it",
    advice: "put the state folder on ext4, xfs or btrfs",
    door: Door::Named,
};
pub(super) const REFLINK: Check = Check {
    id: "fs-reflink",
    why: "copies of data take their full size and time where the file system cannot share blocks",
    advice: "xfs or btrfs share blocks; nothing is to be done where there is room",
    door: Door::Named,
};
pub(super) const READ_ONLY: Check = Check {
    id: "mount-read-only",
    why: "nothing can be written there",
    advice: "mount it read-write; an ext4 that turned read-only has seen errors: check the disk",
    door: Door::Never,
};
pub(super) const FLAGS: Check = Check {
    id: "mount-flags",
    why: "noexec keeps programs from running there: a copy of the installer (state), packages' scripts (temporary files), \
          programs in volumes (engine); nosuid and nodev take setuid programs and device files from containers",
    advice: "mount it without the flag that is named, or put that folder elsewhere (--state-dir, --tmpdir)",
    door: Door::Named,
};

/// What a file system may be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ability {
    /// A folder's entries carry their type.
    FileTypes,
    /// Files take trusted attributes.
    Attributes,
    /// Files can be read past the cache.
    Direct,
    /// Files can share blocks.
    Reflink,
    /// An overlay can be mounted on it, or that could not be tried.
    Overlay,
}

/// What was found out about a folder.
pub(super) type Abilities = BTreeSet<Ability>;

/// Tries everything in a folder of our own below `path`; the folder is gone afterwards.
pub(super) fn probe(path: &Path) -> Result<Abilities> {
    let folder = existing(path);
    let io = |e| Error::io(folder.display().to_string(), e);
    let bench = tempfile::Builder::new().prefix(crate::atomic::PROBE).tempdir_in(&folder).map_err(io)?;
    let file = bench.path().join("file");
    File::create(&file).and_then(|mut file| file.write_all(&[1; 4096])).map_err(io)?;
    let tried = [
        (Ability::FileTypes, file_types(bench.path()).map_err(io)?),
        (Ability::Attributes, xattr::set(&file, "trusted.lockgate", b"1").is_ok()),
        (Ability::Direct, direct(&file)),
        (Ability::Reflink, reflink(&file, &bench.path().join("copy"))),
        (Ability::Overlay, overlay(bench.path()) != Some(false)),
    ];
    Ok(tried.into_iter().filter_map(|(ability, there)| there.then_some(ability)).collect())
}

/// Whether the folder's entries carry their type.
fn file_types(folder: &Path) -> std::io::Result<bool> {
    let entries = rustix::fs::Dir::new(File::open(folder)?)?;
    let mut told = true;
    for entry in entries {
        told &= entry?.file_type() != rustix::fs::FileType::Unknown;
    }
    Ok(told)
}

fn direct(file: &Path) -> bool {
    let opened = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_DIRECT.bits()).open(file);
    // A read into memory that is not aligned may be refused all the same; that is an answer too.
    opened.is_ok_and(|mut file| match file.read(&mut [0; 4096]) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32),
    })
}

fn reflink(from: &Path, to: &Path) -> bool {
    let (Ok(from), Ok(to)) = (File::open(from), File::create(to)) else { return false };
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Mounts an overlay in a mount namespace of its own; it goes away with the program.
fn overlay(bench: &Path) -> Option<bool> {
    for part in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(bench.join(part)).ok()?;
    }
    let at = |part: &str| bench.join(part).display().to_string();
    // Commas and colons part the options.
    if at("").contains([',', ':', '\\']) {
        return None;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let mount = ["--mount", "--propagation", "private", "mount", "-t", "overlay", "overlay", "-o", &options];
    let said = Command::new("unshare").args(mount).arg(at("merged")).deadline(Duration::from_secs(30)).output().ok()?;
    Some(said.code == 0)
}

/// What the engine's storage must be able to do.
pub(super) fn engine_storage(driver: &str, abilities: &Abilities, place: &Path) -> Finding {
    let missing: Vec<&str> = [
        (Ability::FileTypes, "file types in folders (d_type)"),
        (Ability::Attributes, "trusted attributes"),
        (Ability::Overlay, "overlay mounts"),
    ]
    .into_iter()
    .filter_map(|(ability, what)| (!abilities.contains(&ability)).then_some(what))
    .collect();
    let found = if missing.is_empty() { "all of it".to_owned() } else { format!("no {}", missing.join(", no ")) };
    let found = format!("{found} at {}", place.display());
    // Another storage driver asks for nothing of this.
    OVERLAY.must(missing.is_empty() || driver != "overlay", found, "file types, trusted attributes, overlay mounts")
}

/// What is good to have for the store and for data.
pub(super) fn state_folder(abilities: &Abilities) -> Vec<Finding> {
    let (direct, reflink) = (abilities.contains(&Ability::Direct), abilities.contains(&Ability::Reflink));
    let word = |there: bool| if there { "yes" } else { "no" };
    vec![
        DIRECT.should(direct, word(direct), "reading past the cache (O_DIRECT)"),
        REFLINK.finding(Severity::Ok, word(reflink), "nothing; shared blocks save room where they are"),
    ]
}

/// How the folder's file system is mounted; `bad` are the flags that matter there.
pub(super) fn mount(facts: &Facts, what: &str, path: &Path, bad: &[&str]) -> Vec<Finding> {
    let Some(mount) = facts.mount_of(path) else { return Vec::new() };
    let place = format!("{} ({}, {})", path.display(), mount.point.display(), mount.kind);
    let has = |flag: &str| mount.options.contains(flag);
    let mut findings = vec![
        READ_ONLY
            .must(
                !has("ro"),
                format!("{} at {place}", if has("ro") { "read-only" } else { "read-write" }),
                "read-write",
            )
            .of(what),
    ];
    let flags: Vec<&str> = bad.iter().filter(|flag| has(flag)).copied().collect();
    let found = if flags.is_empty() { "none".to_owned() } else { flags.join(", ") };
    findings.push(
        FLAGS.should(flags.is_empty(), format!("{found} at {place}"), format!("no {}", bad.join(", no "))).of(what),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{good, mount as mounted};
    use super::super::finding::Severity::{Fail, Ok as Fit, Warn};
    use super::*;

    fn all_but(missing: &[Ability]) -> Abilities {
        let all = [Ability::FileTypes, Ability::Attributes, Ability::Direct, Ability::Reflink, Ability::Overlay];
        all.into_iter().filter(|ability| !missing.contains(ability)).collect()
    }

    #[test]
    fn what_the_engine_needs() {
        for (missing, driver, severity, word) in [
            (&[][..], "overlay", Fit, "all of it"),
            (&[Ability::FileTypes], "overlay", Fail, "d_type"),
            (&[Ability::Attributes], "overlay", Fail, "trusted attributes"),
            (&[Ability::Overlay], "overlay", Fail, "no overlay mounts"),
            (&[Ability::Direct, Ability::Reflink], "overlay", Fit, "all of it"),
            (&[Ability::Overlay], "vfs", Fit, "no overlay mounts"),
        ] {
            let found = engine_storage(driver, &all_but(missing), Path::new("/g"));
            assert!(found.severity == severity && found.found.contains(word), "{found:?}");
        }
        let states = |missing: &[Ability]| {
            state_folder(&all_but(missing)).iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        assert_eq!(states(&[]), [Fit, Fit]);
        assert_eq!(states(&[Ability::Direct, Ability::Reflink]), [Warn, Fit]);
    }

    #[test]
    fn flags_of_mounts() {
        for (options, read_only, flags) in [
            ("rw,relatime", Fit, Fit),
            ("ro,relatime", Fail, Fit),
            ("rw,noexec", Fit, Warn),
            ("rw,nosuid,nodev", Fit, Warn),
        ] {
            let facts = Facts { mounts: vec![mounted("/", "ext4", "rw"), mounted("/s", "xfs", options)], ..good() };
            let found = mount(&facts, "state", Path::new("/s/store"), &["noexec", "nosuid"]);
            let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
            assert_eq!(severities, [read_only, flags], "{options}: {found:?}");
            assert_eq!(found[1].id(), "mount-flags:state");
        }
    }

    #[test]
    fn a_probe_leaves_nothing() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let found = probe(&folder.path().join("not/there/yet")).unwrap();
        assert!(found.contains(&Ability::FileTypes) && found.contains(&Ability::Direct), "{found:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // What the kernel's own memory file system can and cannot do is known.
        let memory = probe(Path::new("/dev/shm")).unwrap();
        assert!(memory.contains(&Ability::FileTypes) && !memory.contains(&Ability::Reflink), "{memory:?}");
    }
}
