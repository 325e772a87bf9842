#!/bin/bash
# join-by-hand.sh SET-FOLDER OUT: joins the undamaged data volumes of a set with stock tools alone
# (sha384sum, jq, dd, head). It needs every data volume; restoring lost ones is the installer's part.
# The result proves nothing yet: verify-by-hand.sh or installer verify does that.
set -euo pipefail
[ $# = 2 ] || { echo "usage: $0 SET-FOLDER OUT" >&2; exit 2; }
set_folder=$1 out=$2
list=$set_folder/set.json
[ ! -e "$out" ] || { echo "$out exists already" >&2; exit 2; }
data=$(jq -er .data_volumes "$list")
size=$(jq -er .archive_size "$list")
part=$out.part
trap 'rm -f "$part"' EXIT
: >"$part"
for ((number = 1; number <= data; number++)); do
    name=$(jq -er ".files[$((number - 1))].name" "$list")
    # A name from the list is a plain file name, never a path.
    [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || { echo "bad name in set.json" >&2; exit 3; }
    sum=$(jq -er ".files[$((number - 1))].sha384" "$list")
    echo "$sum  $set_folder/$name" | sha384sum --check --quiet -
    # The head: a line of magic, a line of JSON. Offsets as in docs/spec/transfer.md, section 16.2.
    head=$(head -c 4096 "$set_folder/$name" | tr -d '\0' | sed -n 2p)
    cells=$(jq -er .shape.cells <<<"$head")
    cell=$(jq -er .shape.cell <<<"$head")
    prologue=$(jq -er .shape.prologue_size <<<"$head")
    up() { echo $((($1 + 4095) / 4096 * 4096)); }
    payload_at=$((4096 + $(up $((cells * 32))) + $(up "$prologue")))
    dd if="$set_folder/$name" bs=4M iflag=skip_bytes,count_bytes skip=$payload_at count=$((cells * cell)) status=none >>"$part"
done
truncate -s "$size" "$part"
mv "$part" "$out"
trap - EXIT
echo "joined $data volumes: $out, $size bytes"
