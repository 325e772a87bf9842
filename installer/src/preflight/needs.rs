//! What a change writes, in bytes, by what it is for: the plan shows these numbers, and the look at the
//! file systems asks for the same ones.

use std::collections::BTreeMap;
use std::path::Path;

use bundle_format::lifecycle::{self, Lifecycle};
use bundle_format::manifest::Manifest;
use serde_json::{Value, json};

use super::space::{self, Need};
use crate::backup::Backup;
use crate::change::step::Step;
use crate::engine::Podman;
use crate::error::Result;
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::state::{Generation, State};
use crate::store::Store;
use crate::tree;

/// Compressed layers, and dumps of databases, unpack to about this much (Debian layers: 2.5 to 3).
const UNPACK: u64 = 3;
/// Debian packages unpack to less than this (the engine's sets of Debian 12 and 13: 3.0 and 3.5).
const UNPACK_PACKAGES: u64 = 4;
/// Where packages go; a file system of its own on some hosts.
const PACKAGES: &str = "/usr";

/// Bytes that a change writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Blobs that the store lacks.
    pub store: u64,
    /// Blobs of the release that it holds already; they need no room.
    pub held: u64,
    /// Images that the engine lacks, unpacked.
    pub images: u64,
    /// The largest of these images as it is carried: the engine keeps its layers aside while it unpacks them.
    pub copies: u64,
    /// The backup before the switch.
    pub backups: u64,
    /// What goes into volumes of a new generation.
    pub data: u64,
    /// What the platform itself writes by then, as its release says, or a database while it loads a dump.
    pub platform: u64,
    /// The engine's packages, unpacked, where there is no engine.
    pub packages: u64,
}

impl Needs {
    /// Of `manifest` from a bundle, over the release that runs.
    pub fn of_install(
        manifest: &Manifest,
        active: Option<&Generation>,
        state: &State,
        paths: &Paths,
        host: &HostFacts,
        podman: Option<&Podman>,
    ) -> Result<Self> {
        let store = Store::peek(&paths.store());
        let sizes = manifest.blob_sizes();
        let mut needs = Self { platform: manifest.requires.disk_mib << 20, ..Self::default() };
        for (digest, size) in &sizes {
            let sum = if store.holds(digest, *size) { &mut needs.held } else { &mut needs.store };
            *sum = sum.saturating_add(*size);
        }
        for image in &manifest.images {
            if !podman.is_some_and(|podman| podman.image_exists(image).unwrap_or(false)) {
                let packed: u64 = image.blobs.iter().filter_map(|digest| sizes.get(digest)).sum();
                needs.images = needs.images.saturating_add(packed.saturating_mul(UNPACK));
                needs.copies = needs.copies.max(packed);
            }
        }
        if podman.is_none() {
            let sets = manifest.runtime.iter().filter(|set| set.os == host.os);
            let packed = sets.flat_map(|set| &set.packages).filter_map(|package| sizes.get(&package.digest));
            needs.packages = sum(packed).saturating_mul(UNPACK_PACKAGES);
        }
        if let (Some(active), Some(podman)) = (active, podman) {
            let volumes = volume_bytes(state, podman, active.id)?;
            needs.data = sum(volumes.values());
            needs.backups = backup_bytes(&volumes, &active.parse()?.lifecycle);
        }
        Ok(needs)
    }

    /// Of a backup of a generation.
    pub fn of_backup(state: &State, podman: &Podman, generation: i64, manifest: &Manifest) -> Result<Self> {
        let volumes = volume_bytes(state, podman, generation)?;
        Ok(Self { backups: backup_bytes(&volumes, &manifest.lifecycle), ..Self::default() })
    }

    /// Of a new generation with a copy of this one's data.
    pub fn of_copy(state: &State, podman: &Podman, generation: i64) -> Result<Self> {
        Ok(Self { data: sum(volume_bytes(state, podman, generation)?.values()), ..Self::default() })
    }

    /// Of a new generation with the data of a backup: its archives unpacked, copies of the other volumes, and
    /// what its dumps become in those.
    pub fn of_restore(state: &State, podman: &Podman, generation: i64, backup: &Backup) -> Result<Self> {
        let mut needs = Self::default();
        let mut volumes = volume_bytes(state, podman, generation)?;
        for entry in &backup.list().entries {
            if backup.archive_of(&entry.claim).is_some() {
                volumes.insert(entry.claim.clone(), backup.unpacked_size(&entry.claim)?);
            } else {
                needs.platform = needs.platform.saturating_add(entry.size.saturating_mul(UNPACK));
            }
        }
        needs.data = sum(volumes.values());
        Ok(needs)
    }

    /// What one step writes.
    pub const fn of_step(&self, step: &Step) -> u64 {
        match step {
            Step::Store => self.store,
            Step::Engine => self.packages,
            Step::Images => self.images.saturating_add(self.copies),
            Step::Backup => self.backups,
            Step::Volumes => self.data,
            _ => 0,
        }
    }

