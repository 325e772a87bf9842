//! Room: what the signed sizes ask for on each file system, against what is free and can really be
//! reserved. A quota or a full pool shows only in the reservation.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::facts::{self, Mount};
use super::finding::{Check, Door, Finding, Severity};
use crate::error::{Error, Result};
use crate::host;

const ADVICE: &str = "free space, or put the state folder on a larger file system (--state-dir)";
pub(super) const DISK_STATE: Check = Check {
    id: "disk-state",
    why: "the store, backups and the journal must fit before anything is changed",
    advice: ADVICE,
    door: Door::Never,
};
pub(super) const DISK_ENGINE: Check = Check {
    id: "disk-engine",
    why: "unpacked images and the platform's data must fit; a full disk stops the platform that runs",
    advice: "free space on the engine's file system (podman image prune), or give it a larger one",
    door: Door::Named,
};
pub(super) const DISK_PACKAGES: Check = Check {
    id: "disk-packages",
    why: "the engine's packages must fit; a host's own tools refuse everything once some are only half there",
    advice: "make room on that file system (apt-get clean), or install podman from the host's own media first",
    door: Door::Never,
};
pub(super) const DISK_AUDIT: Check = Check {
    id: "disk-audit",
    why: "no act begins without its record",
    advice: "make room on the audit log's file system",
    door: Door::Never,
};
pub(super) const INODES: Check = Check {
    id: "inodes",
    why: "images are many small files; a file system can be full with space left",
    advice: ADVICE,
    door: Door::Named,
};

/// Kept free on every file system that is written to: logs, journals, WAL files.
const HEADROOM: u64 = 64 << 20;
const MIN_INODES: u64 = 10_000;
/// What the audit log needs for thousands of records.
pub(super) const AUDIT_BYTES: u64 = 1 << 20;

/// Bytes that are needed below a folder, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// What a file system has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: u64,
    /// Where the file system sets a limit.
    pub(super) inodes: Option<u64>,
    pub(super) reservation: Reservation,
}

/// How trying to reserve the space went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reservation {
    /// It worked; it was given back.
    Granted,
    /// The file system said no.
    Refused(String),
    /// The file system cannot reserve, or reserving would cost memory.
    NotPossible,
}

/// A finding for each file system that something is needed on. `same` are the needs on it.
pub(super) fn findings(needs: &[Need]) -> Result<Vec<Finding>> {
    let (mounts, mut by_system) = (facts::mounted(), BTreeMap::<String, Vec<&Need>>::new());
    for need in needs {
        by_system.entry(system(&mounts, &need.path)?).or_default().push(need);
    }
    let mut findings = Vec::new();
    for same in by_system.values() {
        let bytes = total(same);
        let Some(first) = same.first() else { continue };
        findings.extend(judge(same, &look(&first.path, bytes)?));
    }
    Ok(findings)
}

/// Which file system a path lies on: what lies on one has its room once. Subvolumes of one btrfs are one; of other
/// pools the kernel does not tell that their parts share the room.
fn system(mounts: &[Mount], path: &Path) -> Result<String> {
    let existing = existing(path);
    let real = std::fs::canonicalize(&existing).map_err(|e| Error::io(existing.display().to_string(), e))?;
    match facts::holding(mounts, &real) {
        Some(mount) => Ok(mount.device.clone()),
        None => Ok(host::file_system(&real)?.to_string()),
    }
}

/// Room to breathe; a file system of the audit log's own needs none: it refuses changes when it is full.
fn headroom(same: &[&Need]) -> u64 {
    if same.iter().all(|need| need.what == "audit") { 0 } else { HEADROOM }
}

/// All needs of one file system.
fn total(same: &[&Need]) -> u64 {
    same.iter().fold(headroom(same), |sum, need| sum.saturating_add(need.bytes))
}

/// The check that speaks for a file system: the strictest of those that need it.
fn check_of(same: &[&Need]) -> Check {
    let has = |what: &[&str]| same.iter().any(|need| what.contains(&need.what));
    if has(&["store", "backups", "copies"]) {
        DISK_STATE
    } else if has(&["packages"]) {
        DISK_PACKAGES
    } else if has(&["audit"]) && same.len() == 1 {
        DISK_AUDIT
    } else {
        DISK_ENGINE
    }
}

fn judge(same: &[&Need], room: &Room) -> Vec<Finding> {
    let (check, needed) = (check_of(same), total(same));
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let mut parts: Vec<String> = same.iter().map(|need| format!("{} {}", need.what, mib(need.bytes))).collect();
    parts.push(format!("headroom {}", headroom(same) >> 20));
    let place = same.first().map(|need| need.path.display().to_string()).unwrap_or_default();
    let (fit, said) = match &room.reservation {
        _ if room.free < needed => (false, String::new()),
        Reservation::Granted => (true, ", all of it reserved and given back".into()),
        Reservation::Refused(why) => (false, format!(", but reserving it failed: {why}")),
        Reservation::NotPossible => (true, ", which this file system cannot reserve".into()),
    };
    let found = format!("{} MiB free at {place}{said}", room.free >> 20);
    let mut findings = vec![check.must(fit, found, format!("{} MiB ({})", mib(needed), parts.join(", ")))];
    if let Some(inodes) = room.inodes.filter(|inodes| *inodes < MIN_INODES && check.id != DISK_AUDIT.id) {
        let found = format!("{inodes} inodes free at {place}");
        findings.push(INODES.finding(Severity::Fail, found, MIN_INODES.to_string()));
    }
    findings
}

