//! `pin`: resolves each name of a release manifest to a digest and writes the lock beside it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::lock::{
    self, Lock, LockedBlob, LockedFile, LockedImage, LockedPackage, LockedRuntime, LockedWorkload,
};
use bundle_format::release::{self, Release, ReleaseImage, ReleaseRuntime, Source};
use bundle_format::timestamp::Timestamp;

use crate::source::{self, RegistryOptions, files};
use crate::{Error, ErrorKind, Result};

/// What pinning needs beside the release manifest.
#[derive(Debug, Clone)]
pub struct PinOptions {
    /// How registries are reached.
    pub registry: RegistryOptions,
    /// The bundle's time: `SOURCE_DATE_EPOCH` or the clock, as the caller has it.
    pub created: Timestamp,
}

/// A release manifest as read: its bytes decide whether a lock belongs to it.
#[derive(Debug)]
pub struct ReleaseFile {
    /// The parsed manifest.
    pub release: Release,
    /// SHA-384 of its bytes.
    pub sha384: Sha384,
    /// Directory that its paths are relative to.
    pub base: PathBuf,
    /// Where its lock lies.
    pub lock: PathBuf,
}

impl ReleaseFile {
    /// Reads and parses a release manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read_yaml(path)?;
        let release = release::parse(&path.display().to_string(), &text)?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { release, sha384: Sha384::of(text.as_bytes()), base, lock: lock::path_beside(path) })
    }
}

/// Pins `release_path` and writes its lock, whole or not at all.
pub fn pin(release_path: &Path, options: &PinOptions) -> Result<Lock> {
    let file = ReleaseFile::read(release_path)?;
    let release = &file.release;
    let images = release.images.iter().map(|image| pin_image(image, &file, options)).collect::<Result<_>>()?;
    let workloads = release
        .workloads
        .iter()
        .map(|workload| {
            let (sha256, _) = files::measure(&file.base.join(&workload.file))?;
            Ok(LockedWorkload { name: workload.name.clone(), sha256 })
        })
        .collect::<Result<_>>()?;
    let plain = release
        .files
        .iter()
        .map(|plain| {
            let (sha256, size) = files::measure(&file.base.join(path_of(&plain.source)?))?;
            Ok(LockedFile { path: plain.path.clone(), sha256, size })
        })
        .collect::<Result<_>>()?;
    let runtime = release.runtime.iter().map(|runtime| pin_runtime(runtime, &file.base)).collect::<Result<_>>()?;
    let lock = Lock {
        format: lock::FORMAT.into(),
        release_sha384: file.sha384,
        created: options.created.clone(),
        images,
        workloads,
        files: plain,
        runtime,
    };
    write_atomically(&file.lock, lock.to_yaml()?.as_bytes())?;
    Ok(lock)
}

fn pin_image(image: &ReleaseImage, file: &ReleaseFile, options: &PinOptions) -> Result<LockedImage> {
    let name = image.name.to_string();
    let source = source::open(&image.source, &file.base, &options.registry)?;
    let resolved = source::resolve(&*source, &name, &file.release.platform)?;
    let verified = crate::upstream::verify(&*source, image, &file.base, &resolved)?;
    let sbom = crate::sbom::published::find(&*source, &resolved)?;
    let blobs = resolved
        .blobs
        .into_iter()
        .map(|blob| LockedBlob { digest: blob.digest, size: blob.size, media_type: blob.media_type })
        .collect();
    Ok(LockedImage {
        name,
        source: image.source.clone(),
        digest: resolved.digest,
        media_type: resolved.media_type,
        manifest: resolved.manifest,
        blobs,
        sbom: sbom.map(|(locked, _)| locked),
        verified,
    })
}

fn pin_runtime(runtime: &ReleaseRuntime, base: &Path) -> Result<LockedRuntime> {
    let dir = base.join(path_of(&runtime.packages)?);
    let packages = files::list(&dir)?
        .into_iter()
        .map(|name| {
            let (sha256, size) = files::measure(&dir.join(&name))?;
            Ok(LockedPackage { name, sha256, size })
        })
        .collect::<Result<_>>()?;
    Ok(LockedRuntime { os: runtime.os.clone(), packages })
}

/// The path of a `file:` or `dir:` source.
pub(crate) fn path_of(source: &Source) -> Result<&Path> {
    match source {
        Source::File { path } | Source::Dir { path } => Ok(path),
        other => {
            let why = "expected file: or dir:".into();
            Err(ErrorKind::SourceMalformed { what: other.to_string(), why }.into())
        }
    }
}

/// Writes a file so that its name holds the old content or the new, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |error| Error::io(path.display().to_string(), error);
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
}
