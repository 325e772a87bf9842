//! The hash card: digests in groups of four, for comparing by eye on the other side.

use bundle_format::custody::Record;
use bundle_format::text::groups_of_four;

use crate::error::Result;
use crate::papers::form::{Digest, Form};
use crate::papers::page::Document;

/// Sets the card on new pages.
pub fn set(document: &mut Document, record: &Record) -> Result<()> {
    document.next_page()?;
    let mut form = Form::new(document, &format!("hash card of set {}", record.set));
    form.title("HASH CARD");
    form.words(
        "Carry this paper apart from the media. Compare group by group; one group that differs is enough to refuse.",
    )?;
    form.field("Product", &format!("{} {} (sequence {})", record.product, record.release, record.sequence))?;
    form.field("Marking", &record.marking.to_string())?;
    form.field("Set", &groups_of_four(&record.set))?;
    form.heading("The bundle: SHA-384 of its manifest, as installer verify prints it")?;
    form.digest("manifest.json", &record.manifest_sha384.to_string(), Digest::Large)?;
    form.heading("The files: SHA-384, as sha384sum prints it")?;
    for file in &record.files {
        form.digest(&format!("{}  {} bytes", file.name, file.size), &file.sha384.to_string(), Digest::Small)?;
    }
    Ok(())
}
