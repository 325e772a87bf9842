# shellcheck shell=bash disable=SC2034
# One static busybox: the smallest image that serves HTTP and can be probed.
base=scratch
packages=(busybox-static)

finish() {
    local root=$1 applet
    # Only the program and its licence stay.
    mv "$root/usr/bin/busybox" "$root/busybox"
    find "$root/usr" -type f ! -name copyright -delete
    find "$root/usr" -type d -empty -delete
    install -d -m 755 "$root"/{bin,etc,www}
    install -d -m 1777 "$root/tmp"
    mv "$root/busybox" "$root/bin/busybox"
    for applet in sh cat echo httpd ls ps sleep wget; do ln -s busybox "$root/bin/$applet"; done
    echo 'nobody:x:65534:65534:nobody:/:/bin/false' >"$root/etc/passwd"
    echo 'nogroup:x:65534:' >"$root/etc/group"
    echo 'lockgate minimal image' >"$root/www/index.html"
}
