//! Each blob's coding: gzip as deflate tokens where they give the same bytes again and are worth it,
//! everything else as it is. Where there are bases, what is carried as it is may still be a difference to
//! one of them: of its tokens, where these are exact, or of its own bytes.
//!
//! What may hurt it: tokens that do not give the blob back. Who defends: every token stream is decoded
//! again here, and what comes out must be, byte for byte, what went in, of which the reader proved the
//! digest; otherwise the blob is carried raw.

use std::io::{Read, Write};
use std::path::Path;

use bundle_format::manifest::PackedBlob;
use bundle_format::pack::TOKENS;
use bundle_format::tokens::Listener;

use crate::base::sketch::{Sketch, Sketcher};
use crate::collect::{BlobKind, CollectedBlob};
use crate::error::{Error, Result};
use crate::recognise::{Kind, Recogniser};
use crate::sbom::Readings;
use crate::spool::Spool;

mod trial;
mod why;

pub use trial::Rooms;
use trial::{CODED, Look, Trial, Tried};
pub(crate) use why::WhyRaw;

/// How a blob goes into a pack.
#[derive(Debug)]
pub struct Coded {
    /// The blob by its coded stream, without a delta: what a difference is made of.
    pub entry: PackedBlob,
    /// How the whole of it comes into a pack.
    pub whole: Whole,
    /// Whether zstd can make the whole smaller.
    pub shrinks: Shrinks,
    /// Why so, for a person.
    pub why: String,
    /// About how many bytes the whole takes: what zstd would leave, by samples at a low level.
    pub estimate: u64,
    /// What it is made of, where that was asked for.
    pub sketch: Sketch,
}

/// How the whole of a blob comes into a pack.
#[derive(Debug)]
pub enum Whole {
    /// As its own bytes.
    Own,
    /// As its coded stream, which was kept.
    Kept(Spool),
    /// As tokens that are made while the pack is ([`tokens_into`]), so that nothing has to hold them. How
    /// many they are is not known before.
    Made,
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

/// What is said of a blob that no compressor had yet.
pub(crate) const NOT_YET: &str = "not compressed yet";
/// What is said of gzip that is carried as tokens.
pub(crate) const EXACT: &str = "gzip, given back exactly from its tokens";
/// Smaller gzip lies among others in one stream, where no sample of it alone can tell its size; and as
/// tokens it can be the difference to a former one.
const ALONE: u64 = 4 << 10;
/// Gzip from this size on becomes tokens while its pack is made, unless something else needs them. By the
/// coded bytes of what is smaller it is known which packs are small.
const MADE: u64 = 4 << 20;
/// Bytes that go through the coder at once.
const PART: usize = 256 << 10;

/// How blobs are coded.
#[derive(Debug, Clone, Copy)]
pub struct Coder<'a> {
    /// Folder for coded streams.
    pub spools: &'a Path,
    /// Whether sketches are made.
    pub sketches: Sketches,
    /// Layers that are read beside, unless their tokens are made later.
    pub readings: &'a Readings,
    /// What coders leave to the next ones.
    pub rooms: &'a Rooms,
}

impl Coder<'_> {
    /// Codes one blob.
    pub fn code(&self, blob: &CollectedBlob) -> Result<Coded> {
        let Self { sketches, readings, .. } = *self;
        let (kind, whole) = recognised(blob)?;
        if kind != Kind::Gzip {
            readings.read(blob)?;
        }
        match kind {
            Kind::Compressed(name) => {
                let sketch = if may_be_large(blob) { sketch(blob, whole, sketches)? } else { Sketch::default() };
                Ok(Coded { sketch, ..raw(blob, already(name)) })
            }
            Kind::Gzip if sketches == Sketches::NotWanted && blob.size >= MADE => Ok(Coded {
                entry: PackedBlob { coding: TOKENS.into(), ..PackedBlob::plain(blob.blob()) },
                whole: Whole::Made,
                shrinks: Shrinks::Yes,
                why: EXACT.into(),
                estimate: blob.size,
                sketch: Sketch::default(),
            }),
            Kind::Gzip => match readings.beside(blob, |listener| self.tokens(blob, whole, listener))? {
                Ok(coded) => Ok(coded),
                // Its own bytes are all that a difference can be made of.
                Err(why) => Ok(Coded { sketch: sketch(blob, blob.open()?, sketches)?, ..raw(blob, why) }),
            },
            Kind::Other => {
                let mut coded = Coded { shrinks: Shrinks::Yes, ..raw(blob, NOT_YET.into()) };
                // What is small lies among others in one stream, where no sample can tell its size.
                if sketches == Sketches::Wanted && matches!(blob.kind, BlobKind::Layer | BlobKind::File) {
                    let mut look = Look::new(sketches);
                    each_part(blob, whole, |part| look.take(part))?;
                    (coded.estimate, coded.sketch) = look.finish()?;
                }
                Ok(coded)
            }
        }
    }

    /// gzip to tokens and back again; why not, where it does not work. Where it does not pay, the tokens serve a
    /// difference alone.
    fn tokens(
        &self,
        blob: &CollectedBlob,
        content: impl Read,
        listener: Option<Listener>,
    ) -> Result<std::result::Result<Coded, String>> {
        let mut spool = Spool::new(self.spools)?;
        let mut trial = Trial::new(blob.size, self.sketches, listener, self.rooms);
        let tried = exact(blob, content, &mut trial, &mut spool, &|_| ())?;
        trial.leave(self.rooms);
        let (estimate, sketch) = match tried {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let coded = spool.len();
        let entry = PackedBlob { digest: blob.digest, size: blob.size, coding: TOKENS.into(), coded, delta: None };
        Ok(Ok(match (do_not_pay(estimate, blob.size), self.sketches) {
            (None, _) => {
                Coded { entry, whole: Whole::Kept(spool), shrinks: Shrinks::Yes, why: EXACT.into(), estimate, sketch }
            }
            (Some(why), Sketches::Wanted) => Coded { entry, sketch, ..raw(blob, why) },
            (Some(why), Sketches::NotWanted) => raw(blob, why),
        }))
    }
}

