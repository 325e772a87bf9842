//! The inventory of a site: which blobs its store holds, signed by the machine itself
//! (`docs/spec/bundle-format.md`, 6.4).
//!
//! It goes from the high side to the low side by hand, where a bundle is built against it. A forged or
//! stale one can do no more than make a bundle that the site refuses, naming what it lacks: what a site
//! holds is looked at there, blob by blob, before anything else.

use serde::{Deserialize, Serialize};

use crate::appliance::AppliancePublic;
use crate::digest::Sha384;
use crate::manifest::Blob;
use crate::marking::Marking;
use crate::name::{check_file_name, check_label};
use crate::signature::{Signature, Value};
use crate::timestamp::Timestamp;
use crate::{ErrorKind, Result, limits, signed};

/// The `format` value of the payload.
pub const FORMAT: &str = "lockgate-inventory/2";
/// The one before it, without the audit log's head; still read.
const FORMER: &str = "lockgate-inventory/1";
/// The `format` value of the file.
pub const ENVELOPE_FORMAT: &str = "lockgate-inventory-envelope/1";
const WHAT: &str = "inventory";

/// What a site holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Always [`FORMAT`].
    pub format: String,
    /// Fingerprint of the machine's key.
    pub key: Sha384,
    /// When it was made.
    pub at: Timestamp,
    /// Highest marking of what is installed.
    pub marking: Marking,
    /// The active releases, by product.
    pub releases: Vec<Installed>,
    /// Every blob of a kept release that is in the store and sound, strictly rising by digest.
    pub blobs: Vec<Blob>,
    /// Where the machine's audit log ended: an anchor that is kept elsewhere. None in the former format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditHead>,
}

/// The last record of an audit log (`docs/spec/audit.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Its number, from 1.
    pub seq: u64,
    /// Its hash.
    pub hash: Sha384,
}

/// A release that is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Product.
    pub product: String,
    /// Version for people.
    pub release: String,
    /// Anti-rollback counter.
    pub sequence: u64,
    /// SHA-384 of its signed manifest.
    pub manifest_sha384: Sha384,
}

