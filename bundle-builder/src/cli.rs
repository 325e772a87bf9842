//! The command line of `bundle-builder`: arguments in, calls into the library, text out.

mod root;

use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::timestamp::Timestamp;
use clap::{Args, Parser, Subcommand};
use confinement::open_regular;
use signing_keys::Document;

use self::root::RootCommand;
use crate::base::{BaseOptions, Bases};
use crate::build::{Effort, Options};
use crate::collect::{Collected, collect, read_lock};
use crate::custody::CustodyCommand;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::View;
use crate::keys::{KeyArgs, KeygenArgs, SecretArgs, open_key};
use crate::output::{Progress, open_banner};
use crate::pin::{PinOptions, ReleaseFile, pin};
use crate::provenance::Builder;
use crate::sign::OpenBundle;
use crate::source::{AuthFiles, PlainHttp, RegistryOptions};
use crate::{ceremony, inspect, roots};

/// Packs, signs and shows Lockgate bundles on the connected side.
#[derive(Debug, Parser)]
#[command(name = "bundle-builder", version, about, propagate_version = true)]
pub struct Cli {
    /// Machine-readable output on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Folder for files that are large and short-lived (default: beside the output).
    #[arg(long, global = true, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
    /// No colour.
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a signer: key files sealed by a passphrase, or keys in a token, and its public half.
    Keygen(KeygenArgs),
    /// The trust root and its next version.
    #[command(subcommand)]
    Root(RootCommand),
    /// Resolves each image and file of a release to a digest and writes the lock beside it.
    Pin {
        /// The release manifest.
        release: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Packs a release into one archive, from its lock only.
    Build {
        /// The release manifest.
        release: PathBuf,
        /// The archive to write.
        #[arg(long)]
        out: PathBuf,
        /// Trust root envelopes, version 1 first, all versions.
        #[arg(long = "root", required = true, value_name = "FILE")]
        roots: Vec<PathBuf>,
        /// URI of this build platform for the provenance statement.
        #[arg(long, value_name = "URI", default_value = crate::provenance::BUILDER)]
        builder_id: String,
        /// Also signs the provenance statement: a build key, FOLDER/NAME. It must be in the trust root.
        #[arg(long, value_name = "FOLDER/NAME")]
        provenance_key: Option<PathBuf>,
        #[command(flatten)]
        secrets: SecretArgs,
        #[command(flatten)]
        size: SizeArgs,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Shows what each image and layer takes in a bundle, and beside what others would carry.
    SizeReport {
        /// The bundle.
        bundle: PathBuf,
        /// An OCI layout of the same images: an archive of it is made as other tools make one (tar, and zstd
        /// at its highest level), to compare with; takes long, needs both programs and no disk.
        #[arg(long, value_name = "LAYOUT")]
        peer: Option<PathBuf>,
    },
    /// Adds one signer's signatures to a bundle, or prepares and takes in those of another machine.
    Sign {
        /// The bundle.
        bundle: PathBuf,
        #[command(flatten)]
        how: SignArgs,
    },
    /// Signs bytes that `sign --export` or `root sign --export` wrote, on a machine of its own.
    SignBytes {
        /// The bytes.
        bytes: PathBuf,
        /// Their SHA-384 from the paper, in quotes or without its spaces.
        #[arg(long, value_name = "DIGITS")]
        sha384: String,
        /// Folder for the detached signatures (default: beside the bytes).
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Shows what a bundle claims; trusts nothing.
    Inspect {
        /// The bundle.
        bundle: PathBuf,
        /// What to show.
        #[arg(value_enum, default_value = "summary")]
        view: View,
    },
    #[command(flatten)]
    Carry(crate::carry::CarryCommand),
    /// The signed chain of hand-overs that travels with a set.
    #[command(subcommand)]
    Custody(CustodyCommand),
    /// Writes the transfer record, media labels and the hash card of a set as PDF.
    Papers {
        /// Folder of the set.
        folder: PathBuf,
        /// The PDF to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Number of the custody record (default: the newest).
        #[arg(long, value_name = "N")]
        record: Option<u64>,
    },
    /// Approves a plan that goes past a refusal on the high side; two persons must.
    Approve {
        /// The plan, as written by installer plan --out.
        plan: PathBuf,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The approval to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Time of the approval, where the site's time is another than this machine's (default: now).
        #[arg(long, value_parser = parse_time)]
        at: Option<Timestamp>,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Reads a receipt code from the high side: which bundle arrived, which is installed.
    Confirm {
        /// The code, in quotes or without its spaces.
        code: String,
        /// Bundles that it may name.
        #[arg(required = true)]
        bundles: Vec<PathBuf>,
    },
    /// Prints a completion script.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    #[command(hide = true)]
    Man,
}

/// How a document is signed: here, or on another machine.
#[derive(Debug, Args)]
#[group(id = "how", required = true, multiple = false, args = ["key", "export", "attach"])]
struct SignArgs {
    /// Signs here, with the signer FOLDER/NAME as given to keygen.
    #[arg(long, value_name = "FOLDER/NAME")]
    key: Option<PathBuf>,
    /// Writes the exact bytes to sign, and a sheet for people beside them.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Takes detached signatures that `sign-bytes` wrote; each is verified.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    attach: Vec<PathBuf>,
    #[command(flatten)]
    secrets: SecretArgs,
}

/// How small a bundle is made, and upon what.
#[derive(Debug, Args)]
struct SizeArgs {
    /// How much time to take for a smaller bundle.
    #[arg(long, value_enum, default_value_t)]
    effort: Effort,
    /// What sites hold already: a former bundle, a former release (with its lock and sources), or an
    /// inventory; may be repeated. Such a bundle is for those sites only.
    #[arg(long = "base", value_name = "FILE")]
    bases: Vec<PathBuf>,
    /// Where blobs of the bases are: an OCI layout or store folder, or a former bundle; may be repeated.
    #[arg(long = "base-blobs", value_name = "PATH", requires = "bases")]
    base_blobs: Vec<PathBuf>,
    /// Key file of a site (installer audit key) that its inventory must be signed by; may be repeated.
    #[arg(long = "site-key", value_name = "FILE", requires = "bases")]
    site_keys: Vec<PathBuf>,
    /// Packs that are made at the same time, by one to four threads each (default: one a core, at most 8);
    /// the bundle's bytes do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// Registry credentials in the format of containers-auth.json(5).
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Certificate authority of a private registry, PEM.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Allows plain HTTP to registries on this machine's loopback address.
    #[arg(long)]
    insecure_loopback: bool,
}

pub(crate) fn parse_time(text: &str) -> std::result::Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|e| e.to_string())
}

impl Cli {
    /// Runs the command that was parsed.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            Command::Keygen(args) => args.run(),
            Command::Root(command) => command.run(self.json),
            Command::Pin { release, source } => self.pin(release, source),
            Command::Build { release, out, roots, builder_id, provenance_key, secrets, size, source } => {
                let key = provenance_key.as_deref().map(|key| open_key(key, secrets)).transpose()?;
                self.build(release, out, roots, &Builder { id: builder_id, key: key.as_ref() }, size, source)
            }
            Command::SizeReport { bundle, peer } => self.size_report(bundle, peer.as_deref()),
            Command::Sign { bundle, how } => sign(bundle, how),
            Command::SignBytes { bytes, sha384, out, key } => sign_bytes(bytes, sha384, out.as_deref(), key),
            Command::Inspect { bundle, view } => self.inspect(bundle, *view),
            Command::Carry(command) => command.run(self.json),
            Command::Custody(command) => command.run(self.json),
            Command::Papers { folder, out, record } => crate::papers::run(folder, out, *record, self.json),
            Command::Approve { plan, reason, out, at, key } => approve(plan, reason, out, at.as_ref(), key),
            Command::Confirm { code, bundles } => {
                let confirmed = crate::confirm::confirm(code, bundles)?;
                if self.json { print_json(&confirmed.to_json()) } else { print(&confirmed.lines()) }
            }
            Command::Completions { shell } => {
                clap_complete::generate(
                    *shell,
                    &mut <Self as clap::CommandFactory>::command(),
                    "bundle-builder",
                    &mut std::io::stdout(),
                );
                Ok(())
            }
            Command::Man => clap_mangen::Man::new(<Self as clap::CommandFactory>::command())
                .render(&mut std::io::stdout())
                .map_err(|e| Error::io("standard output", e)),
        }
    }

