#!/bin/sh
# Debian's own kernel, as an ELF file and as the bzImage it is shipped as, with an initrd that says it is up and powers off.
#
# Usage: tests/support/debian-kernel.sh PARTS OUT
#   PARTS   where hostvmm/kvmhost/prepare keeps its packages (build/kvmhost); they are fetched when they are not there
#   OUT     gets debian.bzimage, debian.vmlinux, debian.cpio, debian.release
set -eu
cd "$(dirname "$0")/../.."
parts=$1
out=$2
find_deb() { find "$parts/packages" -name "$1" 2>/dev/null | sort -V | tail -n 1; }
[ -n "$(find_deb 'linux-image-*-cloud-amd64_*.deb')" ] || hostvmm/kvmhost/prepare --out "$parts"
kernel=$(find_deb 'linux-image-*-cloud-amd64_*.deb')
busybox=$(find_deb 'busybox-static_*.deb')
[ -n "$kernel" ] && [ -n "$busybox" ] || { echo "debian-kernel.sh: no kernel or busybox package in $parts/packages" >&2; exit 1; }

mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root" "$work/root/bin" "$work/root/dev" "$work/root/proc"
dpkg-deb --fsys-tarfile "$kernel" | tar -xf - -C "$work" --wildcards './boot/vmlinuz-*'
dpkg-deb --fsys-tarfile "$busybox" | tar -xOf - --wildcards './*bin/busybox' >"$work/root/bin/busybox"
chmod 755 "$work/root/bin/busybox"
cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/console 2>&1
echo "debian: $(/bin/busybox uname -s) $(/bin/busybox uname -r) is up"
/bin/busybox poweroff -f
INIT
chmod 755 "$work/root/init"
find "$work/root" -exec touch -h -d @0 {} +
(cd "$work/root" && find . | LC_ALL=C sort | cpio --quiet --reproducible -R 0:0 -H newc -o) >"$work/debian.cpio"
basename "$work"/boot/vmlinuz-* | sed 's/^vmlinuz-//' >"$out/debian.release"
mv "$work"/boot/vmlinuz-* "$out/debian.bzimage"
cp "$parts/vmlinux" "$out/debian.vmlinux"
mv "$work/debian.cpio" "$out/debian.cpio"
