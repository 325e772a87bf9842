//! How a release is applied, proved healthy, backed up and taken back (spec 5.4): part of the
//! release manifest and of the signed manifest, so that what an operator relies on at night was
//! decided and signed by day.
//!
//! What may hurt it: a command line that would run on the host (they run in containers only), a
//! deadline or window that never ends. Who defends: [`Lifecycle::check`] and its limits.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::manifest::check_line;
use crate::name::check_label;
use crate::{ErrorKind, Result, limits};

/// How a release lives on its machine. Every part may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lifecycle {
    /// Raised when going back to what was before would be a danger: a machine never returns to a
    /// generation with a lower one.
    pub security_epoch: u64,
    /// Sequences that this release may be applied over; none means any, and none installed.
    pub from: Option<Range>,
    /// Seconds that the platform has to become healthy, 1 to 86400.
    pub deadline_seconds: u64,
    /// Seconds without a restart before a release counts as healthy, 0 to 3600.
    pub stable_seconds: u64,
    /// What must succeed after every part says that it is healthy.
    pub checks: Vec<Check>,
    /// Volumes whose content outlives a release.
    pub data: Vec<Data>,
    /// Steps that bring data from one release's form to the next one's, in order.
    pub migrations: Vec<Migration>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            security_epoch: 0,
            from: None,
            deadline_seconds: 900,
            stable_seconds: 10,
            checks: Vec::new(),
            data: Vec::new(),
            migrations: Vec::new(),
        }
    }
}

/// Sequences from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first.
    pub min: u64,
    /// The last.
    pub max: u64,
}

impl Range {
    /// Whether a sequence lies in it.
    pub const fn holds(&self, sequence: u64) -> bool {
        self.min <= sequence && sequence <= self.max
    }
}

/// A smoke check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Check {
    /// A command in a container ends with 0 and, where `expect` is given, says that text.
    Exec {
        /// Name, a label.
        name: String,
        /// The container, as the engine names it: `POD-CONTAINER`.
        container: String,
        /// The command and its arguments.
        command: Vec<String>,
        /// Text that its output must hold.
        #[serde(default)]
        expect: Option<String>,
    },
    /// A plain HTTP answer on a port of the host.
    Http {
        /// Name, a label.
        name: String,
        /// The host's port.
        port: u16,
        /// The path, from `/` on.
        path: String,
        /// The status that is expected.
        status: u16,
    },
}

impl Check {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Exec { name, .. } | Self::Http { name, .. } => name,
        }
    }
}

/// A volume with data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Name of its claim.
    pub volume: String,
    /// How it is backed up while the platform runs.
    pub backup: Backup,
    /// Backups that are kept, at least 1.
    pub keep: u32,
}

/// A way to back up while the platform runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "method")]
pub enum Backup {
    /// `pg_dump` in custom format, read back by `pg_restore`, inside the container.
    Postgres {
        /// The container with the server and its tools.
        container: String,
        /// The database.
        database: String,
        /// Where its tools find the server: a socket's folder or a host.
        host: String,
    },
    /// The pods that use the volume are paused for the time of a copy.
    Copy,
}

/// A step that brings data from one form to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// Name, a label.
    pub name: String,
    /// First sequence whose data has the new form: it is run over anything before.
    pub since: u64,
    /// The container that it runs in.
    pub container: String,
    /// The command forward. It may run again after an interruption, so it must bear that.
    pub up: Vec<String>,
}

impl Lifecycle {
    /// Checks consistency (R-LIF-1 to 5).
    pub fn check(&self) -> Result<()> {
        in_range("lifecycle deadline_seconds", self.deadline_seconds, 1, limits::DEADLINE_SECONDS)?;
        in_range("lifecycle stable_seconds", self.stable_seconds, 0, limits::STABLE_SECONDS)?;
        in_range("lifecycle security_epoch", self.security_epoch, 0, i64::MAX.unsigned_abs())?;
        if let Some(range) = self.from.filter(|range| range.min > range.max) {
            return Err(inconsistent(format!("from {} to {} holds no sequence", range.min, range.max)));
        }
        for (what, count) in
            [("checks", self.checks.len()), ("data", self.data.len()), ("migrations", self.migrations.len())]
        {
            in_range(what, u64::try_from(count).unwrap_or(u64::MAX), 0, limits::LIFECYCLE_ENTRIES)?;
        }
        for check in &self.checks {
            check_label("check", check.name())?;
            match check {
                Check::Exec { container, command, expect, .. } => {
                    check_label("container", container)?;
                    check_command("check", command)?;
                    expect.iter().try_for_each(|text| check_line("expected text", text))?;
                }
                Check::Http { path, port, .. } => {
                    in_range("port of a check", u64::from(*port), 1, 65535)?;
                    let plain = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
                    if !plain || path.len() > limits::NAME_BYTES {
                        return Err(inconsistent(format!("check {}: its path is not one of a URL", check.name())));
                    }
                }
            }
        }
        for data in &self.data {
            check_label("volume", &data.volume)?;
            in_range("backups to keep", u64::from(data.keep), 1, 1000)?;
            if let Backup::Postgres { container, database, host } = &data.backup {
                check_label("container", container)?;
                check_argument("database", database)?;
                check_argument("host of a database", host)?;
            }
        }
        for migration in &self.migrations {
            check_label("migration", &migration.name)?;
            check_label("container", &migration.container)?;
            in_range("since of a migration", migration.since, 1, i64::MAX.unsigned_abs())?;
            check_command("migration", &migration.up)?;
        }
        no_doubles("check", self.checks.iter().map(Check::name))?;
        no_doubles("volume", self.data.iter().map(|data| data.volume.as_str()))?;
        no_doubles("migration", self.migrations.iter().map(|migration| migration.name.as_str()))
    }

