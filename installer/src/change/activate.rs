//! From the first moment of downtime to the commit, and what is cleared afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use bundle_format::manifest::Manifest;

use super::{Change, KEEP, Walk};
use crate::error::{ErrorKind, Result};
use crate::release::{Release, WorkloadFile};
use crate::signals::Stop;
use crate::store::Store;
use crate::{atomic, health};

/// Starting the former release again, as part of going back.
const RETURN: Duration = Duration::from_secs(300);

impl Change<'_> {
    fn former(&self, walk: &Walk) -> Result<Option<(Release, Vec<WorkloadFile>, String)>> {
        let Some(former) = walk.run.former else { return Ok(None) };
        let manifest = self.state.generation(former)?.parse()?;
        let (release, files) = self.release(&manifest)?;
        Ok(Some((release, files, manifest.network.name)))
    }

    pub(super) fn stop_former(&mut self, walk: &Walk) -> Result<()> {
        // All that was staged, before anything that runs is touched.
        self.make_last(walk)?;
        let Some((_, files, _)) = self.former(walk)? else { return Ok(()) };
        let podman = self.engine()?;
        let supervisor = self.supervisor(&podman);
        supervisor.stop_all(&podman, &walk.run.product, &files.iter().rev().collect::<Vec<_>>())
    }

    pub(super) fn start_former(&mut self, walk: &Walk) -> Result<()> {
        let Some((release, files, network)) = self.former(walk)? else { return Ok(()) };
        let podman = self.engine()?;
        let supervisor = self.supervisor(&podman);
        if health::problems(&podman, &release).is_ok_and(|problems| problems.is_empty()) {
            return Ok(());
        }
        files.iter().try_for_each(|workload| supervisor.start(&podman, &walk.run.product, &network, workload))?;
        // What stops a change does not stop its way back.
        health::wait_healthy(&podman, &release, self.paths, RETURN, &Stop::default())
    }

    pub(super) fn start(&mut self, walk: &Walk, name: &str) -> Result<()> {
        let workload = self.workload(walk, name)?;
        let podman = self.engine()?;
        let network = &walk.manifest.network.name;
        self.supervisor(&podman).start(&podman, &walk.run.product, network, &workload)
    }

    pub(super) fn stop_one(&mut self, walk: &Walk, name: &str) -> Result<()> {
        let workload = self.workload(walk, name)?;
        let podman = self.engine()?;
        self.supervisor(&podman).stop(&podman, &walk.run.product, &workload)
    }

    fn workload(&self, walk: &Walk, name: &str) -> Result<WorkloadFile> {
        let (_, files) = self.release(&walk.manifest)?;
        let missing = || ErrorKind::Workload { workload: name.to_owned(), why: "it is not in the manifest".into() };
        Ok(files.into_iter().find(|file| file.name == name).ok_or_else(missing)?)
    }

    /// What is left behind in the container by one that is ended goes with its pod, on the way back.
    pub(super) fn migrate(&mut self, walk: &Walk, name: &str) -> Result<()> {
        let podman = self.engine()?;
        let (release, _) = self.release(&walk.manifest)?;
        let migration = walk.manifest.lifecycle.migrations.iter().find(|migration| migration.name == name);
        let Some(migration) = migration else { return Ok(()) };
        health::wait_healthy_one(&podman, &release, self.paths, &migration.container, self.patience(walk), &self.stop)?;
        podman.exec(&migration.container, &migration.up).deadline(self.patience(walk)).until(&self.stop).run().map(drop)
    }

    pub(super) fn patience(&self, walk: &Walk) -> Duration {
        self.deadline.unwrap_or(Duration::from_secs(walk.manifest.lifecycle.deadline_seconds))
    }

    pub(super) fn pass_health(&mut self, walk: &Walk) -> Result<()> {
        let podman = self.engine()?;
        let (release, _) = self.release(&walk.manifest)?;
        let deadline = self.patience(walk);
        let report = &mut *self.report;
        let gate = health::Gate { podman: &podman, release: &release, paths: self.paths, deadline, stop: &self.stop };
        gate.pass(&walk.manifest.lifecycle, &mut |line| report.note(line))
    }

    /// Removes what neither the active generation nor one that is kept needs.
    pub(crate) fn clear(&mut self, product: &str) -> Result<()> {
        let podman = self.engine()?;
        let keep = match self.state.setting("keep-generations")? {
            Some(text) => text.parse().unwrap_or(KEEP),
            None => KEEP,
        };
        let kept = self.state.kept_generations(product)?;
        let former = kept.iter().filter(|generation| generation.state != "active");
        let drop: Vec<i64> = former.skip(keep).map(|generation| generation.id).collect();
        let stays: BTreeSet<i64> =
            kept.iter().map(|generation| generation.id).filter(|id| !drop.contains(id)).collect();
        let needed: BTreeSet<String> = self
            .state
            .all_volumes(product)?
            .into_iter()
            .filter(|(generation, _)| stays.contains(generation))
            .map(|(_, volume)| volume)
            .collect();
        for (generation, volume) in self.state.all_volumes(product)? {
            if !stays.contains(&generation) && !needed.contains(&volume) {
                podman.remove_volume(&volume)?;
            }
        }
        for generation in self.state.generations_with_volumes(product)? {
            if !stays.contains(&generation.id) {
                self.state.forget_generation(generation.id)?;
            }
        }
        for id in drop {
            self.state.forget_generation(id)?;
        }
        self.clear_folders(product, &stays)?;
        if let Some(active) = self.state.active_generation(product)? {
            let wanted: Vec<String> = active.parse()?.workloads.into_iter().map(|workload| workload.name).collect();
            self.supervisor(&podman).prune(product, &wanted)?;
        }
        let used = self.state.kept_manifests()?;
        for image in self.state.manifests_of(product)?.iter().flat_map(|manifest| &manifest.images) {
            if !used.iter().flat_map(|manifest| &manifest.images).any(|other| other.reference() == image.reference()) {
                podman.remove_image(&image.reference())?;
            }
        }
        self.clear_store()
    }

    fn clear_folders(&self, product: &str, stays: &BTreeSet<i64>) -> Result<()> {
        let folder = atomic::parent(&self.paths.current(product)).to_owned();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().parse::<i64>();
            if id.is_ok_and(|id| !stays.contains(&id)) {
                atomic::remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes blobs that no kept manifest names.
    pub(super) fn clear_store(&mut self) -> Result<()> {
        let kept = self.state.kept_manifests()?;
        self.clear_blobs(&kept)
    }

    pub(super) fn clear_blobs(&mut self, kept: &[Manifest]) -> Result<()> {
        let store = Store::open(&self.paths.store())?;
        let used: BTreeSet<_> = kept.iter().flat_map(|manifest| manifest.blob_sizes().into_keys()).collect();
        store.write_index(&kept.iter().collect::<Vec<_>>())?;
        store.list()?.difference(&used).try_for_each(|digest| store.remove(digest))?;
        store.sync()
    }
}
