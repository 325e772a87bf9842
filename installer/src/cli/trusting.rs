//! Commands by which a site says whom it trusts, and what it demands of bundles.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use bundle_format::text::groups_of_four;
use clap::Subcommand;

use super::{Cli, print, print_json};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Lock;
use crate::policy::Policy;
use crate::proof::clock;
use crate::state::State;
use crate::{audit, policy, trust};

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
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
pub(super) enum PolicyCommand {
    /// Shows the policy in force.
    Show,
    /// Takes a policy file over; it goes on record.
    Set {
        /// The file.
        file: PathBuf,
    },
}

impl Cli {
    pub(super) fn trust_init(
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

    pub(super) fn trust_show(&self) -> Result<()> {
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

    pub(super) fn policy(&self, command: &PolicyCommand) -> Result<()> {
        let paths = self.paths()?;
        let policy = match command {
            PolicyCommand::Show => Policy::of(&State::open(&paths.database())?)?,
            PolicyCommand::Set { file } => {
                let _lock = Lock::take(&paths.lock(), "policy")?;
                let mut state = State::open(&paths.database())?;
                trust::required(&state)?;
                let bytes = policy::read(file)?;
                let line = Policy::parse(&file.display().to_string(), &String::from_utf8_lossy(&bytes))?.line();
                let sha384 = Sha384::of(&bytes);
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
}

pub(crate) fn accreditation(state: &State) -> Result<Marking> {
    let text = state.setting("accreditation")?;
    Ok(Marking::parse(text.as_deref().unwrap_or("UNCLASSIFIED"))?)
}

fn parse_marking(text: &str) -> std::result::Result<Marking, String> {
    Marking::parse(text).map_err(|e| e.to_string())
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
