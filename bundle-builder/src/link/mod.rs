//! `send udp`: a bundle over a link that never answers (spec 17).
//!
//! One thread reads blocks and makes their recovery shards, one sends; two groups of blocks are in
//! flight between them, so memory does not grow with the bundle. Shards of the blocks of a group take
//! turns on the wire: a burst of losses falls on all of them a little instead of on one wholly.

pub mod pace;
pub mod socket;

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bundle_format::datagram::{
    BODY_BYTES, CHUNK_BYTES, CHUNKS, DATAGRAM_BYTES, HEADER_BYTES, Header, Kind, PLAN_BYTES, Plan, Tagger,
};
use bundle_format::digest::Sha384;
use bundle_format::erasure::Encoder;

use crate::error::{Error, ErrorKind, Result};
use crate::split::WholeBundle;
use pace::Pace;
use socket::{Outgoing, SEGMENTS};

/// Original shards of a block: 1.44 MB.
pub const ORIGINALS: u16 = 1024;
/// Announcements before each group of blocks.
const ANNOUNCE_EACH: usize = 8;
/// Announcements of the whole prologue at the start of a pass.
const ANNOUNCE_FIRST: usize = 2;
/// End datagrams at once, and then one by one.
const ENDS: usize = 64;
/// Bytes of IPv4 and UDP headers: the rate is what the wire carries.
const OVERHEAD: u64 = 28;

/// How to send.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes per second on the wire, recovery shards and headers included.
    pub rate: u64,
    /// Recovery shards of a block.
    pub recovery: u16,
    /// How often the whole bundle is sent; `None` until stopped.
    pub passes: Option<u32>,
    /// Blocks whose shards take turns.
    pub interleave: usize,
    /// How datagrams are tagged.
    pub tagger: Tagger,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams.
    pub datagrams: u64,
    /// Blocks of one pass.
    pub blocks: u64,
    /// Whether the kernel cut the datagrams.
    pub segmented: bool,
}

/// The plan of a bundle's transfer.
pub fn plan(bundle: &WholeBundle, recovery: u16) -> Result<Plan> {
    let plan = Plan {
        archive_size: bundle.size,
        prologue_size: u32::try_from(bundle.prologue.len()).unwrap_or(u32::MAX),
        prologue_sha384: Sha384::of(&bundle.prologue),
        originals: ORIGINALS,
        recovery,
    };
    plan.check()?;
    Ok(plan)
}

/// Bytes that one pass puts on the wire, for progress.
pub fn pass_bytes(plan: &Plan) -> u64 {
    let shards = plan.archive_size.div_ceil(1408) + plan.blocks() * u64::from(plan.recovery);
    shards * u64::try_from(DATAGRAM_BYTES).unwrap_or(0)
}

/// Sends a bundle. `progress` is told the bytes of datagrams that left.
pub fn send(bundle: &WholeBundle, options: &SendOptions, progress: &mut dyn FnMut(u64)) -> Result<Sent> {
    let plan = plan(bundle, options.recovery)?;
    let mut line = Line {
        out: Outgoing::open(options.to)?,
        pace: Pace::new(options.rate),
        batch: usize::try_from(options.rate / 5000).unwrap_or(0).clamp(1, 8 * SEGMENTS * DATAGRAM_BYTES),
        sent: 0,
    };
    let stamp = Stamp { tagger: options.tagger.clone(), session: plan.session(), run: run_number(), ordinal: 0 };
    let interleave = options.interleave.max(1);
    let (full, groups) = sync_channel::<Result<Group>>(1);
    let (empty, used) = sync_channel::<Vec<u8>>(4);
    let shards = usize::from(plan.originals) + usize::from(plan.recovery);
    for _ in 0..3 {
        // The receiving half is in this function: there is room for all of them.
        drop(empty.send(vec![0; (shards * interleave + ANNOUNCE_EACH) * DATAGRAM_BYTES]));
    }
    std::thread::scope(|scope| {
        let file = &bundle.file;
        let prologue = &bundle.prologue;
        scope.spawn(move || {
            let mut press = Press {
                plan,
                file,
                prologue,
                stamp,
                announced: 0,
                encoder: None,
                interleave,
                memory: vec![0; RUN * BODY_BYTES],
            };
            // The sender is gone if it met an error; it tells that itself.
            drop(press.run(options.passes, &full, &used));
        });
        for group in groups {
            let group = group?;
            let bytes = group.buffer.get(..group.len).unwrap_or(&[]);
            line.send(bytes, progress)?;
            if group.last {
                line.send_ends(bytes)?;
            }
            // Gone when the last group was made.
            drop(empty.send(group.buffer));
        }
        let datagrams = line.sent;
        Ok(Sent { datagrams, blocks: plan.blocks(), segmented: line.out.is_segmented() })
    })
}

