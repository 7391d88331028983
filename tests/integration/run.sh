#!/bin/sh
# Run the integration tests on a machine whose KVM works: this one, or the emulated host (tests/support/with-kvm.sh).
#
# Usage: tests/integration/run.sh BUILD [GLOBS [EXCEPT]]
#   GLOBS    only the tests whose name fits one of these shell patterns
#   EXCEPT   and fits none of these
#
# Each function `test_NAME` of a *.test.sh file is a test. It runs in a shell of its own (one.sh) with a scratch directory
# and a time limit, and prints `ok NAME` or `not ok NAME: why`. The processes it left behind are killed, by their number. A line
# `# limit-seconds: N` in a file sets another limit than the usual for its tests.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$1
match=${2:-*}
except=${3:-}
usual_limit_seconds=120

names_of() { sed -n 's/^test_\([a-z0-9_]*\)() .*/\1/p' "$1"; }

selected=
for file in tests/integration/*.test.sh; do
    for name in $(names_of "$file"); do
        set -f
        for pattern in $except; do
            # shellcheck disable=SC2254 # the pattern is meant as one
            case $name in $pattern) set +f && continue 2 ;; esac
        done
        for pattern in $match; do
            # shellcheck disable=SC2254 # the pattern is meant as one
            case $name in $pattern) selected="$selected $file:$name" && break ;; esac
        done
        set +f
    done
done
set -- $selected
echo "integration: $# tests"
echo "integration: to run:$(for test in "$@"; do printf ' %s' "${test##*:}"; done)"

now_ms() { read -r up _ </proc/uptime && echo "$((${up%.*} * 1000 + 1${up#*.} * 10 - 1000))"; }

show() { # label file: its last lines, indented; nothing when it is empty
    [ -s "$2" ] || return 0
    echo "    -- $1"
    tail -n 25 "$2" | tr -d '\r\000' | sed 's/^/    | /'
}

# What arrives on standard input only keeps an emulated host awake (tests/support/in-host.sh).
cat >/dev/null &
drain=$!

failed=0
for test in "$@"; do
    file=${test%%:*}
    name=${test##*:}
    dir=$(mktemp -d /tmp/rekindle-test.XXXXXX) || exit 2
    chmod 755 "$dir"
    : >"$dir/pids"
    limit_seconds=$(sed -n 's/^# limit-seconds: \([0-9]*\)$/\1/p' "$file")
    limit_seconds=${limit_seconds:-$usual_limit_seconds}
    start=$(now_ms)
    timeout -k 5 "$limit_seconds" sh tests/integration/one.sh "$build" "$file" "$name" "$dir" >"$dir/out" 2>&1 </dev/null
    code=$?
    took=$(($(now_ms) - start))
    while read -r pid; do kill -KILL "$pid" 2>/dev/null; done <"$dir/pids"
    if [ $code -eq 0 ]; then
        echo "ok $name ($took ms)"
    else
        failed=$((failed + 1))
        why=$(sed -n 's/^fail: //p' "$dir/out" | tail -n 1)
        case $code in
        124 | 137) why="no end within $limit_seconds s; ${why:-it did not say where}" ;;
        *) why=${why:-"exit code $code"} ;;
        esac
        echo "not ok $name: $why"
        show "the test" "$dir/out"
        for log in "$dir"/host* "$dir"/console* "$dir"/answer* "$dir"/errors*; do
            [ ! -f "$log" ] || show "${log##*/}" "$log"
        done
    fi
    rm -rf "$dir"
done
kill $drain 2>/dev/null
[ $failed -eq 0 ]
