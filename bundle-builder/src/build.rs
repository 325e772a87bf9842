//! `build`: from a release, its lock and its sources to one archive (spec 2, 6).
//!
//! The bytes depend on the release, the lock, the roots, the bases, the effort and this program alone:
//! blobs come in the lock's order, packs are cut by their content, no clock is asked, and the number of
//! cores only says how soon it ends. What may hurt it: a source that changes while it is packed (each
//! blob's digest is checked whenever its bytes are read), a disk that fills (the archive takes its name
//! only when it is whole).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bundle_format::archive::ArchiveWriter;
use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{Manifest, Pack};
use bundle_format::pack::{self, Encoders};
use bundle_format::parallel;
use bundle_format::root::RootEnvelope;
use bundle_format::text::escaped;

use crate::arrange::{Carried, Making};
use crate::base::Bases;
use crate::base::choose::{self, Difference, Lot};
use crate::coding::{self, Coded, Coder, Rooms, Sketches, Whole};
use crate::collect::{BlobKind, Collected, CollectedBlob};
use crate::error::{Error, Result};
use crate::provenance::Builder;
use crate::sbom::Readings;
use crate::spool::Spool;

/// How much time a build may take to be small (what each takes: `benches/size.sh`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Effort {
    /// Quick, and larger.
    Fast,
    /// For every day.
    #[default]
    Default,
    /// As small as it gets.
    Max,
}

impl Effort {
    /// zstd's level for a pack of so many coded bytes that are carried whole. A small pack takes no time
    /// that anybody would notice.
    pub const fn level(self, coded: u64) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Default if coded < SMALL_PACK => 15,
            Self::Default => 2,
            Self::Max => 22,
        }
    }

    /// zstd's level for differences: they are small, and what they save is most of an update.
    pub const fn delta_level(self) -> i32 {
        match self {
            Self::Fast => 3,
            Self::Default => 4,
            Self::Max => 22,
        }
    }

    /// Coded bytes at which a pack is closed: a larger one finds more, a smaller one leaves work for
    /// more cores.
    pub(crate) const fn pack_target(self) -> u64 {
        match self {
            Self::Fast | Self::Default => 64 << 20,
            Self::Max => 1 << 30,
        }
    }
}

/// Coded bytes below which a pack is small.
const SMALL_PACK: u64 = 4 << 20;

/// Bytes of a pack that one thread copies into the archive at a time.
const PART: usize = 16 << 20;
const PART_U64: u64 = PART as u64;

/// How a build works.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// How small.
    pub effort: Effort,
    /// Threads; the bytes do not depend on them.
    pub jobs: usize,
    /// Folder for what is large and short-lived: about the bundle, and with bases what its layers are coded as.
    pub spool: &'a Path,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The manifest, packs included.
    pub manifest: Manifest,
    /// Bytes of the archive.
    pub size: u64,
    /// Each blob in the manifest's order: how it is carried, and why.
    pub notes: Vec<Note>,
}

impl Built {
    /// For a person: how much goes how, and each blob of which more was hoped for.
    pub fn lines(&self) -> Vec<String> {
        let mut sums = BTreeMap::<(&str, &str), (usize, u64)>::new();
        for note in &self.notes {
            let sum = sums.entry((&note.codec, &note.coding)).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(note.size));
        }
        let sum = |((codec, coding), (count, bytes)): ((&str, &str), (usize, u64))| {
            format!("  {count} blobs of {bytes} bytes: codec {codec}, coding {coding}")
        };
        let raw = self.notes.iter().filter(|note| note.codec == pack::RAW);
        // Packages are compressed by whoever publishes them, and there are many.
        let of_packages = |note: &&Note| note.kind == BlobKind::Package;
        let mut packages = BTreeMap::<&str, (usize, u64)>::new();
        for note in raw.clone().filter(of_packages) {
            let sum = packages.entry(&note.why).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(note.size));
        }
        let one = |note: &Note| format!("  {} ({} bytes) is carried raw: {}", note.what, note.size, note.why);
        let many = |(why, (count, bytes)): (&str, (usize, u64))| {
            format!("  {count} package files ({bytes} bytes) are carried raw: {why}")
        };
        let lines = sums.into_iter().map(sum).chain(raw.filter(|note| !of_packages(note)).map(one));
        lines.chain(packages.into_iter().map(many)).map(|line| escaped(&line)).collect()
    }
}

