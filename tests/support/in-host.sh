#!/bin/sh
# Run a command where VMs can run: on this machine, or in the emulated host with the build directory handed in.
#
# Usage: tests/support/in-host.sh BUILD SECONDS COMMAND...     the exit code is the command's; SECONDS is a time limit
#   IN_HOST_OPTIONS   from the environment: more options of hostvmm/kvmhost/run, such as "--memory 4096"
#
# While the command runs, a line a second arrives on its standard input, which it may ignore. The emulated host needs
# that: QEMU 7.2 can lose a timer's interrupt when a nested guest exits at that very moment (its processor thread and its
# timer thread change one word without a lock), and then the host's kernel sleeps for ever, unless something else
# interrupts it.
set -u
cd "$(dirname "$0")/../.." || exit 125
build=$1
seconds=$2
shift 2
pipe=$(mktemp -u /tmp/rekindle-pulse.XXXXXX)
mkfifo -m 600 "$pipe" || exit 125
# Opened for both, so that neither end waits for the other to open, nor dies of its end.
exec 3<>"$pipe"
rm -f "$pipe"
# shellcheck disable=SC2046,SC2086
hostvmm/kvmhost/run ${IN_HOST_OPTIONS:-} --timeout "$seconds" $(tests/support/hand-in.sh "$build") -- "$@" <&3 3<&- &
runner=$!
trap 'kill -TERM $runner 2>/dev/null' INT TERM HUP
while kill -0 $runner 2>/dev/null; do
    echo >&3
    sleep 1
done
wait $runner
