//! The health gate: every container runs the signed image, every probe says healthy, every check of
//! the release passes, and nothing restarts for a while.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bundle_format::lifecycle::{Check, Lifecycle};

use crate::atomic::{self, Access};
use crate::engine::{self, Podman};
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;
use crate::release::{Container, Release};
use crate::signals::Stop;

/// Pause between two looks, while failures of a probe do not count yet (its start period).
const PAUSE: Duration = Duration::from_millis(500);
/// After this long a probe is asked no faster than its own period, because answers count.
const EAGER: Duration = Duration::from_secs(50);
/// A container without a probe must have run for this long.
const SETTLED: Duration = Duration::from_secs(3);
/// A plain HTTP answer comes within this.
const ANSWER: Duration = Duration::from_secs(10);
/// A command of a check ends within this.
const COMMAND: Duration = Duration::from_secs(60);
/// A check that is asked at the very deadline has at least this long.
const LEAST: Duration = Duration::from_secs(1);

/// A container that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthy {
    /// Its name.
    pub name: String,
    /// Digest of the image that runs.
    pub image_digest: String,
    /// How often it was restarted.
    pub restarts: i64,
    /// This very container and start of it.
    pub incarnation: String,
}

/// The gate that a release passes before it is committed.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// The engine.
    pub podman: &'a Podman,
    /// What has to be healthy.
    pub release: &'a Release,
    /// Where logs are kept.
    pub paths: &'a Paths,
    /// Time for all of it.
    pub deadline: Duration,
    /// Ends the waiting before its time.
    pub stop: &'a Stop,
}

impl Gate<'_> {
    /// Waits for health, then for a window without restarts, then runs the checks.
    pub fn pass(&self, lifecycle: &Lifecycle, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let started = Instant::now();
        let left = || self.deadline.saturating_sub(started.elapsed());
        let window = Duration::from_secs(lifecycle.stable_seconds);
        let all: Vec<&Container> = self.release.containers().collect();
        loop {
            let healthy = wait(self.podman, self.release, &all, self.paths, left(), self.stop, tell)?;
            let Some((container, why)) = self.restarted(&healthy, window)? else { break };
            if left().is_zero() {
                keep_log(self.podman, self.paths, &container);
                return Err(ErrorKind::Unstable { container, seconds: lifecycle.stable_seconds, why }.into());
            }
            tell(&format!("{container}: {why}; the window begins again"));
        }
        for check in &lifecycle.checks {
            let mut answer = None;
            loop {
                let (asked, room) = (Instant::now(), left().max(LEAST));
                match self.check(check, room) {
                    Ok(()) => break,
                    Err(error) if left().is_zero() || self.stop.asked() => {
                        keep_logs(self.podman, self.paths, self.release);
                        // That the time was over says less than the answer before.
                        let answer = answer.filter(|_| asked.elapsed() >= room);
                        return Err(answer.unwrap_or(error));
                    }
                    Err(error) => {
                        answer = Some(error);
                        std::thread::sleep(PAUSE);
                    }
                }
            }
            tell(&format!("check {} passes", check.name()));
        }
        Ok(())
    }

    /// Looks for as long as the window lasts; what restarted or stopped, if anything did.
    fn restarted(&self, healthy: &[Healthy], window: Duration) -> Result<Option<(String, String)>> {
        let started = Instant::now();
        while started.elapsed() < window && !self.stop.asked() {
            std::thread::sleep(PAUSE.min(window));
            let now = self.podman.containers(healthy.iter().map(|container| container.name.as_str()))?;
            for before in healthy {
                let why = match now.get(&before.name) {
                    Some(now) if now.running && now.incarnation == before.incarnation => continue,
                    Some(now) if now.running => format!("it was started anew ({} restarts)", now.restarts),
                    _ => "it stopped".into(),
                };
                return Ok(Some((before.name.clone(), why)));
            }
        }
        Ok(None)
    }

    /// Asks once, for no longer than is `left`.
    fn check(&self, check: &Check, left: Duration) -> Result<()> {
        let failed = |why: String| Error::from(ErrorKind::CheckFailed { check: check.name().to_owned(), why });
        match check {
            Check::Exec { container, command, expect, .. } => {
                let said = self.podman.exec(container, command).deadline(COMMAND.min(left)).output();
                let said = said.map_err(|error| match error.kind() {
                    ErrorKind::ChildTimeout { seconds, .. } => {
                        failed(format!("{}: no end after {seconds} s", command.join(" ")))
                    }
                    _ => error,
                })?;
                if said.code != 0 {
                    let end = bundle_format::text::escaped(said.stderr.trim());
                    return Err(failed(format!("{} ended with {}: {end}", command.join(" "), said.code)));
                }
                match expect.as_ref().filter(|text| !said.stdout.contains(text.as_str())) {
                    Some(text) => {
                        let found = bundle_format::text::escaped(said.stdout.trim());
                        Err(failed(format!("expected {text:?} in its output, found {found:?}")))
                    }
                    None => Ok(()),
                }
            }
            Check::Http { port, path, status, .. } => {
                let found = http_status(*port, path, ANSWER.min(left));
                let found = found.map_err(|e| failed(format!("port {port}: {e}")))?;
                if found == *status {
                    return Ok(());
                }
                Err(failed(format!("port {port}{path}: expected status {status}, found {found}")))
            }
        }
    }
}

