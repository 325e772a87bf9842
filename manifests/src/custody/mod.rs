//! The chain of custody: each hand-over of a set as a signed record (`docs/spec/custody.md`).
//!
//! Threats: a record altered, left out, put elsewhere or taken from another set; one person who
//! plays two; files exchanged on the way; a set handed to a system below its marking. Defences:
//! every record meets the threshold of the role `transfer`; each names the digest of the line
//! before it; every record names the same set; the newest names every file by SHA-384.
//!
//! What the chain cannot show: that its last records were cut off. The paper with the newest
//! record's digest shows that, and the installation does not depend on it.

mod record;

use std::collections::BTreeMap;

pub use record::{Direction, FORMAT, Medium, People, Person, Record, RecordedFile, Scan, ScanResult, System};

use crate::digest::Sha384;
use crate::envelope::check_comments;
use crate::key::{KeyId, Scheme};
use crate::root::{Role, TrustRoot, TrustedRoot};
use crate::set::SetList;
use crate::signature::{AlgorithmPolicy, Signature, verify_threshold};
use crate::{ErrorKind, Result, limits, signed};

/// File name of the chain beside the set list.
pub const FILE_NAME: &str = "custody.jsonl";
const ENVELOPE_FORMAT: &str = "lockgate-custody-envelope/1";

/// File name of what the scanner of record `number` printed.
pub fn report_name(number: u64) -> String {
    format!("scan-{number}.txt")
}

/// A chain as it was read: claims only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnverifiedCustody {
    records: Vec<Envelope>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Envelope {
    payload: Vec<u8>,
    record: Record,
    signatures: Vec<Signature>,
}

/// A chain whose every record met the threshold of the role `transfer`. Made only by
/// [`UnverifiedCustody::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCustody {
    records: Vec<Record>,
    signers: Vec<Vec<String>>,
    newest: Record,
    newest_sha384: Sha384,
}

impl Envelope {
    fn line(&self) -> Result<Vec<u8>> {
        signed::to_bytes(ENVELOPE_FORMAT, "custody record", &self.payload, &self.signatures)
    }
}

impl UnverifiedCustody {
    /// Parses a chain: one envelope a line, each in canonical form. The records are not checked.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if found > limits::CUSTODY_BYTES {
            let (what, limit) = ("custody chain".into(), limits::CUSTODY_BYTES);
            return Err(ErrorKind::TooLarge { what, limit, found }.into());
        }
        let mut records = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            check_count(records.len())?;
            let what = format!("custody record {}", records.len() + 1);
            let (payload, signatures) = signed::parse(ENVELOPE_FORMAT, &what, line, limits::CUSTODY_BYTES)?;
            let record = crate::json::parse_canonical(&what, &payload, limits::CUSTODY_BYTES)?;
            records.push(Envelope { payload, record, signatures });
        }
        if records.is_empty() {
            return Err(ErrorKind::Inconsistent { what: "custody chain".into(), why: "it is empty".into() }.into());
        }
        Ok(Self { records })
    }

    /// The file form.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.records.iter().map(Envelope::line).collect::<Result<Vec<_>>>()?.concat())
    }

    /// The claimed records, first to newest.
    pub fn claimed(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        self.records.iter().map(|envelope| &envelope.record)
    }

    /// The claimed signatures of a record, by its place from 1.
    pub fn signatures(&self, place: usize) -> &[Signature] {
        let envelope = place.checked_sub(1).and_then(|index| self.records.get(index));
        envelope.map_or(&[], |envelope| &envelope.signatures)
    }

    /// Number and `previous` of the record that comes next.
    pub fn next_link(&self) -> Result<(u64, Option<Sha384>)> {
        let number = u64::try_from(self.records.len()).unwrap_or(u64::MAX).saturating_add(1);
        let previous = self.records.last().map(|last| Ok::<_, crate::Error>(Sha384::of(&last.line()?))).transpose()?;
        Ok((number, previous))
    }

    /// Appends a record without signatures, if the chain is consistent with it.
    pub fn push(&mut self, record: Record) -> Result<()> {
        check_count(self.records.len())?;
        let payload = crate::json::to_bytes("custody record", &record)?;
        self.records.push(Envelope { payload, record, signatures: Vec::new() });
        self.check().inspect_err(|_| drop(self.records.pop()))
    }

    /// Takes the newest record off if nobody signed it: a draft that another will replace.
    pub fn withdraw_draft(&mut self) -> Option<Record> {
        let draft = self.records.last().is_some_and(|last| last.signatures.is_empty());
        if draft { self.records.pop().map(|last| last.record) } else { None }
    }

    /// Exact bytes of the newest record, and the comment that minisign signatures over them carry.
    pub fn newest(&self) -> Option<(&[u8], String)> {
        self.records.last().map(|last| (last.payload.as_slice(), trusted_comment(&last.record, &last.payload)))
    }

    /// Adds a signature to the newest record; a former one by the same key is replaced.
    pub fn add(&mut self, signature: Signature) {
        if let Some(last) = self.records.last_mut() {
            signed::add(&mut last.signatures, signature);
        }
    }

    /// Checks each record, and that they follow each other and speak of one set (R-CUS-3 to 10).
    pub fn check(&self) -> Result<()> {
        let mut previous: Option<(&Record, Sha384)> = None;
        let mut files: BTreeMap<&str, &RecordedFile> = BTreeMap::new();
        for (envelope, place) in self.records.iter().zip(1u64..) {
            let record = &envelope.record;
            check_link(place, record, previous.as_ref().map(|(former, digest)| (*former, digest)))?;
            record.check()?;
            for file in &record.files {
                let former = files.entry(file.name.as_str()).or_insert(file);
                if *former != file {
                    return Err(differs(&file.name, place, former, (file.size, &file.sha384)).into());
                }
            }
            previous = Some((record, Sha384::of(&envelope.line()?)));
        }
        Ok(())
    }

    /// The proof (custody 4): the threshold of every record, then consistency. The chain is
    /// consumed; what comes out may be relied on.
    pub fn verify(self, trusted: &TrustedRoot, policy: AlgorithmPolicy) -> Result<VerifiedCustody> {
        let root = trusted.root();
        // Said first: a root without agents explains every other failure.
        if root.threshold(Role::Transfer).is_none() {
            let (document, role) = ("custody chain".into(), Role::Transfer.name());
            return Err(ErrorKind::RoleMissing { document, role, root: root.version() }.into());
        }
        let mut signers = Vec::new();
        for (envelope, place) in self.records.iter().zip(1u64..) {
            let what = format!("custody record {place}");
            let Envelope { payload, record, signatures } = envelope;
            let keys = verify_threshold(&what, payload, signatures, root, &[Role::Transfer], policy)?;
            check_comments(signatures, &trusted_comment(record, payload))?;
            check_people_signed(&what, record, &keys, root, policy)?;
            let mut holders: Vec<String> =
                keys.iter().filter_map(|key| root.holder_of(*key)).map(str::to_owned).collect();
            holders.sort();
            holders.dedup();
            signers.push(holders);
        }
        self.check()?;
        let newest_sha384 = Sha384::of(self.records.last().map_or(&[][..], |last| &last.payload));
        let records: Vec<Record> = self.records.into_iter().map(|envelope| envelope.record).collect();
        let empty = || ErrorKind::Inconsistent { what: "custody chain".into(), why: "it is empty".into() };
        let newest = records.last().cloned().ok_or_else(empty)?;
        Ok(VerifiedCustody { records, signers, newest, newest_sha384 })
    }
}

