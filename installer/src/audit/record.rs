//! One record and its canonical form, the bytes that are hashed (`docs/spec/audit.md`, 2).

use std::fmt;

use bundle_format::digest::Sha384;
use bundle_format::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use crate::error::Result;

/// The format that every record names.
pub const FORMAT: &str = "lockgate-audit/1";
/// Most bytes of the detail; the rest is cut off (R-AUD-3).
const DETAIL_BYTES: usize = 4096;
/// Most bytes of any other text.
const TEXT_BYTES: usize = 256;

/// How an act stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It begins; another record says how it ended.
    Begun,
    /// It ended well.
    Ok,
    /// It failed.
    Failed,
    /// It was not let begin.
    Refused,
}

impl Outcome {
    /// The word in the record.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }

    /// The outcome of a word; anything unknown counts as a failure.
    pub(super) fn of(text: &str) -> Self {
        match text {
            "begun" => Self::Begun,
            "ok" => Self::Ok,
            "refused" => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What is to be recorded. Who did it and from where, the log finds out by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub(super) at: Timestamp,
    pub(super) act: String,
    pub(super) result: Outcome,
    pub(super) product: String,
    pub(super) release: String,
    pub(super) subject: String,
    pub(super) detail: String,
}

impl Record {
    /// An act and how it stands, at a time.
    pub fn new(at: &Timestamp, act: &str, result: Outcome) -> Self {
        let empty = String::new;
        Self {
            at: at.clone(),
            act: bounded(act, TEXT_BYTES),
            result,
            product: empty(),
            release: empty(),
            subject: empty(),
            detail: empty(),
        }
    }

    /// Which product and release it was about.
    #[must_use]
    pub fn of(mut self, product: &str, release: &str) -> Self {
        (self.product, self.release) = (bounded(product, TEXT_BYTES), bounded(release, TEXT_BYTES));
        self
    }

    /// SHA-384 of what it was about: a manifest, a plan, a trust root, a key.
    #[must_use]
    pub fn subject(mut self, sha384: &Sha384) -> Self {
        self.subject = sha384.to_string();
        self
    }

    /// More, for a person.
    #[must_use]
    pub fn detail(mut self, text: &str) -> Self {
        self.detail = bounded(text, DETAIL_BYTES);
        self
    }
}

/// At most `limit` bytes of a text, whole characters, with a mark where it was cut.
fn bounded(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mark = "…";
    let end = (0..=limit - mark.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{mark}", text.get(..end).unwrap_or_default())
}

/// A record as it stands in the log. Declared in the order of the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// [`FORMAT`].
    pub format: String,
    /// Its number, from 1 without a gap.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who, as the kernel knows the login.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// On which machine.
    pub host: String,
    /// What was done.
    pub act: String,
    /// To which product.
    pub product: String,
    /// In which release.
    pub release: String,
    /// SHA-384 of what it was about, or nothing.
    pub subject: String,
    /// How it stands.
    pub result: Outcome,
    /// The number of the `begun` record that this one ends; 0 for none.
    pub closes: u64,
    /// More, for a person.
    pub detail: String,
    /// Hash of the record before; zeros in the first.
    pub prev: Sha384,
}

impl Row {
    /// The row of a record behind the one with the hash `prev`.
    pub(super) fn new(record: &Record, caller: &Caller, seq: u64, closes: u64, prev: Sha384) -> Self {
        Self {
            format: FORMAT.into(),
            seq,
            at: record.at.clone(),
            actor: bounded(&caller.actor, TEXT_BYTES),
            origin: bounded(&caller.origin, TEXT_BYTES),
            host: bounded(&caller.host, TEXT_BYTES),
            act: record.act.clone(),
            product: record.product.clone(),
            release: record.release.clone(),
            subject: record.subject.clone(),
            result: record.result,
            closes,
            detail: record.detail.clone(),
            prev,
        }
    }

    /// The canonical form: one line of strict JSON, its newline included (R-AUD-2).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(bundle_format::json::to_bytes("audit record", self)?)
    }

    /// SHA-384 of the canonical form. The form holds `prev`, so the hash covers all that came before.
    pub fn hash(&self) -> Result<Sha384> {
        Ok(Sha384::of(&self.to_bytes()?))
    }
}

/// What the first record names as the one before it.
pub const fn zero() -> Sha384 {
    Sha384::from_bytes([0; 48])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let caller = Caller { actor: "a (uid 1)".into(), origin: "tty /dev/tty1".into(), host: "h".into() };
        let record = Record::new(&Timestamp::from_unix(0), "install", Outcome::Ok)
            .of("p", "1.0")
            .subject(&Sha384::of(b"manifest"))
            .detail("line\n\"two\" ü");
        Row::new(&record, &caller, 7, 6, zero())
    }

    #[test]
    fn the_canonical_form_is_frozen() {
        let zeros = "0".repeat(96);
        let subject = Sha384::of(b"manifest");
        let expected = format!(
            "{{\"format\":\"lockgate-audit/1\",\"seq\":7,\"at\":\"1970-01-01T00:00:00Z\",\"actor\":\"a (uid 1)\",\
             \"origin\":\"tty /dev/tty1\",\"host\":\"h\",\"act\":\"install\",\"product\":\"p\",\"release\":\"1.0\",\
             \"subject\":\"{subject}\",\"result\":\"ok\",\"closes\":6,\"detail\":\"line\\n\\\"two\\\" ü\",\"prev\":\"{zeros}\"}}\n"
        );
        assert_eq!(String::from_utf8(row().to_bytes().unwrap()).unwrap(), expected);
        assert_eq!(row().hash().unwrap(), Sha384::of(expected.as_bytes()));
        let back: Row = bundle_format::json::parse_canonical("row", expected.as_bytes(), 10_000).unwrap();
        assert_eq!(back, row());
    }

    #[test]
    fn every_field_is_under_the_hash() {
        let edits: [fn(&mut Row); 13] = [
            |row| row.seq = 8,
            |row| row.at = Timestamp::from_unix(1),
            |row| row.actor.push('x'),
            |row| row.origin.push('x'),
            |row| row.host.push('x'),
            |row| row.act.push('x'),
            |row| row.product.push('x'),
            |row| row.release.push('x'),
            |row| row.subject.push('x'),
            |row| row.result = Outcome::Failed,
            |row| row.closes = 5,
            |row| row.detail.push('x'),
            |row| row.prev = Sha384::of(b"other"),
        ];
        for (number, edit) in edits.iter().enumerate() {
            let mut edited = row();
            edit(&mut edited);
            assert_ne!(edited.hash().unwrap(), row().hash().unwrap(), "edit {number}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(bounded("short", 10), "short");
        assert_eq!(bounded("äöüäöü", 8), "äö…");
        let long = "ü".repeat(5000);
        let record = Record::new(&Timestamp::from_unix(0), "a", Outcome::Ok).detail(&long);
        assert!(record.detail.len() <= DETAIL_BYTES && record.detail.ends_with('…'));
    }
}
