/* The frame reader and the payload assembly: any chopping of a stream gives the same frames; order is held.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/proto/frame.h"
#include "agent/proto/utf8.h"

static struct frame_reader reader;

/* A stream of frames whose bodies have the given sizes; every byte of body i is i. */
static size_t put_stream(uint8_t *out, const size_t *sizes, size_t count)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        out[at++] = 0;
        out[at++] = 0;
        out[at++] = (uint8_t)(sizes[i] >> 8);
        out[at++] = (uint8_t)sizes[i];
        memset(out + at, (int)i, sizes[i]);
        at += sizes[i];
    }
    return at;
}

static void any_chopping_gives_the_same_frames(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 65532, 3, 40000, 40000, 1, 65532, 65532, 2};
    const size_t count = sizeof sizes / sizeof *sizes;
    static uint8_t stream[9 * PROTO_FRAME_MAX_BYTES];
    const size_t total = put_stream(stream, sizes, count);
    static const size_t chops[] = {1, 3, 7, 4096, 65535, 65536, 1 << 20};
    for (size_t c = 0; c < sizeof chops / sizeof *chops; c++) {
        frame_reader_init(&reader);
        size_t seen = 0;
        for (size_t at = 0; at < total;) {
            size_t room;
            uint8_t *space = frame_reader_space(&reader, &room);
            assert_true(room > 0);
            size_t n = chops[c] < room ? chops[c] : room;
            n = n < total - at ? n : total - at;
            memcpy(space, stream + at, n);
            frame_reader_fill(&reader, n);
            at += n;
            struct proto_slice body;
            while (frame_reader_next(&reader, &body) == 1) {
                assert_true(seen < count);
                assert_int_equal(body.size, sizes[seen]);
                assert_int_equal(body.data[0], seen);
                assert_int_equal(body.data[body.size - 1], seen);
                seen++;
            }
        }
        assert_int_equal(seen, count);
        assert_true(frame_reader_idle(&reader));
    }
}

static void impossible_length_sticks(void **state)
{
    (void)state;
    frame_reader_init(&reader);
    size_t room;
    struct proto_slice body;
    assert_int_equal(frame_reader_next(&reader, &body), 0);
    assert_true(frame_reader_idle(&reader));
    memcpy(frame_reader_space(&reader, &room), "\0\0\0\1x\0\1\0\0", 9);
    frame_reader_fill(&reader, 9);
    assert_int_equal(frame_reader_next(&reader, &body), 1);
    assert_int_equal(body.size, 1);
    assert_int_equal(frame_reader_next(&reader, &body), -EMSGSIZE);
    assert_int_equal(body.size, 0);
    assert_false(frame_reader_idle(&reader));
    memcpy(frame_reader_space(&reader, &room), "\0\0\0\1x", 5);
    frame_reader_fill(&reader, 5);
    assert_int_equal(frame_reader_next(&reader, &body), -EMSGSIZE);

    frame_reader_init(&reader);
    (void)frame_reader_space(&reader, &room);
    frame_reader_fill(&reader, room + 1);
    assert_int_equal(frame_reader_next(&reader, &body), -EMSGSIZE);
}

static void half_a_frame_is_not_idle(void **state)
{
    (void)state;
    frame_reader_init(&reader);
    size_t room;
    struct proto_slice body;
    memcpy(frame_reader_space(&reader, &room), "\0\0\0\2x", 5);
    frame_reader_fill(&reader, 5);
    assert_int_equal(frame_reader_next(&reader, &body), 0);
    assert_false(frame_reader_idle(&reader));
}

static struct proto_message part(enum proto_type type, const char *id)
{
    struct proto_message m = {.type = type};
    if (type == PROTO_INVOKE) {
        m.u.invoke.id = proto_text(id);
        m.u.invoke.trace = proto_text("t");
        m.u.invoke.timeout_ms = 1;
    } else {
        m.u.response.id = proto_text(id);
    }
    return m;
}

static void fragments_make_the_payload_again(void **state)
{
    (void)state;
    static uint8_t payload[PROTO_PAYLOAD_MAX_BYTES];
    static uint8_t out[PROTO_PAYLOAD_MAX_BYTES];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 31 + i / 256);
    static const uint32_t sizes[] = {0, 1, 61439, 61440, 61441, 122880, PROTO_PAYLOAD_MAX_BYTES};
    for (size_t s = 0; s < 2 * sizeof sizes / sizeof *sizes; s++) {
        const enum proto_type type = s % 2 ? PROTO_INVOKE : PROTO_RESPONSE;
        const uint32_t size = sizes[s / 2];
        struct payload_assembly assembly;
        payload_reset(&assembly);
        memset(out, 0, sizeof out);
        const char *why = NULL;
        uint32_t at = 0;
        int step = PAYLOAD_MORE;
        do {
            struct proto_message m = part(type, "id");
            const uint32_t n = payload_fragment(&m, payload, size, at);
            static uint8_t frame[PROTO_FRAME_MAX_BYTES]; /* each fragment is one the codec takes */
            assert_true(proto_encode(&m, frame, sizeof frame) > 0);
            if (at == 0) {
                assert_int_equal(payload_begin(&assembly, &m, &why), 0);
                assert_int_equal(assembly.total_bytes, size);
            }
            assert_int_equal(step, PAYLOAD_MORE);
            step = payload_add(&assembly, &m, out, &why);
            at += n;
        } while (at < size);
        assert_int_equal(step, PAYLOAD_COMPLETE);
        assert_memory_equal(out, payload, size);
    }
}

