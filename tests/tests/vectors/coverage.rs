//! What is known to break readers of archives, documents and signatures, and what shows that ours stands:
//! a vector or a sound bundle by its name, a test, or the reason why there is nothing to test. A name
//! that is not there fails.

use std::collections::BTreeSet;

use crate::{accepted, all, rules};

/// What shows it.
enum By {
    /// A hostile input of this defect.
    Vector(&'static str),
    /// A sound bundle of this name: what it has is allowed.
    Sound(&'static str),
    /// A test: file, function.
    Test(&'static str, &'static str),
    /// Nothing, because.
    Reason(&'static str),
}
use By::{Reason, Sound, Test, Vector};

const SBOM: &str = "bundle-builder/tests/sbom.rs";
const SOURCES: &str = "bundle-builder/tests/sources.rs";
const INPUTS: &str = "tests/tests/inputs.rs";
const VOLUMES: &str = "tests/tests/volumes.rs";
const THROUGH: &str = "CVE-2025-29787, CVE-2026-29064: symbolic link, then a file written through it";
const MODE: &str = "RUSTSEC-2026-0067: symbolic link, then a folder of its name with a mode";

/// Vulnerabilities of others, by their names.
const VULNERABILITIES: &[(&str, &[By])] = &[
    (
        "RUSTSEC-2018-0002, CVE-2018-20990: tar, link then file of its name",
        &[
            Vector("RUSTSEC-2018-0002: hard link, then a file of its name"),
            Vector("RUSTSEC-2018-0002: symbolic link, then a file of its name, alone"),
        ],
    ),
    (
        "RUSTSEC-2021-0080, CVE-2021-38511: tar, folders outside by a link",
        &[Vector("RUSTSEC-2021-0080: symbolic link that climbs, then a folder below it")],
    ),
    ("RUSTSEC-2026-0067, CVE-2026-33056: tar, mode of a folder outside", &[Vector(MODE)]),
    ("RUSTSEC-2026-0068, CVE-2026-33055: tar, size of a PAX header ignored", &[Vector("PAX size")]),
    (
        "CVE-2025-62518, RUSTSEC-2025-0110, -0111: content read as headers",
        &[Vector("PAX size over a header of size 0")],
    ),
    (
        "RUSTSEC-2026-0066: malformed PAX passed over",
        &[Vector("PAX malformed"), Vector("PAX record without its length")],
    ),
    ("RUSTSEC-2026-0112, -0113: readers out of step", &[Vector("base-256 size"), Vector("PAX negative size")]),
    ("RUSTSEC-2026-0145: mode outside by a link", &[Vector(MODE)]),
    ("RUSTSEC-2025-0168, CVE-2025-29787: zip, link earlier in the archive", &[Vector(THROUGH)]),
    ("CVE-2026-29064: targets of links not looked at", &[Vector(THROUGH), Vector("symlink")]),
    (
        "CVE-2026-40090: a path out of a document's own name",
        &[Test("tests/tests/attachments.rs", "attachments_name_an_image_once_and_their_blobs")],
    ),
    ("CVE-2025-3445, CVE-2024-0406: archives that climb", &[Vector("climbs"), Vector("absolute")]),
    (
        "CVE-2026-50163: hard link by the working folder",
        &[Vector("CVE-2026-50163: hard link by the working folder, then a file of its name")],
    ),
    (
        "CVE-2026-41567: a decompressor found inside the container",
        &[Reason("no program is started to decode anything; gzip and zstd are linked in")],
    ),
    ("CVE-2025-58183: sparse map without bounds", &[Vector("GNU sparse file"), Vector("PAX sparse 1.0")]),
    (
        "CVE-2021-41190: a document that reads two ways",
        &[Vector("manifest that is an index too"), Vector("index that is a manifest too")],
    ),
];

/// What the tar crate takes silently, or leaves behind.
const TAR: &[(&str, &[By])] = &[
    ("names that climb, or none", &[Vector("climbs"), Vector("only dots"), Vector("PAX path"), Vector("empty")]),
    ("absolute name", &[Vector("absolute")]),
    ("link, then written through", &[Vector(THROUGH)]),
    ("dangling link alone", &[Vector("symlink")]),
    ("hard link", &[Vector("hardlink")]),
    ("link and folder's mode", &[Vector(MODE)]),
    ("set-user-id", &[Vector("setuid"), Vector("mode 04755")]),
    ("FIFO, device, unknown type as a file", &[Vector("fifo"), Vector("character device"), Vector("unknown type")]),
    ("member twice, last one wins", &[Vector("signature twice"), Vector("pack twice"), Vector("second manifest")]),
    ("escape sequence and newline in a name", &[Vector("escape sequence"), Vector("newline")]),
    ("malformed length of a PAX record", &[Vector("PAX malformed")]),
    ("PAX global header", &[Vector("PAX global")]),
    ("no end mark, or members behind it", &[Vector("no end mark"), Vector("entry after the end mark")]),
    ("PAX size over a plain size of 0", &[Vector("PAX size over a header of size 0")]),
    (
        "sizes that are not there, bad sums, cuts",
        &[Vector("PAX size of 2^63"), Vector("checksum"), Vector("pack cut in its middle")],
    ),
    ("a thousand components", &[Vector("file of 1000 components"), Vector("33 components")]),
];

/// Input by its part.
const INPUT: &[(&str, &[By])] = &[
    // paths
    ("path: ..", &[Vector("climbs"), Vector("file climbs")]),
    ("path: absolute", &[Vector("absolute"), Vector("file absolute")]),
    ("path: //x", &[Vector("two leading slashes"), Vector("double slash")]),
    ("path: ./x beside x", &[Vector("dot component"), Vector("dot component inside")]),
    ("path: / or . at its end", &[Vector("trailing slash"), Vector("ends in a dot component")]),
    ("path: empty", &[Vector("empty"), Vector("file without name")]),
    ("path: NUL", &[Vector("bytes after NUL"), Vector("file with a NUL")]),
    ("path: component over 255 bytes", &[Vector("file with a component of 256 bytes")]),
    ("path: over 4096 bytes", &[Vector("file of 4097 bytes")]),
    ("path: over 32 components", &[Vector("33 components"), Vector("file of 33 components")]),
    ("path: not UTF-8", &[Vector("not UTF-8")]),
    (
        "path: control, bidirectional, zero-width",
        &[Vector("escape sequence"), Vector("right-to-left override"), Vector("zero-width space"), Vector("tab")],
    ),
    ("path: composed and decomposed twins", &[Vector("file composed"), Vector("file decomposed")]),
    ("path: twins in case", &[Vector("case-fold twins"), Vector("file below a file of another case")]),
    ("path: names that Windows reserves", &[Sound("names that Windows reserves")]),
    ("path: backslash, drive, stream", &[Vector("backslash"), Vector("drive letter"), Vector("Windows stream")]),
    ("path: our own manifest's", &[Vector("second manifest"), Vector("upper-case manifest")]),
    ("path: blob under another digest", &[Vector("blob named by another's digest")]),
    ("path: digest in capitals", &[Vector("upper-case digest")]),
    ("path: digest cut", &[Vector("short digest")]),
    // types of members
    ("type: links", &[Vector("symlink"), Vector("hardlink")]),
    ("type: FIFO, devices", &[Vector("fifo"), Vector("character device"), Vector("block device")]),
    ("type: contiguous", &[Vector("contiguous file")]),
    ("type: GNU long name and link", &[Vector("GNU long name"), Vector("GNU long link")]),
    (
        "type: sparse, old, 0.0, 0.1, 1.0",
        &[Vector("GNU sparse file"), Vector("PAX sparse 0.0"), Vector("PAX sparse 0.1"), Vector("PAX sparse 1.0")],
    ),
    ("type: PAX x and g", &[Vector("PAX header"), Vector("PAX global header")]),
    (
        "type: attributes, access control lists, labels",
        &[Vector("PAX extended attribute"), Vector("PAX access control list"), Vector("PAX SELinux label")],
    ),
    ("type: volume header, multi-volume", &[Vector("GNU volume label"), Vector("GNU multi-volume")]),
    ("type: V7 header", &[Vector("old V7 header")]),
    (
        "type: negative and base-256 numbers",
        &[Vector("negative size"), Vector("base-256 uid"), Vector("negative base-256 gid")],
    ),
    (
        "type: times before 1970 and of the year 10000",
        &[Vector("mtime before 1970"), Vector("mtime of the year 10000")],
    ),
    // sizes
    ("size: declared more than there is", &[Vector("pack cut in its middle"), Vector("manifest cut")]),
    ("size: more than declared", &[Vector("pack one byte longer")]),
    ("size: header and PAX differ", &[Vector("PAX size")]),
    ("size: 2^63", &[Vector("PAX size of 2^63"), Vector("sequence of 2^63")]),
    ("size: sums that overflow", &[Vector("blob sizes overflow")]),
    ("size: a million entries", &[Vector("100,001 blobs"), Vector("10,001 packs"), Vector("65 signatures")]),
    ("size: required file of no bytes", &[Vector("empty manifest"), Vector("empty minisign file")]),
    ("size: bomb by ratio", &[Vector("bomb"), Vector("bomb in a segment")]),
    ("size: nested bombs", &[Vector("nested bomb")]),
    ("size: window", &[Vector("window of 2^28"), Vector("window of 2^41")]),
    ("size: dictionary", &[Vector("dictionary")]),
    ("size: skippable frames", &[Vector("skippable frame before"), Vector("skippable frame behind")]),
    ("size: concatenated frames", &[Vector("second frame"), Vector("empty second frame")]),
    ("size: bytes behind", &[Vector("one byte behind"), Vector("garbage after the end mark")]),
    ("size: frame without a checksum", &[Sound("a zstd frame, content checksum: false"), Vector("wrong checksum")]),
    ("size: layer of several gzip members", &[Test(SBOM, "later_layers_replace_and_white_out")]),
    ("size: layer of another DiffID", &[Test(SOURCES, "a_layer_of_another_diff_id_is_refused")]),
    // documents
    ("document: key twice", &[Vector("doubled key"), Vector("field spelled with escapes, twice")]),
    ("document: unknown field", &[Vector("unknown field"), Vector("unknown inner field")]),
    ("document: depth", &[Vector("deep nesting"), Vector("nesting of 33"), Vector("a million brackets")]),
    ("document: huge number", &[Vector("number of 5000 digits"), Vector("sequence of 2^64")]),
    ("document: float for a whole number", &[Vector("float for a whole number"), Vector("exponent")]),
    ("document: byte order mark", &[Vector("byte order mark")]),
    ("document: not UTF-8", &[Vector("manifest that is not UTF-8"), Vector("overlong UTF-8")]),
    ("document: YAML aliases and depth", &[Vector("YAML alias bomb"), Vector("YAML of depth")]),
    (
        "document: YAML tags",
        &[
            Vector("YAML tag that makes bytes of a number"),
            Vector("YAML tag that makes a Python object"),
            Test("manifests/src/yaml.rs", "a_tag_makes_nothing_of_a_value"),
        ],
    ),
    (
        "document: signed bytes that are not the parsed ones",
        &[Vector("manifest changed after signing"), Vector("letter written as an escape")],
    ),
    // OCI
    ("image: manifest and index at once", &[Vector("manifest that is an index too")]),
    (
        "image: media type",
        &[Vector("manifest with another media type inside"), Vector("document of an unknown media type")],
    ),
    ("image: config of another digest", &[Test(SOURCES, "documents_that_lie_about_each_other_are_refused")]),
    ("image: foreign layer", &[Vector("layer that lies elsewhere"), Vector("foreign layer")]),
    ("image: whiteouts", &[Test(SBOM, "later_layers_replace_and_white_out")]),
    ("image: index in an index", &[Test(SOURCES, "documents_that_lie_about_each_other_are_refused")]),
    ("image: one tag twice", &[Test(SOURCES, "documents_that_lie_about_each_other_are_refused")]),
    ("image: platform", &[Vector("config of another platform")]),
    ("image: sha512", &[Vector("layer of a sha512 digest"), Vector("sha512 digest")]),
    ("image: size of a descriptor", &[Test(SOURCES, "documents_that_lie_about_each_other_are_refused")]),
    ("image: stowaway blob", &[Vector("stowaway blob"), Vector("stowaway without bytes")]),
    ("image: blob that is not there", &[Vector("missing blob of an image")]),
    // cryptography
    ("signature: revoked key", &[Vector("older chain, signed by a key that was taken out since")]),
    ("signature: right key, wrong role", &[Vector("release signed by transfer agents"), Vector("builders alone")]),
    (
        "signature: threshold by one key twice",
        &[Vector("one ML-DSA key under two names"), Vector("one key by both schemes' names")],
    ),
    ("signature: of another bundle", &[Vector("signatures of another bundle")]),
    ("signature: over an old manifest", &[Vector("manifest changed after signing")]),
    ("signature: one algorithm stripped", &[Vector("ML-DSA stripped"), Vector("Ed25519 stripped")]),
    (
        "signature: context and pre-hash",
        &[
            Vector("context string"),
            Vector("HashML-DSA with SHA-512"),
            Vector("HashML-DSA with SHAKE256, CNSA 2.0 site"),
        ],
    ),
    ("signature: S not reduced", &[Vector("S not reduced")]),
    (
        "signature: small order",
        &[Vector("R of small order"), Vector("point of order 8"), Vector("neutral element for a key")],
    ),
    ("signature: cut and extended", &[Vector("ML-DSA one byte short"), Vector("ML-DSA one byte long")]),
    ("signature: second manifest", &[Vector("second manifest")]),
    (
        "signature: swapped between proof and use",
        &[Test(INPUTS, "a_bundle_swapped_after_its_proof_is_refused_or_never_seen")],
    ),
    // media
    (
        "medium: FIFO, device, folder, link",
        &[
            Test(INPUTS, "no_command_of_the_installer_waits_for_what_is_no_file"),
            Test(INPUTS, "links_to_files_are_followed"),
        ],
    ),
    (
        "medium: network file system",
        &[Reason("a file there is read like any other: each byte once for its proof, a read error is an error")],
    ),
    ("medium: file that changes", &[Test(INPUTS, "a_bundle_overwritten_while_it_is_unpacked_is_refused")]),
    ("medium: unreadable sector", &[Test(VOLUMES, "read_errors_are_missing_blocks")]),
    ("medium: discs of two sets, of another bundle", &[Test(VOLUMES, "strangers_are_told_apart")]),
    ("medium: missing disc", &[Test(VOLUMES, "beyond_the_promise_it_names_what_to_burn_again")]),
    // record
    (
        "record: SQL in names",
        &[Vector("product climbs"), Reason("names are labels (R-NAM-2), and every statement binds its values")],
    ),
    (
        "record: injection into other logs' forms",
        &[Test("installer/src/audit/export.rs", "rfc5424_parses_back_whatever_the_texts_are")],
    ),
];

/// Limits, each also accepted where it is met.
const LIMITS: &[(&str, &[By])] = &[
    (
        "entries",
        &[
            Vector("100,001 blobs"),
            Vector("1025 roots"),
            Vector("257 keys"),
            Sound("a root of 256 keys, 64 signatures"),
        ],
    ),
    (
        "path",
        &[
            Vector("file of 241 bytes"),
            Vector("file of 33 components"),
            Sound("names, lists and numbers at their limits"),
        ],
    ),
    ("characters", &[Vector("file with a dollar"), Vector("file with a space")]),
    ("manifest", &[Vector("manifest one byte over 16 MiB")]),
    ("signature file", &[Vector("signature over 64 KiB")]),
    ("decoded bytes are the signed ones", &[Vector("longer than its blobs"), Vector("shorter than its blobs")]),
    ("window", &[Vector("window of 2^27 and an eighth"), Sound("a zstd window of 2^27")]),
    (
        "nesting",
        &[Vector("nesting of 33"), Test("tests/tests/vectors/accepted.rs", "documents_at_their_limits_are_accepted")],
    ),
    (
        "signatures before anything else",
        &[
            Vector("manifest changed after signing"),
            Test("tests/tests/install.rs", "what_is_not_trusted_or_damaged_changes_nothing"),
        ],
    ),
    (
        "confinement",
        &[
            Test("tests/tests/confined.rs", "the_process_that_reads_is_held_and_its_parent_reads_nothing"),
            Reason("no limit on processor time and address space: docs/adr/0019-confinement.md"),
        ],
    ),
];

#[test]
fn everything_that_is_known_is_shown_or_has_its_reason() {
    let defects: BTreeSet<&str> = all().iter().map(|vector| vector.defect.as_str()).collect();
    let bundles = accepted::sound();
    let sound: BTreeSet<&str> = bundles.iter().map(|(name, ..)| name.as_str()).collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (group, items) in [("vulnerability", VULNERABILITIES), ("tar", TAR), ("input", INPUT), ("limit", LIMITS)] {
        for (item, shown) in items {
            if !seen.insert((group, *item)) || shown.is_empty() {
                wrong.push(format!("{group}, {item}: twice, or shown by nothing"));
            }
            for by in *shown {
                let lie = match by {
                    Vector(defect) => (!defects.contains(defect)).then(|| format!("no vector {defect:?}")),
                    Sound(name) => (!sound.contains(name)).then(|| format!("no sound bundle {name:?}")),
                    Test(file, test) => rules::lie(file, test),
                    Reason(why) => why.is_empty().then(|| "no reason".to_owned()),
                };
                wrong.extend(lie.map(|lie| format!("{group}, {item}: {lie}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
