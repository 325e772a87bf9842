#!/bin/bash
# The proof of a bundle's head in one process: ten trust roots, two of three signers with both
# algorithms, a manifest of a hundred and of a thousand blobs. Median of many runs, on all cores; how
# much of it is reading comes with it.
#
# LOCKGATE_BENCH_PROOFS=200.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
runs=${LOCKGATE_BENCH_PROOFS:-200}
machine "$runs"
cd "$root"
"${CARGO:-cargo}" build --release --locked --quiet -p signing-keys --example proof
# shellcheck disable=SC2154 # bin comes from lib.sh
"$bin/examples/proof" "$runs"
