/* The table of metrics.h: what there is to count, where it is kept, and what it is called. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/metrics.h"

#define ROW(where, member, family_, label_, name_, kind_, unit_, help_)                                      \
    {                                                                                                        \
        .name = (name_), .family = (family_), .label = (label_), .help = (help_), .kind = METRICS_##kind_,   \
        .unit = METRICS_##unit_, .offset = offsetof(where, member)                                           \
    }

static unsigned one(const struct metrics *metrics)
{
    (void)metrics;
    return 1;
}

static void name_it(char *to, const char *text)
{
    (void)snprintf(to, METRICS_NAME_BYTES, "%s", text);
}

/* ---- the process ---- */

#define PROCESS(member, family, name, kind, unit, help)                                                      \
    ROW(struct metrics_process, member, family, NULL, name, kind, unit, help)

static const struct metrics_row process_rows[] = {
    PROCESS(uptime_ns, "uptime_seconds", "uptime_ns", GAUGE, NS, "Since hostvmm started."),
    PROCESS(cpu_ns, "cpu_seconds_total", "cpu_ns", COUNTER, NS, "Processor time of all threads."),
    PROCESS(minor_faults, "minor_faults_total", "minor_faults", COUNTER, PLAIN,
            "Page faults served from memory, guest RAM's among them."),
    PROCESS(major_faults, "major_faults_total", "major_faults", COUNTER, PLAIN,
            "Page faults that read from a file."),
    PROCESS(resident_bytes, "resident_peak_bytes", "resident_peak_bytes", GAUGE, PLAIN,
            "The most memory that was resident, guest RAM included."),
    PROCESS(restored, "restores_total", "restores", COUNTER, PLAIN, "1 for a clone."),
    PROCESS(ready_ns, "ready_seconds", "ready_ns", GAUGE, NS,
            "From the start of hostvmm to a function that serves; 0 until then."),
    PROCESS(first_exit_ns, "first_exit_seconds", "first_exit_ns", GAUGE, NS,
            "From the start of hostvmm to a vCPU's first return from the guest."),
    PROCESS(console_dropped, "console_dropped_bytes_total", "console_dropped_bytes", COUNTER, PLAIN,
            "Bytes of the guest's console that nobody read in time."),
};

static const void *process_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    (void)i;
    (void)name;
    (void)labels;
    return &metrics->process;
}

/* ---- phases, resume steps ---- */

static const struct metrics_row phase_rows[] = {
    ROW(struct timeline_phase, duration_ns, "phase_seconds", NULL, "duration_ns", GAUGE, NS,
        "How long each phase of the boot or restore took."),
};

static unsigned phase_count(const struct metrics *metrics)
{
    return metrics->phase_count;
}

static const void *phase_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    name_it(name, metrics->phases[i].name);
    (void)snprintf(labels, METRICS_NAME_BYTES, "phase=\"%s\"", metrics->phases[i].name);
    return &metrics->phases[i];
}

static const struct metrics_row step_rows[] = {
    ROW(struct timeline_step, duration_us, "resume_step_seconds", NULL, "duration_us", GAUGE, US,
        "How long each step of becoming unique took, as the guest measured it."),
};

static unsigned step_count(const struct metrics *metrics)
{
    return metrics->timeline->step_count;
}

/* A step's name is the guest's word: letters, digits and a little more, or it is not shown. */
static const void *step_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    const struct timeline_step *step = &metrics->timeline->steps[i];
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    char text[TIMELINE_NAME_BYTES];
    (void)snprintf(text, sizeof text, "%s", step->name);
    for (char *at = text; *at; at++)
        *at = strchr(plain, *at) ? *at : '?';
    name_it(name, text);
    (void)snprintf(labels, METRICS_NAME_BYTES, "step=\"%s\"", text);
    return step;
}

/* ---- snapshots ---- */

#define SNAPSHOTS(member, family, name, kind, unit, help)                                                    \
    ROW(struct snapshots_counts, member, family, NULL, name, kind, unit, help)

static const struct metrics_row snapshot_rows[] = {
    SNAPSHOTS(taken, "snapshots_taken_total", "taken", COUNTER, PLAIN, "Snapshots that were made."),
    SNAPSHOTS(failed, "snapshots_failed_total", "failed", COUNTER, PLAIN,
              "Snapshots that could not be made."),
    SNAPSHOTS(pause_ns, "snapshot_pause_seconds_total", "pause_ns", COUNTER, NS,
              "How long the guest stood still for them."),
    SNAPSHOTS(last_pause_ns, "snapshot_last_pause_seconds", "last_pause_ns", GAUGE, NS,
              "How long it stood still for the last."),
    SNAPSHOTS(disk_bytes, "snapshot_disk_bytes_total", "disk_bytes", COUNTER, PLAIN,
              "What they take on disk."),
};

