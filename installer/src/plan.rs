//! What a change would do, before it does it. The walk takes exactly these steps.

use bundle_format::approval::{PLAN_FORMAT, PlanDocument};
use bundle_format::digest::Sha384;
use bundle_format::manifest::Manifest;
use bundle_format::timestamp::Timestamp;

use crate::audit::key::ApplianceKey;
use crate::change::step::{Origin, Recipe, Return, Step};
use crate::change::{self, Data};
use crate::cli::accreditation;
use crate::dangerous::Dangerous;
use crate::engine::{Podman, Supervisor};
use crate::error::{ErrorKind, Result};
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::preflight::Needs;
use crate::proof::{Base, ProvedBundle};
use crate::release::Release;
use crate::state::{Generation, Phase, State};
use crate::store::Store;

/// Bytes a second that proving and storing takes on hardware that we have not seen yet.
const STORE_RATE: u64 = 100 << 20;
/// Milliseconds for a step of another kind that never ran here.
const GUESS: u64 = 2000;

/// The steps of a change and what they cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    act: String,
    product: String,
    from: Option<String>,
    to: String,
    manifest_sha384: String,
    noop: bool,
    steps: Vec<Step>,
    /// What a rollback can do afterwards.
    after: Return,
    estimates: Vec<Estimate>,
    disk: Needs,
    /// Bytes of what the release is made of, and of what runs.
    content: (u64, u64),
    changes: Vec<String>,
    needs: Vec<String>,
    way: String,
    judged: Judged,
    dangerous: Dangerous,
}

/// What the bundle is judged by, for whoever approves that it is gone past.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Judged {
    machine: String,
    marking: String,
    floor: u64,
    expires: Option<Timestamp>,
    root_version: u64,
    root_expires: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Estimate {
    millis: u64,
    /// Whether this machine did the step before.
    measured: bool,
}

impl Plan {
    /// Plans from what runs here to `bundle`, which builds on `base`, past what `dangerous` says; changes
    /// nothing.
    pub fn make(
        bundle: &ProvedBundle,
        base: &Base,
        state: &State,
        paths: &Paths,
        host: &HostFacts,
        dangerous: &Dangerous,
    ) -> Result<Self> {
        let manifest = bundle.manifest();
        let sha384 = bundle.verified().sha384().to_string();
        let active = state.active_generation(&manifest.product)?;
        let over = active.as_ref().map(|active| active.sequence);
        check_applicable(manifest, over)?;
        let noop = active.as_ref().is_some_and(|active| active.manifest_sha384 == sha384);
        let recipe = Recipe { manifest, over, origin: Origin::Bundle, loads: &[] };
        let steps = if noop { Vec::new() } else { recipe.steps() };
        let mut plan = Self::bare("install", manifest, &sha384, active.as_ref(), steps);
        plan.noop = noop;
        plan.after = after(manifest, active.as_ref(), state)?;
        plan.dangerous = dangerous.clone();
        let root = bundle.verified().root().root();
        let key = ApplianceKey::read(&paths.appliance_key())?;
        plan.judged = Judged {
            machine: key.map_or_else(|| Ok(String::new()), |key| key.public().fingerprint().map(|f| f.to_string()))?,
            marking: manifest.marking.to_string(),
            floor: bundle.verified().floor_after_resets(state.floor(&manifest.product)?),
            expires: manifest.expires.clone(),
            root_version: root.version(),
            root_expires: Some(root.expires().clone()),
        };
        let podman = Podman::detect(paths, host)?;
        plan.disk = Needs::of_install(manifest, active.as_ref(), state, paths, host, podman.as_ref())?;
        let old = active.as_ref().map(Generation::parse).transpose()?;
        plan.content = (manifest.content_size(), old.as_ref().map_or(0, Manifest::content_size));
        // Whoever brings damaged blobs back needs no list of what differs, and could not read one.
        if !noop {
            plan.changes = changes(bundle, base, old.as_ref(), paths)?;
        }
        plan.needs = needs(manifest, plan.judged.floor, state)?;
        plan.estimate(state)?;
        let way = podman.map(|podman| Supervisor::choose(host, &podman).describe());
        plan.way = String::from(way.unwrap_or("by systemd where it is there, otherwise by the engine alone"));
        Ok(plan)
    }

