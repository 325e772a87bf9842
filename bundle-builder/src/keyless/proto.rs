//! protobuf's JSON form of what bundles and trusted roots share (protobuf.dev, `ProtoJSON`): bytes are
//! base64, numbers of 64 bits are texts.

use bundle_format::text::unbase64;
use serde::{Deserialize, Deserializer};

/// `X509CertificateChain`.
#[derive(Deserialize)]
pub(super) struct Chain {
    certificates: Vec<Certificate>,
}

/// `X509Certificate`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    /// DER.
    #[serde(deserialize_with = "bytes")]
    pub(super) raw_bytes: Vec<u8>,
}

impl Chain {
    /// DER of each certificate.
    pub(super) fn into_der(self) -> Vec<Vec<u8>> {
        self.certificates.into_iter().map(|certificate| certificate.raw_bytes).collect()
    }
}

/// Bytes.
pub(super) fn bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    unbase64(&String::deserialize(d)?).ok_or_else(|| serde::de::Error::custom("broken base64"))
}

/// A number, or its text.
pub(super) fn number<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(d)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(|_| serde::de::Error::custom("no number of 64 bits")),
    }
}
