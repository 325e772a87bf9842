//! Documents that a bundle carries about itself: SBOMs and provenance (spec 5.3, 5.4).
//!
//! What may hurt it: a document made to move a terminal's cursor, a name that becomes a path
//! (CVE-2026-40090). Who defends: only documents of a proven manifest are read, an image is looked up
//! by comparing what the operator typed, a file is written only where the operator says, and what is
//! printed is escaped.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use bundle_format::attachment::{provenance_of, sbom_of};
use bundle_format::digest::Sha256;
use bundle_format::envelope::VerifiedManifest;
use bundle_format::limits;
use bundle_format::manifest::{Image, Manifest};
use bundle_format::provenance::{self, Provenance};
use bundle_format::text::{escaped, escaped_json};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::policy::{Policy, Requirement};
use crate::proof::{Base, KeepSink, ProvedBundle};

/// Keeps what [`kept_provenance`] reads while a bundle is proved.
pub fn sink(manifest: &Manifest) -> KeepSink {
    KeepSink::new(provenance_of(manifest).map(|digest| (digest, limits::PROVENANCE_BYTES)).into_iter().collect())
}

/// The provenance of a bundle that was proved into [`sink`], if it has one.
pub fn kept_provenance(verified: &VerifiedManifest, sink: &KeepSink) -> Result<Option<Provenance>> {
    let Some(digest) = provenance_of(verified.manifest()) else { return Ok(None) };
    let bytes = sink.found(&digest).ok_or_else(|| missing(&digest))?;
    Ok(Some(provenance::check(bytes, verified.manifest(), verified.root().root())?))
}

/// The provenance of a bundle whose head is proved.
pub fn provenance(proved: &ProvedBundle, base: &Base) -> Result<Provenance> {
    let none = || ErrorKind::Usage { why: "this bundle carries no provenance".into() };
    let digest = provenance_of(proved.manifest()).ok_or_else(none)?;
    let found = proved.peek(base, BTreeMap::from([(digest, limits::PROVENANCE_BYTES)]))?;
    let bytes = found.get(&digest).ok_or_else(|| missing(&digest))?;
    Ok(provenance::check(bytes, proved.manifest(), proved.verified().root().root())?)
}

/// A statement that a bundle carries must be right wherever the bundle is used, required or not: what
/// lies about how a release was built is refused before anything is planned by it. And it must be signed
/// where the site asks for that.
pub fn check(proved: &ProvedBundle, base: &Base, policy: &Policy) -> Result<()> {
    let statement = provenance_of(proved.manifest()).map(|_| provenance(proved, base)).transpose()?;
    check_signed(statement.as_ref(), proved.verified(), policy)
}

/// What the site's policy asks of a statement that was read. That there is one is asked of the manifest.
pub fn check_signed(statement: Option<&Provenance>, verified: &VerifiedManifest, policy: &Policy) -> Result<()> {
    if !policy.requires(Requirement::SignedProvenance) {
        return Ok(());
    }
    let Some(statement) = statement else {
        return Ok(bundle_format::attachment::require_signed_provenance(verified.manifest())?);
    };
    Ok(provenance::require_signed(statement, verified.root().root(), policy.algorithms())?)
}

/// The SBOM of the image that the operator named by name and tag, digest, or reference.
pub fn sbom(proved: &ProvedBundle, base: &Base, image: &str) -> Result<Vec<u8>> {
    let manifest = proved.manifest();
    let named = |entry: &&Image| {
        [format!("{}:{}", entry.name, entry.tag), entry.digest.to_string(), entry.reference()]
            .iter()
            .any(|n| n == image)
    };
    let usage = |why: String| ErrorKind::Usage { why };
    let entry = manifest.images.iter().find(named);
    let entry = entry.ok_or_else(|| usage(format!("this bundle has no image {}", escaped(image))))?;
    let (_, _, digest) =
        sbom_of(manifest, entry).ok_or_else(|| usage(format!("image {} has no SBOM", entry.reference())))?;
    let mut found = proved.peek(base, BTreeMap::from([(digest, limits::SBOM_BYTES)]))?;
    found.remove(&digest).ok_or_else(|| missing(&digest).into())
}

