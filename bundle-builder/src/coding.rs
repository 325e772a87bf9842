//! Each blob's coding: gzip as deflate tokens where they give the same bytes again and are worth it,
//! everything else as it is. Where there are bases, what is carried as it is may still be a difference to
//! one of them: of its tokens, where these are exact, or of its own bytes.
//!
//! What may hurt it: tokens that do not give the blob back. Who defends: every token stream is decoded
//! again here, and what comes out must be, byte for byte, what went in, of which the reader proved the
//! digest; otherwise the blob is carried raw.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use bundle_format::manifest::PackedBlob;
use bundle_format::pack::TOKENS;
use bundle_format::tokens::{Listener, TokenDecoder, TokenEncoder};

use crate::base::sketch::{Sketch, Sketcher};
use crate::collect::{BlobKind, CollectedBlob};
use crate::error::{Error, Result};
use crate::recognise::{Kind, Recogniser};
use crate::sbom::Readings;
use crate::spool::Spool;

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
/// Every fourth mebibyte of a coded stream is tried.
const SAMPLE: usize = 1 << 20;
const SAMPLE_EVERY: u64 = 4;
const SAMPLE_LEVEL: i32 = 1;

/// Codes one blob; `spools` is a folder for its coded stream. A layer that `readings` wants is read, unless
/// its tokens are made later.
pub fn code(blob: &CollectedBlob, spools: &Path, sketches: Sketches, readings: &Readings) -> Result<Coded> {
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
        Kind::Gzip => match readings.beside(blob, |listener| tokens(blob, whole, spools, sketches, listener))? {
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

/// gzip to tokens and back again; why not, where it does not work. Where it does not pay, the tokens serve a
/// difference alone.
fn tokens(
    blob: &CollectedBlob,
    content: impl Read,
    spools: &Path,
    sketches: Sketches,
    listener: Option<Listener>,
) -> Result<std::result::Result<Coded, String>> {
    let mut spool = Spool::new(spools)?;
    let (estimate, sketch) = match exact(blob, content, Trial::new(blob.size, sketches, listener), &mut spool, &|_| ())?
    {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let coded = spool.len();
    let entry = PackedBlob { digest: blob.digest, size: blob.size, coding: TOKENS.into(), coded, delta: None };
    Ok(Ok(match (do_not_pay(estimate, blob.size), sketches) {
        (None, _) => {
            Coded { entry, whole: Whole::Kept(spool), shrinks: Shrinks::Yes, why: EXACT.into(), estimate, sketch }
        }
        (Some(why), Sketches::Wanted) => Coded { entry, sketch, ..raw(blob, why) },
        (Some(why), Sketches::NotWanted) => raw(blob, why),
    }))
}

/// Writes the tokens of a blob that is gzip ([`Whole::Made`]) to a pack; or says why they are not to be
/// carried, which only their end may tell. `seen` is told the blob's bytes as they go by, `listener` what
/// they hold.
pub fn tokens_into(
    blob: &CollectedBlob,
    pack: &mut dyn Write,
    seen: &dyn Fn(u64),
    listener: Option<Listener>,
) -> Result<std::result::Result<(), String>> {
    let trial = Trial::new(blob.size, Sketches::NotWanted, listener);
    Ok(carry(blob, exact(blob, blob.open()?, trial, pack, seen)?))
}

/// The same by two threads: one makes the tokens, one proves and writes them.
pub fn tokens_beside(
    blob: &CollectedBlob,
    pack: &mut (dyn Write + Send),
    seen: &dyn Fn(u64),
    listener: Option<Listener>,
) -> Result<std::result::Result<(), String>> {
    let trial = Trial::new(blob.size, Sketches::NotWanted, listener);
    let mut keep = |tokens: &[u8]| pack.write_all(tokens).map_err(|e| Error::io(CODED, e));
    Ok(carry(blob, trial.beside(&mut blob.open()?, &format!("blob {}", blob.digest), &mut keep, seen)?))
}

const CODED: &str = "coded stream";

/// Whether a blob is carried as the tokens that were tried.
fn carry(blob: &CollectedBlob, tried: Tried) -> std::result::Result<(), String> {
    tried.and_then(|(estimate, _)| do_not_pay(estimate, blob.size).map_or(Ok(()), Err))
}

/// Writes a blob's tokens, of which it is proved that they give it back; or says why they do not. With them
/// about what zstd leaves of them, and what they are made of.
fn exact(
    blob: &CollectedBlob,
    mut content: impl Read,
    mut trial: Trial,
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

/// Whether gzip comes back exactly from its tokens, tried out as its bytes go by.
struct Trial {
    encoder: TokenEncoder,
    check: Check,
    out: Vec<u8>,
}

/// The second half of a [`Trial`], behind the encoder.
struct Check {
    again: Again,
    look: Look,
}

/// Of which blob gzip was tried out, and how: about what zstd leaves of the tokens, and what they are made
/// of; or why they do not give it back.
type Tried = std::result::Result<(u64, Sketch), String>;

impl Check {
    /// Takes tokens whose gzip was expected, and gives them to `keep`; or says why not.
    fn take(&mut self, tokens: &[u8], keep: &mut Keep<'_>) -> Result<std::result::Result<(), String>> {
        if let Err(why) = self.again.take(tokens) {
            return Ok(Err(why));
        }
        self.look.take(tokens)?;
        keep(tokens)?;
        Ok(Ok(()))
    }

    fn finish(self) -> Result<Tried> {
        if let Err(why) = self.again.finish() {
            return Ok(Err(why));
        }
        Ok(Ok(self.look.finish()?))
    }
}

/// Takes token bytes.
type Keep<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

impl Trial {
    /// Of a blob of so many bytes; `listener` hears what they hold.
    fn new(size: u64, sketches: Sketches, listener: Option<Listener>) -> Self {
        let decoder = match listener {
            Some(listener) => TokenDecoder::with_listener(size, listener),
            None => TokenDecoder::new(size),
        };
        let again = Again { decoder, expected: VecDeque::new(), out: Vec::new() };
        Self { encoder: TokenEncoder::new(), check: Check { again, look: Look::new(sketches) }, out: Vec::new() }
    }

    /// Takes the next gzip bytes and gives their tokens to `keep`; or says why not.
    fn take(&mut self, gzip: &[u8], keep: &mut Keep<'_>) -> Result<std::result::Result<(), String>> {
        self.check.again.expected.extend(gzip);
        if let Err(error) = self.encoder.push(gzip, &mut self.out) {
            return Ok(Err(error.to_string()));
        }
        self.pass(keep)
    }

    fn pass(&mut self, keep: &mut Keep<'_>) -> Result<std::result::Result<(), String>> {
        let passed = self.check.take(&self.out, keep)?;
        self.out.clear();
        Ok(passed)
    }

    /// About what the tokens will be, and what they are made of; or why not.
    fn finish(mut self, keep: &mut Keep<'_>) -> Result<Tried> {
        let encoder = std::mem::take(&mut self.encoder);
        if let Err(error) = encoder.finish(&mut self.out) {
            return Ok(Err(error.to_string()));
        }
        match self.pass(keep)? {
            Ok(()) => self.check.finish(),
            Err(why) => Ok(Err(why)),
        }
    }

    /// All of `content`, `keep` and what is proved on a thread of its own.
    fn beside(
        self,
        content: &mut dyn Read,
        what: &str,
        keep: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
        seen: &dyn Fn(u64),
    ) -> Result<Tried> {
        let Self { mut encoder, mut check, .. } = self;
        let (send, receive) = sync_channel::<(Vec<u8>, Vec<u8>)>(1);
        std::thread::scope(|scope| {
            let checking = scope.spawn(move || {
                for (gzip, tokens) in receive {
                    check.again.expected.extend(gzip);
                    if let Err(why) = check.take(&tokens, keep)? {
                        return Ok(Err(why));
                    }
                }
                check.finish()
            });
            let (mut part, mut gzip, mut tokens) = (vec![0; PART], Vec::new(), Vec::new());
            let encoded = loop {
                let count = read_up_to(content, &mut part).map_err(|e| Error::io(what, e))?;
                let bytes = part.get(..count).unwrap_or(&[]);
                gzip.extend_from_slice(bytes);
                let pushed = match count {
                    0 => std::mem::take(&mut encoder).finish(&mut tokens),
                    _ => encoder.push(bytes, &mut tokens),
                };
                if let Err(error) = pushed {
                    break Err(error.to_string());
                }
                // Whoever takes no more has said why.
                let whole = !tokens.is_empty();
                if whole && send.send((std::mem::take(&mut gzip), std::mem::take(&mut tokens))).is_err() || count == 0 {
                    break Ok(());
                }
                seen(u64::try_from(count).unwrap_or(u64::MAX));
            };
            drop(send);
            let checked = checking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(match encoded {
                Ok(()) => checked,
                Err(why) => Err(why),
            })
        })
    }
}

/// Why a blob is carried as its own bytes, found out from these as a build finds it out.
pub(crate) struct WhyRaw {
    size: u64,
    recogniser: Recogniser,
    found: Found,
}

enum Found {
    Nothing,
    Trial(Box<Trial>),
    Why(String),
}

impl WhyRaw {
    /// Of a blob of so many bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self { size, recogniser: Recogniser::default(), found: Found::Nothing }
    }

    /// Takes the blob's next bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.found {
            Found::Why(_) => Ok(()),
            Found::Trial(trial) => {
                if let Err(why) = trial.take(bytes, &mut |_| Ok(()))? {
                    self.found = Found::Why(why);
                }
                Ok(())
            }
            Found::Nothing => {
                let Some((kind, rest)) = self.recogniser.take(bytes) else { return Ok(()) };
                self.begin(kind)?;
                self.take(rest)
            }
        }
    }

    fn begin(&mut self, kind: Kind) -> Result<()> {
        self.found = match kind {
            Kind::Compressed(name) => Found::Why(already(name)),
            Kind::Other => Found::Why("it is carried as it is, though nothing had compressed it".into()),
            Kind::Gzip => Found::Trial(Box::new(Trial::new(self.size, Sketches::NotWanted, None))),
        };
        let head = self.recogniser.head().to_vec();
        if kind == Kind::Gzip { self.take(&head) } else { Ok(()) }
    }

    /// Says it.
    pub(crate) fn finish(mut self) -> Result<String> {
        if matches!(self.found, Found::Nothing) {
            self.begin(self.recogniser.judge())?;
        }
        Ok(match self.found {
            Found::Why(why) => why,
            Found::Trial(trial) => match trial.finish(&mut |_| Ok(()))? {
                Err(why) => why,
                Ok((estimate, _)) => do_not_pay(estimate, self.size).unwrap_or_else(|| {
                    format!("it is carried as it is, though its tokens would be about {estimate} bytes")
                }),
            },
            Found::Nothing => String::new(),
        })
    }
}

/// Decodes tokens as a site will, and compares what comes out with what went in.
struct Again {
    decoder: TokenDecoder,
    /// What went in and has not come out yet.
    expected: VecDeque<u8>,
    out: Vec<u8>,
}

const OTHER_BYTES: &str = "its tokens do not give the same bytes again";

impl Again {
    fn take(&mut self, tokens: &[u8]) -> std::result::Result<(), String> {
        let (expected, mut same) = (&mut self.expected, true);
        let found = self.decoder.push_by_parts(tokens, &mut self.out, &mut |bytes| {
            same = same && begins_with(expected, bytes);
            bytes.clear();
        });
        found.map_err(|error| error.to_string())?;
        same = same && begins_with(expected, &self.out);
        self.out.clear();
        if same { Ok(()) } else { Err(OTHER_BYTES.into()) }
    }

    /// Whether all came out.
    fn finish(self) -> std::result::Result<(), String> {
        let Self { decoder, expected, mut out } = self;
        decoder.finish(&mut out).map_err(|error| error.to_string())?;
        if expected == out { Ok(()) } else { Err(OTHER_BYTES.into()) }
    }
}

/// Whether the first of the `expected` bytes are these; they are taken away.
fn begins_with(expected: &mut VecDeque<u8>, bytes: &[u8]) -> bool {
    let (front, back) = expected.as_slices();
    let (first, second) = bytes.split_at(front.len().min(bytes.len()));
    let same = front.starts_with(first) && back.starts_with(second);
    expected.drain(..bytes.len().min(expected.len()));
    same
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn tokens_that_give_other_bytes_are_found() {
        let gzip = |content: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(content).unwrap();
            gzip.finish().unwrap()
        };
        let content = "TEST content of a layer ".repeat(2000);
        let sound = gzip(content.as_bytes());
        let mut tokens = Vec::new();
        let mut encoder = TokenEncoder::new();
        encoder.push(&sound, &mut tokens).unwrap();
        encoder.finish(&mut tokens).unwrap();
        let again = |expected: &[u8], tokens: &[u8]| {
            let (decoder, out) = (TokenDecoder::new(1 << 20), Vec::new());
            let mut again = Again { decoder, expected: expected.iter().copied().collect(), out };
            again.take(tokens)?;
            again.finish()
        };
        again(&sound, &tokens).unwrap();
        let mut other = sound.clone();
        *other.last_mut().unwrap() ^= 1;
        let (first, more) = (&sound[..sound.len() - 1], [&sound[..], b"x"].concat());
        for expected in [&other[..], first, &more, &[]] {
            assert_eq!(again(expected, &tokens).unwrap_err(), OTHER_BYTES);
        }
        let cut = again(&sound, &tokens[..tokens.len() - 1]).unwrap_err();
        assert!(cut.contains("cut short"), "{cut}");
    }

    #[test]
    fn two_threads_say_and_write_what_one_does() {
        let content = "TEST content of a layer ".repeat(2000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(content.as_bytes()).unwrap();
        let sound = gzip.finish().unwrap();
        let (cut, none) = (&sound[..sound.len() / 2], &b"no gzip"[..]);
        for (gzip, exact) in [(&sound[..], true), (cut, false), (none, false)] {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            let trial = || Trial::new(1 << 20, Sketches::NotWanted, None);
            let mut keep = |tokens: &[u8]| {
                one.extend_from_slice(tokens);
                Ok(())
            };
            let mut alone = trial();
            let by_one = match alone.take(gzip, &mut keep).unwrap() {
                Ok(()) => alone.finish(&mut keep).unwrap(),
                Err(why) => Err(why),
            };
            let mut keep = |tokens: &[u8]| {
                two.extend_from_slice(tokens);
                Ok(())
            };
            let by_two = trial().beside(&mut &gzip[..], "TEST", &mut keep, &|_| ()).unwrap();
            assert_eq!(by_one.as_ref().map(|found| found.0), by_two.as_ref().map(|found| found.0));
            assert_eq!((by_one.is_ok(), one), (exact, two));
        }
        // What cannot be written, or read, is an error and no reason.
        let mut full = |_: &[u8]| Err(Error::io("TEST", std::io::ErrorKind::StorageFull.into()));
        let trial = Trial::new(1 << 20, Sketches::NotWanted, None);
        let error = trial.beside(&mut &sound[..], "TEST", &mut full, &|_| ()).unwrap_err();
        assert!(matches!(error.kind(), crate::ErrorKind::Io { .. }), "{error}");
    }
}
