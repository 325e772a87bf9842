//! Every rule of the specification that refuses something has a vector that breaks it.
//!
//! A rule is every `**R-XXX-n**` of `docs/spec`. It stands in a table of error kinds, and then a
//! vector names it, or a test of a whole program does ([`SHOWN`]); or the document lists it among
//! those that say what a reader does, not what it refuses, and then a vector or a test shows that, or
//! [`UNSHOWN`] owns that none does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::shown::{SHOWN, UNSHOWN};
use crate::{Input, all};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Rule ids of a text in its order, `R-SIG-8 to 11` and `R-LIM-1 to 3, 5 and 7` written out.
fn ids(text: &str) -> Vec<String> {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("R-") {
        rest = &rest[at + 2..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_uppercase()).len();
        let (family, tail) = rest.split_at(letters);
        let Some(tail) = tail.strip_prefix('-').filter(|_| letters > 1) else { continue };
        let mut end = digits(tail);
        let Ok(mut last) = tail[..end].parse::<u32>() else { continue };
        found.push(format!("R-{family}-{last}"));
        while let Some((word, more)) =
            [" to ", ", ", " and "].iter().find_map(|word| Some((*word, tail[end..].strip_prefix(*word)?)))
        {
            let len = digits(more);
            let Ok(number) = more[..len].parse::<u32>() else { break };
            let from = if word == " to " { last + 1 } else { number };
            found.extend((from..=number).map(|n| format!("R-{family}-{n}")));
            last = number;
            end += word.len() + len;
        }
        rest = &tail[end..];
    }
    found
}

/// Whether a source has a `#[test]` of this name: the attribute stands in the lines right above it.
fn has_test(source: &str, name: &str) -> bool {
    let begins = format!("fn {name}()");
    source.match_indices(&begins).any(|(at, _)| {
        let above = source[..at].lines().rev().skip(usize::from(!source[..at].ends_with('\n')));
        above.take_while(|line| line.trim().starts_with("#[")).any(|line| line.trim() == "#[test]")
    })
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let source = "#[test]\n#[allow(x)]\nfn good() {}\n\nfn plain() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn inner() {}\n    fn helper() {}\n}\n";
    assert!(has_test(source, "good") && has_test(source, "inner"));
    for name in ["plain", "helper", "nowhere", "inne"] {
        assert!(!has_test(source, name), "{name}");
    }
}

/// What is wrong with a line of [`SHOWN`].
pub(crate) fn lie(file: &str, test: &str) -> Option<String> {
    let Ok(source) = std::fs::read_to_string(root().join(file)) else {
        return Some(format!("there is no file {file}"));
    };
    if test.is_empty() {
        let name = file.rsplit('/').next().unwrap();
        let run = std::fs::read_to_string(root().join("tests/vm/isolated.sh")).unwrap();
        return (!run.contains(name)).then(|| format!("nothing runs {file}"));
    }
    (!has_test(&source, test)).then(|| format!("{file} has no test {test}"))
}

#[test]
fn every_limit_is_in_the_specification_and_has_a_test() {
    let text = std::fs::read_to_string(root().join("manifests/src/limits.rs")).unwrap();
    let coded: BTreeSet<String> = ids(&text).into_iter().filter(|id| id.starts_with("R-LIM-")).collect();
    let spec = spec();
    let limits: BTreeSet<String> = spec.defined.keys().filter(|id| id.starts_with("R-LIM-")).cloned().collect();
    assert_eq!(coded, limits, "limits.rs and section 9 differ");
    let constants = text.lines().filter(|line| line.starts_with("pub const ")).count();
    assert_eq!(constants, limits.len(), "a limit without its rule, or a rule with two limits");
    let vectors = all();
    let tested: BTreeSet<&str> = vectors.iter().flat_map(|vector| vector.rules.iter().copied()).collect();
    let tested = |rule: &String| tested.contains(rule.as_str()) || SHOWN.iter().any(|(of, _, _)| of == rule);
    let missing: Vec<_> = limits.iter().filter(|rule| !tested(rule)).collect();
    assert!(missing.is_empty(), "limits without a test: {missing:?}");
    println!("{} limits, each with a test", limits.len());
}

/// Defined rules with their documents, rules of the error tables, rules that refuse nothing.
#[derive(Default)]
struct Spec {
    defined: BTreeMap<String, String>,
    refusing: BTreeSet<String>,
    saying: BTreeSet<String>,
}

