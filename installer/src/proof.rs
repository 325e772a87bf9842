//! From a bundle on disk to a proven, permitted release: opening, the whole proof, site policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use bundle_format::ErrorKind as Format;
use bundle_format::digest::Sha256;
use bundle_format::envelope::{UnverifiedEnvelope, VerifiedManifest};
use bundle_format::limits;
use bundle_format::manifest::{Blob, Manifest};
use bundle_format::marking::Marking;
use bundle_format::pack::{BlobSink, PackReader, Want, unpack};
use bundle_format::root::{RootEnvelope, TrustedRoot};
use bundle_format::signature::AlgorithmPolicy;
use bundle_format::timestamp::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::release::Release;
use crate::state::State;

/// A bundle whose head is proved and permitted; its packs are still to be read.
#[derive(Debug)]
pub struct ProvedBundle {
    path: PathBuf,
    manifest: VerifiedManifest,
    packs: PackReader<File>,
    new_roots: Vec<RootEnvelope>,
}

/// What the site allows.
#[derive(Debug, Clone)]
pub struct SitePolicy {
    /// Highest marking that this system may hold.
    pub accreditation: Marking,
    /// This machine in OCI terms, such as `linux/amd64`.
    pub platform: String,
    /// Anti-rollback floor of the bundle's product.
    pub floor: u64,
    /// The time, never earlier than what was recorded before.
    pub now: Timestamp,
}

impl SitePolicy {
    /// What this site allows for `product`.
    pub fn of(state: &State, product: &str) -> Result<Self> {
        let text = state.setting("accreditation")?;
        Ok(Self {
            accreditation: Marking::parse(text.as_deref().unwrap_or("UNCLASSIFIED"))?,
            platform: HostFacts::platform(),
            floor: state.floor(product)?,
            now: floor_time(state)?,
        })
    }

    /// Rollback floor, marking, platform, expiry of bundle and root.
    pub fn check(&self, verified: &VerifiedManifest) -> Result<()> {
        let manifest = verified.manifest();
        if !manifest.marking.is_within(&self.accreditation) {
            let (accredited, found) = (self.accreditation.to_string(), manifest.marking.to_string());
            return Err(format(Format::MarkingAboveSite { accredited, found }));
        }
        if manifest.platform != self.platform {
            return Err(format(Format::Platform { expected: self.platform.clone(), found: manifest.platform.clone() }));
        }
        if manifest.sequence < self.floor {
            let (product, floor, found) = (manifest.product.clone(), self.floor, manifest.sequence);
            return Err(format(Format::Rollback { product, floor, found }));
        }
        let root = verified.root().root();
        let root_expiry = (format!("trust root version {}", root.version()), Some(root.expires()));
        for (what, expires) in [("the bundle".to_owned(), manifest.expires.as_ref()), root_expiry] {
            if let Some(expires) = expires.filter(|expires| **expires <= self.now) {
                return Err(format(Format::Expired { what, expires: expires.to_string(), now: self.now.to_string() }));
            }
        }
        Ok(())
    }
}

/// This machine's clock.
pub fn clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_unix(since.map_or(0, |since| since.as_secs()))
}

/// The clock, but never earlier than the newest time on record: turning it back unexpires nothing.
fn floor_time(state: &State) -> Result<Timestamp> {
    let now = clock();
    Ok(match state.time_floor()? {
        Some(floor) if floor > now => floor,
        _ => now,
    })
}

