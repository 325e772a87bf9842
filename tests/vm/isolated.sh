#!/bin/bash
# The isolated machine, whole: a plain Debian 13 without a container engine and without a network
# card gets the installer and a signed bundle on a read-only medium, installs the engine from the
# bundle, brings the platform up, reboots, and has it up again by itself. Serial log and exit codes
# are asserted. LOCKGATE_GUEST_SUITE=bookworm takes a Debian 12 instead, LOCKGATE_PROFILE=debug the development build. With --then-cut the same machine goes on into powercut.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/lib.sh"
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}
bin=${CARGO_TARGET_DIR:-$root/target}/${LOCKGATE_PROFILE:-release}
work=$(mktemp -d -p /var/tmp lockgate-isolated.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
passed=0
pass() { passed=$((passed + 1)); echo "isolated: ok $passed - $*"; }
fail() { echo "isolated: FAILED - $*" >&2; tail -n 60 "$work/serial.log" >&2 || true; echo "isolated: $passed passed, 1 failed"; exit 1; }

"$here/setup.sh"
"$root/tests/setup/fixtures.sh"
mkdir -p "$work"/{keys,release,medium}

# A 2-of-3 bundle of the minimal platform with the engine's packages for Debian 13.
for name in alice bob carol; do
    echo "TEST passphrase of $name" >"$work/keys/$name.passphrase"
    "$bin/bundle-builder" keygen --name $name --out "$work/keys" --passphrase-file "$work/keys/$name.passphrase" >/dev/null
done
"$bin/bundle-builder" root init --out "$work/root-1.json" --threshold 2 --expires 2036-01-01T00:00:00Z \
    --signer "$work/keys/alice.signer.json" --signer "$work/keys/bob.signer.json" --signer "$work/keys/carol.signer.json" >/dev/null
for name in bob carol; do
    "$bin/bundle-builder" root sign "$work/root-1.json" --key "$work/keys/$name" --passphrase-file "$work/keys/$name.passphrase" >/dev/null
done
cp -r "$root/manifests/profiles/workloads" "$work/release/"
ln -s "$cache/fixtures/images" "$work/release/images"
ln -s "$cache/fixtures/runtime" "$work/release/runtime"
profile=${LOCKGATE_VM_PROFILE:-isolated}
case $profile in
isolated) # the database and the minimal web server: state that must outlive the reboot, and a probe
    cat >"$work/release/$profile.yaml" <<Y
format: lockgate-release/1
product: isolated
release: "1.0.0"
sequence: 1
marking: UNCLASSIFIED
platform: linux/amd64
title: What the isolated machine installs in the tests
requires: {memory_mib: 512, disk_mib: 256}
images:
  - {name: "registry.defense-builders.example/platform/minimal:1.0.0", source: "oci:images:minimal"}
  - {name: "registry.defense-builders.example/platform/database:1.0.0", source: "oci:images:database"}
network: {name: isolated, internal: true}
secrets:
  - {name: database-password, kind: password}
  - {name: database-exporter-password, kind: password}
workloads:
  - {name: database, file: workloads/database.yaml}
  - {name: minimal, file: workloads/minimal.yaml}
lifecycle:
  data:
    - {volume: database-data, backup: {method: postgres, container: database-postgres, database: platform, host: /tmp}, keep: 3}
files: []
runtime:
  - {os: $GUEST_OS, packages: "dir:runtime/$GUEST_OS", install: [$GUEST_RUNTIME]}
Y
    ;;
*) cp "$root/manifests/profiles/$profile.yaml" "$work/release/" ;;
esac
"$bin/bundle-builder" pin "$work/release/$profile.yaml" 2>/dev/null
"$bin/bundle-builder" build "$work/release/$profile.yaml" --root "$work/root-1.json" --out "$work/medium/platform.bundle.tar" 2>/dev/null
for name in alice bob; do
    "$bin/bundle-builder" sign "$work/medium/platform.bundle.tar" --key "$work/keys/$name" --passphrase-file "$work/keys/$name.passphrase" >/dev/null 2>&1
