//! What must hold after every cut and its recovery, whatever was cut.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha256;
use bundle_format::manifest::{self, Manifest};
use rusqlite::{Connection, OpenFlags};

use super::case::Case;
use super::ground::{CONTAINERS, Ground, MIGRATED, PRODUCT};
use crate::engine::Held;

/// A state in which a flow may end.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Sequence of the release that runs; 0 is none.
    pub sequence: u64,
    /// Lines that both journals must have.
    pub has: &'static [&'static str],
    /// Lines that neither may have.
    pub hasnt: &'static [&'static str],
}

/// In [`End`]: the line that a container of the first release writes.
pub const OLD: &str = "OLD";
/// The line of the second release.
pub const NEW: &str = "NEW";

/// A generation of the record.
struct Generation {
    id: i64,
    state: String,
    kept: bool,
    manifest: Manifest,
}

/// What the installer's record says.
struct Record {
    generations: Vec<Generation>,
    /// Generation and volume.
    volumes: Vec<(i64, String)>,
}

type Check = Result<(), String>;

/// Checks everything; the end that was found, or which invariant does not hold.
pub fn check<'a>(ground: &Ground, case: &Case, ends: &'a [End]) -> Result<&'a End, String> {
    let (sequence, record) = (status(case)?, record(case)?);
    let held = Held::read(&case.engine());
    let fitting: Vec<&End> = ends.iter().filter(|end| end.sequence == sequence).collect();
    let tried: Vec<Check> = fitting.iter().map(|end| data(ground, case, &held, &record, end)).collect();
    let end = fitting.iter().zip(&tried).find(|(_, tried)| tried.is_ok()).map(|(end, _)| *end);
    let no_end = tried.into_iter().find_map(Result::err).unwrap_or(format!("status: sequence {sequence} is no end"));
    let checks = [
        end.map(drop).ok_or(no_end),
        running(ground, &held, sequence),
        over(&record),
        store(case, &record),
        engine(&held, &record),
        files(case, &held, &record),
        audit(case),
        backups(case),
    ];
    // All that does not hold is told: one leak must not hide another.
    let broken: Vec<String> = checks.into_iter().filter_map(Result::err).collect();
    end.filter(|_| broken.is_empty()).ok_or_else(|| broken.join("; "))
}

/// `status` names no release or one, healthy, and no run that is not over; the release's sequence.
fn status(case: &Case) -> Result<u64, String> {
    let said = case.installer(&["--json", "status"]);
    let parsed: serde_json::Value =
        serde_json::from_str(said.out.trim()).map_err(|e| format!("status: {e}: {} {}", said.out, said.err))?;
    if !parsed["unfinished"].is_null() {
        return Err(format!("status: unfinished: {}", parsed["unfinished"]));
    }
    if said.code != 0 {
        return Err(format!("status ends with {}: {}", said.code, said.err.trim()));
    }
    let products = parsed["products"].as_array().cloned().unwrap_or_default();
    match products.as_slice() {
        [] => Ok(0),
        [one] if one["product"] == PRODUCT && one["healthy"] == true => Ok(one["sequence"].as_u64().unwrap_or(0)),
        other => Err(format!("status: products: {other:?}")),
    }
}

/// The record is sound and has no run that is not over.
fn record(case: &Case) -> Result<Record, String> {
    let sql = |e: rusqlite::Error| format!("record: {e}");
    let db =
        Connection::open_with_flags(case.state().join("state.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sql)?;
    for pragma in ["integrity_check", "quick_check"] {
        let said: String = db.pragma_query_value(None, pragma, |row| row.get(0)).map_err(sql)?;
        if said != "ok" {
            return Err(format!("record: {pragma}: {said}"));
        }
    }
    let count = |query: &str| db.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(sql);
    for (what, query) in [
        ("foreign keys", "SELECT count(*) FROM pragma_foreign_key_check"),
        ("open runs", "SELECT count(*) FROM runs WHERE phase NOT IN ('done', 'undone')"),
    ] {
        let found = count(query)?;
        if found != 0 {
            return Err(format!("record: {found} {what}"));
        }
    }
    let mut statement = db.prepare("SELECT id, state, kept, manifest FROM generations ORDER BY id").map_err(sql)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Vec<u8>>(3)?)))
        .map_err(sql)?;
    let mut generations = Vec::new();
    for row in rows {
        let (id, state, kept, bytes) = row.map_err(sql)?;
        let manifest = manifest::parse(&bytes).map_err(|e| format!("record: generation {id}: {e}"))?;
        generations.push(Generation { id, state, kept, manifest });
    }
    let mut statement = db.prepare("SELECT generation, volume FROM volumes").map_err(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(sql)?;
    let volumes = rows.collect::<Result<_, _>>().map_err(sql)?;
    Ok(Record { generations, volumes })
}

impl Record {
    fn kept(&self) -> impl Iterator<Item = &Generation> {
        self.generations.iter().filter(|generation| generation.kept)
    }

