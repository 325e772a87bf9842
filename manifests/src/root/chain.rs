//! From a trusted root along a chain: what makes a root one that is proved (spec 4.4).
//!
//! Threats: a version left out or signed by too few, another office's chain, resets without a revocation.
//! Every signature of a chain is verified, also below the trusted version.
//!
//! Also: work without end. A chain of a thousand roots of one's own, each signed by hundreds of one's own keys,
//! behind the real first one is cheap to make. So what costs nothing is asked of the whole chain before a
//! signature is verified, the thresholds among it, by the key ids that the signatures claim (R-ROOT-17).

use super::{Role, RootEnvelope, TrustRoot};
use crate::digest::Sha384;
use crate::key::{KeyId, Scheme};
use crate::signature::{AlgorithmPolicy, Check, UnknownKeys, checks, count, verify_all};
use crate::{ErrorKind, Result};

/// A root that is proved: by a person's fingerprint, or by the chain from such a one.
/// Only [`TrustedRoot::anchor`], [`TrustedRoot::advance`] and [`apply_chain`] make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    root: TrustRoot,
}

impl TrustedRoot {
    /// The first anchor: a person compared `fingerprint` on another channel, and the root carries
    /// its own threshold of signatures.
    pub fn anchor(envelope: &RootEnvelope, fingerprint: &Sha384) -> Result<Self> {
        let found = envelope.root.fingerprint();
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
        verify_all(&Link::of(next).checks(Some(&self.root))?, &self.root)?;
        Ok(Self { root: next.root.clone() })
    }

    /// The root.
    pub const fn root(&self) -> &TrustRoot {
        &self.root
    }
}

/// A root of a chain with its signed bytes.
struct Link<'a> {
    envelope: &'a RootEnvelope,
    what: String,
}

impl<'a> Link<'a> {
    fn of(envelope: &'a RootEnvelope) -> Self {
        Self { envelope, what: format!("trust root version {}", envelope.root.version()) }
    }

    /// The signatures to verify: by keys of the version before and of this one, and enough of them, if they
    /// verify. Without the version before, as an anchor, signatures by its keys are passed over; version 1 has
    /// none.
    fn checks<'b>(&'b self, former: Option<&'b TrustRoot>) -> Result<Vec<Check<'b>>> {
        let (root, signatures) = (&self.envelope.root, &self.envelope.signatures);
        if let Some(former) = former {
            let (expected, found) = (former.version() + 1, root.version());
            if found != expected {
                return Err(ErrorKind::RootVersion { expected, found }.into());
            }
        }
        let unknown = if former.is_none() && root.version() > 1 { UnknownKeys::Former } else { UnknownKeys::Refused };
        let judges: Vec<&TrustRoot> = former.into_iter().chain([root]).collect();
        let checks = checks(&self.what, root.to_bytes(), signatures, &judges, unknown)?;
        let claimed: Vec<KeyId> = signatures.iter().map(|signature| signature.key).collect();
        for judge in judges {
            count(&self.what, &claimed, judge, Role::Root, AlgorithmPolicy::Hybrid)?;
        }
        former.map_or(Ok(()), |former| check_revocation(former, root))?;
        Ok(checks)
    }
}

/// Sequences may be reset only where the release keys of before are too few to release again
/// (R-ROOT-14): else the very bundle that is to be forgotten could be installed once more.
fn check_revocation(former: &TrustRoot, next: &TrustRoot) -> Result<()> {
    if next.sequence_resets().is_empty() {
        return Ok(());
    }
    let threshold = next.payload.roles.release.threshold;
    for scheme in Scheme::ALL {
        let of_scheme = next.payload.keys.iter().filter(|key| key.scheme == scheme).map(|key| key.id);
        let both = |id: &KeyId| next.role_holds(Role::Release, *id) && former.role_holds(Role::Release, *id);
        let kept = of_scheme.filter(both).count();
        if kept >= threshold {
            let (version, scheme) = (next.version(), scheme.name());
            return Err(ErrorKind::ResetWithoutRevocation { version, scheme, kept, threshold }.into());
        }
    }
    Ok(())
}

/// Applies a bundle's chain to the trusted root (spec 4.4): versions run from 1 without gaps, each
/// follows from the one before, the one of the trusted version is the trusted one to the byte. The
/// result is the chain's last root, or `trusted` if the chain ends before it.
pub fn apply_chain(trusted: &TrustedRoot, chain: &[RootEnvelope]) -> Result<TrustedRoot> {
    let chain = Chain::of(trusted, chain)?;
    verify_all(&chain.checks()?, chain.trusted())?;
    Ok(chain.proved())
}

/// A bundle's chain whose signatures are not verified yet. They are verified together with those of what
/// the chain's end judges, so that no core waits for another in between.
pub(crate) struct Chain<'a> {
    trusted: &'a TrustedRoot,
    links: Vec<Link<'a>>,
    known: bool,
}

impl<'a> Chain<'a> {
    /// Versions from 1 without gaps are [`Chain::checks`]'s to see.
    pub(crate) fn of(trusted: &'a TrustedRoot, chain: &'a [RootEnvelope]) -> Result<Self> {
        let first = chain.first().map_or(0, |first| first.root.version());
        if first != 1 {
            return Err(ErrorKind::RootVersion { expected: 1, found: first }.into());
        }
        let links: Vec<Link<'_>> = chain.iter().map(Link::of).collect();
        let expected = trusted.root.fingerprint();
        // First, so that another office's chain costs no signature.
        let known =
            links.iter().map(|link| check_same(trusted, &expected, &link.envelope.root)).collect::<Result<Vec<_>>>()?;
        Ok(Self { trusted, known: known.contains(&true), links })
    }

