#!/bin/bash
# Fuzzes each target of tests/fuzz-targets for LOCKGATE_FUZZ_SECONDS (60), with the stable compiler:
# coverage counters are LLVM's own pass, and no sanitizer is needed where `unsafe` is forbidden. What is
# found lies in ${LOCKGATE_CACHE:-~/.cache/lockgate}/fuzz: a corpus that grows from run to run, and what
# crashed. Committed corpora (tests/fuzz/corpus) are replayed by `cargo test` without any of this.
#
# run.sh [TARGET…]      fuzz these, or all; ends with 1 if anything was found
# run.sh --list         names
# run.sh --minimise     writes the smallest inputs that add coverage, up to 4 KiB each and 64 KiB for a
#                       target, beside the committed ones
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
seconds=${LOCKGATE_FUZZ_SECONDS:-60}
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

failed=()
printf '%-14s %12s %9s %8s %8s %8s %9s\n' target executions exec/s edges features inputs 'peak MiB'
for target in "${targets[@]}"; do
    export LOCKGATE_FUZZ_TARGET=$target
    corpus=$cache/corpus/$target
    found=$cache/found/$target/
    mkdir -p "$corpus" "$found"
    log=$cache/$target.log
    folders=("$corpus" "$here/corpus/$target")
    [ "$target" != tokens_round ] || folders+=("$here/../../manifests/tests/vectors-gzip")
    code=0
    "$fuzzer" "${folders[@]}" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=$memory -max_len=65536 \
        -artifact_prefix="$found" -print_final_stats=1 >"$log" 2>&1 || code=$?
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    last=$(grep -E '^#[0-9]+' "$log" | tail -n 1)
    field() { sed -n "s/.* $1: \([0-9]*\).*/\1/p" <<<"$last"; }
    inputs=$(sed -n 's/.* corp: \([0-9]*\).*/\1/p' <<<"$last")
    printf '%-14s %12s %9s %8s %8s %8s %9s\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(field cov)" "$(field ft)" "$inputs" "$(stat peak_rss_mb)"
    if [ "$code" != 0 ]; then
        failed+=("$target")
        grep -E -A12 'panicked at|ERROR: libFuzzer' "$log" | head -n 30 >&2 || true
        echo "run.sh: $target ended with $code; its input is in $found" >&2
    fi
done
[ "${#failed[@]}" -eq 0 ] || { echo "run.sh: findings in: ${failed[*]}" >&2; exit 1; }
