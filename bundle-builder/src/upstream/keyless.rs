//! Keyless signatures over an image: where they lie, and which of them counts. What makes one good is
//! [`crate::keyless`]'s to say.
//!
//! Two forms are read: cosign 2's, a payload with certificate and log entry in annotations, and sigstore bundles as
//! referrers of the image (OCI image-spec 1.1), as cosign 3 and CI systems write them.

use std::collections::BTreeMap;
use std::path::Path;

use bundle_format::digest::Sha256;
use bundle_format::lock::LockedKeyless;
use bundle_format::oci::Descriptor;
use bundle_format::release::Keyless;
use bundle_format::text::unbase64;

use super::{SIGNATURE, SIMPLE_SIGNING, TYPE, other_artifact, signatures};
use crate::error::{ErrorKind, Result};
use crate::keyless::{self, Bundle, Claim, Demand, Fault, TrustedRoot, Verified};
use crate::source::{self, ImageSource, ResolvedImage};

/// Signed statements that mean "this is mine": cosign's own, and provenance of the build. Others, such as a
/// scanner's report by the same signer, say nothing of the kind.
const CLAIMS: [&str; 3] =
    ["https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"];
/// Signatures of one image that are looked at; what lies behind them does not count.
const MOST: usize = 200;
/// What a signature over the image's own bytes is called.
const BYTES: &str = "image document";

/// Verifies that one keyless signature over the image is the demanded one. Of several the earliest counts, so that one
/// that is added later changes no lock.
pub(super) fn verify(
    source: &dyn ImageSource,
    image: &str,
    demand: &Keyless,
    base: &Path,
    resolved: &ResolvedImage,
) -> Result<LockedKeyless> {
    let root = TrustedRoot::read(base, &demand.trusted_root)?;
    let (mut accepted, mut faults) = (Vec::new(), Vec::new());
    for candidate in candidates(source, resolved.digest)? {
        match candidate.judge(source, &root, demand, resolved)? {
            Ok(locked) => accepted.push(locked),
            Err(fault) => faults.push(fault),
        }
    }
    let found = faults.len();
    if let Some(first) = accepted.into_iter().min_by(|a, b| (&a.time, a.log_index).cmp(&(&b.time, b.log_index))) {
        return Ok(first);
    }
    let (image, digest) = (image.to_owned(), resolved.digest);
    // The most telling: a fault of a signature that is the demanded one, if there is such.
    let told = faults.iter().position(|fault| !fault.is_of_another()).unwrap_or(0);
    Err(match faults.into_iter().nth(told) {
        None => ErrorKind::UpstreamUnsigned { image, digest },
        Some(fault) => ErrorKind::UpstreamKeyless { image, digest, found, fault: Box::new(fault) },
    }
    .into())
}

/// A keyless signature as it lies in the source.
enum Candidate {
    /// A payload whose annotations have a certificate.
    Payload(Descriptor, BTreeMap<String, String>),
    /// A bundle.
    Bundle(Descriptor),
}

fn candidates(source: &dyn ImageSource, digest: Sha256) -> Result<Vec<Candidate>> {
    let layers = signatures(source, digest)?.into_iter().flat_map(|artifact| artifact.layers);
    let candidate = |(layer, annotations): (Descriptor, BTreeMap<String, String>)| {
        if keyless::is_bundle(&layer.media_type) {
            return Some(Candidate::Bundle(layer));
        }
        let signed = layer.media_type == SIMPLE_SIGNING && annotations.contains_key(keyless::CERTIFICATE);
        signed.then_some(Candidate::Payload(layer, annotations))
    };
    Ok(layers.filter_map(candidate).take(MOST).collect())
}

impl Candidate {
    /// Outer errors are the source's, inner ones the signature's.
    fn judge(
        &self,
        source: &dyn ImageSource,
        root: &TrustedRoot,
        demand: &Keyless,
        resolved: &ResolvedImage,
    ) -> Result<std::result::Result<LockedKeyless, Fault>> {
        let asked = Demand { root, identity: &demand.identity, issuer: &demand.issuer };
        let judged = match self {
            Self::Payload(layer, annotations) => {
                let payload = source::small_blob(source, layer, super::MOST)?;
                verify_payload(&payload, layer, annotations, asked, resolved.digest)
            }
            Self::Bundle(layer) => {
                let bytes = source::small_blob(source, layer, keyless::MOST)?;
                let image = resolved.documents.get(&resolved.digest).map_or(&[][..], Vec::as_slice);
                verify_bundle(&bytes, image, asked)
            }
        };
        Ok(judged.map(|(verified, claim)| locked(verified, claim, root, demand, resolved.digest)))
    }
}

fn verify_payload(
    payload: &[u8],
    layer: &Descriptor,
    annotations: &BTreeMap<String, String>,
    asked: Demand<'_>,
    expected: Sha256,
) -> std::result::Result<(Verified, String), Fault> {
    let broken = |why: String| Fault::Malformed { what: "payload", why };
    let signature = annotations.get(SIGNATURE).and_then(|text| unbase64(text));
    let signature = signature.ok_or_else(|| broken("its signature is not base64".into()))?;
    let bundle = Bundle::from_annotations(signature, annotations)?;
    let verified = keyless::verify(&bundle, payload, asked)?;
    match other_artifact(payload, expected, layer).map_err(|error| broken(error.to_string()))? {
        None => Ok((verified, TYPE.into())),
        Some(found) => Err(Fault::Artifact { expected, found }),
    }
}

fn verify_bundle(bytes: &[u8], image: &[u8], asked: Demand<'_>) -> std::result::Result<(Verified, String), Fault> {
    let verified = keyless::verify(&Bundle::parse(bytes)?, image, asked)?;
    let claim = match &verified.claim {
        Claim::Bytes => BYTES.to_owned(),
        Claim::Statement(kind) if CLAIMS.contains(&kind.as_str()) => kind.clone(),
        Claim::Statement(kind) => return Err(Fault::claim(kind)),
    };
    Ok((verified, claim))
}

fn locked(verified: Verified, claim: String, root: &TrustedRoot, demand: &Keyless, signed: Sha256) -> LockedKeyless {
    LockedKeyless {
        trusted_root: root.sha384(),
        identity: demand.identity.clone(),
        issuer: demand.issuer.clone(),
        claim,
        log: verified.log,
        log_index: verified.log_index,
        time: verified.time,
        time_from: verified.time_from,
        certificate: verified.certificate,
        signed,
    }
}
