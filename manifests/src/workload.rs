//! Workloads: what the engine is told to run (`docs/spec/bundle-format.md`, 5.5). The builder refuses
//! here what the installer would.
//!
//! What may hurt it: YAML that the engine reads in another way, or that asks for the host. Who defends:
//! [`reach`], and the installer, which hands the engine only what it rendered from what was checked.

mod reach;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize as _;
use serde_yaml::Value;

use crate::lifecycle::Lifecycle;
use crate::manifest::{Image, Secret};

/// Why a workload is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The workload; `lifecycle` for what names its parts.
    pub workload: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workload {}: {}", self.workload, self.why)
    }
}

impl std::error::Error for Fault {}

/// What a workload is, or why it is none.
pub type Result<T> = std::result::Result<T, Fault>;

/// A workload with what is to be known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Name.
    pub name: String,
    /// The Kubernetes objects that are played: volume claims are left out, because podman 4.3 refuses
    /// to play one twice; their volumes are made beforehand.
    objects: Vec<Value>,
    /// Volume claims.
    pub volumes: Vec<String>,
    /// `ConfigMaps`; podman keeps each as a volume of that name.
    pub config_maps: Vec<String>,
    /// Pods.
    pub pods: Vec<Pod>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// Containers, as podman names them: `POD-CONTAINER`.
    pub containers: Vec<Container>,
    /// Ports on the host.
    pub ports: Vec<Port>,
    /// Claims that it mounts.
    pub claims: Vec<String>,
    /// Secrets that it reads.
    pub secrets: Vec<String>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `POD-CONTAINER`.
    pub name: String,
    /// `name@sha256:…`.
    pub image: String,
    /// Whether it has a probe, and how often that may be asked.
    pub probe_seconds: Option<u64>,
}

/// A port on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Address that it is bound to.
    pub address: String,
    /// Its number.
    pub number: u16,
    /// TCP and UDP have ports of their own.
    pub protocol: Protocol,
}

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, also where a workload does not say.
    Tcp,
    /// UDP.
    Udp,
}

/// All workloads of a release together: every container's image is one of the manifest's, by digest, every
/// secret one that the release makes, and what the lifecycle names is there: containers to run commands in,
/// volumes to back up.
pub fn check(workloads: &[Workload], images: &[Image], secrets: &[Secret], lifecycle: &Lifecycle) -> Result<()> {
    let containers = || workloads.iter().flat_map(|workload| &workload.pods).flat_map(|pod| &pod.containers);
    for workload in workloads {
        for container in workload.pods.iter().flat_map(|pod| &pod.containers) {
            if !images.iter().any(|image| image.reference() == container.image) {
                let (name, image) = (&container.name, crate::text::escaped(&container.image));
                let why = format!("container {name} names image {image}, which the manifest does not pin");
                return Err(Fault { workload: workload.name.clone(), why });
            }
        }
    }
    for workload in workloads {
        // The engine has those of other products as well.
        let mut read = workload.pods.iter().flat_map(|pod| &pod.secrets);
        if let Some(other) = read.find(|name| !secrets.iter().any(|secret| secret.name() == name.as_str())) {
            let why = format!("it reads the secret {}, which the release does not make", crate::text::escaped(other));
            return Err(Fault { workload: workload.name.clone(), why });
        }
    }
    let refuse = |why: String| Fault { workload: "lifecycle".into(), why };
    if let Some(missing) = lifecycle.containers().find(|name| !containers().any(|c| c.name == *name)) {
        return Err(refuse(format!("it names container {missing}, which no workload has")));
    }
    let claimed = |volume: &String| workloads.iter().any(|workload| workload.volumes.contains(volume));
    if let Some(missing) = lifecycle.data.iter().find(|data| !claimed(&data.volume)) {
        return Err(refuse(format!("it names volume {}, which no workload claims", missing.volume)));
    }
    Ok(())
}