    /// All that is written.
    pub fn total(&self) -> u64 {
        sum(&[self.store, self.images, self.copies, self.backups, self.data, self.platform, self.packages])
    }

    /// For a person.
    pub fn line(&self) -> String {
        let Self { store, held, images, copies, backups, data, platform, packages } = self;
        format!(
            "{} bytes: {store} to store ({held} are held already), {images} for images, {copies} while they are unpacked, {backups} for the backup, {data} for volumes, {platform} for the platform itself, {packages} for the engine's packages",
            self.total()
        )
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        json!({
            "store": self.store, "held": self.held, "images": self.images, "copies": self.copies, "backups": self.backups,
            "data": self.data, "platform": self.platform, "packages": self.packages, "total": self.total(),
        })
    }

    /// What is needed below which folder.
    pub(super) fn list(&self, paths: &Paths, product: &str, graph: &Path) -> Vec<Need> {
        let need = |what, path: &Path, bytes| Need { what, path: path.to_owned(), bytes };
        let packages = (self.packages > 0).then(|| need("packages", Path::new(PACKAGES), self.packages));
        let needs = [
            need("store", &paths.store(), self.store),
            need("backups", &paths.backups(product), self.backups),
            need("copies", &paths.copies(), self.copies),
            need("images", graph, self.images),
            need("data", graph, self.data.saturating_add(self.platform)),
            need("audit", &paths.audit(), space::AUDIT_BYTES),
        ];
        needs.into_iter().chain(packages).collect()
    }
}

/// Bytes in the volumes of a generation, by claim. A volume that is gone has none; one whose place the engine does
/// not tell is an error, for nobody knows what it holds.
fn volume_bytes(state: &State, podman: &Podman, generation: i64) -> Result<BTreeMap<String, u64>> {
    let mut bytes = BTreeMap::new();
    for (claim, volume) in state.volumes(generation)? {
        if podman.volume_exists(&volume)? {
            bytes.insert(claim, tree::size(&podman.volume_path(&volume)?).0);
        }
    }
    Ok(bytes)
}

/// A backup's files, none larger than what it is of; while one is packed, the copy that it is packed from
/// lies beside it.
fn backup_bytes(volumes: &BTreeMap<String, u64>, lifecycle: &Lifecycle) -> u64 {
    let of = |data: &lifecycle::Data| volumes.get(&data.volume).copied().unwrap_or(0);
    let files: Vec<u64> = lifecycle.data.iter().map(of).collect();
    let copied = lifecycle.data.iter().filter(|data| data.backup == lifecycle::Backup::Copy);
    sum(&files).saturating_add(copied.map(of).max().unwrap_or(0))
}

fn sum<'a>(bytes: impl IntoIterator<Item = &'a u64>) -> u64 {
    bytes.into_iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lies_beside_its_archive_and_a_dump_is_alone() {
        let copy = |volume: &str| lifecycle::Data { volume: volume.into(), backup: lifecycle::Backup::Copy, keep: 1 };
        let dump = |volume: &str| lifecycle::Data {
            backup: lifecycle::Backup::Postgres { container: "c".into(), database: "d".into(), host: "h".into() },
            ..copy(volume)
        };
        let volumes: BTreeMap<String, u64> =
            [("a", 100), ("b", 30), ("c", 7)].into_iter().map(|(name, size)| (name.to_owned(), size)).collect();
        for (data, bytes) in [
            (vec![], 0),
            (vec![copy("a")], 200),
            (vec![dump("a")], 100),
            (vec![copy("a"), copy("b")], 230),
            (vec![dump("a"), copy("b")], 160),
            (vec![copy("gone")], 0),
        ] {
            let lifecycle = Lifecycle { data, ..Lifecycle::default() };
            assert_eq!(backup_bytes(&volumes, &lifecycle), bytes, "{:?}", lifecycle.data);
        }
    }

    #[test]
    fn every_byte_is_asked_of_some_file_system_and_shown() {
        let needs = Needs {
            store: 1,
            held: 1000,
            images: 20,
            copies: 600_000,
            backups: 300,
            data: 4000,
            platform: 50_000,
            packages: 7_000_000,
        };
        let paths = Paths::new("/s");
        let list = needs.list(&paths, "p", Path::new("/g"));
        let asked: u64 = list.iter().filter(|need| need.what != "audit").map(|need| need.bytes).sum();
        assert_eq!((asked, needs.total()), (7_654_321, 7_654_321));
        let below = |folder: &str| list.iter().filter(|n| n.path.starts_with(folder)).map(|n| n.bytes).sum::<u64>();
        assert_eq!((below("/g"), below("/s"), below("/usr")), (54_020, 600_301 + space::AUDIT_BYTES, 7_000_000));
        assert_eq!(needs.to_json()["total"], 7_654_321);
        assert!(needs.line().starts_with("7654321 bytes: 1 to store (1000 are held already)"), "{}", needs.line());
        // With an engine there, its file system is not asked about.
        let needs = Needs { packages: 0, ..needs };
        assert!(needs.list(&paths, "p", Path::new("/g")).iter().all(|need| need.what != "packages"));
    }
}
