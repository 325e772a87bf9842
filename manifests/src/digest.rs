//! Digests: the one place that hashes.
//!
//! Frames and documents are pinned by SHA-384 (CNSA 2.0), OCI blobs by sha256 (their names).
//! The provider is `sha2`; measured beside ring and aws-lc in `docs/adr/0004-digests.md`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::{ErrorKind, Result};

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $hasher:ident, $algorithm:ty, $len:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The digest of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(<$algorithm>::digest(bytes).into())
            }

            /// Bytes and digest of all that `input` gives; `progress` is told of each part.
            pub fn of_reader(input: &mut dyn std::io::Read, progress: &mut dyn FnMut(u64)) -> std::io::Result<(u64, Self)> {
                let (mut hasher, mut size, mut buffer) = ($hasher::default(), 0, vec![0; 1 << 20]);
                loop {
                    let count = match input.read(&mut buffer) {
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                        other => other?,
                    };
                    if count == 0 {
                        return Ok((size, hasher.finish()));
                    }
                    hasher.update(buffer.get(..count).unwrap_or(&[]));
                    let count = u64::try_from(count).unwrap_or(0);
                    size += count;
                    progress(count);
                }
            }

            /// A digest that was read as bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The digest's bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lower-case hexadecimal digits without a prefix.
            pub fn hex(&self) -> String {
                crate::text::hex(&self.0)
            }

            /// Parses the text form that [`fmt::Display`] writes; upper case is refused.
            pub fn parse(text: &str) -> Result<Self> {
                let bad = || ErrorKind::BadValue {
                    what: "digest".into(),
                    expected: format!("{}{} lower-case hexadecimal digits", $prefix, $len * 2),
                    found: text.chars().take(160).collect(),
                };
                let digits = text.strip_prefix($prefix).ok_or_else(bad)?;
                let bytes = crate::text::unhex(digits).ok_or_else(bad)?;
                Ok(Self(bytes.try_into().map_err(|_| bad())?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        /// Streaming hasher of the digest beside it.
        #[derive(Clone, Default)]
        pub struct $hasher($algorithm);

        impl $hasher {
            /// Takes in `bytes`.
            pub fn update(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }

            /// The digest of all that was taken in.
            pub fn finish(self) -> $name {
                $name(self.0.finalize().into())
            }
        }

        impl fmt::Debug for $hasher {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($hasher))
            }
        }
    };
}

digest_type!(
    /// SHA-256 in the OCI text form `sha256:<64 hex digits>` (OCI image-spec, descriptor).
    Sha256, Sha256Hasher, sha2::Sha256, 32, "sha256:"
);
digest_type!(
    /// SHA-384 (FIPS 180-4) as 96 hexadecimal digits.
    Sha384, Sha384Hasher, sha2::Sha384, 48, ""
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // FIPS 180-4 example "abc".
        assert_eq!(
            Sha256::of(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            Sha384::of(b"abc").to_string(),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        );
    }

    #[test]
    fn parse_is_strict() {
        let good = Sha256::of(b"x").to_string();
        assert_eq!(Sha256::parse(&good).unwrap().to_string(), good);
        for bad in [
            good.to_uppercase(),
            good[..70].to_owned(),
            format!("{good}0"),
            good.replace("sha256:", "sha512:"),
            "é".repeat(40),
        ] {
            assert!(matches!(Sha256::parse(&bad).unwrap_err().kind(), ErrorKind::BadValue { .. }), "{bad}");
        }
    }

    #[test]
    fn streaming_equals_whole() {
        let mut hasher = Sha384Hasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), Sha384::of(b"abc"));
        let (long, mut told) = (vec![7; 3_000_000], 0);
        let (size, digest) = Sha384::of_reader(&mut long.as_slice(), &mut |bytes| told += bytes).unwrap();
        assert_eq!((size, told, digest), (3_000_000, 3_000_000, Sha384::of(&long)));
    }
}
