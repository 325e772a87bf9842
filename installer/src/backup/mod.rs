//! Backups of a platform's data while it runs, each by the method that its release declares; read
//! back before they count (`docs/spec/lifecycle.md`, 7).
//!
//! Threats: a copy of files that change meanwhile; a backup that nobody can read on the day; a
//! backup of other data than the release understands. Defences: a database dumps itself, files are
//! copied while their pods are held still; every file is read back from the disk, archives are unpacked and
//! compared with what went into them, dumps are parsed by the database's own reader, whole; a backup names
//! its release and is refused where its data would not fit. A clock that is set back, so that the newest
//! passes for the oldest: they are numbered in the order in which they are made.

mod archive;
pub mod command;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle_format::digest::Sha384;
use bundle_format::lifecycle::{self, Data};
use bundle_format::manifest::Manifest;
use bundle_format::marking::Marking;
use bundle_format::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Access};
use crate::command::failed;
use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;
use crate::release::Release;
use crate::signals::Stop;
use crate::state::{Generation, State};
use crate::tree::{self, Source};

pub use archive::unpack;

const FORMAT: &str = "lockgate-backup/2";
/// Of before the content of archives was recorded: of those only the files can be compared.
const FORMAT_1: &str = "lockgate-backup/1";
const LIST: &str = "backup.json";
const LIST_BYTES: u64 = 1 << 20;
/// So often a dump is made that does not read back: on a busy machine an engine was seen to lose the end
/// of what a command in a container wrote, and to say that the command went well.
const TRIES: usize = 3;
/// A dump or a load of a large database.
const LONG: Duration = Duration::from_secs(6 * 3600);

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    format: String,
    /// Product whose data it is.
    pub product: String,
    /// Release that wrote the data.
    pub release: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its signed manifest.
    pub manifest_sha384: String,
    /// Marking of the data: that of the release.
    pub marking: Marking,
    /// When it was begun: writes after this may be missing.
    pub at: Timestamp,
    /// The files.
    pub entries: Vec<Entry>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The claim whose data it is.
    pub claim: String,
    /// File name.
    pub file: String,
    /// Whether it is a dump that a running database loads, or a volume's content.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Of the file.
    pub sha384: Sha384,
    /// Of an archive's content: of the tar stream as it was read from the copy, before it was compressed and
    /// written. None for dumps, which their own reader reads whole, and in `lockgate-backup/1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_sha384: Option<Sha384>,
}

/// What a backup's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `pg_dump` custom format.
    PostgresDump,
    /// tar in zstd.
    Archive,
}

/// A backup on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    folder: PathBuf,
    list: List,
}

/// One backup to be made.
#[derive(Debug)]
pub struct Job<'a> {
    /// The engine.
    pub podman: &'a Podman,
    /// Where things lie.
    pub paths: &'a Paths,
    /// The generation that runs.
    pub generation: &'a Generation,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Its workloads.
    pub release: &'a Release,
    /// Its volumes by claim.
    pub volumes: &'a BTreeMap<String, String>,
    /// The time.
    pub now: &'a Timestamp,
    /// Whether somebody asked to stop.
    pub stop: &'a Stop,
}

