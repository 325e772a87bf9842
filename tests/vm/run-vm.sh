#!/bin/bash
# run-vm.sh --disk D --medium DIR_OR_IMAGE --log SERIAL.log
#           [--timeout S] [--snapshot] [--qmp SOCKET] [--memory MB] [--smp N]
#           [--cut-after TEXT] [--cut-ms MS] [--incoming STATE] [--order FILE]
#
# Boots the isolated machine (no network card at all) from a disk of
# make-disk.sh, with a read-only medium that holds run.sh, and ends with the
# exit code that run.sh gave inside. --snapshot throws away what the machine
# wrote; without it the disk keeps it for the next run. Exit codes of our own:
# 122 the power was cut as asked, 123 it could not be started (usage, no disk, no QEMU), 124 the time is over,
# 125 the machine ended without saying how (so does a machine that was cut off).
#
# --cut-ms cuts the power (kill -9) MS milliseconds after the machine said the TEXT of
# --cut-after on a line of its own, or, without that, after it began to run. The disk is
# then driven with its flushes (cache=writeback): what the machine flushed is there
# afterwards; what it wrote without a flush may be lost, since QEMU had not yet noted
# where it put it. So it is with real disks.
#
# --incoming goes on with a machine whose memory "qmp.py save" wrote to STATE; the disk
# has to be as it was then. --order gives the machine a third disk, serial ORDER, through
# which it can be told something while it runs: it reads it past its cache. --lean leaves out
# what a machine needs only to find its hardware (udev) or for people (logind).
#
# A QMP socket lets a test outside cut the power ("quit") or reset the machine
# ("system_reset"). The guest's flushes are not forced to the host's disk
# (cache=unsafe): a kill by "quit" loses what the guest had not yet written,
# but kill -9 on QEMU itself may lose more than real hardware would.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
PATH="$PATH:/usr/sbin:/sbin"

DIE_CODE=123 # apart from every exit code of the installer that run.sh may hand on
readonly TICK=15 # seconds between progress lines
# Under emulation "rep movsb" goes byte by byte, a fifth level of page tables is walked, and each access
# to user memory that is fenced by SMAP ends a translation. Without them a kernel copies files 2 to 13
# times as fast and boots in nine tenths of the time; no program of ours can tell.
readonly TCG=(-accel "tcg,thread=multi,tb-size=512" -cpu "max,-erms,-fsrm,-la57,-smap,-smep,-umip,-pku")
readonly KVM=(-accel kvm -cpu host)

# Each of these costs seconds under emulation, and no container needs it.
readonly LEAN=(systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket
    systemd-udev-trigger.service systemd-logind.service systemd-user-sessions.service
    modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service
    kmod-static-nodes.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount
    sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount
    netavark-dhcp-proxy.service netavark-dhcp-proxy.socket)

# An ext4 image needs no tool that is not on every Debian, and has no limit on
# a file's size; a ready-made image (ISO 9660, squashfs, ext4) is taken as it is.
make_medium() { # DIR OUT
    local kib
    [ -f "$1/run.sh" ] || die "the medium '$1' holds no run.sh"
    kib=$(du -skL --apparent-size "$1" | cut -f1)
    truncate -s "$((kib + kib / 20 + 16384))K" "$2"
    mke2fs -q -F -t ext4 -O ^has_journal -m 0 -L MEDIUM -E nodiscard -d "$1" "$2"
}

