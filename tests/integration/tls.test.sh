# Connections of the manifest against real servers: what works, and what is refused by the name of its cause.
. tests/integration/net-lib.sh

test_tls_connections_are_reached_by_every_way() {
    net_up
    peer server 8443 ec --max 1.2
    keeper_start keeper
    tell open orders 2
    tell unix orders
    tell tcp 15001
    tell open cold 1
    tell open six 1
    tell get /each 3
    told '18 answered, 0 failed'
    expect_text "$DIR/server.log" '"name":"orders.example.test"'
    expect_text "$DIR/server.log" '"alpn":"http/1.1"'
    expect_text "$DIR/server.log" '"from":"fd00:2::2"'
    expect_no_text "$DIR/server.log" '"event":"failed"'
    vm_stop
}

test_tls_to_nginx() {
    net_up
    mkdir "$DIR/web" "$DIR/nginx"
    echo 'from nginx' >"$DIR/web/try"
    echo 'from nginx' >"$DIR/web/open"
    cat >"$DIR/nginx.conf" <<CONFIG
user root;
pid $DIR/nginx.pid;
worker_processes 1;
error_log $DIR/errors.nginx warn;
events { worker_connections 256; }
http {
    access_log $DIR/nginx.access;
    client_body_temp_path $DIR/nginx;
    proxy_temp_path $DIR/nginx;
    fastcgi_temp_path $DIR/nginx;
    uwsgi_temp_path $DIR/nginx;
    scgi_temp_path $DIR/nginx;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:s:1m;
    ssl_session_tickets off;
    server {
        listen $HOST:8443 ssl;
        server_name orders.example.test;
        ssl_certificate $CERTS/rsa.pem;
        ssl_certificate_key $CERTS/rsa.key;
        root $DIR/web;
    }
}
CONFIG
    "$PEERS/nginx" -c "$DIR/nginx.conf" -e "$DIR/errors.nginx" 2>"$DIR/errors.start" || fail "nginx: $(cat "$DIR/errors.start")"
    cat "$DIR/nginx.pid" >>"$DIR/pids"
    keeper_start keeper
    tell open orders 1
    tell get /try 20
    told '20 answered, 0 failed'
    tell try cold
    told 'answered: from nginx'
    expect "requests in nginx's log" "$(grep -c '"GET /try HTTP/1.1" 200' "$DIR/nginx.access")" 21
    vm_stop
    kill "$(cat "$DIR/nginx.pid")"
}

test_tls_to_s_server() {
    net_up
    # It serves one connection at a time, takes no second request on a connection, and its page has no length: the stream's end is the answer's.
    awk '/BEGIN/ { n++ } n == 2' "$CERTS/rsa.pem" >"$DIR/intermediate.pem"
    openssl s_server -accept 8443 -naccept 100 -tls1_2 -www -cert "$CERTS/rsa.pem" -cert_chain "$DIR/intermediate.pem" \
        -key "$CERTS/rsa.key" >"$DIR/console.s_server" 2>&1 </dev/null &
    echo $! >>"$DIR/pids"
    until_true "s_server" listens 8443
    keeper_start bench
    invoke -t 'time one /'
    # An answer came; that it has no length is the function's complaint.
    expect "invoke's exit code" "$code" 6
    expect_text "$DIR/errors" 'Bad message'
    vm_stop
}

# The function is told why, by function_connect() and by the file: what each cause must be called.
refused() { # name pattern
    tell try "$1"
    grep -Eiq "^failed: .*($2)" "$DIR/answer" || fail "$1: $(head -n 1 "$DIR/answer"), and that does not name '$2'"
    grep -Eiq "^file: .*($2)" "$DIR/answer" || fail "$1: $1.error says $(sed -n 2p "$DIR/answer")"
}
good_still_works() {
    tell get /good 1
    told '1 answered, 0 failed'
}

faulty_servers() {
    net_up
    peer good 8443 ec --max 1.2
    port=9001
    for certificate in expired future wrong-name self-signed unknown revoked revoked-chain rsa1024 sha1 not-a-ca; do
        peer $certificate $port $certificate --max 1.2
        port=$((port + 1))
    done
    peer tls10 9011 ec --min 1.0 --max 1.0
    peer tls13 9012 ec --min 1.3 --max 1.3
    peer reset 9013 ec --fault reset-in-handshake
    peer oversized 9014 ec --fault oversized-record
    peer truncated 9015 ec --fault truncated-record
    keeper_start faults
    tell open good 1
}

