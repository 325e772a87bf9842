//! Documents that travel with a release and say what it is: SBOMs of its images, its provenance
//! (spec 5.3).
//!
//! What may hurt it: a document about another image, two that contradict each other, a name that
//! becomes a path (CVE-2026-40090). Who defends: an SBOM names its image by digest and has no file
//! name at all, [`check`] refuses doubles, and what is shown of a document is escaped.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::manifest::{Image, Manifest};
use crate::name::check_file_name;
use crate::{ErrorKind, Result};

/// A document about the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Attachment {
    /// What is inside an image.
    Sbom {
        /// The image's digest, as in `images`.
        image: Sha256,
        /// Such as `spdx-2.3` or `cyclonedx-1.6`; the list is open.
        format: String,
        /// Who made it.
        origin: Origin,
        /// Its blob.
        digest: Sha256,
    },
    /// How the bundle was built: an in-toto statement in a DSSE envelope ([`crate::provenance`]).
    Provenance {
        /// Its blob.
        digest: Sha256,
    },
}

/// Who made an SBOM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The image's publisher attached it.
    Publisher,
    /// The bundle builder made it of the image's package databases.
    Builder,
}

impl Origin {
    /// The word in documents.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Builder => "builder",
        }
    }
}

impl Attachment {
    /// The document's blob.
    pub const fn digest(&self) -> &Sha256 {
        match self {
            Self::Sbom { digest, .. } | Self::Provenance { digest } => digest,
        }
    }
}

/// Checks the attachments of a manifest among themselves and against its images (R-MAN-10).
pub(crate) fn check(manifest: &Manifest) -> Result<()> {
    let inconsistent = |why: String| ErrorKind::Inconsistent { what: "manifest".into(), why };
    let images: BTreeSet<Sha256> = manifest.images.iter().map(|image| image.digest).collect();
    let (mut seen, mut provenance) = (BTreeSet::new(), 0);
    for attachment in &manifest.attachments {
        match attachment {
            Attachment::Sbom { image, format, .. } => {
                check_file_name("SBOM format", format)?;
                if !images.contains(image) {
                    return Err(inconsistent(format!("an SBOM is about {image}, which is no image of it")).into());
                }
                if !seen.insert(*image) {
                    return Err(inconsistent(format!("image {image} has two SBOMs")).into());
                }
            }
            Attachment::Provenance { .. } => provenance += 1,
        }
    }
    if provenance > 1 {
        return Err(inconsistent(format!("it has {provenance} provenance statements")).into());
    }
    Ok(())
}

/// The SBOM of an image: format, who made it, its blob.
pub fn sbom_of<'a>(manifest: &'a Manifest, image: &Image) -> Option<(&'a str, Origin, Sha256)> {
    manifest.attachments.iter().find_map(|attachment| match attachment {
        Attachment::Sbom { image: about, format, origin, digest } if *about == image.digest => {
            Some((format.as_str(), *origin, *digest))
        }
        _ => None,
    })
}

/// The provenance statement's blob.
pub fn provenance_of(manifest: &Manifest) -> Option<Sha256> {
    manifest.attachments.iter().find_map(|attachment| match attachment {
        Attachment::Provenance { digest } => Some(*digest),
        Attachment::Sbom { .. } => None,
    })
}

/// Site policy `sbom`: every image has an SBOM. For a manifest that is proved already.
pub fn require_sboms(manifest: &Manifest) -> Result<()> {
    match manifest.images.iter().find(|image| sbom_of(manifest, image).is_none()) {
        Some(image) => {
            Err(ErrorKind::Requirement { requirement: "sbom", why: format!("image {} has none", image.reference()) }
                .into())
        }
        None => Ok(()),
    }
}

/// Site policy `provenance`: the release has a provenance statement. For a manifest that is proved
/// already; what the statement says is checked when its blob is read ([`crate::provenance::check`]).
pub fn require_provenance(manifest: &Manifest) -> Result<()> {
    require_statement(manifest, "provenance")
}

/// Site policy `signed-provenance`, as far as a manifest can tell: there is a statement. Who signed it
/// is asked when its blob is read ([`crate::provenance::require_signed`]).
pub fn require_signed_provenance(manifest: &Manifest) -> Result<()> {
    require_statement(manifest, crate::provenance::SIGNED)
}

fn require_statement(manifest: &Manifest, requirement: &'static str) -> Result<()> {
    if provenance_of(manifest).is_some() {
        return Ok(());
    }
    Err(ErrorKind::Requirement { requirement, why: "the release has no provenance".into() }.into())
}
