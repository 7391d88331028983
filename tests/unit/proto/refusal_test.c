/*
 * What the decoder refuses: every limit at and past, every malformed kind, each with the name of its field.
 * Most frames are made by editing a good one, because the encoder would not make them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cbor.h>

#include "tests/unit/proto/support.h"

/* ---- frames made by editing a good one ---- */

/* Past the item at `at`; only what the samples hold. */
static const uint8_t *past_item(const uint8_t *at)
{
    const unsigned major = *at >> 5;
    const unsigned low = *at & 31;
    uint64_t value = low;
    at++;
    if (low >= 24 && low <= 27) {
        value = 0;
        for (unsigned n = 1u << (low - 24); n > 0; n--)
            value = value << 8 | *at++;
    }
    if (major == 2 || major == 3)
        return at + value;
    for (uint64_t i = 0; (major == 4 && i < value) || (major == 5 && i < 2 * value); i++)
        at = past_item(at);
    return at;
}

struct edit {
    const char *sample;
    int inner; /* edit the map under key 7 (the failure) instead of the outer one */
    uint8_t key;
    /* The new value: major type and number as libcbor writes them, with `size` bytes of 'x' for text and
     * bytes; or raw hex; or NULL and 'd' to drop the key. */
    char kind; /* 'u' uint, 't' text, 'b' bytes, 'h' hex, 'd' drop */
    uint64_t number;
    const char *hex;
    const char *why;
};

static size_t put_edit(const struct edit *e, uint8_t *out)
{
    size_t size = 0;
    switch (e->kind) {
    case 'u':
        return cbor_encode_uint(e->number, out, 16);
    case 't':
        size = cbor_encode_string_start(e->number, out, 16);
        break;
    case 'b':
        size = cbor_encode_bytestring_start(e->number, out, 16);
        break;
    case 'h':
        return from_hex(e->hex, out);
    default:
        fail_msg("edit of kind %c", e->kind);
    }
    memset(out + size, 'x', e->number);
    return size + e->number;
}

/* Copy the map at `in` with one key's value replaced, put in order, or dropped. Sizes below 24 pairs. */
static size_t edit_map(const uint8_t **in, const struct edit *e, int inner, uint8_t *out)
{
    unsigned pairs = **in & 31;
    const int here = inner == e->inner;
    int done = 0;
    size_t size = 1;
    unsigned written = 0;
    (*in)++;
    for (unsigned i = 0; i <= pairs; i++) {
        const int end = i == pairs;
        const uint8_t key = end ? 0xff : **in;
        if (here && !done && (end || key >= e->key)) {
            done = 1;
            if (e->kind != 'd') {
                out[size++] = e->key;
                size += put_edit(e, out + size);
                written++;
            }
            if (!end && key == e->key) {
                *in = past_item(*in + 1);
                continue;
            }
        }
        if (end)
            break;
        out[size++] = *(*in)++;
        written++;
        if (!inner && e->inner && key == 7) {
            size += edit_map(in, e, 1, out + size);
            continue;
        }
        const uint8_t *next = past_item(*in);
        memcpy(out + size, *in, (size_t)(next - *in));
        size += (size_t)(next - *in);
        *in = next;
    }
    out[0] = (uint8_t)(0xa0 | written);
    return size;
}

static void run_edits(const struct edit *edits, size_t count)
{
    static uint8_t edited[2 * PROTO_FRAME_MAX_BYTES];
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[512];
        (void)from_hex(sample(edits[i].sample)->hex, bytes);
        const uint8_t *in = bytes + PROTO_HEADER_BYTES;
        size_t size = edit_map(&in, &edits[i], 0, edited);
        if (edits[i].why) {
            decode_refused(edited, size, edits[i].why);
        } else {
            struct proto_message message;
            decode_good(edited, size, &message);
        }
    }
}
#define RUN_EDITS(edits) run_edits(edits, sizeof(edits) / sizeof *(edits))

