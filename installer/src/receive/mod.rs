//! Receiving: bundles that arrive in parts, over discs, a one-way link or a drop folder.
//!
//! What may hurt it: every part comes from outside, in any order, damaged, doubled, from somebody
//! else; the machine may stop at any instant. Who defends: [`Arrival::prove`] proves the signed
//! manifest and asks site policy before a session costs disk; parts carry their own check; a
//! [`Session`] writes its journal only after the bytes that it speaks of are on disk; a bundle gets
//! its name in the inbox only after it is proved.

pub mod bitmap;
pub mod command;
pub mod direct;
pub mod folder;
pub mod intake;
pub mod link;
pub mod volume;
pub mod volumes;

use std::fs::File;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::envelope::{UnverifiedEnvelope, VerifiedManifest};
use bundle_format::pack::NoSink;

use crate::atomic::{self, Access};
use crate::audit::{Outcome, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::Policy;
use crate::proof::{Base, ProvedBundle, SitePolicy, clock};
use crate::state::State;
use crate::store::Store;
use crate::trust;

/// A bundle on its way whose head is proved and permitted here.
#[derive(Debug)]
pub struct Arrival {
    verified: VerifiedManifest,
    prologue: Vec<u8>,
    size: u64,
}

impl Arrival {
    /// Proves a prologue from this machine's trust root and asks site policy.
    pub fn prove(prologue: Vec<u8>, state: &State) -> Result<Self> {
        let trusted = trust::required(state)?;
        let verified =
            UnverifiedEnvelope::read_prologue(&prologue)?.verify(&trusted, Policy::of(state)?.algorithms())?;
        SitePolicy::of(state, &verified.manifest().product)?.check(&verified)?;
        let packs_at = u64::try_from(prologue.len()).unwrap_or(u64::MAX);
        let size = verified.manifest().frame_places(packs_at).1;
        Ok(Self { verified, prologue, size })
    }

    /// The proven manifest.
    pub const fn verified(&self) -> &VerifiedManifest {
        &self.verified
    }

    /// The archive's bytes before its first pack.
    pub fn prologue(&self) -> &[u8] {
        &self.prologue
    }

    /// Bytes of the whole archive: it follows from the manifest.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Product and release, for people.
    pub fn title(&self) -> String {
        let manifest = self.verified.manifest();
        format!("{} {} (sequence {})", manifest.product, manifest.release, manifest.sequence)
    }

    /// File name of the bundle in the inbox.
    pub fn file_name(&self) -> String {
        let manifest = self.verified.manifest();
        let short: String = self.verified.sha384().to_string().chars().take(16).collect();
        format!("{}-{}-{short}.bundle.tar", manifest.product, manifest.release)
    }

    /// Ends a session whose bytes are all there: `proof` says how the file was proved; the file takes
    /// its name, the arrival goes on record.
    pub fn settle(&self, session: Session, inbox: &Path, state: &mut State, carrier: &str) -> Result<PathBuf> {
        let path = inbox.join(self.file_name());
        session.part.sync_all().map_err(|e| Error::io(session.part_path.display().to_string(), e))?;
        std::fs::rename(&session.part_path, &path).map_err(|e| Error::io(path.display().to_string(), e))?;
        atomic::sync_folder(inbox)?;
        let manifest = self.verified.manifest();
        let detail = format!("{} over {carrier}", self.verified.sha384());
        let record = Record::new(&clock(), "receive", Outcome::Ok).of(&manifest.product, &manifest.release);
        state.audit()?.append(&record.subject(&self.verified.sha384()).detail(&detail))?;
        session.remove()?;
        Ok(path)
    }
}

/// The whole proof of a file that was put together, before it gets its name. What an update builds on
/// need not be here yet: of packs for certain sites the frames are proved, which is every byte.
pub fn prove_whole(path: &Path, state: &State, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let proved = ProvedBundle::open(path, state)?;
    let base = Base::none(&Store::peek(std::path::Path::new("")));
    proved.unpack(&base, &mut NoSink, progress)?;
    Ok(())
}

/// One bundle on its way: a folder with what is in so far and a journal that says so.
#[derive(Debug)]
pub struct Session {
    folder: PathBuf,
    part: File,
    part_path: PathBuf,
}

impl Session {
    /// Opens the session `name` in the inbox, or begins it: `size` bytes of disk are reserved.
    pub fn open(inbox: &Path, name: &str, size: u64) -> Result<Self> {
        let folder = inbox.join(name);
        atomic::make_folder(&folder)?;
        let part_path = folder.join("bundle.part");
        let part = reserve(&part_path, size)?;
        Ok(Self { folder, part, part_path })
    }

    /// The file that the bundle's bytes go to.
    pub const fn part(&self) -> &File {
        &self.part
    }

    /// Its path.
    pub fn part_path(&self) -> &Path {
        &self.part_path
    }

    /// The session's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the journal if it is there, belongs to `key` and is whole.
    pub fn read_journal(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.folder.join("journal")).ok()?;
        let (head, rest) = bytes.split_at_checked(48)?;
        let body = rest.strip_prefix(key.as_bytes())?.strip_prefix(b"\n")?;
        (Sha384::of(rest).as_bytes() == head).then(|| body.to_vec())
    }

    /// Writes the journal after the bytes that it speaks of are on disk.
    pub fn write_journal(&self, key: &str, body: &[u8]) -> Result<()> {
        write_journal(&self.folder, &self.part, key, body)
    }

    /// Throws the session away: what is in proved to be worthless, or has its final name.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.folder).map_err(|e| Error::io(self.folder.display().to_string(), e))
    }
}

/// Syncs `part`, then replaces the journal in `folder`.
fn write_journal(folder: &Path, part: &File, key: &str, body: &[u8]) -> Result<()> {
    part.sync_data().map_err(|e| Error::io(folder.join("bundle.part").display().to_string(), e))?;
    let mut rest = format!("{key}\n").into_bytes();
    rest.extend_from_slice(body);
    let mut bytes = Sha384::of(&rest).as_bytes().to_vec();
    bytes.append(&mut rest);
    atomic::write(&folder.join("journal"), &bytes, Access::Private)
}

/// Opens a file of `size` bytes and reserves its disk: a full disk is found now, not in the middle.
pub fn reserve(path: &Path, size: u64) -> Result<File> {
    let io = |e| Error::io(path.display().to_string(), e);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?.len();
    if found != size {
        file.set_len(0).map_err(io)?;
        let length = i64::try_from(size).unwrap_or(i64::MAX);
        let in_memory =
            nix::sys::statfs::fstatfs(&file).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
        // tmpfs would fill every page with zeros now, for seconds, while a link goes on sending.
        let reserved = if in_memory {
            Err(nix::errno::Errno::EOPNOTSUPP)
        } else {
            nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, length)
        };
        match reserved {
            Ok(()) => {}
            // A file system that cannot reserve: ask what is free instead.
            Err(nix::errno::Errno::EOPNOTSUPP) => {
                let stat = nix::sys::statvfs::fstatvfs(&file).map_err(|e| io(e.into()))?;
                if stat.blocks_available().saturating_mul(stat.fragment_size()) < size {
                    drop(std::fs::remove_file(path));
                    return Err(ErrorKind::DiskFull { what: path.display().to_string() }.into());
                }
                file.set_len(size).map_err(io)?;
            }
            Err(errno) => {
                // A half-made reservation would fill the disk for everybody else.
                drop(std::fs::remove_file(path));
                return Err(io(errno.into()));
            }
        }
    }
    Ok(file)
}
