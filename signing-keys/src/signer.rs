//! A signer: one Ed25519 and one ML-DSA-87 key of one holder.

use bundle_format::custody::UnverifiedCustody;
use bundle_format::envelope::{UnverifiedEnvelope, trusted_comment};
use bundle_format::key::{PublicKey, Scheme};
use bundle_format::root::{Holder, RootEnvelope};
use bundle_format::signature::{Signature, Value, minisign_prehash};
use bundle_format::text::base64;
use ed25519_dalek::Signer as _;
use ml_dsa::MlDsa87;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{ErrorKind, Result};

/// The private half. Both seeds are wiped on drop.
pub struct Signer {
    name: String,
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa_87: Box<ml_dsa::SigningKey<MlDsa87>>,
}

impl Signer {
    /// New keys from the system's randomness.
    pub fn generate(name: &str) -> Result<Self> {
        let mut seeds = Zeroizing::new([[0u8; 32]; 2]);
        for seed in seeds.iter_mut() {
            getrandom::fill(seed).map_err(|e| ErrorKind::Crypto { what: "randomness", why: e.to_string() })?;
        }
        let [ed25519, ml_dsa_87] = &*seeds;
        Self::from_seeds(name, ed25519, ml_dsa_87)
    }

    /// Keys from fixed seeds: RFC 8032 secret key, FIPS 204 `xi`.
    pub fn from_seeds(name: &str, ed25519: &[u8; 32], ml_dsa_87: &[u8; 32]) -> Result<Self> {
        bundle_format::name::check_label("key holder", name)?;
        Ok(Self {
            name: name.to_owned(),
            ed25519: ed25519_dalek::SigningKey::from_bytes(ed25519),
            ml_dsa_87: Box::new(ml_dsa::SigningKey::from_seed(&(*ml_dsa_87).into())),
        })
    }

    /// Holder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 secret key, to be sealed.
    pub(crate) const fn ed25519(&self) -> &ed25519_dalek::SigningKey {
        &self.ed25519
    }

    /// The ML-DSA-87 secret key, to be sealed.
    pub(crate) const fn ml_dsa_87(&self) -> &ml_dsa::SigningKey<MlDsa87> {
        &self.ml_dsa_87
    }

    /// The public half.
    pub fn public(&self) -> PublicSigner {
        PublicSigner { name: self.name.clone(), keys: vec![self.ed25519_public(), self.ml_dsa_public()] }
    }

    /// Signs a document with both keys; `comment` is bound into the minisign signature.
    pub fn sign(&self, document: &[u8], comment: &str) -> Result<[Signature; 2]> {
        let signature = Box::new(self.ed25519.sign(&minisign_prehash(document)).to_bytes());
        let global = Box::new(self.ed25519.sign(&[signature.as_slice(), comment.as_bytes()].concat()).to_bytes());
        let ed25519 = Value::Ed25519 { signature, comment: comment.to_owned(), global };
        // Hedged, as FIPS 204 (3.4) prefers: fresh randomness beside the key and the message.
        let hedged = self
            .ml_dsa_87
            .expanded_key()
            .sign_randomized(document, &[], &mut getrandom::SysRng)
            .map_err(|e| ErrorKind::Crypto { what: "ML-DSA-87 signature", why: e.to_string() })?;
        let bytes: &[u8] = &hedged.encode();
        let sized = bytes
            .try_into()
            .map_err(|_| ErrorKind::Crypto { what: "ML-DSA-87 signature", why: "wrong length".into() })?;
        let (key, post_quantum) = (self.ed25519_public().id(), self.ml_dsa_public().id());
        Ok([Signature { key, value: ed25519 }, Signature { key: post_quantum, value: Value::MlDsa87(Box::new(sized)) }])
    }

    /// Adds this signer's signatures to a bundle's head. The manifest must be consistent: nobody
    /// signs what no installer would read.
    pub fn sign_manifest(&self, envelope: &mut UnverifiedEnvelope) -> Result<()> {
        let manifest = bundle_format::manifest::parse(envelope.manifest_bytes())?;
        let comment = trusted_comment(&manifest, envelope.manifest_bytes());
        for signature in self.sign(envelope.manifest_bytes(), &comment)? {
            envelope.add(signature);
        }
        Ok(())
    }

