//! The reader: this program once more, as a process that reads what nobody has proved and can do
//! nothing but that (`docs/adr/0019-confinement.md`).
//!
//! Threat: a bundle made to break whoever parses it. Defence: `verify`, `inspect` and `custody verify`
//! start a child of this same program. It reads the site's record, closes it, confines itself
//! ([`confinement::confine`]), and only then opens the bundle. What it finds it prints itself; how it
//! ended it says in a few bounded lines through a pipe, on the descriptor 0 that it has no other use
//! for. The parent never sees a byte of the bundle: it keeps the audit log, writes the one file that
//! `inspect --out` asks for, and gives the exit code. A child that ends without a verdict, or by a
//! signal, is a refusal of its own ([`ErrorKind::ReaderLost`]). Its ways of ending serve the unpacker
//! ([`crate::unpacker`]) as well.

use std::ffi::OsString;
use std::io::{BufRead as _, Read};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use bundle_format::digest::Sha384;
use bundle_format::text::escaped;
use bundle_format::{Class, limits};
use serde::{Deserialize, Serialize};

use crate::command;
use crate::error::{Error, ErrorKind, Result};

/// The flag that makes this program the reader; nobody but this program may give it.
pub const FLAG: &str = "in-reader";
/// Bytes of all that a reader says, a document not counted: an error may name every blob of a base.
const SAID: u64 = 16 << 20;
/// Bytes of one text in it.
const TEXT: usize = 4 << 20;

/// One line from the reader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Message {
    /// The marking is on the screen.
    Banner { line: String },
    /// The head is proved.
    Seen { product: String, release: String, manifest_sha384: Sha384 },
    /// It ends here.
    Failed(Failure),
    /// So many bytes follow behind this line.
    Document { bytes: u64 },
}

/// How it ended, as it goes through the pipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    exit_code: u8,
    message: String,
    causes: Vec<String>,
    advice: String,
}

impl Failure {
    fn of(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes.push(cut(&cause.to_string()));
            source = cause.source();
        }
        let (exit_code, message) = (error.class().exit_code(), cut(&error.to_string()));
        Self { exit_code, message, causes, advice: cut(error.advice()) }
    }

    /// What it said, with the exit code that it has to end with.
    pub(crate) fn told(self) -> Result<(u8, Told)> {
        let Self { exit_code, message, causes, advice } = self;
        let class = class_of(exit_code).ok_or_else(|| lost(format!("it gave the exit code {exit_code}")))?;
        Ok((exit_code, Told::new(class, &message, &causes, &advice)))
    }
}

/// The refusal of a process that does not do what it is there for.
pub(crate) fn lost(how: String) -> Error {
    ErrorKind::ReaderLost { how }.into()
}

/// An error in a reader's words.
#[derive(Debug)]
pub struct Told {
    message: String,
    cause: Option<Box<Told>>,
    class: Class,
    advice: String,
}

impl Told {
    /// Its class.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// What to do.
    pub fn advice(&self) -> &str {
        &self.advice
    }