/// A blob as its own bytes, which nothing makes smaller.
pub fn raw(blob: &CollectedBlob, why: String) -> Coded {
    Coded {
        entry: PackedBlob::plain(blob.blob()),
        whole: Whole::Own,
        shrinks: Shrinks::No,
        why,
        estimate: blob.size,
        sketch: Sketch::default(),
    }
}

/// Whether a blob may be large enough to be worth a look for its base.
const fn may_be_large(blob: &CollectedBlob) -> bool {
    matches!(blob.kind, BlobKind::Layer | BlobKind::File | BlobKind::Package)
}

/// What a blob's own bytes are made of, where that was asked for.
fn sketch(blob: &CollectedBlob, content: impl Read, sketches: Sketches) -> Result<Sketch> {
    let mut of_bytes = Sketcher::default();
    if sketches == Sketches::Wanted {
        each_part(blob, content, |part| {
            of_bytes.update(part);
            Ok(())
        })?;
    }
    Ok(of_bytes.finish())
}

/// Hands a blob's bytes over in parts.
fn each_part(blob: &CollectedBlob, mut content: impl Read, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut part = vec![0; PART];
    loop {
        let count = read_up_to(&mut content, &mut part).map_err(|e| Error::io(format!("blob {}", blob.digest), e))?;
        if count == 0 {
            return Ok(());
        }
        take(part.get(..count).unwrap_or(&[]))?;
    }
}

/// What a blob is, and its bytes.
fn recognised(blob: &CollectedBlob) -> Result<(Kind, Box<dyn Read + Send + '_>)> {
    let mut recogniser = Recogniser::default();
    let (mut content, mut buffer, mut parts) = (blob.open()?, vec![0; PART], 0);
    loop {
        let filled =
            read_up_to(&mut content, &mut buffer).map_err(|e| Error::io(format!("blob {}", blob.digest), e))?;
        let part = buffer.get(..filled).unwrap_or(&[]);
        let found = recogniser.take(part).map(|(kind, _)| kind);
        if let Some(kind) = found.or_else(|| (filled < buffer.len()).then(|| recogniser.judge())) {
            if parts > 0 {
                // The bytes are needed from their beginning.
                return Ok((kind, blob.open()?));
            }
            buffer.truncate(filled);
            return Ok((kind, Box::new(std::io::Cursor::new(buffer).chain(content))));
        }
        parts += 1;
    }
}

fn already(name: &str) -> String {
    format!("it is {name} already")
}

/// Writes the tokens of a blob that is gzip ([`Whole::Made`]) to a pack; or says why they are not to be
/// carried, which only their end may tell. `seen` is told the blob's bytes as they go by, `listener` what
/// they hold.
pub fn tokens_into(
    blob: &CollectedBlob,
    pack: &mut dyn Write,
    seen: &dyn Fn(u64),
    listener: Option<Listener>,
    rooms: &Rooms,
) -> Result<std::result::Result<(), String>> {
    let mut trial = Trial::new(blob.size, Sketches::NotWanted, listener, rooms);
    let tried = exact(blob, blob.open()?, &mut trial, pack, seen)?;
    trial.leave(rooms);
    Ok(carry(blob, tried))
}

/// The same by two threads: one makes the tokens, one proves and writes them.
pub fn tokens_beside(
    blob: &CollectedBlob,
    pack: &mut (dyn Write + Send),
    seen: &dyn Fn(u64),
    listener: Option<Listener>,
    rooms: &Rooms,
) -> Result<std::result::Result<(), String>> {
    let mut trial = Trial::new(blob.size, Sketches::NotWanted, listener, rooms);
    let mut keep = |tokens: &[u8]| pack.write_all(tokens).map_err(|e| Error::io(CODED, e));
    let tried = trial.beside(&mut blob.open()?, &format!("blob {}", blob.digest), &mut keep, seen)?;
    trial.leave(rooms);
    Ok(carry(blob, tried))
}

/// Whether a blob is carried as the tokens that were tried.
fn carry(blob: &CollectedBlob, tried: Tried) -> std::result::Result<(), String> {
    tried.and_then(|(estimate, _)| do_not_pay(estimate, blob.size).map_or(Ok(()), Err))
}

/// Writes a blob's tokens, of which it is proved that they give it back; or says why they do not. With them
/// about what zstd leaves of them, and what they are made of.
fn exact(
    blob: &CollectedBlob,
    mut content: impl Read,
    trial: &mut Trial,
    to: &mut dyn Write,
    seen: &dyn Fn(u64),
) -> Result<Tried> {
    let mut keep = |tokens: &[u8]| to.write_all(tokens).map_err(|e| Error::io(CODED, e));
    let mut part = vec![0; PART];
    loop {
        let count = read_up_to(&mut content, &mut part).map_err(|e| Error::io(format!("blob {}", blob.digest), e))?;
        if count == 0 {
            return trial.finish(&mut keep);
        }
        if let Err(why) = trial.take(part.get(..count).unwrap_or(&[]), &mut keep)? {
            return Ok(Err(why));
        }
        seen(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// Why gzip of `size` bytes is not carried as its tokens, where it is not.
fn do_not_pay(estimate: u64, size: u64) -> Option<String> {
    let pay = estimate < size || size < ALONE;
    (!pay).then(|| format!("its tokens would be about {estimate} bytes, it is {size}"))
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
