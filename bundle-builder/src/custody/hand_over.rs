//! `custody hand-over`: hashes the set, has it scanned, and writes the next record, unsigned.

use std::path::PathBuf;

use bundle_format::custody::{Direction, FORMAT, Medium, People, Record, System, UnverifiedCustody, report_name};
use bundle_format::timestamp::Timestamp;

use crate::custody::folder::SetFolder;
use crate::custody::scan::Scanner;
use crate::error::{ErrorKind, Result};

/// What the two people fill in.
#[derive(Debug, Clone)]
pub struct HandOver {
    /// Number in the office's transfer log.
    pub log_number: String,
    /// When.
    pub at: Timestamp,
    /// From which system.
    pub from: System,
    /// To which system.
    pub to: System,
    /// Who owns the data.
    pub data_owner: String,
    /// Why.
    pub justification: String,
    /// Letter of appointment.
    pub appointment: String,
    /// Media.
    pub media: Vec<Medium>,
    /// Both people.
    pub people: People,
    /// What becomes of the media.
    pub disposition: Option<String>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Number of the record.
    pub number: u64,
    /// Whether it took the place of one that nobody had signed.
    pub replaced: bool,
}

/// Writes the next record of the folder's chain. A newest record that nobody signed is a draft and
/// is replaced. Nothing is written unless the files are as listed, the record is consistent and the
/// scanner, if there is one, found the set clean.
pub fn hand_over(
    folder: &SetFolder,
    given: HandOver,
    scanner: Option<&Scanner>,
    progress: &mut dyn FnMut(u64),
) -> Result<Written> {
    let mut chain = folder.chain()?.unwrap_or_default();
    let replaced = chain.withdraw_draft().is_some();
    chain.check()?;
    let (number, previous) = chain.next_link()?;
    let mut record = draft(folder, given, number, previous)?;
    // Before the long work: what is refused anyway is refused now.
    bundle_format::custody::check_against_list(&record, folder.list())?;
    chain.clone().push(record.clone())?;
    folder.hash(progress)?;
    if let Some(scanner) = scanner {
        let files: Vec<PathBuf> = record.files.iter().map(|file| folder.join(&file.name)).collect();
        let report = scanner.scan(number, &files, &record.at)?;
        folder.write(&report_name(number), &report.text)?;
        record.scans.push(report.scan);
    } else if replaced {
        folder.remove(&report_name(number))?;
    }
    chain.push(record)?;
    folder.write_chain(&chain)?;
    Ok(Written { number, replaced })
}

fn draft(
    folder: &SetFolder,
    given: HandOver,
    number: u64,
    previous: Option<bundle_format::digest::Sha384>,
) -> Result<Record> {
    let list = folder.list();
    Ok(Record {
        format: FORMAT.into(),
        number,
        previous,
        set: list.set.clone(),
        manifest_sha384: list.manifest_sha384,
        product: list.product.clone(),
        release: list.release.clone(),
        sequence: list.sequence,
        marking: list.marking.clone(),
        log_number: given.log_number,
        at: given.at,
        direction: Direction::between(&given.from.marking, &given.to.marking),
        from: given.from,
        to: given.to,
        data_owner: given.data_owner,
        justification: given.justification,
        appointment: given.appointment,
        media: given.media,
        files: folder.recorded()?,
        scans: Vec::new(),
        people: given.people,
        disposition: given.disposition,
    })
}

/// The chain of a folder that must have one.
pub fn required_chain(folder: &SetFolder) -> Result<UnverifiedCustody> {
    let none = || ErrorKind::Usage("the set has no chain of custody yet; begin it with custody hand-over".into());
    Ok(folder.chain()?.ok_or_else(none)?)
}