    /// A plan that brings a generation of this machine into force, which writes `disk`.
    pub fn of(
        act: &str,
        target: &Generation,
        active: &Generation,
        loads: &[String],
        state: &State,
        disk: Needs,
    ) -> Result<Self> {
        let manifest = target.parse()?;
        let recipe = Recipe { manifest: &manifest, over: Some(active.sequence), origin: Origin::Kept, loads };
        let mut plan = Self::bare(act, &manifest, &target.manifest_sha384, Some(active), recipe.steps());
        plan.after = after(&manifest, Some(active), state)?;
        plan.disk = disk;
        plan.estimate(state)?;
        Ok(plan)
    }

    /// A plan that takes a product off the machine.
    pub fn uninstall(active: &Generation, data: Data) -> Result<Self> {
        let steps = vec![Step::Uninstall { with_data: data == Data::Remove }, Step::Sweep];
        let mut plan = Self::bare("uninstall", &active.parse()?, &active.manifest_sha384, Some(active), steps);
        plan.to = "nothing".into();
        plan.after = Return::Gone;
        Ok(plan)
    }

    /// Fingerprint of a repair's plan: its steps are what differs, each to be put back.
    pub fn repair(active: &Generation, differs: Vec<String>) -> Result<Sha384> {
        let plan = Self::bare("repair", &active.parse()?, &active.manifest_sha384, Some(active), Vec::new());
        let document = PlanDocument { steps: differs, ..plan.document() };
        Ok(Sha384::of(&document.to_bytes()?))
    }

    fn bare(act: &str, manifest: &Manifest, sha384: &str, active: Option<&Generation>, steps: Vec<Step>) -> Self {
        Self {
            act: act.to_owned(),
            product: manifest.product.clone(),
            from: active.map(|active| format!("{} (sequence {})", active.release, active.sequence)),
            to: format!("{} (sequence {})", manifest.release, manifest.sequence),
            manifest_sha384: sha384.to_owned(),
            noop: false,
            steps,
            after: Return::Nothing,
            estimates: Vec::new(),
            disk: Needs::default(),
            content: (0, 0),
            changes: Vec::new(),
            needs: Vec::new(),
            way: String::new(),
            judged: Judged { marking: manifest.marking.to_string(), ..Judged::default() },
            dangerous: Dangerous::default(),
        }
    }

