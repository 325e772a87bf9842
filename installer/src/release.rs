//! A release's workloads as the engine gets them: parsed out of the store, rendered, written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle_format::lifecycle::Lifecycle;
use bundle_format::manifest::{Image, Manifest};
use serde::Deserialize as _;
use serde_yaml::Value;

use crate::atomic::{self, Access};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// A workload with what the installer needs to know of it.
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

/// All workloads of a release with its images.
#[derive(Debug, Clone)]
pub struct Release {
    /// Images by reference.
    pub images: Vec<Image>,
    /// Workloads in start order.
    pub workloads: Vec<Workload>,
}

/// A workload's file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadFile {
    /// Name.
    pub name: String,
    /// The YAML.
    pub path: PathBuf,
    /// Its pods' names.
    pub pods: Vec<String>,
    /// Its `ConfigMaps`' names.
    pub config_maps: Vec<String>,
}

impl Release {
    /// Parses the workloads of `manifest` out of the store.
    pub fn load(manifest: &Manifest, store: &Store) -> Result<Self> {
        Self::parse(manifest, |digest| store.read_small(digest, bundle_format::limits::YAML_BYTES))
    }

    /// Parses the workloads of `manifest`; `read` gives a blob's proved bytes.
    pub fn parse(
        manifest: &Manifest,
        mut read: impl FnMut(&bundle_format::digest::Sha256) -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let mut workloads = Vec::new();
        for entry in &manifest.workloads {
            let bytes = read(&entry.digest)?;
            let text = String::from_utf8(bytes).map_err(|_| ErrorKind::Workload {
                workload: entry.name.clone(),
                why: "its YAML is not UTF-8".into(),
            })?;
            workloads.push(Workload::parse(&entry.name, &text)?);
        }
        let release = Self { images: manifest.images.clone(), workloads };
        release.check()?;
        release.check_lifecycle(&manifest.lifecycle)?;
        Ok(release)
    }

    /// Every container's image must be one of the manifest's, by digest.
    fn check(&self) -> Result<()> {
        for workload in &self.workloads {
            for container in workload.pods.iter().flat_map(|pod| &pod.containers) {
                if self.image_of(container).is_none() {
                    let why = format!(
                        "container {} names image {}, which the manifest does not pin",
                        container.name, container.image
                    );
                    return Err(ErrorKind::Workload { workload: workload.name.clone(), why }.into());
                }
            }
        }
        Ok(())
    }

    /// What the lifecycle names must be there: containers to run commands in, volumes to back up.
    fn check_lifecycle(&self, lifecycle: &Lifecycle) -> Result<()> {
        let refuse = |why: String| Error::from(ErrorKind::Workload { workload: "lifecycle".into(), why });
        if let Some(missing) = lifecycle.containers().find(|name| !self.containers().any(|c| c.name == *name)) {
            return Err(refuse(format!("it names container {missing}, which no workload has")));
        }
        let claims = self.volumes();
        if let Some(missing) = lifecycle.data.iter().find(|data| !claims.contains(&data.volume)) {
            return Err(refuse(format!("it names volume {}, which no workload claims", missing.volume)));
        }
        Ok(())
    }

    /// Pods that mount a claim.
    pub fn pods_of(&self, claim: &str) -> Vec<String> {
        let pods = self.workloads.iter().flat_map(|workload| &workload.pods);
        pods.filter(|pod| pod.claims.iter().any(|own| own == claim)).map(|pod| pod.name.clone()).collect()
    }

    /// The manifest's image of a container.
    pub fn image_of(&self, container: &Container) -> Option<&Image> {
        self.images.iter().find(|image| image.reference() == container.image)
    }

    /// Volumes of all workloads.
    pub fn volumes(&self) -> Vec<String> {
        self.workloads.iter().flat_map(|workload| workload.volumes.clone()).collect()
    }