/// Sends calibration steps: each rate for a second, 50 MB/s and up by a quarter until `most`.
pub fn calibrate(to: SocketAddr, most: u64, tagger: &Tagger, told: &mut dyn FnMut(u64)) -> Result<()> {
    let mut line = Line { out: Outgoing::open(to)?, pace: Pace::new(1), batch: SEGMENTS * DATAGRAM_BYTES, sent: 0 };
    let mut stamp = Stamp { tagger: tagger.clone(), session: [0; 8], run: run_number(), ordinal: 0 };
    let mut rates: Vec<u64> =
        std::iter::successors(Some(5_000_000u64), |rate| Some(rate * 5 / 4)).take_while(|rate| *rate < most).collect();
    rates.push(most);
    let steps = u16::try_from(rates.len()).unwrap_or(u16::MAX);
    let mut buffer = vec![0; SEGMENTS * DATAGRAM_BYTES];
    for (step, rate) in (0..steps).zip(rates) {
        told(rate);
        line.pace = Pace::new(rate);
        let wire = u64::try_from(DATAGRAM_BYTES).unwrap_or(0) + OVERHEAD;
        let segments = u64::try_from(SEGMENTS).unwrap_or(1);
        let count = (rate / wire).div_ceil(segments) * segments;
        for number in (0..count).step_by(SEGMENTS) {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            for (offset, datagram) in (0u32..).zip(buffer.as_chunks_mut::<DATAGRAM_BYTES>().0) {
                let fields = rate.to_be_bytes().into_iter().chain(count.to_be_bytes()).chain(steps.to_be_bytes());
                datagram.iter_mut().skip(HEADER_BYTES).zip(fields).for_each(|(to, from)| *to = from);
                stamp.seal(Kind::Calibrate, number + offset, step, datagram);
            }
            line.send(&buffer, &mut |_| ())?;
        }
        // Between two steps the queues run empty: each step is judged alone.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    Ok(())
}

/// A socket with its pace.
struct Line {
    out: Outgoing,
    pace: Pace,
    batch: usize,
    sent: u64,
}

impl Line {
    fn send(&mut self, datagrams: &[u8], progress: &mut dyn FnMut(u64)) -> Result<()> {
        let batch = (self.batch / (SEGMENTS * DATAGRAM_BYTES)).max(1) * SEGMENTS * DATAGRAM_BYTES;
        for piece in datagrams.chunks(batch) {
            let count = u64::try_from(piece.len() / DATAGRAM_BYTES).unwrap_or(0);
            let bytes = u64::try_from(piece.len()).unwrap_or(0);
            self.pace.wait(bytes + count * OVERHEAD);
            self.out.send(piece)?;
            self.sent += count;
            progress(bytes);
        }
        Ok(())
    }

    /// The last group ends in [`ENDS`] end datagrams; they go out again, spaced, because what is sent
    /// last is lost most easily.
    fn send_ends(&mut self, group: &[u8]) -> Result<()> {
        let ends = group.len().saturating_sub(ENDS * DATAGRAM_BYTES);
        for end in group.get(ends..).unwrap_or(&[]).chunks(DATAGRAM_BYTES) {
            std::thread::sleep(std::time::Duration::from_millis(4));
            self.out.send(end)?;
        }
        Ok(())
    }
}

/// What goes on every datagram.
struct Stamp {
    tagger: Tagger,
    session: [u8; 8],
    run: u16,
    ordinal: u32,
}

impl Stamp {
    fn seal(&mut self, kind: Kind, block: u32, shard: u16, datagram: &mut [u8; DATAGRAM_BYTES]) {
        let header = Header { kind, session: self.session, ordinal: self.ordinal, block, shard, run: self.run };
        self.tagger.seal(&header, datagram);
        self.ordinal = self.ordinal.wrapping_add(1);
    }
}

/// Datagrams of some blocks, ready to be sent.
struct Group {
    buffer: Vec<u8>,
    len: usize,
    last: bool,
}

/// Shards that are read, coded and sealed at once: 90 KB.
const RUN: usize = 64;

/// Makes groups.
struct Press<'a> {
    plan: Plan,
    file: &'a File,
    prologue: &'a [u8],
    stamp: Stamp,
    announced: usize,
    /// With its originals and recovery shards.
    encoder: Option<((usize, usize), Encoder)>,
    interleave: usize,
    /// Of a run's shards.
    memory: Vec<u8>,
}

