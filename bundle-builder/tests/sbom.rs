//! SBOMs: what is found in layers compared with what the stock package tools say, and what publishers
//! attached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod fixture;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_builder::sbom::layers::{Found, Kept, Layer, Limits};
use bundle_builder::sbom::{Inventory, Kind, Subject, inventory, spdx};
use bundle_builder::source::RegistryOptions;
use bundle_builder::{Error, ErrorKind, Result, coding};
use bundle_format::attachment::{Attachment, Origin, sbom_of};
use bundle_format::digest::Sha256;
use bundle_format::limits::TAR_HEAD_BYTES;
use bundle_format::timestamp::Timestamp;
use fixture::{collect_release, layout, layout_of, pin_release, read_all, release, with_sboms};

/// A plain tar of files; a name that ends in `*` is executable.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(if name.ends_with('*') { 0o755 } else { 0o644 });
        tar.append_data(&mut header, name.trim_end_matches('*'), *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a layer decodes to; nothing where it is broken.
fn decoded(stored: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match stored {
        [0x1f, 0x8b, ..] => drop(flate2::read::MultiGzDecoder::new(stored).read_to_end(&mut plain)),
        // Or behind a skippable frame.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50, 0x2a, 0x4d, 0x18, ..] => {
            plain = zstd::decode_all(stored).unwrap_or_default();
        }
        _ => plain = stored.to_vec(),
    }
    plain
}

fn scan_with(limits: Limits, layers: &[Vec<u8>]) -> Result<Inventory> {
    let layer = |bytes: &'_ Vec<u8>| (Sha256::of(&decoded(bytes)), bytes.clone());
    let layers: Vec<(Sha256, Vec<u8>)> = layers.iter().map(layer).collect();
    let layers = layers.iter().map(|(diff_id, bytes)| {
        Ok(Layer { what: "TEST layer".into(), diff_id: *diff_id, content: Box::new(&bytes[..]) })
    });
    inventory(limits, layers)
}

fn scan(layers: &[Vec<u8>]) -> Inventory {
    scan_with(Limits::default(), layers).unwrap()
}

fn names(found: &Inventory) -> Vec<String> {
    found.packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect()
}

const STATUS: &str = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\nDescription: x\n y\n .\n\n\
    Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n";

#[test]
fn later_layers_replace_and_white_out() {
    let base = tar_of(&[
        ("./var/lib/dpkg/status", STATUS.as_bytes()),
        ("./etc/os-release", b"ID=debian\nVERSION_ID=\"13\"\n"),
    ]);
    let found = scan(std::slice::from_ref(&base));
    assert_eq!((names(&found), found.os.clone()), (vec!["bash 5.2-1".into()], Some(("debian".into(), "13".into()))));
    let upgraded = STATUS.replace("5.2-1", "5.2-2");
    assert_eq!(names(&scan(&[base.clone(), tar_of(&[("var/lib/dpkg/status", upgraded.as_bytes())])])), ["bash 5.2-2"]);
    for whiteout in ["var/lib/dpkg/.wh.status", "var/lib/.wh.dpkg", "var/.wh..wh..opq"] {
        assert_eq!(names(&scan(&[base.clone(), tar_of(&[(whiteout, b"")])])), Vec::<String>::new(), "{whiteout}");
    }
    // A link in the file's place is not followed, and the file is gone.
    let mut tar = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "var/lib/dpkg/status", "/etc/passwd").unwrap();
    assert_eq!(names(&scan(&[base.clone(), tar.into_inner().unwrap()])), Vec::<String>::new());
    // gzip and zstd, two gzip members too, and a skippable frame before.
    let zstd = zstd::encode_all(&base[..], 3).unwrap();
    let (head, tail) = base.split_at(700);
    let pzstd = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zstd].concat();
    for stored in [gzip(&base), zstd, pzstd, [gzip(head), gzip(tail)].concat()] {
        assert_eq!(names(&scan(&[stored])), ["bash 5.2-1"]);
    }
}