    /// Containers of all workloads.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.workloads.iter().flat_map(|workload| &workload.pods).flat_map(|pod| &pod.containers)
    }

    /// Host ports of all workloads.
    pub fn ports(&self) -> Vec<Port> {
        self.workloads.iter().flat_map(|workload| &workload.pods).flat_map(|pod| pod.ports.clone()).collect()
    }

    /// Writes the workloads into `folder`, each claim under the name of the engine's volume.
    pub fn write(&self, folder: &Path, volumes: &BTreeMap<String, String>) -> Result<()> {
        for (workload, file) in self.workloads.iter().zip(self.files(folder)) {
            atomic::write(&file.path, workload.render(volumes)?.as_bytes(), Access::Public)?;
        }
        Ok(())
    }

    /// Where [`Release::write`] puts the workloads, as seen through `folder`.
    pub fn files(&self, folder: &Path) -> Vec<WorkloadFile> {
        let file = |workload: &Workload| WorkloadFile {
            name: workload.name.clone(),
            path: folder.join(format!("{}.yaml", workload.name)),
            pods: workload.pods.iter().map(|pod| pod.name.clone()).collect(),
            config_maps: workload.config_maps.clone(),
        };
        self.workloads.iter().map(file).collect()
    }
}

impl Workload {
    /// Parses a workload's documents.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let refuse = |why: String| Error::from(ErrorKind::Workload { workload: name.to_owned(), why });
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
            bundle_format::name::check_label("object", object)?;
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
            check_keys(&value).map_err(&refuse)?;
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
        let refuse = |why: String| Error::from(ErrorKind::Workload { workload: self.name.clone(), why });
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

/// Every name that is looked for here, to be checked or to be changed.
const LOOKED_FOR: [&str; 22] = [
    "claimName",
    "containers",
    "hostIP",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPath",
    "hostPort",
    "image",
    "initContainers",
    "kind",
    "livenessProbe",
    "metadata",
    "name",
    "periodSeconds",
    "persistentVolumeClaim",
    "ports",
    "privileged",
    "securityContext",
    "spec",
    "template",
    "volumes",
];
/// Maps whose keys are the author's own words.
const FREE: [&str; 7] = ["annotations", "binaryData", "data", "labels", "limits", "matchLabels", "requests"];

/// The engine reads more into a key than it says here: a name in any case (Go's JSON), what stands under `<<` (its
/// YAML merges it), a name behind a tag. By such a key a pod could ask for what is refused by its plain name.
fn check_keys(value: &Value) -> std::result::Result<(), String> {
    match value {
        Value::Tagged(tagged) => check_keys(&tagged.value),
        Value::Sequence(items) => items.iter().try_for_each(check_keys),
        Value::Mapping(map) => map.iter().try_for_each(|(key, value)| {
            let Value::String(key) = key else {
                let plain = matches!(key, Value::Number(_) | Value::Bool(_));
                let refused = || "it has a key that is a list, a map, nothing or behind a tag".to_owned();
                return if plain { check_keys(value) } else { Err(refused()) };
            };
            let shown = || bundle_format::text::escaped(key);
            if key == "<<" {
                return Err("it merges maps by the key <<, which this version does not read".into());
            }
            if LOOKED_FOR.iter().any(|name| name != key && folded(name) == folded(key)) {
                return Err(format!("it has the key {}, which the engine takes for another one", shown()));
            }
            if FREE.contains(&key.as_str()) { Ok(()) } else { check_keys(value) }
        }),
        _ => Ok(()),
    }
}

/// As Go's JSON compares names: without case, and with the two letters beyond ASCII that fold into it.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c == '\u{17f}' { 's' } else { c }).flat_map(char::to_lowercase).collect()
}

