#!/bin/bash
# Power cuts in the real machine: an update is begun again and again while a program writes rows into
# PostgreSQL; at a random moment QEMU is killed. After each the machine has to come up by itself, or
# by one `installer resume`, with one of the two releases, healthy, and with every row that was
# acknowledged before the cut.
#
#   powercut.sh DIR        DIR as isolated.sh leaves it: disk.qcow2 with release 1, keys, root, release
#   LOCKGATE_CUTS=10       so many cuts, in LOCKGATE_CHAINS=2 machines beside each other
#   LOCKGATE_SEED=N        the same moments again (as far as an emulated machine allows)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/release
cuts=${LOCKGATE_CUTS:-10}
chains=${LOCKGATE_CHAINS:-2}
seed=${LOCKGATE_SEED:-$(date +%s)}
window=${LOCKGATE_CUT_WINDOW_MS:-45000}
work=$(mktemp -d -p /var/tmp lockgate-powercut.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM
fail() { echo "powercut: FAILED - $*" >&2; exit 1; }

builder() { "$bin/bundle-builder" "$@" >/dev/null 2>"$work/said" || { cat "$work/said" >&2; exit 1; }; }

# The database alone: each boot and each update takes less time than with the whole platform, and
# the first update drops a workload and a container.
release() { # NAME RELEASE SEQUENCE
    cat >"$from/release/$1.yaml" <<Y
format: lockgate-release/1
product: isolated
release: "$2"
sequence: $3
marking: UNCLASSIFIED
platform: linux/amd64
title: Release $2 for power cuts
requires: {memory_mib: 512, disk_mib: 256}
lifecycle:
  stable_seconds: 2
  checks:
    - {name: query, kind: exec, container: database-postgres, command: [psql, -h, /tmp, -d, platform, -qAtc, select 1], expect: "1"}
images:
  - {name: "registry.defense-builders.example/platform/database:1.0.0", source: "oci:images:database"}
network: {name: isolated, internal: true}
secrets:
  - {name: database-password, kind: password}
  - {name: database-exporter-password, kind: password}
workloads:
  - {name: database, file: alone.yaml}
files: []
runtime: []
Y
    builder pin "$from/release/$1.yaml"
    builder build "$from/release/$1.yaml" --root "$from/root-1.json" --out "$work/medium/$1.bundle.tar"
    for name in alice bob; do
        builder sign "$work/medium/$1.bundle.tar" --key "$from/keys/$name" --passphrase-file "$from/keys/$name.passphrase"
    done
}

prepare() {
    mkdir -p "$work/medium"
    awk '/^    - name: exporter/ {skip = 1} /^  volumes:/ {skip = 0} !skip' "$from/release/workloads/database.yaml" >"$from/release/alone.yaml"
    release blue 2.0.0 2
    release green 2.0.1 2
    cp "$bin/installer" "$work/medium/"
    cat >"$work/medium/run.sh" <<'R'
# Runs inside the machine at every boot; what it echoes is asserted outside.
M=$BENCH_MEDIUM
I="$M/installer --no-color"
query() { podman exec database-postgres psql -h /tmp -d platform -qAtc "$1"; }
# Healthy, and nothing left that could still change which release runs.
settled() {
    $I --json status >/tmp/status 2>/dev/null || return 1
    grep -q -e '"unfinished":null' -e '"phase":"staging"' /tmp/status
}
wait_settled() { # SECONDS
    end=$(($(cut -d. -f1 /proc/uptime) + $1))
    until settled; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt $end ] || return 1
        sleep 1
    done
}
# Rows without end; each that the database took is told outside at once.
writer() {
    while :; do
        (while echo "insert into rows default values returning 'ACK ' || n;"; do sleep 0.2; done) |
            podman exec -i database-postgres psql -h /tmp -d platform -qAt 2>/dev/null
        sleep 0.5
    done
}
if wait_settled 400; then
    echo "UP alone after $(cut -d. -f1 /proc/uptime) s"
else
    $I --json status 2>&1
    echo "RESUME"
    $I --yes resume
    echo "RESUME rc=$?"
    wait_settled 200 && echo "UP by resume after $(cut -d. -f1 /proc/uptime) s"
fi
sed -n 's/.*"release":"\([0-9.]*\)","sequence".*/RUNS \1/p' /tmp/status
grep -o '"unfinished":{[^}]*}' /tmp/status
echo "HAVE $(query "select coalesce(string_agg(n::text, ' ' order by n), '') from rows" 2>/dev/null)"
[ ! -e $M/last ] || exit 0
case $(grep -o '"release":"[0-9.]*","sequence"' /tmp/status | head -n 1) in
*2.0.0*) next=green ;;
*) next=blue ;;
esac
query 'create table if not exists rows(n bigint generated always as identity primary key)'
writer &
sleep 1
echo "CUT"
$I --yes install $M/$next.bundle.tar 2>&1
echo "UPDATE rc=$?"
exit 191
R
}

