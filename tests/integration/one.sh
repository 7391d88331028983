#!/bin/sh
# One integration test, in a shell of its own. Usage: one.sh BUILD FILE NAME DIRECTORY (by run.sh)
set -eu
BUILD=$1
DIR=$4
. tests/integration/lib.sh
. "./$2"
"test_$3"
