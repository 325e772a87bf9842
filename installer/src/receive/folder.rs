//! `receive folder`: a folder that a guard, a commercial diode or a network share fills.
//!
//! What may hurt it: files that are still being written, in any order, doubled, of another set, or
//! no part of a bundle at all. Who defends: a file is looked at only when it was closed or renamed
//! there, or stayed as it is between two looks; what it is, its content says, not its name; what does
//! not belong goes to the quarantine folder, where nothing reads it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bundle_format::Class;
use bundle_format::set::SetList;
use bundle_format::text::escaped;
use bundle_format::volume::MAGIC;
use confinement::open_regular;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Arrival;
use super::intake::{Intake, Received, Taken};
use super::volume::Volume;
use crate::error::{Error, ErrorKind, Result};

/// How to watch.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder.
    pub folder: PathBuf,
    /// Where what does not belong goes.
    pub quarantine: PathBuf,
    /// Time between two looks, for shares that tell nothing.
    pub poll: Duration,
    /// A file shorter than its volume is taken as it is after this time without a change.
    pub settle: Duration,
    /// Time without a new file that ends the wait.
    pub timeout: Duration,
    /// What becomes of files that were taken in.
    pub taken: After,
}

/// What becomes of files that were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// They stay.
    Keep,
    /// They are removed: their bytes are in the inbox.
    Remove,
}

/// What is known of a file in the folder.
#[derive(Debug)]
struct Known {
    stamp: (u64, i64, i64),
    since: Instant,
    looks: u32,
    done: bool,
}

