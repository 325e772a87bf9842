//! Packs: codec streams of blobs, cut into frames that are proved one by one (spec 6).
//!
//! Threats: bytes released before they are proved, a decoder fed with unproved bytes, a stream that
//! decodes to more than was signed, memory that grows with the input. Defences: [`unpack`] hands a
//! frame to the decoder only after its SHA-384 matched, counts every decoded byte against the
//! signed sizes, calls [`BlobSink::end`] only after the blob's sha256 matched, and holds a fixed
//! number of frames. What a delta builds on comes from the site's own store ([`Held`]) and is only
//! as good as the blob's sha256 afterwards says.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::archive::{ArchiveReader, Member};
use crate::digest::{Sha256, Sha384};
use crate::envelope::Proved;
use crate::manifest::{Blob, Manifest, Pack};
use crate::{Error, ErrorKind, Result};

mod base;
mod decode;
mod shares;
mod write;

pub use base::CodedReader;
use decode::PackDecoder;
pub use shares::dangerous_stored_shares;
pub use write::{Encoders, Encoding, PackWriter, encode_segment};

/// Codec `raw`: the stored bytes are the blobs.
pub const RAW: &str = "raw";
/// Codec `zstd`: the stored bytes are one zstd frame (RFC 8878) of the coded streams.
pub const ZSTD: &str = "zstd";
/// Codec `zstd-delta`: the stored bytes are zstd frames, each with a range of a base as its prefix.
pub const DELTA: &str = "zstd-delta";
/// Coding `plain`: the coded stream is the blob.
pub const PLAIN: &str = "plain";
/// Coding `deflate-tokens`: the coded stream is the tokens of a gzip blob.
pub const TOKENS: &str = "deflate-tokens";
/// Stored bytes of every frame of a pack but its last, as our writer cuts them.
pub const FRAME_BYTES: usize = 4 << 20;

/// Whether a sink wants a blob's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Hand the bytes over.
    Keep,
    /// It is held already; prove the frames and pass on.
    Skip,
}

/// Takes blobs in archive order.
pub trait BlobSink {
    /// A blob begins.
    fn begin(&mut self, blob: &Blob) -> Result<Want>;
    /// Its next bytes, out of proved frames.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Its size and sha256 are proved.
    fn end(&mut self) -> Result<()>;
}

/// Reads what the site holds.
pub trait BaseBlobs {
    /// Opens a held blob, whose sha256 was found right before.
    fn open(&self, digest: &Sha256) -> Result<Box<dyn Read + '_>>;
}

/// What the reader of a bundle has of its base sets.
#[derive(Clone, Copy)]
pub enum Held<'a> {
    /// None of them: every frame is proved; deltas and packs for certain sites stay undecoded.
    Nothing,
    /// One of them, whole.
    Set {
        /// Its place in [`Manifest::bases`].
        set: usize,
        /// Where its blobs are.
        blobs: &'a dyn BaseBlobs,
    },
}

impl Held<'_> {
    /// Whether this reader decodes a pack; of the others it proves the frames.
    pub fn needs(self, pack: &Pack) -> bool {
        pack.is_for(self.set()) && (pack.codec != DELTA || self.set().is_some())
    }

    const fn set(self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Set { set, .. } => Some(set),
        }
    }
}

impl std::fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Held").field(&self.set()).finish()
    }
}

/// A sink that keeps nothing: for verifying alone.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoSink;

impl BlobSink for NoSink {
    fn begin(&mut self, _: &Blob) -> Result<Want> {
        Ok(Want::Keep)
    }

