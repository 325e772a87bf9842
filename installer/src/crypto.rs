//! `crypto-report`: which cryptographic modules are linked into this program, what each is used for,
//! what the processor and the kernel add, and which certificates are known. It states facts and
//! claims no compliance: that is for a person with the certificates in hand.

use std::collections::BTreeSet;
use std::path::Path;

use bundle_format::text::escaped;
use serde_json::{Value, json};

use crate::facts;
use crate::preflight::facts::Facts;

/// One crate and what it is for.
struct Use {
    /// Which crate names it: of some there are two, in two versions.
    owner: &'static str,
    name: &'static str,
    algorithm: &'static str,
    purpose: &'static str,
    /// Of two implementations that must agree, which one; nothing where there is one.
    pair: Option<&'static str>,
    /// Which processor features the crate looks for on x86-64 at run time; the first group that is
    /// whole is what it uses.
    looks_for: &'static [&'static [&'static str]],
}

const NO_PROBE: &[&[&str]] = &[];
/// What both kinds of signatures are for.
const SIGNATURES: &str = "verifies manifests, trust roots, custody records and approvals; \
     signs the head of the audit log and inventories";
/// What each crate probes was read from its source at the version in `Cargo.lock`.
const USES: [Use; 18] = [
    Use {
        owner: "bundle-format",
        name: "ed25519-dalek",
        algorithm: "Ed25519 (RFC 8032), verify_strict",
        purpose: SIGNATURES,
        pair: Some("first of two"),
        looks_for: NO_PROBE,
    },
    Use {
        owner: "ed25519-dalek",
        name: "curve25519-dalek",
        algorithm: "arithmetic of edwards25519",
        purpose: "below ed25519-dalek",
        pair: None,
        looks_for: &[&["avx512ifma", "avx512vl"], &["avx2"]],
    },
    Use {
        owner: "bundle-format",
        name: "minisign-verify",
        algorithm: "Ed25519 in minisign's prehashed form, with SHA-512 and BLAKE2b-512 of its own",
        purpose: "verifies the same signatures once more",
        pair: Some("second of two"),
        looks_for: NO_PROBE,
    },
    Use {
        owner: "bundle-format",
        name: "ml-dsa",
        algorithm: "ML-DSA-87 (FIPS 204), pure, empty context; not HashML-DSA",
        purpose: SIGNATURES,
        pair: Some("first of two"),
        looks_for: NO_PROBE,
    },
    Use {
        owner: "ml-dsa",
        name: "module-lattice",
        algorithm: "arithmetic of module lattices",
        purpose: "below ml-dsa",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "ml-dsa",
        name: "shake",
        algorithm: "SHAKE128, SHAKE256 (FIPS 202)",
        purpose: "below ml-dsa",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "shake",
        name: "keccak",
        algorithm: "Keccak-f[1600], the permutation of FIPS 202",
        purpose: "below shake",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "bundle-format",
        name: "fips204",
        algorithm: "ML-DSA-87 (FIPS 204), pure, empty context",
        purpose: "verifies the same signatures once more",
        pair: Some("second of two"),
        looks_for: NO_PROBE,
    },
    Use {
        owner: "fips204",
        name: "sha3",
        algorithm: "SHAKE128, SHAKE256 (FIPS 202)",
        purpose: "below fips204",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "sha3",
        name: "keccak",
        algorithm: "Keccak-f[1600], the permutation of FIPS 202",
        purpose: "below sha3",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "bundle-format",
        name: "sha2",
        algorithm: "SHA-512, SHA-384, SHA-256 (FIPS 180-4)",
        purpose: "SHA-384 pins of frames, documents and records; sha256 names of OCI blobs; SHA-512 inside ed25519-dalek",
        pair: None,
        looks_for: &[&["avx2"], &["sha_ni", "sse4_1"]],
    },
    Use {
        owner: "bundle-format",
        name: "blake2",
        algorithm: "BLAKE2b-512 (RFC 7693)",
        purpose: "minisign's prehash of what Ed25519 signs; not a FIPS algorithm, ML-DSA-87 does not rest on it",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "bundle-format",
        name: "hmac",
        algorithm: "HMAC-SHA-256 (FIPS 198-1)",
        purpose: "tags of datagrams on the one-way link, where both ends share a key",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "installer",
        name: "getrandom",
        algorithm: "the kernel's random source, getrandom(2)",
        purpose: "seeds of the machine's key, generated secrets",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "installer",
        name: "rcgen",
        algorithm: "X.509 (RFC 5280)",
        purpose: "self-signed TLS certificates that a release asks for",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "rcgen",
        name: "ring",
        algorithm: "ECDSA P-256 with SHA-256 (FIPS 186-5)",
        purpose: "keys and signatures of those certificates",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "ring",
        name: "getrandom",
        algorithm: "the kernel's random source, getrandom(2)",
        purpose: "seeds of those keys",
        pair: None,
        looks_for: NO_PROBE,
    },
    Use {
        owner: "installer",
        name: "zeroize",
        algorithm: "no cryptography",
        purpose: "wipes secrets in memory",
        pair: None,
        looks_for: NO_PROBE,
    },
];

/// Said of every crate here, as far as we know.
const CERTIFICATE: &str = "none known (CAVP, CMVP)";
const KERNEL_CERTIFICATE: &str = "not determined: a certificate, if any, is for the distribution's own kernel build";

/// The report.
#[derive(Debug, Clone)]
pub struct Report {
    modules: Vec<Module>,
    cpu: BTreeSet<String>,
    fips_mode: bool,
    kernel: String,
}

#[derive(Debug, Clone)]
struct Module {
    name: &'static str,
    version: &'static str,
    checksum: &'static str,
    algorithm: &'static str,
    purpose: &'static str,
    pair: Option<&'static str>,
    cpu: String,
}

impl Report {
    /// Reads the machine's facts below `root`.
    pub fn read(root: &Path) -> Self {
        let kernel = std::fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
        let kernel = escaped(kernel.trim());
        let facts = Facts::read(root, &kernel);
        let modules = USES.iter().filter_map(|used| module(used, &facts.cpu_flags)).collect();
        let interesting: BTreeSet<&str> = USES.iter().flat_map(|used| used.looks_for.concat()).collect();
        let cpu = facts.cpu_flags.iter().filter(|flag| interesting.contains(flag.as_str())).cloned().collect();
        Self { modules, cpu, fips_mode: facts.fips, kernel }
    }

    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("installer {}: cryptographic modules, as linked by Cargo.lock", env!("CARGO_PKG_VERSION")),
            "This is a list of facts. It claims no compliance with any standard or programme.".into(),
        ];
        for module in &self.modules {
            let pair =
                module.pair.map_or_else(String::new, |pair| format!(" ({pair} implementations that must agree)"));
            lines.push(format!("{} {}{pair}", module.name, module.version));
            lines.push(format!("  algorithm    {}", module.algorithm));
            lines.push(format!("  used for     {}", module.purpose));
            lines.push(format!("  processor    {}", module.cpu));
            lines.push(format!("  certificate  {CERTIFICATE}"));
        }
        let found: Vec<&str> = self.cpu.iter().map(String::as_str).collect();
        lines.push(format!("processor features that they look for and found: {}", found.join(", ")));
        lines.push(format!("kernel {}: FIPS mode {}", self.kernel, if self.fips_mode { "on" } else { "off" }));
        lines.push(format!("  certificate  {KERNEL_CERTIFICATE}"));
        lines
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let module = |m: &Module| {
            json!({
                "crate": m.name, "version": m.version, "checksum": m.checksum, "algorithm": m.algorithm,
                "used_for": m.purpose, "implementation": m.pair, "processor": m.cpu, "certificate": CERTIFICATE,
            })
        };
        json!({
            "program": "installer", "version": env!("CARGO_PKG_VERSION"), "compliance_claimed": false,
            "modules": self.modules.iter().map(module).collect::<Vec<_>>(),
            "cpu_features": self.cpu, "kernel": self.kernel, "kernel_fips_mode": self.fips_mode,
            "kernel_certificate": KERNEL_CERTIFICATE,
        })
    }
}

