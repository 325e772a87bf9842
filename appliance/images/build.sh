#!/bin/bash
# Builds the reference platform's images from Debian packages into one OCI
# layout, as a registry would hold them: gzip layers, one base layer shared by
# all, one layer per application.
#
#   build.sh --out DIR [--suite trixie] [--with-updates] [--image NAME]...
#            [--recipes DIR]
#
# --with-updates  adds SUITE-updates and SUITE-security (without: the suite as
#                 released, so the two make a real security update)
# --image NAME    only these (default: every directory beside this file)
# --recipes DIR   the images of another folder (default: this one)
#
# Each image is a directory: recipe.sh (packages and a few shell functions),
# config.json (the OCI "config" object), files/ (copied over the packages).
# A folder of recipes may have a compressors.sh: compress_NAME functions, from
# standard input to standard output, for recipes that say compressor=NAME, and
# a compressor_version that says what makes the bytes.
# Layers are kept in ${LOCKGATE_CACHE:-~/.cache/lockgate}, keyed by the recipe
# and by the exact package versions that apt resolves for it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../runtime/apt-root.sh
. "$here/../runtime/apt-root.sh"

# Part of every cache key: raise it when this script changes what it makes.
builder_version=1
cache=${LOCKGATE_CACHE:-${HOME:?}/.cache/lockgate}/images
recipes=$here out='' suite=trixie updates='' images=()
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=${2:?--out needs a directory} && shift 2 ;;
    --suite) suite=${2:?--suite needs a name} && shift 2 ;;
    --image) images+=("${2:?--image needs a name}") && shift 2 ;;
    --with-updates) updates=with-updates && shift ;;
    --recipes) recipes=$(cd "${2:?--recipes needs a directory}" && pwd) && shift 2 ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \?//p}' "$0" >&2 && exit 2 ;;
    esac
