//! `build`: from a release, its lock and its sources to one archive (spec 2, 6).
//!
//! The bytes depend on the release, the lock, the roots and this program alone: blobs come in the
//! lock's order, packs are cut by their content, no clock is asked. What may hurt it: a source that
//! changes while it is packed (each blob's digest is checked as its bytes are written), a disk that
//! fills (the archive takes its name only when it is whole).

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::archive::ArchiveWriter;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{Blob, Manifest, Pack};
use bundle_format::pack::{Encoding, PackWriter};
use bundle_format::root::RootEnvelope;

use crate::collect::Collected;
use crate::error::{Error, ErrorKind, Result};

/// A pack is closed when it holds this much, so that none nears the limit of a member.
const PACK_TARGET: u64 = 4 << 30;
/// zstd level of what is not compressed yet.
const LEVEL: i32 = 9;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The manifest, packs included.
    pub manifest: Manifest,
    /// Bytes of the archive.
    pub size: u64,
}

/// Packs `collected` and writes the unsigned archive to `out`. `spool` is a folder for the packs
/// while they are made (as large as the bundle). `progress` is told the bytes of each step.
pub fn build(
    collected: &Collected,
    roots: &[RootEnvelope],
    out: &Path,
    spool: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Built> {
    // 1. Blobs into packs: what is compressed already as it is, the rest by zstd.
    let mut packs = Packs { spool: spool.to_owned(), zstd: Vec::new(), raw: Vec::new() };
    for blob in &collected.blobs {
        let entry = Blob { digest: blob.digest, size: blob.size };
        let mut content = blob.open()?;
        let mut head = [0; 8];
        let filled = read_up_to(&mut content, &mut head).map_err(|e| Error::io(format!("blob {}", blob.digest), e))?;
        let head = head.get(..filled).unwrap_or(&[]);
        let mut whole = head.chain(content);
        packs.writer_for(head, blob.size)?.blob(entry, &mut whole)?;
        progress(blob.size);
    }
    // 2. The manifest names every frame and blob.
    let (entries, spools) = packs.finish()?;
    let mut manifest = collected.manifest_without_packs.clone();
    manifest.packs = entries;
    let envelope = UnverifiedEnvelope::new(manifest.to_bytes()?, Vec::new(), roots.to_vec());
    // 3. The archive, in one order; its name only when it is whole and on disk.
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
    let io = |e| Error::io(out.display().to_string(), e);
    let mut archive = ArchiveWriter::new(std::io::BufWriter::with_capacity(1 << 20, temporary.as_file()));
    for (name, bytes) in envelope.members()? {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        archive.member(&name, size, &mut bytes.as_slice())?;
    }
    for (pack, mut file) in manifest.packs.iter().zip(spools) {
        file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(pack.name.clone(), e))?;
        let size = pack.stored_size().unwrap_or(u64::MAX);
        archive.member(&pack.name, size, &mut file)?;
        progress(size);
    }
    archive.finish()?.flush().map_err(io)?;
    let size = temporary.as_file().metadata().map_err(io)?.len();
    persist(temporary, out)?;
    Ok(Built { manifest, size })
}

/// Gives a finished temporary file its name: readable by all, synced, and the folder synced too.
pub(crate) fn persist(temporary: tempfile::NamedTempFile, out: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let io = |e| Error::io(out.display().to_string(), e);
    let file = temporary.as_file();
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(io)?;
    file.sync_all().map_err(io)?;
    temporary.persist(out).map_err(|e| io(e.error))?;
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// Packs that are being written: each kind's last one is open for more.
struct Packs {
    spool: PathBuf,
    zstd: Vec<OpenPack>,
    raw: Vec<OpenPack>,
}

struct OpenPack {
    writer: PackWriter<File>,
    content: u64,
}

impl Packs {
    fn writer_for(&mut self, head: &[u8], size: u64) -> Result<&mut PackWriter<File>> {
        let (list, encoding) = if is_compressed(head) {
            (&mut self.raw, Encoding::Raw)
        } else {
            (&mut self.zstd, Encoding::Zstd { level: LEVEL })
        };
        let full = list.last().is_none_or(|pack| pack.content > 0 && pack.content.saturating_add(size) > PACK_TARGET);
        if full {
            let file =
                tempfile::tempfile_in(&self.spool).map_err(|e| Error::io(self.spool.display().to_string(), e))?;
            list.push(OpenPack { writer: PackWriter::new(file, encoding)?, content: 0 });
        }
        let open = list.last_mut().ok_or_else(|| ErrorKind::Usage("no pack is open".into()))?;
        open.content = open.content.saturating_add(size);
        Ok(&mut open.writer)
    }

    /// Documents first: a reader can show and plan before the layers come.
    fn finish(self) -> Result<(Vec<Pack>, Vec<File>)> {
        let mut entries = (Vec::new(), Vec::new());
        for (number, pack) in self.zstd.into_iter().chain(self.raw).enumerate() {
            let (entry, file) = pack.writer.finish(number)?;
            entries.0.push(entry);
            entries.1.push(file);
        }
        Ok(entries)
    }
}

/// gzip (RFC 1952), zstd (RFC 8878) and `ar`, which holds Debian packages.
fn is_compressed(head: &[u8]) -> bool {
    [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd], b"!<arch>\n"].iter().any(|magic| head.starts_with(magic))
}

fn read_up_to(content: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match content.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
