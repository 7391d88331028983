/*
 * Write the seed corpus of the proto fuzz target: proto-seeds DIR. One file a sample, one with all of them in
 * a row, and a payload in two fragments. Deterministic: run again after a change of the samples, and commit.
 */
#include <stdio.h>
#include <string.h>

#include "agent/proto/frame.h"
#include "tests/unit/proto/samples.h"

static int write_seed(const char *directory, const char *name, const uint8_t *data, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: proto-seeds DIR\n");
        return 2;
    }
    static uint8_t stream[16 * PROTO_FRAME_MAX_BYTES];
    size_t at = 0;
    for (size_t i = 0; i < sample_count; i++) {
        int64_t size = proto_encode(&samples[i].message, stream + at, sizeof stream - at);
        if (size < 0 || write_seed(argv[1], samples[i].name, stream + at, (size_t)size) < 0)
            return 1;
        at += (size_t)size;
    }
    if (write_seed(argv[1], "all", stream, at) < 0)
        return 1;
    /* Small fragments, made by hand: the codec does not ask for full ones. */
    at = 0;
    for (uint32_t offset = 0; offset < 9; offset += 3) {
        const struct proto_message part = {
            .type = PROTO_RESPONSE,
            .u.response = {proto_text("r-1"), 9, offset, {(const uint8_t *)"fragments" + offset, 3}}};
        int64_t size = proto_encode(&part, stream + at, sizeof stream - at);
        if (size < 0)
            return 1;
        at += (size_t)size;
    }
    return write_seed(argv[1], "fragments", stream, at) < 0;
}
