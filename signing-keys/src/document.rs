//! What may be signed: a manifest or a trust root, as exact bytes, with what a person compares
//! before a signature is made.
//!
//! What may hurt it: bytes exchanged on the way to the offline machine, or a document that says
//! something else than its sheet. Who defends: the sheet is made from the parsed bytes at both ends,
//! a document that no installer would read is refused, and the signature is over the same memory.

use bundle_format::digest::Sha384;
use bundle_format::envelope::{UnverifiedEnvelope, trusted_comment};
use bundle_format::marking::Marking;
use bundle_format::root::{Role, RootEnvelope, TrustRoot};
use bundle_format::text::{escaped, groups_of_four};

use crate::error::{ErrorKind, Result};

/// A document to sign.
#[derive(Debug, Clone)]
pub struct Document {
    bytes: Vec<u8>,
    comment: String,
    marking: Option<Marking>,
    facts: Vec<(&'static str, String)>,
}

impl Document {
    /// The manifest of a bundle's head.
    pub fn of_manifest(envelope: &UnverifiedEnvelope) -> Result<Self> {
        Self::manifest(envelope.manifest_bytes())
    }

    /// A trust root.
    pub fn of_root(envelope: &RootEnvelope) -> Result<Self> {
        Ok(Self::root(envelope.claimed()))
    }

    /// Parses exported bytes: a manifest or the payload of a trust root, nothing else. `what` names
    /// their file in errors.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        // Both formats write `format` first (spec R-JSON-5); the parsers below judge the rest.
        if bytes.starts_with(br#"{"format":"lockgate-manifest/"#) {
            return Self::manifest(bytes);
        }
        if bytes.starts_with(br#"{"format":"lockgate-root/"#) {
            return Ok(Self::root(&TrustRoot::parse(bytes)?));
        }
        let found = escaped(&String::from_utf8_lossy(bytes.get(..40).unwrap_or(bytes)));
        Err(ErrorKind::NotSignable { what: what.into(), found }.into())
    }

    fn manifest(bytes: &[u8]) -> Result<Self> {
        let m = bundle_format::manifest::parse(bytes)?;
        let facts = vec![
            ("document", "release manifest".to_owned()),
            ("product", m.product.clone()),
            ("release", m.release.clone()),
            ("sequence", m.sequence.to_string()),
            ("marking", m.marking.to_string()),
            ("platform", m.platform.clone()),
            ("title", m.title.clone()),
            ("created", m.created.to_string()),
            ("expires", m.expires.as_ref().map_or_else(|| "never".to_owned(), ToString::to_string)),
            ("content", format!("{} images, {} workloads, {} files", m.images.len(), m.workloads.len(), m.files.len())),
        ];
        let comment = trusted_comment(&m, bytes);
        Ok(Self { bytes: bytes.to_vec(), comment, marking: Some(m.marking), facts })
    }

    fn root(root: &TrustRoot) -> Self {
        let mut facts = vec![
            ("document", "trust root".to_owned()),
            ("version", root.version().to_string()),
            ("issued", root.issued().to_string()),
            ("expires", root.expires().to_string()),
        ];
        for role in [Role::Root, Role::Release].into_iter().chain(Role::OPTIONAL) {
            if let Some(threshold) = root.threshold(role) {
                let names: Vec<String> = root.holders(role).into_iter().map(|holder| holder.name).collect();
                facts.push((role.name(), format!("{threshold} of {}: {}", names.len(), names.join(", "))));
            }
        }
        facts.extend(root.sequence_resets().iter().map(|reset| {
            let epoch = reset.security_epoch.map_or_else(String::new, |epoch| format!(", security epoch {epoch}"));
            ("resets", format!("{} to sequence {}{epoch}", reset.product, reset.sequence))
        }));
        facts.extend(root.key_list().map(|(holder, scheme, id, _)| ("key", format!("{id}  {scheme:<9}  {holder}"))));
        let comment = format!("lockgate root version={}", root.version());
        Self { bytes: root.to_bytes().to_vec(), comment, marking: None, facts }
    }

    /// The exact bytes to sign.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The trusted comment that is bound into the minisign signature.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The marking of a manifest; a root has none.
    pub const fn marking(&self) -> Option<&Marking> {
        self.marking.as_ref()
    }

    /// SHA-384 of the bytes.
    pub fn sha384(&self) -> Sha384 {
        Sha384::of(&self.bytes)
    }

    /// What a person compares, as lines that are safe to print and to put on paper: what the
    /// document says of itself, its length and its SHA-384 in groups of four.
    pub fn sheet(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.facts.iter().map(|(name, value)| escaped(&format!("{name:<9} {value}"))).collect();
        lines.push(format!("bytes     {}", self.bytes.len()));
        lines.push("SHA-384 of the bytes to be signed, to be compared on another channel:".into());
        let groups = groups_of_four(&self.sha384().to_string());
        let words: Vec<&str> = groups.split(' ').collect();
        lines.extend(words.chunks(8).map(|row| format!("  {}", row.join(" "))));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer;
    use bundle_format::timestamp::Timestamp;

    #[test]
    fn a_root_comes_back_from_its_bytes_and_other_text_is_refused() {
        let holders = [Signer::from_seeds("test-alice", &[1; 32], &[2; 32]).unwrap().public().holder()];
        let time = |text| Timestamp::parse(text).unwrap();
        let root = TrustRoot::new(1, time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"), 1, &holders).unwrap();
        let document = Document::of_root(&RootEnvelope::unsigned(root)).unwrap();
        let again = Document::parse("t", document.bytes()).unwrap();
        assert_eq!((again.sheet(), again.comment()), (document.sheet(), "lockgate root version=1"));
        assert!(document.sheet().iter().any(|line| line.contains("1 of 1: test-alice")), "{:?}", document.sheet());
        for text in [&b""[..], b"{}", b"{\"format\":\"lockgate-lock/1\"}"] {
            let error = Document::parse("t", text).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotSignable { .. }), "{error}");
        }
        let cut = &document.bytes()[..document.bytes().len() - 2];
        assert!(matches!(Document::parse("t", cut).unwrap_err().kind(), ErrorKind::Format(_)));
    }
}