#[test]
fn other_databases() {
    let apk = b"C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nP:busybox\nV:1.36\nA:x86_64\n\n";
    let python = b"Metadata-Version: 2.1\nName: Flask_Thing\nVersion: 3.0\nLicense: BSD\n\nName: not this\n";
    let found = scan(&[tar_of(&[
        ("lib/apk/db/installed", apk),
        ("var/lib/dpkg/status.d/base", b"Package: base-files\nVersion: 12\nArchitecture: amd64\n"),
        ("var/lib/dpkg/status.d/base.md5sums", b"Package: no\nVersion: 1\n"),
        ("usr/lib/python3/dist-packages/flask.dist-info/METADATA", python),
        ("usr/lib/python3/dist-packages/broken.dist-info/METADATA", b"Name: nameless\n"),
        ("var/lib/rpm/Packages", b"old"),
    ])]);
    assert_eq!(names(&found), ["base-files 12", "busybox 1.36", "musl 1.2.5-r0", "Flask_Thing 3.0"]);
    assert_eq!(found.packages[2].licence.as_deref(), Some("MIT"));
    assert_eq!(found.unread.len(), 2, "{:?}", found.unread);
    assert_eq!(spdx::purl(&found.packages[3], found.os.as_ref()), "pkg:pypi/flask-thing@3.0");
    let alpine = Some(("alpine".to_owned(), "3.20".to_owned()));
    let purl = spdx::purl(&found.packages[2], alpine.as_ref());
    assert_eq!(purl, "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20");
    let text = document(&found);
    assert!(text["comment"].as_str().unwrap().contains("broken.dist-info/METADATA: no name or version"), "{text}");
}

fn document(found: &Inventory) -> serde_json::Value {
    let created = Timestamp::from_unix(1_700_000_000);
    let subject = Subject { name: fixture::NAME, digest: Sha256::of(b"image"), created: &created };
    let bytes = spdx::document(&subject, found).unwrap();
    assert_eq!(bytes, spdx::document(&subject, found).unwrap(), "the same bytes each time");
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn hostile_layers() {
    let status = ("var/lib/dpkg/status", STATUS.as_bytes());
    let plain = tar_of(&[status]);
    let too_large = |limits: Limits, layers: &[Vec<u8>]| match scan_with(limits, layers).unwrap_err().kind() {
        ErrorKind::Format(error) => matches!(error.kind(), bundle_format::ErrorKind::TooLarge { .. }),
        _ => false,
    };
    let all = Limits::default();
    let bomb = gzip(&vec![0; 1 << 20]);
    assert!(bomb.len() < 16_000);
    assert!(too_large(Limits { layer_bytes: 1 << 19, ..all }, &[bomb]));
    assert!(too_large(Limits { entries: 1, ..all }, &[tar_of(&[status, ("a", b"")])]));
    assert!(too_large(Limits { database: 40, ..all }, std::slice::from_ref(&plain)));
    // A long name and an extended header that `tar` would read whole.
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let described = |size: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_cksum();
            let mut tar = tar::Builder::new(Vec::new());
            tar.append(&header, std::io::repeat(b'a').take(size)).unwrap();
            gzip(&[&tar.get_ref()[..], &plain].concat())
        };
        let (most, more) = (TAR_HEAD_BYTES, TAR_HEAD_BYTES + (1 << 16));
        scan_with(all, &[described(most)]).unwrap();
        assert!(too_large(all, &[described(more)]), "{kind:?}");
    }
    assert!(too_large(Limits { databases: 2 * STATUS.len() as u64, ..all }, &[plain.clone(), plain.clone()]));
    // Also while they are read, before any is laid over another; and what names them counts.
    let many: Vec<String> = (0..100).map(|n| format!("usr/lib/{n}/x.dist-info/METADATA")).collect();
    let many = tar_of(&many.iter().map(|name| (name.as_str(), &b""[..])).collect::<Vec<_>>());
    assert!(too_large(Limits { databases: 10_000, ..all }, std::slice::from_ref(&many)));
    let (limits, first, second) = (Limits { databases: 30_000, ..all }, Kept::default(), Kept::default());
    let read = |images: &[&Kept]| {
        let layer = Layer { what: "TEST".into(), diff_id: Sha256::of(&many), content: Box::new(&many[..]) };
        Found::read(limits, layer, images).map(drop)
    };
    read(&[&first]).unwrap();
    let error = read(&[&second, &first]).unwrap_err();
    assert!(error.to_string().contains("package databases up to usr/lib/"), "{error}");
    // Names that climb are no databases, whatever they end in.
    let mut climbing = plain.clone();
    climbing[..29].copy_from_slice(b"../../../var/lib/dpkg/status\0");
    let sum: u32 =
        climbing[..512].iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    climbing[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(names(&scan(&[climbing])), Vec::<String>::new());
    // A layer that is cut, or no archive at all, is an error, not an empty list.
    let zipped = gzip(&plain);
    for broken in [zipped[..zipped.len() / 2].to_vec(), b"this is no archive".repeat(64)] {
        assert!(matches!(scan_with(all, &[broken]).unwrap_err().kind(), ErrorKind::Io { .. }));
    }
}

