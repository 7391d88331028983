# Entropy, drive and sockets under Linux's own drivers, with tests/guest/devices.c on both sides.

test_devices_under_linux_drivers() {
    truncate -s 16M "$DIR/drive"
    "$GUESTS/devices" "$VSOCK" >"$DIR/host-side" 2>&1 </dev/null &
    host_side=$!
    echo "$host_side" >>"$DIR/pids"
    guest_run devices --drive "$DIR/drive" --vsock "$VSOCK" --cpus 2
    code=0
    wait "$host_side" || code=$?
    expect "the host side's exit code" "$code" 0
    for what in entropy drive listening refusal "guest to host" end; do
        expect_text "$DIR/console" "devices: $what ok"
    done
    expect_text "$DIR/host-side" "devices: host to guest ok"
    [ ! -e "$VSOCK" ] || fail "the vsock's socket file was left behind"
}