static const struct edit key_edits[] = {
    {"hello-client", 0, 0, 'd', 0, NULL, "type: missing"},
    {"hello-client", 0, 1, 'd', 0, NULL, "hello.version: missing"},
    {"hello-client", 0, 10, 'd', 0, NULL, "hello.state: missing"},
    {"hello-client", 0, 12, 'd', 0, NULL, "hello.name: missing"},
    {"hello-client", 0, 13, 'd', 0, NULL, "hello.wants_logs: missing"},
    {"init-ready", 0, 10, 'd', 0, NULL, "init.state: missing"},
    {"init-ready", 0, 11, 'd', 0, NULL, "init.duration_us: missing"},
    {"invoke-whole", 0, 2, 'd', 0, NULL, "invoke.id: missing"},
    {"invoke-whole", 0, 3, 'd', 0, NULL, NULL},
    {"invoke-whole", 0, 4, 'd', 0, NULL, "invoke.timeout_ms: missing"},
    {"invoke-whole", 0, 5, 'd', 0, NULL, "invoke.total_bytes: missing"},
    {"invoke-whole", 0, 6, 'd', 0, NULL, "invoke.offset_bytes: missing"},
    {"invoke-whole", 0, 23, 'd', 0, NULL, "invoke.body: missing"},
    {"response", 0, 2, 'd', 0, NULL, "response.id: missing"},
    {"response", 0, 5, 'd', 0, NULL, "response.total_bytes: missing"},
    {"response", 0, 6, 'd', 0, NULL, "response.offset_bytes: missing"},
    {"response", 0, 23, 'd', 0, NULL, "response.body: missing"},
    {"error-invocation", 0, 2, 'd', 0, NULL, NULL},
    {"error-invocation", 0, 7, 'd', 0, NULL, "error.failure: missing"},
    {"error-invocation", 1, 0, 'd', 0, NULL, "failure.type: missing"},
    {"error-invocation", 1, 1, 'd', 0, NULL, "failure.message: missing"},
    {"error-invocation", 1, 2, 'd', 0, NULL, NULL},
    {"log", 0, 2, 'd', 0, NULL, NULL},
    {"log", 0, 8, 'd', 0, NULL, "log.stream: missing"},
    {"log", 0, 23, 'd', 0, NULL, "log.body: missing"},
    {"checkpoint", 0, 4, 'd', 0, NULL, "checkpoint.timeout_ms: missing"},
    {"quiesced", 0, 11, 'd', 0, NULL, "quiesced.duration_us: missing"},
    {"quiesced-failed", 0, 7, 'd', 0, NULL, NULL},
    {"resume", 0, 4, 'd', 0, NULL, "resume.timeout_ms: missing"},
    {"resume", 0, 14, 'd', 0, NULL, "resume.generation: missing"},
    {"resume", 0, 18, 'd', 0, NULL, NULL},
    {"resumed", 0, 11, 'd', 0, NULL, "resumed.duration_us: missing"},
    {"secret", 0, 12, 'd', 0, NULL, "secret.name: missing"},
    {"secret", 0, 23, 'd', 0, NULL, "secret.body: missing"},
    {"step", 0, 11, 'd', 0, NULL, "step.duration_us: missing"},
    {"step", 0, 12, 'd', 0, NULL, "step.name: missing"},
    {"step-failed", 1, 0, 'd', 0, NULL, "failure.type: missing"},
    {"fact", 0, 12, 'd', 0, NULL, "fact.name: missing"},
    {"fact", 0, 23, 'd', 0, NULL, "fact.body: missing"},
    {"collected", 0, 11, 'd', 0, NULL, "collected.duration_us: missing"},
};

static void every_required_key_must_be_there(void **state)
{
    (void)state;
    RUN_EDITS(key_edits);
}

