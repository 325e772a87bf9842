//! Fuzz targets: each takes any bytes as one of the formats that cross the gap, and holds what the
//! specification promises of whatever is accepted (`docs/spec/bundle-format.md`).
//!
//! The fuzzer in `tests/fuzz` and the replay in `tests/tests/fuzz_corpus.rs` run these same functions.
//! None may panic, whatever comes; where the text says that a document has one form, what is accepted
//! is written again and must be the same bytes; what is proved must be a document that TEST keys signed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a panic here is a finding"
)]

use std::io::{Cursor, Read as _};
use std::sync::OnceLock;
use std::sync::mpsc::channel;

use bundle_format::appliance::AppliancePublic;
use bundle_format::approval::{PlanDocument, UnverifiedApproval};
use bundle_format::archive::{ArchiveReader, ArchiveWriter};
use bundle_format::custody::UnverifiedCustody;
use bundle_format::datagram::{DATAGRAM_BYTES, PLAN_BYTES, Plan, Tagger};
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::inventory::Inventory;
use bundle_format::key::{KeyId, PublicKey, Scheme};
use bundle_format::manifest::{BaseSet, Blob, Delta, Frame, Manifest, Pack, PackedBlob, PlainFile, Segment};
use bundle_format::marking::Marking;
use bundle_format::oci;
use bundle_format::pack::{
    BaseBlobs, BlobSink, DELTA, Held, NoSink, PLAIN, RAW, TOKENS, Want, ZSTD, dangerous_unpack_claim, unpack,
};
use bundle_format::provenance;
use bundle_format::receipt::Receipt;
use bundle_format::root::{RootEnvelope, TrustedRoot, apply_chain};
use bundle_format::set::SetList;
use bundle_format::signature::{AlgorithmPolicy, Signature};
use bundle_format::timestamp::Timestamp;
use bundle_format::tokens::{Inside, TokenDecoder, TokenEncoder};
use bundle_format::volume::{self, Head};
use bundle_format::workload::Workload;

/// A target's name, that of its corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 17] = [
    ("header", header),
    ("tar_walk", tar_walk),
    ("bundle", bundle),
    ("manifest", manifest),
    ("root_chain", root_chain),
    ("pack", pack),
    ("delta", delta),
    ("tokens_decode", tokens_decode),
    ("tokens_round", tokens_round),
    ("minisig", minisig),
    ("oci_index", oci_index),
    ("yaml", yaml),
    ("workload", workload),
    ("datagram", datagram),
    ("volume_head", volume_head),
    ("custody", custody),
    ("documents", documents),
];

/// The TEST root that every corpus is signed under: the public half of keys from fixed seeds.
pub const ANCHOR: &[u8] = include_bytes!("../anchor.json");
/// SHA-384 of every manifest and root that those keys signed, one a line.
pub const SIGNED: &str = include_str!("../signed.txt");

fn anchor() -> &'static TrustedRoot {
    static ANCHORED: OnceLock<TrustedRoot> = OnceLock::new();
    ANCHORED.get_or_init(|| {
        let envelope = RootEnvelope::parse(ANCHOR).unwrap();
        TrustedRoot::anchor(&envelope, &envelope.claimed().fingerprint()).unwrap()
    })
}

#[track_caller]
fn assert_signed(sha384: Sha384) {
    let found = sha384.to_string();
    assert!(SIGNED.lines().any(|line| line == found), "proved, and nobody signed it: {found}");
}

/// The bytes written again must be those that were read.
#[track_caller]
fn assert_same(what: &str, written: &[u8], read: &[u8]) {
    assert!(written == read, "{what}: accepted, and written again it differs");
}

/// One member header: what is accepted is the header that our writer makes.
pub fn header(data: &[u8]) {
    let Ok(Some(member)) = ArchiveReader::new(data).next_member() else { return };
    let mut again = Vec::new();
    // The content is missing here: the header is written all the same.
    drop(ArchiveWriter::new(&mut again).member(&member.name, member.size, &mut std::io::empty()));
    assert_same("header", &again[..512], &data[..512]);
}

