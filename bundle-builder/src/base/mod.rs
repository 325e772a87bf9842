//! `build --base`: what sites hold already, and where the bytes of those blobs are found here.
//!
//! A base is a former bundle, a former release with its lock and sources, or the inventory that a site
//! gave out. What may hurt it: an inventory that is forged or stale, a former bundle that is not what
//! was shipped. Who defends: nothing of a base is trusted. Its blobs are what their digests say, and a
//! site that does not hold what the new bundle requires refuses it before anything else.

pub mod choose;
mod pool;
pub mod sketch;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use bundle_format::appliance::AppliancePublic;
use bundle_format::digest::{Sha256, Sha384};
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::inventory::Inventory;
use bundle_format::limits;
use bundle_format::manifest::{BaseSet, Blob, Manifest, Pack};
use confinement::{open_regular, read_regular};

use crate::collect::{Collected, CollectedBlob, Place, collect, read_lock};
use crate::error::{Error, ErrorKind, Result};
use crate::pin::ReleaseFile;
use crate::source::RegistryOptions;
use pool::Pool;

/// What a build with bases is asked for.
#[derive(Debug, Clone, Default)]
pub struct BaseOptions {
    /// Former bundles, releases or inventories.
    pub bases: Vec<PathBuf>,
    /// More places where blobs of them are: folders (OCI layouts, stores) and bundles.
    pub blobs: Vec<PathBuf>,
    /// The key files of the machines whose inventories they are.
    pub site_keys: Vec<PathBuf>,
}

/// What sites hold, one set for each base, and the bytes of it.
#[derive(Debug, Default)]
pub struct Bases {
    sets: Vec<Base>,
    pool: Pool,
    /// What a person should know.
    notes: Vec<String>,
}

/// What the sites of one base hold.
#[derive(Debug)]
struct Base {
    file: PathBuf,
    release: String,
    sequence: u64,
    manifest_sha384: Option<Sha384>,
    blobs: BTreeMap<Sha256, u64>,
    /// Which layer lies where, as far as that is known.
    places: BTreeMap<Place, Sha256>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bundle(Box<Manifest>),
    Release,
    Inventory,
}

impl Bases {
    /// No base: a full bundle.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads every base of a build of `product`, and finds its blobs. `spools` is a folder for those
    /// that come out of former bundles.
    pub fn read(options: &BaseOptions, new: &Collected, registry: &RegistryOptions, spools: &Path) -> Result<Self> {
        let product = &new.manifest_without_packs.product;
        let mut bases = Self { pool: Pool::new(spools)?, ..Self::default() };
        let mut keys = options.site_keys.iter().map(|file| SiteKey::read(file)).collect::<Result<Vec<_>>>()?;
        for file in &options.bases {
            let base = bases.read_one(file, product, &mut keys, registry)?;
            bases.sets.push(base);
        }
        // Who gives a key wants something to be proved by it.
        if let Some(key) = keys.iter().find(|key| !key.used) {
            let why = format!("--site-key {}: none of the bases is an inventory by this machine", key.file.display());
            return Err(ErrorKind::Usage(why).into());
        }
        let carried: BTreeSet<Sha256> = new.blobs.iter().map(|blob| blob.digest).collect();
        let mut wanted = BTreeMap::new();
        for set in &bases.sets {
            wanted.extend(set.blobs.iter().filter(|(digest, _)| !carried.contains(digest)).map(|(d, s)| (*d, *s)));
            // What a former update built on is needed to take its blobs out.
            if let Kind::Bundle(manifest) = &set.kind {
                wanted.extend(manifest.bases.iter().flat_map(|set| &set.blobs).map(|blob| (blob.digest, blob.size)));
            }
        }
        bases.pool.fill(&options.blobs, &bases.sets, &wanted)?;
        for index in 0..bases.sets.len() {
            bases.name_layers(index)?;
            bases.note_missing(index, &carried);
        }
        Ok(bases)
    }

