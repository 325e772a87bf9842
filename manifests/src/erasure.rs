//! The erasure code of volumes and of the one-way link: systematic Reed-Solomon over GF(2^16).
//!
//! Any `k` of `k + m` equal shards give the `k` originals back. The code repairs losses and sees no
//! damage: a shard that is wrong counts as lost, and telling which is wrong is the caller's part
//! (cell hashes in volumes, tags on datagrams). The recovery bytes are an on-media format; the
//! vectors in the tests freeze them. Measured beside others in `docs/adr/0011-erasure-code.md`.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use crate::{ErrorKind, Result};

/// Makes recovery shards for blocks of one shape after another.
pub struct Encoder(ReedSolomonEncoder);

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// For `originals` + `recovery` shards of `shard` bytes each (an even number).
    pub fn new(originals: usize, recovery: usize, shard: usize) -> Result<Self> {
        ReedSolomonEncoder::new(originals, recovery, shard).map(Self).map_err(|e| fail(&e))
    }

    /// Changes the shape, keeping the memory.
    pub fn reset(&mut self, originals: usize, recovery: usize, shard: usize) -> Result<()> {
        self.0.reset(originals, recovery, shard).map_err(|e| fail(&e))
    }

    /// Adds the next original.
    pub fn add(&mut self, original: &[u8]) -> Result<()> {
        self.0.add_original_shard(original).map_err(|e| fail(&e))
    }

    /// Hands the recovery shards of the originals added since the last call to `take`, in order.
    pub fn encode(&mut self, mut take: impl FnMut(usize, &[u8])) -> Result<()> {
        let result = self.0.encode().map_err(|e| fail(&e))?;
        for (index, shard) in result.recovery_iter().enumerate() {
            take(index, shard);
        }
        Ok(())
    }
}

/// Restores lost shards for blocks of one shape after another.
pub struct Decoder(ReedSolomonDecoder);

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// For `originals` + `recovery` shards of `shard` bytes each (an even number).
    pub fn new(originals: usize, recovery: usize, shard: usize) -> Result<Self> {
        ReedSolomonDecoder::new(originals, recovery, shard).map(Self).map_err(|e| fail(&e))
    }

    /// Changes the shape, keeping the memory.
    pub fn reset(&mut self, originals: usize, recovery: usize, shard: usize) -> Result<()> {
        self.0.reset(originals, recovery, shard).map_err(|e| fail(&e))
    }

    /// Adds an original that is there.
    pub fn add_original(&mut self, index: usize, shard: &[u8]) -> Result<()> {
        self.0.add_original_shard(index, shard).map_err(|e| fail(&e))
    }

    /// Adds a recovery shard that is there.
    pub fn add_recovery(&mut self, index: usize, shard: &[u8]) -> Result<()> {
        self.0.add_recovery_shard(index, shard).map_err(|e| fail(&e))
    }

    /// Hands each lost original to `restored` with its index. At least `k` shards must have been
    /// added since the last call.
    pub fn decode(&mut self, mut restored: impl FnMut(usize, &[u8])) -> Result<()> {
        let result = self.0.decode().map_err(|e| fail(&e))?;
        for (index, shard) in result.restored_original_iter() {
            restored(index, shard);
        }
        Ok(())
    }
}

fn fail(error: &reed_solomon_simd::Error) -> crate::Error {
    ErrorKind::Inconsistent { what: "erasure code".into(), why: error.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha384;

    /// Byte `i` of the input of every vector.
    fn input(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from((i * 131 + i / 251) % 256).unwrap()).collect()
    }

    fn parity(k: usize, m: usize, shard: usize) -> Vec<u8> {
        let data = input(k * shard);
        let mut out = Vec::new();
        let mut encoder = Encoder::new(k, m, shard).unwrap();
        data.chunks(shard).for_each(|original| encoder.add(original).unwrap());
        encoder.encode(|_, bytes| out.extend_from_slice(bytes)).unwrap();
        out
    }

    #[test]
    fn recovery_bytes_are_frozen() {
        for (k, m, shard, expected) in FROZEN {
            assert_eq!(Sha384::of(&parity(k, m, shard)).hex()[..32], *expected, "{k}+{m} of {shard} bytes");
        }
    }

    #[test]
    fn any_k_of_n_restore() {
        let (k, m, shard) = (5, 2, 64);
        let (data, extra) = (input(k * shard), parity(k, m, shard));
        for a in 0..k + m {
            for b in 0..k + m {
                let there = |i: &usize| *i != a && *i != b;
                let mut got = data.clone();
                for lost in [a, b].into_iter().filter(|i| *i < k) {
                    got[lost * shard..][..shard].fill(0);
                }
                let mut decoder = Decoder::new(k, m, shard).unwrap();
                for i in (0..k).filter(there) {
                    decoder.add_original(i, &data[i * shard..][..shard]).unwrap();
                }
                for i in (0..m).filter(|i| there(&(i + k))) {
                    decoder.add_recovery(i, &extra[i * shard..][..shard]).unwrap();
                }
                decoder.decode(|i, bytes| got[i * shard..][..shard].copy_from_slice(bytes)).unwrap();
                assert_eq!(got, data, "lost {a} and {b}");
            }
        }
    }

    /// Originals, recovery shards, bytes of a shard, first digits of the SHA-384 of all recovery bytes.
    const FROZEN: [(usize, usize, usize, &str); 4] = [
        (1, 1, 64, "63fb5ddc60ead1be1afec1506279c39b"),
        (5, 2, 64, "d42703bb5ac3eee26b56dd78d82961bf"),
        (20, 2, 4096, "cc3aea47b3bcb05d89f32381e1b3308a"),
        (1024, 128, 1408, "5850d87d9ba4567381ef43dcda501890"),
    ];
}
