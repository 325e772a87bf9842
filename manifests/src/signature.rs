//! Signatures and the one threshold function (spec 4).
//!
//! Threats: a stripped algorithm, one key counted twice, a signature over other bytes, two texts
//! for one signature (so that flipped bits hide), a bug in one implementation. Defences: a
//! threshold for each scheme that the policy names; distinct public keys are counted; exact bytes
//! are verified before parsing; text forms are compared with their canonical form; each scheme is
//! verified by two independent implementations that must agree.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use blake2::Digest as _;

use crate::key::{KeyId, ML_DSA_87_SIGNATURE, PublicKey, Scheme};
use crate::root::{Chain, Role, TrustRoot, TrustedRoot};
use crate::text::{base64, unbase64};
use crate::{ErrorKind, Result, limits};

/// First line of a signature file; fixed, because minisign does not sign it.
pub const UNTRUSTED_COMMENT: &str = "untrusted comment: Lockgate signature, see docs/spec/bundle-format.md";

/// One signature over a document, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Id of the signing key, as claimed.
    pub key: KeyId,
    /// The algorithm and its bytes.
    pub value: Value,
}

/// A signature's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A minisign signature: over BLAKE2b-512 of the document, and over that signature and comment.
    Ed25519 {
        /// RFC 8032 signature over BLAKE2b-512 of the document.
        signature: Box<[u8; 64]>,
        /// Signed comment.
        comment: String,
        /// RFC 8032 signature over `signature` and `comment`.
        global: Box<[u8; 64]>,
    },
    /// FIPS 204 signature over the document.
    MlDsa87(Box<[u8; ML_DSA_87_SIGNATURE]>),
}

/// Which schemes must meet the threshold at this site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlgorithmPolicy {
    /// Ed25519 and ML-DSA-87, each by its own threshold.
    #[default]
    Hybrid,
    /// ML-DSA-87 must meet the threshold (CNSA 2.0).
    Cnsa2,
    /// Ed25519 must meet the threshold.
    Ed25519,
}

impl AlgorithmPolicy {
    /// The schemes that must meet the threshold.
    pub const fn required(self) -> &'static [Scheme] {
        match self {
            Self::Hybrid => &[Scheme::Ed25519, Scheme::MlDsa87],
            Self::Cnsa2 => &[Scheme::MlDsa87],
            Self::Ed25519 => &[Scheme::Ed25519],
        }
    }
}

/// Bytes that minisign signs with Ed25519 for a document: its BLAKE2b-512.
pub fn minisign_prehash(document: &[u8]) -> [u8; 64] {
    blake2::Blake2b512::digest(document).into()
}

impl Signature {
    /// The signature's scheme.
    pub const fn scheme(&self) -> Scheme {
        match self.value {
            Value::Ed25519 { .. } => Scheme::Ed25519,
            Value::MlDsa87(_) => Scheme::MlDsa87,
        }
    }

    /// The file form: a minisign file, or the raw ML-DSA-87 signature.
    pub fn to_file(&self) -> Vec<u8> {
        match &self.value {
            Value::Ed25519 { signature, comment, global } => {
                let head = base64(&[&b"ED"[..], self.key.as_bytes(), signature.as_slice()].concat());
                format!("{UNTRUSTED_COMMENT}\n{head}\ntrusted comment: {comment}\n{}\n", base64(global.as_slice()))
                    .into_bytes()
            }
            Value::MlDsa87(bytes) => bytes.to_vec(),
        }
    }

    /// Parses the file form and refuses any other text for the same signature.
    pub fn parse_file(what: &str, key: KeyId, scheme: Scheme, file: &[u8]) -> Result<Self> {
        let bad = |expected: &str| ErrorKind::BadValue {
            what: what.into(),
            expected: expected.into(),
            found: format!("{} bytes", file.len()),
        };
        let too_large = u64::try_from(file.len()).unwrap_or(u64::MAX) > limits::SIGNATURE_BYTES;
        let value = match scheme {
            _ if too_large => return Err(bad("at most 64 KiB").into()),
            Scheme::Ed25519 => {
                parse_minisign(file, key).ok_or_else(|| bad("a minisign signature (algorithm ED) by the named key"))?
            }
            Scheme::MlDsa87 => Value::MlDsa87(Box::new(file.try_into().map_err(|_| bad("4627 bytes"))?)),
        };
        let signature = Self { key, value };
        if signature.to_file() == file {
            return Ok(signature);
        }
        Err(ErrorKind::NotCanonical { what: what.into() }.into())
    }