static const struct edit limit_edits[] = {
    {"hello-client", 0, 0, 'u', 0, NULL, "type: outside its limits"},
    {"hello-client", 0, 0, 'u', 17, NULL, "type: outside its limits"},
    {"hello-client", 0, 1, 'u', 0, NULL, "hello.version: outside its limits"},
    {"hello-client", 0, 1, 'u', UINT32_MAX + 1ull, NULL, "hello.version: outside its limits"},
    {"hello-client", 0, 10, 'u', 0, NULL, "hello.state: outside its limits"},
    {"hello-client", 0, 10, 'u', 3, NULL, NULL},
    {"hello-client", 0, 10, 'u', 4, NULL, "hello.state: outside its limits"},
    {"hello-client", 0, 12, 't', 0, NULL, "hello.name: outside its limits"},
    {"hello-client", 0, 12, 't', 64, NULL, NULL},
    {"hello-client", 0, 12, 't', 65, NULL, "hello.name: outside its limits"},
    {"init-ready", 0, 10, 'u', 1, NULL, "init.state: outside its limits"},
    {"init-ready", 0, 10, 'u', 4, NULL, "init.state: outside its limits"},
    {"init-ready", 0, 11, 'u', 0, NULL, NULL},
    {"init-ready", 0, 11, 'u', UINT64_MAX, NULL, NULL},
    {"invoke-whole", 0, 2, 't', 0, NULL, "invoke.id: outside its limits"},
    {"invoke-whole", 0, 2, 't', 64, NULL, NULL},
    {"invoke-whole", 0, 2, 't', 65, NULL, "invoke.id: outside its limits"},
    {"invoke-whole", 0, 3, 't', 0, NULL, "invoke.trace: outside its limits"},
    {"invoke-whole", 0, 3, 't', 256, NULL, NULL},
    {"invoke-whole", 0, 3, 't', 257, NULL, "invoke.trace: outside its limits"},
    {"invoke-whole", 0, 4, 'u', 0, NULL, "invoke.timeout_ms: outside its limits"},
    {"invoke-whole", 0, 4, 'u', 900000, NULL, NULL},
    {"invoke-whole", 0, 4, 'u', 900001, NULL, "invoke.timeout_ms: outside its limits"},
    {"invoke-whole", 0, 5, 'u', 6291556, NULL, NULL},
    {"invoke-whole", 0, 5, 'u', 6291557, NULL, "invoke.total_bytes: outside its limits"},
    {"invoke-whole", 0, 6, 'u', 6291557, NULL, "invoke.offset_bytes: outside its limits"},
    {"invoke-whole", 0, 23, 'b', 61441, NULL, "invoke.body: outside its limits"},
    {"response", 0, 2, 't', 0, NULL, "response.id: outside its limits"},
    {"response", 0, 2, 't', 65, NULL, "response.id: outside its limits"},
    {"response", 0, 5, 'u', 6291557, NULL, "response.total_bytes: outside its limits"},
    {"response", 0, 6, 'u', 6291557, NULL, "response.offset_bytes: outside its limits"},
    {"response", 0, 23, 'b', 61441, NULL, "response.body: outside its limits"},
    {"error-invocation", 0, 2, 't', 0, NULL, "error.id: outside its limits"},
    {"error-invocation", 0, 2, 't', 65, NULL, "error.id: outside its limits"},
    {"error-invocation", 1, 0, 't', 0, NULL, "failure.type: outside its limits"},
    {"error-invocation", 1, 0, 't', 129, NULL, "failure.type: outside its limits"},
    {"error-invocation", 1, 1, 't', 0, NULL, NULL},
    {"error-invocation", 1, 1, 't', 4097, NULL, "failure.message: outside its limits"},
    {"error-invocation", 1, 2, 'h', 0, "80", "failure.stack: outside its limits"},
    {"error-invocation", 1, 2, 'h', 0, "9821", "failure.stack: outside its limits"},
    {"error-invocation", 1, 2, 'h', 0, "8160", NULL},
    {"log", 0, 2, 't', 0, NULL, "log.id: outside its limits"},
    {"log", 0, 2, 't', 65, NULL, "log.id: outside its limits"},
    {"log", 0, 8, 'u', 0, NULL, "log.stream: outside its limits"},
    {"log", 0, 8, 'u', 3, NULL, "log.stream: outside its limits"},
    {"log", 0, 9, 'u', 0, NULL, "log.dropped_bytes: outside its limits"},
    {"log", 0, 9, 'u', UINT64_MAX, NULL, NULL},
    {"log", 0, 23, 'b', 16384, NULL, NULL},
    {"log", 0, 23, 'b', 16385, NULL, "log.body: outside its limits"},
    {"checkpoint", 0, 4, 'u', 0, NULL, "checkpoint.timeout_ms: outside its limits"},
    {"checkpoint", 0, 4, 'u', 900000, NULL, NULL},
    {"checkpoint", 0, 4, 'u', 900001, NULL, "checkpoint.timeout_ms: outside its limits"},
    {"quiesced", 0, 11, 'u', UINT64_MAX, NULL, NULL},
    {"resume", 0, 4, 'u', 0, NULL, "resume.timeout_ms: outside its limits"},
    {"resume", 0, 4, 'u', 900001, NULL, "resume.timeout_ms: outside its limits"},
    {"resume", 0, 14, 'u', 0, NULL, "resume.generation: outside its limits"},
    {"resume", 0, 14, 'u', UINT64_MAX, NULL, NULL},
    {"resume", 0, 15, 'b', 31, NULL, "resume.seed: outside its limits"},
    {"resume", 0, 15, 'b', 33, NULL, "resume.seed: outside its limits"},
    {"resume", 0, 16, 'u', 0, NULL, "resume.realtime_ns: outside its limits"},
    {"resume", 0, 17, 'b', 15, NULL, "resume.clone_id: outside its limits"},
    {"resume", 0, 17, 'b', 17, NULL, "resume.clone_id: outside its limits"},
    {"resume", 0, 18, 't', 0, NULL, "resume.hostname: outside its limits"},
    {"resume", 0, 18, 't', 64, NULL, NULL},
    {"resume", 0, 18, 't', 65, NULL, "resume.hostname: outside its limits"},
    {"resume-network", 0, 19, 't', 0, NULL, "resume.network: outside its limits"},
    {"resume-network", 0, 19, 't', 1024, NULL, NULL},
    {"resume-network", 0, 19, 't', 1025, NULL, "resume.network: outside its limits"},
    {"secret", 0, 12, 't', 0, NULL, "secret.name: outside its limits"},
    {"secret", 0, 12, 't', 64, NULL, NULL},
    {"secret", 0, 12, 't', 65, NULL, "secret.name: outside its limits"},
    {"secret", 0, 23, 'b', 0, NULL, NULL},
    {"secret", 0, 23, 'b', 4096, NULL, NULL},
    {"secret", 0, 23, 'b', 4097, NULL, "secret.body: outside its limits"},
    {"step", 0, 12, 't', 65, NULL, "step.name: outside its limits"},
    {"fact", 0, 12, 't', 65, NULL, "fact.name: outside its limits"},
    {"fact", 0, 23, 'b', 16384, NULL, NULL},
    {"fact", 0, 23, 'b', 16385, NULL, "fact.body: outside its limits"},
};

