use super::*;

const IMAGE: &str = "r.example/app@sha256:aa";

fn engine(folder: &Path) -> impl Fn(&[&str]) -> Answer {
    let folder = folder.to_owned();
    move |words| {
        let args: Vec<String> = words.iter().map(ToString::to_string).collect();
        call(&folder, &args, || b"input".to_vec()).map(|shown| String::from_utf8(shown).unwrap())
    }
}

/// An engine with an image, a network, a secret, and a file with one pod.
fn prepared(folder: &Path) -> String {
    let podman = engine(folder);
    let mut held = Held::lock(folder);
    held.images.insert(IMAGE.into(), Image { manifest: "sha256:aa".into(), config: "sha256:bb".into() });
    held.save();
    drop(held);
    podman(&["network", "create", "--label", "lockgate=1", "net"]).unwrap();
    podman(&["secret", "create", "word", "-"]).unwrap();
    podman(&["volume", "create", "data"]).unwrap();
    let file = folder.join("pod.yaml");
    let text = format!(
        "kind: ConfigMap\nmetadata: {{name: pages}}\n---\nkind: Deployment\nmetadata: {{name: app}}\nspec:\n  template:\n    spec:\n      containers:\n        \
         - name: c\n          image: {IMAGE}\n          livenessProbe: {{}}\n          ports: [{{hostPort: 80}}]\n          \
         env: [{{name: P, valueFrom: {{secretKeyRef: {{name: word, key: password}}}}}}]\n      volumes:\n        \
         - {{name: d, persistentVolumeClaim: {{claimName: data}}}}\n        - {{name: m, configMap: {{name: pages}}}}\n"
    );
    std::fs::write(&file, text.replace("livenessProbe: {}", "livenessProbe: {periodSeconds: 5}")).unwrap();
    file.display().to_string()
}

#[test]
fn a_pod_is_played_works_on_its_data_and_is_taken_down() {
    let folder = tempfile::tempdir().unwrap();
    let file = prepared(folder.path());
    let podman = engine(folder.path());
    let play = ["kube", "play", "--replace", "--network", "net", &file];
    podman(&play).unwrap();
    podman(&play).unwrap();
    podman(&["exec", "app-pod-c", "lockgate-test-write", "line"]).unwrap();
    assert_eq!(podman(&["exec", "app-pod-c", "lockgate-test-journal"]).unwrap(), "sha256:aa\nline\n");
    podman(&["exec", "app-pod-c", "true"]).unwrap();
    assert_eq!(podman(&["exec", "app-pod-c", "false"]).unwrap_err().code, 1);

    let seen = podman(&["container", "inspect", "app-pod-c", "other"]).unwrap_err();
    assert!(seen.code == 125 && seen.text.contains("no such container"), "{seen:?}");
    let seen: serde_json::Value = serde_json::from_str(&seen.shown).unwrap();
    assert_eq!((&seen[0]["ImageDigest"], &seen[0]["State"]["Running"]), (&"sha256:aa".into(), &true.into()));
    assert_eq!(seen[0]["State"]["Health"]["Status"], "starting");
    podman(&["healthcheck", "run", "app-pod-c"]).unwrap();

    podman(&["pod", "pause", "app-pod"]).unwrap();
    assert_eq!(podman(&["pod", "pause", "app-pod"]).unwrap_err().code, 125);
    assert_eq!(podman(&["exec", "app-pod-c", "true"]).unwrap_err().code, 125);
    podman(&["pod", "unpause", "app-pod"]).unwrap();
    for (in_use, code) in [(&["volume", "rm", "data"][..], 2), (&["rmi", IMAGE], 2), (&["network", "rm", "net"], 2)] {
        assert_eq!(podman(in_use).unwrap_err().code, code, "{in_use:?}");
    }
    podman(&["pod", "stop", "--ignore", "app-pod"]).unwrap();
    podman(&["pod", "stop", "--ignore", "not-there"]).unwrap();
    let stopped: serde_json::Value =
        serde_json::from_str(&podman(&["container", "inspect", "app-pod-c"]).unwrap()).unwrap();
    assert_eq!(stopped[0]["State"]["Running"], false);
    podman(&["kube", "down", &file]).unwrap();
    assert_eq!(podman(&["kube", "down", &file]).unwrap_err().code, 125, "nothing runs any more");
    for free in [
        &["volume", "rm", "data"][..],
        &["volume", "rm", "pages"],
        &["rmi", IMAGE],
        &["network", "rm", "net"],
        &["secret", "rm", "word"],
    ] {
        podman(free).unwrap();
    }
    let held = Held::read(folder.path());
    assert!(held.images.is_empty() && held.volumes.is_empty() && held.networks.is_empty() && held.secrets.is_empty());
    assert!(podman(&["system", "reset"]).unwrap_err().text.contains("does not know"));
}

