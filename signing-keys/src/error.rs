//! Errors of the private-key side.

use std::fmt;
use std::path::PathBuf;

use bundle_format::Class;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error about keys; see [`ErrorKind`].
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A format error below us.
    #[error(transparent)]
    Format(#[from] bundle_format::Error),
    /// A key file could not be read or written.
    #[error("key file {}: read or write failed", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A key file exists already.
    #[error("key file {} exists already and is never overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A key file is readable by others.
    #[error("key file {}: mode {mode:04o}, expected 0600", .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key file of ours.
    #[error("{what}: not a sealed key file: {why}")]
    Malformed {
        /// The file.
        what: String,
        /// Why.
        why: String,
    },
    /// The passphrase does not open the file, or the file is damaged.
    #[error("{what}: the passphrase does not open it")]
    Passphrase {
        /// The file.
        what: String,
    },
    /// A passphrase below the minimum.
    #[error("passphrase: expected at least {needed} characters, found {found}")]
    WeakPassphrase {
        /// Minimum.
        needed: usize,
        /// Characters given.
        found: usize,
    },
    /// The system gave no randomness, or a cryptographic operation failed.
    #[error("{what}: {why}")]
    Crypto {
        /// The operation.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl Error {
    /// The kind, to match on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Exit-code class.
    pub fn class(&self) -> Class {
        match self.kind() {
            ErrorKind::Format(error) => error.class(),
            ErrorKind::Io { .. } | ErrorKind::Crypto { .. } => Class::Unfit,
            ErrorKind::Exists { .. }
            | ErrorKind::Mode { .. }
            | ErrorKind::Malformed { .. }
            | ErrorKind::Passphrase { .. }
            | ErrorKind::WeakPassphrase { .. } => Class::Usage,
        }
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &'static str {
        match self.kind() {
            ErrorKind::Format(error) => error.advice(),
            ErrorKind::Io { .. } => "check the path, the permissions and the free disk",
            ErrorKind::Exists { .. } => "choose another name or folder; move the old key away yourself if it must go",
            ErrorKind::Mode { .. } => "chmod 0600 the file, and replace the key if others may have read it",
            ErrorKind::Malformed { .. } => "restore the key file from its sealed copy",
            ErrorKind::Passphrase { .. } => {
                "type the passphrase again; if it is right, restore the file from its sealed copy"
            }
            ErrorKind::WeakPassphrase { .. } => "use a longer passphrase, several random words for example",
            ErrorKind::Crypto { .. } => "check the system's source of randomness",
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<bundle_format::Error> for Error {
    fn from(error: bundle_format::Error) -> Self {
        ErrorKind::Format(error).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
