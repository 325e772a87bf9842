//! The low side: collects what a release manifest names, pins it, packs it, signs it.
//!
//! What may hurt it: a registry, a layout or a file that gives other bytes than were reviewed. Who
//! defends: [`pin`] writes every digest into a lock that people review, [`collect`] takes nothing
//! that is not in the lock, and each byte passes [`source::checked::Checked`].
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")
)]

pub mod approve;
pub mod arrange;
pub mod base;
pub mod build;
pub mod carry;
pub mod ceremony;
pub mod cli;
pub mod coding;
pub mod collect;
pub mod command;
pub mod confirm;
pub mod custody;
pub mod disc;
pub mod error;
pub mod inspect;
pub mod keyless;
pub mod keys;
pub mod link;
mod members;
pub mod output;
pub mod papers;
pub mod pin;
mod pipe;
pub mod provenance;
pub mod recognise;
pub mod roots;
pub mod sbom;
pub mod sign;
pub mod size_report;
pub mod source;
pub mod split;
pub mod spool;
pub mod upstream;
pub mod workload;

pub use error::{Error, ErrorKind, Result};
