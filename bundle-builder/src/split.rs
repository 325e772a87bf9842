//! `split`: a bundle as volumes with parity (spec 16), and the lists beside them.
//!
//! What may hurt it: a bundle that was damaged on this side already, a full disk, an interruption.
//! Who defends: [`check_whole`] proves every frame before the first volume is written; volumes have
//! a temporary name until all of the set is whole and synced; nothing that exists is overwritten.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bundle_format::ErrorKind as Format;
use bundle_format::digest::{Sha256, Sha384, Sha384Hasher};
use bundle_format::erasure::Encoder;
use bundle_format::parallel::on_all_cores;
use bundle_format::set::{FILE_NAME, FORMAT, SetFile, SetList};
use bundle_format::volume::{Head, SetId, Shape, Table, file_name};

use crate::error::{Error, ErrorKind, Result};
use crate::inspect::Claim;

/// File name of the list that stock `sha384sum -c` reads.
pub const SUMS: &str = "SHA384SUMS";
/// Bytes that one worker holds for one batch of stripes.
const BATCH_BYTES: u64 = 16 << 20;
/// Bytes of one read or write of a volume at most.
const RUN_BYTES: u64 = 1 << 20;

/// A bundle on disk whose head was read and whose length is the one that its manifest says.
#[derive(Debug)]
pub struct WholeBundle {
    /// Open for reading.
    pub file: File,
    /// Its head, not proved: the low side has no trust anchor.
    pub claim: Claim,
    /// Everything before the first pack.
    pub prologue: Vec<u8>,
    /// Bytes of the archive.
    pub size: u64,
}

impl WholeBundle {
    /// Opens a bundle and checks its length.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path.display().to_string(), e);
        let file = confinement::open_regular(path).map_err(io)?;
        let (envelope, packs) = bundle_format::envelope::UnverifiedEnvelope::read(std::io::BufReader::new(&file))?;
        let packs_at = packs.offset();
        drop(packs);
        let manifest = bundle_format::manifest::parse(envelope.manifest_bytes())?;
        let expected = manifest.frame_places(packs_at).1;
        let size = file.metadata().map_err(io)?.len();
        if size != expected {
            let what = path.display().to_string();
            return Err(bundle_format::Error::from(Format::Truncated { what, expected, found: size }).into());
        }
        let mut prologue = vec![0; usize::try_from(packs_at).unwrap_or(0)];
        file.read_exact_at(&mut prologue, 0).map_err(io)?;
        Ok(Self { file, claim: Claim { envelope, manifest }, prologue, size })
    }
}

/// Checks every frame of a bundle against its manifest, on all cores: a bundle that rotted on this
/// side must not cross the gap. Trust is the far side's question.
pub fn check_whole(bundle: &WholeBundle, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
    let (places, _) = bundle.claim.manifest.frame_places(u64::try_from(bundle.prologue.len()).unwrap_or(0));
    let next = AtomicU64::new(0);
    on_all_cores(|| -> Result<()> {
        loop {
            let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some((at, frame)) = places.get(index) else { return Ok(()) };
            let mut bytes = vec![0; usize::try_from(frame.size).unwrap_or(0)];
            bundle.file.read_exact_at(&mut bytes, *at).map_err(|e| Error::io(format!("bundle at byte {at}"), e))?;
            let found = Sha256::of(&bytes);
            if found != frame.sha256 {
                let (pack, expected) = (format!("bundle at byte {at}"), frame.sha256.to_string());
                let kind = Format::FrameDigest { pack, frame: index, expected, found: found.to_string() };
                return Err(bundle_format::Error::from(kind).into());
            }
            progress(frame.size);
        }
    })
}

/// How volumes are named. Content says what a file is; names are for people and guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NameStyle {
    /// Product, release, set, number and total.
    Long,
    /// Eight and three upper-case characters: `LG` and six digits, `.LGV`.
    Short,
}