    fn pin(&self, release: &Path, source: &SourceArgs) -> Result<()> {
        let file = ReleaseFile::read(release)?;
        open_banner(&file.release.marking);
        let lock = pin(release, &PinOptions { registry: source.options(), created: now()? })?;
        if self.json {
            return print_json(&serde_json::json!({"lock": file.lock, "images": lock.images.len()}));
        }
        print(&[format!("pinned {} images; wrote {}", lock.images.len(), file.lock.display())])
    }

    fn build(
        &self,
        release: &Path,
        out: &Path,
        roots: &[PathBuf],
        builder: &Builder<'_>,
        size: &SizeArgs,
        source: &SourceArgs,
    ) -> Result<()> {
        let file = ReleaseFile::read(release)?;
        open_banner(&file.release.marking);
        let roots = roots.iter().map(|path| roots::read(path)).collect::<Result<Vec<_>>>()?;
        let collected = collect(&file, &read_lock(&file)?, &source.options())?;
        let total: u64 = collected.blobs.iter().map(|blob| blob.size).sum();
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let spool = self.tmpdir.as_deref().unwrap_or(parent);
        let bases = size.bases(&collected, &source.options(), spool)?;
        let options = Options { effort: size.effort, jobs: size.jobs(), spool };
        let mut progress =
            Progress::steady("build", total.saturating_mul(3).saturating_add(collected.unknown_layer_bytes()));
        let add = &mut |bytes| progress.add(bytes);
        let built = crate::build::build(collected, builder, &roots, &bases, out, &options, add)?;
        drop(progress);
        let sha384 = bundle_format::digest::Sha384::of(&built.manifest.to_bytes()?);
        if self.json {
            return print_json(&serde_json::json!({
                "bundle": out, "bytes": built.size, "manifest_sha384": sha384.to_string(), "marking": built.manifest.marking.to_string(),
                "blobs": built.notes, "notes": bases.notes(),
            }));
        }
        let mut lines = bases.notes().to_vec();
        lines.extend(built.lines());
        lines.extend([
            format!("wrote {} ({} bytes)", out.display(), built.size),
            format!("manifest sha384 {sha384}"),
            "not signed yet: use bundle-builder sign".into(),
        ]);
        print(&lines)
    }

