#!/bin/bash
# Builds the software token kryoptic (tests/setup/kryoptic: with its own OpenSSL, since Debian 12 has none
# that knows ML-DSA) in the cache, once for each content of its sources and each compiler, and prints the path
# of its PKCS#11 module. SoftHSM2 has no ML-DSA. It is a tool for tests under Apache-2.0 (before 1.5.3: GPL-3.0):
# never linked to our programs, never carried with them, and no certified module. Needs Debian's libclang-dev
# and perl.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/kryoptic
key=$({ cat "$here/Cargo.toml" "$here/Cargo.lock" "$here/src/lib.rs"; rustc -vV; } | sha256sum | cut -c1-16)
version=$(sed -n '/^name = "kryoptic-lib"/{n;s/^version = "\(.*\)"/\1/p}' "$here/Cargo.lock")
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/kryoptic-$version-$key
module=libkryoptic_pkcs11.so
if [ ! -f "$cache/$module" ]; then
    echo "kryoptic.sh: building the token once into $cache (a few minutes)" >&2
    mkdir -p "$(dirname "$cache")"
    # Under another name first: a run that was cut leaves nothing that looks whole.
    made=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    # From its own folder and target: no setting of the workspace or of a test that called reaches it.
    cd "$here"
    env -u OPENSSL_NO_VENDOR -u OPENSSL_DIR CARGO_TARGET_DIR="$made/target" \
        "${CARGO:-cargo}" build --release --locked --quiet >"$made/log" 2>&1 ||
        { tail -n 40 "$made/log" >&2; echo "kryoptic.sh: building failed" >&2; exit 1; }
    # Not writable by others, or our programs refuse to load it.
    install -m 755 "$made/target/release/$module" "$made/$module"
    rm -rf "$made/target" "$made/log"
    chmod 755 "$made"
    mv -T "$made" "$cache" 2>/dev/null || [ -f "$cache/$module" ]
fi
echo "$cache/$module"
