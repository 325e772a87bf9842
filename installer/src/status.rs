//! What is installed, and how it is.

use std::path::Path;
use std::time::Duration;

use bundle_format::manifest::Manifest;
use bundle_format::marking::Marking;
use bundle_format::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::audit::Outcome;
use crate::audit::log::Log;
use crate::audit::standing::Standing;
use crate::backup::{self, Backup};
use crate::engine::{Podman, Supervisor};
use crate::error::{ErrorKind, Result};
use crate::health;
use crate::host::{self, HostFacts};
use crate::lock::Holder;
use crate::moment::Moment;
use crate::paths::Paths;
use crate::policy::Policy;
use crate::proof::clock;
use crate::release::{Port, Release};
use crate::state::{Generation, Run, State};
use crate::store::Store;

/// The state of every product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    root: Option<(u64, String)>,
    moment: Moment,
    policy: Result<String, String>,
    /// Why nothing can be written to the record, where that is so.
    record: Option<String>,
    products: Vec<Product>,
    audit: Standing,
    checked: Result<Option<Checked>, String>,
    at_work: Option<Holder>,
    unfinished: Option<Run>,
}

/// The last look for drift, by a person or by the timer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checked {
    at: String,
    well: bool,
    found: String,
    /// When a repair behind it ended well.
    repaired: Option<String>,
}

impl Checked {
    fn read(paths: &Paths) -> Result<Option<Self>> {
        let Some(log) = Log::look(&paths.audit())? else { return Ok(None) };
        let Some(check) = log.newest_end("check")? else { return Ok(None) };
        let repair = log.newest_end("repair")?;
        let repair = repair.filter(|repair| repair.seq > check.seq && repair.result == Outcome::Ok);
        Ok(Some(Self {
            at: check.at.to_string(),
            well: check.result == Outcome::Ok,
            found: check.detail,
            repaired: repair.map(|repair| repair.at.to_string()),
        }))
    }

    fn line(&self) -> String {
        let found = bundle_format::text::escaped(&self.found);
        match (self.well, &self.repaired) {
            (true, _) => format!("last check {}: {found}", self.at),
            (false, None) => format!("last check {}: NOT AS SIGNED: {found}; run: installer repair", self.at),
            (false, Some(at)) => format!("last check {}: {found}; repaired since, at {at}", self.at),
        }
    }

