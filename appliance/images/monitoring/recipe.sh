# shellcheck shell=bash disable=SC2034
# Prometheus, scraping the other parts.
packages=(prometheus)

prepare() {
    # A fixed number: the data volume outlives every image.
    echo 'prometheus:x:972:972::/var/lib/prometheus:/usr/sbin/nologin' >>"$1/etc/passwd"
    echo 'prometheus:x:972:' >>"$1/etc/group"
}

finish() {
    # promtool is as large as the server and serves authors of rules.
    chroot "$1" dpkg --purge --force-depends promtool >/dev/null 2>&1
    install -d -o 972 -g 972 -m 750 "$1/var/lib/prometheus"
    rm -rf "$1"/var/lib/prometheus/*
}
