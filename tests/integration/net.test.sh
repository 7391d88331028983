# Network interfaces: guests on TAP devices and on passt, clones side by side, and what no clone may ever send.
#
# Each test has a network of its own: a namespace, with a bridge br0 (192.0.2.1/24, 2001:db8::1/64) that TAP devices hang on.

[ -n "${NET_APART:-}" ] || NET_APART=1 exec unshare -n sh "$0" "$@"

PEER=$GUESTS/net-peer
IMAGES=$DATA
ORIGINAL_MAC=02:00:00:00:00:aa

# iproute2's: a shell that is busybox would take its own ip, which knows no TAP devices.
net() { /sbin/ip "$@"; }

bridge_up() {
    net link set lo up
    net link add br0 type bridge
    net addr add 192.0.2.1/24 dev br0
    net addr add 2001:db8::1/64 dev br0 nodad
    net link set br0 up
}

tap_add() { # names...
    for name in "$@"; do
        net tuntap add "$name" mode tap
        net link set "$name" master br0 up
    done
}

peer_up() { # port
    "$PEER" serve "$1" >"$DIR/peer" 2>&1 &
    echo $! >>"$DIR/pids"
    await_text "$DIR/peer" serving
}

# Write down every frame that a guest sends, from its TAP device's other end, for as long as the test lasts.
watch() { # tap
    tcpdump -i "$1" --immediate-mode -Q in -Z root -w "$DIR/$1.pcap" -U >/dev/null 2>"$DIR/$1.watch" &
    echo $! >>"$DIR/pids"
    eval "watch_$1=$!"
    await_text "$DIR/$1.watch" 'listening on'
}

# What the watch has seen, as text: with Ethernet addresses, one line a frame. The guest has ended. The watch ends by itself
# when its interface goes, and not before it has written all down: a signal could come between.
watched() { # tap
    eval "watcher=\$watch_$1"
    net link del "$1"
    wait "$watcher" || true
    tcpdump -e -n -Z root -r "$DIR/$1.pcap" >"$DIR/$1.frames" 2>>"$DIR/$1.watch"
}

show() {
    invoke -t show
    expect "invoke's exit code" "$code" 0
}

mac_shown() { sed -n 's/^eth0 mac \([0-9a-f:]*\) .*/\1/p' "$DIR/answer"; }

dialled() { # address port bytes expected-name
    invoke -t "dial $1 $2 $3"
    answered "you are $4, $3 bytes
"
}

host_reaches() { # address
    "$PEER" dial "$1" 7777 >"$DIR/reached" 2>&1 || fail "$1 cannot be reached: $(cat "$DIR/reached")"
    expect_text "$DIR/reached" 'this is '
}

# ---- a guest that boots ------------------------------------------------------------------------------------------------

test_net_guest_and_host_reach_each_other() {
    bridge_up
    tap_add t0
    peer_up 5000
    vm_start net-function --net tap=t0,mac=$ORIGINAL_MAC,address=192.0.2.2/24,address=2001:db8::2/64,gateway=192.0.2.1,dns=192.0.2.53
    show
    expect "the MAC address" "$(mac_shown)" $ORIGINAL_MAC
    for text in 'mtu 1500' 'eth0 address 192.0.2.2/24' 'eth0 address 2001:db8::2/64' 'nameserver 192.0.2.53'; do
        expect_text "$DIR/answer" "$text"
    done
    dialled 192.0.2.1 5000 3000000 192.0.2.2
    dialled 2001:db8::1 5000 3000000 2001:db8::2
    host_reaches 192.0.2.2
    host_reaches 2001:db8::2
    vm_stop
}

test_net_mtu_holds_on_both_sides() {
    bridge_up
    tap_add t0
    net link set t0 mtu 9000
    net link set br0 mtu 9000
    peer_up 5000
    vm_start net-function --net tap=t0,mtu=9000,address=192.0.2.2/24
    show
    expect_text "$DIR/answer" 'mtu 9000'
    watch t0
    dialled 192.0.2.1 5000 1000000 192.0.2.2
    vm_stop
    watched t0
    grep -q 'mss 8960' "$DIR/t0.frames" || fail "no segment of 8960 bytes is on offer"
}

