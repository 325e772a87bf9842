//! `collect`: everything that a build needs, checked against the lock.
//!
//! What may hurt it: a tag that moved, a file that changed, a release edited after the review. Who
//! defends: every name is resolved again and compared with the lock, and every reader that is
//! handed out ends in an error unless its bytes are the locked ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle_format::attachment::{self, Attachment};
use bundle_format::digest::Sha256;
use bundle_format::lock::{self, Lock, LockedImage};
use bundle_format::manifest::{self, Blob, Image, Manifest, PackageFile, PlainFile, Runtime, Workload};
use bundle_format::release::{ReleaseImage, Source};

use crate::pin::{ReleaseFile, path_of};
use crate::source::{self, BlobRef, ImageSource, RegistryOptions, files};
use crate::{ErrorKind, Result, workload};

/// Everything that a build needs.
#[derive(Debug)]
pub struct Collected {
    /// The manifest, complete but for `packs`.
    pub manifest_without_packs: Manifest,
    /// Every blob once: images in the release's order (index, manifest, config, layers), then
    /// workloads, files and packages.
    pub blobs: Vec<CollectedBlob>,
    /// What was pinned: documents about the release are made of it.
    pub(crate) lock: Lock,
}

/// A blob and where its bytes come from.
pub struct CollectedBlob {
    /// Its digest.
    pub digest: Sha256,
    /// Its bytes.
    pub size: u64,
    /// What it is.
    pub kind: BlobKind,
    /// Of a layer: where it lies in the first image that has it.
    pub place: Option<Place>,
    origin: Origin,
}

/// Where a layer lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the layer, from 0, the lowest.
    pub layer: usize,
    /// `registry/repository` of the image.
    pub image: String,
}

/// What a blob is, for the choice of codec and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// Index, manifest or config of an image.
    Document,
    /// Layer of an image.
    Layer,
    /// Workload, its images pinned.
    Workload,
    /// Plain file.
    File,
    /// Package file of a runtime.
    Package,
    /// SBOM or provenance.
    Attachment,
}

enum Origin {
    Bytes(Vec<u8>),
    File(PathBuf),
    Image(Arc<dyn ImageSource>, BlobRef),
}

impl CollectedBlob {
    /// Its digest and size.
    pub const fn blob(&self) -> Blob {
        Blob { digest: self.digest, size: self.size }
    }

    /// A reader that ends in an error on a wrong size or digest; [`crate::Error::io`] brings the
    /// kind out of the `std::io` error.
    pub fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        match &self.origin {
            Origin::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes.as_slice()))),
            Origin::File(path) => files::open_pinned(path, self.digest, self.size),
            Origin::Image(source, blob) => source::open_blob(&**source, blob),
        }
    }

    /// A reader of whatever the source gives, for who proves what comes of it, and asks [`Self::open`] what
    /// is wrong where that fails.
    pub(crate) fn open_unproved(&self) -> Result<Box<dyn Read + Send + '_>> {
        match &self.origin {
            Origin::Image(source, blob) => source.blob(blob),
            Origin::Bytes(_) | Origin::File(_) => self.open(),
        }
    }
}

#[cfg(test)]
impl CollectedBlob {
    /// One of a made-up size, whose bytes nobody reads.
    pub(crate) fn made_up(name: &str, size: u64, kind: BlobKind, place: Option<Place>) -> Self {
        Self { digest: Sha256::of(name.as_bytes()), size, kind, place, origin: Origin::Bytes(Vec::new()) }
    }
}

impl fmt::Debug for CollectedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectedBlob({:?}, {}, {} bytes)", self.kind, self.digest, self.size)
    }
}

/// Reads the lock of a release manifest; a lock of other bytes is [`ErrorKind::LockStale`].
pub fn read_lock(file: &ReleaseFile) -> Result<Lock> {
    let name = file.lock.display().to_string();
    if !file.lock.exists() {
        return Err(ErrorKind::LockMissing { lock: name }.into());
    }
    let lock = lock::parse(&name, &files::read_yaml(&file.lock)?)?;
    check_lock(file, &lock)?;
    Ok(lock)
}

