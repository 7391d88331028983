# A function that does what it must not: the caller is told, in Lambda's words, and the next invocation works.

start() { # options...: a VM with the misbehaving function, and its first answer
    vm_start misbehave "$@"
    invoke -t ok
    answered ok
}

next_works() {
    invoke -t ok
    answered ok
    vm_stop
}

deed() { # event exit-code errorType [options of invoke...]
    start
    event_text=$1
    wanted_code=$2
    wanted_type=$3
    shift 3
    invoke -t "$event_text" --id deed-1 "$@"
    errored "$wanted_code" "$wanted_type"
    next_works
}

test_misbehave_crash() {
    deed crash 6 Function.Crashed
    expect_no_text "$DIR/errors" "Function.Crashed" # of the last invocation: not the crash's
}
test_misbehave_abort() { deed abort 6 Function.Crashed; }
test_misbehave_exit() {
    start
    invoke -t "exit 3"
    errored 6 Function.Exited
    grep -q '"errorMessage":"[^"]*3' "$DIR/errors" || fail "the exit code is not told: $(cat "$DIR/errors")"
    next_works
}
test_misbehave_exit_0() { deed "exit 0" 6 Function.Exited; }
test_misbehave_hang() { deed hang 7 Function.TimedOut --timeout 500; }
test_misbehave_spin() { deed spin 7 Function.TimedOut --timeout 500; }
test_misbehave_leak() { deed leak 6 Function.OutOfMemory --timeout 60000; }
test_misbehave_fork_bomb() {
    # Stopped by its cgroup's limit on processes: the fork fails, or the function is ended; the guest lives either way.
    start
    invoke -t fork --timeout 60000
    case $code in
    0) expect_text "$DIR/answer" "forked " && expect_no_text "$DIR/answer" "no limit met" ;;
    6 | 7) expect_text "$DIR/errors" '"errorType":"Function.' ;;
    *) fail "invoke's exit code is $code" ;;
    esac
    next_works
}
test_misbehave_orphan() {
    start
    invoke -t orphan
    expect "invoke's exit code" "$code" 0
    next_works
}
test_misbehave_answer_twice() {
    # The first answer may have been given before the second shows: then the next invocation must not get the second.
    start
    invoke -t twice
    case $code in
    0) answered first ;;
    6) expect_text "$DIR/errors" Function.BadResponse ;;
    *) fail "invoke's exit code is $code" ;;
    esac
    next_works
}
test_misbehave_answer_for_another() { deed other 6 Function.BadResponse; }
test_misbehave_answer_late() { deed "late 200" 7 Function.TimedOut --timeout 300; }
test_misbehave_answer_too_large() { deed large 6 Function.ResponseSizeTooLarge; }
test_misbehave_answer_too_large_announced() {
    start
    invoke -t large-raw
    expect "invoke's exit code" "$code" 6
    grep -qE 'Function\.(ResponseSizeTooLarge|BadChannel)' "$DIR/errors" || fail "another error: $(cat "$DIR/errors")"
    next_works
}
test_misbehave_half_an_answer() { deed half 7 Function.TimedOut --timeout 500; }
test_misbehave_half_an_answer_and_exit() { deed "half 1" 6 Function.Exited; }
test_misbehave_garbage() { deed garbage 6 Function.BadChannel; }
test_misbehave_garbage_header() { deed header 6 Function.BadChannel; }
test_misbehave_close() {
    start
    invoke -t close --timeout 2000
    case $code in
    6 | 7) expect_text "$DIR/errors" '"errorType":"Function.' ;;
    *) fail "invoke's exit code is $code" ;;
    esac
    next_works
}
test_misbehave_flood() {
    start
    invoke -t "flood 4096" --timeout 60000
    answered "flooded 65536 lines"
    [ "$(grep -c '^\[' "$DIR/errors")" -gt 0 ] || fail "none of the output arrived"
    next_works
}
test_function_own_error() {
    start
    invoke -t "fail 7"
    errored 6 Custom.Failure
    expect_text "$DIR/errors" '"errorMessage":"failed on request, number 7"'
    next_works
}
test_function_returns_failure() { deed "return 5" 6 Function.Error; }
test_largest_answer() {
    start
    invoke -t "answer 6291556" --timeout 60000
    expect "invoke's exit code" "$code" 0
    expect "bytes of the answer" "$(stat -c %s "$DIR/answer")" 6291556
    next_works
}
test_misbehave_many_in_a_row() {
    start
    for deed in crash "exit 1" garbage other crash; do
        invoke -t "$deed"
        expect "exit code of $deed" "$code" 6
    done
    next_works
}

test_logs_carry_the_request_id() {
    start
    invoke -t print --id request-77
    answered printed
    expect_text "$DIR/errors" "[request-77 stdout] to standard output"
    expect_text "$DIR/errors" "[request-77 stderr] to standard error"
    expect_text "$DIR/errors" "[request-77 stdout] without an end of line"
    invoke -t print --id request-78
    expect_no_text "$DIR/errors" request-77
    vm_stop
}

test_function_is_unprivileged() {
    start
    invoke -t whoami
    expect "invoke's exit code" "$code" 0
    expect_no_text "$DIR/answer" "uid=0 "
    expect_no_text "$DIR/answer" "gid=0 "
    expect_text "$DIR/answer" "groups=0 "
    expect_no_text "$DIR/answer" "cgroup=0::/ "
    vm_stop
}

init_mode() { # mode errorType
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$DATA/init-$1.erofs" --vsock "$VSOCK"
    invoke -t ok
    errored 6 "$2"
    # Told again, and the guest still there to tell it.
    invoke -t ok
    expect "the second invocation's exit code" "$code" 6
    vm_stop
}
test_exit_during_init() { init_mode exit Function.InitError; }
test_crash_during_init() { init_mode crash Function.InitError; }
test_failing_init() { init_mode fail Function.InitError; }

test_misbehave_no_way_out() {
    start
    invoke -t escape
    expect "invoke's exit code" "$code" 0
    expect "ways tried" "$(wc -l <"$DIR/answer")" 18
    expect_no_text "$DIR/answer" succeeded
    expect_text "$DIR/answer" "vsock: Address family not supported"
    next_works
}
