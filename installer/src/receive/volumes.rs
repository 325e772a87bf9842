//! `receive volumes`: a set of volumes, in any order, over several days (spec 16).
//!
//! Cells of data volumes go to their place in the bundle as soon as their hash is right; cells of
//! parity volumes are kept only for stripes that still lack something. A read error is a missing
//! cell, not the end. Media are opened for reading only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bundle_format::erasure::Decoder;
use bundle_format::parallel::on_all_cores;
use bundle_format::volume::{SetId, Shape};

use super::bitmap::{Bitmap, runs};
use super::volume::Volume;
use super::{Arrival, Session, reserve};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of one read of a volume.
const RUN_BYTES: u64 = 1 << 20;
/// Runs of block numbers that a line names.
const RUNS_SHOWN: usize = 8;

/// Why a cell could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bad {
    Unreadable,
    Damaged,
    Cut,
}

impl Bad {
    const fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Damaged => "damaged",
            Self::Cut => "missing, the file is cut short",
        }
    }
}

/// What a reading of a volume found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing of it was wanted.
    Nothing,
    /// Cells were taken, and none of the wanted ones was bad.
    Sound,
    /// Some wanted cells were bad.
    Damaged,
}

/// A set on its way into the inbox.
#[derive(Debug)]
pub struct Collection {
    session: Session,
    key: String,
    /// The set's shape.
    pub shape: Shape,
    /// Which cells are in, for each volume.
    maps: Vec<Mutex<Bitmap>>,
    /// Volumes that were read to their end once.
    seen: Bitmap,
    /// Kept cells of parity volumes.
    parity: BTreeMap<u16, File>,
    /// Volumes read in this run.
    readings: BTreeMap<u16, Reading>,
}

/// What happened to the lost cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte is there; lines say what was restored.
    Whole(Vec<String>),
    /// Something is missing; lines say what to bring or to burn again.
    Lacking(Vec<String>),
}

/// Other sets that are on their way in the inbox, by the short form of their id.
pub fn others(inbox: &Path, set: SetId) -> Vec<String> {
    let own = format!("set-{}", set.hex());
    let names = std::fs::read_dir(inbox).into_iter().flatten().flatten();
    let names = names.filter(|entry| entry.path().join("journal").exists()).map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned()).filter(|name| *name != own);
    let mut found: Vec<String> =
        names.filter_map(|name| Some(name.strip_prefix("set-")?.chars().take(8).collect())).collect();
    found.sort();
    found
}

impl Collection {
    /// Opens the collection of `set` in the inbox, or begins it.
    pub fn open(inbox: &Path, set: SetId, shape: Shape) -> Result<Self> {
        let key = format!("lockgate-volumes-journal/1 {set}");
        let session = Session::open(inbox, &format!("set-{}", set.hex()), shape.archive_size)?;
        let mut maps: Vec<Bitmap> = (0..shape.volumes()).map(|_| Bitmap::new(shape.cells)).collect();
        let mut seen = Bitmap::new(u64::from(shape.volumes()));
        if let Some((known, known_seen)) = session.read_journal(&key).and_then(|body| parse_journal(&shape, &body)) {
            (maps, seen) = (known, known_seen);
        } else if let Some(map) = maps.get_mut(usize::from(shape.data - 1)) {
            // Cells wholly behind the archive's end are zeros that nobody needs to bring.
            (0..shape.cells).filter(|cell| shape.place(shape.data - 1, *cell).1 == 0).for_each(|cell| {
                map.set(cell);
            });
        }
        let maps = maps.into_iter().map(Mutex::new).collect();
        let mut collection =
            Self { session, key, shape, maps, seen, parity: BTreeMap::new(), readings: BTreeMap::new() };
        for volume in shape.data..shape.volumes() {
            let path = collection.parity_path(volume);
            if path.exists() {
                let file = File::options().read(true).write(true).open(&path);
                collection.parity.insert(volume, file.map_err(|e| Error::io(path.display().to_string(), e))?);
            }
        }
        Ok(collection)
    }