#[test]
fn many_databases_take_no_longer_than_they_are_many() {
    // When each was compared with all before it, this took minutes.
    let names: Vec<String> = (0..200_000).map(|n| format!("lib/{n}.dist-info/METADATA")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let found = scan(&[tar_of(&files)]);
    assert_eq!(found.unread.len(), files.len());
}

/// The folder with the reference images (tests/setup/fixtures.sh).
fn images() -> PathBuf {
    let cache = || std::env::var_os("LOCKGATE_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/lockgate");
    let folder = std::env::var_os("LOCKGATE_FIXTURES")
        .map_or_else(|| cache().unwrap_or_else(home).join("fixtures"), PathBuf::from);
    assert!(folder.join("images/index.json").exists(), "no images: run tests/setup/fixtures.sh");
    folder.join("images")
}

/// The layers' files of one image of the layout.
fn layers_of(images: &Path, name: &str) -> Vec<PathBuf> {
    let json = |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |digest: &serde_json::Value| images.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let index = json(images.join("index.json"));
    let entry = index["manifests"].as_array().unwrap().iter();
    let entry = entry.clone().find(|m| m["annotations"]["org.opencontainers.image.ref.name"] == name).unwrap();
    json(blob(&entry["digest"]))["layers"].as_array().unwrap().iter().map(|layer| blob(&layer["digest"])).collect()
}

fn of_kind(found: &Inventory, kind: Kind) -> Vec<String> {
    let one = |p: &&bundle_builder::sbom::Package| p.kind == kind;
    found
        .packages
        .iter()
        .filter(one)
        .map(|p| format!("{} {} {}", p.name, p.version, p.arch.clone().unwrap_or_default()))
        .collect()
}

#[test]
fn a_debian_image_has_the_packages_that_dpkg_lists() {
    let paths = layers_of(&images(), "registry");
    let root = tempfile::tempdir().unwrap();
    for path in &paths {
        fixture::run("tar", &["-xf", path.to_str().unwrap(), "-C", root.path().to_str().unwrap()]);
    }
    let layers: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let found = scan(&layers);
    // The image's own tool on its own database.
    let said = Command::new("chroot")
        .arg(root.path())
        .args(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version} ${Architecture}\\n"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    let mut expected: Vec<String> =
        said.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect();
    expected.sort();
    let mut ours = of_kind(&found, Kind::Deb);
    ours.sort();
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(ours, expected);
    assert_eq!(found.os.as_ref().map(|os| os.0.as_str()), Some("debian"));
    // docker-registry is a Go program; Debian builds it without module lines, so its Go is what it names.
    assert!(found.packages.iter().any(|p| p.kind == Kind::Go && p.name == "stdlib"), "{:?}", of_kind(&found, Kind::Go));
    let text = document(&found);
    assert_eq!(text["packages"].as_array().unwrap().len(), found.packages.len() + 1);
    assert_eq!(text["spdxVersion"], "SPDX-2.3");
}

const RPM_FORMAT: &str = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH}\\n";

/// What the stock rpm lists of the database in `folder`, each package once.
fn said_by_rpm(folder: &str, backend: &str) -> Vec<String> {
    let define = format!("_db_backend {backend}");
    let said = Command::new("rpm")
        .args(["--define", &define, "--dbpath", folder, "-qa", "--qf", RPM_FORMAT])
        .output()
        .unwrap();
    let mut packages: Vec<String> = String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect();
    packages.sort();
    packages.dedup();
    packages
}

/// A database of two packages that rpm itself made; gives the folder `db` in `dir`.
fn rpm_database(dir: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    for (name, epoch, arch) in [("test-hello", "Epoch: 2\n", "noarch"), ("test-world", "", "noarch")] {
        let spec = format!(
            "Name: {name}\n{epoch}Version: 1.4\nRelease: 3\nSummary: TEST\nLicense: MIT\nBuildArch: {arch}\n%description\nTEST\n%files\n"
        );
        fs::write(dir.join(name), spec).unwrap();
        fixture::run("rpmbuild", &["-bb", "--quiet", "--define", &format!("_topdir {}", at("top")), &at(name)]);
        let package = format!("{}/RPMS/noarch/{name}-1.4-3.noarch.rpm", at("top"));
        fixture::run("rpm", &["--dbpath", &at("db"), "-i", "--justdb", "--nodeps", &package]);
    }
    at("db")
}