#[test]
fn what_is_missing_or_taken_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = prepared(folder.path());
    let podman = engine(folder.path());
    let play = ["kube", "play", "--replace", "--network", "net", &file];
    for (take, give, word) in [
        (&["rmi", IMAGE][..], &[][..], "image not known"),
        (&["volume", "rm", "data"], &["volume", "create", "data"], "no such volume"),
        (&["secret", "rm", "word"], &["secret", "create", "word", "-"], "no such secret"),
        (&["network", "rm", "net"], &["network", "create", "--label", "l", "net"], "network not found"),
    ] {
        podman(take).unwrap();
        let refused = podman(&play).unwrap_err();
        assert!(refused.code == 125 && refused.text.contains(word), "{word}: {refused:?}");
        if give.is_empty() {
            drop(prepared_image(folder.path()));
        } else {
            podman(give).unwrap();
        }
    }
    podman(&play).unwrap();
    let other = folder.path().join("other.yaml");
    std::fs::write(&other, std::fs::read_to_string(&file).unwrap().replace("name: app}", "name: late}")).unwrap();
    let refused = podman(&["kube", "play", "--replace", "--network", "net", &other.display().to_string()]).unwrap_err();
    assert!(refused.text.contains("address already in use"), "{refused:?}");
    assert!(!Held::read(folder.path()).container("late-pod-c").unwrap().running, "it is there and does not run");
}

fn prepared_image(folder: &Path) -> Held {
    let mut held = Held::lock(folder);
    held.images.insert(IMAGE.into(), Image { manifest: "sha256:aa".into(), config: "sha256:bb".into() });
    held.save();
    held
}

#[test]
fn a_dump_comes_back_and_half_a_dump_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = prepared(folder.path());
    let podman = engine(folder.path());
    podman(&["kube", "play", "--replace", "--network", "net", &file]).unwrap();
    let args = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let dump = call(folder.path(), &args(&["exec", "app-pod-c", "pg_dump", "-Fc"]), Vec::new).unwrap();
    podman(&["exec", "app-pod-c", "lockgate-test-write", "later"]).unwrap();
    let restore =
        |bytes: Vec<u8>| call(folder.path(), &args(&["exec", "-i", "app-pod-c", "pg_restore", "-d", "x"]), || bytes);
    assert_eq!(restore(dump[..dump.len() - 700].to_vec()).unwrap_err().code, 1);
    assert!(podman(&["exec", "app-pod-c", "lockgate-test-journal"]).unwrap().contains("later"));
    restore(dump.clone()).unwrap();
    assert_eq!(podman(&["exec", "app-pod-c", "lockgate-test-journal"]).unwrap(), "sha256:aa\n");
    let read = |bytes: Vec<u8>| {
        let words = args(&["exec", "-i", "app-pod-c", "pg_restore", "--file", "/dev/null"]);
        call(folder.path(), &words, || bytes)
    };
    assert_eq!(read(dump.clone()).unwrap(), b"");
    Knobs { lossy_dumps: 1, ..Knobs::default() }.set(folder.path());
    let pg_dump = || call(folder.path(), &args(&["exec", "app-pod-c", "pg_dump", "-Fc"]), Vec::new).unwrap();
    assert_eq!(read(pg_dump()).unwrap_err().code, 1);
    read(pg_dump()).unwrap();
}

#[test]
fn knobs_make_images_misbehave() {
    let folder = tempfile::tempdir().unwrap();
    let file = prepared(folder.path());
    let podman = engine(folder.path());
    let play = ["kube", "play", "--replace", "--network", "net", &file];
    let digest = || std::iter::once("sha256:aa".to_owned()).collect();
    Knobs { broken: digest(), ..Knobs::default() }.set(folder.path());
    assert!(podman(&play).unwrap_err().text.contains("does not start"));
    Knobs { unhealthy: digest(), restarting: digest(), ..Knobs::default() }.set(folder.path());
    podman(&play).unwrap();
    assert_eq!(podman(&["healthcheck", "run", "app-pod-c"]).unwrap_err().code, 1);
    let inspect = || podman(&["container", "inspect", "app-pod-c"]).unwrap();
    assert!(inspect().contains("\"RestartCount\":1") && inspect().contains("\"RestartCount\":2"));
}
