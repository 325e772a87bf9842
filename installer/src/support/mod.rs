//! The support bundle: what somebody outside needs to help, without what must stay inside.
//!
//! Gathered ([`gather`]), redacted by rule ([`redact`]), shown for review, and only then written: a
//! plain tar in zstd with the marking first and the digest of every file. What may hurt it: a secret
//! or a name that slips through. Who defends: the rules, a last search for every secret's value, and
//! the person who reviews the list; the bundle is marked like the system it comes from, and carrying
//! it out is the site's own decision.

pub mod command;
mod gather;
mod names;
pub mod redact;

use std::fmt::Write as _;

use bundle_format::archive::ArchiveWriter;
use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use bundle_format::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::secrets;
use crate::state::State;

use gather::{Item, Sources};
use redact::{Counts, RULES, Redactor};

/// First member of the archive: the marking, one line.
pub const MARKING: &str = "MARKING";
const MANIFEST: &str = "manifest.json";
const REDACTIONS: &str = "REDACTIONS.txt";
const FORMAT: &str = "lockgate-support/1";
const LEVEL: i32 = 9;

/// A file as it will be in the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    name: String,
    text: String,
    counts: Counts,
}

/// A bundle that is ready for review; nothing is written yet.
#[derive(Debug)]
pub struct Draft {
    marking: Marking,
    made: Timestamp,
    files: Vec<File>,
    /// Secrets that nobody could search for.
    unsearched: Vec<String>,
}

impl Draft {
    /// Gathers and redacts.
    pub fn make(paths: &Paths, state: &State, host: &HostFacts, marking: Marking, now: &Timestamp) -> Result<Self> {
        let podman = Podman::detect(paths, host)?;
        let kept = podman.as_ref().map(secrets::kept).transpose()?.unwrap_or_default();
        let searchable = |secret: &&secrets::Kept| secret.value.as_ref().is_some_and(|v| v.len() >= redact::SHORTEST);
        let unsearched = kept.iter().filter(|secret| !searchable(secret)).map(|secret| secret.name.clone()).collect();
        let values: Vec<_> = kept.into_iter().filter_map(|secret| secret.value).collect();
        let own = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let names = names::known(std::path::Path::new("/"), &own, state, paths)?;
        let items = gather::gather(&Sources { paths, state, host, podman: podman.as_ref() });
        let files = redacted(items, &mut Redactor::new(&values, &names))?;
        Ok(Self { marking, made: now.clone(), files, unsearched })
    }

    /// Lines for the person who reviews it.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .files
            .iter()
            .map(|file| {
                let counts: Vec<String> = file.counts.iter().map(|(rule, times)| format!("{rule} {times}")).collect();
                let counts = if counts.is_empty() { "nothing redacted".to_owned() } else { counts.join(", ") };
                format!("{:>10}  {:<36}  {counts}", file.text.len(), file.name)
            })
            .collect();
        lines.extend(self.unsearched.iter().map(|name| {
            format!(
                "WARNING: secret {name} was not searched for: its value cannot be had, or is too short; look yourself"
            )
        }));
        lines
    }

    /// The same for machines.
    pub fn to_json(&self) -> Value {
        let file = |file: &File| json!({"name": file.name, "size": file.text.len(), "sha384": Sha384::of(file.text.as_bytes()).to_string(), "redactions": file.counts});
        json!({
            "format": FORMAT, "marking": self.marking.to_string(), "made": self.made.as_str(),
            "files": self.files.iter().map(file).collect::<Vec<_>>(), "unsearched": self.unsearched,
        })
    }

    /// The archive's bytes: the marking, the manifest, the rules, the files in order of their names.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let io = |e| Error::io("support bundle", e);
        let encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(io)?;
        let mut writer = ArchiveWriter::new(encoder);
        let mut member = |name: &str, text: &str| {
            writer.member(name, u64::try_from(text.len()).unwrap_or(u64::MAX), &mut text.as_bytes())
        };
        member(MARKING, &format!("{}\n", self.marking))?;
        member(MANIFEST, &format!("{:#}\n", self.to_json()))?;
        member(REDACTIONS, &rules())?;
        for file in &self.files {
            member(&file.name, &file.text)?;
        }
        writer.finish()?.finish().map_err(io)
    }
}

