#!/bin/sh
# make demo: a function in a microVM counts the GPL's lines, words and bytes; wc counts them too. Then another is snapshotted
# when it has initialised, and restored as several clones side by side, none of which is a twin. Then one that holds a TLS
# connection is (demo-connections.sh).
#
# Usage: tests/support/demo.sh BUILD            exit 0 when the counts are equal, the clones differ, and none lost its connection
# Runs itself again with --inside where VMs can run (hostvmm/kvmhost/run).
set -eu
cd "$(dirname "$0")/../.."
text=/usr/share/common-licenses/GPL-3

if [ "${1:-}" != --inside ]; then
    build=$1
    [ -f $text ] || { echo "demo: no $text here: install Debian's base-files" >&2; exit 1; }
    hostvmm/kvmhost/run --check | sed 's/^/demo: where: /'
    exec tests/support/in-host.sh "$build" 240 tests/support/demo.sh --inside "$build" \
        "$(wc -lwc <$text | awk '{ print $1, $2, $3 }')"
fi

build=$2
expected=$3
dir=$(mktemp -d /tmp/rekindle-demo.XXXXXX)
vm=
end() {
    [ -z "$vm" ] || kill -KILL "$vm" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT

echo "demo: hostvmm run --kernel build/kernel/vmlinux --rootfs build/images/wordcount.erofs --vsock vm.sock"
"$build/hostvmm" run --kernel "${KERNEL:-build/kernel/vmlinux}" --rootfs "$build/images/wordcount.erofs" --vsock "$dir/vm.sock" \
    --timeline "$dir/timeline" &
vm=$!
echo "demo: hostvmm invoke --vsock vm.sock --event $text"
"$build/hostvmm" invoke --vsock "$dir/vm.sock" --event $text --wait 60000 --json --out "$dir/answer" >"$dir/report" || {
    echo "demo: the invocation failed: $(cat "$dir/report")" >&2
    exit 1
}
kill -TERM "$vm"
code=0
wait "$vm" || code=$?
vm=
[ $code -eq 0 ] || { echo "demo: the guest did not shut down in order: exit code $code" >&2; exit 1; }

number() { sed -n "s/.*\"$1\": *\\([0-9]*\\).*/\\1/p" "$2" | head -n 1; }
ms() { awk -v value="${1:-0}" -v scale="$2" 'BEGIN { printf "%8.1f ms", value / scale }'; }
echo
echo "  stage                                       time"
echo "  hostvmm builds the VM                $(ms "$(number vmm_us "$dir/timeline")" 1000)"
echo "  the kernel boots to PID 1            $(ms "$(number kernel_us "$dir/timeline")" 1000)"
echo "  init mounts, starts the agent        $(ms "$(number init_us "$dir/timeline")" 1000)"
echo "  the agent listens                    $(ms "$(number agent_us "$dir/timeline")" 1000)"
echo "  the function initialises             $(ms "$(number function_us "$dir/timeline")" 1000)"
echo "  hostvmm's start to ready             $(ms "$(number ready_us "$dir/timeline")" 1000)"
echo "  the event and its answer             $(ms "$(number invoke_ns "$dir/report")" 1000000)"
echo
echo "  the function says  $(cat "$dir/answer")"
counts=$(tr -cs '0-9' ' ' <"$dir/answer" | sed 's/^ //;s/ $//')
echo "  wc says            $expected"
if [ "$counts" != "$expected" ]; then
    echo "demo: the counts differ" >&2
    exit 1
fi
echo "demo: equal"

# ---- clones ----
clones=4
echo
echo "demo: hostvmm snapshot --kernel build/kernel/vmlinux --rootfs build/images/identity.erofs --out snap"
"$build/hostvmm" snapshot --kernel "${KERNEL:-build/kernel/vmlinux}" --rootfs "$build/images/identity.erofs" --out "$dir/snap" \
    --console none --timeline "$dir/cold"
echo "demo: hostvmm restore --snapshot snap --clones $clones --vsock clone-%n.sock"
"$build/hostvmm" restore --snapshot "$dir/snap" --clones $clones --vsock "$dir/clone-%n.sock" --timeline "$dir/clone-%n" \
    --console none &
vm=$!
for n in $(seq $clones); do
    printf 'clone %s' "$n" >"$dir/event"
    "$build/hostvmm" invoke --vsock "$dir/clone-$n.sock" --event "$dir/event" --wait 60000 >"$dir/answer-$n" || {
        echo "demo: clone $n does not answer" >&2
        exit 1
    }
done
kill -TERM "$vm"
code=0
wait "$vm" || code=$?
vm=
[ $code -eq 0 ] || { echo "demo: the clones did not shut down in order: exit code $code" >&2; exit 1; }
field() { sed -n "s/^$1 //p" "$2"; }
echo
echo "  cold start to ready $(ms "$(number ready_us "$dir/cold")" 1000)"
echo
echo "  clone  restore to ready  the function's id                 its random bytes"
for n in $(seq $clones); do
    echo "  $n      $(ms "$(number ready_us "$dir/clone-$n")" 1000)       $(field id "$dir/answer-$n")  $(field random "$dir/answer-$n" | cut -c 1-32)..."
    { field id "$dir/answer-$n" && field random "$dir/answer-$n"; } >>"$dir/values"
done
twins=$(sort "$dir/values" | uniq -d)
[ -z "$twins" ] || { echo "demo: two clones share $twins" >&2; exit 1; }
echo "demo: no two are the same"

# A network of its own, for which it need not be root where users may make such a namespace.
rm -rf "$dir"
trap - EXIT
# shellcheck disable=SC2046
exec unshare $([ "$(id -u)" = 0 ] || echo -r) -n tests/support/demo-connections.sh "$build"
