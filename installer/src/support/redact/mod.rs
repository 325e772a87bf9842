//! What must not leave the machine, found and replaced by rule.
//!
//! Secrets are searched for by their very values, in every form that a log gives them; names and
//! addresses become pseudonyms that stay the same throughout, so that lines can still be put
//! together. Threat: a value in a form that no rule knows. Defences: broad rules (every value behind
//! a word such as `password`, every PEM block, every environment of a container); the list that a
//! person reviews; a last search for the secrets after everything was replaced.

mod places;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bundle_format::text::base64;
use zeroize::Zeroizing;

use places::{replace_runs, replace_words};
use values::{logins, pem, values};

/// A rule, for the list inside the bundle and for `docs/isso/support-bundle.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Stable id.
    pub id: &'static str,
    /// What it finds.
    pub finds: &'static str,
    /// What that becomes.
    pub becomes: &'static str,
}

/// All rules, in the order in which they are applied.
pub const RULES: [Rule; 7] = [
    Rule {
        id: "secret",
        finds: "values of every secret that the engine keeps, plain, in base64, in JSON, in a URL",
        becomes: "[secret]",
    },
    Rule { id: "pem", finds: "PEM blocks: keys and certificates", becomes: "[pem]" },
    Rule { id: "url", finds: "user and password in a URL", becomes: "SCHEME://[login]@…" },
    Rule {
        id: "value",
        finds: "what follows password, passphrase, passwd, token, secret, api key, credential, authorization",
        becomes: "[value]",
    },
    Rule { id: "environment", finds: "values of the environment of containers", becomes: "NAME=[environment]" },
    Rule {
        id: "name",
        finds: "this machine's names and those it knows; logins and their owners' names; the machine's id",
        becomes: "host-N, user-N",
    },
    Rule { id: "address", finds: "IPv4, IPv6 and MAC addresses, but loopback and unspecified", becomes: "ip-N, mac-N" },
];

/// How often each rule found something, by its id.
pub type Counts = BTreeMap<&'static str, u64>;

/// Secrets shorter than this would be found everywhere.
pub(super) const SHORTEST: usize = 4;

/// Whose name something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A machine.
    Host,
    /// A person.
    User,
}

/// Knows what to look for, and which pseudonyms it has given out.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Longest first, so that no part of one is left of another.
    secrets: Vec<Zeroizing<String>>,
    /// Name in lower case and its pseudonym, longest first.
    names: Vec<(String, String)>,
    addresses: BTreeMap<String, String>,
}

impl Redactor {
    /// Looks for these secrets and names. Names that belong together (a machine's long and short one)
    /// come as one group and get one pseudonym.
    pub fn new(secrets: &[Zeroizing<Vec<u8>>], names: &[(Owner, Vec<String>)]) -> Self {
        let mut found: Vec<Zeroizing<String>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        found.dedup();
        let mut given: BTreeMap<Owner, u32> = BTreeMap::new();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for (owner, group) in names {
            let number = given.entry(*owner).or_insert(0);
            *number += 1;
            let pseudonym = match owner {
                Owner::Host => format!("host-{number}"),
                Owner::User => format!("user-{number}"),
            };
            for name in group.iter().map(|name| name.trim().to_ascii_lowercase()).filter(|name| is_name(name)) {
                known.entry(name).or_insert_with(|| pseudonym.clone());
            }
        }
        let mut names: Vec<(String, String)> = known.into_iter().collect();
        names.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        Self { secrets: found, names, addresses: BTreeMap::new() }
    }

