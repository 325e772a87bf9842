//! The one place for replacing a file so that a reader sees the old or the new one, never a part.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Mode 0600.
    Private,
    /// Mode 0644.
    Public,
    /// Mode 0755.
    Program,
}

/// Writes `bytes` to `path`: temporary file beside it, synced, renamed, folder synced. The folder
/// is made if it is missing.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let temporary = temporary(path, bytes, access)?;
    temporary.persist(path).map_err(|e| Error::io(path.display().to_string(), e.error))?;
    sync_folder(parent(path))
}

/// The same, but a file that is there already is an error and stays as it is.
pub fn write_new(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let temporary = temporary(path, bytes, access)?;
    temporary.persist_noclobber(path).map_err(|e| Error::io(path.display().to_string(), e.error))?;
    sync_folder(parent(path))
}

/// A synced file beside `path`, gone unless it is given that name.
fn temporary(path: &Path, bytes: &[u8], access: Access) -> Result<tempfile::NamedTempFile> {
    let io = |e| Error::io(path.display().to_string(), e);
    let folder = parent(path);
    make_folder(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
        Access::Program => 0o755,
    };
    temporary.write_all(bytes).map_err(io)?;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(io)?;
    temporary.as_file().sync_all().map_err(io)?;
    Ok(temporary)
}

/// Makes `link` name `target`, replacing what it named before in one step.
pub fn symlink(link: &Path, target: &Path) -> Result<()> {
    let io = |e| Error::io(link.display().to_string(), e);
    let folder = parent(link);
    make_folder(folder)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(link.file_name().unwrap_or_default());
    name.push(".next");
    let next = folder.join(name);
    remove_file(&next)?;
    std::os::unix::fs::symlink(target, &next).map_err(io)?;
    if let Err(error) = std::fs::rename(&next, link) {
        // What is left if this fails too is swept later.
        drop(remove_file(&next));
        return Err(io(error));
    }
    sync_folder(folder)
}

/// Removes a file or link; one that is not there is no error.
pub fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path.display().to_string(), e)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that it holds; one that is not there is no error.
pub fn remove_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path.display().to_string(), e)),
        _ => Ok(()),
    }
}

/// The folder of a file, also of one named without a folder.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder that only root reads, with its parents.
pub fn make_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o750);
    builder.create(folder).map_err(|e| Error::io(folder.display().to_string(), e))
}

/// How folders are named in which preflight tries what a file system can do.
pub const PROBE: &str = ".lockgate-probe";

/// Removes what a killed run left half written below `state`: temporary files of [`write`], links of
/// [`symlink`], backups that were not finished, preflight's probes. The caller holds the installer's lock. The store and
/// the inbox sweep their own.
pub fn sweep(state: &Path) -> Result<()> {
    let mut open = vec![state.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let hidden = |end: &str| name.starts_with('.') && path.extension().is_some_and(|found| found == end);
            if is_folder && (hidden("part") || name.starts_with(PROBE)) {
                remove_folder(&path)?;
            } else if is_folder && !["blobs", "incoming", "inbox", "scratch"].contains(&name.as_str()) {
                open.push(path);
            } else if !is_folder && (name.starts_with(".tmp") || hidden("next")) {
                remove_file(&path)?;
            }
        }
    }
    Ok(())
}

/// Makes renames in a folder last, or what another program wrote to a file.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder.display().to_string(), e))
}

/// Makes everything last that anybody wrote to the file system of `path`: for what other programs write
/// and do not see to themselves.
pub fn sync_disk(path: &Path) -> Result<()> {
    let io = |e| Error::io(path.display().to_string(), e);
    let file = File::open(path).map_err(io)?;
    nix::unistd::syncfs(&file).map_err(|e| io(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_sets_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write(&path, b"one", Access::Public).unwrap();
        write(&path, b"two", Access::Private).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let error = write_new(&path, b"three", Access::Private).unwrap_err();
        assert!(matches!(error.kind(), crate::ErrorKind::Io { .. }), "{error}");
        assert_eq!(
            (std::fs::read(&path).unwrap(), std::fs::read_dir(path.parent().unwrap()).unwrap().count()),
            (b"two".to_vec(), 1)
        );
        write_new(&folder.path().join("new"), b"x", Access::Public).unwrap();
        let link = folder.path().join("a/current");
        for target in ["1", "2"] {
            symlink(&link, Path::new(target)).unwrap();
            assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(target));
        }
        std::fs::create_dir_all(folder.path().join("backups/p/.x.part")).unwrap();
        std::fs::create_dir_all(folder.path().join("store/blobs")).unwrap();
        std::fs::create_dir_all(folder.path().join(".lockgate-probeX")).unwrap();
        for name in ["a/.tmpX1", "a/.current.next", "store/.tmpY", "store/blobs/.tmpQ", "backups/p/.x.part/.tmpZ"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        sweep(folder.path()).unwrap();
        for (name, there) in [
            ("a/.tmpX1", false),
            ("a/.current.next", false),
            ("store/.tmpY", false),
            ("store/blobs/.tmpQ", true),
            (".lockgate-probeX", false),
            ("backups/p/.x.part", false),
            ("a/b", true),
        ] {
            assert_eq!(folder.path().join(name).exists(), there, "{name}");
        }
        remove_folder(&folder.path().join("a")).unwrap();
        remove_folder(&folder.path().join("a")).unwrap();
        remove_file(&link).unwrap();
    }
}
