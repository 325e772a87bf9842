//! One binary for all targets: `LOCKGATE_FUZZ_TARGET` names the one.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("LOCKGATE_FUZZ_TARGET").expect("LOCKGATE_FUZZ_TARGET names a target");
        let found = fuzz_targets::TARGETS.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no target {name}")).1
    })
}

fuzz_target!(|data: &[u8]| target()(data));
