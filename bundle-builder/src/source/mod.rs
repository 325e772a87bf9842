//! Where the low side takes images and files from: registries, OCI layouts, docker archives, files.
//!
//! What may hurt it: a source that gives other bytes than it was asked for, or changes between two
//! looks. Who defends: [`checked::Checked`] ends in an error on a wrong size or digest, and every
//! document is hashed before it is parsed.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle_format::digest::Sha256;
use bundle_format::release::Source;
use bundle_format::{limits, oci};

use crate::{Error, ErrorKind, Result};

mod archive;
mod challenge;
pub mod checked;
mod credentials;
pub mod files;
mod http;
mod layout;
mod registry;
mod unread;

pub use unread::Unread;

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Files with credentials, asked in this order.
    pub auth: AuthFiles,
    /// PEM file with certificate authorities that are trusted beside the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Whether a registry on loopback may be asked without TLS.
    pub plain_http: PlainHttp,
}

/// Whether plain HTTP is ever spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// Never.
    #[default]
    Refused,
    /// To loopback only, for a registry on the same machine.
    LoopbackOnly,
}

/// Files in the form of containers-auth.json(5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuthFiles {
    /// No credentials.
    #[default]
    None,
    /// This one; that it is missing is an error.
    Named(PathBuf),
    /// The first of these that names the registry; missing ones are skipped.
    Usual(Vec<PathBuf>),
}

impl AuthFiles {
    /// `named` (`--authfile`), else `REGISTRY_AUTH_FILE`, else the usual places of podman and docker.
    pub fn find(named: Option<PathBuf>, env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let env = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = named.or_else(|| env("REGISTRY_AUTH_FILE")) {
            return Self::Named(file);
        }
        let podman = env("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let docker = env("HOME").map(|dir| dir.join(".docker/config.json"));
        Self::Usual(podman.into_iter().chain(docker).collect())
    }
}

/// A blob at a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRef {
    /// Its digest.
    pub digest: Sha256,
    /// Its bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// What an image's name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Digest of the document that the name resolves to.
    pub digest: Sha256,
    /// Media type of that document.
    pub media_type: String,
    /// Digest of the manifest for the platform.
    pub manifest: Sha256,
    /// Index (if there is one), manifest, config, then layers from the lowest; without doubles.
    pub blobs: Vec<BlobRef>,
    /// The bytes of index, manifest and config, already checked.
    pub documents: BTreeMap<Sha256, Vec<u8>>,
}

/// A place that holds images.
pub trait ImageSource: Send + Sync {
    /// The source as people write it.
    fn what(&self) -> String;

    /// The document that the source's name stands for, and its media type; `None` if the source
    /// has no such name.
    fn top(&self) -> Result<Option<(Vec<u8>, String)>>;

    /// A manifest below an index. Not checked.
    fn manifest(&self, blob: &BlobRef) -> Result<Vec<u8>> {
        read_document(self.blob(blob)?, &self.what())
    }

    /// A blob. Not checked; see [`open_blob`].
    fn blob(&self, blob: &BlobRef) -> Result<Box<dyn Read + Send>>;

    /// Manifests that name `subject` as what they are about (distribution-spec 1.1, referrers). Not
    /// checked. None where a source has no such thing.
    fn referrers(&self, _subject: &Sha256) -> Result<Vec<BlobRef>> {
        Ok(Vec::new())
    }

    /// A manifest under another tag beside the image, and its digest. Not checked.
    fn tagged(&self, _tag: &str) -> Result<Option<BlobRef>> {
        Ok(None)
    }
}

/// Opens `source`, whose paths are relative to `base`.
pub fn open(source: &Source, base: &Path, options: &RegistryOptions) -> Result<Arc<dyn ImageSource>> {
    Ok(match source {
        Source::Docker(reference) => Arc::new(registry::Registry::open(reference, options)?),
        Source::Oci { path, reference } => {
            Arc::new(layout::Layout::open(&base.join(path), reference.as_deref(), source)?)
        }
        Source::DockerArchive { path } => Arc::new(archive::DockerArchive::open(&base.join(path), source)?),
        Source::File { .. } | Source::Dir { .. } => {
            return Err(malformed(&source.to_string(), "an image comes from docker:, oci: or docker-archive:"));
        }
    })
}

