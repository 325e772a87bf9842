//! The health gate: every container runs the signed image, and every probe says healthy.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::atomic::{self, Access};
use crate::engine::Podman;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Paths;
use crate::release::{Container, Release};

/// Pause between two looks, while failures of a probe do not count yet (its start period).
const PAUSE: Duration = Duration::from_secs(2);
/// After this long a probe is asked no faster than its own period, because answers count.
const EAGER: Duration = Duration::from_secs(50);
/// A container without a probe must have run for this long.
const SETTLED: Duration = Duration::from_secs(3);

/// A container that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthy {
    /// Its name.
    pub name: String,
    /// Digest of the image that runs.
    pub image_digest: String,
    /// How often it was restarted.
    pub restarts: i64,
}

/// Waits until every container of the release is healthy and runs its signed image. `tell` hears of
/// each that has become so.
pub fn wait_healthy(
    podman: &Podman,
    release: &Release,
    paths: &Paths,
    deadline: Duration,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Healthy>> {
    let started = Instant::now();
    let mut healthy: Vec<Healthy> = Vec::new();
    loop {
        let mut waiting = None;
        for container in release.containers() {
            if healthy.iter().any(|done| done.name == container.name) {
                continue;
            }
            match look(podman, release, container, started.elapsed())? {
                Look::Healthy(done) => {
                    tell(&format!("{} is healthy", done.name));
                    healthy.push(done);
                }
                Look::NotYet(why) => waiting = Some((container, why)),
            }
        }
        let Some((container, why)) = waiting else { return Ok(healthy) };
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
    for container in release.containers() {
        if let Look::NotYet(why) = look(podman, release, container, SETTLED)? {
            found.push(format!("{}: {why}", container.name));
        }
    }
    Ok(found)
}

enum Look {
    Healthy(Healthy),
    NotYet(String),
}

fn look(podman: &Podman, release: &Release, container: &Container, waited: Duration) -> Result<Look> {
    let Some(mut now) = podman.container(&container.name)? else { return Ok(Look::NotYet("it does not exist".into())) };
    if !now.running {
        return Ok(Look::NotYet(format!("it does not run (restarted {} times)", now.restarts)));
    }
    check_image(release, container, &now.image_digest)?;
    if container.probe_seconds.is_some() && now.health.as_deref() != Some("healthy") {
        // Without systemd nobody else asks the probe.
        podman.probe(&container.name)?;
        now = match podman.container(&container.name)? {
            Some(now) => now,
            None => return Ok(Look::NotYet("it went away".into())),
        };
    }
    let passed = match (container.probe_seconds, now.health.as_deref()) {
        (Some(_), health) => health == Some("healthy"),
        (None, _) => waited >= SETTLED,
    };
    if passed && now.running {
        let done = Healthy { name: container.name.clone(), image_digest: now.image_digest, restarts: now.restarts };
        return Ok(Look::Healthy(done));
    }
    Ok(Look::NotYet(format!("its probe says {}", now.health.as_deref().unwrap_or("nothing"))))
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

/// Keeps the container's log for a person and says where.
fn unhealthy(podman: &Podman, paths: &Paths, container: &Container, why: String) -> Error {
    let log: PathBuf = paths.logs().join(format!("{}.log", container.name));
    let kept = podman.logs(&container.name).and_then(|text| atomic::write(&log, text.as_bytes(), Access::Private));
    let why = match kept {
        Ok(()) => why,
        Err(error) => format!("{why} (and its log could not be kept: {error})"),
    };
    ErrorKind::Unhealthy { container: container.name.clone(), why, log }.into()
}
