//! The bit order of RFC 1951: reading it for the encoder, writing it for the decoder.

/// Eight bytes from `at`, as many as there are, the rest zero.
#[inline(always)]
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

/// Bytes that wait at most.
const SPACE: usize = 32 << 10;

/// Writes bits, the lowest first. Bytes wait in a buffer of fixed size for [`BitWriter::drain`].
#[derive(Debug)]
pub(super) struct BitWriter {
    word: u64,
    used: u32,
    at: usize,
    bytes: Box<[u8]>,
}

impl Default for BitWriter {
    fn default() -> Self {
        Self { word: 0, used: 0, at: 0, bytes: vec![0; SPACE].into_boxed_slice() }
    }
}

impl BitWriter {
    /// Appends the low `count` bits of `bits`, whose other bits are zero. `count` is at most 56.
    /// [`BitWriter::room`] or [`BitWriter::drain`] come before there are too many for the buffer.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.word |= bits << self.used;
        self.used += count;
        // Eight bytes at once, of which the whole ones stay.
        if let Some(place) = self.bytes.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut::<8>()) {
            *place = self.word.to_le_bytes();
        }
        let whole = self.used >> 3;
        self.at += whole as usize;
        self.word >>= whole * 8;
        self.used &= 7;
    }

    /// Moves the whole bytes to `out`.
    #[inline(always)]
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes.get(..self.at).unwrap_or_default());
        self.at = 0;
    }

    /// Drains if fewer than `calls` calls of [`BitWriter::put`] have room.
    #[inline(always)]
    pub(super) fn room(&mut self, calls: usize, out: &mut Vec<u8>) {
        if self.at + (calls + 2) * 7 > SPACE {
            self.drain(out);
        }
    }

    /// Fills the byte up with `pad` and drains. False if `pad` needs more room than there is.
    pub(super) fn align(&mut self, pad: u8, out: &mut Vec<u8>) -> bool {
        let room = (8 - self.used) & 7;
        if u32::from(pad) >> room != 0 {
            return false;
        }
        self.put(u64::from(pad), room);
        self.drain(out);
        true
    }
}
