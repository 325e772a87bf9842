#!/bin/bash
# Discs with bad sectors, in the isolated machine: a bundle is split into ISO 9660 images with two
# parity volumes; inside, each image becomes a disc (loop device, device mapper with error targets,
# mounted read-only) and is received, one after another, as a person would change discs.
#
#   media.sh                  the whole test, in a machine of its own
#   media.sh prepare DIR      puts images and media/run.sh into the medium DIR (isolated.sh does this)
#   media.sh check LOG        asserts what media/run.sh said in that machine
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/${LOCKGATE_PROFILE:-release}
passed=0
pass() { passed=$((passed + 1)); echo "media: ok $passed - $*"; }
fail() { echo "media: FAILED - $*" >&2; grep -E '^BENCH\| (MEDIA|[^A-Z])' "$log" | tail -n 60 >&2 || true; echo "media: $passed passed, 1 failed"; exit 1; }

builder() { "$bin/bundle-builder" "$@" >/dev/null 2>"$work/said" || { cat "$work/said" >&2; exit 1; }; }

# A signed bundle of some megabytes that nothing makes smaller.
make_bundle() { # DIR
    mkdir -p "$1/files"
    local number
    cat >"$1/r.yaml" <<'Y'
format: lockgate-release/1
product: media
release: "1"
sequence: 1
marking: UNCLASSIFIED
platform: linux/amd64
title: discs with bad sectors
requires: {memory_mib: 0, disk_mib: 0}
images: []
network: {name: media, internal: true}
secrets: []
workloads: []
runtime: []
files:
Y
    for number in 1 2 3; do
        head -c 2300000 /dev/urandom >"$1/files/$number.bin"
        echo "  - {path: \"files/$number.bin\", source: \"file:files/$number.bin\"}" >>"$1/r.yaml"
    done
    echo "TEST passphrase of media" >"$1/pass"
    builder keygen --name media --out "$1" --passphrase-file "$1/pass"
    builder root init --out "$1/root.json" --threshold 1 --signer "$1/media.signer.json" --expires 2036-01-01T00:00:00Z
    builder root sign "$1/root.json" --key "$1/media" --passphrase-file "$1/pass"
    builder pin "$1/r.yaml"
    builder build "$1/r.yaml" --root "$1/root.json" --out "$1/b.tar"
    builder sign "$1/b.tar" --key "$1/media" --passphrase-file "$1/pass"
}

