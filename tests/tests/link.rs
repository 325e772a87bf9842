//! The one-way link: real datagrams through two network namespaces in which nothing comes back, and
//! a relay that drops, doubles, delays and spoils them by a seeded plan.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use system_tests::carry::{Carry, draft};
use system_tests::netns::{Diode, HIGH};
use system_tests::site::Said;

static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that runs, with what it said until it was ready.
struct Running {
    child: Child,
    said: String,
    rest: Box<dyn BufRead>,
}

impl Running {
    /// Waits for a line with `word` on `pipe`.
    fn until(child: Child, mut pipe: Box<dyn BufRead>, word: &str) -> Self {
        let mut said = String::new();
        while !said.contains(word) {
            assert_ne!(pipe.read_line(&mut said).unwrap(), 0, "ended before {word:?}: {said}");
        }
        Self { child, said, rest: pipe }
    }

    /// Waits for the end.
    fn end(mut self) -> Said {
        // Drained first: a full pipe would stop the program.
        self.rest.read_to_string(&mut self.said).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let mut said = Said::of(&output);
        said.err = self.said;
        said
    }
}

fn receiver(carry: &Carry, diode: &Diode, more: &[&str]) -> Running {
    let listen = format!("{HIGH}:7000");
    let args =
        [&["--state-dir", "high", "--json", "receive", "udp", "--listen", &listen, "--idle", "20"], more].concat();
    let mut child = carry.start(&diode.high(), "installer", &args);
    let pipe = Box::new(BufReader::new(child.stderr.take().unwrap()));
    Running::until(child, pipe, "listening on ")
}

fn relay(carry: &Carry, diode: &Diode, plan: &[&str]) -> Running {
    let to = format!("{HIGH}:7000");
    let args =
        [&["--listen", "127.0.0.1:7001", "--to", &to, "--counts", "counts.json", "--idle-ms", "700"], plan].concat();
    let mut child = carry.start(&diode.low(), "lockgate-test-relay", &args);
    let pipe = Box::new(BufReader::new(child.stdout.take().unwrap()));
    Running::until(child, pipe, "ready")
}

fn sender(carry: &Carry, diode: &Diode, to: &str, more: &[&str]) -> Child {
    let rate = if more.contains(&"--rate") { &[][..] } else { &["--rate", "60MB"] };
    let args = [&["send", "udp", "b.tar", "--to", to], rate, more].concat();
    carry.start(&diode.low(), "bundle-builder", &args)
}

/// Sends once through a relay: what the receiver said, its receipt, the relay's counts.
fn cross(carry: &Carry, diode: &Diode, plan: &[&str], send: &[&str], receive: &[&str]) -> (Said, Value, Value) {
    let receiver = receiver(carry, diode, receive);
    let relay = relay(carry, diode, plan);
    let low = Said::of(&sender(carry, diode, "127.0.0.1:7001", send).wait_with_output().unwrap());
    let said = receiver.end();
    relay.end();
    assert_eq!(low.code, 0, "{}", low.err);
    let counts = serde_json::from_slice(&std::fs::read(carry.path("counts.json")).unwrap()).unwrap();
    let receipt = serde_json::from_str(&said.out).unwrap_or(Value::Null);
    (said, receipt, counts)
}

fn count(json: &Value, name: &str) -> u64 {
    json[name].as_u64().unwrap_or_else(|| panic!("{name} in {json}"))
}

/// Takes the arrived bundle away, so that the next crossing starts from nothing.
fn arrived_and_away(carry: &Carry) {
    carry.assert_arrived();
    std::fs::remove_dir_all(carry.path("high/inbox")).unwrap();
}

