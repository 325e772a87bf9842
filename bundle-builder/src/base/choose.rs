//! For each blob and each base: carried whole, not at all, or as the difference to which former blob.
//!
//! A base is found by similarity (shared fingerprints of the coded streams), or, where a small stream
//! resembles none, by name: the layer at the same place of the image of the same name. First it is looked
//! for among the former blobs that are gone; for what finds none there, also among those that stay in the
//! new release, which their sites hold just as well. What is carried raw is tried as well, as tokens or as
//! its own bytes: compressed content that changed in one place is the same everywhere else. A difference is
//! kept only where it is clearly smaller than about what the whole would take.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write as _};

use bundle_format::digest::Sha256;
use bundle_format::limits::{PREFIX_BYTES, SEGMENT_BYTES};
use bundle_format::manifest::{Delta, Segment};
use bundle_format::pack::{CodedReader, PLAIN, TOKENS, encode_segment};
use bundle_format::parallel;

use super::Bases;
use super::sketch::{Sketch, Sketcher};
use crate::arrange::Form;
use crate::build::Options;
use crate::coding::{Coded, Shrinks, Whole};
use crate::collect::{BlobKind, Collected, CollectedBlob};
use crate::error::{Error, Result};
use crate::spool::Spool;

/// A blob for some sites: none listed means all.
#[derive(Debug)]
pub struct Lot {
    /// Base sets.
    pub sets: Vec<u32>,
    /// The difference that they get instead of the whole.
    pub difference: Option<Difference>,
}

/// A delta with its segments' stored bytes.
#[derive(Debug)]
pub struct Difference {
    /// What the manifest says of it.
    pub delta: Delta,
    /// Its zstd frames.
    pub stored: Spool,
}

impl Lot {
    /// As what it is carried.
    pub const fn form(&self) -> Form<'_> {
        match &self.difference {
            Some(difference) => Form::Delta(difference),
            None => Form::Whole,
        }
    }
}

/// A former blob as it can serve.
#[derive(Debug)]
struct Candidate {
    digest: Sha256,
    coding: &'static str,
    spool: Spool,
    sketch: Sketch,
}

/// One in so many fingerprints must be shared.
const LEAST_SHARED: usize = 10;
/// Smaller former blobs save nothing.
const LEAST_BYTES: u64 = 512;
/// Left around the part of a base that a segment resembles.
const MARGIN: u64 = 4 << 20;

/// What is carried to whom: pairs of a blob's place in `collected` and its lot.
pub fn lots(
    collected: &Collected,
    coded: &[Option<Coded>],
    bases: &Bases,
    options: &Options<'_>,
) -> Result<Vec<(usize, Lot)>> {
    let mut candidates = code_all(&gone(collected, bases), options, &|digest| bases.pool.open(digest))?;
    let mut wanted = choices(collected, coded, bases, &candidates);
    let stay = stay(collected, bases);
    if !stay.is_empty()
        && wanted.iter().any(|(index, _, base)| base.is_none() && takes_a_base(collected, coded, *index))
    {
        let of = &collected.blobs;
        let open = |digest: &Sha256| of.iter().find(|blob| blob.digest == *digest).map(CollectedBlob::open).transpose();
        candidates.extend(code_all(&stay, options, &open)?);
        wanted = choices(collected, coded, bases, &candidates);
    }
    let differences = parallel::map(options.jobs, &wanted, |_, (index, _, base)| {
        let pair = base.and_then(|base| candidates.get(base)).zip(coded.get(*index).and_then(Option::as_ref));
        let Some(((candidate, coded), blob)) = pair.zip(collected.blobs.get(*index)) else { return Ok(None) };
        let difference = differ(coded, blob, candidate, options)?;
        Ok::<_, Error>(Some(difference).filter(|difference| difference.stored.len() < worth(coded)))
    })?;
    Ok(merge(wanted, differences, bases.sets.len()))
}

