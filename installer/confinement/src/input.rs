//! Opening what came from outside.
//!
//! Threat: a path that a person was given, or that lies on a medium, leads to a FIFO (opening it waits
//! for a writer for ever), a device (it never ends, or opening it does something) or a folder. Defence:
//! [`open_regular`] alone opens such paths, and it gives regular files only. Symbolic links are followed:
//! who may put one there may put the file there, and operators name bundles by links.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What lies at a path is no regular file; carried in an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotRegular {
    found: &'static str,
}

impl NotRegular {
    /// What it is, such as `a FIFO`.
    pub const fn found(self) -> &'static str {
        self.found
    }

    /// Out of an error of [`open_regular`] or [`read_regular`].
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).copied()
    }
}

impl std::fmt::Display for NotRegular {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected a regular file, found {}", self.found)
    }
}

impl std::error::Error for NotRegular {}

/// Opens a regular file for reading, without waiting for anybody; symbolic links are followed. An error
/// that carries [`NotRegular`] for anything else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Opening a device can already do something (a tape winds, a watchdog starts), so it is looked at
    // before; what is put in its place meanwhile is opened without waiting, and looked at again.
    check(std::fs::metadata(path)?.file_type())?;
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// The bytes of a regular file, at most `limit` and one more, so that a parser sees what is too large.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(kind: FileType) -> io::Result<()> {
    let found = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        kind if kind.is_socket() => "a socket",
        _ => "something else",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, NotRegular { found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_and_links_to_them_only() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "abc").unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (link, to) in [("to-plain", "plain"), ("to-fifo", "fifo"), ("to-nothing", "nothing")] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        for name in ["plain", "to-plain"] {
            assert_eq!(read_regular(&at(name), 9).unwrap(), b"abc");
            assert_eq!(read_regular(&at(name), 1).unwrap(), b"ab", "one byte more than the limit");
        }
        let found = |path: &Path| NotRegular::of(&open_regular(path).unwrap_err()).map(NotRegular::found);
        for (name, expected) in [("fifo", "a FIFO"), ("to-fifo", "a FIFO"), ("socket", "a socket"), ("", "a folder")] {
            assert_eq!(found(&at(name)), Some(expected), "{name}");
        }
        for device in ["/dev/zero", "/dev/tty"] {
            assert_eq!(found(Path::new(device)), Some("a device"), "{device}");
        }
        assert_eq!(found(&at("to-nothing")), None);
        assert_eq!(open_regular(&at("to-nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Without the first look the second one answers, and does not wait: what a swap in between meets.
    #[test]
    fn a_fifo_put_there_in_between_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, fifo, path) = (folder.path().join("plain"), folder.path().join("fifo"), folder.path().join("b"));
        std::fs::write(&plain, "abc").unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(&plain, &path).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_millis(500);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for target in [&fifo, &plain].into_iter().cycle() {
                    if std::time::Instant::now() > end {
                        break;
                    }
                    let next = folder.path().join("next");
                    std::os::unix::fs::symlink(target, &next).unwrap();
                    std::fs::rename(&next, &path).unwrap();
                }
            });
            while std::time::Instant::now() < end {
                match open_regular(&path) {
                    Ok(file) => assert!(file.metadata().unwrap().is_file()),
                    Err(error) => assert_eq!(NotRegular::of(&error).map(NotRegular::found), Some("a FIFO")),
                }
            }
        });
    }
}
