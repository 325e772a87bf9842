//! What a workload may not ask of the engine (R-WRK-3 to 6): a pinned image is no reason to hand it the host.
//!
//! What may hurt it: a key that the engine understands and that nobody looked for here, by its case, by a
//! merge or as an annotation. Who defends: names are compared as the engine compares them, and where the
//! engine takes words of its own (annotations, resources, volumes, capabilities) only those are let through
//! of which it is known that they give nothing away.

use serde_yaml::Value;

use super::{at, text_at};

/// Every name that is looked for, here and in [`super`], to be checked or to be changed.
const LOOKED_FOR: [&str; 42] = [
    "add",
    "annotations",
    "appArmorProfile",
    "capabilities",
    "claimName",
    "containers",
    "env",
    "envFrom",
    "hostIP",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "image",
    "initContainers",
    "kind",
    "limits",
    "livenessProbe",
    "metadata",
    "name",
    "periodSeconds",
    "persistentVolumeClaim",
    "ports",
    "privileged",
    "procMount",
    "protocol",
    "requests",
    "resources",
    "seLinuxOptions",
    "seccompProfile",
    "secret",
    "secretKeyRef",
    "secretName",
    "secretRef",
    "securityContext",
    "spec",
    "template",
    "type",
    "valueFrom",
    "volumeDevices",
    "volumes",
    "windowsOptions",
];
/// Maps whose keys are the author's own words.
const FREE: [&str; 7] = ["annotations", "binaryData", "data", "labels", "limits", "matchLabels", "requests"];
/// What a container may be given of: the engine takes devices of the host as resources too
/// (`podman.io/device=…`, seen in podman's documentation of `kube play`).
const RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
/// Volumes that are made of nothing or of what the release brought.
const VOLUMES: [&str; 4] = ["configMap", "emptyDir", "persistentVolumeClaim", "secret"];
/// Annotations below this name are for people and for tools of theirs.
const APPLICATION: &str = "app.kubernetes.io/";
/// What podman gives every container anyway (containers.conf(5), `default_capabilities`).
const CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

type Checked = std::result::Result<(), String>;

/// Checks one object; says what it may not ask for.
pub(super) fn check(object: &Value) -> Checked {
    check_form(object)?;
    check_keys(object)?;
    let pods = match text_at(object, &["kind"]) {
        Some("Pod") => vec![object],
        Some("Deployment") => {
            annotations(object)?;
            at(object, &["spec", "template"]).into_iter().collect()
        }
        _ => return Ok(()),
    };
    for pod in pods {
        annotations(pod)?;
        if let Some(spec) = at(pod, &["spec"]) {
            check_pod(spec)?;
        }
    }
    Ok(())
}

/// What stands behind a tag of its own is another value to each reader of YAML, and not every tag that one reads
/// comes out of its writer as it went in. Nor does every key that is no plain value.
fn check_form(value: &Value) -> Checked {
    match value {
        Value::Tagged(tagged) => {
            Err(format!("it has the tag {}, where plain values go", shown(&tagged.tag.to_string())))
        }
        Value::Sequence(items) => items.iter().try_for_each(check_form),
        Value::Mapping(map) => map.iter().try_for_each(|(key, value)| match key {
            Value::Sequence(_) | Value::Mapping(_) | Value::Null => {
                Err("it has a key that is a list, a map or nothing".to_owned())
            }
            _ => check_form(key).and_then(|()| check_form(value)),
        }),
        _ => Ok(()),
    }
}

