//! The engine and its parts, as the host has them or as the bundle brings them.

use std::path::Path;

use bundle_format::manifest::Manifest;

use super::finding::{Check, Door, Finding};
use crate::engine::Podman;

const ADVICE: &str =
    "install podman and its parts from this system's own medium, or ask for a bundle that carries them";
pub(super) const ENGINE: Check = Check {
    id: "engine",
    why: "podman runs the containers; versions before 4.3 do not play these workloads",
    advice: ADVICE,
    door: Door::Never,
};
pub(super) const PART: Check =
    Check { id: "engine-part", why: "podman starts nothing without it", advice: ADVICE, door: Door::Never };
pub(super) const DRIVER: Check = Check {
    id: "engine-storage",
    why: "without overlay every container is a full copy of its image: several times the disk",
    advice: "set driver = \"overlay\" in storage.conf before anything is stored",
    door: Door::Named,
};

/// Where programs of the engine lie on the distributions that we know.
const FOLDERS: [&str; 6] =
    ["usr/bin", "usr/sbin", "usr/libexec/podman", "usr/lib/podman", "usr/local/bin", "usr/libexec/catatonit"];
const PARTS: [&[&str]; 6] =
    [&["crun", "runc"], &["conmon"], &["netavark"], &["aardvark-dns"], &["catatonit"], &["nft"]];

/// The engine of the host, or that the bundle carries one for this system.
pub(super) fn engine(podman: Option<&Podman>, manifest: &Manifest, os: &str) -> Finding {
    let Some(podman) = podman else {
        let carried = manifest.runtime.iter().any(|set| set.os == os);
        return ENGINE.must(carried, absent(carried, os), "podman");
    };
    ENGINE.must(podman.at_least(4, 3), format!("podman {} of this host", podman.version()), "podman 4.3 or later")
}

fn absent(carried: bool, os: &str) -> String {
    format!("none; the bundle carries {} for {os}", if carried { "one" } else { "none" })
}

/// Parts that are missing below `root`; nothing if all are there.
pub(super) fn parts(root: &Path) -> Vec<Finding> {
    let there = |name: &str| FOLDERS.iter().any(|folder| root.join(folder).join(name).exists());
    let missing = PARTS.iter().filter(|names| !names.iter().any(|name| there(name)));
    missing
        .map(|names| {
            let part = names.first().copied().unwrap_or_default();
            PART.must(false, format!("no {}", names.join(" and no ")), names.join(" or ")).of(part)
        })
        .collect()
}

/// How the engine stores images.
pub(super) fn driver(name: &str) -> Finding {
    DRIVER.should(matches!(name, "overlay" | "btrfs" | "zfs"), bundle_format::text::escaped(name), "overlay")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Fail, Ok as Fit, Warn};
    use super::*;

    #[test]
    fn missing_parts_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        };
        let ids = || parts(folder.path()).iter().map(Finding::id).collect::<Vec<_>>();
        assert_eq!(ids().len(), PARTS.len());
        for path in [
            "usr/sbin/runc",
            "usr/bin/conmon",
            "usr/lib/podman/netavark",
            "usr/libexec/podman/aardvark-dns",
            "usr/sbin/nft",
        ] {
            put(path);
        }
        assert_eq!(ids(), ["engine-part:catatonit"]);
        assert_eq!(parts(folder.path())[0].severity, Fail);
        put("usr/libexec/catatonit/catatonit");
        assert!(ids().is_empty());
    }

    #[test]
    fn storage_drivers() {
        for (name, severity) in [("overlay", Fit), ("btrfs", Fit), ("vfs", Warn)] {
            assert_eq!(driver(name).severity, severity, "{name}");
        }
        assert!(absent(false, "debian-13").contains("carries none for debian-13"));
    }
}
