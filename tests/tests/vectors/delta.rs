//! Hostile deltas: ranges outside of the base, sizes that lie, bases that are none.

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
use system_tests::keys::{anchor, two_of_three};

use crate::{Vector, breaks, part, vector};

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
pub(crate) fn sound() -> Draft {
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

/// The proof of a bundle at a site that holds the base set.
fn prove_at(archive: &[u8], site: &dyn BaseBlobs, sink: &mut dyn BlobSink) -> Result<()> {
    let (envelope, mut packs) = UnverifiedEnvelope::read(archive)?;
    let manifest = envelope.verify(&anchor(&two_of_three()), AlgorithmPolicy::Hybrid)?;
    unpack(&mut packs, &manifest, Held::Set { set: 0, blobs: site }, sink, 2, &mut |_| {})
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
    prove_at(&draft.archive(), &Site(vec![former()]), &mut sink).unwrap();
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

fn pieces() -> Vec<Vector> {
    let ranges = vec![
        vector!("range past the base", Delta, "outside of its base", changed(|m| delta_of(m).segments[1].len += 1)),
        vector!("range that overflows", Delta, "outside of its base", {
            changed(|m| delta_of(m).segments[1].from = u64::MAX)
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
        vector!("segment without stored bytes", Delta, "no stored bytes", {
            changed(|m| delta_of(m).segments[0].stored = 0)
        }),
    ];
    let long_ranges = vec![vector!("range over its limit", Delta, "longer than the limit", {
        changed(|m| {
            delta_of(m).coded = u64::MAX;
            delta_of(m).segments[0].len = (1 << 27) + 1;
        })
    })];
    let long_segments = vec![vector!("segment over its limit", Delta, "no coded bytes, or more", {
        changed(|m| delta_of(m).segments[0].coded = (1 << 26) + 1)
    })];
    let long_stores = vec![vector!("stored bytes over their limit", Delta, "no stored bytes, or more", {
        changed(|m| delta_of(m).segments[0].stored = u64::MAX)
    })];
    let many = vec![vector!("100,001 segments", TooLarge, "segments", {
        changed(|m| {
            let segment = delta_of(m).segments[1];
            delta_of(m).segments.resize(100_001, segment);
        })
    })];
    let sums = vec![
        vector!("coded bytes that do not add up", Delta, "not its coded bytes", {
            changed(|m| delta_of(m).segments[0].coded -= 1)
        }),
        vector!("no segments", Delta, "not its coded bytes", changed(|m| delta_of(m).segments.clear())),
        vector!("stored bytes that do not add up", Inconsistent, "in segments", {
            changed(|m| delta_of(m).segments[0].stored += 1)
        }),
    ];
    [
        breaks(&["R-PACK-9"], ranges),
        breaks(&["R-PACK-9", "R-LIM-62"], long_ranges),
        breaks(&["R-PACK-9", "R-LIM-61"], long_segments),
        breaks(&["R-PACK-9", "R-LIM-64"], long_stores),
        breaks(&["R-LIM-63"], many),
        breaks(&["R-PACK-10"], sums),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[allow(clippy::too_many_lines, reason = "one table")]
fn base_sets() -> Vec<Vector> {
    let bases = vec![
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
        vector!("base of one site only", Delta, "not among what", {
            changed(|m| {
                let mut base = m.bases[0].clone();
                base.blobs.retain(|blob| blob.digest != Sha256::of(&former()));
                m.bases.push(base);
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
    ];
    let carried = vec![
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
        vector!("unsorted requirements", Inconsistent, "doubled or unsorted", changed(|m| m.bases[0].blobs.reverse())),
        vector!("doubled requirement", Inconsistent, "doubled or unsorted", {
            changed(|m| {
                let blob = m.bases[0].blobs[1];
                m.bases[0].blobs.push(blob);
            })
        }),
        vector!("base set that is not there", Inconsistent, "not there", changed(|m| m.packs[0].bases = vec![1])),
        vector!("base set twice", Inconsistent, "doubled, unsorted", changed(|m| m.packs[0].bases = vec![0, 0])),
        vector!("one blob of two sizes", Inconsistent, "two sizes", {
            changed(|m| {
                let base = m.bases[0].clone();
                m.bases.push(base);
                m.bases[1].blobs[0].size += 1;
            })
        }),
    ];
    let names = vec![
        vector!("coding with a slash", BadName, "coding", changed(|m| m.packs[0].blobs[0].coding = "a/b".into())),
        vector!("base's coding in capitals", BadName, "coding", changed(|m| delta_of(m).coding = "Plain".into())),
        vector!("release of a base that climbs", BadName, "base set", changed(|m| m.bases[0].release = "../x".into())),
    ];
    let many = vec![vector!("seventeen base sets", TooLarge, "base sets", {
        changed(|m| {
            let base = m.bases[0].clone();
            m.bases.resize(17, base);
        })
    })];
    let plain = vec![vector!("plain blob of another coded size", Inconsistent, "is plain", {
        changed(|m| m.packs[0].blobs[0].coded += 1)
    })];
    [
        breaks(&["R-PACK-8"], bases),
        breaks(&["R-MAN-7"], carried),
        breaks(&["R-MAN-2"], names),
        breaks(&["R-LIM-60"], many),
        breaks(&["R-MAN-6"], plain),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A sound manifest over segments that are none: what a site that holds the base finds. Without the
/// base nobody decodes them, so these are parts.
fn streams() -> Vec<Vector> {
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
    let edited = |change: fn(&mut Manifest)| {
        let mut draft = sound();
        change(&mut draft.manifest);
        draft
    };
    let at_a_site = |draft: Draft| {
        let archive = draft.archive();
        move || prove_at(&archive, &Site(vec![former()]), &mut Keep::default())
    };
    let segments = vec![
        part!("delta that is garbage", Delta, "", at_a_site(with(|f| f[0] = b"no zstd frame".to_vec()))),
        part!("segment's frame without its end", Delta, "", at_a_site(with(|f| assert!(f[1].pop().is_some())))),
        part!("byte behind a segment's frame", Delta, "", at_a_site(with(|f| f[0].push(0)))),
        part!("two frames in one segment", Delta, "", {
            at_a_site(with(|f| f[0].extend(encode_segment(&[], b"x", 1).unwrap())))
        }),
        part!("segments that lie about their sizes", Delta, "", at_a_site(rewritten(&frames(), [39_999, 20_001]))),
        part!("segments swapped", Delta, "", at_a_site(with(|f| f.swap(0, 1)))),
        part!("bomb in a segment", Delta, "more than its coded bytes", {
            at_a_site(with(|f| f[0] = zstd::encode_all(&vec![0; 64 << 20][..], 3).unwrap()))
        }),
        part!("range past the real end of the base", Delta, "ends before the signed range", {
            at_a_site(edited(|m| {
                delta_of(m).coded += 1;
                delta_of(m).segments[1].len += 1;
            }))
        }),
        part!("base that is no gzip", Coding, "", at_a_site(edited(|m| delta_of(m).coding = TOKENS.into()))),
    ];
    let windows =
        vec![part!("window over the segment's limit", Delta, "", at_a_site(with(|frames| frames[0] = wide())))];
    let codings = vec![
        part!("delta of an unknown coding", UnknownCoding, "morse", {
            at_a_site(edited(|m| m.packs[0].blobs[0].coding = "morse".into()))
        }),
        part!("base of an unknown coding", UnknownCoding, "morse", {
            at_a_site(edited(|m| delta_of(m).coding = "morse".into()))
        }),
    ];
    // A base that is not what it was gives another blob, which never gets its name.
    let rotten = vec![part!("base that rotted at the site", BlobDigest, "sha256", || {
        let mut bytes = former();
        bytes[10] ^= 1;
        prove_at(&sound().archive(), &Rotten(bytes), &mut Keep::default())
    })];
    [
        breaks(&["R-PACK-11"], segments),
        breaks(&["R-PACK-11", "R-LIM-61"], windows),
        breaks(&["R-PACK-7"], codings),
        breaks(&["R-PACK-4"], rotten),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [pieces(), base_sets(), streams()].into_iter().flatten().collect()
}

/// A zstd frame that asks for a window of 2^27 (RFC 8878, 3.1.1.1.2), with one raw block.
fn wide() -> Vec<u8> {
    let block = (4u32 << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3], &block[..3], b"TEST"].concat()
}

/// A store whose every blob is these bytes.
struct Rotten(Vec<u8>);
impl BaseBlobs for Rotten {
    fn open(&self, _: &Sha256) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(&self.0[..]))
    }
}
