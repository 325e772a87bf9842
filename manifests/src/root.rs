//! The trust root: which keys hold which role, with versions that follow each other (spec 4.3).
//!
//! After TUF 1.0.34 (5.3): a new root is signed by the thresholds of the former and of itself, and
//! versions have no gaps. One chain travels in every bundle, from version 1 on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Sha384;
use crate::key::{KeyId, PublicKey, Scheme};
use crate::signature::{AlgorithmPolicy, Signature, UnknownKeys, count, verify_each};
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result, limits, signed};

/// The `format` value of this version.
pub const FORMAT: &str = "lockgate-root/1";

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Signs trust roots.
    Root,
    /// Signs release manifests.
    Release,
    /// Signs custody records: data transfer agents. A root may do without.
    Transfer,
}

impl Role {
    /// The role's name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Transfer => "transfer",
        }
    }
}

/// The signed payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    format: String,
    version: u64,
    issued: Timestamp,
    expires: Timestamp,
    keys: Vec<KeyEntry>,
    roles: Roles,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: KeyId,
    scheme: Scheme,
    holder: String,
    public: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    root: RoleEntry,
    release: RoleEntry,
    // Absent where there are no agents, so that roots from before this role keep their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transfer: Option<RoleEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleEntry {
    threshold: usize,
    keys: Vec<KeyId>,
}

/// A person or machine with one key of each scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Name, a label.
    pub name: String,
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// A consistent trust root. Consistency is no proof: see [`TrustedRoot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRoot {
    payload: Payload,
    keys: Vec<PublicKey>,
}

impl TrustRoot {
    /// Makes a root in which all `holders` have the roles `root` and `release`.
    pub fn new(
        version: u64,
        issued: Timestamp,
        expires: Timestamp,
        threshold: usize,
        holders: &[Holder],
    ) -> Result<Self> {
        let (keys, role) = entries(threshold, holders);
        let payload = Payload {
            format: FORMAT.into(),
            version,
            issued,
            expires,
            keys,
            roles: Roles { root: role.clone(), release: role, transfer: None },
        };
        Self::from_payload(payload)
    }

    /// The same root with data transfer agents. They hold no other role: who carries a release does
    /// not make one.
    pub fn with_transfer(self, threshold: usize, agents: &[Holder]) -> Result<Self> {
        let (keys, role) = entries(threshold, agents);
        let mut payload = self.payload;
        payload.keys.extend(keys);
        payload.roles.transfer = Some(role);
        Self::from_payload(payload)
    }

