//! From a bundle on disk to a proven, permitted release: opening, the whole proof, site policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use bundle_format::ErrorKind as Format;
use bundle_format::approval::Override;
use bundle_format::digest::Sha256;
use bundle_format::envelope::{UnverifiedEnvelope, VerifiedManifest};
use bundle_format::limits;
use bundle_format::manifest::{BaseSet, Blob, Manifest, PackedBlob};
use bundle_format::marking::Marking;
use bundle_format::pack::{BaseBlobs, BlobSink, Held, PackReader, Want, unpack};
use bundle_format::root::{RootEnvelope, TrustedRoot};
use bundle_format::timestamp::Timestamp;
use confinement::open_regular;

use crate::dangerous::Dangerous;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostFacts;
use crate::moment::Moment;
use crate::policy::{Policy, Requirement};
use crate::release::Release;
use crate::state::State;
use crate::store::Store;
use crate::{trust, unpacker};

/// A bundle whose head is proved and permitted; its packs are still to be read.
#[derive(Debug)]
pub struct ProvedBundle {
    path: PathBuf,
    manifest: VerifiedManifest,
    packs: PackReader<File>,
    decoder: Decoder,
}

/// Who takes the packs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoder {
    /// A confined process of its own.
    Apart,
    /// This process: it is confined itself, or no installer.
    Here,
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
    /// The time, never earlier than the floor of times.
    pub now: Timestamp,
    /// The policy file.
    pub policy: Policy,
}

/// A refusal, and what two persons may go past it with.
struct Refusal {
    error: Error,
    door: Option<Override>,
}

/// What this machine's record says about bundles, read before the first byte of one: whoever reads
/// unproved bytes ([`crate::reader`]) holds no database open.
#[derive(Debug, Clone)]
pub struct Site {
    trusted: TrustedRoot,
    policy: Policy,
    accreditation: Marking,
    floors: BTreeMap<String, u64>,
    moment: Moment,
}

impl Site {
    /// Of this machine's record. Without a trust root nothing can be proved.
    pub fn read(state: &State) -> Result<Self> {
        let (trusted, policy) = (trust::required(state)?, Policy::of(state)?);
        let text = state.setting("accreditation")?;
        let accreditation = Marking::parse(text.as_deref().unwrap_or("UNCLASSIFIED"))?;
        Ok(Self { trusted, policy, accreditation, floors: state.floors()?, moment: Moment::read(state)? })
    }

    /// The site's policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The newest trusted root.
    pub const fn trusted(&self) -> &TrustedRoot {
        &self.trusted
    }

    /// The time of this run.
    pub const fn moment(&self) -> &Moment {
        &self.moment
    }

    /// What the site allows for `product`.
    pub fn policy_for(&self, product: &str) -> SitePolicy {
        SitePolicy {
            accreditation: self.accreditation.clone(),
            platform: HostFacts::platform(),
            floor: self.floors.get(product).copied().unwrap_or(0),
            now: self.moment.now().clone(),
            policy: self.policy.clone(),
        }
    }
}

impl SitePolicy {
    /// What this site allows for `product`.
    pub fn of(state: &State, product: &str) -> Result<Self> {
        Ok(Site::read(state)?.policy_for(product))
    }

    /// Rollback floor, marking, platform, expiry of bundle and root, what a bundle must bring along.
    pub fn check(&self, verified: &VerifiedManifest) -> Result<()> {
        self.check_but(verified, &Dangerous::default())
    }

    /// The same, but for what `dangerous` goes past: two persons have to approve that before anything
    /// is done.
    pub fn check_but(&self, verified: &VerifiedManifest, dangerous: &Dangerous) -> Result<()> {
        let open = |refusal: &Refusal| refusal.door.is_some_and(|door| dangerous.holds(door));
        match self.refusals(verified).into_iter().find(|refusal| !open(refusal)) {
            Some(refusal) => Err(refusal.error),
            None => Ok(()),
        }
    }

    /// An error if `dangerous` names what nothing here refuses: nobody is to get used to the flag.
    pub fn refuse_unneeded(&self, verified: &VerifiedManifest, dangerous: &Dangerous) -> Result<()> {
        let refusals = self.refusals(verified);
        let needed = |what: &Override| refusals.iter().any(|refusal| refusal.door == Some(*what));
        match dangerous.set().iter().find(|what| !needed(what)) {
            Some(what) => Err(ErrorKind::DangerousUnneeded { what: what.name() }.into()),
            None => Ok(()),
        }
    }

