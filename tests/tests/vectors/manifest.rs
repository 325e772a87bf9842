//! Defects of a manifest that is properly signed.

use bundle_format::digest::Sha256;
use bundle_format::manifest::{Manifest, PlainFile};
use system_tests::Draft;

use crate::{Vector, refuse_all, vector};

/// A change to a sound manifest.
type Change = fn(&mut Manifest);

/// A bundle whose manifest's text has one part replaced.
fn text(from: &str, to: &str) -> Vec<u8> {
    let draft = Draft::small();
    let text = draft.text();
    assert!(text.contains(from), "{from}");
    draft.sealed_text(text.replacen(from, to, 1).into_bytes()).archive()
}

/// A bundle whose manifest was changed before signing.
fn changed(change: Change) -> Vec<u8> {
    let mut draft = Draft::small();
    change(&mut draft.manifest);
    draft.archive()
}

#[test]
fn texts() {
    let raw = |text: Vec<u8>| Draft::small().sealed_text(text).archive();
    let good = Draft::small().text();
    let layer = Sha256::of(&[b'L'; 700]).to_string();
    let frame = Draft::small().manifest.packs[0].frames[0].sha384.to_string();
    refuse_all(vec![
        vector!("unknown field", Json, "unknown field", text("{\"format\"", "{\"extra\":1,\"format\"")),
        vector!("unknown inner field", Json, "unknown field", text("\"memory_mib\"", "\"swap\":1,\"memory_mib\"")),
        vector!("doubled key", Json, "duplicate field", text("\"sequence\":7", "\"sequence\":7,\"sequence\":8")),
        vector!("missing field", Json, "missing field", text("\"sequence\":7,", "")),
        vector!("float for a whole number", Json, "invalid type", text("\"sequence\":7", "\"sequence\":7.0")),
        vector!("exponent", Json, "invalid type", text("\"sequence\":7", "\"sequence\":7e0")),
        vector!("negative sequence", Json, "invalid value", text("\"sequence\":7", "\"sequence\":-7")),
        vector!("sequence of 2^64", Json, "invalid type", text("\"sequence\":7", "\"sequence\":18446744073709551616")),
        vector!("text for a number", Json, "invalid type", text("\"sequence\":7", "\"sequence\":\"7\"")),
        vector!("deep nesting", Json, "nested deeper", text("\"images\":[", &format!("\"images\":{}", "[".repeat(40)))),
        vector!("byte order mark", Json, "expected value", raw(format!("\u{feff}{good}").into_bytes())),
        vector!("two documents", Json, "trailing characters", raw(format!("{good}{good}").into_bytes())),
        vector!(
            "not UTF-8",
            Json,
            "",
            raw(good
                .replace("TEST bundle", "\u{1}")
                .into_bytes()
                .into_iter()
                .map(|b| if b == 1 { 0xff } else { b })
                .collect())
        ),
        vector!("empty manifest", Json, "EOF", raw(Vec::new())),
        vector!("YAML", Json, "expected ident", raw(b"format: lockgate-manifest/1\n".to_vec())),
        vector!("other format", UnknownFormat, "found lockgate-manifest/2", text("manifest/1", "manifest/2")),
        vector!("upper-case digest", Json, "lower-case", text(&layer, &layer.to_uppercase())),
        vector!("digest without algorithm", Json, "lower-case", text(&layer, &layer[7..])),
        vector!("sha512 digest", Json, "lower-case", text(&layer, &format!("sha512:{0}{0}", &layer[7..]))),
        vector!("short digest", Json, "lower-case", text(&layer, &layer[..70])),
        vector!("long digest", Json, "lower-case", text(&layer, &format!("{layer}0"))),
        vector!("upper-case frame digest", Json, "lower-case", text(&frame, &frame.to_uppercase())),
        vector!("short frame digest", Json, "lower-case", text(&frame, &frame[2..])),
        vector!("unknown marking", Json, "marking", text("\"UNCLASSIFIED\"", "\"OPEN\"")),
        vector!("marking of two lines", Json, "marking", text("\"UNCLASSIFIED\"", "\"UNCLASSIFIED\\nSECRET\"")),
        vector!("time with an offset", Json, "YYYY", text("T00:00:00Z", "T00:00:00+00:00")),
        vector!("29 February 2026", Json, "YYYY", text("2026-01-01", "2026-02-29")),
        vector!("unknown kind of secret", Json, "unknown variant", text("\"kind\":\"password\"", "\"kind\":\"shell\"")),
    ]);
}