    fn size_report(&self, bundle: &Path, peer: Option<&Path>) -> Result<()> {
        // Before the first byte of the bundle: afterwards no program can be started.
        let peer = peer.map(crate::size_report::Peer::make).transpose()?;
        let confined = confinement::confine(&[bundle]);
        let file = open_regular(bundle).map_err(|e| Error::io(bundle.display().to_string(), e))?;
        open_banner(&inspect::read(BufReader::new(file))?.manifest.marking);
        let report = crate::size_report::read(bundle, peer)?;
        warn_unconfined(&confined);
        if self.json { print_json(&report.to_json()) } else { print(&report.lines()) }
    }

    fn inspect(&self, bundle: &Path, view: View) -> Result<()> {
        // An unsigned bundle is anybody's: from here on this process can read it and print, no more.
        let confined = confinement::confine(&[bundle]);
        let file = open_regular(bundle).map_err(|e| Error::io(bundle.display().to_string(), e))?;
        let claim = inspect::read(BufReader::new(file))?;
        open_banner(&claim.manifest.marking);
        if self.json {
            let confined = serde_json::json!({
                "landlock_abi": confined.landlock(), "seccomp": confined.seccomp(), "lacks": confined.lacks(),
            });
            return print_json(
                &serde_json::json!({"verified": false, "confined": confined, "claimed_manifest": claim.manifest}),
            );
        }
        warn_unconfined(&confined);
        print(&inspect::lines(&claim, view))
    }
}