    fn refusals(&self, verified: &VerifiedManifest) -> Vec<Refusal> {
        let manifest = verified.manifest();
        let mut found = Vec::new();
        let mut refuse = |kind: Format, door| found.push(Refusal { error: format(kind), door });
        if !manifest.marking.is_within(&self.accreditation) {
            let (accredited, found) = (self.accreditation.to_string(), manifest.marking.to_string());
            refuse(Format::MarkingAboveSite { accredited, found }, None);
        }
        if manifest.platform != self.platform {
            refuse(Format::Platform { expected: self.platform.clone(), found: manifest.platform.clone() }, None);
        }
        let floor = verified.floor_after_resets(self.floor);
        if manifest.sequence < floor {
            let (product, found) = (manifest.product.clone(), manifest.sequence);
            refuse(Format::Rollback { product, floor, found }, Some(Override::AcceptRollback));
        }
        let root = verified.root().root();
        let root_expiry = (format!("trust root version {}", root.version()), Some(root.expires()));
        for (what, expires) in [("the bundle".to_owned(), manifest.expires.as_ref()), root_expiry] {
            if let Some(expires) = expires.filter(|expires| **expires <= self.now) {
                let (expires, now) = (expires.to_string(), self.now.to_string());
                refuse(Format::Expired { what, expires, now }, Some(Override::AcceptExpired));
            }
        }
        let missing = self.policy.requirements().iter().filter_map(|required| carries(manifest, *required).err());
        found.extend(missing.map(|error| Refusal { error: error.into(), door: None }));
        found
    }
}

/// What the site requires must come along; what it says is checked when its blob is read.
fn carries(manifest: &Manifest, required: Requirement) -> bundle_format::Result<()> {
    match required {
        Requirement::Sbom => bundle_format::attachment::require_sboms(manifest),
        Requirement::Provenance => bundle_format::attachment::require_provenance(manifest),
        Requirement::SignedProvenance => bundle_format::attachment::require_signed_provenance(manifest),
    }
}

/// This machine's clock, now: for records. What is judged is judged by [`Moment`].
pub fn clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_unix(since.map_or(0, |since| since.as_secs()))
}

impl ProvedBundle {
    /// Opens `path` and proves its head from this machine's trust root on, by the algorithms that the
    /// site's policy asks for.
    pub fn open(path: &Path, state: &State) -> Result<Self> {
        let (trusted, policy) = (trust::required(state)?, Policy::of(state)?);
        let decoder = if unpacker::is_enabled() { Decoder::Apart } else { Decoder::Here };
        Self::open_by(path, &trusted, &policy, decoder)
    }

    /// The same by what was read of the record before, for a process that is confined: it decodes the packs
    /// itself.
    pub fn open_at(path: &Path, site: &Site) -> Result<Self> {
        Self::open_by(path, &site.trusted, &site.policy, Decoder::Here)
    }

