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
mod reading;
pub mod rpm;
pub mod spdx;

use std::collections::{BTreeMap, BTreeSet};

pub use reading::Readings;

use bundle_format::attachment::{Attachment, Origin};
use bundle_format::digest::Sha256;
use bundle_format::lock::LockedImage;
use bundle_format::oci;
use bundle_format::timestamp::Timestamp;

use crate::collect::{BlobKind, Collected};
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

    /// The layers to be read for the images that have no SBOM.
    pub fn readings(&self) -> Result<Readings> {
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
        Readings::of(self, &images)
    }

    /// Adds an SBOM of each image that has none, when all its layers were read.
    pub fn add_sboms(&mut self, readings: &Readings) -> Result<()> {
        for (name, image, tree) in readings.trees() {
            let subject = Subject { name, digest: image, created: &self.lock.created };
            let bytes = spdx::document(&subject, &in_tree(&tree))?;
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

    /// The layers of an image, lowest first: what names each in errors, its stored digest and its `DiffID`.
    fn layers(&self, image: &LockedImage) -> Result<Vec<(String, (Sha256, Sha256))>> {
        let blobs: BTreeSet<Sha256> =
            self.blobs.iter().filter(|blob| blob.kind == BlobKind::Layer).map(|blob| blob.digest).collect();
        let diff_ids = self.diff_ids(image)?;
        let layers = image.blobs.iter().map(|blob| blob.digest).filter(|digest| blobs.contains(digest));
        layers
            .map(|digest| {
                let what = format!("image {}: layer {digest}", image.name);
                let missing = || malformed(&what, "its manifest does not name it".into());
                let diff_id = *diff_ids.get(&digest).ok_or_else(missing)?;
                Ok((what, (digest, diff_id)))
            })
            .collect()
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