done
[ -n "$out" ] || die "--out DIR is missing"
if [ ${#images[@]} = 0 ]; then
    for recipe in "$recipes"/*/recipe.sh; do
        name=$(basename "$(dirname "$recipe")")
        [ "$name" = base ] || images+=("$name")
    done
fi
for tool in mmdebstrap jq gzip tar unshare dpkg-deb; do
    command -v "$tool" >/dev/null || die "$tool is not installed"
done
[ "$(id -u)" = 0 ] || die "must run as root (overlay mounts and chroot)"
[ ! -e "$out" ] || [ -f "$out/oci-layout" ] || [ -z "$(ls -A "$out")" ] || die "$out exists and is not an OCI layout"

umask 022
# The work is done in a mount and PID namespace of its own: however it ends, its
# mounts and any stray daemon of a package script end with it, and this outer
# half removes the files.
if [ -z "${LOCKGATE_WORK:-}" ]; then
    LOCKGATE_WORK=$(mktemp -d -p "${TMPDIR:-/var/tmp}" lockgate-images.XXXXXX)
    export LOCKGATE_WORK
    inner=''
    # shellcheck disable=SC2317 # reached by the trap
    clean_up() {
        if [ -n "$inner" ]; then kill -KILL "$inner" 2>/dev/null || true; wait "$inner" 2>/dev/null || true; sleep 0.5; fi
        rm -rf --one-file-system "$LOCKGATE_WORK" "$out.new"
    }
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    args=(--out "$out" --suite "$suite" --recipes "$recipes" ${updates:+--with-updates})
    for name in "${images[@]}"; do args+=(--image "$name"); done
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$0" "${args[@]}" &
    inner=$!
    status=0
    wait "$inner" || status=$?
    inner=''
    exit "$status"
fi
work=$LOCKGATE_WORK

# --- layers ------------------------------------------------------------------

compress_gzip() { gzip -n -6; }

# pack ROOT DEST: ROOT's tree as DEST/layer.tar.gz and DEST/layer.json.
# Names sorted, owners by number, no time after the release, nothing that is
# made new at each run.
pack() {
    local root=$1 dest=$2 tar_digest gz_digest
    # Overlay to OCI: a deleted file is a 0:0 character device, a replaced
    # directory carries an xattr.
    find "$root" -type c -links 1 | while IFS= read -r f; do
        [ "$(stat -c %t:%T "$f")" = 0:0 ] || continue
        rm "$f" && : >"$(dirname "$f")/.wh.$(basename "$f")"
    done
    find "$root" -mindepth 1 -type d | while IFS= read -r f; do
        if getfattr --absolute-names -n trusted.overlay.opaque "$f" >/dev/null 2>&1; then : >"$f/.wh..wh..opq"; fi
    done
    mkdir -p "$dest"
    (cd "$root" && find . -mindepth 1 \( -path './dev/*' -o -path './proc/*' -o -path './sys/*' -o -path './run/*' \
        -o -path './tmp/*' -o -type s \) -prune -o -mindepth 1 -printf '%P\0' | LC_ALL=C sort -z |
        tar --create --no-recursion --numeric-owner --format=posix \
            --pax-option='exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' \
            --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime --null --files-from=-) |
        tee >(sha256sum | cut -d' ' -f1 >"$dest/diff_id") | "compress_$compressor" >"$dest/layer.tar.gz"
    # The process substitution may end a moment after the pipe.
    while [ ! -s "$dest/diff_id" ]; do sleep 0.05; done
    tar_digest=$(cat "$dest/diff_id") && rm "$dest/diff_id"
    gz_digest=$(sha256sum "$dest/layer.tar.gz" | cut -d' ' -f1)
    jq -n --arg d "sha256:$gz_digest" --arg t "sha256:$tar_digest" --argjson s "$(stat -c %s "$dest/layer.tar.gz")" \
        '{digest: $d, diff_id: $t, size: $s}' >"$dest/layer.json"
}

# sweep ROOT: what package installation leaves behind and no image needs.
sweep() {
    (cd "$1" && rm -rf var/cache/* var/log/* var/lib/apt/* var/lib/dpkg/*-old var/lib/systemd/* \
        etc/machine-id etc/*- etc/ssh/ssh_host_* usr/sbin/policy-rc.d etc/.pwd.lock root/.[a-z]*)
}

# keep KEY: moves the finished $work/layer into the cache, in one step.
keep() {
    mkdir -p "$cache"
    rm -rf "${cache:?}/$1"
    mv "$work/layer" "$cache/$1"
}

# resolve STATUS PACKAGE...: the versions apt would install on top of STATUS.
resolve() {
    local status=$1 && shift
    apt-get -o Dir::State::status="$status" -s -qq install "$@" | sed -n 's/^Inst //p' | LC_ALL=C sort
}

# key NAME RESOLVED [PARENT]: the cache key of a layer.
key() {
    {
        printf '%s\n' "$builder_version" "$suite" "$SOURCE_DATE_EPOCH" "$2" "${3:-}"
        # gzip is this script's own, and older keys say nothing of it.
        if [ "$compressor" != gzip ]; then
            compressor_version "$compressor"
            cat "$recipes/compressors.sh"
        fi
        cd "$recipes/$1" && find . -type f ! -name config.json -printf '%m %P\n' -exec sha256sum {} + | LC_ALL=C sort
    } | sha256sum | cut -d' ' -f1
}

# load_recipe NAME: its variables and functions, and no other's.
load_recipe() {
    unset -f prepare finish
    base=base packages=() variant=essential compressor=gzip
    # shellcheck source=/dev/null
    . "$recipes/$1/recipe.sh"
}

# The base layer: what the recipe of base names (Debian's essential packages).
base_layer() {
    local resolved packages variant compressor dpkg_options=()
    load_recipe base
    resolved=$(resolve "$work/apt/status" "${packages[@]}")
    base_key=base-$(key base "$resolved")
    [ ! -f "$cache/$base_key/layer.json" ] || return 0
    say "building the base layer"
    grep ^Acquire "$work/apt/apt.conf" >"$work/acquire.conf"
    [ ! -f "$recipes/base/dpkg.cfg" ] || dpkg_options=(--dpkgopt="$recipes/base/dpkg.cfg")
    mmdebstrap --quiet --mode=root --variant="$variant" --format=directory --keyring="$DEBIAN_KEYRING" \
        --aptopt="$work/acquire.conf" "${dpkg_options[@]}" --skip=cleanup/reproducible \
        "$suite" "$work/base.new" "$work/apt/etc/sources.list"
    [ ! -d "$recipes/base/files" ] || cp -a "$recipes/base/files/." "$work/base.new/"
    rm -rf "$work/base.new"/etc/{hostname,resolv.conf} "$work/base.new"/etc/apt/*
    sweep "$work/base.new"
    mkdir -p "$work/layer"
    cp "$work/base.new/var/lib/dpkg/status" "$work/layer/status"
    pack "$work/base.new" "$work/layer"
    rm -rf --one-file-system "$work/base.new"
    keep "$base_key"
}

# An application layer: the packages, installed in an overlay over the base.
application_layer() {
    local name=$1 resolved root=$work/root
    resolved=$(resolve "$cache/$base_key/status" "${packages[@]}")
    layer_key=$name-$(key "$name" "$resolved" "$base_key")
    [ ! -f "$cache/$layer_key/layer.json" ] || return 0
    say "building the layer of $name"
    if [ ! -d "$work/base" ]; then
        mkdir "$work/base"
        tar -xzf "$cache/$base_key/layer.tar.gz" -C "$work/base" --numeric-owner
        mkdir -p "$work/base"/{dev,proc,sys,run,tmp,var/cache/apt/archives/partial}
        mknod -m 666 "$work/base/dev/null" c 1 3
        mknod -m 666 "$work/base/dev/urandom" c 1 9
    fi
    rm -rf "$work/upper" "$work/overlay" && mkdir -p "$work/upper" "$work/overlay" "$root"
    mount -t overlay overlay -o "lowerdir=$work/base,upperdir=$work/upper,workdir=$work/overlay,redirect_dir=off,metacopy=off,index=off" "$root"
    mount -t proc proc "$root/proc"
    mount --bind "$work/apt/archives" "$root/var/cache/apt/archives"
    # No daemon starts in here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod 755 "$root/usr/sbin/policy-rc.d"
    [ ! -d "$recipes/$name/files" ] || cp -a --no-preserve=ownership "$recipes/$name/files/." "$root/"
    if declare -F prepare >/dev/null; then prepare "$root"; fi
    rm -f "$work/apt/extended_states"
    # apt runs outside, dpkg inside: the image carries no apt.
    DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -y -o Dir::State::status="$root/var/lib/dpkg/status" \
        -o Dir::Cache::archives="$root/var/cache/apt/archives" -o DPkg::Chroot-Directory="$root" \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold -o APT::Keep-Downloaded-Packages=true \
        install "${packages[@]}" >"$work/apt/log/$name" 2>&1 || { tail -20 "$work/apt/log/$name" >&2 && die "apt-get failed for $name"; }
    if declare -F finish >/dev/null; then finish "$root"; fi
    umount "$root/var/cache/apt/archives" "$root/proc"
    sweep "$root"
    umount "$root"
    mkdir -p "$work/layer"
    pack "$work/upper" "$work/layer"
    keep "$layer_key"
}

# A layer without a base: the recipe picks files out of unpacked packages.
scratch_layer() {
    local name=$1 resolved root=$work/scratch package
    resolved=$(apt-cache show --no-all-versions "${packages[@]}" | grep -E '^(Package|Version|SHA256):')
    layer_key=$name-$(key "$name" "$resolved")
    [ ! -f "$cache/$layer_key/layer.json" ] || return 0
    say "building the layer of $name"
    rm -rf "$root" && mkdir -p "$root/var/lib/dpkg/status.d" "$root.debs"
    (cd "$root.debs" && apt-get -qq download "${packages[@]}")
    for package in "$root.debs"/*.deb; do
        dpkg-deb -x "$package" "$root"
        # Where scanners look in an image that has no dpkg.
        dpkg-deb -f "$package" >"$root/var/lib/dpkg/status.d/$(dpkg-deb -f "$package" Package)"
    done
    [ ! -d "$recipes/$name/files" ] || cp -a --no-preserve=ownership "$recipes/$name/files/." "$root/"
    finish "$root"
    mkdir -p "$work/layer"
    pack "$root" "$work/layer"
    keep "$layer_key"
}

# --- the OCI layout ----------------------------------------------------------

# blob TYPE < bytes: stores a blob, prints its descriptor.
blob() {
    local digest
    cat >"$work/blob"
    digest=$(sha256sum "$work/blob" | cut -d' ' -f1)
    jq -nc --arg t "$1" --arg d "sha256:$digest" --argjson s "$(stat -c %s "$work/blob")" '{mediaType: $t, digest: $d, size: $s}'
    mv "$work/blob" "$out.new/blobs/sha256/$digest"
}

# add_image NAME VERSION LAYER_KEY...: config, manifest and layers; prints the
# manifest's descriptor.
add_image() {
    local name=$1 version=$2 created config layers=() k
    shift 2
    created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
    for k in "$@"; do
        layers+=("$cache/$k/layer.json")
        # A copy, not a link: a layout may be damaged on purpose, the cache not.
        cp "$cache/$k/layer.tar.gz" "$out.new/blobs/sha256/$(jq -r '.digest[7:]' "$cache/$k/layer.json")"
    done
    config=$(jq -cS --slurpfile l <(cat "${layers[@]}") --arg c "$created" --arg n "$name" --arg v "$version" '{
            created: $c, architecture: "amd64", os: "linux",
            config: (. + {Labels: {"org.opencontainers.image.title": $n, "org.opencontainers.image.version": $v}}),
            rootfs: {type: "layers", diff_ids: [$l[].diff_id]},
            history: [$l[] | {created: $c, created_by: "lockgate appliance/images"}]
        }' "$recipes/$name/config.json" | blob application/vnd.oci.image.config.v1+json)
    cat "${layers[@]}" | jq -cSs --argjson config "$config" --arg c "$created" --arg n "$name" --arg v "$version" '{
            schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config,
            layers: [.[] | {mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size}],
            annotations: {"org.opencontainers.image.title": $n, "org.opencontainers.image.version": $v, "org.opencontainers.image.created": $c}
        }' | blob application/vnd.oci.image.manifest.v1+json |
        jq -c --arg n "$name" '. + {platform: {architecture: "amd64", os: "linux"}, annotations: {"org.opencontainers.image.ref.name": $n}}'
}

# --- the run -----------------------------------------------------------------

apt_root "$work/apt" "$suite" "$updates"
export APT_CONFIG=$work/apt/apt.conf
# Packages that were fetched before are kept beside the layers.
mkdir -p "$cache/archives/partial"
mount --bind "$cache/archives" "$work/apt/archives"
# No file in a layer is younger than the suite's last point release.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -d "$(sed -n 's/^Date: //p' "$work/apt/lists/"*"_${suite}_InRelease")" +%s)}
export SOURCE_DATE_EPOCH

# shellcheck source=/dev/null
[ ! -f "$recipes/compressors.sh" ] || . "$recipes/compressors.sh"
rm -rf "$out.new" && mkdir -p "$out.new/blobs/sha256"
base_key=''
for name in "${images[@]}"; do
    [ -f "$recipes/$name/recipe.sh" ] || die "no image '$name' in $recipes"
    if [ "$name" = base ]; then
        [ -n "$base_key" ] || base_layer
        version=$(apt-cache show --no-all-versions base-files | sed -n 's/^Version: //p')
        add_image base "$version" "$base_key" >>"$work/manifests"
        continue
    fi
    load_recipe "$name"
    version=$(apt-cache show --no-all-versions "${packages[0]}" | sed -n 's/^Version: //p')
    if [ "$base" = scratch ]; then
        scratch_layer "$name"
        add_image "$name" "$version" "$layer_key" >>"$work/manifests"
    else
        # The base's recipe is read meanwhile.
        if [ -z "$base_key" ]; then base_layer; load_recipe "$name"; fi
        application_layer "$name"
        add_image "$name" "$version" "$base_key" "$layer_key" >>"$work/manifests"
    fi
done
jq -cs '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' "$work/manifests" >"$out.new/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$out.new/oci-layout"
rm -rf "$out" && mkdir -p "$(dirname "$out")" && mv "$out.new" "$out"
say "$(jq -r '.manifests | length' "$out/index.json") images in $out, $(du -sh "$out" | cut -f1)"