impl NameStyle {
    fn name(self, bundle: &WholeBundle, id: SetId, number: u16, volumes: u16) -> String {
        let manifest = &bundle.claim.manifest;
        match self {
            Self::Long => file_name(&manifest.product, &manifest.release, id, number, volumes),
            Self::Short => format!("LG{number:06}.LGV"),
        }
    }

    /// Names of the two lists.
    pub const fn lists(self) -> (&'static str, &'static str) {
        match self {
            Self::Long => (FILE_NAME, SUMS),
            Self::Short => ("SET.JSN", "SUMS.TXT"),
        }
    }
}

/// Splits a bundle that is whole into `out`. `progress` is told bytes; they sum to
/// [`work_of`] the shape.
pub fn split(
    bundle: &WholeBundle,
    volume_size: u64,
    parity: u16,
    style: NameStyle,
    out: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<SetList> {
    let prologue_size = u64::try_from(bundle.prologue.len()).unwrap_or(u64::MAX);
    let shape = Shape::fit(bundle.size, prologue_size, Sha384::of(&bundle.prologue), volume_size, parity)
        .map_err(|e| ErrorKind::Usage(e.to_string()))?;
    let id = shape.id()?;
    let names: Vec<String> = (1..=shape.volumes()).map(|n| style.name(bundle, id, n, shape.volumes())).collect();
    let (list_name, sums_name) = style.lists();
    let volumes = Volumes::create(out, &names, [list_name, sums_name], &shape)?;
    fill(bundle, &shape, &volumes, progress)?;
    volumes.finish(bundle, &shape)?;
    let sums = volumes.sums(&shape, progress)?;
    let list = list(bundle, &shape, id, &names, &sums)?;
    volumes.persist()?;
    write_new(&out.join(list_name), &list.to_bytes()?)?;
    let sums: Vec<String> = list.files.iter().map(|file| format!("{}  {}", file.sha384, file.name)).collect();
    write_new(&out.join(sums_name), format!("{}\n", sums.join("\n")).as_bytes())?;
    sync_folder(out)?;
    Ok(list)
}

/// What [`split`] reports as progress in all, bytes.
pub fn work_of(bundle: &WholeBundle, volume_size: u64, parity: u16) -> u64 {
    let prologue = u64::try_from(bundle.prologue.len()).unwrap_or(0);
    let shape = Shape::fit(bundle.size, prologue, Sha384::of(&bundle.prologue), volume_size, parity);
    shape.map_or(0, |s| (s.payload_size() + s.volume_size()) * u64::from(s.volumes()))
}

/// The volume files of a set while they are made.
struct Volumes {
    files: Vec<(PathBuf, PathBuf, File)>,
    tables: Vec<Mutex<Table>>,
    kept: bool,
}

impl Volumes {
    fn create(out: &Path, names: &[String], lists: [&str; 2], shape: &Shape) -> Result<Self> {
        std::fs::create_dir_all(out).map_err(|e| Error::io(out.display().to_string(), e))?;
        if let Some(path) = names.iter().map(String::as_str).chain(lists).map(|n| out.join(n)).find(|p| p.exists()) {
            return Err(ErrorKind::Usage(format!("{} exists already and is never overwritten", path.display())).into());
        }
        let mut made = Self { files: Vec::new(), tables: Vec::new(), kept: false };
        for name in names {
            let (path, part) = (out.join(name), out.join(format!("{name}.part")));
            let io = |e| Error::io(part.display().to_string(), e);
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&part).map_err(io)?;
            made.files.push((path, part.clone(), file));
            made.tables.push(Mutex::new(Table::new(shape.cells)));
        }
        // Reserved now: a full disk is found before the work, not after most of it.
        for (_, part, file) in &made.files {
            let length = i64::try_from(shape.volume_size()).unwrap_or(i64::MAX);
            let in_memory = nix::sys::statfs::fstatfs(file)
                .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
            // tmpfs would fill every page with zeros now, and again when it is written.
            let reserved = if in_memory {
                Err(nix::errno::Errno::EOPNOTSUPP)
            } else {
                nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, length)
            };
            match reserved {
                Ok(()) => {}
                // A file system without reservation: the writes will tell.
                Err(nix::errno::Errno::EOPNOTSUPP) => {
                    file.set_len(shape.volume_size()).map_err(|e| Error::io(part.display().to_string(), e))?;
                }
                Err(errno) => return Err(Error::io(part.display().to_string(), errno.into())),
            }
        }
        Ok(made)
    }

    fn write(&self, volume: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let Some((_, part, file)) = self.files.get(volume) else { return Ok(()) };
        file.write_all_at(bytes, at).map_err(|e| Error::io(part.display().to_string(), e))
    }

    fn hash(&self, volume: usize, first_cell: u64, cell: usize, bytes: &[u8]) {
        let hashes: Vec<Sha256> = bytes.chunks(cell).map(Sha256::of).collect();
        let Some(table) = self.tables.get(volume) else { return };
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        for (cell, hash) in (first_cell..).zip(&hashes) {
            table.set(cell, hash);
        }
    }

    /// Both heads, tables and prologues of every volume.
    fn finish(&self, bundle: &WholeBundle, shape: &Shape) -> Result<()> {
        for (volume, table) in self.tables.iter().enumerate() {
            let table = table.lock().unwrap_or_else(PoisonError::into_inner);
            let number = u16::try_from(volume + 1).unwrap_or(u16::MAX);
            let head = Head { number, table_sha384: Sha384::of(table.bytes()), shape: *shape }.to_block()?;
            let end = shape.volume_size() - u64::try_from(head.len()).unwrap_or(0);
            self.write(volume, 0, &head)?;
            self.write(volume, shape.table_at(), table.bytes())?;
            self.write(volume, shape.prologue_at(), &bundle.prologue)?;
            self.write(volume, shape.prologue_again_at(), &bundle.prologue)?;
            self.write(volume, shape.table_again_at(), table.bytes())?;
            self.write(volume, end, &head)?;
        }
        for (_, part, file) in &self.files {
            file.sync_all().map_err(|e| Error::io(part.display().to_string(), e))?;
        }
        Ok(())
    }

    /// SHA-384 of each file, read back.
    fn sums(&self, shape: &Shape, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<Sha384>> {
        let next = AtomicU64::new(0);
        let sums = Mutex::new(vec![None; self.files.len()]);
        on_all_cores(|| -> Result<()> {
            let mut buffer = vec![0; usize::try_from(RUN_BYTES).unwrap_or(0)];
            loop {
                let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                let Some((_, part, file)) = self.files.get(index) else { return Ok(()) };
                let mut hasher = Sha384Hasher::default();
                let mut at = 0;
                while at < shape.volume_size() {
                    let count = usize::try_from((shape.volume_size() - at).min(RUN_BYTES)).unwrap_or(0);
                    let run = buffer.get_mut(..count).unwrap_or(&mut []);
                    file.read_exact_at(run, at).map_err(|e| Error::io(part.display().to_string(), e))?;
                    hasher.update(run);
                    at += u64::try_from(count).unwrap_or(0);
                    progress(u64::try_from(count).unwrap_or(0));
                }
                if let Some(slot) = sums.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                    *slot = Some(hasher.finish());
                }
            }
        })?;
        Ok(sums.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect())
    }

    fn persist(mut self) -> Result<()> {
        for (path, part, _) in &self.files {
            std::fs::rename(part, path).map_err(|e| Error::io(path.display().to_string(), e))?;
        }
        self.kept = true;
        Ok(())
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for (_, part, _) in self.files.iter().filter(|_| !self.kept) {
            // What failed has been told; a leftover would only be in the way of the next try.
            drop(std::fs::remove_file(part));
        }
    }
}