    /// Verifies this signature over `document` with `key` by two implementations. Who must sign, and
    /// how many, is [`verify_threshold`]'s to say.
    pub fn verify(&self, what: &str, document: &[u8], key: &PublicKey) -> Result<()> {
        self.verify_with(&Document::new(what, document), &Expanded::of(key))
    }

    fn verify_with(&self, document: &Document<'_>, key: &Expanded<'_>) -> Result<()> {
        let verdicts = match (&self.value, &key.form) {
            (Value::Ed25519 { signature, comment, global }, Form::Ed25519 { dalek, minisign }) => (
                dalek.as_ref().is_some_and(|key| verify_dalek(key, document.prehash(), signature, comment, global)),
                minisign.as_ref().is_some_and(|key| self.verify_minisign(document.bytes, key)),
            ),
            (Value::MlDsa87(signature), Form::MlDsa87 { ml_dsa, fips204 }) => (
                ml_dsa.as_ref().is_some_and(|key| verify_ml_dsa(key, document.bytes, signature.as_slice())),
                fips204.as_ref().is_some_and(|key| verify_fips204(key, document.bytes, signature)),
            ),
            _ => (false, false),
        };
        if verdicts == (true, true) {
            return Ok(());
        }
        let (document, scheme, key) = (document.what.to_owned(), key.public.scheme().name(), self.key.to_string());
        match verdicts {
            (false, false) => Err(ErrorKind::BadSignature { document, scheme, key }.into()),
            _ => Err(ErrorKind::ImplementationsDisagree { document, scheme, key }.into()),
        }
    }

    fn verify_minisign(&self, document: &[u8], key: &minisign_verify::PublicKey) -> bool {
        let file = String::from_utf8(self.to_file()).unwrap_or_default();
        minisign_verify::Signature::decode(&file).is_ok_and(|signature| key.verify(document, &signature, false).is_ok())
    }
}

/// What was signed. Its BLAKE2b-512 is made once for all Ed25519 signatures over it (minisign-verify makes its own).
struct Document<'a> {
    what: &'a str,
    bytes: &'a [u8],
    prehash: OnceLock<[u8; 64]>,
}

impl<'a> Document<'a> {
    const fn new(what: &'a str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, prehash: OnceLock::new() }
    }

    fn prehash(&self) -> &[u8; 64] {
        self.prehash.get_or_init(|| minisign_prehash(self.bytes))
    }
}

/// A public key as each implementation wants it; what one cannot read, it will not verify with. Made
/// once for all signatures by that key in a proof: ml-dsa expands an ML-DSA-87 key to 56 polynomials here
/// (fips204 0.5 does it for each signature).
pub(crate) struct Expanded<'a> {
    public: &'a PublicKey,
    form: Form,
}

#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Form {
    Ed25519 {
        dalek: Option<ed25519_dalek::VerifyingKey>,
        minisign: Option<minisign_verify::PublicKey>,
    },
    MlDsa87 {
        ml_dsa: Option<Box<ml_dsa::VerifyingKey<ml_dsa::MlDsa87>>>,
        fips204: Option<Box<fips204::ml_dsa_87::PublicKey>>,
    },
}

impl<'a> Expanded<'a> {
    fn of(public: &'a PublicKey) -> Self {
        use fips204::traits::SerDes as _;
        let form = match public {
            PublicKey::Ed25519(point) => Form::Ed25519 {
                dalek: ed25519_dalek::VerifyingKey::from_bytes(point).ok(),
                minisign: minisign_verify::PublicKey::from_base64(&public.to_text()).ok(),
            },
            PublicKey::MlDsa87(bytes) => {
                let encoded = ml_dsa::EncodedVerifyingKey::<ml_dsa::MlDsa87>::try_from(bytes.as_slice());
                Form::MlDsa87 {
                    ml_dsa: encoded.ok().map(|encoded| Box::new(ml_dsa::VerifyingKey::decode(&encoded))),
                    fips204: fips204::ml_dsa_87::PublicKey::try_from_bytes(**bytes).ok().map(Box::new),
                }
            }
        };
        Self { public, form }
    }
}

