# Limits of drives and interfaces as a guest sees them, changed while it runs, in clones; many drives; another file behind one;
# files that fail under a guest.
#
# The guest `rates` reads its last drive again and again, a MiB a round, and prints what each round took by its own clock.

OPERATE=$GUESTS/operate
CONTROL=$DIR/control.sock

drive_file() { # name MiB letter
    head -c "$(($2 * 1048576))" /dev/zero | tr '\0' "$3" >"$DIR/$1"
}

rates_start() { # options...
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --initrd "$GUESTS/rates.cpio" --control "$CONTROL" "$@"
}

asked() { # word...
    "$OPERATE" "$CONTROL" "$@" >"$DIR/told" 2>"$DIR/errors" || fail "$*: $(cat "$DIR/told" "$DIR/errors")"
}

# Until the console has so many lines with the text, 60 s at most.
until_lines() { # count text
    turns=600
    while [ "$(grep -cF -- "$2" "$DIR/console")" -lt "$1" ]; do
        turns=$((turns - 1))
        [ $turns -gt 0 ] || fail "no $1 lines with '$2' came: $(tail -n 3 "$DIR/console")"
        sleep 0.1
    done
}

rounds() { sed -n 's/^rates: round \([0-9]*\), .*/\1/p' "$DIR/console" | tail -n 1; }

# The milliseconds of the round so many after the one that is under way, and of the one behind it, averaged.
round_ms() {
    began=$(rounds)
    until_lines 1 "rates: round $((${began:-0} + 4)),"
    sed -n "s/^rates: round $((${began:-0} + 3)),.* in \([0-9]*\) ms.*/\1/p; s/^rates: round $((${began:-0} + 4)),.* in \([0-9]*\) ms.*/\1/p" \
        "$DIR/console" | awk '{ sum += $1; count++ } END { print int(sum / count) }'
}

