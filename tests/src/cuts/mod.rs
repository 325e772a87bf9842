//! Every cut point: the real installer is killed, or refused a system call, at each operation that
//! outlives it; then it recovers, and what must hold is checked.
//!
//! strace makes the cuts ([`point`]), a simulated engine stands in for podman ([`crate::engine`]), so
//! that a point takes about a second. What is not seen here: a power cut that takes the engine's own
//! half-done work with it, and disks that lose what was not synced.

pub mod case;
pub mod ground;
pub mod invariant;
pub mod point;
pub mod systemd;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use case::{Case, seclude};
use ground::{Ground, PRODUCT};
use invariant::End;
use point::{Fault, Point, Reached};

use crate::engine::Knobs;
use crate::site::Said;

/// A command of the installer on a prepared folder, cut at each of its points.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Its name in reports.
    pub name: &'static str,
    /// The prepared folder that it starts from.
    pub from: &'static str,
    /// The command; `{one}`, `{two}` and `{backup}` stand for bundles and the backup.
    pub command: &'static [&'static str],
    /// Exit codes of a run that nothing disturbs, and of a recovery.
    pub codes: &'static [i32],
    /// Whether the prepared folder holds a change that is not over: then any failure is recovered from.
    pub open: bool,
    /// Ways in which a killed run is recovered, by turns.
    pub recoveries: &'static [Recovery],
    /// States in which it may end.
    pub ends: &'static [End],
}

/// What is done after a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recovery {
    /// A person runs `resume`.
    Resume,
    /// The machine starts anew: `resume --guard`, `resume --boot`; what that leaves to a person is resumed.
    Boot,
    /// A person runs the same command again.
    Again,
    /// The record has rotted as well, and its write-ahead log is lost: a person has it put back from its
    /// copy and resumes.
    Rotten,
}

/// A point of a flow with what happens there.
struct Cut<'a> {
    flow: &'a Flow,
    point: &'a Point,
    fault: Fault,
    /// Its place among all cuts of the flow.
    index: usize,
    /// Whether it is this fault's turn at the point: each point has one fault whose turn it is.
    turn: bool,
}

/// What became of the cuts of one flow.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Kills that were reached.
    pub kills: usize,
    /// Of them, by the way in which they were recovered from.
    pub ways: BTreeMap<Recovery, usize>,
    /// Cuts that were reached, by what was cut.
    pub classes: BTreeMap<&'static str, usize>,
    /// Failed calls that were reached.
    pub errors: usize,
    /// Cuts that came about elsewhere, or not at all: checked, not counted.
    pub missed: usize,
    /// Violated invariants.
    pub unrecoverable: Vec<String>,
}

/// Cuts from one of a sample of the usual size to the next.
pub const TURN: usize = 15;

/// Which cuts are made.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Each so many-th.
    pub every: usize,
    /// Where the counting begins, of cuts or of turns.
    pub seed: usize,
    /// Instead: each point once, the faults by turns.
    pub each: bool,
    /// Only names `flow/fault/index` that begin so.
    pub only: Option<String>,
}

impl Choice {
    /// From `LOCKGATE_CUTS_EVERY`, `LOCKGATE_CUTS_EACH`, `LOCKGATE_CUTS_SEED` and `LOCKGATE_CUTS_ONLY`.
    pub fn of_environment(every: usize) -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        Self {
            every: number("LOCKGATE_CUTS_EVERY").unwrap_or(every).max(1),
            seed: number("LOCKGATE_CUTS_SEED").unwrap_or(0),
            each: std::env::var_os("LOCKGATE_CUTS_EACH").is_some(),
            only: std::env::var("LOCKGATE_CUTS_ONLY").ok(),
        }
    }

    fn takes(&self, cut: &Cut<'_>) -> bool {
        match &self.only {
            Some(only) => cut.name().starts_with(only.as_str()),
            None if self.each => cut.turn,
            None => (cut.index + self.seed).is_multiple_of(self.every),
        }
    }
}

