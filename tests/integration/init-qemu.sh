#!/bin/sh
# init on a real kernel, whoever makes the machine: QEMU's microvm (emulated, so it runs anywhere). Every way a boot can go
# wrong must end in a message and a reason code, never in a hang or a kernel panic; so must every way an agent can behave.
#
# Usage: BUILD=build KERNEL=build/kernel/vmlinux tests/integration/init-qemu.sh [NAME...]
# Prints `ok NAME` or `not ok NAME: why`; exit 1 when one failed. QEMU's isa-debug-exit device stands for the VMM's
# exit port: QEMU ends with 2 * reason + 1 at the moment init reports it.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
kernel=${KERNEL:-build/kernel/vmlinux}
PORT=0xf4
work=$(mktemp -d "${TMPDIR:-/tmp}/init-qemu.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0

image() { # name of the image, after $work/function was filled
    rootfs/build.sh --base minimal --function "$work/function" --init "$build/init" --agent "$build/tests/guest/stand-in" \
        --out "$work/$1" --format "${2:-erofs}" >/dev/null
}
prepare() {
    mkdir "$work/function"
    for name in halt crash leave refuse recover stubborn chatter silent orphans last-word crowd scribble inspect bootstrap; do
        cp "$build/tests/guest/stand-in" "$work/function/$name"
    done
    printf 'no program' >"$work/function/not-elf"
    cp "$work/function/halt" "$work/function/not-executable"
    image root.img
    image root.squashfs squashfs
    # What the builder refuses to make, for init to cope with.
    rm -rf "$work/bare" && mkdir -p "$work/bare/proc" "$work/bare/dev" "$work/bare/sys" "$work/bare/run" "$work/bare/tmp"
    mkfs.erofs --quiet -T0 --all-root "$work/no-agent.img" "$work/bare" >/dev/null 2>&1
    rm -rf "$work/bare" && mkdir -p "$work/bare/etc"
    mkfs.erofs --quiet -T0 --all-root "$work/no-directories.img" "$work/bare" >/dev/null 2>&1
    mkdir -p "$work/loose/function" "$work/loose/proc" "$work/loose/dev" "$work/loose/sys" "$work/loose/run" "$work/loose/tmp"
    cp "$work/function/not-elf" "$work/loose/function/not-elf"
    chmod 755 "$work/loose/function/not-elf"
    cp "$work/function/halt" "$work/loose/function/not-executable"
    chmod 644 "$work/loose/function/not-executable"
    cp /bin/true "$work/loose/function/dynamic"
    mkfs.erofs --quiet -T0 --all-root "$work/loose.img" "$work/loose" >/dev/null 2>&1
}

# boot EXIT-CODE BOOTARGS DRIVE[,options]...: start the guest, let it end, see how it ended.
boot() {
    wanted=$1 line=$2 n=0 code=0
    shift 2
    start="-initrd $build/initramfs.cpio"
    [ "${STRAIGHT:-}" = "" ] || start=
    drives=
    for drive in "$@"; do
        drives="$drives -drive id=d$n,file=$drive,format=raw,if=none -device virtio-blk-device,drive=d$n"
        n=$((n + 1))
    done
    # shellcheck disable=SC2086
    timeout -k 5 90 qemu-system-x86_64 -M microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=on -cpu max -m 128 -nographic \
        -no-reboot -nodefaults -serial file:"$work/console" -device isa-debug-exit,iobase=$PORT,iosize=1 \
        -kernel "$kernel" $start $drives \
        -append "console=ttyS0 reboot=t panic=-1 rekindle.exit_port=$PORT $line" </dev/null >"$work/qemu" 2>&1 || code=$?
    [ ! -s "$work/qemu" ] || { why="QEMU says: $(head -n 1 "$work/qemu")"; return 1; }
    ! grep -q 'Kernel panic' "$work/console" || { why="the kernel panicked"; return 1; }
    [ "$code" = $((2 * wanted + 1)) ] || {
        why="QEMU ended with $code, expected $((2 * wanted + 1)) (124: time-out): $(tail -n 2 "$work/console" | tr '\r\n' '  ')"
        return 1
    }
}
says() { # text on the console
    grep -qF -- "$1" "$work/console" || { why="the console does not say '$1': $(tail -n 3 "$work/console" | tr '\r\n' '  ')"; return 1; }
}
quiet() { # init has nothing to complain about
    ! grep -q '^init: ' "$work/console" || { why="init says: $(grep '^init: ' "$work/console" | head -n 1)"; return 1; }
}
agent() { # EXIT-CODE NAME [bootargs]
    boot "$1" "rekindle.agent=/function/$2 ${3:-}" "$work/root.img"
}

# ---- the contract ---------------------------------------------------------------------------------------------------
inspect() {
    agent 0 inspect rekindle.hostname=node-7 && says "stand-in: host name node-7" && says "ok loopback is up" &&
        says "ok the initramfs is out of reach" && quiet || return 1
    ! grep -q 'NOT OK' "$work/console" || { why=$(grep 'NOT OK' "$work/console" | tr '\r\n' '  '); return 1; }
}
squashfs() { boot 0 rekindle.agent=/function/halt "$work/root.squashfs" && quiet; }
straight_from_the_image() {
    STRAIGHT=1
    boot 0 "root=/dev/vda ro init=/sbin/init rekindle.agent=/function/inspect" "$work/root.img" && quiet &&
        says "ok overlay on /" && ! grep 'NOT OK' "$work/console"
}
straight_without_overlay() {
    STRAIGHT=1
    boot 0 "root=/dev/vda ro init=/sbin/init rekindle.overlay=none rekindle.agent=/function/scribble" "$work/root.img" &&
        quiet && says "/ is Read-only file system"
}
root_on_another_drive() { boot 0 "rekindle.root=vdb rekindle.agent=/function/halt" "$work/no-agent.img" "$work/root.img"; }

# ---- boot arguments -------------------------------------------------------------------------------------------------
bad_bootargs_are_reported_and_ignored() {
    agent 0 inspect "rekindle.hostname=-x- rekindle.colour=red rekindle.grace_ms=1h" &&
        says "ignored boot argument rekindle.hostname=-x-" && says "ignored boot argument rekindle.colour=red: unknown key" &&
        says "ignored boot argument rekindle.grace_ms=1h" && says "stand-in: host name rekindle"
}

# ---- roots that are none --------------------------------------------------------------------------------------------
root_missing() { boot 1 "" && says "init: error: no drive /dev/vda"; }
root_blank() {
    truncate -s 1M "$work/blank.img"
    boot 1 "" "$work/blank.img" && says "drive /dev/vda is blank"
}
root_is_no_file_system() {
    yes 'no file system' | head -c 1048576 >"$work/text.img"
    boot 1 "" "$work/text.img" && says "drive /dev/vda holds no file system known here"
}
root_truncated() {
    head -c 8192 "$work/root.img" >"$work/short.img"
    boot 1 "" "$work/short.img" && says "drive /dev/vda is truncated"
}
root_damaged() {
    { head -c 1028 "$work/root.img"; head -c 8000 /dev/zero; } >"$work/damaged.img"
    boot 1 "" "$work/damaged.img" && says "cannot mount /dev/vda (erofs)"
}
root_without_directories_is_completed_by_the_overlay() { boot 3 "" "$work/no-directories.img" && says "cannot start the agent"; }
root_without_directories_and_overlay() {
    boot 5 rekindle.overlay=none "$work/no-directories.img" && says "cannot move /proc into the image"
}

# ---- the writable layer ---------------------------------------------------------------------------------------------
overlay_in_memory() {
    agent 0 scribble && says "/ is writable, 1 lines" && agent 0 scribble && says "/ is writable, 1 lines" && quiet
}
overlay_none() { agent 0 scribble rekindle.overlay=none && says "/ is Read-only file system" && quiet; }
overlay_on_a_drive() {
    truncate -s 8M "$work/layer.img"
    mkfs.ext4 -q -F "$work/layer.img"
    for lines in 1 2; do
        boot 0 "rekindle.overlay=vdb rekindle.agent=/function/scribble" "$work/root.img" "$work/layer.img" &&
            says "/ is writable, $lines lines" && quiet || return 1
    done
    features=$(dumpe2fs -h "$work/layer.img" 2>/dev/null | sed -n 's/^Filesystem \(features\|state\)://p' | tr '\n' ' ')
    case $features in
    *needs_recovery*) why="the drive was not left clean: $features"; return 1 ;;
    esac
    e2fsck -fn "$work/layer.img" >/dev/null 2>&1 || { why="the drive's file system is damaged"; return 1; }
}
overlay_blank() {
    truncate -s 8M "$work/blank-layer.img"
    boot 2 rekindle.overlay=vdb "$work/root.img" "$work/blank-layer.img" && says "drive /dev/vdb is blank" && says "mkfs.ext4"
}
overlay_missing() { boot 2 rekindle.overlay=vdb "$work/root.img" && says "no drive /dev/vdb"; }
overlay_not_ext4() { boot 2 rekindle.overlay=vdb "$work/root.img" "$work/no-agent.img" && says "cannot be the writable layer"; }
overlay_read_only() {
    truncate -s 8M "$work/ro-layer.img"
    mkfs.ext4 -q -F "$work/ro-layer.img"
    boot 2 rekindle.overlay=vdb "$work/root.img" "$work/ro-layer.img,readonly=on" && says "the drive is read-only"
}

