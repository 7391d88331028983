# VMs in their jail: that they do all that others do, that nothing is left of them, and that they may do no more than they need.
#
# limit-seconds: 240
#
# The escapes themselves are tried by tests/jail/escape.c; here VMs run. Each test has a network of its own, for its TAP devices.

[ -n "${NET_APART:-}" ] || NET_APART=1 exec unshare -n sh "$0" "$@"

. tests/jail/record.sh
ESCAPE=$BUILD/tests/jail/escape
CGROUPS=/sys/fs/cgroup
JAILED=65534
net() { /sbin/ip "$@"; }

# A directory for a VM, its own.
VM=$DIR/vm
mkdir "$VM"
chown $JAILED:$JAILED "$VM"
VSOCK=$VM/vm.sock
CONTROL=$VM/control.sock

jail_start() { # image options...
    image=$1
    shift
    vm_start "$image" --jail "${ITEMS:-default}" "$@"
}

snapshot_into() { # out options...
    out=$1
    shift
    code=0
    "$HOSTVMM" snapshot --control "$CONTROL" --out "$out" --json "$@" >"$DIR/answer" 2>"$DIR/errors" || code=$?
}

# The jailed one is the keeper's child.
jailed_of() { # keeper
    cat "/proc/$1/task/$1/children" | tr -d ' '
}

# Of the VM that was: no process of its jail, no cgroup, no socket.
nothing_left() {
    for directory in "$CGROUPS"/hostvmm-*; do
        [ ! -d "$directory" ] || fail "the cgroup ${directory##*/} was left behind"
    done
    for socket in "$VSOCK" "$CONTROL"; do
        [ ! -e "$socket" ] || fail "$socket was left behind"
    done
    for status in /proc/[0-9]*/status; do
        ! grep -qs "^Uid:	$JAILED" "$status" || fail "a process of the jail was left behind: $(head -1 "$status")"
    done
}


# ---- what a VM does ------------------------------------------------------------------------------------------------------

use_drives_and_sockets() {
    truncate -s 16M "$DIR/drive"
    # What serves a guest's port is connected to by the VM's user, who has to be allowed to.
    /usr/bin/setpriv --reuid $JAILED --regid $JAILED --clear-groups "$GUESTS/devices" "$VSOCK" >"$DIR/host-side" 2>&1 </dev/null &
    host_side=$!
    echo "$host_side" >>"$DIR/pids"
    guest_run devices --jail default --drive "$DIR/drive" --vsock "$VSOCK" --cpus 2
    code=0
    wait "$host_side" || code=$?
    expect "the host side's exit code" "$code" 0
    for what in entropy drive listening refusal "guest to host" end; do
        expect_text "$DIR/console" "devices: $what ok"
    done
    expect_text "$DIR/host-side" "devices: host to guest ok"
}

tap_up() {
    net link set lo up
    net tuntap add t0 mode tap
    net address add 192.0.2.1/24 dev t0
    net link set t0 up
    "$GUESTS/net-peer" serve 5000 >"$DIR/peer" 2>&1 &
    echo $! >>"$DIR/pids"
}

dialled() { # address it comes from
    invoke -t "dial 192.0.2.1 5000 100000"
    answered "you are $1, 100000 bytes
"
}

use_network_and_snapshots() {
    tap_up
    truncate -s 16M "$VM/drive"
    chown $JAILED "$VM/drive"
    IMAGES=$DATA
    ITEMS=dir=$VM jail_start net-function --net tap=t0,address=192.0.2.2/24 --control "$CONTROL" --drive "$VM/drive" \
        --timeline "$VM/timeline" --metrics "$VM/metrics"
    dialled 192.0.2.2
    snapshot_into "$VM/full"
    expect "the snapshot's exit code" "$code" 0
    dialled 192.0.2.2
    snapshot_into "$VM/diff" --parent "$VM/full"
    expect "the diff's exit code" "$code" 0
    snapshot_into "$DIR/elsewhere"
    expect "the exit code of a snapshot that the jail does not show" "$code" 1
    expect_text "$DIR/errors" "--jail dir="
    vm_stop
    expect_text "$VM/timeline" ready
}

