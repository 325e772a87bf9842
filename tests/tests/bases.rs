//! What a blob is the difference to: found by content and by name, for sites at former releases and for
//! a site's list, also among what stays. Each update is taken in by the real installer, to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::inventory::{self, AuditHead, Installed, Inventory};
use bundle_format::manifest::{Blob, Manifest};
use bundle_format::marking::Marking;
use bundle_format::signed;
use bundle_format::timestamp::Timestamp;
use serde_json::Value;
use system_tests::keys::alice;
use system_tests::layout::{self, Layer, lines, noise, tar};
use system_tests::site::Site;

fn site() -> Site {
    let site = Site::bare(Path::new("/var/tmp"), 18212);
    site.trust();
    site
}

/// A layer of so many lines, of which one is its own.
fn small(seed: u64, count: u64, own: &str) -> Layer {
    let text = [&lines(seed, count)[..], own.as_bytes()].concat();
    Layer::gzip(&tar(&[("etc/app.conf", &text)]))
}

/// A layer that resembles its other versions in no 64 bytes, which is what a fingerprint looks at: each
/// key, long and always the same, is followed by a value of this version.
fn rows(version: u64) -> Layer {
    let text = |seed| Sha256::of(&noise(seed, 20)).hex();
    let row = |n: u64| format!("{}{}\n", &text(n)[..40], &text(1000 * version + n)[..16]);
    Layer::plain(&tar(&[("etc/keys", (1..160).map(row).collect::<String>().as_bytes())]))
}

fn large(seed: u64, own: &str) -> Layer {
    let text = [&lines(seed, 40_000)[..], own.as_bytes(), &noise(seed, 20_000)].concat();
    Layer::gzip(&tar(&[("usr/share/data", &text)]))
}

/// Takes bundles in, one after the other; the layers of the last must lie there to the byte.
fn import(site: &Site, store: &str, bundles: &[&str], layers: &[&Layer]) {
    for bundle in bundles {
        site.installer(&["import", bundle, "--store", store]).expect(0);
    }
    for layer in layers {
        let held = std::fs::read(layout::held(&site.path(store), layer)).unwrap();
        assert!(held == layer.stored, "{}: other bytes", layer.digest());
    }
}

#[track_caller]
fn assert_builds_on(built: &Value, layer: &Layer, base: &Layer) {
    let (codec, _, why) = layout::note(built, layer.digest());
    assert_eq!((codec.as_str(), why), ("zstd-delta", format!("it differs little from {}", base.digest())), "{built}");
}

fn manifest(site: &Site, bundle: &str) -> (Manifest, Sha384) {
    let (envelope, _) = UnverifiedEnvelope::read(std::fs::File::open(site.path(bundle)).unwrap()).unwrap();
    let sha384 = Sha384::of(envelope.manifest_bytes());
    (bundle_format::manifest::parse(envelope.manifest_bytes()).unwrap(), sha384)
}

#[test]
fn tiny_renamed_and_moved_layers_find_their_base() {
    let site = site();
    // One of a kilobyte or two, one of some more, one large.
    let [tiny, mid, big] = [small(1, 200, "one"), small(2, 700, "one"), large(3, "one")];
    assert!(tiny.stored.len() < 2048 && mid.stored.len() < 16 << 10, "{} {}", tiny.stored.len(), mid.stored.len());
    let one = layout::release(&site, 1, &[("app", &[big.clone(), mid.clone(), tiny.clone()])], "");
    layout::bundle(&site, &one, "one.tar", &[]);
    let [tiny_2, mid_2, big_2] = [small(1, 200, "two"), small(2, 700, "two"), large(3, "two")];
    for (sequence, image, layers) in [
        (2, "app", [&big_2, &mid_2, &tiny_2]),
        // Another image: no place has a name that was known.
        (3, "renamed", [&big_2, &mid_2, &tiny_2]),
        // Every layer in another place.
        (4, "app", [&tiny_2, &big_2, &mid_2]),
    ] {
        let name = format!("{sequence}.tar");
        let release = layout::release(&site, sequence, &[(image, &layers.map(Clone::clone))], "");
        let built = layout::bundle(&site, &release, &name, &["--base", "one.tar"]);
        for (layer, base) in [(&tiny_2, &tiny), (&mid_2, &mid), (&big_2, &big)] {
            assert_builds_on(&built, layer, base);
        }
        import(&site, &format!("high/{sequence}"), &["one.tar", &name], &layers);
    }
}

