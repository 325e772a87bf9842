//! What a stream is made of: sampled fingerprints of its content, to find which former blob it
//! resembles and where.
//!
//! A rolling hash over the last 64 bytes (gear hashing, after W. Xia and others, `FastCDC`, USENIX ATC
//! 2016) names a place by its content alone: the same bytes give the same fingerprint wherever they
//! lie. One place in 2048 is kept; of a small stream one in 32, so that a layer of a few kilobytes is
//! found as well, under whatever name and in whatever place.

use std::collections::BTreeMap;

/// A fingerprint is kept when this many leading bits of the hash are zero.
const SAMPLE_BITS: u32 = 11;
/// Of a stream that is not larger than [`SMALL`], this many.
const FINE_BITS: u32 = 5;
/// Bytes of a small stream at most.
const SMALL: u64 = 128 << 10;
/// Fingerprints that are kept of one stream at most: 2 GiB of content without repetition.
const MOST: usize = 1 << 20;
/// From so many fingerprints on a part of them tells enough.
const MANY: usize = 1 << 14;

/// The sampled fingerprints of a stream: each with the first place where it is found.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    places: BTreeMap<u64, u64>,
    /// Bytes of the stream.
    size: u64,
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
            if self.at == SMALL + 1 {
                self.sketch.places.retain(|print, _| is_coarse(*print));
            }
            let bits = if self.at <= SMALL { FINE_BITS } else { SAMPLE_BITS };
            if self.hash.leading_zeros() >= bits && self.sketch.places.len() < MOST {
                self.sketch.places.entry(self.hash).or_insert(self.at);
            }
        }
    }

    /// The sketch of all that was taken in.
    pub fn finish(self) -> Sketch {
        Sketch { size: self.at, ..self.sketch }
    }
}

/// Whether a large stream keeps it too.
const fn is_coarse(print: u64) -> bool {
    print.leading_zeros() >= SAMPLE_BITS
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

    /// Whether it is of a small stream, with one fingerprint for about 32 bytes.
    pub const fn is_small(&self) -> bool {
        self.size <= SMALL
    }

    /// How many of this one's fingerprints `other` has. Where only some are looked up (one in sixteen of
    /// many; of a small stream those that a large one would keep), about how many it would be of all.
    pub fn shared(&self, other: &Self) -> usize {
        let found = |prints: &mut dyn Iterator<Item = &u64>| prints.filter(|p| other.places.contains_key(p)).count();
        let mut all = self.places.keys();
        if self.is_small() && !other.is_small() {
            return found(&mut all.filter(|print| is_coarse(**print))) << (SAMPLE_BITS - FINE_BITS);
        }
        if self.places.len() > MANY {
            return found(&mut all.filter(|print| print.is_multiple_of(16))) * 16;
        }
        found(&mut all)
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
        assert!(sketch(b"").is_empty());
        assert!(sketch(&vec![0; 1 << 20]).len() <= 1, "a run is one thing");
    }
    #[test]
    fn small_streams_are_found_too() {
        let (one, two) = (noise(1, 3000), noise(2, 3000));
        let changed = [&one[..1500], b"TEST", &one[1500..]].concat();
        let (a, b) = (sketch(&one), sketch(&changed));
        assert!(a.is_small() && a.len() > 60, "{}", a.len());
        assert!(a.shared(&b) * 10 > a.len() * 9, "{} of {}", a.shared(&b), a.len());
        assert_eq!(a.shared(&sketch(&two)), 0);
        // Within a large one, and a large one within a small one.
        let small = noise(4, 100_000);
        let large = sketch(&[&noise(5, 400_000)[..], &small, &noise(6, 300_000)].concat());
        let small = sketch(&small);
        assert!(!large.is_small() && small.is_small());
        assert!((small.len() / 2..small.len() * 2).contains(&small.shared(&large)), "{}", small.shared(&large));
        assert!(large.shared(&small) * 10 < large.len() * 3 && large.shared(&small) > 10, "{}", large.shared(&small));
        // The border: what is kept of the first bytes does not depend on how they came.
        let border = noise(7, usize::try_from(SMALL).unwrap());
        assert!(sketch(&border).len() > 3000);
        assert!(sketch(&[&border[..], b"x"].concat()).len() < 150);
    }
}
