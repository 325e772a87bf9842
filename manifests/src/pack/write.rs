//! Writing packs: coded streams in, frames out.

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

use zstd::stream::raw::{CParameter, Encoder, Operation as _};
use zstd::stream::zio;

use super::{DELTA, FRAME_BYTES, RAW, ZSTD};
use crate::digest::Sha256Hasher;
use crate::manifest::{Blob, Frame, Pack, PackedBlob};
use crate::{Error, ErrorKind, Result, limits};

/// Levels from which on our writer takes the largest window.
const LARGE_WINDOW: i32 = 16;
/// The level for whole blobs every day: zstd's quickest search, for matches of five bytes and more, in a
/// table of 1 MiB.
const QUICK: i32 = 2;

/// Levels below which an encoder is used again: those of the quick searches, to whose tables an earlier
/// frame leaves nothing that a later one could find. The finer ones choose their hashes anew.
const REUSED_BELOW: i32 = 5;
/// Bytes after which it is not: far from where zstd's positions begin anew.
const REUSED_BYTES: u64 = 1 << 30;

/// Writes one pack: coded streams in, frames out, the [`Pack`] entry at the end.
pub struct PackWriter<W: Write> {
    codec: String,
    stream: Stream<W>,
    blobs: Vec<PackedBlob>,
    /// The level of an encoder that is used again, and the bytes that it took before.
    reused: Option<(i32, u64)>,
}

enum Stream<W: Write> {
    Raw(FrameCutter<W>),
    Zstd(zio::Writer<FrameCutter<W>, Encoder<'static>>),
}

/// Encoders of finished packs, for the next ones: each has a window of 64 MiB, which the kernel would clear
/// and map anew, page by page. The bytes of a pack do not depend on them.
#[derive(Default)]
pub struct Encoders(Mutex<Vec<Kept>>);

struct Kept {
    level: i32,
    /// Bytes so far.
    taken: u64,
    encoder: Encoder<'static>,
}

impl Encoders {
    fn take(&self, level: i32) -> Option<Kept> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|kept| kept.level == level)?;
        Some(kept.swap_remove(at))
    }

    fn keep(&self, kept: Kept) {
        if kept.level < REUSED_BELOW && kept.taken < REUSED_BYTES {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
    }
}

impl std::fmt::Debug for Encoders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoders").finish_non_exhaustive()
    }
}

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Raw(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
        }
    }

    /// Frames are cut by size alone, and no block ends early.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Counts what passes.
struct Counted<'a, W: Write> {
    out: &'a mut Stream<W>,
    count: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count = self.count.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
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
    /// Codec [`DELTA`]: what is added are segments that are encoded already ([`encode_segment`]).
    Delta,
}

impl<W: Write> PackWriter<W> {
    /// Starts a pack on `out`. The bytes depend on the blobs and the encoding alone.
    pub fn new(out: W, encoding: Encoding) -> Result<Self> {
        Self::reusing(out, encoding, None, &Encoders::default())
    }

    /// The same for exactly `content` coded bytes in all, where that is known: a small pack then needs a small
    /// window only. By an encoder of `encoders`, where there is one that fits.
    pub fn reusing(out: W, encoding: Encoding, content: Option<u64>, encoders: &Encoders) -> Result<Self> {
        let cutter = FrameCutter { out, frames: Vec::new(), buffer: Vec::new() };
        let mut reused = None;
        let (codec, stream) = match encoding {
            Encoding::Raw => (RAW, Stream::Raw(cutter)),
            Encoding::Delta => (DELTA, Stream::Raw(cutter)),
            Encoding::Zstd { level } => {
                let fail = |error| Error::io("zstd encoder", error);
                let (taken, mut encoder) = if let Some(kept) = encoders.take(level) {
                    (kept.taken, kept.encoder)
                } else {
                    let mut encoder = Encoder::new(level).map_err(fail)?;
                    let log = limits::ZSTD_WINDOW_LOG - u32::from(level < LARGE_WINDOW);
                    set_window(&mut encoder, level, log, Runs::Long).map_err(fail)?;
                    (0, encoder)
                };
                encoder.reinit().map_err(fail)?;
                encoder.set_pledged_src_size(content).map_err(fail)?;
                reused = Some((level, taken));
                (ZSTD, Stream::Zstd(zio::Writer::new(cutter, encoder)))
            }
        };
        Ok(Self { codec: codec.into(), stream, blobs: Vec::new(), reused })
    }

