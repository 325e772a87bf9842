//! OCI and docker image documents: index, manifest, config (OCI image-spec 1.1, docker schema 2).
//!
//! Unknown fields are tolerated, as the OCI specification demands. What may hurt it: a document
//! that two programs read as two different things (CVE-2021-41190), a layer that lies elsewhere
//! (`urls`), a digest of another algorithm. Who defends: [`parse_index`] and [`parse_manifest`]
//! refuse each by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::digest::Sha256;
use crate::{ErrorKind, Result, limits};

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

const CONFIGS: [&str; 2] = [OCI_CONFIG, "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 5] = [
    OCI_LAYER_TAR,
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// What a document is, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// An index or manifest list.
    Index,
    /// An image manifest.
    Manifest,
}

impl DocumentKind {
    /// The kind of a media type; any other type is refused.
    pub fn of(media_type: &str) -> Result<Self> {
        match media_type {
            OCI_INDEX | DOCKER_LIST => Ok(Self::Index),
            OCI_MANIFEST | DOCKER_MANIFEST => Ok(Self::Manifest),
            other => Err(bad_type("image document", "an OCI or docker v2 index or manifest", other)),
        }
    }
}

/// A descriptor: what a blob is, its digest and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    /// Media type.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// sha256 digest; other algorithms are refused.
    pub digest: Sha256,
    /// Bytes.
    pub size: u64,
    /// In an index: what it runs on.
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// The one annotation that we read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Annotations {
    #[serde(default, rename = "org.opencontainers.image.ref.name")]
    ref_name: Option<String>,
}

impl Descriptor {
    /// `org.opencontainers.image.ref.name`, the name of an entry in a layout's index.
    pub fn ref_name(&self) -> Option<&str> {
        self.annotations.as_ref()?.ref_name.as_deref()
    }
}

/// A platform of an index entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// CPU in Go's words, such as `amd64`.
    pub architecture: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// CPU variant, such as `v8`.
    #[serde(default)]
    pub variant: Option<String>,
}

/// An image index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its entries.
    pub manifests: Vec<Descriptor>,
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The config.
    pub config: Descriptor,
    /// Layers from the lowest.
    pub layers: Vec<Descriptor>,
}

/// Every field by which a document could be read as the other kind.
#[derive(Deserialize)]
struct Raw<M, C, L> {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    #[serde(default, rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<M>,
    config: Option<C>,
    layers: Option<L>,
    // docker schema 1
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

/// Parses an index whose transport (descriptor or `Content-Type`) calls it `media_type`.
pub fn parse_index(bytes: &[u8], media_type: &str) -> Result<Index> {
    const WHAT: &str = "image index";
    if DocumentKind::of(media_type)? != DocumentKind::Index {
        return Err(bad_type(WHAT, OCI_INDEX, media_type));
    }
    let raw: Raw<Vec<Descriptor>, IgnoredAny, IgnoredAny> = parse(WHAT, bytes)?;
    check_head(WHAT, &raw, media_type)?;
    if raw.layers.is_some() || raw.config.is_some() || raw.fs_layers.is_some() {
        return Err(inconsistent(WHAT, "it holds layers or a config as well (CVE-2021-41190)"));
    }
    let manifests = raw.manifests.ok_or_else(|| inconsistent(WHAT, "it has no manifests"))?;
    manifests.iter().try_for_each(check_here)?;
    Ok(Index { manifests })
}

/// Parses a manifest whose transport (descriptor or `Content-Type`) calls it `media_type`.
pub fn parse_manifest(bytes: &[u8], media_type: &str) -> Result<ImageManifest> {
    const WHAT: &str = "image manifest";
    if DocumentKind::of(media_type)? != DocumentKind::Manifest {
        return Err(bad_type(WHAT, OCI_MANIFEST, media_type));
    }
    let raw: Raw<IgnoredAny, Descriptor, Vec<Descriptor>> = parse(WHAT, bytes)?;
    check_head(WHAT, &raw, media_type)?;
    if raw.manifests.is_some() || raw.fs_layers.is_some() {
        return Err(inconsistent(WHAT, "it holds manifests as well (CVE-2021-41190)"));
    }
    let config = raw.config.ok_or_else(|| inconsistent(WHAT, "it has no config"))?;
    let layers = raw.layers.ok_or_else(|| inconsistent(WHAT, "it has no layers"))?;
    check_here(&config)?;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(bad_type("image config", "an OCI or docker image config", &config.media_type));
    }
    for layer in &layers {
        check_here(layer)?;
        if !LAYERS.contains(&layer.media_type.as_str()) {
            return Err(bad_type("image layer", "a tar layer, plain, gzip or zstd", &layer.media_type));
        }
    }
    if config.size > limits::OCI_DOCUMENT_BYTES {
        return Err(ErrorKind::TooLarge {
            what: "image config".into(),
            limit: limits::OCI_DOCUMENT_BYTES,
            found: config.size,
        }
        .into());
    }
    Ok(ImageManifest { config, layers })
}

