//! `backup` and `restore`: the commands that copy the platform's data, or bring it back.

use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use clap::Subcommand;

use super::{Backup, Job, List, list};
use crate::change::command::{Desk, chosen, record_accepted, refuse_unfinished};
use crate::change::is_for_the_machine;
use crate::cli::{print, print_json};
use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::lock::{BACKUP, Lock};
use crate::moment::{Moment, run_clock};
use crate::plan::Plan;
use crate::preflight::{self, Needs};
use crate::release::Release;
use crate::signals::Stop;
use crate::state::{Generation, State};
use crate::store::Store;
use crate::{audit, banner};

/// Backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Makes one.
    Make {
        /// The product, where several are installed.
        #[arg(long)]
        product: Option<String>,
        /// By the timer: of every product, and quietly not at all while something else is at work.
        #[arg(long, hide = true, conflicts_with = "product")]
        scheduled: bool,
    },
    /// Lists them, oldest first.
    List,
    /// Reads every file of one back.
    Verify {
        /// Its folder.
        backup: PathBuf,
    },
}

impl BackupCommand {
    /// Runs the command.
    pub fn run(&self, desk: &Desk<'_>) -> Result<()> {
        match self {
            Self::Make { scheduled: true, .. } => desk.back_up_all(),
            Self::Make { product, .. } => desk.back_up(product.as_deref()),
            Self::List => desk.list_backups(),
            Self::Verify { backup } => desk.verify_backup(backup),
        }
    }
}

