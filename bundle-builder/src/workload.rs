//! Pins the images of a workload: each `image:` of a container becomes `name@sha256:…`.
//!
//! Only these values change; the rest of the text stays as it was reviewed, byte for byte. The
//! text is edited line by line and the result is parsed and compared with the same edit on the
//! parsed documents, so that a line that only looks like an image is never edited silently.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_yaml::Value;

use crate::{ErrorKind, Result};

/// Pins the images of `text`; `images` maps `registry/repository:tag` to
/// `registry/repository@sha256:…`.
pub fn pin_images(workload: &str, text: &str, images: &BTreeMap<String, String>) -> Result<String> {
    let mut documents = parse(workload, text)?;
    if documents.iter().all(Value::is_null) {
        return Err(malformed(workload, "it holds no document"));
    }
    for document in &mut documents {
        refuse_secret(workload, document)?;
        pin_value(workload, document, images)?;
    }
    let pinned: String = text.split_inclusive('\n').map(|line| pin_line(line, images)).collect();
    if parse(workload, &pinned)? == documents {
        return Ok(pinned);
    }
    Err(malformed(workload, "an image must stand on a line of its own, as `image: NAME`, and nothing else may look so"))
}

fn parse(workload: &str, text: &str) -> Result<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| {
            Value::deserialize(document)
                .map_err(|error| malformed(workload, bundle_format::text::escaped(&error.to_string())))
        })
        .collect()
}

/// Secrets are made on the high side; one in a workload would travel in the clear.
fn refuse_secret(workload: &str, document: &Value) -> Result<()> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind == "Secret" || kind == "SecretList" {
        return Err(ErrorKind::SecretInWorkload { workload: workload.into() }.into());
    }
    let items = document.get("items").and_then(Value::as_sequence);
    items.into_iter().flatten().try_for_each(|item| refuse_secret(workload, item))
}

fn pin_value(workload: &str, value: &mut Value, images: &BTreeMap<String, String>) -> Result<()> {
    match value {
        Value::Mapping(mapping) => {
            for (key, child) in mapping.iter_mut() {
                match (key.as_str(), child) {
                    (Some("containers" | "initContainers" | "ephemeralContainers"), Value::Sequence(containers)) => {
                        containers.iter_mut().try_for_each(|container| pin_container(workload, container, images))?;
                    }
                    (Some("volumes"), Value::Sequence(volumes)) if volumes.iter().any(|v| v.get("image").is_some()) => {
                        return Err(malformed(workload, "volumes made of images are not pinned by this version"));
                    }
                    (_, child) => pin_value(workload, child, images)?,
                }
            }
            Ok(())
        }
        Value::Sequence(items) => items.iter_mut().try_for_each(|item| pin_value(workload, item, images)),
        Value::Tagged(_) => Err(malformed(workload, "YAML tags are not understood")),
        _ => Ok(()),
    }
}

fn pin_container(workload: &str, container: &mut Value, images: &BTreeMap<String, String>) -> Result<()> {
    match container.get_mut("image") {
        Some(Value::String(image)) => {
            let unknown = || ErrorKind::UnknownImage { workload: workload.into(), image: image.clone() };
            let pinned = images.get(image.as_str()).ok_or_else(unknown)?.clone();
            *image = pinned;
            Ok(())
        }
        _ => Err(malformed(workload, "a container names no image")),
    }
}

/// The line with its image pinned, if it is `image: NAME` (after indentation and list marks).
fn pin_line(line: &str, images: &BTreeMap<String, String>) -> String {
    let content = line.trim_start_matches([' ', '-']);
    let Some(rest) = content.strip_prefix("image:") else {
        return line.to_owned();
    };
    let value = rest.trim_start_matches(' ').trim_end_matches(['\n', '\r']);
    let bare = value.split(" #").next().unwrap_or_default().trim_end().trim_matches(['"', '\'']);
    match images.get(bare) {
        Some(pinned) => line.replacen(bare, pinned, 1),
        None => line.to_owned(),
    }
}

fn malformed(workload: &str, why: impl Into<String>) -> crate::Error {
    ErrorKind::Workload { workload: workload.into(), why: why.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> BTreeMap<String, String> {
        BTreeMap::from([("r.example/a:1".into(), "r.example/a@sha256:00".into())])
    }

    const POD: &str = "# kept\nkind: Pod\nspec:\n  initContainers:\n  - image: \"r.example/a:1\" # why\n    name: yes\n  \
                       containers:\n  - name: b\n    image: r.example/a:1\n---\nkind: ConfigMap\ndata: {x: 'on'}\n";

    #[test]
    fn only_images_change() {
        let pinned = pin_images("w", POD, &images()).unwrap();
        assert_eq!(pinned, POD.replace("r.example/a:1", "r.example/a@sha256:00"));
    }

    #[test]
    fn shipped_workloads_can_be_pinned() {
        let prefix = "registry.defense-builders.example/platform";
        let names = ["minimal", "gateway", "database", "registry", "monitoring"];
        let images = names
            .map(|name| (format!("{prefix}/{name}:1.0.0"), format!("{prefix}/{name}@sha256:00")))
            .into_iter()
            .collect();
        for name in names {
            let path = format!("{}/../manifests/profiles/workloads/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let pinned = pin_images(name, &text, &images).unwrap();
            assert!(pinned.contains(&format!("{prefix}/{name}@sha256:00")) && !pinned.contains(":1.0.0"), "{name}");
        }
    }

    #[test]
    fn refusals() {
        let kind = |text: &str| pin_images("w", text, &images()).unwrap_err();
        let unknown = kind(&POD.replace("r.example/a:1", "r.example/a:2"));
        assert!(matches!(unknown.kind(), ErrorKind::UnknownImage { .. }));
        for secret in ["kind: Secret\n", "kind: List\nitems:\n- kind: Secret\n", "a: 1\n---\n{kind: SecretList}\n"] {
            assert!(matches!(kind(secret).kind(), ErrorKind::SecretInWorkload { .. }), "{secret}");
        }
        for bad in [
            "",
            "# nothing\n",
            "a: [",
            "a: 1\na: 2\n",
            "spec:\n  containers:\n  - name: x\n",
            "spec: {containers: [{image: r.example/a:1}]}\n",
            "spec: !x {containers: []}\n",
            "data:\n  x: |\n    image: r.example/a:1\n",
            "spec:\n  volumes:\n  - name: v\n    image: {reference: r.example/a:1}\n",
        ] {
            assert!(matches!(kind(bad).kind(), ErrorKind::Workload { .. }), "{bad}");
        }
    }
}
