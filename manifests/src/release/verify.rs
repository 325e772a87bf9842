//! Whose signature over an image must be there (spec 10, R-REL-3 to R-REL-6).
//!
//! What may hurt it: two ways of which only one is looked at, an identity that two kinds of names share.
//! Who defends: exactly one way, exactly one kind of name.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::digest::Sha384;
use crate::manifest::check_line;

/// How a publisher's signature is verified.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Ways")]
pub enum Verify {
    /// `cosign`: by cosign's format and a pinned key.
    Cosign(CosignKey),
    /// `keyless`: by a certificate of a pinned sigstore trusted root.
    Keyless(Keyless),
}

/// The pinned key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosignKey {
    /// Public key file: PEM, ECDSA P-256 or Ed25519.
    pub key: PathBuf,
}

/// Who must have signed, and whose word for that counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyless {
    /// The sigstore trusted root: authorities and logs.
    pub trusted_root: PinnedFile,
    /// The one name in the signer's certificate.
    pub identity: Identity,
    /// URL of the OIDC issuer that vouched for the name, to the letter.
    pub issuer: String,
}

/// A file whose bytes are pinned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// Its path.
    pub file: PathBuf,
    /// SHA-384 of its bytes.
    pub sha384: Sha384,
}

/// A name in a certificate, to the letter. Text form as openssl shows it: `URI:…`, `email:…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Names", into = "Names")]
pub enum Identity {
    /// `uri`: of a workload, such as a CI workflow.
    Uri(String),
    /// `email`: of a person.
    Email(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ways {
    cosign: Option<CosignKey>,
    keyless: Option<Keyless>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

impl Verify {
    /// Checks that names are lines that can be shown.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Cosign(_) => Ok(()),
            Self::Keyless(keyless) => {
                keyless.identity.check()?;
                check_line("issuer", &keyless.issuer)
            }
        }
    }
}

impl Identity {
    /// Checks that it is a line that can be shown.
    pub fn check(&self) -> Result<()> {
        let (Self::Uri(text) | Self::Email(text)) = self;
        check_line("identity", text)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(text) => write!(f, "URI:{text}"),
            Self::Email(text) => write!(f, "email:{text}"),
        }
    }
}

impl TryFrom<Ways> for Verify {
    type Error = &'static str;

    fn try_from(ways: Ways) -> Result<Self, Self::Error> {
        match (ways.cosign, ways.keyless) {
            (Some(key), None) => Ok(Self::Cosign(key)),
            (None, Some(keyless)) => Ok(Self::Keyless(keyless)),
            _ => Err("verify: expected either cosign or keyless"),
        }
    }
}

impl TryFrom<Names> for Identity {
    type Error = &'static str;

    fn try_from(names: Names) -> Result<Self, Self::Error> {
        match (names.uri, names.email) {
            (Some(uri), None) => Ok(Self::Uri(uri)),
            (None, Some(email)) => Ok(Self::Email(email)),
            _ => Err("identity: expected either uri or email"),
        }
    }
}

impl From<Identity> for Names {
    fn from(identity: Identity) -> Self {
        match identity {
            Identity::Uri(uri) => Self { uri: Some(uri), email: None },
            Identity::Email(email) => Self { uri: None, email: Some(email) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::release::parse;

    fn release(verify: &str) -> Result<Verify> {
        let good = include_str!("../../profiles/minimal.yaml");
        let (before, after) = good.split_once("    source: ").unwrap();
        let text = format!("{before}    verify: {verify}\n    source: {after}");
        Ok(parse("r.yaml", &text)?.images[0].verify.clone().unwrap())
    }

    const DIGEST: &str =
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";

    fn keyless(identity: &str, issuer: &str) -> String {
        format!(
            "{{keyless: {{trusted_root: {{file: r.json, sha384: {DIGEST}}}, identity: {identity}, issuer: {issuer}}}}}"
        )
    }

    #[test]
    fn both_ways_and_both_names() {
        let key = CosignKey { key: "a.pub".into() };
        assert_eq!(release("{cosign: {key: a.pub}}").unwrap(), Verify::Cosign(key));
        for (name, text) in
            [("{uri: 'https://ci.example/w'}", "URI:https://ci.example/w"), ("{email: a@b}", "email:a@b")]
        {
            let Verify::Keyless(found) = release(&keyless(name, "'https://id.example'")).unwrap() else {
                panic!("{name}")
            };
            assert_eq!((found.identity.to_string(), found.issuer.as_str()), (text.into(), "https://id.example"));
            assert_eq!(found.trusted_root.sha384, Sha384::of(b"abc"));
        }
    }

    #[test]
    fn refusals() {
        let good = keyless("{email: a@b}", "i");
        for bad in [
            "{}".to_owned(),
            format!("{{cosign: {{key: a.pub}}, {}", &good[1..]),
            keyless("{}", "i"),
            keyless("{email: a@b, uri: x}", "i"),
            keyless("{email: ''}", "i"),
            keyless("{name: a@b}", "i"),
            keyless("a@b", "i"),
            keyless("{email: a@b}", "''"),
            keyless("{email: a@b}", r#""i\n""#),
            good.replace(DIGEST, "abc"),
            good.replace("file: r.json, ", ""),
            good.replace("issuer: i", "issuer: i, regexp: x"),
        ] {
            let error = release(&bad).unwrap_err();
            let ErrorKind::Yaml { why, .. } = error.kind() else { panic!("{bad}: {error}") };
            let words = ["verify", "identity", "issuer", "trusted_root", "keyless", "digest"];
            assert!(words.iter().any(|word| why.contains(word)), "{bad}: {why}");
        }
    }
}
