#!/bin/sh
# Say what is inside a root file system image, and what is wrong with it.
#
# Usage: rootfs/verify.sh [--arch x86_64|aarch64] IMG
# Exit code 0 when nothing is wrong, 1 with one "problem: ..." line for each thing that is, 2 for wrong usage.
# Needs no root and mounts nothing: the image is unpacked into a temporary directory.
set -eu
umask 022
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tree.sh"

arch=$(uname -m)
if [ "${1:-}" = --arch ] && [ $# -ge 2 ]; then
    arch=$2
    shift 2
fi
[ $# = 1 ] || { echo "usage: rootfs/verify.sh [--arch x86_64|aarch64] IMG" >&2; exit 2; }
tree_arch_name "$arch" >/dev/null || { echo "verify.sh: unknown architecture '$arch'" >&2; exit 2; }
image=$1

command -v readelf >/dev/null || { echo "verify.sh: no readelf: install the package binutils" >&2; exit 2; }
refuse() { echo "problem: $*"; exit 1; }
[ -e "$image" ] || refuse "no image '$image'"
[ -f "$image" ] && [ -r "$image" ] || refuse "'$image' is not a file that can be read"

number() { # offset bytes: an unsigned little-endian number of the image
    od -An -v "-tu$2" "-j$1" "-N$2" "$image" | tr -d ' \n'
}
size=$(stat -c %s "$image")
[ "$size" -gt 0 ] || refuse "the image is empty"
[ "$size" -ge 4096 ] || refuse "the image is truncated, or no image at all: $size bytes"
# The same superblock fields that init reads: see init/image.h.
if [ "$(number 1024 4)" = 3774210530 ]; then
    format=erofs
    shift_bits=$(number 1036 1)
    [ "$shift_bits" -ge 9 ] && [ "$shift_bits" -le 16 ] || refuse "damaged erofs: blocks of 2^$shift_bits bytes"
    needed=$(($(number 1060 4) << shift_bits))
elif [ "$(number 0 4)" = 1936814952 ]; then
    format=squashfs
    needed=$(number 40 8)
elif [ "$(number 1080 2)" = 61267 ]; then
    refuse "the image is an ext4 file system: init boots it, but only erofs and squashfs can be verified"
else
    refuse "no file system known here: want erofs or squashfs"
fi
[ "$needed" -le "$size" ] || refuse "the image is truncated: $format of $needed bytes in a file of $size"

work=$(mktemp -d "${TMPDIR:-/tmp}/rootfs.XXXXXX")
trap 'chmod -R u+rwx "$work" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
tree=$work/tree
: >"$work/problems"
# Nodes of devices: as root they are unpacked and found in the tree; otherwise the tools name what they could not make.
case $format in
erofs)
    command -v fsck.erofs >/dev/null || { echo "verify.sh: no fsck.erofs: install the package erofs-utils" >&2; exit 2; }
    # fsck.erofs reports a wrong checksum and exits with 0: what it prints counts.
    fsck.erofs --extract="$tree" --no-preserve-owner --preserve-perms "$image" >"$work/log" 2>&1 && [ -d "$tree" ] &&
        ! grep -q '^<E>' "$work/log" || refuse "damaged erofs: $(sed -n 's/^<E> *//p' "$work/log" | head -n 1)"
    sed -n "s|.*failed to create special file: $tree\\(.*\\), skipped.*|device node: \\1|p" "$work/log" >>"$work/problems"
    ;;
squashfs)
    command -v unsquashfs >/dev/null ||
        { echo "verify.sh: no unsquashfs: install the package squashfs-tools" >&2; exit 2; }
    unsquashfs -lln "$image" >"$work/list" 2>"$work/log" || refuse "damaged squashfs: $(tail -n 1 "$work/log")"
    sed -n 's/^[bc]r[^ ]* *[^ ]* *[^ ]* *[^ ]* *[^ ]* *[^ ]* squashfs-root/device node: /p' "$work/list" \
        >>"$work/problems"
    # Exit code 2: all but what only root may make was unpacked.
    unsquashfs -no-progress -no-xattrs -d "$tree" "$image" >"$work/log" 2>&1 || [ $? = 2 ] ||
        refuse "damaged squashfs: $(tail -n 1 "$work/log")"
    find "$tree" \( -type b -o -type c \) -delete # listed already
    ;;
esac
find "$tree" -type d ! -perm -0700 -exec chmod u+rwx {} +
find "$tree" -type f ! -perm -0400 -exec chmod u+r {} +

count() { find "$tree" -mindepth 1 -type "$1" | wc -l; }
echo "image: $image"
echo "format: $format, $size bytes"
echo "files: $(count f) files, $(count d) directories, $(count l) symlinks"
echo "init: /sbin/init, $(tree_describe "$tree" /sbin/init)"
echo "agent: /sbin/agent, $(tree_describe "$tree" /sbin/agent)"
echo "function: /function/bootstrap, $(tree_describe "$tree" /function/bootstrap)"
tree_check "$tree" "$arch" >>"$work/problems"
if [ -s "$work/problems" ]; then
    sed 's/^/problem: /' "$work/problems"
    exit 1
fi
echo "nothing wrong found"