impl Cut<'_> {
    fn name(&self) -> String {
        format!("{}/{}/{}", self.flow.name, self.fault.word(), self.index)
    }

    /// The way in which a kill here is recovered from: always the same for this cut, all ways by turns for
    /// neighbours, for each [`TURN`]-th cut and for the kills among one cut at each point.
    fn way(&self) -> Recovery {
        let ways = self.flow.recoveries;
        ways[(self.index / TURN + self.index % TURN + self.index / Fault::ALL.len()) % ways.len()]
    }
}

/// Something on a prepared folder that is no cut.
pub fn alone<T: Send>(from: &str, act: impl FnOnce(&Case) -> T + Send) -> T {
    on(from, |_, case| act(case))
}

/// The same, with the ground that has the bundles.
pub fn on<T: Send>(from: &str, act: impl FnOnce(&Ground, &Case) -> T + Send) -> T {
    secluded(|ground, case| {
        ground.prepare_whole();
        case.copy_of(&ground.case(&format!("prepared/{from}")));
        act(ground, case)
    })
}

/// Kills a command so late that only what follows its commit is left. That begins somewhere behind the last
/// workload that it starts or stops, and ends before it does: looked for by halves.
pub fn cut_when_committed(ground: &Ground, case: &Case, args: &[&str]) {
    let saved = ground.case("before");
    saved.copy_of(case);
    let (_, points) = point::count(case, args);
    let last = points.iter().rposition(|point| point.about.starts_with("podman kube")).unwrap();
    let (mut low, mut high, mut found) = (last, points.len(), String::new());
    while low < high && found != "committed" {
        let middle = low.midpoint(high);
        case.copy_of(&saved);
        let killed = case.installer_under(&points[middle].cut(case, Fault::Kill), args).code == -1;
        found = if killed { phase(case) } else { "nothing".into() };
        if found == "nothing" { high = middle } else { low = middle + 1 }
    }
    assert_eq!(found, "committed", "{args:?}: never killed behind the commit");
}

/// Something on a folder that has a trust root and nothing else, with bundles of one's own.
pub fn fresh<T: Send>(act: impl FnOnce(&Ground, &Case) -> T + Send) -> T {
    secluded(|ground, case| {
        ground.prepare_fresh();
        case.copy_of(&ground.case("prepared/fresh"));
        act(ground, case)
    })
}

/// An update to `bundle` that is killed when it is about to start its first workload.
pub fn cut_at_first_start(ground: &Ground, case: &Case, bundle: &str) {
    let (saved, args) = (ground.case("saved"), ["--yes", "install", bundle]);
    saved.copy_of(case);
    let units = systemd::keep();
    let (_, points) = point::count(case, &args);
    let starts =
        |point: &&Point| point.about == "podman kube play" || point.about.starts_with("systemctl start lockgate-cut-");
    let first = points.iter().find(starts).unwrap();
    case.copy_of(&saved);
    units.put_back();
    case.tool("nft", &["flush", "ruleset"]).expect(0);
    let said = case.installer_under(&first.cut(case, Fault::Kill), &args);
    assert_eq!(said.code, -1, "{}", told("cut", &said));
}

fn secluded<T: Send>(act: impl FnOnce(&Ground, &Case) -> T + Send) -> T {
    let ground = Ground::new();
    let inside = || {
        seclude();
        act(&ground, &ground.case("work/alone"))
    };
    std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

/// Makes the prepared folders, counts the points of `flows` and makes the chosen cuts.
pub fn run(flows: &[Flow], choice: &Choice) -> BTreeMap<&'static str, Tally> {
    let ground = Ground::new();
    // The test's own thread stays where it is; what prepares is in a network of its own as well.
    let counted = std::thread::scope(|scope| {
        let count = || {
            seclude();
            ground.prepare_whole();
            prepare_cut(&ground);
            flows.iter().map(|flow| points(&ground, flow)).collect::<Vec<_>>()
        };
        scope.spawn(count).join().unwrap()
    });
    let mut cuts = Vec::new();
    for (flow, points) in flows.iter().zip(&counted) {
        say(&format!("cuts: {}: {} points", flow.name, points.len()));
        let all = Fault::ALL.into_iter().enumerate().flat_map(|(number, fault)| {
            let turn = move |at: usize| (at + choice.seed) % Fault::ALL.len() == number;
            points.iter().enumerate().map(move |(at, point)| (point, fault, turn(at)))
        });
        cuts.extend(all.enumerate().map(|(index, (point, fault, turn))| Cut { flow, point, fault, index, turn }));
    }
    cuts.retain(|cut| choice.takes(cut));
    make(&ground, flows, &cuts)
}

