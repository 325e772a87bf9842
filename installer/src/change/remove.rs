//! Takes a product off the machine. Packages of the engine stay: others may use them by now. Once
//! begun it only goes forward; cut off, `resume` or the same command finishes it.

use super::{Change, Outcome, Walk};
use crate::error::{ErrorKind, Result};
use crate::plan::Plan;
use crate::state::GenerationState;
use crate::{atomic, network, secrets};

/// What becomes of volumes and secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// They stay for a later installation.
    Keep,
    /// They are removed; the data is lost.
    Remove,
}

impl Change<'_> {
    /// Stops and removes `product`. The anti-rollback floor stays.
    pub fn uninstall(&mut self, product: &str, data: Data) -> Result<Outcome> {
        if let Some(run) = self.state.open_run()? {
            let same = run.act == "uninstall" && run.product == product;
            self.report.note(&format!("an earlier {} was cut off; that is settled first", run.act));
            let outcome = self.settle(run)?;
            if same {
                return Ok(outcome);
            }
        }
        let missing = || ErrorKind::NotInstalled { product: product.to_owned() };
        let active = self.state.active_generation(product)?.ok_or_else(missing)?;
        let plan = Plan::uninstall(&active, data)?;
        let data = if data == Data::Remove { "with data" } else { "data kept" };
        self.record_begun("uninstall", &active, &plan, data)?;
        let run = self.begin("uninstall", active.id, None, product, "", &plan)?;
        let walk = self.walk_of(run, None)?;
        self.go(walk)
    }

    pub(super) fn take_off(&mut self, walk: &Walk, data: Data) -> Result<()> {
        let product = &walk.run.product;
        let (release, files) = self.release(&walk.manifest)?;
        let podman = self.engine()?;
        let supervisor = self.supervisor(&podman);
        for workload in files.iter().rev() {
            supervisor.stop(&podman, product, workload)?;
            self.report.note(&format!("stopped {}", workload.name));
        }
        supervisor.prune(product, &[])?;
        atomic::remove_file(&self.paths.current(product))?;
        network::leave(&podman, self.host, self.paths, self.state, &walk.manifest)?;
        // Volumes of former generations served only to go back to them.
        let own = self.volumes_of(walk.run.generation, &walk.manifest)?;
        for (_, volume) in self.state.all_volumes(product)? {
            if data == Data::Remove || !own.values().any(|name| *name == volume) {
                podman.remove_volume(&volume)?;
            }
        }
        if data == Data::Remove {
            own.values().chain(&release.volumes()).try_for_each(|volume| podman.remove_volume(volume))?;
            let names: Vec<String> = walk.manifest.secrets.iter().map(|secret| secret.name().to_owned()).collect();
            secrets::remove(&podman, &names, self.paths)?;
            atomic::remove_folder(&self.paths.backups(product))?;
            self.report.note("removed its volumes, secrets and backups");
        }
        let kept: Vec<i64> =
            self.state.generations_with_volumes(product)?.iter().map(|generation| generation.id).collect();
        for id in kept.into_iter().filter(|id| data == Data::Remove || *id != walk.run.generation) {
            self.state.forget_generation(id)?;
        }
        self.state.unkeep(product)?;
        self.state.set_generation_state(walk.run.generation, GenerationState::Removed, &self.now)?;
        atomic::remove_folder(atomic::parent(&self.paths.current(product)))?;
        if self.state.active_generations()?.is_empty() {
            supervisor.remove_watch()?;
        }
        Ok(())
    }

    /// Images and blobs that nothing else needs. A step of its own: what is taken off above is read from
    /// the store, so nothing may leave the store before all of that is done.
    pub(super) fn sweep(&mut self, walk: &Walk) -> Result<()> {
        let (product, podman) = (&walk.run.product, self.engine()?);
        let others = self.state.kept_manifests_but(walk.run.id)?;
        for image in self.state.manifests_of(product)?.iter().flat_map(|manifest| &manifest.images) {
            if !others.iter().flat_map(|m| &m.images).any(|other| other.reference() == image.reference()) {
                podman.remove_image(&image.reference())?;
            }
        }
        self.clear_blobs(&others)
    }
}
