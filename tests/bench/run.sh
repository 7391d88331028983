#!/bin/sh
# make bench: measure in the emulated host, where instructions are counted, and the host's side of a restore on this machine's
# own KVM, in microseconds; write BUILD/bench.json; print the table.
#
# Usage: tests/bench/run.sh BUILD     exit 0 when every bar is met
set -eu
cd "$(dirname "$0")/../.."
build=$1
out=$(realpath "$build")/bench
mkdir -p "$out"
processor=$(sed -n 's/^model name[[:space:]]*: *//p' /proc/cpuinfo | head -n 1)
{
    echo "date $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "commit $(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)"
    echo "machine $(uname -m), $(nproc) CPUs, ${processor:-unknown processor}"
    echo "mode count"
} >"$out/figures.tmp"
bars=$out/bars
cp tests/bench/bars.txt "$bars"
if [ -e /dev/kvm ]; then
    echo "bench: restoring the probe guest on this machine's own KVM"
    tests/bench/probe.sh "$build" >>"$out/figures.tmp"
else
    echo "bench: no /dev/kvm on this machine: the probe guest is not restored, and no bar asks for it"
    sed -i '/^restore_probe_/d' "$bars"
fi
echo "bench: measuring in the emulated host, counting instructions (some minutes)"
# shellcheck disable=SC2046
hostvmm/kvmhost/run --count --timeout 2400 --memory 4096 $(tests/support/hand-in.sh "$build") -- tests/bench/measure.sh "$build" >>"$out/figures.tmp"
mv "$out/figures.tmp" "$out/figures"
tests/bench/report.sh "$out/figures" "$bars" "$build/bench.json"
