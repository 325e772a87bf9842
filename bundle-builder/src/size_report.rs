//! `size-report`: what each image and layer takes in a bundle, why, and what others would carry.
//!
//! It reads the whole bundle and trusts nothing of it; frames are compared with the manifest, so that
//! what is shown is what lies there. Why a blob is carried as it is, is found out from its bytes as a
//! build finds it out. A peer's archive (`--peer`) is made before the first byte of the bundle is read,
//! since afterwards this process can start no program.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use bundle_format::digest::Sha256;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::manifest::{BaseSet, Manifest, PackedBlob};
use bundle_format::pack::{DELTA, PLAIN, RAW, TOKENS, dangerous_stored_shares};
use bundle_format::text::escaped;
use serde::Serialize;

use crate::coding::{EXACT, NOT_YET, WhyRaw};
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};

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
    /// For each base set, in the manifest's order; of a full bundle none.
    pub updates: Vec<Update>,
    /// What a peer's archive takes, where one was made.
    pub peer: Option<Peer>,
}

/// What the sites of a base set get, beside what they would get by whole layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Update {
    /// Version of the former release.
    pub release: String,
    /// Its sequence.
    pub sequence: u64,
    /// Bytes of the images' blobs that the base set lacks: a delta by layers.
    pub layer_delta: u64,
    /// What this bundle carries to them for these blobs.
    pub carried: u64,
}

/// An OCI layout that went through tar and zstd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The layout.
    pub layout: PathBuf,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Bytes of the blobs in it.
    pub upstream: u64,
    /// Of these, bytes of blobs that this bundle does not carry.
    pub others: u64,
    /// How it was made.
    pub made_by: &'static str,
    #[serde(skip)]
    blobs: BTreeMap<Sha256, u64>,
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
    /// Sum of the blobs of images: what an archive holds that keeps them as they are, before it is
    /// compressed as a whole (which [`Peer`] measures).
    pub peer_images: u64,
    /// What this bundle carries for them.
    pub carried_images: u64,
}

/// How stored bytes were shared out, for a person.
const METHOD: &str = "stored bytes of a shared stream fall to the blob in which each of its blocks begins";

/// How a peer's archive is made.
const PEER: &str = "tar | zstd -T0 --ultra -20";

impl Peer {
    /// Puts the layout in `folder` through tar and zstd: what peers do with images.
    pub fn make(folder: &Path) -> Result<Self> {
        if !folder.join("oci-layout").is_file() {
            return Err(ErrorKind::Usage(format!("{} is no OCI layout: it has no oci-layout", folder.display())).into());
        }
        let blobs = blobs_of(&folder.join("blobs/sha256"))?;
        let compressor = "--use-compress-program=zstd -q -T0 --ultra -20";
        let args = ["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", compressor];
        let command = Command::new("tar").args(args).args(["--file=-", "--directory"]).args([folder, Path::new(".")]);
        let (bytes, upstream) = (command.count()?, blobs.values().sum());
        Ok(Self { layout: folder.to_owned(), bytes, upstream, others: 0, made_by: PEER, blobs })
    }

    /// The same beside a bundle: it has every image blob that this carries.
    fn beside(mut self, carried: &BTreeMap<Sha256, u64>) -> Result<Self> {
        if let Some(lacking) = carried.keys().find(|digest| !self.blobs.contains_key(digest)) {
            let layout = self.layout.display();
            let why = format!("{layout} is not the layout of these images: it lacks {lacking}; give --peer their own");
            return Err(ErrorKind::Usage(why).into());
        }
        self.others = self.blobs.iter().filter(|(digest, _)| !carried.contains_key(digest)).map(|(_, size)| size).sum();
        Ok(self)
    }
}

/// The blobs in a layout's folder.
fn blobs_of(folder: &Path) -> Result<BTreeMap<Sha256, u64>> {
    let io = |e| Error::io(folder.display().to_string(), e);
    let mut blobs = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        // Whatever has no digest for a name is no blob, but lies in the archive all the same.
        let digest = entry.file_name().to_str().and_then(|name| Sha256::parse(&format!("sha256:{name}")).ok());
        if let Some(digest) = digest {
            blobs.insert(digest, std::fs::metadata(entry.path()).map_err(io)?.len());
        }
    }
    Ok(blobs)
}

/// Reads a bundle, to be shown beside a peer's archive if there is one.
pub fn read(bundle: &Path, peer: Option<Peer>) -> Result<Report> {
    let io = |e| Error::io(bundle.display().to_string(), e);
    let file = confinement::open_regular(bundle).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let (envelope, mut packs) = UnverifiedEnvelope::read(BufReader::with_capacity(1 << 20, file))?;
    let manifest = bundle_format::manifest::parse(envelope.manifest_bytes())?;
    let mut reasons = Reasons::default();
    let shares = dangerous_stored_shares(&mut packs, &manifest, &mut |blob, bytes| reasons.take(blob, bytes))?;
    report(&manifest, &shares, &reasons.finish()?, size, peer)
}

/// Why blobs are carried as they are, by their bytes.
#[derive(Default)]
struct Reasons {
    open: Option<(Sha256, WhyRaw)>,
    found: BTreeMap<Sha256, String>,
    failed: Option<Error>,
}

impl Reasons {
    fn take(&mut self, blob: &PackedBlob, bytes: &[u8]) {
        if let Err(error) = self.look(blob, bytes) {
            self.failed.get_or_insert(error);
        }
    }

    fn look(&mut self, blob: &PackedBlob, bytes: &[u8]) -> Result<()> {
        if blob.coding != PLAIN {
            return Ok(());
        }
        if self.open.as_ref().is_none_or(|(digest, _)| *digest != blob.digest) {
            self.close()?;
            self.open = Some((blob.digest, WhyRaw::new(blob.size)));
        }
        self.open.as_mut().map_or(Ok(()), |(_, why)| why.take(bytes))
    }