/// For each blob that is not everywhere: who gets it, and the best candidate for them. Every blob is
/// listed for each of its bases, with the sets that take this one.
fn choices(
    collected: &Collected,
    coded: &[Option<Coded>],
    bases: &Bases,
    candidates: &[Candidate],
) -> Vec<(usize, Vec<u32>, Option<usize>)> {
    let mut wanted: Vec<(usize, Vec<u32>, Option<usize>)> = Vec::new();
    for (index, (blob, coded)) in collected.blobs.iter().zip(coded).enumerate() {
        let Some(coded) = coded else { continue };
        let lacking: Vec<usize> = lacking(bases, &blob.digest);
        let mut by_base: BTreeMap<Option<usize>, Vec<u32>> = BTreeMap::new();
        let common = best(blob, coded, &lacking, bases, candidates);
        for set in &lacking {
            // One difference for all of them, unless one of them has a base that is clearly better.
            let own = best(blob, coded, &[*set], bases, candidates);
            let chosen = match (common, own) {
                (Some(common), Some(own)) if common.1 * 10 >= own.1 * 9 => Some(common),
                (_, own) => own,
            };
            by_base.entry(chosen.map(|(base, _)| base)).or_default().push(u32::try_from(*set).unwrap_or(u32::MAX));
        }
        if bases.is_empty() {
            by_base.insert(None, Vec::new());
        }
        wanted.extend(by_base.into_iter().map(|(base, sets)| (index, sets, base)));
    }
    wanted
}

/// Whether a base is worth looking for among all that stays. A package that its publisher compressed
/// resembles its former version at most.
fn takes_a_base(collected: &Collected, coded: &[Option<Coded>], index: usize) -> bool {
    let pair = collected.blobs.get(index).zip(coded.get(index).and_then(Option::as_ref));
    pair.is_some_and(|(blob, coded)| {
        may_differ(blob) && (coded.shrinks == Shrinks::Yes || blob.kind != BlobKind::Package)
    })
}

const fn may_differ(blob: &CollectedBlob) -> bool {
    !matches!(blob.kind, BlobKind::Document | BlobKind::Workload | BlobKind::Attachment)
}

/// A difference must be smaller than this.
const fn worth(coded: &Coded) -> u64 {
    coded.estimate / 10 * 9
}

/// Lots of one blob that turned out whole are one lot; all sets are written as none.
fn merge(
    wanted: Vec<(usize, Vec<u32>, Option<usize>)>,
    differences: Vec<Option<Difference>>,
    sets: usize,
) -> Vec<(usize, Lot)> {
    let mut lots: Vec<(usize, Lot)> = Vec::new();
    for ((index, of, _), difference) in wanted.into_iter().zip(differences) {
        let whole = lots.iter_mut().find(|(other, lot)| *other == index && lot.difference.is_none());
        match (whole, &difference) {
            (Some((_, lot)), None) => lot.sets.extend(of),
            _ => lots.push((index, Lot { sets: of, difference })),
        }
    }
    for (_, lot) in &mut lots {
        lot.sets.sort_unstable();
        if lot.sets.len() == sets {
            lot.sets.clear();
        }
    }
    lots
}

/// What is carried whole, whatever bases there are: to whom.
pub fn whole(bases: &Bases, digest: &Sha256) -> Lot {
    let mut sets: Vec<u32> =
        lacking(bases, digest).into_iter().map(|set| u32::try_from(set).unwrap_or(u32::MAX)).collect();
    if sets.len() == bases.sets.len() {
        sets.clear();
    }
    Lot { sets, difference: None }
}

/// The base sets that lack a blob.
fn lacking(bases: &Bases, digest: &Sha256) -> Vec<usize> {
    let lacks = |(_, set): &(usize, &super::Base)| !set.blobs.contains_key(digest);
    bases.sets.iter().enumerate().filter(lacks).map(|(index, _)| index).collect()
}

/// The former blobs that are at hand and not part of the new release.
fn gone(collected: &Collected, bases: &Bases) -> Vec<(Sha256, u64)> {
    let carried: BTreeSet<&Sha256> = collected.blobs.iter().map(|blob| &blob.digest).collect();
    let former: BTreeMap<&Sha256, u64> = bases.sets.iter().flat_map(|set| &set.blobs).map(|(d, s)| (d, *s)).collect();
    let serves = |(digest, _): &(&Sha256, u64)| !carried.contains(digest) && bases.pool.has(digest);
    former.into_iter().filter(serves).map(|(digest, size)| (*digest, size)).collect()
}

/// The blobs of the new release that some sites hold already. A difference builds on one only for sets
/// that have it ([`best`]), to whose sites it is then not carried, so that R-MAN-7 holds and no
/// difference builds on another.
fn stay(collected: &Collected, bases: &Bases) -> Vec<(Sha256, u64)> {
    let large = |blob: &&CollectedBlob| matches!(blob.kind, BlobKind::Layer | BlobKind::File | BlobKind::Package);
    let held = |blob: &&CollectedBlob| bases.sets.iter().any(|set| set.blobs.contains_key(&blob.digest));
    collected.blobs.iter().filter(large).filter(held).map(|blob| (blob.digest, blob.size)).collect()
}

