#!/bin/sh
# kernel-config/check.sh, build.sh and elf-pack on good input and bad. Builds no kernel, needs no VM, no root.
#
# Usage: tests/unit/kernel-config/check.sh     prints `ok NAME` or `not ok NAME: why`
set -eu
cd "$(dirname "$0")/../../.."
tree=$(pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kernel-config.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp -R "$tree/kernel-config" "$work/copy"
cd "$work/copy"
fragments="base.config arch/x86_64.config"

# Run a command that must end with CODE and say TEXT.
says() { # code text command...
    code=$1 text=$2
    shift 2
    got=0
    "$@" >"$work/log" 2>&1 || got=$?
    [ "$got" = "$code" ] || { echo "ended with $got, not $code: $(tail -n 1 "$work/log")" >"$work/why"; return 1; }
    [ -z "$text" ] || grep -qF -- "$text" "$work/log" || { echo "no '$text' in: $(tail -n 2 "$work/log" | tr '\n' ' ')" >"$work/why"; return 1; }
}
# shellcheck disable=SC2086
check() { says "$1" "$2" ./check.sh "$3" $fragments; }
restore() { cp -R "$tree/kernel-config/." .; cat base.config arch/x86_64.config >"$work/config"; }

test_every_option_is_explained() { says 0 '' ./check.sh - base.config arch/x86_64.config debug.config; }
test_good_configuration_passes() { check 0 '' "$work/config"; }
test_lost_option_is_named() {
    sed -i '/^CONFIG_VMGENID=/d' "$work/config"
    check 1 'VMGENID was asked to be y, yet it is n' "$work/config"
}
test_changed_value_is_named() {
    sed -i 's/^CONFIG_NR_CPUS=.*/CONFIG_NR_CPUS=8/' "$work/config"
    check 1 'NR_CPUS was asked to be 32, yet it is 8' "$work/config"
}
test_option_switched_back_on_is_named() {
    sed -i 's/^# CONFIG_PCI is not set/CONFIG_PCI=y/' "$work/config"
    check 1 'PCI was switched off, yet it is y' "$work/config"
}
test_all_faults_are_named() {
    sed -i '/^CONFIG_VMGENID=/d; /^CONFIG_EROFS_FS=/d' "$work/config"
    check 1 'VMGENID' "$work/config" && check 1 'EROFS_FS was asked' "$work/config"
}
test_unexplained_option() {
    echo CONFIG_NOBODY_EXPLAINS=y >>base.config
    says 1 'NOBODY_EXPLAINS has no reason' ./check.sh - base.config arch/x86_64.config debug.config
}
test_explained_but_absent() {
    echo '* `NOBODY_SETS`: x' >>WHY.md
    says 1 'NOBODY_SETS is in no fragment' ./check.sh - base.config arch/x86_64.config debug.config
}
test_option_twice() {
    echo CONFIG_VMGENID=y >>base.config
    says 1 'VMGENID is set twice' ./check.sh - base.config
}
test_not_an_option() {
    echo 'CONFIG_X y' >>base.config
    says 1 'not an option: CONFIG_X y' ./check.sh - base.config
}
test_no_configuration() { check 2 'cannot read the configuration' "$work/absent"; }

test_build_without_source() { says 2 'no Linux source at /absent' ./build.sh --source /absent --out "$work/out"; }
test_build_unknown_arch() { says 2 "no fragment for 'vax'" ./build.sh --source / --out "$work/out" --arch vax; }
test_build_unknown_argument() { says 2 "unknown argument '--fast'" ./build.sh --fast; }
test_build_of_no_kernel() { mkdir -p "$work/empty" && says 1 'is not a Linux source tree' ./build.sh --source "$work/empty" --out "$work/out"; }

pack() { says "$1" "$2" "$work/elf-pack" "$3" "$work/packed"; }
test_pack_keeps_what_is_loaded() {
    printf '%s\n' 'int data[70000] = {1, [69999] = 2}; void _start(void) { for (;;) data[0]++; }' >"$work/p.c"
    gcc -static -nostdlib -fno-pie -no-pie -Wl,-z,noseparate-code -o "$work/p" "$work/p.c"
    pack 0 '' "$work/p" || return 1
    [ "$(stat -c %s "$work/packed")" -lt 60000 ] || { echo "padding is still there" >"$work/why"; return 1; }
    # The same bytes at the same addresses: compare what objcopy lays out of each.
    for file in p packed; do layout "$work/$file" >"$work/$file.layout"; done
    cmp "$work/p.layout" "$work/packed.layout" >"$work/why" 2>&1
}
layout() { # every byte that is not zero, as "physical address: byte"; the first page holds the file's own headers
    readelf -lW "$1" | awk '$1 == "LOAD" { print $2, $4, $5 }' | while read -r offset address size; do
        [ $((size)) != 0 ] || continue
        tail -c +$((offset + 1)) "$1" | head -c $((size)) | od -An -v -tu1 -w1 |
            awk -v at=$((address)) '$1 != 0 && at >= '$((0x401000))' { print at ": " $1 } { at++ }'
    done | sort -u
}
test_pack_not_an_elf() { echo text text >"$work/text" && pack 1 'shorter than an ELF header' "$work/text"; }
test_pack_truncated() { head -c 100 /bin/true >"$work/short" && pack 1 'beyond the end' "$work/short"; }

gcc -std=c11 -D_GNU_SOURCE -O1 -g -fsanitize=address,undefined -Wall -Wextra -Werror -Wconversion -o "$work/elf-pack" elf-pack.c
failures=0
for name in $(sed -n 's/^test_\([a-z_]*\)() .*/\1/p' "$tree/tests/unit/kernel-config/check.sh"); do
    restore
    : >"$work/why"
    if "test_$name"; then
        echo "ok $name"
    else
        echo "not ok $name: $(cat "$work/why")"
        failures=$((failures + 1))
    fi
done
[ $failures = 0 ]
