//! Facts of this machine that only preflight asks for, read below a folder, normally `/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::command::Command;

/// Whether the kernel has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is there now.
    Present,
    /// It is a module that lies ready.
    Loadable,
    /// It is not there and cannot be loaded.
    Absent,
    /// Neither the kernel's configuration nor its modules can be read.
    Unknown,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The file system's number, `MAJOR:MINOR`: the same for every subvolume of one btrfs, which have numbers of
    /// their own in stat(2) (proc(5), `st_dev` of the superblock).
    pub device: String,
    /// Where.
    pub point: PathBuf,
    /// Its kind, such as `ext4`.
    pub kind: String,
    /// Its options, the mount's own and the file system's.
    pub options: BTreeSet<String>,
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Features of the processor, as the kernel names them; none on other machines than x86.
    pub cpu_flags: BTreeSet<String>,
    /// Memory that can be had without swapping, MiB.
    pub memory_available_mib: Option<u64>,
    /// Bits that the kernel's random source counts.
    pub entropy: Option<u32>,
    /// Whether the random source was seeded.
    pub random_ready: bool,
    /// SELinux: whether it enforces; nothing where it is off.
    pub selinux_enforcing: Option<bool>,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether the kernel runs in FIPS mode.
    pub fips: bool,
    /// Kinds of namespaces that the kernel has.
    pub namespaces: BTreeSet<String>,
    /// overlay, `nf_tables`, veth, bridge: whether the kernel has them.
    pub modules: Vec<(&'static str, Support)>,
    /// Everything that is mounted.
    pub mounts: Vec<Mount>,
}

/// Modules that the engine needs, and the option of the kernel's configuration that brings each.
const MODULES: [(&str, &str); 4] = [
    ("overlay", "CONFIG_OVERLAY_FS"),
    ("nf_tables", "CONFIG_NF_TABLES"),
    ("veth", "CONFIG_VETH"),
    ("bridge", "CONFIG_BRIDGE"),
];

impl Facts {
    /// Reads the facts below `root` for a kernel release. What cannot be read counts as not there, or
    /// as unknown where that is another thing.
    pub fn read(root: &Path, kernel: &str) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let shown = |path: &str| Some(text(path)).filter(|text| !text.is_empty());
        let memory = text("proc/meminfo");
        let known = KernelFiles::read(root, kernel);
        Self {
            cpu_flags: flags(&text("proc/cpuinfo")),
            memory_available_mib: kib(&memory, "MemAvailable:").map(|kib| kib / 1024),
            entropy: text("proc/sys/kernel/random/entropy_avail").trim().parse().ok(),
            random_ready: random_ready(),
            selinux_enforcing: shown("sys/fs/selinux/enforce").map(|text| text.trim() == "1"),
            apparmor: text("sys/module/apparmor/parameters/enabled").trim() == "Y",
            fips: text("proc/sys/crypto/fips_enabled").trim() == "1",
            namespaces: names(&root.join("proc/self/ns")),
            modules: MODULES.map(|(module, option)| (module, known.support(module, option))).to_vec(),
            mounts: mounts(&text("proc/self/mountinfo")),
        }
    }

    /// The mount that a path lies on.
    pub fn mount_of(&self, path: &Path) -> Option<&Mount> {
        holding(&self.mounts, path)
    }
}

/// Everything that is mounted now.
pub fn mounted() -> Vec<Mount> {
    mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The mount that a path lies on.
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    // The last of several mounts on one point is the one in force.
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count())
}

/// Whether the kernel answers with randomness at once.
fn random_ready() -> bool {
    let mut byte = [0u8; 1];
    rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK).is_ok()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn flags(cpuinfo: &str) -> BTreeSet<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let words = line.and_then(|line| line.split_once(':')).map_or("", |(_, words)| words);
    words.split_whitespace().map(str::to_owned).collect()
}

