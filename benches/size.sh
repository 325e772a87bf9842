#!/bin/bash
# What bundles weigh, on real Debian 13 images (images.sh; six images, compressed by three compressors):
#
#   full bundle   at each effort, over the gzip layers that a peer's archive carries, and over that
#                 archive: tar | zstd -T0 --ultra -20 of the same OCI layout stands in for Zarf and Hauler
#   delta bundle  from v1 to v2 (its security update), over the layers whose digest changed
#   building      --effort default beside tar | zstd -T0 -9 of the same layout: wall and CPU seconds
#   decoding      installer verify on one core: MB/s of gzip bytes, hashing alone beside it; peak memory
#   the floor     zstd -19 of the layers' contents, and of v2's contents with v1's as the prefix: what is
#                 left when the compressed form and so the digest is given up
#
# In one run, the timed ones interleaved, medians of LOCKGATE_BENCH_ROUNDS=5. What depends on the images
# alone (peer's archive, floor) is computed once for each set of images and kept beside them.
#
#   size.sh [--suite trixie|bookworm] [--json FILE]
#   size.sh [--suite trixie|bookworm] --prepare   only what is kept
#
# LOCKGATE_BENCH_EFFORTS="fast default max"; default is always among them. LOCKGATE_BENCH_ROUNDS=0: sizes
# alone. bookworm: a longer update than trixie's (see images.sh).
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
here=$root/benches
rounds=${LOCKGATE_BENCH_ROUNDS:-5}
efforts=${LOCKGATE_BENCH_EFFORTS:-fast default max}
json='' suite=trixie prepare=''
while [ $# -gt 0 ]; do
    case $1 in
    --json) json=${2:?--json needs a file} && shift 2 ;;
    --suite) suite=${2:?--suite needs a name} && shift 2 ;;
    --prepare) prepare=yes && shift ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \?//p}' "$0" >&2 && exit 2 ;;
    esac
done
images=$("$here/images.sh" --suite "$suite" --folder)
work=$(work_folder 2500 lockgate-size)
trap 'rm -rf --one-file-system "$work"' EXIT
: >"$work/figures"

# figure KEY VALUE LINE: a line for people, a member of the JSON for machines.
figure() {
    echo "$3"
    jq -cn --arg k "$1" --argjson v "$2" '{($k): $v}' >>"$work/figures"
}
share() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.3f", a / b}'; }
mb() { awk -v b="$1" 'BEGIN {printf "%.1f MB", b / 1e6}'; }
# timed FILE COMMAND...: appends "wall user system peak-KiB". /usr/bin/time runs programs and no functions,
# so a shell of its own calls those that are exported below.
timed() {
    local into=$1
    shift
    # shellcheck disable=SC2016 # expanded by that shell
    /usr/bin/time -a -o "$into" -f '%e %U %S %M' bash -c '"$@"' bash "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; return 1; }
}
wall() { awk '{print $1}' "$1" | median; }
work_of() { awk '{print $2 + $3}' "$1" | median; }
peak() { awk '{if ($4 > m) m = $4} END {print int(m / 1024)}' "$1"; }

layers() { jq -rs 'unique_by(.digest)[] | [.digest[7:], .gzip_bytes, .tar_bytes, .layer, .compressor] | @tsv' "$images/$1.layers"; }
gzip_sum() { layers "$1" | awk '{s += $2} END {print s}'; }
changed() { layers v2 | grep -vFf <(layers v1 | cut -f1); }

# once NAME COMMAND...: a number that depends on the images alone.
once() {
    local name=$1 at
    at=$images/known/$(cat "$images/v1/index.json" "$images/v2/index.json" <(zstd --version; declare -f archive peer content floor_full floor_delta changed) | sha256sum | cut -c1-16)-$name
    shift
    if [ ! -s "$at" ]; then
        mkdir -p "$images/known"
        "$@" >"$at.new" && mv "$at.new" "$at"
    fi
    cat "$at"
}
archive() { tar -C "$images" --sort=name --exclude=DONE -cf - "$1"; }
peer() { archive "$1" | zstd -q -T0 --ultra -20 | wc -c; }
content() { gzip -dc "$images/$1/blobs/sha256/$2"; }
floor_full() {
    local digest
    layers "$1" | while read -r digest _; do content "$1" "$digest" | zstd -q -T0 -19 | wc -c; done | awk '{s += $1} END {print s}'
}
# Each changed layer with the same image's layer of v1 as the prefix.
floor_delta() {
    local digest layer former
    changed | while read -r digest _ _ layer _; do
        former=$(layers v1 | awk -v l="$layer" '$4 == l {print $1}')
        content v1 "$former" >"$work/former"
        content v2 "$digest" >"$work/later"
        zstd -q -19 --long=31 --patch-from="$work/former" -c "$work/later" 2>"$work/log" | wc -c
    done | awk '{s += $1} END {print s}'
    rm -f "$work/former" "$work/later"
}

