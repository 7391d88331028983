#!/bin/sh
# The evidence tools find what is there, and say so when there is nothing to judge. Needs no VM.
#
# Usage: BUILD=build tests/peers/selftest.sh
set -u
peers=${BUILD:-build}/tests/peers
certs=${BUILD:-build}/tests/tls-certs
dir=$(mktemp -d "${TMPDIR:-/tmp}/rekindle-peers.XXXXXX")
client=
end() {
    [ -z "$client" ] || kill "$client" 2>/dev/null
    [ ! -s "$dir/pid" ] || kill "$(cat "$dir/pid")"
    rm -rf "$dir"
}
trap end EXIT
report() { # name: the last command's success is the test's
    if [ $? -eq 0 ]; then echo "ok $1"; else echo "not ok $1: $(tail -n 3 "$dir/out" | tr '\n' ' ')"; fi
}
code_is() { # wanted command...: its output in $dir/out
    wanted=$1
    shift
    "$@" >"$dir/out" 2>&1
    code=$?
    [ $code -eq "$wanted" ] || { echo "exit code $code, $wanted wanted" >>"$dir/out"; return 1; }
}
says() { grep -q -- "$1" "$dir/out"; }

# A port that is free now: two of these tests at once take another.
port=$((20000 + $$ % 20000))
until "$peers/tls-peer" --listen 127.0.0.1:$port --cert "$certs/ec.pem" --key "$certs/ec.key" --max 1.2 \
    --log "$dir/log" --keylog "$dir/keylog" --background "$dir/pid" 2>"$dir/out"; do
    grep -q 'in use' "$dir/out" || { report peer_listens; exit 1; }
    port=$((port + 1))
done

# A client that stays: its request goes in by a pipe that this shell holds open.
connect() { # cipher
    rm -f "$dir/in"
    mkfifo "$dir/in"
    exec 4<>"$dir/in"
    openssl s_client -connect 127.0.0.1:$port -quiet -cipher "$1" -CAfile "$certs/ca.pem" -verify_return_error \
        <"$dir/in" >"$dir/answer" 2>"$dir/out" 4<&- &
    client=$!
    printf 'GET /self HTTP/1.1\r\n\r\n' >&4
    timeout 20 sh -c "until grep -q '^self ' '$dir/answer'; do sleep 0.05; done"
}
leave() {
    exec 4>&-
    kill "$client" 2>/dev/null
    wait "$client" 2>/dev/null
    client=
}

for cipher in ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305; do
    connect $cipher
    report "peer_answers_with_$cipher"
    code_is 1 "$peers/keys-in-snapshot" --log "$dir/log" --keylog "$dir/keylog" --process "$client" &&
        says 'master secret' && says "client's write key" && says "server's write key"
    report "keys_are_found_in_the_client_of_$cipher"
    leave
done
code_is 0 "$peers/keys-in-snapshot" --log "$dir/log" --keylog "$dir/keylog" --process $$
report keys_are_not_found_elsewhere

# Planted across the edge of the searched blocks, at an odd offset, behind a hole.
sed -n 's/^CLIENT_RANDOM [0-9a-f]* //p' "$dir/keylog" | head -n 1 | tr -d '\n' |
    sed 's/../\\x&/g' >"$dir/escaped"
mkdir "$dir/snapshot"
truncate -s 3M "$dir/snapshot/memory"
head -c $((1048576 + 11)) /dev/urandom >>"$dir/snapshot/memory"
code_is 0 "$peers/keys-in-snapshot" --log "$dir/log" --keylog "$dir/keylog" "$dir/snapshot"
report random_bytes_are_no_keys
env printf "$(cat "$dir/escaped")" >>"$dir/snapshot/memory"
code_is 1 "$peers/keys-in-snapshot" --log "$dir/log" --keylog "$dir/keylog" "$dir/snapshot" &&
    says 'first half' && says 'second half'
report a_planted_secret_is_found
: >"$dir/empty"
code_is 2 "$peers/keys-in-snapshot" --log "$dir/empty" --keylog "$dir/keylog" "$dir/snapshot"
report a_search_for_nothing_is_refused

code_is 0 "$peers/no-twins" --log "$dir/log" && says '^client random: 3' && says '^key and nonce: [4-9]'
report different_connections_are_no_twins
# The same connection seen twice, as by two clones; and a session id in another's hands.
grep '"connection":1,' "$dir/log" >"$dir/first"
code_is 1 "$peers/no-twins" --log "$dir/log" --log "$dir/first" && says 'twin: client random' && says 'twin: key share' &&
    says 'twin: session id given' && says "twin: client's write key" && says 'twin: key and nonce'
report twins_are_found
given=$(sed -n 's/.*"given_id":"\([0-9a-f]*\)".*/\1/p' "$dir/first")
sed -n '/"handshake","connection":2/s/"offered_id":"[0-9a-f]*"/"offered_id":"'"$given"'"/p' "$dir/log" |
    sed 's/"from":"[^"]*"/"from":"10.0.0.9"/' >"$dir/thief"
grep '"connection":1,' "$dir/log" | cat - "$dir/thief" >"$dir/both"
code_is 1 "$peers/no-twins" --log "$dir/both" && says 'twin: session id in two hands' && says '^1 twins'
report a_session_of_anothers_is_found
code_is 2 "$peers/no-twins" --log "$dir/first"
report one_connection_is_no_evidence
