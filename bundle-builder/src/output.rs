//! What the program prints: the marking first and last, progress, passphrase prompts.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bundle_format::marking::Marking;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// The line to be printed again at the end.
static OPEN: Mutex<Option<String>> = Mutex::new(None);

/// Prints the marking as the first line. On standard error, so that `--json` output stays one document.
pub fn open_banner(marking: &Marking) {
    let text = marking.to_string();
    print_banner(&text);
    *OPEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

/// Prints the marking as the last line, if it was opened: after everything else, errors included.
pub fn close_banner() {
    if let Some(text) = OPEN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        print_banner(&text);
    }
}

fn print_banner(text: &str) {
    // A closed standard error leaves nowhere to complain to.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Between two plain lines.
const LINES: Duration = Duration::from_secs(2);
/// The same where nothing was counted since the last one.
const QUIET_LINES: Duration = Duration::from_secs(30);

/// Progress in bytes: a bar on a terminal, a plain line every two seconds off it.
#[derive(Debug)]
pub struct Progress {
    bar: Option<indicatif::ProgressBar>,
    count: Arc<Count>,
    told: Instant,
    steady: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Count {
    label: &'static str,
    total: u64,
    done: AtomicU64,
    started: Instant,
}

impl Count {
    fn tell(&self) {
        let line = self.line(self.done.load(Ordering::Relaxed), self.started.elapsed());
        drop(writeln!(std::io::stderr(), "{line}"));
    }

    fn line(&self, done: u64, elapsed: Duration) -> String {
        let rate = done.saturating_mul(1000) / u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let left = self.total.saturating_sub(done) / rate.max(1);
        format!("{}: {done} of {} bytes, {rate} bytes/s, {left} s left", self.label, self.total)
    }
}

impl Progress {
    /// Starts a step of `total` bytes.
    pub fn new(label: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
            let style = indicatif::ProgressStyle::with_template(style)
                .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
            indicatif::ProgressBar::new(total).with_style(style).with_prefix(label)
        });
        let started = Instant::now();
        let count = Arc::new(Count { label, total, done: AtomicU64::new(0), started });
        Self { bar, count, told: started, steady: None }
    }

    /// The same for a step that counts nothing for minutes, as a slow effort does within one blob: what it
    /// shows goes on all the while. For commands that read their own input: a thread is made for it.
    pub fn steady(label: &'static str, total: u64) -> Self {
        let mut progress = Self::new(label, total);
        if let Some(bar) = &progress.bar {
            bar.enable_steady_tick(LINES);
            return progress;
        }
        let (stop, stopped) = channel();
        let count = Arc::clone(&progress.count);
        let thread = std::thread::spawn(move || {
            let (mut seen, mut told) = (0, Instant::now());
            while stopped.recv_timeout(LINES) == Err(RecvTimeoutError::Timeout) {
                let done = count.done.load(Ordering::Relaxed);
                if done != seen || told.elapsed() >= QUIET_LINES {
                    count.tell();
                    (seen, told) = (done, Instant::now());
                }
            }
        });
        progress.steady = Some((stop, thread));
        progress
    }

    /// Counts bytes.
    pub fn add(&mut self, bytes: u64) {
        let done = self.count.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.steady.is_none() && self.told.elapsed() >= LINES {
            self.told = Instant::now();
            self.count.tell();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.steady.take() {
            drop(stop);
            // A thread that only writes lines; what it could not write nobody reads.
            drop(thread.join());
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Reads a secret: the first line of `file` (`/dev/fd/N` for a descriptor), or a prompt. `option`
/// is what to give where there is no terminal.
pub fn passphrase(file: Option<&Path>, prompt: &str, option: &str) -> Result<Zeroizing<Vec<u8>>> {
    if let Some(path) = file {
        let io = |e| Error::io(path.display().to_string(), e);
        let mut bytes = Zeroizing::new(Vec::new());
        std::fs::File::open(path).map_err(io)?.take(4096).read_to_end(&mut bytes).map_err(io)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        bytes.truncate(end);
        return Ok(bytes);
    }
    if !std::io::stdin().is_terminal() {
        return Err(ErrorKind::Usage(format!("no terminal to ask on; give {option}")).into());
    }
    let typed = rpassword::prompt_password(prompt).map_err(|e| Error::io("passphrase", e))?;
    Ok(Zeroizing::new(typed.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_bytes_rate_and_time_left_and_the_time_grows_while_nothing_is_counted() {
        let count = Count { label: "build", total: 1000, done: AtomicU64::new(0), started: Instant::now() };
        let line = |done, seconds| count.line(done, Duration::from_secs(seconds));
        assert_eq!(line(500, 5), "build: 500 of 1000 bytes, 100 bytes/s, 5 s left");
        assert_eq!(line(500, 50), "build: 500 of 1000 bytes, 10 bytes/s, 50 s left");
        assert_eq!(line(0, 0), "build: 0 of 1000 bytes, 0 bytes/s, 1000 s left");
        assert_eq!(line(1000, 10), "build: 1000 of 1000 bytes, 100 bytes/s, 0 s left");
    }
}
