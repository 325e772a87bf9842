//! Looks before anything is changed: is this machine fit for this release?
//!
//! One file a theme. Facts come in as values, so that each finding is tested for what is as it should
//! be and for what is not; only this file reads the machine. Nothing is left behind by looking.
//! `docs/operator/preflight.md` lists every check.

pub mod accept;
mod engine;
pub mod facts;
mod filesystem;
pub mod finding;
mod kernel;
mod machine;
mod names;
mod needs;
mod space;

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use bundle_format::manifest::Manifest;
use bundle_format::timestamp::Timestamp;

use crate::audit::standing::Standing;
use crate::engine::Podman;
use crate::error::Result;
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::release::{Port, Protocol, Release};

pub use accept::{Acceptance, Options, record};
use facts::Facts;
pub use finding::{Check, Door, Finding, Severity, lines, refuse_unfit, to_json};
pub use names::Own;
use names::{Held, Wanted};
pub use needs::Needs;

const PORT: Check = Check {
    id: "port",
    why: "the platform listens there; two programs cannot",
    advice: "stop what listens there, or ask for a bundle with another port",
    door: Door::Named,
};
const AUDIT_LOG: Check = Check {
    id: "audit-log",
    why: "no act begins on a log that does not prove",
    advice: "installer audit verify says what is wrong; tell your ISSO",
    door: Door::Never,
};

/// Every check that there is, for the list that people read.
pub const CHECKS: [Check; 29] = [
    machine::USER,
    machine::MEMORY,
    machine::MEMORY_FREE,
    machine::CPU,
    machine::CLOCK,
    machine::ENTROPY,
    machine::SUPERVISION,
    kernel::KERNEL,
    kernel::NAMESPACES,
    kernel::CGROUPS,
    kernel::SECURITY_MODULE,
    kernel::FIPS,
    space::DISK_STATE,
    space::DISK_ENGINE,
    space::DISK_PACKAGES,
    space::DISK_AUDIT,
    space::INODES,
    filesystem::OVERLAY,
    filesystem::DIRECT,
    filesystem::REFLINK,
    filesystem::READ_ONLY,
    filesystem::FLAGS,
    engine::ENGINE,
    engine::PART,
    engine::DRIVER,
    names::TAKEN,
    names::LEFT,
    PORT,
    AUDIT_LOG,
];

/// What the look is for.
#[derive(Debug)]
pub struct Question<'a> {
    /// The proven manifest.
    pub manifest: &'a Manifest,
    /// Its workloads.
    pub release: &'a Release,
    /// This machine.
    pub host: &'a HostFacts,
    /// Where things lie.
    pub paths: &'a Paths,
    /// Ports that the product's running release holds and will give up.
    pub held: &'a [Port],
    /// What of the product is here already, by our own record.
    pub own: &'a Own,
    /// What would be written.
    pub needs: Needs,
    /// This machine's clock.
    pub clock: &'a Timestamp,
    /// The newest time on record here.
    pub floor: Option<&'a Timestamp>,
}

/// Where the engine keeps images unless it says otherwise.
const GRAPH_ROOT: &str = "/var/lib/containers";

/// Looks at everything; changes nothing.
pub fn preflight(question: &Question<'_>) -> Result<Vec<Finding>> {
    let (host, manifest, root) = (question.host, question.manifest, Path::new("/"));
    let facts = Facts::read(root, &host.kernel);
    let podman = Podman::detect(question.paths, host)?;
    let graph = graph_root(podman.as_ref())?;

    let mut findings = vec![machine::user(nix::unistd::geteuid().is_root())];
    findings.extend(machine::memory(host.memory_mib, facts.memory_available_mib, manifest.requires.memory_mib));
    findings.push(machine::cpu(&facts));
    findings.push(machine::clock(question.clock, question.floor, &manifest.created));
    findings.push(machine::entropy(&facts));
    findings.extend(kernel::modules(&facts, &host.kernel));
    findings.extend([kernel::namespaces(&facts), kernel::cgroups(host)]);
    findings.extend([kernel::security_module(&facts), kernel::fips(&facts)]);
    findings.extend(space::findings(&question.needs.list(question.paths, &manifest.product, &graph))?);
    findings.extend(file_systems(question.paths, &facts, podman.as_ref(), &graph)?);
    findings.push(engine::engine(podman.as_ref(), manifest, &host.os));
    if let Some(podman) = &podman {
        findings.extend(engine::parts(root));
        let (held, wanted) = (Held::read(podman, root)?, Wanted::of(manifest, question.release));
        findings.extend(names::taken(&wanted, &held, question.own));
        findings.extend(names::left_over(&wanted, &held, question.own));
    }
    findings.push(machine::supervision(host));
    findings.extend(ports(&question.release.ports(), question.held));
    findings.push(audit_log(&Standing::read(question.paths)));
    Ok(findings)
}

/// Looks for room alone: for what copies data and brings no release.
pub fn room(needs: &Needs, paths: &Paths, product: &str, podman: Option<&Podman>) -> Result<Vec<Finding>> {
    space::findings(&needs.list(paths, product, &graph_root(podman)?))
}

