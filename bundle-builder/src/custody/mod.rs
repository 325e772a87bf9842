//! `custody`: the signed chain of hand-overs that travels with a set (`docs/spec/custody.md`).
//!
//! What may hurt it: a file exchanged between hashing and carrying, a wrong form filled in haste.
//! Who defends: every file is hashed here and again on import; [`bundle_format::custody`] checks a
//! record before it is written and before it is signed.

pub mod fields;
pub mod folder;
pub mod hand_over;
pub mod scan;
pub mod show;

use std::path::{Path, PathBuf};

use bundle_format::custody::{People, System};
use bundle_format::marking::Marking;
use bundle_format::timestamp::Timestamp;
use clap::{Args, Subcommand};

use crate::cli::{now, parse_time, print, print_json};
use crate::custody::folder::SetFolder;
use crate::custody::hand_over::{HandOver, hand_over, required_chain};
use crate::custody::scan::Scanner;
use crate::error::Result;
use crate::keys::KeyArgs;
use crate::output::{Progress, open_banner};
use crate::roots;

/// Subcommands of `custody`.
#[derive(Debug, Subcommand)]
pub enum CustodyCommand {
    /// Writes the next record, unsigned, after hashing and scanning every file of the set.
    HandOver(Box<HandOverArgs>),
    /// Adds one person's signatures to the newest record.
    Sign {
        /// Folder of the set.
        folder: PathBuf,
        /// The signer.
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Shows the chain.
    Show {
        /// Folder of the set.
        folder: PathBuf,
        /// Also judges it by this trust root, as the high side will.
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
}

/// The form.
#[derive(Debug, Args)]
pub struct HandOverArgs {
    /// Folder of the set: set.json and the volumes.
    folder: PathBuf,
    /// Number in the office's transfer log.
    #[arg(long)]
    log_number: String,
    /// When, YYYY-MM-DDTHH:MM:SSZ (default: now).
    #[arg(long, value_parser = parse_time)]
    at: Option<Timestamp>,
    /// System that the set comes from.
    #[arg(long, value_name = "NAME")]
    from_system: String,
    /// Marking of that system.
    #[arg(long, value_parser = parse_marking, value_name = "MARKING")]
    from_marking: Marking,
    /// System that the set goes to.
    #[arg(long, value_name = "NAME")]
    to_system: String,
    /// Marking of that system.
    #[arg(long, value_parser = parse_marking, value_name = "MARKING")]
    to_marking: Marking,
    /// Who owns the data.
    #[arg(long)]
    data_owner: String,
    /// Why, or the ticket that says so.
    #[arg(long)]
    justification: String,
    /// Reference of the transfer agent's letter of appointment.
    #[arg(long)]
    appointment: String,
    /// A medium: type=dvd,label=ABC,volumes=1-2,finalised=yes.
    #[arg(long, required = true, value_name = "FIELDS")]
    media: Vec<String>,
    /// Who gives: name=…,id=…,role=… and holder=… for a holder of keys.
    #[arg(long, value_name = "FIELDS")]
    giver: String,
    /// Who receives, likewise.
    #[arg(long, value_name = "FIELDS")]
    receiver: String,
    /// What becomes of the media: destroyed or kept, when, before which witness.
    #[arg(long)]
    disposition: Option<String>,
    /// Scanner to run over the files: exit 0 is clean, 1 infected, else it failed.
    #[arg(long, value_name = "PROGRAM")]
    scanner: Option<PathBuf>,
    /// Argument for the scanner, before the files.
    #[arg(long = "scanner-arg", value_name = "ARG", allow_hyphen_values = true, requires = "scanner")]
    scanner_args: Vec<String>,
}

fn parse_marking(text: &str) -> std::result::Result<Marking, String> {
    Marking::parse(text).map_err(|e| e.to_string())
}

impl CustodyCommand {
    /// Runs the subcommand.
    pub fn run(&self, json: bool) -> Result<()> {
        match self {
            Self::HandOver(args) => args.run(json),
            Self::Sign { folder, key } => sign(folder, key),
            Self::Show { folder, root } => show(folder, root.as_deref(), json),
        }
    }
}

impl HandOverArgs {
    fn run(&self, json: bool) -> Result<()> {
        let folder = SetFolder::open(&self.folder)?;
        open_banner(&folder.list().marking);
        let given = self.given()?;
        let scanner = self.scanner.as_ref();
        let scanner = scanner.map(|program| Scanner { program: program.clone(), args: self.scanner_args.clone() });
        let mut progress = Progress::new("hash", folder.size());
        let written = hand_over(&folder, given, scanner.as_ref(), &mut |bytes| progress.add(bytes))?;
        drop(progress);
        if json {
            return print_json(&serde_json::json!({"record": written.number, "replaced_draft": written.replaced}));
        }
        let verb = if written.replaced { "replaced the unsigned" } else { "wrote" };
        print(&[
            format!("{verb} record {} of set {}", written.number, folder.list().set),
            "not signed yet: each person signs with bundle-builder custody sign".into(),
        ])
    }

    fn given(&self) -> Result<HandOver> {
        let system = |system: &String, marking: &Marking| System { system: system.clone(), marking: marking.clone() };
        Ok(HandOver {
            log_number: self.log_number.clone(),
            at: self.at.clone().map_or_else(now, Ok)?,
            from: system(&self.from_system, &self.from_marking),
            to: system(&self.to_system, &self.to_marking),
            data_owner: self.data_owner.clone(),
            justification: self.justification.clone(),
            appointment: self.appointment.clone(),
            media: self.media.iter().map(|text| fields::medium(text)).collect::<Result<_>>()?,
            people: People {
                giver: fields::person("--giver", &self.giver)?,
                receiver: fields::person("--receiver", &self.receiver)?,
            },
            disposition: self.disposition.clone(),
        })
    }
}

fn sign(path: &Path, key: &KeyArgs) -> Result<()> {
    let folder = SetFolder::open(path)?;
    open_banner(&folder.list().marking);
    let mut chain = required_chain(&folder)?;
    if let Some(newest) = chain.claimed().next_back() {
        bundle_format::custody::check_against_list(newest, folder.list())?;
    }
    // Consistency comes before the passphrase; `sign_custody` checks again what it signs.
    chain.check()?;
    let signer = key.open()?;
    signer.sign_custody(&mut chain)?;
    folder.write_chain(&chain)?;
    let number = chain.claimed().len();
    let signatures = chain.signatures(number).len();
    print(&[format!("{} signed record {number}; it carries {signatures} signatures", signer.name())])
}

fn show(path: &Path, root: Option<&Path>, json: bool) -> Result<()> {
    let folder = SetFolder::open(path)?;
    open_banner(&folder.list().marking);
    let chain = required_chain(&folder)?;
    if json {
        let records: Vec<_> = chain.claimed().collect();
        print_json(&serde_json::json!({"verified": false, "claimed_records": records}))?;
    } else {
        print(&show::lines(&chain))?;
    }
    chain.check()?;
    if let Some(newest) = chain.claimed().next_back() {
        bundle_format::custody::check_against_list(newest, folder.list())?;
    }
    match root {
        Some(root) => {
            let lines = show::verified(&chain, &roots::read(root)?)?;
            if json { Ok(()) } else { print(&lines) }
        }
        None => Ok(()),
    }
}
