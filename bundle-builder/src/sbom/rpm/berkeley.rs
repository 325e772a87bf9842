//! The form before rpm 4.16: a hash table of Berkeley DB, whose values are the headers (format:
//! `dbinc/db_page.h` of Berkeley DB 5.3, versions 8 to 10 of the table, in the byte order of the machine that
//! wrote it).
//!
//! Pages of buckets are read as they lie in the file, each once, and no chain between them is followed. A
//! header that fills more than a page lies on a chain of overflow pages, which may lead anywhere: it is
//! followed only as far as the length that was admitted, and each page of it gives a byte at least.

use super::{Headers, unreadable};

const MAGIC: u32 = 0x0006_1561;
/// Bytes before the content of a page.
const HEAD: usize = 26;
/// Pages of buckets: unsorted before version 9, sorted since.
const BUCKETS: [u8; 2] = [2, 13];
const OVERFLOW: u8 = 7;
/// An item that lies in its page; one that lies on overflow pages.
const INLINE: u8 = 1;
const ELSEWHERE: u8 = 3;
/// Where rpm keeps the number that its next package gets.
const NEXT_NUMBER: [u8; 4] = [0; 4];

/// Hands over each header of a database.
pub(super) fn read(database: &[u8], headers: &mut Headers<'_>) -> Result<(), String> {
    let table = Table::open(database).map_err(unreadable)?;
    for number in 1..=table.last {
        let page = table.page(number).ok_or_else(|| unreadable("it is cut short"))?;
        if !page.kind().is_some_and(|kind| BUCKETS.contains(&kind)) {
            continue;
        }
        let broken = || unreadable(format!("page {number} is not in order"));
        let items = page.numbered(number).and_then(|()| page.half(20)).ok_or_else(broken)?;
        for pair in 0..usize::from(items) / 2 {
            let (key, value) = (page.item(2 * pair).ok_or_else(broken)?, page.item(2 * pair + 1).ok_or_else(broken)?);
            match key {
                Item::Inline(key) if key == NEXT_NUMBER => {}
                Item::Inline(key) if key.len() == NEXT_NUMBER.len() => table.header(value, headers)?,
                Item::Inline(_) | Item::Elsewhere { .. } => {
                    return Err(unreadable("a key that is no package's number"));
                }
            }
        }
    }
    Ok(())
}

/// Numbers as the machine wrote them.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn half(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn word(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

struct Table<'a> {
    bytes: &'a [u8],
    order: Order,
    page_bytes: usize,
    last: u32,
}

impl<'a> Table<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let order = [false, true].map(|big| Order { big });
        let order = order.into_iter().find(|order| order.word(bytes, 12) == Some(MAGIC));
        let order = order.ok_or("it is no hash table of Berkeley DB")?;
        let word = |at: usize| order.word(bytes, at).ok_or("it is cut short");
        let version = word(16)?;
        if !(8..=10).contains(&version) {
            return Err(format!("version {version} of a hash table of Berkeley DB"));
        }
        // Behind a head that is longer.
        if bytes.get(24) != Some(&0) || bytes.get(26).is_none_or(|flags| flags & 1 != 0) {
            return Err("it is encrypted, or has sums of its pages".into());
        }
        let page_bytes = usize::try_from(word(20)?).unwrap_or(usize::MAX);
        if !(512..=65536).contains(&page_bytes) || !page_bytes.is_power_of_two() {
            return Err(format!("pages of {page_bytes} bytes"));
        }
        Ok(Self { bytes, order, page_bytes, last: word(32)? })
    }

    fn page(&self, number: u32) -> Option<Page<'a>> {
        let from = usize::try_from(number).ok()?.checked_mul(self.page_bytes)?;
        let bytes = self.bytes.get(from..from.checked_add(self.page_bytes)?)?;
        Some(Page { bytes, order: self.order })
    }

    fn header(&self, value: Item<'_>, headers: &mut Headers<'_>) -> Result<(), String> {
        match value {
            Item::Inline(header) => headers.take(header),
            Item::Elsewhere { first, len } => {
                headers.admit(len.into())?;
                let broken = || unreadable(format!("the pages from {first} on do not hold {len} bytes"));
                (headers.each)(&self.chained(first, len).ok_or_else(broken)?);
                Ok(())
            }
        }
    }

    /// The bytes on a chain of overflow pages, which must be just so many.
    fn chained(&self, first: u32, len: u32) -> Option<Vec<u8>> {
        let len = usize::try_from(len).ok()?;
        let (mut bytes, mut number) = (Vec::new(), first);
        while bytes.len() < len {
            let page = self.page(number).filter(|page| page.kind() == Some(OVERFLOW))?;
            page.numbered(number)?;
            let part = page.bytes.get(HEAD..)?.get(..page.half(22)?.into())?;
            if part.is_empty() || part.len() > len - bytes.len() {
                return None;
            }
            bytes.extend_from_slice(part);
            number = page.word(16)?;
        }
        Some(bytes)
    }
}

