//! Defects of what crosses the gap beside a bundle, and of what its writer reads: custody, lists of
//! sets, volumes, plans of a link, receipts, OCI documents, YAML. Long, because it is tables.
#![allow(clippy::too_many_lines, reason = "tables")]

use bundle_format::custody::{Direction, Record, Scan, ScanResult, UnverifiedCustody, check_against_list};
use bundle_format::datagram::{Plan, Tagger};
use bundle_format::digest::Sha384;
use bundle_format::key::Scheme;
use bundle_format::marking::Marking;
use bundle_format::oci;
use bundle_format::set::SetList;
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::timestamp::Timestamp;
use bundle_format::volume::{Head, Shape};
use bundle_format::{Result, receipt::Receipt};
use system_tests::custody::{line, record, set};
use system_tests::keys::{self, alice, anchor, bob, mallory, theo, tina};

use crate::{Vector, breaks, part};

fn list() -> SetList {
    set("SECRET", &[b"one", b"two", b"par"])
}

/// The whole proof of a chain of custody under a root with two agents.
fn prove(bytes: &[u8]) -> Result<()> {
    let trusted = anchor(&keys::root_with_agents(2, &[&tina(), &theo()]));
    UnverifiedCustody::parse(bytes)?.verify(&trusted, AlgorithmPolicy::Hybrid).map(drop)
}

/// One record, changed, then signed by both agents.
fn handed(change: fn(&mut Record)) -> impl Fn() -> Result<()> {
    move || {
        let mut record = record(&list(), 1, None);
        change(&mut record);
        prove(&line(&record, &[&tina(), &theo()]))
    }
}

/// A second record behind a sound first one, changed, then signed by both agents.
fn handed_on(change: fn(&mut Record)) -> impl Fn() -> Result<()> {
    move || {
        let first = line(&record(&list(), 1, None), &[&tina(), &theo()]);
        let mut second = record(&list(), 2, Some(Sha384::of(&first)));
        change(&mut second);
        prove(&[first, line(&second, &[&tina(), &theo()])].concat())
    }
}

/// The text of a sound chain of one record, changed.
fn text(change: fn(String) -> String) -> impl Fn() -> Result<()> {
    move || {
        let good = line(&record(&list(), 1, None), &[&tina(), &theo()]);
        prove(change(String::from_utf8(good).unwrap()).as_bytes())
    }
}

