//! The archive: a plain ustar file whose every header is the one that our writer makes (spec 2).
//!
//! Threats (field advisories: CVE-2025-62518, RUSTSEC-2026-0067, -0068, CVE-2026-40090): two
//! readers that see different members, links, devices, sparse and extended headers, names that
//! climb out, bytes after the end. Defence: the reader makes the canonical header for the name and
//! size that it read and compares all 512 bytes, so nothing but plain members of our own form can
//! pass; padding and end mark are compared too. Nothing here writes to a file system by a name
//! from the archive.

use std::io::{Read, Seek, SeekFrom, Write};

use crate::{Error, ErrorKind, Result, limits};

const BLOCK: usize = 512;
/// Bytes of a header, and what members are padded to.
pub(crate) const BLOCK_U64: u64 = 512;

/// Bytes that a member of so many takes in an archive: header, content, padding.
pub(crate) const fn member_bytes(size: u64) -> u64 {
    BLOCK_U64.saturating_add(size.saturating_add(BLOCK_U64 - 1) / BLOCK_U64 * BLOCK_U64)
}

/// Name of the signed manifest, the first member.
pub const MANIFEST: &str = "manifest.json";

/// The canonical header: ustar, mode 0444, owner 0:0 without names, mtime 0, regular file.
pub(crate) fn canonical_header(name: &str, size: u64) -> Result<[u8; BLOCK]> {
    let refuse =
        |why: String| ErrorKind::BadName { what: "archive member".into(), name: crate::text::escaped(name), why };
    crate::name::check_path("archive member", name)?;
    if size > limits::PACK_BYTES {
        return Err(ErrorKind::TooLarge { what: name.into(), limit: limits::PACK_BYTES, found: size }.into());
    }
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(|error| refuse(error.to_string()))?;
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Writes an archive member by member; [`ArchiveWriter::finish`] writes the end mark.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    out: W,
}

impl<W: Write> ArchiveWriter<W> {
    /// Starts an archive on `out`.
    pub const fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes a member of exactly `size` bytes from `content`.
    pub fn member(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let fail = |error| Error::io(format!("archive member {name}"), error);
        self.out.write_all(&canonical_header(name, size)?).map_err(fail)?;
        let found = std::io::copy(&mut content.take(size), &mut self.out).map_err(fail)?;
        if found != size {
            return Err(ErrorKind::Truncated { what: format!("archive member {name}"), expected: size, found }.into());
        }
        self.pad(size).map_err(fail)
    }

    fn pad(&mut self, size: u64) -> std::io::Result<()> {
        self.out.write_all([0; BLOCK].get(..padding_len(size)).unwrap_or(&[]))
    }

    /// Gives the output back without an end mark, for a caller that copies the rest of an archive.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Writes the end mark, two zero blocks, and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        self.out.write_all(&[0; 2 * BLOCK]).map_err(|error| Error::io("archive end mark", error))?;
        Ok(self.out)
    }
}

impl<W: Write + Seek> ArchiveWriter<W> {
    /// Writes a member of `size` bytes but for its content, and gives the offset in bytes at which the caller
    /// has to write that: packs are copied by several threads.
    pub fn reserve(&mut self, name: &str, size: u64) -> Result<u64> {
        let fail = |error| Error::io(format!("archive member {name}"), error);
        self.out.write_all(&canonical_header(name, size)?).map_err(fail)?;
        let at = self.out.stream_position().map_err(fail)?;
        self.out.seek(SeekFrom::Start(at.saturating_add(size))).map_err(fail)?;
        self.pad(size).map_err(fail)?;
        Ok(at)
    }
}

/// A member's header as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name, within the rules of spec 3.
    pub name: String,
    /// Bytes of content.
    pub size: u64,
}

/// Walks an archive strictly forward. After [`ArchiveReader::next_member`] the caller reads exactly
/// the member's bytes, then calls [`ArchiveReader::end_member`].
#[derive(Debug)]
pub struct ArchiveReader<R> {
    input: R,
    offset: u64,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads an archive from `input`.
    pub const fn new(input: R) -> Self {
        Self { input, offset: 0 }
    }

