//! `receive udp`: the far end of a one-way link (spec 17). Nothing is ever sent back.
//!
//! The calling thread drains the socket, checks tags and sorts shards; workers restore, write and
//! prove; one thread writes the journal. Memory is a fixed number of blocks. A session's manifest is
//! proved from its announcements before the session costs disk; a refused one costs a line.

pub mod announce;
pub mod calibrate;
pub mod counts;
pub mod socket;
pub mod transfer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bundle_format::datagram::{Header, Kind, PLAN_BYTES, Plan, Tagger};
use serde::Serialize;

use super::bitmap::runs;
use super::direct::Aligned;
use super::{Arrival, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::receive::intake::Received;
use crate::state::State;
use announce::Announcements;
use counts::{Counts, Tally};
use socket::{BUFFER, Incoming};
use transfer::{Job, Recent, Sorted, Target, Transfer, Workshop};

/// Memory for blocks, bytes.
const BLOCKS_MEMORY: usize = 96 << 20;
/// Transfers that are open at once at most.
const TRANSFERS: usize = 4;
/// Silence after the sender's end that makes it the end.
const AFTER_END: Duration = Duration::from_millis(1500);
/// Time between two journals.
const JOURNAL: Duration = Duration::from_secs(3);
/// Runs of missing blocks that a line names.
const RUNS_SHOWN: usize = 8;

/// How to receive.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How datagrams are checked.
    pub tagger: Tagger,
    /// Silence, after something came, that ends the command.
    pub idle: Duration,
}

/// What crossed, and how well.
#[derive(Debug, Clone, Serialize)]
pub struct Receipt {
    /// Datagrams.
    #[serde(flatten)]
    pub counts: Counts,
    /// Bytes of the bundle.
    pub bytes: u64,
    /// Blocks of the bundle.
    pub blocks: u64,
    /// Blocks that lacked something and were restored.
    pub repaired_blocks: u64,
    /// Frames whose digest was wrong at first.
    pub bad_frames: u64,
    /// Milliseconds from the first datagram to the proof.
    pub milliseconds: u64,
}

/// Tells a person what happens.
pub trait Watcher {
    /// A line.
    fn line(&mut self, text: &str);
    /// A bundle is on its way.
    fn begun(&mut self, arrival: &Arrival);
    /// How far it is: bytes written, blocks written of all, and what was lost so far.
    fn progress(&mut self, written: u64, blocks: (u64, u64), counts: &Counts);
}

/// Receives until one bundle is whole and proved.
pub fn receive(
    options: &Options,
    inbox: &Path,
    state: &mut State,
    watcher: &mut dyn Watcher,
) -> Result<(Received, Receipt)> {
    let mut incoming = Incoming::open(options.listen)?;
    watcher.line(&format!("listening on {}; waiting for the sender", incoming.address()));
    // The kernel counts its own overhead too: it grants twice what was asked for, or the system's limit.
    if incoming.granted < BUFFER {
        let (granted, wanted) = (incoming.granted, BUFFER);
        watcher.line(&format!(
            "warning: the kernel granted {granted} bytes of receive buffer, {wanted} are wanted: sysctl -w net.core.rmem_max={wanted}"
        ));
    }
    // Twice the cores: direct writes and reads wait for the disk, and others hash meanwhile.
    let workers = 2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8) + 1;
    let (jobs, queue) = sync_channel::<Job>(BLOCKS_MEMORY / (64 << 10));
    let (back, free) = sync_channel::<Aligned>(BLOCKS_MEMORY / (64 << 10));
    let queue = Mutex::new(queue);
    let failed = Mutex::new(None);
    let stop = Stop::default();
    let journalled = Mutex::new(Vec::<Arc<Target>>::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(&queue, &back, &failed));
        }
        scope.spawn(|| write_journals(&journalled, &stop, &failed));
        let mut link = Link {
            state,
            inbox,
            options,
            announcements: Announcements::default(),
            transfers: BTreeMap::new(),
            refused: BTreeMap::new(),
            tally: Tally::default(),
            pool: Pool { jobs: Some(jobs), free, recent: Arc::default(), made: 0, bytes: 0 },
            journalled: &journalled,
            ended: None,
        };
        let whole = link.run(&mut incoming, watcher, &failed);
        link.pool.jobs = None;
        stop.now();
        let dropped = incoming.dropped();
        whole.map(|session| (link, session, dropped))
    })
    .and_then(|(link, session, dropped)| link.end(session, dropped))
}

/// Takes jobs until there are no more senders.
fn work(queue: &Mutex<Receiver<Job>>, back: &SyncSender<Aligned>, failed: &Mutex<Option<Error>>) {
    let mut workshop = Workshop::default();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if let Err(error) = job.run(&mut workshop, back) {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            return;
        }
    }
}

/// Ends the journal's thread without waiting for its next turn.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    bell: Condvar,
}

