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

/// Bytes that wait at most. A power of two, so that a place is known to be inside.
const SPACE: usize = 8 << 10;
/// Bytes that are stored at once.
const AT_ONCE: usize = 8;

/// Writes bits, the lowest first. Bytes wait in a buffer of fixed size for [`BitWriter::drain`].
#[derive(Debug)]
pub(super) struct BitWriter {
    word: u64,
    used: u32,
    at: usize,
    bytes: Box<[u8; SPACE + AT_ONCE]>,
}

impl Default for BitWriter {
    fn default() -> Self {
        Self { word: 0, used: 0, at: 0, bytes: Box::new([0; SPACE + AT_ONCE]) }
    }
}

impl BitWriter {
    /// Writes with `what`, then drains. What it writes is less than [`SPACE`].
    #[inline(always)]
    pub(super) fn writing<T>(&mut self, out: &mut Vec<u8>, what: impl FnOnce(&mut Writing<'_>) -> T) -> T {
        self.drain(out);
        let mut writing = Writing { word: self.word, used: self.used, at: self.at, bytes: &mut self.bytes };
        let result = what(&mut writing);
        (self.word, self.used, self.at) = (writing.word, writing.used, writing.at);
        self.drain(out);
        result
    }

    /// [`Writing::put`], once.
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        let mut writing = Writing { word: self.word, used: self.used, at: self.at, bytes: &mut self.bytes };
        writing.put(bits, count);
        (self.word, self.used, self.at) = (writing.word, writing.used, writing.at);
    }

    /// Moves the whole bytes to `out`.
    pub(super) fn drain(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes.get(..self.at).unwrap_or_default());
        self.at = 0;
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

/// A [`BitWriter`] at work. A writer that is reached through a reference would fetch and store its state
/// for each symbol.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    word: u64,
    used: u32,
    at: usize,
    bytes: &'a mut [u8; SPACE + AT_ONCE],
}

impl Writing<'_> {
    /// Appends the low `count` bits of `bits`, whose other bits are zero. `count` is at most 56.
    /// [`BitWriter::drain`] comes before there are too many for the buffer.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.word |= bits << self.used;
        self.used += count;
        // Eight bytes at once, of which the whole ones stay.
        if let Some(place) = self.bytes.get_mut(self.at % SPACE..).and_then(|rest| rest.first_chunk_mut::<AT_ONCE>()) {
            *place = self.word.to_le_bytes();
        }
        let whole = self.used >> 3;
        self.at += whole as usize;
        self.word >>= whole * 8;
        self.used &= 7;
    }
}
