//! Commands that only read, and what they read is not proved yet: a process of its own does it, confined,
//! and hands over to the one that was started what that one cannot see itself.

use std::path::{Path, PathBuf};

use bundle_format::marking::Marking;
use clap::Subcommand;
use confinement::{Confined, confine};

use super::{Cli, Command, print, print_json};
use crate::error::{ErrorKind, Result};
use crate::progress::Progress;
use crate::proof::{ProvedBundle, Site};
use crate::state::State;
use crate::store::Store;
use crate::{attachments, banner, reader};

#[derive(Debug, Subcommand)]
pub(super) enum InspectCommand {
    /// SBOMs: which images have one, or the one of IMAGE.
    Sbom {
        /// The bundle.
        bundle: PathBuf,
        /// Name with tag, or digest, of an image; prints its SBOM.
        image: Option<String>,
        /// Writes the exact bytes to a new file instead of printing them.
        #[arg(long, value_name = "FILE", requires = "image")]
        out: Option<PathBuf>,
    },
    /// The provenance statement.
    Provenance {
        /// The bundle.
        bundle: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum CustodyCommand {
    /// Proves the chain by the trust root and compares every file in a folder with it.
    Verify {
        /// The folder: the chain, and the volumes that came.
        folder: PathBuf,
    },
}

impl InspectCommand {
    /// The file that gets the document which is read.
    pub(super) fn document_file(&self) -> Option<&Path> {
        match self {
            Self::Sbom { out, .. } => out.as_deref(),
            Self::Provenance { .. } => None,
        }
    }
}

impl Cli {
    /// Has a confined process read, and does what that one cannot.
    pub(super) fn by_reader(&self) -> Result<()> {
        // What is wrong with the record is told from here: no bundle has a part in it.
        Site::read(&State::open(&self.paths()?.database())?)?;
        let (reading, verdict) = reader::run()?;
        if let Some(line) = reading.banner {
            banner::take_over(line);
        }
        if let Some((product, release, manifest)) = &reading.seen {
            self.act.seen(product, release, manifest);
        }
        verdict?;
        let Some(out) = self.command.document_file() else { return Ok(()) };
        let missing = || ErrorKind::ReaderLost { how: "it gave no document".into() };
        attachments::write_new(out, &reading.document.ok_or_else(missing)?)?;
        print(&[format!("wrote {}", out.display())])
    }

    /// Reads for [`Cli::by_reader`], which prints the error and the last line.
    pub(super) fn as_reader(&self) -> Result<()> {
        reader::check_starter()?;
        if !self.command.is_read_apart() && !matches!(self.command, Command::Unpack { .. }) {
            return Err(ErrorKind::Usage { why: "this command is not for a reader".into() }.into());
        }
        if let Err(error) = self.dispatch() {
            reader::fail(&error);
        }
        drop(banner::leave());
        Ok(())
    }

    /// Reads the site's record, lets go of it, and confines this process to `input` and the store.
    fn confine(&self, input: &Path) -> Result<(Site, Store, Confined)> {
        let paths = self.paths()?;
        let site = Site::read(&State::open(&paths.database())?)?;
        let store = paths.store();
        let confined = confine(&[input, &store]);
        Ok((site, Store::peek(&store), confined))
    }

    /// The head proved and permitted, in the reader.
    fn open_at(&self, bundle: &Path, site: &Site) -> Result<ProvedBundle> {
        let proved = ProvedBundle::open_at(bundle, site)?;
        let manifest = proved.manifest();
        self.open_banner(&manifest.marking)?;
        reader::tell_seen(&manifest.product, &manifest.release, proved.verified().sha384())?;
        site.policy_for(&manifest.product).check(proved.verified())?;
        Ok(proved)
    }

    /// The first line, in the reader; the last one is its parent's.
    fn open_banner(&self, marking: &Marking) -> Result<()> {
        banner::open(marking, self.no_color);
        banner::leave().map_or(Ok(()), |line| reader::tell_banner(&line))
    }

    pub(super) fn inspect(&self, command: &InspectCommand) -> Result<()> {
        match command {
            InspectCommand::Sbom { bundle, image, out } => {
                let (site, store, _) = self.confine(bundle)?;
                let proved = self.open_at(bundle, &site)?;
                match (image, out) {
                    (None, _) if self.json => print_json(&attachments::sboms_json(proved.manifest())),
                    (None, _) => print(&attachments::sbom_lines(proved.manifest())),
                    (Some(image), out) => {
                        let base = proved.find_base(&store, &mut |_| ())?;
                        let bytes = attachments::sbom(&proved, &base, image)?;
                        match out {
                            None => print(&[attachments::printable(&bytes)?]),
                            Some(_) => reader::tell_document(&bytes),
                        }
                    }
                }
            }
            InspectCommand::Provenance { bundle } => {
                let (site, store, _) = self.confine(bundle)?;
                let proved = self.open_at(bundle, &site)?;
                let provenance = attachments::provenance(&proved, &proved.find_base(&store, &mut |_| ())?)?;
                if self.json {
                    print_json(&attachments::json(&provenance))
                } else {
                    print(&attachments::lines(&provenance))
                }
            }
        }
    }

    pub(super) fn verify(&self, bundle: &Path) -> Result<()> {
        let (site, store, confined) = self.confine(bundle)?;
        let proved = self.open_at(bundle, &site)?;
        let mut progress = Progress::new("verify", proved.manifest().stored_size(), self.json);
        let base = proved.find_base(&store, &mut |_| ())?;
        let mut sink = attachments::sink(proved.manifest());
        let verified = proved.unpack(&base, &mut sink, &mut |bytes| progress.add(bytes))?;
        progress.finish();
        let manifest = verified.manifest();
        let provenance = attachments::kept_provenance(&verified, &sink)?;
        attachments::check_signed(provenance.as_ref(), &verified, site.policy())?;
        if self.json {
            return print_json(&serde_json::json!({
                "verified": true,
                "product": manifest.product, "release": manifest.release, "sequence": manifest.sequence,
                "marking": manifest.marking.to_string(), "manifest_sha384": verified.sha384().to_string(),
                "root_version": verified.root().root().version(),
                "clock": site.moment().to_json(),
                "confined": {
                    "landlock_abi": confined.landlock(), "seccomp": confined.seccomp(), "lacks": confined.lacks(),
                },
                "signers": verified.signers().iter().map(ToString::to_string).collect::<Vec<_>>(),
                "sboms": attachments::sboms_json(manifest),
                "provenance": provenance.as_ref().map(attachments::json),
            }));
        }
        let frames: usize = manifest.packs.iter().map(|pack| pack.frames.len()).sum();
        let mut lines = vec![
            format!("verified: {} {} (sequence {})", manifest.product, manifest.release, manifest.sequence),
            format!("  manifest SHA-384 {}", verified.sha384()),
            format!("  {} frames by SHA-384, {} blobs by sha256", frames, manifest.blob_sizes().len()),
            format!("  trust root version {}", verified.root().root().version()),
            format!("  {}", site.moment().line()),
            format!("  {}", confined.line()),
        ];
        for id in verified.signers() {
            let entry = verified.root().root().key_list().find(|entry| entry.2 == *id);
            lines.push(entry.map_or_else(
                || format!("  signed {id}"),
                |(holder, scheme, ..)| format!("  signed {id}  {scheme:<10}  {holder}"),
            ));
        }
        lines.push(attachments::sbom_count(manifest));
        lines.push(provenance.as_ref().map_or_else(|| "  no provenance".into(), attachments::line));
        print(&lines)
    }

    pub(super) fn custody_verify(&self, folder: &Path) -> Result<()> {
        let (site, ..) = self.confine(folder)?;
        let mut progress = Progress::new("hash", crate::custody::size(folder)?, self.json);
        let report = crate::custody::verify_folder(folder, site.trusted(), &mut |bytes| progress.add(bytes));
        progress.finish();
        let report = report?;
        self.open_banner(&report.verified.newest().marking)?;
        if self.json {
            print_json(&report.to_json())?;
        } else {
            print(&report.lines())?;
        }
        report.refuse_differences()
    }
}
