//! Defects inside packs: proof of frames, decoding, blobs.
#![allow(clippy::too_many_lines, reason = "tables")]

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::manifest::{Blob, PackedBlob};
use bundle_format::pack::Encoding;
use system_tests::Draft;

use crate::{Vector, breaks, vector};

const CONTENT: &[u8] = b"TEST content of the only blob";

/// A bundle of one zstd pack, whose stored bytes are replaced, sums made anew.
fn stored(bytes: Vec<u8>) -> Vec<u8> {
    let mut draft = Draft::empty();
    draft.add_files(Encoding::Zstd { level: 3 }, &[CONTENT]);
    draft.reframe(0, bytes);
    draft.archive()
}

/// A sound bundle whose one zstd frame has a content checksum, or none: SHA-384 and sha256 cover every
/// byte anyway.
pub(crate) fn of_one_frame(checksum: bool) -> Draft {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(checksum).unwrap();
    std::io::Write::write_all(&mut encoder, CONTENT).unwrap();
    let frame = encoder.finish().unwrap();
    // RFC 8878, 3.1.1.1.1: bit 2 of the descriptor.
    assert_eq!(frame[4] & 4 != 0, checksum);
    let mut draft = Draft::empty();
    draft.add_files(Encoding::Zstd { level: 3 }, &[CONTENT]);
    draft.reframe(0, frame);
    draft
}

/// A sound bundle whose zstd frame asks for the largest window that a reader gives.
pub(crate) fn of_the_largest_window() -> Draft {
    let mut draft = Draft::empty();
    draft.add_files(Encoding::Zstd { level: 3 }, &[CONTENT]);
    let log = u8::try_from(bundle_format::limits::ZSTD_WINDOW_LOG).unwrap();
    draft.reframe(0, frame(&[0, window(log)], CONTENT));
    draft
}

fn compress(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

/// A zstd frame of one raw block with any descriptor (RFC 8878, 3.1.1).
fn frame(descriptor: &[u8], content: &[u8]) -> Vec<u8> {
    let block = u32::try_from(content.len() << 3 | 1).unwrap().to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd], descriptor, &block[..3], content].concat()
}

/// The window descriptor of 2^log bytes.
const fn window(log: u8) -> u8 {
    (log - 10) << 3
}

const SKIPPABLE: &[u8] = &[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, b'T', b'E', b'S', b'T'];