    fn write(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The packs of an archive behind its head; see [`unpack`].
#[derive(Debug)]
pub struct PackReader<R> {
    archive: ArchiveReader<R>,
    at: u64,
    pending: Option<Member>,
}

impl<R: Read> PackReader<R> {
    pub(crate) const fn new(archive: ArchiveReader<R>, at: u64, pending: Option<Member>) -> Self {
        Self { archive, at, pending }
    }

    /// Byte offset in the archive at which the packs (or the end mark) begin.
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// Reads every frame of `manifest`'s packs in order, each into a vector from `room`, and hands its bytes,
    /// unproved, to `take`.
    fn walk(
        &mut self,
        manifest: &Manifest,
        room: impl Fn() -> Vec<u8>,
        mut take: impl FnMut(usize, usize, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        for (number, pack) in manifest.packs.iter().enumerate() {
            let size = pack.stored_size().unwrap_or(u64::MAX);
            let found = self.pending.take();
            let Some(member) = found.clone().filter(|member| member.name == pack.name && member.size == size) else {
                let found =
                    found.map_or("the end of the archive".to_owned(), |m| format!("{} of {} bytes", m.name, m.size));
                let expected = format!("{} of {size} bytes", pack.name);
                return Err(ErrorKind::UnexpectedMember { offset: self.at, expected, found }.into());
            };
            for (index, frame) in pack.frames.iter().enumerate() {
                let mut bytes = room();
                let size = usize::try_from(frame.size).unwrap_or(0);
                bytes.reserve_exact(size.saturating_sub(bytes.len()));
                bytes.resize(size, 0);
                self.archive.read_exact(&pack.name, &mut bytes)?;
                take(number, index, bytes)?;
            }
            self.archive.end_member(&member)?;
            self.at = self.archive.offset();
            self.pending = self.archive.next_member()?;
        }
        match &self.pending {
            None => Ok(()),
            Some(member) => {
                let found = crate::text::escaped(&member.name);
                Err(ErrorKind::UnexpectedMember { offset: self.at, expected: "the end of the archive".into(), found }
                    .into())
            }
        }
    }
}

/// A frame whose SHA-384 is the signed one.
struct ProvedFrame {
    pack: usize,
    bytes: Vec<u8>,
}

type Proof = Result<ProvedFrame>;
type Job = (usize, usize, Vec<u8>, SyncSender<Proof>);

/// Proves every frame of an archive, and every blob of the packs that are for this reader, and hands
/// those blobs to `sink`, in order. One thread reads, `threads` hash frames, the calling thread
/// decodes, hashes blobs and feeds the sink. Memory is bounded by `2 × threads + 2` frames and one
/// decoder: a window, or a segment with its prefix. `progress` is told the stored bytes of each frame
/// done.
pub fn unpack<R: Read + Send>(
    packs: &mut PackReader<R>,
    manifest: &impl Proved,
    held: Held<'_>,
    sink: &mut dyn BlobSink,
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    dangerous_unpack_claim(packs, manifest.proved(), held, sink, threads, progress)
}

/// The same by a manifest that nobody proved, for a low side that takes blobs out of its own former
/// bundle: each is exactly what its digest names, and who signed for it does not matter there.
pub fn dangerous_unpack_claim<R: Read + Send>(
    packs: &mut PackReader<R>,
    manifest: &Manifest,
    held: Held<'_>,
    sink: &mut dyn BlobSink,
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let threads = threads.max(1);
    let (jobs, queue) = sync_channel::<Job>(threads);
    let (ordered, results) = sync_channel::<Receiver<Proof>>(threads);
    // Frames that were decoded go back to the reader, as room for the next ones.
    let (used, again) = channel();
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        scope.spawn(move || read_frames(packs, manifest, &jobs, &ordered, &again));
        for _ in 0..threads {
            scope.spawn(|| prove_frames(manifest, &queue));
        }
        // Owned here, so that an error drops it and stops the reader.
        let results = results;
        decode_frames(manifest, held, &results, &used, sink, progress)
    })
}

/// Queues each frame for proof and its result for decoding. Ends when there is no one to read for.
fn read_frames<R: Read>(
    packs: &mut PackReader<R>,
    manifest: &Manifest,
    jobs: &SyncSender<Job>,
    ordered: &SyncSender<Receiver<Proof>>,
    again: &Receiver<Vec<u8>>,
) {
    let stopped = || ErrorKind::Inconsistent { what: "unpack".into(), why: "stopped".into() };
    let room = || again.try_recv().unwrap_or_default();
    let walked = packs.walk(manifest, room, |pack, index, bytes| {
        let (proof, result) = sync_channel(1);
        ordered.send(result).map_err(|_| stopped())?;
        jobs.send((pack, index, bytes, proof)).map_err(|_| stopped())?;
        Ok(())
    });
    if let Err(error) = walked {
        let (proof, result) = sync_channel(1);
        // If the decoding side has gone, it has its own error to tell; this one is its echo.
        if ordered.send(result).is_ok() {
            drop(proof.send(Err(error)));
        }
    }
}

fn prove_frames(manifest: &Manifest, queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((pack, index, bytes, proof)) = job else { return };
        // A receiver that is gone has stopped for an error of its own.
        drop(proof.send(prove(manifest, pack, index, bytes)));
    }
}

fn prove(manifest: &Manifest, pack: usize, index: usize, bytes: Vec<u8>) -> Proof {
    let found = Sha384::of(&bytes);
    let signed = manifest.packs.get(pack).and_then(|pack| Some((&pack.name, pack.frames.get(index)?)));
    match signed {
        Some((_, frame)) if frame.sha384 == found => Ok(ProvedFrame { pack, bytes }),
        Some((name, frame)) => Err(ErrorKind::FrameDigest {
            pack: name.clone(),
            frame: index,
            expected: frame.sha384.to_string(),
            found: found.to_string(),
        }
        .into()),
        None => {
            Err(ErrorKind::Inconsistent { what: "unpack".into(), why: format!("no frame {index} in pack {pack}") }
                .into())
        }
    }
}

fn decode_frames(
    manifest: &Manifest,
    held: Held<'_>,
    results: &Receiver<Receiver<Proof>>,
    used: &Sender<Vec<u8>>,
    sink: &mut dyn BlobSink,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut spare = None;
    for (number, pack) in manifest.packs.iter().enumerate() {
        let mut decoder = if held.needs(pack) { Some(PackDecoder::new(pack, held, spare.take())?) } else { None };
        for _ in &pack.frames {
            let frame = next_frame(results)?;
            if frame.pack != number {
                return Err(ErrorKind::Inconsistent { what: "unpack".into(), why: "frames out of order".into() }.into());
            }
            if let Some(decoder) = &mut decoder {
                decoder.feed(&frame.bytes, sink)?;
            }
            progress(u64::try_from(frame.bytes.len()).unwrap_or(0));
            // A reader that has read everything needs it no more.
            drop(used.send(frame.bytes));
        }
        if let Some(decoder) = decoder {
            spare = decoder.finish(sink)?;
        }
    }
    // The reader goes on past the last frame: padding, end mark, nothing behind it.
    match results.recv() {
        Err(_) => Ok(()),
        Ok(result) => result.recv().unwrap_or_else(|_| Err(lost())).map(drop),
    }
}

fn next_frame(results: &Receiver<Receiver<Proof>>) -> Proof {
    results.recv().ok().and_then(|result| result.recv().ok()).unwrap_or_else(|| Err(lost()))
}

fn lost() -> Error {
    ErrorKind::Inconsistent { what: "unpack".into(), why: "a worker ended without a result".into() }.into()
}