/// A whole archive, member by member: what is accepted is what our writer makes of its members.
pub fn tar_walk(data: &[u8]) {
    let mut reader = ArchiveReader::new(data);
    let mut writer = ArchiveWriter::new(Vec::new());
    let walked = (|| -> bundle_format::Result<()> {
        while let Some(member) = reader.next_member()? {
            let content = reader.read_small(&member, 1 << 20)?;
            writer.member(&member.name, member.size, &mut &content[..])?;
        }
        Ok(())
    })();
    if walked.is_ok() {
        assert_same("archive", &writer.finish().unwrap(), data);
    }
}

/// A whole bundle: its head is what our writer makes of what it claims; nothing is proved that nobody
/// signed; what is proved is unpacked.
pub fn bundle(data: &[u8]) {
    drop(UnverifiedEnvelope::read_prologue(data));
    let Ok((head, mut packs)) = UnverifiedEnvelope::read(Cursor::new(data)) else { return };
    let mut writer = ArchiveWriter::new(Vec::new());
    for (name, bytes) in head.members().unwrap() {
        let size = u64::try_from(bytes.len()).unwrap();
        writer.member(&name, size, &mut &bytes[..]).unwrap();
    }
    let written = writer.into_inner();
    assert_eq!(packs.offset(), u64::try_from(written.len()).unwrap());
    assert_same("head", &written, &data[..written.len()]);
    for policy in [AlgorithmPolicy::Hybrid, AlgorithmPolicy::Cnsa2, AlgorithmPolicy::Ed25519] {
        let Ok(verified) = head.clone().verify(anchor(), policy) else { continue };
        assert_signed(verified.sha384());
        if policy == AlgorithmPolicy::Hybrid {
            drop(unpack(&mut packs, &verified, Held::Nothing, &mut NoSink, 1, &mut |_| ()));
            return;
        }
    }
}

/// A manifest: what is accepted is written in one form that reads as the same.
pub fn manifest(data: &[u8]) {
    let Ok(read) = bundle_format::manifest::parse(data) else { return };
    let written = read.to_bytes().unwrap();
    let again = bundle_format::manifest::parse(&written).unwrap();
    assert!(again == read, "reads as another manifest");
    assert_same("manifest", &again.to_bytes().unwrap(), &written);
    // What the readers ask of a proven one.
    let _ = (read.stored_size(), read.content_size(), read.blob_sizes(), read.frame_places(512));
    drop(bundle_format::attachment::require_sboms(&read));
    drop(bundle_format::attachment::require_provenance(&read));
}

/// A chain of roots, one envelope a line: each has one form, and no chain ends in a root that nobody
/// signed.
pub fn root_chain(data: &[u8]) {
    let mut chain = Vec::new();
    for line in data.split_inclusive(|byte| *byte == b'\n').take(8) {
        let Ok(envelope) = RootEnvelope::parse(line) else { return };
        assert_same("root", &envelope.to_bytes().unwrap(), line);
        chain.push(envelope);
    }
    if let Some(next) = chain.first()
        && let Ok(advanced) = anchor().advance(next)
    {
        assert_signed(advanced.root().fingerprint());
    }
    if let Ok(proved) = apply_chain(anchor(), &chain) {
        assert_signed(proved.root().fingerprint());
    }
}

/// Counts what comes out of a pack.
struct Counting {
    left: u64,
}

