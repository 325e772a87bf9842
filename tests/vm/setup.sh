#!/bin/bash
# Makes sure that the build host has what the isolated machine needs: QEMU that
# can emulate a 6.12 kernel, mmdebstrap, and tools to make file systems.
# Does nothing when all is there; may be run again at any time.
#
# Debian 12's own QEMU 7.2 panics such a kernel under emulation (cmpxchg16b),
# so there it comes from backports, through a source list of our own:
# the host's /etc/apt is read and never written.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"

readonly QEMU_MAJOR_NEEDED=8

qemu_major() { qemu-system-x86_64 --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p'; }

missing=()
for pair in mmdebstrap:mmdebstrap mke2fs:e2fsprogs cpio:cpio zstd:zstd qemu-img:qemu-utils python3:python3; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
major=$(qemu_major || true)
[ "${major:-0}" -ge "$QEMU_MAJOR_NEEDED" ] || missing+=(qemu-system-x86 qemu-utils)

if [ ${#missing[@]} -eq 0 ]; then
    say "host is ready: QEMU $major"
    exit 0
fi

say "missing on this host: ${missing[*]}"
[ "$(id -u)" = 0 ] || die "installing packages needs root; run: sudo $0"
suite=$(host_codename)
uri=$(mirror)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$VM_CACHE/apt/host"
{
    echo "deb [signed-by=$keyring] $uri $suite main"
    echo "deb [signed-by=$keyring] $uri $suite-updates main"
    [ "$suite" != bookworm ] || echo "deb [signed-by=$keyring] $uri $suite-backports main"
} >"$VM_CACHE/apt/host/sources.list"
release=()
[ "$suite" != bookworm ] || release=(-t bookworm-backports)
private_apt host apt-get -qq update
# Only QEMU may come from backports; the rest keeps to the host's release.
plain=() qemu=()
for p in "${missing[@]}"; do
    case $p in qemu-*) qemu+=("$p") ;; *) plain+=("$p") ;; esac
done
say "installing from $suite through a private source list"
[ ${#plain[@]} -eq 0 ] ||
    private_apt host apt-get -qq -y --no-install-recommends install "${plain[@]}" >/dev/null
[ ${#qemu[@]} -eq 0 ] ||
    private_apt host apt-get -qq -y --no-install-recommends "${release[@]}" install "${qemu[@]}" >/dev/null
major=$(qemu_major || true)
[ "${major:-0}" -ge "$QEMU_MAJOR_NEEDED" ] || die "QEMU is still '${major:-none}', need $QEMU_MAJOR_NEEDED or later"
say "host is ready: QEMU $major"
