#!/bin/bash
# What the confinement of readers costs `verify`: the whole proof in a confined process and in a free
# one, interleaved, a small bundle (what setting it up costs) and a large one (what it costs each byte).
# To reach: a ratio of 1 within the noise.
#
# LOCKGATE_BENCH_ROUNDS=11, LOCKGATE_BENCH_MB="1 512".
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
rounds=${LOCKGATE_BENCH_ROUNDS:-11}
machine "$rounds"
cd "$root"
"${CARGO:-cargo}" build --release --locked --quiet -p installer --example apart
for megabytes in ${LOCKGATE_BENCH_MB:-1 512}; do
    work=$(work_folder "$megabytes" confine)
    trap 'rm -rf "$work"' EXIT
    file_bundle "$megabytes" "$work"
    # shellcheck disable=SC2154 # bin comes from lib.sh
    "$bin/examples/apart" "$work/b.tar" "$work/state" "$rounds"
    rm -rf "$work"
done
