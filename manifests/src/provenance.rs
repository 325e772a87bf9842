//! How a bundle was built: an in-toto Statement v1 with the SLSA v1 provenance predicate, in a DSSE
//! envelope (in-toto.io/Statement/v1, slsa.dev/provenance/v1, github.com/secure-systems-lab/dsse).
//!
//! The statement travels inside the bundle that it is about, so its subjects cannot hold the
//! manifest's digest. They are the images, workloads and files by digest: everything that runs. The
//! manifest pins the statement, and the release signers' signatures therefore cover it; the
//! signatures inside the envelope are the builder's own, where it has a key.
//!
//! What may hurt it: a statement about another release, one that leaves an image out, a signature by
//! a stranger. Who defends: [`check`] compares every subject with the proven manifest, both ways, and
//! verifies every signature that is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::{Sha256, Sha384};
use crate::key::{KeyId, PublicKey, Scheme};
use crate::manifest::Manifest;
use crate::root::{Role, TrustRoot};
use crate::signature::AlgorithmPolicy;
use crate::text::{base64, unbase64};
use crate::{ErrorKind, Result, limits};

/// `_type` of the statement.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// `predicateType`.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// `buildType`: how the parameters below are read (spec 5.4).
pub const BUILD_TYPE: &str = "urn:lockgate:build:bundle:1";
/// `payloadType` of the envelope.
pub const PAYLOAD: &str = "application/vnd.in-toto+json";
const WHAT: &str = "provenance";
/// What a site's policy calls a statement that its builder signed.
pub const SIGNED: &str = "signed-provenance";

/// The statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Always [`STATEMENT`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What was built, strictly rising by name.
    pub subject: Vec<Resource>,
    /// Always [`PREDICATE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// How.
    pub predicate: Predicate,
}

/// A thing with its digests (in-toto `ResourceDescriptor`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its name in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Digests by algorithm.
    pub digest: BTreeMap<String, String>,
    /// What else is known, such as an upstream signature that was verified.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// SLSA's predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Predicate {
    /// What went in.
    pub build_definition: BuildDefinition,
    /// What did it.
    pub run_details: RunDetails,
}

/// What went in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BuildDefinition {
    /// Always [`BUILD_TYPE`].
    pub build_type: String,
    /// What a person asked for.
    pub external_parameters: Parameters,
    /// Everything that was taken from elsewhere, by digest.
    pub resolved_dependencies: Vec<Resource>,
}

/// The release manifest and its lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Parameters {
    /// Product.
    pub product: String,
    /// Version for people.
    pub release: String,
    /// Anti-rollback counter.
    pub sequence: u64,
    /// SHA-384 of the release manifest's bytes.
    pub release_manifest_sha384: Sha384,
    /// SHA-384 of the lock's bytes.
    pub lock_sha384: Sha384,
}

/// What did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunDetails {
    /// The builder.
    pub builder: Builder,
}

/// The builder. Nothing of the moment is recorded: the same inputs give the same statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// A URI that names the build platform, as the office chose it.
    pub id: String,
    /// Versions by program.
    pub version: BTreeMap<String, String>,
}

/// A DSSE envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: KeyId,
    sig: String,
}

/// A statement that agrees with the proven manifest which pins it. Made only by [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    statement: Statement,
    signers: Vec<KeyId>,
}

impl Provenance {
    /// What it says.
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Keys of the trust root that signed the envelope.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }
}

impl Resource {
    /// A thing by its sha256.
    pub fn sha256(name: impl Into<String>, digest: &Sha256) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), digest.hex())]);
        Self { name: Some(name.into()), uri: None, digest, annotations: BTreeMap::new() }
    }
}

/// What a statement about `manifest` must name: images, workloads and files, by sha256.
pub fn subjects(manifest: &Manifest) -> Vec<Resource> {
    let images = manifest.images.iter().map(|i| Resource::sha256(format!("image/{}:{}", i.name, i.tag), &i.digest));
    let workloads = manifest.workloads.iter().map(|w| Resource::sha256(format!("workload/{}", w.name), &w.digest));
    let files = manifest.files.iter().map(|f| Resource::sha256(format!("file/{}", f.path), &f.digest));
    let mut all: Vec<Resource> = images.chain(workloads).chain(files).collect();
    all.sort();
    all
}

/// The bytes that a DSSE signature over a statement is over: [`pae_of`] of [`PAYLOAD`].
pub fn pae(payload: &[u8]) -> Vec<u8> {
    pae_of(PAYLOAD, payload)
}

