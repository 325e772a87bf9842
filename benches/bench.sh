#!/bin/bash
# make bench: verify and install-to-store beside their floors and a peer, in the same rounds, medians
# of five, ratios. Two sizes, so that memory and disk are seen not to grow with the bundle.
#
#   verify            beside sha384sum of the same bundle, one process for each core in parallel
#   install to store  (verify into a store on disk) beside podman load of the same images
#   peak memory       maximum resident set of the installer
#   peak disk         high-water of the store's file system over its final size
#
# LOCKGATE_BENCH_MB="200 3000" sizes, LOCKGATE_BENCH_ROUNDS=5.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
rounds=${LOCKGATE_BENCH_ROUNDS:-5}
work=$(mktemp -d -p /var/tmp lockgate-bench.XXXXXX)
mounted=''
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf --one-file-system "$work"' EXIT
cores=$(nproc)

seconds() { local start end; start=$(date +%s.%N); "$@" >/dev/null 2>&1; end=$(date +%s.%N); echo "$end - $start" | bc; }

# An image of one gzip layer of random bytes: nothing can be made smaller, every byte counts.
image() { # MB DIR
    mkdir -p "$2/tree" "$2/oci/blobs/sha256"
    head -c "$1"M /dev/urandom >"$2/tree/data"
    tar -C "$2/tree" --sort=name --mtime=@0 --owner=0 --group=0 -cf "$2/layer.tar" data
    local diff_id layer config manifest
    diff_id=$(sha256sum <"$2/layer.tar" | cut -d' ' -f1)
    gzip -1 -n "$2/layer.tar"
    put() { local d; d=$(sha256sum <"$1" | cut -d' ' -f1); mv "$1" "$2/oci/blobs/sha256/$d"; echo "$d $(stat -c %s "$2/oci/blobs/sha256/$d")"; }
    layer=$(put "$2/layer.tar.gz" "$2")
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$diff_id" >"$2/c"
    config=$(put "$2/c" "$2")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
        "${config% *}" "${config#* }" "${layer% *}" "${layer#* }" >"$2/m"
    manifest=$(put "$2/m" "$2")
    printf '{"imageLayoutVersion":"1.0.0"}' >"$2/oci/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"bench"}}]}' \
        "${manifest% *}" "${manifest#* }" >"$2/oci/index.json"
    rm -rf "$2/tree"
}

bundle() { # DIR
    cat >"$1/r.yaml" <<'Y'
format: lockgate-release/1
product: bench
release: "1"
sequence: 1
marking: UNCLASSIFIED
platform: linux/amd64
title: bench
requires: {memory_mib: 0, disk_mib: 0}
images: [{name: "registry.example/bench:1", source: "oci:oci:bench"}]
network: {name: bench, internal: true}
secrets: []
workloads: []
files: []
runtime: []
Y
    echo "TEST passphrase of bench" >"$1/pass"
    "$bin/bundle-builder" keygen --name bench --out "$1" --passphrase-file "$1/pass"
    "$bin/bundle-builder" root init --out "$1/root.json" --threshold 1 --signer "$1/bench.signer.json" --expires 2036-01-01T00:00:00Z
    "$bin/bundle-builder" root sign "$1/root.json" --key "$1/bench" --passphrase-file "$1/pass"
    "$bin/bundle-builder" pin "$1/r.yaml"
    "$bin/bundle-builder" build "$1/r.yaml" --root "$1/root.json" --out "$1/b.tar"
    "$bin/bundle-builder" sign "$1/b.tar" --key "$1/bench" --passphrase-file "$1/pass"
}

sums() { # FILE: as many sha384sum at a time as there are cores, each over its share
    local size share i pids=()
    size=$(stat -c %s "$1")
    share=$(((size + cores - 1) / cores))
    for ((i = 0; i < cores; i++)); do
        dd if="$1" bs=4M iflag=skip_bytes,count_bytes skip=$((i * share)) count=$share status=none | sha384sum &
        pids+=($!)
    done
    wait "${pids[@]}"
}

echo "machine: $cores cores, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2), $(uname -r); rounds: $rounds"
for mb in ${LOCKGATE_BENCH_MB:-200 3000}; do
    dir=$work/$mb
    mkdir -p "$dir"
    image "$mb" "$dir"
    bundle "$dir" >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
    I=("$bin/installer" --state-dir "$dir/state")
    "${I[@]}" trust init "$dir/root.json" --fingerprint "$("$bin/bundle-builder" --json root show "$dir/root.json" | jq -r .sha384)" >/dev/null
    size=$(stat -c %s "$dir/b.tar")
    skopeo copy -q "oci:$dir/oci:bench" "docker-archive:$dir/load.tar:registry.example/bench:1"
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$dir/graph" "$dir/run" >"$dir/storage.conf"
    cat "$dir/b.tar" >/dev/null # the page cache is warm for all
    : >"$dir/verify"; : >"$dir/sums"; : >"$dir/store"; : >"$dir/load"
    for ((r = 0; r < rounds; r++)); do
        seconds "${I[@]}" verify "$dir/b.tar" >>"$dir/verify"
        seconds sums "$dir/b.tar" >>"$dir/sums"
        rm -rf "$dir/import"
        seconds "$bin/installer" --state-dir "$dir/state" import "$dir/b.tar" --store "$dir/import" >>"$dir/store"
        CONTAINERS_STORAGE_CONF=$dir/storage.conf podman rmi -fa >/dev/null 2>&1 || true
        seconds env CONTAINERS_STORAGE_CONF="$dir/storage.conf" podman load -q -i "$dir/load.tar" >>"$dir/load"
    done
    CONTAINERS_STORAGE_CONF=$dir/storage.conf podman rmi -fa >/dev/null 2>&1 || true
    umount "$dir/graph/overlay" 2>/dev/null || true
    rss=$(/usr/bin/time -f %M "${I[@]}" verify "$dir/b.tar" 2>&1 >/dev/null | tail -n 1)
    rss_store=$( (rm -rf "$dir/import"; /usr/bin/time -f %M "${I[@]}" import "$dir/b.tar" --store "$dir/import" 2>&1 >/dev/null) | tail -n 1)
    # Peak disk on a file system of its own, looked at every 20 ms.
    mkdir -p "$dir/disk"
    truncate -s $((size * 2 + (256 << 20))) "$dir/disk.img"
    mkfs.ext4 -q -m 0 "$dir/disk.img"
    mount -o loop "$dir/disk.img" "$dir/disk"
    mounted=$dir/disk
    used() { df --output=used -B1 "$dir/disk" | tail -n 1; }
    base=$(used)
    "${I[@]}" import "$dir/b.tar" --store "$dir/disk/store" >/dev/null 2>&1 &
    pid=$! peak=0
    while kill -0 $pid 2>/dev/null; do now=$(used); [ "$now" -gt "$peak" ] && peak=$now; sleep 0.02; done
    wait $pid
    final=$(used)
    umount "$dir/disk"
    mounted=''
    v=$(median <"$dir/verify") s=$(median <"$dir/sums") st=$(median <"$dir/store") l=$(median <"$dir/load")
    echo "bundle of $size bytes, medians of $rounds"
    echo "  verify                 $v s; sha384sum on $cores cores $s s; ratio $(ratio "$v" "$s") (to reach: <= 1)"
    echo "  install to store       $st s; podman load $l s; ratio $(ratio "$st" "$l")"
    echo "  peak memory            verify $((rss / 1024)) MiB, install to store $((rss_store / 1024)) MiB (to reach: <= 128)"
    echo "  peak disk / final      $(echo "scale=4; ($peak - $base) / ($final - $base)" | bc) (to reach: <= 1.05)"
    rm -rf --one-file-system "$dir"
done
