//! An entry of a transparency log: that the log took it in, when, and that it is about this very signature
//! (Rekor, github.com/sigstore/rekor `pkg/types` and github.com/sigstore/rekor-tiles).
//!
//! What may hurt it: an entry of another signature beside a good one (CVE-2022-36056), a time that
//! nobody signed. Who defends: [`Entry::check_binds`] compares artifact, signature and certificate with the
//! logged body; a time counts only where the log signed it.

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::limits;
use bundle_format::text::{base64, unbase64};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::fault::{Checked, Fault, malformed, shown};
use super::root::Log;
use super::tree::Proof;

/// An entry as it came along with a signature.
#[derive(Debug)]
pub(super) struct Entry {
    /// Id of its log.
    pub(super) log: Sha256,
    /// Its number.
    pub(super) index: u64,
    /// Seconds since 1970 at which the log says that it took it in; 0 if it does not say.
    pub(super) integrated: u64,
    /// The log's signature over all of these.
    pub(super) promise: Option<Vec<u8>>,
    /// That it is in the log's tree.
    pub(super) proof: Option<Proof>,
    /// What was logged: canonical JSON.
    pub(super) body: Vec<u8>,
}

/// What an entry must be about.
pub(super) struct Signed<'a> {
    /// DER of the certificate.
    pub(super) certificate: &'a [u8],
    /// The signature.
    pub(super) signature: &'a [u8],
    /// The bytes that it is over.
    pub(super) message: &'a [u8],
    /// Of an envelope: its type and what it holds.
    pub(super) envelope: Option<(&'a str, &'a [u8])>,
}

impl Entry {
    /// Verifies the log's promise (signed entry timestamp): its signature over the canonical JSON of body, time,
    /// log and number (Rekor `openapi.yaml`, RFC 8785).
    pub(super) fn verify_promise(&self, log: &Log, promise: &[u8]) -> Checked<()> {
        let (body, time, id, index) = (base64(&self.body), self.integrated, self.log.hex(), self.index);
        let signed = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{id}","logIndex":{index}}}"#);
        if log.key.verifies(signed.as_bytes(), promise) { Ok(()) } else { Err(Fault::Promise { log: self.log }) }
    }

    /// Checks that what was logged is this signature: artifact, signature and certificate.
    pub(super) fn check_binds(&self, signed: &Signed<'_>) -> Checked<()> {
        let head: Head = self.parse()?;
        match (head.kind.as_str(), head.api_version.as_str(), signed.envelope) {
            ("hashedrekord", "0.0.1", None) => self.parse::<Body<HashedRecord1>>()?.spec.check(signed),
            ("hashedrekord", "0.0.2", _) => self.parse::<Body<HashedRecord2>>()?.spec.inner.check(signed),
            ("dsse", "0.0.1", Some((_, payload))) => self.parse::<Body<Dsse1>>()?.spec.check(signed, payload),
            ("intoto", "0.0.2", Some((kind, payload))) => {
                self.parse::<Body<Intoto2>>()?.spec.content.check(signed, kind, payload)
            }
            (kind, version, _) => Err(Fault::Unsupported {
                what: "log entry",
                expected: "hashedrekord 0.0.1 or 0.0.2, dsse 0.0.1, intoto 0.0.2, as the signature's form has it",
                found: shown(&format!("{kind} {version}")),
            }),
        }
    }

