//! Who starts the workloads and keeps them up: Quadlet units, plain units, or podman directly.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle_format::parallel;

use crate::atomic::{self, Access};
use crate::command::Command;
use crate::engine::Podman;
use crate::error::{Error, Result};
use crate::host::{HostFacts, Init};
use crate::release::WorkloadFile;

const QUADLET: &str = "/etc/containers/systemd";
const UNITS: &str = "/etc/systemd/system";
const DESCRIPTION: &str = "Lockgate ";
const GUARD: &str = "lockgate-guard.service";
const START: Duration = Duration::from_secs(1000);

/// The way workloads are kept up on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// systemd with Quadlet (podman 4.4 and later).
    Quadlet,
    /// systemd with plain units, for podman before 4.4.
    Units,
    /// No systemd: podman is called directly; nothing starts at boot.
    Direct,
}

impl Supervisor {
    /// What this host has.
    pub const fn choose(host: &HostFacts, podman: &Podman) -> Self {
        match host.init {
            Init::Systemd if podman.at_least(4, 4) => Self::Quadlet,
            Init::Systemd => Self::Units,
            Init::Other => Self::Direct,
        }
    }

    /// One line about it.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Quadlet => "systemd (Quadlet): restarted when it fails, started at boot",
            Self::Units => "systemd (plain units): restarted when it fails, started at boot",
            Self::Direct => "podman alone (no systemd here): containers restart, nothing starts at boot",
        }
    }

    /// Loads a network's rules by a unit, now and at boot.
    pub fn enable_network(network: &str, rules: &Path, nft: &Path) -> Result<()> {
        enable_network_unit(network, rules, nft)
    }

    /// What of a network's unit is not as [`Supervisor::enable_network`] leaves it, in words.
    pub fn differing_network(network: &str, rules: &Path, nft: &Path) -> Result<Vec<String>> {
        wanted_network(Path::new(UNITS), network, rules, nft).differing(&systemd_says)
    }

    /// Where a network's unit lies, if it has one.
    pub fn network_unit(network: &str) -> Option<PathBuf> {
        Some(network_unit_path(network)).filter(|path| path.exists())
    }

    /// Takes a network's unit away.
    pub fn disable_network(network: &str) -> Result<()> {
        disable_network_unit(network)
    }

    /// Puts the units of workloads in place; nothing is started. Releases of one product share the units' names, so
    /// a new release's come only when the former one is stopped.
    pub fn place(self, product: &str, network: &str, workloads: &[WorkloadFile]) -> Result<()> {
        let mut changed = false;
        for workload in workloads {
            let Some(file) = self.unit_path(product, &workload.name) else { return Ok(()) };
            let text = self.unit(product, network, workload);
            if std::fs::read(&file).is_ok_and(|found| found == text.as_bytes()) {
                continue;
            }
            atomic::write(&file, text.as_bytes(), Access::Public)?;
            changed = true;
        }
        if changed {
            systemctl(&["daemon-reload"])?;
        }
        if self == Self::Units {
            let names: Vec<String> = workloads.iter().map(|workload| service(product, &workload.name)).collect();
            enable(names.iter().map(String::as_str))?;
        }
        Ok(())
    }

    /// Units that are not as [`Supervisor::place`] leaves them, in words.
    pub fn differing(self, product: &str, network: &str, workloads: &[WorkloadFile]) -> Result<Vec<String>> {
        let mut wanted = Wanted::default();
        for workload in workloads {
            let Some(file) = self.unit_path(product, &workload.name) else { return Ok(Vec::new()) };
            wanted.files.push((file, self.unit(product, network, workload)));
            // Quadlet units are enabled by being there.
            if self == Self::Units {
                wanted.enabled.push(service(product, &workload.name));
            }
        }
        wanted.differing(&systemd_says)
    }

    fn unit(self, product: &str, network: &str, workload: &WorkloadFile) -> String {
        match self {
            Self::Quadlet => quadlet(product, network, workload),
            Self::Units | Self::Direct => plain_unit(product, network, workload),
        }
    }

    /// Takes away the product's units that are not among `wanted`.
    pub fn prune(self, product: &str, wanted: &[String]) -> Result<()> {
        let Some(folder) = self.folder() else { return Ok(()) };
        let (start, end) = (unit_name(product, ""), format!(".{}", self.extension()));
        let mut changed = false;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let workload = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&end));
            let Some(workload) = workload.filter(|workload| !wanted.iter().any(|name| name == workload)) else {
                continue;
            };
            // Another product's name may begin with ours; its units say which they are.
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            if !text.contains(&format!("{DESCRIPTION}{product}: {workload}\n")) {
                continue;
            }
            if self == Self::Units {
                systemctl(&["disable", &service(product, workload)])?;
            }
            std::fs::remove_file(entry.path()).map_err(|e| Error::io(entry.path().display().to_string(), e))?;
            changed = true;
        }
        if changed { systemctl(&["daemon-reload"]) } else { Ok(()) }
    }

    /// Starts a workload; one that runs is replaced.
    pub fn start(self, podman: &Podman, product: &str, network: &str, workload: &WorkloadFile) -> Result<()> {
        if self == Self::Direct {
            let (play, path) = (["kube", "play", "--replace", "--network", network], workload.path.as_os_str());
            return podman.call(play).arg(path).deadline(START).run().map(drop);
        }
        // A unit that failed too often is not started again without this; one that never ran has nothing to reset.
        let unit = service(product, &workload.name);
        Command::new("systemctl").args(["reset-failed", &unit]).output()?;
        systemctl(&["start", &unit])
    }

    /// Stops a workload; its unit and its volumes stay. One that is not there is no error.
    pub fn stop(self, podman: &Podman, product: &str, workload: &WorkloadFile) -> Result<()> {
        if self.unit_path(product, &workload.name).is_some_and(|file| file.exists()) {
            systemctl(&["stop", &service(product, &workload.name)])?;
        }
        // `kube down` fails where nothing runs any more; the pods' absence is what is made sure.
        podman.call(["kube".as_ref(), "down".as_ref(), workload.path.as_os_str()]).deadline(START).output()?;
        for pod in &workload.pods {
            podman.call(["pod", "rm", "--force", "--ignore", pod]).deadline(START).run()?;
        }
        workload.config_maps.iter().try_for_each(|name| podman.remove_volume(name))
    }

    /// Stops workloads in the order given. Without systemd each is made to stop before the next, and only
    /// then what is left of all of them is taken away, at the same time: the engine may wait seconds for the
    /// control group of each pod.
    pub fn stop_all(self, podman: &Podman, product: &str, workloads: &[&WorkloadFile]) -> Result<()> {
        if self != Self::Direct {
            return workloads.iter().try_for_each(|workload| self.stop(podman, product, workload));
        }
        for pod in workloads.iter().flat_map(|workload| &workload.pods) {
            // What does not stop is ended with its pod.
            podman.call(["pod", "stop", "--ignore", pod]).deadline(START).output()?;
        }
        parallel::map(workloads.len(), workloads, |_, workload| self.stop(podman, product, workload)).map(drop)
    }

    /// Where a workload's unit lies; nowhere without systemd.
    fn unit_path(self, product: &str, workload: &str) -> Option<PathBuf> {
        Some(Path::new(self.folder()?).join(format!("{}.{}", unit_name(product, workload), self.extension())))
    }

    const fn folder(self) -> Option<&'static str> {
        match self {
            Self::Quadlet => Some(QUADLET),
            Self::Units => Some(UNITS),
            Self::Direct => None,
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Quadlet => "kube",
            Self::Units | Self::Direct => "service",
        }
    }

    /// Units of the installer itself: one decides before any workload starts at boot, one finishes
    /// afterwards what a power cut left (`docs/spec/lifecycle.md`, 5).
    pub fn place_watch(self, program: &Path, state_dir: &Path) -> Result<()> {
        if self == Self::Direct {
            return Ok(());
        }
        let mut changed = false;
        for (name, text) in watch_units(program, state_dir) {
            let path = Path::new(UNITS).join(name);
            if std::fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
                continue;
            }
            atomic::write(&path, text.as_bytes(), Access::Public)?;
            changed = true;
        }
        if changed {
            systemctl(&["daemon-reload"])?;
        }
        enable(WATCH)?;
        // Timers count from when they are started; the guard and the first look belong to the next boot.
        systemctl(&[&["start"], &TIMERS[..]].concat())
    }

    /// How often data is backed up by itself, where that is set up on this host.
    pub fn backup_schedule() -> Option<Duration> {
        Path::new(UNITS).join(BACKUP_TIMER).exists().then_some(BACKUP_EVERY)
    }

    /// What of the installer's own units is not as [`Supervisor::place_watch`] leaves it, in words; their
    /// program too.
    pub fn differing_watch(self, program: &Path, state_dir: &Path) -> Result<Vec<String>> {
        if self == Self::Direct {
            return Ok(Vec::new());
        }
        wanted_watch(Path::new(UNITS), program, state_dir).differing(&systemd_says)
    }

    /// Takes the installer's own units away.
    pub fn remove_watch(self) -> Result<()> {
        if self == Self::Direct {
            return Ok(());
        }
        for name in WATCH {
            if Path::new(UNITS).join(name).exists() {
                systemctl(&["disable", name])?;
            }
        }
        for name in TIMERS {
            if Path::new(UNITS).join(name).exists() {
                systemctl(&["stop", name])?;
            }
        }
        for (name, _) in watch_units(Path::new("/"), Path::new("/")) {
            atomic::remove_file(&Path::new(UNITS).join(name))?;
        }
        systemctl(&["daemon-reload"])
    }
}

