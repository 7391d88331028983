# Firecracker's own pages, "Getting Started" and "Snapshotting": their calls, as they are printed there, to our server. What
# is put in are the kernel and the root file system, which the pages download; what is left out is what would reach the
# internet. The server listens in the test's own directory, whatever path a page prints.
if [ -z "${NET_INSIDE:-}" ]; then
    export NET_INSIDE=yes
    # shellcheck disable=SC2046
    exec unshare -n $([ "$(id -u)" = 0 ] || echo -r) sh tests/integration/one.sh "$@"
fi

tree=$PWD
HOSTVMM=$(realpath "$HOSTVMM")
ROOT_IMAGE=$(realpath "$DATA/walkthrough.ext4")
SOCKET=$DIR/api.sock

# The pages are written for a user who is not root.
sudo() { "$@"; }
ip() { /bin/ip "$@"; }

# The answer's status goes to $DIR/status, a line each, and the answer to $DIR/answer.
curl() {
    for word; do
        shift
        case $word in /tmp/firecracker.socket) word=$SOCKET ;; esac
        set -- "$@" "$word"
    done
    command curl -sS --max-time 100 -o "$DIR/answer" -w '%{http_code}\n' "$@" >>"$DIR/status"
}

gave() { # status: the last call
    last=$(tail -n 1 "$DIR/status")
    [ "$last" = "$1" ] || fail "the status is $last, expected $1: $(cat "$DIR/answer")"
}

server_start() { # [name of its logs]
    cd "$DIR" || exit 2
    "$HOSTVMM" --api-sock "$SOCKET" >"$DIR/console.${1:-1}" 2>"$DIR/host.${1:-1}" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    until_there 100 test -S "$SOCKET"
}

until_there() { # tenths command...: until it succeeds, and the server lives
    tries=$1
    shift
    until "$@" >/dev/null 2>&1; do
        kill -0 "$vm" 2>/dev/null || fail "the server has ended"
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "not in time: $*"
        sleep 0.1
    done
}

# What the guest answers: "count N word W".
guest_says() { command curl -sS --max-time 5 http://172.16.0.2/ >"$DIR/says" 2>"$DIR/errors"; }
guest_answers() {
    until_there 600 guest_says
    count=$(sed -n 's/^count \([0-9]*\) .*/\1/p' "$DIR/says")
    word=$(sed -n 's/.* word //p' "$DIR/says")
    [ -n "$count" ] && [ -n "$word" ] || fail "the guest says '$(cat "$DIR/says")'"
}

tap() { # name: as the page makes it
    TAP_DEV=$1
    TAP_IP="172.16.0.1"
    MASK_SHORT="/30"
    sudo ip link del "$TAP_DEV" 2> /dev/null || true
    sudo ip tuntap add dev "$TAP_DEV" mode tap
    sudo ip addr add "${TAP_IP}${MASK_SHORT}" dev "$TAP_DEV"
    sudo ip link set dev "$TAP_DEV" up
}

# ---- Getting Started: "Running Firecracker" -----------------------------------------------------------------------------

configure() { # as printed, up to the start; the interface is named by $NET
    cp "$ROOT_IMAGE" "$DIR/ubuntu-22.04.ext4"
    ln -sf "$tree/$KERNEL" "$DIR/vmlinux-6.12"
API_SOCKET="/tmp/firecracker.socket"
LOGFILE="./firecracker.log"

# Create log file
touch $LOGFILE

# Set log file
sudo curl -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"log_path\": \"${LOGFILE}\",
        \"level\": \"Debug\",
        \"show_level\": true,
        \"show_log_origin\": true
    }" \
    "http://localhost/logger"
gave 204

KERNEL="./$(ls vmlinux* | tail -1)"
KERNEL_BOOT_ARGS="console=ttyS0 reboot=k panic=1 pci=off"

# Set boot source
sudo curl -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"kernel_image_path\": \"${KERNEL}\",
        \"boot_args\": \"${KERNEL_BOOT_ARGS}\"
    }" \
    "http://localhost/boot-source"
gave 204

