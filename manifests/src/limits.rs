//! Every limit on input from across the gap, in one file. Each is checked before the length that
//! it bounds is allocated or looped over, and each has a test (spec 9).

/// Bytes in the signed manifest (spec 9, R-LIM-1).
pub const MANIFEST_BYTES: u64 = 16 << 20;
/// Bytes in one signature member (R-LIM-2).
pub const SIGNATURE_BYTES: u64 = 64 << 10;
/// Signature members in one archive (R-LIM-3).
pub const SIGNATURES: usize = 64;
/// Bytes in one trust root envelope (R-LIM-4).
pub const ROOT_BYTES: u64 = 1 << 20;
/// Trust roots in one chain (R-LIM-5; TUF 1.0.34, 5.3.3 asks for such a bound).
pub const ROOTS: usize = 1024;
/// Keys in one trust root (R-LIM-6).
pub const KEYS: usize = 256;
/// Stored bytes of one frame (R-LIM-7).
pub const FRAME_BYTES: u64 = 8 << 20;
/// Stored bytes of one pack: what eleven octal digits of a ustar header can say (R-LIM-8).
pub const PACK_BYTES: u64 = (8 << 30) - 1;
/// Packs in one archive (R-LIM-9).
pub const PACKS: usize = 10_000;
/// Blobs in one archive (R-LIM-10).
pub const BLOBS: usize = 100_000;
/// Bytes of a name inside a manifest (R-LIM-11).
pub const NAME_BYTES: usize = 240;
/// Components of a path (R-LIM-12).
pub const NAME_COMPONENTS: usize = 32;
/// Nesting of a signed JSON document (R-LIM-13).
pub const JSON_DEPTH: usize = 32;
/// log2 of the zstd window that a reader accepts (R-LIM-14): 128 MiB, half of what an installer may
/// take for a bundle.
pub const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes in a YAML file that a person wrote (R-LIM-15).
pub const YAML_BYTES: u64 = 4 << 20;
/// Bytes in an OCI image manifest, index or config (R-LIM-16; the OCI distribution specification
/// asks registries for 4 MiB).
pub const OCI_DOCUMENT_BYTES: u64 = 4 << 20;
/// Frames in one archive (R-LIM-17).
pub const FRAMES: usize = 200_000;
/// Bytes in the list of a set's files (R-LIM-18).
pub const SET_LIST_BYTES: u64 = 4 << 20;
/// Volumes in one set, data and parity together (R-LIM-30).
pub const VOLUMES: u16 = 2048;
/// Cells in one volume (R-LIM-31).
pub const CELLS: u64 = 1 << 24;
/// Bytes of an archive before its first pack: what is held in memory before anything is proved (R-LIM-32).
pub const PROLOGUE_BYTES: u64 = 24 << 20;
/// Bytes of an archive that crosses in volumes or over the link (R-LIM-33): 16 TiB.
pub const ARCHIVE_BYTES: u64 = 16 << 40;
/// Original shards of one block on the one-way link (R-LIM-34).
pub const BLOCK_SHARDS: u16 = 4096;
/// Blocks of one transfer over the link (R-LIM-35).
pub const BLOCKS: u64 = u32::MAX as u64;
/// Bytes in a custody chain (R-LIM-19).
pub const CUSTODY_BYTES: u64 = 16 << 20;
/// Records in a custody chain (R-LIM-20).
pub const CUSTODY_RECORDS: usize = 256;
/// Media in one custody record (R-LIM-21).
pub const CUSTODY_MEDIA: usize = 1000;
/// Seconds that a release may take to become healthy (R-LIM-36).
pub const DEADLINE_SECONDS: u64 = 86_400;
/// Seconds that a release may be watched before it is committed (R-LIM-37).
pub const STABLE_SECONDS: u64 = 3600;
/// Checks, volumes with data, or migrations of one release (R-LIM-38).
pub const LIFECYCLE_ENTRIES: u64 = 100;
/// Bytes of an SBOM (R-LIM-70).
pub const SBOM_BYTES: u64 = 64 << 20;
/// Packages in an SBOM that the builder makes (R-LIM-71).
pub const SBOM_PACKAGES: usize = 200_000;
/// Bytes of a provenance statement in its envelope (R-LIM-72).
pub const PROVENANCE_BYTES: u64 = 16 << 20;
/// Decoded bytes of a layer that the builder looks into (R-LIM-73).
pub const LAYER_BYTES: u64 = 64 << 30;
/// Entries of such a layer (R-LIM-74).
pub const LAYER_ENTRIES: u64 = 4_000_000;
/// Bytes of one package database in an image (R-LIM-75).
pub const PACKAGE_DATABASE_BYTES: u64 = 256 << 20;
/// Bytes of all package databases of an image (R-LIM-76).
pub const PACKAGE_DATABASES_BYTES: u64 = 512 << 20;
/// Bytes that describe one entry of a layer or a docker archive beside its headers of 512 bytes: long
/// names, extended headers, lists of sparse pieces (R-LIM-77).
pub const TAR_HEAD_BYTES: u64 = 1 << 20;
/// Bytes of one package in an rpm database (R-LIM-78).
pub const RPM_HEADER_BYTES: u64 = 64 << 20;
/// Bytes of a publisher's signed payload, and of the file with its key (R-LIM-80).
pub const UPSTREAM_PAYLOAD_BYTES: u64 = 64 << 10;
/// Bytes of a sigstore bundle, and so of what is in it (R-LIM-81).
pub const SIGSTORE_BUNDLE_BYTES: u64 = 4 << 20;
/// Bytes of a sigstore trusted root (R-LIM-82).
pub const TRUSTED_ROOT_BYTES: u64 = 1 << 20;
/// Bytes of the body of an entry of a transparency log (R-LIM-83).
pub const LOG_ENTRY_BYTES: u64 = 1 << 20;
/// Artifacts about one image that are looked at (R-LIM-84).
pub const REFERRERS: usize = 100;
/// Signatures of one image that are looked at (R-LIM-85).
pub const UPSTREAM_SIGNATURES: usize = 200;
/// Bytes of one word of a command that runs in a container (R-LIM-39).
pub const COMMAND_WORD_BYTES: usize = 4096;
/// Resets of sequences in one trust root (R-LIM-50).
pub const SEQUENCE_RESETS: usize = 100;
/// Highest sequence and security epoch (R-LIM-51): what the record of a site holds, a signed 64-bit
/// number.
pub const SEQUENCE: u64 = i64::MAX as u64;
/// Seconds between an approval and its use, either way (R-LIM-52).
pub const APPROVAL_SECONDS: u64 = 86_400;
/// Bytes of an approval, and of a plan that is approved (R-LIM-53).
pub const APPROVAL_BYTES: u64 = 64 << 10;
/// Bytes in one segment of deflate tokens from which the encoder ends it behind a block (R-LIM-40).
pub const TOKEN_SEGMENT: usize = 14 << 20;
/// Bytes in one segment of deflate tokens at most, its streams' sizes not counted (R-LIM-41).
pub const TOKEN_SEGMENT_MOST: usize = 16 << 20;
/// Base sets of one bundle (R-LIM-60).
pub const BASE_SETS: usize = 16;
/// Coded bytes of one segment of a delta (R-LIM-61): its decoder's window.
pub const SEGMENT_BYTES: u64 = 1 << 26;
/// Bytes of the range of its base that a segment uses (R-LIM-62).
pub const PREFIX_BYTES: u64 = 1 << 27;
/// Segments of all deltas of one bundle (R-LIM-63).
pub const SEGMENTS: usize = 100_000;
/// Stored bytes of one segment (R-LIM-64): what zstd makes of [`SEGMENT_BYTES`] that do not shrink.
pub const SEGMENT_STORED: u64 = SEGMENT_BYTES + (1 << 20);
/// Bytes of a site's inventory (R-LIM-65).
pub const INVENTORY_BYTES: u64 = 24 << 20;
