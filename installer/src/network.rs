//! The network of a release, and the rule that keeps an internal one from reaching outside.
//!
//! podman's own `--internal` networks publish no port to the host (seen with 4.3.1 and 5.4.2), so
//! the network is a plain one, and a table of ours in nftables drops what its bridge would forward
//! to anywhere else. Answers to connections from the host pass.

use std::path::PathBuf;

use bundle_format::manifest::Network;
use serde_json::Value;

use crate::atomic::{self, Access};
use crate::command::Command;
use crate::engine::Podman;
use crate::error::{ErrorKind, Result};
use crate::host::{HostFacts, Init};
use crate::paths::Paths;

/// Whether the network is there.
pub fn exists(podman: &Podman, network: &Network) -> Result<bool> {
    Ok(podman.call(["network", "exists", &network.name]).output()?.code == 0)
}

/// Makes the network if it is missing and loads its rule, now and at boot.
pub fn ensure(podman: &Podman, host: &HostFacts, paths: &Paths, network: &Network) -> Result<()> {
    if !exists(podman, network)? {
        podman.call(["network", "create", "--label", "lockgate=1", &network.name]).run()?;
    }
    if network.internal {
        let rules = paths.engine().join(format!("{}.nft", network.name));
        atomic::write(&rules, ruleset(&network.name, &bridge(podman, &network.name)?).as_bytes(), Access::Public)?;
        let nft = nft()?;
        if host.init == Init::Systemd {
            crate::engine::Supervisor::enable_network(&network.name, &rules, &nft)?;
        } else {
            Command::new(nft.display().to_string()).arg("-f").arg(rules.as_os_str()).run()?;
        }
    }
    Ok(())
}

/// Takes the network and its rule away.
pub fn remove(podman: &Podman, host: &HostFacts, paths: &Paths, network: &Network) -> Result<()> {
    if exists(podman, network)? {
        podman.call(["network", "rm", &network.name]).run()?;
    }
    let rules = paths.engine().join(format!("{}.nft", network.name));
    if !rules.exists() {
        return Ok(());
    }
    if host.init == Init::Systemd {
        crate::engine::Supervisor::disable_network(&network.name)?;
    }
    let table = table(&network.name);
    let nft = nft()?.display().to_string();
    // Adding first makes deleting sure to find it.
    Command::new(nft)
        .args(["-f", "-"])
        .stdin(format!("add table inet {table}\ndelete table inet {table}\n").as_bytes())
        .run()?;
    std::fs::remove_file(&rules).map_err(|e| crate::Error::io(rules.display().to_string(), e))
}

/// The program that loads rules; it lies outside many users' search path.
pub fn nft() -> Result<PathBuf> {
    let found =
        ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].into_iter().map(PathBuf::from).find(|path| path.exists());
    Ok(found.ok_or(ErrorKind::ProgramMissing { program: "nft".into() })?)
}

fn bridge(podman: &Podman, network: &str) -> Result<String> {
    let output = podman.call(["network", "inspect", network]).run()?.stdout;
    let name = serde_json::from_str::<Value>(&output)
        .ok()
        .and_then(|parsed| parsed.pointer("/0/network_interface")?.as_str().map(str::to_owned))
        .filter(|name| {
            !name.is_empty()
                && name.len() < 16
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        });
    let unexpected = || ErrorKind::Unexpected {
        what: format!("podman network inspect {network}"),
        expected: "the name of its bridge".into(),
        found: bundle_format::text::escaped(output.trim()),
    };
    Ok(name.ok_or_else(unexpected)?)
}

fn table(network: &str) -> String {
    format!("lockgate_{}", network.replace('-', "_"))
}

/// Idempotent: whatever the table held is replaced in one transaction.
fn ruleset(network: &str, bridge: &str) -> String {
    let table = table(network);
    format!(
        "add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n  chain forward {{\n\
         \u{20}   type filter hook forward priority -10; policy accept;\n\
         \u{20}   iifname \"{bridge}\" oifname \"{bridge}\" accept\n\
         \u{20}   iifname \"{bridge}\" ct state established,related accept\n\
         \u{20}   iifname \"{bridge}\" counter drop\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_what_nft_takes() {
        let text = ruleset("defense-builders", "podman1");
        assert!(text.contains("table inet lockgate_defense_builders {"), "{text}");
        // Checked by nft itself, without loading them.
        Command::new(nft().unwrap().display().to_string())
            .args(["-c", "-f", "-"])
            .stdin(text.as_bytes())
            .run()
            .unwrap();
    }
}
