#!/bin/sh
# Measure snapshots and clones: the second half of measure.sh, in the same host and run.
#
# Usage: tests/bench/measure-clones.sh BUILD
# A clone is timed from right before its process becomes hostvmm (stamp) to a moment of its timeline.
set -eu
cd "$(dirname "$0")/../.."
build=$1
. tests/bench/lib.sh
snapshot=$dir/snapshot
runs="1 2 3 4 5"
head -c 1024 /dev/zero | tr '\0' a >"$dir/1k"

started_ns() { cut -d ' ' -f 1 "$dir/start"; }
settle() { sleep 2; } # what a guest does on its own after it became ready

make_snapshot() {
    "$hostvmm" snapshot --kernel "$kernel" --rootfs "$image" --memory 128 --console none --out "$snapshot" 2>"$dir/host" ||
        fail "no snapshot"
    echo "snapshot_bytes $(disk_bytes "$snapshot"/*)"
}

restore() { # message option... : a clone, and vm
    said_when=$1
    shift
    start "$said_when" "$stamp" "$dir/start" "$hostvmm" restore --snapshot "$snapshot" --console none "$@"
}

# Append `key nanoseconds` of the clone that just became ready.
note_restore() {
    from=$(started_ns)
    echo "restore_to_first_exit $(($(number first_exit_ns "$dir/timeline") - from))"
    echo "restore_to_ready $(($(number unique_ns "$dir/timeline") - from))"
    sed -n 's/.*"\(open\|files\|vm\|devices\|load\)_us": *\([0-9]*\).*/restore_\1 \2000/p' "$dir/timeline"
    sed -n 's/.*"\(resume_[a-z_0-9]*\)_us": *\([0-9]*\).*/\1 \2000/p' "$dir/timeline"
}

one_clone() {
    : >"$dir/notes"
    for _ in $runs; do
        restore "clone ready" --vsock "$dir/vm.sock" --timeline "$dir/timeline"
        note_restore >>"$dir/notes"
        ready_ns=$(awk '$1 == "restore_to_ready" { ns = $2 } END { print ns }' "$dir/notes")
        client=$(client_ns "$dir/1k")
        echo "restore_to_response $((ready_ns + client))" >>"$dir/notes"
        stop
    done
    awk '!seen[$1]++ { print $1 }' "$dir/notes" >"$dir/keys"
    while read -r key; do
        echo "${key}_minsn $(minsn "$(awk -v key="$key" '$1 == key { print $2 }' "$dir/notes" | median)")"
    done <"$dir/keys"
}

# A running guest's full snapshot, and the diff after one invocation more.
diff() {
    start "ready in " "$hostvmm" run --kernel "$kernel" --rootfs "$image" --memory 128 --vsock "$dir/vm.sock" \
        --control "$dir/control" --console none
    settle
    "$hostvmm" snapshot --control "$dir/control" --out "$dir/full" --json >"$dir/reports" 2>"$dir/errors" ||
        fail "no snapshot of a running guest"
    ns=$(sed -n 's/.*"pause_ns":\([0-9]*\).*/\1/p' "$dir/reports")
    echo "snapshot_pause_minsn $(minsn "$ns")"
    client_ns "$dir/1k" >/dev/null
    "$hostvmm" snapshot --control "$dir/control" --out "$dir/diff" --parent "$dir/full" --json >"$dir/reports" \
        2>"$dir/errors" || fail "no diff"
    ns=$(sed -n 's/.*"pause_ns":\([0-9]*\).*/\1/p' "$dir/reports")
    echo "diff_pause_minsn $(minsn "$ns")"
    echo "diff_bytes $(disk_bytes "$dir/diff"/*)"
    stop
    rm -rf "$dir/full" "$dir/diff"
}

# All that one of two idle clones does not share: of the guest's memory the pages it wrote (the others are the
# snapshot file's, whose pages on a tmpfs count as private and dirty whoever maps them), of everything else the private ones.
private_memory() {
    restore "clone 2: clone ready" --clones 2 --vsock "$dir/vm%n.sock"
    settle
    clone=$(pgrep -P "$vm" | head -n 1)
    awk -v memory="$snapshot/memory" '
    /^[0-9a-f]+-[0-9a-f]+ / { guest = $NF == memory }
    $1 == "Anonymous:" && guest { written += $2 }
    ($1 == "Private_Clean:" || $1 == "Private_Dirty:") && !guest { other += $2 }
    END { printf "clone_guest_private_kib %d\nclone_vmm_private_kib %d\nclone_private_kib %d\n", written, other, written + other }
    ' "/proc/$clone/smaps"
    stop
}

