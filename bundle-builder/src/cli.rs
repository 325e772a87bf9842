//! The command line of `bundle-builder`: arguments in, calls into the library, text out.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::timestamp::Timestamp;
use clap::{Args, Parser, Subcommand};
use signing_keys::file::KeyFiles;
use signing_keys::{PublicSigner, Signer};

use crate::collect::{collect, read_lock};
use crate::custody::CustodyCommand;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::View;
use crate::output::{Progress, open_banner, passphrase};
use crate::pin::{PinOptions, ReleaseFile, pin};
use crate::source::{AuthFiles, PlainHttp, RegistryOptions};
use crate::{inspect, roots};

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
    /// Makes a signer: key files sealed by a passphrase, and its public half.
    Keygen {
        /// Holder's name (a-z, 0-9, hyphens).
        #[arg(long)]
        name: String,
        /// Folder for the files.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
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
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Adds one signer's signatures to a bundle.
    Sign {
        /// The bundle.
        bundle: PathBuf,
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

#[derive(Debug, Subcommand)]
enum RootCommand {
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
        agents: AgentArgs,
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
        agents: AgentArgs,
    },
    /// Adds one signer's signatures to a root.
    Sign {
        /// The envelope.
        root: PathBuf,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Shows a root and its fingerprint.
    Show {
        /// The envelope.
        root: PathBuf,
    },
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// Public signer files of data transfer agents, who sign custody records and nothing else.
    #[arg(long = "transfer-signer", value_name = "FILE")]
    transfer_signers: Vec<PathBuf>,
    /// How many agents must sign a custody record (default: 2, or as before).
    #[arg(long, value_name = "N")]
    transfer_threshold: Option<usize>,
}

impl AgentArgs {
    fn read(&self) -> Result<roots::Agents> {
        Ok(roots::Agents { signers: read_signers(&self.transfer_signers)?, threshold: self.transfer_threshold })
    }
}

#[derive(Debug, Args)]
struct PassphraseArgs {
    /// File whose first line is the passphrase (/dev/fd/N for a descriptor); default: ask.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Which signer signs.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The signer: FOLDER/NAME as given to keygen.
    #[arg(long, value_name = "FOLDER/NAME")]
    key: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
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
            Command::Keygen { name, out, passphrase } => keygen(name, out, passphrase),
            Command::Root(command) => self.root(command),
            Command::Pin { release, source } => self.pin(release, source),
            Command::Build { release, out, roots, source } => self.build(release, out, roots, source),
            Command::Sign { bundle, key } => sign(bundle, key),
            Command::Inspect { bundle, view } => self.inspect(bundle, *view),
            Command::Carry(command) => command.run(self.json),
            Command::Custody(command) => command.run(self.json),
            Command::Papers { folder, out, record } => crate::papers::run(folder, out, *record, self.json),
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

    fn root(&self, command: &RootCommand) -> Result<()> {
        match command {
            RootCommand::Init { out, threshold, signers, expires, agents } => {
                refuse_existing(out)?;
                let (signers, agents) = (read_signers(signers)?, agents.read()?);
                let envelope = roots::init(&signers, *threshold, &agents, now()?, expires.clone())?;
                roots::write(out, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            RootCommand::Add { root, signers } => {
                let envelope = roots::add(&roots::read(root)?, &read_signers(signers)?)?;
                roots::write(root, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            RootCommand::Rotate { root, out, add, remove, threshold, expires, agents } => {
                refuse_existing(out)?;
                let changes = roots::Changes {
                    add: read_signers(add)?,
                    remove: remove.clone(),
                    threshold: *threshold,
                    expires: expires.clone(),
                    agents: agents.read()?,
                };
                let envelope = roots::rotate(&roots::read(root)?, now()?, &changes)?;
                roots::write(out, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            RootCommand::Sign { root, key } => {
                let mut envelope = roots::read(root)?;
                roots::sign(&mut envelope, &open_key(key)?)?;
                roots::write(root, &envelope)?;
                print(&roots::describe(&envelope)?)
            }
            RootCommand::Show { root } => {
                let envelope = roots::read(root)?;
                if self.json {
                    let version = envelope.claimed().version();
                    let sha384 = envelope.claimed().fingerprint()?.to_string();
                    return print_json(&serde_json::json!({"version": version, "sha384": sha384}));
                }
                print(&roots::describe(&envelope)?)
            }
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

    fn build(&self, release: &Path, out: &Path, roots: &[PathBuf], source: &SourceArgs) -> Result<()> {
        let file = ReleaseFile::read(release)?;
        open_banner(&file.release.marking);
        let roots = roots.iter().map(|path| roots::read(path)).collect::<Result<Vec<_>>>()?;
        let collected = collect(&file, &read_lock(&file)?, &source.options())?;
        let total: u64 = collected.blobs.iter().map(|blob| blob.size).sum();
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let spool = self.tmpdir.as_deref().unwrap_or(parent);
        let mut progress = Progress::new("build", total.saturating_mul(2));
        let built = crate::build::build(&collected, &roots, out, spool, &mut |bytes| progress.add(bytes))?;
        drop(progress);
        let sha384 = bundle_format::digest::Sha384::of(&built.manifest.to_bytes()?);
        if self.json {
            return print_json(&serde_json::json!({
                "bundle": out, "bytes": built.size, "manifest_sha384": sha384.to_string(), "marking": built.manifest.marking.to_string(),
            }));
        }
        print(&[
            format!("wrote {} ({} bytes)", out.display(), built.size),
            format!("manifest sha384 {sha384}"),
            "not signed yet: use bundle-builder sign".into(),
        ])
    }

    fn inspect(&self, bundle: &Path, view: View) -> Result<()> {
        let file = File::open(bundle).map_err(|e| Error::io(bundle.display().to_string(), e))?;
        let claim = inspect::read(BufReader::new(file))?;
        open_banner(&claim.manifest.marking);
        if self.json {
            return print_json(&serde_json::json!({"verified": false, "claimed_manifest": claim.manifest}));
        }
        print(&inspect::lines(&claim, view))
    }
}

impl SourceArgs {
    fn options(&self) -> RegistryOptions {
        let plain_http = if self.insecure_loopback { PlainHttp::LoopbackOnly } else { PlainHttp::Refused };
        let auth = AuthFiles::find(self.authfile.clone(), |name| std::env::var_os(name));
        RegistryOptions { auth, ca_file: self.ca_file.clone(), plain_http }
    }
}

fn keygen(name: &str, out: &Path, args: &PassphraseArgs) -> Result<()> {
    let secret = passphrase(args.passphrase_file.as_deref(), &format!("New passphrase for {name}: "))?;
    if args.passphrase_file.is_none() && passphrase(None, "Again: ")? != secret {
        return Err(ErrorKind::Usage("the two passphrases differ".into()).into());
    }
    let files = KeyFiles::of(out, name);
    let signer = Signer::generate(name)?;
    files.write(&signer, &secret)?;
    let mut lines = vec![
        format!("sealed  {}", files.ed25519.display()),
        format!("sealed  {}", files.ml_dsa_87.display()),
        format!("public  {}", files.public.display()),
        format!("public  {} (for stock minisign)", files.minisign_public.display()),
    ];
    lines.extend(signer.public().holder().keys.iter().map(|key| format!("key id  {}  {}", key.id(), key.scheme())));
    print(&lines)
}

fn sign(bundle: &Path, key: &KeyArgs) -> Result<()> {
    let io = |e| Error::io(bundle.display().to_string(), e);
    let claim = inspect::read(BufReader::new(File::open(bundle).map_err(io)?))?;
    open_banner(&claim.manifest.marking);
    let signer = open_key(key)?;
    let mut progress = Progress::new("sign", claim.manifest.stored_size());
    let envelope = crate::sign::sign(bundle, &signer, &mut |bytes| progress.add(bytes))?;
    drop(progress);
    print(&[format!(
        "{} signed {}; it carries {} signatures",
        signer.name(),
        bundle.display(),
        envelope.signatures().len()
    )])
}

pub(crate) fn open_key(args: &KeyArgs) -> Result<Signer> {
    let usage = || ErrorKind::Usage("--key takes FOLDER/NAME, the folder and the name given to keygen".into());
    let name = args.key.file_name().and_then(|name| name.to_str()).ok_or_else(usage)?;
    let folder = args.key.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let secret = passphrase(args.passphrase.passphrase_file.as_deref(), &format!("Passphrase of {name}: "))?;
    Ok(KeyFiles::of(folder, name).open(name, &secret)?)
}

fn read_signers(paths: &[PathBuf]) -> Result<Vec<PublicSigner>> {
    paths.iter().map(|path| roots::read_signer(path)).collect()
}

fn refuse_existing(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(ErrorKind::Usage(format!("{} exists already and is never overwritten", path.display())).into());
    }
    Ok(())
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
