//! Updates that build on what a site holds, by the real programs and the real engine: one after the
//! other, for sites at different releases, and where a base blob is missing or damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use system_tests::site::Site;

static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `release/images-N`: the minimal image with a second layer, of which one line differs from
/// version to version.
const IMAGE: &str = r#"
set -eu
from=release/images to=release/images-$1
mkdir -p "$to/blobs/sha256" tree/www
put() { sum=$(sha256sum <"$1" | cut -d' ' -f1) && size=$(wc -c <"$1") && mv "$1" "$to/blobs/sha256/$sum"; }
old=$(jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "minimal").digest[7:]' "$from/index.json")
config=$(jq -r '.config.digest[7:]' "$from/blobs/sha256/$old")
layer=$(jq -r '.layers[0].digest[7:]' "$from/blobs/sha256/$old")
cp "$from/blobs/sha256/$layer" "$to/blobs/sha256/"
awk -v n="$1" 'BEGIN { for (i = 0; i < 90000; i++) print (i * 7919) % 1000003, "TEST"; print "version", n }' >tree/www/data
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf layer.tar -C tree www
diff=$(sha256sum <layer.tar | cut -d' ' -f1)
gzip -n6 <layer.tar >layer.gz
put layer.gz
top=$sum bytes=$size
jq -c ".rootfs.diff_ids += [\"sha256:$diff\"] | .history += [{created_by: \"TEST\"}]" "$from/blobs/sha256/$config" >config.json
put config.json
jq -c ".config.digest = \"sha256:$sum\" | .config.size = $size
    | .layers += [{mediaType: .layers[0].mediaType, digest: \"sha256:$top\", size: $bytes}]" "$from/blobs/sha256/$old" >manifest.json
put manifest.json
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"minimal"}}]}' "$sum" "$size" >"$to/index.json"
cp "$from/oci-layout" "$to/"
rm layer.tar
"#;

/// A release of that image; its lock is made.
fn release(site: &Site, version: u64) {
    site.tool("sh", &["-c", IMAGE, "sh", &version.to_string()]).expect(0);
    let images = format!("oci:images-{version}:minimal");
    let web = format!("web-{version}.yaml");
    site.release(version, Site::GOOD, |text| {
        text.replace("oci:images:minimal", &images).replace("file: web.yaml", &format!("file: {web}"))
    });
    std::fs::rename(site.path("release/web.yaml"), site.path(&format!("release/{web}"))).unwrap();
    site.builder(&["pin", "release/r.yaml"]).expect(0);
    // Kept under a name of its own, so that it can be a base later.
    for (from, to) in [("r.yaml", "yaml"), ("r.lock.yaml", "lock.yaml")] {
        std::fs::copy(site.path(&format!("release/{from}")), site.path(&format!("release/v{version}.{to}"))).unwrap();
    }
}

/// Builds the release that was made last, on bases, and signs it; what the builder says of its blobs.
fn bundle(site: &Site, name: &str, more: &[&str]) -> Value {
    let args = [&["--json", "build", "release/r.yaml", "--root", "root-1.json", "--out", name], more].concat();
    let said = site.builder(&args).expect(0);
    for signer in ["alice", "bob"] {
        let (key, pass) = (format!("keys/{signer}"), format!("keys/{signer}.pass"));
        site.builder(&["sign", name, "--key", &key, "--passphrase-file", &pass]).expect(0);
    }
    serde_json::from_str(&said.out).unwrap()
}

fn codecs(built: &Value) -> Vec<&str> {
    built["blobs"].as_array().unwrap().iter().map(|blob| blob["codec"].as_str().unwrap()).collect()
}

/// The data layer of the image, as the site's store holds it.
fn data_layer(site: &Site, version: u64) -> PathBuf {
    let layout = site.path(&format!("release/images-{version}"));
    let json = |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &Value| layout.join("blobs/sha256").join(&digest.as_str().unwrap()[7..]);
    let manifest = json(blob(&json(layout.join("index.json"))["manifests"][0]["digest"]));
    site.path("high/state/store/blobs/sha256").join(&manifest["layers"][1]["digest"].as_str().unwrap()[7..])
}