impl Inventory {
    /// The bytes to be signed.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        crate::json::to_bytes(WHAT, self)
    }

    /// The comment of the minisign signature over `payload`.
    pub fn comment(payload: &[u8]) -> String {
        format!("lockgate inventory sha384={}", Sha384::of(payload))
    }

    /// The file: payload and signatures, one line.
    pub fn seal(payload: &[u8], signatures: &[Signature]) -> Result<Vec<u8>> {
        signed::to_bytes(ENVELOPE_FORMAT, WHAT, payload, signatures)
    }

    /// What a file claims. Its signatures are well formed and were not verified.
    pub fn claimed(file: &[u8]) -> Result<Self> {
        Self::open(file).map(|(inventory, ..)| inventory)
    }

    /// What the machine with this key signed.
    pub fn verify(file: &[u8], key: &AppliancePublic) -> Result<Self> {
        let (inventory, payload, signatures) = Self::open(file)?;
        let fingerprint = key.fingerprint()?;
        let forged = |why: String| {
            let (document, key) = (format!("{WHAT}: {why}"), fingerprint.to_string());
            crate::Error::from(ErrorKind::BadSignature { document, scheme: "appliance", key })
        };
        key.verify(WHAT, &payload, &signatures).map_err(forged)?;
        if inventory.key == fingerprint { Ok(inventory) } else { Err(forged("it names another key".into())) }
    }

    fn open(file: &[u8]) -> Result<(Self, Vec<u8>, Vec<Signature>)> {
        let (payload, signatures) = signed::parse(ENVELOPE_FORMAT, WHAT, file, limits::INVENTORY_BYTES)?;
        let inventory: Self = crate::json::parse_canonical(WHAT, &payload, limits::INVENTORY_BYTES)?;
        inventory.check()?;
        let expected = Self::comment(&payload);
        for signature in &signatures {
            if let Value::Ed25519 { comment, .. } = &signature.value
                && *comment != expected
            {
                let what = format!("the trusted comment by key {}", signature.key);
                return Err(ErrorKind::BadValue { what, expected, found: comment.clone() }.into());
            }
        }
        Ok((inventory, payload, signatures))
    }

    fn check(&self) -> Result<()> {
        let inconsistent = |why: &str| ErrorKind::Inconsistent { what: WHAT.into(), why: why.into() };
        match (self.format.as_str(), self.audit) {
            (FORMAT, Some(head)) if head.seq > 0 => {}
            (FORMAT, _) => return Err(inconsistent("it lacks the audit log's head").into()),
            (FORMER, None) => {}
            (FORMER, Some(_)) => return Err(inconsistent("its format has no audit log's head").into()),
            (found, _) => {
                let (what, expected, found) = (WHAT.into(), FORMAT.into(), found.to_owned());
                return Err(ErrorKind::UnknownFormat { what, expected, found }.into());
            }
        }
        if self.blobs.len() > limits::BLOBS {
            let (limit, found) = (limits::BLOBS, self.blobs.len());
            let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            return Err(ErrorKind::TooLarge { what: WHAT.into(), limit: count(limit), found: count(found) }.into());
        }
        for installed in &self.releases {
            check_label("product", &installed.product)?;
            check_file_name("release", &installed.release)?;
        }
        if !self.releases.iter().zip(self.releases.iter().skip(1)).all(|(a, b)| a.product < b.product) {
            return Err(inconsistent("its products are doubled or unsorted").into());
        }
        if !self.blobs.iter().zip(self.blobs.iter().skip(1)).all(|(a, b)| a.digest < b.digest) {
            return Err(inconsistent("its blobs are doubled or unsorted").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    fn inventory() -> Inventory {
        let mut blobs = vec![Blob { digest: Sha256::of(b"a"), size: 1 }, Blob { digest: Sha256::of(b"b"), size: 1 }];
        blobs.sort_by_key(|blob| blob.digest);
        let installed = |product: &str| Installed {
            product: product.into(),
            release: "1.0".into(),
            sequence: 1,
            manifest_sha384: Sha384::of(b"m"),
        };
        Inventory {
            format: FORMAT.into(),
            key: Sha384::of(b"key"),
            at: Timestamp::from_unix(0),
            marking: Marking::UNCLASSIFIED,
            releases: vec![installed("a"), installed("b")],
            blobs,
            audit: Some(AuditHead { seq: 7, hash: Sha384::of(b"record") }),
        }
    }

    #[test]
    fn round_trip_and_refusals() {
        let good = inventory();
        let file = Inventory::seal(&good.to_bytes().unwrap(), &[]).unwrap();
        assert_eq!(Inventory::claimed(&file).unwrap(), good);
        // A list of before the head was in it is still read, and keeps its bytes.
        let former = Inventory { format: FORMER.into(), audit: None, ..inventory() };
        let payload = former.to_bytes().unwrap();
        assert!(!String::from_utf8(payload.clone()).unwrap().contains("audit"));
        assert_eq!(Inventory::claimed(&Inventory::seal(&payload, &[]).unwrap()).unwrap(), former);
        let changes: [fn(&mut Inventory); 7] = [
            |i| i.blobs.reverse(),
            |i| i.blobs.push(i.blobs[1]),
            |i| i.releases.reverse(),
            |i| i.releases[1].product = "a".into(),
            |i| i.audit = None,
            |i| i.audit = Some(AuditHead { seq: 0, hash: Sha384::of(b"record") }),
            |i| i.format = FORMER.into(),
        ];
        for change in changes {
            let mut bad = inventory();
            change(&mut bad);
            assert!(matches!(bad.to_bytes().unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
            let payload = crate::json::to_bytes(WHAT, &bad).unwrap();
            let file = Inventory::seal(&payload, &[]).unwrap();
            assert!(matches!(Inventory::claimed(&file).unwrap_err().kind(), ErrorKind::Inconsistent { .. }));
        }
        let bad = Inventory { format: "lockgate-inventory/3".into(), ..inventory() };
        assert!(matches!(bad.to_bytes().unwrap_err().kind(), ErrorKind::UnknownFormat { .. }));
    }
}