#[test]
fn what_resembles_nothing_goes_by_its_name() {
    let site = site();
    let [former, later] = [1, 2].map(rows);
    let other = Layer::plain(&tar(&[("random", &noise(9, 4096))]));
    let layers = |last: &Layer| [other.clone(), last.clone()];
    let one = layout::release(&site, 1, &[("app", &layers(&former))], "");
    layout::bundle(&site, &one, "one.tar", &[]);
    let two = layout::release(&site, 2, &[("app", &layers(&later))], "");
    let built = layout::bundle(&site, &two, "two.tar", &["--base", "one.tar"]);
    assert_builds_on(&built, &later, &former);
    import(&site, "high/store", &["one.tar", "two.tar"], &[&other, &later]);
}

/// What a site at `bundle` says of itself, signed by TEST keys.
fn inventory(site: &Site, bundle: &str) {
    let (manifest, manifest_sha384) = manifest(site, bundle);
    let list = Inventory {
        format: inventory::FORMAT.into(),
        key: Sha384::of(b"TEST machine"),
        at: Timestamp::parse("2026-11-01T10:00:00Z").unwrap(),
        marking: Marking::UNCLASSIFIED,
        releases: vec![Installed {
            product: manifest.product.clone(),
            release: manifest.release.clone(),
            sequence: manifest.sequence,
            manifest_sha384,
        }],
        blobs: manifest.blob_sizes().into_iter().map(|(digest, size)| Blob { digest, size }).collect(),
        audit: Some(AuditHead { seq: 1, hash: Sha384::of(b"TEST record") }),
    };
    let payload = list.to_bytes().unwrap();
    let mut signatures = Vec::new();
    for signature in alice().sign(&payload, &Inventory::comment(&payload)).unwrap() {
        signed::add(&mut signatures, signature);
    }
    std::fs::write(site.path("site.json"), Inventory::seal(&payload, &signatures).unwrap()).unwrap();
}

#[test]
fn an_inventory_builds_on_whatever_holds_its_blobs() {
    let site = site();
    let [by_name, by_name_2] = [1, 2].map(rows);
    let [tiny, big] = [small(1, 200, "one"), large(3, "one")];
    let one = layout::release(&site, 1, &[("app", &[big.clone(), tiny.clone(), by_name.clone()])], "");
    layout::bundle(&site, &one, "one.tar", &[]);
    inventory(&site, "one.tar");
    let [tiny_2, big_2] = [small(1, 200, "two"), large(3, "two")];
    let two = layout::release(&site, 2, &[("app", &[big_2.clone(), tiny_2.clone(), by_name_2.clone()])], "");
    let update =
        |name: &str, blobs: &[&str]| layout::bundle(&site, &two, name, &[&["--base", "site.json"], blobs].concat());
    // Without the blobs nothing is built on them, and that is said.
    let built = update("whole.tar", &[]);
    assert!(built["notes"][1].as_str().unwrap().contains("are not at hand"), "{built}");
    // A layout has them; a former bundle has their names as well.
    for (name, place) in [("layout.tar", "release/images-1"), ("bundle.tar", "one.tar")] {
        let built = update(name, &["--base-blobs", place]);
        assert_builds_on(&built, &big_2, &big);
        assert_builds_on(&built, &tiny_2, &tiny);
        if place == "one.tar" {
            assert_builds_on(&built, &by_name_2, &by_name);
        } else {
            assert_eq!(layout::note(&built, by_name_2.digest()).0, "zstd", "nothing but its name leads to its base");
        }
        import(&site, &format!("high/{name}"), &["one.tar", name], &[&big_2, &tiny_2, &by_name_2]);
    }
}