fn pod(name: &str, spec: Option<&Value>) -> std::result::Result<Pod, String> {
    let spec = spec.ok_or_else(|| format!("pod {name} has no spec"))?;
    let mut parsed = Pod { name: name.to_owned(), containers: Vec::new(), ports: Vec::new(), claims: Vec::new() };
    // A pinned image is no reason to hand it the host: what would is refused by name.
    for reach in ["hostNetwork", "hostPID", "hostIPC"] {
        if at(spec, &[reach]).is_some_and(|value| value.as_bool() != Some(false)) {
            return Err(format!("pod {name} asks for {reach}"));
        }
    }
    if at(spec, &["initContainers"]).is_some() {
        return Err(format!("pod {name} has initContainers, which this version does not run"));
    }
    for volume in at(spec, &["volumes"]).and_then(Value::as_sequence).into_iter().flatten() {
        if at(volume, &["hostPath"]).is_some() {
            return Err(format!("pod {name} mounts a path of the host"));
        }
        parsed.claims.extend(text_at(volume, &["persistentVolumeClaim", "claimName"]).map(str::to_owned));
    }
    for container in at(spec, &["containers"]).and_then(Value::as_sequence).into_iter().flatten() {
        let own = text_at(container, &["name"]).ok_or_else(|| format!("pod {name} has a container without a name"))?;
        let image = text_at(container, &["image"]).ok_or_else(|| format!("container {own} has no image"))?;
        if at(container, &["securityContext", "privileged"]).is_some_and(|value| value.as_bool() != Some(false)) {
            return Err(format!("container {own} asks to be privileged"));
        }
        let period = |probe: &Value| at(probe, &["periodSeconds"]).and_then(Value::as_u64).unwrap_or(10);
        parsed.containers.push(Container {
            name: format!("{name}-{own}"),
            image: image.to_owned(),
            probe_seconds: at(container, &["livenessProbe"]).map(period),
        });
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
        assert!(matches!(workload.render(&BTreeMap::new()).unwrap_err().kind(), ErrorKind::Workload { .. }));
    }

    #[test]
    fn a_lifecycle_that_names_what_no_workload_has_is_refused() {
        let release = Release { images: Vec::new(), workloads: vec![Workload::parse("w", YAML).unwrap()] };
        let check = |text: &str| release.check_lifecycle(&serde_yaml::from_str(text).unwrap());
        check("data: [{volume: data, backup: {method: copy}, keep: 1}]").unwrap();
        check("migrations: [{name: m, since: 1, container: web-srv, up: [x]}]").unwrap();
        for (bad, word) in [
            ("data: [{volume: other, backup: {method: copy}, keep: 1}]", "volume other"),
            ("migrations: [{name: m, since: 1, container: web, up: [x]}]", "container web"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Workload { why, .. } if why.contains(word)), "{error}");
        }
    }

    #[test]
    fn refusals() {
        for bad in [
            "kind: Secret\nmetadata: {name: x}",
            "kind: Pod",
            "kind: Pod\nmetadata: {name: x}",
            "a: [",
            "kind: Pod\nmetadata: {name: x}\nspec: {hostNetwork: true, containers: []}",
            "kind: Pod\nmetadata: {name: x}\nspec: {hostPID: true, containers: []}",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [], volumes: [{name: v, persistentVolumeClaim: {claimName: y}}]}",
            "kind: Pod\nmetadata: {name: x}\nspec: {initContainers: [], containers: []}",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [], volumes: [{name: v, hostPath: {path: /}}]}",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i, securityContext: {privileged: true}}]}",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i, ports: [{hostPort: 70000}]}]}",
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i, ports: [{hostPort: 80, protocol: SCTP}]}]}",
        ] {
            assert!(matches!(Workload::parse("w", bad).unwrap_err().kind(), ErrorKind::Workload { .. }), "{bad}");
        }
        assert!(Workload::parse("w", "kind: Pod\nmetadata: {name: ../x}").is_err());
    }

    #[test]
    fn a_key_that_the_engine_reads_in_another_way_is_refused() {
        let pod = |spec: &str| format!("kind: Pod\nmetadata: {{name: x}}\nspec: {{containers: [], {spec}}}");
        for spec in [
            "<<: {hostNetwork: true}",
            "HostNetwork: true",
            "hostnetwork: true",
            "ho\u{17f}tNetwork: true",
            "!x hostNetwork: true",
            "? [a] : b",
            "Containers: [{name: c, image: i}]",
            "volumes: [{name: v, HOSTPATH: {path: /}}]",
            "volumes: [!t {name: v, hostpath: {path: /}}]",
            "tolerations: [{securitycontext: {}}]",
        ] {
            let error = Workload::parse("w", &pod(spec)).unwrap_err();
            let why = matches!(error.kind(), ErrorKind::Workload { why, .. } if why.contains("it has ") || why.contains("<<"));
            assert!(why, "{spec}: {error}");
        }
        let merged = "kind: Pod\nmetadata: {name: x}\nspec:\n  <<: &a {hostPID: true}\n  containers: []";
        assert!(Workload::parse("w", merged).is_err());
        for good in [
            pod("1: a, true: b"),
            "kind: ConfigMap\nmetadata: {name: x, labels: {Name: a}}\ndata: {Image: a, SPEC: b}".into(),
        ] {
            Workload::parse("w", &good).unwrap();
        }
    }
}
