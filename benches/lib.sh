# shellcheck shell=bash
# Shared by the benchmarks. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/release # our programs

median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
ratio() { echo "scale=2; $1 / $2" | bc; }
now() { date +%s.%N; }
since() { echo "$(now) - $1" | bc; }
# CPU seconds of what `/usr/bin/time -f '%U %S'` wrote into the files.
cpu() { cat "$@" | grep -E '^[0-9.]+ [0-9.]+$' | awk '{s += $1 + $2} END {printf "%.2f\n", s}'; }
machine() { echo "machine: $(nproc) cores, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(uname -r); rounds: $1"; }

# A folder for MB megabytes of files: in memory if they fit twice over, else on disk. Same for all peers.
work_folder() { # MB NAME
    local free
    free=$(df --output=avail -BM /dev/shm | tail -n 1 | tr -dc 0-9)
    local have
    have=$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
    # LOCKGATE_BENCH_DIR puts the files on a disk instead of into memory.
    if [ -n "${LOCKGATE_BENCH_DIR:-}" ]; then
        mktemp -d -p "$LOCKGATE_BENCH_DIR" "$2.XXXXXX"
    elif [ "$free" -gt $(($1 * 2)) ] && [ "$have" -gt $(($1 * 2)) ]; then
        mktemp -d -p /dev/shm "$2.XXXXXX"
    else
        mktemp -d -p /var/tmp "$2.XXXXXX"
    fi
}

# A signed bundle DIR/b.tar of random files: nothing can be made smaller, every byte counts. Beside it
# DIR/state, an installer's state that trusts its root.
file_bundle() { # MB DIR
    local dir=$2 left=$1 number=0 take
    mkdir -p "$dir/files"
    cat >"$dir/r.yaml" <<'Y'
format: lockgate-release/1
product: bench
release: "1"
sequence: 1
marking: UNCLASSIFIED
platform: linux/amd64
title: bench
requires: {memory_mib: 0, disk_mib: 0}
images: []
network: {name: bench, internal: true}
secrets: []
workloads: []
runtime: []
files:
Y
    while [ "$left" -gt 0 ]; do
        take=$((left < 256 ? left : 256))
        head -c "${take}M" /dev/urandom >"$dir/files/$number.bin"
        echo "  - {path: \"files/$number.bin\", source: \"file:files/$number.bin\"}" >>"$dir/r.yaml"
        left=$((left - take)) number=$((number + 1))
    done
    echo "TEST passphrase of bench" >"$dir/pass"
    {
        "$bin/bundle-builder" keygen --name bench --out "$dir" --passphrase-file "$dir/pass"
        "$bin/bundle-builder" root init --out "$dir/root.json" --threshold 1 --signer "$dir/bench.signer.json" --expires 2036-01-01T00:00:00Z
        "$bin/bundle-builder" root sign "$dir/root.json" --key "$dir/bench" --passphrase-file "$dir/pass"
        "$bin/bundle-builder" pin "$dir/r.yaml"
        "$bin/bundle-builder" build "$dir/r.yaml" --root "$dir/root.json" --out "$dir/b.tar"
        "$bin/bundle-builder" sign "$dir/b.tar" --key "$dir/bench" --passphrase-file "$dir/pass"
        "$bin/installer" --state-dir "$dir/state" trust init "$dir/root.json" \
            --fingerprint "$("$bin/bundle-builder" --json root show "$dir/root.json" | jq -r .sha384)"
    } >"$dir/log" 2>&1 || { cat "$dir/log" >&2; return 1; }
    rm -rf "$dir/files"
}
