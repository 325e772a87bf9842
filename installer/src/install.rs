//! `install`: from a proven bundle to a healthy platform, each step journalled, with a way back.
//!
//! The order (docs/operator/install.md): prove and store every byte, give the host an engine, prepare what
//! the workloads need, start them, wait until they are healthy, commit. A step that fails takes
//! back, newest first, what this run made; what was there before stays as it was.

use std::path::PathBuf;
use std::time::Duration;

use bundle_format::envelope::VerifiedManifest;
use bundle_format::manifest::{Manifest, Runtime};
use bundle_format::timestamp::Timestamp;

use crate::engine::{Podman, Supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::proof::ProvedBundle;
use crate::registry::Registry;
use crate::release::{Release, WorkloadFile};
use crate::state::{GenerationState, State};
use crate::store::{Store, StoreSink};
use crate::{audit, health, network, runtime, secrets, trust};

/// How long the platform has to become healthy.
pub const HEALTH_DEADLINE: Duration = Duration::from_secs(900);

/// What an installation tells while it works.
pub trait Reporter {
    /// A step begins.
    fn step(&mut self, name: &str);
    /// Stored bytes of the bundle were proved and kept.
    fn bytes(&mut self, count: u64);
    /// Something worth a line.
    fn note(&mut self, text: &str);
}

/// Everything that an installation works on. The caller holds the installer's lock.
pub struct Installation<'a> {
    /// Where things lie.
    pub paths: &'a Paths,
    /// The journal and the record.
    pub state: &'a mut State,
    /// Facts about this machine.
    pub host: &'a HostFacts,
    /// The time, taken once for the whole run (TUF 1.0.34, 5.1).
    pub now: Timestamp,
    /// How long the platform has to become healthy.
    pub deadline: Duration,
    /// Who is told.
    pub report: &'a mut dyn Reporter,
}

/// How an installation ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The bundle is active now.
    Installed {
        /// Its generation.
        generation: i64,
    },
    /// The very bundle was active already and is healthy.
    AlreadyActive,
}

/// What was made so far, to be taken back newest first.
enum Made {
    Blobs(Vec<bundle_format::digest::Sha256>),
    Packages(std::collections::BTreeSet<String>),
    ResolvConf,
    Network,
    Secrets(Vec<String>),
    Images(Vec<String>),
    Volumes(Vec<String>),
    Stopped(Vec<WorkloadFile>),
    Started(Vec<WorkloadFile>),
}

