//! The trust root: which keys hold which role, with versions that follow each other (spec 4.3).
//!
//! After TUF 1.0.34 (5.3): a new root is signed by the thresholds of the former and of itself, and
//! versions have no gaps (`chain`). One chain travels in every bundle, from version 1 on.

mod chain;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Sha384;
use crate::key::{KeyId, PublicKey, Scheme};
use crate::signature::Signature;
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result, limits, signed};

pub(crate) use chain::Chain;
pub use chain::{TrustedRoot, apply_chain};

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
    /// Signs release manifests too, where a root names it: who builds is not who releases.
    Builder,
    /// Signs approvals of plans that go past a refusal. Where a root does not name it, nobody can.
    Approve,
}

impl Role {
    /// Roles that a root may do without, in the order of the document. Whoever holds one holds no
    /// other role.
    pub const OPTIONAL: [Self; 3] = [Self::Transfer, Self::Builder, Self::Approve];

    /// The role's name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Transfer => "transfer",
            Self::Builder => "builder",
            Self::Approve => "approve",
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
    // Absent where nothing is reset, so that roots from before it keep their bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sequence_resets: Vec<SequenceReset>,
}

/// A way back from a sequence that should never have been signed (spec 4.5): a site that takes the
/// root lowers the floors of the product to these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceReset {
    /// The product, a label.
    pub product: String,
    /// Its new anti-rollback floor, if the site's is higher.
    pub sequence: u64,
    /// Its new floor of the security epoch, if the site's is higher; left out where it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_epoch: Option<u64>,
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
    // Absent where nobody holds them, so that roots from before these roles keep their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transfer: Option<RoleEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    builder: Option<RoleEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approve: Option<RoleEntry>,
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
    /// The payload's canonical form, which is signed.
    bytes: Vec<u8>,
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
            roles: Roles { root: role.clone(), release: role, transfer: None, builder: None, approve: None },
            sequence_resets: Vec::new(),
        };
        Self::from_payload(payload)
    }

    /// The same root with data transfer agents. They hold no other role: who carries a release does
    /// not make one.
    pub fn with_transfer(self, threshold: usize, agents: &[Holder]) -> Result<Self> {
        self.with(|roles| &mut roles.transfer, threshold, agents)
    }

    /// The same root with builders, whose threshold a manifest then needs as well. They hold no other
    /// role: who builds a release does not release it.
    pub fn with_builder(self, threshold: usize, builders: &[Holder]) -> Result<Self> {
        self.with(|roles| &mut roles.builder, threshold, builders)
    }

    /// The same root with approvers, of whom at least two must approve what goes past a refusal. They
    /// hold no other role.
    pub fn with_approve(self, threshold: usize, approvers: &[Holder]) -> Result<Self> {
        self.with(|roles| &mut roles.approve, threshold, approvers)
    }

    /// The same root with resets of sequences; only a version after the first can have them.
    pub fn with_resets(self, resets: &[SequenceReset]) -> Result<Self> {
        let mut payload = self.payload;
        payload.sequence_resets = resets.to_vec();
        Self::from_payload(payload)
    }

    fn with(
        self,
        place: fn(&mut Roles) -> &mut Option<RoleEntry>,
        threshold: usize,
        holders: &[Holder],
    ) -> Result<Self> {
        let (keys, role) = entries(threshold, holders);
        let mut payload = self.payload;
        payload.keys.extend(keys);
        *place(&mut payload.roles) = Some(role);
        Self::from_payload(payload)
    }

    /// Parses a payload in canonical form and checks it.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::checked(crate::json::parse_canonical("trust root", bytes, limits::ROOT_BYTES)?, bytes.to_vec())
    }

    fn from_payload(payload: Payload) -> Result<Self> {
        let bytes = crate::json::to_bytes("trust root", &payload)?;
        Self::checked(payload, bytes)
    }

    /// A payload that is consistent, with its canonical form.
    fn checked(payload: Payload, bytes: Vec<u8>) -> Result<Self> {
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
        if payload.issued >= payload.expires {
            return Err(inconsistent(format!("issued {} and expires {}", payload.issued, payload.expires)).into());
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
            let id = key.id();
            if id != entry.id {
                return Err(inconsistent(format!("key {} has the id {id}", entry.id)).into());
            }
            if !ids.insert(id) {
                return Err(inconsistent(format!("key {} appears twice", entry.id)).into());
            }
            keys.push(key);
        }
        let present = |role: Role| Some((role, payload.roles.entry(role)?));
        for (role, entry) in [Role::Root, Role::Release].into_iter().chain(Role::OPTIONAL).filter_map(present) {
            let (name, members) = (role.name(), entry.keys.iter().copied().collect::<BTreeSet<KeyId>>());
            if members.len() != entry.keys.len() || !members.is_subset(&ids) {
                return Err(inconsistent(format!("role {name} names a key twice or one that is not listed")).into());
            }
            let least = if role == Role::Approve { 2 } else { 1 };
            if entry.threshold < least {
                let found = entry.threshold;
                return Err(inconsistent(format!("role {name} has the threshold {found}, at least {least}")).into());
            }
            for scheme in Scheme::ALL {
                // Each listed id is the computed one by now.
                let listed = payload.keys.iter().filter(|key| key.scheme == scheme);
                let of_scheme = listed.filter(|key| members.contains(&key.id)).count();
                if of_scheme < entry.threshold {
                    return Err(inconsistent(format!(
                        "role {name} has {of_scheme} {scheme} keys for a threshold of {}",
                        entry.threshold
                    ))
                    .into());
                }
            }
        }
        Role::OPTIONAL.into_iter().try_for_each(|role| check_apart(&payload, role))?;
        check_resets(&payload)?;
        Ok(Self { payload, keys, bytes })
    }

    /// The exact bytes to sign.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
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
        // Each listed id was compared with the computed one when the root was made.
        let mut listed = self.payload.keys.iter().zip(&self.keys);
        listed.find(|(entry, _)| entry.id == id).map(|(_, key)| key)
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
    pub fn fingerprint(&self) -> Sha384 {
        Sha384::of(&self.bytes)
    }

    /// What a site that takes this root lowers its floors to.
    pub fn sequence_resets(&self) -> &[SequenceReset] {
        &self.payload.sequence_resets
    }

    /// Roles whose thresholds a manifest needs, each by its own.
    pub const fn manifest_roles(&self) -> &'static [Role] {
        match self.payload.roles.builder {
            Some(_) => &[Role::Release, Role::Builder],
            None => &[Role::Release],
        }
    }

    const fn role(&self, role: Role) -> Option<&RoleEntry> {
        self.payload.roles.entry(role)
    }
}