impl Job<'_> {
    /// Makes the backup, reads it back, removes those beyond what is to be kept; where it lies. `state`
    /// keeps which pods are held still, so that a backup that is cut off leaves none so for long.
    pub fn run(&self, state: &mut State, tell: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        let folder = self.paths.backups(&self.manifest.product);
        let number = list(&folder)?.last().map_or(0, |newest| number(newest)).saturating_add(1);
        let name = format!("{}-g{}-b{number}", self.now.as_str().replace(':', ""), self.generation.id);
        let (part, whole) = (folder.join(format!(".{name}.part")), folder.join(&name));
        atomic::remove_folder(&part)?;
        atomic::make_folder(&part)?;
        let made = self.fill(&part, state, tell).and_then(|entries| {
            let list = List {
                format: FORMAT.into(),
                product: self.manifest.product.clone(),
                release: self.manifest.release.clone(),
                sequence: self.manifest.sequence,
                manifest_sha384: self.generation.manifest_sha384.clone(),
                marking: self.manifest.marking.clone(),
                at: self.now.clone(),
                entries,
            };
            let bytes = bundle_format::json::to_bytes("backup", &list)?;
            atomic::write(&part.join(LIST), &bytes, Access::Private)?;
            Backup::open(&part)?.check()
        });
        if let Err(error) = made {
            atomic::remove_folder(&part)?;
            return Err(error);
        }
        std::fs::rename(&part, &whole).map_err(|e| Error::io(whole.display().to_string(), e))?;
        atomic::sync_folder(&folder)?;
        // What a restore that is not over reads from stays until it is.
        let used = state.open_run()?.filter(|run| run.act == "restore").map(|run| PathBuf::from(run.source));
        self.prune(&folder, used.as_deref())?;
        Ok(whole)
    }

    fn fill(&self, part: &Path, state: &mut State, tell: &mut dyn FnMut(&str)) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for data in &self.manifest.lifecycle.data {
            self.stop.refuse()?;
            let (file, kind) = match &data.backup {
                lifecycle::Backup::Postgres { .. } => (format!("{}.dump", data.volume), Kind::PostgresDump),
                lifecycle::Backup::Copy => (format!("{}.tar.zst", data.volume), Kind::Archive),
            };
            let path = part.join(&file);
            let content_sha384 = match &data.backup {
                lifecycle::Backup::Postgres { container, database, host } => {
                    self.dump(container, database, host, &path)?;
                    None
                }
                lifecycle::Backup::Copy => Some(self.copy(data, &part.join("copy"), &path, state)?),
            };
            let size = std::fs::metadata(&path).map_err(|e| Error::io(path.display().to_string(), e))?.len();
            let entry =
                Entry { claim: data.volume.clone(), file, kind, size, sha384: from_disk(&path)?, content_sha384 };
            tell(&format!("{}: {size} bytes", entry.file));
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The database dumps itself in one snapshot; its own reader then reads the dump whole. One that does
    /// not read is made again.
    fn dump(&self, container: &str, database: &str, host: &str, path: &Path) -> Result<()> {
        let io = |e| Error::io(path.display().to_string(), e);
        let words = ["pg_dump", "-h", host, "-d", database, "-Fc", "--no-password"].map(str::to_owned);
        for left in (0..TRIES).rev() {
            let file = File::create(path).map_err(io)?;
            let output = file.try_clone().map_err(io)?;
            self.podman.exec(container, &words).stdout_to(output).deadline(LONG).until(self.stop).run()?;
            file.sync_all().map_err(io)?;
            match self.read_dump(container, path) {
                Err(error) if left > 0 && matches!(error.kind(), ErrorKind::Child { .. }) => {}
                other => return other,
            }
        }
        Ok(())
    }

    /// All of it, not its list alone: the list stands at the beginning, and what may be missing is the end.
    fn read_dump(&self, container: &str, path: &Path) -> Result<()> {
        let words = ["pg_restore", "--file", "/dev/null"].map(str::to_owned);
        let input = File::open(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        self.podman.exec_reading(container, &words).stdin_from(input).deadline(LONG).until(self.stop).run().map(drop)
    }

    /// Two passes: the pods are held still only for what changed since the first. SHA-384 of what was packed.
    fn copy(&self, data: &Data, copy: &Path, path: &Path, state: &mut State) -> Result<Sha384> {
        let volume = self.volumes.get(&data.volume).map_or(data.volume.as_str(), String::as_str);
        let from = self.podman.volume_path(volume)?;
        atomic::make_folder(copy)?;
        let mut seen = tree::Seen::default();
        tree::mirror(&from, copy, Source::Live, &mut seen, self.stop)?;
        let pods = self.release.pods_of(&data.volume);
        state.set_setting(HELD, &pods.join(" "))?;
        let held = pods.iter().try_for_each(|pod| self.podman.pause(pod, true));
        let copied = held.and_then(|()| tree::mirror(&from, copy, Source::Quiet, &mut seen, self.stop));
        // They go on whatever happened.
        let released = let_go(self.podman, state);
        copied?;
        released?;
        self.stop.refuse()?;
        let content = archive::pack(copy, path)?;
        atomic::remove_folder(copy)?;
        Ok(content)
    }

    fn prune(&self, folder: &Path, used: Option<&Path>) -> Result<()> {
        let keep = self.manifest.lifecycle.data.iter().map(|data| data.keep).max().unwrap_or(1);
        beyond(list(folder)?, keep, used).iter().try_for_each(|old| atomic::remove_folder(old))
    }
}

/// Those of `all`, the oldest first, that are beyond so many; the one in use is not among them.
fn beyond(mut all: Vec<PathBuf>, keep: u32, used: Option<&Path>) -> Vec<PathBuf> {
    all.truncate(all.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX)));
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let used = used.map(real);
    all.retain(|old| used.as_deref() != Some(&*real(old)));
    all
}

