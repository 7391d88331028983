#!/bin/sh
# Measure the network and connections that survive cloning: the last part of measure.sh, in the same host and run.
#
# Usage: tests/bench/measure-tls.sh BUILD
# From where to where each figure is counted: tests/bench/README.md. Needs to be root, in a network of its own.
set -eu
if [ -z "${MEASURE_INSIDE:-}" ]; then
    export MEASURE_INSIDE=yes
    exec unshare -n sh "$0" "$@"
fi
cd "$(dirname "$0")/../.."
build=$1
. tests/bench/lib.sh
image=$build/tests/data/keeper-bench.erofs
peers=$build/tests/peers
certs=$build/tests/tls-certs
snapshot=$dir/snapshot
servers=
end_servers() {
    # shellcheck disable=SC2086
    [ -z "$servers" ] || kill $servers 2>/dev/null || true
    end
}
trap end_servers EXIT

net_up() {
    /bin/ip link set lo up
    for n in 0 1; do
        /bin/ip tuntap add tap$n mode tap vnet_hdr
    done
    /bin/ip link add name rk0 type bridge
    /bin/ip address add 192.0.2.1/24 dev rk0
    /bin/ip link set rk0 up
    for n in 0 1; do /bin/ip link set tap$n master rk0 up; done
}

server() { # port [options of tls-peer...]
    port=$1
    shift
    "$peers/tls-peer" --listen "192.0.2.1:$port" --cert "$certs/ec.pem" --key "$certs/ec.key" --max 1.2 \
        --background "$dir/pid" "$@" || fail "no server"
    servers="$servers $(cat "$dir/pid")"
}

original() {
    start "ready in " "$hostvmm" run --kernel "$kernel" --rootfs "$image" --memory 128 --vsock "$dir/vm.sock" \
        --control "$dir/control" --console none --net tap=tap0,address=192.0.2.2/24
}
tell() { # words...: the answer is in $dir/answer
    printf '%s' "$*" >"$dir/event"
    "$hostvmm" invoke --vsock "$dir/vm.sock" --event "$dir/event" --wait 60000 >"$dir/answer" 2>"$dir/errors" ||
        fail "'$*' failed"
}
answered_ns() { sed -n 's/.*ns \([0-9]*\).*/\1/p' "$dir/answer"; }

# The function's clock around function_connect(), a request, and the first byte of its answer.
handshake() { # key name
    : >"$dir/costs"
    original
    for _ in 1 2 3 4 5; do
        tell time "$2" /x
        answered_ns >>"$dir/costs"
    done
    stop
    echo "$1 $(minsn "$(median <"$dir/costs")")"
}

# The agent's clock from the first step of a resume to the hooks, and the function's from there to the first bytes of all
# answers: its hook sends a request on each of the idle connections, and waits.
reconnect() { # key name number
    : >"$dir/costs"
    rm -rf "$snapshot"
    original
    tell open "$2" "$3"
    tell probe /x
    "$hostvmm" snapshot --control "$dir/control" --out "$snapshot" --stop >/dev/null 2>"$dir/errors" || fail "no snapshot"
    wait "$vm" || fail "the guest did not end in order"
    vm=
    # As `hostvmm snapshot` does after a boot: clones that only find out which pages one touches.
    for _ in 1 2; do
        "$hostvmm" restore --snapshot "$snapshot" --rehearse --console none --net tap=tap1,address=192.0.2.11/24 \
            >/dev/null 2>"$dir/errors" || fail "no rehearsal"
    done
    for _ in 1 2 3 4 5; do
        start "clone ready" "$hostvmm" restore --snapshot "$snapshot" --console none --vsock "$dir/vm.sock" \
            --timeline "$dir/timeline" --net tap=tap1,address=192.0.2.11/24
        tell report
        grep -q ", $3 answered, 0 failed" "$dir/answer" || fail "the clone's connections: $(cat "$dir/answer")"
        before_us=$(sed -n '/resume_hooks_us/d; s/.*"resume_[a-z_]*_us": *\([0-9]*\).*/\1/p' "$dir/timeline" |
            awk '{ sum += $1 } END { print sum + 0 }')
        echo $((before_us * 1000 + $(answered_ns))) >>"$dir/costs"
        stop
    done
    echo "$1 $(minsn "$(median <"$dir/costs")")"
}

# MiB for each 1,000 million instructions that everything together has executed.
bulk() { # key command port
    original
    tell "$2" 192.0.2.1 "$3" 8
    tell "$2" 192.0.2.1 "$3" 64
    awk -v ns="$(answered_ns)" -v key="$1" 'BEGIN { printf "%s %.1f\n", key, 64 / (ns / 1e9) }'
    stop
}

# The agent's step in a guest with 1,000 sockets to destroy; the guest prints it.
sockets() {
    "$hostvmm" run --kernel "$kernel" --initrd "$build/tests/guest/resume-steps.cpio" --memory 128 >"$dir/console" \
        2>"$dir/host" </dev/null || fail "resume-steps failed"
    us=$(sed -n 's/.*# 1000 sockets destroyed in \([0-9]*\) us.*/\1/p' "$dir/console")
    [ -n "$us" ] || fail "the guest did not say what 1,000 sockets took"
    echo "sock_destroy_1000_minsn $(minsn $((us * 1000)))"
}

net_up
"$peers/tcp-peer" 192.0.2.1 9000 9001 "$dir/pid" || fail "no peer"
servers=$(cat "$dir/pid")
bulk net_tx_mib_per_ginsn send 9000
bulk net_rx_mib_per_ginsn take 9001
sockets
server 8443
server 8444 --sessions off
server 8445 --delay-ms 20
handshake tls_handshake_minsn unresumed
reconnect tls_reconnect_minsn one 1
reconnect tls_reconnect_16_minsn one 16
reconnect tls_reconnect_20ms_minsn late 1
reconnect tls_reconnect_16_20ms_minsn late 16
