//! The names that this machine knows: its own, those of machines in its files, those of people.

use std::collections::BTreeSet;
use std::path::Path;

use super::redact::Owner;
use crate::audit::log::Log;
use crate::error::Result;
use crate::paths::Paths;
use crate::state::State;

/// First login uid of people (login.defs of every distribution that we know).
const FIRST_LOGIN: u32 = 1000;

/// Names in groups of one owner each, in a fixed order: this machine first. What cannot be read is named in
/// `unread`, for its names stay.
pub(super) fn known(
    root: &Path,
    own: &str,
    state: Option<&State>,
    paths: &Paths,
    unread: &mut Vec<String>,
) -> Vec<(Owner, Vec<String>)> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let (hosts, passwd) = (text("etc/hosts"), text("etc/passwd"));
    let mut machine = with_short(own);
    machine.push(text("etc/machine-id").trim().to_owned());
    let mut groups = vec![(Owner::Host, machine)];
    let mut others: BTreeSet<Vec<String>> = hosts.lines().map(host_line).collect();
    others.extend(search_domains(&text("etc/resolv.conf")).into_iter().map(|domain| vec![domain]));
    match state.map(certified).transpose() {
        Ok(Some(names)) => others.extend(names),
        Ok(None) => unread.push("names in certificates: the record and its copy cannot be read".into()),
        Err(error) => unread.push(format!("names in certificates: {error}")),
    }
    let (recorded_hosts, recorded_users) = recorded(paths).unwrap_or_else(|error| {
        unread.push(format!("machines and people in the audit log: {error}"));
        Default::default()
    });
    others.extend(recorded_hosts.iter().map(|name| with_short(name)));
    groups.extend(others.into_iter().filter(|group| !group.is_empty()).map(|group| (Owner::Host, group)));
    let mut users: BTreeSet<Vec<String>> = passwd.lines().filter_map(login).collect();
    users.extend(recorded_users.into_iter().map(|name| vec![name]));
    groups.extend(users.into_iter().map(|group| (Owner::User, group)));
    groups
}

/// Machines that certificates of active releases are for.
fn certified(state: &State) -> Result<Vec<Vec<String>>> {
    let mut names = Vec::new();
    for generation in state.active_generations()? {
        for secret in &generation.parse()?.secrets {
            if let bundle_format::manifest::Secret::TlsSelfSigned { hosts, .. } = secret {
                let hosts = hosts.iter().filter(|name| name.parse::<std::net::IpAddr>().is_err());
                names.extend(hosts.map(|name| with_short(name)));
            }
        }
    }
    Ok(names)
}

/// A machine's name, and its first label.
fn with_short(name: &str) -> Vec<String> {
    let short = name.split('.').next().unwrap_or_default();
    let mut names = vec![name.to_owned()];
    if short != name && !short.is_empty() {
        names.push(short.to_owned());
    }
    names
}

/// The names of a line of hosts(5), but those of loopback.
fn host_line(line: &str) -> Vec<String> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let address = words.next().unwrap_or_default();
    let multicast = address.starts_with("ff0") || address.starts_with("fe0");
    if multicast {
        return Vec::new();
    }
    words.filter(|name| !name.contains("localhost") && !name.contains("loopback")).flat_map(with_short).collect()
}

/// Domains of resolv.conf(5), themselves names of the site.
fn search_domains(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("search ").or_else(|| line.strip_prefix("domain ")));
    lines.flat_map(str::split_whitespace).filter(|domain| domain.contains('.')).map(str::to_owned).collect()
}

/// Login, and name of its owner, of a line of passwd(5) that is a person's.
fn login(line: &str) -> Option<Vec<String>> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, _, comment, ..] = fields.as_slice() else { return None };
    let uid: u32 = uid.parse().ok()?;
    if !(FIRST_LOGIN..65534).contains(&uid) {
        return None;
    }
    let owner = comment.split(',').next().unwrap_or_default().trim();
    let mut names = vec![(*name).to_owned()];
    if owner.chars().count() >= 4 {
        names.push(owner.to_owned());
    }
    Some(names)
}

/// Machines and people in the audit log: they may be gone from everywhere else.
fn recorded(paths: &Paths) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut hosts, mut users) = (BTreeSet::new(), BTreeSet::new());
    if let Some(log) = Log::look(&paths.audit())? {
        log.each(0, &mut |stored| {
            hosts.insert(stored.row.host.clone());
            users.extend(stored.row.actor.split_once(" (uid ").map(|(name, _)| name.to_owned()));
            Ok(())
        })?;
    }
    hosts.remove("");
    Ok((hosts, users))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_out_of_the_machines_files() {
        assert_eq!(with_short("a.b.example"), ["a.b.example", "a"]);
        assert_eq!(host_line("10.0.0.1\tdb.site.example db # main"), ["db.site.example", "db", "db"]);
        for none in ["127.0.0.1 localhost", "ff02::1 ip6-allnodes", "# x y", ""] {
            assert_eq!(host_line(none), Vec::<String>::new(), "{none}");
        }
        assert_eq!(host_line("127.0.1.1 alpha"), ["alpha"]);
        assert_eq!(search_domains("nameserver 10.0.0.1\nsearch site.example lan\n"), ["site.example"]);
        assert_eq!(login("ada:x:1000:1000:Ada Lovelace,,,:/home/ada:/bin/sh").unwrap(), ["ada", "Ada Lovelace"]);
        for none in
            ["root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534::/:/x", "broken", "daemon:x:1:1:daemon:/:/x"]
        {
            assert_eq!(login(none), None, "{none}");
        }
    }

    #[test]
    fn people_and_machines_of_the_log_count() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let paths = Paths::new(folder.path().join("state"));
        let state = State::open(&paths.database()).unwrap();
        let record = crate::audit::Record::new(&crate::proof::clock(), "a", crate::audit::Outcome::Ok);
        state.audit().unwrap().append(&record).unwrap();
        let mut unread = Vec::new();
        let groups = known(&root, "alpha.site.example", Some(&state), &paths, &mut unread);
        assert!(unread.is_empty(), "{unread:?}");
        assert_eq!(known(&root, "alpha.site.example", None, &paths, &mut unread).len(), groups.len());
        assert!(unread[0].starts_with("names in certificates: the record and its copy"), "{unread:?}");
        assert_eq!(
            groups[0],
            (Owner::Host, vec!["alpha.site.example".into(), "alpha".into(), "0123456789abcdef0123456789abcdef".into()])
        );
        let host = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
        assert!(groups.iter().any(|(owner, group)| *owner == Owner::Host && group.contains(&host)), "{groups:?}");
    }
}
