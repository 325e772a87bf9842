//! The other side: sound bundles of unusual form are accepted.

use bundle_format::Result;
use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::Blob;
use bundle_format::pack::{BlobSink, Encoding, Held, Want, unpack};
use bundle_format::signature::AlgorithmPolicy;
use system_tests::{Draft, keys, prove, prove_with};

#[test]
fn two_of_three_and_three_of_three() {
    let mut draft = Draft::small();
    let trusted = draft.trusted();
    prove(&draft.archive(), &trusted).unwrap();
    draft.signers.push(keys::carol());
    prove(&draft.archive(), &trusted).unwrap();
    draft.signers.remove(0);
    prove(&draft.archive(), &trusted).unwrap();
}

#[test]
fn one_algorithm_where_the_site_asks_for_no_more() {
    let draft = Draft::small();
    let text = draft.text().into_bytes();
    for (policy, scheme) in [(AlgorithmPolicy::Cnsa2, "ml-dsa-87"), (AlgorithmPolicy::Ed25519, "ed25519")] {
        let mut signatures = draft.signatures(&text);
        signatures.retain(|signature| signature.scheme().name() == scheme);
        let archive = draft.sealed_with(text.clone(), signatures).archive();
        prove_with(&archive, &draft.trusted(), policy).unwrap();
    }
}

#[test]
fn empty_things() {
    let draft = Draft::empty();
    prove(&draft.archive(), &draft.trusted()).unwrap();
    for encoding in [Encoding::Raw, Encoding::Zstd { level: 1 }] {
        for blobs in [&[][..], &[&b""[..]], &[b"", b"a"], &[b"a", b""], &[b"a", b"", b"b"]] {
            let mut draft = Draft::empty();
            draft.add_files(encoding, blobs);
            prove(&draft.archive(), &draft.trusted()).unwrap();
        }
    }
}

/// Takes every second blob and passes over the others.
#[derive(Default)]
struct EverySecond {
    begun: usize,
    ended: usize,
    bytes: Vec<u8>,
}

impl BlobSink for EverySecond {
    fn begin(&mut self, _: &Blob) -> Result<Want> {
        self.begun += 1;
        Ok(if self.begun.is_multiple_of(2) { Want::Keep } else { Want::Skip })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.ended += 1;
        Ok(())
    }
}

#[test]
fn a_sink_may_skip_blobs() {
    let mut draft = Draft::empty();
    draft.add_files(Encoding::Zstd { level: 3 }, &[b"one", b"two"]);
    draft.add_files(Encoding::Raw, &[b"three", b"four"]);
    let archive = draft.archive();
    let (head, mut packs) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    let manifest = head.verify(&draft.trusted(), AlgorithmPolicy::Hybrid).unwrap();
    let mut sink = EverySecond::default();
    unpack(&mut packs, &manifest, Held::Nothing, &mut sink, 2, &mut |_| {}).unwrap();
    assert_eq!((sink.begun, sink.ended, sink.bytes.as_slice()), (4, 2, &b"twofour"[..]));
}

/// Hashes what it gets, blob by blob.
#[derive(Default)]
struct Hashes {
    current: Vec<u8>,
    done: Vec<Sha256>,
}

impl BlobSink for Hashes {
    fn begin(&mut self, _: &Blob) -> Result<Want> {
        self.current.clear();
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.current.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.done.push(Sha256::of(&self.current));
        Ok(())
    }
}

#[test]
fn a_blob_over_many_frames() {
    // 9 MiB that do not compress: three frames, whatever the codec.
    let mut state = 1u64;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(9 << 20)
    .collect();
    for encoding in [Encoding::Raw, Encoding::Zstd { level: 1 }] {
        let mut draft = Draft::empty();
        draft.add_files(encoding, &[b"before", &large, b"behind"]);
        assert_eq!(draft.manifest.packs[0].frames.len(), 3);
        let archive = draft.archive();
        let (head, mut packs) = UnverifiedEnvelope::read(&archive[..]).unwrap();
        let manifest = head.verify(&draft.trusted(), AlgorithmPolicy::Hybrid).unwrap();
        let (mut sink, mut seen) = (Hashes::default(), 0);
        unpack(&mut packs, &manifest, Held::Nothing, &mut sink, 2, &mut |bytes| seen += bytes).unwrap();
        assert_eq!(sink.done, [Sha256::of(b"before"), Sha256::of(&large), Sha256::of(b"behind")]);
        assert_eq!(seen, draft.packs[0].len() as u64);
    }
}
