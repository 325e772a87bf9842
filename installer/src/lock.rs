//! One installer at a time: an advisory lock that dies with its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, ErrorKind, Result};

/// The lock, held until it is dropped. What the file says is for people; only the lock counts.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
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
                writeln!(held, "pid {} doing {act}", std::process::id()).map_err(io)?;
                Ok(Self { _file: held })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                // What it says is a courtesy: without it the lock is refused all the same.
                drop(file.rewind().and_then(|()| (&mut file).take(200).read_to_string(&mut holder)));
                Err(ErrorKind::Locked { holder: bundle_format::text::escaped(holder.trim()) }.into())
            }
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take(&path, "install").unwrap();
        let refused = Lock::take(&path, "install").unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::Locked { holder } if holder.contains("doing install")),
            "{refused}"
        );
        drop(first);
        Lock::take(&path, "install").unwrap();
    }
}