#[test]
fn a_new_layer_builds_on_one_that_stays() {
    let site = site();
    let stays = large(1, "one");
    let one = layout::release(&site, 1, &[("app", std::slice::from_ref(&stays))], "");
    layout::bundle(&site, &one, "one.tar", &[]);
    let zero = layout::release(&site, 2, &[("app", &[small(5, 100, "zero")])], "");
    layout::bundle(&site, &zero, "zero.tar", &[]);
    // The next release keeps the layer and has a second image with nearly the same.
    let new = large(1, "two");
    let images: [(&str, &[Layer]); 2] = [("app", std::slice::from_ref(&stays)), ("more", std::slice::from_ref(&new))];
    let next = layout::release(&site, 3, &images, "");
    let built = layout::bundle(&site, &next, "next.tar", &["--base", "one.tar"]);
    assert_builds_on(&built, &new, &stays);
    let (found, _) = manifest(&site, "next.tar");
    let packed: Vec<Sha256> = found.packs.iter().flat_map(|pack| &pack.blobs).map(|blob| blob.digest).collect();
    assert!(!packed.contains(&stays.digest()), "what is a base is not carried as well (R-MAN-7)");
    import(&site, "high/one", &["one.tar", "next.tar"], &[&stays, &new]);

    // Where one site has it and another has not, only the first builds on it.
    let bases = ["--base", "one.tar", "--base", "zero.tar"];
    let built = layout::bundle(&site, &next, "both.tar", &bases);
    let of_new: Vec<&Value> =
        built["blobs"].as_array().unwrap().iter().filter(|n| n["digest"] == new.digest().to_string()).collect();
    let codecs: Vec<&str> = of_new.iter().map(|note| note["codec"].as_str().unwrap()).collect();
    assert_eq!(codecs, ["zstd", "zstd-delta"], "{built}");
    import(&site, "high/both-one", &["one.tar", "both.tar"], &[&stays, &new]);
    import(&site, "high/both-zero", &["zero.tar", "both.tar"], &[&stays, &new]);
    site.installer(&["import", "next.tar", "--store", "high/none"]).expect(5);
}

/// What gzip makes smaller and tokens do not: each 16 KiB has 64 byte values of its own, for which gzip makes
/// a code of its own and zstd does not.
fn patches(seed: u64) -> Vec<u8> {
    let mut bytes = noise(seed, 2 << 20);
    for (number, part) in bytes.chunks_mut(16 << 10).enumerate() {
        let step = u8::try_from(number % 4).unwrap();
        for byte in part {
            *byte = (*byte & 0x3f) * 4 + step;
        }
    }
    bytes
}

/// The same with some bytes more a third of the way in, as where one file of many became another.
fn changed(bytes: &[u8]) -> Vec<u8> {
    let (front, back) = bytes.split_at(bytes.len() / 3);
    [front, &b"TEST".repeat(60)[..59], back].concat()
}

#[test]
fn what_is_carried_raw_is_carried_as_a_difference() {
    let site = site();
    let [model, patched, other] = [noise(1, 3 << 20), patches(2), noise(3, 2 << 20)];
    let layers = |of: &dyn Fn(&[u8]) -> Vec<u8>| {
        let tar = |content: &[u8]| tar(&[("opt/model.bin", &of(content))]);
        [Layer::gzip(&tar(&model)), Layer::gzip(&tar(&patched)), Layer::zstd(&tar(&other))]
    };
    let files = [("broken.gz", &b"\x1f\x8b"[..], 4), ("some.xz", b"\xfd7zXZ\0", 5)];
    let release = |sequence: u64, layers: &[Layer], of: &dyn Fn(&[u8]) -> Vec<u8>| {
        let mut more = vec!["files:\n".to_owned()];
        let mut digests = Vec::new();
        for (name, head, seed) in files {
            let bytes = [head, &of(&noise(seed, 1 << 20))].concat();
            digests.push(Sha256::of(&bytes));
            std::fs::create_dir_all(site.path("release")).unwrap();
            std::fs::write(site.path(&format!("release/{sequence}-{name}")), bytes).unwrap();
            more.push(format!("  - {{path: \"{name}\", source: \"file:{sequence}-{name}\"}}\n"));
        }
        (layout::release(&site, sequence, &[("app", layers)], &more.concat()), digests)
    };
    let former = layers(&<[u8]>::to_vec);
    let (one, former_files) = release(1, &former, &<[u8]>::to_vec);
    let built = layout::bundle(&site, &one, "one.tar", &[]);
    let all = former.iter().map(Layer::digest).chain(former_files.iter().copied());
    for digest in all {
        let (codec, coding, why) = layout::note(&built, digest);
        assert_eq!((codec.as_str(), coding.as_str()), ("raw", "plain"), "{why}");
    }
    let later = layers(&changed);
    let (two, later_files) = release(2, &later, &changed);
    let built = layout::bundle(&site, &two, "two.tar", &["--base", "one.tar"]);
    for (layer, base) in later.iter().zip(&former) {
        assert_builds_on(&built, layer, base);
    }
    let codings: Vec<String> = later.iter().map(|layer| layout::note(&built, layer.digest()).1).collect();
    assert_eq!(codings, ["deflate-tokens", "deflate-tokens", "plain"]);
    for (file, base) in later_files.iter().zip(&former_files) {
        let expected = ("zstd-delta".into(), "plain".into(), format!("it differs little from {base}"));
        assert_eq!(layout::note(&built, *file), expected);
    }
    let sizes = ["one.tar", "two.tar"].map(|name| std::fs::metadata(site.path(name)).unwrap().len());
    assert!(sizes[0] > 7 << 20 && sizes[1] < 400_000, "{sizes:?}");
    import(&site, "high/store", &["one.tar", "two.tar"], &later.each_ref());
    // The bytes do not depend on the number of threads.
    let bytes = |jobs: &str| {
        let args = ["build", &two, "--root", "root-1.json", "--out", "jobs.tar", "--jobs", jobs, "--base", "one.tar"];
        site.builder(&args).expect(0);
        std::fs::read(site.path("jobs.tar")).unwrap()
    };
    assert!(bytes("1") == bytes("5"));
    // Where a base is of no use, they go raw, as their own bytes.
    let strange = layers(&|content| content.iter().rev().map(|byte| byte ^ 0xa5).collect());
    let (three, _) = release(3, &strange, &<[u8]>::to_vec);
    let built = layout::bundle(&site, &three, "three.tar", &["--base", "one.tar"]);
    for layer in &strange {
        let (codec, coding, why) = layout::note(&built, layer.digest());
        assert_eq!((codec.as_str(), coding.as_str()), ("raw", "plain"), "{why}");
    }
    import(&site, "high/other", &["one.tar", "three.tar"], &strange.each_ref());
}

