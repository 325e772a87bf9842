//! The whole proof of the log: every row's hash, every link, the signed head, the anchors
//! (`docs/spec/audit.md`, 5).

use bundle_format::digest::Sha384;
use bundle_format::text::groups_of_four;
use bundle_format::timestamp::Timestamp;
use serde_json::json;

use super::anchor::Anchor;
use super::fault::Fault;
use super::head::Head;
use super::key::AppliancePublic;
use super::log::Log;
use super::record::zero;
use crate::error::Result;

/// A log that proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its verified head.
    pub head: Head,
    /// Time of its first record.
    pub first: Timestamp,
    /// Numbers of the anchors that were met.
    pub anchors: Vec<u64>,
    /// Numbers of the records whose act began and has no end on record.
    pub unended: Vec<u64>,
}

/// What a person wants the log compared with.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Heads that were written down elsewhere.
    pub anchors: Vec<Anchor>,
    /// Fingerprint of the appliance's key that was written down.
    pub key: Option<Sha384>,
}

/// Verifies the log from its first record on. The order of the steps decides which fault is told of
/// several: the key, the rows one by one, the end, what is kept elsewhere.
pub fn verify(log: &Log, key: &AppliancePublic, expected: &Expected) -> Result<Report> {
    let fingerprint = key.fingerprint()?;
    let named = expected.key.iter().chain(expected.anchors.iter().filter_map(Anchor::key));
    for expected in named {
        if *expected != fingerprint {
            return Err(Fault::OtherKey { expected: expected.to_string(), found: fingerprint.to_string() }.into());
        }
    }
    let _snapshot = log.snapshot()?;
    let mut walk = Walk { seq: 0, hash: zero(), first: None, anchors: &expected.anchors, met: Vec::new() };
    log.each(0, &mut |stored| walk.step(&stored.row, &stored.hash))?;
    let head = log.head(key)?;
    walk.refuse_missing()?;
    let met = walk.met;
    Ok(Report { first: walk.first.unwrap_or_else(|| head.at.clone()), anchors: met, unended: log.unended()?, head })
}

struct Walk<'a> {
    seq: u64,
    hash: Sha384,
    first: Option<Timestamp>,
    anchors: &'a [Anchor],
    met: Vec<u64>,
}

impl Walk<'_> {
    fn step(&mut self, row: &super::record::Row, hash: &Sha384) -> Result<()> {
        let seq = self.seq + 1;
        if row.seq != seq {
            return Err(Fault::Gap { expected: seq, found: row.seq }.into());
        }
        let found = row.hash()?;
        if found != *hash {
            return Err(Fault::Edited { seq, expected: hash.to_string(), found: found.to_string() }.into());
        }
        if row.prev != self.hash {
            let (expected, found) = (self.hash.to_string(), row.prev.to_string());
            return Err(Fault::Broken { seq, expected, found }.into());
        }
        for anchor in self.anchors.iter().filter(|anchor| anchor.seq() == seq) {
            if !anchor.matches(hash) {
                let (expected, found) = (anchor.shown(), anchor.shown_of(hash));
                return Err(Fault::Anchor { seq, expected, found }.into());
            }
            self.met.push(seq);
        }
        (self.seq, self.hash) = (seq, *hash);
        self.first.get_or_insert_with(|| row.at.clone());
        Ok(())
    }

    /// An anchor behind the end is what a cut tail looks like.
    fn refuse_missing(&self) -> Result<()> {
        match self.anchors.iter().find(|anchor| anchor.seq() > self.seq) {
            Some(anchor) => {
                let found = format!("nothing: the log ends with record {}", self.seq);
                Err(Fault::Anchor { seq: anchor.seq(), expected: anchor.shown(), found }.into())
            }
            None => Ok(()),
        }
    }
}

impl Report {
    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let head = &self.head;
        let mut lines = vec![
            format!(
                "audit log: {} records from {} to {}, every hash and link as it must be",
                head.seq, self.first, head.at
            ),
            format!("  head  {}", groups_of_four(&head.hash.hex())),
            format!("  signed by this machine's key, SHA-384 {}", head.key),
        ];
        for seq in &self.unended {
            lines.push(format!("  NOTE: record {seq} says that an act began; how it ended is not on record yet"));
        }
        if self.anchors.is_empty() {
            lines.push(
                "  NOTE: without an anchor nobody can see whether the newest records were cut off; compare with a card or report: --anchor SEQ:HASH".into(),
            );
        } else {
            let numbers: Vec<String> = self.anchors.iter().map(ToString::to_string).collect();
            lines.push(format!("  anchored at record {}", numbers.join(", ")));
        }
        lines
    }

    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "verified": true, "records": self.head.seq, "first": self.first.as_str(), "last": self.head.at.as_str(),
            "hash": self.head.hash.to_string(), "key": self.head.key.to_string(), "anchors": self.anchors,
            "unended": self.unended,
        })
    }
}