if [ -n "$prepare" ]; then
    echo "peer's archive of v1 $(once peer-v1 peer v1), floor of v1 $(once floor-v1 floor_full v1), floor of the delta $(once floor-delta floor_delta) bytes"
    exit 0
fi

# --- what is built -----------------------------------------------------------

release() { # VERSION SEQUENCE
    local name
    cat <<Y
format: lockgate-release/1
product: bench
release: "$2"
sequence: $2
marking: UNCLASSIFIED
platform: linux/amd64
title: bench
requires: {memory_mib: 0, disk_mib: 0}
network: {name: bench, internal: true}
secrets: []
workloads: []
files: []
runtime: []
images:
Y
    for name in $(jq -r '.manifests[].annotations["org.opencontainers.image.ref.name"]' "$images/$1/index.json"); do
        echo "  - {name: \"registry.example/$name:$1\", source: \"oci:$1:$name\"}"
    done
}
build() { # VERSION BUNDLE OPTION...
    local version=$1 bundle=$2
    shift 2
    "$bin/bundle-builder" build "$work/$version.yaml" --root "$work/root.json" --out "$work/$bundle" "$@"
}
hashes() { # one core's sha256 of the gzip bytes and sha384 of the bundle, and nothing else
    local digest
    layers v1 | while read -r digest _; do cat "$images/v1/blobs/sha256/$digest"; done | openssl dgst -sha256
    openssl dgst -sha384 "$work/default.tar"
}
peer_9() { archive v1 | zstd -q -T0 -9 -c >"$work/peer.tar.zst"; }
export -f build hashes peer_9 archive layers
export bin work images
sign() { "$bin/bundle-builder" sign "$work/$1" --key "$work/bench" --passphrase-file "$work/pass"; }
inst() { "$bin/installer" --state-dir "$work/state" "$@"; }
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; return 1; }; }

echo "TEST passphrase of bench" >"$work/pass"
ln -s "$images/v1" "$images/v2" "$work/"
release v1 1 >"$work/v1.yaml"
release v2 2 >"$work/v2.yaml"
quietly "$bin/bundle-builder" keygen --name bench --out "$work" --passphrase-file "$work/pass"
quietly "$bin/bundle-builder" root init --out "$work/root.json" --threshold 1 --signer "$work/bench.signer.json" --expires 2036-01-01T00:00:00Z
quietly "$bin/bundle-builder" root sign "$work/root.json" --key "$work/bench" --passphrase-file "$work/pass"
quietly "$bin/bundle-builder" pin "$work/v1.yaml"
quietly "$bin/bundle-builder" pin "$work/v2.yaml"
quietly inst trust init "$work/root.json" --fingerprint "$("$bin/bundle-builder" --json root show "$work/root.json" | jq -r .sha384)"

machine "$rounds"
for version in v1 v2; do
    layers "$version" | awk -v v="$version" '{g += $2; t += $3} END {printf "%s: %d layers, %.1f MB gzip, %.1f MB of contents\n", v, NR, g / 1e6, t / 1e6}'
done
sum=$(gzip_sum v1)
figure gzip_bytes "$sum" "full bundle of v1 over the sum of its gzip layers ($(mb "$sum")):"
carried=$(once peer-v1 peer v1)
figure peer_bytes "$carried" "  peer's archive (tar | zstd --ultra -20)   $(mb "$carried"), ratio $(share "$carried" "$sum")"
for effort in $efforts; do
    rm -f "$work/cpu"
    timed "$work/cpu" build v1 "$effort.tar" --effort "$effort"
    size=$(stat -c %s "$work/$effort.tar")
    case $effort in max) goal=' (to reach: <= 0.78)' ;; default) goal=' (to reach: <= 0.87)' ;; *) goal='' ;; esac
    figure "full_${effort}_bytes" "$size" "  --effort $effort: $(mb "$size"), ratio $(share "$size" "$sum")$goal; over the peer's archive $(share "$size" "$carried"); $(wall "$work/cpu") s, CPU $(work_of "$work/cpu") s, $(peak "$work/cpu") MiB"
