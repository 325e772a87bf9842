//! The content-addressed store: an OCI image layout in which every blob was proved on its way in.
//!
//! Threats: a power cut between write and rename, a disk that fills, leftovers of a killed run, a
//! blob that changes on disk. Defences: space is reserved before the first byte, a blob takes its
//! name only after its sha256 was proved and it was synced, leftovers are swept when the store is
//! opened (under the installer's lock), a stored blob is hashed again before it counts as held.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::digest::{Sha256, Sha256Hasher};
use bundle_format::manifest::{BaseSet, Blob, Manifest};
use bundle_format::pack::{BlobSink, Want};
use nix::fcntl::FallocateFlags;

use crate::atomic::{self, Access};
use crate::error::{Error, ErrorKind, Result};
use crate::signals::Stop;

/// Folder of second copies.
const SPARE: &str = "spare";

/// A store in its folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the store, making it if need be, and sweeps what a killed run left. The caller holds
    /// the installer's lock.
    pub fn open(folder: &Path) -> Result<Self> {
        let store = Self { folder: folder.to_owned() };
        atomic::make_folder(&store.blobs())?;
        let incoming = store.incoming();
        if incoming.exists() {
            std::fs::remove_dir_all(&incoming).map_err(|e| Error::io(incoming.display().to_string(), e))?;
        }
        atomic::make_folder(&incoming)?;
        let layout = folder.join("oci-layout");
        if !layout.exists() {
            atomic::write(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#, Access::Public)?;
        }
        Ok(store)
    }

    /// A store to look into, without making or sweeping anything.
    pub fn peek(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs/sha256")
    }

    fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    /// Where a blob lies.
    pub fn path(&self, digest: &Sha256) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    fn spare(&self, digest: &Sha256) -> PathBuf {
        self.folder.join(SPARE).join(digest.hex())
    }

    /// Whether a blob is held with its size; its bytes are not read.
    pub fn holds(&self, digest: &Sha256, size: u64) -> bool {
        std::fs::symlink_metadata(self.path(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Hashes a held blob again.
    pub fn check(&self, digest: &Sha256) -> Result<()> {
        let damaged = |why: String| ErrorKind::StoreDamaged { digest: digest.to_string(), why };
        let mut file = File::open(self.path(digest)).map_err(|e| damaged(e.to_string()))?;
        let mut hasher = Sha256Hasher::default();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).map_err(|e| damaged(e.to_string()))?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or(&[]));
        }
        let found = hasher.finish();
        if found == *digest { Ok(()) } else { Err(damaged(format!("its bytes hash to {found}")).into()) }
    }

    /// Reads and hashes every blob; what is wrong with those that are missing or damaged.
    pub fn faults(&self, blobs: &BTreeMap<Sha256, u64>, progress: &mut dyn FnMut(u64)) -> BTreeMap<Sha256, Error> {
        let mut faults = BTreeMap::new();
        for (digest, size) in blobs {
            faults.extend(self.check(digest).err().map(|error| (*digest, error)));
            progress(*size);
        }
        faults
    }

    /// The blobs of a base set that are not held with their size.
    pub fn lacking<'s>(&self, set: &'s BaseSet) -> Vec<&'s Blob> {
        set.blobs.iter().filter(|blob| !self.holds(&blob.digest, blob.size)).collect()
    }

    /// Reads and hashes every blob of a base set; the error names each that is damaged.
    pub fn check_set(&self, set: &BaseSet, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let mut damaged = Vec::new();
        for blob in &set.blobs {
            if let Err(error) = self.check(&blob.digest) {
                damaged.push(error.to_string());
            }
            progress(blob.size);
        }
        if damaged.is_empty() {
            return Ok(());
        }
        Err(ErrorKind::BaseDamaged { base: set.title(), blobs: damaged.join("; ") }.into())
    }

    /// Reads a small blob and checks it; where it is damaged, its spare.
    pub fn read_small(&self, digest: &Sha256, limit: u64) -> Result<Vec<u8>> {
        read_checked(&self.path(digest), digest, limit)
            .or_else(|error| read_checked(&self.spare(digest), digest, limit).map_err(|_| error))
    }

    /// Keeps a second copy of small blobs without which a release could not even be stopped.
    pub fn keep_spares<'d>(&self, digests: impl Iterator<Item = &'d Sha256>, limit: u64) -> Result<()> {
        atomic::make_folder(&self.folder.join(SPARE))?;
        for digest in digests {
            if read_checked(&self.spare(digest), digest, limit).is_err() {
                atomic::write(&self.spare(digest), &self.read_small(digest, limit)?, Access::Public)?;
            }
        }
        Ok(())
    }

    /// Puts a damaged blob back from its spare; says whether that was needed. Without a sound spare
    /// the damage is the error.
    pub fn mend(&self, digest: &Sha256, limit: u64) -> Result<bool> {
        let Err(damage) = self.check(digest) else { return Ok(false) };
        let bytes = read_checked(&self.spare(digest), digest, limit).map_err(|_| damage)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut sink = StoreSink::new(self);
        sink.begin(&Blob { digest: *digest, size })?;
        sink.write(&bytes)?;
        sink.end()?;
        self.sync()?;
        Ok(true)
    }

    /// Opens a held blob for serving.
    pub fn open_blob(&self, digest: &Sha256) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|e| ErrorKind::StoreDamaged { digest: digest.to_string(), why: e.to_string() }.into())
    }

    /// Takes a blob out, its spare first; one that is not there is no error.
    pub fn remove(&self, digest: &Sha256) -> Result<()> {
        atomic::remove_file(&self.spare(digest))?;
        match std::fs::remove_file(self.path(digest)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(format!("blob {digest}"), e)),
            _ => Ok(()),
        }
    }

    /// Every blob held.
    pub fn list(&self) -> Result<BTreeSet<Sha256>> {
        let io = |e| Error::io(self.blobs().display().to_string(), e);
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(self.blobs()).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            // Only our own names count; anything else is somebody else's file.
            found.extend(Sha256::parse(&format!("sha256:{}", name.to_string_lossy())).ok());
        }
        Ok(found)
    }

    /// Makes the renames of all blobs last.
    pub fn sync(&self) -> Result<()> {
        atomic::sync_folder(&self.blobs())
    }

    /// Writes `index.json`: the images of the releases that are kept, by name and tag, so that stock
    /// OCI tools can read the store.
    pub fn write_index(&self, kept: &[&Manifest]) -> Result<()> {
        let mut entries = Vec::new();
        for image in kept.iter().flat_map(|manifest| &manifest.images) {
            let path = self.path(&image.digest);
            let size = std::fs::metadata(&path).map_err(|e| Error::io(path.display().to_string(), e))?.len();
            entries.push(serde_json::json!({
                "mediaType": image.media_type, "digest": image.digest.to_string(), "size": size,
                "annotations": {"org.opencontainers.image.ref.name": format!("{}:{}", image.name, image.tag)},
            }));
        }
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
        });
        atomic::write(&self.folder.join("index.json"), index.to_string().as_bytes(), Access::Public)
    }
}