passt_up() { # name
    passt --foreground --stderr --socket "$DIR/wire/$1" --address 192.0.2.2 --netmask 24 --gateway 192.0.2.1 --mtu 1500 \
        --tcp-ports none --udp-ports none --ipv4-only >"$DIR/passt.$1" 2>&1 &
    echo $! >>"$DIR/pids"
    turns=0
    until [ -S "$DIR/wire/$1" ]; do
        turns=$((turns + 1))
        [ $turns -lt 200 ] || fail "passt does not start: $(cat "$DIR/passt.$1")"
        sleep 0.1
    done
}

test_net_through_passt() {
    # passt wants to see a way out, though nothing goes there: the gateway's address is the host's loopback behind it.
    net link set lo up
    net link add out0 type veth peer name out1
    net addr add 198.51.100.1/24 dev out0
    net link set out0 up
    net link set out1 up
    net route add default via 198.51.100.2
    mkdir -m 777 "$DIR/wire" # passt makes its socket as nobody
    passt_up original
    passt_up clone
    peer_up 5000
    vm_start net-function --net "stream=$DIR/wire/original,address=192.0.2.2/24,gateway=192.0.2.1" --control "$DIR/control.sock"
    invoke -t 'dial 192.0.2.1 5000 1000000'
    expect "invoke's exit code" "$code" 0
    expect_text "$DIR/answer" '1000000 bytes'
    snapshot_asked "$SNAP" --stop
    vm_end 0
    clone_start --net "stream=$DIR/wire/clone"
    invoke -t 'dial 192.0.2.1 5000 1000000'
    expect "invoke's exit code" "$code" 0
    expect_text "$DIR/answer" '1000000 bytes'
    vm_stop
}

# ---- clones ------------------------------------------------------------------------------------------------------------

NETWORK=address=192.0.2.2/24,address=2001:db8::2/64

test_net_clones_side_by_side() {
    bridge_up
    tap_add t0 c1 c2 c3
    peer_up 5000
    snapshot_made net-function --net "tap=t0,mac=$ORIGINAL_MAC,$NETWORK"
    expect_no_text "$DIR/host.snapshot" rehearsal # it went well, without the original's TAP device
    [ -f "$SNAP/prefetch" ] || fail "the rehearsal left nothing"
    "$HOSTVMM" inspect "$SNAP" >"$DIR/inspect"
    expect_text "$DIR/inspect" "interface  eth0, mac=$ORIGINAL_MAC,address=192.0.2.2/24,address=2001:db8::2/64"
    watch c1
    watch c2
    watch c3
    "$HOSTVMM" restore --snapshot "$SNAP" --clones 3 --vsock "$DIR/c%n.sock" --console none \
        --net 'tap=c%n,address=192.0.2.10+%n/24,address=2001:db8::%n:0/64' >"$DIR/console" 2>"$DIR/host" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    for n in 1 2 3; do
        VSOCK=$DIR/c$n.sock
        show
        mac_shown >>"$DIR/macs"
        expect_text "$DIR/answer" "eth0 address 192.0.2.1$n/24"
        expect_text "$DIR/answer" "eth0 address 2001:db8::$n:0/64"
        expect_no_text "$DIR/answer" '192.0.2.2/'
        expect_no_text "$DIR/answer" '2001:db8::2/'
        dialled 192.0.2.1 5000 1000000 "192.0.2.1$n"
        dialled 2001:db8::1 5000 1000 "2001:db8::$n:0"
        host_reaches "192.0.2.1$n" # the listener of the function's init is still there
        host_reaches "2001:db8::$n:0"
        mv "$DIR/reached" "$DIR/reached$n"
    done
    vm_stop
    expect "different MAC addresses" "$(sort -u "$DIR/macs" | grep -vc $ORIGINAL_MAC)" 3
    expect "different host names" "$(cat "$DIR"/reached? | sort -u | wc -l)" 3
    for n in 1 2 3; do
        mac=$(sed -n "${n}p" "$DIR/macs")
        watched c$n
        first=$(head -n 1 "$DIR/c$n.frames")
        case $first in
        *" $mac > "*'ARP'*"192.0.2.1$n"*) ;;
        *) fail "the first frame of clone $n is no announcement of its own: $first" ;;
        esac
        grep -q "$mac > .*neighbor advertisement, tgt is 2001:db8::$n:0" "$DIR/c$n.frames" || fail "clone $n's IPv6 address was not announced"
        never_the_original c$n
    done
}

