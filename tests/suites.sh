#!/bin/bash
# Every suite of `cargo test`. The suites on the engine wait for it more than half of their time; those that
# prove, refuse and cut keep every processor busy. So these run beside the others, with what they leave, and
# their output comes in one piece at the end. A list of what they are is made from the workspace itself: no
# suite can be forgotten here.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
cargo=${CARGO:-cargo}
busy=(cuts flips tuf vectors)
log=$(mktemp)
beside=
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    [ -z "$beside" ] || kill "$beside" 2>/dev/null || true
    rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mapfile -t all < <("$cargo" metadata --locked --no-deps --format-version 1 |
    jq -r '.packages[].targets[] | select(.kind == ["test"]) | .name' | sort -u)
first=() second=()
for name in "${all[@]}"; do
    case " ${busy[*]} " in
    *" $name "*) second+=(--test "$name") ;;
    *) first+=(--test "$name") ;;
    esac
done
[ "${#second[@]}" = $((2 * ${#busy[@]})) ] || { echo "suites.sh: not all of ${busy[*]} are suites" >&2; exit 1; }

"$cargo" test --workspace --locked --no-run
nice -n 19 "$cargo" test --workspace --locked --no-fail-fast "${second[@]}" >"$log" 2>&1 &
beside=$!
rc=0
"$cargo" test --workspace --locked --no-fail-fast --lib --bins "${first[@]}" || rc=$?
"$cargo" test --workspace --locked --no-fail-fast --doc || rc=$?
echo "suites.sh: what ran beside them:"
wait "$beside" || rc=$?
beside=
cat "$log"
exit "$rc"
