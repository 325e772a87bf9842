//! Our chain of trust roots against the reference implementation of TUF: thousands of seeded random
//! chains, sound and broken in every way that we know, must get the same verdict from both. Where we
//! rightly refuse what TUF takes, [`Chain::stricter`] says by which rule (spec 4.2, 4.4) and with which
//! error; the other way round never happens.
//!
//! TUF sees the Ed25519 half: `tuf/judge.py` makes root metadata of it and signs with the same keys.
//! Needs what `tests/setup/tuf.sh` installs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, reason = "the counts are part of the test's report")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use bundle_format::ErrorKind;
use bundle_format::key::{PublicKey, Scheme};
use bundle_format::root::{RootEnvelope, TrustRoot, TrustedRoot, apply_chain};
use bundle_format::signature::{Signature, Value};
use bundle_format::text::hex;
use serde_json::json;
use signing_keys::Signer;
use system_tests::keys;

const CHAINS: u64 = 3200;
/// Who may be listed together; signer 7 never is.
const CASTS: [&[u8]; 5] = [&[1, 2], &[1, 2, 3], &[1, 2, 4], &[1, 2, 5, 6], &[1, 2, 3, 6]];
const STRANGER: u8 = 7;

/// `SplitMix64` (Steele, Lea, Flood 2014): a fixed stream of numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// Some of these, in their order.
    fn some(&mut self, of: &[u8], count: usize) -> Vec<u8> {
        let mut left = of.to_vec();
        while left.len() > count {
            left.remove(self.below(left.len()));
        }
        left
    }
}

/// A signer and what is wrong with the signature, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Made {
    Sound,
    Flipped,
    OverOtherText,
}

/// A role: threshold and signers by number; the same number twice is a key twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Role {
    threshold: usize,
    signers: Vec<u8>,
}

/// One root, as its maker meant it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Link {
    version: u64,
    expired: bool,
    listed: Vec<u8>,
    /// This signer's keys stand under ids that are not theirs, beside their own entry.
    alias: Option<u8>,
    root: Role,
    release: Role,
    signatures: Vec<(u8, Made)>,
    /// One signature stands twice in the file.
    doubled: bool,
}

#[derive(Debug)]
struct Chain {
    trusted: usize,
    links: Vec<Link>,
    names: BTreeSet<&'static str>,
}

impl Chain {
    /// A sound rotation, then, for two in three, one or two defects.
    fn random(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut links: Vec<Link> = Vec::new();
        for version in 1..=1 + random.below(4) {
            // Few casts of signers, two of whom always stay: a signature over one text is then made once
            // for many chains.
            let listed = CASTS[random.below(CASTS.len())].to_vec();
            let threshold = 1 + random.below(2);
            let root = Role { threshold, signers: listed.clone() };
            let release = Role { threshold: 1, signers: listed[..1].to_vec() };
            let mut signers: BTreeSet<u8> = random.some(&listed, threshold).into_iter().collect();
            if let Some(last) = links.last() {
                signers.extend(random.some(&last.root.signers, last.root.threshold));
            }
            if random.one_in(3) {
                signers.extend(&listed);
            }
            let signatures = signers.into_iter().map(|signer| (signer, Made::Sound)).collect();
            let expired = random.one_in(4);
            let version = u64::try_from(version).unwrap();
            links.push(Link { version, expired, listed, alias: None, root, release, signatures, doubled: false });
        }
        let trusted = if random.one_in(4) { random.below(links.len()) } else { 0 };
        let mut chain = Self { trusted, links, names: BTreeSet::new() };
        for _ in 0..[0, 1, 1, 2][random.below(4)] {
            chain.damage(&mut random);
        }
        chain
    }

