//! The command line of `installer`: arguments in, calls into the library, text out.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use bundle_format::receipt::Health;
use bundle_format::text::{escaped, groups_of_four};
use clap::{Parser, Subcommand};
use confinement::{Confined, confine};

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
use crate::proof::{Base, ProvedBundle, Site, SitePolicy, clock};
use crate::receipt::Paint;
use crate::state::State;
use crate::store::{Store, StoreSink};
use crate::{audit, crypto, dangerous, policy, reader, receipt, status, trust};

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

#[derive(Debug, Subcommand)]
enum TrustCommand {
    /// Takes the first trust anchor; a person compares the fingerprint.
    Init {
        /// The trust root envelope.
        root: PathBuf,
        /// SHA-384 as received on another channel, groups of four or one word; default: ask.
        #[arg(long)]
        fingerprint: Option<String>,
        /// Highest marking that this system is accredited for.
        #[arg(long, default_value = "UNCLASSIFIED", value_parser = parse_marking)]
        accreditation: Marking,
        /// The site's policy, a YAML file (default: both algorithms, nothing required).
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Folder for the audit log, if it is to have a file system of its own; only before its first record.
        #[arg(long, value_name = "DIR")]
        audit_dir: Option<PathBuf>,
    },
    /// Shows the trust root in force.
    Show,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Shows the policy in force.
    Show,
    /// Takes a policy file over; it goes on record.
    Set {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum InspectCommand {
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
enum CustodyCommand {
    /// Proves the chain by the trust root and compares every file in a folder with it.
    Verify {
        /// The folder: the chain, and the volumes that came.
        folder: PathBuf,
    },
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
        match self {
            Self::Inspect(InspectCommand::Sbom { out, .. }) => out.as_deref(),
            _ => None,
        }
    }
}

fn parse_sha384(text: &str) -> std::result::Result<Sha384, String> {
    Sha384::parse(text).map_err(|e| e.to_string())
}

fn parse_marking(text: &str) -> std::result::Result<Marking, String> {
    Marking::parse(text).map_err(|e| e.to_string())
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

    /// Has a confined process read, and does what that one cannot.
    fn by_reader(&self) -> Result<()> {
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
    fn as_reader(&self) -> Result<()> {
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

    fn trust_init(
        &self,
        root: &Path,
        fingerprint: Option<&str>,
        accreditation: &Marking,
        policy: Option<&[u8]>,
        audit_dir: Option<&Path>,
    ) -> Result<()> {
        let envelope = trust::read_envelope(root)?;
        let shown = envelope.claimed().fingerprint().to_string();
        let given = match fingerprint {
            Some(text) => text.to_owned(),
            None => ask_fingerprint(&shown)?,
        };
        let paths = self.paths()?;
        let _lock = Lock::take(&paths.lock(), "trust init")?;
        let mut state = State::open(&paths.database())?;
        if let Some(folder) = audit_dir {
            audit::place::choose(&paths, folder)?;
        }
        let now = clock();
        let policy_line = match policy {
            Some(bytes) => Policy::parse("policy", &String::from_utf8_lossy(bytes))?.line(),
            None => Policy::default().line(),
        };
        let detail = format!("{shown}; {policy_line}");
        let record = |result| audit::Record::new(&now, "trust init", result).detail(&detail);
        state.audit()?.begin(&record(audit::Outcome::Begun))?;
        let trusted = trust::init(&mut state, &envelope, &given, &now).and_then(|trusted| {
            state.set_setting("accreditation", &accreditation.to_string())?;
            policy.map(|bytes| Policy::take_over(&mut state, bytes)).transpose()?;
            Ok(trusted)
        });
        state.keep_copy_or_warn();
        let result = if trusted.is_ok() { audit::Outcome::Ok } else { audit::Outcome::Failed };
        audit::append_or_warn(&paths, &record(result));
        let trusted = trusted?;
        print(&[
            format!("trust root version {} is trusted from now on", trusted.root().version()),
            format!("this system is accredited for {accreditation}"),
            format!("policy: {policy_line}"),
        ])
    }

    fn trust_show(&self) -> Result<()> {
        let state = State::open(&self.paths()?.database())?;
        let root = trust::required(&state)?;
        let fingerprint = root.root().fingerprint().to_string();
        if self.json {
            return print_json(&serde_json::json!({"version": root.root().version(), "sha384": fingerprint}));
        }
        let mut lines = vec![
            format!("trust root version {}, expires {}", root.root().version(), root.root().expires()),
            format!("accreditation {}", accreditation(&state)?),
        ];
        lines.extend(root.root().key_list().map(|(holder, scheme, id, _)| format!("  {id}  {scheme:<10}  {holder}")));
        lines.push(format!("SHA-384 {}", groups_of_four(&fingerprint)));
        print(&lines)
    }

    fn policy(&self, command: &PolicyCommand) -> Result<()> {
        let paths = self.paths()?;
        let policy = match command {
            PolicyCommand::Show => Policy::of(&State::open(&paths.database())?)?,
            PolicyCommand::Set { file } => {
                let _lock = Lock::take(&paths.lock(), "policy")?;
                let mut state = State::open(&paths.database())?;
                trust::required(&state)?;
                let bytes = policy::read(file)?;
                let line = Policy::parse(&file.display().to_string(), &String::from_utf8_lossy(&bytes))?.line();
                let sha384 = bundle_format::digest::Sha384::of(&bytes);
                let record = |result| audit::Record::new(&clock(), "policy", result).subject(&sha384).detail(&line);
                state.audit()?.begin(&record(audit::Outcome::Begun))?;
                let taken = Policy::take_over(&mut state, &bytes);
                state.keep_copy_or_warn();
                let result = if taken.is_ok() { audit::Outcome::Ok } else { audit::Outcome::Failed };
                audit::append_or_warn(&paths, &record(result));
                taken?
            }
        };
        if self.json { print_json(&policy.to_json()) } else { print(&[policy.line()]) }
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

    fn inspect(&self, command: &InspectCommand) -> Result<()> {
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

    fn verify(&self, bundle: &Path) -> Result<()> {
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
        let podman = Podman::detect(&paths, &HostFacts::read(Path::new("/"))?)?;
        let active = state.active_generation(&proved.manifest().product)?;
        let needs = Needs::of_install(proved.manifest(), active.as_ref(), &state, &paths, podman.as_ref())?;
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
        let state = State::open(&paths.database())?;
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

    fn custody_verify(&self, folder: &Path) -> Result<()> {
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

pub(crate) fn accreditation(state: &State) -> Result<Marking> {
    let text = state.setting("accreditation")?;
    Ok(Marking::parse(text.as_deref().unwrap_or("UNCLASSIFIED"))?)
}

fn ask_fingerprint(shown: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(
            ErrorKind::Usage { why: "no terminal to compare the fingerprint on; give --fingerprint".into() }.into()
        );
    }
    print(&[
        "This trust root claims the fingerprint:".into(),
        format!("  {}", groups_of_four(shown)),
        "Type the one that you received on another channel, not the one above:".into(),
    ])?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| Error::io("terminal", e))?;
    Ok(answer)
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
