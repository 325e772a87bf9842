//! The chain of custody on the high side (`docs/spec/custody.md`, 4 and 7).
//!
//! Threat: a set that came by other hands, or with other files, than its papers say. The site's
//! policy is in the trust root: where it names transfer agents, a chain is required and must prove;
//! where it names none, a chain proves nothing and is never shown as if it did.

use std::path::{Path, PathBuf};

use bundle_format::custody::{self, Difference, UnverifiedCustody, VerifiedCustody};
use bundle_format::digest::Sha384;
use bundle_format::limits;
use bundle_format::root::{Role, TrustedRoot};
use bundle_format::set::{self, SetList};
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::text::{escaped, groups_of_four};
use confinement::{open_regular, read_regular};

use crate::error::{Error, ErrorKind, Result};

/// A file on hand: name, bytes, SHA-384.
pub type OnHand = (String, u64, Sha384);

/// What to say of a chain that nobody here can prove.
pub const NOT_VERIFIABLE: &str = "chain of custody: not verifiable: the trust root names no transfer agents";

/// Judges the chain at `place` (the folder that holds it, or the file) for the bundle with this
/// manifest. `files` are the files that the caller took bytes from; those that parity stood in for
/// are left out. `None` where the trust root names no transfer agents: then [`unverifiable`] says
/// whether a chain is there, and it counts for nothing.
pub fn verify(
    place: &Path,
    trusted: &TrustedRoot,
    manifest_sha384: &Sha384,
    files: &[OnHand],
) -> Result<Option<VerifiedCustody>> {
    if trusted.root().threshold(Role::Transfer).is_none() {
        return Ok(None);
    }
    let verified = read(place)?.verify(trusted, AlgorithmPolicy::default())?;
    verified.check_manifest(manifest_sha384)?;
    refuse_differences(&verified, &verified.differences(files))?;
    Ok(Some(verified))
}

/// What to tell a person about a chain that is there and cannot be proved; `None` if there is none,
/// or if the trust root names transfer agents, so that [`verify`] judges it.
pub fn unverifiable(place: &Path, trusted: &TrustedRoot) -> Option<&'static str> {
    (trusted.root().threshold(Role::Transfer).is_none() && chain_file(place).exists()).then_some(NOT_VERIFIABLE)
}

/// Lines about a proven chain, safe to print.
pub fn lines(verified: &VerifiedCustody) -> Vec<String> {
    let records = verified.records().iter().zip(verified.signers());
    let line = |(record, signers): (&custody::Record, &Vec<String>)| {
        format!(
            "  {}  record {}  {} to {}, {} to {}, signed by {}",
            record.at,
            record.number,
            record.from.system,
            record.to.system,
            record.people.giver.name,
            record.people.receiver.name,
            signers.join(", ")
        )
    };
    let head = format!("chain of custody: {} records, every one verified", verified.records().len());
    let digest = groups_of_four(&verified.newest_sha384().to_string());
    let foot = format!("  newest record SHA-384 {digest}");
    std::iter::once(head).chain(records.map(line)).chain([foot]).map(|line| escaped(&line)).collect()
}

/// What `custody verify` found in a folder.
#[derive(Debug)]
pub struct FolderReport {
    /// The proven chain.
    pub verified: VerifiedCustody,
    /// Files that are as on record.
    pub matching: Vec<String>,
    /// All others.
    pub differences: Vec<Difference>,
}

/// Proves the chain of a folder by the trust root, then hashes every file in it.
pub fn verify_folder(folder: &Path, trusted: &TrustedRoot, progress: &mut dyn FnMut(u64)) -> Result<FolderReport> {
    let verified = read(folder)?.verify(trusted, AlgorithmPolicy::default())?;
    let list_path = folder.join(set::FILE_NAME);
    if list_path.exists() {
        let list = SetList::parse(&read_limited(&list_path, limits::SET_LIST_BYTES)?)?;
        verified.check_files(&list)?;
    }
    let (mut on_hand, mut strangers) = (Vec::new(), Vec::new());
    for (name, path) in entries(folder)? {
        // A link or a folder on a medium is never followed and never on record.
        let plain = path.symlink_metadata().is_ok_and(|facts| facts.is_file());
        match plain {
            true if name == custody::FILE_NAME => {}
            true => on_hand.push(hash(&name, &path, progress)?),
            false => strangers.push(Difference::NotOnRecord { name }),
        }
    }
    let reports = take_reports(&verified, &mut on_hand);
    let mut differences = verified.differences(&on_hand);
    differences.extend(reports);
    differences.extend(strangers);
    let off = |name: &String| {
        differences.iter().any(|difference| match difference {
            Difference::Missing { name: other }
            | Difference::NotOnRecord { name: other }
            | Difference::Differs { name: other, .. } => other == name,
        })
    };
    let matching = on_hand.iter().map(|(name, ..)| name.clone()).filter(|name| !off(name)).collect();
    Ok(FolderReport { verified, matching, differences })
}