impl Workload {
    /// Reads a workload's bytes.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| Fault { workload: name.into(), why: "its YAML is not UTF-8".into() })?;
        Self::parse(name, text)
    }

    /// Parses a workload's documents.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let refuse = |why: String| Fault { workload: name.to_owned(), why };
        let mut workload = Self {
            name: name.to_owned(),
            objects: Vec::new(),
            volumes: Vec::new(),
            config_maps: Vec::new(),
            pods: Vec::new(),
        };
        for document in serde_yaml::Deserializer::from_str(text) {
            let value = Value::deserialize(document).map_err(|e| refuse(e.to_string()))?;
            if value.is_null() {
                continue;
            }
            let object = text_at(&value, &["metadata", "name"])
                .ok_or_else(|| refuse("a document without metadata.name".into()))?;
            crate::name::check_label("object", object).map_err(|error| refuse(error.to_string()))?;
            match text_at(&value, &["kind"]) {
                Some("PersistentVolumeClaim") => {
                    workload.volumes.push(object.to_owned());
                    continue;
                }
                Some("ConfigMap") => workload.config_maps.push(object.to_owned()),
                Some("Pod") => workload.pods.push(pod(object, at(&value, &["spec"])).map_err(&refuse)?),
                // podman names a Deployment's pod `NAME-pod` (seen with 5.4).
                Some("Deployment") => {
                    let spec = at(&value, &["spec", "template", "spec"]);
                    workload.pods.push(pod(&format!("{object}-pod"), spec).map_err(&refuse)?);
                }
                kind => {
                    return Err(refuse(format!(
                        "kind {kind:?} is not one that we run: Pod, Deployment, ConfigMap, PersistentVolumeClaim"
                    )));
                }
            }
            reach::check(&value).map_err(&refuse)?;
            workload.objects.push(value);
        }
        let unknown = workload.pods.iter().flat_map(|pod| &pod.claims).find(|claim| !workload.volumes.contains(claim));
        if let Some(claim) = unknown {
            return Err(refuse(format!("a pod mounts claim {claim}, which this workload does not make")));
        }
        Ok(workload)
    }

    /// The YAML to be played, each claim under the name of the engine's volume.
    pub fn render(&self, volumes: &BTreeMap<String, String>) -> Result<String> {
        let refuse = |why: String| Fault { workload: self.name.clone(), why };
        let mut yaml = String::new();
        for object in &self.objects {
            let mut object = object.clone();
            let spec = match text_at(&object, &["kind"]) {
                Some("Deployment") => at_mut(&mut object, &["spec", "template", "spec"]),
                _ => at_mut(&mut object, &["spec"]),
            };
            let mounted = spec.and_then(|spec| spec.get_mut("volumes")).and_then(Value::as_sequence_mut);
            for volume in mounted.into_iter().flatten() {
                let Some(claim) = at_mut(volume, &["persistentVolumeClaim", "claimName"]) else { continue };
                let name = claim.as_str().and_then(|claim| volumes.get(claim));
                let name = name.ok_or_else(|| refuse("a claim has no volume".into()))?;
                *claim = Value::String(name.clone());
            }
            let rendered = serde_yaml::to_string(&object).map_err(|e| refuse(e.to_string()))?;
            yaml.push_str(if yaml.is_empty() { "" } else { "---\n" });
            yaml.push_str(&rendered);
        }
        Ok(yaml)
    }
}

