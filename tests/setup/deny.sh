#!/bin/bash
# cargo-deny: licences, sources and bans always; advisories where a copy of the RustSec database is
# at hand (LOCKGATE_ADVISORY_DB names it), because this project's machines reach only registries.
set -euo pipefail
version=0.20.2
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/cargo-deny-$version
if [ ! -x "$cache/bin/cargo-deny" ]; then
    echo "deny.sh: building cargo-deny $version once into $cache"
    cargo install --quiet --locked --version "$version" --root "$cache" cargo-deny
fi
checks=(licenses bans sources)
if [ -n "${LOCKGATE_ADVISORY_DB:-}" ]; then
    checks=(advisories "${checks[@]}")
else
    echo "deny.sh: no LOCKGATE_ADVISORY_DB given: advisories are NOT checked in this run"
fi
exec "$cache/bin/cargo-deny" --all-features --locked check "${checks[@]}"