const RPM_PACKAGES: [&str; 2] = ["test-hello 2:1.4-3 noarch", "test-world 1.4-3 noarch"];

#[test]
fn an_rpm_database_has_the_packages_that_rpm_lists() {
    let dir = tempfile::tempdir().unwrap();
    let database = rpm_database(dir.path());
    assert_eq!(said_by_rpm(&database, "sqlite"), RPM_PACKAGES);
    let read = |name: &str| fs::read(Path::new(&database).join(name)).unwrap();
    let (database, log) = (read("rpmdb.sqlite"), read("rpmdb.sqlite-wal"));
    for folder in ["var/lib/rpm", "usr/lib/sysimage/rpm"] {
        let (name, log_name) = (format!("{folder}/rpmdb.sqlite"), format!("{folder}/rpmdb.sqlite-wal"));
        let found = scan(&[tar_of(&[(&name, &database), (&log_name, &log)])]);
        assert_eq!(of_kind(&found, Kind::Rpm), RPM_PACKAGES, "{:?}", found.unread);
        assert_eq!(found.packages[0].licence.as_deref(), Some("MIT"));
    }
    let broken = scan(&[tar_of(&[("var/lib/rpm/rpmdb.sqlite", b"no database")])]);
    assert!(broken.unread[0].contains("not readable as an rpm database"), "{:?}", broken.unread);
}

/// The form before rpm 4.16, written by Berkeley DB's own tool of the headers that rpm made, read by rpm and by us.
#[test]
fn an_older_rpm_database_has_the_packages_that_rpm_lists() {
    let dir = tempfile::tempdir().unwrap();
    let database = Path::new(&rpm_database(dir.path())).join("rpmdb.sqlite");
    let connection = rusqlite::Connection::open(database).unwrap();
    let mut query = connection.prepare("SELECT blob FROM Packages").unwrap();
    let headers: Vec<Vec<u8>> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    // Headers on pages of their own, some and all; in the page of their bucket; by a machine of the other byte order.
    for (page, order) in [(512, 1234), (4096, 1234), (65536, 1234), (4096, 4321)] {
        let head =
            format!("VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={page}\ndb_lorder={order}\nHEADER=END\n");
        // rpm's own record, and each header many times: buckets are split.
        let mut dump = vec![head, " 00000000\n 2d010000\n".to_owned()];
        dump.extend(
            (1..=300u32)
                .zip(headers.iter().cycle())
                .map(|(number, header)| format!(" {}\n {}\n", hex(&number.to_le_bytes()), hex(header))),
        );
        dump.push("DATA=END\n".to_owned());
        let folder = dir.path().join(format!("{page}-{order}"));
        fs::create_dir(&folder).unwrap();
        let (text, packages) = (dir.path().join("dump"), folder.join("Packages"));
        fs::write(&text, dump.concat()).unwrap();
        fixture::run("db5.3_load", &["-f", text.to_str().unwrap(), packages.to_str().unwrap()]);
        assert_eq!(said_by_rpm(folder.to_str().unwrap(), "bdb_ro"), RPM_PACKAGES, "{page} {order}");
        let database = fs::read(packages).unwrap();
        for path in ["var/lib/rpm/Packages", "usr/lib/sysimage/rpm/Packages"] {
            let found = scan(&[tar_of(&[(path, &database)])]);
            assert_eq!(of_kind(&found, Kind::Rpm), RPM_PACKAGES, "{page} {order}: {:?}", found.unread);
            assert_eq!(found.unread, Vec::<String>::new());
        }
    }
    let unread =
        scan(&[tar_of(&[("var/lib/rpm/Packages", b"no table"), ("usr/lib/sysimage/rpm/Packages.db", b"RpmP")])]).unread;
    assert!(unread.iter().any(|why| why.contains("it is no hash table of Berkeley DB")), "{unread:?}");
    assert!(unread.iter().any(|why| why.contains("in the form of SUSE (ndb)")), "{unread:?}");
}

const SPDX: &[u8] = b"{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"TEST published\"}";
const CYCLONE: &[u8] = b"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\"}";

