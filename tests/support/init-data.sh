#!/bin/sh
# Make the images that tests/integration/init.test.sh boots: good ones, and what rootfs/build.sh would refuse to make.
#
# Usage: tests/support/init-data.sh BUILD OUT     BUILD has init and tests/guest/stand-in
set -eu
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/../.."
[ $# = 2 ] || { echo "usage: tests/support/init-data.sh BUILD OUT" >&2; exit 2; }
build=$1
out=$2
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/init-data.XXXXXX")
trap 'rm -rf "$work"' EXIT

# One program under many names: the name is what it does (tests/guest/stand-in.c).
mkdir "$work/function"
for name in halt crash leave refuse recover stubborn chatter silent orphans last-word crowd scribble inspect bootstrap; do
    ln "$build/tests/guest/stand-in" "$work/function/$name" 2>/dev/null ||
        cp "$build/tests/guest/stand-in" "$work/function/$name"
done
for format in erofs squashfs; do
    rootfs/build.sh --base minimal --function "$work/function" --init "$build/init" --agent "$build/tests/guest/stand-in" \
        --format $format --out "$out/root.$format" >/dev/null
done

tree() { # name: an empty tree with init's mount points
    mkdir -p "$work/$1/proc" "$work/$1/dev" "$work/$1/sys" "$work/$1/run" "$work/$1/tmp"
}
pack() { # name
    mkfs.erofs --quiet -T0 --all-root "$out/$1.erofs" "$work/$1" >/dev/null 2>&1
}
tree no-agent
pack no-agent
mkdir -p "$work/no-directories/etc"
pack no-directories
tree loose
mkdir "$work/loose/function"
printf 'no program' >"$work/loose/function/not-elf"
chmod 755 "$work/loose/function/not-elf"
cp "$build/tests/guest/stand-in" "$work/loose/function/not-executable"
chmod 644 "$work/loose/function/not-executable"
cp /bin/true "$work/loose/function/dynamic"
pack loose

truncate -s 1M "$out/blank"
yes 'no file system' | head -c 1048576 >"$out/text" || true
head -c 8192 "$out/root.erofs" >"$out/truncated"
{ head -c 1064 "$out/root.erofs"; head -c 1000000 /dev/zero; } >"$out/damaged"
truncate -s 8M "$out/layer.ext4"
mkfs.ext4 -q -F "$out/layer.ext4"
