//! Updates that change the network: its reach, its name. Nothing of the running release's network is touched
//! before the switch, all of it comes back when the update is taken back, and `check` sees a rule that is missing
//! as well as one that should not be there. On the simulated engine, with the kernel's own rules in a network
//! namespace; with and without systemd.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::process::Command;

use system_tests::cuts::case::Case;
use system_tests::cuts::ground::{Ground, PRODUCT};
use system_tests::cuts::{cut_at_first_start, fresh, systemd};
use system_tests::engine::{Held, Knobs};

const RENAMED: &str = "cut-two";

/// The second release, but with a network of this name and reach.
fn two(ground: &Ground, bundle: &str, network: &str, internal: bool) -> String {
    let edit = |text: String| {
        text.replace(
            &format!("network: {{name: {PRODUCT}, internal: false}}"),
            &format!("network: {{name: {network}, internal: {internal}}}"),
        )
    };
    ground.bundle(bundle, 2, edit);
    ground.path(bundle).display().to_string()
}

/// A machine, with systemd or without, on which the first release runs.
fn machine(with_systemd: bool, act: impl FnOnce(&Ground, &Case) + Send) {
    fresh(|ground, case| {
        if with_systemd {
            systemd::appear(ground);
        }
        case.installer(&["--yes", "install", &ground.path("one.tar").display().to_string()]).expect(0);
        act(ground, case);
    });
}

/// Whether the kernel keeps a network of this name inside.
fn inside(network: &str) -> bool {
    let table = format!("lockgate_{}", network.replace('-', "_"));
    Command::new("nft").args(["list", "table", "inet", &table]).output().unwrap().status.success()
}

/// Networks that the engine has, and those that pods are on.
fn networks(case: &Case) -> [Vec<String>; 2] {
    let held = Held::read(&case.engine());
    let mut joined: Vec<String> = held.pods.values().map(|pod| pod.network.clone()).collect();
    joined.dedup();
    [held.networks.into_keys().collect(), joined]
}

fn only(network: &str) -> [Vec<String>; 2] {
    [vec![network.to_owned()], vec![network.to_owned()]]
}

/// Fails in staging, after everything else of it: the backup does not read back.
fn fail_staged(case: &Case, bundle: &str) {
    Knobs { lossy_dumps: 3, ..Knobs::default() }.set(&case.engine());
    case.installer(&["--yes", "install", bundle]).expect(6);
}

/// Fails in its trial: the database of the second release never gets healthy.
fn fail_tried(ground: &Ground, case: &Case, bundle: &str) {
    Knobs { unhealthy: ground.new.iter().take(1).cloned().collect(), ..Knobs::default() }.set(&case.engine());
    case.installer(&["--yes", "install", bundle]).expect(7);
}

fn well(case: &Case, args: &[&str]) {
    Knobs::default().set(&case.engine());
    case.installer(args).expect(0);
    case.installer(&["check"]).expect(0);
}

/// From a release whose network reaches out to one whose network does not, and back.
fn reach(ground: &Ground, case: &Case) {
    let bundle = two(ground, "inside.tar", PRODUCT, true);
    assert!(!inside(PRODUCT));
    fail_staged(case, &bundle);
    assert!(!inside(PRODUCT), "a release that was only staged shut in the one that runs");
    fail_tried(ground, case, &bundle);
    assert!(!inside(PRODUCT), "taken back, the former release is shut in");
    well(case, &["check"]);
    well(case, &["--yes", "install", &bundle]);
    assert!(inside(PRODUCT));
    // The other way, by going back.
    well(case, &["--yes", "rollback"]);
    assert!(!inside(PRODUCT), "the rule of the release before is still in force");
    well(case, &["--yes", "install", &bundle]);
    let three =
        |text: String| text.replace("release: \"2.0\"", "release: \"3.0\"").replace("sequence: 2", "sequence: 3");
    ground.bundle("three.tar", 2, three);
    let three = ground.path("three.tar").display().to_string();
    fail_staged(case, &three);
    assert!(inside(PRODUCT), "a release that was only staged let the one that runs reach out");
    well(case, &["check"]);
    well(case, &["--yes", "install", &three]);
    assert!(!inside(PRODUCT), "the plan announced it");
    well(case, &["--yes", "uninstall", "--product", PRODUCT, "--with-data"]);
    assert!(!inside(PRODUCT) && networks(case)[0].is_empty());
}

