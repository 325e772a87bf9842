//! The engine: podman as the host has it, or as the bundle brings it. No engine of our own.

mod supervisor;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bundle_format::manifest::Image;
use serde_json::Value;

use crate::atomic::{self, Access};
use crate::command::{Command, failed};
use crate::error::{ErrorKind, Result};
use crate::host::{Cgroups, HostFacts, Init};
use crate::paths::Paths;

pub use supervisor::Supervisor;

/// Starting pods and pulling images may take this long on slow hardware.
const LONG: Duration = Duration::from_secs(1800);

/// A working podman.
#[derive(Debug, Clone)]
pub struct Podman {
    version: (u32, u32),
    text: String,
    env: Vec<(String, OsString)>,
    registries: PathBuf,
    copies: PathBuf,
}

/// What podman says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Whether its process runs.
    pub running: bool,
    /// `healthy`, `unhealthy`, `starting`, or nothing without a probe.
    pub health: Option<String>,
    /// Digest of its image.
    pub image_digest: String,
    /// How often it was restarted.
    pub restarts: i64,
    /// This very container and start of it: its id and the time of its start.
    pub incarnation: String,
}

impl Podman {
    /// Finds podman; `None` if the host has none. Where the host's control groups or the lack of
    /// systemd ask for other settings than the engine's own, they go into a file of ours that only
    /// our calls use; the host's files are never edited.
    pub fn detect(paths: &Paths, host: &HostFacts) -> Result<Option<Self>> {
        let answer = match Command::new("podman").arg("--version").output() {
            Err(error) if matches!(error.kind(), ErrorKind::ProgramMissing { .. }) => return Ok(None),
            other => other?,
        };
        let text = answer.stdout.split_whitespace().last().unwrap_or("").to_owned();
        let version = parse_version(&text).ok_or_else(|| ErrorKind::Unexpected {
            what: "podman --version".into(),
            expected: "a version".into(),
            found: bundle_format::text::escaped(answer.stdout.trim()),
        })?;
        let mut env = Vec::new();
        if let Some(conf) = own_settings(host).filter(|_| std::env::var_os("CONTAINERS_CONF").is_none()) {
            let file = paths.engine().join("containers.conf");
            // Written once: a disk that takes nothing any more is no reason not to ask the engine.
            if !std::fs::read(&file).is_ok_and(|found| found == conf.as_bytes()) {
                atomic::write(&file, conf.as_bytes(), Access::Public)?;
            }
            env.push(("CONTAINERS_CONF".to_owned(), file.into_os_string()));
        }
        env.push(("PODMAN_IGNORE_CGROUPSV1_WARNING".to_owned(), "1".into()));
        Ok(Some(Self {
            version,
            text,
            env,
            registries: paths.engine().join("registries.conf"),
            copies: paths.copies(),
        }))
    }

    /// Version text.
    pub fn version(&self) -> &str {
        &self.text
    }

