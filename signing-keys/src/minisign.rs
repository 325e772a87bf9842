//! minisign's secret key file: what stock `minisign -S -s` takes
//! (format: minisign(1), "Secret key format"; parameters as libsodium's
//! `crypto_pwhash_scryptsalsa208sha256` picks them).

use blake2::Digest as _;
use bundle_format::key::PublicKey;
use bundle_format::text::{base64, unbase64};
use zeroize::Zeroizing;

use crate::error::{ErrorKind, Result};

/// With these libsodium picks scrypt N = 2^17, r = 8, p = 1: 128 MiB a guess.
const OPS_LIMIT: u64 = 1 << 22;
const MEM_LIMIT: u64 = 1 << 27;
/// Key number 8, secret key 64, checksum 32.
const SEALED: usize = 104;
const HEAD: &[u8; 6] = b"EdScB2";
/// Strongest scrypt that a file may ask of us: 1 GiB, minisign's own default.
const MAX_LOG_N: u8 = 20;

/// Seals an Ed25519 key.
pub fn seal(key: &ed25519_dalek::SigningKey, passphrase: &[u8], salt: &[u8; 32]) -> Result<String> {
    let plain = plaintext(key);
    let mut sealed = stream(passphrase, salt, OPS_LIMIT, MEM_LIMIT)?;
    sealed.iter_mut().zip(plain.iter()).for_each(|(pad, byte)| *pad ^= byte);
    let body = [&HEAD[..], salt, &OPS_LIMIT.to_le_bytes(), &MEM_LIMIT.to_le_bytes(), &*sealed].concat();
    Ok(format!("untrusted comment: minisign encrypted secret key\n{}\n", base64(&body)))
}

/// Opens a sealed key.
pub fn open(what: &str, file: &str, passphrase: &[u8]) -> Result<ed25519_dalek::SigningKey> {
    let malformed = |why: &str| ErrorKind::Malformed { what: what.into(), why: why.into() };
    let body = file
        .lines()
        .nth(1)
        .and_then(unbase64)
        .map(Zeroizing::new)
        .ok_or_else(|| malformed("no base64 in its second line"))?;
    let parts = body.strip_prefix(HEAD).and_then(|rest| {
        let (salt, rest) = rest.split_first_chunk::<32>()?;
        let (ops, rest) = rest.split_first_chunk::<8>()?;
        let (mem, sealed) = rest.split_first_chunk::<8>()?;
        let sealed: &[u8; SEALED] = sealed.try_into().ok()?;
        Some((salt, u64::from_le_bytes(*ops), u64::from_le_bytes(*mem), sealed))
    });
    let (salt, ops, mem, sealed) = parts.ok_or_else(|| malformed("not a minisign secret key sealed by scrypt"))?;
    let mut plain = stream(passphrase, salt, ops, mem)?;
    plain.iter_mut().zip(sealed).for_each(|(pad, byte)| *pad ^= byte);
    let wrong = || ErrorKind::Passphrase { what: what.into() };
    let seed: [u8; 32] = plain.get(8..40).and_then(|seed| seed.try_into().ok()).ok_or_else(wrong)?;
    let key = ed25519_dalek::SigningKey::from_bytes(&Zeroizing::new(seed));
    // The checksum covers the number and the whole key, so one comparison proves the passphrase.
    if *plaintext(&key) == *plain { Ok(key) } else { Err(wrong().into()) }
}

/// Key number, secret and public key, and BLAKE2b-256 over algorithm, number and keys.
fn plaintext(key: &ed25519_dalek::SigningKey) -> Zeroizing<Vec<u8>> {
    let number = PublicKey::Ed25519(key.verifying_key().to_bytes()).id();
    let pair = Zeroizing::new(key.to_keypair_bytes());
    let mut checksum = blake2::Blake2b::<blake2::digest::consts::U32>::new();
    for part in [&b"Ed"[..], number.as_bytes(), pair.as_slice()] {
        checksum.update(part);
    }
    Zeroizing::new([&number.as_bytes()[..], pair.as_slice(), &checksum.finalize()].concat())
}

fn stream(passphrase: &[u8], salt: &[u8; 32], ops: u64, mem: u64) -> Result<Zeroizing<Vec<u8>>> {
    let crypto = |why: String| ErrorKind::Crypto { what: "scrypt", why };
    let (log_n, p) = pick(ops, mem);
    if log_n > MAX_LOG_N {
        return Err(crypto(format!("the file asks for 2^{log_n} rounds, the limit is 2^{MAX_LOG_N}")).into());
    }
    let params = scrypt::Params::new(log_n, 8, p).map_err(|e| crypto(e.to_string()))?;
    let mut out = Zeroizing::new(vec![0; SEALED]);
    scrypt::scrypt(passphrase, salt, &params, &mut out).map_err(|e| crypto(e.to_string()))?;
    Ok(out)
}

/// libsodium's `pickparams` with r = 8: log2 N and p.
fn pick(ops: u64, mem: u64) -> (u8, u32) {
    let ops = ops.max(32_768);
    let memory_bound = ops >= mem / 32;
    let max_n = if memory_bound { mem / (8 * 128) } else { ops / (8 * 4) };
    let log_n = (1..63).find(|log| 1u64 << log > max_n / 2).unwrap_or(63);
    let p = if memory_bound { ((ops / 4) >> log_n).min(0x3fff_ffff) / 8 } else { 1 };
    (log_n, u32::try_from(p).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_as_libsodium_picks_them() {
        assert_eq!(pick(OPS_LIMIT, MEM_LIMIT), (17, 1));
        // minisign's default: 1 GiB.
        assert_eq!(pick(33_554_432, 1_073_741_824), (20, 1));
    }

    #[test]
    fn opens_with_the_passphrase_alone() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        let file = seal(&key, b"TEST passphrase", &[1; 32]).unwrap();
        assert_eq!(open("t", &file, b"TEST passphrase").unwrap().to_bytes(), [9; 32]);
        assert!(matches!(open("t", &file, b"TEST passphrasE").unwrap_err().kind(), ErrorKind::Passphrase { .. }));
        assert!(matches!(open("t", "x", b"").unwrap_err().kind(), ErrorKind::Malformed { .. }));
        assert!(matches!(open("t", &file[..100], b"").unwrap_err().kind(), ErrorKind::Malformed { .. }));
    }
}
