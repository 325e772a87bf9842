//! A simulated podman: it takes the command lines that the installer uses, keeps its state in a
//! folder, answers within milliseconds, and is as strict as the real one where strictness shows
//! mistakes (images, volumes, secrets and networks must be there; what is in use is not removed).
//!
//! What it adds, so that data can be followed: a container that starts writes the digest of its
//! image to `journal` in each volume that it mounts, and `exec` knows commands to write and read it.
//! It is no engine: nothing runs, and it is not made to be killed itself.
#![allow(clippy::single_match_else, clippy::format_collect, reason = "a table of calls reads best in one form")]

mod held;
mod inside;
mod play;
mod pull;
mod show;

use std::path::Path;

pub use held::{Container, Held, Image, Knobs, Network, Pod};

/// The variable that names the folder of the state.
pub const FOLDER: &str = "LOCKGATE_TEST_ENGINE";

/// Why a call ends badly: exit code and what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Exit code: 125 is podman's own failure, 1 a plain no, 2 something in use.
    pub code: i32,
    /// For standard output: what could be shown all the same.
    pub shown: String,
    /// For standard error; nothing is said for a plain no.
    pub text: String,
}

impl Refusal {
    fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, shown: String::new(), text: text.into() }
    }
}

pub(crate) type Answer<T = String> = Result<T, Refusal>;

/// podman's own failure.
pub(crate) fn fail<T>(text: impl Into<String>) -> Answer<T> {
    Err(Refusal::new(125, text))
}

/// Something is in use.
fn busy<T>(text: impl Into<String>) -> Answer<T> {
    Err(Refusal::new(2, text))
}

/// The answer of the `exists` verbs.
fn exists(yes: bool) -> Answer {
    if yes { Ok(String::new()) } else { Err(Refusal::new(1, "")) }
}

/// Runs one call on the state in `folder`; `input` is read only by calls that take standard input.
pub fn call(folder: &Path, args: &[String], input: impl FnOnce() -> Vec<u8>) -> Answer<Vec<u8>> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words == ["--version"] {
        return Ok(b"podman version 5.4.2\n".to_vec());
    }
    let mut held = Held::lock(folder);
    if let ["exec", rest @ ..] = words.as_slice() {
        return inside::exec(&held, rest, input);
    }
    let answer = dispatch(&mut held, &words, input);
    // Also a call that fails may have changed something: a pod that was made and did not start.
    held.save();
    answer.map(String::into_bytes)
}

fn dispatch(held: &mut Held, words: &[&str], input: impl FnOnce() -> Vec<u8>) -> Answer {
    match words {
        ["info", "--format", "{{.Store.GraphRoot}}"] => Ok(format!("{}\n", held.folder().join("storage").display())),
        ["info", "--format", "{{.Store.GraphDriverName}}"] => Ok("overlay\n".into()),
        ["pod", "ps", "--format", "{{.Name}}"] => Ok(lines(held.pods.keys())),
        ["ps", "--all", "--format", "{{.Names}}"] => Ok(lines(held.containers().map(|container| &container.name))),
        ["pull", rest @ ..] => pull::pull(held, rest),
        ["image", "exists", name] => exists(held.images.contains_key(*name)),
        ["rmi", name] => remove_image(held, name),
        ["volume", rest @ ..] => volume(held, rest),
        ["network", rest @ ..] => network(held, rest),
        ["secret", rest @ ..] => secret(held, rest, input),
        ["kube", "play", rest @ ..] => play::play(held, rest),
        ["kube", "down", file] => play::down(held, file),
        ["pod", "rm", "--force", "--ignore", name] => {
            held.pods.remove(*name);
            Ok(String::new())
        }
        ["pod", "stop", "--ignore", name] => {
            let inside = held.pods.get_mut(*name).into_iter().flat_map(|pod| &mut pod.containers);
            inside.for_each(|container| container.running = false);
            Ok(String::new())
        }
        ["pod", "exists", name] => exists(held.pods.contains_key(*name)),
        ["pod", "inspect", name] => match held.pods.get(*name) {
            Some(pod) => Ok(format!("{{\"State\": \"{}\"}}\n", if pod.paused { "Paused" } else { "Running" })),
            None => fail(format!("no pod with name or ID {name} found: no such pod")),
        },
        ["pod", verb @ ("pause" | "unpause"), name] => hold(held, name, *verb == "pause"),
        ["pod", "ps", "--format", "json"] => Ok(show::pods(held)),
        ["ps", "-a", "--format", "json"] => Ok(show::containers(held)),
        ["container", "exists", name] => exists(held.container(name).is_some()),
        ["container", "inspect", names @ ..] => show::inspect(held, names),
        ["healthcheck", "run", name] => show::probe(held, name),
        ["logs", .., name] => match held.container(name) {
            Some(container) => Ok(format!("TEST log of {} on {}\n", container.name, container.digest)),
            None => fail(format!("no container with name or ID \"{name}\" found: no such container")),
        },
        ["stop", .., name] => run_state(held, name, false),
        ["start", name] => run_state(held, name, true),
        other => fail(format!("lockgate-test-podman does not know: {}", other.join(" "))),
    }
}

fn remove_image(held: &mut Held, name: &str) -> Answer {
    if let Some(user) = held.containers().find(|container| container.image == name) {
        return busy(format!("image used by {}: image is in use by a container", user.name));
    }
    match held.images.remove(name) {
        Some(image) => Ok(format!("Deleted: {}\n", image.config)),
        None => Err(Refusal::new(1, format!("{name}: image not known"))),
    }
}

