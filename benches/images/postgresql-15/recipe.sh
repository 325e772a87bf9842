# shellcheck shell=bash disable=SC2034
packages=(postgresql-15) compressor=go

# A self-signed certificate and a database cluster are made new at each run.
finish() {
    rm -rf "$1"/etc/ssl/private/* "$1"/etc/ssl/certs/ssl-cert-snakeoil.pem "$1"/etc/ssl/certs/????????.0
    rm -rf "$1"/var/lib/postgresql/15 "$1"/etc/postgresql/15
}
