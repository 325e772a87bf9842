//! `confirm`: reads a receipt code that a person carried back (custody 6).
//!
//! The code is compared with the bundles at hand; nothing is believed beyond "these are the digests
//! that the code names". It is not signed.

use std::io::BufReader;
use std::path::PathBuf;

use bundle_format::digest::Sha384;
use bundle_format::receipt::{Health, Prefix, Receipt};
use bundle_format::text::escaped;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::inspect;
use crate::output::open_banner;

/// What a code says about the bundles given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    receipt: Receipt,
    arrived: Option<Known>,
    installed: Option<Known>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    file: String,
    product: String,
    release: String,
    sequence: u64,
    sha384: Sha384,
}

/// Compares a code with bundles, of which the head is read and nothing is proved. The highest of
/// their markings is shown.
pub fn confirm(code: &str, bundles: &[PathBuf]) -> Result<Confirmed> {
    let receipt = Receipt::parse(code)?;
    let (mut known, mut highest) = (Vec::new(), None);
    for path in bundles {
        let file = confinement::open_regular(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        let claim = inspect::read(BufReader::new(file))?;
        let (manifest, sha384) = (claim.manifest, Sha384::of(claim.envelope.manifest_bytes()));
        if highest
            .as_ref()
            .is_none_or(|marking: &bundle_format::marking::Marking| marking.level() < manifest.marking.level())
        {
            highest = Some(manifest.marking.clone());
        }
        let file = escaped(&path.display().to_string());
        let (product, release, sequence) = (manifest.product, manifest.release, manifest.sequence);
        known.push(Known { file, product, release, sequence, sha384 });
    }
    if let Some(marking) = &highest {
        open_banner(marking);
    }
    let find = |prefix: &Prefix| known.iter().find(|bundle| prefix.matches(&bundle.sha384)).cloned();
    let confirmed = Confirmed {
        arrived: receipt.arrived.as_ref().and_then(find),
        installed: receipt.installed.as_ref().and_then(|installed| find(&installed.prefix)),
        receipt,
    };
    if confirmed.arrived.is_none() && confirmed.installed.is_none() {
        let named = |prefix: Option<Prefix>| prefix.map_or("nothing".into(), |prefix| prefix.hex());
        return Err(ErrorKind::ReceiptOfOther {
            arrived: named(confirmed.receipt.arrived),
            installed: named(confirmed.receipt.installed.map(|installed| installed.prefix)),
        }
        .into());
    }
    Ok(confirmed)
}

impl Confirmed {
    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let bundle = |known: &Option<Known>, prefix: &Prefix| {
            known.as_ref().map_or_else(
                || format!("a bundle that was not given here (manifest SHA-384 {}…)", prefix.hex()),
                |k| format!("{} {} (sequence {}), {}", k.product, k.release, k.sequence, k.file),
            )
        };
        let arrived = self.receipt.arrived.as_ref();
        let arrived = arrived.map_or("nothing was received yet".into(), |prefix| bundle(&self.arrived, prefix));
        let installed = self.receipt.installed.as_ref().map_or("nothing is installed".into(), |installed| {
            let health = match installed.health {
                Health::Healthy => "healthy",
                Health::Unhealthy => "NOT healthy",
            };
            format!("{}, {health}", bundle(&self.installed, &installed.prefix))
        });
        vec![
            format!("arrived    {arrived}"),
            format!("installed  {installed}"),
            "the code is not signed: it says what a person carried back, no more".into(),
        ]
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let known = |known: &Option<Known>| {
            known.as_ref().map(|k| {
                json!({"bundle": k.file, "product": k.product, "release": k.release, "sequence": k.sequence,
                       "manifest_sha384": k.sha384.to_string()})
            })
        };
        json!({
            "arrived": {"prefix": self.receipt.arrived.map(|p| p.hex()), "bundle": known(&self.arrived)},
            "installed": {
                "prefix": self.receipt.installed.as_ref().map(|i| i.prefix.hex()),
                "sequence": self.receipt.installed.as_ref().map(|i| i.sequence),
                "healthy": self.receipt.installed.as_ref().map(|i| i.health == Health::Healthy),
                "bundle": known(&self.installed),
            },
        })
    }
}
