//! What the trust root, the clock and the site's policy decide, by the real programs: two hands,
//! revoked keys, the way back from a sequence that should never have been, a wrong clock, two persons
//! who go past a refusal, each algorithm policy, the crypto report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::digest::Sha384;
use bundle_format::key::Scheme;
use bundle_format::pack::Encoding;
use bundle_format::root::{RootEnvelope, SequenceReset};
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;
use signing_keys::file::KeyFiles;
use system_tests::Draft;
use system_tests::high::{High, parse};
use system_tests::keys::{self, ada, alice, amos, bella, bob, carol};

const PRODUCT: &str = "test-product";

fn dave() -> Signer {
    keys::signer("test-dave", 4)
}

fn erin() -> Signer {
    keys::signer("test-erin", 5)
}

/// A bundle of one file, without workloads.
fn draft(sequence: u64, roots: &[RootEnvelope], signers: Vec<Signer>) -> Draft {
    let mut draft = Draft { roots: roots.to_vec(), signers, ..Draft::empty() };
    draft.manifest.sequence = sequence;
    draft.manifest.release = format!("{sequence}.0");
    draft.manifest.requires = bundle_format::manifest::Requires { memory_mib: 1, disk_mib: 1 };
    draft.manifest.lifecycle.stable_seconds = 0;
    draft.manifest.network.internal = false;
    draft.add_files(Encoding::Raw, &[format!("TEST {sequence}").as_bytes()]);
    draft
}

fn two() -> Vec<Signer> {
    vec![alice(), bob()]
}

/// Seals a TEST signer's keys for the builder's command line.
fn seal(high: &High, signer: &Signer) -> [String; 2] {
    let name = signer.name();
    KeyFiles::of(&high.path("keys"), name).write(signer, b"TEST passphrase").unwrap();
    high.write("keys/pass", b"TEST passphrase\n");
    [format!("keys/{name}"), "keys/pass".into()]
}

fn floor(high: &High) -> u64 {
    high.status()["products"][0]["floor"].as_u64().unwrap()
}

