//! The steps of a change, as the plan shows them and the journal keeps them.

use bundle_format::lifecycle::Lifecycle;
use bundle_format::manifest::Manifest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{ErrorKind, Result};
use crate::state::Phase;

/// A step: doing it twice is doing it once, and the same holds for undoing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// Prove every byte on its way into the store.
    Store,
    /// Find an engine, or install the one that the bundle carries.
    Engine,
    /// Hand the images to the engine by name and digest.
    Images,
    /// Make the network.
    Network,
    /// Make the secrets that are missing.
    Secrets,
    /// Back up what the release before declared, while it runs.
    Backup,
    /// Make the new generation's volumes, and copy data into them while its owner still works.
    Volumes,
    /// Write the workloads, put units in place.
    Render,
    /// Stop what runs. Downtime begins.
    Stop,
    /// Copy what changed since the first copy.
    Sync,
    /// The one atomic switch.
    Switch,
    /// Start a workload.
    Start {
        /// Its name.
        workload: String,
    },
    /// Bring the data to the new form.
    Migrate {
        /// The migration.
        name: String,
    },
    /// Read a backup into a running database.
    Load {
        /// The claim.
        claim: String,
    },
    /// Wait until every probe is healthy, every check passes and nothing restarts.
    Health,
    /// Make it the active generation.
    Commit,
    /// Remove what no kept generation needs.
    Clear,
    /// Take the product off the machine.
    Uninstall {
        /// With its volumes, secrets and backups.
        with_data: bool,
    },
    /// Remove the images and blobs of a product that is off the machine.
    Sweep,
}

impl Step {
    /// As the journal keeps it.
    pub fn to_json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self).map_err(|e| ErrorKind::Unexpected {
            what: "a step".into(),
            expected: "JSON".into(),
            found: e.to_string(),
        })?)
    }

    /// From the journal.
    pub fn from_json(value: &Value) -> Result<Self> {
        Ok(serde_json::from_value(value.clone()).map_err(|e| ErrorKind::Unexpected {
            what: "journal: a step".into(),
            expected: "a step of this version".into(),
            found: e.to_string(),
        })?)
    }

    /// The phase that a run is in while it does this.
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Store
            | Self::Engine
            | Self::Images
            | Self::Network
            | Self::Secrets
            | Self::Backup
            | Self::Volumes
            | Self::Render => Phase::Staging,
            Self::Stop | Self::Sync | Self::Switch => Phase::Switching,
            Self::Start { .. } | Self::Migrate { .. } | Self::Load { .. } | Self::Health | Self::Commit => Phase::Trial,
            Self::Clear | Self::Uninstall { .. } | Self::Sweep => Phase::Committed,
        }
    }

    /// For a person.
    pub fn title(&self) -> String {
        match self {
            Self::Store => "prove every byte and store it".into(),
            Self::Engine => "find the engine".into(),
            Self::Images => "hand the images to the engine".into(),
            Self::Network => "make the network".into(),
            Self::Secrets => "make missing secrets".into(),
            Self::Backup => "back up the running release".into(),
            Self::Volumes => "make volumes, copy data while it is in use".into(),
            Self::Render => "write workloads and units".into(),
            Self::Stop => "stop the running release".into(),
            Self::Sync => "copy what changed since".into(),
            Self::Switch => "switch".into(),
            Self::Start { workload } => format!("start {workload}"),
            Self::Migrate { name } => format!("migrate: {name}"),
            Self::Load { claim } => format!("load the backup of {claim}"),
            Self::Health => "wait for health, checks and a quiet window".into(),
            Self::Commit => "commit".into(),
            Self::Uninstall { with_data: false } => "stop and remove; data is kept".into(),
            Self::Uninstall { with_data: true } => "stop and remove, data too".into(),
            Self::Sweep => "remove its images and blobs".into(),
            Self::Clear => "clear what is not needed any more".into(),
        }
    }

    /// What happens if it goes wrong here.
    pub fn way_back(&self, after: &Return) -> String {
        match (self.phase(), after) {
            (Phase::Committed, after) => format!("no way back by itself; {}", after.text()),
            (Phase::Staging, Return::Nothing) => "undone; nothing ran before".into(),
            (Phase::Staging, _) => "undone; the running release is not touched".into(),
            (_, Return::Nothing) => "undone; nothing is left of it".into(),
            _ => "undone; the former release starts again on its own data".into(),
        }
    }
}

/// What a rollback can do once a change is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// It brings the release that ran before.
    Former,
    /// Nothing ran before.
    Nothing,
    /// The product is off the machine then.
    Gone,
    /// The site keeps no former releases.
    NotKept,
    /// Its manifest is not trusted any more.
    Revoked,
    /// Its security epoch is below the floor that the change sets.
    Epoch {
        /// Of the release that ran before.
        former: u64,
        /// What is below is refused.
        floor: u64,
    },
}