impl Roles {
    const fn entry(&self, role: Role) -> Option<&RoleEntry> {
        match role {
            Role::Root => Some(&self.root),
            Role::Release => Some(&self.release),
            Role::Transfer => self.transfer.as_ref(),
            Role::Builder => self.builder.as_ref(),
            Role::Approve => self.approve.as_ref(),
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

/// Holders of an optional role hold no other role, and one key of each scheme, so that counting keys
/// counts persons. A holder's name may not stand for one of them and for somebody else at once.
fn check_apart(payload: &Payload, role: Role) -> Result<()> {
    let Some(own) = payload.roles.entry(role) else { return Ok(()) };
    let inconsistent = |why: String| ErrorKind::Inconsistent { what: "trust root".into(), why };
    let others = [Role::Root, Role::Release].into_iter().chain(Role::OPTIONAL).filter(|other| *other != role);
    let elsewhere: BTreeSet<KeyId> =
        others.filter_map(|other| payload.roles.entry(other)).flat_map(|entry| entry.keys.iter().copied()).collect();
    let mut seen = BTreeSet::new();
    for entry in payload.keys.iter().filter(|entry| own.keys.contains(&entry.id)) {
        if elsewhere.contains(&entry.id) {
            return Err(inconsistent(format!("{} key {} holds another role", role.name(), entry.id)).into());
        }
        if !seen.insert((entry.holder.as_str(), entry.scheme)) {
            let (holder, scheme) = (&entry.holder, entry.scheme);
            return Err(inconsistent(format!("{holder} has two {scheme} keys in role {}", role.name())).into());
        }
    }
    let shared = payload
        .keys
        .iter()
        .find(|entry| !own.keys.contains(&entry.id) && seen.iter().any(|(holder, _)| *holder == entry.holder));
    match shared {
        Some(entry) => {
            Err(inconsistent(format!("{} holds role {} and keys outside it", entry.holder, role.name())).into())
        }
        None => Ok(()),
    }
}

fn check_resets(payload: &Payload) -> Result<()> {
    let inconsistent = |why: String| ErrorKind::Inconsistent { what: "trust root".into(), why };
    let resets = &payload.sequence_resets;
    if resets.len() > limits::SEQUENCE_RESETS {
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        let (limit, found) = (number(limits::SEQUENCE_RESETS), number(resets.len()));
        return Err(ErrorKind::TooLarge { what: "sequence resets of the trust root".into(), limit, found }.into());
    }
    if payload.version == 1 && !resets.is_empty() {
        return Err(inconsistent("version 1 resets sequences; nothing came before it".into()).into());
    }
    for reset in resets {
        crate::name::check_label("product of a sequence reset", &reset.product)?;
        if reset.sequence == 0 || reset.sequence > limits::SEQUENCE || reset.security_epoch > Some(limits::SEQUENCE) {
            return Err(inconsistent(format!("the sequence reset of {} is out of range", reset.product)).into());
        }
    }
    if !resets.iter().zip(resets.iter().skip(1)).all(|(a, b)| a.product < b.product) {
        return Err(inconsistent("sequence resets are not strictly rising by product".into()).into());
    }
    Ok(())
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
        signed::to_bytes(ENVELOPE_FORMAT, "trust root envelope", self.root.to_bytes(), &self.signatures)
    }

    /// Parses the file form; any other text for the same content is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (payload, signatures) = signed::parse(ENVELOPE_FORMAT, "trust root envelope", bytes, limits::ROOT_BYTES)?;
        let root = TrustRoot::parse(&payload)?;
        Ok(Self { root, signatures })
    }
}