impl Installation<'_> {
    /// Installs `bundle`. On an error what this run made is taken back; the error says whether that
    /// worked ([`ErrorKind::RolledBack`], exit 7; [`ErrorKind::NeedsOperator`], exit 8) unless the
    /// machine is plainly not fit or the bundle refused, which keep their own class.
    pub fn install(&mut self, bundle: ProvedBundle) -> Result<Outcome> {
        let manifest = bundle.manifest().clone();
        let sha384 = bundle.verified().sha384().to_string();
        let active = self.state.active_generation(&manifest.product)?;
        if active.as_ref().is_some_and(|active| active.manifest_sha384 == sha384) {
            return self.check_active(&manifest).map(|()| Outcome::AlreadyActive);
        }
        for root in bundle.new_roots() {
            trust::record(self.state, root, &self.now)?;
        }
        let generation = self.state.begin_generation(&manifest, bundle.verified().bytes(), &sha384, &self.now)?;
        let mut made = Vec::new();
        match self.steps(generation, bundle, &mut made) {
            Ok(()) => {
                self.state.commit_generation(generation, &self.now)?;
                self.record_end("install", &manifest, audit::Outcome::Ok, "");
                Ok(Outcome::Installed { generation })
            }
            Err(error) => Err(self.take_back(generation, &manifest, made, error)),
        }
    }

    fn check_active(&mut self, manifest: &Manifest) -> Result<()> {
        let podman = Podman::detect(self.paths, self.host)?.ok_or_else(|| self.no_engine())?;
        let store = Store::open(&self.paths.store())?;
        let release = Release::load(manifest, &store)?;
        health::wait_healthy(&podman, &release, self.paths, self.deadline, &mut |_| ()).map(drop)
    }

    fn steps(&mut self, generation: i64, bundle: ProvedBundle, made: &mut Vec<Made>) -> Result<()> {
        let mut ordinal = 0;
        // 1. Prove every byte on its way into the store.
        self.begin(generation, &mut ordinal, "store")?;
        let store = Store::open(&self.paths.store())?;
        let verified = self.fill_store(&store, bundle, made)?;
        let manifest = verified.manifest();
        let kept = self.state.kept_manifests()?;
        store.write_index(&kept.iter().chain([manifest]).collect::<Vec<_>>())?;
        let release = Release::load(manifest, &store)?;
        self.done(generation, ordinal)?;

        // 2. An engine, from the bundle where the host has none.
        self.begin(generation, &mut ordinal, "engine")?;
        let podman = self.engine(manifest, &store, made)?;
        self.done(generation, ordinal)?;

        // 3. Images by their original name and digest, through the loopback registry.
        self.begin(generation, &mut ordinal, "images")?;
        self.pull(&podman, manifest, &store, made)?;
        self.done(generation, ordinal)?;

        // 4. Network, secrets, volumes.
        self.begin(generation, &mut ordinal, "network")?;
        self.prepare_network(&podman, manifest, made)?;
        self.done(generation, ordinal)?;
        self.begin(generation, &mut ordinal, "secrets")?;
        let mut names = Vec::new();
        let secrets = secrets::make_missing(&podman, &manifest.secrets, self.paths, &self.now, &mut names);
        made.push(Made::Secrets(names));
        secrets?;
        let mut names = Vec::new();
        let volumes = podman.create_missing_volumes(&release.volumes(), &mut names);
        made.push(Made::Volumes(names));
        volumes?;
        self.done(generation, ordinal)?;

        // 5. Stop what runs, start the new, wait for health.
        let supervisor = Supervisor::choose(self.host, &podman);
        let former = self.former_workloads(manifest, generation)?;
        let workloads = release.write(&self.paths.generation(&manifest.product, generation))?;
        self.begin(generation, &mut ordinal, "stop the former release")?;
        made.push(Made::Stopped(former.clone()));
        for workload in former.iter().rev() {
            supervisor.remove(&podman, &manifest.product, workload)?;
        }
        self.done(generation, ordinal)?;
        made.push(Made::Started(workloads.clone()));
        for workload in &workloads {
            self.begin(generation, &mut ordinal, &format!("start {}", workload.name))?;
            supervisor.start(&podman, &manifest.product, &manifest.network.name, workload)?;
            self.done(generation, ordinal)?;
        }
        self.begin(generation, &mut ordinal, "health")?;
        let report = &mut *self.report;
        health::wait_healthy(&podman, &release, self.paths, self.deadline, &mut |line| report.note(line))?;
        self.done(generation, ordinal)
    }

    fn fill_store(&mut self, store: &Store, bundle: ProvedBundle, made: &mut Vec<Made>) -> Result<VerifiedManifest> {
        let report = &mut *self.report;
        let mut sink = StoreSink::new(store);
        let unpacked = bundle.unpack(&mut sink, &mut |bytes| report.bytes(bytes));
        made.push(Made::Blobs(sink.added().to_vec()));
        let verified = unpacked?;
        store.sync()?;
        Ok(verified)
    }

    fn engine(&mut self, manifest: &Manifest, store: &Store, made: &mut Vec<Made>) -> Result<Podman> {
        if let Some(podman) = Podman::detect(self.paths, self.host)? {
            self.report.note(&format!("the host's own engine is used: podman {}", podman.version()));
            return Ok(podman);
        }
        let set: &Runtime =
            manifest.runtime.iter().find(|set| set.os == self.host.os).ok_or_else(|| self.no_engine())?;
        self.report.note(&format!("installing {} from the bundle", set.install.join(", ")));
        made.push(Made::Packages(runtime::packages()?));
        runtime::install_runtime(set, store, &self.paths.scratch())?;
        Podman::detect(self.paths, self.host)?.ok_or_else(|| self.no_engine())
    }

    fn pull(&mut self, podman: &Podman, manifest: &Manifest, store: &Store, made: &mut Vec<Made>) -> Result<()> {
        let registry = Registry::serve(store, manifest)?;
        for image in &manifest.images {
            if podman.image_exists(image)? {
                continue;
            }
            self.report.note(&format!("image {}", image.reference()));
            made.push(Made::Images(vec![image.reference()]));
            podman.pull(image, registry.addr())?;
        }
        Ok(())
    }

    fn prepare_network(&mut self, podman: &Podman, manifest: &Manifest, made: &mut Vec<Made>) -> Result<()> {
        // aardvark-dns does not start on a host without this file; an isolated host often has none.
        let resolv = PathBuf::from("/etc/resolv.conf");
        if std::fs::symlink_metadata(&resolv).is_err() {
            made.push(Made::ResolvConf);
            std::fs::write(&resolv, b"").map_err(|e| Error::io("/etc/resolv.conf", e))?;
            self.report.note("made an empty /etc/resolv.conf: the engine's name service needs one");
        }
        if !network::exists(podman, &manifest.network)? {
            made.push(Made::Network);
        }
        network::ensure(podman, self.host, self.paths, &manifest.network)
    }

    fn former_workloads(&self, manifest: &Manifest, generation: i64) -> Result<Vec<WorkloadFile>> {
        match self.state.active_generation(&manifest.product)? {
            Some(former) if former.id != generation => {
                let release = Release::load(&former.parse()?, &Store::peek(&self.paths.store()))?;
                Ok(release.files(&self.paths.generation(&manifest.product, former.id)))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn begin(&mut self, generation: i64, ordinal: &mut i64, name: &str) -> Result<()> {
        *ordinal += 1;
        self.report.step(name);
        self.state.step_started(generation, *ordinal, name, &self.now)
    }

    fn done(&mut self, generation: i64, ordinal: i64) -> Result<()> {
        self.state.step_done(generation, ordinal, &self.now)
    }

    /// Takes back what was made, newest first, and says how that went.
    fn take_back(&mut self, generation: i64, manifest: &Manifest, made: Vec<Made>, error: Error) -> Error {
        self.report.note(&format!("failed: {error}; taking back what was made"));
        let changed_running = made.iter().any(|item| matches!(item, Made::Started(_) | Made::Stopped(_)));
        let mut trouble = Vec::new();
        for item in made.into_iter().rev() {
            if let Err(undo) = self.undo(manifest, item) {
                trouble.push(undo.to_string());
            }
        }
        if let Err(undo) = self.state.set_generation_state(generation, GenerationState::Failed, &self.now) {
            trouble.push(undo.to_string());
        }
        self.record_end("install", manifest, audit::Outcome::Failed, &error.to_string());
        if !trouble.is_empty() {
            return ErrorKind::NeedsOperator { source: Box::new(error), trouble: trouble.join("; ") }.into();
        }
        if changed_running {
            return ErrorKind::RolledBack { source: Box::new(error) }.into();
        }
        error
    }

    fn undo(&mut self, manifest: &Manifest, made: Made) -> Result<()> {
        let engine = |this: &Self| Podman::detect(this.paths, this.host)?.ok_or_else(|| this.no_engine());
        match made {
            Made::Blobs(digests) => {
                let store = Store::open(&self.paths.store())?;
                digests.iter().try_for_each(|digest| store.remove(digest))?;
                let kept = self.state.kept_manifests()?;
                store.write_index(&kept.iter().collect::<Vec<_>>())
            }
            Made::Packages(before) => runtime::remove_since(&before),
            Made::ResolvConf => std::fs::remove_file("/etc/resolv.conf").map_err(|e| Error::io("/etc/resolv.conf", e)),
            Made::Network => network::remove(&engine(self)?, self.host, self.paths, &manifest.network),
            Made::Secrets(names) => secrets::remove(&engine(self)?, &names, self.paths),
            Made::Images(references) => {
                let podman = engine(self)?;
                references.iter().try_for_each(|reference| podman.remove_image(reference))
            }
            Made::Volumes(names) => {
                let podman = engine(self)?;
                names.iter().try_for_each(|name| podman.remove_volume(name))
            }
            Made::Started(workloads) => {
                let podman = engine(self)?;
                let supervisor = Supervisor::choose(self.host, &podman);
                workloads.iter().rev().try_for_each(|workload| supervisor.remove(&podman, &manifest.product, workload))
            }
            Made::Stopped(workloads) => {
                let podman = engine(self)?;
                let supervisor = Supervisor::choose(self.host, &podman);
                let network = &manifest.network.name;
                workloads
                    .iter()
                    .try_for_each(|workload| supervisor.start(&podman, &manifest.product, network, workload))
            }
        }
    }

    fn no_engine(&self) -> Error {
        ErrorKind::NoEngine { os: self.host.os.clone() }.into()
    }

    /// The record of what people did; a failure to write it must not hide the outcome itself.
    fn record_end(&self, act: &str, manifest: &Manifest, result: audit::Outcome, detail: &str) {
        let record = audit::Record::new(&self.now, act, result).of(&manifest.product, &manifest.release).detail(detail);
        audit::append_or_warn(self.paths, &record);
    }
}
