//! What a blob is, by its first bytes.
//!
//! A wrong guess costs bytes, never a proof: whatever is said here, the blob's digest decides.

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// gzip (RFC 1952): perhaps as tokens.
    Gzip,
    /// Compressed by something that has no tokens, which is named.
    Compressed(&'static str),
    /// Anything else.
    Other,
}

/// Finds out from a blob's first bytes, in parts of any size.
#[derive(Debug, Default)]
pub struct Recogniser {
    head: Vec<u8>,
    /// Bytes of a skippable frame that are still to come.
    skip: u64,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Begin,
    /// Behind a skippable frame.
    Behind,
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A skippable frame's number without its lowest four bits; its size follows (RFC 8878, 3.1.2).
const SKIPPABLE: u64 = 0x184d_2a50;
/// `ar` holds Debian packages.
const OTHERS: [(&[u8], &str); 2] = [(b"!<arch>\n", "a package of compressed members"), (b"\xfd7zXZ\0", "xz")];
/// The longest of these marks; also the head of a skippable frame.
const HEAD: usize = 8;

/// Whether bytes begin as zstd does, or as a skippable frame, which nothing else that holds files does.
pub fn begins_as_zstd(head: &[u8]) -> bool {
    let number = head.first_chunk::<4>().map(|number| u32::from_le_bytes(*number));
    head.starts_with(ZSTD) || number.is_some_and(|number| u64::from(number & !0xf) == SKIPPABLE)
}

impl Recogniser {
    /// Takes the next bytes; once it is known what the blob is, that and those of these bytes that were
    /// not needed for it.
    pub fn take<'a>(&mut self, mut bytes: &'a [u8]) -> Option<(Kind, &'a [u8])> {
        loop {
            let gone = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= u64::try_from(gone).unwrap_or(0);
            let (_, rest) = bytes.split_at_checked(gone)?;
            let (head, rest) = rest.split_at_checked(HEAD - self.head.len()).unwrap_or((rest, &[]));
            self.head.extend_from_slice(head);
            bytes = rest;
            let head = u64::from_le_bytes(*self.head.first_chunk::<HEAD>()?);
            if head & 0xffff_fff0 != SKIPPABLE {
                return Some((self.judge(), bytes));
            }
            self.skip = head >> 32;
            self.place = Place::Behind;
            self.head.clear();
        }
    }

    /// The bytes at its beginning that were kept.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// What it is if nothing more comes.
    pub fn judge(&self) -> Kind {
        match self.place {
            Place::Begin if self.head.starts_with(GZIP) => Kind::Gzip,
            Place::Begin if self.head.starts_with(ZSTD) => Kind::Compressed("zstd"),
            Place::Behind if self.head.starts_with(ZSTD) => Kind::Compressed("zstd behind a skippable frame"),
            Place::Begin => {
                let known = OTHERS.iter().find(|(mark, _)| self.head.starts_with(mark));
                known.map_or(Kind::Other, |(_, name)| Kind::Compressed(name))
            }
            Place::Behind => Kind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8], part: usize) -> Kind {
        let mut recogniser = Recogniser::default();
        let found = bytes.chunks(part).find_map(|part| recogniser.take(part).map(|(kind, _)| kind));
        found.unwrap_or_else(|| recogniser.judge())
    }

    #[test]
    fn blobs_are_told_apart_however_their_bytes_come() {
        let frame = |number: u8, content: &[u8]| {
            [&[number, 0x2a, 0x4d, 0x18][..], &u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat()
        };
        let zstd = zstd::bulk::compress(b"TEST", 3).unwrap();
        let behind = Kind::Compressed("zstd behind a skippable frame");
        for (what, bytes, expected) in [
            ("empty", Vec::new(), Kind::Other),
            ("short gzip", vec![0x1f, 0x8b], Kind::Gzip),
            ("gzip", [&[0x1f, 0x8b, 8][..], &[0; 20]].concat(), Kind::Gzip),
            ("zstd", zstd.clone(), Kind::Compressed("zstd")),
            ("zstd:chunked", [&zstd[..], &frame(0x50, b"TEST")].concat(), Kind::Compressed("zstd")),
            ("pzstd", [&frame(0x50, &[1, 2, 3, 4])[..], &zstd].concat(), behind),
            ("two frames before", [&frame(0x5f, b"")[..], &frame(0x53, &[9; 1000]), &zstd].concat(), behind),
            ("a frame alone", frame(0x50, b"TEST"), Kind::Other),
            ("a frame that is cut", frame(0x50, &[7; 99])[..50].to_vec(), Kind::Other),
            ("gzip behind a frame", [&frame(0x50, b"")[..], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]].concat(), Kind::Other),
            ("no skippable frame", [&[0x60, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &zstd].concat(), Kind::Other),
            ("deb", b"!<arch>\ndebian-binary".to_vec(), Kind::Compressed("a package of compressed members")),
            ("xz", b"\xfd7zXZ\0\0\x04".to_vec(), Kind::Compressed("xz")),
            ("text", b"TEST text".to_vec(), Kind::Other),
        ] {
            let zstd = matches!(expected, Kind::Compressed(name) if name.starts_with("zstd"));
            assert!(begins_as_zstd(&bytes) || !zstd, "{what}");
            for part in [1, 3, 8, 64, 4096] {
                assert_eq!(kind(&bytes, part), expected, "{what} by {part}");
            }
        }
    }

    #[test]
    fn what_was_not_needed_is_handed_on() {
        let mut recogniser = Recogniser::default();
        assert_eq!(recogniser.take(&[0x1f, 0x8b, 8, 0]), None);
        assert_eq!(recogniser.take(b"abcdefg"), Some((Kind::Gzip, &b"efg"[..])));
        assert_eq!(recogniser.head(), b"\x1f\x8b\x08\0abcd");
    }
}
