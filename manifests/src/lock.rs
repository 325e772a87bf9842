//! The lock `RELEASE.lock.yaml`: what each name of a release manifest resolved to when it was
//! pinned (spec 11). A build takes everything from here, so that it is the same on another day.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{Sha256, Sha384};
use crate::name::{check_file_name, check_label, check_path};
use crate::reference::ImageName;
use crate::release::{Release, Source};
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result};

mod verified;

pub use verified::{LockedKey, LockedKeyless, LockedSignature, TimeSource};

/// The `format` value of this version.
pub const FORMAT: &str = "lockgate-lock/1";

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Always [`FORMAT`].
    pub format: String,
    /// SHA-384 of the release manifest's bytes.
    pub release_sha384: Sha384,
    /// Time of the pinning; becomes the bundle's time.
    pub created: Timestamp,
    /// Images in the release's order.
    pub images: Vec<LockedImage>,
    /// Workloads in the release's order.
    pub workloads: Vec<LockedWorkload>,
    /// Plain files in the release's order.
    pub files: Vec<LockedFile>,
    /// Runtimes in the release's order.
    pub runtime: Vec<LockedRuntime>,
}

/// A pinned image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// `registry/repository:tag`.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// Digest of the document that the source's name resolved to.
    pub digest: Sha256,
    /// Media type of that document.
    pub media_type: String,
    /// Digest of the manifest for the release's platform.
    pub manifest: Sha256,
    /// Index (if there is one), manifest, config, then layers from the lowest; without doubles.
    pub blobs: Vec<LockedBlob>,
    /// The SBOM that the publisher attached; without one the build makes one of the layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<LockedSbom>,
    /// The publisher's signature that was verified, where the release demands one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<LockedSignature>,
}

/// A published SBOM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSbom {
    /// Such as `spdx-2.3`.
    pub format: String,
    /// Its digest.
    pub digest: Sha256,
    /// Its bytes.
    pub size: u64,
}

/// A blob of a pinned image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedBlob {
    /// Its digest.
    pub digest: Sha256,
    /// Its bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// A pinned workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedWorkload {
    /// Name, a label.
    pub name: String,
    /// Digest of the source file, before its images are pinned.
    pub sha256: Sha256,
}

/// A pinned plain file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Path on the high side.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its bytes.
    pub size: u64,
}

/// The pinned packages of one operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRuntime {
    /// `ID-VERSION_ID`.
    pub os: String,
    /// Package files, sorted by name.
    pub packages: Vec<LockedPackage>,
}

/// A pinned package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// File name.
    pub name: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its bytes.
    pub size: u64,
}

impl Lock {
    /// Checks consistency with itself.
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(ErrorKind::UnknownFormat {
                what: "lock".into(),
                expected: FORMAT.into(),
                found: self.format.clone(),
            }
            .into());
        }
        for image in &self.images {
            ImageName::parse(&image.name)?;
            let has = |digest: &Sha256| image.blobs.iter().any(|blob| blob.digest == *digest);
            if !has(&image.digest) || !has(&image.manifest) {
                return Err(inconsistent(format!("image {} does not list its own manifest", image.name)));
            }
            image.sbom.iter().try_for_each(|sbom| check_file_name("SBOM format", &sbom.format))?;
            image.verified.iter().try_for_each(LockedSignature::check)?;
            for (index, blob) in image.blobs.iter().enumerate() {
                if image.blobs.iter().take(index).any(|earlier| earlier.digest == blob.digest) {
                    return Err(inconsistent(format!("image {} lists blob {} twice", image.name, blob.digest)));
                }
            }
        }
        self.workloads.iter().try_for_each(|workload| check_label("workload", &workload.name))?;
        self.files.iter().try_for_each(|file| check_path("file", &file.path))?;
        for runtime in &self.runtime {
            check_path("runtime os", &runtime.os)?;
            runtime.packages.iter().try_for_each(|package| check_file_name("runtime package file", &package.name))?;
            if !runtime.packages.iter().zip(runtime.packages.iter().skip(1)).all(|(a, b)| a.name < b.name) {
                return Err(inconsistent(format!("the packages of {} are doubled or unsorted", runtime.os)));
            }
        }
        Ok(())
    }

    /// Checks that the lock lists what the release lists, in the same order.
    pub fn check_release(&self, release: &Release) -> Result<()> {
        let images = release.images.iter().map(|image| (image.name.to_string(), image.source.clone()));
        let workloads = release.workloads.iter().map(|workload| &workload.name);
        let files = release.files.iter().map(|file| &file.path);
        let runtime = release.runtime.iter().map(|runtime| &runtime.os);
        let same = self.images.iter().map(|image| (image.name.clone(), image.source.clone())).eq(images)
            && self.workloads.iter().map(|workload| &workload.name).eq(workloads)
            && self.files.iter().map(|file| &file.path).eq(files)
            && self.runtime.iter().map(|runtime| &runtime.os).eq(runtime);
        if same {
            return Ok(());
        }
        Err(inconsistent("it does not list what the release lists".into()))
    }

    /// The lock as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        self.check()?;
        crate::yaml::to_string("lock", self)
    }
}

