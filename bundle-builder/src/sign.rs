//! `sign`: adds one signer's signatures to an archive without touching the signed bytes.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::archive::ArchiveWriter;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::root::TrustRoot;
use signing_keys::Signer;

use crate::error::{Error, ErrorKind, Result};

/// A bundle whose head may get more signatures; its packs stay as they are.
#[derive(Debug)]
pub struct OpenBundle {
    path: PathBuf,
    input: File,
    rest_at: u64,
    /// The head.
    pub envelope: UnverifiedEnvelope,
}

impl OpenBundle {
    /// Reads the head of the bundle at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let input = confinement::open_regular(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        let (envelope, packs) = UnverifiedEnvelope::read(std::io::BufReader::new(&input))?;
        let rest_at = packs.offset();
        drop(packs);
        Ok(Self { path: path.to_owned(), input, rest_at, envelope })
    }

    /// Writes the bundle with its head as it is now: the new archive is written beside the old one
    /// and takes its name when it is whole.
    pub fn write(mut self, progress: &mut dyn FnMut(u64)) -> Result<UnverifiedEnvelope> {
        let path = self.path.clone();
        let io = |e| Error::io(path.display().to_string(), e);
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        let mut archive = ArchiveWriter::new(std::io::BufWriter::new(temporary.as_file()));
        for (name, bytes) in self.envelope.members()? {
            archive.member(&name, u64::try_from(bytes.len()).unwrap_or(u64::MAX), &mut bytes.as_slice())?;
        }
        let mut out = archive.into_inner();
        out.flush().map_err(io)?;
        drop(out);
        // Packs and end mark as they are: `verify` proves them, this only moves them.
        self.input.seek(SeekFrom::Start(self.rest_at)).map_err(io)?;
        let mut output = temporary.as_file();
        let mut buffer = vec![0; 4 << 20];
        loop {
            let count = self.input.read(&mut buffer).map_err(io)?;
            if count == 0 {
                break;
            }
            output.write_all(buffer.get(..count).unwrap_or(&[])).map_err(io)?;
            progress(u64::try_from(count).unwrap_or(0));
        }
        crate::build::persist(temporary, &path)?;
        Ok(self.envelope)
    }
}

/// Signs the bundle at `path` in place. The signer's keys must hold one of the roles that a manifest
/// needs (release, and builder where it is named) in the bundle's newest root.
pub fn sign(path: &Path, signer: &Signer, progress: &mut dyn FnMut(u64)) -> Result<UnverifiedEnvelope> {
    let mut bundle = OpenBundle::open(path)?;
    check_role(&bundle.envelope, signer)?;
    signer.sign_manifest(&mut bundle.envelope)?;
    bundle.write(progress)
}

/// The newest root that a bundle carries.
pub(crate) fn newest_root(envelope: &UnverifiedEnvelope) -> Result<&TrustRoot> {
    let none = || ErrorKind::Usage("the bundle carries no trust root; build it with --root".into());
    Ok(envelope.roots().last().ok_or_else(none)?.claimed())
}

fn check_role(envelope: &UnverifiedEnvelope, signer: &Signer) -> Result<()> {
    let root = newest_root(envelope)?;
    let roles = root.manifest_roles();
    for key in signer.public().holder().keys {
        if !roles.iter().any(|role| root.role_holds(*role, key.id())) {
            return Err(ErrorKind::NotASigner {
                signer: signer.name().into(),
                key: key.id().to_string(),
                root: root.version(),
            }
            .into());
        }
    }
    Ok(())
}
