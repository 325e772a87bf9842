//! Going past a refusal: flags that begin with `--dangerous-`, and two persons' approvals of the exact
//! plan (spec 4.6). Nothing else opens these doors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bundle_format::approval::{self, Override, UnverifiedApproval, VerifiedApprovals};
use bundle_format::limits;

use crate::error::{Error, ErrorKind, Result};
use crate::moment::Moment;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::proof::ProvedBundle;
use crate::state::State;

/// The flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Flags {
    /// Goes past the expiry of the bundle or its trust root; two persons must approve the plan.
    #[arg(long)]
    dangerous_accept_expired: bool,
    /// Goes past the anti-rollback floor; two persons must approve the plan.
    #[arg(long)]
    dangerous_accept_rollback: bool,
}

/// What is gone past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dangerous {
    set: BTreeSet<Override>,
}

impl Flags {
    /// What they say.
    pub fn dangerous(&self) -> Dangerous {
        let flags = [
            (Override::AcceptExpired, self.dangerous_accept_expired),
            (Override::AcceptRollback, self.dangerous_accept_rollback),
        ];
        Dangerous { set: flags.into_iter().filter(|(_, given)| *given).map(|(what, _)| what).collect() }
    }
}

impl Dangerous {
    /// What the journal says of a run.
    pub fn parse(text: &str) -> Result<Self> {
        let names = text.split(',').filter(|name| !name.is_empty());
        let one = |name: &str| {
            let (what, expected) = ("journal: what a run goes past".into(), "a known name".into());
            let unknown = || ErrorKind::Unexpected { what, expected, found: bundle_format::text::escaped(name) };
            Ok(Override::of(name).ok_or_else(unknown)?)
        };
        Ok(Self { set: names.map(one).collect::<Result<_>>()? })
    }

    /// As the journal keeps it.
    pub fn text(&self) -> String {
        self.set.iter().map(|what| what.name()).collect::<Vec<_>>().join(",")
    }

    /// Whether this is gone past.
    pub fn holds(&self, what: Override) -> bool {
        self.set.contains(&what)
    }

    /// All of it.
    pub const fn set(&self) -> &BTreeSet<Override> {
        &self.set
    }
}

/// A plan that may be walked: it goes past nothing, or two persons approved it. Only [`permit`] makes it.
#[derive(Debug)]
pub struct Permitted {
    plan: Plan,
    approvals: Option<VerifiedApprovals>,
}

impl Permitted {
    /// The plan.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is gone past, who approved it, when and why, for the record; nothing where nothing is.
    pub fn line(&self) -> Option<String> {
        let approvals = self.approvals.as_ref()?.approvals();
        let person = |a: &approval::Approval| format!("{} at {}: {}", a.holder(), a.at(), a.reason());
        let persons: Vec<String> = approvals.iter().map(person).collect();
        Some(format!("DANGEROUS {}; approved by {}", self.plan.dangerous().text(), persons.join("; ")))
    }
}

/// Judges the approvals of `plan`, if it needs any: by the newest root, the site's algorithms, and the
/// time of this run. Files that are not needed are refused.
pub fn permit(plan: Plan, files: &[PathBuf], bundle: &ProvedBundle, state: &State) -> Result<Permitted> {
    if plan.dangerous().set().is_empty() {
        if files.is_empty() {
            return Ok(Permitted { plan, approvals: None });
        }
        return Err(ErrorKind::Usage { why: "--approval without a --dangerous- flag".into() }.into());
    }
    let given = files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let (root, algorithms) = (bundle.verified().root(), Policy::of(state)?.algorithms());
    let approvals = approval::verify(&given, &plan.sha384()?, root, algorithms, Moment::read(state)?.now())?;
    Ok(Permitted { plan, approvals: Some(approvals) })
}

fn read(path: &Path) -> Result<UnverifiedApproval> {
    let io = |e| Error::io(path.display().to_string(), e);
    let bytes = confinement::read_regular(path, limits::APPROVAL_BYTES).map_err(io)?;
    Ok(UnverifiedApproval::parse(&bytes)?)
}
