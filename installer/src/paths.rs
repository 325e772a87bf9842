//! Where the installer keeps things: one folder, given once.

use std::path::{Path, PathBuf};

/// The state folder and what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    state: PathBuf,
    scratch: PathBuf,
}

/// The state folder unless another is given.
pub const DEFAULT: &str = "/var/lib/lockgate";

impl Paths {
    /// Everything below `state`.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        let state = state.into();
        let scratch = state.join("scratch");
        Self { state, scratch }
    }

    /// The same, with short-lived files elsewhere.
    #[must_use]
    pub fn with_scratch(mut self, folder: &Path) -> Self {
        self.scratch = PathBuf::from(folder);
        self
    }

    /// The state folder itself.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.state.join("state.db")
    }

    /// The second copy of the database.
    pub fn database_copy(&self) -> PathBuf {
        self.state.join("state.db.copy")
    }

    /// The audit log's folder; a link where the log has a file system of its own.
    pub fn audit(&self) -> PathBuf {
        self.state.join("audit")
    }

    /// The private key of this machine, which signs the audit log's head.
    pub fn appliance_key(&self) -> PathBuf {
        self.state.join("keys/appliance.key")
    }

    /// The site's policy.
    pub fn policy(&self) -> PathBuf {
        self.state.join("policy.yaml")
    }

    /// The lock file of the one installer.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// The content-addressed store, an OCI image layout.
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    /// Bundles that arrived, and those that are on their way.
    pub fn inbox(&self) -> PathBuf {
        self.state.join("inbox")
    }

    /// Configuration files for the engine.
    pub fn engine(&self) -> PathBuf {
        self.state.join("engine")
    }

    /// Layers on their way into the engine.
    pub fn copies(&self) -> PathBuf {
        self.engine().join("copies")
    }

    /// Rendered workloads of all products.
    pub fn generations(&self) -> PathBuf {
        self.state.join("generations")
    }

    /// Rendered workloads of one generation of a product.
    pub fn generation(&self, product: &str, generation: i64) -> PathBuf {
        self.state.join("generations").join(product).join(generation.to_string())
    }

    /// The link that names the generation of a product that runs: the one atomic switch.
    pub fn current(&self, product: &str) -> PathBuf {
        self.state.join("generations").join(product).join("current")
    }

    /// This program's own copy, for units that run without the medium.
    pub fn program(&self) -> PathBuf {
        self.state.join("bin/installer")
    }

    /// Backups of a product.
    pub fn backups(&self, product: &str) -> PathBuf {
        self.state.join("backups").join(product)
    }

    /// Logs kept for a person.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Public certificates that were made here.
    pub fn tls(&self) -> PathBuf {
        self.state.join("tls")
    }

    /// Short-lived files.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.clone()
    }
}
