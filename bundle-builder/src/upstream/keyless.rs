//! Keyless signatures over an image: where they lie, and which of them counts. What makes one good is
//! [`crate::keyless`]'s to say.
//!
//! Two forms are read: cosign 2's, a payload with certificate and log entry in annotations, and sigstore bundles as
//! referrers of the image (OCI image-spec 1.1), as cosign 3 and CI systems write them.

use std::path::Path;

use bundle_format::digest::Sha256;
use bundle_format::lock::LockedKeyless;
use bundle_format::release::Keyless;
use bundle_format::text::unbase64;

use super::beside::{Annotations, Beside, Candidate, Reasons};
use super::{COSIGN, SIGNATURE, TYPE, check_payload, document};
use crate::error::{ErrorKind, Result};
use crate::keyless::{self, Bundle, Claim, Demand, Fault, TrustedRoot, Verified};
use crate::source::{ImageSource, ResolvedImage};

/// Signed statements that mean "this is mine": cosign's own, and provenance of the build. Others, such as a
/// scanner's report by the same signer, say nothing of the kind.
const CLAIMS: [&str; 3] = [COSIGN, "https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"];
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
    let asked = Demand { root: &root, identity: &demand.identity, issuer: &demand.issuer };
    let beside = Beside::find(source, resolved.digest, |annotations| annotations.contains_key(keyless::CERTIFICATE))?;
    let (mut accepted, mut faults) = (Vec::new(), Vec::new());
    for judged in beside.judged(source, |candidate, bytes| judge(candidate, bytes, asked, resolved)) {
        match judged? {
            Ok((verified, claim)) => accepted.push(locked(verified, claim, &root, demand, resolved.digest)),
            Err(fault) => faults.push(fault),
        }
    }
    let found = faults.len();
    if let Some(first) = accepted.into_iter().min_by(|a, b| (&a.time, a.log_index).cmp(&(&b.time, b.log_index))) {
        return Ok(first);
    }
    let (image, digest) = (image.to_owned(), resolved.digest);
    Err(match Reasons::new(faults, beside.unread).map(Box::new) {
        Some(why) if found > 0 => ErrorKind::UpstreamKeyless { image, digest, found, why },
        unread => ErrorKind::UpstreamUnsigned { image, digest, unread },
    }
    .into())
}

/// What a signature proves, and what it says of the image.
fn judge(
    candidate: &Candidate,
    bytes: &[u8],
    asked: Demand<'_>,
    resolved: &ResolvedImage,
) -> Result<(Verified, String), Fault> {
    match candidate {
        Candidate::Payload(_, annotations) => verify_payload(bytes, annotations, asked, resolved.digest),
        Candidate::Bundle(_) => verify_bundle(bytes, document(resolved), asked),
    }
}

fn verify_payload(
    payload: &[u8],
    annotations: &Annotations,
    asked: Demand<'_>,
    expected: Sha256,
) -> Result<(Verified, String), Fault> {
    let broken = || Fault::Malformed { what: "payload", why: "its signature is not base64".into() };
    let signature = annotations.get(SIGNATURE).and_then(|text| unbase64(text)).ok_or_else(broken)?;
    let bundle = Bundle::from_annotations(signature, annotations)?;
    let verified = keyless::verify(&bundle, payload, asked)?;
    check_payload(payload, expected)?;
    Ok((verified, TYPE.into()))
}

fn verify_bundle(bytes: &[u8], image: &[u8], asked: Demand<'_>) -> Result<(Verified, String), Fault> {
    let verified = keyless::verify(&Bundle::parse(bytes)?, image, asked)?;
    let claim = match &verified.claim {
        Claim::Bytes => BYTES.to_owned(),
        Claim::Statement(kind) if CLAIMS.contains(&kind.as_str()) => kind.clone(),
        Claim::Statement(kind) => return Err(Fault::claim("cosign's signature or SLSA provenance", kind)),
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
