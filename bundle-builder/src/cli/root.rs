//! `root`: arguments in, calls into [`crate::roots`], text out.

use std::path::PathBuf;

use bundle_format::root::SequenceReset;
use bundle_format::timestamp::Timestamp;
use clap::{Args, Subcommand};
use signing_keys::{Document, PublicSigner};

use super::{SignArgs, now, parse_time, print, print_json, refuse_existing};
use crate::error::{Error, Result};
use crate::keys::open_key;
use crate::{ceremony, roots};

#[derive(Debug, Subcommand)]
pub(super) enum RootCommand {
    /// Makes version 1, unsigned.
    Init {
        /// The envelope to write.
        #[arg(long)]
        out: PathBuf,
        /// How many keys of each algorithm must sign.
        #[arg(long)]
        threshold: usize,
        /// Public signer files.
        #[arg(long = "signer", required = true, value_name = "FILE")]
        signers: Vec<PathBuf>,
        /// Expiry, YYYY-MM-DDTHH:MM:SSZ.
        #[arg(long, value_parser = parse_time)]
        expires: Timestamp,
        #[command(flatten)]
        apart: ApartArgs,
    },
    /// Adds signers to a root that nobody signed yet.
    Add {
        /// The envelope.
        root: PathBuf,
        /// Public signer files.
        #[arg(long = "signer", required = true, value_name = "FILE")]
        signers: Vec<PathBuf>,
    },
    /// Makes the next version, unsigned.
    Rotate {
        /// The envelope of the current version.
        root: PathBuf,
        /// The envelope to write.
        #[arg(long)]
        out: PathBuf,
        /// Public signer files that come.
        #[arg(long = "add", value_name = "FILE")]
        add: Vec<PathBuf>,
        /// Names of holders that go.
        #[arg(long = "remove", value_name = "NAME")]
        remove: Vec<String>,
        /// New threshold.
        #[arg(long)]
        threshold: Option<usize>,
        /// New expiry.
        #[arg(long, value_parser = parse_time)]
        expires: Option<Timestamp>,
        #[command(flatten)]
        apart: ApartArgs,
        /// Lowers the floors of a product at every site: the way back from a sequence that should never
        /// have been signed. The release keys that signed it must go in the same version.
        #[arg(long = "reset-sequence", value_name = "PRODUCT=SEQUENCE[:EPOCH]", value_parser = roots::parse_reset)]
        resets: Vec<SequenceReset>,
    },
    /// Adds one signer's signatures to a root, or prepares and takes in those of another machine.
    Sign {
        /// The envelope.
        root: PathBuf,
        /// The version before it, whose keys may sign too (with --attach).
        #[arg(long, value_name = "FILE", requires = "attach")]
        former: Option<PathBuf>,
        #[command(flatten)]
        how: SignArgs,
    },
    /// Shows a root and its fingerprint.
    Show {
        /// The envelope.
        root: PathBuf,
    },
}

/// Who holds the roles that a root may do without.
#[derive(Debug, Args)]
pub(super) struct ApartArgs {
    /// Public signer files of data transfer agents, who sign custody records and nothing else.
    #[arg(long = "transfer-signer", value_name = "FILE")]
    transfer_signers: Vec<PathBuf>,
    /// How many agents must sign a custody record (default: 2, or as before).
    #[arg(long, value_name = "N")]
    transfer_threshold: Option<usize>,
    /// Public signer files of builders, whose signatures a bundle then needs beside the release signers'.
    #[arg(long = "builder-signer", value_name = "FILE")]
    builder_signers: Vec<PathBuf>,
    /// How many builders must sign a bundle (default: 1, or as before).
    #[arg(long, value_name = "N")]
    builder_threshold: Option<usize>,
    /// Public signer files of approvers, who approve plans that go past a refusal.
    #[arg(long = "approve-signer", value_name = "FILE")]
    approve_signers: Vec<PathBuf>,
    /// How many must approve such a plan, at least 2 (default: 2, or as before).
    #[arg(long, value_name = "N")]
    approve_threshold: Option<usize>,
}

impl ApartArgs {
    fn read(&self) -> Result<roots::Apart> {
        let group = |signers: &[PathBuf], threshold| {
            Ok::<_, Error>(roots::Group { signers: read_signers(signers)?, threshold })
        };
        Ok(roots::Apart {
            transfer: group(&self.transfer_signers, self.transfer_threshold)?,
            builder: group(&self.builder_signers, self.builder_threshold)?,
            approve: group(&self.approve_signers, self.approve_threshold)?,
        })
    }
}

impl RootCommand {
    pub(super) fn run(&self, json: bool) -> Result<()> {
        match self {
            Self::Init { out, threshold, signers, expires, apart } => {
                refuse_existing(out)?;
                let (signers, apart) = (read_signers(signers)?, apart.read()?);
                let envelope = roots::init(&signers, *threshold, &apart, now()?, expires.clone())?;
                roots::write(out, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            Self::Add { root, signers } => {
                let envelope = roots::add(&roots::read(root)?, &read_signers(signers)?)?;
                roots::write(root, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            Self::Rotate { root, out, add, remove, threshold, expires, apart, resets } => {
                refuse_existing(out)?;
                let changes = roots::Changes {
                    add: read_signers(add)?,
                    remove: remove.clone(),
                    threshold: *threshold,
                    expires: expires.clone(),
                    apart: apart.read()?,
                    resets: resets.clone(),
                };
                let envelope = roots::rotate(&roots::read(root)?, now()?, &changes)?;
                roots::write(out, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            Self::Sign { root, former, how } => {
                let mut envelope = roots::read(root)?;
                if let Some(out) = &how.export {
                    return print(&ceremony::export(&Document::of_root(&envelope)?, out)?);
                }
                if let Some(key) = &how.key {
                    roots::sign(&mut envelope, &open_key(key, &how.secrets)?)?;
                } else {
                    let former = former.as_deref().map(roots::read).transpose()?;
                    ceremony::attach_root(&mut envelope, former.as_ref(), &how.attach)?;
                }
                roots::write(root, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            Self::Show { root } => {
                let envelope = roots::read(root)?;
                if json {
                    let version = envelope.claimed().version();
                    let sha384 = envelope.claimed().fingerprint().to_string();
                    return print_json(&serde_json::json!({"version": version, "sha384": sha384}));
                }
                print(&roots::describe(&envelope)?)
            }
        }
    }
}

fn read_signers(paths: &[PathBuf]) -> Result<Vec<PublicSigner>> {
    paths.iter().map(|path| roots::read_signer(path)).collect()
}
