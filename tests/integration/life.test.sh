# hostvmm's own life: signals, sockets, privileges, idleness.

test_sigterm_is_orderly() {
    vm_start hello
    invoke -t up
    kill -TERM "$vm"
    vm_end 0
    expect_text "$DIR/console" "asks to shut the guest down"
    [ ! -e "$VSOCK" ] || fail "the socket was left behind"
}

test_sigint_is_orderly() {
    vm_start hello
    invoke -t up
    kill -INT "$vm"
    vm_end 0
}

test_second_signal_is_at_once() {
    vm_start hello --bootarg grace_ms=60000
    invoke -t up
    # The first asks the guest, which takes its time; the second does not wait for it. Two kinds, as pending signals of one
    # kind are one.
    kill -TERM "$vm"
    kill -INT "$vm"
    code=0
    wait "$vm" || code=$?
    # Two that are pending come in the order of their numbers: either may be the second.
    [ "$code" -eq 130 ] || [ "$code" -eq 143 ] || fail "exit code $code, expected 130 or 143"
    expect_text "$DIR/host" "second signal"
}

test_sigterm_before_the_agent_is_up() {
    vm_start hello
    kill -TERM "$vm"
    code=0
    wait "$vm" || code=$?
    [ "$code" -eq 143 ] || [ "$code" -eq 0 ] || fail "exit code $code, expected 143 or 0"
}

test_kill_9_leaves_nothing_in_the_way() {
    vm_start hello
    invoke -t first
    kill -KILL "$vm"
    wait "$vm" 2>/dev/null || true
    vm_start hello
    invoke -t second
    expect "invoke's exit code" "$code" 0
    vm_stop
}

test_vsock_path_taken() {
    vm_start hello
    invoke -t first
    first=$vm
    code=0
    "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --vsock "$VSOCK" \
        >"$DIR/console-second" 2>"$DIR/host-second" </dev/null || code=$?
    expect "the second hostvmm's exit code" "$code" 1
    expect_text "$DIR/host-second" "$VSOCK"
    vm=$first
    invoke -t still
    expect "the first one's answer" "$code" 0
    vm_stop
}

test_vsock_path_is_a_file() {
    echo precious >"$VSOCK"
    vm_start hello
    vm_end 1
    expect "the file" "$(cat "$VSOCK")" precious
}

test_vsock_path_too_long() {
    VSOCK=$DIR/$(printf '%0120d' 0)
    code=0
    vm_start hello
    wait "$vm" || code=$?
    [ "$code" -eq 1 ] || [ "$code" -eq 2 ] || fail "exit code $code, expected 1 or 2"
    expect_text "$DIR/host" "1 to 96"
}

test_no_permission_on_kvm() {
    mode=$(stat -c %a /dev/kvm)
    chmod 600 /dev/kvm
    code=0
    setpriv --reuid 65534 --regid 65534 --clear-groups "$HOSTVMM" run --kernel "$KERNEL" --initrd "$GUESTS/poweroff.cpio" \
        >"$DIR/console" 2>"$DIR/host" </dev/null || code=$?
    chmod "$mode" /dev/kvm
    expect "exit code" "$code" 1
    expect_text "$DIR/host" /dev/kvm
    expect_text "$DIR/host" "ermission"
}

test_doctor() {
    "$HOSTVMM" doctor >"$DIR/answer" || fail "doctor's exit code is $?"
    expect_text "$DIR/answer" "VMs run directly"
    expect "failed findings" "$(grep -c '^fail' "$DIR/answer")" 0
    "$HOSTVMM" doctor --json | python3 -c 'import json, sys; assert json.load(sys.stdin)["verdict"] == "direct"' ||
        fail "doctor --json is not what it should be"
}

ticks() { # process: its user and system time, in clock ticks
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

test_idle_guest_costs_nothing() {
    vm_start hello --cpus 2
    invoke -t up
    expect "invoke's exit code" "$code" 0
    # The interval is what is measured: 2 s of an idle guest, in which hostvmm may use 5 % of one CPU.
    before=$(ticks "$vm")
    sleep 2
    used=$(($(ticks "$vm") - before))
    [ "$used" -le 10 ] || fail "$used ticks of 200 used while the guest idled"
    vm_stop
}

test_unknown_option() {
    vm_run 2 --frobnicate
    expect_text "$DIR/host" frobnicate
}
