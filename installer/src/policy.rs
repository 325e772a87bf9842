//! The site's policy: one YAML file in the state folder, taken over by a command that goes on record
//! (spec 4.8).
//!
//! What may hurt it: a file that is edited behind the record's back. Who defends: the SHA-384 of what
//! was taken over is in the state database, and a file that differs refuses everything that asks.

use std::path::Path;

use bundle_format::digest::Sha384;
use bundle_format::limits;
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::text::escaped;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Access};
use crate::error::{Error, ErrorKind, Result};
use crate::state::State;

/// The `format` value of this version.
pub const FORMAT: &str = "lockgate-policy/1";
const SETTING: &str = "policy-sha384";

/// Which signature algorithms must meet the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Algorithms {
    /// Both.
    #[default]
    Hybrid,
    /// ML-DSA-87 (CNSA 2.0).
    Cnsa2,
    /// Ed25519.
    Ed25519,
}

/// What a bundle must bring along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// A bill of materials for each image.
    Sbom,
    /// A statement of how the bundle was made. The release signers' signatures cover it; it may carry
    /// none of its own.
    Provenance,
    /// The same, signed by who builds ([`bundle_format::provenance::require_signed`]).
    SignedProvenance,
}

impl Requirement {
    /// Its name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sbom => "sbom",
            Self::Provenance => "provenance",
            Self::SignedProvenance => bundle_format::provenance::SIGNED,
        }
    }
}

/// The policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    format: String,
    #[serde(default)]
    algorithms: Algorithms,
    #[serde(default)]
    require: Vec<Requirement>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { format: FORMAT.into(), algorithms: Algorithms::default(), require: Vec::new() }
    }
}

impl Policy {
    /// Parses the text of `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut policy: Self = bundle_format::yaml::parse(file, text)?;
        if policy.format != FORMAT {
            let (what, expected, found) = (file.to_owned(), FORMAT.to_owned(), escaped(&policy.format));
            return Err(
                bundle_format::Error::from(bundle_format::ErrorKind::UnknownFormat { what, expected, found }).into()
            );
        }
        policy.require.sort_unstable();
        policy.require.dedup();
        Ok(policy)
    }

    /// The policy in force: the file that was taken over, or the default where none was. A file that is
    /// not the one on record is refused.
    pub fn of(state: &State) -> Result<Self> {
        let path = state.home().policy();
        let expected = state.setting(SETTING)?;
        let bytes = match read(&path) {
            Err(error) if is_missing(&error) => None,
            other => Some(other?),
        };
        let found = bytes.as_ref().map(|bytes| Sha384::of(bytes).to_string());
        if expected != found {
            let word = |digest: Option<String>| {
                digest.map_or_else(|| "no policy".into(), |digest| format!("SHA-384 {digest}"))
            };
            let (path, expected, found) = (path.display().to_string(), word(expected), word(found));
            return Err(ErrorKind::PolicyChanged { path, expected, found }.into());
        }
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        Self::parse(&path.display().to_string(), &String::from_utf8_lossy(&bytes))
    }

    /// Takes a file over: it is parsed first, and its bytes are kept as they are. The digest follows the
    /// file; cut in between, the policy is refused until it is taken over again.
    pub fn take_over(state: &mut State, bytes: &[u8]) -> Result<Self> {
        let path = state.home().policy();
        let text =
            std::str::from_utf8(bytes).map_err(|_| ErrorKind::Usage { why: "the policy is not UTF-8".into() })?;
        let policy = Self::parse("policy", text)?;
        atomic::write(&path, bytes, Access::Private)?;
        state.set_setting(SETTING, &Sha384::of(bytes).to_string())?;
        Ok(policy)
    }

    /// Which schemes must meet the threshold.
    pub const fn algorithms(&self) -> AlgorithmPolicy {
        match self.algorithms {
            Algorithms::Hybrid => AlgorithmPolicy::Hybrid,
            Algorithms::Cnsa2 => AlgorithmPolicy::Cnsa2,
            Algorithms::Ed25519 => AlgorithmPolicy::Ed25519,
        }
    }

    /// Whether bundles must bring this along.
    pub fn requires(&self, what: Requirement) -> bool {
        self.require.contains(&what)
    }

    /// What bundles must bring along.
    pub fn requirements(&self) -> &[Requirement] {
        &self.require
    }

    /// One line for a person and the record.
    pub fn line(&self) -> String {
        let algorithms = match self.algorithms {
            Algorithms::Hybrid => "hybrid",
            Algorithms::Cnsa2 => "cnsa2",
            Algorithms::Ed25519 => "ed25519",
        };
        let names: Vec<&str> = self.require.iter().map(|requirement| requirement.name()).collect();
        format!(
            "algorithms {algorithms}; require {}",
            if names.is_empty() { "nothing".into() } else { names.join(", ") }
        )
    }

    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