within() { # what value from to
    [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || fail "$1 is $2, expected $3 to $4"
}

test_a_drives_bandwidth_holds_and_changes() {
    drive_file a 2 a
    rates_start --drive "$DIR/a,ro,id=data,bandwidth=1M/1000"
    within "the milliseconds of a MiB at a MiB a second" "$(round_ms)" 800 1200
    asked drive id=data bandwidth=512K/1000
    within "the milliseconds of a MiB at half a MiB a second" "$(round_ms)" 1600 2400
    asked drive id=data bandwidth=none operations=16/1000 # of 64 KiB each
    within "the milliseconds of 16 operations at 16 a second" "$(round_ms)" 800 1200
    asked drive id=data operations=none
    within "the milliseconds of a MiB without a limit" "$(round_ms)" 0 500
    asked kill
    vm_end 0
}

test_a_limited_drive_pauses_at_once() {
    drive_file a 2 a
    rates_start --drive "$DIR/a,ro,id=data,operations=17/3600000" # one round, and then an hour
    until_lines 1 "rates: round 1,"
    asked pause
    asked status
    expect_text "$DIR/told" '"state":"Paused"'
    asked resume
    asked drive id=data operations=none
    until_lines 1 "rates: round 5,"
    asked kill
    vm_end 0
}

test_a_clone_has_its_snapshots_limits() {
    drive_file a 2 a
    rates_start --drive "$DIR/a,ro,id=data,bandwidth=1M/1000"
    until_lines 1 "rates: round 1,"
    snapshot_ask "$SNAP" --no-checkpoint --stop
    expect "the snapshot's exit code" "$code" 0
    vm_end 0
    vm_background "$HOSTVMM" restore --snapshot "$SNAP" --control "$CONTROL"
    until_lines 1 "rates: round 4," # what its full bucket gave is behind it
    within "the milliseconds of a MiB in a clone" "$(round_ms)" 800 1200
    asked kill
    vm_end 0
    vm_background "$HOSTVMM" restore --snapshot "$SNAP" --control "$CONTROL" --drive "$DIR/a,id=data,bandwidth=none,operations=8/1000"
    until_lines 1 "rates: round 4,"
    within "the milliseconds of 16 operations in a clone with limits of its own" "$(round_ms)" 1600 2400
    asked kill
    vm_end 0
}

test_sixteen_drives() {
    set --
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        drive_file "d$n" 1 "$(printf '%s' abcdefghijklmno | cut -c "$n")"
        set -- "$@" --drive "$DIR/d$n,ro,operations=1000/100"
    done
    rates_start --rootfs "$IMAGES/hello.erofs" --rootfs-rate bandwidth=10M/100 "$@"
    until_lines 1 "rates: round 2,"
    expect_text "$DIR/console" "rates: /dev/vdp, 16 drives"
    expect_text "$DIR/console" "first byte o"
    asked kill
    vm_end 0
    vm_run 2 --kernel "$KERNEL" --drive "$DIR/d1,ro,bandwidth=1/0"
    expect_text "$DIR/host" "SIZE/REFILL_MS"
    vm_run 3 --kernel "$KERNEL" --initrd "$GUESTS/rates.cpio" --rootfs-rate bandwidth=1/1
    expect_text "$DIR/host" "--rootfs-rate"
}

test_another_file_behind_a_drive() {
    drive_file a 2 a
    drive_file b 3 b
    rates_start --drive "$DIR/a,id=data"
    until_lines 1 "capacity 2097152, first byte a"
    asked drive id=data "path=$DIR/b"
    until_lines 1 "capacity 3145728, first byte b"
    truncate -s 4M "$DIR/b"
    asked drive id=data "path=$DIR/b" # grown: looked at anew
    until_lines 1 "capacity 4194304, first byte b"
    ! "$OPERATE" "$CONTROL" drive id=data "path=$DIR/none" >"$DIR/told" 2>&1 || fail "a file that is not there was taken"
    count=$(grep -c "first byte b" "$DIR/console")
    until_lines $((count + 2)) "first byte b"
    asked kill
    vm_end 0
}

test_a_file_cut_short_under_a_guest() {
    drive_file a 2 a
    rates_start --drive "$DIR/a,id=data"
    until_lines 1 "rates: round 1,"
    : >"$DIR/a"
    vm_end 0
    expect_text "$DIR/console" "failed: I/O error"
}

test_a_full_disk_under_a_guest() {
    mkdir "$DIR/small"
    mount -t tmpfs -o size=256k none "$DIR/small"
    truncate -s 16M "$DIR/small/drive"
    guest_run drive --drive "$DIR/small/drive"
    umount "$DIR/small"
    expect_text "$DIR/console" "drive: failed: flushing: I/O error"
    expect_text "$DIR/host" "No space left on device"
}

# ---- interfaces: in a network of the test's own ------------------------------------------------------------------------

PEER=$GUESTS/net-peer
net() { /sbin/ip "$@"; }

net_start() { # options of the interface
    net link set lo up
    net tuntap add t0 mode tap
    net addr add 192.0.2.1/24 dev t0
    net link set t0 up
    "$PEER" serve 7001 >"$DIR/peer" 2>&1 &
    echo $! >>"$DIR/pids"
    "$PEER" source 7002 3145728 >"$DIR/source" 2>&1 &
    echo $! >>"$DIR/pids"
    turns=200
    until grep -q serving "$DIR/peer" && grep -q serving "$DIR/source"; do
        turns=$((turns - 1))
        [ $turns -gt 0 ] || fail "no peer serves"
        sleep 0.1
    done
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$DATA/net-function.erofs" --vsock "$VSOCK" --control "$CONTROL" \
        --net "tap=t0,address=192.0.2.2/24,$1"
}

# The milliseconds that 3 MiB take to the host, or from it.
sending_ms() {
    invoke -t "timed 192.0.2.1 7001 3145728"
    expect "invoke's exit code" "$code" 0
    sed -n 's/^\([0-9]*\) ms, .*/\1/p' "$DIR/answer"
}
receiving_ms() {
    invoke -t "timed 192.0.2.1 7002 0"
    expect "invoke's exit code" "$code" 0
    expect_text "$DIR/answer" "ms, 3145728 bytes came"
    sed -n 's/^\([0-9]*\) ms, .*/\1/p' "$DIR/answer"
}

# 3 MiB at a MiB a second, half a MiB of it at once: 2.5 s.
test_an_interfaces_directions_are_limited_apart() {
    [ -n "${RATE_APART:-}" ] || RATE_APART=1 exec unshare -n sh tests/integration/one.sh "$BUILD" tests/integration/rate.test.sh \
        an_interfaces_directions_are_limited_apart "$DIR"
    net_start tx-bandwidth=512K/500
    within "the milliseconds of sending" "$(sending_ms)" 2000 3000
    within "the milliseconds of receiving without a limit" "$(receiving_ms)" 0 1500
    asked net id=0 tx-bandwidth=none rx-bandwidth=512K/500
    within "the milliseconds of sending without a limit" "$(sending_ms)" 0 1500
    within "the milliseconds of receiving" "$(receiving_ms)" 2000 3000
    vm_stop
}
