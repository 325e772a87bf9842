//! Seeds of the fuzzer's corpora, made by the real writers from TEST keys, each small.
//!
//! Signatures hold fresh randomness (FIPS 204, 3.4), so they are made once and committed, and what is
//! asked of those committed is that the real readers still take them ([`is_taken`]).

use bundle_format::appliance::AppliancePublic;
use bundle_format::approval::{Approval, PLAN_FORMAT, PlanDocument, UnverifiedApproval};
use bundle_format::custody::UnverifiedCustody;
use bundle_format::datagram::{DATAGRAM_BYTES, HEADER_BYTES, Header, Kind, PLAN_BYTES, Plan, Tagger};
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::inventory::{self, AuditHead, Inventory};
use bundle_format::key::{KeyId, PublicKey, Scheme};
use bundle_format::manifest::Blob;
use bundle_format::marking::Marking;
use bundle_format::pack::Encoding;
use bundle_format::provenance::{self, Resource, Statement};
use bundle_format::receipt::{Health, Installed, Prefix, Receipt};
use bundle_format::root::{RootEnvelope, TrustedRoot, apply_chain};
use bundle_format::set::SetList;
use bundle_format::signature::Signature;
use bundle_format::timestamp::Timestamp;
use bundle_format::tokens::{TokenDecoder, TokenEncoder};
use bundle_format::volume::{Head, Shape};
use bundle_format::{ErrorKind, oci, signed};
use signing_keys::Signer;

use crate::keys::{self, alice, bob};
use crate::{Draft, custody};

