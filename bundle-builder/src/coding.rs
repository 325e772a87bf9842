//! Each blob's coding: gzip as deflate tokens where they give the same bytes again and are worth it,
//! everything else as it is.
//!
//! What may hurt it: tokens that do not give the blob back. Who defends: every token stream is decoded
//! again here, and what comes out must have the blob's own sha256; otherwise the blob is carried raw.

use std::io::{Read, Write as _};
use std::path::Path;

use bundle_format::digest::{Sha256, Sha256Hasher};
use bundle_format::manifest::{Blob, PackedBlob};
use bundle_format::pack::TOKENS;
use bundle_format::tokens::{TokenDecoder, TokenEncoder};

use crate::base::sketch::{Sketch, Sketcher};
use crate::collect::{BlobKind, CollectedBlob};
use crate::error::{Error, Result};
use crate::spool::Spool;

/// How a blob goes into a pack.
#[derive(Debug)]
pub struct Coded {
    /// The blob, coded, without a delta.
    pub entry: PackedBlob,
    /// Its coded stream, where that is not the blob itself.
    pub spool: Option<Spool>,
    /// Whether zstd can make the coded stream smaller.
    pub shrinks: Shrinks,
    /// Why so, for a person.
    pub why: String,
    /// About how many bytes zstd would leave, by samples at a low level.
    pub estimate: u64,
    /// What it is made of, where that was asked for.
    pub sketch: Sketch,
}

/// Whether zstd is worth its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shrinks {
    /// It is.
    Yes,
    /// The blob is compressed already.
    No,
}

/// Whether sketches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sketches {
    /// There is a base to compare with.
    Wanted,
    /// There is none.
    NotWanted,
}

const GZIP: &[u8] = &[0x1f, 0x8b];
/// zstd (RFC 8878), `ar` (which holds Debian packages), xz.
const COMPRESSED: [(&[u8], &str); 3] =
    [(&[0x28, 0xb5, 0x2f, 0xfd], "zstd"), (b"!<arch>\n", "a package of compressed members"), (b"\xfd7zXZ\0", "xz")];
/// Every fourth mebibyte of a coded stream is tried.
const SAMPLE: usize = 1 << 20;
const SAMPLE_EVERY: u64 = 4;
const SAMPLE_LEVEL: i32 = 1;

/// Codes one blob; `spools` is a folder for its coded stream.
pub fn code(blob: &CollectedBlob, spools: &Path, sketches: Sketches) -> Result<Coded> {
    let plain = PackedBlob::plain(Blob { digest: blob.digest, size: blob.size });
    let raw = |why: String| Coded {
        entry: plain.clone(),
        spool: None,
        shrinks: Shrinks::No,
        why,
        estimate: blob.size,
        sketch: Sketch::default(),
    };
    let mut content = blob.open()?;
    let mut head = [0; 8];
    let filled = read_up_to(&mut content, &mut head).map_err(|e| Error::io(format!("blob {}", blob.digest), e))?;
    let head = head.get(..filled).unwrap_or(&[]);
    if let Some((_, name)) = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Ok(raw(format!("it is {name} already")));
    }
    let whole = head.chain(content);
    if head.starts_with(GZIP) {
        return tokens(blob, whole, spools, sketches).map(|coded| coded.unwrap_or_else(raw));
    }
    let mut coded = Coded { shrinks: Shrinks::Yes, ..raw("not compressed yet".into()) };
    // What is small lies among others in one stream, where no sample can tell its size.
    if sketches == Sketches::Wanted && matches!(blob.kind, BlobKind::Layer | BlobKind::File) {
        let (mut look, mut input, mut part) = (Look::new(sketches), whole, vec![0; 256 << 10]);
        loop {
            let count = read_up_to(&mut input, &mut part).map_err(|e| Error::io(format!("blob {}", blob.digest), e))?;
            if count == 0 {
                break;
            }
            look.take(part.get(..count).unwrap_or(&[]))?;
        }
        (coded.estimate, coded.sketch) = look.finish()?;
    }
    Ok(coded)
}