fn kib(meminfo: &str, name: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

/// `/proc/self/mountinfo`, as proc(5) has it.
fn mounts(text: &str) -> Vec<Mount> {
    let unescaped =
        |point: &str| PathBuf::from(point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"));
    let parse = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let (mut mount, mut file_system) = (mount.split(' ').skip(2), file_system.split(' '));
        let (device, point, own) = (mount.next()?.to_owned(), unescaped(mount.nth(1)?), mount.next()?);
        let (kind, shared) = (file_system.next()?.to_owned(), file_system.nth(1).unwrap_or_default());
        let options = own.split(',').chain(shared.split(',')).map(str::to_owned).collect();
        Some(Mount { device, point, kind, options })
    };
    text.lines().filter_map(parse).collect()
}

/// What tells of a kernel's abilities: its configuration, its modules, what is loaded.
struct KernelFiles {
    config: String,
    builtin: String,
    loadable: Option<String>,
    loaded: BTreeSet<String>,
    file_systems: String,
}

impl KernelFiles {
    fn read(root: &Path, kernel: &str) -> Self {
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let modules = root.join("lib/modules").join(kernel);
        let mut config = text(root.join("boot").join(format!("config-{kernel}")));
        let packed = root.join("proc/config.gz");
        if config.is_empty() && packed.exists() {
            let unpacked = Command::new("gzip").arg("-dc").arg(packed.as_os_str()).run();
            config = unpacked.map(|output| output.stdout).unwrap_or_default();
        }
        Self {
            config,
            builtin: text(modules.join("modules.builtin")),
            loadable: std::fs::read_to_string(modules.join("modules.dep")).ok(),
            loaded: names(&root.join("sys/module")),
            file_systems: text(root.join("proc/filesystems")),
        }
    }

    fn support(&self, module: &str, option: &str) -> Support {
        let file = format!("/{module}.ko");
        let holds = |text: &str| text.lines().any(|line| line.split(':').next().unwrap_or_default().contains(&file));
        let known_file_system = self.file_systems.lines().any(|line| line.split_whitespace().last() == Some(module));
        if self.loaded.contains(module) || known_file_system || holds(&self.builtin) {
            return Support::Present;
        }
        if self.config.lines().any(|line| line == format!("{option}=y")) {
            return Support::Present;
        }
        match &self.loadable {
            Some(modules) if holds(modules) => Support::Loadable,
            None if self.config.is_empty() => Support::Unknown,
            _ => Support::Absent,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine on which everything is as it should be.
    pub(in crate::preflight) fn good() -> Facts {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
        Facts {
            cpu_flags: words(
                "lm cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
            ),
            memory_available_mib: Some(4096),
            entropy: Some(256),
            random_ready: true,
            selinux_enforcing: None,
            apparmor: true,
            fips: false,
            namespaces: words("cgroup ipc mnt net pid user uts"),
            modules: MODULES.map(|(module, _)| (module, Support::Present)).to_vec(),
            mounts: vec![mount("/", "ext4", "rw,relatime")],
        }
    }

    pub(in crate::preflight) fn mount(point: &str, kind: &str, options: &str) -> Mount {
        let options = options.split(',').map(str::to_owned).collect();
        Mount { device: "8:1".into(), point: point.into(), kind: kind.into(), options }
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn files_become_facts() {
        let folder = tree(&[
            ("proc/cpuinfo", "processor : 0\nflags\t\t: fpu sse4_2 avx2\n\nprocessor : 1\nflags\t\t: fpu\n"),
            ("proc/meminfo", "MemTotal: 10 kB\nMemAvailable:  2048000 kB\n"),
            ("proc/sys/kernel/random/entropy_avail", "256\n"),
            ("proc/sys/crypto/fips_enabled", "1\n"),
            ("sys/fs/selinux/enforce", "0"),
            ("sys/module/apparmor/parameters/enabled", "Y\n"),
            ("proc/self/ns/net", ""),
            (
                "proc/self/mountinfo",
                "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
              30 24 8:2 / /var/lib/my\\040state rw,nosuid,noexec - xfs /dev/sdb1 rw,prjquota\nnonsense\n",
            ),
        ]);
        let facts = Facts::read(folder.path(), "6.1.0");
        assert!(facts.cpu_flags.contains("avx2") && facts.fips && facts.apparmor);
        assert_eq!(
            (facts.memory_available_mib, facts.entropy, facts.selinux_enforcing),
            (Some(2000), Some(256), Some(false))
        );
        assert!(facts.namespaces.contains("net"));
        let mount = facts.mount_of(Path::new("/var/lib/my state/store")).unwrap();
        assert_eq!(mount.kind, "xfs");
        assert!(mount.options.contains("noexec") && mount.options.contains("prjquota"));
        assert_eq!(mount.device, "8:2");
        assert_eq!(facts.mount_of(Path::new("/var/lib")).unwrap().kind, "ext4");
        let nothing = Facts::read(Path::new("/no/such/root"), "6.1.0");
        assert_eq!((nothing.entropy, nothing.selinux_enforcing, nothing.fips), (None, None, false));
    }

    #[test]
    fn what_the_kernel_has() {
        let modules = "lib/modules/6.1.0";
        for (files, expected) in [
            (vec![], Support::Unknown),
            (vec![("sys/module/veth/refcnt".to_owned(), "0")], Support::Present),
            (vec![(format!("{modules}/modules.builtin"), "kernel/drivers/net/veth.ko\n")], Support::Present),
            (vec![(format!("{modules}/modules.dep"), "kernel/drivers/net/veth.ko.xz:\n")], Support::Loadable),
            (
                vec![(format!("{modules}/modules.dep"), "kernel/drivers/net/other.ko: kernel/drivers/net/veth.ko\n")],
                Support::Absent,
            ),
            (vec![("boot/config-6.1.0".to_owned(), "CONFIG_VETH=y\n")], Support::Present),
            (vec![("boot/config-6.1.0".to_owned(), "# CONFIG_VETH is not set\n")], Support::Absent),
            (
                vec![
                    ("boot/config-6.1.0".to_owned(), "CONFIG_VETH=m\n"),
                    (format!("{modules}/modules.dep"), "x/veth.ko:\n"),
                ],
                Support::Loadable,
            ),
            (vec![("proc/filesystems".to_owned(), "nodev\tveth\n")], Support::Present),
        ] {
            let listed: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
            let folder = tree(&listed);
            let found = KernelFiles::read(folder.path(), "6.1.0").support("veth", "CONFIG_VETH");
            assert_eq!(found, expected, "{files:?}");
        }
    }

    #[test]
    fn this_machine() {
        let facts = Facts::read(Path::new("/"), nix::sys::utsname::uname().unwrap().release().to_str().unwrap());
        assert!(facts.random_ready && facts.namespaces.contains("mnt") && facts.mount_of(Path::new("/proc")).is_some());
    }
}