    /// Bytes read so far.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next member's header; `None` after the end mark, behind which nothing may follow.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        let at = self.offset;
        let block = self.block("a member header")?;
        if block == [0; BLOCK] {
            return self.end_of_archive().map(|()| None);
        }
        let not_canonical = |why: String| ErrorKind::NotCanonicalArchive { offset: at, why };
        let header = tar::Header::from_byte_slice(&block);
        let name = String::from_utf8(header.path_bytes().into_owned())
            .map_err(|_| not_canonical("the name is not UTF-8".into()))?;
        let size = header.entry_size().map_err(|_| not_canonical("the size is not octal".into()))?;
        if canonical_header(&name, size)? != block {
            return Err(not_canonical(format!(
                "the header of {:?} is not the one of a plain member",
                crate::text::escaped(&name)
            ))
            .into());
        }
        Ok(Some(Member { name, size }))
    }

    /// Fills `buffer` from the member `name`.
    pub fn read_exact(&mut self, name: &str, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => {
                    let expected = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
                    let found = u64::try_from(filled).unwrap_or(u64::MAX);
                    return Err(ErrorKind::Truncated {
                        what: format!("archive at byte {}: {name}", self.offset),
                        expected,
                        found,
                    }
                    .into());
                }
                Ok(count) => {
                    filled += count;
                    self.offset += u64::try_from(count).unwrap_or(u64::MAX);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(format!("archive at byte {}: {name}", self.offset), error)),
            }
        }
        Ok(())
    }

    /// Reads a whole small member.
    pub fn read_small(&mut self, member: &Member, limit: u64) -> Result<Vec<u8>> {
        if member.size > limit {
            return Err(ErrorKind::TooLarge { what: member.name.clone(), limit, found: member.size }.into());
        }
        let mut bytes = vec![0; usize::try_from(member.size).unwrap_or(0)];
        self.read_exact(&member.name, &mut bytes)?;
        self.end_member(member)?;
        Ok(bytes)
    }

    /// Checks the padding behind a member.
    pub fn end_member(&mut self, member: &Member) -> Result<()> {
        let at = self.offset;
        let mut padding = vec![0; padding_len(member.size)];
        self.read_exact(&member.name, &mut padding)?;
        if padding.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(ErrorKind::NotCanonicalArchive { offset: at, why: format!("the padding of {} is not zero", member.name) }
            .into())
    }

    fn block(&mut self, what: &str) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.read_exact(what, &mut block)?;
        Ok(block)
    }

    fn end_of_archive(&mut self) -> Result<()> {
        let at = self.offset;
        if self.block("the end mark")? != [0; BLOCK] {
            return Err(ErrorKind::NotCanonicalArchive {
                offset: at,
                why: "the end mark is one zero block, not two".into(),
            }
            .into());
        }
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(ErrorKind::TrailingBytes { offset: self.offset }.into()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("archive end", error)),
            }
        }
    }
}