# One machine, cut again and again.
chain() { # NUMBER CUTS
    local number=$1 count=$2 disk=$work/disk$1.qcow2 cut ms rc log
    RANDOM=$((seed + number))
    : >"$work/acked$number"
    for cut in $(seq "$count"); do
        log=$work/c$number-$cut.log
        ms=$(((RANDOM * 32768 + RANDOM) % window))
        rc=0
        "$here/run-vm.sh" --disk "$disk" --medium "$work/medium.img" --log "$log" --smp 1 --memory 2048 --timeout 900 \
            --cut-after CUT --cut-ms $ms 2>>"$work/vm$number.log" || rc=$?
        [ $rc = 122 ] || { tail -n 40 "$log" >&2; echo "chain $number, cut $cut: the machine ended with $rc"; return 1; }
        verdict "$number" "$cut" "$log" "$ms" || return 1
    done
    # The last cut is looked at too.
    log=$work/c$number-last.log
    rc=0
    "$here/run-vm.sh" --disk "$disk" --medium "$work/last.img" --log "$log" --smp 1 --memory 2048 --timeout 900 2>>"$work/vm$number.log" || rc=$?
    [ $rc = 0 ] || { tail -n 40 "$log" >&2; echo "chain $number, last look: the machine ended with $rc"; return 1; }
    verdict "$number" last "$log" -
}

# What a boot said about the cut before it; then its own acknowledged rows are added.
verdict() { # NUMBER CUT LOG MS
    local clean=$3.clean missing up
    tr -d '\r' <"$3" | sed -n 's/^BENCH| //p' >"$clean"
    up=$(grep -m 1 '^UP ' "$clean") || { tail -n 40 "$clean" >&2; echo "chain $1, before cut $2: the machine did not come up"; return 1; }
    grep -q -E '^RUNS (1\.0\.0|2\.0\.0|2\.0\.1)$' "$clean" || { echo "chain $1, before cut $2: no release is told"; return 1; }
    grep -m 1 '^HAVE' "$clean" | tr ' ' '\n' | grep -E '^[0-9]+$' | sort -u >"$work/have$1" || true
    missing=$(sort -u "$work/acked$1" | comm -23 - "$work/have$1" | wc -l)
    [ "$missing" = 0 ] || { echo "chain $1, before cut $2: $missing acknowledged rows are lost"; return 1; }
    grep -E '^ACK [0-9]+$' "$clean" | cut -d' ' -f2 >>"$work/acked$1" || true
    printf '%s %s %s %s\n' "$1" "$2" "$up" "$(sed -n 's/^step: //p' "$clean" | tail -n 1)" >>"$work/verdicts$1"
    echo "powercut: chain $1, cut $2: $up, $(grep -m 1 '^RUNS' "$clean"), $(wc -l <"$work/acked$1") rows acknowledged; now cut ${4} ms into: $(sed -n 's/^step: //p' "$clean" | tail -n 1)"
}

from=${1:?usage: powercut.sh DIR (isolated.sh --then-cut calls it)}
prepare
echo "powercut: $cuts cuts in $chains machines, seed $seed"

# The same medium for every boot, made once; one for the last look.
medium_image() { # DIR OUT
    truncate -s "$(($(du -skL --apparent-size "$1" | cut -f1) * 21 / 20 + 16384))K" "$2"
    mke2fs -q -F -t ext4 -O ^has_journal -m 0 -L MEDIUM -E nodiscard -d "$1" "$2"
}
medium_image "$work/medium" "$work/medium.img"
mkdir "$work/last"
cp "$work"/medium/{run.sh,installer} "$work/last/"
touch "$work/last/last"
medium_image "$work/last" "$work/last.img"

pids=()
for number in $(seq "$chains"); do
    qemu-img create -q -f qcow2 -F qcow2 -b "$from/disk.qcow2" "$work/disk$number.qcow2"
    ln -sf "$(readlink -f "$from/disk.qcow2.vmlinuz")" "$work/disk$number.qcow2.vmlinuz"
    ln -sf "$(readlink -f "$from/disk.qcow2.initrd")" "$work/disk$number.qcow2.initrd"
    share=$((cuts / chains + (number <= cuts % chains ? 1 : 0)))
    chain "$number" $share &
    pids+=($!)
done
bad=0
for pid in "${pids[@]}"; do wait "$pid" || bad=$((bad + 1)); done
if [ -n "${LOCKGATE_VM_LOG:-}" ]; then mkdir -p "$LOCKGATE_VM_LOG" && cp "$work"/*.log "$work"/verdicts* "$LOCKGATE_VM_LOG/"; fi
[ $bad = 0 ] || fail "$bad of $chains machines"
cat "$work"/verdicts? | grep -v ' last ' >"$work/all" || true
alone=$(cat "$work"/verdicts? | grep -c 'UP alone' || true)
resumed=$(cat "$work"/verdicts? | grep -c 'UP by resume' || true)
rows=$(cat "$work"/acked? | wc -l)
echo "powercut: steps that were cut:"
awk '{ $1 = $2 = $3 = $4 = $5 = $6 = $7 = ""; print }' "$work/all" | sort | uniq -c | sort -rn | sed 's/^/powercut: /'
echo "powercut: $cuts cuts, 0 unrecoverable; up alone $((alone - chains)), by one resume $resumed, $rows acknowledged rows, 0 lost"