    /// Parses a payload in canonical form and checks it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::from_payload(crate::json::parse_canonical("trust root", bytes, limits::ROOT_BYTES)?)
    }

    fn from_payload(payload: Payload) -> Result<Self> {
        let inconsistent = |why: String| ErrorKind::Inconsistent { what: "trust root".into(), why };
        if payload.format != FORMAT {
            return Err(ErrorKind::UnknownFormat {
                what: "trust root".into(),
                expected: FORMAT.into(),
                found: payload.format,
            }
            .into());
        }
        if payload.version == 0 {
            return Err(inconsistent("version is 0; it counts from 1".into()).into());
        }
        if payload.keys.len() > limits::KEYS {
            let (limit, found) =
                (u64::try_from(limits::KEYS).unwrap_or(0), u64::try_from(payload.keys.len()).unwrap_or(u64::MAX));
            return Err(ErrorKind::TooLarge { what: "keys of the trust root".into(), limit, found }.into());
        }
        let mut keys = Vec::new();
        let mut ids = BTreeSet::new();
        for entry in &payload.keys {
            crate::name::check_label("key holder", &entry.holder)?;
            let key = PublicKey::parse(entry.scheme, &entry.public)?;
            if key.id() != entry.id {
                return Err(inconsistent(format!("key {} has the id {}", entry.id, key.id())).into());
            }
            if !ids.insert(key.id()) {
                return Err(inconsistent(format!("key {} appears twice", entry.id)).into());
            }
            keys.push(key);
        }
        let fixed = [("root", &payload.roles.root), ("release", &payload.roles.release)];
        let optional = payload.roles.transfer.iter().map(|role| ("transfer", role));
        for (name, role) in fixed.into_iter().chain(optional) {
            let members: BTreeSet<KeyId> = role.keys.iter().copied().collect();
            if members.len() != role.keys.len() || !members.is_subset(&ids) {
                return Err(inconsistent(format!("role {name} names a key twice or one that is not listed")).into());
            }
            for scheme in Scheme::ALL {
                let of_scheme = keys.iter().filter(|key| key.scheme() == scheme && members.contains(&key.id())).count();
                if role.threshold == 0 || of_scheme < role.threshold {
                    return Err(inconsistent(format!(
                        "role {name} has {of_scheme} {scheme} keys for a threshold of {}",
                        role.threshold
                    ))
                    .into());
                }
            }
        }
        check_agents(&payload)?;
        Ok(Self { payload, keys })
    }

    /// The exact bytes to sign.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        crate::json::to_bytes("trust root", &self.payload)
    }

    /// Version, from 1.
    pub const fn version(&self) -> u64 {
        self.payload.version
    }

    /// Not to be trusted from this time on, unless a later root follows.
    pub const fn expires(&self) -> &Timestamp {
        &self.payload.expires
    }

    /// The key with this id.
    pub fn key(&self, id: KeyId) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id() == id)
    }

    /// Threshold of a role, for each scheme on its own; `None` for a role that this root lacks.
    pub fn threshold(&self, role: Role) -> Option<usize> {
        self.role(role).map(|entry| entry.threshold)
    }

    /// Whether a role holds a key.
    pub fn role_holds(&self, role: Role, id: KeyId) -> bool {
        self.role(role).is_some_and(|entry| entry.keys.contains(&id))
    }

    /// Name of a key's holder.
    pub fn holder_of(&self, id: KeyId) -> Option<&str> {
        self.payload.keys.iter().find(|entry| entry.id == id).map(|entry| entry.holder.as_str())
    }

    /// Holder's name, scheme, id and text form of each key.
    pub fn key_list(&self) -> impl Iterator<Item = (&str, Scheme, KeyId, &str)> {
        self.payload.keys.iter().map(|entry| (entry.holder.as_str(), entry.scheme, entry.id, entry.public.as_str()))
    }

    /// The holders of a role with their keys, in the order of the document.
    pub fn holders(&self, role: Role) -> Vec<Holder> {
        let mut holders: Vec<Holder> = Vec::new();
        let of_role = self.payload.keys.iter().zip(&self.keys).filter(|(entry, _)| self.role_holds(role, entry.id));
        for (entry, key) in of_role {
            match holders.iter_mut().find(|holder| holder.name == entry.holder) {
                Some(holder) => holder.keys.push(key.clone()),
                None => holders.push(Holder { name: entry.holder.clone(), keys: vec![key.clone()] }),
            }
        }
        holders
    }

    /// When it was issued.
    pub const fn issued(&self) -> &Timestamp {
        &self.payload.issued
    }

    /// SHA-384 of the signed bytes: what a person compares.
    pub fn fingerprint(&self) -> Result<Sha384> {
        Ok(Sha384::of(&self.to_bytes()?))
    }

    const fn role(&self, role: Role) -> Option<&RoleEntry> {
        match role {
            Role::Root => Some(&self.payload.roles.root),
            Role::Release => Some(&self.payload.roles.release),
            Role::Transfer => self.payload.roles.transfer.as_ref(),
        }
    }
}

fn entries(threshold: usize, holders: &[Holder]) -> (Vec<KeyEntry>, RoleEntry) {
    let mut keys = Vec::new();
    for holder in holders {
        for key in &holder.keys {
            keys.push(KeyEntry {
                id: key.id(),
                scheme: key.scheme(),
                holder: holder.name.clone(),
                public: key.to_text(),
            });
        }
    }
    let role = RoleEntry { threshold, keys: keys.iter().map(|entry| entry.id).collect() };
    (keys, role)
}

/// Agents hold no other role and one key of each scheme, so that counting keys counts persons
/// (two-person integrity). A holder's name may not stand for an agent and a signer at once.
fn check_agents(payload: &Payload) -> Result<()> {
    let Some(transfer) = &payload.roles.transfer else { return Ok(()) };
    let inconsistent = |why: String| ErrorKind::Inconsistent { what: "trust root".into(), why };
    let mut seen = BTreeSet::new();
    for entry in payload.keys.iter().filter(|entry| transfer.keys.contains(&entry.id)) {
        if [&payload.roles.root, &payload.roles.release].iter().any(|role| role.keys.contains(&entry.id)) {
            return Err(inconsistent(format!("transfer key {} holds another role", entry.id)).into());
        }
        if !seen.insert((entry.holder.as_str(), entry.scheme)) {
            return Err(inconsistent(format!("agent {} has two {} keys", entry.holder, entry.scheme)).into());
        }
    }
    let shared = payload
        .keys
        .iter()
        .find(|entry| !transfer.keys.contains(&entry.id) && seen.iter().any(|(holder, _)| *holder == entry.holder));
    match shared {
        Some(entry) => Err(inconsistent(format!("{} is a signer and a transfer agent", entry.holder)).into()),
        None => Ok(()),
    }
}

/// A root with its signatures as one JSON file, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootEnvelope {
    root: TrustRoot,
    signatures: Vec<Signature>,
}

const ENVELOPE_FORMAT: &str = "lockgate-root-envelope/1";

impl RootEnvelope {
    /// A root without signatures.
    pub const fn unsigned(root: TrustRoot) -> Self {
        Self { root, signatures: Vec::new() }
    }

    /// Adds a signature; a former one by the same key is replaced. Sorted by key id.
    pub fn add(&mut self, signature: Signature) {
        signed::add(&mut self.signatures, signature);
    }

    /// The claimed root.
    pub const fn claimed(&self) -> &TrustRoot {
        &self.root
    }

