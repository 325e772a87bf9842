//! Raw tar members: what our writer makes, and what it never would.

use std::ops::Range;

/// Two zero blocks.
pub const END: [u8; 1024] = [0; 1024];

/// The header of a plain member as our writer makes it.
pub fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    set_name(&mut header, name.as_bytes());
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

/// Puts any bytes into the name field; the checksum is made anew.
pub fn set_name(header: &mut tar::Header, name: &[u8]) {
    let field = &mut header.as_old_mut().name;
    field.fill(0);
    field[..name.len()].copy_from_slice(name);
    header.set_cksum();
}

/// A header with its content and padding.
pub fn member(header: &tar::Header, content: &[u8]) -> Vec<u8> {
    let mut bytes = [header.as_bytes().as_slice(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A plain member.
pub fn plain(name: &str, content: &[u8]) -> Vec<u8> {
    member(&header(name, content.len() as u64), content)
}

/// Where a member lies in an archive.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its header's bytes.
    pub header: Range<usize>,
    /// Its content's bytes.
    pub content: Range<usize>,
}

impl Place {
    /// Where the next member's header begins.
    pub fn end(&self) -> usize {
        self.content.end.next_multiple_of(512)
    }
}

/// The members of a sound archive.
pub fn places(archive: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut at = 0;
    while archive[at] != 0 {
        let header = tar::Header::from_byte_slice(&archive[at..at + 512]);
        let name = String::from_utf8(header.path_bytes().into_owned()).unwrap();
        let size = usize::try_from(header.entry_size().unwrap()).unwrap();
        let place = Place { name, header: at..at + 512, content: at + 512..at + 512 + size };
        at = place.end();
        places.push(place);
    }
    places
}

/// The place of the first member whose name starts with `prefix`.
pub fn place(archive: &[u8], prefix: &str) -> Place {
    places(archive).into_iter().find(|place| place.name.starts_with(prefix)).unwrap()
}

/// Edits the header of the first member whose name starts with `prefix` and makes its checksum anew.
pub fn edit(archive: &[u8], prefix: &str, change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let at = place(archive, prefix).header;
    let mut header = tar::Header::from_byte_slice(&archive[at.clone()]).clone();
    change(&mut header);
    header.set_cksum();
    let mut bytes = archive.to_vec();
    bytes[at].copy_from_slice(header.as_bytes());
    bytes
}

/// Puts raw bytes before the first member whose name starts with `prefix`.
pub fn insert(archive: &[u8], prefix: &str, raw: &[u8]) -> Vec<u8> {
    let (head, tail) = archive.split_at(place(archive, prefix).header.start);
    [head, raw, tail].concat()
}

/// The archive without its end mark.
pub fn without_end(archive: &[u8]) -> Vec<u8> {
    archive[..archive.len() - END.len()].to_vec()
}
