//! What the system tests share: TEST keys, small bundles with hooks to damage them, raw tar
//! members, and the checker of the dependency law. Nothing depends on this crate.
//!
//! A damaged part gets its outer sums and signatures made anew, so that the check under test is
//! the one that fires.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "test support: a panic here is a failed test"
)]

pub mod bundle;
pub mod card;
pub mod carry;
pub mod custody;
pub mod cuts;
pub mod eio;
pub mod engine;
pub mod high;
pub mod keys;
pub mod law;
pub mod layout;
pub mod netns;
pub mod relay;
pub mod seeds;
pub mod site;
pub mod stock;
pub mod ustar;

pub use bundle::{Draft, Sealed, prove, prove_with};