done
pass "a 2-of-3 bundle of $(stat -c %s "$work/medium/platform.bundle.tar") bytes"

cp "$work/root-1.json" "$bin/installer" "$work/medium/"
"$bin/bundle-builder" --json root show "$work/root-1.json" | python3 -c 'import json,sys; print(json.load(sys.stdin)["sha384"])' >"$work/medium/fingerprint"
# One flipped bit in the middle of a copy of the head: must be refused before anything is touched.
python3 - "$work/medium/platform.bundle.tar" "$work/medium/flipped.bundle.tar" <<'P'
import sys
source, target = sys.argv[1:]
data = open(source, "rb").read(6_000_000)
flipped = bytearray(data)
flipped[-1000] ^= 1
open(target, "wb").write(flipped)
P
# Discs with bad sectors are tried in the same machine: one boot less.
"$here/media.sh" prepare "$work/medium"
cat >"$work/medium/run.sh" <<'R'
# Runs inside the machine at every boot; what it echoes is asserted outside.
I="$BENCH_MEDIUM/installer --no-color"
step() { name=$1; shift; "$@"; echo "STEP $name rc=$?"; }
health() {
    for c in $(podman ps -q --filter status=running); do
        # The pods' own infra containers have no probe.
        podman inspect "$c" --format '{{.IsInfra}} {{.Name}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.ImageDigest}}'
    done | sed -n 's/^false /HEALTH /p'
}
case $BENCH_BOOT in
1)
    ls /sys/class/net | sed 's/^/NET /'
    command -v podman >/dev/null && echo "ENGINE already there" || echo "ENGINE none"
    step trust-wrong $I trust init $BENCH_MEDIUM/root-1.json --fingerprint $(head -c 96 /dev/zero | tr '\0' 'a')
    step trust $I trust init $BENCH_MEDIUM/root-1.json --fingerprint $(cat $BENCH_MEDIUM/fingerprint)
    step verify $I verify $BENCH_MEDIUM/platform.bundle.tar
    step verify-flipped $I verify $BENCH_MEDIUM/flipped.bundle.tar
    step install-flipped $I --yes install $BENCH_MEDIUM/flipped.bundle.tar
    command -v podman >/dev/null && echo "ENGINE there too early" || echo "ENGINE still none"
    # Nothing needs /tmp, the host's own package tools included.
    mount -t tmpfs -o ro,noexec tmpfs /tmp
    step preflight $I preflight $BENCH_MEDIUM/platform.bundle.tar
    step install $I --yes install $BENCH_MEDIUM/platform.bundle.tar
    step status $I status
    health
    step write podman exec database-postgres psql -h /tmp -d platform -qAtc "create table t(x text); insert into t values ('kept')"
    systemctl list-units --no-pager --plain 'lockgate-*' | sed 's/^/UNIT /'
    step again $I --yes install $BENCH_MEDIUM/platform.bundle.tar
    exit 190
    ;;
2)
    n=0
    until [ "$(health | grep -c ' healthy ')" = 3 ] || [ $n -ge 120 ]; do n=$((n + 1)); sleep 3; done
    health
    echo "ROW $(podman exec database-postgres psql -h /tmp -d platform -qAtc 'select x from t')"
    step status $I status
    step history $I history
    # The timer is the promise that at most five minutes are lost; waiting for it would take four.
    systemctl show lockgate-backup.timer -p ActiveState -p TimersMonotonic | sed 's/^/TIMER /'
    systemctl show lockgate-resume.timer -p ActiveState -p TimersMonotonic | sed 's/^/WATCH /'
    step scheduled systemctl start lockgate-backup.service
    $I --json backup list | grep -o '"at":' | sed 's/^/BACKUP /'
    # Of several units one that is left must not hide the others.
    step check $I check
    systemctl -q disable lockgate-check.timer
    systemctl -q stop lockgate-resume.timer
    step drift $I check
    step repair $I --yes repair
    systemctl is-enabled lockgate-check.timer | sed 's/^/MENDED /'
    systemctl is-active lockgate-resume.timer | sed 's/^/MENDED /'
    step mended $I check
    (. $BENCH_MEDIUM/media/run.sh)
    exit 0
    ;;
