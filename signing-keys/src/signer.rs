//! A signer: one Ed25519 and one ML-DSA-87 key of one holder.

use bundle_format::approval::UnverifiedApproval;
use bundle_format::custody::UnverifiedCustody;
use bundle_format::envelope::UnverifiedEnvelope;
use bundle_format::key::{KeyId, ML_DSA_87_SIGNATURE, PublicKey, Scheme};
use bundle_format::root::{Holder, RootEnvelope};
use bundle_format::signature::{Signature, Value, minisign_prehash};
use bundle_format::text::base64;
use ed25519_dalek::Signer as _;
use ml_dsa::MlDsa87;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::document::Document;
use crate::error::{ErrorKind, Result};
use crate::token::{self, TokenKey};

/// The private half. Seeds are wiped on drop.
pub struct Signer {
    name: String,
    ed25519: Half<ed25519_dalek::SigningKey, token::Ed25519>,
    ml_dsa_87: Half<ml_dsa::SigningKey<MlDsa87>, token::MlDsa87>,
}

/// Where a key is.
enum Half<K, S> {
    /// Here, from its seed.
    Seed(Box<K>),
    /// In a token.
    Token(Box<TokenKey<S>>),
}

impl<K, S> Half<K, S> {
    fn seed(&self) -> Option<&K> {
        match self {
            Self::Seed(key) => Some(key),
            Self::Token(_) => None,
        }
    }

    fn token(&self) -> Option<&TokenKey<S>> {
        match self {
            Self::Seed(_) => None,
            Self::Token(key) => Some(key),
        }
    }
}

