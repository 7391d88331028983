#!/bin/sh
# Time restores of the probe guest (probe.c) on this machine's own KVM, and print figures as lines `key value`.
#
# Usage: tests/bench/probe.sh BUILD [COUNT]
# Other work on the machine would be timed with it: the restores go first where they may, and the load is a figure, too.
set -eu
cd "$(dirname "$0")/../.."
build=$1
runs=${2:-300}
dir=$(mktemp -d "${TMPDIR:-/tmp}/rekindle-probe.XXXXXX")
run=$dir
[ ! -d /dev/shm ] || run=$(mktemp -d /dev/shm/rekindle-probe.XXXXXX)
trap 'rm -rf "$dir" "$run"' EXIT
first=
! chrt -f 1 true 2>/dev/null || first="chrt -f 1"
"$build/tests/bench/probe" make "$dir/snapshot" "$build/images/hello.erofs"
# shellcheck disable=SC2086
$first "$build/tests/bench/probe" time "$build/hostvmm" "$dir/snapshot" "$run" "$runs"
echo "restore_probe_load $(cut -d ' ' -f 1 /proc/loadavg)"
