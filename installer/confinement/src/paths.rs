//! Landlock (`landlock(7)`): which paths can still be opened, and for what.
//!
//! Everything that the newest interface known here can deny is denied: reading, writing, making,
//! removing, renaming, running, ioctls on devices; binding and connecting TCP; abstract sockets of and
//! signals to processes outside. Reading below the named paths is what is given back.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

/// The newest interface whose rights are asked for; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// Lets go of all but `readable`; the version of the interface that enforces it, or why none does.
pub(crate) fn restrict(readable: &[&Path]) -> Result<u8, String> {
    let status = ruleset(readable).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Err("built in, not enabled at boot".into()),
        (RulesetStatus::NotEnforced, _) => Err("not built in".into()),
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => Ok(number(effective_abi, kernel_abi)),
        (_, status) => Err(format!("{status:?}")),
    }
}

fn ruleset(readable: &[&Path]) -> Result<landlock::RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    // What cannot be opened even as a mere place cannot be read later either, and says why then.
    for place in readable.iter().filter_map(|path| PathFd::new(path).ok()) {
        rules = rules.add_rule(PathBeneath::new(place, AccessFs::ReadFile | AccessFs::ReadDir))?;
    }
    rules.restrict_self()
}

/// The kernel's own number where it says one, else the one that the rules hold by.
fn number(effective: ABI, kernel: Option<i32>) -> u8 {
    kernel.and_then(|abi| u8::try_from(abi).ok()).unwrap_or(effective as u8)
}