fn read_checked(path: &Path, digest: &Sha256, limit: u64) -> Result<Vec<u8>> {
    let damaged = |why: String| ErrorKind::StoreDamaged { digest: digest.to_string(), why };
    let file = File::open(path).map_err(|e| damaged(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| damaged(e.to_string()))?;
    if Sha256::of(&bytes) == *digest {
        Ok(bytes)
    } else {
        Err(damaged("its bytes are others, or too many".into()).into())
    }
}

/// Takes proved blobs into a store.
#[derive(Debug)]
pub struct StoreSink<'a> {
    store: &'a Store,
    stop: Stop,
    only: Option<BTreeSet<Sha256>>,
    current: Option<Incoming>,
    added: Vec<Sha256>,
}

#[derive(Debug)]
struct Incoming {
    blob: Blob,
    written: u64,
    file: tempfile::NamedTempFile,
}

impl<'a> StoreSink<'a> {
    /// A sink into `store`.
    pub fn new(store: &'a Store) -> Self {
        Self { store, stop: Stop::default(), only: None, current: None, added: Vec::new() }
    }

    /// The same, which ends at the next blob once somebody asks.
    #[must_use]
    pub fn until(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// The same, which takes these blobs and lets all others pass unread.
    #[must_use]
    pub fn only(mut self, blobs: BTreeSet<Sha256>) -> Self {
        self.only = Some(blobs);
        self
    }

    /// Blobs that were not held before.
    pub fn added(&self) -> &[Sha256] {
        &self.added
    }

    fn io(&self, digest: Sha256, e: std::io::Error) -> bundle_format::Error {
        bundle_format::Error::io(format!("store {}: blob {digest}", self.store.folder.display()), e)
    }
}

impl BlobSink for StoreSink<'_> {
    fn begin(&mut self, blob: &Blob) -> bundle_format::Result<Want> {
        if self.stop.asked() {
            return Err(self.io(blob.digest, std::io::ErrorKind::Interrupted.into()));
        }
        if self.only.as_ref().is_some_and(|only| !only.contains(&blob.digest)) {
            return Ok(Want::Skip);
        }
        // Held and sound is skipped; held and damaged is written anew.
        if self.store.holds(&blob.digest, blob.size) && self.store.check(&blob.digest).is_ok() {
            return Ok(Want::Skip);
        }
        let file = tempfile::NamedTempFile::new_in(self.store.incoming()).map_err(|e| self.io(blob.digest, e))?;
        if blob.size > 0 {
            let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
            match nix::fcntl::fallocate(file.as_file(), FallocateFlags::empty(), 0, size) {
                // A file system without reservation fills as it is written; that is seen then.
                Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => {}
                Err(errno) => return Err(self.io(blob.digest, errno.into())),
            }
        }
        self.current = Some(Incoming { blob: *blob, written: 0, file });
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> bundle_format::Result<()> {
        let Some(incoming) = &mut self.current else { return Ok(()) };
        let digest = incoming.blob.digest;
        incoming.written = incoming.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let written = incoming.file.write_all(bytes);
        written.map_err(|e| self.io(digest, e))
    }

    fn end(&mut self) -> bundle_format::Result<()> {
        let Some(Incoming { blob: Blob { digest, size }, written, file }) = self.current.take() else { return Ok(()) };
        // The reservation gave the file its full length: only the count tells a short write.
        if written != size {
            let what = format!("store: blob {digest}");
            return Err(bundle_format::ErrorKind::Truncated { what, expected: size, found: written }.into());
        }
        file.as_file().sync_data().map_err(|e| self.io(digest, e))?;
        let path = self.store.path(&digest);
        // One that was there, damaged, belongs to another release too: mending it is not adding it.
        let is_new = !path.exists();
        file.persist(path).map_err(|e| self.io(digest, e.error))?;
        self.added.extend(is_new.then_some(digest));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &Store, bytes: &[u8]) -> Sha256 {
        let mut sink = StoreSink::new(store);
        let blob = Blob { digest: Sha256::of(bytes), size: bytes.len() as u64 };
        if sink.begin(&blob).unwrap() == Want::Keep {
            sink.write(bytes).unwrap();
            sink.end().unwrap();
        }
        blob.digest
    }

    #[test]
    fn keeps_skips_and_mends() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = put(&store, b"blob");
        assert_eq!(store.list().unwrap().len(), 1);
        let mut sink = StoreSink::new(&store);
        assert_eq!(sink.begin(&Blob { digest, size: 4 }).unwrap(), Want::Skip);
        std::fs::write(store.path(&digest), b"bloB").unwrap();
        assert!(matches!(store.check(&digest).unwrap_err().kind(), ErrorKind::StoreDamaged { .. }));
        let held = BTreeMap::from([(digest, 4), (Sha256::of(b"gone"), 4)]);
        let mut read = 0;
        let faults = store.faults(&held, &mut |bytes| read += bytes);
        assert_eq!(faults.keys().copied().collect::<BTreeSet<_>>(), held.keys().copied().collect());
        assert_eq!(read, 8);
        assert_eq!(put(&store, b"blob"), digest);
        store.check(&digest).unwrap();
        assert_eq!(store.faults(&held, &mut |_| ()).len(), 1);
    }

