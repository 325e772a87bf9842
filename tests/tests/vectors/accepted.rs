//! The other side: sound bundles of unusual form are accepted.

use bundle_format::digest::{Sha256, Sha384};
use bundle_format::envelope::{Proved as _, UnverifiedEnvelope};
use bundle_format::key::Scheme;
use bundle_format::manifest::Blob;
use bundle_format::pack::{BlobSink, Encoding, Held, Want, unpack};
use bundle_format::root::{RootEnvelope, SequenceReset, TrustedRoot};
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::{ErrorKind, Result};
use system_tests::{Draft, keys, prove_with};

/// Every sound bundle with its site: name, archive, trust, policy.
pub(crate) fn sound() -> Vec<(String, Vec<u8>, TrustedRoot, AlgorithmPolicy)> {
    let mut sound = Vec::new();
    let mut add = |name: &str, draft: &Draft, trusted: TrustedRoot| {
        sound.push((name.to_owned(), draft.archive(), trusted, AlgorithmPolicy::Hybrid));
    };
    let (alice, bob, carol) = (keys::alice(), keys::bob(), keys::carol());
    for (name, signers) in [
        ("signed by two of three", vec![keys::alice(), keys::bob()]),
        ("signed by three of three", vec![keys::alice(), keys::bob(), keys::carol()]),
        ("signed by the other two", vec![keys::bob(), keys::carol()]),
    ] {
        let draft = Draft { signers, ..Draft::small() };
        add(name, &draft, draft.trusted());
    }
    add("without packs", &Draft::empty(), Draft::empty().trusted());
    for encoding in [Encoding::Raw, Encoding::Zstd { level: 1 }] {
        for (number, blobs) in [&[][..], &[&b""[..]], &[b"", b"a"], &[b"a", b""], &[b"a", b"", b"b"]].iter().enumerate()
        {
            let mut draft = Draft::empty();
            draft.add_files(encoding, blobs);
            add(&format!("small blobs {number}, {encoding:?}"), &draft, draft.trusted());
        }
        let mut draft = Draft::empty();
        draft.add_files(encoding, &[b"before", &noise(9 << 20), b"behind"]);
        assert_eq!(draft.manifest.packs[0].frames.len(), 3);
        add(&format!("a blob over three frames, {encoding:?}"), &draft, draft.trusted());
    }
    let mut marked = Draft::small();
    marked.manifest.marking =
        bundle_format::marking::Marking::parse("TOP SECRET//ORCON/PROPIN/REL TO USA, AUS, GBR/RELIDO").unwrap();
    marked.manifest.title = "TEST \u{fc}ber \u{4e2d}\u{6587} \"quoted\" \u{1f512}".into();
    add("a long marking, a title of many alphabets", &marked, marked.trusted());
    // A rotation: carol goes, dave comes; the chain is followed from either version.
    let dave = keys::signer("test-dave", 4);
    let second = keys::signed_root(2, 2, &[&alice, &bob, &dave], &[&alice, &bob]);
    let first = keys::signed_root(1, 2, &[&alice, &bob, &carol], &[&alice, &bob]);
    let anchor = keys::anchor(&first);
    let newer = anchor.advance(&second).unwrap();
    let rotated = Draft { roots: vec![first, second], signers: vec![keys::bob(), dave], ..Draft::small() };
    add("rotated, from version 1", &rotated, anchor);
    add("rotated, from version 2", &rotated, newer.clone());
    add("older bundle under a newer root", &Draft::small(), newer);
    let (dave, erin) = (keys::signer("test-dave", 4), keys::signer("test-erin", 5));
    let reset = SequenceReset { product: "test-product".into(), sequence: 6, security_epoch: None };
    let reset = keys::root(2, 2, &[&carol, &dave, &erin]).with_resets(&[reset]).unwrap();
    let mut second = RootEnvelope::unsigned(reset);
    for signer in [&alice, &bob, &carol, &dave] {
        signer.sign_root(&mut second).unwrap();
    }
    let roots = vec![keys::two_of_three(), second];
    let reset = Draft { roots, signers: vec![keys::carol(), dave], ..Draft::small() };
    add("a root that resets a sequence", &reset, reset.trusted());
    let agents = keys::root_with_agents(2, &[&keys::tina(), &keys::theo()]);
    let carried = Draft { roots: vec![agents], ..Draft::small() };
    add("a root with transfer agents", &carried, carried.trusted());
    let built = crate::builder::draft(vec![keys::alice(), keys::bob(), keys::bella()]);
    add("two hands: releasers and a builder", &built, built.trusted());
    let agreed = Draft { roots: vec![keys::root_with_approvers()], ..Draft::small() };
    add("a root with approvers", &agreed, agreed.trusted());
    let attached = crate::documents::attached();
    add("an SBOM and a provenance statement", &attached, attached.trusted());
    let tokens = crate::tokens::sound();
    add("a file carried as tokens", &tokens, tokens.trusted());
    let compressors = crate::tokens::compressors();
    add("files of many compressors carried as tokens", &compressors, compressors.trusted());
    for checksum in [false, true] {
        let one = crate::packs::of_one_frame(checksum);
        add(&format!("a zstd frame, content checksum: {checksum}"), &one, one.trusted());
    }
    let names = reserved_names();
    add("names that Windows reserves", &names, names.trusted());
    let full = at_every_limit();
    add("names, lists and numbers at their limits", &full, full.trusted());
    let window = crate::packs::of_the_largest_window();
    add("a zstd window of 2^27", &window, window.trusted());
    let crowd = crowd();
    add("a root of 256 keys, 64 signatures", &crowd, crowd.trusted());
    let update = crate::delta::sound();
    add("an update by a delta", &update, update.trusted());
    let (longest, trusted) = crate::heads::longest();
    sound.push(("a head of 24 MiB".into(), longest, trusted, AlgorithmPolicy::Hybrid));
    for (name, scheme, policy) in [
        ("Ed25519 alone for a site of Ed25519", Scheme::Ed25519, AlgorithmPolicy::Ed25519),
        (ML_DSA_ALONE, Scheme::MlDsa87, AlgorithmPolicy::Cnsa2),
    ] {
        let (archive, trusted) = of_one_scheme(scheme);
        sound.push((name.into(), archive, trusted, policy));
    }
    sound
}

