//! From the head of an archive to a proven manifest: the only way to a [`VerifiedManifest`] (spec 7).
//!
//! Threat: a head that is read and kept before anything of it is proved, as long as its maker likes. Defence:
//! each member has its limit, and all of them together have one (R-LIM-32).

use std::io::Read;

use crate::archive::{ArchiveReader, MANIFEST, Member, member_bytes};
use crate::digest::Sha384;
use crate::key::{KeyId, Scheme};
use crate::manifest::Manifest;
use crate::pack::PackReader;
use crate::root::{Chain, RootEnvelope, TrustedRoot};
use crate::signature::{AlgorithmPolicy, Signature, Signed, verify_chain_and};
use crate::{ErrorKind, Result, limits};

/// Trust roots that are parsed together.
const ROOTS_AT_ONCE: usize = 16;

/// What the head of an archive claims. Nothing of it is proved.
#[derive(Debug, Clone)]
pub struct UnverifiedEnvelope {
    manifest: Vec<u8>,
    signatures: Vec<Signature>,
    roots: Vec<RootEnvelope>,
}

/// A manifest whose signatures met the threshold of a trusted root. Made only by
/// [`UnverifiedEnvelope::verify`].
#[derive(Debug, Clone)]
pub struct VerifiedManifest {
    manifest: Manifest,
    bytes: Vec<u8>,
    signers: Vec<KeyId>,
    root: TrustedRoot,
    new_roots: Vec<RootEnvelope>,
}

/// A manifest that is known by its SHA-384 from whoever proved it. Made only by
/// [`UnverifiedEnvelope::pinned`].
#[derive(Debug, Clone)]
pub struct PinnedManifest(Manifest);

/// A manifest that somebody proved: [`VerifiedManifest`] here, [`PinnedManifest`] elsewhere. Nothing else is one.
pub trait Proved: sealed::Sealed {
    /// The manifest.
    fn proved(&self) -> &Manifest;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::VerifiedManifest {}
    impl Sealed for super::PinnedManifest {}
}

impl Proved for VerifiedManifest {
    fn proved(&self) -> &Manifest {
        &self.manifest
    }
}

impl Proved for PinnedManifest {
    fn proved(&self) -> &Manifest {
        &self.0
    }
}

impl UnverifiedEnvelope {
    /// Puts together a new envelope, to be written.
    pub const fn new(manifest: Vec<u8>, signatures: Vec<Signature>, roots: Vec<RootEnvelope>) -> Self {
        Self { manifest, signatures, roots }
    }

    /// Reads the head of an archive up to its first pack.
    pub fn read<R: Read>(input: R) -> Result<(Self, PackReader<R>)> {
        let mut archive = ArchiveReader::new(input);
        let mut head = Self { manifest: Vec::new(), signatures: Vec::new(), roots: Vec::new() };
        let first = archive.next_member()?.ok_or_else(|| unexpected(0, MANIFEST, "the end"))?;
        if first.name != MANIFEST {
            return Err(unexpected(0, MANIFEST, &first.name).into());
        }
        head.manifest = read_member(&mut archive, 0, &first, limits::MANIFEST_BYTES)?;
        let (mut former, mut roots) = (String::new(), Vec::new());
        loop {
            let at = archive.offset();
            let member = match archive.next_member()? {
                Some(member) if !member.name.starts_with("packs/") => member,
                pack_or_end => {
                    head.parse_roots(&mut roots)?;
                    return Ok((head, PackReader::new(archive, at, pack_or_end)));
                }
            };
            // Strictly rising names: signatures, then roots.
            let order = order_of(&member.name);
            if order <= former {
                return Err(unexpected(at, "members in their order", &member.name).into());
            }
            former = order;
            head.take(&mut archive, at, &member, &mut roots)?;
            if roots.len() == ROOTS_AT_ONCE {
                head.parse_roots(&mut roots)?;
            }
        }
    }

