//! Volumes: a bundle cut into files of one size, with parity volumes that restore lost ones (spec 16).
//!
//! ```text
//! head      4096 bytes: "lockgate-volume/1\n", one line of JSON, zeros
//! table     SHA-256 of each cell of the payload; zeros to the next 4096
//! prologue  the archive's first bytes: signed manifest, signatures, roots; zeros to the next 4096
//! payload   `cells` cells of `cell` bytes; of data volume i the archive's bytes from (i-1)*cells*cell on
//! prologue, table, head again
//! ```
//!
//! Stripe `s` is cell `s` of every volume: `data` cells of the archive and `parity` recovery cells
//! ([`crate::erasure`]). Any `data` of them give the stripe back.
//!
//! Threats: bad sectors, lost and cut files, volumes of different sets. Defences: everything that
//! describes a volume is in it twice, at both ends; each cell has its own hash; the set id is the
//! hash of the set's shape and prologue, so no two sets share one. The hashes find damage, not
//! forgery: who made the set is proved by the signed manifest in the prologue, and the restored
//! archive is proved whole by it before anything uses a byte.

use serde::{Deserialize, Serialize};

use crate::digest::{Sha256, Sha384};
use crate::{ErrorKind, Result, limits};

/// First line of a head.
pub const MAGIC: &[u8] = b"lockgate-volume/1\n";
/// Bytes of a head, and what the parts of a volume are padded to: two sectors of a disc.
pub const HEAD_BYTES: usize = 4096;
const ALIGN: u64 = 4096;
/// Bytes of a cell unless the set has many volumes: one cluster of a Blu-ray disc.
pub const CELL_BYTES: u32 = 64 << 10;
/// Smallest cell.
pub const CELL_BYTES_MIN: u32 = 4 << 10;
const HASH_BYTES: u64 = 32;
/// Bytes of one stripe that our writer and reader keep in memory at most.
const STRIPE_BYTES: u32 = 8 << 20;

/// The shape of a set: what all its volumes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Volumes that hold the archive's bytes.
    pub data: u16,
    /// Recovery volumes.
    pub parity: u16,
    /// Bytes of a cell.
    pub cell: u32,
    /// Cells of each volume.
    pub cells: u64,
    /// Bytes of the archive.
    pub archive_size: u64,
    /// Bytes of the archive before its first pack.
    pub prologue_size: u64,
    /// SHA-384 of those bytes. They pin all others.
    pub prologue_sha384: Sha384,
}

/// Identity of a set: the first 16 bytes of the SHA-384 of its shape's canonical JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId([u8; 16]);

impl SetId {
    /// 32 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        crate::text::hex(&self.0)
    }

    /// The first eight digits, for names and labels.
    pub fn short(&self) -> String {
        self.hex().chars().take(8).collect()
    }
}

impl std::fmt::Display for SetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Shape {
    /// The shape that cuts `archive_size` bytes into volume files of at most `volume_size` bytes.
    pub fn fit(
        archive_size: u64,
        prologue_size: u64,
        prologue_sha384: Sha384,
        volume_size: u64,
        parity: u16,
    ) -> Result<Self> {
        let shape =
            |data, cell, cells| Self { data, parity, cell, cells, archive_size, prologue_size, prologue_sha384 };
        let mut cell = CELL_BYTES;
        loop {
            // The most cells that fit one file: the size rises with the number, so halve the gap.
            let (mut fits, mut over) = (0u64, limits::CELLS + 1);
            while over - fits > 1 {
                let middle = u64::midpoint(fits, over);
                if shape(1, cell, middle).volume_size() <= volume_size { fits = middle } else { over = middle }
            }
            let needed = archive_size.div_ceil(u64::from(cell)).max(1);
            if fits > 0 {
                let data = needed.div_ceil(fits);
                if let Ok(data) = u16::try_from(data)
                    && data.saturating_add(parity) <= limits::VOLUMES
                    && (u32::from(data) + u32::from(parity)) * cell <= STRIPE_BYTES.max(cell)
                {
                    // Evened out; then fewer volumes may do.
                    let cells = needed.div_ceil(u64::from(data));
                    let data = u16::try_from(needed.div_ceil(cells)).unwrap_or(data);
                    let fitted = shape(data, cell, cells);
                    fitted.check()?;
                    return Ok(fitted);
                }
            }
            if cell == CELL_BYTES_MIN {
                let needed = shape(1, cell, 1).volume_size();
                let why = format!(
                    "volumes of {volume_size} bytes are too small: {archive_size} bytes and {parity} parity volumes need more than {} of them, or less than the {needed} bytes that one volume needs for itself",
                    limits::VOLUMES
                );
                return Err(ErrorKind::Inconsistent { what: "volume size".into(), why }.into());
            }
            cell /= 2;
        }
    }