static void every_limit_holds_at_and_past(void **state)
{
    (void)state;
    RUN_EDITS(limit_edits);
    /* A stack entry at its limit, and one byte longer. */
    for (unsigned size = PROTO_STACK_ENTRY_MAX_BYTES; size <= PROTO_STACK_ENTRY_MAX_BYTES + 1; size++) {
        char hex[16 + 2 * (PROTO_STACK_ENTRY_MAX_BYTES + 1)];
        int at = snprintf(hex, sizeof hex, "8179%04x", size);
        for (unsigned i = 0; i < size; i++)
            at += snprintf(hex + at, sizeof hex - (size_t)at, "78");
        const bool past = size > PROTO_STACK_ENTRY_MAX_BYTES;
        const struct edit entry = {
            "error-invocation", 1, 2, 'h', 0, hex, past ? "failure.stack entry: outside its limits" : NULL};
        run_edits(&entry, 1);
    }
}

static const struct edit kind_edits[] = {
    /* wrong kinds: negative, text for bytes, bytes for text, float, null, tag, bool, array, map */
    {"invoke-whole", 0, 4, 'h', 0, "20", "invoke.timeout_ms: wrong kind of item"},
    {"invoke-whole", 0, 23, 't', 5, NULL, "invoke.body: wrong kind of item"},
    {"invoke-whole", 0, 2, 'b', 3, NULL, "invoke.id: wrong kind of item"},
    {"invoke-whole", 0, 5, 'h', 0, "f94500", "invoke.total_bytes: wrong kind of item"},
    {"invoke-whole", 0, 5, 'h', 0, "fa40a00000", "invoke.total_bytes: wrong kind of item"},
    {"invoke-whole", 0, 5, 'h', 0, "fb4014000000000000", "invoke.total_bytes: wrong kind of item"},
    {"invoke-whole", 0, 6, 'h', 0, "f6", "invoke.offset_bytes: wrong kind of item"},
    {"invoke-whole", 0, 6, 'h', 0, "f7", "invoke.offset_bytes: wrong kind of item"},
    {"invoke-whole", 0, 3, 'h', 0, "c06161", "invoke.trace: wrong kind of item"},
    {"invoke-whole", 0, 3, 'h', 0, "f5", "invoke.trace: wrong kind of item"},
    {"invoke-whole", 0, 3, 'h', 0, "80", "invoke.trace: wrong kind of item"},
    {"invoke-whole", 0, 3, 'h', 0, "a0", "invoke.trace: wrong kind of item"},
    {"invoke-whole", 0, 6, 'h', 0, "ff", "invoke.offset_bytes: wrong kind of item"},
    {"hello-client", 0, 13, 'u', 1, NULL, "hello.wants_logs: wrong kind of item"},
    {"hello-client", 0, 0, 'h', 0, "6131", "type: wrong kind of item"},
    {"error-invocation", 0, 7, 'h', 0, "80", "error.failure: wrong kind of item"},
    {"error-invocation", 1, 2, 'h', 0, "a0", "failure.stack: wrong kind of item"},
    {"error-invocation", 1, 2, 'h', 0, "8101", "failure.stack entry: wrong kind of item"},
    {"error-invocation", 1, 2, 'h', 0, "818160", "failure.stack entry: wrong kind of item"},
    /* indefinite lengths */
    {"invoke-whole", 0, 23, 'h', 0, "5f4161ff", "invoke.body: indefinite length"},
    {"invoke-whole", 0, 2, 'h', 0, "7f6161ff", "invoke.id: indefinite length"},
    {"error-invocation", 0, 7, 'h', 0, "bfff", "error.failure: indefinite length"},
    {"error-invocation", 1, 2, 'h', 0, "9fff", "failure.stack: indefinite length"},
    /* not the shortest form */
    {"invoke-whole", 0, 6, 'h', 0, "1800", "invoke.offset_bytes: not in its shortest form"},
    {"invoke-whole", 0, 5, 'h', 0, "190005", "invoke.total_bytes: not in its shortest form"},
    {"invoke-whole", 0, 5, 'h', 0, "1a00000005", "invoke.total_bytes: not in its shortest form"},
    {"invoke-whole", 0, 5, 'h', 0, "1b0000000000000005", "invoke.total_bytes: not in its shortest form"},
    {"invoke-whole", 0, 2, 'h', 0, "780161", "invoke.id: not in its shortest form"},
    {"invoke-whole", 0, 23, 'h', 0, "580561616161", "invoke.body: goes past the end of the frame"},
    {"invoke-whole", 0, 23, 'h', 0, "58056161616161", "invoke.body: not in its shortest form"},
    /* lengths that lie, reserved heads */
    {"invoke-whole", 0, 23, 'h', 0, "5bffffffffffffffff", "invoke.body: goes past the end of the frame"},
    {"invoke-whole", 0, 23, 'h', 0, "5a80000000", "invoke.body: goes past the end of the frame"},
    {"invoke-whole", 0, 23, 'h', 0, "59", "invoke.body: goes past the end of the frame"},
    {"invoke-whole", 0, 23, 'h', 0, "", "invoke.body: goes past the end of the frame"},
    {"invoke-whole", 0, 23, 'h', 0, "5c", "invoke.body: not well-formed CBOR"},
    {"invoke-whole", 0, 6, 'h', 0, "1c", "invoke.offset_bytes: not well-formed CBOR"},
    {"invoke-whole", 0, 6, 'h', 0, "f818", "invoke.offset_bytes: not well-formed CBOR"},
    /* text that is not */
    {"invoke-whole", 0, 3, 'h', 0, "61ff", "invoke.trace: text has a character that is not allowed"},
    {"invoke-whole", 0, 3, 'h', 0, "62c080", "invoke.trace: text has a character that is not allowed"},
    {"invoke-whole", 0, 3, 'h', 0, "63eda080", "invoke.trace: text has a character that is not allowed"},
    {"invoke-whole", 0, 3, 'h', 0, "64f4908080", "invoke.trace: text has a character that is not allowed"},
    {"invoke-whole", 0, 3, 'h', 0, "62c3a9", NULL},
    {"invoke-whole", 0, 2, 'h', 0, "62c3a9", "invoke.id: text has a character that is not allowed"},
    {"invoke-whole", 0, 2, 'h', 0, "63612f62", "invoke.id: text has a character that is not allowed"},
    {"invoke-whole", 0, 2, 'h', 0, "63610062", "invoke.id: text has a character that is not allowed"},
    {"invoke-whole", 0, 2, 'h', 0, "66415a30392e2d", NULL},
    /* keys */
    {"invoke-whole", 0, 14, 'u', 0, NULL, "invoke: unknown key"},
    {"response", 0, 3, 't', 1, NULL, "response: unknown key"},
    {"shutdown", 0, 1, 'u', 1, NULL, "shutdown: unknown key"},
    {"error-invocation", 1, 3, 'u', 1, NULL, "error.failure: outside its limits"},
    {"error-connection", 1, 3, 'u', 1, NULL, "failure: unknown key"},
    {"hello-client", 0, 24, 'u', 0, NULL, "hello key: not in its shortest form"},
    /* of a snapshot */
    {"resume", 0, 15, 't', 32, NULL, "resume.seed: wrong kind of item"},
    {"resume", 0, 18, 'h', 0, "6361206c", "resume.hostname: text has a character that is not allowed"},
    {"resume-network", 0, 19, 'h', 0, "626d20", "resume.network: text has a character that is not allowed"},
    {"resume-network", 0, 19, 'h', 0, "626d00", "resume.network: text has a character that is not allowed"},
    {"resume-network", 0, 19, 'h', 0, "626d25", "resume.network: text has a character that is not allowed"},
    {"resume-network", 0, 19, 'h', 0, "6e41615a7a30392e5f3a2f2c3b3d2d", NULL},
    {"resume-network", 0, 19, 'b', 4, NULL, "resume.network: wrong kind of item"},
    {"resume", 0, 20, 't', 4, NULL, "resume: unknown key"},
    {"resume", 0, 23, 'b', 1, NULL, "resume: unknown key"},
    {"checkpoint", 0, 14, 'u', 1, NULL, "checkpoint: unknown key"},
    {"secret", 0, 12, 'h', 0, "632e2f61", "secret.name: text has a character that is not allowed"},
    {"step", 0, 12, 'h', 0, "61c3", "step.name: text has a character that is not allowed"},
    {"collect", 0, 1, 'u', 1, NULL, "collect: unknown key"},
};

