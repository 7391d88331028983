#!/bin/sh
# Debian's rngtest (FIPS 140-2 tests of random bytes), out of its package and not installed: the package brings a daemon.
#
# Usage: tests/support/rngtest.sh OUT      OUT: the program
set -eu
out=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
(cd "$work" && apt-get -q download rng-tools5 >apt.log 2>&1) || {
    apt-get -q update >"$work/apt.log" 2>&1 || true
    (cd "$work" && apt-get -q download rng-tools5 >apt.log 2>&1) || { cat "$work/apt.log" >&2; exit 1; }
}
dpkg-deb --fsys-tarfile "$work"/rng-tools5_*.deb | tar -xOf - ./usr/bin/rngtest >"$work/rngtest"
chmod 755 "$work/rngtest"
mkdir -p "$(dirname "$out")"
mv "$work/rngtest" "$out"