# On some machines /dev/kvm opens and the guest then hangs: only a guest that
# came up counts. The verdict is kept for as long as this host stays up.
kvm_works() {
    local verdict log
    [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
    verdict=$VM_CACHE/kvm-$(cat /proc/sys/kernel/random/boot_id)
    if [ ! -e "$verdict" ]; then
        log=$(mktemp)
        # in a shell of its own, which reports to nobody when QEMU aborts
        (timeout -k 1 10 qemu-system-x86_64 -nodefaults -no-user-config -display none -nic none \
            "${KVM[@]}" -m 256 -kernel "$disk.vmlinuz" -initrd "$disk.initrd" \
            -append "console=ttyS0 quiet bench.probe" -serial "file:$log" || true) >/dev/null 2>&1
        if grep -q '^BENCH-PROBE alive' "$log"; then echo yes; else echo no; fi >"$verdict"
        rm -f "$log"
        say "KVM on this host works: $(cat "$verdict")"
    fi
    grep -q yes "$verdict"
}

disk='' medium='' log='' timeout=600 snapshot='' qmp='' memory=3072 smp=2 cut_after='' cut_ms='' incoming='' order='' lean=''
while [ $# -gt 0 ]; do
    case $1 in
    --snapshot) snapshot=yes; shift; continue ;;
    --lean) lean=yes; shift; continue ;;
    --disk | --medium | --log | --timeout | --qmp | --memory | --smp | --cut-after | --cut-ms | --incoming | --order)
        [ $# -ge 2 ] || die "$1 needs a value"
        name=${1#--}
        printf -v "${name//-/_}" %s "$2"; shift 2 ;;
    *) die "unknown argument '$1'" ;;
    esac
done
if [ -z "$disk" ] || [ -z "$medium" ] || [ -z "$log" ]; then
    die "usage: run-vm.sh --disk D --medium DIR_OR_IMAGE --log SERIAL.log [--timeout S] [--snapshot] [--qmp SOCKET]"
fi
command -v qemu-system-x86_64 >/dev/null || die "no QEMU on this host; run tests/vm/setup.sh"
[ -f "$disk" ] || die "there is no disk '$disk'; run tests/vm/make-disk.sh --out $disk"
[ -f "$disk.vmlinuz" ] || die "'$disk' is not a disk of make-disk.sh; run tests/vm/make-disk.sh --out $disk"
[ -e "$medium" ] || die "there is no medium '$medium'"

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/lockgate-vm.XXXXXX")
pid=
# shellcheck disable=SC2317,SC2329 # called by the trap
cleanup() {
    # QEMU names the signal that ends it; nobody needs that line
    [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ -d "$medium" ]; then
    make_medium "$medium" "$scratch/medium.img"
    medium=$scratch/medium.img
fi
root_disk=$disk
if [ -n "$snapshot" ]; then
    root_disk=$scratch/overlay.qcow2
    qemu-img create -q -f qcow2 -F qcow2 -b "$(readlink -f "$disk")" "$root_disk"
fi
accel=("${TCG[@]}") how=tcg
if kvm_works; then accel=("${KVM[@]}") how=kvm; fi

: >"$log"
extra=()
[ -z "$order" ] || extra=(-drive "file=$order,if=none,id=order,format=raw,readonly=on" -device "virtio-blk-pci,drive=order,serial=ORDER")
masked=()
[ -z "$lean" ] || masked=("${LEAN[@]}")
cache=unsafe
[ -z "$cut_ms" ] || cache=writeback
control=()
if [ -n "$incoming" ]; then
    control+=(-incoming "exec:zstd -q -dc $(printf %q "$(readlink -f "$incoming")")")
    qmp=${qmp:-$scratch/qmp}
fi
[ -z "$qmp" ] || control+=(-qmp "unix:$qmp,server=on,wait=off")
qemu-system-x86_64 -nodefaults -no-user-config -display none -nic none \
    -machine q35,hpet=off "${accel[@]}" -smp "$smp" -m "$memory" \
    -kernel "$disk.vmlinuz" -initrd "$disk.initrd" \
    -append "console=ttyS0 quiet loglevel=4 panic=0 mitigations=off systemd.show_status=false TERM=dumb fsck.mode=skip no_timer_check${masked[*]/#/ systemd.mask=}" \
    -drive "file=$root_disk,if=none,id=root,format=qcow2,cache=$cache,discard=unmap" \
    -device virtio-blk-pci,drive=root,serial=ROOT \
    -drive "file=$medium,if=none,id=medium,format=raw,readonly=on" \
    -device virtio-blk-pci,drive=medium,serial=MEDIUM \
    "${extra[@]}" \
    -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
    -serial "file:$log" "${control[@]}" 2> >(grep -v 'terminating on signal' >&2) &
pid=$!
say "machine started ($how, pid $pid, ${timeout} s at most); serial log: $log"

seen=0
# shellcheck disable=SC2317,SC2329
progress() { # prints what the guest wrote since the last call
    local all
    all=$(wc -l <"$log")
    [ "$all" -gt "$seen" ] || return 0
    sed -n "$((seen + 1)),${all}p" "$log" | tr -d '\r' | grep -v '^$' | tail -n 8 | sed "s/^/[${SECONDS}s] /" >&2 || true
    seen=$all
}
SECONDS=0 next=$TICK
# Waits until a command succeeds, the machine ends or its time is over.
await() { # WHAT COMMAND...
    local what=$1
    shift
    until "$@"; do
        kill -0 "$pid" 2>/dev/null || break
        if [ "$SECONDS" -ge "$timeout" ]; then say "$what; see $log"; exit 124; fi
        sleep 0.1
    done
}
# shellcheck disable=SC2317,SC2329 # called by await
said_it() { tr -d '\r' <"$log" | grep -x -F "BENCH| $cut_after" >/dev/null; }
if [ -n "$incoming" ]; then
    await "it did not go on from $incoming" "$here/qmp.py" "$qmp" running
fi
if [ -n "$cut_ms" ]; then
    [ -z "$cut_after" ] || await "it never said '$cut_after'" said_it
    sleep "$((cut_ms / 1000)).$(printf %03d "$((cut_ms % 1000))")"
    kill -KILL "$pid" 2>/dev/null || die "it ended before its power was cut; see $log"
    { wait "$pid"; } 2>/dev/null || true
    pid=
    say "power cut after $SECONDS s, $cut_ms ms after ${cut_after:-it began to run}"
    exit 122
fi
while kill -0 "$pid" 2>/dev/null; do
    sleep 0.3
    if [ "$SECONDS" -ge "$next" ]; then
        progress
        next=$((SECONDS + TICK))
    fi
    if grep -q '^BENCH-EXIT\|Kernel panic' "$log"; then
        # a moment to power off by itself
        for _ in $(seq 20); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        break
    fi
    if [ "$SECONDS" -ge "$timeout" ]; then
        progress
        say "no result after $timeout s; the machine is switched off; see $log"
        exit 124
    fi
done
progress
rc=$(tr -d '\r' <"$log" | sed -n 's/^BENCH-EXIT rc=\([0-9]*\) .*/\1/p' | tail -n 1)
if [ -z "$rc" ]; then
    say "the machine ended without a result after $SECONDS s; see $log"
    exit 125
fi
say "the machine ended after $SECONDS s with exit code $rc"
exit "$rc"