# Images, device mapper tables and the expected blocks. A table's @ stands for the loop device.
make_discs() { # DIR MEDIA
    local small
    builder split "$1/b.tar" --volume-size 2MiB --parity 2 --out "$1/set" --iso --installer "$here/bench-run"
    builder split "$1/b.tar" --volume-size 2MiB --parity 1 --out "$1/other"
    mkdir -p "$2/within" "$2/beyond"
    for image in "$1"/set/*.iso; do
        small=${image##*-v}
        mv "$image" "$2/${small%%of*}.iso"
    done
    # Discs that are not what they seem: of another set, and with another volume's name.
    xorriso -as mkisofs -quiet -r -o "$2/foreign.iso" "$1"/other/*-v0002of*.lgv 2>/dev/null
    mkdir "$1/wrong"
    cp "$1"/set/*-v0003of*.lgv "$1/wrong/$(basename "$1"/set/*-v0002of*.lgv)"
    xorriso -as mkisofs -quiet -r -o "$2/wrong.iso" -graft-points /="$1/wrong" 2>/dev/null
    python3 - "$2" <<'P'
import glob, json, os, re, subprocess, sys
media = sys.argv[1]
images = sorted(glob.glob(media + "/0*.iso"))
pages = lambda size: -(-size // 4096) * 4096
for number, image in enumerate(images, 1):
    told = subprocess.run(["xorriso", "-indev", image, "-find", "/", "-name", "*.lgv", "-exec", "report_lba"],
                          capture_output=True, text=True, check=True).stdout
    start = int(re.search(r"File data lba: +\d+ , +(\d+)", told)[1]) * 2048
    with open(image, "rb") as file:
        file.seek(start)
        shape = json.loads(file.read(4096).split(b"\n")[1])["shape"]
    payload = start + 4096 + pages(shape["cells"] * 32) + pages(shape["prologue_size"])
    def table(name, bad):
        """Bad places of the image, (offset, bytes), become error targets."""
        sectors, at, lines = os.path.getsize(image) // 512, 0, []
        for place, length in sorted(bad):
            lines.append(f"{at} {place // 512 - at} linear @ {at}")
            lines.append(f"{place // 512} {length // 512} error")
            at = (place + length) // 512
        lines.append(f"{at} {sectors - at} linear @ {at}")
        with open(f"{media}/{name}/{number:04}", "w") as out:
            out.write("\n".join(lines) + "\n")
    # One bad block of the disc in the middle of a cell; cells are counted from 1.
    cell = lambda block: (payload + (block - 1) * shape["cell"] + 6 * 2048, 2048)
    last = len(images)
    # Within the promise: disc 1 is lost, every other has a bad cell of another stripe, and disc 4
    # also lost its head.
    if number > 1:
        table("within", [cell(3 * number)] + ([(start, 2048)] if number == 4 else []))
        # Beyond it: disc 1 is lost, and discs 2 and 5 are bad in the same stripe.
        table("beyond", [cell(9)] if number in (2, 5) else [])
    assert 3 * last <= shape["cells"], (last, shape)
print(len(images), file=open(media + "/discs", "w"))
P
}

prepare() { # MEDIUM
    local media=$1/media
    work=$(mktemp -d -p /var/tmp lockgate-media.XXXXXX)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    mkdir -p "$media"
    make_bundle "$work"
    make_discs "$work" "$media"
    sha384sum <"$work/b.tar" | cut -d' ' -f1 >"$media/sha384"
    cp "$work/root.json" "$media/"
    "$bin/bundle-builder" --json root show "$work/root.json" | python3 -c 'import json,sys; print(json.load(sys.stdin)["sha384"])' >"$media/fingerprint"
    cp "$bin/installer" "$1/"
    cat >"$media/run.sh" <<'R'
# Runs inside the machine; what it echoes is asserted outside.
M=$BENCH_MEDIUM/media
S=$BENCH_STATE/media
I="$BENCH_MEDIUM/installer --no-color --state-dir $S"
began=$(cut -d. -f1 /proc/uptime)
modprobe -a loop dm_mod isofs || echo "MEDIA no modules"
# Puts a disc into a drive, and takes it out again.
put() { # DRIVE IMAGE TABLE
    device=$(losetup --find --show --read-only "$M/$2")
    sed "s|@|$device|" "$3" | dmsetup create --readonly --noudevsync "$1"
    mkdir -p "/mnt/$1"
    # What udev still had to do for the disc before may take the node of this one away, on a busy host.
    for _ in 1 2 3 4 5; do
        dmsetup mknodes "$1"
        if mount -t iso9660 -o ro,nosuid,nodev,noexec "/dev/mapper/$1" "/mnt/$1"; then return 0; fi
        sleep 1
    done
    echo "MEDIA $2 does not mount"
}
out() { # DRIVE
    umount "/mnt/$1"
    device=/dev/$(dmsetup deps -o blkdevname "$1" | sed 's/.*(\(.*\))/\1/')
    dmsetup remove --noudevsync --retry "$1"
    losetup --detach "$device"
}
receive() { # NAME INBOX DRIVE...
    name=$1 inbox=$2
    shift 2
    $I receive volumes "$@" --inbox "$S/$inbox" 2>&1
    echo "MEDIA $name rc=$?"
}
disc() { # NAME IMAGE TABLE INBOX
    put drive "$2" "$3"
    receive "$1" "$4" /mnt/drive
    out drive
}
whole() { # NAME INBOX
    for bundle in "$S/$2"/*.bundle.tar; do
        [ -e "$bundle" ] || { echo "MEDIA $1 no bundle"; continue; }
        [ "$(sha384sum <"$bundle")" = "$(cat "$M/sha384")  -" ] && echo "MEDIA $1 equal" || echo "MEDIA $1 differs"
    done
}
plain() { echo "0 $(($(stat -c %s "$M/$1") / 512)) linear @ 0"; }

mkdir -p "$S"
$I trust init "$M/root.json" --fingerprint "$(cat "$M/fingerprint")" >/dev/null
echo "MEDIA trust rc=$?"
# A bad sector is bad: the rig itself is proved first.
put drive 0002.iso "$M/within/0002"
bad=$(sed -n 's/ [0-9]* error$//p' "$M/within/0002")
dd if=/dev/mapper/drive of=/dev/null bs=512 skip="$bad" count=1 2>/dev/null && echo "MEDIA sector read" || echo "MEDIA sector bad"
dd if=/dev/mapper/drive of=/dev/null bs=512 skip="$((bad - 8))" count=8 iflag=direct 2>/dev/null && echo "MEDIA neighbours read"
out drive

for table in "$M"/within/*; do
    number=${table##*/}
    disc "within-$number" "$number.iso" "$table" within
done
whole within within
for table in "$M"/beyond/*; do
    number=${table##*/}
    disc "beyond-$number" "$number.iso" "$table" beyond
