//! `size-report`: what each image and layer takes in a bundle, why, and what others would carry.
//!
//! It reads the whole bundle and trusts nothing of it; frames are compared with the manifest, so that
//! what is shown is what lies there.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{Manifest, PackedBlob};
use bundle_format::pack::{DELTA, RAW, TOKENS, dangerous_stored_shares};
use bundle_format::text::escaped;
use serde::Serialize;

use crate::error::{Error, Result};

/// What a bundle is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Bytes of the archive.
    pub bundle: u64,
    /// Images in the manifest's order.
    pub images: Vec<Part>,
    /// Workloads, files and packages.
    pub others: Part,
    /// Sums, each blob counted once.
    pub total: Total,
}

/// An image, or all that is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Name and tag.
    pub name: String,
    /// Bytes of its blobs.
    pub upstream: u64,
    /// Bytes that the bundle carries for those that are its first of the bundle.
    pub carried: u64,
    /// Its blobs, largest first.
    pub blobs: Vec<Carried>,
}

/// A blob and how it is carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// The blob.
    pub digest: Sha256,
    /// Its bytes.
    pub upstream: u64,
    /// Stored bytes that fall to it; 0 where another image has it already.
    pub carried: u64,
    /// Codec of its packs; `base` for what sites hold.
    pub codec: String,
    /// Its coding.
    pub coding: String,
    /// Why.
    pub why: String,
}

/// Sums, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Total {
    /// All blobs.
    pub upstream: u64,
    /// All packs.
    pub carried: u64,
    /// Blobs of images: what a peer's archive of the same images holds, which keeps layers as they are.
    pub peer_images: u64,
    /// What this bundle carries for them.
    pub carried_images: u64,
}

/// How stored bytes were shared out, for a person.
const METHOD: &str = "stored bytes of a shared stream fall to the blob in which each of its blocks begins";

/// Reads a bundle.
pub fn read(bundle: &Path) -> Result<Report> {
    let io = |e| Error::io(bundle.display().to_string(), e);
    let file = confinement::open_regular(bundle).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let (envelope, mut packs) = UnverifiedEnvelope::read(BufReader::with_capacity(1 << 20, file))?;
    let manifest = bundle_format::manifest::parse(envelope.manifest_bytes())?;
    let shares = dangerous_stored_shares(&mut packs, &manifest)?;
    Ok(report(&manifest, &shares, size))
}

fn report(manifest: &Manifest, shares: &[Vec<u64>], bundle: u64) -> Report {
    let sizes = manifest.blob_sizes();
    let mut left = carried(manifest, shares);
    let mut part = |name: String, digests: Vec<Sha256>| {
        // With its bytes where it is first met; whoever comes later shares it.
        let of_blob = |digest: Sha256| match left.get_mut(&digest) {
            Some(carried) => {
                let later = Carried { carried: 0, why: SHARED.into(), ..carried.clone() };
                std::mem::replace(carried, later)
            }
            None => held(digest, sizes.get(&digest).copied().unwrap_or(0)),
        };
        let mut blobs: Vec<Carried> = digests.into_iter().map(of_blob).collect();
        blobs.sort_by_key(|blob| (std::cmp::Reverse(blob.upstream), blob.digest));
        let (upstream, carried) = (sum(&blobs, |blob| blob.upstream), sum(&blobs, |blob| blob.carried));
        Part { name, upstream, carried, blobs }
    };
    let images: Vec<Part> = manifest
        .images
        .iter()
        .map(|image| part(format!("{}:{}", image.name, image.tag), image.blobs.clone()))
        .collect();
    let files = manifest.files.iter().map(|file| file.digest);
    let packages = manifest.runtime.iter().flat_map(|runtime| &runtime.packages).map(|package| package.digest);
    let workloads = manifest.workloads.iter().map(|workload| workload.digest);
    let attachments = manifest.attachments.iter().map(|attachment| *attachment.digest());
    let mut rest: Vec<Sha256> = workloads.chain(files).chain(packages).chain(attachments).collect();
    rest.sort_unstable();
    rest.dedup();
    let others = part("workloads, files, packages and attachments".into(), rest);
    let of_images: std::collections::BTreeSet<&Sha256> =
        manifest.images.iter().flat_map(|image| &image.blobs).collect();
    let total = Total {
        upstream: manifest.content_size(),
        carried: manifest.stored_size(),
        peer_images: of_images.iter().filter_map(|digest| sizes.get(digest)).sum(),
        carried_images: images.iter().map(|image| image.carried).sum(),
    };
    Report { bundle, images, others, total }
}

