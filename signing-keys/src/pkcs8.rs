//! ML-DSA-87 keys as encrypted PKCS#8 (RFC 5958, RFC 9881; PBES2 with scrypt, RFC 7914, and
//! AES-256-CBC), in PEM: what OpenSSL 3.5 reads.

use ::pkcs8::pkcs5::pbes2::Parameters;
use ::pkcs8::{EncodePrivateKey as _, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument};
use ml_dsa::MlDsa87;
use zeroize::Zeroizing;

use crate::error::{ErrorKind, Result};

/// scrypt N = 2^17, r = 8, p = 1: 128 MiB a guess.
const LOG_N: u8 = 17;
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// Seals an ML-DSA-87 key.
pub fn seal(
    key: &ml_dsa::SigningKey<MlDsa87>,
    passphrase: &[u8],
    salt: &[u8; 16],
    iv: [u8; 16],
) -> Result<Zeroizing<String>> {
    let crypto = |why: String| ErrorKind::Crypto { what: "PKCS#8", why };
    let plain = key.to_pkcs8_der().map_err(|e| crypto(e.to_string()))?;
    let params = scrypt::Params::new(LOG_N, 8, 1).map_err(|e| crypto(e.to_string()))?;
    let scheme = Parameters::generate_scrypt_aes256cbc(params, salt, iv).map_err(|e| crypto(e.to_string()))?;
    let info = PrivateKeyInfoRef::try_from(plain.as_bytes()).map_err(|e| crypto(e.to_string()))?;
    let sealed = info.encrypt_with_params(scheme, passphrase).map_err(|e| crypto(e.to_string()))?;
    Ok(sealed.to_pem(LABEL, LineEnding::LF).map_err(|e| crypto(e.to_string()))?)
}

/// Opens a sealed key.
pub fn open(what: &str, pem: &str, passphrase: &[u8]) -> Result<ml_dsa::SigningKey<MlDsa87>> {
    let malformed = |why: String| ErrorKind::Malformed { what: what.into(), why };
    let (label, sealed) = SecretDocument::from_pem(pem).map_err(|e| malformed(e.to_string()))?;
    if label != LABEL {
        return Err(malformed(format!("expected {LABEL}")).into());
    }
    let info = EncryptedPrivateKeyInfoRef::try_from(sealed.as_bytes()).map_err(|e| malformed(e.to_string()))?;
    let plain = info.decrypt(passphrase).map_err(|_| ErrorKind::Passphrase { what: what.into() })?;
    // CBC has no authentication: a wrong passphrase may also show as a malformed key here.
    let key = PrivateKeyInfoRef::try_from(plain.as_bytes()).map_err(|_| ErrorKind::Passphrase { what: what.into() })?;
    ml_dsa::SigningKey::try_from(key).map_err(|e| malformed(e.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_the_passphrase_alone() {
        let key = ml_dsa::SigningKey::<MlDsa87>::from_seed(&[9; 32].into());
        let pem = seal(&key, b"TEST passphrase", &[1; 16], [2; 16]).unwrap();
        assert_eq!(open("t", &pem, b"TEST passphrase").unwrap().to_seed(), key.to_seed());
        assert!(matches!(open("t", &pem, b"other").unwrap_err().kind(), ErrorKind::Passphrase { .. }));
        assert!(matches!(open("t", "x", b"").unwrap_err().kind(), ErrorKind::Malformed { .. }));
    }
}
