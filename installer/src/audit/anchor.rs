//! Anchors: heads that were written down where this machine's root cannot change them.
//!
//! Whoever holds the machine can cut the log's tail and put an older signed head back; only a head
//! kept elsewhere shows it. It comes back as a report's line, or from a card in groups of four.

use std::path::Path;

use bundle_format::digest::Sha384;
use bundle_format::inventory::Inventory;
use bundle_format::limits;
use bundle_format::text::groups_of_four;

use super::head::{Head, claimed};
use crate::error::{Error, ErrorKind, Result};

/// Hexadecimal digits of a hash on a card: 96 bits (R-AUD-9 says what they withstand).
pub const CARD_DIGITS: usize = 24;
/// Bytes of a file of anchors at most: an inventory, and thousands of heads.
const FILE_BYTES: u64 = limits::INVENTORY_BYTES + (16 << 20);

/// A record's number and its hash, or the hash's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    seq: u64,
    digits: String,
    key: Option<Sha384>,
}

impl Anchor {
    /// Parses `SEQ:HASH`: at least 24 hexadecimal digits, in any case, spaces anywhere.
    pub fn parse(text: &str) -> Result<Self> {
        let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        let usage = || ErrorKind::Usage {
            why: format!(
                "anchor {}: expected SEQ:HASH, the hash with at least {CARD_DIGITS} hexadecimal digits",
                bundle_format::text::escaped(text)
            ),
        };
        let (seq, digits) = plain.split_once(':').ok_or_else(usage)?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(usage)?;
        let sized = (CARD_DIGITS..=96).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if sized { Ok(Self { seq, digits: digits.to_owned(), key: None }) } else { Err(usage().into()) }
    }

    /// Parses a file with one anchor a line: signed heads as `audit head` prints them, inventories, or `SEQ:HASH`.
    /// Empty lines are passed over.
    pub fn parse_file(path: &Path) -> Result<Vec<Self>> {
        use std::io::Read as _;
        let io = |e| Error::io(path.display().to_string(), e);
        let mut text = String::new();
        confinement::open_regular(path).map_err(io)?.take(FILE_BYTES).read_to_string(&mut text).map_err(io)?;
        let mut anchors = Vec::new();
        for (line, number) in text.lines().zip(1u64..).filter(|(line, _)| !line.trim().is_empty()) {
            let signed = line.starts_with('{').then(|| Self::claimed_by(format!("{line}\n").as_bytes()));
            anchors.push(match signed {
                None => Self::parse(line)?,
                Some(Some(anchor)) => anchor,
                Some(None) => {
                    let why = format!("{}: line {number} is no signed head and no inventory with one", path.display());
                    return Err(ErrorKind::Usage { why }.into());
                }
            });
        }
        if anchors.is_empty() {
            return Err(ErrorKind::Usage { why: format!("{} holds no anchor", path.display()) }.into());
        }
        Ok(anchors)
    }

    /// The head that a signed head claims, or a site's inventory. Unproved, as a card is: whoever kept it knows
    /// where it comes from, and its key must be this machine's.
    fn claimed_by(line: &[u8]) -> Option<Self> {
        let of = |seq, hash: Sha384, key| Self { seq, digits: hash.to_string(), key: Some(key) };
        if let Some(head) = claimed(line) {
            return Some(of(head.seq, head.hash, head.key));
        }
        let inventory = Inventory::claimed(line).ok()?;
        inventory.audit.map(|head| of(head.seq, head.hash, inventory.key))
    }

    /// Number of the record.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The key that signed it, if the anchor says so.
    pub const fn key(&self) -> Option<&Sha384> {
        self.key.as_ref()
    }

    /// The digits, in groups of four.
    pub fn shown(&self) -> String {
        groups_of_four(&self.digits)
    }

    /// Whether a record's hash begins so.
    pub fn matches(&self, hash: &Sha384) -> bool {
        hash.hex().starts_with(&self.digits)
    }

    /// A hash with as many digits as this anchor has, in groups of four.
    pub(super) fn shown_of(&self, hash: &Sha384) -> String {
        groups_of_four(hash.hex().get(..self.digits.len()).unwrap_or_default())
    }
}

/// The short form that is printed on a card: `SEQ:` and 24 digits in groups of four.
pub fn card(head: &Head) -> String {
    let hash = head.hash.hex();
    format!("{}:{}", head.seq, groups_of_four(hash.get(..CARD_DIGITS).unwrap_or_default()))
}

/// The line by which a report tells where the log ends.
pub fn line(head: &Head) -> String {
    format!("audit log ends at {}", card(head))
}

#[cfg(test)]
mod tests {
    use bundle_format::inventory::AuditHead;
    use bundle_format::timestamp::Timestamp;

    use super::super::key::ApplianceKey;
    use super::*;

    #[test]
    fn what_a_person_types() {
        let hash = Sha384::of(b"row");
        let head = Head::new(Sha384::of(b"key"), 17, hash, &Timestamp::from_unix(0));
        for text in [head.anchor(), card(&head), card(&head).to_uppercase(), format!(" 17 : {}\n", hash.hex())] {
            let anchor = Anchor::parse(&text).unwrap();
            assert!(anchor.seq() == 17 && anchor.matches(&hash) && !anchor.matches(&Sha384::of(b"x")), "{text}");
        }
        assert_eq!(card(&head).len(), "17:".len() + 24 + 5);
        let short = card(&head)[..card(&head).len() - 1].to_owned();
        for bad in [
            short.as_str(),
            "17",
            "",
            "0:0123456789abcdef01234567",
            "x:0123456789abcdef01234567",
            "1:zz23456789abcdef01234567",
        ] {
            assert!(matches!(Anchor::parse(bad).unwrap_err().kind(), ErrorKind::Usage { .. }), "{bad}");
        }
    }

    #[test]
    fn files_of_heads_and_cards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads.jsonl");
        let key = ApplianceKey::from_seeds(&[1; 32], &[2; 32]);
        let head = Head::new(key.public().fingerprint().unwrap(), 3, Sha384::of(b"3"), &Timestamp::from_unix(0));
        let line = String::from_utf8(head.sign(&key).unwrap()).unwrap();
        let inventory = |audit| {
            let payload = Inventory {
                format: if audit { "lockgate-inventory/2" } else { "lockgate-inventory/1" }.into(),
                key: head.key,
                at: Timestamp::from_unix(0),
                marking: bundle_format::marking::Marking::UNCLASSIFIED,
                releases: Vec::new(),
                blobs: Vec::new(),
                audit: audit.then(|| AuditHead { seq: 4, hash: Sha384::of(b"4") }),
            };
            String::from_utf8(Inventory::seal(&payload.to_bytes().unwrap(), &[]).unwrap()).unwrap()
        };
        std::fs::write(&path, format!("{line}\n5:{}\n{}", Sha384::of(b"5"), inventory(true))).unwrap();
        let anchors = Anchor::parse_file(&path).unwrap();
        assert_eq!(anchors.iter().map(Anchor::seq).collect::<Vec<_>>(), [3, 5, 4]);
        assert!(anchors[2].matches(&Sha384::of(b"4")) && anchors[2].key() == Some(&head.key));
        assert!(
            anchors[0].matches(&Sha384::of(b"3")) && anchors[0].key() == Some(&head.key) && anchors[1].key().is_none()
        );
        for bad in ["", "{\"format\":\"x\"}\n", "nonsense\n", &inventory(false)] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(Anchor::parse_file(&path).unwrap_err().kind(), ErrorKind::Usage { .. }), "{bad}");
        }
    }
}
