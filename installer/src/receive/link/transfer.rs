//! One bundle on the link, its manifest proved: blocks in, frames proved.
//!
//! The socket's thread sorts shards into open blocks ([`Transfer`]); workers restore, write and
//! prove ([`Target`]). A frame is proved by its signed SHA-256 as soon as all its blocks are
//! written; one that fails throws its blocks away, so that a later pass can bring them again. Where
//! only memory would be read back, the blocks written last are kept for it ([`Recent`]).

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bundle_format::datagram::{BODY_BYTES, Plan};
use bundle_format::digest::Sha256Hasher;
use bundle_format::erasure::Decoder;
use bundle_format::manifest::Frame;

use crate::error::{Error, Result};
use crate::receive::bitmap::Bitmap;
use crate::receive::direct::{Aligned, DirectFile};
use crate::receive::{Arrival, Session, write_journal};

/// Blocks that are open at once at most: what a sender interleaves, and some for what comes late.
const OPEN: usize = 24;
/// Bytes of written blocks that are kept for frames that end in a later block: a frame's, and those of
/// blocks that are written beside it.
const RECENT_BYTES: usize = 16 << 20;

/// A block that is being put together, or is ready for a worker.
pub struct Block {
    number: u32,
    /// Originals, then recovery shards.
    buffer: Aligned,
    have: Bitmap,
    originals: usize,
    /// Originals that are there.
    there: usize,
}

/// Work for the workers.
pub struct Job {
    target: Arc<Target>,
    block: Block,
}

/// Where a transfer's bytes go; shared with the workers.
pub struct Target {
    plan: Plan,
    id: [u8; 8],
    part: DirectFile,
    part_path: PathBuf,
    folder: PathBuf,
    key: String,
    frames: Vec<(u64, Frame)>,
    maps: Mutex<Maps>,
    recent: Arc<Recent>,
    /// Blocks that a worker threw away.
    again: Mutex<Vec<u32>>,
    has_again: AtomicBool,
    complete: AtomicBool,
    /// Bytes of blocks that are written.
    pub written: AtomicU64,
    /// Blocks that lacked originals and were restored.
    pub repaired: AtomicU64,
    /// Frames whose digest was wrong, over all passes.
    pub bad_frames: AtomicU64,
}

/// Blocks of all transfers that were written last, where no disk is asked for them; the newest last.
#[derive(Default)]
pub struct Recent(Mutex<Vec<Arc<Written>>>);

impl Recent {
    /// Keeps a block for the frames that it is a part of.
    fn keep(&self, block: Written) {
        let mut all = lock(&self.0);
        // A block that had been thrown away is written a second time.
        all.retain(|other| (other.session, other.at) != (block.session, block.at));
        let most = RECENT_BYTES / block.buffer.len().max(1);
        all.push(Arc::new(block));
        let surplus = all.len().saturating_sub(most);
        drop(all.drain(..surplus));
    }

    /// What is kept of a session, by place.
    fn of(&self, session: [u8; 8]) -> Vec<Arc<Written>> {
        let mut some: Vec<_> = lock(&self.0).iter().filter(|block| block.session == session).cloned().collect();
        some.sort_unstable_by_key(|block| block.at);
        some
    }

