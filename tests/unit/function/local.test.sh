#!/bin/sh
# The examples and function-exec in local mode, on real text. Prints `ok NAME` and `not ok NAME: why` lines.
#
# Usage: local.test.sh [BUILD]
set -u
build=${1:-${BUILD:-build}}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

ok() { echo "ok $1"; }
not_ok() {
    echo "not ok $1: $2"
    bad=1
}
# NAME EXPECTED-CODE EXPECTED-OUTPUT EXPECTED-ERROR-PART COMMAND...: the event comes from $dir/event
check() {
    name=$1 code=$2 output=$3 error=$4
    shift 4
    got=0
    timeout 60 "$@" <"$dir/event" >"$dir/out" 2>"$dir/err" || got=$?
    if [ "$got" -ne "$code" ]; then
        not_ok "$name" "exit code $got, not $code: $(tail -n 1 "$dir/err")"
    elif [ "$output" != - ] && [ "$(cat "$dir/out")" != "$output" ]; then
        not_ok "$name" "answered '$(head -c 200 "$dir/out")', not '$output'"
    elif ! grep -qF -- "$error" "$dir/err"; then
        not_ok "$name" "standard error lacks '$error': $(tail -n 1 "$dir/err")"
    else
        ok "$name"
    fi
}
counts() { # as wordcount answers
    LC_ALL=C wc <"$1" | awk '{ printf "{\"lines\":%d,\"words\":%d,\"bytes\":%d}", $1, $2, $3 }'
}
function() { echo "$build/functions/$1/bootstrap"; }

printf 'world' >"$dir/event"
check identity-says-who 0 - '' "$(function identity)"
if grep -qE '^id [0-9a-f]{32}$' "$dir/out" && grep -qx 'generation 0' "$dir/out" && grep -qx 'event world' "$dir/out"; then
    ok identity-answers-in-lines
else
    not_ok identity-answers-in-lines "answered '$(head -c 300 "$dir/out")'"
fi
printf 'world\n' >"$dir/event"
check hello-greets 0 'Hello, world!' 'local mode' "$(function hello)"
: >"$dir/event"
check hello-of-nobody 0 'Hello!' '' "$(function hello)"
check keepalive-has-no-connections 1 '' 'upstream: REKINDLE_CONNECTIONS is not set: there is no manifest' "$(function keepalive)"
check wordcount-of-nothing 0 '{"lines":0,"words":0,"bytes":0}' '' "$(function wordcount)"
printf 'no end of line' >"$dir/event"
check wordcount-without-newline 0 '{"lines":0,"words":4,"bytes":14}' '' "$(function wordcount)"
gpl=/usr/share/common-licenses/GPL-3
[ -f "$gpl" ] || gpl=Makefile
cp "$gpl" "$dir/event"
check wordcount-equals-wc 0 "$(counts "$gpl")" '' "$(function wordcount)"
while cat "$gpl"; do :; done 2>/dev/null | head -c 6291556 >"$dir/big"
mv "$dir/big" "$dir/event"
check wordcount-of-the-largest-event 0 "$(counts "$dir/event")" '' "$(function wordcount)"
echo >>"$dir/event"
check event-too-large-is-refused 1 '' 'larger than 6291556 bytes' "$(function wordcount)"

printf 'fail 4' >"$dir/event"
check failure-is-lambda-json 1 '' '{"errorType":"Custom.Failure","errorMessage":"failed on request, number 4"}' \
    "$(function misbehave)"
printf 'return 9' >"$dir/event"
check return-code-is-an-error 1 '' '"errorType":"Function.Error","errorMessage":"handle returned 9"' "$(function misbehave)"
printf 'large' >"$dir/event"
check answer-too-large-is-refused 1 '' 'Function.ResponseSizeTooLarge' "$(function misbehave)"
cp "$(function misbehave)" "$dir/bootstrap"
echo fail >"$dir/init-mode"
check init-that-fails-ends-it 1 '' 'init returned 3' "$dir/bootstrap"
echo 'exit 42' >"$dir/init-mode"
check init-that-exits 42 '' '' "$dir/bootstrap"

exec_=$build/function-exec
printf 'shout\n' >"$dir/event"
check exec-answers-with-stdout 0 SHOUT '' "$exec_" tr a-z A-Z
# shellcheck disable=SC2016
check exec-tells-the-request 0 local '' "$exec_" sh -c 'echo "$REKINDLE_REQUEST_ID"'
check exec-error-has-end-of-stderr 1 '' '"errorMessage":"first\u000alast"' "$exec_" sh -c 'echo first >&2; echo last >&2; exit 3'
check exec-error-has-exit-code 1 '' '"errorMessage":"sh exited with code 7"' "$exec_" sh -c 'exit 7'
# shellcheck disable=SC2016
check exec-error-has-signal 1 '' 'sh was ended by signal 9' "$exec_" sh -c 'kill -9 $$'
check exec-of-nothing-fails-in-init 1 '' 'No such file or directory' "$exec_" "$dir/absent"
check exec-does-not-wait-for-descendants 0 done '' "$exec_" sh -c 'sleep 300 & echo $! >'"$dir"'/pid; echo done'
kill "$(cat "$dir/pid")" 2>/dev/null
check exec-answer-too-large 1 '' 'Function.ResponseSizeTooLarge' "$exec_" cat /dev/zero
cp "$exec_" "$dir/bootstrap"
printf '#!/bin/sh\ntr a-z A-Z\n' >"$dir/handler"
chmod +x "$dir/handler"
check exec-runs-the-handler-beside-it 0 SHOUT '' "$dir/bootstrap"
head -c 6000000 /dev/urandom >"$dir/event"
check exec-of-a-program-that-reads-nothing 0 '' '' "$exec_" true
timeout 60 "$exec_" cat <"$dir/event" >"$dir/out" 2>/dev/null
if cmp -s "$dir/event" "$dir/out"; then ok exec-passes-megabytes; else not_ok exec-passes-megabytes "they differ"; fi
exit $bad
