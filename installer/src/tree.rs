//! Copies a folder tree with everything that makes it what it is: owners, modes, times, links,
//! extended attributes. In two passes, so that a database is stopped only for what changed: the
//! first while its owner still works in it, the second after that has stopped.
//!
//! Threats: a file that changes while it is copied; a write through memory that does not touch the
//! file's times; a disk that does not keep what it was given. Defences: each file is flushed and its
//! times are noted *before* it is copied, so that any later write, also through memory, moves them
//! (Linux marks clean pages read-only and stamps the file at the first write again); times too close
//! to the look are not believed; every copy is read back from the disk and compared by digest.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bundle_format::digest::{Sha256, Sha256Hasher};
use nix::fcntl::PosixFadviseAdvice;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::signals::Stop;

/// Whether the tree's owner works in it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It may change; what changes is copied again by the next pass.
    Live,
    /// Nobody writes to it.
    Quiet,
}

/// What earlier passes saw, by path inside the tree.
#[derive(Debug, Default)]
pub struct Seen {
    files: BTreeMap<PathBuf, (Stamp, SystemTime)>,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Files that were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What moves when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether the last change lies safely before `looked`: clocks of file systems are coarse.
    fn settled(&self, looked: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        looked.duration_since(changed).is_ok_and(|age| age > Duration::from_secs(2))
    }
}

/// Makes `to` equal to `from`. Files that `seen` shows unchanged since an earlier pass are left as
/// they are; whatever `to` has beyond `from` is removed. Sockets are left out: they mean nothing
/// without the process that listens. Returns when all of it lies on the disk and was read back.
///
/// # Errors
/// [`ErrorKind::NotCopied`] for device nodes, [`ErrorKind::ReadBack`] if a copy differs,
/// [`ErrorKind::Stopped`] once `stop` is asked for.
pub fn mirror(from: &Path, to: &Path, source: Source, seen: &mut Seen, stop: &Stop) -> Result<Copied> {
    let mut pass = Pass { source, seen, stop, links: BTreeMap::new(), written: Vec::new(), copied: Copied::default() };
    pass.folder(from, to, Path::new(""))?;
    atomic::sync_disk(to)?;
    pass.read_back(from, to)?;
    Ok(pass.copied)
}

/// Bytes of a tree's files, and how many there are. What goes away meanwhile does not count.
pub fn size(folder: &Path) -> (u64, u64) {
    let (mut bytes, mut files) = (0u64, 0u64);
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) if meta.is_file() => (bytes, files) = (bytes.saturating_add(meta.len()), files + 1),
                _ => {}
            }
        }
    }
    (bytes, files)
}

struct Pass<'a> {
    source: Source,
    seen: &'a mut Seen,
    stop: &'a Stop,
    /// Files with several names, by inode: the copy's first name.
    links: BTreeMap<u64, PathBuf>,
    written: Vec<PathBuf>,
    copied: Copied,
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error::io(path.display().to_string(), e)
}

/// In a live tree what was just listed may be gone; the next pass sees that.
fn gone(source: Source, error: &std::io::Error) -> bool {
    source == Source::Live && error.kind() == std::io::ErrorKind::NotFound
}

