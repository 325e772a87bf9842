//! Drift: whether store, workloads, units, networks and running images are still what was signed, and
//! putting back what is not.
//!
//! Threats: a disk that rots; a hand that edits a unit, stops a timer or lifts the rule that keeps a
//! network inside; one fault that hides the others. Who defends: everything is compared with what the
//! signed manifest makes of it; a repair collects what it cannot put back and goes on; what a look found
//! is on record, also when nobody was there to read it.

use std::collections::BTreeMap;

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::limits::YAML_BYTES;
use bundle_format::manifest::Manifest;

use crate::audit::{self, Outcome, Record};
use crate::change::Change;
use crate::engine::{Podman, Supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::health;
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::plan::Plan;
use crate::proof::clock;
use crate::registry::Registry;
use crate::release::Release;
use crate::state::{Generation, RecordCopy, State};
use crate::store::Store;
use crate::{atomic, network};

/// What of one active generation is not as signed, each in words.
#[derive(Debug, Default)]
struct Drift {
    /// The installer's own units and their program.
    watch: Vec<String>,
    /// The network, and the rule that keeps it inside.
    network: Vec<String>,
    /// Workload files, and the link that names them.
    files: Vec<String>,
    /// The workloads' units.
    units: Vec<String>,
    /// Images that the engine has not.
    images: Vec<String>,
    /// Containers.
    health: Vec<String>,
}

impl Drift {
    fn lines(&self) -> Vec<String> {
        [&self.watch, &self.network, &self.files, &self.units, &self.images, &self.health]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

/// What a repair did, and what it could not put back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What was done, in words.
    pub done: Vec<String>,
    /// What is still not as signed.
    pub faults: Vec<String>,
}

impl Repaired {
    /// An error if anything is left; exit 8.
    pub fn refuse_faults(&self) -> Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(ErrorKind::NotRepaired { faults: self.faults.join("; ") }.into())
    }

    fn mended(&mut self, what: &[String]) {
        self.done.extend(what.iter().map(|text| format!("mended: {text}")));
    }

    fn words(&self) -> String {
        let done = self.done.join("; ");
        if self.faults.is_empty() { done } else { format!("NOT REPAIRED: {}; {done}", self.faults.join("; ")) }
    }
}

/// Bytes that a look reads.
pub fn bytes(state: &State) -> Result<u64> {
    let sizes: BTreeMap<_, _> = state.kept_manifests()?.iter().flat_map(Manifest::blob_sizes).collect();
    Ok(sizes.values().sum())
}

/// Every difference, in words; none if all is as signed.
pub fn look(state: &State, paths: &Paths, host: &HostFacts, progress: &mut dyn FnMut(u64)) -> Result<Vec<String>> {
    let sizes: BTreeMap<_, _> = state.kept_manifests()?.iter().flat_map(Manifest::blob_sizes).collect();
    let faults = Store::peek(&paths.store()).faults(&sizes, progress);
    let mut found: Vec<String> = faults.values().map(Error::to_string).collect();
    // Read before the day on which it is needed.
    found.extend(RecordCopy::read(&paths.database_copy()).err().map(|error| error.to_string()));
    let podman = Podman::detect(paths, host)?;
    for generation in state.active_generations()? {
        let Some(podman) = &podman else {
            found.extend(files(state, paths, &generation)?);
            found.push("there is no engine on this machine any more".into());
            continue;
        };
        for line in drift(state, paths, host, podman, &generation)?.lines() {
            // The installer's own units are the same for every product.
            if !found.contains(&line) {
                found.push(line);
            }
        }
    }
    Ok(found)
}

/// Puts on record that somebody, or the timer, looked, and what was found.
pub fn record_look(state: &State, paths: &Paths, found: &Result<Vec<String>>) -> Result<()> {
    let open =
        state.open_run()?.map(|run| format!("while the {} of {} was {}: ", run.act, run.product, run.phase.text()));
    let (result, said) = match found {
        Ok(found) if found.is_empty() => (Outcome::Ok, "everything is as signed".into()),
        Ok(found) => (Outcome::Failed, format!("{} differ: {}", found.len(), found.join("; "))),
        Err(error) => (Outcome::Failed, format!("the look itself failed: {error}")),
    };
    let record = Record::new(&clock(), "check", result).detail(&format!("{}{said}", open.unwrap_or_default()));
    audit::append_look(paths, &record);
    Ok(())
}

fn drift(state: &State, paths: &Paths, host: &HostFacts, podman: &Podman, generation: &Generation) -> Result<Drift> {
    let manifest = generation.parse()?;
    let supervisor = Supervisor::choose(host, podman);
    let mut drift = Drift {
        watch: supervisor.differing_watch(&paths.program(), paths.state_dir())?,
        network: network::differing(podman, host, paths, &network::in_force(state, &manifest)?)?,
        files: files(state, paths, generation)?,
        ..Drift::default()
    };
    for image in &manifest.images {
        if !podman.image_exists(image)? {
            drift.images.push(format!("image {} is not in the engine", image.reference()));
        }
    }
    // A blob that is damaged was named already.
    let Ok(release) = Release::load(&manifest, &Store::peek(&paths.store())) else { return Ok(drift) };
    let files = release.files(&paths.current(&manifest.product));
    drift.units = supervisor.differing(&manifest.product, &manifest.network.name, &files)?;
    drift.health = match health::problems(podman, &release) {
        Ok(problems) => problems,
        // An engine that does not say how its containers are.
        Err(error) => vec![error.to_string()],
    };
    Ok(drift)
}

/// The workloads as written, and the link that names them.
fn files(state: &State, paths: &Paths, generation: &Generation) -> Result<Vec<String>> {
    // A blob that is damaged was named already.
    let Ok(release) = Release::load(&generation.parse()?, &Store::peek(&paths.store())) else { return Ok(Vec::new()) };
    let volumes = state.volumes(generation.id)?;
    let mut found = Vec::new();
    let link = paths.current(&generation.product);
    if std::fs::read_link(&link).ok().as_deref() != Some(std::path::Path::new(&generation.id.to_string())) {
        found.push(format!("{} does not name generation {}", link.display(), generation.id));
    }
    for (workload, file) in
        release.workloads.iter().zip(release.files(&paths.generation(&generation.product, generation.id)))
    {
        let expected = workload.render(&volumes)?;
        if !std::fs::read(&file.path).is_ok_and(|bytes| bytes == expected.as_bytes()) {
            found.push(format!("workload file {} is not as signed", file.path.display()));
        }
    }
    Ok(found)
}

/// Puts back workload files, units, networks, images and containers from the store. A blob that is
/// damaged in the store itself, and has no second copy, comes back by installing the bundle again: it is
/// collected, and the rest is put back all the same.
pub fn repair(change: &mut Change<'_>) -> Result<Repaired> {
    let mut all = Repaired::default();
    let podman = change.engine()?;
    if let Err(fault) = RecordCopy::read(&change.paths.database_copy()) {
        change.state.keep_copy()?;
        all.done.push(format!("mended: {fault}"));
    }
    for generation in change.state.active_generations()? {
        let record = |result| Record::new(&change.now, "repair", result).of(&generation.product, &generation.release);
        let lost =
            Store::peek(&change.paths.store()).faults(&kept_blobs(change.state, &generation.product)?, &mut |_| ());
        let drift = drift(change.state, change.paths, change.host, &podman, &generation)?;
        let subject = Sha384::parse(&generation.manifest_sha384)?;
        let differs = lost.values().map(Error::to_string).chain(drift.lines()).collect();
        let plan = Plan::repair(&generation, differs)?;
        let begun = record(Outcome::Begun).subject(&subject).detail(&format!("plan SHA-384 {plan}"));
        change.state.audit()?.begin(&begun)?;
        let mut part = Repaired::default();
        let mended = mend(change, &podman, &generation, &lost, &drift, &mut part);
        let ended = match &mended {
            Ok(()) if part.faults.is_empty() => record(Outcome::Ok).detail(&part.words()),
            Ok(()) => record(Outcome::Failed).detail(&part.words()),
            Err(error) => record(Outcome::Failed).detail(&format!("{error}; {}", part.words())),
        };
        audit::append_or_warn(change.paths, &ended);
        mended?;
        all.done.append(&mut part.done);
        all.faults.append(&mut part.faults);
    }
    if all == Repaired::default() {
        all.done.push("nothing differed".into());
    }
    Ok(all)
}

/// The blobs of every generation of a product that is kept.
fn kept_blobs(state: &State, product: &str) -> Result<BTreeMap<Sha256, u64>> {
    let mut blobs = BTreeMap::new();
    for generation in state.kept_generations(product)? {
        blobs.extend(generation.parse()?.blob_sizes());
    }
    Ok(blobs)
}

/// Puts back what differs of one generation: first what stands without the store, then what is made from
/// it.
fn mend(
    change: &Change<'_>,
    podman: &Podman,
    generation: &Generation,
    lost: &BTreeMap<Sha256, Error>,
    drift: &Drift,
    part: &mut Repaired,
) -> Result<()> {
    let manifest = generation.parse()?;
    let (product, network, paths, host) = (&manifest.product, &manifest.network, change.paths, change.host);
    let store = Store::open(&paths.store())?;
    for digest in lost.keys() {
        match store.mend(digest, YAML_BYTES) {
            Ok(true) => part.done.push(format!("mended: blob {digest}, from its second copy")),
            Ok(false) => {}
            Err(error) => part.faults.push(only_damage(error)?),
        }
    }
    let supervisor = Supervisor::choose(host, podman);
    if !drift.watch.is_empty() {
        change.keep_program()?;
        supervisor.place_watch(&paths.program(), paths.state_dir())?;
        part.mended(&drift.watch);
    }
    if !drift.network.is_empty() {
        network::ensure(podman, host, paths, &network::in_force(change.state, &manifest)?)?;
        part.mended(&drift.network);
    }
    let release = match Release::load(&manifest, &store) {
        Ok(release) => release,
        // Without its workloads nothing more can be told of this release; what runs goes on.
        Err(error) => {
            let fault = only_damage(error)?;
            part.faults.extend((!part.faults.contains(&fault)).then_some(fault));
            return Ok(());
        }
    };
    if !drift.files.is_empty() {
        release.write(&paths.generation(product, generation.id), &change.state.volumes(generation.id)?)?;
        atomic::symlink(&paths.current(product), std::path::Path::new(&generation.id.to_string()))?;
        part.mended(&drift.files);
    }
    let files = release.files(&paths.current(product));
    supervisor.place(product, &network.name, &files)?;
    part.mended(&drift.units);
    change.stop.refuse()?;
    if !pull(podman, &store, &manifest, part)? {
        // A start would fail without the image, and stop what runs first.
        return Ok(());
    }
    let well = health::problems(podman, &release).is_ok_and(|problems| problems.is_empty());
    if well && drift.files.is_empty() {
        return Ok(());
    }
    for workload in &files {
        // Never between the two: what is stopped here is started.
        change.stop.refuse()?;
        supervisor.stop(podman, product, workload)?;
        supervisor.start(podman, product, &network.name, workload)?;
        part.done.push(format!("started {} anew", workload.name));
    }
    let deadline = std::time::Duration::from_secs(manifest.lifecycle.deadline_seconds);
    health::wait_healthy(podman, &release, paths, deadline, &change.stop)
}

/// Hands the engine the images that it has not; whether it has all of them now.
fn pull(podman: &Podman, store: &Store, manifest: &Manifest, part: &mut Repaired) -> Result<bool> {
    let mut whole = true;
    for image in &manifest.images {
        if podman.image_exists(image)? {
            continue;
        }
        if image.blobs.iter().all(|digest| store.check(digest).is_ok()) {
            podman.pull(image, Registry::serve(store, manifest)?.addr())?;
            part.done.push(format!("pulled {} from the store", image.reference()));
        } else {
            part.faults.push(format!("image {} is not in the engine, and blobs of it are damaged", image.reference()));
            whole = false;
        }
    }
    Ok(whole)
}

/// Damage of the store in words; anything else ends a repair.
fn only_damage(error: Error) -> Result<String> {
    match error.kind() {
        ErrorKind::StoreDamaged { .. } => Ok(error.to_string()),
        _ => Err(error),
    }
}
