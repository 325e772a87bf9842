//! OCI layouts of images whose layers a test makes: any compression, any content.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha256;
use bundle_format::oci;

use crate::site::Site;
use crate::stock::through;

/// A layer: its stored bytes, what they are called, and the digest of the tar within.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Media type.
    pub media_type: &'static str,
    /// What a registry stores.
    pub stored: Vec<u8>,
    diff: Sha256,
}

/// A tar of files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let members = files.iter().flat_map(|(name, content)| crate::ustar::plain(name, content));
    members.chain(crate::ustar::END).collect()
}

/// Bytes of a seed that no compressor makes smaller.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; len.next_multiple_of(8)];
    for chunk in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Lines of a seed, as of a log: what compresses well.
pub fn lines(seed: u64, count: u64) -> Vec<u8> {
    let line =
        |n: u64| format!("TEST {} line {} of {seed}\n", n.wrapping_mul(7919).wrapping_add(seed * 31) % 100_003, n);
    (0..count).flat_map(|n| line(n).into_bytes()).collect()
}

/// A gzip file of bytes below 144, made at the speed of memory: blocks of the fixed code without a match,
/// in which each byte is a word of eight bits.
pub fn quick_gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let (mut bits, mut held) = (0u64, 0);
    let blocks = bytes.chunks(100_000);
    let last = blocks.len() - 1;
    for (number, block) in blocks.enumerate() {
        bits |= (2 | u64::from(number == last)) << held;
        held += 3;
        for byte in block {
            assert!(*byte < 144, "{byte} has a longer word");
            bits |= u64::from((0x30 + byte).reverse_bits()) << held;
            out.push(bits.to_le_bytes()[0]);
            bits >>= 8;
        }
        // The end of the block: seven zeros.
        held += 7;
        while held >= 8 {
            out.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        out.push(bits.to_le_bytes()[0]);
    }
    out.extend(crc32fast::hash(bytes).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out
}

impl Layer {
    /// An uncompressed tar.
    pub fn plain(tar: &[u8]) -> Self {
        Self { media_type: oci::OCI_LAYER_TAR, stored: tar.to_vec(), diff: Sha256::of(tar) }
    }

    /// gzip as zlib writes it.
    pub fn gzip(tar: &[u8]) -> Self {
        Self::of("application/vnd.oci.image.layer.v1.tar+gzip", through(&["gzip", "-n6"], tar), tar)
    }

    /// zstd.
    pub fn zstd(tar: &[u8]) -> Self {
        Self::of("application/vnd.oci.image.layer.v1.tar+zstd", zstd::bulk::compress(tar, 3).unwrap(), tar)
    }

    /// Any stored bytes of a tar.
    pub fn of(media_type: &'static str, stored: Vec<u8>, tar: &[u8]) -> Self {
        Self { media_type, stored, diff: Sha256::of(tar) }
    }

    /// Its digest.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.stored)
    }
}

/// A skippable frame (RFC 8878, 3.1.2).
pub fn skippable(content: &[u8]) -> Vec<u8> {
    [&[0x50, 0x2a, 0x4d, 0x18][..], &u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat()
}

/// Writes the layout `folder` of images, by the names that a source `oci:FOLDER:NAME` asks for.
pub fn write(folder: &Path, images: &[(&str, &[Layer])]) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    };
    let entry = |(name, layers): &(&str, &[Layer])| {
        let diffs: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", layer.diff)).collect();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diffs.join(",")
        );
        let stored =
            layers.iter().map(|layer| format!(r#"{{"mediaType":"{}",{}}}"#, layer.media_type, blob(&layer.stored)));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}",{}}},"layers":[{}]}}"#,
            oci::OCI_MANIFEST,
            oci::OCI_CONFIG,
            blob(config.as_bytes()),
            stored.collect::<Vec<_>>().join(",")
        );
        let annotations = format!(r#""annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
        format!(r#"{{"mediaType":"{}",{},{annotations}}}"#, oci::OCI_MANIFEST, blob(manifest.as_bytes()))
    };
    let entries: Vec<String> = images.iter().map(entry).collect();
    fs::write(folder.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")))
        .unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Writes a release of these images alone, `release/vN.yaml`, with the layout `release/images-N` and its
/// lock; gives its path.
pub fn release(site: &Site, sequence: u64, images: &[(&str, &[Layer])], more: &str) -> String {
    write(&site.path(&format!("release/images-{sequence}")), images);
    let source = |(name, _): &(&str, &[Layer])| {
        format!("  - {{name: \"registry.example/test/{name}:1\", source: \"oci:images-{sequence}:{name}\"}}\n")
    };
    let text = format!(
        "format: lockgate-release/1\nproduct: test\nrelease: \"{sequence}.0\"\nsequence: {sequence}\nmarking: UNCLASSIFIED\n\
         platform: linux/amd64\ntitle: test release\nrequires: {{memory_mib: 16, disk_mib: 16}}\n\
         network: {{name: test, internal: true}}\nsecrets: []\nworkloads: []\nruntime: []\n{}images:\n{}",
        if more.is_empty() { "files: []\n" } else { more },
        images.iter().map(source).collect::<String>()
    );
    let path = format!("release/v{sequence}.yaml");
    fs::write(site.path(&path), text).unwrap();
    site.builder(&["pin", &path]).expect(0);
    path
}

/// Builds a release and signs it; what the builder says of it.
pub fn bundle(site: &Site, release: &str, bundle: &str, more: &[&str]) -> serde_json::Value {
    let args = [&["--json", "build", release, "--root", "root-1.json", "--out", bundle], more].concat();
    let said = site.builder(&args).expect(0);
    for signer in ["alice", "bob"] {
        let (key, pass) = (format!("keys/{signer}"), format!("keys/{signer}.pass"));
        site.builder(&["sign", bundle, "--key", &key, "--passphrase-file", &pass]).expect(0);
    }
    serde_json::from_str(&said.out).unwrap()
}

/// A layer as a store holds it.
pub fn held(store: &Path, layer: &Layer) -> PathBuf {
    store.join("blobs/sha256").join(layer.digest().hex())
}

/// What a build said of a blob: codec, coding, reason.
pub fn note(built: &serde_json::Value, digest: Sha256) -> (String, String, String) {
    let notes = built["blobs"].as_array().unwrap();
    let note = notes.iter().find(|note| note["digest"] == digest.to_string()).unwrap();
    let text = |field: &str| note[field].as_str().unwrap().to_owned();
    (text("codec"), text("coding"), text("why"))
}