    /// Checks that the numbers fit each other and the limits.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(ErrorKind::Inconsistent { what: "volume head".into(), why }.into());
        let total = u32::from(self.data) + u32::from(self.parity);
        if self.data == 0 || total > u32::from(limits::VOLUMES) {
            return refuse(format!("{} data and {} parity volumes", self.data, self.parity));
        }
        if !self.cell.is_power_of_two() || !(CELL_BYTES_MIN..=CELL_BYTES).contains(&self.cell) {
            return refuse(format!("cells of {} bytes", self.cell));
        }
        if self.cells == 0 || self.cells > limits::CELLS || self.archive_size > limits::ARCHIVE_BYTES {
            return refuse(format!("{} cells for {} bytes", self.cells, self.archive_size));
        }
        if self.prologue_size > limits::PROLOGUE_BYTES || self.prologue_size > self.archive_size {
            return refuse(format!("a prologue of {} bytes", self.prologue_size));
        }
        let capacity = u64::from(self.data) * self.payload_size();
        // The last data volume holds at least one byte: no volume is without use.
        if self.archive_size > capacity || self.archive_size <= capacity - self.payload_size() {
            return refuse(format!(
                "{} data volumes of {} bytes for {}",
                self.data,
                self.payload_size(),
                self.archive_size
            ));
        }
        Ok(())
    }

    /// The set's identity.
    pub fn id(&self) -> Result<SetId> {
        let digest = Sha384::of(&crate::json::to_bytes("volume head", self)?);
        let mut id = [0; 16];
        id.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
        Ok(SetId(id))
    }

    /// Data and parity volumes.
    pub const fn volumes(&self) -> u16 {
        self.data + self.parity
    }

    /// Bytes of each volume's payload.
    pub const fn payload_size(&self) -> u64 {
        self.cells * self.cell as u64
    }

    /// Bytes of each volume's hash table.
    pub const fn table_size(&self) -> u64 {
        self.cells * HASH_BYTES
    }

    /// Offset of the hash table at the front.
    pub const fn table_at(&self) -> u64 {
        ALIGN
    }

    /// Offset of the prologue at the front.
    pub const fn prologue_at(&self) -> u64 {
        self.table_at() + self.table_size().next_multiple_of(ALIGN)
    }

    /// Offset of the payload.
    pub const fn payload_at(&self) -> u64 {
        self.prologue_at() + self.prologue_size.next_multiple_of(ALIGN)
    }

    /// Offset of the prologue at the end.
    pub const fn prologue_again_at(&self) -> u64 {
        self.payload_at() + self.payload_size()
    }

    /// Offset of the hash table at the end.
    pub const fn table_again_at(&self) -> u64 {
        self.prologue_again_at() + self.prologue_size.next_multiple_of(ALIGN)
    }

    /// Bytes of each volume file.
    pub const fn volume_size(&self) -> u64 {
        self.table_again_at() + self.table_size().next_multiple_of(ALIGN) + ALIGN
    }

    /// Place in the archive of a data volume's cell and how many of its bytes the archive has; the
    /// rest of the cell is zeros. `volume` counts from 0.
    pub fn place(&self, volume: u16, cell: u64) -> (u64, usize) {
        let at = (u64::from(volume) * self.cells + cell) * u64::from(self.cell);
        let bytes = self.archive_size.saturating_sub(at).min(u64::from(self.cell));
        (at, usize::try_from(bytes).unwrap_or(0))
    }
}

/// What stands at both ends of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Number of the volume, from 1; data volumes come first.
    pub number: u16,
    /// SHA-384 of the volume's hash table.
    pub table_sha384: Sha384,
    /// The set's shape.
    pub shape: Shape,
}

impl Head {
    /// Writes the head's block.
    pub fn to_block(&self) -> Result<Vec<u8>> {
        let mut block = MAGIC.to_vec();
        block.extend(crate::json::to_bytes("volume head", self)?);
        block.resize(HEAD_BYTES.max(block.len()), 0);
        Ok(block)
    }

    /// Reads a block of [`HEAD_BYTES`].
    pub fn parse(block: &[u8]) -> Result<Self> {
        let what = "volume head";
        let refuse = |found: &[u8]| {
            let found = crate::text::escaped(&String::from_utf8_lossy(found.get(..18).unwrap_or(found)));
            ErrorKind::UnknownFormat { what: what.into(), expected: "lockgate-volume/1".into(), found }
        };
        let text = block.strip_prefix(MAGIC).ok_or_else(|| refuse(block))?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let (json, rest) = text.split_at(end);
        if rest.iter().any(|byte| *byte != 0) || block.len() != HEAD_BYTES {
            return Err(ErrorKind::NotCanonical { what: what.into() }.into());
        }
        let head: Self = crate::json::parse_canonical(what, json, ALIGN)?;
        head.shape.check()?;
        if head.number == 0 || head.number > head.shape.volumes() {
            let why = format!("volume {} of {}", head.number, head.shape.volumes());
            return Err(ErrorKind::Inconsistent { what: what.into(), why }.into());
        }
        Ok(head)
    }

