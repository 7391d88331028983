# A running guest operated through its control line (hostvmm/control/OPERATOR.md): paused and resumed, asked, ended.

OPERATE=$GUESTS/operate
CONTROL=$DIR/control.sock

# One request; sets code. The answer is in $DIR/told.
ask() { # word...
    code=0
    "$OPERATE" "$CONTROL" "$@" >"$DIR/told" 2>"$DIR/errors" || code=$?
}

asked() { # word...
    ask "$@"
    [ "$code" = 0 ] || fail "$*: $(cat "$DIR/told" "$DIR/errors")"
}

refused() { # code text word...
    wanted=$1
    text=$2
    shift 2
    ask "$@"
    expect "whether '$*' is refused" "$code" 1
    expect_text "$DIR/told" "\"code\":$wanted}"
    expect_text "$DIR/told" "$text"
}

state_is() { # state
    asked status
    expect_text "$DIR/told" "\"state\":\"$1\""
}

# Until hostvmm serves its socket: it does or ends.
until_served() {
    while ! "$OPERATE" "$CONTROL" status >/dev/null 2>&1; do
        kill -0 "$vm" 2>/dev/null || fail "hostvmm has ended: $(cat "$DIR/host")"
    done
}

# One number of `metrics`.
metric() { # group name
    "$HOSTVMM" metrics --control "$CONTROL" >"$DIR/metrics" 2>"$DIR/errors" || fail "metrics: $(cat "$DIR/errors")"
    grep -o "\"$1\":{[^}]*}" "$DIR/metrics" | grep -o "\"$2\":[0-9]*" | cut -d : -f 2
}

# A client connects and gets no answer for a second and a half.
nobody_answers() {
    code=0
    printf x >"$DIR/event"
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/event" --timeout 1500 >"$DIR/answer" 2>"$DIR/errors" || code=$?
    expect "invoke's exit code while the guest stands still" "$code" 7
}

# ---- standing still ------------------------------------------------------------------------------------------------

test_a_paused_guest_stands_still_and_goes_on() {
    vm_start hello --control "$CONTROL" --console none
    invoke -t one
    answered 'Hello, one!'
    asked pause
    asked pause
    state_is Paused
    asked snapshot "out=$DIR/a"
    exits=$(metric vcpu_0 exits_mmio)
    nobody_answers
    asked snapshot "out=$DIR/b"
    state_is Paused
    expect "the exits of a vCPU that stands still" "$(metric vcpu_0 exits_mmio)" "$exits"
    cmp "$DIR/a/chunks" "$DIR/b/chunks" || fail "memory of a paused guest changed"
    printf waits >"$DIR/late"
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/late" --wait "$WAIT_MS" >"$DIR/late-answer" 2>&1 &
    late=$!
    asked resume
    wait "$late" || fail "who waited got no answer: $(cat "$DIR/late-answer")"
    expect "the answer to who waited" "$(cat "$DIR/late-answer")" 'Hello, waits!'
    asked resume
    state_is Running
    asked snapshot "out=$DIR/c"
    ! cmp -s "$DIR/a/chunks" "$DIR/c/chunks" || fail "memory did not change while the guest ran"
    vm_stop
}

test_a_clone_of_a_paused_guest_answers() {
    vm_start hello --control "$CONTROL" --console none
    invoke -t one
    asked pause
    refused 9 'is paused' snapshot "out=$SNAP" checkpoint=yes
    refused 9 'is paused' snapshot "out=$SNAP" then=run
    "$HOSTVMM" snapshot --control "$CONTROL" --out "$SNAP" >"$DIR/said" || fail "snapshot: exit code $?"
    asked snapshot "out=$DIR/last" then=stop
    vm_end 0
    for SNAP in "$SNAP" "$DIR/last"; do
        clone_start --console none
        invoke -t clone
        answered 'Hello, clone!'
        vm_stop
    done
}

test_a_snapshot_that_leaves_the_guest_paused() {
    vm_start identity --control "$CONTROL" --console none
    invoke -t one
    cp "$DIR/answer" "$DIR/before"
    asked snapshot "out=$SNAP" then=pause request=hold-1
    state_is Paused
    expect_text "$DIR/host" 'request hold-1: snapshot'
    asked snapshot "out=$DIR/again"
    "$HOSTVMM" inspect "$DIR/again" >"$DIR/inspect"
    expect_text "$DIR/inspect" 'the agent had quiesced'
    asked resume
    invoke -t two
    expect "invoke's exit code" "$code" 0
    asked pause
    kill -TERM "$vm" # which has to go on for it
    vm_end 0
    clone_start --console none
    invoke -t clone
    expect "invoke's exit code" "$code" 0
    vm_stop
}

test_a_guest_paused_behind_its_checkpoint_powers_off() {
    vm_start hello --control "$CONTROL" --console none
    invoke -t one
    asked snapshot "out=$SNAP" then=pause
    asked shutdown
    vm_end 0
    clone_start --console none --control "$CONTROL"
    invoke -t clone
    answered 'Hello, clone!'
    asked snapshot "out=$DIR/again" then=pause
    asked kill
    vm_end 0
}