fn pod(name: &str, spec: Option<&Value>) -> std::result::Result<Pod, String> {
    let spec = spec.ok_or_else(|| format!("pod {name} has no spec"))?;
    let mut parsed = Pod {
        name: name.to_owned(),
        containers: Vec::new(),
        ports: Vec::new(),
        claims: Vec::new(),
        secrets: Vec::new(),
    };
    if at(spec, &["initContainers"]).is_some() {
        return Err(format!("pod {name} has initContainers, which this version does not run"));
    }
    for volume in at(spec, &["volumes"]).and_then(Value::as_sequence).into_iter().flatten() {
        parsed.claims.extend(text_at(volume, &["persistentVolumeClaim", "claimName"]).map(str::to_owned));
        if let Some(secret) = at(volume, &["secret"]) {
            let named =
                text_at(secret, &["secretName"]).ok_or_else(|| format!("pod {name} mounts a secret without a name"))?;
            parsed.secrets.push(named.to_owned());
        }
    }
    for container in at(spec, &["containers"]).and_then(Value::as_sequence).into_iter().flatten() {
        let own = text_at(container, &["name"]).ok_or_else(|| format!("pod {name} has a container without a name"))?;
        let image = text_at(container, &["image"]).ok_or_else(|| format!("container {own} has no image"))?;
        let period = |probe: &Value| at(probe, &["periodSeconds"]).and_then(Value::as_u64).unwrap_or(10);
        parsed.containers.push(Container {
            name: format!("{name}-{own}"),
            image: image.to_owned(),
            probe_seconds: at(container, &["livenessProbe"]).map(period),
        });
        for (list, place) in [("env", &["valueFrom", "secretKeyRef"][..]), ("envFrom", &["secretRef"])] {
            for secret in
                at(container, &[list]).and_then(Value::as_sequence).into_iter().flatten().filter_map(|v| at(v, place))
            {
                let named = text_at(secret, &["name"])
                    .ok_or_else(|| format!("container {own} reads a secret without a name"))?;
                parsed.secrets.push(named.to_owned());
            }
        }
        for port in at(container, &["ports"]).and_then(Value::as_sequence).into_iter().flatten() {
            parsed.ports.extend(host_port(port).map_err(|why| format!("container {own} {why}"))?);
        }
    }
    Ok(parsed)
}

/// The port of the host that a port of a container is given, if it is given one.
fn host_port(port: &Value) -> std::result::Result<Option<Port>, String> {
    let Some(number) = at(port, &["hostPort"]) else { return Ok(None) };
    let number = number.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    let number = number.ok_or("asks for a host port that is none")?;
    let protocol = match text_at(port, &["protocol"]).unwrap_or("TCP") {
        word if word.eq_ignore_ascii_case("TCP") => Protocol::Tcp,
        word if word.eq_ignore_ascii_case("UDP") => Protocol::Udp,
        _ => return Err("asks for a host port that is neither TCP nor UDP, which this version does not open".into()),
    };
    Ok(Some(Port { address: text_at(port, &["hostIP"]).unwrap_or("0.0.0.0").to_owned(), number, protocol }))
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(*key))
}

fn at_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, key| value.get_mut(*key))
}

fn text_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    const YAML: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
    - name: srv
      image: r.example/a@sha256:00
      ports:
        - {containerPort: 80, hostPort: 8080, hostIP: 127.0.0.1}
        - {containerPort: 514, hostPort: 5514, hostIP: 127.0.0.1, protocol: UDP}
        - {containerPort: 81, protocol: SCTP}
      livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 7}
  volumes:
    - name: d
      persistentVolumeClaim: {claimName: data}