/// The bytes that a DSSE signature over `payload` of a type is over: the pre-authentication encoding
/// (github.com/secure-systems-lab/dsse, `protocol.md`).
pub fn pae_of(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The statement's bytes, to be signed as [`pae`] says.
pub fn to_payload(statement: &Statement) -> Result<Vec<u8>> {
    crate::json::to_bytes(WHAT, statement)
}

/// The envelope around a payload. Signatures: key and its raw signature over [`pae`].
pub fn seal(payload: &[u8], signatures: &[(KeyId, Vec<u8>)]) -> Result<Vec<u8>> {
    let signatures = signatures.iter().map(|(key, sig)| EnvelopeSignature { keyid: *key, sig: base64(sig) }).collect();
    let envelope = Envelope { payload_type: PAYLOAD.into(), payload: base64(payload), signatures };
    crate::json::to_bytes(WHAT, &envelope)
}

/// Reads an envelope that a proven `manifest` pins: the statement must be about exactly this
/// manifest, and every signature must verify and come from a key that `root` lists.
pub fn check(bytes: &[u8], manifest: &Manifest, root: &TrustRoot) -> Result<Provenance> {
    let envelope: Envelope = crate::json::parse(WHAT, bytes, limits::PROVENANCE_BYTES)?;
    let unknown = |expected: &str, found: &str| ErrorKind::UnknownFormat {
        what: WHAT.into(),
        expected: expected.into(),
        found: crate::text::escaped(found),
    };
    if envelope.payload_type != PAYLOAD {
        return Err(unknown(PAYLOAD, &envelope.payload_type).into());
    }
    let decode = |text: &str| {
        unbase64(text).ok_or_else(|| ErrorKind::Json { what: WHAT.into(), why: "not canonical base64".into() })
    };
    let payload = decode(&envelope.payload)?;
    let mut signers = Vec::new();
    for signature in &envelope.signatures {
        let key = root.key(signature.keyid).ok_or_else(|| ErrorKind::UnknownKey {
            document: WHAT.into(),
            key: signature.keyid.to_string(),
            root: root.version(),
        })?;
        if signers.contains(&signature.keyid) {
            let key = signature.keyid.to_string();
            return Err(ErrorKind::DuplicateSignature { document: WHAT.into(), key }.into());
        }
        verify(key, &pae(&payload), &decode(&signature.sig)?)?;
        signers.push(signature.keyid);
    }
    let statement: Statement = crate::json::parse(WHAT, &payload, limits::PROVENANCE_BYTES)?;
    for (expected, found) in [
        (STATEMENT, &statement.kind),
        (PREDICATE, &statement.predicate_type),
        (BUILD_TYPE, &statement.predicate.build_definition.build_type),
    ] {
        if expected != found {
            return Err(unknown(expected, found).into());
        }
    }
    check_subjects(&statement, manifest)?;
    Ok(Provenance { statement, signers })
}

/// Site policy `signed-provenance` (R-PRV-4): who builds signed the statement, by each algorithm that the
/// site asks for. Builders are the role `builder`; under a root without it, those who release.
pub fn require_signed(provenance: &Provenance, root: &TrustRoot, policy: AlgorithmPolicy) -> Result<()> {
    let role = root.threshold(Role::Builder).map_or(Role::Release, |_| Role::Builder);
    let signed = |scheme: Scheme| {
        let of_role = provenance.signers.iter().filter(|id| root.role_holds(role, **id));
        of_role.filter_map(|id| root.key(*id)).any(|key| key.scheme() == scheme)
    };
    match policy.required().iter().find(|scheme| !signed(**scheme)) {
        None => Ok(()),
        Some(scheme) => {
            let (role, version) = (role.name(), root.version());
            let why = format!(
                "no {scheme} key of role {role} in trust root version {version} signed the release's provenance"
            );
            Err(ErrorKind::Requirement { requirement: SIGNED, why }.into())
        }
    }
}

fn check_subjects(statement: &Statement, manifest: &Manifest) -> Result<()> {
    let inconsistent = |why: String| ErrorKind::Inconsistent { what: WHAT.into(), why };
    let said = &statement.predicate.build_definition.external_parameters;
    let (is, says) =
        ((&manifest.product, &manifest.release, manifest.sequence), (&said.product, &said.release, said.sequence));
    if is != says {
        let about = crate::text::escaped(&format!("{} {} (sequence {})", says.0, says.1, says.2));
        return Err(inconsistent(format!("it is about {about}, not about the release that carries it")).into());
    }
    let expected = subjects(manifest);
    // A set, since a release may have as many files as R-LIM-1 has room for.
    let named: BTreeSet<&Resource> = statement.subject.iter().collect();
    if let Some(missing) = expected.iter().find(|subject| !named.contains(subject)) {
        let name = missing.name.clone().unwrap_or_default();
        return Err(inconsistent(format!("it does not name {name} as the release has it")).into());
    }
    if statement.subject != expected {
        return Err(inconsistent("it names a subject that the release does not have, or one twice".into()).into());
    }
    Ok(())
}

/// One raw signature over `document`.
fn verify(key: &PublicKey, document: &[u8], signature: &[u8]) -> Result<()> {
    crate::signature::verify_raw(WHAT, document, key, signature)
}
