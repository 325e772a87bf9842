//! A machine with systemd, as far as the installer sees one: process 1 has its name, folders for units are there
//! and empty, and a `systemctl` starts and stops what units say. Nothing of it outlives the calling thread's
//! mounts ([`super::case::seclude`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};

use super::case::Case;
use super::ground::Ground;
use crate::site::Said;

/// Where units of workloads lie.
pub const UNITS: &str = "/etc/containers/systemd";
const FOLDERS: [&str; 2] = [UNITS, "/etc/systemd/system"];

/// Units are as good as the text that they have: a start that its condition forbids is none, and a unit joins
/// the network that it names.
const SYSTEMCTL: &str = r#"#!/bin/sh
verb=$1
shift
of() { sed -n "s/^$1=//p" "$2"; }
for unit in "$@"; do
    kube=/etc/containers/systemd/${unit%.service}.kube
    case $verb/$unit in
    start/*.service) [ -f "$kube" ] || continue
        [ -e "$(of ConditionPathExists "$kube")" ] || continue
        podman kube play --replace --network "$(of Network "$kube")" "$(of Yaml "$kube")" || exit 1 ;;
    stop/*.service) [ ! -f "$kube" ] || podman kube down "$(of Yaml "$kube")" || true ;;
    restart/lockgate-network-*) $(of ExecStart "/etc/systemd/system/$unit") || exit 1 ;;
    esac
done
"#;

/// From here on the calling thread, and what it starts, is on a machine with systemd.
pub fn appear(ground: &Ground) {
    use std::os::unix::fs::PermissionsExt as _;
    let none = None::<&str>;
    let comm = ground.path("comm");
    fs::write(&comm, "systemd\n").unwrap();
    mount(Some(&comm), "/proc/1/comm", none, MsFlags::MS_BIND, none).unwrap();
    fs::create_dir_all("/run/systemd").unwrap();
    for folder in ["/run/systemd", "/etc/systemd", "/etc/containers"] {
        mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    for folder in ["/run/systemd/system", "/etc/systemd/system", UNITS] {
        fs::create_dir(folder).unwrap();
    }
    let systemctl = ground.path("bin/systemctl");
    fs::write(&systemctl, SYSTEMCTL).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Units of workloads with their text, by name.
pub fn units() -> Vec<(String, String)> {
    let mut units: Vec<_> = fs::read_dir(UNITS)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    units.sort();
    units
}

/// Every unit that there is, to be put back.
pub struct Kept(Vec<(PathBuf, String)>);

/// Units of workloads and networks as they are now; none without [`appear`].
pub fn keep() -> Kept {
    // Elsewhere these folders are the real machine's.
    let folders = FOLDERS.iter().filter(|_| Path::new("/run/systemd/system").is_dir());
    let all = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let all = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.to_string_lossy().contains("/lockgate-"));
    Kept(all.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect())
}

impl Kept {
    /// Puts them back, and takes all others away.
    pub fn put_back(&self) {
        for (path, _) in keep().0 {
            fs::remove_file(path).unwrap();
        }
        for (path, text) in &self.0 {
            fs::write(path, text).unwrap();
        }
    }
}

/// What the machine does after its power was cut: nothing runs, the kernel has no rules; the guard; rules and
/// workloads by their units. What finishes a change comes after it, and is the caller's.
pub fn boot(case: &Case) -> Said {
    for pod in case.podman(&["pod", "ps", "--format", "{{.Name}}"]).expect(0).out.lines() {
        case.podman(&["pod", "rm", "--force", "--ignore", pod]).expect(0);
    }
    assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
    let said = case.installer(&["--yes", "resume", "--guard"]).expect(0);
    for entry in fs::read_dir("/etc/systemd/system").unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name.starts_with("lockgate-network-") {
            case.tool("systemctl", &["restart", &name]).expect(0);
        }
    }
    for (name, _) in units() {
        let unit = format!("{}.service", Path::new(&name).file_stem().unwrap().to_string_lossy());
        case.tool("systemctl", &["start", &unit]).expect(0);
    }
    said
}
