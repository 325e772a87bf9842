//! Hostile deltas and codings: ranges outside of the base, sizes that lie, bases that are none.

use std::io::Read;

use bundle_format::Result;
use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{BaseSet, Blob, Delta, Manifest, PackedBlob, PlainFile, Segment};
use bundle_format::pack::{
    BaseBlobs, BlobSink, Encoding, Held, PLAIN, PackWriter, TOKENS, Want, encode_segment, unpack,
};
use bundle_format::signature::AlgorithmPolicy;
use system_tests::Draft;

use crate::{Vector, describe, refuse_all, vector};

/// What the site holds.
struct Site(Vec<Vec<u8>>);

impl BaseBlobs for Site {
    fn open(&self, digest: &Sha256) -> Result<Box<dyn Read + '_>> {
        let found = self.0.iter().find(|bytes| Sha256::of(bytes) == *digest).expect("only what is required is opened");
        Ok(Box::new(&found[..]))
    }
}

#[derive(Default)]
struct Keep(Vec<Vec<u8>>);

impl BlobSink for Keep {
    fn begin(&mut self, _: &Blob) -> Result<Want> {
        self.0.push(Vec::new());
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.last_mut().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Letters without a pattern, so that only the base can make them small.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn former() -> Vec<u8> {
    noise(7, 60_000)
}

fn current() -> Vec<u8> {
    let mut bytes = former();
    bytes[30_000..30_010].copy_from_slice(b"TEST patch");
    bytes
}

fn blob(bytes: &[u8]) -> Blob {
    Blob { digest: Sha256::of(bytes), size: bytes.len() as u64 }
}

/// A bundle of one file as the difference to the former one, in two segments, and a second file that
/// sites hold already.
fn sound() -> Draft {
    let (former, current, kept) = (former(), current(), b"TEST kept".to_vec());
    let mut draft = Draft::empty();
    let cut = 40_000;
    let frames =
        [encode_segment(&former[..50_000], &current[..cut], 3), encode_segment(&former[30_000..], &current[cut..], 3)];
    let frames = frames.map(Result::unwrap);
    let segment = |frame: &[u8], coded: usize, from: u64, len: u64| Segment {
        stored: frame.len() as u64,
        coded: coded as u64,
        from,
        len,
    };
    let segments = vec![segment(&frames[0], cut, 0, 50_000), segment(&frames[1], current.len() - cut, 30_000, 30_000)];
    let delta = Delta { base: Sha256::of(&former), coding: PLAIN.into(), coded: former.len() as u64, segments };
    let entry = PackedBlob { delta: Some(delta), ..PackedBlob::plain(blob(&current)) };
    let mut writer = PackWriter::new(Vec::new(), Encoding::Delta).unwrap();
    writer.coded(entry, &mut &frames.concat()[..]).unwrap();
    let (pack, stored) = writer.finish(0).unwrap();
    draft.manifest.packs.push(pack);
    draft.packs.push(stored);
    let mut blobs = vec![blob(&former), blob(&kept)];
    blobs.sort_by_key(|blob| blob.digest);
    draft.manifest.bases.push(BaseSet { release: "0.9".into(), sequence: 6, manifest_sha384: None, blobs });
    for (path, content) in [("current", &current), ("kept", &kept)] {
        draft.manifest.files.push(PlainFile { path: path.into(), digest: Sha256::of(content) });
    }
    draft
}

fn prove(draft: &Draft, held: &[Vec<u8>], sink: &mut dyn BlobSink) -> Result<()> {
    let archive = draft.archive();
    let (envelope, mut packs) = UnverifiedEnvelope::read(&archive[..])?;
    let manifest = envelope.verify(&draft.trusted(), AlgorithmPolicy::Hybrid)?;
    let site = Site(held.to_vec());
    let bases = Held::Set { set: 0, blobs: &site };
    unpack(&mut packs, &manifest, bases, sink, 2, &mut |_| {})
}

fn delta_of(manifest: &mut Manifest) -> &mut Delta {
    manifest.packs[0].blobs[0].delta.as_mut().unwrap()
}

fn changed(change: fn(&mut Manifest)) -> Vec<u8> {
    let mut draft = sound();
    change(&mut draft.manifest);
    draft.archive()
}

#[test]
fn a_sound_delta_gives_the_blob_and_is_small() {
    let draft = sound();
    let mut sink = Keep::default();
    prove(&draft, &[former()], &mut sink).unwrap();
    assert!(sink.0 == [current()]);
    assert!(draft.packs[0].len() < 200, "{}", draft.packs[0].len());
    // A reader without the base proves the frames and leaves it at that.
    for bases in [vec![], vec![0]] {
        let mut draft = sound();
        draft.manifest.packs[0].bases = bases;
        system_tests::prove(&draft.archive(), &draft.trusted()).unwrap();
        draft.packs[0][9] ^= 1;
        let error = system_tests::prove(&draft.archive(), &draft.trusted()).unwrap_err();
        assert!(matches!(error.kind(), bundle_format::ErrorKind::FrameDigest { .. }), "{error}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn manifests() {
    let vectors: Vec<Vector> = vec![
        vector!("range past the base", Delta, "outside of its base", changed(|m| delta_of(m).segments[1].len += 1)),
        vector!("range that overflows", Delta, "outside of its base", {
            changed(|m| delta_of(m).segments[1].from = u64::MAX)
        }),
        vector!("range over its limit", Delta, "longer than the limit", {
            changed(|m| {
                delta_of(m).coded = u64::MAX;
                delta_of(m).segments[0].len = (1 << 27) + 1;
            })
        }),
        vector!("range that goes back", Delta, "goes back", {
            changed(|m| {
                let first = &mut delta_of(m).segments[0];
                (first.from, first.len) = (31_000, 10_000);
            })
        }),
        vector!("range whose end goes back", Delta, "goes back", changed(|m| delta_of(m).segments[1].len = 10)),
        vector!("segment of no bytes", Delta, "no coded bytes", {
            changed(|m| delta_of(m).segments.push(Segment { stored: 1, coded: 0, from: 60_000, len: 0 }))
        }),
        vector!("segment over its limit", Delta, "no coded bytes, or more", {
            changed(|m| delta_of(m).segments[0].coded = (1 << 26) + 1)
        }),
        vector!("segment without stored bytes", Delta, "no stored bytes", {
            changed(|m| delta_of(m).segments[0].stored = 0)
        }),
        vector!("stored bytes over their limit", Delta, "no stored bytes, or more", {
            changed(|m| delta_of(m).segments[0].stored = u64::MAX)
        }),
        vector!("coded bytes that do not add up", Delta, "not its coded bytes", {
            changed(|m| delta_of(m).segments[0].coded -= 1)
        }),
        vector!("no segments", Delta, "not its coded bytes", changed(|m| delta_of(m).segments.clear())),
        vector!("stored bytes that do not add up", Inconsistent, "in segments", {
            changed(|m| delta_of(m).segments[0].stored += 1)
        }),
        vector!("100,001 segments", TooLarge, "segments", {
            changed(|m| {
                let segment = delta_of(m).segments[1];
                delta_of(m).segments.resize(100_001, segment);
            })
        }),
        vector!("base that nobody holds", Delta, "not among what", {
            changed(|m| delta_of(m).base = Sha256::of(b"nowhere"))
        }),
        vector!("base that the blob itself is", Delta, "not among what", {
            changed(|m| {
                let own = m.packs[0].blobs[0].digest;
                delta_of(m).base = own;
            })
        }),
        vector!("delta without base sets", Delta, "not among what", changed(|m| m.bases.clear())),
        vector!("base that is carried as well", Inconsistent, "carried to sites that must hold it", {
            // So that no delta can build on another blob of the same bundle.
            let mut draft = sound();
            draft.add_files(Encoding::Raw, &[&former()]);
            draft.archive()
        }),
        vector!("required blob that nothing needs", Inconsistent, "nothing needs it", {
            changed(|m| {
                m.bases[0].blobs.push(Blob { digest: Sha256::from_bytes([0xff; 32]), size: 1 });
            })
        }),
        vector!("blob that no site gets", Inconsistent, "for sites at release 0.9 (sequence 6)", {
            changed(|m| {
                let kept = Sha256::of(b"TEST kept");
                m.bases[0].blobs.retain(|blob| blob.digest != kept);
            })
        }),
        vector!("blob that one of two sites does not get", Inconsistent, "for sites at release 0.8", {
            changed(|m| {
                let base = BaseSet { release: "0.8".into(), blobs: Vec::new(), ..m.bases[0].clone() };
                m.packs[0].bases = vec![0];
                m.bases.push(base);
            })
        }),
        vector!("base of one site only", Delta, "not among what", {
            changed(|m| {
                let mut base = m.bases[0].clone();
                base.blobs.retain(|blob| blob.digest != Sha256::of(&former()));
                m.bases.push(base);
            })
        }),
        vector!("unsorted requirements", Inconsistent, "doubled or unsorted", changed(|m| m.bases[0].blobs.reverse())),
        vector!("doubled requirement", Inconsistent, "doubled or unsorted", {
            changed(|m| {
                let blob = m.bases[0].blobs[1];
                m.bases[0].blobs.push(blob);
            })
        }),
        vector!("base set that is not there", Inconsistent, "not there", changed(|m| m.packs[0].bases = vec![1])),
        vector!("base set twice", Inconsistent, "doubled, unsorted", changed(|m| m.packs[0].bases = vec![0, 0])),
        vector!("seventeen base sets", TooLarge, "base sets", {
            changed(|m| {
                let base = m.bases[0].clone();
                m.bases.resize(17, base);
            })
        }),
        vector!("one blob of two sizes", Inconsistent, "two sizes", {
            changed(|m| {
                let base = m.bases[0].clone();
                m.bases.push(base);
                m.bases[1].blobs[0].size += 1;
            })
        }),
        vector!("delta in a raw pack", Inconsistent, "only packs of codec zstd-delta", {
            changed(|m| {
                m.packs[0].codec = "raw".into();
                m.packs[0].blobs[0].coded = m.packs[0].stored_size().unwrap();
                m.packs[0].blobs[0].coding = TOKENS.into();
            })
        }),
        vector!("whole blob in a pack of deltas", Inconsistent, "only packs of codec zstd-delta", {
            changed(|m| m.packs[0].blobs[0].delta = None)
        }),
        vector!("plain blob of another coded size", Inconsistent, "is plain", {
            changed(|m| m.packs[0].blobs[0].coded += 1)
        }),
        vector!("coding with a slash", BadName, "coding", changed(|m| m.packs[0].blobs[0].coding = "a/b".into())),
    ];
    refuse_all(vectors);
}

#[test]
fn streams() {
    let rewritten = |stored: &[Vec<u8>; 2], coded: [u64; 2]| {
        let mut draft = sound();
        draft.reframe(0, stored.concat());
        let segments = &mut delta_of(&mut draft.manifest).segments;
        for ((segment, stored), coded) in segments.iter_mut().zip(stored).zip(coded) {
            (segment.stored, segment.coded) = (stored.len() as u64, coded);
        }
        draft
    };
    let frames = || {
        let draft = sound();
        let cut = usize::try_from(draft.manifest.packs[0].blobs[0].delta.as_ref().unwrap().segments[0].stored).unwrap();
        let (first, second) = draft.packs[0].split_at(cut);
        [first.to_vec(), second.to_vec()]
    };
    let with = |change: fn(&mut [Vec<u8>; 2])| {
        let mut frames = frames();
        change(&mut frames);
        rewritten(&frames, [40_000, 20_000])
    };
    let wrong_base = {
        let mut draft = sound();
        delta_of(&mut draft.manifest).coded += 1;
        delta_of(&mut draft.manifest).segments[1].len += 1;
        draft
    };
    let base_as_tokens = {
        let mut draft = sound();
        delta_of(&mut draft.manifest).coding = TOKENS.into();
        draft
    };
    let unknown = |of_base: bool| {
        let mut draft = sound();
        let blob = &mut draft.manifest.packs[0].blobs[0];
        *(if of_base { &mut blob.delta.as_mut().unwrap().coding } else { &mut blob.coding }) = "morse".into();
        draft
    };
    let table: Vec<(&str, Draft, &str)> = vec![
        ("garbage", with(|frames| frames[0] = b"no zstd frame".to_vec()), "Delta"),
        ("frame without its end", with(|frames| assert!(frames[1].pop().is_some())), "Delta"),
        ("bytes behind a frame", with(|frames| frames[0].push(0)), "Delta"),
        ("two frames in one segment", with(|f| f[0].extend(encode_segment(&[], b"x", 1).unwrap())), "Delta"),
        ("segments that lie about their sizes", rewritten(&frames(), [39_999, 20_001]), "Delta"),
        ("segments swapped", with(|frames| frames.swap(0, 1)), "Delta"),
        ("bomb", with(|frames| frames[0] = zstd::encode_all(&vec![0; 64 << 20][..], 3).unwrap()), "Delta"),
        ("window over the segment's limit", with(|frames| frames[0] = wide()), "Delta"),
        ("range past the real end of the base", wrong_base, "Delta"),
        ("base that is no gzip", base_as_tokens, "Coding"),
        ("unknown coding", unknown(false), "UnknownCoding"),
        ("unknown coding of the base", unknown(true), "UnknownCoding"),
    ];
    for (defect, draft, kind) in table {
        let error = prove(&draft, &[former()], &mut Keep::default()).unwrap_err();
        assert!(
            describe(&error).starts_with(&format!("{kind}:")),
            "{defect}: expected {kind}, found {}",
            describe(&error)
        );
    }
    // A base that is not what it was gives another blob, which never gets its name.
    let mut rotten = former();
    rotten[10] ^= 1;
    let draft = sound();
    let archive = draft.archive();
    let (envelope, mut packs) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    let manifest = envelope.verify(&draft.trusted(), AlgorithmPolicy::Hybrid).unwrap();
    let store = Rotten(rotten);
    let held = Held::Set { set: 0, blobs: &store };
    let error = unpack(&mut packs, &manifest, held, &mut Keep::default(), 1, &mut |_| {}).unwrap_err();
    assert!(matches!(error.kind(), bundle_format::ErrorKind::BlobDigest { .. }), "{error}");
}

/// A zstd frame that asks for a window of 2^27 (RFC 8878, 3.1.1.1.2), with one raw block.
fn wide() -> Vec<u8> {
    let block = (4u32 << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3], &block[..3], b"TEST"].concat()
}

#[test]
fn tokens() {
    let gzip = gzip(&noise(3, 90_000).iter().map(|byte| byte & 7).collect::<Vec<_>>());
    let mut coded = Vec::new();
    let mut encoder = bundle_format::tokens::TokenEncoder::new();
    encoder.push(&gzip, &mut coded).unwrap();
    encoder.finish(&mut coded).unwrap();
    let of = |stored: &[u8], size: u64| {
        let coded = stored.len() as u64;
        let entry = PackedBlob { coding: TOKENS.into(), coded, size, ..PackedBlob::plain(blob(&gzip)) };
        let mut writer = PackWriter::new(Vec::new(), Encoding::Zstd { level: 3 }).unwrap();
        writer.coded(entry, &mut &stored[..]).unwrap();
        let mut draft = Draft::empty();
        let (pack, bytes) = writer.finish(0).unwrap();
        draft.manifest.packs.push(pack);
        draft.packs.push(bytes);
        draft.manifest.files.push(PlainFile { path: "layer".into(), digest: Sha256::of(&gzip) });
        draft
    };
    let size = gzip.len() as u64;
    let good = of(&coded, size);
    system_tests::prove(&good.archive(), &good.trusted()).unwrap();
    let mut flipped = coded.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let error = system_tests::prove(&of(&flipped, size).archive(), &good.trusted()).unwrap_err();
    let kind = describe(&error);
    assert!(kind.starts_with("Coding:") || kind.starts_with("BlobDigest:"), "{kind}");
    let archive = |stored: &[u8], size: u64| of(stored, size).archive();
    refuse_all(vec![
        vector!("tokens that are none", Coding, "deflate-tokens", archive(b"TEST no tokens at all", size)),
        vector!("tokens cut short", Coding, "deflate-tokens", archive(&coded[..coded.len() - 1], size)),
        vector!("tokens of more than the blob", Coding, "deflate-tokens", archive(&coded, size - 1)),
        vector!("tokens of less than the blob", Coding, "less than its size", archive(&coded, size + 1)),
    ]);
}

/// gzip as the system's own program writes it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = std::process::Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// A store whose every blob is these bytes.
struct Rotten(Vec<u8>);
impl BaseBlobs for Rotten {
    fn open(&self, _: &Sha256) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(&self.0[..]))
    }
}