#[test]
fn a_lock_is_as_good_a_base_as_its_bundle() {
    let site = site();
    let [former, later] = ["one", "two"].map(|own| large(1, own));
    let one = layout::release(&site, 1, &[("app", std::slice::from_ref(&former))], "");
    layout::bundle(&site, &one, "one.tar", &[]);
    let two = layout::release(&site, 2, &[("app", std::slice::from_ref(&later))], "");
    // The release, or the lock that lies beside it.
    for (base, name) in [("release/v1.yaml", "by-release.tar"), ("release/v1.lock.yaml", "by-lock.tar")] {
        let built = layout::bundle(&site, &two, name, &["--base", base]);
        assert_builds_on(&built, &later, &former);
        import(&site, &format!("high/{name}"), &["one.tar", name], &[&later]);
    }
    let packs = |name: &str| manifest(&site, name).0.packs;
    assert_eq!(packs("by-release.tar"), packs("by-lock.tar"));
    // A lock without its release is none, and a lock that is stale is told apart from one.
    std::fs::copy(site.path("release/v1.lock.yaml"), site.path("release/alone.lock.yaml")).unwrap();
    let args = ["build", two.as_str(), "--root", "root-1.json", "--out", "no.tar", "--base"];
    let said = site.builder(&[&args[..], &["release/alone.lock.yaml"]].concat());
    assert!(said.code != 0 && said.err.contains("release/alone.yaml"), "{}", said.err);
    std::fs::copy(site.path("release/v2.lock.yaml"), site.path("release/v1.lock.yaml")).unwrap();
    let said = site.builder(&[&args[..], &["release/v1.lock.yaml"]].concat()).expect(2);
    assert!(said.err.contains("does not belong to the release"), "{}", said.err);
    // Of another product no site of this one has anything by its name, in whatever form.
    let text = std::fs::read_to_string(site.path("release/v1.yaml")).unwrap();
    std::fs::write(site.path("release/other.yaml"), text.replacen("product: test", "product: other", 1)).unwrap();
    site.builder(&["pin", "release/other.yaml"]).expect(0);
    layout::bundle(&site, "release/other.yaml", "other.tar", &[]);
    inventory(&site, "other.tar");
    for base in ["release/other.yaml", "other.tar", "site.json"] {
        let said = site.builder(&[&args[..], &[base]].concat()).expect(2);
        assert!(said.err.contains(&format!("base {base}: it names no release of product test")), "{}", said.err);
    }
    assert!(!site.path("no.tar").exists());
}