test_a_drive_is_written_by_nobody_while_paused() {
    cp "$DATA/overlay.ext4" "$DIR/overlay"
    vm_start hello --control "$CONTROL" --console none --drive "$DIR/overlay,id=overlay" --bootarg overlay=vdb
    invoke -t one
    asked pause
    before=$(sha256sum "$DIR/overlay")
    nobody_answers
    expect "the drive of a paused guest" "$(sha256sum "$DIR/overlay")" "$before"
    asked resume
    invoke -t two
    answered 'Hello, two!'
    vm_stop
}

# ---- starting, ending -------------------------------------------------------------------------------------------------

test_a_guest_begun_paused_runs_when_told() {
    vm_start hello --control "$CONTROL" --console none --paused
    until_served
    state_is 'Not started'
    expect "exits of a vCPU that has not run" "$(metric vcpu_0 exits_io)" 0
    refused 9 'has not started' pause
    refused 9 'has not started' snapshot "out=$SNAP"
    refused 9 'has not started' shutdown
    asked resume
    invoke -t world
    answered 'Hello, world!'
    asked shutdown
    vm_end 0
    vm_start hello --control "$CONTROL" --console none --paused
    until_served
    kill -TERM "$vm"
    vm_end 143
    vm_start hello --control "$CONTROL" --console none --paused
    until_served
    asked kill
    vm_end 0
    vm_run 2 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --paused
    expect_text "$DIR/host" 'nobody could let it go on'
}

test_a_clone_begun_paused_becomes_unique_when_told() {
    snapshot_made identity
    for n in 1 2; do
        clone_start --control "$CONTROL" --console none --paused
        until_served
        state_is Paused
        expect_text "$DIR/told" '"ready":false'
        expect_no_text "$DIR/told" '"generation"'
        asked pause
        nobody_answers
        refused 9 'has not started' snapshot "out=$DIR/early"
        asked resume
        invoke -t same
        expect "invoke's exit code" "$code" 0
        tr -cs '0-9a-f' '\n' <"$DIR/answer" | grep -E '^[0-9a-f]{16,}$' | sort -u >>"$DIR/all"
        state_is Running
        expect_text "$DIR/told" '"ready":true'
        expect_text "$DIR/told" '{"name":"entropy","us":'
        grep -o '"generation":"[0-9]*"' "$DIR/told" >>"$DIR/all"
        vm_stop
    done
    [ "$(wc -l <"$DIR/all")" -ge 4 ] || fail "no ids: $(cat "$DIR/all")"
    [ -z "$(sort "$DIR/all" | uniq -d)" ] || fail "clones share $(sort "$DIR/all" | uniq -d)"
}

test_who_operates_hangs_up_and_the_guest_ends() {
    mkfifo "$DIR/requests"
    "$OPERATE" --run "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --vsock "$VSOCK" \
        --console none --paused --control-fd 3 <"$DIR/requests" >"$DIR/told" 2>"$DIR/host" &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    exec 4>"$DIR/requests"
    echo 'status' >&4
    echo 'nonsense' >&4
    echo 'resume request=r1' >&4
    invoke -t world
    answered 'Hello, world!'
    echo 'status' >&4
    exec 4>&-
    vm_end 1
    expect_text "$DIR/host" "connection is closed: stopping the guest at once"
    expect "answers on the one connection" "$(wc -l <"$DIR/told")" 4
    expect_text "$DIR/told" '"state":"Not started"'
    expect_text "$DIR/told" 'unknown request'
    expect_text "$DIR/told" '"state":"Running"'
    vm_run 1 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --control-fd 77
    expect_text "$DIR/host" 'no connected stream socket'
}

# ---- what can be seen ----------------------------------------------------------------------------------------------------