fn spec() -> Spec {
    let mut spec = Spec::default();
    for entry in std::fs::read_dir(root().join("docs/spec")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("**R-") {
            let bold = text[at + 2..].split_once("**").unwrap().0;
            for id in ids(bold) {
                let former = spec.defined.insert(id.clone(), name.clone());
                assert!(former.is_none(), "{id} is defined in {name} and in {former:?}");
            }
        }
        for line in text.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let code = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit()) && cell.len() < 60;
            if line.starts_with('|')
                && cells.len() == 3
                && code(cells[2])
                && (cells[0].starts_with("R-") || cells[1].contains('`'))
            {
                spec.refusing.extend(ids(line));
            }
            if line.starts_with("Rules that have no line here (") {
                spec.saying.extend(ids(line.split_once(')').unwrap().0));
            }
        }
    }
    spec
}

#[test]
fn ids_are_written_out() {
    let of = |text: &str| ids(text).join(" ");
    assert_eq!(of("R-JSON-1 to 4"), "R-JSON-1 R-JSON-2 R-JSON-3 R-JSON-4");
    assert_eq!(of("R-A1 R-SIG-8, R-SIG-9"), "R-SIG-8 R-SIG-9");
    assert_eq!(
        of("R-LIM-1 to 2, 15 to 16, 19, 20 | `X`; R-LIM-21"),
        "R-LIM-1 R-LIM-2 R-LIM-15 R-LIM-16 R-LIM-19 R-LIM-20 R-LIM-21"
    );
    assert_eq!(of("R-PRF-1 to 2 and 6 to 7)"), "R-PRF-1 R-PRF-2 R-PRF-6 R-PRF-7");
}

#[test]
fn every_rule_that_refuses_has_a_vector() {
    let spec = spec();
    let vectors = all();
    let nameless: Vec<&str> = vectors.iter().filter(|v| v.rules.is_empty()).map(|v| v.defect.as_str()).collect();
    assert!(nameless.is_empty(), "vectors that break no rule: {nameless:?}");
    let mut names = BTreeSet::new();
    let twice: Vec<&str> = vectors.iter().map(|v| v.defect.as_str()).filter(|name| !names.insert(*name)).collect();
    assert!(twice.is_empty(), "one name for two vectors: {twice:?}");
    let claimed: BTreeSet<&str> = vectors.iter().flat_map(|vector| vector.rules).copied().collect();
    let unknown: Vec<&&str> = claimed.iter().filter(|rule| !spec.defined.contains_key(**rule)).collect();
    assert!(unknown.is_empty(), "vectors name rules that the specification lacks: {unknown:?}");
    let elsewhere: BTreeSet<&str> = SHOWN.iter().map(|(rule, _, _)| *rule).collect();
    let lies: Vec<_> = SHOWN.iter().filter_map(|(rule, file, test)| Some((rule, lie(file, test)?))).collect();
    assert!(lies.is_empty(), "{lies:#?}");
    let shown = |rule: &str| claimed.contains(rule) || elsewhere.contains(rule);
    let missing: Vec<_> = spec.refusing.iter().filter(|rule| !shown(rule)).collect();
    assert!(missing.is_empty(), "rules of the error tables without a vector: {missing:?}");
    let unshown: BTreeSet<&str> = UNSHOWN.iter().map(|(rule, _)| *rule).collect();
    let untold: Vec<_> = spec.saying.iter().filter(|rule| !shown(rule) && !unshown.contains(rule.as_str())).collect();
    assert!(untold.is_empty(), "rules that nothing shows: {untold:?}");
    let idle: Vec<_> = unshown.iter().filter(|rule| shown(rule) || !spec.saying.contains(**rule)).collect();
    assert!(idle.is_empty(), "named as shown by nothing, but shown or no such rule: {idle:?}");
    let strangers: Vec<_> = elsewhere.iter().filter(|rule| !spec.defined.contains_key(**rule)).collect();
    assert!(strangers.is_empty(), "SHOWN names rules that the specification lacks: {strangers:?}");
    let listed = |rule: &&String| spec.refusing.contains(*rule) || spec.saying.contains(*rule);
    let lost: Vec<_> = spec.defined.keys().filter(|rule| !listed(rule)).collect();
    assert!(lost.is_empty(), "rules in no error table and not said to refuse nothing: {lost:?}");
    let phantom: Vec<_> =
        spec.refusing.iter().chain(&spec.saying).filter(|rule| !spec.defined.contains_key(*rule)).collect();
    assert!(phantom.is_empty(), "rules in a table that are defined nowhere: {phantom:?}");
    let bundles = vectors.iter().filter(|v| matches!(v.input, Input::Bundle { .. })).count();
    println!(
        "{} hostile vectors ({bundles} bundles, {} parts) break {} of {} rules; {} are shown by named tests of programs, {} by none",
        vectors.len(),
        vectors.len() - bundles,
        claimed.len(),
        spec.defined.len(),
        elsewhere.len(),
        unshown.len()
    );
    assert!(vectors.len() >= 200);
}
