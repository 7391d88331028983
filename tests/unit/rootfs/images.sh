#!/bin/sh
# rootfs/build.sh and rootfs/verify.sh on images good and bad; and initramfs.sh. Needs no VM, no root.
#
# Usage: BUILD=build tests/unit/rootfs/images.sh [NAME...]     prints `ok NAME` or `not ok NAME: why`
set -eu
cd "$(dirname "$0")/../../.."
tree=$(pwd)
build=${BUILD:-build}
build=$(cd "$build" && pwd)
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/images.XXXXXX")
chmod 755 "$work"
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
init=$build/init
program=$build/tests/guest/stand-in # any static program will do

fail() { echo "$*" >"$work/why"; return 1; }
built() { # output image, options...
    image=$1
    shift
    "$tree/rootfs/build.sh" --init "$init" --agent "$program" --out "$image" "$@" >"$work/log" 2>&1 ||
        fail "build.sh failed: $(tail -n 1 "$work/log")"
}
refused() { # text, options of build.sh
    text=$1
    shift
    rm -f "$work/refused.img"
    code=0
    "$tree/rootfs/build.sh" --init "$init" --agent "$program" --out "$work/refused.img" "$@" >"$work/log" 2>&1 || code=$?
    [ $code = 1 ] || fail "build.sh ended with $code, expected 1: $(tail -n 1 "$work/log")" || return 1
    grep -qF -- "$text" "$work/log" || fail "no '$text' in: $(tail -n 2 "$work/log" | tr '\n' ' ')" || return 1
    [ -z "$(find "$work" -maxdepth 1 -name 'refused.img*')" ] || fail "a refused image was left behind"
}
good() { # image
    "$tree/rootfs/verify.sh" "$1" >"$work/log" || fail "verify.sh: $(grep problem: "$work/log" | head -n 1)"
}
bad() { # image, problem...: exactly these problems are found
    image=$1
    shift
    code=0
    "$tree/rootfs/verify.sh" "$image" >"$work/log" 2>&1 || code=$?
    [ $code = 1 ] || fail "verify.sh ended with $code, expected 1" || return 1
    for problem in "$@"; do
        grep -qF -- "problem: $problem" "$work/log" ||
            fail "no 'problem: $problem' in: $(grep problem: "$work/log" | tr '\n' ';')" || return 1
    done
    [ "$(grep -c '^problem: ' "$work/log")" = $# ] || fail "more than $# problems: $(grep problem: "$work/log" | tr '\n' ';')"
}
pack() { # image directory: a tree as it is, unchecked
    case $1 in
    *.squashfs) mksquashfs "$2" "$1" -quiet -no-progress -all-root >/dev/null 2>&1 ;;
    *) mkfs.erofs --quiet -T0 --all-root "$1" "$2" >/dev/null 2>&1 ;;
    esac
}
fresh_tree() { # directory: a tree with nothing wrong
    chmod -R u+rwx "$1" 2>/dev/null || true
    rm -rf "$1"
    mkdir -p "$1/proc" "$1/sys" "$1/dev" "$1/run" "$1/tmp" "$1/sbin" "$1/function"
    cp "$init" "$1/sbin/init"
    cp "$program" "$1/sbin/agent"
    cp "$program" "$1/function/bootstrap"
}
other_machine() { # file: the same program, said to be for AArch64
    printf '\267\000' | dd of="$1" bs=1 seek=18 conv=notrunc 2>/dev/null
}

mkdir -p "$work/function/data"
cp "$program" "$work/function/bootstrap"
echo one >"$work/function/data/one"
echo two >"$work/function/data/two"

# ---- the bytes --------------------------------------------------------------------------------------------------------

