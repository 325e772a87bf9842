#!/bin/sh
# Checks a Lockgate bundle without any Lockgate program.
#
#   verify-by-hand.sh BUNDLE K KEY.minisign.pub...
#
# BUNDLE  the bundle, best on a read-only medium: it is read several times
# K       how many distinct keys must have signed
# KEY     minisign public keys that reached you by another way than the bundle
#
# Needs: GNU tar and coreutils, grep, sed, awk; minisign, zstd, and jq, which
# only reads values out of manifest.json after the signatures over it verified.
# What it proves and what it does not: verify-by-hand.md beside this file.
# Output: lines that begin with PASS, NOTE or FAIL. It stops at the first FAIL.
# Exit: 0 all passed, 1 a check failed, 2 wrong call or a missing tool.
set -eu
export LC_ALL=C TZ=UTC
umask 077

pass() { printf 'PASS  %s\n' "$*"; }
note() { printf 'NOTE  %s\n' "$*"; }
fail() { printf 'FAIL  %s\n' "$*" && exit 1; }
usage() { printf '%s\n' "$*" 'usage: verify-by-hand.sh BUNDLE K KEY.minisign.pub...' >&2 && exit 2; }

[ $# -ge 3 ] || usage 'three arguments or more are needed'
bundle=$1 needed=$2
shift 2
[ -f "$bundle" ] || usage "$bundle is not a file"
case $needed in '' | 0* | *[!0-9]*) usage "K must be a number from 1, found $needed" ;; esac
for tool in tar minisign zstd jq sha384sum sha256sum dd od base64 awk; do
    command -v "$tool" >/dev/null || usage "$tool is not installed"
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# One member's content on standard output. Nothing is ever unpacked by name.
member() { tar --force-local --occurrence=1 -xOf "$bundle" "$1"; }

# (a) Members: only plain files of mode 0444, owner 0, time 0, only our names,
# in their order, no name twice; and no byte of the file beyond them.
tar --force-local --numeric-owner --quoting-style=escape -tvf "$bundle" >"$tmp/list" 2>"$tmp/warnings" ||
    fail 'tar cannot read the archive to its end'
[ ! -s "$tmp/warnings" ] || fail 'tar warns about the archive'
awk '
    !/^-r--r--r-- 0\/0 +[0-9]+ 1970-01-01 00:00 [a-z0-9\/.-]+$/ { exit bad = 1 }
    $6 == "manifest.json" { group = 0 }
    $6 ~ /^signatures\/[0-9a-f]+\.(minisig|ml-dsa-87)$/ { group = 1 }
    $6 ~ /^root\/[0-9]+\.json$/ { group = 2 }
    $6 ~ /^packs\/[0-9]+$/ { group = 3 }
    $6 !~ /^(manifest\.json|signatures\/[^\/]+|root\/[^\/]+|packs\/[0-9]+)$/ { exit bad = 1 }
    (NR == 1) != (group == 0) || (NR > 1 && group " " $6 <= last) { exit bad = 1 }
    { last = group " " $6; total += 512 + 512 * int(($3 + 511) / 512) }
    END { if (bad || NR == 0) exit 1; printf "%.0f\n", total + 1024 }
' "$tmp/list" >"$tmp/size" || fail 'a member is not plain, has a foreign name or is out of order'
[ "$(wc -c <"$bundle")" = "$(cat "$tmp/size")" ] || fail 'the file is longer or shorter than its members'
pass "$(wc -l <"$tmp/list") members, all plain, named and ordered as the format says, nothing behind them"

# (b) The manifest, not yet believed.
member manifest.json >"$tmp/manifest.json"
identity=$(sha384sum <"$tmp/manifest.json" | cut -d' ' -f1)

# (c) Signatures. A key's number, in hexadecimal, is the name of its signature.
# Keys are told apart by their 32 bytes, so that none counts twice.
keys=0
: >"$tmp/counted"
for file in "$@"; do
    key=$(sed -n 2p "$file")
    hex=$(printf '%s' "$key" | base64 -d 2>/dev/null | od -An -v -tx1 | tr -d ' \n')
    [ ${#hex} -eq 84 ] || usage "$file is not a minisign public key file"
    number=$(printf '%s' "$hex" | cut -c5-20)
    point=$(printf '%s' "$hex" | cut -c21-84)
    if grep -qx "$point" "$tmp/counted"; then
        note "$file: the same key once more, not counted again"
        continue
    fi
    if ! grep -q " signatures/$number.minisig\$" "$tmp/list"; then
        note "$file: key $number has not signed"
        continue
    fi
    member "signatures/$number.minisig" >"$tmp/signature"
    comment=$(minisign -V -H -Q -P "$key" -m "$tmp/manifest.json" -x "$tmp/signature" 2>/dev/null) ||
        fail "$file: minisign refuses the signature by key $number"
    case $comment in
    'lockgate manifest '*" sha384=$identity") ;;
    *) fail "$file: the trusted comment does not name the SHA-384 of this manifest" ;;
    esac
    printf '%s\n' "$point" >>"$tmp/counted"
    keys=$((keys + 1))
    pass "$file: $(printf '%s' "$comment" | tr -cd '[:print:]')"
