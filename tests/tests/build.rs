//! The low side as a pipeline uses it: reproducible bytes, clear refusals, and a bundle that stock
//! tools can check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;

use system_tests::site::Site;

fn verify_by_hand(site: &Site, bundle: &str, k: &str) -> i32 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/isso/verify-by-hand.sh").display().to_string();
    let keys = ["keys/alice.minisign.pub", "keys/bob.minisign.pub", "keys/carol.minisign.pub"];
    let said = site.tool("sh", &[&[script.as_str(), bundle, k], &keys[..]].concat());
    assert!(said.code <= 1, "{}\n{}", said.out, said.err);
    said.code
}

#[test]
fn two_builds_in_two_folders_at_two_times_are_the_same_bytes() {
    let (here, there) = (Site::new(18201), Site::new(18201));
    here.release(1, Site::GOOD, |text| text);
    here.builder(&["pin", "release/r.yaml"]).expect(0);
    // The release, its lock and the root travel; nothing else does.
    for file in ["release/r.yaml", "release/r.lock.yaml", "release/web.yaml", "root-1.json"] {
        std::fs::copy(here.path(file), there.path(file)).unwrap();
    }
    here.builder(&["build", "release/r.yaml", "--root", "root-1.json", "--out", "b.tar"]).expect(0);
    let later = ["--tmpdir", "keys", "build", "release/r.yaml", "--root", "root-1.json", "--out", "high/elsewhere.tar"];
    // Another clock, another time zone, another umask would show here if they could get in.
    let shell = format!("umask 077; TZ=Asia/Tokyo exec faketime '2031-05-05 05:05:05' \"$0\" {}", later.join(" "));
    let builder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("bundle-builder");
    there.tool("sh", &["-c", &shell, &builder.display().to_string()]).expect(0);
    let (one, two) =
        (std::fs::read(here.path("b.tar")).unwrap(), std::fs::read(there.path("high/elsewhere.tar")).unwrap());
    assert!(one == two, "the bytes differ: {} and {}", one.len(), two.len());
}

#[test]
fn the_bytes_do_not_depend_on_how_many_threads_made_them() {
    let site = Site::new(18206);
    site.release(1, Site::GOOD, |text| text);
    site.builder(&["pin", "release/r.yaml"]).expect(0);
    let build = |jobs: &str, out: &str, more: &[&str]| {
        let args = ["build", "release/r.yaml", "--root", "root-1.json", "--jobs", jobs, "--out", out];
        site.builder(&[&args[..], more].concat()).expect(0);
        std::fs::read(site.path(out)).unwrap()
    };
    let mut sizes = Vec::new();
    for effort in ["fast", "default", "max"] {
        let one = build("1", "one.tar", &["--effort", effort]);
        for jobs in ["2", "5"] {
            assert!(build(jobs, "more.tar", &["--effort", effort]) == one, "{effort} with {jobs} threads");
        }
        sizes.push(one.len());
    }
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    // And with a base: the next release on this one.
    site.release(2, Site::GOOD, |text| text);
    site.builder(&["pin", "release/r.yaml"]).expect(0);
    let one = build("1", "two.tar", &["--base", "one.tar"]);
    assert!(build("5", "more.tar", &["--base", "one.tar"]) == one);
    // Stock tools follow an update as far as they can.
    for name in ["alice", "bob"] {
        let (key, pass) = (format!("keys/{name}"), format!("keys/{name}.pass"));
        site.builder(&["sign", "two.tar", "--key", &key, "--passphrase-file", &pass]).expect(0);
    }
    assert_eq!(verify_by_hand(&site, "two.tar", "2"), 0);
}

