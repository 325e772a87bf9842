//! Facts about this machine, read once, as data.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// How control groups are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// Version 2 alone.
    Unified,
    /// Version 1, or both.
    Legacy,
}

/// What starts and supervises services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd is process 1.
    Systemd,
    /// Something else.
    Other,
}

/// The facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// `ID-VERSION_ID` of os-release, such as `debian-13`.
    pub os: String,
    /// Process 1.
    pub init: Init,
    /// Control groups.
    pub cgroups: Cgroups,
    /// Memory of the machine, MiB.
    pub memory_mib: u64,
    /// File systems that the kernel has now.
    pub filesystems: Vec<String>,
    /// Kernel release.
    pub kernel: String,
}

impl HostFacts {
    /// Reads the facts below `root`, normally `/`.
    pub fn read(root: &Path) -> Result<Self> {
        let text = |path: &str| {
            let path = root.join(path);
            std::fs::read_to_string(&path).map_err(|e| Error::io(path.display().to_string(), e))
        };
        let systemd = text("proc/1/comm")?.trim() == "systemd" && root.join("run/systemd/system").is_dir();
        let unified = root.join("sys/fs/cgroup/cgroup.controllers").exists();
        Ok(Self {
            os: parse_os_release(&text("etc/os-release")?),
            init: if systemd { Init::Systemd } else { Init::Other },
            cgroups: if unified { Cgroups::Unified } else { Cgroups::Legacy },
            memory_mib: parse_meminfo(&text("proc/meminfo")?),
            filesystems: parse_filesystems(&text("proc/filesystems")?),
            kernel: text("proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }

    /// This machine in OCI terms.
    pub fn platform() -> String {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        format!("linux/{architecture}")
    }
}

const UPTIME: &str = "/proc/uptime";

/// Seconds since the machine was started.
pub fn uptime() -> Result<u64> {
    let text = std::fs::read_to_string(UPTIME).map_err(|e| Error::io(UPTIME, e))?;
    let seconds = text.split('.').next().and_then(|text| text.parse().ok());
    let unexpected = || ErrorKind::Unexpected {
        what: UPTIME.into(),
        expected: "seconds".into(),
        found: bundle_format::text::escaped(text.trim()),
    };
    Ok(seconds.ok_or_else(unexpected)?)
}

/// Free bytes for us and free inodes on the file system of `path`, or of its nearest existing
/// parent; no inodes where the file system sets no limit.
pub fn free_space(path: &Path) -> Result<(u64, Option<u64>)> {
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(existing).map_err(|e| Error::io(existing.display().to_string(), e.into()))?;
    let inodes = (stat.files() > 0).then(|| stat.files_available());
    Ok((stat.blocks_available().saturating_mul(stat.fragment_size()), inodes))
}

/// Which file system a path (or its nearest existing parent) lies on.
pub fn file_system(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    Ok(std::fs::metadata(existing).map_err(|e| Error::io(existing.display().to_string(), e))?.dev())
}

fn parse_os_release(text: &str) -> String {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or("unknown").trim_matches(['"', '\'']).to_owned()
    };
    format!("{}-{}", field("ID"), field("VERSION_ID"))
}

fn parse_meminfo(text: &str) -> u64 {
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn parse_filesystems(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(parse_os_release("NAME=\"Debian\"\nVERSION_ID=\"13\"\nID=debian\n"), "debian-13");
        assert_eq!(parse_os_release("ID=\"rhel\"\nVERSION_ID=\"9.4\"\n"), "rhel-9.4");
        assert_eq!(parse_meminfo("MemTotal:       3072000 kB\nMemFree: 1 kB\n"), 3000);
        assert_eq!(parse_filesystems("nodev\tsysfs\n\text4\nnodev\toverlay\n"), ["sysfs", "ext4", "overlay"]);
    }

    #[test]
    fn this_machine() {
        let facts = HostFacts::read(Path::new("/")).unwrap();
        assert!(facts.memory_mib > 100, "{facts:?}");
        assert!(uptime().unwrap() > 0);
        assert!(free_space(Path::new("/no/such/folder")).unwrap().0 > 0);
    }
}