    /// Parses trust roots on all cores; the error is that of the first in order.
    fn parse_roots(&mut self, members: &mut Vec<Vec<u8>>) -> Result<()> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(members.len());
        let parsed =
            crate::parallel::map(threads, members, |_, bytes| Ok::<_, crate::Error>(RootEnvelope::parse(bytes)))?;
        self.roots.extend(parsed.into_iter().collect::<Result<Vec<_>>>()?);
        members.clear();
        Ok(())
    }

    /// Reads a prologue: the archive's bytes before its first pack, and nothing else.
    pub fn read_prologue(prologue: &[u8]) -> Result<Self> {
        let end = [0; 1024];
        let (head, packs) = Self::read(prologue.chain(end.as_slice()))?;
        let (expected, found) = (packs.offset(), u64::try_from(prologue.len()).unwrap_or(u64::MAX));
        if expected != found {
            return Err(ErrorKind::Truncated { what: "prologue".into(), expected, found }.into());
        }
        Ok(head)
    }

    /// Reads a member; a trust root is put to those that are parsed later.
    fn take<R: Read>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        at: u64,
        member: &Member,
        roots: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        if let Some(file) = member.name.strip_prefix("signatures/") {
            let named = file.split_once('.').and_then(|(id, extension)| {
                let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.extension() == extension)?;
                Some((KeyId::parse(id).ok()?, scheme))
            });
            let (key, scheme) =
                named.ok_or_else(|| unexpected(at, "signatures/KEYID.minisig or .ml-dsa-87", &member.name))?;
            check_count("signatures", self.signatures.len(), limits::SIGNATURES)?;
            let bytes = read_member(archive, at, member, limits::SIGNATURE_BYTES)?;
            self.signatures.push(Signature::parse_file(&member.name, key, scheme, &bytes)?);
            return Ok(());
        }
        let before = self.roots.len() + roots.len();
        let expected = root_member(before + 1);
        if member.name != expected {
            return Err(unexpected(at, &format!("a signature, {expected} or a pack"), &member.name).into());
        }
        check_count("trust roots", before, limits::ROOTS)?;
        roots.push(read_member(archive, at, member, limits::ROOT_BYTES)?);
        Ok(())
    }

    /// The claimed manifest's bytes.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest
    }

    /// The claimed signatures.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The claimed chain of roots.
    pub fn roots(&self) -> &[RootEnvelope] {
        &self.roots
    }

    /// Adds a signature; a former one by the same key is replaced.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|other| other.key != signature.key);
        self.signatures.push(signature);
        self.signatures.sort_by_key(signature_member);
    }

    /// The members of an archive's head in their order: name and bytes. One that no reader would take for its
    /// length is refused.
    pub fn members(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut members = vec![(MANIFEST.to_owned(), self.manifest.clone())];
        let mut signatures: Vec<_> = self.signatures.iter().map(|s| (signature_member(s), s.to_file())).collect();
        signatures.sort();
        members.append(&mut signatures);
        for (index, root) in self.roots.iter().enumerate() {
            members.push((root_member(index + 1), root.to_bytes()?));
        }
        let size = |content: &Vec<u8>| member_bytes(u64::try_from(content.len()).unwrap_or(u64::MAX));
        check_head(members.iter().map(|(_, content)| size(content)).fold(0, u64::saturating_add))?;
        Ok(members)
    }

    /// For a helper of whoever proved this bundle ([`UnverifiedEnvelope::verify`]) and says which manifest it
    /// has: the same one, by the SHA-384 of its bytes. Signatures and roots are not looked at.
    pub fn pinned(self, expected: &Sha384) -> Result<PinnedManifest> {
        let found = Sha384::of(&self.manifest);
        if found != *expected {
            let why = format!("expected SHA-384 {expected}, found {found}: the bundle was exchanged meanwhile");
            return Err(ErrorKind::Inconsistent { what: MANIFEST.into(), why }.into());
        }
        Ok(PinnedManifest(crate::manifest::parse(&self.manifest)?))
    }

    /// The proof (spec 7): the root chain from `trusted`, then the release threshold (and the builder
    /// threshold, where the root names that role) over the exact manifest bytes, and only then the parse of those same bytes.
    pub fn verify(self, trusted: &TrustedRoot, policy: AlgorithmPolicy) -> Result<VerifiedManifest> {
        let chain = Chain::of(trusted, &self.roots)?;
        let signed = Signed { what: "manifest", document: &self.manifest, signatures: &self.signatures };
        let (root, signers) = verify_chain_and(&chain, &signed, policy)?;
        let manifest = crate::manifest::parse(&self.manifest)?;
        // A parser's leniency (serde takes a list for an object) would be a second reading of what
        // was signed (R-JSON-5).
        crate::json::check_canonical("manifest", &manifest, &self.manifest)?;
        check_comments(&self.signatures, &trusted_comment(&manifest, &self.manifest))?;
        let known = trusted.root().version();
        let new_roots = self.roots.into_iter().filter(|root| root.claimed().version() > known).collect();
        Ok(VerifiedManifest { manifest, bytes: self.manifest, signers, root, new_roots })
    }
}

