#!/bin/sh
# Build a root file system image: base, runtime and function layers, read-only, the same bytes each time. README.md
# beside this file says what the layers are.
#
# Needs no root: nothing is mounted, every file in the image belongs to root, device nodes are left out (the guest's
# devtmpfs has them). Everything that differs between two runs of the same input is fixed: times are 0, names sorted,
# modes not touched by this shell's umask, the file system's UUID made from the content.
set -eu
umask 022
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tree.sh"

LIMIT_ENTRIES=500000 # of a base archive

usage() {
    cat <<'USAGE'
usage: rootfs/build.sh --base BASE --function DIR --out IMG [options]
  --base minimal       directories, users and nothing else: for static programs
  --base DIR|TAR       a directory, or a .tar, .tar.gz, .tar.zst or .tar.xz of one (docker export)
  --base debian        Debian packages of this machine's release, through mmdebstrap
  --packages A,B       more packages for --base debian
  --function DIR       becomes /function; DIR/bootstrap starts the function
  --out IMG            the image
  --init FILE          becomes /sbin/init    (default BUILD/init)
  --agent FILE         becomes /sbin/agent   (default BUILD/agent)
  --build DIR          BUILD                 (default build)
  --format erofs|squashfs                    (default erofs)
  --arch ARCH          the guest's processor (default this machine's)
  --base-limit BYTES   the most that a base archive may unpack to (default 4 GiB)
USAGE
}
die() { echo "build.sh: $*" >&2; exit 1; }
misuse() { echo "build.sh: $*; see rootfs/build.sh --help" >&2; exit 2; }
note() { echo "build.sh: $*" >&2; }

base= packages= function= out= init= agent= build=build format=erofs arch=$(uname -m) limit_bytes=$((4 << 30))
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage; exit 0 ;;
    --base | --packages | --function | --out | --init | --agent | --build | --format | --arch | --base-limit)
        [ $# -ge 2 ] || misuse "$1 wants a value"
        case $1 in
        --base) base=$2 ;; --packages) packages=$2 ;; --function) function=$2 ;; --out) out=$2 ;; --init) init=$2 ;;
        --agent) agent=$2 ;; --build) build=$2 ;; --format) format=$2 ;; --arch) arch=$2 ;; --base-limit) limit_bytes=$2 ;;
        esac
        shift 2
        ;;
    *) misuse "unknown argument '$1'" ;;
    esac
done
[ -n "$base" ] || misuse "--base is missing"
[ -n "$function" ] || misuse "--function is missing"
[ -n "$out" ] || misuse "--out is missing"
[ -z "$packages" ] || [ "$base" = debian ] || misuse "--packages goes with --base debian"
case $format in
erofs | squashfs) ;;
*) misuse "unknown format '$format': want erofs or squashfs" ;;
esac
case $limit_bytes in
'' | *[!0-9]* | ????????????????*) misuse "--base-limit wants a number of bytes, not '$limit_bytes'" ;;
esac
tree_arch_name "$arch" >/dev/null || misuse "unknown architecture '$arch': want x86_64 or aarch64"
: "${init:=$build/init}" "${agent:=$build/agent}"
[ -f "$init" ] || die "no init at '$init': build it with make, or name it with --init"
[ -f "$agent" ] || die "no agent at '$agent': build it with make, or name it with --agent"
[ -d "$function" ] || die "no function directory '$function'"
[ -f "$function/bootstrap" ] || die "no '$function/bootstrap': the function starts from that file"
[ -x "$function/bootstrap" ] || die "'$function/bootstrap' is not executable: chmod +x it"
out_directory=$(dirname "$out")
[ -d "$out_directory" ] && [ -w "$out_directory" ] || die "cannot write to directory '$out_directory'"
for tool in "mkfs.erofs erofs-utils" "mksquashfs squashfs-tools" "readelf binutils"; do
    case "$format:$tool" in
    erofs:mksquashfs* | squashfs:mkfs.erofs*) ;;
    *) command -v "${tool% *}" >/dev/null || die "no ${tool% *}: install the package ${tool#* }" ;;
    esac
done

work=$(mktemp -d "${TMPDIR:-/tmp}/rootfs.XXXXXX")
image=$out.tmp.$$
trap 'chmod -R u+rwx "$work" 2>/dev/null; rm -rf "$work" "$image"' EXIT
trap 'exit 1' HUP INT TERM
stage=$work/stage
mkdir -p "$stage"
chmod 0755 "$stage"

