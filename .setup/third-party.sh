#!/bin/sh
# Build what is linked into our programs: Linux's user-space headers, BearSSL, libcbor, Jansson and libmicrohttpd, for musl.
#
# Usage: .setup/third-party.sh OUT LINUX_TREE
#   OUT         gets include/ and lib/ (libbearssl.a, libcbor.a, libjansson.a, libmicrohttpd.a and the same as lib*-host.a), and linux/include (kernel headers)
#   LINUX_TREE  an unpacked Linux source (kernel-config/build.sh unpacks it)
# Sources come from Debian's source packages through apt, whose signature checks apply; the package lists live in OUT, so
# that the machine's own configuration is read and never changed. A suite other than the machine's own is reached by
# changing the suite name in a copy of the machine's list.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions"
out=$1
linux_tree=$2
mkdir -p "$out"
out=$(cd "$out" && pwd)
log=$out/log
: >"$log"

say() { echo "third-party: $*"; }
run() { # what, command...: quiet unless it fails
    what=$1
    shift
    if ! "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "third-party: $what failed; the whole output is in $log" >&2
        exit 1
    fi
}

# Write a deb-src list for SUITE from the machine's own lists, in whichever of apt's two styles they are.
write_list() { # suite directory
    own=$(. /etc/os-release && echo "$VERSION_CODENAME")
    suite=$1
    [ "$suite" != own ] || suite=$own
    mkdir -p "$2/parts" "$2/lists/partial"
    for list in /etc/apt/sources.list.d/*.sources; do
        [ -f "$list" ] && grep -q 'debian-archive-keyring' "$list" || continue
        sed -e 's/^Types:.*/Types: deb-src/' -e "/^Suites:/s/\\b$own\\b/$suite/g" "$list" >"$2/parts/$(basename "$list")"
    done
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$list" ] || continue
        sed -n -e "s/^deb \\(.*\\)\\b$own\\b/deb-src \\1$suite/p" "$list" |
            grep -E 'debian' >"$2/parts/$(basename "$list" .list).list" || true
    done
}

fetch() { # source version suite directory: leaves the upstream tarball there
    [ -z "$(find "$4" -name "$1_*.orig.tar.*" 2>/dev/null)" ] || return 0
    apt_dir=$out/apt-$3
    say "fetching the source of $1 $2 through apt"
    [ -d "$apt_dir/lists" ] || write_list "$3" "$apt_dir"
    options="-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$apt_dir/parts -o Dir::State::lists=$apt_dir/lists
        -o APT::Sandbox::User= -q"
    mkdir -p "$4"
    # shellcheck disable=SC2086
    [ -n "$(find "$apt_dir/lists" -name '*Sources*' 2>/dev/null)" ] || run "apt-get update" apt-get $options update
    # shellcheck disable=SC2086
    version=$(apt-cache $options showsrc "$1" | sed -n 's/^Version: //p' | grep -F "$2" | head -n 1)
    [ -n "$version" ] || { echo "third-party: apt lists no source of $1 $2 in suite $3; see .setup/versions" >&2; exit 1; }
    # shellcheck disable=SC2086
    (cd "$4" && run "fetching $1" apt-get $options source --download-only --tar-only "$1=$version")
}

unpack() { # source directory
    find "$2" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
    mkdir "$2/tree"
    tar -xf "$(find "$2" -name "$1_*.orig.tar.*")" -C "$2/tree" --strip-components=1
}

if [ ! -f "$out/linux/stamp" ]; then
    say "installing Linux's user-space headers"
    # Objects elsewhere: Linux refuses to build its kernel from a tree in which something was made in place.
    run "headers_install" make -C "$linux_tree" O="$out/linux/objects" -s ARCH=x86 INSTALL_HDR_PATH="$out/linux" headers_install
    touch "$out/linux/stamp"
fi

cflags="-Os -g0 -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fstack-protector-strong"
mkdir -p "$out/include" "$out/lib"

