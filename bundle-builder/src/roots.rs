//! `root init / add / rotate / sign / show`: the trust root and its next version (spec 4.3).

use std::path::Path;

use bundle_format::root::{Holder, Role, RootEnvelope, TrustRoot};
use bundle_format::text::{escaped, groups_of_four};
use bundle_format::timestamp::Timestamp;
use signing_keys::{PublicSigner, Signer};

use crate::error::{Error, ErrorKind, Result};

/// What the next version changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Signers that come.
    pub add: Vec<PublicSigner>,
    /// Names of holders that go.
    pub remove: Vec<String>,
    /// New threshold.
    pub threshold: Option<usize>,
    /// New expiry.
    pub expires: Option<Timestamp>,
    /// Data transfer agents that come.
    pub agents: Agents,
}

/// Data transfer agents: they sign custody records and hold no other role.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    /// Their public files.
    pub signers: Vec<PublicSigner>,
    /// How many must sign a record; default: as before, else two.
    pub threshold: Option<usize>,
}

/// Version 1, unsigned, in which every signer holds the roles `root` and `release`.
pub fn init(
    signers: &[PublicSigner],
    threshold: usize,
    agents: &Agents,
    issued: Timestamp,
    expires: Timestamp,
) -> Result<RootEnvelope> {
    let holders: Vec<_> = signers.iter().map(PublicSigner::holder).collect();
    let root = TrustRoot::new(1, issued, expires, threshold, &holders)?;
    Ok(RootEnvelope::unsigned(with_agents(root, &[], agents, None)?))
}

/// Two, because two-person integrity is what the role is for.
const AGENTS_THRESHOLD: usize = 2;

fn with_agents(root: TrustRoot, former: &[Holder], agents: &Agents, threshold: Option<usize>) -> Result<TrustRoot> {
    let all: Vec<Holder> = former.iter().cloned().chain(agents.signers.iter().map(PublicSigner::holder)).collect();
    if all.is_empty() {
        if agents.threshold.is_some() {
            return Err(ErrorKind::Usage("--transfer-threshold needs a --transfer-signer".into()).into());
        }
        return Ok(root);
    }
    Ok(root.with_transfer(agents.threshold.or(threshold).unwrap_or(AGENTS_THRESHOLD), &all)?)
}

/// The same version with more signers. Signatures over the former bytes would be worthless, so a
/// root that carries some is refused: its change is a new version ([`rotate`]).
pub fn add(envelope: &RootEnvelope, signers: &[PublicSigner]) -> Result<RootEnvelope> {
    if !envelope.signatures().is_empty() {
        return Err(ErrorKind::Usage(
            "this trust root is signed already; make its next version with root rotate".into(),
        )
        .into());
    }
    let changes = Changes { add: signers.to_vec(), ..Changes::default() };
    changed(envelope.claimed(), envelope.claimed().version(), envelope.claimed().issued().clone(), &changes)
}

/// The next version, unsigned.
pub fn rotate(envelope: &RootEnvelope, issued: Timestamp, changes: &Changes) -> Result<RootEnvelope> {
    changed(envelope.claimed(), envelope.claimed().version().saturating_add(1), issued, changes)
}

fn changed(root: &TrustRoot, version: u64, issued: Timestamp, changes: &Changes) -> Result<RootEnvelope> {
    let (mut holders, mut agents) = (root.holders(Role::Root), root.holders(Role::Transfer));
    for name in &changes.remove {
        let before = holders.len() + agents.len();
        holders.retain(|holder| holder.name != *name);
        agents.retain(|holder| holder.name != *name);
        if holders.len() + agents.len() == before {
            return Err(ErrorKind::Usage(format!(
                "no key holder {} in trust root version {}",
                escaped(name),
                root.version()
            ))
            .into());
        }
    }
    holders.extend(changes.add.iter().map(PublicSigner::holder));
    // Every root has this role; a threshold of 0 would be refused.
    let threshold = changes.threshold.or(root.threshold(Role::Root)).unwrap_or_default();
    let expires = changes.expires.clone().unwrap_or_else(|| root.expires().clone());
    let next = TrustRoot::new(version, issued, expires, threshold, &holders)?;
    Ok(RootEnvelope::unsigned(with_agents(next, &agents, &changes.agents, root.threshold(Role::Transfer))?))
}

/// Adds one signer's signatures.
pub fn sign(envelope: &mut RootEnvelope, signer: &Signer) -> Result<()> {
    Ok(signer.sign_root(envelope)?)
}

/// Reads an envelope file.
pub fn read(path: &Path) -> Result<RootEnvelope> {
    Ok(RootEnvelope::parse(&read_limited(path)?)?)
}

/// Reads a signer's public file.
pub fn read_signer(path: &Path) -> Result<PublicSigner> {
    Ok(PublicSigner::parse(&path.display().to_string(), &read_limited(path)?)?)
}

/// Writes an envelope file atomically.
pub fn write(path: &Path, envelope: &RootEnvelope) -> Result<()> {
    use std::io::Write as _;
    let io = |e| Error::io(path.display().to_string(), e);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    temporary.write_all(&envelope.to_bytes()?).map_err(io)?;
    crate::build::persist(temporary, path)
}

/// Lines about a root for a person: version, expiry, threshold, keys, who signed, fingerprint.
pub fn describe(envelope: &RootEnvelope) -> Result<Vec<String>> {
    let root = envelope.claimed();
    let mut lines = vec![
        format!("trust root version {}, issued {}, expires {}", root.version(), root.issued(), root.expires()),
        format!("threshold {} of each algorithm", root.threshold(Role::Root).unwrap_or_default()),
    ];
    if let Some(threshold) = root.threshold(Role::Transfer) {
        lines.push(format!("threshold {threshold} of each algorithm for transfer agents"));
    }
    for (holder, scheme, id, _) in root.key_list() {
        let signed =
            if envelope.signatures().iter().any(|s| s.key == id) { "signed (not verified here)" } else { "not signed" };
        // An agent never signs a root.
        let signed = if root.role_holds(Role::Transfer, id) { "transfer agent" } else { signed };
        lines.push(format!("  {id}  {scheme:<10}  {holder:<20}  {signed}"));
    }
    lines.push("fingerprint (SHA-384), to be compared on another channel:".into());
    let groups = groups_of_four(&root.fingerprint()?.to_string());
    let words: Vec<&str> = groups.split(' ').collect();
    lines.extend(words.chunks(8).map(|row| format!("  {}", row.join(" "))));
    Ok(lines)
}

fn read_limited(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let io = |e| Error::io(path.display().to_string(), e);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(bundle_format::limits::ROOT_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
