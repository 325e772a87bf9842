//! The commands that change what runs, or its data.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use clap::Subcommand;

use super::recover::is_for_the_machine;
use super::{Change, Data, Outcome, Recovery, Reporter, cut_off_install};
use crate::audit::anchor;
use crate::audit::head::Head;
use crate::audit::refusal::{Act, Kind};
use crate::audit::standing::Standing;
use crate::backup;
use crate::backup::command::BackupCommand;
use crate::cli::{findings, print, print_json};
use crate::dangerous::Dangerous;
use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::lock::Lock;
use crate::moment::{Moment, run_clock};
use crate::paths::Paths;
use crate::plan::Plan;
use crate::preflight::{Finding, Needs};
use crate::progress::Progress;
use crate::proof::{ProvedBundle, SitePolicy, clock};
use crate::signals::Stop;
use crate::state::{Generation, Phase, State};
use crate::store::Store;
use crate::{attachments, audit, banner, check, dangerous, preflight, record};

/// Commands that change what runs, or its data.
#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// Installs a bundle, or updates to it.
    Install {
        /// The bundle.
        bundle: PathBuf,
        /// Seconds that the platform has to become healthy, and each migration to end (default: what the release says).
        #[arg(long)]
        health_timeout: Option<u64>,
        /// Findings that are gone past.
        #[command(flatten)]
        options: preflight::Options,
        /// What two persons approved to go past.
        #[command(flatten)]
        dangerous: dangerous::Flags,
        /// An approval of the plan (bundle-builder approve), once for each person.
        #[arg(long = "approval", value_name = "FILE")]
        approvals: Vec<PathBuf>,
    },
    /// Goes on with a change that was cut off.
    Resume {
        /// At the machine's start, before any workload: only decides which release starts.
        #[arg(long, hide = true, conflicts_with = "boot")]
        guard: bool,
        /// By the machine, after its start and every minute: quietly finishes what was decided.
        #[arg(long, hide = true)]
        boot: bool,
    },
    /// Takes back a change that is not over, or goes back to a former generation and its data.
    Rollback {
        /// The product, where several are installed.
        #[arg(long)]
        product: Option<String>,
        /// The generation (installer status lists them; default: the newest before the active one).
        #[arg(long)]
        to: Option<i64>,
        /// With the newest data instead of that of the time of the switch.
        #[arg(long)]
        keep_data: bool,
        /// Only shows the plan.
        #[arg(long)]
        plan: bool,
        /// Findings that are gone past.
        #[command(flatten)]
        options: preflight::Options,
    },
    /// Backs up the platform's data while it runs.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Brings the data of a backup back.
    Restore {
        /// The backup's folder.
        backup: PathBuf,
        /// Findings that are gone past.
        #[command(flatten)]
        options: preflight::Options,
    },
    /// Compares store, units and running images with the signed manifest.
    Check,
    /// Puts back what differs from the signed manifest.
    Repair {
        /// Instead, puts back this machine's own record from its second copy, if it is damaged.
        #[arg(long)]
        record: bool,
    },
    /// Shows the site's settings, or sets one.
    Settings {
        /// The setting.
        #[arg(value_parser = ["keep-generations"], requires = "value")]
        key: Option<String>,
        /// Its value: former generations that are kept with their data, 0 to 20.
        #[arg(value_parser = clap::value_parser!(u32).range(0..=20))]
        value: Option<u32>,
    },
}

/// What every command here shares.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// Where things lie.
    pub paths: &'a Paths,
    /// Machine-readable output.
    pub json: bool,
    /// No colour.
    pub no_color: bool,
    /// The question is answered.
    pub yes: bool,
    /// What is known of the act, for its refusal's record.
    pub act: &'a Act,
}

/// Shows steps on standard error.
struct Told {
    progress: Progress,
}

impl Reporter for Told {
    fn step(&mut self, name: &str) {
        self.progress.note(&format!("step: {name}"));
    }

    fn bytes(&mut self, count: u64) {
        self.progress.add(count);
    }

    fn note(&mut self, text: &str) {
        self.progress.note(&format!("  {text}"));
    }
}

