# Drives that are written to, and the overlay over a read-only root.

test_drive_keeps_its_data() {
    truncate -s 16M "$DIR/drive"
    for boot in 1 2 3; do
        guest_run drive --drive "$DIR/drive"
        expect_text "$DIR/console" "drive: boot $boot"
    done
}

test_read_only_drive_takes_no_writes() {
    truncate -s 16M "$DIR/drive"
    before=$(sha256sum <"$DIR/drive")
    guest_run drive --drive "$DIR/drive,ro"
    expect_text "$DIR/console" "drive: failed: writing: Operation not permitted"
    expect "the drive" "$(sha256sum <"$DIR/drive")" "$before"
}

test_root_image_is_never_written() {
    before=$(sha256sum <"$IMAGES/hello.erofs")
    vm_start hello
    invoke -t up
    vm_stop
    expect "the image" "$(sha256sum <"$IMAGES/hello.erofs")" "$before"
}

scribe() { # options...
    vm_run 0 --kernel "$KERNEL" --rootfs "$DATA/agents.erofs" --bootarg agent=/test/scribe "$@"
}

test_overlay_in_memory_is_new_each_time() {
    scribe
    expect_text "$DIR/console" "scribe: 1 lines"
    scribe
    expect_text "$DIR/console" "scribe: 1 lines"
}

test_overlay_on_a_drive_lasts() {
    cp "$DATA/overlay.ext4" "$DIR/overlay"
    for boot in 1 2 3; do
        scribe --drive "$DIR/overlay" --bootarg overlay=vdb
        expect_text "$DIR/console" "scribe: $boot lines"
    done
}

test_overlay_none_is_read_only() {
    scribe --bootarg overlay=none
    expect_text "$DIR/console" "scribe: 0 lines"
}