/// How a file on hand stands to the newest record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// On record and not on hand.
    Missing {
        /// The file.
        name: String,
    },
    /// On hand with another size or digest.
    Differs {
        /// The file.
        name: String,
        /// Size and SHA-384 on record.
        expected: (u64, Sha384),
        /// Size and SHA-384 on hand.
        found: (u64, Sha384),
    },
    /// On hand and not on record.
    NotOnRecord {
        /// The file.
        name: String,
    },
}

impl VerifiedCustody {
    /// The proven records, first to newest.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The proven newest record.
    pub const fn newest(&self) -> &Record {
        &self.newest
    }

    /// SHA-384 of the newest record as it was signed: what its printed form shows.
    pub const fn newest_sha384(&self) -> &Sha384 {
        &self.newest_sha384
    }

    /// Names of the transfer agents that signed each record, first to newest.
    pub fn signers(&self) -> &[Vec<String>] {
        &self.signers
    }

    /// Refuses a chain of another bundle.
    pub fn check_manifest(&self, manifest_sha384: &Sha384) -> Result<()> {
        if self.newest.manifest_sha384 == *manifest_sha384 {
            return Ok(());
        }
        let what = "custody chain: manifest SHA-384 of the bundle".into();
        let (expected, found) = (manifest_sha384.to_string(), self.newest.manifest_sha384.to_string());
        Err(ErrorKind::BadValue { what, expected, found }.into())
    }

    /// Refuses a set list that the newest record was not made of: another set, bundle or marking, a
    /// file that is not on record or differs, a volume on a medium that the set does not have.
    pub fn check_files(&self, list: &SetList) -> Result<()> {
        check_against_list(&self.newest, list)
    }

