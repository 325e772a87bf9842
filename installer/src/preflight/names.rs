//! Names: what the engine and systemd hold already under the names that the release wants, and what
//! an earlier installation left behind.

use std::collections::BTreeSet;
use std::path::Path;

use bundle_format::manifest::Manifest;

use super::finding::{Check, Door, Finding};
use crate::engine::Podman;
use crate::error::Result;
use crate::release::Release;
use crate::state::State;

pub(super) const TAKEN: Check = Check {
    id: "name",
    why: "it was not made by this installation: a pod of that name would be replaced, and a volume, secret or network \
          would be taken for ours",
    advice: "rename or remove it, or accept it by name if it really is this platform's",
    door: Door::Named,
};
pub(super) const LEFT: Check = Check {
    id: "left-over",
    why: "it is of no generation that this machine's record knows: of another state folder, or of a run that was lost",
    advice: "compare with --state-dir; remove it if nobody knows it",
    door: Door::Named,
};

/// What is ours, by our own record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// The product runs, or a change of it is not over: its pods are there.
    pub running: bool,
    /// The product was installed here before: its secrets and network may be there.
    pub before: bool,
    /// Volumes of all its generations.
    pub volumes: BTreeSet<String>,
    /// Products whose units may be there.
    pub products: BTreeSet<String>,
    /// Networks of products that are active.
    pub networks: BTreeSet<String>,
}

impl Own {
    /// Reads the record.
    pub fn read(state: &State, product: &str) -> Result<Self> {
        let (active, run) = (state.active_generations()?, state.open_run()?);
        let of_run = run.as_ref().map(|run| run.product.clone());
        let mut networks = BTreeSet::new();
        for generation in &active {
            networks.insert(generation.parse()?.network.name);
        }
        let running = active.iter().any(|generation| generation.product == product);
        Ok(Self {
            running: running || of_run.as_deref() == Some(product),
            before: !state.manifests_of(product)?.is_empty(),
            volumes: state.all_volumes(product)?.into_iter().map(|(_, volume)| volume).collect(),
            products: active.iter().map(|generation| generation.product.clone()).chain(of_run).collect(),
            networks,
        })
    }
}

/// What is there, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    pods: BTreeSet<String>,
    containers: BTreeSet<String>,
    volumes: BTreeSet<String>,
    networks: BTreeSet<String>,
    /// Networks with our label.
    labelled: BTreeSet<String>,
    secrets: BTreeSet<String>,
    /// Products whose units lie there.
    units: BTreeSet<String>,
}

/// Folders in which units of ours lie.
const UNITS: [&str; 2] = ["etc/containers/systemd", "etc/systemd/system"];

impl Held {
    /// Asks the engine, and looks for units below `root`.
    pub(super) fn read(podman: &Podman, root: &Path) -> Result<Self> {
        let list = |args: &[&str]| -> Result<BTreeSet<String>> {
            Ok(podman.call(args.iter().copied()).run()?.stdout.lines().map(|line| line.trim().to_owned()).collect())
        };
        Ok(Self {
            pods: list(&["pod", "ps", "--format", "{{.Name}}"])?,
            containers: list(&["ps", "--all", "--format", "{{.Names}}"])?,
            volumes: list(&["volume", "ls", "--format", "{{.Name}}"])?,
            networks: list(&["network", "ls", "--format", "{{.Name}}"])?,
            labelled: list(&["network", "ls", "--filter", "label=lockgate=1", "--format", "{{.Name}}"])?,
            secrets: list(&["secret", "ls", "--format", "{{.Name}}"])?,
            units: UNITS.iter().flat_map(|folder| units(&root.join(folder))).collect(),
        })
    }
}

/// Products that workload units of ours name: `Description=Lockgate PRODUCT: WORKLOAD`.
fn units(folder: &Path) -> BTreeSet<String> {
    let ours = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("lockgate-");
    let product = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path()).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Description=Lockgate "))?;
        let (product, _) = line.split_once(": ")?;
        bundle_format::name::check_label("product", product).ok().map(|()| product.to_owned())
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().filter(ours).filter_map(product).collect()
}

