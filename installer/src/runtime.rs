//! Gives a Debian host the engine that travelled with the bundle, offline, by the host's own apt.
//!
//! The packages were proved on their way into the store. They become a local repository of exactly
//! those files; apt resolves and installs from it alone, so what the host has newer stays, and the
//! order is right. `[trusted=yes]` is no loss: apt's own signature would prove less than ours did.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bundle_format::manifest::Runtime;

use crate::atomic::{self, Access};
use crate::command::Command;
use crate::error::{Error, Result};
use crate::store::Store;

const LONG: Duration = Duration::from_secs(1800);

/// Installs `set` out of the store, where `before` was installed. What is there beyond that an earlier attempt
/// left, which may have been cut between unpacking and configuring: dpkg finishes that first, because apt does
/// nothing before it is.
pub fn install_runtime(set: &Runtime, store: &Store, scratch: &Path, before: &BTreeSet<String>) -> Result<()> {
    within(scratch, |folder| {
        repository(set, store, folder)?;
        let options = options(folder);
        apt(&options, &["update"], folder)?;
        let mut args = vec!["-y", "--no-install-recommends", "--no-remove", "install"];
        args.extend(set.install.iter().map(String::as_str));
        if packages()? == *before {
            return apt(&options, &args, folder);
        }
        // What lacks the rest of its set cannot be configured yet; apt brings that.
        let configured = dpkg(&["--configure", "--pending"], folder);
        args.push("--fix-broken");
        apt(&options, &args, folder).map_err(|error| configured.err().unwrap_or(error))
    })
}

/// Takes off again what is installed beyond `before`, with its configuration.
pub fn remove_since(before: &BTreeSet<String>, scratch: &Path) -> Result<()> {
    let names: Vec<String> = packages()?.difference(before).cloned().collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut args = vec!["--purge"];
    args.extend(names.iter().map(String::as_str));
    within(scratch, |folder| dpkg(&args, folder))
}

/// Works in a folder of its own, which is gone afterwards.
fn within(scratch: &Path, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = scratch.join("runtime");
    drop(std::fs::remove_dir_all(&folder));
    for part in ["repository", "lists/partial", "cache/archives/partial", "tmp"] {
        atomic::make_folder(&folder.join(part))?;
    }
    let done = work(&folder);
    std::fs::remove_dir_all(&folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
    done
}

/// Links the proved files and writes the index that apt reads.
fn repository(set: &Runtime, store: &Store, folder: &Path) -> Result<()> {
    let mut index = String::new();
    for package in &set.packages {
        store.check(&package.digest)?;
        let file = folder.join("repository").join(&package.name);
        // A link where it can be, a copy where the folder lies on another file system.
        if std::fs::hard_link(store.path(&package.digest), &file).is_err() {
            std::fs::copy(store.path(&package.digest), &file).map_err(|e| Error::io(file.display().to_string(), e))?;
        }
        let control = host_tool("dpkg-deb", folder).arg("-f").arg(file.as_os_str()).run()?.stdout;
        let size = std::fs::metadata(&file).map_err(|e| Error::io(file.display().to_string(), e))?.len();
        // Writing to a String cannot fail.
        let _ = write!(
            index,
            "{}\nFilename: ./{}\nSize: {size}\nSHA256: {}\n\n",
            control.trim_end(),
            package.name,
            package.digest.hex()
        );
    }
    atomic::write(&folder.join("repository/Packages"), index.as_bytes(), Access::Public)?;
    let list = format!("deb [trusted=yes] file:{} ./\n", folder.join("repository").display());
    atomic::write(&folder.join("sources.list"), list.as_bytes(), Access::Public)
}

/// apt with nothing but the local repository.
fn options(folder: &Path) -> Vec<String> {
    let at = |part: &str| folder.join(part).display().to_string();
    [
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        "Dir::Etc::sourceparts=/dev/null".into(),
        format!("Dir::State::lists={}", at("lists")),
        format!("Dir::Cache={}", at("cache")),
        "Acquire::Languages=none".into(),
        "APT::Sandbox::User=root".into(),
        "DPkg::Lock::Timeout=60".into(),
        "Dpkg::Options::=--force-confdef".into(),
        "Dpkg::Options::=--force-confold".into(),
        "Dpkg::Use-Pty=0".into(),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect()
}

/// A tool of the host that asks nobody and has its short-lived files in `folder`, and not in `/tmp`.
fn host_tool(name: &str, folder: &Path) -> Command {
    Command::new(name).env("DEBIAN_FRONTEND", "noninteractive").env("TMPDIR", folder.join("tmp")).deadline(LONG)
}

fn apt(options: &[String], args: &[&str], folder: &Path) -> Result<()> {
    let apt = host_tool("apt-get", folder).arg("-q").args(options.iter().map(String::as_str));
    apt.args(args.iter().copied()).run().map(drop)
}

fn dpkg(args: &[&str], folder: &Path) -> Result<()> {
    host_tool("dpkg", folder).args(args.iter().copied()).run().map(drop)
}

/// Names of the packages that are installed now.
pub fn packages() -> Result<BTreeSet<String>> {
    let shown = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev} ${binary:Package}\n"]).run()?.stdout;
    Ok(shown
        .lines()
        .filter(|line| !line.starts_with("rc ") && !line.starts_with("un "))
        .filter_map(|line| line.get(3..))
        .map(|name| name.trim().to_owned())
        .collect())
}
