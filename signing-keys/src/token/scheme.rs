//! What PKCS#11 calls the two algorithms of a signer: key types, mechanisms, public halves.

use bundle_format::key::{ED25519_PUBLIC, ML_DSA_87_PUBLIC, ML_DSA_87_SIGNATURE, PublicKey};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::dsa::{HedgeType, SignAdditionalContext};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, MlDsaParameterSetType};

/// An algorithm of a signer as tokens know it.
pub trait TokenScheme {
    /// A signature of the right length.
    type Signature: TryFrom<Vec<u8>, Error = Vec<u8>>;
    /// `CKA_KEY_TYPE`.
    const KEY_TYPE: KeyType;
    /// The key type, for people.
    const KEY_NAME: &'static str;
    /// The mechanism that signs.
    const SIGNS: &'static str;
    /// The mechanism that makes a key pair.
    const GENERATES: &'static str;
    /// The call that makes a key pair.
    const GENERATE: Mechanism<'static>;
    /// The attribute of the public object that holds the public half.
    const PUBLIC: AttributeType;
    /// What that must be.
    const PUBLIC_NAME: &'static str;

    /// The call that signs.
    fn sign() -> Mechanism<'static>;

    /// The variant of the algorithm, in each form in which tokens take it for a new key.
    fn variants() -> Vec<Attribute>;

    /// The public half from the attribute [`Self::PUBLIC`].
    fn public(said: &[u8]) -> Option<PublicKey>;

    /// What a key's variant is, where it is not the one that signs. `None`: it is, or the public half
    /// shows it.
    fn other_variant(said: &[Attribute]) -> Option<String>;
}

/// Plain Ed25519 (RFC 8032): `CKM_EDDSA`, PKCS#11 3.0, 6.3.
#[derive(Debug)]
pub struct Ed25519;

/// Pure ML-DSA-87 (FIPS 204) with an empty context: `CKM_ML_DSA`, PKCS#11 3.2.
#[derive(Debug)]
pub struct MlDsa87;

/// `id-Ed25519` (RFC 8410) as DER, the form of PKCS#11 3.1.
const CURVE_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// `edwards25519` as a DER `PrintableString`, the form of PKCS#11 3.0.
const CURVE_NAME: &[u8] = b"\x13\x0cedwards25519";

impl TokenScheme for Ed25519 {
    type Signature = Box<[u8; 64]>;
    const KEY_TYPE: KeyType = KeyType::EC_EDWARDS;
    const KEY_NAME: &'static str = "CKK_EC_EDWARDS";
    const SIGNS: &'static str = "CKM_EDDSA";
    const GENERATES: &'static str = "CKM_EC_EDWARDS_KEY_PAIR_GEN";
    const GENERATE: Mechanism<'static> = Mechanism::EccEdwardsKeyPairGen;
    const PUBLIC: AttributeType = AttributeType::EcPoint;
    const PUBLIC_NAME: &'static str = "an Ed25519 public key of 32 bytes";

    fn sign() -> Mechanism<'static> {
        Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519))
    }

    fn variants() -> Vec<Attribute> {
        [CURVE_OID, CURVE_NAME].map(|curve| Attribute::EcParams(curve.into())).into()
    }

    /// `CKA_EC_POINT`: 32 raw bytes (PKCS#11 3.0) or those in a DER OCTET STRING (as most tokens give it).
    fn public(said: &[u8]) -> Option<PublicKey> {
        let wrapped = said.strip_prefix(&[0x04, 0x20]).and_then(|raw| raw.try_into().ok());
        let raw: Option<[u8; ED25519_PUBLIC]> = wrapped.or_else(|| said.try_into().ok());
        raw.map(PublicKey::Ed25519)
    }

    fn other_variant(_said: &[Attribute]) -> Option<String> {
        None
    }
}

impl TokenScheme for MlDsa87 {
    type Signature = Box<[u8; ML_DSA_87_SIGNATURE]>;
    const KEY_TYPE: KeyType = KeyType::ML_DSA;
    const KEY_NAME: &'static str = "CKK_ML_DSA";
    const SIGNS: &'static str = "CKM_ML_DSA";
    const GENERATES: &'static str = "CKM_ML_DSA_KEY_PAIR_GEN";
    const GENERATE: Mechanism<'static> = Mechanism::MlDsaKeyPairGen;
    const PUBLIC: AttributeType = AttributeType::Value;
    const PUBLIC_NAME: &'static str = "an ML-DSA-87 public key of 2592 bytes";

    /// Without a parameter: the context is empty and the token hedges if it can (FIPS 204, 3.4).
    fn sign() -> Mechanism<'static> {
        Mechanism::MlDsa(SignAdditionalContext::new(HedgeType::Preferred, None))
    }

    fn variants() -> Vec<Attribute> {
        vec![Attribute::ParameterSet(MlDsaParameterSetType::ML_DSA_87.into())]
    }

    fn public(said: &[u8]) -> Option<PublicKey> {
        let raw: Box<[u8; ML_DSA_87_PUBLIC]> = said.to_vec().try_into().ok()?;
        Some(PublicKey::MlDsa87(raw))
    }

    fn other_variant(said: &[Attribute]) -> Option<String> {
        let found = said.iter().find_map(|attribute| match attribute {
            Attribute::ParameterSet(set) => Some(MlDsaParameterSetType::from(*set)),
            _ => None,
        });
        match found {
            Some(MlDsaParameterSetType::ML_DSA_87) => None,
            Some(other) => Some(other.to_string()),
            None => Some("a key that does not say its parameter set".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_both_forms_and_of_other_curves() {
        let wrapped = [&[0x04, 0x20][..], &[7; 32]].concat();
        assert_eq!(Ed25519::public(&[7; 32]), Some(PublicKey::Ed25519([7; 32])));
        assert_eq!(Ed25519::public(&wrapped), Some(PublicKey::Ed25519([7; 32])));
        // Ed448 has 57 bytes; a cut or longer point is none.
        for bad in [&[7; 57][..], &wrapped[..33], &[&wrapped[..], &[0]].concat(), &[]] {
            assert_eq!(Ed25519::public(bad), None);
        }
    }

    #[test]
    fn public_halves_and_parameter_sets_of_other_ml_dsa() {
        assert_eq!(MlDsa87::public(&[7; 2592]), Some(PublicKey::MlDsa87(Box::new([7; 2592]))));
        for length in [0, 1312, 1952, 2591, 2593] {
            assert_eq!(MlDsa87::public(&vec![7; length]), None);
        }
        let set = |set: MlDsaParameterSetType| MlDsa87::other_variant(&[Attribute::ParameterSet(set.into())]);
        assert_eq!(set(MlDsaParameterSetType::ML_DSA_87), None);
        assert_eq!(set(MlDsaParameterSetType::ML_DSA_65).unwrap(), "CKP_ML_DSA_65");
        assert_eq!(MlDsa87::other_variant(&[]).unwrap(), "a key that does not say its parameter set");
    }
}
