//! The token protocol and redirects, against a small server on loopback without TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use bundle_builder::ErrorKind;
use bundle_builder::source::{AuthFiles, PlainHttp, RegistryOptions};
use fixture::{collect_release, layout, pin_release, read_all, release};

/// Serves the layout at `root` until the test's process ends: tokens at `/token`, blobs behind a
/// redirect to the other name of loopback, which must not see the token.
fn serve(root: PathBuf, elsewhere: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &root, port, elsewhere);
        }
    });
    port
}

fn answer(mut stream: TcpStream, root: &Path, port: u16, elsewhere: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let authorization = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    let basic = format!("Basic {}", bundle_format::text::base64(b"test:TEST-password"));
    let blob = |hex: &str| fs::read(root.join("blobs/sha256").join(hex)).unwrap();
    let (status, header, body) = if let Some(query) = path.strip_prefix("/token?") {
        assert_eq!(query, "scope=repository%3Ateam%2Fapp%3Apull&service=s");
        if authorization.as_deref() == Some(&basic) {
            ("200 OK", String::new(), br#"{"token":"TEST"}"#.to_vec())
        } else {
            ("401 Unauthorized", String::new(), Vec::new())
        }
    } else if let Some(hex) = path.strip_prefix("/storage/") {
        assert_eq!(authorization, None, "the token went to another host");
        ("200 OK", String::new(), blob(hex))
    } else if authorization.as_deref() != Some("Bearer TEST") {
        let challenge = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\"");
        ("401 Unauthorized", format!("WWW-Authenticate: {challenge}\r\n"), Vec::new())
    } else if path.starts_with("/v2/team/app/manifests/") {
        let index = fs::read_to_string(root.join("index.json")).unwrap();
        let hex = index.split("sha256:").nth(1).unwrap()[..64].to_owned();
        ("200 OK", "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n".into(), blob(&hex))
    } else {
        let hex = path.rsplit(':').next().unwrap();
        ("307 Temporary Redirect", format!("Location: {elsewhere}:{port}/storage/{hex}\r\n"), Vec::new())
    };
    let head = format!("HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn options(dir: &Path, port: u16, pair: &str) -> RegistryOptions {
    let file = dir.join("auth.json");
    let auth = bundle_format::text::base64(pair.as_bytes());
    fs::write(&file, format!(r#"{{"auths":{{"127.0.0.1:{port}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    RegistryOptions { auth: AuthFiles::Named(file), ca_file: None, plain_http: PlainHttp::LoopbackOnly }
}

#[test]
fn a_token_is_fetched_and_kept_from_other_hosts() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("images"), "app", "one");
    let port = serve(dir.path().join("images"), "http://localhost");
    let path = release(dir.path(), &format!("docker://127.0.0.1:{port}/team/app:1"));
    let good = options(dir.path(), port, "test:TEST-password");
    pin_release(&path, &good).unwrap();
    assert_eq!(read_all(&collect_release(&path, &good).unwrap()).unwrap().len(), 7);
    let error = pin_release(&path, &options(dir.path(), port, "test:wrong")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
    let strict = RegistryOptions { plain_http: PlainHttp::Refused, ..good };
    assert!(pin_release(&path, &strict).is_err());
}

#[test]
fn a_redirect_that_drops_tls_or_leaves_loopback_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("images"), "app", "one");
    let port = serve(dir.path().join("images"), "http://elsewhere.example");
    let path = release(dir.path(), &format!("docker://127.0.0.1:{port}/team/app:1"));
    let error = pin_release(&path, &options(dir.path(), port, "test:TEST-password")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PlainHttp { .. }), "{error}");
}