impl ChangeCommand {
    /// What it is called on record; nothing for those that only show what is here.
    pub const fn act(&self) -> Option<(&'static str, Kind)> {
        Some(match self {
            Self::Install { .. } => ("install", Kind::Change),
            Self::Resume { .. } => ("resume", Kind::Change),
            Self::Rollback { .. } => ("rollback", Kind::Change),
            Self::Backup(BackupCommand::Make { .. }) => ("backup", Kind::Duty),
            Self::Backup(BackupCommand::Verify { .. }) => ("backup verify", Kind::Duty),
            Self::Backup(BackupCommand::List) => return None,
            Self::Restore { .. } => ("restore", Kind::Change),
            Self::Check => ("check", Kind::Duty),
            Self::Repair { .. } => ("repair", Kind::Change),
            Self::Settings { .. } => ("settings", Kind::Change),
        })
    }

    /// Runs the command.
    pub fn run(&self, desk: &Desk<'_>) -> Result<()> {
        match self {
            Self::Install { bundle, health_timeout, options, dangerous, approvals } => {
                let deadline = health_timeout.map(Duration::from_secs);
                desk.install(bundle, deadline, options, &dangerous.dangerous(), approvals)
            }
            Self::Resume { guard, boot } => desk.resume(match (guard, boot) {
                (true, _) => Recovery::Guard,
                (_, true) => Recovery::Boot,
                _ => Recovery::Person,
            }),
            Self::Rollback { product, to, keep_data, plan, options } => {
                desk.rollback(product.as_deref(), *to, *keep_data, *plan, options)
            }
            Self::Backup(command) => command.run(desk),
            Self::Restore { backup, options } => desk.restore(backup, options),
            Self::Check => desk.check(),
            Self::Repair { record: false } => desk.repair(),
            Self::Repair { record: true } => desk.repair_record(),
            Self::Settings { key, value } => desk.settings(key.as_deref().zip(*value)),
        }
    }
}