    fn to_json(&self) -> Value {
        json!({"at": self.at, "as_signed": self.well, "found": self.found, "repaired_at": self.repaired})
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Product {
    name: String,
    release: String,
    sequence: u64,
    marking: Marking,
    manifest_sha384: String,
    since: String,
    floor: u64,
    /// Containers that there are to be; none where nobody can tell.
    containers: Option<usize>,
    problems: Vec<String>,
    /// Generations that one can go to, newest first.
    generations: Vec<Generation>,
    /// Newest backup.
    backup: Option<String>,
    /// Backups that should be there by themselves and are not.
    overdue: Option<String>,
}

/// Reads the record and looks at every container. What cannot be looked at is a problem of its product, told with
/// why; it hides nothing else.
pub fn read(state: &State, paths: &Paths, host: &HostFacts) -> Result<Status> {
    let root = crate::trust::current(state)?;
    let root = root.map(|root| (root.root().version(), root.root().fingerprint().to_string()));
    let podman = Podman::detect(paths, host);
    let mut products = Vec::new();
    for generation in state.active_generations()? {
        products.push(product(generation, state, paths, &podman)?);
    }
    let policy = Policy::of(state).map(|policy| policy.line()).map_err(|error| error.to_string());
    let moment = Moment::read(state)?;
    let audit = Standing::read(paths);
    // A log that does not prove says nothing else either.
    let checked = if audit.problem().is_none() { Checked::read(paths) } else { Ok(None) };
    let checked = checked.map_err(|error| format!("the last check cannot be read: {error}"));
    let (at_work, unfinished) = (Holder::look(&paths.lock()), state.open_run()?);
    let record = state.unwritable().map(|why| format!("the record can be read, but not written: {why}"));
    Ok(Status { root, moment, policy, record, products, audit, checked, at_work, unfinished })
}

fn product(generation: Generation, state: &State, paths: &Paths, podman: &Result<Option<Podman>>) -> Result<Product> {
    let manifest = generation.parse()?;
    let (containers, problems) = match containers(&manifest, paths, podman) {
        Ok((count, problems)) => (Some(count), problems),
        Err(why) => (None, vec![why]),
    };
    let newest = newest_backup(&paths.backups(&generation.product));
    let schedule = Supervisor::backup_schedule().filter(|_| !manifest.lifecycle.data.is_empty());
    let overdue = match (&newest, schedule) {
        (Err(error), _) => Some(format!("its backups cannot be read: {error}")),
        (Ok(newest), Some(every)) => {
            let active = Timestamp::parse(&generation.changed_at)?;
            let since = state.newest_move()?.map_or(active.clone(), |moved| moved.max(active));
            overdue(every, &clock(), host::uptime()?, &since, newest.as_ref())
        }
        (Ok(_), None) => None,
    };
    Ok(Product {
        floor: state.floor(&generation.product)?,
        generations: state.kept_generations(&generation.product)?,
        name: generation.product,
        release: generation.release,
        sequence: generation.sequence,
        marking: manifest.marking,
        manifest_sha384: generation.manifest_sha384,
        since: generation.changed_at,
        containers,
        problems,
        backup: newest.ok().flatten().map(|at| at.to_string()),
        overdue,
    })
}

/// How many containers there are to be, and what is wrong with them; or why nobody can tell.
fn containers(
    manifest: &Manifest,
    paths: &Paths,
    podman: &Result<Option<Podman>>,
) -> std::result::Result<(usize, Vec<String>), String> {
    let release = Release::load(manifest, &Store::peek(&paths.store()))
        .map_err(|error| format!("its workloads cannot be read, so nothing is known of its containers: {error}"))?;
    let podman = match podman {
        Ok(Some(podman)) => podman,
        Ok(None) => return Err("there is no engine on this machine any more".into()),
        Err(error) => return Err(format!("the engine does not answer: {error}")),
    };
    let problems =
        health::problems(podman, &release).map_err(|error| format!("its containers cannot be looked at: {error}"))?;
    Ok((release.containers().count(), problems))
}

fn newest_backup(folder: &Path) -> Result<Option<Timestamp>> {
    let newest = backup::list(folder)?.pop();
    newest.map(|folder| Ok(Backup::open(&folder)?.list().at.clone())).transpose()
}

/// Since when no backup was made, if that is longer than two should take. A machine that was off, and one
/// whose release was changed just now, which keeps backups waiting, have that long to make the next one.
/// A backup that lies in the future tells no age: that is a problem too, until the next one is made.
fn overdue(
    every: Duration,
    now: &Timestamp,
    uptime: u64,
    changed: &Timestamp,
    newest: Option<&Timestamp>,
) -> Option<String> {
    if let Some(at) = newest.filter(|at| *at > now) {
        return Some(format!(
            "the newest backup is of {at}, and the clock says {now}: how old it is cannot be told; set the clock"
        ));
    }
    // A change in the future was before the clock was set back: nobody knows how long ago.
    let changed = if changed > now { 0 } else { changed.to_unix() };
    let since = newest.map_or(0, Timestamp::to_unix).max(changed);
    let since = since.max(now.to_unix().saturating_sub(uptime));
    let (age, limit) = (now.to_unix().saturating_sub(since), 2 * every.as_secs());
    if age <= limit {
        return None;
    }
    let newest = newest.map_or_else(|| "there is none".to_owned(), |at| format!("the newest is of {at}"));
    let minutes = every.as_secs() / 60;
    Some(format!(
        "no backup for {} minutes, one is to be made every {minutes}: {newest}; installer history says why",
        age / 60
    ))
}

/// The highest marking of what is installed.
pub fn highest(state: &State) -> Result<Option<Marking>> {
    let mut markings = Vec::new();
    for generation in state.active_generations()? {
        markings.push(Marking::parse(&generation.marking)?);
    }
    Ok(markings.into_iter().max_by_key(Marking::level))
}

/// Host ports that a product's active release holds.
pub fn ports_held(state: &State, paths: &Paths, product: &str) -> Result<Vec<Port>> {
    let Some(generation) = state.active_generation(product)? else { return Ok(Vec::new()) };
    let release = Release::load(&generation.parse()?, &Store::peek(&paths.store()))?;
    Ok(release.ports())
}

impl Status {
    /// The highest marking of what is installed.
    pub fn marking(&self) -> Option<Marking> {
        self.products.iter().map(|product| &product.marking).max_by_key(|marking| marking.level()).cloned()
    }

    /// An error if anything is not as it should be; exit 8.
    pub fn refuse_unhealthy(&self) -> Result<()> {
        let problems =
            self.products.iter().flat_map(|p| p.problems.iter().chain(&p.overdue)).chain(self.policy.as_ref().err());
        let problems = problems.chain(self.checked.as_ref().err()).chain(&self.record);
        let problems = problems.map(String::as_str);
        let problems: Vec<&str> = problems.chain(self.audit.problem()).collect();
        if problems.is_empty() { Ok(()) } else { Err(ErrorKind::NotHealthy { problems: problems.join("; ") }.into()) }
    }

    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.root {
            Some((version, sha384)) => lines.push(format!("trust root version {version}, SHA-384 {sha384}")),
            None => lines.push("no trust root yet".into()),
        }
        lines.push(self.moment.line());
        match &self.policy {
            Ok(line) => lines.push(format!("policy: {line}")),
            Err(problem) => lines.push(format!("PROBLEM {problem}")),
        }
        lines.extend(self.record.iter().map(|problem| format!("PROBLEM {problem}")));
        if self.products.is_empty() {
            lines.push("nothing is installed".into());
        }
        for product in &self.products {
            lines.push(format!(
                "{} {} (sequence {}, floor {})",
                product.name, product.release, product.sequence, product.floor
            ));
            lines.push(format!("  marking   {}", product.marking));
            lines.push(format!("  active    since {}", product.since));
            lines.push(format!("  manifest  SHA-384 {}", product.manifest_sha384));
            lines.push(product.containers.map_or_else(
                || "  health    not known".into(),
                |all| {
                    let well = all.saturating_sub(product.problems.len());
                    format!("  health    {well} of {all} containers healthy on their signed images")
                },
            ));
            lines.extend(product.problems.iter().map(|problem| format!("  PROBLEM   {problem}")));
            for kept in &product.generations {
                let (id, state) = (kept.id, &kept.state);
                lines.push(format!("  generation {id}: {} (sequence {}), {state}", kept.release, kept.sequence));
            }
            lines.push(format!("  backup    {}", product.backup.as_deref().unwrap_or("none yet")));
            lines.extend(product.overdue.iter().map(|problem| format!("  PROBLEM   {problem}")));
        }
        if let Some(run) = &self.unfinished {
            lines.push(format!(
                "UNFINISHED {} of {} since {}: {}; run {}",
                run.act,
                run.product,
                run.begun_at,
                run.phase.text(),
                run.phase.ways_on()
            ));
        }
        lines.extend(self.at_work.as_ref().map(|holder| format!("at work: {holder}")));
        lines.push(match &self.checked {
            Ok(checked) => checked.as_ref().map_or_else(|| "last check: none yet".into(), Checked::line),
            Err(problem) => format!("PROBLEM {problem}"),
        });
        lines.extend(self.audit.lines());
        lines
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let product = |p: &Product| {
            json!({
                "product": p.name, "release": p.release, "sequence": p.sequence, "floor": p.floor, "marking": p.marking.to_string(),
                "active_since": p.since, "manifest_sha384": p.manifest_sha384, "containers": p.containers,
                "problems": p.problems, "healthy": p.problems.is_empty(), "newest_backup": p.backup, "backup_problem": p.overdue,
                "generations": p.generations.iter().map(|g| json!({
                    "id": g.id, "release": g.release, "sequence": g.sequence, "state": g.state,
                })).collect::<Vec<_>>(),
            })
        };
        json!({
            "trust_root": self.root.as_ref().map(|(version, sha384)| json!({"version": version, "sha384": sha384})),
            "products": self.products.iter().map(product).collect::<Vec<_>>(),
            "audit": self.audit.to_json(),
            "at_work": self.at_work,
            "last_check": self.checked.as_ref().ok().and_then(Option::as_ref).map(Checked::to_json),
            "last_check_problem": self.checked.as_ref().err(),
            "clock": self.moment.to_json(), "record_problem": self.record,
            "policy": self.policy.as_ref().ok(), "policy_problem": self.policy.as_ref().err(),
            "unfinished": self.unfinished.as_ref().map(|run| json!({
                "act": run.act, "product": run.product, "phase": run.phase.text(), "generation": run.generation,
                "since": run.begun_at, "plan_sha384": run.plan_sha384,
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_should_be_there_and_is_not() {
        let (every, minute) = (Duration::from_secs(240), 60);
        let at = |minutes: u64| Timestamp::from_unix(1_800_000_000 + minutes * minute);
        let now = at(1000);
        for (uptime, changed, newest, word) in [
            (999, 0, Some(992), ""),
            (999, 0, Some(991), "no backup for 9 minutes, one is to be made every 4: the newest is of 20"),
            (999, 0, None, "there is none"),
            (999, 993, None, ""),
            (8, 0, Some(1), ""),
            (9, 0, Some(1), "no backup for 9 minutes"),
            (999, 0, Some(1000), ""),
            // With a clock that was set back nobody knows.
            (999, 0, Some(1001), "how old it is cannot be told; set the clock"),
            (1, 2000, Some(2000), "cannot be told"),
            (999, 2000, Some(992), ""),
            (999, 2000, Some(991), "no backup for 9 minutes"),
            (999, 2000, None, "there is none"),
            (8, 2000, None, ""),
        ] {
            let newest = newest.map(at);
            let found = overdue(every, &now, uptime * minute, &at(changed), newest.as_ref());
            assert_eq!(found.is_some(), !word.is_empty(), "{uptime} {changed} {newest:?}: {found:?}");
            assert!(found.is_none_or(|found| found.contains(word)), "{word}");
        }
    }
}
