# What a function can see, take and reach of its guest (agent/function/ISOLATION.md): nothing but its own, and when it takes all
# of something, that is its own problem alone.

start() { # options...: a VM with the misbehaving function, and its first answer
    vm_start misbehave "$@"
    invoke -t ok
    answered ok
}

deed() { # event [options of invoke...]: it is answered
    invoke -t "$@"
    expect "exit code of '$1'" "$code" 0
}

between() { # what got least most
    [ "$2" -ge "$3" ] || fail "$1: $2, expected $3 at least"
    [ "$2" -le "$4" ] || fail "$1: $2, expected $4 at most"
}

next_works() {
    invoke -t ok
    answered ok
    vm_stop
}

numbers_in_proc() { deed "list /proc" && grep -E '^[0-9]+$' "$DIR/answer" | sort -n | tr '\n' ' '; }

test_isolation_own_processes_only() {
    start
    # The first one of its namespace is not its own, and hidden; the function is the second.
    expect "processes in /proc" "$(numbers_in_proc)" "2 "
    for path in /proc/1/environ /proc/1/mem /proc/1/root/run; do
        deed "read $path"
        expect "$path" "$(cat "$DIR/answer")" "cannot read: No such file or directory"
    done
    deed killall
    expect "a killing of all" "$(cat "$DIR/answer")" "all: sent, child: killed, process 1: Operation not permitted"
    next_works
}

test_isolation_what_it_leaves_dies_with_it() {
    start
    deed orphan
    deed "write /tmp/left"
    expect "processes with the orphan" "$(numbers_in_proc | wc -w)" 2
    invoke -t crash
    errored 6 Function.Crashed
    expect "processes afterwards" "$(numbers_in_proc)" "2 "
    deed "list /tmp"
    expect "what is in /tmp afterwards" "$(sort "$DIR/answer" | tr '\n' ' ')" ". .. "
    next_works
}

refused() { # error path...
    wanted=$1
    shift
    for path in "$@"; do
        deed "write $path"
        expect "writing $path" "$(cat "$DIR/answer")" "$wanted"
    done
}

test_isolation_writes_tmp_and_shm_only() {
    start
    deed "write /tmp/mine"
    expect "writing to /tmp" "$(cat "$DIR/answer")" opened
    deed "write /dev/shm/mine"
    expect "writing to /dev/shm" "$(cat "$DIR/answer")" opened
    deed "write /dev/null"
    expect "writing to /dev/null" "$(cat "$DIR/answer")" opened
    refused "Read-only file system" /mine /function/mine /etc/mine /run/mine /dev/mine /sys/mine
    refused "Permission denied" /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sys/kernel/random/boot_id \
        /run/agent/mine
    refused "No such file or directory" /proc/1/mem /proc/1/oom_score_adj /sys/fs/cgroup/cgroup.procs \
        /sys/fs/cgroup/function/cgroup.procs
    next_works
}

test_isolation_few_devices() {
    start
    deed "list /dev"
    expect "/dev" "$(sort "$DIR/answer" | tr '\n' ' ')" \
        ". .. fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "
    next_works
}

test_isolation_mounts() {
    start --bootarg overlay=tmpfs
    deed "read /proc/self/mountinfo"
    cp "$DIR/answer" "$DIR/mounts"
    expect "mounts" "$(cut -d ' ' -f 5 "$DIR/mounts" | sort | tr '\n' ' ')" \
        "/ /dev /dev/pts /dev/shm /etc/machine-id /proc /proc/sys/kernel/random/boot_id /run /sys /tmp "
    expect "mounts that take setuid programs" "$(grep -vc nosuid "$DIR/mounts")" 0
    expect "mounts that may be written" "$(grep -v ' ro[, ]' "$DIR/mounts" | cut -d ' ' -f 5 | sort | tr '\n' ' ')" \
        "/dev/pts /dev/shm /proc /tmp "
    refused "Read-only file system" /mine
    vm_stop
}

test_isolation_privileges_and_limits() {
    start
    deed "read /proc/self/status"
    for line in "CapEff:.0000000000000000" "CapPrm:.0000000000000000" "NoNewPrivs:.1" "Seccomp:.2"; do
        grep -q "^$line" "$DIR/answer" || fail "no $line: $(cat "$DIR/answer")"
    done
    ! grep -q '^Groups:.*[0-9]' "$DIR/answer" || fail "it has groups: $(cat "$DIR/answer")"
    deed "read /proc/self/limits"
    grep -qE '^Max core file size +0 +0 ' "$DIR/answer" || fail "core dumps: $(cat "$DIR/answer")"
    grep -qE '^Max open files +1024 +1024 ' "$DIR/answer" || fail "files: $(cat "$DIR/answer")"
    deed "read /proc/self/oom_score_adj"
    expect "its adjustment for the killer" "$(cat "$DIR/answer")" 500
    next_works
}

