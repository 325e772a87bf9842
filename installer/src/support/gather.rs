//! What goes into a support bundle, as it is: nothing is redacted here yet.
//!
//! One thing that cannot be had must not keep the others from going along: what failed is itself
//! listed, in `missing.txt`.

use std::path::Path;

use bundle_format::digest::Sha384;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};

use super::redact;
use crate::audit::export::Format;
use crate::audit::log::Log;
use crate::command::Command;
use crate::engine::Podman;
use crate::error::{ErrorKind, Result};
use crate::host::{HostFacts, Init};
use crate::paths::Paths;
use crate::preflight::facts::Facts;
use crate::state::{RecordCopy, State};
use crate::status;

/// Bytes of a log that go along, the newest.
const LOG_BYTES: usize = 4 << 20;
/// Lines of the journal that go along, the newest.
const JOURNAL_LINES: &str = "20000";

/// A file on its way into the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) text: String,
    /// How often a rule that needs the structure has been applied already.
    pub(super) environments: u64,
}

/// Where things come from.
pub(super) struct Sources<'a> {
    pub(super) paths: &'a Paths,
    pub(super) host: &'a HostFacts,
    pub(super) record: &'a Readable,
    pub(super) podman: &'a Result<Option<Podman>>,
}

/// The record, or what can be read in its place.
pub(super) struct Readable {
    /// The record, else its copy, as it can be asked.
    pub(super) state: Option<State>,
    /// Why it is not the record itself.
    pub(super) why: Option<String>,
    /// The copy's tables, where the record cannot be read.
    pub(super) copy: Option<Result<Value>>,
}

impl Readable {
    /// Reads the record; where that fails, its copy.
    pub(super) fn of(paths: &Paths) -> Self {
        let error = match State::open(&paths.database()) {
            Ok(state) => return Self { state: Some(state), why: None, copy: None },
            Err(error) => error,
        };
        let (state, copy) = match RecordCopy::read(&paths.database_copy()) {
            Ok(copy) => {
                let tables = tables(copy.database());
                (Some(copy.into_state(paths)), tables)
            }
            Err(error) => (None, Err(error)),
        };
        Self { state, why: Some(error.to_string()), copy: Some(copy) }
    }
}

/// Files so far, and what could not be had.
#[derive(Default)]
struct Basket {
    items: Vec<Item>,
    missing: Vec<String>,
}

impl Basket {
    fn put(&mut self, name: &str, text: Result<String>) {
        match text {
            Ok(text) => self.items.push(Item { name: name.to_owned(), text, environments: 0 }),
            Err(error) => self.missing.push(format!("{name}: {error}")),
        }
    }

    fn put_json(&mut self, name: &str, value: Result<Value>) {
        self.put(name, value.map(|value| format!("{value:#}\n")));
    }
}

/// The record and what status makes of it; of its copy, where it cannot be read itself.
fn record(basket: &mut Basket, sources: &Sources<'_>) {
    let Readable { state, why, copy } = sources.record;
    match why {
        None => basket.put_json("state.json", dump(&sources.paths.database())),
        Some(why) => basket.missing.push(format!("state.json: {why}")),
    }
    match copy {
        Some(Ok(tables)) => basket.put_json("state-copy.json", Ok(tables.clone())),
        Some(Err(error)) => basket.missing.push(format!("state-copy.json: {error}")),
        None => {}
    }
    match state {
        Some(state) => {
            basket.put_json("status.json", status::read(state, sources.paths, sources.host).map(|s| s.to_json()));
        }
        None => basket.missing.push("status.json: neither the record nor its copy can be read".into()),
    }
}

/// Everything, in a fixed order.
pub(super) fn gather(sources: &Sources<'_>) -> Vec<Item> {
    let mut basket = Basket::default();
    record(&mut basket, sources);
    audit(&mut basket, sources.paths);
    basket.put_json("host.json", Ok(host(sources.host)));
    basket.put("versions.txt", Ok(versions()));
    logs(&mut basket, sources.paths);
    workloads(&mut basket, sources);
    if sources.host.init == Init::Systemd {
        basket.put(
            "journal.txt",
            said("journalctl", &["--no-pager", "-o", "short-iso", "-n", JOURNAL_LINES, "-u", "lockgate-*"]),
        );
        basket.put("units.txt", said("systemctl", &["--no-pager", "--all", "list-units", "lockgate-*"]));
        basket.put("timers.txt", said("systemctl", &["--no-pager", "--all", "list-timers", "lockgate-*"]));
    }
    match sources.podman {
        Ok(Some(podman)) => engine(&mut basket, podman),
        Ok(None) => basket.missing.push("podman: there is no engine on this machine".into()),
        Err(error) => basket.missing.push(format!("podman: {error}")),
    }
    let missing = if basket.missing.is_empty() { "nothing\n".to_owned() } else { basket.missing.join("\n") + "\n" };
    basket.put("missing.txt", Ok(missing));
    basket.items.sort_by(|a, b| a.name.cmp(&b.name));
    basket.items
}

