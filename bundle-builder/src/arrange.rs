//! Which blob goes into which pack, in which order; and the packs themselves, made on all cores.
//!
//! Like lies by like: documents first, so that a reader can show and plan before the layers come; then
//! layers by their place in their image, since the lowest layers of two images resemble each other
//! more than two layers of one image; then files. A pack is closed by what it holds, never by how many
//! cores there are, so that the same inputs give the same bytes on every machine.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bundle_format::digest::Sha256;
use bundle_format::manifest::{Pack, PackedBlob, pack_name};
use bundle_format::pack::{Encoders, Encoding, PackWriter, TOKENS};
use bundle_format::parallel;

use crate::base::choose::Difference;
use crate::build::Effort;
use crate::coding::{self, Coded, Rooms, Shrinks, Whole};
use crate::collect::{BlobKind, CollectedBlob};
use crate::error::Result;
use crate::pipe;
use crate::sbom::Readings;
use crate::spool::Spool;

/// Coded bytes at which a pack of compressed blobs is closed; so that many cores share the work.
const RAW_TARGET: u64 = 256 << 20;

/// Coded bytes from which on a pack gets an encoder of its own: so much that zstd's positions could begin
/// anew in the middle of it, elsewhere than with a new encoder.
const OWN_ENCODER: u64 = 256 << 20;

/// A blob that is carried, and to whom.
#[derive(Debug)]
pub struct Carried<'a> {
    /// The blob.
    pub blob: &'a CollectedBlob,
    /// How it is coded.
    pub coded: &'a Coded,
    /// Base sets whose sites get it; none means all.
    pub sets: Vec<u32>,
    /// As what.
    pub form: Form<'a>,
}

/// As what a blob is carried.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// Its whole coded stream.
    Whole,
    /// The difference to a base.
    Delta(&'a Difference),
}

/// A pack to be made.
#[derive(Debug)]
struct Plan<'a> {
    rank: Rank,
    encoding: Encoding,
    sets: Vec<u32>,
    items: Vec<&'a Carried<'a>>,
    /// Coded bytes; of tokens that are still to be made, the gzip's.
    coded: u64,
}

/// A pack's entry, and its stored bytes.
pub type Made = (Pack, Spool);

/// A blob whose tokens are not to be carried, as it is carried instead.
pub type Refused = (Sha256, Coded);

/// Whether other cores will soon have nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cores {
    Busy,
    Idle,
}

/// How packs are made.
#[derive(Clone, Copy)]
pub struct Making<'a, 'p> {
    /// How small.
    pub effort: Effort,
    /// Packs at the same time.
    pub jobs: usize,
    /// Folder for stored bytes.
    pub spools: &'a Path,
    /// Layers that are read beside, while they are decoded.
    pub readings: &'a Readings,
    /// What packs leave to the next ones.
    pub encoders: &'a Encoders,
    /// What coders leave to the next ones.
    pub rooms: &'a Rooms,
    /// Is told bytes.
    pub progress: &'a Mutex<&'p mut (dyn FnMut(u64) + Send)>,
}