/// Payloads and tables: every worker takes the next batch of stripes, reads, hashes, encodes, writes.
fn fill(bundle: &WholeBundle, shape: &Shape, volumes: &Volumes, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
    let cell = u64::from(shape.cell);
    let stripe = cell * u64::from(shape.volumes());
    let batch = (BATCH_BYTES / stripe).clamp(1, (RUN_BYTES / cell).max(1));
    let next = AtomicU64::new(0);
    let cell_len = usize::try_from(cell).unwrap_or(0);
    on_all_cores(|| -> Result<()> {
        let (data, parity) = (usize::from(shape.data), usize::from(shape.parity));
        let mut encoder = if parity > 0 { Some(Encoder::new(data, parity, cell_len)?) } else { None };
        let run_len = usize::try_from(batch * cell).unwrap_or(0);
        let mut runs = vec![vec![0u8; run_len]; data + parity];
        loop {
            let first = next.fetch_add(batch, Ordering::Relaxed);
            if first >= shape.cells {
                return Ok(());
            }
            let cells = batch.min(shape.cells - first);
            let len = usize::try_from(cells * cell).unwrap_or(0);
            for (volume, run) in (0..shape.data).zip(&mut runs) {
                read_run(bundle, shape, volume, first, run.get_mut(..len).unwrap_or(&mut []))?;
            }
            if let Some(encoder) = &mut encoder {
                let (originals, recovery) = runs.split_at_mut(data);
                for at in (0..len).step_by(cell_len) {
                    originals
                        .iter()
                        .filter_map(|run| run.get(at..at + cell_len))
                        .try_for_each(|cell| encoder.add(cell))?;
                    encoder.encode(|index, bytes| {
                        if let Some(to) = recovery.get_mut(index).and_then(|run| run.get_mut(at..at + cell_len)) {
                            to.copy_from_slice(bytes);
                        }
                    })?;
                }
            }
            for (volume, run) in runs.iter().enumerate() {
                let run = run.get(..len).unwrap_or(&[]);
                volumes.hash(volume, first, cell_len, run);
                volumes.write(volume, shape.payload_at() + first * cell, run)?;
                progress(u64::try_from(len).unwrap_or(0));
            }
        }
    })
}