fn volume(held: &mut Held, words: &[&str]) -> Answer {
    match words {
        ["exists", name] => exists(held.volumes.contains(*name)),
        ["ls", ..] => Ok(held.volumes.iter().map(|name| format!("{name}\n")).collect()),
        ["create", name] if held.volumes.contains(*name) => fail(format!("volume {name}: volume already exists")),
        ["create", name] => {
            held.make_volume(name);
            Ok(format!("{name}\n"))
        }
        ["inspect", "--format", "{{.Mountpoint}}", name] if held.volumes.contains(*name) => {
            Ok(format!("{}\n", held.volume(name).display()))
        }
        ["inspect", .., name] => fail(format!("no such volume {name}")),
        ["rm", name] if !held.volumes.contains(*name) => {
            Err(Refusal::new(1, format!("no volume with name \"{name}\" found: no such volume")))
        }
        ["rm", name] => match held.pods.values().find(|pod| pod.volumes().any(|used| used == *name)) {
            Some(pod) => busy(format!("volume {name} is being used by {}", pod.name)),
            None => {
                held.remove_volume(name);
                Ok(format!("{name}\n"))
            }
        },
        other => fail(format!("lockgate-test-podman does not know: volume {}", other.join(" "))),
    }
}

fn lines<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("{name}\n")).collect()
}

fn network(held: &mut Held, words: &[&str]) -> Answer {
    match words {
        ["ls", "--format", "{{.Name}}"] => Ok(lines(held.networks.keys())),
        ["ls", "--filter", label, "--format", "{{.Name}}"] => {
            let label = label.strip_prefix("label=").unwrap_or(label);
            Ok(lines(held.networks.iter().filter(|(_, network)| network.label == label).map(|(name, _)| name)))
        }
        ["exists", name] => exists(held.networks.contains_key(*name)),
        ["create", "--label", label, name] => {
            if held.networks.contains_key(*name) {
                return fail(format!("network name {name} already used: network already exists"));
            }
            let network = Network { label: (*label).to_owned(), bridge: format!("lgt{}", held.number()) };
            held.networks.insert((*name).to_owned(), network);
            Ok(format!("{name}\n"))
        }
        ["inspect", name] => match held.networks.get(*name) {
            Some(network) => {
                Ok(serde_json::json!([{"name": name, "network_interface": network.bridge}]).to_string() + "\n")
            }
            None => fail(format!("network {name}: unable to find network with name or ID {name}: network not found")),
        },
        ["rm", name] if !held.networks.contains_key(*name) => {
            Err(Refusal::new(1, format!("unable to find network with name or ID {name}: network not found")))
        }
        ["rm", name] => match held.pods.values().find(|pod| pod.network == *name) {
            Some(pod) => busy(format!("\"{name}\" has associated containers with it: {}", pod.name)),
            None => {
                held.networks.remove(*name);
                Ok(format!("{name}\n"))
            }
        },
        other => fail(format!("lockgate-test-podman does not know: network {}", other.join(" "))),
    }
}

fn secret(held: &mut Held, words: &[&str], input: impl FnOnce() -> Vec<u8>) -> Answer {
    match words {
        ["ls", "--format", "{{.Name}}"] => Ok(lines(held.secrets.keys())),
        ["exists", name] => exists(held.secrets.contains_key(*name)),
        ["create", name, "-"] if held.secrets.contains_key(*name) => fail(format!("{name}: secret name in use")),
        ["create", name, "-"] => {
            let value = String::from_utf8_lossy(&input()).into_owned();
            if value.is_empty() {
                return fail("secret data must be larger than 0 and less than 512000 bytes");
            }
            held.secrets.insert((*name).to_owned(), value);
            Ok(format!("{name}\n"))
        }
        ["inspect", name] if held.secrets.contains_key(*name) => {
            Ok(serde_json::json!([{"Spec": {"Name": name}}]).to_string() + "\n")
        }
        ["inspect" | "rm", name] if !held.secrets.contains_key(*name) => {
            fail(format!("no secret with name or id \"{name}\": no such secret"))
        }
        ["rm", name] => {
            held.secrets.remove(*name);
            Ok(format!("{name}\n"))
        }
        other => fail(format!("lockgate-test-podman does not know: secret {}", other.join(" "))),
    }
}

/// Holds a pod still, or lets it go on: what is not the other way round is an error.
fn hold(held: &mut Held, name: &str, still: bool) -> Answer {
    let Some(pod) = held.pods.get_mut(name) else {
        return fail(format!("no pod with name or ID {name} found: no such pod"));
    };
    if pod.paused == still {
        return fail(format!("pod {name} is {}paused: container state improper", if still { "" } else { "not " }));
    }
    pod.paused = still;
    Ok(format!("{}\n", pod.id))
}

fn run_state(held: &mut Held, name: &str, running: bool) -> Answer {
    let number = held.number();
    match held.pods.values_mut().flat_map(|pod| &mut pod.containers).find(|container| container.name == name) {
        Some(container) => {
            if running && !container.running {
                container.started = number;
            }
            container.running = running;
            Ok(format!("{name}\n"))
        }
        None => fail(format!("no container with name or ID \"{name}\" found: no such container")),
    }
}

#[cfg(test)]
mod tests;
