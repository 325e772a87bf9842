//! A change of what runs: install, update, roll back, restore. One walk over journalled steps, each
//! with its undoing; cut it anywhere and `resume` finishes it or takes it back
//! (`docs/spec/lifecycle.md`).
//!
//! Threats: a power cut between two steps or inside one; a disk that fills; a release that never
//! gets healthy; a second change meanwhile. Defences: a step's note (what it is about to make) is on
//! disk before it makes anything; steps can be done and undone twice; the running generation is not
//! touched before `Stop`, its data never; one symbolic link decides what runs; the installer's lock
//! and the journal's one open run keep others out.

mod activate;
mod anew;
mod ask;
pub mod command;
mod data;
mod prepare;
mod recover;
mod remove;
pub mod step;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bundle_format::digest::Sha384;
use bundle_format::manifest::Manifest;
use bundle_format::timestamp::Timestamp;

use crate::dangerous::Permitted;
use crate::engine::{Podman, Supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::health;
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::plan::Plan;
use crate::proof::{Base, ProvedBundle};
use crate::release::{Release, WorkloadFile};
use crate::signals::Stop;
use crate::state::{Generation, GenerationState, NewRun, Phase, Run, State, StepState};
use crate::store::Store;
use crate::{audit, tree, trust};

pub use recover::Recovery;
pub(crate) use recover::is_for_the_machine;
pub use remove::Data;
use step::Step;

/// Former generations that are kept with their data, unless the site says otherwise.
const KEEP: usize = 1;

/// Former generations that this site keeps.
pub(crate) fn keep(state: &State) -> Result<usize> {
    Ok(state.setting("keep-generations")?.and_then(|text| text.parse().ok()).unwrap_or(KEEP))
}

/// The installation of the manifest `sha384` that was cut off before its commit; the same command goes on with it.
fn cut_off_install(state: &State, sha384: &str) -> Result<Option<Run>> {
    let Some(run) = state.open_run()? else { return Ok(None) };
    let same = run.act == "install" && state.generation(run.generation)?.manifest_sha384 == sha384;
    Ok(Some(run).filter(|run| same && matches!(run.phase, Phase::Staging | Phase::Switching | Phase::Trial)))
}

/// What a change tells while it works.
pub trait Reporter {
    /// A step begins.
    fn step(&mut self, name: &str);
    /// Stored bytes of the bundle were proved and kept.
    fn bytes(&mut self, count: u64);
    /// Something worth a line.
    fn note(&mut self, text: &str);
}

/// Everything that a change works on. The caller holds the installer's lock.
pub struct Change<'a> {
    /// Where things lie.
    pub paths: &'a Paths,
    /// The journal and the record.
    pub state: &'a mut State,
    /// Facts about this machine.
    pub host: &'a HostFacts,
    /// The time, taken once for the whole run (TUF 1.0.34, 5.1).
    pub now: Timestamp,
    /// Whether somebody asked to stop.
    pub stop: Stop,
    /// How long the platform has to become healthy; none means what the release says.
    pub deadline: Option<Duration>,
    /// Who is told.
    pub report: &'a mut dyn Reporter,
}

/// How a change ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This generation is active now.
    Active {
        /// Its number.
        generation: i64,
    },
    /// The very bundle was active already and is healthy.
    AlreadyActive {
        /// Blobs of it that the store had lost and that came back.
        mended: usize,
    },
    /// The product is off this machine.
    Removed,
    /// What ran before runs.
    TakenBack,
    /// Nothing was left to do.
    Nothing,
}

/// One run with what its steps share.
struct Walk {
    run: Run,
    manifest: Manifest,
    bundle: Option<(ProvedBundle, Base)>,
    /// What the copies of each claim have seen; lost when the run is cut, then all is copied again.
    seen: BTreeMap<String, tree::Seen>,
}