/// The name of the bundle that only ML-DSA-87 proves.
pub(crate) const ML_DSA_ALONE: &str = "ML-DSA alone for a site of CNSA 2.0";

/// The small bundle with the signatures of one scheme alone, and its site.
pub(crate) fn of_one_scheme(scheme: Scheme) -> (Vec<u8>, TrustedRoot) {
    let draft = Draft::small();
    let text = draft.text().into_bytes();
    let mut signatures = draft.signatures(&text);
    signatures.retain(|signature| signature.scheme() == scheme);
    (draft.sealed_with(text, signatures).archive(), draft.trusted())
}

/// Files under names that Windows keeps for itself (spec 3).
fn reserved_names() -> Draft {
    let mut draft = Draft::empty();
    draft.add_files(Encoding::Raw, &[b"one", b"two", b"three"]);
    for (file, path) in draft.manifest.files.iter_mut().zip(["CON", "docs/aux.txt", "nul/COM1.log"]) {
        file.path = path.into();
    }
    draft.manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
    draft
}

/// What one more of is refused, each in the vector beside: names, lists, numbers.
fn at_every_limit() -> Draft {
    use bundle_format::lifecycle::{Backup, Check, Data, Migration};
    use bundle_format::limits;
    use bundle_format::pack::Encoding::Raw;
    let mut draft = Draft::small();
    let deep = vec!["a"; limits::NAME_COMPONENTS].join("/");
    let long = format!("b/{}", "b".repeat(limits::NAME_BYTES - 2));
    draft.add_files(Raw, &[b"deep", b"long"]);
    let count = draft.manifest.files.len();
    draft.manifest.files[count - 2].path = deep;
    draft.manifest.files[count - 1].path = long;
    draft.manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
    draft.manifest.product = "p".repeat(63);
    draft.manifest.release = "r".repeat(limits::NAME_BYTES);
    draft.manifest.title = "t".repeat(limits::NAME_BYTES);
    draft.manifest.images[0].tag = "t".repeat(128);
    draft.manifest.sequence = limits::SEQUENCE;
    let life = &mut draft.manifest.lifecycle;
    life.security_epoch = limits::SEQUENCE;
    life.deadline_seconds = limits::DEADLINE_SECONDS;
    life.stable_seconds = limits::STABLE_SECONDS;
    // The first word is a line for people as well; the others may be whole scripts.
    let mut command = vec!["a".repeat(limits::COMMAND_WORD_BYTES); 64];
    command[0] = "a".repeat(limits::NAME_BYTES);
    let migration = |n: u64| Migration {
        name: format!("m{n}"),
        since: limits::SEQUENCE,
        container: "a-a".into(),
        up: command.clone(),
    };
    // Short commands but for one, so that the manifest stays small.
    let short = |n: u64| Migration { up: vec!["a".into()], ..migration(n) };
    life.migrations = std::iter::once(migration(0)).chain((1..limits::LIFECYCLE_ENTRIES).map(short)).collect();
    let path = format!("/{}", "p".repeat(limits::NAME_BYTES - 1));
    let check = |n: u64| Check::Http { name: format!("c{n}"), port: u16::MAX, path: path.clone(), status: 200 };
    life.checks = (0..limits::LIFECYCLE_ENTRIES).map(check).collect();
    let data = |n: u64| Data { volume: format!("v{n}"), backup: Backup::Copy, keep: 1000 };
    life.data = (0..limits::LIFECYCLE_ENTRIES).map(data).collect();
    draft
}

