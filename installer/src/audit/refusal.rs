//! Acts that were not let begin: what the command line knows of them when they are refused.

use std::cell::{Cell, RefCell};

use bundle_format::Class;
use bundle_format::digest::Sha384;

use super::{Outcome, Record, append_or_warn};
use crate::error::{Error, ErrorKind};
use crate::paths::Paths;
use crate::proof::clock;
use crate::state::State;

/// What a command has found out about its own act so far.
#[derive(Debug, Default)]
pub struct Act {
    seen: RefCell<Option<(String, String, Sha384)>>,
    recorded: Cell<bool>,
}

/// Whether an act changes the system, or only looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It changes the system: every refusal is of interest.
    Change,
    /// It looks at a bundle: only what is wrong with the bundle is.
    Look,
}

impl Act {
    /// The bundle is proved to be this.
    pub fn seen(&self, product: &str, release: &str, manifest: &Sha384) {
        *self.seen.borrow_mut() = Some((product.to_owned(), release.to_owned(), *manifest));
    }

    /// How the act ended is on record already, for each product that it was about.
    pub fn recorded(&self) {
        self.recorded.set(true);
    }

    /// Records that the act was refused, if this is a refusal, the act has not begun, and this machine
    /// has a trust root: before that, nothing here is worth a record.
    pub fn refused(&self, paths: &Paths, act: &str, kind: Kind, error: &Error) {
        if self.recorded.get() || super::has_begun() || !is_refusal(kind, error) || !paths.database().exists() {
            return;
        }
        let rooted = State::open(&paths.database()).and_then(|state| state.latest_root());
        if !matches!(rooted, Ok(Some(_))) {
            return;
        }
        let mut record = Record::new(&clock(), act, Outcome::Refused).detail(&told(error));
        if let Some((product, release, manifest)) = &*self.seen.borrow() {
            record = record.of(product, release).subject(manifest);
        }
        append_or_warn(paths, &record);
    }
}

/// The error with its causes.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}; because: {cause}");
        source = cause.source();
    }
    text
}

fn is_refusal(kind: Kind, error: &Error) -> bool {
    let about_bundle = matches!(error.class(), Class::Damaged | Class::Untrusted | Class::Policy);
    match error.kind() {
        // The log itself is what is wrong, and the error says so.
        ErrorKind::Audit(_) => false,
        // Whatever it was that ended a reader, it came out of what was read.
        ErrorKind::ReaderLost { .. } => true,
        ErrorKind::Locked { .. } | ErrorKind::Unfit { .. } | ErrorKind::NoEngine { .. } => kind == Kind::Change,
        _ => about_bundle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::fault::Fault;

    #[test]
    fn what_counts_as_a_refusal() {
        let untrusted = || Error::from(ErrorKind::CustodyMissing { expected: "x".into() });
        let unfit = || Error::from(ErrorKind::Unfit { why: "x".into() });
        let locked = || Error::from(ErrorKind::Locked { holder: "x".into() });
        let usage = || Error::from(ErrorKind::Usage { why: "x".into() });
        let full = || Error::from(Fault::Unwritable { why: "x".into() });
        let lost = || Error::from(ErrorKind::ReaderLost { how: "x".into() });
        for (error, change, look) in [
            (untrusted(), true, true),
            (unfit(), true, false),
            (locked(), true, false),
            (usage(), false, false),
            (full(), false, false),
            (lost(), true, true),
        ] {
            assert_eq!((is_refusal(Kind::Change, &error), is_refusal(Kind::Look, &error)), (change, look), "{error}");
        }
    }
}