/// A manifest that is no image: an artifact that may name a `subject` (image-spec 1.1). Any config
/// and layers are taken; foreign `urls` are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What it is about.
    pub subject: Option<Sha256>,
    /// Its blobs, with their annotations.
    pub layers: Vec<(Descriptor, BTreeMap<String, String>)>,
}

#[derive(Deserialize)]
struct RawArtifact {
    subject: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<RawLayer>,
}

#[derive(Deserialize)]
struct RawLayer {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Parses an OCI manifest as an artifact.
pub fn parse_artifact(bytes: &[u8]) -> Result<Artifact> {
    const WHAT: &str = "artifact manifest";
    let head: Raw<IgnoredAny, IgnoredAny, IgnoredAny> = parse(WHAT, bytes)?;
    check_head(WHAT, &head, OCI_MANIFEST)?;
    if head.manifests.is_some() || head.fs_layers.is_some() {
        return Err(inconsistent(WHAT, "it holds manifests as well (CVE-2021-41190)"));
    }
    let raw: RawArtifact = parse(WHAT, bytes)?;
    raw.layers.iter().try_for_each(|layer| check_here(&layer.descriptor))?;
    let layers = raw.layers.into_iter().map(|layer| (layer.descriptor, layer.annotations)).collect();
    Ok(Artifact { subject: raw.subject.map(|subject| subject.digest), layers })
}

/// The entry of `index` for `platform` (`os/architecture` or `os/architecture/variant`). Two
/// entries that fit are refused: which one runs would depend on who reads.
pub fn select_platform<'a>(index: &'a Index, platform: &str) -> Result<&'a Descriptor> {
    let fits = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|p| {
            let short = format!("{}/{}", p.os, p.architecture);
            short == platform || p.variant.as_ref().is_some_and(|variant| format!("{short}/{variant}") == platform)
        })
    };
    let mut fitting = index.manifests.iter().filter(fits);
    let chosen = fitting.next().ok_or_else(|| ErrorKind::Platform {
        expected: platform.into(),
        found: index
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .map(|p| crate::text::escaped(&format!("{}/{}", p.os, p.architecture)))
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    if fitting.any(|other| other.digest != chosen.digest) {
        return Err(inconsistent("image index", &format!("more than one manifest fits {platform}")));
    }
    Ok(chosen)
}

#[derive(Deserialize)]
struct Config {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<Sha256>,
}

/// Checks an image config against the platform and the number of its manifest's layers; gives the
/// layers' uncompressed digests.
pub fn check_config(bytes: &[u8], platform: &str, layers: usize) -> Result<Vec<Sha256>> {
    const WHAT: &str = "image config";
    let config: Config = parse(WHAT, bytes)?;
    let short = format!("{}/{}", config.os, config.architecture);
    let long = config.variant.map(|variant| format!("{short}/{variant}"));
    if short != platform && long.as_deref() != Some(platform) {
        return Err(ErrorKind::Platform { expected: platform.into(), found: crate::text::escaped(&short) }.into());
    }
    if config.rootfs.kind != "layers" {
        return Err(inconsistent(WHAT, "rootfs.type is not \"layers\""));
    }
    if config.rootfs.diff_ids.len() != layers {
        let why = format!("it names {} layers, the manifest {layers}", config.rootfs.diff_ids.len());
        return Err(inconsistent(WHAT, &why));
    }
    Ok(config.rootfs.diff_ids)
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    crate::json::parse(what, bytes, limits::OCI_DOCUMENT_BYTES)
}

/// The document's own media type may be absent in OCI (it is only recommended there), never
/// another than the transport's; docker's schema 2 demands it.
fn check_head<M, C, L>(what: &str, raw: &Raw<M, C, L>, media_type: &str) -> Result<()> {
    if raw.schema_version != 2 {
        return Err(ErrorKind::UnknownFormat {
            what: what.into(),
            expected: "schemaVersion 2".into(),
            found: raw.schema_version.to_string(),
        }
        .into());
    }
    match raw.media_type.as_deref() {
        Some(own) if own == media_type => Ok(()),
        Some(other) => Err(bad_type(what, media_type, other)),
        None if media_type == OCI_INDEX || media_type == OCI_MANIFEST => Ok(()),
        None => Err(bad_type(what, media_type, "no mediaType")),
    }
}

/// Refuses a descriptor whose bytes lie elsewhere (foreign layers).
fn check_here(descriptor: &Descriptor) -> Result<()> {
    if descriptor.urls.is_empty() {
        return Ok(());
    }
    Err(inconsistent("image descriptor", "it names urls: foreign layers do not travel"))
}

fn bad_type(what: &str, expected: &str, found: &str) -> crate::Error {
    ErrorKind::BadValue {
        what: format!("{what}: media type"),
        expected: expected.into(),
        found: found.chars().take(120).collect(),
    }
    .into()
}

fn inconsistent(what: &str, why: &str) -> crate::Error {
    ErrorKind::Inconsistent { what: what.into(), why: why.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn manifest() -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"{OCI_CONFIG}","digest":"{D}","size":3}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{D}","size":3}}],"x":1}}"#
        )
    }

    fn index() -> String {
        let entry = |arch: &str, digest: &str| {
            format!(
                r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":3,"platform":{{"os":"linux","architecture":"{arch}"}},"annotations":{{"a":"b","org.opencontainers.image.ref.name":"{arch}"}}}}"#
            )
        };
        let other = Sha256::of(b"other").to_string();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{},{}]}}"#,
            entry("amd64", D),
            entry("arm64", &other)
        )
    }

    #[test]
    fn good_documents() {
        let parsed = parse_manifest(manifest().as_bytes(), OCI_MANIFEST).unwrap();
        assert_eq!((parsed.layers.len(), parsed.config.size), (1, 3));
        let bare = manifest().replacen(&format!(r#""mediaType":"{OCI_MANIFEST}","#), "", 1);
        parse_manifest(bare.as_bytes(), OCI_MANIFEST).unwrap();
        let index = parse_index(index().as_bytes(), OCI_INDEX).unwrap();
        let chosen = select_platform(&index, "linux/amd64").unwrap();
        assert_eq!((chosen.digest.to_string().as_str(), chosen.ref_name()), (D, Some("amd64")));
        assert!(matches!(select_platform(&index, "linux/s390x").unwrap_err().kind(), ErrorKind::Platform { .. }));
    }

    #[test]
    fn manifest_refusals() {
        let replaced = |from: &str, to: &str| {
            assert!(manifest().contains(from), "{from}");
            parse_manifest(manifest().replacen(from, to, 1).as_bytes(), OCI_MANIFEST).unwrap_err()
        };
        for (from, to) in [
            (OCI_MANIFEST, OCI_INDEX),
            (OCI_CONFIG, "application/vnd.oci.empty.v1+json"),
            ("layer.v1.tar+gzip", "layer.nondistributable.v1.tar+gzip"),
        ] {
            assert!(matches!(replaced(from, to).kind(), ErrorKind::BadValue { .. }), "{to}");
        }
        for (from, to) in [
            (r#""x":1"#, r#""manifests":[]"#),
            (r#""x":1"#, r#""fsLayers":[]"#),
            (r#""size":3}]"#, r#""size":3,"urls":["https://elsewhere.example/x"]}]"#),
            (r#""layers""#, r#""lairs""#),
        ] {
            assert!(matches!(replaced(from, to).kind(), ErrorKind::Inconsistent { .. }), "{to}");
        }
        for (from, to) in [
            (r#""size":3"#, r#""size":-3"#),
            (r#""size":3"#, r#""size":3,"size":3"#),
            ("sha256:ba", "sha512:ba"),
            ("sha256:ba", "sha256:BA"),
            (r#""x":1"#, r#""layers":[]"#),
        ] {
            assert!(matches!(replaced(from, to).kind(), ErrorKind::Json { .. }), "{to}");
        }
        let version = replaced(r#""schemaVersion":2"#, r#""schemaVersion":1"#);
        assert!(matches!(version.kind(), ErrorKind::UnknownFormat { .. }));
        let huge = replaced(r#""size":3}"#, r#""size":5000000}"#);
        assert!(matches!(huge.kind(), ErrorKind::TooLarge { .. }));
        let docker = manifest().replacen(&format!(r#""mediaType":"{OCI_MANIFEST}","#), "", 1);
        let error = parse_manifest(docker.as_bytes(), DOCKER_MANIFEST).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BadValue { .. }));
        let error = parse_manifest(manifest().as_bytes(), "application/json").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::BadValue { .. }));
    }

    #[test]
    fn index_refusals() {
        let both = index().replacen(r#""schemaVersion""#, r#""layers":[],"schemaVersion""#, 1);
        let error = parse_index(both.as_bytes(), OCI_INDEX).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }));
        let two = index().replace("arm64", "amd64");
        let index = parse_index(two.as_bytes(), OCI_INDEX).unwrap();
        let error = select_platform(&index, "linux/amd64").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }));
    }

    #[test]
    fn configs() {
        let config =
            format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{D}"]}}}}"#);
        assert_eq!(check_config(config.as_bytes(), "linux/amd64", 1).unwrap().len(), 1);
        let error = check_config(config.as_bytes(), "linux/arm64", 1).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Platform { .. }));
        let error = check_config(config.as_bytes(), "linux/amd64", 2).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }));
        let error = check_config(config.replace("\"layers\"", "\"x\"").as_bytes(), "linux/amd64", 1).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Inconsistent { .. }));
    }
}
