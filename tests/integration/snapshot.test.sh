# Snapshots and clones: that they answer, that they are themselves, and what is refused.

test_a_clone_answers() {
    snapshot_made hello
    clone_start
    invoke -t world
    answered 'Hello, world!'
    vm_stop
}

test_a_clone_of_four_vcpus_answers() {
    snapshot_made hello --cpus 4
    clone_start
    invoke -t world
    answered 'Hello, world!'
    vm_stop
}

test_a_clone_of_an_http_function_answers() {
    IMAGES=$DATA
    snapshot_made http-function
    clone_start
    invoke -t world
    expect "invoke's exit code" "$code" 0
    expect_text "$DIR/answer" world
    vm_stop
}

test_a_clone_of_a_clone_answers() {
    snapshot_made identity
    clone_start --control "$DIR/control.sock"
    invoke -t one
    expect "invoke's exit code" "$code" 0
    snapshot_asked "$DIR/second" --stop
    vm_end 0
    SNAP=$DIR/second
    clone_start --hostname "deep-%n"
    invoke -t two
    expect "invoke's exit code" "$code" 0
    vm_stop
}

test_clones_side_by_side_are_no_twins() {
    snapshot_made identity
    "$HOSTVMM" restore --snapshot "$SNAP" --clones 4 --vsock "$DIR/c%n.sock" --console none >"$DIR/console" 2>"$DIR/host" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    for n in 1 2 3 4; do
        VSOCK=$DIR/c$n.sock
        invoke -t "$n"
        expect "invoke's exit code" "$code" 0
        tr -cs '0-9a-f' '\n' <"$DIR/answer" | grep -E '^[0-9a-f]{16,}$' | sort -u >>"$DIR/all"
    done
    sort "$DIR/all" >"$DIR/tokens"
    [ "$(wc -l <"$DIR/tokens")" -ge 8 ] || fail "the answers hold no ids: $(cat "$DIR/all")"
    [ -z "$(uniq -d "$DIR/tokens")" ] || fail "clones share $(uniq -d "$DIR/tokens")"
    vm_stop
}

test_the_twin_without_a_hook_is_one() {
    snapshot_made identity-twin
    for n in 1 2; do
        clone_start
        invoke -t same
        expect "invoke's exit code" "$code" 0
        tr -cs '0-9a-f' '\n' <"$DIR/answer" | grep -E '^[0-9a-f]{16,}$' | sort -u >>"$DIR/all"
        vm_stop
    done
    sort "$DIR/all" | uniq -d | grep -q . || fail "the planted twin is none: $(cat "$DIR/all")"
}

test_every_step_of_a_resume_is_timed() {
    snapshot_made identity
    clone_start --timeline "$DIR/timeline"
    invoke -t steps
    expect "invoke's exit code" "$code" 0
    for step in entropy clock sockets identity network secrets connections generation thaw hooks; do
        expect_text "$DIR/timeline" "\"resume_${step}_us\""
    done
    vm_stop
}

test_a_snapshot_without_a_ready_function_is_none() {
    IMAGES=$DATA
    snapshot_make init-fail
    expect "the exit code" "$code" 6
    [ ! -e "$SNAP" ] || fail "there is a snapshot"
    [ -z "$(ls -A "$DIR" | grep partial)" ] || fail "something was left behind"
}

test_a_running_guest_goes_on_after_its_snapshot() {
    vm_start hello --control "$DIR/control.sock"
    invoke -t before
    answered 'Hello, before!'
    snapshot_asked "$SNAP"
    expect_text "$DIR/answer" '"ok":true'
    invoke -t after
    answered 'Hello, after!'
    vm_stop
    clone_start
    invoke -t clone
    answered 'Hello, clone!'
    vm_stop
}

test_diffs_hold_what_changed_and_need_their_parent() {
    vm_start hello --control "$DIR/control.sock"
    invoke -t one
    snapshot_asked "$DIR/base"
    for n in 1 2 3; do
        invoke -t "$n"
        answered "Hello, $n!"
        parent=$DIR/base
        [ "$n" = 1 ] || parent=$DIR/diff$((n - 1))
        snapshot_asked "$DIR/diff$n" --parent "$parent"
    done
    snapshot_ask "$DIR/late" --parent "$DIR/base"
    expect "the exit code of a diff against another than the last" "$code" 3
    vm_stop
    base=$(du -k "$DIR/base" | cut -f 1)
    diff=$(du -k "$DIR/diff3" | cut -f 1)
    [ "$diff" -lt $((base / 3)) ] || fail "the diff takes $diff KiB, its base $base"
    SNAP=$DIR/diff3
    "$HOSTVMM" inspect "$SNAP" --verify >"$DIR/inspect" 2>"$DIR/errors" || fail "verify: $(cat "$DIR/errors")"
    clone_start
    invoke -t clone
    answered 'Hello, clone!'
    vm_stop
    mv "$DIR/base" "$DIR/gone"
    clone_refused 3 '../base/memory: No such file or directory'
}

