/* What `status` answers; see control/OPERATOR.md. Names come from the command line and a snapshot: quoted. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "hostvmm/control/text.h"
#include "hostvmm/operations.h"

static const char *const stage_names[GUEST_STAGE_MAX + 1] = {
    [GUEST_STAGE_PID1] = "init",
    [GUEST_STAGE_AGENT_SPAWNED] = "agent started",
    [GUEST_STAGE_AGENT_LISTENING] = "agent listening",
    [GUEST_STAGE_FUNCTION_READY] = "function ready",
    [GUEST_STAGE_FUNCTION_FAILED] = "function failed",
    [GUEST_STAGE_HALTING] = "halting",
};

const char *operations_state(const struct operations *operations)
{
    if (operations->paused || (!operations->started && operations->machine->origin))
        return "Paused";
    return operations->started ? "Running" : "Not started";
}

static uint64_t us(const struct timeline *timeline, uint64_t at_ns)
{
    return at_ns > timeline->start_ns ? (at_ns - timeline->start_ns) / 1000 : 0;
}

/* A clone is as far as its original was. */
static void put_stages(FILE *out, const struct operations *operations)
{
    const struct timeline *timeline = operations->timeline;
    const char *last = operations->started ? "kernel" : "none";
    bool first = true;
    for (unsigned i = GUEST_STAGE_PID1; i <= GUEST_STAGE_MAX; i++)
        if (lifecycle_stage_reached(&operations->machine->lifecycle, (enum guest_stage)i))
            last = stage_names[i];
    (void)fprintf(out, ",\"stage\":\"%s\",\"stages\":[", last);
    for (unsigned i = GUEST_STAGE_PID1; i <= GUEST_STAGE_MAX; i++) {
        const uint64_t at = timeline_stage(timeline, (enum guest_stage)i);
        if (at)
            (void)fprintf(out, "%s{\"name\":\"%s\",\"us\":%" PRIu64 "}", first ? "" : ",", stage_names[i],
                          us(timeline, at));
        first = first && !at;
    }
    (void)putc(']', out);
}

static bool is_ready(const struct operations *operations)
{
    const struct machine *machine = operations->machine;
    if (machine->origin && machine->made.agent)
        return operations->timeline->unique_ns != 0;
    return lifecycle_stage_reached(&machine->lifecycle, GUEST_STAGE_FUNCTION_READY);
}

static void put_hex(FILE *out, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        (void)fprintf(out, "%02x", bytes[i]);
}

/* The generation has more bits than JSON's readers keep of a number: text. */
static void put_restore(FILE *out, const struct operations *operations)
{
    const struct timeline *timeline = operations->timeline;
    if (!operations->machine->origin) {
        (void)fputs(",\"origin\":\"boot\"", out);
        return;
    }
    (void)fputs(",\"origin\":\"restore\",\"snapshot\":", out);
    text_json(out, operations->machine->origin->path);
    if (operations->started) {
        (void)fprintf(out, ",\"generation\":\"%" PRIu64 "\",\"clone_id\":\"",
                      operations->uniqueness->resume.generation);
        put_hex(out, operations->uniqueness->resume.clone_id, PROTO_CLONE_ID_BYTES);
        (void)putc('"', out);
    }
    if (timeline->unique_ns)
        (void)fprintf(out, ",\"ready_us\":%" PRIu64, us(timeline, timeline->unique_ns));
    (void)fputs(",\"resume_steps\":[", out);
    for (unsigned i = 0; i < timeline->step_count; i++) {
        (void)fprintf(out, "%s{\"name\":", i ? "," : "");
        text_json(out, timeline->steps[i].name);
        (void)fprintf(out, ",\"us\":%" PRIu64 "}", timeline->steps[i].duration_us);
    }
    (void)putc(']', out);
}

static void put_drives(FILE *out, const struct machine *machine)
{
    (void)fputs(",\"drives\":[", out);
    for (unsigned i = 0; i < machine->drive_count; i++) {
        const struct snapshot_drive *made = &machine->made.drives[i];
        (void)fprintf(out, "%s{\"id\":", i ? "," : "");
        text_json(out, made->id);
        (void)fputs(",\"path\":", out);
        text_json(out, made->path);
        (void)fprintf(out, ",\"read_only\":%s,\"root\":%s,\"bytes\":%" PRIu64 "}",
                      made->read_only ? "true" : "false", made->root ? "true" : "false",
                      __atomic_load_n(&machine->drives[i].capacity_bytes, __ATOMIC_RELAXED));
    }
    (void)putc(']', out);
}

static void put_nets(FILE *out, const struct machine *machine)
{
    (void)fputs(",\"nets\":[", out);
    for (unsigned i = 0; i < machine->net_count; i++) {
        const struct virtio_net *net = &machine->nets[i];
        (void)fprintf(out, "%s{\"id\":%u,\"mac\":\"", i ? "," : "", i);
        for (unsigned at = 0; at < VIRTIO_NET_MAC_BYTES; at++)
            (void)fprintf(out, "%s%02x", at ? ":" : "", net->config.mac[at]);
        (void)fprintf(out, "\",\"link\":\"%s\",\"gate\":\"%s\"}",
                      __atomic_load_n(&net->link_up, __ATOMIC_RELAXED) ? "up" : "down",
                      __atomic_load_n(&net->open, __ATOMIC_RELAXED) ? "open" : "shut");
    }
    (void)putc(']', out);
}

static void put_vsock(FILE *out, const struct operations *operations)
{
    const struct machine *machine = operations->machine;
    if (!machine->has_vsock)
        return;
    (void)fprintf(out, ",\"vsock\":{\"cid\":%" PRIu64 ",\"path\":", machine->vsock.guest_cid);
    if (operations->config->vsock)
        text_json(out, operations->config->vsock_path);
    else
        (void)fputs("null", out);
    (void)fprintf(out, ",\"open\":%s}", machine->vsock.gate_open ? "true" : "false");
}

char *operations_status(const struct operations *operations)
{
    const struct machine *machine = operations->machine;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    (void)fprintf(out, "\"state\":\"%s\",\"ready\":%s,\"uptime_us\":%" PRIu64, operations_state(operations),
                  is_ready(operations) ? "true" : "false", us(operations->timeline, clock_monotonic_ns()));
    (void)fprintf(out, ",\"vcpus\":%u,\"memory_mib\":%" PRIu64, machine->made.vcpu_count,
                  machine->made.memory_bytes >> 20);
    put_stages(out, operations);
    put_restore(out, operations);
    put_drives(out, machine);
    put_nets(out, machine);
    put_vsock(out, operations);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