    /// Gives all memory back.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// The bytes of a block that was written. Its memory goes back when nobody looks at it any more.
struct Written {
    session: [u8; 8],
    at: u64,
    len: usize,
    buffer: Aligned,
    home: SyncSender<Aligned>,
}

impl Written {
    fn bytes(&self) -> &[u8] {
        self.buffer.get().get(..self.len).unwrap_or(&[])
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Nobody needs it any more when the link is gone.
        drop(self.home.send(std::mem::take(&mut self.buffer)));
    }
}

#[derive(Clone)]
struct Maps {
    /// Blocks on disk.
    blocks: Bitmap,
    /// Frames proved on disk.
    frames: Bitmap,
    /// Originals on disk of blocks that are not whole.
    shards: Bitmap,
}

/// The socket thread's side of a transfer.
pub struct Transfer {
    /// The proven bundle.
    pub arrival: Arrival,
    session: Session,
    /// Shared with the workers.
    pub target: Arc<Target>,
    open: BTreeMap<u32, Block>,
    /// In the order of their opening.
    order: Vec<u32>,
    /// Blocks that need no more shards: with a worker, or on disk.
    closed: Bitmap,
}

/// What became of a shard.
pub enum Sorted {
    /// Nothing to be done.
    Kept,
    /// A block has enough.
    Ready(Job),
}

impl Transfer {
    /// Begins a proven transfer in the inbox, or goes on with it.
    pub fn open(arrival: Arrival, plan: Plan, session: Session, recent: Arc<Recent>) -> Result<Self> {
        let id: String = bundle_format::text::hex(&plan.session());
        let key = format!("lockgate-link-journal/1 {id}");
        let packs_at = u64::try_from(arrival.prologue().len()).unwrap_or(0);
        let (places, _) = arrival.verified().manifest().frame_places(packs_at);
        let frames: Vec<(u64, Frame)> = places.into_iter().map(|(at, frame)| (at, *frame)).collect();
        let count = u64::try_from(frames.len()).unwrap_or(0);
        let shards = plan.blocks() * u64::from(plan.originals);
        let fresh =
            || Maps { blocks: Bitmap::new(plan.blocks()), frames: Bitmap::new(count), shards: Bitmap::new(shards) };
        let maps = session.read_journal(&key).and_then(|body| parse_journal(&fresh(), &body)).unwrap_or_else(fresh);
        let part = session.part().try_clone().map_err(|e| Error::io(session.part_path().display().to_string(), e))?;
        let written = (0..plan.blocks()).filter(|block| maps.blocks.get(*block)).map(|block| plan.place(block).1).sum();
        let target = Target {
            plan,
            part: DirectFile::new(part, session.part_path()),
            part_path: session.part_path().to_owned(),
            folder: session.folder().to_owned(),
            key,
            frames,
            maps: Mutex::new(maps),
            id: plan.session(),
            recent,
            again: Mutex::new(Vec::new()),
            has_again: AtomicBool::new(false),
            complete: AtomicBool::new(false),
            written: AtomicU64::new(written),
            repaired: AtomicU64::new(0),
            bad_frames: AtomicU64::new(0),
        };
        // Frames whose last block was written just before the journal, and not proved any more.
        target.prove(0..target.frames.len(), &mut Aligned::default())?;
        let closed = lock(&target.maps).blocks.clone();
        Ok(Self { arrival, session, target: Arc::new(target), open: BTreeMap::new(), order: Vec::new(), closed })
    }

    /// Bytes of one block's memory.
    pub fn block_memory(plan: &Plan) -> usize {
        (usize::from(plan.originals) + usize::from(plan.recovery)) * BODY_BYTES
    }

    /// Sorts a shard in. `buffers` gives memory for a new block.
    pub fn shard(
        &mut self,
        number: u32,
        shard: u16,
        body: &[u8; BODY_BYTES],
        buffers: &mut dyn FnMut() -> Option<Aligned>,
    ) -> Result<Sorted> {
        if self.target.has_again.swap(false, Ordering::Acquire) {
            let again = std::mem::take(&mut *lock(&self.target.again));
            for block in again {
                self.closed.clear(u64::from(block));
            }
        }
        let plan = self.target.plan;
        let (block, shard) = (u64::from(number), usize::from(shard));
        if block >= plan.blocks() || self.closed.get(block) {
            return Ok(Sorted::Kept);
        }
        let originals = plan.originals_of(block);
        if shard >= originals + usize::from(plan.recovery) {
            return Ok(Sorted::Kept);
        }
        if !self.open.contains_key(&number) {
            // Where there is no memory left, the oldest block's shards go to disk and its memory is used.
            let fresh = if self.open.len() < OPEN { buffers() } else { None };
            let Some(buffer) = (match fresh {
                Some(buffer) => Some(buffer),
                None => self.put_away_oldest()?,
            }) else {
                return Ok(Sorted::Kept);
            };
            let opened = self.target.reopen(number, originals, buffer)?;
            self.open.insert(number, opened);
            self.order.push(number);
        }
        let Some(open) = self.open.get_mut(&number) else { return Ok(Sorted::Kept) };
        // Recovery shards lie behind the place of a full block's originals.
        let slot = if shard < originals { shard } else { usize::from(plan.originals) + shard - originals };
        if !open.have.set(u64::try_from(slot).unwrap_or(u64::MAX)) {
            return Ok(Sorted::Kept);
        }
        if let Some(to) = open.buffer.get_mut().get_mut(slot * BODY_BYTES..(slot + 1) * BODY_BYTES) {
            to.copy_from_slice(body);
        }
        open.there += usize::from(shard < originals);
        if open.have.count() < u64::try_from(originals).unwrap_or(u64::MAX) {
            return Ok(Sorted::Kept);
        }
        self.closed.set(block);
        self.order.retain(|other| *other != number);
        let ready = self.open.remove(&number);
        Ok(ready.map_or(Sorted::Kept, |block| Sorted::Ready(Job { target: Arc::clone(&self.target), block })))
    }