fn make(ground: &Ground, flows: &[Flow], cuts: &[Cut<'_>]) -> BTreeMap<&'static str, Tally> {
    let tallies = Mutex::new(flows.iter().map(|flow| (flow.name, Tally::default())).collect::<BTreeMap<_, _>>());
    let next = AtomicUsize::new(0);
    // The installer mostly waits for its children: more at a time than there are cores.
    let workers = 5 * std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (next, tallies) = (&next, &tallies);
            scope.spawn(move || {
                seclude();
                let case = ground.case(&format!("work/{worker}"));
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cut) = cuts.get(at) else { return };
                    let (reached, checked) = one(ground, &case, cut, at);
                    let mut tallies = tallies.lock().unwrap();
                    let tally = tallies.get_mut(cut.flow.name).unwrap();
                    match (reached, cut.fault) {
                        (Reached::Yes, Fault::Kill) => {
                            tally.kills += 1;
                            *tally.ways.entry(cut.way()).or_default() += 1;
                        }
                        (Reached::Yes, _) => tally.errors += 1,
                        _ => tally.missed += 1,
                    }
                    if reached == Reached::Yes {
                        *tally.classes.entry(cut.point.class()).or_default() += 1;
                    }
                    if let Err(why) = checked {
                        let new = tally.unrecoverable.iter().all(|other| signature(other) != signature(&why));
                        let story = if new { why.as_str() } else { why.lines().next().unwrap_or_default() };
                        say(&format!("cuts: UNRECOVERABLE {}: {story}", cut.name()));
                        tally.unrecoverable.push(why);
                    }
                    if at % 100 == 99 {
                        say(&format!("cuts: {} of {}", at + 1, cuts.len()));
                    }
                }
            });
        }
    });
    tallies.into_inner().unwrap()
}

/// One cut with its recovery: whether it came about, and what does not hold.
fn one(ground: &Ground, case: &Case, cut: &Cut<'_>, at: usize) -> (Reached, Result<(), String>) {
    case.copy_of(&ground.case(&format!("prepared/{}", cut.flow.from)));
    let command = command(ground, cut.flow);
    let args: Vec<&str> = command.iter().map(String::as_str).collect();
    let said = case.installer_under(&cut.point.cut(case, cut.fault), &args);
    let reached = cut.point.reached(case, cut.fault);
    let mut story = vec![told("cut", &said)];
    if reached == Reached::No && cut.fault != Fault::Kill {
        return (reached, Ok(()));
    }
    let recovered = recover(case, cut, &said, &args, &mut story);
    let checked = recovered.and_then(|()| invariant::check(ground, case, cut.flow.ends));
    let followed = checked.and_then(|end| if at.is_multiple_of(10) { follow(ground, case, end) } else { Ok(()) });
    let Point { call, nth, about, .. } = cut.point;
    (
        reached,
        followed.map_err(|why| format!("{why}\n  at {call} {nth} {about}, {}\n{}", cut.fault.word(), story.join("\n"))),
    )
}

