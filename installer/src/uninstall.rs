//! Takes a product off the machine. Packages of the engine stay: others may use them by now.

use bundle_format::digest::Sha384;
use bundle_format::timestamp::Timestamp;

use crate::audit::{Outcome, Record, append_or_warn};
use crate::engine::{Podman, Supervisor};
use crate::error::{ErrorKind, Result};
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::release::Release;
use crate::state::{Generation, GenerationState, State};
use crate::store::Store;
use crate::{network, secrets};

/// What becomes of volumes and secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// They stay for a later installation.
    Keep,
    /// They are removed; the data is lost.
    Remove,
}

/// Stops and removes `product`; returns what was done, in lines. The anti-rollback floor stays.
pub fn uninstall(
    state: &mut State,
    paths: &Paths,
    host: &HostFacts,
    product: &str,
    data: Data,
    now: &Timestamp,
) -> Result<Vec<String>> {
    let missing = || ErrorKind::NotInstalled { product: product.to_owned() };
    let generation = state.active_generation(product)?.ok_or_else(missing)?;
    let manifest = generation.parse()?;
    let store = Store::open(&paths.store())?;
    let release = Release::load(&manifest, &store)?;
    let podman = Podman::detect(paths, host)?.ok_or_else(|| ErrorKind::NoEngine { os: host.os.clone() })?;
    let record = |result| Record::new(now, "uninstall", result).of(product, &manifest.release);
    state.audit()?.begin(&record(Outcome::Begun).subject(&Sha384::parse(&generation.manifest_sha384)?))?;
    let removed = take_off(state, paths, host, &podman, (&generation, &release), data, now);
    let ended = match &removed {
        Ok(_) => record(Outcome::Ok).detail(if data == Data::Remove { "with data" } else { "data kept" }),
        Err(error) => record(Outcome::Failed).detail(&error.to_string()),
    };
    append_or_warn(paths, &ended);
    removed
}

/// Stops and removes everything, in an order in which a cut leaves nothing that runs unknown.
fn take_off(
    state: &mut State,
    paths: &Paths,
    host: &HostFacts,
    podman: &Podman,
    (generation, release): (&Generation, &Release),
    data: Data,
    now: &Timestamp,
) -> Result<Vec<String>> {
    let product = generation.product.as_str();
    let manifest = generation.parse()?;
    let store = Store::open(&paths.store())?;
    let supervisor = Supervisor::choose(host, podman);
    let mut lines = Vec::new();
    for workload in release.files(&paths.generation(product, generation.id)).iter().rev() {
        supervisor.remove(podman, product, workload)?;
        lines.push(format!("stopped {}", workload.name));
    }
    state.set_generation_state(generation.id, GenerationState::Removed, now)?;
    network::remove(podman, host, paths, &manifest.network)?;
    let kept = state.kept_manifests()?;
    let used: std::collections::BTreeSet<_> =
        kept.iter().flat_map(|manifest| manifest.blob_sizes().into_keys()).collect();
    // Former releases of the product go too: their images and blobs served only to go back to them.
    for image in state.manifests_of(product)?.iter().flat_map(|manifest| &manifest.images) {
        if !kept.iter().any(|other| other.images.iter().any(|i| i.reference() == image.reference())) {
            podman.remove_image(&image.reference())?;
        }
    }
    for digest in store.list()?.difference(&used) {
        store.remove(digest)?;
    }
    store.write_index(&kept.iter().collect::<Vec<_>>())?;
    if data == Data::Remove {
        release.volumes().iter().try_for_each(|volume| podman.remove_volume(volume))?;
        let names: Vec<String> = manifest.secrets.iter().map(|secret| secret.name().to_owned()).collect();
        secrets::remove(podman, &names, paths)?;
        lines.push("removed its volumes and secrets".into());
    }
    lines.push(format!("{product} {} is off this machine", manifest.release));
    Ok(lines)
}