    /// Whether it is at least this version.
    pub const fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version.0 > major || (self.version.0 == major && self.version.1 >= minor)
    }

    /// A call of podman with our settings.
    pub fn call<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.env.iter().fold(Command::new("podman").args(args), |command, (name, value)| command.env(name, value))
    }

    /// Where it keeps unpacked images.
    pub fn graph_root(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(self.call(["info", "--format", "{{.Store.GraphRoot}}"]).run()?.stdout.trim()))
    }

    /// How it keeps unpacked images, such as `overlay`.
    pub fn storage_driver(&self) -> Result<String> {
        Ok(self.call(["info", "--format", "{{.Store.GraphDriverName}}"]).run()?.stdout.trim().to_owned())
    }

    /// Pulls an image by its original name and digest from the loopback registry. podman checks
    /// every digest on the way; that the name is there afterwards is checked here.
    pub fn pull(&self, image: &Image, registry: SocketAddr) -> Result<()> {
        let host = image.name.split('/').next().unwrap_or_default();
        atomic::write(&self.registries, registries_conf(host, registry).as_bytes(), Access::Public)?;
        let reference = image.reference();
        // podman keeps the layers as they came in a folder of its own until all are unpacked: by itself in /var/tmp,
        // where nobody has looked for room; TMPDIR goes before its settings.
        self.clear_copies()?;
        atomic::make_folder(&self.copies)?;
        let pulled = self
            .call(["pull", "--quiet", &reference])
            .env("CONTAINERS_REGISTRIES_CONF", self.registries.as_os_str())
            .env("TMPDIR", self.copies.as_os_str())
            .deadline(LONG)
            .run();
        self.clear_copies()?;
        pulled?;
        if self.image_exists(image)? {
            return Ok(());
        }
        let expected = format!("image {reference}");
        Err(ErrorKind::Unexpected { what: "podman pull".into(), expected, found: "no such image after it".into() }
            .into())
    }

    /// Removes what pulling an image left aside, also one that was killed.
    pub fn clear_copies(&self) -> Result<()> {
        atomic::remove_folder(&self.copies)
    }

    /// Whether an image is there under its name and digest.
    pub fn image_exists(&self, image: &Image) -> Result<bool> {
        self.exists(["image", "exists", &image.reference()])
    }

    /// Removes an image by reference; one that is not there is no error.
    pub fn remove_image(&self, reference: &str) -> Result<()> {
        if self.exists(["image", "exists", reference])? {
            self.call(["rmi", reference]).run()?;
        }
        Ok(())
    }

    /// Whether a volume is there.
    pub fn volume_exists(&self, name: &str) -> Result<bool> {
        self.exists(["volume", "exists", name])
    }

    /// Makes a volume unless it is there.
    pub fn create_volume(&self, name: &str) -> Result<()> {
        if !self.volume_exists(name)? {
            self.call(["volume", "create", name]).run()?;
        }
        Ok(())
    }

    /// Where a volume's content lies on this host.
    pub fn volume_path(&self, name: &str) -> Result<PathBuf> {
        let said = self.call(["volume", "inspect", "--format", "{{.Mountpoint}}", name]).run()?.stdout;
        let path = PathBuf::from(said.trim());
        if path.is_absolute() && path.is_dir() {
            return Ok(path);
        }
        let found = bundle_format::text::escaped(said.trim());
        Err(ErrorKind::Unexpected { what: format!("volume {name}"), expected: "its folder".into(), found }.into())
    }

    /// A command in a running container.
    pub fn exec(&self, container: &str, command: &[String]) -> Command {
        self.call(["exec", container]).args(command.iter().map(String::as_str))
    }

    /// A command in a running container that reads standard input.
    pub fn exec_reading(&self, container: &str, command: &[String]) -> Command {
        self.call(["exec", "--interactive", container]).args(command.iter().map(String::as_str))
    }

    /// Whether any container of a pod is held still; a pod that is not there is not.
    pub fn is_paused(&self, pod: &str) -> Result<bool> {
        let said = self.call(["pod", "inspect", pod]).output()?;
        Ok(said.code == 0 && said.stdout.to_ascii_lowercase().contains("\"paused\""))
    }

    /// Holds a pod still, or lets it go on.
    pub fn pause(&self, pod: &str, hold: bool) -> Result<()> {
        self.call(["pod", if hold { "pause" } else { "unpause" }, pod]).run().map(drop)
    }

    /// Removes a volume and its data.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        if self.exists(["volume", "exists", name])? {
            self.call(["volume", "rm", name]).run()?;
        }
        Ok(())
    }

    /// What containers are doing, by name; one that is not there is left out.
    pub fn containers<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, Container>> {
        let names: Vec<&str> = names.into_iter().collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Missing ones make it end with 125 and are named on standard error; the others are shown all the same.
        let output = self.call(["container", "inspect"]).args(names.iter().copied()).output()?;
        if output.code != 0 && !output.stderr.contains("no such") {
            return Err(failed(format!("podman container inspect {}", names.join(" ")), &output));
        }
        let unexpected = |found: String| ErrorKind::Unexpected {
            what: "podman container inspect".into(),
            expected: "a list of containers in JSON".into(),
            found,
        };
        let parsed: Value = serde_json::from_str(&output.stdout).map_err(|e| unexpected(e.to_string()))?;
        let list = parsed.as_array().ok_or_else(|| unexpected(bundle_format::text::escaped(output.stdout.trim())))?;
        Ok(list.iter().filter_map(container).collect())
    }

    /// Asks a container's probe now.
    pub fn probe(&self, name: &str) -> Result<bool> {
        Ok(self.call(["healthcheck", "run", name]).output()?.code == 0)
    }

    /// The last lines that a container wrote.
    pub fn logs(&self, name: &str) -> Result<String> {
        let output = self.call(["logs", "--tail", "200", name]).output()?;
        Ok(output.stdout + &output.stderr)
    }

    /// podman's `exists` verbs: 0 yes, 1 no.
    fn exists<const N: usize>(&self, args: [&str; N]) -> Result<bool> {
        let output = self.call(args).output()?;
        match output.code {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(failed(format!("podman {}", args.join(" ")), &output)),
        }
    }
}

/// A container's name and state as `podman container inspect` tells them.
fn container(shown: &Value) -> Option<(String, Container)> {
    let text = |pointer: &str| shown.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    // podman 4.3 says Healthcheck, later versions Health; without a probe it is absent or empty.
    let health = text("/State/Health/Status").or_else(|| text("/State/Healthcheck/Status")).filter(|s| !s.is_empty());
    let seen = Container {
        running: shown.pointer("/State/Running").and_then(Value::as_bool) == Some(true),
        health,
        image_digest: text("/ImageDigest").unwrap_or_default(),
        restarts: shown.pointer("/RestartCount").and_then(Value::as_i64).unwrap_or(0),
        incarnation: format!("{} {}", text("/Id").unwrap_or_default(), text("/State/StartedAt").unwrap_or_default()),
    };
    Some((text("/Name")?, seen))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Settings for a host whose control groups are not version 2 alone, or without systemd: crun
/// refuses hybrid control groups, and the stock limits need a capability that may be missing.
fn own_settings(host: &HostFacts) -> Option<String> {
    let mut conf = String::new();
    if host.init == Init::Other || host.cgroups == Cgroups::Legacy {
        conf.push_str("[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\n");
        conf.push_str("cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n");
        if host.cgroups == Cgroups::Legacy {
            conf.push_str("runtime = \"runc\"\n");
        }
        return Some(conf);
    }
    None
}

/// Sends pulls from `host` to the loopback registry.
fn registries_conf(host: &str, registry: SocketAddr) -> String {
    format!(
        "unqualified-search-registries = []\n[[registry]]\nlocation = \"{host}\"\n\
         [[registry.mirror]]\nlocation = \"{registry}\"\ninsecure = true\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(parse_version("4.3.1"), Some((4, 3)));
        assert_eq!(parse_version("5.4.2-dev"), Some((5, 4)));
        assert_eq!(parse_version("x"), None);
        let conf = registries_conf("r.example:5000", "127.0.0.1:1".parse().unwrap());
        assert!(conf.contains("location = \"r.example:5000\"") && conf.contains("location = \"127.0.0.1:1\""));
    }
}