/// Watches the folder until the bundle is whole and proved. `admitted` sees
/// the bundle before anything is said, `tell` is given lines for a person.
pub fn receive(
    options: &Options,
    intake: &mut Intake<'_>,
    admitted: &mut dyn FnMut(&Arrival),
    tell: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Received> {
    let shown = options.folder.display().to_string();
    if !options.folder.is_dir() {
        return Err(ErrorKind::Usage { why: format!("{shown} is not a folder") }.into());
    }
    let watch = watch(&options.folder);
    if watch.is_none() {
        tell(&format!("{shown} tells no changes; looking every {} s", options.poll.as_secs()))?;
    }
    let mut known = BTreeMap::new();
    let mut last_new = Instant::now();
    let mut refused = None;
    loop {
        for path in settled(options, &mut known)? {
            let looked = look(&path, options, &known, intake, admitted);
            if matches!(looked, Ok(Look::Wait)) {
                continue;
            }
            last_new = Instant::now();
            match looked {
                Ok(Look::Wait) => {}
                Ok(Look::Taken(lines)) => {
                    lines.iter().try_for_each(|line| tell(line))?;
                    if options.taken == After::Remove {
                        std::fs::remove_file(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
                    }
                }
                Ok(Look::Stranger(why)) => {
                    let to = quarantine(&path, &options.quarantine)?;
                    tell(&format!("{why}; moved to {}", to.display()))?;
                }
                Err(error) if is_about_the_file(&error) => {
                    let to = quarantine(&path, &options.quarantine)?;
                    tell(&format!("{error}; moved to {}", to.display()))?;
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
            if let Some(known) = known.get_mut(&path) {
                known.done = true;
            }
            if intake.has_enough() {
                match intake.finish("drop folder") {
                    Err(error) if matches!(error.kind(), ErrorKind::Incomplete { .. }) => {
                        tell(&error.to_string())?;
                    }
                    other => return other,
                }
            }
        }
        if last_new.elapsed() >= options.timeout {
            return match refused {
                Some(error) if intake.arrival().is_none() => Err(error),
                _ => intake.finish("drop folder"),
            };
        }
        wait(watch.as_ref(), options.poll);
    }
}

/// Errors that say something about one file, not about this machine.
fn is_about_the_file(error: &Error) -> bool {
    matches!(error.class(), Class::Damaged | Class::Untrusted | Class::Policy)
}

enum Look {
    /// Not whole yet, perhaps.
    Wait,
    Taken(Vec<String>),
    Stranger(String),
}

fn look(
    path: &Path,
    options: &Options,
    known: &BTreeMap<PathBuf, Known>,
    intake: &mut Intake<'_>,
    admitted: &mut dyn FnMut(&Arrival),
) -> Result<Look> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut start = Vec::new();
    open_regular(path).map_err(io)?.take(4 << 20).read_to_end(&mut start).map_err(io)?;
    let name = escaped(&path.file_name().unwrap_or_default().to_string_lossy());
    if !start.starts_with(MAGIC) {
        return Ok(if is_list(&start) {
            Look::Taken(vec![format!("{name}: a list of the set")])
        } else {
            Look::Stranger(format!("{name}: not a part of a bundle"))
        });
    }
    let volume = Volume::open(path)?;
    let length = std::fs::metadata(path).map_err(io)?.len();
    let young = known.get(path).is_none_or(|known| known.since.elapsed() < options.settle);
    if length < volume.head.shape.volume_size() && young {
        return Ok(Look::Wait);
    }
    match intake.admit(&volume) {
        // The chain of custody may come later than the first volume.
        Err(error) if young && matches!(error.kind(), ErrorKind::CustodyMissing { .. }) => return Ok(Look::Wait),
        other => other?,
    }
    if let Some(arrival) = intake.arrival() {
        admitted(arrival);
    }
    Ok(match intake.offer(&volume)? {
        Taken::Yes(lines) => Look::Taken(lines),
        Taken::No(why) => Look::Stranger(why),
    })
}

/// The lists that travel beside volumes: they are for people and guards, nothing here depends on them.
fn is_list(bytes: &[u8]) -> bool {
    let sums = || {
        std::str::from_utf8(bytes).is_ok_and(|text| {
            !text.is_empty()
                && text.lines().all(|line| line.get(..96).is_some_and(|sum| sum.bytes().all(|b| b.is_ascii_hexdigit())))
        })
    };
    SetList::parse(bytes).is_ok() || bytes.starts_with(b"{\"format\":\"lockgate-custody") || sums()
}

/// Files that did not change since the last look, and were not taken yet.
fn settled(options: &Options, known: &mut BTreeMap<PathBuf, Known>) -> Result<Vec<PathBuf>> {
    let io = |e| Error::io(options.folder.display().to_string(), e);
    let mut ready = Vec::new();
    for entry in std::fs::read_dir(&options.folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A file that goes while we look was not for us.
        let Ok(metadata) = entry.metadata() else { continue };
        let unfinished = [".part", ".tmp", ".partial"].iter().any(|end| name.to_lowercase().ends_with(end));
        if !metadata.is_file() || name.starts_with('.') || unfinished {
            continue;
        }
        let stamp = (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let fresh = || Known { stamp, since: Instant::now(), looks: 0, done: false };
        let file = known.entry(entry.path()).or_insert_with(fresh);
        if file.stamp != stamp {
            *file = fresh();
        }
        file.looks += 1;
        if !file.done && file.looks > 1 {
            ready.push(entry.path());
        }
    }
    ready.sort();
    Ok(ready)
}

/// Moves a file away, also to another file system.
fn quarantine(path: &Path, folder: &Path) -> Result<PathBuf> {
    crate::atomic::make_folder(folder)?;
    let name = path.file_name().unwrap_or_default();
    let mut to = folder.join(name);
    let mut number = 1;
    while to.exists() {
        number += 1;
        to = folder.join(format!("{}.{number}", name.to_string_lossy()));
    }
    let io = |e| Error::io(to.display().to_string(), e);
    match std::fs::rename(path, &to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            std::fs::copy(path, &to).map_err(io)?;
            std::fs::remove_file(path).map_err(io)?;
        }
        other => other.map_err(io)?,
    }
    Ok(to)
}

/// A watch on the folder, where its file system tells changes.
fn watch(folder: &Path) -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    let events = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(folder, events).ok()?;
    Some(inotify)
}

/// Waits for a change, or until it is time to look again anyway.
fn wait(watch: Option<&Inotify>, poll: Duration) {
    use std::os::fd::AsFd as _;
    let Some(inotify) = watch else {
        std::thread::sleep(poll);
        return;
    };
    let timeout = nix::poll::PollTimeout::try_from(poll).unwrap_or(nix::poll::PollTimeout::MAX);
    let mut fds = [nix::poll::PollFd::new(inotify.as_fd(), nix::poll::PollFlags::POLLIN)];
    // A failed wait only means an earlier look.
    let _ = nix::poll::poll(&mut fds, timeout);
    drop(inotify.read_events());
    // Not more than ten looks a second, however much is written.
    std::thread::sleep(Duration::from_millis(100));
}