#[test]
fn who_builds_does_not_release() {
    let high = High::new();
    let public = |signer: &Signer| {
        let file = format!("keys/{}.signer.json", signer.name());
        high.write(&file, &signer.public().to_bytes().unwrap());
        file
    };
    let [a, b, c, d] = [alice(), bob(), bella(), carol()].map(|signer| public(&signer));
    let signed = |root: &str, signer: &Signer| {
        let [key, pass] = [format!("keys/{}", signer.name()), "keys/pass".into()];
        high.builder(&["root", "sign", root, "--key", &key, "--passphrase-file", &pass]).expect(0);
    };
    for signer in [alice(), bob(), bella(), carol()] {
        std::fs::remove_file(high.path(&format!("keys/{}.signer.json", signer.name()))).unwrap();
        seal(&high, &signer);
    }
    let init = ["root", "init", "--out", "r1.json", "--threshold", "2", "--expires", "2036-01-01T00:00:00Z"];
    let said = high.builder(&[&init[..], &["--signer", &a, "--signer", &b, "--builder-threshold", "1"]].concat());
    assert!(said.expect(2).err.contains("--builder-threshold needs a --builder-signer"));
    let said = high.builder(&[&init[..], &["--signer", &a, "--signer", &b, "--builder-signer", &a]].concat()).expect(3);
    assert!(said.err.contains("inconsistent"), "{}", said.err);
    high.builder(&[&init[..], &["--signer", &a, "--signer", &b, "--builder-signer", &c]].concat()).expect(0);
    for signer in [alice(), bob()] {
        signed("r1.json", &signer);
    }
    let shown = high.builder(&["root", "show", "r1.json"]).expect(0).out;
    assert!(shown.contains("threshold 1 of each algorithm for builders") && shown.contains("builder\n"), "{shown}");

    high.write("read-me", b"TEST file");
    high.write(
        "r.yaml",
        b"format: lockgate-release/1\nproduct: test-product\nrelease: \"1.0\"\nsequence: 1\nmarking: UNCLASSIFIED\n\
          platform: linux/amd64\ntitle: TEST\nrequires: {memory_mib: 1, disk_mib: 1}\nimages: []\n\
          network: {name: test, internal: true}\nsecrets: []\nworkloads: []\n\
          files: [{path: read-me, source: \"file:read-me\"}]\nruntime: []\n",
    );
    high.builder(&["pin", "r.yaml"]).expect(0);
    high.builder(&["build", "r.yaml", "--root", "r1.json", "--out", "b.tar"]).expect(0);
    let sign = |signer: &Signer| {
        let key = format!("keys/{}", signer.name());
        high.builder(&["sign", "b.tar", "--key", &key, "--passphrase-file", "keys/pass"])
    };
    sign(&alice()).expect(0);
    sign(&bob()).expect(0);
    let root = RootEnvelope::parse(&std::fs::read(high.path("r1.json")).unwrap()).unwrap();
    high.trust(&root, &[]).expect(0);
    let said = high.installer(&["verify", "b.tar"]).expect(4);
    assert!(said.err.contains("role builder needs 1"), "{}", said.err);
    let said = sign(&carol()).expect(4);
    assert!(said.err.contains("holds no role that signs bundles"), "{}", said.err);
    sign(&bella()).expect(0);
    let said = high.installer(&["verify", "b.tar"]).expect(0);
    assert!(said.out.contains("test-bella") && said.out.contains("test-alice"), "{}", said.out);

    // The next version: the builder goes, nobody builds any more, two hands are not needed.
    let rotate = ["root", "rotate", "r1.json", "--out", "r2.json", "--remove", "test-bella", "--add", &d];
    high.builder(&rotate).expect(0);
    let shown = high.builder(&["root", "show", "r2.json"]).expect(0).out;
    assert!(!shown.contains("builder") && shown.contains("test-carol"), "{shown}");
    let again = ["root", "rotate", "r1.json", "--out", "r3.json", "--reset-sequence", "test-product=7:2"];
    high.builder(&again).expect(0);
    let shown = high.builder(&["root", "show", "r3.json"]).expect(0).out;
    assert!(shown.contains("resets the floor of test-product to sequence 7, security epoch 2"), "{shown}");
    assert!(shown.contains("threshold 1 of each algorithm for builders"), "the role stays: {shown}");
}

/// Version 2: new release keys, the sequence goes back to 6.
fn reset_root(holders: &[&Signer]) -> RootEnvelope {
    let reset = SequenceReset { product: PRODUCT.into(), sequence: 6, security_epoch: None };
    let root = keys::root(2, 2, holders).with_resets(&[reset]).unwrap();
    let mut envelope = RootEnvelope::unsigned(root);
    for signer in [alice(), carol(), dave()] {
        signer.sign_root(&mut envelope).unwrap();
    }
    envelope
}

