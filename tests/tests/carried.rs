//! How each kind of blob is carried, and that the build and its report say why: layers of any
//! compression, what tokens cannot give back, content that two layers share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;

use bundle_format::digest::Sha256;
use serde_json::Value;
use system_tests::layout::{self, Layer, lines, noise, quick_gzip, skippable, tar};
use system_tests::site::Site;
use system_tests::stock::through;

/// A site without an engine.
fn site() -> Site {
    let site = Site::bare(Path::new("/var/tmp"), 18211);
    site.trust();
    site
}

fn report(site: &Site, args: &[&str]) -> Value {
    let said = site.builder(&[&["--json", "size-report"], args].concat()).expect(0);
    serde_json::from_str(&said.out).unwrap()
}

/// Bytes whose letters change every 16,000 bytes: gzip follows that more closely than zstd does, so that
/// tokens do not pay.
fn shifting(seed: u64, len: usize) -> Vec<u8> {
    let letter = |(at, byte): (usize, u8)| byte & 0x1f | u8::try_from(at / 16_000 % 7).unwrap() << 5;
    noise(seed, len).into_iter().enumerate().map(letter).collect()
}

/// What a report says of a blob: codec, coding, reason.
fn reported(report: &Value, digest: Sha256) -> (String, String, String) {
    let images = report["images"].as_array().unwrap().iter();
    let blobs = images.chain([&report["others"]]).flat_map(|part| part["blobs"].as_array().unwrap());
    let blob = blobs.into_iter().find(|blob| blob["digest"] == digest.to_string()).unwrap();
    let text = |field: &str| blob[field].as_str().unwrap().to_owned();
    (text("codec"), text("coding"), text("why"))
}

/// Imports a bundle into a store; each of these layers must lie there to the byte.
fn import(site: &Site, bundle: &str, layers: &[Layer]) {
    site.installer(&["verify", bundle]).expect(0);
    site.installer(&["import", bundle, "--store", "high/imported"]).expect(0);
    for layer in layers {
        let held = std::fs::read(layout::held(&site.path("high/imported"), layer)).unwrap();
        assert!(held == layer.stored, "{}: other bytes", layer.digest());
    }
}

#[test]
fn layers_of_every_compression_arrive_as_they_were() {
    let site = site();
    let content = |seed| tar(&[("etc/lines", &lines(seed, 3000)), ("etc/TEST", b"TEST")]);
    let plain = Layer::plain(&content(1));
    let gzip = Layer::gzip(&content(2));
    let zstd = Layer::zstd(&content(3));
    // zstd:chunked: the stream, then its table of contents in a skippable frame; pzstd: one before.
    let (inner, outer) = (content(4), content(5));
    let media_type = zstd.media_type;
    let chunked = [&Layer::zstd(&inner).stored[..], &skippable(&noise(1, 3000)), &skippable(&[0; 64])].concat();
    let chunked = Layer::of(media_type, chunked, &inner);
    let leading = [&skippable(&[1, 2, 3, 4])[..], &Layer::zstd(&outer).stored].concat();
    let leading = Layer::of(media_type, leading, &outer);
    let layers = [plain, gzip, zstd, chunked, leading];
    let release = layout::release(&site, 1, &[("app", &layers)], "");
    let built = layout::bundle(&site, &release, "one.tar", &[]);
    let report = report(&site, &["one.tar"]);
    let text = site.builder(&["size-report", "one.tar"]).expect(0).out;
    for (layer, codec, coding, why) in [
        (&layers[0], "zstd", "plain", "not compressed yet"),
        (&layers[1], "zstd", "deflate-tokens", "gzip, given back exactly from its tokens"),
        (&layers[2], "raw", "plain", "it is zstd already"),
        (&layers[3], "raw", "plain", "it is zstd already"),
        (&layers[4], "raw", "plain", "it is zstd behind a skippable frame already"),
    ] {
        let expected = (codec.to_owned(), coding.to_owned(), why.to_owned());
        assert_eq!(layout::note(&built, layer.digest()), expected);
        assert_eq!(reported(&report, layer.digest()), expected);
        let line = text.lines().find(|line| line.contains(&layer.digest().hex()[..12])).unwrap();
        assert!(line.ends_with(&format!("{codec} {coding}: {why}")), "{line}");
    }
    import(&site, "one.tar", &layers);
    // The site's image manifest is the one of the low side, so it names them by their types.
    let manifests = report["images"][0]["blobs"].as_array().unwrap().iter();
    let store = site.path("high/imported/blobs/sha256");
    let manifest = manifests
        .map(|blob| std::fs::read(store.join(&blob["digest"].as_str().unwrap()[7..])).unwrap())
        .find_map(|bytes| {
            serde_json::from_slice::<Value>(&bytes).ok().filter(|document| document.get("layers").is_some())
        })
        .unwrap();
    let types: Vec<&str> =
        manifest["layers"].as_array().unwrap().iter().map(|l| l["mediaType"].as_str().unwrap()).collect();
    assert_eq!(types, layers.each_ref().map(|layer| layer.media_type));
}

