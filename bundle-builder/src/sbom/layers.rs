//! The few files of an image that say what is in it, taken from its layers (OCI image-spec 1.1,
//! `layer.md`: later layers replace and white out earlier ones).

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use bundle_format::digest::{Sha256, Sha256Hasher};
use bundle_format::limits;

use crate::error::{Error, Result};
use crate::members::{each_member, too_large};
use crate::recognise::begins_as_zstd;
use crate::sbom::golang;

/// A layer's bytes as stored, and what names it in errors.
pub struct Layer<'a> {
    /// For errors.
    pub what: String,
    /// sha256 of its decoded bytes, as the image's config has it.
    pub diff_id: Sha256,
    /// gzip, zstd or plain tar.
    pub content: Box<dyn Read + Send + 'a>,
}

/// The most that is read and kept of an image.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Decoded bytes of a layer.
    pub layer_bytes: u64,
    /// Entries of a layer.
    pub entries: u64,
    /// Bytes of one database.
    pub database: u64,
    /// Bytes of all databases.
    pub databases: u64,
}

/// Bytes that are kept of the layers of one image, counted as they are read, by several threads: all
/// layers are held before the first two are laid over each other.
#[derive(Debug, Default)]
pub struct Kept(AtomicU64);

impl Kept {
    /// Counts `bytes` more, for what lies at `path`.
    fn add(&self, limits: Limits, path: &str, bytes: u64) -> Result<()> {
        let found = self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if found > limits.databases {
            return Err(too_large(format!("package databases up to {path}"), limits.databases, found));
        }
        Ok(())
    }

    /// Counts no more what was kept by a reading that came to nothing.
    pub(super) fn take_back(&self, kept: &Self) {
        self.0.fetch_sub(kept.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// How one layer is read.
#[derive(Debug, Clone, Copy)]
struct Bounds<'a> {
    limits: Limits,
    /// The images that have it.
    images: &'a [&'a Kept],
}

impl Bounds<'_> {
    fn keep(self, path: &str, bytes: u64) -> Result<()> {
        self.images.iter().try_for_each(|image| image.add(self.limits, path, bytes))
    }

    /// What a path and its place in a tree take, beside the content.
    fn keep_path(self, path: &str) -> Result<()> {
        self.keep(path, length(path.as_bytes()).saturating_add(NODE))
    }

    /// Reads a database, counting as it goes.
    fn database<R: Read>(self, what: &str, path: &str, entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>> {
        let limit = self.limits.database;
        let (mut bytes, mut part) = (Vec::new(), vec![0; PART]);
        loop {
            let count = entry.read(&mut part).map_err(|e| Error::io(what, e))?;
            let part = part.get(..count).unwrap_or(&[]);
            let size = length(&bytes).saturating_add(length(part));
            if size > limit {
                return Err(too_large(format!("{what}: {path}"), limit, size));
            }
            if part.is_empty() {
                return Ok(bytes);
            }
            self.keep(path, length(part))?;
            bytes.extend_from_slice(part);
        }
    }
}

/// About what a tree takes for an entry beside its path and content.
const NODE: u64 = 128;
/// Bytes of a database that are read at once.
const PART: usize = 64 << 10;
/// A longer path is none that an engine could make (Linux: `PATH_MAX`).
const PATH_BYTES: usize = 4096;

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: limits::LAYER_BYTES,
            entries: limits::LAYER_ENTRIES,
            database: limits::PACKAGE_DATABASE_BYTES,
            databases: limits::PACKAGE_DATABASES_BYTES,
        }
    }
}

/// Hashes what it passes on.
struct Hashed<R> {
    inner: R,
    hasher: Sha256Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// What is kept of an image, or of one layer: paths without a leading slash.
#[derive(Debug, Default)]
pub struct Tree {
    /// Package databases and `os-release`.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Build information of Go programs.
    pub(super) programs: BTreeMap<String, golang::BuildInfo>,
}

/// What one layer has, and what it hides of those below it.
#[derive(Debug)]
pub struct Found {
    own: Tree,
    /// What it has another thing in the place of, or whites out: that path and all below it.
    covered: Vec<Key>,
    /// Folders of which everything from below is hidden.
    opaque: Vec<Key>,
}

/// A path, for comparing: a layer may have millions.
type Key = [u8; 16];
/// Its bytes.
const KEY: u64 = 16;

impl Found {
    /// Reads a layer to its end and checks the digest of what it decodes to: an engine that unpacks it
    /// would find another one only at the site (R-OCI-6). What is kept of it is counted for each of the
    /// `images` that have it.
    pub fn read(limits: Limits, layer: Layer<'_>, images: &[&Kept]) -> Result<Self> {
        let io = |e| Error::io(layer.what.clone(), e);
        let mut stored = BufReader::with_capacity(1 << 16, layer.content);
        let decoded = decoder(&mut stored).map_err(io)?;
        let found = Self::read_decoded(limits, &layer.what, layer.diff_id, decoded, images)?;
        io::copy(&mut stored, &mut io::sink()).map_err(io)?;
        Ok(found)
    }

