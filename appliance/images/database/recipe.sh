# shellcheck shell=bash disable=SC2034
# PostgreSQL 17 and its metrics exporter (a second container of the same image).
packages=(postgresql-17 prometheus-postgres-exporter)

prepare() {
    # A fixed number: the data volume outlives every image.
    echo 'postgres:x:970:970:PostgreSQL:/var/lib/postgresql:/bin/bash' >>"$1/etc/passwd"
    echo 'postgres:x:970:' >>"$1/etc/group"
}

finish() {
    # The just-in-time compiler is 45 MB of LLVM that this platform switches off.
    chroot "$1" dpkg --purge --force-depends libllvm19 libz3-4 >/dev/null 2>&1
    rm -rf "$1"/usr/lib/postgresql/17/lib/{bitcode,llvmjit.so}
    rm -rf "$1"/usr/share/postgresql/17/man "$1"/usr/lib/*/perl/*/CORE
    # No private key travels, not even a self-signed one for nothing.
    rm -f "$1"/etc/ssl/private/* "$1"/etc/ssl/certs/ssl-cert-snakeoil.pem "$1"/etc/ssl/certs/????????.0
    install -d -o 970 -g 970 -m 700 "$1/var/lib/postgresql/data"
    rm -rf "$1"/var/lib/postgresql/17
}
