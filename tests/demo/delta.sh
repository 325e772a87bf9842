#!/bin/bash
# The reference platform goes from version 1 (Debian as released) to version 2 (the same with its security
# fixes) by a delta bundle, on the real engine: make test-delta. Asserted on the way:
#
#   - a site that lacks a base, or holds a damaged one, is told which (exit 5) and stays as it was
#   - after the delta every image that runs has the manifest digest of version 2, as podman pulled it
#   - the platform is healthy, its data is there, and going back to version 1 works
#
# Installs and removes the reference platform on this machine; not beside make demo.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}
bin=${LOCKGATE_BIN:-${CARGO_TARGET_DIR:-$root/target}/release}
builder=$bin/bundle-builder
product=defense-builders
work=$(mktemp -d -p /var/tmp lgdelta.XXXXXX)
state=$work/state

die() { echo "delta: $*" >&2; [ ! -s "$work/log" ] || tail -n 20 "$work/log" >&2; exit 1; }
quietly() { "$@" >"$work/log" 2>&1 || die "failed: ${*#"$bin/"}"; }
inst() { "$bin/installer" --state-dir "$state" --no-color --yes "$@"; }
engine() {
    if [ -e "$state/engine/containers.conf" ]; then CONTAINERS_CONF=$state/engine/containers.conf PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman "$@"; else podman "$@"; fi
}
# shellcheck disable=SC2329 # called by the trap
cleanup() {
    if [ -e "$state/state.db" ]; then
        inst rollback >/dev/null 2>&1 || true
        inst uninstall --product $product --with-data >/dev/null 2>&1 || true
    fi
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
[ "$(id -u)" = 0 ] || die "must run as root: it installs a platform on this machine"

"$root/tests/setup/fixtures.sh" --updated
fixtures=${LOCKGATE_FIXTURES:-$cache/fixtures}
layout=(unused "$fixtures/images" "$fixtures/images-updated")

# release N: the profile as version N, its images from the layout of that version.
release() {
    mkdir -p "$work/low/$1"
    cp -r "$root/manifests/profiles/workloads" "$work/low/$1/"
    sed -i "s/:1\.0\.0\$/:$1.0.0/" "$work/low/$1"/workloads/*.yaml
    sed -e "s/^release: .*/release: \"$1.0.0\"/; s/^sequence: .*/sequence: $1/; s/^\( *- name: .*\):1\.0\.0\$/\1:$1.0.0/" \
        "$root/manifests/profiles/$product.yaml" >"$work/low/$1/r.yaml"
    ln -s "${layout[$1]}" "$work/low/$1/images"
    ln -s "$fixtures/runtime" "$work/low/$1/runtime"
    quietly "$builder" pin "$work/low/$1/r.yaml"
}
# bundle N FILE OPTION...
bundle() {
    local number=$1 file=$2
    shift 2
    quietly "$builder" build "$work/low/$number/r.yaml" --root "$work/root.json" --out "$work/$file" "$@"
    quietly "$builder" sign "$work/$file" --key "$work/test" --passphrase-file "$work/pass"
}
# manifest N IMAGE: its digest in the layout; layer_digests N: of every layer
manifest() { jq -r --arg n "$2" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $n) | .digest' "${layout[$1]}/index.json"; }
layer_digests() {
    local image
    for image in "${images[@]}"; do
        jq -r '.layers[].digest' "${layout[$1]}/blobs/sha256/$(manifest "$1" "$image" | cut -d: -f2)"
    done | sort -u
}
images=(gateway database registry monitoring)
running() { inst --json status | jq -r ".products[] | select(.product == \"$product\") | .sequence"; }
# refused CODE TEXT: installing the delta ends with this code, says this, and changes nothing.
refused() {
    local code=0
    inst install "$work/delta.tar" >"$work/log" 2>&1 || code=$?
    [ "$code" = "$1" ] || die "exit code $code, expected $1"
    grep -qF "$2" "$work/log" || die "it does not name $2"
    [ "$(running)" = 1 ] || die "sequence $(running) runs after a refusal"
    grep -F "$2" "$work/log"
}
row() { engine exec database-postgres psql -h /tmp -d platform -qAtc "select said from delta"; }

echo "TEST passphrase" >"$work/pass"
quietly "$builder" keygen --name test --out "$work" --passphrase-file "$work/pass"
quietly "$builder" root init --out "$work/root.json" --threshold 1 --signer "$work/test.signer.json" --expires 2036-01-01T00:00:00Z
quietly "$builder" root sign "$work/root.json" --key "$work/test" --passphrase-file "$work/pass"
release 1
release 2
bundle 1 one.tar
bundle 2 two.tar
bundle 2 delta.tar --base "$work/one.tar"
size() { stat -c %s "$work/$1"; }
changed=$(comm -13 <(layer_digests 1) <(layer_digests 2))
[ -n "$changed" ] || die "no layer differs between $fixtures/images and images-updated: no update to carry"
gzip_bytes=$(for digest in $changed; do stat -c %s "${layout[2]}/blobs/sha256/${digest#sha256:}"; done | awk '{s += $1} END {print s}')
echo "version 2: full bundle $(size two.tar) bytes, its changed layers $gzip_bytes, delta bundle $(size delta.tar)"
[ "$(size delta.tar)" -lt "$gzip_bytes" ] || die "the delta is no smaller than the layers that changed"

quietly inst trust init "$work/root.json" --fingerprint "$("$builder" --json root show "$work/root.json" | jq -r .sha384)"
quietly inst install "$work/one.tar"
quietly engine exec database-postgres psql -h /tmp -d platform -v ON_ERROR_STOP=1 -qAtc "create table delta as select 'written at version 1' as said"

# A base that is gone, and one with a bit turned. Which one: the largest layer that version 2 replaces.
base=$(for digest in $(comm -23 <(layer_digests 1) <(layer_digests 2)); do
    echo "$(stat -c %s "${layout[1]}/blobs/sha256/${digest#sha256:}") ${digest#sha256:}"
done | sort -n | tail -n 1 | cut -d' ' -f2)
held=$state/store/blobs/sha256/$base
[ -f "$held" ] || die "the store does not hold $base"
mv "$held" "$work/held"
refused 5 "$base"
cp "$work/held" "$held"
byte=$(od -An -tu1 -j 4096 -N 1 "$held" | tr -d ' ')
printf '%b' "\\x$(printf %x $((byte ^ 1)))" | dd of="$held" bs=1 seek=4096 conv=notrunc status=none
refused 5 "$base"
mv "$work/held" "$held"

quietly inst install "$work/delta.tar"
[ "$(running)" = 2 ] || die "sequence $(running) runs, expected 2"
# What runs (the pods' own pause containers aside) is what podman pulled, and its digest podman's finding.
want=$(for image in "${images[@]}"; do manifest 2 "$image"; done | sort)
have=$(for id in $(engine ps -q); do
    engine image inspect --format '{{.Digest}} {{.RepoDigests}}' "$(engine inspect --format '{{.Image}}' "$id")"
done | grep -F "registry.$product.example/platform/" | cut -d' ' -f1 | sort -u)
[ "$have" = "$want" ] || die "images run as"$'\n'"$have"$'\n'"expected"$'\n'"$want"
echo "podman runs these images of version 2:"
echo "$have"
quietly inst check
[ "$(row)" = "written at version 1" ] || die "the data is '$(row)'"
quietly inst rollback
[ "$(running)" = 1 ] || die "going back left sequence $(running)"
quietly inst check
[ "$(row)" = "written at version 1" ] || die "after going back the data is '$(row)'"
echo "delta: version 1, the delta to version 2 and the way back: all as expected"
