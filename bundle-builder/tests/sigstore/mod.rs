//! A sigstore instance for tests: an authority, a certificate log, a transparency log, and signatures by it,
//! sound or bent. Its keys are made when it is made and are kept nowhere; every name says TEST.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

pub(crate) mod site;
pub(crate) mod stamper;

use bundle_format::digest::Sha256;
use bundle_format::provenance::pae_of;
use bundle_format::text::base64;
use der::asn1::{Any, AnyRef};
use der::{Decode as _, Encode as _, Reader as _, SliceReader, Tag};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _,
    SanType, SerialNumber, SigningKey as _,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// When signatures are made, in seconds since 1970, unless the recipe says another time.
pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const WORKFLOW: &str = "https://ci.example/team/app/.workflows/TEST.yml@refs/tags/v1";
pub(crate) const PERSON: &str = "TEST@example.org";
pub(crate) const ISSUER: &str = "https://id.example/TEST";
/// Seconds for which a certificate is good.
const LIFE: u64 = 600;

/// An authority: what signs certificates, and its own, from the issuing one up.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) chain: Vec<Certificate>,
}

pub(crate) struct Instance {
    pub(crate) authority: Authority,
    pub(crate) certificate_log: KeyPair,
    pub(crate) log: KeyPair,
    /// A log of the newer kind, Ed25519.
    pub(crate) newer_log: KeyPair,
}

/// Where the certificate's signed timestamp comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    ByTheLog,
    ByNobody,
    ByAStranger,
    /// By the log, but it is another certificate's.
    AsAnother,
}

/// The extension that names the issuer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Older,
    Newer,
    Both,
    /// The newer one a second time.
    Twice,
}

/// How a signature is made.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) names: Vec<SanType>,
    pub(crate) issuer: &'static str,
    pub(crate) issuer_in: Names,
    pub(crate) usage: ExtendedKeyUsagePurpose,
    pub(crate) is_ca: bool,
    /// When the certificate begins.
    pub(crate) from: u64,
    /// When the log took the signature in.
    pub(crate) at: u64,
    pub(crate) seen: Seen,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            names: vec![SanType::URI(WORKFLOW.try_into().unwrap())],
            issuer: ISSUER,
            issuer_in: Names::Both,
            usage: ExtendedKeyUsagePurpose::CodeSigning,
            is_ca: false,
            from: NOW - 60,
            at: NOW,
            seen: Seen::ByTheLog,
        }
    }
}

/// A signature by a certificate of its own.
pub(crate) struct Signature {
    pub(crate) certificate: Certificate,
    pub(crate) bytes: Vec<u8>,
}

/// A time, for certificates.
pub(crate) fn when(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap()
}

impl Authority {
    /// A root on P-384 and an authority below it on P-256, both for `usage`.
    pub(crate) fn new(usage: &ExtendedKeyUsagePurpose) -> Self {
        let params = |name: &str, ca: BasicConstraints| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(ca);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.use_authority_key_identifier_extension = true;
            params.extended_key_usages = vec![usage.clone()];
            (params.not_before, params.not_after) = (when(NOW - 1_000_000), when(NOW + 1_000_000_000));
            params
        };
        let (root, root_key) = (
            params("TEST root", BasicConstraints::Unconstrained),
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        );
        let top = root.self_signed(&root_key).unwrap();
        let (below, key) = (
            params("TEST authority", BasicConstraints::Constrained(0)),
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        );
        let certificate = below.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        Self { issuer: Issuer::new(below, key), chain: vec![certificate, top] }
    }

    pub(crate) fn issue(&self, params: &CertificateParams, key: &KeyPair) -> Certificate {
        params.signed_by(key, &self.issuer).unwrap()
    }
}

