# shellcheck shell=bash
# Shared by the scripts of the isolated machine. Sourced, never run.
#
# What may hurt: a host whose apt configuration we would change. So every apt
# call here gets its own source list, its own lists and its own cache; the
# host's sources are only read, to learn which mirror the host itself uses.

LOCKGATE_CACHE="${LOCKGATE_CACHE:-${HOME:-/root}/.cache/lockgate}"
VM_CACHE="$LOCKGATE_CACHE/vm"
# The release of the isolated machine. The build host may be older. With bookworm, podman is older than
# Quadlet, and plain units are written instead.
GUEST_SUITE=${LOCKGATE_GUEST_SUITE:-trixie}
# shellcheck disable=SC2034 # used by isolated.sh
case $GUEST_SUITE in
bookworm) GUEST_OS=debian-12 GUEST_RUNTIME='podman, crun, runc, netavark, aardvark-dns, catatonit, iptables, nftables' ;;
trixie) GUEST_OS=debian-13 GUEST_RUNTIME='podman, crun, netavark, aardvark-dns, catatonit, nftables' ;;
*) printf 'vm: error: no isolated machine of %s\n' "$GUEST_SUITE" >&2; exit 1 ;;
esac
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

say() { printf 'vm: %s\n' "$*" >&2; }
die() { printf 'vm: error: %s\n' "$*" >&2; exit "${DIE_CODE:-1}"; }

host_codename() { (. /etc/os-release && printf '%s\n' "${VERSION_CODENAME:-}"); }

# Prints the address of the host's own mirror that carries the host's release; reads
# both forms of apt sources (one-line .list and deb822 .sources).
host_mirror() {
    local suite uri
    suite=$(host_codename)
    uri=$(find /etc/apt/sources.list /etc/apt/sources.list.d -name '*.list' -exec cat {} + 2>/dev/null |
        sed -e 's/#.*//' -e 's/\[[^]]*\]//' |
        awk -v s="$suite" '$1 == "deb" && $3 == s { print $2; exit }')
    if [ -z "$uri" ]; then
        uri=$(find /etc/apt/sources.list.d -name '*.sources' -exec sh -c 'cat "$1"; echo' _ {} \; 2>/dev/null |
            sed -e '/^#/d' |
            awk -v RS= -v s="$suite" '{
                uri = ""; hit = 0; n = split($0, line, "\n")
                for (i = 1; i <= n; i++) {
                    m = split(line[i], w, /[ \t]+/)
                    if (w[1] == "URIs:") uri = w[2]
                    if (w[1] == "Suites:") for (j = 2; j <= m; j++) if (w[j] == s) hit = 1
                }
                if (hit && uri != "") { print uri; exit }
            }')
    fi
    [ -n "$uri" ] || die "found no apt source for '$suite' on this host; set LOCKGATE_MIRROR=http://…/debian"
    printf '%s\n' "$uri"
}

mirror() { printf '%s\n' "${LOCKGATE_MIRROR:-$(host_mirror)}"; }

# private_apt NAME COMMAND... : apt with the sources in $VM_CACHE/apt/NAME/sources.list
# and nothing else. The package status is the host's, so that dependencies
# are resolved against what is really installed.
private_apt() {
    local dir="$VM_CACHE/apt/$1" tool="$2"
    shift 2
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    "$tool" -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=- \
        -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" \
        -o APT::Sandbox::User=root "$@"
}