    #[test]
    fn a_sink_for_some_lets_the_others_pass() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let blob = |bytes: &[u8]| Blob { digest: Sha256::of(bytes), size: 4 };
        let mut sink = StoreSink::new(&store).only(BTreeSet::from([Sha256::of(b"this")]));
        assert_eq!(sink.begin(&blob(b"that")).unwrap(), Want::Skip);
        assert_eq!(sink.begin(&blob(b"this")).unwrap(), Want::Keep);
    }

    #[test]
    fn a_short_write_is_refused_and_a_mended_blob_is_not_added() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let blob = Blob { digest: Sha256::of(b"12345678"), size: 8 };
        let mut sink = StoreSink::new(&store);
        sink.begin(&blob).unwrap();
        sink.write(b"123").unwrap();
        assert!(matches!(
            sink.end().unwrap_err().kind(),
            bundle_format::ErrorKind::Truncated { expected: 8, found: 3, .. }
        ));
        assert!(!store.holds(&blob.digest, 8));
        std::fs::write(store.path(&blob.digest), b"damaged!").unwrap();
        sink.begin(&blob).unwrap();
        sink.write(b"12345678").unwrap();
        sink.end().unwrap();
        assert!(sink.added().is_empty());
        store.check(&blob.digest).unwrap();
    }

    #[test]
    fn a_spare_is_read_mends_and_goes_with_its_blob() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (kept, other) = (put(&store, b"kept"), put(&store, b"other"));
        store.keep_spares([kept].iter(), 9).unwrap();
        assert!(!store.mend(&kept, 9).unwrap(), "it is sound");
        for digest in [&kept, &other] {
            std::fs::write(store.path(digest), b"rot").unwrap();
        }
        assert_eq!(store.read_small(&kept, 9).unwrap(), b"kept");
        assert!(matches!(store.read_small(&other, 9).unwrap_err().kind(), ErrorKind::StoreDamaged { .. }));
        assert!(matches!(store.mend(&other, 9).unwrap_err().kind(), ErrorKind::StoreDamaged { .. }));
        assert!(store.mend(&kept, 9).unwrap());
        store.check(&kept).unwrap();
        // A spare that rots is made anew; one that rots together with its blob is no help.
        std::fs::write(store.spare(&kept), b"rot").unwrap();
        store.keep_spares([kept].iter(), 9).unwrap();
        assert_eq!(std::fs::read(store.spare(&kept)).unwrap(), b"kept");
        for path in [store.spare(&kept), store.path(&kept)] {
            std::fs::write(path, b"rot").unwrap();
        }
        assert!(matches!(store.mend(&kept, 9).unwrap_err().kind(), ErrorKind::StoreDamaged { .. }));
        store.remove(&kept).unwrap();
        assert!(!store.spare(&kept).exists() && !store.path(&kept).exists());
    }

    #[test]
    fn an_unfinished_blob_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut sink = StoreSink::new(&store);
        sink.begin(&Blob { digest: Sha256::of(b"x"), size: 1 }).unwrap();
        drop(sink);
        assert!(store.list().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
        // What a killed run leaves is swept at the next opening.
        std::fs::write(folder.path().join("incoming/left"), b"x").unwrap();
        Store::open(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
    }
}