#[test]
fn the_build_and_its_report_name_what_is_carried_raw_and_why() {
    let site = site();
    let (log, random) = (lines(1, 20_000), shifting(2, 300_000));
    let incompressible = Layer::gzip(&tar(&[("random", &random)]));
    let zstd = Layer::zstd(&tar(&[("etc/lines", &lines(3, 3000))]));
    // A layer that is cut is no image's; a file may be anything.
    let whole = through(&["gzip", "-n6"], &log);
    let cut = whole[..whole.len() - 100].to_vec();
    let named = [&b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"[..], &vec![b'n'; 80_000], &whole[9..]].concat();
    let leading = [&skippable(b"TEST")[..], &zstd::bulk::compress(&log, 3).unwrap()].concat();
    let odd: [(&str, &[u8]); 4] = [
        ("cut.gz", &cut),
        ("named.gz", &named),
        ("leading.zst", &leading),
        ("random.gz", &through(&["gzip", "-n9"], &random)),
    ];
    let mut files = String::from("files:\n");
    for (name, bytes) in odd {
        std::fs::write(site.path(&format!("release/{name}")), bytes).unwrap();
        writeln!(files, "  - {{path: data/{name}, source: \"file:{name}\"}}").unwrap();
    }
    let layers = [incompressible.clone(), zstd.clone()];
    let release = layout::release(&site, 1, &[("app", &layers)], &files);
    let said = site.builder(&["build", &release, "--root", "root-1.json", "--out", "said.tar"]).expect(0).out;
    let built = layout::bundle(&site, &release, "one.tar", &[]);
    let report = report(&site, &["one.tar"]);
    let text = site.builder(&["size-report", "one.tar"]).expect(0).out;
    let dear = |bytes: &[u8]| format!("bytes, it is {}", bytes.len());
    for (name, bytes, why) in [
        ("registry.example/test/app layer 0", &incompressible.stored[..], dear(&incompressible.stored)),
        ("registry.example/test/app layer 1", &zstd.stored, "it is zstd already".into()),
        ("file data/cut.gz", &cut, "not codable as deflate tokens: ".into()),
        ("file data/named.gz", &named, "not codable as deflate tokens: ".into()),
        ("file data/leading.zst", &leading, "it is zstd behind a skippable frame already".into()),
        ("file data/random.gz", odd[3].1, dear(odd[3].1)),
    ] {
        let (codec, coding, reason) = layout::note(&built, Sha256::of(bytes));
        assert_eq!((codec.as_str(), coding.as_str()), ("raw", "plain"), "{name}");
        assert!(reason.contains(&why), "{name}: {reason}");
        // The report finds the very same out from the bundle alone, for machines and for people.
        assert_eq!(reported(&report, Sha256::of(bytes)), (codec, coding, reason.clone()), "{name}");
        let line = format!("  {name} ({} bytes) is carried raw: {reason}", bytes.len());
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
        let short = Sha256::of(bytes).hex()[..12].to_owned();
        let line = text.lines().find(|line| line.contains(&short)).unwrap();
        assert!(line.ends_with(&format!("raw plain: {reason}")), "{line}");
    }
    // No two of the odd ones are told the same.
    let reason = |bytes: &[u8]| layout::note(&built, Sha256::of(bytes)).2;
    assert_ne!(reason(&cut), reason(&named));
    import(&site, "one.tar", &layers);
    for (name, bytes) in odd {
        let held = site.path("high/imported/blobs/sha256").join(Sha256::of(bytes).hex());
        assert!(std::fs::read(held).unwrap() == bytes, "{name}");
    }
}

/// Gzip of 4 MiB and more becomes tokens while its pack is made, and only then is it known whether these
/// are carried.
#[test]
fn large_gzip_whose_tokens_are_not_carried_leaves_its_pack_to_the_rest() {
    let site = site();
    let quick = |seed| tar(&[("log", &lines(seed, 200_000))]);
    let of = |content: &[u8]| Layer::of(Layer::gzip(b"").media_type, quick_gzip(content), content);
    let (first, last) = (of(&quick(1)), of(&quick(2)));
    // One gzip member for each stretch of letters, so that gzip follows them all along.
    let members = |bytes: &[u8]| through(&["split", "-b", "16000", "--filter=gzip -n9", "-"], bytes);
    let dear = |seed| {
        let content = tar(&[("random", &shifting(seed, 8_000_000))]);
        Layer::of(Layer::gzip(b"").media_type, members(&content), &content)
    };
    let layers = [first, dear(3), last, dear(4)];
    let mut cut = layers[0].stored.clone();
    cut.truncate(cut.len() - 100);
    let random = members(&shifting(5, 8_000_000));
    let text = lines(6, 1000);
    let mut files = String::from("files:\n");
    for (name, bytes) in [("cut.gz", &cut), ("random.gz", &random), ("text", &text)] {
        std::fs::write(site.path(&format!("release/{name}")), bytes).unwrap();
        writeln!(files, "  - {{path: data/{name}, source: \"file:{name}\"}}").unwrap();
    }
    for large in layers.iter().map(|layer| &layer.stored).chain([&cut, &random]) {
        assert!(large.len() > 4 << 20, "{}", large.len());
    }
    let release = layout::release(&site, 1, &[("app", &layers)], &files);
    let unsigned = ["1", "5"].map(|jobs| {
        site.builder(&["build", &release, "--root", "root-1.json", "--jobs", jobs, "--out", "jobs.tar"]).expect(0);
        std::fs::read(site.path("jobs.tar")).unwrap()
    });
    assert!(unsigned[0] == unsigned[1]);
    let built = layout::bundle(&site, &release, "one.tar", &[]);
    let report = report(&site, &["one.tar"]);
    for layer in [&layers[0], &layers[2]] {
        let exact = "gzip, given back exactly from its tokens";
        let expected = ("zstd".to_owned(), "deflate-tokens".to_owned(), exact.to_owned());
        assert_eq!(layout::note(&built, layer.digest()), expected);
        assert_eq!(reported(&report, layer.digest()), expected);
    }
    for (bytes, why) in [
        (&layers[1].stored, format!("bytes, it is {}", layers[1].stored.len())),
        (&layers[3].stored, format!("bytes, it is {}", layers[3].stored.len())),
        (&random, format!("bytes, it is {}", random.len())),
        (&cut, "not codable as deflate tokens: ".into()),
    ] {
        let (codec, coding, reason) = layout::note(&built, Sha256::of(bytes));
        assert_eq!((codec.as_str(), coding.as_str()), ("raw", "plain"), "{why}");
        assert!(reason.contains(&why), "{reason}");
        assert_eq!(reported(&report, Sha256::of(bytes)), (codec, coding, reason));
    }
    import(&site, "one.tar", &layers);
    for bytes in [&cut, &random, &text] {
        let held = site.path("high/imported/blobs/sha256").join(Sha256::of(bytes).hex());
        assert!(std::fs::read(held).unwrap() == *bytes);
    }
}

#[test]
fn a_report_shows_an_update_beside_whole_layers_and_a_peers_archive() {
    let site = site();
    let log = |seed, line: &str| Layer::gzip(&tar(&[("log", &[&lines(seed, 30_000)[..], line.as_bytes()].concat())]));
    let (same, random) = (log(1, "same"), Layer::gzip(&tar(&[("random", &shifting(1, 200_000))])));
    let one = layout::release(&site, 1, &[("app", &[same.clone(), log(2, "one")])], "");
    layout::bundle(&site, &one, "one.tar", &[]);
    let (changed, new) = (log(2, "two"), random);
    let layers = [same.clone(), changed.clone(), new.clone()];
    let two = layout::release(&site, 2, &[("app", &layers)], "");
    let built = layout::bundle(&site, &two, "two.tar", &["--base", "one.tar"]);
    let full = report(&site, &["one.tar"]);
    assert_eq!((full["updates"].as_array().unwrap().len(), &full["peer"]), (0, &Value::Null));

    let json = report(&site, &["two.tar", "--peer", "release/images-2"]);
    let text = site.builder(&["size-report", "two.tar", "--peer", "release/images-2"]).expect(0).out;
    // Rows raw, delta, base.
    let codec = |layer: &Layer| reported(&json, layer.digest()).0;
    assert_eq!([codec(&same), codec(&changed), codec(&new)], ["base", "zstd-delta", "raw"]);
    for (layer, words) in [
        (&same, "base -: every base holds it".to_owned()),
        (&changed, format!("zstd-delta deflate-tokens: difference to {}", log(2, "one").digest())),
        (&new, format!("raw plain: {}", layout::note(&built, new.digest()).2)),
    ] {
        let line = text.lines().find(|line| line.contains(&layer.digest().hex()[..12])).unwrap();
        assert!(line.ends_with(&words), "{line}, not {words}");
    }
    let number = |value: &Value| value.as_u64().unwrap();
    let stored = |digest: &Value| {
        std::fs::metadata(site.path("release/images-2/blobs/sha256").join(&digest.as_str().unwrap()[7..]))
            .unwrap()
            .len()
    };
    let blobs = json["images"][0]["blobs"].as_array().unwrap();
    let lacked: u64 = blobs.iter().filter(|blob| blob["codec"] != "base").map(|blob| stored(&blob["digest"])).sum();
    let update = &json["updates"][0];
    assert_eq!((&update["release"], &update["sequence"]), (&"1.0".into(), &1.into()));
    assert_eq!(number(&update["layer_delta"]), lacked);
    assert!(lacked > changed.stored.len() as u64 + new.stored.len() as u64, "and the manifest and config");
    assert_eq!(number(&update["carried"]), number(&json["total"]["carried_images"]));
    assert!(number(&update["carried"]) < lacked, "{json}");
    let row = |what: &str| {
        let line = text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what}: {text}"));
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        (words.next().flatten().unwrap(), words.next().flatten().unwrap())
    };
    let sites = "for sites at release 1.0 (sequence 1), beside the sum of the blobs that these lack";
    assert_eq!(row(sites), (lacked, number(&update["carried"])));
    // The archive is what the stock programs make of the layout.
    let peer = &json["peer"];
    let made = "tar -C release/images-2 --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - . | zstd -q -T0 --ultra -20 | wc -c";
    let bytes: u64 = site.tool("sh", &["-c", made]).expect(0).out.trim().parse().unwrap();
    assert_eq!((number(&peer["bytes"]), &peer["made_by"]), (bytes, &"tar | zstd -T0 --ultra -20".into()));
    let upstream = number(&json["total"]["peer_images"]);
    assert_eq!((number(&peer["upstream"]), number(&peer["others"])), (upstream, upstream - lacked));
    assert_eq!(row("beside an archive of release/images-2").0, bytes);
    assert!(
        text.contains(&format!(
            "that archive has {} bytes of blobs that this bundle does not carry",
            upstream - lacked
        )),
        "{text}"
    );
    // Another release's layout is no peer, and what is none is said before anything is made.
    let said = site.builder(&["size-report", "two.tar", "--peer", "release/images-1"]).expect(2);
    assert!(said.err.contains("is not the layout of these images: it lacks sha256:"), "{}", said.err);
    let said = site.builder(&["size-report", "two.tar", "--peer", "release"]).expect(2);
    assert!(said.err.contains("release is no OCI layout"), "{}", said.err);
}

#[test]
fn content_that_two_layers_share_is_carried_once() {
    let site = site();
    // Most of it no compressor makes smaller, and far apart; the rest is why tokens pay at all.
    let (shared, log) = (noise(7, 6 << 20), lines(9, 30_000));
    let layer = |seed: u64| {
        let own = lines(seed, 200);
        Layer::gzip(&tar(&[("etc/own", &own), ("usr/lib/shared", &shared), ("var/log", &log)]))
    };
    let (a, b) = (layer(1), layer(2));
    assert_ne!(a.digest(), b.digest());
    let carried = |name: &str, images: &[(&str, &[Layer])], sequence| {
        let release = layout::release(&site, sequence, images, "");
        layout::bundle(&site, &release, name, &[]);
        report(&site, &[name])["total"]["carried_images"].as_u64().unwrap()
    };
    let one = carried("one.tar", &[("a", std::slice::from_ref(&a))], 1);
    let both = carried("both.tar", &[("a", std::slice::from_ref(&a)), ("b", std::slice::from_ref(&b))], 2);
    assert!(one > 6 << 20, "{one}");
    assert!(both * 10 < one * 11, "{both} for both, {one} for one");
    import(&site, "both.tar", &[a, b]);
}
