//! Drift: whether store, workloads, units and running images are still what was signed, and putting
//! back what is not.

use bundle_format::digest::Sha384;

use crate::audit::{self, Outcome, Record};
use crate::change::Change;
use crate::engine::{Podman, Supervisor};
use crate::error::Result;
use crate::health;
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::registry::Registry;
use crate::release::Release;
use crate::state::{Generation, State};
use crate::store::Store;

/// Bytes that a look reads.
pub fn bytes(state: &State) -> Result<u64> {
    let kept = state.kept_manifests()?;
    let sizes: std::collections::BTreeMap<_, _> =
        kept.iter().flat_map(bundle_format::manifest::Manifest::blob_sizes).collect();
    Ok(sizes.values().sum())
}

/// Every difference, in words; none if all is as signed.
pub fn look(state: &State, paths: &Paths, host: &HostFacts, progress: &mut dyn FnMut(u64)) -> Result<Vec<String>> {
    let store = Store::peek(&paths.store());
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for manifest in state.kept_manifests()? {
        for (digest, size) in manifest.blob_sizes() {
            if !seen.insert(digest) {
                continue;
            }
            if let Err(error) = store.check(&digest) {
                found.push(error.to_string());
            }
            progress(size);
        }
    }
    let podman = Podman::detect(paths, host)?;
    for generation in state.active_generations()? {
        found.extend(files(state, paths, &generation)?);
        match &podman {
            Some(podman) => found.extend(running(podman, paths, host, &generation)?),
            None => found.push("there is no engine on this machine any more".into()),
        }
    }
    Ok(found)
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

/// Images in the engine, units, containers.
fn running(podman: &Podman, paths: &Paths, host: &HostFacts, generation: &Generation) -> Result<Vec<String>> {
    let manifest = generation.parse()?;
    let mut found = Vec::new();
    for image in &manifest.images {
        if !podman.image_exists(image)? {
            found.push(format!("image {} is not in the engine", image.reference()));
        }
    }
    let Ok(release) = Release::load(&manifest, &Store::peek(&paths.store())) else { return Ok(found) };
    let files = release.files(&paths.current(&manifest.product));
    found.extend(Supervisor::choose(host, podman).differing(&manifest.product, &manifest.network.name, &files));
    match health::problems(podman, &release) {
        Ok(problems) => found.extend(problems),
        // A container on another image than the signed one.
        Err(error) => found.push(error.to_string()),
    }
    Ok(found)
}

/// Puts back workload files, units, images and containers from the store; what was done, in words.
/// A blob that is damaged in the store itself comes back by installing the bundle again.
pub fn repair(change: &mut Change<'_>) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for generation in change.state.active_generations()? {
        let record = |result| Record::new(&change.now, "repair", result).of(&generation.product, &generation.release);
        let subject = Sha384::parse(&generation.manifest_sha384)?;
        change.state.audit()?.begin(&record(Outcome::Begun).subject(&subject))?;
        let mended = mend(change, &generation);
        let ended = match &mended {
            Ok(lines) => record(Outcome::Ok).detail(&lines.join("; ")),
            Err(error) => record(Outcome::Failed).detail(&error.to_string()),
        };
        audit::append_or_warn(change.paths, &ended);
        done.append(&mut mended?);
    }
    if done.is_empty() {
        done.push("nothing differed".into());
    }
    Ok(done)
}

/// Puts back what differs of one generation.
fn mend(change: &Change<'_>, generation: &Generation) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let manifest = generation.parse()?;
    let store = Store::open(&change.paths.store())?;
    for digest in manifest.blob_sizes().keys() {
        if store.mend(digest, bundle_format::limits::YAML_BYTES)? {
            done.push(format!("mended: blob {digest}, from its second copy"));
        }
    }
    let release = Release::load(&manifest, &store)?;
    let before = files(change.state, change.paths, generation)?;
    if !before.is_empty() {
        let volumes = change.state.volumes(generation.id)?;
        release.write(&change.paths.generation(&manifest.product, generation.id), &volumes)?;
        let link = change.paths.current(&manifest.product);
        crate::atomic::symlink(&link, std::path::Path::new(&generation.id.to_string()))?;
        done.extend(before.iter().map(|text| format!("mended: {text}")));
    }
    let host = change.host;
    let podman = change.engine()?;
    let supervisor = Supervisor::choose(host, &podman);
    let files = release.files(&change.paths.current(&manifest.product));
    let units = supervisor.differing(&manifest.product, &manifest.network.name, &files);
    supervisor.place(&manifest.product, &manifest.network.name, &files)?;
    done.extend(units.iter().map(|text| format!("mended: {text}")));
    let registry = Registry::serve(&store, &manifest)?;
    for image in &manifest.images {
        if !podman.image_exists(image)? {
            podman.pull(image, registry.addr())?;
            done.push(format!("pulled {} from the store", image.reference()));
        }
    }
    crate::network::ensure(&podman, host, change.paths, &manifest.network)?;
    let well = health::problems(&podman, &release).is_ok_and(|problems| problems.is_empty());
    if !well || !before.is_empty() {
        for workload in &files {
            supervisor.stop(&podman, &manifest.product, workload)?;
            supervisor.start(&podman, &manifest.product, &manifest.network.name, workload)?;
            done.push(format!("started {} anew", workload.name));
        }
        let deadline = std::time::Duration::from_secs(manifest.lifecycle.deadline_seconds);
        health::wait_healthy(&podman, &release, change.paths, deadline, &mut |_| ())?;
    }
    Ok(done)
}
