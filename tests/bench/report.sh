#!/bin/sh
# Turn measured figures into build/bench.json and a table with the bars. Exit 1 when a bar is missed or a figure is missing.
#
# Usage: tests/bench/report.sh FIGURES BARS OUT     FIGURES: lines `key value`; values may be text
set -eu
figures=$1
bars=$2
out=$3
awk -v out="$out.tmp" '
function show(value) { return value ~ /^-?[0-9]+(\.[0-9]+)?$/ ? value : "\"" value "\"" }
FNR == 1 { file++ }
/^#/ || NF == 0 { next }
file == 1 {
    key = $1
    value = $0
    sub(/^[^ ]+ /, "", value)
    if (!(key in figure))
        order[++count] = key
    figure[key] = value
    next
}
{
    limit = $3
    text = "<= " $3
    if ($4 == "of") {
        if (!($5 in figure)) {
            printf "bench: no figure %s to compare %s with\n", $5, $1 > "/dev/stderr"
            missed = 1
            next
        }
        limit = $3 * figure[$5]
        text = "<= " $3 " x " $5 " = " sprintf("%.3f", limit)
    }
    bar[$1] = text
    if (!($1 in figure)) {
        printf "bench: no figure %s\n", $1 > "/dev/stderr"
        missed = 1
    } else if (figure[$1] + 0 > limit + 0) {
        verdict[$1] = "FAIL"
        missed = 1
    } else
        verdict[$1] = "pass"
}
END {
    print "{" > out
    for (i = 1; i <= count; i++)
        printf "  \"%s\": %s%s\n", order[i], show(figure[order[i]]), i < count ? "," : "" > out
    print "}" > out
    close(out)
    for (i = 1; i <= count; i++)
        printf "%-36s %22s  %-4s %s\n", order[i], figure[order[i]], verdict[order[i]], bar[order[i]]
    exit missed
}' "$figures" "$bars" || code=$?
mv "$out.tmp" "$out"
exit "${code:-0}"
