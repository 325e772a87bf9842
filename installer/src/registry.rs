//! A pull-only OCI registry on loopback (OCI distribution-spec 1.1, "pull"), for the engine alone.
//!
//! Threats: another program on this machine asking for what it should not see, or asking in a way
//! that hurts. Defences: GET and HEAD only, only the manifest's own repositories and blobs, only by
//! digest, no path reaches the file system, bounded heads, connections and waits. The engine checks
//! every digest itself.

use std::collections::BTreeMap;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bundle_format::digest::Sha256;
use bundle_format::manifest::Manifest;
use nix::poll::{PollFd, PollFlags, poll};

use crate::error::{Error, Result};
use crate::store::Store;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 32;
/// Wait for a client's bytes, and for a whole request head: a client that trickles holds no place.
const PATIENCE: Duration = Duration::from_secs(10);
/// Milliseconds after which the accepting thread looks whether it is to stop.
const LOOK_UP: u8 = 200;

/// A running registry; it ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    clients: Clients,
}

/// Connections that are open, so that they can be shut when the registry ends.
type Clients = Arc<Mutex<BTreeMap<u64, TcpStream>>>;

/// What may be asked for: repository and digest, with the media type of manifests and the size.
struct Routes {
    store: Store,
    allowed: BTreeMap<(String, Sha256), Entry>,
}

#[derive(Clone)]
struct Entry {
    media_type: Option<String>,
    size: u64,
}

impl Registry {
    /// Serves the images of `manifest` out of `store` on a free port of 127.0.0.1.
    pub fn serve(store: &Store, manifest: &Manifest) -> Result<Self> {
        let routes = Arc::new(Routes { store: store.clone(), allowed: allowed(store, manifest)? });
        let io = |e| Error::io("loopback registry", e);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io)?;
        let addr = listener.local_addr().map_err(io)?;
        let stop = Arc::new(AtomicBool::new(false));
        let clients = Clients::default();
        let (stopped, open) = (Arc::clone(&stop), Arc::clone(&clients));
        // One that gave up between the look and the taking must not hold the thread.
        listener.set_nonblocking(true).map_err(io)?;
        let thread = std::thread::spawn(move || accept(&listener, &routes, &stopped, &open));
        Ok(Self { addr, stop, thread: Some(thread), clients })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the accepting thread at once; if that fails it looks up by itself soon.
        drop(TcpStream::connect(self.addr));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        for client in self.clients.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // One that is closed already needs no closing.
            drop(client.shutdown(Shutdown::Both));
        }
    }
}

fn allowed(store: &Store, manifest: &Manifest) -> Result<BTreeMap<(String, Sha256), Entry>> {
    let sizes = manifest.blob_sizes();
    let mut allowed = BTreeMap::new();
    for image in &manifest.images {
        let repository = image.name.split_once('/').map_or(image.name.as_str(), |(_, repository)| repository);
        for digest in &image.blobs {
            let size = sizes.get(digest).copied().unwrap_or(0);
            let document = *digest == image.digest || *digest == image.manifest;
            let media_type = if document { Some(media_type(store, image, digest)?) } else { None };
            allowed.insert((repository.to_owned(), *digest), Entry { media_type, size });
        }
    }
    Ok(allowed)
}

/// The signed media type for what the name resolves to; a platform manifest inside an index says
/// its own, which the OCI format leaves optional.
fn media_type(store: &Store, image: &bundle_format::manifest::Image, digest: &Sha256) -> Result<String> {
    if *digest == image.digest {
        return Ok(image.media_type.clone());
    }
    let bytes = store.read_small(digest, bundle_format::limits::OCI_DOCUMENT_BYTES)?;
    let own = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|document| document.get("mediaType")?.as_str().map(str::to_owned));
    Ok(own.unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".into()))
}