test_metrics_move() {
    vm_start hello --control "$CONTROL" --console none --metrics "$DIR/m.prom"
    invoke -t one
    before=$(metric vsock to_guest)
    bytes=$(metric vsock tx_bytes)
    for n in 1 2 3; do
        invoke -t "$n"
    done
    expect "connections to the guest" "$(metric vsock to_guest)" $((before + 3))
    [ "$(metric vsock tx_bytes)" -gt "$bytes" ] || fail "vsock bytes do not move"
    [ "$(metric drive_rootfs bytes_read)" -gt 0 ] || fail "the drive's bytes do not move"
    [ "$(metric queue_drive_rootfs_0 deepest)" -gt 0 ] || fail "no request ever waited in the drive's queue"
    asked snapshot "out=$SNAP"
    refused 3 'exists' snapshot "out=$SNAP"
    expect "snapshots taken" "$(metric snapshots taken)" 1
    expect "snapshots failed" "$(metric snapshots failed)" 1
    "$HOSTVMM" metrics --control "$CONTROL" --prometheus >"$DIR/asked.prom" || fail "metrics --prometheus: exit code $?"
    for file in "$DIR/asked.prom" "$DIR/m.prom"; do
        expect_text "$file" 'rekindle_vcpu_exits_total{vcpu="0",kind="io"} '
        expect_text "$file" 'rekindle_snapshots_taken_total 1'
        ! grep -vE '^(# (HELP|TYPE) rekindle_[a-z_]+ .*|rekindle_[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9]+(\.[0-9]+)?)$' \
            "$file" || fail "a line that is none of Prometheus's in $file"
        expect "families declared twice" "$(grep '^# TYPE' "$file" | sort | uniq -d)" ""
    done
    vm_stop
    grep -q 'rekindle_uptime_seconds' "$DIR/m.prom" || fail "no metrics at the end"
    clone_start --control "$CONTROL" --console none --metrics "$DIR/m.json"
    invoke -t clone
    expect "restores" "$(metric process restores)" 1
    [ "$(metric resume_step_entropy duration_us)" -gt 0 ] || fail "the steps are not timed"
    vm_stop
    expect_text "$DIR/m.json" '"restores":1'
}

test_messages_as_json_with_their_request() {
    vm_start hello --control "$CONTROL" --console none --log "$DIR/log" --log-format json --log-level warning
    invoke -t one
    [ ! -s "$DIR/log" ] || fail "below the level: $(cat "$DIR/log")"
    asked log level=debug
    asked pause 'request=p.1_x-Z'
    asked resume
    vm_stop
    expect_text "$DIR/log" '"request":"p.1_x-Z","message":"the guest is paused"'
    ! grep -vE '^\{"time":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z","level":"(error|warning|info|debug)","program":"hostvmm",("request":"[^"]*",)?"message":"([^"\\]|\\.)*"\}$' \
        "$DIR/log" || fail "a line that is not as said"
    [ ! -s "$DIR/host" ] || fail "messages went elsewhere, too: $(cat "$DIR/host")"
}

test_a_timeline_is_a_picture() {
    snapshot_made hello --timeline "$DIR/boot.svg"
    clone_start --console none --timeline "$DIR/restore.svg"
    invoke -t one
    vm_stop
    for file in boot restore; do
        expect "the first word" "$(head -c 4 "$DIR/$file.svg")" '<svg'
        expect "the last word" "$(tail -n 1 "$DIR/$file.svg")" '</svg>'
    done
    for text in kernel init agent function; do
        expect_text "$DIR/boot.svg" ">$text<"
    done
    for text in open load unique entropy hooks; do
        expect_text "$DIR/restore.svg" ">$text<"
    done
}

# ---- devices ------------------------------------------------------------------------------------------------------------

test_devices_are_changed_and_what_makes_no_sense_is_refused() {
    cp "$DATA/overlay.ext4" "$DIR/one"
    cp "$DATA/overlay.ext4" "$DIR/two"
    truncate -s 17825792 "$DIR/two"
    vm_start hello --control "$CONTROL" --console none --drive "$DIR/one,id=data" --net none
    invoke -t one
    asked drive id=data bandwidth=1M/1000 operations=100/1000/50
    asked drive id=data "path=$DIR/two" operations=none
    asked status
    expect_text "$DIR/told" "\"path\":\"$DIR/two\",\"read_only\":false,\"root\":false,\"bytes\":$(stat -c %s "$DIR/two")"
    truncate -s 18874368 "$DIR/two"
    asked drive id=data "path=$DIR/two"
    asked status
    expect_text "$DIR/told" "\"bytes\":$(stat -c %s "$DIR/two")"
    asked pause
    asked drive id=data "path=$DIR/one"
    asked resume
    asked net id=0 rx-bandwidth=1M/100 tx-operations=none
    asked entropy bandwidth=64K/1000
    refused 3 'no drive of that id' drive id=other
    refused 3 'no such file' drive id=data path=/nowhere/at/all
    refused 3 'no interface of that number' net id=1
    refused 3 'no interface of that number' net id=eth0
    refused 3 'no balloon' balloon target=16
    refused 2 'want SIZE/REFILL_MS' drive id=data bandwidth=0/0
    refused 2 'want SIZE/REFILL_MS' entropy operations=1//1
    refused 2 'missing' drive
    refused 2 'unknown request' reboot
    invoke -t two
    answered 'Hello, two!'
    vm_stop
}

test_a_balloon_is_told() {
    vm_start hello --control "$CONTROL" --console none --balloon target=0,stats=1
    invoke -t one
    asked balloon target=16
    expect_text "$DIR/told" '"target_mib":16'
    # Until the guest has given them: it works on it by itself.
    until "$OPERATE" "$CONTROL" balloon | grep -q '"actual_mib":16'; do
        kill -0 "$vm" || fail "the guest has ended"
    done
    [ "$(metric balloon inflated_pages)" -ge 4096 ] || fail "no pages counted"
    refused 3 'larger than' balloon target=100000
    asked balloon target=0
    vm_stop
}
