#!/bin/bash
# The main job, whole, on real images, on this machine:
#   demo.sh up      build, sign 2 of 3, carry across, verify, install, use the platform, back up,
#                   update, roll back, status
#   demo.sh down    ends it and removes everything that it made
#
# What "carried across" means here: a plain copy between two folders, low/ and high/. The platform's
# own network drops whatever would leave it; the demo shows that with a host of its own in a network
# namespace. Folder: ${LOCKGATE_DEMO:-/var/tmp/lockgate-demo}.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
demo=${LOCKGATE_DEMO:-/var/tmp/lockgate-demo}
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}
bin=${CARGO_TARGET_DIR:-$root/target}/release
builder=$bin/bundle-builder
state=$demo/high/state
outside_ns=lockgate-outside
outside_ip=198.51.100.2 # TEST-NET-2 (RFC 5737)

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*" | sed "s|$demo/||g; s|$bin/||g"; "$@"; }
die() { echo "demo: $*" >&2; exit 1; }
inst() { "$bin/installer" --state-dir "$state" "$@"; }
# podman as the installer calls it here: on a machine without systemd it has a configuration of its own.
engine() {
    if [ -e "$state/engine/containers.conf" ]; then CONTAINERS_CONF=$state/engine/containers.conf PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman "$@"; else podman "$@"; fi
}

down() {
    say "taking the demo down"
    if [ -e "$state/state.db" ]; then inst --yes uninstall --product defense-builders --with-data || true; fi
    ip netns pids $outside_ns 2>/dev/null | xargs -r kill 2>/dev/null || true
    ip netns del $outside_ns 2>/dev/null || true
    ip link del lg-outside 2>/dev/null || true
    rm -rf --one-file-system "$demo"
    echo "removed $demo"
}

outside_up() {
    ip netns add $outside_ns
    ip link add lg-outside type veth peer name eth0 netns $outside_ns
    ip addr add 198.51.100.1/24 dev lg-outside
    ip link set lg-outside up
    ip -n $outside_ns addr add $outside_ip/24 dev eth0
    ip -n $outside_ns link set eth0 up
    ip -n $outside_ns link set lo up
    ip -n $outside_ns route add default via 198.51.100.1
    mkdir -p "$demo/outside"
    ip netns exec $outside_ns busybox httpd -f -p $outside_ip:8080 -h "$demo/outside" &
}

up() {
    [ "$(id -u)" = 0 ] || die "must run as root: it installs a platform on this machine"
    if [ -e "$demo" ]; then down; fi
    local started=$SECONDS
    mkdir -p "$demo"/{low/keys,high,low/release}

    say "1/9 reference images and runtime packages (kept in $cache)"
    LOCKGATE_FIXTURES=$cache/fixtures "$root/tests/setup/fixtures.sh"
    local built=$SECONDS

    say "2/9 low side: three signers, a trust root of 2 of 3"
    local name
    for name in alice bob carol; do
        head -c 24 /dev/urandom | base64 >"$demo/low/keys/$name.passphrase"
        chmod 600 "$demo/low/keys/$name.passphrase"
        run "$builder" keygen --name $name --out "$demo/low/keys" --passphrase-file "$demo/low/keys/$name.passphrase" >/dev/null
    done
    run "$builder" root init --out "$demo/low/root-1.json" --threshold 2 --expires 2036-01-01T00:00:00Z \
        --signer "$demo/low/keys/alice.signer.json" --signer "$demo/low/keys/bob.signer.json" \
        --signer "$demo/low/keys/carol.signer.json" >/dev/null
    for name in alice bob; do
        run "$builder" root sign "$demo/low/root-1.json" --key "$demo/low/keys/$name" --passphrase-file "$demo/low/keys/$name.passphrase" >/dev/null
    done
    "$builder" root show "$demo/low/root-1.json"
    local fingerprint
    fingerprint=$("$builder" --json root show "$demo/low/root-1.json" | jq -r .sha384)

    say "3/9 low side: pin, build, sign"
    cp -r "$root"/manifests/profiles/{defense-builders.yaml,workloads} "$demo/low/release/"
    ln -s "$cache/fixtures/images" "$demo/low/release/images"
    ln -s "$cache/fixtures/runtime" "$demo/low/release/runtime"
    local release=$demo/low/release/defense-builders.yaml bundle=$demo/low/defense-builders.bundle.tar
    run "$builder" pin "$release"
    run "$builder" build "$release" --root "$demo/low/root-1.json" --out "$bundle"
    for name in alice carol; do
        run "$builder" sign "$bundle" --key "$demo/low/keys/$name" --passphrase-file "$demo/low/keys/$name.passphrase"
    done
    run "$builder" inspect "$bundle"

    say "4/9 across the gap: a copy"
    run cp "$bundle" "$demo/low/root-1.json" "$demo/high/"
    bundle=$demo/high/defense-builders.bundle.tar

    say "5/9 high side: trust root compared, whole proof"
    run inst trust init "$demo/high/root-1.json" --fingerprint "$fingerprint"
    run inst verify "$bundle"
    echo "and without our code, by stock minisign, tar, zstd, sha384sum, sha256sum:"
    "$root/docs/isso/verify-by-hand.sh" "$bundle" 2 "$demo"/low/keys/{alice,bob,carol}.minisign.pub

    say "6/9 high side: preflight, plan, install"
    run inst preflight "$bundle"
    run inst plan "$bundle"
    run inst --yes install "$bundle"

    say "7/9 the platform at work"
    use_platform

    say "8/9 high side: backup, an update, and back"
    update_and_back

    say "9/9 status"
    run inst status
    inst history
    echo
    echo "images and packages $((built - started)) s, everything after them $((SECONDS - built)) s"
    echo "the platform stays up: https://localhost:8443/ ; end it with: make demo-down"
}