static void every_malformed_kind_is_named(void **state)
{
    (void)state;
    RUN_EDITS(kind_edits);
}

static const struct edit rule_edits[] = {
    {"invoke-whole", 0, 5, 'u', 4, NULL, "invoke.body: goes past invoke.total_bytes"},
    {"invoke-whole", 0, 6, 'u', 6, NULL, "invoke.body: goes past invoke.total_bytes"},
    {"invoke-whole", 0, 23, 'b', 0, NULL, "invoke.body: empty fragment of a payload that is not"},
    {"invoke-last", 0, 3, 't', 5, NULL, "invoke.trace: only the first fragment carries it"},
    {"response", 0, 5, 'u', 12, NULL, "response.body: goes past response.total_bytes"},
    {"response", 0, 6, 'u', 1, NULL, "response.body: goes past response.total_bytes"},
    {"response", 0, 23, 'b', 0, NULL, "response.body: empty fragment of a payload that is not"},
    {"init-failed", 0, 7, 'd', 0, NULL,
     "init.failure: must be there when init.state is failed, and only then"},
    {"init-failed", 0, 10, 'u', 2, NULL,
     "init.failure: must be there when init.state is failed, and only then"},
    {"log-dropped", 0, 9, 'd', 0, NULL, "log.body: empty, and nothing was dropped"},
    {"resume", 0, 15, 'd', 0, NULL, "resume: seed, realtime_ns and clone_id come together"},
    {"resume", 0, 16, 'd', 0, NULL, "resume: seed, realtime_ns and clone_id come together"},
    {"resume", 0, 17, 'd', 0, NULL, "resume: seed, realtime_ns and clone_id come together"},
    {"resume-function", 0, 16, 'u', 1, NULL, "resume: seed, realtime_ns and clone_id come together"},
    {"resume-function", 0, 18, 't', 1, NULL, "resume.hostname: comes only with resume.seed"},
    {"resume-function", 0, 19, 't', 1, NULL, "resume.network: comes only with resume.seed"},
    {"secret", 0, 12, 'h', 0, "622e61", "secret.name: begins with a dot"},
};