impl Instance {
    pub(crate) fn new() -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let authority = Authority::new(&ExtendedKeyUsagePurpose::CodeSigning);
        let newer_log = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        Self { authority, certificate_log: key(), log: key(), newer_log }
    }

    /// Its trusted root, with the authorities of time stamps that are given.
    pub(crate) fn trusted_root(&self, time_stampers: &[Vec<Certificate>]) -> Value {
        let log = |url: &str, key: &KeyPair| {
            json!({"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": {
                "rawBytes": base64(&key.subject_public_key_info()), "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2023-01-01T00:00:00Z"}}, "logId": {"keyId": base64(id(key).as_bytes())}})
        };
        let authority = |chain: &[Certificate]| {
            let certificates: Vec<_> = chain.iter().map(|c| json!({"rawBytes": base64(c.der())})).collect();
            json!({"subject": {"organization": "TEST", "commonName": "TEST"}, "uri": "https://ca.example",
                "certChain": {"certificates": certificates}, "validFor": {"start": "2023-01-01T00:00:00Z"}})
        };
        let mut newer = log("https://newer.example", &self.newer_log);
        newer["publicKey"]["keyDetails"] = "PKIX_ED25519".into();
        newer["logId"]["keyId"] = base64(self.newer_id().as_bytes()).into();
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log("https://log.example", &self.log), newer],
            "certificateAuthorities": [authority(&self.authority.chain)],
            "ctlogs": [log("https://ct.example", &self.certificate_log)],
            "timestampAuthorities": time_stampers.iter().map(|chain| authority(chain)).collect::<Vec<_>>(),
        })
    }

    /// The newer log's id (c2sp.org/signed-note): of its name and key.
    pub(crate) fn newer_id(&self) -> Sha256 {
        Sha256::of(&[b"newer.example\n\x01", self.newer_log.der_bytes()].concat())
    }

    /// A certificate as the recipe has it, and a signature by its key.
    pub(crate) fn sign(&self, recipe: &Recipe, message: &[u8]) -> Signature {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = self.certificate(recipe, &key);
        Signature { certificate, bytes: key.sign(message).unwrap() }
    }

    fn certificate(&self, recipe: &Recipe, key: &KeyPair) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&[7; 16]));
        params.subject_alt_names.clone_from(&recipe.names);
        params.extended_key_usages = vec![recipe.usage.clone()];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (when(recipe.from), when(recipe.from + LIFE));
        if recipe.is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let text = recipe.issuer.as_bytes();
        if recipe.issuer_in != Names::Newer {
            let oid = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, text.to_vec()));
        }
        if recipe.issuer_in != Names::Older {
            let content = [&[0x0c, u8::try_from(text.len()).unwrap()], text].concat();
            let newer = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 8], content);
            let times = if recipe.issuer_in == Names::Twice { 2 } else { 1 };
            params.custom_extensions.extend(std::iter::repeat_n(newer, times));
        }
        if recipe.seen == Seen::ByNobody {
            return self.authority.issue(&params, key);
        }
        let before = self.authority.issue(&params, key);
        let content = self.timestamp(recipe, &signed_part(before.der()));
        let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
        params.custom_extensions.push(CustomExtension::from_oid_content(&oid, content));
        self.authority.issue(&params, key)
    }

    /// The list with one signed certificate timestamp (RFC 6962 3.2), in its `OCTET STRING`.
    fn timestamp(&self, recipe: &Recipe, certificate: &[u8]) -> Vec<u8> {
        let stranger = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let log = if recipe.seen == Seen::ByAStranger { &stranger } else { &self.certificate_log };
        let mut certificate = certificate.to_vec();
        if recipe.seen == Seen::AsAnother {
            *certificate.last_mut().unwrap() ^= 1;
        }
        let issuer = Sha256::of(&self.authority.issuer.key().subject_public_key_info());
        let time = (recipe.from * 1000).to_be_bytes();
        let length = u32::try_from(certificate.len()).unwrap().to_be_bytes();
        let signed = [&[0, 0], &time[..], &[0, 1], issuer.as_bytes(), &length[1..], &certificate, &[0, 0]].concat();
        let signature = log.sign(&signed).unwrap();
        let one = [&[0], &id(log).as_bytes()[..], &time, &[0, 0, 4, 3], &counted(&signature)].concat();
        Any::new(Tag::OctetString, counted(&counted(&one))).unwrap().to_der().unwrap()
    }

    /// An entry as bundles have it, with promise and proof.
    pub(crate) fn entry(&self, recipe: &Recipe, body: &Value) -> Value {
        let bytes = body.to_string().into_bytes();
        let promise = self.promise(recipe.at, 1234, &bytes);
        let mut entry = json!({
            "logIndex": "1234", "logId": {"keyId": base64(id(&self.log).as_bytes())},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "integratedTime": recipe.at.to_string(), "inclusionPromise": {"signedEntryTimestamp": base64(&promise)},
            "canonicalizedBody": base64(&bytes),
        });
        entry["inclusionProof"] = proof("log.example - 1", &self.log, &id(&self.log), &bytes);
        entry
    }

    /// An entry of the newer log: no promise, no time.
    pub(crate) fn newer_entry(&self, body: &Value) -> Value {
        let bytes = body.to_string().into_bytes();
        let proof = proof("newer.example", &self.newer_log, &self.newer_id(), &bytes);
        json!({
            "logIndex": proof["logIndex"], "logId": {"keyId": base64(self.newer_id().as_bytes())},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "inclusionProof": proof, "canonicalizedBody": base64(&bytes),
        })
    }

    /// The signed entry timestamp.
    pub(crate) fn promise(&self, time: u64, index: u64, body: &[u8]) -> Vec<u8> {
        let signed =
            json!({"body": base64(body), "integratedTime": time, "logID": id(&self.log).hex(), "logIndex": index});
        self.log.sign(signed.to_string().as_bytes()).unwrap()
    }
}

/// A log's id.
pub(crate) fn id(key: &KeyPair) -> Sha256 {
    Sha256::of(&key.subject_public_key_info())
}

