//! Decoding: proved frames of one pack to coded streams, coded streams to blobs, each blob proved.

use zstd::stream::raw::{DParameter, Decoder, Operation as _};

use super::{BlobSink, CodedReader, DELTA, Held, PLAIN, RAW, TOKENS, Want, ZSTD};
use crate::digest::Sha256Hasher;
use crate::manifest::{Pack, PackedBlob, Segment};
use crate::tokens::TokenDecoder;
use crate::{Error, ErrorKind, Result, limits};

/// Bytes that a decoder gives out at once.
const PART: usize = 256 << 10;

/// Decodes proved frames of one pack into blobs.
pub(super) struct PackDecoder<'a> {
    pack: &'a Pack,
    codec: Codec<'a>,
    blobs: Splitter<'a>,
}

#[allow(clippy::large_enum_variant, reason = "one for each pack, never moved about")]
enum Codec<'a> {
    Raw,
    Zstd { decoder: Decoder<'static>, buffer: Vec<u8>, ended: bool },
    Delta(Deltas<'a>),
}

/// The zstd decoder of a finished pack: its window is room that the next pack needs again.
pub(super) type Spare = Option<Decoder<'static>>;

impl<'a> PackDecoder<'a> {
    pub(super) fn new(pack: &'a Pack, held: Held<'a>, spare: Spare) -> Result<Self> {
        let codec = match (pack.codec.as_str(), held) {
            (RAW, _) => Codec::Raw,
            (ZSTD, _) => {
                let mut decoder = spare.map_or_else(Decoder::new, Ok).map_err(|error| codec_error(pack, &error))?;
                decoder.reinit().map_err(|error| codec_error(pack, &error))?;
                let window = DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG);
                decoder.set_parameter(window).map_err(|error| codec_error(pack, &error))?;
                Codec::Zstd { decoder, buffer: vec![0; PART], ended: false }
            }
            (DELTA, Held::Set { .. }) => Codec::Delta(Deltas::new(pack, held)),
            (DELTA, Held::Nothing) => return Err(codec_error(pack, &"there is no base to build on").into()),
            (other, _) => {
                return Err(ErrorKind::UnknownCodec { pack: pack.name.clone(), codec: other.into() }.into());
            }
        };
        Ok(Self { pack, codec, blobs: Splitter::new(pack) })
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: &mut dyn BlobSink) -> Result<()> {
        let (decoder, buffer, ended) = match &mut self.codec {
            Codec::Raw => return self.blobs.feed(bytes, sink),
            Codec::Delta(deltas) => return deltas.feed(bytes, &mut self.blobs, sink),
            Codec::Zstd { decoder, buffer, ended } => (decoder, buffer, ended),
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

    pub(super) fn finish(self, sink: &mut dyn BlobSink) -> Result<Spare> {
        let spare = match self.codec {
            Codec::Zstd { ended: false, .. } => {
                return Err(codec_error(self.pack, &"the zstd frame does not end").into());
            }
            Codec::Zstd { decoder, .. } => Some(decoder),
            Codec::Raw | Codec::Delta(_) => None,
        };
        self.blobs.finish(sink)?;
        Ok(spare)
    }
}

fn codec_error(pack: &Pack, why: &dyn std::fmt::Display) -> ErrorKind {
    ErrorKind::Codec { pack: pack.name.clone(), codec: pack.codec.clone(), why: why.to_string() }
}

/// Collects each segment's stored bytes and decodes it with its prefix. The sizes were added up when
/// the manifest was checked, so that the segments end where the pack does.
struct Deltas<'a> {
    held: Held<'a>,
    pack: &'a Pack,
    /// The segment that comes: blob and place in its list.
    next: (usize, usize),
    base: Option<CodedReader<'a>>,
    stored: Vec<u8>,
}

impl<'a> Deltas<'a> {
    const fn new(pack: &'a Pack, held: Held<'a>) -> Self {
        Self { held, pack, next: (0, 0), base: None, stored: Vec::new() }
    }

    fn feed(&mut self, mut bytes: &[u8], blobs: &mut Splitter<'a>, sink: &mut dyn BlobSink) -> Result<()> {
        while !bytes.is_empty() {
            let Some((blob, segment)) = self.segment() else {
                return Err(codec_error(self.pack, &"it holds more bytes than its segments").into());
            };
            let wanted = usize::try_from(segment.stored).unwrap_or(usize::MAX) - self.stored.len();
            let (part, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            self.stored.extend_from_slice(part);
            bytes = rest;
            if part.len() == wanted {
                self.decode(blob, &segment, blobs, sink)?;
                self.stored.clear();
            }
        }
        Ok(())
    }

    /// The segment whose bytes come next.
    fn segment(&mut self) -> Option<(&'a PackedBlob, Segment)> {
        loop {
            let blob = self.pack.blobs.get(self.next.0)?;
            if let Some(segment) = blob.delta.as_ref()?.segments.get(self.next.1) {
                return Some((blob, *segment));
            }
            self.next = (self.next.0 + 1, 0);
            self.base = None;
        }
    }

    fn decode(
        &mut self,
        blob: &'a PackedBlob,
        segment: &Segment,
        blobs: &mut Splitter<'a>,
        sink: &mut dyn BlobSink,
    ) -> Result<()> {
        self.next.1 += 1;
        let refuse = |why: &dyn std::fmt::Display| {
            Error::from(ErrorKind::Delta { blob: blob.digest.to_string(), why: why.to_string() })
        };
        let (Some(delta), Held::Set { blobs: held, .. }) = (&blob.delta, self.held) else {
            return Err(refuse(&"it has no base"));
        };
        let base = match &mut self.base {
            Some(base) => base,
            none => none.insert(CodedReader::new(&delta.base.to_string(), &delta.coding, held.open(&delta.base)?)?),
        };
        let prefix = base.range(segment.from, segment.len)?;
        if u64::try_from(prefix.len()).unwrap_or(u64::MAX) != segment.len {
            return Err(refuse(&"its base's coded stream ends before the signed range"));
        }
        let mut decoder = Decoder::with_ref_prefix(prefix).map_err(|error| refuse(&error))?;
        let window = DParameter::WindowLogMax(limits::SEGMENT_BYTES.ilog2());
        decoder.set_parameter(window).map_err(|error| refuse(&error))?;
        let (mut bytes, mut left) = (&self.stored[..], segment.coded);
        let mut buffer = vec![0; PART];
        loop {
            let status = decoder.run_on_buffers(bytes, &mut buffer).map_err(|error| refuse(&error))?;
            bytes = bytes.get(status.bytes_read..).unwrap_or(&[]);
            let part = buffer.get(..status.bytes_written).unwrap_or(&[]);
            left = left
                .checked_sub(u64::try_from(part.len()).unwrap_or(u64::MAX))
                .ok_or_else(|| refuse(&"a segment decodes to more than its coded bytes"))?;
            blobs.feed(part, sink)?;
            if status.remaining == 0 {
                break;
            }
            if bytes.is_empty() && part.len() < buffer.len() {
                return Err(refuse(&"a segment's zstd frame does not end"));
            }
        }
        if bytes.is_empty() && left == 0 {
            return Ok(());
        }
        Err(refuse(&"a segment decodes to less than its coded bytes, or bytes follow its zstd frame"))
    }
}

/// Cuts a decoded stream into the pack's coded streams, decodes each and proves its blob.
struct Splitter<'a> {
    pack: &'a Pack,
    waiting: std::slice::Iter<'a, PackedBlob>,
    current: Option<Open<'a>>,
    /// What a coding gave, on its way to the blob.
    decoded: Vec<u8>,
}

struct Open<'a> {
    blob: &'a PackedBlob,
    /// Coded bytes still to come.
    left: u64,
    coding: Coding,
    proof: Proof,
}

