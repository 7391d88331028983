/*
 * The codec on good messages: the samples' exact bytes, round trips, the largest of each; and what the
 * encoder refuses. refusal_test.c has what the decoder refuses.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/proto/support.h"

static uint8_t frame[PROTO_FRAME_MAX_BYTES];

static void samples_have_their_exact_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        uint8_t expected[512];
        size_t size = from_hex(samples[i].hex, expected);
        assert_int_equal(proto_encode(&samples[i].message, frame, sizeof frame), size);
        assert_memory_equal(frame, expected, size);
        assert_int_equal(proto_body_size(frame), size - PROTO_HEADER_BYTES);
    }
}

/* PROTOCOL.md shows every sample, byte for byte. Tests run at the top of the tree. */
static void page_shows_the_samples(void **state)
{
    (void)state;
    static char page[1 << 16];
    FILE *file = fopen("agent/proto/PROTOCOL.md", "r");
    assert_non_null(file);
    size_t size = 0;
    for (int c = fgetc(file); c != EOF && size < sizeof page - 1; c = fgetc(file))
        if (c != ' ' && c != '\n')
            page[size++] = (char)c;
    fclose(file);
    page[size] = '\0';
    for (size_t i = 0; i < sample_count; i++)
        if (!strstr(page, samples[i].hex))
            fail_msg("agent/proto/PROTOCOL.md lacks %s: %s", samples[i].name, samples[i].hex);
}

static void samples_survive_a_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        uint8_t bytes[512];
        size_t size = from_hex(samples[i].hex, bytes);
        struct proto_message message;
        decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &message);
        assert_int_equal(message.type, samples[i].message.type);
        assert_int_equal(proto_encode(&message, frame, sizeof frame), size);
        assert_memory_equal(frame, bytes, size);
    }
}

static void decoded_fields_are_those_encoded(void **state)
{
    (void)state;
    uint8_t bytes[512];
    struct proto_message m;
    size_t size = from_hex(sample("error-invocation")->hex, bytes);
    decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &m);
    assert_true(proto_slice_equal(m.u.error.id, proto_text("r-1")));
    assert_true(proto_slice_equal(m.u.error.failure.type, proto_text("Function.Crashed")));
    assert_true(proto_slice_equal(m.u.error.failure.message, proto_text("signal 11")));
    assert_int_equal(m.u.error.failure.stack_count, 2);
    assert_true(proto_slice_equal(m.u.error.failure.stack[1], proto_text("start.c:1")));

    size = from_hex(sample("invoke-whole")->hex, bytes);
    decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &m);
    assert_true(proto_slice_equal(m.u.invoke.trace, proto_text("Root=1-abc")));
    assert_int_equal(m.u.invoke.timeout_ms, 3000);
    assert_int_equal(m.u.invoke.total_bytes, 5);
    assert_int_equal(m.u.invoke.offset_bytes, 0);
    assert_true(proto_slice_equal(m.u.invoke.body, proto_text("world")));

    size = from_hex(sample("hello-client")->hex, bytes);
    decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &m);
    assert_int_equal(m.u.hello.version, PROTO_VERSION);
    assert_true(m.u.hello.wants_logs);
    assert_int_equal(m.u.hello.state, PROTO_STATE_STARTING);
    assert_true(proto_slice_equal(m.u.hello.name, proto_text("hostvmm 0.1")));

    size = from_hex(sample("resume")->hex, bytes);
    decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &m);
    assert_int_equal(m.u.resume.timeout_ms, 2000);
    assert_int_equal(m.u.resume.generation, 2);
    assert_true(proto_slice_equal(m.u.resume.seed, proto_text("0123456789abcdef0123456789abcdef")));
    assert_int_equal(m.u.resume.realtime_ns, 1767225600000000000);
    assert_true(proto_slice_equal(m.u.resume.clone_id, proto_text("fedcba9876543210")));
    assert_true(proto_slice_equal(m.u.resume.hostname, proto_text("clone-7")));
    assert_int_equal(m.u.resume.network.size, 0);
    size = from_hex(sample("resume-network")->hex, bytes);
    decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &m);
    assert_int_equal(m.u.resume.hostname.size, 0);
    assert_true(proto_slice_equal(
        m.u.resume.network, proto_text("mac=02:00:00:00:00:07,address=192.0.2.7/24,gateway=192.0.2.1")));

    size = from_hex(sample("step-failed")->hex, bytes);
    decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &m);
    assert_true(proto_slice_equal(m.u.step.name, proto_text("clock")));
    assert_int_equal(m.u.step.duration_us, 4);
    assert_true(proto_slice_equal(m.u.step.failure.type, proto_text("Agent.NotResumed")));

    size = from_hex(sample("log-dropped")->hex, bytes);
    decode_good(bytes + PROTO_HEADER_BYTES, size - PROTO_HEADER_BYTES, &m);
    assert_int_equal(m.u.log.id.size, 0);
    assert_int_equal(m.u.log.stream, PROTO_STREAM_STDOUT);
    assert_int_equal(m.u.log.dropped_bytes, 4096);
    assert_int_equal(m.u.log.body.size, 0);
}