    /// The claimed signatures.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The file form.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        signed::to_bytes(ENVELOPE_FORMAT, "trust root envelope", &self.root.to_bytes()?, &self.signatures)
    }

    /// Parses the file form; any other text for the same content is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (payload, signatures) = signed::parse(ENVELOPE_FORMAT, "trust root envelope", bytes, limits::ROOT_BYTES)?;
        let root = TrustRoot::parse(&payload)?;
        Ok(Self { root, signatures })
    }
}

/// A root that is proved: by a person's fingerprint, or by the chain from such a one.
/// Only [`TrustedRoot::anchor`] and [`TrustedRoot::advance`] make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    root: TrustRoot,
}

impl TrustedRoot {
    /// The first anchor: a person compared `fingerprint` on another channel, and the root carries
    /// its own threshold of signatures.
    pub fn anchor(envelope: &RootEnvelope, fingerprint: &Sha384) -> Result<Self> {
        let found = envelope.root.fingerprint()?;
        if found != *fingerprint {
            let version = envelope.root.version();
            return Err(ErrorKind::UnknownRoot {
                version,
                expected: fingerprint.to_string(),
                found: found.to_string(),
            }
            .into());
        }
        verify_self(envelope)?;
        Ok(Self { root: envelope.root.clone() })
    }

    /// The next version: exactly one higher, signed by this root's and by its own threshold.
    pub fn advance(&self, next: &RootEnvelope) -> Result<Self> {
        let (expected, found) = (self.root.version() + 1, next.root.version());
        if found != expected {
            return Err(ErrorKind::RootVersion { expected, found }.into());
        }
        let document = next.root.to_bytes()?;
        let what = format!("trust root version {found}");
        verify_each(&what, &document, &next.signatures, &self.root, UnknownKeys::OtherRoot)?;
        verify_each(&what, &document, &next.signatures, &next.root, UnknownKeys::OtherRoot)?;
        let listed = |s: &Signature| self.root.key(s.key).is_some() || next.root.key(s.key).is_some();
        if let Some(stranger) = next.signatures.iter().find(|signature| !listed(signature)) {
            return Err(ErrorKind::UnknownKey { document: what, key: stranger.key.to_string(), root: found }.into());
        }
        count(&what, &next.signatures, &self.root, Role::Root, AlgorithmPolicy::Hybrid)?;
        count(&what, &next.signatures, &next.root, Role::Root, AlgorithmPolicy::Hybrid)?;
        Ok(Self { root: next.root.clone() })
    }

    /// The root.
    pub const fn root(&self) -> &TrustRoot {
        &self.root
    }
}

/// Applies a bundle's chain to the trusted root (spec 4.4): versions run from 1 without gaps, each
/// follows from the one before, the one of the trusted version is the trusted one to the byte. The
/// result is the chain's last root, or `trusted` if the chain ends before it.
pub fn apply_chain(trusted: &TrustedRoot, chain: &[RootEnvelope]) -> Result<TrustedRoot> {
    let Some((first, rest)) = chain.split_first() else {
        return Err(ErrorKind::RootVersion { expected: 1, found: 0 }.into());
    };
    if first.root.version() != 1 {
        return Err(ErrorKind::RootVersion { expected: 1, found: first.root.version() }.into());
    }
    // Links below the trusted version give no trust; they are proved so that no byte of the
    // archive is left unexplained.
    let mut link = TrustedRoot::anchor(first, &first.root.fingerprint()?)?;
    let mut known = None;
    check_same(trusted, &link)?.then(|| known.replace(link.clone()));
    for next in rest {
        link = link.advance(next)?;
        check_same(trusted, &link)?.then(|| known.replace(link.clone()));
    }
    // A chain that ends before the trusted version comes from an older bundle: it is judged by the
    // trusted root, which may have revoked keys since.
    Ok(if known.is_some() { link } else { trusted.clone() })
}

/// Whether `link` is the trusted version; an error if it has that version and other bytes.
fn check_same(trusted: &TrustedRoot, link: &TrustedRoot) -> Result<bool> {
    if trusted.root.version() != link.root.version() {
        return Ok(false);
    }
    let (expected, found) = (trusted.root.fingerprint()?, link.root.fingerprint()?);
    if expected == found {
        return Ok(true);
    }
    let version = trusted.root.version();
    Err(ErrorKind::UnknownRoot { version, expected: expected.to_string(), found: found.to_string() }.into())
}

fn verify_self(envelope: &RootEnvelope) -> Result<()> {
    let document = envelope.root.to_bytes()?;
    let what = format!("trust root version {}", envelope.root.version());
    // A later version also carries signatures by keys of the version before it.
    let unknown = if envelope.root.version() == 1 { UnknownKeys::Refused } else { UnknownKeys::OtherRoot };
    verify_each(&what, &document, &envelope.signatures, &envelope.root, unknown)?;
    count(&what, &envelope.signatures, &envelope.root, Role::Root, AlgorithmPolicy::Hybrid)?;
    Ok(())
}