#[test]
fn what_the_defaults_promise() {
    let _machine = machine();
    let carry = Carry::new(24_000_000);
    let diode = Diode::new("a");
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("a clean link", &[], &[]),
        ("1% lost", &["--seed", "1", "--drop", "10"], &[]),
        ("5% lost", &["--seed", "2", "--drop", "50"], &[]),
        ("3% doubled", &["--seed", "3", "--double", "30"], &[]),
        ("5% late", &["--seed", "4", "--reorder", "50"], &[]),
        ("1% spoilt", &["--seed", "5", "--corrupt", "10"], &[]),
        ("bursts of 256", &["--burst-every", "6000", "--burst-length", "256"], &[]),
        ("outages of 50 ms", &["--outage-every-ms", "300", "--outage-ms", "50"], &["--passes", "3", "--repair", "50"]),
        ("10% lost, 25% repair", &["--seed", "6", "--drop", "100"], &["--repair", "25"]),
        ("20% lost, two passes", &["--seed", "7", "--drop", "200"], &["--passes", "2"]),
        ("all at once", &["--seed", "8", "--drop", "20", "--double", "30", "--reorder", "50", "--corrupt", "5"], &[]),
    ];
    for (name, plan, send) in cases {
        let (said, receipt, relay) = cross(&carry, &diode, plan, send, &[]);
        assert_eq!(said.code, 0, "{name}: {}", said.err);
        arrived_and_away(&carry);
        let (good, spoilt) = (count(&receipt, "received"), count(&receipt, "corrupt"));
        assert_eq!(count(&receipt, "dropped_by_kernel"), 0, "{name}");
        assert_eq!(count(&relay, "kernel_drops"), 0, "{name}: the relay itself lost some");
        // The receiver leaves when it has all; the relay goes on to the sender's end.
        assert!(good + spoilt <= count(&relay, "forwarded"), "{name}: {receipt} {relay}");
        assert!(spoilt <= count(&relay, "corrupted"), "{name}: {receipt} {relay}");
        assert!(count(&receipt, "duplicates") <= count(&relay, "doubled") + 128, "{name}: {receipt} {relay}");
        if !send.contains(&"--passes") {
            // One pass: the tail that the receiver did not wait for is the recovery data of the last
            // blocks and the end datagrams.
            assert!(count(&relay, "forwarded") - good - spoilt < 1200, "{name}: {receipt} {relay}");
            let (lost, gone) = (count(&receipt, "lost"), count(&relay, "dropped") + count(&relay, "corrupted"));
            assert!(lost.abs_diff(gone) < 200, "{name}: {receipt} {relay}");
        }
        // The kernel's queue of a veth pair may drop a few by itself; what lost nothing restores nothing.
        if count(&receipt, "lost") == 0 && count(&relay, "late") == 0 {
            assert_eq!(count(&receipt, "repaired_blocks"), 0, "{name}");
        }
    }
    assert_eq!((diode.came_back(), diode.leaked()), (0, 0), "the receiver sent something back");
}