/// Every table of the state database. Documents are named by size and digest: they are known to
/// whoever made them.
fn dump(database: &Path) -> Result<Value> {
    let what = |source| ErrorKind::Sqlite { what: "dump the state", source };
    let flags = OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE;
    tables(&Connection::open_with_flags(database, flags).map_err(what)?)
}

fn tables(db: &Connection) -> Result<Value> {
    let what = |source| ErrorKind::Sqlite { what: "dump the state", source };
    let mut tables = Map::new();
    let mut statement = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
        .map_err(what)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0)).map_err(what)?;
    for name in names.collect::<rusqlite::Result<Vec<_>>>().map_err(what)? {
        // Names of tables come from our own schema; a quote in one would be somebody else's.
        let mut rows = db.prepare(&format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""))).map_err(what)?;
        let columns: Vec<String> = rows.column_names().map(str::to_owned).collect();
        let mut found = rows.query([]).map_err(what)?;
        let mut list = Vec::new();
        while let Some(row) = found.next().map_err(what)? {
            let mut fields = Map::new();
            for (at, column) in columns.iter().enumerate() {
                fields.insert(column.clone(), cell(row.get_ref(at).map_err(what)?));
            }
            list.push(Value::Object(fields));
        }
        tables.insert(name, list.into());
    }
    Ok(tables.into())
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => json!({"bytes": bytes.len(), "sha384": Sha384::of(bytes).to_string()}),
    }
}

fn audit(basket: &mut Basket, paths: &Paths) {
    match Log::look(&paths.audit()) {
        Ok(Some(log)) => {
            let mut lines = String::new();
            let read = log.each(0, &mut |stored| {
                lines.push_str(&Format::Jsonl.line(&stored)?);
                lines.push('\n');
                Ok(())
            });
            basket.put("audit.jsonl", read.map(|()| lines));
            let head = log.envelope().map(|head| String::from_utf8_lossy(&head.unwrap_or_default()).into_owned());
            basket.put("audit-head.json", head);
        }
        Ok(None) => basket.missing.push("audit.jsonl: no log yet".into()),
        Err(error) => basket.missing.push(format!("audit.jsonl: {error}")),
    }
}

/// Facts of this machine, in the words of preflight.
fn host(host: &HostFacts) -> Value {
    let facts = Facts::read(Path::new("/"), &host.kernel);
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    json!({
        "os": host.os, "kernel": host.kernel, "memory_mib": host.memory_mib,
        "systemd": host.init == Init::Systemd, "cgroups": format!("{:?}", host.cgroups),
        "cpu_flags": facts.cpu_flags, "memory_available_mib": facts.memory_available_mib,
        "entropy": facts.entropy, "random_ready": facts.random_ready, "fips": facts.fips,
        "selinux_enforcing": facts.selinux_enforcing, "apparmor": facts.apparmor,
        "namespaces": facts.namespaces,
        "modules": facts.modules.iter().map(|(name, support)| format!("{name}: {support:?}")).collect::<Vec<_>>(),
        "mounts": text("/proc/self/mounts").lines().collect::<Vec<_>>(),
        "load": text("/proc/loadavg").trim(), "uptime": text("/proc/uptime").trim(),
        "disk": said("df", &["-B1", "--output=target,fstype,size,avail,itotal,iavail"]).unwrap_or_default().lines().collect::<Vec<_>>(),
    })
}

fn versions() -> String {
    let mut lines = vec![format!("installer {}", env!("CARGO_PKG_VERSION"))];
    let line = |program: &str| {
        let said = said(program, &["--version"]).unwrap_or_else(|error| error.to_string());
        format!("{program}: {}", said.lines().next().unwrap_or_default())
    };
    lines.extend(["podman", "crun", "runc", "conmon", "nft", "systemctl", "tar"].map(line));
    lines.join("\n") + "\n"
}

/// Logs of containers that did not become healthy.
fn logs(basket: &mut Basket, paths: &Paths) {
    let entries = std::fs::read_dir(paths.logs()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        let name = format!("logs/{}", entry.file_name().to_string_lossy());
        let bytes = std::fs::read(entry.path()).map_err(|e| crate::Error::io(entry.path().display().to_string(), e));
        basket.put(&name, bytes.map(|bytes| tail(&bytes)));
    }
}

