# What jailed threads ask of the kernel, counted by the kernel itself: a histogram per role in tracefs, of the calls'
# numbers. Threads are told by their names, which jail_thread gives them.
#
# Sourced. record_start; run jailed VMs; record_stop DIRECTORY leaves ROLE.calls there, a number a line.
TRACING=/sys/kernel/tracing
ROLES='main vcpu blk net spawn'

record_start() {
    [ -d $TRACING/instances ] || mount -t tracefs tracefs $TRACING
    for role in $ROLES; do
        [ ! -d $TRACING/instances/jail-$role ] || rmdir $TRACING/instances/jail-$role
        mkdir $TRACING/instances/jail-$role
        name="$role jailed"
        [ $role != vcpu ] || name='vcpu* jailed'
        echo "hist:keys=id:size=2048 if COMM ~ \"$name\"" >$TRACING/instances/jail-$role/events/raw_syscalls/sys_enter/trigger
    done
}

record_stop() { # directory
    for role in $ROLES; do
        sed -n 's/^{ id: *\([0-9]*\) }.*/\1/p' $TRACING/instances/jail-$role/events/raw_syscalls/sys_enter/hist | sort -n >"$1/$role.calls"
        rmdir $TRACING/instances/jail-$role
    done
}
