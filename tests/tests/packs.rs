//! Packs written and unpacked again, for any blobs, codec and number of threads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use bundle_format::Result;
use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::Blob;
use bundle_format::pack::{BlobSink, Encoding, Held, Want, unpack};
use bundle_format::signature::AlgorithmPolicy;
use proptest::prelude::*;
use system_tests::Draft;

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
