//! The journal: runs that change a product, their steps, and which volumes belong to a generation
//! (`docs/spec/lifecycle.md`).

use std::collections::BTreeMap;

use bundle_format::timestamp::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use serde_json::Value;

use super::{Generation, State, one_row, sql};
use crate::error::{ErrorKind, Result};
use crate::release::Release;

/// How far a run is. The recovery table of the spec has one row for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The new generation is made beside the running one, which nothing touches.
    Staging,
    /// The former generation is being stopped; `current` still names it.
    Switching,
    /// `current` names the new generation; it has to show that it is healthy.
    Trial,
    /// The new generation is the active one; what is left over is being cleared.
    Committed,
    /// Everything is being taken back.
    Undoing,
    /// Over: the new generation runs.
    Done,
    /// Over: what ran before runs.
    Undone,
}

impl Phase {
    const ALL: [Self; 7] =
        [Self::Staging, Self::Switching, Self::Trial, Self::Committed, Self::Undoing, Self::Done, Self::Undone];

    /// The word in the journal.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Switching => "switching",
            Self::Trial => "trial",
            Self::Committed => "committed",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Undone => "undone",
        }
    }

    /// What a person may run then.
    pub const fn ways_on(self) -> &'static str {
        match self {
            Self::Committed => "installer resume",
            _ => "installer resume, or installer rollback",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|phase| phase.text() == text);
        let unknown = || ErrorKind::Unexpected {
            what: "journal: phase of a run".into(),
            expected: "a known phase".into(),
            found: bundle_format::text::escaped(text),
        };
        Ok(found.ok_or_else(unknown)?)
    }
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Not begun.
    Planned,
    /// Begun, perhaps cut off.
    Doing,
    /// Done.
    Done,
    /// Taken back.
    Undone,
}

impl StepState {
    const fn text(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Doing => "doing",
            Self::Done => "done",
            Self::Undone => "undone",
        }
    }

    fn parse(text: &str) -> Self {
        // The schema allows these four words alone.
        [Self::Planned, Self::Doing, Self::Done].into_iter().find(|state| state.text() == text).unwrap_or(Self::Undone)
    }
}

/// A run as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// `install`, `rollback`, `restore`.
    pub act: String,
    /// The product that it changes.
    pub product: String,
    /// The generation that it brings.
    pub generation: i64,
    /// The generation that ran before.
    pub former: Option<i64>,
    /// What it was begun with: a bundle's path, a backup.
    pub source: String,
    /// SHA-384 of the plan that was shown.
    pub plan_sha384: String,
    /// What it goes past, approved by two persons; names, joined by commas.
    pub dangerous: String,
    /// How far it is.
    pub phase: Phase,
    /// Boots inside the trial after which it is taken back.
    pub boots_left: i64,
    /// Why it is taken back.
    pub reason: String,
    /// When it was begun.
    pub begun_at: String,
}

/// A step as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Its place, from 0.
    pub ordinal: i64,
    /// The step.
    pub step: Value,
    /// How far it is.
    pub state: StepState,
    /// What its undoing needs to know.
    pub note: Value,
}

/// What a run begins with.
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    /// `install`, `rollback`, `restore`.
    pub act: &'a str,
    /// The product.
    pub product: &'a str,
    /// The generation that it brings.
    pub generation: i64,
    /// The generation that runs.
    pub former: Option<i64>,
    /// What it is begun with.
    pub source: &'a str,
    /// The plan's fingerprint.
    pub plan_sha384: &'a str,
    /// What it goes past.
    pub dangerous: &'a str,
    /// The steps in order.
    pub steps: &'a [Value],
}

/// Boots inside a trial: the first goes on, the second goes back.
const BOOTS: i64 = 1;

/// Site setting with the run that the machine tries to finish by itself, the start of the machine, how often.
pub(super) const TRIED: &str = "resume-tried";