# ---- agents that are none -------------------------------------------------------------------------------------------
agent_missing() { boot 3 "" "$work/no-agent.img" && says "cannot start the agent /sbin/agent"; }
agent_not_executable() { boot 3 rekindle.agent=/function/not-executable "$work/loose.img" && says "execute permission"; }
agent_not_elf() { boot 3 rekindle.agent=/function/not-elf "$work/loose.img" && says "no program for this processor"; }
agent_without_loader() { boot 3 rekindle.agent=/function/dynamic "$work/loose.img" && says "link it statically"; }

# ---- agents that misbehave ------------------------------------------------------------------------------------------
agent_crashes() {
    agent 4 crash rekindle.agent_restarts=2 && says "attempt 2" && says "killed by signal 11" && says "giving up" || return 1
    [ "$(grep -c 'stand-in: attempt' "$work/console")" = 3 ] || { why="not started three times"; return 1; }
}
agent_leaves() { agent 4 leave rekindle.agent_restarts=0 && says "ended with exit code 7"; }
agent_refuses_the_handoff() { agent 4 refuse && says "version 1 of the handoff"; }
agent_recovers() { agent 0 recover && says "starting it again" && says "child is gone"; }
agent_ignores_term() { agent 0 stubborn rekindle.grace_ms=100 && says "did not end within 100 ms"; }
crowd_ignores_term() { agent 0 crowd rekindle.grace_ms=50; }
agent_chatters() {
    agent 0 chatter && says "unknown word" || return 1
    [ "$(grep -c 'unknown word' "$work/console")" = 1 ] || { why="the same complaint twice"; return 1; }
}
agent_closes_its_end() { agent 0 silent && says "stand-in: silent"; }
agent_halts_and_dies() { agent 0 last-word && quiet; }
orphans_are_reaped() { agent 0 orphans && says "stand-in: 0 orphans unreaped"; }

all="inspect squashfs straight_from_the_image straight_without_overlay root_on_another_drive
    bad_bootargs_are_reported_and_ignored root_missing root_blank root_is_no_file_system root_truncated root_damaged
    root_without_directories_is_completed_by_the_overlay root_without_directories_and_overlay
    overlay_in_memory overlay_none overlay_on_a_drive overlay_blank overlay_missing overlay_not_ext4 overlay_read_only
    agent_missing agent_not_executable agent_not_elf agent_without_loader
    agent_crashes agent_leaves agent_refuses_the_handoff agent_recovers agent_ignores_term crowd_ignores_term
    agent_chatters agent_closes_its_end agent_halts_and_dies orphans_are_reaped"

prepare
[ $# -gt 0 ] || set -- $all
for name in "$@"; do
    why=
    STRAIGHT=
    if "$name"; then
        echo "ok init: $name"
    else
        echo "not ok init: $name: ${why:-see above}"
        [ -z "${KEEP:-}" ] || cp "$work/console" "$KEEP/$name"
        failures=$((failures + 1))
    fi
done
[ $failures = 0 ]
