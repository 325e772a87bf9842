//! `oci:`, `docker-archive:`, files and directories, from pin to collected bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;
use std::io::Read as _;

use bundle_builder::ErrorKind;
use bundle_builder::collect::BlobKind::{self, Document, File, Layer, Package, Workload};
use bundle_builder::source::RegistryOptions;
use bundle_format::digest::Sha256;
use bundle_format::limits;
use fixture::{collect_release, layout, pin_release, read_all, release, run, with_sboms};

fn options() -> RegistryOptions {
    RegistryOptions::default()
}

#[test]
fn an_oci_layout_is_collected_in_a_fixed_order() {
    let dir = tempfile::tempdir().unwrap();
    let layers = layout(&dir.path().join("images"), "app", "one");
    let path = release(dir.path(), "oci:images:app");
    let lock = pin_release(&path, &options()).unwrap();
    let collected = collect_release(&path, &options()).unwrap();
    let contents = read_all(&collected).unwrap();
    let kinds: Vec<BlobKind> = collected.blobs.iter().map(|blob| blob.kind).collect();
    assert_eq!(kinds, [Document, Document, Layer, Layer, Workload, File, Package]);
    assert_eq!([collected.blobs[2].digest, collected.blobs[3].digest], layers[..]);
    let pinned = format!("image: registry.example/team/app@{}\n", lock.images[0].digest);
    assert!(String::from_utf8_lossy(&contents[4]).contains(&pinned));
    assert_eq!(contents[5], b"read me");
    let again = collect_release(&path, &options()).unwrap();
    assert_eq!(again.manifest_without_packs, collected.manifest_without_packs);
}

#[test]
fn what_changed_since_the_pinning_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    let layers = layout(&images, "app", "one");
    let path = release(dir.path(), "oci:images:app");
    let missing = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(missing.kind(), ErrorKind::LockMissing { .. }), "{missing}");
    pin_release(&path, &options()).unwrap();

    // Same size, other bytes: found when read. Another size: found at once.
    fs::write(dir.path().join("readme"), "READ ME").unwrap();
    let error = read_all(&collect_release(&path, &options()).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceChanged { .. }), "{error}");
    fs::write(dir.path().join("readme"), "longer now").unwrap();
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceChanged { .. }), "{error}");
    fs::write(dir.path().join("readme"), "read me").unwrap();

    fs::write(dir.path().join("packages/extra_1.deb"), "x").unwrap();
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceChanged { .. }), "{error}");
    fs::remove_file(dir.path().join("packages/extra_1.deb")).unwrap();

    let workload = fs::read_to_string(dir.path().join("app.yaml")).unwrap();
    fs::write(dir.path().join("app.yaml"), format!("{workload}# edited\n")).unwrap();
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceChanged { .. }), "{error}");
    fs::write(dir.path().join("app.yaml"), workload).unwrap();

    let layer = images.join("blobs/sha256").join(layers[1].hex());
    let mut bytes = fs::read(&layer).unwrap();
    bytes[600] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    let error = read_all(&collect_release(&path, &options()).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceDigest { .. }), "{error}");
    bytes.push(0);
    fs::write(&layer, &bytes).unwrap();
    let error = read_all(&collect_release(&path, &options()).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceSize { .. }), "{error}");
    fs::remove_file(&layer).unwrap();
    let error = read_all(&collect_release(&path, &options()).unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BlobMissing { .. }), "{error}");

    layout(&images, "app", "two");
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TagMoved { .. }), "{error}");
    layout(&images, "other", "one");
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TagMissing { .. }), "{error}");

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("title: Test", "title: Text")).unwrap();
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LockStale { .. }), "{error}");
}