/// Verifies a raw signature over `document` that is not in minisign's form: RFC 8032, or FIPS 204
/// with an empty context. A DSSE envelope holds such ones ([`crate::provenance`]). ML-DSA-87 is
/// verified by both implementations, Ed25519 by the one that takes a raw signature.
pub(crate) fn verify_raw(what: &str, document: &[u8], key: &PublicKey, signature: &[u8]) -> Result<()> {
    let (scheme, id) = (key.scheme().name(), key.id());
    let bad = || ErrorKind::BadSignature { document: what.into(), scheme, key: id.to_string() };
    match key {
        PublicKey::MlDsa87(_) => {
            let value = Value::MlDsa87(Box::new(signature.try_into().map_err(|_| bad())?));
            Signature { key: id, value }.verify(what, document, key)
        }
        PublicKey::Ed25519(point) => {
            let key = ed25519_dalek::VerifyingKey::from_bytes(point).map_err(|_| bad())?;
            let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| bad())?;
            Ok(key.verify_strict(document, &signature).map_err(|_| bad())?)
        }
    }
}

fn parse_minisign(file: &[u8], key: KeyId) -> Option<Value> {
    let mut lines = std::str::from_utf8(file).ok()?.lines();
    (lines.next()? == UNTRUSTED_COMMENT).then_some(())?;
    let head = unbase64(lines.next()?)?;
    let (number, signature) = head.strip_prefix(b"ED")?.split_first_chunk::<8>()?;
    (KeyId::from_bytes(*number) == key).then_some(())?;
    let comment = lines.next()?.strip_prefix("trusted comment: ")?.to_owned();
    let global = unbase64(lines.next()?)?;
    Some(Value::Ed25519 {
        signature: Box::new(signature.try_into().ok()?),
        comment,
        global: Box::new(global.try_into().ok()?),
    })
}

/// `verify_strict` refuses small-order points and non-canonical scalars (RFC 8032, 5.1.7).
fn verify_dalek(
    key: &ed25519_dalek::VerifyingKey,
    prehash: &[u8; 64],
    signature: &[u8; 64],
    comment: &str,
    global: &[u8; 64],
) -> bool {
    let bound = [signature.as_slice(), comment.as_bytes()].concat();
    let strict = |message: &[u8], bytes: &[u8; 64]| {
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(bytes)).is_ok()
    };
    strict(prehash, signature) && strict(&bound, global)
}

fn verify_ml_dsa(key: &ml_dsa::VerifyingKey<ml_dsa::MlDsa87>, document: &[u8], signature: &[u8]) -> bool {
    use ml_dsa::{EncodedSignature, MlDsa87};
    let Ok(signature) = EncodedSignature::<MlDsa87>::try_from(signature) else { return false };
    let Some(signature) = ml_dsa::Signature::<MlDsa87>::decode(&signature) else { return false };
    key.verify_with_context(document, &[], &signature)
}

fn verify_fips204(key: &fips204::ml_dsa_87::PublicKey, document: &[u8], signature: &[u8; ML_DSA_87_SIGNATURE]) -> bool {
    use fips204::traits::Verifier as _;
    key.verify(document, signature, &[])
}

/// The one threshold function: every signature present must verify and come from a key that
/// `root` lists, and for each scheme of `policy` and each of `roles` at least the role's threshold
/// of distinct public keys of that role must have signed. Returns the ids of the roles' keys that
/// did.
///
/// Stricter than TUF 1.0.34 (5.3.4), which passes over unknown and invalid extra signatures: a
/// bundle is a finished medium, so a signature that proves nothing is a defect of it.
pub fn verify_threshold(
    what: &str,
    document: &[u8],
    signatures: &[Signature],
    root: &TrustRoot,
    roles: &[Role],
    policy: AlgorithmPolicy,
) -> Result<Vec<KeyId>> {
    verify_threshold_over(&[Signed { what, document, signatures }], root, roles, policy)
}

/// A document with its signatures, not yet verified.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// What it is called in errors.
    pub what: &'a str,
    /// Its exact bytes.
    pub document: &'a [u8],
    /// The signatures over them.
    pub signatures: &'a [Signature],
}