fn runs(site: &Site, version: u64) {
    let status: Value = serde_json::from_str(&site.installer(&["--json", "status"]).expect(0).out).unwrap();
    assert_eq!(
        (&status["products"][0]["sequence"], &status["products"][0]["healthy"]),
        (&version.into(), &true.into())
    );
    let said = site.podman(&["exec", &format!("{}-web", site.name()), "cat", "/www/data"]).expect(0);
    assert_eq!(said.out.lines().last(), Some(format!("version {version}").as_str()));
    site.installer(&["check"]).expect(0);
}

fn end(site: &Site) {
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
    site.assert_nothing_left();
}

#[test]
fn updates_apply_in_their_order_and_say_what_they_lack() {
    let _machine = machine();
    let site = Site::new(18401);
    site.trust();
    release(&site, 1);
    let built = bundle(&site, "one.tar", &[]);
    assert!(!codecs(&built).contains(&"zstd-delta") && !codecs(&built).contains(&"base"), "{built}");
    release(&site, 2);
    let built = bundle(&site, "two.tar", &["--base", "one.tar"]);
    assert_eq!(codecs(&built).iter().filter(|codec| **codec == "base").count(), 1, "{built}");
    assert_eq!(codecs(&built).iter().filter(|codec| **codec == "zstd-delta").count(), 1, "{built}");
    let length = |name: &str| std::fs::metadata(site.path(name)).unwrap().len();
    let packs = |name: &str| {
        let said = site.builder(&["--json", "size-report", name]).expect(0);
        serde_json::from_str::<Value>(&said.out).unwrap()["total"]["carried"].as_u64().unwrap()
    };
    assert!(packs("two.tar") * 20 < packs("one.tar"), "{} and {}", packs("two.tar"), packs("one.tar"));
    assert!(length("two.tar") < length("one.tar"));
    release(&site, 3);
    // The update before knows only the difference: the whole release before that is needed as well.
    let said = site
        .builder(&["build", "release/r.yaml", "--root", "root-1.json", "--out", "large.tar", "--base", "two.tar"])
        .expect(0);
    assert!(said.out.contains("are not at hand") && said.out.contains("--base-blobs"), "{}", said.out);
    let built = bundle(&site, "three.tar", &["--base", "two.tar", "--base-blobs", "one.tar"]);
    assert!(codecs(&built).contains(&"zstd-delta"), "{built}");

    // On a machine without the base, everything that looks at it says what is missing.
    for act in
        [&["verify", "two.tar"][..], &["plan", "two.tar"], &["preflight", "two.tar"], &["--yes", "install", "two.tar"]]
    {
        let said = site.installer(act).expect(5);
        assert!(
            said.err.contains("builds on release 1.0 (sequence 1), of which this store lacks: sha256:"),
            "{}",
            said.err
        );
        assert!(said.err.contains("it needs no base"), "the way out: {}", said.err);
    }
    site.assert_nothing_left();
    site.installer(&["--yes", "install", "one.tar"]).expect(0);
    runs(&site, 1);
    let said = site.installer(&["--yes", "install", "three.tar"]).expect(5);
    assert!(said.err.contains("builds on release 2.0"), "{}", said.err);

    // A base blob that rots, and one that is gone.
    let base = data_layer(&site, 1);
    let (name, sound) = (base.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&base).unwrap());
    let mut rotten = sound.clone();
    rotten[1000] ^= 1;
    std::fs::write(&base, rotten).unwrap();
    for act in [&["verify", "two.tar"][..], &["--yes", "install", "two.tar"]] {
        let said = site.installer(act).expect(5);
        assert!(said.err.contains("is damaged: store: blob") && said.err.contains(&name), "{}", said.err);
    }
    // Nor does the site say that it holds it.
    for form in [&["--out", "rotten.json"][..], &["--text"]] {
        let said = site.installer(&[&["inventory"], form].concat()).expect(8);
        assert!(said.err.contains("store: blob") && said.err.contains(&name), "{}", said.err);
    }
    let list = std::fs::read_to_string(site.path("rotten.json")).unwrap();
    let payload: Value = serde_json::from_str(&list).unwrap();
    let payload = bundle_format::text::unbase64(payload["payload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    assert!(payload.contains("sha256:") && !payload.contains(&name), "{payload}");
    std::fs::remove_file(&base).unwrap();
    let said = site.installer(&["--yes", "install", "two.tar"]).expect(5);
    assert!(said.err.contains("lacks") && said.err.contains(&name), "{}", said.err);
    // What is gone and what is rotten are told at once.
    let held = site.builder(&["inspect", "two.tar", "packs"]).expect(0).out;
    let held: Vec<&str> =
        held.lines().filter_map(|line| line.trim().strip_prefix("sha256:")?.split(' ').next()).collect();
    let second = held.iter().find(|other| **other != name).unwrap();
    let path = base.with_file_name(second);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..whole.len() - 1], b"?"].concat()).unwrap();
    let said = site.installer(&["verify", "two.tar"]).expect(5);
    let (lacks, damaged) = said.err.split_once("; and damaged: ").unwrap();
    assert!(lacks.contains(&name) && damaged.contains(second), "{}", said.err);
    std::fs::write(&path, whole).unwrap();
    std::fs::write(&base, sound).unwrap();
    runs(&site, 1);

    // In their order, each digest checked by the engine's own pull.
    let plan = site.installer(&["plan", "two.tar"]).expect(0);
    assert!(plan.out.contains("needs   the blobs of release 1.0 (sequence 1), which are here"), "{}", plan.out);
    for (version, file) in [(2, "two.tar"), (3, "three.tar")] {
        site.installer(&["verify", file]).expect(0);
        site.installer(&["--yes", "install", file]).expect(0);
        runs(&site, version);
        let again = site.installer(&["--yes", "install", file]).expect(0);
        assert!(again.out.contains("nothing was changed"), "{}", again.out);
    }
    assert!(!base.exists(), "what only served as a base two releases ago is cleared away");
    site.installer(&["--yes", "rollback"]).expect(0);
    runs(&site, 2);
    end(&site);
}

