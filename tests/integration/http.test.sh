# A function that speaks the Lambda Runtime API on loopback, in the guest.

start() { # a VM with it, and its first answer
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$DATA/http-function.erofs" --vsock "$VSOCK" "$@"
    invoke -t ok
    answered ok
}

test_http_function() {
    start
    invoke -t environment
    answered "/function function"
    invoke -t port
    answered 127.0.0.1:9001
    invoke -t print --id request-5
    answered printed
    expect_text "$DIR/errors" "[request-5 stdout] to stdout"
    invoke -t "chunked answer"
    answered "chunked answer"
    invoke -t requests
    answered "403 403 403 404 400"
    vm_stop
}

test_http_function_that_fails() {
    start
    invoke -t error
    errored 6 Test.Failed
    invoke -t other
    errored 6 Function.BadResponse
    invoke -t crash
    errored 6 Function.Crashed
    invoke -t hang --timeout 500
    errored 7 Function.TimedOut
    invoke -t ok
    answered ok
    vm_stop
}

test_http_events_of_the_largest_size() {
    printf 'expect ' >"$DIR/large"
    head -c 6291549 /dev/zero | tr '\0' 'a' >>"$DIR/large"
    start
    invoke "$DIR/large" --timeout 60000
    expect "invoke's exit code" "$code" 0
    cmp -s "$DIR/large" "$DIR/answer" || fail "the answer is not the event"
    vm_stop
}
