/* What a snapshot says of itself, before any state: FORMAT.md, "manifest". */
#include <string.h>

#include "hostvmm/arch/arch.h"
#include "hostvmm/snapshot/snapshot.h"

void snapshot_machine_copy(struct snapshot_machine *to, const struct snapshot_machine *from)
{
    to->memory_bytes = from->memory_bytes;
    to->vcpu_count = from->vcpu_count;
    for (unsigned i = 0; i < from->drive_count; i++)
        to->drives[i] = from->drives[i];
    to->drive_count = from->drive_count;
    to->vsock_cid = from->vsock_cid;
    to->rng = from->rng;
    to->balloon = from->balloon;
    for (unsigned i = 0; i < from->network.count; i++)
        to->network.at[i] = from->network.at[i];
    to->network.count = from->network.count;
    to->agent = from->agent;
}

static void save_network(const struct network *network, struct state_writer *out)
{
    char text[PROTO_NETWORK_MAX_BYTES + 1];
    if (network_format(network, text, sizeof text) < 0)
        out->failed = true; /* whoever made the machine has seen that it fits */
    else
        state_put_text(out, "network", text);
}

static void load_network(struct network *network, struct state_reader *in)
{
    char text[PROTO_NETWORK_MAX_BYTES + 1];
    char why[NETWORK_WHY_BYTES];
    state_get_text(in, "network", text, sizeof text);
    if (network_parse(network, text, strlen(text), why))
        state_refuse(in, "network", "%s", why);
}

/* What the guest was offered. */
static void save_balloon(const struct virtio_balloon_plan *balloon, struct state_writer *out)
{
    state_put_array(out, "balloon", balloon->on);
    if (!balloon->on)
        return;
    state_put_map(out, NULL, 4);
    state_put_bool(out, "deflate_on_oom", balloon->deflate_on_oom);
    state_put_bool(out, "reporting", balloon->free_page_reporting);
    state_put_bool(out, "hinting", balloon->free_page_hinting);
    state_put_bool(out, "stats", balloon->stats_s > 0);
}

static void load_balloon(struct virtio_balloon_plan *balloon, struct state_reader *in)
{
    *balloon = (struct virtio_balloon_plan){.on = state_get_array(in, "balloon", 1) > 0};
    if (balloon->on) {
        state_get_map(in, NULL, 4);
        balloon->deflate_on_oom = state_get_bool(in, "deflate_on_oom");
        balloon->free_page_reporting = state_get_bool(in, "reporting");
        balloon->free_page_hinting = state_get_bool(in, "hinting");
        balloon->stats_s = state_get_bool(in, "stats"); /* how often is in the device's state */
        state_end(in);
    }
    state_end(in);
}

static void save_machine(const struct snapshot_machine *machine, struct state_writer *out)
{
    state_put_map(out, "machine", 8);
    state_put_uint(out, "memory_bytes", machine->memory_bytes);
    state_put_uint(out, "vcpu_count", machine->vcpu_count);
    state_put_array(out, "drives", machine->drive_count);
    for (unsigned i = 0; i < machine->drive_count; i++) {
        const struct snapshot_drive *drive = &machine->drives[i];
        state_put_map(out, NULL, 4);
        state_put_text(out, "id", drive->id);
        state_put_text(out, "path", drive->path);
        state_put_bool(out, "read_only", drive->read_only);
        state_put_bool(out, "root", drive->root);
    }
    state_put_uint(out, "vsock_cid", machine->vsock_cid);
    state_put_bool(out, "rng", machine->rng);
    save_balloon(&machine->balloon, out);
    save_network(&machine->network, out);
    state_put_bool(out, "agent", machine->agent);
}

static void load_machine(struct snapshot_machine *machine, struct state_reader *in)
{
    struct guest_region regions[GUEST_REGIONS_MAX];
    state_get_map(in, "machine", 8);
    machine->memory_bytes = state_get_uint(in, "memory_bytes", 0, UINT64_MAX);
    if (!in->failed && arch_memory_layout(machine->memory_bytes, regions) == 0)
        state_refuse(in, "memory_bytes", "no guest has %llu bytes",
                     (unsigned long long)machine->memory_bytes);
    machine->vcpu_count = (unsigned)state_get_uint(in, "vcpu_count", 1, ARCH_VCPUS_MAX);
    machine->drive_count = state_get_array(in, "drives", SNAPSHOT_DRIVES_MAX);
    for (unsigned i = 0; i < machine->drive_count; i++) {
        struct snapshot_drive *drive = &machine->drives[i];
        state_get_map(in, NULL, 4);
        state_get_text(in, "id", drive->id, sizeof drive->id);
        state_get_text(in, "path", drive->path, sizeof drive->path);
        drive->read_only = state_get_bool(in, "read_only");
        drive->root = state_get_bool(in, "root");
        state_end(in);
    }
    state_end(in);
    machine->vsock_cid = (uint32_t)state_get_uint(in, "vsock_cid", 0, UINT32_MAX);
    machine->rng = state_get_bool(in, "rng");
    load_balloon(&machine->balloon, in);
    load_network(&machine->network, in);
    machine->agent = state_get_bool(in, "agent");
    state_end(in);
}

