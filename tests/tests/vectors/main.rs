//! Hostile input, named by its defect; each says which error it must give and which rule of the
//! specification it breaks.
//!
//! In every one of them all that is outside the defect is sound: sums and signatures are made
//! anew, so that the check that is named is the one that fires.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, reason = "the counts are part of the test's report")]

mod accepted;
mod archive;
mod builder;
mod coverage;
mod delta;
mod documents;
mod heads;
mod independent;
mod manifest;
mod packs;
mod parts;
mod roots;
mod rules;
mod shown;
mod signatures;
mod tokens;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundle_format::root::TrustedRoot;
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::{Error, ErrorKind, Result};
use system_tests::{Draft, prove_with};

/// A hostile input and what must be said of it.
struct Vector {
    defect: String,
    /// Rules of `docs/spec` that it breaks.
    rules: &'static [&'static str],
    input: Input,
    kind: &'static str,
    is_kind: fn(&ErrorKind) -> bool,
    /// Part of the message, which tells checks of one kind apart.
    says: &'static str,
}

enum Input {
    /// A whole bundle, for a site with this trust and policy.
    Bundle { archive: Vec<u8>, trusted: Box<TrustedRoot>, policy: AlgorithmPolicy },
    /// A document or field for the one reader of its kind.
    Part(Box<dyn Fn() -> Result<()> + Send + Sync>),
}

impl Vector {
    fn judge(&self) -> Result<()> {
        match &self.input {
            Input::Bundle { archive, trusted, policy } => prove_with(archive, trusted, *policy),
            Input::Part(judge) => judge(),
        }
    }
}

/// `vector!("defect", Kind, "part of the message", archive)`: a bundle under the usual root.
macro_rules! vector {
    ($defect:expr, $kind:ident, $says:expr, $archive:expr) => {
        crate::Vector {
            defect: $defect.into(),
            rules: &[],
            input: crate::bundle($archive),
            kind: stringify!($kind),
            is_kind: |kind| matches!(kind, bundle_format::ErrorKind::$kind { .. }),
            says: $says,
        }
    };
}
/// `part!("defect", Kind, "part of the message", || reader)`: anything else that a reader refuses.
macro_rules! part {
    ($defect:expr, $kind:ident, $says:expr, $judge:expr) => {
        crate::Vector {
            defect: $defect.into(),
            rules: &[],
            input: crate::Input::Part(Box::new($judge)),
            kind: stringify!($kind),
            is_kind: |kind| matches!(kind, bundle_format::ErrorKind::$kind { .. }),
            says: $says,
        }
    };
}
use {part, vector};

fn bundle(archive: Vec<u8>) -> Input {
    // The usual root is the same in every draft; anchoring it verifies signatures, so do it once.
    static USUAL: LazyLock<TrustedRoot> = LazyLock::new(|| Draft::empty().trusted());
    Input::Bundle { archive, trusted: Box::new(USUAL.clone()), policy: AlgorithmPolicy::Hybrid }
}

/// Says which rules these vectors break.
fn breaks(rules: &'static [&'static str], vectors: impl IntoIterator<Item = Vector>) -> Vec<Vector> {
    vectors.into_iter().map(|vector| Vector { rules, ..vector }).collect()
}

/// Puts these vectors before another site.
fn under(trusted: &TrustedRoot, policy: AlgorithmPolicy, vectors: Vec<Vector>) -> Vec<Vector> {
    let of = |vector: Vector| match vector.input {
        Input::Bundle { archive, .. } => {
            Vector { input: Input::Bundle { archive, trusted: Box::new(trusted.clone()), policy }, ..vector }
        }
        Input::Part(_) => vector,
    };
    vectors.into_iter().map(of).collect()
}

/// Every vector there is, made once for all tests.
fn all() -> &'static [Vector] {
    static ALL: LazyLock<Vec<Vector>> = LazyLock::new(|| {
        let parts: [fn() -> Vec<Vector>; 11] = [
            archive::vectors,
            builder::vectors,
            delta::vectors,
            documents::vectors,
            heads::vectors,
            manifest::vectors,
            packs::vectors,
            parts::vectors,
            roots::vectors,
            signatures::vectors,
            tokens::vectors,
        ];
        std::thread::scope(|scope| {
            let made = parts.map(|part| scope.spawn(part));
            made.into_iter().flat_map(|part| part.join().unwrap()).collect()
        })
    });
    &ALL
}

/// Our verdicts on [`all`] in their order, made once, on as many threads as there are processors.
fn verdicts() -> &'static [Result<()>] {
    static VERDICTS: LazyLock<Vec<Result<()>>> = LazyLock::new(|| {
        let (vectors, next) = (all(), AtomicUsize::new(0));
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        // Mutation tests ask only whether there is one.
        let first_ends_all = std::env::var_os("LOCKGATE_VECTORS_FIRST").is_some();
        let mut verdicts: Vec<(usize, Result<()>)> = std::thread::scope(|scope| {
            let work = || {
                let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < vectors.len());
                let judged = |number: usize| {
                    let verdict = vectors[number].judge();
                    if first_ends_all && wrong(&vectors[number], &verdict).is_some() {
                        std::process::exit(1);
                    }
                    (number, verdict)
                };
                std::iter::from_fn(mine).map(judged).collect::<Vec<_>>()
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        verdicts.sort_by_key(|(number, _)| *number);
        verdicts.into_iter().map(|(_, verdict)| verdict).collect()
    });
    &VERDICTS
}

#[test]
fn every_hostile_input_is_refused_with_its_kind() {
    let wrong: Vec<String> =
        all().iter().zip(verdicts()).filter_map(|(vector, verdict)| wrong(vector, verdict)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{} hostile inputs refused, each with its kind", all().len());
}

/// What is wrong with the refusal of a vector, if anything.
fn wrong(vector: &Vector, verdict: &Result<()>) -> Option<String> {
    let (defect, kind, says) = (&vector.defect, vector.kind, vector.says);
    let found = match verdict {
        Ok(()) => "accepted".to_owned(),
        Err(error) if (vector.is_kind)(error.kind()) && error.to_string().contains(says) => return None,
        Err(error) => describe(error),
    };
    Some(format!("{defect}: expected {kind} that says {says:?}, found {found}"))
}

fn describe(error: &Error) -> String {
    let debug = format!("{:?}", error.kind());
    let kind = debug.split([' ', '(']).next().unwrap_or_default();
    format!("{kind}: {error}")
}