use_a_clone() { # snapshot options...
    clone=$1
    shift
    vm_background "$HOSTVMM" restore --snapshot "$clone" --vsock "$VSOCK" --console none --jail "${ITEMS:-default}" "$@"
}

# A peer that says something, and hears what the guest says.
use_a_stream() {
    python3 - "$VM/wire" >"$DIR/wire" 2>&1 <<'END' &
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(1)
print("listening", flush=True)
wire = server.accept()[0]
while wire.recv(65536):
    wire.send((60).to_bytes(4, "big") + bytes(60))
END
    echo $! >>"$DIR/pids"
    await_text "$DIR/wire" listening
    IMAGES=$DATA
    jail_start net-function --net "stream=$VM/wire,address=192.0.2.2/24"
    invoke -t "dial 192.0.2.1 1 1"
    vm_stop
}

# Connections whose other ends read nothing: more buffers than malloc's first tables have room for.
use_many_connections() {
    IMAGES=$BUILD/images
    jail_start hello --balloon target=16
    invoke -t up
    vm_stop
    rm -f "$VSOCK"_6000
    python3 - "$VSOCK"_6000 >"$DIR/ends" 2>&1 <<'END' &
import signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(256)
print("listening", flush=True)
ends = [server.accept() for _ in range(128)]
signal.pause()
END
    ends=$!
    echo "$ends" >>"$DIR/pids"
    await_text "$DIR/ends" listening
    chmod 777 "$VSOCK"_6000
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --initrd "$GUESTS/pusher.cpio" --vsock "$VSOCK" --jail default
    await_text "$DIR/console" "pusher: 128 full"
    kill "$ends"
    vm_end 0
    rm -f "$VSOCK"_6000
}

# The console is a socket that nobody reads from: vCPUs find its buffer full.
use_a_console_that_is_stuck() {
    python3 - "$HOSTVMM" run --kernel "$KERNEL" --initrd "$GUESTS/poweroff.cpio" --jail default --vsock "$VSOCK" \
        --cmdline "ignore_loglevel initcall_debug" <<'END' ||
import socket, subprocess, sys
mine, theirs = socket.socketpair()
theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=theirs, stderr=open("/dev/null", "w")))
END
        fail "a VM with a console that is stuck ended with exit code $?"
}

# No room for the drive's thread: its device fails, and no more.
use_too_few_threads() {
    truncate -s 16M "$DIR/drive"
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --initrd "$GUESTS/drive.cpio" --drive "$DIR/drive" --jail pids=4 --vsock "$VSOCK"
    await_text "$DIR/host" 'cannot start serving'
    kill -TERM "$vm" # nobody in this guest listens: it is stopped at once
    vm_end 143
}