    /// Whether a volume was read to its end before.
    pub fn has_seen(&self, number: u16) -> bool {
        self.seen.get(u64::from(number) - 1)
    }

    /// Whether any volume was read to its end before.
    pub fn has_any(&self) -> bool {
        self.seen.count() > 0
    }

    /// What the last reading of a volume found.
    pub fn reading(&self, number: u16) -> Reading {
        self.readings.get(&number).copied().unwrap_or(Reading::Nothing)
    }

    /// Which cells of a volume are in.
    pub fn cells_of(&self, number: u16) -> Bitmap {
        self.map(number - 1).clone()
    }

    /// Forgets what was taken of a volume since `before`.
    pub fn forget(&mut self, number: u16, before: Bitmap) -> Result<()> {
        *self.map(number - 1) = before;
        self.save()
    }

    /// Whether as many volumes were read as the bundle needs at least.
    pub fn has_enough(&self) -> bool {
        self.seen.count() >= u64::from(self.shape.data)
    }

    /// Takes every good cell that is still missing from a volume; the lines say what was bad.
    pub fn take(&mut self, volume: &Volume, progress: &(dyn Fn(u64) + Sync)) -> Result<Vec<String>> {
        let index = volume.head.number - 1;
        let before = self.map(index).count();
        let target = if volume.head.is_data() {
            self.session.part().try_clone().map_err(|e| Error::io(self.session.part_path().display().to_string(), e))?
        } else {
            self.parity_file(index)?
        };
        let cell = u64::from(self.shape.cell);
        let per_run = (RUN_BYTES / cell).max(1);
        let length = volume.file.metadata().map_err(|e| Error::io(volume.path().display().to_string(), e))?.len();
        let bad = Mutex::new(BTreeMap::new());
        let next = AtomicU64::new(0);
        on_all_cores(|| -> Result<()> {
            let mut buffer = vec![0; usize::try_from(per_run * cell).unwrap_or(0)];
            loop {
                let first = next.fetch_add(per_run, Ordering::Relaxed);
                if first >= self.shape.cells {
                    return Ok(());
                }
                let cells = per_run.min(self.shape.cells - first);
                self.take_run(volume, index, (first, cells), length, &mut buffer, &target, &bad)?;
                progress(cells * cell);
            }
        })?;
        self.seen.set(u64::from(index));
        if !volume.head.is_data() {
            target.sync_data().map_err(|e| Error::io(self.parity_path(index).display().to_string(), e))?;
        }
        self.save()?;
        let bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
        let reading = match (bad.is_empty(), self.map(index).count() > before) {
            (false, _) => Reading::Damaged,
            (true, true) => Reading::Sound,
            (true, false) => Reading::Nothing,
        };
        self.readings.insert(volume.head.number, reading);
        Ok(self.lines(volume.head.number, &bad))
    }

    /// One read of consecutive cells; on an error, cell by cell.
    #[allow(clippy::too_many_arguments, reason = "one step of take(), split off for its length")]
    fn take_run(
        &self,
        volume: &Volume,
        index: u16,
        (first, cells): (u64, u64),
        length: u64,
        buffer: &mut [u8],
        target: &File,
        bad: &Mutex<BTreeMap<u64, Bad>>,
    ) -> Result<()> {
        let cell = u64::from(self.shape.cell);
        let cell_len = usize::try_from(cell).unwrap_or(0);
        if (first..first + cells).all(|cell| !self.wants(index, cell)) {
            return Ok(());
        }
        let at = |cell_number: u64| self.shape.payload_at() + cell_number * cell;
        let run = buffer.get_mut(..usize::try_from(cells * cell).unwrap_or(0)).unwrap_or(&mut []);
        let whole = volume.file.read_exact_at(run, at(first)).is_ok();
        for (number, bytes) in (first..first + cells).zip(run.chunks_mut(cell_len)) {
            if !self.wants(index, number) {
                continue;
            }
            let found = if !whole && at(number) + cell > length {
                Err(Bad::Cut)
            } else if !whole && volume.file.read_exact_at(bytes, at(number)).is_err() {
                Err(Bad::Unreadable)
            } else if volume.table.proves(number, bytes) {
                Ok(())
            } else {
                Err(Bad::Damaged)
            };
            match found {
                Ok(()) => {
                    self.write(index, number, bytes, target)?;
                    self.map(index).set(number);
                }
                Err(why) => {
                    bad.lock().unwrap_or_else(PoisonError::into_inner).insert(number, why);
                }
            }
        }
        Ok(())
    }

