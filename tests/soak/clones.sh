#!/bin/sh
# make soak: restore, invoke, stop, again and again; afterwards nothing may be left, and nothing may have grown.
#
# Usage: tests/soak/clones.sh BUILD CYCLES
# Runs itself again with --inside where VMs can run. Prints a line every 500 cycles; the last is `N passed, N failed`.
set -eu
cd "$(dirname "$0")/../.."

if [ "${1:-}" != --inside ]; then
    exec tests/support/in-host.sh "$1" 36000 tests/soak/clones.sh --inside "$1" "$2"
fi

build=$2
cycles=$3
hostvmm=$build/hostvmm
dir=$(mktemp -d /tmp/rekindle-soak.XXXXXX)
vm=
end() {
    [ -z "$vm" ] || kill -KILL "$vm" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT
fail() {
    echo "soak: $*" >&2
    tail -n 20 "$dir"/messages >&2 || true
    echo "$done_cycles passed, 1 failed"
    exit 1
}

# What grows when something leaks: files here and in /tmp, open files, processes, memory (KiB) of the whole machine.
count() {
    files=$(find "$dir" /tmp /run /dev/shm -xdev 2>/dev/null | wc -l)
    open=$(cut -f 1 /proc/sys/fs/file-nr)
    processes=$(find /proc -maxdepth 1 -name '[0-9]*' | wc -l)
    memory=$(awk '/^(AnonPages|Shmem|Slab|PageTables|KernelStack|VmallocUsed):/ { sum += $2 } END { print sum }' /proc/meminfo)
    echo "$files $open $processes $memory"
}

done_cycles=0
"$hostvmm" snapshot --kernel "${KERNEL:-build/kernel/vmlinux}" --rootfs "$build/images/identity.erofs" --out "$dir/snap" \
    --console none >"$dir/messages" 2>&1
printf again >"$dir/event"
before=
while [ "$done_cycles" -lt "$cycles" ]; do
    # Each third clone is asked to power off, the others are stopped at once, as a platform does.
    "$hostvmm" restore --snapshot "$dir/snap" --vsock "$dir/vm.sock" --console none >"$dir/messages" 2>&1 &
    vm=$!
    "$hostvmm" invoke --vsock "$dir/vm.sock" --event "$dir/event" --wait 60000 >"$dir/answer" 2>>"$dir/messages" ||
        fail "cycle $done_cycles: no answer"
    grep -q '^id ' "$dir/answer" || fail "cycle $done_cycles: a strange answer: $(cat "$dir/answer")"
    if [ $((done_cycles % 3)) -eq 0 ]; then
        kill -TERM "$vm"
        wait "$vm" || fail "cycle $done_cycles: no orderly end"
    else
        kill -KILL "$vm"
        wait "$vm" 2>/dev/null || true # the shell would say "Killed" each time
    fi
    vm=
    done_cycles=$((done_cycles + 1))
    # Caches fill during the first hundred.
    if [ "$done_cycles" -eq 100 ]; then
        before=$(count)
        echo "soak: after 100 cycles: files, open files, processes, KiB: $before"
    elif [ $((done_cycles % 500)) -eq 0 ]; then
        echo "soak: after $done_cycles cycles: $(count)"
    fi
done
after=$(count)
echo "soak: at the end: $after"
# shellcheck disable=SC2086
set -- ${before:-$after} $after
[ $(($5 - $1)) -le 2 ] || fail "files: $1, then $5"
[ $(($6 - $2)) -le 64 ] || fail "open files: $2, then $6"
[ $(($7 - $3)) -le 2 ] || fail "processes: $3, then $7"
[ $(($8 - $4)) -le 8192 ] || fail "memory: $4 KiB, then $8"
echo "$done_cycles passed, 0 failed"
