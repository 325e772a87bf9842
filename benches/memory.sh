#!/bin/bash
# Memory of both sides for a set of 50 GB and more: split into volumes with parity, taken in with two
# volumes lost, and sent over the one-way link. The bundle is a generated one whose blobs are zeros
# (lockgate-test-large): real signatures, manifest and digests, real files and datagrams, but no disk.
# The volumes and the inbox lie on a compressed memory disk (zram), which keeps pages of one value
# without using memory for them; the programs' own memory is what is measured, so nothing is saved there.
# Where the kernel has no zram, LOCKGATE_BENCH_DIR names a folder with room for 2.3 times the size.
#
# LOCKGATE_BENCH_GIB=49 (52.6 GB), LOCKGATE_BENCH_RATE=150MB (of the link), LOCKGATE_BENCH_MEMORY="volumes link".
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
gib=${LOCKGATE_BENCH_GIB:-49}
rate=${LOCKGATE_BENCH_RATE:-150MB}
work=$(mktemp -d -p "${LOCKGATE_BENCH_DIR:-/var/tmp}" lockgate-memory.XXXXXX)
disk='' low=lgml$$ high=lgmh$$
# shellcheck disable=SC2329 # called by the trap
cleanup() {
    local name
    for name in $low $high; do
        ip netns pids "$name" 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns del "$name" 2>/dev/null || true
    done
    if [ -n "$disk" ]; then
        umount "$work" || true
        echo 1 >"/sys/block/zram$disk/reset" || true
        echo "$disk" >/sys/class/zram-control/hot_remove || true
    fi
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ -z "${LOCKGATE_BENCH_DIR:-}" ]; then
    [ -r /sys/class/zram-control/hot_add ] || { echo "no zram here; name a folder with LOCKGATE_BENCH_DIR" >&2; exit 1; }
    # A memory disk of our own; those of the machine stay as they are.
    disk=$(cat /sys/class/zram-control/hot_add)
    echo "$((gib * 23 / 10 + 4))G" >"/sys/block/zram$disk/disksize"
    mkfs.ext4 -q -m 0 -O ^has_journal -E nodiscard,lazy_itable_init=1 "/dev/zram$disk"
    mount "/dev/zram$disk" "$work"
fi
peak() { awk '/Maximum resident/ {printf "%d MiB", $6 / 1024}' "$1"; }
timed() { # FILE PROGRAM...
    local file=$1
    shift
    /usr/bin/time -v -o "$work/$file" "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
}
machine 1
"$bin/lockgate-test-large" "$gib" "$work/b.tar" "$work/root.json"
size=$(stat -c %s "$work/b.tar")
inst() { timed "$1" "$bin/installer" --state-dir "$work/state" "${@:2}"; }
inst t.trust trust init "$work/root.json" --fingerprint "$("$bin/bundle-builder" --json root show "$work/root.json" | jq -r .sha384)"

volumes() {
    (cd "$work" && timed t.split "$bin/bundle-builder" split b.tar --volume-size 4GB --parity 2 --out set)
    local count
    count=$(find "$work/set" -name '*.lgv' | wc -l)
    rm "$work"/set/*-v0002of*.lgv "$work"/set/*-v0009of*.lgv
    inst t.volumes receive volumes "$work/set"
    cmp "$work/b.tar" "$work"/state/inbox/*.bundle.tar
    echo "volumes: $size bytes in $count volumes of 4 GB, two lost and restored: split $(peak "$work/t.split"), receive $(peak "$work/t.volumes") (to reach: <= 256 MiB)"
    rm -rf "$work/set" "$work/state/inbox"
}
link() {
    ip netns add $low
    ip netns add $high
    ip link add l0 netns $low mtu 1500 type veth peer name h0 netns $high mtu 1500
    ip -n $low addr add 10.99.0.1/24 dev l0 && ip -n $low link set l0 up
    ip -n $high addr add 10.99.0.2/24 dev h0 && ip -n $high link set h0 up
    /usr/bin/time -v -o "$work/t.link" ip netns exec $high "$bin/installer" --state-dir "$work/state" --json \
        receive udp --listen 10.99.0.2:7000 >"$work/got" 2>"$work/said" &
    local receiver=$!
    until grep -q 'listening on' "$work/said"; do sleep 0.05; done
    timed t.send ip netns exec $low "$bin/bundle-builder" send udp "$work/b.tar" --to 10.99.0.2:7000 --rate "$rate"
    wait $receiver || { cat "$work/said" >&2; exit 1; }
    cmp "$work/b.tar" "$work"/state/inbox/*.bundle.tar
    echo "link: $size bytes at $rate: sender $(peak "$work/t.send"), receiver $(peak "$work/t.link") (to reach: <= 256 MiB); $(jq -c '{lost, dropped_by_kernel, repaired_blocks, milliseconds}' "$work/got")"
}
for part in ${LOCKGATE_BENCH_MEMORY:-volumes link}; do $part; done