const RUN: &str = "id, act, product, generation, former, source, plan_sha384, phase, boots_left, reason, begun_at, dangerous FROM runs";

fn read_run(row: &Row<'_>) -> rusqlite::Result<(Run, String)> {
    let phase: String = row.get(7)?;
    let run = Run {
        id: row.get(0)?,
        act: row.get(1)?,
        product: row.get(2)?,
        generation: row.get(3)?,
        former: row.get(4)?,
        source: row.get(5)?,
        plan_sha384: row.get(6)?,
        phase: Phase::Staging,
        boots_left: row.get(8)?,
        reason: row.get(9)?,
        begun_at: row.get(10)?,
        dangerous: row.get(11)?,
    };
    Ok((run, phase))
}

impl State {
    /// Begins a run with all its steps, in one transaction. Only one run is open at a time.
    pub fn begin_run(&mut self, new: &NewRun<'_>, now: &Timestamp) -> Result<i64> {
        let what = sql("begin a run");
        let transaction = self.db.transaction().map_err(&what)?;
        let insert = "INSERT INTO runs (act, product, generation, former, source, plan_sha384, phase, boots_left, reason, begun_at, changed_at, dangerous)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'staging', ?7, '', ?8, ?8, ?9)";
        let values = params![
            new.act,
            new.product,
            new.generation,
            new.former,
            new.source,
            new.plan_sha384,
            BOOTS,
            now.as_str(),
            new.dangerous
        ];
        transaction.execute(insert, values).map_err(&what)?;
        let run = transaction.last_insert_rowid();
        for (step, ordinal) in new.steps.iter().zip(0i64..) {
            let insert = "INSERT INTO run_steps VALUES (?1, ?2, ?3, 'planned', 'null', NULL)";
            transaction.execute(insert, params![run, ordinal, step.to_string()]).map_err(&what)?;
        }
        transaction.commit().map_err(&what)?;
        Ok(run)
    }

    /// The run that is not over.
    pub fn open_run(&self) -> Result<Option<Run>> {
        let query = format!("SELECT {RUN} WHERE phase NOT IN ('done', 'undone')");
        let found = self.db.query_row(&query, [], read_run).optional().map_err(sql("read the journal"))?;
        found.map(|(run, phase)| Ok(Run { phase: Phase::parse(&phase)?, ..run })).transpose()
    }

    /// When a run went on last, or ended; nothing where there was none.
    pub fn newest_move(&self) -> Result<Option<Timestamp>> {
        let found: Option<String> = self
            .db
            .query_row("SELECT max(changed_at) FROM runs", [], |row| row.get(0))
            .map_err(sql("read the journal"))?;
        Ok(found.map(|at| Timestamp::parse(&at)).transpose()?)
    }

    /// Sets how far a run is, and why, where it goes back.
    pub fn set_phase(&mut self, run: i64, phase: Phase, reason: Option<&str>, now: &Timestamp) -> Result<()> {
        let update = "UPDATE runs SET phase = ?2, reason = coalesce(?3, reason), changed_at = ?4 WHERE id = ?1";
        let changed = self.db.execute(update, params![run, phase.text(), reason, now.as_str()]);
        one_row("run", run, changed.map_err(sql("journal a run"))?)
    }

    /// Ends a run that was taken back, and its generation, in one transaction.
    pub fn end_undone(&mut self, run: &Run, generation: super::GenerationState, now: &Timestamp) -> Result<()> {
        let what = sql("end a run");
        let transaction = self.db.transaction().map_err(&what)?;
        let update = "UPDATE runs SET phase = 'undone', changed_at = ?2 WHERE id = ?1";
        one_row("run", run.id, transaction.execute(update, params![run.id, now.as_str()]).map_err(&what)?)?;
        let update = "UPDATE generations SET state = ?2, changed_at = ?3 WHERE id = ?1";
        let values = params![run.generation, generation.text(), now.as_str()];
        one_row("generation", run.generation, transaction.execute(update, values).map_err(&what)?)?;
        transaction.commit().map_err(&what)
    }

