//! What an installation would do, before it does it.

use crate::engine::{Podman, Supervisor};
use crate::error::Result;
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::proof::ProvedBundle;
use crate::state::State;
use crate::store::Store;

/// The steps of an installation and what they cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    product: String,
    from: Option<String>,
    to: String,
    manifest_sha384: String,
    noop: bool,
    new_bytes: u64,
    held_bytes: u64,
    steps: Vec<String>,
}

impl Plan {
    /// Plans from what runs here to `bundle`; changes nothing.
    pub fn make(bundle: &ProvedBundle, state: &State, paths: &Paths, host: &HostFacts) -> Result<Self> {
        let manifest = bundle.manifest();
        let sha384 = bundle.verified().sha384().to_string();
        let active = state.active_generation(&manifest.product)?;
        let held = Store::peek(&paths.store());
        let (mut new_bytes, mut held_bytes) = (0u64, 0u64);
        for (digest, size) in manifest.blob_sizes() {
            let sum = if held.holds(&digest, size) { &mut held_bytes } else { &mut new_bytes };
            *sum = sum.saturating_add(size);
        }
        let podman = Podman::detect(paths, host)?;
        let noop = active.as_ref().is_some_and(|active| active.manifest_sha384 == sha384);
        let mut steps = Vec::new();
        if !noop {
            steps.push(format!("prove every byte and store {new_bytes} bytes ({held_bytes} are held already)"));
            match &podman {
                Some(podman) => steps.push(format!("use this host's podman {}", podman.version())),
                None => steps.push(format!("install the engine that the bundle carries for {}", host.os)),
            }
            steps.extend(manifest.images.iter().map(|image| format!("hand image {} to the engine", image.reference())));
            let kind = if manifest.network.internal { ", which reaches nothing outside" } else { "" };
            steps.push(format!("network {}{kind}", manifest.network.name));
            steps.extend(
                manifest.secrets.iter().map(|secret| format!("secret {}: made here unless it exists", secret.name())),
            );
            if let Some(active) = &active {
                steps.push(format!("stop release {}; downtime begins", active.release));
            }
            steps.extend(manifest.workloads.iter().map(|workload| format!("start {}", workload.name)));
            steps.push("wait until every probe is healthy and every running digest is the signed one".into());
            let way = podman.as_ref().map_or("by systemd where it is there, otherwise by the engine alone", |podman| {
                Supervisor::choose(host, podman).describe()
            });
            steps.push(format!("commit; kept up: {way}"));
        }
        let from = active.map(|active| format!("{} (sequence {})", active.release, active.sequence));
        let to = format!("{} (sequence {})", manifest.release, manifest.sequence);
        Ok(Self {
            product: manifest.product.clone(),
            from,
            to,
            manifest_sha384: sha384,
            noop,
            new_bytes,
            held_bytes,
            steps,
        })
    }

    /// Whether the very bundle is active already.
    pub const fn is_noop(&self) -> bool {
        self.noop
    }

    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let from = self.from.as_deref().unwrap_or("nothing");
        let mut lines = vec![format!("plan: {} from {from} to {}", self.product, self.to)];
        if self.noop {
            lines.push("  this very bundle is active; its health is looked at, nothing is changed".into());
        }
        lines.extend(self.steps.iter().zip(1..).map(|(step, number)| format!("  {number}. {step}")));
        if !self.noop {
            lines.push("  until the commit, whatever fails is taken back and what runs now runs again".into());
        }
        lines
    }

    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "product": self.product, "from": self.from, "to": self.to, "manifest_sha384": self.manifest_sha384,
            "already_active": self.noop, "new_bytes": self.new_bytes, "held_bytes": self.held_bytes, "steps": self.steps,
        })
    }
}
