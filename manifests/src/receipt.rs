//! The receipt code: the one thing that may come back across the gap, in a person's hand
//! (`docs/spec/custody.md`, 6).
//!
//! It says which bundle arrived and which is installed, and nothing else. It is not signed: whoever
//! carries it can lie, and the low side may not act on it beyond its own records. The checksum
//! finds a mistake in typing, not a forger.

use crate::digest::Sha384;
use crate::{ErrorKind, Result};

/// Leading bytes of a manifest's SHA-384 in a code.
pub const PREFIX_BYTES: usize = 6;
/// Version in the first four bits.
const VERSION: u8 = 1;
const ARRIVED: u8 = 1;
const HEALTHY: u8 = 2;
const CHECKSUM_BYTES: usize = 2;
/// Status, two prefixes, the sequence, the checksum.
const CODE_BYTES: usize = 1 + 2 * PREFIX_BYTES + 4 + CHECKSUM_BYTES;
/// Crockford's base 32: no I, L, O or U, so that none is taken for a digit or another letter.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// First bytes of a manifest's SHA-384: enough to tell the releases of one office apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix([u8; PREFIX_BYTES]);

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The bundle that was received and proved last.
    pub arrived: Option<Prefix>,
    /// The bundle that is active.
    pub installed: Option<Installed>,
}

/// The active bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Which.
    pub prefix: Prefix,
    /// Its sequence; larger ones count as 2^32 - 1.
    pub sequence: u32,
    /// How it is.
    pub health: Health,
}

/// Health of what is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Everything runs as signed.
    Healthy,
    /// Something does not.
    Unhealthy,
}

impl Prefix {
    /// The prefix of a manifest's digest.
    pub fn of(manifest_sha384: &Sha384) -> Self {
        let mut bytes = [0; PREFIX_BYTES];
        bytes.iter_mut().zip(manifest_sha384.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// Whether this digest begins so.
    pub fn matches(&self, manifest_sha384: &Sha384) -> bool {
        *self == Self::of(manifest_sha384)
    }

    /// Lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        crate::text::hex(&self.0)
    }

    /// Six zero bytes stand for no bundle.
    fn from_bytes(bytes: [u8; PREFIX_BYTES]) -> Option<Self> {
        (bytes != [0; PREFIX_BYTES]).then_some(Self(bytes))
    }
}

impl Receipt {
    /// The code, in groups of four.
    pub fn to_code(&self) -> String {
        let healthy = self.installed.as_ref().is_some_and(|installed| installed.health == Health::Healthy);
        let flags = u8::from(self.arrived.is_some()) * ARRIVED + u8::from(healthy) * HEALTHY;
        let prefix = |prefix: Option<Prefix>| prefix.map_or([0; PREFIX_BYTES], |prefix| prefix.0);
        let mut bytes = vec![VERSION << 4 | flags];
        bytes.extend(prefix(self.arrived));
        bytes.extend(prefix(self.installed.as_ref().map(|installed| installed.prefix)));
        bytes.extend(self.installed.as_ref().map_or(0, |installed| installed.sequence).to_be_bytes());
        bytes.extend(checksum(&bytes));
        crate::text::groups_of_four(&encode(&bytes))
    }