    fn read_one(
        &mut self,
        file: &Path,
        product: &str,
        keys: &mut [SiteKey],
        registry: &RegistryOptions,
    ) -> Result<Base> {
        let io = |e| Error::io(file.display().to_string(), e);
        if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            return self.read_release(file, product, registry);
        }
        let mut head = [0; 13];
        let filled = crate::coding::read_up_to(&mut open_regular(file).map_err(io)?, &mut head).map_err(io)?;
        if head.get(..filled) == Some(b"manifest.json") {
            let base = read_bundle(file)?;
            let fits = matches!(&base.kind, Kind::Bundle(manifest) if manifest.product == product);
            return if fits { Ok(base) } else { Err(other(file, product)) };
        }
        let bytes = read_regular(file, limits::INVENTORY_BYTES).map_err(io)?;
        let claimed = Inventory::claimed(&bytes)?;
        // The machine's own key, or, so that it is refused, any.
        let own = keys.iter().position(|key| key.fingerprint == claimed.key).unwrap_or(0);
        let (inventory, proof) = match keys.get_mut(own) {
            Some(key) => {
                key.used = true;
                (Inventory::verify(&bytes, &key.public)?, "signed by the site's key")
            }
            None => (claimed, "not verified: no --site-key"),
        };
        self.notes.push(format!("{}: inventory of {}, {proof}", file.display(), inventory.at));
        let missing = || other(file, product);
        let installed = inventory.releases.iter().find(|r| r.product == product).ok_or_else(missing)?;
        Ok(Base {
            file: file.to_owned(),
            release: installed.release.clone(),
            sequence: installed.sequence,
            manifest_sha384: Some(installed.manifest_sha384),
            blobs: inventory.blobs.iter().map(|blob| (blob.digest, blob.size)).collect(),
            places: BTreeMap::new(),
            kind: Kind::Inventory,
        })
    }

    /// A former release by its lock: its sources are collected as for a build.
    fn read_release(&mut self, file: &Path, product: &str, registry: &RegistryOptions) -> Result<Base> {
        // The lock may be named as well as the release that it lies beside.
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let release = match name.strip_suffix(".lock.yaml") {
            Some(stem) => file.with_file_name(format!("{stem}.yaml")),
            None => file.to_owned(),
        };
        let file_of = ReleaseFile::read(&release)?;
        let collected = collect(&file_of, &read_lock(&file_of)?, registry)?;
        let places = collected.blobs.iter().filter_map(|blob| Some((blob.place.clone()?, blob.digest))).collect();
        let manifest = &collected.manifest_without_packs;
        if manifest.product != product {
            return Err(other(file, product));
        }
        let base = Base {
            file: file.to_owned(),
            release: manifest.release.clone(),
            sequence: manifest.sequence,
            manifest_sha384: None,
            blobs: collected.blobs.iter().map(|blob| (blob.digest, blob.size)).collect(),
            places,
            kind: Kind::Release,
        };
        self.pool.add_release(collected);
        Ok(base)
    }

    /// Which layer lies where in a base's images: their manifests say it. An inventory has no names; the
    /// images of former bundles in the pool whose manifests the site holds give it theirs.
    fn name_layers(&mut self, index: usize) -> Result<()> {
        let Some(set) = self.sets.get_mut(index) else { return Ok(()) };
        let images = match &set.kind {
            Kind::Bundle(manifest) => &manifest.images,
            Kind::Inventory => self.pool.images(),
            // Its places are known from its sources.
            Kind::Release => return Ok(()),
        };
        for image in images.iter().filter(|image| set.blobs.contains_key(&image.manifest)) {
            let Some(bytes) = self.pool.read_small(&image.manifest)? else { continue };
            let types =
                [image.media_type.as_str(), bundle_format::oci::OCI_MANIFEST, bundle_format::oci::DOCKER_MANIFEST];
            let parsed = types.iter().find_map(|media| bundle_format::oci::parse_manifest(&bytes, media).ok());
            for (layer, descriptor) in parsed.iter().flat_map(|parsed| &parsed.layers).enumerate() {
                set.places.insert(Place { layer, image: image.name.clone() }, descriptor.digest);
            }
        }
        Ok(())
    }

    fn note_missing(&mut self, index: usize, carried: &BTreeSet<Sha256>) {
        let Some(set) = self.sets.get(index) else { return };
        let gone = set.blobs.iter().filter(|(digest, _)| !carried.contains(digest) && !self.pool.has(digest));
        let gone: Vec<(&Sha256, &u64)> = gone.collect();
        if gone.is_empty() {
            return;
        }
        let bytes: u64 = gone.iter().map(|(_, size)| **size).sum();
        let first: Vec<String> = gone.iter().take(3).map(|(digest, _)| digest.to_string()).collect();
        let more = if gone.len() > first.len() { ", …" } else { "" };
        self.notes.push(format!(
            "{}: the bytes of {} blobs ({bytes} bytes) are not at hand, so that nothing is built on them; give --base-blobs: {}{more}",
            set.file.display(),
            gone.len(),
            first.join(", ")
        ));
    }

    /// What a person should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether it is a full bundle.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Whether no site needs this blob.
    pub fn all_hold(&self, digest: &Sha256) -> bool {
        !self.sets.is_empty() && self.sets.iter().all(|set| set.blobs.contains_key(digest))
    }

    /// What the manifest says that sites must hold: what is not carried to them, and what the deltas for
    /// them build on.
    pub fn required(&self, packs: &[Pack], blobs: &[CollectedBlob]) -> Vec<BaseSet> {
        let of_set = |(index, set): (usize, &Base)| {
            let packed = || packs.iter().filter(|pack| pack.is_for(Some(index))).flat_map(|pack| &pack.blobs);
            let got: BTreeSet<Sha256> = packed().map(|blob| blob.digest).collect();
            let kept = blobs.iter().map(|blob| blob.digest).filter(|digest| !got.contains(digest));
            let bases = packed().filter_map(|blob| Some(blob.delta.as_ref()?.base));
            let needed: BTreeSet<Sha256> = kept.chain(bases).collect();
            let blob = |digest: Sha256| Some(Blob { digest, size: *set.blobs.get(&digest)? });
            BaseSet {
                release: set.release.clone(),
                sequence: set.sequence,
                manifest_sha384: set.manifest_sha384,
                blobs: needed.into_iter().filter_map(blob).collect(),
            }
        };
        self.sets.iter().enumerate().map(of_set).collect()
    }
}

