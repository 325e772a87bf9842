//! `kube play` and `kube down`: Kubernetes documents in, pods out.

use std::io::Write as _;

use serde::Deserialize as _;
use serde_yaml::Value;

use super::held::{Container, Held, Pod};
use super::{Answer, fail};

/// A pod as its document wants it.
struct Wanted {
    name: String,
    containers: Vec<(String, String, bool)>,
    ports: Vec<u64>,
    claims: Vec<String>,
    config_maps: Vec<String>,
    secrets: Vec<String>,
}

pub(super) fn play(held: &mut Held, words: &[&str]) -> Answer {
    let ["--replace", "--network", network, file] = words else {
        return fail(format!("lockgate-test-podman does not know: kube play {}", words.join(" ")));
    };
    let (wanted, maps) = parse(file)?;
    if !held.networks.contains_key(*network) {
        return fail(format!("unable to find network with name or ID {network}: network not found"));
    }
    for pod in &wanted {
        held.pods.remove(&pod.name);
    }
    for map in maps.iter().filter(|map| !held.volumes.contains(*map)).cloned().collect::<Vec<_>>() {
        held.make_volume(&map);
    }
    for pod in wanted {
        start(held, network, pod)?;
    }
    Ok("Pod:\n".into())
}

pub(super) fn down(held: &mut Held, file: &str) -> Answer {
    let (wanted, _) = parse(file)?;
    let missing: Vec<&str> =
        wanted.iter().filter(|pod| held.pods.remove(&pod.name).is_none()).map(|pod| pod.name.as_str()).collect();
    if missing.is_empty() { Ok("Pods removed:\n".into()) } else { fail(format!("no such pod: {}", missing.join(", "))) }
}

fn start(held: &mut Held, network: &str, wanted: Wanted) -> Answer<()> {
    for (_, image, _) in &wanted.containers {
        if !held.images.contains_key(image) {
            return fail(format!("{image}: image not known"));
        }
    }
    if let Some(missing) = wanted.claims.iter().chain(&wanted.config_maps).find(|name| !held.volumes.contains(*name)) {
        return fail(format!("no volume with name \"{missing}\" found: no such volume"));
    }
    if let Some(missing) = wanted.secrets.iter().find(|name| !held.secrets.contains_key(*name)) {
        return fail(format!("no secret with name or id \"{missing}\": no such secret"));
    }
    let taken = |port: &&u64| held.pods.values().any(|pod| pod.ports.contains(port));
    let taken = wanted.ports.iter().find(taken).copied();
    let broken = wanted
        .containers
        .iter()
        .map(|(_, image, _)| held.images[image].manifest.clone())
        .find(|digest| held.knobs().broken.contains(digest));
    // A pod that cannot start is there all the same, and somebody has to take it away.
    let running = taken.is_none() && broken.is_none();
    let mut containers = Vec::new();
    for (own, image, probe) in wanted.containers {
        let (digest, number) = (held.images[&image].manifest.clone(), held.number());
        containers.push(Container {
            name: format!("{}-{own}", wanted.name),
            id: format!("{number:064x}"),
            image,
            digest,
            running,
            started: number,
            restarts: 0,
            health: probe.then(|| "starting".to_owned()),
        });
    }
    if running {
        for claim in &wanted.claims {
            for container in &containers {
                work(held, claim, &container.digest);
            }
        }
    }
    let pod = Pod {
        id: format!("{:064x}", held.number()),
        name: wanted.name.clone(),
        network: network.to_owned(),
        ports: if taken.is_some() { Vec::new() } else { wanted.ports },
        claims: wanted.claims,
        config_maps: wanted.config_maps,
        paused: false,
        containers,
    };
    held.pods.insert(wanted.name, pod);
    match (taken, broken) {
        (Some(port), _) => {
            fail(format!("cannot listen on the TCP port: listen tcp4 :{port}: bind: address already in use"))
        }
        (_, Some(digest)) => fail(format!("crun: {digest}: the container does not start: OCI runtime error")),
        _ => Ok(()),
    }
}

/// What a container does with its data when it starts: a line in the journal, the form of the data.
fn work(held: &Held, volume: &str, digest: &str) {
    let folder = held.volume(volume);
    let journal = std::fs::read_to_string(folder.join("journal")).unwrap_or_default();
    if journal.lines().last() != Some(digest) {
        append(held, volume, digest);
    }
    std::fs::write(folder.join("schema"), digest).unwrap();
}

/// Adds a line to a volume's journal.
pub(super) fn append(held: &Held, volume: &str, line: &str) {
    let path = held.volume(volume).join("journal");
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// The pods and `ConfigMaps` of a file.
fn parse(file: &str) -> Answer<(Vec<Wanted>, Vec<String>)> {
    let text = std::fs::read_to_string(file).or_else(|e| fail(format!("{file}: {e}: no such file or directory")))?;
    let (mut pods, mut maps) = (Vec::new(), Vec::new());
    for document in serde_yaml::Deserializer::from_str(&text) {
        let value = Value::deserialize(document).or_else(|e| fail(format!("{file}: {e}")))?;
        let name = word(&value["metadata"]["name"]);
        match value["kind"].as_str() {
            Some("ConfigMap") => maps.push(name),
            Some("Pod") => pods.push(pod(name, &value["spec"])),
            // As podman 5.4 names it.
            Some("Deployment") => pods.push(pod(format!("{name}-pod"), &value["spec"]["template"]["spec"])),
            kind => return fail(format!("{file}: unsupported kind {kind:?}")),
        }
    }
    Ok((pods, maps))
}

fn pod(name: String, spec: &Value) -> Wanted {
    let list = |value: &Value| value.as_sequence().cloned().unwrap_or_default();
    let mut pod = Wanted {
        name,
        containers: Vec::new(),
        ports: Vec::new(),
        claims: Vec::new(),
        config_maps: Vec::new(),
        secrets: Vec::new(),
    };
    for volume in list(&spec["volumes"]) {
        pod.claims.extend(volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned));
        pod.config_maps.extend(volume["configMap"]["name"].as_str().map(str::to_owned));
        pod.secrets.extend(volume["secret"]["secretName"].as_str().map(str::to_owned));
    }
    for container in list(&spec["containers"]) {
        pod.containers.push((
            word(&container["name"]),
            word(&container["image"]),
            !container["livenessProbe"].is_null(),
        ));
        pod.ports.extend(list(&container["ports"]).iter().filter_map(|port| port["hostPort"].as_u64()));
        let names = list(&container["env"]);
        let names = names.iter().filter_map(|env| env["valueFrom"]["secretKeyRef"]["name"].as_str());
        pod.secrets.extend(names.map(str::to_owned));
    }
    pod
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