    /// The same of what the layer decodes to.
    pub(super) fn read_decoded(
        limits: Limits,
        what: &str,
        diff_id: Sha256,
        decoded: impl Read,
        images: &[&Kept],
    ) -> Result<Self> {
        let io = |e| Error::io(what, e);
        let mut found = Self { own: Tree::default(), covered: Vec::new(), opaque: Vec::new() };
        let bounds = Bounds { limits, images };
        let hashed = Hashed { inner: decoded, hasher: Sha256Hasher::default() };
        let mut limited = hashed.take(limits.layer_bytes.saturating_add(1));
        each_member(what, &mut limited, limits.entries, &mut |entry| found.entry(what, bounds, entry))?;
        io::copy(&mut limited, &mut io::sink()).map_err(io)?;
        if limited.limit() == 0 {
            let (limit, what) = (limits.layer_bytes, format!("{what}: decoded bytes"));
            return Err(too_large(what, limit, limit.saturating_add(1)));
        }
        let digest = limited.into_inner().hasher.finish();
        if digest != diff_id {
            let why = format!("expected DiffID {diff_id} by the image's config, found {digest}");
            let what = what.to_owned();
            return Err(bundle_format::Error::from(bundle_format::ErrorKind::Inconsistent { what, why }).into());
        }
        for keys in [&mut found.covered, &mut found.opaque] {
            keys.sort_unstable();
            keys.dedup();
            keys.shrink_to_fit();
        }
        Ok(found)
    }

    fn entry<R: Read>(&mut self, what: &str, bounds: Bounds<'_>, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        // A name that is not UTF-8 or climbs is no file that we look for.
        let Some(path) = clean(&entry.path_bytes()) else { return Ok(()) };
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path.as_str()));
        let kind = entry.header().entry_type();
        if name == ".wh..wh..opq" {
            self.own.remove_below(folder);
            bounds.keep(&path, KEY)?;
            self.opaque.push(key(folder));
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(".wh.") {
            let gone = if folder.is_empty() { gone.to_owned() } else { format!("{folder}/{gone}") };
            return self.cover(bounds, &gone);
        }
        if kind.is_dir() {
            return Ok(());
        }
        // Whatever comes under a name takes the place of what was there, a folder too.
        self.cover(bounds, &path)?;
        if !kind.is_file() {
            return Ok(());
        }
        let io = |e| Error::io(what, e);
        if is_database(&path) {
            bounds.keep_path(&path)?;
            let bytes = bounds.database(what, &path, entry)?;
            self.own.files.insert(path, bytes);
        } else if entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0)
            && let Some(info) = golang::find(entry).map_err(io)?
        {
            bounds.keep_path(&path)?;
            bounds.keep(&path, info.bytes())?;
            self.own.programs.insert(path, info);
        }
        Ok(())
    }

    fn cover(&mut self, bounds: Bounds<'_>, path: &str) -> Result<()> {
        self.own.remove_below(path);
        self.own.remove(path);
        bounds.keep(path, KEY)?;
        self.covered.push(key(path));
        Ok(())
    }

    /// Whether a file at `path` of a layer below is not there any more.
    fn hides(&self, path: &str) -> bool {
        let has = |keys: &[Key], key: &Key| keys.binary_search(key).is_ok();
        // Each byte is hashed once, however many folders a path has.
        let (mut hasher, mut begins) = (Sha256Hasher::default(), "");
        for part in path.split('/') {
            let folder = short(&hasher.clone().finish());
            if has(&self.opaque, &folder) || (!begins.is_empty() && has(&self.covered, &folder)) {
                return true;
            }
            hasher.update(begins.as_bytes());
            hasher.update(part.as_bytes());
            begins = "/";
        }
        has(&self.covered, &short(&hasher.finish()))
    }
}

fn key(path: &str) -> Key {
    short(&Sha256::of(path.as_bytes()))
}

fn short(digest: &Sha256) -> Key {
    let mut key = Key::default();
    key.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    key
}

impl Tree {
    /// Lays the next layer over it.
    pub fn add(&mut self, layer: &Found) {
        self.files.retain(|path, _| !layer.hides(path));
        self.programs.retain(|path, _| !layer.hides(path));
        self.files.extend(layer.own.files.iter().map(|(path, bytes)| (path.clone(), bytes.clone())));
        self.programs.extend(layer.own.programs.iter().map(|(path, info)| (path.clone(), info.clone())));
    }

    fn remove(&mut self, path: &str) {
        self.files.remove(path);
        self.programs.remove(path);
    }