impl ProvedBundle {
    /// Opens `path` and proves its head from `trusted` on.
    pub fn open(path: &Path, trusted: &TrustedRoot) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        let kind = file.metadata().map_err(|e| Error::io(path.display().to_string(), e))?.file_type();
        // A FIFO or device would never end, or differ between two reads.
        if !kind.is_file() {
            return Err(ErrorKind::Usage { why: format!("{} is not a regular file", path.display()) }.into());
        }
        let (envelope, packs) = UnverifiedEnvelope::read(file)?;
        let roots = envelope.roots().to_vec();
        let manifest = envelope.verify(trusted, AlgorithmPolicy::Hybrid)?;
        let known = trusted.root().version();
        let new_roots = roots.into_iter().filter(|root| root.claimed().version() > known).collect();
        Ok(Self { path: path.to_owned(), manifest, packs, new_roots })
    }

    /// The proven manifest.
    pub const fn manifest(&self) -> &Manifest {
        self.manifest.manifest()
    }

    /// The proven manifest with its exact bytes and signers.
    pub const fn verified(&self) -> &VerifiedManifest {
        &self.manifest
    }

    /// Where the bundle lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Proven roots that are newer than the trusted one, oldest first.
    pub fn new_roots(&self) -> &[RootEnvelope] {
        &self.new_roots
    }

    /// Site policy; see [`SitePolicy::check`].
    pub fn check_policy(&self, site: &SitePolicy) -> Result<()> {
        site.check(&self.manifest)
    }

    /// The workloads, proved and read ahead of everything else, for plans and preflight. The file is
    /// opened again; what comes out is pinned by the same proven manifest.
    pub fn peek_release(&self) -> Result<Release> {
        let file = File::open(&self.path).map_err(|e| Error::io(self.path.display().to_string(), e))?;
        let (_, mut packs) = UnverifiedEnvelope::read(file)?;
        let mut sink = WorkloadSink::new(self.manifest());
        match unpack(&mut packs, &self.manifest, &mut sink, 1, &mut |_| ()) {
            // The sink ends the walk once it has all that it came for.
            Err(_) if sink.is_full() => {}
            other => other?,
        }
        Release::parse(self.manifest(), |digest| {
            let missing = || ErrorKind::StoreDamaged { digest: digest.to_string(), why: "not in the bundle".into() };
            Ok(sink.found.get(digest).cloned().ok_or_else(missing)?)
        })
    }

    /// Proves every byte behind the head and hands the blobs to `sink`.
    pub fn unpack(mut self, sink: &mut dyn BlobSink, progress: &mut dyn FnMut(u64)) -> Result<VerifiedManifest> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        unpack(&mut self.packs, &self.manifest, sink, threads, progress)?;
        Ok(self.manifest)
    }
}

/// Keeps the workloads' blobs in memory and ends the walk when it has them all.
struct WorkloadSink {
    wanted: BTreeSet<Sha256>,
    current: Option<(Sha256, Vec<u8>)>,
    found: BTreeMap<Sha256, Vec<u8>>,
}

impl WorkloadSink {
    fn new(manifest: &Manifest) -> Self {
        let wanted = manifest.workloads.iter().map(|workload| workload.digest).collect();
        Self { wanted, current: None, found: BTreeMap::new() }
    }

    fn is_full(&self) -> bool {
        self.found.len() == self.wanted.len()
    }
}

impl BlobSink for WorkloadSink {
    fn begin(&mut self, blob: &Blob) -> bundle_format::Result<Want> {
        if self.is_full() {
            return Err(Format::Inconsistent { what: "workloads".into(), why: "all are read".into() }.into());
        }
        if !self.wanted.contains(&blob.digest) {
            return Ok(Want::Skip);
        }
        if blob.size > limits::YAML_BYTES {
            let (limit, found) = (limits::YAML_BYTES, blob.size);
            return Err(Format::TooLarge { what: format!("workload {}", blob.digest), limit, found }.into());
        }
        self.current = Some((blob.digest, Vec::new()));
        Ok(Want::Keep)
    }

    fn write(&mut self, bytes: &[u8]) -> bundle_format::Result<()> {
        if let Some((_, held)) = &mut self.current {
            held.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> bundle_format::Result<()> {
        self.found.extend(self.current.take());
        Ok(())
    }
}

fn format(kind: Format) -> Error {
    bundle_format::Error::from(kind).into()
}
