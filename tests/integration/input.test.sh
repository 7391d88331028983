# Kernels, images and sizes that cannot be used: each refused with a reason, none with a crash.

refused() { # code text options...
    wanted_code=$1
    text=$2
    shift 2
    vm_run "$wanted_code" "$@"
    expect_text "$DIR/host" "$text"
    expect "lines of explanation" "$([ "$(wc -l <"$DIR/host")" -ge 1 ] && echo some)" some
}

kernel_refused() { # text kernel
    refused 3 "$1" --kernel "$2" --rootfs "$IMAGES/hello.erofs"
}

test_kernel_missing() { kernel_refused /nonexistent /nonexistent/vmlinux; }
test_kernel_is_a_text() { kernel_refused GPL-3 "$DATA/GPL-3"; }
test_kernel_is_empty() {
    : >"$DIR/empty"
    kernel_refused empty "$DIR/empty"
}
test_kernel_is_a_directory() { kernel_refused "$DIR" "$DIR"; }
test_kernel_is_a_program() { kernel_refused hostvmm "$HOSTVMM"; }
test_kernel_truncated() {
    for bytes in 40 64 4096 100000 1000000; do
        head -c $bytes "$KERNEL" >"$DIR/cut"
        kernel_refused cut "$DIR/cut"
    done
}
test_bzimage_truncated() {
    for bytes in 500 1000 20000 500000; do
        head -c $bytes "$BZIMAGE" >"$DIR/cut"
        kernel_refused cut "$DIR/cut"
    done
}
test_kernel_for_another_architecture() {
    # e_machine at offset 18: AArch64, then one bit of the class that makes it a 32-bit file.
    cp "$KERNEL" "$DIR/other"
    printf '\267\000' | dd of="$DIR/other" bs=1 seek=18 conv=notrunc 2>/dev/null
    kernel_refused other "$DIR/other"
    expect_text "$DIR/host" rchitecture
    cp "$KERNEL" "$DIR/other"
    printf '\001' | dd of="$DIR/other" bs=1 seek=4 conv=notrunc 2>/dev/null
    kernel_refused other "$DIR/other"
}

image() { # code image: the guest refuses it
    vm_run "$1" --kernel "$KERNEL" --rootfs "$2"
}

test_image_missing() {
    image 3 /nonexistent/image
    expect_text "$DIR/host" /nonexistent/image
}
test_image_empty() {
    : >"$DIR/image"
    image 3 "$DIR/image"
    expect_text "$DIR/host" "$DIR/image"
}
test_image_is_no_file_system() {
    head -c 1048576 /dev/urandom >"$DIR/image"
    image 3 "$DIR/image"
    expect_text "$DIR/host" "no file system"
}
# Past hostvmm's own look at the root image, init has to find out.
test_root_drive_is_no_file_system() {
    head -c 1048576 /dev/urandom >"$DIR/drive"
    vm_run 11 --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --drive "$DIR/drive" --bootarg root=vdb
    expect_text "$DIR/console" vdb
}
test_image_truncated() {
    size=$(stat -c %s "$IMAGES/hello.erofs")
    for bytes in 1000 4096 $((size / 8 / 4096 * 4096)) $((size - 4096)); do
        head -c "$bytes" "$IMAGES/hello.erofs" >"$DIR/image"
        image 3 "$DIR/image"
        expect_text "$DIR/host" "$DIR/image"
    done
}
test_initrd_missing() { refused 3 /nonexistent --kernel "$KERNEL" --initrd /nonexistent/initrd; }

test_memory_too_small_for_the_kernel() {
    code=0
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$IMAGES/hello.erofs" --memory 4
    wait "$vm" || code=$?
    [ "$code" -eq 2 ] || [ "$code" -eq 3 ] || fail "exit code $code, expected 2 or 3"
    expect_text "$DIR/host" emory
}
test_memory_that_is_no_number() { refused 2 memory --kernel "$KERNEL" --memory much; }
test_cpus_that_cannot_be() {
    refused 2 cpus --kernel "$KERNEL" --cpus 0
    refused 2 cpus --kernel "$KERNEL" --cpus 1000
}
test_drive_missing() { refused 3 /nonexistent --kernel "$KERNEL" --initrd "$INITRD" --drive /nonexistent/drive; }
