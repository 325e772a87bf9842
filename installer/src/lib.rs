//! The high side: verify, plan, install, report.
//!
//! What may hurt it: everything that comes from the bundle, and the machine itself (full disk,
//! missing parts, a power cut). Who defends: `bundle-format` proves each byte before it is used,
//! [`preflight`] looks before anything is changed, [`state`] journals each step before and after,
//! [`command`] is the only place that starts a process. Signing code and network clients are not
//! among the dependencies; `tests/` holds that law.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")
)]

pub mod atomic;
pub mod attachments;
pub mod audit;
pub mod backup;
pub mod banner;
pub mod change;
pub mod check;
pub mod cli;
pub mod command;
pub mod crypto;
pub mod custody;
pub mod dangerous;
pub mod engine;
pub mod error;
#[allow(clippy::unreadable_literal, reason = "made by build.rs")]
mod facts;
pub mod health;
pub mod host;
pub mod inventory;
pub mod lock;
pub mod moment;
pub mod network;
pub mod paths;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod progress;
pub mod proof;
pub mod reader;
pub mod receipt;
pub mod receive;
pub mod record;
pub mod registry;
pub mod release;
pub mod runtime;
pub mod secrets;
mod settled;
pub mod signals;
pub mod state;
pub mod status;
pub mod store;
pub mod support;
pub mod tree;
pub mod trust;
pub mod unpacker;

pub use error::{Error, ErrorKind, Result};
