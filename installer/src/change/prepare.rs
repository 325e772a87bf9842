//! What is made beside the running generation: store, engine, images, network, secrets, units.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::step::Step;
use super::{Change, Data, Walk};
use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::Registry;
use crate::store::{Store, StoreSink};
use crate::{atomic, network, runtime, secrets};

const RESOLV: &str = "/etc/resolv.conf";
/// Where the engine keeps its networks.
const NETWORKS: &str = "/etc/containers/networks";

/// A list of words in a note; a note without it means that nothing was made.
pub(super) fn words(note: &Value, key: &str) -> Vec<String> {
    let list = note.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Change<'_> {
    /// What a step is about to make: written to the journal before it makes anything.
    pub(super) fn note(&mut self, walk: &Walk, step: &Step) -> Result<Value> {
        let manifest = &walk.manifest;
        Ok(match step {
            Step::Engine if Podman::detect(self.paths, self.host)?.is_none() => {
                json!({"packages_before": runtime::packages()?})
            }
            Step::Images => {
                let podman = self.engine()?;
                let mut missing = Vec::new();
                for image in &manifest.images {
                    if !podman.image_exists(image)? {
                        missing.push(image.reference());
                    }
                }
                json!({"missing": missing})
            }
            Step::Network => {
                let made = !network::exists(&self.engine()?, &manifest.network)?;
                json!({"made": made, "resolv": std::fs::symlink_metadata(RESOLV).is_err()})
            }
            Step::Secrets => json!({"missing": secrets::missing(&self.engine()?, &manifest.secrets)?}),
            Step::Volumes => self.note_volumes(walk)?,
            Step::Switch => {
                let link = self.paths.current(&manifest.product);
                json!({"former": std::fs::read_link(link).ok().map(|target| target.display().to_string())})
            }
            _ => json!({}),
        })
    }

    /// Does a step.
    pub(super) fn perform(&mut self, walk: &mut Walk, step: &Step) -> Result<()> {
        match step {
            Step::Store => self.fill_store(walk),
            Step::Engine => self.find_engine(walk),
            Step::Images => self.pull(walk),
            Step::Network => self.make_network(walk),
            Step::Secrets => secrets::make_missing(&self.engine()?, &walk.manifest.secrets, self.paths, &self.now),
            Step::Backup => self.back_up(walk),
            Step::Volumes => self.fill_volumes(walk),
            Step::Render => self.render(walk),
            Step::Stop => self.stop_former(walk),
            Step::Sync => self.sync_volumes(walk),
            Step::Switch => self.switch(walk),
            Step::Start { workload } => self.start(walk, workload),
            Step::Migrate { name } => self.migrate(walk, name),
            Step::Load { claim } => self.load(walk, claim),
            Step::Health => self.pass_health(walk),
            Step::Commit => {
                self.make_last(walk)?;
                self.state.commit_run(&walk.run, walk.manifest.lifecycle.security_epoch, &self.now)
            }
            Step::Clear => self.clear(&walk.run.product),
            Step::Sweep => self.sweep(walk),
            Step::Uninstall { with_data } => self.take_off(walk, if *with_data { Data::Remove } else { Data::Keep }),
        }
    }

    /// Undoes a step with the note that it left.
    pub(super) fn undo(&mut self, walk: &Walk, step: &Step, note: &Value) -> Result<()> {
        let manifest = &walk.manifest;
        match step {
            // Blobs are cleared once, at the end of the way back. A commit is one transaction: where it is
            // undone, it never came about.
            Step::Store
            | Step::Backup
            | Step::Sync
            | Step::Migrate { .. }
            | Step::Load { .. }
            | Step::Health
            | Step::Commit => Ok(()),
            Step::Engine => match note.get("packages_before") {
                Some(_) => {
                    let before: BTreeSet<String> = words(note, "packages_before").into_iter().collect();
                    runtime::remove_since(&before, &self.paths.scratch())
                }
                None => Ok(()),
            },
            Step::Images => {
                let podman = self.engine()?;
                podman.clear_copies()?;
                words(note, "missing").iter().try_for_each(|reference| podman.remove_image(reference))
            }
            Step::Network => {
                if note.get("resolv") == Some(&Value::Bool(true)) {
                    atomic::remove_file(Path::new(RESOLV))?;
                }
                if note.get("made") != Some(&Value::Bool(true)) {
                    return Ok(());
                }
                network::remove(&self.engine()?, self.host, self.paths, &manifest.network)
            }
            Step::Secrets => secrets::remove(&self.engine()?, &words(note, "missing"), self.paths),
            Step::Volumes => {
                let podman = self.engine()?;
                words(note, "made").iter().try_for_each(|name| podman.remove_volume(name))
            }
            Step::Render => self.unrender(walk),
            Step::Stop => self.start_former(walk),
            Step::Switch => self.switch_back(walk, note.get("former").and_then(Value::as_str)),
            Step::Start { workload } => self.stop_one(walk, workload),
            Step::Clear | Step::Uninstall { .. } | Step::Sweep => {
                let (act, product) = (walk.run.act.clone(), walk.run.product.clone());
                Err(ErrorKind::Unfinished { act, product, phase: "committed" }.into())
            }
        }
    }

    fn fill_store(&mut self, walk: &mut Walk) -> Result<()> {
        let store = Store::open(&self.paths.store())?;
        let gone = || ErrorKind::Unfinished {
            act: format!("{} from {}", walk.run.act, walk.run.source),
            product: walk.run.product.clone(),
            phase: "staging",
        };
        let (bundle, base) = walk.bundle.take().ok_or_else(gone)?;
        // Settling an earlier run may have cleared what was found before.
        base.check_still(bundle.manifest())?;
        let report = &mut *self.report;
        let mut sink = StoreSink::new(&store).until(self.stop.clone());
        bundle.unpack(&base, &mut sink, &mut |bytes| report.bytes(bytes))?;
        store.sync()?;
        let kept = self.state.kept_manifests()?;
        store.write_index(&kept.iter().collect::<Vec<_>>())?;
        let workloads = walk.manifest.workloads.iter().map(|workload| &workload.digest);
        store.keep_spares(workloads, bundle_format::limits::YAML_BYTES)?;
        // Whether the workloads can be run at all is known before anything else is made.
        self.release(&walk.manifest).map(drop)
    }

    fn find_engine(&mut self, walk: &Walk) -> Result<()> {
        let brought = self.brought_packages(walk)?;
        if let Some(podman) = Podman::detect(self.paths, self.host)?.filter(|_| brought.is_none()) {
            self.report.note(&format!("podman {}", podman.version()));
            return Ok(());
        }
        let missing = || ErrorKind::NoEngine { os: self.host.os.clone() };
        let set = walk.manifest.runtime.iter().find(|set| set.os == self.host.os).ok_or_else(missing)?;
        self.report.note(&format!("installing {} from the bundle", set.install.join(", ")));
        let before = match brought {
            Some(before) => before,
            None => runtime::packages()?,
        };
        runtime::install_runtime(set, &Store::peek(&self.paths.store()), &self.paths.scratch(), &before)?;
        self.engine().map(drop)
    }

    /// The packages from before this run brought the engine, where it does: an attempt that was cut off may have
    /// left one that answers and of which half is not configured yet.
    fn brought_packages(&self, walk: &Walk) -> Result<Option<BTreeSet<String>>> {
        for step in self.state.run_steps(walk.run.id)? {
            if Step::from_json(&step.step)? == Step::Engine && step.note.get("packages_before").is_some() {
                return Ok(Some(words(&step.note, "packages_before").into_iter().collect()));
            }
        }
        Ok(None)
    }

    fn pull(&mut self, walk: &Walk) -> Result<()> {
        let (podman, store) = (self.engine()?, Store::peek(&self.paths.store()));
        let registry = Registry::serve(&store, &walk.manifest)?;
        for image in &walk.manifest.images {
            if !podman.image_exists(image)? {
                self.report.note(&format!("image {}", image.reference()));
                podman.pull(image, registry.addr())?;
            }
        }
        Ok(())
    }

    fn make_network(&mut self, walk: &Walk) -> Result<()> {
        // aardvark-dns does not start on a host without this file; an isolated host often has none.
        if std::fs::symlink_metadata(RESOLV).is_err() {
            atomic::write(Path::new(RESOLV), b"", atomic::Access::Public)?;
            self.report.note("made an empty /etc/resolv.conf: the engine's name service needs one");
        }
        network::make(&self.engine()?, &walk.manifest.network)
    }

    /// Workloads into the generation's own folder.
    fn render(&mut self, walk: &Walk) -> Result<()> {
        let (release, _) = self.release(&walk.manifest)?;
        let volumes = self.state.volumes(walk.run.generation)?;
        release.write(&self.paths.generation(&walk.run.product, walk.run.generation), &volumes)?;
        let supervisor = self.supervisor(&self.engine()?);
        self.keep_program()?;
        supervisor.place_watch(&self.paths.program(), self.paths.state_dir())
    }

    /// What the engine wrote (images, secrets, its own record) lies on the disk. It does not see to that
    /// itself, and whoever starts after a power cut goes by what the journal says is done.
    pub(super) fn make_last(&self, walk: &Walk) -> Result<()> {
        atomic::sync_disk(&self.engine()?.graph_root()?)?;
        // The network lies elsewhere.
        let network = Path::new(NETWORKS).join(format!("{}.json", walk.manifest.network.name));
        if !network.exists() {
            return Ok(());
        }
        atomic::sync_folder(&network)?;
        atomic::sync_folder(Path::new(NETWORKS))
    }

    /// A copy of this program that is there when the medium is not.
    pub(crate) fn keep_program(&self) -> Result<()> {
        let running = std::fs::read("/proc/self/exe").map_err(|e| Error::io("/proc/self/exe", e))?;
        let kept = self.paths.program();
        if std::fs::read(&kept).is_ok_and(|found| found == running) {
            return Ok(());
        }
        atomic::write(&kept, &running, atomic::Access::Program)
    }

    fn unrender(&mut self, walk: &Walk) -> Result<()> {
        if self.state.active_generations()?.is_empty() {
            self.supervisor(&self.engine()?).remove_watch()?;
        }
        let kept = self.state.kept_generations(&walk.run.product)?;
        if kept.iter().any(|generation| generation.id == walk.run.generation) {
            return Ok(());
        }
        atomic::remove_folder(&self.paths.generation(&walk.run.product, walk.run.generation))
    }
}