    fn parse<T: DeserializeOwned>(&self) -> Checked<T> {
        bundle_format::json::parse("body", &self.body, limits::LOG_ENTRY_BYTES)
            .map_err(|error| malformed("log entry", error.to_string()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: String,
    api_version: String,
}

#[derive(Deserialize)]
struct Body<T> {
    spec: T,
}

/// An algorithm's name and a digest in hexadecimal digits.
#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

impl Hash {
    fn check(&self, what: &'static str, bytes: &[u8]) -> Checked<()> {
        same(what, self.value == digest(&self.algorithm, bytes)?)
    }
}

/// Digest in hexadecimal digits, by either name that logs use.
fn digest(algorithm: &str, bytes: &[u8]) -> Checked<String> {
    match algorithm {
        "sha256" | "SHA2_256" => Ok(Sha256::of(bytes).hex()),
        "sha384" | "SHA2_384" => Ok(Sha384::of(bytes).hex()),
        "sha512" | "SHA2_512" => {
            Ok(bundle_format::text::hex(ring::digest::digest(&ring::digest::SHA512, bytes).as_ref()))
        }
        other => {
            Err(Fault::Unsupported { what: "log entry", expected: "SHA-256, SHA-384 or SHA-512", found: shown(other) })
        }
    }
}

fn same(what: &'static str, same: bool) -> Checked<()> {
    if same { Ok(()) } else { Err(Fault::EntryMismatch { what }) }
}

/// Whether base64 of a PEM certificate is this certificate.
fn is_certificate(pem: &str, der: &[u8]) -> bool {
    unbase64(pem).is_some_and(|pem| super::certificates_of_pem(&pem).is_some_and(|all| all == [der]))
}

#[derive(Deserialize)]
struct HashedRecord1 {
    data: Data1,
    signature: Signature1,
}

#[derive(Deserialize)]
struct Data1 {
    hash: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature1 {
    content: String,
    public_key: PublicKey1,
}

#[derive(Deserialize)]
struct PublicKey1 {
    content: String,
}

impl HashedRecord1 {
    fn check(&self, signed: &Signed<'_>) -> Checked<()> {
        self.data.hash.check("artifact", signed.message)?;
        same("signature", self.signature.content == base64(signed.signature))?;
        same("certificate", is_certificate(&self.signature.public_key.content, signed.certificate))
    }
}

#[derive(Deserialize)]
struct HashedRecord2 {
    #[serde(rename = "hashedRekordV002")]
    inner: Inner2,
}

#[derive(Deserialize)]
struct Inner2 {
    data: Data2,
    signature: Signature2,
}

#[derive(Deserialize)]
struct Data2 {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct Signature2 {
    content: String,
    verifier: Verifier2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verifier2 {
    x509_certificate: Option<RawBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    raw_bytes: String,
}

impl Inner2 {
    fn check(&self, signed: &Signed<'_>) -> Checked<()> {
        let found = unbase64(&self.data.digest).map(|bytes| bundle_format::text::hex(&bytes));
        same("artifact", found == Some(digest(&self.data.algorithm, signed.message)?))?;
        same("signature", self.signature.content == base64(signed.signature))?;
        let certificate = self.signature.verifier.x509_certificate.as_ref();
        same("certificate", certificate.is_some_and(|raw| raw.raw_bytes == base64(signed.certificate)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse1 {
    payload_hash: Hash,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    signature: String,
    verifier: String,
}

impl Dsse1 {
    fn check(&self, signed: &Signed<'_>, payload: &[u8]) -> Checked<()> {
        self.payload_hash.check("payload", payload)?;
        let [one] = self.signatures.as_slice() else { return same("number of signatures", false) };
        same("signature", one.signature == base64(signed.signature))?;
        same("certificate", is_certificate(&one.verifier, signed.certificate))
    }
}

#[derive(Deserialize)]
struct Intoto2 {
    content: IntotoContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoContent {
    envelope: IntotoEnvelope,
    payload_hash: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoEnvelope {
    payload_type: String,
    signatures: Vec<IntotoSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoSignature {
    sig: String,
    public_key: String,
}

impl IntotoContent {
    fn check(&self, signed: &Signed<'_>, kind: &str, payload: &[u8]) -> Checked<()> {
        self.payload_hash.check("payload", payload)?;
        same("payload type", self.envelope.payload_type == kind)?;
        let [one] = self.envelope.signatures.as_slice() else { return same("number of signatures", false) };
        // This kind has base64 of base64.
        same("signature", unbase64(&one.sig).is_some_and(|inner| inner == base64(signed.signature).as_bytes()))?;
        same("certificate", is_certificate(&one.public_key, signed.certificate))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CERTIFICATE: &[u8] = b"TEST certificate";
    const SIGNATURE: &[u8] = b"TEST signature";
    const MESSAGE: &[u8] = b"TEST message";
    const PAYLOAD: &[u8] = b"TEST payload";

    fn judge(body: &Value, envelope: bool) -> Checked<()> {
        let body = body.to_string().into_bytes();
        let entry = Entry { log: Sha256::of(b"log"), index: 0, integrated: 0, promise: None, proof: None, body };
        let envelope = envelope.then_some(("TEST/type", PAYLOAD));
        entry.check_binds(&Signed { certificate: CERTIFICATE, signature: SIGNATURE, message: MESSAGE, envelope })
    }

    fn pem(der: &[u8]) -> String {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(der));
        base64(pem.as_bytes())
    }

    fn hash(bytes: &[u8]) -> Value {
        json!({"algorithm": "sha256", "value": Sha256::of(bytes).hex()})
    }

    /// A part's name, its place in the body, and another value.
    type Part = (&'static str, &'static str, Value);

    /// Bodies of every kind, whether each is of an envelope, and the parts that it binds.
    fn bodies() -> Vec<(Value, bool, Vec<Part>)> {
        let (other, signature) = (pem(b"TEST other"), base64(SIGNATURE));
        let changed = base64(b"TEST other");
        vec![
            (
                json!({"kind": "hashedrekord", "apiVersion": "0.0.1", "spec": {"data": {"hash": hash(MESSAGE)},
                    "signature": {"content": signature, "publicKey": {"content": pem(CERTIFICATE)}}}}),
                false,
                vec![
                    ("artifact", "/spec/data/hash", hash(b"TEST other")),
                    ("signature", "/spec/signature/content", json!(changed)),
                    ("certificate", "/spec/signature/publicKey/content", json!(other)),
                ],
            ),
            (
                json!({"kind": "hashedrekord", "apiVersion": "0.0.2", "spec": {"hashedRekordV002": {
                    "data": {"algorithm": "SHA2_256", "digest": base64(Sha256::of(MESSAGE).as_bytes())},
                    "signature": {"content": signature, "verifier": {"x509Certificate": {"rawBytes": base64(CERTIFICATE)}}}}}}),
                true,
                vec![
                    ("artifact", "/spec/hashedRekordV002/data/digest", json!(base64(&[7; 32]))),
                    ("signature", "/spec/hashedRekordV002/signature/content", json!(changed)),
                    (
                        "certificate",
                        "/spec/hashedRekordV002/signature/verifier/x509Certificate",
                        json!({"rawBytes": changed}),
                    ),
                    ("certificate", "/spec/hashedRekordV002/signature/verifier/x509Certificate", Value::Null),
                ],
            ),
            (
                json!({"kind": "dsse", "apiVersion": "0.0.1", "spec": {"payloadHash": hash(PAYLOAD),
                    "signatures": [{"signature": signature, "verifier": pem(CERTIFICATE)}]}}),
                true,
                vec![
                    ("payload", "/spec/payloadHash", hash(b"TEST other")),
                    ("signature", "/spec/signatures/0/signature", json!(changed)),
                    ("certificate", "/spec/signatures/0/verifier", json!(other)),
                    ("number of signatures", "/spec/signatures", json!([])),
                ],
            ),
            (
                json!({"kind": "intoto", "apiVersion": "0.0.2", "spec": {"content": {"payloadHash": hash(PAYLOAD),
                    "envelope": {"payloadType": "TEST/type", "signatures": [
                        {"sig": base64(signature.as_bytes()), "publicKey": pem(CERTIFICATE)}]}}}}),
                true,
                vec![
                    ("payload", "/spec/content/payloadHash", hash(b"TEST other")),
                    ("payload type", "/spec/content/envelope/payloadType", json!("TEST/other")),
                    ("signature", "/spec/content/envelope/signatures/0/sig", json!(base64(changed.as_bytes()))),
                    ("signature", "/spec/content/envelope/signatures/0/sig", json!(signature)),
                    ("certificate", "/spec/content/envelope/signatures/0/publicKey", json!(other)),
                    ("number of signatures", "/spec/content/envelope/signatures", json!([])),
                ],
            ),
        ]
    }

    #[test]
    fn every_kind_binds_all_of_its_parts() {
        for (body, envelope, parts) in bodies() {
            judge(&body, envelope).unwrap();
            for (what, place, value) in parts {
                let mut bent = body.clone();
                *bent.pointer_mut(place).unwrap() = value;
                assert_eq!(judge(&bent, envelope).unwrap_err(), Fault::EntryMismatch { what }, "{place}");
            }
            for place in ["/kind", "/apiVersion"] {
                let mut bent = body.clone();
                *bent.pointer_mut(place).unwrap() = "other".into();
                assert!(matches!(judge(&bent, envelope).unwrap_err(), Fault::Unsupported { .. }), "{place}");
            }
        }
    }

    #[test]
    fn an_entry_of_the_other_form_of_signature() {
        for (body, envelope, _) in
            bodies().into_iter().filter(|(body, _, _)| body["spec"]["hashedRekordV002"].is_null())
        {
            assert!(matches!(judge(&body, !envelope).unwrap_err(), Fault::Unsupported { .. }), "{body}");
        }
    }

    #[test]
    fn digests_by_either_name() {
        for (names, value) in [
            (["sha256", "SHA2_256"], Sha256::of(b"abc").hex()),
            (["sha384", "SHA2_384"], Sha384::of(b"abc").hex()),
            // FIPS 180-4, example "abc".
            (["sha512", "SHA2_512"], "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f".into()),
        ] {
            assert!(names.iter().all(|name| digest(name, b"abc").unwrap() == value), "{names:?}");
        }
        assert!(matches!(digest("sha1", b"abc").unwrap_err(), Fault::Unsupported { .. }));
    }
}