# copy_tree FROM TO: everything but devices and sockets, hard links kept.
copy_tree() {
    (cd "$1" && find . \( -type b -o -type c \) | sed 's/^\./left out device node /') >"$work/dropped"
    [ ! -s "$work/dropped" ] || while read -r line; do note "$line"; done <"$work/dropped"
    (cd "$1" && find . -mindepth 1 ! -type b ! -type c ! -type s -print0 | sort -z) >"$work/names"
    (cd "$1" && tar -c --format=posix --null --no-recursion -T "$work/names" -f "$work/copy.tar") ||
        die "cannot read all of '$1'"
    tar -x -p --no-same-owner -C "$2" -f "$work/copy.tar"
    rm -f "$work/copy.tar" "$work/names"
}

# unpack_archive TAR TO. The archive is a stranger's: bounded, inside TO, no devices.
unpack_archive() {
    case $(od -An -tx1 -N6 "$1" | tr -d ' \n') in
    1f8b*) unpacker="gzip -dc" ;;
    28b52ffd*) unpacker="zstd -dcq" ;;
    fd377a585a00) unpacker="xz -dc" ;;
    *) unpacker=cat ;;
    esac
    { $unpacker <"$1" || echo failed >"$work/unpack-failed"; } 2>/dev/null |
        head -c $((limit_bytes + 1)) >"$work/base.tar"
    [ "$(stat -c %s "$work/base.tar")" -le "$limit_bytes" ] ||
        die "base '$1' is larger than $limit_bytes bytes unpacked"
    [ ! -e "$work/unpack-failed" ] || die "base '$1' is damaged: $unpacker cannot unpack it"
    tar -t --quoting-style=escape -f "$work/base.tar" >"$work/list" 2>/dev/null && [ -s "$work/list" ] ||
        die "base '$1' is no tar archive, or is damaged"
    [ "$(wc -l <"$work/list")" -le "$LIMIT_ENTRIES" ] || die "base '$1' holds more than $LIMIT_ENTRIES files"
    bad=$(grep -E '(^|/)\.\.(/|$)' "$work/list" | head -n 1 || true)
    [ -z "$bad" ] || die "base '$1' reaches outside itself: '$bad'"
    tar -tv --numeric-owner --quoting-style=literal -f "$work/base.tar" |
        sed -n 's/^[bc][^ ]* *[^ ]* *[^ ]* *[^ ]* *[^ ]* //p' >"$work/devices"
    while read -r line; do note "left out device node $line"; done <"$work/devices"
    (
        ulimit -f $(((limit_bytes + 511) / 512)) # a sparse member may claim any size
        tar -x -p --no-same-owner --anchored --no-wildcards -X "$work/devices" -C "$2" -f "$work/base.tar" \
            2>"$work/errors"
    ) || die "cannot unpack base '$1': $(head -n 1 "$work/errors")"
    rm -f "$work/base.tar"
}

base_minimal() { # to
    mkdir -p "$1/etc"
    printf 'root:x:0:0:root:/root:/sbin/nologin\nfunction:x:1000:1000:function:/tmp:/sbin/nologin\n' >"$1/etc/passwd"
    printf 'root:x:0:\ntty:x:5:\nfunction:x:1000:\n' >"$1/etc/group"
    printf 'hosts: files dns\npasswd: files\ngroup: files\n' >"$1/etc/nsswitch.conf"
}

