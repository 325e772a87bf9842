//! A signature with all that came along to verify it: sigstore bundles, versions 0.1 to 0.3
//! (github.com/sigstore/protobuf-specs, `sigstore_bundle.proto`), and what cosign 2 keeps in annotations
//! (github.com/sigstore/cosign, `specs/SIGNATURE_SPEC.md`).

use std::collections::BTreeMap;

use bundle_format::digest::Sha256;
use bundle_format::limits;
use bundle_format::text::{unbase64, unhex};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::entry::Entry;
use super::fault::{Checked, Fault, malformed, shown};
use super::proto::{self, bytes, number};
use super::tree::Proof;

/// Annotation of cosign 2 that holds the certificate, PEM.
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Annotation that holds the certificates up to the authority, PEM.
const CHAIN: &str = "dev.sigstore.cosign/chain";
/// Annotation that holds the log entry, JSON.
const LOGGED: &str = "dev.sigstore.cosign/bundle";
/// Annotation that holds a time stamp, JSON.
const STAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// A keyless signature; nothing of it is verified.
#[derive(Debug)]
pub struct Bundle {
    /// DER of the signer's certificate.
    pub(super) certificate: Vec<u8>,
    /// Certificates that came along.
    pub(super) along: Vec<Vec<u8>>,
    pub(super) content: Content,
    pub(super) entry: Entry,
    /// Time stamps over the signature, DER.
    pub(super) stamps: Vec<Vec<u8>>,
}

/// What is signed.
#[derive(Debug)]
pub(super) enum Content {
    /// The artifact itself; the digest is what the bundle says of it.
    Message { signature: Vec<u8>, digest: Option<Vec<u8>> },
    /// A statement that names the artifact.
    Envelope(Envelope),
}

/// A signed statement: its media type, its bytes, the signature.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) kind: String,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// What a version demands of the log entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Promise,
    Proof,
}

/// The media types of bundles, of each its demand.
const MEDIA_TYPES: [(&str, Demand); 4] = [
    ("application/vnd.dev.sigstore.bundle+json;version=0.1", Demand::Promise),
    ("application/vnd.dev.sigstore.bundle+json;version=0.2", Demand::Proof),
    ("application/vnd.dev.sigstore.bundle+json;version=0.3", Demand::Proof),
    ("application/vnd.dev.sigstore.bundle.v0.3+json", Demand::Proof),
];

/// Whether a layer of this media type is a bundle.
pub fn is_bundle(media_type: &str) -> bool {
    MEDIA_TYPES.iter().any(|(name, _)| *name == media_type)
}

impl Bundle {
    /// Parses a bundle's JSON.
    pub fn parse(bytes: &[u8]) -> Checked<Self> {
        let (raw, demand) = RawBundle::read(bytes)?;
        let RawMaterial {
            certificate,
            x509_certificate_chain,
            public_key,
            mut tlog_entries,
            timestamp_verification_data,
        } = raw.verification_material;
        let mut along: Vec<Vec<u8>> = match (certificate, x509_certificate_chain, public_key) {
            (Some(one), None, None) => vec![one.raw_bytes],
            (None, Some(chain), None) => chain.into_der(),
            (None, None, Some(_)) => return Err(Fault::NoCertificate),
            _ => return Err(malformed("bundle", "it has not just one kind of key")),
        };
        if along.is_empty() {
            return Err(malformed("bundle", "its chain is empty"));
        }
        let certificate = along.remove(0);
        let entry = match (tlog_entries.pop(), tlog_entries.is_empty()) {
            (None, _) => return Err(Fault::EntryMissing),
            (Some(one), true) => one.read(demand)?,
            (Some(_), false) => {
                let found = format!("{} of them", tlog_entries.len() + 1);
                return Err(Fault::Unsupported { what: "log entry", expected: "one", found });
            }
        };
        let stamps = timestamp_verification_data.unwrap_or_default().rfc3161_timestamps;
        let stamps = stamps.into_iter().map(|stamp| stamp.signed_timestamp).collect();
        let content = content(raw.message_signature, raw.dsse_envelope)?;
        Ok(Self { certificate, along, content, entry, stamps })
    }

