# Our own resources, through the API's server and its client: invocations, snapshots with the agent's consent, clones beside
# the guest, the audit, resume steps and metrics.

SOCKET=$DIR/api.sock

api_start() { # [number of its logs]
    "$HOSTVMM" api --api-sock "$SOCKET" >"$DIR/console.${1:-1}" 2>"$DIR/host.${1:-1}" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    wait_until 100 test -S "$SOCKET"
}

wait_until() { # tenths command...: until it succeeds, and the server lives
    tries=$1
    shift
    until "$@" >"$DIR/tried" 2>&1; do
        kill -0 "$vm" 2>/dev/null || fail "the server has ended"
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "not in time: $*: $(cat "$DIR/tried")"
        sleep 0.1
    done
}

ctl() { "$HOSTVMM" ctl --api-sock "$SOCKET" "$@"; }

# Its exit code, its output in $DIR/answer and $DIR/errors.
ctl_gives() { # code word...
    wanted=$1
    shift
    code=0
    ctl "$@" >"$DIR/answer" 2>"$DIR/errors" </dev/null || code=$?
    [ "$code" = "$wanted" ] || fail "ctl $*: exit code $code, expected $wanted: $(cat "$DIR/answer" "$DIR/errors")"
}

guest_start() { # image
    ctl_gives 0 PUT /boot-source "{\"kernel_image_path\":\"$KERNEL\"}"
    ctl_gives 0 PUT /drives/root "{\"drive_id\":\"root\",\"path_on_host\":\"$IMAGES/$1.erofs\",\"is_root_device\":true,\"is_read_only\":true}"
    ctl_gives 0 PUT /vsock "{\"guest_cid\":3,\"uds_path\":\"$VSOCK\"}"
    ctl_gives 0 start
    ctl_gives 0 status
    expect_text "$DIR/answer" ': Running'
}

ask() { # text [option...]: an invocation that is answered
    printf '%s' "$1" >"$DIR/event"
    shift
    ctl_gives 0 invoke --event "$DIR/event" --timeout 100000 "$@"
}

test_api_functions_invocations() {
    api_start
    printf 'x' >"$DIR/event"
    ctl_gives 3 invoke --event "$DIR/event"
    expect_text "$DIR/errors" 'no guest'
    guest_start misbehave
    ctl_gives 3 resume-steps
    ask print --logs
    expect_text "$DIR/errors" 'to standard output'
    # The body is bytes, the deadline a header: any client of HTTP will do.
    status=$(curl -sS --unix-socket "$SOCKET" -X POST -H 'X-Log-Type: Tail' --data-binary crash -D "$DIR/head" \
        -o "$DIR/answer" -w '%{http_code}' http://localhost/invocations)
    expect 'the status' "$status" 200
    expect_text "$DIR/head" 'X-Function-Error: Unhandled'
    expect_text "$DIR/answer" '"errorType":"'
    printf crash >"$DIR/event"
    ctl_gives 6 invoke --event "$DIR/event"
    expect_text "$DIR/errors" '"errorType":"'
    printf hang >"$DIR/event"
    ctl_gives 7 invoke --event "$DIR/event" --timeout 1000
    status=$(curl -sS --unix-socket "$SOCKET" -X POST -H 'X-Deadline-Ms: 1000' --data-binary hang -o "$DIR/answer" \
        -w '%{http_code}' http://localhost/invocations)
    expect 'the status' "$status" 504
    ask ok
    expect 'the answer' "$(cat "$DIR/answer")" ok
    ctl_gives 0 metrics
    expect_text "$DIR/answer" '{'
    ctl_gives 0 metrics --prometheus
    grep -q '^hostvmm_[a-z0-9_]* [0-9]' "$DIR/answer" || fail "no metrics: $(head -c 300 "$DIR/answer")"
    ctl_gives 0 pause
    ctl_gives 0 status
    expect_text "$DIR/answer" ': Paused'
    ctl_gives 0 resume
    ctl_gives 0 stop
    vm_end 0
    [ ! -e "$SOCKET" ] || fail "the socket is left"
}

both_run() {
    ! grep -q '"Ended"' "$DIR/clones" 2>/dev/null || fail "a clone has ended: $(grep -v ' GET /clones: ' "$DIR/host.1" | tail -n 20)"
    ctl clones >"$DIR/clones" 2>/dev/null && [ "$(grep -o '"state": *"Running"' "$DIR/clones" | wc -l)" = 2 ]
}

test_api_functions_clones() {
    api_start
    guest_start identity
    ask 'who are you'
    cp "$DIR/answer" "$DIR/answer.original"
    ctl_gives 0 snapshot --out "$SNAP" --checkpoint
    ctl_gives 0 POST /clones "{\"snapshot_path\":\"$SNAP\",\"vsock_path\":\"$DIR/clone-%n.sock\",\"count\":2,\"hostname\":\"clone-%n\"}"
    expect_text "$DIR/answer" '"1"'
    expect_text "$DIR/answer" '"2"'
    wait_until 600 both_run
    expect_text "$DIR/clones" '"steps"'
    # Two at a time, each to a clone of its own, beside the guest they came from.
    ctl invoke --event "$DIR/event" --clone 1 >"$DIR/answer.1" 2>"$DIR/errors.1" &
    first=$!
    ctl_gives 0 invoke --event "$DIR/event" --clone 2
    cp "$DIR/answer" "$DIR/answer.2"
    wait $first || fail "clone 1 did not answer: $(cat "$DIR/errors.1")"
    ask 'who are you'
    for pair in '1 2' '1 original' '2 original'; do
        # shellcheck disable=SC2086 # two words
        set -- $pair
        ! cmp -s "$DIR/answer.$1" "$DIR/answer.$2" || fail "$1 and $2 gave the same answer"
    done
    ctl_gives 0 DELETE /clones/1
    ctl_gives 3 GET /clones/1
    ctl_gives 3 invoke --event "$DIR/event" --clone 1
    ctl_gives 0 GET /clones/2
    expect_text "$DIR/answer" 'Running'
    ctl_gives 0 POST /audit "{\"snapshot_path\":\"$SNAP\",\"clones\":2,\"event\":\"who are you\"}"
    expect_text "$DIR/answer" '"good"'
    # They end with the server.
    clones=$(pgrep -f "restore.*$SNAP" | tr '\n' ' ')
    [ -n "$clones" ] || fail "no clone is left to see its end"
    ctl_gives 0 stop
    vm_end 0
    ! pgrep -f "restore.*$SNAP" >/dev/null || fail "clones outlive the server"
}

test_api_functions_resume_steps_of_a_loaded_clone() {
    api_start
    guest_start hello
    ask world
    cp "$DIR/answer" "$DIR/answer.original"
    ctl_gives 0 snapshot --out "$SNAP" --mem "$DIR/mem" --checkpoint
    ctl_gives 0 stop
    vm_end 0
    api_start 2
    ctl_gives 0 PUT /snapshot/load "{\"snapshot_path\":\"$SNAP\",\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"$DIR/mem\"},\"resume_vm\":true,\"vsock_override\":{\"uds_path\":\"$DIR/other.sock\"}}"
    ask world
    cmp -s "$DIR/answer" "$DIR/answer.original" || fail "the clone answers '$(cat "$DIR/answer")'"
    ctl_gives 0 resume-steps
    for step in entropy clock generation; do
        expect_text "$DIR/answer" "\"$step\""
    done
    expect_text "$DIR/answer" '"total_us"'
    ctl_gives 0 stop
    vm_end 0
}
