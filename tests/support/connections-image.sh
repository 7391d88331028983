#!/bin/sh
# Make the image of a function with a manifest of connections and the certificates that it names.
#
# Usage: tests/support/connections-image.sh BUILD PROGRAM MANIFEST OUT
set -eu
build=$1
program=$2
manifest=$3
out=$4
dir=$build/tests/functions/$(basename "$out" .erofs)
rm -rf "$dir"
mkdir -p "$dir"
cp "$program" "$dir/bootstrap"
cp "$manifest" "$dir/connections"
for file in ca.pem crl.pem client-ec.pem; do cp "$build/tests/tls-certs/$file" "$dir/"; done
exec rootfs/build.sh --base minimal --function "$dir" --init "$build/init" --agent "$build/agent" --out "$out"