/// How a blob is carried, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The blob.
    pub digest: Sha256,
    /// Its bytes.
    pub size: u64,
    /// What it is: a layer's image and number, a file's path.
    pub what: String,
    /// The same in one word, not for machines.
    #[serde(skip)]
    pub kind: BlobKind,
    /// Codec of its pack, or `base` for one that every site holds.
    pub codec: String,
    /// Its coding.
    pub coding: String,
    /// Why.
    pub why: String,
}

/// Packs `collected`, with what is said about it by `builder`, and writes the unsigned archive to `out`.
/// `progress` is told the bytes of each step, of which there are three, and of the layers that are read for
/// an SBOM.
pub fn build(
    mut collected: Collected,
    builder: &Builder<'_>,
    roots: &[RootEnvelope],
    bases: &Bases,
    out: &Path,
    options: &Options<'_>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Built> {
    let progress = Mutex::new(progress);
    let readings = collected.readings()?;
    // 1. Every blob that is not everywhere already, coded.
    let sketches = if bases.is_empty() { Sketches::NotWanted } else { Sketches::Wanted };
    // Memory goes round within a step, and back between them.
    let used = Rooms::default();
    let how = Coder { spools: options.spool, sketches, readings: &readings, rooms: &used };
    let code = |blob: &CollectedBlob| {
        let steps = if readings.wants(&blob.digest) { 2 } else { 1 };
        let coded = if bases.all_hold(&blob.digest) {
            readings.read(blob)?;
            None
        } else {
            Some(how.code(blob)?)
        };
        // What is made with its pack is told of there.
        if !coded.as_ref().is_some_and(|coded| matches!(coded.whole, Whole::Made)) {
            progress.lock().unwrap_or_else(PoisonError::into_inner)(blob.size.saturating_mul(steps));
        }
        Ok::<_, Error>(coded)
    };
    let mut coded: Vec<Option<Coded>> =
        parallel::map_longest_first(options.jobs, &collected.blobs, |blob| blob.size, |_, blob| code(blob))?;
    drop(used);
    // 2. To whom each is carried, and as what.
    let mut lots: Vec<(usize, Lot)> = choose::lots(&collected, &coded, bases, options)?;
    // 3. The packs: first what is content, by which it is found out what is in it.
    let (encoders, used) = (Encoders::default(), Rooms::default());
    let making = |readings| Making {
        encoders: &encoders,
        rooms: &used,
        effort: options.effort,
        jobs: options.jobs,
        spools: options.spool,
        readings,
        progress: &progress,
    };
    let (contents, refused) = making(&readings).contents(&carried(&collected.blobs, &coded, &lots))?;
    let before = collected.blobs.len();
    collected.add_sboms(&readings)?;
    collected.add_provenance(builder)?;
    let none = Readings::default();
    let how = Coder { spools: options.spool, sketches, readings: &none, rooms: &used };
    for (index, blob) in collected.blobs.iter().enumerate().skip(before) {
        let held = bases.all_hold(&blob.digest);
        coded.push(if held { None } else { Some(how.code(blob)?) });
        lots.extend((!held).then(|| (index, choose::whole(bases, &blob.digest))));
    }
    let made = making(&none).rest(&carried(&collected.blobs, &coded, &lots), contents, &refused)?;
    for (digest, instead) in refused {
        let of_it = collected.blobs.iter().zip(&mut coded).find(|(blob, _)| blob.digest == digest);
        if let Some((_, coded)) = of_it {
            *coded = Some(instead);
        }
    }
    let notes = notes(&collected, &coded, &lots);
    let (packs, spools): (Vec<Pack>, Vec<Spool>) = made.into_iter().unzip();
    // 4. The manifest names every frame and blob, and what a site must hold.
    let mut manifest = collected.manifest_without_packs.clone();
    manifest.bases = bases.required(&packs, &collected.blobs);
    manifest.packs = packs;
    let envelope = UnverifiedEnvelope::new(manifest.to_bytes()?, Vec::new(), roots.to_vec());
    // 5. The archive, in one order; its name only when it is whole and on disk.
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
    let io = |e| Error::io(out.display().to_string(), e);
    let mut archive = ArchiveWriter::new(temporary.as_file());
    for (name, bytes) in envelope.members()? {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        archive.member(&name, size, &mut bytes.as_slice())?;
    }
    let mut parts = Vec::new();
    for (pack, spool) in manifest.packs.iter().zip(&spools) {
        let to = archive.reserve(&pack.name, spool.len())?;
        let starts = (0..spool.len()).step_by(PART);
        parts.extend(starts.map(|from| (spool, from, PART_U64.min(spool.len() - from), to + from)));
    }
    archive.finish()?.flush().map_err(io)?;
    parallel::map(options.jobs, &parts, |_, (spool, from, len, to)| {
        spool.copy(*from, *len, temporary.as_file(), *to).map_err(io)?;
        progress.lock().unwrap_or_else(PoisonError::into_inner)(*len);
        Ok::<_, Error>(())
    })?;
    let size = temporary.as_file().metadata().map_err(io)?.len();
    persist(temporary, out)?;
    Ok(Built { manifest, size, notes })
}

