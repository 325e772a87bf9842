//! How the log stands, for `status`: its head, this machine's key, or what is wrong with it.

use bundle_format::text::groups_of_four;
use serde_json::{Value, json};

use super::fault::Fault;
use super::head::Head;
use super::key::ApplianceKey;
use super::log::Log;
use crate::error::Result;
use crate::paths::Paths;

/// How the log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was done here yet.
    NotBegun,
    /// Its head is signed by this machine's key, and the records end there.
    Sound {
        /// The head.
        head: Head,
        /// Records whose act began and has no end on record.
        unended: Vec<u64>,
    },
    /// It cannot be read, or does not prove.
    Faulty {
        /// What is wrong.
        why: String,
    },
}

impl Standing {
    /// Looks at the log's end; `audit verify` looks at all of it. Makes nothing, writes nothing.
    pub fn read(paths: &Paths) -> Self {
        Self::look(paths).unwrap_or_else(|error| Self::Faulty { why: error.to_string() })
    }

    fn look(paths: &Paths) -> Result<Self> {
        let key = ApplianceKey::read(&paths.appliance_key())?;
        Ok(match (key, Log::look(&paths.audit())?) {
            (None, None) => Self::NotBegun,
            (Some(key), Some(log)) => {
                let _snapshot = log.snapshot()?;
                Self::Sound { head: log.head(&key.public())?, unended: log.unended()? }
            }
            (Some(_), None) => {
                return Err(Fault::Missing { path: Log::file(&paths.audit()).display().to_string() }.into());
            }
            (None, Some(log)) => return Err(super::key_missing(&log)?),
        })
    }

    /// What a person must look after, if anything.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Faulty { why } => Some(why),
            Self::NotBegun | Self::Sound { .. } => None,
        }
    }

    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::NotBegun => vec!["audit log: no record yet".into()],
            Self::Faulty { why } => vec![format!("PROBLEM   {why}")],
            Self::Sound { head, unended } => {
                let mut lines = vec![
                    format!("audit log: {} records, the last of {}", head.seq, head.at),
                    format!("  head      {}", groups_of_four(&head.hash.hex())),
                    format!("  key       SHA-384 {}", head.key),
                ];
                lines.extend(unended.iter().map(|seq| format!("  begun and not ended on record: {seq}")));
                lines
            }
        }
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        match self {
            Self::NotBegun => json!(null),
            Self::Faulty { why } => json!({"problem": why}),
            Self::Sound { head, unended } => json!({
                "records": head.seq, "hash": head.hash.to_string(), "at": head.at.as_str(),
                "key": head.key.to_string(), "unended": unended,
            }),
        }
    }
}