    /// A signature by cosign 2 and the annotations beside it; [`CERTIFICATE`] must be among them.
    pub fn from_annotations(signature: Vec<u8>, annotations: &BTreeMap<String, String>) -> Checked<Self> {
        let pem = |name: &str| match annotations.get(name) {
            None => Ok(Vec::new()),
            Some(text) => {
                super::certificates_of_pem(text.as_bytes()).ok_or_else(|| malformed("annotation", "no PEM certificate"))
            }
        };
        let [certificate] =
            <[_; 1]>::try_from(pem(CERTIFICATE)?).map_err(|_| malformed("annotation", "not one certificate"))?;
        let logged: Logged = annotation(annotations, LOGGED)?.ok_or(Fault::EntryMissing)?;
        let stamp: Option<Stamped> = annotation(annotations, STAMP)?;
        let payload = logged.payload;
        let id = unhex(&payload.log_id).and_then(|bytes| Some(Sha256::from_bytes(bytes.try_into().ok()?)));
        let entry = Entry {
            log: id.ok_or_else(|| malformed("annotation", "a log's id is not 64 hexadecimal digits"))?,
            index: payload.log_index,
            integrated: payload.integrated_time,
            promise: Some(logged.promise),
            proof: None,
            body: payload.body,
        };
        let stamps = stamp.into_iter().map(|stamp| stamp.response).collect();
        Ok(Self {
            certificate,
            along: pem(CHAIN)?,
            content: Content::Message { signature, digest: None },
            entry,
            stamps,
        })
    }
}

/// A statement signed by a key that its bundle only names. Nothing of it is verified, and nothing is kept that the key
/// cannot prove: what the bundle says of the key (`hint`), of logs and of times is not read.
#[derive(Debug)]
pub struct KeySignature(pub(super) Envelope);

impl KeySignature {
    /// Parses a bundle's JSON.
    pub fn parse(bytes: &[u8]) -> Checked<Self> {
        let (raw, _) = RawBundle::<KeyMaterial>::read(bytes)?;
        let KeyMaterial { certificate, x509_certificate_chain, public_key } = raw.verification_material;
        match (public_key, certificate.or(x509_certificate_chain)) {
            (Some(_), None) => {}
            (None, Some(_)) => return Err(Fault::NoKey),
            _ => return Err(malformed("bundle", "it has not just one kind of key")),
        }
        match content(raw.message_signature, raw.dsse_envelope)? {
            Content::Envelope(envelope) => Ok(Self(envelope)),
            Content::Message { .. } => Err(Fault::Unsupported {
                what: "bundle",
                expected: "a signed statement",
                found: "a signature over a file".into(),
            }),
        }
    }
}

fn content(message: Option<RawMessage>, envelope: Option<RawEnvelope>) -> Checked<Content> {
    match (message, envelope) {
        (Some(message), None) => {
            let digest = message.message_digest.filter(|said| said.algorithm == "SHA2_256").map(|said| said.digest);
            Ok(Content::Message { signature: message.signature, digest })
        }
        (None, Some(envelope)) => {
            let (kind, payload) = (envelope.payload_type, envelope.payload);
            let [one] = <[_; 1]>::try_from(envelope.signatures).map_err(|all| Fault::Unsupported {
                what: "envelope",
                expected: "one signature",
                found: format!("{} of them", all.len()),
            })?;
            Ok(Content::Envelope(Envelope { kind, payload, signature: one.sig }))
        }
        _ => Err(malformed("bundle", "it has not just one signature")),
    }
}

/// The JSON of an annotation, if there is one.
fn annotation<T: DeserializeOwned>(annotations: &BTreeMap<String, String>, name: &str) -> Checked<Option<T>> {
    let Some(text) = annotations.get(name) else { return Ok(None) };
    let parsed = bundle_format::json::parse("annotation", text.as_bytes(), limits::SIGSTORE_BUNDLE_BYTES);
    parsed.map(Some).map_err(|error| malformed("annotation", error.to_string()))
}

