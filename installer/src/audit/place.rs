//! Where the log lies: in the state folder, or behind a link on a file system of its own.

use std::path::{Path, PathBuf};

use bundle_format::timestamp::Timestamp;

use super::log::Log;
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;

/// Puts the log into `folder`, which may be on another file system. Only before its first record:
/// a log does not move, because a copy of it could be taken for it.
pub fn choose(paths: &Paths, folder: &Path) -> Result<()> {
    let link = paths.audit();
    let folder = std::path::absolute(folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
    if std::fs::read_link(&link).is_ok_and(|target| target == folder) {
        return Ok(());
    }
    if std::fs::symlink_metadata(&link).is_ok() {
        let why = format!("the audit log is at {} already; it does not move", link.display());
        return Err(ErrorKind::Usage { why }.into());
    }
    atomic::make_folder(&folder)?;
    atomic::make_folder(atomic::parent(&link))?;
    std::os::unix::fs::symlink(&folder, &link).map_err(|e| Error::io(link.display().to_string(), e))?;
    atomic::sync_folder(atomic::parent(&link))
}

/// Moves the log's files into a folder of their own beside it, named by the time; says which.
pub(super) fn put_aside(folder: &Path, now: &Timestamp) -> Result<PathBuf> {
    let stamp: String = now.as_str().chars().filter(char::is_ascii_alphanumeric).collect();
    let mut aside = folder.join(format!("aside-{stamp}"));
    let mut number = 1;
    while aside.exists() {
        number += 1;
        aside = folder.join(format!("aside-{stamp}-{number}"));
    }
    atomic::make_folder(&aside)?;
    let file = Log::file(folder);
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        let from = folder.join(&name);
        if from.exists() {
            let to = aside.join(&name);
            std::fs::rename(&from, to).map_err(|e| Error::io(from.display().to_string(), e))?;
        }
    }
    atomic::sync_folder(folder)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_placed_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("state"));
        let other = folder.path().join("other/audit");
        choose(&paths, &other).unwrap();
        assert_eq!(std::fs::read_link(paths.audit()).unwrap(), other);
        choose(&paths, &other).unwrap();
        let error = choose(&paths, &folder.path().join("third")).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage { .. }), "{error}");
        let paths = Paths::new(folder.path().join("second"));
        atomic::make_folder(&paths.audit()).unwrap();
        assert!(matches!(choose(&paths, &other).unwrap_err().kind(), ErrorKind::Usage { .. }));
    }
}