const RESUME: &str = "lockgate-resume.service";
const RESUME_TIMER: &str = "lockgate-resume.timer";
const BACKUP_TIMER: &str = "lockgate-backup.timer";
const CHECK_TIMER: &str = "lockgate-check.timer";
const BACKUP_EVERY: Duration = Duration::from_secs(4 * 60);
const TIMERS: [&str; 3] = [RESUME_TIMER, BACKUP_TIMER, CHECK_TIMER];
/// The installer's own units that are enabled.
const WATCH: [&str; 5] = [GUARD, RESUME, RESUME_TIMER, BACKUP_TIMER, CHECK_TIMER];

/// The installer's own units: the guard, the one that finishes what was cut off, scheduled backups and
/// looks for drift.
fn watch_units(program: &Path, state_dir: &Path) -> [(&'static str, String); 7] {
    let call = format!("{} --state-dir {} --no-color --yes", program.display(), state_dir.display());
    let service = |what: &str, order: &str, kind: &str, command: &str| {
        format!(
            "[Unit]\nDescription={DESCRIPTION}{what}\n{order}\n\n[Service]\nType={kind}\nExecStart={call} {command}\n"
        )
    };
    let at_boot = "\n[Install]\nWantedBy=multi-user.target\n";
    let timer = |what: &str, when: &str| {
        format!("[Unit]\nDescription={DESCRIPTION}{what}\n\n[Timer]\n{when}\n\n[Install]\nWantedBy=timers.target\n")
    };
    let mounted = format!("RequiresMountsFor={}\nAfter=local-fs.target", state_dir.display());
    let after = format!("After={GUARD} network.target");
    let guard = service("decides which release starts", &mounted, "oneshot\nRemainAfterExit=yes", "resume --guard");
    let resume = service("finishes a change that was cut off", &after, "exec", "resume --boot");
    // An installer that is killed while the machine stays up: its decision is finished within a minute, and
    // a minute after each attempt. What is at work is not started a second time.
    let every_minute = "OnActiveSec=1min\nOnUnitInactiveSec=1min\nAccuracySec=10s";
    let minutes = BACKUP_EVERY.as_secs() / 60;
    let backups = format!("OnActiveSec={minutes}min\nOnUnitActiveSec={minutes}min\nAccuracySec=10s");
    [
        (GUARD, guard + at_boot),
        (RESUME, resume + at_boot),
        (RESUME_TIMER, timer("finishes a change that was cut off", every_minute)),
        ("lockgate-backup.service", service("backs up data", &after, "oneshot", "backup make --scheduled")),
        (BACKUP_TIMER, timer("backs up data", &backups)),
        ("lockgate-check.service", service("looks for drift", &after, "oneshot", "check")),
        (CHECK_TIMER, timer("looks for drift", "OnCalendar=daily\nRandomizedDelaySec=1h\nPersistent=true")),
    ]
}

/// What systemd is to have: files, units that are enabled, units that are at work, the program that they
/// call.
#[derive(Debug, Default)]
struct Wanted {
    files: Vec<(PathBuf, String)>,
    enabled: Vec<String>,
    active: Vec<String>,
    program: Option<PathBuf>,
}

impl Wanted {
    /// What is otherwise, in words. `says` asks systemd whether a unit is enabled or active.
    fn differing(&self, says: &dyn Fn(&str, &str) -> Result<bool>) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (path, text) in &self.files {
            if !std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes()) {
                found.push(format!("unit {} is not as written", path.display()));
            }
        }
        for (question, word, units) in [("is-enabled", "enabled", &self.enabled), ("is-active", "active", &self.active)]
        {
            let others = not_yet(question, units.iter().map(String::as_str), says)?;
            found.extend(others.into_iter().map(|unit| format!("unit {unit} is not {word}")));
        }
        let is_program = |path: &&PathBuf| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        if let Some(program) = self.program.as_ref().filter(|path| !is_program(path)) {
            found.push(format!("{} is no program any more; units call it", program.display()));
        }
        Ok(found)
    }
}

