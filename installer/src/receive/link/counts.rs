//! What came and what did not: counted for each run of a sender by its datagrams' ordinals.

use std::collections::BTreeMap;

use serde::Serialize;

/// Ordinals that are remembered to tell a double from a late one.
const WINDOW: usize = 1 << 16;

/// Counts of one reception.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Good datagrams, doubles included.
    pub received: u64,
    /// Good datagrams that had come before.
    pub duplicates: u64,
    /// Datagrams that came after one that was sent later.
    pub reordered: u64,
    /// Datagrams sent and never come, as far as the ordinals tell.
    pub lost: u64,
    /// Datagrams with a wrong tag, or not ours.
    pub corrupt: u64,
    /// Good datagrams of sessions that were refused or not yet announced.
    pub unused: u64,
    /// Datagrams that the kernel had no room for.
    pub dropped_by_kernel: u64,
}

/// One run of a sender.
struct Run {
    next: u64,
    unique: u64,
    total: u64,
    recent: Vec<u64>,
}

/// Counts over all runs.
#[derive(Default)]
pub struct Tally {
    counts: Counts,
    runs: BTreeMap<([u8; 8], u16), Run>,
}

impl Tally {
    /// A datagram with a wrong tag.
    pub fn corrupt(&mut self) {
        self.counts.corrupt += 1;
    }

    /// A good datagram that was of no use.
    pub fn unused(&mut self) {
        self.counts.unused += 1;
    }

    /// A good datagram.
    pub fn received(&mut self, session: [u8; 8], run: u16, ordinal: u32) {
        /// Runs that are told apart; a stranger could otherwise fill the memory with them.
        const RUNS: usize = 64;
        self.counts.received += 1;
        if self.runs.len() >= RUNS && !self.runs.contains_key(&(session, run)) {
            return;
        }
        let fresh = || Run { next: 0, unique: 0, total: 0, recent: vec![0; WINDOW / 64] };
        let run = self.runs.entry((session, run)).or_insert_with(fresh);
        let ordinal = u64::from(ordinal);
        let window = u64::try_from(WINDOW).unwrap_or(1);
        if ordinal >= run.next {
            // The slots of the ordinals that were skipped are of an older window.
            let skipped = ordinal - run.next;
            if skipped >= window {
                run.recent.fill(0);
            } else {
                (run.next..=ordinal).for_each(|skipped| set(&mut run.recent, skipped % window, false));
            }
            run.next = ordinal + 1;
        } else {
            self.counts.reordered += 1;
            if get(&run.recent, ordinal % window) {
                self.counts.duplicates += 1;
                self.counts.reordered -= 1;
                return;
            }
        }
        set(&mut run.recent, ordinal % window, true);
        run.unique += 1;
    }

    /// The sender says how many datagrams its run had.
    pub fn ended(&mut self, session: [u8; 8], run: u16, total: u32) {
        if let Some(run) = self.runs.get_mut(&(session, run)) {
            run.total = u64::from(total);
        }
    }

    /// The counts so far.
    pub fn counts(&self, dropped_by_kernel: u64) -> Counts {
        let lost = self.runs.values().map(|run| run.total.max(run.next).saturating_sub(run.unique)).sum();
        Counts { lost, dropped_by_kernel, ..self.counts.clone() }
    }
}

fn get(bits: &[u64], at: u64) -> bool {
    usize::try_from(at / 64).ok().and_then(|word| bits.get(word)).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

fn set(bits: &mut [u64], at: u64, value: bool) {
    if let Some(word) = usize::try_from(at / 64).ok().and_then(|word| bits.get_mut(word)) {
        let mask = 1 << (at % 64);
        *word = if value { *word | mask } else { *word & !mask };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_doubled_and_late() {
        let mut tally = Tally::default();
        let run = |tally: &mut Tally, run, ordinals: &[u32]| {
            for ordinal in ordinals {
                tally.received([1; 8], run, *ordinal);
            }
        };
        run(&mut tally, 5, &[0, 1, 2, 2, 5, 4, 4, 9]);
        let counts = tally.counts(0);
        assert_eq!((counts.received, counts.duplicates, counts.reordered, counts.lost), (8, 2, 1, 4));
        tally.ended([1; 8], 5, 12);
        assert_eq!(tally.counts(0).lost, 6);
        run(&mut tally, 6, &[0, 100_000, 100_000, 34_465, 0]);
        let counts = tally.counts(3);
        assert_eq!((counts.duplicates, counts.lost, counts.dropped_by_kernel), (3, 6 + 100_001 - 4, 3));
    }
}
