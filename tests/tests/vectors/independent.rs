//! `docs/isso/verify_bundle.py` is another implementation of the proof: it must say of every bundle
//! here, hostile or sound, what ours says, down to the class. Where it rightly says something else,
//! [`DIFFERS`] names the vector and the reason. Needs `python3`, `minisign` and `zstd`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use bundle_format::key::Scheme;
use bundle_format::root::TrustedRoot;
use bundle_format::signature::AlgorithmPolicy;

use crate::{Input, accepted, all, verdicts};

/// What neither Python's standard library nor minisign can see: the ML-DSA-87 half.
const ML_DSA: &str = "only ML-DSA-87 is wrong, which the standard library cannot verify; it says so in its output";
/// What needs the site's own store is no fault to it, but not success either.
const DELTA: &str = "it has no base to build on, says so and ends with 1";
/// What it cannot prove is no fault to it, but not success either.
const UNPROVED: &str = "no Ed25519 key signed the manifest, so that it cannot say who did; it says so and ends with 1";
/// It is given a fingerprint, not a root.
const OLDER: &str = "it takes the trusted root out of the bundle, and an older bundle does not hold it";

/// Vector, what the script ends with instead, why that is right.
const DIFFERS: &[(&str, i32, &str)] = &[
    ("one ML-DSA key under two names", 0, ML_DSA),
    ("ML-DSA over another manifest", 0, ML_DSA),
    ("context string", 0, ML_DSA),
    ("context of one zero byte", 0, ML_DSA),
    ("all zero ML-DSA", 0, ML_DSA),
    ("hint of another order", 0, ML_DSA),
    ("first bit flipped", 0, ML_DSA),
    ("signature over the digest of the text", 0, ML_DSA),
    ("HashML-DSA with SHA-512", 0, ML_DSA),
    ("HashML-DSA with SHAKE256", 0, ML_DSA),
    ("HashML-DSA with SHA-512, CNSA 2.0 site", 0, ML_DSA),
    ("HashML-DSA with SHAKE256, CNSA 2.0 site", 0, ML_DSA),
    ("an update by a delta", 1, DELTA),
    (accepted::ML_DSA_ALONE, 1, UNPROVED),
    ("older bundle under a newer root", 4, OLDER),
];

/// The entry of [`DIFFERS`] about a case.
fn differs(case: &Case) -> Option<&'static (&'static str, i32, &'static str)> {
    DIFFERS.iter().find(|(name, _, _)| *name == case.name)
}

struct Case {
    name: String,
    rules: &'static [&'static str],
    archive: Vec<u8>,
    trusted: TrustedRoot,
    policy: AlgorithmPolicy,
    expected: i32,
}

/// Hostile bundles as cases, with what ours ends with.
fn hostile() -> impl Iterator<Item = Case> {
    all().iter().zip(verdicts()).filter_map(|(vector, verdict)| match &vector.input {
        Input::Bundle { archive, trusted, policy } => Some(Case {
            name: vector.defect.clone(),
            rules: vector.rules,
            archive: archive.clone(),
            trusted: (**trusted).clone(),
            policy: *policy,
            expected: verdict.as_ref().map_or_else(|error| i32::from(error.class().exit_code()), |()| 0),
        }),
        Input::Part(_) => None,
    })
}

fn cases() -> Vec<Case> {
    let sound = accepted::sound().into_iter();
    let sound =
        sound.map(|(name, archive, trusted, policy)| Case { name, rules: &[], archive, trusted, policy, expected: 0 });
    hostile().chain(sound).collect()
}

fn isso() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/isso")
}

/// Debian's own interpreter, what an ISSO has; another one where that is missing.
fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" }
}

/// The script, ready to run for case after case (`judge.py`).
struct Runner {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Runner {
    fn new(script: &Path) -> Self {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/judge.py");
        let mut command = Command::new(python());
        command.arg(driver).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("this test runs python3: {error}"));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// Exit code of the script about one case, and what it said.
    fn run(&mut self, case: &Case, bundle: &Path) -> (i32, String) {
        std::fs::write(bundle, &case.archive).unwrap();
        let fingerprint = case.trusted.root().fingerprint().to_string();
        let mut args = vec![bundle.to_str().unwrap(), &fingerprint];
        match case.policy {
            AlgorithmPolicy::Hybrid => {}
            AlgorithmPolicy::Cnsa2 => args.extend(["--policy", "cnsa2"]),
            AlgorithmPolicy::Ed25519 => args.extend(["--policy", "ed25519"]),
        }
        writeln!(self.input, "{}", serde_json::to_string(&args).unwrap()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        std::fs::remove_file(bundle).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("judge.py: {error}: {line:?}"))
    }

    fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success(), "judge.py");
    }
}