impl Pass<'_> {
    fn folder(&mut self, from: &Path, to: &Path, inside: &Path) -> Result<()> {
        let (here, there) = (from.join(inside), to.join(inside));
        let mut names = BTreeSet::new();
        let entries = match std::fs::read_dir(&here) {
            Err(e) if gone(self.source, &e) => return Ok(()),
            other => other.map_err(at(&here))?,
        };
        for entry in entries {
            let name = entry.map_err(at(&here))?.file_name();
            let path = inside.join(&name);
            let meta = match std::fs::symlink_metadata(from.join(&path)) {
                Err(e) if gone(self.source, &e) => continue,
                other => other.map_err(at(&here))?,
            };
            if !meta.file_type().is_socket() {
                self.entry(from, to, &path, &meta)?;
                names.insert(name);
            }
        }
        for entry in std::fs::read_dir(&there).map_err(at(&there))? {
            let entry = entry.map_err(at(&there))?;
            if !names.contains(&entry.file_name()) {
                self.seen.files.remove(&inside.join(entry.file_name()));
                remove(&entry.path())?;
            }
        }
        let meta = match std::fs::symlink_metadata(&here) {
            Err(e) if gone(self.source, &e) => return Ok(()),
            other => other.map_err(at(&here))?,
        };
        dress(&here, &there, &meta)
    }

    fn entry(&mut self, from: &Path, to: &Path, path: &Path, meta: &Metadata) -> Result<()> {
        self.stop.refuse()?;
        let (here, there) = (from.join(path), to.join(path));
        let kind = meta.file_type();
        let present = std::fs::symlink_metadata(&there).ok();
        if present.as_ref().is_some_and(|found| found.file_type() != kind) {
            remove(&there)?;
        }
        if kind.is_dir() {
            if !there.is_dir() {
                std::fs::create_dir(&there).map_err(at(&there))?;
            }
            return self.folder(from, to, path);
        }
        if kind.is_file() {
            return match self.file(&here, &there, path, meta) {
                Err(error) if matches!(error.kind(), ErrorKind::Io { source, .. } if gone(self.source, source)) => {
                    self.seen.files.remove(path);
                    Ok(())
                }
                other => other,
            };
        }
        if present.is_some() && kind.is_symlink() && std::fs::read_link(&there).ok() == std::fs::read_link(&here).ok() {
            return Ok(());
        }
        if present.is_some() {
            remove(&there)?;
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(&here).map_err(at(&here))?;
            std::os::unix::fs::symlink(target, &there).map_err(at(&there))?;
        } else if kind.is_fifo() {
            nix::unistd::mkfifo(&there, Mode::from_bits_truncate(0o600)).map_err(|e| at(&there)(e.into()))?;
        } else {
            return Err(ErrorKind::NotCopied { path: here.display().to_string(), what: "a device node" }.into());
        }
        dress(&here, &there, meta)
    }

    fn file(&mut self, here: &Path, there: &Path, path: &Path, meta: &Metadata) -> Result<()> {
        let first = self.links.get(&meta.ino()).cloned();
        if meta.nlink() > 1 {
            if let Some(first) = first {
                let _ = self.seen.files.remove(path);
                crate::atomic::remove_file(there)?;
                return std::fs::hard_link(&first, there).map_err(at(there));
            }
            self.links.insert(meta.ino(), there.to_owned());
        }
        let unchanged = self.seen.files.get(path).is_some_and(|(stamp, looked)| {
            *stamp == Stamp::of(meta) && stamp.settled(*looked) && there.is_file() && meta.nlink() == 1
        });
        if unchanged {
            return Ok(());
        }
        let mut source = File::open(here).map_err(at(here))?;
        if self.source == Source::Live {
            source.sync_data().map_err(at(here))?;
        }
        let looked = SystemTime::now();
        let meta = source.metadata().map_err(at(here))?;
        let folder = crate::atomic::parent(there);
        let mut copy = tempfile::NamedTempFile::new_in(folder).map_err(at(folder))?;
        // Shares the blocks where the file system can (reflink), otherwise copies inside the kernel.
        let bytes = std::io::copy(&mut source, copy.as_file_mut()).map_err(at(there))?;
        dress(here, copy.path(), &meta)?;
        copy.persist(there).map_err(|e| at(there)(e.error))?;
        self.seen.files.insert(path.to_owned(), (Stamp::of(&meta), looked));
        self.written.push(path.to_owned());
        self.copied.files += 1;
        self.copied.bytes = self.copied.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Compares each copy with its source, both read anew; the copy from the disk, not from memory.
    fn read_back(&mut self, from: &Path, to: &Path) -> Result<()> {
        for path in std::mem::take(&mut self.written) {
            self.stop.refuse()?;
            let (here, there) = (from.join(&path), to.join(&path));
            let copy = File::open(&there).map_err(at(&there))?;
            // A file system that ignores the advice (tmpfs) has no disk to read from.
            let _ = nix::fcntl::posix_fadvise(&copy, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            let found = digest(copy).map_err(at(&there))?;
            let expected = match File::open(&here) {
                Err(e) if gone(self.source, &e) => continue,
                other => digest(other.map_err(at(&here))?).map_err(at(&here))?,
            };
            if expected == found {
                continue;
            }
            if self.source == Source::Live {
                self.seen.files.remove(&path);
                continue;
            }
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(ErrorKind::ReadBack { what: there.display().to_string(), expected, found }.into());
        }
        Ok(())
    }
}

fn digest(mut file: File) -> std::io::Result<Sha256> {
    let mut hasher = Sha256Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..count).unwrap_or(&[]));
    }
}

fn remove(path: &Path) -> Result<()> {
    let meta = std::fs::symlink_metadata(path).map_err(at(path))?;
    if meta.is_dir() { crate::atomic::remove_folder(path) } else { crate::atomic::remove_file(path) }
}