    /// Whether a cell is of use: a data cell that is missing, or a parity cell of a stripe that
    /// lacks a data cell.
    fn wants(&self, index: u16, cell: u64) -> bool {
        if self.map(index).get(cell) {
            return false;
        }
        index < self.shape.data || (0..self.shape.data).any(|data| !self.map(data).get(cell))
    }

    fn write(&self, index: u16, cell: u64, bytes: &[u8], target: &File) -> Result<()> {
        let (at, bytes) = if index < self.shape.data {
            let (at, count) = self.shape.place(index, cell);
            (at, bytes.get(..count).unwrap_or(bytes))
        } else {
            (cell * u64::from(self.shape.cell), bytes)
        };
        target.write_all_at(bytes, at).map_err(|e| Error::io(self.session.part_path().display().to_string(), e))
    }

    /// Restores what parity can, and says what it restored or what is still needed.
    pub fn restore(&mut self, progress: &(dyn Fn(u64) + Sync)) -> Result<Outcome> {
        let lost: Vec<(u16, Vec<(u64, u64)>)> =
            (0..self.shape.data).map(|v| (v, self.map(v).gaps())).filter(|(_, gaps)| !gaps.is_empty()).collect();
        let stripes: Vec<u64> = {
            let stripes: BTreeSet<u64> =
                lost.iter().flat_map(|(_, gaps)| gaps.iter().flat_map(|(first, last)| *first..=*last)).collect();
            stripes.into_iter().collect()
        };
        let failing = Mutex::new(Vec::new());
        let next = AtomicU64::new(0);
        on_all_cores(|| -> Result<()> {
            let mut workshop = Workshop::new(&self.shape)?;
            loop {
                let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                let Some(stripe) = stripes.get(index).copied() else { return Ok(()) };
                if !self.restore_stripe(stripe, &mut workshop)? {
                    failing.lock().unwrap_or_else(PoisonError::into_inner).push(stripe);
                }
                progress(u64::from(self.shape.cell) * u64::from(self.shape.data));
            }
        })?;
        self.save()?;
        let mut failing = failing.into_inner().unwrap_or_else(PoisonError::into_inner);
        failing.sort_unstable();
        if failing.is_empty() {
            let line = |(volume, gaps): &(u16, Vec<(u64, u64)>)| {
                let (number, total) = (volume + 1, self.shape.volumes());
                if gaps.as_slice() == [(0, self.shape.cells - 1)] {
                    format!("volume {number} of {total}: restored whole from parity")
                } else {
                    format!("volume {number} of {total}: blocks {} restored from parity", runs(gaps, RUNS_SHOWN))
                }
            };
            return Ok(Outcome::Whole(lost.iter().map(line).collect()));
        }
        Ok(Outcome::Lacking(self.needs(&failing)))
    }