impl BlobSink for Counting {
    fn begin(&mut self, blob: &Blob) -> bundle_format::Result<Want> {
        self.left = blob.size;
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> bundle_format::Result<()> {
        let count = u64::try_from(bytes.len()).unwrap();
        assert!(count <= self.left, "more bytes of a blob than were signed");
        self.left -= count;
        Ok(())
    }

    fn end(&mut self) -> bundle_format::Result<()> {
        assert_eq!(self.left, 0, "a blob ends early");
        Ok(())
    }
}

/// Stored bytes of a pack as a signer with evil in mind would sign them: codec and coding by the first
/// byte, the blob's decoded and coded sizes by the next eight. No blob gets more bytes than were signed.
pub fn pack(data: &[u8]) {
    const MOST: u32 = 1 << 22;
    let Some((kind, rest)) = data.split_first() else { return };
    let Some((sizes, stored)) = rest.split_first_chunk::<8>() else { return };
    let number = |bytes: &[u8]| u64::from(u32::from_be_bytes(bytes.try_into().unwrap()) % MOST);
    let (size, coded) = (number(&sizes[..4]), number(&sizes[4..]));
    if stored.is_empty() {
        return;
    }
    let method = if kind & 1 == 0 { ZSTD } else { RAW };
    let coding = if kind & 2 == 0 { "plain" } else { TOKENS };
    let coded = if kind & 2 == 0 { size } else { coded };
    // Many blobs: the last takes the rest of the stream, if there is any.
    let empty = kind & 4 != 0;
    let mut blobs = vec![PackedBlob { digest: Sha256::of(stored), size, coding: coding.into(), coded, delta: None }];
    if empty {
        blobs.push(PackedBlob::plain(Blob { digest: Sha256::of(b""), size: 0 }));
    }
    let name = bundle_format::manifest::pack_name(0);
    let pack =
        Pack { name: name.clone(), codec: method.into(), bases: Vec::new(), frames: vec![Frame::of(stored)], blobs };
    let claim = Manifest { packs: vec![pack], ..plain_manifest().clone() };
    let mut writer = ArchiveWriter::new(Vec::new());
    writer.member("manifest.json", 2, &mut &b"{}"[..]).unwrap();
    writer.member(&name, u64::try_from(stored.len()).unwrap(), &mut &stored[..]).unwrap();
    let archive = writer.finish().unwrap();
    let (_, mut packs) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    let mut sink = Counting { left: 0 };
    drop(dangerous_unpack_claim(&mut packs, &claim, Held::Nothing, &mut sink, 1, &mut |_| ()));
}

/// The one blob that a site holds.
struct One<'a>(&'a [u8]);

impl BaseBlobs for One<'_> {
    fn open(&self, _: &Sha256) -> bundle_format::Result<Box<dyn std::io::Read + '_>> {
        Ok(Box::new(self.0))
    }
}

/// Takes big-endian numbers from the front of `data`.
fn number<const N: usize>(data: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = data.split_first_chunk::<N>()?;
    *data = rest;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Stored bytes of a difference as a signer with evil in mind would sign them, for a site that holds the
/// base. By the first byte: whether blob and base are tokens, and one to four segments. Then the base
/// (two bytes of size), the blob's size (three), of each segment its stored (two) and coded bytes
/// (three), its range's first byte and length (three each); the rest are the stored bytes. No blob gets
/// more bytes than were signed, whether the manifest is one that is read or not.
pub fn delta(data: &[u8]) {
    drop(unpack_delta(data));
}

/// The same, with what the decoder said; `None` for an input that is too short.
pub fn unpack_delta(data: &[u8]) -> Option<bundle_format::Result<()>> {
    let parts = Evil::read(data)?;
    let Evil { coding, of_base, base, size, segments, stored } = parts;
    let coded = segments.iter().map(|segment| segment.coded).sum();
    // The base's coded stream as long as the ranges make it: what they ask for is not there.
    let end = segments.iter().map(|segment| segment.from + segment.len).max().unwrap_or(0);
    let delta = Delta { base: Sha256::of(base), coding: of_base.into(), coded: end, segments };
    let digest = Sha256::of(stored);
    let blobs = vec![PackedBlob { digest, size, coding: coding.into(), coded, delta: Some(delta) }];
    let name = bundle_format::manifest::pack_name(0);
    let pack =
        Pack { name: name.clone(), codec: DELTA.into(), bases: Vec::new(), frames: vec![Frame::of(stored)], blobs };
    let held = Blob { digest: Sha256::of(base), size: u64::try_from(base.len()).unwrap() };
    let set = BaseSet { release: "0".into(), sequence: 0, manifest_sha384: None, blobs: vec![held] };
    let file = PlainFile { path: "blob".into(), digest };
    let claim = Manifest { packs: vec![pack], bases: vec![set], files: vec![file], ..plain_manifest().clone() };
    // What is no manifest is refused there; the decoder stands all the same.
    drop(claim.to_bytes().and_then(|bytes| bundle_format::manifest::parse(&bytes)));
    let mut writer = ArchiveWriter::new(Vec::new());
    writer.member("manifest.json", 2, &mut &b"{}"[..]).unwrap();
    writer.member(&name, u64::try_from(stored.len()).unwrap(), &mut &stored[..]).unwrap();
    let archive = writer.finish().unwrap();
    let (_, mut packs) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    let (mut sink, site) = (Counting { left: 0 }, One(base));
    Some(dangerous_unpack_claim(&mut packs, &claim, Held::Set { set: 0, blobs: &site }, &mut sink, 1, &mut |_| ()))
}

/// The parts of an input of [`delta`].
struct Evil<'a> {
    coding: &'static str,
    of_base: &'static str,
    base: &'a [u8],
    size: u64,
    segments: Vec<Segment>,
    stored: &'a [u8],
}

