//! A key inside a token: found, generated, signing.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use bundle_format::key::PublicKey;
use cryptoki::error::Error as P11Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};

use crate::error::{ErrorKind, Result};
use crate::token::scheme::TokenScheme;
use crate::token::slot::token_error;
use crate::token::{Address, OpenToken};

/// What a token says of where its key has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Made in the token, never outside, cannot be taken out.
    AlwaysInside,
    /// It can be taken out now, or could be once, or was made elsewhere.
    MayHaveBeenOutside,
}

/// A key in an open token, which a signer's other key may share.
pub struct TokenKey<S> {
    token: Rc<OpenToken>,
    key: ObjectHandle,
    public: PublicKey,
    kept: Kept,
    address: Address,
    scheme: PhantomData<S>,
}

/// A key that a token has, or room for a new one. Found before anything is made, since a key in a
/// token is not taken back by a later error.
#[derive(Debug)]
pub enum Place<S> {
    /// A key that is there.
    Taken(TokenKey<S>),
    /// No key there has the label.
    Free {
        /// The token.
        token: Rc<OpenToken>,
        /// The label.
        label: String,
    },
}

impl<S: TokenScheme> Place<S> {
    /// Room for a key under `label`, which nothing in the token has.
    pub fn free(token: &Rc<OpenToken>, label: &str) -> Result<Self> {
        token.needs(&S::sign(), S::SIGNS)?;
        token.needs(&S::GENERATE, S::GENERATES)?;
        let named = [Attribute::Label(label.into())];
        if !token.session.find_objects(&named).map_err(|e| token.broken(&e))?.is_empty() {
            return Err(ErrorKind::KeyExists { label: token.label.clone(), key: label.into() }.into());
        }
        Ok(Self::Free { token: Rc::clone(token), label: label.into() })
    }

    /// The key, made now if there is none.
    pub fn key(self) -> Result<TokenKey<S>> {
        match self {
            Self::Taken(key) => Ok(key),
            Self::Free { token, label } => generate(&token, &label),
        }
    }
}

/// Makes a key that never leaves the token.
fn generate<S: TokenScheme>(token: &Rc<OpenToken>, label: &str) -> Result<TokenKey<S>> {
    let mut id = vec![0; 8];
    getrandom::fill(&mut id).map_err(|e| ErrorKind::Crypto { what: "randomness", why: e.to_string() })?;
    let common = [Attribute::Token(true), Attribute::Label(label.into()), Attribute::Id(id.clone())];
    let inside =
        [Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Sign(true)];
    let private = [&common[..], &inside].concat();
    // Tokens differ in how they want the curve named; what a token refuses leaves nothing behind.
    let mut refused = None;
    for variant in S::variants() {
        let public = [&common[..], &[Attribute::Private(false), Attribute::Verify(true), variant]].concat();
        match token.session.generate_key_pair(&S::GENERATE, &public, &private) {
            Ok(_) => return token.key(&Address { object: Some(label.into()), id: Some(id), ..token.address() }),
            Err(e) => refused = Some(e),
        }
    }
    let why = refused.map_or_else(String::new, |e| e.to_string());
    Err(ErrorKind::Token { label: token.label.clone(), why }.into())
}

