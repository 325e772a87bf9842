//! Signatures and the one threshold function (spec 4).
//!
//! Threats: a stripped algorithm, one key counted twice, a signature over other bytes, two texts
//! for one signature (so that flipped bits hide), a bug in one implementation. Defences: a
//! threshold for each scheme that the policy names; distinct public keys are counted; exact bytes
//! are verified before parsing; text forms are compared with their canonical form; each scheme is
//! verified by two independent implementations that must agree.

use std::collections::BTreeSet;

use blake2::Digest as _;

use crate::key::{KeyId, ML_DSA_87_SIGNATURE, PublicKey, Scheme};
use crate::root::{Role, TrustRoot};
use crate::text::{base64, unbase64};
use crate::{ErrorKind, Result, limits};

/// First line of a signature file; fixed, because minisign does not sign it.
pub const UNTRUSTED_COMMENT: &str = "untrusted comment: Lockgate signature, see docs/spec/bundle-format.md";

/// One signature over a document, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Id of the signing key, as claimed.
    pub key: KeyId,
    /// The algorithm and its bytes.
    pub value: Value,
}

/// A signature's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A minisign signature: over BLAKE2b-512 of the document, and over that signature and comment.
    Ed25519 {
        /// RFC 8032 signature over BLAKE2b-512 of the document.
        signature: Box<[u8; 64]>,
        /// Signed comment.
        comment: String,
        /// RFC 8032 signature over `signature` and `comment`.
        global: Box<[u8; 64]>,
    },
    /// FIPS 204 signature over the document.
    MlDsa87(Box<[u8; ML_DSA_87_SIGNATURE]>),
}

/// Which schemes must meet the threshold at this site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlgorithmPolicy {
    /// Ed25519 and ML-DSA-87, each by its own threshold.
    #[default]
    Hybrid,
    /// ML-DSA-87 must meet the threshold (CNSA 2.0).
    Cnsa2,
    /// Ed25519 must meet the threshold.
    Ed25519,
}

impl AlgorithmPolicy {
    /// The schemes that must meet the threshold.
    pub const fn required(self) -> &'static [Scheme] {
        match self {
            Self::Hybrid => &[Scheme::Ed25519, Scheme::MlDsa87],
            Self::Cnsa2 => &[Scheme::MlDsa87],
            Self::Ed25519 => &[Scheme::Ed25519],
        }
    }
}

/// Bytes that minisign signs with Ed25519 for a document: its BLAKE2b-512.
pub fn minisign_prehash(document: &[u8]) -> [u8; 64] {
    blake2::Blake2b512::digest(document).into()
}

impl Signature {
    /// The signature's scheme.
    pub const fn scheme(&self) -> Scheme {
        match self.value {
            Value::Ed25519 { .. } => Scheme::Ed25519,
            Value::MlDsa87(_) => Scheme::MlDsa87,
        }
    }

    /// The file form: a minisign file, or the raw ML-DSA-87 signature.
    pub fn to_file(&self) -> Vec<u8> {
        match &self.value {
            Value::Ed25519 { signature, comment, global } => {
                let head = base64(&[&b"ED"[..], self.key.as_bytes(), signature.as_slice()].concat());
                format!("{UNTRUSTED_COMMENT}\n{head}\ntrusted comment: {comment}\n{}\n", base64(global.as_slice()))
                    .into_bytes()
            }
            Value::MlDsa87(bytes) => bytes.to_vec(),
        }
    }

    /// Parses the file form and refuses any other text for the same signature.
    pub fn parse_file(what: &str, key: KeyId, scheme: Scheme, file: &[u8]) -> Result<Self> {
        let bad = |expected: &str| ErrorKind::BadValue {
            what: what.into(),
            expected: expected.into(),
            found: format!("{} bytes", file.len()),
        };
        let too_large = u64::try_from(file.len()).unwrap_or(u64::MAX) > limits::SIGNATURE_BYTES;
        let value = match scheme {
            _ if too_large => return Err(bad("at most 64 KiB").into()),
            Scheme::Ed25519 => {
                parse_minisign(file, key).ok_or_else(|| bad("a minisign signature (algorithm ED) by the named key"))?
            }
            Scheme::MlDsa87 => Value::MlDsa87(Box::new(file.try_into().map_err(|_| bad("4627 bytes"))?)),
        };
        let signature = Self { key, value };
        if signature.to_file() == file {
            return Ok(signature);
        }
        Err(ErrorKind::NotCanonical { what: what.into() }.into())
    }

    /// Verifies this signature over `document` with `key` by two implementations. Who must sign, and
    /// how many, is [`verify_threshold`]'s to say.
    pub fn verify(&self, what: &str, document: &[u8], key: &PublicKey) -> Result<()> {
        let verdicts = match (&self.value, key) {
            (Value::Ed25519 { signature, comment, global }, PublicKey::Ed25519(point)) => {
                let ours = verify_dalek(point, document, signature, comment, global);
                (ours, self.verify_minisign(document, key))
            }
            (Value::MlDsa87(signature), PublicKey::MlDsa87(public)) => (
                verify_ml_dsa(public.as_slice(), document, signature.as_slice()),
                verify_fips204(public, document, signature),
            ),
            _ => (false, false),
        };
        let (document, scheme, key) = (what.to_owned(), key.scheme().name(), self.key.to_string());
        match verdicts {
            (true, true) => Ok(()),
            (false, false) => Err(ErrorKind::BadSignature { document, scheme, key }.into()),
            _ => Err(ErrorKind::ImplementationsDisagree { document, scheme, key }.into()),
        }
    }