struct Page<'a> {
    bytes: &'a [u8],
    order: Order,
}

#[derive(Clone, Copy)]
enum Item<'a> {
    Inline(&'a [u8]),
    Elsewhere { first: u32, len: u32 },
}

impl<'a> Page<'a> {
    fn half(&self, at: usize) -> Option<u16> {
        self.order.half(self.bytes, at)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.order.word(self.bytes, at)
    }

    fn kind(&self) -> Option<u8> {
        self.bytes.get(25).copied()
    }

    /// Whether it says that it is the page of this number.
    fn numbered(&self, number: u32) -> Option<()> {
        (self.word(8)? == number).then_some(())
    }

    /// Items lie from the page's end downwards, where the list behind its head says.
    fn item(&self, index: usize) -> Option<Item<'a>> {
        let place = |index: usize| self.half(HEAD + 2 * index).map(usize::from);
        let end = index.checked_sub(1).map_or(Some(self.bytes.len()), place)?;
        let item = self.bytes.get(place(index)?..end)?;
        match item.split_first()? {
            (&INLINE, content) => Some(Item::Inline(content)),
            (&ELSEWHERE, rest) if rest.len() == 11 => {
                Some(Item::Elsewhere { first: self.order.word(item, 4)?, len: self.order.word(item, 8)? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bundle_format::limits;

    use super::*;

    const PAGE: usize = 512;

    /// A page of 512 bytes: its number, kind, the number of what follows it, two small numbers.
    fn page(number: u32, kind: u8, next: u32, halves: [u16; 2], content: &[u8]) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[8..12].copy_from_slice(&number.to_le_bytes());
        page[16..20].copy_from_slice(&next.to_le_bytes());
        page[20..22].copy_from_slice(&halves[0].to_le_bytes());
        page[22..24].copy_from_slice(&halves[1].to_le_bytes());
        page[25] = kind;
        page[HEAD..HEAD + content.len()].copy_from_slice(content);
        page
    }

    /// A page of buckets with these items.
    fn buckets(number: u32, items: &[&[u8]]) -> Vec<u8> {
        let (mut places, mut end) = (Vec::new(), PAGE);
        for item in items {
            end -= item.len();
            places.extend(u16::try_from(end).unwrap().to_le_bytes());
        }
        let mut page = page(number, 13, 0, [u16::try_from(items.len()).unwrap(), 0], &places);
        for item in items.iter().rev() {
            page[end..end + item.len()].copy_from_slice(item);
            end += item.len();
        }
        page
    }

    fn elsewhere(first: u32, len: u32) -> Vec<u8> {
        [&[ELSEWHERE, 0, 0, 0][..], &first.to_le_bytes(), &len.to_le_bytes()].concat()
    }

    fn table(pages: &[Vec<u8>]) -> Vec<u8> {
        let mut meta = page(0, 8, 0, [0, 0], &[]);
        for (at, word) in [(12, MAGIC), (16, 9), (20, 512), (32, u32::try_from(pages.len()).unwrap())] {
            meta[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        meta[24..28].copy_from_slice(&[0, 8, 0, 0]);
        [vec![meta], pages.to_vec()].concat().concat()
    }

    fn found(database: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut all = Vec::new();
        let stored = u64::try_from(database.len()).unwrap();
        let mut each = |header: &[u8]| all.push(header.to_vec());
        read(database, &mut Headers { each: &mut each, stored, count: 0, sum: 0 })?;
        Ok(all)
    }

    const KEY: &[u8] = &[INLINE, 1, 0, 0, 0];

    /// One header in a page of buckets and one on two pages of its own; beside them rpm's own record and a page
    /// that is not used.
    fn sound() -> Vec<Vec<u8>> {
        vec![
            buckets(1, &[&[INLINE, 0, 0, 0, 0], &[INLINE, 9, 0, 0, 0], KEY, &elsewhere(3, 500), KEY, b"\x01TEST"]),
            vec![0; PAGE],
            page(3, OVERFLOW, 4, [1, 486], &[7; 486]),
            page(4, OVERFLOW, 0, [1, 14], &[8; 14]),
        ]
    }

    #[test]
    fn headers_in_their_page_and_on_pages_of_their_own() {
        let long = [vec![7; 486], vec![8; 14]].concat();
        assert_eq!(found(&table(&sound())).unwrap(), [long, b"TEST".to_vec()]);
        assert_eq!(found(&table(&[])).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_no_hash_table_is_named() {
        let whole = table(&sound());
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            found(&bytes).unwrap_err()
        };
        for (said, expected) in [
            (with(12, 0x62), "it is no hash table of Berkeley DB"),
            (with(16, 7), "version 7 of a hash table"),
            (with(16, 11), "version 11 of a hash table"),
            (with(24, 1), "encrypted, or has sums"),
            (with(26, 1), "encrypted, or has sums"),
            (with(21, 3), "pages of 768 bytes"),
            (with(21, 1), "pages of 256 bytes"),
            (with(32, 5), "it is cut short"),
            (with(PAGE + 8, 2), "page 1 is not in order"),
            // More items than there is room for; items that lie in the wrong order; of another kind.
            (with(PAGE + 21, 9), "page 1 is not in order"),
            (with(PAGE + HEAD + 3, 0), "page 1 is not in order"),
            (with(2 * PAGE - 10, 4), "page 1 is not in order"),
            (found(b"no database").unwrap_err(), "it is no hash table"),
            (found(&whole[..30]).unwrap_err(), "it is cut short"),
        ] {
            assert!(said.contains(expected) && said.starts_with("not readable as an rpm database: "), "{said}");
        }
    }

    #[test]
    fn chains_end_and_lead_nowhere_else() {
        let chain = |value: &[u8], pages: &[Vec<u8>]| {
            found(&table(&[&[buckets(1, &[KEY, value])][..], pages].concat())).unwrap_err()
        };
        let broken = |said: String| assert!(said.contains("do not hold"), "{said}");
        // In a circle it gives what it is to give; without a byte in it, nothing.
        let circle = |bytes: u16| page(2, OVERFLOW, 2, [1, bytes], &vec![7; bytes.into()]);
        assert_eq!(found(&table(&[buckets(1, &[KEY, &elsewhere(2, 900)]), circle(450)])).unwrap(), [vec![7; 900]]);
        broken(chain(&elsewhere(2, 900), &[circle(0)]));
        // It ends too soon, or gives too much; leads out of the file, to itself as buckets, to another's page.
        broken(chain(&elsewhere(2, 900), &[page(2, OVERFLOW, 0, [1, 450], &[7; 450])]));
        broken(chain(&elsewhere(2, 900), &[circle(400)]));
        broken(chain(&elsewhere(9, 900), &[]));
        broken(chain(&elsewhere(1, 900), &[]));
        broken(chain(&elsewhere(2, 900), &[page(3, OVERFLOW, 2, [1, 450], &[7; 450])]));
        // More than a page holds.
        broken(chain(&elsewhere(2, 900), &[page(2, OVERFLOW, 2, [1, 487], &[7; 486])]));
        // Longer than any header; together longer than the file.
        let most = u32::try_from(limits::RPM_HEADER_BYTES).unwrap();
        assert_eq!(chain(&elsewhere(2, most + 1), &[circle(450)]), "a package of it has more than 67108864 bytes");
        let twice = elsewhere(2, 900);
        let said = found(&table(&[buckets(1, &[KEY, &twice, KEY, &twice]), circle(450)])).unwrap_err();
        assert_eq!(said, "its packages have more bytes than the database");
        // A key on pages of its own is none that rpm writes, nor one of another length.
        for key in [elsewhere(2, 4), vec![INLINE, 1, 0, 0], vec![INLINE, 1, 0, 0, 0, 0]] {
            let said = found(&table(&[buckets(1, &[&key, b"\x01TEST"]), circle(450)])).unwrap_err();
            assert!(said.contains("a key that is no package's number"), "{said}");
        }
    }

    #[test]
    fn no_flipped_bit_does_worse_than_an_error() {
        let whole = table(&sound());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(headers) = found(&bytes) {
                    assert!(headers.iter().map(Vec::len).sum::<usize>() <= bytes.len(), "byte {at} bit {bit}");
                }
            }
        }
    }
}