static void rules_between_fields_hold(void **state)
{
    (void)state;
    RUN_EDITS(rule_edits);
}

static void frames_that_are_not_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        const char *why;
    } cases[] = {
        {"", "frame: cut short"},
        {"a0", "frame: empty map"},
        {"80", "frame: not a map"},
        {"00", "frame: not a map"},
        {"f6", "frame: not a map"},
        {"bf000bff", "frame: map of indefinite length"},
        {"b801000b", "frame: map's size not in its shortest form"},
        {"b8", "frame: cut short"},
        {"bc", "frame: not well-formed CBOR"},
        {"a1", "type: goes past the end of the frame"},
        {"a100", "type: goes past the end of the frame"},
        {"a1200b", "type: wrong kind of item"},
        {"a1000b00", "frame: bytes after the message"},
        {"a2000b000b", "shutdown: keys repeated or not in ascending order"},
        {"bb8000000000000000000b", "shutdown key: goes past the end of the frame"},
        {"bbffffffffffffffff000b", "shutdown key: goes past the end of the frame"},
        {"a300020b000a02", "init.state: missing"},
        {"a400020a020a020b00", "init: keys repeated or not in ascending order"},
        {"a300020a021bffffffffffffffff00", "init.duration_us: missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[64];
        decode_refused(bytes, from_hex(cases[i].hex, bytes), cases[i].why);
    }
}

