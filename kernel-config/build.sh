#!/bin/sh
# Build the guest kernel from Linux's source and this directory's fragments.
#
# Usage: kernel-config/build.sh [--debug] [--arch ARCH] [--tree DIR] [-j N] --source TARBALL|DIRECTORY --out DIR
#   --source  Linux's source: a tarball (unpacked once into --tree) or a directory (used where it is; only patched)
#   --out     gets vmlinux (ELF with the PVH note, stripped), bzImage, config, System.map, build.log; objects in objects/
#   --tree    where a tarball is unpacked; default OUT/../linux-source. `make headers_install` may use it too
#   --debug   adds debug.config; give it an --out of its own
# Exit 0 built or nothing to do; 1 a step failed; 2 wrong use.
#
# Nothing is done when nothing changed: OUT/.inputs holds the digest of what the last good build was made of. The build is
# reproducible: names and times that would differ are fixed, and the objects' paths are not recorded.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

fail() { echo "kernel: $1" >&2; exit "${2:-1}"; }

arch=x86_64 debug= source= out= tree= jobs=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --debug) debug=1; shift; continue ;;
    --source | --out | --tree | --arch | -j) [ $# -ge 2 ] || fail "$1 needs a value" 2 ;;
    *) fail "unknown argument '$1'; usage: build.sh [--debug] [--arch ARCH] [--tree DIR] [-j N] --source TARBALL|DIRECTORY --out DIR" 2 ;;
    esac
    case $1 in
    --source) source=$2 ;;
    --out) out=$2 ;;
    --tree) tree=$2 ;;
    --arch) arch=$2 ;;
    -j) jobs=$2 ;;
    esac
    shift 2
done
[ -n "$source" ] && [ -n "$out" ] || fail "--source and --out are needed" 2
[ -e "$source" ] || fail "no Linux source at $source: install the package linux-source-6.12 or name another with --source" 2
case $jobs in '' | *[!0-9]* | 0) fail "-j needs a number above 0, not '$jobs'" 2 ;; esac
[ -f "$here/arch/$arch.config" ] || fail "no fragment for '$arch'; there is: $(cd "$here/arch" && echo ./*.config)" 2

fragments="$here/base.config $here/arch/$arch.config"
[ -z "$debug" ] || fragments="$fragments $here/debug.config"
mkdir -p "$out"
out=$(cd "$out" && pwd)
tree=${tree:-$(dirname "$out")/linux-source}

# One build at a time in OUT; a second one waits, then finds the work done.
exec 9>"$out/.lock"
flock -n 9 || { echo "kernel: waiting for another build in $out"; flock 9; }