    /// Makes the run's generation the active one, raises the floors and marks the run committed: one
    /// transaction, the point of no return. The former generation stays kept. Only an installation
    /// raises floors: a generation that is gone back to did so when it came, and a floor that a trust
    /// root lowered since must not rise by it.
    pub fn commit_run(&mut self, run: &Run, epoch: u64, now: &Timestamp) -> Result<()> {
        let what = sql("commit a run");
        let transaction = self.db.transaction().map_err(&what)?;
        let at = now.as_str();
        let supersede = "UPDATE generations SET state = 'superseded', changed_at = ?2 WHERE state = 'active' AND product = ?1 AND id <> ?3";
        transaction.execute(supersede, params![run.product, at, run.generation]).map_err(&what)?;
        let activate = "UPDATE generations SET state = 'active', kept = 1, changed_at = ?2 WHERE id = ?1";
        one_row(
            "generation",
            run.generation,
            transaction.execute(activate, params![run.generation, at]).map_err(&what)?,
        )?;
        let raise = "INSERT INTO floors (product, sequence, raised_at, epoch) SELECT product, sequence, ?2, ?3 FROM generations WHERE id = ?1
                     ON CONFLICT (product) DO UPDATE SET sequence = max(sequence, excluded.sequence),
                     raised_at = excluded.raised_at, epoch = max(epoch, excluded.epoch)";
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        if run.act == "install" {
            transaction.execute(raise, params![run.generation, at, epoch]).map_err(&what)?;
        }
        let update = "UPDATE runs SET phase = 'committed', changed_at = ?2 WHERE id = ?1";
        one_row("run", run.id, transaction.execute(update, params![run.id, at]).map_err(&what)?)?;
        transaction.commit().map_err(&what)
    }

