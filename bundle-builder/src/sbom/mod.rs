//! What is inside an image: its SBOM as the publisher attached it, else one made of the package
//! databases in its layers (`docs/adr/0018-provenance.md`).
//!
//! What may hurt it: layers are untrusted archives (bombs, links, names that climb, databases that
//! lie or are broken). Who defends: nothing is unpacked, [`layers`] keeps a few known files in memory
//! within limits, links are never followed, and what cannot be read is named in the document rather
//! than left out silently. An SBOM is a claim about an image, never a proof: the digests are that.

pub mod databases;
pub mod golang;
pub mod layers;
pub mod published;
pub mod rpm;
pub mod spdx;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use bundle_format::attachment::{Attachment, Origin};
use bundle_format::digest::Sha256;
use bundle_format::lock::LockedImage;
use bundle_format::oci;
use bundle_format::parallel;
use bundle_format::timestamp::Timestamp;

use crate::collect::{BlobKind, Collected, CollectedBlob};
use crate::error::{Error, ErrorKind, Result};

/// Where a package is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Debian's dpkg.
    Deb,
    /// Alpine's apk.
    Apk,
    /// rpm.
    Rpm,
    /// A Python distribution (`*.dist-info`).
    Python,
    /// A Go module that a program was built of.
    Go,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Where it is from.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, where the database says one.
    pub arch: Option<String>,
    /// What it says of its licence, word for word.
    pub licence: Option<String>,
}

/// What was found in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// `ID` and `VERSION_ID` of the image's `os-release`.
    pub os: Option<(String, String)>,
    /// Packages, sorted, without doubles.
    pub packages: Vec<Package>,
    /// Files that hold packages but could not be read, and why.
    pub unread: Vec<String>,
}

/// The image that a document is about.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// `registry/repository:tag`.
    pub name: &'a str,
    /// Its digest.
    pub digest: Sha256,
    /// The document's time: the lock's.
    pub created: &'a Timestamp,
}

/// `format` of the SBOMs that are made here.
const FORMAT: &str = "spdx-2.3";

impl Collected {
    /// Stored bytes of the layers of images that have no published SBOM, each counted once.
    pub fn unknown_layer_bytes(&self) -> u64 {
        let unknown: BTreeSet<Sha256> = self
            .lock
            .images
            .iter()
            .filter(|image| image.sbom.is_none())
            .flat_map(|image| image.blobs.iter().map(|blob| blob.digest))
            .collect();
        let layers = self.blobs.iter().filter(|blob| blob.kind == BlobKind::Layer && unknown.contains(&blob.digest));
        layers.map(|blob| blob.size).sum()
    }

    /// Makes an SBOM for each image that has none. The layers are read once more for it, `jobs` at a time,
    /// and one that several images have only once.
    pub fn add_sboms(&mut self, jobs: usize, progress: &mut (dyn FnMut(u64) + Send)) -> Result<()> {
        let mut have: BTreeSet<Sha256> = self
            .manifest_without_packs
            .attachments
            .iter()
            .filter_map(|attachment| match attachment {
                Attachment::Sbom { image, .. } => Some(*image),
                Attachment::Provenance { .. } => None,
            })
            .collect();
        let images: Vec<&LockedImage> = self.lock.images.iter().filter(|image| have.insert(image.digest)).collect();
        let layers = images.iter().map(|image| self.layers(image)).collect::<Result<Vec<_>>>()?;
        let found = read_layers(jobs, &layers, progress)?;
        let mut made = Vec::new();
        for (image, layers) in images.iter().zip(&layers) {
            let mut tree = layers::Tree::default();
            for layer in layers.iter().filter_map(|layer| found.get(&layer.key())) {
                tree.add(layer);
            }
            let subject = Subject { name: &image.name, digest: image.digest, created: &self.lock.created };
            made.push((image.digest, spdx::document(&subject, &in_tree(&tree))?));
        }
        for (image, bytes) in made {
            let limit = bundle_format::limits::SBOM_BYTES;
            let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if found > limit {
                let what = format!("the SBOM of image {image}");
                return Err(ErrorKind::Format(bundle_format::ErrorKind::TooLarge { what, limit, found }.into()).into());
            }
            let digest = Sha256::of(&bytes);
            self.attach(Attachment::Sbom { image, format: FORMAT.into(), origin: Origin::Builder, digest }, bytes);
        }
        Ok(())
    }
}

/// A layer of an image, to be read.
struct Unread<'a> {
    what: String,
    blob: &'a CollectedBlob,
    diff_id: Sha256,
}

impl Unread<'_> {
    /// One that two images name alike is read once.
    const fn key(&self) -> (Sha256, Sha256) {
        (self.blob.digest, self.diff_id)
    }
}

