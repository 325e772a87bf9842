//! A low side and a high side in one temporary folder, worked by the real programs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with signers, a trust root, a release and the installer's state.
pub struct Site {
    folder: tempfile::TempDir,
    /// Host port of the release's one pod; also makes its names unique.
    pub port: u16,
}

/// What a program said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Of a program that ended.
    pub fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use, reason = "most callers want the assertion alone")]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// The folder of the programs under test.
pub(crate) fn programs() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().unwrap().parent().unwrap().to_owned()
}

/// A program under test.
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// The folder with the reference images.
fn fixtures() -> PathBuf {
    let cache = || std::env::var_os("LOCKGATE_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/lockgate");
    let folder = std::env::var_os("LOCKGATE_FIXTURES")
        .map_or_else(|| cache().unwrap_or_else(home).join("fixtures"), PathBuf::from);
    assert!(
        folder.join("images/index.json").exists(),
        "no images in {}: run tests/setup/fixtures.sh",
        folder.display()
    );
    folder
}

impl Site {
    /// Three signers, a root of 2 of 3 signed by two, a release of one small pod on `port`.
    pub fn new(port: u16) -> Self {
        // Short: the engine's run folder has at most 50 characters.
        let site = Self::bare(Path::new("/var/tmp"), port);
        std::os::unix::fs::symlink(fixtures().join("images"), site.path("release/images")).unwrap();
        site.storage();
        site
    }

    /// The same below `base` without images and without an engine's storage.
    pub fn bare(base: &Path, port: u16) -> Self {
        let site = Self { folder: tempfile::Builder::new().prefix("lg").tempdir_in(base).unwrap(), port };
        for folder in ["keys", "release", "high"] {
            std::fs::create_dir(site.path(folder)).unwrap();
        }
        let mut init =
            vec!["root", "init", "--out", "root-1.json", "--threshold", "2", "--expires", "2036-01-01T00:00:00Z"];
        for (name, file) in
            [("alice", "keys/alice.signer.json"), ("bob", "keys/bob.signer.json"), ("carol", "keys/carol.signer.json")]
        {
            std::fs::write(site.path(&format!("keys/{name}.pass")), format!("TEST passphrase of {name}\n")).unwrap();
            let pass = format!("keys/{name}.pass");
            site.builder(&["keygen", "--name", name, "--out", "keys", "--passphrase-file", &pass]).expect(0);
            init.extend(["--signer", file]);
        }
        site.builder(&init).expect(0);
        for name in ["alice", "bob"] {
            site.sign_root("root-1.json", name);
        }
        site
    }

