# The control API, as Firecracker's clients use it: curl and a Unix socket, a real guest behind it.

API=$DIR/api.sock

# Start a server and wait until it says that it serves. Its messages go to $DIR/host.
api_start() { # [options...]
    rm -f "$DIR/says"
    mkfifo "$DIR/says"
    "$HOSTVMM" --api-sock "$API" "$@" >"$DIR/console" 2>"$DIR/says" </dev/null &
    vm=$!
    echo "$vm" >>"$DIR/pids"
    exec 7<"$DIR/says"
    while read -r line <&7; do
        echo "$line" >>"$DIR/host"
        case $line in *"the API is served at"*) break ;; esac
    done
    cat <&7 >>"$DIR/host" &
    echo $! >>"$DIR/pids"
    exec 7<&-
}

# A request: sets status, and the answer's body is in $DIR/reply.
api() { # method path [body]
    set -- "$@" ''
    status=$(curl -s -S --unix-socket "$API" -X "$1" "http://localhost$2" -o "$DIR/reply" -w '%{http_code}' \
        -H 'Accept: application/json' -H 'Content-Type: application/json' ${3:+-d "$3"}) || status=none
}

api_done() { # method path [body]
    api "$@"
    expect "the answer to $1 $2 ($(cat "$DIR/reply" 2>/dev/null))" "$status" 204
}

api_refused() { # text method path [body]
    text=$1
    shift
    api "$@"
    expect "the answer to $1 $2" "$status" 400
    expect_text "$DIR/reply" '"fault_message":"'
    expect_text "$DIR/reply" "$text"
}

api_state() { # wanted
    api GET /
    expect "the answer to GET /" "$status" 200
    expect_text "$DIR/reply" "\"state\":\"$1\""
}

# A function's image, not started.
api_configure() { # image
    api_done PUT /boot-source "{\"kernel_image_path\": \"$KERNEL\"}"
    api_done PUT /drives/rootfs "{\"drive_id\": \"rootfs\", \"path_on_host\": \"$IMAGES/$1.erofs\",
        \"is_root_device\": true, \"is_read_only\": true}"
    api_done PUT /vsock "{\"guest_cid\": 3, \"uds_path\": \"$VSOCK\"}"
}

api_boot() { # image
    api_configure "$1"
    api_done PUT /actions '{"action_type": "InstanceStart"}'
}

# The process of the server's guest.
guest_of() { # server's process
    for stat in /proc/[0-9]*/stat; do
        read -r pid _ _ parent _ <"$stat" 2>/dev/null || continue
        [ "$parent" != "$1" ] || echo "$pid"
    done
}

