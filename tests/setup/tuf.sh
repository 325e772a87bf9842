#!/bin/bash
# Makes a Python environment with the reference implementation of TUF in the cache, once for each
# content of its requirements (every wheel pinned by its SHA-256) and each Python, and prints the path
# of its interpreter. Needs Debian's python3-venv.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
key=$({ cat "$here/tuf-requirements.txt"; /usr/bin/python3 -V; } | sha256sum | cut -c1-16)
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/tuf-$key
if [ ! -x "$cache/bin/python3" ]; then
    echo "tuf.sh: installing TUF's reference implementation once into $cache" >&2
    mkdir -p "$(dirname "$cache")"
    # Under another name first: a run that was cut leaves nothing that looks whole.
    made=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    /usr/bin/python3 -m venv "$made"
    "$made/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes -r "$here/tuf-requirements.txt" >&2
    "$made/bin/python3" -c 'import tuf.ngclient, cryptography.hazmat.primitives.asymmetric.ed25519'
    mv -T "$made" "$cache" 2>/dev/null || [ -x "$cache/bin/python3" ]
fi
echo "$cache/bin/python3"
