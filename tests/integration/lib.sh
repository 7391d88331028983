# What the integration tests share: starting VMs, invoking, and saying what was expected.
#
# BUILD and DIR (the test's scratch directory) are set by one.sh. A VM's console goes to $DIR/console, hostvmm's own messages to
# $DIR/host; an invocation's answer to $DIR/answer and the rest to $DIR/errors. Waiting is for a process to end or for
# `invoke --wait`; nothing sleeps to give something time.

HOSTVMM=$BUILD/hostvmm
KERNEL=${KERNEL:-build/kernel/vmlinux}
BZIMAGE=${BZIMAGE:-build/kernel/bzImage}
INITRD=$BUILD/initramfs.cpio
IMAGES=$BUILD/images
GUESTS=$BUILD/tests/guest
DATA=$BUILD/tests/data
VSOCK=$DIR/vm.sock
WAIT_MS=60000
vm=

fail() {
    echo "fail: $*"
    exit 1
}

expect() { # what got wanted
    [ "$2" = "$3" ] || fail "$1 is '$2', expected '$3'"
}

expect_text() { # file text: the file has a line with the text
    grep -qF -- "$2" "$1" || fail "no '$2' in ${1##*/}"
}

expect_no_text() { # file text
    ! grep -qF -- "$2" "$1" || fail "unexpected '$2' in ${1##*/}"
}

# ---- VMs --------------------------------------------------------------------------------------------------------------

# Run a command in the background as the test's VM: sets vm to its process. What the one before it wrote is gone when this returns:
# the command itself would empty the files only when it comes to run.
vm_background() {
    : >"$DIR/console" >"$DIR/host"
    "$@" >"$DIR/console" 2>"$DIR/host" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
}

# Start a VM with a function's image; more options of `run` may follow.
vm_start() { # image [options...]
    image=$1
    shift
    vm_background "$HOSTVMM" run --kernel "$KERNEL" --rootfs "$IMAGES/$image.erofs" --vsock "$VSOCK" "$@"
}

# Until a file has a line with the text; what writes it says when it is ready. 60 s at most.
await_text() { # file text
    turns=0
    until grep -qF -- "$2" "$1" 2>/dev/null; do
        turns=$((turns + 1))
        [ $turns -lt 600 ] || fail "no '$2' came in ${1##*/}"
        sleep 0.1
    done
}

# Wait for the VM to end by itself with this exit code.
vm_end() { # code
    code=0
    wait "$vm" || code=$?
    vm=
    expect "hostvmm's exit code" "$code" "$1"
}

# Ask for an orderly end, and see that it is one.
vm_stop() {
    kill -TERM "$vm"
    vm_end 0
}

# Run hostvmm to its end and see its exit code.
vm_run() { # code options of `run`...
    wanted=$1
    shift
    vm_background "$HOSTVMM" run "$@"
    vm_end "$wanted"
}

# A guest that runs one program as PID 1 and powers off.
guest_run() { # program [options...]
    program=$1
    shift
    vm_run 0 --kernel "$KERNEL" --initrd "$GUESTS/$program.cpio" "$@"
}

# ---- invocations ------------------------------------------------------------------------------------------------------

# Invoke with an event given as a file, or as text after `-t`; sets code.
invoke() { # file|-t text, [options...]
    if [ "$1" = -t ]; then
        printf '%s' "$2" >"$DIR/event"
        event=$DIR/event
        shift 2
    else
        event=$1
        shift
    fi
    code=0
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$event" --wait "$WAIT_MS" "$@" >"$DIR/answer" 2>"$DIR/errors" || code=$?
}

answered() { # expected answer, exactly
    expect "invoke's exit code" "$code" 0
    printf '%s' "$1" >"$DIR/wanted"
    cmp -s "$DIR/wanted" "$DIR/answer" || fail "the answer is '$(head -c 200 "$DIR/answer")', expected '$1'"
}

# The invocation failed with this error of Lambda's kind.
errored() { # exit-code errorType
    expect "invoke's exit code" "$code" "$1"
    expect_text "$DIR/errors" "\"errorType\":\"$2\""
    expect_text "$DIR/errors" '"errorMessage":"'
    [ ! -s "$DIR/answer" ] || fail "an answer came with the error"
}

# ---- snapshots and clones ---------------------------------------------------------------------------------------------

SNAP=$DIR/snap

# Boot a function's image, snapshot it when it is ready, end: into $SNAP, or where --out says. Sets code.
snapshot_make() { # image [options...]
    image=$1
    shift
    code=0
    "$HOSTVMM" snapshot --kernel "$KERNEL" --rootfs "$IMAGES/$image.erofs" --out "$SNAP" --console none "$@" \
        >"$DIR/console" 2>"$DIR/host.snapshot" </dev/null || code=$?
}

snapshot_made() { # image [options...]
    snapshot_make "$@"
    expect "the snapshot's exit code" "$code" 0
}

# Start a clone of $SNAP as the test's VM, at $VSOCK.
clone_start() { # [options...]
    vm_background "$HOSTVMM" restore --snapshot "$SNAP" --vsock "$VSOCK" "$@"
}

# A restore that must be refused with this code, its reason saying this.
clone_refused() { # code text [options...]
    wanted=$1
    text=$2
    shift 2
    clone_start --console none "$@"
    vm_end "$wanted"
    expect_text "$DIR/host" "$text"
}

# Ask the running VM for a snapshot through its control socket. Sets code; the answer's JSON is in $DIR/answer.
snapshot_ask() { # out [options...]
    out=$1
    shift
    code=0
    "$HOSTVMM" snapshot --control "$DIR/control.sock" --out "$out" --json "$@" >"$DIR/answer" 2>"$DIR/errors" || code=$?
}

snapshot_asked() { # out [options...]
    snapshot_ask "$@"
    expect "the snapshot's exit code" "$code" 0
}