";

    #[test]
    fn parses_and_leaves_claims_out() {
        let workload = Workload::parse("w", YAML).unwrap();
        assert_eq!(workload.volumes, ["data"]);
        assert_eq!(workload.pods[0].containers[0].name, "web-srv");
        assert_eq!(workload.pods[0].containers[0].probe_seconds, Some(7));
        let port = |number, protocol| Port { address: "127.0.0.1".into(), number, protocol };
        assert_eq!(workload.pods[0].ports, [port(8080, Protocol::Tcp), port(5514, Protocol::Udp)]);
        let volumes = BTreeMap::from([("data".to_owned(), "data.g2".to_owned())]);
        let yaml = workload.render(&volumes).unwrap();
        assert!(!yaml.contains("kind: PersistentVolumeClaim") && yaml.contains("kind: Pod"), "{yaml}");
        assert!(yaml.contains("claimName: data.g2") && !yaml.contains("claimName: data\n"), "{yaml}");
        assert!(workload.render(&BTreeMap::new()).unwrap_err().why.contains("no volume"));
    }

    #[test]
    fn a_lifecycle_that_names_what_no_workload_has_is_refused() {
        let image = Image {
            name: "r.example/a".into(),
            tag: "1".into(),
            digest: Sha256::of(b"TEST"),
            manifest: Sha256::of(b"TEST"),
            media_type: crate::oci::OCI_MANIFEST.into(),
            blobs: Vec::new(),
        };
        let yaml = YAML.replace("r.example/a@sha256:00", &image.reference());
        let workloads = [Workload::parse("w", &yaml).unwrap()];
        let check = |text: &str| {
            super::check(&workloads, std::slice::from_ref(&image), &[], &serde_yaml::from_str(text).unwrap())
        };
        check("data: [{volume: data, backup: {method: copy}, keep: 1}]").unwrap();
        check("migrations: [{name: m, since: 1, container: web-srv, up: [x]}]").unwrap();
        for (bad, word) in [
            ("data: [{volume: other, backup: {method: copy}, keep: 1}]", "volume other"),
            ("migrations: [{name: m, since: 1, container: web, up: [x]}]", "container web"),
        ] {
            let fault = check(bad).unwrap_err();
            assert!(fault.workload == "lifecycle" && fault.why.contains(word), "{fault}");
        }
    }

    #[test]
    fn secrets_are_those_of_the_release() {
        let secret: Secret = serde_yaml::from_str("{name: own, kind: password}").unwrap();
        let pod = |env: &str, volumes: &str| {
            let yaml = format!(
                "kind: Pod\nmetadata: {{name: x}}\nspec: {{containers: [{{name: c, image: \"r.example/a@sha256:00\", {env}}}], volumes: [{volumes}]}}"
            );
            Workload::parse("w", &yaml)
        };
        let key = |name: &str| {
            format!("env: [{{name: A, value: b}}, {{name: P, valueFrom: {{secretKeyRef: {{name: {name}, key: p}}}}}}]")
        };
        let all = |name: &str| format!("envFrom: [{{configMapRef: {{name: m}}}}, {{secretRef: {{name: {name}}}}}]");
        let file = |name: &str| format!("{{name: v, secret: {{secretName: {name}}}}}");
        for name in ["own", "other"] {
            for workload in [pod(&key(name), ""), pod(&all(name), ""), pod("args: []", &file(name))] {
                let mut workload = workload.unwrap();
                assert_eq!(workload.pods[0].secrets, [name]);
                workload.pods[0].containers.clear();
                let found = super::check(&[workload], &[], std::slice::from_ref(&secret), &Lifecycle::default());
                match name {
                    "own" => assert_eq!(found, Ok(())),
                    _ => assert!(found.unwrap_err().why.contains("the secret other")),
                }
            }
        }
        for nameless in
            [pod("env: [{name: P, valueFrom: {secretKeyRef: {key: p}}}]", ""), pod("args: []", "{name: v, secret: {}}")]
        {
            assert!(nameless.unwrap_err().why.contains("secret without a name"));
        }
    }

    #[test]
    fn refusals() {
        for bad in [
            "kind: Secret\nmetadata: {name: x}",
            "kind: Pod",
            "kind: Pod\nmetadata: {name: x}",
            "a: [",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [], volumes: [{name: v, persistentVolumeClaim: {claimName: y}}]}",
            "kind: Pod\nmetadata: {name: x}\nspec: {initContainers: [], containers: []}",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i, ports: [{hostPort: 70000}]}]}",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i, ports: [{hostPort: 80, protocol: SCTP}]}]}",
        ] {
            assert_eq!(Workload::parse("w", bad).unwrap_err().workload, "w", "{bad}");
        }
        let workloads = [Workload::parse("w", YAML).unwrap()];
        let fault = super::check(&workloads, &[], &[], &Lifecycle::default()).unwrap_err();
        assert!(fault.why.contains("does not pin"), "{fault}");
        assert_eq!(Workload::read("w", b"\xff").unwrap_err().why, "its YAML is not UTF-8");
    }
}