/// A former blob's bytes, where they are at hand.
type Content<'a> = Option<Box<dyn Read + Send + 'a>>;

/// Codes blobs that may serve; those do not that are tiny.
fn code_all<'a>(
    blobs: &[(Sha256, u64)],
    options: &Options<'_>,
    open: &(impl Fn(&Sha256) -> Result<Content<'a>> + Sync),
) -> Result<Vec<Candidate>> {
    let mut blobs: Vec<&(Sha256, u64)> = blobs.iter().filter(|(_, size)| *size >= LEAST_BYTES).collect();
    // The largest first, so that no core waits long at the end.
    blobs.sort_by_key(|(digest, size)| (std::cmp::Reverse(*size), *digest));
    let made = parallel::map(options.jobs, &blobs, |_, (digest, _)| candidate(digest, open, options))?;
    let mut made: Vec<Candidate> = made.into_iter().flatten().collect();
    made.sort_by_key(|candidate| candidate.digest);
    Ok(made)
}

/// gzip as its tokens, everything else as it is; so too gzip that has no tokens.
fn candidate<'a>(
    digest: &Sha256,
    open: &impl Fn(&Sha256) -> Result<Content<'a>>,
    options: &Options<'_>,
) -> Result<Option<Candidate>> {
    let Some(mut input) = open(digest)? else { return Ok(None) };
    let mut head = [0; 2];
    let filled =
        crate::coding::read_up_to(&mut input, &mut head).map_err(|e| Error::io(format!("blob {digest}"), e))?;
    let head = head.get(..filled).unwrap_or(&[]);
    let coding = if head == [0x1f, 0x8b] { TOKENS } else { PLAIN };
    let coded = candidate_as(coding, digest, Box::new(head.chain(input)), options)?;
    match (coded, coding) {
        (None, TOKENS) => match open(digest)? {
            Some(again) => candidate_as(PLAIN, digest, again, options),
            None => Ok(None),
        },
        (coded, _) => Ok(coded),
    }
}

