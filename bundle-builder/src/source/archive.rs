//! `docker-archive:` a tar as `docker save` writes it.
//!
//! Newer docker also puts an OCI layout into the tar: then its documents and digests are used. An
//! older one holds only `manifest.json`, a config and plain layers: then an OCI manifest is made
//! from these, the same bytes each time.

use std::collections::BTreeMap;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha256;
use bundle_format::oci;
use bundle_format::release::Source;
use bundle_format::{json, limits};
use confinement::open_regular;
use serde::{Deserialize, Serialize};

use super::files::Watched;
use super::{BlobRef, ImageSource, check_bytes, layout, length, malformed, read_document};
use crate::members::each_member;
use crate::{Error, ErrorKind, Result};

/// Where a member's bytes lie in the tar.
#[derive(Debug, Clone, Copy)]
struct Span {
    offset: u64,
    size: u64,
}

/// An opened archive: only the places of its members are held.
#[derive(Debug)]
pub(super) struct DockerArchive {
    path: PathBuf,
    what: String,
    members: BTreeMap<String, Span>,
    plain: Option<Plain>,
}

/// An archive without an OCI layout: the manifest that we made, and where its blobs lie.
#[derive(Debug)]
struct Plain {
    manifest: Vec<u8>,
    blobs: BTreeMap<Sha256, Span>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

#[derive(Serialize)]
struct MadeManifest<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    config: MadeDescriptor<'a>,
    layers: Vec<MadeDescriptor<'a>>,
}

#[derive(Serialize)]
struct MadeDescriptor<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    digest: Sha256,
    size: u64,
}

#[derive(Deserialize)]
struct ConfigPlatform {
    rootfs: DiffIds,
}

#[derive(Deserialize)]
struct DiffIds {
    diff_ids: Vec<Sha256>,
}

impl DockerArchive {
    pub(super) fn open(path: &Path, source: &Source) -> Result<Self> {
        let what = source.to_string();
        let members = list_members(path, &what)?;
        let mut archive = Self { path: path.into(), what, members, plain: None };
        if archive.members.contains_key("oci-layout") && archive.members.contains_key("index.json") {
            layout::check_marker(&archive.document("oci-layout")?, &archive.what)?;
        } else {
            archive.plain = Some(archive.make_manifest()?);
        }
        Ok(archive)
    }

    /// Makes an OCI manifest from `manifest.json`. The layers' digests are the config's `diff_ids`
    /// because the layers are not compressed; each is checked when the layer is read.
    fn make_manifest(&self) -> Result<Plain> {
        let limit = limits::OCI_DOCUMENT_BYTES;
        let entries: Vec<Entry> = json::parse("manifest.json", &self.document("manifest.json")?, limit)?;
        let [entry] = entries.as_slice() else {
            return Err(malformed(&self.what, format!("expected one image, found {}", entries.len())));
        };
        let config = self.document(&entry.config)?;
        let diff_ids = json::parse::<ConfigPlatform>("image config", &config, limit)?.rootfs.diff_ids;
        if diff_ids.len() != entry.layers.len() {
            let why = format!("config names {} layers, manifest.json {}", diff_ids.len(), entry.layers.len());
            return Err(malformed(&self.what, why));
        }
        let config_digest = Sha256::of(&config);
        let mut blobs = BTreeMap::from([(config_digest, self.span(&entry.config)?)]);
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (digest, name) in diff_ids.into_iter().zip(&entry.layers) {
            let span = self.span(name)?;
            layers.push(MadeDescriptor { media_type: oci::OCI_LAYER_TAR, digest, size: span.size });
            blobs.insert(digest, span);
        }
        let config = MadeDescriptor { media_type: oci::OCI_CONFIG, digest: config_digest, size: length(&config) };
        let made = MadeManifest { schema_version: 2, media_type: oci::OCI_MANIFEST, config, layers };
        Ok(Plain { manifest: json::to_bytes("image manifest", &made)?, blobs })
    }

    fn span(&self, name: &str) -> Result<Span> {
        let absent =
            || malformed(&self.what, format!("it has no member {:?}", name.chars().take(200).collect::<String>()));
        self.members.get(name).copied().ok_or_else(absent)
    }

    fn read_span(&self, span: Span) -> Result<Box<dyn Read + Send>> {
        let io = |error| Error::io(self.what.clone(), error);
        let mut file = open_regular(&self.path).map_err(io)?;
        file.seek(SeekFrom::Start(span.offset)).map_err(io)?;
        Ok(Box::new(file.take(span.size)))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        read_document(self.read_span(self.span(name)?)?, &self.what)
    }
}

impl ImageSource for DockerArchive {
    fn what(&self) -> String {
        self.what.clone()
    }

    fn top(&self) -> Result<Option<(Vec<u8>, String)>> {
        if let Some(plain) = &self.plain {
            return Ok(Some((plain.manifest.clone(), oci::OCI_MANIFEST.into())));
        }
        let Some(entry) = layout::choose(&self.document("index.json")?, None, &self.what)? else {
            return Ok(None);
        };
        let blob = BlobRef { digest: entry.digest, size: entry.size, media_type: entry.media_type };
        let bytes = read_document(self.blob(&blob)?, &self.what)?;
        check_bytes(&self.what, &blob, &bytes)?;
        Ok(Some((bytes, blob.media_type)))
    }

    fn blob(&self, blob: &BlobRef) -> Result<Box<dyn Read + Send>> {
        let span = match &self.plain {
            Some(plain) => plain.blobs.get(&blob.digest),
            None => self.members.get(&format!("blobs/sha256/{}", blob.digest.hex())),
        };
        let missing = || ErrorKind::BlobMissing { what: self.what.clone(), digest: blob.digest };
        self.read_span(*span.ok_or_else(missing)?)
    }
}

/// Names and places of the regular files in the tar. A link to a member (docker writes them for
/// layers that images share) stands for the member; a doubled name is refused.
fn list_members(path: &Path, what: &str) -> Result<BTreeMap<String, Span>> {
    let mut members = BTreeMap::new();
    let mut links = Vec::new();
    each_member(what, Watched::open(path)?, limits::LAYER_ENTRIES, &mut |entry| {
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| malformed(what, "a member's name is not UTF-8"))?;
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let span = Span { offset: entry.raw_file_position(), size: entry.size() };
            if members.insert(name.clone(), span).is_some() {
                return Err(malformed(what, format!("two members are named {name:?}")));
            }
        } else if let (true, Some(target)) = (kind.is_symlink(), entry.link_name_bytes()) {
            links.push((name, String::from_utf8_lossy(&target).into_owned()));
        }
        Ok(())
    })?;
    for (name, target) in links {
        // docker writes `../<layer>/layer.tar` from inside a layer's directory.
        let target = target.strip_prefix("../").unwrap_or(&target);
        if let Some(span) = members.get(target).copied() {
            members.entry(name).or_insert(span);
        }
    }
    Ok(members)
}
