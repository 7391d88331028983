# A guest whose kernel writes garbage into every virtio register and ring (tests/guest/garbage.c), for GARBAGE_SECONDS: hostvmm
# goes on, answers its operator, and a VM beside it does not notice more than that somebody computes.
#
# limit-seconds: 280

GARBAGE_SECONDS=${GARBAGE_SECONDS:-10}
ANSWER_LIMIT_MS=2000 # of the operator's questions, on a machine that is emulated
BESIDE_FACTOR=3      # what the VM beside it may take longer than with a neighbour that only computes
BESIDE_SLACK_US=2000
ROUNDS=256           # of garbage at least
LONGER=12            # times five seconds more, on a machine that has other things to do
ABUSED=$DIR/abused

# Start the abuser, or what to compare it with, as `abuser`.
abuser_start() { # what [command line]
    truncate -s 4M "$DIR/drive.$1"
    "$HOSTVMM" run --kernel "$GUESTS/garbage" --memory 64 --drive "$DIR/drive.$1" --drive "$IMAGES/hello.erofs,ro" \
        --net none --vsock "$ABUSED.sock" --control "$ABUSED.control" --cmdline "garbage.mode=$1 garbage.seed=$GARBAGE_SECONDS" \
        >"$DIR/console.$1" 2>"$DIR/host.$1" </dev/null &
    abuser=$!
    echo "$abuser" >>"$DIR/pids"
}

# It still runs, and ends when it is told to.
abuser_end() {
    kill -0 "$abuser" 2>/dev/null || fail "hostvmm ended: $(tail -n 1 "$DIR/host.$1")"
    "$GUESTS/watch" "$ABUSED.control" tell kill >"$DIR/answers.kill" || fail "$(cat "$DIR/answers.kill")"
    code=0
    wait "$abuser" || code=$?
    expect "the abused hostvmm's exit code" "$code" 0
}

# Invoke for so many seconds; the median of an invocation is put into the variable, in microseconds.
median_beside() { # seconds variable
    : >"$DIR/times"
    until=$(($(cut -d. -f1 /proc/uptime) + $1))
    while [ "$(cut -d. -f1 /proc/uptime)" -lt "$until" ]; do
        invoke -t beside --repeat 20 --json
        expect "the exit code beside it" "$code" 0
        sed -n 's/.*"invoke_ns":\([0-9]*\).*/\1/p' "$DIR/answer" >>"$DIR/times"
    done
    count=$(wc -l <"$DIR/times")
    [ "$count" -ge 20 ] || fail "only $count invocations in $1 s"
    eval "$2=$(($(sort -n "$DIR/times" | sed -n "$((count / 2))p") / 1000))"
}

# Whether there were enough rounds, in which each of five devices gave buffers back and was broken, by the last report, which goes to
# `last`.
all_abused() {
    last=$(grep '^garbage: rounds=' "$DIR/console.garbage" | tail -n 1 | tr -d '\r')
    rounds=$(echo "$last" | sed -n 's/^garbage: rounds=\([0-9]*\).*/\1/p')
    [ "${rounds:-0}" -ge "$ROUNDS" ] || return 1
    abused=0
    for counts in $(echo "$last" | tr ' ' '\n' | sed -n 's/^id[0-9]*=//p'); do
        [ "${counts%/*}" -eq 0 ] || [ "${counts#*/}" -eq 0 ] || abused=$((abused + 1))
    done
    [ $abused -eq 5 ]
}

test_garbage_in_every_register_and_ring() {
    vm_start hello
    invoke -t first
    expect "the first invocation's exit code" "$code" 0
    abuser_start spin
    median_beside 5 quiet_us
    abuser_end spin
    expect_text "$DIR/console.spin" "garbage: spins"

    abuser_start garbage
    "$GUESTS/watch" "$ABUSED.control" $((GARBAGE_SECONDS * 1000)) "$ANSWER_LIMIT_MS" >"$DIR/answers.watch" 2>&1 &
    watcher=$!
    echo "$watcher" >>"$DIR/pids"
    median_beside "$GARBAGE_SECONDS" abused_us
    longer=0
    until all_abused || [ $longer -eq $LONGER ]; do
        longer=$((longer + 1))
        median_beside 5 later_us
    done
    wait "$watcher" || fail "$(tail -n 1 "$DIR/answers.watch")"
    abuser_end garbage

    # It did what it is for: each device gave buffers back, and each was broken again and again.
    all_abused || fail "too few rounds, or a device that never served, or never broke, in: ${last:-no report}"
    echo "beside: $quiet_us us, $abused_us us with garbage; $(cat "$DIR/answers.watch"); $last"
    [ "$abused_us" -le $((quiet_us * BESIDE_FACTOR + BESIDE_SLACK_US)) ] ||
        fail "an invocation beside it takes $abused_us us, $quiet_us us beside a guest that computes"
    [ "$(wc -l <"$DIR/host.garbage")" -le 100 ] || fail "the guest made hostvmm write $(wc -l <"$DIR/host.garbage") lines"
    vm_stop
}
