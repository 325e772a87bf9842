//! Keyless signatures (sigstore): an identity provider vouched for the signer, a certificate authority wrote
//! that into a certificate that lives for minutes, and logs saw both. Verified wholly offline, against a trusted
//! root that the release pins (github.com/sigstore/architecture-docs, `client-spec.md` 4).
//!
//! What may hurt it: a certificate by an authority of somebody else, one that is long dead, one that no log has
//! seen; a good log entry beside another signature; a good signature over another artifact; somebody else's
//! good signature. Who defends: [`verify`], step by step; each step that fails has its own [`Fault`], none can be left out, and
//! what is missing counts as failed. Nothing but the pinned root is trusted, and no clock is asked.

mod asn1;
mod bundle;
mod certificate;
mod chain;
mod entry;
mod fault;
mod key;
mod proto;
mod root;
mod sct;
mod time_stamp;
mod tree;

use bundle_format::digest::Sha256;
use bundle_format::limits;
use bundle_format::lock::TimeSource;
use bundle_format::provenance::pae_of;
use bundle_format::release::Identity;
use bundle_format::timestamp::Timestamp;
use serde::Deserialize;

pub use bundle::{Bundle, CERTIFICATE, KeySignature, is_bundle};
pub use fault::Fault;
pub use root::TrustedRoot;

use bundle::{Content, Envelope};
use certificate::Certificate;
use entry::Signed;
use fault::{Checked, malformed, shown};
use key::Key;
use root::log_at;

/// Who must have signed, by whose word.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// Whose word counts.
    pub root: &'a TrustedRoot,
    /// The certificate's one name.
    pub identity: &'a Identity,
    /// Who vouched for it: the URL of the OIDC issuer.
    pub issuer: &'a str,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What the signature says of the artifact.
    pub claim: Claim,
    /// Id of the transparency log.
    pub log: Sha256,
    /// Number of the entry in it.
    pub log_index: u64,
    /// When it was signed.
    pub time: Timestamp,
    /// Whose word the time is.
    pub time_from: TimeSource,
    /// sha256 of the certificate's DER.
    pub certificate: Sha256,
}

/// What a signature says of the artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is over the artifact's own bytes.
    Bytes,
    /// It is over an in-toto statement of this type, one of whose subjects is the artifact.
    Statement(String),
}

/// Verifies `bundle` over `artifact`, as the steps of the specification have it.
pub fn verify(bundle: &Bundle, artifact: &[u8], demand: Demand<'_>) -> Result<Verified, Fault> {
    let Demand { root, identity, issuer } = demand;
    let certificate = Certificate::parse(&bundle.certificate)?;
    let signature = bundle.content.signature();
    // 1. When was it signed? Only times that somebody listed signed count.
    let times = times(bundle, signature, root)?;
    // 2. Was the certificate good at each of these times?
    let mut issued_by = Vec::new();
    for time in times.all() {
        check_validity(&certificate, time)?;
        issued_by = chain::signer(certificate.der, &bundle.along, &root.authorities, time)?;
    }
    // 3. Has a certificate log seen it?
    sct::verify(&certificate, &issued_by, &root.certificate_logs)?;
    // 4. Is it the one who is asked for?
    certificate.check_identity(identity)?;
    certificate.check_issuer(issuer)?;
    // 5. Is the signature in the transparency log?
    let entry = &bundle.entry;
    let log = log_at(&root.logs, &entry.log, times.first).ok_or(Fault::UnknownLog { log: entry.log })?;
    if let Some(proof) = &entry.proof {
        proof.verify(entry.log, log, &entry.body)?;
    }
    // 6. Is it the certificate's signature?
    bundle.content.check_digest(artifact)?;
    let message = bundle.content.message(artifact);
    if !Key::new(certificate.spki).verifies(&message, signature) {
        return Err(Fault::Signature);
    }
    // 7. Is the log entry about just this signature?
    let envelope = bundle.content.envelope();
    entry.check_binds(&Signed { certificate: certificate.der, signature, message: &message, envelope })?;
    // 8. Is what was signed about this artifact?
    let claim = bundle.content.claim(artifact)?;
    // The number beside a promise is signed with it; without one, the number in the tree is proved.
    let log_index =
        if times.logged.is_some() { entry.index } else { entry.proof.as_ref().map_or(0, |proof| proof.index) };
    let (time, time_from) = (Timestamp::from_unix(times.first), times.source());
    Ok(Verified { claim, log: entry.log, log_index, time, time_from, certificate: Sha256::of(certificate.der) })
}

/// Verifies a statement about `artifact` by a pinned key, steps 6 and 8 alone: there is no certificate to ask about, and
/// nothing but the key is trusted. `verifies` says whether the key made, over a message, a signature. Gives the
/// statement's type.
pub fn verify_by_key(
    signature: &KeySignature,
    artifact: &[u8],
    verifies: impl FnOnce(&[u8], &[u8]) -> bool,
) -> Result<String, Fault> {
    let KeySignature(envelope) = signature;
    if !verifies(&envelope.message(), &envelope.signature) {
        return Err(Fault::OtherKey);
    }
    envelope.claim(artifact)
}

/// Times of signing, in seconds since 1970; there is one at least.
struct Times {
    /// The log's, or else the first authority's.
    first: u64,
    logged: Option<u64>,
    stamped: Vec<u64>,
}