#[test]
fn the_way_back_from_a_sequence_that_should_never_have_been() {
    const FAR: u64 = 1 << 62;
    let one = keys::two_of_three();
    let high = High::trusting(&one, &[]);
    high.bundle("5", &draft(5, std::slice::from_ref(&one), two()));
    high.bundle("6-old", &draft(6, std::slice::from_ref(&one), two()));
    let mut far = draft(FAR, std::slice::from_ref(&one), two());
    far.manifest.created = Timestamp::parse("2035-01-01T00:00:00Z").unwrap();
    high.bundle("far", &far);
    high.installer(&["--yes", "install", "5"]).expect(0);
    assert_eq!(floor(&high), 5);
    let said = high.installer(&["--yes", "install", "5"]).expect(0);
    assert!(said.out.contains("this very bundle is active"), "{}", said.out);
    high.installer(&["--yes", "install", "far"]).expect(0);
    assert_eq!(floor(&high), FAR);
    assert_eq!(
        high.status()["clock"]["floor"],
        "2035-01-01T00:00:00Z",
        "its signed time counts, as long as it is believed"
    );
    let said = high.installer(&["--yes", "install", "6-old"]).expect(5);
    assert!(said.err.contains("sequence 6 is below the floor 4611686018427387904"), "{}", said.err);

    // A reset that leaves the stolen keys in is no way back.
    let kept = reset_root(&[&alice(), &bob(), &dave()]);
    high.bundle("kept", &draft(6, &[one.clone(), kept], two()));
    let said = high.installer(&["--yes", "install", "kept"]).expect(4);
    assert!(said.err.contains("resets sequences and keeps 2"), "{}", said.err);
    assert_eq!(high.status()["trust_root"]["version"], 1, "nothing was taken");

    let chain = [one.clone(), reset_root(&[&carol(), &dave(), &erin()])];
    let new = |sequence| draft(sequence, &chain, vec![dave(), erin()]);
    for (name, sequence) in [("5-new", 5), ("6", 6), ("7", 7), ("9", 9)] {
        high.bundle(name, &new(sequence));
    }
    high.installer(&["verify", "6"]).expect(0);
    assert_eq!(floor(&high), FAR, "to look at it lowers nothing");
    let said = high.installer(&["verify", "5-new"]).expect(5);
    assert!(said.err.contains("below the floor 6"), "{}", said.err);
    high.installer(&["--yes", "install", "6"]).expect(0);
    let status = high.status();
    assert_eq!((&status["products"][0]["floor"], &status["trust_root"]["version"]), (&6.into(), &2.into()));
    assert_ne!(status["clock"]["floor"], "2035-01-01T00:00:00Z", "a time that revoked keys signed is forgotten");
    let taken = high.records().into_iter().find(|(act, ..)| act == "trust root").unwrap();
    assert_eq!(taken.1, "ok");
    assert!(
        taken.2.contains("version 2 follows; floor of test-product lowered from sequence 4611686018427387904 to 6"),
        "{}",
        taken.2
    );
    for (name, says) in [("far", "which trust root version 2 does not list"), ("6-old", "does not list")] {
        let said = high.installer(&["--yes", "install", name]).expect(4);
        assert!(said.err.contains(says), "{name}: {}", said.err);
    }
    // Nobody goes back to what was reset away, and the floor does not rise by going back elsewhere.
    let generations = high.status()["products"][0]["generations"].clone();
    let far = generations.as_array().unwrap().iter().find(|g| g["sequence"] == FAR).unwrap()["id"].to_string();
    let said = high.installer(&["--yes", "rollback", "--to", &far]).expect(5);
    assert!(said.err.contains("above the sequence that the trust root went back to"), "{}", said.err);
    let said = high.installer(&["--yes", "rollback"]);
    assert!(said.code == 2 && said.err.contains("not kept"), "the far one is no default: {said:?}");
    // The reset is taken once: from here on the floor rises as ever.
    high.installer(&["--yes", "install", "9"]).expect(0);
    let said = high.installer(&["--yes", "install", "7"]).expect(5);
    assert!(said.err.contains("below the floor 9"), "{}", said.err);
    high.installer(&["audit", "verify"]).expect(0);
}