/// Site setting with the pods that a backup holds still.
pub(crate) const HELD: &str = "held-pods";

/// Takes every pod of what runs for held, where nobody knows any more: letting go of one that is not is no
/// trouble.
pub fn suspect(state: &mut State, paths: &Paths) -> Result<()> {
    let mut pods = Vec::new();
    for generation in state.active_generations()? {
        // One whose workloads cannot be read is named by a check.
        let Ok(release) = Release::load(&generation.parse()?, &crate::store::Store::peek(&paths.store())) else {
            continue;
        };
        pods.extend(release.files(&paths.current(&generation.product)).into_iter().flat_map(|file| file.pods));
    }
    state.set_setting(HELD, &pods.join(" "))
}

/// Whether a backup that was cut off holds pods still.
pub fn holds(state: &State) -> Result<bool> {
    Ok(state.setting(HELD)?.is_some_and(|held| !held.is_empty()))
}

/// Lets pods go on that a backup held still; one that is not held, or not there, is no trouble.
pub fn let_go(podman: &Podman, state: &mut State) -> Result<()> {
    let held = state.setting(HELD)?.unwrap_or_default();
    for pod in held.split_whitespace() {
        if podman.is_paused(pod)? {
            podman.pause(pod, false)?;
        }
    }
    if held.is_empty() { Ok(()) } else { state.set_setting(HELD, "") }
}

/// Place of a backup among those of its product, from 1, out of its folder's name; 0 for one of before they
/// were numbered. It counts where clocks do not: what a clock that was set back makes is still the newest.
fn number(folder: &Path) -> u64 {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once("-b").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Folders of a product's backups, in the order in which they were made; those of before they were numbered
/// come first, by their names.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| Error::io(folder.display().to_string(), e))?,
    }
    .flatten()
    .map(|entry| entry.path())
    .filter(|path| path.join(LIST).is_file() && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')))
    .collect();
    found.sort_by_cached_key(|path| (number(path), path.clone()));
    Ok(found)
}

/// SHA-384 of a file as the disk has it.
fn from_disk(path: &Path) -> Result<Sha384> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut file = File::open(path).map_err(io)?;
    // A file system that ignores the advice (tmpfs) has no disk to read from.
    let _ = nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    Ok(Sha384::of_reader(&mut file, &mut |_| ()).map_err(io)?.1)
}

impl Backup {
    /// Reads a backup's list. Its files are checked by [`Backup::check`].
    pub fn open(folder: &Path) -> Result<Self> {
        let bad = |why: String| ErrorKind::BadBackup { path: folder.display().to_string(), why };
        let bytes = std::fs::read(folder.join(LIST)).map_err(|e| archive::unread(folder, &format!("{LIST}: "), e))?;
        let list: List = bundle_format::json::parse("backup", &bytes, LIST_BYTES).map_err(|e| bad(e.to_string()))?;
        if ![FORMAT, FORMAT_1].contains(&list.format.as_str()) {
            return Err(bad(format!("format {}, expected {FORMAT}", bundle_format::text::escaped(&list.format))).into());
        }
        let has_content = |entry: &Entry| entry.kind == Kind::Archive && list.format == FORMAT;
        if let Some(entry) = list.entries.iter().find(|entry| entry.content_sha384.is_some() != has_content(entry)) {
            let which = if has_content(entry) { "no" } else { "a" };
            return Err(bad(format!("{}: {which} SHA-384 of its content", entry.file)).into());
        }
        for entry in &list.entries {
            bundle_format::name::check_file_name("backup file", &entry.file)?;
            bundle_format::name::check_label("claim", &entry.claim)?;
        }
        Ok(Self { folder: folder.to_owned(), list })
    }

