//! The signed manifest: what a bundle holds, byte for byte (spec 5).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attachment::Attachment;
use crate::digest::Sha256;
use crate::lifecycle::Lifecycle;
use crate::marking::Marking;
use crate::name::{check_file_name, check_label, check_path};
use crate::reference::ImageName;
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result, limits};

mod packs;

pub use packs::{BaseSet, Blob, Delta, Frame, Pack, PackedBlob, Segment, pack_name};

/// The `format` value of this version.
pub const FORMAT: &str = "lockgate-manifest/1";

/// A release manifest as signed. Parsed only from proven bytes on the high side
/// ([`crate::envelope::VerifiedManifest`]); [`parse`] alone proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Product label; the anti-rollback floor is kept for each product.
    pub product: String,
    /// Version for people; never compared.
    pub release: String,
    /// Anti-rollback counter, from 1.
    pub sequence: u64,
    /// Marking of the bundle.
    pub marking: Marking,
    /// `os/architecture` in OCI terms, such as `linux/amd64`.
    pub platform: String,
    /// One line for people.
    pub title: String,
    /// Time of the release, from the lock; not of the build, so that builds are reproducible.
    pub created: Timestamp,
    /// Not to be installed from this time on.
    pub expires: Option<Timestamp>,
    /// What the platform needs beyond the sizes below.
    pub requires: Requires,
    /// How the release is applied, proved healthy, backed up and taken back.
    pub lifecycle: Lifecycle,
    /// The network that all workloads join.
    pub network: Network,
    /// Images, in the order of the release manifest.
    pub images: Vec<Image>,
    /// Secrets to be made on the high side.
    pub secrets: Vec<Secret>,
    /// Workloads in start order.
    pub workloads: Vec<Workload>,
    /// Plain files.
    pub files: Vec<PlainFile>,
    /// Operating-system packages of the engine, for hosts that have none.
    pub runtime: Vec<Runtime>,
    /// Documents about the release: SBOMs, provenance.
    pub attachments: Vec<Attachment>,
    /// What sites are known to hold, where the bundle is made for such: one of these sets must be
    /// there, whole. None in a full bundle.
    pub bases: Vec<BaseSet>,
    /// Where every blob lies that is carried.
    pub packs: Vec<Pack>,
}

/// Needs of the platform beyond what the installer computes from sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Memory of the machine, MiB.
    pub memory_mib: u64,
    /// Disk for the platform's own data, MiB.
    pub disk_mib: u64,
}

/// The container network of the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name, a label.
    pub name: String,
    /// Whether traffic to anything but the host is dropped.
    pub internal: bool,
}

/// One image: its name on both sides of the gap and all its blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// `registry/repository`, without tag.
    pub name: String,
    /// The tag that was pinned, for people.
    pub tag: String,
    /// Digest of the manifest or index that the name resolves to.
    pub digest: Sha256,
    /// Digest of the manifest for this bundle's platform; equals `digest` unless that is an index.
    pub manifest: Sha256,
    /// Media type of `digest`'s document.
    pub media_type: String,
    /// Every blob of the image: index, manifest, config and layers, without doubles, sorted.
    pub blobs: Vec<Sha256>,
}

/// A secret that the high side makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Secret {
    /// 256 random bits as URL-safe text under the key `password`.
    Password {
        /// Name, a label.
        name: String,
    },
    /// A self-signed TLS certificate and its key under `tls.crt` and `tls.key`.
    TlsSelfSigned {
        /// Name, a label.
        name: String,
        /// Host names and addresses of the certificate.
        hosts: Vec<String>,
    },
}

impl Secret {
    /// The secret's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Password { name } | Self::TlsSelfSigned { name, .. } => name,
        }
    }
}

/// A workload: Kubernetes YAML whose images are pinned by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Name, a label.
    pub name: String,
    /// The YAML's blob.
    pub digest: Sha256,
}

/// A plain file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainFile {
    /// Relative path.
    pub path: String,
    /// Its blob.
    pub digest: Sha256,
}

/// Packages that give one operating system an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// `ID-VERSION_ID` of `/etc/os-release`, such as `debian-13`.
    pub os: String,
    /// Names of the packages to install; the rest is what they depend on.
    pub install: Vec<String>,
    /// The package files.
    pub packages: Vec<PackageFile>,
}