#[test]
fn a_wrong_clock() {
    let far = |version: u64, expires: &str, holders: &[&Signer]| {
        let time = |text| Timestamp::parse(text).unwrap();
        let made = bundle_format::root::TrustRoot::new(
            version,
            time("2026-01-01T00:00:00Z"),
            time(expires),
            2,
            &keys::holders(holders),
        );
        keys::signed_by_two(made.unwrap())
    };
    let high = High::new();
    let fresh = parse(&high.installer_at("2016-01-01 00:00:00", &["--json", "status"]));
    assert_eq!(fresh["clock"]["suspect"], true);
    assert_eq!(fresh["clock"]["floor_from"], "this program's release");

    // An intermediate root that expired long ago does not matter; the last one does.
    let chain = [
        far(1, "2026-02-01T00:00:00Z", &[&alice(), &bob(), &carol()]),
        far(2, "2036-01-01T00:00:00Z", &[&alice(), &bob(), &dave()]),
    ];
    high.trust(&chain[0], &[]).expect(0);
    high.bundle("good", &draft(1, &chain, two()));
    high.bundle("old-root", &draft(1, &chain[..1], two()));
    high.installer(&["verify", "good"]).expect(0);
    let said = high.installer(&["verify", "old-root"]).expect(5);
    assert!(said.err.contains("trust root version 1: expired at 2026-02-01T00:00:00Z"), "{}", said.err);
    let mut expired = draft(2, &chain, two());
    expired.manifest.expires = Some(Timestamp::parse("2026-11-01T00:00:00Z").unwrap());
    high.bundle("expired", &expired);
    let floor = high.status()["clock"]["floor"].as_str().unwrap().to_owned();
    assert_eq!(high.status()["clock"]["suspect"], false);

    // Ten years back: said, judged by the floor, and on record once something is to be changed.
    let back = "2016-11-25 00:00:00";
    let said = high.installer_at(back, &["--json", "verify", "good"]).expect(0);
    assert_eq!(parse(&said)["clock"]["suspect"], true);
    let said = high.installer_at(back, &["verify", "good"]).expect(0);
    assert!(said.out.contains("CLOCK SUSPECT: the clock says 2016-11-25T00:00:00Z"), "{}", said.out);
    let said = high.installer_at(back, &["verify", "expired"]).expect(5);
    assert!(said.err.contains(&format!("expired at 2026-11-01T00:00:00Z, the time is {floor}")), "{}", said.err);
    assert!(high.installer_at(back, &["status"]).out.contains("CLOCK SUSPECT"));
    assert!(high.records().iter().all(|(act, ..)| act != "clock suspect"), "looking writes nothing");
    high.installer_at(back, &["--yes", "install", "expired"]).expect(5);
    let records = high.records();
    let place = records.iter().position(|(act, ..)| act == "clock suspect").unwrap();
    assert_eq!((records[place].1.as_str(), records[place + 1].0.as_str()), ("failed", "install"));
    assert!(records[place].2.contains("2016-11-25T00:00:00Z"), "{}", records[place].2);

    // To the second.
    let floor = high.status()["clock"]["floor"].as_str().unwrap().to_owned();
    let seconds = Timestamp::parse(&floor).unwrap().to_unix();
    let suspect = |seconds: u64| {
        let text = Timestamp::from_unix(seconds).to_string().replace('T', " ").replace('Z', "");
        parse(&high.installer_at(&text, &["--json", "status"]))["clock"].clone()
    };
    assert_eq!(suspect(seconds)["suspect"], false);
    let behind = suspect(seconds - 1);
    assert_eq!((&behind["suspect"], &behind["judged_at"]), (&true.into(), &floor.as_str().into()));
    // The right clock again: nothing is left of it.
    high.installer(&["verify", "good"]).expect(0);
    high.installer(&["--yes", "install", "good"]).expect(0);

    // Ten years on: the root is over. That refusal is a record, so the floor is there from now on.
    let said = high.installer_at("2036-11-25 00:00:00", &["verify", "good"]).expect(5);
    assert!(said.err.contains("trust root version 2: expired"), "{}", said.err);
    let clock = high.status()["clock"].clone();
    assert_eq!((&clock["suspect"], &clock["floor"]), (&true.into(), &"2036-11-25T00:00:00Z".into()));
    high.installer(&["verify", "good"]).expect(5);
}

/// Makes the approval of `plan.json` by `signer` with the real builder.
fn approve(high: &High, signer: &Signer, out: &str) {
    let [key, pass] = seal(high, signer);
    let args =
        ["approve", "plan.json", "--reason", "TEST reason", "--out", out, "--key", &key, "--passphrase-file", &pass];
    let said = high.builder(&args).expect(0);
    assert!(said.out.contains("DANGEROUS: accept-rollback") && said.out.contains("sequence 3"), "{}", said.out);
    assert!(said.err.starts_with("UNCLASSIFIED\n") && said.err.ends_with("UNCLASSIFIED\n"), "{}", said.err);
}

