//! Public keys of certificates, logs and timestamp authorities. Each is a DER `SubjectPublicKeyInfo`
//! (RFC 5280 4.1.2.7), and webpki's ring algorithms verify with it.

use bundle_format::digest::Sha256;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use webpki::ring as algorithms;

/// Every algorithm that a signature may be of: ECDSA on P-256 and P-384 with SHA-256 or SHA-384, Ed25519,
/// RSA of 2048 bits and more with SHA-256 and up. SHA-1 and SHA-224 are not among them.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Of DER `SubjectPublicKeyInfo`. Bytes of another form verify nothing.
    pub(super) fn new(spki: &[u8]) -> Self {
        Self(spki.to_vec())
    }

    /// sha256 of the DER: a log's id (RFC 6962 3.2).
    pub(super) fn id(&self) -> Sha256 {
        Sha256::of(&self.0)
    }

    /// The id of an Ed25519 key in signed notes, of which a signature shows four bytes
    /// (c2sp.org/signed-note): sha256 of name, newline, 1, key. `None` for other keys.
    pub(super) fn note_id(&self, name: &str) -> Option<Sha256> {
        /// RFC 8410 4: the head of a `SubjectPublicKeyInfo` of Ed25519.
        const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let raw = self.0.strip_prefix(ED25519)?;
        Some(Sha256::of(&[name.as_bytes(), b"\n\x01", raw].concat()))
    }

    /// Whether `signature` is this key's over `message`, with whichever of [`ALGORITHMS`] fits the key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let spki = SubjectPublicKeyInfoDer::from(self.0.as_slice());
        let Ok(key) = RawPublicKeyEntity::try_from(&spki) else { return false };
        ALGORITHMS.iter().any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    }
}
