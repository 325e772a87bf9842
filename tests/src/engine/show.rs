//! What the simulated engine says of pods and containers, in podman's JSON.

use serde_json::{Value, json};

use super::held::{Container, Held, Pod};
use super::{Answer, Refusal, fail};

/// `pod ps --format json`.
pub(super) fn pods(held: &Held) -> String {
    let pod = |pod: &Pod| {
        let names: Vec<Value> = pod.containers.iter().map(|own| json!({"Names": own.name, "Id": own.id})).collect();
        json!({"Name": pod.name, "Id": pod.id, "Networks": [pod.network], "Containers": names,
            "Status": if pod.paused { "Paused" } else { "Running" }})
    };
    Value::Array(held.pods.values().map(pod).collect()).to_string() + "\n"
}

/// `ps -a --format json`.
pub(super) fn containers(held: &Held) -> String {
    let container = |own: &Container| json!({"Names": [own.name], "Id": own.id, "Image": own.image, "State": if own.running { "running" } else { "exited" }});
    Value::Array(held.containers().map(container).collect()).to_string() + "\n"
}

/// `container inspect`: those that are there are shown, those that are not make it end with 125.
pub(super) fn inspect(held: &mut Held, names: &[&str]) -> Answer {
    let knobs = held.knobs();
    let missing = names.iter().find(|name| held.container(name).is_none());
    if let Some(missing) = missing {
        let others: Vec<&str> = names.iter().copied().filter(|name| held.container(name).is_some()).collect();
        let shown = inspect(held, &others)?;
        return Err(Refusal { shown, ..Refusal::new(125, format!("no such container {missing}")) });
    }
    let mut shown = Vec::new();
    for name in names {
        let number = held.number();
        let found = held.pods.values_mut().find_map(|pod| {
            let paused = pod.paused;
            pod.containers.iter_mut().find(|own| own.name == *name).map(|own| (paused, own))
        });
        let Some((paused, own)) = found else { continue };
        if knobs.restarting.contains(&own.digest) {
            (own.restarts, own.started) = (own.restarts + 1, number);
        }
        let mut state = json!({"Running": own.running && !paused, "Paused": paused,
            "StartedAt": format!("2026-01-01T00:00:00.{:09}Z", own.started)});
        if let Some(health) = &own.health {
            state["Health"] = json!({"Status": health});
        }
        shown.push(json!({"Id": own.id, "Name": own.name, "ImageDigest": own.digest, "ImageName": own.image,
            "RestartCount": own.restarts, "State": state}));
    }
    Ok(Value::Array(shown).to_string() + "\n")
}

/// `healthcheck run`: 0 healthy, 1 not.
pub(super) fn probe(held: &mut Held, name: &str) -> Answer {
    let knobs = held.knobs();
    let pods = held.pods.values_mut().filter(|pod| !pod.paused);
    let Some(own) = pods.flat_map(|pod| &mut pod.containers).find(|own| own.name == name && own.running) else {
        return fail(format!("container {name} is not running"));
    };
    if own.health.is_none() {
        return fail(format!("container {name} has no defined healthcheck"));
    }
    let healthy = !knobs.unhealthy.contains(&own.digest);
    own.health = Some(if healthy { "healthy" } else { "unhealthy" }.into());
    if healthy { Ok(String::new()) } else { Err(Refusal::new(1, "unhealthy")) }
}