# shellcheck disable=SC2086 # fragments is a list
inputs=$( (cat $fragments "$here/check.sh" "$here/build.sh" "$here/elf-pack.c" "$here"/patches/*.patch
    stat -L -c '%n %s %Y' "$source"; ${CC:-gcc} --version; echo "$arch $debug") | sha256sum)
if [ -f "$out/vmlinux" ] && [ -f "$out/bzImage" ] && [ "$(cat "$out/.inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
rm -f "$out/.inputs"

for tool in make "${CC:-gcc}" ld flex bison bc lz4 patch; do
    command -v "$tool" >/dev/null || fail "$tool is missing: install Debian's make gcc binutils flex bison bc lz4 patch libelf-dev"
done

# A tree holds our patches (a digest of them in .patched), none at all, or those of another day, which do not come off.
patches=$(cat "$here"/patches/*.patch | sha256sum)
patches_fit() { [ ! -f "$tree/.patched" ] || [ "$(cat "$tree/.patched")" = "$patches" ]; }

if [ -d "$source" ]; then
    tree=$(cd "$source" && pwd)
else
    mkdir -p "$tree"
    tree=$(cd "$tree" && pwd)
    (
        flock 8
        [ -f "$tree/.unpacked" ] && [ -f "$tree/Kconfig" ] && patches_fit && exit 0
        # Beside it, and put in its place whole: others look for their files in it meanwhile (headers_install).
        echo "kernel: unpacking $source into $tree"
        rm -rf "$tree.new" "$tree.old"
        mkdir "$tree.new"
        tar -xf "$source" -C "$tree.new" --strip-components=1 && touch "$tree.new/.unpacked" &&
            mv "$tree" "$tree.old" && mv "$tree.new" "$tree" && rm -rf "$tree.old"
    ) 8>"$tree.lock" || fail "could not unpack $source into $tree"
fi
[ -f "$tree/Kconfig" ] || fail "$tree is not a Linux source tree"
patches_fit || fail "$tree has other patches than kernel-config/patches; give a fresh tree"
if [ ! -f "$tree/.patched" ]; then
    for file in "$here"/patches/*.patch; do
        echo "kernel: applying $(basename "$file")"
        patch -d "$tree" -p1 -s --dry-run <"$file" && patch -d "$tree" -p1 -s <"$file" ||
            fail "$file does not apply to $tree (Linux 6.12 is wanted)"
    done
    printf '%s\n' "$patches" >"$tree/.patched"
fi
# Linux refuses to build outside a tree in which something was made in place. `headers_install` leaves no more than this.
case $arch in x86_64) srcarch=x86 ;; aarch64) srcarch=arm64 ;; *) srcarch=$arch ;; esac
if [ -e "$tree/.config" ] || [ -d "$tree/include/config" ] || [ -d "$tree/arch/$srcarch/include/generated" ]; then
    [ ! -d "$source" ] || fail "$source was built in place; run 'make mrproper' in it, or give the tarball"
    echo "kernel: cleaning $tree"
    make -s -C "$tree" ARCH=$srcarch mrproper >"$out/build.log" 2>&1 || fail "make mrproper failed, see $out/build.log"
fi

objects=$out/objects
mkdir -p "$objects"
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_USER=rekindle KBUILD_BUILD_HOST=rekindle LC_ALL=C
unset LOCALVERSION KCFLAGS KCPPFLAGS KBUILD_EXTRA_SYMBOLS 2>/dev/null || true
kernel_make() { make -C "$tree" O="$objects" ARCH=$srcarch "$@"; }

# tinyconfig is allnoconfig and six options, which the fragments decide for themselves. In the same pass: so that what nobody
# asks for is off, also below an option that we switch on.
# shellcheck disable=SC2086
cat $fragments >"$objects/fragments.tmp"
if ! cmp -s "$objects/fragments.tmp" "$objects/fragments" || [ ! -f "$objects/.config" ]; then
    kernel_make -s KCONFIG_ALLCONFIG="$objects/fragments.tmp" allnoconfig >"$out/build.log" 2>&1 ||
        fail "making the configuration failed, see $out/build.log"
    # shellcheck disable=SC2086
    "$here/check.sh" "$objects/.config" $fragments || fail "the configuration is not the one asked for (above)"
    mv "$objects/fragments.tmp" "$objects/fragments"
fi

echo "kernel: building for $arch${debug:+, debug}, $jobs jobs; some minutes from nothing; the whole output goes to $out/build.log"
rm -f "$objects/.status"
{
    # Not `$?` after it: a failure would end this part of the pipeline there, by set -e.
    if kernel_make -j "$jobs" vmlinux bzImage 2>&1; then echo 0 >"$objects/.status"; else echo 1 >"$objects/.status"; fi
} | awk -v log_file="$out/build.log" '
    { print > log_file }
    $1 == "CC" || $1 == "AS" { if (++count % 200 == 0) { printf "kernel: %d objects compiled, now %s\n", count, $2; fflush() } }
    $1 == "LD" && $2 == "vmlinux" { printf "kernel: %d objects compiled, linking\n", count; fflush() }
'
if [ "$(cat "$objects/.status")" != 0 ]; then
    tail -n 20 "$out/build.log" >&2
    fail "the build failed; the whole output is in $out/build.log"
fi

publish() { cp "$1" "$out/$2.tmp" && mv "$out/$2.tmp" "$out/$2"; } # a reader sees the old file or the new one
${CC:-gcc} -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror -o "$objects/elf-pack" "$here/elf-pack.c"
"$objects/elf-pack" "$objects/vmlinux" "$objects/vmlinux.packed"
publish "$objects/vmlinux.packed" vmlinux
publish "$objects/arch/$srcarch/boot/bzImage" bzImage
publish "$objects/System.map" System.map
publish "$objects/.config" config
printf '%s\n' "$inputs" >"$out/.inputs"
echo "kernel: vmlinux $(stat -c %s "$out/vmlinux") bytes, bzImage $(stat -c %s "$out/bzImage") bytes in $out"
