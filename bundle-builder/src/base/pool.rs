//! Where the bytes of former blobs are: folders, former sources, and former bundles, out of which they
//! are taken into a folder of short life.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::limits;
use bundle_format::manifest::{Blob, Image, Manifest};
use bundle_format::pack::{BaseBlobs, BlobSink, Held, Want, dangerous_unpack_claim};

use super::{Base, Kind};
use crate::collect::Collected;
use crate::error::{Error, Result};
use crate::source::files;

/// Frames hashed at once while a former bundle is read.
const THREADS: usize = 2;

/// Former blobs by digest.
#[derive(Debug, Default)]
pub(super) struct Pool {
    places: BTreeMap<Sha256, Origin>,
    releases: Vec<Collected>,
    /// Images of bundles that were given as places alone.
    images: Vec<Image>,
    folder: Option<tempfile::TempDir>,
}

#[derive(Debug)]
enum Origin {
    File { path: PathBuf, size: u64 },
    Release { release: usize, blob: usize },
}

impl Pool {
    pub(super) fn new(spools: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bases").tempdir_in(spools);
        let folder = folder.map_err(|e| Error::io(spools.display().to_string(), e))?;
        Ok(Self { folder: Some(folder), ..Self::default() })
    }

    /// The blobs of a former release at its sources.
    pub(super) fn add_release(&mut self, collected: Collected) {
        let release = self.releases.len();
        for (blob, entry) in collected.blobs.iter().enumerate() {
            self.places.entry(entry.digest).or_insert(Origin::Release { release, blob });
        }
        self.releases.push(collected);
    }

    /// Finds `wanted` in the places given, then in the bases that are bundles. Full bundles come before
    /// updates, which may build on what those hold.
    pub(super) fn fill(&mut self, places: &[PathBuf], bases: &[Base], wanted: &BTreeMap<Sha256, u64>) -> Result<()> {
        let mut bundles = Vec::new();
        for place in places {
            if !place.is_dir() {
                bundles.push((place.clone(), super::read_bundle(place)?));
                continue;
            }
            for (digest, size) in
                wanted.iter().filter(|(digest, _)| !self.places.contains_key(digest)).collect::<Vec<_>>()
            {
                let path = place.join("blobs/sha256").join(digest.hex());
                if std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == *size) {
                    self.places.insert(*digest, Origin::File { path, size: *size });
                }
            }
        }
        let of_base = |base: &Base| match &base.kind {
            Kind::Bundle(manifest) => Some((base.file.clone(), (**manifest).clone())),
            Kind::Release | Kind::Inventory => None,
        };
        let mut all: Vec<(PathBuf, Manifest)> = bases.iter().filter_map(of_base).collect();
        let given: Vec<(PathBuf, Manifest)> = bundles.iter().filter_map(|(_, base)| of_base(base)).collect();
        self.images.extend(given.iter().flat_map(|(_, manifest)| manifest.images.iter().cloned()));
        all.extend(given);
        // Updates in the order of their releases: each may build on the one before.
        all.sort_by_key(|(_, manifest)| (!manifest.bases.is_empty(), manifest.sequence));
        all.iter().try_for_each(|(file, manifest)| self.take_out(file, manifest, wanted))
    }

    /// Takes wanted blobs out of a bundle, each proved by its digest.
    fn take_out(&mut self, file: &Path, manifest: &Manifest, wanted: &BTreeMap<Sha256, u64>) -> Result<()> {
        let lacking = |digest: &Sha256| wanted.contains_key(digest) && !self.places.contains_key(digest);
        let carried = manifest.packs.iter().flat_map(|pack| &pack.blobs);
        let take: BTreeSet<Sha256> = carried.map(|blob| blob.digest).filter(lacking).collect();
        let (Some(folder), false) = (&self.folder, take.is_empty()) else { return Ok(()) };
        let sets = manifest.bases.iter().enumerate();
        let mut whole = sets.filter(|(index, _)| {
            let packs = manifest.packs.iter().filter(|pack| pack.is_for(Some(*index)));
            let mut bases = packs.flat_map(|pack| &pack.blobs).filter_map(|blob| Some(blob.delta.as_ref()?.base));
            bases.all(|base| self.has(&base))
        });
        let held = whole.next().map_or(Held::Nothing, |(set, _)| Held::Set { set, blobs: self });
        let input = confinement::open_regular(file).map_err(|e| Error::io(file.display().to_string(), e))?;
        let (_, mut packs) = UnverifiedEnvelope::read(BufReader::with_capacity(1 << 20, input))?;
        let mut sink = FolderSink { folder: folder.path().to_owned(), take, current: None, taken: Vec::new() };
        dangerous_unpack_claim(&mut packs, manifest, held, &mut sink, THREADS, &mut |_| ())?;
        for (blob, path) in sink.taken {
            self.places.insert(blob.digest, Origin::File { path, size: blob.size });
        }
        Ok(())
    }

    /// Images of the bundles that were given as places.
    pub(super) fn images(&self) -> &[Image] {
        &self.images
    }

    pub(super) fn has(&self, digest: &Sha256) -> bool {
        self.places.contains_key(digest)
    }

    /// A blob's bytes, checked as they are read; `None` where it is not at hand.
    pub(super) fn open(&self, digest: &Sha256) -> Result<Option<Box<dyn Read + Send + '_>>> {
        Ok(match self.places.get(digest) {
            None => None,
            Some(Origin::File { path, size }) => Some(files::open_pinned(path, *digest, *size)?),
            Some(Origin::Release { release, blob }) => {
                match self.releases.get(*release).and_then(|release| release.blobs.get(*blob)) {
                    Some(blob) => Some(blob.open()?),
                    None => None,
                }
            }
        })
    }

    /// A document.
    pub(super) fn read_small(&self, digest: &Sha256) -> Result<Option<Vec<u8>>> {
        let Some(input) = self.open(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = input.take(limits::OCI_DOCUMENT_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(format!("blob {digest}"), e))?;
        Ok(Some(bytes))
    }
}

impl BaseBlobs for Pool {
    fn open(&self, digest: &Sha256) -> bundle_format::Result<Box<dyn Read + '_>> {
        let fail = |why: String| bundle_format::Error::io(format!("blob {digest}"), std::io::Error::other(why));
        match Self::open(self, digest) {
            Ok(Some(input)) => Ok(input),
            Ok(None) => Err(fail("not at hand".into())),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

/// Writes the blobs that are wanted into a folder.
struct FolderSink {
    folder: PathBuf,
    take: BTreeSet<Sha256>,
    current: Option<(Blob, PathBuf, File)>,
    taken: Vec<(Blob, PathBuf)>,
}

impl BlobSink for FolderSink {
    fn begin(&mut self, blob: &Blob) -> bundle_format::Result<Want> {
        if !self.take.contains(&blob.digest) {
            return Ok(Want::Skip);
        }
        let path = self.folder.join(blob.digest.hex());
        let file = File::create(&path).map_err(|e| bundle_format::Error::io(path.display().to_string(), e))?;
        self.current = Some((*blob, path, file));
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> bundle_format::Result<()> {
        let Some((_, path, file)) = &mut self.current else { return Ok(()) };
        file.write_all(bytes).map_err(|e| bundle_format::Error::io(path.display().to_string(), e))
    }

    fn end(&mut self) -> bundle_format::Result<()> {
        self.taken.extend(self.current.take().map(|(blob, path, _)| (blob, path)));
        Ok(())
    }
}
