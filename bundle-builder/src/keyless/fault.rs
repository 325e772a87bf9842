//! Why a signature in one of sigstore's forms is not accepted. Each check has a kind of its own, so that what failed can
//! be told, and tested, apart.

use bundle_format::digest::Sha256;
use bundle_format::release::Identity;
use bundle_format::timestamp::Timestamp;

use crate::source::Unread;

/// Outcome of one check.
pub(super) type Checked<T> = Result<T, Fault>;

/// The check that failed. Texts of the signature are escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The signature's documents are not of their form.
    #[error("{what}: not of its form: {why}")]
    Malformed {
        /// The part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A form, algorithm or entry kind that this version does not read.
    #[error("{what}: expected {expected}, found {found}")]
    Unsupported {
        /// The part.
        what: &'static str,
        /// What is read.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// It names a key instead of carrying a certificate.
    #[error("certificate: expected one, found a public key's name")]
    NoCertificate,
    /// It carries a certificate where a key is pinned.
    #[error("key: expected a public key's name, found a certificate")]
    NoKey,
    /// Its file counts for nothing.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// No certificate authority of the trusted root was in use at the time of signing.
    #[error("certificate: no authority of the trusted root is for {time}")]
    NoAuthority {
        /// Time of signing.
        time: Timestamp,
    },
    /// The certificate does not chain to an authority of the trusted root for code signing.
    #[error("certificate: no path to an authority of the trusted root, for code signing at {time}: {why}")]
    Chain {
        /// Time of signing.
        time: Timestamp,
        /// What the path lacks.
        why: String,
    },
    /// Signed outside the certificate's validity.
    #[error("certificate: valid from {not_before} to {not_after}, signed at {time}")]
    CertificateTime {
        /// Time of signing.
        time: Timestamp,
        /// First second of validity.
        not_before: Timestamp,
        /// Last second of validity.
        not_after: Timestamp,
    },
    /// Somebody else signed.
    #[error("identity: expected {expected}, found {found}")]
    Identity {
        /// Whom the release names.
        expected: Identity,
        /// Whom the certificate names.
        found: String,
    },
    /// Another issuer vouches for the identity.
    #[error("issuer of the identity: expected {expected}, found {found}")]
    Issuer {
        /// The issuer that the release names.
        expected: String,
        /// The certificate's.
        found: String,
    },
    /// The certificate was never shown to a certificate log.
    #[error("certificate log: expected a signed timestamp (SCT) in the certificate, found none")]
    SctMissing,
    /// It was shown to logs that the trusted root does not list for that time.
    #[error("certificate log: none of the {found} signed timestamps (SCT) is by a log of the trusted root")]
    SctUnknownLog {
        /// Timestamps in the certificate.
        found: usize,
    },
    /// The timestamp is not that log's, or about another certificate.
    #[error("certificate log {log}: its signed timestamp (SCT) does not verify")]
    Sct {
        /// The log's id.
        log: Sha256,
    },
    /// Nothing says that the signature is in a transparency log.
    #[error("transparency log: expected one entry, found none")]
    EntryMissing,
    /// The entry is of a log that the trusted root does not list for that time.
    #[error("transparency log {log}: not in the trusted root for this time")]
    UnknownLog {
        /// The log's id.
        log: Sha256,
    },
    /// The signed entry timestamp (SET) is not that log's, or about another entry.
    #[error("transparency log {log}: its signed entry timestamp (SET) does not verify")]
    Promise {
        /// The log's id.
        log: Sha256,
    },
    /// The form of the bundle demands what is not there.
    #[error("transparency log: expected {expected}, found none")]
    ProofMissing {
        /// What is missing.
        expected: &'static str,
    },
    /// The entry is not in the tree that the log signed.
    #[error("transparency log: entry {index} is not in its tree of {size} entries")]
    Inclusion {
        /// Place of the entry.
        index: u64,
        /// Entries of the tree.
        size: u64,
    },
    /// The signed tree head is not that log's.
    #[error("transparency log {log}: its checkpoint does not verify")]
    Checkpoint {
        /// The log's id.
        log: Sha256,
    },
    /// The entry is about something else.
    #[error("log entry: its {what} is another than the signature's")]
    EntryMismatch {
        /// The part that differs.
        what: &'static str,
    },
    /// Nothing proves when it was signed.
    #[error("time of signing: expected a log's or a timestamp authority's word, found none")]
    TimeMissing,
    /// A time stamp is not of an authority of the trusted root, or about another signature.
    #[error("time stamp: {why}")]
    TimeStamp {
        /// What is wrong with it.
        why: String,
    },
    /// The signature is not the certificate's over what it is said to be over.
    #[error("signature: does not verify with the certificate's key")]
    Signature,
    /// The signature is not the pinned key's over what it is said to be over.
    #[error("signature: does not verify with the pinned key")]
    OtherKey,
    /// It is a signature over something else.
    #[error("signature is over another artifact: expected {expected}, found {found}")]
    Artifact {
        /// Digest of the artifact at hand.
        expected: Sha256,
        /// What the signed document names.
        found: String,
    },
    /// The signed statement says something that does not mean "this is mine".
    #[error("signed statement: expected {expected}, found {found}")]
    Claim {
        /// Types that mean it.
        expected: &'static str,
        /// Type of the statement.
        found: String,
    },
}

impl Fault {
    /// [`Fault::Claim`] of a statement's type.
    pub(crate) fn claim(expected: &'static str, found: &str) -> Self {
        Self::Claim { expected, found: shown(found) }
    }

    /// One line that says what to do.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Identity { .. } | Self::Issuer { .. } => {
                "do not ship this image; ask its publisher who signs, and only then change the release"
            }
            Self::NoAuthority { .. } | Self::SctUnknownLog { .. } | Self::UnknownLog { .. } | Self::Chain { .. } => {
                "do not ship this image; if its publisher's sigstore instance has a newer trusted root, review and pin that"
            }
            Self::Unsupported { .. } | Self::NoCertificate | Self::Claim { .. } => {
                "ask the publisher for a signature of a form that is read; a signature by a key is verified with `cosign: {key: …}`"
            }
            _ => "do not ship this image; ask its publisher to sign it again, and tell them what was found",
        }
    }

    /// How much it tells beside others, 0 the most: a signature that is the demanded one's but over something else; one
    /// that fails; a file that may be anything; one that only says that the signature is another than was asked for,
    /// for such may lie beside it.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Artifact { .. } => 0,
            Self::Unread(_) => 2,
            Self::Identity { .. }
            | Self::Issuer { .. }
            | Self::Claim { .. }
            | Self::NoCertificate
            | Self::NoKey
            | Self::OtherKey => 3,
            _ => 1,
        }
    }
}

/// Longest text of a signature that an error repeats.
const SHOWN: usize = 200;

/// Text of a signature, safe to print and not endless.
pub(super) fn shown(text: &str) -> String {
    bundle_format::text::escaped(&text.chars().take(SHOWN).collect::<String>())
}

/// [`Fault::Malformed`].
pub(super) fn malformed(what: &'static str, why: impl Into<String>) -> Fault {
    Fault::Malformed { what, why: why.into() }
}
