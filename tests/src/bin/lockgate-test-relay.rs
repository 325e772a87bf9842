//! A bad link: takes datagrams on one address and hands them on to another, by a seeded plan of
//! drops, doubles, delays, flipped bits and outages. Counts exactly what it did.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's own program"
)]

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

/// `SplitMix64`: the same seed, the same plan.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in `per_mille` of a thousand.
    fn falls(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }
}

fn main() {
    let mut args: HashMap<String, String> = HashMap::new();
    let mut rest = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
        args.insert(name, value);
    }
    let number = |name: &str| args.get(name).map_or(0, |text| text.parse::<u64>().unwrap());
    let socket = UdpSocket::bind(&args["--listen"]).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(128 << 20)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let out = UdpSocket::bind("0.0.0.0:0").unwrap();
    out.connect(&args["--to"]).unwrap();
    let mut dice = Dice(number("--seed"));
    let (mut seen, mut dropped, mut doubled, mut late, mut corrupted, mut forwarded) =
        (0u64, 0u64, 0u64, 0u64, 0u64, 0u64);
    let mut held: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    let (mut first, mut last) = (None::<Instant>, None::<Instant>);
    let idle = Duration::from_millis(number("--idle-ms").max(1));
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if last.is_some_and(|last| last.elapsed() > idle) {
                    break;
                }
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let now = Instant::now();
        let began = *first.get_or_insert(now);
        last = Some(now);
        seen += 1;
        let mut datagram = buffer[..length].to_vec();
        // Whoever is not there loses nothing: a receiver that left answers with a refusal.
        let mut send = |datagram: &[u8]| {
            let _ = out.send(datagram).or_else(|_| out.send(datagram));
            forwarded += 1;
        };
        let burst = number("--burst-every");
        let outage = number("--outage-every-ms");
        let in_burst = burst > 0 && seen % burst >= burst - number("--burst-length");
        let since = u64::try_from(now.duration_since(began).as_millis()).unwrap();
        let in_outage = outage > 0 && since % outage >= outage - number("--outage-ms");
        if in_burst || in_outage || dice.falls(number("--drop")) {
            dropped += 1;
        } else if dice.falls(number("--reorder")) {
            late += 1;
            held.entry(seen + 1 + dice.next() % 64).or_default().push(datagram);
        } else {
            let spoilt = dice.falls(number("--corrupt"));
            if spoilt {
                let bit = usize::try_from(dice.next()).unwrap() % (length * 8);
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
            send(&datagram);
            corrupted += u64::from(spoilt);
            if dice.falls(number("--double")) {
                doubled += 1;
                corrupted += u64::from(spoilt);
                send(&datagram);
            }
        }
        let due = held.split_off(&(seen + 1));
        for datagram in std::mem::replace(&mut held, due).into_values().flatten() {
            send(&datagram);
        }
    }
    for datagram in held.into_values().flatten() {
        let _ = out.send(&datagram);
        forwarded += 1;
    }
    let counts = serde_json::json!({
        "seen": seen, "dropped": dropped, "doubled": doubled, "late": late, "corrupted": corrupted, "forwarded": forwarded,
    });
    std::fs::write(&args["--counts"], counts.to_string()).unwrap();
}