/// What the release wants to make under which name.
pub(super) struct Wanted {
    names: Vec<(&'static str, String)>,
    product: String,
    network: String,
}

impl Wanted {
    pub(super) fn of(manifest: &Manifest, release: &Release) -> Self {
        let mut names = Vec::new();
        for pod in release.workloads.iter().flat_map(|workload| &workload.pods) {
            names.push(("pod", pod.name.clone()));
            names.extend(pod.containers.iter().map(|container| ("container", container.name.clone())));
        }
        names.extend(release.volumes().into_iter().map(|name| ("volume", name)));
        names.push(("network", manifest.network.name.clone()));
        names.extend(manifest.secrets.iter().map(|secret| ("secret", secret.name().to_owned())));
        Self { names, product: manifest.product.clone(), network: manifest.network.name.clone() }
    }
}

/// Names that somebody else holds; one good finding if none is.
pub(super) fn taken(wanted: &Wanted, held: &Held, own: &Own) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (kind, name) in &wanted.names {
        let (there, ours) = match *kind {
            "pod" => (held.pods.contains(name), own.running),
            "container" => (held.containers.contains(name), own.running),
            "volume" => (held.volumes.contains(name), own.volumes.contains(name) || own.running),
            "network" => (held.networks.contains(name), own.before || own.networks.contains(name)),
            _ => (held.secrets.contains(name), own.before),
        };
        if there && !ours {
            let found = format!("a {kind} {name} that is not ours");
            findings.push(TAKEN.must(false, found, "a free name").of(format!("{kind}:{name}")));
        }
    }
    if findings.is_empty() {
        findings.push(TAKEN.must(true, "all free, or ours", "free names"));
    }
    findings
}

/// Units and networks of ours that no active product owns.
pub(super) fn left_over(wanted: &Wanted, held: &Held, own: &Own) -> Vec<Finding> {
    let mut findings = Vec::new();
    for product in held.units.iter().filter(|product| !own.products.contains(*product)) {
        let found = format!("units of product {product}, which is not active here");
        findings.push(LEFT.should(false, found, "units of active products").of(format!("units:{product}")));
    }
    let known =
        |name: &str| own.networks.contains(name) || (own.products.contains(&wanted.product) && name == wanted.network);
    for name in held.labelled.iter().filter(|name| !known(name)) {
        let found = format!("network {name}, made by an installer for no active product");
        findings.push(LEFT.should(false, found, "networks of active products").of(format!("network:{name}")));
    }
    if findings.is_empty() {
        findings.push(LEFT.should(true, "nothing", "nothing of no known generation"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Fail, Ok as Fit, Warn};
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn wanted() -> Wanted {
        let names =
            [("pod", "web"), ("container", "web-srv"), ("volume", "data"), ("network", "net"), ("secret", "password")];
        Wanted {
            names: names.into_iter().map(|(kind, name)| (kind, name.to_owned())).collect(),
            product: "p".into(),
            network: "net".into(),
        }
    }

    fn everything() -> Held {
        Held {
            pods: set(&["web", "other"]),
            containers: set(&["web-srv"]),
            volumes: set(&["data"]),
            networks: set(&["net", "podman"]),
            labelled: set(&["net"]),
            secrets: set(&["password"]),
            units: set(&["p"]),
        }
    }

    #[test]
    fn strangers_and_our_own() {
        let ids = |held: &Held, own: &Own| taken(&wanted(), held, own).iter().map(Finding::id).collect::<Vec<_>>();
        let nothing = Own::default();
        assert_eq!(ids(&Held::default(), &nothing), ["name"]);
        assert_eq!(
            ids(&everything(), &nothing),
            ["name:pod:web", "name:container:web-srv", "name:volume:data", "name:network:net", "name:secret:password"]
        );
        assert_eq!(taken(&wanted(), &everything(), &nothing)[0].severity, Fail);
        // After an uninstallation that kept the data.
        let kept = Own { before: true, volumes: set(&["data"]), ..Own::default() };
        assert_eq!(ids(&everything(), &kept), ["name:pod:web", "name:container:web-srv"]);
        let running = Own { running: true, before: true, ..Own::default() };
        assert_eq!(ids(&everything(), &running), ["name"]);
        assert_eq!(taken(&wanted(), &everything(), &running)[0].severity, Fit);
    }

    #[test]
    fn what_nobody_owns() {
        let ids = |own: &Own| left_over(&wanted(), &everything(), own).iter().map(Finding::id).collect::<Vec<_>>();
        assert_eq!(ids(&Own::default()), ["left-over:units:p", "left-over:network:net"]);
        assert_eq!(left_over(&wanted(), &everything(), &Own::default())[0].severity, Warn);
        let active = Own { products: set(&["p"]), networks: set(&["net"]), ..Own::default() };
        assert_eq!(ids(&active), ["left-over"]);
        let begun = Own { products: set(&["p"]), ..Own::default() };
        assert_eq!(ids(&begun), ["left-over"], "of a run that is not over");
    }

    #[test]
    fn units_say_whose_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("lockgate-p-web.kube", "[Unit]\nDescription=Lockgate p: web\n"),
            ("lockgate-guard.service", "[Unit]\nDescription=Lockgate decides which release starts\n"),
            ("lockgate-x.service", "[Unit]\nDescription=Lockgate ../bad: x\n"),
            ("other.service", "[Unit]\nDescription=Lockgate q: web\n"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(units(folder.path()), set(&["p"]));
        assert!(units(Path::new("/no/such")).is_empty());
    }
}
