# TLS connections across a snapshot: clones carry on over connections of their own, and no key is in the snapshot.
. tests/integration/net-lib.sh

# An original with idle connections, its snapshot, and its end.
idle_snapshot() { # kept descriptors
    peer server 8443 ec --max 1.2
    keeper_start keeper
    tell open orders "$1"
    snapshot_asked "$SNAP" --stop
    vm_end 0
}

test_tls_clones_carry_on() {
    net_up 8
    idle_snapshot 2
    # Idle connections were closed in order, before the snapshot: the server has seen both ends of each.
    expect "connections ended in order" "$(grep '"event":"end"' "$DIR/server.log" | grep -c '"how":"close_notify"')" \
        "$(grep -c '"event":"handshake"' "$DIR/server.log")"
    clones_start 8
    tell_clones 8 get /clone 20
    for n in $(seq 8); do expect "the answer of clone $n" "$(cat "$DIR/answer-$n")" '40 answered, 0 failed'; done
    clones_stop
}

test_tls_clones_are_no_twins_on_the_wire() {
    net_up 8
    capture_start
    idle_snapshot 2
    clones_start 8
    tell_clones 8 get /clone 5
    capture_stop
    "$PEERS/no-twins" --log "$DIR/server.log" --capture "$DIR/capture" --port 8443 >"$DIR/answer" 2>"$DIR/errors" ||
        fail "twins, or no evidence: $(tail -n 3 "$DIR/answer" "$DIR/errors")"
    # The original's, and two descriptors and a pool of each clone's.
    handshakes=$(sed -n 's/^client random: //p' "$DIR/answer")
    [ "$handshakes" -ge 18 ] || fail "$handshakes handshakes for 8 clones"
    for n in $(seq 8); do expect_text "$DIR/server.log" "192.0.2.$((10 + n))"; done
    clones_stop
}

keys_sought() { # exit code of the search of $SNAP
    code=0
    "$PEERS/keys-in-snapshot" --log "$DIR/server.log" --keylog "$DIR/server.keylog" "$SNAP" >"$DIR/answer" \
        2>"$DIR/errors" || code=$?
    expect "the exit code of the search ($(tail -n 1 "$DIR/answer"))" "$code" "$1"
}

test_tls_no_key_is_in_the_snapshot() {
    net_up
    peer server 8443 ec --max 1.2
    keeper_start keeper
    tell open orders 2
    tell get /before 3
    snapshot_asked "$SNAP" --stop
    vm_end 0
    keys_sought 0
}

# The search would find them: so would an attacker, in a snapshot that was taken without asking the agent.
test_tls_keys_are_in_a_snapshot_without_consent() {
    net_up
    peer server 8443 ec --max 1.2
    keeper_start keeper
    tell open orders 2
    tell get /before 3
    snapshot_asked "$SNAP" --no-checkpoint --stop
    vm_end 0
    keys_sought 1
    expect_text "$DIR/answer" 'master secret'
    expect_text "$DIR/answer" "client's"
}

test_tls_a_clone_without_consent_uses_no_old_key() {
    net_up 2
    capture_start
    peer server 8443 ec --max 1.2
    keeper_start keeper
    tell open orders 2
    tell get /before 3
    snapshot_asked "$SNAP" --no-checkpoint --stop
    vm_end 0
    before=$(grep -c '"event":"handshake"' "$DIR/server.log")
    clones_start 2
    tell_clones 2 get /clone 3
    for n in 1 2; do expect "the answer of clone $n" "$(cat "$DIR/answer-$n")" '6 answered, 0 failed'; done
    capture_stop
    "$PEERS/no-twins" --log "$DIR/server.log" --capture "$DIR/capture" --port 8443 >"$DIR/answer" 2>"$DIR/errors" ||
        fail "twins, or no evidence: $(tail -n 3 "$DIR/answer" "$DIR/errors")"
    [ "$(grep -c '"event":"handshake"' "$DIR/server.log")" -ge $((before + 4)) ] || fail "no connections of the clones' own"
    vm_stop
}

test_tls_the_original_goes_on() {
    net_up
    peer server 8443 ec --max 1.2
    keeper_start keeper
    tell open orders 2
    snapshot_asked "$SNAP"
    tell get /after 5
    told '10 answered, 0 failed'
    vm_stop
}

