//! DER as a tree (X.690): what this room reads of certificates and time stamps beside what webpki
//! reads. Lengths are `der`'s; every element stays a slice of the input, so that what was signed is
//! what is looked at.

use der::asn1::{Any, AnyRef, GeneralizedTime, UtcTime};
use der::{Decode as _, Encode as _, Reader as _, SliceReader, Tag, TagNumber};

/// Tag bytes.
pub(super) mod tag {
    pub(in super::super) const BOOLEAN: u8 = 0x01;
    pub(in super::super) const INTEGER: u8 = 0x02;
    pub(in super::super) const OCTETS: u8 = 0x04;
    pub(in super::super) const OID: u8 = 0x06;
    pub(in super::super) const UTF8: u8 = 0x0c;
    pub(in super::super) const UTC_TIME: u8 = 0x17;
    pub(in super::super) const GENERALIZED_TIME: u8 = 0x18;
    pub(in super::super) const SEQUENCE: u8 = 0x30;
    pub(in super::super) const SET: u8 = 0x31;
    /// Context 0, constructed.
    pub(in super::super) const CONTEXT_0: u8 = 0xa0;
    /// Context 3, constructed.
    pub(in super::super) const CONTEXT_3: u8 = 0xa3;
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node<'a> {
    /// Its tag byte.
    pub(super) tag: u8,
    /// Its content.
    pub(super) value: &'a [u8],
    /// Tag, length and content.
    pub(super) raw: &'a [u8],
}

impl<'a> Node<'a> {
    /// The one element that `bytes` are; `None` if they are anything else.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match elements(bytes)?.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// The element if it has this tag.
    pub(super) fn tagged(self, tag: u8) -> Option<Self> {
        (self.tag == tag).then_some(self)
    }

    /// What a constructed element holds.
    pub(super) fn children(self) -> Option<Vec<Self>> {
        elements(self.value)
    }

    /// A time in seconds since 1970; a fraction of a second is dropped.
    pub(super) fn unix_time(self) -> Option<u64> {
        match self.tag {
            tag::UTC_TIME => Some(UtcTime::from_der(self.raw).ok()?.to_unix_duration().as_secs()),
            tag::GENERALIZED_TIME => {
                let text = std::str::from_utf8(self.value).ok()?;
                let whole = match text.split_once('.') {
                    Some((whole, fraction)) => {
                        let digits = fraction.strip_suffix('Z')?;
                        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
                            .then(|| format!("{whole}Z"))?
                    }
                    None => text.to_owned(),
                };
                let raw = encoded(Tag::GeneralizedTime, whole.as_bytes())?;
                Some(GeneralizedTime::from_der(&raw).ok()?.to_unix_duration().as_secs())
            }
            _ => None,
        }
    }
}

fn elements(bytes: &[u8]) -> Option<Vec<Node<'_>>> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        let raw = reader.tlv_bytes().ok()?;
        let value = AnyRef::from_der(raw).ok()?.value();
        found.push(Node { tag: *raw.first()?, value, raw });
    }
    Some(found)
}

/// An element of this tag.
fn encoded(tag: Tag, value: &[u8]) -> Option<Vec<u8>> {
    Any::new(tag, value).ok()?.to_der().ok()
}

/// A `SEQUENCE` of elements that are encoded already.
pub(super) fn sequence(parts: &[&[u8]]) -> Option<Vec<u8>> {
    encoded(Tag::Sequence, &parts.concat())
}

/// A `SET OF` elements that are encoded already.
pub(super) fn set(content: &[u8]) -> Option<Vec<u8>> {
    encoded(Tag::Set, content)
}

/// `[3] EXPLICIT` around one encoded element.
pub(super) fn context_3(content: &[u8]) -> Option<Vec<u8>> {
    encoded(Tag::ContextSpecific { constructed: true, number: TagNumber(3) }, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees() {
        let bytes = [0x30, 0x06, 0x02, 0x01, 0x07, 0x04, 0x01, 0xff];
        let node = Node::parse(&bytes).unwrap();
        assert_eq!((node.tag, node.raw), (tag::SEQUENCE, &bytes[..]));
        let children = node.children().unwrap();
        assert_eq!((children[0].tag, children[0].value), (tag::INTEGER, &[7][..]));
        assert_eq!((children[1].tag, children[1].raw), (tag::OCTETS, &bytes[5..]));
        assert_eq!(sequence(&[children[0].raw, children[1].raw]).unwrap(), bytes);
    }

    #[test]
    fn refusals() {
        let long_form_for_short = [0x30, 0x81, 0x01, 0x00];
        let indefinite = [0x30, 0x80, 0x00, 0x00];
        for bad in
            [&b""[..], &[0x30], &[0x30, 0x02, 0x02], &[0x02, 0x01, 0x07, 0x00], &long_form_for_short, &indefinite]
        {
            assert_eq!(Node::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times() {
        let of = |tag: u8, text: &str| {
            let raw = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            Node::parse(&raw).unwrap().unix_time()
        };
        assert_eq!(of(tag::UTC_TIME, "231114221320Z"), Some(1_700_000_000));
        assert_eq!(of(tag::GENERALIZED_TIME, "20231114221320Z"), Some(1_700_000_000));
        assert_eq!(of(tag::GENERALIZED_TIME, "20231114221320.25Z"), Some(1_700_000_000));
        for bad in ["20231114221320", "20231114221320.Z", "20231114221320.5", "20231314221320Z", "2023111422132.0Z"] {
            assert_eq!(of(tag::GENERALIZED_TIME, bad), None, "{bad}");
        }
        assert_eq!(of(tag::UTF8, "231114221320Z"), None);
    }
}
