//! The bit order of RFC 1951: reading it for the encoder, writing it for the decoder.

/// Eight bytes from `at`, as many as there are, the rest zero.
pub(super) fn load(bytes: &[u8], at: usize) -> u64 {
    if let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        return u64::from_le_bytes(*eight);
    }
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes.get(at..).unwrap_or_default()) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Writes bits, the lowest first, into bytes.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    word: u64,
    used: u32,
}

impl BitWriter {
    /// Appends the low `count` bits of `bits`, whose other bits are zero. `count` is at most 56.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32, out: &mut Vec<u8>) {
        self.word |= bits << self.used;
        self.used += count;
        // Whole bytes leave at once, so that at most 7 bits wait.
        let whole = self.used >> 3;
        out.extend_from_slice(&self.word.to_le_bytes());
        out.truncate(out.len() - 8 + whole as usize);
        self.word >>= whole * 8;
        self.used &= 7;
    }

    /// Fills the byte up with `pad`. False if `pad` needs more room than there is.
    pub(super) fn align(&mut self, pad: u8, out: &mut Vec<u8>) -> bool {
        let room = (8 - self.used) & 7;
        if u32::from(pad) >> room != 0 {
            return false;
        }
        self.put(u64::from(pad), room, out);
        true
    }
}
