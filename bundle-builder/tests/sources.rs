//! `oci:`, `docker-archive:`, files and directories, from pin to collected bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;

use bundle_builder::ErrorKind;
use bundle_builder::collect::BlobKind::{self, Document, File, Layer, Package, Workload};
use bundle_builder::source::RegistryOptions;
use fixture::{collect_release, layout, pin_release, read_all, release, run};

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
    let digest = bundle_format::digest::Sha256::of(inner.as_bytes());
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