/// A former blob by its coded stream of this coding; `None` where it has none.
fn candidate_as(
    coding: &'static str,
    digest: &Sha256,
    input: Box<dyn Read + '_>,
    options: &Options<'_>,
) -> Result<Option<Candidate>> {
    let mut reader = CodedReader::new(&digest.to_string(), coding, input)?;
    let (mut spool, mut sketcher, mut part) = (Spool::new(options.spool)?, Sketcher::default(), Vec::new());
    loop {
        match reader.next_part(&mut part) {
            Ok(0) => break,
            Ok(_) => {
                sketcher.update(&part);
                spool.write_all(&part).map_err(|e| Error::io("spool", e))?;
                part.clear();
            }
            Err(error) if matches!(error.kind(), bundle_format::ErrorKind::Coding { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(Candidate { digest: *digest, coding, spool, sketch: sketcher.finish() }))
}

/// The best candidate that all of these sets hold, with its score.
fn best(
    blob: &CollectedBlob,
    coded: &Coded,
    sets: &[usize],
    bases: &Bases,
    candidates: &[Candidate],
) -> Option<(usize, usize)> {
    if !may_differ(blob) {
        return None;
    }
    let sets: Vec<&super::Base> = sets.iter().filter_map(|set| bases.sets.get(*set)).collect();
    let held = |candidate: &Candidate| sets.iter().all(|set| set.blobs.contains_key(&candidate.digest));
    let mut found: Option<(usize, usize)> = None;
    for (index, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| held(candidate)) {
        let shared = coded.sketch.shared(&candidate.sketch);
        if shared * LEAST_SHARED >= coded.sketch.len() && found.is_none_or(|(_, most)| shared > most) && shared > 0 {
            found = Some((index, shared));
        }
    }
    if found.is_some() || !coded.sketch.is_small() {
        return found;
    }
    let place = blob.place.as_ref()?;
    let named = sets.first()?.places.get(place)?;
    let index = candidates.iter().position(|candidate| candidate.digest == *named && held(candidate))?;
    Some((index, 1))
}

/// Encodes a blob's coded stream as segments, each with a range of the candidate's before it.
fn differ(coded: &Coded, blob: &CollectedBlob, base: &Candidate, options: &Options<'_>) -> Result<Difference> {
    let (size, what) = (coded.entry.coded, format!("blob {}", blob.digest));
    let mut stream = match &coded.whole {
        Whole::Kept(spool) => CodedReader::new(&what, PLAIN, Box::new(spool.reader()))?,
        // Tokens that do not pay for the whole were not kept.
        Whole::Own | Whole::Made => CodedReader::new(&what, &coded.entry.coding, blob.open()?)?,
    };
    let mut stored = Spool::new(options.spool)?;
    let mut segments = Vec::new();
    let mut at = 0;
    for (from, len) in ranges(size, &coded.sketch, base) {
        let count = SEGMENT_BYTES.min(size - at);
        let part = stream.range(at, count)?;
        let frame = encode_segment(&base.spool.bytes(from, len)?, part, options.effort.delta_level())?;
        stored.write_all(&frame).map_err(|e| Error::io("spool", e))?;
        let bytes = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        segments.push(Segment { stored: bytes, coded: length(part), from, len });
        at += count;
    }
    // A checked reader speaks at its end; and as much as before must have come.
    let rest = length(stream.range(size, 1)?);
    let found = segments.iter().map(|segment| segment.coded).sum::<u64>() + rest;
    if found != size {
        return Err(
            bundle_format::Error::from(bundle_format::ErrorKind::Truncated { what, expected: size, found }).into()
        );
    }
    let delta = Delta { base: base.digest, coding: base.coding.into(), coded: base.spool.len(), segments };
    Ok(Difference { delta, stored })
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// For each segment of a stream of `size` bytes the range of the base that it resembles most, first
/// byte and length; both ends only move forward.
fn ranges(size: u64, sketch: &Sketch, base: &Candidate) -> Vec<(u64, u64)> {
    let end_of_base = base.spool.len();
    let mut ranges: Vec<Option<(u64, u64)>> = Vec::new();
    for number in 0..size.div_ceil(SEGMENT_BYTES) {
        let from = number * SEGMENT_BYTES;
        let found = sketch.found_in(&base.sketch, from, from + SEGMENT_BYTES);
        ranges.push(window(&found).map(|(first, last)| {
            let start = first.saturating_sub(MARGIN);
            (start, last.saturating_add(MARGIN).min(end_of_base).min(start + PREFIX_BYTES))
        }));
    }
    // A stream too small for fingerprints takes the whole of a small base.
    let whole = (0, end_of_base.min(PREFIX_BYTES));
    forward(&ranges.into_iter().map(|range| range.unwrap_or(whole)).collect::<Vec<_>>())
}

/// The stretch of at most a prefix with the most of these sorted places.
fn window(found: &[u64]) -> Option<(u64, u64)> {
    let reach = PREFIX_BYTES - 2 * MARGIN;
    let (mut best, mut first) = (None::<(usize, u64, u64)>, 0);
    for (last, end) in found.iter().enumerate() {
        while let Some(start) = found.get(first).filter(|start| *end - **start > reach) {
            debug_assert!(start <= end);
            first += 1;
        }
        let start = found.get(first).copied().unwrap_or(*end);
        if best.is_none_or(|(count, ..)| last + 1 - first > count) {
            best = Some((last + 1 - first, start, *end));
        }
    }
    best.map(|(_, start, end)| (start, end))
}

/// Widens ranges, within a prefix's length, until they only move forward.
fn forward(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut starts = Vec::new();
    let mut least = u64::MAX;
    for (start, _) in ranges.iter().rev() {
        least = least.min(*start);
        starts.push(least);
    }
    starts.reverse();
    let (mut from, mut end) = (0u64, 0u64);
    let mut done = Vec::new();
    for (start, (_, last)) in starts.into_iter().zip(ranges) {
        end = end.max(*last);
        from = from.max(start.max(end.saturating_sub(PREFIX_BYTES)));
        done.push((from, end - from));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_only_move_forward_and_keep_their_limit() {
        let mib = 1u64 << 20;
        for (wanted, expected) in [
            (vec![(0, 10 * mib), (5 * mib, 20 * mib)], vec![(0, 10 * mib), (5 * mib, 15 * mib)]),
            (vec![(50 * mib, 60 * mib), (0, 10 * mib)], vec![(0, 60 * mib), (0, 60 * mib)]),
            (vec![(300 * mib, 400 * mib), (0, 100 * mib)], vec![(272 * mib, 128 * mib), (272 * mib, 128 * mib)]),
        ] {
            assert_eq!(forward(&wanted), expected, "{wanted:?}");
        }
        assert_eq!(window(&[]), None);
        assert_eq!(window(&[5]), Some((5, 5)));
        assert_eq!(window(&[0, 500 * mib, 501 * mib, 502 * mib]), Some((500 * mib, 502 * mib)));
    }
}
