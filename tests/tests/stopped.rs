//! Requests to end, and time that is given: each ends with a named exit code and leaves what ran before. On
//! the simulated engine; the same on the real one is in `adversity.rs`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use system_tests::Draft;
use system_tests::engine::Held;
use system_tests::high::High;

/// Nothing here takes this long unless it hangs.
const BOUND: [&str; 4] = ["timeout", "--signal=KILL", "60", "env"];

/// Release 1 runs; release 2 is there as a bundle, `edit`ed.
fn machine(edit: impl FnOnce(&mut Draft)) -> High {
    let high = High::trusting(&system_tests::keys::two_of_three(), &[]);
    high.bundle("1", &Draft::pod(1));
    let mut two = Draft::pod(2);
    edit(&mut two);
    high.bundle("2", &two);
    high.installer(&["--yes", "install", "1"]).expect(0);
    high
}

/// Release 1 runs and goes on, and nothing is open.
fn as_before(high: &High) {
    let status = high.status();
    assert_eq!((&status["products"][0]["sequence"], &status["products"][0]["healthy"]), (&1.into(), &true.into()));
    assert!(status["unfinished"].is_null(), "{status}");
    let held = Held::read(&high.path("engine"));
    assert!(held.pods.values().all(|pod| !pod.paused), "a pod is held still");
}

#[test]
fn a_signal_while_staging_says_that_what_ran_runs() {
    let high = machine(|_| ());
    high.shim("*\"volume create tc-data.g2\"*) kill -TERM $PPID;;");
    let said = high.installer(&["--yes", "install", "2"]).expect(7);
    assert!(said.err.contains("stopped on request"), "{}", said.err);
    as_before(&high);
    assert!(!Held::read(&high.path("engine")).volumes.contains("tc-data.g2"), "what was staged is gone");
}

#[test]
fn a_backup_that_is_stopped_lets_the_pods_go_on_and_is_none() {
    let high = machine(|_| ());
    for (verb, more) in [("pause", &[][..]), ("pause", &["--scheduled"]), ("unpause", &[])] {
        high.shim(&format!("\"pod {verb} \"*) kill -TERM $PPID;;"));
        let said = high.installer(&[&["backup", "make"], more].concat()).expect(7);
        assert!(said.err.contains("stopped on request"), "{}", said.err);
        as_before(&high);
        let left = std::fs::read_dir(high.path("state/backups/test-product")).unwrap().count();
        assert_eq!(left, 0, "{verb}");
    }
    let (act, result, detail) = high.records().pop().unwrap();
    assert_eq!((act.as_str(), result.as_str()), ("backup", "failed"));
    assert!(detail.contains("stopped on request"), "{detail}");
}

fn migrating(deadline: u64) -> High {
    machine(|draft| {
        let lifecycle = &mut draft.manifest.lifecycle;
        lifecycle.deadline_seconds = deadline;
        let migrations = serde_json::json!([{"name": "long", "since": 2, "container": "tc-app", "up": ["long"]}]);
        lifecycle.migrations = serde_json::from_value(migrations).unwrap();
    })
}

#[test]
fn a_migration_has_the_time_that_the_release_says() {
    let high = migrating(1);
    high.shim("\"exec tc-app long\") exec sleep 600;;");
    let said = high.installer_under(&BOUND, &["--yes", "install", "2"]).expect(7);
    assert!(said.err.contains("exec tc-app long") && said.err.contains("1 s"), "{}", said.err);
    as_before(&high);
    let said = high.installer_under(&BOUND, &["--yes", "install", "2", "--health-timeout", "2"]).expect(7);
    assert!(said.err.contains("2 s"), "{}", said.err);
}

#[test]
fn a_signal_ends_a_migration() {
    let high = migrating(900);
    high.shim("\"exec tc-app long\") kill -TERM $PPID; exec sleep 600;;");
    let said = high.installer_under(&BOUND, &["--yes", "install", "2"]).expect(7);
    assert!(said.err.contains("stopped on request"), "{}", said.err);
    as_before(&high);
}

#[test]
fn a_signal_ends_a_repair_between_two_things() {
    let high = machine(|_| ());
    let file = high.path("state/generations/test-product/1/tc.yaml");
    std::fs::write(&file, "apiVersion: v1").unwrap();
    high.shim("*\"container inspect\"*) [ -e stopped ] || { : >stopped; kill -TERM $PPID; };;");
    let said = high.installer(&["--yes", "repair"]).expect(7);
    assert!(said.err.contains("stopped on request"), "{}", said.err);
    high.installer(&["--yes", "repair"]).expect(0);
    high.installer(&["check"]).expect(0);
    as_before(&high);
}
