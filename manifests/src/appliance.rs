//! The public half of a machine's own key: what verifies audit heads and inventories that it signed
//! (`docs/spec/audit.md`).
//!
//! No trust root names such a key, so it can release nothing. A person brings its file, or its
//! fingerprint, to wherever something of that machine is judged.

use serde::{Deserialize, Serialize};

use crate::digest::Sha384;
use crate::key::{PublicKey, Scheme};
use crate::signature::Signature;
use crate::{ErrorKind, Result};

/// The `format` value of the file form.
pub const FORMAT: &str = "lockgate-appliance/1";
/// Bytes of the file form at most.
const LIMIT: u64 = 64 << 10;

/// The public half: one key of each scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliancePublic {
    keys: [PublicKey; 2],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicFile {
    format: String,
    keys: Vec<PublicEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicEntry {
    scheme: Scheme,
    public: String,
}

impl AppliancePublic {
    /// Of an Ed25519 and an ML-DSA-87 key, in this order.
    pub const fn new(keys: [PublicKey; 2]) -> Self {
        Self { keys }
    }

    /// Both keys.
    pub const fn keys(&self) -> &[PublicKey; 2] {
        &self.keys
    }

    /// The file form, canonical JSON: what `installer audit key` gives out.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let keys = self.keys.iter().map(|key| PublicEntry { scheme: key.scheme(), public: key.to_text() }).collect();
        crate::json::to_bytes("appliance key", &PublicFile { format: FORMAT.into(), keys })
    }

    /// Parses the file form; one key of each scheme, in the order of [`Scheme::ALL`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let what = "appliance key";
        let file: PublicFile = crate::json::parse_canonical(what, bytes, LIMIT)?;
        if file.format != FORMAT {
            let (what, expected) = (what.into(), FORMAT.into());
            return Err(ErrorKind::UnknownFormat { what, expected, found: file.format }.into());
        }
        let keys = file.keys.iter().map(|entry| PublicKey::parse(entry.scheme, &entry.public));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let schemes: Vec<Scheme> = keys.iter().map(PublicKey::scheme).collect();
        match <[PublicKey; 2]>::try_from(keys) {
            Ok(keys) if schemes == Scheme::ALL => Ok(Self { keys }),
            _ => {
                let why = "expected one key of each scheme, ed25519 first".into();
                Err(ErrorKind::Inconsistent { what: what.into(), why }.into())
            }
        }
    }

    /// SHA-384 of the file form: what a person writes down.
    pub fn fingerprint(&self) -> Result<Sha384> {
        Ok(Sha384::of(&self.to_bytes()?))
    }

    /// Verifies that both keys signed `document`, called `what` in errors, and nobody else; says what is
    /// wrong if not.
    pub fn verify(&self, what: &str, document: &[u8], signatures: &[Signature]) -> std::result::Result<(), String> {
        for key in &self.keys {
            let of_key = signatures.iter().find(|signature| signature.key == key.id());
            let signature = of_key.ok_or_else(|| format!("no signature by key {} ({})", key.id(), key.scheme()))?;
            signature.verify(what, document, key).map_err(|e| e.to_string())?;
        }
        if signatures.len() == self.keys.len() { Ok(()) } else { Err("a signature by somebody else".into()) }
    }
}