test_net_a_neighbour_learns_the_clones_mac() {
    bridge_up
    tap_add t0 c1
    vm_start net-function --net "tap=t0,mac=$ORIGINAL_MAC,$NETWORK" --control "$DIR/control.sock"
    show
    host_reaches 192.0.2.2
    net neigh show 192.0.2.2 >"$DIR/before"
    expect_text "$DIR/before" "lladdr $ORIGINAL_MAC"
    snapshot_asked "$SNAP" --stop
    vm_end 0
    clone_start --net tap=c1 # its addresses are the snapshot's: it takes the original's place
    show
    expect_text "$DIR/answer" 'eth0 address 192.0.2.2/24'
    mac=$(mac_shown)
    [ "$mac" != $ORIGINAL_MAC ] || fail "the clone has the original's MAC address"
    net neigh show 192.0.2.2 >"$DIR/after"
    expect_text "$DIR/after" "lladdr $mac"
    host_reaches 192.0.2.2
    host_reaches 2001:db8::2
    vm_stop
}

test_net_the_original_goes_on_after_its_snapshot() {
    bridge_up
    tap_add t0
    peer_up 5000
    vm_start net-function --net "tap=t0,mac=$ORIGINAL_MAC,$NETWORK" --control "$DIR/control.sock"
    show
    snapshot_asked "$SNAP"
    show
    expect "the MAC address" "$(mac_shown)" $ORIGINAL_MAC
    dialled 192.0.2.1 5000 1000 192.0.2.2
    host_reaches 2001:db8::2
    vm_stop
}

test_net_a_clone_of_a_clone() {
    bridge_up
    tap_add t0 c1 c2
    snapshot_made net-function --net "tap=t0,mac=$ORIGINAL_MAC,$NETWORK,dns=192.0.2.53" --no-rehearsal
    clone_start --net 'tap=c1,address=192.0.2.10+%n/24' --control "$DIR/control.sock"
    show
    first=$(mac_shown)
    snapshot_asked "$DIR/second" --stop
    vm_end 0
    SNAP=$DIR/second
    "$HOSTVMM" inspect "$SNAP" >"$DIR/inspect"
    expect_text "$DIR/inspect" "mac=$first,address=192.0.2.11/24,dns=192.0.2.53"
    clone_start --net tap=c2
    show
    expect_text "$DIR/answer" 'eth0 address 192.0.2.11/24'
    expect_text "$DIR/answer" 'nameserver 192.0.2.53'
    [ "$(mac_shown)" != "$first" ] && [ "$(mac_shown)" != $ORIGINAL_MAC ] || fail "the MAC address is not a new one"
    host_reaches 192.0.2.11
    vm_stop
}

# ---- no twin on the wire -------------------------------------------------------------------------------------------------

# No frame from the original's MAC address, none that speaks for an address of the original's.
never_the_original() { # tap
    ! grep -E "$ORIGINAL_MAC|192\.0\.2\.2[^0-9]|2001:db8::2[^0-9a-f:]" "$DIR/$1.frames" >"$DIR/$1.twins" ||
        fail "on $1: $(head -n 1 "$DIR/$1.twins")"
}

