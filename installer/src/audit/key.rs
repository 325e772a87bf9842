//! The appliance's own key: it signs the head of the audit log and the inventory of the store, and
//! nothing else.
//!
//! It is made on this machine at first use and never leaves it. No trust root names it, so it can
//! release nothing (`docs/adr/0012-audit-log.md`). Both algorithms of the project, as everywhere:
//! Ed25519 in minisign's form, so that stock tools verify a head, and ML-DSA-87.

use std::path::Path;

pub use bundle_format::appliance::AppliancePublic;
use bundle_format::key::{ML_DSA_87_PUBLIC, PublicKey};
use bundle_format::signature::{Signature, Value, minisign_prehash};
use bundle_format::text::{base64, unbase64};
use ed25519_dalek::Signer as _;
use ml_dsa::MlDsa87;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::atomic::{self, Access};
use crate::error::{Error, ErrorKind, Result};

const SECRET_FORMAT: &str = "lockgate-appliance-secret/1";
/// Bytes of a key file at most.
const FILE_BYTES: u64 = 64 << 10;

/// The private half. Both seeds are wiped on drop.
pub struct ApplianceKey {
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa_87: Box<ml_dsa::SigningKey<MlDsa87>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretFile {
    format: String,
    ed25519: String,
    ml_dsa_87: String,
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        self.ed25519.zeroize();
        self.ml_dsa_87.zeroize();
    }
}

impl ApplianceKey {
    /// A new key from the system's randomness.
    pub fn generate() -> Result<Self> {
        let mut seeds = Zeroizing::new([[0u8; 32]; 2]);
        for seed in seeds.iter_mut() {
            getrandom::fill(seed).map_err(|e| Error::io("randomness", std::io::Error::other(e.to_string())))?;
        }
        let [ed25519, ml_dsa_87] = &*seeds;
        Ok(Self::from_seeds(ed25519, ml_dsa_87))
    }

    /// A key from its seeds: RFC 8032 secret key, FIPS 204 `xi`.
    pub fn from_seeds(ed25519: &[u8; 32], ml_dsa_87: &[u8; 32]) -> Self {
        Self {
            ed25519: ed25519_dalek::SigningKey::from_bytes(ed25519),
            ml_dsa_87: Box::new(ml_dsa::SigningKey::from_seed(&(*ml_dsa_87).into())),
        }
    }

    /// Reads the key file; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => Zeroizing::new(other.map_err(|e| Error::io(path.display().to_string(), e))?),
        };
        let what = path.display().to_string();
        let file: SecretFile = bundle_format::json::parse(&what, &bytes, FILE_BYTES)?;
        let seed = |text: &str| unbase64(text).map(Zeroizing::new).and_then(|seed| <[u8; 32]>::try_from(&**seed).ok());
        let seeds = (seed(&file.ed25519).map(Zeroizing::new), seed(&file.ml_dsa_87).map(Zeroizing::new));
        if let (SECRET_FORMAT, (Some(ed25519), Some(ml_dsa_87))) = (file.format.as_str(), seeds) {
            return Ok(Some(Self::from_seeds(&ed25519, &ml_dsa_87)));
        }
        let expected = format!("format {SECRET_FORMAT} with two seeds of 32 bytes");
        Err(ErrorKind::Unexpected { what, expected, found: "another text".into() }.into())
    }

    /// Writes the key file, mode 0600 from its first byte.
    pub fn write(&self, path: &Path) -> Result<()> {
        let seed = Zeroizing::new(<[u8; 32]>::from(self.ml_dsa_87.to_seed()));
        let file = SecretFile {
            format: SECRET_FORMAT.into(),
            ed25519: base64(self.ed25519.as_bytes()),
            ml_dsa_87: base64(&*seed),
        };
        let bytes = Zeroizing::new(bundle_format::json::to_bytes("appliance key", &file)?);
        atomic::write(path, &bytes, Access::Private)
    }

    /// The public half.
    pub fn public(&self) -> AppliancePublic {
        let encoded = self.ml_dsa_87.expanded_key().verifying_key().encode();
        // The lengths are equal by FIPS 204, table 2; a shorter copy could only fail to verify.
        let mut bytes = Box::new([0; ML_DSA_87_PUBLIC]);
        bytes.iter_mut().zip(encoded.iter()).for_each(|(to, from)| *to = *from);
        AppliancePublic::new([PublicKey::Ed25519(self.ed25519.verifying_key().to_bytes()), PublicKey::MlDsa87(bytes)])
    }

    /// Signs a document with both keys; `comment` is bound into the minisign signature.
    pub(crate) fn sign(&self, document: &[u8], comment: &str) -> Result<[Signature; 2]> {
        let signature = Box::new(self.ed25519.sign(&minisign_prehash(document)).to_bytes());
        let global = Box::new(self.ed25519.sign(&[signature.as_slice(), comment.as_bytes()].concat()).to_bytes());
        let crypto = |found: String| ErrorKind::Unexpected {
            what: "ML-DSA-87 signature".into(),
            expected: "4627 bytes".into(),
            found,
        };
        // Hedged, as FIPS 204 (3.4) prefers: fresh randomness beside the key and the message.
        let hedged = self
            .ml_dsa_87
            .expanded_key()
            .sign_randomized(document, &[], &mut getrandom::SysRng)
            .map_err(|e| crypto(e.to_string()))?;
        let bytes: &[u8] = &hedged.encode();
        let sized = bytes.try_into().map_err(|_| crypto(format!("{} bytes", bytes.len())))?;
        let public = self.public();
        let [ed25519, ml_dsa_87] = public.keys();
        Ok([
            Signature { key: ed25519.id(), value: Value::Ed25519 { signature, comment: comment.to_owned(), global } },
            Signature { key: ml_dsa_87.id(), value: Value::MlDsa87(Box::new(sized)) },
        ])
    }
}

impl std::fmt::Debug for ApplianceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ApplianceKey").field(self.public().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_outlives_its_file_and_is_for_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/appliance.key");
        assert!(ApplianceKey::read(&path).unwrap().is_none());
        let key = ApplianceKey::generate().unwrap();
        key.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = ApplianceKey::read(&path).unwrap().unwrap();
        assert_eq!(again.public(), key.public());
        assert_ne!(ApplianceKey::generate().unwrap().public(), key.public());
        std::fs::write(&path, b"{\"format\":\"x\",\"ed25519\":\"\",\"ml_dsa_87\":\"\"}").unwrap();
        assert!(matches!(ApplianceKey::read(&path).unwrap_err().kind(), ErrorKind::Unexpected { .. }));
        assert!(!format!("{key:?}").contains(&base64(key.ed25519.as_bytes())));
    }

    #[test]
    fn both_signatures_count_and_nothing_else() {
        let (key, other) = (ApplianceKey::from_seeds(&[1; 32], &[2; 32]), ApplianceKey::from_seeds(&[3; 32], &[4; 32]));
        let public = key.public();
        let good = key.sign(b"document", "TEST").unwrap();
        public.verify("audit head", b"document", &good).unwrap();
        let stranger = other.sign(b"document", "TEST").unwrap();
        for (signatures, document, word) in [
            (good[..1].to_vec(), &b"document"[..], "ml-dsa-87"),
            (good[1..].to_vec(), b"document", "ed25519"),
            (good.to_vec(), b"Document", "ed25519"),
            (stranger.to_vec(), b"document", "no signature by key"),
            ([&good[..], &stranger[..]].concat(), b"document", "somebody else"),
        ] {
            let why = public.verify("audit head", document, &signatures).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
