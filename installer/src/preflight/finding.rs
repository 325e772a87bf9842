//! What a look finds: what is there, what is needed, why it matters, how to mend it.

use crate::error::{ErrorKind, Result};

/// How a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but a person should know.
    Warn,
    /// Installing would fail, or break something.
    Fail,
}

impl Severity {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Whether a person may go past a failed finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// By its name and a reason, which go on record.
    Named,
    /// Never: what follows could not end well, or could not be trusted.
    Never,
}

/// One thing that is looked at: its stable id, and what a person must know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Stable id; `docs/operator/preflight.md` lists them all.
    pub id: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// How to mend it.
    pub advice: &'static str,
    /// Whether a person may go past it.
    pub door: Door,
}

/// What was found of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// Which of several things of a kind: a port, a name, a program.
    pub part: Option<String>,
    /// How it weighs.
    pub severity: Severity,
    /// What is there.
    pub found: String,
    /// What is needed.
    pub needed: String,
    /// Why a person goes past it.
    pub accepted: Option<String>,
}

impl Check {
    /// A finding of this check.
    pub fn finding(self, severity: Severity, found: impl Into<String>, needed: impl Into<String>) -> Finding {
        Finding { check: self, part: None, severity, found: found.into(), needed: needed.into(), accepted: None }
    }

    /// Failed unless it is fit.
    pub fn must(self, fit: bool, found: impl Into<String>, needed: impl Into<String>) -> Finding {
        self.finding(if fit { Severity::Ok } else { Severity::Fail }, found, needed)
    }

    /// A warning unless it is fit.
    pub fn should(self, fit: bool, found: impl Into<String>, needed: impl Into<String>) -> Finding {
        self.finding(if fit { Severity::Ok } else { Severity::Warn }, found, needed)
    }
}

impl Finding {
    /// The finding is about one of several things of its kind.
    #[must_use]
    pub fn of(mut self, part: impl Into<String>) -> Self {
        self.part = Some(part.into());
        self
    }

    /// The name by which it is accepted: the check's id, with `:PART` where there are several.
    pub fn id(&self) -> String {
        match &self.part {
            Some(part) => format!("{}:{part}", self.check.id),
            None => self.check.id.to_owned(),
        }
    }

    /// Whether it stands in the way.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Fail && self.accepted.is_none()
    }

    fn line(&self) -> String {
        let word = match (self.severity, &self.accepted) {
            (Severity::Ok, _) => "ok  ",
            (Severity::Warn, _) => "WARN",
            (Severity::Fail, None) => "FAIL",
            (Severity::Fail, Some(_)) => "PAST",
        };
        let mut line = format!("{word} {:<18} found {}, needed {}", self.id(), self.found, self.needed);
        if self.severity != Severity::Ok {
            line = format!("{line}\n       why: {}\n       mend: {}", self.check.why, self.check.advice);
        }
        if let Some(reason) = &self.accepted {
            line = format!("{line}\n       accepted: {reason}");
        }
        line
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id(), "severity": self.severity.word(), "found": self.found, "needed": self.needed,
            "why": self.check.why, "advice": self.check.advice,
            "acceptable": self.check.door == Door::Named, "accepted": self.accepted,
        })
    }
}

/// An error that names every failed finding that was not accepted; exit 6.
pub fn refuse_unfit(findings: &[Finding]) -> Result<()> {
    let told = |f: &Finding| format!("{}: found {}, needed {}; {}", f.id(), f.found, f.needed, f.check.advice);
    let failed: Vec<String> = findings.iter().filter(|finding| finding.refuses()).map(told).collect();
    if failed.is_empty() { Ok(()) } else { Err(ErrorKind::Unfit { why: failed.join(" | ") }.into()) }
}

/// The findings as lines for a person.
pub fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().flat_map(|finding| finding.line().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The findings for machines.
pub fn to_json(findings: &[Finding]) -> serde_json::Value {
    serde_json::json!({"findings": findings.iter().map(Finding::to_json).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Check = Check { id: "port", why: "W", advice: "A", door: Door::Named };

    #[test]
    fn failed_findings_refuse_and_are_named() {
        let good = CHECK.must(true, "free", "free");
        let warned = CHECK.should(false, "x", "y").of("2");
        refuse_unfit(&[good.clone(), warned.clone()]).unwrap();
        let bad = CHECK.must(false, "in use", "free").of("0.0.0.0:1");
        let error = refuse_unfit(&[good.clone(), warned.clone(), bad.clone()]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Unfit { why } if why == "port:0.0.0.0:1: found in use, needed free; A"),
            "{error}"
        );
        assert_eq!(error.class().exit_code(), 6);
        let lines = lines(&[good, warned, bad.clone()]);
        assert_eq!(lines.len(), 1 + 3 + 3, "{lines:#?}");
        assert!(lines[4].starts_with("FAIL port:0.0.0.0:1") && lines[5].ends_with("why: W"), "{lines:#?}");
        let json = to_json(std::slice::from_ref(&bad));
        assert_eq!(
            (&json["findings"][0]["id"], &json["findings"][0]["severity"]),
            (&"port:0.0.0.0:1".into(), &"fail".into())
        );
        let accepted = Finding { accepted: Some("reason".into()), ..bad };
        refuse_unfit(&[accepted]).unwrap();
    }
}