/// One package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFile {
    /// File name.
    pub name: String,
    /// Its blob.
    pub digest: Sha256,
}

impl Image {
    /// `registry/repository@sha256:…`, what workloads and the engine name.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }
}

impl Manifest {
    /// Where each frame lies in an archive whose packs begin at byte `packs_at`, and the size of that
    /// archive: both follow from the manifest alone, because an archive has one canonical form (spec 2).
    pub fn frame_places(&self, packs_at: u64) -> (Vec<(u64, &Frame)>, u64) {
        let mut places = Vec::new();
        let mut at = packs_at;
        for pack in &self.packs {
            at += crate::archive::BLOCK_U64;
            for frame in &pack.frames {
                places.push((at, frame));
                at += frame.size;
            }
            at = at.next_multiple_of(crate::archive::BLOCK_U64);
        }
        (places, at + 2 * crate::archive::BLOCK_U64)
    }

    /// The archive's bytes outside of frames from `packs_at` on, by place: headers, padding, end mark.
    pub fn filler(&self, packs_at: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut filler = Vec::new();
        let mut at = packs_at;
        for pack in &self.packs {
            let size = pack.stored_size().unwrap_or(u64::MAX);
            let header = crate::archive::canonical_header(&pack.name, size)?;
            filler.push((at, header.to_vec()));
            let end = at + crate::archive::BLOCK_U64 + size;
            at = end.next_multiple_of(crate::archive::BLOCK_U64);
            filler.push((end, vec![0; usize::try_from(at - end).unwrap_or(0)]));
        }
        filler.push((at, vec![0; usize::try_from(2 * crate::archive::BLOCK_U64).unwrap_or(0)]));
        Ok(filler)
    }

    /// The size of every blob that the release is made of, carried or held by the site already. What
    /// only serves as a base is not among them.
    pub fn blob_sizes(&self) -> BTreeMap<Sha256, u64> {
        let named: BTreeSet<&Sha256> = self.named().map(|(_, digest)| digest).collect();
        let held = self.bases.iter().flat_map(|set| &set.blobs).map(|blob| (blob.digest, blob.size));
        let carried = self.packs.iter().flat_map(|pack| &pack.blobs).map(|blob| (blob.digest, blob.size));
        held.chain(carried).filter(|(digest, _)| named.contains(digest)).collect()
    }

    /// Every digest that something of the release names, with what names it.
    fn named(&self) -> impl Iterator<Item = (&'static str, &Sha256)> {
        let images = self.images.iter().flat_map(|image| &image.blobs).map(|digest| ("an image", digest));
        let workloads = self.workloads.iter().map(|workload| ("a workload", &workload.digest));
        let files = self.files.iter().map(|file| ("a file", &file.digest));
        let packages = self.runtime.iter().flat_map(|runtime| &runtime.packages);
        let packages = packages.map(|package| ("a runtime package", &package.digest));
        let attachments = self.attachments.iter().map(|attachment| ("an attachment", attachment.digest()));
        images.chain(workloads).chain(files).chain(packages).chain(attachments)
    }

    /// Sum of all blobs that the release is made of, bytes.
    pub fn content_size(&self) -> u64 {
        self.blob_sizes().values().copied().fold(0, u64::saturating_add)
    }

    /// Sum of all packs as stored, bytes.
    pub fn stored_size(&self) -> u64 {
        self.packs.iter().filter_map(Pack::stored_size).fold(0, u64::saturating_add)
    }

