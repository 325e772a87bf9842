//! Every rule of the specification that refuses something has a vector that breaks it.
//!
//! A rule is every `**R-XXX-n**` of `docs/spec`. It stands in a table of error kinds, and then a
//! vector names it, or a test of a whole program does ([`ELSEWHERE`]); or the document lists it
//! among those that say what a reader does, not what it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{Input, all};

/// Rules whose refusal is a whole program's, with the test that shows it: rule, file, function.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("R-AUD-5", "installer/src/audit/tests.rs", "what_is_gone_or_broken_is_never_begun_anew_silently"),
    ("R-AUD-11", "tests/tests/audit.rs", "a_full_audit_disk_stops_changes_and_nothing_else"),
    ("R-BAK-4", "installer/src/backup/mod.rs", "data_that_would_not_fit_is_refused"),
    ("R-CAR-1", "tests/tests/volumes.rs", "strangers_are_told_apart"),
    ("R-CUS-17", "tests/tests/custody_programs.rs", "what_is_refused_before_a_record_is_written"),
    ("R-CUS-20", "tests/tests/custody.rs", "the_high_sides_policy"),
    ("R-CUS-22", "tests/tests/custody.rs", "the_high_sides_policy"),
    ("R-CUS-23", "tests/tests/custody_programs.rs", "two_hand_overs_are_proved_on_import_and_every_damage_is_refused"),
    ("R-LCK-1", "manifests/src/lock.rs", "refusals"),
    ("R-LCK-2", "manifests/src/lock.rs", "a_lock_of_another_release_is_refused"),
    ("R-LIF-5", "installer/src/release.rs", "a_lifecycle_that_names_what_no_workload_has_is_refused"),
    ("R-LNK-9", "tests/tests/link.rs", "late_receiver_and_restarts_of_either_end"),
    ("R-PRF-5", "tests/tests/install.rs", "policy_refuses_marking_platform_and_age"),
    ("R-REC-3", "tests/tests/custody_programs.rs", "a_receipt_is_confirmed_on_the_low_side"),
    ("R-VOL-5", "tests/tests/volumes.rs", "what_is_wrong_with_a_volume_is_said"),
    ("R-VOL-6", "tests/tests/volumes.rs", "strangers_are_told_apart"),
    ("R-VOL-8", "tests/tests/volumes.rs", "beyond_the_promise_it_names_what_to_burn_again"),
];

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
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(rule, _, _)| *rule).collect();
    for (rule, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains(&format!("fn {test}()")), "{rule}: {file} has no test {test}");
        assert!(spec.defined.contains_key(*rule), "{rule} is named in ELSEWHERE, but not defined");
    }
    let shown = |rule: &str| claimed.contains(rule) || elsewhere.contains(rule);
    let missing: Vec<_> = spec.refusing.iter().filter(|rule| !shown(rule)).collect();
    assert!(missing.is_empty(), "rules of the error tables without a vector: {missing:?}");
    let listed = |rule: &&String| spec.refusing.contains(*rule) || spec.saying.contains(*rule);
    let lost: Vec<_> = spec.defined.keys().filter(|rule| !listed(rule)).collect();
    assert!(lost.is_empty(), "rules in no error table and not said to refuse nothing: {lost:?}");
    let phantom: Vec<_> =
        spec.refusing.iter().chain(&spec.saying).filter(|rule| !spec.defined.contains_key(*rule)).collect();
    assert!(phantom.is_empty(), "rules in a table that are defined nowhere: {phantom:?}");
    let bundles = vectors.iter().filter(|v| matches!(v.input, Input::Bundle { .. })).count();
    println!(
        "{} hostile vectors ({bundles} bundles, {} parts) break {} rules; {} rules by tests of programs; {} rules refuse nothing; {} rules in all",
        vectors.len(),
        vectors.len() - bundles,
        claimed.len(),
        elsewhere.len(),
        spec.saying.len(),
        spec.defined.len()
    );
    assert!(vectors.len() >= 200);
}