    fn remove_below(&mut self, folder: &str) {
        remove_below(&mut self.files, folder);
        remove_below(&mut self.programs, folder);
    }
}

/// Looks at what lies below `folder` alone: a layer may have millions of entries, and asks this for each.
fn remove_below<T>(of: &mut BTreeMap<String, T>, folder: &str) {
    if folder.is_empty() {
        of.clear();
        return;
    }
    // No character stands between `/` and `0`.
    let below: Vec<String> =
        of.range(format!("{folder}/")..format!("{folder}0")).map(|(path, _)| path.clone()).collect();
    for path in below {
        of.remove(&path);
    }
}

/// The file's decoder by its first bytes: gzip (RFC 1952), zstd (RFC 8878; perhaps behind a skippable
/// frame, as pzstd writes it), else plain.
fn decoder<'a>(stored: &'a mut (impl io::BufRead + Send)) -> io::Result<Box<dyn Read + 'a>> {
    let head = stored.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(stored)));
    }
    if begins_as_zstd(head) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(stored)?;
        // A layer's window is its publisher's choice; 128 MiB is zstd's own most without --long.
        decoder.window_log_max(27)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(stored))
}

/// The path without `./`, `/` and `//`; `None` for one that climbs, is too long or is not UTF-8.
fn clean(path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok().filter(|text| text.len() <= PATH_BYTES)?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    Some(parts.join("/"))
}

fn is_database(path: &str) -> bool {
    const FIXED: [&str; 13] = [
        "etc/os-release",
        "usr/lib/os-release",
        "var/lib/dpkg/status",
        "lib/apk/db/installed",
        "usr/lib/apk/db/installed",
        "var/lib/rpm/rpmdb.sqlite",
        "var/lib/rpm/rpmdb.sqlite-wal",
        "var/lib/rpm/Packages",
        "var/lib/rpm/Packages.db",
        "usr/lib/sysimage/rpm/rpmdb.sqlite",
        "usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
        "usr/lib/sysimage/rpm/Packages",
        "usr/lib/sysimage/rpm/Packages.db",
    ];
    let split_dpkg = path.strip_prefix("var/lib/dpkg/status.d/").is_some_and(|name| !name.ends_with(".md5sums"));
    FIXED.contains(&path) || split_dpkg || path.ends_with(".dist-info/METADATA")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_hides_what_it_covers_and_nothing_beside_it() {
        let sorted = |paths: &[&str]| {
            let mut keys: Vec<Key> = paths.iter().map(|path| key(path)).collect();
            keys.sort_unstable();
            keys
        };
        let found = |covered: &[&str], opaque: &[&str]| Found {
            own: Tree::default(),
            covered: sorted(covered),
            opaque: sorted(opaque),
        };
        for (covered, opaque, hidden, left) in [
            (&["a/b"][..], &[][..], &["a/b", "a/b/c", "a/b/c/d"][..], &["a", "a/bc", "a/c", "b/a/b"][..]),
            (&[], &["a/b"], &["a/b/c", "a/b/c/d"], &["a", "a/b", "a/bc", "b/a/b"]),
            (&[], &[""], &["a", "a/b"], &[]),
            (&[], &[], &[], &["a", "a/b/c"]),
        ] {
            let layer = found(covered, opaque);
            assert!(hidden.iter().all(|path| layer.hides(path)), "{covered:?} {opaque:?}");
            assert!(!left.iter().any(|path| layer.hides(path)), "{covered:?} {opaque:?}");
        }
    }

    #[test]
    fn what_lies_below_a_folder_is_removed_and_nothing_beside_it() {
        let paths = ["a", "a!/x", "a-b", "a.b/c", "a/", "a/b", "a/b/c", "a0", "a0/b", "ab", "b/a/c"];
        let of = || paths.iter().map(|path| ((*path).to_owned(), 1)).collect::<BTreeMap<_, _>>();
        for folder in ["a", "a/b", "a0", "b", "c", ""] {
            let mut found = of();
            remove_below(&mut found, folder);
            let below = |path: &&&str| folder.is_empty() || path.starts_with(&format!("{folder}/"));
            let left: Vec<&str> = paths.iter().filter(|path| !below(path)).copied().collect();
            assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), left, "{folder}");
        }
    }

    #[test]
    fn what_a_reading_in_vain_kept_does_not_count() {
        let limits = Limits { databases: 10, ..Limits::default() };
        let (image, in_vain) = (Kept::default(), Kept::default());
        for kept in [&in_vain, &image] {
            kept.add(limits, "TEST", 7).unwrap();
        }
        assert!(image.add(limits, "TEST", 4).is_err());
        image.take_back(&Kept(4.into()));
        image.take_back(&in_vain);
        image.add(limits, "TEST", 10).unwrap();
    }
}