/// Collects what `lock` pins of `file`.
pub fn collect(file: &ReleaseFile, lock: &Lock, options: &RegistryOptions) -> Result<Collected> {
    check_lock(file, lock)?;
    let mut collector = Collector { file, options, blobs: Vec::new(), seen: BTreeSet::new(), attachments: Vec::new() };
    let images = collector.images(lock)?;
    let workloads = collector.workloads(lock, &images)?;
    let plain = collector.files(lock)?;
    let runtime = collector.runtime(lock)?;
    let attachments = collector.sboms();
    let release = &file.release;
    let manifest_without_packs = Manifest {
        format: manifest::FORMAT.into(),
        product: release.product.clone(),
        release: release.release.clone(),
        sequence: release.sequence,
        marking: release.marking.clone(),
        platform: release.platform.clone(),
        title: release.title.clone(),
        created: lock.created.clone(),
        expires: release.expires.clone(),
        requires: release.requires,
        lifecycle: release.lifecycle.clone(),
        network: release.network.clone(),
        images,
        secrets: release.secrets.clone(),
        workloads,
        files: plain,
        runtime,
        attachments,
        bases: Vec::new(),
        packs: Vec::new(),
    };
    Ok(Collected { manifest_without_packs, blobs: collector.blobs, lock: lock.clone() })
}

impl Collected {
    /// Adds a document about the release, unless its image has one already.
    pub(crate) fn attach(&mut self, attachment: Attachment, bytes: Vec<u8>) {
        let (digest, size) = (Sha256::of(&bytes), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if !self.blobs.iter().any(|blob| blob.digest == digest) {
            let origin = Origin::Bytes(bytes);
            self.blobs.push(CollectedBlob { digest, size, kind: BlobKind::Attachment, place: None, origin });
        }
        self.manifest_without_packs.attachments.push(attachment);
    }
}

fn check_lock(file: &ReleaseFile, lock: &Lock) -> Result<()> {
    if lock.release_sha384 != file.sha384 {
        return Err(stale(file, "the release manifest was edited after it was pinned".into()));
    }
    lock.check_release(&file.release).map_err(|error| stale(file, error.to_string()))
}

fn stale(file: &ReleaseFile, why: String) -> crate::Error {
    ErrorKind::LockStale { lock: file.lock.display().to_string(), why }.into()
}

struct Collector<'a> {
    file: &'a ReleaseFile,
    options: &'a RegistryOptions,
    blobs: Vec<CollectedBlob>,
    seen: BTreeSet<Sha256>,
    attachments: Vec<(Attachment, u64, Arc<dyn ImageSource>)>,
}

