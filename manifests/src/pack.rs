//! Packs: codec streams of blobs, cut into frames that are proved one by one (spec 6).
//!
//! Threats: bytes released before they are proved, a decoder fed with unproved bytes, a stream that
//! decodes to more than was signed, memory that grows with the input. Defences: [`unpack`] hands a
//! frame to the decoder only after its SHA-384 matched, counts every decoded byte against the
//! signed sizes, calls [`BlobSink::end`] only after the blob's sha256 matched, and holds a fixed
//! number of frames.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use zstd::stream::raw::Operation as _;

use crate::archive::{ArchiveReader, Member};
use crate::digest::{Sha256Hasher, Sha384};
use crate::envelope::VerifiedManifest;
use crate::manifest::{Blob, Frame, Manifest, Pack};
use crate::{Error, ErrorKind, Result, limits};

/// Codec `raw`: the stored bytes are the blobs.
pub const RAW: &str = "raw";
/// Codec `zstd`: the stored bytes are one zstd frame (RFC 8878) of the blobs.
pub const ZSTD: &str = "zstd";
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

    /// Reads every frame of `manifest`'s packs in order and hands its bytes, unproved, to `take`.
    fn walk(&mut self, manifest: &Manifest, mut take: impl FnMut(usize, usize, Vec<u8>) -> Result<()>) -> Result<()> {
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
                let mut bytes = vec![0; usize::try_from(frame.size).unwrap_or(0)];
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

/// Proves every frame and blob of an archive and hands the blobs to `sink`, in order. One thread
/// reads, `threads` hash frames, the calling thread decodes, hashes blobs and feeds the sink. Memory
/// is bounded by `2 × threads + 2` frames and one decoder window. `progress` is told the stored
/// bytes of each frame done.
pub fn unpack<R: Read + Send>(
    packs: &mut PackReader<R>,
    manifest: &VerifiedManifest,
    sink: &mut dyn BlobSink,
    threads: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let manifest = manifest.manifest();
    let threads = threads.max(1);
    let (jobs, queue) = sync_channel::<Job>(threads);
    let (ordered, results) = sync_channel::<Receiver<Proof>>(threads);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        scope.spawn(move || read_frames(packs, manifest, &jobs, &ordered));
        for _ in 0..threads {
            scope.spawn(|| prove_frames(manifest, &queue));
        }
        // Owned here, so that an error drops it and stops the reader.
        let results = results;
        decode_frames(manifest, &results, sink, progress)
    })
}

