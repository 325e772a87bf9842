//! Every cut point of the installer: killed or refused at each operation that outlives it, it always
//! comes back to the release before or the release after, with every acknowledged line of data. After
//! some kills the record has rotted as well, and is put back from its copy.
//!
//! `LOCKGATE_CUTS_EVERY=1` makes every cut, any other number each so many-th; `LOCKGATE_CUTS_EACH=1` one
//! cut at each point, the faults by turns; `LOCKGATE_CUTS_SEED` moves where the counting begins; `LOCKGATE_CUTS_ONLY=update/kill` makes all cuts whose name begins
//! so. A flow is one row of the table below.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use system_tests::cuts::ground::{ACKNOWLEDGED, LATER, MIGRATED, PRODUCT, UNDER_NEW};
use system_tests::cuts::invariant::{End, NEW, OLD};
use system_tests::cuts::point::CLASSES;
use system_tests::cuts::{Choice, Flow, Recovery, TURN, cut_when_committed, run, say, signature};
use system_tests::engine::Knobs;

/// Cuts that a run must at least have made.
const FLOOR: usize = 1000;
/// Without a word, each so many-th cut is made: a run takes a few minutes.
const EVERY: usize = TURN;

const NOTHING: End = End { sequence: 0, has: &[], hasnt: &[] };
const FIRST: End = End { sequence: 1, has: &[OLD, ACKNOWLEDGED], hasnt: &[NEW, MIGRATED, UNDER_NEW, LATER] };
const SECOND: End = End { sequence: 2, has: &[OLD, ACKNOWLEDGED, NEW, MIGRATED], hasnt: &[LATER] };
const ALL_WAYS: &[Recovery] = &[Recovery::Resume, Recovery::Boot, Recovery::Again, Recovery::Rotten];
const NEVER_AGAIN: &[Recovery] = &[Recovery::Resume, Recovery::Boot, Recovery::Rotten];

const FLOWS: &[Flow] = &[
    Flow {
        name: "install",
        from: "fresh",
        command: &["--yes", "install", "{one}"],
        codes: &[0],
        open: false,
        recoveries: ALL_WAYS,
        ends: &[NOTHING, End { sequence: 1, has: &[OLD], hasnt: &[NEW] }],
    },
    Flow {
        name: "update",
        from: "one",
        command: &["--yes", "install", "{two}"],
        codes: &[0],
        open: false,
        recoveries: ALL_WAYS,
        ends: &[FIRST, SECOND],
    },
    Flow {
        name: "update-unhealthy",
        from: "sick",
        command: &["--yes", "install", "{two}"],
        codes: &[0, 7],
        open: false,
        recoveries: ALL_WAYS,
        ends: &[FIRST],
    },
    Flow {
        name: "rollback",
        from: "two",
        command: &["--yes", "rollback"],
        codes: &[0],
        open: false,
        recoveries: NEVER_AGAIN,
        ends: &[FIRST, End { sequence: 2, has: &[OLD, ACKNOWLEDGED, NEW, MIGRATED, UNDER_NEW], hasnt: &[] }],
    },
    Flow {
        name: "uninstall",
        from: "one",
        command: &["--yes", "uninstall", "--product", PRODUCT],
        codes: &[0],
        open: false,
        recoveries: NEVER_AGAIN,
        ends: &[FIRST, End { sequence: 0, ..FIRST }],
    },
    Flow {
        name: "uninstall-with-data",
        from: "two",
        command: &["--yes", "uninstall", "--product", PRODUCT, "--with-data"],
        codes: &[0],
        open: false,
        recoveries: NEVER_AGAIN,
        ends: &[NOTHING, SECOND],
    },
    Flow {
        name: "backup",
        from: "one",
        command: &["--yes", "backup", "make"],
        codes: &[0],
        open: false,
        recoveries: ALL_WAYS,
        ends: &[FIRST],
    },
    Flow {
        name: "restore",
        from: "saved",
        command: &["--yes", "restore", "{backup}"],
        codes: &[0],
        open: false,
        recoveries: NEVER_AGAIN,
        // Before or after: what was written later is there, or it is not; never a part.
        ends: &[FIRST, End { sequence: 1, has: &[OLD, ACKNOWLEDGED, LATER], hasnt: &[NEW] }],
    },
    Flow {
        name: "resume-switching",
        from: "switching",
        command: &["--yes", "resume"],
        codes: &[0],
        open: true,
        recoveries: NEVER_AGAIN,
        ends: &[FIRST, SECOND],
    },
    Flow {
        name: "resume-trial",
        from: "trial",
        command: &["--yes", "resume"],
        codes: &[0],
        open: true,
        recoveries: NEVER_AGAIN,
        ends: &[FIRST, SECOND],
    },
    Flow {
        name: "resume-back",
        from: "back",
        command: &["--yes", "resume"],
        codes: &[0],
        open: true,
        recoveries: NEVER_AGAIN,
        ends: &[FIRST],
    },
    Flow {
        name: "take-back",
        from: "trial",
        command: &["--yes", "rollback"],
        codes: &[0],
        open: true,
        recoveries: NEVER_AGAIN,
        ends: &[FIRST, SECOND],
    },
];

