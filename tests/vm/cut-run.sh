# shellcheck shell=sh
# The medium's run.sh in the machines of powercut.sh: what it echoes is asserted outside. What it is to
# do it reads from the disk with the serial number ORDER, past every cache:
#   seed     bring release blue into force, begin to write rows, say READY, wait for another order, which
#            is the name of a bundle, and update to that
#   look     say what came of the cut before, and end
#   on       the same, and then update to the other release
M=$BENCH_MEDIUM
I="$M/installer --no-color"
for disk in /sys/block/vd*; do
    [ "$(cat "$disk/serial")" != ORDER ] || order_disk=/dev/${disk##*/}
done
order() { dd if="$order_disk" bs=512 count=1 iflag=direct 2>/dev/null | tr -d '\0\n'; }
up() { cut -d' ' -f1 /proc/uptime; }
query() { podman exec database-postgres psql -h /tmp -d platform -qAtc "$1"; }
# Healthy, and nothing left that could still change which release runs.
settled() {
    $I --json status >/run/status 2>/dev/null || return 1
    grep -q -e '"unfinished":null' -e '"phase":"staging"' /run/status
}
# Asking costs the machine much of its one processor: first everything that belongs to its start has to
# be there, and what finishes a change has to end.
wait_settled() { # SECONDS
    end=$(($(up | cut -d. -f1) + $1))
    timeout "$1" systemctl is-system-running --wait >/dev/null 2>&1
    while [ "$(up | cut -d. -f1)" -lt $end ]; do
        case $(systemctl is-active lockgate-resume.service 2>/dev/null) in
        active | activating | reloading) ;;
        *) ! settled || return 0 ;;
        esac
        sleep 3
    done
    return 1
}
# Rows without end; each that the database took is told outside at once.
writer() {
    while :; do
        (while echo "insert into rows default values returning 'ACK ' || n;"; do sleep 0.2; done) |
            podman exec -i database-postgres psql -h /tmp -d platform -qAt 2>/dev/null
        sleep 0.5
    done
}
update() { # BUNDLE
    echo "CUT"
    $I --yes install "$M/$1.bundle.tar" 2>&1
    echo "UPDATE rc=$?"
    exit 191
}

what=$(order)
echo "ORDER $what at $(up) s"
if wait_settled 600; then
    echo "UP alone after $(up) s"
else
    $I --json status 2>&1
    echo "RESUME"
    $I --yes resume
    echo "RESUME rc=$?"
    wait_settled 300 && echo "UP by resume after $(up) s"
fi
sed -n 's/.*"release":"\([0-9.]*\)","sequence".*/RUNS \1/p' /run/status
grep -o '"unfinished":{[^}]*}' /run/status
echo "HAVE $(query "select coalesce(string_agg(n::text, ' ' order by n), '') from rows" 2>/dev/null)"
case $what in
seed)
    # A scheduled backup holds the lock for a moment.
    until $I --yes install "$M/blue.bundle.tar" 2>&1; do echo "SEEDING rc=$?"; sleep 5; done
    echo "SEEDED after $(up) s"
    systemctl stop lockgate-backup.timer lockgate-check.timer
    query 'create table rows(n bigint generated always as identity primary key)'
    writer &
    until [ "$(query 'select count(*) from rows')" -gt 3 ]; do sleep 1; done
    echo "READY after $(up) s"
    while [ "$(order)" = seed ]; do sleep 0.2; done
    update "$(order)"
    ;;
on)
    writer &
    sleep 2
    case $(grep -o '"release":"[0-9.]*","sequence"' /run/status | head -n 1) in
    *2.0.0*) update green ;;
    *) update blue ;;
    esac
    ;;
esac
exit 0
