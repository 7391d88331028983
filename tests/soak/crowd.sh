#!/bin/sh
# make soak-crowd: a crowd of VMs that are started, snapshotted, cloned, paused, asked and stopped at random, for a time.
# Afterwards nothing of them may be left: no process, file, mount or cgroup, no descriptor in what still ran.
#
# Usage: tests/soak/crowd.sh BUILD SECONDS [VMS [SEED]]
# Runs itself again with --inside where VMs can run. The same seed makes the same choices, though not at the same instants.
# The last line is `N passed, N failed`: operations.
set -eu
cd "$(dirname "$0")/../.."

if [ "${1:-}" != --inside ]; then
    exec env IN_HOST_OPTIONS="--memory 6144" tests/support/in-host.sh "$1" $(($2 + 900)) tests/soak/crowd.sh --inside "$@"
fi
shift

build=$1
seconds=$2
vms=${3:-64}
seed=${4:-1}
hostvmm=$build/hostvmm
kernel=${KERNEL:-build/kernel/vmlinux}
dir=$(mktemp -d /tmp/rekindle-crowd.XXXXXX)
workers=4 # operations under way at one time
mkdir "$dir/vms" "$dir/snaps" "$dir/log"
cat >/dev/null & # the pulse of an emulated host
drain=$!

# ---- what grows when something leaks ----

processes() { # all but the kernel's own, which come and go
    cat /proc/[0-9]*/status 2>/dev/null | awk '$1 == "PPid:" && $2 != 2 && $2 != 0 { count++ } END { print count }'
}
count() { # processes, mounts, cgroups, files outside of our directory, descriptors open in the machine
    echo "$(processes) $(wc -l </proc/mounts) $(find /sys/fs/cgroup -type d | wc -l)" \
        "$(find /tmp /run /dev/shm -xdev -not -path "$dir*" | wc -l) $(cut -f 1 /proc/sys/fs/file-nr)"
}

# ---- one VM: $dir/vms/N holds its socket, its process id and how many descriptors it had when it was new ----

fds_of() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }

# The process that has the VM: below a keeper, when there is one.
vm_of() { # pid
    child=$(cat "/proc/$1/task/$1/children" 2>/dev/null | tr -d ' ')
    echo "${child:-$1}"
}

asked() { # n: an event, answered
    printf again | "$hostvmm" invoke --vsock "$at/sock/vm" --event - --wait 60000 >"$at/answer" 2>>"$at/log" || return 1
    grep -q again "$at/answer"
}

begin() { # arguments of hostvmm...
    mkdir -p "$at/sock"
    chown 65534:65534 "$at/sock" # jailed, it makes its sockets there when it is nobody
    "$hostvmm" "$@" --vsock "$at/sock/vm" --control "$at/sock/control" --console none \
        --jail "dir=$at/sock" 9>&- </dev/null >"$at/out" 2>"$at/log" &
    echo $! >"$at/pid"
    asked || return 1
    fds_of "$(vm_of "$(cat "$at/pid")")" >"$at/fds"
}

op_start() {
    mkdir "$at"
    begin run --kernel "$kernel" --rootfs "$build/images/hello.erofs" --cpus $((1 + random / 7 % 2)) --memory 64
}

op_clone() { # from whichever snapshot is there; none: a start
    set -- "$dir"/snaps/?/state
    [ -f "$1" ] || { op_start; return; }
    shift $((random / 11 % $#))
    mkdir "$at"
    (
        flock -s 9 # none is exchanged while its files are opened
        begin restore --snapshot "${1%/state}" --resume-limit 120000
    ) 9>>"$dir/snaps.lock"
}

op_ask() { asked; }

op_snapshot() { # a jailed one writes where it may: beside its sockets; then it goes where clones look for it
    rm -rf "$at/sock/snap"
    "$hostvmm" snapshot --control "$at/sock/control" --out "$at/sock/snap" --wait 120000 >>"$at/log" 2>&1 || return 1
    # One of a few places; clones that have it open keep what they have.
    place=$dir/snaps/$((random / 13 % 4))
    (
        flock 9
        rm -rf "$place"
        mv "$at/sock/snap" "$place"
    ) 9>>"$dir/snaps.lock"
}

settled() { # no descriptor more than when it was new
    pid=$(vm_of "$(cat "$at/pid")")
    now=$(fds_of "$pid")
    [ "$now" -le "$(cat "$at/fds")" ] || { echo "descriptors: $(cat "$at/fds") when new, $now at the end" >>"$at/log"; return 1; }
}

ended() { # the process is gone; wait(1) is only for children of this very shell
    pid=$(cat "$at/pid")
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -le 600 ] || { echo "process $pid does not end" >>"$at/log"; return 1; }
        sleep 0.2
    done
    left=$(find "$at/sock" -type s | wc -l)
    [ "$1" = kill ] || [ "$left" -eq 0 ] || { echo "sockets left: $(ls "$at/sock")" >>"$at/log"; return 1; }
    rm -rf "$at"
}

op_stop() { settled && kill -TERM "$(cat "$at/pid")" && ended stop; }
op_kill() { kill -KILL "$(cat "$at/pid")" && ended kill; }

# ---- the crowd ----

# One operation on slot $1, in the background; its outcome is a line in a file.
work() { # slot operation random
    at=$dir/vms/$1
    random=$3
    if "op_$2"; then
        echo "ok $2" >>"$dir/done"
    else
        echo "not ok $2 of $1: $(tail -n 3 "$at/log" 2>/dev/null | tr '\n' ';')" | tee -a "$dir/done"
        [ ! -f "$at/pid" ] || kill -KILL "$(cat "$at/pid")" 2>/dev/null || true
        rm -rf "$at"
    fi
    rm -rf "$dir/busy.$1"
}

choose() { # slot random: what becomes of it
    if [ ! -d "$dir/vms/$1" ]; then
        [ $(($2 % 100)) -lt 30 ] && echo start || echo clone
        return
    fi
    case $(($2 % 100)) in
    [0-9] | [1-3][0-9]) echo ask ;;
    4[0-9]) echo snapshot ;;
    [5-8][0-9]) echo stop ;;
    *) echo kill ;;
    esac
}