impl<'a> Evil<'a> {
    /// Cuts an input up; `None` for one that is too short.
    fn read(mut data: &'a [u8]) -> Option<Self> {
        const MOST: u64 = 1 << 22;
        let kind = number::<1>(&mut data)?;
        let of = |bit: u64| if kind & bit == 0 { PLAIN } else { TOKENS };
        let len = usize::try_from(number::<2>(&mut data)?).unwrap();
        let (base, rest) = data.split_at_checked(len)?;
        data = rest;
        let size = number::<3>(&mut data)? % MOST;
        let mut segments = Vec::new();
        for _ in 0..=(kind >> 2 & 3) {
            let (stored, coded) = (number::<2>(&mut data)?, number::<3>(&mut data)? % MOST);
            let (from, len) = (number::<3>(&mut data)?, number::<3>(&mut data)?);
            segments.push(Segment { stored, coded, from, len });
        }
        if data.is_empty() {
            return None;
        }
        Some(Self { coding: of(1), of_base: of(2), base, size, segments, stored: data })
    }
}

/// A manifest without a blob.
pub fn plain_manifest() -> &'static Manifest {
    static PLAIN: OnceLock<Manifest> = OnceLock::new();
    PLAIN.get_or_init(|| {
        let text = format!(
            r#"{{"format":"{}","product":"p","release":"1","sequence":1,"marking":"UNCLASSIFIED","platform":"linux/amd64","title":"t","created":"2026-01-01T00:00:00Z","expires":null,"requires":{{"memory_mib":0,"disk_mib":0}},"lifecycle":{{}},"network":{{"name":"n","internal":true}},"images":[],"secrets":[],"workloads":[],"files":[],"runtime":[],"attachments":[],"bases":[],"packs":[]}}"#,
            bundle_format::manifest::FORMAT
        );
        bundle_format::manifest::parse(text.as_bytes()).unwrap()
    })
}

fn decode(tokens: &[u8], part: usize, limit: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut decoder = TokenDecoder::new(limit);
    for part in tokens.chunks(part) {
        decoder.push(part, &mut out).ok()?;
        assert!(u64::try_from(out.len()).unwrap() <= limit, "more bytes than the limit");
    }
    decoder.finish(&mut out).ok()?;
    Some(out)
}

fn encode(gzip: &[u8], part: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = TokenEncoder::new();
    for part in gzip.chunks(part) {
        encoder.push(part, &mut out).ok()?;
    }
    encoder.finish(&mut out).ok()?;
    Some(out)
}

/// What is shown while tokens are decoded; `None` where that is not all of it: readers would differ, or a
/// checksum is another.
fn content(tokens: &[u8], part: usize, limit: u64) -> Option<Vec<u8>> {
    let (send, receive) = channel();
    let listener = move |inside: Inside<'_>| match inside {
        Inside::Bytes(bytes) => send.send((Some(bytes.to_vec()), None)).is_ok(),
        Inside::End(trailer) => send.send((None, Some(trailer))).is_ok(),
        Inside::Odd => send.send((None, None)).is_ok(),
    };
    let (mut out, mut decoder) = (Vec::new(), TokenDecoder::with_listener(limit, Box::new(listener)));
    for part in tokens.chunks(part) {
        decoder.push(part, &mut out).unwrap();
    }
    decoder.finish(&mut out).unwrap();
    let (mut seen, mut crc, mut sound) = (Vec::new(), flate2::Crc::new(), true);
    for shown in receive {
        match shown {
            (Some(bytes), _) => {
                crc.update(&bytes);
                seen.extend(bytes);
            }
            (None, Some(trailer)) => {
                sound &= trailer == *[crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
                crc = flate2::Crc::new();
            }
            (None, None) => sound = false,
        }
    }
    sound.then_some(seen)
}