/// As many keys as a root may have, and as many signatures as an archive.
fn crowd() -> Draft {
    use bundle_format::limits;
    let number = |count: usize| u8::try_from(count / 2).unwrap();
    let signers: Vec<_> =
        (0..number(limits::KEYS)).map(|n| keys::signer(&format!("test-{n}"), n.wrapping_add(0x40) & 0x7f)).collect();
    let holders: Vec<&signing_keys::Signer> = signers.iter().collect();
    let root = keys::signed_root(1, 2, &holders, &holders[..2]);
    let of_archive = signers.into_iter().take(usize::from(number(limits::SIGNATURES))).collect();
    Draft { roots: vec![root], signers: of_archive, ..Draft::empty() }
}

/// Documents at their limits; one byte, one entry or one number more is refused in the vectors.
#[test]
fn documents_at_their_limits_are_accepted() {
    use bundle_format::datagram::{Plan, Tagger};
    use bundle_format::volume::Shape;
    use bundle_format::{limits, oci, release};
    let padded = |text: &str, limit: u64, filler: char| {
        let fill = usize::try_from(limit).unwrap() - text.len();
        format!("{text}{}", filler.to_string().repeat(fill))
    };
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let of_depth = |depth: usize| {
        bundle_format::json::parse::<serde::de::IgnoredAny>("TEST", nested(depth).as_bytes(), limits::ROOT_BYTES)
    };
    of_depth(limits::JSON_DEPTH).unwrap();
    of_depth(limits::JSON_DEPTH + 1).unwrap_err();
    let yaml = padded(&format!("{RELEASE}#"), limits::YAML_BYTES, '#');
    release::parse("r.yaml", &yaml).unwrap();
    let index = padded("{\"schemaVersion\":2,\"manifests\":[]}", limits::OCI_DOCUMENT_BYTES, ' ');
    oci::parse_index(index.as_bytes(), oci::OCI_INDEX).unwrap();
    Tagger::keyed(&[7; 16]).unwrap();

    let plan = Plan {
        archive_size: limits::ARCHIVE_BYTES,
        prologue_size: u32::try_from(limits::PROLOGUE_BYTES).unwrap(),
        originals: limits::BLOCK_SHARDS,
        recovery: limits::BLOCK_SHARDS,
        prologue_sha384: Sha384::of(b"p"),
    };
    plan.check().unwrap();
    Shape::fit(1 << 30, limits::PROLOGUE_BYTES, Sha384::of(b"p"), 64 << 20, 2).unwrap();
    let mut shape = Shape::fit(1 << 20, 4096, Sha384::of(b"p"), 700_000, 1).unwrap();
    shape.parity = limits::VOLUMES - shape.data;
    shape.check().unwrap();
    shape.parity += 1;
    shape.check().unwrap_err();

    let resets: Vec<SequenceReset> = (0..limits::SEQUENCE_RESETS)
        .map(|n| SequenceReset {
            product: format!("p{n:03}"),
            sequence: limits::SEQUENCE,
            security_epoch: Some(limits::SEQUENCE),
        })
        .collect();
    keys::root(2, 2, &[&keys::alice(), &keys::bob()]).with_resets(&resets).unwrap();
}

const RELEASE: &str = include_str!("../../../manifests/profiles/minimal.yaml");

#[test]
fn sound_bundles_are_accepted() {
    for (name, archive, trusted, policy) in sound() {
        prove_with(&archive, &trusted, policy).expect(&name);
    }
}

#[test]
fn ml_dsa_alone_where_the_site_asks_for_no_more() {
    let (archive, trusted) = of_one_scheme(Scheme::MlDsa87);
    prove_with(&archive, &trusted, AlgorithmPolicy::Cnsa2).unwrap();
}

#[test]
fn a_manifest_is_pinned_by_its_own_digest_alone() {
    let draft = Draft::small();
    let archive = draft.archive();
    let (head, _) = UnverifiedEnvelope::read(&archive[..]).unwrap();
    let own = Sha384::of(draft.text().as_bytes());
    assert_eq!(head.clone().pinned(&own).unwrap().proved(), &draft.manifest);
    let error = head.pinned(&Sha384::of(b"TEST")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Inconsistent { what, .. } if what == "manifest.json"), "{error}");
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(step).take(size).collect()
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
    let large = noise(9 << 20);
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
