//! Looks before anything is changed: is this machine fit for this release?

use std::net::TcpListener;
use std::path::Path;

use bundle_format::manifest::Manifest;
use bundle_format::timestamp::Timestamp;

use crate::engine::Podman;
use crate::error::{ErrorKind, Result};
use crate::host::{self, Cgroups, HostFacts, Init};
use crate::paths::Paths;
use crate::release::Release;
use crate::store::Store;

/// How a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but a person should know.
    Warn,
    /// Installing would fail.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it weighs.
    pub severity: Severity,
    /// What is there.
    pub found: String,
    /// What is needed.
    pub needed: String,
    /// How to mend it.
    pub advice: &'static str,
}

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
    pub held: &'a [u16],
    /// This machine's clock.
    pub clock: &'a Timestamp,
    /// The newest time on record here.
    pub floor: Option<&'a Timestamp>,
}

/// Compressed layers unpack to about this much (Debian layers: 2.5 to 3).
const UNPACK: u64 = 3;

/// Looks at everything; changes nothing.
pub fn preflight(question: &Question<'_>) -> Result<Vec<Finding>> {
    let podman = Podman::detect(question.paths, question.host)?;
    let mut findings = vec![root_user(), memory(question), clock(question), kernel(question), cgroups(question.host)];
    findings.extend(disk(question, podman.as_ref())?);
    findings.extend(engine(question, podman.as_ref()));
    findings.push(supervision(question.host));
    findings.extend(ports(question));
    Ok(findings)
}

/// An error that names every failed finding; exit 6.
pub fn refuse_unfit(findings: &[Finding]) -> Result<()> {
    let failed: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Fail)
        .map(|finding| {
            format!("{}: found {}, needed {}; {}", finding.name, finding.found, finding.needed, finding.advice)
        })
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(ErrorKind::Unfit { why: failed.join(" | ") }.into()) }
}

/// The findings as lines for a person.
pub fn lines(findings: &[Finding]) -> Vec<String> {
    let word = |severity| match severity {
        Severity::Ok => "ok  ",
        Severity::Warn => "WARN",
        Severity::Fail => "FAIL",
    };
    let line = |f: &Finding| {
        let advice = if f.severity == Severity::Ok { String::new() } else { format!("; {}", f.advice) };
        format!("{} {:<14} found {}, needed {}{advice}", word(f.severity), f.name, f.found, f.needed)
    };
    findings.iter().map(line).collect()
}

/// The findings for machines.
pub fn to_json(findings: &[Finding]) -> serde_json::Value {
    let severity = |severity| match severity {
        Severity::Ok => "ok",
        Severity::Warn => "warn",
        Severity::Fail => "fail",
    };
    let entry = |f: &Finding| serde_json::json!({"name": f.name, "severity": severity(f.severity), "found": f.found, "needed": f.needed, "advice": f.advice});
    serde_json::json!({"findings": findings.iter().map(entry).collect::<Vec<_>>()})
}

fn finding(
    name: &'static str,
    fit: Severity,
    found: impl Into<String>,
    needed: impl Into<String>,
    advice: &'static str,
) -> Finding {
    Finding { name, severity: fit, found: found.into(), needed: needed.into(), advice }
}

const fn must(fit: bool) -> Severity {
    if fit { Severity::Ok } else { Severity::Fail }
}

const fn should(fit: bool) -> Severity {
    if fit { Severity::Ok } else { Severity::Warn }
}

fn root_user() -> Finding {
    let root = nix::unistd::geteuid().is_root();
    finding("user", must(root), if root { "root" } else { "another user" }, "root", "run as root")
}

fn memory(question: &Question<'_>) -> Finding {
    let (found, needed) = (question.host.memory_mib, question.manifest.requires.memory_mib);
    finding("memory", must(found >= needed), format!("{found} MiB"), format!("{needed} MiB"), "add memory")
}

/// Bundles are made before they are installed, and time does not run backwards.
fn clock(question: &Question<'_>) -> Finding {
    let earliest =
        question.floor.filter(|floor| **floor > question.manifest.created).unwrap_or(&question.manifest.created);
    let fit = question.clock >= earliest;
    finding(
        "clock",
        should(fit),
        question.clock.to_string(),
        format!("{earliest} or later"),
        "CLOCK SUSPECT: set the clock",
    )
}

fn kernel(question: &Question<'_>) -> Finding {
    let has = question.host.filesystems.iter().any(|name| name == "overlay")
        || Path::new("/lib/modules").join(&question.host.kernel).join("kernel/fs/overlayfs").exists();
    let found = format!("{} {} overlay", question.host.kernel, if has { "with" } else { "without" });
    finding("kernel", must(has), found, "overlay file system", "use a kernel with overlayfs")
}

fn cgroups(host: &HostFacts) -> Finding {
    let found = match host.cgroups {
        Cgroups::Unified => "version 2",
        Cgroups::Legacy => "version 1 or hybrid",
    };
    finding(
        "control groups",
        should(host.cgroups == Cgroups::Unified),
        found,
        "version 2",
        "works with runc; limits are weaker",
    )
}

