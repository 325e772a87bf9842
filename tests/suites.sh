#!/bin/bash
# Every suite of `cargo test`. The suites on the engine wait for it more than half of their time, one test
# after the other. So those that prove, refuse and build run beside them, and beside both, with what they
# leave, those that keep every processor busy for long; the output of each comes in one piece. The list of
# what they are is made from the workspace itself: no suite can be forgotten here.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
cargo=${CARGO:-cargo}
engine=(adversity audit delta install lifecycle support)
busy=(cuts flips tuf vectors)
logs=$(mktemp -d)
beside=()
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    [ "${#beside[@]}" = 0 ] || kill "${beside[@]}" 2>/dev/null || true
    rm -rf "$logs"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mapfile -t all < <("$cargo" metadata --locked --no-deps --format-version 1 |
    jq -r '.packages[].targets[] | select(.kind == ["test"]) | .name' | sort -u)
on_engine=() long=() others=()
for name in "${all[@]}"; do
    case " ${engine[*]} | ${busy[*]} " in
    *" $name "*"|"*) on_engine+=(--test "$name") ;;
    *"|"*" $name "*) long+=(--test "$name") ;;
    *) others+=(--test "$name") ;;
    esac
done
if [ "${#on_engine[@]}" != $((2 * ${#engine[@]})) ] || [ "${#long[@]}" != $((2 * ${#busy[@]})) ]; then
    echo "suites.sh: not all of ${engine[*]} ${busy[*]} are suites" >&2
    exit 1
fi

"$cargo" test --workspace --locked --no-run
run=("$cargo" test --workspace --locked --no-fail-fast)
began=$SECONDS
nice -n 19 "${run[@]}" "${long[@]}" >"$logs/long" 2>&1 &
beside+=($!)
nice -n 10 "${run[@]}" --lib --bins "${others[@]}" >"$logs/others" 2>&1 &
beside+=($!)
rc=0
"${run[@]}" "${on_engine[@]}" || rc=$?
echo "suites.sh: those on the engine took $((SECONDS - began)) s; what ran beside them:"
wait "${beside[1]}" || rc=$?
cat "$logs/others"
"${run[@]}" --doc || rc=$?
wait "${beside[0]}" || rc=$?
beside=()
cat "$logs/long"
echo "suites.sh: all suites, $((SECONDS - began)) s"
exit "$rc"
