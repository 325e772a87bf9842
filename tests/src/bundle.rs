//! Small real bundles in memory, sound or with one damage.

use bundle_format::Result;
use bundle_format::archive::ArchiveWriter;
use bundle_format::digest::Sha256;
use bundle_format::envelope::{UnverifiedEnvelope, trusted_comment};
use bundle_format::manifest::{
    Blob, FORMAT, Frame, Image, Manifest, Network, PackageFile, PlainFile, Requires, Runtime, Secret, Workload,
};
use bundle_format::marking::Marking;
use bundle_format::pack::{Encoding, Held, NoSink, PackWriter, unpack};
use bundle_format::root::{RootEnvelope, TrustedRoot};
use bundle_format::signature::{AlgorithmPolicy, Signature};
use bundle_format::timestamp::Timestamp;
use signing_keys::Signer;

use crate::keys;

/// A bundle before sealing: every part may be changed.
#[derive(Debug)]
pub struct Draft {
    /// What will be signed.
    pub manifest: Manifest,
    /// Stored bytes of each pack.
    pub packs: Vec<Vec<u8>>,
    /// The chain of roots.
    pub roots: Vec<RootEnvelope>,
    /// Who signs.
    pub signers: Vec<Signer>,
}

/// The members of an archive in their order, signed as they were then.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Name and bytes.
    pub members: Vec<(String, Vec<u8>)>,
}

impl Draft {
    /// A bundle without packs, under the two-of-three root, to be signed by two.
    pub fn empty() -> Self {
        let manifest = Manifest {
            format: FORMAT.into(),
            product: "test-product".into(),
            release: "1.0".into(),
            sequence: 7,
            marking: Marking::UNCLASSIFIED,
            platform: "linux/amd64".into(),
            title: "TEST bundle".into(),
            created: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            expires: None,
            requires: Requires { memory_mib: 64, disk_mib: 64 },
            lifecycle: bundle_format::lifecycle::Lifecycle::default(),
            network: Network { name: "test".into(), internal: true },
            images: Vec::new(),
            secrets: Vec::new(),
            workloads: Vec::new(),
            files: Vec::new(),
            runtime: Vec::new(),
            attachments: Vec::new(),
            bases: Vec::new(),
            packs: Vec::new(),
        };
        let signers = vec![keys::alice(), keys::bob()];
        Self { manifest, packs: Vec::new(), roots: vec![keys::two_of_three()], signers }
    }

    /// A small bundle of every part: an image and a runtime package in a zstd pack, a workload and
    /// two files in a raw one.
    pub fn small() -> Self {
        let mut draft = Self::empty();
        let (document, config, layer) = (b"{\"TEST\":\"manifest\"}", b"{\"TEST\":\"config\"}", [b'L'; 700]);
        let zstd = Encoding::Zstd { level: 3 };
        draft.add_pack(zstd, &[document, config, &layer, b"TEST package"]);
        draft.add_pack(Encoding::Raw, &[b"kind: Pod", b"read me", b"licence"]);
        let digest = Sha256::of(document);
        let mut blobs = vec![digest, Sha256::of(config), Sha256::of(&layer)];
        blobs.sort();
        draft.manifest.images.push(Image {
            name: "registry.example/test/app".into(),
            tag: "1.0".into(),
            digest,
            manifest: digest,
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            blobs,
        });
        draft.manifest.workloads.push(Workload { name: "app".into(), digest: Sha256::of(b"kind: Pod") });
        for (path, content) in [("docs/readme", &b"read me"[..]), ("docs/licence", b"licence")] {
            draft.manifest.files.push(PlainFile { path: path.into(), digest: Sha256::of(content) });
        }
        draft.manifest.secrets.push(Secret::Password { name: "app-password".into() });
        draft.manifest.secrets.push(Secret::TlsSelfSigned { name: "app-tls".into(), hosts: vec!["localhost".into()] });
        draft.manifest.runtime.push(Runtime {
            os: "debian-13".into(),
            install: vec!["podman".into()],
            packages: vec![PackageFile { name: "podman_5.4_amd64.deb".into(), digest: Sha256::of(b"TEST package") }],
        });
        draft
    }

    /// The small bundle under a root of one signer: fewer bytes to flip, and quicker to prove.
    pub fn tiny() -> Self {
        let alice = keys::alice();
        let roots = vec![keys::signed_root(1, 1, &[&alice], &[&alice])];
        Self { roots, signers: vec![alice], ..Self::small() }
    }

