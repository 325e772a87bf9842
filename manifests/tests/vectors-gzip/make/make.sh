#!/bin/bash
# Makes the gzip vectors anew, with the compressors of this machine: make.sh [FOLDER] (default: the folder
# above). The bytes depend on the tools' versions; index.tsv says which made what. Needs python3, gzip,
# pigz, libdeflate-gzip, zopfli, bgzip (tabix), busybox, igzip (isal), 7z, advdef (advancecomp), skopeo with jq, go (with
# its module proxy) and a JDK. Nothing in the tests runs this: they read what it made.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
out=${1:-$here/..}
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/content" "$work/gz"
cd "$work/gz"
python3 "$here/content.py" "$work/content"
mixed=$work/content/mixed.bin dense=$work/content/dense.bin
: >"$work/index"

package() { dpkg-query -W -f '${Version}' "$1"; }
# entry NAME CONTENT TOOL VERSION COMMAND
entry() {
    gzip -dc "$1.gz" 2>/dev/null | cmp - "$2" || { echo "make.sh: $1.gz does not hold $2" >&2; exit 1; }
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1.gz" "$(stat -c %s "$2")" "$(sha256sum <"$2" | cut -d' ' -f1)" \
        "$(case $2 in */mixed.bin) echo mixed.bin ;; */dense.bin) echo dense.bin ;; *) echo - ;; esac)" "$3" "$4" "$5" >>"$work/index"
}
# tool NAME CONTENT TOOL VERSION COMMAND...: the command reads and writes standard streams
tool() {
    local name=$1 content=$2 what=$3 version=$4
    shift 4
    "$@" <"$content" >"$name.gz"
    entry "$name" "$content" "$what" "$version" "$*"
}

for level in 1 6 9; do tool "gzip-$level" "$mixed" "GNU gzip" "$(package gzip)" gzip "-$level" -n -c; done
tool gzip-rsyncable "$mixed" "GNU gzip" "$(package gzip)" gzip --rsyncable -n -c
cp "$mixed" mixed.bin
touch -d @1700000000 mixed.bin
gzip -N -k mixed.bin
mv mixed.bin.gz gzip-name.gz
entry gzip-name "$mixed" "GNU gzip" "$(package gzip)" "gzip -N mixed.bin"
for level in 1 6 9 11; do tool "pigz-$level" "$mixed" pigz "$(package pigz)" pigz -p 2 -n "-$level"; done
tool pigz-blocks "$mixed" pigz "$(package pigz)" pigz -p 2 -b 128 -n
tool pigz-independent "$mixed" pigz "$(package pigz)" pigz -p 2 -b 32 -i -n
tool pigz-dense "$dense" pigz "$(package pigz)" pigz -p 2 -n
for level in 1 6 12; do tool "libdeflate-$level" "$mixed" libdeflate "$(package libdeflate-tools)" libdeflate-gzip -c -n "-$level"; done
tool libdeflate-dense "$dense" libdeflate "$(package libdeflate-tools)" libdeflate-gzip -c -n -6
zopfli -c --i5 "$mixed" >zopfli.gz
entry zopfli "$mixed" zopfli "$(package zopfli)" "zopfli -c --i5"
tool bgzip "$mixed" bgzip "$(package tabix)" bgzip -c
tool busybox "$mixed" busybox "$(package busybox-static)" busybox gzip -c
for level in 0 1 2 3; do tool "igzip-$level" "$mixed" ISA-L "$(package isal)" igzip "-$level" -c; done
7z a -tgzip -mx=9 -bso0 -bsp0 7z.gz "$mixed"
entry 7z "$mixed" 7-Zip "$(package p7zip-full)" "7z a -tgzip -mx=9"
gzip -n -6 <"$mixed" >advdef.gz
advdef -z -3 -q advdef.gz
entry advdef "$mixed" advdef "$(package advancecomp)" "gzip -6, then advdef -z -3"