fn systemd_says(question: &str, unit: &str) -> Result<bool> {
    Ok(Command::new("systemctl").args([question, "--quiet", unit]).output()?.code == 0)
}

fn wanted_watch(units: &Path, program: &Path, state_dir: &Path) -> Wanted {
    Wanted {
        files: watch_units(program, state_dir).map(|(name, text)| (units.join(name), text)).into(),
        enabled: WATCH.map(str::to_owned).into(),
        active: TIMERS.map(str::to_owned).into(),
        program: Some(program.to_owned()),
    }
}

fn wanted_network(units: &Path, network: &str, rules: &Path, nft: &Path) -> Wanted {
    let name = format!("{}.service", network_unit(network));
    Wanted {
        files: vec![(units.join(&name), network_unit_text(network, rules, nft))],
        enabled: vec![name.clone()],
        active: vec![name],
        program: None,
    }
}

fn network_unit_text(network: &str, rules: &Path, nft: &Path) -> String {
    format!(
        "[Unit]\nDescription=Lockgate: what the network {network} may reach\nBefore=network-pre.target\nWants=network-pre.target\n\
         DefaultDependencies=no\nAfter=local-fs.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={} -f {}\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        nft.display(),
        rules.display()
    )
}

/// Loads the network's rules now and at boot.
fn enable_network_unit(network: &str, rules: &Path, nft: &Path) -> Result<()> {
    let unit = network_unit_text(network, rules, nft);
    let (path, name) = (network_unit_path(network), format!("{}.service", network_unit(network)));
    if !std::fs::read(&path).is_ok_and(|found| found == unit.as_bytes()) {
        atomic::write(&path, unit.as_bytes(), Access::Public)?;
        systemctl(&["daemon-reload"])?;
    }
    enable([name.as_str()])?;
    systemctl(&["restart", &name])
}

