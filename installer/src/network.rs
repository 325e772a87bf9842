//! The network of a release, and the rule that keeps an internal one from reaching outside.
//!
//! podman's own `--internal` networks publish no port to the host (seen with 4.3.1 and 5.4.2), so
//! the network is a plain one, and a table of ours in nftables drops what its bridge would forward
//! to anywhere else. Answers to connections from the host pass.
//!
//! A network is made before the switch; its rule changes at the switch, while nothing runs on it.

use std::path::{Path, PathBuf};

use bundle_format::manifest::{Manifest, Network};
use serde_json::Value;

use crate::atomic::{self, Access};
use crate::command::Command;
use crate::engine::Podman;
use crate::error::{ErrorKind, Result};
use crate::host::{HostFacts, Init};
use crate::paths::Paths;
use crate::state::State;

/// Whether the network is there.
pub fn exists(podman: &Podman, network: &Network) -> Result<bool> {
    Ok(podman.call(["network", "exists", &network.name]).output()?.code == 0)
}

/// Makes the network if it is missing. One that is there is not touched: something may run on it.
pub fn make(podman: &Podman, network: &Network) -> Result<()> {
    if !exists(podman, network)? {
        podman.call(["network", "create", "--label", "lockgate=1", &network.name]).run()?;
    }
    Ok(())
}

/// Lets the network reach what is asked for: its rule is loaded, now and at boot, or taken away.
pub fn set_reach(podman: &Podman, host: &HostFacts, paths: &Paths, network: &Network) -> Result<()> {
    if !network.internal {
        return lift(host, paths, &network.name);
    }
    let rules = rules(paths, &network.name);
    atomic::write(&rules, ruleset(&network.name, &bridge(podman, &network.name)?).as_bytes(), Access::Public)?;
    let nft = nft()?;
    if host.init == Init::Systemd {
        return crate::engine::Supervisor::enable_network(&network.name, &rules, &nft);
    }
    Command::new(nft.display().to_string()).arg("-f").arg(rules.as_os_str()).run().map(drop)
}

/// Both: what a repair puts back.
pub fn ensure(podman: &Podman, host: &HostFacts, paths: &Paths, network: &Network) -> Result<()> {
    make(podman, network)?;
    set_reach(podman, host, paths, network)
}

/// Releases of other products that are on the network too, by what each says of it.
fn others(state: &State, product: &str, name: &str) -> Result<Vec<Network>> {
    let mut found = Vec::new();
    for generation in state.active_generations()?.into_iter().filter(|generation| generation.product != product) {
        found.push(generation.parse()?.network);
    }
    found.retain(|network| network.name == name);
    Ok(found)
}

/// A release's network as it is in force while the release is active: products may share one, and none of them
/// lets another's reach out that is to be kept inside.
pub fn in_force(state: &State, manifest: &Manifest) -> Result<Network> {
    let Network { name, internal } = manifest.network.clone();
    let internal = internal || others(state, &manifest.product, &name)?.iter().any(|other| other.internal);
    Ok(Network { name, internal })
}

/// Undoes [`set_reach`] for a release that is not active any more: the rule stays as other products on the
/// network want it.
pub fn give_up_reach(podman: &Podman, host: &HostFacts, paths: &Paths, state: &State, of: &Manifest) -> Result<()> {
    let name = of.network.name.clone();
    let internal = others(state, &of.product, &name)?.iter().any(|other| other.internal);
    set_reach(podman, host, paths, &Network { name, internal })
}

