#!/bin/sh
# Run a command where VMs can run: here, when this machine's KVM can, else inside the emulated host.
#
# Usage: tests/support/with-kvm.sh [--build DIR] [--count] [--seconds N] -- COMMAND...
#   --count    always the emulated host, counting instructions
#   --seconds  time limit of the emulated host
# The command runs at the top of the tree, with its output passed on; the exit code is the command's.
set -eu
cd "$(dirname "$0")/../.."
build=build count= seconds=600
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --count) count=--count; shift ;;
    --seconds) seconds=$2; shift 2 ;;
    --) shift; break ;;
    *) echo "with-kvm.sh: unknown argument '$1'" >&2; exit 2 ;;
    esac
done
if [ -z "$count" ] && hostvmm/kvmhost/needed | grep -q "^direct:"; then
    exec timeout -k 5 "$seconds" "$@"
fi
exec hostvmm/kvmhost/run $count --build "$build" --seconds "$seconds" -- "$@"