impl Making<'_, '_> {
    /// Makes the packs of content, for which nothing else has to be known. Beside them every blob that is
    /// not carried as its tokens, which is known only when they are made.
    pub fn contents(&self, carried: &[Carried<'_>]) -> Result<(Vec<Made>, Vec<Refused>)> {
        let content = carried.iter().filter(|item| rank(item) == Rank::Content);
        let (mut made, mut refused) = (Vec::new(), Vec::new());
        for (pack, blobs) in self.all(&plan(content.collect(), self.effort))? {
            made.extend(pack);
            refused.extend(blobs);
        }
        Ok((made, refused))
    }

    /// Makes the others and gives the entries of all, in order, with their stored bytes.
    pub fn rest(&self, carried: &[Carried<'_>], contents: Vec<Made>, refused: &[Refused]) -> Result<Vec<Made>> {
        let instead = refused.iter().filter_map(|(digest, coded)| {
            let item = carried.iter().find(|item| item.blob.digest == *digest)?;
            Some(Carried { blob: item.blob, coded, sets: item.sets.clone(), form: Form::Whole })
        });
        let instead: Vec<Carried<'_>> = instead.collect();
        let others = carried.iter().filter(|item| rank(item) != Rank::Content);
        let (documents, last): (Vec<_>, Vec<_>) = plan(others.chain(&instead).collect(), self.effort)
            .into_iter()
            .partition(|plan| plan.rank == Rank::Documents);
        let mut made: Vec<Made> = self.all(&documents)?.into_iter().filter_map(|(pack, _)| pack).collect();
        made.extend(contents);
        made.extend(self.all(&last)?.into_iter().filter_map(|(pack, _)| pack));
        for (number, (pack, _)) in made.iter_mut().enumerate() {
            pack.name = pack_name(number);
        }
        Ok(made)
    }

    fn all(&self, plans: &[Plan<'_>]) -> Result<Vec<(Option<Made>, Vec<Refused>)>> {
        let begun = AtomicUsize::new(0);
        parallel::map_longest_first(self.jobs, plans, Plan::work, |_, plan| {
            // Before this many are done others have nothing left to begin. While they have, a core that does one
            // thing after the other keeps more in its caches.
            let behind = plans.len() - begun.fetch_add(1, Ordering::Relaxed);
            plan.make(self, if behind < self.jobs { Cores::Idle } else { Cores::Busy })
        })
    }
}

fn plan<'a>(mut sorted: Vec<&'a Carried<'a>>, effort: Effort) -> Vec<Plan<'a>> {
    sorted.sort_by_key(|item| key(item));
    let mut plans: Vec<Plan<'a>> = Vec::new();
    let mut former = None;
    for item in sorted {
        let group = (rank(item), item.sets.clone());
        let (encoding, target) = match group.0 {
            Rank::Documents | Rank::Content => (Encoding::Zstd { level: 0 }, effort.pack_target()),
            Rank::Compressed => (Encoding::Raw, RAW_TARGET),
            Rank::Deltas => (Encoding::Delta, RAW_TARGET),
        };
        let size = item.size();
        let same = former.as_ref() == Some(&group);
        match plans.last_mut().filter(|plan| same && plan.coded.saturating_add(size) <= target) {
            Some(plan) => {
                plan.coded = plan.coded.saturating_add(size);
                plan.items.push(item);
            }
            None => {
                plans.push(Plan { rank: group.0, encoding, sets: item.sets.clone(), items: vec![item], coded: size });
            }
        }
        former = Some(group);
    }
    for plan in &mut plans {
        if let Encoding::Zstd { level } = &mut plan.encoding {
            *level = effort.level(plan.coded);
        }
    }
    plans
}

/// What lies in one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Documents,
    Content,
    Compressed,
    Deltas,
}

fn rank(item: &Carried<'_>) -> Rank {
    match (item.form, item.coded.shrinks, item.blob.kind) {
        (Form::Delta(_), ..) => Rank::Deltas,
        (_, Shrinks::No, _) => Rank::Compressed,
        // What is read ahead of everything else: documents, workloads, provenance.
        (_, Shrinks::Yes, BlobKind::Document | BlobKind::Workload | BlobKind::Attachment) => Rank::Documents,
        (_, Shrinks::Yes, _) => Rank::Content,
    }
}

/// The order of blobs: a stable sort keeps the release's own order where this says nothing.
fn key<'a>(item: &'a Carried<'_>) -> (Rank, &'a [u32], BlobKind, usize) {
    (rank(item), &item.sets, item.blob.kind, item.blob.place.as_ref().map_or(0, |place| place.layer))
}

impl Carried<'_> {
    const fn is_made(&self) -> bool {
        matches!((self.form, &self.coded.whole), (Form::Whole, Whole::Made))
    }

    fn size(&self) -> u64 {
        match self.form {
            Form::Whole => match &self.coded.whole {
                Whole::Kept(spool) => spool.len(),
                Whole::Own | Whole::Made => self.blob.size,
            },
            Form::Delta(difference) => difference.stored.len(),
        }
    }
}