/// A JSON document as text that is safe on a terminal and says the same.
pub fn printable(bytes: &[u8]) -> Result<String> {
    let bad = |why: String| bundle_format::ErrorKind::Json { what: "SBOM".into(), why };
    let text = std::str::from_utf8(bytes).map_err(|e| bundle_format::Error::from(bad(e.to_string())))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|e| bundle_format::Error::from(bad(escaped(&e.to_string()))))?;
    Ok(escaped_json(text).trim_end().to_owned())
}

/// Writes the exact bytes to a file that must not exist.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)
}

/// Which images have an SBOM.
pub fn sbom_lines(manifest: &Manifest) -> Vec<String> {
    let sizes = manifest.blob_sizes();
    let line = |image: &Image| {
        let name = format!("{}:{}  {}", image.name, image.tag, image.digest);
        match sbom_of(manifest, image) {
            Some((format, origin, digest)) => {
                let size = sizes.get(&digest).copied().unwrap_or(0);
                format!("{name}  {format} by the {}, {size} bytes", origin.word())
            }
            None => format!("{name}  no SBOM"),
        }
    };
    manifest.images.iter().map(|image| escaped(&line(image))).collect()
}

/// The same for machines.
pub fn sboms_json(manifest: &Manifest) -> Value {
    let entry = |image: &Image| {
        let sbom = sbom_of(manifest, image);
        json!({
            "image": image.reference(),
            "format": sbom.map(|sbom| sbom.0), "origin": sbom.map(|sbom| sbom.1.word()),
            "digest": sbom.map(|sbom| sbom.2.to_string()),
        })
    };
    manifest.images.iter().map(entry).collect()
}

/// One line: how many of the images have one.
pub fn sbom_count(manifest: &Manifest) -> String {
    let have = manifest.images.iter().filter(|image| sbom_of(manifest, image).is_some()).count();
    format!("  SBOM of {have} of {} images", manifest.images.len())
}

/// One line about a provenance statement.
pub fn line(provenance: &Provenance) -> String {
    let predicate = &provenance.statement().predicate;
    let upstream =
        predicate.build_definition.resolved_dependencies.iter().filter(|d| !d.annotations.is_empty()).count();
    escaped(&format!(
        "  provenance by {} from {} things, {upstream} of them with a publisher's signature; build signatures: {}",
        predicate.run_details.builder.id,
        predicate.build_definition.resolved_dependencies.len(),
        provenance.signers().len(),
    ))
}

/// The statement for a person.
pub fn lines(provenance: &Provenance) -> Vec<String> {
    let predicate = &provenance.statement().predicate;
    let (built, run) = (&predicate.build_definition, &predicate.run_details);
    let versions = run.builder.version.iter().map(|(name, version)| format!("{name} {version}"));
    let mut lines = vec![
        format!("builder            {} ({})", run.builder.id, versions.collect::<Vec<_>>().join(", ")),
        format!("release manifest   sha384 {}", built.external_parameters.release_manifest_sha384),
        format!("lock               sha384 {}", built.external_parameters.lock_sha384),
    ];
    lines.extend(provenance.signers().iter().map(|id| format!("build signature    {id}")));
    let digest = |resource: &provenance::Resource| {
        resource.digest.iter().map(|(algorithm, hex)| format!("{algorithm}:{hex}")).collect::<Vec<_>>().join(" ")
    };
    for dependency in &built.resolved_dependencies {
        let name = dependency.name.as_deref().unwrap_or("-");
        lines.push(format!("from               {name}  {}", digest(dependency)));
        lines.extend(dependency.uri.iter().map(|uri| format!("                     taken from {uri}")));
        lines.extend(dependency.annotations.iter().map(|(key, value)| format!("                     {key} {value}")));
    }
    lines.extend(
        provenance.statement().subject.iter().map(|subject| {
            format!("built              {}  {}", subject.name.as_deref().unwrap_or("-"), digest(subject))
        }),
    );
    lines.iter().map(|line| escaped(line)).collect()
}

/// The statement for machines, with who signed it.
pub fn json(provenance: &Provenance) -> Value {
    let signers: Vec<String> = provenance.signers().iter().map(ToString::to_string).collect();
    json!({"statement": provenance.statement(), "build_signers": signers})
}

fn missing(digest: &Sha256) -> ErrorKind {
    ErrorKind::StoreDamaged { digest: digest.to_string(), why: "not in the bundle".into() }
}
