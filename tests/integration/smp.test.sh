# Many vCPUs: all of them run, before and after a snapshot, and after one that came in the midst of their work.
#
# limit-seconds: 170

# A guest of 32 processors on the one processor of an emulated host can starve, or wait for an interrupt that the emulation
# lost (hostvmm/kvmhost/README.md, Limits): there, and only there, a test is tried a second time, and says so.
smp_tried() { # function
    if (set -e; "$1"); then return; fi
    [ "${KVMHOST_MODE:-direct}" = emulated ] || fail "$1"
    echo "tried again: $1 failed once in the emulated host"
    while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$DIR/pids"
    rm -rf "$DIR"/snap* "$DIR"/*.sock
    "$1"
}

smp_start() { # vcpus
    IMAGES=$DATA
    WAIT_MS=50000
    vm_start smp-function --cpus "$1" --memory 256 --control "$DIR/control.sock" --console none
}

smp_counts() { # event vcpus
    invoke -t "$1"
    answered "$2"
}

thirty_two() {
    smp_start 32
    smp_counts all 32
    snapshot_ask "$DIR/snap" --wait 60000
    expect "the snapshot's exit code" "$code" 0
    vm_stop
    clone_start --console none
    smp_counts all 32
    smp_counts each 32
    vm_stop
}

test_smp_thirty_two_vcpus_boot_and_are_cloned() {
    smp_tried thirty_two
}

in_the_midst() {
    smp_start 8
    smp_counts all 8
    # Whatever each vCPU is doing: no consent, twice, while the function counts.
    for n in 1 2; do
        printf all >"$DIR/event"
        "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/event" --wait "$WAIT_MS" >"$DIR/answer.$n" 2>"$DIR/errors.$n" &
        counting=$!
        snapshot_ask "$DIR/snap$n" --no-checkpoint --wait 60000
        expect "the snapshot's exit code" "$code" 0
        wait "$counting" || fail "the function was disturbed by a snapshot: $(cat "$DIR/errors.$n")"
        expect "the answer beside a snapshot" "$(cat "$DIR/answer.$n")" 8
    done
    vm_stop
    SNAP=$DIR/snap2
    clone_start --console none
    smp_counts each 8
    vm_stop
}

test_smp_a_snapshot_in_the_midst_of_work_restores() {
    smp_tried in_the_midst
}
