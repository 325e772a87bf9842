#!/bin/bash
# Gzip layers as tokens: sizes under zstd 3, 9 and 19 and speeds, for the files given (gzip layers, such
# as the blobs of an OCI layout). Speeds count the seconds that the program had a core.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -gt 0 ] || { echo "usage: benches/tokens.sh [--quick] [--base FORMER-LAYER] LAYER..." >&2; exit 2; }
machine 1
cd "$root"
exec cargo run --quiet --release --locked -p bundle-format --example tokens -- "$@"
