//! What every cut starts from: two signed releases made by the real builder, and prepared folders
//! in which the real installer has brought the simulated engine to a known state.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha256;

use super::case::{Case, PAGE};
use crate::engine::{Held, Knobs};
use crate::site::{Said, Site, program};

/// Name of the product, its network, and the beginning of everything else.
pub const PRODUCT: &str = "cut";
/// Containers with a claim: the database of the first workload, the server of the second.
pub const CONTAINERS: [&str; 2] = ["cut-db-db", "cut-web-pod-web"];

/// Lines of the journals: written by a person before the update, after it, after the backup; by the
/// migration.
pub const ACKNOWLEDGED: &str = "acknowledged";
/// Written under the second release.
pub const UNDER_NEW: &str = "under-new";
/// Written after the backup.
pub const LATER: &str = "later";
/// Written by the second release's migration.
pub const MIGRATED: &str = "migrated";

/// The low side, the bundles and the prepared folders.
pub struct Ground {
    site: Site,
    /// Digests of the images of the first release: database, server.
    pub old: [String; 2],
    /// Of the second.
    pub new: [String; 2],
}

impl Ground {
    /// Makes releases and bundles; nothing is installed yet.
    #[allow(clippy::new_without_default, reason = "it makes keys and bundles; nothing about it is a default")]
    pub fn new() -> Self {
        // In memory where the machine has room there: a cut is about what was done, not about disks.
        let base = [Path::new("/dev/shm"), Path::new("/var/tmp")].into_iter().find(|path| path.is_dir()).unwrap();
        let site = Site::bare(base, 0);
        let images = site.path("release/images");
        let mut entries = Vec::new();
        let mut digests = Vec::new();
        for name in ["db-1", "web-1", "db-2", "web-2"] {
            let (entry, digest) = image(&images, name);
            entries.push(entry);
            digests.push(digest);
        }
        fs::write(images.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(images.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")))
            .unwrap();
        let [a, b, c, d] = <[String; 4]>::try_from(digests).unwrap();
        let ground = Self { site, old: [a, b], new: [c, d] };
        for (sequence, bundle) in [(1, "one.tar"), (2, "two.tar")] {
            ground.bundle(bundle, sequence, |text| text);
        }
        let bin = ground.path("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program("lockgate-test-podman"), bin.join("podman")).unwrap();
        // The installer keeps a copy of itself: without what only a debugger reads, that takes no time.
        let strip = ground.site.tool("strip", &["-o", "bin/installer", &program("installer").display().to_string()]);
        strip.expect(0);
        ground
    }

    /// A path in the ground.
    pub fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// A prepared folder, or a case of its own.
    pub fn case(&self, name: &str) -> Case {
        Case { bin: self.path("bin"), folder: self.path(name) }
    }

    /// Makes the prepared folder `name` out of `from` by `make`.
    pub fn prepare(&self, name: &str, from: Option<&str>, make: impl FnOnce(&Case)) {
        let case = self.case(&format!("prepared/{name}"));
        match from {
            Some(from) => case.copy_of(&self.case(&format!("prepared/{from}"))),
            None => fs::create_dir_all(&case.folder).unwrap(),
        }
        make(&case);
    }

    /// The folder of a machine that trusts a root and has nothing installed.
    pub fn prepare_fresh(&self) {
        self.prepare("fresh", None, |case| {
            let root = self.path("root-1.json").display().to_string();
            case.installer(&["trust", "init", &root, "--fingerprint", &self.site.fingerprint()]).expect(0);
        });
    }

    /// The folders that need no cut to be made.
    pub fn prepare_whole(&self) {
        let (one, two) = (self.path("one.tar").display().to_string(), self.path("two.tar").display().to_string());
        self.prepare_fresh();
        self.prepare("one", Some("fresh"), |case| {
            case.installer(&["--yes", "install", &one]).expect(0);
            write(case, ACKNOWLEDGED);
        });
        self.prepare("two", Some("one"), |case| {
            case.installer(&["--yes", "install", &two]).expect(0);
            write(case, UNDER_NEW);
        });
        self.prepare("sick", Some("one"), |case| {
            let sick = self.new.iter().take(1).cloned().collect();
            Knobs { unhealthy: sick, ..Knobs::default() }.set(&case.engine());
        });
        self.prepare("saved", Some("one"), |case| {
            let said: Said = case.installer(&["--json", "backup", "make"]).expect(0);
            let said: serde_json::Value = serde_json::from_str(said.out.trim()).unwrap();
            fs::rename(said["backup"].as_str().unwrap(), self.path("backup")).unwrap();
            write(case, LATER);
        });
    }

    /// A signed bundle of a release whose text `edit` changes.
    pub fn bundle(&self, name: &str, sequence: u64, edit: impl FnOnce(String) -> String) {
        self.release(sequence, edit);
        self.site.bundle(name, &["alice", "bob"]);
    }

    fn release(&self, sequence: u64, edit: impl FnOnce(String) -> String) {
        // The second release changes the form of the data, and asks for it.
        let lifecycle = if sequence == 1 {
            String::new()
        } else {
            let db = CONTAINERS[0];
            format!(
                "  migrations:\n    - {{name: form, since: 2, container: {db}, up: [lockgate-test-write, {MIGRATED}]}}\n  \
                 checks:\n    - {{name: form, kind: exec, container: {db}, command: [lockgate-test-journal], expect: sha256}}\n    \
                 - {{name: page, kind: http, port: {PAGE}, path: /, status: 200}}\n"
            )
        };
        let text = format!(
            "format: lockgate-release/1\nproduct: {PRODUCT}\nrelease: \"{sequence}.0\"\nsequence: {sequence}\n\
             marking: UNCLASSIFIED\nplatform: linux/amd64\ntitle: TEST release\nrequires: {{memory_mib: 1, disk_mib: 1}}\n\
             images:\n  - {{name: \"registry.example/test/db:{sequence}\", source: \"oci:images:db-{sequence}\"}}\n  \
             - {{name: \"registry.example/test/web:{sequence}\", source: \"oci:images:web-{sequence}\"}}\n\
             network: {{name: {PRODUCT}, internal: false}}\n\
             secrets:\n  - {{name: {PRODUCT}-password, kind: password}}\n  - {{name: {PRODUCT}-tls, kind: tls-self-signed, hosts: [localhost]}}\n\
             lifecycle:\n  deadline_seconds: 1\n  stable_seconds: 0\n  data:\n    \
             - {{volume: {PRODUCT}-data, backup: {{method: postgres, container: {db}, database: x, host: /tmp}}, keep: 2}}\n    \
             - {{volume: {PRODUCT}-files, backup: {{method: copy}}, keep: 2}}\n{lifecycle}\
             workloads: [{{name: db, file: db.yaml}}, {{name: web, file: web.yaml}}]\nfiles: []\nruntime: []\n",
            db = CONTAINERS[0]
        );
        fs::write(self.path("release/r.yaml"), edit(text)).unwrap();
        let claim = |name: &str| {
            format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {PRODUCT}-{name}}}\nspec:\n  \
                 accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: 1Mi}}}}\n---\n"
            )
        };
        let probe = "livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 5}";
        let db = format!(
            "{}apiVersion: v1\nkind: Pod\nmetadata: {{name: {PRODUCT}-db}}\nspec:\n  containers:\n    - name: db\n      \
             image: registry.example/test/db:{sequence}\n      {probe}\n      env:\n        - name: PASSWORD\n          \
             valueFrom: {{secretKeyRef: {{name: {PRODUCT}-password, key: password}}}}\n      \
             volumeMounts: [{{name: data, mountPath: /data}}]\n  volumes:\n    - name: data\n      \
             persistentVolumeClaim: {{claimName: {PRODUCT}-data}}\n",
            claim("data")
        );
        fs::write(self.path("release/db.yaml"), db).unwrap();
        let web = format!(
            "{}apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {PRODUCT}-pages}}\ndata: {{index.html: \"TEST {sequence}\"}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {PRODUCT}-web}}\nspec:\n  replicas: 1\n  \
             selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      containers:\n        \
             - name: web\n          image: registry.example/test/web:{sequence}\n          {probe}\n          \
             ports: [{{containerPort: 8080, hostPort: 18080, hostIP: 127.0.0.1}}]\n          \
             volumeMounts: [{{name: files, mountPath: /files}}, {{name: pages, mountPath: /pages}}, {{name: tls, mountPath: /tls}}]\n      volumes:\n        \
             - name: files\n          persistentVolumeClaim: {{claimName: {PRODUCT}-files}}\n        \
             - name: pages\n          configMap: {{name: {PRODUCT}-pages}}\n        \
             - name: tls\n          secret: {{secretName: {PRODUCT}-tls}}\n",
            claim("files")
        );
        fs::write(self.path("release/web.yaml"), web).unwrap();
    }
}

