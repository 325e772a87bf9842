//! The support bundle by the real program: planted secrets and names are in none of its bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Read as _;

use bundle_format::digest::Sha384;
use bundle_format::text::base64;
use serde_json::Value;
use system_tests::site::Site;

/// The archive's members in their order, and all of its bytes unpacked.
fn members(path: &std::path::Path) -> (Vec<(String, String)>, Vec<u8>) {
    let tar = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, mut text) = (entry.path().unwrap().display().to_string(), String::new());
        entry.read_to_string(&mut text).unwrap();
        found.push((name, text));
    }
    (found, tar)
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    let lower = bytes.to_ascii_lowercase();
    let needle = needle.to_ascii_lowercase();
    lower.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Marking, manifest and rules first, then every file as the manifest has it.
fn check_form(found: &[(String, String)]) {
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..3], ["MARKING", "manifest.json", "REDACTIONS.txt"]);
    assert!(names[3..].is_sorted(), "{names:?}");
    assert_eq!(found[0].1, "UNCLASSIFIED\n");
    for needed in [
        "audit.jsonl",
        "host.json",
        "state.json",
        "status.json",
        "versions.txt",
        "podman/info.json",
        "podman/inspect-container.json",
    ] {
        assert!(names.contains(&needed), "{needed} in {names:?}");
    }
    let manifest: Value = serde_json::from_str(&found[1].1).unwrap();
    let listed = manifest["files"].as_array().unwrap();
    assert_eq!(listed.len(), found.len() - 3);
    for (entry, (name, text)) in listed.iter().zip(&found[3..]) {
        assert_eq!(
            (entry["name"].as_str().unwrap(), entry["sha384"].as_str().unwrap()),
            (name.as_str(), Sha384::of(text.as_bytes()).to_string().as_str())
        );
    }
}

