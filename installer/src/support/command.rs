//! `support-bundle`: gather, show, ask, write.

use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;

use super::Draft;
use crate::atomic::{self, Access};
use crate::audit::{self, Outcome, Record};
use crate::banner;
use crate::change::command::Desk;
use crate::cli::{print, print_json};
use crate::error::{ErrorKind, Result};
use crate::host::HostFacts;
use crate::proof::clock;

/// What the command takes from its caller.
#[derive(Debug, Clone, clap::Args)]
pub struct SupportBundle {
    /// The file to write; one that is there is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl SupportBundle {
    /// Runs the command.
    pub fn run(&self, desk: &Desk<'_>) -> Result<()> {
        if std::fs::symlink_metadata(&self.out).is_ok() {
            let why = format!("{} is there already; it is not overwritten", self.out.display());
            return Err(ErrorKind::Usage { why }.into());
        }
        let now = clock();
        let draft = Draft::make(desk.paths, &HostFacts::read(Path::new("/"))?, &now)?;
        banner::open(draft.marking(), desk.no_color);
        if desk.json {
            print_json(&draft.to_json())?;
        } else {
            print(&["for review before it is written (bytes, file, what was redacted):".into()])?;
            print(&draft.lines())?;
        }
        desk.confirm("Write this bundle?")?;
        let bytes = draft.archive()?;
        let sha384 = Sha384::of(&bytes);
        atomic::write_new(&self.out, &bytes, Access::Private)?;
        // That something was put together to leave the machine is an act; a full log does not keep help away.
        let record = Record::new(&now, "support-bundle", Outcome::Ok).subject(&sha384);
        audit::append_or_warn(desk.paths, &record.detail(&self.out.display().to_string()));
        if desk.json {
            return Ok(());
        }
        print(&[format!("{}: {} bytes, SHA-384 {sha384}", self.out.display(), bytes.len())])
    }
}