#[test]
fn beyond_the_limit_it_names_the_blocks_and_keeps_what_came() {
    let _machine = machine();
    let carry = Carry::new(24_000_000);
    let diode = Diode::new("b");
    let (said, _, relay) = cross(&carry, &diode, &["--seed", "9", "--drop", "400"], &[], &[]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("17 of 17 blocks are missing: 1-17"), "{}", said.err);
    assert!(carry.arrived().is_empty(), "nothing has the name of a bundle");
    assert!(count(&relay, "dropped") > 1000);
    // The same again, and what the first pass brought counts: a second pass would not be enough alone.
    let (said, receipt, _) = cross(&carry, &diode, &["--seed", "10", "--drop", "400"], &["--passes", "3"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(count(&receipt, "bad_frames"), 0);
    carry.assert_arrived();
}

#[test]
fn late_receiver_and_restarts_of_either_end() {
    let _machine = machine();
    let carry = Carry::new(40_000_000);
    let diode = Diode::new("c");
    let to = format!("{HIGH}:7000");
    // A receiver that comes late takes the rest from the second pass.
    let sending = sender(&carry, &diode, &to, &["--passes", "3"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let late = receiver(&carry, &diode, &[]);
    let said = late.end().expect(0);
    let receipt: Value = serde_json::from_str(&said.out).unwrap();
    assert!(count(&receipt, "lost") > 1000, "it was late: {receipt}");
    drop(sending.wait_with_output());
    arrived_and_away(&carry);
    // The sender is killed in the middle and started again: one transfer.
    let receiving = receiver(&carry, &diode, &[]);
    let mut first = sender(&carry, &diode, &to, &[]);
    std::thread::sleep(std::time::Duration::from_millis(400));
    first.kill().unwrap();
    first.wait().unwrap();
    let second = sender(&carry, &diode, &to, &[]);
    receiving.end().expect(0);
    drop(second.wait_with_output());
    arrived_and_away(&carry);
    // The receiver is killed in the middle, after its first journal, and started again.
    let mut receiving = receiver(&carry, &diode, &[]);
    let slow = sender(&carry, &diode, &to, &["--rate", "9MB"]);
    let session = || carry.files("high/inbox", "").into_iter().find(|path| path.is_dir());
    while !session().is_some_and(|folder| folder.join("journal").exists()) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    receiving.child.kill().unwrap();
    receiving.child.wait().unwrap();
    drop(slow.wait_with_output());
    let receiving = receiver(&carry, &diode, &[]);
    drop(sender(&carry, &diode, &to, &[]).wait_with_output());
    let said = receiving.end().expect(0);
    assert!(said.err.contains("bytes are here from before"), "{}", said.err);
    arrived_and_away(&carry);
    // It ends by itself with something missing, and goes on later.
    let receiving = receiver(&carry, &diode, &[]);
    let relay = relay(&carry, &diode, &["--seed", "11", "--drop", "300"]);
    drop(sender(&carry, &diode, "127.0.0.1:7001", &[]).wait_with_output());
    receiving.end().expect(3);
    relay.end();
    let receiving = receiver(&carry, &diode, &[]);
    drop(sender(&carry, &diode, &to, &[]).wait_with_output());
    let said = receiving.end().expect(0);
    assert!(said.err.contains("receiving test-product 1.0"), "{}", said.err);
    carry.assert_arrived();
}

#[test]
fn strangers_on_the_segment() {
    let _machine = machine();
    let carry = Carry::new(6_000_000);
    let diode = Diode::new("d");
    let to = format!("{HIGH}:7000");
    std::fs::write(carry.path("psk"), "TEST key of more than sixteen bytes\n").unwrap();
    std::fs::write(carry.path("other"), "TEST key that the other end has not\n").unwrap();
    // Both have the key.
    let receiving = receiver(&carry, &diode, &["--psk-file", "psk"]);
    drop(sender(&carry, &diode, &to, &["--psk-file", "psk"]).wait_with_output());
    receiving.end().expect(0);
    arrived_and_away(&carry);
    // A stranger without the key, and one with another, while the right one sends.
    let receiving = receiver(&carry, &diode, &["--psk-file", "psk"]);
    let strangers = [sender(&carry, &diode, &to, &[]), sender(&carry, &diode, &to, &["--psk-file", "other"])];
    for stranger in strangers {
        drop(stranger.wait_with_output());
    }
    drop(sender(&carry, &diode, &to, &["--psk-file", "psk"]).wait_with_output());
    let said = receiving.end().expect(0);
    let receipt: Value = serde_json::from_str(&said.out).unwrap();
    assert!(count(&receipt, "corrupt") > 8000, "{receipt}");
    arrived_and_away(&carry);
    // A bundle that nobody here trusts: refused by its manifest, no disk, exit 4.
    let mut evil = draft(12, 2_000_000);
    evil.signers = vec![system_tests::keys::mallory()];
    let good = std::fs::read(carry.path("b.tar")).unwrap();
    std::fs::write(carry.path("b.tar"), evil.archive()).unwrap();
    let receiving = receiver(&carry, &diode, &[]);
    drop(sender(&carry, &diode, &to, &[]).wait_with_output());
    let said = receiving.end().expect(4);
    assert!(said.err.contains("is refused: "), "{}", said.err);
    assert!(carry.files("high/inbox", "").iter().all(|path| path.ends_with("lock")), "no disk was used");
    // Two sessions at once, one of them refused: the trusted one arrives.
    std::fs::write(carry.path("evil.tar"), std::fs::read(carry.path("b.tar")).unwrap()).unwrap();
    std::fs::write(carry.path("b.tar"), &good).unwrap();
    let receiving = receiver(&carry, &diode, &[]);
    let evil = carry.start(&diode.low(), "bundle-builder", &["send", "udp", "evil.tar", "--to", &to, "--rate", "20MB"]);
    let trusted = sender(&carry, &diode, &to, &[]);
    receiving.end().expect(0);
    drop((evil.wait_with_output(), trusted.wait_with_output()));
    carry.assert_arrived();
    // A key that is too short is refused before anything is listened to.
    std::fs::write(carry.path("short"), "short").unwrap();
    carry.installer(&["receive", "udp", "--listen", "127.0.0.1:7009", "--psk-file", "short"]).expect(2);
}

#[test]
fn a_bundle_that_rotted_at_the_sender_never_arrives() {
    let _machine = machine();
    let carry = Carry::new(6_000_000);
    let diode = Diode::new("e");
    let mut rotten = carry.archive.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    std::fs::write(carry.path("b.tar"), &rotten).unwrap();
    let (said, _, _) = cross(&carry, &diode, &[], &["--passes", "2"], &[]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("blocks are missing"), "{}", said.err);
    assert!(carry.arrived().is_empty());
}

#[test]
fn calibration_names_a_rate() {
    let _machine = machine();
    let carry = Carry::new(100_000);
    let diode = Diode::new("f");
    let listen = format!("{HIGH}:7000");
    let child = carry.start(
        &diode.high(),
        "installer",
        &["--state-dir", "high", "--json", "receive", "calibrate", "--listen", &listen],
    );
    // It says nothing before the first step: wait for its socket.
    let table = format!("/proc/{}/net/udp", child.id());
    while !std::fs::read_to_string(&table).unwrap_or_default().contains(":1B58 ") {
        std::thread::yield_now();
    }
    drop(
        carry
            .start(&diode.low(), "bundle-builder", &["send", "calibrate", "--to", &listen, "--most", "10MB"])
            .wait_with_output(),
    );
    let said = Said::of(&child.wait_with_output().unwrap()).expect(0);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((count(&json, "highest_clean"), count(&json, "advised")), (10_000_000, 8_000_000));
}
