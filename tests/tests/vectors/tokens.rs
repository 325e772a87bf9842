//! Hostile token streams (`docs/spec/tokens.md`) in proved packs: what would make a reader write past
//! a blob's end, wait for gigabytes, or give other bytes than gzip's.

use bundle_format::digest::Sha256;
use bundle_format::manifest::{Blob, PackedBlob, PlainFile};
use bundle_format::pack::{Encoding, PackWriter, TOKENS};
use bundle_format::tokens::{NotCodable, TokenEncoder};
use system_tests::Draft;

use crate::{Vector, breaks, vector};

/// A gzip file with blocks of several kinds.
const GZIP: &[u8] = include_bytes!("../../../manifests/tests/vectors-gzip/zlib-flush-sync-small.gz");

fn coded() -> Vec<u8> {
    encode(GZIP).unwrap()
}

fn encode(gzip: &[u8]) -> Result<Vec<u8>, NotCodable> {
    let (mut coded, mut encoder) = (Vec::new(), TokenEncoder::new());
    encoder.push(gzip, &mut coded)?;
    encoder.finish(&mut coded)?;
    Ok(coded)
}

/// A sound bundle of what every compressor of `manifests/tests/vectors-gzip` made of the same files, as
/// tokens.
pub(crate) fn compressors() -> Draft {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/tests/vectors-gzip");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    files.sort();
    let mut writer = PackWriter::new(Vec::new(), Encoding::Zstd { level: 3 }).unwrap();
    let (mut draft, mut seen) = (Draft::empty(), std::collections::BTreeSet::new());
    for path in files {
        let gzip = std::fs::read(&path).unwrap();
        let blob = Blob { digest: Sha256::of(&gzip), size: gzip.len() as u64 };
        let (Ok(tokens), true) = (encode(&gzip), seen.insert(blob.digest)) else { continue };
        let entry = PackedBlob { coding: TOKENS.into(), coded: tokens.len() as u64, ..PackedBlob::plain(blob) };
        writer.coded(entry, &mut &tokens[..]).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        draft.manifest.files.push(PlainFile { path: name, digest: blob.digest });
    }
    assert!(seen.len() > 80, "{} files", seen.len());
    let (pack, stored) = writer.finish(0).unwrap();
    draft.manifest.packs.push(pack);
    draft.packs.push(stored);
    draft
}

/// A bundle of one file that is [`GZIP`] by its digest, carried as these tokens in a proved pack.
fn of(tokens: &[u8], size: u64, coding: &str) -> Draft {
    let blob = Blob { digest: Sha256::of(GZIP), size };
    let entry = PackedBlob { coding: coding.into(), coded: tokens.len() as u64, ..PackedBlob::plain(blob) };
    let mut writer = PackWriter::new(Vec::new(), Encoding::Raw).unwrap();
    writer.coded(entry, &mut &tokens[..]).unwrap();
    let (pack, stored) = writer.finish(0).unwrap();
    let mut draft = Draft::empty();
    draft.manifest.packs.push(pack);
    draft.packs.push(stored);
    draft.manifest.files.push(PlainFile { path: "layer".into(), digest: blob.digest });
    draft
}

/// A sound bundle of a file that is carried as tokens.
pub(crate) fn sound() -> Draft {
    of(&coded(), GZIP.len() as u64, TOKENS)
}

/// Token bytes of one segment with these streams.
fn segment(streams: [&[u8]; 7]) -> Vec<u8> {
    let mut tokens = vec![2];
    tokens.extend(streams.map(|stream| u8::try_from(stream.len()).ok().filter(|size| *size < 128).unwrap()));
    tokens.extend(streams.concat());
    tokens
}

const HEADER: &[u8] = &[1, 10, 0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];
const END: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const NONE: [&[u8]; 6] = [&[]; 6];

/// A member with one last block of that record, and these other streams.
fn block(record: &[u8], others: [&[u8]; 6]) -> Vec<u8> {
    let control = [HEADER, record, END].concat();
    segment([&control, others[0], others[1], others[2], others[3], others[4], others[5]])
}

/// One segment of these control records alone.
fn control(records: &[&[u8]]) -> Vec<u8> {
    segment([&records.concat(), &[], &[], &[], &[], &[], &[]])
}

