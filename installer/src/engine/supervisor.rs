//! Who starts the workloads and keeps them up: Quadlet units, plain units, or podman directly.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomic::{self, Access};
use crate::command::Command;
use crate::engine::Podman;
use crate::error::{Error, Result};
use crate::host::{HostFacts, Init};
use crate::release::WorkloadFile;

const QUADLET: &str = "/etc/containers/systemd";
const UNITS: &str = "/etc/systemd/system";
const START: Duration = Duration::from_secs(1000);

/// The way workloads are kept up on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// systemd with Quadlet (podman 4.4 and later).
    Quadlet,
    /// systemd with plain units, for podman before 4.4.
    Units,
    /// No systemd: podman is called directly; nothing starts at boot.
    Direct,
}

impl Supervisor {
    /// What this host has.
    pub const fn choose(host: &HostFacts, podman: &Podman) -> Self {
        match host.init {
            Init::Systemd if podman.at_least(4, 4) => Self::Quadlet,
            Init::Systemd => Self::Units,
            Init::Other => Self::Direct,
        }
    }

    /// One line about it.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Quadlet => "systemd (Quadlet): restarted when it fails, started at boot",
            Self::Units => "systemd (plain units): restarted when it fails, started at boot",
            Self::Direct => "podman alone (no systemd here): containers restart, nothing starts at boot",
        }
    }

    /// Loads a network's rules by a unit, now and at boot.
    pub fn enable_network(network: &str, rules: &Path, nft: &Path) -> Result<()> {
        enable_network_unit(network, rules, nft)
    }

    /// Takes a network's unit away.
    pub fn disable_network(network: &str) -> Result<()> {
        disable_network_unit(network)
    }

    /// Starts a workload, now and at boot; one that runs is replaced.
    pub fn start(self, podman: &Podman, product: &str, network: &str, workload: &WorkloadFile) -> Result<()> {
        let unit = unit_name(product, &workload.name);
        match self {
            Self::Direct => {
                let path = workload.path.as_os_str();
                podman
                    .call([
                        "kube".as_ref(),
                        "play".as_ref(),
                        "--replace".as_ref(),
                        "--network".as_ref(),
                        network.as_ref(),
                        path,
                    ])
                    .deadline(START)
                    .run()
                    .map(drop)
            }
            Self::Quadlet => {
                let file = Path::new(QUADLET).join(format!("{unit}.kube"));
                atomic::write(&file, quadlet(product, network, workload).as_bytes(), Access::Public)?;
                systemctl(&["daemon-reload"])?;
                systemctl(&["start", &format!("{unit}.service")])
            }
            Self::Units => {
                let file = Path::new(UNITS).join(format!("{unit}.service"));
                atomic::write(&file, plain_unit(product, network, workload).as_bytes(), Access::Public)?;
                systemctl(&["daemon-reload"])?;
                systemctl(&["enable", "--now", &format!("{unit}.service")])
            }
        }
    }

    /// Stops a workload and takes its unit away; volumes stay. One that is not there is no error.
    pub fn remove(self, podman: &Podman, product: &str, workload: &WorkloadFile) -> Result<()> {
        let unit = unit_name(product, &workload.name);
        match self {
            Self::Direct => {}
            Self::Quadlet | Self::Units => {
                let (folder, extension) = if self == Self::Quadlet { (QUADLET, "kube") } else { (UNITS, "service") };
                let file = Path::new(folder).join(format!("{unit}.{extension}"));
                if file.exists() {
                    systemctl(&["stop", &format!("{unit}.service")])?;
                    if self == Self::Units {
                        systemctl(&["disable", &format!("{unit}.service")])?;
                    }
                    std::fs::remove_file(&file).map_err(|e| Error::io(file.display().to_string(), e))?;
                    systemctl(&["daemon-reload"])?;
                }
            }
        }
        // `kube down` fails where nothing runs any more; the pods' absence is what is made sure.
        podman.call(["kube".as_ref(), "down".as_ref(), workload.path.as_os_str()]).deadline(START).output()?;
        for pod in &workload.pods {
            podman.call(["pod", "rm", "--force", "--ignore", pod]).deadline(START).run()?;
        }
        workload.config_maps.iter().try_for_each(|name| podman.remove_volume(name))
    }
}