    /// Adds a blob as its own bytes, which must be exactly those of `blob`.
    pub fn blob(&mut self, blob: Blob, content: &mut dyn Read) -> Result<()> {
        let mut hasher = Sha256Hasher::default();
        self.stream(&format!("blob {}", blob.digest), blob.size, content, &mut |part| hasher.update(part))?;
        let digest = hasher.finish();
        if digest != blob.digest {
            return Err(ErrorKind::BlobDigest { expected: blob.digest.to_string(), found: digest.to_string() }.into());
        }
        self.blobs.push(PackedBlob::plain(blob));
        Ok(())
    }

    /// Adds a blob by its coded stream, or, to a pack of deltas, by its segments' stored bytes. That
    /// they decode to the blob is the caller's to have proved.
    pub fn coded(&mut self, blob: PackedBlob, content: &mut dyn Read) -> Result<()> {
        let stored = |delta: &crate::manifest::Delta| delta.segments.iter().map(|segment| segment.stored).sum();
        let size = blob.delta.as_ref().map_or(blob.coded, stored);
        self.stream(&format!("blob {}, coded", blob.digest), size, content, &mut |_| ())?;
        self.blobs.push(blob);
        Ok(())
    }

    /// Adds a blob by a coded stream that `write` makes, and gives back what it says; where that is an
    /// error, the pack is of no use any more. That the stream decodes to the blob is the caller's to have
    /// proved.
    pub fn made<T, E>(
        &mut self,
        blob: Blob,
        coding: &str,
        write: impl FnOnce(&mut dyn Write) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let mut out = Counted { out: &mut self.stream, count: 0 };
        let said = write(&mut out)?;
        let coded = out.count;
        self.blobs.push(PackedBlob { coding: coding.into(), coded, ..PackedBlob::plain(blob) });
        Ok(said)
    }

    fn stream(&mut self, what: &str, size: u64, from: &mut dyn Read, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        let mut found = 0u64;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io(what, error)),
            };
            let part = buffer.get(..count).unwrap_or(&[]);
            found = found.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            if found > size {
                return Err(ErrorKind::TooLarge { what: what.into(), limit: size, found }.into());
            }
            take(part);
            self.stream.write_all(part).map_err(|error| Error::io("pack", error))?;
        }
        if found < size {
            return Err(ErrorKind::Truncated { what: what.into(), expected: size, found }.into());
        }
        Ok(())
    }

    /// Ends the pack; `number` gives its member name. It is for every site.
    pub fn finish(self, number: usize) -> Result<(Pack, W)> {
        self.finish_into(number, &Encoders::default())
    }

    /// The same, and leaves the encoder to `encoders`.
    pub fn finish_into(self, number: usize, encoders: &Encoders) -> Result<(Pack, W)> {
        let fail = |error| Error::io("pack", error);
        let mut cutter = match self.stream {
            Stream::Raw(cutter) => cutter,
            Stream::Zstd(mut writer) => {
                writer.finish().map_err(fail)?;
                let (cutter, encoder) = writer.into_inner();
                if let Some((level, before)) = self.reused {
                    let taken = self.blobs.iter().fold(before, |sum, blob| sum.saturating_add(blob.coded));
                    encoders.keep(Kept { level, taken, encoder });
                }
                cutter
            }
        };
        cutter.cut().map_err(fail)?;
        let name = crate::manifest::pack_name(number);
        let (bases, frames) = (Vec::new(), cutter.frames);
        Ok((Pack { name, codec: self.codec, bases, frames, blobs: self.blobs }, cutter.out))
    }
}

/// What is looked for far back.
#[derive(Clone, Copy)]
enum Runs {
    /// From 16 bytes on, at one place in 128: content that two layers share.
    Long,
    /// From 12 bytes on, at one place in 8: the tokens of a changed layer, which are broken into short runs.
    Short,
}

