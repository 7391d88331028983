#!/bin/sh
# Report files over 500 lines and functions over 60: where a room wants a wall. A report, not a verdict: exit 0.
#
# Usage: tests/support/check-sizes.sh   (from the top of the tree)
set -eu
git ls-files --cached --others --exclude-standard -- '*.c' '*.h' '*.sh' | while read -r file; do
    [ -f "$file" ] || continue
    lines=$(wc -l <"$file")
    [ "$lines" -le 500 ] || echo "size: $file has $lines lines (500 at most)"
    case $file in
    *.c) # a function body starts at a `{` in the first column and ends at the next `}` there (clang-format's layout)
        awk -v file="$file" '
            /^[A-Za-z_].*\(/ { name = $0 }
            /^\{/ { start = NR }
            /^\}/ && start { if (NR - start - 1 > 60) printf "size: %s:%d %s has %d lines (60 at most)\n", file, start, name, NR - start - 1; start = 0 }
        ' "$file" ;;
    esac
done