test_isolation_full_disk() {
    start
    deed fill --timeout 60000
    expect_text "$DIR/answer" ": No space left on device"
    # Half of its memory, which is 109 MiB of 128, less what the file system needs itself.
    kib=$(sed 's/filled \([0-9]*\) KiB.*/\1/' "$DIR/answer")
    between "KiB that fit into /tmp" "$kib" 50000 60000
    invoke -t ok
    answered ok
    # Full as it is, no other event is hurt; a new process has a new one.
    invoke -t crash
    errored 6 Function.Crashed
    deed fill --timeout 60000
    expect "what fits a second time" "$(sed 's/filled \([0-9]*\) KiB.*/\1/' "$DIR/answer")" "$kib"
    next_works
}

test_isolation_no_more_files() {
    start
    deed files --timeout 60000
    expect_text "$DIR/answer" ": No space left on device"
    made=$(sed 's/made \([0-9]*\) .*/\1/' "$DIR/answer")
    between "files that were made" "$made" 1000 10000
    next_works
}

test_isolation_descriptors() {
    start
    deed "descriptors 20" --timeout 60000
    expect_text "$DIR/answer" "beside 20 processes: No file descriptors available"
    next_works
}

test_isolation_a_child_runs_out_of_memory() {
    start
    invoke -t "leak 1" --timeout 60000
    errored 6 Function.OutOfMemory
    next_works
}

# What the kernel holds for it counts as its own: it is ended for it, or stopped by the limit on descriptors.
test_isolation_kernel_buffers() {
    start
    invoke -t "buffers 3" --timeout 60000
    errored 6 Function.OutOfMemory
    next_works
}

test_isolation_connections_to_the_agent() {
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$DATA/http-function.erofs" --vsock "$VSOCK"
    invoke -t hoard --timeout 60000
    answered hoarded
    invoke -t ok
    answered ok
    next_works
}

# Output without end, also between events: the agent answers on.
test_isolation_noise() {
    start
    deed noise
    for _ in 1 2 3; do
        invoke -t ok --timeout 10000
        answered ok
    done
    invoke -t crash --timeout 10000
    errored 6 Function.Crashed
    invoke -t ok
    answered ok
    expect_no_text "$DIR/errors" nnnn
    vm_stop
}

# The deadline holds, and another client is answered in time, however many processes spin.
test_isolation_spinning_processes() {
    start
    mkfifo "$DIR/said"
    printf 'spin 100' >"$DIR/spin"
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/spin" --wait "$WAIT_MS" --timeout 3000 >/dev/null 2>"$DIR/said" &
    spinner=$!
    exec 3<"$DIR/said"
    read -r line <&3
    case $line in *spinning*) ;; *) fail "it does not spin: $line" ;; esac
    cat <&3 >"$DIR/spinner" &
    reader=$!
    exec 3<&-
    invoke -t ok --timeout 500 --json
    expect_text "$DIR/errors" '"errorType":"Agent.Busy"'
    waited_ms=$(($(sed -n 's/.*"invoke_ns":\([0-9]*\).*/\1/p' "$DIR/answer") / 1000000))
    [ "$waited_ms" -lt 1500 ] || fail "the answer that was due after 500 ms came after $waited_ms"
    code=0
    wait $spinner || code=$?
    expect "exit code of the spinning one" "$code" 7
    wait $reader
    expect_text "$DIR/spinner" '"errorType":"Function.TimedOut"'
    next_works
}

test_isolation_in_clones() {
    snapshot_made misbehave
    printf 's3cret' >"$DIR/secret"
    clone_start --secret "token=$DIR/secret"
    deed whoami
    expect_text "$DIR/answer" "pid=2 "
    expect "processes in /proc" "$(numbers_in_proc)" "2 "
    deed "read /run/secrets/token"
    expect "the secret" "$(cat "$DIR/answer")" s3cret
    deed "read /etc/machine-id"
    cp "$DIR/answer" "$DIR/machine-id"
    deed "read /proc/sys/kernel/random/boot_id"
    cp "$DIR/answer" "$DIR/boot-id"
    invoke -t crash
    errored 6 Function.Crashed
    # A process of the clone's own sees the same clone.
    deed "read /run/secrets/token"
    expect "the secret" "$(cat "$DIR/answer")" s3cret
    deed "read /etc/machine-id"
    cmp -s "$DIR/answer" "$DIR/machine-id" || fail "another machine-id"
    deed "read /proc/sys/kernel/random/boot_id"
    cmp -s "$DIR/answer" "$DIR/boot-id" || fail "another boot_id"
    next_works
}

# An image with a resolv.conf of its own: the agent mounts a clone's over it, long after the function's mounts were made.
test_isolation_a_clones_resolver_lies_over_the_images() {
    # shellcheck disable=SC2034 # lib.sh looks there
    IMAGES=$DATA
    snapshot_made resolver --net none,address=192.0.2.2/24
    clone_start --net none,address=192.0.2.3/24,dns=192.0.2.53
    deed "read /etc/resolv.conf"
    expect "the resolver's configuration" "$(cat "$DIR/answer")" "nameserver 192.0.2.53"
    invoke -t crash
    errored 6 Function.Crashed
    deed "read /etc/resolv.conf"
    expect "a new process's" "$(cat "$DIR/answer")" "nameserver 192.0.2.53"
    vm_stop
    clone_start --net none,address=192.0.2.3/24
    deed "read /etc/resolv.conf"
    expect "the image's own" "$(cat "$DIR/answer")" "nameserver 192.0.2.99"
    vm_stop
}