static void head_and_body_make_the_same_frame(void **state)
{
    (void)state;
    for (size_t i = 0; i < sample_count; i++) {
        const struct proto_message *m = &samples[i].message;
        const struct proto_slice body = proto_body(m);
        int64_t whole = proto_encode(m, frame, sizeof frame);
        uint8_t head[PROTO_HEAD_MAX_BYTES];
        int64_t size = proto_encode_head(m, head, sizeof head);
        assert_int_equal(size, whole - (int64_t)body.size);
        assert_memory_equal(head, frame, (size_t)size);
        if (body.size)
            assert_memory_equal(frame + size, body.data, body.size);
    }
}

/* Every message with all of its fields at their largest: it fits a frame, and comes back whole. */
static void largest_messages_fit_a_frame(void **state)
{
    (void)state;
    const struct proto_slice x = filled(PROTO_FRAGMENT_MAX_BYTES);
    struct proto_failure failure = {.type = {x.data, PROTO_ERROR_TYPE_MAX_BYTES},
                                    .message = {x.data, PROTO_ERROR_TEXT_MAX_BYTES},
                                    .stack_count = PROTO_STACK_MAX};
    for (size_t i = 0; i < PROTO_STACK_MAX; i++)
        failure.stack[i] = (struct proto_slice){x.data, PROTO_STACK_ENTRY_MAX_BYTES};
    const struct proto_slice id = {x.data, PROTO_ID_MAX_BYTES};
    const struct proto_message largest[] = {
        {.type = PROTO_HELLO, .u.hello = {1, {x.data, PROTO_NAME_MAX_BYTES}, true, PROTO_STATE_FAILED}},
        {.type = PROTO_INIT, .u.init = {PROTO_STATE_FAILED, UINT64_MAX, failure}},
        {.type = PROTO_INVOKE,
         .u.invoke =
             {id, {x.data, PROTO_TRACE_MAX_BYTES}, PROTO_TIMEOUT_MAX_MS, PROTO_PAYLOAD_MAX_BYTES, 0, x}},
        {.type = PROTO_INVOKE,
         .u.invoke = {id,
                      {0},
                      PROTO_TIMEOUT_MAX_MS,
                      PROTO_PAYLOAD_MAX_BYTES,
                      PROTO_PAYLOAD_MAX_BYTES - PROTO_FRAGMENT_MAX_BYTES,
                      x}},
        {.type = PROTO_RESPONSE,
         .u.response = {id, PROTO_PAYLOAD_MAX_BYTES, PROTO_PAYLOAD_MAX_BYTES - PROTO_FRAGMENT_MAX_BYTES, x}},
        {.type = PROTO_ERROR, .u.error = {id, failure}},
        {.type = PROTO_LOG, .u.log = {id, PROTO_STREAM_STDERR, UINT64_MAX, {x.data, PROTO_LOG_MAX_BYTES}}},
        {.type = PROTO_QUIESCED, .u.quiesced = {UINT64_MAX, failure}},
        {.type = PROTO_RESUME,
         .u.resume = {PROTO_TIMEOUT_MAX_MS,
                      UINT64_MAX,
                      {x.data, PROTO_SEED_BYTES},
                      UINT64_MAX,
                      {x.data, PROTO_CLONE_ID_BYTES},
                      {x.data, PROTO_HOSTNAME_MAX_BYTES},
                      {x.data, PROTO_NETWORK_MAX_BYTES}}},
        {.type = PROTO_RESUMED, .u.resumed = {UINT64_MAX, failure}},
        {.type = PROTO_SECRET,
         .u.secret = {{x.data, PROTO_NAME_MAX_BYTES}, {x.data, PROTO_SECRET_MAX_BYTES}}},
        {.type = PROTO_STEP, .u.step = {{x.data, PROTO_NAME_MAX_BYTES}, UINT64_MAX, failure}},
        {.type = PROTO_FACT, .u.fact = {{x.data, PROTO_NAME_MAX_BYTES}, {x.data, PROTO_FACT_MAX_BYTES}}},
        {.type = PROTO_COLLECTED, .u.collected = {UINT64_MAX, failure}},
    };
    for (size_t i = 0; i < sizeof largest / sizeof *largest; i++) {
        int64_t size = proto_encode(&largest[i], frame, sizeof frame);
        assert_true(size > 0);
        struct proto_message message;
        decode_good(frame + PROTO_HEADER_BYTES, (size_t)size - PROTO_HEADER_BYTES, &message);
        static uint8_t again[PROTO_FRAME_MAX_BYTES];
        assert_int_equal(proto_encode(&message, again, sizeof again), size);
        assert_memory_equal(again, frame, (size_t)size);
        assert_int_equal(proto_encode(&largest[i], again, (size_t)size), size);
        assert_int_equal(proto_encode(&largest[i], again, (size_t)size - 1), -ENOSPC);
        assert_int_equal(proto_encode(&largest[i], again, 3), -ENOSPC);
        if (proto_body(&largest[i]).size > 0)
            assert_true(proto_encode_head(&largest[i], again, PROTO_HEAD_MAX_BYTES) > 0);
    }
}