fn padding_len(size: u64) -> usize {
    usize::try_from(size.next_multiple_of(BLOCK_U64) - size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ArchiveWriter::new(Vec::new());
        for (name, content) in members {
            writer.member(name, content.len() as u64, &mut &content[..]).unwrap();
        }
        writer.finish().unwrap()
    }

    fn walk(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
        walk_through(bytes)
    }

    fn walk_through(input: impl Read) -> Result<Vec<(String, Vec<u8>)>> {
        let mut reader = ArchiveReader::new(input);
        let mut found = Vec::new();
        while let Some(member) = reader.next_member()? {
            let content = reader.read_small(&member, 10_000)?;
            found.push((member.name, content));
        }
        Ok(found)
    }

    #[test]
    fn round_trip() {
        let found = walk(&archive(&[("manifest.json", b"{}"), ("packs/00000", &[7; 512]), ("empty", b"")])).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[1], ("packs/00000".to_owned(), vec![7; 512]));
    }

    #[test]
    fn every_flipped_bit_outside_content_is_refused() {
        let good = archive(&[("a", b"xyz")]);
        for at in (0..512).chain(515..good.len()) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(walk(&bad).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let good = archive(&[("a", b"xyz"), ("b", &[1; 600])]);
        for len in 0..good.len() {
            assert!(matches!(walk(&good[..len]).unwrap_err().kind(), ErrorKind::Truncated { .. }), "{len}");
        }
        let mut long = good;
        long.push(0);
        assert!(matches!(walk(&long).unwrap_err().kind(), ErrorKind::TrailingBytes { .. }));
    }

    #[test]
    fn only_plain_members_pass() {
        use tar::EntryType;
        let types = [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Char,
            EntryType::Block,
            EntryType::Directory,
            EntryType::Fifo,
            EntryType::Continuous,
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::GNUSparse,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
        ];
        for kind in types {
            let mut header = tar::Header::from_byte_slice(&canonical_header("a", 0).unwrap()).clone();
            header.set_entry_type(kind);
            header.set_cksum();
            let bytes = [header.as_bytes().as_slice(), &[0; 1024]].concat();
            assert!(matches!(walk(&bytes).unwrap_err().kind(), ErrorKind::NotCanonicalArchive { .. }), "{kind:?}");
        }
        let mut gnu = tar::Header::new_gnu();
        gnu.set_path("a").unwrap();
        gnu.set_size(0);
        gnu.set_cksum();
        assert!(walk(&[gnu.as_bytes().as_slice(), &[0; 1024]].concat()).is_err());
    }

    #[test]
    fn names_that_climb_are_refused() {
        let mut header = tar::Header::from_byte_slice(&canonical_header("aa/b", 0).unwrap()).clone();
        header.as_mut_bytes()[..4].copy_from_slice(b"../b");
        header.set_cksum();
        let bytes = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        assert!(matches!(walk(&bytes).unwrap_err().kind(), ErrorKind::BadName { .. }));
    }

    #[test]
    fn a_member_is_as_large_as_its_header_can_say() {
        let header = canonical_header("a", limits::PACK_BYTES).unwrap();
        assert_eq!(tar::Header::from_byte_slice(&header).entry_size().unwrap(), limits::PACK_BYTES);
        let more = limits::PACK_BYTES + 1;
        let error = canonical_header("a", more).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge { found, .. } if *found == more), "{error}");
    }

    #[test]
    fn a_reserved_member_is_like_any_other_once_its_content_is_there() {
        for size in [0, 3, 512, 1000] {
            let content = vec![7; size];
            let mut writer = ArchiveWriter::new(std::io::Cursor::new(Vec::<u8>::new()));
            writer.member("before", 3, &mut &b"xyz"[..]).unwrap();
            let at = usize::try_from(writer.reserve("reserved", size as u64).unwrap()).unwrap();
            writer.member("behind", 0, &mut &b""[..]).unwrap();
            let mut bytes = writer.finish().unwrap().into_inner();
            bytes[at..at + size].copy_from_slice(&content);
            let expected = archive(&[("before", b"xyz"), ("reserved", &content[..]), ("behind", b"")]);
            assert_eq!(bytes, expected, "{size} bytes");
        }
    }

    /// Gives its bytes, and once, after so many of them, an error.
    struct Stumbling<'a> {
        bytes: &'a [u8],
        error: Option<(usize, std::io::ErrorKind)>,
    }

    impl Read for Stumbling<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = match self.error {
                Some((0, kind)) => {
                    self.error = None;
                    return Err(kind.into());
                }
                Some((ahead, _)) => ahead.min(buffer.len()),
                None => buffer.len(),
            };
            let count = self.bytes.read(&mut buffer[..most])?;
            self.error = self.error.map(|(ahead, kind)| (ahead - count, kind));
            Ok(count)
        }
    }

    #[test]
    fn an_interrupted_read_is_taken_up_again_and_any_other_error_is_told() {
        use std::io::ErrorKind::{Interrupted, TimedOut};
        let good = archive(&[("a", b"xyz")]);
        // In a header, in content, in padding, in the end mark, and behind it.
        for at in [0, 100, 513, 600, good.len() - 1, good.len()] {
            let walk_to = |kind| walk_through(Stumbling { bytes: &good, error: Some((at, kind)) });
            assert_eq!(walk_to(Interrupted).unwrap(), [("a".to_owned(), b"xyz".to_vec())], "byte {at}");
            let error = walk_to(TimedOut).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io { source, .. } if source.kind() == TimedOut), "{at}: {error}");
        }
    }
}