    fn active(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.state == "active")
    }

    /// Generations that something of the machine still serves: those kept, and data left behind.
    fn served(&self) -> impl Iterator<Item = &Generation> {
        self.generations.iter().filter(|generation| {
            let has_data = self.volumes.iter().any(|(id, _)| *id == generation.id);
            generation.kept || (generation.state == "removed" && has_data)
        })
    }
}

/// No generation is still being made.
fn over(record: &Record) -> Check {
    let staged: Vec<i64> = record.generations.iter().filter(|own| own.state == "staged").map(|own| own.id).collect();
    if staged.is_empty() { Ok(()) } else { Err(format!("record: generations staged by no run: {staged:?}")) }
}

/// The engine runs exactly the release's containers, on exactly its images, each working.
fn running(ground: &Ground, held: &Held, sequence: u64) -> Check {
    let expected: BTreeSet<(&str, &str)> = match sequence {
        0 => BTreeSet::new(),
        1 => CONTAINERS.into_iter().zip(ground.old.iter().map(String::as_str)).collect(),
        _ => CONTAINERS.into_iter().zip(ground.new.iter().map(String::as_str)).collect(),
    };
    let found: BTreeSet<(&str, &str)> =
        held.containers().map(|container| (container.name.as_str(), container.digest.as_str())).collect();
    same("running: containers and images", &expected, &found)?;
    for pod in held.pods.values() {
        let well = !pod.paused && pod.containers.iter().all(|own| own.running && own.restarts == 0);
        if !well || pod.network != PRODUCT {
            return Err(format!("running: pod {} is not as it should be: {pod:?}", pod.name));
        }
    }
    Ok(())
}

/// The data that the running release sees, or that an uninstallation left: every acknowledged line,
/// and nothing of a release that does not run.
fn data(ground: &Ground, case: &Case, held: &Held, record: &Record, end: &End) -> Check {
    for (place, container) in CONTAINERS.iter().enumerate() {
        let volume = match held.pod_of(container) {
            Some(pod) => pod.claims.first().cloned(),
            None => left_behind(record, place),
        };
        let Some(volume) = volume else {
            if end.has.is_empty() {
                continue;
            }
            return Err(format!("data: no volume of {container}"));
        };
        let own = record.active().is_none_or(|active| record.volumes.contains(&(active.id, volume.clone())));
        if !own {
            return Err(format!("data: {container} runs on volume {volume}, which is not the active generation's"));
        }
        let folder = case.engine().join("volumes").join(&volume).join("_data");
        let journal =
            fs::read_to_string(folder.join("journal")).map_err(|e| format!("data: {volume}: journal: {e}"))?;
        let lines: Vec<&str> = journal.lines().collect();
        let line = |word: &'static str| match word {
            OLD => ground.old[place].as_str(),
            NEW => ground.new[place].as_str(),
            other => other,
        };
        // Only the database is migrated.
        let fits = |word: &&&'static str| **word != MIGRATED || place == 0;
        for word in end.has.iter().filter(fits) {
            if !lines.contains(&line(word)) {
                return Err(format!("data: {volume}: no line {word} in {lines:?}"));
            }
        }
        if let Some(word) = end.hasnt.iter().find(|word| lines.contains(&line(word))) {
            return Err(format!("data: {volume}: line {word} in {lines:?}"));
        }
        let schema = fs::read_to_string(folder.join("schema")).unwrap_or_default();
        let expected = if end.sequence == 2 { &ground.new[place] } else { &ground.old[place] };
        if schema != *expected {
            return Err(format!("data: {volume}: its form is that of {schema}, expected {expected}"));
        }
        let mut names: Vec<String> = names(&folder);
        names.sort();
        if names != ["journal", "schema"] {
            return Err(format!("data: {volume}: holds {names:?}"));
        }
    }
    Ok(())
}

/// Volumes are named after their claims.
fn left_behind(record: &Record, place: usize) -> Option<String> {
    let claim = [format!("{PRODUCT}-data"), format!("{PRODUCT}-files")][place].clone();
    record.volumes.iter().map(|(_, volume)| volume).find(|volume| volume.starts_with(&claim)).cloned()
}

