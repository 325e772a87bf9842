//! The one place that starts child processes on the low side.
//!
//! A child gets a clean environment: no credentials, proxies or library paths of the caller. It
//! stays in the caller's process group, so that a person's interrupt reaches it too.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// Bytes of each of a child's outputs that are kept.
const OUTPUT_BYTES: u64 = 64 << 20;

/// A program to run.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    deadline: Duration,
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 and the signal's number for a program that a signal ended.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Command {
    /// A program by name or path, with twelve hours to end: scanners are slow on large sets.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), deadline: Duration::from_secs(12 * 3600) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the clean environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs to the end; any exit code but 0 is an error with the end of what the program said.
    pub fn run(&self) -> Result<Output> {
        let output = self.output()?;
        self.check(output.code, &output.stderr)?;
        Ok(output)
    }

    /// Runs to the end and counts what comes out, whatever it is; exit codes as in [`Command::run`].
    pub fn count(&self) -> Result<u64> {
        let (code, bytes, stderr) =
            self.read_with(|pipe| pipe.map_or(Ok(0), |mut pipe| std::io::copy(&mut pipe, &mut std::io::sink())))?;
        self.check(code, &stderr)?;
        bytes.unwrap_or(Ok(0)).map_err(|e| Error::io(self.shown(), e))
    }

    fn check(&self, code: i32, stderr: &[u8]) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(stderr);
        let mut tail: Vec<&str> = text.lines().rev().take(3).collect();
        tail.reverse();
        let (program, code) = (self.shown(), format!("exit code {code}"));
        Err(ErrorKind::Child { program, code, stderr: bundle_format::text::escaped(&tail.join("; ")) }.into())
    }

    /// Sets the time to end in.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs to the end and gives whatever exit code came.
    pub fn output(&self) -> Result<Output> {
        let (code, stdout, stderr) = self.read_with(read_all)?;
        Ok(Output { code, stdout: stdout.unwrap_or_default(), stderr })
    }

    /// Runs to the end with `read` at its standard output: exit code, what `read` made of it (nothing
    /// where it panicked), standard error.
    fn read_with<T: Send + 'static>(
        &self,
        read: impl FnOnce(Option<ChildStdout>) -> T + Send + 'static,
    ) -> Result<(i32, Option<T>, Vec<u8>)> {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::ProgramMissing { program: self.shown() }.into(),
            _ => Error::io(self.shown(), e),
        })?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let stdout = std::thread::spawn(move || read(pipes.0));
        let stderr = std::thread::spawn(move || read_all(pipes.1));
        // On a timeout the readers are not waited for: a grandchild may hold the pipes open.
        let code = self.wait(&mut child)?;
        Ok((code, stdout.join().ok(), stderr.join().unwrap_or_default()))
    }

    fn wait(&self, child: &mut Child) -> Result<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(|e| Error::io(self.shown(), e))? {
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            if started.elapsed() >= self.deadline {
                // It may have ended in this moment; either way it is waited for.
                drop(child.kill());
                child.wait().map_err(|e| Error::io(self.shown(), e))?;
                let (program, seconds) = (self.shown(), self.deadline.as_secs());
                return Err(ErrorKind::ChildTimeout { program, seconds }.into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn shown(&self) -> String {
        bundle_format::text::escaped(&self.program.to_string_lossy())
    }
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before a broken pipe is still worth keeping; the rest is drained, so that a
    // talkative child does not wait for us for ever.
    if let Some(mut pipe) = pipe {
        drop(pipe.by_ref().take(OUTPUT_BYTES).read_to_end(&mut bytes));
        drop(std::io::copy(&mut pipe, &mut std::io::sink()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_codes_and_a_clean_environment() {
        let script = "echo out; echo err >&2; test -z \"$HOME$CARGO_MANIFEST_DIR\" && exit 3";
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        assert_eq!((output.code, &output.stdout[..], &output.stderr[..]), (3, &b"out\n"[..], &b"err\n"[..]));
        let failed =
            Command::new("sh").args(["-c", "echo one two >&2; exit $CODE"]).env("CODE", "5").run().unwrap_err();
        assert!(matches!(failed.kind(), ErrorKind::Child { stderr, .. } if stderr == "one two"), "{failed}");
        let counted = Command::new("sh").args(["-c", "head -c 100000 /dev/zero"]).count().unwrap();
        assert_eq!(counted, 100_000);
        let failed = Command::new("sh").args(["-c", "echo some; exit 4"]).count().unwrap_err();
        assert!(matches!(failed.kind(), ErrorKind::Child { code, .. } if code == "exit code 4"), "{failed}");
        let output = Command::new("sh").args(["-c", "kill -9 $$"]).output().unwrap();
        assert_eq!(output.code, 137);
        let error = Command::new("/no/such/program").output().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ProgramMissing { .. }), "{error}");
    }

    #[test]
    fn a_child_that_hangs_is_ended() {
        let error = Command::new("sleep").args(["60"]).deadline(Duration::from_millis(50)).output().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ChildTimeout { .. }), "{error}");
    }
}
