//! Packs written and unpacked again, for any blobs, coding, codec, base and number of threads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::Result;
use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{BaseSet, Blob, Delta, PackedBlob, PlainFile, Segment};
use bundle_format::pack::{
    BaseBlobs, BlobSink, Encoding, Held, PLAIN, PackWriter, TOKENS, Want, encode_segment, unpack,
};
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::tokens::TokenEncoder;
use proptest::prelude::*;
use system_tests::Draft;
use system_tests::stock::through;

/// Keeps every blob.
#[derive(Default)]
struct Keep {
    blobs: Vec<Vec<u8>>,
    ended: usize,
}

impl BlobSink for Keep {
    fn begin(&mut self, _: &Blob) -> Result<Want> {
        assert_eq!(self.ended, self.blobs.len(), "a blob begins before the one before it ended");
        self.blobs.push(Vec::new());
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.blobs.last_mut().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.ended += 1;
        Ok(())
    }
}

/// Bytes of a seed: runs of noise and of one letter, so that both kinds of zstd block occur.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let noise = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    noise.enumerate().map(|(at, byte)| if (at >> 12) & 1 == 0 { byte } else { b'T' }).take(len).collect()
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Raw), (1..=6).prop_map(|level| Encoding::Zstd { level })]
}

/// Sizes about the frame's, the decoder's buffer's and none.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..3000usize,
        2 => 250_000..270_000usize,
        1 => (4 << 20) - 2..(4 << 20) + 3usize,
        1 => Just(0usize),
    ]
}

/// A bundle of packs of blobs, without two of the same content.
fn draft(packs: &[(Encoding, Vec<usize>)], seed: u64) -> (Draft, Vec<Vec<u8>>) {
    let (mut draft, mut all) = (Draft::empty(), Vec::<Vec<u8>>::new());
    for (encoding, sizes) in packs {
        let mut blobs = Vec::new();
        for size in sizes {
            let blob = content(seed.wrapping_add(all.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), *size);
            if !all.contains(&blob) {
                all.push(blob.clone());
                blobs.push(blob);
            }
        }
        draft.add_files(*encoding, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
    (draft, all)
}

/// A blob's coded stream; gzip for tokens.
fn coded(coding: &str, blob: &[u8]) -> Vec<u8> {
    if coding == PLAIN {
        return blob.to_vec();
    }
    let (mut out, mut encoder) = (Vec::new(), TokenEncoder::new());
    encoder.push(blob, &mut out).unwrap();
    encoder.finish(&mut out).unwrap();
    out
}

/// Bytes as a blob of this coding has them.
fn blob(coding: &str, content: Vec<u8>) -> Vec<u8> {
    if coding == PLAIN { content } else { through(&["gzip", "-n6"], &content) }
}

fn coding() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(PLAIN), Just(TOKENS)]
}

/// A change of some content: where (of 65536), how many bytes go, how many of a seed come.
fn edits() -> impl Strategy<Value = Vec<(u16, usize, u64, usize)>> {
    prop::collection::vec((any::<u16>(), 0..5000usize, any::<u64>(), 0..5000usize), 0..6)
}

fn edited(mut content: Vec<u8>, edits: &[(u16, usize, u64, usize)]) -> Vec<u8> {
    for (at, gone, seed, come) in edits {
        let at = (content.len() * usize::from(*at)) >> 16;
        let end = (at + gone).min(content.len());
        content.splice(at..end, self::content(*seed, *come));
    }
    // Never the same blob: a site that holds it is not sent it.
    content.extend_from_slice(b"later");
    content
}

/// A segment as it was drawn: where it ends, where its range begins and ends (of 65536).
type Drawn = (u16, u16, u16);

/// Legal segments of a stream: each has bytes, ranges only move forward and end within the base.
fn segments(drawn: &[Drawn], stream: usize, base: usize) -> Vec<(usize, usize, usize)> {
    let place = |of: usize, at: u16| of * usize::from(at) / 65535;
    let mut ends: Vec<usize> = drawn.iter().map(|(end, ..)| place(stream, *end)).chain([stream]).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.retain(|end| *end > 0);
    let range = |(_, a, b): &Drawn| (place(base, *a.min(b)), place(base, *a.max(b)));
    let (mut froms, mut tos): (Vec<usize>, Vec<usize>) = drawn.iter().map(range).chain([(0, base)]).unzip();
    froms.sort_unstable();
    tos.sort_unstable();
    ends.into_iter().zip(froms).zip(tos).map(|((end, from), to)| (end, from, to)).collect()
}