fn accept(listener: &TcpListener, routes: &Arc<Routes>, stop: &Arc<AtomicBool>, clients: &Clients) {
    for id in 0u64.. {
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        while !stop.load(Ordering::Acquire) && poll(&mut waiting, LOOK_UP) != Ok(1) {}
        if stop.load(Ordering::Acquire) {
            return;
        }
        let client = listener.accept().map(|(client, _)| client);
        let Some((client, kept)) = client.ok().and_then(|client| client.try_clone().ok().map(|kept| (client, kept)))
        else {
            // Out of descriptors: a pause lets connections end.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let mut open = clients.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= CONNECTIONS {
            continue;
        }
        open.insert(id, kept);
        drop(open);
        let (routes, stop, clients) = (Arc::clone(routes), Arc::clone(stop), Arc::clone(clients));
        std::thread::spawn(move || {
            // A client that breaks off or waits too long has its connection closed; the engine asks again.
            drop(converse(&client, &routes, &stop));
            clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }
}

/// Answers requests on one connection until the client ends it.
fn converse(client: &TcpStream, routes: &Routes, stop: &AtomicBool) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut pending = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let Some(request) = read_head(client, &mut pending)? else { return Ok(()) };
        let answered = answer(client, routes, request)?;
        if answered == Connection::Close {
            return Ok(());
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Keep,
    Close,
}

#[derive(Debug)]
enum Request {
    Read { method: Method, path: String, range: Option<String>, connection: Connection },
    Refused(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

/// Reads one request head; bytes behind it stay in `pending`.
fn read_head(mut client: &TcpStream, pending: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let mut buffer = [0; 4096];
    let started = Instant::now();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(pending) {
            Ok(httparse::Status::Complete(length)) => {
                let request = to_request(&parsed);
                pending.drain(..length);
                return Ok(Some(request));
            }
            Ok(httparse::Status::Partial) if pending.len() < HEAD_BYTES => {}
            Ok(httparse::Status::Partial) => return Ok(Some(Request::Refused("431 Request Header Fields Too Large"))),
            Err(_) => return Ok(Some(Request::Refused("400 Bad Request"))),
        }
        let count = client.read(&mut buffer)?;
        if count == 0 || started.elapsed() > PATIENCE {
            return Ok(None);
        }
        pending.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
    }
}

fn to_request(parsed: &httparse::Request<'_, '_>) -> Request {
    let header = |name: &str| {
        parsed
            .headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case(name))
            .map(|h| String::from_utf8_lossy(h.value).into_owned())
    };
    let method = match parsed.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Request::Refused("405 Method Not Allowed"),
    };
    // A page in a browser on this machine must not reach us under another name (DNS rebinding).
    if !header("host").is_some_and(|host| host.starts_with("127.0.0.1:")) {
        return Request::Refused("400 Bad Request");
    }
    // A body would have to be told apart from the next request; no reader of ours sends one.
    if header("transfer-encoding").is_some()
        || parsed.headers.iter().any(|h| h.name.eq_ignore_ascii_case("content-length") && h.value != b"0")
    {
        return Request::Refused("400 Bad Request");
    }
    let close =
        parsed.version == Some(0) || header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let connection = if close { Connection::Close } else { Connection::Keep };
    Request::Read { method, path: parsed.path.unwrap_or("").to_owned(), range: header("range"), connection }
}

fn answer(client: &TcpStream, routes: &Routes, request: Request) -> std::io::Result<Connection> {
    let (method, path, range, connection) = match request {
        Request::Refused(status) => {
            send_error(client, status, Method::Get)?;
            return Ok(Connection::Close);
        }
        Request::Read { method, path, range, connection } => (method, path, range, connection),
    };
    if path == "/v2/" || path == "/v2" {
        send_head(client, "200 OK", &[("Content-Type", "application/json"), ("Content-Length", "2")])?;
        if method == Method::Get {
            (&mut { client }).write_all(b"{}")?;
        }
        return Ok(connection);
    }
    let Some((digest, entry)) = find(routes, &path) else {
        send_error(client, "404 Not Found", method)?;
        return Ok(connection);
    };
    let Ok(mut file) = routes.store.open_blob(&digest) else {
        send_error(client, "404 Not Found", method)?;
        return Ok(connection);
    };
    // A blob of another size is damaged: better no answer than a wrong one.
    if file.metadata()?.len() != entry.size {
        send_error(client, "500 Internal Server Error", method)?;
        return Ok(Connection::Close);
    }
    let (status, start, length) = match range.as_deref().map(|range| parse_range(range, entry.size)) {
        None => ("200 OK", 0, entry.size),
        Some(Some((start, length))) => ("206 Partial Content", start, length),
        Some(None) => {
            send_error(client, "416 Range Not Satisfiable", method)?;
            return Ok(connection);
        }
    };
    let content_range = format!("bytes {start}-{}/{}", (start + length).saturating_sub(1), entry.size);
    let (length_text, digest_text) = (length.to_string(), digest.to_string());
    let media_type = entry.media_type.as_deref().unwrap_or("application/octet-stream");
    let mut headers = vec![
        ("Content-Type", media_type),
        ("Content-Length", &length_text),
        ("Docker-Content-Digest", &digest_text),
        ("Accept-Ranges", "bytes"),
    ];
    if status.starts_with("206") {
        headers.push(("Content-Range", &content_range));
    }
    send_head(client, status, &headers)?;
    if method == Method::Get {
        file.seek(SeekFrom::Start(start))?;
        let sent = std::io::copy(&mut file.take(length), &mut { client })?;
        if sent != length {
            return Ok(Connection::Close);
        }
    }
    Ok(connection)
}

/// `/v2/<repository>/(manifests|blobs)/sha256:<hex>`, out of the list of what is allowed.
fn find(routes: &Routes, path: &str) -> Option<(Sha256, Entry)> {
    let rest = path.strip_prefix("/v2/")?;
    let (head, digest) = rest.rsplit_once('/')?;
    let (repository, kind) = head.rsplit_once('/')?;
    let digest = Sha256::parse(digest).ok()?;
    let entry = routes.allowed.get(&(repository.to_owned(), digest))?;
    match kind {
        "manifests" if entry.media_type.is_some() => Some((digest, entry.clone())),
        "blobs" => Some((digest, entry.clone())),
        _ => None,
    }
}

/// `bytes=A-` and `bytes=A-B` (RFC 9110, 14.1.2): start and length.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let end: u64 =
        if end.is_empty() { size.checked_sub(1)? } else { end.parse::<u64>().ok()?.min(size.checked_sub(1)?) };
    (start <= end).then(|| (start, end - start + 1))
}

fn send_head(client: &TcpStream, status: &str, headers: &[(&str, &str)]) -> std::io::Result<()> {
    let mut out = BufWriter::new(client);
    write!(out, "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n")?;
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    out.write_all(b"\r\n")?;
    out.flush()
}

fn send_error(client: &TcpStream, status: &str, method: Method) -> std::io::Result<()> {
    let body = r#"{"errors":[{"code":"UNSUPPORTED","message":"not served here"}]}"#;
    let length = body.len().to_string();
    send_head(client, status, &[("Content-Type", "application/json"), ("Content-Length", &length)])?;
    if method == Method::Get { (&mut { client }).write_all(body.as_bytes()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-", 10), Some((0, 10)));
        assert_eq!(parse_range("bytes=3-5", 10), Some((3, 3)));
        assert_eq!(parse_range("bytes=9-99", 10), Some((9, 1)));
        for bad in ["bytes=10-", "bytes=5-3", "bytes=-5", "items=0-1", "bytes=a-", "bytes=0-1,2-3"] {
            assert_eq!(parse_range(bad, 10), None, "{bad}");
        }
        assert_eq!(parse_range("bytes=0-", 0), None);
    }
}