    fn open_by(path: &Path, trusted: &TrustedRoot, policy: &Policy, decoder: Decoder) -> Result<Self> {
        let file = open_regular(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        let (envelope, packs) = UnverifiedEnvelope::read(file)?;
        let manifest = envelope.verify(trusted, policy.algorithms())?;
        Ok(Self { path: path.to_owned(), manifest, packs, decoder })
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
        self.manifest.new_roots()
    }

    /// Site policy; see [`SitePolicy::check`].
    pub fn check_policy(&self, site: &SitePolicy) -> Result<()> {
        site.check(&self.manifest)
    }

    /// Which base set `store` holds, whole and sound: the first of the bundle's; [`Base::none`] for a
    /// full bundle. Every blob of it is read and hashed; `progress` is told the bytes. Without such a set
    /// the error names each blob that the best one lacks.
    pub fn find_base(&self, store: &Store, progress: &mut dyn FnMut(u64)) -> Result<Base> {
        Base::find(self.manifest(), store, progress)
    }

    /// The same for a plan or a change: what is active already needs no base any more.
    pub fn find_base_over(&self, state: &State, store: &Store) -> Result<Base> {
        let active = state.active_generation(&self.manifest().product)?;
        let sha384 = self.manifest.sha384().to_string();
        match active {
            Some(active) if active.manifest_sha384 == sha384 => Ok(Base::none(store)),
            _ => self.find_base(store, &mut |_| ()),
        }
    }

    /// The workloads, proved and read ahead of everything else, for plans and preflight; those that are
    /// not carried, out of the base.
    pub fn peek_release(&self, base: &Base) -> Result<Release> {
        let wanted = self.manifest().workloads.iter().map(|workload| (workload.digest, limits::YAML_BYTES)).collect();
        let found = self.peek(base, wanted)?;
        Release::parse(self.manifest(), |digest| {
            let missing = || ErrorKind::StoreDamaged { digest: digest.to_string(), why: "not in the bundle".into() };
            Ok(found.get(digest).cloned().ok_or_else(missing)?)
        })
    }

    /// A few blobs, proved and read ahead of everything else: digest and the most bytes of each. The file
    /// is opened again; what comes out is pinned by the same proven manifest.
    pub fn peek(&self, base: &Base, wanted: BTreeMap<Sha256, u64>) -> Result<BTreeMap<Sha256, Vec<u8>>> {
        let carried = self.manifest().packs.iter().filter(|pack| pack.is_for(base.set)).flat_map(|pack| &pack.blobs);
        let carried: BTreeSet<Sha256> = carried.map(|blob| blob.digest).collect();
        let (wanted, held): (BTreeMap<_, _>, BTreeMap<_, _>) =
            wanted.into_iter().partition(|(digest, _)| carried.contains(digest));
        let mut found = BTreeMap::new();
        for (digest, limit) in held {
            found.insert(digest, base.store.read_small(&digest, limit)?);
        }
        if wanted.is_empty() {
            return Ok(found);
        }
        let mut sink = KeepSink { stop: true, ..KeepSink::new(wanted) };
        let walked = match self.decoder {
            Decoder::Apart => self.unpack_apart(base, &mut sink, &mut |_| ()),
            Decoder::Here => {
                let file = open_regular(&self.path).map_err(|e| Error::io(self.path.display().to_string(), e))?;
                let (_, mut packs) = UnverifiedEnvelope::read(file)?;
                unpack(&mut packs, &self.manifest, base.held(), &mut sink, 1, &mut |_| ()).map_err(Error::from)
            }
        };
        match walked {
            // The sink ends the walk once it has all that it came for.
            Err(_) if sink.is_full() => {}
            other => other?,
        }
        found.extend(sink.found);
        Ok(found)
    }

    /// Proves every byte behind the head and hands the blobs to `sink`; unless this process is confined, one
    /// that is does it ([`unpacker`]). A bundle that builds on a base asks for the one that
    /// [`ProvedBundle::find_base`] found.
    pub fn unpack(
        mut self,
        base: &Base,
        sink: &mut dyn BlobSink,
        progress: &mut dyn FnMut(u64),
    ) -> Result<VerifiedManifest> {
        let unpacked = match self.decoder {
            Decoder::Apart => self.unpack_apart(base, sink, progress),
            Decoder::Here => {
                unpack(&mut self.packs, &self.manifest, base.held(), sink, hashers(), progress).map_err(Error::from)
            }
        };
        let Err(error) = unpacked else { return Ok(self.manifest) };
        // What a base blob that changed meanwhile spoils is told as what it is.
        if let (Some(set), bundle_format::Class::Damaged) = (base.set, error.class()) {
            let sets = self.manifest.manifest().bases.get(set);
            sets.map_or(Ok(()), |set| base.store.check_set(set, &mut |_| ()))?;
        }
        Err(error)
    }

    fn unpack_apart(&self, base: &Base, sink: &mut dyn BlobSink, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let (manifest, held) = (self.manifest(), base.held());
        let blobs = manifest.packs.iter().filter(|pack| held.needs(pack)).flat_map(|pack| &pack.blobs);
        let order = unpacker::Order {
            bundle: &self.path,
            manifest: self.manifest.sha384(),
            stored: manifest.stored_size(),
            blobs: blobs.map(PackedBlob::blob).collect(),
            base: base.set.map(|set| (set, base.store.folder())),
        };
        unpacker::unpack(order, sink, progress)
    }
}

/// Threads that hash frames: more are no quicker than the one that decodes, and each costs memory.
pub(crate) fn hashers() -> usize {
    const MOST: usize = 4;
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST)
}