# The same input, elsewhere: another directory made in another order on another file system, another umask, another time.
elsewhere() {
    other=$(mktemp -d /dev/shm/images.XXXXXX)
    (
        umask 077
        mkdir "$other/fn" "$other/fn/data"
        echo two >"$other/fn/data/two"
        cp "$work/function/bootstrap" "$other/fn/"
        echo one >"$other/fn/data/one"
        touch -d '2001-01-01' "$other/fn/data/one"
        cd "$other"
        TMPDIR=$other "$tree/rootfs/build.sh" --init "$init" --agent "$program" --base minimal --function fn --out img "$@"
    ) >"$work/log" 2>&1 || { rm -rf "$other"; fail "build.sh failed: $(tail -n 1 "$work/log")"; return 1; }
    cp "$other/img" "$work/elsewhere.img"
    rm -rf "$other"
}
the_same_input_makes_the_same_bytes() {
    for format in erofs squashfs; do
        built "$work/here.img" --base minimal --function "$work/function" --format $format && elsewhere --format $format &&
            { cmp -s "$work/here.img" "$work/elsewhere.img" || fail "$format images differ"; } || return 1
    done
}
other_content_makes_another_identity() {
    built "$work/here.img" --base minimal --function "$work/function" || return 1
    echo three >"$work/function/data/three"
    built "$work/other.img" --base minimal --function "$work/function" || return 1
    rm "$work/function/data/three"
    uuid=$(dump.erofs "$work/here.img" | sed -n 's/.*UUID: *//p')
    [ "$uuid" != "$(dump.erofs "$work/other.img" | sed -n 's/.*UUID: *//p')" ] || fail "two contents, one UUID: $uuid"
}
a_nobody_builds_the_same_bytes() {
    [ "$(id -u)" = 0 ] || { built "$work/here.img" --base minimal --function "$work/function"; return; }
    built "$work/here.img" --base minimal --function "$work/function" || return 1
    mkdir -m 777 -p "$work/nobody"
    cp "$init" "$work/nobody/init"
    cp "$program" "$work/nobody/agent"
    cp -R "$work/function" "$work/nobody/function"
    cp -R "$tree/rootfs" "$work/nobody/rootfs"
    chmod -R a+rX "$work/nobody"
    (cd "$work/nobody" && setpriv --reuid 65534 --regid 65534 --clear-groups rootfs/build.sh --init init --agent agent --base minimal \
        --function function --out img) >"$work/log" 2>&1 || fail "build.sh failed: $(tail -n 1 "$work/log")" || return 1
    cmp -s "$work/here.img" "$work/nobody/img" || fail "images differ" || return 1
    (cd "$work/nobody" && setpriv --reuid 65534 --regid 65534 --clear-groups rootfs/verify.sh img) >"$work/log" 2>&1 ||
        fail "verify.sh: $(tail -n 1 "$work/log")"
}
an_initramfs_is_the_same_each_time() {
    mkdir -p "$work/a" "$work/b"
    rootfs/initramfs.sh "$init" "$work/a/cpio"
    cp "$init" "$work/b/other-name"
    (umask 077 && rootfs/initramfs.sh "$work/b/other-name" "$work/b/cpio")
    cmp -s "$work/a/cpio" "$work/b/cpio" || fail "archives differ" || return 1
    listed=$(cpio -tv --numeric-uid-gid --quiet <"$work/a/cpio" 2>/dev/null | awk '{ print $1, $3, $4, $NF }')
    [ "$listed" = "-rwxr-xr-x 0 0 init" ] || fail "it holds '$listed'"
}
a_build_takes_seconds_at_most() {
    read -r before _ </proc/uptime
    built "$work/here.img" --base minimal --function "$work/function" || return 1
    read -r after _ </proc/uptime
    [ $((${after%.*} - ${before%.*})) -le 5 ] || fail "it took from $before to $after"
}

# ---- bases ------------------------------------------------------------------------------------------------------------

