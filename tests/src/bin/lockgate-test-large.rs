//! Writes a signed bundle of any size that costs no disk: its blobs are zeros, which the file system
//! keeps as holes. For showing that memory does not grow with the bundle.
//!
//! `lockgate-test-large GIB BUNDLE ROOT`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's own program"
)]

use std::os::unix::fs::FileExt as _;

use bundle_format::archive::ArchiveWriter;
use bundle_format::digest::Sha256Hasher;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{Blob, Frame, Pack, PackedBlob, PlainFile, pack_name};
use system_tests::Draft;

/// Bytes of the largest blob; each further one is a frame shorter, so that no two are the same.
const BLOB: u64 = 7 << 30;
const FRAME: u64 = 4 << 20;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let gib: u64 = args[1].parse().unwrap();
    let count = (gib << 30).div_ceil(BLOB);
    // Every blob is a prefix of the same zeros: one run of hashing gives all digests.
    let mut sizes: Vec<u64> = (0..count).map(|index| BLOB - index * FRAME).collect();
    sizes.reverse();
    let zeros = vec![0; usize::try_from(FRAME).unwrap()];
    let frame = Frame::of(&zeros);
    let (mut running, mut hashed) = (Sha256Hasher::default(), 0);
    let mut draft = Draft::empty();
    for (index, size) in sizes.into_iter().enumerate() {
        while hashed < size {
            running.update(&zeros);
            hashed += FRAME;
        }
        let digest = running.clone().finish();
        let frames = vec![frame; usize::try_from(size / FRAME).unwrap()];
        let blobs = vec![PackedBlob::plain(Blob { digest, size })];
        draft.manifest.packs.push(Pack {
            name: pack_name(index),
            codec: "raw".into(),
            bases: Vec::new(),
            frames,
            blobs,
        });
        draft.manifest.files.push(PlainFile { path: format!("zeros/{index}"), digest });
    }
    let text = draft.text().into_bytes();
    let envelope = UnverifiedEnvelope::new(text.clone(), draft.signatures(&text), draft.roots.clone());
    let mut prologue = ArchiveWriter::new(Vec::new());
    for (name, bytes) in envelope.members().unwrap() {
        prologue.member(&name, bytes.len() as u64, &mut &bytes[..]).unwrap();
    }
    let prologue = prologue.into_inner();
    let packs_at = prologue.len() as u64;
    let file = std::fs::File::create(&args[2]).unwrap();
    file.set_len(draft.manifest.frame_places(packs_at).1).unwrap();
    file.write_all_at(&prologue, 0).unwrap();
    for (at, bytes) in draft.manifest.filler(packs_at).unwrap() {
        file.write_all_at(&bytes, at).unwrap();
    }
    std::fs::write(&args[3], draft.roots[0].to_bytes().unwrap()).unwrap();
}
