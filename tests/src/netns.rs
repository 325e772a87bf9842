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
            // It does not even answer ARP: the packet filter below would not see that.
            format!("-n {high} link set hi0 address 02:00:00:00:00:02 arp off up"),
            format!("-n {low} link set lo up"),
            format!("-n {high} link set lo up"),
            format!("-n {low} neigh replace {HIGH} lladdr 02:00:00:00:00:02 dev lo0"),
            format!("-n {high} neigh replace 10.77.0.1 lladdr 02:00:00:00:00:01 dev hi0"),
        ] {
            run(Command::new("ip").args(line.split(' ')));
        }
        // Everything is dropped; only what a program sends is counted. By itself the kernel tells IPv6
        // neighbours that it is there, and says `port unreachable` once a receiver has left.
        let rules = "table inet diode {\n counter back {\n }\n chain out {\n type filter hook output priority 0; policy drop;\n ip protocol != icmp counter name back\n }\n}\n";
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

    /// Packets of any kind that got through to the low side.
    pub fn leaked(&self) -> u64 {
        let output = Command::new("ip").args(["-n", &self.low, "-s", "-j", "link", "show", "lo0"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    use super::*;

    /// Says `ready`, takes a datagram, answers it, says what came.
    const ECHO: &str = "import socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.bind(('10.77.0.2', 7000))\n\
        print('ready', flush=True)\n\
        data, whence = s.recvfrom(2000)\n\
        try: s.sendto(data, whence)\n\
        except OSError as e: print('refused', e.errno)\n\
        print(data.decode(), whence[0])";
    /// Sends a datagram.
    const SAY: &str = "import socket\n\
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hello', ('10.77.0.2', 7000))";

    #[test]
    fn one_way_and_nothing_back() {
        let diode = Diode::new("t");
        let python = |side: [&str; 4], text: &str| {
            let mut command = Command::new(side[0]);
            command.args(&side[1..]).args(["python3", "-c", text]).stdout(Stdio::piped());
            command
        };
        let mut echo = python(diode.high(), ECHO).spawn().unwrap();
        let mut said = BufReader::new(echo.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(said.next().as_deref(), Some("ready"));
        assert_eq!((diode.came_back(), diode.leaked()), (0, 0));
        run(&mut python(diode.low(), SAY));
        // The filter tells a program of the high side that it may not send.
        assert_eq!(said.collect::<Vec<_>>(), ["refused 1", "hello 10.77.0.1"]);
        assert!(echo.wait().unwrap().success());
        assert_eq!((diode.came_back(), diode.leaked()), (1, 0));
        let names = [diode.low.clone(), diode.high.clone()];
        drop(diode);
        let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let left = String::from_utf8_lossy(&left.stdout).into_owned();
        assert!(!names.iter().any(|name| left.contains(name)), "{left}");
    }
}