/// Token bytes that no encoder wrote: they give what they give however they are cut, never more than the
/// limit nor more than eight bytes for each and some (tokens 5), and gzip bytes that they give can be
/// carried as tokens again.
pub fn tokens_decode(data: &[u8]) {
    let limit = 1 << 20;
    let found = decode(data, 1 << 16, limit);
    assert!(found == decode(data, 7, limit), "it depends on how the bytes are cut");
    let Some(gzip) = found else { return };
    assert!(gzip.len() <= 8 * data.len() + 16, "{} bytes of {}", gzip.len(), data.len());
    if let Some(size) = u64::try_from(gzip.len()).unwrap().checked_sub(1) {
        assert!(decode(data, 1 << 16, size).is_none(), "the limit lets one byte more through");
    }
    if let Some(tokens) = encode(&gzip, 1 << 16) {
        assert_same("gzip", &decode(&tokens, 1 << 16, limit).unwrap(), &gzip);
    }
    // A match takes two bytes at least, and gives 258 at most.
    assert!(content(data, 1 << 16, limit).is_none_or(|content| content.len() <= 129 * data.len()));
}

/// Gzip bytes of whatever origin: what can be carried as tokens comes back to the bit, and what is shown of
/// its content is what another reader finds in it.
pub fn tokens_round(data: &[u8]) {
    let tokens = encode(data, 1 << 16);
    assert!(tokens == encode(data, 5), "it depends on how the bytes are cut");
    let Some(tokens) = tokens else { return };
    let size = u64::try_from(data.len()).unwrap();
    assert_same("gzip", &decode(&tokens, 1 << 16, size).expect("its own tokens are refused"), data);
    let shown = content(&tokens, 1 << 16, size);
    assert!(shown == content(&tokens, 7, size), "what is shown depends on how the bytes are cut");
    let mut all = Vec::new();
    let read = flate2::bufread::MultiGzDecoder::new(data).read_to_end(&mut all);
    if let Some(shown) = shown {
        read.expect("the other reader refuses it");
        assert_same("content", &shown, &all);
    }
}

/// A signature file: it has one form. The first 8 bytes name the key, the next says the scheme.
pub fn minisig(data: &[u8]) {
    let Some((id, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((scheme, file)) = rest.split_first() else { return };
    let scheme = Scheme::ALL[usize::from(*scheme) % Scheme::ALL.len()];
    let key = KeyId::from_bytes(*id);
    if let Ok(signature) = Signature::parse_file("fuzz", key, scheme, file) {
        assert_same("signature", &signature.to_file(), file);
        assert_eq!((signature.key, signature.scheme()), (key, scheme));
    }
    let Ok(text) = std::str::from_utf8(file) else { return };
    if let Ok(public) = PublicKey::parse(scheme, text) {
        assert_same("public key", public.to_text().as_bytes(), file);
    }
}

/// OCI documents: index, manifest, artifact, config.
pub fn oci_index(data: &[u8]) {
    for media_type in [oci::OCI_INDEX, oci::DOCKER_LIST, oci::OCI_MANIFEST, oci::DOCKER_MANIFEST] {
        let index = oci::parse_index(data, media_type);
        if let Ok(index) = &index {
            drop(oci::select_platform(index, "linux/amd64"));
        }
        // CVE-2021-41190: no document is both.
        assert!(index.is_err() || oci::parse_manifest(data, media_type).is_err());
        drop(oci::parse_manifest(data, media_type));
    }
    drop(oci::parse_artifact(data));
    drop(oci::check_config(data, "linux/amd64", 1));
}

/// YAML that people write: release manifest, lock and the policy of a site.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(bundle_format::release::parse("fuzz", text));
    drop(installer::policy::Policy::parse("fuzz", text));
    if let Ok(lock) = bundle_format::lock::parse("fuzz", text) {
        let written = lock.to_yaml().unwrap();
        let again = bundle_format::lock::parse("fuzz", &written).unwrap();
        assert!(again == lock, "reads as another lock");
    }
}

/// A workload, the one YAML that crosses the gap: what the engine is given says, read again, the same as what
/// was checked.
pub fn workload(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(workload) = Workload::parse("fuzz", text) else { return };
    let same = workload.volumes.iter().map(|claim| (claim.clone(), claim.clone())).collect();
    // Claims are left out of what is played.
    let claim = |name: &String| format!("---\nkind: PersistentVolumeClaim\nmetadata: {{name: \"{name}\"}}\n");
    let claims: String = workload.volumes.iter().map(claim).collect();
    let again = Workload::parse("fuzz", &(workload.render(&same).unwrap() + &claims)).unwrap();
    assert_eq!((again.pods, again.config_maps), (workload.pods, workload.config_maps), "reads as another workload");
}

/// Datagrams and the plan of a transfer: what is taken is what the sender would have sealed.
pub fn datagram(data: &[u8]) {
    let key = Tagger::keyed(b"TEST key of 16 b").unwrap();
    let mut sized = [0; DATAGRAM_BYTES];
    sized.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
    for tagger in [Tagger::plain(), key] {
        let _ = tagger.open(data);
        if let Some((header, body)) = tagger.open(&sized) {
            let mut again = [0; DATAGRAM_BYTES];
            again[DATAGRAM_BYTES - body.len()..].copy_from_slice(body);
            tagger.seal(&header, &mut again);
            assert_same("datagram", &again, &sized);
        }
    }
    let Some(plan) = data.first_chunk::<PLAN_BYTES>() else { return };
    if let Some(read) = Plan::parse(plan) {
        assert_same("plan", &read.to_bytes(), plan);
        let blocks = read.blocks();
        for block in [0, blocks / 2, blocks.saturating_sub(1)] {
            let (at, size) = read.place(block);
            assert!(at.saturating_add(size) <= read.archive_size, "a block beyond the archive");
            let _ = read.originals_of(block);
        }
        let announced = read.announce_blocks();
        let _ = (read.session(), read.chunks_of(announced.saturating_sub(1)));
    }
}

/// The head of a volume: it has one form, and its places lie inside the volume.
pub fn volume_head(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = volume::claimed_number(text);
    }
    let mut block = data.to_vec();
    block.resize(volume::HEAD_BYTES.max(data.len()), 0);
    let Ok(head) = Head::parse(&block) else { return };
    assert_same("volume head", &head.to_block().unwrap(), &block);
    let shape = &head.shape;
    let places =
        [shape.table_at(), shape.prologue_at(), shape.payload_at(), shape.prologue_again_at(), shape.table_again_at()];
    assert!(places.is_sorted() && places[4] < shape.volume_size(), "{places:?}");
    let _ = (shape.id(), shape.place(head.number - 1, shape.cells.saturating_sub(1)));
}