#[test]
fn a_workload_that_the_installer_would_not_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("images"), "app", "one");
    let path = release(dir.path(), "oci:images:app");
    let (pod, text) = (fs::read_to_string(dir.path().join("app.yaml")).unwrap(), fs::read_to_string(&path).unwrap());
    let lifecycle = |container: &str| {
        format!("{text}lifecycle: {{migrations: [{{name: m, since: 1, container: {container}, up: [\"true\"]}}]}}\n")
    };
    let build = |pod: &str, text: &str| {
        fs::write(dir.path().join("app.yaml"), pod).unwrap();
        fs::write(&path, text).unwrap();
        pin_release(&path, &options()).unwrap();
        collect_release(&path, &options())
    };
    build(&pod, &lifecycle("app-app")).unwrap();
    let host = pod.replace("spec:\n", "spec:\n  hostNetwork: true\n");
    let other = pod.replace("kind: Pod", "kind: Job");
    for (pod, text, named, word) in [
        (&host, &text, "app", "hostNetwork"),
        (&other, &text, "app", "Job"),
        (&pod, &lifecycle("app-db"), "lifecycle", "container app-db"),
    ] {
        let error = build(pod, text).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Workload { workload, why } if workload == named && why.contains(word)),
            "{error}"
        );
    }
}

#[test]
fn a_docker_archive_gives_the_same_manifest_each_time() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("images"), "app", "one");
    let make = |name: &str| {
        let target = dir.path().join(name).display().to_string();
        let source = format!("oci:{}:app", dir.path().join("images").display());
        run("skopeo", &["--insecure-policy", "copy", "-q", &source, &format!("docker-archive:{target}:a.example/b:1")]);
    };
    make("image.tar");
    let path = release(dir.path(), "docker-archive:image.tar");
    let lock = pin_release(&path, &options()).unwrap();
    let collected = collect_release(&path, &options()).unwrap();
    read_all(&collected).unwrap();
    assert_eq!(lock.images[0].blobs.len(), 4);

    let archive = dir.path().join("image.tar");
    let bytes = fs::read(&archive).unwrap();
    let at = bytes.windows(3).position(|window| window == b"one").unwrap();
    let flip = bytes.iter().enumerate().map(|(i, b)| if i == at { b ^ 1 } else { *b }).collect::<Vec<_>>();
    fs::write(&archive, flip).unwrap();
    let result = collect_release(&path, &options()).and_then(|collected| read_all(&collected));
    assert!(matches!(result.unwrap_err().kind(), ErrorKind::SourceDigest { .. }));

    layout(&dir.path().join("images"), "app", "two");
    fs::remove_file(&archive).unwrap();
    make("image.tar");
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceChanged { .. }), "{error}");
    fs::write(&archive, [0; 1024]).unwrap();
    let error = collect_release(&path, &options()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceMalformed { .. }), "{error}");
}

#[test]
fn a_docker_archive_that_describes_a_member_without_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = release(dir.path(), "docker-archive:image.tar");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(limits::TAR_HEAD_BYTES + (1 << 16));
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, std::io::repeat(b'a').take(header.size().unwrap())).unwrap();
    let mut member = tar::Header::new_ustar();
    member.set_size(0);
    tar.append_data(&mut member, "manifest.json", &b""[..]).unwrap();
    fs::write(dir.path().join("image.tar"), tar.into_inner().unwrap()).unwrap();
    let error = pin_release(&path, &options()).unwrap_err();
    let ErrorKind::Format(inner) = error.kind() else { panic!("{error}") };
    assert!(matches!(inner.kind(), bundle_format::ErrorKind::TooLarge { .. }), "{error}");
}

#[test]
fn a_docker_archive_with_a_layout_keeps_the_digests() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    layout(&images, "app", "one");
    let archive = dir.path().join("image.tar").display().to_string();
    run("tar", &["-C", &images.display().to_string(), "-cf", &archive, "oci-layout", "index.json", "blobs"]);
    let path = release(dir.path(), "oci:images");
    let expected = pin_release(&path, &options()).unwrap().images[0].digest;
    let path = release(dir.path(), "docker-archive:image.tar");
    assert_eq!(pin_release(&path, &options()).unwrap().images[0].digest, expected);
    read_all(&collect_release(&path, &options()).unwrap()).unwrap();
}

