//! `sign`: adds one signer's signatures to an archive without touching the signed bytes.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use bundle_format::archive::ArchiveWriter;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::root::Role;
use signing_keys::Signer;

use crate::error::{Error, ErrorKind, Result};

/// Signs the bundle at `path` in place: the new archive is written beside it and takes its name
/// when it is whole. The signer's keys must hold the release role in the bundle's newest root.
pub fn sign(path: &Path, signer: &Signer, progress: &mut dyn FnMut(u64)) -> Result<UnverifiedEnvelope> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut input = File::open(path).map_err(io)?;
    let (mut envelope, packs) = UnverifiedEnvelope::read(std::io::BufReader::new(&input))?;
    let rest_at = packs.offset();
    drop(packs);
    check_role(&envelope, signer)?;
    signer.sign_manifest(&mut envelope)?;

    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    let mut archive = ArchiveWriter::new(std::io::BufWriter::new(temporary.as_file()));
    for (name, bytes) in envelope.members()? {
        archive.member(&name, u64::try_from(bytes.len()).unwrap_or(u64::MAX), &mut bytes.as_slice())?;
    }
    let mut out = archive.into_inner();
    out.flush().map_err(io)?;
    drop(out);
    // Packs and end mark as they are: `verify` proves them, this only moves them.
    input.seek(SeekFrom::Start(rest_at)).map_err(io)?;
    let mut output = temporary.as_file();
    let mut buffer = vec![0; 4 << 20];
    loop {
        let count = input.read(&mut buffer).map_err(io)?;
        if count == 0 {
            break;
        }
        output.write_all(buffer.get(..count).unwrap_or(&[])).map_err(io)?;
        progress(u64::try_from(count).unwrap_or(0));
    }
    crate::build::persist(temporary, path)?;
    Ok(envelope)
}

fn check_role(envelope: &UnverifiedEnvelope, signer: &Signer) -> Result<()> {
    let root = envelope
        .roots()
        .last()
        .ok_or_else(|| ErrorKind::Usage("the bundle carries no trust root; build it with --root".into()))?;
    for key in signer.public().holder().keys {
        if !root.claimed().role_holds(Role::Release, key.id()) {
            return Err(ErrorKind::NotASigner {
                signer: signer.name().into(),
                key: key.id().to_string(),
                root: root.claimed().version(),
            }
            .into());
        }
    }
    Ok(())
}
