#!/bin/sh
# Make the image of the function `keeper` with one of its manifests and the certificates that it names.
#
# Usage: tests/support/keeper-image.sh BUILD MANIFEST OUT     (MANIFEST: a name in tests/peers/manifests)
set -eu
build=$1
manifest=$2
out=$3
dir=$build/tests/keeper-$manifest
rm -rf "$dir"
mkdir -p "$dir"
cp "$build/tests/guest/keeper" "$dir/bootstrap"
cp "tests/peers/manifests/$manifest" "$dir/connections"
for file in ca.pem crl.pem client-ec.pem; do cp "$build/tests/tls-certs/$file" "$dir/"; done
exec rootfs/build.sh --base minimal --function "$dir" --init "$build/init" --agent "$build/agent" --out "$out"