fn supervision(host: &HostFacts) -> Finding {
    let systemd = host.init == Init::Systemd;
    let found = if systemd { "systemd" } else { "no systemd" };
    finding("supervision", should(systemd), found, "systemd", "nothing will start at boot by itself")
}

/// Bytes for the store and for the engine's unpacked images, each on its own file system.
fn disk(question: &Question<'_>, podman: Option<&Podman>) -> Result<Vec<Finding>> {
    let manifest = question.manifest;
    let store_path = question.paths.store();
    let held = Store::peek(&store_path);
    let sizes = manifest.blob_sizes();
    let missing: u64 = sizes.iter().filter(|(digest, size)| !held.holds(digest, **size)).map(|(_, size)| size).sum();
    let mut unpacked = 0u64;
    for image in &manifest.images {
        if podman.is_some_and(|podman| podman.image_exists(image).unwrap_or(false)) {
            continue;
        }
        let packed: u64 = image.blobs.iter().filter_map(|digest| sizes.get(digest)).sum();
        unpacked = unpacked.saturating_add(packed.saturating_mul(UNPACK));
    }
    let graph = match podman {
        Some(podman) => podman.graph_root()?,
        None => "/var/lib/containers".into(),
    };
    let platform = manifest.requires.disk_mib << 20;
    let engine_needs = unpacked.saturating_add(platform);
    let advice = "free space, or put the state folder on a larger file system (--state-dir)";
    let mut findings = Vec::new();
    let mut look = |name, path: &Path, needed: u64| -> Result<()> {
        let (bytes, inodes) = host::free_space(path)?;
        let found = format!("{} MiB free at {}", bytes >> 20, path.display());
        findings.push(finding(name, must(bytes >= needed), found, format!("{} MiB", needed.div_ceil(1 << 20)), advice));
        // File systems without a limit on inodes report none free and none at all.
        if inodes.is_some_and(|inodes| inodes < 10_000) {
            let found = format!("{} inodes free at {}", inodes.unwrap_or(0), path.display());
            findings.push(finding("inodes", Severity::Fail, found, "10000", advice));
        }
        Ok(())
    };
    if host::file_system(&store_path)? == host::file_system(&graph)? {
        look("disk", &store_path, missing.saturating_add(engine_needs))?;
    } else {
        look("disk (store)", &store_path, missing)?;
        look("disk (engine)", &graph, engine_needs)?;
    }
    Ok(findings)
}

fn engine(question: &Question<'_>, podman: Option<&Podman>) -> Vec<Finding> {
    let advice = "install podman and its parts from this system's own medium, or ask for a bundle that carries them";
    let Some(podman) = podman else {
        let carried = question.manifest.runtime.iter().any(|set| set.os == question.host.os);
        let found =
            format!("none; the bundle carries {} for {}", if carried { "one" } else { "none" }, question.host.os);
        return vec![finding("engine", must(carried), found, "podman", advice)];
    };
    let mut findings = vec![finding(
        "engine",
        must(podman.at_least(4, 3)),
        format!("podman {} of this host", podman.version()),
        "podman 4.3 or later",
        advice,
    )];
    let folders =
        ["/usr/bin", "/usr/sbin", "/usr/libexec/podman", "/usr/lib/podman", "/usr/local/bin", "/usr/libexec/catatonit"];
    let have =
        |names: &[&str]| folders.iter().any(|folder| names.iter().any(|name| Path::new(folder).join(name).exists()));
    let parts: [(&str, &[&str]); 6] = [
        ("OCI runtime", &["crun", "runc"]),
        ("conmon", &["conmon"]),
        ("netavark", &["netavark"]),
        ("aardvark-dns", &["aardvark-dns"]),
        ("catatonit", &["catatonit"]),
        ("nft", &["nft"]),
    ];
    for (part, names) in parts {
        if !have(names) {
            findings.push(finding("engine part", Severity::Fail, format!("no {part}"), names.join(" or "), advice));
        }
    }
    findings
}

/// Each host port must be free now, unless our own running release holds it and will give it up.
fn ports(question: &Question<'_>) -> Vec<Finding> {
    let advice = "stop what listens there, or ask for a bundle with another port";
    let mut findings = Vec::new();
    for (address, port) in question.release.ports() {
        if question.held.contains(&port) {
            continue;
        }
        let free = TcpListener::bind((address.as_str(), port));
        let found =
            free.as_ref().map_or_else(|e| format!("{address}:{port}: {e}"), |_| format!("{address}:{port} free"));
        findings.push(finding("port", must(free.is_ok()), found, "a free port", advice));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_findings_refuse_and_are_named() {
        let good = finding("memory", Severity::Ok, "2", "1", "");
        let warned = finding("clock", Severity::Warn, "x", "y", "set it");
        refuse_unfit(&[good.clone(), warned.clone()]).unwrap();
        let bad = finding("port", Severity::Fail, "0.0.0.0:1: in use", "a free port", "stop it");
        let error = refuse_unfit(&[good, warned, bad]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Unfit { why } if why.contains("port") && !why.contains("clock")),
            "{error}"
        );
        assert_eq!(error.class().exit_code(), 6);
    }
}