/// A window of 64 MiB, or at high levels of 128 MiB, and matches all over it: content that two layers
/// share lies tens of megabytes apart. At the high levels zstd's own search is as fine. Below them it looks
/// for runs far back as `runs` says (zstd's own choice is 64 bytes and one place in 128); what finer ones
/// gain and cost: `docs/adr/0015-packs-and-deltas.md`.
fn set_window(encoder: &mut Encoder<'_>, level: i32, window_log: u32, runs: Runs) -> std::io::Result<()> {
    encoder.set_parameter(CParameter::WindowLog(window_log))?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    if level < LARGE_WINDOW {
        let (shortest, places, table) = match runs {
            Runs::Long => (16, 7, 19),
            Runs::Short => (12, 3, 23),
        };
        encoder.set_parameter(CParameter::LdmMinMatch(shortest))?;
        encoder.set_parameter(CParameter::LdmHashRateLog(places))?;
        encoder.set_parameter(CParameter::LdmHashLog(table))?;
    }
    if level == QUICK {
        encoder.set_parameter(CParameter::HashLog(18))?;
        encoder.set_parameter(CParameter::MinMatch(5))?;
    }
    Ok(())
}

/// One segment of a delta: `coded` as one zstd frame, with `prefix` to refer back to.
pub fn encode_segment(prefix: &[u8], coded: &[u8], level: i32) -> Result<Vec<u8>> {
    let fail = |error| Error::io("zstd encoder", error);
    let mut encoder = Encoder::with_ref_prefix(level, prefix).map_err(fail)?;
    // A window of the segment alone keeps the prefix in reach to its end (zstd invalidates it behind).
    set_window(&mut encoder, level, limits::SEGMENT_BYTES.ilog2(), Runs::Short).map_err(fail)?;
    encoder.set_pledged_src_size(u64::try_from(coded.len()).ok()).map_err(fail)?;
    let mut out = zstd::stream::write::Encoder::with_encoder(Vec::new(), encoder);
    out.write_all(coded).and_then(|()| out.finish()).map_err(fail)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    /// Content that repeats itself near and far, differently for each seed.
    fn content(mut seed: u64, size: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(size + 128);
        while bytes.len() < size {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (at, run) = ((seed >> 33) as usize % (bytes.len() + 1), 4 + (seed >> 58) as usize);
            if at + run <= bytes.len() && seed >> 40 & 3 > 0 {
                bytes.extend_from_within(at..at + run);
            } else {
                bytes.extend_from_slice(&seed.to_le_bytes());
            }
        }
        bytes.truncate(size);
        bytes
    }

    fn pack(content: &[u8], level: i32, known: bool, encoders: &Encoders) -> (Pack, Vec<u8>) {
        let size = content.len() as u64;
        let mut writer =
            PackWriter::reusing(Vec::new(), Encoding::Zstd { level }, known.then_some(size), encoders).unwrap();
        writer.blob(Blob { digest: Sha256::of(content), size }, &mut &content[..]).unwrap();
        writer.finish_into(0, encoders).unwrap()
    }

    #[test]
    fn an_encoder_that_is_used_again_gives_the_bytes_of_a_new_one() {
        let first = content(1, 3 << 20);
        // Like the one before, unlike it, tiny, none, larger, and the same again.
        let second = [&first[..1 << 20], &content(2, 2 << 20)].concat();
        let all = [first.clone(), second, content(3, 3 << 20), b"T".to_vec(), Vec::new(), content(4, 9 << 20), first];
        for level in [1, 2, 3, 4] {
            let encoders = Encoders::default();
            for (content, known) in all.iter().zip([false, true, false, true, true, false, false]) {
                let again = pack(content, level, known, &encoders);
                assert_eq!(again, pack(content, level, known, &Encoders::default()), "level {level}");
                let mut back = Vec::new();
                zstd::stream::copy_decode(&again.1[..], &mut back).unwrap();
                assert!(back == *content);
            }
            let kept = encoders.0.into_inner().unwrap();
            let sum: usize = all.iter().map(Vec::len).sum();
            assert_eq!(kept.iter().map(|kept| (kept.level, kept.taken)).collect::<Vec<_>>(), [(level, sum as u64)]);
        }
    }

    #[test]
    fn encoders_of_finer_levels_and_those_that_took_much_are_not_kept() {
        let encoders = Encoders::default();
        pack(b"TEST", 15, true, &encoders);
        assert!(encoders.take(15).is_none());
        pack(b"TEST", 2, true, &encoders);
        let mut kept = encoders.take(2).unwrap();
        assert!(encoders.take(2).is_none());
        kept.taken = REUSED_BYTES - 1;
        encoders.keep(kept);
        assert!(encoders.take(1).is_none());
        pack(b"T", 2, true, &encoders);
        assert!(encoders.take(2).is_none());
    }
}
