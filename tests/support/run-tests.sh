#!/bin/sh
# Run every test and add them up. The last line is exactly `N passed, N failed`; exit 1 when any failed or none ran.
#
# Usage: tests/support/run-tests.sh --build DIR [--fuzz-seconds N] [--only unit|script|fuzz|integration]... [--match GLOBS] [--except GLOBS]
#   UNIT_TESTS, SCRIPT_TESTS, FUZZ_TARGETS   from the environment: the programs to run, as the Makefile lists them
#   --match   of the integration tests, only those whose name fits one of the shell patterns
#   --except  and fits none of these
#
# A unit test is a cmocka program: each of its tests counts. A script test and an integration test print `ok NAME` or
# `not ok NAME: why` lines. A fuzz target is one test: N seconds from its corpus without a finding. A program that crashes,
# hangs, or says it has more tests than it reports, has failed for those it owes.
set -eu
cd "$(dirname "$0")/../.."

build=build fuzz_seconds=60 only= match='*' except=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --fuzz-seconds) fuzz_seconds=$2; shift 2 ;;
    --only) only="$only $2"; shift 2 ;;
    --match) match=$2; shift 2 ;;
    --except) except=$2; shift 2 ;;
    *) echo "run-tests.sh: unknown argument '$1'" >&2; exit 2 ;;
    esac
done
# Of a build with SANITIZE=thread; others look for no such variable.
export TSAN_OPTIONS="suppressions=$PWD/tests/sanitize/thread.supp"
logs=$build/tests/logs
mkdir -p "$logs"
passed=0
failed=0

wanted() { case "$only " in ' ' | *" $1 "*) return 0 ;; esac; return 1; }
add() { # passed failed
    passed=$((passed + $1))
    failed=$((failed + $2))
}
count() { grep -c -- "$1" "$2" || true; }

