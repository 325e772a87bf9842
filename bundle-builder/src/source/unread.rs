//! A file beside an image that counts for nothing, and whether that says anything of the others.
//!
//! What may hurt it: whoever may push beside an image stops every build of it, with a file that is missing, too large or
//! broken. Who defends: such a file is passed over and its reason kept. An error of the source itself (a network that
//! fails, a registry that refuses) stays one: what lies there was then not seen.

use crate::{Error, ErrorKind, Result};

/// Why one file is passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The source does not have it.
    #[error("{what}: it is missing")]
    Missing {
        /// The file.
        what: String,
    },
    /// It has more bytes than are read.
    #[error("{what}: too large: limit is {limit} bytes, found {found}")]
    TooLarge {
        /// The file.
        what: String,
        /// Bytes that are read.
        limit: u64,
        /// Bytes named or found.
        found: u64,
    },
    /// Its bytes are not those that it is named by.
    #[error("{what}: its bytes are others than its size and digest say")]
    OtherBytes {
        /// The file.
        what: String,
    },
    /// It is not of its form.
    #[error("{what}: not of its form: {why}")]
    Malformed {
        /// The file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Unread {
    /// What came of reading the file `what`: an error that is about this file alone is the inner one.
    pub fn or<T>(what: &str, read: Result<T>) -> Result<Result<T, Self>> {
        match read {
            Ok(value) => Ok(Ok(value)),
            Err(error) => Self::of(what, error).map(Err),
        }
    }

    fn of(what: &str, error: Error) -> Result<Self> {
        let what = what.to_owned();
        Ok(match error.kind() {
            ErrorKind::BlobMissing { .. } => Self::Missing { what },
            ErrorKind::SourceDigest { .. } | ErrorKind::SourceSize { .. } => Self::OtherBytes { what },
            ErrorKind::Format(format) => match format.kind() {
                bundle_format::ErrorKind::TooLarge { limit, found, .. } => {
                    Self::TooLarge { what, limit: *limit, found: *found }
                }
                bundle_format::ErrorKind::Io { .. } => return Err(error),
                _ => Self::Malformed { what, why: format.to_string() },
            },
            _ => return Err(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use bundle_format::digest::Sha256;

    use super::*;

    fn of(error: impl Into<Error>) -> Result<Unread> {
        Unread::of("x", error.into())
    }

    fn format(kind: bundle_format::ErrorKind) -> Error {
        bundle_format::Error::from(kind).into()
    }

    #[test]
    fn what_is_about_one_file() {
        let (what, digest) = (|| "x".to_owned(), Sha256::of(b"x"));
        assert_eq!(of(ErrorKind::BlobMissing { what: what(), digest }).unwrap(), Unread::Missing { what: what() });
        for error in [
            ErrorKind::SourceDigest { what: what(), expected: digest, found: digest },
            ErrorKind::SourceSize { what: what(), digest, expected: 1, found: 2 },
        ] {
            assert_eq!(of(error).unwrap(), Unread::OtherBytes { what: what() });
        }
        let large = format(bundle_format::ErrorKind::TooLarge { what: what(), limit: 1, found: 2 });
        assert_eq!(of(large).unwrap(), Unread::TooLarge { what: what(), limit: 1, found: 2 });
        let broken = format(bundle_format::ErrorKind::Json { what: what(), why: what() });
        assert!(matches!(of(broken).unwrap(), Unread::Malformed { .. }));
    }

    #[test]
    fn what_is_the_sources() {
        let (registry, why) = (|| "r".to_owned(), || "status 500".to_owned());
        for error in [
            ErrorKind::Registry { registry: registry(), why: why() }.into(),
            ErrorKind::Tls { registry: registry(), why: why() }.into(),
            ErrorKind::Unauthorized { registry: registry(), found: why() }.into(),
            ErrorKind::Io { what: registry(), source: io::ErrorKind::UnexpectedEof.into() }.into(),
            format(bundle_format::ErrorKind::Io { what: registry(), source: io::ErrorKind::TimedOut.into() }),
        ] {
            let text = Error::to_string(&error);
            assert_eq!(of(error).unwrap_err().to_string(), text);
        }
    }
}
