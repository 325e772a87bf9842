//! A log's tree: the proof that an entry is in it, and the log's signature over its head (RFC 6962 2.1.1,
//! RFC 9162 2.1.3.2; c2sp.org/tlog-checkpoint, c2sp.org/signed-note).

use bundle_format::digest::Sha256;
use bundle_format::text::unbase64;

use super::fault::{Checked, Fault, malformed};
use super::root::Log;

/// Most steps of a proof: a tree of 2^64 leaves has no more.
const MOST_STEPS: usize = 64;

/// A proof of inclusion.
#[derive(Debug)]
pub(super) struct Proof {
    /// Place of the entry in its tree.
    pub(super) index: u64,
    /// Hashes from the leaf up.
    pub(super) hashes: Vec<Sha256>,
    /// The signed head.
    pub(super) checkpoint: String,
}

/// A tree head as its log signed it.
struct Checkpoint<'a> {
    signed: &'a str,
    size: u64,
    root: Sha256,
    signatures: Vec<(&'a str, Vec<u8>)>,
}

impl Proof {
    /// Verifies that `body` is in the tree whose head `log` signed. Size and root are the head's: what a
    /// bundle says of them beside it is not signed.
    pub(super) fn verify(&self, id: Sha256, log: &Log, body: &[u8]) -> Checked<()> {
        let checkpoint =
            Checkpoint::parse(&self.checkpoint).ok_or_else(|| malformed("checkpoint", "no signed note"))?;
        if !checkpoint.is_by(log) {
            return Err(Fault::Checkpoint { log: id });
        }
        let leaf = Sha256::of(&[&[0], body].concat());
        if root_of(leaf, self.index, checkpoint.size, &self.hashes) == Some(checkpoint.root) {
            return Ok(());
        }
        Err(Fault::Inclusion { index: self.index, size: checkpoint.size })
    }
}

impl<'a> Checkpoint<'a> {
    /// Origin, size in decimal, root in base64, more lines; an empty line; signatures.
    fn parse(note: &'a str) -> Option<Self> {
        let end = note.rfind("\n\n")? + 1;
        let (signed, rest) = note.split_at_checked(end)?;
        let mut lines = signed.lines();
        let (_origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = Sha256::from_bytes(unbase64(root)?.try_into().ok()?);
        let signature = |line: &'a str| {
            let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            Some((name, unbase64(signature)?))
        };
        let signatures = rest.trim_start_matches('\n').lines().map(signature).collect::<Option<_>>()?;
        Some(Self { signed, size: size.parse().ok()?, root, signatures })
    }

    /// Whether one of the signatures is this log's. The four bytes before each are a hint; the key decides.
    fn is_by(&self, log: &Log) -> bool {
        self.signatures.iter().any(|(_, bytes)| {
            bytes.split_at_checked(4).is_some_and(|(_, signature)| log.key.verifies(self.signed.as_bytes(), signature))
        })
    }
}

/// The root that a proof leads to (RFC 9162 2.1.3.2); `None` if it has too few or too many steps.
fn root_of(leaf: Sha256, index: u64, size: u64, hashes: &[Sha256]) -> Option<Sha256> {
    if index >= size || hashes.len() > MOST_STEPS {
        return None;
    }
    let node = |left: &Sha256, right: &Sha256| Sha256::of(&[&[1], &left.as_bytes()[..], right.as_bytes()].concat());
    let (mut at, mut last, mut root) = (index, size - 1, leaf);
    for hash in hashes {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node(hash, &root);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            root = node(&root, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(number: u64) -> Sha256 {
        Sha256::of(&[&[0][..], &number.to_be_bytes()].concat())
    }

    /// RFC 6962 2.1, as it stands there: the root of leaves, and the path to one of them.
    fn tree(leaves: &[Sha256]) -> Sha256 {
        if let [one] = leaves {
            return *one;
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        Sha256::of(&[&[1], &tree(left).as_bytes()[..], tree(right).as_bytes()].concat())
    }

    fn path(leaves: &[Sha256], at: usize) -> Vec<Sha256> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let middle = split(leaves.len());
        let (left, right) = leaves.split_at(middle);
        let (mut steps, other) =
            if at < middle { (path(left, at), tree(right)) } else { (path(right, at - middle), tree(left)) };
        steps.push(other);
        steps
    }

    fn split(count: usize) -> usize {
        count.next_power_of_two() / 2
    }

    #[test]
    fn every_leaf_of_small_trees() {
        for size in 1..20_u64 {
            let leaves: Vec<_> = (0..size).map(leaf).collect();
            let root = tree(&leaves);
            for at in 0..size {
                let steps = path(&leaves, usize::try_from(at).unwrap());
                assert_eq!(root_of(leaf(at), at, size, &steps), Some(root), "{at} of {size}");
                assert_ne!(root_of(leaf(at + 1), at, size, &steps), Some(root));
                assert_ne!(root_of(leaf(at), at + 1, size, &steps), Some(root), "{at} of {size}");
                let more = [&steps[..], &[leaf(at)]].concat();
                assert_ne!(root_of(leaf(at), at, size, &more), Some(root));
                if let Some((_, fewer)) = steps.split_last() {
                    assert_ne!(root_of(leaf(at), at, size, fewer), Some(root));
                }
                let mut other = steps.clone();
                if let Some(first) = other.first_mut() {
                    *first = leaf(99);
                    assert_ne!(root_of(leaf(at), at, size, &other), Some(root));
                }
            }
        }
        assert_eq!(root_of(leaf(0), 0, 0, &[]), None);
        assert_eq!(root_of(leaf(0), 0, u64::MAX, &[leaf(1); MOST_STEPS + 1]), None);
    }

    #[test]
    fn checkpoints() {
        let root = bundle_format::text::base64(&[7; 32]);
        let good =
            format!("log.example - 1\n5\n{root}\nmore\n\n\u{2014} log.example AAAAAAE=\n\u{2014} witness AAAAAAI=\n");
        let checkpoint = Checkpoint::parse(&good).unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (5, Sha256::from_bytes([7; 32])));
        assert!(checkpoint.signed.ends_with("more\n") && checkpoint.signatures.len() == 2);
        for (from, to) in
            [("\n\n", "\n"), ("\n5\n", "\nfive\n"), ("\u{2014} log", "- log"), ("AAAAAAE=", "A"), (&root[..], "AA==")]
        {
            assert!(Checkpoint::parse(&good.replacen(from, to, 1)).is_none(), "{to}");
        }
    }
}