/// Loads the network's rules now and at boot.
fn enable_network_unit(network: &str, rules: &Path, nft: &Path) -> Result<()> {
    let unit = format!(
        "[Unit]\nDescription=Lockgate: what the network {network} may reach\nBefore=network-pre.target\nWants=network-pre.target\n\
         DefaultDependencies=no\nAfter=local-fs.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={} -f {}\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        nft.display(),
        rules.display()
    );
    atomic::write(&network_unit_path(network), unit.as_bytes(), Access::Public)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", &format!("{}.service", network_unit(network))])?;
    systemctl(&["restart", &format!("{}.service", network_unit(network))])
}

/// Takes the network's unit away.
fn disable_network_unit(network: &str) -> Result<()> {
    let path = network_unit_path(network);
    if !path.exists() {
        return Ok(());
    }
    systemctl(&["disable", "--now", &format!("{}.service", network_unit(network))])?;
    std::fs::remove_file(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
    systemctl(&["daemon-reload"])
}

fn network_unit(network: &str) -> String {
    format!("lockgate-network-{network}")
}

fn network_unit_path(network: &str) -> PathBuf {
    Path::new(UNITS).join(format!("{}.service", network_unit(network)))
}

fn unit_name(product: &str, workload: &str) -> String {
    format!("lockgate-{product}-{workload}")
}

fn head(product: &str, network: &str, workload: &WorkloadFile) -> String {
    let network = network_unit(network);
    // A start that fails is tried again a few times, then the unit stays failed for a person to
    // see: without a limit the machine would never finish booting.
    format!(
        "[Unit]\nDescription=Lockgate {product}: {}\nWants={network}.service\nAfter={network}.service\n\
         StartLimitIntervalSec=1800\nStartLimitBurst=5\n",
        workload.name
    )
}

fn quadlet(product: &str, network: &str, workload: &WorkloadFile) -> String {
    format!(
        "{}\n[Kube]\nYaml={}\nNetwork={network}\n\n[Service]\nRestart=on-failure\nRestartSec=5\nTimeoutStartSec=900\n\n\
         [Install]\nWantedBy=multi-user.target default.target\n",
        head(product, network, workload),
        workload.path.display()
    )
}

fn plain_unit(product: &str, network: &str, workload: &WorkloadFile) -> String {
    let path = workload.path.display();
    format!(
        "{}\n[Service]\nType=notify\nNotifyAccess=all\nEnvironment=PODMAN_SYSTEMD_UNIT=%n\n\
         ExecStart=/usr/bin/podman kube play --replace --service-container=true --network {network} {path}\n\
         ExecStop=/usr/bin/podman kube down {path}\nRestart=on-failure\nRestartSec=5\nTimeoutStartSec=900\nTimeoutStopSec=120\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        head(product, network, workload)
    )
}

fn systemctl(args: &[&str]) -> Result<()> {
    Command::new("systemctl").args(args.iter().copied()).deadline(START).run().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_name_the_yaml_the_network_and_a_limit() {
        let workload = WorkloadFile {
            name: "web".into(),
            path: "/s/web.yaml".into(),
            pods: vec!["web".into()],
            config_maps: vec![],
        };
        for text in [quadlet("p", "net", &workload), plain_unit("p", "net", &workload)] {
            for part in [
                "/s/web.yaml",
                "StartLimitBurst=5",
                "After=lockgate-network-net.service",
                "Restart=on-failure",
                "WantedBy=multi-user.target",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        assert!(quadlet("p", "net", &workload).contains("Network=net\n"));
    }
}