/// What the site holds.
struct Store(Vec<u8>);

impl BaseBlobs for Store {
    fn open(&self, digest: &Sha256) -> Result<Box<dyn std::io::Read + '_>> {
        assert_eq!(*digest, Sha256::of(&self.0), "another blob is opened than the base");
        Ok(Box::new(&self.0[..]))
    }
}

fn named(bytes: &[u8]) -> Blob {
    Blob { digest: Sha256::of(bytes), size: bytes.len() as u64 }
}

/// An update that carries `new` as a difference to `base`, cut as drawn.
fn update(new: (&str, &[u8]), base: (&str, &[u8]), drawn: &[Drawn], level: i32) -> Draft {
    let (stream, prefix) = (coded(new.0, new.1), coded(base.0, base.1));
    let (mut stored, mut pieces, mut at) = (Vec::new(), Vec::new(), 0);
    for (end, from, to) in segments(drawn, stream.len(), prefix.len()) {
        let frame = encode_segment(&prefix[from..to], &stream[at..end], level).unwrap();
        let [bytes, count, from, len] = [frame.len(), end - at, from, to - from].map(|number| number as u64);
        pieces.push(Segment { stored: bytes, coded: count, from, len });
        stored.extend(frame);
        at = end;
    }
    let delta = Delta { base: Sha256::of(base.1), coding: base.0.into(), coded: prefix.len() as u64, segments: pieces };
    let Blob { digest, size } = named(new.1);
    let packed = PackedBlob { digest, size, coding: new.0.into(), coded: stream.len() as u64, delta: Some(delta) };
    let mut draft = Draft::empty();
    let mut writer = PackWriter::new(Vec::new(), Encoding::Delta).unwrap();
    writer.coded(packed, &mut &stored[..]).unwrap();
    let (pack, stored) = writer.finish(0).unwrap();
    draft.manifest.packs.push(pack);
    draft.packs.push(stored);
    draft.manifest.files.push(PlainFile { path: "blob".into(), digest });
    let (release, sequence, blobs) = ("0.9".into(), 6, vec![named(base.1)]);
    draft.manifest.bases.push(BaseSet { release, sequence, manifest_sha384: None, blobs });
    draft
}