/// gzip to tokens and back again; why not, where it does not work or does not pay.
fn tokens(
    blob: &CollectedBlob,
    mut content: impl Read,
    spools: &Path,
    sketches: Sketches,
) -> Result<std::result::Result<Coded, String>> {
    let what = || format!("blob {}", blob.digest);
    let mut spool = Spool::new(spools)?;
    let mut encoder = TokenEncoder::new();
    let mut again = Again { decoder: TokenDecoder::new(blob.size), hasher: Sha256Hasher::default(), out: Vec::new() };
    let mut look = Look::new(sketches);
    let (mut part, mut out) = (vec![0; 256 << 10], Vec::new());
    loop {
        let count = read_up_to(&mut content, &mut part).map_err(|e| Error::io(what(), e))?;
        if count == 0 {
            break;
        }
        if let Err(error) = encoder.push(part.get(..count).unwrap_or(&[]), &mut out) {
            return Ok(Err(error.to_string()));
        }
        if let Err(why) = again.take(&out) {
            return Ok(Err(why));
        }
        look.take(&out)?;
        spool.write_all(&out).map_err(|e| Error::io("spool", e))?;
        out.clear();
    }
    if let Err(error) = encoder.finish(&mut out) {
        return Ok(Err(error.to_string()));
    }
    if let Err(why) = again.take(&out) {
        return Ok(Err(why));
    }
    look.take(&out)?;
    spool.write_all(&out).map_err(|e| Error::io("spool", e))?;
    if again.finish() != Some(blob.digest) {
        return Ok(Err("its tokens do not give the same bytes again".into()));
    }
    let (estimate, sketch) = look.finish()?;
    if estimate >= blob.size {
        return Ok(Err(format!("its tokens would be about {estimate} bytes, it is {}", blob.size)));
    }
    let coded = spool.len();
    let entry = PackedBlob { digest: blob.digest, size: blob.size, coding: TOKENS.into(), coded, delta: None };
    let why = "gzip, given back exactly from its tokens".into();
    Ok(Ok(Coded { entry, spool: Some(spool), shrinks: Shrinks::Yes, why, estimate, sketch }))
}

/// Decodes tokens as a site will, and hashes what comes out.
struct Again {
    decoder: TokenDecoder,
    hasher: Sha256Hasher,
    out: Vec<u8>,
}

impl Again {
    fn take(&mut self, tokens: &[u8]) -> std::result::Result<(), String> {
        for part in tokens.chunks(256 << 10) {
            self.decoder.push(part, &mut self.out).map_err(|error| error.to_string())?;
            self.hasher.update(&self.out);
            self.out.clear();
        }
        Ok(())
    }

    /// The digest of what came out.
    fn finish(mut self) -> Option<Sha256> {
        self.decoder.finish(&mut self.out).ok()?;
        self.hasher.update(&self.out);
        Some(self.hasher.finish())
    }
}

/// Looks at a coded stream as it goes by: how small it will be, what it is made of.
struct Look {
    sketcher: Option<Sketcher>,
    /// Bytes of the mebibyte that is being tried.
    sample: Vec<u8>,
    seen: u64,
    tried: (u64, u64),
}

impl Look {
    fn new(sketches: Sketches) -> Self {
        let wanted = (sketches == Sketches::Wanted).then(Sketcher::default);
        Self { sketcher: wanted, sample: Vec::new(), seen: 0, tried: (0, 0) }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        if let Some(sketcher) = &mut self.sketcher {
            sketcher.update(bytes);
        }
        while !bytes.is_empty() {
            let mib = u64::try_from(SAMPLE).unwrap_or(1);
            let room = usize::try_from(mib - self.seen % mib).unwrap_or(SAMPLE);
            let (part, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            if (self.seen / mib).is_multiple_of(SAMPLE_EVERY) {
                self.sample.extend_from_slice(part);
            }
            self.seen += u64::try_from(part.len()).unwrap_or(0);
            bytes = rest;
            if self.seen.is_multiple_of(mib) {
                self.try_out()?;
            }
        }
        Ok(())
    }

    fn try_out(&mut self) -> Result<()> {
        if !self.sample.is_empty() {
            let tried = zstd::bulk::compress(&self.sample, SAMPLE_LEVEL).map_err(|e| Error::io("zstd", e))?;
            let count = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.tried = (self.tried.0 + count(&self.sample), self.tried.1 + count(&tried));
            self.sample.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(u64, Sketch)> {
        self.try_out()?;
        let (before, after) = self.tried;
        let scaled = u128::from(self.seen) * u128::from(after) / u128::from(before.max(1));
        let sketch = self.sketcher.map(Sketcher::finish).unwrap_or_default();
        Ok((u64::try_from(scaled).unwrap_or(u64::MAX), sketch))
    }
}

pub(crate) fn read_up_to(content: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match content.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
