//! `receive`: the commands that take a bundle in.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::intake::{Intake, Received, Taken};
use super::volumes::Volume;
use crate::cli::{print, print_json};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::state::State;
use crate::{atomic, banner};

/// Ways in.
#[derive(Debug, Subcommand)]
pub enum ReceiveCommand {
    /// From volumes: files, or folders and mounted discs that hold them. Run it again for each disc.
    Volumes {
        /// Volume files or folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Folder for what arrives (default: inside the state folder).
        #[arg(long, value_name = "DIR")]
        inbox: Option<PathBuf>,
    },
}

/// What every receiving command is told by the command line.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Where the installer keeps things.
    pub paths: &'a Paths,
    /// Machine-readable output.
    pub json: bool,
    /// No colour.
    pub no_color: bool,
}

impl ReceiveCommand {
    /// Runs the command.
    pub fn run(&self, site: &Site<'_>) -> Result<()> {
        match self {
            Self::Volumes { paths, inbox } => volumes(site, paths, inbox.as_deref()),
        }
    }
}

impl Site<'_> {
    /// The inbox folder, made if it is missing, and its lock.
    pub fn inbox(&self, given: Option<&Path>, act: &str) -> Result<(PathBuf, Lock)> {
        let inbox = given.map_or_else(|| self.paths.inbox(), Path::to_path_buf);
        atomic::make_folder(&inbox)?;
        let lock = Lock::take(&inbox.join("lock"), act)?;
        Ok((inbox, lock))
    }

    /// A line for the person who waits; on standard error with `--json`.
    pub fn tell(&self, line: &str) -> Result<()> {
        if self.json {
            use std::io::Write as _;
            return writeln!(std::io::stderr(), "{line}").map_err(|e| Error::io("standard error", e));
        }
        print(&[line.to_owned()])
    }

    /// The end of every way in.
    pub fn received(&self, received: &Received, notes: &[String]) -> Result<()> {
        let manifest = received.arrival.verified().manifest();
        if self.json {
            return print_json(&serde_json::json!({
                "bundle": received.path, "product": manifest.product, "release": manifest.release,
                "sequence": manifest.sequence, "marking": manifest.marking.to_string(),
                "manifest_sha384": received.arrival.verified().sha384().to_string(),
                "restored": received.restored, "notes": notes,
            }));
        }
        print(&received.restored)?;
        print(&[
            format!("received and verified: {}", received.arrival.title()),
            format!("  {}", received.path.display()),
            format!("next: installer install {}", received.path.display()),
        ])
    }
}

fn volumes(site: &Site<'_>, paths: &[PathBuf], inbox: Option<&Path>) -> Result<()> {
    let (inbox, _lock) = site.inbox(inbox, "receive volumes")?;
    let mut state = State::open(&site.paths.database())?;
    let mut intake = Intake::new(&inbox, &mut state, site.json);
    let mut notes = Vec::new();
    let mut unusable = None;
    for path in volume_files(paths)? {
        let volume = match Volume::open(&path) {
            Ok(volume) => volume,
            Err(error) if matches!(error.kind(), ErrorKind::BadVolume { .. }) => {
                site.tell(&error.to_string())?;
                notes.push(error.to_string());
                unusable = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let taken = intake.offer(&volume)?;
        if let Some(arrival) = intake.arrival() {
            banner::open(&arrival.verified().manifest().marking, site.no_color);
        }
        let lines = match taken {
            Taken::Yes(lines) => lines,
            Taken::No(why) => vec![why],
        };
        for line in lines {
            site.tell(&line)?;
            notes.push(line);
        }
    }
    match (intake.arrival(), unusable) {
        (None, Some(error)) => Err(error),
        _ => site.received(&intake.finish("volumes")?, &notes),
    }
}

/// The volume files that `paths` name: files as they are, of folders those that end in `.lgv`.
fn volume_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let io = |e| Error::io(path.display().to_string(), e);
        if !std::fs::metadata(path).map_err(io)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("lgv")) {
                found.push(file);
            }
        }
        if found.is_empty() {
            let why = format!("{} holds no volume: no file ends in .lgv", path.display());
            return Err(ErrorKind::Usage { why }.into());
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}
