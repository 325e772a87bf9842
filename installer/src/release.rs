//! A release's workloads as the engine gets them: parsed out of the store, rendered, written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle_format::manifest::{Image, Manifest};
pub use bundle_format::workload::{Container, Pod, Port, Protocol, Workload};

use crate::atomic::{self, Access};
use crate::error::Result;
use crate::store::Store;

/// All workloads of a release with its images.
#[derive(Debug, Clone)]
pub struct Release {
    /// Images by reference.
    pub images: Vec<Image>,
    /// Workloads in start order.
    pub workloads: Vec<Workload>,
}

/// A workload's file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadFile {
    /// Name.
    pub name: String,
    /// The YAML.
    pub path: PathBuf,
    /// Its pods' names.
    pub pods: Vec<String>,
    /// Its `ConfigMaps`' names.
    pub config_maps: Vec<String>,
}

impl Release {
    /// Parses the workloads of `manifest` out of the store.
    pub fn load(manifest: &Manifest, store: &Store) -> Result<Self> {
        Self::parse(manifest, |digest| store.read_small(digest, bundle_format::limits::YAML_BYTES))
    }

    /// Parses the workloads of `manifest`; `read` gives a blob's proved bytes.
    pub fn parse(
        manifest: &Manifest,
        mut read: impl FnMut(&bundle_format::digest::Sha256) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let mut workloads = Vec::new();
        for entry in &manifest.workloads {
            let bytes = read(&entry.digest)?;
            workloads.push(Workload::read(&entry.name, &bytes)?);
        }
        bundle_format::workload::check(&workloads, &manifest.images, &manifest.secrets, &manifest.lifecycle)?;
        Ok(Self { images: manifest.images.clone(), workloads })
    }

    /// Pods that mount a claim.
    pub fn pods_of(&self, claim: &str) -> Vec<String> {
        let pods = self.workloads.iter().flat_map(|workload| &workload.pods);
        pods.filter(|pod| pod.claims.iter().any(|own| own == claim)).map(|pod| pod.name.clone()).collect()
    }

    /// The manifest's image of a container.
    pub fn image_of(&self, container: &Container) -> Option<&Image> {
        self.images.iter().find(|image| image.reference() == container.image)
    }

    /// Volumes of all workloads.
    pub fn volumes(&self) -> Vec<String> {
        self.workloads.iter().flat_map(|workload| workload.volumes.clone()).collect()
    }

    /// Containers of all workloads.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.workloads.iter().flat_map(|workload| &workload.pods).flat_map(|pod| &pod.containers)
    }

    /// Host ports of all workloads.
    pub fn ports(&self) -> Vec<Port> {
        self.workloads.iter().flat_map(|workload| &workload.pods).flat_map(|pod| pod.ports.clone()).collect()
    }

    /// Writes the workloads into `folder`, each claim under the name of the engine's volume.
    pub fn write(&self, folder: &Path, volumes: &BTreeMap<String, String>) -> Result<()> {
        for (workload, file) in self.workloads.iter().zip(self.files(folder)) {
            atomic::write(&file.path, workload.render(volumes)?.as_bytes(), Access::Public)?;
        }
        Ok(())
    }

    /// Where [`Release::write`] puts the workloads, as seen through `folder`.
    pub fn files(&self, folder: &Path) -> Vec<WorkloadFile> {
        let file = |workload: &Workload| WorkloadFile {
            name: workload.name.clone(),
            path: folder.join(format!("{}.yaml", workload.name)),
            pods: workload.pods.iter().map(|pod| pod.name.clone()).collect(),
            config_maps: workload.config_maps.clone(),
        };
        self.workloads.iter().map(file).collect()
    }
}
