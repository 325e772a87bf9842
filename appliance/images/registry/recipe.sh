# shellcheck shell=bash disable=SC2034
# The OCI registry for the developers' own images.
packages=(docker-registry)

prepare() {
    # A fixed number: the data volume outlives every image.
    echo 'docker-registry:x:971:971::/var/lib/registry:/usr/sbin/nologin' >>"$1/etc/passwd"
    echo 'docker-registry:x:971:' >>"$1/etc/group"
}

finish() {
    install -d -o 971 -g 971 -m 750 "$1/var/lib/registry"
}