fn zstd_streams() -> Vec<Vector> {
    let good = compress(CONTENT);
    let mut checksummed = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    checksummed.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut checksummed, CONTENT).unwrap();
    let mut checksummed = checksummed.finish().unwrap();
    let checksummed_right = checksummed.clone();
    *checksummed.last_mut().unwrap() ^= 1;
    let bomb = compress(&vec![0; 64 << 20]);
    let parts = |parts: &[&[u8]]| stored(parts.concat());
    let streams = vec![
        vector!("garbage", Codec, "packs/00000", stored(b"no zstd frame at all".to_vec())),
        vector!("second frame", Codec, "bytes follow the zstd frame", parts(&[&good, &compress(b"more")])),
        vector!("same frame twice", Codec, "bytes follow the zstd frame", parts(&[&good, &good])),
        vector!("empty second frame", Codec, "bytes follow the zstd frame", parts(&[&good, &compress(b"")])),
        vector!("skippable frame behind", Codec, "bytes follow the zstd frame", parts(&[&good, SKIPPABLE])),
        vector!("skippable frame before", Codec, "bytes follow the zstd frame", parts(&[SKIPPABLE, &good])),
        vector!("skippable frame alone", Codec, "ends before its last blob", parts(&[SKIPPABLE])),
        vector!("one byte behind", Codec, "bytes follow the zstd frame", parts(&[&good, b"x"])),
        vector!("frame without its end", Codec, "does not end", stored(good[..good.len() - 4].to_vec())),
        vector!("only the magic number", Codec, "does not end", stored(good[..4].to_vec())),
        vector!("dictionary", Codec, "", stored(frame(&[0x01, window(10), 7], CONTENT))),
        vector!("reserved bit", Codec, "", stored(frame(&[0x08, window(10)], CONTENT))),
        vector!("wrong checksum", Codec, "", stored(checksummed)),
        vector!("wrong content size", Codec, "", stored(frame(&[0x20, 30], CONTENT))),
        vector!("frame of an old zstd format", Codec, "packs/00000", {
            stored([&[0x27, 0xb5, 0x2f, 0xfd, 0, 0x58][..], CONTENT].concat())
        }),
        vector!(
            "gzip called zstd",
            Codec,
            "packs/00000",
            stored(b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0".to_vec())
        ),
        vector!(
            "block of the reserved type",
            Codec,
            "",
            stored([&[0x28, 0xb5, 0x2f, 0xfd, 0, window(10)][..], &[7, 0, 0]].concat())
        ),
        vector!("block longer than its bytes", Codec, "does not end", {
            stored([&[0x28, 0xb5, 0x2f, 0xfd, 0, window(10)][..], &[0x01, 1, 0], b"x"].concat())
        }),
        vector!("block larger than the window", Codec, "", {
            let content = [b'x'; 2000];
            stored(frame(&[0, window(10)], &content))
        }),
        vector!("frame with two last bytes of a checksum", Codec, "does not end", {
            let mut cut = checksummed_right.clone();
            cut.truncate(cut.len() - 2);
            stored(cut)
        }),
        vector!("nested bomb", BlobDigest, "sha256", {
            // Nothing is ever decoded twice: what is in the blob is the blob.
            let mut draft = Draft::empty();
            let inner = compress(&vec![0; 1 << 20]);
            draft.add_files(Encoding::Zstd { level: 3 }, &[&inner]);
            draft.reframe(0, compress(&vec![0; inner.len()]));
            draft.archive()
        }),
    ];
    let windows = vec![
        vector!("window of 2^27 and an eighth", Codec, "", stored(frame(&[0, window(27) + 1], CONTENT))),
        vector!("window of 2^28", Codec, "", stored(frame(&[0, window(28)], CONTENT))),
        vector!("window of 2^31", Codec, "", stored(frame(&[0, window(31)], CONTENT))),
        vector!("window of 2^41", Codec, "", stored(frame(&[0, 0xf8], CONTENT))),
    ];
    let lengths = vec![
        vector!(
            "longer than its blobs",
            Codec,
            "more bytes than its blobs",
            stored(compress(&[CONTENT, b"x"].concat()))
        ),
        vector!("bomb", Codec, "more bytes than its blobs", {
            // The first blob's bytes are right, so that the stream's length is what fires.
            let mut draft = Draft::empty();
            draft.add_files(Encoding::Zstd { level: 3 }, &[&[0; 100]]);
            draft.reframe(0, bomb);
            draft.archive()
        }),
        vector!("shorter than its blobs", Codec, "ends before its last blob", stored(compress(&CONTENT[1..]))),
        vector!("empty content", Codec, "ends before its last blob", stored(compress(b""))),
        vector!("one byte for many", Codec, "ends before its last blob", stored(compress(b"T"))),
    ];
    let contents = vec![
        vector!("content of the right length", BlobDigest, "sha256", stored(compress(&[b'x'; 29]))),
        vector!("content with one bit flipped", BlobDigest, "sha256", {
            let mut content = CONTENT.to_vec();
            content[10] ^= 0x20;
            stored(compress(&content))
        }),
        vector!(
            "content in another order",
            BlobDigest,
            "sha256",
            stored(compress(&CONTENT.iter().rev().copied().collect::<Vec<_>>()))
        ),
    ];
    [
        breaks(&["R-PACK-5"], streams),
        breaks(&["R-LIM-14", "R-PACK-5"], windows),
        breaks(&["R-PACK-3"], lengths),
        breaks(&["R-PACK-4"], contents),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn the_forms_that_the_vectors_are_made_of_are_sound() {
    // Were they not, the vectors above would be refused for the wrong reason.
    let trusted = Draft::empty().trusted();
    for descriptor in [&[0, window(10)][..], &[0, window(27)], &[0x20, 29]] {
        system_tests::prove(&stored(frame(descriptor, CONTENT)), &trusted).unwrap();
    }
}

fn frames_and_blobs() -> Vec<Vector> {
    let raw = |change: fn(&mut Draft)| {
        let mut draft = Draft::empty();
        draft.add_files(Encoding::Raw, &[b"first", b"second"]);
        change(&mut draft);
        draft.archive()
    };
    let frames = vec![
        vector!("frame differs", FrameDigest, "frame 0", raw(|d| d.packs[0][3] ^= 1)),
        vector!("wrong signed frame digest", FrameDigest, "frame 0", {
            raw(|d| d.manifest.packs[0].frames[0].sha384 = Sha384::of(b"other"))
        }),
        vector!("frames swapped", FrameDigest, "frame 0", {
            raw(|d| {
                let frame = bundle_format::manifest::Frame::of;
                d.manifest.packs[0].frames = vec![frame(b"second"), frame(b"first")];
            })
        }),
        vector!("frames cut elsewhere", FrameDigest, "frame 0", {
            raw(|d| {
                let frame = bundle_format::manifest::Frame::of;
                let mut cut = vec![frame(b"firstsecon"), frame(b"d")];
                (cut[0].size, cut[1].size) = (cut[1].size, cut[0].size);
                d.manifest.packs[0].frames = cut;
            })
        }),
        vector!("last frame differs", FrameDigest, "frame 1", {
            raw(|d| {
                let frame = bundle_format::manifest::Frame::of;
                d.manifest.packs[0].frames = vec![frame(b"first"), frame(b"second")];
                d.packs[0][10] ^= 0x80;
            })
        }),
        vector!("a hole where content was", FrameDigest, "frame 0", raw(|d| d.packs[0].fill(0))),
        vector!("proved by its SHA-256 alone", FrameDigest, "frame 0", {
            raw(|d| {
                d.packs[0][0] ^= 1;
                d.manifest.packs[0].frames[0].sha256 = Sha256::of(&d.packs[0]);
            })
        }),
    ];
    let blobs = vec![
        vector!("blob differs, frames made anew", BlobDigest, "sha256", raw(|d| d.reframe(0, b"firstseconD".to_vec()))),
        vector!("blobs swapped", BlobDigest, "sha256", raw(|d| d.manifest.packs[0].blobs.reverse())),
        vector!("blob boundary moved", BlobDigest, "sha256", {
            raw(|d| {
                let blobs = &mut d.manifest.packs[0].blobs;
                (blobs[0].size, blobs[0].coded) = (6, 6);
                (blobs[1].size, blobs[1].coded) = (5, 5);
            })
        }),
        vector!("empty blob with a wrong digest", BlobDigest, "sha256", {
            raw(|d| {
                let digest = Sha256::of(b"not empty");
                d.manifest.packs[0].blobs.push(PackedBlob::plain(Blob { digest, size: 0 }));
                d.manifest.files.push(bundle_format::manifest::PlainFile { path: "empty".into(), digest });
            })
        }),
    ];
    let unknown = vec![
        vector!("unknown codec", UnknownCodec, "\"brotli\"", raw(|d| d.manifest.packs[0].codec = "brotli".into())),
        vector!(
            "codec of another version",
            UnknownCodec,
            "\"zstd-2\"",
            raw(|d| d.manifest.packs[0].codec = "zstd-2".into())
        ),
    ];
    let swapped = vec![
        vector!("raw pack called zstd", Codec, "", raw(|d| d.manifest.packs[0].codec = "zstd".into())),
        vector!("pack without frames", Codec, "does not end", {
            raw(|d| {
                d.manifest.packs[0].codec = "zstd".into();
                d.manifest.packs[0].frames.clear();
            })
        }),
        vector!("zstd pack without bytes", Codec, "does not end", {
            raw(|d| {
                d.manifest.packs[0].codec = "zstd".into();
                d.manifest.packs[0].frames.clear();
                d.packs[0].clear();
            })
        }),
    ];
    [
        breaks(&["R-PACK-2", "R-PRF-6"], frames),
        breaks(&["R-PACK-4"], blobs),
        breaks(&["R-PACK-5"], unknown),
        breaks(&["R-PACK-5"], swapped),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    // The draft's own root is the usual one.
    [zstd_streams(), frames_and_blobs()].into_iter().flatten().collect()
}