/// Status of a plain HTTP/1.0 request to this machine, which answers within `patience`.
fn http_status(port: u16, path: &str, patience: Duration) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    stream.take(64).read_to_end(&mut head).map_err(|error| match error.kind() {
        // What a socket says whose time is over.
        std::io::ErrorKind::WouldBlock => {
            std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer in {patience:?}"))
        }
        _ => error,
    })?;
    let text = String::from_utf8_lossy(&head);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    status.ok_or_else(|| std::io::Error::other("no HTTP answer"))
}

/// Waits until every container of the release is healthy and runs its signed image, or somebody asks to stop.
pub fn wait_healthy(podman: &Podman, release: &Release, paths: &Paths, deadline: Duration, stop: &Stop) -> Result<()> {
    let all: Vec<&Container> = release.containers().collect();
    wait(podman, release, &all, paths, deadline, stop, &mut |_| ()).map(drop)
}

/// Waits for one container.
pub fn wait_healthy_one(
    podman: &Podman,
    release: &Release,
    paths: &Paths,
    name: &str,
    deadline: Duration,
    stop: &Stop,
) -> Result<()> {
    let one: Vec<&Container> = release.containers().filter(|container| container.name == name).collect();
    wait(podman, release, &one, paths, deadline, stop, &mut |_| ()).map(drop)
}