base_debian() { # to
    command -v mmdebstrap >/dev/null || {
        note "the Debian base needs mmdebstrap"
        "$here/../.setup/packages.sh" debian-base
    }
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ -n "$suite" ] || die "--base debian needs a Debian machine: /etc/os-release names no release"
    # This machine's own package sources, whichever of apt's two styles they are in.
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list >"$work/sources.list" 2>/dev/null || true
    set -- "$1" "$work/sources.list"
    for list in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$list" ] || set -- "$@" "$list"
    done
    tree=$1
    shift
    [ "$(id -u)" = 0 ] && mode=root || mode=unshare
    # apt alone is what mmdebstrap itself needs here: the image gets the packages, not their manager.
    SOURCE_DATE_EPOCH=0 mmdebstrap --quiet --mode="$mode" --variant="${ROOTFS_DEBIAN_VARIANT:-essential}" \
        ${packages:+--include="$packages"} --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$work/debian.tar" "$@" 2>"$work/errors" ||
        { tail -n 20 "$work/errors" >&2; die "mmdebstrap failed"; }
    unpack_archive "$work/debian.tar" "$tree" 2>/dev/null
    # What the packages' scripts leave behind that belongs to the machine or to the hour, not to the content.
    rm -rf "$tree"/var/log/* "$tree"/var/cache/* "$tree"/var/lib/apt/lists/* "$tree"/var/lib/dpkg/*-old \
        "$tree"/etc/machine-id "$tree"/etc/hostname "$tree"/etc/resolv.conf "$tree"/tmp/* "$tree"/run/*
}

case $base in
minimal) base_minimal "$stage" ;;
debian) base_debian "$stage" ;;
*)
    if [ -d "$base" ]; then
        copy_tree "$base" "$stage"
    elif [ -f "$base" ]; then
        unpack_archive "$base" "$stage"
    else
        die "no base '$base': want minimal, debian, a directory or a tar archive"
    fi
    ;;
esac

# The same tree whoever builds it: readable by its owner, nothing that gives away rights (the guest mounts nosuid).
find "$stage" -type d ! -perm -0700 -exec chmod u+rwx {} +
find "$stage" -type f ! -perm -0400 -exec chmod u+r {} +
stripped=$(find "$stage" -type f -perm /6000 | wc -l)
if [ "$stripped" -gt 0 ]; then
    note "took the setuid and setgid bits off $stripped files: the guest ignores them"
    find "$stage" -type f -perm /6000 -exec chmod ug-s {} +
fi

# place FILE PATH MODE: one file into the tree, over whatever a base has there, never outside the tree.
place() {
    directory=$(tree_resolve "$stage" "$(dirname "$2")") || die "the base's $2 is a loop of symlinks"
    mkdir -p "$directory" || die "the base's $(dirname "$2") is not a directory"
    target=$directory/$(basename "$2")
    [ ! -d "$target" ] || [ -L "$target" ] || die "the base's $2 is a directory"
    rm -f "$target"
    cp "$1" "$target"
    chmod "$3" "$target"
}
for point in $TREE_MOUNT_POINTS root etc; do
    [ -e "$stage/$point" ] || [ -L "$stage/$point" ] || mkdir -m 0755 "$stage/$point"
done
[ -L "$stage/tmp" ] || chmod 1777 "$stage/tmp"
hosts=$(tree_resolve "$stage" /etc/hosts) || die "the base's /etc/hosts is a loop of symlinks"
[ -s "$hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$work/hosts"
[ -s "$hosts" ] || place "$work/hosts" /etc/hosts 0644
# The agent makes it at run time, and mounts it over a file; where there is none, a link leads there.
resolv=$(tree_resolve "$stage" /etc/resolv.conf) || die "the base's /etc/resolv.conf is a loop of symlinks"
case $resolv in "$stage"/run/*) resolv= ;; esac # the guest's own /run lies over it
if [ ! -e "$resolv" ]; then
    etc=$(tree_resolve "$stage" /etc) || die "the base's /etc is a loop of symlinks"
    rm -f "$etc/resolv.conf"
    ln -s /run/resolv.conf "$etc/resolv.conf"
fi
# The agent mounts each clone's own over it; one that a base brings along would be every guest's.
: >"$work/machine-id"
place "$work/machine-id" /etc/machine-id 0444
place "$init" /sbin/init 0755
place "$agent" /sbin/agent 0755

[ ! -e "$stage/function" ] && [ ! -L "$stage/function" ] || die "the base already holds /function, where the function goes"
mkdir -m 0755 "$stage/function"
copy_tree "$function" "$stage/function"
# A checkout's umask must not show: readable to all, writable by root alone.
chmod -R u=rwX,go=rX "$stage/function"

tree_check "$stage" "$arch" >"$work/problems"
if [ -s "$work/problems" ]; then
    sed 's/^/build.sh: /' "$work/problems" >&2
    die "not built: a guest with this image would fail"
fi

# One stream that is the content, and nothing but.
digest=$(tar -c --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -C "$stage" . | sha256sum)
uuid=$(printf '%s\n' "$digest" | sed 's/^\(.\{8\}\)\(.\{4\}\).\(.\{3\}\).\(.\{3\}\)\(.\{12\}\).*/\1-\2-8\3-8\4-\5/')
case $format in
erofs)
    # Uncompressed: the guest's pages come straight from the drive, with no processor time and no buffers spent on
    # unpacking; the images of functions are small, and storage below may share or compress them.
    mkfs.erofs --quiet -T0 -x-1 -U"$uuid" --all-root "$image" "$stage" >"$work/errors" 2>&1
    ;;
squashfs)
    mksquashfs "$stage" "$image" -comp zstd -all-root -no-xattrs -mkfs-time 0 -all-time 0 -no-progress -quiet \
        -processors 1 >"$work/errors" 2>&1
    ;;
esac || die "cannot make the $format image: $(tail -n 1 "$work/errors")"
mv "$image" "$out"
echo "$out: $format, $(stat -c %s "$out") bytes, content ${digest%% *}"