# The form that boots, with a name that is relative.
use_snapshot_of_its_own() {
    here=$PWD
    case $HOSTVMM in /*) own=$HOSTVMM ;; *) own=$here/$HOSTVMM ;; esac
    code=0
    (cd "$VM" && "$own" snapshot --kernel "$here/$KERNEL" --rootfs "$(realpath "$here/$BUILD")/images/hello.erofs" --out own \
        --console none --jail default) >"$DIR/console" 2>"$DIR/host" </dev/null || code=$?
    expect "the exit code of hostvmm snapshot --jail" "$code" 0
}

# A clock that user space cannot read, where this host has one.
slow_clock() { # acpi_pm|tsc
    clocks=/sys/devices/system/clocksource/clocksource0
    ! grep -qw "$1" $clocks/available_clocksource || echo "$1" >$clocks/current_clocksource
}

# A call whose occasion cannot be had here: asking the kernel for the time (228), where this host has only a clock that user
# space reads.
spared() { # role:number
    case $1 in
    *:228) ! grep -qw acpi_pm /sys/devices/system/clocksource/clocksource0/available_clocksource ;;
    *) return 1 ;;
    esac
}

test_jail_drives_and_vsock_both_ways() {
    use_drives_and_sockets
    nothing_left
}

test_jail_network_snapshots_and_a_clone() {
    use_network_and_snapshots
    nothing_left
    truncate -s 16M "$VM/drive2"
    cp "$VM/drive" "$VM/drive2"
    use_a_clone "$VM/diff" --net tap=t0,address=192.0.2.3/24 --drive "$VM/drive2,id=drive1"
    dialled 192.0.2.3
    vm_stop
    nothing_left
}

test_jail_snapshot_of_its_own() {
    use_snapshot_of_its_own
    nothing_left
    ITEMS=dir=$VM use_a_clone "$VM/own" --control "$CONTROL"
    invoke -t clone
    answered 'Hello, clone!'
    snapshot_into "$VM/difference" --parent "$VM/own" # what the clone wrote, which its own page table tells
    expect "the exit code of a jailed clone's diff" "$code" 0
    snapshot_into "$VM/again"
    expect "the exit code of a jailed clone's snapshot" "$code" 0
    vm_stop
    use_a_clone "$VM/again"
    invoke -t "clone of a clone"
    answered 'Hello, clone of a clone!'
    vm_stop
}

test_jail_clones_of_different_users() {
    snapshot_made hello
    chmod 777 "$VM"
    "$HOSTVMM" restore --snapshot "$SNAP" --clones 2 --vsock "$VM/c%n.sock" --console none --jail uid=70000+%n \
        >"$DIR/console" 2>"$DIR/host" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    for n in 1 2; do
        VSOCK=$VM/c$n.sock
        invoke -t "$n"
        answered "Hello, $n!"
        expect "the owner of clone $n's socket" "$(stat -c %u "$VSOCK")" "7000$n"
    done
    vm_stop
    VSOCK=$VM/c1.sock
    nothing_left
}

# ---- its end -------------------------------------------------------------------------------------------------------------

test_jail_second_signal_is_at_once() {
    jail_start hello --bootarg grace_ms=60000
    invoke -t up
    kill -TERM "$vm"
    kill -INT "$vm"
    code=0
    wait "$vm" || code=$?
    [ "$code" -eq 130 ] || [ "$code" -eq 143 ] || fail "exit code $code, expected 130 or 143"
    expect_text "$DIR/host" "second signal"
    nothing_left
}

test_jail_kill_9_of_the_jailed() {
    jail_start hello --control "$CONTROL"
    invoke -t up
    expect "cgroups" "$(ls -d "$CGROUPS"/hostvmm-* | wc -l)" 1
    kill -KILL "$(jailed_of "$vm")"
    vm_end 137
    nothing_left
}

test_jail_kill_9_of_the_keeper() {
    jail_start hello
    invoke -t up
    jailed=$(jailed_of "$vm")
    kill -KILL "$vm"
    wait "$vm" 2>/dev/null || true
    turns=0
    while [ -e "/proc/$jailed" ]; do
        turns=$((turns + 1))
        [ $turns -lt 200 ] || fail "the jailed one outlives its keeper"
        sleep 0.1
    done
    # Its cgroup and its socket wait for the next one, which removes them.
    jail_start hello
    invoke -t next
    answered 'Hello, next!'
    vm_stop
    nothing_left
}

# ---- its limits ----------------------------------------------------------------------------------------------------------

test_jail_limits_are_the_cgroups() {
    ITEMS=cpu=150,memory=300,pids=20,files=200 jail_start hello
    invoke -t up
    cgroup=$(echo "$CGROUPS"/hostvmm-*)
    expect memory.max "$(cat "$cgroup/memory.max")" $((300 << 20))
    expect pids.max "$(cat "$cgroup/pids.max")" 20
    expect cpu.max "$(cat "$cgroup/cpu.max")" "150000 100000"
    jailed=$(jailed_of "$vm")
    expect "its cgroup" "$(cat "$cgroup/cgroup.procs")" "$jailed"
    expect_text "/proc/$jailed/limits" "Max open files            200                  200"
    for line in "NoNewPrivs:	1" "Seccomp:	2" "CapEff:	0000000000000000" "CapBnd:	0000000000000000" "Uid:	$JAILED	$JAILED	$JAILED	$JAILED"; do
        expect_text "/proc/$jailed/status" "$line"
    done
    for namespace in user mnt pid net ipc uts cgroup; do
        [ "$(readlink "/proc/$jailed/ns/$namespace")" != "$(readlink /proc/$$/ns/$namespace)" ] ||
            fail "it shares the $namespace namespace"
    done
    for task in /proc/"$jailed"/task/*; do
        ! grep -q '^kvm-' "$task/comm" || continue # KVM's own, which runs no code of ours
        expect_text "$task/status" "Seccomp:	2"
        expect_text "$task/comm" jailed
    done
    vm_stop
    nothing_left
}

test_jail_refusals() {
    refused() { # items code text options...
        items=$1 wanted=$2 text=$3
        shift 3
        vm_background "$HOSTVMM" run --kernel "$KERNEL" --initrd "$GUESTS/poweroff.cpio" --jail "$items" "$@"
        vm_end "$wanted"
        expect_text "$DIR/host" "$text"
    }
    refused default 3 'make a directory for it' --vsock /tmp/vm.sock
    refused dir=/ 3 'make a directory for it'
    refused dir=/nowhere 3 'must be there before the VM'
    refused dir=relative 2 'want an absolute path'
    refused cgroup=nowhere 1 'make it first'
    refused uid=0 2 'want a uid above 0'
    mkdir "$DIR/roots"
    refused default 1 "chown $JAILED:$JAILED $DIR/roots" --vsock "$DIR/roots/vm.sock"
    # A cgroup that has processes and is not the root has no children with limits.
    mkdir "$CGROUPS/busy"
    sh -c 'echo 0 >"$1/cgroup.procs"; exec sleep 1000' sh "$CGROUPS/busy" &
    sleeper=$!
    echo $sleeper >>"$DIR/pids"
    until grep -q . "$CGROUPS/busy/cgroup.procs"; do :; done
    refused cgroup=busy 1 'cgroup=none'
    kill $sleeper
    wait $sleeper || true
    rmdir "$CGROUPS/busy"
    refused cgroup=none 0 'jailed as uid'
    nothing_left
}

# ---- what it may do ------------------------------------------------------------------------------------------------------

# Every escape, each in a jail of its own; a table is the test's output.
escapes() { # directory, options of setpriv...
    room=$1
    shift
    code=0
    /usr/bin/setpriv "$@" "$ESCAPE" all "$room" cgroup=none >"$DIR/table" 2>"$DIR/errors" || code=$?
    cat "$DIR/table"
    expect "escapes that lead out" "$(grep '^not ok' "$DIR/table")" ""
    [ "$(grep -c '^ok' "$DIR/table")" -ge 80 ] || fail "only $(grep -c '^ok' "$DIR/table") escapes were tried"
    expect "the exit code" "$code" 0
}

test_jail_no_escape_for_root() {
    chmod 777 "$VM"
    escapes "$VM" --reuid 0
}

test_jail_no_escape_for_a_user() {
    mkdir "$DIR/user" "$DIR/user/vm"
    chown -R 1000:1000 "$DIR/user"
    escapes "$DIR/user/vm" --reuid 1000 --regid 1000 --clear-groups
}

test_jail_every_call_outside_the_lists_kills() {
    "$ESCAPE" every || fail "the lines above say which call"
}

# And every call in them is made by something: what is allowed and never used has no reason to be.
test_jail_every_call_in_the_lists_is_used() {
    record_start
    use_drives_and_sockets
    use_network_and_snapshots
    use_a_stream
    use_many_connections
    use_a_console_that_is_stuck
    use_too_few_threads
    use_snapshot_of_its_own
    slow_clock acpi_pm
    truncate -s 16M "$DIR/slow"
    guest_run drive --jail default --drive "$DIR/slow,bandwidth=4000000/100"
    ITEMS=dir=$VM jail_start hello --metrics "$VM/metrics" --drive "$DIR/drive,bandwidth=1000000/100" \
        --net none,address=192.0.2.2/24,rx-bandwidth=1000000/100,tx-bandwidth=1000000/100
    invoke -t slow
    vm_stop
    slow_clock tsc
    record_stop "$DIR"
    unused=
    for role in $ROLES; do
        "$ESCAPE" list "$role" >"$DIR/listed"
        [ -s "$DIR/listed" ] && [ -s "$DIR/$role.calls" ] || fail "nothing is known of role $role"
        for call in $(grep -vxF -f "$DIR/$role.calls" "$DIR/listed"); do
            spared "$role:$call" || unused="$unused $role:$call"
        done
    done
    expect "allowed calls that nothing makes (role:number)" "$unused" ""
}
