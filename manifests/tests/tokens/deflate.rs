//! A deflate writer of the tests' own: it writes what no compressor would, if told to.

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    Literal(u8),
    /// Length 3 to 258, distance 1 to 32768.
    Match(u16, u16),
    /// Length 258 as symbol 284 with its extra bits set.
    Odd258(u16),
}

const LENGTHS: [(u16, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Symbol number, extra bits, how many: of a length or of a distance.
fn length_parts(symbol: Symbol) -> (usize, u32, u32) {
    match symbol {
        Symbol::Odd258(_) => (284, 31, 5),
        Symbol::Match(length, _) => {
            let at = LENGTHS.iter().rposition(|(base, _)| *base <= length).unwrap();
            (257 + at, u32::from(length - LENGTHS[at].0), LENGTHS[at].1)
        }
        Symbol::Literal(byte) => (usize::from(byte), 0, 0),
    }
}

fn distance_parts(distance: u16) -> (usize, u32, u32) {
    let (mut base, mut symbol) = (1_u32, 0_usize);
    loop {
        let extra = if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 };
        if u32::from(distance) < base + (1 << extra) {
            return (symbol, u32::from(distance) - base, extra);
        }
        base += 1 << extra;
        symbol += 1;
    }
}

/// Bits into bytes.
#[derive(Default)]
pub struct Deflate {
    pub bytes: Vec<u8>,
    used: u32,
}

/// Choices of a dynamic block's head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Decides between repeats and single lengths; 0: never a repeat.
    pub seed: u64,
    /// As many code lengths as the format has.
    pub wide: bool,
}