#[test]
fn signing_leaves_the_signed_bytes_and_stock_tools_agree() {
    let site = Site::new(18202);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("unsigned.tar", &[]);
    // The same bundle signed: another build would have the time of another lock.
    std::fs::copy(site.path("unsigned.tar"), site.path("signed.tar")).unwrap();
    for name in ["alice", "carol"] {
        let (key, pass) = (format!("keys/{name}"), format!("keys/{name}.pass"));
        site.builder(&["sign", "signed.tar", "--key", &key, "--passphrase-file", &pass]).expect(0);
    }
    let packs = |bundle: &str| {
        let listed = site.tool("tar", &["-tf", bundle]).expect(0).out;
        let names: Vec<&str> = listed.lines().filter(|name| !name.starts_with("signatures/")).collect();
        let all = [&["-xOf", bundle][..], &names].concat();
        site.tool("tar", &all).expect(0).out
    };
    assert_eq!(packs("unsigned.tar"), packs("signed.tar"));
    assert_eq!(verify_by_hand(&site, "signed.tar", "2"), 0);
    assert_eq!(verify_by_hand(&site, "signed.tar", "3"), 1);
    assert_eq!(verify_by_hand(&site, "unsigned.tar", "2"), 1);
    let mut bytes = std::fs::read(site.path("signed.tar")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(site.path("flipped.tar"), bytes).unwrap();
    assert_eq!(verify_by_hand(&site, "flipped.tar", "2"), 1);
}

#[test]
fn unknown_fields_edited_releases_and_moved_tags_are_refused() {
    let site = Site::new(18203);
    site.release(1, Site::GOOD, |text| text + "surprise: true\n");
    let said = site.builder(&["pin", "release/r.yaml"]).expect(2);
    assert!(said.err.contains("surprise"), "{}", said.err);
    let build = ["build", "release/r.yaml", "--root", "root-1.json", "--out", "b.tar"];
    site.release(1, Site::GOOD, |text| text);
    let said = site.builder(&build).expect(2);
    assert!(said.err.contains("there is no lock"), "{}", said.err);
    site.builder(&["pin", "release/r.yaml"]).expect(0);
    site.release(2, Site::GOOD, |text| text);
    let said = site.builder(&build).expect(2);
    assert!(said.err.contains("does not belong to the release"), "{}", said.err);
    let lock = std::fs::read_to_string(site.path("release/r.lock.yaml")).unwrap();
    site.builder(&["pin", "release/r.yaml"]).expect(0);
    let lock_now = std::fs::read_to_string(site.path("release/r.lock.yaml")).unwrap();
    assert_ne!(lock, lock_now);
    std::fs::write(site.path("release/r.lock.yaml"), lock_now + "more: 1\n").unwrap();
    site.builder(&build).expect(2);
    assert!(!site.path("b.tar").exists(), "nothing is written by a refused build");
}

#[test]
fn a_signer_outside_the_root_cannot_sign() {
    let site = Site::new(18204);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("b.tar", &[]);
    let before = std::fs::read(site.path("b.tar")).unwrap();
    std::fs::write(site.path("keys/mallory.pass"), "TEST passphrase of mallory\n").unwrap();
    site.builder(&["keygen", "--name", "mallory", "--out", "keys", "--passphrase-file", "keys/mallory.pass"]).expect(0);
    let said =
        site.builder(&["sign", "b.tar", "--key", "keys/mallory", "--passphrase-file", "keys/mallory.pass"]).expect(4);
    assert!(said.err.contains("holds no role that signs bundles"), "{}", said.err);
    let wrong = site.builder(&["sign", "b.tar", "--key", "keys/alice", "--passphrase-file", "keys/bob.pass"]).expect(2);
    assert!(wrong.err.contains("the passphrase does not open it"), "{}", wrong.err);
    assert_eq!(std::fs::read(site.path("b.tar")).unwrap(), before);
}

#[test]
fn inspect_shows_a_claim_and_calls_it_one() {
    let site = Site::new(18205);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("b.tar", &["alice"]);
    let said = site.builder(&["inspect", "b.tar"]).expect(0);
    assert!(said.out.contains("nothing of it is verified here"), "{}", said.out);
    assert_eq!((said.err.lines().next(), said.err.lines().last()), (Some("UNCLASSIFIED"), Some("UNCLASSIFIED")));
    for view in ["images", "files", "runtime", "packs", "signatures"] {
        site.builder(&["inspect", "b.tar", view]).expect(0);
    }
    let json: serde_json::Value =
        serde_json::from_str(&site.builder(&["--json", "inspect", "b.tar"]).expect(0).out).unwrap();
    assert_eq!(json["verified"], false);
}

#[test]
fn a_size_report_adds_up() {
    let site = Site::new(18207);
    // One image under two names: its blobs are carried once.
    site.release(1, Site::GOOD, |text| {
        let (image, again) = ("registry.example/test/minimal:1", "registry.example/test/again:1");
        let line = format!("images:\n  - {{name: \"{again}\", source: \"oci:images:minimal\"}}\n");
        assert!(text.contains(image));
        text.replace("images:\n", &line)
    });
    site.bundle("b.tar", &[]);
    let said = site.builder(&["--json", "size-report", "b.tar"]).expect(0);
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let images = report["images"].as_array().unwrap();
    assert_eq!((images.len(), number(&images[1]["carried"])), (2, 0), "{report}");
    let layer = &images[0]["blobs"][0];
    assert_eq!((&layer["coding"], &layer["codec"]), (&"deflate-tokens".into(), &"zstd".into()), "{report}");
    assert!(number(&layer["carried"]) < number(&layer["upstream"]), "{report}");
    let total = &report["total"];
    let parts: u64 = images.iter().chain([&report["others"]]).map(|part| number(&part["carried"])).sum();
    assert_eq!(parts, number(&total["carried"]), "{report}");
    assert_eq!(number(&total["carried_images"]), number(&images[0]["carried"]));
    assert_eq!(number(&total["peer_images"]), number(&images[0]["upstream"]));
    assert_eq!(number(&report["bundle_bytes"]), std::fs::metadata(site.path("b.tar")).unwrap().len());
    let said = site.builder(&["size-report", "b.tar"]).expect(0);
    assert!(
        said.out.contains("another image has it already") && said.out.contains("given back exactly"),
        "{}",
        said.out
    );
    assert_eq!((said.err.lines().next(), said.err.lines().last()), (Some("UNCLASSIFIED"), Some("UNCLASSIFIED")));
}