fn custody() -> Vec<Vector> {
    let scan = |result| Scan {
        scanner: "TEST".into(),
        version: "1".into(),
        signatures: "1".into(),
        at: Timestamp::parse("2026-11-01T09:00:00Z").unwrap(),
        result,
        report_sha384: Sha384::of(b"report"),
    };
    let forms = vec![
        part!("custody with a space", NotCanonical, "custody", text(|t| t.replacen(':', ": ", 1))),
        part!("custody without its last newline", NotCanonical, "custody", text(|t| t.trim_end().into())),
        part!("custody of another format", UnknownFormat, "custody", text(|t| t.replace("envelope/1", "envelope/9"))),
        part!("custody with an empty line", Json, "custody", text(|t| format!("\n{t}"))),
        part!("no custody at all", Inconsistent, "custody", || prove(b"")),
    ];
    let sizes = vec![part!("custody over 16 MiB", TooLarge, "custody", || prove(&vec![b' '; (16 << 20) + 1]))];
    let records = vec![part!("257 records", TooLarge, "custody", || {
        prove(&line(&record(&list(), 1, None), &[]).repeat(257))
    })];
    let media = vec![part!(
        "1001 media",
        Inconsistent,
        "media",
        handed(|r| {
            let one = r.media[0].clone();
            let of = |n: usize| bundle_format::custody::Medium { label: format!("T{n}"), ..one.clone() };
            r.media = (0..1001).map(of).collect();
        })
    )];
    let links = vec![
        part!(
            "record that names a former one at the start",
            CustodyChain,
            "custody record 1",
            handed(|r| r.previous = Some(Sha384::of(b"x")))
        ),
        part!("first record of number 2", CustodyChain, "custody record 1", handed(|r| r.number = 2)),
        part!("second record without a former one", CustodyChain, "custody record 2", handed_on(|r| r.previous = None)),
        part!(
            "second record behind another",
            CustodyChain,
            "custody record 2",
            handed_on(|r| r.previous = Some(Sha384::of(b"x")))
        ),
        part!("second record of number 3", CustodyChain, "custody record 2", handed_on(|r| r.number = 3)),
    ];
    let values = vec![
        part!("record of another format", UnknownFormat, "custody", handed(|r| r.format = "lockgate-custody/2".into())),
        part!("owner with an escape sequence", BadValue, "data owner", handed(|r| r.data_owner = "a\u{1b}[2J".into())),
        part!("product that climbs", BadName, "product", handed(|r| r.product = "../x".into())),
        part!("set id in capitals", Inconsistent, "set id", handed(|r| r.set = "AA".repeat(16))),
        part!("medium of an unknown form", BadName, "medi", handed(|r| r.media[0].kind = "DVD R".into())),
    ];
    let uniqueness = vec![
        part!("no medium", Inconsistent, "medi", handed(|r| r.media.clear())),
        part!("no file", Inconsistent, "file", handed(|r| r.files.clear())),
        part!("two media of one label", Inconsistent, "T1", handed(|r| r.media.push(r.media[0].clone()))),
        part!("file twice on a record", Inconsistent, "twice", handed(|r| r.files.push(r.files[0].clone()))),
        part!("medium without volumes", Inconsistent, "volume", handed(|r| r.media[0].volumes.clear())),
        part!("volume twice on a medium", Inconsistent, "volume", handed(|r| r.media[0].volumes = vec![1, 1])),
        part!("volume 0", Inconsistent, "volume", handed(|r| r.media[0].volumes = vec![0, 1])),
        part!("file that climbs", BadName, "file", handed(|r| r.files[0].name = "../set.json".into())),
    ];
    let order = vec![
        part!("record of another set", CustodyChain, "custody record 2", handed_on(|r| r.set = "ff".repeat(16))),
        part!(
            "record of another bundle",
            CustodyChain,
            "custody record 2",
            handed_on(|r| r.manifest_sha384 = Sha384::of(b"x"))
        ),
        part!("record of another sequence", CustodyChain, "custody record 2", handed_on(|r| r.sequence += 1)),
        part!("record before the one before", CustodyChain, "custody record 2", {
            handed_on(|r| r.at = Timestamp::parse("2026-10-31T10:00:00Z").unwrap())
        }),
        part!("file that changed between hand-overs", FileDiffers, "test-product", handed_on(|r| r.files[0].size += 1)),
    ];
    let agents = vec![
        part!("record that nobody signed", Threshold, "transfer", || prove(&line(&record(&list(), 1, None), &[]))),
        part!("record that one agent signed", Threshold, "found 1", || prove(&line(
            &record(&list(), 1, None),
            &[&tina()]
        ))),
        part!("record that release signers signed", Threshold, "found 0", || {
            prove(&line(&record(&list(), 1, None), &[&alice(), &bob()]))
        }),
        part!("record that a stranger signed too", UnknownKey, "does not list", || {
            prove(&line(&record(&list(), 1, None), &[&tina(), &theo(), &mallory()]))
        }),
        part!("custody under a root without agents", RoleMissing, "transfer", || {
            let bytes = line(&record(&list(), 1, None), &[&tina(), &theo()]);
            UnverifiedCustody::parse(&bytes)?.verify(&anchor(&keys::two_of_three()), AlgorithmPolicy::Hybrid).map(drop)
        }),
        part!("record without ML-DSA", Threshold, "ml-dsa-87", || {
            let record = record(&list(), 1, None);
            let payload = bundle_format::json::to_bytes("record", &record).unwrap();
            let comment = format!("lockgate custody set={} record=1 sha384={}", record.set, Sha384::of(&payload));
            let signatures = [tina(), theo()].into_iter().flat_map(|s| s.sign(&payload, &comment).unwrap());
            let kept = signatures.filter(|s| s.scheme() == Scheme::Ed25519).collect();
            prove(&keys::envelope_file(system_tests::custody::ENVELOPE, std::str::from_utf8(&payload).unwrap(), kept))
        }),
    ];
    let comments = vec![part!("signed comment of another record", BadValue, "trusted comment", || {
        let payload = bundle_format::json::to_bytes("record", &record(&list(), 1, None)).unwrap();
        let signatures = [tina(), theo()].iter().flat_map(|s| s.sign(&payload, "TEST").unwrap()).collect();
        prove(&keys::envelope_file(system_tests::custody::ENVELOPE, std::str::from_utf8(&payload).unwrap(), signatures))
    })];
    let listed = |change: fn(&mut Record)| {
        move || {
            let mut record = record(&list(), 1, None);
            change(&mut record);
            check_against_list(&record, &list())
        }
    };
    let lists = vec![
        part!("record of another list", Inconsistent, "", listed(|r| r.set = "ff".repeat(16))),
        part!("file of the list that is on no record", Inconsistent, "", listed(|r| drop(r.files.pop()))),
        part!(
            "file of the list with other bytes",
            FileDiffers,
            "test-product",
            listed(|r| r.files[0].sha384 = Sha384::of(b"x"))
        ),
        part!("medium with a volume that the set lacks", Inconsistent, "", listed(|r| r.media[0].volumes.push(4))),
    ];
    [
        breaks(&["R-CUS-1"], forms),
        breaks(&["R-CUS-2", "R-LIM-19"], sizes),
        breaks(&["R-CUS-2", "R-LIM-20"], records),
        breaks(&["R-CUS-2", "R-LIM-21"], media),
        breaks(&["R-CUS-3"], links),
        breaks(&["R-CUS-4"], values),
        breaks(&["R-CUS-5"], uniqueness),
        breaks(
            &["R-CUS-6"],
            [part!(
                "direction that the markings deny",
                Inconsistent,
                "direction",
                handed(|r| r.direction = Direction::HighToLow)
            )],
        ),
        breaks(
            &["R-CUS-7"],
            [
                part!(
                    "handed to a system below the set",
                    CustodyMarking,
                    "enclave",
                    handed(|r| {
                        r.to.marking = Marking::UNCLASSIFIED;
                        r.direction = Direction::HighToLow;
                    })
                ),
                part!(
                    "handed from a system below the set",
                    CustodyMarking,
                    "build",
                    handed(|r| r.from.marking = Marking::UNCLASSIFIED)
                ),
            ],
        ),
        breaks(
            &["R-CUS-8"],
            [
                part!(
                    "one person on both sides",
                    SamePerson,
                    "",
                    handed(|r| r.people.receiver.id = r.people.giver.id.clone())
                ),
                part!(
                    "one person in two spellings",
                    SamePerson,
                    "",
                    handed(|r| {
                        r.people.giver.id = "ab 1".into();
                        r.people.receiver.id = "AB1".into();
                    })
                ),
                part!(
                    "one key holder on both sides",
                    SamePerson,
                    "",
                    handed(|r| {
                        r.people.giver.holder = Some("test-tina".into());
                        r.people.receiver.holder = Some("test-tina".into());
                    })
                ),
            ],
        ),
        breaks(
            &["R-CUS-9"],
            [part!("set that a scanner found infected", ScanNotClean, "infected", {
                let scan = scan(ScanResult::Infected);
                move || {
                    let record = Record { scans: vec![scan.clone()], ..record(&list(), 1, None) };
                    prove(&line(&record, &[&tina(), &theo()]))
                }
            })],
        ),
        breaks(&["R-CUS-10"], order),
        breaks(&["R-CUS-11"], agents),
        breaks(&["R-CUS-12"], comments),
        breaks(
            &["R-CUS-13"],
            [part!(
                "giver who did not sign",
                NotSignedBy,
                "test-nobody",
                handed(|r| r.people.giver.holder = Some("test-nobody".into()))
            )],
        ),
        breaks(&["R-CUS-15"], lists),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn listed(change: fn(&mut SetList)) -> impl Fn() -> Result<()> {
    move || {
        let mut list = list();
        change(&mut list);
        SetList::parse(&bundle_format::json::to_bytes("set list", &list)?).map(drop)
    }
}

fn shaped(change: fn(&mut Shape)) -> impl Fn() -> Result<()> {
    move || {
        let mut shape = Shape::fit(1 << 20, 4096, Sha384::of(b"p"), 700_000, 1).unwrap();
        change(&mut shape);
        let head = Head { number: 1, table_sha384: Sha384::of(b"t"), shape };
        Head::parse(&head.to_block().unwrap()).map(drop)
    }
}

fn headed(change: fn(&mut Vec<u8>)) -> impl Fn() -> Result<()> {
    move || {
        let shape = Shape::fit(1 << 20, 4096, Sha384::of(b"p"), 700_000, 1).unwrap();
        let mut block = Head { number: 1, table_sha384: Sha384::of(b"t"), shape }.to_block().unwrap();
        change(&mut block);
        Head::parse(&block).map(drop)
    }
}

fn planned(change: fn(&mut Plan)) -> impl Fn() -> Result<()> {
    move || {
        let mut plan = Plan {
            archive_size: 1 << 20,
            prologue_size: 4096,
            originals: 16,
            recovery: 4,
            prologue_sha384: Sha384::of(b"p"),
        };
        plan.check().unwrap();
        change(&mut plan);
        plan.check()
    }
}

fn transfers() -> Vec<Vector> {
    let shapes = vec![
        part!("set without data volumes", Inconsistent, "volumes", shaped(|s| s.data = 0)),
        part!("cell that is no power of two", Inconsistent, "cells of", shaped(|s| s.cell = 4097)),
        part!("cell of 2048 bytes", Inconsistent, "cells of", shaped(|s| s.cell = 2048)),
        part!("cell of 128 KiB", Inconsistent, "cells of", shaped(|s| s.cell = 128 << 10)),
        part!("volume without cells", Inconsistent, "cells", shaped(|s| s.cells = 0)),
        part!(
            "prologue longer than the archive",
            Inconsistent,
            "prologue",
            shaped(|s| s.prologue_size = s.archive_size + 1)
        ),
        part!("archive that does not fit its volumes", Inconsistent, "data volumes", shaped(|s| s.archive_size *= 4)),
        part!("volume without use", Inconsistent, "data volumes", shaped(|s| s.data += 1)),
    ];
    let heads = vec![
        part!("volume of another format", UnknownFormat, "lockgate-volume/1", headed(|b| b[16] = b'2')),
        part!("volume head with bytes behind", NotCanonical, "volume head", headed(|b| b[4000] = 1)),
        part!("volume head cut", NotCanonical, "volume head", headed(|b| b.truncate(4095))),
        part!(
            "volume head with a space",
            NotCanonical,
            "volume head",
            headed(|b| {
                let at = b.iter().position(|byte| *byte == b':').unwrap();
                b.insert(at, b' ');
                b.truncate(4096);
            })
        ),
        part!(
            "volume head with an unknown field",
            Json,
            "unknown field",
            headed(|b| {
                let at = b.iter().position(|byte| *byte == b'{').unwrap() + 1;
                b.splice(at..at, *b"\"x\":1,");
                b.truncate(4096);
            })
        ),
        part!("volume number beyond the set", Inconsistent, "volume 9", || {
            let shape = Shape::fit(1 << 20, 4096, Sha384::of(b"p"), 700_000, 1).unwrap();
            Head::parse(&Head { number: 9, table_sha384: Sha384::of(b"t"), shape }.to_block()?).map(drop)
        }),
        part!("volume number 0", Inconsistent, "volume 0", || {
            let shape = Shape::fit(1 << 20, 4096, Sha384::of(b"p"), 700_000, 1).unwrap();
            Head::parse(&Head { number: 0, table_sha384: Sha384::of(b"t"), shape }.to_block()?).map(drop)
        }),
    ];
    let lists = vec![
        part!("files of a set out of order", Inconsistent, "stands at place", listed(|l| l.files.reverse())),
        part!("file of a set missing", Inconsistent, "files are listed", listed(|l| drop(l.files.pop()))),
        part!("number of a volume twice", Inconsistent, "stands at place", listed(|l| l.files[1].number = 1)),
        part!("volume file that climbs", BadName, "volume file", listed(|l| l.files[0].name = "../x".into())),
        part!("set list of another format", UnknownFormat, "set list", listed(|l| l.format = "lockgate-set/2".into())),
    ];
    let plans = vec![
        part!("plan without originals", Inconsistent, "", planned(|p| p.originals = 0)),
        part!("plan of no bytes", Inconsistent, "", planned(|p| p.archive_size = 0)),
        part!(
            "plan whose prologue is longer than its archive",
            Inconsistent,
            "",
            planned(|p| p.prologue_size = 2 << 20)
        ),
    ];
    [
        breaks(&["R-VOL-1"], shapes),
        breaks(&["R-VOL-1", "R-LIM-30"], [part!("2049 volumes", Inconsistent, "volumes", shaped(|s| s.parity = 2048))]),
        breaks(
            &["R-VOL-1", "R-LIM-31"],
            [part!("2^24 + 1 cells", Inconsistent, "cells", shaped(|s| s.cells = (1 << 24) + 1))],
        ),
        breaks(
            &["R-VOL-1", "R-LIM-32"],
            [part!("prologue over 24 MiB", Inconsistent, "prologue", shaped(|s| s.prologue_size = (24 << 20) + 1))],
        ),
        breaks(
            &["R-VOL-1", "R-LIM-33"],
            [part!("archive over 16 TiB", Inconsistent, "cells for", shaped(|s| s.archive_size = (16 << 40) + 1))],
        ),
        breaks(&["R-VOL-4"], heads),
        breaks(&["R-SET-1"], lists),
        breaks(
            &["R-LIM-18"],
            [part!("set list over 4 MiB", TooLarge, "set list", || SetList::parse(&vec![b' '; (4 << 20) + 1])
                .map(drop))],
        ),
        breaks(
            &["R-LNK-1"],
            [part!("link key of 15 bytes", BadValue, "link key", || Tagger::keyed(&[7; 15]).map(drop))],
        ),
        breaks(&["R-LNK-3"], plans),
        breaks(
            &["R-LNK-3", "R-LIM-34"],
            [
                part!("plan of 4097 originals", Inconsistent, "", planned(|p| p.originals = 4097)),
                part!("plan of 4097 recovery shards", Inconsistent, "", planned(|p| p.recovery = 4097)),
            ],
        ),
        breaks(
            &["R-LNK-3", "R-LIM-35"],
            [part!(
                "plan of too many blocks",
                Inconsistent,
                "",
                planned(|p| {
                    p.originals = 1;
                    p.archive_size = 16 << 40;
                })
            )],
        ),
        breaks(
            &["R-LNK-3", "R-LIM-33"],
            [part!("plan over 16 TiB", Inconsistent, "", planned(|p| p.archive_size = (16 << 40) + 1))],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn receipts() -> Vec<Vector> {
    let read = |code: &'static str| move || Receipt::parse(code).map(drop);
    breaks(
        &["R-REC-2"],
        [
            part!("receipt of no letters", BadReceipt, "", read("")),
            part!("receipt one letter short", BadReceipt, "", read("0000 0000 0000 0000 0000 0000 0000 00")),
            part!("receipt with a wrong sum", BadReceipt, "", read("2000 0000 0000 0000 0000 0000 0000 000")),
            part!(
                "receipt with a letter that is none",
                BadReceipt,
                "not a letter",
                read("U000 0000 0000 0000 0000 0000 0000 000")
            ),
            part!("receipt with an escape sequence", BadReceipt, "not a letter", read("\u{1b}[2J")),
        ],
    )
}

/// OCI documents with one defect. Our writer refuses them, so that what travels reads one way.
fn images() -> Vec<Vector> {
    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let entry = |media_type: &str, digest: &str, more: &str| {
        format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":1{more}}}")
    };
    let config = entry(oci::OCI_CONFIG, DIGEST, "");
    let layer = entry(oci::OCI_LAYER_TAR, DIGEST, "");
    let manifest = |fields: String| {
        move || oci::parse_manifest(format!("{{\"schemaVersion\":2,{fields}}}").as_bytes(), oci::OCI_MANIFEST).map(drop)
    };
    let index = |fields: String| {
        move || oci::parse_index(format!("{{\"schemaVersion\":2,{fields}}}").as_bytes(), oci::OCI_INDEX).map(drop)
    };
    let sound = format!("\"config\":{config},\"layers\":[{layer}]");
    manifest(sound.clone())().unwrap();
    index("\"manifests\":[]".into())().unwrap();
    let with_layer = |layer: String| manifest(format!("\"config\":{config},\"layers\":[{layer}]"));
    let two = entry(oci::OCI_MANIFEST, DIGEST, ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}");
    let other = two.replace("sha256:0", "sha256:1");
    let configured = |text: &'static str| move || oci::check_config(text.as_bytes(), "linux/amd64", 1).map(drop);
    [
        breaks(
            &["R-OCI-1"],
            [
                part!(
                    "manifest that is an index too",
                    Inconsistent,
                    "CVE-2021-41190",
                    manifest(format!("{sound},\"manifests\":[]"))
                ),
                part!(
                    "index that is a manifest too",
                    Inconsistent,
                    "CVE-2021-41190",
                    index(format!("\"manifests\":[],{sound}"))
                ),
                part!(
                    "index with layers",
                    Inconsistent,
                    "CVE-2021-41190",
                    index("\"manifests\":[],\"layers\":[]".into())
                ),
                part!(
                    "manifest of docker schema 1 too",
                    Inconsistent,
                    "",
                    manifest(format!("{sound},\"fsLayers\":[]"))
                ),
                part!(
                    "manifest without a config",
                    Inconsistent,
                    "no config",
                    manifest(format!("\"layers\":[{layer}]"))
                ),
                part!("manifest without layers", Inconsistent, "no layers", manifest(format!("\"config\":{config}"))),
            ],
        ),
        breaks(
            &["R-OCI-2"],
            [
                part!("manifest with another media type inside", BadValue, "", {
                    manifest(format!("\"mediaType\":\"{}\",{sound}", oci::OCI_INDEX))
                }),
                part!("index under a manifest's media type", BadValue, "", || oci::parse_index(
                    b"{\"schemaVersion\":2,\"manifests\":[]}",
                    oci::OCI_MANIFEST
                )
                .map(drop)),
                part!("document of an unknown media type", BadValue, "", || oci::parse_manifest(b"{}", "text/html")
                    .map(drop)),
                part!(
                    "foreign layer",
                    BadValue,
                    "",
                    with_layer(entry("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", DIGEST, ""))
                ),
                part!(
                    "layer of an unknown media type",
                    BadValue,
                    "",
                    with_layer(entry("application/octet-stream", DIGEST, ""))
                ),
                part!("schema version 1", UnknownFormat, "", || oci::parse_manifest(
                    b"{\"schemaVersion\":1}",
                    oci::OCI_MANIFEST
                )
                .map(drop)),
            ],
        ),
        breaks(
            &["R-OCI-3"],
            [
                part!(
                    "layer that lies elsewhere",
                    Inconsistent,
                    "",
                    with_layer(entry(oci::OCI_LAYER_TAR, DIGEST, ",\"urls\":[\"http://evil.example/\"]"))
                ),
                part!(
                    "layer of a sha512 digest",
                    Json,
                    "lower-case",
                    with_layer(entry(oci::OCI_LAYER_TAR, &format!("sha512:{}", "0".repeat(128)), ""))
                ),
                part!(
                    "layer of an upper-case digest",
                    Json,
                    "lower-case",
                    with_layer(entry(oci::OCI_LAYER_TAR, &DIGEST.replace("sha256:0", "sha256:A"), ""))
                ),
            ],
        ),
        breaks(
            &["R-OCI-4"],
            [
                part!("index with two entries for one platform", Inconsistent, "more than one", {
                    let text = format!("{{\"schemaVersion\":2,\"manifests\":[{two},{other}]}}");
                    move || {
                        let index = oci::parse_index(text.as_bytes(), oci::OCI_INDEX)?;
                        oci::select_platform(&index, "linux/amd64").map(drop)
                    }
                }),
                part!(
                    "config of another platform",
                    Platform,
                    "",
                    configured(
                        "{\"os\":\"linux\",\"architecture\":\"arm64\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}"
                    )
                ),
                part!(
                    "config with another number of layers",
                    Inconsistent,
                    "layers",
                    configured(
                        "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}"
                    )
                ),
                part!(
                    "config of no layers' kind",
                    Inconsistent,
                    "rootfs",
                    configured(
                        "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"x\",\"diff_ids\":[]}}"
                    )
                ),
            ],
        ),
        breaks(
            &["R-OCI-5"],
            [
                part!("layer of a negative size", Json, "", with_layer(layer.replace(":1}", ":-1}"))),
                part!(
                    "config twice in a manifest",
                    Json,
                    "duplicate field",
                    manifest(format!("{sound},\"config\":{config}"))
                ),
                part!(
                    "image document nested too deep",
                    Json,
                    "nested deeper",
                    manifest(format!("\"annotations\":{}", "[".repeat(40)))
                ),
            ],
        ),
        breaks(
            &["R-LIM-16"],
            [part!("image document over 4 MiB", TooLarge, "image manifest", || oci::parse_manifest(
                &vec![b' '; (4 << 20) + 1],
                oci::OCI_MANIFEST
            )
            .map(drop))],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn yaml() -> Vec<Vector> {
    const RELEASE: &str = include_str!("../../../manifests/profiles/minimal.yaml");
    let release = |text: String| move || bundle_format::release::parse("r.yaml", &text).map(drop);
    release(RELEASE.into())().unwrap();
    let with = |line: &str| release(format!("{RELEASE}{line}\n"));
    let source = |from: &str, to: &str| {
        assert!(RELEASE.contains(from), "{from}");
        release(RELEASE.replacen(from, to, 1))
    };
    let bomb = {
        let line = |n: u8| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","));
        format!("a0: &a0 [x]\n{}", (1..9).map(line).collect::<String>())
    };
    let texts = vec![
        part!("YAML with an unknown field", Yaml, "unknown field", with("run: reboot")),
        part!("YAML with a field twice", Yaml, "duplicate", with("format: lockgate-release/1")),
        part!("YAML alias bomb", Yaml, "", release(bomb)),
        part!("YAML of depth", Yaml, "", release("[".repeat(5000))),
        part!("YAML of two documents", Yaml, "", with("---\nx: 1")),
        part!("YAML merge key", Yaml, "", with("<<: {run: reboot}")),
        part!("empty YAML", Yaml, "", release(String::new())),
        part!(
            "YAML tag that makes bytes of a number",
            Yaml,
            "sequence",
            source("sequence: 1", "sequence: !!binary AQ==")
        ),
        part!("YAML tag of its own for a list", Yaml, "", source("images:", "images: !local {a: b} #")),
        part!("YAML tag that makes a Python object", Yaml, "title", {
            source("title: ", "title: !!python/object/apply:os.system [reboot] #")
        }),
    ];
    let sources = vec![
        part!("release with a source of another kind", Yaml, "", source("source: ", "source: https://x/ #")),
        part!("release with a source that runs a program", Yaml, "", source("source: ", "source: 'exec:reboot' #")),
    ];
    let large = vec![part!("YAML over 4 MiB", TooLarge, "r.yaml", release("#".repeat((4 << 20) + 1)))];
    [breaks(&["R-REL-2"], texts), breaks(&["R-REL-1"], sources), breaks(&["R-LIM-15"], large)]
        .into_iter()
        .flatten()
        .collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [custody(), transfers(), receipts(), images(), yaml()].into_iter().flatten().collect()
}
