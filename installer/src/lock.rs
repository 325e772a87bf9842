//! One installer at a time: an advisory lock that dies with its holder, and who that is.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::text::escaped;
use bundle_format::timestamp::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::audit::caller::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::proof::clock;

/// What a backup is called that holds the lock.
pub const BACKUP: &str = "backup";

/// Most bytes that are read of what a holder wrote.
const TEXT_BYTES: u64 = 2048;

/// The lock, held until it is dropped. What the file says is for people; only the lock counts.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Who holds the lock, as they wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// What it does.
    pub act: String,
    /// Who started it, as in the audit log.
    pub actor: String,
    /// From where, as in the audit log.
    pub origin: String,
    /// Since when.
    pub since: Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [act, actor, origin] = [&self.act, &self.actor, &self.origin].map(|text| escaped(text));
        write!(f, "pid {} doing {act}, by {actor} from {origin}, since {}", self.pid, self.since)
    }
}

impl Holder {
    fn of_this_process(act: &str) -> Self {
        let Caller { actor, origin, .. } = Caller::read();
        Self { pid: std::process::id(), act: act.to_owned(), actor, origin, since: clock() }
    }

    /// Who holds the lock now; without taking it even for a moment, so that nobody is refused by a look.
    /// What a dead process left, or wrote no more of, is nobody.
    pub fn look(path: &Path) -> Option<Self> {
        let holder: Self = serde_json::from_str(&text(&mut File::open(path).ok()?)).ok()?;
        let named = path.canonicalize().ok()?;
        let open = std::fs::read_dir(PathBuf::from(format!("/proc/{}/fd", holder.pid))).ok()?;
        let holds = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).is_ok_and(|target| target == named);
        open.flatten().any(holds).then_some(holder)
    }
}

impl Lock {
    /// Takes the lock or says who holds it.
    pub fn take(path: &Path, act: &str) -> Result<Self> {
        let io = |e| Error::io(path.display().to_string(), e);
        crate::atomic::make_folder(crate::atomic::parent(path))?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0).map_err(io)?;
                let line = serde_json::to_string(&Holder::of_this_process(act)).unwrap_or_default();
                writeln!(held, "{line}").map_err(io)?;
                Ok(Self { _file: held })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                // What it says is a courtesy: without it the lock is refused all the same.
                let said = text(&mut file);
                let holder = serde_json::from_str::<Holder>(&said).map(|holder| holder.to_string());
                Err(ErrorKind::Locked { holder: holder.unwrap_or_else(|_| escaped(said.trim())) }.into())
            }
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

impl Lock {
    /// The same; a backup that holds it is waited for, because it ends by itself and changes nothing that a plan
    /// rests on. `tell` hears of it.
    pub fn take_after_backup(path: &Path, act: &str, tell: impl Fn(&Holder)) -> Result<Self> {
        let refused = match Self::take(path, act) {
            Err(error) if matches!(error.kind(), ErrorKind::Locked { .. }) => error,
            other => return other,
        };
        let Some(holder) = Holder::look(path).filter(|holder| holder.act == BACKUP) else { return Err(refused) };
        tell(&holder);
        let io = |e| Error::io(path.display().to_string(), e);
        let file = File::open(path).map_err(io)?;
        // Only waited for; whoever comes in between is refused for like anybody else.
        drop(Flock::lock(file, FlockArg::LockShared).map_err(|(_, errno)| io(errno.into()))?);
        Self::take(path, act)
    }
}

/// What a holder wrote, as far as it can be read.
fn text(file: &mut File) -> String {
    let mut said = String::new();
    drop(file.rewind().and_then(|()| file.take(TEXT_BYTES).read_to_string(&mut said)));
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(Holder::look(&path), None);
        let first = Lock::take(&path, "install").unwrap();
        let refused = Lock::take(&path, "install").unwrap_err();
        let ErrorKind::Locked { holder: told } = refused.kind() else { panic!("{refused}") };
        let holder = Holder::look(&path).unwrap();
        assert_eq!(*told, holder.to_string());
        let caller = Caller::read();
        let parts = [
            format!("pid {} doing install", std::process::id()),
            format!("by {} from {}", escaped(&caller.actor), escaped(&caller.origin)),
            format!("since {}", holder.since),
        ];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert!(holder.since <= clock());
        drop(first);
        assert_eq!(Holder::look(&path), None, "a file without a lock names nobody");
        Lock::take(&path, "install").unwrap();
    }

    #[test]
    fn a_backup_is_waited_for_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path, "install").unwrap();
        let refused = Lock::take_after_backup(&path, "install", |_| panic!("nothing is waited for")).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Locked { .. }), "{refused}");
        drop(held);
        drop(Lock::take_after_backup(&path, "install", |_| panic!("nothing is waited for")).unwrap());
        let held = std::sync::Mutex::new(Some(Lock::take(&path, BACKUP).unwrap()));
        std::thread::scope(|scope| {
            let (send, told) = std::sync::mpsc::channel();
            let waits = scope.spawn({
                let path = &path;
                move || Lock::take_after_backup(path, "install", |holder| send.send(holder.act.clone()).unwrap())
            });
            assert_eq!(told.recv().unwrap(), BACKUP);
            drop(held.lock().unwrap().take());
            waits.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_is_no_holder_is_told_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path, "install").unwrap();
        std::fs::write(&path, "pid 7 doing \u{1b}[2J").unwrap();
        let refused = Lock::take(&path, "install").unwrap_err();
        let told = matches!(refused.kind(), ErrorKind::Locked { holder } if holder == "pid 7 doing \\u{1b}[2J");
        assert!(told, "{refused}");
        assert_eq!(Holder::look(&path), None);
        drop(held);
    }
}