done
[ "$keys" -ge "$needed" ] || fail "$keys of the given keys signed, $needed are needed"
pass "$keys distinct keys signed, $needed needed"

# From here on manifest.json is what the signers signed.
read_manifest() { jq -r "$1" "$tmp/manifest.json"; }
read_manifest '.packs[] | "\(.name) \(.codec)"' >"$tmp/packs"
read_manifest '.packs[] | .name + (.frames[] | " \(.size) \(.sha384)")' >"$tmp/frames"
# A blob that is coded has no digest that a stock tool can redo: `coded` stands in its place.
read_manifest '.packs[] | .name + (.blobs[] | " \(.coded) " +
    if .coding == "plain" then .digest | ltrimstr("sha256:") else "coded" end)' >"$tmp/blobs"
! grep -Evq '^packs/[0-9]{5} [a-z0-9-]+$' "$tmp/packs" || fail 'the manifest names a pack in an unknown form'
! grep -Evq '^packs/[0-9]{5} [0-9]+ [0-9a-f]{96}$' "$tmp/frames" || fail 'the manifest holds a malformed frame'
! grep -Evq '^packs/[0-9]{5} [0-9]+ ([0-9a-f]{64}|coded)$' "$tmp/blobs" || fail 'the manifest holds a malformed blob'
sed -n 's|^.* \(packs/[0-9]*\)$|\1|p' "$tmp/list" >"$tmp/present"
cut -d' ' -f1 "$tmp/packs" | cmp -s - "$tmp/present" || fail 'the packs are not those of the manifest'
# For the sites of each base set (without any: for all) every blob comes once, or must be held.
jq -e '. as $m
    | ([.images[].blobs[], .workloads[].digest, .files[].digest, .runtime[].packages[].digest,
        .attachments[].digest] | unique) as $named
    | (if .bases == [] then [null] else [range(.bases | length)] end) | all(. as $set
        | [$m.packs[] | select(.bases == [] or (.bases | index($set))) | .blobs[]] as $carried
        | ($carried | map(.digest) | sort) as $got
        | (if $set == null then [] else $m.bases[$set].blobs | map(.digest) end) as $held
        | ($got | unique) == $got and ($got - $named) == [] and ($got - $held) == $got
            and ($named - $got - $held) == []
            and ($held - $named - ($carried | map(.delta.base // empty))) == [])' "$tmp/manifest.json" >/dev/null ||
    fail 'a named blob is missing, a blob is doubled, or one is named by nothing'
pass 'the packs are those of the manifest, each blob is named and each named blob is there'
read_manifest '.bases[] | "NOTE  an update: it builds on release \(.release), sequence \(.sequence), of which a site must hold " +
    "\(.blobs | length) blobs"' | tr -cd '[:print:]\n'

# Cuts standard input into the pieces that list $1 names for pack $2 and
# compares each piece's digest by program $3. dd with these flags takes exactly
# `count` bytes from a pipe and leaves the rest for the next piece.
check_pieces() {
    { grep "^$2 " "$1" || :; } >"$tmp/pieces"
    while read -r _ size sum <&3; do
        found=$(dd bs=1M iflag=fullblock,count_bytes count="$size" status=none | "$3" | cut -d' ' -f1)
        [ "$sum" = coded ] || [ "$found" = "$sum" ] || fail "$2: $3 of $size bytes: expected $sum, found $found"
    done 3<"$tmp/pieces"
    [ "$(wc -c)" -eq 0 ] || fail "$2: more bytes than were signed"
}

while read -r pack codec; do
    case $codec in
    raw) decode='cat' ;;
    zstd) decode='zstd -dcq --long=27' ;;
    zstd-delta) decode='' ;;
    *) fail "$pack: this script does not know the codec $codec" ;;
    esac
    # (d) Stored bytes first, so that zstd never sees a byte that nobody signed.
    member "$pack" | check_pieces "$tmp/frames" "$pack" sha384sum || exit 1
    frames="$(grep -c "^$pack " "$tmp/frames") frames by SHA-384"
    # (e) Then what they hold.
    if [ -z "$decode" ]; then
        pass "$pack: $frames"
        note "$pack: differences to blobs that the site holds; what they give is not checked here"
        continue
    fi
    member "$pack" | $decode | check_pieces "$tmp/blobs" "$pack" sha256sum || exit 1
    coded=$(grep -c "^$pack [0-9]* coded\$" "$tmp/blobs") || :
    pass "$pack: $frames, $(($(grep -c "^$pack " "$tmp/blobs") - coded)) blobs by sha256"
    [ "$coded" -eq 0 ] || note "$pack: $coded layers as tokens: every byte is signed, but no stock tool redoes their gzip bytes"
done <"$tmp/packs"

pass "bundle $identity"
read_manifest '"PASS  \(.product) \(.release), sequence \(.sequence), marking \(.marking)"' | tr -cd '[:print:]\n'