/// Runs the script on every case on as many threads as there are processors; gives the verdicts.
fn judge(script: &Path, cases: &[Case]) -> Vec<(i32, String)> {
    let folder = tempfile::tempdir().unwrap();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut verdicts: Vec<(usize, (i32, String))> = std::thread::scope(|scope| {
        let work = || {
            let mut runner = Runner::new(script);
            let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|case| *case < cases.len());
            let bundle = |number: usize| folder.path().join(format!("{number}.bundle.tar"));
            let done: Vec<_> = std::iter::from_fn(mine).map(|n| (n, runner.run(&cases[n], &bundle(n)))).collect();
            runner.end();
            done
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    verdicts.sort_by_key(|(number, _)| *number);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

#[test]
fn the_independent_verifier_agrees_on_every_bundle() {
    let cases = cases();
    let script = isso().join("verify_bundle.py");
    let lines = std::fs::read_to_string(&script).unwrap().lines().count();
    assert!(lines <= 200, "verify_bundle.py has {lines} lines: an ISSO reads it in one sitting");
    let mut unused: Vec<&str> = DIFFERS.iter().map(|(name, _, _)| *name).collect();
    let (mut wrong, mut differing) = (Vec::new(), 0);
    for (case, (found, said)) in cases.iter().zip(judge(&script, &cases)) {
        let differs = differs(case);
        unused.retain(|name| differs.is_none_or(|(of, _, _)| of != name));
        differing += usize::from(differs.is_some());
        let expected = differs.map_or(case.expected, |(_, code, _)| *code);
        if found != expected || found == 99 {
            wrong.push(format!("{}: expected {expected}, found {found}: {said}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), cases.len());
    assert!(unused.is_empty(), "named in DIFFERS, but no case: {unused:?}");
    let sound = cases.iter().filter(|case| case.expected == 0).count();
    println!(
        "independent verifier: {} hostile and {sound} sound bundles judged, all as ours but {differing} named ones",
        cases.len() - sound
    );
}

/// What the script proves without the files beside it: everything but the forms of values and what is
/// inside token streams.
const ALONE: &[&str] =
    &["R-ARC", "R-PACK", "R-SIG", "R-ROOT-14", "R-ROOT-4", "R-ROOT-5", "R-ROOT-6", "R-ROOT-7", "R-ROOT-8", "R-ROOT-9"];
/// Among those, forms after all.
const FORMS: &[&str] = &["R-SIG-2", "R-ROOT-11", "R-ROOT-2", "R-PACK-8", "R-PACK-9", "R-PACK-10"];

#[test]
fn alone_it_proves_all_but_forms_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("verify_bundle.py");
    std::fs::copy(isso().join("verify_bundle.py"), &script).unwrap();
    let of = |case: &Case, families: &[&str]| {
        case.rules.iter().any(|rule| families.iter().any(|start| rule.starts_with(start)))
    };
    let forms = |case: &Case| case.rules.iter().any(|rule| FORMS.contains(rule));
    let cases: Vec<Case> = hostile()
        .filter(|case| of(case, ALONE) && !forms(case) && differs(case).is_none() && !case.name.starts_with("tokens"))
        .collect();
    let wrong: Vec<String> = cases
        .iter()
        .zip(judge(&script, &cases))
        .filter(|(case, (found, _))| *found != case.expected)
        .map(|(case, (found, said))| format!("{}: expected {}, found {found}: {said}", case.name, case.expected))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("independent verifier alone: {} hostile bundles refused", cases.len());
}

#[test]
fn without_zstd_it_proves_what_was_signed_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let paths = std::env::var_os("PATH").unwrap();
    let minisign = std::env::split_paths(&paths).map(|path| path.join("minisign")).find(|path| path.exists()).unwrap();
    std::os::unix::fs::symlink(minisign, folder.path().join("minisign")).unwrap();
    let draft = system_tests::Draft::small();
    let fingerprint = draft.trusted().root().fingerprint().to_string();
    let judge = |name: &str, archive: &[u8], path: &Path| {
        let bundle = folder.path().join(name);
        std::fs::write(&bundle, archive).unwrap();
        let mut command = Command::new(python());
        command.arg(isso().join("verify_bundle.py")).arg(&bundle).arg(&fingerprint).env("PATH", path);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = judge("good.tar", &draft.archive(), folder.path());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not decoded here, frames proved: packs/00000 (zstd)"), "{said}");
    let mut flipped = draft.archive();
    let at = system_tests::ustar::place(&flipped, "packs/00000").content.start;
    flipped[at] ^= 1;
    assert_eq!(judge("flipped.tar", &flipped, folder.path()).0, Some(3));
    assert_eq!(judge("good.tar", &draft.archive(), Path::new("/nonexistent")).0, Some(6), "no minisign");
}

#[test]
fn what_only_ml_dsa_signed_is_not_called_proved() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("b.bundle.tar");
    let (archive, trusted) = accepted::of_one_scheme(Scheme::MlDsa87);
    std::fs::write(&bundle, archive).unwrap();
    let mut command = Command::new(python());
    command.arg(isso().join("verify_bundle.py")).arg(&bundle).arg(trusted.root().fingerprint().to_string());
    let hybrid = command.output().unwrap();
    assert_eq!(hybrid.status.code(), Some(4), "{hybrid:?}");
    let output = command.args(["--policy", "cnsa2"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("NOTE  NOT PROVED") && said.contains("ML-DSA-87 signatures were counted"), "{said}");
    assert!(!said.contains("PASS  bundle"), "{said}");
}

#[test]
fn policy_refusals_have_their_own_code() {
    let draft = {
        let mut draft = system_tests::Draft::small();
        draft.manifest.expires = Some(bundle_format::timestamp::Timestamp::parse("2026-06-01T00:00:00Z").unwrap());
        draft
    };
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("b.bundle.tar");
    std::fs::write(&bundle, draft.archive()).unwrap();
    let fingerprint = draft.trusted().root().fingerprint().to_string();
    for (args, expected) in [
        (&["--floor", "7", "--now", "2026-05-31T23:59:59Z"][..], 0),
        (&["--floor", "8"], 5),
        (&["--now", "2026-06-01T00:00:00Z"], 5),
        (&["--policy", "cnsa2"], 0),
        (&["--policy", "none"], 2),
    ] {
        let script = isso().join("verify_bundle.py");
        let output = Command::new(python()).arg(script).arg(&bundle).arg(&fingerprint).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{args:?}: {output:?}");
    }
}