    /// The engine's own storage for this site, so that tests never meet the machine's.
    fn storage(&self) {
        let (graph, run) = (self.path("graph"), self.path("run"));
        let conf = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            graph.display(),
            run.display()
        );
        std::fs::write(self.path("storage.conf"), conf).unwrap();
    }

    /// A path in the site.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Name of pod, product and network.
    pub fn name(&self) -> String {
        format!("t{}", self.port)
    }

    fn run(&self, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path()).env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"));
        for (name, value) in env {
            command.env(name, value);
        }
        let output = command.output().unwrap_or_else(|e| panic!("{}: {e}; run make test", program.display()));
        Said::of(&output)
    }

    /// Runs `bundle-builder`.
    pub fn builder(&self, args: &[&str]) -> Said {
        self.run(&programs().join("bundle-builder"), args, &[])
    }

    /// Runs `installer` on this site's state.
    pub fn installer(&self, args: &[&str]) -> Said {
        self.installer_env(args, &[])
    }

    /// Runs `installer` with variables.
    pub fn installer_env(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let args = [&["--state-dir", "high/state"], args].concat();
        self.run(&programs().join("installer"), &args, env)
    }

    /// Acts on record behind number `after`: act, result, detail.
    pub fn acts(&self, after: usize) -> Vec<(String, String, String)> {
        let said = self.installer(&["audit", "export", "--since", &after.to_string()]).expect(0);
        let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
        let rows = said.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.map(|row| (text(&row, "act"), text(&row, "result"), text(&row, "detail"))).collect()
    }

    /// Runs any program.
    pub fn tool(&self, program: &str, args: &[&str]) -> Said {
        self.run(Path::new(program), args, &[])
    }

    /// Runs `installer` under another program, such as strace.
    pub fn installer_under(&self, program: &str, before: &[&str], args: &[&str]) -> Said {
        let installer = programs().join("installer").display().to_string();
        let args = [before, &[installer.as_str(), "--state-dir", "high/state"], args].concat();
        self.run(Path::new(program), &args, &[])
    }

    /// podman as the installer calls it on this site.
    pub fn podman(&self, args: &[&str]) -> Said {
        let conf = self.path("high/state/engine/containers.conf").display().to_string();
        let env = [("CONTAINERS_CONF", conf.as_str()), ("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")];
        self.run(Path::new("podman"), args, if Path::new(&conf).exists() { &env } else { &[] })
    }

    fn sign_root(&self, root: &str, name: &str) {
        let (key, pass) = (format!("keys/{name}"), format!("keys/{name}.pass"));
        self.builder(&["root", "sign", root, "--key", &key, "--passphrase-file", &pass]).expect(0);
    }

    /// Appended to a release by `edit`: no window without restarts, for quick tests.
    pub const QUICK: &'static str = "lifecycle: {stable_seconds: 1}\n";

    /// Writes the release with `edit` applied to its manifest and `probe` as the pod's probe.
    pub fn release(&self, sequence: u64, probe: &str, edit: impl FnOnce(String) -> String) {
        let (name, quick) = (self.name(), Self::QUICK);
        let text = format!(
            "format: lockgate-release/1\nproduct: {name}\nrelease: \"{sequence}.0\"\nsequence: {sequence}\nmarking: UNCLASSIFIED\n\
             platform: linux/amd64\ntitle: test release\nrequires: {{memory_mib: 16, disk_mib: 16}}\n\
             images:\n  - {{name: \"registry.example/test/minimal:1\", source: \"oci:images:minimal\"}}\n\
             network: {{name: {name}, internal: true}}\nsecrets: [{{name: {name}-password, kind: password}}]\n{quick}\
             workloads: [{{name: web, file: web.yaml}}]\nfiles: []\nruntime: []\n"
        );
        std::fs::write(self.path("release/r.yaml"), edit(text)).unwrap();
        let pod = format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}-data}}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
             resources: {{requests: {{storage: 1Mi}}}}\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  annotations: {{release: \"{sequence}\"}}\nspec:\n  \
             restartPolicy: Always\n  containers:\n    - name: web\n      image: registry.example/test/minimal:1\n      \
             imagePullPolicy: IfNotPresent\n      env:\n        - name: PASSWORD\n          valueFrom: {{secretKeyRef: {{name: {name}-password, key: password}}}}\n      \
             ports: [{{containerPort: 8080, hostPort: {port}, hostIP: 127.0.0.1}}]\n      \
             volumeMounts: [{{name: data, mountPath: /data}}]\n      livenessProbe:\n        exec: {{command: {probe}}}\n        \
             initialDelaySeconds: 60\n        periodSeconds: 5\n        timeoutSeconds: 5\n  volumes:\n    - name: data\n      persistentVolumeClaim: {{claimName: {name}-data}}\n",
            port = self.port
        );
        std::fs::write(self.path("release/web.yaml"), pod).unwrap();
    }

    /// A probe that the pod passes.
    pub const GOOD: &'static str = "[wget, -q, -O, /dev/null, \"http://127.0.0.1:8080/\"]";
    /// A probe that never passes.
    pub const BAD: &'static str = "[wget, -q, -O, /dev/null, \"http://127.0.0.1:9/\"]";

    /// Pins and builds the release as `bundle`, signed by `signers`.
    pub fn bundle(&self, bundle: &str, signers: &[&str]) {
        self.builder(&["pin", "release/r.yaml"]).expect(0);
        self.builder(&["build", "release/r.yaml", "--root", "root-1.json", "--out", bundle]).expect(0);
        for name in signers {
            let (key, pass) = (format!("keys/{name}"), format!("keys/{name}.pass"));
            self.builder(&["sign", bundle, "--key", &key, "--passphrase-file", &pass]).expect(0);
        }
    }

    /// The root's fingerprint, as a person would have received it.
    pub fn fingerprint(&self) -> String {
        let said = self.builder(&["--json", "root", "show", "root-1.json"]).expect(0);
        let parsed: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        parsed["sha384"].as_str().unwrap().to_owned()
    }

    /// Trusts the root.
    pub fn trust(&self) {
        self.installer(&["trust", "init", "root-1.json", "--fingerprint", &self.fingerprint()]).expect(0);
    }

    /// Asserts that the engine holds nothing of this site.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        for (what, args) in [
            ("pods", &["pod", "ps", "-q"][..]),
            ("containers", &["ps", "-aq"]),
            ("volumes", &["volume", "ls", "-q"]),
            ("secrets", &["secret", "ls", "-q"]),
        ] {
            assert_eq!(self.podman(args).expect(0).out, "", "{what} are left");
        }
        let images = self.podman(&["images", "-q", "registry.example/test/minimal"]).expect(0);
        assert_eq!(images.out, "", "images are left");
        let networks = self.podman(&["network", "ls", "--format", "{{.Name}}"]).expect(0).out;
        assert!(!networks.lines().any(|network| network == self.name()), "the network is left: {networks}");
        let blobs = self.path("high/state/store/blobs/sha256");
        assert!(!blobs.exists() || std::fs::read_dir(blobs).unwrap().next().is_none(), "blobs are left");
    }

    /// What the pod answers on its port.
    pub fn answers(&self) -> bool {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(2)).is_ok()
    }
}

impl Drop for Site {
    /// Whatever a failed test left is taken off this machine.
    fn drop(&mut self) {
        if self.path("graph").exists() {
            for args in [
                &["pod", "rm", "-fa"][..],
                &["rm", "-fa"],
                &["volume", "prune", "-f"],
                &["network", "rm", "-f", &self.name()],
                &["rmi", "-fa"],
            ] {
                drop(self.podman(args));
            }
            drop(self.tool("nft", &["delete", "table", "inet", &format!("lockgate_{}", self.name())]));
            drop(self.tool("umount", &[&self.path("graph/overlay").display().to_string()]));
        }
    }
}
