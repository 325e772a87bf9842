//! `inspect`: shows what a bundle claims. Trusts nothing, escapes everything it prints.

use std::io::Read;

use bundle_format::attachment::{provenance_of, sbom_of};
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::Manifest;
use bundle_format::text::escaped;

use crate::error::Result;

/// What of the claim to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum View {
    /// Product, version, sizes, signers.
    Summary,
    /// Images with digest and blobs.
    Images,
    /// Plain files and workloads.
    Files,
    /// Packages of the engine.
    Runtime,
    /// Packs and frames.
    Packs,
    /// SBOMs and provenance.
    Sbom,
    /// Signatures and trust roots.
    Signatures,
}

/// The unproved head of a bundle.
#[derive(Debug)]
pub struct Claim {
    /// Claimed head.
    pub envelope: UnverifiedEnvelope,
    /// Claimed manifest.
    pub manifest: Manifest,
}

/// Reads the head of a bundle; nothing is proved.
pub fn read(input: impl Read) -> Result<Claim> {
    let (envelope, _) = UnverifiedEnvelope::read(input)?;
    let manifest = bundle_format::manifest::parse(envelope.manifest_bytes())?;
    Ok(Claim { envelope, manifest })
}

/// The claim as lines that are safe to print.
pub fn lines(claim: &Claim, view: View) -> Vec<String> {
    let manifest = &claim.manifest;
    let sizes = manifest.blob_sizes();
    let size = |digest: &bundle_format::digest::Sha256| sizes.get(digest).copied().unwrap_or(0);
    let lines = match view {
        View::Summary => summary(claim),
        View::Images => manifest
            .images
            .iter()
            .flat_map(|image| {
                let total: u64 = image.blobs.iter().map(size).sum();
                [
                    format!("{}:{}", image.name, image.tag),
                    format!("  {}  {}", image.digest, image.media_type),
                    format!("  {} blobs, {total} bytes", image.blobs.len()),
                ]
            })
            .collect(),
        View::Files => {
            let workloads = manifest.workloads.iter().map(|w| (format!("workload {}", w.name), w.digest));
            let files = manifest.files.iter().map(|f| (format!("file {}", f.path), f.digest));
            workloads.chain(files).map(|(name, digest)| format!("{name}  {digest}  {} bytes", size(&digest))).collect()
        }
        View::Runtime => manifest
            .runtime
            .iter()
            .flat_map(|set| {
                let head = format!("{}: installs {}", set.os, set.install.join(" "));
                let packages =
                    set.packages.iter().map(|p| format!("  {}  {}  {} bytes", p.name, p.digest, size(&p.digest)));
                std::iter::once(head).chain(packages).collect::<Vec<_>>()
            })
            .collect(),
        View::Packs => packs(manifest),
        View::Sbom => attachments(claim),
        View::Signatures => signatures(claim),
    };
    lines.iter().map(|line| escaped(line)).collect()
}

fn summary(claim: &Claim) -> Vec<String> {
    let m = &claim.manifest;
    let bases = m.bases.iter().map(|set| format!("builds on  {}, {} blobs of it", set.title(), set.blobs.len()));
    let lines = vec![
        "claimed by the bundle; nothing of it is verified here (use: installer verify)".into(),
        format!("product    {} {} (sequence {})", m.product, m.release, m.sequence),
        format!("title      {}", m.title),
        format!("marking    {}", m.marking),
        format!("platform   {}", m.platform),
        format!("created    {}", m.created),
        format!("expires    {}", m.expires.as_ref().map_or("never", |t| t.as_str())),
        format!("manifest   sha384 {}", bundle_format::digest::Sha384::of(claim.envelope.manifest_bytes())),
        format!("content    {} images, {} workloads, {} files", m.images.len(), m.workloads.len(), m.files.len()),
        format!("size       {} bytes stored, {} bytes decoded", m.stored_size(), m.content_size()),
        format!("signatures {} (of {} trust roots)", claim.envelope.signatures().len(), claim.envelope.roots().len()),
    ];
    lines.into_iter().chain(bases).collect()
}

/// Packs, and what a site must hold that takes them.
fn packs(manifest: &Manifest) -> Vec<String> {
    let packs = manifest.packs.iter().map(|pack| {
        let (stored, content) = (pack.stored_size().unwrap_or(0), pack.content_size().unwrap_or(0));
        let counts = format!("{} frames, {} blobs", pack.frames.len(), pack.blobs.len());
        format!("{}  codec {}  {stored} bytes stored, {content} decoded, {counts}", pack.name, pack.codec)
    });
    let bases = manifest.bases.iter().flat_map(|set| {
        let blobs = set.blobs.iter().map(|blob| format!("  {}  {} bytes", blob.digest, blob.size));
        std::iter::once(format!("a site at {} must hold", set.title())).chain(blobs)
    });
    packs.chain(bases).collect()
}

fn attachments(claim: &Claim) -> Vec<String> {
    let manifest = &claim.manifest;
    let sizes = manifest.blob_sizes();
    let images = manifest.images.iter().map(|image| {
        let name = format!("{}:{}", image.name, image.tag);
        match sbom_of(manifest, image) {
            Some((format, origin, digest)) => {
                let size = sizes.get(&digest).copied().unwrap_or(0);
                format!("{name}  {format} by {}  {digest}  {size} bytes", origin.word())
            }
            None => format!("{name}  no SBOM"),
        }
    });
    let provenance = provenance_of(manifest).map_or("no provenance".into(), |digest| format!("provenance  {digest}"));
    images.chain([provenance]).collect()
}

fn signatures(claim: &Claim) -> Vec<String> {
    let newest = claim.envelope.roots().last();
    let holder = |id| {
        newest.and_then(|root| root.claimed().key_list().find(|entry| entry.2 == id).map(|entry| entry.0.to_owned()))
    };
    let signed = claim.envelope.signatures().iter().map(|signature| {
        let name = holder(signature.key).unwrap_or_else(|| "a key that no carried root lists".into());
        format!("claimed signature  {}  {:<10}  {name}", signature.key, signature.scheme())
    });
    let roots = claim.envelope.roots().iter().map(|root| {
        let fingerprint = root.claimed().fingerprint().to_string();
        format!("carried root       version {}  sha384 {fingerprint}", root.claimed().version())
    });
    signed.chain(roots).collect()
}
