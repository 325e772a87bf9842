//! Key files on disk: `NAME.minisign.key` and `NAME.ml-dsa-87.pem` (sealed, mode 0600),
//! `NAME.signer.json` and `NAME.minisign.pub` (public).

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{ErrorKind, Result};
use crate::signer::Signer;

/// Fewest characters of a passphrase.
pub const PASSPHRASE_CHARS: usize = 12;

/// The files of one signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// minisign secret key, sealed.
    pub ed25519: PathBuf,
    /// ML-DSA-87 PKCS#8, sealed.
    pub ml_dsa_87: PathBuf,
    /// The public half.
    pub public: PathBuf,
    /// The public half for stock minisign.
    pub minisign_public: PathBuf,
}

impl KeyFiles {
    /// The files of signer `name` in `folder`.
    pub fn of(folder: &Path, name: &str) -> Self {
        let file = |extension: &str| folder.join(format!("{name}.{extension}"));
        Self {
            ed25519: file("minisign.key"),
            ml_dsa_87: file("ml-dsa-87.pem"),
            public: file("signer.json"),
            minisign_public: file("minisign.pub"),
        }
    }

    /// Seals `signer` by `passphrase` and writes all four files; none may exist.
    pub fn write(&self, signer: &Signer, passphrase: &[u8]) -> Result<()> {
        let found = String::from_utf8_lossy(passphrase).chars().count();
        if found < PASSPHRASE_CHARS {
            return Err(ErrorKind::WeakPassphrase { needed: PASSPHRASE_CHARS, found }.into());
        }
        for path in [&self.ed25519, &self.ml_dsa_87, &self.public, &self.minisign_public] {
            if path.exists() {
                return Err(ErrorKind::Exists { path: path.clone() }.into());
            }
        }
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|e| ErrorKind::Crypto { what: "randomness", why: e.to_string() })?;
        let ([salt32, rest], _) = random.as_chunks::<32>() else {
            return Err(ErrorKind::Crypto { what: "randomness", why: "wrong length".into() }.into());
        };
        let ([salt16, iv], _) = rest.as_chunks::<16>() else {
            return Err(ErrorKind::Crypto { what: "randomness", why: "wrong length".into() }.into());
        };
        let minisign = Zeroizing::new(crate::minisign::seal(signer.ed25519(), passphrase, salt32)?);
        let pem = crate::pkcs8::seal(signer.ml_dsa_87(), passphrase, salt16, *iv)?;
        let public = signer.public();
        write_new(&self.ed25519, minisign.as_bytes(), 0o600)?;
        write_new(&self.ml_dsa_87, pem.as_bytes(), 0o600)?;
        write_new(&self.public, &public.to_bytes()?, 0o644)?;
        write_new(&self.minisign_public, public.minisign_file().as_bytes(), 0o644)
    }

    /// Opens the signer by `passphrase`.
    pub fn open(&self, name: &str, passphrase: &[u8]) -> Result<Signer> {
        let what = |path: &Path| path.display().to_string();
        let ed25519 = crate::minisign::open(&what(&self.ed25519), &read_secret(&self.ed25519)?, passphrase)?;
        let ml_dsa = crate::pkcs8::open(&what(&self.ml_dsa_87), &read_secret(&self.ml_dsa_87)?, passphrase)?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(ml_dsa.to_seed().into());
        Signer::from_seeds(name, &Zeroizing::new(ed25519.to_bytes()), &seed)
    }
}

/// Writes a file that must not exist, with its mode from the first moment, and syncs it.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => ErrorKind::Exists { path: path.into() },
        _ => ErrorKind::Io { path: path.into(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
    Ok(())
}

/// Reads a sealed file, at most 64 KiB; refuses one that others may read.
fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let io = |source| ErrorKind::Io { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ErrorKind::Mode { path: path.into(), mode }.into());
    }
    let mut text = Zeroizing::new(String::new());
    file.take(64 << 10).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_modes_and_refusals() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path(), "test-alice");
        let signer = Signer::from_seeds("test-alice", &[1; 32], &[2; 32]).unwrap();
        assert!(matches!(files.write(&signer, b"short").unwrap_err().kind(), ErrorKind::WeakPassphrase { .. }));
        files.write(&signer, b"TEST passphrase").unwrap();
        assert!(matches!(files.write(&signer, b"TEST passphrase").unwrap_err().kind(), ErrorKind::Exists { .. }));
        for path in [&files.ed25519, &files.ml_dsa_87] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let opened = files.open("test-alice", b"TEST passphrase").unwrap();
        assert_eq!(opened.public(), signer.public());
        assert!(matches!(
            files.open("test-alice", b"wrong passphrase").unwrap_err().kind(),
            ErrorKind::Passphrase { .. }
        ));
        std::fs::set_permissions(&files.ed25519, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(files.open("test-alice", b"TEST passphrase").unwrap_err().kind(), ErrorKind::Mode { .. }));
    }
}
