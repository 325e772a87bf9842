//! The private-key side: sealed key files and making signatures.
//!
//! What may hurt it: a stolen key file (sealed by scrypt, 128 MiB a guess), a key file readable by
//! others (mode 0600, made so before the first byte), a passphrase on a command line (it is only
//! ever passed in as bytes by the caller), secrets left in memory (zeroized on drop),
//! a token that is not the one it is taken for ([`token`]). The installer
//! never depends on this crate; `tests/` holds that law.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")
)]

pub mod document;
pub mod error;
pub mod file;
pub mod minisign;
pub mod pkcs8;
pub mod signer;
pub mod token;

pub use document::Document;
pub use error::{Error, ErrorKind, Result};
pub use signer::{PublicSigner, Signer};