/// Queues each frame for proof and its result for decoding. Ends when there is no one to read for.
fn read_frames<R: Read>(
    packs: &mut PackReader<R>,
    manifest: &Manifest,
    jobs: &SyncSender<Job>,
    ordered: &SyncSender<Receiver<Proof>>,
) {
    let stopped = || ErrorKind::Inconsistent { what: "unpack".into(), why: "stopped".into() };
    let walked = packs.walk(manifest, |pack, index, bytes| {
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
    results: &Receiver<Receiver<Proof>>,
    sink: &mut dyn BlobSink,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    for (number, pack) in manifest.packs.iter().enumerate() {
        let mut decoder = PackDecoder::new(pack)?;
        for _ in &pack.frames {
            let frame = next_frame(results)?;
            if frame.pack != number {
                return Err(ErrorKind::Inconsistent { what: "unpack".into(), why: "frames out of order".into() }.into());
            }
            decoder.feed(&frame.bytes, sink)?;
            progress(u64::try_from(frame.bytes.len()).unwrap_or(0));
        }
        decoder.finish(sink)?;
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

/// Decodes proved frames of one pack into blobs.
struct PackDecoder<'a> {
    pack: &'a Pack,
    codec: Codec,
    blobs: BlobSplitter<'a>,
}

enum Codec {
    Raw,
    Zstd { decoder: zstd::stream::raw::Decoder<'static>, buffer: Vec<u8>, ended: bool },
}

impl<'a> PackDecoder<'a> {
    fn new(pack: &'a Pack) -> Result<Self> {
        let codec = match pack.codec.as_str() {
            RAW => Codec::Raw,
            ZSTD => {
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(|error| codec_error(pack, &error))?;
                decoder
                    .set_parameter(zstd::stream::raw::DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG))
                    .map_err(|error| codec_error(pack, &error))?;
                Codec::Zstd { decoder, buffer: vec![0; 256 << 10], ended: false }
            }
            other => return Err(ErrorKind::UnknownCodec { pack: pack.name.clone(), codec: other.into() }.into()),
        };
        Ok(Self { pack, codec, blobs: BlobSplitter::new(pack) })
    }

    fn feed(&mut self, mut bytes: &[u8], sink: &mut dyn BlobSink) -> Result<()> {
        let Codec::Zstd { decoder, buffer, ended } = &mut self.codec else {
            return self.blobs.feed(bytes, sink);
        };
        loop {
            if *ended && !bytes.is_empty() {
                return Err(codec_error(self.pack, &"bytes follow the zstd frame").into());
            }
            let status = decoder.run_on_buffers(bytes, buffer).map_err(|error| codec_error(self.pack, &error))?;
            self.blobs.feed(buffer.get(..status.bytes_written).unwrap_or(&[]), sink)?;
            bytes = bytes.get(status.bytes_read..).unwrap_or(&[]);
            *ended = status.remaining == 0;
            let drained = status.bytes_written < buffer.len();
            if bytes.is_empty() && (drained || *ended) {
                return Ok(());
            }
        }
    }

    fn finish(self, sink: &mut dyn BlobSink) -> Result<()> {
        if let Codec::Zstd { ended: false, .. } = self.codec {
            return Err(codec_error(self.pack, &"the zstd frame does not end").into());
        }
        self.blobs.finish(sink)
    }
}

fn codec_error(pack: &Pack, why: &dyn std::fmt::Display) -> ErrorKind {
    ErrorKind::Codec { pack: pack.name.clone(), codec: pack.codec.clone(), why: why.to_string() }
}

/// Cuts a decoded stream into the pack's blobs and proves each.
struct BlobSplitter<'a> {
    pack: &'a Pack,
    waiting: std::slice::Iter<'a, Blob>,
    current: Option<OpenBlob>,
}

struct OpenBlob {
    blob: Blob,
    want: Want,
    left: u64,
    hasher: Sha256Hasher,
}

impl<'a> BlobSplitter<'a> {
    fn new(pack: &'a Pack) -> Self {
        Self { pack, waiting: pack.blobs.iter(), current: None }
    }

    fn feed(&mut self, mut bytes: &[u8], sink: &mut dyn BlobSink) -> Result<()> {
        while !bytes.is_empty() {
            if self.current.is_none() {
                self.open_next(sink)?;
            }
            let Some(open) = &mut self.current else {
                return Err(codec_error(self.pack, &"it holds more bytes than its blobs").into());
            };
            let take = usize::try_from(open.left).unwrap_or(usize::MAX).min(bytes.len());
            let (part, rest) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
            open.hasher.update(part);
            open.left -= u64::try_from(take).unwrap_or(0);
            if open.want == Want::Keep {
                sink.write(part)?;
            }
            bytes = rest;
            self.close_if_done(sink)?;
        }
        Ok(())
    }

    /// Opens the next blob; empty blobs on the way are closed at once.
    fn open_next(&mut self, sink: &mut dyn BlobSink) -> Result<()> {
        while self.current.is_none()
            && let Some(blob) = self.waiting.next()
        {
            let want = sink.begin(blob)?;
            self.current = Some(OpenBlob { blob: *blob, want, left: blob.size, hasher: Sha256Hasher::default() });
            self.close_if_done(sink)?;
        }
        Ok(())
    }

    fn close_if_done(&mut self, sink: &mut dyn BlobSink) -> Result<()> {
        let Some(open) = self.current.take_if(|open| open.left == 0) else { return Ok(()) };
        let found = open.hasher.finish();
        if found != open.blob.digest {
            return Err(
                ErrorKind::BlobDigest { expected: open.blob.digest.to_string(), found: found.to_string() }.into()
            );
        }
        match open.want {
            Want::Keep => sink.end(),
            Want::Skip => Ok(()),
        }
    }

    fn finish(mut self, sink: &mut dyn BlobSink) -> Result<()> {
        // A blob that is open already lacks bytes; one that waits must be empty.
        if self.current.is_none() {
            self.open_next(sink)?;
        }
        if self.current.is_none() {
            return Ok(());
        }
        Err(codec_error(self.pack, &"it ends before its last blob").into())
    }
}

/// Writes one pack: blobs in, frames out, the [`Pack`] entry at the end.
pub struct PackWriter<W: Write> {
    codec: String,
    stream: Stream<W>,
    blobs: Vec<Blob>,
}

enum Stream<W: Write> {
    Raw(FrameCutter<W>),
    Zstd(zstd::stream::write::Encoder<'static, FrameCutter<W>>),
}

/// How a pack is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Codec [`RAW`].
    Raw,
    /// Codec [`ZSTD`] at a compression level, 1 to 22.
    Zstd {
        /// zstd's level.
        level: i32,
    },
}

impl<W: Write> PackWriter<W> {
    /// Starts a pack on `out`. The bytes depend on the blobs and the encoding alone.
    pub fn new(out: W, encoding: Encoding) -> Result<Self> {
        let cutter = FrameCutter { out, frames: Vec::new(), buffer: Vec::with_capacity(FRAME_BYTES) };
        let fail = |error| Error::io("zstd encoder", error);
        let (codec, stream) = match encoding {
            Encoding::Raw => (RAW, Stream::Raw(cutter)),
            Encoding::Zstd { level } => {
                let mut encoder = zstd::stream::write::Encoder::new(cutter, level).map_err(fail)?;
                encoder.window_log(limits::ZSTD_WINDOW_LOG).map_err(fail)?;
                (ZSTD, Stream::Zstd(encoder))
            }
        };
        Ok(Self { codec: codec.into(), stream, blobs: Vec::new() })
    }

    /// Adds a blob; its bytes must be exactly those of `blob`.
    pub fn blob(&mut self, blob: Blob, content: &mut dyn Read) -> Result<()> {
        let mut hasher = Sha256Hasher::default();
        let mut buffer = vec![0; 1 << 20];
        let mut found = 0u64;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io(format!("blob {}", blob.digest), error)),
            };
            let part = buffer.get(..count).unwrap_or(&[]);
            found = found.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            if found > blob.size {
                return Err(
                    ErrorKind::TooLarge { what: format!("blob {}", blob.digest), limit: blob.size, found }.into()
                );
            }
            hasher.update(part);
            let written = match &mut self.stream {
                Stream::Raw(out) => out.write_all(part),
                Stream::Zstd(out) => out.write_all(part),
            };
            written.map_err(|error| Error::io("pack", error))?;
        }
        if found < blob.size {
            return Err(
                ErrorKind::Truncated { what: format!("blob {}", blob.digest), expected: blob.size, found }.into()
            );
        }
        let digest = hasher.finish();
        if digest != blob.digest {
            return Err(ErrorKind::BlobDigest { expected: blob.digest.to_string(), found: digest.to_string() }.into());
        }
        self.blobs.push(blob);
        Ok(())
    }

    /// Ends the pack; `number` gives its member name.
    pub fn finish(self, number: usize) -> Result<(Pack, W)> {
        let fail = |error| Error::io("pack", error);
        let mut cutter = match self.stream {
            Stream::Raw(cutter) => cutter,
            Stream::Zstd(encoder) => encoder.finish().map_err(fail)?,
        };
        cutter.cut().map_err(fail)?;
        let name = crate::manifest::pack_name(number);
        Ok((Pack { name, codec: self.codec, frames: cutter.frames, blobs: self.blobs }, cutter.out))
    }
}

impl<W: Write> std::fmt::Debug for PackWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter")
            .field("codec", &self.codec)
            .field("blobs", &self.blobs.len())
            .finish_non_exhaustive()
    }
}

/// Cuts a stream into frames of [`FRAME_BYTES`].
struct FrameCutter<W> {
    out: W,
    frames: Vec<Frame>,
    buffer: Vec<u8>,
}

impl<W: Write> FrameCutter<W> {
    fn cut(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.frames.push(Frame::of(&self.buffer));
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> Write for FrameCutter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = FRAME_BYTES - self.buffer.len();
        let (part, _) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.buffer.extend_from_slice(part);
        if self.buffer.len() == FRAME_BYTES {
            self.cut()?;
        }
        Ok(part.len())
    }

    /// Frames are cut by size alone, so flushing writes nothing.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
