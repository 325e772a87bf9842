//! Errors of the private-key side.

use std::fmt;
use std::path::PathBuf;

use bundle_format::Class;

use crate::token::Attempts;

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
    /// A key file is open to others.
    #[error("key file {}: mode {mode:04o}, expected {expected}", .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it must be.
        expected: &'static str,
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
    /// Neither a manifest nor a trust root.
    #[error("{what}: expected a manifest or a trust root to sign, found {found:?}")]
    NotSignable {
        /// The file.
        what: String,
        /// Its first bytes.
        found: String,
    },
    /// A fresh signature does not verify with the signer's public key.
    #[error("signer {signer}: the {scheme} signature just made does not verify with its public key")]
    SignatureWrong {
        /// The signer.
        signer: String,
        /// The algorithm.
        scheme: &'static str,
    },
    /// A PKCS#11 library cannot be used.
    #[error("PKCS#11 module {}: not usable: {why}", .module.display())]
    TokenModule {
        /// The library.
        module: PathBuf,
        /// Why.
        why: String,
    },
    /// No token has the label.
    #[error("token {label}: not there; {} shows: {}", .module.display(), list(.found))]
    TokenMissing {
        /// The label expected.
        label: String,
        /// The library asked.
        module: PathBuf,
        /// Labels and serial numbers found.
        found: Vec<String>,
    },
    /// Tokens have the label, but none the serial number.
    #[error("token {label}: expected serial number {expected}, found {}", list(.found))]
    OtherToken {
        /// The label.
        label: String,
        /// The serial number expected.
        expected: String,
        /// Labels and serial numbers found.
        found: Vec<String>,
    },
    /// Several tokens have the label.
    #[error("token {label}: expected one token of this label, found {}", list(.found))]
    TokenAmbiguous {
        /// The label.
        label: String,
        /// Labels and serial numbers found.
        found: Vec<String>,
    },
    /// The token refuses the PIN.
    #[error("token {label}: the PIN is wrong; {}", .attempts.words())]
    Pin {
        /// The token.
        label: String,
        /// What it says of attempts left.
        attempts: Attempts,
    },
    /// The token takes no PIN any more.
    #[error("token {label}: its PIN is locked after wrong attempts")]
    PinLocked {
        /// The token.
        label: String,
    },
    /// The token's user PIN was never set.
    #[error("token {label}: expected a user PIN, found that none was ever set")]
    PinNotSet {
        /// The token.
        label: String,
    },
    /// The token has no such key.
    #[error("token {label}: key {key}: not there; expected a key of type {expected}")]
    KeyMissing {
        /// The token.
        label: String,
        /// The key.
        key: String,
        /// The type looked for.
        expected: &'static str,
    },
    /// The token has several such keys.
    #[error("token {label}: key {key}: expected one, found {found}")]
    KeyAmbiguous {
        /// The token.
        label: String,
        /// The key.
        key: String,
        /// How many.
        found: usize,
    },
    /// The token has a key of that name.
    #[error("token {label}: key {key} exists already and is never overwritten")]
    KeyExists {
        /// The token.
        label: String,
        /// The key.
        key: String,
    },
    /// The key is not of the kind that signs.
    #[error("token {label}: key {key}: expected {expected}, found {found}")]
    KeyType {
        /// The token.
        label: String,
        /// The key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A private half does not belong to the public file.
    #[error("signer {signer}: the {scheme} key expected by its public file is {expected}, found {found}")]
    KeyMismatch {
        /// The signer.
        signer: String,
        /// The algorithm.
        scheme: &'static str,
        /// Key id in the public file.
        expected: String,
        /// Key id of the private half.
        found: String,
    },
    /// The token lacks a mechanism.
    #[error("token {label}: expected the mechanism {mechanism}, which it does not have")]
    TokenLacks {
        /// The token.
        label: String,
        /// The mechanism.
        mechanism: &'static str,
    },
    /// Any other failure of a token, its removal too.
    #[error("token {label}: failed or was removed: {why}")]
    Token {
        /// The token.
        label: String,
        /// What it said.
        why: String,
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

/// Names in a row.
fn list(names: &[String]) -> String {
    if names.is_empty() { "no token".into() } else { names.join(", ") }
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
            ErrorKind::Io { .. }
            | ErrorKind::Crypto { .. }
            | ErrorKind::SignatureWrong { .. }
            | ErrorKind::TokenModule { .. }
            | ErrorKind::TokenMissing { .. }
            | ErrorKind::PinLocked { .. }
            | ErrorKind::PinNotSet { .. }
            | ErrorKind::TokenLacks { .. }
            | ErrorKind::Token { .. } => Class::Unfit,
            ErrorKind::OtherToken { .. } | ErrorKind::KeyMismatch { .. } => Class::Untrusted,
            ErrorKind::Exists { .. }
            | ErrorKind::Mode { .. }
            | ErrorKind::Malformed { .. }
            | ErrorKind::Passphrase { .. }
            | ErrorKind::WeakPassphrase { .. }
            | ErrorKind::NotSignable { .. }
            | ErrorKind::TokenAmbiguous { .. }
            | ErrorKind::Pin { .. }
            | ErrorKind::KeyMissing { .. }
            | ErrorKind::KeyAmbiguous { .. }
            | ErrorKind::KeyExists { .. }
            | ErrorKind::KeyType { .. } => Class::Usage,
        }
    }

    /// One line that says what to do.
    pub fn advice(&self) -> &'static str {
        match self.kind() {
            ErrorKind::Format(error) => error.advice(),
            ErrorKind::Io { .. } => "check the path, the permissions and the free disk",
            ErrorKind::Exists { .. } => "choose another name or folder; move the old key away yourself if it must go",
            ErrorKind::Mode { .. } => "chmod the file, and replace the key if others may have read it",
            ErrorKind::Malformed { .. } => "restore the key file from its sealed copy",
            ErrorKind::Passphrase { .. } => {
                "type the passphrase again; if it is right, restore the file from its sealed copy"
            }
            ErrorKind::WeakPassphrase { .. } => "use a longer passphrase, several random words for example",
            ErrorKind::NotSignable { .. } => "sign only what `sign --export` or `root sign --export` wrote",
            ErrorKind::SignatureWrong { .. } => "do not use this token or machine for signing until the cause is found",
            ErrorKind::TokenModule { .. } => "name the vendor's library with its full path, owned by root",
            ErrorKind::TokenMissing { .. } => "insert the token, or name it with --token as the list shows it",
            ErrorKind::OtherToken { .. } => {
                "insert the token that holds this signer's key; if it is lost, rotate the root"
            }
            ErrorKind::TokenAmbiguous { .. } => {
                "leave one token inserted, or name its serial number with --token-serial"
            }
            ErrorKind::Pin { .. } => "check the PIN before the next attempt: tokens lock",
            ErrorKind::PinLocked { .. } => {
                "unlock it with the security officer's PIN by the vendor's tool, or rotate the root"
            }
            ErrorKind::PinNotSet { .. } => "set the user PIN by the vendor's tool",
            ErrorKind::KeyMissing { .. } => {
                "list the token's keys with `pkcs11-tool -O`; check that it is the right token"
            }
            ErrorKind::KeyAmbiguous { .. } => "name the key's id too, or remove the double from the token",
            ErrorKind::KeyExists { .. } => "choose another name, or adopt the key with --adopt",
            ErrorKind::KeyType { .. } => "name an Ed25519 and an ML-DSA-87 key; nothing else signs for this program",
            ErrorKind::KeyMismatch { .. } => "find out which key this is; never edit the public file to fit",
            ErrorKind::TokenLacks { .. } => "use a token that has it, or keep that key in a sealed file",
            ErrorKind::Token { .. } => "insert the token again and repeat; nothing was signed",
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