ROOTFS="./ubuntu-22.04.ext4"

# Set rootfs
sudo curl -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"drive_id\": \"rootfs\",
        \"path_on_host\": \"${ROOTFS}\",
        \"is_root_device\": true,
        \"is_read_only\": false
    }" \
    "http://localhost/drives/rootfs"
gave 204

FC_MAC="06:00:AC:10:00:02"

# Set network interface
sudo curl -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"iface_id\": \"$NET\",
        \"guest_mac\": \"$FC_MAC\",
        \"host_dev_name\": \"$TAP_DEV\"
    }" \
    "http://localhost/network-interfaces/$NET"
gave 204
}

start() {
# Start microVM
sudo curl -X PUT --unix-socket "${API_SOCKET}" \
    --data "{
        \"action_type\": \"InstanceStart\"
    }" \
    "http://localhost/actions"
gave 204
}

test_api_walkthrough_getting_started() {
    tap tap0
    server_start
    NET=net1
    configure
    start
    guest_answers
    expect "the first count" "$count" 0
    expect_text "$DIR/console.1" 'walkthrough: up'
    guest_answers
    expect "the next count" "$count" 1
    # "Issuing a reboot command inside the guest will gracefully shutdown Firecracker."
    command curl -sS --max-time 5 http://172.16.0.2/reboot >"$DIR/says" 2>"$DIR/errors" || true
    code=0
    wait "$vm" || code=$?
    expect "the server's exit code" "$code" 4
    [ ! -e "$SOCKET" ] || fail "the socket is left"
    # What the guest wrote is on its drive.
    debugfs=$(command -v debugfs || echo /sbin/debugfs)
    [ ! -x "$debugfs" ] || expect "/count" "$("$debugfs" -R 'cat /count' "$DIR/ubuntu-22.04.ext4" 2>/dev/null)" 2
}

# The same by the page's older calls: -i, headers, single quotes, and a machine that is not the default one.
test_api_walkthrough_older_calls() {
    cp "$ROOT_IMAGE" "$DIR/hello-rootfs.ext4"
    ln -sf "$tree/$KERNEL" "$DIR/hello-vmlinux.bin"
    server_start
  curl --unix-socket /tmp/firecracker.socket -i \
      -X PUT 'http://localhost/boot-source'   \
      -H 'Accept: application/json'           \
      -H 'Content-Type: application/json'     \
      -d '{
          "kernel_image_path": "./hello-vmlinux.bin",
          "boot_args": "console=ttyS0 reboot=k panic=1 pci=off"
      }'
gave 204
  curl --unix-socket /tmp/firecracker.socket -i \
      -X PUT 'http://localhost/drives/rootfs' \
      -H 'Accept: application/json'           \
      -H 'Content-Type: application/json'     \
      -d '{
          "drive_id": "rootfs",
          "path_on_host": "./hello-rootfs.ext4",
          "is_root_device": true,
          "is_read_only": false
      }'
gave 204
curl --unix-socket /tmp/firecracker.socket -i  \
    -X PUT 'http://localhost/machine-config' \
    -H 'Accept: application/json'            \
    -H 'Content-Type: application/json'      \
    -d '{
            "vcpu_count": 2,
            "mem_size_mib": 256,
            "smt": false,
            "track_dirty_pages": true
    }'
gave 204
  curl --unix-socket /tmp/firecracker.socket -i \
      -X PUT 'http://localhost/actions'       \
      -H  'Accept: application/json'          \
      -H  'Content-Type: application/json'    \
      -d '{
          "action_type": "InstanceStart"
       }'
gave 204
    until_there 600 grep -q 'walkthrough: up' "$DIR/console.1"
    curl --unix-socket /tmp/firecracker.socket 'http://localhost/'
    gave 200
    expect_text "$DIR/answer" '"Running"'
}

# ---- Snapshotting: "Snapshot API" ---------------------------------------------------------------------------------------

pause() {
curl --unix-socket /tmp/firecracker.socket -i \
    -X PATCH 'http://localhost/vm' \
    -H 'Accept: application/json' \
    -H 'Content-Type: application/json' \
    -d '{
            "state": "Paused"
    }'
