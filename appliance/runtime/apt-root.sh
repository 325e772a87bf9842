# shellcheck shell=bash
# A private apt, beside the machine's own: sourced by images/build.sh and
# runtime/fetch-debs.sh.
#
# The mirror is the one this machine already uses, with the suite replaced.
# Signatures are always checked against debian-archive-keyring. Nothing under
# /etc or /var of the machine is written.

DEBIAN_KEYRING=${LOCKGATE_DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

die() { printf '%s: error: %s\n' "${0##*/}" "$*" >&2; exit 1; }
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# apt_sources: "URI SUITE" for every binary source of this machine, from the
# one-line (*.list) and the deb822 (*.sources) format.
apt_sources() {
    local f
    shopt -s nullglob
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$f" ] || continue
        # deb [options] URI SUITE COMPONENT...
        sed -n 's/^[[:space:]]*deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\?//p' "$f" | awk '{print $1, $2}'
    done
    for f in /etc/apt/sources.list.d/*.sources; do
        # A field may go on over indented lines; a stanza ends at an empty line.
        awk '
            function flush(  u, s, i, j, nu, ns) {
                if (types ~ /(^| )deb( |$)/ && enabled != "no") {
                    nu = split(uris, u, " "); ns = split(suites, s, " ")
                    for (i = 1; i <= nu; i++) for (j = 1; j <= ns; j++) print u[i], s[j]
                }
                types = uris = suites = enabled = field = ""
            }
            /^#/ { next }
            /^[[:space:]]*$/ { flush(); next }
            /^[^[:space:]]/ { field = tolower($1); sub(/:.*/, "", field); sub(/^[^:]*:/, "") }
            field == "types" { types = types " " $0 }
            field == "uris" { uris = uris " " $0 }
            field == "suites" { suites = suites " " $0 }
            field == "enabled" { enabled = $1 }
            END { flush() }
        ' "$f"
    done
}

# debian_mirror [security]: the URI of the Debian (security) archive.
debian_mirror() {
    local own uri
    own=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    case ${1:-main} in
    main)
        uri=${LOCKGATE_DEBIAN_MIRROR:-$(apt_sources | awk -v s="$own" '$2 == s && !seen++ {print $1}')}
        [ -n "$uri" ] || die "no Debian mirror for '$own' in this machine's apt sources; set LOCKGATE_DEBIAN_MIRROR"
        ;;
    security)
        uri=${LOCKGATE_DEBIAN_SECURITY_MIRROR:-$(apt_sources | awk -v s="$own-security" '$2 == s && !seen++ {print $1}')}
        if [ -z "$uri" ]; then uri=$(debian_mirror main) && uri=${uri%/}-security; fi
        ;;
    esac
    printf '%s\n' "${uri%/}"
}

# apt_root DIR SUITE [with-updates]: makes DIR a private apt root and fetches
# the package lists. Afterwards: APT_CONFIG=DIR/apt.conf apt-get ...
# The status file is empty, so nothing counts as installed.
apt_root() {
    local dir=$1 suite=$2 updates=${3:-} main
    [ -r "$DEBIAN_KEYRING" ] || die "no $DEBIAN_KEYRING; install debian-archive-keyring"
    grep -q . "$DEBIAN_KEYRING" || die "$DEBIAN_KEYRING is empty"
    main=$(debian_mirror main)
    mkdir -p "$dir"/{etc/preferences.d,lists/partial,archives/partial,log}
    {
        printf 'deb [signed-by=%s] %s %s main\n' "$DEBIAN_KEYRING" "$main" "$suite"
        if [ -n "$updates" ]; then
            printf 'deb [signed-by=%s] %s %s-updates main\n' "$DEBIAN_KEYRING" "$main" "$suite"
            printf 'deb [signed-by=%s] %s %s-security main\n' "$DEBIAN_KEYRING" "$(debian_mirror security)" "$suite"
        fi
    } >"$dir/etc/sources.list"
    : >"$dir/status"
    {
        # How this machine reaches its mirror (proxy, date checks) stays in force.
        apt-config dump --no-empty --format '%F "%v";%n' Acquire |
            grep -v -e '::IndexTargets' -e '::Languages' -e '::Changelogs' -e 'Allow.*Repositories'
        cat <<EOF
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Architectures:: "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::Etc "$dir/etc";
Dir::Etc::main "";
Dir::Etc::parts "";
Dir::Etc::sourcelist "$dir/etc/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::State::extended_states "$dir/extended_states";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Log "$dir/log";
EOF
    } >"$dir/apt.conf"
    APT_CONFIG=$dir/apt.conf apt-get update -qq >&2 || die "apt-get update failed for $suite"
}