impl OpenToken {
    /// The key that `address` names.
    pub fn key<S: TokenScheme>(self: &Rc<Self>, address: &Address) -> Result<TokenKey<S>> {
        self.needs(&S::sign(), S::SIGNS)?;
        let wrong =
            |expected, found| ErrorKind::KeyType { label: self.label.clone(), key: address.key(), expected, found };
        let key = self.one::<S>(ObjectClass::PRIVATE_KEY, address)?;
        let half = self.one::<S>(ObjectClass::PUBLIC_KEY, address)?;
        let said = self.attributes(
            key,
            &[
                AttributeType::Sensitive,
                AttributeType::Extractable,
                AttributeType::NeverExtractable,
                AttributeType::Local,
                AttributeType::ParameterSet,
            ],
        )?;
        if let Some(other) = S::other_variant(&said) {
            return Err(wrong(S::PUBLIC_NAME, other).into());
        }
        let bytes = self.attributes(half, &[S::PUBLIC])?.into_iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(bytes) | Attribute::Value(bytes) => Some(bytes),
            _ => None,
        });
        let public = bytes.as_deref().and_then(S::public).ok_or_else(|| {
            let found = format!("{} bytes", bytes.as_ref().map_or(0, Vec::len));
            wrong(S::PUBLIC_NAME, found)
        })?;
        let inside = said.contains(&Attribute::Sensitive(true))
            && said.contains(&Attribute::Extractable(false))
            && said.contains(&Attribute::NeverExtractable(true))
            && said.contains(&Attribute::Local(true));
        let kept = if inside { Kept::AlwaysInside } else { Kept::MayHaveBeenOutside };
        let address = Address { object: address.object.clone(), id: address.id.clone(), ..self.address() };
        Ok(TokenKey { token: Rc::clone(self), key, public, kept, address, scheme: PhantomData })
    }

    /// The token's own address; names no key.
    fn address(&self) -> Address {
        Address {
            module: self.module.clone(),
            token: self.label.clone(),
            serial: Some(self.serial.clone()),
            object: None,
            id: None,
        }
    }

    fn needs(&self, mechanism: &Mechanism<'_>, name: &'static str) -> Result<()> {
        if self.mechanisms.contains(&mechanism.mechanism_type()) {
            return Ok(());
        }
        Err(ErrorKind::TokenLacks { label: self.label.clone(), mechanism: name }.into())
    }

    /// The one object of this class, algorithm, label and id. A signer's keys may share a label.
    fn one<S: TokenScheme>(&self, class: ObjectClass, address: &Address) -> Result<ObjectHandle> {
        let mut template = vec![Attribute::Class(class)];
        template.extend(address.object.iter().map(|object| Attribute::Label(object.as_bytes().to_vec())));
        template.extend(address.id.iter().map(|id| Attribute::Id(id.clone())));
        let named = self.session.find_objects(&template).map_err(|e| self.broken(&e))?;
        let (label, key) = (self.label.clone(), address.key());
        let mut found = Vec::new();
        let mut others = Vec::new();
        for object in named {
            match self.attributes(object, &[AttributeType::KeyType])?.as_slice() {
                [Attribute::KeyType(kind)] if *kind == S::KEY_TYPE => found.push(object),
                [Attribute::KeyType(kind)] => others.push(kind.to_string()),
                _ => others.push("a key that does not say its type".into()),
            }
        }
        match (found.as_slice(), others.is_empty()) {
            ([one], _) => Ok(*one),
            ([], true) => Err(ErrorKind::KeyMissing { label, key, expected: S::KEY_NAME }.into()),
            ([], false) => {
                Err(ErrorKind::KeyType { label, key, expected: S::KEY_NAME, found: others.join(", ") }.into())
            }
            (many, _) => Err(ErrorKind::KeyAmbiguous { label, key, found: many.len() }.into()),
        }
    }

    fn attributes(&self, object: ObjectHandle, types: &[AttributeType]) -> Result<Vec<Attribute>> {
        self.session.get_attributes(object, types).map_err(|e| self.broken(&e))
    }

    fn broken(&self, error: &P11Error) -> crate::Error {
        token_error(&self.label, error)
    }
}

impl<S: TokenScheme> TokenKey<S> {
    /// Signs `message` as it is.
    pub fn sign(&self, message: &[u8]) -> Result<S::Signature> {
        let made = self.token.session.sign(&S::sign(), self.key, message).map_err(|e| self.token.broken(&e))?;
        made.try_into().map_err(|made: Vec<u8>| {
            let why = format!("its {} signature has {} bytes", S::SIGNS, made.len());
            ErrorKind::Token { label: self.token.label.clone(), why }.into()
        })
    }
}

impl<S> TokenKey<S> {
    /// The public half, as the token says it.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Where the key has been, as the token says it.
    pub const fn kept(&self) -> Kept {
        self.kept
    }

    /// Where the key is, with the token's serial number.
    pub const fn address(&self) -> &Address {
        &self.address
    }
}

impl<S> fmt::Debug for TokenKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.address.to_uri())
    }
}
