# Kernels, processors, memory: what boots, and what the guest then sees.

fact() { # key: its value on the console
    sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p" "$DIR/console" | tr -d '\r' | head -n 1
}

test_boot_to_pid1_and_power_off() {
    vm_run 0 --kernel "$KERNEL" --initrd "$GUESTS/poweroff.cpio"
}

test_boot_is_silent() {
    guest_run facts
    # The kernel announces the end, at a level that nothing silences.
    grep -v -e "^facts: " -e "reboot: Power down" "$DIR/console" >"$DIR/errors" || true
    [ ! -s "$DIR/errors" ] || fail "the kernel says: $(head -n 1 "$DIR/errors")"
}

cpus() { # count
    guest_run facts --cpus "$1"
    expect "CPUs online" "$(fact cpus)" "$1"
    rm -f "$DIR/console"
    vm_start hello --cpus "$1"
    invoke -t "$1 CPUs"
    expect "invoke's exit code" "$code" 0
    vm_stop
}
test_cpus_1() { cpus 1; }
test_cpus_2() { cpus 2; }
test_cpus_3() { cpus 3; }
test_cpus_4() { cpus 4; }

test_memory_of_the_guest() {
    guest_run facts --memory 300
    kib=$(fact memory_kib)
    [ "$kib" -gt $((260 * 1024)) ] && [ "$kib" -le $((300 * 1024)) ] || fail "$kib KiB seen of 300 MiB given"
}

test_memory_48_boots_to_ready() {
    vm_start hello --memory 48
    invoke -t small
    expect "invoke's exit code" "$code" 0
    vm_stop
}

# Above 3 GiB RAM goes on past the hole for devices: the guest must see both parts.
test_memory_past_4_gib() {
    guest_run facts --memory 5000
    kib=$(fact memory_kib)
    [ "$kib" -gt $((4700 * 1024)) ] || fail "$kib KiB seen of 5000 MiB given"
}

test_bzimage() {
    vm_run 0 --kernel "$BZIMAGE" --initrd "$GUESTS/facts.cpio"
    expect "CPUs online" "$(fact cpus)" 1
}

test_bzimage_boots_to_ready() {
    vm_background "$HOSTVMM" run --kernel "$BZIMAGE" --rootfs "$IMAGES/hello.erofs" --vsock "$VSOCK"
    invoke -t bzImage
    expect "invoke's exit code" "$code" 0
    vm_stop
}

test_clock_and_rng() {
    guest_run facts
    expect "clock source" "$(fact clocksource)" kvm-clock
    case $(fact rng) in virtio_rng*) ;; *) fail "hardware random source is '$(fact rng)', not virtio's" ;; esac
}

# A kernel we did not configure, with an initrd of its own.
debian() { # kernel
    vm_run 0 --kernel "$1" --initrd "$DATA/debian.cpio" --memory 256 --cmdline "console=ttyS0"
    expect_text "$DIR/console" "debian: Linux $(cat "$DATA/debian.release") is up"
}
test_debian_kernel_bzimage() { debian "$DATA/debian.bzimage"; }
test_debian_kernel_elf() { debian "$DATA/debian.vmlinux"; }

# What the kernel is asked to offer (kernel-config), tried from inside.
test_kernel_features() {
    vm_run 0 --kernel "$KERNEL" --initrd "$GUESTS/kernel-features.cpio" --vsock "$VSOCK"
    expect_text "$DIR/console" "# "
    ! grep '^not ok' "$DIR/console" >"$DIR/errors" || fail "$(head -n 1 "$DIR/errors" | tr -d '\r')"
    grep -q '^# [1-9][0-9]* ok, 0 not ok' "$DIR/console" || fail "no summary without failures"
}

# ---- init and its boot arguments --------------------------------------------------------------------------------------

# hostvmm checks what it is given; what comes past it, on the kernel's command line, is init's to report.
test_bad_bootarg_is_reported_and_ignored() {
    vm_start hello --cmdline "rekindle.grace_ms=never rekindle.colour=blue"
    invoke -t still
    expect "invoke's exit code" "$code" 0
    expect_text "$DIR/console" "ignored boot argument rekindle.grace_ms=never"
    expect_text "$DIR/console" "ignored boot argument rekindle.colour=blue"
    vm_stop
}

test_bad_bootarg_is_refused_by_hostvmm() {
    vm_run 2 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --bootarg grace_ms=never
    expect_text "$DIR/host" "grace_ms=never"
    vm_run 2 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --bootarg colour=blue
    expect_text "$DIR/host" "colour"
}

test_missing_root() {
    vm_run 11 --kernel "$KERNEL" --initrd "$INITRD"
    expect_text "$DIR/console" "vda"
}

test_missing_root_by_name() {
    vm_run 11 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --bootarg root=vdz
    expect_text "$DIR/console" "vdz"
}

test_missing_agent() {
    vm_run 13 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --bootarg agent=/nowhere/agent
    expect_text "$DIR/console" "/nowhere/agent"
}

test_missing_overlay_device() {
    vm_run 12 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --bootarg overlay=vdy
    expect_text "$DIR/console" "vdy"
}

test_agent_that_keeps_ending() {
    vm_run 14 --kernel "$KERNEL" --rootfs "$DATA/agents.erofs" --bootarg agent=/test/quitter \
        --bootarg agent_restarts=2
    expect "starts of the agent that ended" "$(grep -c 'exit.*3' "$DIR/console")" 3
}
