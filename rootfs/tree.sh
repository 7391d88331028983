# Sourced by build.sh and verify.sh: what both know about a tree that is, or will be, an image.
#
# Paths inside a tree are always resolved as the guest would, with the tree as root: a symlink in an image must
# never lead to a file of this machine.
# shellcheck shell=sh

# What init mounts on, besides what it makes itself in /dev and /sys.
TREE_MOUNT_POINTS="proc sys dev run tmp"
# tree_resolve ROOT PATH: print the path on this machine of PATH inside ROOT, symlinks followed inside ROOT. The last
# part need not exist. Fails after 40 symlinks, as the kernel does.
tree_resolve() {
    tree_done= tree_left=${2#/} tree_links=0
    while [ -n "$tree_left" ]; do
        tree_part=${tree_left%%/*}
        case $tree_left in
        */*) tree_left=${tree_left#*/} ;;
        *) tree_left= ;;
        esac
        case $tree_part in
        '' | .) continue ;;
        ..) tree_done=${tree_done%/*}; continue ;;
        esac
        if [ -L "$1$tree_done/$tree_part" ]; then
            tree_links=$((tree_links + 1))
            [ $tree_links -le 40 ] || return 1
            tree_target=$(readlink "$1$tree_done/$tree_part")
            case $tree_target in
            /*) tree_done= ;;
            esac
            tree_left=$tree_target/$tree_left
        else
            tree_done=$tree_done/$tree_part
        fi
    done
    printf '%s\n' "$1$tree_done"
}

# How readelf(1) names a processor that uname(1) names otherwise.
tree_arch_name() {
    case $1 in
    x86_64) echo "Advanced Micro Devices X86-64" ;;
    aarch64) echo "AArch64" ;;
    *) return 1 ;;
    esac
}

# tree_program ROOT PATH NAME: check one program that must be there; prints problems.
tree_program() {
    tree_file=$(tree_resolve "$1" "$2") || { echo "$3: $2 is a loop of symlinks"; return; }
    if [ ! -e "$tree_file" ]; then
        echo "no $3: the image has no $2"
    elif [ ! -f "$tree_file" ]; then
        echo "no $3: $2 is not a regular file"
    elif [ -z "$(find "$tree_file" -prune -perm -0111)" ]; then
        echo "$3 not executable: $2 lacks execute permission for all"
    elif [ ! -s "$tree_file" ]; then
        echo "no $3: $2 is empty"
    fi
}

# The first four bytes of a file, in hexadecimal.
tree_magic() { od -An -tx1 -N4 "$1" | tr -d ' \n'; }

# Its kind, for people.
tree_describe() { # root path
    tree_file=$(tree_resolve "$1" "$2") && [ -f "$tree_file" ] || { echo missing; return; }
    case $(tree_magic "$tree_file") in
    7f454c46)
        if readelf -lW "$tree_file" 2>/dev/null | grep -q '^ *INTERP '; then tree_kind="dynamic ELF"; else tree_kind="static ELF"; fi
        ;;
    2321*) tree_kind="script" ;;
    *) tree_kind="neither ELF nor script" ;;
    esac
    echo "$tree_kind, $(stat -c %s "$tree_file") bytes"
}

# tree_elf ROOT ARCH: wrong architecture and missing loaders, over every program and library; prints problems.
tree_elf() {
    # readelf names the file only when it is given several: /dev/null is the second, and says nothing of itself.
    find "$1" -type f \( -perm /0111 -o -name '*.so' -o -name '*.so.*' \) ! -name "*
*" -print0 | LC_ALL=C sort -z | xargs -0 -r sh -c 'LC_ALL=C readelf -hlW /dev/null "$@" 2>/dev/null; true' readelf |
        LC_ALL=C awk -v arch="$(tree_arch_name "$2")" -v root="$1" '
            function end() {
                if (!program) return
                if (machine != arch) print "arch\t" path "\t" machine
                else if (loader != "") print "loader\t" path "\t" loader
            }
            /^File: / { end(); path = substr($0, length(root) + 7); program = 0; machine = loader = "" }
            /^  Type: *(EXEC|DYN)/ { program = 1 }
            /^  Machine: / { machine = $0; sub(/^  Machine: */, "", machine) }
            /\[Requesting program interpreter: / {
                loader = $0
                sub(/^.*interpreter: /, "", loader)
                sub(/\]$/, "", loader)
            }
            END { end() }
        ' | while IFS="$(printf '\t')" read -r tree_what tree_path tree_detail; do
        if [ "$tree_what" = arch ]; then
            echo "wrong architecture: $tree_path is for $tree_detail, the image for $2"
        else
            tree_file=$(tree_resolve "$1" "$tree_detail") && [ -f "$tree_file" ] ||
                echo "dynamic binary without its loader: $tree_path needs $tree_detail"
        fi
    done
}

# What the function's bootstrap needs to start: a script's interpreter, a program's libraries; prints problems.
tree_bootstrap() { # root
    tree_file=$(tree_resolve "$1" /function/bootstrap) && [ -s "$tree_file" ] || return 0
    case $(tree_magic "$tree_file") in
    7f454c46)
        readelf -dW "$tree_file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r tree_library; do
            [ -n "$(find "$1/lib" "$1/lib64" "$1/usr" "$1/function" -name "$tree_library" 2>/dev/null | head -n 1)" ] ||
                echo "missing library: /function/bootstrap needs $tree_library"
        done
        ;;
    2321*)
        tree_interpreter=$(head -c 256 "$tree_file" | sed -n '1s/^#! *\([^ ]*\).*/\1/p')
        tree_program "$1" "$tree_interpreter" "interpreter of /function/bootstrap"
        ;;
    *) echo "function cannot start: /function/bootstrap is neither an ELF program nor a script" ;;
    esac
}

# tree_check ROOT ARCH: print every problem of the tree, one a line.
tree_check() {
    for tree_point in $TREE_MOUNT_POINTS; do
        tree_file=$(tree_resolve "$1" "/$tree_point") && [ -d "$tree_file" ] ||
            echo "no directory /$tree_point: init mounts there"
    done
    tree_program "$1" /sbin/init "init"
    tree_program "$1" /sbin/agent "agent"
    tree_program "$1" /function/bootstrap "function"
    tree_bootstrap "$1"
    tree_elf "$1" "$2"
    for tree_static in init agent; do
        case $(tree_describe "$1" "/sbin/$tree_static") in
        "static ELF"* | missing) ;;
        *) echo "$tree_static is not static: /sbin/$tree_static must be a static ELF program" ;;
        esac
    done
    (
        cd "$1"
        find . -type f -perm /6000 | LC_ALL=C sort | sed 's/^\./setuid or setgid file: /'
        find . \( -type b -o -type c \) | LC_ALL=C sort | sed 's/^\./device node: /'
        find . -name "*
*" | head -n 1 | grep -q . && echo "a file name holds a newline"
    ) || true
}
