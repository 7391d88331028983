# init: every way a boot can go wrong ends in a message and a reason of its own, never in a hang or a kernel panic; so does
# every way an agent can behave. The images come from tests/support/init-data.sh, the agents from tests/guest/stand-in.c.

INIT_DATA=$DATA/init

# Boot with bootargs (words) and drives, see the exit code, and no panic whatever it was.
boot() { # code "bootargs" options of `run`...
    boot_code=$1
    boot_words=
    for word in $2; do boot_words="$boot_words --bootarg $word"; done
    shift 2
    # shellcheck disable=SC2086
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --initrd "$INITRD" $boot_words "$@"
    vm_end "$boot_code"
    expect_no_text "$DIR/console" "Kernel panic"
}
agent() { # code name "bootargs": a good image, an agent of that behaviour
    boot "$1" "agent=/function/$2 ${3:-}" --rootfs "$INIT_DATA/root.erofs"
}
says() { expect_text "$DIR/console" "$1"; }
quiet() { expect_no_text "$DIR/console" "init: "; }
contract_holds() {
    says "stand-in: ok controllers"
    expect_no_text "$DIR/console" "NOT OK"
    says "stand-in: ok the initramfs is out of reach"
}

# ---- the contract -----------------------------------------------------------------------------------------------------

test_init_hands_over_as_promised() {
    agent 0 inspect hostname=node-7
    contract_holds
    says "stand-in: host name node-7"
    quiet
}

test_init_boots_squashfs() {
    boot 0 agent=/function/halt --rootfs "$INIT_DATA/root.squashfs"
    quiet
}

# Without an initramfs: the kernel mounts the image, and starts the init in it.
straight() { # "bootargs"
    boot 0 "$1" --rootfs "$INIT_DATA/root.erofs" --cmdline "root=/dev/vda ro init=/sbin/init"
    quiet
}
test_init_starts_straight_from_the_image() {
    : >"$DIR/empty.cpio"
    (cd "$DIR" && echo empty.cpio | cpio --quiet -o -H newc >none.cpio)
    INITRD=$DIR/none.cpio
    straight agent=/function/inspect
    contract_holds
    straight "agent=/function/scribble overlay=none"
    says "/ is Read-only file system"
}

test_init_takes_the_root_from_the_drive_named() {
    boot 0 "root=vdb agent=/function/halt" --rootfs "$INIT_DATA/no-agent.erofs" --drive "$INIT_DATA/root.erofs,ro"
}

# ---- boot arguments ---------------------------------------------------------------------------------------------------

test_init_reports_bad_bootargs_and_ignores_them() {
    boot 0 agent=/function/inspect --rootfs "$INIT_DATA/root.erofs" \
        --cmdline "rekindle.hostname=-x- rekindle.colour=red rekindle.grace_ms=1h"
    says "ignored boot argument rekindle.hostname=-x-"
    says "ignored boot argument rekindle.colour=red: unknown key"
    says "ignored boot argument rekindle.grace_ms=1h"
    says "stand-in: host name rekindle"
}

# ---- roots that are none ----------------------------------------------------------------------------------------------

# As a second drive, because hostvmm looks at what is given as --rootfs and would not start.
root_refused() { # text image
    boot 11 root=vdb --rootfs "$INIT_DATA/root.erofs" --drive "$INIT_DATA/$2,ro"
    says "$1"
}
test_init_root_missing() {
    boot 11 ""
    says "init: error: no drive /dev/vda"
    boot 11 root=vdc --rootfs "$INIT_DATA/root.erofs"
    says "init: error: no drive /dev/vdc"
}
test_init_root_blank() { root_refused "drive /dev/vdb is blank" blank; }
test_init_root_no_file_system() { root_refused "drive /dev/vdb holds no file system known here" text; }
test_init_root_truncated() { root_refused "drive /dev/vdb is truncated" truncated; }
test_init_root_damaged() { root_refused "cannot mount /dev/vdb (erofs)" damaged; }
test_init_root_without_directories() {
    boot 13 "" --rootfs "$INIT_DATA/no-directories.erofs" # the overlay has room for them
    says "cannot start the agent"
    boot 15 overlay=none --rootfs "$INIT_DATA/no-directories.erofs"
    says "cannot move /proc into the image"
}