busy_is_reset() { # words that make the connection busy
    net_up 1
    peer server 8443 ec --max 1.2
    keeper_start keeper
    tell open orders 1
    tell "$@"
    snapshot_asked "$SNAP" --stop
    vm_end 0
    clones_start 1
    tell_clones 1 read
    # What had come of the answer before the reset may still be read.
    if [ "$1" = begin ] && grep -q bytes "$DIR/answer-1"; then tell_clones 1 read; fi
    expect "what the busy descriptor says" "$(cat "$DIR/answer-1")" 'error Connection reset by peer'
    tell_clones 1 close
    tell_clones 1 open orders 1
    vm_stop
}

test_tls_a_half_sent_request_is_reset() {
    busy_is_reset write 'GET /half-sent HTTP/1.1'
}

test_tls_a_half_read_answer_is_reset() {
    busy_is_reset begin /half
}

test_tls_a_client_key_is_in_the_clone_only() {
    net_up 1
    peer client 9109 ec --client-ca "$CERTS/client-ca.pem" --max 1.2
    peer good 8443 ec --max 1.2
    keeper_start slow
    tell try client
    expect_text "$DIR/answer" failed:
    snapshot_asked "$SNAP" --stop
    vm_end 0
    clones_start 1 --secret "client-key=$CERTS/client-ec.key"
    tell_clones 1 try client
    expect_text "$DIR/answer-1" 'answered: try '
    expect_text "$DIR/client.log" '"client":"/CN=client-ec.example.test"'
    vm_stop
}

# A clone that has used its client key is snapshotted: the key is not in that snapshot either. It is in one that was taken
# without asking, where the secret's file is: the search does search for it.
test_tls_a_client_key_is_in_no_snapshot() {
    net_up 1
    peer client 9109 ec --client-ca "$CERTS/client-ca.pem" --max 1.2
    peer good 8443 ec --max 1.2
    keeper_start slow
    tell open good 1
    snapshot_asked "$SNAP" --stop
    vm_end 0
    clones_start 1 --secret "client-key=$CERTS/client-ec.key" --control "$DIR/control.sock"
    tell_clones 1 try client
    expect_text "$DIR/answer-1" 'answered: try '
    snapshot_asked "$DIR/taken" --no-checkpoint
    snapshot_asked "$DIR/second" --stop
    vm_end 0
    code=0
    "$PEERS/keys-in-snapshot" --private-key "$CERTS/client-ec.key" "$DIR/taken" >"$DIR/answer" || code=$?
    expect "the search of what was taken" "$code" 1
    code=0
    "$PEERS/keys-in-snapshot" --private-key "$CERTS/client-ec.key" --log "$DIR/client.log" \
        --keylog "$DIR/client.keylog" "$DIR/second" >"$DIR/answer" || code=$?
    expect "the search of the second snapshot ($(tail -n 1 "$DIR/answer"))" "$code" 0
}

test_tls_clones_of_a_clone_carry_on() {
    net_up 2
    idle_snapshot 1
    clones_start 1 --control "$DIR/control.sock"
    tell_clones 1 get /first 2
    snapshot_asked "$DIR/second" --stop
    vm_end 0
    SNAP=$DIR/second
    clones_start 2
    tell_clones 2 get /second 3
    for n in 1 2; do expect "the answer of clone $n" "$(cat "$DIR/answer-$n")" '3 answered, 0 failed'; done
    vm_stop
}

# What judges the capture of the other tests: it sees each handshake, one that comes twice, and one that is missing.
test_tls_twins_in_a_capture_are_found() {
    net_up
    capture_start lo
    peer server 8443 ec --max 1.2
    for path in one two; do
        printf 'GET /%s HTTP/1.1\r\n\r\n' $path >"$DIR/request"
        (cat "$DIR/request"; until_true "an answer" grep -q "^$path " "$DIR/answer-$path") |
            openssl s_client -connect $HOST:8443 -quiet -no_ign_eof >"$DIR/answer-$path" 2>"$DIR/errors-$path" || true
    done
    capture_stop
    judged() { # exit code, capture
        code=0
        "$PEERS/no-twins" --log "$DIR/server.log" --capture "$2" --port 8443 >"$DIR/answer" 2>"$DIR/errors" || code=$?
        expect "the verdict" "$code" "$1"
    }
    judged 0 "$DIR/capture"
    expect_text "$DIR/answer" 'client random in the capture: 2'
    expect_text "$DIR/answer" 'key share in the capture: 2'
    (cat "$DIR/capture"; tail -c +25 "$DIR/capture") >"$DIR/twice"
    judged 1 "$DIR/twice"
    for what in 'client random' 'key share' 'connection and nonce'; do expect_text "$DIR/answer" "twin: $what in the capture"; done
    head -c 24 "$DIR/capture" >"$DIR/none"
    judged 2 "$DIR/none"
    expect_text "$DIR/answer" missing:
}