fn unpacked(draft: &Draft, held: Held<'_>, threads: usize) -> Result<Vec<Vec<u8>>> {
    let archive = draft.archive();
    let (envelope, mut packs) = UnverifiedEnvelope::read(&archive[..])?;
    let manifest = envelope.verify(&draft.trusted(), AlgorithmPolicy::Hybrid)?;
    let mut sink = Keep::default();
    unpack(&mut packs, &manifest, held, &mut sink, threads, &mut |_| ())?;
    assert_eq!(sink.ended, sink.blobs.len());
    Ok(sink.blobs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn differences_give_the_blob_back(
        (of_new, of_base) in (coding(), coding()),
        (seed, len, edits) in (any::<u64>(), 1..120_000usize, edits()),
        drawn in prop::collection::vec(any::<Drawn>(), 0..5),
        level in 1..=6,
        threads in 1..3usize,
    ) {
        let former = content(seed, len);
        let new = blob(of_new, edited(former.clone(), &edits));
        let base = blob(of_base, former);
        prop_assume!(new != base);
        let draft = update((of_new, &new), (of_base, &base), &drawn, level);
        let store = Store(base);
        let found = unpacked(&draft, Held::Set { set: 0, blobs: &store }, threads).unwrap();
        prop_assert!(found == [new]);
        // Whoever holds nothing proves the frames and gets nothing out of them.
        prop_assert_eq!(unpacked(&draft, Held::Nothing, threads).unwrap().len(), 0);
    }

    #[test]
    fn tokens_come_back_from_any_pack(
        all in prop::collection::vec((coding(), size(), any::<u64>()), 1..5),
        encoding in encoding(),
        threads in 1..3usize,
    ) {
        let mut blobs: Vec<(&str, Vec<u8>)> = Vec::new();
        for (coding, size, seed) in all {
            let made = blob(coding, content(seed, size));
            if !blobs.iter().any(|(_, other)| *other == made) {
                blobs.push((coding, made));
            }
        }
        let mut draft = Draft::empty();
        let mut writer = PackWriter::new(Vec::new(), encoding).unwrap();
        for (index, (coding, made)) in blobs.iter().enumerate() {
            let (stream, Blob { digest, size }) = (coded(coding, made), named(made));
            let packed =
                PackedBlob { digest, size, coding: (*coding).into(), coded: stream.len() as u64, delta: None };
            writer.coded(packed, &mut &stream[..]).unwrap();
            draft.manifest.files.push(PlainFile { path: format!("blob/{index}"), digest });
        }
        let (pack, stored) = writer.finish(0).unwrap();
        draft.manifest.packs.push(pack);
        draft.packs.push(stored);
        let found = unpacked(&draft, Held::Nothing, threads).unwrap();
        prop_assert!(found.iter().eq(blobs.iter().map(|(_, made)| made)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(
        packs in prop::collection::vec((encoding(), prop::collection::vec(size(), 0..5)), 0..4),
        seed: u64,
        threads in 0..5usize,
    ) {
        let (written, blobs) = draft(&packs, seed);
        let (again, _) = draft(&packs, seed);
        prop_assert_eq!(&written.packs, &again.packs);
        prop_assert_eq!(written.text(), again.text());
        let archive = written.archive();
        let (head, mut packs) = UnverifiedEnvelope::read(&archive[..]).unwrap();
        let manifest = head.verify(&written.trusted(), AlgorithmPolicy::Hybrid).unwrap();
        let (mut sink, mut stored) = (Keep::default(), 0);
        unpack(&mut packs, &manifest, Held::Nothing, &mut sink, threads, &mut |bytes| stored += bytes).unwrap();
        prop_assert_eq!(sink.ended, blobs.len());
        prop_assert!(sink.blobs == blobs);
        prop_assert_eq!(stored, manifest.manifest().stored_size());
    }
}

#[test]
fn a_sink_that_fails_ends_the_work() {
    /// Fails at its second blob.
    struct Full(usize);
    impl BlobSink for Full {
        fn begin(&mut self, _: &Blob) -> Result<Want> {
            self.0 += 1;
            Ok(Want::Keep)
        }
        fn write(&mut self, _: &[u8]) -> Result<()> {
            let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
            if self.0 < 2 { Ok(()) } else { Err(bundle_format::Error::io("the store", full())) }
        }
        fn end(&mut self) -> Result<()> {
            Ok(())
        }
    }
    // More frames than the queues hold, so that the reader is stopped in the middle.
    let blobs: Vec<Vec<u8>> = (0..10).map(|seed| content(2 * seed + 1, 5 << 20)).collect();
    let mut draft = Draft::empty();
    draft.add_files(Encoding::Raw, &blobs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let archive = draft.archive();
    for threads in [1, 3] {
        let (head, mut packs) = UnverifiedEnvelope::read(&archive[..]).unwrap();
        let manifest = head.verify(&draft.trusted(), AlgorithmPolicy::Hybrid).unwrap();
        let mut sink = Full(0);
        let error = unpack(&mut packs, &manifest, Held::Nothing, &mut sink, threads, &mut |_| {}).unwrap_err();
        assert!(matches!(error.kind(), bundle_format::ErrorKind::Io { .. }), "{error}");
        assert_eq!(sink.0, 2);
    }
}

#[test]
fn the_writer_refuses_a_source_that_changed() {
    use bundle_format::ErrorKind;
    use bundle_format::pack::PackWriter;
    let blob = |content: &[u8]| Blob { digest: Sha256::of(content), size: content.len() as u64 };
    let write = |promised: &[u8], found: &[u8]| {
        PackWriter::new(Vec::new(), Encoding::Raw).unwrap().blob(blob(promised), &mut &found[..]).unwrap_err()
    };
    assert!(matches!(write(b"abc", b"abcd").kind(), ErrorKind::TooLarge { .. }));
    assert!(matches!(write(b"abc", b"ab").kind(), ErrorKind::Truncated { .. }));
    assert!(matches!(write(b"abc", b"abd").kind(), ErrorKind::BlobDigest { .. }));
}
