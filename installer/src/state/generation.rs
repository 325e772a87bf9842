//! A generation as the journal has it.

use bundle_format::manifest::Manifest;

use crate::error::Result;

/// Where a generation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationState {
    /// Being installed.
    Staged,
    /// What runs.
    Active,
    /// Was active; another followed.
    Superseded,
    /// Did not become active.
    Failed,
    /// Taken off the machine.
    Removed,
}

impl GenerationState {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }
}

/// A generation as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number on this machine.
    pub id: i64,
    /// Product.
    pub product: String,
    /// Version for people.
    pub release: String,
    /// Anti-rollback counter.
    pub sequence: u64,
    /// Marking.
    pub marking: String,
    /// The signed manifest's exact bytes.
    pub manifest: Vec<u8>,
    /// Their SHA-384.
    pub manifest_sha384: String,
    /// When it came to its state.
    pub changed_at: String,
    /// Where it stands, in the journal's word.
    pub state: String,
}

impl Generation {
    /// The manifest. Its bytes were proved when they were recorded.
    pub fn parse(&self) -> Result<Manifest> {
        Ok(bundle_format::manifest::parse(&self.manifest)?)
    }
}
