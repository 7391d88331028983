# What the measuring scripts share: `build` is set, the working directory is the top of the tree.
# Sets hostvmm, kernel, image, count, stamp and dir; dir is removed, and $vm killed, at the end.
# shellcheck shell=sh disable=SC2034,SC2154
hostvmm=$build/hostvmm
kernel=${KERNEL:-build/kernel/vmlinux}
image=$build/images/hello.erofs
count=$build/kvmhost-count
stamp=$build/tests/bench/stamp
dir=$(mktemp -d /tmp/rekindle-bench.XXXXXX)
vm=
end() {
    [ -z "$vm" ] || kill -KILL "$vm" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT

fail() {
    echo "bench: $*" >&2
    for log in "$dir"/host "$dir"/errors; do [ ! -s "$log" ] || tail -n 20 "$log" >&2; done
    exit 1
}

minsn() { awk -v ns="$1" 'BEGIN { printf "%.3f", ns / 1e6 }'; }
median() { sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'; }
number() { sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$2"; }
# What the files take on disk.
disk_bytes() { stat -c '%b %B' "$@" | awk '{ sum += $1 * $2 } END { print sum }'; }

# Start hostvmm in the background, sets vm; wait until it says TEXT on standard error, which goes to $dir/host. A reader
# that waits costs nothing until there is something to read.
start() { # text command...
    text=$1
    shift
    rm -f "$dir/messages"
    mkfifo "$dir/messages"
    "$@" >/dev/null 2>"$dir/messages" </dev/null &
    vm=$!
    exec 3<"$dir/messages"
    said=
    while read -r line <&3; do
        echo "$line" >>"$dir/host"
        case $line in *"$text"*) said=yes; break ;; esac
    done
    [ -n "$said" ] || fail "'$text' was not said"
    cat <&3 >>"$dir/host" &
    exec 3<&-
}

stop() {
    kill -TERM "$vm"
    wait "$vm" || fail "the guest did not end in order"
    vm=
}

# A client's process, from its start to its end with the answer: instructions.
client_ns() { # event
    rm -f "$dir/client"
    "$count" --output "$dir/client" -- "$hostvmm" invoke --vsock "$dir/vm.sock" --event "$1" --wait 60000 \
        >/dev/null 2>"$dir/errors" || fail "an invocation failed"
    sed 's/^minsn=//' "$dir/client" | awk '{ printf "%.0f", $1 * 1e6 }'
}