/// The same over documents that count together, such as two persons' approvals of one plan: a key
/// counts once, whichever of them it signed, and is refused when it signed two.
pub fn verify_threshold_over(
    documents: &[Signed<'_>],
    root: &TrustRoot,
    roles: &[Role],
    policy: AlgorithmPolicy,
) -> Result<Vec<KeyId>> {
    verify_all(&checks_over(documents, root)?, root)?;
    count_over(documents, root, roles, policy)
}

/// What there is to verify of them: the first half of [`verify_threshold_over`].
fn checks_over<'a>(documents: &[Signed<'a>], root: &'a TrustRoot) -> Result<Vec<Check<'a>>> {
    let (mut signed, mut all) = (Vec::new(), Vec::new());
    for Signed { what, document, signatures } in documents {
        for signature in *signatures {
            refuse_doubled(what, signature, &signed)?;
            signed.push(signature.key);
        }
        all.extend(checks(what, document, signatures, &[root], UnknownKeys::Refused)?);
    }
    Ok(all)
}

/// Whether they are enough, once verified: the second half.
fn count_over(
    documents: &[Signed<'_>],
    root: &TrustRoot,
    roles: &[Role],
    policy: AlgorithmPolicy,
) -> Result<Vec<KeyId>> {
    let what = documents.first().map_or("document", |first| first.what);
    let signed: Vec<KeyId> = documents.iter().flat_map(|one| one.signatures).map(|signature| signature.key).collect();
    let mut counted = Vec::new();
    for role in roles {
        counted.extend(count(what, &signed, root, *role, policy)?);
    }
    counted.sort();
    counted.dedup();
    Ok(counted)
}

/// The chain of roots and a document that its end judges, all signatures verified at once: the new root and
/// what [`verify_threshold`] gives. Whatever is wrong with the chain is told before what is with the document.
pub(crate) fn verify_chain_and(
    chain: &Chain<'_>,
    signed: &Signed<'_>,
    policy: AlgorithmPolicy,
) -> Result<(TrustedRoot, Vec<KeyId>)> {
    let documents = std::slice::from_ref(signed);
    let mut all = chain.checks()?;
    let own = checks_over(documents, chain.end()).map(|own| all.extend(own));
    verify_all(&all, chain.trusted())?;
    own?;
    let root = chain.proved();
    let signers = count_over(documents, root.root(), root.root().manifest_roles(), policy)?;
    Ok((root, signers))
}

fn refuse_doubled(what: &str, signature: &Signature, before: &[KeyId]) -> Result<()> {
    if before.contains(&signature.key) {
        return Err(ErrorKind::DuplicateSignature { document: what.into(), key: signature.key.to_string() }.into());
    }
    Ok(())
}

/// What a signature by a key that the roots do not list means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownKeys {
    /// A defect.
    Refused,
    /// A key of the version before, which was proved when this one was taken.
    Former,
}

/// One signature over a document, and a key that must have made it.
pub(crate) struct Check<'a> {
    document: Arc<Document<'a>>,
    signature: &'a Signature,
    key: &'a PublicKey,
}

#[cfg(test)]
impl Check<'_> {
    /// Whether the key that must have made it is one of this root.
    pub(crate) fn is_of(&self, root: &TrustRoot) -> bool {
        root.key(self.signature.key) == Some(self.key)
    }

    /// Whether it is over these bytes.
    pub(crate) fn is_over(&self, document: &[u8]) -> bool {
        self.document.bytes == document
    }
}

/// What there is to verify: every signature by a key of `roots`, the newest last. A key that several
/// of them list is asked once; two keys of one id (64 bits) must both verify, which nobody can arrange.
pub(crate) fn checks<'a>(
    what: &'a str,
    document: &'a [u8],
    signatures: &'a [Signature],
    roots: &[&'a TrustRoot],
    unknown: UnknownKeys,
) -> Result<Vec<Check<'a>>> {
    let (mut seen, mut checks) = (Vec::new(), Vec::new());
    let shared = Arc::new(Document::new(what, document));
    for signature in signatures {
        refuse_doubled(what, signature, &seen)?;
        seen.push(signature.key);
        let mut keys: Vec<&PublicKey> = roots.iter().filter_map(|root| root.key(signature.key)).collect();
        keys.dedup();
        if keys.is_empty() && unknown == UnknownKeys::Former {
            continue;
        }
        if keys.is_empty() || keys.iter().any(|key| key.scheme() != signature.scheme()) {
            let (document, key) = (what.to_owned(), signature.key.to_string());
            let root = roots.last().map_or(0, |root| root.version());
            return Err(ErrorKind::UnknownKey { document, key, root }.into());
        }
        checks.extend(keys.into_iter().map(|key| Check { document: Arc::clone(&shared), signature, key }));
    }
    Ok(checks)
}

