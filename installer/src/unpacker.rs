//! The unpacker: this program once more, as a process that takes a bundle's packs apart for one that may do
//! more (`docs/adr/0019-confinement.md`).
//!
//! Threat: stored bytes made to break a decoder, while the process that decodes is the one that installs: root,
//! with the record, the engine and every key within reach. Defence: whoever installs, plans or receives reads the
//! head of a bundle and proves it, and parses nothing behind it. A child of this same program gets the path, the
//! SHA-384 of the proved manifest and the base that was found; it confines itself, proves the frames, decodes,
//! proves the blobs, and gives them through its pipe. The parent takes them only in the order of the manifest that
//! it proved itself, counts and hashes each once more, and keeps what is right: a child that was taken over can
//! refuse, but bring in no byte that the manifest does not name. What it does not hand over rests on its word: frames
//! of packs that are not for this site, delta frames where no base is asked for, padding, the end of the archive.
//! `install` has all of it proved again, and uses none of those bytes.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::sync::OnceLock;

use bundle_format::digest::{Sha256, Sha256Hasher, Sha384};
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::Blob;
use bundle_format::pack::{BlobSink, Held, Want, unpack as unpack_packs};
use confinement::{confine, open_regular};
use nix::fcntl::{FcntlArg, fcntl};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::progress::warn;
use crate::reader::{self, FLAG, Failure, Told, lost};
use crate::store::Store;
use crate::{command, proof};

/// Set in a process that is the installer itself.
static PROGRAM: OnceLock<()> = OnceLock::new();

/// This process is the installer, which takes [`COMMAND`]: from now on it does not decode bundles itself. Any
/// other program that is linked with these modules (a test) has no such process to start.
pub fn enable() {
    PROGRAM.get_or_init(|| ());
}

pub(crate) fn is_enabled() -> bool {
    PROGRAM.get().is_some()
}

/// Name of the command that this program gives itself.
pub const COMMAND: &str = "unpack";
/// Bytes of one line: an error may name every blob of a base.
const LINE: u64 = 16 << 20;
/// Bytes that go through the pipe at once.
const PART: usize = 256 << 10;
/// What a pipe is asked to hold, so that both ends work at the same time.
const PIPE: i32 = 1 << 20;

/// One line through the pipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Message {
    /// Layers of the confinement that this kernel lacks.
    Lacks { what: Vec<String> },
    /// A blob begins.
    Blob { digest: Sha256, size: u64 },
    /// So many bytes of it follow behind this line.
    Data { bytes: u64 },
    /// It was whole, and proved.
    Ended {},
    /// So many stored bytes were proved since it last said so.
    Passed { bytes: u64 },
    /// It ends here.
    Failed(Failure),
}

/// What is to be unpacked.
#[derive(Debug)]
pub struct Order<'a> {
    /// The bundle.
    pub bundle: &'a Path,
    /// Its proved manifest.
    pub manifest: Sha384,
    /// Stored bytes of all its packs.
    pub stored: u64,
    /// Every blob that must come, in this order.
    pub blobs: Vec<Blob>,
    /// The base that it builds on: its place in the manifest's list, and the store that holds it.
    pub base: Option<(usize, &'a Path)>,
}

impl Order<'_> {
    fn args(&self) -> Result<Vec<OsString>> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Error::io(path.display().to_string(), e));
        let mut args =
            vec![format!("--{FLAG}").into(), COMMAND.into(), "--manifest".into(), self.manifest.to_string().into()];
        if let Some((set, store)) = self.base {
            args.extend(["--base-set".into(), set.to_string().into(), "--store".into()]);
            args.push(absolute(store)?.into());
        }
        args.extend(["--".into(), absolute(self.bundle)?.into()]);
        Ok(args)
    }
}

/// Has a confined process unpack a bundle, and hands the blobs to `sink`. `progress` is told stored bytes.
pub fn unpack(order: Order<'_>, sink: &mut dyn BlobSink, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let (mut child, pipe) = command::this_program(order.args()?.into_iter())?;
    // A smaller pipe only makes both wait for each other more often.
    let _ = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE));
    let mut taker = Taker { expected: order.blobs.into_iter(), current: None, left: order.stored, sink, progress };
    let heard = taker.hear(BufReader::with_capacity(PART, pipe));
    if heard.is_err() {
        // It may have ended in this moment; either way it is waited for.
        drop(child.kill());
    }
    let status = child.wait().map_err(|e| Error::io("the confined unpacker", e))?;
    reader::verdict(status, heard?)?;
    taker.finish()
}

/// Takes in what an unpacker gives.
struct Taker<'a> {
    expected: std::vec::IntoIter<Blob>,
    current: Option<Taking>,
    /// Stored bytes that are still to be told of.
    left: u64,
    sink: &'a mut dyn BlobSink,
    progress: &'a mut dyn FnMut(u64),
}

struct Taking {
    blob: Blob,
    left: u64,
    hasher: Sha256Hasher,
    want: Want,
}