/// The rules as the bundle tells them.
fn rules() -> String {
    let mut text = "What was replaced, by rule. Pseudonyms are the same in every file of this bundle.\n\n".to_owned();
    for rule in RULES {
        // Writing to a String cannot fail.
        let _ = write!(text, "{:<12} {}\n             becomes {}\n", rule.id, rule.finds, rule.becomes);
    }
    text
}

/// Every file with everything replaced, its name too. A secret that is still there afterwards ends it.
fn redacted(items: Vec<Item>, redactor: &mut Redactor) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for item in items {
        let (name, _) = redactor.redact(&item.name);
        let (text, mut counts) = redactor.redact(&item.text);
        if item.environments > 0 {
            *counts.entry("environment").or_insert(0) += item.environments;
        }
        let name = plain_name(&name);
        if redactor.leaks(&text) || redactor.leaks(&name) {
            return Err(ErrorKind::SecretLeft { file: name }.into());
        }
        files.push(File { name, text, counts });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// A member's name within the rules of the archive (bundle R-NAM-1): anything else becomes `_`.
fn plain_name(name: &str) -> String {
    let part = |part: &str| {
        let plain: String =
            part.chars().map(|c| if c.is_ascii_alphanumeric() || "._+@-".contains(c) { c } else { '_' }).collect();
        let plain = plain.trim_start_matches('-').to_owned();
        if plain.trim_matches('.').is_empty() { "_".to_owned() } else { plain }
    };
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::redact::Owner;
    use super::*;

    fn items() -> Vec<Item> {
        let item = |name: &str, text: &str| Item { name: name.into(), text: text.into(), environments: 0 };
        vec![
            item("logs/alpha-web.log", "connect from 10.9.8.7 to alpha as ada with s3cr3t-value"),
            Item { environments: 3, ..item("podman/inspect.json", "{}") },
        ]
    }

    fn draft() -> Draft {
        let secrets = [Zeroizing::new(b"s3cr3t-value".to_vec())];
        let names = [(Owner::Host, vec!["alpha".to_owned()]), (Owner::User, vec!["ada".to_owned()])];
        let files = redacted(items(), &mut Redactor::new(&secrets, &names)).unwrap();
        let marking = Marking::parse("SECRET//NOFORN").unwrap();
        Draft { marking, made: Timestamp::from_unix(0), files, unsearched: vec!["other".into()] }
    }

    #[test]
    fn what_is_written_is_what_was_reviewed() {
        let draft = draft();
        let lines = draft.lines();
        assert!(
            lines[0].contains("logs/host-1-web.log") && lines[0].contains("address 1, name 2, secret 1"),
            "{lines:#?}"
        );
        assert!(lines[1].contains("environment 3") && lines[2].contains("secret other"), "{lines:#?}");
        let bytes = draft.archive().unwrap();
        assert_eq!(bytes, draft.archive().unwrap(), "the same bytes every time");
        let tar = zstd::decode_all(&bytes[..]).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let mut members = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            members.push((entry.path().unwrap().display().to_string(), text));
        }
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["MARKING", "manifest.json", "REDACTIONS.txt", "logs/host-1-web.log", "podman/inspect.json"]);
        assert_eq!(members[0].1, "SECRET//NOFORN\n");
        assert_eq!(members[3].1, "connect from ip-1 to host-1 as user-1 with [secret]");
        let manifest: Value = serde_json::from_str(&members[1].1).unwrap();
        assert_eq!(manifest["files"][0]["sha384"], Sha384::of(members[3].1.as_bytes()).to_string());
        assert!(RULES.iter().all(|rule| members[2].1.contains(rule.finds)));
    }

    #[test]
    fn names_fit_the_archive() {
        for (name, plain) in [("a/b.log", "a/b.log"), ("a b/ü", "a_b/_"), ("-x/..", "x/_"), ("./a", "_/a")] {
            assert_eq!(plain_name(name), plain);
        }
    }
}
