//! What is in and what is not: a bit for each part.

/// A row of bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: u64,
    set: u64,
}

impl Bitmap {
    /// `len` bits, none set.
    pub fn new(len: u64) -> Self {
        let words = usize::try_from(len.div_ceil(64)).unwrap_or(0);
        Self { words: vec![0; words], len, set: 0 }
    }

    /// Number of bits.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bits at all.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of set bits.
    pub const fn count(&self) -> u64 {
        self.set
    }

    /// Whether all bits are set.
    pub const fn is_full(&self) -> bool {
        self.set == self.len
    }

    /// A bit; one beyond the end is not set.
    pub fn get(&self, index: u64) -> bool {
        let word = usize::try_from(index / 64).ok().and_then(|at| self.words.get(at));
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Sets a bit; says whether it was new.
    pub fn set(&mut self, index: u64) -> bool {
        if index >= self.len || self.get(index) {
            return false;
        }
        if let Some(word) = usize::try_from(index / 64).ok().and_then(|at| self.words.get_mut(at)) {
            *word |= 1 << (index % 64);
            self.set += 1;
        }
        true
    }

    /// Clears a bit.
    pub fn clear(&mut self, index: u64) {
        if self.get(index)
            && let Some(word) = usize::try_from(index / 64).ok().and_then(|at| self.words.get_mut(at))
        {
            *word &= !(1 << (index % 64));
            self.set -= 1;
        }
    }

    /// The runs of bits that are not set: first and last.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        while at < self.len {
            let word = usize::try_from(at / 64).ok().and_then(|index| self.words.get(index)).copied();
            if at.is_multiple_of(64) && word == Some(u64::MAX) {
                at += 64;
                continue;
            }
            if !self.get(at) {
                match gaps.last_mut() {
                    Some(last) if last.1 + 1 == at => last.1 = at,
                    _ => gaps.push((at, at)),
                }
            }
            at += 1;
        }
        gaps
    }

    /// The bits as bytes, least significant first.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Reads what [`Bitmap::to_bytes`] wrote; `None` if it has another length or bits beyond the end.
    pub fn from_bytes(len: u64, bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        let expected = usize::try_from(len.div_ceil(64)).ok()?;
        let set = words.iter().map(|word| u64::from(word.count_ones())).sum();
        let beyond = !len.is_multiple_of(64) && words.last().is_some_and(|last| last >> (len % 64) != 0);
        (rest.is_empty() && words.len() == expected && !beyond).then_some(Self { words, len, set })
    }
}

/// Runs of numbers for people: `3, 7-9, 12`, counted from 1, at most `most` runs.
pub fn runs(gaps: &[(u64, u64)], most: usize) -> String {
    let run = |(first, last): &(u64, u64)| {
        if first == last { format!("{}", first + 1) } else { format!("{}-{}", first + 1, last + 1) }
    };
    let text = gaps.iter().take(most).map(run).collect::<Vec<_>>().join(", ");
    if gaps.len() > most { format!("{text} and {} more runs", gaps.len() - most) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_count_gaps_and_bytes() {
        let mut map = Bitmap::new(200);
        assert_eq!(map.gaps(), [(0, 199)]);
        for index in (0..200).filter(|i| !(70..=75).contains(i) && *i != 199) {
            assert!(map.set(index));
            assert!(!map.set(index));
        }
        assert!(!map.set(200));
        assert_eq!((map.count(), map.gaps()), (193, vec![(70, 75), (199, 199)]));
        assert_eq!(runs(&map.gaps(), 5), "71-76, 200");
        assert_eq!(runs(&map.gaps(), 1), "71-76 and 1 more runs");
        assert_eq!(Bitmap::from_bytes(200, &map.to_bytes()), Some(map.clone()));
        assert_eq!(Bitmap::from_bytes(150, &map.to_bytes()), None);
        assert_eq!(Bitmap::from_bytes(193, &map.to_bytes()), None);
        map.clear(0);
        assert_eq!((map.count(), map.get(0)), (192, false));
    }
}