#[test]
fn an_index_travels_with_the_manifest_of_the_platform() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    layout(&images, "app", "one");
    // The layout's index becomes a blob itself; its entry gets a platform.
    let inner = fs::read_to_string(images.join("index.json")).unwrap();
    let inner = inner.replace("\"annotations\"", r#""platform":{"os":"linux","architecture":"amd64"},"annotations""#);
    let digest = Sha256::of(inner.as_bytes());
    fs::write(images.join("blobs/sha256").join(digest.hex()), &inner).unwrap();
    let entry = format!(
        r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":{}}}"#,
        inner.len()
    );
    fs::write(images.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)).unwrap();
    let path = release(dir.path(), "oci:images");
    let lock = pin_release(&path, &options()).unwrap();
    let image = &lock.images[0];
    assert_eq!((image.digest, image.blobs.len()), (digest, 5));
    assert_ne!(image.manifest, digest);
    read_all(&collect_release(&path, &options()).unwrap()).unwrap();

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("linux/amd64", "linux/arm64")).unwrap();
    let error = pin_release(&path, &options()).unwrap_err();
    let ErrorKind::Format(inner) = error.kind() else { panic!("{error}") };
    assert!(matches!(inner.kind(), bundle_format::ErrorKind::Platform { .. }), "{error}");
}

/// The layout's documents: index, manifest, config.
struct Documents {
    images: std::path::PathBuf,
    index: serde_json::Value,
    manifest: serde_json::Value,
    config: serde_json::Value,
}

impl Documents {
    fn read(images: &std::path::Path) -> Self {
        let json = |path: std::path::PathBuf| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
        };
        let blob = |digest: &serde_json::Value| images.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
        let index = json(images.join("index.json"));
        let manifest = json(blob(&index["manifests"][0]["digest"]));
        let config = json(blob(&manifest["config"]["digest"]));
        Self { images: images.to_owned(), index, manifest, config }
    }

    fn blob(&self, value: &serde_json::Value) -> (Sha256, usize) {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Sha256::of(&bytes);
        fs::write(self.images.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
        (digest, bytes.len())
    }

    /// Writes the config, then the manifest that names it, then the index that names that: sums made anew.
    fn seal(&mut self) {
        let (digest, size) = self.blob(&self.config);
        self.manifest["config"]["digest"] = digest.to_string().into();
        self.manifest["config"]["size"] = size.into();
        self.seal_manifest();
    }

    fn seal_manifest(&mut self) {
        let (digest, size) = self.blob(&self.manifest);
        self.index["manifests"][0]["digest"] = digest.to_string().into();
        self.index["manifests"][0]["size"] = size.into();
        self.write_index();
    }

    fn write_index(&self) {
        fs::write(self.images.join("index.json"), serde_json::to_vec(&self.index).unwrap()).unwrap();
    }
}

/// A layout, its release manifest, its documents.
fn documents(dir: &std::path::Path) -> (std::path::PathBuf, Documents) {
    let images = dir.join("images");
    layout(&images, "app", "one");
    (release(dir, "oci:images:app"), Documents::read(&images))
}

/// A damage to an image's documents; what it leaves is sound but for that.
type Lie = fn(&mut Documents);