done
whole beyond beyond
plain foreign.iso >/tmp/table
put drive foreign.iso /tmp/table
put other 0003.iso "$M/beyond/0003"
receive more-foreign beyond /mnt/other /mnt/drive
out other
out drive
for name in wrong 0002; do
    plain "$name.iso" >/tmp/table
    disc "more-$name" "$name.iso" /tmp/table beyond
done
whole more beyond
echo "MEDIA seconds $(($(cut -d. -f1 /proc/uptime) - began))"
R
}

check() { # LOG
    log=$1
    local discs number rc block told others=
    told=$(sed -n 's/^BENCH| //p' "$log" | tr -d '\r')
    # What was said for a disc: from the line of the disc before to its own.
    said() { awk -v end="MEDIA $1 rc=" '{ if (index($0, end) == 1) { print text $0; exit } text = ($1 == "MEDIA") ? "" : text $0 "\n" }' <<<"$told"; }
    expect() { if grep -q -x -E "$1" <<<"$told"; then pass "$2"; else fail "$2 (no line: $1)"; fi; }
    expect_of() { if grep -q -E "$2" <<<"$(said "$1")"; then pass "$3"; else said "$1" >&2; fail "$3 (not said for $1: $2)"; fi; }
    discs=$(sed -n 's/^MEDIA within-0*\([0-9]*\) rc=.*/\1/p' <<<"$told" | tail -n 1)
    expect 'MEDIA trust rc=0' "the root is trusted"
    expect 'MEDIA sector bad' "the rig's bad sector cannot be read"
    expect 'MEDIA neighbours read' "the sectors beside it can"
    [ "${discs:-0}" -ge 5 ] || fail "only ${discs:-0} discs"
    for ((number = 2; number <= discs; number++)); do
        rc=3
        [ "$number" -lt "$discs" ] || rc=0
        block=$((3 * number))
        expect "MEDIA within-000$number rc=$rc" "disc $number, a bad sector of its own: exit $rc"
        # Of the last disc only what is still missing is read.
        [ "$number" = "$discs" ] || expect_of "within-000$number" "volume $number of $discs: blocks $block unreadable" "  and it names block $block"
        [ "$number" = "$discs" ] || others+="${others:+, }$block"
    done
    expect_of within-0004 'the front of it is damaged .*; its copy at the end is used' "disc 4 lost its head, the copy is used"
    expect_of "within-000$discs" "volume 1 of $discs: blocks $others restored from parity" "what only the lost disc 1 could still give is restored"
    expect 'MEDIA within equal' "the bundle is the original, byte for byte"
    for ((number = 2; number <= discs; number++)); do
        expect "MEDIA beyond-000$number rc=3" "three bad blocks of one stripe: disc $number ends with 3"
    done
    expect_of "beyond-000$discs" 'blocks 9: .* 1 of the volumes 1' "  and the last one names what to bring or burn again"
    expect 'MEDIA beyond no bundle' "  and nothing has a bundle's name"
    expect_of more-foreign 'volume [0-9]+ of another set' "a disc of another set is named"
    expect 'MEDIA more-foreign rc=3' "  and not taken"
    expect_of more-wrong 'named volume 2, but what it holds is volume 3: wrong label' "a wrong label is named"
    expect 'MEDIA more-wrong rc=3' "  and does not help"
    expect 'MEDIA more-0002 rc=0' "disc 2 burnt again is enough"
    expect 'MEDIA more equal' "the bundle is the original"
    echo "media: $(sed -n 's/^MEDIA seconds //p' <<<"$told") s inside the machine"
    echo "media: $passed checks passed"
}

case ${1:-} in
prepare) prepare "${2:?DIR}" ;;
check) check "${2:?LOG}" ;;
'')
    "$here/setup.sh"
    all=$(mktemp -d -p /var/tmp lockgate-media-vm.XXXXXX)
    trap 'rm -rf --one-file-system "$all"' EXIT
    trap 'exit 130' INT TERM
    mkdir "$all/medium"
    "${BASH_SOURCE[0]}" prepare "$all/medium"
    # shellcheck disable=SC2016 # the machine's own variable
    echo '. "$BENCH_MEDIUM/media/run.sh"' >"$all/medium/run.sh"
    "$here/make-disk.sh" --out "$all/disk.qcow2"
    log=$all/serial.log
    "$here/run-vm.sh" --disk "$all/disk.qcow2" --medium "$all/medium" --log "$log" --timeout "${LOCKGATE_VM_TIMEOUT:-600}" || fail "the machine ended with $?"
    [ -z "${LOCKGATE_VM_LOG:-}" ] || { mkdir -p "$LOCKGATE_VM_LOG" && cp "$log" "$LOCKGATE_VM_LOG/media.log"; }
    check "$log"
    ;;
*) echo "usage: media.sh [prepare DIR | check LOG]" >&2; exit 2 ;;
esac
