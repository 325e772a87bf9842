//! Pacing: a one-way link has nobody to say "slower", so the sender never exceeds its rate.

use std::time::{Duration, Instant};

/// Longest debt that a late sender may catch up: more would be a burst.
const CATCH_UP: Duration = Duration::from_millis(2);

/// Keeps to a rate in bytes per second.
#[derive(Debug)]
pub struct Pace {
    rate: u64,
    due: Instant,
}

impl Pace {
    /// A pace of `rate` bytes per second, at least 1.
    pub fn new(rate: u64) -> Self {
        // The default slack of a sleep is 50 us, half of what one send lasts at full rate. Where it
        // cannot be lowered, the catching-up evens it out.
        let _ = nix::sys::prctl::set_timerslack(1000);
        Self { rate: rate.max(1), due: Instant::now() }
    }

    /// Waits until `bytes` may leave.
    pub fn wait(&mut self, bytes: u64) {
        let now = Instant::now();
        if let Some(ahead) = self.due.checked_duration_since(now) {
            std::thread::sleep(ahead);
        } else if now.duration_since(self.due) > CATCH_UP {
            self.due = now.checked_sub(CATCH_UP).unwrap_or(now);
        }
        self.due += Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate);
    }
}

/// Parses a rate: bits with `Kbit`, `Mbit`, `Gbit`, or bytes with `KB`, `MB`, `GB`, all powers of
/// 1000 per second. The result is bytes per second.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let (factor, divisor) = match unit {
        "Kbit" => (1000, 8),
        "Mbit" => (1_000_000, 8),
        "Gbit" => (1_000_000_000, 8),
        "KB" => (1000, 1),
        "MB" => (1_000_000, 1),
        "GB" => (1_000_000_000, 1),
        _ => (0, 1),
    };
    let rate = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).map(|bits| bits / divisor);
    rate.filter(|rate| *rate > 0).ok_or_else(|| format!("expected a rate such as 800Mbit or 100MB, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, rate) in [("800Mbit", 100_000_000), ("1Gbit", 125_000_000), ("64KB", 64_000), ("2GB", 2_000_000_000)]
        {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for bad in ["", "100", "fast", "0MB", "1Tbit", "99999999999999GB"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
