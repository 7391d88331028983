#!/bin/sh
# Run fuzz targets for a while each, several at a time, and say what came of it.
#
# Usage: tests/fuzz/run.sh --build DIR --seconds N [--jobs N] [--table] NAME...
#
# A target starts from the tree's corpus (tests/fuzz/corpus/NAME), which is only read, and from what earlier runs have found.
# What is new goes to DIR/tests/fuzz-work/NAME/corpus, inputs that break something to .../findings, the log to
# DIR/tests/logs/fuzz-NAME.log. An input is given 10 s and 2 GiB. For each target a line `ok fuzz NAME: ...` or `not ok fuzz
# NAME: ...`; with --table they come last, as a table. Exit code 1 when one has a finding.
set -eu
cd "$(dirname "$0")/../.."

build=build seconds=60 jobs=2 table= one=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    --table) table=yes; shift ;;
    --one) one=$2; shift 2 ;;
    -*) echo "fuzz/run.sh: unknown argument '$1'" >&2; exit 2 ;;
    *) break ;;
    esac
done

findings_of() { find "$1/findings" -type f | wc -l; }

# One target, in a process of its own: its result is a line in its work directory.
if [ -n "$one" ]; then
    work=$build/tests/fuzz-work/$one
    log=$build/tests/logs/fuzz-$one.log
    mkdir -p "$work/corpus" "$work/findings" "$build/tests/logs"
    seeds=tests/fuzz/corpus/$one
    [ -d "$seeds" ] || seeds=
    # What broke something once and does no more is a good input to begin with.
    for finding in "$work"/findings/*; do
        [ ! -f "$finding" ] || ! timeout -k 5 60 "$build/tests/fuzz/$one" "$finding" >/dev/null 2>&1 ||
            mv "$finding" "$work/corpus/"
    done
    code=0
    # shellcheck disable=SC2086
    timeout -k 5 $((seconds + 120)) "$build/tests/fuzz/$one" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$work/findings/" "$work/corpus" $seeds >"$log" 2>&1 || code=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    # One of an earlier run that still is one counts too.
    found=$(findings_of "$work")
    echo "$code ${runs:-0} ${edges:-0} $found" >"$work/result"
    [ -z "$table" ] || exit 0
    if [ "$code" -eq 0 ] && [ "${runs:-0}" -gt 0 ] && [ "$found" -eq 0 ]; then
        echo "ok fuzz $one: $runs runs, $edges edges"
    else
        echo "not ok fuzz $one: exit code $code after ${runs:-0} runs, findings in $work/findings: $found; $log ends:"
        tail -n 15 "$log"
    fi
    exit 0
fi

for name in "$@"; do rm -f "$build/tests/fuzz-work/$name/result"; done
# shellcheck disable=SC2086
printf '%s\n' "$@" | xargs -P "$jobs" -I NAME "$0" --build "$build" --seconds "$seconds" ${table:+--table} --one NAME

bad=0
[ -z "$table" ] || printf '%-16s %12s %10s %8s %9s\n' target runs runs/s edges findings
for name in "$@"; do
    code=255 runs=0 edges=0 found=0
    [ ! -f "$build/tests/fuzz-work/$name/result" ] || read -r code runs edges found <"$build/tests/fuzz-work/$name/result"
    if [ "$code" -ne 0 ] || [ "$runs" -eq 0 ] || [ "$found" -ne 0 ]; then bad=$((bad + 1)); fi
    [ -z "$table" ] || printf '%-16s %12s %10s %8s %9s%s\n' "$name" "$runs" $((runs / seconds)) "$edges" "$found" \
        "$([ "$code" -eq 0 ] || echo "  exit code $code: $build/tests/logs/fuzz-$name.log")"
done
[ -z "$table" ] || echo "$# targets, $seconds s each; with findings: $bad"
[ "$bad" -eq 0 ]