    /// Adds this signer's signatures to a trust root.
    pub fn sign_root(&self, envelope: &mut RootEnvelope) -> Result<()> {
        let document = envelope.claimed().to_bytes()?;
        let comment = format!("lockgate root version={}", envelope.claimed().version());
        for signature in self.sign(&document, &comment)? {
            envelope.add(signature);
        }
        Ok(())
    }

    /// Adds this signer's signatures to the newest record of a chain of custody. The chain must be
    /// consistent: nobody signs what no installer would accept.
    pub fn sign_custody(&self, chain: &mut UnverifiedCustody) -> Result<()> {
        chain.check()?;
        let Some((document, comment)) = chain.newest().map(|(bytes, comment)| (bytes.to_vec(), comment)) else {
            return Ok(());
        };
        for signature in self.sign(&document, &comment)? {
            chain.add(signature);
        }
        Ok(())
    }

    fn ed25519_public(&self) -> PublicKey {
        PublicKey::Ed25519(self.ed25519.verifying_key().to_bytes())
    }

    fn ml_dsa_public(&self) -> PublicKey {
        let encoded = self.ml_dsa_87.expanded_key().verifying_key().encode();
        // The lengths are equal by FIPS 204, table 2; a shorter copy could only fail to verify.
        let mut bytes = Box::new([0; bundle_format::key::ML_DSA_87_PUBLIC]);
        bytes.iter_mut().zip(encoded.iter()).for_each(|(to, from)| *to = *from);
        PublicKey::MlDsa87(bytes)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The public half, a JSON file that may travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicSigner {
    name: String,
    keys: Vec<PublicKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicFile {
    format: String,
    name: String,
    keys: Vec<PublicEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicEntry {
    scheme: Scheme,
    public: String,
}

const FORMAT: &str = "lockgate-signer/1";

impl PublicSigner {
    /// The holder for a trust root.
    pub fn holder(&self) -> Holder {
        Holder { name: self.name.clone(), keys: self.keys.clone() }
    }

    /// The file form.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let keys = self.keys.iter().map(|key| PublicEntry { scheme: key.scheme(), public: key.to_text() }).collect();
        Ok(bundle_format::json::to_bytes(
            "signer",
            &PublicFile { format: FORMAT.into(), name: self.name.clone(), keys },
        )?)
    }

    /// Parses the file form.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        let file: PublicFile = bundle_format::json::parse(what, bytes, bundle_format::limits::ROOT_BYTES)?;
        if file.format != FORMAT {
            return Err(ErrorKind::Malformed { what: what.into(), why: format!("expected format {FORMAT}") }.into());
        }
        bundle_format::name::check_label("key holder", &file.name)?;
        let keys = file
            .keys
            .iter()
            .map(|entry| PublicKey::parse(entry.scheme, &entry.public))
            .collect::<bundle_format::Result<_>>()?;
        Ok(Self { name: file.name, keys })
    }

    /// Stock minisign's public key file of the Ed25519 key.
    pub fn minisign_file(&self) -> String {
        let key =
            self.keys.iter().find(|key| key.scheme() == Scheme::Ed25519).map(PublicKey::to_text).unwrap_or_default();
        format!("untrusted comment: Lockgate signer {}\n{key}\n", self.name)
    }

    /// Base64 of a scheme's raw public key, for tools that take that.
    pub fn raw(&self, scheme: Scheme) -> Option<String> {
        self.keys.iter().find(|key| key.scheme() == scheme).map(|key| base64(key.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_file_round_trip() {
        let public = Signer::from_seeds("test-alice", &[1; 32], &[2; 32]).unwrap().public();
        assert_eq!(PublicSigner::parse("t", &public.to_bytes().unwrap()).unwrap(), public);
        assert!(matches!(PublicSigner::parse("t", b"{}").unwrap_err().kind(), ErrorKind::Format(_)));
    }
}
