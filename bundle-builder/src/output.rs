//! What the program prints: the marking first and last, progress, passphrase prompts.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
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

/// Progress in bytes: a bar on a terminal, a plain line every two seconds off it.
#[derive(Debug)]
pub struct Progress {
    bar: Option<indicatif::ProgressBar>,
    label: &'static str,
    total: u64,
    done: u64,
    started: Instant,
    told: Instant,
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
        let now = Instant::now();
        Self { bar, label, total, done: 0, started: now, told: now }
    }

    /// Counts bytes.
    pub fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.told.elapsed() >= Duration::from_secs(2) {
            self.told = Instant::now();
            let rate = self.done * 1000 / u64::try_from(self.started.elapsed().as_millis()).unwrap_or(1).max(1);
            let left = self.total.saturating_sub(self.done) / rate.max(1);
            let line = format!("{}: {} of {} bytes, {rate} bytes/s, {left} s left", self.label, self.done, self.total);
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
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
