//! Secrets are made here, on the high side, and stay here; none travels in a bundle.
//!
//! One podman secret for each, holding JSON (what `secretKeyRef` reads on podman 4.3 and 5). Values
//! go over standard input alone. A secret that exists is kept: a new password would lock a database
//! out of its own data.

use std::collections::BTreeMap;
use std::path::Path;

use bundle_format::manifest::Secret;
use bundle_format::text::{base64, unbase64};
use bundle_format::timestamp::Timestamp;
use zeroize::Zeroizing;

use crate::atomic::{self, Access};
use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;

/// Names of the secrets that are not there.
pub fn missing(podman: &Podman, secrets: &[Secret]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for secret in secrets {
        if podman.call(["secret", "inspect", secret.name()]).output()?.code != 0 {
            names.push(secret.name().to_owned());
        }
    }
    Ok(names)
}

/// Makes the secrets that are missing.
pub fn make_missing(podman: &Podman, secrets: &[Secret], paths: &Paths, now: &Timestamp) -> Result<()> {
    let missing = missing(podman, secrets)?;
    for secret in secrets.iter().filter(|secret| missing.iter().any(|name| name == secret.name())) {
        let value = match secret {
            Secret::Password { .. } => password()?,
            Secret::TlsSelfSigned { name, hosts } => {
                let (certificate, key) = self_signed(hosts, now)?;
                atomic::write(&paths.tls().join(format!("{name}.crt")), certificate.as_bytes(), Access::Public)?;
                tls_json(&certificate, &key)
            }
        };
        podman.call(["secret", "create", secret.name(), "-"]).stdin(value.as_bytes()).run()?;
    }
    Ok(())
}

/// A secret that the engine keeps.
#[derive(Debug)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its value; none where another driver than the engine's own files keeps it.
    pub value: Option<Zeroizing<Vec<u8>>>,
}

/// Names and values of every secret that the engine keeps, for whoever must find them in a text.
pub fn kept(podman: &Podman) -> Result<Vec<Kept>> {
    let listed = podman.call(["secret", "ls", "--format", "{{.ID}} {{.Name}}"]).run()?.stdout;
    let values = values(&podman.graph_root()?);
    let value = |id: &str| values.get(id).and_then(|value| unbase64(value)).map(Zeroizing::new);
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(id, name)| Kept { name: name.trim().to_owned(), value: value(id) }).collect())
}

/// Values alone, of whatever lies where an engine keeps them that does not answer.
pub fn left_in(graph_root: &Path) -> Vec<Zeroizing<Vec<u8>>> {
    values(graph_root).values().filter_map(|value| unbase64(value)).map(Zeroizing::new).collect()
}

/// The file driver of podman 4.3 and 5: base64 by the secret's id.
fn values(graph_root: &Path) -> BTreeMap<String, Zeroizing<String>> {
    let file = graph_root.join("secrets/filedriver/secretsdata.json");
    let text = Zeroizing::new(std::fs::read_to_string(&file).unwrap_or_default());
    let parsed = serde_json::from_str::<BTreeMap<String, String>>(&text).unwrap_or_default();
    parsed.into_iter().map(|(id, value)| (id, Zeroizing::new(value))).collect()
}

/// Removes secrets; those that are not there are no error.
pub fn remove(podman: &Podman, names: &[String], paths: &Paths) -> Result<()> {
    for name in names {
        if podman.call(["secret", "inspect", name]).output()?.code == 0 {
            podman.call(["secret", "rm", name]).run()?;
        }
        let certificate = paths.tls().join(format!("{name}.crt"));
        if certificate.exists() {
            std::fs::remove_file(&certificate).map_err(|e| Error::io(certificate.display().to_string(), e))?;
        }
    }
    Ok(())
}

/// 256 random bits as 43 URL-safe characters.
fn password() -> Result<Zeroizing<String>> {
    let mut random = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *random).map_err(|e| Error::io("randomness", std::io::Error::other(e.to_string())))?;
    let text: String = base64(&*random)
        .chars()
        .filter(|c| *c != '=')
        .map(|c| {
            if c == '+' {
                '-'
            } else if c == '/' {
                '_'
            } else {
                c
            }
        })
        .collect();
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(format!(r#"{{"password":"{}"}}"#, base64(text.as_bytes()))))
}

fn tls_json(certificate: &str, key: &str) -> Zeroizing<String> {
    let key = Zeroizing::new(base64(key.as_bytes()));
    Zeroizing::new(format!(r#"{{"tls.crt":"{}","tls.key":"{}"}}"#, base64(certificate.as_bytes()), *key))
}

/// A self-signed server certificate on P-384 for ten years, valid from a day before now: clocks of
/// isolated machines differ.
fn self_signed(hosts: &[String], now: &Timestamp) -> Result<(String, Zeroizing<String>)> {
    let fail = |e: rcgen::Error| {
        Error::from(ErrorKind::Unexpected {
            what: "making a certificate".into(),
            expected: "host names and addresses".into(),
            found: e.to_string(),
        })
    };
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).map_err(fail)?;
    let mut params = rcgen::CertificateParams::new(hosts.to_vec()).map_err(fail)?;
    let year: i32 = now.as_str().get(..4).and_then(|year| year.parse().ok()).unwrap_or(2026);
    let month: u8 = now.as_str().get(5..7).and_then(|month| month.parse().ok()).unwrap_or(1);
    let day: u8 = now.as_str().get(8..10).and_then(|day| day.parse().ok()).unwrap_or(1);
    // The 28th exists in every month, also ten years on.
    let today = rcgen::date_time_ymd(year, month, day.min(28));
    params.not_before = today - time::Duration::days(1);
    params.not_after = rcgen::date_time_ymd(year + 10, month, day.min(28));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, hosts.first().map_or("lockgate", String::as_str));
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(fail)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_have_their_length() {
        let (one, two) = (password().unwrap(), password().unwrap());
        assert_ne!(*one, *two);
        let parsed: serde_json::Value = serde_json::from_str(&one).unwrap();
        let decoded = bundle_format::text::unbase64(parsed["password"].as_str().unwrap()).unwrap();
        assert_eq!(decoded.len(), 43);
    }

    #[test]
    fn openssl_reads_the_certificate() {
        let now = Timestamp::parse("2026-11-30T00:00:00Z").unwrap();
        let (certificate, _) = self_signed(&["localhost".into(), "127.0.0.1".into()], &now).unwrap();
        let shown = crate::command::Command::new("openssl")
            .args(["x509", "-noout", "-text"])
            .stdin(certificate.as_bytes())
            .run()
            .unwrap()
            .stdout;
        for part in ["DNS:localhost", "IP Address:127.0.0.1", "secp384r1", "TLS Web Server Authentication"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
}
