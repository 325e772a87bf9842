//! Package databases that are text: dpkg, apk, Python's `METADATA`, and `os-release`.

use std::collections::BTreeMap;

use crate::sbom::layers::Tree;
use crate::sbom::{Inventory, Kind, Package};

/// Reads every text database of the tree.
pub(super) fn read(tree: &Tree, found: &mut Inventory) {
    for (path, bytes) in &tree.files {
        let text = String::from_utf8_lossy(bytes);
        if path == "var/lib/dpkg/status" || path.starts_with("var/lib/dpkg/status.d/") {
            dpkg(path, &text, found);
        } else if path.ends_with("apk/db/installed") {
            apk(path, &text, found);
        } else if path.ends_with(".dist-info/METADATA") {
            python(path, &text, found);
        }
    }
}

/// `ID` and `VERSION_ID` (os-release(5)).
pub(super) fn os_release(tree: &Tree) -> Option<(String, String)> {
    let bytes = tree.files.get("etc/os-release").or_else(|| tree.files.get("usr/lib/os-release"))?;
    let text = String::from_utf8_lossy(bytes);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    };
    Some((value("ID")?, value("VERSION_ID").unwrap_or_default()))
}

/// deb822 paragraphs (deb822(5)): `Name: value`, continued lines begin with a space.
fn paragraphs(text: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut all = vec![BTreeMap::new()];
    for line in text.lines() {
        if line.trim().is_empty() {
            all.push(BTreeMap::new());
        } else if !line.starts_with([' ', '\t'])
            && let (Some((name, value)), Some(last)) = (line.split_once(':'), all.last_mut())
        {
            last.insert(name, value.trim());
        }
    }
    all.retain(|paragraph| !paragraph.is_empty());
    all
}

/// Installed packages: those of state `installed`; in `status.d` (distroless images) all.
fn dpkg(path: &str, text: &str, found: &mut Inventory) {
    for paragraph in paragraphs(text) {
        let state = paragraph.get("Status").and_then(|status| status.split(' ').nth(2));
        if state.is_some_and(|state| state != "installed") {
            continue;
        }
        match (paragraph.get("Package"), paragraph.get("Version")) {
            (Some(name), Some(version)) => found.packages.push(Package {
                kind: Kind::Deb,
                name: (*name).into(),
                version: (*version).into(),
                arch: paragraph.get("Architecture").map(|arch| (*arch).into()),
                licence: None,
            }),
            _ => found.unread.push(format!("/{path}: an installed package without name or version")),
        }
    }
}

/// apk's installed database: one letter, colon, value.
fn apk(path: &str, text: &str, found: &mut Inventory) {
    for paragraph in paragraphs(text) {
        match (paragraph.get("P"), paragraph.get("V")) {
            (Some(name), Some(version)) => found.packages.push(Package {
                kind: Kind::Apk,
                name: (*name).into(),
                version: (*version).into(),
                arch: paragraph.get("A").map(|arch| (*arch).into()),
                licence: paragraph.get("L").map(|licence| (*licence).into()),
            }),
            _ => found.unread.push(format!("/{path}: a package without name or version")),
        }
    }
}

/// Core metadata (packaging.python.org): headers up to the first empty line.
fn python(path: &str, text: &str, found: &mut Inventory) {
    let headers = text.split("\n\n").next().unwrap_or_default().replace('\r', "");
    let head = paragraphs(&headers).into_iter().next().unwrap_or_default();
    match (head.get("Name"), head.get("Version")) {
        (Some(name), Some(version)) => found.packages.push(Package {
            kind: Kind::Python,
            name: (*name).into(),
            version: (*version).into(),
            arch: None,
            licence: head.get("License-Expression").or_else(|| head.get("License")).map(|licence| (*licence).into()),
        }),
        _ => found.unread.push(format!("/{path}: no name or version")),
    }
}
