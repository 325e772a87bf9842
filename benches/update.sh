#!/bin/bash
# What an update costs on the reference platform, on this machine: downtime (first failed request to
# first good one, asked of the gateway every 20 ms) beside the bare restart of the same pods by
# `podman kube play --replace`; the time of a rollback; a backup and a restore; the recovery of a machine
# that lost everything, from trust to healthy with its data; what journalling costs.
# LOCKGATE_BENCH_ROUNDS=5. LOCKGATE_BENCH_BACKUPS=3: scheduled backups, four minutes each, for what a lost
# machine loses at most; 0 leaves that out.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
rounds=${LOCKGATE_BENCH_ROUNDS:-5}
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}
work=$(mktemp -d -p /var/tmp lockgate-update.XXXXXX)
state=$work/state
inst() { "$bin/installer" --state-dir "$state" --no-color --yes "$@"; }
engine() {
    if [ -e "$state/engine/containers.conf" ]; then CONTAINERS_CONF=$state/engine/containers.conf PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman "$@"; else podman "$@"; fi
}
prober='' writer=''
# shellcheck disable=SC2329 # called by the trap
cleanup() {
    for program in $prober $writer; do kill "$program" 2>/dev/null || true; done
    if [ -e "$state/state.db" ]; then
        inst rollback >/dev/null 2>&1 || true
        inst uninstall --product defense-builders --with-data >/dev/null 2>&1 || true
    fi
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

"$root/tests/setup/fixtures.sh" >/dev/null
cat >"$work/probe.py" <<'P'
"""Asks the gateway every 20 ms; on SIGTERM prints the longest stretch without a good answer, seconds."""
import signal, ssl, sys, time, urllib.request
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
worst, good, done = 0.0, time.monotonic(), []
signal.signal(signal.SIGTERM, lambda *_: done.append(1))
while not done:
    try:
        with urllib.request.urlopen("https://localhost:8443/healthz", timeout=1, context=context) as answer:
            if answer.status == 200:
                now = time.monotonic()
                worst, good = max(worst, now - good), now
    except OSError:
        pass
    time.sleep(0.02)
print(f"{worst:.3f}")
P
probe() { python3 "$work/probe.py" >"$work/gap" & prober=$!; sleep 0.5; }
gap() { sleep 1; kill "$prober"; wait "$prober" || true; prober=; cat "$work/gap"; }

mkdir -p "$work/low"
cp -r "$root"/manifests/profiles/{defense-builders.yaml,workloads} "$work/low/"
ln -s "$cache/fixtures/images" "$work/low/images"
ln -s "$cache/fixtures/runtime" "$work/low/runtime"
echo "TEST passphrase of bench" >"$work/pass"
build() { # NAME RELEASE SEQUENCE
    sed -e "s/^release: .*/release: \"$2\"/; s/^sequence: .*/sequence: $3/" "$root/manifests/profiles/defense-builders.yaml" >"$work/low/$1.yaml"
    "$bin/bundle-builder" pin "$work/low/$1.yaml"
    "$bin/bundle-builder" build "$work/low/$1.yaml" --root "$work/root.json" --out "$work/$1.tar"
    "$bin/bundle-builder" sign "$work/$1.tar" --key "$work/bench" --passphrase-file "$work/pass"
}
trust() { inst trust init "$work/root.json" --fingerprint "$("$bin/bundle-builder" --json root show "$work/root.json" | jq -r .sha384)"; }
# A busy engine may lose what a short command said: asked again, until it says something.
rows() {
    local said=''
    for _ in 1 2 3 4 5; do
        said=$(engine exec database-postgres psql -h /tmp -d platform -qAtc "select count(*), sum(length(text)) from bench")
        [ -z "$said" ] || break
    done
    echo "$said"
}
# What an act said is shown where it fails.
act() { "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; exit 1; }; }
{
    "$bin/bundle-builder" keygen --name bench --out "$work" --passphrase-file "$work/pass"
    "$bin/bundle-builder" root init --out "$work/root.json" --threshold 1 --signer "$work/bench.signer.json" --expires 2036-01-01T00:00:00Z
    "$bin/bundle-builder" root sign "$work/root.json" --key "$work/bench" --passphrase-file "$work/pass"
    build one 1.0.0 1
    build blue 2.0.0 2
    build green 2.0.1 2
    trust
    inst install "$work/one.tar"
    # Some data, so that copies and backups are of something.
    engine exec database-postgres psql -h /tmp -d platform -qAtc \
        "create table bench as select n, repeat(md5(n::text), 30) as text from generate_series(1, ${LOCKGATE_BENCH_ROWS:-100000}) n"
} >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; exit 1; }

machine "$rounds"
echo "reference platform, $(du -sm "$(engine volume inspect --format '{{.Mountpoint}}' database-data)" | cut -f1) MB in the database's volume"
current=$state/generations/defense-builders/current
next=blue
for round in $(seq "$rounds"); do
    probe
    began=$(now)
    act inst install "$work/$next.tar"
    since "$began" >>"$work/update"
    gap >>"$work/down"
    probe
    began=$(now)
    act inst rollback
    since "$began" >>"$work/rollback"
    gap >>"$work/rollback.down"
    probe
    began=$(now)
    for workload in database registry monitoring gateway; do
        engine kube play --replace --network defense-builders "$current/$workload.yaml" >/dev/null 2>&1
    done
    since "$began" >>"$work/bare"
    gap >>"$work/bare.down"
    act inst repair
    began=$(now)
    inst --json backup make >"$work/made" 2>"$work/log" || { tail -n 30 "$work/log" >&2; exit 1; }
    since "$began" >>"$work/backup"
    folder=$(jq -r .backup "$work/made")
    began=$(now)
    act inst restore "$folder"
    since "$began" >>"$work/restore"
    echo "  round $round: update down $(tail -n 1 "$work/down") s, bare $(tail -n 1 "$work/bare.down") s, rollback $(tail -n 1 "$work/rollback") s"
    if [ $next = blue ]; then next=green; else next=blue; fi
done

# The timer's work, which needs no systemd here: a backup at the end of each interval and of its accuracy, while
# rows that know their time are written. A machine that is lost just before a backup is whole has the one
# before, whose newest row says what it has lost.
readonly INTERVAL=250
scheduled() {
    local began='' newest='' whole made
    engine exec database-postgres psql -h /tmp -d platform -qAtc "create table ticks (at timestamptz default clock_timestamp())"
    (while echo "insert into ticks default values;"; do sleep 0.2; done) |
        engine exec -i database-postgres psql -h /tmp -d platform -qAt >"$work/ticks" 2>&1 &
    writer=$!
    sleep 1
    for _ in $(seq 0 "$1"); do
        [ -z "$began" ] || sleep $((INTERVAL - (SECONDS - began)))
        began=$SECONDS
        inst --json backup make --scheduled >"$work/made" 2>"$work/log" || { tail -n 30 "$work/log" >&2; return 1; }
        whole=$(now)
        made=$(jq -r .backup "$work/made")
        [ -z "$newest" ] || echo "$whole - $newest" | bc >>"$work/lost"
        newest=$(engine exec -i database-postgres pg_restore -a -t ticks -f - <"$made/database-data.dump" | grep -E '^[0-9]{4}-' | tail -n 1)
        [ -n "$newest" ] || { echo "no row in the backup $made" >&2; return 1; }
        newest=$(date -d "$newest" +%s.%N)
    done
    kill "$writer"
    writer=
    engine exec database-postgres psql -h /tmp -d platform -qAtc "drop table ticks"
}
backups=${LOCKGATE_BENCH_BACKUPS:-3}
[ "$backups" = 0 ] || scheduled "$backups"

# The machine is lost, its last backup was carried away: all of it again, on nothing.
cp -a "$folder" "$work/carried"
before=$(rows)
for _ in $(seq "$rounds"); do
    act inst uninstall --product defense-builders --with-data
    rm -rf --one-file-system "$state"
    began=$(now)
    recover() { trust && inst install "$work/one.tar" && inst restore "$work/carried"; }
    act recover
    since "$began" >>"$work/recovery"
    [ "$(rows)" = "$before" ] || { echo "the data came back as $(rows), expected $before" >&2; exit 1; }
done
m() { median <"$work/$1"; }
echo "  downtime of an update   $(m down) s; bare restart of the same pods $(m bare) s ($(m bare.down) s without an answer); ratio $(ratio "$(m down)" "$(m bare)") (to reach: <= 1.5)"
echo "  update, whole           $(m update) s"
echo "  rollback, whole         $(m rollback) s (to reach: <= 30), $(m rollback.down) s without an answer"
echo "  backup                  $(m backup) s; restore, whole $(m restore) s"
[ "$backups" = 0 ] || echo "  lost at most            $(sort -n "$work/lost" | tail -n 1) s, of $backups scheduled backups (RPO, to reach: <= 300)"
echo "  recovery of a machine   $(m recovery) s: trust, install, restore, healthy with its data (RTO, to reach: <= 900)"

# Journalling: time inside calls on the files of the record and of the audit log, on the temporary file that
# becomes the record's copy, and on their folder, beside the whole of an install. Other small files of the
# folder (receipts) are counted with it. A file for each thread, so that no call's line is broken by another's.
act inst uninstall --product defense-builders --with-data
began=$(now)
strace -ff -qq -b execve -T -y -o "$work/trace" -e trace=pwrite64,fdatasync,fsync,write,rename,renameat,renameat2 \
    "$bin/installer" --state-dir "$state" --no-color --yes install "$work/$next.tar" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; exit 1; }
whole=$(since "$began")
journal=$(grep -E "<$state(/((state|audit)\.db|\.tmp)[^/>]*)?>|\"$state/state\.db\.copy\"" < <(cat "$work"/trace.*) | grep -o '<[0-9.]*>$' | tr -d '<>' | awk '{s += $1} END {printf "%.4f", s}')
echo "  journalling             $journal s of $whole s of an install (under strace) = $(echo "scale=2; 100 * $journal / $whole" | bc) % (to reach: <= 2)"
