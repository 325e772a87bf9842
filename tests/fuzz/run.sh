#!/bin/bash
# Fuzzes each target of tests/fuzz-targets for LOCKGATE_FUZZ_SECONDS (60), LOCKGATE_FUZZ_JOBS (1) of them
# beside each other, with the stable compiler:
# coverage counters are LLVM's own pass, and no sanitizer is needed where `unsafe` is forbidden. What is
# found lies in ${LOCKGATE_CACHE:-~/.cache/lockgate}/fuzz: a corpus that grows from run to run, and what
# crashed. The processor seconds of each target (user and system) and their sum are told, so that a figure
# does not depend on how many ran at once. Committed corpora (tests/fuzz/corpus) are replayed by `cargo test` without any of this.
#
# run.sh [TARGET…]      fuzz these, or all; ends with 1 if anything was found
# run.sh --list         names
# run.sh --minimise     writes the smallest inputs that add coverage, up to 4 KiB each and 64 KiB for a
#                       target, beside the committed ones
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
seconds=${LOCKGATE_FUZZ_SECONDS:-60}
jobs=${LOCKGATE_FUZZ_JOBS:-1}
[[ $jobs =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: LOCKGATE_FUZZ_JOBS is a number from 1" >&2; exit 2; }
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/fuzz
memory=1024

mapfile -t all < <(sed -n '/^pub const TARGETS/,/^];/s/^    ("\([a-z_]*\)", .*/\1/p' "$here/../fuzz-targets/src/lib.rs")
[ "${#all[@]}" -gt 0 ] || { echo "run.sh: no targets found" >&2; exit 1; }
if [ "${1:-}" = --list ]; then
    printf '%s\n' "${all[@]}"
    exit 0
fi
minimise=
if [ "${1:-}" = --minimise ]; then
    minimise=1
    shift
fi
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=("${all[@]}")

host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${LOCKGATE_FUZZ_TARGET_DIR:-$cache/target}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cforce-frame-pointers=yes"
# The target is named so that the flags reach the programs that run, not the build scripts.
"${CARGO:-cargo}" build --manifest-path "$here/Cargo.toml" --release --locked --quiet --target "$host"
fuzzer=$CARGO_TARGET_DIR/$host/release/lockgate-fuzz

if [ -n "$minimise" ]; then
    for target in "${targets[@]}"; do
        export LOCKGATE_FUZZ_TARGET=$target
        committed=$here/corpus/$target
        merged=$(mktemp -d)
        cp "$committed"/seed-* "$merged"
        "$fuzzer" -merge=1 -max_len=4096 -rss_limit_mb=$memory "$merged" "$cache/corpus/$target" >/dev/null 2>&1
        # Smallest first: what is small is quick and is read by people.
        total=0
        while read -r size path; do
            case ${path##*/} in seed-*) continue ;; esac
            if [ "$size" -gt 4096 ] || [ $((total + size)) -gt 65536 ]; then continue; fi
            total=$((total + size))
            name=$(sha256sum "$path" | cut -c1-16)
            cp "$path" "$committed/found-$name"
        done < <(find "$merged" -type f -printf '%s %p\n' | sort -n)
        rm -rf "$merged"
        printf '%-14s %4d files, %7d bytes\n' "$target" "$(find "$committed" -type f | wc -l)" "$(cat "$committed"/* | wc -c)"
    done
    exit 0
fi

# Fuzzes one target. Its line goes to standard output when it is done; its CPU seconds and a finding into $results.
fuzz() {
    local target=$1 code=0
    export LOCKGATE_FUZZ_TARGET=$target
    local corpus=$cache/corpus/$target found=$cache/found/$target/ log=$cache/$target.log
    mkdir -p "$corpus" "$found"
    local folders=("$corpus" "$here/corpus/$target")
    [ "$target" != tokens_round ] || folders+=("$here/../../manifests/tests/vectors-gzip")
    local TIMEFORMAT='%U %S'
    { time "$fuzzer" "${folders[@]}" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=$memory -max_len=65536 \
        -artifact_prefix="$found" -print_final_stats=1 >"$log" 2>&1; } 2>"$results/$target.times" || code=$?
    local cpu last inputs
    cpu=$(awk '{printf "%.1f", $1 + $2}' "$results/$target.times")
    echo "$cpu" >"$results/$target.cpu"
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    last=$(grep -E '^#[0-9]+' "$log" | tail -n 1) || last=
    field() { sed -n "s/.* $1: \([0-9]*\).*/\1/p" <<<"$last"; }
    inputs=$(sed -n 's/.* corp: \([0-9]*\).*/\1/p' <<<"$last")
    printf '%-14s %12s %9s %8s %8s %8s %9s %9s\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(field cov)" "$(field ft)" "$inputs" "$(stat peak_rss_mb)" "$cpu"
    if [ "$code" != 0 ]; then
        echo "$target" >"$results/$target.failed"
        grep -E -A12 'panicked at|ERROR: libFuzzer' "$log" | head -n 30 >&2 || true
        echo "run.sh: $target ended with $code; its input is in $found" >&2
    fi
}

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
printf '%-14s %12s %9s %8s %8s %8s %9s %9s\n' target executions exec/s edges features inputs 'peak MiB' 'CPU s'
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    fuzz "$target" &
done
wait
for target in "${targets[@]}"; do
    [ -s "$results/$target.cpu" ] || { echo "run.sh: $target did not come to its end" >&2; exit 1; }
done
failed=$(cat "$results"/*.failed 2>/dev/null | tr '\n' ' ') || true
awk -v targets="${#targets[@]}" '{sum += $1} END {printf "%-14s %69.1f CPU s\n", targets " targets", sum}' "$results"/*.cpu
[ -z "$failed" ] || { echo "run.sh: findings in: $failed" >&2; exit 1; }