#[test]
fn nothing_that_was_planted_leaves_the_machine() {
    let site = Site::new(18130);
    site.release(1, Site::GOOD, |text| text);
    site.bundle("b.tar", &["alice", "bob"]);
    site.trust();
    site.installer(&["--yes", "install", "b.tar"]).expect(0);
    let web = format!("{}-web", site.name());
    let password = site.podman(&["exec", &web, "sh", "-c", "printf %s \"$PASSWORD\""]).expect(0).out;
    assert_eq!(password.len(), 43, "the secret's own value: {password}");
    site.tool("sh", &["-c", "printf 'TEST second secret, with \"quotes\"' > planted"]).expect(0);
    site.podman(&["secret", "create", "planted", "planted"]).expect(0);
    let (host, short) = ("planted-host.site.example", "planted-host");
    let mut passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    passwd.push_str("plantedada:x:1815:1815:Ada Planted Lovelace,,,:/home/plantedada:/bin/sh\n");
    std::fs::write(site.path("passwd"), passwd).unwrap();

    // In logs, in the state, in the engine's own records, in every form.
    let planted: BTreeMap<&str, String> = BTreeMap::from([
        ("password", password.clone()),
        ("base64", base64(password.as_bytes())),
        ("second", "TEST second secret, with \"quotes\"".to_owned()),
        ("json", "TEST second secret, with \\\"quotes\\\"".to_owned()),
        ("percent", "TEST%20second%20secret%2C%20with%20%22quotes%22".to_owned()),
        ("unknown", "unknown-to-the-engine-77".to_owned()),
        ("login", "bob:pw-of-bob".to_owned()),
        ("key", "MHcCAQEEIplantedKeyLine".to_owned()),
        ("ipv4", "198.51.100.23".to_owned()),
        ("ipv6", "2001:db8:77::23".to_owned()),
        ("mac", "02:77:ac:11:00:23".to_owned()),
        ("host", host.to_owned()),
        ("short", short.to_owned()),
        ("user", "plantedada".to_owned()),
        ("owner", "Ada Planted Lovelace".to_owned()),
    ]);
    let get = |name: &str| planted[name].as_str();
    let log = format!(
        "login with {} or {} from {} and [{}]:443 at {}\nurl postgres://{}@db/x?p={} on {host}.\n\
         {short} says: /home/plantedada of Ada Planted Lovelace\n{{\"a\": \"{}\", \"token\": \"{}\"}}\n\
         -----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\nraw {}\n",
        get("password"),
        get("base64"),
        get("ipv4"),
        get("ipv6"),
        get("mac"),
        get("login"),
        get("percent"),
        get("json"),
        get("unknown"),
        get("key"),
        get("second")
    );
    std::fs::create_dir_all(site.path("high/state/logs")).unwrap();
    std::fs::write(site.path(&format!("high/state/logs/{host}-{web}.log")), &log).unwrap();
    let db = rusqlite::Connection::open(site.path("high/state/state.db")).unwrap();
    db.execute("INSERT INTO settings VALUES ('note', ?1)", [&log]).unwrap();
    drop(db);
    site.podman(&["volume", "create", "--label", &format!("contact={}", get("ipv4")), "planted-volume"]).expect(0);
    for name in planted.keys() {
        assert!(log.contains(get(name)), "{name} was planted");
    }

    // A machine of that name and with that login, for this program alone.
    let there = "hostname planted-host.site.example && mount --bind passwd /etc/passwd && exec \"$@\"";
    let installer =
        |args: &[&str]| site.installer_under("unshare", &["--uts", "--mount", "sh", "-c", there, "sh"], args);

    // Nothing is written without an answer; the list is shown before it.
    let asked = installer(&["support-bundle", "--out", "bundle.tar.zst"]).expect(2);
    assert!(asked.out.contains("state.json") && asked.out.contains("secret "), "{}", asked.out);
    assert!(!site.path("bundle.tar.zst").exists());
    assert!(!holds(asked.out.as_bytes(), short), "nor does the list tell: {}", asked.out);
    let said = installer(&["--yes", "support-bundle", "--out", "bundle.tar.zst"]).expect(0);
    installer(&["--yes", "support-bundle", "--out", "bundle.tar.zst"]).expect(2);

    let (found, bytes) = members(&site.path("bundle.tar.zst"));
    for (name, needle) in &planted {
        let holding: Vec<&String> = found
            .iter()
            .filter(|(file, text)| holds(format!("{file}\n{text}").as_bytes(), needle))
            .flat_map(|(file, text)| [file, text])
            .collect();
        assert!(!holds(&bytes, needle), "{name} is in the bundle: {holding:#?}");
    }
    check_form(&found);
    // What is left can still be read: who is who stays visible.
    let kept = found.iter().find(|(name, _)| name.starts_with("logs/host-1-")).unwrap();
    for part in [
        "login with [secret] or [secret] from ip-",
        "://[login]@db/x?p=[secret] on host-1.",
        "\"token\": \"[value]\"",
        "[pem]\nraw [secret]",
    ] {
        assert!(kept.1.contains(part), "{part} in {}", kept.1);
    }
    let container = &found.iter().find(|(name, _)| name == "podman/inspect-container.json").unwrap().1;
    assert!(container.contains("[environment]") && container.contains(&web), "the container itself is told of");
    assert!(found.iter().any(|(name, text)| name == "missing.txt" && text == "nothing\n"), "everything could be had");
    let sha384 = Sha384::of(&std::fs::read(site.path("bundle.tar.zst")).unwrap()).to_string();
    assert!(said.out.contains(&sha384));
    let rows = site.installer(&["audit", "export"]).expect(0).out;
    let last: Value = serde_json::from_str(rows.lines().last().unwrap()).unwrap();
    assert_eq!((&last["act"], &last["subject"]), (&"support-bundle".into(), &sha384.into()));

    site.podman(&["secret", "rm", "planted"]).expect(0);
    site.podman(&["volume", "rm", "planted-volume"]).expect(0);
    site.installer(&["--yes", "uninstall", "--product", &site.name(), "--with-data"]).expect(0);
}
