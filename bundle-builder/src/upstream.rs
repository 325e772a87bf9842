//! Publishers' signatures over images, where the release demands them: cosign's format with a pinned
//! public key (github.com/sigstore/cosign, `specs/SIGNATURE_SPEC.md`), or [`keyless`].
//!
//! What may hurt it: an image that somebody else pushed under a good name, a good signature moved to
//! another image, a signature by another key, one that was taken away. Who defends: the key is a
//! file beside the release, the payload must name the very digest that is pinned, and a demanded
//! signature that is missing is an error. One way is demanded, and nothing falls back to the other.

use std::path::Path;

use bundle_format::digest::Sha256;
use bundle_format::lock::{LockedKey, LockedSignature};
use bundle_format::oci::{Artifact, Descriptor};
use bundle_format::release::{CosignKey, ReleaseImage, Verify};
use bundle_format::text::{escaped, unbase64};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;

use crate::error::{ErrorKind, Result};
use crate::source::{self, ImageSource, ResolvedImage};

mod keyless;

/// Media type of a payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Annotation that holds the signature over it.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// `critical.type` of a payload.
const TYPE: &str = "cosign container image signature";
/// Most bytes of a payload, and of a key file.
const MOST: u64 = 64 << 10;

/// Verifies what the release demands of an image; `None` where it demands nothing.
pub fn verify(
    source: &dyn ImageSource,
    image: &ReleaseImage,
    base: &Path,
    resolved: &ResolvedImage,
) -> Result<Option<LockedSignature>> {
    let name = image.name.to_string();
    Ok(match &image.verify {
        None => None,
        Some(Verify::Cosign(pinned)) => Some(LockedSignature::Cosign(with_key(source, &name, pinned, base, resolved)?)),
        Some(Verify::Keyless(demand)) => {
            Some(LockedSignature::Keyless(keyless::verify(source, &name, demand, base, resolved)?))
        }
    })
}

fn with_key(
    source: &dyn ImageSource,
    image: &str,
    pinned: &CosignKey,
    base: &Path,
    resolved: &ResolvedImage,
) -> Result<LockedKey> {
    let key = Key::read(&base.join(&pinned.key))?;
    let mut found = Vec::new();
    for artifact in signatures(source, resolved.digest)? {
        found.extend(artifact.layers.into_iter().filter(|(layer, _)| layer.media_type == SIMPLE_SIGNING));
    }
    if found.is_empty() {
        return Err(ErrorKind::UpstreamUnsigned { image: image.into(), digest: resolved.digest }.into());
    }
    let count = found.len();
    for (layer, annotations) in found {
        let signature = annotations.get(SIGNATURE).and_then(|text| unbase64(text));
        let payload = source::small_blob(source, &layer, MOST)?;
        // Signatures by other keys may lie beside the one that is asked for.
        if signature.is_some_and(|signature| key.verifies(&payload, &signature)) {
            let (expected, signed) = (resolved.digest, resolved.digest);
            return match other_artifact(&payload, expected, &layer)? {
                None => Ok(LockedKey { key: key.sha256, signed }),
                Some(found) => Err(ErrorKind::UpstreamPayload { image: image.into(), expected, found }.into()),
            };
        }
    }
    let key = escaped(&pinned.key.display().to_string());
    Err(ErrorKind::UpstreamSignature { image: image.into(), digest: resolved.digest, key, found: count }.into())
}

/// The manifests that may hold signatures over `digest`: under cosign's tag, and referrers.
fn signatures(source: &dyn ImageSource, digest: Sha256) -> Result<Vec<Artifact>> {
    let mut all = Vec::new();
    if let Some(blob) = source.tagged(&format!("sha256-{}.sig", digest.hex()))? {
        all.push(source::artifact(source, &blob)?);
    }
    all.extend(source::artifacts(source, &[digest])?);
    Ok(all)
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: PayloadImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct PayloadImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// What a verified payload names if that is not the image. Its `docker-reference` is not compared: images
/// are mirrored under other names, and the digest is what is pinned.
fn other_artifact(payload: &[u8], expected: Sha256, layer: &Descriptor) -> Result<Option<String>> {
    let payload: Payload = bundle_format::json::parse(&format!("payload {}", layer.digest), payload, MOST)?;
    let said = payload.critical;
    let same = said.kind == TYPE && said.image.digest == expected.to_string();
    Ok((!same).then(|| escaped(&format!("{} of type {:?}", said.image.digest, said.kind))))
}

/// A pinned public key.
struct Key {
    algorithm: &'static dyn VerificationAlgorithm,
    raw: Vec<u8>,
    sha256: Sha256,
}

impl Key {
    /// Reads a PEM `PUBLIC KEY`.
    fn read(path: &Path) -> Result<Self> {
        let file = escaped(&path.display().to_string());
        let text = source::files::read_yaml(path)?;
        let bad = |why| ErrorKind::UpstreamKey { file: file.clone(), why };
        let body = text
            .trim()
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
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