impl Collector<'_> {
    fn add(&mut self, digest: Sha256, size: u64, kind: BlobKind, origin: Origin) {
        self.add_at(digest, size, kind, origin, None);
    }

    fn add_at(&mut self, digest: Sha256, size: u64, kind: BlobKind, origin: Origin, place: Option<Place>) {
        if self.seen.insert(digest) {
            self.blobs.push(CollectedBlob { digest, size, kind, place, origin });
        }
    }

    fn images(&mut self, lock: &Lock) -> Result<Vec<Image>> {
        let file = self.file;
        file.release.images.iter().zip(&lock.images).map(|(image, locked)| self.image(image, locked)).collect()
    }

    fn image(&mut self, image: &ReleaseImage, locked: &LockedImage) -> Result<Image> {
        let source = source::open(&image.source, &self.file.base, self.options)?;
        let mut resolved = source::resolve(&*source, &locked.name, &self.file.release.platform)?;
        if resolved.digest != locked.digest {
            return Err(moved(image, locked, resolved.digest));
        }
        let same = resolved.media_type == locked.media_type
            && resolved.manifest == locked.manifest
            && resolved
                .blobs
                .iter()
                .map(|b| (b.digest, b.size, b.media_type.as_str()))
                .eq(locked.blobs.iter().map(|b| (b.digest, b.size, b.media_type.as_str())));
        if !same {
            return Err(stale(self.file, format!("its blobs of image {} are not those of the image", locked.name)));
        }
        let verified = crate::upstream::verify(&*source, image, &self.file.base, &resolved)?;
        if verified != locked.verified {
            let why = format!("the publisher's signature over image {} is another than was pinned", locked.name);
            return Err(stale(self.file, why));
        }
        if let Some(sbom) = &locked.sbom {
            let (image, format, digest) = (locked.digest, sbom.format.clone(), sbom.digest);
            let attachment = Attachment::Sbom { image, format, origin: attachment::Origin::Publisher, digest };
            self.attachments.push((attachment, sbom.size, Arc::clone(&source)));
        }
        let mut blobs: Vec<Sha256> = resolved.blobs.iter().map(|blob| blob.digest).collect();
        blobs.sort_unstable();
        let mut layer = 0;
        for blob in resolved.blobs {
            if let Some(bytes) = resolved.documents.remove(&blob.digest) {
                self.add(blob.digest, blob.size, BlobKind::Document, Origin::Bytes(bytes));
                continue;
            }
            let (origin, place) =
                (Origin::Image(Arc::clone(&source), blob.clone()), Place { layer, image: image.name.name() });
            self.add_at(blob.digest, blob.size, BlobKind::Layer, origin, Some(place));
            layer += 1;
        }
        Ok(Image {
            name: image.name.name(),
            tag: image.name.tag().into(),
            digest: locked.digest,
            manifest: locked.manifest,
            media_type: locked.media_type.clone(),
            blobs,
        })
    }

    /// Published SBOMs, one for each image, behind everything that runs.
    fn sboms(&mut self) -> Vec<Attachment> {
        let mut images = BTreeSet::new();
        let mut attachments = Vec::new();
        for (attachment, size, source) in std::mem::take(&mut self.attachments) {
            let (Attachment::Sbom { image, digest, .. }, media_type) = (&attachment, String::new()) else { continue };
            if images.insert(*image) {
                let blob = BlobRef { digest: *digest, size, media_type };
                self.add(*digest, size, BlobKind::Attachment, Origin::Image(source, blob));
                attachments.push(attachment);
            }
        }
        attachments
    }

    fn workloads(&mut self, lock: &Lock, images: &[Image]) -> Result<Vec<Workload>> {
        let pinned: BTreeMap<String, String> =
            images.iter().map(|image| (format!("{}:{}", image.name, image.tag), image.reference())).collect();
        let (mut workloads, mut read) = (Vec::new(), Vec::new());
        for (workload, locked) in self.file.release.workloads.iter().zip(&lock.workloads) {
            let path = self.file.base.join(&workload.file);
            let text = files::read_yaml(&path)?;
            let found = Sha256::of(text.as_bytes());
            if found != locked.sha256 {
                return Err(changed(&path, locked.sha256.to_string(), found.to_string()));
            }
            let bytes = workload::pin_images(&workload.name, &text, &pinned)?.into_bytes();
            // What the isolated side would refuse is refused here, where somebody can mend it.
            read.push(bundle_format::workload::Workload::read(&workload.name, &bytes)?);
            let digest = Sha256::of(&bytes);
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.add(digest, size, BlobKind::Workload, Origin::Bytes(bytes));
            workloads.push(Workload { name: workload.name.clone(), digest });
        }
        let release = &self.file.release;
        bundle_format::workload::check(&read, images, &release.secrets, &release.lifecycle)?;
        Ok(workloads)
    }

    fn files(&mut self, lock: &Lock) -> Result<Vec<PlainFile>> {
        let mut plain = Vec::new();
        for (file, locked) in self.file.release.files.iter().zip(&lock.files) {
            let path = self.file.base.join(path_of(&file.source)?);
            self.add_file(path, locked.sha256, locked.size, BlobKind::File)?;
            plain.push(PlainFile { path: file.path.clone(), digest: locked.sha256 });
        }
        Ok(plain)
    }

    fn runtime(&mut self, lock: &Lock) -> Result<Vec<Runtime>> {
        let mut all = Vec::new();
        for (runtime, locked) in self.file.release.runtime.iter().zip(&lock.runtime) {
            let dir = self.file.base.join(path_of(&runtime.packages)?);
            let found = files::list(&dir)?;
            if !found.iter().eq(locked.packages.iter().map(|package| &package.name)) {
                let (expected, found) = (format!("{} locked files", locked.packages.len()), found.join(", "));
                return Err(changed(&dir, expected, found));
            }
            let mut packages = Vec::new();
            for package in &locked.packages {
                self.add_file(dir.join(&package.name), package.sha256, package.size, BlobKind::Package)?;
                packages.push(PackageFile { name: package.name.clone(), digest: package.sha256 });
            }
            all.push(Runtime { os: runtime.os.clone(), install: runtime.install.clone(), packages });
        }
        Ok(all)
    }

    /// Adds a file; its size is compared now, its digest when it is read.
    fn add_file(&mut self, path: PathBuf, digest: Sha256, size: u64, kind: BlobKind) -> Result<()> {
        files::open_pinned(&path, digest, size)?;
        self.add(digest, size, kind, Origin::File(path));
        Ok(())
    }
}

/// The name resolved to another image: a moved tag, or another archive file.
fn moved(image: &ReleaseImage, locked: &LockedImage, found: Sha256) -> crate::Error {
    match &image.source {
        Source::DockerArchive { path } => changed(path, locked.digest.to_string(), found.to_string()),
        _ => ErrorKind::TagMoved { name: locked.name.clone(), locked: locked.digest, found }.into(),
    }
}

fn changed(path: &Path, expected: String, found: String) -> crate::Error {
    ErrorKind::SourceChanged { what: path.display().to_string(), expected, found }.into()
}