#[test]
fn two_persons_go_past_a_refusal() {
    const FLAG: &str = "--dangerous-accept-rollback";
    let one = keys::root_with_approvers();
    let high = High::trusting(&one, &[]);
    let chain = [one];
    for sequence in [3, 5, 6] {
        high.bundle(&sequence.to_string(), &draft(sequence, &chain, two()));
    }
    let mut secret = draft(3, &chain, two());
    secret.manifest.marking = bundle_format::marking::Marking::parse("SECRET").unwrap();
    high.bundle("secret", &secret);
    high.installer(&["--yes", "install", "5"]).expect(0);
    high.installer(&["--yes", "install", "3"]).expect(5);
    let said = high.installer(&["--yes", "install", "3", FLAG]).expect(4);
    assert!(said.err.contains("role approve needs 2"), "{}", said.err);
    let said = high.installer(&["--yes", "install", "6", FLAG]).expect(2);
    assert!(said.err.contains("nothing here is refused"), "{}", said.err);
    let said = high.installer(&["--yes", "install", "secret", FLAG]).expect(5);
    assert!(said.err.contains("above the site's accreditation"), "no flag goes past a marking: {}", said.err);
    let said = high.installer(&["--yes", "install", "3", "--dangerous-accept-expired"]).expect(5);
    assert!(said.err.contains("below the floor"), "{}", said.err);

    high.installer(&["plan", "6", "--out", "harmless.json"]).expect(0);
    let [key, pass] = seal(&high, &keys::mallory());
    let args = ["approve", "harmless.json", "--reason", "x", "--out", "x", "--key", &key, "--passphrase-file", &pass];
    assert!(high.builder(&args).expect(2).err.contains("nobody needs to approve it"));
    let planned = parse(&high.installer(&["--json", "plan", "3", FLAG, "--out", "plan.json"]).expect(0));
    let bytes = std::fs::read(high.path("plan.json")).unwrap();
    assert_eq!(planned["plan_sha384"], Sha384::of(&bytes).to_string(), "sha384sum of the file is what is approved");
    assert_eq!(planned["dangerous"][0], "accept-rollback");
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let shown = high.installer(&["--json", "audit", "key"]).expect(0).out;
    assert_eq!(document["machine"], Sha384::of(shown.as_bytes()).to_string(), "an approval is for one machine");
    high.installer(&["plan", "3", FLAG, "--out", "plan.json"]).expect(6);

    approve(&high, &ada(), "ada.json");
    approve(&high, &amos(), "amos.json");
    let install = |more: &[&str]| high.installer(&[&["--yes", "install", "3", FLAG], more].concat());
    let with = |files: &[&str]| install(&files.iter().flat_map(|file| ["--approval", file]).collect::<Vec<_>>());
    assert!(with(&["ada.json"]).expect(4).err.contains("role approve needs 2"));
    assert!(with(&["ada.json", "ada.json"]).expect(4).err.contains("appears twice"));
    let said = high.installer(&["--yes", "install", "6", "--approval", "ada.json"]).expect(2);
    assert!(said.err.contains("without a --dangerous- flag"), "{}", said.err);
    let said = high.installer_at(
        "2026-12-25 00:00:00",
        &["--yes", "install", "3", FLAG, "--approval", "ada.json", "--approval", "amos.json"],
    );
    assert!(said.expect(5).err.contains("at most 24 hours"));
    assert_eq!(high.status()["products"][0]["sequence"], 5, "nothing was done so far");
    // The time of that refusal is on record: the approvals are of another month now.
    assert!(with(&["ada.json", "amos.json"]).expect(5).err.contains("at most 24 hours"));
    high.installer(&["audit", "verify"]).expect(0);
}