# The last of 200 clones that become ready side by side, against as many one after the other.
many_clones() {
    one_ns=$(awk '$1 == "restore_to_ready" { print $2 }' "$dir/notes" | median)
    mkdir "$dir/many"
    "$stamp" "$dir/start" "$hostvmm" restore --snapshot "$snapshot" --console none --clones 200 \
        --vsock "$dir/many/%n.sock" --timeline "$dir/many/%n.timeline" 2>"$dir/host" </dev/null &
    vm=$!
    # Looking costs instructions, too, and so does time in which 200 guests have nothing to do.
    tries=200
    while [ "$(find "$dir/many" -name '*.timeline' | wc -l)" -lt 200 ]; do
        tries=$((tries - 1))
        kill -0 "$vm" 2>/dev/null || fail "200 clones ended"
        [ $tries -gt 0 ] || fail "200 clones did not become ready"
        sleep 1
    done
    last_ns=$(sed -n 's/.*"unique_ns": *\([0-9]*\).*/\1/p' "$dir"/many/*.timeline | sort -n | tail -n 1)
    awk -v all=$((last_ns - $(started_ns))) -v one="$one_ns" \
        'BEGIN { printf "clones_200_wall_ratio %.3f\n", all / (200 * one) }'
    kill -KILL "$vm" # the clones end with it
    wait "$vm" 2>/dev/null || true
    vm=
}

# QEMU's microvm with the same kernel, image, memory and agent, without what the guest can do without: no vsock, no serial
# port. It says when the function is ready by the byte that the agent writes to the port of stages.
microvm="qemu-system-x86_64 -M microvm,acpi=on,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=off -enable-kvm
    -cpu host -smp 1 -m 128 -nodefaults -no-user-config -display none -no-reboot
    -drive if=none,id=root,format=raw,readonly=on,file=$image -device virtio-blk-device,drive=root
    -device virtio-rng-device -qmp stdio"

# A monitor that is told to listen before it starts; its answers go to a file.
monitor() { # answers
    rm -f "$dir/monitor"
    mkfifo "$dir/monitor"
    exec 4<>"$dir/monitor"
    echo '{"execute":"qmp_capabilities"}' >&4
    : >"$1"
}
ask() { echo "{\"execute\":\"$1\"${2:+,\"arguments\":$2}}" >&4; }
wait_for() { # text file
    tries=30
    while ! grep -q "$1" "$2"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "QEMU: no $1: $(tail -n 3 "$2")"
        sleep 1
    done
}

qemu_save() {
    monitor "$dir/answers"
    : >"$dir/stages"
    # shellcheck disable=SC2086
    $microvm -kernel "$kernel" -initrd "$build/initramfs.cpio" \
        -append "console=ttyS0 panic=-1 quiet rcupdate.rcu_expedited=1 init_on_free=1 slub_max_order=0 thash_entries=256 no-kvmapf rekindle.exit_port=0x5f0" \
        -chardev "file,id=stages,path=$dir/stages" -device isa-debugcon,iobase=0x5f1,chardev=stages \
        <"$dir/monitor" >"$dir/answers" 2>"$dir/errors" 4<&- &
    vm=$!
    wait_for "$(printf '\004')" "$dir/stages"
    settle
    ask migrate "{\"uri\":\"exec:cat >$dir/qemu.memory\"}"
    sleep 2
    ask query-migrate
    wait_for '"status": "completed"' "$dir/answers"
    ask quit
    wait "$vm"
}

# From the process's start to the monitor's RESUME, which QEMU says right before it lets the vCPU run.
qemu_restore() {
    : >"$dir/costs"
    qemu_save
    for _ in $runs; do
        monitor "$dir/answers"
        # shellcheck disable=SC2086
        "$stamp" "$dir/start" $microvm -incoming fd:5 5<"$dir/qemu.memory" <"$dir/monitor" >"$dir/answers" \
            2>"$dir/errors" 4<&- &
        vm=$!
        sleep 5
        wait_for '"RESUME"' "$dir/answers"
        ask query-status
        wait_for '"status": "running"' "$dir/answers"
        ask quit
        wait "$vm"
        sed -n 's/.*"seconds": \([0-9]*\), "microseconds": \([0-9]*\)}, "event": "RESUME".*/\1 \2/p' "$dir/answers" |
            awk -v from="$(cut -d ' ' -f 2 "$dir/start")" '{ printf "%.0f\n", ($1 - substr(from, 1, length(from) - 9)) * 1e9 + $2 * 1e3 - substr(from, length(from) - 8) }' >>"$dir/costs"
    done
    vm=
    exec 4<&-
    echo "restore_qemu_minsn $(minsn "$(median <"$dir/costs")")"
}

make_snapshot
one_clone
diff
private_memory
qemu_restore
many_clones
