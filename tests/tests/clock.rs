//! A clock that is set back, as by an empty battery on the board: what is kept for going back, and which
//! backups are kept, goes by the order in which they were made, never by what a clock said.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use serde_json::Value;
use system_tests::Draft;
use system_tests::high::{High, parse};

const PAST: &str = "@2000-01-01 00:00:00";

/// A machine with the bundles `1` to `3`, whose data is backed up by copy; two backups are kept.
fn machine() -> High {
    let high = High::trusting(&system_tests::keys::two_of_three(), &[]);
    for sequence in 1..=3 {
        high.bundle(&sequence.to_string(), &Draft::pod(sequence));
    }
    high
}

fn sequence(high: &High) -> Value {
    high.status()["products"][0]["sequence"].clone()
}

#[test]
fn the_release_that_ran_last_stays_to_go_back_to() {
    let high = machine();
    for bundle in ["1", "2"] {
        high.installer(&["--yes", "install", bundle]).expect(0);
    }
    high.write("engine/volumes/tc-data.g2/_data/written", b"under release 2");
    high.installer_at(PAST, &["--yes", "install", "3"]).expect(0);
    let kept = high.status()["products"][0]["generations"].clone();
    let kept: Vec<_> = kept.as_array().unwrap().iter().map(|kept| kept["sequence"].clone()).collect();
    assert_eq!(kept, [3, 2]);
    high.installer_at("@2000-01-02 00:00:00", &["--yes", "rollback"]).expect(0);
    assert_eq!(sequence(&high), 2);
    let written = high.path("engine/volumes/tc-data.g2/_data/written");
    assert_eq!(std::fs::read(written).unwrap(), b"under release 2", "with the data of its time");
    // And on from there, with the clock set right.
    high.installer(&["--yes", "rollback"]).expect(0);
    assert_eq!(sequence(&high), 3);
}

/// Folders and releases of the backups, oldest first.
fn backups(high: &High) -> Vec<(String, String)> {
    let listed = parse(&high.installer(&["--json", "backup", "list"]).expect(0));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    listed["backups"].as_array().unwrap().iter().map(|one| (text(&one["path"]), text(&one["release"]))).collect()
}

#[test]
fn the_newest_backup_stays_whatever_the_clock_says() {
    let high = machine();
    high.installer(&["--yes", "install", "1"]).expect(0);
    let make = |time: Option<&str>| {
        let args = ["--json", "backup", "make"];
        let said = time.map_or_else(|| high.installer(&args), |time| high.installer_at(time, &args)).expect(0);
        parse(&said)["backup"].as_str().unwrap().to_owned()
    };
    let (first, second) = (make(None), make(None));
    // As an installer of before these numbers named its folders.
    let old = high.path("state/backups/test-product/2026-10-01T000000Z-g1");
    std::fs::rename(&first, &old).unwrap();
    let folders = |high: &High| backups(high).into_iter().map(|(folder, _)| folder).collect::<Vec<_>>();
    let listed = folders(&high);
    assert!(listed[0].ends_with("2026-10-01T000000Z-g1") && listed[1] == second, "{listed:?}");
    let third = make(Some(PAST));
    assert_eq!(folders(&high), [second, third.clone()], "the oldest goes");
    let fourth = make(Some(PAST));
    assert_eq!(folders(&high), [third, fourth.clone()], "also where the clock stands");
    // The one before an update, which is what the update is taken back to on the day.
    high.installer_at("@1999-01-01 00:00:00", &["--yes", "install", "2"]).expect(0);
    let listed = backups(&high);
    assert_eq!((listed.len(), &listed[0].0), (2, &fourth));
    high.installer(&["backup", "verify", &listed[1].0]).expect(0);
    let fifth = make(None);
    let listed = backups(&high);
    assert_eq!((&listed[1].0, listed[1].1.as_str(), listed[0].1.as_str()), (&fifth, "2.0", "1.0"));
}

#[test]
fn a_signed_time_of_a_root_is_a_floor() {
    use bundle_format::root::TrustRoot;
    use bundle_format::timestamp::Timestamp;
    use system_tests::keys::{alice, bob, carol, holders, signed_by_two};

    let issued = |version, issued| {
        let time = |text| Timestamp::parse(text).unwrap();
        let holders = holders(&[&alice(), &bob(), &carol()]);
        signed_by_two(TrustRoot::new(version, time(issued), time("2046-01-01T00:00:00Z"), 2, &holders).unwrap())
    };
    let clock = |high: &High| {
        let clock = high.status()["clock"].clone();
        (clock["floor"].as_str().unwrap().to_owned(), clock["floor_from"].as_str().unwrap().to_owned())
    };
    let signed = |time: &str| (time.to_owned(), "the newest signed time that was accepted".to_owned());
    let first = issued(1, "2035-01-01T00:00:00Z");
    let high = High::trusting(&first, &[]);
    assert_eq!(clock(&high), signed("2035-01-01T00:00:00Z"), "the root that the site began with");
    // Of a newer root, which came with a release of before.
    let mut draft = Draft { roots: vec![first, issued(2, "2036-01-01T00:00:00Z")], ..Draft::pod(1) };
    draft.manifest.created = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
    high.bundle("1", &draft);
    high.installer(&["--yes", "install", "1"]).expect(0);
    assert_eq!(clock(&high), signed("2036-01-01T00:00:00Z"), "the newest root");
    assert_eq!(high.status()["clock"]["suspect"], true);
}