test_a_diff_of_a_clone() {
    snapshot_made hello
    clone_start --control "$DIR/control.sock"
    invoke -t one
    answered 'Hello, one!'
    snapshot_asked "$DIR/diff" --parent "$SNAP"
    invoke -t two
    snapshot_asked "$DIR/diff2" --parent "$DIR/diff"
    snapshot_asked "$DIR/full"
    vm_stop
    for SNAP in "$DIR/diff" "$DIR/diff2" "$DIR/full"; do
        "$HOSTVMM" inspect "$SNAP" --verify >"$DIR/inspect" 2>"$DIR/errors" || fail "verify: $(cat "$DIR/errors")"
        clone_start
        invoke -t clone
        answered 'Hello, clone!'
        vm_stop
    done
}

test_a_snapshot_without_consent_during_an_invocation() {
    vm_start misbehave --control "$DIR/control.sock"
    invoke -t ok
    expect "invoke's exit code" "$code" 0
    printf hang >"$DIR/slow-event"
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/slow-event" --timeout 90000 >"$DIR/slow" 2>&1 &
    echo $! >>"$DIR/pids"
    await_text "$DIR/slow" hanging
    snapshot_asked "$SNAP" --no-checkpoint --stop
    vm_end 0
    clone_start
    invoke -t ok
    expect "invoke's exit code" "$code" 0
    vm_stop
}

# ---- drives --------------------------------------------------------------------------------------------------------------

test_a_clone_writes_a_drive_of_its_own() {
    cp "$DATA/overlay.ext4" "$DIR/overlay"
    snapshot_made hello --drive "$DIR/overlay,id=overlay" --bootarg overlay=vdb
    before=$(sha256sum "$DIR/overlay")
    clone_refused 3 'drive overlay is written by the guest'
    cp "$DIR/overlay" "$DIR/one"
    cp "$DIR/overlay" "$DIR/two"
    clone_refused 3 'cannot be read-only' --drive "$DIR/one,ro,id=overlay"
    clone_start --drive "$DIR/one,id=overlay"
    invoke -t world
    answered 'Hello, world!'
    first=$vm
    VSOCK=$DIR/second.sock
    clone_refused 3 'in use by another process' --drive "$DIR/one,id=overlay"
    clone_start --drive "$DIR/two,id=overlay"
    invoke -t again
    answered 'Hello, again!'
    vm_stop
    vm=$first
    vm_stop
    expect "the snapshot's own drive" "$(sha256sum "$DIR/overlay")" "$before"
    truncate -s +4096 "$DIR/one"
    clone_refused 3 'capacity_bytes' --drive "$DIR/one,id=overlay"
    clone_refused 3 'has no drive of that id' --drive "$DIR/two,id=other"
}

# ---- secrets, names ---------------------------------------------------------------------------------------------------------

test_a_secret_is_in_the_clone_and_not_in_its_snapshot() {
    printf 'the-secret-of-this-test-17' >"$DIR/key"
    snapshot_made hello
    clone_start --secret token="$DIR/key" --control "$DIR/control.sock"
    invoke -t world
    answered 'Hello, world!'
    snapshot_asked "$DIR/second"
    vm_stop
    ! grep -q 'the-secret-of-this-test-17' "$DIR/second/memory" || fail "the secret is in the snapshot"
    rm "$DIR/key"
    clone_refused 3 'secret token' --secret token="$DIR/key"
}

# ---- what is not whole --------------------------------------------------------------------------------------------------------

