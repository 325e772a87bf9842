//! `custody show`: the chain as it claims to be, or as a trust root proves it.

use bundle_format::custody::{Record, UnverifiedCustody};
use bundle_format::root::{RootEnvelope, TrustedRoot};
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::text::escaped;

use crate::error::Result;

/// The chain as lines that are safe to print.
pub fn lines(chain: &UnverifiedCustody) -> Vec<String> {
    let mut lines = vec!["claimed by the chain; nothing of it is verified here (use: installer custody verify)".into()];
    for (record, place) in chain.claimed().zip(1..) {
        lines.extend(record_lines(record));
        let keys: Vec<String> = chain.signatures(place).iter().map(|signature| signature.key.to_string()).collect();
        lines.push(if keys.is_empty() { "  nobody signed".into() } else { format!("  signed     {}", keys.join(" ")) });
    }
    lines.iter().map(|line| escaped(line)).collect()
}

fn record_lines(record: &Record) -> Vec<String> {
    let person = |person: &bundle_format::custody::Person| {
        let holder = person.holder.as_ref().map_or_else(String::new, |holder| format!(", keys of {holder}"));
        format!("{} ({}, {}{holder})", person.name, person.id, person.role)
    };
    let mut lines = vec![
        format!("record {}  {}  log {}", record.number, record.at, record.log_number),
        format!("  set        {} of {} {} ({})", record.set, record.product, record.release, record.marking),
        format!(
            "  {:<11} {} [{}] to {} [{}]",
            record.direction.name(),
            record.from.system,
            record.from.marking,
            record.to.system,
            record.to.marking
        ),
        format!("  giver      {}", person(&record.people.giver)),
        format!("  receiver   {}", person(&record.people.receiver)),
    ];
    lines.extend(record.media.iter().map(|medium| {
        let closed = if medium.finalised { "finalised" } else { "not finalised" };
        format!("  medium     {} {} with {} volumes, {closed}", medium.kind, medium.label, medium.volumes.len())
    }));
    lines.push(format!("  files      {}", record.files.len()));
    lines.extend(record.scans.iter().map(|scan| {
        format!(
            "  scan       {} by {} ({}, signatures {})",
            scan.result.name(),
            scan.scanner,
            scan.version,
            scan.signatures
        )
    }));
    lines
}

/// Who signed each record, as `root` proves it. The root is the caller's to vouch for.
pub fn verified(chain: &UnverifiedCustody, root: &RootEnvelope) -> Result<Vec<String>> {
    let trusted = TrustedRoot::anchor(root, &root.claimed().fingerprint())?;
    let verified = chain.clone().verify(&trusted, AlgorithmPolicy::default())?;
    let mut lines = vec![format!("judged by trust root version {}: the chain is whole", root.claimed().version())];
    let signers = verified.records().iter().zip(verified.signers());
    lines.extend(signers.map(|(record, names)| format!("  record {} signed by {}", record.number, names.join(", "))));
    Ok(lines)
}