enum Coding {
    Plain,
    Tokens(Box<TokenDecoder>),
}

/// What is known of a blob's decoded bytes.
struct Proof {
    want: Want,
    left: u64,
    hasher: Sha256Hasher,
}

impl Proof {
    fn take(&mut self, blob: &PackedBlob, bytes: &[u8], sink: &mut dyn BlobSink) -> Result<()> {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let more = || coding_error(blob, &"it decodes to more than its size");
        self.left = self.left.checked_sub(count).ok_or_else(more)?;
        self.hasher.update(bytes);
        if self.want == Want::Keep && !bytes.is_empty() { sink.write(bytes) } else { Ok(()) }
    }

    fn end(self, blob: &PackedBlob, sink: &mut dyn BlobSink) -> Result<()> {
        if self.left > 0 {
            return Err(coding_error(blob, &"it decodes to less than its size").into());
        }
        let found = self.hasher.finish();
        if found != blob.digest {
            return Err(ErrorKind::BlobDigest { expected: blob.digest.to_string(), found: found.to_string() }.into());
        }
        match self.want {
            Want::Keep => sink.end(),
            Want::Skip => Ok(()),
        }
    }
}

fn coding_error(blob: &PackedBlob, why: &dyn std::fmt::Display) -> ErrorKind {
    ErrorKind::Coding { blob: blob.digest.to_string(), coding: blob.coding.clone(), why: why.to_string() }
}

