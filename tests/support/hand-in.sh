#!/bin/sh
# Print the options with which hostvmm/kvmhost/run hands in a build directory that lies outside the checkout; nothing for
# one inside it, which is visible anyway.
#
# Usage: tests/support/hand-in.sh BUILD
set -eu
cd "$(dirname "$0")/../.."
build=$(realpath "$1")
case $build/ in "$(pwd -P)"/*) exit 0 ;; esac
printf -- '--in'
for part in hostvmm init agent initramfs.cpio images kvmhost-count tests/guest tests/jail tests/bench tests/data tests/peers tests/tls-certs; do
    [ ! -e "$build/$part" ] || printf ' %s' "$build/$part"
done
