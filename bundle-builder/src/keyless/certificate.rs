//! The signer's certificate: who it names and who vouched for that (Fulcio's certificate profile,
//! github.com/sigstore/fulcio `docs/certificate-specification.md` and `docs/oid-info.md`).
//!
//! What may hurt it: two names where one is looked at, an issuer given twice. Who defends: exactly one
//! name, each extension once; [`super::chain`] proves the certificate that these are read from.

use bundle_format::release::Identity;

use super::asn1::{self, Node, tag};
use super::fault::{Checked, Fault, malformed, shown};

/// 1.3.6.1.4.1.57264.1.1: the issuer as raw text.
const ISSUER_1: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
/// 1.3.6.1.4.1.57264.1.8: the issuer as DER `UTF8String`.
const ISSUER_2: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];
/// 2.5.29.17 (RFC 5280 4.2.1.6).
const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// `rfc822Name` and `uniformResourceIdentifier` of a `GeneralName`.
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;

/// What is read of a certificate.
pub(super) struct Certificate<'a> {
    /// The whole.
    pub(super) der: &'a [u8],
    /// `SubjectPublicKeyInfo`.
    pub(super) spki: &'a [u8],
    /// First and last second of validity, since 1970.
    pub(super) validity: (u64, u64),
    /// What of the signed part is before the extensions.
    head: Vec<Node<'a>>,
    extensions: Vec<Extension<'a>>,
}

struct Extension<'a> {
    oid: &'a [u8],
    value: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Parses a DER certificate, version 3.
    pub(super) fn parse(der: &'a [u8]) -> Checked<Self> {
        Self::read(der).ok_or_else(|| malformed("certificate", "not DER of X.509 version 3"))
    }

    fn read(der: &'a [u8]) -> Option<Self> {
        let whole = Node::parse(der)?.tagged(tag::SEQUENCE)?.children()?;
        let [signed, _algorithm, _signature] = whole.as_slice() else { return None };
        let mut head = signed.tagged(tag::SEQUENCE)?.children()?;
        let extensions = head.pop()?.tagged(tag::CONTEXT_3)?;
        let [version, _serial, _algorithm, _issuer, validity, _subject, spki, ..] = head.as_slice() else {
            return None;
        };
        version.tagged(tag::CONTEXT_0)?;
        let times = validity.tagged(tag::SEQUENCE)?.children()?;
        let [from, to] = times.as_slice() else { return None };
        let list = Node::parse(extensions.value)?.tagged(tag::SEQUENCE)?.children()?;
        let extensions = list.into_iter().map(Extension::read).collect::<Option<_>>()?;
        let (validity, spki) = ((from.unix_time()?, to.unix_time()?), spki.tagged(tag::SEQUENCE)?.raw);
        Some(Self { der, spki, validity, head, extensions })
    }

    /// Content of an extension, by the content of its OID.
    pub(super) fn extension(&self, oid: &[u8]) -> Checked<Option<&'a [u8]>> {
        let mut found = self.extensions.iter().filter(|extension| extension.oid == oid);
        let first = found.next().map(|extension| extension.value);
        match found.next() {
            None => Ok(first),
            Some(_) => Err(malformed("certificate", "an extension is there twice")),
        }
    }

    /// The signed part without one extension: what a certificate log saw before there was a timestamp to
    /// put in (RFC 6962 3.2).
    pub(super) fn signed_without(&self, oid: &[u8]) -> Option<Vec<u8>> {
        let kept: Vec<&[u8]> = self.extensions.iter().filter(|e| e.oid != oid).map(|e| e.raw).collect();
        let extensions = asn1::context_3(&asn1::sequence(&kept)?)?;
        let mut parts: Vec<&[u8]> = self.head.iter().map(|node| node.raw).collect();
        parts.push(&extensions);
        asn1::sequence(&parts)
    }

    /// Checks that the certificate names `expected` and nobody else.
    pub(super) fn check_identity(&self, expected: &Identity) -> Checked<()> {
        let mut names = Vec::new();
        if let Some(value) = self.extension(NAMES)? {
            let list = Node::parse(value).and_then(|node| node.tagged(tag::SEQUENCE)?.children());
            names = list.ok_or_else(|| malformed("certificate", "its names are not DER"))?;
        }
        let (kind, text) = match expected {
            Identity::Uri(text) => (URI, text),
            Identity::Email(text) => (EMAIL, text),
        };
        match names.as_slice() {
            [one] if one.tag == kind && one.value == text.as_bytes() => Ok(()),
            names => {
                let found = names.iter().map(name).collect::<Vec<_>>().join(", ");
                let found = if found.is_empty() { "no name".into() } else { found };
                Err(Fault::Identity { expected: expected.clone(), found })
            }
        }
    }

    /// Checks who vouched for the identity: by the newer extension, or, where it is missing, the older one.
    pub(super) fn check_issuer(&self, expected: &str) -> Checked<()> {
        let found = match self.extension(ISSUER_2)? {
            Some(value) => {
                let text = Node::parse(value).and_then(|node| node.tagged(tag::UTF8));
                Some(text.ok_or_else(|| malformed("certificate", "its issuer is no UTF8String"))?.value)
            }
            None => self.extension(ISSUER_1)?,
        };
        match found {
            Some(issuer) if issuer == expected.as_bytes() => Ok(()),
            found => {
                let found = found.map_or("no issuer".into(), |bytes| shown(&String::from_utf8_lossy(bytes)));
                Err(Fault::Issuer { expected: expected.into(), found })
            }
        }
    }
}

impl<'a> Extension<'a> {
    /// RFC 5280 4.1: OID, whether it is critical (left out for "no"), content.
    fn read(node: Node<'a>) -> Option<Self> {
        let parts = node.tagged(tag::SEQUENCE)?.children()?;
        let (oid, value) = match parts.as_slice() {
            [oid, value] => (oid, value),
            [oid, critical, value] if critical.tag == tag::BOOLEAN => (oid, value),
            _ => return None,
        };
        let (oid, value) = (oid.tagged(tag::OID)?.value, value.tagged(tag::OCTETS)?.value);
        Some(Self { oid, value, raw: node.raw })
    }
}

/// A `GeneralName` for people, as openssl writes it.
fn name(node: &Node<'_>) -> String {
    let text = shown(&String::from_utf8_lossy(node.value));
    match node.tag {
        URI => format!("URI:{text}"),
        EMAIL => format!("email:{text}"),
        other => format!("a name of kind {other:#04x}"),
    }
}