#[test]
fn one_update_for_sites_at_two_releases_and_by_inventory() {
    let _machine = machine();
    let (site, other) = (Site::new(18402), Site::new(18403));
    for version in [1, 2] {
        release(&site, version);
        bundle(&site, &format!("{version}.tar"), &[]);
    }
    site.trust();
    site.installer(&["inventory"]).expect(2); // nothing is installed yet
    site.installer(&["--yes", "install", "2.tar"]).expect(0);
    // What the site says of itself, proved by its key.
    site.installer(&["inventory", "--out", "site.json"]).expect(0);
    std::fs::write(site.path("site.key"), site.installer(&["--json", "audit", "key"]).expect(0).out).unwrap();
    let text = site.installer(&["inventory", "--text"]).expect(0).out;
    let code = text.lines().find_map(|line| line.trim().strip_prefix("code ")).unwrap();
    let said = site.builder(&["confirm", code, "1.tar", "2.tar"]).expect(0);
    assert!(said.out.contains("2.tar"), "{}", said.out);

    release(&site, 3);
    let by_list = ["--base", "site.json", "--site-key", "site.key", "--base-blobs", "release/images-2"];
    let built = bundle(&site, "by-list.tar", &by_list);
    assert!(
        codecs(&built).contains(&"zstd-delta")
            && built["notes"][0].as_str().unwrap().contains("signed by the site's key")
    );
    // Another site's key, a list that was changed, a key that proves nothing.
    let command =
        ["build", "release/r.yaml", "--root", "root-1.json", "--out", "no.tar", "--base", "site.json", "--site-key"];
    other.trust();
    other.installer(&["history"]).expect(0);
    std::fs::write(site.path("other.key"), other.installer(&["--json", "audit", "key"]).expect(0).out).unwrap();
    let said = site.builder(&[&command[..], &["other.key"]].concat()).expect(4);
    assert!(said.err.contains("inventory: no signature by key"), "{}", said.err);
    let list = std::fs::read_to_string(site.path("site.json")).unwrap();
    std::fs::write(site.path("newer.json"), &list).unwrap();
    std::fs::write(site.path("site.json"), list.replacen("\"payload\":\"e", "\"payload\":\"f", 1)).unwrap();
    site.builder(&[&command[..], &["site.key"]].concat()).expect(3);
    let idle = ["newer.json", "--site-key", "site.key", "--site-key", "other.key"];
    let said = site.builder(&[&command[..7], &idle].concat()).expect(2);
    assert!(said.err.contains("other.key: none of the bases is an inventory by this machine"), "{}", said.err);
    let idle = ["2.tar", "--site-key", "site.key"];
    let said = site.builder(&[&command[..7], &idle].concat()).expect(2);
    assert!(said.err.contains("site.key: none of the bases"), "{}", said.err);

    // Both releases in one update; a lock with its sources does as well as a bundle. The bytes are the
    // same on any number of cores.
    let both = ["--base", "release/v1.lock.yaml", "--base", "2.tar"];
    let one_by_one = |jobs: &str| {
        let args = ["build", "release/r.yaml", "--root", "root-1.json", "--out", "jobs.tar", "--jobs", jobs];
        site.builder(&[&args[..], &both].concat()).expect(0);
        std::fs::read(site.path("jobs.tar")).unwrap()
    };
    let alone = one_by_one("1");
    assert!(one_by_one("5") == alone, "the bytes depend on the number of threads");
    let built = bundle(&site, "both.tar", &both);
    assert_eq!(codecs(&built).iter().filter(|codec| **codec == "zstd-delta").count(), 2, "one for each: {built}");
    let report = site.builder(&["--json", "size-report", "both.tar"]).expect(0).out;
    let deltas = built["blobs"].as_array().unwrap().iter().filter(|blob| blob["codec"] == "zstd-delta");
    let of_both: Vec<String> =
        deltas.map(|blob| blob["why"].as_str().unwrap().replace("it differs little from", "difference to")).collect();
    let [one, two] = &of_both[..] else { panic!("{built}") };
    assert!([[one, two], [two, one]].iter().any(|[a, b]| report.contains(&format!("{a} and {b}"))), "{report}");
    let said = site.builder(&["inspect", "both.tar"]).expect(0).out;
    for base in ["release 1.0 (sequence 1)", "release 2.0 (sequence 2)"] {
        assert!(said.contains(&format!("builds on  {base}, ")), "{said}");
        let packs = site.builder(&["inspect", "both.tar", "packs"]).expect(0).out;
        assert!(packs.contains(&format!("a site at {base} must hold\n  sha256:")), "{packs}");
    }
    site.installer(&["verify", "both.tar"]).expect(0);
    site.installer(&["--yes", "install", "by-list.tar"]).expect(0);
    runs(&site, 3);
    end(&site);
    // The older site takes the same update: a machine of its own, at release 1.
    site.installer(&["verify", "both.tar"]).expect(5);
    std::fs::rename(site.path("high/state"), site.path("high/state-newer")).unwrap();
    site.trust();
    site.installer(&["--yes", "install", "1.tar"]).expect(0);
    runs(&site, 1);
    let plan = site.installer(&["plan", "both.tar"]).expect(0).out;
    assert!(
        plan.contains("the blobs of release 1.0 (sequence 1) or release 2.0 (sequence 2), which are here"),
        "{plan}"
    );
    // Or by the lists of both machines, each proved by its own key.
    site.installer(&["inventory", "--out", "older.json"]).expect(0);
    std::fs::write(site.path("older.key"), site.installer(&["--json", "audit", "key"]).expect(0).out).unwrap();
    let lists = ["--base", "newer.json", "--base", "older.json", "--site-key", "older.key", "--base-blobs", "1.tar"];
    let said = site.builder(&[&command[..6], &lists].concat()).expect(4);
    assert!(said.err.contains("inventory: no signature by key"), "{}", said.err);
    let both_keys = [&lists[..], &["--base-blobs", "2.tar", "--site-key", "site.key"]].concat();
    let built = bundle(&site, "lists.tar", &both_keys);
    let of_sites = |notes: &Value| {
        notes
            .as_array()
            .unwrap()
            .iter()
            .filter(|note| note.as_str().unwrap().contains("signed by the site's key"))
            .count()
    };
    assert_eq!(of_sites(&built["notes"]), 2, "{built}");
    assert_eq!(codecs(&built).iter().filter(|codec| **codec == "zstd-delta").count(), 2, "one for each: {built}");
    site.installer(&["--yes", "install", "lists.tar"]).expect(0);
    runs(&site, 3);
    assert!(data_layer(&site, 3).exists() && !data_layer(&site, 2).exists(), "straight from 1 to 3");
    let digest = site.tool("sha256sum", &[data_layer(&site, 3).to_str().unwrap()]).expect(0).out;
    assert!(digest.starts_with(data_layer(&site, 3).file_name().unwrap().to_str().unwrap()), "{digest}");
    end(&site);
}