    /// What it holds.
    pub const fn list(&self) -> &List {
        &self.list
    }

    /// Reads every file back and compares sizes and digests; archives are unpacked for it, and compared with
    /// what went into them. One of `lockgate-backup/1` does not say what did: there a file that was damaged while
    /// it was written passes.
    pub fn check(&self) -> Result<()> {
        for entry in &self.list.entries {
            let path = self.folder.join(&entry.file);
            let bad = |why: String| ErrorKind::BadBackup { path: path.display().to_string(), why };
            let size = std::fs::metadata(&path).map_err(|e| archive::unread(&path, "", e))?.len();
            if size != entry.size {
                return Err(bad(format!("expected {} bytes, found {size}", entry.size)).into());
            }
            let found = from_disk(&path)?;
            if found != entry.sha384 {
                return Err(bad(format!("expected SHA-384 {}, found {found}", entry.sha384)).into());
            }
            let Some(expected) = entry.content_sha384 else { continue };
            let found = archive::content(&path)?;
            if found != expected {
                return Err(bad(format!("its content: expected SHA-384 {expected}, found {found}")).into());
            }
        }
        Ok(())
    }

    /// Refuses a backup whose data the release that runs would not understand.
    pub fn check_fits(&self, manifest: &Manifest) -> Result<()> {
        let bad = |why: String| ErrorKind::BadBackup { path: self.folder.display().to_string(), why };
        if self.list.product != manifest.product {
            return Err(bad(format!("it is of {}, expected {}", self.list.product, manifest.product)).into());
        }
        if self.list.sequence > manifest.sequence {
            let (found, runs) = (self.list.sequence, manifest.sequence);
            return Err(bad(format!("it is of sequence {found}, newer than sequence {runs} that runs")).into());
        }
        let passed = crate::change::step::migrations(&manifest.lifecycle, self.list.sequence).next();
        if let Some(migration) = passed.filter(|_| self.list.sequence < manifest.sequence) {
            let why = format!("it is of before migration {}; install that release first", migration.name);
            return Err(bad(why).into());
        }
        let known = |entry: &&Entry| !manifest.lifecycle.data.iter().any(|data| data.volume == entry.claim);
        match self.list.entries.iter().find(known) {
            Some(entry) => Err(bad(format!("the release has no data volume {}", entry.claim)).into()),
            None => Ok(()),
        }
    }

    /// Claims that a running database loads.
    pub fn loads(&self) -> Vec<String> {
        let dumps = self.list.entries.iter().filter(|entry| entry.kind == Kind::PostgresDump);
        dumps.map(|entry| entry.claim.clone()).collect()
    }

    /// The archive with a claim's content.
    pub fn archive_of(&self, claim: &str) -> Option<PathBuf> {
        let found = self.list.entries.iter().find(|entry| entry.claim == claim && entry.kind == Kind::Archive);
        found.map(|entry| self.folder.join(&entry.file))
    }

    /// Bytes of the archive with a claim's content, unpacked.
    pub fn unpacked_size(&self, claim: &str) -> Result<u64> {
        self.archive_of(claim).map_or(Ok(0), |path| archive::unpacked_size(&path))
    }

