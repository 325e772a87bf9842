//! `pull`: manifest, config and layers by HTTP from the loopback mirror that registries.conf names;
//! every byte is proved by its digest.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bundle_format::digest::Sha256;
use serde_json::Value;

use super::held::{Held, Image};
use super::{Answer, fail};

/// Longer than this no test's registry takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn pull(held: &mut Held, words: &[&str]) -> Answer {
    let (["--quiet", reference] | [reference]) = words else {
        return fail(format!("lockgate-test-podman does not know: pull {}", words.join(" ")));
    };
    let Some((name, digest)) = reference.split_once('@') else { return fail(format!("{reference}: no digest")) };
    let Some((host, repository)) = name.split_once('/') else { return fail(format!("{reference}: no registry")) };
    let mirror = mirror(host)?;
    let get = |kind: &str, digest: &str| fetch(&mirror, &format!("/v2/{repository}/{kind}/{digest}"), digest);
    let top = document(&get("manifests", digest)?)?;
    let (manifest, parsed) = match top.get("manifests").and_then(Value::as_array) {
        None => (digest.to_owned(), top),
        Some(entries) => {
            let fits = |entry: &&Value| {
                entry.pointer("/platform/architecture") == Some(&"amd64".into())
                    && entry.pointer("/platform/os") == Some(&"linux".into())
            };
            let Some(chosen) = entries.iter().find(fits).and_then(|entry| entry["digest"].as_str()) else {
                return fail(format!("{reference}: no image found for linux/amd64"));
            };
            (chosen.to_owned(), document(&get("manifests", chosen)?)?)
        }
    };
    let text = |value: &Value| value["digest"].as_str().unwrap_or_default().to_owned();
    let config = text(&parsed["config"]);
    get("blobs", &config)?;
    for layer in parsed["layers"].as_array().into_iter().flatten() {
        get("blobs", &text(layer))?;
    }
    held.images.insert((*reference).to_owned(), Image { manifest, config: config.clone() });
    Ok(format!("{config}\n"))
}

fn document(bytes: &[u8]) -> Answer<Value> {
    serde_json::from_slice(bytes).or_else(|e| fail(format!("manifest: {e}")))
}

/// The mirror of `host` as registries.conf has it: its location comes behind the registry's own.
fn mirror(host: &str) -> Answer<String> {
    let Some(path) = std::env::var_os("CONTAINERS_REGISTRIES_CONF") else {
        return fail("no CONTAINERS_REGISTRIES_CONF: a pull would leave this machine");
    };
    let conf = std::fs::read_to_string(path).or_else(|e| fail(format!("registries.conf: {e}")))?;
    mirror_in(&conf, host)
}

fn mirror_in(conf: &str, host: &str) -> Answer<String> {
    let locations: Vec<&str> =
        conf.lines().filter_map(|line| line.trim().strip_prefix("location = \"")?.strip_suffix('"')).collect();
    match locations.as_slice() {
        [own, mirror] if *own == host && mirror.starts_with("127.0.0.1:") => Ok((*mirror).to_owned()),
        _ => fail(format!("registries.conf: no loopback mirror of {host}")),
    }
}

/// One GET on a connection of its own; the body is what hashes to `digest`, or it is refused.
fn fetch(mirror: &str, path: &str, digest: &str) -> Answer<Vec<u8>> {
    let answer = get(mirror, path).or_else(|e| fail(format!("pinging container registry {mirror}: {e}")))?;
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return fail(format!("{path}: no HTTP answer"));
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let body = &answer[end + 4..];
    if !head.starts_with("http/1.1 200 ") {
        return fail(format!("{path}: {}: manifest unknown", head.lines().next().unwrap_or_default()));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    if length != Some(body.len()) {
        return fail(format!("{path}: expected {length:?} bytes, found {}: unexpected EOF", body.len()));
    }
    let found = Sha256::of(body).to_string();
    if found == digest {
        return Ok(body.to_vec());
    }
    fail(format!("{path}: digest did not match, expected {digest}, got {found}"))
}

fn get(mirror: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(mirror)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {mirror}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proved_bytes_from_a_loopback_mirror_count() {
        let conf = |mirror: &str| {
            format!("[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\n")
        };
        assert_eq!(mirror_in(&conf("127.0.0.1:9"), "r.example").unwrap(), "127.0.0.1:9");
        assert!(mirror_in(&conf("10.0.0.1:9"), "r.example").is_err());
        assert!(mirror_in(&conf("127.0.0.1:9"), "other.example").is_err());

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mirror = listener.local_addr().unwrap().to_string();
        let answers = [
            "200 OK\r\nContent-Length: 4\r\n\r\nblob",
            "200 OK\r\nContent-Length: 5\r\n\r\nblob",
            "200 OK\r\nContent-Length: 4\r\n\r\nbloB",
            "404 Not Found\r\nContent-Length: 0\r\n\r\n",
        ];
        let server = std::thread::spawn(move || {
            for answer in answers {
                let (mut client, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let count = client.read(&mut request).unwrap();
                assert!(request[..count].starts_with(b"GET /v2/x HTTP/1.1\r\n"));
                client.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
            }
        });
        let digest = Sha256::of(b"blob").to_string();
        let fetch = || fetch(&mirror, "/v2/x", &digest);
        assert_eq!(fetch().unwrap(), b"blob");
        for word in ["unexpected EOF", "digest did not match", "manifest unknown"] {
            let refused = fetch().unwrap_err();
            assert!(refused.code == 125 && refused.text.contains(word), "{word}: {refused:?}");
        }
        server.join().unwrap();
    }
}
