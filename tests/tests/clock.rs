//! A clock that is set back, as by an empty battery on the board: what is kept for going back, and which
//! backups are kept, goes by the order in which they were made, never by what a clock said.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::digest::Sha256;
use bundle_format::manifest::Workload;
use bundle_format::pack::Encoding;
use serde_json::Value;
use system_tests::Draft;
use system_tests::high::High;

const PAST: &str = "2000-01-01 00:00:00";
/// One pod that does nothing, with one volume.
const POD: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: tc-data}\n---\napiVersion: v1\nkind: Pod\n\
                   metadata: {name: tc}\nspec:\n  containers: []\n  volumes: [{name: data, persistentVolumeClaim: {claimName: tc-data}}]\n";

/// A machine with the bundles `1` to `3`, whose data is backed up by copy; two backups are kept.
fn machine() -> High {
    let high = High::trusting(&system_tests::keys::two_of_three(), &[]);
    for sequence in 1..=3 {
        let mut draft = Draft::empty();
        let manifest = &mut draft.manifest;
        manifest.sequence = sequence;
        manifest.release = format!("{sequence}.0");
        manifest.requires = bundle_format::manifest::Requires { memory_mib: 1, disk_mib: 1 };
        manifest.network.internal = false;
        manifest.lifecycle.stable_seconds = 0;
        let data = serde_json::json!([{"volume": "tc-data", "backup": {"method": "copy"}, "keep": 2}]);
        manifest.lifecycle.data = serde_json::from_value(data).unwrap();
        manifest.workloads.push(Workload { name: "tc".into(), digest: Sha256::of(POD.as_bytes()) });
        draft.add_pack(Encoding::Raw, &[POD.as_bytes()]);
        high.bundle(&sequence.to_string(), &draft);
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
    high.installer_at("2000-01-02 00:00:00", &["--yes", "rollback"]).expect(0);
    assert_eq!(sequence(&high), 2);
    let written = high.path("engine/volumes/tc-data.g2/_data/written");
    assert_eq!(std::fs::read(written).unwrap(), b"under release 2", "with the data of its time");
    // And on from there, with the clock set right.
    high.installer(&["--yes", "rollback"]).expect(0);
    assert_eq!(sequence(&high), 3);
}