    fn verify_minisign(&self, document: &[u8], key: &PublicKey) -> bool {
        let file = String::from_utf8(self.to_file()).unwrap_or_default();
        let parsed =
            (minisign_verify::PublicKey::from_base64(&key.to_text()), minisign_verify::Signature::decode(&file));
        match parsed {
            (Ok(public), Ok(signature)) => public.verify(document, &signature, false).is_ok(),
            _ => false,
        }
    }
}

fn parse_minisign(file: &[u8], key: KeyId) -> Option<Value> {
    let mut lines = std::str::from_utf8(file).ok()?.lines();
    (lines.next()? == UNTRUSTED_COMMENT).then_some(())?;
    let head = unbase64(lines.next()?)?;
    let (number, signature) = head.strip_prefix(b"ED")?.split_first_chunk::<8>()?;
    (KeyId::from_bytes(*number) == key).then_some(())?;
    let comment = lines.next()?.strip_prefix("trusted comment: ")?.to_owned();
    let global = unbase64(lines.next()?)?;
    Some(Value::Ed25519 {
        signature: Box::new(signature.try_into().ok()?),
        comment,
        global: Box::new(global.try_into().ok()?),
    })
}

/// `verify_strict` refuses small-order points and non-canonical scalars (RFC 8032, 5.1.7).
fn verify_dalek(point: &[u8; 32], document: &[u8], signature: &[u8; 64], comment: &str, global: &[u8; 64]) -> bool {
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(point) else { return false };
    let prehash = minisign_prehash(document);
    let bound = [signature.as_slice(), comment.as_bytes()].concat();
    let strict = |message: &[u8], bytes: &[u8; 64]| {
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(bytes)).is_ok()
    };
    strict(&prehash, signature) && strict(&bound, global)
}

fn verify_ml_dsa(public: &[u8], document: &[u8], signature: &[u8]) -> bool {
    use ml_dsa::{EncodedSignature, EncodedVerifyingKey, MlDsa87, VerifyingKey};
    let Ok(public) = EncodedVerifyingKey::<MlDsa87>::try_from(public) else { return false };
    let Ok(signature) = EncodedSignature::<MlDsa87>::try_from(signature) else { return false };
    let Some(signature) = ml_dsa::Signature::<MlDsa87>::decode(&signature) else { return false };
    VerifyingKey::<MlDsa87>::decode(&public).verify_with_context(document, &[], &signature)
}

fn verify_fips204(
    public: &[u8; crate::key::ML_DSA_87_PUBLIC],
    document: &[u8],
    signature: &[u8; ML_DSA_87_SIGNATURE],
) -> bool {
    use fips204::traits::{SerDes as _, Verifier as _};
    fips204::ml_dsa_87::PublicKey::try_from_bytes(*public).is_ok_and(|key| key.verify(document, signature, &[]))
}

/// The one threshold function: every signature present must verify and come from a key that
/// `root` lists, and for each scheme of `policy` at least the role's threshold of distinct public
/// keys of that role must have signed. Returns the ids of the role's keys that did.
///
/// Stricter than TUF 1.0.34 (5.3.4), which passes over unknown and invalid extra signatures: a
/// bundle is a finished medium, so a signature that proves nothing is a defect of it.
pub fn verify_threshold(
    what: &str,
    document: &[u8],
    signatures: &[Signature],
    root: &TrustRoot,
    role: Role,
    policy: AlgorithmPolicy,
) -> Result<Vec<KeyId>> {
    verify_each(what, document, signatures, root, UnknownKeys::Refused)?;
    count(what, signatures, root, role, policy)
}

/// What a signature by a key that the root does not list means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownKeys {
    /// A defect.
    Refused,
    /// The other root of a rotation lists it; that root's own call refuses what neither lists.
    OtherRoot,
}

/// Verifies every signature by a key of `root`; returns how many were.
pub(crate) fn verify_each(
    what: &str,
    document: &[u8],
    signatures: &[Signature],
    root: &TrustRoot,
    unknown: UnknownKeys,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    for signature in signatures {
        if !seen.insert(signature.key) {
            return Err(ErrorKind::DuplicateSignature { document: what.into(), key: signature.key.to_string() }.into());
        }
        match root.key(signature.key) {
            Some(key) if key.scheme() == signature.scheme() => signature.verify(what, document, key)?,
            None if unknown == UnknownKeys::OtherRoot => {}
            _ => {
                let (document, key) = (what.to_owned(), signature.key.to_string());
                return Err(ErrorKind::UnknownKey { document, key, root: root.version() }.into());
            }
        }
    }
    Ok(())
}

/// Counts distinct public keys of `role` among verified signatures. Key ids are computed from the
/// keys and unique within a root, and `verify_each` refused doubled ids, so ids count keys here.
pub(crate) fn count(
    what: &str,
    signatures: &[Signature],
    root: &TrustRoot,
    role: Role,
    policy: AlgorithmPolicy,
) -> Result<Vec<KeyId>> {
    let needed = root.threshold(role).ok_or_else(|| ErrorKind::RoleMissing {
        document: what.into(),
        role: role.name(),
        root: root.version(),
    })?;
    let of_role: BTreeSet<KeyId> = signatures.iter().map(|s| s.key).filter(|id| root.role_holds(role, *id)).collect();
    for scheme in policy.required() {
        let found = of_role.iter().filter_map(|id| root.key(*id)).filter(|key| key.scheme() == *scheme).count();
        if found < needed {
            return Err(ErrorKind::Threshold {
                document: what.into(),
                role: role.name(),
                scheme: scheme.name(),
                root: root.version(),
                needed,
                found,
            }
            .into());
        }
    }
    Ok(of_role.into_iter().collect())
}
