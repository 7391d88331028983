# The list of pages that clones touch: made with the snapshot, used by clones, and needed by none.

clone_says_hello() {
    clone_start
    invoke -t world
    answered 'Hello, world!'
    vm_stop
}

test_a_rehearsed_snapshot_lists_pages() {
    snapshot_made hello
    [ "$(head -c 7 "$SNAP/prefetch")" = RKNDPRE ] || fail "no list of pages is beside the snapshot"
    [ -z "$(find "$SNAP" -name '.*' -type f)" ] || fail "something is left beside it"
    clone_says_hello
    expect_no_text "$DIR/host" prefetch
}

test_a_snapshot_without_rehearsal_has_clones() {
    snapshot_made hello --no-rehearsal
    [ ! -e "$SNAP/prefetch" ] || fail "there was a rehearsal"
    clone_says_hello
    expect_no_text "$DIR/host" prefetch
}

test_a_rehearsal_can_come_later() {
    snapshot_made hello --no-rehearsal
    for pass in 1 2; do
        "$HOSTVMM" restore --snapshot "$SNAP" --console none --rehearse 2>"$DIR/host" || fail "rehearsal $pass failed"
        cp "$SNAP/prefetch" "$DIR/list.$pass"
    done
    [ "$(wc -c <"$DIR/list.2")" -gt "$(wc -c <"$DIR/list.1")" ] || fail "the second rehearsal found no more"
    clone_says_hello
}

test_a_damaged_list_costs_only_speed() {
    snapshot_made hello
    head -c 100 "$SNAP/prefetch" >"$DIR/short"
    mv "$DIR/short" "$SNAP/prefetch"
    clone_says_hello
    expect_text "$DIR/host" 'prefetch: another version, another snapshot'
    printf 'nonsense' >"$SNAP/prefetch"
    clone_says_hello
    expect_text "$DIR/host" 'prefetch: no regular file'
}

test_four_vcpus_use_the_list() {
    snapshot_made hello --cpus 4
    [ -s "$SNAP/prefetch" ] || fail "no list of pages is beside the snapshot"
    clone_says_hello
}

test_a_writable_drive_is_not_rehearsed_on() {
    head -c 1048576 /dev/zero >"$DIR/drive"
    snapshot_made hello --drive "$DIR/drive,id=data"
    [ ! -e "$SNAP/prefetch" ] || fail "there was a rehearsal"
    expect_text "$DIR/host.snapshot" 'no rehearsal: a drive is writable'
}