impl Desk<'_> {
    fn install(
        &self,
        bundle: &Path,
        deadline: Option<Duration>,
        options: &preflight::Options,
        dangerous: &Dangerous,
        approvals: &[PathBuf],
    ) -> Result<()> {
        let lock = Lock::take(&self.paths.lock(), "install")?;
        let mut state = State::open(&self.paths.database())?;
        Moment::read(&state)?.record(&state)?;
        let proved = ProvedBundle::open(bundle, &state)?;
        banner::open(&proved.manifest().marking, self.no_color);
        self.act.seen(&proved.manifest().product, &proved.manifest().release, &proved.verified().sha384());
        let site = SitePolicy::of(&state, &proved.manifest().product)?;
        site.check_but(proved.verified(), dangerous)?;
        site.refuse_unneeded(proved.verified(), dangerous)?;
        self.let_go(&mut state)?;
        // A log that does not prove is refused for what it is, before the machine is judged.
        state.audit()?.head()?;
        let host = HostFacts::read(Path::new("/"))?;
        let base = proved.find_base_over(&state, &Store::peek(&self.paths.store()))?;
        attachments::check(&proved, &base, &site.policy)?;
        let plan = Plan::make(&proved, &base, &state, self.paths, &host, dangerous)?;
        let permitted = dangerous::permit(plan, approvals, &proved, &state)?;
        let plan = permitted.plan();
        let mut looked = Vec::new();
        // What is gone on with passed its look when it began, and holds ports and room by now.
        let goes_on = cut_off_install(&state, &proved.verified().sha384().to_string())?.is_some();
        if !plan.is_noop() && !goes_on {
            looked = findings(&proved, &base, &state, self.paths, plan.disk())?;
            options.apply(&mut looked)?;
            if !self.json {
                print(&preflight::lines(&looked))?;
            }
            preflight::refuse_unfit(&looked)?;
        }
        if !self.json {
            print(&plan.lines()?)?;
        }
        let _lock = self.confirm_unlocked("Install this?", lock, "install", &mut state)?;
        let (manifest, now) = (proved.manifest(), run_clock());
        preflight::record(&state, &looked, &now, (&manifest.product, &manifest.release), &proved.verified().sha384())?;
        let total = proved.manifest().stored_size();
        self.change(&mut state, &host, deadline, total, |change| change.install(proved, base, &permitted))
    }

    /// Takes a product off the machine.
    pub(crate) fn uninstall(&self, product: &str, with_data: bool) -> Result<()> {
        let lock = Lock::take(&self.paths.lock(), "uninstall")?;
        let mut state = State::open(&self.paths.database())?;
        let question = if with_data { "Remove the platform and its data?" } else { "Remove the platform?" };
        let _lock = self.confirm_unlocked(question, lock, "uninstall", &mut state)?;
        let data = if with_data { Data::Remove } else { Data::Keep };
        self.let_go(&mut state)?;
        Moment::read(&state)?.record(&state)?;
        let host = HostFacts::read(Path::new("/"))?;
        self.change(&mut state, &host, None, 0, |change| change.uninstall(product, data))
    }

    fn resume(&self, who: Recovery) -> Result<()> {
        let mut state = State::open(&self.paths.database())?;
        let by_itself = who == Recovery::Boot;
        // Every minute: not even for a moment in the way of a person, where there is nothing to do.
        if by_itself && !is_left_behind(&state)? {
            return Ok(());
        }
        let _lock = match Lock::take(&self.paths.lock(), "resume") {
            Err(error) if by_itself && matches!(error.kind(), ErrorKind::Locked { .. }) => return Ok(()),
            other => other?,
        };
        self.banner(&state)?;
        if who != Recovery::Guard {
            self.let_go(&mut state)?;
        }
        if who == Recovery::Person {
            Moment::read(&state)?.record_or_warn(&state);
        }
        let host = HostFacts::read(Path::new("/"))?;
        self.change(&mut state, &host, None, 0, |change| change.resume(who))
    }

    fn rollback(
        &self,
        product: Option<&str>,
        to: Option<i64>,
        keep_data: bool,
        plan_only: bool,
        options: &preflight::Options,
    ) -> Result<()> {
        let lock = Lock::take(&self.paths.lock(), "rollback")?;
        let mut state = State::open(&self.paths.database())?;
        let (open, moment) = (state.open_run()?, Moment::read(&state)?);
        if open.is_some() {
            moment.record_or_warn(&state);
        } else {
            moment.record(&state)?;
        }
        self.banner(&state)?;
        self.let_go(&mut state)?;
        let host = HostFacts::read(Path::new("/"))?;
        let committed = match open {
            // What is committed goes only forward, and of an uninstallation nothing is left to go back to.
            Some(run) if run.phase == Phase::Committed && run.act == "uninstall" => {
                let (act, product, phase) = (run.act, run.product, run.phase.text());
                return Err(ErrorKind::Unfinished { act, product, phase }.into());
            }
            Some(run) if run.phase == Phase::Committed => {
                print(&[format!(
                    "the {} of {} is committed: what is left of it is cleared first",
                    run.act, run.product
                )])?;
                Some(run)
            }
            Some(run) => {
                print(&[format!(
                    "the {} of {} that is not over ({}) is taken back",
                    run.act,
                    run.product,
                    run.phase.text()
                )])?;
                if plan_only {
                    return Ok(());
                }
                let _lock = self.confirm_unlocked("Take it back?", lock, "rollback", &mut state)?;
                return self.change(&mut state, &host, None, 0, |change| change.take_back(run));
            }
            None => None,
        };
        let active = chosen(&state, product)?;
        let product = active.product.clone();
        // Nothing is listened for yet: a signal at the question ends the process, as it does at every other.
        let (stop, plan) = (Stop::default(), |change: &mut Change<'_>| change.plan_rollback(&product, to, keep_data));
        let (_, _, plan) = self.change_quietly(&mut state, &host, stop, plan)?;
        if self.json {
            print_json(&plan.to_json()?)?;
        } else {
            print(&plan.lines()?)?;
        }
        // The data of that time is there already; only a copy needs room.
        let looked = if keep_data { self.look_for_room(plan.disk(), &active, &host, options)? } else { Vec::new() };
        if plan_only {
            return Ok(());
        }
        if !keep_data && !self.json {
            print(&["what was written since the switch is not in that data; --keep-data takes the newest".into()])?;
        }
        let _lock = self.confirm_unlocked("Go back?", lock, "rollback", &mut state)?;
        record_accepted(&state, &looked, &active)?;
        self.change(&mut state, &host, None, 0, |change| {
            committed.map(|run| change.settle(run)).transpose()?;
            change.rollback(&product, to, keep_data)
        })
    }

    /// Refuses where what is to be written does not fit; what was looked at, with what a person goes past.
    pub(crate) fn look_for_room(
        &self,
        needs: &Needs,
        active: &Generation,
        host: &HostFacts,
        options: &preflight::Options,
    ) -> Result<Vec<Finding>> {
        let podman = Podman::detect(self.paths, host)?;
        let mut looked = preflight::room(needs, self.paths, &active.product, podman.as_ref())?;
        options.apply(&mut looked)?;
        if !self.json {
            print(&preflight::lines(&looked))?;
        }
        preflight::refuse_unfit(&looked)?;
        Ok(looked)
    }

    fn check(&self) -> Result<()> {
        let state = State::open(&self.paths.database())?;
        self.banner(&state)?;
        let host = HostFacts::read(Path::new("/"))?;
        let mut progress = Progress::new("check", check::bytes(&state)?, self.json);
        let drift = check::look(&state, self.paths, &host, &mut |bytes| progress.add(bytes));
        progress.finish();
        check::record_look(&state, self.paths, &drift)?;
        let drift = drift?;
        if self.json {
            print_json(&serde_json::json!({"differences": drift}))?;
        } else if drift.is_empty() {
            print(&["store, units, networks and running images are as signed".into()])?;
        }
        if drift.is_empty() { Ok(()) } else { Err(ErrorKind::Drift { differences: drift.join("; ") }.into()) }
    }

    fn repair(&self) -> Result<()> {
        let lock = Lock::take(&self.paths.lock(), "repair")?;
        let mut state = State::open(&self.paths.database())?;
        Moment::read(&state)?.record(&state)?;
        self.let_go(&mut state)?;
        refuse_unfinished(&state)?;
        self.banner(&state)?;
        let host = HostFacts::read(Path::new("/"))?;
        let _lock = self.confirm_unlocked("Put back what differs?", lock, "repair", &mut state)?;
        self.change_quietly(&mut state, &host, Stop::listen()?, |change| {
            let repaired = check::repair(change)?;
            if self.json {
                print_json(&serde_json::json!({"repaired": repaired.done, "not_repaired": repaired.faults}))?;
            } else {
                print(&repaired.done)?;
            }
            repaired.refuse_faults()
        })
    }

    fn repair_record(&self) -> Result<()> {
        // Kept while it asks: without a record that reads nothing else can be at work.
        let _lock = Lock::take(&self.paths.lock(), "repair")?;
        let Some(damage) = record::damage(self.paths)? else {
            let text = "the record is sound; nothing was changed";
            return if self.json { print_json(&serde_json::json!({"put_back": false})) } else { print(&[text.into()]) };
        };
        if !self.json {
            print(std::slice::from_ref(&damage))?;
        }
        self.confirm("Put the record back from its copy?")?;
        let mut done = record::put_back(self.paths, &damage, &run_clock())?;
        self.banner(&done.state)?;
        // Whether a backup held pods still, the copy does not say: each is let go by the next command.
        backup::suspect(&mut done.state, self.paths)?;
        let open = done.state.open_run()?;
        if self.json {
            return print_json(&serde_json::json!({
                "put_back": true, "as_of": done.as_of, "aside": done.aside.display().to_string(),
                "unfinished": open.map(|run| run.phase.text()),
            }));
        }
        let mut lines = vec![
            format!("the record is as of record {} of the audit log, behind which nothing was changed", done.as_of),
            format!("the damaged one is kept in {}", done.aside.display()),
        ];
        lines.push(match open {
            Some(run) => format!(
                "the {} of {} is not over ({}); run {}",
                run.act,
                run.product,
                run.phase.text(),
                run.phase.ways_on()
            ),
            None => "nothing was open; run: installer check".into(),
        });
        print(&lines)
    }

    fn settings(&self, set: Option<(&str, u32)>) -> Result<()> {
        let _lock = Lock::take(&self.paths.lock(), "settings")?;
        let mut state = State::open(&self.paths.database())?;
        if let Some((key, value)) = set {
            let detail = format!("{key} {value}");
            let record = |result| audit::Record::new(&clock(), "settings", result).detail(&detail);
            state.audit()?.begin(&record(audit::Outcome::Begun))?;
            state.set_setting(key, &value.to_string())?;
            state.keep_copy_or_warn();
            audit::append_or_warn(self.paths, &record(audit::Outcome::Ok));
        }
        let keep = super::keep(&state)?.to_string();
        if self.json {
            return print_json(&serde_json::json!({"keep-generations": keep}));
        }
        print(&[format!("keep-generations {keep}")])
    }

    /// What a backup that was cut off holds still goes on, before anything else is done.
    pub(crate) fn let_go(&self, state: &mut State) -> Result<()> {
        crate::atomic::sweep(self.paths.state_dir())?;
        state.drop_orphans(&clock())?;
        // An installer before this one kept none; a run that could not renew it took it away.
        if !self.paths.database_copy().exists() {
            state.keep_copy_or_warn();
        }
        if !backup::holds(state)? {
            return Ok(());
        }
        let host = HostFacts::read(Path::new("/"))?;
        match Podman::detect(self.paths, &host)? {
            Some(podman) => backup::let_go(&podman, state),
            None => Ok(()),
        }
    }

    /// The highest marking of what is here.
    pub(crate) fn banner(&self, state: &State) -> Result<()> {
        let mut markings = Vec::new();
        for generation in state.active_generations()? {
            markings.push(Marking::parse(&generation.marking)?);
        }
        if let Some(run) = state.open_run()? {
            markings.push(Marking::parse(&state.generation(run.generation)?.marking)?);
        }
        if let Some(marking) = markings.iter().max_by_key(|marking| marking.level()) {
            banner::open(marking, self.no_color);
        }
        Ok(())
    }

    fn change_quietly<T>(
        &self,
        state: &mut State,
        host: &HostFacts,
        stop: Stop,
        act: impl FnOnce(&mut Change<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut report = Told { progress: Progress::new("", 0, self.json) };
        act(&mut Change { paths: self.paths, state, host, now: run_clock(), stop, deadline: None, report: &mut report })
    }

    pub(crate) fn change(
        &self,
        state: &mut State,
        host: &HostFacts,
        deadline: Option<Duration>,
        total: u64,
        act: impl FnOnce(&mut Change<'_>) -> Result<Outcome>,
    ) -> Result<()> {
        let mut report = Told { progress: Progress::new("store", total, self.json) };
        let outcome = act(&mut Change {
            paths: self.paths,
            state,
            host,
            now: run_clock(),
            stop: Stop::listen()?,
            deadline,
            report: &mut report,
        })?;
        report.progress.finish();
        let text = match &outcome {
            Outcome::Active { generation } => format!("active and healthy: generation {generation}"),
            Outcome::AlreadyActive { mended: 0 } => {
                "this very bundle is active and healthy; nothing was changed".into()
            }
            Outcome::AlreadyActive { mended } => format!(
                "this very bundle is active and healthy; {mended} blobs that the store had lost came back, nothing else was changed"
            ),
            Outcome::Removed => "off this machine".into(),
            Outcome::TakenBack => "taken back: what ran before runs".into(),
            Outcome::Nothing => "nothing was left to do".into(),
        };
        let changed = !matches!(outcome, Outcome::AlreadyActive { .. } | Outcome::Nothing);
        let head = if changed { self.head() } else { None };
        if self.json {
            let head = head.as_ref().map(Head::anchor);
            return print_json(&serde_json::json!({"outcome": text, "audit_head": head}));
        }
        print(&[vec![text], head.as_ref().map(anchor::line).into_iter().collect()].concat())
    }

    /// Where the audit log ends, to be written down. The outcome stands without it; what is wrong with the log is
    /// told by `status` and by the next act.
    fn head(&self) -> Option<Head> {
        match Standing::read(self.paths) {
            Standing::Sound { head, .. } => Some(head),
            Standing::NotBegun | Standing::Faulty { .. } => None,
        }
    }
}

/// What a person goes past, on record before anything relies on it.
pub(crate) fn record_accepted(state: &State, looked: &[Finding], active: &Generation) -> Result<()> {
    let manifest = Sha384::parse(&active.manifest_sha384)?;
    preflight::record(state, looked, &run_clock(), (&active.product, &active.release), &manifest)
}

/// Whether an installer that ended in the middle left something that the machine ends by itself: a run, or
/// pods that a backup held still.
fn is_left_behind(state: &State) -> Result<bool> {
    Ok(state.open_run()?.is_some_and(|run| is_for_the_machine(&run)) || backup::holds(state)?)
}

pub(crate) fn refuse_unfinished(state: &State) -> Result<()> {
    match state.open_run()? {
        Some(run) => Err(ErrorKind::Unfinished { act: run.act, product: run.product, phase: run.phase.text() }.into()),
        None => Ok(()),
    }
}

/// The active generation of the product that is named, or of the only one.
pub(crate) fn chosen(state: &State, product: Option<&str>) -> Result<Generation> {
    let missing = |product: &str| Error::from(ErrorKind::NotInstalled { product: product.to_owned() });
    if let Some(product) = product {
        return state.active_generation(product)?.ok_or_else(|| missing(product));
    }
    let mut all = state.active_generations()?;
    if all.len() > 1 {
        let names: Vec<&str> = all.iter().map(|generation| generation.product.as_str()).collect();
        return Err(ErrorKind::Usage {
            why: format!("several products are installed; give --product: {}", names.join(", ")),
        }
        .into());
    }
    all.pop().ok_or_else(|| missing("a product"))
}
