//! `audit`: the commands that prove, show and hand out the log.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use bundle_format::text::groups_of_four;
use clap::Subcommand;
use serde_json::json;

use super::Audit;
use super::anchor::{Anchor, card};
use super::export::Format;
use super::fault::Fault;
use super::key::{ApplianceKey, AppliancePublic};
use super::log::Log;
use super::verify::{Expected, verify};
use crate::banner;
use crate::cli::{print, print_json};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::proof::clock;
use crate::receipt::{self, Paint};
use crate::state::State;

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Proves the whole log: every record, every link, the signed head, and the anchors given.
    Verify {
        /// A head that was written down elsewhere, from a card, a receipt, or the last line of an installation:
        /// SEQ:HASH, groups of four or one word, 24 digits or more.
        #[arg(long, value_name = "SEQ:HASH", value_parser = parse_anchor)]
        anchor: Vec<Anchor>,
        /// File with one anchor a line: signed heads of `audit head`, inventories, or SEQ:HASH.
        #[arg(long, value_name = "FILE")]
        anchor_file: Option<PathBuf>,
        /// Fingerprint of this machine's key as it was written down.
        #[arg(long, value_name = "SHA384", value_parser = parse_fingerprint)]
        key: Option<Sha384>,
    },
    /// Writes records to standard output, for other systems.
    Export {
        /// The form.
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// Only the records behind this number: what was handed out last.
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        since: u64,
    },
    /// Prints the signed head, one line of JSON: an anchor to keep elsewhere.
    Head,
    /// Prints the head short enough for a card, with its QR code.
    Card {
        /// Only the text.
        #[arg(long)]
        no_qr: bool,
    },
    /// Prints the public half of this machine's key and its fingerprint.
    Key,
    /// Puts a log that does not prove aside and begins another one; the ISSO decides on it.
    Renew {
        /// Why, for the new log's first record.
        #[arg(long)]
        reason: String,
    },
}

/// What the commands are told by the command line.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// Where the installer keeps things.
    pub paths: &'a Paths,
    /// Machine-readable output.
    pub json: bool,
    /// No colour.
    pub no_color: bool,
    /// Asks a person, or refuses.
    pub confirm: &'a dyn Fn(&str) -> Result<()>,
}

fn parse_anchor(text: &str) -> std::result::Result<Anchor, String> {
    Anchor::parse(text).map_err(|e| e.to_string())
}

fn parse_fingerprint(text: &str) -> std::result::Result<Sha384, String> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    Sha384::parse(&digits.to_lowercase()).map_err(|e| e.to_string())
}

impl AuditCommand {
    /// Runs the command.
    pub fn run(&self, site: &Site<'_>) -> Result<()> {
        site.open_banner()?;
        match self {
            Self::Verify { anchor, anchor_file, key } => {
                let mut anchors = anchor.clone();
                if let Some(file) = anchor_file {
                    anchors.extend(Anchor::parse_file(file)?);
                }
                let (log, public) = site.log()?;
                let report = verify(&log, &public, &Expected { anchors, key: *key })?;
                if site.json { print_json(&report.to_json()) } else { print(&report.lines()) }
            }
            Self::Export { format, since } => export(&site.log()?.0, *format, *since),
            Self::Head => {
                let (log, public) = site.log()?;
                log.head(&public)?;
                let line = log.envelope()?.unwrap_or_default();
                print(&[String::from_utf8_lossy(&line).trim_end().to_owned()])
            }
            Self::Card { no_qr } => site.card(*no_qr),
            Self::Key => site.key(),
            Self::Renew { reason } => site.renew(reason),
        }
    }
}

fn export(log: &Log, format: Format, since: u64) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let io = |e| Error::io("standard output", e);
    log.each(since, &mut |stored| {
        let line = format.line(&stored)?;
        writeln!(out, "{line}").map_err(io)
    })?;
    out.flush().map_err(io)
}

impl Site<'_> {
    /// What is recorded names products and releases: the log carries the highest marking installed.
    fn open_banner(&self) -> Result<()> {
        if !self.paths.database().exists() {
            return Ok(());
        }
        let generations = State::open(&self.paths.database())?.active_generations()?;
        let markings: Vec<Marking> = generations
            .iter()
            .map(|generation| Marking::parse(&generation.marking))
            .collect::<bundle_format::Result<_>>()?;
        if let Some(marking) = markings.iter().max_by_key(|marking| marking.level()) {
            banner::open(marking, self.no_color);
        }
        Ok(())
    }

    /// The log and this machine's key, to be read.
    fn log(&self) -> Result<(Log, AppliancePublic)> {
        let log = Log::look(&self.paths.audit())?;
        match (ApplianceKey::read(&self.paths.appliance_key())?, log) {
            (Some(key), Some(log)) => Ok((log, key.public())),
            (None, Some(log)) => Err(super::key_missing(&log)?),
            (Some(_), None) => {
                Err(Fault::Missing { path: Log::file(&self.paths.audit()).display().to_string() }.into())
            }
            (None, None) => {
                Err(ErrorKind::Usage { why: "there is no audit log yet: nothing was done here".into() }.into())
            }
        }
    }

    fn card(&self, no_qr: bool) -> Result<()> {
        let (log, public) = self.log()?;
        let head = log.head(&public)?;
        let code = card(&head);
        if self.json {
            return print_json(
                &json!({"card": code, "seq": head.seq, "hash": head.hash.to_string(), "at": head.at.as_str()}),
            );
        }
        print(&[
            format!("audit log head, {} UTC", head.at),
            format!("  {code}"),
            format!("compare with: installer audit verify --anchor \"{code}\""),
        ])?;
        if no_qr {
            return Ok(());
        }
        let colour = !self.no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stdout().is_terminal();
        print(&receipt::qr(&code, if colour { Paint::Colour } else { Paint::Plain })?)
    }

    fn key(&self) -> Result<()> {
        let (_, public) = self.log()?;
        let fingerprint = public.fingerprint()?.to_string();
        let file = String::from_utf8_lossy(&public.to_bytes()?).trim_end().to_owned();
        if self.json {
            return print(&[file]);
        }
        print(&[file, format!("SHA-384 {}", groups_of_four(&fingerprint))])
    }

    fn renew(&self, reason: &str) -> Result<()> {
        (self.confirm)("Put the audit log aside and begin another one?")?;
        let _lock = Lock::take(&self.paths.lock(), "audit renew")?;
        let (audit, aside) = Audit::renew(self.paths, reason, &clock())?;
        // The copy of the record names a record of the log: from now on of this one. A damaged record is no
        // reason to keep a log that does not prove.
        if let Ok(mut state) = State::open(&self.paths.database()) {
            state.keep_copy_or_warn();
        }
        print(&[
            format!("the former log is kept in {}", aside.display()),
            format!("a new one begins; its first record has the hash {}", groups_of_four(&audit.head()?.hash.hex())),
        ])
    }
}
