//! Defects of a manifest that is properly signed. Long, because it is one table: a rule is found here or
//! nowhere.
#![allow(clippy::too_many_lines, reason = "tables")]

use bundle_format::digest::Sha256;
use bundle_format::lifecycle::{Backup, Check, Data, Lifecycle, Migration, Range};
use bundle_format::manifest::{Blob, Manifest, PackedBlob, PlainFile};
use system_tests::Draft;

use crate::{Vector, breaks, part, vector};

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

fn texts() -> Vec<Vector> {
    let raw = |text: Vec<u8>| Draft::small().sealed_text(text).archive();
    let good = Draft::small().text();
    let json = vec![
        vector!("byte order mark", Json, "expected value", raw(format!("\u{feff}{good}").into_bytes())),
        vector!("two documents", Json, "trailing characters", raw(format!("{good}{good}").into_bytes())),
        vector!("bytes behind the document", Json, "trailing characters", raw(format!("{good}x").into_bytes())),
        vector!("NUL behind the document", Json, "trailing characters", raw(format!("{good}\0").into_bytes())),
        vector!("manifest that is not UTF-8", Json, "", {
            let text = good.replace("TEST bundle", "\u{1}").into_bytes();
            raw(text.into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect())
        }),
        vector!("UTF-16", Json, "", raw(good.encode_utf16().flat_map(u16::to_le_bytes).collect())),
        vector!("overlong UTF-8", Json, "", {
            let (head, tail) = good.split_once("TEST bundle").unwrap();
            raw([head.as_bytes(), &[0xc0, 0xaf], tail.as_bytes()].concat())
        }),
        vector!("half a surrogate pair", Json, "", text("TEST bundle", "\\ud800")),
        vector!("control character in a text", Json, "control character", text("TEST bundle", "TEST\u{1}bundle")),
        vector!("empty manifest", Json, "EOF", raw(Vec::new())),
        vector!("manifest's text cut", Json, "EOF", raw(good.as_bytes()[..good.len() - 9].to_vec())),
        vector!("YAML", Json, "expected ident", raw(b"format: lockgate-manifest/1\n".to_vec())),
        vector!("comment", Json, "expected value", raw(format!("/* */{good}").into_bytes())),
        vector!("comma behind the last field", Json, "trailing comma", text("\"packs\":[", "\"packs\":[],}x[")),
        vector!("a list for the document", Json, "", raw(b"[]\n".to_vec())),
        vector!("a text for the document", Json, "invalid type", raw(b"\"\"\n".to_vec())),
        vector!("null for the document", Json, "invalid type", raw(b"null\n".to_vec())),
    ];
    let fields = vec![
        vector!("unknown field", Json, "unknown field", text("{\"format\"", "{\"extra\":1,\"format\"")),
        vector!("unknown inner field", Json, "unknown field", text("\"memory_mib\"", "\"swap\":1,\"memory_mib\"")),
        vector!("unknown field of a frame", Json, "unknown field", text("{\"size\"", "{\"offset\":0,\"size\"")),
        vector!("unknown field of a secret", Json, "unknown field", {
            text("{\"kind\":\"password\"", "{\"value\":\"hunter2\",\"kind\":\"password\"")
        }),
        vector!(
            "unknown field of the lifecycle",
            Json,
            "unknown field",
            text("\"stable_seconds\"", "\"run\":1,\"stable_seconds\"")
        ),
        vector!("field of another case", Json, "unknown field", text("\"sequence\"", "\"Sequence\"")),
        vector!("field spelled with escapes, twice", Json, "duplicate field", {
            text("\"sequence\":7", "\"sequence\":7,\"seq\\u0075ence\":8")
        }),
        vector!("doubled key", Json, "duplicate field", text("\"sequence\":7", "\"sequence\":7,\"sequence\":8")),
        vector!(
            "doubled inner key",
            Json,
            "duplicate field",
            text("\"memory_mib\":64", "\"memory_mib\":64,\"memory_mib\":1")
        ),
        vector!("missing field", Json, "missing field", text("\"sequence\":7,", "")),
        vector!("missing marking", Json, "missing field", text("\"marking\":\"UNCLASSIFIED\",", "")),
        vector!("missing list", Json, "missing field", {
            let mut value: serde_json::Value = serde_json::from_str(&good).unwrap();
            value.as_object_mut().unwrap().remove("packs").unwrap();
            raw(value.to_string().into_bytes())
        }),
        vector!("null for a list", Json, "invalid type", text("\"images\":[", "\"images\":null,\"x\":[")),
    ];
    let numbers = vec![
        vector!("float for a whole number", Json, "invalid type", text("\"sequence\":7", "\"sequence\":7.0")),
        vector!("exponent", Json, "invalid type", text("\"sequence\":7", "\"sequence\":7e0")),
        vector!("negative sequence", Json, "invalid value", text("\"sequence\":7", "\"sequence\":-7")),
        vector!("negative zero", Json, "invalid type", text("\"memory_mib\":64", "\"memory_mib\":-0")),
        vector!("leading zero", Json, "invalid number", text("\"sequence\":7", "\"sequence\":07")),
        vector!("hexadecimal number", Json, "", text("\"sequence\":7", "\"sequence\":0x7")),
        vector!("not a number", Json, "", text("\"sequence\":7", "\"sequence\":NaN")),
        vector!(
            "number of 5000 digits",
            Json,
            "",
            text("\"sequence\":7", &format!("\"sequence\":1{}", "0".repeat(5000)))
        ),
        vector!("sequence of 2^64", Json, "invalid type", text("\"sequence\":7", "\"sequence\":18446744073709551616")),
        vector!("text for a number", Json, "invalid type", text("\"sequence\":7", "\"sequence\":\"7\"")),
        vector!("number for a switch", Json, "invalid type", text("\"internal\":true", "\"internal\":1")),
        vector!(
            "port of 2^16",
            Json,
            "invalid value",
            text("\"checks\":[", {
                "\"checks\":[{\"kind\":\"http\",\"name\":\"a\",\"port\":65536,\"path\":\"/\",\"status\":200}"
            })
        ),
    ];
    let depth = vec![
        vector!("deep nesting", Json, "nested deeper", text("\"images\":[", &format!("\"images\":{}", "[".repeat(40)))),
        vector!(
            "nesting of 33",
            Json,
            "nested deeper",
            text("\"images\":[", &format!("\"images\":{}", "[".repeat(32)))
        ),
        vector!("a million brackets", Json, "nested deeper", raw("[".repeat(1_000_000).into_bytes())),
    ];
    let forms = vec![
        vector!("space between fields", NotCanonical, "manifest", text("\"sequence\":7", "\"sequence\": 7")),
        vector!("no newline at the end", NotCanonical, "manifest", raw(good.trim_end().as_bytes().to_vec())),
        vector!("two newlines at the end", NotCanonical, "manifest", raw(format!("{good}\n").into_bytes())),
        vector!("fields in another order", NotCanonical, "manifest", {
            text("\"sequence\":7,\"marking\":\"UNCLASSIFIED\"", "\"marking\":\"UNCLASSIFIED\",\"sequence\":7")
        }),
        vector!("letter written as an escape", NotCanonical, "manifest", text("TEST bundle", "TEST \\u0062undle")),
        // Some readers take a list for an object's values in their order: two readings of one text.
        vector!("a list for an object", NotCanonical, "manifest", {
            text("{\"memory_mib\":64,\"disk_mib\":64}", "[64,64]")
        }),
        vector!("a list for a tagged object", NotCanonical, "manifest", {
            text("{\"kind\":\"password\",\"name\":\"app-password\"}", "[\"password\",\"app-password\"]")
        }),
        vector!("an absent value for null", NotCanonical, "manifest", text("\"expires\":null,", "")),
    ];
    [
        breaks(&["R-JSON-1"], json),
        breaks(&["R-JSON-2"], fields),
        breaks(&["R-JSON-3"], numbers),
        breaks(&["R-JSON-4", "R-LIM-13"], depth),
        breaks(&["R-JSON-5"], forms),
        breaks(
            &["R-MAN-1"],
            [
                vector!("other format", UnknownFormat, "found lockgate-manifest/2", text("manifest/1", "manifest/2")),
                vector!("no format", UnknownFormat, "found ", text("lockgate-manifest/1", "")),
                vector!(
                    "a root for a manifest",
                    Json,
                    "",
                    raw(system_tests::keys::payload(&system_tests::keys::root(1, 1, &[&system_tests::keys::alice()]))
                        .into_bytes())
                ),
            ],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn digests_and_times() -> Vec<Vector> {
    let layer = Sha256::of(&[b'L'; 700]).to_string();
    let frame = Draft::small().manifest.packs[0].frames[0].sha384.to_string();
    breaks(
        &["R-JSON-2", "R-MAN-2"],
        [
            vector!("upper-case digest", Json, "lower-case", text(&layer, &layer.to_uppercase())),
            vector!("digest of upper-case digits", Json, "lower-case", {
                text(&layer, &format!("sha256:{}", layer[7..].to_uppercase()))
            }),
            vector!("digest without algorithm", Json, "lower-case", text(&layer, &layer[7..])),
            vector!("sha512 digest", Json, "lower-case", text(&layer, &format!("sha512:{0}{0}", &layer[7..]))),
            vector!("short digest", Json, "lower-case", text(&layer, &layer[..70])),
            vector!("long digest", Json, "lower-case", text(&layer, &format!("{layer}0"))),
            vector!("digest with a space", Json, "lower-case", text(&layer, &format!("{layer} "))),
            vector!("digest that climbs", Json, "lower-case", text(&layer, "sha256:../../../../etc/passwd")),
            vector!("upper-case frame digest", Json, "lower-case", text(&frame, &frame.to_uppercase())),
            vector!("short frame digest", Json, "lower-case", text(&frame, &frame[2..])),
            vector!("sha256 for a frame's SHA-384", Json, "lower-case", text(&frame, &layer[7..])),
            vector!("time with an offset", Json, "YYYY", text("T00:00:00Z", "T00:00:00+00:00")),
            vector!("29 February 2026", Json, "YYYY", text("2026-01-01", "2026-02-29")),
            vector!("leap second", Json, "YYYY", text("T00:00:00Z", "T23:59:60Z")),
            vector!("hour 24", Json, "YYYY", text("T00:00:00Z", "T24:00:00Z")),
            vector!("parts of a second", Json, "YYYY", text("T00:00:00Z", "T00:00:00.5Z")),
            vector!("time before 1970", Json, "YYYY", text("2026-01-01", "1969-12-31")),
            vector!("year 10000", Json, "YYYY", text("2026-01-01", "10000-01-01")),
            vector!("month 13", Json, "YYYY", text("2026-01-01", "2026-13-01")),
            vector!(
                "unknown kind of secret",
                Json,
                "unknown variant",
                text("\"kind\":\"password\"", "\"kind\":\"shell\"")
            ),
        ],
    )
}

fn markings() -> Vec<Vector> {
    let marked = |marking: &str| text("\"UNCLASSIFIED\"", &format!("\"{marking}\""));
    let of = |(defect, marking): (&'static str, &str)| vector!(defect, Json, "marking", marked(marking));
    let level = [
        ("unknown marking", "OPEN"),
        ("marking of two lines", "UNCLASSIFIED\\nSECRET"),
        ("marking in small letters", "secret"),
        ("no marking", ""),
        ("marking with a space behind", "SECRET "),
        ("two levels", "SECRET//TOP SECRET"),
    ];
    let controls = [
        ("control twice", "SECRET//NOFORN/NOFORN"),
        ("controls out of order", "SECRET//NOFORN/ORCON"),
        ("REL TO without USA first", "SECRET//REL TO GBR, USA"),
        ("REL TO USA alone", "SECRET//REL TO USA"),
        ("REL TO out of order", "SECRET//REL TO USA, GBR, AUS"),
        ("REL TO with a code twice", "SECRET//REL TO USA, GBR, GBR"),
        ("REL TO with USA twice", "SECRET//REL TO USA, USA"),
        ("REL TO with a code of two letters", "SECRET//REL TO USA, UK"),
        ("REL TO in small letters", "SECRET//REL TO USA, gbr"),
        ("REL TO without spaces", "SECRET//REL TO USA,GBR"),
        ("no control behind the slashes", "SECRET//"),
        ("empty control", "SECRET//ORCON//NOFORN"),
        ("slash at the end", "SECRET//NOFORN/"),
    ];
    let combined = [
        ("control of an unclassified bundle", "UNCLASSIFIED//NOFORN"),
        ("control of a CUI bundle", "CUI//NOFORN"),
        ("NOFORN with REL TO", "SECRET//NOFORN/REL TO USA, GBR"),
        ("NOFORN with RELIDO", "SECRET//NOFORN/RELIDO"),
    ];
    let foreign = [
        ("SCI", "TOP SECRET//SI/TK//NOFORN"),
        ("SAP", "SECRET//SPECIAL ACCESS REQUIRED-BUTTERED POPCORN"),
        ("AEA", "SECRET//RD"),
        ("FGI", "SECRET//FGI GBR"),
        ("portion", "(S//NF)"),
        ("joint", "//JOINT SECRET CAN GBR USA"),
        ("marking with a zero-width space", "SEC\u{200b}RET"),
        ("marking with another alphabet's letters", "S\u{415}CRET"),
    ];
    [
        breaks(&["R-MRK-1"], level.map(of)),
        breaks(&["R-MRK-2"], controls.map(of)),
        breaks(&["R-MRK-3"], combined.map(of)),
        breaks(&["R-MRK-4"], foreign.map(of)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn names() -> Vec<Vector> {
    let says_path = |defect: &str, change: Change| vector!(defect, BadName, "file", changed(change));
    let paths: Vec<Vector> = [
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
        ("file ends in a slash", |m| m.files[0].path = "docs/".into()),
        ("file with two slashes", |m| m.files[0].path = "docs//x".into()),
        ("file with a dot component", |m| m.files[0].path = "docs/./x".into()),
        ("file ends in a dot component", |m| m.files[0].path = "docs/..".into()),
        ("file with a newline behind", |m| m.files[0].path = "docs/x\n".into()),
        ("file decomposed", |m| m.files[0].path = "cafe\u{301}".into()),
        ("file with a right-to-left override", |m| m.files[0].path = "a\u{202e}b".into()),
        ("file with a zero-width joiner", |m| m.files[0].path = "a\u{200d}b".into()),
        ("file with a colon", |m| m.files[0].path = "a:b".into()),
        ("file with a space", |m| m.files[0].path = "a b".into()),
        ("file with a component of 256 bytes", |m| m.files[0].path = format!("docs/{}", "a".repeat(256))),
        ("file of 4097 bytes", |m| m.files[0].path = ["a".repeat(240).as_str(); 17].join("/")),
        ("file of 1000 components", |m| m.files[0].path = ["a"; 1000].join("/")),
        ("file with a dollar", |m| m.files[0].path = "$(reboot)".into()),
    ]
    .into_iter()
    .map(|(defect, change)| says_path(defect, change))
    .collect();
    let file_names: Vec<Vector> = [
        ("package file without name", (|m| m.runtime[0].packages[0].name = String::new()) as Change),
        ("package file like an option", |m| m.runtime[0].packages[0].name = "-o.deb".into()),
        ("package file of 241 bytes", |m| m.runtime[0].packages[0].name = "a".repeat(241)),
        ("package file with a newline", |m| m.runtime[0].packages[0].name = "a\n.deb".into()),
        ("package file in a folder", |m| m.runtime[0].packages[0].name = "../x.deb".into()),
        ("hidden package file", |m| m.runtime[0].packages[0].name = ".x.deb".into()),
    ]
    .into_iter()
    .map(|(defect, change)| says_path(defect, change))
    .collect();
    let labels = vec![
        vector!("product in capitals", BadName, "product", changed(|m| m.product = "Product".into())),
        vector!("product climbs", BadName, "product", changed(|m| m.product = "../x".into())),
        vector!("network climbs", BadName, "network", changed(|m| m.network.name = "a/..".into())),
        vector!("workload with a dot", BadName, "workload", changed(|m| m.workloads[0].name = "app.container".into())),
        vector!("codec with a slash", BadName, "codec", changed(|m| m.packs[0].codec = "a/b".into())),
        vector!("codec in capitals", BadName, "codec", changed(|m| m.packs[0].codec = "Raw".into())),
        vector!("codec without name", BadName, "codec", changed(|m| m.packs[0].codec = String::new())),
        vector!("product without name", BadName, "product", changed(|m| m.product = String::new())),
        vector!("product of 64 letters", BadName, "product", changed(|m| m.product = "a".repeat(64))),
        vector!("product that ends in a hyphen", BadName, "product", changed(|m| m.product = "a-".into())),
        vector!("product that begins with a hyphen", BadName, "product", changed(|m| m.product = "-a".into())),
        vector!("product with a full stop", BadName, "product", changed(|m| m.product = "a.b".into())),
        vector!("workload with a newline", BadName, "workload", changed(|m| m.workloads[0].name = "app\n".into())),
        vector!("secret that climbs", BadName, "secret", text("\"app-password\"", "\"../app-password\"")),
    ];
    let other_paths = vec![
        vector!("package like an option", BadName, "runtime package", {
            changed(|m| m.runtime[0].install[0] = "--allow-unauthenticated".into())
        }),
        vector!("platform climbs", BadName, "platform", changed(|m| m.platform = "linux/..".into())),
        vector!(
            "operating system that climbs",
            BadName,
            "runtime os",
            changed(|m| m.runtime[0].os = "../debian".into())
        ),
        vector!(
            "package with a space",
            BadName,
            "runtime package",
            changed(|m| m.runtime[0].install[0] = "a b".into())
        ),
    ];
    let releases = vec![
        vector!("release with a slash", BadName, "release", changed(|m| m.release = "1/2".into())),
        vector!("release that is hidden", BadName, "release", changed(|m| m.release = ".1".into())),
        vector!("release without name", BadName, "release", changed(|m| m.release = String::new())),
        vector!("release like an option", BadName, "release", changed(|m| m.release = "--force".into())),
    ];
    let images = vec![
        vector!("short image name", BadValue, "image name", changed(|m| m.images[0].name = "nginx".into())),
        vector!("image name climbs", BadValue, "image name", changed(|m| m.images[0].name = "r.example/../x".into())),
        vector!("tag like an option", BadValue, "image name", changed(|m| m.images[0].tag = "-x".into())),
        vector!(
            "image name in capitals",
            BadValue,
            "image name",
            changed(|m| m.images[0].name = "r.example/App".into())
        ),
        vector!("image name with a digest", BadValue, "image name", {
            changed(|m| m.images[0].name = "r.example/app@sha256".into())
        }),
        vector!(
            "image name with a tag",
            BadValue,
            "image name",
            changed(|m| m.images[0].name = "r.example/app:1".into())
        ),
        vector!("image without a tag", BadValue, "image name", changed(|m| m.images[0].tag = String::new())),
        vector!("tag with a slash", BadValue, "image name", changed(|m| m.images[0].tag = "a/b".into())),
        vector!("tag of 129 letters", BadValue, "image name", changed(|m| m.images[0].tag = "a".repeat(129))),
        vector!("port of letters", BadValue, "image name", changed(|m| m.images[0].name = "r.example:http/app".into())),
        vector!("image name of 241 bytes", BadValue, "image name", {
            changed(|m| m.images[0].name = format!("r.example/{}", "a".repeat(227)))
        }),
        vector!(
            "image name with a query",
            BadValue,
            "image name",
            changed(|m| m.images[0].name = "r.example/a?b".into())
        ),
        vector!(
            "image name with a user",
            BadValue,
            "image name",
            changed(|m| m.images[0].name = "me@r.example/a".into())
        ),
    ];
    let lines = vec![
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
        vector!("title with a backslash", BadValue, "title", changed(|m| m.title = "a\\b".into())),
        vector!("no title", BadValue, "title", changed(|m| m.title = String::new())),
        vector!("title with a byte order mark", BadValue, "title", changed(|m| m.title = "a\u{feff}b".into())),
        vector!("title with a tag character", BadValue, "title", changed(|m| m.title = "a\u{e0041}b".into())),
        vector!("title with a C1 control", BadValue, "title", changed(|m| m.title = "a\u{9b}2Jb".into())),
        vector!("title with an isolate", BadValue, "title", changed(|m| m.title = "a\u{2066}b".into())),
    ];
    let hosts = vec![
        vector!("host with a newline", BadValue, "host", text("\"localhost\"", "\"localhost\\nCN=evil\"")),
        vector!("host with a comma", BadValue, "host", text("\"localhost\"", "\"localhost,DNS:evil\"")),
        vector!("host without name", BadValue, "host", text("\"localhost\"", "\"\"")),
        vector!("host of 254 letters", BadValue, "host", text("\"localhost\"", &format!("\"{}\"", "a".repeat(254)))),
        vector!("host with a wildcard", BadValue, "host", text("\"localhost\"", "\"*\"")),
    ];
    [
        breaks(&["R-MAN-2", "R-NAM-1", "R-LIM-11", "R-LIM-12"], paths),
        breaks(&["R-MAN-2", "R-NAM-1"], other_paths),
        breaks(&["R-MAN-2", "R-NAM-2"], labels),
        breaks(&["R-MAN-2", "R-NAM-3"], releases),
        breaks(&["R-MAN-2", "R-NAM-3", "R-LIM-11"], file_names),
        breaks(&["R-MAN-2", "R-NAM-4"], images),
        breaks(&["R-MAN-2", "R-NAM-5"], lines),
        breaks(&["R-MAN-2", "R-NAM-6"], hosts),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn consistency() -> Vec<Vector> {
    let stowaway = Sha256::of(b"licence");
    assert!(Draft::small().manifest.files.iter().any(|file| file.digest == stowaway));
    let sequences = vec![
        vector!("sequence 0", Inconsistent, "sequence is 0", changed(|m| m.sequence = 0)),
        vector!("sequence of 2^63", Inconsistent, "sequence is", changed(|m| m.sequence = 1 << 63)),
    ];
    let blobs = vec![
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
        vector!("missing blob of an image", Inconsistent, "which no pack holds", {
            changed(|m| {
                m.images[0].blobs.push(Sha256::of(b"nowhere"));
                m.images[0].blobs.sort();
            })
        }),
        vector!("missing blob of a package", Inconsistent, "which no pack holds", {
            changed(|m| m.runtime[0].packages[0].digest = Sha256::of(b"nowhere"))
        }),
        vector!("stowaway without bytes", Inconsistent, "nothing names it", {
            changed(|m| m.packs[0].blobs.push(PackedBlob::plain(Blob { digest: Sha256::of(b""), size: 0 })))
        }),
    ];
    let names = vec![
        vector!(
            "pack misnamed",
            Inconsistent,
            "expected packs/00000",
            changed(|m| m.packs[0].name = "packs/00001".into())
        ),
        vector!("pack named by a path", Inconsistent, "expected packs/00001", {
            changed(|m| m.packs[1].name = "../packs/00001".into())
        }),
        vector!("pack of six digits", Inconsistent, "expected packs/00000", {
            changed(|m| m.packs[0].name = "packs/000000".into())
        }),
        vector!("two packs of one name", Inconsistent, "expected packs/00001", {
            changed(|m| m.packs[1].name = "packs/00000".into())
        }),
    ];
    let sizes = vec![
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
        vector!("frame of 2^64 - 1 bytes", TooLarge, "a frame of packs/00000", {
            changed(|m| m.packs[0].frames[0].size = u64::MAX)
        }),
    ];
    let sums = vec![
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
        vector!("raw pack without blobs", Inconsistent, "is raw", {
            changed(|m| {
                m.packs[1].blobs.clear();
                m.files.clear();
                m.workloads.clear();
            })
        }),
    ];
    let twins = vec![
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
        vector!("file below a file", Inconsistent, "which is a file too", {
            changed(|m| {
                m.files[0].path = "docs".into();
                m.files[1].path = "docs/licence".into();
            })
        }),
        vector!("file below a file of another case", Inconsistent, "which is a file too", {
            changed(|m| {
                m.files[0].path = "Docs".into();
                m.files[1].path = "docs/licence".into();
            })
        }),
        vector!("package files that differ in case", Inconsistent, "appears twice", {
            changed(|m| {
                let mut file = m.runtime[0].packages[0].clone();
                file.name = file.name.to_uppercase();
                m.runtime[0].packages.push(file);
            })
        }),
        vector!("image twice under two tags", Inconsistent, "appears twice", {
            changed(|m| {
                let mut image = m.images[0].clone();
                image.tag = "other".into();
                m.images.push(image);
            })
        }),
    ];
    let images = vec![
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
        vector!("image without its index", Inconsistent, "does not list its own manifest", {
            changed(|m| m.images[0].digest = Sha256::of(b"licence"))
        }),
        vector!(
            "image without blobs",
            Inconsistent,
            "does not list its own manifest",
            changed(|m| m.images[0].blobs.clear())
        ),
    ];
    let counts = vec![vector!("10,001 packs", TooLarge, "packs", {
        changed(|m| {
            let pack = bundle_format::manifest::Pack { frames: Vec::new(), blobs: Vec::new(), ..m.packs[1].clone() };
            m.packs.resize(10_001, pack);
        })
    })];
    [
        breaks(&["R-MAN-3", "R-LIM-51"], sequences),
        breaks(&["R-MAN-7"], blobs),
        breaks(&["R-MAN-4"], names),
        breaks(&["R-MAN-5", "R-LIM-7", "R-LIM-8"], sizes),
        breaks(&["R-MAN-6"], sums),
        breaks(&["R-MAN-9"], twins),
        breaks(&["R-MAN-8"], images),
        breaks(&["R-MAN-4", "R-LIM-9"], counts),
        breaks(&["R-MAN-4", "R-LIM-10"], [vector!("100,001 blobs", TooLarge, "blobs", many_blobs())]),
        breaks(&["R-MAN-4", "R-LIM-17"], [part!("200,001 frames", TooLarge, "frames", many_frames)]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One more blob than a manifest may hold.
fn many_blobs() -> Vec<u8> {
    let mut draft = Draft::empty();
    draft.add_pack(bundle_format::pack::Encoding::Zstd { level: 1 }, &[]);
    let blob = |number: u32| Blob { digest: Sha256::of(&number.to_be_bytes()), size: 1 };
    draft.manifest.packs[0].blobs = (0..=100_000).map(blob).map(PackedBlob::plain).collect();
    draft.archive()
}

/// Frames over the limit. Such a manifest has more bytes than R-LIM-1 allows, so the check is asked
/// alone.
fn many_frames() -> bundle_format::Result<()> {
    let mut draft = Draft::empty();
    draft.add_pack(bundle_format::pack::Encoding::Raw, &[]);
    draft.manifest.packs[0].frames = vec![bundle_format::manifest::Frame::of(b"x"); 200_001];
    draft.manifest.check()
}

/// A bundle with a lifecycle, changed before signing.
fn lifecycle(change: fn(&mut Lifecycle)) -> Vec<u8> {
    let mut draft = Draft::small();
    let life = &mut draft.manifest.lifecycle;
    let exec = Check::Exec {
        name: "query".into(),
        container: "app-app".into(),
        command: vec!["true".into()],
        expect: Some("1".into()),
    };
    let http = Check::Http { name: "page".into(), port: 80, path: "/".into(), status: 200 };
    life.checks = vec![exec, http];
    let postgres = Backup::Postgres { container: "db-pg".into(), database: "app".into(), host: "/tmp".into() };
    life.data = vec![
        Data { volume: "app-data".into(), backup: postgres, keep: 3 },
        Data { volume: "files".into(), backup: Backup::Copy, keep: 1 },
    ];
    life.migrations =
        vec![Migration { name: "one".into(), since: 2, container: "app-app".into(), up: vec!["migrate".into()] }];
    change(life);
    draft.archive()
}

/// The command of the first check.
fn command(life: &mut Lifecycle) -> &mut Vec<String> {
    let Check::Exec { command, .. } = &mut life.checks[0] else { panic!() };
    command
}

/// The path of the second check.
fn url(life: &mut Lifecycle) -> &mut String {
    let Check::Http { path, .. } = &mut life.checks[1] else { panic!() };
    path
}

/// The dump of the first volume.
fn dump(life: &mut Lifecycle) -> (&mut String, &mut String) {
    let Backup::Postgres { database, host, .. } = &mut life.data[0].backup else { panic!() };
    (database, host)
}

fn lifecycles() -> Vec<Vector> {
    system_tests::prove(&lifecycle(|_| ()), &Draft::small().trusted()).unwrap();
    let names = vec![
        vector!("check in capitals", BadName, "check", {
            lifecycle(|l| l.checks[1] = Check::Http { name: "Page".into(), port: 80, path: "/".into(), status: 200 })
        }),
        vector!(
            "two checks of one name",
            Inconsistent,
            "appears twice",
            lifecycle(|l| l.checks[1] = l.checks[0].clone())
        ),
        vector!(
            "two entries for one volume",
            Inconsistent,
            "appears twice",
            lifecycle(|l| l.data[1] = l.data[0].clone())
        ),
        vector!("migration twice", Inconsistent, "appears twice", {
            lifecycle(|l| l.migrations.push(l.migrations[0].clone()))
        }),
        vector!("volume that climbs", BadName, "volume", lifecycle(|l| l.data[0].volume = "../data".into())),
        vector!(
            "container that climbs",
            BadName,
            "container",
            lifecycle(|l| l.migrations[0].container = "../x".into())
        ),
        vector!(
            "container like an option",
            BadName,
            "container",
            lifecycle(|l| l.migrations[0].container = "-x".into())
        ),
    ];
    let commands = vec![
        vector!("command without words", Inconsistent, "number of words", lifecycle(|l| command(l).clear())),
        vector!(
            "command of 65 words",
            Inconsistent,
            "number of words",
            lifecycle(|l| *command(l) = vec!["a".into(); 65])
        ),
        vector!("command like an option", Inconsistent, "starts with -", lifecycle(|l| command(l)[0] = "-c".into())),
        vector!(
            "command with a hidden character",
            BadValue,
            "check",
            lifecycle(|l| command(l)[0] = "a\u{200b}".into())
        ),
        vector!("word with a NUL", Inconsistent, "too long", lifecycle(|l| command(l).push("a\0b".into()))),
        vector!(
            "migration without a command",
            Inconsistent,
            "number of words",
            lifecycle(|l| l.migrations[0].up.clear())
        ),
    ];
    let words =
        vec![vector!("word of 4097 bytes", Inconsistent, "too long", lifecycle(|l| command(l).push("a".repeat(4097))))];
    let values = vec![
        vector!(
            "database like an option",
            Inconsistent,
            "starts with -",
            lifecycle(|l| *dump(l).0 = "--file=/x".into())
        ),
        vector!(
            "database server like an option",
            Inconsistent,
            "starts with -",
            lifecycle(|l| *dump(l).1 = "-h".into())
        ),
        vector!("database without name", BadValue, "database", lifecycle(|l| dump(l).0.clear())),
    ];
    let ranges = vec![
        vector!("range that holds nothing", Inconsistent, "holds no sequence", {
            lifecycle(|l| l.from = Some(Range { min: 5, max: 4 }))
        }),
        vector!("migration since 0", Inconsistent, "since", lifecycle(|l| l.migrations[0].since = 0)),
        vector!("migration since 2^63", Inconsistent, "since", lifecycle(|l| l.migrations[0].since = 1 << 63)),
        vector!("no backup kept", Inconsistent, "backups to keep", lifecycle(|l| l.data[0].keep = 0)),
        vector!("1001 backups kept", Inconsistent, "backups to keep", lifecycle(|l| l.data[0].keep = 1001)),
        vector!("port 0", Inconsistent, "port", {
            lifecycle(|l| l.checks[1] = Check::Http { name: "a".into(), port: 0, path: "/".into(), status: 200 })
        }),
        vector!("path that is no path", Inconsistent, "not one of a URL", lifecycle(|l| *url(l) = "page".into())),
        vector!(
            "path with a second line",
            Inconsistent,
            "not one of a URL",
            lifecycle(|l| *url(l) = "/a\r\nX: y".into())
        ),
        vector!("path of 241 bytes", Inconsistent, "not one of a URL", lifecycle(|l| *url(l) = "/".repeat(241))),
    ];
    let deadline = vec![
        vector!(
            "deadline of more than a day",
            Inconsistent,
            "deadline_seconds",
            lifecycle(|l| l.deadline_seconds = 86_401)
        ),
        vector!("no deadline", Inconsistent, "deadline_seconds", lifecycle(|l| l.deadline_seconds = 0)),
    ];
    let entries = |l: &mut Lifecycle| {
        l.migrations = (0..101).map(|n| Migration { name: format!("m{n}"), ..l.migrations[0].clone() }).collect();
    };
    let epochs = vec![vector!("security epoch of 2^63", Inconsistent, "security_epoch", {
        lifecycle(|l| l.security_epoch = 1 << 63)
    })];
    [
        breaks(&["R-LIM-51"], epochs),
        breaks(&["R-LIF-1"], names),
        breaks(&["R-LIF-2"], commands),
        breaks(&["R-LIF-2", "R-LIM-39"], words),
        breaks(&["R-LIF-3"], values),
        breaks(&["R-LIF-4"], ranges),
        breaks(&["R-LIM-36"], deadline),
        breaks(
            &["R-LIM-37"],
            [vector!(
                "quiet window of more than an hour",
                Inconsistent,
                "stable_seconds",
                lifecycle(|l| l.stable_seconds = 3601)
            )],
        ),
        breaks(&["R-LIM-38"], [vector!("101 migrations", Inconsistent, "migrations", lifecycle(entries))]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [texts(), digests_and_times(), markings(), names(), consistency(), lifecycles()].into_iter().flatten().collect()
}