/// What a bundle builds on, as this site's store holds it.
#[derive(Debug)]
pub struct Base {
    set: Option<usize>,
    store: Store,
}

impl Base {
    /// Nothing: for a full bundle, or where only frames are proved.
    pub fn none(store: &Store) -> Self {
        Self { set: None, store: store.clone() }
    }

    fn find(manifest: &Manifest, store: &Store, progress: &mut dyn FnMut(u64)) -> Result<Self> {
        if manifest.bases.is_empty() {
            return Ok(Self::none(store));
        }
        let mut damage = None;
        for (index, set) in manifest.bases.iter().enumerate().filter(|(_, set)| store.lacking(set).is_empty()) {
            match store.check_set(set, progress) {
                Ok(()) => return Ok(Self { set: Some(index), store: store.clone() }),
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        Err(damage.unwrap_or_else(|| missing(manifest, store, progress)))
    }

    fn held(&self) -> Held<'_> {
        self.set.map_or(Held::Nothing, |set| Held::Set { set, blobs: &self.store })
    }

    /// Whether the store still holds what was found; by sizes, without reading.
    pub fn check_still(&self, manifest: &Manifest) -> Result<()> {
        match self.set.and_then(|set| manifest.bases.get(set)) {
            Some(set) if !self.store.lacking(set).is_empty() => Err(missing(manifest, &self.store, &mut |_| ())),
            _ => Ok(()),
        }
    }
}

/// No set is whole: the one that lacks least, what it lacks, and what of the rest is damaged, so that nobody
/// finds that out only when the first is mended.
fn missing(manifest: &Manifest, store: &Store, progress: &mut dyn FnMut(u64)) -> Error {
    let lacking = |set: &BaseSet| -> u64 { store.lacking(set).iter().map(|blob| blob.size).sum() };
    let best = manifest.bases.iter().min_by_key(|set| lacking(set));
    let (base, blobs) = best.map_or_else(Default::default, |set| {
        let lacking: BTreeSet<Sha256> = store.lacking(set).iter().map(|blob| blob.digest).collect();
        let names: Vec<String> = lacking.iter().map(Sha256::to_string).collect();
        let mut blobs = names.join(", ");
        for blob in set.blobs.iter().filter(|blob| !lacking.contains(&blob.digest)) {
            if let Err(error) = store.check(&blob.digest) {
                blobs = format!("{blobs}; and damaged: {error}");
            }
            progress(blob.size);
        }
        (set.title(), blobs)
    });
    let sets = manifest.bases.len();
    ErrorKind::BaseMissing { product: manifest.product.clone(), base, sets, blobs }.into()
}

impl BaseBlobs for Store {
    fn open(&self, digest: &Sha256) -> bundle_format::Result<Box<dyn std::io::Read + '_>> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(|e| bundle_format::Error::io(path.display().to_string(), e))?;
        Ok(Box::new(file))
    }
}

/// Keeps a few blobs in memory.
#[derive(Debug)]
pub struct KeepSink {
    wanted: BTreeMap<Sha256, u64>,
    current: Option<(Sha256, Vec<u8>)>,
    found: BTreeMap<Sha256, Vec<u8>>,
    stop: bool,
}

impl KeepSink {
    /// Keeps the blobs of these digests, each of at most so many bytes, and lets all others pass.
    pub const fn new(wanted: BTreeMap<Sha256, u64>) -> Self {
        Self { wanted, current: None, found: BTreeMap::new(), stop: false }
    }

    /// A blob that was kept.
    pub fn found(&self, digest: &Sha256) -> Option<&[u8]> {
        self.found.get(digest).map(Vec::as_slice)
    }

    fn is_full(&self) -> bool {
        self.found.len() == self.wanted.len()
    }
}

impl BlobSink for KeepSink {
    fn begin(&mut self, blob: &Blob) -> bundle_format::Result<Want> {
        if self.stop && self.is_full() {
            return Err(Format::Inconsistent { what: "blobs".into(), why: "all are read".into() }.into());
        }
        let Some(limit) = self.wanted.get(&blob.digest) else { return Ok(Want::Skip) };
        if blob.size > *limit {
            let (limit, found) = (*limit, blob.size);
            return Err(Format::TooLarge { what: format!("blob {}", blob.digest), limit, found }.into());
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