/// What [`all`] makes.
#[derive(Debug)]
pub struct Seeds {
    /// Target, name, bytes.
    pub inputs: Vec<(&'static str, String, Vec<u8>)>,
    /// The root that all are signed under.
    pub anchor: Vec<u8>,
    /// SHA-384 of all that was signed, one a line.
    pub signed: String,
}

/// The root of one signer, which the seeds are under.
fn root(version: u64, former: &[&Signer]) -> RootEnvelope {
    let alice = alice();
    let signers = [&[&alice][..], former].concat();
    keys::signed_root(version, 1, &[&alice], &signers)
}

/// Workloads of each kind of object, and of what YAML has beside the plain forms.
const WORKLOADS: [(&str, &str); 4] = [
    (
        "pod",
        "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  hostNetwork: false
  restartPolicy: Always
  containers:
    - name: srv
      image: registry.example/test/app@sha256:0000000000000000000000000000000000000000000000000000000000000000
      ports: [{containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}]
      env: [{name: MODE, value: \"0x1F\"}, {name: WORD, value: 'no'}]
      livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 7}
      securityContext: {privileged: false}
      volumeMounts: [{name: d, mountPath: /data}]
  volumes:
    - name: d
      persistentVolumeClaim: {claimName: data}
",
    ),
    (
        "deployment",
        "kind: ConfigMap
metadata: {name: conf}
data:
  app.conf: |
    listen = 80
  empty: ''
---
kind: Deployment
metadata: {name: api}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: api}}
    spec:
      containers: [{name: api, image: r.example/a@sha256:00}, {name: side, image: r.example/b@sha256:01}]
      volumes: [{name: c, configMap: {name: conf}}]
",
    ),
    (
        "forms",
        "--- # as people write it
kind: !!str Pod
metadata: &m {name: x}
spec:
  containers:
    - name: \"\\u0061\"
      image: >-
        r.example/a@sha256:00
      args: [*m, 1e3, .inf, ~, 2026-01-01, [a], \"\\n\", on]
...
",
    ),
    ("nothing", "---\n---\n"),
];

/// Makes every seed.
#[allow(clippy::too_many_lines, reason = "one target after another")]
pub fn all() -> Seeds {
    let (first, second) = (root(1, &[]), root(2, &[]));
    let mut inputs: Vec<(&'static str, String, Vec<u8>)> = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| inputs.push((target, name.to_owned(), bytes));

    let mut drafts = Vec::new();
    for (name, encoding, roots) in [
        ("raw", Encoding::Raw, vec![first.clone()]),
        ("zstd", Encoding::Zstd { level: 3 }, vec![first.clone(), second.clone()]),
    ] {
        let mut draft = Draft { roots, signers: vec![alice()], ..Draft::small() };
        draft.add_files(encoding, &[b"TEST one", b"", &[b'x'; 300]]);
        drafts.push((name, draft));
    }
    let mut signed = vec![first.claimed().fingerprint(), second.claimed().fingerprint()];
    for (name, draft) in &drafts {
        let sealed = draft.sealed();
        let archive = sealed.archive();
        signed.push(Sha384::of(draft.text().as_bytes()));
        add("header", name, archive[..512].to_vec());
        add("bundle", name, archive);
        add("manifest", name, draft.text().into_bytes());
    }
    add("header", "pack", crate::ustar::plain("packs/00000", b"xyz")[..512].to_vec());
    let mut walk = bundle_format::archive::ArchiveWriter::new(Vec::new());
    for (name, content) in [("manifest.json", &b"{}"[..]), ("packs/00000", &[7; 600]), ("packs/00001", b"")] {
        walk.member(name, content.len() as u64, &mut &content[..]).unwrap();
    }
    add("tar_walk", "three", walk.finish().unwrap());
    add("tar_walk", "none", vec![0; 1024]);
    add("manifest", "empty", Draft::empty().text().into_bytes());
    let chain = |roots: &[&RootEnvelope]| roots.iter().flat_map(|root| root.to_bytes().unwrap()).collect::<Vec<u8>>();
    add("root_chain", "one", chain(&[&first]));
    add("root_chain", "two", chain(&[&first, &second]));

    for (name, kind, content, encoding) in [
        ("raw", 1u8, &b"TEST"[..], Encoding::Raw),
        ("zstd", 0, &[b'a'; 500], Encoding::Zstd { level: 3 }),
        ("zstd-and-empty", 4, b"TEST TEST TEST TEST", Encoding::Zstd { level: 19 }),
    ] {
        let mut draft = Draft::empty();
        draft.add_pack(encoding, &[content]);
        add("pack", name, pack(kind, content.len(), 0, &draft.packs[0]));
    }
    for (name, bytes) in deltas() {
        add("delta", name, bytes);
    }
    for (name, gzip) in gzips() {
        let tokens = encode(&gzip);
        add("tokens_decode", name, tokens.clone());
        add("pack", &format!("tokens-{name}"), pack(3, gzip.len(), tokens.len(), &tokens));
        add("tokens_round", name, gzip);
    }

    let document = b"TEST document";
    let [ed25519, ml_dsa] = alice().sign(document, "TEST comment").unwrap();
    for (name, number, signature) in [("minisign", 0u8, &ed25519), ("ml-dsa-87", 1, &ml_dsa)] {
        add("minisig", name, [signature.key.as_bytes(), &[number][..], &signature.to_file()].concat());
    }
    for (number, scheme) in Scheme::ALL.into_iter().enumerate() {
        let public = alice().public().key(scheme).unwrap().clone();
        let number = u8::try_from(number).unwrap();
        add("minisig", &format!("public-{scheme}"), [&[0; 8][..], &[number], public.to_text().as_bytes()].concat());
    }
    for (name, text) in oci_documents() {
        add("oci_index", name, text.into_bytes());
    }
    for (name, text) in [
        ("minimal", include_str!("../../manifests/profiles/minimal.yaml").to_owned()),
        ("platform", include_str!("../../manifests/profiles/defense-builders.yaml").to_owned()),
        ("lock", lock()),
        ("policy", "format: lockgate-policy/1\nalgorithms: cnsa2\nrequire: [sbom, provenance]\n".into()),
    ] {
        add("yaml", name, text.into_bytes());
    }
    for (name, text) in WORKLOADS {
        add("workload", name, text.as_bytes().to_vec());
    }

    let plan = plan();
    for (name, tagger) in [("plain", Tagger::plain()), ("keyed", Tagger::keyed(b"TEST key of 16 b").unwrap())] {
        let mut datagram = [3; DATAGRAM_BYTES];
        datagram[HEADER_BYTES..HEADER_BYTES + PLAN_BYTES].copy_from_slice(&plan.to_bytes());
        let header = Header { kind: Kind::Announce, session: plan.session(), ordinal: 7, block: 2, shard: 1, run: 9 };
        tagger.seal(&header, &mut datagram);
        add("datagram", name, datagram.to_vec());
    }
    add("datagram", "plan", plan.to_bytes().to_vec());
    let shape = Shape::fit(5_000_000, 30_000, Sha384::of(b"TEST"), 1 << 20, 2).unwrap();
    let head = Head { number: 1, table_sha384: Sha384::of(b"TEST table"), shape };
    let block = head.to_block().unwrap();
    let text = block.len() - block.iter().rev().take_while(|byte| **byte == 0).count();
    add("volume_head", "one", block[..text].to_vec());
    add("volume_head", "name", b"test-product-1.0-0011-v0001of0003.lgv".to_vec());

    let list = custody::set("SECRET", &[b"a", b"b", b"c"]);
    add("custody", "chain", custody::chain(&list, &[&[&alice(), &bob()]]).to_bytes().unwrap());
    add("custody", "draft", custody::chain(&list, &[&[]]).to_bytes().unwrap());
    let installed = Installed { prefix: Prefix::of(&Sha384::of(b"m")), sequence: 7, health: Health::Healthy };
    let receipt = Receipt { arrived: Some(Prefix::of(&Sha384::of(b"n"))), installed: Some(installed) };
    add("custody", "receipt", receipt.to_code().into_bytes());
    for (name, bytes) in documents(&list) {
        add("documents", name, bytes);
    }
    let signed: Vec<String> = signed.iter().map(ToString::to_string).collect();
    let signed = signed.join("\n") + "\n";
    Seeds { inputs, anchor: first.to_bytes().unwrap(), signed }
}

/// Whether the real reader of a target takes a seed: what is taken no more is stale.
pub fn is_taken(target: &str, name: &str, bytes: &[u8]) -> bool {
    let text = || std::str::from_utf8(bytes).unwrap_or_default();
    match target {
        "header" => matches!(bundle_format::archive::ArchiveReader::new(bytes).next_member(), Ok(Some(_))),
        "tar_walk" => {
            let mut reader = bundle_format::archive::ArchiveReader::new(bytes);
            loop {
                match reader.next_member() {
                    Ok(Some(member)) if reader.read_small(&member, 1 << 20).is_ok() => {}
                    Ok(None) => return true,
                    _ => return false,
                }
            }
        }
        "bundle" => crate::prove(bytes, &anchor()).is_ok(),
        "manifest" => bundle_format::manifest::parse(bytes).is_ok(),
        "root_chain" => {
            let roots = bytes.split_inclusive(|byte| *byte == b'\n').map(RootEnvelope::parse);
            roots.collect::<Result<Vec<_>, _>>().is_ok_and(|chain| apply_chain(&anchor(), &chain).is_ok())
        }
        "tokens_decode" => decodes(bytes),
        "tokens_round" => decodes(&encode(bytes)),
        // What comes out is under the digest of something else: only that it is read so far counts.
        "pack" => bytes.len() > 9,
        // Decoded to its end, where the digest is that of something else; or refused for its range.
        "delta" => fuzz_targets::unpack_delta(bytes).is_some_and(|said| {
            said.is_err_and(|error| match error.kind() {
                ErrorKind::BlobDigest { .. } => name != "beyond-its-base",
                ErrorKind::Delta { .. } => name == "beyond-its-base",
                _ => false,
            })
        }),
        "minisig" if name.starts_with("public") => {
            let scheme = Scheme::ALL[usize::from(bytes[8])];
            std::str::from_utf8(&bytes[9..]).is_ok_and(|text| PublicKey::parse(scheme, text).is_ok())
        }
        "minisig" => {
            let key = KeyId::from_bytes(bytes[..8].try_into().unwrap());
            Signature::parse_file(name, key, Scheme::ALL[usize::from(bytes[8])], &bytes[9..]).is_ok()
        }
        "oci_index" => match name {
            "index" => oci::parse_index(bytes, oci::OCI_INDEX).is_ok(),
            "config" => oci::check_config(bytes, "linux/amd64", 1).is_ok(),
            "docker" => oci::parse_manifest(bytes, oci::DOCKER_MANIFEST).is_ok(),
            _ => oci::parse_manifest(bytes, oci::OCI_MANIFEST).is_ok(),
        },
        "yaml" => match name {
            "lock" => bundle_format::lock::parse(name, text()).is_ok(),
            "policy" => installer::policy::Policy::parse(name, text()).is_ok(),
            _ => bundle_format::release::parse(name, text()).is_ok(),
        },
        "workload" => bundle_format::workload::Workload::parse(name, text()).is_ok(),
        "datagram" => match name {
            "plan" => bytes.first_chunk::<PLAN_BYTES>().is_some_and(|plan| Plan::parse(plan).is_some()),
            "keyed" => Tagger::keyed(b"TEST key of 16 b").unwrap().open(bytes).is_some(),
            _ => Tagger::plain().open(bytes).is_some(),
        },
        "volume_head" if name == "name" => bundle_format::volume::claimed_number(text()).is_some(),
        "volume_head" => {
            let mut block = bytes.to_vec();
            block.resize(bundle_format::volume::HEAD_BYTES, 0);
            Head::parse(&block).is_ok()
        }
        "custody" if name == "receipt" => Receipt::parse(text()).is_ok(),
        "custody" => UnverifiedCustody::parse(bytes).is_ok_and(|chain| chain.check().is_ok()),
        "documents" => match name {
            "approval" => UnverifiedApproval::parse(bytes).is_ok(),
            "plan" => PlanDocument::parse(bytes).is_ok(),
            "set" => SetList::parse(bytes).is_ok(),
            "provenance" | "provenance-unsigned" => {
                provenance::check(bytes, fuzz_targets::plain_manifest(), anchor().root()).is_ok()
            }
            "inventory" => Inventory::claimed(bytes).is_ok(),
            "public" => AppliancePublic::parse(bytes).is_ok(),
            "time" => Timestamp::parse(text()).is_ok(),
            "image" => bundle_format::reference::ImageName::parse(text()).is_ok(),
            _ => Marking::parse(text()).is_ok(),
        },
        _ => false,
    }
}

/// The committed anchor.
fn anchor() -> TrustedRoot {
    keys::anchor(&RootEnvelope::parse(fuzz_targets::ANCHOR).unwrap())
}

/// Whether the committed anchor and the list of what was signed are those of the TEST keys.
pub fn is_current(anchor: &[u8], signed: &str) -> bool {
    let made = all();
    RootEnvelope::parse(anchor).is_ok_and(|envelope| *envelope.claimed() == *root(1, &[]).claimed())
        && signed == made.signed
}

fn pack(kind: u8, size: usize, coded: usize, stored: &[u8]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    [&[kind][..], &number(size), &number(coded), stored].concat()
}

/// Differences of both codings, of one segment and of two, to bases of both.
fn deltas() -> Vec<(&'static str, Vec<u8>)> {
    let big = |number: usize, bytes: usize| u64::try_from(number).unwrap().to_be_bytes()[8 - bytes..].to_vec();
    let [gzip, former] = [&gzips()[0].1, &gzips()[5].1].map(Clone::clone);
    let (tokens, former_tokens) = (encode(&gzip), encode(&former));
    let (text, former_text) =
        (b"TEST former line, later word\n".repeat(9), b"TEST former line, former word\n".repeat(9));
    let delta = |kind: u8, base: &[u8], size: usize, pieces: &[(&[u8], &[u8], usize)]| {
        let (mut heads, mut stored) = (Vec::new(), Vec::new());
        for (piece, prefix, from) in pieces {
            let frame = bundle_format::pack::encode_segment(prefix, piece, 3).unwrap();
            for (number, bytes) in [(frame.len(), 2), (piece.len(), 3), (*from, 3), (prefix.len(), 3)] {
                heads.extend(big(number, bytes));
            }
            stored.extend(frame);
        }
        let segments = u8::try_from(pieces.len() - 1).unwrap() << 2;
        [&[kind | segments][..], &big(base.len(), 2), base, &big(size, 3), &heads, &stored].concat()
    };
    let (one, two) = text.split_at(100);
    let pieces: [(&[u8], &[u8], usize); 2] = [(one, &former_text[..150], 0), (two, &former_text[50..], 50)];
    vec![
        ("plain", delta(0, &former_text, text.len(), &pieces)),
        ("tokens", delta(3, &former, gzip.len(), &[(&tokens, &former_tokens, 0)])),
        ("tokens-on-plain", delta(1, &former_text, gzip.len(), &[(&tokens, &former_text, 0)])),
        ("beyond-its-base", delta(0, &former_text, text.len(), &[(&text, &b"TEST ".repeat(99), 0)])),
    ]
}

fn encode(gzip: &[u8]) -> Vec<u8> {
    let (mut out, mut encoder) = (Vec::new(), TokenEncoder::new());
    encoder.push(gzip, &mut out).and_then(|()| encoder.finish(&mut out)).unwrap();
    out
}

fn decodes(tokens: &[u8]) -> bool {
    let (mut out, mut decoder) = (Vec::new(), TokenDecoder::new(1 << 20));
    decoder.push(tokens, &mut out).and_then(|()| decoder.finish(&mut out)).is_ok()
}

/// Small gzip files of several compressors.
fn gzips() -> [(&'static str, Vec<u8>); 6] {
    macro_rules! vector {
        ($name:literal) => {
            ($name, include_bytes!(concat!("../../manifests/tests/vectors-gzip/", $name, ".gz")).to_vec())
        };
    }
    [
        vector!("hand-all-blocks"),
        vector!("hand-lengths-to-15"),
        vector!("hand-no-distance"),
        vector!("empty-twice"),
        vector!("header-everything"),
        vector!("members-mixed-headers"),
    ]
}

fn oci_documents() -> [(&'static str, String); 4] {
    let descriptor = |media_type: &str, bytes: &[u8], more: &str| {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{more}}}"#, Sha256::of(bytes), bytes.len())
    };
    let platform = r#","platform":{"architecture":"amd64","os":"linux"}"#;
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"layer", "");
    let docker = "application/vnd.docker";
    [
        (
            "index",
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
                oci::OCI_INDEX,
                descriptor(oci::OCI_MANIFEST, b"manifest", platform)
            ),
        ),
        (
            "manifest",
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{layer}]}}"#,
                oci::OCI_MANIFEST,
                descriptor(oci::OCI_CONFIG, b"config", "")
            ),
        ),
        (
            "docker",
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
                oci::DOCKER_MANIFEST,
                descriptor(&format!("{docker}.container.image.v1+json"), b"config", ""),
                descriptor(&format!("{docker}.image.rootfs.diff.tar.gzip"), b"layer", "")
            ),
        ),
        (
            "config",
            format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
                Sha256::of(b"diff")
            ),
        ),
    ]
}

