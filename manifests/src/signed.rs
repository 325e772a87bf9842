//! The file form of a small document with its signatures: one canonical JSON object (spec 4.3).
//!
//! Trust roots, custody records and audit heads share it. Reading it proves nothing.

use serde::{Deserialize, Serialize};

use crate::key::{KeyId, Scheme};
use crate::signature::Signature;
use crate::text::{base64, unbase64};
use crate::{ErrorKind, Result};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeFile {
    format: String,
    payload: String,
    signatures: Vec<SignatureEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureEntry {
    key: KeyId,
    scheme: Scheme,
    file: String,
}

/// Adds a signature; a former one by the same key is replaced. Sorted by key id.
pub fn add(signatures: &mut Vec<Signature>, signature: Signature) {
    signatures.retain(|other| other.key != signature.key);
    signatures.push(signature);
    signatures.sort_by_key(|other| other.key);
}

/// Writes the file form, one line.
pub fn to_bytes(format: &str, what: &str, payload: &[u8], signatures: &[Signature]) -> Result<Vec<u8>> {
    let entry = |s: &Signature| SignatureEntry { key: s.key, scheme: s.scheme(), file: base64(&s.to_file()) };
    let file = EnvelopeFile {
        format: format.into(),
        payload: base64(payload),
        signatures: signatures.iter().map(entry).collect(),
    };
    crate::json::to_bytes(what, &file)
}

/// Parses the file form into payload and signatures; any other text for the same content is refused.
pub fn parse(format: &str, what: &str, bytes: &[u8], limit: u64) -> Result<(Vec<u8>, Vec<Signature>)> {
    let file: EnvelopeFile = crate::json::parse_canonical(what, bytes, limit)?;
    if file.format != format {
        return Err(ErrorKind::UnknownFormat { what: what.into(), expected: format.into(), found: file.format }.into());
    }
    let decode = |text: &str| {
        unbase64(text).ok_or_else(|| ErrorKind::Json { what: what.into(), why: "not canonical base64".into() })
    };
    let signatures = file
        .signatures
        .iter()
        .map(|entry| Signature::parse_file(what, entry.key, entry.scheme, &decode(&entry.file)?))
        .collect::<Result<Vec<_>>>()?;
    if !signatures.iter().zip(signatures.iter().skip(1)).all(|(a, b)| a.key < b.key) {
        return Err(ErrorKind::NotCanonical { what: what.into() }.into());
    }
    Ok((decode(&file.payload)?, signatures))
}