minimal_is_whole() {
    for format in erofs squashfs; do
        built "$work/here.img" --base minimal --function "$work/function" --format $format && good "$work/here.img" || return 1
    done
    fsck.erofs --extract="$work/out" "$work/here.img" >/dev/null 2>&1 || unsquashfs -q -n -d "$work/out" "$work/here.img" >/dev/null
    grep -q '^function:x:1000:1000:' "$work/out/etc/passwd" && grep -q '^127.0.0.1 localhost' "$work/out/etc/hosts" ||
        fail "no user or hosts" || return 1
    [ -f "$work/out/etc/machine-id" ] && [ ! -s "$work/out/etc/machine-id" ] || fail "/etc/machine-id is not an empty file" || return 1
    [ "$(readlink "$work/out/etc/resolv.conf")" = /run/resolv.conf ] || fail "/etc/resolv.conf leads elsewhere" || return 1
    [ "$(stat -c %a "$work/out/tmp")" = 1777 ] || fail "/tmp is $(stat -c %a "$work/out/tmp")" || return 1
    [ "$(cat "$work/out/function/data/two")" = two ] || fail "the function's files are not there"
}
base_with_everything() { # a directory that a base may well look like
    rm -rf "$work/base"
    mkdir -p "$work/base/usr/sbin" "$work/base/etc" "$work/base/dev" "$work/base/opt/deep"
    ln -s usr/sbin "$work/base/sbin"
    ln -s /etc/hostile "$work/base/usr/sbin/agent"
    echo data >"$work/base/opt/deep/data"
    ln "$work/base/opt/deep/data" "$work/base/opt/link"
    cp "$program" "$work/base/opt/su"
    chmod 4755 "$work/base/opt/su"
    : >"$work/base/opt/ünïcode name"
}
a_directory_is_a_base() {
    base_with_everything
    built "$work/dir.img" --base "$work/base" --function "$work/function" && good "$work/dir.img" || return 1
    grep -q . "$work/log"
    chmod -R u+rwx "$work/out" 2>/dev/null || true
    rm -rf "$work/out"
    fsck.erofs --extract="$work/out" "$work/dir.img" >/dev/null 2>&1
    [ -L "$work/out/sbin" ] && [ -f "$work/out/usr/sbin/agent" ] && [ ! -L "$work/out/usr/sbin/agent" ] ||
        fail "the agent is not where /sbin leads" || return 1
    [ "$(stat -c %i "$work/out/opt/link")" = "$(stat -c %i "$work/out/opt/deep/data")" ] ||
        cmp -s "$work/out/opt/link" "$work/out/opt/deep/data" || fail "the hard link is lost" || return 1
    [ -f "$work/out/opt/ünïcode name" ] || fail "a name got lost"
}
a_resolv_conf_is_always_there() {
    base_with_everything
    for kind in file dangling run; do
        rm -f "$work/base/etc/resolv.conf"
        mkdir -p "$work/base/run"
        case $kind in
        file) echo "nameserver 192.0.2.53" >"$work/base/etc/resolv.conf" ;;
        dangling) ln -s ../var/lib/stub-resolv.conf "$work/base/etc/resolv.conf" ;;
        run) ln -s ../run/stub-resolv.conf "$work/base/etc/resolv.conf" && echo >"$work/base/run/stub-resolv.conf" ;;
        esac
        built "$work/resolv.img" --base "$work/base" --function "$work/function" && good "$work/resolv.img" || return 1
        chmod -R u+rwx "$work/out" 2>/dev/null || true
        rm -rf "$work/out"
        fsck.erofs --extract="$work/out" "$work/resolv.img" >/dev/null 2>&1
        case $kind in
        file) grep -q 192.0.2.53 "$work/out/etc/resolv.conf" ;;
        *) [ "$(readlink "$work/out/etc/resolv.conf")" = /run/resolv.conf ] ;;
        esac || fail "$kind: /etc/resolv.conf is $(ls -l "$work/out/etc/resolv.conf")" || return 1
    done
}
setuid_bits_are_taken_off_with_a_word() {
    base_with_everything
    built "$work/dir.img" --base "$work/base" --function "$work/function" || return 1
    grep -q 'took the setuid and setgid bits off 1 files' "$work/log" || fail "no word about it" || return 1
    good "$work/dir.img"
}
every_archive_is_the_same_base() {
    base_with_everything
    built "$work/dir.img" --base "$work/base" --function "$work/function" || return 1
    tar -c -C "$work/base" -f "$work/base.tar" .
    gzip -k -f "$work/base.tar"
    zstd -q -f "$work/base.tar" -o "$work/base.tar.zst"
    xz -k -f "$work/base.tar"
    for archive in base.tar base.tar.gz base.tar.zst base.tar.xz; do
        built "$work/tar.img" --base "$work/$archive" --function "$work/function" || return 1
        cmp -s "$work/dir.img" "$work/tar.img" || fail "$archive makes another image" || return 1
    done
}
device_nodes_are_left_out_with_a_word() {
    # Written by hand: making a real node takes root, an archive of one does not.
    python3 - "$work/devices.tar" <<'PYTHON'
import sys, tarfile
with tarfile.open(sys.argv[1], "w", format=tarfile.GNU_FORMAT) as tar:
    for name, kind in (("dev", tarfile.DIRTYPE), ("dev/null", tarfile.CHRTYPE), ("dev/sda", tarfile.BLKTYPE)):
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.devmajor, member.devminor = kind, 0o755, 1, 3
        tar.addfile(member)
PYTHON
    built "$work/dev.img" --base "$work/devices.tar" --function "$work/function" || return 1
    grep -q 'left out device node dev/null' "$work/log" && grep -q 'left out device node dev/sda' "$work/log" ||
        fail "no word about it" || return 1
    good "$work/dev.img"
}
archive() { # file, python lines that add members
    python3 - "$1" <<PYTHON
import io, sys, tarfile
tar = tarfile.open(sys.argv[1], "w")
def add(name, data=b"", kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size, member.mode = kind, link, len(data), 0o755
    tar.addfile(member, io.BytesIO(data))
$2
tar.close()
PYTHON
}
archives_that_reach_outside_are_refused() {
    archive "$work/evil.tar" "add('a/../../../escaped', b'x')"
    refused "reaches outside itself" --base "$work/evil.tar" --function "$work/function" || return 1
    archive "$work/evil.tar" "add('way', kind=tarfile.SYMTYPE, link='$work'); add('way/escaped', b'x')"
    refused "cannot unpack base" --base "$work/evil.tar" --function "$work/function" || return 1
    # An absolute name stays inside.
    archive "$work/evil.tar" "add('$work/escaped', b'x')"
    built "$work/evil.img" --base "$work/evil.tar" --function "$work/function" || return 1
    [ ! -e "$work/escaped" ] || fail "a file was written outside"
}
symlinks_in_a_base_lead_nowhere_outside() {
    rm -rf "$work/base"
    mkdir -p "$work/base" "$work/outside"
    ln -s "$work/outside" "$work/base/sbin"
    ln -s "$work/outside/hosts" "$work/base/hosts"
    built "$work/link.img" --base "$work/base" --function "$work/function" && good "$work/link.img" || return 1
    [ -z "$(ls "$work/outside")" ] || fail "written outside: $(ls "$work/outside")"
}
archives_that_are_none_are_refused() {
    echo "no archive" >"$work/none.tar"
    refused "no tar archive" --base "$work/none.tar" --function "$work/function" || return 1
    : >"$work/none.tar"
    refused "no tar archive" --base "$work/none.tar" --function "$work/function" || return 1
    base_with_everything
    tar -cz -C "$work/base" -f "$work/whole.tar.gz" .
    head -c 5000 "$work/whole.tar.gz" >"$work/cut.tar.gz"
    refused "damaged" --base "$work/cut.tar.gz" --function "$work/function" || return 1
    refused "no base" --base "$work/nonexistent" --function "$work/function"
}
bombs_are_bounded() {
    # Zeros without end in a few KiB, and a sparse file that says it is 100 GiB.
    head -c 64M /dev/zero | zstd -q -1 >"$work/bomb.tar.zst"
    refused "larger than 16777216 bytes" --base "$work/bomb.tar.zst" --base-limit 16777216 --function "$work/function" || return 1
    truncate -s 100G "$work/sparse"
    tar -c --sparse -C "$work" -f "$work/sparse.tar" sparse
    rm "$work/sparse"
    refused "cannot unpack base" --base "$work/sparse.tar" --base-limit 16777216 --function "$work/function"
}

# ---- what is refused --------------------------------------------------------------------------------------------------

wrong_usage_ends_with_2() {
    for line in "" "--base minimal" "--base" "--frobnicate x" "--base minimal --function f --out o --format iso9660" \
        "--base minimal --function f --out o --packages p" "--base minimal --function f --out o --arch vax" \
        "--base minimal --function f --out o --base-limit 4G"; do
        code=0
        # shellcheck disable=SC2086
        rootfs/build.sh $line >"$work/log" 2>&1 || code=$?
        [ $code = 2 ] && grep -q 'build.sh: ' "$work/log" || fail "'$line' ended with $code: $(cat "$work/log")" || return 1
    done
    rootfs/build.sh --help | grep -q -- '--function DIR'
}
missing_parts_are_named() {
    refused "no init at" --base minimal --function "$work/function" --init "$work/nonexistent" || return 1
    refused "no agent at" --base minimal --function "$work/function" --agent "$work/nonexistent" || return 1
    refused "no function directory" --base minimal --function "$work/nonexistent" || return 1
    mkdir -p "$work/hollow"
    refused "/bootstrap'" --base minimal --function "$work/hollow" || return 1
    refused "cannot write to directory" --base minimal --function "$work/function" --out "$work/nonexistent/img" || return 1
    echo >"$work/hollow/bootstrap"
    chmod 644 "$work/hollow/bootstrap"
    refused "not executable" --base minimal --function "$work/hollow"
}
functions_that_cannot_start_are_refused() {
    rm -rf "$work/broken"
    mkdir "$work/broken"
    cp /bin/true "$work/broken/bootstrap"
    refused "dynamic binary without its loader: /function/bootstrap" --base minimal --function "$work/broken" || return 1
    printf '#!/bin/sh\necho\n' >"$work/broken/bootstrap"
    refused "no interpreter of /function/bootstrap: the image has no /bin/sh" --base minimal --function "$work/broken" || return 1
    cp -f "$program" "$work/broken/bootstrap"
    other_machine "$work/broken/bootstrap"
    refused "wrong architecture: /function/bootstrap" --base minimal --function "$work/broken" || return 1
    rm -rf "$work/base"
    mkdir -p "$work/base/function"
    refused "already holds /function" --base "$work/base" --function "$work/function"
}

# ---- what verify.sh finds ---------------------------------------------------------------------------------------------

every_problem_is_found() { # each in both formats
    for kind in erofs squashfs; do
        sick=$work/sick.$kind
        fresh_tree "$work/t"
        pack "$sick" "$work/t" && good "$sick" || return 1
        rm "$work/t/sbin/agent" && pack_again && bad "$sick" "no agent: the image has no /sbin/agent" || return 1
        rm "$work/t/sbin/init" && rmdir "$work/t/proc" && pack_again &&
            bad "$sick" "no init" "no agent" "no directory /proc" || return 1
        fresh_tree "$work/t" && cp -f /bin/true "$work/t/function/bootstrap" && pack_again &&
            bad "$sick" "dynamic binary without its loader: /function/bootstrap needs /lib" "missing library: /function/bootstrap needs libc.so.6" || return 1
        fresh_tree "$work/t" && cp -f /bin/true "$work/t/sbin/agent" && pack_again &&
            bad "$sick" "dynamic binary without its loader: /sbin/agent" "agent is not static" || return 1
        fresh_tree "$work/t" && other_machine "$work/t/sbin/agent" && pack_again &&
            bad "$sick" "wrong architecture: /sbin/agent is for AArch64, the image for x86_64" || return 1
        fresh_tree "$work/t" && cp "$program" "$work/t/su" && chmod 4755 "$work/t/su" && pack_again &&
            bad "$sick" "setuid or setgid file: /su" || return 1
        fresh_tree "$work/t" && chmod 644 "$work/t/function/bootstrap" && pack_again &&
            bad "$sick" "function not executable" || return 1
        fresh_tree "$work/t" && echo text >"$work/t/function/bootstrap" && chmod 755 "$work/t/function/bootstrap" && pack_again &&
            bad "$sick" "function cannot start" || return 1
        fresh_tree "$work/t" && ln -sf bootstrap "$work/t/function/bootstrap" && pack_again &&
            bad "$sick" "function: /function/bootstrap is a loop of symlinks" || return 1
    done
}
pack_again() { rm -f "$sick" && pack "$sick" "$work/t"; }
a_device_node_is_found() {
    # A node in a directory takes root; mksquashfs makes one up for anybody.
    fresh_tree "$work/t"
    mksquashfs "$work/t" "$work/node.squashfs" -quiet -no-progress -p 'null c 666 0 0 1 3' >/dev/null 2>&1
    bad "$work/node.squashfs" "device node: /null" || return 1
    [ "$(id -u)" = 0 ] && mknod "$work/t/null" c 1 3 2>/dev/null || return 0
    pack "$work/node.erofs" "$work/t"
    bad "$work/node.erofs" "device node: /null" || return 1
    code=0
    # A copy: the checkout may lie where only its owner looks (/root).
    cp -R "$tree/rootfs" "$work/scripts" && chmod -R a+rX "$work/scripts"
    (cd / && setpriv --reuid 65534 --regid 65534 --clear-groups "$work/scripts/verify.sh" "$work/node.erofs") >"$work/log" 2>&1 || code=$?
    [ $code = 1 ] && grep -q 'problem: device node: /null' "$work/log" || fail "not found without root"
}
images_that_are_none_are_refused() {
    built "$work/here.img" --base minimal --function "$work/function" || return 1
    built "$work/here.squashfs" --base minimal --function "$work/function" --format squashfs || return 1
    : >"$work/x.img" && bad "$work/x.img" "the image is empty" || return 1
    head -c 100 "$work/here.img" >"$work/x.img" && bad "$work/x.img" "the image is truncated, or no image" || return 1
    head -c 8192 "$work/here.img" >"$work/x.img" && bad "$work/x.img" "the image is truncated: erofs of" || return 1
    head -c 8192 "$work/here.squashfs" >"$work/x.img" && bad "$work/x.img" "the image is truncated: squashfs of" || return 1
    head -c 100000 /dev/zero >"$work/x.img" && bad "$work/x.img" "no file system known here" || return 1
    { head -c 1064 "$work/here.img" && head -c 1000000 /dev/zero; } >"$work/x.img" && bad "$work/x.img" "damaged erofs" || return 1
    { head -c 96 "$work/here.squashfs" && head -c 1000000 /dev/zero; } >"$work/x.img" &&
        bad "$work/x.img" "damaged squashfs" || return 1
    bad "$work/nonexistent.img" "no image" || return 1
    bad "$work" "'$work' is not a file"
}

# ---- Debian -----------------------------------------------------------------------------------------------------------

debian_runs_a_script() {
    rm -rf "$work/script"
    mkdir "$work/script"
    printf '#!/bin/sh\nexec busybox wc\n' >"$work/script/bootstrap"
    chmod 755 "$work/script/bootstrap"
    built "$work/debian.img" --base debian --packages busybox --function "$work/script" && good "$work/debian.img" || return 1
    built "$work/debian-again.img" --base debian --packages busybox --function "$work/script" || return 1
    cmp -s "$work/debian.img" "$work/debian-again.img" || fail "two builds differ" || return 1
    refused "mmdebstrap failed" --base debian --packages no-such-package-anywhere --function "$work/script"
}

all="the_same_input_makes_the_same_bytes other_content_makes_another_identity a_nobody_builds_the_same_bytes
    an_initramfs_is_the_same_each_time a_build_takes_seconds_at_most minimal_is_whole a_directory_is_a_base
    a_resolv_conf_is_always_there setuid_bits_are_taken_off_with_a_word every_archive_is_the_same_base device_nodes_are_left_out_with_a_word
    archives_that_reach_outside_are_refused symlinks_in_a_base_lead_nowhere_outside archives_that_are_none_are_refused
    bombs_are_bounded wrong_usage_ends_with_2 missing_parts_are_named functions_that_cannot_start_are_refused
    every_problem_is_found a_device_node_is_found images_that_are_none_are_refused debian_runs_a_script"
[ $# -gt 0 ] || set -- $all
failures=0
for name in "$@"; do
    : >"$work/why"
    if "$name"; then
        echo "ok rootfs: $name"
    else
        echo "not ok rootfs: $name: $(cat "$work/why")"
        failures=$((failures + 1))
    fi
done
[ $failures = 0 ]
