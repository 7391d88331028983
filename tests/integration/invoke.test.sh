# Events and answers.

test_hello() {
    vm_start hello
    invoke -t world
    expect "invoke's exit code" "$code" 0
    expect_text "$DIR/answer" world
    vm_stop
}

test_wordcount_of_the_gpl_equals_wc() {
    vm_start wordcount
    invoke "$DATA/GPL-3"
    expect "invoke's exit code" "$code" 0
    # shellcheck disable=SC2046
    set -- $(wc -lwc <"$DATA/GPL-3")
    for count in "$@"; do
        grep -qw "$count" "$DIR/answer" || fail "no $count in $(cat "$DIR/answer"): wc says $*"
    done
    vm_stop
}

test_empty_event() {
    vm_start hello
    invoke -t ''
    expect "invoke's exit code" "$code" 0
    vm_stop
}

test_event_of_the_largest_size() {
    head -c 6291556 /dev/zero | tr '\0' 'a' >"$DIR/large"
    vm_start wordcount --memory 128
    invoke "$DIR/large" --timeout 60000
    expect "invoke's exit code" "$code" 0
    grep -qw 6291556 "$DIR/answer" || fail "not all of the event arrived: $(cat "$DIR/answer")"
    vm_stop
}

test_event_past_the_limit() {
    head -c 6291557 /dev/zero >"$DIR/large"
    vm_start hello
    invoke "$DIR/large"
    expect "invoke's exit code" "$code" 3
    expect_text "$DIR/errors" 6291556
    invoke -t next
    expect "the next invocation's exit code" "$code" 0
    vm_stop
}

test_many_invocations_on_one_connection() {
    vm_start hello
    invoke -t again --repeat 50 --json
    expect "invoke's exit code" "$code" 0
    expect "answers" "$(grep -c '"outcome":"answer"' "$DIR/answer")" 50
    vm_stop
}

test_two_clients_take_turns() {
    vm_start hello
    invoke -t warm
    printf two >"$DIR/event-two"
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/event-two" --repeat 20 --json >"$DIR/answer-two" 2>"$DIR/errors-two" &
    other=$!
    echo $other >>"$DIR/pids"
    invoke -t one --repeat 20 --json
    other_code=0
    wait $other || other_code=$?
    # One invocation at a time: a client may be told that another's is under way, and nothing worse.
    for outcome in "$code" "$other_code"; do
        [ "$outcome" -eq 0 ] || [ "$outcome" -eq 6 ] || fail "a client ended with $outcome"
    done
    # shellcheck disable=SC2046
    ! grep -h '"errorType"' "$DIR/answer" "$DIR/answer-two" | grep -qv 'Agent.Busy' || fail "an error other than Agent.Busy"
    invoke -t after
    expect "the exit code afterwards" "$code" 0
    vm_stop
}

test_client_killed_in_the_middle() {
    head -c 6291556 /dev/zero >"$DIR/large"
    mkfifo "$DIR/slow"
    vm_start wordcount
    invoke -t warm
    # The client reads its event from a pipe that stays open; then it is killed while the guest has its connection.
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/large" --repeat 1000 >/dev/null 2>&1 &
    client=$!
    echo $client >>"$DIR/pids"
    invoke -t meanwhile # some of its invocations pass while this one is served or turned away
    kill -KILL $client
    wait $client 2>/dev/null || true
    invoke -t after
    [ "$code" -eq 6 ] && grep -q Agent.Busy "$DIR/errors" && invoke -t after
    expect "the exit code afterwards" "$code" 0
    vm_stop
}
