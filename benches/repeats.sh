#!/bin/bash
# What of the images' coded streams repeats out of reach of a pack's window, in chunks cut by content
# (docs/adr/0015-packs-and-deltas.md): whether storing chunks once would pay beside the window.
#
#   repeats.sh [--suite trixie|bookworm]
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
images=$("$root/benches/images.sh" "$@" --folder)
# As they lie in packs: the base first, then each image's own layer in the release's order.
mapfile -t layers < <(jq -r '(.layer == "base") as $base | [($base | not), .digest[7:]] | @tsv' "$images/v1.layers" |
    sort -s -k1,1 | awk '!seen[$2]++ {print $2}')
cd "$root"
exec cargo run --quiet --release --locked -p bundle-format --example repeats -- "${layers[@]/#/$images/v1/blobs/sha256/}"