/// A chain of custody: it has one form; a receipt's code reads as what it says.
pub fn custody(data: &[u8]) {
    if let Ok(chain) = UnverifiedCustody::parse(data) {
        assert_same("custody chain", &chain.to_bytes().unwrap(), data);
        drop(chain.check());
        assert!(chain.verify(anchor(), AlgorithmPolicy::Hybrid).is_err(), "proved under a root without agents");
    }
    let Ok(code) = std::str::from_utf8(data) else { return };
    if let Ok(receipt) = Receipt::parse(code) {
        let written = receipt.to_code();
        assert!(Receipt::parse(&written).unwrap() == receipt, "reads as another receipt");
    }
}

/// The other documents that cross: approvals, plans, set lists, inventories, provenance, a machine's
/// public key, markings, times, names.
pub fn documents(data: &[u8]) {
    if let Ok(approval) = UnverifiedApproval::parse(data) {
        assert_same("approval", &approval.to_bytes().unwrap(), data);
    }
    if let Ok(plan) = PlanDocument::parse(data) {
        assert_same("plan", &plan.to_bytes().unwrap(), data);
    }
    if let Ok(list) = SetList::parse(data) {
        assert_same("set list", &list.to_bytes().unwrap(), data);
    }
    drop(Inventory::claimed(data));
    if let Ok(read) = provenance::check(data, plain_manifest(), anchor().root()) {
        let sealed = provenance::seal(&provenance::to_payload(read.statement()).unwrap(), &[]).unwrap();
        let again = provenance::check(&sealed, plain_manifest(), anchor().root()).unwrap();
        assert!(again.statement() == read.statement(), "reads as another statement");
    }
    if let Ok(public) = AppliancePublic::parse(data) {
        assert_same("public key", &public.to_bytes().unwrap(), data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(marking) = Marking::parse(text) {
        assert_same("marking", marking.to_string().as_bytes(), data);
    }
    if let Ok(time) = Timestamp::parse(text) {
        assert_same("time", time.as_str().as_bytes(), data);
        assert_same("time", Timestamp::from_unix(time.to_unix()).as_str().as_bytes(), data);
    }
    drop(bundle_format::name::check_path("fuzz", text));
    drop(bundle_format::reference::ImageName::parse(text));
}
