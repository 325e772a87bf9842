//! Going past a failed finding: by its name, with a reason, on record. There is no other way.

use bundle_format::digest::Sha384;
use bundle_format::timestamp::Timestamp;

use super::finding::{Door, Finding, Severity};
use crate::audit::{Outcome, Record};
use crate::error::{ErrorKind, Result};
use crate::state::State;

/// A finding that a person goes past, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    id: String,
    reason: String,
}

/// What a command takes from its caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// Goes past the failed finding of that id, for that reason; both go on record.
    #[arg(long, value_name = "ID=REASON", value_parser = Acceptance::parse)]
    pub accept: Vec<Acceptance>,
}

impl Acceptance {
    /// Parses `ID=REASON`; the reason is not empty.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=').map(|(id, reason)| (id.trim(), reason.trim())) {
            Some((id, reason)) if !id.is_empty() && !reason.is_empty() => {
                Ok(Self { id: id.to_owned(), reason: reason.to_owned() })
            }
            _ => Err("expected ID=REASON; preflight names the ids".into()),
        }
    }
}

impl Options {
    /// Marks the findings that are accepted. An id that stands for no failed finding is a mistake, and
    /// some doors stay shut.
    pub fn apply(&self, findings: &mut [Finding]) -> Result<()> {
        for acceptance in &self.accept {
            let failed = findings.iter_mut().find(|f| f.severity == Severity::Fail && f.id() == acceptance.id);
            let id = bundle_format::text::escaped(&acceptance.id);
            let Some(finding) = failed else {
                return Err(ErrorKind::Usage { why: format!("--accept {id}: no failed finding has this id") }.into());
            };
            if finding.check.door == Door::Never {
                return Err(ErrorKind::NeverAccepted { id }.into());
            }
            finding.accepted = Some(acceptance.reason.clone());
        }
        Ok(())
    }
}

/// Puts every accepted finding on record, before anything relies on it.
pub fn record(
    state: &State,
    findings: &[Finding],
    now: &Timestamp,
    (product, release): (&str, &str),
    manifest: &Sha384,
) -> Result<()> {
    for finding in findings {
        let Some(reason) = &finding.accepted else { continue };
        let detail = format!("{}: found {}, needed {}; reason: {reason}", finding.id(), finding.found, finding.needed);
        let record = Record::new(now, "preflight accept", Outcome::Ok).of(product, release);
        state.audit()?.append(&record.subject(manifest).detail(&detail))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Check, refuse_unfit};
    use super::*;

    const OPEN: Check = Check { id: "port", why: "", advice: "", door: Door::Named };
    const SHUT: Check = Check { id: "user", why: "", advice: "", door: Door::Never };

    fn findings() -> Vec<Finding> {
        vec![
            OPEN.must(false, "x", "y").of("127.0.0.1:80"),
            OPEN.must(true, "x", "y").of("127.0.0.1:81"),
            SHUT.must(false, "x", "y"),
        ]
    }

    fn options(texts: &[&str]) -> Options {
        Options { accept: texts.iter().map(|text| Acceptance::parse(text).unwrap()).collect() }
    }

    #[test]
    fn names_and_reasons() {
        for bad in ["port", "port=", "=why", "port= ", ""] {
            assert!(Acceptance::parse(bad).is_err(), "{bad}");
        }
        let mut found = findings();
        options(&["port:127.0.0.1:80=moves tonight = agreed"]).apply(&mut found).unwrap();
        assert_eq!(found[0].accepted.as_deref(), Some("moves tonight = agreed"));
        found.pop();
        refuse_unfit(&found).unwrap();
        for unknown in ["port=why", "port:127.0.0.1:81=it is fine already", "nothing=why"] {
            let error = options(&[unknown]).apply(&mut findings()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage { .. }), "{unknown}: {error}");
        }
    }

    #[test]
    fn some_doors_stay_shut() {
        let error = options(&["user=I am sure"]).apply(&mut findings()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NeverAccepted { id } if id == "user"), "{error}");
        assert_eq!(error.class().exit_code(), 5);
    }

    #[test]
    fn what_is_accepted_is_on_record() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let mut found = findings();
        options(&["port:127.0.0.1:80=moves tonight"]).apply(&mut found).unwrap();
        record(&state, &found, &Timestamp::from_unix(1), ("p", "1"), &Sha384::of(b"m")).unwrap();
        let entries = state.history(10).unwrap();
        let last = entries.last().unwrap();
        assert_eq!((entries.len(), last.act.as_str()), (2, "preflight accept"));
        assert_eq!(last.detail, "port:127.0.0.1:80: found x, needed y; reason: moves tonight");
    }
}
