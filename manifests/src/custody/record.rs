//! One hand-over as a document: the fields of a transfer log, and what makes them consistent
//! (custody 3).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Sha384;
use crate::manifest::check_line;
use crate::marking::Marking;
use crate::name::{check_file_name, check_label};
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result, limits};

/// The `format` value of this version.
pub const FORMAT: &str = "lockgate-custody/1";

/// Who handed what to whom. Fields are public because a record proves nothing by itself: proof is
/// the type [`super::VerifiedCustody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Always [`FORMAT`].
    pub format: String,
    /// Place in the chain, from 1.
    pub number: u64,
    /// SHA-384 of the former record's line with its newline; absent in record 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha384>,
    /// Set id, as in the set list.
    pub set: String,
    /// The bundle's identity.
    pub manifest_sha384: Sha384,
    /// Product of the bundle.
    pub product: String,
    /// Version of the bundle, for people.
    pub release: String,
    /// Anti-rollback counter of the bundle.
    pub sequence: u64,
    /// Overall marking of the set.
    pub marking: Marking,
    /// Number in the office's transfer log.
    pub log_number: String,
    /// When it was handed over.
    pub at: Timestamp,
    /// Which way, by the markings of the two systems.
    pub direction: Direction,
    /// The system it came from.
    pub from: System,
    /// The system it goes to.
    pub to: System,
    /// Who owns the data.
    pub data_owner: String,
    /// Why, or the ticket that says so.
    pub justification: String,
    /// Reference of the transfer agent's letter of appointment.
    pub appointment: String,
    /// The media, at least one.
    pub media: Vec<Medium>,
    /// The files of the set.
    pub files: Vec<RecordedFile>,
    /// What scanners said; empty where the site scans by other means.
    pub scans: Vec<Scan>,
    /// Both people.
    pub people: People,
    /// What becomes of the media: destroyed or kept, when, before which witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<String>,
}

/// Direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To a system that may hold more.
    LowToHigh,
    /// To a system that may hold less.
    HighToLow,
    /// Between systems that may hold the same.
    SameLevel,
}

/// A system and its marking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Name.
    pub system: String,
    /// Highest marking that it may hold.
    pub marking: Marking,
}

/// One medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Medium {
    /// Kind, a label: `cd`, `dvd`, `bd`, `tape`, `usb`, `ssd`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Serial number, or what its sticker says.
    pub label: String,
    /// Numbers of the volumes on it, rising.
    pub volumes: Vec<u16>,
    /// Whether it was closed against further writing.
    pub finalised: bool,
}

/// A file of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedFile {
    /// File name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-384 of the whole file.
    pub sha384: Sha384,
}

/// One run of a scanner over the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// Program.
    pub scanner: String,
    /// Its version, in its own words.
    pub version: String,
    /// Version and date of its signatures, in its own words.
    pub signatures: String,
    /// When it ran.
    pub at: Timestamp,
    /// Its verdict.
    pub result: ScanResult,
    /// SHA-384 of what it printed, kept beside as [`super::report_name`].
    pub report_sha384: Sha384,
}

/// A scanner's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScanResult {
    /// Nothing found.
    Clean,
    /// Something found.
    Infected,
    /// The scanner failed.
    Error,
}

/// Giver and receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// Who gives.
    pub giver: Person,
    /// Who receives.
    pub receiver: Person,
}

/// A person of a hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Name.
    pub name: String,
    /// Identity within the organisation, such as the number on a card.
    pub id: String,
    /// Function, such as `DTA`.
    pub role: String,
    /// Key holder of the trust root that this person is; then these keys must have signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

impl Direction {
    /// Direction between two systems: which may hold what the other holds. Where neither may (other
    /// countries in REL TO) or both may, the level decides.
    pub fn between(from: &Marking, to: &Marking) -> Self {
        match (from.is_within(to), to.is_within(from)) {
            (true, false) => Self::LowToHigh,
            (false, true) => Self::HighToLow,
            _ => match from.level().cmp(&to.level()) {
                std::cmp::Ordering::Less => Self::LowToHigh,
                std::cmp::Ordering::Equal => Self::SameLevel,
                std::cmp::Ordering::Greater => Self::HighToLow,
            },
        }
    }

    /// The direction in documents and on paper.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LowToHigh => "low-to-high",
            Self::HighToLow => "high-to-low",
            Self::SameLevel => "same-level",
        }
    }
}

impl ScanResult {
    /// The verdict in documents and on paper.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Infected => "infected",
            Self::Error => "error",
        }
    }
}

