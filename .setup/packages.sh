#!/bin/sh
# Install the Debian packages that are missing, saying which and why. Quiet and offline when all are there.
#
# Usage: .setup/packages.sh build|test|kvmhost|debian-base|proof ...
# Runs apt-get as root, or through sudo.
set -eu
here=$(dirname "$0")
. "$here/versions"

missing_of() { # packages... -> those that dpkg does not know as installed
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || printf '%s ' "$package"
    done
}

missing=
for set in "$@"; do
    case $set in
    build) packages="$PACKAGES_BUILD $LINUX_PACKAGE" why="to build the kernel and the programs" ;;
    test) packages=$PACKAGES_TEST why="to run the tests and checks" ;;
    kvmhost) packages=$PACKAGES_KVMHOST why="to emulate a KVM host, as this machine has no hardware virtualisation" ;;
    debian-base) packages=$PACKAGES_DEBIAN_BASE why="to build images on a Debian base" ;;
    proof) packages=$PACKAGES_PROOF why="to prove what tests/proof states" ;;
    *) echo "packages.sh: unknown set '$set': use build, test, kvmhost, debian-base or proof" >&2; exit 2 ;;
    esac
    # shellcheck disable=SC2086 # word splitting is wanted: a list of package names
    lacking=$(missing_of $packages)
    if [ -n "$lacking" ]; then
        echo "set-up: installing, $why: $lacking"
        missing="$missing $lacking"
    fi
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || {
    echo "set-up: no apt-get here: this is not a Debian machine; install by hand:$missing" >&2
    exit 1
}
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "set-up: need root to install packages; run as root, or install sudo, or install by hand:$missing" >&2
    exit 1
fi
# shellcheck disable=SC2086
{
    $as_root apt-get -q update
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing
}
