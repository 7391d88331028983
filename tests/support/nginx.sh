#!/bin/sh
# Fetch Debian's nginx through apt and take the program out of its package: nothing is installed, so nothing is started.
#
# Usage: tests/support/nginx.sh OUT
set -eu
out=$(realpath -m "$1")
command -v nginx >/dev/null && { cp "$(command -v nginx)" "$out"; exit 0; }
[ ! -x /usr/sbin/nginx ] || { cp /usr/sbin/nginx "$out"; exit 0; }
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
fetch() { apt-get -q download -o APT::Sandbox::User= nginx >log 2>&1; }
fetch || { apt-get -q update >log 2>&1 && fetch; } || {
    cat log >&2
    echo "nginx.sh: apt could not fetch nginx: run 'apt-get update' as root and try again" >&2
    exit 1
}
dpkg-deb -x nginx_*.deb files
mv files/usr/sbin/nginx "$out"
