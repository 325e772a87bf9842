//! Progress in bytes: a bar with rate and time left on a terminal, plain lines off it.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written.
const EVERY: Duration = Duration::from_secs(2);

/// One long step.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    label: &'static str,
    total: u64,
    done: u64,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// Starts a step of `total` bytes. With `json` there is no bar, only plain lines.
    pub fn new(label: &'static str, total: u64, json: bool) -> Self {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let style =
                ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left");
            ProgressBar::new(total)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_prefix(label)
        });
        let now = Instant::now();
        Self { bar, label, total, done: 0, started: now, told: now }
    }

    /// Counts bytes.
    pub fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if self.told.elapsed() >= EVERY => {
                self.told = Instant::now();
                let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
                let rate = self.done.saturating_mul(1000) / millis;
                let left = self.total.saturating_sub(self.done) / rate.max(1);
                self.note(&format!(
                    "{}: {} of {} bytes, {rate} bytes/s, {left} s left",
                    self.label, self.done, self.total
                ));
            }
            None => {}
        }
    }

    /// A line of text beside the bar.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| drop(writeln!(std::io::stderr(), "{text}"))),
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Ends the step.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
/// A line for whoever looks on, whatever the command does.
pub(crate) fn warn(text: &str) {
    use std::io::Write as _;
    // A closed standard error leaves nowhere to complain to.
    drop(writeln!(std::io::stderr(), "WARNING: {text}"));
}
