//! Hostile bundles, named by their defect; each says which error it must give.
//!
//! In every one of them all that is outside the defect is sound: sums and signatures are made
//! anew, so that the check that is named is the one that fires.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod accepted;
mod archive;
mod builder;
mod delta;
mod manifest;
mod packs;
mod signatures;

use bundle_format::root::TrustedRoot;
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::{Error, ErrorKind};
use system_tests::{Draft, prove_with};

/// A hostile bundle and what must be said of it.
struct Vector {
    defect: &'static str,
    archive: Vec<u8>,
    kind: &'static str,
    is_kind: fn(&ErrorKind) -> bool,
    /// Part of the message, which tells checks of one kind apart.
    says: &'static str,
}

/// `vector!("defect", Kind, "part of the message", archive)`.
macro_rules! vector {
    ($defect:expr, $kind:ident, $says:expr, $archive:expr) => {
        crate::Vector {
            defect: $defect,
            archive: $archive,
            kind: stringify!($kind),
            is_kind: |kind| matches!(kind, bundle_format::ErrorKind::$kind { .. }),
            says: $says,
        }
    };
}
use vector;

/// Proves every vector under `trusted` and lists those that are not refused as they must be.
fn refuse_all_with(vectors: Vec<Vector>, trusted: &TrustedRoot, policy: AlgorithmPolicy) {
    let wrong: Vec<String> = vectors
        .into_iter()
        .filter_map(|vector| {
            let (defect, kind, says) = (vector.defect, vector.kind, vector.says);
            let found = match prove_with(&vector.archive, trusted, policy) {
                Ok(()) => "accepted".to_owned(),
                Err(error) if (vector.is_kind)(error.kind()) && error.to_string().contains(says) => return None,
                Err(error) => describe(&error),
            };
            Some(format!("{defect}: expected {kind} that says {says:?}, found {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// As [`refuse_all_with`], under the usual root and policy.
fn refuse_all(vectors: Vec<Vector>) {
    refuse_all_with(vectors, &Draft::small().trusted(), AlgorithmPolicy::Hybrid);
}

fn describe(error: &Error) -> String {
    let debug = format!("{:?}", error.kind());
    let kind = debug.split([' ', '(']).next().unwrap_or_default();
    format!("{kind}: {error}")
}