/// A run of cells of a data volume out of the archive; behind the archive's end are zeros.
fn read_run(bundle: &WholeBundle, shape: &Shape, volume: u16, first: u64, run: &mut [u8]) -> Result<()> {
    let (at, _) = shape.place(volume, first);
    let there = usize::try_from(shape.archive_size.saturating_sub(at)).unwrap_or(usize::MAX).min(run.len());
    let (bytes, zeros) = run.split_at_mut(there);
    zeros.fill(0);
    bundle.file.read_exact_at(bytes, at).map_err(|e| Error::io(format!("bundle at byte {at}"), e))
}

fn list(bundle: &WholeBundle, shape: &Shape, id: SetId, names: &[String], sums: &[Sha384]) -> Result<SetList> {
    let manifest = &bundle.claim.manifest;
    let file = |((number, name), sha384): ((u16, &String), &Sha384)| SetFile {
        name: name.clone(),
        number,
        size: shape.volume_size(),
        sha384: *sha384,
    };
    let list = SetList {
        format: FORMAT.into(),
        set: id.hex(),
        product: manifest.product.clone(),
        release: manifest.release.clone(),
        sequence: manifest.sequence,
        marking: manifest.marking.clone(),
        manifest_sha384: Sha384::of(bundle.claim.envelope.manifest_bytes()),
        archive_size: shape.archive_size,
        data_volumes: shape.data,
        parity_volumes: shape.parity,
        files: (1..).zip(names).zip(sums).map(file).collect(),
    };
    list.to_bytes()?;
    Ok(list)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut file = File::create_new(path).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder.display().to_string(), e))
}
