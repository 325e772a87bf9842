#!/bin/bash
# Fetches the container runtime for one Debian release as .deb files: podman and
# everything it needs beyond the smallest Debian.
#
#   fetch-debs.sh --os debian-12|debian-13 --out DIR
#
# apt resolves in a private root and checks the archive's signatures and every
# file's hash. Packages of priority "required" and essential ones, with what
# they need, count as installed: every Debian has them.
# Downloads are kept in ${LOCKGATE_CACHE:-~/.cache/lockgate}/debs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=apt-root.sh
. "$here/apt-root.sh"

out='' os=''
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=${2:?--out needs a directory} && shift 2 ;;
    --os) os=${2:?--os needs a name} && shift 2 ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \?//p}' "$0" >&2 && exit 2 ;;
    esac
done
[ -n "$out" ] || die "--out DIR is missing"
# The same names stand in "install:" of the release manifest.
case $os in
# crun 1.8 refuses hybrid cgroups: runc goes along. iptables: netavark 1.4 calls
# it. nftables: the installer cuts the platform off with a table of its own.
debian-12) suite=bookworm packages=(podman crun runc netavark aardvark-dns catatonit iptables nftables) ;;
debian-13) suite=trixie packages=(podman crun netavark aardvark-dns catatonit nftables) ;;
*) die "--os: '$os' is not one of debian-12, debian-13" ;;
esac

cache=${LOCKGATE_CACHE:-${HOME:?}/.cache/lockgate}/debs/$os
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}" lockgate-debs.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache/partial"

apt_root "$work/apt" "$suite" with-updates
export APT_CONFIG=$work/apt/apt.conf

# The pretended host: apt's own records of the required packages and their
# dependencies, with "Status: installed" added.
apt-get install -s -qq '?essential' '?priority(required)' | awk '$1 == "Inst" {print $2}' | LC_ALL=C sort -u >"$work/required"
[ -s "$work/required" ] || die "apt names no required package for $suite"
xargs -a "$work/required" apt-cache show --no-all-versions |
    sed '/^Package: /a Status: install ok installed' |
    grep -v -e '^Filename:' -e '^Size:' -e '^MD5sum:' -e '^SHA256:' >"$work/status"
cp "$work/status" "$work/apt/status"

apt-get -qq -y --no-install-recommends --download-only -o Dir::Cache::archives="$cache" \
    -o APT::Keep-Downloaded-Packages=true install "${packages[@]}" >&2
# Exactly this closure, whatever else the cache holds.
apt-get -qq --no-install-recommends --print-uris -o Dir::Cache::archives="$work/none" install "${packages[@]}" |
    awk '{print $2}' | LC_ALL=C sort >"$work/names"
[ -s "$work/names" ] || die "apt resolves no package for $os"
[ ! -e "$out" ] || [ -z "$(find "$out" -mindepth 1 ! -name '*.deb' -print -quit)" ] || die "$out holds other files than packages"
rm -rf "$out.new" && mkdir -p "$out.new"
while read -r name; do cp "$cache/$name" "$out.new/"; done <"$work/names"
rm -rf "$out" && mv "$out.new" "$out"
say "$os: $(wc -l <"$work/names") packages, $(du -sh "$out" | cut -f1); install: ${packages[*]}"