static const void *snapshots_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    (void)i;
    (void)name;
    (void)labels;
    return &metrics->snapshots->counts;
}

/* ---- vCPUs ---- */

#define EXITS(kind, name, label)                                                                             \
    ROW(struct vcpu, exits[VCPU_EXIT_##kind], "vcpu_exits_total", "kind=\"" label "\"", name, COUNTER,       \
        PLAIN, "Why each vCPU came back from the guest.")

static const struct metrics_row vcpu_rows[] = {
    EXITS(IO, "exits_io", "io"),
    EXITS(MMIO, "exits_mmio", "mmio"),
    EXITS(INTR, "exits_intr", "intr"),
    EXITS(HLT, "exits_hlt", "hlt"),
    EXITS(SHUTDOWN, "exits_shutdown", "shutdown"),
    EXITS(SYSTEM_EVENT, "exits_system_event", "system_event"),
    EXITS(OTHER, "exits_other", "other"),
};

static unsigned vcpu_count(const struct metrics *metrics)
{
    return metrics->machine->vm.vcpu_count;
}

static const void *vcpu_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    (void)snprintf(name, METRICS_NAME_BYTES, "%u", i);
    (void)snprintf(labels, METRICS_NAME_BYTES, "vcpu=\"%u\"", i);
    return &metrics->machine->vm.vcpus[i];
}

/* ---- drives: ids have plain characters, by the command line or the snapshot's reader ---- */

#define DRIVE(member, family, label, name, unit, help)                                                       \
    ROW(struct virtio_blk, member, family, label, name, COUNTER, unit, help)

static const struct metrics_row drive_rows[] = {
    DRIVE(counts.bytes_read, "drive_bytes_total", "direction=\"read\"", "bytes_read", PLAIN,
          "Bytes moved, by drive and direction."),
    DRIVE(counts.bytes_written, "drive_bytes_total", "direction=\"write\"", "bytes_written", PLAIN, ""),
    DRIVE(counts.operations, "drive_operations_total", NULL, "operations", PLAIN, "Requests answered."),
    DRIVE(counts.flushes, "drive_flushes_total", NULL, "flushes", PLAIN, "Flushes among them."),
    DRIVE(counts.errors, "drive_errors_total", NULL, "errors", PLAIN, "Requests that failed."),
    DRIVE(rate.throttled_count, "drive_throttled_total", NULL, "throttled", PLAIN,
          "Requests that had to wait for the drive's limits."),
    DRIVE(rate.throttled_wait_ns, "drive_throttled_seconds_total", NULL, "throttled_ns", NS,
          "How long they waited."),
};

static unsigned drive_count(const struct metrics *metrics)
{
    return metrics->machine->drive_count;
}

static const void *drive_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    const char *id = metrics->machine->made.drives[i].id;
    name_it(name, id);
    (void)snprintf(labels, METRICS_NAME_BYTES, "drive=\"%s\"", id);
    return &metrics->machine->drives[i];
}

/* ---- interfaces ---- */

#define NET(member, family, direction, name, unit, help)                                                     \
    ROW(struct virtio_net, member, family, "direction=\"" direction "\"", name, COUNTER, unit, help)

static const struct metrics_row net_rows[] = {
    NET(counts.rx_frames, "net_frames_total", "rx", "rx_frames", PLAIN,
        "Frames passed, to the guest (rx) and from it (tx)."),
    NET(counts.tx_frames, "net_frames_total", "tx", "tx_frames", PLAIN, ""),
    NET(counts.rx_bytes, "net_bytes_total", "rx", "rx_bytes", PLAIN, "Their bytes."),
    NET(counts.tx_bytes, "net_bytes_total", "tx", "tx_bytes", PLAIN, ""),
    NET(counts.rx_dropped, "net_dropped_total", "rx", "rx_dropped", PLAIN, "Frames that were dropped."),
    NET(counts.tx_dropped, "net_dropped_total", "tx", "tx_dropped", PLAIN, ""),
    NET(rx_rate.throttled_count, "net_throttled_total", "rx", "rx_throttled", PLAIN,
        "Frames that had to wait for the interface's limits."),
    NET(tx_rate.throttled_count, "net_throttled_total", "tx", "tx_throttled", PLAIN, ""),
    NET(rx_rate.throttled_wait_ns, "net_throttled_seconds_total", "rx", "rx_throttled_ns", NS,
        "How long they waited."),
    NET(tx_rate.throttled_wait_ns, "net_throttled_seconds_total", "tx", "tx_throttled_ns", NS, ""),
};