    fn restore_stripe(&self, stripe: u64, workshop: &mut Workshop) -> Result<bool> {
        let shape = &self.shape;
        let there: Vec<u16> = (0..shape.volumes()).filter(|volume| self.map(*volume).get(stripe)).collect();
        if there.len() < usize::from(shape.data) {
            return Ok(false);
        }
        let used = there.get(..usize::from(shape.data)).unwrap_or(&[]);
        let Some(decoder) = &mut workshop.decoder else { return Ok(false) };
        for volume in used {
            self.read_cell(*volume, stripe, &mut workshop.cell)?;
            match volume.checked_sub(shape.data) {
                None => decoder.add_original(usize::from(*volume), &workshop.cell)?,
                Some(recovery) => decoder.add_recovery(usize::from(recovery), &workshop.cell)?,
            }
        }
        let mut restored = Vec::new();
        decoder.decode(|index, bytes| restored.push((index, bytes.to_vec())))?;
        for (index, bytes) in restored {
            let volume = u16::try_from(index).unwrap_or(u16::MAX);
            if !self.map(volume).get(stripe) {
                self.write(volume, stripe, &bytes, self.session.part())?;
                self.map(volume).set(stripe);
            }
        }
        Ok(true)
    }

    fn read_cell(&self, volume: u16, stripe: u64, buffer: &mut [u8]) -> Result<()> {
        if volume < self.shape.data {
            let (at, count) = self.shape.place(volume, stripe);
            let (bytes, zeros) = buffer.split_at_mut(count);
            zeros.fill(0);
            let io = |e| Error::io(self.session.part_path().display().to_string(), e);
            return self.session.part().read_exact_at(bytes, at).map_err(io);
        }
        let path = self.parity_path(volume);
        let file = self.parity.get(&volume).ok_or_else(|| {
            let what = path.display().to_string();
            Error::from(ErrorKind::Unexpected { what, expected: "kept parity".into(), found: "nothing".into() })
        })?;
        let at = stripe * u64::from(self.shape.cell);
        file.read_exact_at(buffer, at).map_err(|e| Error::io(path.display().to_string(), e))
    }

    /// What to bring or to burn again, from the stripes that cannot be restored.
    fn needs(&self, failing: &[u64]) -> Vec<String> {
        // Stripes that lack the same volumes are one case.
        let mut cases: BTreeMap<Vec<u16>, Vec<(u64, u64)>> = BTreeMap::new();
        for stripe in failing {
            let missing: Vec<u16> = (0..self.shape.volumes()).filter(|v| !self.map(*v).get(*stripe)).collect();
            let gaps = cases.entry(missing).or_default();
            match gaps.last_mut() {
                Some(last) if last.1 + 1 == *stripe => last.1 = *stripe,
                _ => gaps.push((*stripe, *stripe)),
            }
        }
        let list = |volumes: &[u16]| volumes.iter().map(|v| (v + 1).to_string()).collect::<Vec<_>>().join(", ");
        let mut lines = Vec::new();
        for (missing, gaps) in cases {
            let more = missing.len() - usize::from(self.shape.parity);
            let (seen, unseen): (Vec<u16>, Vec<u16>) =
                missing.iter().partition(|volume| self.seen.get(u64::from(**volume)));
            let blocks = runs(&gaps, RUNS_SHOWN);
            lines.push(if more <= unseen.len() {
                let which = if more == unseen.len() { "" } else { "any " };
                // A volume that was read, also in an earlier call, and lacks these blocks would do as well.
                let or = if seen.is_empty() {
                    String::new()
                } else {
                    format!(", or re-burn volumes that were read: {}", list(&seen))
                };
                format!(
                    "blocks {blocks}: bring {which}{more} of the volumes {} that were not read yet{or}",
                    list(&unseen)
                )
            } else {
                let burn = more - unseen.len();
                let which = if burn == seen.len() { "" } else { "any " };
                let bring = if unseen.is_empty() {
                    String::new()
                } else {
                    format!(" and bring volumes {}, not read yet", list(&unseen))
                };
                format!("blocks {blocks}: re-burn {which}{burn} of the volumes {}{bring}", list(&seen))
            });
        }
        lines
    }

