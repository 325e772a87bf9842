//! `root init / add / rotate / sign / show`: the trust root and its next version (spec 4.3).

use std::path::Path;

use bundle_format::root::{Holder, Role, RootEnvelope, SequenceReset, TrustRoot};
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
    /// Holders of the optional roles that come.
    pub apart: Apart,
    /// Sequences that sites lower their floors to.
    pub resets: Vec<SequenceReset>,
}

/// Holders of the roles that a root may do without; each holds no other role.
#[derive(Debug, Clone, Default)]
pub struct Apart {
    /// Data transfer agents: they sign custody records.
    pub transfer: Group,
    /// Builders: they sign manifests, beside the release signers.
    pub builder: Group,
    /// Approvers: they approve plans that go past a refusal.
    pub approve: Group,
}

/// Who holds one optional role.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Their public files.
    pub signers: Vec<PublicSigner>,
    /// How many must sign; default: as before, else [`default_threshold`].
    pub threshold: Option<usize>,
}

/// Version 1, unsigned, in which every signer holds the roles `root` and `release`.
pub fn init(
    signers: &[PublicSigner],
    threshold: usize,
    apart: &Apart,
    issued: Timestamp,
    expires: Timestamp,
) -> Result<RootEnvelope> {
    let holders: Vec<_> = signers.iter().map(PublicSigner::holder).collect();
    let mut root = TrustRoot::new(1, issued, expires, threshold, &holders)?;
    for role in Role::OPTIONAL {
        root = with_group(root, role, &[], apart.of(role), None)?;
    }
    Ok(RootEnvelope::unsigned(root))
}

impl Apart {
    /// The group of a role; none for a role that every root has.
    fn of(&self, role: Role) -> &Group {
        static NOBODY: Group = Group { signers: Vec::new(), threshold: None };
        match role {
            Role::Transfer => &self.transfer,
            Role::Builder => &self.builder,
            Role::Approve => &self.approve,
            Role::Root | Role::Release => &NOBODY,
        }
    }
}

/// Two where two-person integrity is what the role is for; one builder is a pair of hands already.
const fn default_threshold(role: Role) -> usize {
    match role {
        Role::Builder => 1,
        _ => 2,
    }
}

fn with_group(
    root: TrustRoot,
    role: Role,
    former: &[Holder],
    group: &Group,
    threshold: Option<usize>,
) -> Result<TrustRoot> {
    let all: Vec<Holder> = former.iter().cloned().chain(group.signers.iter().map(PublicSigner::holder)).collect();
    if all.is_empty() {
        if group.threshold.is_some() {
            let name = role.name();
            return Err(ErrorKind::Usage(format!("--{name}-threshold needs a --{name}-signer")).into());
        }
        return Ok(root);
    }
    let threshold = group.threshold.or(threshold).unwrap_or_else(|| default_threshold(role));
    Ok(match role {
        Role::Transfer => root.with_transfer(threshold, &all)?,
        Role::Builder => root.with_builder(threshold, &all)?,
        Role::Approve => root.with_approve(threshold, &all)?,
        Role::Root | Role::Release => root,
    })
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
    let resets = envelope.claimed().sequence_resets().to_vec();
    let changes = Changes { add: signers.to_vec(), resets, ..Changes::default() };
    changed(envelope.claimed(), envelope.claimed().version(), envelope.claimed().issued().clone(), &changes)
}

/// The next version, unsigned.
pub fn rotate(envelope: &RootEnvelope, issued: Timestamp, changes: &Changes) -> Result<RootEnvelope> {
    changed(envelope.claimed(), envelope.claimed().version().saturating_add(1), issued, changes)
}

fn changed(root: &TrustRoot, version: u64, issued: Timestamp, changes: &Changes) -> Result<RootEnvelope> {
    let mut holders = root.holders(Role::Root);
    let mut groups = Role::OPTIONAL.map(|role| root.holders(role));
    for name in &changes.remove {
        let mut found = false;
        for group in std::iter::once(&mut holders).chain(&mut groups) {
            let before = group.len();
            group.retain(|holder| holder.name != *name);
            found |= group.len() < before;
        }
        if !found {
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
    let mut next = TrustRoot::new(version, issued, expires, threshold, &holders)?;
    for (role, former) in Role::OPTIONAL.into_iter().zip(&groups) {
        next = with_group(next, role, former, changes.apart.of(role), root.threshold(role))?;
    }
    if !changes.resets.is_empty() {
        let mut resets = changes.resets.clone();
        resets.sort();
        next = next.with_resets(&resets)?;
    }
    Ok(RootEnvelope::unsigned(next))
}

/// Reads `PRODUCT=SEQUENCE` or `PRODUCT=SEQUENCE:EPOCH`.
pub fn parse_reset(text: &str) -> std::result::Result<SequenceReset, String> {
    let wrong = || "expected PRODUCT=SEQUENCE or PRODUCT=SEQUENCE:EPOCH".to_owned();
    let (product, numbers) = text.split_once('=').ok_or_else(wrong)?;
    let (sequence, epoch) =
        numbers.split_once(':').map_or((numbers, None), |(sequence, epoch)| (sequence, Some(epoch)));
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    Ok(SequenceReset {
        product: product.to_owned(),
        sequence: number(sequence)?,
        security_epoch: epoch.map(number).transpose()?,
    })
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
    write_bytes(path, &envelope.to_bytes()?)
}

/// Writes a small document atomically.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let io = |e| Error::io(path.display().to_string(), e);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    temporary.write_all(bytes).map_err(io)?;
    crate::build::persist(temporary, path)
}

/// Lines about a root for a person: version, expiry, threshold, keys, who signed, fingerprint.
pub fn describe(envelope: &RootEnvelope) -> Result<Vec<String>> {
    let root = envelope.claimed();
    let mut lines = vec![
        format!("trust root version {}, issued {}, expires {}", root.version(), root.issued(), root.expires()),
        format!("threshold {} of each algorithm", root.threshold(Role::Root).unwrap_or_default()),
    ];
    for role in Role::OPTIONAL {
        if let Some(threshold) = root.threshold(role) {
            lines.push(format!("threshold {threshold} of each algorithm for {}", persons(role)));
        }
    }
    for reset in root.sequence_resets() {
        let epoch = reset.security_epoch.map_or_else(String::new, |epoch| format!(", security epoch {epoch}"));
        lines.push(format!("resets the floor of {} to sequence {}{epoch}", reset.product, reset.sequence));
    }
    for (holder, scheme, id, _) in root.key_list() {
        let signed =
            if envelope.signatures().iter().any(|s| s.key == id) { "signed (not verified here)" } else { "not signed" };
        // Holders of the optional roles never sign a root.
        let apart = Role::OPTIONAL.into_iter().find(|role| root.role_holds(*role, id));
        let signed = apart.map_or(signed, |role| persons(role).trim_end_matches('s'));
        lines.push(format!("  {id}  {scheme:<10}  {holder:<20}  {signed}"));
    }
    lines.push("fingerprint (SHA-384), to be compared on another channel:".into());
    let groups = groups_of_four(&root.fingerprint().to_string());
    let words: Vec<&str> = groups.split(' ').collect();
    lines.extend(words.chunks(8).map(|row| format!("  {}", row.join(" "))));
    Ok(lines)
}

const fn persons(role: Role) -> &'static str {
    match role {
        Role::Root | Role::Release => "signers",
        Role::Transfer => "transfer agents",
        Role::Builder => "builders",
        Role::Approve => "approvers",
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let io = |e| Error::io(path.display().to_string(), e);
    confinement::read_regular(path, bundle_format::limits::ROOT_BYTES).map_err(io)
}