static unsigned net_count(const struct metrics *metrics)
{
    return metrics->machine->net_count;
}

static const void *net_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    (void)snprintf(name, METRICS_NAME_BYTES, "%u", i);
    (void)snprintf(labels, METRICS_NAME_BYTES, "net=\"%u\"", i);
    return &metrics->machine->nets[i];
}

/* ---- vsock, entropy, balloon ---- */

#define VSOCK(member, family, label, name, help)                                                             \
    ROW(struct virtio_vsock, counts.member, family, label, name, COUNTER, PLAIN, help)

static const struct metrics_row vsock_rows[] = {
    VSOCK(to_guest, "vsock_connections_total", "to=\"guest\"", "to_guest",
          "Connections accepted, by who they go to."),
    VSOCK(to_host, "vsock_connections_total", "to=\"host\"", "to_host", ""),
    VSOCK(rx_bytes, "vsock_bytes_total", "direction=\"rx\"", "rx_bytes",
          "Data to the guest (rx) and from it (tx)."),
    VSOCK(tx_bytes, "vsock_bytes_total", "direction=\"tx\"", "tx_bytes", ""),
    VSOCK(rx_packets, "vsock_packets_total", "direction=\"rx\"", "rx_packets", "Packets of any kind."),
    VSOCK(tx_packets, "vsock_packets_total", "direction=\"tx\"", "tx_packets", ""),
    VSOCK(refused, "vsock_refused_total", NULL, "refused", "Packets answered with a reset."),
    VSOCK(dropped, "vsock_dropped_total", NULL, "dropped", "Packets dropped as forged."),
};

static unsigned vsock_count(const struct metrics *metrics)
{
    return metrics->machine->has_vsock;
}

static const void *vsock_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    (void)i;
    (void)name;
    (void)labels;
    return &metrics->machine->vsock;
}

#define RNG(member, family, name, unit, help)                                                                \
    ROW(struct virtio_rng, member, family, NULL, name, COUNTER, unit, help)

static const struct metrics_row rng_rows[] = {
    RNG(counts.bytes, "entropy_bytes_total", "bytes", PLAIN, "Random bytes given."),
    RNG(counts.operations, "entropy_operations_total", "operations", PLAIN, "Requests for them."),
    RNG(rate.throttled_count, "entropy_throttled_total", "throttled", PLAIN, "Requests that had to wait."),
    RNG(rate.throttled_wait_ns, "entropy_throttled_seconds_total", "throttled_ns", NS,
        "How long they waited."),
};

static unsigned rng_count(const struct metrics *metrics)
{
    return metrics->machine->has_rng;
}

static const void *rng_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    (void)i;
    (void)name;
    (void)labels;
    return &metrics->machine->rng;
}

#define BALLOON(member, family, name, kind, help)                                                            \
    ROW(struct metrics_balloon, member, family, NULL, name, kind, PLAIN, help)

static const struct metrics_row balloon_rows[] = {
    BALLOON(target_pages, "balloon_target_pages", "target_pages", GAUGE, "Pages the guest is asked to give."),
    BALLOON(actual_pages, "balloon_actual_pages", "actual_pages", GAUGE, "Pages it says it gave."),
    BALLOON(inflated, "balloon_inflated_pages_total", "inflated_pages", COUNTER, "Pages given."),
    BALLOON(deflated, "balloon_deflated_pages_total", "deflated_pages", COUNTER, "Pages taken back."),
    BALLOON(reported, "balloon_reported_pages_total", "reported_pages", COUNTER, "Free pages it reported."),
    BALLOON(hinted, "balloon_hinted_pages_total", "hinted_pages", COUNTER, "Free pages it hinted at."),
    BALLOON(discarded_bytes, "balloon_discarded_bytes_total", "discarded_bytes", COUNTER,
            "Memory that went back to the host."),
    BALLOON(discard_failures, "balloon_discard_failures_total", "discard_failures", COUNTER,
            "Pages the host did not take back."),
};