impl Change<'_> {
    /// Installs `bundle`, which builds on `base`, walking the plan that is permitted. On an error everything
    /// is taken back; the error says whether that worked ([`ErrorKind::RolledBack`], exit 7;
    /// [`ErrorKind::NeedsOperator`], exit 8), unless nothing that ran was touched, which keeps its own
    /// class.
    pub fn install(&mut self, bundle: ProvedBundle, base: Base, permitted: &Permitted) -> Result<Outcome> {
        let plan = permitted.plan();
        let sha384 = bundle.verified().sha384().to_string();
        let source = std::path::absolute(bundle.path())
            .map_err(|e| Error::io(bundle.path().display().to_string(), e))?
            .display()
            .to_string();
        if let Some(run) = cut_off_install(self.state, &sha384)? {
            self.report.note("this installation was cut off before; it goes on");
            let walk = self.walk_of(run, Some((bundle, base)))?;
            return self.go(walk);
        }
        if let Some(run) = self.state.open_run()? {
            self.report.note(&format!("an earlier {} was cut off; that is settled first", run.act));
            self.settle(run)?;
        }
        let manifest = bundle.manifest().clone();
        let active = self.state.active_generation(&manifest.product)?;
        let mut detail = format!("plan SHA-384 {}, {source}", plan.sha384()?);
        if let Some(line) = permitted.line() {
            detail = format!("{line}; {detail}");
        }
        let record = audit::Record::new(&self.now, "install", audit::Outcome::Begun)
            .of(&manifest.product, &manifest.release)
            .subject(&bundle.verified().sha384())
            .detail(&detail);
        if active.as_ref().is_some_and(|active| active.manifest_sha384 == sha384) {
            return self.install_anew(bundle, &record);
        }
        self.state.audit()?.begin(&record)?;
        trust::take_new(self.state, bundle.new_roots(), &self.now)?;
        let id = self.state.begin_generation(&manifest, bundle.verified().bytes(), &sha384, &self.now)?;
        let run = self.begin("install", id, active.map(|active| active.id), &manifest.product, &source, plan)?;
        let walk = self.walk_of(run, Some((bundle, base)))?;
        self.go(walk)
    }

    /// Brings a generation of this machine into force: an earlier one, or one with other data.
    pub(crate) fn bring(
        &mut self,
        act: &str,
        generation: i64,
        former: i64,
        source: &str,
        plan: &Plan,
    ) -> Result<Outcome> {
        let product = self.state.generation(generation)?.product;
        let run = self.begin(act, generation, Some(former), &product, source, plan)?;
        let walk = self.walk_of(run, None)?;
        self.go(walk)
    }

    fn begin(
        &mut self,
        act: &str,
        generation: i64,
        former: Option<i64>,
        product: &str,
        source: &str,
        plan: &Plan,
    ) -> Result<Run> {
        let steps = plan.steps().iter().map(Step::to_json).collect::<Result<Vec<_>>>()?;
        let (plan_sha384, dangerous) = (plan.sha384()?.to_string(), plan.dangerous().text());
        let new = NewRun {
            act,
            product,
            generation,
            former,
            source,
            plan_sha384: &plan_sha384,
            dangerous: &dangerous,
            steps: &steps,
        };
        if let Err(error) = self.state.begin_run(&new, &self.now) {
            // A generation that was recorded for it leads nowhere.
            self.state.drop_orphans(&self.now)?;
            return Err(error);
        }
        self.open_run()
    }

    fn open_run(&self) -> Result<Run> {
        let missing =
            || ErrorKind::Unexpected { what: "journal".into(), expected: "an open run".into(), found: "none".into() };
        Ok(self.state.open_run()?.ok_or_else(missing)?)
    }

    fn walk_of(&self, run: Run, bundle: Option<(ProvedBundle, Base)>) -> Result<Walk> {
        let manifest = self.state.generation(run.generation)?.parse()?;
        Ok(Walk { run, manifest, bundle, seen: BTreeMap::new() })
    }

    /// Goes forward; what fails is taken back.
    fn go(&mut self, mut walk: Walk) -> Result<Outcome> {
        let Err(error) = self.forward(&mut walk) else { return self.settled(&walk, Ok(())) };
        let error = if self.stop.asked() { ErrorKind::Stopped.into() } else { error };
        // Where the journal itself fails, the phase on disk is what recovery goes by.
        let phase = self.state.open_run().ok().flatten().map_or(walk.run.phase, |run| run.phase);
        if phase != Phase::Committed {
            return Err(self.fail(&walk, phase, error));
        }
        // What is only to be cleared is no danger: one more try, then it is for a person.
        let again = self.forward(&mut walk);
        self.settled(&walk, again)
    }

    /// How a run ends of which nothing but clearing can be left.
    fn settled(&mut self, walk: &Walk, cleared: Result<()>) -> Result<Outcome> {
        let generation = walk.run.generation;
        match (walk.run.act.as_str(), cleared) {
            ("uninstall", Err(error)) => {
                self.record_end(walk, audit::Outcome::Failed, &error.to_string());
                let trouble = "the product is not off this machine yet; run: installer resume".into();
                Err(ErrorKind::NeedsOperator { source: Box::new(error), trouble }.into())
            }
            ("uninstall", Ok(())) => {
                self.record_end(walk, audit::Outcome::Ok, "");
                Ok(Outcome::Removed)
            }
            (_, Err(error)) => {
                let said = format!("active, but not everything old could be cleared: {error}; run: installer resume");
                self.report.note(&said);
                self.record_end(walk, audit::Outcome::Ok, &said);
                Ok(Outcome::Active { generation })
            }
            (_, Ok(())) => {
                self.record_end(walk, audit::Outcome::Ok, "");
                Ok(Outcome::Active { generation })
            }
        }
    }

    fn forward(&mut self, walk: &mut Walk) -> Result<()> {
        for step in self.state.run_steps(walk.run.id)? {
            if step.state == StepState::Done {
                continue;
            }
            let (ordinal, what) = (step.ordinal, Step::from_json(&step.step)?);
            if self.stop.asked() && what.phase() != Phase::Committed {
                return Err(ErrorKind::Stopped.into());
            }
            self.report.step(&what.title());
            if what.phase() != walk.run.phase {
                walk.run.phase = what.phase();
                self.state.set_phase(walk.run.id, walk.run.phase, None, &self.now)?;
            }
            let began = Instant::now();
            let note = self.note(walk, &what)?;
            self.state.step_doing(walk.run.id, ordinal, &note)?;
            // R-RCD-1: nothing is made before the copy of the record holds its note.
            self.state.keep_copy()?;
            self.perform(walk, &what)?;
            self.state.step_done(walk.run.id, ordinal, began.elapsed())?;
        }
        self.state.set_phase(walk.run.id, Phase::Done, None, &self.now)?;
        self.state.keep_copy_or_warn();
        Ok(())
    }

    /// Takes back what failed; the error that tells how that went.
    fn fail(&mut self, walk: &Walk, phase: Phase, error: Error) -> Error {
        self.report.note(&format!("failed: {error}; taking back what was made"));
        // A workload that does not start, or a migration that fails, told why in its container; that goes with it.
        if phase == Phase::Trial
            && let (Ok(podman), Ok((release, _))) = (self.engine(), self.release(&walk.manifest))
        {
            health::keep_logs(&podman, self.paths, &release);
        }
        self.record_end(walk, audit::Outcome::Failed, &error.to_string());
        match self.back(walk, &error.to_string()) {
            Err(undo) => ErrorKind::NeedsOperator { source: Box::new(error), trouble: undo.to_string() }.into(),
            Ok(()) if phase == Phase::Staging => error,
            Ok(()) => ErrorKind::RolledBack { source: Box::new(error) }.into(),
        }
    }

    /// Takes everything back, newest first. Every step is tried; the first trouble is told.
    fn back(&mut self, walk: &Walk, reason: &str) -> Result<()> {
        self.state.set_phase(walk.run.id, Phase::Undoing, Some(reason), &self.now)?;
        // A copy that says to go forward must not outlive this.
        self.state.keep_copy_or_none();
        let mut trouble = Vec::new();
        for step in self.state.run_steps(walk.run.id)?.into_iter().rev() {
            if !matches!(step.state, StepState::Doing | StepState::Done) {
                continue;
            }
            let undone = Step::from_json(&step.step).and_then(|what| self.undo(walk, &what, &step.note));
            // Behind one that failed nothing counts as undone: it is undone again in the same order later,
            // because a later undoing may rely on what an earlier one left (a pod of the same name).
            let undone = undone.and_then(|()| {
                if trouble.is_empty() { self.state.step_undone(walk.run.id, step.ordinal) } else { Ok(()) }
            });
            trouble.extend(undone.err());
        }
        if let Some(first) = trouble.into_iter().next() {
            return Err(first);
        }
        let kept = self.state.kept_generations(&walk.run.product)?;
        let before = kept.iter().find(|generation| generation.id == walk.run.generation);
        let returns = before.is_some();
        let state = match before.map(|generation| generation.state.as_str()) {
            Some("active") => GenerationState::Active,
            Some(_) => GenerationState::Superseded,
            None => GenerationState::Failed,
        };
        // Undoing reads workloads in the store: a copy that asks for it again must not outlive them.
        self.state.keep_copy_or_none();
        // A run that is taken back keeps nothing in the store; it is over only when that is gone.
        self.clear_store()?;
        if !returns {
            self.state.forget_generation(walk.run.generation)?;
        }
        self.state.end_undone(&walk.run, state, &self.now)?;
        self.state.keep_copy_or_warn();
        Ok(())
    }

    pub(crate) fn engine(&self) -> Result<Podman> {
        let missing = || ErrorKind::NoEngine { os: self.host.os.clone() };
        Ok(Podman::detect(self.paths, self.host)?.ok_or_else(missing)?)
    }

    fn supervisor(&self, podman: &Podman) -> Supervisor {
        Supervisor::choose(self.host, podman)
    }

    /// A generation's release and its workloads as the engine sees them, through `current`.
    fn release(&self, manifest: &Manifest) -> Result<(Release, Vec<WorkloadFile>)> {
        let release = Release::load(manifest, &Store::peek(&self.paths.store()))?;
        let files = release.files(&self.paths.current(&manifest.product));
        Ok((release, files))
    }

    /// Puts on record that an act on `generation` begins; nothing is changed before that is on disk.
    pub(crate) fn record_begun(&self, act: &str, generation: &Generation, plan: &Plan, source: &str) -> Result<()> {
        let detail = format!("plan SHA-384 {}, {source}", plan.sha384()?);
        let record = audit::Record::new(&self.now, act, audit::Outcome::Begun)
            .of(&generation.product, &generation.release)
            .subject(&Sha384::parse(&generation.manifest_sha384)?)
            .detail(detail.trim_end_matches(", "));
        self.state.audit()?.begin(&record).map(drop)
    }

    /// Puts on record how it ended; a failure to write that must not hide the outcome itself.
    fn record_end(&self, walk: &Walk, result: audit::Outcome, detail: &str) {
        let (product, release) = (&walk.manifest.product, &walk.manifest.release);
        let record = audit::Record::new(&self.now, &walk.run.act, result).of(product, release).detail(detail);
        audit::append_or_warn(self.paths, &record);
    }
}