    /// From what the steps took here before; where they never ran, a guess that says so.
    fn estimate(&mut self, state: &State) -> Result<()> {
        for step in &self.steps {
            let before = state.last_millis(&self.product, &step.to_json()?)?;
            let estimate = match (step, before) {
                (Step::Store, _) => {
                    Estimate { millis: self.disk.store.saturating_mul(1000) / STORE_RATE, measured: false }
                }
                (_, Some(millis)) => Estimate { millis, measured: true },
                (_, None) => Estimate { millis: GUESS, measured: false },
            };
            self.estimates.push(estimate);
        }
        Ok(())
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What was planned as a document: what two persons approve where it goes past a refusal.
    pub fn document(&self) -> PlanDocument {
        PlanDocument {
            format: PLAN_FORMAT.into(),
            machine: self.judged.machine.clone(),
            act: self.act.clone(),
            product: self.product.clone(),
            from: self.from.clone().unwrap_or_default(),
            to: self.to.clone(),
            marking: self.judged.marking.clone(),
            manifest_sha384: self.manifest_sha384.clone(),
            floor: self.judged.floor,
            expires: self.judged.expires.clone(),
            root_version: self.judged.root_version,
            root_expires: self.judged.root_expires.clone(),
            dangerous: self.dangerous.set().clone(),
            steps: self.steps.iter().map(Step::title).collect(),
        }
    }

    /// Fingerprint of what was planned: of the document's bytes.
    pub fn sha384(&self) -> Result<Sha384> {
        Ok(Sha384::of(&self.document().to_bytes()?))
    }

    /// What it goes past.
    pub const fn dangerous(&self) -> &Dangerous {
        &self.dangerous
    }

    /// What it writes.
    pub const fn disk(&self) -> &Needs {
        &self.disk
    }

    /// Whether the very bundle is active already.
    pub const fn is_noop(&self) -> bool {
        self.noop
    }

    /// From the stop of what runs until the new release is known to work: users have it back after its probes
    /// pass, its dumps are loaded and its checks hold. Estimates of `health` hold the quiet window too.
    fn downtime_millis(&self) -> u64 {
        let down = |step: &Step| matches!(step.phase(), Phase::Switching | Phase::Trial) && *step != Step::Commit;
        let each = self.steps.iter().zip(&self.estimates).filter(|(step, _)| down(step));
        each.map(|(_, estimate)| estimate.millis).sum()
    }

    fn millis(&self) -> u64 {
        self.estimates.iter().map(|estimate| estimate.millis).sum()
    }

    /// For a person.
    pub fn lines(&self) -> Result<Vec<String>> {
        let from = self.from.as_deref().unwrap_or("nothing");
        let mut lines = vec![format!("plan: {} from {from} to {}", self.product, self.to)];
        if self.noop {
            let what = "its health is looked at; blobs that the store has lost come back; nothing else is changed";
            lines.push(format!("  this very bundle is active; {what}"));
            return Ok(lines);
        }
        lines.extend(
            self.dangerous.set().iter().map(|what| format!("  DANGEROUS {what}: two persons must approve this plan")),
        );
        lines.extend(self.changes.iter().map(|change| format!("  change  {change}")));
        lines.extend(self.needs.iter().map(|need| format!("  needs   {need}")));
        lines.push(format!("  disk    {}", self.disk.line()));
        for ((step, estimate), number) in self.steps.iter().zip(&self.estimates).zip(1..) {
            let sign = if estimate.measured { "" } else { "guess " };
            let seconds = estimate.millis.div_ceil(1000);
            let disk = match self.disk.of_step(step) {
                0 => String::new(),
                bytes => format!(", {bytes} bytes"),
            };
            lines.push(format!(
                "  {number:>2}. {:<50} {sign}{seconds} s{disk}; if it fails: {}",
                step.title(),
                step.way_back(&self.after)
            ));
        }
        lines.push(format!(
            "  time    about {} s in all, about {} s of downtime",
            self.millis().div_ceil(1000),
            self.downtime_millis().div_ceil(1000)
        ));
        if !self.way.is_empty() {
            lines.push(format!("  kept up {}", self.way));
        }
        lines.push(format!("  plan    SHA-384 {}", self.sha384()?));
        lines.push("  until the commit, whatever fails is taken back and what runs now runs again".into());
        Ok(lines)
    }

    /// For machines.
    pub fn to_json(&self) -> Result<serde_json::Value> {
        let step = |(step, estimate): (&Step, &Estimate)| {
            serde_json::json!({
                "title": step.title(), "phase": step.phase().text(), "millis": estimate.millis,
                "measured": estimate.measured, "disk_bytes": self.disk.of_step(step), "way_back": step.way_back(&self.after),
            })
        };
        Ok(serde_json::json!({
            "act": self.act, "product": self.product, "from": self.from, "to": self.to,
            "manifest_sha384": self.manifest_sha384, "plan_sha384": self.sha384()?.to_string(),
            "dangerous": self.dangerous.set(),
            "already_active": self.noop, "disk": self.disk.to_json(),
            "content_bytes": self.content.0, "content_bytes_before": self.content.1,
            "millis": self.millis(), "downtime_millis": self.downtime_millis(),
            "changes": self.changes, "needs": self.needs,
            "steps": self.steps.iter().zip(&self.estimates).map(step).collect::<Vec<_>>(),
        }))
    }
}

fn check_applicable(manifest: &Manifest, over: Option<u64>) -> Result<()> {
    let Some(range) = manifest.lifecycle.from else { return Ok(()) };
    match over {
        Some(found) if found != manifest.sequence && !range.holds(found) => {
            let product = manifest.product.clone();
            Err(ErrorKind::NotApplicable { product, min: range.min, max: range.max, found }.into())
        }
        _ => Ok(()),
    }
}

/// What has to hold already, as the proof and the site's policy judge it.
fn needs(manifest: &Manifest, floor: u64, state: &State) -> Result<Vec<String>> {
    let mut needs =
        vec![format!("platform {}, marking {} within {}", manifest.platform, manifest.marking, accreditation(state)?)];
    needs.push(format!("sequence {}, not below the floor {floor}", manifest.sequence));
    if let Some(range) = manifest.lifecycle.from {
        needs.push(format!("sequence {} to {} installed, or none", range.min, range.max));
    }
    let bases: Vec<String> = manifest.bases.iter().map(bundle_format::manifest::BaseSet::title).collect();
    if !bases.is_empty() {
        needs.push(format!("the blobs of {}, which are here", bases.join(" or ")));
    }
    let (epoch, floor) = (manifest.lifecycle.security_epoch, epoch_after(manifest, state)?);
    needs.push(format!("security epoch {epoch}; after the commit, what is below {floor} cannot be returned to"));
    needs.push(format!("{} MiB of memory", manifest.requires.memory_mib));
    Ok(needs)
}

/// The floor of the security epoch that a commit leaves.
fn epoch_after(manifest: &Manifest, state: &State) -> Result<u64> {
    Ok(state.epoch(&manifest.product)?.max(manifest.lifecycle.security_epoch))
}

/// What a rollback can do once `manifest` is in force over `active`.
fn after(manifest: &Manifest, active: Option<&Generation>, state: &State) -> Result<Return> {
    let Some(active) = active else { return Ok(Return::Nothing) };
    let (former, floor) = (active.parse()?.lifecycle.security_epoch, epoch_after(manifest, state)?);
    Ok(match () {
        () if former < floor => Return::Epoch { former, floor },
        () if change::keep(state)? == 0 => Return::NotKept,
        () if state.is_revoked(active.id)? => Return::Revoked,
        () => Return::Former,
    })
}

/// What differs from the release that runs, line by line; all of it where none does.
fn changes(bundle: &ProvedBundle, base: &Base, old: Option<&Manifest>, paths: &Paths) -> Result<Vec<String>> {
    let new = bundle.manifest();
    let claims = |release: &Release| release.volumes().into_iter().map(|claim| (claim, String::new())).collect();
    let after = parts(new, claims(&bundle.peek_release(base)?));
    let before = match old {
        Some(old) => parts(old, claims(&Release::load(old, &Store::peek(&paths.store()))?)),
        None => Vec::new(),
    };
    let mut changes = differences(&before, &after);
    if let Some(old) = old {
        let migrations = crate::change::step::migrations(&new.lifecycle, old.sequence);
        changes.extend(migrations.map(|migration| format!("migration {} is run", migration.name)));
    }
    let (after, before) = (new.content_size(), old.map_or(0, Manifest::content_size));
    let (sign, delta) = if after < before { ("less", before - after) } else { ("more", after - before) };
    changes.push(format!("size {after} bytes in all, {delta} {sign} than what runs"));
    Ok(changes)
}

/// A kind of things, each with its name and its value.
type Part = (&'static str, Vec<(String, String)>);

/// Everything of a release that can differ on a machine; what has one name has it in every release.
fn parts(manifest: &Manifest, volumes: Vec<(String, String)>) -> Vec<Part> {
    let Manifest { network, lifecycle, requires, .. } = manifest;
    let range = lifecycle.from.map_or_else(|| "any".into(), |range| format!("{} to {}", range.min, range.max));
    let settings = [
        ("network", network.name.clone()),
        ("reach of the network", if network.internal { "this machine alone" } else { "beyond this machine" }.into()),
        ("memory", format!("{} MiB", requires.memory_mib)),
        ("disk of its own", format!("{} MiB", requires.disk_mib)),
        ("security epoch", lifecycle.security_epoch.to_string()),
        ("sequences that it may follow", range),
        ("deadline for health", format!("{} s", lifecycle.deadline_seconds)),
        ("window without restarts", format!("{} s", lifecycle.stable_seconds)),
    ];
    let packages = manifest.runtime.iter().flat_map(|set| {
        set.packages.iter().map(|package| (format!("{} {}", set.os, package.name), package.digest.to_string()))
    });
    vec![
        ("image", manifest.images.iter().map(|image| (image.name.clone(), image.digest.to_string())).collect()),
        ("workload", manifest.workloads.iter().map(|w| (w.name.clone(), w.digest.to_string())).collect()),
        ("setting", settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ("secret", manifest.secrets.iter().map(|secret| (secret.name().to_owned(), shown(secret))).collect()),
        ("volume", volumes),
        ("data", lifecycle.data.iter().map(|data| (data.volume.clone(), shown(data))).collect()),
        ("check", lifecycle.checks.iter().map(|check| (check.name().to_owned(), shown(check))).collect()),
        ("file", manifest.files.iter().map(|file| (file.path.clone(), file.digest.to_string())).collect()),
        ("package", packages.collect()),
    ]
}

/// A part of the manifest as it is written there, safe for a terminal.
fn shown(part: &impl serde::Serialize) -> String {
    bundle_format::text::escaped(&serde_json::json!(part).to_string())
}

fn differences(before: &[Part], after: &[Part]) -> Vec<String> {
    let mut changes = Vec::new();
    for (kind, after) in after {
        let before = before.iter().find(|(other, _)| other == kind).map_or(&[][..], |(_, before)| &before[..]);
        for (name, value) in after {
            match before.iter().find(|(other, _)| other == name) {
                None if value.is_empty() => changes.push(format!("{kind} {name} is new")),
                None => changes.push(format!("{kind} {name} is new: {value}")),
                Some((_, former)) if former != value => changes.push(format!("{kind} {name}: {former} to {value}")),
                Some(_) => {}
            }
        }
        for (name, _) in before.iter().filter(|(name, _)| !after.iter().any(|(other, _)| other == name)) {
            changes.push(format!("{kind} {name} goes"));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::GenerationState;

    #[test]
    fn what_a_rollback_can_do_afterwards_is_told_as_it_will_be() {
        let manifest = |sequence: u64, epoch: u64| {
            let json = serde_json::json!({
                "format": bundle_format::manifest::FORMAT, "product": "p", "release": "1", "sequence": sequence,
                "marking": "UNCLASSIFIED", "platform": "linux/amd64", "title": "t", "created": "2026-01-01T00:00:00Z",
                "expires": null, "requires": {"memory_mib": 0, "disk_mib": 0}, "lifecycle": {"security_epoch": epoch},
                "network": {"name": "n", "internal": true},
                "images": [], "secrets": [], "workloads": [], "files": [], "runtime": [], "attachments": [], "bases": [], "packs": [],
            });
            bundle_format::manifest::parse(json.to_string().as_bytes()).unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&folder.path().join("state.db")).unwrap();
        let said = |state: &State, active: Option<&Generation>, epoch: u64| {
            let found = after(&manifest(2, epoch), active, state).unwrap();
            let clear = Step::Clear.way_back(&found);
            assert!(clear.starts_with("no way back by itself; "), "{clear}");
            (clear.replace("no way back by itself; ", ""), Step::Switch.way_back(&found))
        };
        let (clear, switch) = said(&state, None, 0);
        assert_eq!(
            (clear.as_str(), switch.as_str()),
            ("there is no former release; resume finishes it", "undone; nothing is left of it")
        );

        let (now, first) = (Timestamp::from_unix(1_800_000_000), manifest(1, 1));
        let bytes = serde_json::to_vec(&first).unwrap();
        let id = state.begin_generation(&first, &bytes, &"0".repeat(96), &now).unwrap();
        state.set_generation_state(id, GenerationState::Active, &now).unwrap();
        let active = state.active_generation("p").unwrap();
        let (clear, switch) = said(&state, active.as_ref(), 1);
        assert_eq!(clear, "rollback brings the former release");
        assert_eq!(switch, "undone; the former release starts again on its own data");
        let refused = "rollback is refused: the former release has security epoch 1, the floor is 2 then";
        assert_eq!(said(&state, active.as_ref(), 2).0, refused);
        state.set_setting("keep-generations", "0").unwrap();
        let refused = "rollback is refused: this site keeps no former release (keep-generations 0)";
        assert_eq!(said(&state, active.as_ref(), 1).0, refused);
        let gone = Plan::uninstall(active.as_ref().unwrap(), Data::Keep).unwrap();
        assert_eq!(Step::Sweep.way_back(&gone.after), "no way back by itself; resume finishes it");
    }
}
