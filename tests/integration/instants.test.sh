# A snapshot may be taken at any instant: while the kernel boots, in early user space, between and during invocations.
# Twenty in a row of one guest, ten times over, on one vCPU and on two; every one of them is restored, and answers.

instants() { # options of `run`...
    vm_start hello --control "$DIR/control.sock" "$@"
    taken=0
    while [ $taken -lt 20 ]; do
        # A diff of the one before; every fifth is whole. The first may find no socket yet.
        options=
        [ $((taken % 5)) -eq 0 ] || options="--parent $DIR/s$taken"
        # shellcheck disable=SC2086
        snapshot_ask "$DIR/s$((taken + 1))" --no-checkpoint $options
        if [ $code -eq 0 ]; then
            taken=$((taken + 1))
        else
            [ $taken -eq 0 ] || fail "snapshot $((taken + 1)): $(cat "$DIR/answer" "$DIR/errors")"
        fi
        # From the tenth on the guest has events to answer; the first of them waits until it can.
        if [ $taken -eq 10 ]; then
            printf 'all the time' >"$DIR/stream"
            "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/stream" --wait 60000 --repeat 100000 >"$DIR/many" 2>&1 &
            echo $! >>"$DIR/pids"
        fi
    done
    kill -KILL "$vm"
    wait "$vm" || true
    for n in $(seq 20); do
        SNAP=$DIR/s$n
        VSOCK=$DIR/r$n.sock
        clone_start --console "$DIR/console.clone"
        invoke -t "$n"
        [ "$code" -eq 0 ] || fail "the clone of snapshot $n does not answer: exit code $code"
        answered "Hello, $n!"
        # Let it end, or stop it at once where its guest is not far enough to be asked.
        kill -TERM "$vm"
        kill -TERM "$vm"
        wait "$vm" || true
        rm "$DIR/console.clone"
    done
}

test_instants_of_a_boot_1() { instants; }
test_instants_of_a_boot_2() { instants; }
test_instants_of_a_boot_3() { instants; }
test_instants_of_a_boot_4() { instants; }
test_instants_of_a_boot_5() { instants; }
test_instants_of_two_vcpus_1() { instants --cpus 2; }
test_instants_of_two_vcpus_2() { instants --cpus 2; }
test_instants_of_two_vcpus_3() { instants --cpus 2; }
test_instants_of_a_baseline_processor() { instants --cpu baseline; }
test_instants_of_four_vcpus() { instants --cpus 4; }