fn lock() -> String {
    let (sha384, sha256) = (Sha384::of(b"release"), Sha256::of(b"index"));
    format!(
        "format: lockgate-lock/1\nrelease_sha384: {sha384}\ncreated: 2026-01-01T00:00:00Z\nimages:\n- name: registry.example/a:1\n  \
         source: oci:images:a\n  digest: {sha256}\n  media_type: {}\n  manifest: {sha256}\n  blobs:\n  - digest: {sha256}\n    \
         size: 1\n    media_type: x/y\nworkloads:\n- name: w\n  sha256: {sha256}\nfiles: []\nruntime: []\n",
        oci::OCI_MANIFEST
    )
}

fn plan() -> Plan {
    Plan {
        archive_size: 5_000_000,
        prologue_size: 30_000,
        prologue_sha384: Sha384::of(b"TEST"),
        originals: 1024,
        recovery: 128,
    }
}

/// A statement about the manifest without a blob, in its envelope.
fn statement(signers: &[Signer]) -> Vec<u8> {
    let manifest = fuzz_targets::plain_manifest();
    let statement = Statement {
        kind: provenance::STATEMENT.into(),
        subject: provenance::subjects(manifest),
        predicate_type: provenance::PREDICATE.into(),
        predicate: provenance::Predicate {
            build_definition: provenance::BuildDefinition {
                build_type: provenance::BUILD_TYPE.into(),
                external_parameters: provenance::Parameters {
                    product: manifest.product.clone(),
                    release: manifest.release.clone(),
                    sequence: manifest.sequence,
                    release_manifest_sha384: Sha384::of(b"release"),
                    lock_sha384: Sha384::of(b"lock"),
                },
                resolved_dependencies: vec![Resource::sha256("TEST", &Sha256::of(b"dependency"))],
            },
            run_details: provenance::RunDetails {
                builder: provenance::Builder {
                    id: "urn:test:builder".into(),
                    version: std::collections::BTreeMap::from([("TEST".into(), "1".into())]),
                },
            },
        },
    };
    let payload = provenance::to_payload(&statement).unwrap();
    let signatures: Vec<_> =
        signers.iter().flat_map(|signer| signer.sign_raw(&provenance::pae(&payload)).unwrap()).collect();
    provenance::seal(&payload, &signatures).unwrap()
}