    /// Reads a code as a person types it: any case, spaces and hyphens anywhere, O for 0, I and L
    /// for 1.
    pub fn parse(code: &str) -> Result<Self> {
        let bad = |why: &str| ErrorKind::BadReceipt { why: why.into() };
        let bytes = decode(code)?;
        let bytes: [u8; CODE_BYTES] =
            bytes.try_into().map_err(|_| bad("it has 31 letters and digits, in groups of four"))?;
        let [status, a0, a1, a2, a3, a4, a5, i0, i1, i2, i3, i4, i5, s0, s1, s2, s3, sum @ ..] = bytes;
        let (body, _) = bytes.split_at(CODE_BYTES - CHECKSUM_BYTES);
        if checksum(body) != sum {
            return Err(bad("its checksum does not fit: a letter or digit is wrong").into());
        }
        if status >> 4 != VERSION {
            return Err(bad("it is of another version; use the version of this program that printed it").into());
        }
        let arrived = Prefix::from_bytes([a0, a1, a2, a3, a4, a5]);
        let health = if status & HEALTHY == 0 { Health::Unhealthy } else { Health::Healthy };
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        let installed =
            Prefix::from_bytes([i0, i1, i2, i3, i4, i5]).map(|prefix| Installed { prefix, sequence, health });
        let receipt = Self { arrived, installed };
        // One code for one content: flags that contradict the rest are no receipt of ours.
        if encode(&bytes) == receipt.to_code().replace(' ', "") {
            return Ok(receipt);
        }
        Err(bad("its parts contradict each other").into())
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [first, second, ..] = *Sha384::of(bytes).as_bytes();
    [first, second]
}

/// Five bits a letter, the last filled up with zero bits.
fn encode(bytes: &[u8]) -> String {
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0u32);
    let letter =
        |five: u32| ALPHABET.get(usize::try_from(five & 31).unwrap_or(0)).map_or('0', |byte| char::from(*byte));
    for byte in bytes {
        held = (held << 8 | u32::from(*byte)) & 0xfff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

fn decode(code: &str) -> Result<Vec<u8>> {
    let bad = |why: String| ErrorKind::BadReceipt { why };
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0u32);
    for c in code.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        let plain = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let five = ALPHABET.iter().zip(0u32..).find(|(byte, _)| char::from(**byte) == plain);
        let (_, five) = five
            .ok_or_else(|| bad(format!("{:?} is not a letter of a receipt", crate::text::escaped(&c.to_string()))))?;
        held = (held << 5 | five) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).unwrap_or(0));
        }
        if bytes.len() > CODE_BYTES {
            return Err(bad("it has 31 letters and digits, in groups of four".into()).into());
        }
    }
    // A letter too many leaves five bits or more, or bits that the encoder would not have set.
    if bits >= 5 || held & ((1 << bits) - 1) != 0 {
        return Err(bad("its last letter does not fit: a letter or digit is wrong".into()).into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let installed = Installed { prefix: Prefix::of(&Sha384::of(b"b")), sequence: 41, health: Health::Healthy };
        Receipt { arrived: Some(Prefix::of(&Sha384::of(b"a"))), installed: Some(installed) }
    }

    #[test]
    fn round_trip_and_how_people_write() {
        let (good, none) = (receipt(), Receipt { arrived: None, installed: None });
        let unhealthy = Installed { health: Health::Unhealthy, ..good.installed.clone().unwrap() };
        for receipt in [
            good.clone(),
            none.clone(),
            Receipt { installed: None, ..good.clone() },
            Receipt { installed: Some(unhealthy), ..none },
        ] {
            let code = receipt.to_code();
            assert_eq!(code.len(), 31 + 7, "{code}");
            let sloppy = code.to_lowercase().replace(' ', "-").replace('0', "o").replace('1', "l");
            for text in [code.clone(), code.replace(' ', ""), sloppy, format!("  {code}\n")] {
                assert_eq!(Receipt::parse(&text).unwrap(), receipt, "{text}");
            }
        }
        assert!(good.arrived.unwrap().matches(&Sha384::of(b"a")));
        assert!(!good.arrived.unwrap().matches(&Sha384::of(b"b")));
    }

    #[test]
    fn every_single_mistake_is_found() {
        let code = receipt().to_code().replace(' ', "");
        for at in 0..code.len() {
            for letter in ALPHABET.iter().map(|byte| char::from(*byte)).filter(|c| !code[at..].starts_with(*c)) {
                let mut wrong = code.clone();
                wrong.replace_range(at..=at, &letter.to_string());
                // One mistake in 65536 would pass a sum of two bytes; these fixed ones do not.
                let error = Receipt::parse(&wrong).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::BadReceipt { .. }), "{wrong}");
                assert_eq!(error.class().exit_code(), 2);
            }
        }
        let mut swapped = code.clone().into_bytes();
        let at = swapped.windows(2).position(|pair| pair[0] != pair[1]).unwrap();
        swapped.swap(at, at + 1);
        let swapped = String::from_utf8(swapped).unwrap();
        for bad in ["", "U", &code[1..], &format!("{code}0"), &code.repeat(1000), &swapped, "1234 \u{1b}[2J"] {
            assert!(matches!(Receipt::parse(bad).unwrap_err().kind(), ErrorKind::BadReceipt { .. }), "{bad}");
        }
    }

    #[test]
    fn contradictions_and_other_versions_are_refused() {
        let sealed = |mut body: Vec<u8>| {
            body.extend(checksum(&body));
            encode(&body)
        };
        let body = |status: u8, arrived: u8| [vec![status], vec![arrived; 6], vec![0; 10]].concat();
        assert!(Receipt::parse(&sealed(body(0x11, 7))).is_ok());
        for (status, arrived) in [(0x10, 7), (0x11, 0), (0x13, 7), (0x15, 7), (0x21, 7)] {
            assert!(Receipt::parse(&sealed(body(status, arrived))).is_err(), "{status:x} {arrived}");
        }
    }
}
