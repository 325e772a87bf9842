//! Volumes of a new generation: data goes forward into copies, the former generation's own volumes
//! are never written to again. Going back is naming them again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bundle_format::manifest::Manifest;
use serde_json::{Value, json};

use super::{Change, Walk};
use crate::backup::{self, Backup};
use crate::error::Result;
use crate::release::Release;
use crate::store::Store;
use crate::tree::{self, Source};

/// Where a claim's content comes from.
enum Content {
    /// Nowhere: it begins empty, or is there already.
    Own,
    /// From the volume of the generation that runs.
    Copy(String),
    /// From a backup's archive.
    Archive(PathBuf),
}

impl Change<'_> {
    /// The engine's volume for each claim of the new generation; recorded before one is made.
    pub(super) fn note_volumes(&mut self, walk: &Walk) -> Result<Value> {
        let mut volumes = self.state.volumes(walk.run.generation)?;
        let is_new = volumes.is_empty();
        if is_new {
            volumes = self.names_of_volumes(walk)?;
        }
        // Also of recorded ones: a cut between the two records of this step leaves names without volumes.
        let podman = self.engine()?;
        let mut made = Vec::new();
        for name in volumes.values() {
            if !podman.volume_exists(name)? {
                made.push(name.clone());
            }
        }
        if is_new {
            self.state.set_volumes(walk.run.generation, &volumes)?;
        }
        Ok(json!({"made": made}))
    }

    fn names_of_volumes(&self, walk: &Walk) -> Result<BTreeMap<String, String>> {
        let (release, _) = self.release(&walk.manifest)?;
        let removed = self.state.removed_generation(&walk.run.product)?;
        let kept = removed.map(|generation| self.state.volumes(generation.id)).transpose()?.unwrap_or_default();
        let mut volumes = BTreeMap::new();
        for claim in release.volumes() {
            let name = match walk.run.former {
                Some(_) => format!("{claim}.g{}", walk.run.generation),
                // Data that an uninstallation left is taken up again.
                None => kept.get(&claim).cloned().unwrap_or_else(|| claim.clone()),
            };
            volumes.insert(claim, name);
        }
        Ok(volumes)
    }

    /// Makes the volumes and copies into them while the running release works on.
    pub(super) fn fill_volumes(&mut self, walk: &mut Walk) -> Result<()> {
        let podman = self.engine()?;
        for (claim, volume) in self.state.volumes(walk.run.generation)? {
            podman.create_volume(&volume)?;
            match self.content(walk, &claim, &volume)? {
                Content::Own => {}
                Content::Archive(path) => backup::unpack(&path, &podman.volume_path(&volume)?)?,
                Content::Copy(from) => {
                    let (from, to) = (podman.volume_path(&from)?, podman.volume_path(&volume)?);
                    let seen = walk.seen.entry(claim.clone()).or_default();
                    let copied = tree::mirror(&from, &to, Source::Live, seen, &self.stop)?;
                    self.report.note(&format!("{claim}: {} files, {} bytes copied", copied.files, copied.bytes));
                }
            }
        }
        Ok(())
    }

    /// Copies what changed since, now that nobody writes.
    pub(super) fn sync_volumes(&mut self, walk: &mut Walk) -> Result<()> {
        let podman = self.engine()?;
        for (claim, volume) in self.state.volumes(walk.run.generation)? {
            let Content::Copy(from) = self.content(walk, &claim, &volume)? else { continue };
            let (from, to) = (podman.volume_path(&from)?, podman.volume_path(&volume)?);
            let seen = walk.seen.entry(claim.clone()).or_default();
            let copied = tree::mirror(&from, &to, Source::Quiet, seen, &self.stop)?;
            self.report.note(&format!("{claim}: {} files, {} bytes had changed", copied.files, copied.bytes));
        }
        Ok(())
    }

    fn content(&self, walk: &Walk, claim: &str, volume: &str) -> Result<Content> {
        // A generation that ran before has its own data.
        let Some(former) = walk.run.former.filter(|_| walk.run.act != "rollback" || !walk.run.source.is_empty()) else {
            return Ok(Content::Own);
        };
        if walk.run.act == "restore" {
            let backup = Backup::open(&PathBuf::from(&walk.run.source))?;
            if let Some(archive) = backup.archive_of(claim) {
                return Ok(Content::Archive(archive));
            }
        }
        let manifest = self.state.generation(former)?.parse()?;
        let from = self.volumes_of(former, &manifest)?.remove(claim);
        Ok(from.filter(|from| from != volume).map_or(Content::Own, Content::Copy))
    }

    /// Volumes of a generation by claim.
    pub(crate) fn volumes_of(&self, generation: i64, manifest: &Manifest) -> Result<BTreeMap<String, String>> {
        self.state.volumes_of(generation, &Release::load(manifest, &Store::peek(&self.paths.store()))?)
    }

    /// Before an update: a backup by each volume's declared method, while the release runs.
    pub(super) fn back_up(&mut self, walk: &Walk) -> Result<()> {
        let Some(former) = walk.run.former else { return Ok(()) };
        let generation = self.state.generation(former)?;
        let manifest = generation.parse()?;
        if manifest.lifecycle.data.is_empty() {
            self.report.note("the running release declares no data to back up");
            return Ok(());
        }
        let podman = self.engine()?;
        let (release, _) = self.release(&manifest)?;
        let volumes = self.state.volumes_of(former, &release)?;
        let job = backup::Job {
            podman: &podman,
            paths: self.paths,
            generation: &generation,
            manifest: &manifest,
            release: &release,
            volumes: &volumes,
            now: &self.now,
            stop: &self.stop,
        };
        let report = &mut *self.report;
        let made = job.run(self.state, &mut |line| report.note(line))?;
        self.report.note(&format!("backup {}", made.display()));
        Ok(())
    }

    /// Reads a dump into the database that runs on the new generation's copy.
    pub(super) fn load(&mut self, walk: &Walk, claim: &str) -> Result<()> {
        let podman = self.engine()?;
        let (release, _) = self.release(&walk.manifest)?;
        let backup = Backup::open(&PathBuf::from(&walk.run.source))?;
        backup.load(claim, &walk.manifest, &podman, &self.stop, |container| {
            crate::health::wait_healthy_one(&podman, &release, self.paths, container, self.patience(walk), &self.stop)
        })
    }
}
