#!/bin/sh
# Measure, on a machine whose KVM works, and print figures as lines `key value` on standard output.
#
# Usage: tests/bench/measure.sh BUILD
# Times come from the machine's clock. In the emulated host with --count that clock counts instructions, one a nanosecond:
# `_minsn` is nanoseconds over a million. What each figure is, and how the peer is set up: tests/bench/README.md.
set -eu
cd "$(dirname "$0")/../.."
build=$1
poweroff=$build/tests/guest/poweroff.cpio
. tests/bench/lib.sh

# The median of five runs of a command, from its start to its end. The first is cold: its program's pages are mapped anew.
cost() { # key command...
    key=$1
    shift
    : >"$dir/costs"
    for _ in 1 2 3 4 5; do
        "$count" --output "$dir/costs" -- "$@" >/dev/null 2>"$dir/host" </dev/null || fail "$key: $1 failed"
    done
    echo "$key $(sed 's/^minsn=//' "$dir/costs" | median)"
}

boot_times() {
    plain=$(cost boot_to_pid1_poweroff_minsn "$hostvmm" run --kernel "$kernel" --initrd "$poweroff" --memory 128)
    echo "$plain"
    # What the jail adds to that: its two processes, namespaces, tree, cgroup and filters, and their end.
    jailed=$(cost jailed_minsn "$hostvmm" run --kernel "$kernel" --initrd "$poweroff" --memory 128 --jail default)
    echo "jail_minsn $(awk -v with="${jailed##* }" -v without="${plain##* }" 'BEGIN { printf "%.3f", with - without }')"
    # The same kernel, initrd and memory; no device the guest does not need, no firmware but its smallest.
    cost boot_to_pid1_poweroff_qemu_minsn qemu-system-x86_64 \
        -M microvm,acpi=on,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=off -enable-kvm -cpu host -smp 1 -m 128 \
        -nodefaults -no-user-config -nographic -no-reboot -kernel "$kernel" -initrd "$poweroff" -append "quiet"
}

invoke() { # key event
    "$hostvmm" invoke --vsock "$dir/vm.sock" --event "$2" --wait 60000 --repeat 9 --json >"$dir/reports" 2>"$dir/errors" ||
        fail "an invocation failed"
    # The first few warm caches up; the median leaves them out.
    ns=$(sed -n 's/.*"invoke_ns":\([0-9]*\).*/\1/p' "$dir/reports" | median)
    echo "$1 $(minsn "$ns")"
}

# Of hostvmm's mappings, the guest's memory (a memfd, or a file named so) apart from everything else.
memory() { # field... -> "guest other", in KiB
    awk -v fields="$*" '
    BEGIN { split(fields, list); for (i in list) wanted[list[i] ":"] = 1 }
    /^[0-9a-f]+-[0-9a-f]+ / { guest = $0 ~ /memfd:/ }
    $1 in wanted { sum[guest] += $2 }
    END { print sum[1] + 0, sum[0] + 0 }' "/proc/$vm/smaps"
}

running_guest() {
    start "ready in " "$hostvmm" run --kernel "$kernel" --rootfs "$image" --memory 128 --vsock "$dir/vm.sock" \
        --timeline "$dir/timeline" --console none
    # shellcheck disable=SC2046
    set -- $(memory Rss)
    echo "guest_used_at_ready_kib $1"
    for part in vmm kernel init agent function; do
        echo "boot_${part}_minsn $(minsn $(($(number ${part}_us "$dir/timeline") * 1000)))"
    done
    ready_ns=$(($(number ready_us "$dir/timeline") * 1000))
    echo "boot_to_ready_minsn $(minsn "$ready_ns")"
    head -c 1024 /dev/zero | tr '\0' a >"$dir/1k"
    client=$(client_ns "$dir/1k")
    echo "boot_to_response_minsn $(minsn $((ready_ns + client)))"
    head -c 1048576 /dev/zero | tr '\0' a >"$dir/1m"
    invoke invoke_1k_minsn "$dir/1k"
    invoke invoke_1m_minsn "$dir/1m"
    # shellcheck disable=SC2046
    set -- $(memory Private_Clean Private_Dirty)
    echo "vmm_private_kib $2"
    stop
}

sizes() {
    for pair in init:$build/init agent:$build/agent hostvmm:$hostvmm kernel:$kernel image:$image; do
        echo "${pair%%:*}_bytes $(stat -c %s "${pair#*:}")"
    done
}

boot_times
running_guest
sizes
tests/bench/measure-clones.sh "$build"
tests/bench/measure-tls.sh "$build"
