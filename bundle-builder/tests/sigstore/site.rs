//! An instance with its pinned trusted root, and the verdict on bundles.

use bundle_builder::keyless::{Bundle, Demand, Fault, TrustedRoot, Verified, verify};
use bundle_format::release::Identity;
use serde_json::Value;

use super::{ISSUER, Instance, Recipe, WORKFLOW};

pub(crate) const ARTIFACT: &[u8] = b"TEST artifact";

/// An instance and its trusted root as the release has it.
pub(crate) struct Site {
    pub(crate) instance: Instance,
    pub(crate) root: TrustedRoot,
}

impl Site {
    pub(crate) fn new() -> Self {
        let instance = Instance::new();
        let root = TrustedRoot::parse(instance.trusted_root(&[]).to_string().as_bytes()).unwrap();
        Self { instance, root }
    }

    /// A bundle of version 0.3 over [`ARTIFACT`].
    pub(crate) fn bundle(&self, recipe: &Recipe) -> Value {
        let signature = self.instance.sign(recipe, ARTIFACT);
        signature.bundle(&self.instance.entry(recipe, &signature.record(ARTIFACT)), ARTIFACT)
    }

    pub(crate) fn judge(&self, bundle: &Value) -> Result<Verified, Fault> {
        self.judge_by(bundle, &Identity::Uri(WORKFLOW.into()))
    }

    pub(crate) fn judge_by(&self, bundle: &Value, identity: &Identity) -> Result<Verified, Fault> {
        let demand = Demand { root: &self.root, identity, issuer: ISSUER };
        verify(&Bundle::parse(bundle.to_string().as_bytes())?, ARTIFACT, demand)
    }
}
