//! Resource limits (`setrlimit(2)`): what a hostile input can use up.

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{SFlag, fstat};

/// Bytes of private memory: four times what proving a bundle may take (R-LIM-14; its head is held
/// beside that, R-LIM-32), so that a bundle within the limits of the format never meets it and one that
/// gets past them cannot take the machine.
pub const DATA_BYTES: u64 = 1 << 30;
/// Open files: a bundle, a blob of a base, the standard three, and room.
const FILES: u64 = 64;

/// Sets the limits; the names of those that could not be set, with the reason.
pub(crate) fn set() -> Vec<(&'static str, Errno)> {
    let mut limits = vec![
        ("rlimit core", Resource::RLIMIT_CORE, 0),
        ("rlimit data", Resource::RLIMIT_DATA, DATA_BYTES),
        ("rlimit nofile", Resource::RLIMIT_NOFILE, FILES),
    ];
    // A report that is written into a file has to fit; nothing else is written to files.
    if !writes_to_a_file() {
        limits.push(("rlimit fsize", Resource::RLIMIT_FSIZE, 0));
    }
    let set = |(name, resource, value)| setrlimit(resource, value, value).err().map(|errno| (name, errno));
    limits.into_iter().filter_map(set).collect()
}

/// Whether standard output or error is a regular file.
fn writes_to_a_file() -> bool {
    let is_file = |found: nix::Result<nix::sys::stat::FileStat>| {
        found.is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG)
    };
    is_file(fstat(std::io::stdout())) || is_file(fstat(std::io::stderr()))
}