/// The end of a log, from the beginning of a line.
fn tail(bytes: &[u8]) -> String {
    let cut = bytes.len().saturating_sub(LOG_BYTES);
    let text = String::from_utf8_lossy(bytes.get(cut..).unwrap_or_default()).into_owned();
    match text.split_once('\n') {
        Some((_, rest)) if cut > 0 => format!("[{cut} bytes before this are left out]\n{rest}"),
        _ => text,
    }
}

/// What the engine is told to run.
fn workloads(basket: &mut Basket, sources: &Sources<'_>) {
    let active = sources.record.state.as_ref().map(State::active_generations).transpose();
    let active = active.unwrap_or_else(|error| {
        basket.missing.push(format!("workloads: {error}"));
        None
    });
    for generation in active.unwrap_or_default() {
        let folder = sources.paths.generation(&generation.product, generation.id);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = format!("workloads/{}/{}", generation.product, entry.file_name().to_string_lossy());
            let text = std::fs::read_to_string(entry.path());
            basket.put(&name, text.map_err(|e| crate::Error::io(entry.path().display().to_string(), e)));
        }
    }
}

fn engine(basket: &mut Basket, podman: &Podman) {
    for (name, args) in [
        ("podman/version.txt", &["version"][..]),
        ("podman/info.json", &["info", "--format", "json"]),
        ("podman/containers.txt", &["ps", "--all", "--no-trunc"]),
        ("podman/pods.txt", &["pod", "ps", "--no-trunc"]),
        ("podman/images.txt", &["images", "--digests", "--no-trunc"]),
        ("podman/volumes.txt", &["volume", "ls"]),
        ("podman/secrets.txt", &["secret", "ls"]),
        ("podman/networks.txt", &["network", "ls"]),
        ("podman/system-df.txt", &["system", "df"]),
    ] {
        basket.put(name, podman.call(args.iter().copied()).run().map(|output| output.stdout));
    }
    for (kind, list, inspect) in [
        ("container", &["ps", "--all", "--quiet", "--no-trunc"][..], "container"),
        ("pod", &["pod", "ps", "--quiet", "--no-trunc"], "pod"),
        ("volume", &["volume", "ls", "--quiet"], "volume"),
        ("network", &["network", "ls", "--quiet", "--no-trunc"], "network"),
    ] {
        let name = format!("podman/inspect-{kind}.json");
        match inspected(podman, list, inspect) {
            Ok(Some((text, environments))) => basket.items.push(Item { name, text, environments }),
            Ok(None) => {}
            Err(error) => basket.missing.push(format!("{name}: {error}")),
        }
    }
}

/// What podman tells of all things of a kind, without the values of environments; nothing if there
/// is nothing of the kind.
fn inspected(podman: &Podman, list: &[&str], kind: &str) -> Result<Option<(String, u64)>> {
    let ids = podman.call(list.iter().copied()).run()?.stdout;
    let ids: Vec<&str> = ids.lines().map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() {
        return Ok(None);
    }
    let said = podman.call([kind, "inspect"]).args(ids.iter().copied()).run()?.stdout;
    // podman 4.3 shows one pod as an object, and several as objects behind each other.
    let parsed = serde_json::Deserializer::from_str(&said).into_iter::<Value>().collect::<serde_json::Result<Vec<_>>>();
    let mut shown = Value::Array(parsed.map_err(|e| ErrorKind::Unexpected {
        what: format!("podman {kind} inspect"),
        expected: "JSON".into(),
        found: e.to_string(),
    })?);
    let environments = redact::environments(&mut shown);
    Ok(Some((format!("{shown:#}\n"), environments)))
}

fn said(program: &str, args: &[&str]) -> Result<String> {
    Command::new(program).args(args.iter().copied()).run().map(|output| output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dump_names_documents_by_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut state = State::open(&path).unwrap();
        state.set_setting("accreditation", "SECRET").unwrap();
        state.put_root(b"envelope");
        let dump = dump(&path).unwrap();
        assert_eq!(dump["settings"][0], json!({"key": "accreditation", "value": "SECRET"}));
        assert_eq!(dump["trust_roots"][0]["envelope"]["sha384"], Sha384::of(b"envelope").to_string());
        assert!(dump["generations"].as_array().unwrap().is_empty());
    }

    #[test]
    fn only_the_end_of_a_long_log() {
        assert_eq!(tail(b"a\nb\n"), "a\nb\n");
        let mut long = b"first line\n".repeat(LOG_BYTES / 11 + 10);
        long.extend_from_slice(b"last");
        let tail = tail(&long);
        assert!(tail.len() <= LOG_BYTES + 100 && tail.starts_with('[') && tail.ends_with("line\nlast"));
    }
}
