//! An Ed25519 key inside a token: found, generated, signing (`CKM_EDDSA`, PKCS#11 3.0, 6.3).

use std::fmt;

use cryptoki::error::Error as P11Error;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};

use crate::error::{ErrorKind, Result};
use crate::token::slot::token_error;
use crate::token::{Address, OpenToken};

/// `id-Ed25519` (RFC 8410) as DER, the form of PKCS#11 3.1.
const CURVE_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// `edwards25519` as a DER `PrintableString`, the form of PKCS#11 3.0.
const CURVE_NAME: &[u8] = b"\x13\x0cedwards25519";

/// What a token says of where its key has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Made in the token, never outside, cannot be taken out.
    AlwaysInside,
    /// It can be taken out now, or could be once, or was made elsewhere.
    MayHaveBeenOutside,
}

/// A key in an open token.
pub struct TokenKey {
    token: OpenToken,
    key: ObjectHandle,
    public: [u8; 32],
    kept: Kept,
    address: Address,
}

impl OpenToken {
    /// The key that `address` names.
    pub fn key(self, address: &Address) -> Result<TokenKey> {
        self.needs(MechanismType::EDDSA, "CKM_EDDSA")?;
        let key = self.one(ObjectClass::PRIVATE_KEY, address)?;
        let half = self.one(ObjectClass::PUBLIC_KEY, address)?;
        self.check_type(key, address)?;
        let point = self.attributes(half, &[AttributeType::EcPoint])?.into_iter().find_map(|a| match a {
            Attribute::EcPoint(point) => Some(point),
            _ => None,
        });
        let public = point.as_deref().and_then(raw_point).ok_or_else(|| ErrorKind::KeyType {
            label: self.label.clone(),
            key: address.key(),
            expected: "an Ed25519 public key of 32 bytes",
            found: format!("{} bytes", point.as_ref().map_or(0, Vec::len)),
        })?;
        let said = self.attributes(
            key,
            &[
                AttributeType::Sensitive,
                AttributeType::Extractable,
                AttributeType::NeverExtractable,
                AttributeType::Local,
            ],
        )?;
        let inside = said.contains(&Attribute::Sensitive(true))
            && said.contains(&Attribute::Extractable(false))
            && said.contains(&Attribute::NeverExtractable(true))
            && said.contains(&Attribute::Local(true));
        let kept = if inside { Kept::AlwaysInside } else { Kept::MayHaveBeenOutside };
        let address = Address {
            module: self.module.clone(),
            token: self.label.clone(),
            serial: Some(self.serial.clone()),
            ..address.clone()
        };
        Ok(TokenKey { token: self, key, public, kept, address })
    }

    /// Makes a key that never leaves the token, under a label that no key there has.
    pub fn generate(self, label: &str) -> Result<TokenKey> {
        self.needs(MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, "CKM_EC_EDWARDS_KEY_PAIR_GEN")?;
        let named = [Attribute::Label(label.into())];
        if !self.session.find_objects(&named).map_err(|e| self.broken(&e))?.is_empty() {
            return Err(ErrorKind::KeyExists { label: self.label, key: label.into() }.into());
        }
        let mut id = vec![0; 8];
        getrandom::fill(&mut id).map_err(|e| ErrorKind::Crypto { what: "randomness", why: e.to_string() })?;
        let common = [Attribute::Token(true), Attribute::Label(label.into()), Attribute::Id(id.clone())];
        let private = [
            &common[..],
            &[
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ],
        ]
        .concat();
        // Tokens differ in how they want the curve named; what a token refuses leaves nothing behind.
        let mut refused = None;
        for curve in [CURVE_OID, CURVE_NAME] {
            let public =
                [&common[..], &[Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(curve.into())]]
                    .concat();
            match self.session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private) {
                Ok(_) => {
                    let address = Address {
                        module: self.module.clone(),
                        token: self.label.clone(),
                        serial: Some(self.serial.clone()),
                        object: Some(label.into()),
                        id: Some(id),
                    };
                    return self.key(&address);
                }
                Err(e) => refused = Some(e),
            }
        }
        let why = refused.map_or_else(String::new, |e| e.to_string());
        Err(ErrorKind::Token { label: self.label, why }.into())
    }

    fn needs(&self, mechanism: MechanismType, name: &'static str) -> Result<()> {
        if self.mechanisms.contains(&mechanism) {
            return Ok(());
        }
        Err(ErrorKind::TokenLacks { label: self.label.clone(), mechanism: name }.into())
    }

    fn one(&self, class: ObjectClass, address: &Address) -> Result<ObjectHandle> {
        let mut template = vec![Attribute::Class(class)];
        template.extend(address.object.iter().map(|object| Attribute::Label(object.as_bytes().to_vec())));
        template.extend(address.id.iter().map(|id| Attribute::Id(id.clone())));
        let found = self.session.find_objects(&template).map_err(|e| self.broken(&e))?;
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(ErrorKind::KeyMissing { label: self.label.clone(), key: address.key() }.into()),
            many => {
                let (label, key) = (self.label.clone(), address.key());
                Err(ErrorKind::KeyAmbiguous { label, key, found: many.len() }.into())
            }
        }
    }

    fn check_type(&self, key: ObjectHandle, address: &Address) -> Result<()> {
        let said = self.attributes(key, &[AttributeType::KeyType])?;
        match said.as_slice() {
            [Attribute::KeyType(KeyType::EC_EDWARDS)] => Ok(()),
            other => {
                let found = match other {
                    [Attribute::KeyType(kind)] => kind.to_string(),
                    _ => "a key that does not say its type".into(),
                };
                let (label, key) = (self.label.clone(), address.key());
                Err(ErrorKind::KeyType { label, key, expected: "CKK_EC_EDWARDS", found }.into())
            }
        }
    }

    fn attributes(&self, object: ObjectHandle, types: &[AttributeType]) -> Result<Vec<Attribute>> {
        self.session.get_attributes(object, types).map_err(|e| self.broken(&e))
    }

    fn broken(&self, error: &P11Error) -> crate::Error {
        token_error(&self.label, error)
    }
}

impl TokenKey {
    /// RFC 8032 encoding of the public half, as the token says it.
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Where the key has been, as the token says it.
    pub const fn kept(&self) -> Kept {
        self.kept
    }

    /// Where the key is, with the token's serial number.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Plain Ed25519 over `message`.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let made = self.token.session.sign(&mechanism, self.key, message).map_err(|e| self.token.broken(&e))?;
        let length = made.len();
        made.try_into().map_err(|_| {
            let why = format!("its signature has {length} bytes, expected 64");
            ErrorKind::Token { label: self.token.label.clone(), why }.into()
        })
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.address.to_uri())
    }
}

/// `CKA_EC_POINT`: 32 raw bytes (PKCS#11 3.0) or those in a DER OCTET STRING (as most tokens give it).
fn raw_point(point: &[u8]) -> Option<[u8; 32]> {
    point.strip_prefix(&[0x04, 0x20]).and_then(|raw| raw.try_into().ok()).or_else(|| point.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_both_forms_and_of_other_curves() {
        let wrapped = [&[0x04, 0x20][..], &[7; 32]].concat();
        assert_eq!(raw_point(&[7; 32]), Some([7; 32]));
        assert_eq!(raw_point(&wrapped), Some([7; 32]));
        // Ed448 has 57 bytes; a cut or longer point is none.
        for bad in [&[7; 57][..], &wrapped[..33], &[&wrapped[..], &[0]].concat(), &[]] {
            assert_eq!(raw_point(bad), None);
        }
    }
}
