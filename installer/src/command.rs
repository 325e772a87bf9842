//! The one place that starts child processes.
//!
//! Secrets go to standard input only, never into arguments or the environment. Proxy settings are
//! not handed on: nothing here may reach a network.

use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::signals::Stop;

/// Bytes of a child's standard error that an error quotes.
const TAIL: usize = 2000;

/// A program to run.
pub struct Command {
    program: String,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    stdin: Zeroizing<Vec<u8>>,
    stdin_file: Option<File>,
    stdout_file: Option<File>,
    deadline: Duration,
    stop: Option<Stop>,
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Command {
    /// A program by name or path, with ten minutes to end.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Zeroizing::default(),
            stdin_file: None,
            stdout_file: None,
            deadline: Duration::from_secs(600),
            stop: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Gives standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Zeroizing::new(bytes.to_vec());
        self
    }

    /// Gives a file as standard input.
    #[must_use]
    pub fn stdin_from(mut self, file: File) -> Self {
        self.stdin_file = Some(file);
        self
    }

    /// Sends standard output into a file; the output text stays empty.
    #[must_use]
    pub fn stdout_to(mut self, file: File) -> Self {
        self.stdout_file = Some(file);
        self
    }

    /// Sets the time to end in.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Ends it as soon as somebody asks the installer to end; the error is then [`ErrorKind::Stopped`].
    #[must_use]
    pub fn until(mut self, stop: &Stop) -> Self {
        self.stop = Some(stop.clone());
        self
    }

    /// Runs to the end and gives whatever exit code came.
    pub fn output(mut self) -> Result<Output> {
        let mut command = std::process::Command::new(&self.program);
        let stdin = self.stdin_file.take().map_or_else(Stdio::piped, Stdio::from);
        let stdout = self.stdout_file.take().map_or_else(Stdio::piped, Stdio::from);
        command.args(&self.args).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        command.env("LC_ALL", "C.UTF-8");
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        // A group of its own, so that the deadline reaches what the program starts too.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::ProgramMissing { program: self.program.clone() }.into(),
            _ => Error::io(self.program.clone(), e),
        })?;
        let stdin = std::mem::take(&mut self.stdin);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (code, stdout, stderr) = std::thread::scope(|scope| {
            // A child that does not read its input ends by itself and says why.
            scope.spawn(move || pipes.0.map(|mut pipe| drop(pipe.write_all(&stdin))));
            let stdout = scope.spawn(move || read_all(pipes.1));
            let stderr = scope.spawn(move || read_all(pipes.2));
            let code = self.wait(&mut child);
            (code, stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default())
        });
        Ok(Output { code: code?, stdout, stderr })
    }

    /// Runs to the end; any exit code but 0 is an error.
    pub fn run(self) -> Result<Output> {
        let shown = self.shown();
        let output = self.output()?;
        if output.code == 0 { Ok(output) } else { Err(failed(shown, &output)) }
    }

    fn wait(&self, child: &mut Child) -> Result<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(|e| Error::io(self.program.clone(), e))? {
                use std::os::unix::process::ExitStatusExt as _;
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            if self.stop.as_ref().is_some_and(Stop::asked) {
                self.kill(child)?;
                return Err(ErrorKind::Stopped.into());
            }
            if started.elapsed() >= self.deadline {
                self.kill(child)?;
                return Err(ErrorKind::ChildTimeout { program: self.shown(), seconds: self.deadline.as_secs() }.into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends a child and what it started.
    fn kill(&self, child: &mut Child) -> Result<()> {
        // It may have ended in this moment; either way it is waited for.
        let group = i32::try_from(child.id()).unwrap_or(i32::MAX);
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        child.wait().map(drop).map_err(|e| Error::io(self.program.clone(), e))
    }

    fn shown(&self) -> String {
        let args: Vec<_> = self.args.iter().take(6).map(|arg| arg.to_string_lossy()).collect();
        format!("{} {}", self.program, args.join(" "))
    }
}

/// Without the standard input: it may be a secret.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command").field("program", &self.shown()).finish_non_exhaustive()
    }
}

/// Starts this very program, also where its file was replaced meanwhile, with the same standard output
/// and error. What it writes to its descriptor 0 comes out of the pipe.
pub fn this_program(args: impl Iterator<Item = OsString>) -> Result<(Child, PipeReader)> {
    let io = |e| Error::io("this program", e);
    let (reader, writer) = std::io::pipe().map_err(io)?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(args).stdin(Stdio::from(writer));
    std::os::unix::process::CommandExt::arg0(&mut command, env!("CARGO_PKG_NAME"));
    // The writing end goes with `command`, so that the pipe ends with the child.
    Ok((command.spawn().map_err(io)?, reader))
}

/// The error for a program that ended badly. A full disk is told apart: it is the commonest cause.
pub fn failed(program: String, output: &Output) -> Error {
    let stderr = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    if stderr.contains("no space left on device") || stderr.contains("No space left on device") {
        return ErrorKind::DiskFull { what: program }.into();
    }
    let skip = stderr.chars().count().saturating_sub(TAIL);
    let tail: String = stderr.chars().skip(skip).map(|c| if c == '\n' { ' ' } else { c }).collect();
    ErrorKind::Child { program, code: output.code.to_string(), stderr: bundle_format::text::escaped(tail.trim()) }
        .into()
}

fn read_all(pipe: Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    // What came before a broken pipe is still worth showing.
    drop(pipe.map(|pipe| pipe.take(64 << 20).read_to_end(&mut bytes)));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_input_and_codes() {
        let output = Command::new("sh").args(["-c", "cat; echo err >&2; exit 3"]).stdin(b"in").output().unwrap();
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "in", "err\n"));
        let error = Command::new("sh").args(["-c", "echo why >&2; exit 1"]).run().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Child { stderr, .. } if stderr == "why"), "{error}");
        let error = Command::new("sh").args(["-c", "echo no space left on device >&2; exit 1"]).run().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DiskFull { .. }));
        assert!(matches!(Command::new("/no/such").run().unwrap_err().kind(), ErrorKind::ProgramMissing { .. }));
    }

    #[test]
    fn files_as_input_and_output() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, [0, 255, 1]).unwrap();
        let (input, output) = (File::open(&from).unwrap(), File::create(&to).unwrap());
        let said = Command::new("cat").stdin_from(input).stdout_to(output).run().unwrap();
        assert_eq!((said.stdout.as_str(), std::fs::read(&to).unwrap()), ("", vec![0, 255, 1]));
    }

    #[test]
    fn a_child_that_hangs_is_ended() {
        for script in ["sleep 60", "sleep 60 & sleep 60"] {
            let error = Command::new("sh").args(["-c", script]).deadline(Duration::from_millis(50)).run().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ChildTimeout { .. }), "{script}");
        }
    }
}
