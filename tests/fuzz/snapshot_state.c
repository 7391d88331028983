/*
 * libFuzzer target: any state file, and any body under a header that is right, is read or refused without a
 * fault; what is refused has a reason; what is read can be printed.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/snapshot/dump.h"
#include "hostvmm/snapshot/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct snapshot snapshot;

static void parse(const uint8_t *body, size_t size)
{
    struct state_reader *in = &snapshot.state;
    uint64_t pages = 0;
    state_reader_init(in, body, size);
    state_get_map(in, NULL, SNAPSHOT_STATE_FIELDS);
    snapshot.layer_count = snapshot.run_count = 0;
    snapshot_manifest_load(&snapshot, in);
    if (in->failed) {
        if (in->why[0] == '\0')
            abort();
        return;
    }
    for (unsigned i = 0; i < snapshot.run_count; i++) {
        if (snapshot.runs[i].layer >= snapshot.layer_count)
            abort();
        pages += snapshot.runs[i].page_count;
    }
    if (pages * GUEST_PAGE_BYTES != snapshot.machine.memory_bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    char why[SNAPSHOT_WHY_BYTES] = "";
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    if (!nowhere)
        nowhere = fopen("/dev/null", "w");
    if (!nowhere)
        abort();
    if (snapshot_header_check(data, size, why) < 0 && why[0] == '\0')
        abort();
    snapshot_header_make(header, data, size);
    uint8_t *file = malloc(size + sizeof header);
    if (!file)
        return 0;
    memcpy(file, header, sizeof header);
    if (size > 0)
        memcpy(file + sizeof header, data, size);
    if (size <= STATE_MAX_BYTES && snapshot_header_check(file, size + sizeof header, why) != (int64_t)size)
        abort();
    parse(file + sizeof header, size);
    (void)dump_text(nowhere, file + sizeof header, size);
    (void)dump_json(nowhere, file + sizeof header, size);
    free(file);
    return 0;
}