/// Verifies all of them, each by both implementations, on all cores, key by key. The error is that of the first
/// in order that does not verify: a check is left out only where one before it failed already.
///
/// What keys of `trusted` are said to have signed comes first: it is what a chain that somebody else made
/// fails by, whatever its own keys signed in any number (R-ROOT-17).
pub(crate) fn verify_all(checks: &[Check<'_>], trusted: &TrustRoot) -> Result<()> {
    verify_all_by(crate::parallel::cores(), checks, trusted, &|check: &Check<'_>, key: &Expanded<'_>| {
        check.signature.verify_with(&check.document, key)
    })
}

/// The same with `verify` for each check, on so many threads.
pub(crate) fn verify_all_by(
    threads: usize,
    checks: &[Check<'_>],
    trusted: &TrustRoot,
    verify: &(impl Fn(&Check<'_>, &Expanded<'_>) -> Result<()> + Sync),
) -> Result<()> {
    let by_key = by_key(checks, trusted);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, crate::Error)>> = Mutex::new(None);
    let before_the_first = |index: usize| {
        let failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().is_none_or(|(first, _)| index < *first)
    };
    crate::parallel::on_threads::<crate::Error>(threads, || {
        loop {
            let Some((key, of_key)) = by_key.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(()) };
            let mut expanded = None;
            for (index, check) in of_key.iter().filter(|(index, _)| before_the_first(*index)) {
                let key = expanded.get_or_insert_with(|| Expanded::of(key));
                if let Err(error) = verify(check, key) {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(first, _)| index < first) {
                        *failed = Some((*index, error));
                    }
                }
            }
        }
    })?;
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
}

/// The checks with their places, by key. The longest work first, so that no core waits for another at the
/// end, and among its like what keys of `trusted` should have signed.
fn by_key<'c>(checks: &'c [Check<'c>], trusted: &TrustRoot) -> Vec<(&'c PublicKey, Vec<(usize, &'c Check<'c>)>)> {
    let mut place: HashMap<&PublicKey, usize> = HashMap::new();
    let mut by_key: Vec<(&PublicKey, Vec<(usize, &Check<'_>)>)> = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let at = *place.entry(check.key).or_insert(by_key.len());
        match by_key.get_mut(at) {
            Some((_, of_key)) => of_key.push((index, check)),
            None => by_key.push((check.key, vec![(index, check)])),
        }
    }
    by_key.sort_by_cached_key(|(key, of_key)| {
        let known = of_key.first().is_some_and(|(_, check)| trusted.key(check.signature.key) == Some(*key));
        (std::cmp::Reverse(key.scheme()), !known)
    });
    by_key
}

/// Counts distinct public keys of `role` among the keys whose signatures were verified. Key ids are
/// computed from the keys and unique within a root, so distinct ids count keys here.
pub(crate) fn count(
    what: &str,
    signed: &[KeyId],
    root: &TrustRoot,
    role: Role,
    policy: AlgorithmPolicy,
) -> Result<Vec<KeyId>> {
    let needed = root.threshold(role).ok_or_else(|| ErrorKind::RoleMissing {
        document: what.into(),
        role: role.name(),
        root: root.version(),
    })?;
    let of_role: BTreeSet<KeyId> = signed.iter().copied().filter(|id| root.role_holds(role, *id)).collect();
    for scheme in policy.required() {
        let found = of_role.iter().filter_map(|id| root.key(*id)).filter(|key| key.scheme() == *scheme).count();
        if found < needed {
            return Err(ErrorKind::Threshold {
                document: what.into(),
                role: role.name(),
                scheme: scheme.name(),
                root: root.version(),
                needed,
                found,
            }
            .into());
        }
    }
    Ok(of_role.into_iter().collect())
}

#[cfg(test)]
mod tests;
