//! `receive calibrate`: which rate comes through without a loss.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bundle_format::datagram::{Kind, Tagger};

use super::socket::Incoming;
use crate::error::{ErrorKind, Result};

/// Silence that ends it.
const SILENCE: Duration = Duration::from_secs(3);

/// One step: a rate, what was sent, what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes per second on the wire.
    pub rate: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that came.
    pub came: u64,
}

/// Listens until the sender's steps are over; `told` sees each as it ends.
pub fn calibrate(listen: SocketAddr, tagger: &Tagger, told: &mut dyn FnMut(&Step)) -> Result<Vec<Step>> {
    let mut incoming = Incoming::open(listen)?;
    let mut steps = BTreeMap::<u16, Step>::new();
    let mut last = None::<Instant>;
    let mut shown = 0;
    loop {
        let count = incoming.receive(|datagram| {
            let Some((header, body)) = tagger.open(datagram).filter(|(header, _)| header.kind == Kind::Calibrate)
            else {
                return;
            };
            let number =
                |at: usize| body.get(at..at + 8).and_then(|b| b.first_chunk::<8>()).copied().map(u64::from_be_bytes);
            if let (Some(rate), Some(sent)) = (number(0), number(8)) {
                steps.entry(header.shard).or_insert(Step { rate, sent, came: 0 }).came += 1;
            }
        })?;
        if count > 0 {
            last = Some(Instant::now());
        }
        let over = last.is_some_and(|last| last.elapsed() >= SILENCE);
        let ended = if over { steps.len() } else { steps.len().saturating_sub(1) };
        for step in steps.values().skip(shown).take(ended.saturating_sub(shown)) {
            told(step);
        }
        shown = shown.max(ended);
        if over {
            return Ok(steps.into_values().collect());
        }
    }
}

/// The highest rate up to which every step came whole, and 80% of it, which is what to use.
pub fn advice(steps: &[Step]) -> Result<(u64, u64)> {
    let clean = steps.iter().take_while(|step| step.came >= step.sent).last();
    let clean = clean.ok_or_else(|| ErrorKind::Incomplete {
        what: "calibration".into(),
        need: "not even the slowest step came whole: check the link and the receive buffer".into(),
    })?;
    Ok((clean.rate, clean.rate / 5 * 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_clean_step_before_the_first_loss() {
        let step = |rate, came| Step { rate, sent: 10, came };
        assert_eq!(advice(&[step(100, 10), step(200, 10), step(300, 9), step(400, 10)]).unwrap(), (200, 160));
        assert!(matches!(advice(&[step(100, 9)]).unwrap_err().kind(), ErrorKind::Incomplete { .. }));
    }
}
