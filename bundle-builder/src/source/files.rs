//! Plain files and directories of files, watched for changes while they are read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bundle_format::digest::{Sha256, Sha256Hasher};
use bundle_format::limits;
use confinement::{NotRegular, open_regular};

use crate::source::checked::Checked;
use crate::source::malformed;
use crate::{Error, ErrorKind, Result};

/// What a file was: it is the same file, unchanged, while these are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A regular file that ends in [`ErrorKind::SourceChanged`] when its path holds another file, or
/// the file another size or time, at its end than at its beginning.
#[derive(Debug)]
pub struct Watched {
    file: File,
    path: PathBuf,
    stamp: Stamp,
}

impl Watched {
    /// Opens a regular file; symbolic links are followed.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || path.display().to_string();
        let file = open_regular(path).map_err(|error| match NotRegular::of(&error) {
            Some(not) => malformed(&what(), not.to_string()),
            None => Error::io(what(), error),
        })?;
        let metadata = file.metadata().map_err(|error| Error::io(what(), error))?;
        Ok(Self { file, path: path.into(), stamp: Stamp::of(&metadata) })
    }

    /// Bytes at the beginning.
    pub fn size(&self) -> u64 {
        self.stamp.size
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            let (open, named) = (Stamp::of(&self.file.metadata()?), Stamp::of(&fs::metadata(&self.path)?));
            if open != self.stamp || named != self.stamp {
                return Err(Error::from(ErrorKind::SourceChanged {
                    what: self.path.display().to_string(),
                    expected: "a file at rest".into(),
                    found: "changes while it is read".into(),
                })
                .into());
            }
        }
        Ok(count)
    }
}

/// Digest and size of a file.
pub fn measure(path: &Path) -> Result<(Sha256, u64)> {
    let what = path.display().to_string();
    let mut reader = Watched::open(path)?;
    let (mut hasher, mut size, mut buffer) = (Sha256Hasher::default(), 0u64, vec![0; 1 << 20]);
    loop {
        let count = reader.read(&mut buffer).map_err(|error| Error::io(&what, error))?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        size = size.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// A file as a reader that ends in an error unless it is what was pinned.
pub fn open_pinned(path: &Path, digest: Sha256, size: u64) -> Result<Box<dyn Read + Send>> {
    let what = path.display().to_string();
    let file = Watched::open(path)?;
    if file.size() != size {
        let (expected, found) = (format!("{size} bytes"), format!("{} bytes", file.size()));
        return Err(ErrorKind::SourceChanged { what, expected, found }.into());
    }
    Ok(Box::new(Checked::file(file, what, digest, size)))
}

/// The text of a YAML file that a person wrote.
pub fn read_yaml(path: &Path) -> Result<String> {
    String::from_utf8(read_small(path, limits::YAML_BYTES)?).map_err(|_| {
        let file = path.display().to_string();
        bundle_format::Error::from(bundle_format::ErrorKind::Yaml { file, why: "not UTF-8 text".into() }).into()
    })
}

/// Reads a file of at most `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let what = path.display().to_string();
    let mut bytes = Vec::new();
    Watched::open(path)?.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Error::io(&what, error))?;
    let found = crate::source::length(&bytes);
    if found > limit {
        return Err(bundle_format::Error::from(bundle_format::ErrorKind::TooLarge { what, limit, found }).into());
    }
    Ok(bytes)
}

/// Names of the files of a directory that holds files and nothing else, sorted.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let what = path.display().to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| Error::io(&what, error))? {
        let entry = entry.map_err(|error| Error::io(&what, error))?;
        let kind = entry.file_type().map_err(|error| Error::io(&what, error))?;
        let name = entry.file_name().into_string().map_err(|_| malformed(&what, "a file name is not UTF-8"))?;
        if !kind.is_file() {
            return Err(malformed(&what, format!("{name} is not a regular file")));
        }
        bundle_format::name::check_file_name("package file", &name)?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_or_is_replaced_while_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for replace in [false, true] {
            fs::write(&path, "abc").unwrap();
            let mut reader = open_pinned(&path, Sha256::of(b"abc"), 3).unwrap();
            reader.read_exact(&mut [0; 1]).unwrap();
            if replace {
                fs::write(dir.path().join("b"), "abc").unwrap();
                fs::rename(dir.path().join("b"), &path).unwrap();
            } else {
                fs::write(&path, "abcd").unwrap();
            }
            let error = Error::io("a", reader.read_to_end(&mut Vec::new()).unwrap_err());
            assert!(matches!(error.kind(), ErrorKind::SourceChanged { .. }), "{error}");
        }
    }

    #[test]
    fn directories_hold_files_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b_1.deb"), "b").unwrap();
        fs::write(dir.path().join("a_1.deb"), "a").unwrap();
        assert_eq!(list(dir.path()).unwrap(), ["a_1.deb", "b_1.deb"]);
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("c")).unwrap();
        assert!(matches!(list(dir.path()).unwrap_err().kind(), ErrorKind::SourceMalformed { .. }));
        assert!(matches!(Watched::open(dir.path()).unwrap_err().kind(), ErrorKind::SourceMalformed { .. }));
    }
}
