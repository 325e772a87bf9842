//! `docker://` against a real registry on loopback, with TLS and credentials.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bundle_builder::ErrorKind;
use bundle_builder::source::{AuthFiles, PlainHttp, RegistryOptions};
use fixture::{collect_release, layout, pin_release, read_all, release, run};

/// `test` with the password `TEST-password`, bcrypt.
const HTPASSWD: &str = "test:$2b$05$yOs9eik26jFJ6BNeiFdLXe78t6/Y2LiCWOSkMWc3EH1lk65N6.mbm\n";

struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = dir.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/storage}}}}\nauth: \
             {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\nhttp: {{addr: '127.0.0.1:{port}', secret: test, tls: \
             {{certificate: {root}/server.crt, key: {root}/server.key}}}}\n"
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &format!("{root}/config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("these tests need the program docker-registry: {error}"));
        let registry = Self { child, dir, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        registry
    }

    fn push(&self, layout: &Path, name: &str, to: &str) {
        let certs = self.dir.path().join("certs");
        fs::create_dir_all(&certs).unwrap();
        fs::copy(self.dir.path().join("ca.crt"), certs.join("ca.crt")).unwrap();
        let (certs, source) =
            (format!("--dest-cert-dir={}", certs.display()), format!("oci:{}:{name}", layout.display()));
        let target = format!("docker://127.0.0.1:{}/{to}", self.port);
        let creds = "--dest-creds=test:TEST-password";
        run("skopeo", &["--insecure-policy", "copy", "-q", "--preserve-digests", &certs, creds, &source, &target]);
    }

    fn options(&self, pair: &str) -> RegistryOptions {
        let auth = bundle_format::text::base64(pair.as_bytes());
        let file = self.dir.path().join("auth.json");
        fs::write(&file, format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"{auth}"}}}}}}"#, self.port)).unwrap();
        RegistryOptions {
            auth: AuthFiles::Named(file),
            ca_file: Some(self.dir.path().join("ca.crt")),
            plain_http: PlainHttp::Refused,
        }
    }

    fn blob(&self, digest: &bundle_format::digest::Sha256) -> PathBuf {
        let hex = digest.hex();
        self.dir.path().join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(&hex).join("data")
    }
}

/// A CA and a certificate by it; webpki takes no certificate that is its own CA.
fn certificates(dir: &Path) {
    fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 -subj /CN=TEST-CA -days 2 -keyout @ca.key -out @ca.crt {key}"),
        format!("req -new -subj /CN=registry -keyout @server.key -out @server.csr {key}"),
        "x509 -req -in @server.csr -CA @ca.crt -CAkey @ca.key -CAcreateserial -out @server.crt -days 2 -extfile @ext"
            .into(),
    ] {
        let line = line.replace('@', &format!("{}/", dir.display()));
        run("openssl", &line.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn from_a_registry_with_tls_and_credentials() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    let layers = layout(&images, "app", "one");
    registry.push(&images, "app", "team/app:1");
    let options = registry.options("test:TEST-password");
    let path = release(dir.path(), &format!("docker://127.0.0.1:{}/team/app:1", registry.port));
    let lock = pin_release(&path, &options).unwrap();
    let collected = collect_release(&path, &options).unwrap();
    assert_eq!(read_all(&collected).unwrap().len(), 7);
    assert_eq!(lock.images[0].blobs[2].digest, layers[0]);

    let error = collect_release(&path, &registry.options("test:wrong")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
    let nobody = RegistryOptions { auth: AuthFiles::None, ..registry.options("test:TEST-password") };
    let error = collect_release(&path, &nobody).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
    let options = registry.options("test:TEST-password");
    let strangers = RegistryOptions { ca_file: None, ..options.clone() };
    let error = collect_release(&path, &strangers).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Tls { .. }), "{error:?}");

    // A flipped bit in the registry's own storage, then a lost layer.
    let data = registry.blob(&layers[1]);
    let good = fs::read(&data).unwrap();
    let mut bad = good.clone();
    bad[700] ^= 1;
    fs::write(&data, &bad).unwrap();
    let error = read_all(&collect_release(&path, &options).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceDigest { .. }), "{error:?}");
    fs::write(&data, &good[..700]).unwrap();
    let error = read_all(&collect_release(&path, &options).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceSize { .. }), "{error:?}");
    fs::remove_file(&data).unwrap();
    let error = read_all(&collect_release(&path, &options).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BlobMissing { .. }), "{error:?}");
    fs::write(&data, &good).unwrap();

    // The tag moves; then a tag that never was.
    layout(&images, "app", "two");
    registry.push(&images, "app", "team/app:1");
    let error = collect_release(&path, &options).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TagMoved { locked, found, .. } if *locked == lock.images[0].digest && found != locked),
        "{error}"
    );
    let never = release(dir.path(), &format!("docker://127.0.0.1:{}/team/app:never", registry.port));
    let error = pin_release(&never, &options).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TagMissing { .. }), "{error}");
    // By digest nothing moves.
    let digest = lock.images[0].digest;
    let fixed = release(dir.path(), &format!("docker://127.0.0.1:{}/team/app@{digest}", registry.port));
    assert_eq!(pin_release(&fixed, &options).unwrap().images[0].digest, digest);
}