#[test]
fn the_reach_of_a_network_changes_at_the_switch_and_comes_back() {
    machine(false, reach);
}

#[test]
fn the_reach_of_a_network_changes_at_the_switch_and_comes_back_with_systemd() {
    machine(true, reach);
}

#[test]
fn a_rule_that_should_not_be_there_is_drift_and_repaired() {
    machine(false, |ground, case| {
        let bundle = two(ground, "inside.tar", PRODUCT, true);
        well(case, &["--yes", "install", &bundle]);
        let rules = case.state().join(format!("engine/{PRODUCT}.nft"));
        let text = std::fs::read(&rules).unwrap();
        well(case, &["--yes", "rollback"]);
        std::fs::write(&rules, text).unwrap();
        case.tool("nft", &["-f", &rules.display().to_string()]).expect(0);
        let said = case.installer(&["check"]).expect(8);
        for part in ["keeps network cut inside, which its release does not ask for", "cut.nft is there"] {
            assert!(said.err.contains(part), "{part}: {}", said.err);
        }
        well(case, &["--yes", "repair"]);
        assert!(!inside(PRODUCT) && !rules.exists());
    });
}

/// To another network and back.
fn rename(ground: &Ground, case: &Case) {
    let bundle = two(ground, "renamed.tar", RENAMED, true);
    fail_staged(case, &bundle);
    assert_eq!(networks(case), only(PRODUCT));
    fail_tried(ground, case, &bundle);
    assert_eq!(networks(case), only(PRODUCT));
    assert!(!inside(RENAMED));
    well(case, &["check"]);
    well(case, &["--yes", "install", &bundle]);
    assert_eq!(networks(case), only(RENAMED), "a network that nothing needs any more is left");
    assert!(inside(RENAMED));
    well(case, &["--yes", "rollback"]);
    assert_eq!(networks(case), only(PRODUCT));
    assert!(!inside(RENAMED));
}

#[test]
fn a_network_of_another_name_is_joined_at_the_switch_and_left_again() {
    machine(false, rename);
}

#[test]
fn a_network_of_another_name_is_joined_at_the_switch_and_left_again_with_systemd() {
    machine(true, rename);
}

#[test]
fn units_of_what_runs_are_not_touched_before_the_switch_and_come_back() {
    machine(true, |ground, case| {
        let bundle = two(ground, "renamed.tar", RENAMED, true);
        let before = systemd::units();
        assert_eq!(before.len(), 2);
        fail_staged(case, &bundle);
        assert_eq!(systemd::units(), before);
        fail_tried(ground, case, &bundle);
        assert_eq!(systemd::units(), before);
        well(case, &["--yes", "install", &bundle]);
        assert!(systemd::units().iter().all(|(_, text)| text.contains("Network=cut-two\n")));
    });
}

#[test]
fn after_a_power_cut_nothing_starts_on_the_network_of_the_other_release() {
    machine(true, |ground, case| {
        let bundle = two(ground, "renamed.tar", RENAMED, true);
        let before = systemd::units();
        cut_at_first_start(ground, case, &bundle);
        // The first start of the machine goes on with the trial, the second goes back.
        systemd::boot(case);
        assert_eq!(networks(case)[1], [RENAMED]);
        systemd::boot(case);
        assert!(networks(case)[1].is_empty(), "{:?}", networks(case));
        case.installer(&["--yes", "resume", "--boot"]).expect(0);
        assert_eq!(networks(case), only(PRODUCT));
        assert_eq!(systemd::units(), before);
        well(case, &["check"]);
    });
}

#[test]
fn without_systemd_no_workload_starts_before_the_rule_is_there() {
    machine(false, |ground, case| {
        let bundle = two(ground, "inside.tar", PRODUCT, true);
        cut_at_first_start(ground, case, &bundle);
        // The machine starts anew: the kernel has forgotten the rule.
        case.tool("nft", &["flush", "ruleset"]).expect(0);
        well(case, &["--yes", "resume"]);
        assert!(inside(PRODUCT));
    });
}
