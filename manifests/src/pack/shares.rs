//! How a pack's stored bytes fall to its blobs, for reports.

use std::io::Read;

use zstd::stream::raw::{DParameter, Decoder, Operation as _};

use super::{DELTA, PackReader, RAW, ZSTD, prove};
use crate::manifest::{Manifest, Pack, PackedBlob};
use crate::{ErrorKind, Result, limits};

/// For each pack, for each of its blobs, the stored bytes that fall to it. In a stream of many blobs a
/// block of the decoder (at most 128 KiB decoded, RFC 8878, 3.1.1.2) is counted for the blob that it
/// begins in. `raw` is given the bytes of blobs that are carried as they are, in order. Frames are
/// checked against the manifest, which nobody proved here.
pub fn dangerous_stored_shares<R: Read>(
    packs: &mut PackReader<R>,
    manifest: &Manifest,
    raw: &mut dyn FnMut(&PackedBlob, &[u8]),
) -> Result<Vec<Vec<u64>>> {
    let mut all: Vec<Vec<u64>> = manifest.packs.iter().map(plain_shares).collect();
    let mut open: Option<(usize, Shares<'_>)> = None;
    let mut cutter: Option<(usize, RawCutter<'_>)> = None;
    packs.walk(manifest, Vec::new, |number, index, bytes| {
        let frame = prove(manifest, number, index, bytes)?;
        let Some(pack) = manifest.packs.get(number) else { return Ok(()) };
        if pack.codec == RAW {
            if cutter.as_ref().is_none_or(|(of, _)| *of != number) {
                cutter = Some((number, RawCutter::new(pack)));
            }
            if let Some((_, cutter)) = &mut cutter {
                cutter.feed(&frame.bytes, raw);
            }
        }
        if pack.codec != ZSTD {
            return Ok(());
        }
        if open.as_ref().is_none_or(|(of, _)| *of != number) {
            open = Some((number, Shares::new(pack)?));
        }
        let (Some((_, shares)), Some(found)) = (&mut open, all.get_mut(number)) else { return Ok(()) };
        shares.feed(&frame.bytes, found)
    })?;
    Ok(all)
}

/// Cuts a raw pack's bytes into its blobs.
struct RawCutter<'a> {
    pack: &'a Pack,
    /// The blob that it is in, and its bytes still to come.
    at: usize,
    left: u64,
}

impl<'a> RawCutter<'a> {
    fn new(pack: &'a Pack) -> Self {
        Self { pack, at: 0, left: pack.blobs.first().map_or(0, |blob| blob.coded) }
    }

    fn feed(&mut self, mut bytes: &[u8], raw: &mut dyn FnMut(&PackedBlob, &[u8])) {
        while let Some(blob) = self.pack.blobs.get(self.at).filter(|_| !bytes.is_empty()) {
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (part, rest) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
            raw(blob, part);
            self.left -= u64::try_from(take).unwrap_or(0);
            bytes = rest;
            if self.left == 0 {
                self.at += 1;
                self.left = self.pack.blobs.get(self.at).map_or(0, |blob| blob.coded);
            }
        }
    }
}

/// What the manifest alone says.
fn plain_shares(pack: &Pack) -> Vec<u64> {
    let stored = |blob: &PackedBlob| match (&blob.delta, pack.codec.as_str()) {
        (Some(delta), DELTA) => delta.segments.iter().map(|segment| segment.stored).sum(),
        (_, ZSTD) => 0,
        _ => blob.coded,
    };
    pack.blobs.iter().map(stored).collect()
}

struct Shares<'a> {
    pack: &'a Pack,
    decoder: Decoder<'static>,
    buffer: Vec<u8>,
    /// The blob that the decoder is in, and its coded bytes still to come.
    at: usize,
    left: u64,
}

impl<'a> Shares<'a> {
    fn new(pack: &'a Pack) -> Result<Self> {
        let fail = |error: std::io::Error| codec_error(pack, &error);
        let mut decoder = Decoder::new().map_err(fail)?;
        decoder.set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG)).map_err(fail)?;
        let left = pack.blobs.first().map_or(0, |blob| blob.coded);
        Ok(Self { pack, decoder, buffer: vec![0; 16 << 10], at: 0, left })
    }

    fn feed(&mut self, mut bytes: &[u8], shares: &mut [u64]) -> Result<()> {
        loop {
            let status = self.decoder.run_on_buffers(bytes, &mut self.buffer);
            let status = status.map_err(|error| codec_error(self.pack, &error))?;
            if let Some(share) = shares.get_mut(self.at) {
                *share = share.saturating_add(u64::try_from(status.bytes_read).unwrap_or(0));
            }
            bytes = bytes.get(status.bytes_read..).unwrap_or(&[]);
            self.pass(u64::try_from(status.bytes_written).unwrap_or(0));
            if status.remaining == 0 || (bytes.is_empty() && status.bytes_written < self.buffer.len()) {
                return Ok(());
            }
        }
    }

    /// Counts decoded bytes off the blobs.
    fn pass(&mut self, mut decoded: u64) {
        while decoded >= self.left && self.at < self.pack.blobs.len() {
            decoded -= self.left;
            self.at += 1;
            self.left = self.pack.blobs.get(self.at).map_or(u64::MAX, |blob| blob.coded);
        }
        self.left = self.left.saturating_sub(decoded);
    }
}

fn codec_error(pack: &Pack, why: &dyn std::fmt::Display) -> ErrorKind {
    ErrorKind::Codec { pack: pack.name.clone(), codec: pack.codec.clone(), why: why.to_string() }
}
