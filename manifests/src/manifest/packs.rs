//! The part of the manifest that says where every blob lies: packs, frames, deltas, and what a site
//! must hold already (spec 6).
//!
//! What may hurt it: sizes that overflow or lie, a blob that is missing for one site and not for
//! another, a delta whose base is no base, ranges outside of it. [`Manifest::check_carried`] holds
//! every rule that can be decided without a byte of a pack.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Manifest, check_version};
use crate::digest::{Sha256, Sha384};
use crate::name::check_label;
use crate::pack::{DELTA, PLAIN, RAW};
use crate::{ErrorKind, Result, limits};

/// A pack: one codec stream of consecutive blobs, cut into frames (spec 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Member name in the archive: `packs/` and five digits, counted from 0.
    pub name: String,
    /// Codec name: `raw`, `zstd` or `zstd-delta`; the list is open.
    pub codec: String,
    /// Base sets whose sites need this pack, as places in [`Manifest::bases`], rising; none means
    /// every site.
    pub bases: Vec<u32>,
    /// The frames that the member is cut into.
    pub frames: Vec<Frame>,
    /// The blobs whose coded streams, end to end, are the decoded stream.
    pub blobs: Vec<PackedBlob>,
}

impl Pack {
    /// Stored bytes of the member; `None` on overflow.
    pub fn stored_size(&self) -> Option<u64> {
        self.frames.iter().try_fold(0u64, |sum, frame| sum.checked_add(frame.size))
    }

    /// Bytes of its blobs; `None` on overflow.
    pub fn content_size(&self) -> Option<u64> {
        self.blobs.iter().try_fold(0u64, |sum, blob| sum.checked_add(blob.size))
    }

    /// Bytes of its blobs' coded streams; `None` on overflow.
    pub fn coded_size(&self) -> Option<u64> {
        self.blobs.iter().try_fold(0u64, |sum, blob| sum.checked_add(blob.coded))
    }

    /// Whether a site that holds base set `set` needs it; `None` is a site without one.
    pub fn is_for(&self, set: Option<usize>) -> bool {
        let listed = |set: usize| self.bases.iter().any(|base| usize::try_from(*base).is_ok_and(|base| base == set));
        self.bases.is_empty() || set.is_some_and(listed)
    }
}

/// A run of stored bytes with its proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Stored bytes, 1 to [`limits::FRAME_BYTES`].
    pub size: u64,
    /// SHA-384 of the stored bytes: the proof.
    pub sha384: Sha384,
    /// SHA-256 of the stored bytes: lets the end of a one-way link prove frames at its full rate
    /// (`docs/adr/0010-one-way-link.md`). What is installed is proved by SHA-384.
    pub sha256: Sha256,
}

impl Frame {
    /// The frame of `stored`.
    pub fn of(stored: &[u8]) -> Self {
        let size = u64::try_from(stored.len()).unwrap_or(u64::MAX);
        Self { size, sha384: Sha384::of(stored), sha256: Sha256::of(stored) }
    }
}

/// A blob: its name and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Its OCI digest.
    pub digest: Sha256,
    /// Its bytes.
    pub size: u64,
}

/// A blob in a pack, as it is coded there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedBlob {
    /// Its OCI digest.
    pub digest: Sha256,
    /// Its bytes when all is decoded.
    pub size: u64,
    /// Its coding: `plain` or `deflate-tokens`; the list is open.
    pub coding: String,
    /// Bytes of its coded stream.
    pub coded: u64,
    /// In a `zstd-delta` pack, what it is a difference to.
    pub delta: Option<Delta>,
}

impl PackedBlob {
    /// A blob that is carried as its own bytes.
    pub fn plain(blob: Blob) -> Self {
        Self { digest: blob.digest, size: blob.size, coding: PLAIN.into(), coded: blob.size, delta: None }
    }

    /// The blob, without how it is coded.
    pub const fn blob(&self) -> Blob {
        Blob { digest: self.digest, size: self.size }
    }
}

/// A blob as a difference to another that the site holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The base: a blob of every base set that the pack is for.
    pub base: Sha256,
    /// Coding in which the base serves.
    pub coding: String,
    /// Bytes of the base's coded stream.
    pub coded: u64,
    /// The pieces of the blob's coded stream, in order.
    pub segments: Vec<Segment>,
}

/// A piece of a coded stream: one zstd frame whose prefix is a range of the base's coded stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Stored bytes of the zstd frame.
    pub stored: u64,
    /// Bytes that it decodes to.
    pub coded: u64,
    /// First byte of the range.
    pub from: u64,
    /// Bytes of the range.
    pub len: u64,
}

