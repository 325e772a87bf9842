//! The signed certificate timestamp inside a certificate: a certificate log has seen it, so an authority
//! that issues behind everyone's back is found out (RFC 6962 3.2 and 3.3).

use bundle_format::digest::Sha256;

use super::asn1::{Node, tag};
use super::certificate::Certificate;
use super::fault::{Checked, Fault, malformed};
use super::root::{Log, log_at};

/// 1.3.6.1.4.1.11129.2.4.2.
pub(super) const TIMESTAMPS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];

struct Timestamp<'a> {
    log: Sha256,
    milliseconds: u64,
    extensions: &'a [u8],
    signature: &'a [u8],
}

/// Verifies one of the certificate's timestamps; `issuer` is the `SubjectPublicKeyInfo` that its path was
/// proved with. Timestamps by logs that are not listed say nothing; one by a listed log must verify.
pub(super) fn verify(leaf: &Certificate<'_>, issuer: &[u8], logs: &[Log]) -> Checked<()> {
    let content = leaf.extension(TIMESTAMPS)?.ok_or(Fault::SctMissing)?;
    let bad = || malformed("certificate", "its list of signed timestamps is broken");
    let list = Node::parse(content).and_then(|node| node.tagged(tag::OCTETS)).ok_or_else(bad)?;
    let timestamps = parse(list.value).ok_or_else(bad)?;
    let known: Vec<_> =
        timestamps.iter().filter_map(|t| Some((t, log_at(logs, &t.log, t.milliseconds / 1000)?))).collect();
    if known.is_empty() {
        return Err(if timestamps.is_empty() {
            Fault::SctMissing
        } else {
            Fault::SctUnknownLog { found: timestamps.len() }
        });
    }
    let certificate = leaf.signed_without(TIMESTAMPS).ok_or_else(bad)?;
    for (timestamp, log) in known {
        let signed = signed(timestamp, issuer, &certificate).ok_or_else(bad)?;
        if !log.key.verifies(&signed, timestamp.signature) {
            return Err(Fault::Sct { log: timestamp.log });
        }
    }
    Ok(())
}

/// What the log signed: version 1, a timestamp, of a certificate before it had one (RFC 6962 3.2,
/// `digitally-signed struct`).
fn signed(timestamp: &Timestamp<'_>, issuer: &[u8], certificate: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0, 0];
    out.extend(timestamp.milliseconds.to_be_bytes());
    out.extend([0, 1]);
    out.extend(Sha256::of(issuer).as_bytes());
    let [0, length @ ..] = u32::try_from(certificate.len()).ok()?.to_be_bytes() else { return None };
    out.extend(length);
    out.extend(certificate);
    out.extend(u16::try_from(timestamp.extensions.len()).ok()?.to_be_bytes());
    out.extend(timestamp.extensions);
    Some(out)
}

/// `SignedCertificateTimestampList`.
fn parse(bytes: &[u8]) -> Option<Vec<Timestamp<'_>>> {
    let mut outer = Bytes(bytes);
    let mut list = Bytes(outer.counted()?);
    let mut found = Vec::new();
    while !list.0.is_empty() {
        let mut one = Bytes(list.counted()?);
        let [0] = one.take(1)? else { return None };
        let log = Sha256::from_bytes(one.take(32)?.try_into().ok()?);
        let milliseconds = u64::from_be_bytes(one.take(8)?.try_into().ok()?);
        let extensions = one.counted()?;
        // Hash and signature algorithm: the key's own kind decides.
        one.take(2)?;
        let signature = one.counted()?;
        if !one.0.is_empty() {
            return None;
        }
        found.push(Timestamp { log, milliseconds, extensions, signature });
    }
    outer.0.is_empty().then_some(found)
}

/// The presentation language of TLS (RFC 5246 4).
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A vector with a length of two bytes.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Vec<u8> {
        let sct = [&[0][..], &[7; 32], &5_u64.to_be_bytes(), &[0, 0], &[4, 3], &[0, 2, 9, 9]].concat();
        let length = u8::try_from(sct.len()).unwrap();
        [&[0, length + 2, 0, length][..], &sct].concat()
    }

    #[test]
    fn lists() {
        let bytes = one();
        let found = parse(&bytes).unwrap();
        assert_eq!((found[0].log, found[0].milliseconds), (Sha256::from_bytes([7; 32]), 5));
        assert_eq!((found[0].extensions, found[0].signature), (&[][..], &[9, 9][..]));
        assert_eq!(parse(&[0, 0]).unwrap().len(), 0);
        let mut version_2 = one();
        version_2[4] = 1;
        let (mut longer, cut) = (one(), &one()[..10]);
        longer.push(0);
        for bad in [&[][..], &[0], &version_2, &longer, cut] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