    /// Release `sequence` of one pod on a tiny image, for the simulated engine: container `tc-app`, claim
    /// `tc-data`, backed up by copy; two backups are kept.
    pub fn pod(sequence: u64) -> Self {
        let mut draft = Self::empty();
        let config = br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let document = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Sha256::of(config), "size": config.len()},
        });
        let document = document.to_string().into_bytes();
        let digest = Sha256::of(&document);
        let pod = format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: tc-data}}\n---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: tc}}\nspec:\n  containers:\n    - name: app\n      image: registry.example/test/app@{digest}\n      \
             livenessProbe: {{exec: {{command: [\"true\"]}}, periodSeconds: 5}}\n      \
             volumeMounts: [{{name: data, mountPath: /data}}]\n  \
             volumes: [{{name: data, persistentVolumeClaim: {{claimName: tc-data}}}}]\n"
        );
        draft.add_pack(Encoding::Raw, &[&document, config, pod.as_bytes()]);
        let manifest = &mut draft.manifest;
        (manifest.sequence, manifest.release) = (sequence, format!("{sequence}.0"));
        manifest.requires = Requires { memory_mib: 1, disk_mib: 1 };
        manifest.network.internal = false;
        manifest.lifecycle.stable_seconds = 0;
        let data = serde_json::json!([{"volume": "tc-data", "backup": {"method": "copy"}, "keep": 2}]);
        manifest.lifecycle.data = serde_json::from_value(data).unwrap();
        manifest.images.push(Image {
            name: "registry.example/test/app".into(),
            tag: "1".into(),
            digest,
            manifest: digest,
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            blobs: {
                let mut blobs = vec![digest, Sha256::of(config)];
                blobs.sort();
                blobs
            },
        });
        manifest.workloads.push(Workload { name: "tc".into(), digest: Sha256::of(pod.as_bytes()) });
        draft
    }

    /// Appends a pack of blobs; nothing names them yet.
    pub fn add_pack(&mut self, encoding: Encoding, blobs: &[&[u8]]) {
        let mut writer = PackWriter::new(Vec::new(), encoding).unwrap();
        for content in blobs {
            let blob = Blob { digest: Sha256::of(content), size: content.len() as u64 };
            writer.blob(blob, &mut &content[..]).unwrap();
        }
        let (pack, stored) = writer.finish(self.packs.len()).unwrap();
        self.manifest.packs.push(pack);
        self.packs.push(stored);
    }

    /// Appends a pack of blobs and names each as a file.
    pub fn add_files(&mut self, encoding: Encoding, blobs: &[&[u8]]) {
        self.add_pack(encoding, blobs);
        let number = self.packs.len() - 1;
        for (index, content) in blobs.iter().enumerate() {
            let path = format!("files/{number}/{index}");
            self.manifest.files.push(PlainFile { path, digest: Sha256::of(content) });
        }
    }

    /// Replaces a pack's stored bytes by one frame with a fitting SHA-384: only what is inside can
    /// be wrong now.
    pub fn reframe(&mut self, pack: usize, stored: Vec<u8>) {
        self.manifest.packs[pack].frames = vec![Frame::of(&stored)];
        self.packs[pack] = stored;
    }

    /// The manifest's text, consistent or not.
    pub fn text(&self) -> String {
        String::from_utf8(bundle_format::json::to_bytes("manifest", &self.manifest).unwrap()).unwrap()
    }

    /// The signatures of all signers over a manifest's text.
    pub fn signatures(&self, text: &[u8]) -> Vec<Signature> {
        let comment = trusted_comment(&self.manifest, text);
        self.signers.iter().flat_map(|signer| signer.sign(text, &comment).unwrap()).collect()
    }

    /// Signs the manifest as it is.
    pub fn sealed(&self) -> Sealed {
        self.sealed_text(self.text().into_bytes())
    }

    /// Signs any text in the manifest's place.
    pub fn sealed_text(&self, text: Vec<u8>) -> Sealed {
        let signatures = self.signatures(&text);
        self.sealed_with(text, signatures)
    }

    /// Any text with any signatures.
    pub fn sealed_with(&self, text: Vec<u8>, signatures: Vec<Signature>) -> Sealed {
        let mut members = UnverifiedEnvelope::new(text, signatures, self.roots.clone()).members().unwrap();
        for (index, stored) in self.packs.iter().enumerate() {
            members.push((bundle_format::manifest::pack_name(index), stored.clone()));
        }
        Sealed { members }
    }

    /// The signed archive.
    pub fn archive(&self) -> Vec<u8> {
        self.sealed().archive()
    }

    /// The site's trust in this bundle's first root.
    pub fn trusted(&self) -> TrustedRoot {
        keys::anchor(&self.roots[0])
    }
}

impl Sealed {
    /// The archive of the members.
    pub fn archive(&self) -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new());
        for (name, bytes) in &self.members {
            writer.member(name, bytes.len() as u64, &mut &bytes[..]).unwrap();
        }
        writer.finish().unwrap()
    }

    /// Bytes of the first member whose name has these ends.
    pub fn find(&mut self, prefix: &str, suffix: &str) -> &mut Vec<u8> {
        let found = self.members.iter_mut().find(|(name, _)| name.starts_with(prefix) && name.ends_with(suffix));
        &mut found.unwrap().1
    }

    /// Without the members that `drop` names.
    #[must_use]
    pub fn without(mut self, drop: impl Fn(&str) -> bool) -> Self {
        self.members.retain(|(name, _)| !drop(name));
        self
    }
}

/// The complete proof of an archive, as `verify` runs it, with the default policy.
pub fn prove(archive: &[u8], trusted: &TrustedRoot) -> Result<()> {
    prove_with(archive, trusted, AlgorithmPolicy::default())
}

/// The complete proof with a policy.
pub fn prove_with(archive: &[u8], trusted: &TrustedRoot, policy: AlgorithmPolicy) -> Result<()> {
    let (head, mut packs) = UnverifiedEnvelope::read(archive)?;
    let manifest = head.verify(trusted, policy)?;
    unpack(&mut packs, &manifest, Held::Nothing, &mut NoSink, 1, &mut |_| {})
}
