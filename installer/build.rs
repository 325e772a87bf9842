//! Facts about the build that the program tells of itself: the time that no right clock is behind, and
//! the exact versions of what it computes digests and signatures with, from `Cargo.lock`.
#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

/// What is reported: the package that names it as a dependency, and its own name.
const CRYPTO: [(&str, &str); 18] = [
    ("bundle-format", "ed25519-dalek"),
    ("ed25519-dalek", "curve25519-dalek"),
    ("bundle-format", "minisign-verify"),
    ("bundle-format", "ml-dsa"),
    ("ml-dsa", "module-lattice"),
    ("ml-dsa", "shake"),
    ("shake", "keccak"),
    ("bundle-format", "fips204"),
    ("fips204", "sha3"),
    ("sha3", "keccak"),
    ("bundle-format", "sha2"),
    ("bundle-format", "blake2"),
    ("bundle-format", "hmac"),
    ("installer", "getrandom"),
    ("installer", "rcgen"),
    ("rcgen", "ring"),
    ("ring", "getrandom"),
    ("installer", "zeroize"),
];

/// One package of the lock.
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    checksum: &'a str,
    dependencies: Vec<&'a str>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::var("CARGO_MANIFEST_DIR")?;
    let (lock, manifest) = (Path::new(&folder).join("../Cargo.lock"), Path::new(&folder).join("Cargo.toml"));
    for file in [&lock, &manifest] {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let mut facts = format!(
        "/// Seconds since 1970 of this program's release.\n#[allow(clippy::unreadable_literal, reason = \"made by a program\")]\npub(crate) const BUILD_EPOCH: u64 = {};\n",
        build_epoch(&std::fs::read_to_string(manifest)?)?
    );
    let text = std::fs::read_to_string(lock)?;
    let packages: Vec<Package<'_>> = text.split("[[package]]").skip(1).map(package).collect();
    facts.push_str("/// Who names it, name, version and checksum of what digests and signatures are computed with.\n");
    facts.push_str("pub(crate) const CRYPTO: &[(&str, &str, &str, &str)] = &[\n");
    for (owner, name) in CRYPTO {
        let found =
            linked(&packages, owner, name).ok_or_else(|| format!("Cargo.lock: {owner} does not name {name}"))?;
        writeln!(facts, "    (\"{owner}\", \"{name}\", \"{}\", \"{}\"),", found.version, found.checksum)?;
    }
    facts.push_str("];\n");
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("build_facts.rs"), facts)?;
    Ok(())
}

/// `SOURCE_DATE_EPOCH` where it is set, else the release's own date: never the clock, so that the same
/// sources give the same program.
fn build_epoch(manifest: &str) -> Result<u64, Box<dyn Error>> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(text.trim().parse()?);
    }
    let line = manifest.lines().find_map(|line| line.strip_prefix("released-epoch = "));
    Ok(line.ok_or("Cargo.toml: no released-epoch")?.trim().parse()?)
}

fn package(text: &str) -> Package<'_> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.unwrap_or_default().trim_matches('"')
    };
    let dependencies = text.lines().filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\",")).collect();
    Package { name: field("name"), version: field("version"), checksum: field("checksum"), dependencies }
}

/// The package that `owner` means by `name`: where the lock has several, it names the version.
fn linked<'a>(packages: &'a [Package<'a>], owner: &str, name: &str) -> Option<&'a Package<'a>> {
    let owner = packages.iter().find(|package| package.name == owner)?;
    let named = owner.dependencies.iter().find(|named| named.split(' ').next() == Some(name))?;
    let version = named.split(' ').nth(1);
    packages.iter().find(|package| package.name == name && version.is_none_or(|version| package.version == version))
}
