//! What can be wrong with the audit log, each by its own name: whoever reads an alarm at night must
//! not have to guess whether a disk is full or a record was taken out.

use bundle_format::Class;

/// A fault of the audit log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A record cannot be written, so the act that it would record may not begin.
    #[error("audit log: cannot be written: {why}")]
    Unwritable {
        /// Why, in the words of the system or the database.
        why: String,
    },
    /// The log's file is no database any more.
    #[error("audit log: damaged: {why}")]
    Damaged {
        /// Why, in the database's words.
        why: String,
    },
    /// This machine's key is there, so there was a log, and it is gone.
    #[error("audit log: {path} is gone: its file system is not mounted, or it was removed")]
    Missing {
        /// Where it should be.
        path: String,
    },
    /// The log is there and the key that signed it is not.
    #[error("audit log: the key of this machine is gone; the log's head names key {key}")]
    KeyMissing {
        /// Fingerprint of the key that is missed.
        key: String,
    },
    /// Records are missing between two others.
    #[error("audit log: expected record {expected}, found record {found}")]
    Gap {
        /// The number that should follow.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// A record is not what it was when it was hashed.
    #[error("audit log: record {seq} was changed: it hashes to {found}, its hash on record is {expected}")]
    Edited {
        /// Its number.
        seq: u64,
        /// The hash beside it.
        expected: String,
        /// The hash of its content.
        found: String,
    },
    /// A record does not name the one before it.
    #[error("audit log: record {seq} does not follow the one before it: it names {found}, that one is {expected}")]
    Broken {
        /// Its number.
        seq: u64,
        /// Hash of the record before it.
        expected: String,
        /// The hash that it names.
        found: String,
    },
    /// The signed head speaks of another end than the records have.
    #[error("audit log: the signed head is record {signed}, the records end with {found}")]
    Head {
        /// Number and hash that are signed.
        signed: String,
        /// Number and hash of the last record.
        found: String,
    },
    /// The head is not signed by this machine's key.
    #[error("audit log: its head is not signed by this machine's key {key}: {why}")]
    Forged {
        /// Fingerprint of this machine's key.
        key: String,
        /// What is wrong with the signature.
        why: String,
    },
    /// A record that a person wrote down elsewhere is not in the log.
    #[error("audit log: record {seq} should be {expected}, found {found}")]
    Anchor {
        /// Its number.
        seq: u64,
        /// As anchored.
        expected: String,
        /// As it is.
        found: String,
    },
    /// This machine's key is not the one that was written down.
    #[error("audit log: this machine's key should be {expected}, found {found}")]
    OtherKey {
        /// As written down.
        expected: String,
        /// As it is.
        found: String,
    },
}

impl Fault {
    /// Exit-code class; a full match on purpose.
    pub const fn class(&self) -> Class {
        match self {
            Self::Unwritable { .. } => Class::Unfit,
            Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::KeyMissing { .. }
            | Self::Gap { .. }
            | Self::Edited { .. }
            | Self::Broken { .. }
            | Self::Head { .. }
            | Self::Forged { .. }
            | Self::Anchor { .. }
            | Self::OtherKey { .. } => Class::Untrusted,
        }
    }

    /// One line that says what to do.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Unwritable { .. } => {
                "make room on the audit log's file system, then run the command again; what runs goes on running"
            }
            Self::Missing { .. } => "mount the audit log's file system; if the log is really gone, tell your ISSO",
            Self::OtherKey { .. } | Self::Anchor { .. } => {
                "compare the card once more; if it still differs, keep the machine as it is and tell your ISSO"
            }
            Self::Damaged { .. }
            | Self::KeyMissing { .. }
            | Self::Gap { .. }
            | Self::Edited { .. }
            | Self::Broken { .. }
            | Self::Head { .. }
            | Self::Forged { .. } => {
                "keep the machine as it is and tell your ISSO, who alone decides on installer audit renew"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_crime() {
        let full = Fault::Unwritable { why: "disk full".into() };
        assert_eq!((full.class().exit_code(), full.advice().contains("room")), (6, true));
        let gap = Fault::Gap { expected: 2, found: 3 };
        assert_eq!((gap.class().exit_code(), gap.advice().contains("ISSO")), (4, true));
        assert_eq!(gap.to_string(), "audit log: expected record 2, found record 3");
    }
}