impl VerifiedManifest {
    /// The proven manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-384 of the exact bytes: the bundle's identity.
    pub fn sha384(&self) -> Sha384 {
        Sha384::of(&self.bytes)
    }

    /// Ids of the release and builder keys that signed.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// The newest proven root: the trusted one, or the end of the bundle's chain.
    pub const fn root(&self) -> &TrustedRoot {
        &self.root
    }

    /// Proven roots of the bundle's chain that are newer than the trusted one, oldest first.
    pub fn new_roots(&self) -> &[RootEnvelope] {
        &self.new_roots
    }

    /// What a floor becomes for this bundle's product when its new roots are taken, oldest first.
    pub fn floor_after_resets(&self, floor: u64) -> u64 {
        let resets = self.new_roots.iter().flat_map(|root| root.claimed().sequence_resets());
        let own = resets.filter(|reset| reset.product == self.manifest.product);
        own.fold(floor, |floor, reset| floor.min(reset.sequence))
    }
}

/// The signed comment of every minisign signature over a manifest: what a person sees from stock
/// `minisign -V`.
pub fn trusted_comment(manifest: &Manifest, bytes: &[u8]) -> String {
    format!(
        "lockgate manifest product={} release={} sequence={} marking={} sha384={}",
        manifest.product,
        manifest.release,
        manifest.sequence,
        manifest.marking.to_string().replace(' ', "_"),
        Sha384::of(bytes)
    )
}

/// Every minisign signature must carry the comment that the document itself gives.
pub(crate) fn check_comments(signatures: &[Signature], expected: &str) -> Result<()> {
    for signature in signatures {
        if let crate::signature::Value::Ed25519 { comment, .. } = &signature.value
            && *comment != expected
        {
            let what = format!("the trusted comment by key {}", signature.key);
            return Err(ErrorKind::BadValue { what, expected: expected.into(), found: comment.clone() }.into());
        }
    }
    Ok(())
}

/// Reads a member of the head that begins at `at`, if the head is not too long with it.
fn read_member<R: Read>(archive: &mut ArchiveReader<R>, at: u64, member: &Member, limit: u64) -> Result<Vec<u8>> {
    // One that is too long by itself is told as that.
    if member.size <= limit {
        check_head(at.saturating_add(member_bytes(member.size)))?;
    }
    archive.read_small(member, limit)
}

fn check_head(found: u64) -> Result<()> {
    let limit = limits::PROLOGUE_BYTES;
    if found <= limit {
        return Ok(());
    }
    Err(ErrorKind::TooLarge { what: "the archive before its first pack".into(), limit, found }.into())
}

fn signature_member(signature: &Signature) -> String {
    format!("signatures/{}.{}", signature.key, signature.scheme().extension())
}

fn root_member(version: usize) -> String {
    format!("root/{version:05}.json")
}

fn order_of(name: &str) -> String {
    let group = if name.starts_with("signatures/") { '1' } else { '2' };
    format!("{group}{name}")
}

fn unexpected(offset: u64, expected: &str, found: &str) -> ErrorKind {
    ErrorKind::UnexpectedMember { offset, expected: expected.into(), found: crate::text::escaped(found) }
}