#[test]
fn a_dump_that_lost_its_end_is_made_again_and_never_counts() {
    let said = system_tests::cuts::alone("one", |case| {
        let lossy = |dumps| Knobs { lossy_dumps: dumps, ..Knobs::default() }.set(&case.engine());
        lossy(2);
        case.installer(&["--yes", "backup", "make"]).expect(0);
        let backups = || case.installer(&["--json", "backup", "list"]).expect(0).out.matches("\"at\"").count();
        assert_eq!(backups(), 1);
        lossy(3);
        let said = case.installer(&["--yes", "backup", "make"]).expect(6);
        assert_eq!(backups(), 1, "what does not read back is no backup");
        said
    });
    assert!(said.err.contains("pg_restore: error: unexpected end of file"), "{}", said.err);
}

#[test]
fn a_rollback_of_what_is_committed_clears_it_first_and_an_uninstallation_only_goes_forward() {
    system_tests::cuts::on("one", |ground, case| {
        let two = ground.path("two.tar").display().to_string();
        let status = || {
            let said = case.installer(&["--json", "status"]);
            serde_json::from_str::<serde_json::Value>(said.out.trim()).unwrap()
        };
        cut_when_committed(ground, case, &["--yes", "install", &two]);
        assert_eq!(status()["products"][0]["release"], "2.0");
        let said = case.installer(&["--yes", "rollback"]).expect(0);
        assert!(said.out.contains("what is left of it is cleared first"), "{}", said.out);
        let now = status();
        assert_eq!((&now["products"][0]["release"], &now["unfinished"]), (&"1.0".into(), &serde_json::Value::Null));

        let uninstall = ["--yes", "uninstall", "--product", PRODUCT, "--with-data"];
        cut_when_committed(ground, case, &uninstall);
        let said = case.installer(&["--yes", "rollback"]).expect(8);
        let refused = format!("an earlier uninstall of {PRODUCT} is not over: it is committed");
        for part in [&refused, "run: installer resume; what is committed only goes forward"] {
            assert!(said.err.contains(part), "{part}: {}", said.err);
        }
        let told = case.installer(&["status"]).out;
        assert!(told.contains("committed; run installer resume\n"), "{told}");
        case.installer(&["--yes", "resume"]).expect(0);
        assert_eq!(status()["products"], serde_json::json!([]));
    });
}

#[test]
fn every_cut_is_recovered_from() {
    let choice = Choice::of_environment(EVERY);
    let tallies = run(FLOWS, &choice);
    let (mut made, mut failed) = (0, Vec::new());
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    for flow in FLOWS {
        let tally = &tallies[flow.name];
        let (kills, errors, unrecoverable) = (tally.kills, tally.errors, tally.unrecoverable.len());
        let ways: Vec<String> = tally.ways.iter().map(|(way, count)| format!("{count} by {way:?}")).collect();
        say(&format!(
            "cuts: {}: {kills} kills (recovered: {}), {errors} errors, {unrecoverable} unrecoverable ({} elsewhere or not reached)",
            flow.name,
            ways.join(", "),
            tally.missed
        ));
        let all_ways = flow.recoveries.iter().all(|way| tally.ways.contains_key(way));
        assert!(choice.only.is_some() || all_ways, "{}: not every way of recovery was taken", flow.name);
        for (class, count) in &tally.classes {
            *classes.entry(*class).or_default() += count;
        }
        made += kills + errors;
        failed.extend(tally.unrecoverable.iter());
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for text in &failed {
        *kinds.entry(signature(text)).or_default() += 1;
    }
    for (kind, count) in &kinds {
        say(&format!("cuts: {count} times: {kind}"));
    }
    let counts: Vec<String> = classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
    say(&format!("cuts: {}", counts.join(", ")));
    say(&format!("cuts: {made} cut points, {} unrecoverable", failed.len()));
    assert!(failed.is_empty(), "{} unrecoverable; the first:\n{}", failed.len(), failed[0]);
    assert!(choice.only.is_some() || made >= FLOOR, "only {made} cuts were made");
    let every_class = CLASSES.iter().all(|class| classes.contains_key(class));
    assert!(choice.only.is_some() || every_class, "a kind of operation was never cut: {classes:?}");
}