    fn formers(&self) -> impl Iterator<Item = Option<&TrustRoot>> {
        std::iter::once(None).chain(self.links.iter().map(|link| Some(&link.envelope.root)))
    }

    /// The signatures to verify: enough ones for each link, if they verify. Links below the trusted version
    /// give no trust; they are proved so that no byte of the archive is left unexplained.
    pub(crate) fn checks(&self) -> Result<Vec<Check<'_>>> {
        let of_links = self.links.iter().zip(self.formers()).map(|(link, former)| link.checks(former));
        Ok(of_links.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The root that it ends with, if its signatures verify. A chain that ends before the trusted version
    /// comes from an older bundle: it is judged by the trusted root, which may have revoked keys since.
    pub(crate) fn end(&self) -> &TrustRoot {
        self.links.last().filter(|_| self.known).map_or(&self.trusted.root, |newest| &newest.envelope.root)
    }

    /// The root that the chain is followed from.
    pub(crate) const fn trusted(&self) -> &TrustRoot {
        &self.trusted.root
    }

    /// That root, once all [`Chain::checks`] have verified.
    pub(crate) fn proved(&self) -> TrustedRoot {
        TrustedRoot { root: self.end().clone() }
    }
}

/// Whether `link` is the trusted version, whose fingerprint is `expected`; an error if it has that version
/// and other bytes.
fn check_same(trusted: &TrustedRoot, expected: &Sha384, link: &TrustRoot) -> Result<bool> {
    if trusted.root.version() != link.version() {
        return Ok(false);
    }
    let found = link.fingerprint();
    if *expected == found {
        return Ok(true);
    }
    let version = trusted.root.version();
    Err(ErrorKind::UnknownRoot { version, expected: expected.to_string(), found: found.to_string() }.into())
}

fn verify_self(envelope: &RootEnvelope) -> Result<()> {
    verify_all(&Link::of(envelope).checks(None)?, &envelope.root)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::key::{ML_DSA_87_PUBLIC, ML_DSA_87_SIGNATURE, PublicKey};
    use crate::root::Holder;
    use crate::signature::{Signature, Value, verify_all_by};
    use crate::timestamp::Timestamp;

    /// Keys of a TEST office: no one holds their private halves but for the order they stand in.
    fn office(name: &str, seed: u8, ed25519: u8) -> Holder {
        let point = |n: u8| ed25519_dalek::SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes();
        let mut keys: Vec<PublicKey> = (0..ed25519).map(|n| PublicKey::Ed25519(point(seed + n))).collect();
        keys.push(PublicKey::MlDsa87(Box::new([seed; ML_DSA_87_PUBLIC])));
        Holder { name: name.into(), keys }
    }

    fn root(version: u64, office: &Holder) -> TrustRoot {
        let time = |text| Timestamp::parse(text).unwrap();
        let (issued, expires) = (time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"));
        TrustRoot::new(version, issued, expires, 1, std::slice::from_ref(office)).unwrap()
    }

    /// The root with a signature that each of these keys is said to have made.
    fn claimed(root: TrustRoot, by: &[&Holder]) -> RootEnvelope {
        let mut envelope = RootEnvelope::unsigned(root);
        for key in by.iter().flat_map(|office| &office.keys) {
            let value = match key.scheme() {
                Scheme::Ed25519 => {
                    Value::Ed25519 { signature: Box::new([0; 64]), comment: "TEST".into(), global: Box::new([0; 64]) }
                }
                Scheme::MlDsa87 => Value::MlDsa87(Box::new([0; ML_DSA_87_SIGNATURE])),
            };
            envelope.signatures.push(Signature { key: key.id(), value });
        }
        envelope.signatures.sort_by_key(|signature| signature.key);
        envelope
    }

    #[test]
    fn a_chain_that_somebody_else_made_costs_next_to_nothing() {
        let (real, own) = (office("test-real", 1, 1), office("test-own", 10, 200));
        let trusted = TrustedRoot { root: root(1, &real) };
        let first = claimed(root(1, &real), &[&real]);
        // Nobody of the real office is said to have signed: refused before there is anything to verify.
        let chain = |by: &[&Holder]| -> Vec<RootEnvelope> {
            std::iter::once(first.clone()).chain((2..=100).map(|version| claimed(root(version, &own), by))).collect()
        };
        let alone = chain(&[&own]);
        let error = Chain::of(&trusted, &alone).unwrap().checks().err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Threshold { root: 1, found: 0, .. }), "{error}");

        // The real office is said to have signed version 2: a lie, which comes out before what is true of the others.
        let mut forged = chain(&[&own]);
        forged[1] = claimed(root(2, &own), &[&own, &real]);
        let chain = Chain::of(&trusted, &forged).unwrap();
        let checks = chain.checks().unwrap();
        assert_eq!(checks.len(), 2 + 203 + 98 * 201);
        let verified = AtomicUsize::new(0);
        let refused = verify_all_by(1, &checks, &trusted.root, &|check: &Check<'_>, _: &_| {
            verified.fetch_add(1, Ordering::Relaxed);
            if check.is_of(&trusted.root) && !check.is_over(trusted.root.to_bytes()) {
                let (document, key) = ("trust root version 2".into(), String::new());
                return Err(ErrorKind::BadSignature { document, scheme: "", key }.into());
            }
            Ok(())
        });
        assert!(matches!(refused.unwrap_err().kind(), ErrorKind::BadSignature { .. }));
        let verified = verified.into_inner();
        assert!(verified <= 2 + 203, "{verified} signatures verified");
    }
}