/// Takes the network's unit away.
fn disable_network_unit(network: &str) -> Result<()> {
    let path = network_unit_path(network);
    if !path.exists() {
        return Ok(());
    }
    systemctl(&["disable", "--now", &format!("{}.service", network_unit(network))])?;
    std::fs::remove_file(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
    systemctl(&["daemon-reload"])
}

fn network_unit(network: &str) -> String {
    format!("lockgate-network-{network}")
}

fn network_unit_path(network: &str) -> PathBuf {
    Path::new(UNITS).join(format!("{}.service", network_unit(network)))
}

fn service(product: &str, workload: &str) -> String {
    format!("{}.service", unit_name(product, workload))
}

fn unit_name(product: &str, workload: &str) -> String {
    format!("lockgate-{product}-{workload}")
}

fn head(product: &str, network: &str, workload: &WorkloadFile) -> String {
    let network = network_unit(network);
    // A start that fails is tried again a few times, then the unit stays failed for a person to
    // see: without a limit the machine would never finish booting.
    format!(
        "[Unit]\nDescription={DESCRIPTION}{product}: {}\nWants={network}.service {GUARD}\nAfter={network}.service {GUARD}\n\
         ConditionPathExists={}\nStartLimitIntervalSec=1800\nStartLimitBurst=5\n",
        workload.name,
        workload.path.display()
    )
}

fn quadlet(product: &str, network: &str, workload: &WorkloadFile) -> String {
    format!(
        "{}\n[Kube]\nYaml={}\nNetwork={network}\n\n[Service]\nRestart=on-failure\nRestartSec=5\nTimeoutStartSec=900\n\n\
         [Install]\nWantedBy=multi-user.target default.target\n",
        head(product, network, workload),
        workload.path.display()
    )
}

fn plain_unit(product: &str, network: &str, workload: &WorkloadFile) -> String {
    let path = workload.path.display();
    format!(
        "{}\n[Service]\nType=notify\nNotifyAccess=all\nEnvironment=PODMAN_SYSTEMD_UNIT=%n\n\
         ExecStart=/usr/bin/podman kube play --replace --service-container=true --network {network} {path}\n\
         ExecStop=/usr/bin/podman kube down {path}\nRestart=on-failure\nRestartSec=5\nTimeoutStartSec=900\nTimeoutStopSec=120\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        head(product, network, workload)
    )
}

/// Enables units that are not yet; all in one call, because after each that changes something systemd
/// reads everything anew.
fn enable<'a>(units: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let units = not_yet("is-enabled", units, &systemd_says)?;
    if units.is_empty() { Ok(()) } else { systemctl(&[&["enable"], &units[..]].concat()) }
}

