//! Keys that live in a PKCS#11 token (smart card, HSM): both of a signer, or the Ed25519 half of a
//! *split signer*, whose ML-DSA-87 half is a sealed file because its token has no such mechanism.
//!
//! What may hurt it: another token under the same label, another key under the same name, a token
//! that gives a wrong signature, a PIN on a command line or in a file, a module planted by somebody
//! else (it runs in our process). Who defends: the descriptor names the token by its serial number,
//! the key's public half must be the one of the signer's public file, every signature is verified
//! before it leaves ([`crate::Signer::sign`]), a PIN comes from the caller's memory only and an
//! address that carries one is refused, and a module that others may write is not loaded.

mod address;
mod key;
mod scheme;
mod slot;

pub use address::Address;
pub use key::{Kept, Place, TokenKey};
pub use scheme::{Ed25519, MlDsa87, TokenScheme};
pub use slot::{Attempts, Module, OpenToken, Slot};
