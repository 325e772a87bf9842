#!/bin/bash
# Parity beside its peer: 20 data and 2 parity volumes of a bundle, and the bundle back when two are
# lost, beside par2 with ten percent over the same bytes in 20 files; in the same rounds, medians.
#
#   ours            split; receive volumes, which also proves the signed manifest and every digest
#   par2            create -r10 and repair as they come: 2000 blocks
#   par2 -b20       one block a file, the least work that can restore two lost files of 20
#
# LOCKGATE_BENCH_PARITY_MB=256, LOCKGATE_BENCH_ROUNDS=5.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
mb=${LOCKGATE_BENCH_PARITY_MB:-256}
rounds=${LOCKGATE_BENCH_ROUNDS:-5}
work=$(work_folder $((mb * 6)) lockgate-parity)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM

file_bundle "$mb" "$work"
size=$(stat -c %s "$work/b.tar")
# The smallest volumes of which 20 hold the bundle: their share, and room for the head at both ends.
volume=$((size / 20))
until [ "$(jq .data_volumes "$work/set/set.json" 2>/dev/null)" = 20 ]; do
    rm -rf "$work/set"
    volume=$((volume + 16384))
    (cd "$work" && "$bin/bundle-builder" split b.tar --volume-size "$volume" --parity 2 --out set) >/dev/null 2>&1 || true
done
mkdir "$work/par"
split -n 20 -d "$work/b.tar" "$work/par/b."
timed() { # FILE PROGRAM...
    local began file=$1
    shift
    began=$(now)
    (cd "$work" && "$@") >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
    since "$began" >>"$work/$file"
}
ours() {
    rm -rf "$work/set" "$work/state/inbox"
    timed ours.create "$bin/bundle-builder" split b.tar --volume-size "$volume" --parity 2 --out set
    rm "$work"/set/*-v0003of*.lgv "$work"/set/*-v0011of*.lgv
    timed ours.repair "$bin/installer" --state-dir state receive volumes set
    cmp "$work/b.tar" "$work"/state/inbox/*.bundle.tar
}
par2_with() { # NAME FLAGS...
    local name=$1
    shift
    rm -f "$work"/par/*.par2
    timed "$name.create" par2 create -q -q "$@" par/set.par2 par/b.00 par/b.01 par/b.02 par/b.03 par/b.04 par/b.05 par/b.06 par/b.07 \
        par/b.08 par/b.09 par/b.10 par/b.11 par/b.12 par/b.13 par/b.14 par/b.15 par/b.16 par/b.17 par/b.18 par/b.19
    rm "$work/par/b.02" "$work/par/b.10"
    timed "$name.repair" par2 repair -q -q par/set.par2
    cat "$work"/par/b.?? | cmp - "$work/b.tar"
}
machine "$rounds"
echo "parity, $size bytes, 10 %, files in ${work%/*}"
for ((r = 0; r < rounds; r++)); do
    ours
    par2_with par2 -r10
    par2_with least -r10 -b20
done
for step in create repair; do
    o=$(median <"$work/ours.$step") p=$(median <"$work/par2.$step") l=$(median <"$work/least.$step")
    echo "  $step: ours $o s; par2 -r10 $p s, ours is $(ratio "$p" "$o") times as fast; par2 -r10 -b20 $l s, $(ratio "$l" "$o") times"
done
