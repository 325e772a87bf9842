//! What a site needs to take in a layer of any size: the codec, and the real installer with a delta of
//! more than two segments.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs::File;
use std::path::Path;
use std::process::Command;

use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::limits::{PREFIX_BYTES, SEGMENT_BYTES};
use system_tests::layout::{self, Layer, lines, noise, quick_gzip, tar};
use system_tests::site::{Site, program};
use system_tests::stock::through;

const MIB: u64 = 1 << 20;

/// The largest resident set, in MiB, that a program had as `time` wrote it into a file.
fn peak(file: &Path) -> u64 {
    std::fs::read_to_string(file).unwrap().trim().parse::<u64>().unwrap() / 1024
}

/// Bytes below 128 that hardly shrink.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = noise(seed, len);
    for byte in &mut bytes {
        *byte &= 0x7f;
    }
    bytes
}

/// Runs one side of the codec on files in `folder`; MiB that it took.
fn codec(folder: &Path, side: &str, from: &str, to: &str) -> u64 {
    let status = Command::new("/usr/bin/time")
        .args(["-f", "%M", "-o", "peak"])
        .args([&program("lockgate-test-tokens").display().to_string(), side])
        .current_dir(folder)
        .stdin(File::open(folder.join(from)).unwrap())
        .stdout(File::create(folder.join(to)).unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "{side} {from}");
    peak(&folder.join("peak"))
}

#[test]
fn either_side_of_the_codec_takes_64_mib() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| folder.path().join(name);
    let run = |side: &str, from: &str, to: &str| codec(folder.path(), side, from, to);
    for (name, gzip, segments) in [
        // Literals alone, and what hardly anything but matches is left of: one token byte gives the most.
        ("literals", quick_gzip(&text(1, 45 << 20)), 3),
        ("matches", through(&["gzip", "-n1"], &lines(2, 4_000_000)), 2),
    ] {
        std::fs::write(path(name), &gzip).unwrap();
        let encoded = run("encode", name, "tokens");
        let tokens = std::fs::metadata(path("tokens")).unwrap().len();
        assert!(tokens > segments * (14 << 20), "{name}: {tokens} bytes of tokens are too few segments");
        let decoded = run("decode", "tokens", "again");
        assert!(std::fs::read(path("again")).unwrap() == gzip, "{name}: other bytes");
        assert!(encoded <= 64 && decoded <= 64, "{name}: {encoded} MiB to encode, {decoded} MiB to decode");
    }
}

/// Tokens that no encoder writes: a segment as large as one may be, of nothing but blocks without a symbol
/// whose heads are foretold. Three bytes of each give many.
fn most_gzip_for_few_tokens() -> Vec<u8> {
    const BLOCK: u8 = 0x4C;
    let mut control = vec![1, 10, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    while control.len() < (16 << 20) - 20 {
        control.extend([BLOCK, 0, 2]);
    }
    control.extend([BLOCK | 1, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut tokens = vec![2];
    let mut size = control.len();
    while size > 127 {
        tokens.push(u8::try_from(size & 127).unwrap() | 128);
        size >>= 7;
    }
    tokens.push(u8::try_from(size).unwrap());
    tokens.extend([0; 6]);
    tokens.extend(control);
    tokens
}

#[test]
fn no_segment_gives_so_much_that_the_decoder_takes_more() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::write(folder.path().join("tokens"), most_gzip_for_few_tokens()).unwrap();
    let taken = codec(folder.path(), "decode", "tokens", "gzip");
    let size = std::fs::metadata(folder.path().join("gzip")).unwrap().len();
    assert!(size > 60 << 20, "{size} bytes of gzip do not try it");
    assert!(taken <= 64, "{taken} MiB to decode");
}

#[test]
fn a_delta_of_a_large_layer_takes_512_mib() {
    let site = Site::bare(Path::new("/var/tmp"), 18213);
    site.trust();
    // Pieces whose order is turned round within groups, so that a segment needs nearly the longest range;
    // in each a byte is another, and there is more at the front.
    let piece = 6 << 20;
    let former = text(7, 27 * piece);
    let mut later = text(8, 100_000);
    for group in former.chunks(18 * piece) {
        for part in group.chunks(piece).rev() {
            later.extend_from_slice(part);
            let middle = later.len() - piece / 2;
            later[middle] ^= 1;
        }
    }
    let packed = |content: &[u8]| {
        let tar = tar(&[("data", content)]);
        Layer::of("application/vnd.oci.image.layer.v1.tar+gzip", quick_gzip(&tar), &tar)
    };
    let (former, later) = (packed(&former), packed(&later));
    for (sequence, name, layer, base) in
        [(1, "one.tar", &former, &[][..]), (2, "two.tar", &later, &["--base", "one.tar"])]
    {
        let release = layout::release(&site, sequence, &[("app", std::slice::from_ref(layer))], "");
        layout::bundle(&site, &release, name, &[&["--effort", "fast"], base].concat());
    }
    let (envelope, _) = UnverifiedEnvelope::read(File::open(site.path("two.tar")).unwrap()).unwrap();
    let manifest = bundle_format::manifest::parse(envelope.manifest_bytes()).unwrap();
    let blobs = manifest.packs.iter().flat_map(|pack| &pack.blobs);
    let delta = blobs.filter(|blob| blob.digest == later.digest()).find_map(|blob| blob.delta.as_ref()).unwrap();
    assert!(delta.segments.len() > 2 && delta.segments[0].coded == SEGMENT_BYTES, "{delta:?}");
    let longest = delta.segments.iter().map(|segment| segment.len).max().unwrap();
    assert!(longest > PREFIX_BYTES * 3 / 4, "{delta:?}");
    let sizes = ["one.tar", "two.tar"].map(|name| std::fs::metadata(site.path(name)).unwrap().len());
    // Not every piece is within reach.
    assert!(sizes[1] * 5 < sizes[0], "{sizes:?}");

    let measured = |args: &[&str]| {
        site.installer_under("/usr/bin/time", &["-f", "%M", "-o", "peak"], args).expect(0);
        peak(&site.path("peak"))
    };
    let full = measured(&["verify", "one.tar"]);
    site.installer(&["import", "one.tar", "--store", "high/state/store"]).expect(0);
    let verified = measured(&["verify", "two.tar"]);
    let imported = measured(&["import", "two.tar", "--store", "high/state/store"]);
    let held = std::fs::read(layout::held(&site.path("high/state/store"), &later)).unwrap();
    assert!(Sha256::of(&held) == later.digest() && held == later.stored, "other bytes");
    assert!(full <= 256 && verified <= 512 && imported <= 512, "{full}, {verified}, {imported} MiB");
    // What the measurement sees at all: the range and the segment are held.
    assert!(verified > longest / MIB, "{verified} MiB, and a range of {longest} bytes");
}
