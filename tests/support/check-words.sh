#!/bin/sh
# Whitespace and shell hygiene: no trailing blanks, no tabs in C, and every shell script parses.
#
# Usage: tests/support/check-words.sh   (from the top of the tree)
set -eu
bad=0
if git grep -nI --untracked -e '[[:blank:]]$' -- '*.c' '*.h' '*.sh' '*.md' '*.config' Makefile >&2; then
    echo "check: trailing blanks above" >&2
    bad=1
fi
for script in $(git ls-files --cached --others --exclude-standard); do
    [ -f "$script" ] && head -c 2 "$script" | grep -q '^#!' || continue
    case $(head -n 1 "$script") in
    *bash*) bash -n "$script" || bad=1 ;;
    *sh*) sh -n "$script" || bad=1 ;;
    esac
done
exit $bad
