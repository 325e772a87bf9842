#!/bin/bash
# Mutation tests of the verifying modules: cargo-mutants changes one thing at a time in the code and runs
# the tests that should notice. Files of manifests/src as arguments; default: those that decide trust.
#
# Only what verifies is built: a copy of the tree with the rooms `manifests` and `signing-keys` and, of the
# system tests, the vectors and roots, which prove or refuse whole bundles. Left out there is what
# compares the vectors with the specification's text and with the verifier in Python: neither sees a change
# of our code that the vectors themselves do not see. A mutant costs seconds that way, not minutes. What
# survives is a missing test, or is to be explained in tests/mutants.md.
#
# LOCKGATE_MUTANTS_SHARD=k/n takes each n-th mutant from k on.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}
version=27.1.0
tool=$cache/cargo-mutants-$version
work=${LOCKGATE_MUTANTS_DIR:-$cache/mutants}
if [ ! -x "$tool/bin/cargo-mutants" ]; then
    echo "mutants.sh: building cargo-mutants $version once into $tool"
    cargo install --quiet --locked --version "$version" --root "$tool" cargo-mutants
fi
files=("$@")
[ "${#files[@]}" -gt 0 ] || files=(archive envelope signed key root root/chain signature)

mkdir -p "$work"
rm -rf "$work/tree"
mkdir -p "$work/tree/tests/src" "$work/tree/tests/tests"
cp -r "$root"/{Cargo.toml,Cargo.lock,manifests,signing-keys} "$work/tree"
cp "$root"/tests/src/{bundle,custody,keys,stock,ustar}.rs "$work/tree/tests/src"
cp -r "$root"/tests/tests/{vectors,roots.rs} "$work/tree/tests/tests"
sed -i -e 's/^members = .*/members = ["manifests", "signing-keys", "tests"]/' -e '/^exclude = /d' "$work/tree/Cargo.toml"
sed -i -e '/^\(bundle-builder\|installer\|confinement\|fuzz-targets\) = /d' "$work/tree/Cargo.toml"
# The crate that is built anew for each mutant is built quickly, without optimization across its units (seen: 6 s
# for 27); all that it stands on stays quick to run.
sed -i -e '/^\[profile.dev.package.bundle-format\]/,/^$/d' "$work/tree/Cargo.toml"
grep -v -E '^(bundle-builder|installer|fuzz-targets|cargo_metadata|clap|nix|rusqlite)' "$root/tests/Cargo.toml" >"$work/tree/tests/Cargo.toml"
cat >"$work/tree/tests/src/lib.rs" <<'RS'
//! Of the system tests, what proves bundles.
#![allow(clippy::all, missing_docs, unused)]
pub mod bundle;
pub mod custody;
pub mod keys;
pub mod stock;
pub mod ustar;
pub use bundle::{Draft, Sealed, prove, prove_with};
RS
args=()
[ -z "${LOCKGATE_MUTANTS_SHARD:-}" ] || args+=(--shard "$LOCKGATE_MUTANTS_SHARD")
for file in "${files[@]}"; do args+=(--file "manifests/src/$file.rs"); done
cd "$work/tree"
export CARGO_TARGET_DIR=$work/target CARGO_PROFILE_DEV_OPT_LEVEL=${LOCKGATE_MUTANTS_OPT:-1} LOCKGATE_VECTORS_FIRST=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_LTO=off
only=(--lib --test vectors --test roots)
none=(--skip rules:: --skip independent:: --skip coverage::)
# Unchanged, all must pass. The tool's own trial of that builds only the package that is changed.
echo "mutants.sh: the tests on the unchanged tree"
cargo test --quiet --workspace "${only[@]}" -- "${none[@]}"
"$tool/bin/cargo-mutants" mutants --in-place --no-shuffle --colors=never --baseline=skip --timeout 300 --output "$work" \
    --test-workspace=true "${only[@]/#/--cargo-arg=}" "${args[@]}" -- -- "${none[@]}"