    /// A text with everything replaced, and how often each rule did.
    pub fn redact(&mut self, text: &str) -> (String, Counts) {
        let mut counts = Counts::new();
        let mut count = |rule: &'static str, times: u64| {
            if times > 0 {
                *counts.entry(rule).or_insert(0) += times;
            }
        };
        let mut text = text.to_owned();
        for secret in &self.secrets {
            let times = text.matches(secret.as_str()).count();
            if times > 0 {
                text = text.replace(secret.as_str(), "[secret]");
                count("secret", u64::try_from(times).unwrap_or(u64::MAX));
            }
        }
        for (rule, replace) in [("pem", pem as fn(&str) -> (String, u64)), ("url", logins), ("value", values)] {
            let (next, times) = replace(&text);
            text = next;
            count(rule, times);
        }
        let (next, times) = self.replace_names(&text);
        count("name", times);
        let (next, times) = self.replace_addresses(&next);
        count("address", times);
        (next, counts)
    }

    /// Whether a secret is still in a text: a last look, by nothing but the values.
    pub fn leaks(&self, text: &str) -> bool {
        self.secrets.iter().any(|secret| text.contains(secret.as_str()))
    }

    fn replace_names(&self, text: &str) -> (String, u64) {
        let mut text = text.to_owned();
        let mut times = 0;
        for (name, pseudonym) in &self.names {
            let (next, found) = replace_words(&text, name, pseudonym);
            if found > 0 {
                (text, times) = (next, times + found);
            }
        }
        (text, times)
    }

    fn replace_addresses(&mut self, text: &str) -> (String, u64) {
        let (text, colons) =
            replace_runs(text, |c| c.is_ascii_hexdigit() || c == ':' || c == '.', |run| self.colons(run));
        let (text, dashes) = replace_runs(&text, |c| c.is_ascii_hexdigit() || c == '-', |run| self.mac(run, '-'));
        let (text, dots) = replace_runs(&text, |c| c.is_ascii_digit() || c == '.', |run| self.ipv4(run));
        (text, colons + dashes + dots)
    }

    /// A run of hexadecimal digits, colons and dots: a MAC or an IPv6 address, behind a word perhaps.
    fn colons(&mut self, run: &str) -> Option<String> {
        if run.matches(':').count() < 2 {
            return None;
        }
        let end = run.trim_end_matches('.');
        let end = if end.ends_with("::") { end } else { end.trim_end_matches(':') };
        let starts = std::iter::once(0).chain(end.match_indices(':').map(|(at, _)| at + 1));
        for start in starts {
            let candidate = end.get(start..).unwrap_or_default();
            let tail = run.get(end.len()..).unwrap_or_default();
            let head = run.get(..start).unwrap_or_default();
            if let Some(mac) = self.mac(candidate, ':') {
                return Some(format!("{head}{mac}{tail}"));
            }
            if let Ok(address) = candidate.parse::<Ipv6Addr>() {
                let shown = self.address(IpAddr::V6(address))?;
                return Some(format!("{head}{shown}{tail}"));
            }
        }
        None
    }

    fn mac(&mut self, run: &str, separator: char) -> Option<String> {
        let groups: Vec<&str> = run.split(separator).collect();
        let sized =
            groups.len() == 6 && groups.iter().all(|g| g.len() == 2 && g.bytes().all(|b| b.is_ascii_hexdigit()));
        let plain = groups.concat().to_lowercase();
        (sized && plain != "000000000000").then(|| self.pseudonym("mac", &plain))
    }

    /// A run of digits and dots that is exactly an address.
    fn ipv4(&mut self, run: &str) -> Option<String> {
        let plain = run.trim_matches('.');
        let address = plain.parse::<Ipv4Addr>().ok()?;
        let shown = self.address(IpAddr::V4(address))?;
        Some(run.replacen(plain, &shown, 1))
    }

    /// The pseudonym of an address; none for those that name no machine.
    fn address(&mut self, address: IpAddr) -> Option<String> {
        let address = address.to_canonical();
        let nobody = address.is_loopback() || address.is_unspecified() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
        (!nobody).then(|| self.pseudonym("ip", &address.to_string()))
    }

    fn pseudonym(&mut self, kind: &str, plain: &str) -> String {
        let number = self.addresses.values().filter(|given| given.starts_with(kind)).count() + 1;
        self.addresses.entry(format!("{kind} {plain}")).or_insert_with(|| format!("{kind}-{number}")).clone()
    }
}