# The original sends without end when the snapshot is taken; its clones are watched.
no_twin_sends() { # options of `snapshot`...
    bridge_up
    tap_add t0 c1 c2
    peer_up 5000
    watch t0
    vm_start net-function --net "tap=t0,mac=$ORIGINAL_MAC,$NETWORK" --control "$DIR/control.sock"
    invoke -t 'stream 192.0.2.1 5000'
    answered streaming
    net link set t0 nomaster # what is on its way stays so: nobody acknowledges it any more
    snapshot_asked "$SNAP" --stop "$@"
    vm_end 0
    watched t0
    grep -q "$ORIGINAL_MAC > .* 192\.0\.2\.2\.[0-9]* > 192\.0\.2\.1\.5000" "$DIR/t0.frames" || fail "the original did not stream"
    watch c1
    watch c2
    "$HOSTVMM" restore --snapshot "$SNAP" --clones 2 --vsock "$DIR/c%n.sock" --console none \
        --net 'tap=c%n,address=192.0.2.10+%n/24,address=2001:db8::%n:0/64' >"$DIR/console" 2>"$DIR/host" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    for n in 1 2; do
        VSOCK=$DIR/c$n.sock
        show
        dialled 192.0.2.1 5000 1000000 "192.0.2.1$n"
        dialled 2001:db8::1 5000 1000 "2001:db8::$n:0"
    done
    invoke -t streamed
    expect "invoke's exit code" "$code" 0
    vm_stop
    for n in 1 2; do
        watched c$n
        [ "$(wc -l <"$DIR/c$n.frames")" -gt 10 ] || fail "too little was seen of clone $n: $(cat "$DIR/c$n.frames")"
        never_the_original c$n
    done
    heir_is_no_twin
}

# A clone that keeps the original's addresses sends nothing on its connection.
heir_is_no_twin() {
    port=$(sed -n 's/.* 192\.0\.2\.2\.\([0-9]*\) > 192\.0\.2\.1\.5000: .*/\1/p' "$DIR/t0.frames" | head -n 1)
    VSOCK=$DIR/heir.sock
    tap_add c3
    watch c3
    clone_start --console none --net tap=c3
    show
    dialled 2001:db8::1 5000 1000 2001:db8::2
    host_reaches 192.0.2.2
    vm_stop
    watched c3
    ! grep -F "192.0.2.2.$port > " "$DIR/c3.frames" >"$DIR/c3.twins" || fail "on c3: $(head -n 1 "$DIR/c3.twins")"
    ! grep -F "$ORIGINAL_MAC" "$DIR/c3.frames" >"$DIR/c3.twins" || fail "on c3: $(head -n 1 "$DIR/c3.twins")"
    [ -n "$port" ] && grep -q '192\.0\.2\.2' "$DIR/c3.frames" || fail "nothing was seen of the heir, port $port: $(head -n 3 "$DIR/c3.frames")"
}

test_net_no_clone_sends_for_the_original() {
    no_twin_sends
    expect_no_text "$DIR/answer" 'goes on'
}

test_net_no_clone_of_any_instant_sends_for_the_original() {
    no_twin_sends --no-checkpoint
}

# ---- what is refused -------------------------------------------------------------------------------------------------------

test_net_refusals() {
    bridge_up
    tap_add t0
    vm_run 3 --kernel "$KERNEL" --rootfs "$IMAGES/net-function.erofs" --console none --net tap=gone0
    expect_text "$DIR/host" gone0
    vm_run 2 --kernel "$KERNEL" --net address=192.0.2.2/24
    expect_text "$DIR/host" 'want a back end'
    vm_run 2 --kernel "$KERNEL" --net tap=t0,address=192.0.2.2
    expect_text "$DIR/host" 'with its prefix'
    vm_run 3 --kernel "$KERNEL" --rootfs "$IMAGES/net-function.erofs" --console none --net "stream=$DIR/nobody.sock"
    expect_text "$DIR/host" nobody.sock
    snapshot_made net-function --net "tap=t0,mtu=1400,$NETWORK" --no-rehearsal
    clone_refused 3 'the network interface eth0: say what is behind the clone'
    clone_refused 3 'this would be another' --net none --net none
    clone_refused 3 'mtu=1500: interface eth0' --net none,mtu=1500
    clone_refused 2 'within its prefix' --net 'none,address=192.0.2.255+%n/24'
    clone_start --net tap=t0
    show
    first=$vm
    VSOCK=$DIR/second.sock
    clone_refused 3 t0 --net tap=t0
    vm=$first
    vm_stop
}