/// Recovers after a kill, or after an error that asks for it; the exit codes are checked.
fn recover(case: &Case, cut: &Cut<'_>, said: &Said, args: &[&str], story: &mut Vec<String>) -> Result<(), String> {
    let mut run = |args: &[&str], codes: &[i32]| {
        let said = case.installer(args);
        story.push(told(&args.join(" "), &said));
        if codes.contains(&said.code) { Ok(()) } else { Err(format!("recovery: exit code {}", said.code)) }
    };
    let resume = ["--yes", "resume"];
    if cut.fault == Fault::Kill {
        if said.code != -1 {
            let well = cut.flow.codes.contains(&said.code);
            return if well { Ok(()) } else { Err(format!("not killed: exit code {}", said.code)) };
        }
        // Whatever is to be done is told at every point.
        run(&["--json", "status"], &[0, 8])?;
        return match cut.way() {
            Recovery::Resume => run(&resume, cut.flow.codes),
            Recovery::Rotten => {
                rot(case);
                run(&resume, &[6])
                    .and_then(|()| run(&["--yes", "repair", "--record"], &[0]))
                    .and_then(|()| run(&resume, cut.flow.codes))
            }
            Recovery::Again => run(args, cut.flow.codes),
            Recovery::Boot => run(&["--yes", "resume", "--guard"], &[0])
                .and_then(|()| run(&["--yes", "resume", "--boot"], cut.flow.codes))
                .and_then(|()| run(&resume, cut.flow.codes)),
        };
    }
    // The write that was refused may have been the one that would have told the error.
    let explained = said.err.contains("error: ") || said.err.is_empty() || cut.point.about == ".err";
    match said.code {
        8 => run(&resume, cut.flow.codes),
        // What could not be swept on a disk that refuses everything is swept by the next command.
        0 | 6 | 7 if said.code == 0 || explained => run(&resume, cut.flow.codes),
        code => Err(format!("failed call: exit code {code}")),
    }
}