# More than the 65,535 bytes after which this compressor goes on with a code.
cat "$mixed" "$mixed" "$mixed" >"$work/content/thrice"
(
    work=$work/skopeo
    mkdir "$work"
    die() { echo "make.sh: $*" >&2; exit 1; }
    # shellcheck source-path=SCRIPTDIR source=../../../../benches/images/compressors.sh
    . "$here/../../../../benches/images/compressors.sh"
    compress_pgzip
) <"$work/content/thrice" >pgzip-skopeo.gz
entry pgzip-skopeo "$work/content/thrice" skopeo "$(package skopeo)" "benches/images/compressors.sh, compress_pgzip"

(cd "$here/go" && GOFLAGS=-mod=mod go build -o "$work/vectors" .)
"$work/vectors" "$mixed" "$dense" .
go_version=$(go env GOVERSION)
for file in go-*.gz klauspost-*.gz pgzip-*.gz; do
    name=${file%.gz}
    [ "$name" != pgzip-skopeo ] || continue
    content=$mixed
    case $name in
    *-dense) content=$dense ;;
    pgzip-1MiB-blocks) content=$work/content/large && gzip -dc "$file" >"$content" ;;
    esac
    case $name in
    go-*) entry "$name" "$content" "Go compress/gzip" "$go_version" "make/go/main.go" ;;
    klauspost-*) entry "$name" "$content" "klauspost/compress/gzip" "$(sed -n 's/.*klauspost.compress //p' "$here/go/go.mod")" "make/go/main.go" ;;
    pgzip-*) entry "$name" "$content" "klauspost/pgzip" "$(sed -n 's/.*klauspost.pgzip //p' "$here/go/go.mod")" "make/go/main.go" ;;
    esac
done

java "$here/java/Vectors.java" "$mixed" "$dense" .
for file in java-*.gz; do
    name=${file%.gz}
    case $name in
    java-dense) content=$dense ;;
    java-stored) content=$work/content/stored && head -c 3000 "$dense" >"$content" ;;
    *) content=$mixed ;;
    esac
    entry "$name" "$content" "java.util.zip" "$(java -version 2>&1 | sed -n '2s/.*build \(.*\))/\1/p')" "make/java/Vectors.java"
done

mkdir "$work/odd"
python3 "$here/odd.py" "$work/content" "$work/odd"
mv "$work"/odd/*.gz .
for content in "$work"/odd/*.content; do
    name=$(basename "$content" .content)
    cmp -s "$content" "$mixed" && content=$mixed
    cmp -s "$content" "$dense" && content=$dense
    entry "$name" "$content" "$(case $name in hand-*) echo "by hand" ;; *) echo zlib ;; esac)" \
        "$(case $name in hand-*) echo - ;; *) python3 -c 'import zlib; print(zlib.ZLIB_RUNTIME_VERSION)' ;; esac)" "make/odd.py"
done

rm -f mixed.bin "$out"/*.gz
cp "$work"/gz/*.gz "$mixed" "$dense" "$out/"
# The token columns are by the codec itself: they hold other writers, and later versions of it, to what it says now.
cargo build --quiet --locked --manifest-path "$here/../../../../Cargo.toml" -p system-tests --bin lockgate-test-tokens
codec=${CARGO_TARGET_DIR:-$here/../../../../target}/debug/lockgate-test-tokens
{
    printf '#file\tcontent_bytes\tcontent_sha256\tcontent_file\ttool\tversion\tcommand\ttoken_bytes\ttoken_sha256\n'
    LC_ALL=C sort "$work/index" | while IFS= read -r line; do
        "$codec" encode <"$out/${line%%$'\t'*}" >"$work/tokens"
        printf '%s\t%s\t%s\n' "$line" "$(stat -c %s "$work/tokens")" "$(sha256sum <"$work/tokens" | cut -d' ' -f1)"
    done
} >"$out/index.tsv"
[ "$(($(wc -l <"$out/index.tsv") - 1))" = "$(find "$out" -maxdepth 1 -name '*.gz' | wc -l)" ] || { echo "make.sh: a vector is not in the index" >&2; exit 1; }
echo "$(($(wc -l <"$out/index.tsv") - 1)) vectors, $(cat "$out"/*.gz "$out"/*.bin | wc -c) bytes"
