//! The dependency law: what the rooms may reach.
//!
//! The installer runs where nothing outside can help and nothing inside may call out; that it
//! cannot make a release and cannot speak HTTP or TLS to anyone is a property of what is linked into
//! it. The one key that it has signs the head of its audit log (docs/adr/0012-audit-log.md) and
//! inventories of its store.

use system_tests::law::Graph;

const ROOMS: [&str; 7] =
    ["bundle-format", "signing-keys", "confinement", "bundle-builder", "installer", "appliance", "system-tests"];

/// Clients of HTTP and TLS, and what they are built from.
const NETWORK: [&str; 26] = [
    "reqwest",
    "hyper",
    "hyper-util",
    "ureq",
    "isahc",
    "surf",
    "attohttpc",
    "minreq",
    "curl",
    "curl-sys",
    "rustls",
    "tokio-rustls",
    "rustls-native-certs",
    "native-tls",
    "openssl",
    "openssl-sys",
    "schannel",
    "boring",
    "s2n-tls",
    "oci-client",
    "oci-distribution",
    "h2",
    "quinn",
    "awc",
    "ssh2",
    "russh",
];

/// Processes, clocks, terminals and sockets, which the formats have no use for.
const OUTSIDE: [&str; 22] = [
    "tokio",
    "async-std",
    "smol",
    "mio",
    "socket2",
    "nix",
    "rustix",
    "indicatif",
    "console",
    "crossterm",
    "termion",
    "rpassword",
    "clap",
    "chrono",
    "time",
    "jiff",
    "duct",
    "subprocess",
    "signal-hook",
    "rusqlite",
    "landlock",
    "seccompiler",
];

/// What speaks to tokens loads foreign libraries into the process: `signing-keys` alone may.
const TOKENS: [&str; 4] = ["cryptoki", "cryptoki-sys", "pkcs11", "libloading"];

fn workspace() -> Graph {
    Graph::of_workspace(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
}

#[test]
fn the_workspace_keeps_the_law() {
    let graph = workspace();
    for room in ROOMS {
        assert!(graph.holds(room), "the law does not see {room}");
    }
    let others: Vec<&str> = ROOMS.into_iter().filter(|room| *room != "bundle-format").collect();
    let none: Vec<String> = Vec::new();
    for forbidden in [&others[..], &NETWORK, &OUTSIDE, &TOKENS] {
        assert_eq!(graph.breaches("bundle-format", forbidden), none);
    }
    let others: Vec<&str> = ROOMS.into_iter().filter(|room| *room != "confinement").collect();
    assert_eq!(graph.breaches("confinement", &others), none);
    assert_eq!(graph.breaches("signing-keys", &["confinement", "bundle-builder", "installer", "appliance"]), none);
    assert_eq!(graph.breaches("signing-keys", &NETWORK), none);
    assert_eq!(graph.breaches("bundle-builder", &["installer", "appliance"]), none);
    for high in ["installer", "appliance"] {
        assert_eq!(graph.breaches(high, &["signing-keys", "bundle-builder"]), none);
        assert_eq!(graph.breaches(high, &NETWORK), none);
        assert_eq!(graph.breaches(high, &TOKENS), none);
    }
    assert_eq!(graph.breaches("installer", &["appliance"]), none);
    assert_eq!(graph.dependents("system-tests"), Vec::<&str>::new());
}

#[test]
fn the_checker_finds_a_breach() {
    let mut graph = Graph::default();
    graph.add("installer", "bundle-format");
    graph.add("installer", "innocent");
    graph.add("innocent", "middle");
    graph.add("middle", "rustls");
    graph.add("middle", "innocent");
    graph.add("bundle-builder", "signing-keys");
    assert_eq!(graph.breaches("installer", &NETWORK), ["installer -> innocent -> middle -> rustls"]);
    assert_eq!(graph.breaches("installer", &["signing-keys"]), Vec::<String>::new());
    graph.add("bundle-format", "signing-keys");
    assert_eq!(graph.breaches("installer", &["signing-keys"]), ["installer -> bundle-format -> signing-keys"]);
    assert_eq!(graph.dependents("signing-keys"), ["bundle-builder", "bundle-format"]);
}

#[test]
fn the_graph_of_the_workspace_has_what_it_must_have() {
    // Were the graph read wrongly and empty, the law above would pass for nothing.
    let graph = workspace();
    assert!(graph.reach("installer").contains_key("bundle-format"));
    assert!(graph.reach("installer").contains_key("zstd-sys"));
    assert!(graph.reach("signing-keys").contains_key("cryptoki"));
    assert_eq!(graph.breaches("bundle-builder", &["signing-keys"]), ["bundle-builder -> signing-keys"]);
}
