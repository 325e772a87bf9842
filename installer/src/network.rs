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

/// What is not as [`ensure`] leaves it: the network, its rule on disk, in the kernel and at boot.
pub fn differing(podman: &Podman, host: &HostFacts, paths: &Paths, network: &Network) -> Result<Vec<String>> {
    if !exists(podman, network)? {
        return Ok(vec![format!("network {} is not there", network.name)]);
    }
    if !network.internal {
        return Ok(Vec::new());
    }
    let nft = match nft() {
        Ok(nft) => nft,
        // Without the program no rule can be in force after a restart.
        Err(error) => return Ok(vec![error.to_string()]),
    };
    let bridge = bridge(podman, &network.name)?;
    let rules = paths.engine().join(format!("{}.nft", network.name));
    let mut found = Vec::new();
    if !std::fs::read(&rules).is_ok_and(|bytes| bytes == ruleset(&network.name, &bridge).as_bytes()) {
        found.push(format!("{} is not as written", rules.display()));
    }
    let table = table(&network.name);
    let listed = Command::new(nft.display().to_string()).args(["list", "table", "inet", &table]).output()?;
    if listed.code != 0 || !is_loaded(&listed.stdout, &table, &bridge) {
        let network = &network.name;
        found.push(format!("the rule that keeps network {network} inside is not in force (nftables table {table})"));
    }
    if host.init == Init::Systemd {
        found.extend(crate::engine::Supervisor::differing_network(&network.name, &rules, &nft)?);
    }
    Ok(found)
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

/// Whether what `nft list table` says is [`ruleset`] and nothing else. Programs of different age write a
/// priority and a set of states in different words, and counters have counted.
fn is_loaded(listed: &str, table: &str, bridge: &str) -> bool {
    let lines: Vec<String> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    let &[head, chain, hook, inside, answers, dropped, "}", "}"] = lines.as_slice() else { return false };
    let hooks = ["filter - 10", "-10"].map(|at| format!("type filter hook forward priority {at}; policy accept;"));
    let states = ["established,related", "related,established"];
    let states = states.map(|states| format!("iifname \"{bridge}\" ct state {states} accept"));
    let counts =
        dropped.strip_prefix(&format!("iifname \"{bridge}\" counter ")).and_then(|rest| rest.strip_suffix("drop"));
    let counted = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        matches!(words.as_slice(), [] | ["packets", _, "bytes", _])
    };
    head == format!("table inet {table} {{")
        && chain == "chain forward {"
        && hooks.iter().any(|text| text == hook)
        && inside == format!("iifname \"{bridge}\" oifname \"{bridge}\" accept")
        && states.iter().any(|text| text == answers)
        && counts.is_some_and(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rule_itself_counts_as_loaded() {
        let listed = |hook: &str, states: &str, last: &str| {
            format!(
                "table inet lockgate_n {{\n\tchain forward {{\n\t\t{hook}\n\t\tiifname \"podman1\" oifname \"podman1\" accept\n\
                 \t\tiifname \"podman1\" ct state {states} accept\n\t\t{last}\n\t}}\n}}\n"
            )
        };
        let (hook, states) = ("type filter hook forward priority filter - 10; policy accept;", "established,related");
        let last = "iifname \"podman1\" counter packets 12 bytes 720 drop";
        let older = "type filter hook forward priority -10; policy accept;";
        for text in
            [listed(hook, states, last), listed(older, "related,established", "iifname \"podman1\" counter drop")]
        {
            assert!(is_loaded(&text, "lockgate_n", "podman1"), "{text}");
        }
        for text in [
            String::new(),
            listed(hook, states, "iifname \"podman2\" counter packets 0 bytes 0 drop"),
            listed(hook, states, "iifname \"podman1\" counter packets 0 bytes 0 accept"),
            listed(hook, states, &format!("iifname \"podman1\" accept\n{last}")),
            listed(hook, states, "iifname \"podman1\" counter packets 0 bytes 0 tcp dport 22 drop"),
            listed(hook, "established,related,new", last),
            listed("type filter hook input priority filter - 10; policy accept;", states, last),
        ] {
            assert!(!is_loaded(&text, "lockgate_n", "podman1"), "{text}");
        }
        assert!(!is_loaded(&listed(hook, states, last), "lockgate_n", "podman2"));
    }

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