impl<'a> Splitter<'a> {
    fn new(pack: &'a Pack) -> Self {
        Self { pack, waiting: pack.blobs.iter(), current: None, decoded: Vec::new() }
    }

    fn feed(&mut self, mut bytes: &[u8], sink: &mut dyn BlobSink) -> Result<()> {
        while !bytes.is_empty() {
            if self.current.is_none() {
                self.open_next(sink)?;
            }
            let Some(open) = &mut self.current else {
                return Err(codec_error(self.pack, &"it holds more bytes than its blobs").into());
            };
            // A step at a time, so that what a coding gives stays small.
            let take = usize::try_from(open.left).unwrap_or(usize::MAX).min(bytes.len()).min(PART);
            let (part, rest) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
            open.left -= u64::try_from(take).unwrap_or(0);
            match &mut open.coding {
                Coding::Plain => open.proof.take(open.blob, part, sink)?,
                Coding::Tokens(decoder) => {
                    let (proof, blob, mut taken) = (&mut open.proof, open.blob, Ok(()));
                    let found = decoder.push_by_parts(part, &mut self.decoded, &mut |bytes| {
                        if taken.is_ok() {
                            taken = proof.take(blob, bytes, sink);
                        }
                        bytes.clear();
                    });
                    taken?;
                    found.map_err(|error| coding_error(blob, &error))?;
                    proof.take(blob, &self.decoded, sink)?;
                    self.decoded.clear();
                }
            }
            bytes = rest;
            self.close_if_done(sink)?;
        }
        Ok(())
    }

    /// Opens the next blob; those without coded bytes are closed at once on the way.
    fn open_next(&mut self, sink: &mut dyn BlobSink) -> Result<()> {
        while self.current.is_none()
            && let Some(blob) = self.waiting.next()
        {
            let coding = match blob.coding.as_str() {
                PLAIN => Coding::Plain,
                TOKENS => Coding::Tokens(Box::new(TokenDecoder::new(blob.size))),
                other => {
                    let (blob, coding) = (blob.digest.to_string(), other.to_owned());
                    return Err(ErrorKind::UnknownCoding { blob, coding }.into());
                }
            };
            let want = sink.begin(&blob.blob())?;
            let proof = Proof { want, left: blob.size, hasher: Sha256Hasher::default() };
            self.current = Some(Open { blob, left: blob.coded, coding, proof });
            self.close_if_done(sink)?;
        }
        Ok(())
    }

    fn close_if_done(&mut self, sink: &mut dyn BlobSink) -> Result<()> {
        let Some(mut open) = self.current.take_if(|open| open.left == 0) else { return Ok(()) };
        if let Coding::Tokens(decoder) = open.coding {
            decoder.finish(&mut self.decoded).map_err(|error| coding_error(open.blob, &error))?;
            open.proof.take(open.blob, &self.decoded, sink)?;
            self.decoded.clear();
        }
        open.proof.end(open.blob, sink)
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
