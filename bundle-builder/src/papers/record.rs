//! The transfer record: every field of a hand-over, and room for ink.

use bundle_format::custody::{Person, Record};
use bundle_format::digest::Sha384;
use bundle_format::signature::Signature;

use crate::error::Result;
use crate::papers::form::{Digest, Form};
use crate::papers::page::Document;

/// Sets the record, from the current page on.
pub fn set(document: &mut Document, record: &Record, signatures: &[Signature]) -> Result<()> {
    let mut form = Form::new(document, &format!("transfer record {} of set {}", record.number, record.set));
    form.title("TRANSFER RECORD");
    form.field("Log number", &record.log_number)?;
    form.field("Date and time (Z)", record.at.as_str())?;
    form.field("Record", &format!("{} of the chain of this set", record.number))?;
    form.field("Direction", record.direction.name())?;
    form.field("From system", &format!("{} [{}]", record.from.system, record.from.marking))?;
    form.field("To system", &format!("{} [{}]", record.to.system, record.to.marking))?;
    form.field("Overall marking", &record.marking.to_string())?;
    form.field("Data owner", &record.data_owner)?;
    form.field("Justification", &record.justification)?;
    form.field("Appointment letter", &record.appointment)?;
    form.heading("Content")?;
    form.field("Product", &format!("{} {} (sequence {})", record.product, record.release, record.sequence))?;
    form.field("Set", &record.set)?;
    media(&mut form, record)?;
    scans(&mut form, record)?;
    form.heading("People")?;
    form.field("Giver", &person(&record.people.giver))?;
    form.field("Receiver", &person(&record.people.receiver))?;
    form.heading("Signatures in ink")?;
    form.signature(&format!("giver: {}", record.people.giver.name))?;
    form.signature(&format!("receiver: {}", record.people.receiver.name))?;
    form.heading("Disposition of the media")?;
    form.field("Disposition", record.disposition.as_deref().unwrap_or("(to be filled in)"))?;
    form.signature("witness")?;
    form.heading("Signatures by key")?;
    let payload = bundle_format::json::to_bytes("custody record", record)?;
    form.digest("SHA-384 of the signed record", &Sha384::of(&payload).to_string(), Digest::Small)?;
    if signatures.is_empty() {
        form.words("none when this was printed")?;
    }
    for signature in signatures {
        form.field(
            &signature.key.to_string(),
            &format!("{} (verified on import, not by this paper)", signature.scheme()),
        )?;
    }
    form.heading("Files")?;
    for file in &record.files {
        form.digest(&format!("{}  {} bytes", file.name, file.size), &file.sha384.to_string(), Digest::Small)?;
    }
    Ok(())
}

fn media(form: &mut Form<'_>, record: &Record) -> Result<()> {
    form.heading("Media")?;
    for medium in &record.media {
        let volumes: Vec<String> = medium.volumes.iter().map(ToString::to_string).collect();
        let finalised = if medium.finalised { "yes" } else { "no" };
        form.field(
            &medium.kind,
            &format!("serial or label {}; finalised: {finalised}; volumes {}", medium.label, volumes.join(" ")),
        )?;
    }
    Ok(())
}

fn scans(form: &mut Form<'_>, record: &Record) -> Result<()> {
    form.heading("Scans for malicious code")?;
    if record.scans.is_empty() {
        form.words("none on record; by other means: ______________________________")?;
    }
    for scan in &record.scans {
        form.field("Scanner", &format!("{}, {}", scan.scanner, scan.version))?;
        form.field("Signatures", &scan.signatures)?;
        form.field("Result", &format!("{} at {}", scan.result.name(), scan.at))?;
        form.digest("SHA-384 of the scanner's report", &scan.report_sha384.to_string(), Digest::Small)?;
    }
    Ok(())
}

fn person(person: &Person) -> String {
    let holder = person.holder.as_ref().map_or_else(String::new, |holder| format!("; keys of {holder}"));
    format!("{}; {}; {}{holder}", person.name, person.id, person.role)
}
