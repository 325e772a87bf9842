//! Plans that go past a refusal, and two persons' approvals of them (spec 4.6).
//!
//! What may hurt it: one person who plays two, an approval of another plan, machine or time, a
//! revoked key. Who defends: the exact bytes of the plan are what is approved, and they name machine,
//! bundle and what is gone past; keys are counted by the one threshold function in the role
//! `approve`; holders differ; an approval holds for a day.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Sha384;
use crate::root::{Role, TrustedRoot};
use crate::signature::{AlgorithmPolicy, Signature, Signed, verify_threshold_over};
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result, limits, signed};

/// The `format` value of a plan.
pub const PLAN_FORMAT: &str = "lockgate-plan/1";
/// The `format` value of an approval.
pub const FORMAT: &str = "lockgate-approval/1";
const ENVELOPE_FORMAT: &str = "lockgate-approval-envelope/1";

/// A refusal that two persons may decide to go past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// The bundle, or its trust root, is past its expiry.
    AcceptExpired,
    /// The bundle's sequence is below the floor.
    AcceptRollback,
}

impl Override {
    /// Its name in documents; the flag is `--dangerous-` and this.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcceptExpired => "accept-expired",
            Self::AcceptRollback => "accept-rollback",
        }
    }

    /// The override of a name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::AcceptExpired, Self::AcceptRollback].into_iter().find(|known| known.name() == name)
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a change would do: the document whose SHA-384 is approved. It holds nothing that differs
/// between two looks at the same machine, such as times or free space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanDocument {
    /// [`PLAN_FORMAT`].
    pub format: String,
    /// SHA-384 of the machine's public key (`installer audit key`); empty before it has one.
    pub machine: String,
    /// `install`, `rollback`, …
    pub act: String,
    /// The product.
    pub product: String,
    /// Release and sequence that run; empty for none.
    pub from: String,
    /// Release and sequence that come.
    pub to: String,
    /// The bundle's marking.
    pub marking: String,
    /// The bundle's identity.
    pub manifest_sha384: String,
    /// Anti-rollback floor of the product.
    pub floor: u64,
    /// The bundle's expiry.
    pub expires: Option<Timestamp>,
    /// The trust root that judges it.
    pub root_version: u64,
    /// That root's expiry.
    pub root_expires: Option<Timestamp>,
    /// What is gone past.
    pub dangerous: BTreeSet<Override>,
    /// The steps, in words.
    pub steps: Vec<String>,
}

impl PlanDocument {
    /// The exact bytes that are approved.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        crate::json::to_bytes("plan", self)
    }

    /// Parses a plan in canonical form.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let plan: Self = crate::json::parse_canonical("plan", bytes, limits::APPROVAL_BYTES)?;
        check_format("plan", PLAN_FORMAT, &plan.format)?;
        crate::marking::Marking::parse(&plan.marking)?;
        Ok(plan)
    }
}

/// One person's approval of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    format: String,
    plan_sha384: Sha384,
    holder: String,
    reason: String,
    at: Timestamp,
}

impl Approval {
    /// What `holder` is about to sign: `reason` is a line of text.
    pub fn new(plan: Sha384, holder: &str, reason: &str, at: Timestamp) -> Result<Self> {
        let approval =
            Self { format: FORMAT.into(), plan_sha384: plan, holder: holder.into(), reason: reason.into(), at };
        approval.check()?;
        Ok(approval)
    }

    fn check(&self) -> Result<()> {
        check_format("approval", FORMAT, &self.format)?;
        crate::name::check_label("approver", &self.holder)?;
        if self.reason.trim().is_empty() {
            let (what, expected) = ("reason of an approval".into(), "a reason".into());
            return Err(ErrorKind::BadValue { what, expected, found: self.reason.clone() }.into());
        }
        crate::manifest::check_line("reason of an approval", &self.reason)
    }

    /// Who.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When.
    pub const fn at(&self) -> &Timestamp {
        &self.at
    }
}