/// Every blob is what its name says; the store holds what kept generations need and nothing else.
fn store(case: &Case, record: &Record) -> Check {
    let folder = case.state().join("store");
    let expected: BTreeSet<String> =
        record.kept().flat_map(|kept| kept.manifest.blob_sizes().into_keys()).map(|digest| digest.hex()).collect();
    let found: BTreeSet<String> = names(&folder.join("blobs/sha256")).into_iter().collect();
    for name in &found {
        let bytes = fs::read(folder.join("blobs/sha256").join(name)).map_err(|e| format!("store: {name}: {e}"))?;
        if Sha256::of(&bytes).hex() != *name {
            return Err(format!("store: blob {name} does not hash to its name"));
        }
    }
    same("store: blobs", &expected, &found)?;
    let workloads = record.kept().flat_map(|kept| &kept.manifest.workloads).map(|workload| workload.digest.hex());
    same("store: second copies", &workloads.collect(), &names(&folder.join("spare")).into_iter().collect())?;
    let text = match fs::read(folder.join("index.json")) {
        Err(_) if expected.is_empty() => return Ok(()),
        other => other.map_err(|e| format!("store: index.json: {e}"))?,
    };
    let index: serde_json::Value = serde_json::from_slice(&text).map_err(|e| format!("store: index.json: {e}"))?;
    let listed: BTreeSet<String> = index["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| entry["digest"].as_str().unwrap_or_default().to_owned())
        .collect();
    let images = record.kept().flat_map(|kept| &kept.manifest.images);
    same("store: index.json", &images.map(|image| image.digest.to_string()).collect(), &listed)
}

/// The engine holds what is on record and nothing else.
fn engine(held: &Held, record: &Record) -> Check {
    let images: BTreeSet<String> =
        record.kept().flat_map(|kept| &kept.manifest.images).map(manifest::Image::reference).collect();
    same("engine: images", &images, &held.images.keys().cloned().collect())?;
    let maps = held.pods.values().flat_map(|pod| pod.config_maps.clone());
    let volumes: BTreeSet<String> = record.volumes.iter().map(|(_, volume)| volume.clone()).chain(maps).collect();
    same("engine: volumes", &volumes, &held.volumes)?;
    let folders: BTreeSet<String> = names(&held.folder().join("volumes")).into_iter().collect();
    same("engine: folders of volumes", &volumes, &folders)?;
    let secrets: BTreeSet<String> =
        record.served().flat_map(|served| &served.manifest.secrets).map(|secret| secret.name().to_owned()).collect();
    same("engine: secrets", &secrets, &held.secrets.keys().cloned().collect())?;
    let networks: BTreeSet<String> =
        record.active().map(|active| active.manifest.network.name.clone()).into_iter().collect();
    same("engine: networks", &networks, &held.networks.keys().cloned().collect())?;
    let stray: Vec<&(i64, String)> =
        record.volumes.iter().filter(|(id, _)| !record.served().any(|served| served.id == *id)).collect();
    if stray.is_empty() { Ok(()) } else { Err(format!("record: volumes of generations that are over: {stray:?}")) }
}

/// No file in the state folder that nothing explains.
fn files(case: &Case, held: &Held, record: &Record) -> Check {
    let root = case.state();
    let mut explained: BTreeSet<String> =
        ["state.db", "state.db-wal", "state.db-shm", "state.db.copy", "lock", "bin/installer"]
            .into_iter()
            .chain(["audit/audit.db", "audit/audit.db-wal", "audit/audit.db-shm", "keys/appliance.key"])
            .chain(["store/oci-layout", "store/index.json", "engine/registries.conf", "engine/containers.conf"])
            .map(str::to_owned)
            .collect();
    for kept in record.kept() {
        let workloads = kept.manifest.workloads.iter();
        explained.extend(workloads.map(|own| format!("generations/{PRODUCT}/{}/{}.yaml", kept.id, own.name)));
    }
    explained.extend(held.secrets.keys().map(|name| format!("tls/{name}.crt")));
    if let Some(active) = record.active() {
        let current = format!("generations/{PRODUCT}/current");
        let names = fs::read_link(root.join(&current)).map(|target| target.display().to_string());
        if names.as_deref().ok() != Some(active.id.to_string().as_str()) {
            return Err(format!("files: current names {names:?}, generation {} is active", active.id));
        }
        explained.insert(current);
    }
    let mut stray = Vec::new();
    for path in tree(&root) {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        // Blobs, backups and logs have checks of their own, or none: a log and a damaged record are kept for a person.
        let elsewhere = ["store/blobs/sha256/", "store/spare/", "backups/", "logs/", "record-aside-"]
            .iter()
            .any(|folder| name.starts_with(folder));
        if !(explained.contains(&name) || elsewhere && !name.contains("/.tmp")) {
            stray.push(name);
        }
    }
    if stray.is_empty() { Ok(()) } else { Err(format!("files: nothing explains {stray:?}")) }
}

/// The record of who did what proves, whatever was cut off.
fn audit(case: &Case) -> Check {
    let said = case.installer(&["audit", "verify"]);
    if said.code == 0 { Ok(()) } else { Err(format!("audit: verify ended with {}: {}", said.code, said.err)) }
}

/// Every backup that is listed can be read back; nothing half made lies beside them.
fn backups(case: &Case) -> Check {
    let folder = case.state().join("backups").join(PRODUCT);
    let whole = installer::backup::list(&folder).map_err(|e| format!("backups: {e}"))?;
    for backup in &whole {
        let read = installer::backup::Backup::open(backup).and_then(|backup| backup.check());
        read.map_err(|e| format!("backups: {}: {e}", backup.display()))?;
    }
    let listed: BTreeSet<String> =
        whole.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    same("backups: folders", &listed, &names(&folder).into_iter().collect())
}

fn same<T: Ord + std::fmt::Debug>(what: &str, expected: &BTreeSet<T>, found: &BTreeSet<T>) -> Check {
    let missing: Vec<&T> = expected.difference(found).collect();
    let stray: Vec<&T> = found.difference(expected).collect();
    if missing.is_empty() && stray.is_empty() {
        return Ok(());
    }
    Err(format!("{what}: missing {missing:?}, nothing explains {stray:?}"))
}

/// Names in a folder; none where it is missing.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Every file and link below a folder.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
