//! The time of a run: read once, and never earlier than what is known to be past (spec 4.7).
//!
//! What may hurt it: a clock that is turned back, so that what expired becomes valid; a clock that
//! steps in the middle of a run. Who defends: a floor that only rises, made of this program's release,
//! the newest signed time that was accepted here and the newest record; one reading for each run (TUF
//! 1.0.34, 5.1). A clock below the floor is a state of its own, `CLOCK SUSPECT`: it is shown, put on
//! record, and expiry is judged by the floor.

use std::sync::OnceLock;

use bundle_format::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::audit::{self, Outcome, Record};
use crate::error::Result;
use crate::proof::clock;
use crate::state::State;

/// What a floor comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The release of this program.
    Build,
    /// A signed time: a trust root's issue, an installed release's lock.
    Signed,
    /// The newest record: audit log, generations, roots.
    Record,
}

impl Source {
    const fn text(self) -> &'static str {
        match self {
            Self::Build => "this program's release",
            Self::Signed => "the newest signed time that was accepted",
            Self::Record => "the newest record",
        }
    }
}

/// The time that no right clock is behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Floor {
    /// The time.
    pub at: Timestamp,
    /// Where it comes from.
    pub source: Source,
}

impl Floor {
    /// Of this machine's record.
    pub fn read(state: &State) -> Result<Self> {
        let build = Self { at: Timestamp::from_unix(crate::facts::BUILD_EPOCH), source: Source::Build };
        let signed = state.newest_signed_time()?.map(|at| Self { at, source: Source::Signed });
        let record = state.time_floor()?.map(|at| Self { at, source: Source::Record });
        Ok([signed, record]
            .into_iter()
            .flatten()
            .fold(build, |floor, other| if other.at > floor.at { other } else { floor }))
    }
}

/// The clock and the floor, as they were when the run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    clock: Timestamp,
    floor: Floor,
}

/// This machine's clock at the first question of this run; the same answer ever after.
pub fn run_clock() -> Timestamp {
    static CLOCK: OnceLock<Timestamp> = OnceLock::new();
    CLOCK.get_or_init(clock).clone()
}

impl Moment {
    /// Of this run and this machine's record.
    pub fn read(state: &State) -> Result<Self> {
        Ok(Self { clock: run_clock(), floor: Floor::read(state)? })
    }

    /// The time that expiry is judged by.
    pub fn now(&self) -> &Timestamp {
        if self.is_suspect() { &self.floor.at } else { &self.clock }
    }

    /// The floor.
    pub const fn floor(&self) -> &Floor {
        &self.floor
    }

    /// The clock as it was read.
    pub const fn clock(&self) -> &Timestamp {
        &self.clock
    }

    /// Whether the clock is behind what is known to be past.
    pub fn is_suspect(&self) -> bool {
        self.clock < self.floor.at
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let (clock, floor, source) = (&self.clock, &self.floor.at, self.floor.source.text());
        if self.is_suspect() {
            format!(
                "CLOCK SUSPECT: the clock says {clock}, but {source} is of {floor}; expiry is judged by that; set the clock"
            )
        } else {
            format!("clock {clock}, not behind {source} of {floor}")
        }
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        json!({
            "clock": self.clock.as_str(), "floor": self.floor.at.as_str(), "floor_from": self.floor.source.text(),
            "suspect": self.is_suspect(), "judged_at": self.now().as_str(),
        })
    }

    /// Puts a suspect clock on record, before the act that meets it. Without a trust root nothing here
    /// is worth a record yet.
    pub fn record(&self, state: &State) -> Result<()> {
        if !self.is_suspect() || state.latest_root()?.is_none() {
            return Ok(());
        }
        state.audit()?.note(&self.to_record()).map(drop)
    }

    /// The same before what ends an act that is on record already, which needs no room for another (R-AUD-11):
    /// a record that cannot be written is told loudly.
    pub fn record_or_warn(&self, state: &State) {
        if let Err(error) = self.record(state) {
            audit::warn_lost(&self.to_record(), &error);
        }
    }

    fn to_record(&self) -> Record {
        Record::new(&self.clock, "clock suspect", Outcome::Failed).detail(&self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read_once_and_the_floor_wins() {
        let first = run_clock();
        assert_eq!(run_clock(), first);
        let at = Timestamp::from_unix;
        for (clock, floor, now, suspect) in [(100, 99, 100, false), (100, 100, 100, false), (100, 101, 101, true)] {
            let moment = Moment { clock: at(clock), floor: Floor { at: at(floor), source: Source::Record } };
            assert_eq!((moment.now(), moment.is_suspect()), (&at(now), suspect), "{moment:?}");
            assert_eq!(moment.line().contains("CLOCK SUSPECT"), suspect);
            assert_eq!(moment.to_json()["suspect"], suspect);
        }
    }

    #[test]
    fn every_source_can_be_the_floor() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let build = Floor::read(&state).unwrap();
        assert_eq!((build.source, build.at.to_unix()), (Source::Build, crate::facts::BUILD_EPOCH));
        let late = Timestamp::parse("9000-01-01T00:00:00Z").unwrap();
        state.audit().unwrap().append(&Record::new(&late, "x", Outcome::Ok)).unwrap();
        assert_eq!(Floor::read(&state).unwrap(), Floor { at: late, source: Source::Record });
    }
}
