//! Facts about this build, made by `build.rs`: the release's date, and exact versions from `Cargo.lock`.

include!(concat!(env!("OUT_DIR"), "/build_facts.rs"));