static void body_size_has_its_bounds(void **state)
{
    (void)state;
    assert_int_equal(proto_body_size((const uint8_t[]){0, 0, 0, 0}), -EMSGSIZE);
    assert_int_equal(proto_body_size((const uint8_t[]){0, 0, 0, 1}), 1);
    assert_int_equal(proto_body_size((const uint8_t[]){0, 0, 0xff, 0xfc}), 65532);
    assert_int_equal(proto_body_size((const uint8_t[]){0, 0, 0xff, 0xfd}), -EMSGSIZE);
    assert_int_equal(proto_body_size((const uint8_t[]){0xff, 0xff, 0xff, 0xff}), -EMSGSIZE);
    decode_refused(filled(PROTO_FRAME_MAX_BYTES).data, PROTO_FRAME_MAX_BYTES - PROTO_HEADER_BYTES + 1,
                   "frame: too large");
}

static void encoder_refuses_what_the_decoder_would(void **state)
{
    (void)state;
    const struct proto_slice big = filled(PROTO_FRAGMENT_MAX_BYTES + 1);
    struct proto_message m = sample("invoke-whole")->message;
    m.u.invoke.id = proto_text("");
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m.u.invoke.id = proto_text("a b");
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m.u.invoke.id = (struct proto_slice){big.data, PROTO_ID_MAX_BYTES + 1};
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("invoke-whole")->message;
    m.u.invoke.timeout_ms = 0;
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("invoke-whole")->message;
    m.u.invoke.total_bytes = PROTO_PAYLOAD_MAX_BYTES;
    m.u.invoke.body = big;
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("invoke-whole")->message;
    m.u.invoke.offset_bytes = UINT32_MAX;
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("error-invocation")->message;
    m.u.error.failure.stack_count = PROTO_STACK_MAX + 1;
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("error-invocation")->message;
    m.u.error.failure.message = proto_text("\xff");
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("init-failed")->message;
    m.u.init.state = PROTO_STATE_READY;
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("resume")->message;
    m.u.resume.realtime_ns = 0;
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("secret")->message;
    m.u.secret.name = proto_text(".hidden");
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    m = sample("secret")->message;
    m.u.secret.body = (struct proto_slice){big.data, PROTO_SECRET_MAX_BYTES + 1};
    assert_int_equal(proto_encode(&m, frame, sizeof frame), -EINVAL);
    for (unsigned type = 0; type < 20; type++) {
        m = (struct proto_message){.type = (enum proto_type)type};
        const bool whole = type == PROTO_SHUTDOWN || type == PROTO_COLLECT;
        const bool timed = type == PROTO_QUIESCED || type == PROTO_RESUMED || type == PROTO_COLLECTED;
        const int64_t expected = whole ? 7 : timed ? 9 : -EINVAL;
        assert_int_equal(proto_encode(&m, frame, sizeof frame), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_have_their_exact_bytes),
        cmocka_unit_test(page_shows_the_samples),
        cmocka_unit_test(samples_survive_a_round_trip),
        cmocka_unit_test(decoded_fields_are_those_encoded),
        cmocka_unit_test(head_and_body_make_the_same_frame),
        cmocka_unit_test(largest_messages_fit_a_frame),
        cmocka_unit_test(body_size_has_its_bounds),
        cmocka_unit_test(encoder_refuses_what_the_decoder_would),
    };
    return cmocka_run_group_tests_name("proto codec", tests, NULL, NULL);
}
