#!/bin/sh
# Make the tree's corpus of fuzz targets anew: what covers each edge that is known, from the tree's, from runs with BUILD, and
# from further directories; few files and small ones.
#
# Usage: tests/fuzz/keep.sh BUILD NAME... [-- DIRECTORY...]     each DIRECTORY holds NAME/corpus or NAME/
set -eu
cd "$(dirname "$0")/../.."
files_max=60 bytes_max=65536

build=$1
shift
names=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    names="$names $1"
    shift
done
[ $# -eq 0 ] || shift

by_size() { find "$1" -type f -printf '%s %f\n' | sort -n | cut -d' ' -f2; }

for name in $names; do
    kept=tests/fuzz/corpus/$name
    new=$(mktemp -d /tmp/fuzz-keep.XXXXXX)
    sources=
    for from in "$kept" "$build/tests/fuzz-work/$name/corpus"; do [ ! -d "$from" ] || sources="$sources $from"; done
    for from in "$@"; do
        [ ! -d "$from/$name" ] || sources="$sources $(test -d "$from/$name/corpus" && echo "$from/$name/corpus" || echo "$from/$name")"
    done
    # shellcheck disable=SC2086
    "$build/tests/fuzz/$name" -set_cover_merge=1 -use_counters=0 -timeout=10 "$new" $sources >"$new.log" 2>&1 || {
        tail -n 5 "$new.log"
        exit 1
    }
    # Beyond the limits: the longest programs cover most, so of too many the smallest go, of too many bytes the largest.
    while [ "$(cat "$new"/* | wc -c)" -gt $bytes_max ]; do rm "$new/$(by_size "$new" | tail -n 1)"; done
    while [ "$(find "$new" -type f | wc -l)" -gt $files_max ]; do rm "$new/$(by_size "$new" | head -n 1)"; done
    rm -rf "$kept"
    mkdir -p "$kept"
    cp "$new"/* "$kept"
    echo "$name: $(find "$kept" -type f | wc -l) files, $(cat "$kept"/* | wc -c) bytes"
    rm -rf "$new" "$new.log"
done