    /// Whether the volume holds bytes of the archive.
    pub const fn is_data(&self) -> bool {
        self.number <= self.shape.data
    }
}

/// The hashes of a volume's cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Vec<u8>);

impl Table {
    /// A table of `cells` zeroed hashes, to be filled.
    pub fn new(cells: u64) -> Self {
        Self(vec![0; usize::try_from(cells * HASH_BYTES).unwrap_or(0)])
    }

    /// The table in `bytes` if it is the one that `head` names.
    pub fn proved(bytes: Vec<u8>, head: &Head) -> Option<Self> {
        (Sha384::of(&bytes) == head.table_sha384).then_some(Self(bytes))
    }

    /// Sets a cell's hash.
    pub fn set(&mut self, cell: u64, hash: &Sha256) {
        if let Some(slot) = Self::range(cell).and_then(|range| self.0.get_mut(range)) {
            slot.copy_from_slice(hash.as_bytes());
        }
    }

    /// Whether `content` is the cell.
    pub fn proves(&self, cell: u64, content: &[u8]) -> bool {
        Self::range(cell).and_then(|range| self.0.get(range)).is_some_and(|hash| hash == Sha256::of(content).as_bytes())
    }

    /// The bytes as stored.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn range(cell: u64) -> Option<std::ops::Range<usize>> {
        let at = usize::try_from(cell.checked_mul(HASH_BYTES)?).ok()?;
        Some(at..at + 32)
    }
}

/// File name of a volume: product, release, set, number and total; only characters that guards accept.
pub fn file_name(product: &str, release: &str, set: SetId, number: u16, volumes: u16) -> String {
    let release: String =
        release.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("{product}-{release}-{}-v{number:04}of{volumes:04}.lgv", set.short())
}

/// The number that a file name claims, if it has the form of [`file_name`].
pub fn claimed_number(name: &str) -> Option<u16> {
    let (_, tail) = name.rsplit_once("-v")?;
    tail.strip_suffix(".lgv")?.split_once("of")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(archive: u64, volume: u64, parity: u16) -> Result<Shape> {
        Shape::fit(archive, 1000, Sha384::of(b"p"), volume, parity)
    }

    #[test]
    fn shapes_fit_their_volumes() {
        for (archive, volume, parity) in
            [(1000, 1 << 20, 0), (5_000_000, 1 << 20, 2), (50_000_000_000, 4_294_967_295, 3), (10_000_000, 40_000, 9)]
        {
            let shape = fit(archive, volume, parity).unwrap();
            assert!(shape.volume_size() <= volume, "{shape:?}");
            assert!(shape.payload_size() * u64::from(shape.data) >= archive);
            assert!(shape.payload_size() * u64::from(shape.data - 1) < archive);
            let (last_at, bytes) = shape.place(shape.data - 1, 0);
            assert!(last_at < archive && bytes > 0);
        }
        assert!(matches!(fit(1 << 40, 20_000, 0).unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
        assert!(matches!(fit(1000, 4096, 0).unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
    }

    #[test]
    fn head_round_trip_and_refusals() {
        let head = Head { number: 2, table_sha384: Sha384::of(b"t"), shape: fit(5_000_000, 1 << 20, 2).unwrap() };
        let block = head.to_block().unwrap();
        assert_eq!((block.len(), Head::parse(&block).unwrap()), (HEAD_BYTES, head.clone()));
        assert!(Head::parse(&block[..4095]).is_err());
        let mut trailing = block.clone();
        trailing[4000] = b' ';
        assert!(matches!(Head::parse(&trailing).unwrap_err().kind(), ErrorKind::NotCanonical { .. }));
        let mut magic = block;
        magic[3] ^= 1;
        assert!(matches!(Head::parse(&magic).unwrap_err().kind(), ErrorKind::UnknownFormat { .. }));
        let number = Head { number: 99, ..head.clone() };
        assert!(matches!(Head::parse(&number.to_block().unwrap()).unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
        for shape in [
            Shape { cell: 5000, ..head.shape },
            Shape { cells: 0, ..head.shape },
            Shape { cells: u64::MAX, ..head.shape },
            Shape { data: 0, ..head.shape },
            Shape { archive_size: u64::MAX, ..head.shape },
            Shape { data: 65000, ..head.shape },
            Shape { prologue_size: 1 << 40, ..head.shape },
        ] {
            let bad = Head { shape, ..head.clone() }.to_block().unwrap();
            assert!(matches!(Head::parse(&bad).unwrap_err().kind(), ErrorKind::Inconsistent { .. }), "{shape:?}");
        }
    }

    #[test]
    fn names_say_their_number() {
        let id = fit(1000, 1 << 20, 0).unwrap().id().unwrap();
        let name = file_name("platform", "1.2+x", id, 3, 7);
        crate::name::check_file_name("volume", &name).unwrap();
        assert_eq!(claimed_number(&name), Some(3));
        assert_eq!(claimed_number("other.bin"), None);
    }
}