/// An approval with its signatures; nothing of it is proved.
#[derive(Debug, Clone)]
pub struct UnverifiedApproval {
    payload: Vec<u8>,
    approval: Approval,
    signatures: Vec<Signature>,
}

impl UnverifiedApproval {
    /// An approval without signatures.
    pub fn new(approval: Approval) -> Result<Self> {
        let payload = crate::json::to_bytes("approval", &approval)?;
        Ok(Self { payload, approval, signatures: Vec::new() })
    }

    /// The exact bytes to sign.
    pub fn document(&self) -> &[u8] {
        &self.payload
    }

    /// The signed comment of its minisign signature.
    pub fn comment(&self) -> String {
        format!("lockgate approval plan={}", self.approval.plan_sha384)
    }

    /// What it claims.
    pub const fn claimed(&self) -> &Approval {
        &self.approval
    }

    /// Adds a signature; a former one by the same key is replaced.
    pub fn add(&mut self, signature: Signature) {
        signed::add(&mut self.signatures, signature);
    }

    /// The file form.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        signed::to_bytes(ENVELOPE_FORMAT, "approval envelope", &self.payload, &self.signatures)
    }

    /// Parses the file form; any other text for the same content is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (payload, signatures) = signed::parse(ENVELOPE_FORMAT, "approval envelope", bytes, limits::APPROVAL_BYTES)?;
        let approval: Approval = crate::json::parse_canonical("approval", &payload, limits::APPROVAL_BYTES)?;
        approval.check()?;
        Ok(Self { payload, approval, signatures })
    }
}

/// Approvals that hold for one plan now. Only [`verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedApprovals {
    approvals: Vec<Approval>,
}

impl VerifiedApprovals {
    /// The approvals, as they were given.
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }
}

/// Proves that enough approvers of `root` approved the plan with this SHA-384 (spec 4.6): every
/// signature, the threshold of the role `approve` over all documents together, one holder for each
/// document, the plan, the time.
pub fn verify(
    approvals: &[UnverifiedApproval],
    plan: &Sha384,
    root: &TrustedRoot,
    policy: AlgorithmPolicy,
    now: &Timestamp,
) -> Result<VerifiedApprovals> {
    let root = root.root();
    let names: Vec<String> = (1..=approvals.len()).map(|number| format!("approval {number}")).collect();
    let documents: Vec<Signed<'_>> = approvals
        .iter()
        .zip(&names)
        .map(|(given, what)| Signed { what, document: &given.payload, signatures: &given.signatures })
        .collect();
    verify_threshold_over(&documents, root, &[Role::Approve], policy)?;
    let mut holders = BTreeSet::new();
    for given in approvals {
        let (approval, holder) = (&given.approval, given.approval.holder.clone());
        if let Some(other) = given.signatures.iter().find(|s| root.holder_of(s.key) != Some(approval.holder.as_str())) {
            return Err(ErrorKind::ApprovalHolder { holder, key: other.key.to_string() }.into());
        }
        crate::envelope::check_comments(&given.signatures, &given.comment())?;
        if !holders.insert(holder.clone()) {
            return Err(ErrorKind::ApprovalSamePerson { holder }.into());
        }
        if approval.plan_sha384 != *plan {
            let (expected, found) = (plan.to_string(), approval.plan_sha384.to_string());
            return Err(ErrorKind::ApprovalPlan { holder, expected, found }.into());
        }
        if approval.at.to_unix().abs_diff(now.to_unix()) > limits::APPROVAL_SECONDS {
            let (at, now, hours) = (approval.at.to_string(), now.to_string(), limits::APPROVAL_SECONDS / 3600);
            return Err(ErrorKind::ApprovalStale { holder, at, now, hours }.into());
        }
    }
    Ok(VerifiedApprovals { approvals: approvals.iter().map(|given| given.approval.clone()).collect() })
}

fn check_format(what: &str, expected: &str, found: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(ErrorKind::UnknownFormat { what: what.into(), expected: expected.into(), found: found.into() }.into())
}