alive() { echo "$dir"/vms/* | wc -w; }
wait_for_worker() {
    while [ "$(echo "$dir"/busy.* | wc -w)" -ge $workers ]; do sleep 0.05; done
}

: >"$dir/done"
before=$(count)
echo "crowd: before: processes, mounts, cgroups, files, open files: $before"
turn=0
while [ $turn -lt "$vms" ]; do # all of them first
    wait_for_worker
    mkdir "$dir/busy.$turn"
    work "$turn" start 0 &
    turn=$((turn + 1))
done
while [ -n "$(find "$dir" -maxdepth 1 -name 'busy.*')" ]; do sleep 0.2; done
most=$(alive)
turn=0
end=$(($(cut -d . -f 1 /proc/uptime) + seconds))
while [ "$(cut -d . -f 1 /proc/uptime)" -lt "$end" ]; do
    turn=$((turn + 1))
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    number=$((seed / 65536))
    slot=$((number % vms))
    wait_for_worker # a slot that is busy is passed over
    mkdir "$dir/busy.$slot" 2>/dev/null || continue
    work "$slot" "$(choose "$slot" $((number / vms)))" "$number" &
    alive=$(alive)
    [ "$alive" -le "$most" ] || most=$alive
    if [ $((turn % 100)) -eq 0 ]; then echo "crowd: $turn turns, $alive VMs: $(count)"; fi
done
while [ -n "$(find "$dir" -maxdepth 1 -name 'busy.*')" ]; do sleep 0.2; done
echo "crowd: at most $most VMs at one time; the end: all that are left are stopped"
for at in "$dir"/vms/*; do
    [ -d "$at" ] || continue
    mkdir "$dir/busy.${at##*/}"
    work "${at##*/}" stop 0
done
rm -rf "$dir/snaps"
# The cgroup of a VM whose keeper was killed goes when the next VM comes (JAIL.md): this one.
work last start 0
work last stop 0
# What ends, ends: but the kernel takes cgroups and descriptors back in its own time, which this waits for.
tries=0
while after=$(count) && [ $tries -lt 50 ]; do
    # shellcheck disable=SC2086
    set -- $before $after
    [ "$6" -gt "$1" ] || [ "$7" -gt "$2" ] || [ "$8" -gt "$3" ] || [ "$9" -gt "$4" ] || break
    tries=$((tries + 1))
    sleep 0.2
done
echo "crowd: after: $after"
passed=$(grep -c '^ok ' "$dir/done" || true)
failed=$(grep -c '^not ok ' "$dir/done" || true)
sed -n 's/^ok //p' "$dir/done" | sort | uniq -c | sed 's/^/crowd: /'
# shellcheck disable=SC2086
set -- $before $after
[ "$6" -le "$1" ] || { echo "not ok processes are left: $1, then $6"; failed=$((failed + 1)); }
[ "$7" -le "$2" ] || { echo "not ok mounts are left: $2, then $7"; failed=$((failed + 1)); }
[ "$8" -le "$3" ] || { echo "not ok cgroups are left: $3, then $8"; failed=$((failed + 1)); }
[ "$9" -le "$4" ] || { echo "not ok files are left: $4, then $9"; failed=$((failed + 1)); }
[ $((${10} - $5)) -le 64 ] || { echo "not ok open files: $5, then ${10}"; failed=$((failed + 1)); }
kill $drain 2>/dev/null || true
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
