# shellcheck shell=bash disable=SC2034
# nginx as the platform's only door: TLS, landing page, proxy to the other parts.
# Its nginx.conf and page come from the workload (manifests/profiles/workloads).
packages=(nginx-light)

finish() {
    # Runs as www-data: the packaged configuration expects root and is not used.
    rm -rf "$1"/etc/nginx/{nginx.conf,sites-available,sites-enabled,modules-enabled,conf.d} "$1"/var/www/html
    rm -rf "$1"/usr/lib/nginx/modules "$1"/usr/share/nginx/modules-available
}
