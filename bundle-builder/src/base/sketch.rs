//! What a stream is made of: sampled fingerprints of its content, to find which former blob it
//! resembles and where.
//!
//! A rolling hash over the last 64 bytes (gear hashing, after W. Xia and others, `FastCDC`, USENIX ATC
//! 2016) names a place by its content alone: the same bytes give the same fingerprint wherever they
//! lie. One place in 2048 is kept.

use std::collections::BTreeMap;

/// A fingerprint is kept when this many leading bits of the hash are zero.
const SAMPLE_BITS: u32 = 11;
/// Fingerprints that are kept of one stream at most: 2 GiB of content without repetition.
const MOST: usize = 1 << 20;
/// From so many fingerprints on a part of them tells enough.
const MANY: usize = 1 << 14;

/// The sampled fingerprints of a stream: each with the first place where it is found.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    places: BTreeMap<u64, u64>,
}

/// Makes a [`Sketch`] of bytes that come in parts.
pub struct Sketcher {
    gear: Box<[u64; 256]>,
    hash: u64,
    at: u64,
    sketch: Sketch,
}

impl Default for Sketcher {
    fn default() -> Self {
        // Any fixed numbers without a pattern will do: splitmix64 (Steele and others, 2014).
        let mut state = 0x4c6f_636b_6761_7465_u64;
        let gear = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { gear: Box::new(gear), hash: 0, at: 0, sketch: Sketch::default() }
    }
}

impl Sketcher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let value = self.gear.get(usize::from(*byte)).copied().unwrap_or(0);
            self.hash = (self.hash << 1).wrapping_add(value);
            self.at += 1;
            if self.hash.leading_zeros() >= SAMPLE_BITS && self.sketch.places.len() < MOST {
                self.sketch.places.entry(self.hash).or_insert(self.at);
            }
        }
    }

    /// The sketch of all that was taken in.
    pub fn finish(self) -> Sketch {
        self.sketch
    }
}

impl std::fmt::Debug for Sketcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sketcher").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Sketch {
    /// How many fingerprints.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none: a stream of a few kilobytes.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many of this one's fingerprints `other` has; of many, one in sixteen is looked up.
    pub fn shared(&self, other: &Self) -> usize {
        let one_in = if self.places.len() > MANY { 16 } else { 1 };
        let asked = self.places.keys().filter(|print| (*print).is_multiple_of(one_in));
        let found = asked.filter(|print| other.places.contains_key(print)).count();
        found * usize::try_from(one_in).unwrap_or(1)
    }

    /// Where in `other` lies what this one has between `from` and `to`; sorted.
    pub fn found_in(&self, other: &Self, from: u64, to: u64) -> Vec<u64> {
        let within = self.places.iter().filter(|(_, at)| (from..to).contains(at));
        let mut found: Vec<u64> = within.filter_map(|(print, _)| other.places.get(print).copied()).collect();
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    fn sketch(bytes: &[u8]) -> Sketch {
        let mut sketcher = Sketcher::default();
        bytes.chunks(1000).for_each(|part| sketcher.update(part));
        sketcher.finish()
    }

    #[test]
    fn the_same_content_is_found_wherever_it_lies() {
        let (common, own, other) = (noise(1, 400_000), noise(2, 200_000), noise(3, 100_000));
        let (a, b) = (sketch(&[&own[..], &common].concat()), sketch(&[&common[..], &other].concat()));
        assert!((200..400).contains(&a.len()), "{}", a.len());
        let shared = a.shared(&b);
        assert!(shared * 10 > a.len() * 5 && shared * 10 < a.len() * 8, "{shared} of {}", a.len());
        let found = a.found_in(&b, 200_000, 600_000);
        assert!(found.first().unwrap() < &20_000 && found.last().unwrap() > &380_000);
        assert!(a.found_in(&b, 0, 200_000).is_empty());
        assert_eq!(sketch(&own).shared(&sketch(&other)), 0);
        assert!(sketch(b"short").is_empty());
        assert!(sketch(&vec![0; 1 << 20]).len() <= 1, "a run is one thing");
    }
}
