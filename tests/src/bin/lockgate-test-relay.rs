//! The bad link of [`system_tests::relay`] in a process of its own.
//!
//! Says `ready` with its address when it listens; writes its counts as JSON and ends when it gets
//! SIGTERM or after `--idle-ms` of silence.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test's own program")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use system_tests::relay::{Plan, Relay};

/// A bad link between two UDP addresses; chances are parts of a thousand.
#[derive(Debug, Parser)]
struct Args {
    /// Where datagrams come in.
    #[arg(long)]
    listen: SocketAddr,
    /// Where they go.
    #[arg(long)]
    to: SocketAddr,
    /// File for the counts.
    #[arg(long)]
    counts: PathBuf,
    /// Milliseconds of silence after the first datagram that end it.
    #[arg(long)]
    idle_ms: Option<u64>,
    /// Same seed, same fate of each datagram.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Chance to be dropped.
    #[arg(long, default_value_t = 0)]
    drop: u64,
    /// Chance to be sent on twice.
    #[arg(long, default_value_t = 0)]
    double: u64,
    /// Chance to be held back for 1 to 64 later ones.
    #[arg(long, default_value_t = 0)]
    reorder: u64,
    /// Chance that 1 to 4 bits flip.
    #[arg(long, default_value_t = 0)]
    corrupt: u64,
    /// Of each so many datagrams …
    #[arg(long, default_value_t = 0, requires = "burst_length")]
    burst_every: u64,
    /// … so many are dropped in a run.
    #[arg(long, default_value_t = 0)]
    burst_length: u64,
    /// Of each so many milliseconds …
    #[arg(long, default_value_t = 0, requires = "outage_ms")]
    outage_every_ms: u64,
    /// … so many drop everything.
    #[arg(long, default_value_t = 0)]
    outage_ms: u64,
}

fn main() {
    let args = Args::parse();
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block().unwrap();
    let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK).unwrap();
    let plan = Plan {
        seed: args.seed,
        drop: args.drop,
        double: args.double,
        reorder: args.reorder,
        corrupt: args.corrupt,
        burst_every: args.burst_every,
        burst_length: args.burst_length,
        outage_every: args.outage_every_ms,
        outage: args.outage_ms,
    };
    let mut relay = Relay::open(args.listen, args.to, plan).unwrap();
    println!("ready {}", relay.address().unwrap());
    std::io::stdout().flush().unwrap();
    let mut stop = || signals.read_signal().unwrap().is_some();
    let counts = relay.run(args.idle_ms.map(Duration::from_millis), &mut stop).unwrap();
    std::fs::write(&args.counts, counts.to_json() + "\n").unwrap();
}