    /// The exact bytes to sign: JSON without insignificant space and one newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        crate::json::to_bytes("manifest", self)
    }

    /// Checks consistency (spec 5.2): names, references, sizes, no blob missing, doubled or stowed away.
    pub fn check(&self) -> Result<()> {
        let inconsistent = |why: String| ErrorKind::Inconsistent { what: "manifest".into(), why };
        if self.format != FORMAT {
            return Err(ErrorKind::UnknownFormat {
                what: "manifest".into(),
                expected: FORMAT.into(),
                found: self.format.clone(),
            }
            .into());
        }
        check_label("product", &self.product)?;
        check_version("release", &self.release)?;
        check_path("platform", &self.platform)?;
        check_label("network", &self.network.name)?;
        check_line("title", &self.title)?;
        if self.sequence == 0 || self.sequence > i64::MAX.unsigned_abs() {
            return Err(inconsistent(format!("sequence is {}; it counts from 1 to 2^63-1", self.sequence)).into());
        }
        self.lifecycle.check()?;
        self.check_packs()?;
        for image in &self.images {
            ImageName::parse(&format!("{}:{}", image.name, image.tag))?;
            if !image.blobs.iter().zip(image.blobs.iter().skip(1)).all(|(a, b)| a < b) {
                return Err(inconsistent(format!("the blobs of image {} are doubled or unsorted", image.name)).into());
            }
            if !(image.blobs.contains(&image.digest) && image.blobs.contains(&image.manifest)) {
                return Err(inconsistent(format!("image {} does not list its own manifest", image.name)).into());
            }
            check_line("media type", &image.media_type)?;
        }
        for workload in &self.workloads {
            check_label("workload", &workload.name)?;
        }
        for file in &self.files {
            check_path("file", &file.path)?;
        }
        for secret in &self.secrets {
            check_label("secret", secret.name())?;
            if let Secret::TlsSelfSigned { hosts, .. } = secret {
                hosts.iter().try_for_each(|host| check_host(host))?;
            }
        }
        for runtime in &self.runtime {
            check_path("runtime os", &runtime.os)?;
            runtime.install.iter().try_for_each(|name| check_path("runtime package", name))?;
            for package in &runtime.packages {
                check_file_name("runtime package file", &package.name)?;
            }
            no_doubles("runtime package file", runtime.packages.iter().map(|package| package.name.to_lowercase()))?;
        }
        self.check_carried()?;
        no_doubles("image", self.images.iter().map(Image::reference))?;
        crate::attachment::check(self)?;
        no_doubles("workload", self.workloads.iter().map(|workload| workload.name.clone()))?;
        // Folded, so that no two paths meet on a file system that ignores case.
        no_doubles("file", self.files.iter().map(|file| file.path.to_lowercase()))?;
        no_file_below_a_file(&self.files)?;
        no_doubles("secret", self.secrets.iter().map(|secret| secret.name().to_owned()))?;
        no_doubles("runtime", self.runtime.iter().map(|runtime| runtime.os.clone()))
    }
}

/// Parses and checks a manifest. This proves nothing about who wrote it.
pub fn parse(bytes: &[u8]) -> Result<Manifest> {
    let manifest: Manifest = crate::json::parse("manifest", bytes, limits::MANIFEST_BYTES)?;
    manifest.check()?;
    Ok(manifest)
}

fn check_version(what: &str, text: &str) -> Result<()> {
    check_file_name(what, text)
}

/// Refuses text of more than one line, with control or hidden characters, or too long.
pub fn check_line(what: &str, text: &str) -> Result<()> {
    if !text.is_empty() && text.len() <= limits::NAME_BYTES && crate::text::escaped(text) == text {
        return Ok(());
    }
    Err(ErrorKind::BadValue {
        what: what.into(),
        expected: "one printable line of at most 240 bytes".into(),
        found: text.chars().take(limits::NAME_BYTES).collect(),
    }
    .into())
}

fn check_host(host: &str) -> Result<()> {
    let ok =
        !host.is_empty() && host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    if ok {
        return Ok(());
    }
    Err(ErrorKind::BadValue {
        what: "host".into(),
        expected: "a host name or an address".into(),
        found: host.chars().take(253).collect(),
    }
    .into())
}

/// A path that is another's folder could not be written beside it.
fn no_file_below_a_file(files: &[PlainFile]) -> Result<()> {
    let paths: BTreeSet<String> = files.iter().map(|file| file.path.to_lowercase()).collect();
    for path in &paths {
        if let Some((end, _)) = path.match_indices('/').find(|(end, _)| paths.contains(path.get(..*end).unwrap_or("")))
        {
            let why = format!("file {path} lies below {}, which is a file too", path.get(..end).unwrap_or(""));
            return Err(ErrorKind::Inconsistent { what: "manifest".into(), why }.into());
        }
    }
    Ok(())
}

fn no_doubles(what: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if let Some(double) = seen.replace(name) {
            return Err(ErrorKind::Inconsistent {
                what: "manifest".into(),
                why: format!("{what} {double} appears twice"),
            }
            .into());
        }
    }
    Ok(())
}