gave 204
}

resume() {
curl --unix-socket /tmp/firecracker.socket -i \
    -X PATCH 'http://localhost/vm' \
    -H 'Accept: application/json' \
    -H 'Content-Type: application/json' \
    -d '{
            "state": "Resumed"
    }'
gave 204
}

create_full() { # with the comma that the page prints
curl --unix-socket /tmp/firecracker.socket -i \
    -X PUT 'http://localhost/snapshot/create' \
    -H  'Accept: application/json' \
    -H  'Content-Type: application/json' \
    -d '{
            "snapshot_type": "Full",
            "snapshot_path": "./snapshot_file",
            "mem_file_path": "./mem_file",
    }'
gave 204
}

create_diff() {
curl --unix-socket /tmp/firecracker.socket -i \
    -X PUT 'http://localhost/snapshot/create' \
    -H  'Accept: application/json' \
    -H  'Content-Type: application/json' \
    -d '{
            "snapshot_type": "Diff",
            "snapshot_path": "./snapshot_file",
            "mem_file_path": "./mem_file",
    }'
gave 204
}

load() {
curl --unix-socket /tmp/firecracker.socket -i \
    -X PUT 'http://localhost/snapshot/load' \
    -H  'Accept: application/json' \
    -H  'Content-Type: application/json' \
    -d '{
            "snapshot_path": "./snapshot_file",
            "mem_backend": {
                "backend_path": "./mem_file",
                "backend_type": "File"
            },
            "enable_diff_snapshots": true,
            "resume_vm": false
    }'
gave 204
}

# By the older member, running at once.
load_older() {
curl --unix-socket /tmp/firecracker.socket -i \
    -X PUT 'http://localhost/snapshot/load' \
    -H  'Accept: application/json' \
    -H  'Content-Type: application/json' \
    -d '{
            "snapshot_path": "./snapshot_file",
            "mem_file_path": "./mem_file",
            "enable_diff_snapshots": true,
            "resume_vm": true
    }'
gave 204
}

load_renamed() {
curl --unix-socket /tmp/firecracker.socket -i \
    -X PUT 'http://localhost/snapshot/load' \
    -H  'Accept: application/json' \
    -H  'Content-Type: application/json' \
    -d '{
            "snapshot_path": "./snapshot_file",
            "mem_backend": {
                "backend_path": "./mem_file",
                "backend_type": "File"
            },
            "network_overrides": [
                 {
                     "iface_id": "eth0",
                     "host_dev_name": "vmtap01"
                 }
            ]
    }'
gave 204
}

server_kill() {
    kill -KILL "$vm"
    wait "$vm" || true
    rm -f "$SOCKET"
}

# The guest goes on where it was: it has not booted again, and remembers.
goes_on() { # count word
    guest_answers
    expect "the clone's word" "$word" "$2"
    expect "the clone's count" "$count" "$1"
}

original() {
    tap tap0
    server_start
    NET=eth0
    configure
    start
    guest_answers
    first=$word
}

test_api_walkthrough_snapshot_and_load() {
    original
    pause
    pause
    create_full
    resume
    resume
    goes_on 1 "$first"
    server_kill
    tap tap0
    server_start 2
    load
    curl --unix-socket /tmp/firecracker.socket 'http://localhost/'
    expect_text "$DIR/answer" '"Paused"'
    resume
    goes_on 1 "$first"
    server_kill
    tap tap0
    server_start 3
    load_older
    goes_on 1 "$first"
}

test_api_walkthrough_diff_snapshot() {
    original
    pause
    create_full
    resume
    goes_on 1 "$first"
    pause
    create_diff
    resume
    server_kill
    tap tap0
    server_start 2
    load
    resume
    goes_on 2 "$first"
}

test_api_walkthrough_another_tap() {
    original
    pause
    create_full
    server_kill
    ip link del tap0
    tap vmtap01
    server_start 2
    load_renamed
    resume
    goes_on 1 "$first"
}