impl Desk<'_> {
    /// A person's backup of one product.
    fn back_up(&self, product: Option<&str>) -> Result<()> {
        let mut state = State::open(&self.paths.database())?;
        let _lock = Lock::take(&self.paths.lock(), BACKUP)?;
        self.let_go(&mut state)?;
        refuse_unfinished(&state)?;
        let generation = chosen(&state, product)?;
        banner::open(&Marking::parse(&generation.marking)?, self.no_color);
        self.act.seen(&generation.product, &generation.release, &Sha384::parse(&generation.manifest_sha384)?);
        if generation.parse()?.lifecycle.data.is_empty() {
            return print(&[format!("{} declares no data to back up", generation.product)]);
        }
        let made = self.make_backup(&mut state, &generation, &Stop::listen()?);
        if let Err(error) = &made {
            self.record_failure(&generation, error);
        }
        self.tell_made(&[made?])
    }

    /// The timer's: every product that has data, also where that of another one fails. A change that was cut off
    /// while it was staged changed nothing of what runs, so the data is backed up all the same, however long it
    /// waits for a person; and so while a question waits for its answer, which holds no lock. While another
    /// installer is at work, as in a long step that fills the store, none is made: `status` has a problem when
    /// that lasts ([`crate::status`]).
    fn back_up_all(&self) -> Result<()> {
        let mut state = State::open(&self.paths.database())?;
        // Not even for a moment in the way of a person, where there is nothing to do.
        if is_at_work(&state)? || !state.has_data()? {
            return Ok(());
        }
        let _lock = match Lock::take(&self.paths.lock(), BACKUP) {
            Err(error) if matches!(error.kind(), ErrorKind::Locked { .. }) => return Ok(()),
            other => other?,
        };
        if is_at_work(&state)? {
            return Ok(());
        }
        self.let_go(&mut state)?;
        self.banner(&state)?;
        let stop = Stop::listen()?;
        let (mut made, mut failed) = (Vec::new(), None);
        for generation in state.active_generations()? {
            if generation.parse()?.lifecycle.data.is_empty() {
                continue;
            }
            match self.make_backup(&mut state, &generation, &stop) {
                Ok(one) => made.push(one),
                Err(error) => {
                    self.record_failure(&generation, &error);
                    failed.get_or_insert(error);
                }
            }
        }
        self.tell_made(&made)?;
        failed.map_or(Ok(()), Err)
    }

    /// Makes one where there is room for it, and puts it on record. One that is stopped lets go the pods that it
    /// held still.
    fn make_backup(&self, state: &mut State, generation: &Generation, stop: &Stop) -> Result<Made> {
        let host = HostFacts::read(Path::new("/"))?;
        let manifest = generation.parse()?;
        let podman = Podman::detect(self.paths, &host)?.ok_or(ErrorKind::NoEngine { os: host.os.clone() })?;
        let needs = Needs::of_backup(state, &podman, generation.id, &manifest)?;
        preflight::refuse_unfit(&preflight::room(&needs, self.paths, &generation.product, Some(&podman))?)?;
        let release = Release::load(&manifest, &Store::peek(&self.paths.store()))?;
        let volumes = state.volumes_of(generation.id, &release)?;
        let now = run_clock();
        let job = Job {
            podman: &podman,
            paths: self.paths,
            generation,
            manifest: &manifest,
            release: &release,
            volumes: &volumes,
            now: &now,
            stop,
        };
        let mut lines = Vec::new();
        let folder = job.run(state, &mut |line| lines.push(line.to_owned()))?;
        let record = audit::Record::new(&now, "backup", audit::Outcome::Ok)
            .of(&generation.product, &generation.release)
            .subject(&Sha384::parse(&generation.manifest_sha384)?);
        state.audit()?.append(&record.detail(&folder.display().to_string()))?;
        Ok(Made { product: generation.product.clone(), folder, lines })
    }

    /// A backup that failed is on record by its product; so nothing more is recorded for the command.
    fn record_failure(&self, generation: &Generation, error: &Error) {
        let record = audit::Record::new(&run_clock(), "backup", audit::Outcome::Failed);
        let record = record.of(&generation.product, &generation.release).detail(&error.to_string());
        // A digest of the record's own that is none is the more reason to put this on record.
        let record = match Sha384::parse(&generation.manifest_sha384) {
            Ok(manifest) => record.subject(&manifest),
            Err(_) => record,
        };
        audit::append_or_warn(self.paths, &record);
    }

    fn tell_made(&self, made: &[Made]) -> Result<()> {
        for one in made {
            if self.json {
                print_json(&serde_json::json!({"product": one.product, "backup": one.folder.display().to_string()}))?;
            } else {
                print(&one.lines)?;
                print(&[format!("backup {}", one.folder.display())])?;
            }
        }
        Ok(())
    }

    fn list_backups(&self) -> Result<()> {
        let state = State::open(&self.paths.database())?;
        self.banner(&state)?;
        let mut shown = Vec::new();
        for generation in state.active_generations()? {
            for folder in list(&self.paths.backups(&generation.product))? {
                let backup = Backup::open(&folder)?;
                shown.push((folder, backup.list().clone()));
            }
        }
        if self.json {
            let entry = |(folder, list): &(PathBuf, List)| {
                serde_json::json!({"path": folder.display().to_string(), "at": list.at.as_str(), "product": list.product,
                    "release": list.release, "sequence": list.sequence, "entries": list.entries})
            };
            return print_json(&serde_json::json!({"backups": shown.iter().map(entry).collect::<Vec<_>>()}));
        }
        let line = |(folder, list): &(PathBuf, List)| {
            let bytes: u64 = list.entries.iter().map(|entry| entry.size).sum();
            format!("{}  {} {} ({bytes} bytes)  {}", list.at, list.product, list.release, folder.display())
        };
        print(&shown.iter().map(line).collect::<Vec<_>>())
    }

    fn verify_backup(&self, folder: &Path) -> Result<()> {
        let backup = Backup::open(folder)?;
        banner::open(&backup.list().marking, self.no_color);
        let list = backup.list();
        let manifest = Sha384::parse(&list.manifest_sha384)?;
        self.act.seen(&list.product, &list.release, &manifest);
        backup.check()?;
        let record = audit::Record::new(&run_clock(), "backup verify", audit::Outcome::Ok);
        let record = record.of(&list.product, &list.release).subject(&manifest);
        audit::append_look(self.paths, &record.detail(&folder.display().to_string()));
        print(&[format!("{}: every file is as it was written", folder.display())])
    }

    /// A new generation of what runs, with the data of a backup.
    pub(crate) fn restore(&self, folder: &Path, options: &preflight::Options) -> Result<()> {
        let lock = Lock::take(&self.paths.lock(), "restore")?;
        let mut state = State::open(&self.paths.database())?;
        Moment::read(&state)?.record(&state)?;
        self.let_go(&mut state)?;
        refuse_unfinished(&state)?;
        let folder = std::path::absolute(folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
        let backup = Backup::open(&folder)?;
        banner::open(&backup.list().marking, self.no_color);
        let active = chosen(&state, Some(&backup.list().product))?;
        backup.check_fits(&active.parse()?)?;
        backup.check()?;
        let host = HostFacts::read(Path::new("/"))?;
        let podman = Podman::detect(self.paths, &host)?.ok_or(ErrorKind::NoEngine { os: host.os.clone() })?;
        let needs = Needs::of_restore(&state, &podman, active.id, &backup)?;
        let plan = Plan::of("restore", &active, &active, &backup.loads(), &state, needs)?;
        if self.json {
            print_json(&plan.to_json()?)?;
        } else {
            print(&plan.lines()?)?;
        }
        let looked = self.look_for_room(&needs, &active, &host, options)?;
        let _lock = self.confirm_unlocked("Bring this data back?", lock, "restore", &mut state)?;
        if !self.yes {
            // A backup that was made meanwhile may have taken the oldest away.
            backup.check()?;
        }
        record_accepted(&state, &looked, &active)?;
        let source = folder.display().to_string();
        self.change(&mut state, &host, None, 0, |change| {
            change.record_begun("restore", &active, &plan, &source)?;
            let generation = change.again(active.id)?;
            change.bring("restore", generation, active.id, &source, &plan)
        })
    }
}

/// One backup that was made.
struct Made {
    product: String,
    folder: PathBuf,
    lines: Vec<String>,
}

/// Whether a run that is not over may have changed what runs.
fn is_at_work(state: &State) -> Result<bool> {
    Ok(state.open_run()?.is_some_and(|run| is_for_the_machine(&run)))
}