# Release 1.0.1 over 1.0.0 with a row written in between: going back brings the data of the switch.
update_and_back() {
    local release=$demo/low/release/update.yaml bundle=$demo/low/update.bundle.tar name
    run inst --yes backup make
    sed -e 's/^release: .*/release: "1.0.1"/; s/^sequence: .*/sequence: 2/' "$demo/low/release/defense-builders.yaml" >"$release"
    run "$builder" pin "$release"
    run "$builder" build "$release" --root "$demo/low/root-1.json" --out "$bundle"
    for name in alice bob; do
        run "$builder" sign "$bundle" --key "$demo/low/keys/$name" --passphrase-file "$demo/low/keys/$name.passphrase"
    done
    run cp "$bundle" "$demo/high/"
    run inst --yes install "$demo/high/update.bundle.tar"
    engine exec database-postgres psql -h /tmp -d platform -qAtc "update demo set said = 'changed by 1.0.1' where id = 1"
    run inst --yes rollback
    local row
    row=$(engine exec database-postgres psql -h /tmp -d platform -qAtc "select said from demo where id = 1")
    [ "$row" = "written on the isolated side" ] || die "going back did not bring the data of the switch: '$row'"
    echo "row 1 after going back: $row"
    run inst check
}

use_platform() {
    local cert=$state/tls/gateway-tls.crt user=developer password
    echo "-- landing page"
    curl -sS --fail --cacert "$cert" https://localhost:8443/ | grep -o -E 'UNCLASSIFIED|<th scope="row">[A-Za-z]+' | sort | uniq -c

    echo "-- PostgreSQL: write a row and read it back"
    engine exec database-postgres psql -h /tmp -d platform -v ON_ERROR_STOP=1 -qAtc \
        "create table if not exists demo(id int primary key, said text); insert into demo values (1, 'written on the isolated side') on conflict do nothing"
    local row
    row=$(engine exec database-postgres psql -h /tmp -d platform -qAtc "select said from demo where id = 1")
    [ "$row" = "written on the isolated side" ] || die "the row did not come back: '$row'"
    echo "row 1: $row"

    echo "-- registry: push and pull an image of a developer"
    password=$(engine inspect gateway-nginx --format '{{range .Config.Env}}{{println .}}{{end}}' | sed -n 's/^REGISTRY_PASSWORD=//p')
    local work=$demo/high/push auth=$demo/high/push/auth.json certs=$demo/high/push/certs
    mkdir -p "$certs" && cp "$cert" "$certs/ca.crt"
    (umask 077 && printf '{"auths":{"localhost:8443":{"auth":"%s"}}}' "$(printf '%s:%s' $user "$password" | base64 -w0)" >"$auth")
    skopeo copy -q --authfile "$auth" --dest-cert-dir "$certs" "oci:$cache/fixtures/images:minimal" docker://localhost:8443/dev/hello:1
    skopeo copy -q --authfile "$auth" --src-cert-dir "$certs" docker://localhost:8443/dev/hello:1 "oci:$work/back:hello"
    local sent back
    sent=$(skopeo inspect --format '{{.Digest}}' "oci:$cache/fixtures/images:minimal")
    back=$(skopeo inspect --format '{{.Digest}}' "oci:$work/back:hello")
    [ "$sent" = "$back" ] || die "pushed $sent, pulled $back"
    echo "pushed and pulled dev/hello:1 $back"
    rm -rf "$work"

    echo "-- Prometheus: up == 1 on every target"
    local tries=0 answer
    until answer=$(curl -sS --fail --cacert "$cert" 'https://localhost:8443/prometheus/api/v1/query?query=up') &&
        echo "$answer" | jq -e '.data.result | length >= 4 and all(.value[1] == "1")' >/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || die "not every target is up: $answer"
        sleep 1
    done
    echo "$answer" | jq -r '.data.result[] | "\(.metric.job) up=\(.value[1])"'

    echo "-- the platform cannot reach outside"
    outside_up
    sleep 1
    curl -sS -o /dev/null --max-time 3 "http://$outside_ip:8080/" || die "the host outside does not answer this machine"
    echo "this machine reaches http://$outside_ip:8080/"
    if engine exec database-postgres bash -c "timeout 3 bash -c 'exec 3<>/dev/tcp/$outside_ip/8080'" 2>/dev/null; then
        die "a container reached the host outside"
    fi
    echo "a container of the platform does not"
}

case ${1:-} in
up) up ;;
down) down ;;
*) echo "usage: demo.sh up|down" >&2; exit 2 ;;
esac
