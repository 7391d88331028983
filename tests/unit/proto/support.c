/* See support.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/proto/support.h"

static char filler[PROTO_FRAME_MAX_BYTES];

size_t from_hex(const char *hex, uint8_t *out)
{
    size_t size = 0;
    for (; hex[0] && hex[1]; hex += 2) {
        const char digits[3] = {hex[0], hex[1], '\0'};
        out[size++] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return size;
}

const struct sample *sample(const char *name)
{
    for (size_t i = 0; i < sample_count; i++)
        if (strcmp(samples[i].name, name) == 0)
            return &samples[i];
    fail_msg("no sample %s", name);
    return NULL;
}

struct proto_slice filled(size_t size)
{
    assert_true(size <= sizeof filler);
    memset(filler, 'x', sizeof filler);
    return (struct proto_slice){(const uint8_t *)filler, size};
}

void decode_good(const uint8_t *body, size_t size, struct proto_message *message)
{
    /* At the end of an exact allocation, so that the sanitizer sees a byte read past it. */
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, body, size);
    const char *why = NULL;
    int error = proto_decode(exact, size, message, &why);
    free(exact);
    if (error)
        fail_msg("refused: %s", why);
    assert_null(why);
    /* Slices pointed into `exact`: decode again where they stay valid. */
    assert_int_equal(proto_decode(body, size, message, &why), 0);
}

void decode_refused(const uint8_t *body, size_t size, const char *expected)
{
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, body, size);
    struct proto_message message;
    const char *why = NULL;
    int error = proto_decode(exact, size, &message, &why);
    free(exact);
    if (error == 0)
        fail_msg("accepted; expected \"%s\"", expected);
    assert_int_equal(error, -EBADMSG);
    assert_non_null(why);
    assert_string_equal(why, expected);
}
