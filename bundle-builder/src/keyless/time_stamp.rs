//! Time stamps over signatures (RFC 3161, in the signed data of RFC 5652): a pinned authority says when a
//! signature was there.
//!
//! What may hurt it: a stamp by a stranger, over another signature, or by an authority that was not yet or no
//! longer in use. Who defends: only keys of authorities in the trusted root count, whatever certificates the
//! stamp carries; the stamp names the signature's digest.

use ring::digest::{SHA256, SHA384, SHA512, digest};

use super::asn1::{self, Node, tag};
use super::certificate::Certificate;
use super::chain;
use super::fault::{Checked, Fault};
use super::key::Key;
use super::root::Authority;

/// 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4.
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
/// 1.2.840.113549.1.9.3 and .4: the attributes "content type" and "message digest".
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// 2.16.840.1.101.3.4.2.1 to .3.
const HASHES: [(&[u8], &ring::digest::Algorithm); 3] = [
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], &SHA256),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], &SHA384),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], &SHA512),
];

/// A stamp as parsed; nothing of it is verified.
struct Stamp<'a> {
    /// `TSTInfo`, DER.
    info: &'a [u8],
    /// Algorithm and value of the digest that is stamped.
    imprint: (&'static ring::digest::Algorithm, &'a [u8]),
    /// Seconds since 1970.
    time: u64,
    /// The attributes that are signed, as a `SET`.
    attributes: Vec<u8>,
    /// Digest of `info` that they name.
    named: (&'static ring::digest::Algorithm, &'a [u8]),
    signature: &'a [u8],
}

/// Verifies a `TimeStampResp` over `signature`; gives the time, in seconds since 1970.
pub(super) fn verify(response: &[u8], signature: &[u8], authorities: &[Authority]) -> Checked<u64> {
    let wrong = |why: &str| Fault::TimeStamp { why: why.into() };
    let stamp = Stamp::parse(response).ok_or_else(|| wrong("no time stamp of RFC 3161 with one signer"))?;
    let (algorithm, named) = stamp.named;
    if digest(algorithm, stamp.info).as_ref() != named {
        return Err(wrong("its signed attributes are of another stamp"));
    }
    let (algorithm, imprint) = stamp.imprint;
    if digest(algorithm, signature).as_ref() != imprint {
        return Err(wrong("it is over another signature"));
    }
    let mut why = wrong("no authority of the trusted root made it");
    for authority in authorities {
        let Some(first) = authority.chain.first() else { continue };
        let Ok(certificate) = Certificate::parse(first) else { continue };
        if !Key::new(certificate.spki).verifies(&stamp.attributes, stamp.signature) {
            continue;
        }
        if !authority.window.holds(stamp.time) {
            why = wrong("its authority is not for that time");
            continue;
        }
        match chain::time_stamper(authority, stamp.time) {
            Ok(()) => return Ok(stamp.time),
            Err(error) => why = Fault::TimeStamp { why: error },
        }
    }
    Err(why)
}

impl<'a> Stamp<'a> {
    /// `TimeStampResp` (RFC 3161 2.4.2): a status, and the token as `ContentInfo` (RFC 5652 3).
    fn parse(response: &'a [u8]) -> Option<Self> {
        let parts = Node::parse(response)?.tagged(tag::SEQUENCE)?.children()?;
        let [_status, token] = parts.as_slice() else { return None };
        let parts = token.tagged(tag::SEQUENCE)?.children()?;
        let [kind, content] = parts.as_slice() else { return None };
        oid(*kind, SIGNED_DATA)?;
        Self::signed_data(Node::parse(content.tagged(tag::CONTEXT_0)?.value)?)
    }

    /// RFC 5652 5.1: version, digest algorithms, content, certificates and lists that are not asked, signers.
    fn signed_data(node: Node<'a>) -> Option<Self> {
        let parts = node.tagged(tag::SEQUENCE)?.children()?;
        let [_version, _algorithms, content, .., signers] = parts.as_slice() else { return None };
        let content = content.tagged(tag::SEQUENCE)?.children()?;
        let [kind, content] = content.as_slice() else { return None };
        oid(*kind, TST_INFO)?;
        let info = Node::parse(content.tagged(tag::CONTEXT_0)?.value)?.tagged(tag::OCTETS)?.value;
        let signers = signers.tagged(tag::SET)?.children()?;
        let [signer] = signers.as_slice() else { return None };
        Self::signer(*signer, info)
    }

    /// RFC 5652 5.3: version, who, digest algorithm, signed attributes, algorithm, signature.
    fn signer(node: Node<'a>, info: &'a [u8]) -> Option<Self> {
        let parts = node.tagged(tag::SEQUENCE)?.children()?;
        let [_version, _who, algorithm, attributes, _signature_algorithm, signature, ..] = parts.as_slice() else {
            return None;
        };
        let attributes = attributes.tagged(tag::CONTEXT_0)?;
        let list = attributes.children()?;
        oid(attribute(&list, CONTENT_TYPE)?, TST_INFO)?;
        let named = (hash(*algorithm)?, attribute(&list, MESSAGE_DIGEST)?.tagged(tag::OCTETS)?.value);
        let (imprint, time) = stamped(info)?;
        // They are signed as the SET that they are, not under the tag that they travel with (RFC 5652 5.4).
        let attributes = asn1::set(attributes.value)?;
        Some(Self { info, imprint, time, attributes, named, signature: signature.tagged(tag::OCTETS)?.value })
    }
}

/// `TSTInfo` (RFC 3161 2.4.2): version 1, policy, imprint, serial number, time, and more that is not asked.
fn stamped(info: &[u8]) -> Option<((&'static ring::digest::Algorithm, &[u8]), u64)> {
    let parts = Node::parse(info)?.tagged(tag::SEQUENCE)?.children()?;
    let [version, _policy, imprint, _serial, time, ..] = parts.as_slice() else { return None };
    if version.tagged(tag::INTEGER)?.value != [1] {
        return None;
    }
    let imprint = imprint.tagged(tag::SEQUENCE)?.children()?;
    let [algorithm, value] = imprint.as_slice() else { return None };
    let value = value.tagged(tag::OCTETS)?.value;
    Some(((hash(*algorithm)?, value), time.tagged(tag::GENERALIZED_TIME)?.unix_time()?))
}

/// The one value of the one attribute of this kind.
fn attribute<'a>(list: &[Node<'a>], kind: &[u8]) -> Option<Node<'a>> {
    let mut found = None;
    for node in list {
        let parts = node.tagged(tag::SEQUENCE)?.children()?;
        let [name, values] = parts.as_slice() else { return None };
        if name.tagged(tag::OID)?.value != kind {
            continue;
        }
        let values = values.tagged(tag::SET)?.children()?;
        let ([one], None) = (values.as_slice(), found) else { return None };
        found = Some(*one);
    }
    found
}

fn oid(node: Node<'_>, expected: &[u8]) -> Option<()> {
    (node.tagged(tag::OID)?.value == expected).then_some(())
}

/// An `AlgorithmIdentifier` of a hash.
fn hash(node: Node<'_>) -> Option<&'static ring::digest::Algorithm> {
    let parts = node.tagged(tag::SEQUENCE)?.children()?;
    let name = parts.first()?.tagged(tag::OID)?.value;
    HASHES.iter().find(|(oid, _)| *oid == name).map(|(_, algorithm)| *algorithm)
}