impl Deflate {
    pub fn bits(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    fn word(&mut self, (word, length): (u32, u32)) {
        assert!(length > 0, "a symbol without a code");
        for bit in (0..length).rev() {
            self.bits(word >> bit & 1, 1);
        }
    }

    /// Fills the byte with `pad`.
    pub fn align(&mut self, pad: u32) {
        if self.used > 0 {
            self.bits(pad, 8 - self.used);
        }
    }

    pub fn stored(&mut self, last: bool, pad: u32, bytes: &[u8]) {
        self.bits(u32::from(last), 3);
        self.align(pad);
        let size = u16::try_from(bytes.len()).unwrap();
        self.bytes.extend(size.to_le_bytes());
        self.bytes.extend((!size).to_le_bytes());
        self.bytes.extend(bytes);
    }

    pub fn fixed(&mut self, last: bool, symbols: &[Symbol]) {
        self.bits(u32::from(last) | 2, 3);
        let mut litlen = vec![8; 144];
        litlen.resize(256, 9);
        litlen.resize(280, 7);
        litlen.resize(288, 8);
        self.symbols(symbols, &litlen, &[5; 30]);
    }

    /// A dynamic block with given code lengths.
    pub fn coded(&mut self, last: bool, symbols: &[Symbol], litlen: &[u8], dist: &[u8], style: Style) {
        self.bits(u32::from(last) | 4, 3);
        let litlens = if style.wide { 286 } else { litlen.iter().rposition(|length| *length > 0).unwrap() + 1 };
        let dists =
            if style.wide { 30 } else { dist.iter().rposition(|length| *length > 0).map_or(1, |last| last + 1) };
        let mut all = litlen[..litlens].to_vec();
        all.extend(&dist[..dists]);
        let mut writes = Vec::new();
        let mut random = style.seed;
        let mut at = 0;
        while at < all.len() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(style.seed > 0));
            let same = all[at..].iter().take_while(|length| **length == all[at]).count();
            let again = at > 0 && all[at - 1] == all[at];
            let write = match (all[at], random >> 60) {
                _ if same < 3 || style.seed == 0 || random >> 60 < 4 => (u32::from(all[at]), 0, 0, 1),
                (_, 8..12) if again => {
                    let times = 3 + (random >> 40) as usize % (same.min(6) - 2);
                    (16, times as u32 - 3, 2, times)
                }
                (0, _) if same >= 11 => {
                    let times = 11 + (random >> 40) as usize % (same.min(138) - 10);
                    (18, times as u32 - 11, 7, times)
                }
                (0, _) => {
                    let times = 3 + (random >> 40) as usize % (same.min(10) - 2);
                    (17, times as u32 - 3, 3, times)
                }
                _ => (u32::from(all[at]), 0, 0, 1),
            };
            writes.push(write);
            at += write.3;
        }
        let mut weights = [0; 19];
        for (symbol, ..) in &writes {
            weights[*symbol as usize] += 1;
        }
        if style.wide {
            weights.iter_mut().for_each(|weight| *weight += 1);
        }
        let code = lengths(&weights, 7);
        let orders = ORDER.iter().rposition(|symbol| code[*symbol] > 0).map_or(4, |last| (last + 1).max(4));
        self.bits(litlens as u32 - 257, 5);
        self.bits(dists as u32 - 1, 5);
        self.bits(orders as u32 - 4, 4);
        for symbol in &ORDER[..orders] {
            self.bits(u32::from(code[*symbol]), 3);
        }
        let words = words(&code);
        for (symbol, extra, count, _) in writes {
            self.word(words[symbol as usize]);
            self.bits(extra, count);
        }
        self.symbols(symbols, litlen, dist);
    }

    /// A dynamic block with a code made from how often each symbol occurs.
    pub fn dynamic(&mut self, last: bool, symbols: &[Symbol], style: Style) {
        let (mut litlen, mut dist) = (vec![0; 286], vec![0; 30]);
        litlen[256] = 1;
        for symbol in symbols {
            litlen[length_parts(*symbol).0] += 1;
            if let Symbol::Match(_, distance) | Symbol::Odd258(distance) = symbol {
                dist[distance_parts(*distance).0] += 1;
            }
        }
        self.coded(last, symbols, &lengths(&litlen, 15), &lengths(&dist, 15), style);
    }

    fn symbols(&mut self, symbols: &[Symbol], litlen: &[u8], dist: &[u8]) {
        let (litlen, dist) = (words(litlen), words(dist));
        for symbol in symbols {
            let (number, extra, count) = length_parts(*symbol);
            self.word(litlen[number]);
            self.bits(extra, count);
            if let Symbol::Match(_, distance) | Symbol::Odd258(distance) = symbol {
                let (number, extra, count) = distance_parts(*distance);
                self.word(dist[number]);
                self.bits(extra, count);
            }
        }
        self.word(litlen[256]);
    }

    /// A gzip member with the plainest header. The trailer is none of a real content.
    pub fn member(mut self, pad: u32) -> Vec<u8> {
        self.align(pad);
        let mut gzip = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];
        gzip.append(&mut self.bytes);
        gzip.extend(b"crc.size");
        gzip
    }
}

/// Lengths of at most `most` bits: Huffman's, by halving the weights until they fit.
fn lengths(weights: &[u32], most: u8) -> Vec<u8> {
    let mut weights = weights.to_vec();
    loop {
        let mut nodes: Vec<(u64, Vec<usize>)> = Vec::new();
        let used = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
        nodes.extend(used.map(|(symbol, weight)| (u64::from(*weight), vec![symbol])));
        let mut out = vec![0_u8; weights.len()];
        if let [(_, only)] = &nodes[..] {
            out[only[0]] = 1;
        }
        while nodes.len() > 1 {
            nodes.sort();
            let (second, first) = (nodes.remove(1), nodes.remove(0));
            let joined = [first.1, second.1].concat();
            joined.iter().for_each(|symbol| out[*symbol] += 1);
            nodes.push((first.0 + second.0, joined));
        }
        if out.iter().all(|length| *length <= most) {
            return out;
        }
        weights.iter_mut().for_each(|weight| *weight = weight.div_ceil(2));
    }
}

/// Canonical words (RFC 1951, 3.2.2), first bit highest.
fn words(lengths: &[u8]) -> Vec<(u32, u32)> {
    let mut out = vec![(0, 0); lengths.len()];
    let mut code = 0;
    for length in 1..=15 {
        code <<= 1;
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, found)| **found == length) {
            out[symbol] = (code, u32::from(length));
            code += 1;
        }
    }
    out
}
