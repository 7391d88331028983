#!/bin/sh
# The last part of make demo: a function holds a TLS connection to a server; its clones carry on over connections of their own.
#
# Usage: tests/support/demo-connections.sh BUILD     in a network namespace of its own, where VMs can run
# exit 0 when each clone got its answers over the descriptor that it inherited, and no two handshakes had one client random
set -eu
build=$1
clones=3
kernel=${KERNEL:-build/kernel/vmlinux}
ip=/bin/ip
dir=$(mktemp -d /tmp/rekindle-demo.XXXXXX)
: >"$dir/pids"
end() {
    while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$dir/pids"
    rm -rf "$dir"
}
trap end EXIT
fail() {
    echo "demo: $*" >&2
    cat "$dir/messages" >&2 2>/dev/null || true
    exit 1
}

ask() { # socket answer-file
    printf 'orders/7' >"$dir/event"
    "$build/hostvmm" invoke --vsock "$1" --event "$dir/event" --wait 60000 >"$2" 2>"$dir/messages" || fail "no answer at ${1##*/}"
}
field() { sed -n "s/^$1 //p" "$2"; }

echo
echo "demo: a server that speaks TLS at 192.0.2.1, and a bridge with a TAP device for each guest"
"$ip" link set lo up
"$ip" link add name rk0 type bridge
"$ip" address add 192.0.2.1/24 dev rk0
"$ip" link set rk0 up
for n in $(seq 0 $clones); do
    "$ip" tuntap add "tap$n" mode tap vnet_hdr
    "$ip" link set "tap$n" master rk0 up
done
"$build/tests/peers/tls-peer" --listen 192.0.2.1:8443 --cert "$build/tests/tls-certs/ec.pem" --key "$build/tests/tls-certs/ec.key" \
    --log "$dir/log" --background "$dir/peer.pid"
cat "$dir/peer.pid" >>"$dir/pids"

echo "demo: hostvmm run --rootfs keepalive.erofs --net tap=tap0,address=192.0.2.2/24 ...; hostvmm snapshot --control ..."
"$build/hostvmm" run --kernel "$kernel" --rootfs "$build/tests/data/keepalive-demo.erofs" --net tap=tap0,address=192.0.2.2/24 \
    --vsock "$dir/vm.sock" --control "$dir/control.sock" --console none 2>"$dir/messages" &
vm=$!
echo $vm >>"$dir/pids"
ask "$dir/vm.sock" "$dir/answer-0"
"$build/hostvmm" snapshot --control "$dir/control.sock" --out "$dir/snap" --stop >/dev/null 2>"$dir/messages" || fail "no snapshot"
wait $vm || fail "the guest did not end in order"

echo "demo: hostvmm restore --snapshot snap --clones $clones --net tap=tap%n,address=192.0.2.10+%n/24"
"$build/hostvmm" restore --snapshot "$dir/snap" --clones $clones --net "tap=tap%n,address=192.0.2.10+%n/24" \
    --vsock "$dir/clone-%n.sock" --console none 2>"$dir/messages" &
vm=$!
echo $vm >>"$dir/pids"
echo
echo "            status  requests on this descriptor  descriptors opened"
for n in $(seq 0 $clones); do
    [ "$n" = 0 ] || ask "$dir/clone-$n.sock" "$dir/answer-$n"
    printf '  %-8s  %-6s  %-27s  %s\n' "$([ "$n" = 0 ] && echo original || echo "clone $n")" "$(field status "$dir/answer-$n")" \
        "$(field requests "$dir/answer-$n")" "$(field connections "$dir/answer-$n")"
done
for n in $(seq $clones); do
    # The second request on the first descriptor: the one that the original opened.
    [ "$(field status "$dir/answer-$n")/$(field requests "$dir/answer-$n")/$(field connections "$dir/answer-$n")" = 200/2/1 ] ||
        fail "clone $n did not carry on: $(cat "$dir/answer-$n")"
done
sed -n 's/.*"client_random":"\([0-9a-f]*\)".*/\1/p' "$dir/log" | sort >"$dir/randoms"
echo
echo "demo: the server saw $(wc -l <"$dir/randoms") handshakes, $(uniq "$dir/randoms" | wc -l) client randoms"
[ "$(wc -l <"$dir/randoms")" -gt $clones ] || fail "the server's log lacks handshakes"
[ -z "$(uniq -d "$dir/randoms")" ] || fail "two handshakes had the same client random"
echo "demo: one descriptor, a connection of its own in each clone"
