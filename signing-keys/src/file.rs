//! Key files on disk: `NAME.minisign.key` and `NAME.ml-dsa-87.pem` (sealed, mode 0600),
//! `NAME.signer.json` and `NAME.minisign.pub` (public). `NAME.token.json` says where keys in tokens are,
//! no secret: it stands in the place of the first for a split signer, of both for a token signer.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use bundle_format::key::Scheme;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Result};
use crate::signer::{PublicSigner, Signer};
use crate::token::{Address, Ed25519, MlDsa87, TokenKey};

/// Fewest characters of a passphrase.
pub const PASSPHRASE_CHARS: usize = 12;

/// The files of one signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// minisign secret key, sealed.
    pub ed25519: PathBuf,
    /// Where keys in tokens are; there only for a split or token signer.
    pub token: PathBuf,
    /// ML-DSA-87 PKCS#8, sealed; not there for a token signer.
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

    /// Whether a key of the signer is in a token.
    pub fn is_in_token(&self) -> bool {
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

    /// Writes the files of `signer`, of which none may exist: keys that no token has are sealed by
    /// `passphrase`, which is not looked at for a token signer.
    pub fn write(&self, signer: &Signer, passphrase: &[u8]) -> Result<()> {
        self.refuse_existing()?;
        for (path, sealed) in self.sealed(signer, passphrase)? {
            write_new(path, &sealed, 0o600)?;
        }
        if let Some(key) = signer.ed25519_in_token() {
            let file = TokenFile {
                format: TOKEN_FORMAT.into(),
                name: signer.name().into(),
                ed25519: key.address().to_uri(),
                ml_dsa_87: signer.ml_dsa_87_in_token().map(|key| key.address().to_uri()),
            };
            write_new(&self.token, &bundle_format::json::to_bytes("token key", &file)?, 0o644)?;
        }
        let public = signer.public();
        write_new(&self.public, &public.to_bytes()?, 0o644)?;
        write_new(&self.minisign_public, public.minisign_file().as_bytes(), 0o644)
    }

    /// The keys that no token has, sealed.
    fn sealed(&self, signer: &Signer, passphrase: &[u8]) -> Result<Vec<Sealed<'_>>> {
        let (ed25519, ml_dsa_87) = (signer.ed25519(), signer.ml_dsa_87());
        if ed25519.is_none() && ml_dsa_87.is_none() {
            return Ok(Vec::new());
        }
        check_passphrase(passphrase)?;
        let mut random = [0; 64];
        getrandom::fill(&mut random).map_err(|e| ErrorKind::Crypto { what: "randomness", why: e.to_string() })?;
        let ([salt32, rest], _) = random.as_chunks::<32>() else {
            return Err(ErrorKind::Crypto { what: "randomness", why: "wrong length".into() }.into());
        };
        let ([salt16, iv], _) = rest.as_chunks::<16>() else {
            return Err(ErrorKind::Crypto { what: "randomness", why: "wrong length".into() }.into());
        };
        let mut sealed = Vec::new();
        if let Some(key) = ed25519 {
            let text = crate::minisign::seal(key, passphrase, salt32)?;
            sealed.push((self.ed25519.as_path(), Zeroizing::new(text.into_bytes())));
        }
        if let Some(key) = ml_dsa_87 {
            let pem = crate::pkcs8::seal(key, passphrase, salt16, *iv)?;
            sealed.push((self.ml_dsa_87.as_path(), Zeroizing::new(pem.as_bytes().to_vec())));
        }
        Ok(sealed)
    }

    /// Opens the signer by `passphrase`.
    pub fn open(&self, name: &str, passphrase: &[u8]) -> Result<Signer> {
        let ed25519 = crate::minisign::open(&shown(&self.ed25519), &read_secret(&self.ed25519)?, passphrase)?;
        Signer::from_seeds(name, &Zeroizing::new(ed25519.to_bytes()), &*self.ml_dsa_seed(passphrase)?)
    }

    /// Where the keys in tokens are: Ed25519 and, of a token signer, ML-DSA-87.
    pub fn token_addresses(&self) -> Result<(Address, Option<Address>)> {
        let what = shown(&self.token);
        let bytes = read_public(&self.token)?;
        let file: TokenFile = bundle_format::json::parse(&what, &bytes, bundle_format::limits::ROOT_BYTES)?;
        if file.format != TOKEN_FORMAT {
            return Err(ErrorKind::Malformed { what, why: format!("expected format {TOKEN_FORMAT}") }.into());
        }
        let ml_dsa_87 = file.ml_dsa_87.map(|uri| Address::parse(&what, &uri)).transpose()?;
        Ok((Address::parse(&what, &file.ed25519)?, ml_dsa_87))
    }

    /// Opens a split signer: its token is open already, `passphrase` opens the ML-DSA-87 half.
    pub fn open_split(&self, name: &str, ed25519: TokenKey<Ed25519>, passphrase: &[u8]) -> Result<Signer> {
        self.same_as_public(Signer::split(name, ed25519, &*self.ml_dsa_seed(passphrase)?)?)
    }

    /// Opens a token signer, whose tokens are open already.
    pub fn open_in_tokens(
        &self,
        name: &str,
        ed25519: TokenKey<Ed25519>,
        ml_dsa_87: TokenKey<MlDsa87>,
    ) -> Result<Signer> {
        self.same_as_public(Signer::in_tokens(name, ed25519, ml_dsa_87)?)
    }

    /// Refuses a signer whose keys are not those of its public file: a token may hold others under
    /// the same name.
    fn same_as_public(&self, signer: Signer) -> Result<Signer> {
        let expected = PublicSigner::parse(&shown(&self.public), &read_public(&self.public)?)?;
        for scheme in Scheme::ALL {
            let id = |signer: &PublicSigner| signer.key(scheme).map_or("none".into(), |key| key.id().to_string());
            let (expected, found) = (id(&expected), id(&signer.public()));
            if expected != found {
                let (signer, scheme) = (signer.name().to_owned(), scheme.name());
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

/// A key file's path and bytes.
type Sealed<'a> = (&'a Path, Zeroizing<Vec<u8>>);

/// The file that says where keys in tokens are. Without the second address the ML-DSA-87 key is a
/// sealed file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    format: String,
    name: String,
    ed25519: String,
    #[serde(rename = "ml-dsa-87", default, skip_serializing_if = "Option::is_none")]
    ml_dsa_87: Option<String>,
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

    #[test]
    fn token_files_with_one_address_and_with_two() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path(), "test-alice");
        let uri = |serial: &str| format!("pkcs11:token=TEST;serial={serial};object=test-alice?module-path=/m.so");
        let read = |more: &str| {
            let text = format!(r#"{{"format":"lockgate-token/1","name":"test-alice","ed25519":"{}"{more}}}"#, uri("1"));
            std::fs::write(&files.token, text).unwrap();
            files.token_addresses()
        };
        // As every keygen wrote it before there were two.
        let (first, second) = read("").unwrap();
        assert_eq!((first.serial.as_deref(), second), (Some("1"), None));
        let (first, second) = read(&format!(r#","ml-dsa-87":"{}""#, uri("2"))).unwrap();
        assert_eq!((first.serial.as_deref(), second.unwrap().serial.as_deref()), (Some("1"), Some("2")));
        for bad in [r#","ml-dsa-87":"pkcs11:token=TEST?module-path=/m.so""#, r#","ml-dsa-87":"""#] {
            assert!(matches!(read(bad).unwrap_err().kind(), ErrorKind::Malformed { .. }), "{bad}");
        }
        assert!(matches!(read(r#","ml-dsa-65":"x""#).unwrap_err().kind(), ErrorKind::Format(_)));
    }
}