    /// Containers that commands are run in.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        let checks = self.checks.iter().filter_map(|check| match check {
            Check::Exec { container, .. } => Some(container.as_str()),
            Check::Http { .. } => None,
        });
        let data = self.data.iter().filter_map(|data| match &data.backup {
            Backup::Postgres { container, .. } => Some(container.as_str()),
            Backup::Copy => None,
        });
        checks.chain(data).chain(self.migrations.iter().map(|migration| migration.container.as_str()))
    }
}

fn inconsistent(why: String) -> crate::Error {
    ErrorKind::Inconsistent { what: "lifecycle".into(), why }.into()
}

fn in_range(what: &str, found: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(inconsistent(format!("{what} is {found}; it goes from {min} to {max}")))
}

fn check_command(what: &str, command: &[String]) -> Result<()> {
    in_range(
        &format!("number of words in the command of a {what}"),
        u64::try_from(command.len()).unwrap_or(u64::MAX),
        1,
        64,
    )?;
    check_argument(what, command.first().map_or("", String::as_str))?;
    command.iter().try_for_each(|word| {
        let long = word.len() > limits::COMMAND_WORD_BYTES || word.contains('\0');
        if long { Err(inconsistent(format!("a word in the command of a {what} is too long"))) } else { Ok(()) }
    })
}

/// A word that a program could take for an option is refused where a value belongs.
fn check_argument(what: &str, text: &str) -> Result<()> {
    check_line(what, text)?;
    if text.starts_with('-') {
        return Err(inconsistent(format!("{what} {text} starts with -")));
    }
    Ok(())
}

fn no_doubles<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(inconsistent(format!("{what} {name} appears twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
security_epoch: 3
from: {min: 1, max: 4}
stable_seconds: 5
checks:
  - {name: query, kind: exec, container: database-postgres, command: [psql, -qAtc, select 1], expect: '1'}
  - {name: page, kind: http, port: 8080, path: /, status: 200}
data:
  - {volume: database-data, backup: {method: postgres, container: database-postgres, database: platform, host: /tmp}, keep: 12}
  - {volume: registry-data, backup: {method: copy}, keep: 2}
migrations:
  - {name: add-column, since: 2, container: database-postgres, up: [psql, -f, /m/2.sql]}
";

    fn parse(text: &str) -> std::result::Result<Lifecycle, String> {
        let parsed: Lifecycle = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
        parsed.check().map_err(|e| e.to_string())?;
        Ok(parsed)
    }

    #[test]
    fn parts_may_be_left_out_and_survive_json() {
        assert_eq!(parse("{}").unwrap(), Lifecycle::default());
        let parsed = parse(GOOD).unwrap();
        assert_eq!(parsed.containers().count(), 3);
        assert!(parsed.from.unwrap().holds(4) && !parsed.from.unwrap().holds(5));
        let json = serde_json::to_string(&parsed).unwrap();
        assert_eq!(serde_json::from_str::<Lifecycle>(&json).unwrap(), parsed);
    }

    #[test]
    fn refusals() {
        for (from, to) in [
            ("security_epoch: 3", "security_epoch: -3"),
            ("min: 1, max: 4", "min: 5, max: 4"),
            ("stable_seconds: 5", "stable_seconds: 3601"),
            ("stable_seconds: 5", "deadline_seconds: 0"),
            ("stable_seconds: 5", "stable: 5"),
            ("name: page", "name: query"),
            ("name: page", "name: Page"),
            ("path: /,", "path: \"/ x\","),
            ("port: 8080", "port: 0"),
            ("command: [psql, -qAtc, select 1]", "command: []"),
            ("command: [psql,", "command: [-psql,"),
            ("volume: registry-data", "volume: database-data"),
            ("keep: 2", "keep: 0"),
            ("method: copy", "method: hope"),
            ("database: platform", "database: --file=/etc/x"),
            ("up: [psql, -f, /m/2.sql]", "up: []"),
            ("since: 2", "since: 0"),
            ("container: database-postgres, up", "container: ../x, up"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert!(parse(&GOOD.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