fn wait(
    podman: &Podman,
    release: &Release,
    containers: &[&Container],
    paths: &Paths,
    deadline: Duration,
    stop: &Stop,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Healthy>> {
    let started = Instant::now();
    let mut healthy: Vec<Healthy> = Vec::new();
    loop {
        let mut waiting = None;
        let open = containers.iter().filter(|container| !healthy.iter().any(|done| done.name == container.name));
        let open: Vec<&&Container> = open.collect();
        let now = podman.containers(open.iter().map(|container| container.name.as_str()))?;
        for container in open {
            let looked = look(podman, release, container, now.get(&container.name), started.elapsed());
            if looked.is_err() {
                keep_log(podman, paths, &container.name);
            }
            match looked? {
                Look::Healthy(done) => {
                    tell(&format!("{} is healthy", done.name));
                    healthy.push(done);
                }
                Look::NotYet(why) => waiting = Some((container, why)),
            }
        }
        let Some((container, why)) = waiting else { return Ok(healthy) };
        if stop.asked() {
            return Err(ErrorKind::Stopped.into());
        }
        if started.elapsed() >= deadline {
            let why = format!("{why} after {} s", deadline.as_secs());
            return Err(unhealthy(podman, paths, container, why));
        }
        let period = Duration::from_secs(container.probe_seconds.unwrap_or(2).max(2));
        std::thread::sleep(if started.elapsed() < EAGER { PAUSE } else { period });
    }
}

/// One look at every container: what is not as signed, or nothing.
pub fn problems(podman: &Podman, release: &Release) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let now = podman.containers(release.containers().map(|container| container.name.as_str()))?;
    for container in release.containers() {
        match look(podman, release, container, now.get(&container.name), SETTLED) {
            Ok(Look::Healthy(_)) => {}
            Ok(Look::NotYet(why)) => found.push(format!("{}: {why}", container.name)),
            // Not what was signed: named like the others, so that the rest is still shown.
            Err(error) if matches!(error.kind(), ErrorKind::WrongImage { .. }) => found.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

enum Look {
    Healthy(Healthy),
    NotYet(String),
}

fn look(
    podman: &Podman,
    release: &Release,
    container: &Container,
    now: Option<&engine::Container>,
    waited: Duration,
) -> Result<Look> {
    let Some(now) = now else { return Ok(Look::NotYet("it does not exist".into())) };
    if !now.running {
        return Ok(Look::NotYet(format!("it does not run (restarted {} times)", now.restarts)));
    }
    check_image(release, container, &now.image_digest)?;
    let mut health = now.health.clone();
    if container.probe_seconds.is_some() && health.as_deref() != Some("healthy") {
        // Without systemd nobody else asks the probe; its exit code is its answer.
        health = Some(if podman.probe(&container.name)? { "healthy".into() } else { "unhealthy".into() });
    }
    let passed = match (container.probe_seconds, health.as_deref()) {
        (Some(_), health) => health == Some("healthy"),
        (None, _) => waited >= SETTLED,
    };
    if passed {
        let done = Healthy {
            name: container.name.clone(),
            image_digest: now.image_digest.clone(),
            restarts: now.restarts,
            incarnation: now.incarnation.clone(),
        };
        return Ok(Look::Healthy(done));
    }
    Ok(Look::NotYet(format!("its probe says {}", health.as_deref().unwrap_or("nothing"))))
}

fn check_image(release: &Release, container: &Container, found: &str) -> Result<()> {
    let expected = release.image_of(container);
    let same = expected.is_some_and(|image| found == image.digest.to_string() || found == image.manifest.to_string());
    if same {
        return Ok(());
    }
    let expected = expected.map_or_else(|| container.image.clone(), |image| image.digest.to_string());
    Err(ErrorKind::WrongImage {
        container: container.name.clone(),
        expected,
        found: bundle_format::text::escaped(found),
    }
    .into())
}

fn log_path(paths: &Paths, container: &str) -> PathBuf {
    paths.logs().join(format!("{container}.log"))
}

/// Keeps a container's log; one that cannot be had is no reason to fail, the cause is told anyway.
fn keep_log(podman: &Podman, paths: &Paths, container: &str) {
    let text = podman.logs(container);
    drop(text.and_then(|text| atomic::write(&log_path(paths, container), text.as_bytes(), Access::Private)));
}

/// Keeps the logs of all of a release's containers that have one.
pub(crate) fn keep_logs(podman: &Podman, paths: &Paths, release: &Release) {
    release.containers().for_each(|container| keep_log(podman, paths, &container.name));
}

/// Keeps the container's log for a person and says where.
fn unhealthy(podman: &Podman, paths: &Paths, container: &Container, why: String) -> Error {
    let log = log_path(paths, &container.name);
    let kept = podman.logs(&container.name).and_then(|text| atomic::write(&log, text.as_bytes(), Access::Private));
    let why = match kept {
        Ok(()) => why,
        Err(error) => format!("{why} (and its log could not be kept: {error})"),
    };
    ErrorKind::Unhealthy { container: container.name.clone(), why, log }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_status_is_read_and_silence_is_not_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 503 x\r\n\r\n", "hello\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 256];
                let count = stream.read(&mut request).unwrap();
                assert!(request[..count].starts_with(b"GET /x HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert_eq!(http_status(port, "/x", ANSWER).unwrap(), 204);
        assert_eq!(http_status(port, "/x", ANSWER).unwrap(), 503);
        assert!(http_status(port, "/x", ANSWER).is_err());
        server.join().unwrap();
        // Who listens and never answers holds nobody longer than is left.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let began = Instant::now();
        let error = http_status(silent.local_addr().unwrap().port(), "/x", Duration::from_millis(300)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (std::io::ErrorKind::TimedOut, "no answer in 300ms"));
        assert!(began.elapsed() < ANSWER / 2, "{:?}", began.elapsed());
    }
}