impl SizeArgs {
    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        self.jobs.map_or_else(cores, usize::from)
    }

    fn bases(&self, new: &Collected, registry: &RegistryOptions, spool: &Path) -> Result<Bases> {
        if self.bases.is_empty() {
            return Ok(Bases::none());
        }
        let (bases, blobs) = (self.bases.clone(), self.base_blobs.clone());
        Bases::read(&BaseOptions { bases, blobs, site_keys: self.site_keys.clone() }, new, registry, spool)
    }
}

impl SourceArgs {
    fn options(&self) -> RegistryOptions {
        let plain_http = if self.insecure_loopback { PlainHttp::LoopbackOnly } else { PlainHttp::Refused };
        let auth = AuthFiles::find(self.authfile.clone(), |name| std::env::var_os(name));
        RegistryOptions { auth, ca_file: self.ca_file.clone(), plain_http }
    }
}

fn sign(path: &Path, how: &SignArgs) -> Result<()> {
    let mut bundle = OpenBundle::open(path)?;
    let document = Document::of_manifest(&bundle.envelope)?;
    if let Some(marking) = document.marking() {
        open_banner(marking);
    }
    if let Some(out) = &how.export {
        return print(&ceremony::export(&document, out)?);
    }
    let io = |e| Error::io(path.display().to_string(), e);
    let mut progress = Progress::new("sign", std::fs::metadata(path).map_err(io)?.len());
    let (names, envelope) = if let Some(key) = &how.key {
        let signer = open_key(key, &how.secrets)?;
        (vec![signer.name().to_owned()], crate::sign::sign(path, &signer, &mut |bytes| progress.add(bytes))?)
    } else {
        let names = ceremony::attach_manifest(&mut bundle, &how.attach)?;
        (names, bundle.write(&mut |bytes| progress.add(bytes))?)
    };
    drop(progress);
    let (names, count) = (names.join(", "), envelope.signatures().len());
    print(&[format!("{names} signed {}; it carries {count} signatures", path.display())])
}

fn approve(plan: &Path, reason: &str, out: &Path, at: Option<&Timestamp>, key: &KeyArgs) -> Result<()> {
    refuse_existing(out)?;
    let plan = crate::approve::ReadPlan::read(plan)?;
    open_banner(&bundle_format::marking::Marking::parse(&plan.plan().marking)?);
    print(&plan.lines())?;
    let signer = key.open()?;
    let approval = plan.approve(&signer, reason, at.cloned().map_or_else(now, Ok)?)?;
    roots::write_bytes(out, &approval.to_bytes()?)?;
    print(&[format!("{} approved it; wrote {}", signer.name(), out.display())])
}

fn sign_bytes(path: &Path, sha384: &str, out: Option<&Path>, key: &KeyArgs) -> Result<()> {
    let document = ceremony::read_document(path, sha384)?;
    if let Some(marking) = document.marking() {
        open_banner(marking);
    }
    print(&document.sheet())?;
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let signer = key.open()?;
    let written = ceremony::sign_bytes(&document, &signer, out.unwrap_or(beside))?;
    print(&[format!("{} signed; carry back:", signer.name())])?;
    print(&written.iter().map(|path| format!("  {}", path.display())).collect::<Vec<_>>())
}

fn refuse_existing(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(ErrorKind::Usage(format!("{} exists already and is never overwritten", path.display())).into());
    }
    Ok(())
}

/// Says on standard error what this kernel could not hold back.
fn warn_unconfined(confined: &confinement::Confined) {
    if !confined.lacks().is_empty() {
        // A closed standard error leaves nowhere to complain to.
        drop(writeln!(std::io::stderr(), "{}", confined.line()));
    }
}

/// The time for new documents: `SOURCE_DATE_EPOCH` where it is set, else the clock.
pub(crate) fn now() -> Result<Timestamp> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => {
            text.parse().map_err(|_| ErrorKind::Usage(format!("SOURCE_DATE_EPOCH is {text:?}, expected seconds")))?
        }
        Err(_) => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    Ok(Timestamp::from_unix(seconds))
}

/// Writes lines to standard output.
pub(crate) fn print(lines: &[String]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}")).map_err(|e| Error::io("standard output", e))
}

/// Writes one JSON document to standard output.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&[value.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_all_commands_fit_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