/// What a site holds: the blobs of a former release that this bundle builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSet {
    /// Version of the former release, for people.
    pub release: String,
    /// Its sequence, for people.
    pub sequence: u64,
    /// SHA-384 of its signed manifest, where the builder knew it; for people.
    pub manifest_sha384: Option<Sha384>,
    /// What must be there, strictly rising by digest: what is not carried, and what deltas build on.
    pub blobs: Vec<Blob>,
}

impl BaseSet {
    fn has(&self, digest: &Sha256) -> bool {
        self.blobs.binary_search_by_key(digest, |blob| blob.digest).is_ok()
    }

    /// For a person: version and sequence.
    pub fn title(&self) -> String {
        format!("release {} (sequence {})", self.release, self.sequence)
    }
}

/// Member name of pack number `index`.
pub fn pack_name(index: usize) -> String {
    format!("packs/{index:05}")
}

fn inconsistent(why: String) -> crate::Error {
    ErrorKind::Inconsistent { what: "manifest".into(), why }.into()
}

fn too_large(what: &str, limit: u64, found: u64) -> crate::Error {
    ErrorKind::TooLarge { what: what.into(), limit, found }.into()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl Manifest {
    /// Sizes and counts of packs and base sets, then that every site gets every blob once (R-MAN-4 to
    /// 7, R-PACK-7 to 10).
    pub(super) fn check_packs(&self) -> Result<()> {
        self.check_counts()?;
        for set in &self.bases {
            check_version("release of a base set", &set.release)?;
            if !set.blobs.iter().zip(set.blobs.iter().skip(1)).all(|(a, b)| a.digest < b.digest) {
                return Err(inconsistent(format!("the blobs of base {} are doubled or unsorted", set.title())));
            }
        }
        for (index, pack) in self.packs.iter().enumerate() {
            let name = pack_name(index);
            if pack.name != name {
                return Err(inconsistent(format!("pack {index} is named {:?}, expected {name}", pack.name)));
            }
            self.check_pack(pack)?;
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<()> {
        let frames = self.packs.iter().map(|pack| pack.frames.len()).sum::<usize>();
        let packed = self.packs.iter().map(|pack| pack.blobs.len()).sum::<usize>();
        let held = self.bases.iter().map(|set| set.blobs.len()).sum::<usize>();
        let deltas = self.packs.iter().flat_map(|pack| &pack.blobs).filter_map(|blob| blob.delta.as_ref());
        for (what, limit, found) in [
            ("packs", limits::PACKS, self.packs.len()),
            ("frames", limits::FRAMES, frames),
            ("blobs", limits::BLOBS, packed.saturating_add(held)),
            ("base sets", limits::BASE_SETS, self.bases.len()),
            ("segments", limits::SEGMENTS, deltas.map(|delta| delta.segments.len()).sum()),
        ] {
            if found > limit {
                return Err(too_large(what, count(limit), count(found)));
            }
        }
        Ok(())
    }

    fn check_pack(&self, pack: &Pack) -> Result<()> {
        let name = &pack.name;
        check_label("codec", &pack.codec)?;
        let rising = pack.bases.iter().zip(pack.bases.iter().skip(1)).all(|(a, b)| a < b);
        let known = pack.bases.iter().all(|set| usize::try_from(*set).is_ok_and(|set| set < self.bases.len()));
        if !rising || !known {
            return Err(inconsistent(format!("the base sets of {name} are doubled, unsorted or not there")));
        }
        for frame in &pack.frames {
            if frame.size == 0 || frame.size > limits::FRAME_BYTES {
                return Err(too_large(&format!("a frame of {name}"), limits::FRAME_BYTES, frame.size));
            }
        }
        let stored = pack.stored_size().unwrap_or(u64::MAX);
        if stored > limits::PACK_BYTES {
            return Err(too_large(name, limits::PACK_BYTES, stored));
        }
        let overflow = || inconsistent(format!("the blob sizes of {name} overflow"));
        pack.content_size().ok_or_else(overflow)?;
        let coded = pack.coded_size().ok_or_else(overflow)?;
        if pack.codec == RAW && coded != stored {
            return Err(inconsistent(format!("{name} is raw: {stored} stored bytes, {coded} coded bytes of blobs")));
        }
        for blob in &pack.blobs {
            check_label("coding", &blob.coding)?;
            if blob.coding == PLAIN && blob.coded != blob.size {
                let Blob { digest, size } = blob.blob();
                return Err(inconsistent(format!("blob {digest} is plain: {} coded bytes of {size}", blob.coded)));
            }
            if blob.delta.is_some() != (pack.codec == DELTA) {
                return Err(inconsistent(format!("blob {}: only packs of codec {DELTA} hold deltas", blob.digest)));
            }
        }
        if pack.codec == DELTA { self.check_deltas(pack, stored) } else { Ok(()) }
    }

    /// Each delta's base is held by every site that the pack is for; its pieces are within their
    /// limits, add up, and move forward only (R-PACK-9, R-PACK-10).
    fn check_deltas(&self, pack: &Pack, stored: u64) -> Result<()> {
        let mut pieces = 0u64;
        for blob in &pack.blobs {
            let Some(delta) = &blob.delta else { continue };
            let refuse =
                |why: &str| crate::Error::from(ErrorKind::Delta { blob: blob.digest.to_string(), why: why.into() });
            check_label("coding", &delta.coding)?;
            let sets = self.bases.iter().enumerate().filter(|(index, _)| pack.is_for(Some(*index)));
            if self.bases.is_empty() || !sets.map(|(_, set)| set).all(|set| set.has(&delta.base)) {
                return Err(refuse("its base is not among what the sites it is for must hold"));
            }
            let (mut coded, mut before) = (0u64, (0u64, 0u64));
            for segment in &delta.segments {
                if segment.coded == 0 || segment.coded > limits::SEGMENT_BYTES {
                    return Err(refuse("a segment has no coded bytes, or more than its limit"));
                }
                if segment.stored == 0 || segment.stored > limits::SEGMENT_STORED {
                    return Err(refuse("a segment has no stored bytes, or more than its limit"));
                }
                if segment.len > limits::PREFIX_BYTES {
                    return Err(refuse("a segment's range of its base is longer than the limit"));
                }
                let end = segment.from.checked_add(segment.len).filter(|end| *end <= delta.coded);
                let end = end.ok_or_else(|| refuse("a segment's range lies outside of its base"))?;
                if segment.from < before.0 || end < before.1 {
                    return Err(refuse("a segment's range goes back in its base"));
                }
                before = (segment.from, end);
                coded = coded.saturating_add(segment.coded);
                pieces = pieces.saturating_add(segment.stored);
            }
            if coded != blob.coded {
                return Err(refuse("its segments are not its coded bytes"));
            }
        }
        if pieces != stored {
            return Err(inconsistent(format!("{}: {stored} stored bytes, {pieces} in segments", pack.name)));
        }
        Ok(())
    }

    /// Every site gets every blob that something names, once, and no other (R-MAN-7).
    pub(super) fn check_carried(&self) -> Result<()> {
        let named: BTreeSet<&Sha256> = self.named().map(|(_, digest)| digest).collect();
        let packed = self.packs.iter().flat_map(|pack| &pack.blobs);
        let mut sizes: BTreeMap<Sha256, u64> = BTreeMap::new();
        let held = self.bases.iter().flat_map(|set| set.blobs.iter().copied());
        for Blob { digest, size } in held.chain(packed.clone().map(PackedBlob::blob)) {
            if sizes.insert(digest, size).is_some_and(|other| other != size) {
                return Err(inconsistent(format!("blob {digest} has two sizes")));
            }
        }
        if self.bases.is_empty() {
            self.check_site(None, &named)?;
        }
        (0..self.bases.len()).try_for_each(|set| self.check_site(Some(set), &named))?;
        match packed.map(|blob| &blob.digest).find(|digest| !named.contains(digest)) {
            None => Ok(()),
            Some(stowaway) => Err(inconsistent(format!("blob {stowaway} is in a pack, but nothing names it"))),
        }
    }

    /// For the sites of one base set, or for all in a bundle without.
    fn check_site(&self, set: Option<usize>, named: &BTreeSet<&Sha256>) -> Result<()> {
        let held = set.and_then(|set| self.bases.get(set));
        let (mut got, mut bases) = (BTreeSet::<&Sha256>::new(), BTreeSet::<&Sha256>::new());
        for blob in self.packs.iter().filter(|pack| pack.is_for(set)).flat_map(|pack| &pack.blobs) {
            if !got.insert(&blob.digest) {
                return Err(inconsistent(format!("blob {} is in the packs twice", blob.digest)));
            }
            bases.extend(blob.delta.as_ref().map(|delta| &delta.base));
        }
        for Blob { digest, .. } in held.iter().flat_map(|set| &set.blobs) {
            if got.contains(digest) {
                return Err(inconsistent(format!("blob {digest} is carried to sites that must hold it")));
            }
            if !named.contains(digest) && !bases.contains(digest) {
                return Err(inconsistent(format!("blob {digest} must be held, but nothing needs it")));
            }
        }
        let missing = |digest: &Sha256| !got.contains(digest) && !held.is_some_and(|set| set.has(digest));
        match self.named().find(|(_, digest)| missing(digest)) {
            None => Ok(()),
            Some((what, digest)) => {
                let site = held.map_or_else(String::new, |set| format!(" for sites at {}", set.title()));
                Err(inconsistent(format!("{what} names blob {digest}, which no pack holds{site}")))
            }
        }
    }
}
