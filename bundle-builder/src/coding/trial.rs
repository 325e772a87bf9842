//! Whether gzip comes back exactly from its tokens, tried out by decoding them as a site will; and about how
//! small they are.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use bundle_format::tokens::{Listener, TokenDecoder, TokenEncoder};

use super::{PART, Sketches, read_up_to};
use crate::base::sketch::{Sketch, Sketcher};
use crate::error::{Error, Result};

/// What is written, in errors.
pub(super) const CODED: &str = "coded stream";
/// Every fourth mebibyte of a coded stream is tried; behind the first sixteen, of one that shrinks well,
/// every sixteenth. Each stands for all up to the next.
const SAMPLE: usize = 1 << 20;
const MIB: u64 = SAMPLE as u64;
const SAMPLE_EVERY: u64 = 4;
const SAMPLE_EVERY_WELL: u64 = 16;
const SAMPLE_LEVEL: i32 = 1;

/// Whether gzip comes back exactly from its tokens, tried out as its bytes go by.
pub(super) struct Trial {
    encoder: TokenEncoder,
    check: Check,
    out: Vec<u8>,
}

/// The second half of a [`Trial`], behind the encoder.
struct Check {
    again: Again,
    look: Look,
}

/// Memory of trials that have ended, for the next ones: of a large layer it is 40 MB.
#[derive(Default)]
pub struct Rooms(Mutex<Vec<Room>>);

/// What a trial needs most of.
#[derive(Default)]
struct Room {
    encoder: TokenEncoder,
    expected: VecDeque<u8>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

/// Of which blob gzip was tried out, and how: about what zstd leaves of the tokens, and what they are made
/// of; or why they do not give it back.
pub(super) type Tried = std::result::Result<(u64, Sketch), String>;

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

    fn finish(&mut self) -> Result<Tried> {
        if let Err(why) = self.again.finish() {
            return Ok(Err(why));
        }
        Ok(Ok(self.look.finish()?))
    }
}

/// Gzip on its way to be expected, and tokens that give at least so much of it.
#[derive(Default)]
struct Part {
    gzip: Vec<u8>,
    tokens: Vec<u8>,
}

/// Takes token bytes.
pub(super) type Keep<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

impl Trial {
    /// Of a blob of so many bytes; `listener` hears what they hold.
    pub(super) fn new(size: u64, sketches: Sketches, listener: Option<Listener>, rooms: &Rooms) -> Self {
        let decoder = match listener {
            Some(listener) => TokenDecoder::with_listener(size, listener),
            None => TokenDecoder::new(size),
        };
        let room = rooms.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Room { encoder, expected, out } = room.unwrap_or_default();
        let again = Again { decoder, expected, out: Vec::new() };
        Self { encoder, check: Check { again, look: Look::new(sketches) }, out }
    }

    /// Leaves its memory to the next one.
    pub(super) fn leave(self, rooms: &Rooms) {
        let Self { mut encoder, check, mut out } = self;
        let mut expected = check.again.expected;
        encoder.restart();
        expected.clear();
        out.clear();
        rooms.0.lock().unwrap_or_else(PoisonError::into_inner).push(Room { encoder, expected, out });
    }