#[test]
fn two_persons_approve_exactly_this_plan() {
    const FLAG: &str = "--dangerous-accept-rollback";
    let one = keys::root_with_approvers();
    let high = High::trusting(&one, &[]);
    let chain = [one];
    for sequence in [3, 5, 6] {
        high.bundle(&sequence.to_string(), &draft(sequence, &chain, two()));
    }
    high.installer(&["--yes", "install", "5"]).expect(0);
    high.installer(&["plan", "3", FLAG, "--out", "plan.json"]).expect(0);
    approve(&high, &ada(), "ada.json");
    approve(&high, &amos(), "amos.json");
    let both = ["--yes", "install", "3", FLAG, "--approval", "ada.json", "--approval", "amos.json"];
    high.installer(&["--yes", "install", "6"]).expect(0);
    let said = high.installer(&both).expect(5);
    assert!(said.err.contains("expected plan SHA-384"), "the plan changed since: {}", said.err);
    // Back to 5 by rollback; what is planned differs still, because the floor is 6 by now.
    std::fs::rename(high.path("plan.json"), high.path("former.json")).unwrap();
    for name in ["ada", "amos"] {
        std::fs::remove_file(high.path(&format!("{name}.json"))).unwrap();
    }
    std::fs::remove_dir_all(high.path("keys")).unwrap();
    std::fs::create_dir(high.path("keys")).unwrap();
    high.installer(&["plan", "3", FLAG, "--out", "plan.json"]).expect(0);
    approve(&high, &ada(), "ada.json");
    approve(&high, &amos(), "amos.json");
    high.installer(&both).expect(0);
    let status = high.status();
    assert_eq!((&status["products"][0]["sequence"], &status["products"][0]["floor"]), (&3.into(), &6.into()));
    let (act, result, detail) = high.records().into_iter().rev().find(|(_, result, _)| result == "begun").unwrap();
    assert_eq!((act.as_str(), result.as_str()), ("install", "begun"));
    assert!(detail.starts_with("DANGEROUS accept-rollback; approved by test-ada at "), "{detail}");
    assert!(detail.contains(": TEST reason; test-amos at "), "{detail}");
    let said = high.installer(&["--yes", "install", "5"]).expect(5);
    assert!(said.err.contains("below the floor 6"), "the door is shut again: {}", said.err);

    // Expiry, by approvals made in memory; and a site whose root names no approvers.
    let mut expired = draft(7, &chain, two());
    expired.manifest.expires = Some(Timestamp::parse("2026-11-01T00:00:00Z").unwrap());
    high.bundle("expired", &expired);
    let flag = "--dangerous-accept-expired";
    let planned = high.installer(&["--json", "plan", "expired", flag]).expect(0);
    let sha384 = Sha384::parse(parse(&planned)["plan_sha384"].as_str().unwrap()).unwrap();
    for signer in [ada(), amos()] {
        let text = bundle_format::approval::Approval::new(sha384, signer.name(), "TEST", installer::proof::clock());
        let mut made = bundle_format::approval::UnverifiedApproval::new(text.unwrap()).unwrap();
        signer.sign_approval(&mut made).unwrap();
        high.write(&format!("{}.approval", signer.name()), &made.to_bytes().unwrap());
    }
    high.installer(&["--yes", "install", "expired"]).expect(5);
    let approvals = ["--approval", "test-ada.approval", "--approval", "test-amos.approval"];
    high.installer(&[&["--yes", "install", "expired", flag], &approvals[..]].concat()).expect(0);
    let plain = High::trusting(&keys::two_of_three(), &[]);
    expired.roots = vec![keys::two_of_three()];
    plain.bundle("expired", &expired);
    let said = plain.installer(&["--yes", "install", "expired", flag]).expect(4);
    assert!(said.err.contains("names no keys for role approve"), "{}", said.err);
}

#[test]
fn each_policy_of_a_site() {
    let root = keys::two_of_three();
    let only = |scheme: Scheme| {
        let draft = draft(1, std::slice::from_ref(&root), two());
        let text = draft.text().into_bytes();
        let mut signatures = draft.signatures(&text);
        signatures.retain(|signature| signature.scheme() == scheme);
        draft.sealed_with(text, signatures).archive()
    };
    let (ed25519, ml_dsa) = (only(Scheme::Ed25519), only(Scheme::MlDsa87));
    for (algorithms, with_ed25519, with_ml_dsa) in [("hybrid", 4, 4), ("cnsa2", 4, 0), ("ed25519", 0, 4)] {
        let high = High::new();
        high.write("p.yaml", format!("format: lockgate-policy/1\nalgorithms: {algorithms}\n").as_bytes());
        let said = high.trust(&root, &["--policy", "p.yaml"]).expect(0);
        assert!(said.out.contains(&format!("policy: algorithms {algorithms}; require nothing")), "{}", said.out);
        high.write("both", &draft(1, std::slice::from_ref(&root), two()).archive());
        high.write("ed25519", &ed25519);
        high.write("ml-dsa", &ml_dsa);
        high.installer(&["verify", "both"]).expect(0);
        for (bundle, code) in [("ed25519", with_ed25519), ("ml-dsa", with_ml_dsa)] {
            let said = high.installer(&["verify", bundle]).expect(code);
            assert!(code == 0 || said.err.contains("role release needs 2 distinct"), "{algorithms}: {}", said.err);
            high.installer(&["plan", bundle]).expect(code);
        }
        let one_signer = draft(1, std::slice::from_ref(&root), vec![alice()]);
        high.bundle("one", &one_signer);
        high.installer(&["verify", "one"]).expect(4);
        assert_eq!(parse(&high.installer(&["--json", "policy", "show"]).expect(0))["algorithms"], algorithms);
    }
}

