//! Public keys and their ids (spec 4.1).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Sha384Hasher;
use crate::text::{base64, hex, unbase64, unhex};
use crate::{ErrorKind, Result};

/// Signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// Ed25519 (RFC 8032) in minisign's prehashed form.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// Pure ML-DSA-87 (FIPS 204), empty context; CNSA 2.0.
    #[serde(rename = "ml-dsa-87")]
    MlDsa87,
}

impl Scheme {
    /// All schemes, in the order in which they are reported.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::MlDsa87];

    /// The scheme's name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }

    /// File extension of a detached signature in an archive.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Ed25519 => "minisig",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes of an Ed25519 public key.
pub const ED25519_PUBLIC: usize = 32;
/// Bytes of an ML-DSA-87 public key (FIPS 204, table 2).
pub const ML_DSA_87_PUBLIC: usize = 2592;
/// Bytes of an ML-DSA-87 signature (FIPS 204, table 2).
pub const ML_DSA_87_SIGNATURE: usize = 4627;

/// A public key. Its text form is minisign's own for Ed25519 (so that stock `minisign -P` takes it)
/// and base64 of the FIPS 204 encoding for ML-DSA-87.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// RFC 8032 encoding.
    Ed25519([u8; ED25519_PUBLIC]),
    /// FIPS 204 `pkEncode`.
    MlDsa87(Box<[u8; ML_DSA_87_PUBLIC]>),
}

/// First eight bytes of SHA-384 over `"lockgate-key/1" 00 scheme 00 key`. Always computed from the
/// key, never read. It is also minisign's key number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl PublicKey {
    /// The key's algorithm.
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Ed25519(_) => Scheme::Ed25519,
            Self::MlDsa87(_) => Scheme::MlDsa87,
        }
    }

    /// The raw key.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) => bytes,
            Self::MlDsa87(bytes) => bytes.as_slice(),
        }
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        let mut hasher = Sha384Hasher::default();
        for part in [b"lockgate-key/1", &[0][..], self.scheme().name().as_bytes(), &[0], self.as_bytes()] {
            hasher.update(part);
        }
        let digest = hasher.finish();
        let (&head, _) = digest.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        KeyId(head)
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        match self {
            Self::Ed25519(bytes) => base64(&[&b"Ed"[..], &self.id().0, bytes].concat()),
            Self::MlDsa87(bytes) => base64(bytes.as_slice()),
        }
    }

    /// Parses the text form of a scheme. A minisign key whose number is not our key id is refused,
    /// as is a low-order Ed25519 key (it would verify forged signatures).
    pub fn parse(scheme: Scheme, text: &str) -> Result<Self> {
        let bad = |expected: &str| ErrorKind::BadValue {
            what: format!("{scheme} public key"),
            expected: expected.into(),
            found: text.chars().take(80).collect(),
        };
        let bytes = unbase64(text).ok_or_else(|| bad("base64"))?;
        match scheme {
            Scheme::Ed25519 => {
                let rest = bytes.strip_prefix(b"Ed").ok_or_else(|| bad("a minisign public key"))?;
                let (number, key) =
                    rest.split_first_chunk::<8>().ok_or_else(|| bad("a minisign public key of 42 bytes"))?;
                let key = Self::Ed25519(key.try_into().map_err(|_| bad("a minisign public key of 42 bytes"))?);
                if key.id().0 != *number {
                    return Err(bad("a key number derived from the key (spec 4.1)").into());
                }
                let Self::Ed25519(point) = &key else { return Ok(key) };
                match ed25519_dalek::VerifyingKey::from_bytes(point) {
                    Ok(point) if !point.is_weak() => Ok(key),
                    _ => Err(bad("a point of full order on the curve").into()),
                }
            }
            Scheme::MlDsa87 => {
                let sized: Box<[u8; ML_DSA_87_PUBLIC]> =
                    bytes.into_boxed_slice().try_into().map_err(|_| bad("2592 bytes"))?;
                Ok(Self::MlDsa87(sized))
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme(), self.id())
    }
}

impl KeyId {
    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Takes bytes that a signature names; they are only ever compared with computed ids.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Parses sixteen lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self> {
        unhex(text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            ErrorKind::BadValue {
                what: "key id".into(),
                expected: "16 lower-case hexadecimal digits".into(),
                found: text.chars().take(80).collect(),
            }
            .into()
        })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> PublicKey {
        PublicKey::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes())
    }

    #[test]
    fn text_round_trip() {
        let ed = key(1);
        assert_eq!(PublicKey::parse(Scheme::Ed25519, &ed.to_text()).unwrap(), ed);
        let ml = PublicKey::MlDsa87(Box::new([7; ML_DSA_87_PUBLIC]));
        assert_eq!(PublicKey::parse(Scheme::MlDsa87, &ml.to_text()).unwrap(), ml);
        // In errors and logs a key is its scheme and id, never its bytes.
        assert_eq!(format!("{ed:?} {ml:?}"), format!("ed25519:{} ml-dsa-87:{}", ed.id(), ml.id()));
        assert_eq!(format!("{:?}", ed.id()), ed.id().to_string());
    }

    #[test]
    fn refusals() {
        let foreign_number = base64(&[&b"Ed"[..], &[0; 8], key(1).as_bytes()].concat());
        let zero = PublicKey::Ed25519([0; 32]).to_text();
        for bad in [foreign_number, zero, base64(b"Ed"), "?".into(), base64(&[1; 42])] {
            assert!(
                matches!(PublicKey::parse(Scheme::Ed25519, &bad).unwrap_err().kind(), ErrorKind::BadValue { .. }),
                "{bad}"
            );
        }
        assert!(PublicKey::parse(Scheme::MlDsa87, &base64(&[1; 2591])).is_err());
        assert!(KeyId::parse("00112233445566").is_err());
        assert!(KeyId::parse("00112233445566AA").is_err());
    }
}