    fn new(class: Class, message: &str, causes: &[String], advice: &str) -> Self {
        let cause = causes.split_first().map(|(first, rest)| Box::new(Self::new(class, first, rest, advice)));
        Self { message: printable(message), cause, class, advice: printable(advice) }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Told {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// What a reader left behind.
#[derive(Debug, Default)]
pub struct Reading {
    /// The marking that it put on the screen.
    pub banner: Option<String>,
    /// Product, release and manifest of the bundle, once its head was proved.
    pub seen: Option<(String, String, Sha384)>,
    /// The document that it was asked for.
    pub document: Option<Vec<u8>>,
    failed: Option<(u8, Told)>,
}

/// Starts the reader with this process's own arguments and waits for its end; what it left, and its
/// verdict.
pub fn run() -> Result<(Reading, Result<()>)> {
    let flag = OsString::from(format!("--{FLAG}"));
    let (mut child, pipe) = command::this_program(std::iter::once(flag).chain(std::env::args_os().skip(1)))?;
    let heard = hear(pipe);
    if heard.is_err() {
        // It may have ended in this moment; either way it is waited for.
        drop(child.kill());
    }
    let status = child.wait().map_err(|e| Error::io("the confined reader", e))?;
    let mut reading = heard?;
    let verdict = verdict(status, reading.failed.take());
    Ok((reading, verdict))
}

/// Takes in all that a reader says, within its bounds.
fn hear(pipe: impl Read) -> Result<Reading> {
    let mut said = std::io::BufReader::new(pipe).take(SAID);
    let mut reading = Reading::default();
    loop {
        let mut line = Vec::new();
        said.read_until(b'\n', &mut line).map_err(|e| Error::io("the confined reader", e))?;
        if line.is_empty() && said.limit() > 0 {
            return Ok(reading);
        }
        let message = serde_json::from_slice(&line).map_err(|_| lost("what it said is no message".into()))?;
        match message {
            Message::Banner { line } => reading.banner = Some(printable(&line)),
            Message::Seen { product, release, manifest_sha384 } => {
                reading.seen = Some((printable(&product), printable(&release), manifest_sha384));
            }
            Message::Failed(failure) => reading.failed = Some(failure.told()?),
            Message::Document { bytes } => {
                if bytes > limits::SBOM_BYTES {
                    return Err(lost(format!("it gave a document of {bytes} bytes")));
                }
                said.set_limit(said.limit().saturating_add(bytes));
                let mut document = Vec::new();
                (&mut said).take(bytes).read_to_end(&mut document).map_err(|e| Error::io("the confined reader", e))?;
                if u64::try_from(document.len()).unwrap_or(u64::MAX) != bytes {
                    return Err(lost("its document ends early".into()));
                }
                reading.document = Some(document);
            }
        }
    }
}

/// What came of it: what it said must fit how it ended.
pub(crate) fn verdict(status: ExitStatus, failed: Option<(u8, Told)>) -> Result<()> {
    let how = match (status.code(), status.signal(), failed) {
        (Some(0), _, None) => return Ok(()),
        (Some(code), _, Some((said, told))) if code == i32::from(said) && code != 0 => {
            return Err(ErrorKind::Reader(told).into());
        }
        (Some(code), _, _) => format!("exit code {code}"),
        (None, Some(SIGSYS), _) => "it was killed for a system call that no reader needs".into(),
        (None, Some(SIGABRT), _) => "it ended itself (signal 6): out of the memory that it may have, or a bug".into(),
        (None, signal, _) => format!("signal {}", signal.unwrap_or(0)),
    };
    Err(ErrorKind::ReaderLost { how }.into())
}

const SIGSYS: i32 = nix::libc::SIGSYS;
const SIGABRT: i32 = nix::libc::SIGABRT;

fn class_of(code: u8) -> Option<Class> {
    const ALL: [Class; 8] = [
        Class::Usage,
        Class::Damaged,
        Class::Untrusted,
        Class::Policy,
        Class::Unfit,
        Class::RolledBack,
        Class::Operator,
        Class::Bug,
    ];
    ALL.into_iter().find(|class| class.exit_code() == code)
}

/// The text with whatever moves a cursor escaped; what is escaped already stays as it is.
fn printable(text: &str) -> String {
    text.split('\\').map(escaped).collect::<Vec<_>>().join("\\")
}

/// In the reader: refuses to be one for anybody but this very program, so that a refusal cannot be kept
/// off the record by asking the reader directly. Ends with its parent.
pub fn check_starter() -> Result<()> {
    let usage = || ErrorKind::Usage { why: format!("--{FLAG} is for this program's own use") };
    let id = |path: String| std::fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
    let (own, parent) = (id("/proc/self/exe".into()), id(format!("/proc/{}/exe", nix::unistd::getppid())));
    if !matches!((own, parent), (Ok(own), Ok(parent)) if own == parent) {
        return Err(usage().into());
    }
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(|e| Error::io("prctl", e.into()))
}

/// In the reader: the marking is on the screen.
pub fn tell_banner(line: &str) -> Result<()> {
    tell(&Message::Banner { line: line.to_owned() })
}

/// In the reader: the head is proved.
pub fn tell_seen(product: &str, release: &str, manifest_sha384: Sha384) -> Result<()> {
    tell(&Message::Seen { product: product.to_owned(), release: release.to_owned(), manifest_sha384 })
}

/// In the reader: hands a document over.
pub fn tell_document(bytes: &[u8]) -> Result<()> {
    tell(&Message::Document { bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX) })?;
    write_all(bytes)
}

/// In the reader: says why it refuses, and ends. A parent that is gone hears nothing and needs nothing.
pub fn fail(error: &Error) -> ! {
    drop(tell(&Message::Failed(Failure::of(error))));
    std::process::exit(i32::from(error.class().exit_code()))
}

fn cut(text: &str) -> String {
    let fits = |place: &usize| *place <= TEXT;
    let end = text.char_indices().map(|(place, c)| place + c.len_utf8()).take_while(fits).last().unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

fn tell(message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message).map_err(|e| Error::io("the report of the reader", e.into()))?;
    line.push(b'\n');
    write_all(&line)
}

/// Descriptor 0 is the pipe to the parent.
pub(crate) fn write_all(mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(std::io::stdin(), bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("the pipe of the reader", errno.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost_how(said: &[u8]) -> String {
        match hear(said).unwrap_err().into_kind() {
            ErrorKind::ReaderLost { how } => how,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_a_reader_says_is_taken_in_and_bounded() {
        let digest = Sha384::of(b"x");
        let said = format!(
            "{{\"banner\":{{\"line\":\"SECRET\"}}}}\n{{\"seen\":{{\"product\":\"p\\u001b\",\"release\":\"1\",\"manifest_sha384\":\"{digest}\"}}}}\n\
             {{\"document\":{{\"bytes\":3}}}}\nabc{{\"failed\":{{\"exit_code\":4,\"message\":\"no \\\\u{{1b}}\",\"causes\":[\"a\",\"b\"],\"advice\":\"ask\"}}}}\n"
        );
        let mut reading = hear(said.as_bytes()).unwrap();
        assert_eq!(reading.banner.as_deref(), Some("SECRET"));
        assert_eq!(reading.seen, Some(("p\\u{1b}".into(), "1".into(), digest)));
        assert_eq!(reading.document.as_deref(), Some(&b"abc"[..]));
        let (code, told) = reading.failed.take().unwrap();
        assert_eq!((code, told.to_string().as_str(), told.advice()), (4, "no \\u{1b}", "ask"), "escaped once only");
        let error = verdict(ExitStatus::from_raw(4 << 8), Some((code, told))).unwrap_err();
        assert_eq!((error.class(), error.advice()), (Class::Untrusted, "ask"));
        let causes = [std::error::Error::source(&error).unwrap().to_string(), "b".into()];
        assert_eq!(causes, ["a", "b"]);

        for (said, how) in [
            (&b"hello\n"[..], "no message"),
            (b"{\"banner\":{\"line\":\"x\"}", "no message"),
            (b"{\"banner\":{\"line\":\"x\",\"more\":1}}\n", "no message"),
            (b"{\"document\":{\"bytes\":9}}\nabc", "ends early"),
            (b"{\"document\":{\"bytes\":99999999999}}\n", "99999999999 bytes"),
            (b"{\"failed\":{\"exit_code\":9,\"message\":\"\",\"causes\":[],\"advice\":\"\"}}\n", "exit code 9"),
        ] {
            assert!(lost_how(said).contains(how), "{how}");
        }
        let endless = std::io::repeat(b'x');
        assert!(matches!(hear(endless).unwrap_err().kind(), ErrorKind::ReaderLost { .. }));
        let lines = std::io::Cursor::new(b"{\"banner\":{\"line\":\"x\"}}\n".repeat(800_000));
        assert!(matches!(hear(lines).unwrap_err().kind(), ErrorKind::ReaderLost { .. }), "many small ones as well");
    }

    #[test]
    fn the_verdict_must_fit_the_end() {
        let told = || Some((3, Told::new(Class::Damaged, "m", &[], "a")));
        verdict(ExitStatus::from_raw(0), None).unwrap();
        for (raw, failed, says) in [
            (0, told(), "exit code 0"),
            (4 << 8, told(), "exit code 4"),
            (101 << 8, None, "exit code 101"),
            (31, None, "no reader needs"),
            (31, told(), "no reader needs"),
            (6, None, "signal 6"),
            (9, None, "signal 9"),
        ] {
            let error = verdict(ExitStatus::from_raw(raw), failed).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ReaderLost { how } if how.contains(says)), "{raw}: {error}");
            assert_eq!(error.class().exit_code(), 70);
        }
    }

    #[test]
    fn nobody_else_starts_a_reader() {
        assert!(
            matches!(check_starter().unwrap_err().kind(), ErrorKind::Usage { .. }),
            "a test runner is no installer"
        );
    }
}
