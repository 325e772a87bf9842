//! Two network namespaces joined by a veth pair in which nothing comes back: a diode.

use std::process::Command;

/// A low and a high namespace; both are gone when it is dropped.
#[derive(Debug)]
pub struct Diode {
    low: String,
    high: String,
}

/// Address of the high side.
pub const HIGH: &str = "10.77.0.2";

impl Diode {
    /// Makes the namespaces; `name` keeps tests apart.
    pub fn new(name: &str) -> Self {
        let id = std::process::id();
        let diode = Self { low: format!("lgl{name}{id}"), high: format!("lgh{name}{id}") };
        let (low, high) = (diode.low.as_str(), diode.high.as_str());
        for line in [
            format!("netns add {low}"),
            format!("netns add {high}"),
            format!("link add lo0 netns {low} mtu 1500 type veth peer name hi0 netns {high} mtu 1500"),
            format!("-n {low} addr add 10.77.0.1/24 dev lo0"),
            format!("-n {high} addr add {HIGH}/24 dev hi0"),
            // Locally administered addresses, known to both: no ARP has to come back.
            format!("-n {low} link set lo0 address 02:00:00:00:00:01 up"),
            format!("-n {high} link set hi0 address 02:00:00:00:00:02 up"),
            format!("-n {low} link set lo up"),
            format!("-n {high} link set lo up"),
            format!("-n {low} neigh replace {HIGH} lladdr 02:00:00:00:00:02 dev lo0"),
            format!("-n {high} neigh replace 10.77.0.1 lladdr 02:00:00:00:00:01 dev hi0"),
        ] {
            run(Command::new("ip").args(line.split(' ')));
        }
        // IPv6 tells neighbours by itself that it is there; only what a program sends is counted.
        let rules = "table inet diode {\n counter back {\n }\n chain out {\n type filter hook output priority 0; policy drop;\n meta nfproto ipv4 counter name back\n }\n}\n";
        run(Command::new("ip").args(["netns", "exec", high, "nft", rules]));
        diode
    }

    /// What to put before a program of the low side.
    pub fn low(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.low]
    }

    /// What to put before a program of the high side.
    pub fn high(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.high]
    }

    /// Packets that the high side tried to send, and that were dropped.
    pub fn came_back(&self) -> u64 {
        let output =
            Command::new("ip").args(["netns", "exec", &self.high, "nft", "-j", "list", "counters"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = json["nftables"].as_array().unwrap();
        items.iter().find_map(|item| item["counter"]["packets"].as_u64()).unwrap()
    }
}

impl Drop for Diode {
    fn drop(&mut self) {
        for name in [&self.low, &self.high] {
            // One that was never made is not missed.
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
