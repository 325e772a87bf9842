//! The publisher's signature that was verified when an image was pinned (spec 11).

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::digest::{Sha256, Sha384};
use crate::manifest::check_line;
use crate::release::Identity;
use crate::timestamp::Timestamp;

/// A publisher's signature; `by` says how it was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum LockedSignature {
    /// `cosign`: with a pinned key.
    Cosign(LockedKey),
    /// `keyless`: with a pinned sigstore trusted root.
    Keyless(LockedKeyless),
}

/// Verified with a pinned key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedKey {
    /// sha256 of the pinned public key (DER `SubjectPublicKeyInfo`).
    pub key: Sha256,
    /// Digest of the document in the source that the signature names: the image's own, or the
    /// index's.
    pub signed: Sha256,
}

/// Verified with a pinned trusted root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedKeyless {
    /// SHA-384 of the trusted root's file.
    pub trusted_root: Sha384,
    /// Who signed.
    pub identity: Identity,
    /// URL of the issuer that vouched for the identity.
    pub issuer: String,
    /// What the signature says of the image: the type of a signed statement, or of a payload.
    pub claim: String,
    /// Id of the transparency log.
    pub log: Sha256,
    /// Number of the entry in it.
    pub log_index: u64,
    /// When it was signed.
    pub time: Timestamp,
    /// Whose word the time is.
    pub time_from: TimeSource,
    /// sha256 of the signer's certificate, DER.
    pub certificate: Sha256,
    /// As in [`LockedKey::signed`].
    pub signed: Sha256,
}

/// Whose word the time of a signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSource {
    /// The transparency log's.
    Log,
    /// A timestamp authority's (RFC 3161).
    TimestampAuthority,
}

impl TimeSource {
    /// The word in locks and statements.
    pub fn word(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::TimestampAuthority => "timestamp-authority",
        }
    }
}

impl LockedSignature {
    /// Digest of the document that the signature names.
    pub fn signed(&self) -> Sha256 {
        match self {
            Self::Cosign(locked) => locked.signed,
            Self::Keyless(locked) => locked.signed,
        }
    }

    /// Checks that texts are lines that can be shown.
    pub(super) fn check(&self) -> Result<()> {
        let Self::Keyless(locked) = self else { return Ok(()) };
        locked.identity.check()?;
        check_line("issuer", &locked.issuer)?;
        check_line("claim", &locked.claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let key = LockedSignature::Cosign(LockedKey { key: Sha256::of(b"key"), signed: Sha256::of(b"image") });
        let keyless = LockedSignature::Keyless(LockedKeyless {
            trusted_root: Sha384::of(b"root"),
            identity: Identity::Email("a@b".into()),
            issuer: "https://id.example".into(),
            claim: "statement".into(),
            log: Sha256::of(b"log"),
            log_index: 7,
            time: Timestamp::from_unix(1_700_000_000),
            time_from: TimeSource::TimestampAuthority,
            certificate: Sha256::of(b"certificate"),
            signed: Sha256::of(b"image"),
        });
        for (locked, begins) in [(&key, "by: cosign\nkey: sha256:"), (&keyless, "by: keyless\ntrusted_root: ")] {
            let text = crate::yaml::to_string("lock", locked).unwrap();
            assert!(text.starts_with(begins), "{text}");
            assert_eq!(&crate::yaml::parse::<LockedSignature>("lock", &text).unwrap(), locked);
            for bad in [text.replace("by: ", "by: x"), format!("{text}more: 1\n"), text.replace("signed:", "sined:")] {
                crate::yaml::parse::<LockedSignature>("lock", &bad).unwrap_err();
            }
        }
        let text = crate::yaml::to_string("lock", &keyless).unwrap();
        assert!(text.contains(&format!("time_from: {}\n", TimeSource::TimestampAuthority.word())), "{text}");
        assert!(text.contains("identity:\n  email: a@b\n"), "{text}");
    }
}