    /// Takes the next gzip bytes and gives their tokens to `keep`; or says why not.
    pub(super) fn take(&mut self, gzip: &[u8], keep: &mut Keep<'_>) -> Result<std::result::Result<(), String>> {
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
    pub(super) fn finish(&mut self, keep: &mut Keep<'_>) -> Result<Tried> {
        if let Err(error) = self.encoder.end(&mut self.out) {
            return Ok(Err(error.to_string()));
        }
        match self.pass(keep)? {
            Ok(()) => self.check.finish(),
            Err(why) => Ok(Err(why)),
        }
    }

    /// All of `content`, `keep` and what is proved on a thread of its own.
    pub(super) fn beside(
        &mut self,
        content: &mut dyn Read,
        what: &str,
        keep: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
        seen: &dyn Fn(u64),
    ) -> Result<Tried> {
        let Self { encoder, check, .. } = self;
        let (send, receive) = sync_channel::<Part>(1);
        // Room that was used goes round.
        let (send_back, used) = sync_channel::<Part>(2);
        std::thread::scope(|scope| {
            let checking = scope.spawn(move || {
                for mut part in receive {
                    check.again.expected.extend(&part.gzip);
                    if let Err(why) = check.take(&part.tokens, keep)? {
                        return Ok(Err(why));
                    }
                    part.gzip.clear();
                    part.tokens.clear();
                    // Who needs none any more has ended.
                    drop(send_back.try_send(part));
                }
                check.finish()
            });
            let (mut read, mut part) = (vec![0; PART], Part::default());
            let encoded = loop {
                let count = read_up_to(content, &mut read).map_err(|e| Error::io(what, e))?;
                let bytes = read.get(..count).unwrap_or(&[]);
                part.gzip.extend_from_slice(bytes);
                let pushed = match count {
                    0 => encoder.end(&mut part.tokens),
                    _ => encoder.push(bytes, &mut part.tokens),
                };
                if let Err(error) = pushed {
                    break Err(error.to_string());
                }
                if !part.tokens.is_empty() {
                    let whole = std::mem::replace(&mut part, used.try_recv().unwrap_or_default());
                    // Whoever takes no more has said why.
                    if send.send(whole).is_err() {
                        break Ok(());
                    }
                }
                if count == 0 {
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
    fn finish(&mut self) -> std::result::Result<(), String> {
        let decoder = std::mem::replace(&mut self.decoder, TokenDecoder::new(0));
        decoder.finish(&mut self.out).map_err(|error| error.to_string())?;
        if self.expected == self.out { Ok(()) } else { Err(OTHER_BYTES.into()) }
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
pub(super) struct Look {
    sketcher: Option<Sketcher>,
    /// Bytes of the mebibyte that is being tried.
    sample: Vec<u8>,
    seen: u64,
    /// The next mebibyte that is tried.
    next: u64,
    /// Of the last one that was tried: where it began, its bytes, and what was left of them.
    last: Option<(u64, u64, u64)>,
    /// What is left of all before it.
    left: u64,
}

impl Look {
    pub(super) fn new(sketches: Sketches) -> Self {
        let wanted = (sketches == Sketches::Wanted).then(Sketcher::default);
        Self { sketcher: wanted, sample: Vec::new(), seen: 0, next: 0, last: None, left: 0 }
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        if let Some(sketcher) = &mut self.sketcher {
            sketcher.update(bytes);
        }
        while !bytes.is_empty() {
            let room = usize::try_from(MIB - self.seen % MIB).unwrap_or(SAMPLE);
            let (part, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            let at = self.seen / MIB;
            if at == self.next {
                self.sample.extend_from_slice(part);
            }
            self.seen += u64::try_from(part.len()).unwrap_or(0);
            bytes = rest;
            if at == self.next && self.seen.is_multiple_of(MIB) {
                self.try_out(at)?;
                // Tokens are about a sixth more than their gzip, so that those that shrink to three quarters
                // are well below it.
                let well = at >= SAMPLE_EVERY_WELL && self.left < at * (MIB / 4 * 3);
                self.next = at + if well { SAMPLE_EVERY_WELL } else { SAMPLE_EVERY };
            }
        }
        Ok(())
    }

    /// Tries what was sampled from the mebibyte `at` on.
    fn try_out(&mut self, at: u64) -> Result<()> {
        if !self.sample.is_empty() {
            let count = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let tried = zstd::bulk::compress(&self.sample, SAMPLE_LEVEL).map_err(|e| Error::io("zstd", e))?;
            self.left = self.left_at(at * MIB);
            self.last = Some((at * MIB, count(&self.sample), count(&tried)));
            self.sample.clear();
        }
        Ok(())
    }

    /// What is left of all before the byte `at`, for which the last sample stands.
    fn left_at(&self, at: u64) -> u64 {
        let Some((from, before, after)) = self.last else { return 0 };
        let more = u128::from(at.saturating_sub(from)) * u128::from(after) / u128::from(before.max(1));
        self.left.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }

    pub(super) fn finish(&mut self) -> Result<(u64, Sketch)> {
        self.try_out(self.seen / MIB)?;
        let sketch = self.sketcher.take().map(Sketcher::finish).unwrap_or_default();
        Ok((self.left_at(self.seen), sketch))
    }
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
    fn samples_stand_for_what_lies_between_them() {
        let mut noise = vec![0; 48 * SAMPLE];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for word in noise.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        let estimate = |parts: &[&[u8]]| {
            let mut look = Look::new(Sketches::NotWanted);
            // Cut at odd places.
            parts.concat().chunks(100_003).for_each(|part| look.take(part).unwrap());
            look.finish().unwrap().0
        };
        let plain = vec![b'T'; 48 * SAMPLE];
        let near = |found: u64, most: u64| assert!(found.abs_diff(48 * MIB) <= most * MIB, "{found}");
        // What shrinks comes first and is looked at less often from then on: a change is seen one look later.
        near(estimate(&[&plain[..17 * SAMPLE], &noise]), SAMPLE_EVERY_WELL);
        near(estimate(&[&plain[..2 * SAMPLE], &noise]), SAMPLE_EVERY);
        near(estimate(&[&noise, &plain]), SAMPLE_EVERY);
        near(estimate(&[&noise]), 1);
        assert!(estimate(&[&plain]) < MIB / 10);
        assert_eq!(estimate(&[]), 0);
    }

    #[test]
    fn two_threads_say_and_write_what_one_does() {
        let content = "TEST content of a layer ".repeat(2000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(content.as_bytes()).unwrap();
        let sound = gzip.finish().unwrap();
        let (cut, none) = (&sound[..sound.len() / 2], &b"no gzip"[..]);
        let rooms = Rooms::default();
        let mut fresh = Vec::new();
        let mut encoder = TokenEncoder::new();
        encoder.push(&sound, &mut fresh).unwrap();
        encoder.finish(&mut fresh).unwrap();
        // Each in what the one before left, whatever became of it.
        for (gzip, exact) in [(&sound[..], true), (cut, false), (&sound, true), (none, false), (&sound, true)] {
            let (mut one, mut two) = (Vec::new(), Vec::new());
            let trial = || Trial::new(1 << 20, Sketches::NotWanted, None, &rooms);
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
            alone.leave(&rooms);
            let mut beside = trial();
            let by_two = beside.beside(&mut &gzip[..], "TEST", &mut keep, &|_| ()).unwrap();
            beside.leave(&rooms);
            assert_eq!(by_one.as_ref().map(|found| found.0), by_two.as_ref().map(|found| found.0));
            assert_eq!((by_one.is_ok(), &one), (exact, &two));
            assert!(!exact || one == fresh);
        }
        // What cannot be written, or read, is an error and no reason.
        let mut full = |_: &[u8]| Err(Error::io("TEST", std::io::ErrorKind::StorageFull.into()));
        let mut trial = Trial::new(1 << 20, Sketches::NotWanted, None, &rooms);
        let error = trial.beside(&mut &sound[..], "TEST", &mut full, &|_| ()).unwrap_err();
        assert!(matches!(error.kind(), crate::ErrorKind::Io { .. }), "{error}");
    }
}