impl Half<ed25519_dalek::SigningKey, token::Ed25519> {
    fn public(&self) -> PublicKey {
        match self {
            Self::Seed(key) => PublicKey::Ed25519(key.verifying_key().to_bytes()),
            Self::Token(key) => key.public().clone(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Box<[u8; 64]>> {
        match self {
            Self::Seed(key) => Ok(Box::new(key.sign(message).to_bytes())),
            Self::Token(key) => key.sign(message),
        }
    }
}

impl Half<ml_dsa::SigningKey<MlDsa87>, token::MlDsa87> {
    fn public(&self) -> PublicKey {
        let encoded = match self {
            Self::Seed(key) => key.expanded_key().verifying_key().encode(),
            Self::Token(key) => return key.public().clone(),
        };
        // The lengths are equal by FIPS 204, table 2; a shorter copy could only fail to verify.
        let mut bytes = Box::new([0; bundle_format::key::ML_DSA_87_PUBLIC]);
        bytes.iter_mut().zip(encoded.iter()).for_each(|(to, from)| *to = *from);
        PublicKey::MlDsa87(bytes)
    }

    fn sign(&self, message: &[u8]) -> Result<Box<[u8; ML_DSA_87_SIGNATURE]>> {
        let key = match self {
            Self::Seed(key) => key,
            Self::Token(key) => return key.sign(message),
        };
        let failed = |why: String| ErrorKind::Crypto { what: "ML-DSA-87 signature", why };
        // Hedged, as FIPS 204 (3.4) prefers: fresh randomness beside the key and the message.
        let hedged = key.expanded_key().sign_randomized(message, &[], &mut getrandom::SysRng);
        let bytes: &[u8] = &hedged.map_err(|e| failed(e.to_string()))?.encode();
        let sized: [u8; ML_DSA_87_SIGNATURE] = bytes.try_into().map_err(|_| failed("wrong length".into()))?;
        Ok(Box::new(sized))
    }
}

impl Signer {
    /// New keys from the system's randomness.
    pub fn generate(name: &str) -> Result<Self> {
        Self::from_seeds(name, &*fresh_seed()?, &*fresh_seed()?)
    }

    /// Keys from fixed seeds: RFC 8032 secret key, FIPS 204 `xi`.
    pub fn from_seeds(name: &str, ed25519: &[u8; 32], ml_dsa_87: &[u8; 32]) -> Result<Self> {
        let ed25519 = Half::Seed(Box::new(ed25519_dalek::SigningKey::from_bytes(ed25519)));
        Self::new(name, ed25519, from_xi(ml_dsa_87))
    }

    /// A split signer: the Ed25519 key in a token, the ML-DSA-87 key from its seed (FIPS 204 `xi`).
    pub fn split(name: &str, ed25519: TokenKey<token::Ed25519>, ml_dsa_87: &[u8; 32]) -> Result<Self> {
        Self::new(name, Half::Token(Box::new(ed25519)), from_xi(ml_dsa_87))
    }

    /// A split signer whose ML-DSA-87 key is new.
    pub fn generate_split(name: &str, ed25519: TokenKey<token::Ed25519>) -> Result<Self> {
        Self::split(name, ed25519, &*fresh_seed()?)
    }

    /// A token signer: both keys in a token, or in two.
    pub fn in_tokens(
        name: &str,
        ed25519: TokenKey<token::Ed25519>,
        ml_dsa_87: TokenKey<token::MlDsa87>,
    ) -> Result<Self> {
        Self::new(name, Half::Token(Box::new(ed25519)), Half::Token(Box::new(ml_dsa_87)))
    }

    fn new(
        name: &str,
        ed25519: Half<ed25519_dalek::SigningKey, token::Ed25519>,
        ml_dsa_87: Half<ml_dsa::SigningKey<MlDsa87>, token::MlDsa87>,
    ) -> Result<Self> {
        bundle_format::name::check_label("key holder", name)?;
        Ok(Self { name: name.to_owned(), ed25519, ml_dsa_87 })
    }

    /// Holder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 secret key, to be sealed; `None` where a token has it.
    pub(crate) fn ed25519(&self) -> Option<&ed25519_dalek::SigningKey> {
        self.ed25519.seed()
    }

    /// The ML-DSA-87 secret key, to be sealed; `None` where a token has it.
    pub(crate) fn ml_dsa_87(&self) -> Option<&ml_dsa::SigningKey<MlDsa87>> {
        self.ml_dsa_87.seed()
    }

    /// The Ed25519 key of a split or token signer.
    pub fn ed25519_in_token(&self) -> Option<&TokenKey<token::Ed25519>> {
        self.ed25519.token()
    }

    /// The ML-DSA-87 key of a token signer.
    pub fn ml_dsa_87_in_token(&self) -> Option<&TokenKey<token::MlDsa87>> {
        self.ml_dsa_87.token()
    }

    /// The public half.
    pub fn public(&self) -> PublicSigner {
        PublicSigner { name: self.name.clone(), keys: vec![self.ed25519.public(), self.ml_dsa_87.public()] }
    }

    /// Signs a document with both keys; `comment` is bound into the minisign signature. Both
    /// signatures are verified before they are returned: a token, or a machine with a fault, may give
    /// one that is wrong, and a wrong one can betray a key.
    pub fn sign(&self, document: &[u8], comment: &str) -> Result<[Signature; 2]> {
        let signature = self.ed25519.sign(&minisign_prehash(document))?;
        let global = self.ed25519.sign(&[signature.as_slice(), comment.as_bytes()].concat())?;
        let ed25519 = Value::Ed25519 { signature, comment: comment.to_owned(), global };
        let ml_dsa_87 = Value::MlDsa87(self.ml_dsa_87.sign(document)?);
        Ok([
            self.proved(document, ed25519, &self.ed25519.public())?,
            self.proved(document, ml_dsa_87, &self.ml_dsa_87.public())?,
        ])
    }

    /// Raw signatures over `document` by both keys (RFC 8032, FIPS 204), for forms that are not
    /// minisign's, such as a DSSE envelope.
    pub fn sign_raw(&self, document: &[u8]) -> Result<Vec<(KeyId, Vec<u8>)>> {
        let [_, post_quantum] = self.sign(document, "raw")?;
        let ed25519 = (self.ed25519.public().id(), self.ed25519.sign(document)?.to_vec());
        Ok(vec![ed25519, (post_quantum.key, post_quantum.to_file())])
    }

    fn proved(&self, document: &[u8], value: Value, key: &PublicKey) -> Result<Signature> {
        let signature = Signature { key: key.id(), value };
        let wrong = |_| ErrorKind::SignatureWrong { signer: self.name.clone(), scheme: key.scheme().name() };
        signature.verify("document", document, key).map_err(wrong)?;
        Ok(signature)
    }

    /// Signs what [`Document`] was made of.
    pub fn sign_document(&self, document: &Document) -> Result<[Signature; 2]> {
        self.sign(document.bytes(), document.comment())
    }

    /// Adds this signer's signatures to a bundle's head. The manifest must be consistent: nobody
    /// signs what no installer would read.
    pub fn sign_manifest(&self, envelope: &mut UnverifiedEnvelope) -> Result<()> {
        for signature in self.sign_document(&Document::of_manifest(envelope)?)? {
            envelope.add(signature);
        }
        Ok(())
    }

    /// Adds this signer's signatures to a trust root.
    pub fn sign_root(&self, envelope: &mut RootEnvelope) -> Result<()> {
        for signature in self.sign_document(&Document::of_root(envelope)?)? {
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

    /// Adds this signer's signatures to an approval.
    pub fn sign_approval(&self, approval: &mut UnverifiedApproval) -> Result<()> {
        for signature in self.sign(approval.document(), &approval.comment())? {
            approval.add(signature);
        }
        Ok(())
    }
}

/// 32 bytes from the system's randomness.
fn fresh_seed() -> Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|e| ErrorKind::Crypto { what: "randomness", why: e.to_string() })?;
    Ok(seed)
}

fn from_xi(xi: &[u8; 32]) -> Half<ml_dsa::SigningKey<MlDsa87>, token::MlDsa87> {
    Half::Seed(Box::new(ml_dsa::SigningKey::from_seed(&(*xi).into())))
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
    /// The holder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The holder's key of a scheme.
    pub fn key(&self, scheme: Scheme) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.scheme() == scheme)
    }

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
        let key = self.key(Scheme::Ed25519).map(PublicKey::to_text).unwrap_or_default();
        format!("untrusted comment: Lockgate signer {}\n{key}\n", self.name)
    }

    /// Base64 of a scheme's raw public key, for tools that take that.
    pub fn raw(&self, scheme: Scheme) -> Option<String> {
        self.key(scheme).map(|key| base64(key.as_bytes()))
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
