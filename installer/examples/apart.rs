//! Measures what the confinement costs: the whole proof of a bundle in a process of its own, confined as
//! `installer verify` confines its reader, and not confined, in turns. Used by `benches/confine.sh`. The
//! installer itself has no way to leave the confinement out, which is why this is a program of its own.
//!
//! `apart BUNDLE STATE_DIR ROUNDS` prints the medians and their ratio.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement")]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bundle_format::pack::NoSink;
use confinement::confine;
use installer::proof::{Base, ProvedBundle, Site};
use installer::state::State;
use installer::store::Store;

const WAYS: [&str; 2] = ["confined", "free"];

fn prove(bundle: &Path, state: &Path, way: &str) {
    let site = Site::read(&State::open(&state.join("state.db")).unwrap()).unwrap();
    if way == "confined" {
        let confined = confine(&[bundle, state]);
        assert!(confined.lacks().is_empty(), "{}", confined.line());
    }
    let proved = ProvedBundle::open_at(bundle, &site).unwrap();
    let base = Base::none(&Store::peek(state));
    proved.unpack(&base, &mut NoSink, &mut |_| ()).unwrap();
}

/// Seconds of one process from its start to its end.
fn run(args: &[String], way: &str) -> f64 {
    let started = Instant::now();
    let status = Command::new(std::env::current_exe().unwrap()).args(&args[1..3]).arg(way).status().unwrap();
    assert!(status.success(), "{way}: {status}");
    started.elapsed().as_secs_f64()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (bundle, state, last) = (Path::new(&args[1]), Path::new(&args[2]), args[3].as_str());
    if WAYS.contains(&last) {
        return prove(bundle, state, last);
    }
    let rounds: usize = last.parse().unwrap();
    let mut seconds = [Vec::new(), Vec::new()];
    // One round that does not count brings the file into memory; then in turns, each first every other time.
    for round in 0..=rounds {
        for turn in [round % 2, (round + 1) % 2] {
            let took = run(&args, WAYS[turn]);
            if round > 0 {
                seconds[turn].push(took);
            }
        }
    }
    let median = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let bytes = std::fs::metadata(bundle).unwrap().len();
    let (confined, free) = (median(&seconds[0]), median(&seconds[1]));
    println!("{bytes} bytes: confined {confined:.3} s, free {free:.3} s, ratio {:.3}", confined / free);
}