impl Times {
    fn all(&self) -> impl Iterator<Item = u64> {
        self.logged.iter().chain(&self.stamped).copied()
    }

    fn source(&self) -> TimeSource {
        if self.logged.is_some() { TimeSource::Log } else { TimeSource::TimestampAuthority }
    }
}

/// Every time that came along, verified: the log's promise and each time stamp. One that does not verify is an
/// error even where another would do.
fn times(bundle: &Bundle, signature: &[u8], root: &TrustedRoot) -> Checked<Times> {
    let entry = &bundle.entry;
    let mut logged = None;
    if let Some(promise) = &entry.promise {
        let unknown = Fault::UnknownLog { log: entry.log };
        let log = log_at(&root.logs, &entry.log, entry.integrated).ok_or(unknown)?;
        entry.verify_promise(log, promise)?;
        logged = Some(entry.integrated);
    } else if entry.proof.is_none() {
        return Err(Fault::ProofMissing { expected: "a signed entry timestamp (SET) or a proof of inclusion" });
    }
    let stamp = |response: &Vec<u8>| time_stamp::verify(response, signature, &root.time_stampers);
    let stamped: Vec<u64> = bundle.stamps.iter().map(stamp).collect::<Checked<_>>()?;
    let first = logged.or(stamped.first().copied()).ok_or(Fault::TimeMissing)?;
    Ok(Times { first, logged, stamped })
}

fn check_validity(certificate: &Certificate<'_>, time: u64) -> Checked<()> {
    let (from, to) = certificate.validity;
    if (from..=to).contains(&time) {
        return Ok(());
    }
    let (time, not_before, not_after) =
        (Timestamp::from_unix(time), Timestamp::from_unix(from), Timestamp::from_unix(to));
    Err(Fault::CertificateTime { time, not_before, not_after })
}

impl Content {
    fn signature(&self) -> &[u8] {
        match self {
            Self::Message { signature, .. } | Self::Envelope(Envelope { signature, .. }) => signature,
        }
    }

    fn envelope(&self) -> Option<(&str, &[u8])> {
        match self {
            Self::Message { .. } => None,
            Self::Envelope(envelope) => Some((&envelope.kind, &envelope.payload)),
        }
    }

    /// A bundle may say which artifact it is about; the signature would fail as well, but not say why.
    fn check_digest(&self, artifact: &[u8]) -> Checked<()> {
        let expected = Sha256::of(artifact);
        match self {
            Self::Message { digest: Some(said), .. } if said.as_slice() != expected.as_bytes() => {
                Err(Fault::Artifact { expected, found: bundle_format::text::hex(said) })
            }
            _ => Ok(()),
        }
    }

    /// The bytes that the signature is over.
    fn message(&self, artifact: &[u8]) -> Vec<u8> {
        match self {
            Self::Message { .. } => artifact.to_vec(),
            Self::Envelope(envelope) => envelope.message(),
        }
    }

    fn claim(&self, artifact: &[u8]) -> Checked<Claim> {
        match self {
            Self::Message { .. } => Ok(Claim::Bytes),
            Self::Envelope(envelope) => Ok(Claim::Statement(envelope.claim(artifact)?)),
        }
    }
}

impl Envelope {
    /// The bytes that the signature is over.
    fn message(&self) -> Vec<u8> {
        pae_of(&self.kind, &self.payload)
    }

    /// The type of the statement, which must have the artifact among its subjects.
    fn claim(&self, artifact: &[u8]) -> Checked<String> {
        let expected = bundle_format::provenance::PAYLOAD;
        if self.kind != expected {
            return Err(Fault::Unsupported { what: "payload", expected, found: shown(&self.kind) });
        }
        let statement: Statement =
            bundle_format::json::parse("statement", &self.payload, limits::SIGSTORE_BUNDLE_BYTES)
                .map_err(|error| malformed("statement", error.to_string()))?;
        let found = (Sha256::of(artifact).hex(), sha512(artifact));
        let is_it = |subject: &Subject| {
            subject.digest.sha256.as_ref() == Some(&found.0) || subject.digest.sha512.as_ref() == Some(&found.1)
        };
        if statement.subject.iter().any(is_it) {
            return Ok(statement.predicate_type);
        }
        let named = statement.subject.iter().filter_map(|s| s.digest.sha256.as_deref().or(s.digest.sha512.as_deref()));
        let named = named.take(3).map(shown).collect::<Vec<_>>().join(", ");
        let found = if named.is_empty() { "no digest".into() } else { named };
        Err(Fault::Artifact { expected: Sha256::of(artifact), found })
    }
}

/// What is read of an in-toto statement.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    sha256: Option<String>,
    sha512: Option<String>,
}

fn sha512(bytes: &[u8]) -> String {
    bundle_format::text::hex(ring::digest::digest(&ring::digest::SHA512, bytes).as_ref())
}

/// The certificates of a PEM text, DER; `None` if there is anything else in it.
fn certificates_of_pem(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(text).ok()?.trim();
    let blocks = text.split_inclusive(END).map(|block| {
        let (label, der) = der::pem::decode_vec(block.trim().as_bytes()).ok()?;
        (label == "CERTIFICATE").then_some(der)
    });
    blocks.collect()
}