/// What is not as [`ensure`] leaves it: the network, its rule on disk, in the kernel and at boot; a rule that
/// should not be there too.
pub fn differing(podman: &Podman, host: &HostFacts, paths: &Paths, network: &Network) -> Result<Vec<String>> {
    if !exists(podman, network)? {
        return Ok(vec![format!("network {} is not there", network.name)]);
    }
    if !network.internal {
        return unasked(host, paths, &network.name);
    }
    let nft = match nft() {
        Ok(nft) => nft,
        // Without the program no rule can be in force after a restart.
        Err(error) => return Ok(vec![error.to_string()]),
    };
    let bridge = bridge(podman, &network.name)?;
    let rules = rules(paths, &network.name);
    let mut found = Vec::new();
    if !std::fs::read(&rules).is_ok_and(|bytes| bytes == ruleset(&network.name, &bridge).as_bytes()) {
        found.push(format!("{} is not as written", rules.display()));
    }
    let table = table(&network.name);
    if !loaded(&nft, &table)?.is_some_and(|listed| is_loaded(&listed, &table, &bridge)) {
        let network = &network.name;
        found.push(format!("the rule that keeps network {network} inside is not in force (nftables table {table})"));
    }
    if host.init == Init::Systemd {
        found.extend(crate::engine::Supervisor::differing_network(&network.name, &rules, &nft)?);
    }
    Ok(found)
}

/// What keeps a network inside that is to reach out.
fn unasked(host: &HostFacts, paths: &Paths, network: &str) -> Result<Vec<String>> {
    let (rules, table, mut found) = (rules(paths, network), table(network), Vec::new());
    // What no program can load is not in force.
    if let Ok(nft) = nft()
        && loaded(&nft, &table)?.is_some()
    {
        found
            .push(format!("nftables table {table} keeps network {network} inside, which its release does not ask for"));
    }
    if rules.exists() {
        found.push(format!("{} is there, which keeps network {network} inside", rules.display()));
    }
    if host.init == Init::Systemd {
        let unit = crate::engine::Supervisor::network_unit(network);
        found.extend(unit.map(|unit| format!("{} is there, which keeps network {network} inside", unit.display())));
    }
    Ok(found)
}

/// Takes the network and its rule away.
pub fn remove(podman: &Podman, host: &HostFacts, paths: &Paths, network: &Network) -> Result<()> {
    if exists(podman, network)? {
        podman.call(["network", "rm", &network.name]).run()?;
    }
    lift(host, paths, &network.name)
}

/// Takes the network of a release that is not active any more away, unless another product is on it.
pub fn leave(podman: &Podman, host: &HostFacts, paths: &Paths, state: &State, of: &Manifest) -> Result<()> {
    if others(state, &of.product, &of.network.name)?.is_empty() {
        return remove(podman, host, paths, &of.network);
    }
    give_up_reach(podman, host, paths, state, of)
}

/// Networks that an installer made.
pub fn made(podman: &Podman) -> Result<Vec<String>> {
    let list = ["network", "ls", "--filter", "label=lockgate=1", "--format", "{{.Name}}"];
    Ok(podman.call(list).run()?.stdout.lines().map(|line| line.trim().to_owned()).collect())
}

/// Takes the rule away: at boot, in the kernel, on disk, in this order, so that a cut leaves nothing that nobody
/// looks for.
fn lift(host: &HostFacts, paths: &Paths, network: &str) -> Result<()> {
    let (rules, table) = (rules(paths, network), table(network));
    if host.init == Init::Systemd {
        crate::engine::Supervisor::disable_network(network)?;
    }
    match nft() {
        Ok(nft) if loaded(&nft, &table)?.is_some() => {
            let delete = format!("delete table inet {table}\n");
            Command::new(nft.display().to_string()).args(["-f", "-"]).stdin(delete.as_bytes()).run()?;
        }
        // It was loaded by a program that is gone, and is in force still.
        Err(error) if rules.exists() => return Err(error),
        _ => {}
    }
    atomic::remove_file(&rules)
}

/// What the kernel has under the name of a table; nothing where there is no such table.
fn loaded(nft: &Path, table: &str) -> Result<Option<String>> {
    let listed = Command::new(nft.display().to_string()).args(["list", "table", "inet", table]).output()?;
    Ok((listed.code == 0).then_some(listed.stdout))
}

/// Where the rule lies.
fn rules(paths: &Paths, network: &str) -> PathBuf {
    paths.engine().join(format!("{network}.nft"))
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