/// The key of a machine, as `installer audit key` gave it out.
struct SiteKey {
    file: PathBuf,
    public: AppliancePublic,
    fingerprint: Sha384,
    used: bool,
}

impl SiteKey {
    fn read(file: &Path) -> Result<Self> {
        let bytes = read_regular(file, limits::ROOT_BYTES).map_err(|e| Error::io(file.display().to_string(), e))?;
        let public = AppliancePublic::parse(&bytes)?;
        Ok(Self { file: file.to_owned(), fingerprint: public.fingerprint()?, public, used: false })
    }
}

fn other(file: &Path, product: &str) -> Error {
    ErrorKind::BaseOfOther { base: file.display().to_string(), product: product.to_owned() }.into()
}

fn read_bundle(file: &Path) -> Result<Base> {
    let input = open_regular(file).map_err(|e| Error::io(file.display().to_string(), e))?;
    let (envelope, _) = UnverifiedEnvelope::read(BufReader::new(input))?;
    let manifest = bundle_format::manifest::parse(envelope.manifest_bytes())?;
    Ok(Base {
        file: file.to_owned(),
        release: manifest.release.clone(),
        sequence: manifest.sequence,
        manifest_sha384: Some(Sha384::of(envelope.manifest_bytes())),
        blobs: manifest.blob_sizes(),
        places: BTreeMap::new(),
        kind: Kind::Bundle(Box::new(manifest)),
    })
}
