# What the tests of the network share: a network of the test's own, taps for its guests, servers at its other end.
#
# Sourced by a *.test.sh file of such tests. The test then runs in a network namespace of its own, which goes away with its
# processes: no bridge, tap or address is left, and no other test's is in the way.
#
#   bridge rk0   192.0.2.1, fd00:2::1       the host's side, where servers listen
#   tap0         the original: 192.0.2.2, fd00:2::2
#   tapN         clone N: 192.0.2.(10 + N), fd00:2::(10 + N)
# shellcheck shell=sh disable=SC2154
if [ -z "${NET_INSIDE:-}" ]; then
    export NET_INSIDE=yes
    # shellcheck disable=SC2046
    exec unshare -n $([ "$(id -u)" = 0 ] || echo -r) sh tests/integration/one.sh "$@"
fi

PEERS=$BUILD/tests/peers
CERTS=$(realpath "$BUILD")/tests/tls-certs
IP=/bin/ip
HOST=192.0.2.1
ORIGINAL=tap=tap0,address=192.0.2.2/24,address=fd00:2::2/64,gateway=$HOST
CLONE='tap=tap%n,address=192.0.2.10+%n/24,address=fd00:2::10+%n/64,gateway=192.0.2.1'

net_up() { # [number of clones]
    "$IP" link set lo up
    "$IP" link add name rk0 type bridge
    "$IP" address add $HOST/24 dev rk0
    "$IP" address add fd00:2::1/64 dev rk0 nodad
    "$IP" link set rk0 up
    n=0
    while [ $n -le "${1:-0}" ]; do
        "$IP" tuntap add "tap$n" mode tap vnet_hdr
        "$IP" link set "tap$n" master rk0 up
        n=$((n + 1))
    done
}

# A server: $DIR/NAME.log and .keylog are what it saw. It listens when this returns.
peer() { # name port certificate [options of tls-peer...]
    name=$1 port=$2 certificate=$3
    shift 3
    "$PEERS/tls-peer" --listen "[::]:$port" --cert "$CERTS/$certificate.pem" --key "$CERTS/$certificate.key" \
        --log "$DIR/$name.log" --keylog "$DIR/$name.keylog" --background "$DIR/$name.pid" "$@" || fail "no peer $name"
    cat "$DIR/$name.pid" >>"$DIR/pids"
}

# Wait for something to become true, for 30 s at most.
until_true() { # what command...
    what=$1
    shift
    tries=300
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "$what: not within 30 s"
        sleep 0.1
    done
}
listens() { [ -n "$(ss -Hltn "sport = :$1")" ]; }

# Everything that passes the bridge, or another interface, into $DIR/capture; it is being written when this returns.
capture_start() { # [interface]
    tcpdump -i "${1:-rk0}" -s 0 -B 32768 -U -Z root -w "$DIR/capture" tcp or udp port 9 >"$DIR/errors.tcpdump" 2>&1 &
    capture_pid=$!
    echo $capture_pid >>"$DIR/pids"
    [ -n "${1:-}" ] || "$IP" neighbour add 192.0.2.99 lladdr 02:00:00:00:00:99 dev rk0
    capture_mark=$([ -n "${1:-}" ] && echo $HOST || echo 192.0.2.99)
    until_true "tcpdump" grep -q 'listening on' "$DIR/errors.tcpdump"
}
# What has passed by now is in the file: what is sent last has to appear in it. tcpdump drops what it holds when it is ended.
capture_stop() {
    bash -c "echo the-end-of-the-capture >/dev/udp/$capture_mark/9"
    until_true "the end of the capture" grep -aq the-end-of-the-capture "$DIR/capture"
    kill -INT $capture_pid
    wait $capture_pid || true
    ! grep -q '^[1-9][0-9]* packets dropped by kernel' "$DIR/errors.tcpdump" || fail "the capture has lost packets"
}

# A guest of the function `keeper` with one of its manifests (tests/peers/manifests), and its clones.
IMAGES=$DATA
keeper_start() { # manifest [options...]
    image=keeper-$1
    shift
    vm_start "$image" --net "$ORIGINAL" --control "$DIR/control.sock" "$@"
}

# Tell the function something; its answer is in $DIR/answer.
tell() { # words...
    invoke -t "$*"
    expect "invoke's exit code for '$*'" "$code" 0
}
told() { # expected answer, one line
    answered "$1
"
}

clones_start() { # number [options...]: clone N at $DIR/c-N.sock
    how_many=$1
    shift
    vm_background "$HOSTVMM" restore --snapshot "$SNAP" --clones "$how_many" --vsock "$DIR/c-%n.sock" --net "$CLONE" \
        --console none "$@"
}

# They need no orderly end, which takes eight of them on one emulated processor its time.
clones_stop() {
    kill -KILL "$vm"
    wait "$vm" || true
}

# Tell each clone the same, side by side: the answers are in $DIR/answer-N.
tell_clones() { # number words...
    last=$1
    shift
    printf '%s' "$*" >"$DIR/event"
    asking=
    for n in $(seq "$last"); do
        "$HOSTVMM" invoke --vsock "$DIR/c-$n.sock" --event "$DIR/event" --wait "$WAIT_MS" >"$DIR/answer-$n" \
            2>"$DIR/errors-$n" &
        asking="$asking $!"
    done
    n=0
    for pid in $asking; do
        n=$((n + 1))
        wait "$pid" || fail "clone $n: '$*' failed: $(cat "$DIR/errors-$n")"
    done
}
