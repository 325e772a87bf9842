//! Acts that were not let begin, or failed before anything of them was on record: what the command line
//! knows of them then.

use std::cell::RefCell;

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
}

/// Whether an act changes the system, or only looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It changes the system: every refusal is of interest.
    Change,
    /// It changes nothing that runs, but it is a duty that may not fail unseen: a backup, a check. Every
    /// failure is of interest.
    Duty,
    /// It looks at a bundle: only what is wrong with the bundle is.
    Look,
}

impl Act {
    /// The bundle is proved to be this.
    pub fn seen(&self, product: &str, release: &str, manifest: &Sha384) {
        *self.seen.borrow_mut() = Some((product.to_owned(), release.to_owned(), *manifest));
    }

    /// Records that the act was refused, or that a duty failed, if nothing of it is on record and this
    /// machine has a trust root: before that, nothing here is worth a record.
    pub fn refused(&self, paths: &Paths, act: &str, kind: Kind, error: &Error) {
        let Some(result) = outcome(kind, error).filter(|_| !super::is_on_record() && is_rooted(paths)) else { return };
        let mut record = Record::new(&clock(), act, result).detail(&told(error));
        if let Some((product, release, manifest)) = &*self.seen.borrow() {
            record = record.of(product, release).subject(manifest);
        }
        append_or_warn(paths, &record);
    }
}

/// Whether this machine has a trust root.
pub(super) fn is_rooted(paths: &Paths) -> bool {
    let root = || State::open(&paths.database()).and_then(|state| state.latest_root());
    paths.database().exists() && matches!(root(), Ok(Some(_)))
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

/// What the error of an act is on record as, if it is.
fn outcome(kind: Kind, error: &Error) -> Option<Outcome> {
    let about_bundle = matches!(error.class(), Class::Damaged | Class::Untrusted | Class::Policy);
    let refused = match error.kind() {
        // The log itself is what is wrong, and the error says so.
        ErrorKind::Audit(_) => return None,
        // Whatever it was that ended a reader, it came out of what was read.
        ErrorKind::ReaderLost { .. } => true,
        ErrorKind::Locked { .. }
        | ErrorKind::Unfit { .. }
        | ErrorKind::NoEngine { .. }
        | ErrorKind::Unfinished { .. } => kind != Kind::Look,
        // A backup is no bundle: one that is damaged is found, not refused.
        ErrorKind::BadBackup { .. } if kind == Kind::Duty => false,
        _ => about_bundle,
    };
    let failed = kind == Kind::Duty && error.class() != Class::Usage;
    if refused { Some(Outcome::Refused) } else { failed.then_some(Outcome::Failed) }
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
        let open = || Error::from(ErrorKind::Unfinished { act: "x".into(), product: "p".into(), phase: "trial" });
        let backup = || Error::from(ErrorKind::BadBackup { path: "x".into(), why: "x".into() });
        let disk = || Error::from(ErrorKind::DiskFull { what: "x".into() });
        let (refused, failed) = (Some(Outcome::Refused), Some(Outcome::Failed));
        for (error, change, duty, look) in [
            (untrusted(), refused, refused, refused),
            (unfit(), refused, refused, None),
            (locked(), refused, refused, None),
            (open(), refused, refused, None),
            (backup(), refused, failed, refused),
            (disk(), None, failed, None),
            (usage(), None, None, None),
            (full(), None, None, None),
            (lost(), refused, refused, refused),
        ] {
            for (kind, expected) in [(Kind::Change, change), (Kind::Duty, duty), (Kind::Look, look)] {
                assert_eq!(outcome(kind, &error), expected, "{kind:?}: {error}");
            }
        }
    }
}
