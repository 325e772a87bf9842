//! Privileges (`capabilities(7)`): root's are given up, but for that of reading.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities};

/// A bundle, and what a base is read from, may belong to somebody else, whose files root reads by this.
const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// Gives them up, in this thread and in those that it starts. Nothing brings them back: a program that is
/// started under `no_new_privs` gets none that its caller lacked. Without any there is nothing to do.
pub(crate) fn give_up() -> Result<(), Errno> {
    let held = capabilities(None)?;
    if !held.permitted.is_empty() {
        clear_ambient_capability_set()?;
    }
    let none = CapabilitySet::empty();
    let (effective, permitted) = (held.effective.intersection(KEPT), held.permitted.intersection(KEPT));
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: none })
}