esac
R
"$here/make-disk.sh" --out "$work/disk.qcow2"
rc=0
"$here/run-vm.sh" --disk "$work/disk.qcow2" --medium "$work/medium" --log "$work/serial.log" --timeout "${LOCKGATE_VM_TIMEOUT:-1200}" || rc=$?
tr -d '\r' <"$work/serial.log" >"$work/log"
[ -z "${LOCKGATE_VM_LOG:-}" ] || { mkdir -p "$LOCKGATE_VM_LOG" && cp "$work/log" "$LOCKGATE_VM_LOG/isolated.log"; }
[ "$rc" = 0 ] || fail "the machine ended with $rc"
pass "the machine ended with 0"

said() { grep -q -E "^BENCH\| $1" "$work/log"; }
expect() { if said "$1"; then pass "$2"; else fail "$2 (no line: $1)"; fi; }
if [ "$(grep -c '^BENCH| NET ' "$work/log")" != 1 ] || ! said 'NET lo$'; then fail "the machine has a network card"; fi
pass "no network card but lo"
expect 'ENGINE none' "no engine before"
expect 'STEP trust-wrong rc=4' "a wrong fingerprint is refused with 4"
expect 'STEP trust rc=0' "the right one is taken"
expect 'STEP verify rc=0' "the bundle verifies"
expect 'STEP verify-flipped rc=3' "a damaged bundle is refused with 3"
expect 'STEP install-flipped rc=3' "and not installed"
expect 'ENGINE still none' "nothing was installed by the refusal"
expect 'STEP preflight rc=0' "preflight finds the machine fit"
expect 'STEP install rc=0' "installed"
expect 'STEP status rc=0' "status"
expect 'STEP write rc=0' "a row is written"
expect 'STEP again rc=0' "installing the same bundle again is no error"
expect 'ROW kept' "after the reboot the row is still there"
[ "$(sed -n '/^BENCH-BOOT n=2/,$p' "$work/log" | grep -c -E '^BENCH\| HEALTH .* healthy ')" = 3 ] || fail "not all containers are healthy by themselves after the reboot"
pass "after the reboot everything is healthy again by itself"
expect 'TIMER ActiveState=active' "the timer of the backups counts after a reboot"
expect 'TIMER TimersMonotonic=.*OnUnitActiveUSec=4min' "and comes every four minutes"
expect 'WATCH ActiveState=active' "so does the one that finishes what was cut off"
expect 'WATCH TimersMonotonic=.*OnUnitInactiveUSec=1min' "and comes every minute"
expect 'STEP scheduled rc=0' "what it starts ends well"
expect 'BACKUP "at"' "and has made a backup"
expect 'STEP check rc=0' "nothing differs from what is signed"
expect 'STEP drift rc=8' "a timer that is disabled and one that is stopped are differences"
expect 'error: .*unit lockgate-check.timer is not enabled; unit lockgate-resume.timer is not active' "and both are named"
expect 'STEP repair rc=0' "repair mends"
expect 'MENDED enabled' "the one is enabled again"
expect 'MENDED active' "the other counts again"
expect 'STEP mended rc=0' "and nothing differs"
expect 'UNCLASSIFIED$' "the marking is on the console"
"$here/media.sh" check "$work/log" || fail "discs with bad sectors"
echo "isolated: $passed passed, 0 failed"
# The same machine, as it is now, for power cuts: installing its engine takes minutes under emulation.
[ "${1:-}" != --then-cut ] || "$here/powercut.sh" "$work"