unit() { # program
    name=${1#"$build"/tests/unit/}
    log=$logs/unit-$(echo "$name" | tr / -).log
    code=0
    timeout -k 5 300 "$1" >"$log" 2>&1 || code=$?
    promised=$(sed -n 's/^\[==========\] Running \([0-9]*\) test(s).*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
    good=$(count '^\[       OK \]' "$log")
    bad=$((promised - good))
    # A program that ends badly has failed in one thing at least, whatever its tests say (a leak found at its end).
    if [ "$bad" -le 0 ]; then
        bad=0
        if [ "$code" -ne 0 ] || [ "$promised" -eq 0 ]; then bad=1; fi
    fi
    add "$good" "$bad"
    if [ "$bad" -gt 0 ]; then
        echo "not ok unit $name: $good of $promised passed, exit code $code; $log ends:"
        grep -E '^\[  (ERROR|FAILED)|ERROR: |error:' "$log" | head -n 20 || true
        tail -n 5 "$log"
    else
        echo "ok unit $name: $good"
    fi
}

# Lines `ok ...` and `not ok ...` of a log, and one failure more when the program failed or said nothing.
add_lines() { # name log exit-code
    good=$(count '^ok ' "$2")
    bad=$(count '^not ok ' "$2")
    if [ "$bad" -eq 0 ] && { [ "$3" -ne 0 ] || [ "$good" -eq 0 ]; }; then
        echo "not ok $1: exit code $3 after $good passed and none failed; $2 ends:"
        tail -n 15 "$2"
        bad=1
    fi
    add "$good" "$bad"
}

script() { # program
    name=${1#tests/}
    log=$logs/script-$(echo "$name" | tr / -).log
    code=0
    BUILD=$build timeout -k 5 600 "$1" >"$log" 2>&1 || code=$?
    grep '^not ok ' "$log" || true
    add_lines "script $name" "$log" "$code"
    echo "script $name: $good passed, $bad failed"
}

# Three at a time: with two, a minute each for all of them takes longer than all the rest of the suite.
fuzz() { # names...
    log=$logs/fuzz.log
    tests/fuzz/run.sh --build "$build" --seconds "$fuzz_seconds" --jobs 3 "$@" | tee "$log" || true
    good=$(count '^ok fuzz ' "$log")
    add "$good" $(($# - good))
}

# The emulated host is killed when no test reports within this time, which is past any test's own limit.
silence_seconds=300

# One emulated host (or this machine) for as many tests as it lives for: appends to the log, sets code.
integration_once() { # globs except
    tests/support/in-host.sh "$build" 3000 tests/integration/run.sh "$build" "$1" "$2" >>"$log" 2>&1 &
    runner=$!
    tail -c +1 -f --pid=$runner "$log" &
    follower=$!
    (
        while kill -0 $runner 2>/dev/null; do
            age=$(($(date +%s) - $(stat -c %Y "$log")))
            if [ $age -gt $silence_seconds ]; then
                echo "integration: nothing reported for $age s: ending the host" >>"$log"
                kill -TERM $runner
                break
            fi
            sleep 5
        done
    ) &
    watcher=$!
    code=0
    wait $runner || code=$?
    wait $watcher $follower || true
}

# A part of the suite. Should the emulated host itself die or stop, the tests that have not reported run in a new one, once:
# what QEMU loses is not what is tested here. A test that is under way both times has failed.
integration() { # log globs except
    log=$1
    : >"$log"
    integration_once "$2" "$3"
    reported=$(sed -n 's/^ok \([a-z0-9_]*\) .*/\1/p; s/^not ok \([a-z0-9_]*\):.*/\1/p' "$log" | tr '\n' ' ')
    promised=$(sed -n 's/^integration: \([0-9]*\) tests$/\1/p' "$log" | head -n 1)
    # shellcheck disable=SC2086
    if [ "$(echo $reported | wc -w)" -lt "${promised:-0}" ]; then
        echo "integration: the host ended (exit code $code) with tests to go: they run in a new one"
        mv "$log" "$log.first"
        rest=$(sed -n 's/^integration: to run: //p' "$log.first" | tr ' ' '\n' | grep -vxF "$(echo $reported | tr ' ' '\n')" | tr '\n' ' ')
        : >"$log"
        integration_once "$rest" "$3"
        cat "$log.first" "$log" | grep -v '^integration: [0-9]* tests$' >"$log.both"
        { echo "integration: $promised tests" && cat "$log.both"; } >"$log"
        rm -f "$log.both"
    fi
    echo "$code" >"$log.code"
}

# Add a part's results up. The suite says how many it means to run: what is missing has failed.
integration_end() { # name log
    add_lines "$1" "$2" "$(cat "$2.code" 2>/dev/null || echo 255)"
    promised=$(sed -n 's/^integration: \([0-9]*\) tests$/\1/p' "$2" | tail -n 1)
    owed=$((${promised:-1} - good - bad))
    if [ "$owed" -gt 0 ]; then
        echo "not ok $1: $owed tests never reported; $2 has the rest"
        add 0 "$owed"
    fi
}

if wanted unit; then
    for program in ${UNIT_TESTS:-}; do unit "$program"; done
fi
if wanted script; then
    for program in ${SCRIPT_TESTS:-}; do script "$program"; done
fi
if wanted fuzz; then
    # shellcheck disable=SC2046
    fuzz $(for target in ${FUZZ_TARGETS:-}; do basename "$target"; done)
fi
# The whole suite in two parts, side by side: the long row of snapshots takes as long as all the rest.
if wanted integration; then
    rm -f "$logs"/integration*.code
    if [ "$match" = '*' ]; then
        # Two hosts side by side, each with about half of the work.
        half='instants_* api_* audit_* balloon_* huge_* jail_* misbehave_* smp_* tls_*'
        integration "$logs/integration-half.log" "$half" "$except" &
        integration "$logs/integration.log" '*' "$half $except"
        wait
        integration_end 'integration, one half' "$logs/integration-half.log"
    else
        integration "$logs/integration.log" "$match" "$except"
    fi
    [ -z "$except" ] || echo "integration: left out: $except"
    integration_end integration "$logs/integration.log"
fi

[ $((passed + failed)) -gt 0 ] || { echo "no test ran"; failed=1; }
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