impl FolderReport {
    /// For a person: records, then files.
    pub fn lines(&self) -> Vec<String> {
        let files = self.matching.iter().map(|name| format!("  matches        {name}"));
        let others = self.differences.iter().map(|difference| match difference {
            Difference::Missing { name } => format!("  missing        {name}"),
            Difference::Differs { name, .. } => format!("  DIFFERS        {name}"),
            Difference::NotOnRecord { name } => format!("  NOT ON RECORD  {name}"),
        });
        let newest = self.verified.newest();
        let set = format!("set {} of {} {}", newest.set, newest.product, newest.release);
        let mut lines = lines(&self.verified);
        lines.extend(std::iter::once(set).chain(files).chain(others).map(|line| escaped(&line)));
        lines
    }

    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        let of =
            |kind: fn(&Difference) -> Option<&String>| self.differences.iter().filter_map(kind).collect::<Vec<_>>();
        let newest = self.verified.newest();
        serde_json::json!({
            "verified": true, "records": self.verified.records(), "signers": self.verified.signers(),
            "set": newest.set, "manifest_sha384": newest.manifest_sha384.to_string(),
            "newest_record_sha384": self.verified.newest_sha384().to_string(),
            "matching": self.matching,
            "missing": of(|d| if let Difference::Missing { name } = d { Some(name) } else { None }),
            "differing": of(|d| if let Difference::Differs { name, .. } = d { Some(name) } else { None }),
            "not_on_record": of(|d| if let Difference::NotOnRecord { name } = d { Some(name) } else { None }),
        })
    }

    /// An error if a file differs or is on no record. Missing ones are no error: a set comes medium
    /// by medium, and parity may stand in for a lost one.
    pub fn refuse_differences(&self) -> Result<()> {
        refuse_differences(&self.verified, &self.differences)
    }
}

fn refuse_differences(verified: &VerifiedCustody, differences: &[Difference]) -> Result<()> {
    let text = |(size, sha384): &(u64, Sha384)| format!("{size} bytes, SHA-384 {sha384}");
    let record = format!("custody record {}", verified.newest().number);
    for difference in differences {
        let (file, expected, found) = match difference {
            Difference::Missing { .. } => continue,
            Difference::Differs { name, expected, found } => (name, text(expected), text(found)),
            Difference::NotOnRecord { name } => (name, "only files on record".into(), "a file on no record".into()),
        };
        let file = escaped(file);
        return Err(bundle_format::Error::from(bundle_format::ErrorKind::FileDiffers {
            file,
            record,
            expected,
            found,
        })
        .into());
    }
    Ok(())
}

/// Takes scanners' reports off the files on hand; those that differ from their record come back.
fn take_reports(verified: &VerifiedCustody, on_hand: &mut Vec<OnHand>) -> Vec<Difference> {
    let mut differing = Vec::new();
    for record in verified.records() {
        let name = custody::report_name(record.number);
        let Some(scan) = record.scans.first() else { continue };
        let Some(at) = on_hand.iter().position(|(other, ..)| *other == name) else { continue };
        let (_, size, sha384) = on_hand.swap_remove(at);
        if sha384 != scan.report_sha384 {
            let (expected, found) = ((size, scan.report_sha384), (size, sha384));
            differing.push(Difference::Differs { name, expected, found });
        }
    }
    differing
}

fn chain_file(place: &Path) -> PathBuf {
    if place.is_dir() { place.join(custody::FILE_NAME) } else { place.to_owned() }
}

fn read(place: &Path) -> Result<UnverifiedCustody> {
    let path = chain_file(place);
    if !path.exists() {
        return Err(ErrorKind::CustodyMissing { expected: path.display().to_string() }.into());
    }
    Ok(UnverifiedCustody::parse(&read_limited(&path, limits::CUSTODY_BYTES)?)?)
}

/// Names and paths of a folder's entries, sorted by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let io = |e| Error::io(folder.display().to_string(), e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

fn hash(name: &str, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<OnHand> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut file = open_regular(path).map_err(io)?;
    let (size, sha384) = Sha384::of_reader(&mut file, progress).map_err(io)?;
    Ok((name.to_owned(), size, sha384))
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_regular(path, limit).map_err(|e| Error::io(path.display().to_string(), e))
}

/// Bytes of a folder's files, for the progress line.
pub fn size(folder: &Path) -> Result<u64> {
    let sizes = entries(folder)?.into_iter().filter_map(|(_, path)| path.symlink_metadata().ok());
    Ok(sizes.filter(std::fs::Metadata::is_file).map(|facts| facts.len()).sum())
}