    /// The generations of a product that one can go to: the active one and those kept, the one that came into
    /// force last first. By the journal's numbers, which only rise: a clock that was set back must not make the
    /// release that ran just now the oldest. One of before the journal has none, and is the oldest.
    pub fn kept_generations(&self, product: &str) -> Result<Vec<Generation>> {
        let which = "product = ?1 AND kept = 1 ORDER BY (SELECT max(r.id) FROM runs r
                     WHERE r.generation = generations.id AND r.phase IN ('committed', 'done')) DESC, id DESC";
        self.generations_where(which, [product])
    }

    /// Counts a boot inside a trial; what is left after it.
    pub fn count_boot(&mut self, run: i64) -> Result<i64> {
        let update = "UPDATE runs SET boots_left = boots_left - 1 WHERE id = ?1 RETURNING boots_left";
        self.db.query_row(update, [run], |row| row.get(0)).map_err(sql("count a boot"))
    }

    /// Counts an attempt of the machine itself to finish a run, since its start `boot`; how many that makes.
    pub fn count_try(&mut self, run: i64, boot: &str) -> Result<u64> {
        let this = format!("{run} {boot} ");
        let tried = self.setting(TRIED)?;
        let tried = tried.as_deref().and_then(|text| text.strip_prefix(&this)).and_then(|count| count.parse().ok());
        let count = tried.unwrap_or(0u64).saturating_add(1);
        self.set_setting(TRIED, &format!("{this}{count}"))?;
        Ok(count)
    }

    /// The steps of a run, in order.
    pub fn run_steps(&self, run: i64) -> Result<Vec<RunStep>> {
        let what = sql("read the journal");
        let query = "SELECT ordinal, step, state, note FROM run_steps WHERE run = ?1 ORDER BY ordinal";
        let mut statement = self.db.prepare(query).map_err(&what)?;
        let rows = statement.query_map([run], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?))
        });
        let mut steps = Vec::new();
        for row in rows.map_err(&what)? {
            let (ordinal, step, state, note) = row.map_err(&what)?;
            let json = |text: &str| {
                serde_json::from_str(text).map_err(|e| ErrorKind::Unexpected {
                    what: format!("journal: step {ordinal} of run {run}"),
                    expected: "JSON".into(),
                    found: e.to_string(),
                })
            };
            steps.push(RunStep { ordinal, step: json(&step)?, state: StepState::parse(&state), note: json(&note)? });
        }
        Ok(steps)
    }

    /// Journals that a step begins, with what its undoing needs; a note that is there already stays,
    /// because what a cut-off attempt made is there by now.
    pub fn step_doing(&mut self, run: i64, ordinal: i64, note: &Value) -> Result<()> {
        let update = "UPDATE run_steps SET state = 'doing', note = CASE WHEN note = 'null' THEN ?3 ELSE note END
                      WHERE run = ?1 AND ordinal = ?2";
        let changed = self.db.execute(update, params![run, ordinal, note.to_string()]);
        one_row("step", ordinal, changed.map_err(sql("journal a step"))?)
    }

    /// Journals that a step is done, and how long it took.
    pub fn step_done(&mut self, run: i64, ordinal: i64, took: std::time::Duration) -> Result<()> {
        let update = "UPDATE run_steps SET state = 'done', millis = ?3 WHERE run = ?1 AND ordinal = ?2";
        let millis = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let changed = self.db.execute(update, params![run, ordinal, millis]);
        one_row("step", ordinal, changed.map_err(sql("journal a step"))?)
    }

    /// Journals that a step was taken back.
    pub fn step_undone(&mut self, run: i64, ordinal: i64) -> Result<()> {
        let update = "UPDATE run_steps SET state = 'undone' WHERE run = ?1 AND ordinal = ?2";
        let changed = self.db.execute(update, params![run, ordinal]);
        one_row("step", ordinal, changed.map_err(sql("journal a step"))?)
    }

    /// Milliseconds that this step took in the newest run of the product that finished it.
    pub fn last_millis(&self, product: &str, step: &Value) -> Result<Option<u64>> {
        let query = "SELECT s.millis FROM run_steps s JOIN runs r ON r.id = s.run
                     WHERE r.product = ?1 AND s.step = ?2 AND s.state = 'done' ORDER BY r.id DESC LIMIT 1";
        let found: Option<Option<i64>> = self
            .db
            .query_row(query, params![product, step.to_string()], |row| row.get(0))
            .optional()
            .map_err(sql("read the journal"))?;
        Ok(found.flatten().and_then(|millis| u64::try_from(millis).ok()))
    }

    /// The engine's volume for each claim of a generation.
    pub fn volumes(&self, generation: i64) -> Result<BTreeMap<String, String>> {
        let what = sql("read the volumes");
        let mut statement =
            self.db.prepare("SELECT claim, volume FROM volumes WHERE generation = ?1").map_err(&what)?;
        let rows = statement.query_map([generation], |row| Ok((row.get(0)?, row.get(1)?))).map_err(&what)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&what)
    }

    /// The same; for a generation of before they were recorded, volumes have the names of its claims.
    pub fn volumes_of(&self, generation: i64, release: &Release) -> Result<BTreeMap<String, String>> {
        let recorded = self.volumes(generation)?;
        if recorded.is_empty() {
            return Ok(release.volumes().into_iter().map(|claim| (claim.clone(), claim)).collect());
        }
        Ok(recorded)
    }

    /// Records the volumes of a generation.
    pub fn set_volumes(&mut self, generation: i64, volumes: &BTreeMap<String, String>) -> Result<()> {
        let what = sql("record the volumes");
        let transaction = self.db.transaction().map_err(&what)?;
        transaction.execute("DELETE FROM volumes WHERE generation = ?1", [generation]).map_err(&what)?;
        for (claim, volume) in volumes {
            let insert = "INSERT INTO volumes VALUES (?1, ?2, ?3)";
            transaction.execute(insert, params![generation, claim, volume]).map_err(&what)?;
        }
        transaction.commit().map_err(&what)
    }

    /// Every volume on record with its generation.
    pub fn all_volumes(&self, product: &str) -> Result<Vec<(i64, String)>> {
        let what = sql("read the volumes");
        let query = "SELECT v.generation, v.volume FROM volumes v JOIN generations g ON g.id = v.generation
                     WHERE g.product = ?1 ORDER BY v.generation";
        let mut statement = self.db.prepare(query).map_err(&what)?;
        let rows = statement.query_map([product], |row| Ok((row.get(0)?, row.get(1)?))).map_err(&what)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&what)
    }

    /// Forgets the volumes of a generation, and that it is kept: nobody can go back to it any more.
    pub fn forget_generation(&mut self, generation: i64) -> Result<()> {
        let what = sql("forget a generation");
        let transaction = self.db.transaction().map_err(&what)?;
        transaction.execute("DELETE FROM volumes WHERE generation = ?1", [generation]).map_err(&what)?;
        transaction.execute("UPDATE generations SET kept = 0 WHERE id = ?1", [generation]).map_err(&what)?;
        transaction.commit().map_err(&what)
    }

    /// Lowest security epoch that a product may run.
    pub fn epoch(&self, product: &str) -> Result<u64> {
        let query = "SELECT epoch FROM floors WHERE product = ?1";
        let found: Option<i64> =
            self.db.query_row(query, [product], |row| row.get(0)).optional().map_err(sql("read a floor"))?;
        Ok(found.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_generations_go_by_the_journal_and_not_by_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&folder.path().join("state.db")).unwrap();
        let insert = "INSERT INTO generations (product, release, sequence, marking, manifest, manifest_sha384, state, begun_at, changed_at, kept)
                      VALUES ('p', 'r', 1, 'U', x'', 's', 'superseded', '2026-01-01T00:00:00Z', ?1, 1)";
        for at in ["2026-01-04T00:00:00Z", "2026-01-02T00:00:00Z", "2000-01-01T00:00:00Z", "2000-01-02T00:00:00Z"] {
            state.db.execute(insert, [at]).unwrap();
        }
        let mut go = |generation: i64, committed: bool| {
            let new = NewRun {
                act: "rollback",
                product: "p",
                generation,
                former: None,
                source: "",
                plan_sha384: "",
                dangerous: "",
                steps: &[],
            };
            let now = Timestamp::from_unix(0);
            state.begin_run(&new, &now).unwrap();
            let run = state.open_run().unwrap().unwrap();
            if committed {
                state.commit_run(&run, 0, &now).unwrap();
                state.set_phase(run.id, Phase::Done, None, &now).unwrap();
            } else {
                state.end_undone(&run, crate::state::GenerationState::Superseded, &now).unwrap();
            }
            state.kept_generations("p").unwrap().iter().map(|kept| kept.id).collect::<Vec<_>>()
        };
        // Generation 1 is of before the journal.
        assert_eq!(go(2, true), [2, 4, 3, 1]);
        assert_eq!(go(3, true), [3, 2, 4, 1]);
        assert_eq!(go(4, true), [4, 3, 2, 1]);
        assert_eq!(go(2, false), [4, 3, 2, 1], "a way back that failed is none");
        assert_eq!(go(2, true), [2, 4, 3, 1]);
    }

    #[test]
    fn tries_are_counted_for_one_run_and_one_start_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&folder.path().join("state.db")).unwrap();
        for (run, boot, count) in [(1, "a", 1), (1, "a", 2), (1, "b", 1), (2, "b", 1), (2, "b", 2), (12, "b", 1)] {
            assert_eq!(state.count_try(run, boot).unwrap(), count, "{run} {boot}");
        }
        drop(state);
        let mut state = State::open(&folder.path().join("state.db")).unwrap();
        assert_eq!(state.count_try(12, "b").unwrap(), 2, "also when the machine's watch was killed meanwhile");
    }
}
