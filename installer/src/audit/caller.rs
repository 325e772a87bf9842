//! Who does something, from where, on which machine: as the kernel tells it, not as they say.
//!
//! The login uid outlives `sudo` and cannot be set twice. The peer of an SSH session is what the
//! session's first process was started with; root could write another text there, and the login's
//! own record at the SSH server stays the proof (`docs/spec/audit.md`, 7).

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::Path;

/// How many parents are looked at for the session that a command came from.
const ANCESTORS: usize = 64;
/// Units of ours that run before anybody has logged in.
const AT_BOOT: [&str; 2] = ["lockgate-guard.service", "lockgate-resume.service"];

/// Who, from where, on which machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `name (uid N)`, or `uid N`.
    pub actor: String,
    /// `ssh PEER`, with the terminal; `tty DEVICE`; `unit NAME`; `boot NAME`; or `no terminal`.
    pub origin: String,
    /// Name of the machine.
    pub host: String,
}

impl Caller {
    /// Of this process.
    pub fn read() -> Self {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let terminal = std::io::stdin().is_terminal().then(|| std::fs::read_link("/proc/self/fd/0").ok()).flatten();
        let terminal = terminal.map(|path| path.display().to_string());
        let session = Session::read(Path::new("/proc"), std::process::id());
        Self { actor: actor(), origin: session.origin(terminal.as_deref()), host }
    }
}

/// The login that this process descends from, as the kernel keeps it (`loginuid` outlives sudo and
/// cannot be set twice); without an audit login, the effective user.
pub fn actor() -> String {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse::<u32>().ok());
    let id = login.filter(|id| *id != u32::MAX).unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    let name = nix::unistd::User::from_uid(id.into()).ok().flatten().map(|user| user.name);
    name.map_or_else(|| format!("uid {id}"), |name| format!("{name} (uid {id})"))
}

/// What `/proc` says of the way to a process.
#[derive(Debug, Default, PartialEq, Eq)]
struct Session {
    peer: Option<IpAddr>,
    unit: Option<String>,
}

impl Session {
    /// `sudo` clears the environment, so the parents' are asked too; the one nearest to the SSH
    /// server counts, because a later one is easier to set.
    fn read(proc: &Path, pid: u32) -> Self {
        let unit = std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup")).ok();
        let unit = unit.and_then(|text| unit_of(&text));
        let (mut peer, mut pid) = (None, pid);
        for _ in 0..ANCESTORS {
            let folder = proc.join(pid.to_string());
            let environ = std::fs::read(folder.join("environ")).unwrap_or_default();
            peer = peer_of(&environ).or(peer);
            let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
            match status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok()) {
                Some(parent) if parent > 1 => pid = parent,
                _ => break,
            }
        }
        Self { peer, unit }
    }

    fn origin(&self, terminal: Option<&str>) -> String {
        match (self.peer, terminal, self.unit.as_deref()) {
            (Some(peer), Some(terminal), _) => format!("ssh {peer} {terminal}"),
            (Some(peer), None, _) => format!("ssh {peer}"),
            (None, Some(terminal), _) => format!("tty {terminal}"),
            (None, None, Some(unit)) if AT_BOOT.contains(&unit) => format!("boot {unit}"),
            (None, None, Some(unit)) => format!("unit {unit}"),
            (None, None, None) => "no terminal".into(),
        }
    }
}

/// The service of a `/proc/PID/cgroup`: the last component, if it is one.
fn unit_of(cgroup: &str) -> Option<String> {
    let names = cgroup.lines().filter_map(|line| line.rsplit('/').next());
    names.filter(|name| name.ends_with(".service") && !name.starts_with("user@")).map(str::to_owned).next()
}

/// The peer in `SSH_CONNECTION` of an environment, if it is an address.
fn peer_of(environ: &[u8]) -> Option<IpAddr> {
    let value = environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="))?;
    std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let session =
            |peer: &str, unit: &str| Session { peer: peer.parse().ok(), unit: (!unit.is_empty()).then(|| unit.into()) };
        for (peer, unit, terminal, origin) in [
            ("203.0.113.5", "ssh.service", Some("/dev/pts/1"), "ssh 203.0.113.5 /dev/pts/1"),
            ("2001:db8::5", "", None, "ssh 2001:db8::5"),
            ("", "getty@tty1.service", Some("/dev/tty1"), "tty /dev/tty1"),
            ("", "backup.service", None, "unit backup.service"),
            ("", "lockgate-resume.service", None, "boot lockgate-resume.service"),
            ("", "", None, "no terminal"),
        ] {
            assert_eq!(session(peer, unit).origin(terminal), origin);
        }
    }

    #[test]
    fn the_session_is_found_behind_sudo() {
        let folder = tempfile::tempdir().unwrap();
        let write = |pid: u32, parent: u32, environ: &str| {
            let folder = folder.path().join(pid.to_string());
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("environ"), environ.replace(' ', "\0").replace('+', " ")).unwrap();
            std::fs::write(folder.join("status"), format!("Name:\tx\nPPid:\t{parent}\n")).unwrap();
            std::fs::write(folder.join("cgroup"), "1:cpu:/\n0::/user.slice/user-1.slice/session-2.scope\n").unwrap();
        };
        write(50, 40, "PATH=/bin");
        write(40, 30, "A=b SSH_CONNECTION=192.0.2.1+1+192.0.2.9+22");
        write(30, 20, "SSH_CONNECTION=198.51.100.7+55000+192.0.2.9+22 B=c");
        write(20, 1, "SSH_CONNECTION=nonsense");
        let found = Session::read(folder.path(), 50);
        assert_eq!(found, Session { peer: Some("198.51.100.7".parse().unwrap()), unit: None });
        assert_eq!(Session::read(folder.path(), 99), Session::default());
    }

    #[test]
    fn units() {
        for (text, unit) in [
            ("0::/system.slice/lockgate-resume.service\n", Some("lockgate-resume.service")),
            ("1:name=systemd:/system.slice/x.service\n0::/\n", Some("x.service")),
            ("0::/user.slice/user-0.slice/session-1.scope\n", None),
            ("0::/user.slice/user-0.slice/user@0.service\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(text).as_deref(), unit, "{text:?}");
        }
    }

    #[test]
    fn this_process_has_an_actor_and_a_host() {
        let caller = Caller::read();
        assert!(caller.actor.contains("uid ") && !caller.host.is_empty() && !caller.origin.is_empty(), "{caller:?}");
    }
}