/// The engine reads more into a key than it says here: a name in any case (Go's JSON), what stands under `<<` (its
/// YAML merges it). By such a key a pod could ask for what is refused by its plain name.
fn check_keys(value: &Value) -> Checked {
    match value {
        Value::Sequence(items) => items.iter().try_for_each(check_keys),
        Value::Mapping(map) => map.iter().try_for_each(|(key, value)| {
            let Value::String(key) = key else { return check_keys(value) };
            if key == "<<" {
                return Err("it merges maps by the key <<, which this version does not read".into());
            }
            if LOOKED_FOR.iter().any(|name| name != key && folded(name) == folded(key)) {
                return Err(format!("it has the key {}, which the engine takes for another one", shown(key)));
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

fn shown(text: &str) -> String {
    crate::text::escaped(text)
}

/// Podman and the runtime below it take orders by annotations: to leave AppArmor, seccomp or SELinux, to
/// share volumes or a user namespace.
fn annotations(object: &Value) -> Checked {
    let word = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    keys(at(object, &["metadata", "annotations"]), "annotation", |key| word(key) || key.starts_with(APPLICATION))
}

/// Each key of a map must be `good`.
fn keys(map: Option<&Value>, what: &str, good: impl Fn(&str) -> bool) -> Checked {
    let Some(map) = map else { return Ok(()) };
    let Some(map) = map.as_mapping() else {
        return if map.is_null() { Ok(()) } else { Err(format!("its {what}s are no map")) };
    };
    for key in map.keys() {
        let key = key.as_str().unwrap_or_default();
        if !good(key) {
            return Err(format!(
                "it has the {what} {}, which may ask the engine for more than it says here",
                shown(key)
            ));
        }
    }
    Ok(())
}

fn check_pod(spec: &Value) -> Checked {
    for reach in ["hostNetwork", "hostPID", "hostIPC"] {
        if at(spec, &[reach]).is_some_and(|value| value.as_bool() != Some(false)) {
            return Err(format!("a pod asks for {reach}"));
        }
    }
    for volume in items(spec, "volumes")? {
        keys(Some(volume), "volume", |key| key == "name" || VOLUMES.contains(&key))?;
    }
    for part in std::iter::once(spec).chain(items(spec, "containers")?) {
        let lists = ["limits", "requests"];
        keys(at(part, &["resources"]), "resource list", |key| lists.contains(&key))?;
        for list in lists {
            keys(at(part, &["resources", list]), "resource", |key| RESOURCES.contains(&key))?;
        }
        if at(part, &["volumeDevices"]).is_some() {
            return Err("a container asks for a device of the host".into());
        }
        security(part)?;
    }
    Ok(())
}

/// What a pod or a container says of its own confinement.
fn security(of: &Value) -> Checked {
    let Some(context) = at(of, &["securityContext"]) else { return Ok(()) };
    if at(context, &["privileged"]).is_some_and(|value| value.as_bool() != Some(false)) {
        return Err("a container asks to be privileged".into());
    }
    for (key, usual) in
        [("procMount", "Default"), ("seccompProfile", "RuntimeDefault"), ("appArmorProfile", "RuntimeDefault")]
    {
        let Some(asked) = at(context, &[key]) else { continue };
        if asked.as_str().or_else(|| text_at(asked, &["type"])) != Some(usual) {
            return Err(format!("its {key} is not {usual}"));
        }
    }
    for key in ["seLinuxOptions", "windowsOptions"] {
        if at(context, &[key]).is_some() {
            return Err(format!("it has {key}, which this version does not pass on"));
        }
    }
    let Some(capabilities) = at(context, &["capabilities"]) else { return Ok(()) };
    for added in items(capabilities, "add")? {
        // podman takes any case, with CAP_ or without.
        let name = added.as_str().unwrap_or_default().to_ascii_uppercase();
        if !CAPABILITIES.contains(&name.strip_prefix("CAP_").unwrap_or(&name)) {
            return Err(format!("a container asks for the capability {}", shown(&name)));
        }
    }
    Ok(())
}

/// The items of a list, if there is one.
fn items<'a>(of: &'a Value, key: &str) -> std::result::Result<&'a [Value], String> {
    match at(of, &[key]) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Sequence(items)) => Ok(items),
        Some(_) => Err(format!("{key} is no list")),
    }
}

#[cfg(test)]
mod tests {
    use crate::workload::Workload;

    fn pod(spec: &str) -> String {
        format!("kind: Pod\nmetadata: {{name: x}}\nspec: {{containers: [], {spec}}}")
    }

    fn container(with: &str) -> String {
        format!("kind: Pod\nmetadata: {{name: x}}\nspec: {{containers: [{{name: c, image: i, {with}}}]}}")
    }

    fn deployment(meta: &str, inner: &str) -> String {
        format!(
            "kind: Deployment\nmetadata: {{name: x{meta}}}\nspec: {{template: {{metadata: {{{inner}}}, spec: {{containers: []}}}}}}"
        )
    }

    /// Each is refused for a reason with these words.
    fn refused(cases: &[(String, &str)]) {
        for (text, words) in cases {
            let fault = Workload::parse("w", text).unwrap_err();
            assert!(fault.why.contains(words), "{text}: {fault}");
        }
    }

    #[test]
    fn what_would_hand_over_the_host_is_refused() {
        refused(&[
            (pod("hostNetwork: true"), "asks for hostNetwork"),
            (pod("hostPID: true"), "asks for hostPID"),
            (pod("hostIPC: \"yes\""), "asks for hostIPC"),
            (pod("volumes: [{name: v, hostPath: {path: /}}]"), "volume hostPath"),
            (pod("volumes: [{name: v, image: {reference: other}}]"), "volume image"),
            (pod("volumes: {name: v}"), "volumes is no list"),
            (container("securityContext: {privileged: true}"), "privileged"),
            (container("securityContext: {capabilities: {add: [CHOWN, SYS_ADMIN]}}"), "capability SYS_ADMIN"),
            (container("securityContext: {capabilities: {add: [cap_sys_ptrace]}}"), "capability CAP_SYS_PTRACE"),
            (container("securityContext: {capabilities: {add: [ALL]}}"), "capability ALL"),
            (container("securityContext: {capabilities: {add: ALL}}"), "add is no list"),
            (container("securityContext: {procMount: Unmasked}"), "procMount"),
            (container("securityContext: {seccompProfile: {type: Unconfined}}"), "seccompProfile"),
            (container("securityContext: {seccompProfile: {type: Localhost, localhostProfile: p}}"), "seccompProfile"),
            (container("securityContext: {appArmorProfile: {type: Unconfined}}"), "appArmorProfile"),
            (container("securityContext: {seLinuxOptions: {type: spc_t}}"), "seLinuxOptions"),
            (pod("securityContext: {seLinuxOptions: {level: s0}}"), "seLinuxOptions"),
            (container("volumeDevices: [{name: v, devicePath: /dev/sda}]"), "device"),
            (container("resources: {limits: {podman.io/device=/dev/kmsg: 1}}"), "resource podman.io/device=/dev/kmsg"),
            (container("resources: {requests: {nvidia.com/gpu: 1}}"), "resource nvidia.com/gpu"),
        ]);
    }

    #[test]
    fn annotations_that_the_engine_may_take_as_orders_are_refused() {
        for key in [
            "io.podman.annotations.seccomp/c",
            "io.podman.annotations.label",
            "io.podman.annotations.userns",
            "run.oci.keep_original_groups",
            "seccomp.security.alpha.kubernetes.io/pod",
            "container.apparmor.security.beta.kubernetes.io/c",
            "\"bind-mount-options:/x\"",
            "app.kubernetes.io",
            "1",
        ] {
            let annotations = format!("annotations: {{{key}: x}}");
            refused(&[
                (format!("kind: Pod\nmetadata: {{name: x, {annotations}}}\nspec: {{containers: []}}"), "annotation"),
                (deployment(&format!(", {annotations}"), ""), "annotation"),
                (deployment("", &annotations), "annotation"),
            ]);
        }
        refused(&[(deployment("", "annotations: [a]"), "annotations are no map")]);
    }

    #[test]
    fn what_gives_nothing_away_is_let_through() {
        for good in [
            pod("hostNetwork: false, hostPID: false"),
            pod(
                "volumes: [{name: a, emptyDir: {}}, {name: b, configMap: {name: c}}, {name: s, secret: {secretName: t}}]",
            ),
            container("securityContext: {privileged: false, runAsUser: 1, readOnlyRootFilesystem: true}"),
            container("securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE, cap_chown]}}"),
            container("securityContext: {procMount: Default, seccompProfile: {type: RuntimeDefault}}"),
            container("resources: {limits: {memory: 1Mi, cpu: 1}, requests: {ephemeral-storage: 1Mi}}"),
            deployment(", annotations: {release: a}", "annotations: {app.kubernetes.io/part-of: b}"),
            deployment(", annotations: ", "annotations: {}"),
        ] {
            Workload::parse("w", &good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
    }

    #[test]
    fn a_key_that_the_engine_reads_in_another_way_is_refused() {
        for spec in [
            "<<: {hostNetwork: true}",
            "HostNetwork: true",
            "hostnetwork: true",
            "ho\u{17f}tNetwork: true",
            "!x hostNetwork: true",
            "? [a] : b",
            "Containers: [{name: c, image: i}]",
            "Volumes: [{name: v, emptyDir: {}}]",
            "tolerations: [{securitycontext: {}}]",
            "resources: {Limits: {cpu: 1}}",
        ] {
            let fault = Workload::parse("w", &pod(spec)).unwrap_err();
            assert!(fault.why.contains("it has ") || fault.why.contains("<<"), "{spec}: {fault}");
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
    #[test]
    fn tags_and_keys_that_are_no_plain_values_are_refused_wherever_they_stand() {
        let map = |data: &str| format!("kind: ConfigMap\nmetadata: {{name: x}}\ndata: {{{data}}}");
        refused(&[
            (pod("restartPolicy: !x Always"), "the tag !x"),
            (pod("dnsConfig: {searches: [a, !%5bV b]}"), "the tag !"),
            (pod("!x dnsPolicy: None"), "the tag !x"),
            (container("resources: {limits: {cpu: !x 1}}"), "the tag !x"),
            (map("a: !x b"), "the tag !x"),
            (map("!x a: b"), "the tag !x"),
            (map("? {a: b} : c"), "a key that is a list, a map or nothing"),
            (map("? [a] : c"), "a key that is a list, a map or nothing"),
            (map("? : c"), "a key that is a list, a map or nothing"),
        ]);
        // Those of YAML itself are gone when it is read: the engine is given what was checked, without them.
        let text = map("a: !!str 5, b: !!binary YQ==");
        let played = Workload::parse("w", &text).unwrap().render(&std::collections::BTreeMap::new()).unwrap();
        assert!(played.contains("a: '5'\n") && played.contains("b: YQ==\n"), "{played}");
    }
}