/// Replaces the environment of containers as `podman inspect` shows it; how often.
pub fn environments(value: &mut serde_json::Value) -> u64 {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().map(environments).sum(),
        serde_json::Value::Object(fields) => {
            let mut times = 0;
            for (name, field) in fields {
                match field {
                    serde_json::Value::Array(items) if name == "Env" => {
                        for item in items.iter_mut() {
                            let Some((variable, _)) = item.as_str().and_then(|text| text.split_once('=')) else {
                                continue;
                            };
                            *item = format!("{variable}=[environment]").into();
                            times += 1;
                        }
                    }
                    other => times += environments(other),
                }
            }
            times
        }
        _ => 0,
    }
}

/// Every form in which a secret may stand in a text: as it is, its lines, what a JSON document in it
/// holds, and of each the base64, JSON and URL forms.
fn forms(secret: &[u8]) -> Vec<Zeroizing<String>> {
    let mut plain: Vec<Zeroizing<Vec<u8>>> = vec![Zeroizing::new(secret.to_vec())];
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(secret) {
        for text in fields.values().filter_map(serde_json::Value::as_str) {
            plain.push(Zeroizing::new(text.as_bytes().to_vec()));
            plain.extend(bundle_format::text::unbase64(text).map(Zeroizing::new));
        }
    }
    let mut forms = Vec::new();
    for value in &plain {
        forms.push(Zeroizing::new(base64(value)));
        let text = String::from_utf8_lossy(value);
        let trimmed = text.trim();
        forms.push(Zeroizing::new(base64(trimmed.as_bytes())));
        let lines = trimmed.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        for part in std::iter::once(trimmed).chain(lines) {
            let json = serde_json::to_string(part).unwrap_or_default();
            forms.push(Zeroizing::new(json.trim_matches('"').to_owned()));
            forms.push(Zeroizing::new(percent(part)));
            forms.push(Zeroizing::new(part.to_owned()));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// RFC 3986, 2.1: everything but unreserved characters.
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// What can be a name at all; what every system has tells nothing, and would hide words.
fn is_name(name: &str) -> bool {
    const EVERYWHERE: [&str; 6] = ["localhost", "localhost.localdomain", "root", "ip6-localhost", "lockgate", "nobody"];
    name.chars().count() >= 2 && !EVERYWHERE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let secrets = [
            &b"hunter2-Horse\"Staple"[..],
            b"{\"password\":\"czNjcjN0LXZhbHVl\"}",
            b"-----BEGIN PRIVATE KEY-----\nMIGkAgEBBDDuRandom0Line\n-----END PRIVATE KEY-----\n",
            b"abc",
        ];
        let names = [
            (Owner::Host, vec!["Alpha.site.example".to_owned(), "alpha".to_owned()]),
            (Owner::Host, vec!["beta".to_owned()]),
            (Owner::User, vec!["ada".to_owned(), "Ada Lovelace".to_owned()]),
            (Owner::User, vec!["root".to_owned()]),
        ];
        Redactor::new(&secrets.map(|secret| Zeroizing::new(secret.to_vec())), &names)
    }

    fn told(text: &str) -> String {
        redactor().redact(text).0
    }

    #[test]
    fn secrets_in_every_form() {
        for (text, expected) in [
            ("x hunter2-Horse\"Staple y", "x [secret] y"),
            (r#"{"a":"hunter2-Horse\"Staple"}"#, r#"{"a":"[secret]"}"#),
            ("?p=hunter2-Horse%22Staple&q", "?p=[secret]&q"),
            ("aHVudGVyMi1Ib3JzZSJTdGFwbGU=", "[secret]"),
            ("s3cr3t-value", "[secret]"),
            ("czNjcjN0LXZhbHVl", "[secret]"),
            ("a line MIGkAgEBBDDuRandom0Line alone", "a line [secret] alone"),
            ("abc is too short to be looked for", "abc is too short to be looked for"),
        ] {
            assert_eq!(told(text), expected);
            assert!(!redactor().leaks(&told(text)), "{text}");
        }
        assert!(redactor().leaks("...s3cr3t-value..."));
        let (_, counts) = redactor().redact("s3cr3t-value s3cr3t-value");
        assert_eq!(counts.get("secret"), Some(&2));
    }

    #[test]
    fn names_keep_who_is_who() {
        for (text, expected) in [
            ("alpha.site.example and ALPHA", "host-1 and host-1"),
            ("ada@beta: /home/ada/x", "user-1@host-2: /home/user-1/x"),
            ("alpha-web_ada", "host-1-web_user-1"),
            ("alphabet adamant", "alphabet adamant"),
            ("by Ada Lovelace (uid 1000), root", "by user-1 (uid 1000), root"),
            ("İada ada", "İada user-1"),
            ("\\nalpha\\tada\\u001bbeta\\x1bbeta?x=%20ada", "\\nhost-1\\tuser-1\\u001bhost-2\\x1bhost-2?x=%20user-1"),
            ("\u{1b}[0;31mada\u{1b}[0m \\u001b[31mada", "\u{1b}[0;31muser-1\u{1b}[0m \\u001b[31muser-1"),
        ] {
            assert_eq!(told(text), expected);
        }
    }

    #[test]
    fn addresses_keep_who_is_who() {
        for (text, expected) in [
            ("10.0.0.1:80 to 10.0.0.2, again 10.0.0.1.", "ip-1:80 to ip-2, again ip-1."),
            ("127.0.0.1 0.0.0.0 ::1 :: 255.255.255.255", "127.0.0.1 0.0.0.0 ::1 :: 255.255.255.255"),
            ("ssh 192.0.2.7/24", "ssh ip-1/24"),
            ("fe80::1%eth0 [2001:DB8::2]:443", "ip-1%eth0 [ip-2]:443"),
            ("addr:2001:db8::2 and 2001:0db8:0:0::2", "addr:ip-1 and ip-1"),
            ("::ffff:10.0.0.1 is 10.0.0.1", "ip-1 is ip-1"),
            ("02:42:ac:11:00:02 and 02-42-AC-11-00-02", "mac-1 and mac-1"),
            ("at 12:34:56, 2026-11-23T08:22:46Z", "at 12:34:56, 2026-11-23T08:22:46Z"),
            (
                "version 5.4.2 sha256:00aa11 a::b v1.2.3.4 1.2.3.4.5",
                "version 5.4.2 sha256:00aa11 ip-1 v1.2.3.4 1.2.3.4.5",
            ),
            ("std::fs::read at /a/b", "std::fs::read at /a/b"),
            (
                "\\n10.0.0.1\\nfe80::1 %2010.0.0.1 %20fe80::1 \\u001b10.0.0.1",
                "\\nip-2\\nip-1 %20ip-2 %20ip-1 \\u001bip-2",
            ),
            ("\\bfe80::1 [31m10.0.0.1", "\\bip-1 [31mip-2"),
            ("\\t02:42:ac:11:00:02\\n", "\\tmac-1\\n"),
        ] {
            assert_eq!(told(text), expected);
        }
        let mut redactor = redactor();
        assert_eq!(redactor.redact("10.0.0.9").0, "ip-1");
        assert_eq!(redactor.redact("10.0.0.8 10.0.0.9").0, "ip-2 ip-1", "the same in every file");
    }

    #[test]
    fn environments_of_containers() {
        let mut shown = serde_json::json!([{"Config": {"Env": ["PATH=/bin", "PASSWORD=pw", "odd"], "Cmd": ["A=b"]}}]);
        assert_eq!(environments(&mut shown), 2);
        assert_eq!(
            shown,
            serde_json::json!([{"Config": {"Env": ["PATH=[environment]", "PASSWORD=[environment]", "odd"], "Cmd": ["A=b"]}}])
        );
    }

    #[test]
    fn every_rule_is_in_the_issos_list() {
        let list =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/isso/support-bundle.md")).unwrap();
        for rule in RULES {
            assert!(list.contains(&format!("| `{}` | {} | `{}` |", rule.id, rule.finds, rule.becomes)), "{}", rule.id);
        }
    }
}