const SHARED: &str = "another image has it already";

fn sum(blobs: &[Carried], of: impl Fn(&Carried) -> u64) -> u64 {
    blobs.iter().map(of).fold(0, u64::saturating_add)
}

/// Every carried blob; one that is carried in several forms, for several bases, with their sum.
fn carried(manifest: &Manifest, shares: &[Vec<u64>]) -> BTreeMap<Sha256, Carried> {
    let mut all = BTreeMap::<Sha256, Carried>::new();
    for (pack, shares) in manifest.packs.iter().zip(shares) {
        for (blob, stored) in pack.blobs.iter().zip(shares) {
            let why = why(&pack.codec, blob);
            all.entry(blob.digest)
                .and_modify(|carried| {
                    carried.carried = carried.carried.saturating_add(*stored);
                    if carried.codec != pack.codec {
                        carried.codec = format!("{}, {}", carried.codec, pack.codec);
                    }
                })
                .or_insert_with(|| Carried {
                    digest: blob.digest,
                    upstream: blob.size,
                    carried: *stored,
                    codec: pack.codec.clone(),
                    coding: blob.coding.clone(),
                    why,
                });
        }
    }
    all
}

fn held(digest: Sha256, upstream: u64) -> Carried {
    let (codec, why) = ("base".into(), "every base holds it".into());
    Carried { digest, upstream, carried: 0, codec, coding: "-".into(), why }
}

fn why(codec: &str, blob: &PackedBlob) -> String {
    match (codec, blob.coding.as_str(), &blob.delta) {
        (DELTA, _, Some(delta)) => format!("difference to {}", delta.base),
        (_, TOKENS, _) => "gzip, given back exactly from its tokens".into(),
        (RAW, ..) => "compressed already, and no tokens give it back smaller".into(),
        _ => "not compressed before".into(),
    }
}

impl Report {
    /// For a person; safe to print.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{:>13} {:>13} {:>5}  what", "upstream", "carried", "%")];
        for part in self.images.iter().chain([&self.others]).filter(|part| !part.blobs.is_empty()) {
            lines.push(row(part.upstream, part.carried, &part.name));
            for blob in &part.blobs {
                let short: String = blob.digest.hex().chars().take(12).collect();
                let what = format!("  {short}  {} {}: {}", blob.codec, blob.coding, blob.why);
                lines.push(row(blob.upstream, blob.carried, &what));
            }
        }
        let Total { upstream, carried, peer_images, carried_images } = self.total;
        lines.push(row(upstream, carried, "all"));
        lines.push(row(peer_images, carried_images, "images, beside an archive that keeps their layers as they are"));
        lines.push(row(upstream, self.bundle, "the bundle, with manifest and signatures"));
        lines.push(format!("({METHOD})"));
        lines.iter().map(|line| escaped(line)).collect()
    }

    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "bundle_bytes": self.bundle, "images": self.images, "others": self.others, "total": self.total, "method": METHOD,
        })
    }
}

fn row(upstream: u64, carried: u64, what: &str) -> String {
    let share = u128::from(carried) * 1000 / u128::from(upstream.max(1));
    format!("{upstream:>13} {carried:>13} {:>3}.{}  {what}", share / 10, share % 10)
}