# ---- the writable layer -----------------------------------------------------------------------------------------------

test_init_overlay_in_memory() {
    agent 0 scribble
    says "/ is writable, 1 lines"
    agent 0 scribble
    says "/ is writable, 1 lines"
    quiet
}
test_init_overlay_none() {
    agent 0 scribble overlay=none
    says "/ is Read-only file system"
    quiet
}
layered() { # code drive
    boot "$1" "overlay=vdb agent=/function/scribble" --rootfs "$INIT_DATA/root.erofs" --drive "$2"
}
test_init_overlay_on_a_drive_is_kept_and_left_clean() {
    cp "$INIT_DATA/layer.ext4" "$DIR/layer"
    for lines in 1 2; do
        layered 0 "$DIR/layer"
        says "/ is writable, $lines lines"
        quiet
        # ext4's superblock: state at 1024+58 (1: clean), incompatible features at 1024+96 (bit 2: journal to replay).
        expect "the drive's state" "$(od -An -tu2 -j1082 -N2 "$DIR/layer" | tr -d ' ')" 1
        features=$(od -An -tu4 -j1120 -N4 "$DIR/layer" | tr -d ' ')
        expect "the drive's journal to replay" "$((features >> 2 & 1))" 0
    done
}
test_init_overlay_drive_refused() {
    layered 12 "$INIT_DATA/blank"
    says "drive /dev/vdb is blank"
    says "mkfs.ext4"
    layered 12 "$INIT_DATA/no-agent.erofs"
    says "cannot be the writable layer"
    layered 12 "$INIT_DATA/layer.ext4,ro"
    says "the drive is read-only"
    boot 12 overlay=vdc --rootfs "$INIT_DATA/root.erofs"
    says "no drive /dev/vdc"
}

# ---- agents that are none ---------------------------------------------------------------------------------------------

agent_refused() { # text name
    boot 13 "agent=/function/$2" --rootfs "$INIT_DATA/loose.erofs"
    says "$1"
}
test_init_agent_missing() {
    boot 13 "" --rootfs "$INIT_DATA/no-agent.erofs"
    says "cannot start the agent /sbin/agent"
}
test_init_agent_not_executable() { agent_refused "execute permission" not-executable; }
test_init_agent_not_elf() { agent_refused "no program for this processor" not-elf; }
test_init_agent_without_loader() { agent_refused "link it statically" dynamic; }

# ---- agents that misbehave --------------------------------------------------------------------------------------------

test_init_agent_crashes() {
    agent 14 crash agent_restarts=2
    says "killed by signal 11"
    says "giving up"
    expect "starts of the agent" "$(grep -c 'stand-in: attempt' "$DIR/console")" 3
}
test_init_agent_leaves() {
    agent 14 leave agent_restarts=0
    says "ended with exit code 7"
}
test_init_agent_refuses_the_handoff() {
    agent 14 refuse
    says "version 1 of the handoff"
}
test_init_agent_recovers() {
    agent 0 recover
    says "starting it again"
    says "last one's child is gone"
}
test_init_agent_ignores_term() {
    agent 0 stubborn grace_ms=100
    says "did not end within 100 ms"
    agent 0 crowd grace_ms=50
}
test_init_agent_chatters() {
    agent 0 chatter
    expect "complaints" "$(grep -c 'unknown word' "$DIR/console")" 1
}
test_init_agent_closes_its_end() {
    agent 0 silent # and halts by SIGTERM to PID 1
    says "stand-in: silent"
}
test_init_agent_halts_and_dies() {
    agent 0 last-word
    quiet
}
test_init_orphans_are_reaped() {
    agent 0 orphans
    says "stand-in: 0 orphans unreaped"
}