#[test]
fn policy_files() {
    let root = keys::two_of_three();
    let high = High::new();
    high.write("p.yaml", b"format: lockgate-policy/1\nrequire: [luck]\n");
    high.installer(&["policy", "set", "p.yaml"]).expect(4);
    assert!(high.trust(&root, &["--policy", "p.yaml"]).expect(2).err.contains("luck"));
    high.trust(&root, &[]).expect(0);
    // With an image: a release without any lacks no SBOM.
    high.bundle("b", &Draft { roots: vec![root], signers: two(), ..Draft::small() });
    high.installer(&["verify", "b"]).expect(0);
    high.installer(&["policy", "set", "p.yaml"]).expect(2);
    assert!(high.records().iter().all(|(act, ..)| act != "policy"), "a file that does not parse is no change");
    for what in ["sbom", "provenance", "signed-provenance"] {
        high.write("p.yaml", format!("format: lockgate-policy/1\nrequire: [{what}]\n").as_bytes());
        high.installer(&["policy", "set", "p.yaml"]).expect(0);
        let said = high.installer(&["verify", "b"]).expect(5);
        assert!(said.err.contains(&format!("requires {what}")), "{}", said.err);
    }
    let records = high.records();
    let policy: Vec<_> = records
        .iter()
        .filter(|(act, ..)| act == "policy")
        .map(|(_, result, detail)| (result.as_str(), detail.as_str()))
        .collect();
    let taken = ["sbom", "provenance", "signed-provenance"].map(|word| format!("algorithms hybrid; require {word}"));
    let expected: Vec<_> = taken.iter().flat_map(|line| [("begun", line.as_str()), ("ok", line)]).collect();
    assert_eq!(policy, expected);

    high.write("state/policy.yaml", b"format: lockgate-policy/1\n");
    let said = high.installer(&["verify", "b"]).expect(5);
    assert!(said.err.contains("not the policy on record"), "edited behind the record: {}", said.err);
    assert!(high.installer(&["status"]).expect(8).out.contains("not the policy on record"));
    high.write("p.yaml", b"format: lockgate-policy/1\n");
    high.installer(&["policy", "set", "p.yaml"]).expect(0);
    high.installer(&["verify", "b"]).expect(0);
    high.installer(&["audit", "verify"]).expect(0);
}

/// Parts of crates' names that say cryptography.
const CRYPTOGRAPHY: [&str; 43] = [
    "25519", "aead", "aes", "argon", "blake", "bls", "chacha", "cipher", "cmov", "crypt", "ctutils", "curve", "dalek",
    "des", "dh", "digest", "dsa", "fips", "gcm", "ghash", "hash", "hkdf", "hmac", "kdf", "keccak", "kem", "lattice",
    "md5", "openssl", "p256", "p384", "pki", "poly1305", "rand", "ring", "rsa", "salsa", "sha", "sign", "sodium",
    "subtle", "tls", "zeroize",
];

/// Sealed key files are the low side's. Cargo gives `pkcs8` the same features in all programs of one build.
const KEY_FILES: &str = "below pkcs8, which opens sealed key files on the low side; nothing in the installer calls it";

