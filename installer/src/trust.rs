//! The site's trust: the first anchor, compared by a person, and the newest root since.

use std::path::Path;

use bundle_format::digest::Sha384;
use bundle_format::root::{RootEnvelope, TrustedRoot};
use bundle_format::timestamp::Timestamp;

use crate::audit::{Outcome, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::state::State;

/// Reads a trust root envelope from a file of bounded size.
pub fn read_envelope(path: &Path) -> Result<RootEnvelope> {
    let io = |e| Error::io(path.display().to_string(), e);
    let bytes = confinement::read_regular(path, bundle_format::limits::ROOT_BYTES).map_err(io)?;
    Ok(RootEnvelope::parse(&bytes)?)
}

/// Takes the first anchor. `fingerprint` is what the person was given on another channel; groups of
/// four are as good as one word. A second anchor is refused: roots follow each other inside bundles.
pub fn init(state: &mut State, envelope: &RootEnvelope, fingerprint: &str, now: &Timestamp) -> Result<TrustedRoot> {
    let digits: String = fingerprint.chars().filter(|c| !c.is_whitespace()).collect();
    let given = Sha384::parse(&digits.to_lowercase())
        .map_err(|_| ErrorKind::Usage { why: "the fingerprint has 96 hexadecimal digits".into() })?;
    if let Some(root) = current(state)? {
        return Err(ErrorKind::TrustExists { version: root.root().version() }.into());
    }
    let found = envelope.claimed().fingerprint();
    if found != given {
        return Err(ErrorKind::FingerprintDiffers { expected: given.to_string(), found: found.to_string() }.into());
    }
    let trusted = TrustedRoot::anchor(envelope, &given)?;
    record(state, envelope, now)?;
    Ok(trusted)
}

/// The newest trusted root, if there is one.
pub fn current(state: &State) -> Result<Option<TrustedRoot>> {
    let Some(stored) = state.latest_root()? else { return Ok(None) };
    let envelope = RootEnvelope::parse(&stored.envelope)?;
    Ok(Some(TrustedRoot::anchor(&envelope, &Sha384::parse(&stored.sha384)?)?))
}

/// The newest trusted root; an error that says how to get one if there is none.
pub fn required(state: &State) -> Result<TrustedRoot> {
    current(state)?.ok_or_else(|| ErrorKind::NoTrustRoot.into())
}

/// Records a proven root; what it lowered, in words.
pub fn record(state: &mut State, envelope: &RootEnvelope, now: &Timestamp) -> Result<Vec<String>> {
    state.record_root(envelope.claimed(), &envelope.to_bytes()?, now)
}

/// Takes a bundle's new roots, oldest first, and puts each on record.
pub fn take_new(state: &mut State, roots: &[RootEnvelope], now: &Timestamp) -> Result<()> {
    for envelope in roots {
        let lowered = record(state, envelope, now)?;
        let (version, fingerprint) = (envelope.claimed().version(), envelope.claimed().fingerprint());
        let mut detail = format!("version {version} follows");
        for line in lowered {
            detail = format!("{detail}; {line}");
        }
        let record = Record::new(now, "trust root", Outcome::Ok).subject(&fingerprint).detail(&detail);
        state.audit()?.append(&record)?;
    }
    if !roots.is_empty() {
        state.keep_copy_or_warn();
    }
    Ok(())
}