#[test]
fn names() {
    let says_path = |defect, change: Change| vector!(defect, BadName, "file", changed(change));
    let mut vectors: Vec<Vector> = [
        ("file climbs", (|m| m.files[0].path = "../../etc/cron.d/x".into()) as Change),
        ("file absolute", |m| m.files[0].path = "/etc/passwd".into()),
        ("file with a backslash", |m| m.files[0].path = "a\\b".into()),
        ("file with a NUL", |m| m.files[0].path = "a\0b".into()),
        ("file of 33 components", |m| m.files[0].path = ["a"; 33].join("/")),
        ("file of 241 bytes", |m| m.files[0].path = "a".repeat(241)),
        ("file with an escape sequence", |m| m.files[0].path = "a\u{1b}[2J".into()),
        ("file composed", |m| m.files[0].path = "caf\u{e9}".into()),
        ("file like an option", |m| m.files[0].path = "docs/-rf".into()),
        ("file without name", |m| m.files[0].path = String::new()),
        ("package file in a folder", |m| m.runtime[0].packages[0].name = "../x.deb".into()),
        ("hidden package file", |m| m.runtime[0].packages[0].name = ".x.deb".into()),
    ]
    .into_iter()
    .map(|(defect, change)| says_path(defect, change))
    .collect();
    vectors.extend([
        vector!("product in capitals", BadName, "product", changed(|m| m.product = "Product".into())),
        vector!("product climbs", BadName, "product", changed(|m| m.product = "../x".into())),
        vector!("release with a slash", BadName, "release", changed(|m| m.release = "1/2".into())),
        vector!("network climbs", BadName, "network", changed(|m| m.network.name = "a/..".into())),
        vector!("workload with a dot", BadName, "workload", changed(|m| m.workloads[0].name = "app.container".into())),
        vector!("package like an option", BadName, "runtime package", {
            changed(|m| m.runtime[0].install[0] = "--allow-unauthenticated".into())
        }),
        vector!("platform climbs", BadName, "platform", changed(|m| m.platform = "linux/..".into())),
        vector!("codec with a slash", BadName, "codec", changed(|m| m.packs[0].codec = "a/b".into())),
        vector!("short image name", BadValue, "image name", changed(|m| m.images[0].name = "nginx".into())),
        vector!("image name climbs", BadValue, "image name", changed(|m| m.images[0].name = "r.example/../x".into())),
        vector!("tag like an option", BadValue, "image name", changed(|m| m.images[0].tag = "-x".into())),
        vector!("title moves the cursor", BadValue, "title", changed(|m| m.title = "a\u{1b}[2J".into())),
        vector!("title reorders its line", BadValue, "title", changed(|m| m.title = "a\u{202e}b".into())),
        vector!("title with a zero-width space", BadValue, "title", changed(|m| m.title = "a\u{200b}b".into())),
        vector!("title of two lines", BadValue, "title", changed(|m| m.title = "a\nb".into())),
        vector!("title of 241 bytes", BadValue, "title", changed(|m| m.title = "a".repeat(241))),
        vector!(
            "media type of two lines",
            BadValue,
            "media type",
            changed(|m| m.images[0].media_type = "a\r\nb".into())
        ),
        vector!("host with a newline", BadValue, "host", { text("\"localhost\"", "\"localhost\\nCN=evil\"") }),
    ]);
    refuse_all(vectors);
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn consistency() {
    let stowaway = Sha256::of(b"licence");
    assert!(Draft::small().manifest.files.iter().any(|file| file.digest == stowaway));
    refuse_all(vec![
        vector!("sequence 0", Inconsistent, "sequence is 0", changed(|m| m.sequence = 0)),
        vector!("stowaway blob", Inconsistent, "nothing names it", changed(|m| drop(m.files.pop()))),
        vector!("missing blob of a file", Inconsistent, "which no pack holds", {
            changed(|m| m.files.push(PlainFile { path: "x".into(), digest: Sha256::of(b"nowhere") }))
        }),
        vector!("missing blob of a workload", Inconsistent, "which no pack holds", {
            changed(|m| m.workloads[0].digest = Sha256::of(b"nowhere"))
        }),
        vector!("blob twice in a pack", Inconsistent, "in the packs twice", {
            changed(|m| {
                let blob = m.packs[0].blobs[0].clone();
                m.packs[0].blobs.push(blob);
            })
        }),
        vector!("blob in two packs", Inconsistent, "in the packs twice", {
            let mut draft = Draft::small();
            draft.add_pack(bundle_format::pack::Encoding::Raw, &[b"licence"]);
            draft.archive()
        }),
        vector!(
            "pack misnamed",
            Inconsistent,
            "expected packs/00000",
            changed(|m| m.packs[0].name = "packs/00001".into())
        ),
        vector!("pack named by a path", Inconsistent, "expected packs/00001", {
            changed(|m| m.packs[1].name = "../packs/00001".into())
        }),
        vector!("frame of no bytes", TooLarge, "a frame of packs/00000", changed(|m| m.packs[0].frames[0].size = 0)),
        vector!("frame over 8 MiB", TooLarge, "a frame of packs/00000", {
            changed(|m| m.packs[0].frames[0].size = (8 << 20) + 1)
        }),
        vector!("pack over 8 GiB", TooLarge, "packs/00000", {
            changed(|m| {
                let frame = bundle_format::manifest::Frame { size: 8 << 20, ..m.packs[0].frames[0] };
                m.packs[0].frames = vec![frame; 1024];
            })
        }),
        vector!("raw pack larger than its blobs", Inconsistent, "is raw", {
            changed(|m| m.packs[1].frames[0].size += 1)
        }),
        vector!("raw blob smaller than its bytes", Inconsistent, "is raw", {
            changed(|m| {
                m.packs[1].blobs[0].size -= 1;
                m.packs[1].blobs[0].coded -= 1;
            })
        }),
        vector!("blob sizes overflow", Inconsistent, "overflow", {
            changed(|m| m.packs[0].blobs.iter_mut().for_each(|blob| blob.size = u64::MAX / 2))
        }),
        vector!("case-fold twins", Inconsistent, "appears twice", {
            changed(|m| {
                m.files[0].path = "docs/A".into();
                m.files[1].path = "DOCS/a".into();
            })
        }),
        vector!(
            "file twice",
            Inconsistent,
            "appears twice",
            changed(|m| {
                let f = m.files[0].clone();
                m.files.push(f);
            })
        ),
        vector!("image twice", Inconsistent, "appears twice", {
            changed(|m| {
                let image = m.images[0].clone();
                m.images.push(image);
            })
        }),
        vector!("workload twice", Inconsistent, "appears twice", {
            changed(|m| {
                let workload = m.workloads[0].clone();
                m.workloads.push(workload);
            })
        }),
        vector!("secret twice", Inconsistent, "appears twice", {
            changed(|m| {
                let secret = m.secrets[0].clone();
                m.secrets.push(secret);
            })
        }),
        vector!("runtime twice", Inconsistent, "appears twice", {
            changed(|m| {
                let runtime = m.runtime[0].clone();
                m.runtime.push(runtime);
            })
        }),
        vector!("package file twice", Inconsistent, "appears twice", {
            changed(|m| {
                let file = m.runtime[0].packages[0].clone();
                m.runtime[0].packages.push(file);
            })
        }),
        vector!("image without its manifest", Inconsistent, "does not list its own manifest", {
            changed(|m| {
                let own = m.images[0].digest;
                m.images[0].blobs.retain(|blob| *blob != own);
            })
        }),
        vector!(
            "image's blobs unsorted",
            Inconsistent,
            "doubled or unsorted",
            changed(|m| m.images[0].blobs.reverse())
        ),
        vector!("image's blob twice", Inconsistent, "doubled or unsorted", {
            changed(|m| {
                let blob = m.images[0].blobs[2];
                m.images[0].blobs.push(blob);
            })
        }),
        vector!("10,001 packs", TooLarge, "packs", {
            changed(|m| {
                let pack =
                    bundle_format::manifest::Pack { frames: Vec::new(), blobs: Vec::new(), ..m.packs[1].clone() };
                m.packs.resize(10_001, pack);
            })
        }),
    ]);
}