/// The signed part of a certificate.
fn signed_part(certificate: &[u8]) -> Vec<u8> {
    let mut reader = SliceReader::new(AnyRef::from_der(certificate).unwrap().value()).unwrap();
    reader.tlv_bytes().unwrap().to_vec()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// The body as leaf 2 of a tree of five, under a head that `log` signed.
fn proof(origin: &str, log: &KeyPair, id: &Sha256, body: &[u8]) -> Value {
    let node = |a: &Sha256, b: &Sha256| Sha256::of(&[&[1], &a.as_bytes()[..], b.as_bytes()].concat());
    let leaf = |bytes: &[u8]| Sha256::of(&[&[0], bytes].concat());
    let [a, b, d, e] = ["a", "b", "d", "e"].map(|text| leaf(text.as_bytes()));
    let (left, steps) = (node(&a, &b), [d, node(&a, &b), e]);
    let root = base64(node(&node(&left, &node(&leaf(body), &d)), &e).as_bytes());
    let head = format!("{origin}\n5\n{root}\n");
    let signature = [&id.as_bytes()[..4], &log.sign(head.as_bytes()).unwrap()].concat();
    let name = origin.split(' ').next().unwrap();
    json!({
        "logIndex": "2", "rootHash": root, "treeSize": "5",
        "hashes": steps.map(|hash| base64(hash.as_bytes())),
        "checkpoint": {"envelope": format!("{head}\n\u{2014} {name} {}\n", base64(&signature))},
    })
}

impl Signature {
    fn pem(&self) -> String {
        base64(self.certificate.pem().as_bytes())
    }

    /// `hashedrekord` 0.0.1.
    pub(crate) fn record(&self, message: &[u8]) -> Value {
        json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": Sha256::of(message).hex()}},
            "signature": {"content": base64(&self.bytes), "publicKey": {"content": self.pem()}}}})
    }

    /// `hashedrekord` 0.0.2.
    pub(crate) fn newer_record(&self, message: &[u8]) -> Value {
        json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": base64(Sha256::of(message).as_bytes())},
            "signature": {"content": base64(&self.bytes), "verifier": {
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "x509Certificate": {"rawBytes": base64(self.certificate.der())}}}}}})
    }

    /// `dsse` 0.0.1.
    pub(crate) fn dsse(&self, payload: &[u8]) -> Value {
        let hash = json!({"algorithm": "sha256", "value": Sha256::of(payload).hex()});
        json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {"envelopeHash": hash, "payloadHash": hash,
            "signatures": [{"signature": base64(&self.bytes), "verifier": self.pem()}]}})
    }

    /// `intoto` 0.0.2.
    pub(crate) fn intoto(&self, payload: &[u8]) -> Value {
        let hash = json!({"algorithm": "sha256", "value": Sha256::of(payload).hex()});
        json!({"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": {
            "envelope": {"payloadType": STATEMENT, "signatures": [
                {"publicKey": self.pem(), "sig": base64(base64(&self.bytes).as_bytes())}]},
            "hash": hash, "payloadHash": hash}}})
    }

    /// A bundle of version 0.3 over the artifact itself.
    pub(crate) fn bundle(&self, entry: &Value, message: &[u8]) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"certificate": {"rawBytes": base64(self.certificate.der())}, "tlogEntries": [entry],
                "timestampVerificationData": {"rfc3161Timestamps": []}},
            "messageSignature": {"signature": base64(&self.bytes),
                "messageDigest": {"algorithm": "SHA2_256", "digest": base64(Sha256::of(message).as_bytes())}},
        })
    }

    /// A bundle of version 0.3 over a statement.
    pub(crate) fn attestation(&self, entry: &Value, payload: &[u8]) -> Value {
        let mut bundle = self.bundle(entry, payload);
        bundle.as_object_mut().unwrap().remove("messageSignature");
        bundle["dsseEnvelope"] = json!({"payload": base64(payload), "payloadType": STATEMENT,
            "signatures": [{"sig": base64(&self.bytes), "keyid": ""}]});
        bundle
    }

    /// What cosign 2 keeps in annotations.
    pub(crate) fn annotations(&self, entry: &Value) -> Value {
        let logged = json!({
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {"body": entry["canonicalizedBody"], "logIndex": 1234, "logID": hex(&entry["logId"]["keyId"]),
                "integratedTime": entry["integratedTime"].as_str().unwrap().parse::<u64>().unwrap()},
        });
        json!({
            "dev.cosignproject.cosign/signature": base64(&self.bytes),
            "dev.sigstore.cosign/certificate": self.certificate.pem(),
            "dev.sigstore.cosign/bundle": logged.to_string(),
        })
    }
}

fn hex(text: &Value) -> String {
    bundle_format::text::hex(&bundle_format::text::unbase64(text.as_str().unwrap()).unwrap())
}

/// `payloadType` of a statement.
pub(crate) const STATEMENT: &str = "application/vnd.in-toto+json";

/// An in-toto statement about an artifact.
pub(crate) fn statement(artifact: &[u8], kind: &str) -> Vec<u8> {
    let subject = json!([{"name": "TEST", "digest": {"sha256": Sha256::of(artifact).hex()}}]);
    let statement =
        json!({"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": kind, "predicate": {}});
    statement.to_string().into_bytes()
}

/// The bytes that a signature over a statement is over.
pub(crate) fn encoded(payload: &[u8]) -> Vec<u8> {
    pae_of(STATEMENT, payload)
}
