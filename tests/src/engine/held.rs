//! What the simulated engine holds, in one file that is replaced as a whole under a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The engine's state.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Held {
    /// Images by `name@digest`.
    pub images: BTreeMap<String, Image>,
    /// Volumes; the content of each lies in `volumes/NAME/_data`.
    pub volumes: BTreeSet<String>,
    /// Networks by name.
    pub networks: BTreeMap<String, Network>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, String>,
    /// Pods by name.
    pub pods: BTreeMap<String, Pod>,
    numbers: u64,
    #[serde(skip)]
    folder: PathBuf,
    #[serde(skip)]
    lock: Option<File>,
    #[serde(skip)]
    saved: Vec<u8>,
}

/// An image that was pulled whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its platform manifest.
    pub manifest: String,
    /// Digest of its config, podman's image id.
    pub config: String,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its label.
    pub label: String,
    /// Its bridge.
    pub bridge: String,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its network.
    pub network: String,
    /// Ports that it holds on the host.
    pub ports: Vec<u64>,
    /// Volumes of its claims.
    pub claims: Vec<String>,
    /// Volumes of its `ConfigMaps`.
    pub config_maps: Vec<String>,
    /// Whether it is held still.
    pub paused: bool,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// `POD-NAME`.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its image, `name@digest`.
    pub image: String,
    /// Digest of its image.
    pub digest: String,
    /// Whether its process runs.
    pub running: bool,
    /// A number for the time of its start.
    pub started: u64,
    /// How often it was restarted.
    pub restarts: u64,
    /// `starting`, `healthy` or `unhealthy`; none without a probe.
    pub health: Option<String>,
}

/// What misbehaves, images by digest: `knobs.json` in the engine's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Their probe never passes.
    pub unhealthy: BTreeSet<String>,
    /// They restart whenever somebody looks.
    pub restarting: BTreeSet<String>,
    /// They do not start.
    pub broken: BTreeSet<String>,
    /// So many dumps lose their end, and the engine says that they went well.
    pub lossy_dumps: usize,
}

impl Knobs {
    /// Sets the knobs of the engine in `folder`.
    pub fn set(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("knobs.json"), serde_json::to_vec(self).unwrap()).unwrap();
    }
}

impl Pod {
    /// Every volume that it uses.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().chain(&self.config_maps).map(String::as_str)
    }
}

impl Held {
    /// Takes the lock and reads the state; the folder is made if it is missing.
    pub fn lock(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("volumes")).unwrap();
        std::fs::create_dir_all(folder.join("storage")).unwrap();
        let lock =
            File::options().create(true).truncate(false).write(true).open(folder.join("lock")).expect("engine: lock");
        lock.lock().expect("engine: lock");
        let mut held = Self::read(folder);
        held.lock = Some(lock);
        held
    }

    /// Reads the state without the lock: replacing the file is atomic.
    pub fn read(folder: &Path) -> Self {
        let saved = std::fs::read(folder.join("held.json")).unwrap_or_default();
        let mut held: Self =
            if saved.is_empty() { Self::default() } else { serde_json::from_slice(&saved).expect("engine: state") };
        (held.folder, held.saved) = (folder.to_owned(), saved);
        held
    }

    /// Replaces the file, if anything changed.
    pub fn save(&mut self) {
        assert!(self.lock.is_some(), "only under the lock");
        let bytes = serde_json::to_vec(self).unwrap();
        if bytes != self.saved {
            let next = self.folder.join("held.json.next");
            std::fs::write(&next, &bytes).unwrap();
            std::fs::rename(&next, self.folder.join("held.json")).unwrap();
            self.saved = bytes;
        }
    }

    /// Where the state lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The knobs that are set.
    pub fn knobs(&self) -> Knobs {
        std::fs::read(self.folder.join("knobs.json"))
            .map(|bytes| serde_json::from_slice(&bytes).expect("engine: knobs"))
            .unwrap_or_default()
    }

    /// A number that was never given before: ids and times.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Where a volume's content lies.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.folder.join("volumes").join(name).join("_data")
    }

    /// Makes an empty volume.
    pub fn make_volume(&mut self, name: &str) {
        std::fs::create_dir_all(self.volume(name)).unwrap();
        self.volumes.insert(name.to_owned());
    }

    /// Removes a volume with its content.
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
        std::fs::remove_dir_all(self.folder.join("volumes").join(name)).unwrap();
    }

    /// Every container.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.pods.values().flat_map(|pod| &pod.containers)
    }

    /// A container by name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers().find(|container| container.name == name)
    }

    /// The pod of a container.
    pub fn pod_of(&self, container: &str) -> Option<&Pod> {
        self.pods.values().find(|pod| pod.containers.iter().any(|own| own.name == container))
    }
}
