//! A set's folder on the low side: the list, the volumes beside it, the chain of custody.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use bundle_format::custody::{self, RecordedFile, UnverifiedCustody};
use bundle_format::digest::Sha384;
use bundle_format::limits;
use bundle_format::set::{self, SetList};

use crate::disc::COMPANIONS;
use crate::error::{Error, Result};

/// A folder with a set list that parses; its files are not looked at yet.
#[derive(Debug)]
pub struct SetFolder {
    path: PathBuf,
    list: SetList,
    list_bytes: Vec<u8>,
}

impl SetFolder {
    /// Reads the list of the set in `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let list_bytes = read_limited(&path.join(set::FILE_NAME), limits::SET_LIST_BYTES)?;
        let list = SetList::parse(&list_bytes)?;
        Ok(Self { path: path.to_owned(), list, list_bytes })
    }

    /// The list.
    pub const fn list(&self) -> &SetList {
        &self.list
    }

    /// A path inside the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.list.files.iter().map(|file| file.size).sum()
    }

    /// What goes on record: the set's files as the list has them, the list itself, and what travels
    /// on the media beside them ([`COMPANIONS`]), the installer above all.
    pub fn recorded(&self) -> Result<Vec<RecordedFile>> {
        let volume =
            |file: &set::SetFile| RecordedFile { name: file.name.clone(), size: file.size, sha384: file.sha384 };
        let mut files: Vec<RecordedFile> = self.list.files.iter().map(volume).collect();
        let size = u64::try_from(self.list_bytes.len()).unwrap_or(u64::MAX);
        files.push(RecordedFile { name: set::FILE_NAME.into(), size, sha384: Sha384::of(&self.list_bytes) });
        for name in COMPANIONS.into_iter().filter(|name| self.path.join(name).exists()) {
            let (size, sha384) = hash_file(&self.path.join(name), &mut |_| ())?;
            files.push(RecordedFile { name: name.into(), size, sha384 });
        }
        Ok(files)
    }

    /// Hashes every file and refuses the first that is not as listed. What is on record was read.
    pub fn hash(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        for file in self.recorded()? {
            let path = self.path.join(&file.name);
            let (size, sha384) = hash_file(&path, progress)?;
            if (size, sha384) != (file.size, file.sha384) {
                let text = |size: u64, sha384: &Sha384| format!("{size} bytes, SHA-384 {sha384}");
                return Err(bundle_format::Error::from(bundle_format::ErrorKind::FileDiffers {
                    file: path.display().to_string(),
                    record: set::FILE_NAME.into(),
                    expected: text(file.size, &file.sha384),
                    found: text(size, &sha384),
                })
                .into());
            }
        }
        Ok(())
    }

    /// The chain beside the list, as claimed; `None` before the first hand-over.
    pub fn chain(&self) -> Result<Option<UnverifiedCustody>> {
        let path = self.path.join(custody::FILE_NAME);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(UnverifiedCustody::parse(&read_limited(&path, limits::CUSTODY_BYTES)?)?))
    }

    /// Writes the chain.
    pub fn write_chain(&self, chain: &UnverifiedCustody) -> Result<()> {
        self.write(custody::FILE_NAME, &chain.to_bytes()?)
    }

    /// Writes a file of the folder atomically.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_file(&self.path.join(name), bytes)
    }

    /// Removes a file of the folder; that there is none is well.
    pub fn remove(&self, name: &str) -> Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(name, e)),
            _ => Ok(()),
        }
    }
}

/// Writes a file atomically.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |e| Error::io(path.display().to_string(), e);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    temporary.write_all(bytes).map_err(io)?;
    crate::build::persist(temporary, path)
}

/// Bytes and SHA-384 of a file.
pub(crate) fn hash_file(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(u64, Sha384)> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut file = confinement::open_regular(path).map_err(io)?;
    Sha384::of_reader(&mut file, progress).map_err(io)
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    confinement::read_regular(path, limit).map_err(|e| Error::io(path.display().to_string(), e))
}