static void disorder_is_refused_and_named(void **state)
{
    (void)state;
    static const uint8_t data[130000];
    struct payload_assembly assembly;
    payload_reset(&assembly);
    const char *why = NULL;
    struct proto_message first = part(PROTO_RESPONSE, "one");
    struct proto_message second = part(PROTO_RESPONSE, "one");
    struct proto_message third = part(PROTO_RESPONSE, "one");
    (void)payload_fragment(&first, data, sizeof data, 0);
    (void)payload_fragment(&second, data, sizeof data, PROTO_FRAGMENT_MAX_BYTES);
    (void)payload_fragment(&third, data, sizeof data, 2 * PROTO_FRAGMENT_MAX_BYTES);
    const struct proto_message log = {.type = PROTO_LOG};

    assert_int_equal(payload_begin(&assembly, &log, &why), -EPROTO);
    assert_string_equal(why, "type: not a fragment of a payload");
    assert_int_equal(payload_begin(&assembly, &second, &why), -EPROTO);
    assert_string_equal(why, "offset_bytes: the first fragment starts at 0");
    assert_int_equal(payload_add(&assembly, &first, NULL, &why), -EPROTO);
    assert_string_equal(why, "id: no payload under way");
    assert_int_equal(payload_begin(&assembly, &first, &why), 0);
    assert_int_equal(payload_begin(&assembly, &first, &why), -EPROTO);
    assert_string_equal(why, "id: a fragment of the payload under way is expected, not a new one");
    assert_int_equal(payload_add(&assembly, &log, NULL, &why), -EPROTO);
    assert_int_equal(payload_add(&assembly, &first, NULL, &why), PAYLOAD_MORE);
    assert_int_equal(payload_add(&assembly, &first, NULL, &why), -EPROTO);
    assert_string_equal(why, "offset_bytes: a fragment is missing, repeated or out of order");
    assert_int_equal(payload_add(&assembly, &third, NULL, &why), -EPROTO);
    struct proto_message other = second;
    other.u.response.id = proto_text("two");
    assert_int_equal(payload_add(&assembly, &other, NULL, &why), -EPROTO);
    assert_string_equal(why, "id: not that of the payload under way");
    other = second;
    other.u.response.total_bytes--;
    assert_int_equal(payload_add(&assembly, &other, NULL, &why), -EPROTO);
    assert_string_equal(why, "total_bytes: not the same in every fragment");
    other = third;
    other.u.response.offset_bytes = PROTO_FRAGMENT_MAX_BYTES;
    other.u.response.body.size = sizeof data - PROTO_FRAGMENT_MAX_BYTES + 1;
    assert_int_equal(payload_add(&assembly, &other, NULL, &why), -EPROTO);
    assert_string_equal(why, "body: goes past total_bytes");
    /* None of that has moved it on. */
    assert_int_equal(payload_add(&assembly, &second, NULL, &why), PAYLOAD_MORE);
    assert_int_equal(payload_add(&assembly, &third, NULL, &why), PAYLOAD_COMPLETE);
    assert_int_equal(payload_add(&assembly, &third, NULL, &why), -EPROTO);
    payload_reset(&assembly);
    assert_int_equal(payload_begin(&assembly, &first, &why), 0);
}

static void cleaned_text_is_valid_and_keeps_what_was(void **state)
{
    (void)state;
    char text[] = "a\xff"
                  "\xc3\xa9\xe2\x82\xf0\x9f\x98\x80\xed\xa0\x80z\xc3";
    assert_int_equal(utf8_valid_prefix(text, sizeof text - 1), 1);
    utf8_clean(text, sizeof text - 1);
    assert_string_equal(text, "a?\xc3\xa9??\xf0\x9f\x98\x80???z?");
    assert_int_equal(utf8_valid_prefix(text, sizeof text - 1), sizeof text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_chopping_gives_the_same_frames),
        cmocka_unit_test(impossible_length_sticks),
        cmocka_unit_test(half_a_frame_is_not_idle),
        cmocka_unit_test(fragments_make_the_payload_again),
        cmocka_unit_test(disorder_is_refused_and_named),
        cmocka_unit_test(cleaned_text_is_valid_and_keeps_what_was),
    };
    return cmocka_run_group_tests_name("proto frame", tests, NULL, NULL);
}
