//! Measures the proof of a bundle's head: a chain of ten trust roots, two of three signers with both
//! algorithms, each root replacing one of them, and a manifest of a hundred and of a thousand blobs.
//!
//! One run is what `installer verify` does before the first frame: read the head, prove the chain from
//! the trusted root, prove the manifest's signatures, parse and check it. Used by `benches/proof.sh`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement")]

use std::time::{Duration, Instant};

use bundle_format::archive::ArchiveWriter;
use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{Blob, Manifest, pack_name};
use bundle_format::pack::{Encoding, PackWriter};
use bundle_format::root::{Holder, RootEnvelope, TrustRoot, TrustedRoot};
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;

const ROOTS: u64 = 10;
/// A small platform, and one of several gigabytes.
const BLOBS: [u32; 2] = [100, 1000];

fn signer(number: u64) -> Signer {
    let seed = [u8::try_from(number).unwrap(); 32];
    Signer::from_seeds(&format!("test-{number}"), &seed, &seed).unwrap()
}

/// Version n is held by the signers n, n+1 and n+2 and signed by n and n+1, who hold the version
/// before as well but for one.
fn chain() -> Vec<RootEnvelope> {
    let time = |text| Timestamp::parse(text).unwrap();
    (1..=ROOTS)
        .map(|version| {
            let holders: Vec<Holder> = (version..version + 3).map(|number| signer(number).public().holder()).collect();
            let (issued, expires) = (time("2026-01-01T00:00:00Z"), time("2036-01-01T00:00:00Z"));
            let mut root = RootEnvelope::unsigned(TrustRoot::new(version, issued, expires, 2, &holders).unwrap());
            for number in [version, version + 1] {
                signer(number).sign_root(&mut root).unwrap();
            }
            root
        })
        .collect()
}

/// A bundle whose files are in one pack.
fn bundle(roots: Vec<RootEnvelope>, blobs: u32) -> Vec<u8> {
    let mut writer = PackWriter::new(Vec::new(), Encoding::Raw).unwrap();
    let mut files = Vec::new();
    for number in 0..blobs {
        let content = format!("TEST blob {number}");
        let blob = Blob { digest: Sha256::of(content.as_bytes()), size: content.len() as u64 };
        files.push(serde_json::json!({"path": format!("files/{number}"), "digest": blob.digest.to_string()}));
        writer.blob(blob, &mut content.as_bytes()).unwrap();
    }
    let (pack, stored) = writer.finish(0).unwrap();
    let text = serde_json::json!({
        "format": bundle_format::manifest::FORMAT, "product": "test", "release": "1.0", "sequence": 1,
        "marking": "UNCLASSIFIED", "platform": "linux/amd64", "title": "TEST", "created": "2026-01-01T00:00:00Z",
        "expires": null, "requires": {"memory_mib": 1, "disk_mib": 1}, "lifecycle": {},
        "network": {"name": "test", "internal": true}, "images": [], "secrets": [], "workloads": [],
        "files": files, "runtime": [], "attachments": [], "bases": [], "packs": [pack],
    });
    let manifest: Manifest = serde_json::from_value(text).unwrap();
    let mut envelope = UnverifiedEnvelope::new(manifest.to_bytes().unwrap(), Vec::new(), roots);
    for number in [ROOTS, ROOTS + 1] {
        signer(number).sign_manifest(&mut envelope).unwrap();
    }
    let mut archive = ArchiveWriter::new(Vec::new());
    for (name, bytes) in envelope.members().unwrap() {
        archive.member(&name, bytes.len() as u64, &mut &bytes[..]).unwrap();
    }
    archive.member(&pack_name(0), stored.len() as u64, &mut &stored[..]).unwrap();
    archive.finish().unwrap()
}

fn measure(what: &str, archive: &[u8], trusted: &TrustedRoot, runs: usize) {
    let mut reads = Vec::new();
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            let (head, _) = UnverifiedEnvelope::read(archive).unwrap();
            reads.push(start.elapsed());
            let proved = head.verify(trusted, AlgorithmPolicy::Hybrid).unwrap();
            let took = start.elapsed();
            assert_eq!(proved.signers().len(), 4);
            took
        })
        .collect();
    times.sort();
    reads.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() * 9 / 10]);
    let read = millis(reads[reads.len() / 2]);
    println!(
        "{what}: median {:.2} ms (of it {read:.2} to read the head), least {:.2}, 90% under {:.2} ({runs} runs)",
        millis(median),
        millis(least),
        millis(most)
    );
}

fn main() {
    let runs = std::env::args().nth(1).map_or(200, |text| text.parse().unwrap());
    let roots = chain();
    let first = TrustedRoot::anchor(&roots[0], &roots[0].claimed().fingerprint()).unwrap();
    let last = roots[1..].iter().fold(first.clone(), |trusted, next| trusted.advance(next).unwrap());
    for blobs in BLOBS {
        let archive = bundle(roots.clone(), blobs);
        measure(&format!("{blobs} blobs, from trust root version 1"), &archive, &first, runs);
        measure(&format!("{blobs} blobs, from trust root version 10"), &archive, &last, runs);
    }
}