    fn damage(&mut self, random: &mut Random) {
        let at = random.below(self.links.len());
        let link = &mut self.links[at];
        let signed = link.signatures.len();
        let name = match random.below(18) {
            0 => {
                link.signatures.clear();
                "unsigned"
            }
            1 | 2 if signed > 0 => {
                link.signatures.remove(random.below(signed));
                "one signature less"
            }
            3 if signed > 0 => {
                link.doubled = true;
                "one signature twice"
            }
            4 => {
                link.root.signers.push(link.root.signers[0]);
                "a key twice in the role"
            }
            5 => {
                link.version += 1;
                "version skipped"
            }
            6 => {
                link.version = link.version.saturating_sub(1);
                "version again, or 0"
            }
            7 => {
                link.version = 1 << 31;
                "fast-forwarded"
            }
            8 if signed > 0 => {
                link.signatures[random.below(signed)].1 = Made::Flipped;
                "a flipped bit"
            }
            9 if signed > 0 => {
                link.signatures[random.below(signed)].1 = Made::OverOtherText;
                "a signature over another text"
            }
            10 => {
                link.signatures.push((STRANGER, Made::Sound));
                "a stranger's signature besides"
            }
            11 => {
                link.root.threshold = 0;
                "threshold 0"
            }
            12 => {
                link.root.threshold = link.listed.len() + 1;
                "threshold over the keys"
            }
            13 => {
                // Who held the role is listed still and signs still, but counts no more.
                let out = link.root.signers.remove(random.below(link.root.signers.len()));
                if !link.signatures.iter().any(|(signer, _)| *signer == out) {
                    link.signatures.push((out, Made::Sound));
                }
                "signed by a key of another role"
            }
            14 => {
                link.release.threshold = link.release.signers.len() + 1;
                "a release role that could never be met"
            }
            15 => {
                link.root.signers.push(STRANGER);
                "a role that names an unlisted key"
            }
            16 => {
                link.alias = Some(link.listed[0]);
                "one key under two ids"
            }
            _ if self.links.len() > 1 => {
                self.links.remove(at);
                self.trusted = self.trusted.min(self.links.len() - 1);
                "version missing"
            }
            _ => "nothing",
        };
        self.names.insert(name);
    }

    /// By which rules we refuse this chain although TUF 1.0.34 might take it, each with the kinds of
    /// error that it gives, of whatever is wrong by it here.
    fn stricter(&self) -> Faults {
        let mut faults = Faults::new();
        for (at, link) in self.links.iter().enumerate() {
            // 5.3.4 passes over signatures that do not verify or come from nobody.
            // As an anchor, a root of version 1 has nobody before it.
            let first = at == 0 || at == self.trusted && link.version == 1;
            let known =
                |signer: u8| link.listed.contains(&signer) || !first && self.links[at - 1].listed.contains(&signer);
            for (signer, made) in &link.signatures {
                match (known(*signer), made) {
                    (false, _) => note(&mut faults, "R-SIG-8", "UnknownKey"),
                    (true, Made::Flipped | Made::OverOtherText) => note(&mut faults, "R-SIG-8", "BadSignature"),
                    (true, Made::Sound) => {}
                }
            }
            // The client is to compute key ids, and the reference implementation does not.
            if link.alias.is_some() {
                note(&mut faults, "R-SIG-1", "Inconsistent");
            }
            // TUF has no rule for roles that it does not ask just then, nor for ids without a key.
            let unlisted = |role: &Role| role.signers.iter().any(|signer| !link.listed.contains(signer));
            if link.release.threshold > link.release.signers.len() || unlisted(&link.root) {
                note(&mut faults, "R-ROOT-3", "Inconsistent");
            }
        }
        // TUF starts at whatever version the site trusts.
        if self.links[0].version != 1 {
            note(&mut faults, "R-ROOT-6", "RootVersion");
        }
        // And never looks at what lies before it, nor at how the trusted root came of that.
        for kind in (0..self.trusted).flat_map(|at| self.of_link(at)).chain(self.follows(self.trusted)) {
            note(&mut faults, "R-ROOT-10", kind);
        }
        faults
    }

