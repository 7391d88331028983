# Memory that goes back to the host, and comes back to the guest.
#
# limit-seconds: 240

IMAGES=$DATA
CONTROL=$DIR/control.sock
OPERATE=$BUILD/tests/guest/operate

# What a fresh guest's memory costs the host, in MiB: as much of its memfd as is no hole.
memfd_mib() {
    for fd in /proc/"$vm"/fd/*; do
        case $(readlink "$fd" || true) in
        *memfd:guest-memory*) echo $(($(stat -L -c %b "$fd") / 2048)) && return ;;
        esac
    done
    fail "no guest memory"
}

# What a clone's memory costs the host beside the snapshot's file, in MiB.
private_mib() {
    echo $(($(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$vm/status") / 1024))
}

# Wait until the number that a command prints is at most (at least) that.
until_number() { # command -le|-ge number
    tries=0
    until number=$($1) && test "$number" "$2" "$3"; do
        tries=$((tries + 1))
        [ "$tries" -le 200 ] || fail "$1 is still $number, expected $2 $3"
        sleep 0.1
    done
}

available_mib() {
    printf available >"$DIR/available"
    "$HOSTVMM" invoke --vsock "$VSOCK" --event "$DIR/available" --wait "$WAIT_MS"
}

# A small guest: each page that it touches costs an emulated host a millisecond when that is busy.
balloon_start() { # options of the balloon, further options...
    balloon=$1
    shift
    vm_start memory-function --console none --control "$CONTROL" --balloon "$balloon" "$@"
}

# The host has that much less, in MiB, than a command printed.
costs_less() { # command printed by
    until_number "$1" -le $(($2 - $3))
}

does() { # event answer
    invoke -t "$1"
    answered "$2"
}

operate() { # words...
    "$OPERATE" "$CONTROL" "$@" >"$DIR/operated" || fail "$*: $(cat "$DIR/operated")"
}

test_balloon_inflates_and_deflates() {
    balloon_start target=0
    does "touch 48" touched
    does "keep 4" kept
    touched=$(memfd_mib)
    [ "$touched" -ge 48 ] || fail "memory that nobody touched"
    before=$(available_mib)
    operate balloon target=84
    until_number available_mib -le $((before - 64)) # not all of it: the kernel counts what it keeps in reserve
    costs_less memfd_mib "$touched" 20 # what the balloon leaves is at most the rest of it
    does check "as it was"
    operate balloon target=0
    until_number available_mib -ge $((before - 8))
    does "keep 48" kept
    does check "as it was"
    vm_stop
}

test_balloon_is_there_from_the_start() {
    balloon_start target=64
    until_number available_mib -le 64
    vm_stop
}

test_balloon_deflates_before_a_process_dies() {
    balloon_start target=72,deflate-on-oom
    until_number available_mib -le 56
    does "keep 64" kept
    does check "as it was"
    vm_stop
}

# What the function freed is the host's again, and nobody asked for it.
test_balloon_reports_what_is_free() {
    balloon_start target=0,reporting
    does "keep 4" kept
    for round in 1 2; do
        does "touch 48" touched
        touched=$(memfd_mib)
        [ "$touched" -ge 48 ] || fail "memory that nobody touched, in round $round"
        costs_less memfd_mib "$touched" 24
    done
    does check "as it was"
    vm_stop
}

test_balloon_tells_statistics() {
    balloon_start target=0,stats=1
    does "keep 4" kept
    stat_mib() {
        operate balloon
        value=$(sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$DIR/operated")
        echo $((${value:-0} / 1048576))
    }
    free_mib() { stat_mib free_memory; }
    until_number free_mib -ge 60
    total=$(stat_mib total_memory)
    if [ "$total" -lt 96 ] || [ "$total" -gt 128 ]; then fail "a guest of 128 MiB says it has $total"; fi
    before=$(free_mib)
    does "keep 32" kept
    costs_less free_mib "$before" 24
    vm_stop
}

# A guest that is asked names what is free; it is given back, and what is in use is as it was.
test_balloon_hints_before_a_snapshot() {
    balloon_start target=0,hinting
    does "keep 8" kept
    does "touch 48" touched
    touched=$(memfd_mib)
    [ "$touched" -ge 48 ] || fail "memory that nobody touched"
    operate balloon hinting=start
    hinting_is_done() {
        operate balloon
        grep -c '"hinting":"done"' "$DIR/operated" || true
    }
    until_number hinting_is_done -ge 1
    costs_less memfd_mib "$touched" 24
    snapshot_asked "$SNAP"
    operate balloon hinting=stop
    does check "as it was"
    does "touch 48" touched
    vm_stop
    clone_start --console none --control "$CONTROL"
    does check "as it was"
    operate balloon hinting=stop
    does "touch 48" touched
    vm_stop
}

# A snapshot holds nothing of what was given away; its clone has the balloon, and gets its memory back from it.
test_balloon_of_a_clone() {
    balloon_start target=0
    does "keep 4" kept
    before=$(available_mib)
    operate balloon target=64
    until_number available_mib -le $((before - 56))
    snapshot_asked "$SNAP"
    vm_stop
    size=$(du -m "$SNAP/memory" | cut -f 1)
    [ "$size" -le 40 ] || fail "the snapshot has $size MiB"
    clone_start --console none --control "$CONTROL"
    does check "as it was"
    operate balloon target=0
    until_number available_mib -ge $((before - 8))
    does "touch 48" touched
    touched=$(private_mib)
    [ "$touched" -ge 48 ] || fail "memory that nobody touched"
    operate balloon target=84
    costs_less private_mib "$touched" 20
    does check "as it was"
    # What the clone gave away is gone from the snapshot's diff, too.
    snapshot_asked "$DIR/diff" --parent "$SNAP"
    vm_stop
    SNAP=$DIR/diff
    clone_start --console none --control "$CONTROL"
    does check "as it was"
    operate balloon target=0
    until_number available_mib -ge $((before - 8))
    does "keep 32" kept
    does check "as it was"
    vm_stop
}

test_balloon_reports_in_a_clone() {
    balloon_start target=0,reporting
    does "keep 4" kept
    snapshot_asked "$SNAP"
    vm_stop
    clone_start --console none
    does "touch 48" touched
    touched=$(private_mib)
    [ "$touched" -ge 48 ] || fail "memory that nobody touched"
    costs_less private_mib "$touched" 24
    does check "as it was"
    vm_stop
}

# ---- huge pages -------------------------------------------------------------------------------------------------------

huge_pages() { # name in /proc/meminfo
    sed -n "s/^HugePages_$1: *\([0-9]*\)/\1/p" /proc/meminfo
}

huge_free() {
    huge_pages Free
}

# Put as many aside as it takes, and give them back at the end.
huge_reserve() { # pages
    echo "$1" >/proc/sys/vm/nr_hugepages
    if [ "$(huge_pages Total)" -lt "$1" ]; then
        echo "skip: this host has no $1 huge pages"
        echo 0 >/proc/sys/vm/nr_hugepages
        exit 0
    fi
    trap 'echo 0 >/proc/sys/vm/nr_hugepages' EXIT
}

test_huge_pages_are_needed_first() {
    echo 0 >/proc/sys/vm/nr_hugepages
    vm_run 1 --kernel "$KERNEL" --rootfs "$IMAGES/memory-function.erofs" --memory 64 --huge-pages --console none
    expect_text "$DIR/host" "32 huge pages"
    expect_text "$DIR/host" "/proc/sys/vm/nr_hugepages"
}

test_huge_pages_hold_a_guest_and_come_back() {
    huge_reserve 64
    balloon_start target=0,reporting --huge-pages
    does "keep 8" kept
    used=$((64 - $(huge_pages Free)))
    does "touch 48" touched
    [ $((64 - $(huge_pages Free))) -ge $((used + 16)) ] || fail "no huge pages are used"
    before=$(available_mib)
    operate balloon target=64
    until_number huge_free -ge 24
    does check "as it was"
    operate balloon target=0
    until_number available_mib -ge $((before - 8))
    does "touch 48" touched
    snapshot_asked "$SNAP"
    does check "as it was"
    snapshot_asked "$DIR/diff" --parent "$SNAP"
    vm_stop
    expect "huge pages that are left behind" "$(huge_pages Free)" 64
    size=$(du -m "$SNAP/memory" | cut -f 1)
    [ "$size" -le 70 ] || fail "the snapshot has $size MiB"
    for SNAP in "$SNAP" "$DIR/diff"; do
        clone_start --console none
        does check "as it was"
        vm_stop
    done
}