done
floor=$(once floor-v1 floor_full v1)
figure floor_bytes "$floor" "  floor, zstd -19 of the contents: $(mb "$floor"), ratio $(share "$floor" "$sum")"

[ -e "$work/default.tar" ] || quietly build v1 default.tar --effort default
quietly sign default.tar
delta_sum=$(changed | awk '{s += $2} END {print s}')
figure changed_gzip_bytes "$delta_sum" "delta bundle v1 to v2 over the gzip layers that changed ($(changed | wc -l) layers, $(mb "$delta_sum")):"
for effort in $efforts; do
    rm -f "$work/cpu"
    timed "$work/cpu" build v2 "delta-$effort.tar" --effort "$effort" --base "$work/default.tar"
    size=$(stat -c %s "$work/delta-$effort.tar")
    figure "delta_${effort}_bytes" "$size" "  --effort $effort: $(mb "$size"), ratio $(share "$size" "$delta_sum") (to reach: <= 0.100); $(wall "$work/cpu") s, CPU $(work_of "$work/cpu") s, $(peak "$work/cpu") MiB"
done
floor=$(once floor-delta floor_delta)
figure floor_delta_bytes "$floor" "  floor, zstd -19 --patch-from of the contents: $(mb "$floor"), ratio $(share "$floor" "$delta_sum")"

# --- what is timed -----------------------------------------------------------

timings() {
    [ -e "$work/delta-default.tar" ] || quietly build v2 delta-default.tar --effort default --base "$work/default.tar"
    quietly sign delta-default.tar
    quietly inst import "$work/default.tar" --store "$work/state/store"
    archive v1 | cat >/dev/null # the page cache is warm for all
    for ((round = 0; round < rounds; round++)); do
        rm -f "$work/again.tar"
        timed "$work/build" build v1 again.tar --effort default
        timed "$work/peer" peer_9
        timed "$work/verify" taskset -c 0 "$bin/installer" --state-dir "$work/state" verify "$work/default.tar"
        timed "$work/hashes" taskset -c 0 bash -c hashes
        timed "$work/verify-delta" "$bin/installer" --state-dir "$work/state" verify "$work/delta-default.tar"
    done
    b=$(wall "$work/build") p=$(wall "$work/peer")
    figure build_wall "[$b, $p]" "building, medians of $rounds: --effort default $b s, tar | zstd -T0 -9 $p s, ratio $(share "$b" "$p") (to reach: <= 2)"
    b=$(work_of "$work/build") p=$(work_of "$work/peer")
    figure build_cpu "[$b, $p]" "  CPU $b s and $p s, ratio $(share "$b" "$p")"
    v=$(wall "$work/verify") h=$(wall "$work/hashes")
    figure verify_seconds "[$v, $h]" "decoding on one core: verify $v s = $(awk -v s="$sum" -v t="$v" 'BEGIN {printf "%.0f", s / t / 1e6}') MB/s of gzip bytes (to reach: >= 150); sha256 and sha384 alone (OpenSSL) $h s; without them $(awk -v s="$sum" -v t="$v" -v h="$h" 'BEGIN {if (t > h) printf "%.0f MB/s", s / (t - h) / 1e6; else print "nothing left"}')"
    figure verify_peak_mib "[$(peak "$work/verify"), $(peak "$work/verify-delta")]" "peak memory of verify: full $(peak "$work/verify") MiB, delta $(peak "$work/verify-delta") MiB (to reach: <= 512); delta $(wall "$work/verify-delta") s"
}
[ "$rounds" = 0 ] || timings
"$bin/bundle-builder" size-report "$work/default.tar" || { echo "size-report failed" >&2; exit 1; }
if [ -n "$json" ]; then
    "$bin/bundle-builder" --json size-report "$work/default.tar" >"$work/report" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    jq -s --arg m "$(machine "$rounds")" --slurpfile report "$work/report" 'add + {machine: $m, size_report: $report[0]}' "$work/figures" >"$json"
fi
