#!/bin/bash
# Gzip layers as tokens: sizes under zstd at the efforts' levels (or --levels), with the packs' windows, and
# speeds, for the files given (gzip layers, such as the blobs of an OCI layout). Speeds count the seconds
# that the program had a core; of --rounds the best. --keep FOLDER holds what was compressed for a later run.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -gt 0 ] || { echo "usage: benches/tokens.sh [--levels N,N...] [--rounds N] [--keep FOLDER] [--base FORMER-LAYER] LAYER..." >&2; exit 2; }
machine 1
cd "$root"
exec cargo run --quiet --release --locked -p bundle-format --example tokens -- "$@"