/// What is carried.
fn carried<'a>(blobs: &'a [CollectedBlob], coded: &'a [Option<Coded>], lots: &'a [(usize, Lot)]) -> Vec<Carried<'a>> {
    let pair = |(index, lot): &'a (usize, Lot)| {
        let (blob, coded) = (blobs.get(*index)?, coded.get(*index)?.as_ref()?);
        Some(Carried { blob, coded, sets: lot.sets.clone(), form: lot.form() })
    };
    lots.iter().filter_map(pair).collect()
}

/// How each blob goes, in the order of the blobs.
fn notes(collected: &Collected, coded: &[Option<Coded>], lots: &[(usize, Lot)]) -> Vec<Note> {
    let (names, mut notes) = (names(collected), Vec::new());
    for (index, (blob, coded)) in collected.blobs.iter().zip(coded).enumerate() {
        let note = |codec: &str, coding: &str, why: String| Note {
            digest: blob.digest,
            size: blob.size,
            what: names.get(&blob.digest).cloned().unwrap_or_else(|| blob.digest.to_string()),
            kind: blob.kind,
            codec: codec.into(),
            coding: coding.into(),
            why,
        };
        let Some(coded) = coded else {
            notes.push(note("base", pack::PLAIN, "every base holds it".into()));
            continue;
        };
        for (_, lot) in lots.iter().filter(|(of, _)| *of == index) {
            let of_stream = coded.entry.coding.as_str();
            let (carried_by, coding, why) = match (&lot.difference, coded.shrinks) {
                (Some(Difference { delta, .. }), _) => {
                    (pack::DELTA, of_stream, format!("it differs little from {}", delta.base))
                }
                (None, coding::Shrinks::Yes) => (pack::ZSTD, of_stream, coded.why.clone()),
                // Its own bytes, whatever a difference would have been made of.
                (None, coding::Shrinks::No) => (pack::RAW, pack::PLAIN, coded.why.clone()),
            };
            notes.push(note(carried_by, coding, why));
        }
    }
    notes
}

/// What people call each blob.
fn names(collected: &Collected) -> BTreeMap<Sha256, String> {
    let manifest = &collected.manifest_without_packs;
    let files = manifest.files.iter().map(|file| (file.digest, format!("file {}", file.path)));
    let workloads = manifest.workloads.iter().map(|workload| (workload.digest, format!("workload {}", workload.name)));
    let packages = manifest.runtime.iter().flat_map(|runtime| {
        runtime.packages.iter().map(|package| (package.digest, format!("package {} of {}", package.name, runtime.os)))
    });
    let layers = collected.blobs.iter().filter_map(|blob| {
        let place = blob.place.as_ref()?;
        Some((blob.digest, format!("{} layer {}", place.image, place.layer)))
    });
    files.chain(workloads).chain(packages).chain(layers).collect()
}

/// Gives a finished temporary file its name: readable by all, synced, and the folder synced too.
pub(crate) fn persist(temporary: tempfile::NamedTempFile, out: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let io = |e| Error::io(out.display().to_string(), e);
    let file = temporary.as_file();
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(io)?;
    file.sync_all().map_err(io)?;
    temporary.persist(out).map_err(|e| io(e.error))?;
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}