type Stopped = std::sync::mpsc::SendError<Result<Group>>;

impl Press<'_> {
    /// Makes every group of every pass; ends early if nobody takes them any more.
    fn run(
        &mut self,
        passes: Option<u32>,
        full: &SyncSender<Result<Group>>,
        used: &Receiver<Vec<u8>>,
    ) -> std::result::Result<(), Stopped> {
        let announcements = match self.announcements() {
            Ok(announcements) => announcements,
            Err(error) => return full.send(Err(error)),
        };
        let mut pass = 0;
        loop {
            pass += 1;
            let last_pass = passes.is_some_and(|passes| pass >= passes);
            let mut first = 0;
            full.send(Ok(self.announce_all(&announcements)))?;
            while first < self.plan.blocks() {
                let blocks = u64::try_from(self.interleave).unwrap_or(1).min(self.plan.blocks() - first);
                let Ok(buffer) = used.recv() else { return Ok(()) };
                let last = last_pass && first + blocks == self.plan.blocks();
                full.send(self.group(buffer, first, blocks, &announcements, last))?;
                first += blocks;
            }
            if last_pass {
                return Ok(());
            }
        }
    }

    /// Every announcement once: plan, chunk of the prologue; recovery shards behind the chunks.
    fn announcements(&self) -> Result<Vec<(u32, u16, Vec<u8>)>> {
        let mut all = Vec::new();
        for (block, part) in (0u32..).zip(self.prologue.chunks(CHUNKS * CHUNK_BYTES)) {
            let mut chunks: Vec<Vec<u8>> = part.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect();
            for chunk in &mut chunks {
                chunk.resize(CHUNK_BYTES, 0);
            }
            let mut encoder = Encoder::new(chunks.len(), chunks.len(), CHUNK_BYTES)?;
            chunks.iter().try_for_each(|chunk| encoder.add(chunk))?;
            encoder.encode(|_, recovery| chunks.push(recovery.to_vec()))?;
            all.extend((0u16..).zip(chunks).map(|(shard, chunk)| (block, shard, chunk)));
        }
        Ok(all)
    }

    fn announce(&mut self, announcements: &[(u32, u16, Vec<u8>)], datagram: &mut [u8; DATAGRAM_BYTES]) {
        let index = self.announced % announcements.len().max(1);
        self.announced += 1;
        let Some((block, shard, chunk)) = announcements.get(index) else { return };
        let body = datagram.iter_mut().skip(HEADER_BYTES);
        let bytes = self.plan.to_bytes().into_iter().chain(chunk.iter().copied());
        body.zip(bytes.chain(std::iter::repeat(0))).for_each(|(to, from)| *to = from);
        self.stamp.seal(Kind::Announce, *block, *shard, datagram);
    }

    fn announce_all(&mut self, announcements: &[(u32, u16, Vec<u8>)]) -> Group {
        let len = announcements.len() * ANNOUNCE_FIRST * DATAGRAM_BYTES;
        let mut buffer = vec![0; len];
        for datagram in buffer.as_chunks_mut::<DATAGRAM_BYTES>().0 {
            self.announce(announcements, datagram);
        }
        Group { buffer, len, last: false }
    }

    /// The blocks `first` to `first + blocks`, their shards in turns, announcements in front.
    fn group(
        &mut self,
        mut buffer: Vec<u8>,
        first: u64,
        blocks: u64,
        announcements: &[(u32, u16, Vec<u8>)],
        last: bool,
    ) -> Result<Group> {
        let recovery = usize::from(self.plan.recovery);
        let counts: Vec<usize> = (first..first + blocks).map(|block| self.plan.originals_of(block)).collect();
        let longest = counts.iter().max().copied().unwrap_or(0) + recovery;
        // Wire order: shard 0 of each block, shard 1 of each block, …; a short last block ends early.
        let order: Vec<(usize, usize)> = (0..longest)
            .flat_map(|shard| (0..counts.len()).map(move |block| (block, shard)))
            .filter(|(block, shard)| counts.get(*block).is_some_and(|count| *shard < count + recovery))
            .collect();
        let ends = if last { ENDS } else { 0 };
        let len = (ANNOUNCE_EACH + order.len() + ends) * DATAGRAM_BYTES;
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let (slots, _) = buffer.get_mut(..len).unwrap_or(&mut []).as_chunks_mut::<DATAGRAM_BYTES>();
        let (heads, slots) = slots.split_at_mut(ANNOUNCE_EACH.min(slots.len()));
        let (slots, tails) = slots.split_at_mut(order.len().min(slots.len()));
        for slot in heads {
            self.announce(announcements, slot);
        }
        // The slots of each block in the order of its shards, each with its place on the wire.
        let mut of_block: Vec<Vec<Slot<'_>>> =
            counts.iter().map(|count| Vec::with_capacity(count + recovery)).collect();
        for (((block, shard), datagram), place) in order.iter().zip(slots).zip(0u32..) {
            let ordinal = self.stamp.ordinal.wrapping_add(place);
            if let Some(list) = of_block.get_mut(*block) {
                list.push(Slot { datagram, ordinal, shard: u16::try_from(*shard).unwrap_or(u16::MAX) });
            }
        }
        self.stamp.ordinal = self.stamp.ordinal.wrapping_add(u32::try_from(order.len()).unwrap_or(0));
        for ((block, count), slots) in (first..).zip(&counts).zip(&mut of_block) {
            self.fill(block, *count, slots)?;
        }
        drop(of_block);
        let total = self.stamp.ordinal.wrapping_add(u32::try_from(ends).unwrap_or(0));
        for slot in tails {
            let fields = self.plan.to_bytes().into_iter().chain(total.to_be_bytes()).chain(std::iter::repeat(0));
            slot.iter_mut().skip(HEADER_BYTES).zip(fields).for_each(|(to, from)| *to = from);
            self.stamp.seal(Kind::End, 0, 0, slot);
        }
        Ok(Group { buffer, len, last })
    }

    /// Reads a block into its datagrams, makes its recovery shards and seals all. In runs: what was
    /// read is still in the core's own cache when the code and the tag want it.
    fn fill(&mut self, block: u64, count: usize, slots: &mut [Slot<'_>]) -> Result<()> {
        let (mut at, mut left) = self.plan.place(block);
        let number = u32::try_from(block).unwrap_or(u32::MAX);
        let (originals, recovery) = slots.split_at_mut(count.min(slots.len()));
        let mut encoder = match &mut self.encoder {
            _ if recovery.is_empty() => None,
            Some((shape, encoder)) if *shape == (count, recovery.len()) => Some(encoder),
            other => {
                let shape = (count, recovery.len());
                Some(&mut other.insert((shape, Encoder::new(shape.0, shape.1, BODY_BYTES)?)).1)
            }
        };
        for run in originals.chunks_mut(RUN) {
            let bytes = left.min(u64::try_from(run.len() * BODY_BYTES).unwrap_or(u64::MAX));
            let (there, rest) = self.memory.split_at_mut(usize::try_from(bytes).unwrap_or(0).min(RUN * BODY_BYTES));
            rest.fill(0);
            self.file.read_exact_at(there, at).map_err(|e| Error::io(format!("bundle at byte {at}"), e))?;
            (at, left) = (at + bytes, left - bytes);
            for (slot, shard) in run.iter_mut().zip(self.memory.as_chunks::<BODY_BYTES>().0) {
                if let Some(encoder) = &mut encoder {
                    encoder.add(shard)?;
                }
                slot.write(&self.stamp, number, shard);
            }
        }
        if let Some(encoder) = encoder {
            let stamp = &self.stamp;
            encoder.encode(|index, shard| {
                if let (Some(slot), Ok(shard)) = (recovery.get_mut(index), shard.try_into()) {
                    slot.write(stamp, number, shard);
                }
            })?;
        }
        Ok(())
    }
}