/// Adds an artifact about the layout's one image; gives the document's digest.
fn attach(images: &Path, media_type: &str, document: &[u8], about: Option<Sha256>) -> Sha256 {
    let blob = |bytes: &[u8]| {
        let digest = Sha256::of(bytes);
        fs::write(images.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    };
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(images.join("index.json")).unwrap()).unwrap();
    let subject = about.map_or_else(|| index["manifests"][0].clone(), |digest| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(), "size": 3})
    });
    let (empty, digest) = (blob(b"{}"), blob(document));
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": media_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.to_string(), "size": 2},
        "layers": [{"mediaType": media_type, "digest": digest.to_string(), "size": document.len()}],
        "subject": {"mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"]},
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let entry = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": blob(&manifest).to_string(),
        "size": manifest.len(), "artifactType": media_type,
    });
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(images.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    digest
}

#[test]
fn a_published_sbom_is_pinned_and_carried() {
    let options = RegistryOptions::default();
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    layout(&images, "app", "one");
    let path = release(dir.path(), "oci:images:app");
    // Without one it is made; about another image it is nobody's.
    attach(
        &images,
        "application/spdx+json",
        b"{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"other\"}",
        Some(Sha256::of(b"other")),
    );
    assert_eq!(pin_release(&path, &options).unwrap().images[0].sbom, None);
    let collected = with_sboms(collect_release(&path, &options).unwrap()).unwrap();
    let manifest = &collected.manifest_without_packs;
    assert!(matches!(sbom_of(manifest, &manifest.images[0]), Some(("spdx-2.3", Origin::Builder, _))));

    let cyclone = attach(&images, "application/vnd.cyclonedx+json", CYCLONE, None);
    let locked = pin_release(&path, &options).unwrap().images[0].sbom.clone().unwrap();
    assert_eq!((locked.format.as_str(), locked.digest), ("cyclonedx-1.6", cyclone));
    let spdx = attach(&images, "application/spdx+json", SPDX, None);
    let locked = pin_release(&path, &options).unwrap().images[0].sbom.clone().unwrap();
    assert_eq!((locked.format.as_str(), locked.digest, locked.size), ("spdx-2.3", spdx, SPDX.len() as u64));
    let collected = with_sboms(collect_release(&path, &options).unwrap()).unwrap();
    assert_eq!(collected.manifest_without_packs.attachments.len(), 1);
    assert!(read_all(&collected).unwrap().contains(&SPDX.to_vec()), "the exact bytes travel");
    let Attachment::Sbom { origin, .. } = &collected.manifest_without_packs.attachments[0] else { panic!() };
    assert_eq!(*origin, Origin::Publisher);

    // Its bytes changed in the source, then lost.
    let file = images.join("blobs/sha256").join(spdx.hex());
    fs::write(&file, SPDX.to_ascii_uppercase()).unwrap();
    let refused = |error: Error| assert!(matches!(error.kind(), ErrorKind::SourceDigest { .. }), "{error}");
    refused(read_all(&collect_release(&path, &options).unwrap()).unwrap_err());
    refused(pin_release(&path, &options).unwrap_err());
    fs::remove_file(&file).unwrap();
    let error = pin_release(&path, &options).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BlobMissing { .. }), "{error}");
}

#[test]
fn a_published_sbom_larger_than_the_limit_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    layout(&images, "app", "one");
    let path = release(dir.path(), "oci:images:app");
    attach(&images, "application/spdx+json", SPDX, None);
    // The artifact's own manifest claims more than the limit: refused before a byte is read.
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(images.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][1]["digest"].as_str().unwrap().replace(':', "/");
    let text = fs::read_to_string(images.join("blobs").join(digest)).unwrap();
    let lie = text.replace(&format!("\"size\":{}", SPDX.len()), "\"size\":67108865");
    assert_ne!(lie, text);
    let digest = Sha256::of(lie.as_bytes());
    fs::write(images.join("blobs/sha256").join(digest.hex()), &lie).unwrap();
    index["manifests"][1]["digest"] = digest.to_string().into();
    index["manifests"][1]["size"] = lie.len().into();
    fs::write(images.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    let error = pin_release(&path, &RegistryOptions::default()).unwrap_err();
    let is_kind = matches!(error.kind(), ErrorKind::Format(e)
        if matches!(e.kind(), bundle_format::ErrorKind::TooLarge { limit: 67_108_864, .. }));
    assert!(is_kind, "{error}");
}

#[test]
fn an_attached_document_that_is_no_sbom() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    layout(&images, "app", "one");
    let path = release(dir.path(), "oci:images:app");
    attach(&images, "application/spdx+json", b"{\"spdxVersion\":\"2.3/../x\"}", None);
    let error = pin_release(&path, &RegistryOptions::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SourceMalformed { .. }), "{error}");
}