/// Parses and checks the text of `file`.
pub fn parse(file: &str, text: &str) -> Result<Lock> {
    let lock: Lock = crate::yaml::parse(file, text)?;
    lock.check().map_err(|error| ErrorKind::Yaml { file: file.into(), why: error.to_string() })?;
    Ok(lock)
}

/// Where the lock of `release` lies: beside it, as `<stem>.lock.yaml`.
pub fn path_beside(release: &Path) -> PathBuf {
    let mut name = release.file_stem().unwrap_or_default().to_owned();
    name.push(".lock.yaml");
    release.with_file_name(name)
}

fn inconsistent(why: String) -> crate::Error {
    ErrorKind::Inconsistent { what: "lock".into(), why }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let blob = |bytes: &[u8]| LockedBlob { digest: Sha256::of(bytes), size: 1, media_type: "x/y".into() };
        Lock {
            format: FORMAT.into(),
            release_sha384: Sha384::of(b"release"),
            created: Timestamp::from_unix(1_700_000_000),
            images: vec![LockedImage {
                name: "registry.example/a:1".into(),
                source: Source::parse("oci:images:a").unwrap(),
                digest: Sha256::of(b"index"),
                media_type: "application/vnd.oci.image.index.v1+json".into(),
                manifest: Sha256::of(b"manifest"),
                blobs: vec![blob(b"index"), blob(b"manifest"), blob(b"config")],
                sbom: Some(LockedSbom { format: "spdx-2.3".into(), digest: Sha256::of(b"sbom"), size: 4 }),
                verified: Some(LockedSignature::Cosign(LockedKey {
                    key: Sha256::of(b"key"),
                    signed: Sha256::of(b"index"),
                })),
            }],
            workloads: vec![LockedWorkload { name: "w".into(), sha256: Sha256::of(b"w") }],
            files: vec![LockedFile { path: "docs/a".into(), sha256: Sha256::of(b"f"), size: 1 }],
            runtime: vec![LockedRuntime {
                os: "debian-13".into(),
                packages: vec![LockedPackage { name: "a_1.deb".into(), sha256: Sha256::of(b"p"), size: 1 }],
            }],
        }
    }

    #[test]
    fn round_trip() {
        let text = sample().to_yaml().unwrap();
        let lock = parse("lock", &text).unwrap();
        assert_eq!(lock, sample());
        assert_eq!(lock.to_yaml().unwrap(), text);
    }

    #[test]
    fn refusals() {
        let text = sample().to_yaml().unwrap();
        for (from, to) in [
            ("lockgate-lock/1", "lockgate-lock/0"),
            ("created:", "extra: 1\ncreated:"),
            ("size: 1", "size: -1"),
            ("sha256:", "sha512:"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert!(matches!(parse("lock", &bad).unwrap_err().kind(), ErrorKind::Yaml { .. }), "{to}");
        }
        let mut doubled = sample();
        let first = doubled.images[0].blobs[0].clone();
        doubled.images[0].blobs.push(first);
        assert!(matches!(doubled.check().unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
        let mut headless = sample();
        headless.images[0].blobs.remove(1);
        assert!(matches!(headless.check().unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
        let mut unsorted = sample();
        let first = unsorted.runtime[0].packages[0].clone();
        unsorted.runtime[0].packages.push(first);
        assert!(matches!(unsorted.check().unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
    }

    #[test]
    fn a_lock_of_another_release_is_refused() {
        let release = crate::release::parse("r", include_str!("../profiles/minimal.yaml")).unwrap();
        assert!(matches!(sample().check_release(&release).unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
    }

    #[test]
    fn lies_beside_its_release() {
        assert_eq!(path_beside(Path::new("a/b.c.yaml")), Path::new("a/b.c.lock.yaml"));
    }
}
