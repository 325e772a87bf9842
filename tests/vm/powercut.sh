#!/bin/bash
# Power cuts in the real machine: an update is begun while a program writes rows into PostgreSQL; at a
# random moment QEMU is killed. The machine then starts from the disk that is left. It has to come up by
# itself, or by one `installer resume`, with one of the two releases, healthy, and with every row that
# was acknowledged before the cut.
#
#   powercut.sh DIR           DIR as isolated.sh leaves it: disk.qcow2 with release 1, keys, root, release
#   LOCKGATE_CUTS=30          so many cuts of updates, in LOCKGATE_CUT_MACHINES=2 machines beside each other
#   LOCKGATE_SEED=N           the same moments again (as far as an emulated machine allows)
#   LOCKGATE_VM_LOG=FOLDER    serial logs are kept there
#
# An update takes a minute under emulation, and most of it is the same for every cut. So two updates are
# recorded once, one that ends well and one that has to be taken back: every few seconds the machine is
# held, and its memory and its disk are kept. A cut goes on from the newest of these moments that lies
# before it, and then cuts the power in earnest (kill -9, a fresh disk image above the kept one, so that
# what the machine does not flush is gone; run-vm.sh). What it had written but not flushed at the kept
# moment itself counts as flushed: at most the seconds before it, in the disk's cache only, never in the
# machine's memory. The moments are spread evenly over the whole update.
#
# Every fifth machine is cut a second time while it recovers, every tenth goes on after its recovery with
# an update to the other release and is cut in that.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/${LOCKGATE_PROFILE:-release}
from=${1:?usage: powercut.sh DIR (isolated.sh --then-cut calls it)}
cuts=${LOCKGATE_CUTS:-30}
machines=${LOCKGATE_CUT_MACHINES:-2}
seed=${LOCKGATE_SEED:-$(date +%s)}
readonly EVERY=5          # seconds between two kept moments, at first
readonly PATIENCE=1500    # seconds for anything that a machine does
readonly MEMORY=768       # MiB of each machine
readonly ROOM=8000        # MiB for kept moments
readonly RECOVERY_MS=20000 # a second cut comes within this time of a recovery
work=$(mktemp -d -p /var/tmp lockgate-powercut.XXXXXX)
running=()
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    [ -z "${running[*]}" ] || { kill "${running[@]}" 2>/dev/null || true; wait "${running[@]}" 2>/dev/null || true; }
    if [ -n "${LOCKGATE_VM_LOG:-}" ]; then
        mkdir -p "$LOCKGATE_VM_LOG"
        find "$work" -maxdepth 1 \( -name '*.log' -o -name '*.vm' -o -name verdicts \) -exec cp {} "$LOCKGATE_VM_LOG" \;
    fi
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
say() { echo "powercut: $*"; }
fail() { echo "powercut: FAILED - $*" >&2; exit 1; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
builder() { "$bin/bundle-builder" "$@" >/dev/null 2>"$work/said" || { cat "$work/said" >&2; exit 1; }; }
# Its readers read all of it: one that ended at its first find would end this by SIGPIPE, and be believed to have
# found nothing (pipefail).
plain() { tr -d '\r' | sed -n 's/^BENCH| //p'; }

# The database without its exporter: each start takes less time than with the whole platform. The newer
# releases have the minimal web server as well, so that an image has to be fetched.
release() { # NAME RELEASE EXPECTED DEADLINE
    local image='' workload=''
    if [ "$1" != blue ]; then
        image='  - {name: "registry.defense-builders.example/platform/minimal:1.0.0", source: "oci:images:minimal"}'
        workload='  - {name: minimal, file: small.yaml}'
    fi
    cat >"$from/release/$1.yaml" <<Y
format: lockgate-release/1
product: isolated
release: "$2"
sequence: 2
marking: UNCLASSIFIED
platform: linux/amd64
title: Release $2 for power cuts
requires: {memory_mib: 512, disk_mib: 256}
lifecycle:
  deadline_seconds: $4
  stable_seconds: 2
  data:
    - {volume: database-data, backup: {method: postgres, container: database-postgres, database: platform, host: /tmp}, keep: 2}
  checks:
    - {name: query, kind: exec, container: database-postgres, command: [psql, -h, /tmp, -d, platform, -qAtc, select 1], expect: "$3"}
images:
  - {name: "registry.defense-builders.example/platform/database:1.0.0", source: "oci:images:database"}
$image
network: {name: isolated, internal: true}
secrets:
  - {name: database-password, kind: password}
  - {name: database-exporter-password, kind: password}
workloads:
  - {name: database, file: alone.yaml}
$workload
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
    local order
    mkdir -p "$work/medium"
    # The engine's own probes seldom, and with time: each takes a second or two here, and a database that did
    # not answer some of them in time would be started anew. The installer asks whenever it wants to know.
    awk '/^    - name: exporter/ {skip = 1} /^  volumes:/ {skip = 0} !skip' "$from/release/workloads/database.yaml" |
        sed 's/periodSeconds: .*/periodSeconds: 120/; s/timeoutSeconds: .*/timeoutSeconds: 60/' >"$from/release/alone.yaml"
    sed 's/periodSeconds: .*/periodSeconds: 120/; s/timeoutSeconds: .*/timeoutSeconds: 60/' \
        "$from/release/workloads/minimal.yaml" >"$from/release/small.yaml"
    release blue 2.0.0 1 900
    release green 2.0.1 1 900
    # Never right: taken back at the end of its time.
    release bad 2.0.2 2 20
    cp "$bin/installer" "$work/medium/"
    cp "$here/cut-run.sh" "$work/medium/run.sh"
    # The same medium for every start, made once.
    truncate -s "$(($(du -skL --apparent-size "$work/medium" | cut -f1) * 21 / 20 + 16384))K" "$work/medium.img"
    mke2fs -q -F -t ext4 -O ^has_journal -m 0 -L MEDIUM -E nodiscard -d "$work/medium" "$work/medium.img"
    rm -r "$work/medium"
    for order in seed green bad look on; do give "$order" "$work/order.$order"; done
}

give() { # ORDER FILE
    head -c 512 /dev/zero >"$2.new"
    printf '%s\n' "$1" | dd of="$2.new" conv=notrunc status=none
    # In place: the machine has the file open.
    cat "$2.new" >"$2"
    rm "$2.new"
}

overlay() { # OVER NEW
    qemu-img create -q -f qcow2 -F qcow2 -b "$1" "$2"
    ln -sf "$(readlink -f "$from/disk.qcow2.vmlinuz")" "$2.vmlinuz"
    ln -sf "$(readlink -f "$from/disk.qcow2.initrd")" "$2.initrd"
}
drop() { rm -f "$1" "$1.vmlinuz" "$1.initrd"; }

# --- two updates, recorded -----------------------------------------------------

# Keeps the machine NAME as it is now, as moment NUMBER: its disk NAME.NUMBER, its .state, what it has said
# .so-far, and .at, for how many ms it had run.
keep() { # NAME NUMBER AT
    "$here/qmp.py" "$work/$1.qmp" save "$work/$1.$(($2 + 1))" "$work/$1.$2.state" >/dev/null
    cp "$work/$1.log" "$work/$1.$2.so-far"
    echo "$3" >"$work/$1.$2.at"
}

await() { # NAME PATTERN PID
    local end=$((SECONDS + PATIENCE))
    until plain <"$work/$1.log" | grep "$2" >/dev/null; do
        kill -0 "$3" 2>/dev/null || fail "the machine $1 ended before it said $2: $(tail -n 20 "$work/$1.log")"
        [ $SECONDS -lt $end ] || fail "the machine $1 never said $2: $(tail -n 20 "$work/$1.log")"
        sleep 0.2
    done
}

# The moments of one update, from the line PATTERN to its end.
record() { # NAME FIRST_NUMBER PATTERN PID
    local name=$1 kept=$2 pid=$4 began at=0 over
    began=$(now_ms)
    await "$name" "$3" "$pid"
    while :; do
        over=$(plain <"$work/$name.log" | grep -c '^UPDATE rc=' || true)
        at=$((at + $(now_ms) - began))
        keep "$name" "$kept" $at
        kept=$((kept + 1))
        began=$(now_ms)
        [ "$over" = 0 ] || break
        # A slow host has a long update: what is kept of it shall not fill the disk.
        sleep $((EVERY * (1 + kept / 4)))
    done
    echo "$kept" >"$work/$name.kept"
    # What comes after its end belongs to it as well, for a moment.
    echo $((at + 2000)) >"$work/$name.window"
    kill "$pid"
    wait "$pid" 2>/dev/null || true
}

machine() { # NAME DISK ORDER [OPTION...]
    "$here/run-vm.sh" --disk "$2" --log "$work/$1.log" --order "$3" --medium "$work/medium.img" --lean --smp 1 \
        --memory "$MEMORY" --timeout $((2 * PATIENCE)) --qmp "$work/$1.qmp" "${@:4}" >"$work/$1.vm" 2>&1 &
    running+=($!)
}

record_both() {
    local green bad recorder
    overlay "$from/disk.qcow2" "$work/green.0"
    cp "$work/order.seed" "$work/order.now"
    : >"$work/green.log"
    machine green "$work/green.0" "$work/order.now"
    green=${running[0]}
    await green '^READY' "$green"
    keep green 0 0
    # The other update goes on from the same moment.
    overlay "$work/green.0" "$work/bad.0"
    : >"$work/bad.log"
    machine bad "$work/bad.0" "$work/order.bad" --incoming "$work/green.0.state"
    bad=${running[1]}
    give green "$work/order.now"
    record green 1 '^CUT' "$green" &
    recorder=$!
    record bad 0 '^step: stop' "$bad"
    wait $recorder
    running=()
}

# --- the cuts -----------------------------------------------------------------

# One machine of a worker to its end; in the background, so that a signal ends it too.
vm() { # DISK LOG ORDER [OPTION...]
    local rc=0 pid
    "$here/run-vm.sh" --disk "$1" --log "$2" --order "$3" --medium "$work/medium.img" --lean --smp 1 --memory "$MEMORY" \
        --timeout "$PATIENCE" "${@:4}" >"$2.vm" 2>&1 &
    pid=$!
    # shellcheck disable=SC2064 # this very one
    trap "kill $pid; exit 130" TERM INT
    wait "$pid" || rc=$?
    trap - TERM INT
    return "$rc"
}

# Where an update stood, by the end of what its machine said.
where_cut() { # LOG
    plain <"$1" | awk '
        /^CUT/ { at = "before its first step" }
        /^step: / { at = substr($0, 7) }
        /^ *failed: / { at = "taking back what was made" }
        /^UPDATE rc=/ { at = "after its end" }
        END { print at }'
}

# Rows that the database took before the switch, and all.
acknowledged() { # LOG BEFORE_SWITCH ALL
    plain <"$1" | awk -v before="$2" -v all="$3" '
        BEGIN { printf "" > before; printf "" > all }
        /^CUT/ { switched = 0 }
        /^step: switch/ { switched = 1 }
        /^HAVE / { for (i = 2; i <= NF; i++) { print $i >> all; print $i >> before } }
        /^ACK [0-9]+$/ { print $2 >> all; if (!switched) print $2 >> before }'
}

# What a start after a cut said: up, with a release, with every row. CUT_LOG is all that was said before it.
verdict() { # NUMBER OLD NEW CUT_LOG LOOK_LOG WHAT
    local look=$work/c$1.look up runs must lost trial after
    plain <"$5" >"$look"
    up=$(grep -m 1 '^UP ' "$look") || { echo "the machine did not come up"; return 1; }
    runs=$(sed -n 's/^RUNS //p' "$look" | head -n 1)
    [ "$runs" = "$2" ] || [ "$runs" = "$3" ] || { echo "release '$runs' runs, expected $2 or $3"; return 1; }
    after=$(plain <"$4" | sed -n 's/^UPDATE rc=//p' | tail -n 1)
    case $after/$runs in
    /* | 0/"$3" | 7/"$2") ;;
    *) echo "the update had ended with $after, and release $runs runs"; return 1 ;;
    esac
    acknowledged "$4" "$work/c$1.before" "$work/c$1.all"
    # Taken back, the data is that of the switch: what a trial took goes with it.
    must=$work/c$1.all
    if [ "$runs" = "$2" ]; then must=$work/c$1.before; fi
    grep -m 1 '^HAVE' "$look" | tr ' ' '\n' | grep -E '^[0-9]+$' | sort -u >"$work/c$1.have" || true
    lost=$(sort -u "$must" | comm -23 - "$work/c$1.have" | wc -l)
    [ "$lost" = 0 ] || { echo "$lost acknowledged rows are lost"; return 1; }
    trial=$(sort -u "$work/c$1.all" | comm -23 - "$work/c$1.have" | wc -l)
    echo "$(sort -u "$must" | wc -l)|$trial|$(cut -d' ' -f1-3 <<<"$up" | sed 's/ after//')|$runs|$6" >>"$work/verdicts"
    say "cut $1: $6; $up, release $runs, $(sort -u "$must" | wc -l) acknowledged rows, none lost"
}

random() { echo $(((RANDOM * 32768 + RANDOM) % ($1 > 0 ? $1 : 1))); }

# A cut with everything after it. Its moment lies in its own share of the window, anywhere.
cut_one() { # NUMBER
    local number=$1 kind=green first=0 share=$((cuts - cuts / 5)) place window at moment=0 log rc what old=2.0.0 new=2.0.1
    RANDOM=$((seed + number))
    place=$((number - number / 5 - 1))
    if [ $((number % 5)) = 0 ]; then kind=bad new=none place=$((number / 5 - 1)) share=$((cuts / 5)); fi
    first=$(cat "$work/$kind.0.at")
    window=$(($(cat "$work/$kind.window") - first))
    at=$((first + (place * window + $(random $window)) / share))
    while [ -e "$work/$kind.$((moment + 1)).at" ] && [ "$(cat "$work/$kind.$((moment + 1)).at")" -le $at ]; do
        moment=$((moment + 1))
    done
    log=$work/c$number.cut.log rc=0
    overlay "$work/$kind.$moment" "$work/c$number.0"
    vm "$work/c$number.0" "$log.rest" "$work/order.$kind" --incoming "$work/$kind.$moment.state" \
        --cut-ms $((at - $(cat "$work/$kind.$moment.at"))) || rc=$?
    cat "$work/$kind.$moment.so-far" "$log.rest" >"$log"
    [ $rc = 122 ] || { echo "it ended with $rc before its power was cut"; return 1; }
    what=$(where_cut "$log")
    overlay "$work/c$number.0" "$work/c$number.1"
    if [ $((number % 5)) = 2 ]; then
        rc=0
        vm "$work/c$number.1" "$work/c$number.recovery.log" "$work/order.look" --cut-ms $((3000 + $(random "$RECOVERY_MS"))) || rc=$?
        [ $rc = 122 ] || { echo "recovering from a cut ($what) it ended with $rc"; return 1; }
        what+="; again while it recovered"
    fi
    overlay "$work/c$number.1" "$work/c$number.2"
    rc=0
    if [ $((number % 10)) != 6 ]; then
        vm "$work/c$number.2" "$work/c$number.look.log" "$work/order.look" || rc=$?
        [ $rc = 0 ] || { echo "after a cut ($what) it ended with $rc"; return 1; }
        verdict "$number" $old $new "$log" "$work/c$number.look.log" "$what" || return 1
    else
        window=$(cat "$work/green.window")
        vm "$work/c$number.2" "$work/c$number.on.log" "$work/order.on" --cut-after CUT --cut-ms "$(random "$window")" || rc=$?
        [ $rc = 122 ] || { echo "after a cut ($what), updating again, it ended with $rc"; return 1; }
        verdict "$number" $old $new "$log" "$work/c$number.on.log" "$what" || return 1
        what="in an update after that: $(where_cut "$work/c$number.on.log")"
        if plain <"$work/c$number.on.log" | grep "^RUNS 2.0.1" >/dev/null; then old=2.0.1 new=2.0.0; fi
        overlay "$work/c$number.2" "$work/c$number.3"
        rc=0
        vm "$work/c$number.3" "$work/c$number.look.log" "$work/order.look" || rc=$?
        [ $rc = 0 ] || { echo "after a second cut ($what) it ended with $rc"; return 1; }
        verdict "$number" $old $new "$work/c$number.on.log" "$work/c$number.look.log" "$what" || return 1
    fi
}

# Takes one cut after the other from the numbers that are left, until none is or one has failed.
worker() { # WORKER
    local number why
    while :; do
        number=$({ flock 9; number=$(cat "$work/next"); echo $((number + 1)) >"$work/next"; echo "$number"; } 9>"$work/next.lock")
        if [ "$number" -gt "$cuts" ] || [ -e "$work/failed" ]; then return 0; fi
        if ! cut_one "$number" >"$work/w$1.said" 2>&1; then
            why=$(tail -n 1 "$work/w$1.said")
            : >"$work/failed"
            echo "powercut: cut $number: $why" >&2
            tail -n 60 "$work/c$number".*log >&2 || true
            return 1
        fi
        cat "$work/w$1.said"
        find "$work" -maxdepth 1 -name "c$number.[0-9]*" ! -name '*.log' -delete
    done
}

free=$(df -Pm "$work" | awk 'NR == 2 {print $4}')
[ "$free" -ge "$ROOM" ] || fail "$free MiB free in /var/tmp, $ROOM needed for what is kept of two updates"
began=$SECONDS
prepare
record_both
say "two updates recorded in $((SECONDS - began)) s: $(cat "$work/green.kept") moments of $(($(cat "$work/green.window") / 1000)) s, \
$(cat "$work/bad.kept") of one that is taken back; $cuts cuts in $machines machines, seed $seed"
echo 1 >"$work/next"
: >"$work/verdicts"
began=$SECONDS
for number in $(seq "$machines"); do
    worker "$number" &
    running+=($!)
done
bad=0
for pid in "${running[@]}"; do wait "$pid" || bad=$((bad + 1)); done
running=()
[ $bad = 0 ] || fail "not every cut was recovered from (seed $seed)"

say "what was cut:"
cut -d'|' -f5 "$work/verdicts" | sort | uniq -c | sort -rn | sed 's/^/powercut: /'
count() { grep -c "$1" "$work/verdicts" || true; }
sum() { awk -F'|' -v n="$1" '{ s += $n } END { print s + 0 }' "$work/verdicts"; }
updates=$(wc -l <"$work/verdicts")
[ "$updates" -ge "$cuts" ] || fail "only $updates cuts were made"
say "$updates cuts of updates and $(count 'again while it recovered') more of recoveries in $((SECONDS - began)) s, 0 unrecoverable; \
up alone $(count '|UP alone|'), by one resume $(count '|UP by resume|'); $(sum 1) acknowledged rows looked for, 0 lost; \
$(sum 2) rows of trials that were taken back went with them"