impl Stop {
    fn now(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    /// Waits; says whether it is over.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn write_journals(targets: &Mutex<Vec<Arc<Target>>>, stop: &Stop, failed: &Mutex<Option<Error>>) {
    while !stop.wait(JOURNAL) {
        let targets = targets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for target in targets {
            if let Err(error) = target.save() {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }
}

/// Block buffers: so many and no more.
struct Pool {
    jobs: Option<SyncSender<Job>>,
    free: Receiver<Aligned>,
    recent: Arc<Recent>,
    made: usize,
    bytes: usize,
}

impl Pool {
    /// A buffer that is free, a new one, or one that a worker gives back soon; none if all of them
    /// are in open blocks.
    fn buffer(&mut self, size: usize, open: usize) -> Option<Aligned> {
        match self.free.try_recv() {
            Ok(buffer) => return Some(buffer),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        if self.bytes + size <= BLOCKS_MEMORY || self.made < 2 {
            self.made += 1;
            self.bytes += size;
            return Some(Aligned::new(size));
        }
        if open >= self.made {
            return None;
        }
        self.free.recv_timeout(Duration::from_millis(50)).ok().or_else(|| {
            self.recent.clear();
            self.free.recv_timeout(Duration::from_secs(5)).ok()
        })
    }
}

struct Link<'a> {
    state: &'a mut State,
    inbox: &'a Path,
    options: &'a Options,
    announcements: Announcements,
    transfers: BTreeMap<[u8; 8], Transfer>,
    refused: BTreeMap<[u8; 8], Option<Error>>,
    tally: Tally,
    pool: Pool,
    journalled: &'a Mutex<Vec<Arc<Target>>>,
    ended: Option<Instant>,
}

impl Link<'_> {
    /// Drains the socket until a transfer is whole, the sender ended or fell silent.
    fn run(
        &mut self,
        incoming: &mut Incoming,
        watcher: &mut dyn Watcher,
        failed: &Mutex<Option<Error>>,
    ) -> Result<([u8; 8], Duration)> {
        let (mut first, mut last) = (None, Instant::now());
        let mut told = Instant::now();
        loop {
            let mut trouble = None;
            let count = incoming.receive(|datagram| {
                if trouble.is_none() {
                    trouble = self.take(datagram, watcher).err();
                }
            })?;
            let trouble = trouble.or_else(|| failed.lock().unwrap_or_else(PoisonError::into_inner).take());
            if let Some(error) = trouble {
                return Err(error);
            }
            let now = Instant::now();
            if count > 0 {
                first.get_or_insert(now);
                last = now;
            }
            for (session, transfer) in &self.transfers {
                if transfer.is_whole()? {
                    return Ok((*session, first.map_or(Duration::ZERO, |first| now - first)));
                }
            }
            if told.elapsed() >= Duration::from_millis(200) {
                told = now;
                self.tell(watcher, incoming);
            }
            let silence = now.duration_since(last);
            let over = self.ended.is_some() && silence >= AFTER_END;
            // The workers may still be at it: they end the silence, not the clock.
            if (over || (first.is_some() && silence >= self.options.idle)) && self.is_idle() {
                return Err(self.incomplete()?);
            }
        }
    }

    /// Whether no worker holds a block.
    fn is_idle(&mut self) -> bool {
        let open: usize = self.transfers.values().map(Transfer::open_blocks).sum();
        self.pool.recent.clear();
        let mut waiting = Vec::new();
        while let Ok(buffer) = self.pool.free.try_recv() {
            waiting.push(buffer);
        }
        self.pool.made -= waiting.len();
        self.pool.bytes = self.pool.bytes.saturating_sub(waiting.iter().map(Aligned::len).sum());
        self.pool.made <= open
    }

    fn tell(&self, watcher: &mut dyn Watcher, incoming: &Incoming) {
        if let Some(transfer) = self.transfers.values().next() {
            let written = transfer.target.written.load(Ordering::Relaxed);
            let blocks = (transfer.target.blocks_written(), transfer.target.plan().blocks());
            watcher.progress(written, blocks, &self.tally.counts(incoming.dropped()));
        }
    }

    /// One datagram.
    fn take(&mut self, datagram: &[u8], watcher: &mut dyn Watcher) -> Result<()> {
        let Some((header, body)) = self.options.tagger.open(datagram) else {
            self.tally.corrupt();
            return Ok(());
        };
        self.tally.received(header.session, header.run, header.ordinal);
        match header.kind {
            Kind::Data => return self.data(&header, body),
            Kind::Announce => {
                let known = self.transfers.contains_key(&header.session) || self.refused.contains_key(&header.session);
                if !known && let Some((plan, prologue)) = self.announcements.take(&header, body) {
                    self.begin(header.session, plan, prologue, watcher);
                }
            }
            Kind::End => {
                if let Some(total) = body.get(PLAN_BYTES..PLAN_BYTES + 4).and_then(|bytes| bytes.first_chunk::<4>()) {
                    self.tally.ended(header.session, header.run, u32::from_be_bytes(*total));
                }
                self.ended = Some(Instant::now());
            }
            Kind::Calibrate => self.tally.unused(),
        }
        Ok(())
    }

    fn data(&mut self, header: &Header, body: &[u8; 1408]) -> Result<()> {
        let open: usize = self.transfers.values().map(Transfer::open_blocks).sum();
        let Some(transfer) = self.transfers.get_mut(&header.session) else {
            self.tally.unused();
            return Ok(());
        };
        self.ended = None;
        let size = Transfer::block_memory(&transfer.target.plan());
        let pool = &mut self.pool;
        let sorted = transfer.shard(header.block, header.shard, body, &mut || pool.buffer(size, open))?;
        if let (Sorted::Ready(job), Some(jobs)) = (sorted, &self.pool.jobs) {
            // The workers leave only with an error, which run() tells.
            drop(jobs.send(job));
        }
        Ok(())
    }

    /// A session's prologue is whole: proves it, and begins its transfer or refuses it.
    fn begin(&mut self, id: [u8; 8], plan: Plan, prologue: Vec<u8>, watcher: &mut dyn Watcher) {
        /// Refused sessions that are remembered.
        const REFUSED: usize = 256;
        let name = bundle_format::text::hex(&id);
        match self.prove(&name, plan, prologue) {
            Ok(transfer) => {
                watcher.begun(&transfer.arrival);
                let done = transfer.target.written.load(Ordering::Relaxed);
                if done > 0 {
                    watcher.line(&format!("session {name}: {done} bytes are here from before"));
                }
                self.journalled.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&transfer.target));
                self.transfers.insert(id, transfer);
            }
            Err(error) => {
                watcher.line(&format!("session {name} is refused: {error}"));
                if self.refused.len() < REFUSED {
                    self.refused.insert(id, Some(error));
                }
            }
        }
    }