    /// Writes what the oldest open block has, and gives its memory back.
    pub fn put_away_oldest(&mut self) -> Result<Option<Aligned>> {
        if self.order.is_empty() {
            return Ok(None);
        }
        let number = self.order.remove(0);
        let Some(block) = self.open.remove(&number) else { return Ok(None) };
        self.target.put_away(&block)?;
        Ok(Some(block.buffer))
    }

    /// Writes what all open blocks have and the journal: this is where a later run goes on.
    pub fn save(&mut self) -> Result<()> {
        while self.put_away_oldest()?.is_some() {}
        self.target.save()
    }

    /// Checks what no frame covers, with all frames proved: the bundle is whole. Blocks with a wrong
    /// byte there are thrown away.
    pub fn is_whole(&self) -> Result<bool> {
        if !self.target.complete.load(Ordering::Acquire) {
            return Ok(false);
        }
        let packs_at = u64::try_from(self.arrival.prologue().len()).unwrap_or(0);
        let mut filler = self.arrival.verified().manifest().filler(packs_at)?;
        filler.push((0, self.arrival.prologue().to_vec()));
        for (at, expected) in filler {
            let mut found = vec![0; expected.len()];
            let io = |e| Error::io(self.target.part_path.display().to_string(), e);
            self.target.part.cached().read_exact_at(&mut found, at).map_err(io)?;
            if found != expected {
                self.target.throw_away(at, u64::try_from(expected.len()).unwrap_or(0));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Number of blocks that wait for more shards.
    pub fn open_blocks(&self) -> usize {
        self.open.len()
    }

    /// The runs of blocks that are not there, first and last.
    pub fn missing(&self) -> Vec<(u64, u64)> {
        lock(&self.target.maps).blocks.gaps()
    }

    /// The proven bundle and its session, for the end. The workers must be gone.
    pub fn into_parts(self) -> (Arrival, Session) {
        (self.arrival, self.session)
    }
}

impl Target {
    /// Number of blocks on disk.
    pub fn blocks_written(&self) -> u64 {
        lock(&self.maps).blocks.count()
    }

    /// The transfer's plan.
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// A block's memory with what of it is on disk already.
    fn reopen(&self, number: u32, originals: usize, mut buffer: Aligned) -> Result<Block> {
        let block = u64::from(number);
        let slots = usize::from(self.plan.originals) + usize::from(self.plan.recovery);
        if buffer.len() < slots * BODY_BYTES {
            buffer = Aligned::new(slots * BODY_BYTES);
        }
        let mut have = Bitmap::new(u64::try_from(slots).unwrap_or(0));
        let first = block * u64::from(self.plan.originals);
        let maps = lock(&self.maps);
        let kept = (0..originals).filter(|shard| maps.shards.get(first + u64::try_from(*shard).unwrap_or(0)));
        kept.for_each(|shard| {
            have.set(u64::try_from(shard).unwrap_or(u64::MAX));
        });
        drop(maps);
        let there = usize::try_from(have.count()).unwrap_or(0);
        let (at, bytes) = self.plan.place(block);
        let (on_disk, rest) = buffer.get_mut().split_at_mut(usize::try_from(bytes).unwrap_or(0));
        // The last shard of the archive is filled up with zeros.
        rest.iter_mut().take(BODY_BYTES).for_each(|byte| *byte = 0);
        if there > 0 {
            self.part.cached().read_exact_at(on_disk, at).map_err(|e| self.io(e))?;
        }
        Ok(Block { number, buffer, have, originals, there })
    }

    /// Writes the originals of a block that is not whole.
    fn put_away(&self, block: &Block) -> Result<()> {
        let number = u64::from(block.number);
        let (at, bytes) = self.plan.place(number);
        let first = number * u64::from(self.plan.originals);
        for shard in 0..block.originals {
            let (index, from) = (u64::try_from(shard).unwrap_or(0), shard * BODY_BYTES);
            if !block.have.get(index) || lock(&self.maps).shards.get(first + index) {
                continue;
            }
            let to = (from + BODY_BYTES).min(usize::try_from(bytes).unwrap_or(0));
            let place = at + u64::try_from(from).unwrap_or(0);
            let bytes = block.buffer.get().get(from..to).unwrap_or(&[]);
            self.part.cached().write_all_at(bytes, place).map_err(|e| self.io(e))?;
            lock(&self.maps).shards.set(first + index);
        }
        Ok(())
    }

    /// Frames that overlap the archive's bytes `at` to `at + bytes`.
    fn frames_at(&self, at: u64, bytes: u64) -> std::ops::Range<usize> {
        let first = self.frames.partition_point(|(place, frame)| place + frame.size <= at);
        let end = self.frames.partition_point(|(place, _)| *place < at + bytes);
        first..end.max(first)
    }

    /// Blocks that hold the archive's bytes `at` to `at + bytes`.
    fn blocks_at(&self, at: u64, bytes: u64) -> std::ops::RangeInclusive<u64> {
        let each = self.plan.block_bytes().max(1);
        at / each..=(at + bytes.max(1) - 1) / each
    }

    /// Proves those of `frames` that are not proved and whose blocks are all written.
    fn prove(&self, frames: std::ops::Range<usize>, memory: &mut Aligned) -> Result<()> {
        let ready: Vec<usize> = {
            let maps = lock(&self.maps);
            let is_ready = |frame: &usize| {
                !maps.frames.get(u64::try_from(*frame).unwrap_or(0))
                    && self.frames.get(*frame).is_some_and(|(place, frame)| {
                        self.blocks_at(*place, frame.size).all(|block| maps.blocks.get(block))
                    })
            };
            frames.filter(is_ready).collect()
        };
        for index in ready {
            let Some((place, frame)) = self.frames.get(index) else { continue };
            let length = usize::try_from(frame.size).unwrap_or(0);
            let mut hasher = Sha256Hasher::default();
            let recent = self.recent.of(self.id);
            let fresh: Vec<(u64, &[u8])> = recent.iter().map(|block| (block.at, block.bytes())).collect();
            self.part.read(memory, (*place, length), &fresh, |piece| hasher.update(piece)).map_err(|e| self.io(e))?;
            if hasher.finish() == frame.sha256 {
                lock(&self.maps).frames.set(u64::try_from(index).unwrap_or(u64::MAX));
            } else {
                self.bad_frames.fetch_add(1, Ordering::Relaxed);
                self.throw_away(*place, frame.size);
            }
        }
        let maps = lock(&self.maps);
        if maps.blocks.is_full() && maps.frames.is_full() {
            self.complete.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn throw_away(&self, at: u64, bytes: u64) {
        let mut maps = lock(&self.maps);
        let mut again = lock(&self.again);
        for block in self.blocks_at(at, bytes) {
            if maps.blocks.get(block) {
                maps.blocks.clear(block);
                self.written.fetch_sub(self.plan.place(block).1, Ordering::Relaxed);
                again.push(u32::try_from(block).unwrap_or(u32::MAX));
            }
            let first = block * u64::from(self.plan.originals);
            (first..first + u64::from(self.plan.originals)).for_each(|shard| maps.shards.clear(shard));
        }
        self.complete.store(false, Ordering::Release);
        self.has_again.store(true, Ordering::Release);
    }

    /// Writes the journal: what is on disk now.
    pub fn save(&self) -> Result<()> {
        let maps = lock(&self.maps).clone();
        let body = [maps.blocks.to_bytes(), maps.frames.to_bytes(), maps.shards.to_bytes()].concat();
        write_journal(&self.folder, self.part.cached(), &self.key, &body)
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::io(self.part_path.display().to_string(), error)
    }
}

/// A worker's memory.
#[derive(Default)]
pub struct Workshop {
    decoder: Option<(usize, usize, Decoder)>,
    frame: Aligned,
}

impl Job {
    /// Restores, writes and proves; the block's memory goes `home`, now or soon.
    pub fn run(mut self, workshop: &mut Workshop, home: &SyncSender<Aligned>) -> Result<()> {
        let target = &self.target;
        let number = u64::from(self.block.number);
        if self.block.there < self.block.originals {
            restore(&target.plan, &mut self.block, workshop)?;
            target.repaired.fetch_add(1, Ordering::Relaxed);
        }
        let (at, bytes) = target.plan.place(number);
        let len = usize::try_from(bytes).unwrap_or(0);
        target.part.write(&self.block.buffer, len, at).map_err(|e| target.io(e))?;
        let written = Written { session: target.id, at, len, buffer: self.block.buffer, home: home.clone() };
        if target.part.is_direct() {
            drop(written);
        } else {
            target.recent.keep(written);
        }
        target.written.fetch_add(bytes, Ordering::Relaxed);
        let frames = target.frames_at(at, bytes);
        {
            let mut maps = lock(&target.maps);
            maps.blocks.set(number);
            // What was proved on bytes that were just written over is proved again.
            frames.clone().for_each(|frame| maps.frames.clear(u64::try_from(frame).unwrap_or(0)));
        }
        target.prove(frames, &mut workshop.frame)
    }
}

/// Restores the originals that a block lacks.
fn restore(plan: &Plan, block: &mut Block, workshop: &mut Workshop) -> Result<()> {
    let (originals, recovery) = (block.originals, usize::from(plan.recovery));
    let decoder = match &mut workshop.decoder {
        Some((k, m, decoder)) if (*k, *m) == (originals, recovery) => decoder,
        other => &mut other.insert((originals, recovery, Decoder::new(originals, recovery, BODY_BYTES)?)).2,
    };
    let shard = |slot: usize| block.buffer.get().get(slot * BODY_BYTES..(slot + 1) * BODY_BYTES).unwrap_or(&[]);
    let has = |slot: usize| block.have.get(u64::try_from(slot).unwrap_or(u64::MAX));
    for index in (0..originals).filter(|index| has(*index)) {
        decoder.add_original(index, shard(index))?;
    }
    let wanted = originals - block.there;
    let behind = usize::from(plan.originals);
    for index in (0..recovery).filter(|index| has(behind + index)).take(wanted) {
        decoder.add_recovery(index, shard(behind + index))?;
    }
    let buffer = &mut block.buffer;
    decoder.decode(|index, bytes| {
        if let Some(to) = buffer.get_mut().get_mut(index * BODY_BYTES..(index + 1) * BODY_BYTES) {
            to.copy_from_slice(bytes);
        }
    })?;
    Ok(())
}

fn parse_journal(like: &Maps, body: &[u8]) -> Option<Maps> {
    let size = |map: &Bitmap| usize::try_from(map.len().div_ceil(64) * 8).unwrap_or(usize::MAX);
    let (blocks, rest) = body.split_at_checked(size(&like.blocks))?;
    let (frames, shards) = rest.split_at_checked(size(&like.frames))?;
    Some(Maps {
        blocks: Bitmap::from_bytes(like.blocks.len(), blocks)?,
        frames: Bitmap::from_bytes(like.frames.len(), frames)?,
        shards: Bitmap::from_bytes(like.shards.len(), shards)?,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn the_newest_blocks_are_kept_and_all_memory_comes_back() {
        const EACH: usize = 1 << 20;
        let (home, back) = sync_channel(100);
        let block = |session: u8, at: u64, byte: u8, size: usize| {
            let mut buffer = Aligned::new(size);
            buffer.get_mut().fill(byte);
            Written { session: [session; 8], at, len: 3, buffer, home: home.clone() }
        };
        let returned = || back.try_iter().map(|buffer| buffer.len()).collect::<Vec<_>>();
        let recent = Recent::default();
        let places = |session: u8| recent.of([session; 8]).iter().map(|block| block.at).collect::<Vec<_>>();
        // out of order, and more than the limit
        (0..20).rev().for_each(|at| recent.keep(block(1, at, 1, EACH)));
        assert_eq!(places(1), (0..16).collect::<Vec<_>>());
        assert_eq!(returned(), [EACH; 4]);
        assert!(places(2).is_empty(), "another session sees nothing of it");
        // written a second time: the newer bytes alone
        recent.keep(block(1, 5, 7, EACH));
        assert_eq!(places(1), (0..16).collect::<Vec<_>>());
        assert!(recent.of([1; 8]).iter().any(|block| block.at == 5 && block.bytes() == [7; 3]));
        assert_eq!(returned(), [EACH]);
        // memory that somebody looks at comes back when he is done
        let held = recent.of([1; 8]);
        recent.clear();
        assert!(returned().is_empty());
        drop(held);
        assert_eq!(returned(), [EACH; 16]);
        // one that is larger than the limit is never kept
        recent.keep(block(1, 0, 1, RECENT_BYTES + 1));
        assert!(places(1).is_empty());
        assert_eq!(returned(), [RECENT_BYTES + 1]);
    }
}