impl Plan<'_> {
    const fn work(&self) -> u64 {
        match self.encoding {
            Encoding::Zstd { .. } => self.coded.saturating_mul(16),
            Encoding::Raw | Encoding::Delta => self.coded,
        }
    }

    /// The pack, if anything is left for it, and what was refused.
    fn make(&self, making: &Making<'_, '_>, cores: Cores) -> Result<(Option<Made>, Vec<Refused>)> {
        let mut refused = Vec::new();
        loop {
            let was_refused = |item: &Carried<'_>| refused.iter().any(|(digest, _)| *digest == item.blob.digest);
            let items: Vec<_> = self.items.iter().copied().filter(|item| !was_refused(item)).collect();
            if items.is_empty() {
                return Ok((None, refused));
            }
            let again = !refused.is_empty();
            match self.attempt(&items, making, cores, &|bytes| {
                if !again {
                    making.progress.lock().unwrap_or_else(PoisonError::into_inner)(bytes);
                }
            })? {
                Ok(made) => return Ok((Some(made), refused)),
                Err(more) => refused.extend(more),
            }
        }
    }

    /// The pack of `items`, or all of them whose tokens are not to be carried.
    fn attempt(
        &self,
        items: &[&Carried<'_>],
        making: &Making<'_, '_>,
        cores: Cores,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<std::result::Result<Made, Vec<Refused>>> {
        let sizes = || items.iter().map(|item| (!item.is_made()).then_some(item.size()));
        let content = sizes().try_fold(0, |sum: u64, size| Some(sum.saturating_add(size?)));
        let own = Encoders::default();
        let encoders = if self.coded < OWN_ENCODER { making.encoders } else { &own };
        let mut writer = PackWriter::reusing(Spool::new(making.spools)?, self.encoding, content, encoders)?;
        let mut refused = Vec::new();
        for item in items {
            let Carried { blob, coded, form, .. } = item;
            match (form, &coded.whole) {
                (Form::Delta(difference), _) => {
                    let entry = PackedBlob { delta: Some(difference.delta.clone()), ..coded.entry.clone() };
                    writer.coded(entry, &mut difference.stored.reader())?;
                }
                (Form::Whole, Whole::Kept(spool)) => writer.coded(coded.entry.clone(), &mut spool.reader())?,
                (Form::Whole, Whole::Own) => writer.blob(blob.blob(), &mut blob.open()?)?,
                (Form::Whole, Whole::Made) => {
                    // Two steps in one, coding and packing; or three, with reading.
                    let steps = if making.readings.wants(&blob.digest) { 3 } else { 2 };
                    let seen = |bytes: u64| progress(bytes.saturating_mul(steps));
                    let readings = making.readings;
                    let alone = |to: &mut dyn Write| {
                        readings.beside(blob, |listener| coding::tokens_into(blob, to, &seen, listener, making.rooms))
                    };
                    let found = match cores {
                        // For this pack it is too late; what else cannot go into it is still to be found.
                        _ if !refused.is_empty() => alone(&mut std::io::sink())?,
                        Cores::Busy => writer.made(blob.blob(), TOKENS, |pack| alone(pack))?,
                        Cores::Idle => writer.made(blob.blob(), TOKENS, |pack| {
                            pipe::through(pack, |to| {
                                readings.beside(blob, |listener| {
                                    coding::tokens_beside(blob, to, &seen, listener, making.rooms)
                                })
                            })
                        })?,
                    };
                    if let Err(why) = found {
                        refused.push((blob.digest, coding::raw(blob, why)));
                    }
                    continue;
                }
            }
            progress(blob.size);
        }
        if !refused.is_empty() {
            return Ok(Err(refused));
        }
        let (mut pack, spool) = writer.finish_into(0, encoders)?;
        pack.bases.clone_from(&self.sets);
        Ok(Ok((pack, spool)))
    }
}

#[cfg(test)]
mod tests {
    use bundle_format::manifest::{Blob, Delta};

    use super::*;
    use crate::base::sketch::Sketch;
    use crate::collect::Place;

    const MIB: u64 = 1 << 20;

    /// A blob of so many MiB that nobody reads.
    fn blob(name: &str, mib: u64, kind: BlobKind, layer: usize) -> CollectedBlob {
        let place = (kind == BlobKind::Layer).then(|| Place { layer, image: "registry.example/test".into() });
        CollectedBlob::made_up(name, mib * MIB, kind, place)
    }

    fn coded(blob: &CollectedBlob, shrinks: Shrinks) -> Coded {
        let entry = PackedBlob::plain(Blob { digest: blob.digest, size: blob.size });
        Coded { entry, whole: Whole::Own, shrinks, why: String::new(), estimate: blob.size, sketch: Sketch::default() }
    }

    /// The packs of a plan: encoding, sets, MiB of each blob.
    fn planned(carried: &[Carried<'_>], effort: Effort) -> Vec<(Encoding, Vec<u32>, Vec<u64>)> {
        let sizes = |plan: &Plan<'_>| plan.items.iter().map(|item| item.size() / MIB).collect();
        let plans = plan(carried.iter().collect(), effort);
        assert!(plans.iter().all(|plan| plan.coded == plan.items.iter().map(|item| item.size()).sum::<u64>()));
        plans.iter().map(|plan| (plan.encoding, plan.sets.clone(), sizes(plan))).collect()
    }

    #[test]
    fn packs_are_closed_by_what_they_hold() {
        let blobs = [
            blob("top of a", 30, BlobKind::Layer, 2),
            blob("base of a", 50, BlobKind::Layer, 0),
            blob("document", 1, BlobKind::Document, 0),
            blob("base of b", 14, BlobKind::Layer, 0),
            blob("middle of b", 150, BlobKind::Layer, 1),
            blob("file", 5, BlobKind::File, 0),
            blob("workload", 2, BlobKind::Workload, 0),
            blob("raw layer", 200, BlobKind::Layer, 0),
            blob("raw package", 56, BlobKind::Package, 0),
            blob("another", 1, BlobKind::Package, 0),
            blob("for some", 7, BlobKind::Layer, 0),
        ];
        let raw = |index: usize| matches!(index, 7..=9);
        let all: Vec<Coded> = blobs
            .iter()
            .enumerate()
            .map(|(index, blob)| coded(blob, if raw(index) { Shrinks::No } else { Shrinks::Yes }))
            .collect();
        let delta = Delta { base: blobs[0].digest, coding: "plain".into(), coded: MIB, segments: Vec::new() };
        let difference = Difference { delta, stored: Spool::new(&std::env::temp_dir()).unwrap() };
        let mut carried: Vec<Carried<'_>> = blobs
            .iter()
            .zip(&all)
            .enumerate()
            .map(|(index, (blob, coded))| {
                let sets = if index == 10 { vec![1] } else { Vec::new() };
                Carried { blob, coded, sets, form: Form::Whole }
            })
            .collect();
        carried.push(Carried { blob: &blobs[0], coded: &all[0], sets: vec![0], form: Form::Delta(&difference) });
        let zstd =
            |effort: Effort, sizes: &[u64]| Encoding::Zstd { level: effort.level(sizes.iter().sum::<u64>() * MIB) };
        // By rank, sets, kind and place: 50 and 14 MiB are just a pack's 64; what is larger is alone.
        let of = |effort: Effort, content: &[&[u64]]| {
            let mut packs = vec![(zstd(effort, &[1, 2]), vec![], vec![1, 2])];
            packs.extend(content.iter().map(|sizes| (zstd(effort, sizes), vec![], sizes.to_vec())));
            packs.push((zstd(effort, &[7]), vec![1], vec![7]));
            packs.push((Encoding::Raw, vec![], vec![200, 56]));
            packs.push((Encoding::Raw, vec![], vec![1]));
            packs.push((Encoding::Delta, vec![0], vec![0]));
            packs
        };
        let smaller: &[&[u64]] = &[&[50, 14], &[150], &[30, 5]];
        assert_eq!([3, 4].map(|mib| Effort::Default.level(mib * MIB)), [15, 2]);
        for effort in [Effort::Fast, Effort::Default] {
            assert_eq!(planned(&carried, effort), of(effort, smaller));
        }
        assert_eq!(planned(&carried, Effort::Max), of(Effort::Max, &[&[50, 14, 150, 30, 5]]));
        // Nothing but the blobs and the effort is asked: where they came from in the release counts only
        // between those that are alike.
        carried.reverse();
        assert_eq!(planned(&carried, Effort::Default)[1..4], of(Effort::Default, &[&[14, 50], &[150], &[30, 5]])[1..4]);
    }
}
