//! Signatures by a pinned public key: cosign 2's payloads, and the sigstore bundles of cosign 3. Nothing but the key is
//! trusted: what a bundle says of its key, and what logs say of the signature, is not looked at.

use std::path::Path;

use bundle_format::digest::Sha256;
use bundle_format::limits;
use bundle_format::lock::LockedKey;
use bundle_format::release::CosignKey;
use bundle_format::text::{escaped, unbase64};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};

use super::beside::{Beside, Candidate, Reasons};
use super::{COSIGN, SIGNATURE, check_payload, document};
use crate::error::{ErrorKind, Result};
use crate::keyless::{self, Fault, KeySignature};
use crate::source::{ImageSource, ResolvedImage, files};

/// Verifies that one signature over the image is the pinned key's. Signatures by other keys may lie beside it.
pub(super) fn verify(
    source: &dyn ImageSource,
    image: &str,
    pinned: &CosignKey,
    base: &Path,
    resolved: &ResolvedImage,
) -> Result<LockedKey> {
    let key = Key::read(&base.join(&pinned.key))?;
    let beside = Beside::find(source, resolved.digest, |_| true)?;
    let mut faults = Vec::new();
    for judged in beside.judged(source, |candidate, bytes| key.judge(candidate, bytes, resolved)) {
        match judged? {
            Ok(()) => return Ok(LockedKey { key: key.sha256, signed: resolved.digest }),
            Err(fault) => faults.push(fault),
        }
    }
    let (image, digest, found) = (image.to_owned(), resolved.digest, faults.len());
    let why = Reasons::new(faults, beside.unread).map(Box::new);
    Err(match why {
        Some(why) if found > 0 => {
            if let Fault::Artifact { expected, found } = why.first() {
                ErrorKind::UpstreamPayload { image, expected: *expected, found: found.clone() }
            } else {
                let key = escaped(&pinned.key.display().to_string());
                ErrorKind::UpstreamSignature { image, digest, key, found, why }
            }
        }
        unread => ErrorKind::UpstreamUnsigned { image, digest, unread },
    }
    .into())
}

/// A pinned public key.
struct Key {
    algorithm: &'static dyn VerificationAlgorithm,
    raw: Vec<u8>,
    sha256: Sha256,
}

impl Key {
    /// Whether the signature is this key's and says that the image is its holder's.
    fn judge(&self, candidate: &Candidate, bytes: &[u8], resolved: &ResolvedImage) -> Result<(), Fault> {
        match candidate {
            Candidate::Payload(_, annotations) => {
                let broken = || Fault::Malformed { what: "payload", why: "its signature is not base64".into() };
                let signature = annotations.get(SIGNATURE).and_then(|text| unbase64(text)).ok_or_else(broken)?;
                if !self.verifies(bytes, &signature) {
                    return Err(Fault::OtherKey);
                }
                check_payload(bytes, resolved.digest)
            }
            Candidate::Bundle(_) => {
                let signature = KeySignature::parse(bytes)?;
                let by_key = |message: &[u8], signature: &[u8]| self.verifies(message, signature);
                let kind = keyless::verify_by_key(&signature, document(resolved), by_key)?;
                // The lock does not say what was claimed, so only this one counts.
                if kind == COSIGN { Ok(()) } else { Err(Fault::claim("cosign's signature", &kind)) }
            }
        }
    }

    /// Reads a PEM `PUBLIC KEY`.
    fn read(path: &Path) -> Result<Self> {
        let file = escaped(&path.display().to_string());
        let bytes = files::read_small(path, limits::UPSTREAM_PAYLOAD_BYTES)?;
        let bad = |why| ErrorKind::UpstreamKey { file: file.clone(), why };
        let body = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----"))
            .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
            .ok_or_else(|| bad("it is not one PEM block PUBLIC KEY"))?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = unbase64(&body).ok_or_else(|| bad("its base64 is broken"))?;
        Self::parse(&der).ok_or_else(|| bad("it is of another kind").into())
    }

    /// DER `SubjectPublicKeyInfo`: for these two algorithms it is a fixed head and the raw key
    /// (RFC 5480 with the curve `secp256r1`, an uncompressed point; RFC 8410).
    fn parse(der: &[u8]) -> Option<Self> {
        const P256: &[u8] = &[
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        const ED: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let sha256 = Sha256::of(der);
        let of = |head: &[u8], length| der.strip_prefix(head).filter(|raw| raw.len() == length).map(<[u8]>::to_vec);
        if let Some(raw) = of(P256, 65) {
            return Some(Self { algorithm: &ECDSA_P256_SHA256_ASN1, raw, sha256 });
        }
        of(ED, 32).map(|raw| Self { algorithm: &ED25519, raw, sha256 })
    }

    fn verifies(&self, payload: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.raw).verify(payload, signature).is_ok()
    }
}
