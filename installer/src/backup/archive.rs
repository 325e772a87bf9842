//! A volume's content as one file: tar in zstd.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use bundle_format::digest::{Sha384, Sha384Hasher};

use crate::error::{Error, ErrorKind, Result};

const LEVEL: i32 = 3;

/// Takes the digest of what passes.
struct Hashed<W> {
    inner: W,
    hasher: Sha384Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or(bytes));
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Packs `folder` into `path` and makes it last. SHA-384 of the tar stream as it was read, before it was
/// compressed and written: what goes wrong behind that shows in [`content`].
pub(super) fn pack(folder: &Path, path: &Path) -> Result<Sha384> {
    let io = |e| Error::io(path.display().to_string(), e);
    let file = File::create_new(path).map_err(io)?;
    let mut encoder = zstd::Encoder::new(file, LEVEL).map_err(io)?;
    encoder.include_checksum(true).map_err(io)?;
    let mut builder = tar::Builder::new(Hashed { inner: encoder, hasher: Sha384Hasher::default() });
    builder.follow_symlinks(false);
    builder.append_dir_all(".", folder).map_err(io)?;
    let Hashed { inner: encoder, hasher } = builder.into_inner().map_err(io)?;
    encoder.finish().and_then(|file| file.sync_all()).map_err(io)?;
    Ok(hasher.finish())
}

/// Why a backup's file was not read: one that is gone, or is no file, or does not decode, makes it a bad
/// backup; what the machine could not do says nothing of the backup.
pub(super) fn unread(path: &Path, part: &str, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    if error.raw_os_error().is_some() && !matches!(error.kind(), NotFound | NotADirectory | IsADirectory) {
        return Error::io(path.display().to_string(), error);
    }
    ErrorKind::BadBackup { path: path.display().to_string(), why: format!("{part}{error}") }.into()
}

/// SHA-384 of the tar stream that an archive holds.
pub(super) fn content(path: &Path) -> Result<Sha384> {
    let bad = |e| unread(path, "", e);
    let file = File::open(path).map_err(bad)?;
    let mut stream = zstd::Decoder::new(BufReader::new(file)).map_err(bad)?;
    Ok(Sha384::of_reader(&mut stream, &mut |_| ()).map_err(bad)?.1)
}

/// Bytes that an archive holds, with what tar needs for each file. It has to be read whole: a stream says its
/// size at no end of it.
pub(super) fn unpacked_size(path: &Path) -> Result<u64> {
    let bad = |e| unread(path, "", e);
    let file = File::open(path).map_err(bad)?;
    let mut stream = zstd::Decoder::new(BufReader::new(file)).map_err(bad)?;
    std::io::copy(&mut stream, &mut std::io::sink()).map_err(bad)
}

/// Replaces what `folder` holds by an archive's content, owners, modes and times included. The
/// archive is one of our own that was checked by digest; `tar` refuses to write outside all the same.
pub fn unpack(path: &Path, folder: &Path) -> Result<()> {
    let io = |e| Error::io(folder.display().to_string(), e);
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().map_err(io)?.is_dir() {
            crate::atomic::remove_folder(&entry.path())?;
        } else {
            crate::atomic::remove_file(&entry.path())?;
        }
    }
    let bad = |e| unread(path, "", e);
    let file = File::open(path).map_err(bad)?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(BufReader::new(file)).map_err(bad)?);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    // The archive was checked by digest: what fails now is the machine's.
    archive.unpack(folder).map_err(io)?;
    crate::atomic::sync_disk(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_packed_comes_back_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(from.join("a")).unwrap();
        std::fs::create_dir_all(to.join("stray")).unwrap();
        std::fs::write(from.join("a/x"), b"x").unwrap();
        std::fs::set_permissions(from.join("a"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("a/x", from.join("link")).unwrap();
        let path = folder.path().join("a.tar.zst");
        std::fs::write(from.join("large"), vec![0; 1 << 20]).unwrap();
        let packed = pack(&from, &path).unwrap();
        assert_eq!(content(&path).unwrap(), packed);
        let (packed, unpacked) = (std::fs::metadata(&path).unwrap().len(), unpacked_size(&path).unwrap());
        assert!(packed < 10_000 && (1 << 20..(1 << 20) + 20_000).contains(&unpacked), "{packed} {unpacked}");
        unpack(&path, &to).unwrap();
        assert_eq!(std::fs::read(to.join("link")).unwrap(), b"x");
        assert_eq!(std::fs::metadata(to.join("a")).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!to.join("stray").exists());
        std::fs::write(&path, b"no archive").unwrap();
        assert_eq!(unpack(&path, &to).unwrap_err().class().exit_code(), 6);
        assert_eq!(unpacked_size(&path).unwrap_err().class().exit_code(), 3);
        assert!(matches!(content(&path).unwrap_err().kind(), ErrorKind::BadBackup { .. }));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(unpack(&path, &to).unwrap_err().kind(), ErrorKind::BadBackup { .. }));
    }
}