    fn prove(&self, name: &str, plan: Plan, prologue: Vec<u8>) -> Result<Transfer> {
        let arrival = Arrival::prove(prologue, self.state)?;
        if plan.archive_size != arrival.size() {
            let what = format!("session {name}");
            let why = format!("it sends {} bytes, the manifest says {}", plan.archive_size, arrival.size());
            return Err(bundle_format::Error::from(bundle_format::ErrorKind::Inconsistent { what, why }).into());
        }
        if self.transfers.len() >= TRANSFERS {
            let why = format!("{TRANSFERS} transfers are open already");
            return Err(ErrorKind::Usage { why }.into());
        }
        let session = Session::open(self.inbox, &format!("link-{name}"), plan.archive_size)?;
        Transfer::open(arrival, plan, session, Arc::clone(&self.pool.recent))
    }

    /// The sender is gone and nothing is whole: what there is goes to disk, the error names the rest.
    fn incomplete(&mut self) -> Result<Error> {
        let mut needs = Vec::new();
        for transfer in self.transfers.values_mut() {
            transfer.save()?;
            let missing = transfer.missing();
            let blocks: u64 = missing.iter().map(|(first, last)| last - first + 1).sum();
            let total = transfer.target.plan().blocks();
            needs.push(format!(
                "{}: {blocks} of {total} blocks are missing: {}; what came is kept, send it again",
                transfer.arrival.title(),
                runs(&missing, RUNS_SHOWN)
            ));
        }
        if needs.is_empty() {
            let refused = self.refused.values_mut().find_map(Option::take);
            return Ok(refused.unwrap_or_else(|| {
                let need = "no manifest came through; send it again, with more passes".into();
                ErrorKind::Incomplete { what: "one-way link".into(), need }.into()
            }));
        }
        Ok(ErrorKind::Incomplete { what: "one-way link".into(), need: needs.join("; ") }.into())
    }

    /// The bundle gets its name and its receipt.
    fn end(mut self, (id, time): ([u8; 8], Duration), dropped: u64) -> Result<(Received, Receipt)> {
        let missing = || ErrorKind::Incomplete { what: "one-way link".into(), need: "a transfer".into() };
        let transfer = self.transfers.remove(&id).ok_or_else(missing)?;
        for other in self.transfers.values_mut() {
            other.save()?;
        }
        let target = Arc::clone(&transfer.target);
        let receipt = Receipt {
            counts: self.tally.counts(dropped),
            bytes: transfer.arrival.size(),
            blocks: target.plan().blocks(),
            repaired_blocks: target.repaired.load(Ordering::Relaxed),
            bad_frames: target.bad_frames.load(Ordering::Relaxed),
            milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        };
        let (arrival, session) = transfer.into_parts();
        let path = arrival.settle(session, self.inbox, self.state, "one-way link")?;
        let mut restored = Vec::new();
        if receipt.repaired_blocks > 0 {
            restored.push(format!("{} of {} blocks restored", receipt.repaired_blocks, receipt.blocks));
        }
        Ok((Received { arrival, path, restored }, receipt))
    }
}