test_a_damaged_snapshot_never_runs() {
    snapshot_made hello
    chmod 600 "$SNAP"/*
    cp "$SNAP/state" "$DIR/state"
    size=$(stat -c %s "$DIR/state")
    for bytes in 0 63 64 $((size / 2)) $((size - 1)); do
        head -c "$bytes" "$DIR/state" >"$SNAP/state"
        clone_refused 3 'state: '
    done
    for at in 0 9 30 70 $((size / 3)) $((size - 5)); do
        cp "$DIR/state" "$SNAP/state"
        printf '\377\376' | dd of="$SNAP/state" bs=1 seek="$at" conv=notrunc 2>/dev/null
        clone_refused 3 'state: '
    done
    cp "$DIR/state" "$SNAP/state"
    printf 'x' | dd of="$SNAP/memory" bs=1 seek=$((16 * 1024 * 1024 + 5)) conv=notrunc 2>/dev/null
    clone_refused 3 'memory: chunk 32' --verify
    truncate -s 1M "$SNAP/memory"
    clone_refused 3 'memory: 1048576 bytes'
    rm "$SNAP/memory"
    clone_refused 3 'memory: No such file'
    rm "$SNAP/state"
    clone_refused 3 'state: No such file'
    rm -rf "$SNAP"
    clone_refused 3 'No such file or directory'
}

test_a_state_that_ends_early_is_refused_by_its_field() {
    snapshot_made hello
    chmod 600 "$SNAP"/*
    cp "$SNAP/state" "$DIR/state"
    body=$(($(stat -c %s "$DIR/state") - 64))
    at=0
    while [ $at -lt $body ]; do
        "$GUESTS/state-cut" "$DIR/state" "$SNAP/state" $at || fail "state-cut $at"
        clone_refused 3 'the state ends here'
        cat "$DIR/host" >>"$DIR/refusals"
        at=$((at + body / 90 + 1))
    done
    for field in machine cpu 'vcpus\[0\]' vm devices; do
        grep -q "state: $field" "$DIR/refusals" || fail "no cut fell into $field"
    done
}

test_a_clone_that_takes_too_long_is_stopped() {
    snapshot_made hello
    clone_start --resume-limit 1 --console none
    vm_end 8
    expect_text "$DIR/host" 'could not become unique'
}

test_a_full_disk_leaves_no_snapshot() {
    mkdir "$DIR/small"
    mount -t tmpfs -o size=4m none "$DIR/small"
    vm_start hello --control "$DIR/control.sock"
    invoke -t one
    snapshot_ask "$DIR/small/snap"
    expect "the exit code" "$code" 1
    expect_text "$DIR/answer" 'No space left on device'
    [ -z "$(ls -A "$DIR/small")" ] || fail "left behind: $(ls -A "$DIR/small")"
    invoke -t two
    answered 'Hello, two!'
    snapshot_asked "$SNAP"
    snapshot_ask "$SNAP"
    expect "the exit code where one exists" "$code" 3
    expect_text "$DIR/answer" 'exists'
    vm_stop
    umount "$DIR/small"
}

test_a_writer_that_is_killed_leaves_no_snapshot() {
    vm_start hello --control "$DIR/control.sock" --memory 512
    invoke -t one
    "$HOSTVMM" snapshot --control "$DIR/control.sock" --out "$SNAP" >"$DIR/asked" 2>&1 &
    # As soon as the directory is there, and so before it has its name.
    while [ ! -d "$DIR/.snap.partial" ] && [ ! -d "$SNAP" ]; do :; done
    kill -KILL "$vm"
    wait "$vm" || true
    vm=
    wait $! || true
    if [ -d "$SNAP" ]; then
        "$HOSTVMM" inspect "$SNAP" --verify >"$DIR/inspect" 2>"$DIR/errors" || fail "half a snapshot has a name"
        rm -rf "$SNAP"
    fi
    snapshot_made hello
    [ ! -d "$DIR/.snap.partial" ] || fail "what the dead writer left is still there"
    clone_start
    invoke -t world
    answered 'Hello, world!'
    vm_stop
}

test_a_step_that_fails_stops_the_clone() {
    IMAGES=$DATA
    for step in entropy clock sockets identity network secrets connections generation; do
        SNAP=$DIR/$step
        snapshot_made "fault-$step"
        clone_start --console none
        vm_end 8
        expect_text "$DIR/host" "could not become unique"
        expect_text "$DIR/host" "$step"
    done
}

test_inspect_tells_all() {
    snapshot_made hello --cpu baseline
    "$HOSTVMM" inspect "$SNAP" >"$DIR/text" || fail "inspect: exit code $?"
    for text in 'the agent had quiesced' 'machine    128 MiB, 1 vCPU' 'drive      rootfs, read-only' 'lapic' 'sse4_2'; do
        expect_text "$DIR/text" "$text"
    done
    expect_no_text "$DIR/text" avx
    "$HOSTVMM" inspect "$SNAP" --json >"$DIR/json" || fail "inspect --json: exit code $?"
    expect_text "$DIR/json" '"memory_bytes":134217728'
    clone_start
    invoke -t world
    answered 'Hello, world!'
    vm_stop
}