    /// Every file on hand (name, size, SHA-384) that is not as on record, and every file on record
    /// that is not on hand. What it means is the caller's: parity may stand in for a lost volume.
    pub fn differences(&self, on_hand: &[(String, u64, Sha384)]) -> Vec<Difference> {
        let mut found: BTreeMap<&str, (u64, Sha384)> =
            on_hand.iter().map(|(name, size, sha384)| (name.as_str(), (*size, *sha384))).collect();
        let mut differences = Vec::new();
        for file in &self.newest.files {
            let (name, expected) = (file.name.clone(), (file.size, file.sha384));
            match found.remove(file.name.as_str()) {
                None => differences.push(Difference::Missing { name }),
                Some(found) if found != expected => {
                    differences.push(Difference::Differs { name, expected, found });
                }
                Some(_) => {}
            }
        }
        differences.extend(found.into_keys().map(|name| Difference::NotOnRecord { name: name.to_owned() }));
        differences
    }
}

/// Refuses a record that was not made of this set list.
pub fn check_against_list(record: &Record, list: &SetList) -> Result<()> {
    let inconsistent = |why: String| ErrorKind::Inconsistent { what: format!("custody record {}", record.number), why };
    let same = [
        ("set", record.set == list.set),
        ("bundle", record.manifest_sha384 == list.manifest_sha384),
        ("product", record.product == list.product),
        ("release", record.release == list.release && record.sequence == list.sequence),
        ("marking", record.marking == list.marking),
    ];
    if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
        return Err(inconsistent(format!("it is of another {what} than the set list")).into());
    }
    for file in &list.files {
        let recorded = record.files.iter().find(|recorded| recorded.name == file.name);
        let recorded = recorded.ok_or_else(|| inconsistent(format!("volume file {} is not on it", file.name)))?;
        if (recorded.size, recorded.sha384) != (file.size, file.sha384) {
            return Err(differs(&file.name, record.number, recorded, (file.size, &file.sha384)).into());
        }
    }
    let stray = record
        .media
        .iter()
        .flat_map(|medium| &medium.volumes)
        .find(|number| !list.files.iter().any(|file| file.number == **number));
    match stray {
        Some(number) => Err(inconsistent(format!("the set has no volume {number}")).into()),
        None => Ok(()),
    }
}

fn check_link(place: u64, record: &Record, former: Option<(&Record, &Sha384)>) -> Result<()> {
    let broken = |expected: String, found: String| ErrorKind::CustodyChain { record: place, expected, found };
    if record.number != place {
        return Err(broken(format!("number {place}"), format!("number {}", record.number)).into());
    }
    let text = |digest: Option<&Sha384>| digest.map_or("no former record".into(), |d| format!("former record {d}"));
    let expected = former.map(|(_, digest)| digest);
    if record.previous.as_ref() != expected {
        return Err(broken(text(expected), text(record.previous.as_ref())).into());
    }
    let Some((former, _)) = former else { return Ok(()) };
    let identity = |r: &Record| {
        format!("set {} {} {} {} {} {}", r.set, r.manifest_sha384, r.product, r.release, r.sequence, r.marking)
    };
    if identity(former) != identity(record) {
        return Err(broken(identity(former), identity(record)).into());
    }
    if record.at < former.at {
        return Err(broken(format!("a time from {} on", former.at), record.at.to_string()).into());
    }
    Ok(())
}

/// A person who is named with a key holder must have signed, by each scheme that the site asks for.
fn check_people_signed(
    what: &str,
    record: &Record,
    keys: &[KeyId],
    root: &TrustRoot,
    policy: AlgorithmPolicy,
) -> Result<()> {
    let signed = |holder: &str, scheme: Scheme| {
        let of_scheme = |key: &KeyId| root.key(*key).is_some_and(|key| key.scheme() == scheme);
        keys.iter().any(|key| root.holder_of(*key) == Some(holder) && of_scheme(key))
    };
    for (person, named) in [("giver", &record.people.giver), ("receiver", &record.people.receiver)] {
        if let Some(holder) = &named.holder
            && !policy.required().iter().all(|scheme| signed(holder, *scheme))
        {
            return Err(ErrorKind::NotSignedBy { document: what.into(), person, holder: holder.clone() }.into());
        }
    }
    Ok(())
}

fn differs(name: &str, record: u64, on_record: &RecordedFile, found: (u64, &Sha384)) -> ErrorKind {
    let text = |size: u64, sha384: &Sha384| format!("{size} bytes, SHA-384 {sha384}");
    ErrorKind::FileDiffers {
        file: name.to_owned(),
        record: format!("custody record {record}"),
        expected: text(on_record.size, &on_record.sha384),
        found: text(found.0, found.1),
    }
}

fn trusted_comment(record: &Record, payload: &[u8]) -> String {
    format!("lockgate custody set={} record={} sha384={}", record.set, record.number, Sha384::of(payload))
}

fn check_count(have: usize) -> Result<()> {
    if have < limits::CUSTODY_RECORDS {
        return Ok(());
    }
    let limit = u64::try_from(limits::CUSTODY_RECORDS).unwrap_or(u64::MAX);
    Err(ErrorKind::TooLarge { what: "records of a custody chain".into(), limit, found: limit + 1 }.into())
}

#[cfg(test)]
mod tests;
