//! The head: number and hash of the last record, signed by the appliance's key (R-AUD-6).

use bundle_format::digest::Sha384;
use bundle_format::signature::Signature;
use bundle_format::signed;
use bundle_format::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::key::{ApplianceKey, AppliancePublic};
use crate::error::Result;

const FORMAT: &str = "lockgate-audit-head/1";
const ENVELOPE_FORMAT: &str = "lockgate-audit-head-envelope/1";
/// Bytes of a signed head at most.
const LIMIT: u64 = 64 << 10;

/// Where the log ends. Records have no gaps, so `seq` is their count as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    format: String,
    /// Fingerprint of the appliance's key.
    pub key: Sha384,
    /// Number of the last record.
    pub seq: u64,
    /// Its hash.
    pub hash: Sha384,
    /// Its time.
    pub at: Timestamp,
}

impl Head {
    pub(super) fn new(key: Sha384, seq: u64, hash: Sha384, at: &Timestamp) -> Self {
        Self { format: FORMAT.into(), key, seq, hash, at: at.clone() }
    }

    /// The head with its signatures, one line of JSON.
    pub(super) fn sign(&self, key: &ApplianceKey) -> Result<Vec<u8>> {
        let payload = bundle_format::json::to_bytes("audit head", self)?;
        let mut signatures = Vec::new();
        for signature in key.sign(&payload, &self.comment())? {
            signed::add(&mut signatures, signature);
        }
        Ok(signed::to_bytes(ENVELOPE_FORMAT, "audit head", &payload, &signatures)?)
    }

    /// Verifies a signed head with this machine's key, then parses what it says.
    pub(super) fn verify(line: &[u8], key: &AppliancePublic) -> Result<Self> {
        let fingerprint = key.fingerprint()?;
        let forged = |why: String| Fault::Forged { key: fingerprint.to_string(), why };
        let (payload, signatures) =
            signed::parse(ENVELOPE_FORMAT, "audit head", line, LIMIT).map_err(|e| forged(e.to_string()))?;
        key.verify("audit head", &payload, &signatures).map_err(forged)?;
        let head: Self = bundle_format::json::parse_canonical("audit head", &payload, LIMIT)?;
        if head.format != FORMAT || head.key != fingerprint || !head.commented(&signatures) {
            return Err(forged("it is no audit head of this key".into()).into());
        }
        Ok(head)
    }

    fn comment(&self) -> String {
        format!("lockgate audit head seq={} hash={}", self.seq, self.hash)
    }

    fn commented(&self, signatures: &[Signature]) -> bool {
        signatures.iter().all(|signature| match &signature.value {
            bundle_format::signature::Value::Ed25519 { comment, .. } => *comment == self.comment(),
            bundle_format::signature::Value::MlDsa87(_) => true,
        })
    }

    /// The anchor text of the whole hash, `SEQ:HASH`.
    pub fn anchor(&self) -> String {
        format!("{}:{}", self.seq, self.hash)
    }
}

/// What a signed head claims, without a proof: for what another machine, or a former key, signed.
pub(super) fn claimed(line: &[u8]) -> Option<Head> {
    let (payload, _) = signed::parse(ENVELOPE_FORMAT, "audit head", line, LIMIT).ok()?;
    bundle_format::json::parse_canonical("audit head", &payload, LIMIT).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_head_is_of_its_key_alone() {
        let key = ApplianceKey::from_seeds(&[1; 32], &[2; 32]);
        let head = Head::new(key.public().fingerprint().unwrap(), 7, Sha384::of(b"row"), &Timestamp::from_unix(0));
        let line = head.sign(&key).unwrap();
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one line");
        assert_eq!(Head::verify(&line, &key.public()).unwrap(), head);
        assert_eq!(claimed(&line), Some(head.clone()));

        let other = ApplianceKey::from_seeds(&[3; 32], &[4; 32]);
        let foreign_key = Head { key: other.public().fingerprint().unwrap(), ..head.clone() }.sign(&key).unwrap();
        let foreign_format = Head { format: "lockgate-other/1".into(), ..head }.sign(&key).unwrap();
        let cut = line[..line.len() - 2].to_vec();
        for (bad, key) in
            [(line, other.public()), (foreign_key, key.public()), (foreign_format, key.public()), (cut, key.public())]
        {
            let error = Head::verify(&bad, &key).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Audit(Fault::Forged { .. })), "{error}");
        }
    }
}
