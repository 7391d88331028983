#!/bin/sh
# make soak-tls: clones by the hundreds that carry on over connections of their own, and what the server and the wire saw.
#
# Usage: tests/soak/tls.sh BUILD CLONES [SIDE-BY-SIDE]
# Runs itself again with --inside where VMs can run. In batches, side by side: each clone does 20 requests on each of two idle
# connections that it inherited; each has an address of its own. Afterwards no two handshakes of all may share anything, by the
# server's log and by a capture. The last line is `N passed, N failed`, of clones; what went wrong is above it.
set -eu
cd "$(dirname "$0")/../.."
if [ "${1:-}" != --inside ]; then
    exec tests/support/in-host.sh "$1" 14400 unshare -n tests/soak/tls.sh --inside "$1" "$2" "${3:-16}"
fi

BUILD=$2
clones=$3
side_by_side=$4
DIR=$(mktemp -d /tmp/rekindle-soak.XXXXXX)
: >"$DIR/pids"
NET_INSIDE=yes
. tests/integration/lib.sh
. tests/integration/net-lib.sh
capture_pid=
end() {
    while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$DIR/pids"
    rm -rf "$DIR"
}
trap end EXIT
fail() {
    echo "soak: $*"
    tail -n 20 "$DIR"/host "$DIR"/console "$DIR"/answer "$DIR"/errors 2>/dev/null || true
    echo "0 passed, $clones failed"
    exit 1
}

# An emulated host that has nothing to do sleeps, and QEMU 7.2 can lose the timer that is to wake it (tests/support/in-host.sh):
# a second that a guest then misses, or more, is no failure of its own.
if [ "${KVMHOST_MODE:-}" = emulated ]; then
    nice -n 19 sh -c 'while :; do :; done' &
    echo $! >>"$DIR/pids"
fi
net_up "$side_by_side"
"$IP" address add 10.9.0.1/16 dev rk0
capture_start
peer server 8443 ec --max 1.2
keeper_start keeper
tell open orders 2
snapshot_asked "$SNAP" --stop
vm_end 0

started=0
passed=0
batch=0
while [ "$started" -lt "$clones" ]; do
    now=$((clones - started < side_by_side ? clones - started : side_by_side))
    batch=$((batch + 1))
    CLONE="tap=tap%n,address=10.9.$batch.10+%n/16,gateway=10.9.0.1"
    clones_start $now
    printf 'get /soak 20' >"$DIR/event"
    asking=
    for n in $(seq $now); do
        "$HOSTVMM" invoke --vsock "$DIR/c-$n.sock" --event "$DIR/event" --wait 120000 >"$DIR/answer-$n" \
            2>"$DIR/errors-$n" &
        asking="$asking $!"
    done
    # shellcheck disable=SC2086
    for pid in $asking; do wait "$pid" || true; done
    for n in $(seq $now); do
        if [ "$(cat "$DIR/answer-$n")" = '40 answered, 0 failed' ]; then
            passed=$((passed + 1))
        else
            echo "soak: clone $n of batch $batch: $(cat "$DIR/answer-$n" "$DIR/errors-$n")"
        fi
    done
    started=$((started + now))
    if ! kill -TERM "$vm"; then
        echo "soak: batch $batch has ended by itself:"
        tail -n 20 "$DIR/host"
    fi
    wait "$vm" || true
    rm -f "$DIR"/c-*.sock
    [ $((batch % 4)) -ne 0 ] || echo "soak: $started clones, $passed of them without a failure"
done
capture_stop
failed=$((clones - passed))
"$PEERS/no-twins" --log "$DIR/server.log" --capture "$DIR/capture" --port 8443 || failed=$((failed + 1))
# The evidence is of all clones: two connections of each at least, from each one's address.
addresses=$(sed -n 's/.*"event":"handshake".*"from":"\(::ffff:\)*\(10\.9\.[0-9.]*\)".*/\2/p' "$DIR/server.log" | sort -u | wc -l)
echo "soak: handshakes from $addresses clones' addresses"
[ "$addresses" -eq "$clones" ] || failed=$((failed + 1))
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
