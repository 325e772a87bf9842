//! What becomes of a run that was cut off: the recovery table of `docs/spec/lifecycle.md`, 4.

use std::path::Path;

use super::step::Step;
use super::{Change, Outcome, Walk};
use crate::dangerous::Dangerous;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::preflight::Needs;
use crate::proof::{Base, ProvedBundle, SitePolicy};
use crate::state::{Phase, Run, StepState};
use crate::store::Store;
use crate::{atomic, audit};

/// Who asks for recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// A person: forward where that is possible.
    Person,
    /// The machine, before any workload starts: only decides which release that will be.
    Guard,
    /// The machine, after its start and every minute: finishes what was decided.
    Boot,
}

/// So often the machine tries by itself after one start of it; then the run is for a person.
const TRIES: u64 = 5;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the machine finishes this run by itself. While it is staged nothing that runs was touched: whether
/// to go on is for a person, who would lose what is proved already.
pub(crate) const fn is_for_the_machine(run: &Run) -> bool {
    !matches!(run.phase, Phase::Staging)
}

impl Change<'_> {
    /// Finishes or takes back what was cut off.
    pub fn resume(&mut self, who: Recovery) -> Result<Outcome> {
        let Some(run) = self.state.open_run()? else { return Ok(Outcome::Nothing) };
        if who == Recovery::Boot && is_for_the_machine(&run) {
            self.try_again(&run)?;
        }
        match (who, run.phase) {
            (Recovery::Guard, _) => self.guard(&run).map(|()| Outcome::Nothing),
            (Recovery::Boot, _) if !is_for_the_machine(&run) => Ok(Outcome::Nothing),
            (Recovery::Person, Phase::Staging) => {
                let bundle = self.reopen(&run)?;
                let walk = self.walk_of(run, bundle)?;
                self.go(walk)
            }
            (Recovery::Person, Phase::Switching) | (_, Phase::Trial) => {
                let walk = self.walk_of(run, None)?;
                self.go(walk)
            }
            _ => self.settle(run),
        }
    }

    /// Counted before anything is done, so that an attempt that gets killed counts too.
    fn try_again(&mut self, run: &Run) -> Result<()> {
        let boot = std::fs::read_to_string(BOOT_ID).map_err(|e| Error::io(BOOT_ID, e))?;
        if self.state.count_try(run.id, boot.trim())? <= TRIES {
            return Ok(());
        }
        let (act, product) = (run.act.clone(), run.product.clone());
        Err(ErrorKind::Unfinished { act, product, phase: run.phase.text() }.into())
    }

    /// Back to what ran before a change that is not committed.
    pub fn take_back(&mut self, run: Run) -> Result<Outcome> {
        let walk = self.walk_of(run, None)?;
        self.back_or_operator(&walk, &ErrorKind::Requested.to_string())?;
        Ok(Outcome::TakenBack)
    }

    /// Ends a run the short way: what is committed is cleared, everything else is taken back.
    pub(super) fn settle(&mut self, run: Run) -> Result<Outcome> {
        let walk = self.walk_of(run, None)?;
        if walk.run.phase == Phase::Committed {
            return self.go(walk);
        }
        let reason = if walk.run.reason.is_empty() { "it was cut off".to_owned() } else { walk.run.reason.clone() };
        self.back_or_operator(&walk, &reason)?;
        Ok(Outcome::TakenBack)
    }

    fn back_or_operator(&mut self, walk: &Walk, reason: &str) -> Result<()> {
        let taken = self.back(walk, reason);
        let how = if taken.is_ok() { "taken back" } else { "not everything could be taken back" };
        self.record_end(walk, audit::Outcome::Failed, &format!("{how}: {reason}"));
        taken.map_err(|undo| {
            let trouble = undo.to_string();
            ErrorKind::NeedsOperator { source: Box::new(undo), trouble }.into()
        })
    }

    /// Whether units and the network's rule may be those of the release that does not run by now: they are
    /// changed at the switch and are not the guard's to put back.
    fn is_between(&self, run: &Run) -> Result<bool> {
        let Some(former) = run.former else { return Ok(false) };
        let mut begun = false;
        for step in self.state.run_steps(run.id)? {
            begun |= matches!(step.state, StepState::Doing | StepState::Done)
                && Step::from_json(&step.step)? == Step::Switch;
        }
        let network = |id| Ok::<_, Error>(self.state.generation(id)?.parse()?.network);
        Ok(begun && network(former)? != network(run.generation)?)
    }

    /// Quick and without the engine: counts the boot and sets `current`, nothing else. Where the network of the
    /// release to go back to is another, no link is set, so that nothing starts on the wrong one: who finishes
    /// the run puts units and rule back, then the link.
    fn guard(&mut self, run: &Run) -> Result<()> {
        let back = match run.phase {
            Phase::Switching | Phase::Undoing => true,
            Phase::Trial => self.state.count_boot(run.id)? < 0,
            _ => false,
        };
        if !back {
            return Ok(());
        }
        if run.phase == Phase::Trial {
            let reason = ErrorKind::TrialOver { boots: 2 }.to_string();
            self.state.set_phase(run.id, Phase::Undoing, Some(&reason), &self.now)?;
        } else {
            self.state.set_phase(run.id, Phase::Undoing, None, &self.now)?;
        }
        self.state.keep_copy_or_none();
        let link = self.paths.current(&run.product);
        match run.former {
            Some(former) if !self.is_between(run)? => atomic::symlink(&link, Path::new(&former.to_string())),
            _ => atomic::remove_file(&link),
        }
    }

    /// The bundle that a run was begun with, proved again; none where it is not needed any more.
    fn reopen(&mut self, run: &Run) -> Result<Option<(ProvedBundle, Base)>> {
        let steps = self.state.run_steps(run.id)?;
        let needed = steps.first().is_some_and(|step| {
            step.state != crate::state::StepState::Done
                && step.step.get("step").and_then(|s| s.as_str()) == Some("store")
        });
        if !needed {
            return Ok(None);
        }
        let bundle = ProvedBundle::open(Path::new(&run.source), self.state)?;
        // What two persons approved when it began is gone past to its end.
        let dangerous = Dangerous::parse(&run.dangerous)?;
        SitePolicy::of(self.state, &bundle.manifest().product)?.check_but(bundle.verified(), &dangerous)?;
        let (expected, found) =
            (self.state.generation(run.generation)?.manifest_sha384, bundle.verified().sha384().to_string());
        if expected != found {
            return Err(ErrorKind::Unexpected { what: run.source.clone(), expected, found }.into());
        }
        let base = bundle.find_base(&Store::peek(&self.paths.store()), &mut |_| ())?;
        Ok(Some((bundle, base)))
    }

    /// Goes back to a kept generation: to its own data, or to a copy of the newest.
    pub fn rollback(&mut self, product: &str, to: Option<i64>, keep_data: bool) -> Result<Outcome> {
        let (generation, former, plan) = self.plan_rollback(product, to, keep_data)?;
        let source = if keep_data { "newest data" } else { "" };
        self.record_begun("rollback", &self.state.generation(generation)?, &plan, source)?;
        let generation = if keep_data { self.again(generation)? } else { generation };
        self.bring("rollback", generation, former, source, &plan)
    }

    /// What a rollback would do: the generation that comes, the one that runs, the plan.
    pub fn plan_rollback(&mut self, product: &str, to: Option<i64>, keep_data: bool) -> Result<(i64, i64, Plan)> {
        let missing = || ErrorKind::NotInstalled { product: product.to_owned() };
        let active = self.state.active_generation(product)?.ok_or_else(missing)?;
        let kept = self.state.kept_generations(product)?;
        let mut others = Vec::new();
        for generation in kept.into_iter().filter(|generation| generation.id != active.id) {
            let revoked = self.state.is_revoked(generation.id)?;
            if revoked && to == Some(generation.id) {
                let (product, generation) = (product.to_owned(), generation.id);
                return Err(ErrorKind::GenerationRevoked { product, generation }.into());
            }
            others.extend((!revoked).then_some(generation));
        }
        let target = others.into_iter().find(|generation| to.is_none_or(|id| generation.id == id));
        let target = target.ok_or(ErrorKind::NoGeneration { id: to.unwrap_or(0) })?;
        let manifest = target.parse()?;
        let (floor, found) = (self.state.epoch(product)?, manifest.lifecycle.security_epoch);
        if found < floor {
            let product = product.to_owned();
            return Err(ErrorKind::EpochForbids { product, generation: target.id, floor, found }.into());
        }
        if keep_data {
            let newer = active.parse()?;
            let passed = super::step::migrations(&newer.lifecycle, target.sequence).next();
            if let Some(migration) = passed.filter(|_| active.sequence > target.sequence) {
                let (product, migration) = (product.to_owned(), migration.name.clone());
                return Err(ErrorKind::NoWayBack { product, migration }.into());
            }
        }
        let disk = if keep_data { Needs::of_copy(self.state, &self.engine()?, active.id)? } else { Needs::default() };
        let plan = Plan::of("rollback", &target, &active, &[], self.state, disk)?;
        Ok((target.id, active.id, plan))
    }

    /// The same release as a generation of its own.
    pub(crate) fn again(&mut self, id: i64) -> Result<i64> {
        let like = self.state.generation(id)?;
        self.state.begin_generation(&like.parse()?, &like.manifest, &like.manifest_sha384, &self.now)
    }
}