/// Vectors from token bytes: defect, part of the message, bytes.
fn refused<const N: usize>(rules: &'static [&'static str], table: [(&str, &'static str, Vec<u8>); N]) -> Vec<Vector> {
    let made = |(defect, says, tokens): (&str, &'static str, Vec<u8>)| {
        vector!(format!("tokens: {defect}"), Coding, says, of(&tokens, 1 << 20, TOKENS).archive())
    };
    breaks(rules, table.map(made))
}

fn frames() -> Vec<Vector> {
    let long = [2, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0].to_vec();
    let one_more = [&[2][..], &[0x81, 0x80, 0x80, 8], &[0; 6]].concat();
    let cut = coded();
    [
        refused(
            &["R-TOK-1"],
            [
                ("none at all", "cut short", Vec::new()),
                ("former version", "unknown version", vec![1]),
                ("unknown version", "unknown version", vec![3]),
                ("version alone", "cut short", vec![2]),
                ("cut short by a byte", "cut short", cut[..cut.len() - 1].to_vec()),
                ("bytes behind the end", "behind the end", [block(&[0x45, 0], NONE), vec![0]].concat()),
            ],
        ),
        refused(&["R-TOK-2"], [("number of six bytes", "no number", vec![2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])]),
        refused(
            &["R-TOK-3", "R-LIM-41"],
            [
                ("segment of 256 MiB", "longer than it may be", long),
                ("segment one byte over 16 MiB", "longer than it may be", one_more),
            ],
        ),
        refused(
            &["R-TOK-4"],
            [
                ("literals left over", "more than its blocks", { block(&[0x45, 1], [&[], &[], b"ab", &[], &[], &[]]) }),
                ("control stream cut in a record", "ends early", control(&[&HEADER[..5]])),
            ],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn records() -> Vec<Vector> {
    let out = "out of place";
    [
        refused(
            &["R-TOK-7"],
            [
                ("stored block that is cut", "unknown block", block(&[0x43, 0], NONE)),
                ("foretold block that is cut, whole by its method", "foretell", block(&[0x4F, 0, 1], NONE)),
            ],
        ),
        refused(
            &["R-TOK-8"],
            [
                ("end without a member", out, control(&[&[0]])),
                ("block without a member", out, control(&[&[0x45, 0]])),
                ("member inside a member", out, control(&[HEADER, HEADER])),
                ("trailer without a block", out, control(&[HEADER, END])),
                ("unknown record", out, block(&[0x55, 0], NONE)),
                ("block behind the last block", out, control(&[HEADER, &[0x45, 0], &[0x45, 0], END])),
            ],
        ),
        refused(
            &["R-TOK-9", "R-TOK-14"],
            [
                ("stored block without its bytes", "literals end early", block(&[0x41, 1, 0], NONE)),
                ("symbol that is not there", "literals end early", block(&[0x45, 1], NONE)),
            ],
        ),
        refused(
            &["R-TOK-10"],
            [
                ("padding of more bits than there are", "does not fit", block(&[0x41, 0, 0x20], NONE)),
                ("stored block of 65,536 bytes", "over 65535", block(&[0x41, 0x80, 0x80, 4, 0], NONE)),
            ],
        ),
        refused(
            &["R-TOK-12"],
            [
                ("more of a block that was not cut", out, block(&[4, 0], NONE)),
                ("block that was cut and does not go on", out, control(&[HEADER, &[0x47, 0], END])),
            ],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn symbols() -> Vec<Vector> {
    // Two lengths: 256 zeros, the end's code of one bit, no distance; then a literal that it lacks.
    let lacks = [&[0x49, 1, 0, 0, 18, 0, 0, 1, 2][..], &[0; 13], &[2, 155, 135, 1, 0]].concat();
    // A code length code that lacks what is written.
    let unwritten = [&[0x49, 0, 0, 0, 18, 0, 0, 1][..], &[0; 14], &[1, 155, 135, 1, 0]].concat();
    let early = "distances end early";
    [
        refused(
            &["R-TOK-11"],
            [("literal that the code lacks", "code lacks", block(&lacks, [&[], &[], b"a", &[], &[], &[]]))],
        ),
        refused(
            &["R-TOK-13"],
            [
                ("long length without its byte", "long lengths end early", {
                    block(&[0x45, 1], [&[0x1F], &[], &[], &[128], &[], &[]])
                }),
                ("length over 258", "beyond 258", block(&[0x45, 1], [&[0x1F], &[226], &[], &[128], &[], &[]])),
                ("run of literals that ends in no number", "run of literals", {
                    block(&[0x45, 1], [&[0xE0], &[0xFF], &[], &[128], &[], &[]])
                }),
            ],
        ),
        refused(
            &["R-TOK-15"],
            [
                ("match without a distance", early, block(&[0x45, 1], [&[0], &[], &[], &[], &[], &[]])),
                ("near distance without its byte", early, block(&[0x45, 1], [&[0], &[], &[], &[0], &[], &[]])),
                ("far distance without its byte", early, block(&[0x45, 1], [&[0], &[], &[], &[1], &[], &[]])),
                ("distance beyond the window", "beyond the window", {
                    block(&[0x45, 1], [&[0], &[], &[], &[132], &[], &[]])
                }),
            ],
        ),
        refused(
            &["R-TOK-17"],
            [
                ("head of three code lengths", "head is none", block(&[0x49, 0, 0, 0, 3], NONE)),
                ("head over its code lengths", "head is none", block(&[0x49, 0, 0, 0, 4, 8, 0, 0, 0], NONE)),
                ("head that its own code cannot write", "cannot be written", block(&unwritten, NONE)),
            ],
        ),
        refused(
            &["R-TOK-18"],
            [
                ("foretold block of 65,537 symbols", "foretell", block(&[0x4D, 0x81, 0x80, 4, 1], NONE)),
                ("foretold block without its first symbols", "literals end early", block(&[0x4D, 1, 3], NONE)),
                ("head foretold by no method", "foretell", block(&[0x4D, 0, 0], NONE)),
                ("head foretold by another method", "foretell", block(&[0x4D, 0, 7], NONE)),
            ],
        ),
        refused(
            &["R-TOK-19"],
            [("symbol that the foretold code lacks", "code lacks", {
                // 65,536 symbols: the code is made from all but the last.
                let control = [HEADER, &[0x4D, 0x80, 0x80, 4, 3], END].concat();
                let sizes = [2, u8::try_from(control.len()).unwrap(), 0, 0, 0x80, 0x80, 4, 0, 0, 0];
                [&sizes[..], &control, &vec![b'a'; 65_535], b"b"].concat()
            })],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn streams() -> Vec<Vector> {
    let (good, size) = (coded(), GZIP.len() as u64);
    let mut moved = good.clone();
    // The member's time stamp: no rule of tokens knows it, the digest does.
    let header = good.windows(3).position(|bytes| bytes == [0x1f, 0x8b, 8]).unwrap();
    moved[header + 4] ^= 1;
    let short = vec![vector!("tokens of less than the blob", Coding, "less than its size", {
        of(&good, size + 1, TOKENS).archive()
    })];
    let long = vec![vector!("tokens of more than the blob", Coding, "more bytes than were signed", {
        of(&good, size - 1, TOKENS).archive()
    })];
    let other = vec![vector!("tokens of another gzip file", BlobDigest, "sha256", of(&moved, size, TOKENS).archive())];
    let unknown = vec![
        vector!("unknown coding", UnknownCoding, "\"morse\"", of(&good, size, "morse").archive()),
        vector!("coding of another version", UnknownCoding, "\"deflate-tokens-2\"", {
            of(&good, size, "deflate-tokens-2").archive()
        }),
    ];
    [
        breaks(&["R-PACK-4"], short),
        breaks(&["R-TOK-6", "R-PACK-4"], long),
        breaks(&["R-PACK-4"], other),
        breaks(&["R-PACK-7"], unknown),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [frames(), records(), symbols(), streams()].into_iter().flatten().collect()
}

#[test]
fn what_the_vectors_are_made_of_is_sound() {
    let good = sound();
    system_tests::prove(&good.archive(), &good.trusted()).unwrap();
    // The form that the vectors are made of is sound.
    let (tokens, gzip) = (block(&[0x45, 0], NONE), sound_block());
    let draft = {
        let mut draft = of(&tokens, gzip.len() as u64, TOKENS);
        draft.manifest.files[0].digest = Sha256::of(&gzip);
        draft.manifest.packs[0].blobs[0].digest = Sha256::of(&gzip);
        draft
    };
    system_tests::prove(&draft.archive(), &draft.trusted()).unwrap();
}

/// A member of one fixed block without symbols.
fn sound_block() -> Vec<u8> {
    let mut gzip = Vec::new();
    let mut decoder = bundle_format::tokens::TokenDecoder::new(1 << 20);
    // Behind the trailer the stream must end.
    decoder.push(&control(&[HEADER, &[0x45, 0], END]), &mut gzip).unwrap();
    gzip
}
