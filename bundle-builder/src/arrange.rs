//! Which blob goes into which pack, in which order; and the packs themselves, made on all cores.
//!
//! Like lies by like: documents first, so that a reader can show and plan before the layers come; then
//! layers by their place in their image, since the lowest layers of two images resemble each other
//! more than two layers of one image; then files. A pack is closed by what it holds, never by how many
//! cores there are, so that the same inputs give the same bytes on every machine.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bundle_format::manifest::{Pack, PackedBlob};
use bundle_format::pack::{Encoding, PackWriter};
use bundle_format::parallel;

use crate::base::choose::Difference;
use crate::build::Effort;
use crate::coding::{Coded, Shrinks};
use crate::collect::{BlobKind, CollectedBlob};
use crate::error::Result;
use crate::spool::Spool;

/// Coded bytes at which a pack of compressed blobs is closed; so that many cores share the work.
const RAW_TARGET: u64 = 256 << 20;

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
    encoding: Encoding,
    sets: Vec<u32>,
    items: Vec<&'a Carried<'a>>,
    coded: u64,
}

/// Makes all packs and gives their entries, in order, with their stored bytes.
pub fn packs(
    carried: &[Carried<'_>],
    effort: Effort,
    jobs: usize,
    spools: &Path,
    progress: &Mutex<&mut (dyn FnMut(u64) + Send)>,
) -> Result<Vec<(Pack, Spool)>> {
    let plans = plan(carried, effort);
    // The longest first, so that no core waits long at the end.
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(plans.get(*index).map_or(0, Plan::work)));
    let mut made = parallel::map(jobs, &order, |_, index| {
        let Some(plan) = plans.get(*index) else { return Ok(None) };
        plan.make(*index, spools, progress).map(|made| Some((*index, made)))
    })?;
    made.sort_by_key(|made| made.as_ref().map(|(index, _)| *index));
    Ok(made.into_iter().flatten().map(|(_, made)| made).collect())
}

fn plan<'a>(carried: &'a [Carried<'a>], effort: Effort) -> Vec<Plan<'a>> {
    let mut sorted: Vec<&Carried<'_>> = carried.iter().collect();
    sorted.sort_by_key(|item| key(item));
    let mut plans: Vec<Plan<'a>> = Vec::new();
    let mut former = None;
    for item in sorted {
        let group = (rank(item), item.sets.clone());
        let (encoding, target) = match group.0 {
            Rank::Documents | Rank::Content => (Encoding::Zstd { level: effort.level() }, effort.pack_target()),
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
            None => plans.push(Plan { encoding, sets: item.sets.clone(), items: vec![item], coded: size }),
        }
        former = Some(group);
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
    fn size(&self) -> u64 {
        match self.form {
            Form::Whole => self.coded.entry.coded,
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

    fn make(
        &self,
        number: usize,
        spools: &Path,
        progress: &Mutex<&mut (dyn FnMut(u64) + Send)>,
    ) -> Result<(Pack, Spool)> {
        let mut writer = PackWriter::of_size(Spool::new(spools)?, self.encoding, Some(self.coded))?;
        for Carried { blob, coded, form, .. } in self.items.iter().copied() {
            match (form, &coded.spool) {
                (Form::Delta(difference), _) => {
                    let entry = PackedBlob { delta: Some(difference.delta.clone()), ..coded.entry.clone() };
                    writer.coded(entry, &mut difference.stored.reader())?;
                }
                (Form::Whole, Some(spool)) => writer.coded(coded.entry.clone(), &mut spool.reader())?,
                (Form::Whole, None) => writer.blob(coded.entry.blob(), &mut blob.open()?)?,
            }
            progress.lock().unwrap_or_else(PoisonError::into_inner)(blob.size);
        }
        let (mut pack, spool) = writer.finish(number)?;
        pack.bases.clone_from(&self.sets);
        Ok((pack, spool))
    }
}