/// gzip whose header has a checksum of its own.
fn with_header_checksum(gzip: &[u8]) -> Vec<u8> {
    let mut head = gzip[..10].to_vec();
    head[3] |= 2;
    let mut crc = flate2::Crc::new();
    crc.update(&head);
    let [low, high, ..] = crc.sum().to_le_bytes();
    [&head[..], &[low, high], &gzip[10..]].concat()
}

/// How the layer is coded while it is listened to, and what becomes of its stored bytes then.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    /// By its tokens, then it is taken away: nobody may need it again.
    Gone,
    /// The same, by two threads.
    GoneByTwo,
    /// By its tokens.
    Stays,
    /// Not at all.
    Silent,
}

#[test]
fn what_is_decoded_beside_the_coding_counts_only_if_it_is_the_layer() {
    let options = RegistryOptions::default();
    let base = tar_of(&[("etc/os-release", b"ID=debian\nVERSION_ID=13\n"), ("var/lib/dpkg/status", STATUS.as_bytes())]);
    let (first, second) = base.split_at(700);
    let damaged = |at_end: usize| {
        let mut gzip = gzip(&base);
        let at = gzip.len() - at_end;
        gzip[at] ^= 1;
        gzip
    };
    // Each trial in what the one before left.
    let rooms = coding::Rooms::default();
    let of = |stored: Vec<u8>, decoded: &[u8], then: Then| {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images");
        let digest = layout_of(&images, "app", &[(stored, decoded.to_vec())])[0];
        let path = release(dir.path(), "oci:images:app");
        pin_release(&path, &options).unwrap();
        let mut collected = collect_release(&path, &options).unwrap();
        let readings = collected.readings().unwrap();
        let blob = collected.blobs.iter().find(|blob| blob.digest == digest).unwrap();
        assert!(readings.wants(&digest));
        readings.beside(blob, |listener| {
            let listener = listener.filter(|_| then != Then::Silent);
            let sink = &mut std::io::sink();
            let coded = if then == Then::GoneByTwo {
                coding::tokens_beside(blob, sink, &|_| (), listener, &rooms)?
            } else {
                coding::tokens_into(blob, sink, &|_| (), listener, &rooms)?
            };
            if matches!(then, Then::Gone | Then::GoneByTwo) {
                fs::remove_file(images.join("blobs/sha256").join(digest.hex())).unwrap();
            }
            coded.unwrap();
            Ok(())
        })?;
        assert!(!readings.wants(&digest));
        assert!(readings.beside(blob, |listener| Ok(listener.is_none()))?, "it is read once");
        readings.read(blob)?;
        collected.add_sboms(&readings)?;
        let made = collected.blobs.last().unwrap();
        let document: serde_json::Value = serde_json::from_reader(made.open()?).unwrap();
        // The images' digests differ, as their stored bytes do.
        let packages = document["packages"].as_array().unwrap().iter();
        let packages = packages.map(|package| format!("{} {}", package["name"], package["versionInfo"]));
        Ok::<_, Error>(packages.filter(|package| !package.contains("registry.example")).collect::<Vec<_>>())
    };
    let apart = of(gzip(&base), &base, Then::Silent).unwrap();
    assert!(apart.iter().any(|package| package.contains("bash")), "{apart:?}");
    let twice = [gzip(first), gzip(second)].concat();
    for (stored, then) in [
        (gzip(&base), Then::Gone),
        (gzip(&base), Then::GoneByTwo),
        (twice.clone(), Then::Gone),
        (twice, Then::GoneByTwo),
        // What readers read in several ways is read apart.
        (with_header_checksum(&gzip(&base)), Then::Stays),
        (gzip(&base), Then::Stays),
    ] {
        assert_eq!(of(stored, &base, then).unwrap(), apart, "{then:?}");
    }
    let gone = of(with_header_checksum(&gzip(&base)), &base, Then::Gone).unwrap_err();
    assert!(matches!(gone.kind(), ErrorKind::BlobMissing { .. }), "{gone}");
    // A layer that is none, however it is read: another DiffID, another checksum, another size.
    let other = of(gzip(&base), b"other", Then::Stays).unwrap_err();
    let ErrorKind::Format(inner) = other.kind() else { panic!("{other}") };
    assert!(matches!(inner.kind(), bundle_format::ErrorKind::Inconsistent { .. }), "{other}");
    for at_end in [8, 1] {
        let error = of(damaged(at_end), &base, Then::Stays).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
        assert!(error.to_string().contains("layer sha256:"), "{error}");
    }
}
