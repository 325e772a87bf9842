#!/bin/bash
# Installs the Debian packages that building, testing and the demo need, and says so. Can be run
# again: what is there is left alone. Changes no configuration of this machine.
# packages.sh bench: also what only the benchmarks compare with.
set -euo pipefail

# build: C compiler for SQLite and zstd, C++ for libFuzzer. images: recipes under appliance/images. engine: what the
# installer's own runtime closure brings on a host without it. peers: stock tools that check us;
# clamav for clamscan with signatures of our own; the fetcher that it depends on is not started;
# softhsm2 and opensc for keys in tokens, libclang-dev and perl to build kryoptic.sh's token; rpm and db5.3-util for its databases; xfsprogs for a disk that shares blocks.
build=(gcc g++ libc6-dev make pkg-config git ca-certificates curl)
images=(xorriso mmdebstrap jq gzip tar attr util-linux debian-archive-keyring xz-utils busybox-static)
engine=(podman runc crun netavark aardvark-dns catatonit iptables nftables iproute2)
peers=(minisign strace faketime bc time e2fsprogs zstd docker-registry skopeo openssl apache2-utils shellcheck python3 python3-venv psmisc
    clamav poppler-utils qpdf xorriso softhsm2 opensc libclang-dev perl rpm db5.3-util pigz zopfli libdeflate-tools xfsprogs)
bench=(udpcast uftp par2)
# A Go toolchain of another source is as good: it makes layers as docker does.
command -v go >/dev/null || bench+=(golang-go)
[ "${1:-}" = bench ] || bench=()

missing=()
for package in "${build[@]}" "${images[@]}" "${engine[@]}" "${peers[@]}" "${bench[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [ "${status:0:2}" = ii ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "packages.sh: must run as root to install: ${missing[*]}" >&2
    exit 1
fi
echo "packages.sh: installing from the Debian mirror: ${missing[*]}"
# A service that a package brings (docker-registry) must not start on this machine.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -rf "$work" /usr/sbin/policy-rc.d' EXIT
fi
apt-get -q update >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; echo "packages.sh: apt-get update failed" >&2; exit 1; }
DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >"$work/log" 2>&1 ||
    { tail -n 30 "$work/log" >&2; echo "packages.sh: apt-get install failed" >&2; exit 1; }
