//! Key files on disk: `NAME.minisign.key` and `NAME.ml-dsa-87.pem` (sealed, mode 0600),
//! `NAME.signer.json` and `NAME.minisign.pub` (public). A split signer has `NAME.token.json` in the
//! place of the first: where its Ed25519 key is, no secret.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use bundle_format::key::Scheme;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Result};
use crate::signer::{PublicSigner, Signer};
use crate::token::{Address, OpenToken};

/// Fewest characters of a passphrase.
pub const PASSPHRASE_CHARS: usize = 12;

/// The files of one signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// minisign secret key, sealed.
    pub ed25519: PathBuf,
    /// Where the Ed25519 key of a split signer is; there only for such a one.
    pub token: PathBuf,
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
            token: file("token.json"),
            ml_dsa_87: file("ml-dsa-87.pem"),
            public: file("signer.json"),
            minisign_public: file("minisign.pub"),
        }
    }

    /// Whether the signer is split: its Ed25519 key is in a token.
    pub fn is_split(&self) -> bool {
        self.token.exists()
    }

    /// Refuses when one of the signer's files exists.
    pub fn refuse_existing(&self) -> Result<()> {
        for path in [&self.ed25519, &self.token, &self.ml_dsa_87, &self.public, &self.minisign_public] {
            if path.exists() {
                return Err(ErrorKind::Exists { path: path.clone() }.into());
            }
        }
        Ok(())
    }

    /// Seals `signer` by `passphrase` and writes its four files; none may exist.
    pub fn write(&self, signer: &Signer, passphrase: &[u8]) -> Result<()> {
        check_passphrase(passphrase)?;
        self.refuse_existing()?;
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|e| ErrorKind::Crypto { what: "randomness", why: e.to_string() })?;
        let ([salt32, rest], _) = random.as_chunks::<32>() else {
            return Err(ErrorKind::Crypto { what: "randomness", why: "wrong length".into() }.into());
        };
        let ([salt16, iv], _) = rest.as_chunks::<16>() else {
            return Err(ErrorKind::Crypto { what: "randomness", why: "wrong length".into() }.into());
        };
        let first = match (signer.ed25519(), signer.token_key()) {
            (Some(key), _) => {
                (&self.ed25519, Zeroizing::new(crate::minisign::seal(key, passphrase, salt32)?.into_bytes()), 0o600)
            }
            (None, Some(key)) => {
                let file = TokenFile {
                    format: TOKEN_FORMAT.into(),
                    name: signer.name().into(),
                    ed25519: key.address().to_uri(),
                };
                (&self.token, Zeroizing::new(bundle_format::json::to_bytes("token key", &file)?), 0o644)
            }
            (None, None) => {
                return Err(ErrorKind::Crypto { what: "signer", why: "it has no Ed25519 key".into() }.into());
            }
        };
        let pem = crate::pkcs8::seal(signer.ml_dsa_87(), passphrase, salt16, *iv)?;
        let public = signer.public();
        write_new(first.0, &first.1, first.2)?;
        write_new(&self.ml_dsa_87, pem.as_bytes(), 0o600)?;
        write_new(&self.public, &public.to_bytes()?, 0o644)?;
        write_new(&self.minisign_public, public.minisign_file().as_bytes(), 0o644)
    }

    /// Opens the signer by `passphrase`.
    pub fn open(&self, name: &str, passphrase: &[u8]) -> Result<Signer> {
        let ed25519 = crate::minisign::open(&shown(&self.ed25519), &read_secret(&self.ed25519)?, passphrase)?;
        Signer::from_seeds(name, &Zeroizing::new(ed25519.to_bytes()), &*self.ml_dsa_seed(passphrase)?)
    }

    /// Where the Ed25519 key of a split signer is.
    pub fn token_address(&self) -> Result<Address> {
        let what = shown(&self.token);
        let bytes = read_public(&self.token)?;
        let file: TokenFile = bundle_format::json::parse(&what, &bytes, bundle_format::limits::ROOT_BYTES)?;
        if file.format != TOKEN_FORMAT {
            return Err(ErrorKind::Malformed { what, why: format!("expected format {TOKEN_FORMAT}") }.into());
        }
        Address::parse(&what, &file.ed25519)
    }

    /// Opens a split signer: the token is open already, `passphrase` opens the ML-DSA-87 half. Both
    /// halves must be those of the public file.
    pub fn open_split(&self, name: &str, token: OpenToken, passphrase: &[u8]) -> Result<Signer> {
        let expected = PublicSigner::parse(&shown(&self.public), &read_public(&self.public)?)?;
        let key = token.key(&self.token_address()?)?;
        let signer = Signer::split(name, key, &*self.ml_dsa_seed(passphrase)?)?;
        for scheme in Scheme::ALL {
            let id = |signer: &PublicSigner| signer.key(scheme).map_or("none".into(), |key| key.id().to_string());
            let (expected, found) = (id(&expected), id(&signer.public()));
            if expected != found {
                let (signer, scheme) = (name.to_owned(), scheme.name());
                return Err(ErrorKind::KeyMismatch { signer, scheme, expected, found }.into());
            }
        }
        Ok(signer)
    }

    fn ml_dsa_seed(&self, passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
        let key = crate::pkcs8::open(&shown(&self.ml_dsa_87), &read_secret(&self.ml_dsa_87)?, passphrase)?;
        Ok(Zeroizing::new(key.to_seed().into()))
    }
}

/// The file that says where a split signer's Ed25519 key is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    format: String,
    name: String,
    ed25519: String,
}

const TOKEN_FORMAT: &str = "lockgate-token/1";

/// Refuses a passphrase that is too short, before anything is made that it should seal.
pub fn check_passphrase(passphrase: &[u8]) -> Result<()> {
    let found = String::from_utf8_lossy(passphrase).chars().count();
    if found < PASSPHRASE_CHARS {
        return Err(ErrorKind::WeakPassphrase { needed: PASSPHRASE_CHARS, found }.into());
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Reads a file that holds no secret but names code to load or keys to trust: others may read it,
/// not write it.
fn read_public(path: &Path) -> Result<Vec<u8>> {
    let io = |source| ErrorKind::Io { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(ErrorKind::Mode { path: path.into(), mode, expected: "not writable by others" }.into());
    }
    let mut bytes = Vec::new();
    file.take(bundle_format::limits::ROOT_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
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
        return Err(ErrorKind::Mode { path: path.into(), mode, expected: "0600" }.into());
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