/// Overwrites the first pages of the record and takes its write-ahead log away.
pub fn rot(case: &Case) {
    let database = case.state().join("state.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let end = bytes.len().min(8192);
    bytes[..end].fill(0xa5);
    // Shorter than a page, it holds nothing yet.
    bytes.resize(bytes.len().max(4096), 0xa5);
    std::fs::write(&database, bytes).unwrap();
    for end in ["state.db-wal", "state.db-shm"] {
        drop(std::fs::remove_file(case.state().join(end)));
    }
}

/// A normal update to the newest release works, or, where that runs, taking it off does.
fn follow(ground: &Ground, case: &Case, end: &End) -> Result<(), String> {
    Knobs::default().set(&case.engine());
    let works = |args: &[&str]| {
        let said = case.installer(args);
        if said.code == 0 { Ok(()) } else { Err(format!("afterwards: {}", told(&args.join(" "), &said))) }
    };
    if end.sequence > 0 {
        works(&["check"])?;
    }
    if end.sequence == 2 {
        works(&["--yes", "uninstall", "--product", PRODUCT, "--with-data"])?;
        let nothing = [End { sequence: 0, has: &[], hasnt: &[] }];
        return invariant::check(ground, case, &nothing).map(drop).map_err(|why| format!("afterwards: {why}"));
    }
    works(&["--yes", "install", &ground.path("two.tar").display().to_string()])?;
    // A first installation migrates nothing.
    let migrated = (end.sequence == 1).then_some(ground::MIGRATED);
    let has: Vec<&'static str> = end.has.iter().copied().chain([invariant::NEW]).chain(migrated).collect();
    let updated = [End { sequence: 2, has: has.leak(), hasnt: &[] }];
    invariant::check(ground, case, &updated).map(drop).map_err(|why| format!("afterwards: {why}"))
}

/// Counts a flow's points; the run that nothing disturbs must itself end as the flow says.
fn points(ground: &Ground, flow: &Flow) -> Vec<Point> {
    let case = ground.case("work/count");
    case.copy_of(&ground.case(&format!("prepared/{}", flow.from)));
    let command = command(ground, flow);
    let args: Vec<&str> = command.iter().map(String::as_str).collect();
    let (said, points) = point::count(&case, &args);
    assert!(flow.codes.contains(&said.code), "{}: {}", flow.name, told("whole", &said));
    if let Err(why) = invariant::check(ground, &case, flow.ends) {
        panic!("{}: without any cut: {why}", flow.name);
    }
    points
}

/// Folders that hold a change that was cut off: while it switched, in its trial, on its way back.
fn prepare_cut(ground: &Ground) {
    for (name, from, phase) in
        [("switching", "one", "switching"), ("trial", "one", "trial"), ("back", "sick", "undoing")]
    {
        // A busy machine asks the engine more often for how things are, so that a run's calls are numbered
        // otherwise than those of the run that was counted.
        let found: Vec<String> =
            (0..TRIES).map(|_| cut_off(ground, name, from)).take_while(|found| found != phase).collect();
        assert!(found.len() < TRIES, "{name}: cut off in {found:?}, expected {phase}");
    }
}

/// Times that a change is cut off until it is in the phase that is wanted.
const TRIES: usize = 8;

/// Prepares the folder `name`; gives the phase in which the change is then.
fn cut_off(ground: &Ground, name: &str, from: &str) -> String {
    let two = ground.path("two.tar").display().to_string();
    let args = ["--yes", "install", two.as_str()];
    let case = ground.case("work/count");
    case.copy_of(&ground.case(&format!("prepared/{from}")));
    let (_, points) = point::count(&case, &args);
    let fits = |point: &&Point| match name {
        "switching" => point.about.ends_with("/.current.next") && point.call.starts_with("symlink"),
        "trial" => point.about == "podman kube play",
        _ => point.about == "podman kube down",
    };
    // The last start of a workload; the first stop of the way back is the third of all.
    let mut fitting: Vec<&Point> = points.iter().filter(fits).collect();
    let point = match name {
        "switching" => fitting.remove(0),
        "trial" => fitting.pop().unwrap(),
        _ => fitting.remove(2),
    };
    ground.prepare(name, Some(from), |case| {
        let said = case.installer_under(&point.cut(case, Fault::Kill), &args);
        assert_eq!(said.code, -1, "{name}: {}", told("cut", &said));
        Knobs::default().set(&case.engine());
    });
    phase(&ground.case(&format!("prepared/{name}")))
}

/// How far the change is that is not over; `nothing` where none is.
fn phase(case: &Case) -> String {
    let said = case.installer(&["--json", "status"]);
    match serde_json::from_str::<serde_json::Value>(said.out.trim()) {
        Ok(status) => status["unfinished"]["phase"].as_str().unwrap_or("nothing").to_owned(),
        Err(error) => panic!("{error}: {}", told("status", &said)),
    }
}

fn command(ground: &Ground, flow: &Flow) -> Vec<String> {
    let path = |name: &str| ground.path(name).display().to_string();
    let word = |word: &&str| match *word {
        "{one}" => path("one.tar"),
        "{two}" => path("two.tar"),
        "{backup}" => path("backup"),
        other => other.to_owned(),
    };
    flow.command.iter().map(word).collect()
}

/// What a violated invariant is, without what differs from run to run: digests, times, random names.
pub fn signature(failed: &str) -> String {
    let line = failed.lines().next().unwrap_or_default();
    let (mut plain, mut rest) = (String::new(), line);
    while let Some(first) = rest.chars().next() {
        let word = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        let time = rest.len() > 5 && rest.starts_with("20") && rest.as_bytes()[4] == b'-';
        if time {
            plain.push_str("TIME");
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || "-:TZ".contains(c));
        } else if word.is_empty() {
            plain.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let random = word.len() > 30 || word.starts_with("tmp");
            plain.push_str(if random { "*" } else { word });
            rest = &rest[word.len()..];
        }
    }
    plain.chars().take(240).collect()
}

/// What a program said: its messages, and how its output ended.
fn told(what: &str, said: &Said) -> String {
    let lines: Vec<&str> = said.out.lines().collect();
    let end = lines[lines.len().saturating_sub(2)..].join("\n");
    let hung = if said.code == case::HUNG { " (it hung)" } else { "" };
    format!("  -- {what}: exit {}{hung}\n{}{end}", said.code, said.err)
}

/// To the real standard error: progress is for whoever waits, also where a test's output is kept back.
pub fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_signature_leaves_out_what_is_random() {
        let failed = "files: [\"engine/.tmpAb1\", \".2026-11-23T080412Z-g1.part\"] sha256:2a873af402f64b735bb4e8769c3e5c2aca75a388\n  at x";
        assert_eq!(super::signature(failed), "files: [\"engine/.*\", \".TIMEg1.part\"] sha256:*");
    }
}