    /// The kinds of error for what both refuse: of the trusted root and of what follows it.
    fn common(&self) -> BTreeSet<&'static str> {
        let later = (self.trusted + 1..self.links.len()).flat_map(|at| self.of_link(at));
        self.of_root(self.trusted).into_iter().chain(later).collect()
    }

    /// What is wrong with a root and how it follows from the one before.
    fn of_link(&self, at: usize) -> BTreeSet<&'static str> {
        self.of_root(at).union(&self.follows(at)).copied().collect()
    }

    /// What is wrong with a root by itself.
    fn of_root(&self, at: usize) -> BTreeSet<&'static str> {
        let link = &self.links[at];
        let members: BTreeSet<u8> = link.root.signers.iter().copied().collect();
        let mut kinds = BTreeSet::new();
        let threshold = link.root.threshold;
        if link.version == 0 || threshold == 0 || members.len() < link.root.signers.len().max(threshold) {
            kinds.insert("Inconsistent");
        }
        let signers: BTreeSet<u8> = link.signatures.iter().map(|(signer, _)| *signer).collect();
        if link.doubled && !link.signatures.is_empty() || signers.len() < link.signatures.len() {
            // The file form has each key once, in its order.
            kinds.insert("NotCanonical");
        }
        if link.signed_by(&link.root) < threshold {
            kinds.insert("Threshold");
        }
        kinds
    }

    /// What is wrong with how a root follows from the one before.
    fn follows(&self, at: usize) -> BTreeSet<&'static str> {
        let mut kinds = BTreeSet::new();
        let Some(former) = at.checked_sub(1).map(|before| &self.links[before]) else { return kinds };
        let link = &self.links[at];
        if link.version != former.version + 1 {
            kinds.insert("RootVersion");
        }
        // Of the trusted version, with other bytes.
        let trusted = self.links[self.trusted].version;
        if link.version == former.version && link.version == trusted {
            kinds.insert("UnknownRoot");
        }
        if link.signed_by(&former.root) < former.root.threshold {
            kinds.insert("Threshold");
        }
        kinds
    }
}

/// Kinds of error by rule.
type Faults = BTreeMap<&'static str, BTreeSet<&'static str>>;

fn note(faults: &mut Faults, rule: &'static str, kind: &'static str) {
    faults.entry(rule).or_default().insert(kind);
}

impl Link {
    /// Signers of a role who signed soundly.
    fn signed_by(&self, role: &Role) -> usize {
        let sound = self.signatures.iter().filter(|(_, made)| *made == Made::Sound).map(|(signer, _)| *signer);
        sound.filter(|signer| role.signers.contains(signer)).collect::<BTreeSet<u8>>().len()
    }
}

/// A TEST signer of this test by number.
fn signer(number: u8) -> Signer {
    keys::signer(&format!("test-{number}"), 40 + number)
}

/// The signers' public keys by number, and every signature that was made once.
struct Office {
    keys: Vec<Vec<PublicKey>>,
    made: Mutex<HashMap<(String, u8), [Signature; 2]>>,
}

impl Office {
    fn new() -> Self {
        let keys = (0..=STRANGER).map(|number| signer(number).public().holder().keys).collect();
        Self { keys, made: Mutex::default() }
    }

    fn key(&self, signer: u8, scheme: Scheme) -> PublicKey {
        self.keys[usize::from(signer)].iter().find(|key| key.scheme() == scheme).unwrap().clone()
    }

    fn signatures(&self, text: &str, number: u8) -> [Signature; 2] {
        let key = (text.to_owned(), number);
        if let Some(made) = self.made.lock().unwrap().get(&key) {
            return made.clone();
        }
        let made = signer(number).sign(text.as_bytes(), "lockgate root").unwrap();
        self.made.lock().unwrap().insert(key, made.clone());
        made
    }