fn graph_root(podman: Option<&Podman>) -> Result<PathBuf> {
    podman.map_or_else(|| Ok(PathBuf::from(GRAPH_ROOT)), Podman::graph_root)
}

/// What the file systems of the state folder and of the engine can do, and how they are mounted.
fn file_systems(paths: &Paths, facts: &Facts, podman: Option<&Podman>, graph: &Path) -> Result<Vec<Finding>> {
    let (state, scratch) = (space::existing(paths.state_dir()), space::existing(&paths.scratch()));
    let storage = space::existing(graph);
    let mut findings = filesystem::mount(facts, "state", &state, &["noexec"]);
    findings.extend(filesystem::mount(facts, "engine", &storage, &["noexec", "nosuid", "nodev"]));
    findings.extend(filesystem::mount(facts, "scratch", &scratch, &["noexec"]));
    // What cannot be written to cannot be tried out, and is a failed finding already.
    if findings.iter().any(Finding::refuses) {
        return Ok(findings);
    }
    findings.extend(filesystem::state_folder(&filesystem::probe(&state)?));
    let driver = podman.map_or_else(|| Ok("overlay".to_owned()), Podman::storage_driver)?;
    findings.push(engine::driver(&driver));
    findings.push(filesystem::engine_storage(&driver, &filesystem::probe(&storage)?, &storage));
    Ok(findings)
}

/// Each host port must be free now, unless our own running release holds it and will give it up.
fn ports(wanted: &[Port], held: &[Port]) -> Vec<Finding> {
    // On whichever address: one that is bound to all of them holds each.
    let ours = |port: &Port| held.iter().any(|held| (held.number, held.protocol) == (port.number, port.protocol));
    let mut findings = Vec::new();
    for port in wanted.iter().filter(|port| !ours(port)) {
        let place = (port.address.as_str(), port.number);
        let (free, kind) = match port.protocol {
            Protocol::Tcp => (TcpListener::bind(place).map(drop), ""),
            Protocol::Udp => (UdpSocket::bind(place).map(drop), "/udp"),
        };
        let found = free.as_ref().map_or_else(ToString::to_string, |()| "free".into());
        let port = format!("{}:{}{kind}", port.address, port.number);
        findings.push(PORT.must(free.is_ok(), found, "a free port").of(port));
    }
    findings
}

fn audit_log(standing: &Standing) -> Finding {
    let found = match standing {
        Standing::NotBegun => "no record yet".to_owned(),
        Standing::Sound { head, .. } => format!("{} records", head.seq),
        Standing::Faulty { why } => why.clone(),
    };
    AUDIT_LOG.must(standing.problem().is_none(), found, "a log that proves")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_ports_are_named_and_our_own_are_not() {
        let wanted = |number, protocol| [Port { address: "127.0.0.1".into(), number, protocol }];
        let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let number = tcp.local_addr().unwrap().port();
        let found = ports(&wanted(number, Protocol::Tcp), &[]).remove(0);
        assert_eq!((found.id(), found.severity), (format!("port:127.0.0.1:{number}"), Severity::Fail));
        assert!(ports(&wanted(number, Protocol::Tcp), &wanted(number, Protocol::Tcp)).is_empty());
        let found = ports(&wanted(number, Protocol::Tcp), &wanted(number, Protocol::Udp));
        assert_eq!(found[0].severity, Severity::Fail, "what we hold of the other kind is not this one");
        drop(tcp);
        assert_eq!(ports(&wanted(number, Protocol::Tcp), &[])[0].severity, Severity::Ok);

        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let number = udp.local_addr().unwrap().port();
        let found = ports(&wanted(number, Protocol::Udp), &[]).remove(0);
        assert_eq!((found.id(), found.severity), (format!("port:127.0.0.1:{number}/udp"), Severity::Fail));
        assert!(ports(&wanted(number, Protocol::Udp), &wanted(number, Protocol::Udp)).is_empty());
        drop(udp);
        assert_eq!(ports(&wanted(number, Protocol::Udp), &[])[0].severity, Severity::Ok);
    }

    #[test]
    fn a_faulty_log_stands_in_the_way() {
        let faulty = Standing::Faulty { why: "audit log: expected record 2, found record 3".into() };
        let found = audit_log(&faulty);
        assert_eq!((found.severity, found.check.door), (Severity::Fail, Door::Never));
        assert_eq!(audit_log(&Standing::NotBegun).severity, Severity::Ok);
    }

    #[test]
    fn every_check_is_in_the_operators_list() {
        let list =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operator/preflight.md")).unwrap();
        for check in CHECKS {
            let door = if check.door == Door::Never { "never" } else { "by name" };
            let row = list.lines().find(|line| line.starts_with(&format!("| `{}` |", check.id)));
            assert!(row.is_some_and(|row| row.ends_with(&format!("| {door} |"))), "{}: {row:?}", check.id);
            assert!(!check.why.is_empty() && !check.advice.is_empty());
        }
        assert_eq!(list.lines().filter(|line| line.starts_with("| `")).count(), CHECKS.len());
    }
}
