//! The kernel: what the engine needs of it, and how it guards what runs.

use super::facts::{Facts, Support};
use super::finding::{Check, Door, Finding, Severity};
use crate::host::{Cgroups, HostFacts};

pub(super) const KERNEL: Check = Check {
    id: "kernel",
    why: "the engine builds images on overlay, and its networks of veth, bridge and nf_tables",
    advice: "use the distribution's kernel, or bring its modules package",
    door: Door::Named,
};
pub(super) const NAMESPACES: Check = Check {
    id: "namespaces",
    why: "containers are namespaces; without one kind they do not start",
    advice: "use a kernel with all namespaces",
    door: Door::Named,
};
pub(super) const CGROUPS: Check = Check {
    id: "cgroups",
    why: "version 1 works with runc; limits are weaker",
    advice: "boot with systemd.unified_cgroup_hierarchy=1 where the system allows it",
    door: Door::Named,
};
pub(super) const SECURITY_MODULE: Check = Check {
    id: "security-module",
    why: "SELinux or AppArmor holds a container that broke out; without either only the kernel does",
    advice: "turn SELinux (with container-selinux) or AppArmor on, if the site's rules ask for it",
    door: Door::Named,
};
pub(super) const FIPS: Check = Check {
    id: "fips",
    why: "the installer's own signatures and digests are not a validated module; the kernel's mode does not change that",
    advice: "tell your ISSO: the proof of bundles is outside the validated boundary",
    door: Door::Named,
};

/// Namespaces that every container gets.
const NEEDED: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];

/// One finding for each part of the kernel that the engine needs.
pub(super) fn modules(facts: &Facts, release: &str) -> Vec<Finding> {
    let finding = |(module, support): &(&'static str, Support)| {
        let (severity, found) = match support {
            Support::Present => (Severity::Ok, "there"),
            Support::Loadable => (Severity::Ok, "a module that is loaded when asked for"),
            Support::Absent => (Severity::Fail, "not there"),
            Support::Unknown => (Severity::Warn, "not to be told: no configuration and no modules to read"),
        };
        KERNEL.finding(severity, format!("{found} (kernel {release})"), *module).of(*module)
    };
    facts.modules.iter().map(finding).collect()
}

pub(super) fn namespaces(facts: &Facts) -> Finding {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !facts.namespaces.contains(*name)).collect();
    // Older kernels do not show cgroup namespaces, and podman does without them.
    let fatal = missing.iter().any(|name| *name != "cgroup");
    let found = if missing.is_empty() { "all".to_owned() } else { format!("no {}", missing.join(", ")) };
    let severity = match (missing.is_empty(), fatal) {
        (true, _) => Severity::Ok,
        (false, true) => Severity::Fail,
        (false, false) => Severity::Warn,
    };
    NAMESPACES.finding(severity, found, NEEDED.join(", "))
}

pub(super) fn cgroups(host: &HostFacts) -> Finding {
    let found = match host.cgroups {
        Cgroups::Unified => "version 2",
        Cgroups::Legacy => "version 1 or hybrid",
    };
    CGROUPS.should(host.cgroups == Cgroups::Unified, found, "version 2")
}

pub(super) fn security_module(facts: &Facts) -> Finding {
    let (fit, found) = match (facts.selinux_enforcing, facts.apparmor) {
        (Some(true), _) => (true, "SELinux, enforcing"),
        (Some(false), _) => (false, "SELinux, permissive"),
        (None, true) => (true, "AppArmor"),
        (None, false) => (false, "neither SELinux nor AppArmor"),
    };
    SECURITY_MODULE.should(fit, found, "SELinux enforcing, or AppArmor")
}

pub(super) fn fips(facts: &Facts) -> Finding {
    FIPS.should(!facts.fips, if facts.fips { "FIPS mode" } else { "no FIPS mode" }, "known to the ISSO where it is on")
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::good;
    use super::super::finding::Severity::{Fail, Ok as Fit, Warn};
    use super::*;

    #[test]
    fn parts_of_the_kernel() {
        for (support, severity) in
            [(Support::Present, Fit), (Support::Loadable, Fit), (Support::Absent, Fail), (Support::Unknown, Warn)]
        {
            let facts = Facts { modules: vec![("veth", support)], ..good() };
            let found = modules(&facts, "6.1.0").pop().unwrap();
            assert_eq!((found.id().as_str(), found.severity), ("kernel:veth", severity));
        }
    }

    #[test]
    fn kinds_of_namespaces() {
        let mut facts = good();
        assert_eq!(namespaces(&facts).severity, Fit);
        facts.namespaces.remove("cgroup");
        assert_eq!(namespaces(&facts).severity, Warn);
        facts.namespaces.remove("net");
        assert_eq!((namespaces(&facts).severity, namespaces(&facts).found.as_str()), (Fail, "no cgroup, net"));
    }

    #[test]
    fn guards() {
        for (selinux, apparmor, severity) in
            [(Some(true), false, Fit), (Some(false), true, Warn), (None, true, Fit), (None, false, Warn)]
        {
            let facts = Facts { selinux_enforcing: selinux, apparmor, ..good() };
            assert_eq!(security_module(&facts).severity, severity, "{selinux:?} {apparmor}");
        }
        assert_eq!((fips(&good()).severity, fips(&Facts { fips: true, ..good() }).severity), (Fit, Warn));
        let mut host = HostFacts::read(std::path::Path::new("/")).unwrap();
        for (kind, severity) in [(Cgroups::Unified, Fit), (Cgroups::Legacy, Warn)] {
            host.cgroups = kind;
            assert_eq!(cgroups(&host).severity, severity);
        }
    }
}