/// Those of which systemd does not say so. Each is asked for: of several, `systemctl` says yes as soon as one is.
fn not_yet<'a>(
    question: &str,
    units: impl IntoIterator<Item = &'a str>,
    says: &dyn Fn(&str, &str) -> Result<bool>,
) -> Result<Vec<&'a str>> {
    let mut found = Vec::new();
    for unit in units {
        if !says(question, unit)? {
            found.push(unit);
        }
    }
    Ok(found)
}

fn systemctl(args: &[&str]) -> Result<()> {
    Command::new("systemctl").args(args.iter().copied()).deadline(START).run().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_name_the_yaml_the_network_and_a_limit() {
        let workload = WorkloadFile {
            name: "web".into(),
            path: "/s/web.yaml".into(),
            pods: vec!["web".into()],
            config_maps: vec![],
        };
        for text in [quadlet("p", "net", &workload), plain_unit("p", "net", &workload)] {
            for part in [
                "/s/web.yaml",
                "StartLimitBurst=5",
                "After=lockgate-network-net.service lockgate-guard.service",
                "ConditionPathExists=/s/web.yaml",
                "Restart=on-failure",
                "WantedBy=multi-user.target",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        assert!(quadlet("p", "net", &workload).contains("Network=net\n"));
        let units = watch_units(Path::new("/s/bin/installer"), Path::new("/s"));
        for (name, part) in [
            (GUARD, "ExecStart=/s/bin/installer --state-dir /s --no-color --yes resume --guard\n"),
            (RESUME, "After=lockgate-guard.service"),
            (RESUME, "--yes resume --boot\n"),
            (RESUME, "WantedBy=multi-user.target"),
            (RESUME_TIMER, "[Timer]\nOnActiveSec=1min\nOnUnitInactiveSec=1min\n"),
            (RESUME_TIMER, "WantedBy=timers.target"),
            (BACKUP_TIMER, "OnUnitActiveSec=4min"),
            ("lockgate-check.service", "--yes check\n"),
        ] {
            let text = &units.iter().find(|(unit, _)| *unit == name).unwrap().1;
            assert!(text.contains(part), "{part} in {text}");
        }
        // What is enabled or started is among what is written, so that it is taken away again too.
        let written: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        for name in WATCH.iter().chain(&TIMERS) {
            assert!(written.contains(name), "{name}");
        }
        for name in TIMERS {
            assert!(WATCH.contains(&name) && written.contains(&name.replace(".timer", ".service").as_str()), "{name}");
        }
    }

    #[test]
    fn units_that_are_not_enabled_are_found_beside_one_that_is() {
        let says = |question: &str, unit: &str| {
            assert_eq!(question, "is-enabled");
            Ok(unit == "a")
        };
        assert_eq!(not_yet("is-enabled", ["a", "b", "c"], &says).unwrap(), ["b", "c"]);
        assert!(not_yet("is-enabled", ["a"], &says).unwrap().is_empty());
    }

    /// Puts everything in place that is wanted.
    fn put(wanted: &Wanted) {
        for (path, text) in &wanted.files {
            atomic::write(path, text.as_bytes(), Access::Public).unwrap();
        }
        if let Some(program) = &wanted.program {
            atomic::write(program, b"", Access::Program).unwrap();
        }
    }

    #[test]
    fn each_change_to_the_installers_own_units_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/installer");
        let units = folder.path().join("units");
        let yes = |_: &str, _: &str| Ok(true);
        let watch = wanted_watch(&units, &program, Path::new("/s"));
        let network = wanted_network(&units, "net", Path::new("/s/net.nft"), Path::new("/sbin/nft"));
        for wanted in [&watch, &network] {
            put(wanted);
            assert!(wanted.differing(&yes).unwrap().is_empty());
        }
        for wanted in [&watch, &network] {
            for (path, _) in &wanted.files {
                let named = [format!("unit {} is not as written", path.display())];
                std::fs::write(path, "[Unit]\n").unwrap();
                assert_eq!(wanted.differing(&yes).unwrap(), named);
                std::fs::remove_file(path).unwrap();
                assert_eq!(wanted.differing(&yes).unwrap(), named);
                put(wanted);
            }
        }
        for (wanted, question, unit, word) in [
            (&watch, "is-enabled", GUARD, "enabled"),
            (&watch, "is-enabled", "lockgate-resume.service", "enabled"),
            (&watch, "is-enabled", CHECK_TIMER, "enabled"),
            (&watch, "is-active", RESUME_TIMER, "active"),
            (&watch, "is-active", BACKUP_TIMER, "active"),
            (&watch, "is-active", CHECK_TIMER, "active"),
            (&network, "is-enabled", "lockgate-network-net.service", "enabled"),
            (&network, "is-active", "lockgate-network-net.service", "active"),
        ] {
            let but = |asked: &str, of: &str| Ok((asked, of) != (question, unit));
            assert_eq!(wanted.differing(&but).unwrap(), [format!("unit {unit} is not {word}")]);
        }
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let found = watch.differing(&yes).unwrap();
        assert!(found.len() == 1 && found[0].ends_with("is no program any more; units call it"), "{found:?}");
    }
}
