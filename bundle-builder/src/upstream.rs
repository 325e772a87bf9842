//! Publishers' signatures over images, where the release demands them: by a pinned public [`key`], or [`keyless`].
//! Forms: cosign 2's payloads (github.com/sigstore/cosign, `specs/SIGNATURE_SPEC.md`) and sigstore bundles.
//!
//! What may hurt it: an image that somebody else pushed under a good name, a good signature moved to
//! another image, a signature by another key, one that was taken away; a foreign or broken file beside a good
//! signature. Who defends: key or trusted root is a file beside the release, what is signed must name the very digest
//! that is pinned, and a demanded signature that is missing is an error. One way is demanded, and nothing falls back to
//! the other. What does not count is passed over, and told if nothing counts ([`Reasons`]).

use std::path::Path;

use bundle_format::digest::Sha256;
use bundle_format::limits;
use bundle_format::lock::LockedSignature;
use bundle_format::release::{ReleaseImage, Verify};
use bundle_format::text::escaped;
use serde::Deserialize;

use crate::error::Result;
use crate::keyless::Fault;
use crate::source::{ImageSource, ResolvedImage};

mod beside;
mod key;
mod keyless;

pub use beside::Reasons;

/// Annotation that holds the signature over a payload.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// `critical.type` of a payload.
const TYPE: &str = "cosign container image signature";
/// Type of the statement with which cosign 3 signs an image.
const COSIGN: &str = "https://sigstore.dev/cosign/sign/v1";

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
        Some(Verify::Cosign(pinned)) => {
            Some(LockedSignature::Cosign(key::verify(source, &name, pinned, base, resolved)?))
        }
        Some(Verify::Keyless(demand)) => {
            Some(LockedSignature::Keyless(keyless::verify(source, &name, demand, base, resolved)?))
        }
    })
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

/// Checks that a verified payload names the image. Its `docker-reference` is not compared: images are mirrored under
/// other names, and the digest is what is pinned.
fn check_payload(payload: &[u8], expected: Sha256) -> Result<(), Fault> {
    let payload: Payload = bundle_format::json::parse("payload", payload, limits::UPSTREAM_PAYLOAD_BYTES)
        .map_err(|error| Fault::Malformed { what: "payload", why: error.to_string() })?;
    let said = payload.critical;
    if said.kind == TYPE && said.image.digest == expected.to_string() {
        return Ok(());
    }
    Err(Fault::Artifact { expected, found: escaped(&format!("{} of type {:?}", said.image.digest, said.kind)) })
}

/// The image's own document, which statements name by its digest.
fn document(resolved: &ResolvedImage) -> &[u8] {
    resolved.documents.get(&resolved.digest).map_or(&[][..], Vec::as_slice)
}