gone() { # process
    tries=200
    while [ -e "/proc/$1" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "process $1 is still there"
        sleep 0.1
    done
}

test_api_the_life_of_a_guest() {
    api_start --id first
    api_state 'Not started'
    expect_text "$DIR/reply" '"id":"first"'
    api_done PUT /machine-config '{"vcpu_count": 2, "mem_size_mib": 160, "smt": false, "track_dirty_pages": true}'
    api_boot hello
    api_state Running
    invoke -t world
    answered 'Hello, world!'
    after='The requested operation is not supported after starting the microVM.'
    api_refused "$after" PUT /drives/more "{\"drive_id\":\"more\",\"path_on_host\":\"$KERNEL\",\"is_root_device\":false}"
    api_refused "$after" PUT /network-interfaces/eth0 '{"iface_id":"eth0","host_dev_name":"tap0"}'
    api_refused "$after" PUT /machine-config '{"vcpu_count":1,"mem_size_mib":128}'
    api_refused "$after" PUT /actions '{"action_type":"InstanceStart"}'
    api_refused 'Invalid request method and/or path: GET nothing.' GET /nothing
    api_done PATCH /vm '{"state": "Paused"}'
    api_state Paused
    api_done PATCH /vm '{"state": "Resumed"}'
    invoke -t again
    answered 'Hello, again!'
    api_done PUT /actions '{"action_type": "SendCtrlAltDel"}'
    vm_end 0
    [ ! -e "$API" ] || fail "the API's socket is still there"
    [ ! -e "$VSOCK" ] || fail "the guest's socket is still there"
}

test_api_a_snapshot_is_loaded_in_a_second_server() {
    api_start
    api_boot identity
    invoke -t one
    expect "invoke's exit code" "$code" 0
    cp "$DIR/answer" "$DIR/original"
    cd "$DIR"
    api_refused 'unavailable while running' PUT /snapshot/create '{"snapshot_path": "./snap", "mem_file_path": "./mem"}'
    api_done PATCH /vm '{"state": "Paused"}'
    cd - >/dev/null
    api_done PUT /snapshot/create "{\"snapshot_type\": \"Full\", \"snapshot_path\": \"$DIR/snap\", \"mem_file_path\": \"$DIR/mem\"}"
    api_done PUT /snapshot/create "{\"snapshot_path\": \"$DIR/snap\", \"mem_file_path\": \"$DIR/mem\"}"
    api_done PATCH /vm '{"state": "Resumed"}'
    invoke -t two
    expect "invoke's exit code" "$code" 0
    api_done PATCH /vm '{"state": "Paused"}'
    api_done PUT /snapshot/create "{\"snapshot_type\": \"Diff\", \"snapshot_path\": \"$DIR/diff\", \"mem_file_path\": \"$DIR/diff.mem\"}"
    first=$vm
    for name in snap diff; do
        API=$DIR/$name.sock
        VSOCK=$DIR/$name.vsock
        memory=$DIR/mem
        [ $name = snap ] || memory=$DIR/diff.mem
        api_start
        api_refused 'does not belong to snapshot' PUT /snapshot/load "{\"snapshot_path\": \"$DIR/$name\",
            \"mem_file_path\": \"$KERNEL\"}"
        api_done PUT /snapshot/load "{\"snapshot_path\": \"$DIR/$name\", \"mem_backend\": {\"backend_path\": \"$memory\",
            \"backend_type\": \"File\"}, \"vsock_override\": {\"uds_path\": \"$VSOCK\"}, \"enable_diff_snapshots\": true,
            \"resume_vm\": false}"
        api_state Paused
        api_done PATCH /vm '{"state": "Resumed"}'
        invoke -t one
        expect "the clone's exit code" "$code" 0
        ! cmp -s "$DIR/answer" "$DIR/original" || fail "the clone is a twin: $(cat "$DIR/answer")"
        vm_stop
    done
    kill -TERM "$first"
}

test_api_a_clone_gets_drives_of_its_own() {
    cp "$DATA/overlay.ext4" "$DIR/disk"
    api_start
    api_configure hello
    api_done PUT /drives/disk "{\"drive_id\": \"disk\", \"path_on_host\": \"$DIR/disk\", \"is_root_device\": false, \"is_read_only\": false}"
    api_done PUT /actions '{"action_type": "InstanceStart"}'
    invoke -t world
    answered 'Hello, world!'
    api_done PATCH /drives/disk '{"drive_id": "disk", "rate_limiter": {"ops": {"size": 1000, "refill_time": 100}}}'
    api_done PATCH /drives/rootfs '{"drive_id": "rootfs", "rate_limiter": {"bandwidth": {"size": 104857600, "refill_time": 100}}}'
    api_done PATCH /vm '{"state": "Paused"}'
    api_done PUT /snapshot/create "{\"snapshot_path\": \"$DIR/snap\", \"mem_file_path\": \"$DIR/mem\"}"
    api_done PATCH /vm '{"state": "Resumed"}'
    vm_stop
    sum=$(md5sum <"$DIR/disk")
    api_start
    api_done PUT /snapshot/load "{\"snapshot_path\": \"$DIR/snap\", \"mem_file_path\": \"$DIR/mem\", \"resume_vm\": true}"
    invoke -t clone
    answered 'Hello, clone!'
    ls "$DIR"/disk.clone-* >/dev/null || fail "the clone has no copy of the drive"
    vm_stop
    ! ls "$DIR"/disk.clone-* >/dev/null 2>&1 || fail "the copy is still there"
    expect "the snapshot's drive" "$(md5sum <"$DIR/disk")" "$sum"
}

test_api_a_balloon_is_operated() {
    api_start
    api_configure hello
    api_done PUT /balloon '{"amount_mib": 0, "deflate_on_oom": true, "stats_polling_interval_s": 1}'
    api_done PUT /metrics "{\"metrics_path\": \"$DIR/counters\"}"
    api_done PUT /actions '{"action_type": "InstanceStart"}'
    invoke -t world
    answered 'Hello, world!'
    api_done PATCH /balloon '{"amount_mib": 8}'
    api GET /balloon
    expect_text "$DIR/reply" '"amount_mib":8'
    api GET /balloon/statistics
    expect "the answer's status ($(cat "$DIR/reply"))" "$status" 200
    expect_text "$DIR/reply" '"target_pages":2048'
    api_done PUT /actions '{"action_type": "FlushMetrics"}'
    expect "the lines of counters" "$(wc -l <"$DIR/counters")" 1
    vm_stop
}

test_api_a_configuration_file_boots_at_once() {
    cat >"$DIR/config" <<END
{
  "boot-source": {"kernel_image_path": "$KERNEL", "boot_args": "loglevel=3"},
  "drives": [{"drive_id": "rootfs", "path_on_host": "$IMAGES/hello.erofs", "is_root_device": true, "is_read_only": false,
              "partuuid": null, "cache_type": "Unsafe", "io_engine": "Sync", "rate_limiter": null}],
  "machine-config": {"vcpu_count": 2, "mem_size_mib": 128, "smt": false, "track_dirty_pages": false},
  "cpu-config": null, "balloon": null, "network-interfaces": [],
  "vsock": {"guest_cid": 3, "uds_path": "$VSOCK"},
  "logger": null, "metrics": null, "mmds-config": null, "entropy": null
}
END
    sed -i '/mmds-config/s/"mmds-config": null, //' "$DIR/config"
    vm_background "$HOSTVMM" --no-api --config-file "$DIR/config"
    invoke -t world
    answered 'Hello, world!'
    vm_stop
    vm_background "$HOSTVMM" --no-api --config-file "$KERNEL"
    vm_end 3
    expect_text "$DIR/host" '--config-file'
}

test_api_a_kernel_mounts_the_root_itself() {
    api_start
    api_done PUT /boot-source "{\"kernel_image_path\": \"$KERNEL\", \"rekindle\": false,
        \"boot_args\": \"console=ttyS0 loglevel=7 reboot=k panic=-1 init=/nowhere\"}"
    api_done PUT /drives/rootfs "{\"drive_id\": \"rootfs\", \"path_on_host\": \"$IMAGES/hello.erofs\",
        \"is_root_device\": true, \"is_read_only\": true}"
    api_done PUT /actions '{"action_type": "InstanceStart"}'
    vm_end 4
    expect_text "$DIR/console" 'Kernel command line: console=ttyS0 loglevel=7 reboot=k panic=-1 init=/nowhere root=/dev/vda ro'
    expect_text "$DIR/console" 'Mounted root (erofs filesystem) readonly'
}

test_api_an_initrd_of_the_clients_is_booted() {
    api_start
    api_done PUT /boot-source "{\"kernel_image_path\": \"$KERNEL\", \"initrd_path\": \"$GUESTS/poweroff.cpio\", \"boot_args\": \"console=ttyS0\"}"
    api_done PUT /actions '{"action_type": "InstanceStart"}'
    vm_end 0
}

test_api_a_guest_that_cannot_start_may_be_tried_again() {
    api_start
    api_configure hello
    api_done PUT /boot-source "{\"kernel_image_path\": \"$IMAGES/hello.erofs\"}"
    api_refused 'Start microvm error: kernel' PUT /actions '{"action_type": "InstanceStart"}'
    api_state 'Not started'
    api_boot hello
    invoke -t world
    answered 'Hello, world!'
    vm_stop
}

test_api_the_death_of_the_guest_ends_the_server() {
    api_start
    api_boot hello
    invoke -t world
    answered 'Hello, world!'
    child=$(guest_of "$vm")
    kill -KILL "$child"
    vm_end 137
    [ ! -e "$API" ] || fail "the API's socket is still there"
}

test_api_the_death_of_the_server_ends_the_guest() {
    api_start
    api_boot hello
    invoke -t world
    answered 'Hello, world!'
    child=$(guest_of "$vm")
    [ -n "$child" ] || fail "the server has no guest"
    kill -KILL "$vm"
    wait "$vm" || true
    gone "$child"
    # What it left behind is in nobody's way.
    api_start
    api_boot hello
    invoke -t world
    answered 'Hello, world!'
    vm_stop
}

test_api_too_much_is_refused() {
    api_start
    head -c 70000 /dev/zero | tr '\0' ' ' >"$DIR/body"
    status=$(curl -s --unix-socket "$API" -X PUT http://localhost/vsock --data-binary "@$DIR/body" -o "$DIR/reply" -w '%{http_code}')
    expect "the answer's status" "$status" 413
    expect_text "$DIR/reply" 'Request payload with size 70000 is larger than the limit of 65536 allowed by server.'
    api_state 'Not started'
    kill -TERM "$vm"
    vm_end 0
}
