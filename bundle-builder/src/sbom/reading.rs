//! The layers of images that have no published SBOM, each read once: apart, or as a part of the work of
//! who turns it into tokens, and decodes it for that anyway ([`Readings::beside`]).
//!
//! What may hurt it: content that is shown beside the tokens is made by the coder under test, and its gzip
//! may be read in several ways. Who defends: the content counts only if it has the layer's `DiffID`, as when
//! it is read apart, and each member's checksum; in every other case the layer is read apart after all, and
//! what is wrong is said by that.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use bundle_format::digest::Sha256;
use bundle_format::lock::LockedImage;
use bundle_format::tokens::{Inside, Listener};

use super::layers::{Found, Kept, Layer, Limits, Tree};
use crate::collect::{Collected, CollectedBlob};
use crate::error::{Error, ErrorKind, Result};

/// What is to be read, and what was found so far.
#[derive(Debug, Default)]
pub struct Readings {
    images: Vec<Image>,
    /// By stored digest. Only images that contradict each other give a layer two `DiffID`s.
    layers: BTreeMap<Sha256, Vec<Unread>>,
    found: Mutex<BTreeMap<Key, Found>>,
}

/// One image without an SBOM.
#[derive(Debug)]
struct Image {
    digest: Sha256,
    name: String,
    /// Lowest first.
    layers: Vec<Key>,
    kept: Kept,
}

/// A layer's stored digest and its `DiffID`.
type Key = (Sha256, Sha256);

#[derive(Debug)]
struct Unread {
    /// For errors.
    what: String,
    key: Key,
    /// Places of the images that have it.
    images: Vec<usize>,
}

/// Parts of content on their way at most, of [`Inside::Bytes`] each.
const ON_THEIR_WAY: usize = 4;

impl Readings {
    /// All layers of these images.
    pub(super) fn of(collected: &Collected, images: &[&LockedImage]) -> Result<Self> {
        let mut readings = Self { images: Vec::new(), layers: BTreeMap::new(), found: Mutex::default() };
        for (at, image) in images.iter().enumerate() {
            let mut keys = Vec::new();
            for (what, key) in collected.layers(image)? {
                keys.push(key);
                let of_digest = readings.layers.entry(key.0).or_default();
                match of_digest.iter_mut().find(|layer| layer.key == key) {
                    Some(layer) => layer.images.push(at),
                    None => of_digest.push(Unread { what, key, images: vec![at] }),
                }
            }
            let (digest, name, kept) = (image.digest, image.name.clone(), Kept::default());
            readings.images.push(Image { digest, name, layers: keys, kept });
        }
        Ok(readings)
    }

    /// Whether a blob is a layer that is still to be read.
    pub fn wants(&self, digest: &Sha256) -> bool {
        self.unread(digest).next().is_some()
    }

    /// Reads a layer, if it is still to be read.
    pub fn read(&self, blob: &CollectedBlob) -> Result<()> {
        for layer in self.unread(&blob.digest) {
            // What it decodes to is proved by its DiffID, so that the stored bytes need not be hashed here:
            // they are when they are packed.
            let (what, diff_id, content) = (layer.what.clone(), layer.key.1, blob.open_unproved()?);
            let found = Found::read(Limits::default(), Layer { what, diff_id, content }, &self.kept(layer, &[]));
            let found = found.or_else(|error| {
                // Bytes that are not the layer's say more than what they happen to decode to.
                io::copy(&mut blob.open()?, &mut io::sink()).map_err(|e| Error::io(layer.what.clone(), e))?;
                Err(error)
            })?;
            self.keep(layer, found);
        }
        Ok(())
    }

    /// Lets `code` decode a blob, and reads beside it what that shows; apart where it shows nothing that
    /// counts. Without a listener `code` has nothing to show.
    pub fn beside<T>(&self, blob: &CollectedBlob, code: impl FnOnce(Option<Listener>) -> Result<T>) -> Result<T> {
        let coded = match self.unread(&blob.digest).next() {
            None => return code(None),
            Some(layer) => {
                let (send, receive) = sync_channel(ON_THEIR_WAY);
                let listener = move |inside: Inside<'_>| {
                    send.send(match inside {
                        Inside::Bytes(bytes) => Heard::Bytes(bytes.to_vec()),
                        Inside::End(trailer) => Heard::End(trailer),
                        Inside::Odd => Heard::Odd,
                    })
                    .is_ok()
                };
                let this_time = Kept::default();
                let (coded, found) = std::thread::scope(|scope| {
                    let reading = scope.spawn(|| {
                        let content = Content { from: receive, part: io::Cursor::default(), crc: flate2::Crc::new() };
                        let kept = self.kept(layer, &[&this_time]);
                        Found::read_decoded(Limits::default(), &layer.what, layer.key.1, content, &kept)
                    });
                    let coded = code(Some(Box::new(listener)));
                    (coded, reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                });
                match found {
                    Ok(found) => self.keep(layer, found),
                    Err(error) if too_large(&error) => return Err(error),
                    Err(_read_again) => layer.images.iter().filter_map(|at| self.images.get(*at)).for_each(|image| {
                        image.kept.take_back(&this_time);
                    }),
                }
                coded?
            }
        };
        self.read(blob)?;
        Ok(coded)
    }

    /// The layers of this digest that are still to be read.
    fn unread(&self, digest: &Sha256) -> impl Iterator<Item = &Unread> {
        let found = |layer: &Unread| self.found.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&layer.key);
        self.layers.get(digest).into_iter().flatten().filter(move |layer| !found(layer))
    }

    fn kept<'a>(&'a self, layer: &Unread, first: &[&'a Kept]) -> Vec<&'a Kept> {
        let of_images = layer.images.iter().filter_map(|at| self.images.get(*at)).map(|image| &image.kept);
        first.iter().copied().chain(of_images).collect()
    }

    fn keep(&self, layer: &Unread, found: Found) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.key, found);
    }

    /// Each image's name and digest, and what lies in it. All layers were read.
    pub(super) fn trees(&self) -> Vec<(&str, Sha256, Tree)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = |image: &Image| {
            let mut tree = Tree::default();
            image.layers.iter().filter_map(|key| found.get(key)).for_each(|layer| tree.add(layer));
            tree
        };
        self.images.iter().map(|image| (image.name.as_str(), image.digest, tree(image))).collect()
    }
}

/// What the layer itself is too large for, it is when it is read again as well.
fn too_large(error: &Error) -> bool {
    let ErrorKind::Format(inner) = error.kind() else { return false };
    matches!(inner.kind(), bundle_format::ErrorKind::TooLarge { .. })
}

/// [`Inside`], on its way to another thread.
#[derive(Debug)]
enum Heard {
    Bytes(Vec<u8>),
    End([u8; 8]),
    Odd,
}

/// What gzip holds, heard from who decodes it. It ends where that ends.
struct Content {
    from: Receiver<Heard>,
    part: io::Cursor<Vec<u8>>,
    crc: flate2::Crc,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.part.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.from.recv() {
                Err(_) => return Ok(0),
                Ok(Heard::Bytes(bytes)) => {
                    self.crc.update(&bytes);
                    self.part = io::Cursor::new(bytes);
                }
                Ok(Heard::End(trailer)) => {
                    let expected = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()].concat();
                    if trailer != *expected {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "a gzip member has another checksum"));
                    }
                    self.crc.reset();
                }
                Ok(Heard::Odd) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "gzip that readers read in several ways"));
                }
            }
        }
    }
}
