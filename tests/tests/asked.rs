//! A question that nobody answers for an hour keeps nothing waiting: the lock is free meanwhile. What was shown
//! is what is done, or nothing is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use system_tests::Draft;
use system_tests::high::{High, parse};

/// Release 1 runs, 2 and 3 are there as bundles.
fn machine() -> High {
    let high = High::trusting(&system_tests::keys::two_of_three(), &[]);
    for sequence in 1..=3 {
        high.bundle(&sequence.to_string(), &Draft::pod(sequence));
    }
    high.installer(&["--yes", "install", "1"]).expect(0);
    high
}

#[test]
fn backups_go_on_while_a_question_waits() {
    let high = machine();
    let backup = parse(&high.installer(&["--json", "backup", "make"]).expect(0))["backup"].clone();
    let backup = backup.as_str().unwrap();
    let count = || high.records().iter().filter(|(act, result, _)| act == "backup" && result == "ok").count();
    for (args, code) in [
        (&["restore", backup][..], 0),
        (&["repair"], 0),
        (&["install", "2"], 0),
        (&["rollback"], 0),
        (&["uninstall", "--product", "test-product"], 0),
    ] {
        let asked = high.asked(args);
        let before = count();
        high.installer(&["backup", "make", "--scheduled"]).expect(0);
        assert_eq!(count(), before + 1, "{args:?}: a backup was made meanwhile");
        asked.answer("yes").expect(code);
    }
    assert_eq!(high.status()["products"].as_array().unwrap().len(), 0);
}

#[test]
fn what_was_planned_over_something_else_is_not_done() {
    let high = machine();
    let backup = parse(&high.installer(&["--json", "backup", "make"]).expect(0))["backup"].clone();
    for (args, keep) in [
        (&["install", "2"][..], "2"),
        (&["restore", backup.as_str().unwrap()], "3"),
        (&["repair"], "4"),
        (&["uninstall", "--product", "test-product"], "5"),
    ] {
        let asked = high.asked(args);
        high.installer(&["settings", "keep-generations", keep]).expect(0);
        let said = asked.answer("yes").expect(6);
        assert!(said.out.contains("changed while the question waited"), "{args:?}: {}", said.out);
    }
    let asked = high.asked(&["install", "2"]);
    high.installer(&["--yes", "install", "3"]).expect(0);
    asked.answer("yes").expect(6);
    let asked = high.asked(&["rollback"]);
    assert_eq!(asked.answer("no").code, 2);
    assert_eq!(high.status()["products"][0]["sequence"], 3);
    assert!(high.status()["unfinished"].is_null());
}

#[test]
fn a_signal_at_a_question_ends_it() {
    let high = machine();
    high.installer(&["--yes", "install", "2"]).expect(0);
    for args in [&["install", "3"][..], &["rollback"], &["repair"]] {
        // Ctrl-C, as the terminal hands it on.
        high.asked(args).answer("\u{3}").expect(130);
    }
    assert_eq!(high.status()["products"][0]["sequence"], 2);
    assert!(high.status()["unfinished"].is_null());
}