test_tls_wrong_certificates_are_named() {
    faulty_servers
    refused expired expired
    refused future 'not (yet )?valid|begins'
    refused wrong-name 'name|orders.example.test'
    refused self-signed 'self-signed|trust'
    refused unknown 'trust|issuer|signed by'
    refused revoked revoked
    refused revoked-chain revoked
    refused rsa1024 '1024|2048|weak|short'
    refused sha1 'SHA-?1|signature|hash'
    refused not-a-ca 'authorit|CA'
    good_still_works
    vm_stop
}

test_tls_broken_handshakes_are_named() {
    faulty_servers
    # It finds no suite that is older than TLS 1.2 among those offered.
    refused tls10 'TLS 1\.2 is what is spoken'
    refused tls13 '1\.3|version'
    expect_text "$DIR/answer" 1.2
    refused reset reset
    refused oversized 'record|too (large|long)|bytes'
    refused truncated 'ended|closed|end of'
    good_still_works
    vm_stop
}

slow_servers() {
    net_up
    peer good 8443 ec --max 1.2
    peer silent 9101 ec --fault silent
    peer late 9103 ec --delay-ms 1500
    peer close-idle 9104 ec --fault close-idle
    peer oversized-answer 9105 ec --fault oversized-answer
    peer truncated-answer 9106 ec --fault truncated-answer
    peer reset-answer 9107 ec --fault reset-answer
    peer rsa 9108 rsa --max 1.2
    peer client 9109 ec --client-ca "$CERTS/client-ca.pem"
    keeper_start slow
    tell open good 1
}

test_tls_servers_that_do_not_answer_are_named() {
    slow_servers
    refused silent 'time|answer|within'
    refused refused refused
    refused absent 'time|reach|route'
    refused nameless 'nowhere.example.test|name|DNS|resolve'
    tell try late
    expect_text "$DIR/answer" 'answered: try '
    good_still_works
    vm_stop
}

test_tls_bad_answers_reset_the_descriptor() {
    slow_servers
    for bad in oversized-answer truncated-answer reset-answer; do
        tell try $bad
        grep -q '^failed: .*(Connection reset by peer)' "$DIR/answer" || fail "$bad: $(head -n 1 "$DIR/answer")"
    done
    good_still_works
    vm_stop
}

test_tls_a_silent_server_stalls_no_other() {
    slow_servers
    printf 'try silent' >"$DIR/event.silent"
    start=$(cut -d ' ' -f 1 /proc/uptime)
    for _ in 1 2 3; do
        tell get /beside 5
        told '5 answered, 0 failed'
    done
    awk -v start="$start" '{ if ($1 - start > 2.5) exit 1 }' /proc/uptime || fail "15 requests took as long as the silent one's limit"
    vm_stop
}

test_tls_a_session_is_resumed() {
    slow_servers
    tell try rsa
    tell try rsa
    expect_text "$DIR/answer" resumed=1
    expect "full handshakes" "$(grep -c '"resumed":false' "$DIR/rsa.log")" 1
    vm_stop
}

test_tls_a_server_that_closes_is_left_in_order() {
    slow_servers
    tell try close-idle
    expect_text "$DIR/answer" 'answered: try '
    until_true "the connection's end" grep -q '"event":"end".*closed when idle' "$DIR/close-idle.log"
    vm_stop
}

test_tls_without_its_client_key_a_connection_is_refused() {
    slow_servers
    refused client 'client-key|secret'
    expect_no_text "$DIR/client.log" '"event":"handshake"'
    good_still_works
    vm_stop
}

test_tls_servers_are_found_by_name() {
    net_up
    peer server 8443 ec --max 1.2
    # Nobody has the first address of `second`: the next one is tried.
    "$PEERS/dns-peer" $HOST "$DIR/dns.pid" orders.example.test=$HOST second.example.test=192.0.2.250,$HOST \
        mute.example.test= || fail "no name server"
    cat "$DIR/dns.pid" >>"$DIR/pids"
    ORIGINAL=$ORIGINAL,dns=$HOST
    keeper_start names
    tell try orders
    expect_text "$DIR/answer" 'answered: try '
    tell try second
    expect_text "$DIR/answer" 'answered: try '
    refused mute 'mute.example.test'
    refused unknown 'unknown.example.test'
    vm_stop
}
