//! Every format that crosses the gap, reader and writer of each side by side.
//!
//! Normative text: `docs/spec/bundle-format.md`. This room opens no socket, starts no process,
//! reads no clock and prints nothing; bytes, time and randomness come in as values.
//!
//! What may hurt it: every byte it reads comes from the far side of the gap. Who defends:
//! [`archive`] refuses whatever our own writer would not have written, [`envelope`] is the one
//! place that makes a [`envelope::VerifiedManifest`], [`pack`] releases no byte before its frame's
//! SHA-384 and no blob before its sha256 is proved, [`limits`] bounds each length before it is
//! allocated.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")
)]

pub mod appliance;
pub mod approval;
pub mod archive;
pub mod attachment;
pub mod custody;
pub mod datagram;
pub mod digest;
pub mod envelope;
pub mod erasure;
pub mod error;
pub mod inventory;
pub mod json;
pub mod key;
pub mod lifecycle;
pub mod limits;
pub mod lock;
pub mod manifest;
pub mod marking;
pub mod name;
pub mod oci;
pub mod pack;
pub mod parallel;
pub mod provenance;
pub mod receipt;
pub mod reference;
pub mod release;
pub mod root;
pub mod set;
pub mod signature;
pub mod signed;
pub mod text;
pub mod timestamp;
pub mod tokens;
pub mod volume;
pub mod workload;
pub mod yaml;

pub use error::{Class, Error, ErrorKind, Result};