    /// The root's payload in canonical form, consistent or not.
    fn payload(&self, link: &Link) -> String {
        let entry = |signer: u8, scheme: Scheme, id: String| {
            let text = self.key(signer, scheme).to_text();
            format!(r#"{{"id":"{id}","scheme":"{scheme}","holder":"test-{signer}","public":"{text}"}}"#)
        };
        let mut entries = Vec::new();
        for signer in &link.listed {
            for scheme in Scheme::ALL {
                entries.push(entry(*signer, scheme, self.key(*signer, scheme).id().to_string()));
            }
        }
        if let Some(signer) = link.alias {
            for scheme in Scheme::ALL {
                entries.push(entry(signer, scheme, alias(&self.key(signer, scheme))));
            }
        }
        let role = |role: &Role| {
            let mut ids: Vec<String> = Vec::new();
            for signer in &role.signers {
                ids.extend(Scheme::ALL.map(|scheme| format!("\"{}\"", self.key(*signer, scheme).id())));
            }
            if let (Some(signer), true) = (link.alias, *role == link.root) {
                ids.extend(Scheme::ALL.map(|scheme| format!("\"{}\"", alias(&self.key(signer, scheme)))));
            }
            format!(r#"{{"threshold":{},"keys":[{}]}}"#, role.threshold, ids.join(","))
        };
        format!(
            "{{\"format\":\"lockgate-root/1\",\"version\":{},\"issued\":\"2020-01-01T00:00:00Z\",\"expires\":\"{}\",\"keys\":[{}],\"roles\":{{\"root\":{},\"release\":{}}}}}\n",
            link.version,
            expiry(link),
            entries.join(","),
            role(&link.root),
            role(&link.release)
        )
    }

    /// The root's file.
    fn file(&self, link: &Link) -> Vec<u8> {
        let text = self.payload(link);
        let mut signatures = Vec::new();
        for (signer, made) in &link.signatures {
            let over = if *made == Made::OverOtherText { format!("{text} ") } else { text.clone() };
            let mut pair = self.signatures(&over, *signer);
            if *made == Made::Flipped {
                let Value::Ed25519 { signature, .. } = &mut pair[0].value else { panic!() };
                signature[0] ^= 1;
            }
            signatures.extend(pair);
        }
        if let (Some(signer), Some((_, Made::Sound))) =
            (link.alias, link.signatures.iter().find(|(signer, _)| Some(*signer) == link.alias))
        {
            for signature in self.signatures(&text, signer) {
                let id = alias(&self.key(signer, signature.scheme()));
                signatures.push(Signature { key: bundle_format::key::KeyId::parse(&id).unwrap(), ..signature });
            }
        }
        if link.doubled && !signatures.is_empty() {
            signatures.push(signatures[0].clone());
        }
        keys::root_file_of(&text, signatures)
    }

    /// The Ed25519 half for TUF.
    fn translated(&self, link: &Link) -> serde_json::Value {
        let id = |signer: u8| self.key(signer, Scheme::Ed25519).id().to_string();
        let key = |signer: u8| hex(self.key(signer, Scheme::Ed25519).as_bytes());
        let mut listed: Vec<_> = link.listed.iter().map(|s| json!({"id": id(*s), "public": key(*s)})).collect();
        let role = |role: &Role, more: Option<String>| {
            let ids: Vec<String> = role.signers.iter().map(|signer| id(*signer)).chain(more).collect();
            json!({"threshold": role.threshold, "keys": ids})
        };
        let signature = |id: String, signer: u8, made: Made| {
            let flip = u8::from(made == Made::Flipped);
            json!({"id": id, "seed": hex(&keys::seeds(40 + signer).0), "over_this": made != Made::OverOtherText, "flip": flip})
        };
        let mut signatures: Vec<_> = link.signatures.iter().map(|(s, made)| signature(id(*s), *s, *made)).collect();
        let other = link.alias.map(|signer| alias(&self.key(signer, Scheme::Ed25519)));
        if let (Some(signer), Some(other)) = (link.alias, &other) {
            listed.push(json!({"id": other, "public": key(signer)}));
            if link.signatures.contains(&(signer, Made::Sound)) {
                signatures.push(signature(other.clone(), signer, Made::Sound));
            }
        }
        if link.doubled && !signatures.is_empty() {
            signatures.push(signatures[0].clone());
        }
        let more = |of: &Role| other.clone().filter(|_| *of == link.root);
        json!({
            "version": link.version,
            "expires": expiry(link),
            "keys": listed,
            "root": role(&link.root, more(&link.root)),
            "release": role(&link.release, more(&link.release)),
            "signatures": signatures,
        })
    }

    /// Our verdict: the version trusted in the end, or why not.
    fn judge(&self, chain: &Chain) -> Result<u64, ErrorKind> {
        let files: Vec<Vec<u8>> = chain.links.iter().map(|link| self.file(link)).collect();
        let judge = || {
            let roots =
                files.iter().map(|file| RootEnvelope::parse(file)).collect::<bundle_format::Result<Vec<_>>>()?;
            let first = &roots[chain.trusted];
            let trusted = TrustedRoot::anchor(first, &first.claimed().fingerprint())?;
            Ok(apply_chain(&trusted, &roots)?.root().version())
        };
        judge().map_err(|error: bundle_format::Error| error.into_kind())
    }
}

/// An id that a key does not have.
fn alias(key: &PublicKey) -> String {
    let mut id = *key.id().as_bytes();
    id[0] ^= 0xff;
    hex(&id)
}

const fn expiry(link: &Link) -> &'static str {
    if link.expired { "2021-01-01T00:00:00Z" } else { "2120-01-01T00:00:00Z" }
}

/// Verdicts of the reference implementation, one for each chain.
fn reference(lines: &str) -> Vec<serde_json::Value> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(tests.join("setup/tuf.sh")).output().unwrap();
    assert!(made.status.success(), "tests/setup/tuf.sh: {}", String::from_utf8_lossy(&made.stderr));
    let python = String::from_utf8(made.stdout).unwrap();
    let mut child = Command::new(python.trim())
        .arg(tests.join("tests/tuf/judge.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(lines.as_bytes()).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "judge.py: {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_sound_chain_is_what_our_own_writer_makes() {
    let office = Office::new();
    let chain = (1..CHAINS).map(Chain::random).find(|chain| chain.names.is_empty() && chain.links.len() > 2).unwrap();
    for link in &chain.links {
        let text = office.payload(link);
        assert_eq!(TrustRoot::parse(text.as_bytes()).unwrap().to_bytes(), text.as_bytes());
        let file = office.file(link);
        assert_eq!(RootEnvelope::parse(&file).unwrap().to_bytes().unwrap(), file);
    }
}

#[test]
fn random_root_chains_get_the_verdict_of_the_reference_implementation() {
    let office = Office::new();
    let chains: Vec<Chain> = (1..=CHAINS).map(Chain::random).collect();
    let line = |chain: &Chain| {
        let links: Vec<_> = chain.links.iter().map(|link| office.translated(link)).collect();
        json!({"trusted": chain.trusted, "links": links}).to_string() + "\n"
    };
    let lines = by_two(&chains, line).concat();
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| reference(&lines));
        let ours = by_two(&chains, |chain| office.judge(chain));
        (theirs.join().unwrap(), ours)
    });
    assert_eq!(theirs.len(), chains.len());
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut determined = 0;
    for ((chain, ours), theirs) in chains.iter().zip(&ours).zip(&theirs) {
        let (stricter, common) = (chain.stricter(), chain.common());
        let rules: Vec<&str> = stricter.keys().copied().collect();
        let of_rules: BTreeSet<&str> = stricter.values().flatten().copied().collect();
        let taken = theirs.get("version").and_then(serde_json::Value::as_u64);
        // Never the verdict alone: our error is one that this very chain can give, and the only one where
        // only one is.
        let verdict = match (ours.as_ref().map_err(kind_of), taken) {
            (Ok(version), Some(other)) if *version == other && of_rules.is_empty() && common.is_empty() => {
                "both accept".to_owned()
            }
            (Err(kind), None) if of_rules.contains(&*kind) || common.contains(&*kind) => {
                determined += usize::from(of_rules.union(&common).count() == 1);
                "both refuse".to_owned()
            }
            (Err(kind), Some(_)) if of_rules.contains(&*kind) => format!("ours alone refuses, by {rules:?}: {kind}"),
            _ => {
                wrong.push(format!(
                    "{chain:?}: ours {ours:?}, TUF {theirs}, stricter by {stricter:?}, common {common:?}"
                ));
                continue;
            }
        };
        *counts.entry(verdict).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), chains.len(), &wrong[..wrong.len().min(5)]);
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    chains.iter().flat_map(|chain| &chain.names).for_each(|name| *named.entry(name).or_default() += 1);
    println!("{CHAINS} chains: {counts:#?}; one kind possible in {determined} of both; defects: {named:#?}");
    // The stream is fixed, so these are properties of the test, not of chance: every defect comes
    // often, and every verdict too.
    assert!(named.values().all(|count| *count >= 40), "{named:#?}");
    assert!(counts["both accept"] >= 500 && counts["both refuse"] >= 500, "{counts:#?}");
    assert!(determined >= 250, "{determined}");
    for (rule, kind) in [
        ("R-SIG-8", "BadSignature"),
        ("R-SIG-8", "UnknownKey"),
        ("R-SIG-1", "Inconsistent"),
        ("R-ROOT-3", "Inconsistent"),
        ("R-ROOT-6", "RootVersion"),
        ("R-ROOT-10", "Threshold"),
    ] {
        let alone = format!("ours alone refuses, by [\"{rule}\"]: {kind}");
        assert!(counts.get(&alone).is_some_and(|count| *count > 0), "{rule}, {kind}: {counts:#?}");
    }
}

/// What `make` makes of each chain, by two threads.
fn by_two<T: Send>(chains: &[Chain], make: impl Fn(&Chain) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let (left, right) = chains.split_at(chains.len() / 2);
        let other = scope.spawn(|| right.iter().map(&make).collect::<Vec<_>>());
        let mut all: Vec<_> = left.iter().map(&make).collect();
        all.extend(other.join().unwrap());
        all
    })
}

/// The name of an error's kind.
fn kind_of(kind: &ErrorKind) -> String {
    format!("{kind:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