impl Return {
    /// For a person.
    fn text(&self) -> String {
        match self {
            Self::Former => "rollback brings the former release".into(),
            Self::Nothing => "there is no former release; resume finishes it".into(),
            Self::Gone => "resume finishes it".into(),
            Self::NotKept => "rollback is refused: this site keeps no former release (keep-generations 0)".into(),
            Self::Revoked => "rollback is refused: the former release is revoked".into(),
            Self::Epoch { former, floor } => {
                format!(
                    "rollback is refused: the former release has security epoch {former}, the floor is {floor} then"
                )
            }
        }
    }
}

/// Migrations between two sequences, in order.
pub fn migrations(lifecycle: &Lifecycle, from: u64) -> impl Iterator<Item = &bundle_format::lifecycle::Migration> {
    lifecycle.migrations.iter().filter(move |migration| migration.since > from)
}

/// The steps that bring `manifest` into force over what runs.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// What comes.
    pub manifest: &'a Manifest,
    /// Sequence of what runs; nothing runs where there is none.
    pub over: Option<u64>,
    /// Whether it comes from a bundle, or is kept here already.
    pub origin: Origin,
    /// Claims that are loaded from a backup once their database runs.
    pub loads: &'a [String],
}

/// Where the new generation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A bundle.
    Bundle,
    /// This machine: an earlier generation or the same one with other data.
    Kept,
}

impl Recipe<'_> {
    /// The steps in order.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.origin == Origin::Bundle {
            steps.extend([Step::Store, Step::Engine]);
        }
        steps.extend([Step::Images, Step::Network, Step::Secrets]);
        if self.over.is_some() && self.origin == Origin::Bundle {
            steps.push(Step::Backup);
        }
        steps.extend([Step::Volumes, Step::Render, Step::Stop, Step::Sync, Step::Switch]);
        let start = |workload: &bundle_format::manifest::Workload| Step::Start { workload: workload.name.clone() };
        steps.extend(self.manifest.workloads.iter().map(start));
        if let Some(from) = self.over.filter(|_| self.origin == Origin::Bundle) {
            let migrate = |m: &bundle_format::lifecycle::Migration| Step::Migrate { name: m.name.clone() };
            steps.extend(migrations(&self.manifest.lifecycle, from).map(migrate));
        }
        steps.extend(self.loads.iter().map(|claim| Step::Load { claim: claim.clone() }));
        steps.extend([Step::Health, Step::Commit, Step::Clear]);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_the_journal_and_phases_only_go_forward() {
        let json = serde_json::json!({
            "format": bundle_format::manifest::FORMAT, "product": "p", "release": "1", "sequence": 3,
            "marking": "UNCLASSIFIED", "platform": "linux/amd64", "title": "t", "created": "2026-01-01T00:00:00Z",
            "expires": null, "requires": {"memory_mib": 0, "disk_mib": 0},
            "lifecycle": {"migrations": [{"name": "two", "since": 2, "container": "c", "up": ["x"]}, {"name": "three", "since": 3, "container": "c", "up": ["x"]}]},
            "network": {"name": "n", "internal": true},
            "images": [], "secrets": [], "workloads": [], "files": [], "runtime": [], "attachments": [], "bases": [], "packs": [],
        });
        let manifest = bundle_format::manifest::parse(json.to_string().as_bytes()).unwrap();
        let order = [Phase::Staging, Phase::Switching, Phase::Trial, Phase::Committed];
        for (over, origin, migrated) in [
            (None, Origin::Bundle, 0),
            (Some(1), Origin::Bundle, 2),
            (Some(2), Origin::Bundle, 1),
            (Some(1), Origin::Kept, 0),
        ] {
            let loads = ["data".to_owned()];
            let steps = Recipe { manifest: &manifest, over, origin, loads: &loads }.steps();
            let mut reached = 0;
            for step in &steps {
                assert_eq!(Step::from_json(&step.to_json().unwrap()).unwrap(), *step);
                let place = order.iter().position(|phase| *phase == step.phase()).unwrap();
                assert!(place >= reached, "{step:?}");
                reached = place;
            }
            assert_eq!(steps.iter().filter(|step| matches!(step, Step::Migrate { .. })).count(), migrated);
            assert_eq!(steps.contains(&Step::Backup), over.is_some() && origin == Origin::Bundle);
        }
        let unknown = serde_json::json!({"step": "hope"});
        assert!(matches!(Step::from_json(&unknown).unwrap_err().kind(), ErrorKind::Unexpected { .. }));
    }
}
