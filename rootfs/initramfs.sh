#!/bin/sh
# Make the initramfs: a newc cpio archive that holds one program as /init, the same bytes for the same program.
#
# Usage: rootfs/initramfs.sh PROGRAM OUT
set -eu
[ $# = 2 ] || { echo "usage: rootfs/initramfs.sh PROGRAM OUT" >&2; exit 2; }
[ -f "$1" ] || { echo "initramfs.sh: no program '$1'" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$1" "$work/init"
chmod 0755 "$work/init"
touch -d @0 "$work/init"
(cd "$work" && echo init | cpio --quiet -o -H newc --reproducible --owner 0:0) >"$2.tmp"
mv "$2.tmp" "$2"