impl Record {
    /// Checks the record by itself (R-CUS-4 to 9).
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            let (what, expected) = ("custody record".into(), FORMAT.into());
            return Err(ErrorKind::UnknownFormat { what, expected, found: self.format.clone() }.into());
        }
        self.check_texts()?;
        self.check_media_and_files()?;
        let expected = Direction::between(&self.from.marking, &self.to.marking);
        if self.direction != expected {
            return self.inconsistent(format!(
                "the direction is {}, the two markings say {}",
                self.direction.name(),
                expected.name()
            ));
        }
        for system in [&self.from, &self.to] {
            if !self.marking.is_within(&system.marking) {
                return Err(ErrorKind::CustodyMarking {
                    record: self.number,
                    system: system.system.clone(),
                    accredited: system.marking.to_string(),
                    found: self.marking.to_string(),
                }
                .into());
            }
        }
        self.check_people()?;
        match self.scans.iter().find(|scan| scan.result != ScanResult::Clean) {
            None => Ok(()),
            Some(scan) => {
                let (record, scanner) = (self.number, scan.scanner.clone());
                Err(ErrorKind::ScanNotClean { record, scanner, found: scan.result.name() }.into())
            }
        }
    }

    fn inconsistent(&self, why: String) -> Result<()> {
        Err(ErrorKind::Inconsistent { what: format!("custody record {}", self.number), why }.into())
    }

    fn check_texts(&self) -> Result<()> {
        if self.set.len() != 32 || crate::text::unhex(&self.set).is_none() {
            return self.inconsistent("the set id is not 32 lower-case hexadecimal digits".into());
        }
        check_label("product", &self.product)?;
        check_file_name("release", &self.release)?;
        let person = |person: &'_ Person| [person.name.clone(), person.id.clone(), person.role.clone()];
        let [giver, receiver] = [person(&self.people.giver), person(&self.people.receiver)];
        let fixed = [
            ("log number", &self.log_number),
            ("system", &self.from.system),
            ("system", &self.to.system),
            ("data owner", &self.data_owner),
            ("justification", &self.justification),
            ("appointment", &self.appointment),
        ];
        let texts = fixed
            .into_iter()
            .chain(giver.iter().map(|text| ("giver", text)))
            .chain(receiver.iter().map(|text| ("receiver", text)))
            .chain(self.media.iter().map(|medium| ("label of a medium", &medium.label)))
            .chain(self.disposition.iter().map(|text| ("disposition", text)))
            .chain(self.scans.iter().flat_map(|scan| {
                [("scanner", &scan.scanner), ("scanner", &scan.version), ("scanner", &scan.signatures)]
            }));
        texts.into_iter().try_for_each(|(what, text)| check_line(what, text))?;
        self.media.iter().try_for_each(|medium| check_label("type of a medium", &medium.kind))?;
        let holders = [&self.people.giver.holder, &self.people.receiver.holder];
        holders.into_iter().flatten().try_for_each(|holder| check_label("key holder", holder))
    }

    fn check_media_and_files(&self) -> Result<()> {
        if self.media.is_empty() || self.files.is_empty() {
            return self.inconsistent("it names no medium or no file".into());
        }
        if self.media.len() > limits::CUSTODY_MEDIA {
            return self.inconsistent(format!("it names more than {} media", limits::CUSTODY_MEDIA));
        }
        for medium in &self.media {
            let rising = medium.volumes.iter().zip(medium.volumes.iter().skip(1)).all(|(a, b)| a < b);
            if medium.volumes.is_empty() || medium.volumes.contains(&0) || !rising {
                return self.inconsistent(format!("the volumes of medium {} do not rise from 1", medium.label));
            }
        }
        let mut labels = BTreeSet::new();
        if let Some(twice) = self.media.iter().find(|medium| !labels.insert(&medium.label)) {
            return self.inconsistent(format!("two media are labelled {}", twice.label));
        }
        let mut names = BTreeSet::new();
        for file in &self.files {
            check_file_name("file of the set", &file.name)?;
            if !names.insert(&file.name) {
                return self.inconsistent(format!("file {} is named twice", file.name));
            }
        }
        Ok(())
    }

    /// Two identities: neither the id nor the keys may be those of one person. Case and space do
    /// not make a second person.
    fn check_people(&self) -> Result<()> {
        let People { giver, receiver } = &self.people;
        let plain = |text: &str| text.split_whitespace().collect::<String>().to_lowercase();
        let same_holder = giver.holder.is_some() && giver.holder == receiver.holder;
        if plain(&giver.id) == plain(&receiver.id) || same_holder {
            return Err(ErrorKind::SamePerson { record: self.number, who: giver.id.clone() }.into());
        }
        Ok(())
    }
}
