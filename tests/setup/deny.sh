#!/bin/bash
# cargo-deny: licences, sources and bans always; advisories where LOCKGATE_ADVISORY_DBS names a folder
# with a clone of the RustSec database (docs/adr/0003-dependencies.md): that database may be out of reach.
set -euo pipefail
version=0.20.2
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/cargo-deny-$version
if [ ! -x "$cache/bin/cargo-deny" ]; then
    echo "deny.sh: building cargo-deny $version once into $cache"
    cargo install --quiet --locked --version "$version" --root "$cache" cargo-deny
fi
deny=("$cache/bin/cargo-deny" --all-features --locked)
"${deny[@]}" check licenses bans sources
if [ -z "${LOCKGATE_ADVISORY_DBS:-}" ]; then
    echo "deny.sh: no LOCKGATE_ADVISORY_DBS given: advisories are NOT checked in this run"
    exit
fi
# deny.toml reads the variable. Offline, since cargo-deny would fetch into the clone otherwise.
exec "${deny[@]}" --offline check advisories
