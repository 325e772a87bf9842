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
use std::path::Path;

use bundle_format::archive::ArchiveWriter;
use bundle_format::digest::Sha384;
use bundle_format::marking::Marking;
use bundle_format::timestamp::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::paths::Paths;
use crate::secrets;
use crate::state::State;

use gather::{Item, Readable, Sources};
use redact::{Counts, RULES, Redactor};

/// First member of the archive: the marking, one line.
pub const MARKING: &str = "MARKING";
const MANIFEST: &str = "manifest.json";
const REDACTIONS: &str = "REDACTIONS.txt";
const FORMAT: &str = "lockgate-support/1";
const LEVEL: i32 = 9;
const HIGHEST: &str = "TOP SECRET";
/// Where podman keeps everything unless it is told otherwise.
const STORAGE: &str = "/var/lib/containers/storage";

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
    /// What nobody could search for, and why.
    unsearched: Vec<String>,
}

impl Draft {
    /// Gathers and redacts. What cannot be read is named and keeps nothing else away.
    pub fn make(paths: &Paths, host: &HostFacts, now: &Timestamp) -> Result<Self> {
        let record = Readable::of(paths);
        let marking = marking(record.state.as_ref())?;
        let podman = Podman::detect(paths, host);
        let (values, mut unsearched) = secrets_of(&podman);
        let own = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let names = names::known(Path::new("/"), &own, record.state.as_ref(), paths, &mut unsearched);
        let items = gather::gather(&Sources { paths, host, record: &record, podman: &podman });
        let files = redacted(items, &mut Redactor::new(&values, &names))?;
        Ok(Self { marking, made: now.clone(), files, unsearched })
    }

    /// The marking of all of it.
    pub const fn marking(&self) -> &Marking {
        &self.marking
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
        let warning = |what: &String| format!("WARNING: not searched for: {what}; look yourself");
        lines.extend(self.unsearched.iter().map(warning));
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

/// The highest marking installed; before anything is, the highest that this system may hold. Where neither the
/// record nor its copy can be read nobody knows what it holds: the highest that there is.
fn marking(state: Option<&State>) -> Result<Marking> {
    let Some(state) = state else { return Ok(Marking::parse(HIGHEST)?) };
    let mut markings = Vec::new();
    for generation in state.active_generations()? {
        markings.push(Marking::parse(&generation.marking)?);
    }
    match markings.into_iter().max_by_key(Marking::level) {
        Some(marking) => Ok(marking),
        None => crate::cli::accreditation(state),
    }
}

/// Values of secrets, to be searched for, and what could not be had. An engine that does not answer may have left
/// them where it keeps them unless it is told otherwise.
fn secrets_of(podman: &Result<Option<Podman>>) -> (Vec<Zeroizing<Vec<u8>>>, Vec<String>) {
    let kept = match podman {
        Ok(Some(podman)) => secrets::kept(podman).map_err(|error| error.to_string()),
        Ok(None) => return (Vec::new(), Vec::new()),
        Err(error) => Err(error.to_string()),
    };
    let kept = match kept {
        Ok(kept) => kept,
        Err(error) => {
            let said = format!("secrets of the engine, but for those in its usual folder: {error}");
            return (secrets::left_in(Path::new(STORAGE)), vec![said]);
        }
    };
    let searchable = |secret: &&secrets::Kept| secret.value.as_ref().is_some_and(|v| v.len() >= redact::SHORTEST);
    let unsearched = kept.iter().filter(|secret| !searchable(secret));
    let unsearched =
        unsearched.map(|secret| format!("secret {}: its value cannot be had, or is too short", secret.name)).collect();
    (kept.into_iter().filter_map(|secret| secret.value).collect(), unsearched)
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
        Draft { marking, made: Timestamp::from_unix(0), files, unsearched: vec!["secret other: too short".into()] }
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

    #[test]
    fn an_empty_machine_is_marked_by_what_it_may_hold_and_an_unknown_one_by_the_highest() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::open(&folder.path().join("state.db")).unwrap();
        assert_eq!(marking(Some(&state)).unwrap().to_string(), "UNCLASSIFIED");
        state.set_setting("accreditation", "SECRET").unwrap();
        assert_eq!(marking(Some(&state)).unwrap().to_string(), "SECRET");
        assert_eq!(marking(None).unwrap().to_string(), "TOP SECRET");
    }
}
