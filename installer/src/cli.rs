//! The command line of `installer`: arguments in, calls into the library, text out.

mod reading;
mod trusting;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use bundle_format::receipt::Health;
use bundle_format::text::escaped;
use clap::{Parser, Subcommand};

pub(crate) use self::trusting::accreditation;

use self::reading::{CustodyCommand, InspectCommand};
use self::trusting::{PolicyCommand, TrustCommand};
use crate::attachments;
use crate::audit::command::AuditCommand;
use crate::audit::refusal::{Act, Kind};
use crate::banner;
use crate::change::command::{ChangeCommand, Desk};
use crate::dangerous::Dangerous;
use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::lock::Lock;
use crate::moment::Moment;
use crate::paths::Paths;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::preflight::{self, Finding, Needs, Question};
use crate::progress::Progress;
use crate::proof::{Base, ProvedBundle, SitePolicy, clock};
use crate::receipt::Paint;
use crate::state::State;
use crate::store::{Store, StoreSink};
use crate::{audit, crypto, dangerous, policy, receipt, status};

/// Proves, plans and installs Lockgate bundles on the isolated side.
#[derive(Debug, Parser)]
#[command(name = "installer", version, about, propagate_version = true)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Cli {
    /// Machine-readable output on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Where the installer keeps its state.
    #[arg(long, global = true, value_name = "DIR", default_value = crate::paths::DEFAULT)]
    state_dir: PathBuf,
    /// Folder for short-lived files (default: inside the state folder).
    #[arg(long, global = true, value_name = "DIR")]
    tmpdir: Option<PathBuf>,
    /// No colour.
    #[arg(long, global = true)]
    no_color: bool,
    /// Answers the one question that is asked on a terminal.
    #[arg(long, global = true)]
    yes: bool,
    /// This process reads for another one of this program.
    #[arg(long = crate::reader::FLAG, hide = true)]
    in_reader: bool,
    #[arg(skip)]
    act: Act,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The trust anchor.
    #[command(subcommand)]
    Trust(TrustCommand),
    /// The whole proof of a bundle; changes nothing.
    Verify {
        /// The bundle.
        bundle: PathBuf,
    },
    /// Takes a bundle apart for another process of this program.
    #[command(name = crate::unpacker::COMMAND, hide = true)]
    Unpack {
        /// SHA-384 of the manifest that the other process proved.
        #[arg(long, value_parser = parse_sha384)]
        manifest: Sha384,
        /// The base set that it found.
        #[arg(long, requires = "store")]
        base_set: Option<usize>,
        /// The store that holds it.
        #[arg(long, requires = "base_set")]
        store: Option<PathBuf>,
        /// The bundle.
        bundle: PathBuf,
    },
    /// Shows documents that a bundle carries, after its head is proved.
    #[command(subcommand)]
    Inspect(InspectCommand),
    /// Takes in a bundle that comes in parts: volumes, a drop folder, the one-way link.
    #[command(subcommand)]
    Receive(crate::receive::command::ReceiveCommand),
    /// Whether this machine is fit for a bundle.
    Preflight {
        /// The bundle.
        bundle: PathBuf,
        #[command(flatten)]
        options: preflight::Options,
    },
    /// What an installation would do.
    Plan {
        /// The bundle.
        bundle: PathBuf,
        /// Writes the plan as the document that two persons approve.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        dangerous: dangerous::Flags,
    },
    #[command(flatten)]
    Change(ChangeCommand),
    /// What is installed and how it is.
    Status,
    /// What was done here.
    History {
        /// Newest entries to show.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Proves a bundle into a store of its own (an OCI image layout) and starts nothing.
    Import {
        /// The bundle.
        bundle: PathBuf,
        /// Folder of the store.
        #[arg(long)]
        store: PathBuf,
    },
    /// The site's policy: signature algorithms, what a bundle must bring along.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Which cryptographic modules are linked, what each is used for, and what certificates are known.
    CryptoReport,
    /// The chain of custody of a set that came.
    #[command(subcommand)]
    Custody(CustodyCommand),
    /// Prints a short code and QR code to carry back by hand: what arrived, what is installed.
    Receipt {
        /// The product, where several are installed.
        #[arg(long)]
        product: Option<String>,
        /// Only the text.
        #[arg(long)]
        no_qr: bool,
    },
    /// Writes the signed list of the blobs that this site holds, to build updates on.
    Inventory(crate::inventory::InventoryCommand),
    /// Takes a product off this machine.
    Uninstall {
        /// The product.
        #[arg(long)]
        product: String,
        /// Also its volumes, secrets and backups: the data is lost.
        #[arg(long)]
        with_data: bool,
    },
    /// The audit log: what was done here, by whom, and the proof that nothing of it was changed.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Gathers what support needs, redacted by rule and shown for review, into one file.
    SupportBundle(crate::support::command::SupportBundle),
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

impl Command {
    /// What a refusal of this command is recorded as; nothing for those that only show what is here.
    const fn act(&self) -> Option<(&'static str, Kind)> {
        if let Self::Change(command) = self {
            return command.act();
        }
        Some(match self {
            Self::Trust(TrustCommand::Init { .. }) => ("trust init", Kind::Change),
            Self::Uninstall { .. } => ("uninstall", Kind::Change),
            Self::Receive(_) => ("receive", Kind::Change),
            Self::Verify { .. } => ("verify", Kind::Look),
            Self::Preflight { .. } => ("preflight", Kind::Look),
            Self::Plan { .. } => ("plan", Kind::Look),
            Self::Policy(PolicyCommand::Set { .. }) => ("policy", Kind::Change),
            Self::Import { .. } => ("import", Kind::Duty),
            Self::Inspect(_) => ("inspect", Kind::Look),
            Self::Custody(_) => ("custody verify", Kind::Look),
            _ => return None,
        })
    }

    /// Whether a process of its own does it: it only reads, and what it reads is not proved.
    const fn is_read_apart(&self) -> bool {
        matches!(self, Self::Verify { .. } | Self::Inspect(_) | Self::Custody(_))
    }

    /// The file that gets the document which is read.
    fn document_file(&self) -> Option<&Path> {
        if let Self::Inspect(command) = self { command.document_file() } else { None }
    }
}

fn parse_sha384(text: &str) -> std::result::Result<Sha384, String> {
    Sha384::parse(text).map_err(|e| e.to_string())
}

impl Cli {
    /// Runs the command that was parsed; a refusal goes on record.
    pub fn run(&self) -> Result<()> {
        if self.in_reader {
            return self.as_reader();
        }
        let done = if self.command.is_read_apart() { self.by_reader() } else { self.dispatch() };
        if let (Err(error), Some((act, kind)), Ok(paths)) = (&done, self.command.act(), self.paths()) {
            self.act.refused(&paths, act, kind, error);
        }
        done
    }

    fn dispatch(&self) -> Result<()> {
        match &self.command {
            Command::Trust(TrustCommand::Init { root, fingerprint, accreditation, policy, audit_dir }) => {
                let policy = policy.as_deref().map(policy::read).transpose()?;
                self.trust_init(root, fingerprint.as_deref(), accreditation, policy.as_deref(), audit_dir.as_deref())
            }
            Command::Policy(command) => self.policy(command),
            Command::CryptoReport => self.crypto_report(),
            Command::Trust(TrustCommand::Show) => self.trust_show(),
            Command::Verify { bundle } => self.verify(bundle),
            Command::Unpack { .. } if !self.in_reader => {
                let why = format!("{} is for this program's own use", crate::unpacker::COMMAND);
                Err(ErrorKind::Usage { why }.into())
            }
            Command::Unpack { manifest, base_set, store, bundle } => {
                crate::unpacker::serve(bundle, manifest, base_set.zip(store.as_deref()))
            }
            Command::Inspect(command) => self.inspect(command),
            Command::Receive(command) => {
                let paths = self.paths()?;
                command.run(&crate::receive::command::Site { paths: &paths, json: self.json, no_color: self.no_color })
            }
            Command::Preflight { bundle, options } => self.preflight(bundle, options),
            Command::Plan { bundle, out, dangerous } => self.plan(bundle, out.as_deref(), &dangerous.dangerous()),
            Command::Change(command) => command.run(&self.desk(&self.paths()?)),
            Command::Status => self.status(),
            Command::History { limit } => self.history(*limit),
            Command::Import { bundle, store } => self.import(bundle, store),
            Command::Custody(CustodyCommand::Verify { folder }) => self.custody_verify(folder),
            Command::Receipt { product, no_qr } => self.receipt(product.as_deref(), *no_qr),
            Command::Inventory(command) => {
                let (paths, json, no_color) = (self.paths()?, self.json, self.no_color);
                command.run(&crate::inventory::Site { paths: &paths, json, no_color })
            }
            Command::Uninstall { product, with_data } => self.uninstall(product, *with_data),
            Command::Audit(command) => command.run(&crate::audit::command::Site {
                paths: &self.paths()?,
                json: self.json,
                no_color: self.no_color,
                confirm: &|question| self.desk(&self.paths()?).confirm(question),
            }),
            Command::SupportBundle(command) => command.run(&self.desk(&self.paths()?)),
            Command::Completions { shell } => {
                let mut command = <Self as clap::CommandFactory>::command();
                clap_complete::generate(*shell, &mut command, "installer", &mut std::io::stdout());
                Ok(())
            }
            Command::Man => clap_mangen::Man::new(<Self as clap::CommandFactory>::command())
                .render(&mut std::io::stdout())
                .map_err(|e| Error::io("standard output", e)),
        }
    }

    /// Absolute, because the engine and systemd are told of files in it from elsewhere.
    fn paths(&self) -> Result<Paths> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Error::io(path.display().to_string(), e));
        let paths = Paths::new(absolute(&self.state_dir)?);
        Ok(match &self.tmpdir {
            Some(folder) => paths.with_scratch(&absolute(folder)?),
            None => paths,
        })
    }

    fn desk<'a>(&'a self, paths: &'a Paths) -> Desk<'a> {
        Desk { paths, json: self.json, no_color: self.no_color, yes: self.yes, act: &self.act }
    }

    fn crypto_report(&self) -> Result<()> {
        let paths = self.paths()?;
        let marking = if paths.database().exists() { status::highest(&State::open(&paths.database())?)? } else { None };
        banner::open(&marking.unwrap_or(Marking::UNCLASSIFIED), self.no_color);
        let report = crypto::Report::read(Path::new("/"));
        if self.json { print_json(&report.to_json()) } else { print(&report.lines()) }
    }

    /// Proves the head and checks site policy; the banner is up from here on.
    fn open(&self, bundle: &Path, state: &State) -> Result<ProvedBundle> {
        self.open_but(bundle, state, &Dangerous::default())
    }

    /// The same past what two persons will have to approve.
    fn open_but(&self, bundle: &Path, state: &State, dangerous: &Dangerous) -> Result<ProvedBundle> {
        let proved = ProvedBundle::open(bundle, state)?;
        banner::open(&proved.manifest().marking, self.no_color);
        self.act.seen(&proved.manifest().product, &proved.manifest().release, &proved.verified().sha384());
        let site = SitePolicy::of(state, &proved.manifest().product)?;
        site.check_but(proved.verified(), dangerous)?;
        site.refuse_unneeded(proved.verified(), dangerous)?;
        Ok(proved)
    }

    fn import(&self, bundle: &Path, folder: &Path) -> Result<()> {
        let state = State::open(&self.paths()?.database())?;
        let proved = self.open(bundle, &state)?;
        let _lock = Lock::take(&folder.join("lock"), "import")?;
        let store = Store::open(folder)?;
        let mut progress = Progress::new("import", proved.manifest().stored_size(), self.json);
        let base = proved.find_base(&store, &mut |_| ())?;
        let mut sink = StoreSink::new(&store);
        let unpacked = proved.unpack(&base, &mut sink, &mut |bytes| progress.add(bytes));
        progress.finish();
        let added = sink.added().to_vec();
        let verified = match unpacked {
            Ok(verified) => verified,
            Err(error) => {
                // Proved blobs of a bundle that is damaged further on are no use to anybody.
                added.iter().try_for_each(|digest| store.remove(digest))?;
                return Err(error);
            }
        };
        store.sync()?;
        store.write_index(&[verified.manifest()])?;
        let (manifest, detail) = (verified.manifest(), format!("{} blobs into {}", added.len(), folder.display()));
        let record = audit::Record::new(&clock(), "import", audit::Outcome::Ok);
        let record = record.of(&manifest.product, &manifest.release).subject(&verified.sha384()).detail(&detail);
        audit::append_look(&self.paths()?, &record);
        print(&[format!("imported {} blobs into {}", added.len(), folder.display())])
    }

    fn preflight(&self, bundle: &Path, options: &preflight::Options) -> Result<()> {
        let paths = self.paths()?;
        let state = State::open(&paths.database())?;
        let proved = self.open(bundle, &state)?;
        let base = proved.find_base_over(&state, &Store::peek(&paths.store()))?;
        attachments::check(&proved, &base, &Policy::of(&state)?)?;
        let host = HostFacts::read(Path::new("/"))?;
        let podman = Podman::detect(&paths, &host)?;
        let active = state.active_generation(&proved.manifest().product)?;
        let needs = Needs::of_install(proved.manifest(), active.as_ref(), &state, &paths, &host, podman.as_ref())?;
        let mut findings = findings(&proved, &base, &state, &paths, &needs)?;
        let applied = options.apply(&mut findings);
        if self.json {
            print_json(&preflight::to_json(&findings))?;
        } else {
            print(&preflight::lines(&findings))?;
        }
        applied?;
        let (manifest, sha384) = (proved.manifest(), proved.verified().sha384());
        preflight::record(&state, &findings, &clock(), (&manifest.product, &manifest.release), &sha384)?;
        preflight::refuse_unfit(&findings)
    }

    fn plan(&self, bundle: &Path, out: Option<&Path>, dangerous: &Dangerous) -> Result<()> {
        let paths = self.paths()?;
        let state = State::open(&paths.database())?;
        let proved = self.open_but(bundle, &state, dangerous)?;
        let base = proved.find_base_over(&state, &Store::peek(&paths.store()))?;
        attachments::check(&proved, &base, &Policy::of(&state)?)?;
        let plan = Plan::make(&proved, &base, &state, &paths, &HostFacts::read(Path::new("/"))?, dangerous)?;
        if let Some(out) = out {
            crate::atomic::write_new(out, &plan.document().to_bytes()?, crate::atomic::Access::Public)?;
        }
        if self.json { print_json(&plan.to_json()?) } else { print(&plan.lines()?) }
    }

    fn status(&self) -> Result<()> {
        let paths = self.paths()?;
        let state = State::look(&paths.database())?;
        let report = status::read(&state, &paths, &HostFacts::read(Path::new("/"))?)?;
        if let Some(marking) = report.marking() {
            banner::open(&marking, self.no_color);
        }
        if self.json {
            print_json(&report.to_json())?;
        } else {
            print(&report.lines())?;
        }
        report.refuse_unhealthy()
    }

    fn history(&self, limit: u32) -> Result<()> {
        let state = State::open(&self.paths()?.database())?;
        let entries = state.history(limit)?;
        if self.json {
            return print_json(&serde_json::json!(entries.iter().map(|e| serde_json::json!({
                "at": e.at, "act": e.act, "product": e.product, "release": e.release, "result": e.result, "detail": e.detail, "actor": e.actor,
            })).collect::<Vec<_>>()));
        }
        let line = |e: &crate::state::HistoryEntry| {
            escaped(&format!(
                "{}  {:<10}  {:<7}  {} {}  by {}  {}",
                e.at, e.act, e.result, e.product, e.release, e.actor, e.detail
            ))
        };
        print(&entries.iter().map(line).collect::<Vec<_>>())
    }

    fn receipt(&self, product: Option<&str>, no_qr: bool) -> Result<()> {
        let paths = self.paths()?;
        let state = State::open(&paths.database())?;
        if let Some(generation) = receipt::active(&state, product)? {
            banner::open(&Marking::parse(&generation.marking)?, self.no_color);
        }
        let receipt = receipt::read(&state, &paths, &HostFacts::read(Path::new("/"))?, product)?;
        let code = receipt.to_code();
        let record = audit::Record::new(&clock(), "receipt", audit::Outcome::Ok).of(product.unwrap_or(""), "");
        let mut log = state.audit()?;
        log.append(&record.detail(&code))?;
        // Behind that record: whoever keeps the receipt can show that it was given out.
        let head = log.head()?;
        if self.json {
            return print_json(&serde_json::json!({
                "code": code,
                "audit_head": head.anchor(),
                "arrived": receipt.arrived.map(|prefix| prefix.hex()),
                "installed": receipt.installed.as_ref().map(|installed| installed.prefix.hex()),
                "sequence": receipt.installed.as_ref().map(|installed| installed.sequence),
                "healthy": receipt.installed.as_ref().map(|installed| installed.health == Health::Healthy),
            }));
        }
        print(&receipt::lines(&receipt, &head))?;
        if no_qr {
            return Ok(());
        }
        let colour = !self.no_color && std::env::var_os("NO_COLOR").is_none() && std::io::stdout().is_terminal();
        print(&receipt::qr(&code, if colour { Paint::Colour } else { Paint::Plain })?)
    }

    fn uninstall(&self, product: &str, with_data: bool) -> Result<()> {
        self.desk(&self.paths()?).uninstall(product, with_data)
    }
}

pub(crate) fn findings(
    proved: &ProvedBundle,
    base: &Base,
    state: &State,
    paths: &Paths,
    needs: &Needs,
) -> Result<Vec<Finding>> {
    let host = HostFacts::read(Path::new("/"))?;
    let held = status::ports_held(state, paths, &proved.manifest().product)?;
    let own = preflight::Own::read(state, &proved.manifest().product)?;
    let moment = Moment::read(state)?;
    preflight::preflight(&Question {
        manifest: proved.manifest(),
        release: &proved.peek_release(base)?,
        host: &host,
        paths,
        held: &held,
        own: &own,
        needs: *needs,
        clock: moment.clock(),
        floor: Some(&moment.floor().at),
    })
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
