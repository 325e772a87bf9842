//! `oci:` an OCI image layout directory (image-spec 1.1, `image-layout.md`).

use std::io::Read;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha256;
use bundle_format::limits;
use bundle_format::oci::{self, Descriptor};
use bundle_format::release::Source;
use serde::Deserialize;

use super::files::Watched;
use super::{BlobRef, ImageSource, Unread, check_bytes, malformed, read_document};
use crate::{Error, ErrorKind, Result};

/// A layout and the name asked for in it.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    reference: Option<String>,
    what: String,
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Layout {
    pub(super) fn open(root: &Path, reference: Option<&str>, source: &Source) -> Result<Self> {
        let what = source.to_string();
        let marker = Watched::open(&root.join("oci-layout"))?;
        check_marker(&read_document(marker, &what)?, &what)?;
        Ok(Self { root: root.into(), reference: reference.map(str::to_owned), what })
    }
}

/// Checks the content of a layout's `oci-layout` file.
pub(super) fn check_marker(bytes: &[u8], what: &str) -> Result<()> {
    let marker: Marker = bundle_format::json::parse("oci-layout", bytes, limits::OCI_DOCUMENT_BYTES)?;
    if marker.version == "1.0.0" {
        return Ok(());
    }
    Err(malformed(what, format!("expected image layout version 1.0.0, found {:?}", marker.version)))
}

/// The entry of a layout's `index.json` that `reference` names; the only one if it names none.
pub(super) fn choose(index: &[u8], reference: Option<&str>, what: &str) -> Result<Option<Descriptor>> {
    let index = oci::parse_index(index, oci::OCI_INDEX)?;
    let mut fitting = index.manifests.into_iter().filter(|entry| reference.is_none() || entry.ref_name() == reference);
    let chosen = fitting.next();
    match fitting.next() {
        None => Ok(chosen),
        Some(_) => Err(malformed(what, "more than one entry has this name; write oci:PATH:REF with one that has not")),
    }
}

impl ImageSource for Layout {
    fn what(&self) -> String {
        self.what.clone()
    }

    fn top(&self) -> Result<Option<(Vec<u8>, String)>> {
        let index = read_document(Watched::open(&self.root.join("index.json"))?, &self.what)?;
        let Some(entry) = choose(&index, self.reference.as_deref(), &self.what)? else {
            return Ok(None);
        };
        let blob = BlobRef { digest: entry.digest, size: entry.size, media_type: entry.media_type };
        let bytes = read_document(self.blob(&blob)?, &self.what)?;
        check_bytes(&self.what, &blob, &bytes)?;
        Ok(Some((bytes, blob.media_type)))
    }

    fn referrers(&self, subject: &Sha256) -> Result<Vec<BlobRef>> {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for entry in self.entries()? {
            let blob = super::blob_ref(&entry);
            let parsed = self.blob(&blob).and_then(|file| {
                let bytes = read_document(file, &self.what)?;
                Ok(oci::parse_artifact(&bytes)?)
            });
            match Unread::or(&self.what, parsed)? {
                Ok(artifact) if artifact.subject == Some(*subject) => found.push(blob),
                // Images lie in the same index.
                Ok(_) => {}
                // Nothing says what it is about. Whoever reads it finds the same; it takes no other's place.
                Err(_) => unread.push(blob),
            }
        }
        found.append(&mut unread);
        Ok(found)
    }

    fn tagged(&self, tag: &str) -> Result<Option<BlobRef>> {
        Ok(self.entries()?.iter().find(|entry| entry.ref_name() == Some(tag)).map(super::blob_ref))
    }

    fn blob(&self, blob: &BlobRef) -> Result<Box<dyn Read + Send>> {
        let path = self.root.join("blobs/sha256").join(blob.digest.hex());
        match Watched::open(&path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(missing(error, &self.what, blob)),
        }
    }
}

impl Layout {
    /// Every manifest of the layout's index.
    fn entries(&self) -> Result<Vec<Descriptor>> {
        let index = read_document(Watched::open(&self.root.join("index.json"))?, &self.what)?;
        let mut entries = oci::parse_index(&index, oci::OCI_INDEX)?.manifests;
        entries.retain(|entry| entry.media_type == oci::OCI_MANIFEST);
        Ok(entries)
    }
}

/// "Not found" as [`ErrorKind::BlobMissing`]; anything else as it is.
fn missing(error: Error, what: &str, blob: &BlobRef) -> Error {
    match error.kind() {
        ErrorKind::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ErrorKind::BlobMissing { what: what.into(), digest: blob.digest }.into()
        }
        _ => error,
    }
}