    fn lines(&self, number: u16, bad: &BTreeMap<u64, Bad>) -> Vec<String> {
        let total = self.shape.volumes();
        let mut lines = Vec::new();
        for why in [Bad::Unreadable, Bad::Damaged, Bad::Cut] {
            let mut gaps: Vec<(u64, u64)> = Vec::new();
            for (cell, _) in bad.iter().filter(|(_, found)| **found == why) {
                match gaps.last_mut() {
                    Some(last) if last.1 + 1 == *cell => last.1 = *cell,
                    _ => gaps.push((*cell, *cell)),
                }
            }
            if !gaps.is_empty() {
                lines.push(format!("volume {number} of {total}: blocks {} {}", runs(&gaps, RUNS_SHOWN), why.word()));
            }
        }
        if lines.is_empty() {
            lines.push(format!("volume {number} of {total}: taken, no bad blocks"));
        }
        lines
    }

    /// Gives the session back, for the proof and the end.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// The file with the bundle's bytes so far.
    pub fn part_path(&self) -> &Path {
        self.session.part_path()
    }

    fn save(&self) -> Result<()> {
        let mut body = self.seen.to_bytes();
        (0..self.shape.volumes()).for_each(|volume| body.extend(self.map(volume).to_bytes()));
        self.session.write_journal(&self.key, &body)
    }

    fn map(&self, volume: u16) -> std::sync::MutexGuard<'_, Bitmap> {
        #[allow(
            clippy::indexing_slicing,
            reason = "made with one map for each volume; numbers come from a checked head"
        )]
        self.maps[usize::from(volume)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parity_path(&self, volume: u16) -> PathBuf {
        self.session.folder().join(format!("parity-{:04}.part", volume + 1))
    }

    fn parity_file(&mut self, volume: u16) -> Result<File> {
        let path = self.parity_path(volume);
        let io = |e| Error::io(path.display().to_string(), e);
        if !self.parity.contains_key(&volume) {
            // Sparse where nothing is lost: only wanted cells are written.
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(io)?;
            file.set_len(self.shape.payload_size()).map_err(io)?;
            self.parity.insert(volume, file);
        }
        match self.parity.get(&volume) {
            Some(file) => file.try_clone().map_err(io),
            None => reserve(&path, self.shape.payload_size()),
        }
    }
}

/// One worker's memory for restoring stripes.
struct Workshop {
    decoder: Option<Decoder>,
    cell: Vec<u8>,
}

impl Workshop {
    fn new(shape: &Shape) -> Result<Self> {
        let (data, parity) = (usize::from(shape.data), usize::from(shape.parity));
        let cell = usize::try_from(shape.cell).unwrap_or(0);
        let decoder = if parity > 0 { Some(Decoder::new(data, parity, cell)?) } else { None };
        Ok(Self { decoder, cell: vec![0; cell] })
    }
}

fn parse_journal(shape: &Shape, body: &[u8]) -> Option<(Vec<Bitmap>, Bitmap)> {
    let volumes = u64::from(shape.volumes());
    let (seen, mut rest) = body.split_at_checked(usize::try_from(volumes.div_ceil(64) * 8).ok()?)?;
    let seen = Bitmap::from_bytes(volumes, seen)?;
    let each = usize::try_from(shape.cells.div_ceil(64) * 8).ok()?;
    let mut maps = Vec::new();
    for _ in 0..shape.volumes() {
        let (map, more) = rest.split_at_checked(each)?;
        maps.push(Bitmap::from_bytes(shape.cells, map)?);
        rest = more;
    }
    rest.is_empty().then_some((maps, seen))
}

/// What of an arrival the volumes must agree with: their prologue is proved once, then compared.
pub fn belongs(arrival: &Arrival, volume: &Volume) -> bool {
    volume.prologue == arrival.prologue() && volume.head.shape.archive_size == arrival.size()
}
