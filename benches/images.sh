#!/bin/bash
# Makes the real images of the size benchmark, once, outside the tree: Debian's packages (recipes in
# images/), as OCI layouts v1 (the suite as released) and v2 (with its updates and security fixes: a real
# update). Every image is the shared base layer and its own layer above it.
#
#   images.sh [--suite trixie|bookworm]           makes what is missing, prints a table of the layers
#   images.sh [--suite trixie|bookworm] --folder  the same, but prints only the folder of v1 and v2
#
# How much an update changes depends on how long ago the suite had its last point release: days after it
# there is little. bookworm has no more of them, so its update is long and touches every layer.
#
# Kept in ${LOCKGATE_CACHE:-~/.cache/lockgate}/bench-images (another suite than trixie: in a folder of its
# name), keyed by the recipes, the scripts, the compressors and the mirror's signed indexes. DONE in a
# layout holds its key and is written last. A mirror that does not answer is no obstacle where the layouts
# are there.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../appliance/runtime/apt-root.sh
. "$here/../appliance/runtime/apt-root.sh"
recipes=$here/images
# shellcheck source-path=SCRIPTDIR source=images/compressors.sh
. "$recipes/compressors.sh"
cache=${LOCKGATE_CACHE:-${HOME:?}/.cache/lockgate}/images
dest=${LOCKGATE_CACHE:-${HOME:?}/.cache/lockgate}/bench-images
suite=trixie folder=''
while [ $# -gt 0 ]; do
    case $1 in
    --suite) suite=${2:?--suite needs a name} && shift 2 ;;
    --folder) folder=yes && shift ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \?//p}' "$0" >&2 && exit 2 ;;
    esac
done
case $suite in
trixie) names=(base postgresql prometheus python openjdk nodejs) ;;
bookworm) names=(base postgresql-15 prometheus python openjdk-17 nodejs) dest=$dest/bookworm ;;
*) die "no recipes for the suite '$suite'" ;;
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

# link_layers LAYOUT: its layers become links to those in build.sh's cache. Nothing writes to these layouts,
# and four of them would else hold two gigabytes twice.
link_layers() {
    local layer blob
    for layer in "$cache"/*/layer.tar.gz; do
        blob=$1/blobs/sha256/$(jq -r '.digest[7:]' "$(dirname "$layer")/layer.json")
        if [ -f "$blob" ] && [ ! "$layer" -ef "$blob" ]; then
            ln -f "$layer" "$blob.link"
            mv "$blob.link" "$blob"
        fi
    done
}

make_layout() { # VERSION [with-updates]
    local version=$1 layout=$dest/$1 key images=() name
    if ! key=$(layout_key "$@"); then
        [ -f "$layout/DONE" ] || die "the mirror does not answer and there is no $layout"
        say "the mirror does not answer: $version as it was made before"
        return 0
    fi
    [ ! -d "$layout" ] || link_layers "$layout"
    if [ "$(cat "$layout/DONE" 2>/dev/null)" = "$key" ]; then return 0; fi
    for name in "${names[@]}"; do images+=(--image "$name"); done
    "$here/../appliance/images/build.sh" --out "$layout.next" --suite "$suite" --recipes "$recipes" ${2:+--with-updates} "${images[@]}" >&2
    link_layers "$layout.next"
    # Somebody may be reading: what is there stays if it is the same.
    if [ -f "$layout/DONE" ] && cmp -s "$layout.next/index.json" "$layout/index.json"; then
        rm -rf "$layout.next"
    else
        rm -rf "$layout"
        mv "$layout.next" "$layout"
        describe "$layout" >"$dest/$version.layers"
    fi
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
if [ -n "$folder" ]; then
    echo "$dest"
else
    table v1
    table v2
    jq -rs --slurpfile old "$dest/v1.layers" '($old | map(.digest)) as $was | unique_by(.digest) | map(select(.digest | IN($was[]) | not))
        | "changed layers of v2: \(length), \(map(.gzip_bytes) | add // 0) bytes gzip"' "$dest/v2.layers"
fi