/* No prefix of a good frame is one, and none is read past its end (decode_refused allocates exactly). */
static void no_prefix_of_a_message_is_a_message(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        uint8_t bytes[512];
        const size_t size = from_hex(samples[i].hex, bytes) - PROTO_HEADER_BYTES;
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1);
            memcpy(exact, bytes + PROTO_HEADER_BYTES, cut);
            struct proto_message message;
            const char *why = NULL;
            assert_int_equal(proto_decode(exact, cut, &message, &why), -EBADMSG);
            assert_non_null(why);
            free(exact);
        }
    }
}

static void hello_of_another_version_gives_its_version(void **state)
{
    (void)state;
    struct proto_message m;
    uint8_t bytes[64];
    /* version 2, then keys this version does not know, of any shape */
    size_t size = from_hex("a40001010216a10181f6181963616263", bytes);
    decode_good(bytes, size, &m);
    assert_int_equal(m.type, PROTO_HELLO);
    assert_int_equal(m.u.hello.version, 2);
    assert_int_equal(m.u.hello.name.size, 0);
    /* other types get no such leave */
    size = from_hex("a300020102181963616263", bytes);
    decode_refused(bytes, size, "init: unknown key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_required_key_must_be_there),
        cmocka_unit_test(every_limit_holds_at_and_past),
        cmocka_unit_test(every_malformed_kind_is_named),
        cmocka_unit_test(rules_between_fields_hold),
        cmocka_unit_test(frames_that_are_not_are_refused),
        cmocka_unit_test(no_prefix_of_a_message_is_a_message),
        cmocka_unit_test(hello_of_another_version_gives_its_version),
    };
    return cmocka_run_group_tests_name("proto refusals", tests, NULL, NULL);
}