/// A datagram of a block and its place among all.
struct Slot<'a> {
    datagram: &'a mut [u8; DATAGRAM_BYTES],
    ordinal: u32,
    shard: u16,
}

impl Slot<'_> {
    fn write(&mut self, stamp: &Stamp, block: u32, body: &[u8; BODY_BYTES]) {
        let (session, run) = (stamp.session, stamp.run);
        let header = Header { kind: Kind::Data, session, ordinal: self.ordinal, block, shard: self.shard, run };
        stamp.tagger.write(&header, body, self.datagram);
    }
}

/// Tells this run of the sender from others in the receiver's counts; nothing depends on it.
fn run_number() -> u16 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos());
    u16::try_from((nanos ^ std::process::id()) & 0xffff).unwrap_or(0)
}

/// Recovery shards for a percentage of the originals, rounded up.
pub fn recovery_of(percent: f64) -> Result<u16> {
    if !(0.0..=400.0).contains(&percent) {
        return Err(ErrorKind::Usage(format!("--repair is {percent}, expected 0 to 400 percent")).into());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 4096, checked above")]
    Ok((f64::from(ORIGINALS) * percent / 100.0).ceil() as u16)
}
const _: () = assert!(PLAN_BYTES + CHUNK_BYTES <= BODY_BYTES);