    fn close(&mut self) -> Result<()> {
        if let Some((digest, why)) = self.open.take() {
            self.found.insert(digest, why.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<BTreeMap<Sha256, String>> {
        self.close()?;
        self.failed.map_or(Ok(self.found), Err)
    }
}

fn report(
    manifest: &Manifest,
    shares: &[Vec<u64>],
    reasons: &BTreeMap<Sha256, String>,
    bundle: u64,
    peer: Option<Peer>,
) -> Result<Report> {
    let sizes = manifest.blob_sizes();
    let mut left = carried(manifest, shares, reasons);
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
    let of_images = |digest: &Sha256| of_images.contains(digest);
    let packed = manifest.packs.iter().flat_map(|pack| &pack.blobs).filter(|blob| of_images(&blob.digest));
    let peer = peer.map(|peer| peer.beside(&packed.map(|blob| (blob.digest, blob.size)).collect())).transpose()?;
    let updates = updates(manifest, shares, of_images);
    Ok(Report { bundle, images, others, total, updates, peer })
}

/// Of each base set, what its sites get for images.
fn updates(manifest: &Manifest, shares: &[Vec<u64>], of_images: impl Fn(&Sha256) -> bool) -> Vec<Update> {
    let of_set = |(set, base): (usize, &BaseSet)| {
        let packs = manifest.packs.iter().zip(shares).filter(|(pack, _)| pack.is_for(Some(set)));
        let blobs = packs.flat_map(|(pack, shares)| pack.blobs.iter().zip(shares));
        let (layer_delta, carried) = blobs
            .filter(|(blob, _)| of_images(&blob.digest))
            .fold((0u64, 0u64), |sum, (blob, stored)| (sum.0.saturating_add(blob.size), sum.1.saturating_add(*stored)));
        Update { release: base.release.clone(), sequence: base.sequence, layer_delta, carried }
    };
    manifest.bases.iter().enumerate().map(of_set).collect()
}

const SHARED: &str = "another image has it already";

fn sum(blobs: &[Carried], of: impl Fn(&Carried) -> u64) -> u64 {
    blobs.iter().map(of).fold(0, u64::saturating_add)
}

/// Between the forms in which one blob is carried.
const AND: &str = " and ";

/// Every carried blob; one that is carried in several forms, for several bases, with their sum.
fn carried(manifest: &Manifest, shares: &[Vec<u64>], reasons: &BTreeMap<Sha256, String>) -> BTreeMap<Sha256, Carried> {
    let mut all = BTreeMap::<Sha256, Carried>::new();
    for (pack, shares) in manifest.packs.iter().zip(shares) {
        for (blob, stored) in pack.blobs.iter().zip(shares) {
            let why = why(&pack.codec, blob, reasons);
            all.entry(blob.digest)
                .and_modify(|carried| {
                    carried.carried = carried.carried.saturating_add(*stored);
                    for (all, one) in [
                        (&mut carried.codec, &pack.codec),
                        (&mut carried.coding, &blob.coding),
                        (&mut carried.why, &why),
                    ] {
                        if !all.split(AND).any(|form| form == one) {
                            *all = [all, AND, one].concat();
                        }
                    }
                })
                .or_insert_with(|| Carried {
                    digest: blob.digest,
                    upstream: blob.size,
                    carried: *stored,
                    codec: pack.codec.clone(),
                    coding: blob.coding.clone(),
                    why: why.clone(),
                });
        }
    }
    all
}

fn held(digest: Sha256, upstream: u64) -> Carried {
    let (codec, why) = ("base".into(), "every base holds it".into());
    Carried { digest, upstream, carried: 0, codec, coding: "-".into(), why }
}

fn why(codec: &str, blob: &PackedBlob, reasons: &BTreeMap<Sha256, String>) -> String {
    match (codec, blob.coding.as_str(), &blob.delta) {
        (DELTA, _, Some(delta)) => format!("difference to {}", delta.base),
        (_, TOKENS, _) => EXACT.into(),
        // Nothing was looked at of a blob without bytes.
        (RAW, ..) => reasons.get(&blob.digest).cloned().unwrap_or_else(|| "it is empty".into()),
        _ => NOT_YET.into(),
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
        lines.push(row(peer_images, carried_images, "images, beside the sum of their blobs as they are"));
        for update in &self.updates {
            let of = format!("release {} (sequence {})", update.release, update.sequence);
            let what = format!("images, for sites at {of}, beside the sum of the blobs that these lack");
            lines.push(row(update.layer_delta, update.carried, &what));
        }
        if let Some(peer) = &self.peer {
            let (of, bytes) = (peer.layout.display(), peer.upstream);
            let what = format!("images, beside an archive of {of} ({bytes} bytes of blobs) by {}", peer.made_by);
            lines.push(row(peer.bytes, carried_images, &what));
            if peer.others > 0 {
                lines
                    .push(format!("(that archive has {} bytes of blobs that this bundle does not carry)", peer.others));
            }
        }
        lines.push(row(upstream, self.bundle, "the bundle, with manifest and signatures"));
        lines.push(format!("({METHOD})"));
        lines.iter().map(|line| escaped(line)).collect()
    }

    /// For machines.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "bundle_bytes": self.bundle, "images": self.images, "others": self.others, "total": self.total,
            "updates": self.updates, "peer": self.peer, "method": METHOD,
        })
    }
}

fn row(upstream: u64, carried: u64, what: &str) -> String {
    let share = u128::from(carried) * 1000 / u128::from(upstream.max(1));
    format!("{upstream:>13} {carried:>13} {:>3}.{}  {what}", share / 10, share % 10)
}