# Each twice: for musl (what ships) and for the host's libc (what the unit tests and fuzz targets link).
bearssl() { # compiler flags library
    objects=$out/src/bearssl/objects-$3
    run "compiling BearSSL" make -C "$out/src/bearssl/tree" -j "$(nproc)" lib CC="$1" LD="$1" BUILD="$objects" CFLAGS="-W -Wall $2"
    cp "$objects/libbearssl.a" "$out/lib/$3.tmp"
    mv "$out/lib/$3.tmp" "$out/lib/$3"
}

if [ ! -f "$out/lib/libbearssl.a" ] || [ ! -f "$out/lib/libbearssl-host.a" ]; then
    fetch "$BEARSSL_SOURCE" "$BEARSSL_VERSION" "$BEARSSL_SUITE" "$out/src/bearssl"
    unpack "$BEARSSL_SOURCE" "$out/src/bearssl"
    say "compiling BearSSL $BEARSSL_VERSION"
    cp "$out/src/bearssl/tree/inc/"*.h "$out/include/"
    bearssl musl-gcc "$cflags" libbearssl.a
    bearssl gcc "-O1 -g -fPIC" libbearssl-host.a
fi

libcbor() { # compiler flags library
    objects=$out/src/libcbor/objects-$3
    mkdir -p "$objects"
    tree=$out/src/libcbor/tree
    (
        cd "$objects"
        # shellcheck disable=SC2046,SC2086
        run "compiling libcbor" $1 -std=c99 $2 -I "$out/include" -I "$tree/src" -c $(find "$tree/src" -name '*.c')
    )
    rm -f "$out/lib/$3.tmp"
    ar rcs "$out/lib/$3.tmp" "$objects"/*.o
    mv "$out/lib/$3.tmp" "$out/lib/$3"
}

if [ ! -f "$out/lib/libcbor.a" ] || [ ! -f "$out/lib/libcbor-host.a" ]; then
    fetch "$LIBCBOR_SOURCE" "$LIBCBOR_VERSION" "$LIBCBOR_SUITE" "$out/src/libcbor"
    unpack "$LIBCBOR_SOURCE" "$out/src/libcbor"
    say "compiling libcbor $LIBCBOR_VERSION"
    tree=$out/src/libcbor/tree
    mkdir -p "$out/include/cbor"
    cp -R "$tree/src/cbor/." "$out/include/cbor/"
    cp "$tree/src/cbor.h" "$out/include/"
    # The two headers libcbor's own build would generate: its version and its static-linking export macro.
    version_of() { printf '%s\n' "$LIBCBOR_VERSION" | cut -d. -f"$1"; }
    sed -e "s/\${CBOR_VERSION_MAJOR}/$(version_of 1)/" -e "s/\${CBOR_VERSION_MINOR}/$(version_of 2)/" \
        -e "s/\${CBOR_VERSION_PATCH}/$(version_of 3)/" \
        -e 's/#cmakedefine01 CBOR_CUSTOM_ALLOC/#define CBOR_CUSTOM_ALLOC 0/' \
        -e 's/#cmakedefine01 CBOR_PRETTY_PRINTER/#define CBOR_PRETTY_PRINTER 0/' \
        -e 's/#define CBOR_BUFFER_GROWTH .*/#define CBOR_BUFFER_GROWTH 2/' \
        -e 's/#define CBOR_MAX_STACK_SIZE .*/#define CBOR_MAX_STACK_SIZE 32/' \
        -e 's/#cmakedefine01 \([A-Z_]*\)/#define \1 1/' \
        -e 's/#define CBOR_\([A-Z_]*\)_SPECIFIER .*/#define CBOR_\1_SPECIFIER/' \
        "$tree/src/cbor/configuration.h.in" >"$out/include/cbor/configuration.h"
    cat >"$out/include/cbor/cbor_export.h" <<'EXPORT'
#ifndef CBOR_EXPORT_H
#define CBOR_EXPORT_H
#define CBOR_EXPORT
#define CBOR_NO_EXPORT
#define CBOR_DEPRECATED
#endif
EXPORT
    libcbor musl-gcc "$cflags" libcbor.a
    libcbor gcc "-O1 -g" libcbor-host.a
fi
jansson() { # compiler flags library
    objects=$out/src/jansson/objects-$3
    mkdir -p "$objects"
    tree=$out/src/jansson/tree/src
    # What its configure script would find on any Linux: enough to seed its hash tables from the kernel.
    for found in STDINT_H UNISTD_H FCNTL_H SCHED_H SYS_TYPES_H SYS_STAT_H SYS_TIME_H SYS_PARAM_H OPEN CLOSE READ GETTIMEOFDAY \
        GETPID SCHED_YIELD ATOMIC_BUILTINS STRTOLL; do
        echo "#define HAVE_$found 1"
    done >"$objects/jansson_private_config.h"
    printf '#define USE_URANDOM 1\n#define INITIAL_HASHTABLE_ORDER 3\n' >>"$objects/jansson_private_config.h"
    (
        cd "$objects"
        # shellcheck disable=SC2046,SC2086
        run "compiling Jansson" $1 -std=gnu99 $2 -DHAVE_CONFIG_H -I . -I "$out/include" -I "$tree" -c $(find "$tree" -name '*.c')
    )
    rm -f "$out/lib/$3.tmp"
    ar rcs "$out/lib/$3.tmp" "$objects"/*.o
    mv "$out/lib/$3.tmp" "$out/lib/$3"
}

if [ ! -f "$out/lib/libjansson.a" ] || [ ! -f "$out/lib/libjansson-host.a" ]; then
    fetch "$JANSSON_SOURCE" "$JANSSON_VERSION" "$JANSSON_SUITE" "$out/src/jansson"
    unpack "$JANSSON_SOURCE" "$out/src/jansson"
    say "compiling Jansson $JANSSON_VERSION"
    cp "$out/src/jansson/tree/src/jansson.h" "$out/include/"
    # The header its configure script would write; and no deeper nesting than any body here has.
    sed -e 's/@json_inline@/inline/' -e 's/@json_have_[a-z_]*@/1/' \
        -e 's/\(define JSON_PARSER_MAX_DEPTH\).*/\1 32/' \
        "$out/src/jansson/tree/src/jansson_config.h.in" >"$out/include/jansson_config.h"
    jansson musl-gcc "$cflags" libjansson.a
    jansson gcc "-O1 -g" libjansson-host.a
fi

microhttpd() { # compiler flags library
    objects=$out/src/libmicrohttpd/objects-$3
    rm -rf "$objects"
    mkdir -p "$objects"
    (
        cd "$objects"
        run "configuring libmicrohttpd" ../tree/configure -q CC="$1" CFLAGS="$2" --disable-shared --enable-static --disable-https \
            --disable-doc --disable-examples --disable-curl --disable-bauth --disable-dauth --disable-httpupgrade \
            --disable-postprocessor --disable-messages --disable-sendfile
        run "compiling libmicrohttpd" make -s -j "$(nproc)" -C src/microhttpd libmicrohttpd.la
    )
    cp "$objects/src/microhttpd/.libs/libmicrohttpd.a" "$out/lib/$3.tmp"
    mv "$out/lib/$3.tmp" "$out/lib/$3"
}

if [ ! -f "$out/lib/libmicrohttpd.a" ] || [ ! -f "$out/lib/libmicrohttpd-host.a" ]; then
    fetch "$MICROHTTPD_SOURCE" "$MICROHTTPD_VERSION" "$MICROHTTPD_SUITE" "$out/src/libmicrohttpd"
    unpack "$MICROHTTPD_SOURCE" "$out/src/libmicrohttpd"
    say "compiling libmicrohttpd $MICROHTTPD_VERSION"
    cp "$out/src/libmicrohttpd/tree/src/include/microhttpd.h" "$out/include/"
    microhttpd musl-gcc "$cflags -idirafter $out/linux/include" libmicrohttpd.a
    microhttpd gcc "-O1 -g" libmicrohttpd-host.a
fi
touch "$out/stamp"
say "ready"