#[test]
fn documents_that_lie_about_each_other_are_refused() {
    let kind = |lie: Lie| {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut documents) = documents(dir.path());
        lie(&mut documents);
        let read = || {
            pin_release(&path, &options())?;
            read_all(&collect_release(&path, &options())?)
        };
        read().unwrap_err()
    };
    let error = kind(|d| {
        d.manifest["layers"][0]["size"] = 1.into();
        d.seal();
    });
    assert!(matches!(error.kind(), ErrorKind::SourceSize { expected: 1, .. }), "layer's size: {error}");
    let error = kind(|d| {
        d.seal();
        d.manifest["config"]["size"] = 1.into();
        d.seal_manifest();
    });
    assert!(matches!(error.kind(), ErrorKind::SourceSize { expected: 1, .. }), "config's size: {error}");
    let error = kind(|d| {
        d.index["manifests"][0]["size"] = 1.into();
        d.write_index();
    });
    assert!(matches!(error.kind(), ErrorKind::SourceSize { expected: 1, .. }), "manifest's size: {error}");
    let error = kind(|d| {
        // The config is another one, of the same size, under its former digest.
        let path = d.images.join("blobs").join(d.manifest["config"]["digest"].as_str().unwrap().replace(':', "/"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"config\":{}", "\"Config\":{}")).unwrap();
    });
    assert!(matches!(error.kind(), ErrorKind::SourceDigest { .. }), "config's digest: {error}");
    let format = |error: &bundle_builder::Error| match error.kind() {
        ErrorKind::Format(inner) => format!("{:?}", inner.kind()),
        other => format!("{other:?}"),
    };
    let error = kind(|d| {
        // The layout names an index, whose entry for the platform is an index again. (An index that holds
        // itself cannot be made: it would have to hold its own digest.)
        d.index["manifests"][0]["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
        for _ in 0..2 {
            let (digest, size) = d.blob(&d.index);
            d.index = serde_json::json!({"schemaVersion": 2, "manifests": [{
                "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest.to_string(), "size": size,
                "platform": {"os": "linux", "architecture": "amd64"},
                "annotations": {"org.opencontainers.image.ref.name": "app"},
            }]});
        }
        d.write_index();
    });
    assert!(format(&error).starts_with("BadValue"), "index in an index: {error}");
    let error = kind(|d| {
        let mut other = d.index["manifests"][0].clone();
        other["digest"] = Sha256::of(b"other").to_string().into();
        d.index["manifests"].as_array_mut().unwrap().push(other);
        d.write_index();
    });
    assert!(matches!(error.kind(), ErrorKind::SourceMalformed { .. }), "one tag twice: {error}");
}

#[test]
fn a_layer_of_another_diff_id_is_refused() {
    let scan = |lie: Lie| {
        let dir = tempfile::tempdir().unwrap();
        let (path, mut documents) = documents(dir.path());
        lie(&mut documents);
        documents.seal();
        pin_release(&path, &options()).unwrap();
        with_sboms(collect_release(&path, &options()).unwrap())
    };
    scan(|_| ()).unwrap();
    let inconsistent = |error: bundle_builder::Error| {
        let ErrorKind::Format(inner) = error.kind() else { panic!("{error}") };
        assert!(matches!(inner.kind(), bundle_format::ErrorKind::Inconsistent { .. }), "{error}");
        assert_eq!(error.class().exit_code(), 3);
        error.to_string()
    };
    let said = inconsistent(scan(|d| d.config["rootfs"]["diff_ids"].as_array_mut().unwrap().reverse()).unwrap_err());
    assert!(said.contains("expected DiffID") && said.contains(": layer sha256:"), "{said}");
    inconsistent(scan(|d| d.config["rootfs"]["diff_ids"][1] = Sha256::of(b"x").to_string().into()).unwrap_err());
    // One layer twice, said to be two.
    let said = scan(|d| d.manifest["layers"][1] = d.manifest["layers"][0].clone());
    assert!(inconsistent(said.unwrap_err()).contains("has two DiffIDs"));
}

#[test]
fn a_layer_of_other_bytes_is_named_by_its_stored_digest() {
    let scan = |damage: &dyn Fn(&mut Vec<u8>)| {
        let dir = tempfile::tempdir().unwrap();
        let layers = layout(&dir.path().join("images"), "app", "one");
        let path = release(dir.path(), "oci:images:app");
        pin_release(&path, &options()).unwrap();
        let blob = dir.path().join("images/blobs/sha256").join(layers[1].hex());
        let mut bytes = fs::read(&blob).unwrap();
        damage(&mut bytes);
        fs::write(&blob, bytes).unwrap();
        with_sboms(collect_release(&path, &options()).unwrap())
    };
    scan(&|_| ()).unwrap();
    // In a file's content, where a tar shows nothing; in a header, which ends the reading of the tar.
    for at in [512, 0] {
        let error = scan(&|bytes| bytes[at] ^= 1).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SourceDigest { .. }), "{at}: {error}");
        assert_eq!(error.class().exit_code(), 3);
    }
    let longer = scan(&|bytes| bytes.extend([0; 512])).unwrap_err();
    assert!(matches!(longer.kind(), ErrorKind::SourceSize { .. }), "{longer}");
}
