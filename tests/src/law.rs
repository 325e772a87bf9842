//! The dependency law's checker: which crates a crate reaches, and by which way.

use std::collections::{BTreeMap, BTreeSet};

/// A graph of crates by name, as they are linked: normal and build dependencies, no test ones.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// The workspace's graph with the features that are in force.
    pub fn of_workspace(manifest: &str) -> Self {
        let metadata = cargo_metadata::MetadataCommand::new()
            .manifest_path(manifest)
            .other_options(["--filter-platform".to_owned(), "x86_64-unknown-linux-gnu".to_owned()])
            .exec()
            .expect("cargo metadata reads the workspace");
        let names: BTreeMap<_, _> =
            metadata.packages.iter().map(|package| (package.id.clone(), package.name.to_string())).collect();
        let mut graph = Self::default();
        for node in metadata.resolve.expect("a resolved graph").nodes {
            graph.edges.entry(names[&node.id].clone()).or_default();
            for dep in node.deps {
                let linked = dep.dep_kinds.iter().any(|kind| kind.kind != cargo_metadata::DependencyKind::Development);
                if linked {
                    graph.add(&names[&node.id], &names[&dep.pkg]);
                }
            }
        }
        graph
    }

    /// Adds a dependency.
    pub fn add(&mut self, from: &str, to: &str) {
        self.edges.entry(from.to_owned()).or_default().insert(to.to_owned());
    }

    /// Whether the graph knows a crate.
    pub fn holds(&self, name: &str) -> bool {
        self.edges.contains_key(name)
    }

    /// Each crate that `from` reaches, itself included, with the way to it.
    pub fn reach(&self, from: &str) -> BTreeMap<String, String> {
        let mut ways = BTreeMap::from([(from.to_owned(), from.to_owned())]);
        let mut open = vec![from.to_owned()];
        while let Some(name) = open.pop() {
            for next in self.edges.get(&name).into_iter().flatten() {
                if !ways.contains_key(next) {
                    ways.insert(next.clone(), format!("{} -> {next}", ways[&name]));
                    open.push(next.clone());
                }
            }
        }
        ways
    }

    /// Ways from `from` to a forbidden crate.
    pub fn breaches(&self, from: &str, forbidden: &[&str]) -> Vec<String> {
        self.reach(from)
            .into_iter()
            .filter(|(name, _)| forbidden.contains(&name.as_str()))
            .map(|(_, way)| way)
            .collect()
    }

    /// Crates that depend on `name` themselves.
    pub fn dependents(&self, name: &str) -> Vec<&str> {
        self.edges.iter().filter(|(_, to)| to.contains(name)).map(|(from, _)| from.as_str()).collect()
    }
}
