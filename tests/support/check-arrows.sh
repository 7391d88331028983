#!/bin/sh
# Include arrows equal data arrows: each room may include only what the table below allows; never backwards.
# Prints every forbidden include as FILE:LINE, exit 1 when there is one.
#
# Usage: tests/support/check-arrows.sh   (from the top of the tree)
set -eu

# room: allowed include prefixes (besides system headers). A room is the longest prefix of the file's path.
allowed_of() {
    case $1 in
    agent/base/*) echo 'agent/base/' ;;
    agent/proto/*) echo 'agent/proto/ agent/base/' ;;
    agent/function/*) echo 'agent/function/ agent/proto/ agent/base/' ;;
    agent/*) echo 'agent/' ;;
    init/*) echo 'init/ agent/handoff.h agent/base/' ;;
    hostvmm/device/*) echo 'hostvmm/device/ hostvmm/arch/ hostvmm/bus.h hostvmm/jail/jail.h hostvmm/listen.h hostvmm/memory.h hostvmm/snapshot/codec.h init/bootargs.h agent/base/' ;;
    hostvmm/boot/*) echo 'hostvmm/boot/ hostvmm/arch/ hostvmm/memory.h init/bootargs.h agent/base/' ;;
    hostvmm/control/*) echo 'hostvmm/control/ hostvmm/exit.h hostvmm/listen.h agent/proto/ agent/base/' ;;
    hostvmm/jail/*) echo 'hostvmm/jail/ hostvmm/exit.h hostvmm/kvm.h agent/base/' ;;
    hostvmm/kvmhost/*) echo 'hostvmm/kvmhost/ agent/base/' ;;
    hostvmm/*) echo 'hostvmm/ init/bootargs.h agent/proto/ agent/base/' ;;
    *) echo '' ;;
    esac
}

found=$(mktemp)
bad=0
files=$(git ls-files --cached --others --exclude-standard -- 'agent/*.[ch]' 'init/*.[ch]' 'hostvmm/*.[ch]' \
    'kernel-config/*.[ch]' 'rootfs/*.[ch]')
for file in $files; do
    allowed=$(allowed_of "$file")
    grep -n '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$file" >"$found" 2>/dev/null || continue
    while IFS= read -r line; do
        target=$(printf '%s\n' "$line" | sed 's/.*"\(.*\)".*/\1/')
        fits=no
        for prefix in $allowed; do
            case $target in
            "$prefix"*) fits=yes ;;
            esac
        done
        if [ $fits = no ]; then
            echo "$file:${line%%:*}: may not include \"$target\"; allowed here: $allowed" >&2
            bad=1
        fi
    done <"$found"
done
rm -f "$found"
[ $bad = 0 ] && echo "include arrows: $(echo "$files" | wc -w) files, none backwards"
exit $bad