static void save_memory(const struct snapshot *snapshot, struct state_writer *out)
{
    state_put_map(out, "memory", 3);
    state_put_array(out, "layers", snapshot->layer_count);
    for (unsigned i = 0; i < snapshot->layer_count; i++) {
        state_put_map(out, NULL, 2);
        state_put_bytes(out, "id", snapshot->layers[i].id, SNAPSHOT_ID_BYTES);
        state_put_text(out, "path", snapshot->layers[i].path);
    }
    state_put_array(out, "runs", 2 * snapshot->run_count);
    for (unsigned i = 0; i < snapshot->run_count; i++) {
        state_put_uint(out, NULL, snapshot->runs[i].page_count);
        state_put_uint(out, NULL, snapshot->runs[i].layer);
    }
    state_put_bytes(out, "chunks", snapshot->chunks_digest, SNAPSHOT_DIGEST_BYTES);
}

static void load_runs(struct snapshot *snapshot, struct state_reader *in)
{
    const uint64_t pages = snapshot->machine.memory_bytes / GUEST_PAGE_BYTES;
    uint64_t covered = 0;
    const unsigned numbers = state_get_array(in, "runs", 2 * SNAPSHOT_RUNS_MAX);
    snapshot->run_count = numbers / 2;
    for (unsigned i = 0; i < snapshot->run_count && !in->failed; i++) {
        struct snapshot_run *run = &snapshot->runs[i];
        run->page_count = state_get_uint(in, NULL, 1, pages - covered);
        run->layer = (unsigned)state_get_uint(in, NULL, 0, snapshot->layer_count - 1);
        covered += run->page_count;
    }
    if (!in->failed && (numbers % 2 || covered != pages))
        state_refuse(in, NULL, "the runs cover %llu pages of %llu", (unsigned long long)covered,
                     (unsigned long long)pages);
    state_end(in);
}

static void load_memory(struct snapshot *snapshot, struct state_reader *in)
{
    state_get_map(in, "memory", 3);
    snapshot->layer_count = state_get_array(in, "layers", SNAPSHOT_LAYERS_MAX);
    for (unsigned i = 0; i < snapshot->layer_count; i++) {
        struct snapshot_layer *layer = &snapshot->layers[i];
        layer->fd = -1;
        state_get_map(in, NULL, 2);
        state_get_bytes(in, "id", layer->id, sizeof layer->id);
        state_get_text(in, "path", layer->path, sizeof layer->path);
        if (!in->failed && (i == 0) != (layer->path[0] == '\0'))
            state_refuse(in, "path", "'%s', the first layer is the snapshot's own and no other is",
                         layer->path);
        state_end(in);
    }
    if (!in->failed && snapshot->layer_count == 0)
        state_refuse(in, NULL, "none, one is wanted at least");
    state_end(in);
    load_runs(snapshot, in);
    state_get_bytes(in, "chunks", snapshot->chunks_digest, sizeof snapshot->chunks_digest);
    state_end(in);
}

void snapshot_manifest_save(const struct snapshot *snapshot, struct state_writer *out)
{
    state_put_text(out, "architecture", ARCH_NAME);
    state_put_bytes(out, "id", snapshot->id, SNAPSHOT_ID_BYTES);
    state_put_bytes(out, "parent", snapshot->parent, snapshot->has_parent ? SNAPSHOT_ID_BYTES : 0);
    state_put_uint(out, "created_ns", snapshot->created_ns);
    state_put_bool(out, "consented", snapshot->consented);
    save_machine(&snapshot->machine, out);
    save_memory(snapshot, out);
}

void snapshot_manifest_load(struct snapshot *snapshot, struct state_reader *in)
{
    char architecture[16];
    size_t parent_bytes;
    state_get_text(in, "architecture", architecture, sizeof architecture);
    if (!in->failed && strcmp(architecture, ARCH_NAME) != 0)
        state_refuse(in, "architecture", "%s, this machine is " ARCH_NAME, architecture);
    state_get_bytes(in, "id", snapshot->id, sizeof snapshot->id);
    const uint8_t *parent = state_get_span(in, "parent", SNAPSHOT_ID_BYTES, &parent_bytes);
    snapshot->has_parent = parent != NULL;
    if (!in->failed && parent_bytes != 0 && parent_bytes != SNAPSHOT_ID_BYTES)
        state_refuse(in, "parent", "%zu bytes, none or %u wanted", parent_bytes, SNAPSHOT_ID_BYTES);
    if (!in->failed && parent)
        memcpy(snapshot->parent, parent, SNAPSHOT_ID_BYTES);
    snapshot->created_ns = state_get_uint(in, "created_ns", 0, INT64_MAX);
    snapshot->consented = state_get_bool(in, "consented");
    load_machine(&snapshot->machine, in);
    load_memory(snapshot, in);
}
