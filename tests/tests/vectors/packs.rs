//! Defects inside packs: proof of frames, decoding, blobs.

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::manifest::{Blob, PackedBlob};
use bundle_format::pack::Encoding;
use system_tests::Draft;

use crate::{Vector, refuse_all, vector};

const CONTENT: &[u8] = b"TEST content of the only blob";

/// A bundle of one zstd pack, whose stored bytes are replaced, sums made anew.
fn stored(bytes: Vec<u8>) -> Vec<u8> {
    let mut draft = Draft::empty();
    draft.add_files(Encoding::Zstd { level: 3 }, &[CONTENT]);
    draft.reframe(0, bytes);
    draft.archive()
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

#[test]
fn zstd_streams() {
    let good = compress(CONTENT);
    let mut checksummed = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    checksummed.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut checksummed, CONTENT).unwrap();
    let mut checksummed = checksummed.finish().unwrap();
    *checksummed.last_mut().unwrap() ^= 1;
    let bomb = compress(&vec![0; 64 << 20]);
    let parts = |parts: &[&[u8]]| stored(parts.concat());
    refuse_all(vec![
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
        vector!("window of 2^28", Codec, "", stored(frame(&[0, window(28)], CONTENT))),
        vector!("window of 2^31", Codec, "", stored(frame(&[0, window(31)], CONTENT))),
        vector!("window of 2^41", Codec, "", stored(frame(&[0, 0xf8], CONTENT))),
        vector!("dictionary", Codec, "", stored(frame(&[0x01, window(10), 7], CONTENT))),
        vector!("reserved bit", Codec, "", stored(frame(&[0x08, window(10)], CONTENT))),
        vector!("wrong checksum", Codec, "", stored(checksummed)),
        vector!("wrong content size", Codec, "", stored(frame(&[0x20, 30], CONTENT))),
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
        vector!("content of the right length", BlobDigest, "sha256", stored(compress(&[b'x'; 29]))),
    ]);
}

#[test]
fn the_forms_that_the_vectors_are_made_of_are_sound() {
    // Were they not, the vectors above would be refused for the wrong reason.
    let trusted = Draft::empty().trusted();
    for descriptor in [&[0, window(10)][..], &[0, window(27)], &[0x20, 29]] {
        system_tests::prove(&stored(frame(descriptor, CONTENT)), &trusted).unwrap();
    }
}

#[test]
fn frames_and_blobs() {
    let raw = |change: fn(&mut Draft)| {
        let mut draft = Draft::empty();
        draft.add_files(Encoding::Raw, &[b"first", b"second"]);
        change(&mut draft);
        draft.archive()
    };
    let vectors: Vec<Vector> = vec![
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
        vector!("unknown codec", UnknownCodec, "\"brotli\"", raw(|d| d.manifest.packs[0].codec = "brotli".into())),
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
    refuse_all(vectors);
}