    /// Loads the dump of `claim` into its database once `ready` says that its container is.
    pub fn load(
        &self,
        claim: &str,
        manifest: &Manifest,
        podman: &Podman,
        stop: &Stop,
        ready: impl Fn(&str) -> Result<()>,
    ) -> Result<()> {
        let bad = |why: &str| ErrorKind::BadBackup { path: self.folder.display().to_string(), why: why.into() };
        let entry = self.list.entries.iter().find(|entry| entry.claim == claim);
        let entry = entry.ok_or_else(|| bad("it does not hold this claim"))?;
        let data = manifest.lifecycle.data.iter().find(|data| data.volume == claim);
        let Some(lifecycle::Backup::Postgres { container, database, host }) = data.map(|data| &data.backup) else {
            return Err(bad("the release does not declare a database there").into());
        };
        ready(container)?;
        let path = self.folder.join(&entry.file);
        let file = File::open(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
        let words = ["pg_restore", "-h", host, "-d", database, "--clean", "--if-exists", "--single-transaction"];
        let words = [&words[..], &["--exit-on-error", "--no-password"]].concat().into_iter().map(str::to_owned);
        let words: Vec<String> = words.collect();
        let said = podman.exec_reading(container, &words).stdin_from(file).deadline(LONG).until(stop).output()?;
        if said.code == 0 { Ok(()) } else { Err(failed(words.join(" "), &said)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(product: &str, sequence: u64) -> Manifest {
        let json = serde_json::json!({
            "format": bundle_format::manifest::FORMAT, "product": product, "release": "1", "sequence": sequence,
            "marking": "UNCLASSIFIED", "platform": "linux/amd64", "title": "t", "created": "2026-01-01T00:00:00Z",
            "expires": null, "requires": {"memory_mib": 0, "disk_mib": 0},
            "lifecycle": {"data": [{"volume": "data", "backup": {"method": "copy"}, "keep": 2}],
                          "migrations": [{"name": "three", "since": 3, "container": "c", "up": ["x"]}]},
            "network": {"name": "n", "internal": true},
            "images": [], "secrets": [], "workloads": [], "files": [], "runtime": [], "attachments": [], "bases": [], "packs": [],
        });
        bundle_format::manifest::parse(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_oldest_go_but_not_the_one_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<PathBuf> = ["a", "b", "c", "d"].map(|name| folder.path().join(name)).into();
        for path in &all {
            std::fs::create_dir(path).unwrap();
        }
        let names = |keep, used: Option<&Path>| -> Vec<String> {
            let gone = beyond(all.clone(), keep, used);
            gone.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(2, None), ["a", "b"]);
        assert_eq!(names(4, None), Vec::<String>::new());
        assert_eq!(names(5, None), Vec::<String>::new());
        // By whatever name it was given.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&all[0], &link).unwrap();
        assert_eq!(names(2, Some(&link)), ["b"]);
        assert_eq!(names(2, Some(&all[3])), ["a", "b"]);
    }

    fn sample(folder: &Path, claim: &str) -> Backup {
        std::fs::write(folder.join("data.tar.zst"), b"content").unwrap();
        let entry = Entry {
            claim: claim.into(),
            file: "data.tar.zst".into(),
            kind: Kind::Archive,
            size: 7,
            sha384: Sha384::of(b"content"),
            content_sha384: None,
        };
        let list = List {
            format: FORMAT_1.into(),
            product: "p".into(),
            release: "2".into(),
            sequence: 2,
            manifest_sha384: "x".into(),
            marking: Marking::UNCLASSIFIED,
            at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            entries: vec![entry],
        };
        std::fs::write(folder.join(LIST), bundle_format::json::to_bytes("backup", &list).unwrap()).unwrap();
        Backup::open(folder).unwrap()
    }

    #[test]
    fn a_damaged_backup_is_refused_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let backup = sample(folder.path(), "data");
        backup.check().unwrap();
        for damage in [&b"contenT"[..], b"conten"] {
            std::fs::write(folder.path().join("data.tar.zst"), damage).unwrap();
            assert!(matches!(backup.check().unwrap_err().kind(), ErrorKind::BadBackup { .. }));
        }
        std::fs::remove_file(folder.path().join("data.tar.zst")).unwrap();
        assert_eq!(backup.check().unwrap_err().class().exit_code(), 3);
        for list in ["{}", "{\"format\":\"lockgate-backup/3\"}", ""] {
            std::fs::write(folder.path().join(LIST), list).unwrap();
            assert!(matches!(Backup::open(folder.path()).unwrap_err().kind(), ErrorKind::BadBackup { .. }), "{list}");
        }
    }

    #[test]
    fn what_the_machine_cannot_read_is_no_bad_backup() {
        let folder = tempfile::tempdir().unwrap();
        let backup = sample(folder.path(), "data");
        let path = folder.path().join("data.tar.zst");
        // A link to itself: the file system answers with an error (ELOOP), as a dying disk does.
        let endless = |path: &Path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(path, path).unwrap();
        };
        endless(&path);
        let archive = [archive::content(&path).map(drop), archive::unpacked_size(&path).map(drop)];
        for error in archive.map(Result::unwrap_err).into_iter().chain([backup.check().unwrap_err()]) {
            assert!(matches!(error.kind(), ErrorKind::Io { .. }) && error.class().exit_code() == 6, "{error}");
        }
        endless(&folder.path().join(LIST));
        let error = Backup::open(folder.path()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }) && error.class().exit_code() == 6, "{error}");
        let error = archive::unread(&path, "", std::io::Error::from_raw_os_error(5));
        assert!(matches!(error.kind(), ErrorKind::Io { source, .. } if source.raw_os_error() == Some(5)), "{error}");
        let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert!(matches!(archive::unread(&path, "", cut).kind(), ErrorKind::BadBackup { .. }), "it does not decode");
    }

    #[test]
    fn an_archive_that_was_damaged_while_it_was_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("x"), b"content").unwrap();
        let write = |format: &str, content: Option<Sha384>| {
            let mut backup = sample(folder.path(), "data");
            let path = folder.path().join("data.tar.zst");
            std::fs::remove_file(&path).unwrap();
            archive::pack(&from, &path).unwrap();
            backup.list.format = format.into();
            let entry = backup.list.entries.first_mut().unwrap();
            // As `fill` takes them: of the file that lies there, damaged or not.
            entry.size = std::fs::metadata(&path).unwrap().len();
            (entry.sha384, entry.content_sha384) = (from_disk(&path).unwrap(), content);
            let bytes = bundle_format::json::to_bytes("backup", &backup.list).unwrap();
            std::fs::write(folder.path().join(LIST), bytes).unwrap();
            Backup::open(folder.path())
        };
        std::fs::remove_file(folder.path().join("data.tar.zst")).unwrap_or_default();
        let sound = archive::pack(&from, &folder.path().join("sound")).unwrap();
        write(FORMAT, Some(sound)).unwrap().check().unwrap();
        std::fs::write(from.join("x"), b"contenT").unwrap();
        let error = write(FORMAT, Some(sound)).unwrap().check().unwrap_err();
        let told = matches!(error.kind(), ErrorKind::BadBackup { why, .. } if why.starts_with("its content: expected"));
        assert!(told, "{error}");
        assert_eq!(error.class().exit_code(), 3);
        write(FORMAT_1, None).unwrap().check().unwrap();
        for (format, content) in [(FORMAT, None), (FORMAT_1, Some(sound))] {
            assert!(matches!(write(format, content).unwrap_err().kind(), ErrorKind::BadBackup { .. }), "{format}");
        }
    }

    #[test]
    fn backups_are_in_the_order_in_which_they_were_made() {
        let folder = tempfile::tempdir().unwrap();
        let order =
            ["2026-01-01T000000Z-g1", "2027-01-01T000000Z-g1", "2026-12-01T000000Z-g1-b9", "2000-01-01T000000Z-g2-b10"];
        for name in order {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join(LIST), b"").unwrap();
        }
        let found = list(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, order);
    }

    #[test]
    fn data_that_would_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let backup = sample(folder.path(), "data");
        backup.check_fits(&manifest("p", 2)).unwrap();
        for (manifest, word) in [
            (manifest("q", 2), "expected q"),
            (manifest("p", 1), "newer than"),
            (manifest("p", 3), "before migration three"),
        ] {
            let error = backup.check_fits(&manifest).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::BadBackup { why, .. } if why.contains(word)), "{error}");
        }
        let other = sample(folder.path(), "other");
        assert!(other.check_fits(&manifest("p", 2)).is_err());
    }
}
