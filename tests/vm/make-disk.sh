#!/bin/bash
# make-disk.sh --out DISK.qcow2: the disk of the isolated machine: a plain
# Debian 13 (or 12, with LOCKGATE_GUEST_SUITE=bookworm) with systemd and a kernel,
# and *without* any container engine, as it would stand in a rack before the
# installer's first run. Beside the disk it puts DISK.qcow2.vmlinuz and
# DISK.qcow2.initrd, for a direct kernel boot.
#
# The costly part (root file system, ext4 image) is made once for this script's
# text, the files it bakes in and the release's signed index, and kept in
# ${LOCKGATE_CACHE:-~/.cache/lockgate}/vm. What --out gets is a thin overlay on
# it, so the cached disk is never written to.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"
PATH="$PATH:/usr/sbin:/sbin"

readonly DISK_SIZE=6G
# nftables, iptables, conntrack, fuse, ca-certificates… are left out on purpose:
# whatever the engine needs has to come with the bundle.
readonly PACKAGES=systemd,systemd-sysv,dbus,udev,kmod,iproute2,login,passwd,e2fsprogs,linux-image-cloud-amd64,busybox-static,dmsetup
# Nothing here is needed by the test, and each costs seconds under emulation.
readonly MASKED=(apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer
    getty@tty1.service serial-getty@ttyS0.service systemd-firstboot.service)

make_root() { # ROOT MIRROR
    local root=$1
    # INITRD=No: the kernel's hook would spend half a minute on an initrd that we do not boot.
    INITRD=No mmdebstrap --quiet --mode=root --variant=apt --include="$PACKAGES" \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        "$GUEST_SUITE" "$root" "$2"
    # No package source: the machine has none to reach.
    rm -f "$root/etc/apt/sources.list" "$root/etc/resolv.conf" "$root"/boot/initrd.img*
    echo isolated >"$root/etc/hostname"
    echo '127.0.0.1 localhost isolated' >"$root/etc/hosts"
    # A fixed id keeps systemd from treating every run as the machine's first boot.
    echo 10c49a7e10c49a7e10c49a7e10c49a7e >"$root/etc/machine-id"
    install -d "$root/medium" "$root/var/lib/bench"
    install -m 0755 "$here/bench-run" "$root/usr/local/sbin/bench-run"
    install -m 0644 "$here/bench-run.service" "$root/etc/systemd/system/bench-run.service"
    systemctl --quiet --root="$root" enable bench-run.service
    systemctl --quiet --root="$root" mask "${MASKED[@]}"
    touch "$root/etc/.updated" "$root/var/.updated" # no ConditionNeedsUpdate work at boot
    # shellcheck disable=SC2016 # dpkg-query's own variables
    chroot "$root" dpkg-query -W -f '${Package} ${Version}\n'
}

# An initrd of our own: one static program and the drivers that the kernel does not have built in (Debian
# 13: one, Debian 12: some more). Loads in a fraction of the time of the stock one.
make_initrd() { # ROOT OUT
    local root=$1 work=$1.initrd kernel module number=10
    install -d "$work/bin" "$work/dev" "$work/proc" "$work/sys" "$work/root" "$work/modules"
    install -m 0755 "$root/bin/busybox" "$work/bin/busybox"
    install -m 0755 "$here/initrd-init" "$work/init"
    kernel=$(find "$root/usr/lib/modules" -mindepth 1 -maxdepth 1 -printf '%f\n' | head -n 1)
    # In the order in which they need each other.
    for module in $(for name in virtio_pci virtio_blk ext4; do chroot "$root" modprobe -S "$kernel" --show-depends $name; done |
        sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'); do
        number=$((number + 1))
        case $module in
        *.xz) xz -dc "$root$module" >"$work/modules/$number.ko" ;;
        *) cp "$root$module" "$work/modules/$number.ko" ;;
        esac
    done
    (cd "$work" && find . | cpio --quiet -o -H newc) >"$2"
}

make_entry() { # DIR MIRROR
    local root=$1/root
    say "making the $GUEST_SUITE disk (once, then cached); takes about two minutes"
    make_root "$root" "$2" >"$1/packages"
    if grep -E '^(podman|docker|containerd|crun|runc) ' "$1/packages"; then
        die "the plain disk holds a container engine; it must not"
    fi
    make_initrd "$root" "$1/initrd"
    cp "$root"/boot/vmlinuz-* "$1/vmlinuz"
    truncate -s "$DISK_SIZE" "$1/disk.raw"
    mke2fs -q -F -t ext4 -L isolated -E lazy_itable_init=1,nodiscard -d "$root" "$1/disk.raw"
    rm -rf --one-file-system "$root" "$root.initrd"
}

out=
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=${2:?--out needs a path}; shift 2 ;;
    *) die "unknown argument '$1'; usage: make-disk.sh --out DISK.qcow2" ;;
    esac
done
[ -n "$out" ] || die "usage: make-disk.sh --out DISK.qcow2"
[ "$(id -u)" = 0 ] || die "making a root file system needs root; run: sudo $0 --out $out"

# The signed index names the digest of every package list: the same index means
# the same packages. Without a mirror the newest cached disk is used as it is.
mkdir -p "$VM_CACHE"
uri=$(mirror)
index=$(mktemp)
work=
trap 'rm -f "$index"; [ -z "$work" ] || rm -rf --one-file-system "$work"' EXIT
if /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file \
    "$uri/dists/$GUEST_SUITE/InRelease" "$index" >/dev/null 2>&1; then
    key=$({ echo "$GUEST_SUITE"; cat "$0" "$here/bench-run" "$here/bench-run.service" "$here/initrd-init" "$index"; } | sha256sum | cut -c1-16)
    entry=$VM_CACHE/disk-$GUEST_SUITE-$key
else
    entry=$(find "$VM_CACHE" -maxdepth 1 -name "disk-$GUEST_SUITE-*" -printf '%T@ %p\n' | sort -rn | sed -n '1s/^[^ ]* //p')
    [ -n "$entry" ] || die "the mirror $uri does not answer and no disk is cached"
    say "the mirror does not answer; using the cached $entry"
fi

exec 9>"$VM_CACHE/disk.lock" # two tests at once: the second waits for the first's disk
flock 9
if [ ! -e "$entry/disk.raw" ]; then
    work=$(mktemp -d "$VM_CACHE/new.XXXXXX")
    chmod 0755 "$work"
    make_entry "$work" "$uri"
    mv -T "$work" "$entry"
    work=
fi
exec 9>&-

rm -f "$out"
qemu-img create -q -f qcow2 -F raw -b "$entry/disk.raw" "$out"
ln -sf "$entry/vmlinuz" "$out.vmlinuz"
ln -sf "$entry/initrd" "$out.initrd"
say "disk: $out ($(wc -l <"$entry/packages") packages, list in $entry/packages)"