impl Taker<'_> {
    /// All of it; how it says that it failed, if it does.
    fn hear(&mut self, mut pipe: impl std::io::BufRead) -> Result<Option<(u8, Told)>> {
        let io = |e| Error::io("the confined unpacker", e);
        let (mut line, mut buffer) = (Vec::new(), vec![0; PART]);
        loop {
            line.clear();
            (&mut pipe).take(LINE).read_until(b'\n', &mut line).map_err(io)?;
            if line.is_empty() {
                return Ok(None);
            }
            let message = serde_json::from_slice(&line).map_err(|_| lost("what it said is no message".into()))?;
            match message {
                Message::Lacks { what } => {
                    let what = bundle_format::text::escaped(&what.join(", "));
                    warn(&format!("what decodes the bundle is not confined as it should be: this kernel lacks {what}"));
                }
                Message::Blob { digest, size } => self.begin(Blob { digest, size })?,
                Message::Data { bytes } => self.data(bytes, &mut pipe, &mut buffer)?,
                Message::Ended {} => self.end()?,
                Message::Passed { bytes } => {
                    let left = self.left.checked_sub(bytes);
                    self.left = left.ok_or_else(|| lost("it passed more bytes than there are".into()))?;
                    (self.progress)(bytes);
                }
                // Whatever it might still say is not heard.
                Message::Failed(failure) => return failure.told().map(Some),
            }
        }
    }

    fn begin(&mut self, blob: Blob) -> Result<()> {
        if self.current.is_some() || self.expected.next() != Some(blob) {
            return Err(lost(format!("it gave blob {} of {} bytes where another one comes", blob.digest, blob.size)));
        }
        let want = self.sink.begin(&blob)?;
        self.current = Some(Taking { blob, left: blob.size, hasher: Sha256Hasher::default(), want });
        Ok(())
    }

    fn data(&mut self, bytes: u64, pipe: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
        let more = || lost(format!("it gave {bytes} bytes where none or fewer come"));
        let taking = self.current.as_mut().filter(|taking| (1..=taking.left).contains(&bytes)).ok_or_else(more)?;
        taking.left -= bytes;
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        while left > 0 {
            let room = left.min(buffer.len());
            let part = buffer.get_mut(..room).unwrap_or_default();
            pipe.read_exact(part).map_err(|_| lost("it ended in the middle of a blob".into()))?;
            taking.hasher.update(part);
            if taking.want == Want::Keep {
                self.sink.write(part)?;
            }
            left -= room;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(Taking { blob, left: 0, hasher, want }) = self.current.take() else {
            return Err(lost("it ended a blob that was not whole".into()));
        };
        let found = hasher.finish();
        if found != blob.digest {
            return Err(lost(format!("what it gave as blob {} has sha256 {found}", blob.digest)));
        }
        match want {
            Want::Keep => Ok(self.sink.end()?),
            Want::Skip => Ok(()),
        }
    }

    /// After a good end: nothing may be missing.
    fn finish(mut self) -> Result<()> {
        let missing = self.current.map(|taking| taking.blob).or_else(|| self.expected.next());
        match missing {
            Some(blob) => Err(lost(format!("it left out blob {}", blob.digest))),
            // What it does not hand over it must at least say that it proved.
            None if self.left > 0 => Err(lost(format!("it left out {} stored bytes", self.left))),
            None => Ok(()),
        }
    }
}

/// In the unpacker: confines this process and unpacks for its parent.
pub fn serve(bundle: &Path, manifest: &Sha384, base: Option<(usize, &Path)>) -> Result<()> {
    let store = base.map_or(Path::new(""), |(_, store)| store);
    let confined = confine(&[bundle, store]);
    if !confined.lacks().is_empty() {
        tell(&Message::Lacks { what: confined.lacks().to_vec() })?;
    }
    let file = open_regular(bundle).map_err(|e| Error::io(bundle.display().to_string(), e))?;
    let (envelope, mut packs) = UnverifiedEnvelope::read(file)?;
    let manifest = envelope.pinned(manifest)?;
    let store = Store::peek(store);
    let held = base.map_or(Held::Nothing, |(set, _)| Held::Set { set, blobs: &store });
    let passed = Cell::new(0);
    let mut sink = PipeSink { passed: &passed };
    let mut progress = |bytes: u64| passed.set(passed.get().saturating_add(bytes));
    unpack_packs(&mut packs, &manifest, held, &mut sink, proof::hashers(), &mut progress)?;
    Ok(sink.tell_passed()?)
}

/// Gives blobs to the parent.
struct PipeSink<'a> {
    /// Stored bytes that it has not been told of.
    passed: &'a Cell<u64>,
}

impl PipeSink<'_> {
    fn tell_passed(&self) -> bundle_format::Result<()> {
        match self.passed.take() {
            0 => Ok(()),
            bytes => give(&Message::Passed { bytes }, &[]),
        }
    }
}