fn check_count(what: &str, have: usize, limit: usize) -> Result<()> {
    if have < limit {
        return Ok(());
    }
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    Err(ErrorKind::TooLarge { what: what.into(), limit, found: limit + 1 }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{ArchiveWriter, canonical_header};
    use crate::key::{ML_DSA_87_PUBLIC, ML_DSA_87_SIGNATURE, PublicKey};
    use crate::root::{Holder, TrustRoot};
    use crate::signature::Value;
    use crate::timestamp::Timestamp;

    /// Signatures that a TEST signer is said to have made, with `content` in them.
    fn claimed(signer: u8, content: u8) -> [Signature; 2] {
        let of = |key: u8, value| Signature { key: KeyId::from_bytes([key; 8]), value };
        let (signature, global) = (Box::new([content; 64]), Box::new([content; 64]));
        let ed25519 = Value::Ed25519 { signature, comment: "TEST".into(), global };
        [of(signer, ed25519), of(signer | 0x80, Value::MlDsa87(Box::new([content; ML_DSA_87_SIGNATURE])))]
    }

    /// A root of a TEST office, which nobody signed.
    fn root() -> RootEnvelope {
        let time = |text| Timestamp::parse(text).unwrap();
        let (issued, expires) = (time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"));
        let point = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        let keys = vec![PublicKey::Ed25519(point), PublicKey::MlDsa87(Box::new([1; ML_DSA_87_PUBLIC]))];
        let office = Holder { name: "test-office".into(), keys };
        RootEnvelope::unsigned(TrustRoot::new(1, issued, expires, 1, &[office]).unwrap())
    }

    #[test]
    fn a_head_is_read_as_it_was_written_and_nothing_may_follow_a_prologue() {
        let (signatures, roots) = (claimed(1, 7).to_vec(), vec![root()]);
        let written = UnverifiedEnvelope::new(b"{}".to_vec(), signatures.clone(), roots.clone());
        let mut archive = ArchiveWriter::new(Vec::new());
        for (name, content) in written.members().unwrap() {
            archive.member(&name, content.len() as u64, &mut &content[..]).unwrap();
        }
        let mut prologue = archive.into_inner();
        let read = UnverifiedEnvelope::read_prologue(&prologue).unwrap();
        assert_eq!(read.manifest_bytes(), b"{}");
        assert_eq!(read.signatures(), signatures);
        assert_eq!(read.roots(), roots);
        // A pack is no part of it.
        let size = prologue.len() as u64;
        prologue.extend(canonical_header("packs/00000", 0).unwrap());
        let error = UnverifiedEnvelope::read_prologue(&prologue).unwrap_err();
        let ErrorKind::Truncated { expected, found, .. } = error.kind() else { panic!("{error}") };
        assert_eq!((*expected, *found), (size, size + 512));
    }

    #[test]
    fn each_key_has_one_signature_and_they_are_in_order() {
        let mut head = UnverifiedEnvelope::new(b"{}".to_vec(), Vec::new(), Vec::new());
        for signature in [claimed(5, 1), claimed(5, 2)].into_iter().flatten() {
            head.add(signature);
        }
        assert_eq!(head.signatures(), claimed(5, 2));
        for signature in claimed(2, 3) {
            head.add(signature);
        }
        let keys: Vec<KeyId> = head.signatures().iter().map(|signature| signature.key).collect();
        assert_eq!(keys, [2, 5, 0x82, 0x85].map(|byte| KeyId::from_bytes([byte; 8])));
    }

    #[test]
    fn a_head_is_bounded_as_a_whole_before_anything_of_it_is_parsed() {
        let zeros = vec![0; 16 << 20];
        let mut archive = ArchiveWriter::new(Vec::new());
        archive.member(MANIFEST, limits::MANIFEST_BYTES, &mut &zeros[..]).unwrap();
        for version in 1..=8 {
            archive.member(&root_member(version), limits::ROOT_BYTES, &mut &zeros[..]).unwrap();
        }
        let error = UnverifiedEnvelope::read(&archive.finish().unwrap()[..]).err().unwrap();
        let found = (24 << 20) + 9 * 512;
        assert!(
            matches!(error.kind(), ErrorKind::TooLarge { limit: limits::PROLOGUE_BYTES, found: of, .. } if *of == found),
            "{error}"
        );
        // What no reader would take is not written.
        let head = UnverifiedEnvelope::new(vec![0; 24 << 20], Vec::new(), Vec::new());
        assert!(matches!(head.members().unwrap_err().kind(), ErrorKind::TooLarge { .. }));
        UnverifiedEnvelope::new(vec![0; (24 << 20) - 512], Vec::new(), Vec::new()).members().unwrap();
    }
}
