/*
 * Fuzz target: a connection of the HTTP form, and each body as an error object.
 *
 * Beside the sanitizers': pieces of any size give the same end; a body is what its head announced; a refusal
 * says why; what an error object becomes, the codec takes.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

/* Parse all of it in such pieces; what came of it, as one number. */
static uint64_t parse(const uint8_t *data, size_t size, size_t piece)
{
    static struct http_parser parser;
    uint64_t sum = 1;
    uint32_t body_bytes = 0;
    http_parser_init(&parser);
    for (size_t at = 0; at < size; at += piece) {
        struct proto_slice input = {data + at, piece < size - at ? piece : size - at};
        struct proto_slice body;
        enum http_event event;
        while ((event = http_parse(&parser, &input, &body)) != HTTP_MORE) {
            if (event == HTTP_REFUSED) {
                CHECK(parser.why && parser.status >= 400);
                return sum * 1000 + (uint64_t)parser.status;
            }
            if (event == HTTP_BODY) {
                CHECK(body.size > 0 && body.size <= PROTO_PAYLOAD_MAX_BYTES - body_bytes);
                body_bytes += (uint32_t)body.size;
                continue; /* in how many pieces it comes depends on those of the input */
            }
            if (event == HTTP_END)
                CHECK(parser.request.chunked || body_bytes == parser.request.body_bytes);
            sum = sum * 31 + (uint64_t)event * 7 + body_bytes + (uint64_t)parser.request.route;
            body_bytes = 0;
        }
        CHECK(input.size == 0);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t whole = parse(data, size, size ? size : 1);
    CHECK(parse(data, size, 1) == whole);
    CHECK(parse(data, size, 7) == whole);

    static char scratch[HTTP_FAILURE_SCRATCH_BYTES];
    static uint8_t frame[PROTO_FRAME_MAX_BYTES];
    struct proto_message message = {.type = PROTO_ERROR};
    http_failure((struct proto_slice){data, size}, "Function.Error", &message.u.error.failure, scratch);
    CHECK(proto_encode(&message, frame, sizeof frame) > 0);
    return 0;
}