/// A person's line in both journals; it counts as acknowledged once this returns.
fn write(case: &Case, line: &str) {
    for container in CONTAINERS {
        case.podman(&["exec", container, "lockgate-test-write", line]).expect(0);
    }
    let held = Held::read(&case.engine());
    assert!(held.containers().count() == CONTAINERS.len());
}

/// A small image `name` in the layout at `folder`: its entry of the index, and its digest. All share
/// the first layer.
fn image(folder: &Path, name: &str) -> (String, String) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let layers = ["base", name].map(|text| {
        let tar = [crate::ustar::plain(&format!("etc/{text}"), text.as_bytes()), crate::ustar::END.to_vec()].concat();
        blob(&tar)
    });
    let [(a, a_size), (b, b_size)] = layers;
    let (config, config_size) = blob(
        format!(r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{a}","{b}"]}}}}"#)
            .as_bytes(),
    );
    let (kind, layer) = ("application/vnd.oci.image", "application/vnd.oci.image.layer.v1.tar");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"{layer}","digest":"{a}","size":{a_size}}},{{"mediaType":"{layer}","digest":"{b}","size":{b_size}}}]}}"#
    );
    let (digest, size) = blob(manifest.as_bytes());
    let entry = format!(
        r#"{{"mediaType":"{kind}.manifest.v1+json","digest":"{digest}","size":{size},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}"#
    );
    (entry, digest)
}