/// Resolves the source's name for `platform`; `name` is the image's name in errors.
pub fn resolve(source: &dyn ImageSource, name: &str, platform: &str) -> Result<ResolvedImage> {
    let what = source.what();
    let missing = || ErrorKind::TagMissing { name: name.into(), origin: what.clone() };
    let (top, media_type) = source.top()?.ok_or_else(missing)?;
    let digest = Sha256::of(&top);
    let mut documents = BTreeMap::new();
    let mut blobs = vec![BlobRef { digest, size: length(&top), media_type: media_type.clone() }];
    let mut manifest_digest = digest;
    let manifest = match oci::DocumentKind::of(&media_type)? {
        oci::DocumentKind::Manifest => oci::parse_manifest(&top, &media_type)?,
        oci::DocumentKind::Index => {
            let index = oci::parse_index(&top, &media_type)?;
            let entry = blob_ref(oci::select_platform(&index, platform)?);
            let bytes = source.manifest(&entry)?;
            check_bytes(&what, &entry, &bytes)?;
            let manifest = oci::parse_manifest(&bytes, &entry.media_type)?;
            manifest_digest = entry.digest;
            documents.insert(entry.digest, bytes);
            blobs.push(entry);
            manifest
        }
    };
    documents.insert(digest, top);
    let config = blob_ref(&manifest.config);
    let bytes = read_document(open_blob(source, &config)?, &what)?;
    oci::check_config(&bytes, platform, manifest.layers.len())?;
    documents.insert(config.digest, bytes);
    blobs.push(config);
    for layer in &manifest.layers {
        if !blobs.iter().any(|blob| blob.digest == layer.digest) {
            blobs.push(blob_ref(layer));
        }
    }
    Ok(ResolvedImage { digest, media_type, manifest: manifest_digest, blobs, documents })
}

/// The artifacts that name one of `subjects`, in the source's order, proved and parsed, and those that cannot be read.
pub fn artifacts(source: &dyn ImageSource, subjects: &[Sha256]) -> Result<(Vec<oci::Artifact>, Vec<Unread>)> {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for subject in subjects {
        let listed = match Unread::or(&format!("list of artifacts about {subject}"), source.referrers(subject))? {
            Ok(listed) => listed,
            Err(broken) => {
                unread.push(broken);
                continue;
            }
        };
        for blob in listed.into_iter().take(limits::REFERRERS) {
            match Unread::or(&format!("artifact {}", blob.digest), artifact(source, &blob))? {
                // A list of referrers is only a hint: what counts is the artifact's own word.
                Ok(artifact) if artifact.subject == Some(*subject) => found.push(artifact),
                Ok(_) => {}
                Err(broken) => unread.push(broken),
            }
        }
    }
    Ok((found, unread))
}

/// An artifact's manifest, proved and parsed.
pub fn artifact(source: &dyn ImageSource, blob: &BlobRef) -> Result<oci::Artifact> {
    let bytes = source.manifest(blob)?;
    check_bytes(&source.what(), blob, &bytes)?;
    Ok(oci::parse_artifact(&bytes)?)
}

/// A small blob of an artifact as proved bytes.
pub fn small_blob(source: &dyn ImageSource, descriptor: &oci::Descriptor, limit: u64) -> Result<Vec<u8>> {
    let what = format!("{}: blob {}", source.what(), descriptor.digest);
    if descriptor.size > limit {
        return Err(bundle_format::ErrorKind::TooLarge { what, limit, found: descriptor.size }.into_error());
    }
    let mut bytes = Vec::new();
    open_blob(source, &blob_ref(descriptor))?.read_to_end(&mut bytes).map_err(|error| Error::io(what, error))?;
    Ok(bytes)
}

/// A blob as a reader that ends in an error on a wrong size or digest.
pub fn open_blob(source: &dyn ImageSource, blob: &BlobRef) -> Result<Box<dyn Read + Send>> {
    let inner = source.blob(blob)?;
    Ok(Box::new(checked::Checked::image(inner, source.what(), blob.digest, blob.size)))
}

pub(crate) fn blob_ref(descriptor: &oci::Descriptor) -> BlobRef {
    BlobRef { digest: descriptor.digest, size: descriptor.size, media_type: descriptor.media_type.clone() }
}

/// Reads a document to its end, bounded.
fn read_document(reader: impl Read, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = limits::OCI_DOCUMENT_BYTES;
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Error::io(what, error))?;
    if length(&bytes) > limit {
        let what = format!("{what}: image document");
        return Err(bundle_format::ErrorKind::TooLarge { what, limit, found: length(&bytes) }.into_error());
    }
    Ok(bytes)
}

fn check_bytes(what: &str, blob: &BlobRef, bytes: &[u8]) -> Result<()> {
    checked::Checked::image(bytes, what.into(), blob.digest, blob.size)
        .read_to_end(&mut Vec::new())
        .map_err(|error| Error::io(what, error))?;
    Ok(())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn malformed(what: &str, why: impl Into<String>) -> Error {
    ErrorKind::SourceMalformed { what: what.into(), why: why.into() }.into()
}

/// A format's error kind as this crate's error.
trait IntoError {
    fn into_error(self) -> Error;
}

impl IntoError for bundle_format::ErrorKind {
    fn into_error(self) -> Error {
        bundle_format::Error::from(self).into()
    }
}
