#!/bin/sh
# Check the kernel's configuration: nothing asked for was lost, nothing switched off came back, everything is explained.
#
# Usage: kernel-config/check.sh CONFIG FRAGMENT...
#   CONFIG    the .config the kernel's own tools made of the fragments ("-": check the fragments against WHY.md alone)
#   FRAGMENT  in the order they were merged: a later one overrules an earlier one
# Names each option at fault, one line each. Exit 1 if there is one, 2 on wrong use.
#
# Kconfig drops an option whose dependencies are not met, and switches one on that another selects, without a word. Either
# makes a kernel that is not the one asked for, so neither passes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { echo "usage: check.sh CONFIG FRAGMENT..." >&2; exit 2; }
config=$1
shift
for file in "$@"; do
    [ -r "$file" ] || { echo "check.sh: cannot read the fragment $file" >&2; exit 2; }
done
if [ "$config" = - ]; then
    config=/dev/null compare=0
else
    [ -s "$config" ] || { echo "check.sh: cannot read the configuration $config" >&2; exit 2; }
    compare=1
fi

# One pass: the resulting configuration, then the fragments, then WHY.md (lines "* `OPTION` ...: reason").
awk -v compare="$compare" -v config="$config" -v why="$here/WHY.md" '
    function fault(text) { print "kernel-config: " text > "/dev/stderr"; faults++ }
    function parse(line) { # sets name and value ("n" when not set); 0 when the line holds no option
        if (line ~ /^# CONFIG_[A-Za-z0-9_]+ is not set$/) {
            name = substr(line, 10); sub(/ is not set$/, "", name); value = "n"
            return 1
        }
        if (line ~ /^CONFIG_[A-Za-z0-9_]+=/) {
            name = substr(line, 8); sub(/=.*/, "", name); value = line; sub(/^[^=]*=/, "", value)
            return 1
        }
        return 0
    }
    FILENAME == config { if (parse($0)) actual[name] = value; next }
    FILENAME == why {
        if ($0 !~ /^\* `[A-Z0-9_]+`/) next
        line = $0; sub(/: .*/, "", line)
        while (match(line, /`[A-Z0-9_]+`/)) {
            name = substr(line, RSTART + 1, RLENGTH - 2)
            if (name in explained) fault("WHY.md:" FNR ": " name " is explained twice")
            explained[name] = FNR
            line = substr(line, RSTART + RLENGTH)
        }
        next
    }
    parse($0) {
        if (name in asked && origin[name] == FILENAME) fault(FILENAME ":" FNR ": " name " is set twice in this fragment")
        asked[name] = value; origin[name] = FILENAME; place[name] = FILENAME ":" FNR
        next
    }
    /^[ \t]*(#|$)/ { next }
    { fault(FILENAME ":" FNR ": not an option: " $0) }
    END {
        for (name in asked) {
            if (!(name in explained)) fault(place[name] ": " name " has no reason in WHY.md")
            if (!compare) continue
            got = name in actual ? actual[name] : "n"
            if (got == asked[name]) continue
            if (asked[name] == "n") fault(place[name] ": " name " was switched off, yet it is " got ": another option selects it")
            else fault(place[name] ": " name " was asked to be " asked[name] ", yet it is " got ": a dependency is missing, or the name is wrong")
        }
        if (full) for (name in explained) if (!(name in asked)) fault("WHY.md:" explained[name] ": " name " is in no fragment")
        exit faults ? 1 : 0
    }
' full="$(case " $* " in *debug.config*) echo 1 ;; *) echo 0 ;; esac)" "$config" "$@" "$here/WHY.md"