/// `dev.sigstore.cosign/bundle`.
#[derive(Deserialize)]
struct Logged {
    #[serde(rename = "SignedEntryTimestamp", deserialize_with = "bytes")]
    promise: Vec<u8>,
    #[serde(rename = "Payload")]
    payload: LoggedPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedPayload {
    #[serde(deserialize_with = "bytes")]
    body: Vec<u8>,
    integrated_time: u64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// `dev.sigstore.cosign/rfc3161timestamp`.
#[derive(Deserialize)]
struct Stamped {
    #[serde(rename = "SignedRFC3161Timestamp", deserialize_with = "bytes")]
    response: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBundle<M> {
    media_type: String,
    verification_material: M,
    message_signature: Option<RawMessage>,
    dsse_envelope: Option<RawEnvelope>,
}

impl<M: DeserializeOwned> RawBundle<M> {
    fn read(bytes: &[u8]) -> Checked<(Self, Demand)> {
        let raw: Self = bundle_format::json::parse("bundle", bytes, limits::SIGSTORE_BUNDLE_BYTES)
            .map_err(|error| malformed("bundle", error.to_string()))?;
        let demand = MEDIA_TYPES.iter().find(|(name, _)| *name == raw.media_type).map(|(_, demand)| *demand);
        let demand = demand.ok_or_else(|| Fault::Unsupported {
            what: "bundle",
            expected: "version 0.1, 0.2 or 0.3",
            found: shown(&raw.media_type),
        })?;
        Ok((raw, demand))
    }
}

/// What is looked at of the material where the key is pinned: only that it names a key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyMaterial {
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
    public_key: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMaterial {
    certificate: Option<proto::Certificate>,
    x509_certificate_chain: Option<proto::Chain>,
    public_key: Option<IgnoredAny>,
    #[serde(default)]
    tlog_entries: Vec<RawEntry>,
    timestamp_verification_data: Option<RawStamps>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage {
    #[serde(deserialize_with = "bytes")]
    signature: Vec<u8>,
    message_digest: Option<RawDigest>,
}

#[derive(Deserialize)]
struct RawDigest {
    algorithm: String,
    #[serde(deserialize_with = "bytes")]
    digest: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload_type: String,
    #[serde(deserialize_with = "bytes")]
    payload: Vec<u8>,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    #[serde(deserialize_with = "bytes")]
    sig: Vec<u8>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawStamps {
    #[serde(default)]
    rfc3161_timestamps: Vec<RawStamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStamp {
    #[serde(deserialize_with = "bytes")]
    signed_timestamp: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    #[serde(default, deserialize_with = "number")]
    log_index: u64,
    log_id: RawId,
    kind_version: Option<RawKind>,
    #[serde(default, deserialize_with = "number")]
    integrated_time: u64,
    inclusion_promise: Option<RawPromise>,
    inclusion_proof: Option<RawProof>,
    #[serde(deserialize_with = "bytes")]
    canonicalized_body: Vec<u8>,
}

#[derive(Deserialize)]
struct RawKind {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawId {
    #[serde(deserialize_with = "bytes")]
    key_id: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPromise {
    #[serde(deserialize_with = "bytes")]
    signed_entry_timestamp: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProof {
    #[serde(default, deserialize_with = "number")]
    log_index: u64,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Option<RawCheckpoint>,
}

#[derive(Deserialize)]
struct RawCheckpoint {
    envelope: String,
}

impl RawEntry {
    fn read(self, demand: Demand) -> Checked<Entry> {
        let digest = |bytes: Vec<u8>| {
            let bytes = bytes.try_into().map_err(|_| malformed("log entry", "a digest is not of 32 bytes"))?;
            Ok::<_, Fault>(Sha256::from_bytes(bytes))
        };
        let promise = self.inclusion_promise.map(|promise| promise.signed_entry_timestamp);
        let proof = match self.inclusion_proof {
            None => None,
            Some(raw) => {
                let step =
                    |text: &String| digest(unbase64(text).ok_or_else(|| malformed("log entry", "broken base64"))?);
                let hashes = raw.hashes.iter().map(step).collect::<Checked<_>>()?;
                let checkpoint = raw.checkpoint.ok_or(Fault::ProofMissing { expected: "a checkpoint" })?.envelope;
                // Newer logs have one number for both; the other field then says nothing.
                let newer =
                    self.kind_version.as_ref().is_some_and(|k| k.kind == "hashedrekord" && k.version == "0.0.2");
                let index = if newer { self.log_index } else { raw.log_index };
                Some(Proof { index, hashes, checkpoint })
            }
        };
        match demand {
            Demand::Promise if promise.is_none() => {
                Err(Fault::ProofMissing { expected: "a signed entry timestamp (SET), as version 0.1 must have" })
            }
            Demand::Proof if proof.is_none() => {
                Err(Fault::ProofMissing { expected: "a proof of inclusion, as version 0.2 and later must have" })
            }
            _ => Ok(Entry {
                log: digest(self.log_id.key_id)?,
                index: self.log_index,
                integrated: self.integrated_time,
                promise,
                proof,
                body: self.canonicalized_body,
            }),
        }
    }
}