/// A crate that the lock does not name would be a report about another program; a test holds that none
/// is left out.
fn module(used: &Use, cpu: &BTreeSet<String>) -> Option<Module> {
    let named = |(owner, name, ..): &&(&str, &str, &str, &str)| *owner == used.owner && *name == used.name;
    let (.., version, checksum) = facts::CRYPTO.iter().find(named)?;
    let whole: Vec<String> = used
        .looks_for
        .iter()
        .filter(|group| group.iter().all(|flag| cpu.contains(*flag)))
        .map(|group| group.join("+"))
        .collect();
    let cpu = match (used.looks_for.is_empty(), whole.is_empty()) {
        (true, _) => "looks for nothing at run time".to_owned(),
        (false, true) => "portable code; found none of what it looks for".to_owned(),
        (false, false) => format!("found {}", whole.join(", ")),
    };
    let Use { name, algorithm, purpose, pair, .. } = *used;
    Some(Module { name, version, checksum, algorithm, purpose, pair, cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_has_its_version() {
        let report = Report::read(Path::new("/"));
        assert_eq!(report.modules.len(), USES.len());
        assert_eq!(facts::CRYPTO.len(), USES.len());
        let pairs = report.modules.iter().filter(|module| module.pair.is_some()).count();
        assert_eq!(pairs, 4, "two for each algorithm");
    }

    #[test]
    fn the_processor_is_told_as_it_is() {
        let flags = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let sha2 = USES.iter().find(|used| used.name == "sha2").unwrap();
        for (cpu, told) in [
            (flags(&[]), "portable code; found none of what it looks for"),
            (flags(&["avx2"]), "found avx2"),
            (flags(&["sha_ni"]), "portable code; found none of what it looks for"),
            (flags(&["sha_ni", "sse4_1", "avx2"]), "found avx2, sha_ni+sse4_1"),
        ] {
            assert_eq!(module(sha2, &cpu).unwrap().cpu, told);
        }
    }
}