/// Reads a policy file of bounded size.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    confinement::read_regular(path, limits::YAML_BYTES).map_err(|e| Error::io(path.display().to_string(), e))
}

fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(folder: &Path) -> State {
        State::open(&folder.join("state.db")).unwrap()
    }

    #[test]
    fn files_and_their_defects() {
        let policy =
            Policy::parse("p", "format: lockgate-policy/1\nalgorithms: cnsa2\nrequire: [provenance, sbom, sbom]\n")
                .unwrap();
        assert_eq!(policy.algorithms(), AlgorithmPolicy::Cnsa2);
        assert!(policy.requires(Requirement::Sbom) && policy.requires(Requirement::Provenance));
        assert_eq!(policy.line(), "algorithms cnsa2; require sbom, provenance");
        let plain = Policy::parse("p", "format: lockgate-policy/1\n").unwrap();
        assert_eq!(plain, Policy::default());
        assert!(!plain.requires(Requirement::Sbom));
        let signed = Policy::parse("p", "format: lockgate-policy/1\nrequire: [signed-provenance]\n").unwrap();
        assert_eq!(signed.line(), "algorithms hybrid; require signed-provenance");
        assert!(!signed.requires(Requirement::Provenance));
        for bad in [
            "",
            "algorithms: cnsa2",
            "format: lockgate-policy/1\nalgorithms: rsa",
            "format: lockgate-policy/1\nalgorithms: [hybrid]",
            "format: lockgate-policy/1\nrequire: [luck]",
            "format: lockgate-policy/1\nrequire: [signedprovenance]",
            "format: lockgate-policy/1\nrequires: []",
            "format: lockgate-policy/1\nalgorithms: cnsa2\nalgorithms: hybrid",
        ] {
            let error = Policy::parse("p", bad).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Format(inner) if matches!(inner.kind(), bundle_format::ErrorKind::Yaml { .. })),
                "{bad}: {error}"
            );
        }
        let error = Policy::parse("p", "format: lockgate-policy/2\n").unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Format(inner) if matches!(inner.kind(), bundle_format::ErrorKind::UnknownFormat { .. }))
        );
    }

    #[test]
    fn only_what_was_taken_over_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = state(folder.path());
        assert_eq!(Policy::of(&state).unwrap(), Policy::default());
        let changed = |state: &State| matches!(Policy::of(state).unwrap_err().kind(), ErrorKind::PolicyChanged { .. });
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, "format: lockgate-policy/1\nalgorithms: ed25519\n").unwrap();
        assert!(changed(&state), "a file that nobody took over");
        let taken = Policy::take_over(&mut state, b"format: lockgate-policy/1\nalgorithms: cnsa2\n").unwrap();
        assert_eq!(Policy::of(&state).unwrap(), taken);
        std::fs::write(&file, "format: lockgate-policy/1\nalgorithms: ed25519\n").unwrap();
        assert!(changed(&state), "edited by hand");
        std::fs::remove_file(&file).unwrap();
        assert!(changed(&state), "taken away");
        let error = Policy::take_over(&mut state, b"format: x\n").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Format(_)) && !file.exists(), "a bad file is not taken: {error}");
    }
}
