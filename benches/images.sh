#!/bin/bash
# Makes the real images of the size benchmark, once, outside the tree: Debian 13 (recipes in images/), as
# OCI layouts v1 (the suite as released) and v2 (with its updates and security fixes: a real update).
# Every image is the shared base layer and its own layer above it.
#
#   images.sh           makes what is missing, prints a table of the layers
#   images.sh --folder  the same, but prints only the folder that holds v1 and v2
#
# Kept in ${LOCKGATE_CACHE:-~/.cache/lockgate}/bench-images, keyed by the recipes, the scripts, the
# compressors and the mirror's signed indexes. DONE in a layout holds its key and is written last.
# A mirror that does not answer is no obstacle where the layouts are there.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../appliance/runtime/apt-root.sh
. "$here/../appliance/runtime/apt-root.sh"
recipes=$here/images
# shellcheck source-path=SCRIPTDIR source=images/compressors.sh
. "$recipes/compressors.sh"
dest=${LOCKGATE_CACHE:-${HOME:?}/.cache/lockgate}/bench-images
suite=trixie
case ${1:-} in
'' | --folder) ;;
*) sed -n '2,/^set /{/^set /d;s/^# \?//p}' "$0" >&2 && exit 2 ;;
esac
for tool in go skopeo python3 jq gzip; do
    command -v "$tool" >/dev/null || die "$tool is not installed; tests/setup/packages.sh bench installs it"
done
mkdir -p "$dest"

# layout_key VERSION [with-updates]: fails if the mirror does not answer.
layout_key() {
    local apt=$dest/apt/$1 name
    (apt_root "$apt" "$suite" "${2:-}") || return 1
    {
        for name in go pgzip zlib; do compressor_version "$name"; done
        (cd "$here" && find images images.sh ../appliance/images/build.sh -type f -exec sha256sum {} + | LC_ALL=C sort)
        (cd "$apt/lists" && sha256sum ./*InRelease | LC_ALL=C sort)
    } | sha256sum | cut -d' ' -f1
}

# describe LAYOUT: one JSON object for each layer of each image.
describe() {
    local layout=$1 digest name layer size compressor
    jq -r '.manifests[] | [.annotations["org.opencontainers.image.ref.name"], .digest[7:]] | @tsv' "$layout/index.json" |
        while read -r name digest; do
            jq -r '.layers[] | [.digest[7:], .size] | @tsv' "$layout/blobs/sha256/$digest" | {
                of=base
                while read -r layer size; do
                    # shellcheck source=/dev/null
                    compressor=$(. "$recipes/$of/recipe.sh" && echo "$compressor")
                    jq -cn --arg i "$name" --arg o "$of" --arg d "sha256:$layer" --arg c "$compressor" --argjson g "$size" \
                        --argjson t "$(gzip -dc "$layout/blobs/sha256/$layer" | wc -c)" \
                        '{image: $i, layer: $o, compressor: $c, gzip_bytes: $g, tar_bytes: $t, digest: $d}'
                    of=$name
                done
            }
        done
}

make_layout() { # VERSION [with-updates]
    local version=$1 layout=$dest/$1 key images=() name
    if ! key=$(layout_key "$@"); then
        [ -f "$layout/DONE" ] || die "the mirror does not answer and there is no $layout"
        say "the mirror does not answer: $version as it was made before"
        return 0
    fi
    if [ "$(cat "$layout/DONE" 2>/dev/null)" = "$key" ]; then return 0; fi
    for name in base postgresql prometheus python openjdk nodejs; do images+=(--image "$name"); done
    rm -f "$layout/DONE"
    "$here/../appliance/images/build.sh" --out "$layout" --suite "$suite" --recipes "$recipes" ${2:+--with-updates} "${images[@]}" >&2
    describe "$layout" >"$dest/$version.layers.new"
    mv "$dest/$version.layers.new" "$dest/$version.layers"
    echo "$key" >"$layout/DONE"
}

table() { # VERSION: each layer once; the base is every image's
    echo "$1"
    jq -rs 'unique_by(.digest) | sort_by(.image != "base", .layer)[] | [.layer, .compressor, .gzip_bytes, .tar_bytes, .digest[7:19]] | @tsv' "$dest/$1.layers" |
        awk -F'\t' '{printf "  %-12s %-6s %11d gzip %11d tar  %s\n", $1, $2, $3, $4, $5; g += $3; t += $4}
            END {printf "  %-12s %-6s %11d gzip %11d tar\n", "together", "", g, t}'
}

make_layout v1
make_layout v2 with-updates
if [ "${1:-}" = --folder ]; then
    echo "$dest"
else
    table v1
    table v2
    jq -rs --slurpfile old "$dest/v1.layers" '($old | map(.digest)) as $was | unique_by(.digest) | map(select(.digest | IN($was[]) | not))
        | "changed layers of v2: \(length), \(map(.gzip_bytes) | add // 0) bytes gzip"' "$dest/v2.layers"
fi
