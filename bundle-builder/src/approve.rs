//! `approve`: one person's approval of a plan that goes past a refusal (spec 4.6), made on a machine
//! of their own.
//!
//! What may hurt it: a person who signs without having read. Who defends: the plan is shown in words,
//! what it goes past first, and the reason is asked for.

use std::path::Path;

use bundle_format::approval::{Approval, PlanDocument, UnverifiedApproval};
use bundle_format::digest::Sha384;
use bundle_format::limits;
use bundle_format::text::{escaped, groups_of_four};
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;

use crate::error::{Error, ErrorKind, Result};

/// A plan as a person got it.
#[derive(Debug)]
pub struct ReadPlan {
    plan: PlanDocument,
    sha384: Sha384,
}

impl ReadPlan {
    /// Reads the file that `installer plan --out` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path.display().to_string(), e);
        let bytes = confinement::read_regular(path, limits::APPROVAL_BYTES).map_err(io)?;
        let plan = PlanDocument::parse(&bytes)?;
        if plan.dangerous.is_empty() {
            let why = format!("{} goes past no refusal; nobody needs to approve it", path.display());
            return Err(ErrorKind::Usage(why).into());
        }
        Ok(Self { plan, sha384: Sha384::of(&bytes) })
    }

    /// The plan.
    pub const fn plan(&self) -> &PlanDocument {
        &self.plan
    }

    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let plan = &self.plan;
        let shown = |time: &Option<Timestamp>| time.as_ref().map_or_else(|| "never".into(), ToString::to_string);
        let from = if plan.from.is_empty() { "nothing" } else { &plan.from };
        let mut lines: Vec<String> = plan.dangerous.iter().map(|what| format!("DANGEROUS: {what}")).collect();
        lines.extend([
            format!("{} of {}: from {from} to {}", plan.act, plan.product, plan.to),
            format!("  machine   SHA-384 {}", plan.machine),
            format!("  manifest  SHA-384 {}", plan.manifest_sha384),
            format!("  floor     sequence {}", plan.floor),
            format!(
                "  expires   {}; trust root version {}: {}",
                shown(&plan.expires),
                plan.root_version,
                shown(&plan.root_expires)
            ),
        ]);
        lines.extend(plan.steps.iter().zip(1..).map(|(step, number)| format!("  {number:>2}. {step}")));
        lines.push(format!("plan SHA-384 {}", groups_of_four(&self.sha384.to_string())));
        lines.iter().map(|line| escaped(line)).collect()
    }

    /// `signer`'s approval.
    pub fn approve(&self, signer: &Signer, reason: &str, at: Timestamp) -> Result<UnverifiedApproval> {
        let mut approval = UnverifiedApproval::new(Approval::new(self.sha384, signer.name(), reason, at)?)?;
        signer.sign_approval(&mut approval)?;
        Ok(approval)
    }
}