static unsigned balloon_count(const struct metrics *metrics)
{
    return metrics->machine->has_balloon;
}

static const void *balloon_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    (void)i;
    (void)name;
    (void)labels;
    return &metrics->balloon;
}

/* ---- devices and their queues ---- */

static unsigned device_count(const struct metrics *metrics)
{
    const struct machine *machine = metrics->machine;
    return machine->drive_count + machine->net_count + machine->has_vsock + machine->has_rng +
           machine->has_balloon;
}

static struct virtio_device *device_of(const struct metrics *metrics, unsigned i, char *name)
{
    struct machine *machine = metrics->machine;
    if (i < machine->drive_count) {
        (void)snprintf(name, METRICS_NAME_BYTES, "drive_%s", machine->made.drives[i].id);
        return &machine->drives[i].device;
    }
    i -= machine->drive_count;
    if (i < machine->net_count) {
        (void)snprintf(name, METRICS_NAME_BYTES, "net_%u", i);
        return &machine->nets[i].device;
    }
    i -= machine->net_count;
    if (machine->has_vsock && i-- == 0) {
        name_it(name, "vsock");
        return &machine->vsock.device;
    }
    if (machine->has_rng && i-- == 0) {
        name_it(name, "entropy");
        return &machine->rng.device;
    }
    name_it(name, "balloon");
    return &machine->balloon.device;
}

static const struct metrics_row device_rows[] = {
    {.name = "broken",
     .family = "device_broken_total",
     .help = "How often the guest's driver broke a device's rules.",
     .kind = METRICS_COUNTER},
};

static const void *device_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    const struct virtio_device *device = device_of(metrics, i, name);
    (void)snprintf(labels, METRICS_NAME_BYTES, "device=\"%.40s\"", name);
    metrics->scratch = __atomic_load_n(&device->broken_count, __ATOMIC_RELAXED);
    return &metrics->scratch;
}

static unsigned queue_count(const struct metrics *metrics)
{
    char name[METRICS_NAME_BYTES];
    unsigned count = 0;
    for (unsigned i = 0; i < device_count(metrics); i++)
        count += device_of(metrics, i, name)->kind->queue_count;
    return count;
}

static const struct metrics_row queue_rows[] = {
    {.name = "deepest",
     .family = "queue_depth_max",
     .help = "The most requests that waited in a queue at once.",
     .kind = METRICS_GAUGE},
};

static const void *queue_at(struct metrics *metrics, unsigned i, char *name, char *labels)
{
    char owner[METRICS_NAME_BYTES];
    unsigned device = 0;
    while (i >= device_of(metrics, device, owner)->kind->queue_count)
        i -= device_of(metrics, device++, owner)->kind->queue_count;
    struct virtio_device *of = device_of(metrics, device, owner);
    (void)snprintf(name, METRICS_NAME_BYTES, "%.40s_%u", owner, i);
    (void)snprintf(labels, METRICS_NAME_BYTES, "device=\"%.30s\",queue=\"%u\"", owner, i);
    pthread_mutex_lock(&of->lock); /* the driver may be resetting it */
    metrics->scratch = __atomic_load_n(&of->queues[i].deepest, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&of->lock);
    return &metrics->scratch;
}

#define GROUP(name_, count_, at_, rows_)                                                                     \
    {                                                                                                        \
        .name = (name_), .count = (count_), .at = (at_), .rows = (rows_),                                    \
        .row_count = sizeof(rows_) / sizeof((rows_)[0])                                                      \
    }

const struct metrics_group metrics_groups[] = {
    GROUP("process", one, process_at, process_rows),
    GROUP("phase", phase_count, phase_at, phase_rows),
    GROUP("resume_step", step_count, step_at, step_rows),
    GROUP("snapshots", one, snapshots_at, snapshot_rows),
    GROUP("vcpu", vcpu_count, vcpu_at, vcpu_rows),
    GROUP("drive", drive_count, drive_at, drive_rows),
    GROUP("net", net_count, net_at, net_rows),
    GROUP("vsock", vsock_count, vsock_at, vsock_rows),
    GROUP("entropy", rng_count, rng_at, rng_rows),
    GROUP("balloon", balloon_count, balloon_at, balloon_rows),
    GROUP("device", device_count, device_at, device_rows),
    GROUP("queue", queue_count, queue_at, queue_rows),
};
const unsigned metrics_group_count = sizeof metrics_groups / sizeof metrics_groups[0];
