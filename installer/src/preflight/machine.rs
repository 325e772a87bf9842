//! The machine itself: who runs us, memory, processor, clock, randomness.

use bundle_format::timestamp::Timestamp;

use super::facts::Facts;
use super::finding::{Check, Door, Finding};
use crate::host::{HostFacts, Init};

pub(super) const USER: Check = Check {
    id: "user",
    why: "networks, images and units are the machine's own; only root changes them",
    advice: "run as root",
    door: Door::Never,
};
pub(super) const MEMORY: Check = Check {
    id: "memory",
    why: "without it the kernel ends containers at random",
    advice: "add memory",
    door: Door::Named,
};
pub(super) const MEMORY_FREE: Check = Check {
    id: "memory-available",
    why: "other programs hold what the release needs now",
    advice: "stop what else runs, or expect swapping",
    door: Door::Named,
};
pub(super) const CPU: Check = Check {
    id: "cpu",
    why: "images that are built for newer processors end with an illegal instruction on older ones",
    advice: "choose a processor or a virtual machine's processor type of at least x86-64-v2",
    door: Door::Named,
};
pub(super) const CLOCK: Check = Check {
    id: "clock",
    why: "expiry is judged by the newest time on record, and logs of a wrong clock cannot be compared",
    advice: "CLOCK SUSPECT: set the clock",
    door: Door::Named,
};
pub(super) const ENTROPY: Check = Check {
    id: "entropy",
    why: "secrets and keys are made here; an unseeded source would make them guessable, or block for ever",
    advice: "give the machine a hardware random source (virtio-rng in a virtual machine)",
    door: Door::Never,
};
pub(super) const SUPERVISION: Check = Check {
    id: "supervision",
    why: "without systemd nothing starts at boot by itself, and no timer makes backups",
    advice: "use a system with systemd, or start the platform by hand",
    door: Door::Named,
};

pub(super) fn user(root: bool) -> Finding {
    USER.must(root, if root { "root" } else { "another user" }, "root")
}

/// The machine's memory against the signed need, and what of it is free now.
pub(super) fn memory(total: u64, available: Option<u64>, needed: u64) -> Vec<Finding> {
    let mut findings = vec![MEMORY.must(total >= needed, format!("{total} MiB"), format!("{needed} MiB"))];
    if let Some(available) = available.filter(|_| total >= needed) {
        findings.push(MEMORY_FREE.should(
            available >= needed,
            format!("{available} MiB available"),
            format!("{needed} MiB"),
        ));
    }
    findings
}

/// Levels of the x86-64 psABI, 1.0, table 3.1, by the kernel's names of their features.
const LEVELS: [(&str, &[&str]); 3] = [
    ("x86-64-v2", &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    ("x86-64-v3", &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"]),
    ("x86-64-v4", &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
];

/// The x86-64 level of the processor; other architectures have none to miss.
pub(super) fn cpu(facts: &Facts) -> Finding {
    if facts.cpu_flags.is_empty() {
        return CPU.should(true, "no x86 processor", "no level");
    }
    let mut level = "x86-64-v1".to_owned();
    for (name, flags) in LEVELS {
        let missing: Vec<&str> = flags.iter().filter(|flag| !facts.cpu_flags.contains(**flag)).copied().collect();
        if !missing.is_empty() {
            level = format!("{level} (not {name}: no {})", missing.join(", "));
            break;
        }
        name.clone_into(&mut level);
    }
    CPU.should(!level.starts_with("x86-64-v1"), level, "x86-64-v2 or higher")
}

/// Bundles are made before they are installed, and time does not run backwards.
pub(super) fn clock(now: &Timestamp, floor: Option<&Timestamp>, created: &Timestamp) -> Finding {
    let earliest = floor.filter(|floor| *floor > created).unwrap_or(created);
    CLOCK.should(now >= earliest, now.to_string(), format!("{earliest} or later"))
}

pub(super) fn entropy(facts: &Facts) -> Finding {
    let counted = facts.entropy.map_or_else(|| "not told".into(), |bits| format!("{bits} bits"));
    let state = if facts.random_ready { "seeded" } else { "not seeded" };
    ENTROPY.must(facts.random_ready, format!("{state}, {counted}"), "a seeded random source")
}

pub(super) fn supervision(host: &HostFacts) -> Finding {
    let systemd = host.init == Init::Systemd;
    SUPERVISION.should(systemd, if systemd { "systemd" } else { "no systemd" }, "systemd")
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::good;
    use super::super::finding::Severity::{Fail, Ok as Fit, Warn};
    use super::*;

    #[test]
    fn memory_of_the_machine_and_what_is_left() {
        for (total, available, needed, expected) in [
            (4000, Some(3000), 2000, vec![Fit, Fit]),
            (4000, Some(1000), 2000, vec![Fit, Warn]),
            (4000, None, 2000, vec![Fit]),
            (1000, Some(900), 2000, vec![Fail]),
        ] {
            let found: Vec<_> = memory(total, available, needed).iter().map(|finding| finding.severity).collect();
            assert_eq!(found, expected);
        }
        assert_eq!((user(true).severity, user(false).severity), (Fit, Fail));
    }

    #[test]
    fn processor_levels() {
        let mut facts = good();
        for (missing, level, severity) in [
            (&["avx512f"][..], "x86-64-v3 (not x86-64-v4: no avx512f, avx512bw", Fit),
            (&["fma"], "x86-64-v2 (not x86-64-v3: no fma)", Fit),
            (&["sse4_2", "popcnt"], "x86-64-v1 (not x86-64-v2: no popcnt, sse4_2)", Warn),
        ] {
            facts.cpu_flags.retain(|flag| !missing.contains(&flag.as_str()));
            let found = cpu(&facts);
            assert!(found.found.starts_with(level) && found.severity == severity, "{found:?}");
        }
        let mut all = good();
        all.cpu_flags.extend(LEVELS[2].1.iter().map(ToString::to_string));
        assert_eq!(cpu(&all).found, "x86-64-v4");
        all.cpu_flags.clear();
        assert_eq!(cpu(&all).severity, Fit);
    }

    #[test]
    fn clocks_and_floors() {
        let at = Timestamp::from_unix;
        for (now, floor, severity) in [(100, None, Fit), (99, None, Warn), (100, Some(101), Warn), (100, Some(50), Fit)]
        {
            assert_eq!(clock(&at(now), floor.map(at).as_ref(), &at(100)).severity, severity, "{now} {floor:?}");
        }
    }

    #[test]
    fn randomness_and_supervision() {
        assert_eq!(entropy(&good()).severity, Fit);
        let unseeded = Facts { random_ready: false, entropy: None, ..good() };
        assert_eq!((entropy(&unseeded).severity, entropy(&unseeded).found.as_str()), (Fail, "not seeded, not told"));
        let mut host = HostFacts::read(std::path::Path::new("/")).unwrap();
        for (init, severity) in [(Init::Systemd, Fit), (Init::Other, Warn)] {
            host.init = init;
            assert_eq!(supervision(&host).severity, severity);
        }
    }
}