/// Owner, mode, extended attributes, times: in this order, because each may undo a later one.
fn dress(from: &Path, to: &Path, meta: &Metadata) -> Result<()> {
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid())).map_err(at(to))?;
    if !meta.is_symlink() {
        let mode = std::fs::Permissions::from_mode(meta.permissions().mode() & 0o7777);
        std::fs::set_permissions(to, mode).map_err(at(to))?;
    }
    if meta.is_file() || meta.is_dir() {
        attributes(from, to).map_err(at(to))?;
    }
    let (read, written) =
        (TimeSpec::new(meta.atime(), meta.atime_nsec()), TimeSpec::new(meta.mtime(), meta.mtime_nsec()));
    utimensat(nix::fcntl::AT_FDCWD, to, &read, &written, UtimensatFlags::NoFollowSymlink).map_err(|e| at(to)(e.into()))
}

fn attributes(from: &Path, to: &Path) -> std::io::Result<()> {
    let names = match xattr::list(from) {
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EOPNOTSUPP as i32) => return Ok(()),
        other => other?,
    };
    for name in names {
        let value = xattr::get(from, &name)?;
        // A label of the kernel's own security module is set by its policy for the new place.
        if name.as_os_str() == OsStr::new("security.selinux") {
            continue;
        }
        value.map_or(Ok(()), |value| xattr::set(to, &name, &value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(folder: &Path) {
        std::fs::create_dir_all(folder.join("a/empty")).unwrap();
        std::fs::write(folder.join("a/file"), b"one").unwrap();
        std::fs::set_permissions(folder.join("a/file"), std::fs::Permissions::from_mode(0o4640)).unwrap();
        std::fs::hard_link(folder.join("a/file"), folder.join("twin")).unwrap();
        std::os::unix::fs::symlink("a/file", folder.join("link")).unwrap();
        nix::unistd::mkfifo(&folder.join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        std::fs::write(folder.join("plain"), vec![7; 300_000]).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::open(folder.join("plain")).unwrap().set_modified(old).unwrap();
    }

    fn listing(folder: &Path) -> String {
        let script = "cd \"$1\" && find . -printf '%P %y %m %U:%G %n %l %T@\\n' | sort && find . -type f -exec sha256sum {} + | sort -k2";
        let args: [&OsStr; 4] = ["-c".as_ref(), script.as_ref(), "sh".as_ref(), folder.as_os_str()];
        crate::command::Command::new("sh").args(args).run().unwrap().stdout
    }

    #[test]
    fn a_copy_is_equal_in_everything_and_a_second_pass_follows_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        sample(&from);
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(from.join("plain"), Some(70), Some(71)).unwrap();
        }
        let socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let mut seen = Seen::default();
        let first = mirror(&from, &to, Source::Live, &mut seen, &Stop::default()).unwrap();
        assert_eq!(first.files, 2, "a file with two names is copied once");
        assert!(!to.join("socket").exists());
        drop(socket);
        std::fs::remove_file(from.join("socket")).unwrap();
        // What is changed, gone, new, or of another kind now.
        std::fs::write(from.join("plain"), b"two").unwrap();
        std::fs::remove_file(from.join("pipe")).unwrap();
        std::fs::create_dir(from.join("pipe")).unwrap();
        std::fs::remove_dir(from.join("a/empty")).unwrap();
        std::fs::write(from.join("a/new"), b"new").unwrap();
        std::fs::write(to.join("stray"), b"x").unwrap();
        mirror(&from, &to, Source::Quiet, &mut seen, &Stop::default()).unwrap();
        assert_eq!(listing(&from), listing(&to));
        assert_eq!(size(&to), (3 + 3 + 3 + 3, 4));
    }

    #[test]
    fn only_what_is_settled_and_unchanged_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join("x"), b"x").unwrap();
        let mut seen = Seen::default();
        mirror(&from, &to, Source::Live, &mut seen, &Stop::default()).unwrap();
        assert_eq!(
            mirror(&from, &to, Source::Quiet, &mut seen, &Stop::default()).unwrap().files,
            1,
            "too young to be believed"
        );
        for (stamp, looked) in seen.files.values_mut() {
            *looked = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stamp.changed.0).unwrap() + 10);
        }
        assert_eq!(mirror(&from, &to, Source::Quiet, &mut seen, &Stop::default()).unwrap().files, 0);
        std::fs::write(from.join("x"), b"y").unwrap();
        assert_eq!(mirror(&from, &to, Source::Quiet, &mut seen, &Stop::default()).unwrap().files, 1);
    }

    #[test]
    fn a_device_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        crate::command::Command::new("mknod").arg(from.join("null")).args(["c", "1", "3"]).run().unwrap();
        let error = mirror(&from, &to, Source::Quiet, &mut Seen::default(), &Stop::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotCopied { what: "a device node", .. }), "{error}");
    }
}
