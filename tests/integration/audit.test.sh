# The audit: what clones share is found, and what they should not share they do not.

audit() { # clones [options...]: sets code
    clones=$1
    shift
    code=0
    "$HOSTVMM" audit --snapshot "$SNAP" --clones "$clones" --batch 4 "$@" >"$DIR/answer" 2>"$DIR/errors" </dev/null || code=$?
}

nothing_left() {
    ! pgrep -f "restore --snapshot $SNAP" >/dev/null || fail "clones are left"
}

test_audit_finds_no_twin() {
    snapshot_made identity
    printf 'who are you' >"$DIR/event"
    audit 40 --event "$DIR/event" --keep-random "$DIR/random"
    expect "the audit's exit code" "$code" 0
    for source in getrandom getrandom_vdso dev_urandom kernel_uuid boot_id machine_id hostname generation at_random tcp_isn \
        tcp_ports drbg; do
        expect_text "$DIR/answer" "$source"
    done
    # FIPS 140-2, in blocks of 2,500 bytes. A good source fails one in some thousand.
    "$DATA/rngtest" <"$DIR/random" 2>"$DIR/rngtest" || true
    passed=$(sed -n 's/.*FIPS 140-2 successes: //p' "$DIR/rngtest")
    [ "${passed:-0}" -ge 1 ] || fail "the clones' random bytes do not look random: $(cat "$DIR/rngtest")"
    nothing_left
}

test_audit_finds_the_planted_twin() {
    snapshot_made identity-twin
    audit 4 --json
    expect "the audit's exit code" "$code" 1
    SNAP=$DIR/other
    snapshot_made hello
    audit 4
    expect "the audit's exit code for hello" "$code" 0
    nothing_left
}