/// Asks the file system, and tries. The file has no name, so that nothing is left whatever happens.
fn look(path: &Path, bytes: u64) -> Result<Room> {
    let (free, inodes) = host::free_space(path)?;
    let reservation = if bytes <= free { reserve(&existing(path), bytes)? } else { Reservation::NotPossible };
    Ok(Room { free, inodes, reservation })
}

/// The folder itself, or its nearest parent that exists.
pub(super) fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn reserve(folder: &Path, bytes: u64) -> Result<Reservation> {
    let stat = nix::sys::statfs::statfs(folder).map_err(|e| Error::io(folder.display().to_string(), e.into()))?;
    // Reserving in memory takes the memory.
    if stat.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC {
        return Ok(Reservation::NotPossible);
    }
    let file: File = match tempfile::tempfile_in(folder) {
        Ok(file) => file,
        Err(error) => return Ok(Reservation::Refused(error.to_string())),
    };
    Ok(match fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(bytes).unwrap_or(i64::MAX)) {
        Ok(()) => Reservation::Granted,
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Reservation::NotPossible,
        Err(errno) => Reservation::Refused(errno.desc().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Fail, Ok as Fit};
    use super::*;

    fn need(what: &'static str, mib: u64) -> Need {
        Need { what, path: "/x".into(), bytes: mib << 20 }
    }

    fn room(mib: u64, reservation: Reservation) -> Room {
        Room { free: mib << 20, inodes: None, reservation }
    }

    #[test]
    fn free_and_reservable() {
        let (store, images) = (need("store", 100), need("images", 300));
        for (same, room, id, severity, word) in [
            (vec![&store, &images], room(464, Reservation::Granted), "disk-state", Fit, "reserved and given back"),
            (vec![&store, &images], room(463, Reservation::Granted), "disk-state", Fail, "463 MiB free"),
            (vec![&store], room(9999, Reservation::Refused("quota".into())), "disk-state", Fail, "failed: quota"),
            (vec![&images], room(364, Reservation::NotPossible), "disk-engine", Fit, "cannot reserve"),
            (vec![&images], room(1, Reservation::NotPossible), "disk-engine", Fail, "1 MiB free"),
        ] {
            let found = judge(&same, &room).remove(0);
            assert_eq!((found.check.id, found.severity), (id, severity));
            assert!(found.found.contains(word), "{found:?}");
        }
        let found = judge(&[&store, &images], &room(464, Reservation::Granted)).remove(0);
        assert_eq!(found.needed, "464 MiB (store 100, images 300, headroom 64)");
    }

    #[test]
    fn the_audit_log_alone_on_its_file_system() {
        let audit = need("audit", 1);
        assert_eq!(judge(&[&audit], &room(1, Reservation::Granted))[0].severity, Severity::Ok);
        let full = &judge(&[&audit], &room(0, Reservation::Granted))[0];
        assert_eq!((full.check.id, full.severity), ("disk-audit", Severity::Fail));
        assert_eq!(judge(&[&audit, &need("images", 1)], &room(1, Reservation::Granted))[0].check.id, "disk-engine");
    }

    #[test]
    fn subvolumes_of_one_pool_have_their_room_once() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let on = |path: &Path, device: &str| Mount {
            device: device.into(),
            point: path.canonicalize().unwrap(),
            kind: "btrfs".into(),
            options: std::collections::BTreeSet::new(),
        };
        let of = |mounts: &[Mount], path: &Path| system(mounts, path).unwrap();
        let pool = [on(a.path(), "0:40"), on(b.path(), "0:40")];
        assert_eq!(of(&pool, &a.path().join("not/there")), of(&pool, b.path()));
        let two = [on(a.path(), "0:40"), on(b.path(), "0:41")];
        assert_ne!(of(&two, a.path()), of(&two, b.path()));
        assert_eq!(of(&[], a.path()), of(&[], b.path()), "by the number of the device, where no mounts are told");
    }

    #[test]
    fn few_inodes() {
        for (inodes, count) in [(None, 1), (Some(MIN_INODES), 1), (Some(MIN_INODES - 1), 2)] {
            let room = Room { inodes, ..room(9999, Reservation::Granted) };
            assert_eq!(judge(&[&need("store", 1)], &room).len(), count, "{inodes:?}");
        }
    }

    #[test]
    fn trying_leaves_nothing_and_sees_the_end() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        assert_eq!(reserve(folder.path(), 1 << 20).unwrap(), Reservation::Granted);
        assert!(matches!(reserve(folder.path(), 1 << 50).unwrap(), Reservation::Refused(_)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(reserve(Path::new("/dev/shm"), 1 << 20).unwrap(), Reservation::NotPossible);
        let (state, audit) = (folder.path().join("not/there"), folder.path().join("audit"));
        let needs = [Need { path: state, ..need("store", 1) }, Need { path: audit, ..need("audit", 1) }];
        let found = findings(&needs).unwrap();
        assert_eq!((found.len(), found[0].check.id, found[0].severity), (1, "disk-state", Fit), "one file system");
    }
}
