//! From a trusted root along a chain: what makes a root one that is proved (spec 4.4).
//!
//! Threats: a version left out or signed by too few, another office's chain, resets without a revocation.
//! Every signature of a chain is verified, also below the trusted version; thresholds are counted only after
//! that.

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
        let link = Link::of(next);
        verify_all(&link.checks(Some(&self.root))?)?;
        link.count(Some(&self.root))?;
        Ok(Self { root: next.root.clone() })
    }

    /// The root.
    pub const fn root(&self) -> &TrustRoot {
        &self.root
    }
}

/// A root of a chain with its signed bytes. What must be verified and what must be counted are asked
/// apart, so that the signatures of a whole chain are verified at once.
struct Link<'a> {
    envelope: &'a RootEnvelope,
    what: String,
}

impl<'a> Link<'a> {
    fn of(envelope: &'a RootEnvelope) -> Self {
        Self { envelope, what: format!("trust root version {}", envelope.root.version()) }
    }

    /// The signatures to verify: by keys of the version before and of this one. Without the version
    /// before, as an anchor, signatures by its keys are passed over; version 1 has none.
    fn checks<'b>(&'b self, former: Option<&'b TrustRoot>) -> Result<Vec<Check<'b>>> {
        let (root, signatures) = (&self.envelope.root, &self.envelope.signatures);
        let document = root.to_bytes();
        let Some(former) = former else {
            let unknown = if root.version() == 1 { UnknownKeys::Refused } else { UnknownKeys::Former };
            return checks(&self.what, document, signatures, &[root], unknown);
        };
        let (expected, found) = (former.version() + 1, root.version());
        if found != expected {
            return Err(ErrorKind::RootVersion { expected, found }.into());
        }
        checks(&self.what, document, signatures, &[former, root], UnknownKeys::Refused)
    }

    /// The thresholds of the version before and of this one, once the signatures are verified.
    fn count(&self, former: Option<&TrustRoot>) -> Result<()> {
        let signed: Vec<KeyId> = self.envelope.signatures.iter().map(|signature| signature.key).collect();
        for root in former.into_iter().chain([&self.envelope.root]) {
            count(&self.what, &signed, root, Role::Root, AlgorithmPolicy::Hybrid)?;
        }
        former.map_or(Ok(()), |former| check_revocation(former, &self.envelope.root))
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
    verify_all(&chain.checks()?)?;
    chain.proved()
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

    /// The signatures to verify. Links below the trusted version give no trust; they are proved so that no
    /// byte of the archive is left unexplained.
    pub(crate) fn checks(&self) -> Result<Vec<Check<'_>>> {
        let of_links = self.links.iter().zip(self.formers()).map(|(link, former)| link.checks(former));
        Ok(of_links.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The root that it ends with, if its signatures verify. A chain that ends before the trusted version
    /// comes from an older bundle: it is judged by the trusted root, which may have revoked keys since.
    pub(crate) fn end(&self) -> &TrustRoot {
        self.links.last().filter(|_| self.known).map_or(&self.trusted.root, |newest| &newest.envelope.root)
    }

    /// That root, once all [`Chain::checks`] have verified: the thresholds of each link are counted here.
    pub(crate) fn proved(&self) -> Result<TrustedRoot> {
        for (link, former) in self.links.iter().zip(self.formers()) {
            link.count(former)?;
        }
        Ok(TrustedRoot { root: self.end().clone() })
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
    let link = Link::of(envelope);
    verify_all(&link.checks(None)?)?;
    link.count(None)
}
