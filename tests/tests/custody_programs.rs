//! The chain of custody, the papers and the receipt, worked by the real programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::digest::Sha384;
use bundle_format::set::SetList;
use system_tests::custody::set;
use system_tests::site::{Said, Site};
use system_tests::{Draft, keys};

/// What our own signature file calls infected.
const MARKER: &str = "LOCKGATE-TEST-PATTERN-NOT-A-VIRUS";

/// A site whose root names the agents tina, theo and tess, two of whom must sign.
fn site(port: u16) -> Site {
    let site = Site::new(port);
    let mut init: Vec<String> =
        ["root", "init", "--out", "root-t.json", "--threshold", "2"].map(str::to_owned).to_vec();
    init.extend(["--expires".into(), "2036-01-01T00:00:00Z".into()]);
    for name in ["alice", "bob", "carol"] {
        init.extend(["--signer".into(), format!("keys/{name}.signer.json")]);
    }
    for name in ["tina", "theo", "tess"] {
        let pass = format!("keys/{name}.pass");
        std::fs::write(site.path(&pass), format!("TEST passphrase of {name}\n")).unwrap();
        site.builder(&["keygen", "--name", name, "--out", "keys", "--passphrase-file", &pass]).expect(0);
        init.extend(["--transfer-signer".into(), format!("keys/{name}.signer.json")]);
    }
    site.builder(&init.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
    for name in ["alice", "bob"] {
        key(&site, &["root", "sign", "root-t.json"], name).expect(0);
    }
    site
}

/// Runs a command of `bundle-builder` that takes a key.
fn key(site: &Site, command: &[&str], name: &str) -> Said {
    let (key, pass) = (format!("keys/{name}"), format!("keys/{name}.pass"));
    site.builder(&[command, &["--key", &key, "--passphrase-file", &pass]].concat())
}

/// Trusts the root with agents.
fn trust(site: &Site) {
    let said = site.builder(&["--json", "root", "show", "root-t.json"]).expect(0);
    let parsed: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let fingerprint = parsed["sha384"].as_str().unwrap();
    site.installer(&["trust", "init", "root-t.json", "--fingerprint", fingerprint]).expect(0);
}

/// Writes a set's folder by hand.
fn write_set(site: &Site, folder: &str, marking: &str, contents: &[&[u8]; 3]) -> SetList {
    let list = set(marking, contents);
    std::fs::create_dir(site.path(folder)).unwrap();
    std::fs::write(site.path(folder).join("set.json"), list.to_bytes().unwrap()).unwrap();
    for (file, content) in list.files.iter().zip(contents) {
        std::fs::write(site.path(folder).join(&file.name), content).unwrap();
    }
    list
}

/// Fills in the form; later arguments win over none, so each is given once.
fn hand_over(site: &Site, folder: &str, from: (&str, &str), to: (&str, &str), more: &[&str]) -> Said {
    let form = [
        "custody",
        "hand-over",
        folder,
        "--log-number",
        "TEST-2026-0042",
        "--from-system",
        from.0,
        "--from-marking",
        from.1,
        "--to-system",
        to.0,
        "--to-marking",
        to.1,
        "--data-owner",
        "TEST program office",
        "--justification",
        "TEST ticket 4711",
        "--appointment",
        "TEST letter 12",
        "--media",
        "type=dvd,label=TEST-A,volumes=1-2,finalised=yes",
        "--media",
        "type=usb,label=TEST-B,volumes=3,finalised=no",
        "--giver",
        "name=Doe, Tina,id=1000000001,role=DTA,holder=tina",
        "--receiver",
        "name=Roe, Theo,id=1000000002,role=DTA,holder=theo",
    ];
    site.builder(&[&form, more].concat())
}

const BUILD: (&str, &str) = ("TEST build", "SECRET");
const ENCLAVE: (&str, &str) = ("TEST enclave", "TOP SECRET");

fn sign(site: &Site, folder: &str, names: &[&str]) {
    for name in names {
        key(site, &["custody", "sign", folder], name).expect(0);
    }
}

/// Copies a set's folder and changes the copy.
fn copied(site: &Site, name: &str, edit: impl FnOnce(&std::path::Path)) -> String {
    let folder = site.path(name);
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(site.path("set")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    edit(&folder);
    name.to_owned()
}

fn edit_lines(folder: &std::path::Path, edit: impl FnOnce(Vec<String>) -> Vec<String>) {
    let path = folder.join("custody.jsonl");
    let lines = std::fs::read_to_string(&path).unwrap().split_inclusive('\n').map(str::to_owned).collect();
    std::fs::write(path, edit(lines).concat()).unwrap();
}

#[test]
fn two_hand_overs_are_proved_on_import_and_every_damage_is_refused() {
    let site = site(47131);
    let list = write_set(&site, "set", "SECRET", &[b"volume one", b"volume two", b"parity"]);
    site.installer(&["custody", "verify", "set"]).expect(4);
    hand_over(&site, "set", BUILD, ENCLAVE, &[]).expect(0);
    // A record that nobody signed is a draft.
    let said = hand_over(&site, "set", BUILD, ENCLAVE, &["--disposition", "TEST keep"]).expect(0);
    assert!(said.out.starts_with("replaced the unsigned record 1 "), "{}", said.out);
    sign(&site, "set", &["tina"]);
    let one = copied(&site, "one", |_| ());
    sign(&site, "set", &["tina"]);
    let twice = copied(&site, "twice", |_| ());
    sign(&site, "set", &["theo"]);
    let first = copied(&site, "first", |_| ());
    hand_over(&site, "set", ENCLAVE, ("TEST annex", "TOP SECRET"), &[]).expect(0);
    site.builder(&["custody", "show", "set", "--root", "root-t.json"]).expect(4);
    sign(&site, "set", &["theo", "tina"]);

    let shown = site.builder(&["custody", "show", "set", "--root", "root-t.json"]).expect(0);
    for words in
        ["record 2", "low-to-high", "same-level", "Doe, Tina", "record 1 signed by theo, tina", "the chain is whole"]
    {
        assert!(shown.out.contains(words), "{words}: {}", shown.out);
    }
    assert!(shown.err.starts_with("SECRET\n") && shown.err.ends_with("SECRET\n"), "{}", shown.err);
    trust(&site);
    let verified = site.installer(&["custody", "verify", "set"]).expect(0);
    assert!(verified.out.contains("2 records, every one verified"), "{}", verified.out);
    for file in &list.files {
        assert!(verified.out.contains(&format!("matches        {}", file.name)), "{}", verified.out);
    }
    site.installer(&["custody", "verify", &first]).expect(0);

    let damage = |name: &str, edit: &dyn Fn(&std::path::Path)| copied(&site, name, edit);
    let volume = |folder: &std::path::Path| folder.join(&list.files[1].name);
    let cases = [
        (one, 4, "needs 2 distinct"),
        (twice, 4, "needs 2 distinct"),
        (damage("changed", &|f| std::fs::write(volume(f), b"Volume two").unwrap()), 3, "differs from custody record 2"),
        (damage("stray", &|f| std::fs::write(f.join("autorun.inf"), b"x").unwrap()), 3, "a file on no record"),
        (
            damage("link", &|f| std::os::unix::fs::symlink("/etc/passwd", f.join("link")).unwrap()),
            3,
            "a file on no record",
        ),
        (damage("removed", &|f| edit_lines(f, |lines| lines[1..].to_vec())), 4, "the chain is broken"),
        (
            damage("moved", &|f| edit_lines(f, |lines| vec![lines[1].clone(), lines[0].clone()])),
            4,
            "the chain is broken",
        ),
        (
            damage("foreign", &|f| {
                std::fs::write(f.join("set.json"), set("SECRET", &[b"a", b"b", b"c"]).to_bytes().unwrap()).unwrap();
            }),
            3,
            "differs from custody record",
        ),
        (damage("bare", &|f| std::fs::remove_file(f.join("custody.jsonl")).unwrap()), 4, "chain of custody: expected"),
        (
            damage("tampered", &|f| {
                edit_lines(f, |lines| {
                    vec![
                        lines[0].replacen("\"payload\":\"eyJmb3JtYXQi", "\"payload\":\"eyJmb3JtYXRi", 1),
                        lines[1].clone(),
                    ]
                });
            }),
            3,
            "custody record 1: not a valid document",
        ),
    ];
    for (folder, code, words) in cases {
        let said = site.installer(&["custody", "verify", &folder]).expect(code);
        assert!(said.err.contains(words), "{folder}: {}", said.err);
    }
    let missing = damage("missing", &|f| std::fs::remove_file(volume(f)).unwrap());
    let said = site.installer(&["--json", "custody", "verify", &missing]).expect(0);
    let parsed: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(parsed["missing"], serde_json::json!([list.files[1].name]));
    assert_eq!(parsed["signers"], serde_json::json!([["theo", "tina"], ["theo", "tina"]]));
}

#[test]
fn what_is_refused_before_a_record_is_written() {
    let site = site(47132);
    let list = write_set(&site, "set", "SECRET", &[b"volume one", b"volume two", b"parity"]);
    let said = hand_over(&site, "set", BUILD, ("TEST desk", "UNCLASSIFIED"), &[]).expect(5);
    assert!(said.err.contains("may not be on system TEST desk"), "{}", said.err);
    let said = hand_over(&site, "set", ("TEST desk", "UNCLASSIFIED"), ENCLAVE, &[]).expect(5);
    assert!(said.err.contains("may not be on system TEST desk"), "{}", said.err);
    hand_over(&site, "set", BUILD, ENCLAVE, &["--media", "type=dvd,label=C,volumes=4,finalised=yes"]).expect(3);
    hand_over(&site, "set", BUILD, ENCLAVE, &["--media", "label=C"]).expect(2);
    std::fs::write(site.path("set").join(&list.files[0].name), b"volume ONE").unwrap();
    let said = hand_over(&site, "set", BUILD, ENCLAVE, &[]).expect(3);
    assert!(said.err.contains("differs from set.json"), "{}", said.err);
    assert!(!site.path("set/custody.jsonl").exists());
    site.builder(&["custody", "show", "set"]).expect(2);
    site.builder(&["custody", "hand-over", "nowhere"]).expect(2);
}

#[test]
fn a_scanners_verdict_is_bound_into_the_record() {
    let site = site(47133);
    let signature = format!("Lockgate.Test:0:*:{}\n", bundle_format::text::hex(MARKER.as_bytes()));
    std::fs::write(site.path("test.ndb"), signature).unwrap();
    let infected = format!("before {MARKER} after");
    write_set(&site, "set", "SECRET", &[b"volume one", b"volume two", b"parity"]);
    write_set(&site, "ill", "SECRET", &[b"volume one", infected.as_bytes(), b"parity"]);
    let scanner = ["--scanner", "clamscan", "--scanner-arg", "--database=test.ndb", "--scanner-arg", "--no-summary"];
    let said = hand_over(&site, "ill", BUILD, ENCLAVE, &scanner).expect(5);
    assert!(said.err.contains("Lockgate.Test.UNOFFICIAL FOUND"), "{}", said.err);
    let broken = ["--scanner", "clamscan", "--scanner-arg", "--database=no-such.ndb"];
    hand_over(&site, "ill", BUILD, ENCLAVE, &broken).expect(6);
    hand_over(&site, "ill", BUILD, ENCLAVE, &["--scanner", "no-such-scanner"]).expect(6);
    assert!(!site.path("ill/custody.jsonl").exists(), "a set that is not clean gets no record");

    hand_over(&site, "set", BUILD, ENCLAVE, &scanner).expect(0);
    sign(&site, "set", &["tina", "theo"]);
    let shown = site.builder(&["--json", "custody", "show", "set"]).expect(0);
    let parsed: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    let scan = &parsed["claimed_records"][0]["scans"][0];
    assert_eq!((scan["scanner"].as_str(), scan["result"].as_str()), (Some("clamscan"), Some("clean")));
    assert!(scan["version"].as_str().unwrap().starts_with("ClamAV "), "{scan}");
    let report = std::fs::read(site.path("set/scan-1.txt")).unwrap();
    assert_eq!(scan["report_sha384"], Sha384::of(&report).to_string());
    trust(&site);
    site.installer(&["custody", "verify", "set"]).expect(0);
    std::fs::write(site.path("set/scan-1.txt"), b"everything is well").unwrap();
    let said = site.installer(&["custody", "verify", "set"]).expect(3);
    assert!(said.err.contains("scan-1.txt"), "{}", said.err);
}

#[test]
fn the_papers_say_what_the_record_says() {
    let site = site(47134);
    let list = write_set(&site, "set", "SECRET//NOFORN", &[b"volume one", b"volume two", b"parity"]);
    site.builder(&["papers", "set", "--out", "none.pdf"]).expect(2);
    hand_over(
        &site,
        "set",
        BUILD,
        ENCLAVE,
        &["--disposition", "TEST kept by \u{17b}aneta", "--at", "2026-11-01T10:00:00Z"],
    )
    .expect(0);
    for out in ["a.pdf", "b.pdf"] {
        site.builder(&["papers", "set", "--out", out]).expect(0);
    }
    assert_eq!(std::fs::read(site.path("a.pdf")).unwrap(), std::fs::read(site.path("b.pdf")).unwrap());
    site.tool("qpdf", &["--check", "a.pdf"]).expect(0);
    let text = site.tool("pdftotext", &["-layout", "a.pdf", "-"]).expect(0).out;
    for words in [
        "TRANSFER RECORD",
        "TEST-2026-0042",
        "2026-11-01T10:00:00Z",
        "low-to-high",
        "TEST build [SECRET]",
        "TEST enclave [TOP SECRET]",
        "TEST program office",
        "TEST ticket 4711",
        "TEST letter 12",
        "serial or label TEST-A; finalised: yes; volumes 1 2",
        "serial or label TEST-B; finalised: no; volumes 3",
        "Doe, Tina; 1000000001; DTA",
        "Roe, Theo; 1000000002; DTA",
        "TEST kept by \\u{17b}aneta",
        "none when this was printed",
        "volume 1 of 3",
        "volume 3 of 3",
        "parity volume   2026-11-01",
        "set 0011 2233 4455 6677",
        "HASH CARD",
        "0011 2233 4455 6677 8899 aabb ccdd eeff",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let groups = |digest: &Sha384| bundle_format::text::groups_of_four(&digest.to_string());
    let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(squeezed.contains(&groups(&list.manifest_sha384)), "the bundle's digest");
    for file in &list.files {
        let count = squeezed.matches(&groups(&file.sha384)).count();
        assert!(count >= 2, "{} is on the record and the card, found {count}", file.name);
    }
    for page in text.split('\u{c}').filter(|page| !page.trim().is_empty()) {
        assert!(page.trim_start().starts_with("SECRET//NOFORN"), "{page}");
        assert!(page.trim_end().ends_with("SECRET//NOFORN"), "{page}");
    }
    sign(&site, "set", &["tina", "theo"]);
    site.builder(&["papers", "set", "--out", "c.pdf", "--record", "1"]).expect(0);
    let text = site.tool("pdftotext", &["-layout", "c.pdf", "-"]).expect(0).out;
    assert_eq!(text.matches("verified on import, not by this paper").count(), 4);
    site.builder(&["papers", "set", "--out", "d.pdf", "--record", "2"]).expect(2);
    trust(&site);
    let verified = site.installer(&["custody", "verify", "set"]).expect(0);
    let digest = verified.out.lines().find_map(|line| line.strip_prefix("  newest record SHA-384 ")).unwrap();
    assert!(squeezed.contains(digest), "the paper has the digest that the high side prints: {digest}");
}

#[test]
fn a_receipt_is_confirmed_on_the_low_side() {
    let site = site(47135);
    let bundle = |name: &str, sequence: u64| {
        let mut draft = Draft { roots: vec![keys::two_of_three()], ..Draft::small() };
        draft.manifest.sequence = sequence;
        draft.manifest.release = format!("{sequence}.0");
        std::fs::write(site.path(name), draft.archive()).unwrap();
        Sha384::of(draft.text().as_bytes())
    };
    let (old, new) = (bundle("old.bundle.tar", 7), bundle("new.bundle.tar", 8));
    trust(&site);
    let nothing = site.installer(&["receipt", "--no-qr"]).expect(0);
    assert!(
        nothing.out.contains("arrived    nothing") && nothing.out.contains("installed  nothing"),
        "{}",
        nothing.out
    );
    let state = installer::state::State::open(&site.path("high/state/state.db")).unwrap();
    let now = bundle_format::timestamp::Timestamp::from_unix(0);
    for digest in [old, new] {
        let record =
            installer::audit::Record::new(&now, "receive", installer::audit::Outcome::Ok).of("test-product", "1");
        state.audit().unwrap().append(&record.detail(&digest.to_string())).unwrap();
    }
    drop(state);
    let said = site.installer(&["receipt"]).expect(0);
    let code = said.out.lines().find_map(|line| line.strip_prefix("code       ")).unwrap().to_owned();
    assert!(said.out.contains('\u{2588}'), "a QR code follows: {}", said.out);
    let json = site.installer(&["--json", "receipt"]).expect(0);
    let parsed: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(parsed["code"], code);

    let said = site.builder(&["confirm", &code.to_lowercase(), "old.bundle.tar", "new.bundle.tar"]).expect(0);
    assert!(said.out.contains("arrived    test-product 8.0 (sequence 8), new.bundle.tar"), "{}", said.out);
    assert!(said.out.contains("installed  nothing is installed"), "{}", said.out);
    let said = site.builder(&["confirm", &code, "old.bundle.tar"]).expect(5);
    assert!(said.err.contains("names none of the bundles given"), "{}", said.err);
    let last = if code.ends_with('0') { "4" } else { "0" };
    let typo = format!("{}{last}", &code[..code.len() - 1]);
    let said = site.builder(&["confirm", &typo, "new.bundle.tar"]).expect(2);
    assert!(said.err.contains("a letter or digit is wrong"), "{}", said.err);
}

#[test]
fn agents_come_and_go_with_versions_of_the_root() {
    let site = site(47136);
    let rotate = |root: &str, out: &str, more: &[&str]| {
        site.builder(&[&["root", "rotate", root, "--out", out][..], more].concat())
    };
    let (tina, theo) = ("keys/tina.signer.json", "keys/theo.signer.json");
    // Into a root that had none.
    let said = rotate("root-1.json", "root-2.json", &["--transfer-signer", tina, "--transfer-signer", theo]).expect(0);
    assert!(said.out.contains("threshold 2 of each algorithm for transfer agents"), "{}", said.out);
    assert_eq!(said.out.matches("transfer agent\n").count(), 4, "{}", said.out);
    // Threshold and agents stay, one goes, signers are untouched.
    let said = rotate("root-t.json", "root-t2.json", &["--remove", "tess"]).expect(0);
    assert_eq!(said.out.matches("transfer agent\n").count(), 4, "{}", said.out);
    assert_eq!(said.out.matches("not signed").count(), 6, "{}", said.out);
    let said = rotate("root-t2.json", "root-t3.json", &["--remove", "tina", "--remove", "theo"]).expect(0);
    assert!(!said.out.contains("transfer"), "the last agent takes the role along: {}", said.out);
    // One agent cannot meet a threshold of two; a signer is no agent; a threshold needs agents.
    rotate("root-1.json", "x.json", &["--transfer-signer", tina]).expect(3);
    rotate("root-1.json", "x.json", &["--transfer-signer", tina, "--transfer-signer", "keys/alice.signer.json"])
        .expect(3);
    rotate("root-1.json", "x.json", &["--transfer-threshold", "2"]).expect(2);
    assert!(!site.path("x.json").exists());
}

#[test]
fn burnt_discs_prove_on_the_other_side() {
    let site = site(47137);
    site.release(1, Site::GOOD, |text| text);
    site.builder(&["pin", "release/r.yaml"]).expect(0);
    site.builder(&["build", "release/r.yaml", "--root", "root-t.json", "--out", "b.tar"]).expect(0);
    for name in ["alice", "bob"] {
        key(&site, &["sign", "b.tar"], name).expect(0);
    }
    trust(&site);
    let bytes = std::fs::metadata(site.path("b.tar")).unwrap().len();
    let volume = (bytes / 2 + 200_000).to_string();
    site.builder(&["split", "b.tar", "--volume-size", &volume, "--parity", "1", "--out", "set", "--iso"]).expect(0);
    hand_over(&site, "set", ("TEST build", "UNCLASSIFIED"), ("TEST enclave", "UNCLASSIFIED"), &[]).expect(0);
    sign(&site, "set", &["tina", "theo"]);
    site.builder(&["disc-images", "set"]).expect(0);
    let mut discs: Vec<_> = std::fs::read_dir(site.path("set")).unwrap().map(|entry| entry.unwrap().path()).collect();
    discs.retain(|path| path.extension().is_some_and(|end| end == "iso"));
    discs.sort();
    assert_eq!(discs.len(), 3);
    for (number, image) in discs.iter().enumerate() {
        let (image, to) = (image.display().to_string(), format!("disc{number}"));
        site.tool("xorriso", &["-osirrox", "on", "-indev", &image, "-extract", "/", &to]).expect(0);
        let said = site.installer(&["custody", "verify", &to]).expect(0);
        assert_eq!(said.out.contains("matches        installer"), number == 0, "{}", said.out);
        assert!(said.out.contains("matches        README.txt"), "{}", said.out);
    }
    // Disc 2 is lost; the others are as they were handed over.
    let said = site.installer(&["receive", "volumes", "disc0", "disc2"]).expect(0);
    assert!(said.out.contains("volume 3: as its custody record says"), "{}", said.out);
    assert!(said.out.contains("volume 2 of 3: restored whole from parity"), "{}", said.out);
    // An installer that somebody put on the disc instead is found before anybody runs it.
    std::fs::remove_file(site.path("disc0/installer")).unwrap();
    std::fs::write(site.path("disc0/installer"), "#!/bin/sh\n").unwrap();
    let said = site.installer(&["custody", "verify", "disc0"]).expect(3);
    assert!(said.out.contains("DIFFERS        installer"), "{}", said.out);
}