impl BlobSink for PipeSink<'_> {
    fn begin(&mut self, blob: &Blob) -> bundle_format::Result<Want> {
        self.tell_passed()?;
        give(&Message::Blob { digest: blob.digest, size: blob.size }, &[])?;
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> bundle_format::Result<()> {
        self.tell_passed()?;
        give(&Message::Data { bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX) }, bytes)
    }

    fn end(&mut self) -> bundle_format::Result<()> {
        give(&Message::Ended {}, &[])
    }
}

fn give(message: &Message, bytes: &[u8]) -> bundle_format::Result<()> {
    let gone = |error: Error| bundle_format::Error::io("the pipe of the unpacker", std::io::Error::other(error));
    tell(message).and_then(|()| reader::write_all(bytes)).map_err(gone)
}

fn tell(message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message).map_err(|e| Error::io("the report of the unpacker", e.into()))?;
    line.push(b'\n');
    reader::write_all(&line)
}

#[cfg(test)]
mod tests {
    use bundle_format::pack::NoSink;

    use super::*;
    use crate::error::ErrorKind;

    fn blob(bytes: &[u8]) -> Blob {
        Blob { digest: Sha256::of(bytes), size: u64::try_from(bytes.len()).unwrap() }
    }

    /// What a parent that expects `TEST one`, then nothing, makes of these words.
    fn judge(said: &[u8]) -> Result<Option<(u8, Told)>> {
        let (mut sink, mut progress) = (NoSink, |_| ());
        let expected = vec![blob(b"TEST one"), blob(b"")].into_iter();
        let mut taker = Taker { expected, current: None, left: 9, sink: &mut sink, progress: &mut progress };
        let heard = taker.hear(said)?;
        taker.finish().map(|()| heard)
    }

    fn head(bytes: &[u8]) -> String {
        let Blob { digest, size } = blob(bytes);
        format!("{{\"blob\":{{\"digest\":\"{digest}\",\"size\":{size}}}}}\n")
    }

    #[test]
    fn only_what_the_manifest_names_is_taken() {
        let (one, none) = (head(b"TEST one"), head(b""));
        let data = |text: &str| format!("{{\"data\":{{\"bytes\":{}}}}}\n{text}", text.len());
        let (ended, passed) = ("{\"ended\":{}}\n", "{\"passed\":{\"bytes\":9}}\n");
        let (first, second) = (data("TEST "), data("one"));
        let good = format!("{one}{first}{second}{ended}{none}{ended}{passed}");
        assert!(judge(good.as_bytes()).unwrap().is_none());
        for (said, how) in [
            (String::new(), "it left out blob"),
            (format!("{one}{first}{second}{ended}"), "it left out blob"),
            (format!("{one}{first}"), "it left out blob"),
            (format!("{one}{first}{second}{ended}{none}{ended}"), "it left out 9 stored bytes"),
            (
                format!("{one}{first}{second}{ended}{none}{ended}{}", passed.replace('9', "8")),
                "it left out 1 stored bytes",
            ),
            (none.clone(), "where another one comes"),
            (format!("{one}{none}"), "where another one comes"),
            (format!("{good}{one}"), "where another one comes"),
            (head(b"TEST two"), "where another one comes"),
            (first.clone(), "where none or fewer come"),
            (format!("{one}{}", data("")), "where none or fewer come"),
            (format!("{one}{}", data("TEST one and more")), "where none or fewer come"),
            (format!("{one}{}{ended}", data("TEST two")), "has sha256"),
            (format!("{one}{first}{ended}"), "not whole"),
            (ended.to_owned(), "not whole"),
            (format!("{one}{{\"data\":{{\"bytes\":8}}}}\nTEST"), "in the middle of a blob"),
            (format!("{good}{passed}"), "more bytes than there are"),
            ("hello\n".into(), "no message"),
            ("{\"ended\":{\"more\":1}}\n".into(), "no message"),
            ("{\"failed\":{\"exit_code\":9,\"message\":\"\",\"causes\":[],\"advice\":\"\"}}\n".into(), "exit code 9"),
        ] {
            match judge(said.as_bytes()).unwrap_err().into_kind() {
                ErrorKind::ReaderLost { how: found } => assert!(found.contains(how), "{said}: {found}"),
                other => panic!("{said}: {other}"),
            }
        }
    }

    #[test]
    fn what_it_says_of_its_end_is_heard() {
        let said = "{\"failed\":{\"exit_code\":3,\"message\":\"m\",\"causes\":[],\"advice\":\"a\"}}\n";
        let (mut sink, mut progress) = (NoSink, |_| ());
        let mut taker = Taker {
            expected: Vec::new().into_iter(),
            current: None,
            left: 0,
            sink: &mut sink,
            progress: &mut progress,
        };
        let (code, told) = taker.hear(said.as_bytes()).unwrap().unwrap();
        assert_eq!((code, told.to_string().as_str(), told.advice()), (3, "m", "a"));
    }
}
