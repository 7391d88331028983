/*
 * See inspect.h. First what matters to a person; then, from the state file itself and without knowing its
 * fields, everything by its name.
 */
#include "hostvmm/snapshot/inspect.h"

#include <bearssl_hash.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/base/log.h"
#include "hostvmm/arch/arch.h"
#include "hostvmm/control/text.h"
#include "hostvmm/exit.h"
#include "hostvmm/snapshot/dump.h"
#include "hostvmm/snapshot/snapshot.h"

static struct snapshot snapshot; /* large */

static void hex(char *to, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        (void)snprintf(to + 2 * i, 3, "%02x", data[i]);
}

static void digest_text(char to[2 * SNAPSHOT_DIGEST_BYTES + 1])
{
    uint8_t digest[SNAPSHOT_DIGEST_BYTES];
    br_sha256_context sha;
    br_sha256_init(&sha);
    br_sha256_update(&sha, snapshot.file + SNAPSHOT_HEADER_BYTES,
                     snapshot.file_bytes - SNAPSHOT_HEADER_BYTES);
    br_sha256_out(&sha, digest);
    hex(to, digest, sizeof digest);
}

static void time_text(char to[32])
{
    const time_t seconds = (time_t)(snapshot.created_ns / 1000000000u);
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) || strftime(to, 32, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        (void)snprintf(to, 32, "%llu ns", (unsigned long long)snapshot.created_ns);
}

/* RAM that each layer gives. */
static double layer_mib(unsigned layer)
{
    uint64_t pages = 0;
    for (unsigned i = 0; i < snapshot.run_count; i++)
        if (snapshot.runs[i].layer == layer)
            pages += snapshot.runs[i].page_count;
    return (double)(pages * GUEST_PAGE_BYTES) / ARCH_MIB;
}

static void print_machine(void)
{
    const struct snapshot_machine *machine = &snapshot.machine;
    (void)printf("machine    %llu MiB, %u vCPU%s%s%s%s\n",
                 (unsigned long long)(machine->memory_bytes / ARCH_MIB), machine->vcpu_count,
                 machine->vcpu_count > 1 ? "s" : "", machine->rng ? ", entropy device" : "",
                 machine->balloon.on ? ", balloon" : "",
                 machine->agent ? "" : ", without Rekindle's agent: clones cannot be made unique");
    if (machine->vsock_cid)
        (void)printf("vsock      CID %u\n", machine->vsock_cid);
    for (unsigned i = 0; i < machine->drive_count; i++)
        (void)printf("drive      %s, %s, was %s\n", machine->drives[i].id,
                     machine->drives[i].read_only ? "read-only" : "written: a clone needs its own",
                     machine->drives[i].path);
}

/* One interface as --net would say it. */
static void print_interface(unsigned index)
{
    char text[PROTO_NETWORK_MAX_BYTES + 1];
    struct network one = {.count = 1};
    one.at[0] = snapshot.machine.network.at[index];
    if (network_format(&one, text, sizeof text) >= 0)
        (void)printf("interface  eth%u, %s: a clone needs a back end, and gets another MAC\n", index, text);
}

static void print_person(const char *features)
{
    char id[2 * SNAPSHOT_ID_BYTES + 1];
    char digest[2 * SNAPSHOT_DIGEST_BYTES + 1];
    char when[32];
    hex(id, snapshot.id, SNAPSHOT_ID_BYTES);
    time_text(when);
    digest_text(digest);
    (void)printf("snapshot   %s\nid         %s\ntaken      %s, %s\n", snapshot.path, id, when,
                 snapshot.consented ? "the agent had quiesced" : "without the agent's consent");
    (void)printf("format     version %u, " ARCH_NAME "\n", SNAPSHOT_VERSION);
    (void)printf("state      %zu bytes, SHA-256 %s\n", snapshot.file_bytes, digest);
    (void)printf("on disk    %.2f MiB\n", (double)snapshot_disk_bytes(&snapshot) / ARCH_MIB);
    if (snapshot.has_parent) {
        hex(id, snapshot.parent, SNAPSHOT_ID_BYTES);
        (void)printf("diff of    %s\n", id);
    }
    for (unsigned i = 0; i < snapshot.layer_count; i++)
        (void)printf("memory     %.2f MiB from %s\n", layer_mib(i),
                     i == 0 ? "its own file" : snapshot.layers[i].path);
    (void)printf("runs       %u\nchunks     %llu of 512 KiB\n", snapshot.run_count,
                 (unsigned long long)snapshot_chunk_count(&snapshot));
    print_machine();
    for (unsigned i = 0; i < snapshot.machine.network.count; i++)
        print_interface(i);
    (void)printf("processor  needs %s\n\n", features);
    dump_text(stdout, snapshot.file + SNAPSHOT_HEADER_BYTES, snapshot.file_bytes - SNAPSHOT_HEADER_BYTES);
}

static void print_json(const char *features)
{
    char digest[2 * SNAPSHOT_DIGEST_BYTES + 1];
    digest_text(digest);
    (void)printf("{\"path\":");
    text_json(stdout, snapshot.path);
    (void)printf(",\"format_version\":%u,\"state_bytes\":%zu,\"state_sha256\":\"%s\",\"disk_bytes\":%llu,"
                 "\"features\":",
                 SNAPSHOT_VERSION, snapshot.file_bytes, digest,
                 (unsigned long long)snapshot_disk_bytes(&snapshot));
    text_json(stdout, features);
    (void)printf(",\"state\":");
    dump_json(stdout, snapshot.file + SNAPSHOT_HEADER_BYTES, snapshot.file_bytes - SNAPSHOT_HEADER_BYTES);
    (void)printf("}\n");
}

static int usage(void)
{
    log_error("inspect: usage: hostvmm inspect DIR [--json] [--verify]");
    return HOSTVMM_EXIT_USAGE;
}

int inspect_main(int argc, char **argv)
{
    static char features[4096];
    char why[SNAPSHOT_WHY_BYTES];
    const char *path = NULL;
    bool json = false;
    bool verify = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--verify") == 0)
            verify = true;
        else if (argv[i][0] == '-' || path)
            return usage();
        else
            path = argv[i];
    }
    if (!path)
        return usage();
    int error = snapshot_open(&snapshot, path, why);
    if (error == 0 && verify)
        error = snapshot_verify(&snapshot, why);
    if (error) {
        log_error("snapshot %s: %s", path, why);
        snapshot_close(&snapshot);
        return HOSTVMM_EXIT_INPUT;
    }
    struct state_reader in = snapshot.state;
    arch_cpu_describe(&in, "cpu", features, sizeof features);
    if (json)
        print_json(features);
    else
        print_person(features);
    snapshot_close(&snapshot);
    return fflush(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
}
