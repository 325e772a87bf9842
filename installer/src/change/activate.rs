//! From the first moment of downtime to the commit, and what is cleared afterwards.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bundle_format::manifest::Manifest;

use super::{Change, Walk};
use crate::engine::Podman;
use crate::error::{ErrorKind, Result};
use crate::host::Init;
use crate::release::{Release, WorkloadFile};
use crate::signals::Stop;
use crate::store::Store;
use crate::{atomic, health, network};

/// Starting the former release again, as part of going back.
const RETURN: Duration = Duration::from_secs(300);

impl Change<'_> {
    fn former(&self, walk: &Walk) -> Result<Option<(Release, Vec<WorkloadFile>, Manifest)>> {
        let Some(former) = walk.run.former else { return Ok(None) };
        let manifest = self.state.generation(former)?.parse()?;
        let (release, files) = self.release(&manifest)?;
        Ok(Some((release, files, manifest)))
    }

    /// Without systemd nobody loads a network's rule when the machine starts, and a run that was cut off may go on
    /// after that: no workload starts before the rule is there.
    fn keep_inside(&self, podman: &Podman, manifest: &Manifest) -> Result<()> {
        let network = network::in_force(self.state, manifest)?;
        if self.host.init == Init::Other && network.internal {
            network::set_reach(podman, self.host, self.paths, &network)?;
        }
        Ok(())
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
        let Some((release, files, manifest)) = self.former(walk)? else { return Ok(()) };
        let podman = self.engine()?;
        let supervisor = self.supervisor(&podman);
        if health::problems(&podman, &release).is_ok_and(|problems| problems.is_empty()) {
            return Ok(());
        }
        self.keep_inside(&podman, &manifest)?;
        let network = &manifest.network.name;
        files.iter().try_for_each(|workload| supervisor.start(&podman, &walk.run.product, network, workload))?;
        // What stops a change does not stop its way back.
        health::wait_healthy(&podman, &release, self.paths, RETURN, &Stop::default())
    }

    /// What releases of a product share, and so cannot be staged: the reach of their network, their units. Then
    /// the link that decides what runs. Nothing runs meanwhile.
    pub(super) fn switch(&mut self, walk: &Walk) -> Result<()> {
        let (podman, product) = (self.engine()?, &walk.run.product);
        let (_, files) = self.release(&walk.manifest)?;
        network::set_reach(&podman, self.host, self.paths, &network::in_force(self.state, &walk.manifest)?)?;
        self.supervisor(&podman).place(product, &walk.manifest.network.name, &files)?;
        atomic::symlink(&self.paths.current(product), Path::new(&walk.run.generation.to_string()))
    }

    /// Exactly what [`Self::switch`] changed; what joined the network since was stopped before. The link comes last
    /// here too: until then the guard may have taken it away.
    pub(super) fn switch_back(&mut self, walk: &Walk, link: Option<&str>) -> Result<()> {
        let (podman, product) = (self.engine()?, &walk.run.product);
        let supervisor = self.supervisor(&podman);
        let former = walk.run.former.map(|former| self.state.generation(former)?.parse()).transpose()?;
        if former.as_ref().is_none_or(|former| former.network.name != walk.manifest.network.name) {
            network::give_up_reach(&podman, self.host, self.paths, self.state, &walk.manifest)?;
        }
        let mut wanted = Vec::new();
        if let Some(former) = &former {
            let (_, files) = self.release(former)?;
            network::set_reach(&podman, self.host, self.paths, &network::in_force(self.state, former)?)?;
            supervisor.place(product, &former.network.name, &files)?;
            wanted.extend(files.into_iter().map(|file| file.name));
        }
        supervisor.prune(product, &wanted)?;
        let current = self.paths.current(product);
        link.map_or_else(|| atomic::remove_file(&current), |link| atomic::symlink(&current, Path::new(link)))
    }

    pub(super) fn start(&mut self, walk: &Walk, name: &str) -> Result<()> {
        let workload = self.workload(walk, name)?;
        let podman = self.engine()?;
        self.keep_inside(&podman, &walk.manifest)?;
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
        let keep = super::keep(self.state)?;
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
        self.clear_networks(&podman, product)?;
        let used = self.state.kept_manifests()?;
        for image in self.state.manifests_of(product)?.iter().flat_map(|manifest| &manifest.images) {
            if !used.iter().flat_map(|manifest| &manifest.images).any(|other| other.reference() == image.reference()) {
                podman.remove_image(&image.reference())?;
            }
        }
        self.clear_store()
    }

    /// Networks that former releases of the product joined and no active one does. One that is kept makes its
    /// own again when it is gone back to.
    fn clear_networks(&self, podman: &Podman, product: &str) -> Result<()> {
        let mut used = BTreeSet::new();
        for generation in self.state.active_generations()? {
            used.insert(generation.parse()?.network.name);
        }
        let mut old = self.state.manifests_of(product)?;
        old.retain(|manifest| !used.contains(&manifest.network.name));
        if old.is_empty() {
            return Ok(());
        }
        let ours = network::made(podman)?;
        old.retain(|manifest| ours.contains(&manifest.network.name));
        old.iter().try_for_each(|manifest| network::remove(podman, self.host, self.paths, &manifest.network))
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
