//! `papers`: the transfer record, the media labels and the hash card of a set as one PDF
//! (`docs/operator/transfer-papers.md`).
//!
//! Printed from the same record that is signed, so that paper and record cannot differ by a typing
//! mistake. Same record, same bytes: no clock, no font of this machine.

pub mod card;
pub mod form;
pub mod labels;
pub mod page;
pub mod record;

use std::path::Path;

use crate::cli::{print, print_json};
use crate::custody::folder::{SetFolder, write_file};
use crate::custody::hand_over::required_chain;
use crate::error::{ErrorKind, Result};
use crate::output::open_banner;
use crate::papers::page::Document;

/// Writes the papers of a record (default: the newest) and says so.
pub fn run(path: &Path, out: &Path, number: Option<u64>, json: bool) -> Result<()> {
    let folder = SetFolder::open(path)?;
    open_banner(&folder.list().marking);
    let (bytes, number) = papers(&folder, number)?;
    write_file(out, &bytes)?;
    if json {
        return print_json(&serde_json::json!({"papers": out, "record": number, "bytes": bytes.len()}));
    }
    print(&[format!("wrote {}: transfer record {number}, media labels, hash card", out.display())])
}

/// The PDF of a record, and the record's number. The chain must be consistent and of this set.
pub fn papers(folder: &SetFolder, number: Option<u64>) -> Result<(Vec<u8>, u64)> {
    let chain = required_chain(folder)?;
    chain.check()?;
    let count = u64::try_from(chain.claimed().len()).unwrap_or(u64::MAX);
    let number = number.unwrap_or(count);
    let found = chain.claimed().zip(1usize..).find(|(record, _)| record.number == number);
    let (record, place) =
        found.ok_or_else(|| ErrorKind::Usage(format!("there is no record {number}; the chain has {count}")))?;
    bundle_format::custody::check_against_list(record, folder.list())?;
    let title = format!("{} {}: transfer record {number}", record.product, record.release);
    let mut document = Document::new(&title, &record.marking)?;
    record::set(&mut document, record, chain.signatures(place))?;
    labels::set(&mut document, record, folder.list())?;
    card::set(&mut document, record)?;
    Ok((document.finish(), number))
}
