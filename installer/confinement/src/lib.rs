//! What a process gives up before it reads bytes that nobody has proved
//! (`docs/adr/0019-confinement.md`).
//!
//! Threat: a hole in a parser, a decoder or a cryptographic crate, found by a bundle made for it, so
//! that its bytes run as whoever reads it: root. Defence: from [`confine`] on, the process can read the
//! few paths that it names, write to the three descriptors that it was started with, and nothing else:
//! no other file, no program, no socket, no other process, no part of the kernel that reading does not
//! need. Nothing of it needs a privilege, nothing can be taken back, and threads that start later are
//! under it too.
//!
//! Five layers, each of which stands without the others: `no_new_privs`, resource limits, privileges,
//! Landlock (what paths), seccomp (what system calls, and how they may be called). A kernel that lacks one
//! is said, never passed over: [`Confined`] is for the report.
//!
//! And how such bytes are opened at all, confined or not: [`open_regular`].

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")
)]

mod calls;
mod input;
mod limits;
mod paths;
mod privileges;

use std::path::Path;

pub use input::{NotRegular, open_regular, read_regular};
pub use limits::DATA_BYTES;

/// What holds this process from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    landlock: Option<u8>,
    seccomp: Held,
    lacks: Vec<String>,
}

/// Whether a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    No,
}

/// Confines this process: of the file system, `readable` (files, or folders with all below) can still
/// be read. To be called before the first thread is started and before the first byte of a bundle is
/// read; descriptors that are open stay open, so what must not be reached is closed before.
///
/// A path of `readable` that is not there, or not to be read, is left out: opening it says why.
pub fn confine(readable: &[&Path]) -> Confined {
    let mut lacks = Vec::new();
    let mut lack = |what: &str, why: String| lacks.push(format!("{what} ({why})"));
    // Both further layers ask for it; alone it still keeps set-user-id programs from giving anything.
    if let Err(errno) = nix::sys::prctl::set_no_new_privs() {
        lack("no_new_privs", errno.to_string());
    }
    // Nobody without privileges looks into this process, and a crash leaves no memory on a disk.
    if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        lack("undumpable", errno.to_string());
    }
    for (name, errno) in limits::set() {
        lack(name, errno.to_string());
    }
    if let Err(errno) = privileges::give_up() {
        lack("capset", errno.to_string());
    }
    let landlock = match paths::restrict(readable) {
        Ok(abi) => Some(abi),
        Err(why) => {
            lack("landlock", why);
            None
        }
    };
    // Last: from here on the calls that set up the others are gone.
    let seccomp = match calls::restrict() {
        Ok(()) => Held::Yes,
        Err(why) => {
            lack("seccomp", why);
            Held::No
        }
    };
    Confined { landlock, seccomp, lacks }
}

impl Confined {
    /// The version of Landlock's interface whose rules hold.
    pub const fn landlock(&self) -> Option<u8> {
        self.landlock
    }

    /// Whether the filter of system calls holds.
    pub fn seccomp(&self) -> bool {
        self.seccomp == Held::Yes
    }

    /// What this kernel lacks, and why; nothing where all layers hold.
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// One line for a report.
    pub fn line(&self) -> String {
        let landlock = self.landlock.map(|abi| format!("landlock ABI {abi}"));
        let held: Vec<String> = landlock.into_iter().chain(self.seccomp().then(|| "seccomp".to_owned())).collect();
        let lacks = self.lacks.join(", ");
        match (held.is_empty(), self.lacks.is_empty()) {
            (true, _) => format!("NOT CONFINED: this kernel lacks {lacks}"),
            (false, true) => format!("confined: {}", held.join(", ")),
            (false, false) => format!("confined: {}; this kernel lacks {lacks}", held.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_holds_and_what_lacks() {
        let full = Confined { landlock: Some(7), seccomp: Held::Yes, lacks: Vec::new() };
        assert_eq!(full.line(), "confined: landlock ABI 7, seccomp");
        let half = Confined { landlock: None, seccomp: Held::Yes, lacks: vec!["landlock (not built in)".into()] };
        assert_eq!(half.line(), "confined: seccomp; this kernel lacks landlock (not built in)");
        let none =
            Confined { landlock: None, seccomp: Held::No, lacks: vec!["landlock (x)".into(), "seccomp (y)".into()] };
        assert_eq!(none.line(), "NOT CONFINED: this kernel lacks landlock (x), seccomp (y)");
    }
}
