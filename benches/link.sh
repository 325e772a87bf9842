#!/bin/bash
# The one-way link beside its peers: the same bytes through the same veth pair (MTU 1500, two network
# namespaces), in the same rounds, medians, ratios. The clock runs from the sender's start until the
# far end has the file and knows its SHA-256.
#
#   ours     send udp, receive udp: signed manifest, every digest, written under its final name
#   udpcast  udp-sender --async with its forward error correction: one-way, as its manual says
#   uftp     has no one-way mode: it gets a way back, for registration and repeats
#   SHA-256  one core's speed over the same bytes (openssl dgst; also what the peers' far end runs)
#
# For each the highest clean rate is looked for first. The files are in memory if they fit, for all.
# LOCKGATE_BENCH_LINK_MB=2048, LOCKGATE_BENCH_ROUNDS=5, LOCKGATE_BENCH_LINK="ours udpcast uftp".
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
mb=${LOCKGATE_BENCH_LINK_MB:-2048}
rounds=${LOCKGATE_BENCH_ROUNDS:-5}
read -r -a tools <<<"${LOCKGATE_BENCH_LINK:-ours udpcast uftp}"
low=lgbl$$ high=lgbh$$
work=$(work_folder $((mb * 3)) lockgate-link)
# shellcheck disable=SC2329 # called by the trap
cleanup() {
    local name
    for name in $low $high; do
        ip netns pids "$name" 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns del "$name" 2>/dev/null || true
    done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

ip netns add $low
ip netns add $high
ip link add l0 netns $low mtu 1500 type veth peer name h0 netns $high mtu 1500
for end in "$low l0 1" "$high h0 2"; do
    read -r name device number <<<"$end"
    # udpcast finds its peer by the broadcast address.
    ip -n "$name" addr add "10.99.0.$number/24" brd + dev "$device"
    ip -n "$name" link set "$device" up
    ip -n "$name" link set lo up
    ip -n "$name" route add 224.0.0.0/4 dev "$device"
done
# Runs a program on a side; CPU seconds into a file. No run takes longer than its bytes at 15 MB/s.
side() { # NAMESPACE CPUFILE PROGRAM...
    local name=$1 file=$2
    shift 2
    /usr/bin/time -o "$file" -f '%U %S' timeout -k 1 $((20 + mb / 15)) ip netns exec "$name" "$@"
}
hash_file() { /usr/bin/time -o "$1.hash" -f '%U %S' openssl dgst -sha256 -r "$2" | cut -d' ' -f1; }

# Each: TOOL RATE; prints seconds; leaves CPU times in $work/{s,r}.cpu*; fails if the bytes differ.
ours() {
    local began receiver sender
    rm -rf "$work/state/inbox"
    side $high "$work/r.cpu" "$bin/installer" --state-dir "$work/state" --json receive udp --listen 10.99.0.2:7000 --idle 5 >"$work/r.out" 2>"$work/r.err" &
    receiver=$!
    until grep -q 'listening on' "$work/r.err"; do sleep 0.02; done
    began=$(now)
    side $low "$work/s.cpu" "$bin/bundle-builder" send udp "$work/b.tar" --to 10.99.0.2:7000 --rate "$1" >/dev/null 2>&1 &
    sender=$!
    wait $receiver || { kill $sender 2>/dev/null; wait $sender || true; return 1; }
    since "$began"
    wait $sender || return 1
    : >"$work/r.cpu.hash"
    cmp -s "$work/b.tar" "$work"/state/inbox/*.bundle.tar
}
ours_clean() { [ "$(jq '.lost + .dropped_by_kernel' "$work/r.out")" = 0 ]; }
udpcast() {
    local began receiver
    rm -rf "$work/got"
    side $high "$work/r.cpu" udp-receiver --nokbd --nosync --interface h0 --rcvbuf 67108864 --receive-timeout 3 --file "$work/got" >/dev/null 2>&1 &
    receiver=$!
    until [ "$(ip netns exec $high ss -Hlun 'sport = :9000' | wc -l)" -gt 0 ]; do sleep 0.02; done
    began=$(now)
    side $low "$work/s.cpu" udp-sender --nokbd --async --fec 8x8/128 --autostart 1 --rexmit-hello-interval 50 --interface l0 \
        --max-bitrate "$1" --file "$work/b.tar" >/dev/null 2>&1 || { kill $receiver; wait $receiver || true; return 1; }
    # Silence after the sender's end: it lost something, and would wait for ever.
    timeout 3 tail --pid=$receiver -f /dev/null || ip netns pids $high | xargs -r kill || true
    wait $receiver || return 1
    [ "$(hash_file "$work/r.cpu" "$work/got")" = "$sum" ] && since "$began"
}
uftp() {
    local began receiver
    rm -rf "$work/got" "$work/uftp"
    mkdir "$work/got" "$work/uftp"
    side $high "$work/r.cpu" uftpd -d -D "$work/got" -T "$work/uftp" -I h0 -B 104857600 >/dev/null 2>"$work/r.err" &
    receiver=$!
    until [ "$(ip netns exec $high ss -Hlun 'sport = :1044' | wc -l)" -gt 0 ]; do sleep 0.02; done
    began=$(now)
    side $low "$work/s.cpu" "$(command -v uftp)" -M 10.99.0.2 -P 10.99.0.2 -I l0 -R "$1" -b 1420 -B 104857600 "$work/b.tar" >"$work/s.out" 2>&1 || true
    if [ "$(hash_file "$work/r.cpu" "$work/got/b.tar" 2>/dev/null)" = "$sum" ]; then since "$began"; else began=; fi
    ip netns pids $high | xargs -r kill || true
    wait $receiver || true
    [ -n "$began" ]
}
declare -A rates=(
    [ours]="300MB 400MB 500MB 600MB 700MB 800MB 900MB 1000MB 1100MB 1200MB"
    [udpcast]="600m 800m 1000m 1200m 1400m 1700m 2000m 2300m"
    [uftp]="1200000 1600000 2000000 -1"
)
declare -A flags=(
    [ours]="send udp --rate RATE (repair 12.5 %)"
    [udpcast]="udp-sender --async --fec 8x8/128 --autostart 1 --rexmit-hello-interval 50 --max-bitrate RATE; udp-receiver --nosync --rcvbuf 64M"
    [uftp]="uftp -R RATE -b 1420 -B 100M; uftpd -B 100M; with a way back"
)

file_bundle "$mb" "$work"
sum=$(openssl dgst -sha256 -r "$work/b.tar" | cut -d' ' -f1)
size=$(stat -c %s "$work/b.tar")
machine "$rounds"
echo "one-way link, $size bytes, veth, MTU 1500, files in ${work%/*}"

# The highest rate at which everything came; the search goes down and ends at the first that is clean.
declare -A rate
for tool in "${tools[@]}"; do
    for candidate in $(tac -s ' ' <<<"${rates[$tool]} "); do
        if $tool "$candidate" >"$work/t" 2>/dev/null && { [ "$tool" != ours ] || ours_clean; }; then
            rate[$tool]=$candidate
            break
        fi
        echo "  $tool is not clean at $candidate"
    done
    [ -n "${rate[$tool]:-}" ] || { echo "  $tool: no clean rate" >&2; exit 1; }
    echo "  $tool: highest clean rate ${rate[$tool]}; ${flags[$tool]}"
done

# A rate that was clean once may not stay so: a failure takes the next lower one, and that tool's
# earlier rounds do not count.
lower() { # TOOL
    local candidate before=
    for candidate in ${rates[$1]}; do
        [ "$candidate" != "${rate[$1]}" ] || break
        before=$candidate
    done
    [ -n "$before" ] || { echo "  $1 fails even at its lowest rate ${rate[$1]}" >&2; exit 1; }
    echo "  $1 failed at ${rate[$1]}; from now on $before"
    rate[$1]=$before
    rm -f "$work/$1.t" "$work/$1.c"
}
lacking() {
    local tool
    for tool in "${tools[@]}"; do
        [ -e "$work/$tool.t" ] && [ "$(wc -l <"$work/$tool.t")" -ge "$rounds" ] || return 0
    done
    return 1
}
while lacking; do
    for tool in "${tools[@]}"; do
        if $tool "${rate[$tool]}" >"$work/t" 2>/dev/null; then
            cat "$work/t" >>"$work/$tool.t"
            echo "    $tool $(cat "$work/t") s" >&2
            echo "$(cpu "$work/s.cpu") $(cpu "$work/r.cpu" "$work/r.cpu.hash")" >>"$work/$tool.c"
        else
            lower "$tool"
        fi
    done
    began=$(now)
    openssl dgst -sha256 "$work/b.tar" >/dev/null
    since "$began" >>"$work/sha.t"
done

speed() { echo "scale=0; $size / $1 / 1000000" | bc; }
hash_speed=$(speed "$(median <"$work/sha.t")")
for tool in "${tools[@]}"; do
    t=$(median <"$work/$tool.t")
    s=$(cut -d' ' -f1 "$work/$tool.c" | median) c=$(cut -d' ' -f2 "$work/$tool.c" | median)
    gib() { echo "scale=2; $1 * 1073741824 / $size" | bc; }
    line="  $tool at ${rate[$tool]}: $(speed "$t") MB/s ($t s); CPU seconds a GiB: sender $(gib "$s"), receiver $(gib "$c")"
    line+="; of one core's SHA-256 ($hash_speed MB/s): $(ratio "$(speed "$t")" "$hash_speed")"
    [ "$tool" = ours ] || [ ! -e "$work/ours.t" ] || line+="; ours is $(ratio "$t" "$(median <"$work/ours.t")") times as fast"
    echo "$line"
done
