//! From a certificate to an authority of the trusted root, at a time: webpki walks the path (RFC 5280 6).
//! It checks signatures, validity, basic constraints, path length, name constraints and the extended key
//! usage of every certificate but the pinned one at the end.

use bundle_format::timestamp::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::fault::{Checked, Fault};
use super::key::ALGORITHMS;
use super::root::Authority;

/// 1.3.6.1.5.5.7.3.3 (RFC 5280 4.2.1.12).
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// 1.3.6.1.5.5.7.3.8.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// Verifies a signer's certificate at `time`, seconds since 1970, with the certificates that came along;
/// gives the issuer's `SubjectPublicKeyInfo`, which its certificate log signed.
pub(super) fn signer(leaf: &[u8], along: &[Vec<u8>], authorities: &[Authority], time: u64) -> Checked<Vec<u8>> {
    let mut why = None;
    for authority in authorities.iter().filter(|authority| authority.window.holds(time)) {
        let Some((anchor, between)) = authority.chain.split_last() else { continue };
        let between: Vec<&[u8]> = between.iter().chain(along).map(Vec::as_slice).collect();
        match path(leaf, anchor, &between, time, CODE_SIGNING) {
            Ok(issuer) => return Ok(issuer),
            Err(error) => why = Some(error.to_string()),
        }
    }
    let time = Timestamp::from_unix(time);
    Err(match why {
        Some(why) => Fault::Chain { time, why },
        None => Fault::NoAuthority { time },
    })
}

/// Verifies the certificate of a pinned timestamp authority, the first of its chain, at `time`.
pub(super) fn time_stamper(authority: &Authority, time: u64) -> Result<(), String> {
    let ([leaf, rest @ ..], Some((anchor, _))) = (authority.chain.as_slice(), authority.chain.split_last()) else {
        return Err("the authority has no certificate".into());
    };
    let between: Vec<&[u8]> = rest.iter().map(Vec::as_slice).collect();
    path(leaf, anchor, &between, time, TIME_STAMPING).map(drop).map_err(|error| error.to_string())
}

fn path(
    leaf: &[u8],
    anchor: &[u8],
    between: &[&[u8]],
    time: u64,
    usage: &'static [u8],
) -> Result<Vec<u8>, webpki::Error> {
    let (leaf, anchor) = (CertificateDer::from(leaf), CertificateDer::from(anchor));
    let anchors = [anchor_from_trusted_cert(&anchor)?];
    let between: Vec<CertificateDer<'_>> = between.iter().map(|der| CertificateDer::from(*der)).collect();
    let leaf = EndEntityCert::try_from(&leaf)?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(time));
    let usage = KeyUsage::required(usage);
    // Revocation is not asked: a certificate lives for minutes, and what was signed is in a log.
    let path = leaf.verify_for_usage(ALGORITHMS, &anchors, &between, time, usage, None, None)?;
    Ok(path.issuer_spki().as_ref().to_vec())
}