/// Reads each of the images' layers once; `progress` is told stored bytes. What is kept of all layers of
/// an image together is bounded while they are read.
fn read_layers(
    jobs: usize,
    images: &[Vec<Unread<'_>>],
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<BTreeMap<(Sha256, Sha256), layers::Found>> {
    let kept: Vec<layers::Kept> = images.iter().map(|_| layers::Kept::default()).collect();
    let mut unread: BTreeMap<(Sha256, Sha256), (&Unread<'_>, Vec<&layers::Kept>)> = BTreeMap::new();
    for (layers, kept) in images.iter().zip(&kept) {
        for layer in layers {
            unread.entry(layer.key()).or_insert_with(|| (layer, Vec::new())).1.push(kept);
        }
    }
    let unread: Vec<(&Unread<'_>, Vec<&layers::Kept>)> = unread.into_values().collect();
    let progress = Mutex::new(progress);
    let found = parallel::map_longest_first(
        jobs,
        &unread,
        |(layer, _)| layer.blob.size,
        |_, (layer, images)| {
            let what = layer.what.clone();
            // What it decodes to is proved by its DiffID, so that the stored bytes need not be hashed here:
            // they are when they are packed.
            let content = layer.blob.open_unproved()?;
            let layer_found = layers::Found::read(
                layers::Limits::default(),
                layers::Layer { what: what.clone(), diff_id: layer.diff_id, content },
                images,
            );
            let layer_found = layer_found.or_else(|error| {
                // Bytes that are not the layer's say more than what they happen to decode to.
                io::copy(&mut layer.blob.open()?, &mut io::sink()).map_err(|e| Error::io(what, e))?;
                Err(error)
            })?;
            progress.lock().unwrap_or_else(PoisonError::into_inner)(layer.blob.size);
            Ok::<_, Error>(layer_found)
        },
    )?;
    Ok(unread.iter().map(|(layer, _)| layer.key()).zip(found).collect())
}

impl Collected {
    /// The layers of an image, lowest first.
    fn layers(&self, image: &LockedImage) -> Result<Vec<Unread<'_>>> {
        let blobs: BTreeMap<Sha256, &CollectedBlob> =
            self.blobs.iter().filter(|b| b.kind == BlobKind::Layer).map(|b| (b.digest, b)).collect();
        let diff_ids = self.diff_ids(image)?;
        let mut unread = Vec::new();
        for blob in image.blobs.iter().filter_map(|blob| blobs.get(&blob.digest)) {
            let what = format!("image {}: layer {}", image.name, blob.digest);
            let missing = || malformed(&what, "its manifest does not name it".into());
            let diff_id = *diff_ids.get(&blob.digest).ok_or_else(missing)?;
            unread.push(Unread { what, blob, diff_id });
        }
        Ok(unread)
    }

    /// What each layer of an image decodes to, by the image's manifest and config.
    fn diff_ids(&self, image: &LockedImage) -> Result<BTreeMap<Sha256, Sha256>> {
        let document = |digest: &Sha256| -> Result<Vec<u8>> {
            let what = format!("image {}: {digest}", image.name);
            let found = self.blobs.iter().find(|blob| blob.kind == BlobKind::Document && blob.digest == *digest);
            let found = found.ok_or_else(|| malformed(&what, "the image lacks this document".into()))?;
            let mut bytes = Vec::new();
            found.open()?.read_to_end(&mut bytes).map_err(|error| Error::io(what, error))?;
            Ok(bytes)
        };
        let media_type = image.blobs.iter().find(|blob| blob.digest == image.manifest).map(|blob| &blob.media_type);
        let manifest = document(&image.manifest)?;
        let manifest = oci::parse_manifest(&manifest, media_type.map_or(oci::OCI_MANIFEST, String::as_str))?;
        let platform = &self.manifest_without_packs.platform;
        let diff_ids = oci::check_config(&document(&manifest.config.digest)?, platform, manifest.layers.len())?;
        let mut known = BTreeMap::new();
        for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
            if *known.entry(layer.digest).or_insert(diff_id) != diff_id {
                let why = format!("layer {} has two DiffIDs", layer.digest);
                return Err(malformed(&format!("image {}", image.name), why));
            }
        }
        Ok(known)
    }
}

fn malformed(what: &str, why: String) -> Error {
    bundle_format::Error::from(bundle_format::ErrorKind::Inconsistent { what: what.to_owned(), why }).into()
}

/// Reads the package databases in `layers`, lowest first.
pub fn inventory<'a>(
    limits: layers::Limits,
    layers: impl Iterator<Item = Result<layers::Layer<'a>>>,
) -> Result<Inventory> {
    let (mut tree, kept) = (layers::Tree::default(), layers::Kept::default());
    for layer in layers {
        tree.add(&layers::Found::read(limits, layer?, &[&kept])?);
    }
    Ok(in_tree(&tree))
}

/// What the databases in a tree say.
fn in_tree(tree: &layers::Tree) -> Inventory {
    let mut found = Inventory { os: databases::os_release(tree), ..Inventory::default() };
    databases::read(tree, &mut found);
    golang::read(tree, &mut found);
    rpm::read(tree, &mut found);
    found.packages.sort();
    found.packages.dedup();
    found.unread.sort();
    found
}