fn documents(list: &SetList) -> Vec<(&'static str, Vec<u8>)> {
    let at = Timestamp::parse("2026-11-01T10:00:00Z").unwrap();
    let plan = PlanDocument {
        format: PLAN_FORMAT.into(),
        machine: String::new(),
        act: "install".into(),
        product: "test-product".into(),
        from: String::new(),
        to: "1.0 (sequence 7)".into(),
        marking: "SECRET//NOFORN".into(),
        manifest_sha384: Sha384::of(b"m").to_string(),
        floor: 0,
        expires: None,
        root_version: 1,
        root_expires: Some(at.clone()),
        dangerous: std::collections::BTreeSet::new(),
        steps: vec!["store".into()],
    };
    let approval = Approval::new(Sha384::of(&plan.to_bytes().unwrap()), "test-alice", "TEST", at.clone()).unwrap();
    let mut approval = UnverifiedApproval::new(approval).unwrap();
    alice().sign_approval(&mut approval).unwrap();
    let holder = alice().public().holder();
    let key = |scheme| holder.keys.iter().find(|key| key.scheme() == scheme).unwrap().clone();
    let public = AppliancePublic::new(Scheme::ALL.map(key));
    let inventory = Inventory {
        format: inventory::FORMAT.into(),
        key: public.fingerprint().unwrap(),
        at,
        marking: Marking::UNCLASSIFIED,
        releases: Vec::new(),
        blobs: vec![Blob { digest: Sha256::of(b"b"), size: 1 }],
        audit: Some(AuditHead { seq: 7, hash: Sha384::of(b"record") }),
    };
    let payload = inventory.to_bytes().unwrap();
    let mut signatures = Vec::new();
    for signature in alice().sign(&payload, &Inventory::comment(&payload)).unwrap() {
        signed::add(&mut signatures, signature);
    }
    let [signed_by, unsigned] = [vec![alice()], Vec::new()].map(|signers| statement(&signers));
    vec![
        ("provenance", signed_by),
        ("provenance-unsigned", unsigned),
        ("approval", approval.to_bytes().unwrap()),
        ("plan", plan.to_bytes().unwrap()),
        ("set", list.to_bytes().unwrap()),
        ("inventory", Inventory::seal(&payload, &signatures).unwrap()),
        ("public", public.to_bytes().unwrap()),
        ("time", b"2026-11-01T10:00:00Z".to_vec()),
        ("image", b"registry.example:5000/test/app:1.0".to_vec()),
        ("marking", b"SECRET//NOFORN".to_vec()),
        ("marking-rel", b"TOP SECRET//REL TO USA, GBR".to_vec()),
    ]
}