/// Linked crates whose names say cryptography and that compute none here; every other is in the report.
const NO_CRYPTOGRAPHY: &[(&str, &str)] = &[
    ("aead", KEY_FILES),
    ("aes", KEY_FILES),
    ("aes-gcm", KEY_FILES),
    ("cipher", KEY_FILES),
    ("ghash", KEY_FILES),
    ("pbkdf2", KEY_FILES),
    ("salsa20", KEY_FILES),
    ("scrypt", KEY_FILES),
    ("spki", KEY_FILES),
    ("universal-hash", KEY_FILES),
    ("cmov", "moves and compares without branches; computes nothing secret itself"),
    ("crypto-common", "traits"),
    ("ctutils", "compares without branches; below ml-dsa's arrays"),
    ("curve25519-dalek-derive", "a macro; runs when the program is built"),
    ("digest", "traits"),
    ("ed25519", "traits and the form of a signature; ed25519-dalek computes it"),
    ("fastrand", "names of temporary files; no secret comes of it"),
    ("foldhash", "tables in memory"),
    ("hashbrown", "tables in memory"),
    ("hashlink", "tables in memory"),
    ("rand_core", "traits"),
    ("rustls-pki-types", "types of certificates and keys, for rcgen; no TLS is linked"),
    ("signal-hook", "signals of the kernel"),
    ("signal-hook-registry", "signals of the kernel"),
    ("signature", "traits"),
    ("subtle", "compares without branches"),
    ("zeroize_derive", "a macro; runs when the program is built"),
];

#[test]
fn the_crypto_report_is_of_this_lock() {
    let high = High::new();
    let report = parse(&high.installer(&["--json", "crypto-report"]).expect(0));
    assert_eq!(report["compliance_claimed"], false);
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .other_options(["--locked", "--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(String::from))
        .exec()
        .unwrap();
    // What is linked into the installer, by the resolved graph.
    let nodes = &metadata.resolve.as_ref().unwrap().nodes;
    let package = |id: &cargo_metadata::PackageId| metadata.packages.iter().find(|p| p.id == *id).unwrap();
    let mut open = vec![&metadata.packages.iter().find(|p| p.name.as_str() == "installer").unwrap().id];
    let mut linked = std::collections::BTreeSet::new();
    while let Some(id) = open.pop() {
        let reached = package(id);
        if linked.insert((reached.name.as_str(), reached.version.to_string())) {
            let deps = &nodes.iter().find(|node| node.id == *id).unwrap().deps;
            let is_linked = |dep: &&cargo_metadata::NodeDep| {
                dep.dep_kinds.iter().any(|kind| kind.kind == cargo_metadata::DependencyKind::Normal)
            };
            open.extend(deps.iter().filter(is_linked).map(|dep| &dep.pkg));
        }
    }
    let modules = report["modules"].as_array().unwrap();
    let mut reported = std::collections::BTreeSet::new();
    for module in modules {
        let (name, version) = (module["crate"].as_str().unwrap(), module["version"].as_str().unwrap());
        assert!(linked.contains(&(name, version.to_owned())), "{name} {version} is not linked");
        assert!(reported.insert((name, version.to_owned())), "{name} {version} twice");
        assert_eq!(module["checksum"].as_str().unwrap().len(), 64, "{name}");
        assert_eq!(module["certificate"], "none known (CAVP, CMVP)");
    }
    // And the other way round: what is linked and sounds like cryptography is there, or excused.
    let sounds = |name: &str| CRYPTOGRAPHY.iter().any(|word| name.contains(word));
    let excused = |name: &str| NO_CRYPTOGRAPHY.iter().any(|(other, _)| *other == name);
    let left_out: Vec<_> =
        linked.iter().filter(|one| sounds(one.0) && !excused(one.0) && !reported.contains(*one)).collect();
    assert!(left_out.is_empty(), "linked, and not in the report: {left_out:?}");
    for (name, why) in NO_CRYPTOGRAPHY {
        let needed = sounds(name) && linked.iter().any(|one| one.0 == *name);
        assert!(needed && !why.is_empty(), "{name}: this excuse is needed no more");
    }
    let versions = |name: &str| reported.iter().filter(|one| one.0 == name).count();
    assert_eq!((versions("keccak"), versions("getrandom")), (2, 2), "each in both of its versions");
    let said = high.installer(&["crypto-report"]).expect(0);
    assert!(said.err.starts_with("UNCLASSIFIED\n") && said.err.ends_with("UNCLASSIFIED\n"), "{}", said.err);
    for word in ["ML-DSA-87 (FIPS 204), pure", "second of two", "claims no compliance", "FIPS mode"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
}
